"""Scenes of a call: what happens when, and exactly what the turn machine wants done, at exactly which instant."""

# ruff: noqa: RUF001 (other scripts have their own punctuation)

from __future__ import annotations

import math

import attrs
import pytest

from patter_trio.conversation import actions as do
from patter_trio.conversation.inputs import (
    AudioArrived,
    Busy,
    Closing,
    Drained,
    FinalWords,
    Flushed,
    HangUp,
    Input,
    InterimWords,
    Joined,
    LegDown,
    OnWire,
    Produced,
    Ready,
    ReplyFailed,
    Say,
    TokenArrived,
    Transfer,
    TransferAccepted,
    TransferFailed,
    Verdict,
    VoiceEnded,
    VoiceStarted,
)
from patter_trio.conversation.machine import TurnMachine
from patter_trio.conversation.policy import TurnPolicy

POLICY = TurnPolicy(fast_endpoint=0.125, flush=0.75)
"""The defaults, but for two made exact in binary."""
LAG = 0.125
"""How long after an edge of the voice it is noticed."""


class Scene:
    """A machine that gets inputs; between two of them only time passes, without a tick."""

    def __init__(self, policy: TurnPolicy = POLICY, *, detector: bool = False, ready: bool = True) -> None:
        self.machine = TurnMachine(policy, detector=detector)
        self.out: list[do.Action] = []
        if ready:
            self.at(0.0, Ready())
            self.then()

    def at(self, now: float, *events: Input) -> Scene:
        for event in events:
            self.out += self.machine.step(event, now)
        return self

    def until(self, now: float) -> Scene:
        self.out += self.machine.step(None, now)
        return self

    def then(self) -> list[do.Action]:
        """Return what was wanted since the last time."""
        out, self.out = self.out, []
        return out

    def events(self) -> list[do.Action]:
        """Return the same without changes of state."""
        return [action for action in self.then() if not isinstance(action, do.StateChanged)]

    def voice(self, onset: float, end: float) -> Scene:
        self.at(onset + LAG, VoiceStarted(onset))
        return self.at(end + LAG, VoiceEnded(end))

    def asks(self, text: str = "hello", segment: int = 1) -> Scene:
        """A turn from 1 to 2, committed at 2.5; reply 1 (after ``segment`` 1)."""
        return self.voice(1.0, 2.0).at(2.25, FinalWords(text, segment)).until(2.5)

    def answered(self) -> Scene:
        """The answer to it, heard from 3 and produced; playback lasts until 8."""
        self.asks().at(2.75, TokenArrived(1)).at(2.875, AudioArrived(1)).at(3.0, OnWire(1), Produced(1))
        self.then()
        return self


def committed(at: float, turn: int, text: str, silence: float, *, replaces: bool = False) -> do.CommitUser:
    return do.CommitUser(at, turn, text, "vad_silence", silence, replaces)


# The plain way --------------------------------------------------------------------------------------------------------
def test_normal_turn_reports_all_events_in_order() -> None:
    """A turn reports all its events in order, each after the change of state that belongs to it."""
    scene = (
        Scene().at(1.125, VoiceStarted(1.0, 0.9)).at(2.125, VoiceEnded(2.0)).at(2.25, FinalWords("hello", 1)).until(2.5)
    )
    assert scene.then() == [
        do.StateChanged(1.125, "speaking", "idle"),
        do.EmitSpeechStarted(1.125, 1.0, 0.9),
        do.StateChanged(2.125, "listening", "idle"),
        do.EmitSpeechEnded(2.125, 2.0, 1.0),
        do.StateChanged(2.5, "listening", "thinking"),
        committed(2.5, 1, "hello", 0.5),
        do.StartReply(2.5, 1, 1),
    ]
    scene.at(2.75, TokenArrived(1)).at(2.875, AudioArrived(1)).at(3.0, OnWire(1)).at(3.25, OnWire(1))
    assert scene.then() == [
        do.ReportToken(2.75, 1, 1),
        do.ReportAudio(2.875, 1, 1),
        do.OpenPlayout(2.875, 1),
        do.StateChanged(3.0, "listening", "speaking"),
        do.ReportAgentStarted(3.0, 1, 1),
    ]
    scene.at(3.5, Produced(1)).at(5.125, Drained(1))
    assert scene.then() == [do.StateChanged(5.125, "listening", "idle"), do.FinishReply(5.125, 1, 1, started=True)]
    assert scene.machine.deadline == math.inf


def test_greeting_is_turn_0_and_idle_until_heard() -> None:
    """The greeting belongs to turn 0, and the agent counts as idle until the caller hears it."""
    scene = Scene(ready=False).at(0.0, Say("Good evening.")).at(0.5, Ready())
    assert scene.then() == [
        do.StateChanged(0.5, "listening", "idle"),
        do.StartReply(0.5, 1, 0, "Good evening."),
    ]
    assert scene.at(0.75, AudioArrived(1)).at(1.0, OnWire(1)).then() == [
        do.ReportAudio(0.75, 1, 0),
        do.OpenPlayout(0.75, 1),
        do.StateChanged(1.0, "listening", "speaking"),
        do.ReportAgentStarted(1.0, 1, 0),
    ]


def test_say_is_never_dropped_unheard() -> None:
    """A text of a slow TTS is played before the caller's words are committed and answered."""
    scene = Scene().at(1.0, Say("Your taxi is here.")).voice(1.25, 2.25).at(2.5, FinalWords("hello", 1)).until(3.0)
    assert scene.events() == [
        do.StartReply(1.0, 1, 0, "Your taxi is here."),
        do.EmitSpeechStarted(1.25 + LAG, 1.25),
        do.EmitSpeechEnded(2.25 + LAG, 2.25, 1.0),
    ]
    scene.at(3.25, AudioArrived(1)).at(3.5, OnWire(1), Produced(1)).at(4.5, Drained(1))
    assert scene.events() == [
        do.ReportAudio(3.25, 1, 0),
        do.OpenPlayout(3.25, 1),
        do.ReportAgentStarted(3.5, 1, 0),
        do.FinishReply(4.5, 1, 0, started=True),
        committed(4.5, 1, "hello", 2.25),
        do.StartReply(4.5, 2, 1),
    ]


def test_only_the_ledger_ends_playback() -> None:
    """A reply ends when the ledger reports it as played, however long that takes, and by no deadline."""
    scene = Scene().answered().until(600.0)
    assert scene.events() == []
    assert scene.at(601.0, Drained(1)).events() == [do.FinishReply(601.0, 1, 1, started=True)]


def test_a_gap_within_a_reply_is_no_end() -> None:
    """In a gap of a reply the agent is thinking, and the reply has one start and one end."""
    scene = Scene().asks().at(2.75, AudioArrived(1)).at(3.0, OnWire(1))
    scene.then()
    scene.at(4.125, Drained(1)).at(6.0, OnWire(1)).at(6.5, Produced(1)).at(7.0, Drained(1))
    assert scene.then() == [
        do.StateChanged(4.125, "listening", "thinking"),
        do.StateChanged(6.0, "listening", "speaking"),
        do.StateChanged(7.0, "listening", "idle"),
        do.FinishReply(7.0, 1, 1, started=True),
    ]


def test_production_end_in_gap_waits_for_playback() -> None:
    """A reply that ends its production during a gap is finished once its last audio was played, too."""
    scene = Scene().asks().at(2.75, AudioArrived(1)).at(3.0, OnWire(1)).at(4.125, Drained(1))
    scene.then()
    assert scene.at(5.0, Produced(1)).events() == []
    assert scene.at(5.0, OnWire(1)).at(6.0, Drained(1)).then() == [
        do.StateChanged(5.0, "listening", "speaking"),
        do.StateChanged(6.0, "listening", "idle"),
        do.FinishReply(6.0, 1, 1, started=True),
    ]


def test_production_end_after_last_audio_finishes_reply() -> None:
    """A reply whose end becomes known after its last audio was played ends with the ledger's second report."""
    scene = Scene().asks().at(2.75, AudioArrived(1)).at(3.0, OnWire(1)).at(4.125, Drained(1)).at(5.0, Produced(1))
    scene.then()
    assert scene.at(5.0, Drained(1)).events() == [do.FinishReply(5.0, 1, 1, started=True)]


def test_a_reply_without_sound_has_no_agent_event() -> None:
    """A reply without sound returns the agent to idle and fires no agent event."""
    scene = Scene().asks()
    scene.then()
    assert scene.at(3.0, Produced(1)).then() == [
        do.StateChanged(3.0, "listening", "idle"),
        do.FinishReply(3.0, 1, 1, started=False),
    ]


# Endpointing: S voice starts, E voice ends, I interim, T final --------------------------------------------------------
@pytest.mark.parametrize(
    ("reported", "expected"),
    [
        pytest.param(
            [(1.125, VoiceStarted(1.0)), (1.75, FinalWords("a b", 1)), (2.125, VoiceEnded(2.0))],
            [(2.5, "a b", 0.5)],
            id="S T E",
        ),
        pytest.param(
            [
                (1.125, VoiceStarted(1.0)),
                (1.5, InterimWords("a", 1)),
                (2.125, VoiceEnded(2.0)),
                (2.25, FinalWords("a b", 1)),
            ],
            [(2.5, "a b", 0.5)],
            id="S I E T",
        ),
        pytest.param(
            [(1.125, VoiceStarted(1.0)), (2.125, VoiceEnded(2.0)), (2.75, FinalWords("a b", 1))],
            [(2.75, "a b", 0.75)],
            id="S E T: as soon as the words come",
        ),
        pytest.param(
            [
                (1.125, VoiceStarted(1.0)),
                (2.125, VoiceEnded(2.0)),
                (2.25, InterimWords("a", 1)),
                (2.75, FinalWords("a b", 1)),
            ],
            [(2.75, "a b", 0.75)],
            id="S E I T",
        ),
        pytest.param(
            [
                (1.125, VoiceStarted(1.0)),
                (1.5, FinalWords("a", 1)),
                (1.75, InterimWords("b", 2)),
                (2.125, VoiceEnded(2.0)),
                (2.75, FinalWords("b c", 2)),
            ],
            [(2.75, "a b c", 0.75)],
            id="S T1 I E T2: one turn of two finals",
        ),
        pytest.param(
            [
                (1.125, VoiceStarted(1.0)),
                (2.125, VoiceEnded(2.0)),
                (2.25, FinalWords("a", 1)),
                (2.375, FinalWords("b", 2)),
            ],
            [(2.5, "a b", 0.5)],
            id="S E T1 T2 within the endpoint",
        ),
        pytest.param([(1.0, FinalWords("a b", 1))], [(1.5, "a b", 0.5)], id="T with no S"),
        pytest.param(
            [(1.0, InterimWords("a", 1)), (1.375, InterimWords("a b", 1)), (1.75, FinalWords("a b c", 1))],
            [(2.25, "a b c", 0.5)],
            id="I I T with no S: the endpoint counts from the last words",
        ),
        pytest.param([(1.125, VoiceStarted(1.0)), (2.125, VoiceEnded(2.0))], [], id="S E and never a T"),
        pytest.param(
            [(1.125, VoiceStarted(1.0)), (1.5, InterimWords("a b", 1)), (2.125, VoiceEnded(2.0))],
            [(4.0, "a b", 2.0)],
            id="S I E and never a T: the interim is used",
        ),
        pytest.param(
            [(1.125, VoiceStarted(1.0)), (2.125, VoiceEnded(2.0)), (3.75, FinalWords("a b", 1))],
            [(3.75, "a b", 1.75)],
            id="S E, noise, T within the late window",
        ),
        pytest.param(
            [(1.125, VoiceStarted(1.0)), (2.125, VoiceEnded(2.0)), (5.0, FinalWords("a b", 1))],
            [(5.5, "a b", 0.5)],
            id="S E, noise, T after the late window: words without a voice",
        ),
        pytest.param(
            [
                (1.125, VoiceStarted(1.0)),
                (2.125, VoiceEnded(2.0)),
                (2.25, FinalWords("", 1)),
                (2.75, FinalWords("  ", 2)),
            ],
            [],
            id="S E and empty finals",
        ),
        pytest.param(
            [(1.125, VoiceStarted(1.0)), (2.75, VoiceEnded(2.0)), (2.875, FinalWords("a", 1))],
            [(2.875, "a", 0.875)],
            id="E learned after its endpoint",
        ),
    ],
)
def test_utterance_is_committed_once_with_all_words(
    reported: list[tuple[float, Input]], expected: list[tuple[float, str, float]]
) -> None:
    """The machine commits an utterance once, with all its words, in any order of voice and word events."""
    scene = Scene()
    for at, event in reported:
        scene.at(at, event)
    commits = [action for action in scene.until(9.0).then() if isinstance(action, do.CommitUser)]
    assert commits == [committed(at, 1, text, silence) for at, text, silence in expected]


def test_resumed_speech_within_endpoint_is_one_utterance() -> None:
    """Speech that resumes within the endpointing silence is one utterance."""
    scene = (
        Scene().voice(1.0, 2.0).at(2.25, FinalWords("a", 1)).voice(2.25, 3.0).at(3.25, FinalWords("b", 2)).until(9.0)
    )
    assert [action for action in scene.then() if isinstance(action, do.CommitUser)] == [committed(3.5, 1, "a b", 0.5)]


def test_endless_voice_without_words_is_noise() -> None:
    """A voice that never ends and brings no words counts as noise after 15 s."""
    scene = Scene().at(1.0, VoiceStarted(1.0)).until(30.0)
    assert scene.then() == [
        do.StateChanged(1.0, "speaking", "idle"),
        do.EmitSpeechStarted(1.0, 1.0),
        do.StateChanged(16.0, "listening", "idle"),
        do.EmitSpeechEnded(16.0, 16.0, 15.0),
    ]
    assert scene.at(40.0, VoiceEnded(39.0)).then() == []


def test_long_speech_with_words_is_not_noise() -> None:
    """A long voice does not count as noise as long as words come."""
    scene = Scene().at(1.0, VoiceStarted(1.0))
    for second in range(5, 60, 5):
        scene.at(float(second), InterimWords("and " * second, 1))
    scene.then()
    assert scene.at(60.0, VoiceEnded(60.0)).events() == [do.EmitSpeechEnded(60.0, 60.0, 59.0)]


# Late words -----------------------------------------------------------------------------------------------------------
def test_late_final_joins_unheard_turn_as_new_turn() -> None:
    """A final after the commit joins the message whose answer is unheard, in a new turn."""
    scene = Scene().asks("one")
    scene.then()
    assert scene.at(2.75, FinalWords("two", 2)).then() == [
        do.StateChanged(2.75, "listening", "idle"),
        do.CutReply(2.75, 1, 1, opened=False, started=False, reason="retracted"),
        do.StateChanged(2.75, "listening", "thinking"),
        committed(2.75, 2, "one two", 0.75, replaces=True),
        do.StartReply(2.75, 2, 2),
    ]


def test_late_final_joins_where_nobody_may_interrupt() -> None:
    """Late words are no interruption: they join the unheard turn also where barge-in is off."""
    scene = Scene(attrs.evolve(POLICY, overlap=math.inf)).asks("one")
    scene.then()
    assert scene.at(2.75, FinalWords("two", 2)).events() == [
        do.CutReply(2.75, 1, 1, opened=False, started=False, reason="retracted"),
        committed(2.75, 2, "one two", 0.75, replaces=True),
        do.StartReply(2.75, 2, 2),
    ]


def test_late_final_starts_turn_after_playout_opens() -> None:
    """A final after the commit starts a new turn once the playout queue is open."""
    scene = Scene().asks("one").at(2.75, AudioArrived(1))
    scene.then()
    assert scene.at(2.875, FinalWords("two", 2)).then() == [
        do.StateChanged(2.875, "listening", "idle"),
        do.CutReply(2.875, 1, 1, opened=True, started=False, reason="retracted"),
        do.StateChanged(2.875, "listening", "thinking"),
        committed(2.875, 2, "one two", 0.875, replaces=True),
        do.StartReply(2.875, 2, 2),
    ]


def test_promoted_interims_final_does_not_repeat_words() -> None:
    """The final of an interim that was already committed does not repeat its words."""
    scene = Scene().at(1.125, VoiceStarted(1.0)).at(1.5, InterimWords("a b", 1)).at(2.125, VoiceEnded(2.0)).until(4.0)
    scene.then()
    assert scene.at(4.25, InterimWords("a b", 1), FinalWords("a b", 1)).until(6.0).then() == []


def guessed(words: str) -> Scene:
    """A turn that was committed at 4 with interim words, because no final ones had come."""
    scene = Scene().at(1.125, VoiceStarted(1.0)).at(1.5, InterimWords(words, 1)).at(2.125, VoiceEnded(2.0)).until(4.0)
    scene.then()
    return scene


def heard_answer(scene: Scene) -> Scene:
    """The answer to it, heard from 4.25 to 4.5."""
    scene.at(4.125, AudioArrived(1)).at(4.25, OnWire(1), Produced(1)).at(4.5, Drained(1))
    scene.then()
    return scene


@pytest.mark.parametrize(
    ("guess", "final"),
    [
        ("a b", "a c"),
        ("elf on", "alpha one"),
        ("I want to cancel", "I want to cancel, my order."),
        ("I want to cancel", "I want to cancel my order"),
        ("two tables", "2 tables for tonight"),
        ("我想取消", "我想取消，我的订单。"),
    ],
)
def test_other_final_words_are_asked_again_unheard(guess: str, final: str) -> None:
    """Final words that differ from the committed interim ones are answered in a new turn while no answer was heard."""
    assert guessed(guess).at(4.25, FinalWords(final, 1)).events() == [
        do.CutReply(4.25, 1, 1, opened=False, started=False, reason="retracted"),
        committed(4.25, 2, final, 2.25, replaces=True),
        do.StartReply(4.25, 2, 2),
    ]


@pytest.mark.parametrize("heard", [False, True], ids=["unheard", "heard"])
@pytest.mark.parametrize(
    ("guess", "final"),
    [
        ("i want it", "I want it."),
        ("twenty five please", "25, please."),
        ("我想取消", "我想取消。"),
        ("สวัสดี ครับ", "สวัสดีครับ"),
    ],
)
def test_other_spelling_corrects_entry_alone(guess: str, final: str, heard: bool) -> None:
    """Final words that differ in case, punctuation or number format correct the entry, and are not answered again."""
    scene = heard_answer(guessed(guess)) if heard else guessed(guess)
    assert scene.at(4.75, FinalWords(final, 1)).until(9.0).events() == [do.ReviseUser(4.75, 1, final)]


@pytest.mark.parametrize(
    ("guess", "final", "corrected", "more"),
    [
        ("a b", "a b c", None, "c"),
        ("I want to cancel", "I want to cancel, my order.", "I want to cancel,", "my order."),
        ("elf on", "alpha one", "alpha one", None),
        ("elf on", "alpha one two three", "alpha one", "two three"),
        ("I have twenty five", "I have 25 apples.", "I have 25", "apples."),
        ("我想取消", "我想取消，我的订单。", "我想取消，", "我的订单。"),
    ],
)
def test_final_words_after_answer_lose_nothing(guess: str, final: str, corrected: str | None, more: str | None) -> None:
    """After the answer was heard, final words correct the entry, and those that are additional are the next turn."""
    scene = heard_answer(guessed(guess)).at(4.75, FinalWords(final, 1)).until(5.25)
    expected: list[do.Action] = []
    if corrected is not None:
        expected.append(do.ReviseUser(4.75, 1, corrected))
    if more is not None:
        expected += [committed(5.25, 2, more, 0.5), do.StartReply(5.25, 2, 2)]
    assert scene.events() == expected


def test_correction_of_an_older_turn_finds_its_entry() -> None:
    """Final words of a turn that another one has followed correct the entry of their own turn."""
    scene = heard_answer(guessed("elf on")).voice(5.0, 6.0).at(6.125, FinalWords("hello", 2)).until(6.5)
    scene.then()
    assert scene.at(6.75, FinalWords("alpha one", 1)).events() == [do.ReviseUser(6.75, 1, "alpha one")]


def test_correction_while_caller_speaks_joins_the_next_commit() -> None:
    """Other final words that come in the caller's next voice retract the answer, and that voice's end commits them."""
    scene = guessed("elf on").at(4.25, VoiceStarted(4.125)).at(4.5, FinalWords("alpha one", 1))
    scene.at(4.75, VoiceEnded(4.625)).until(9.0)
    assert scene.events() == [
        do.EmitSpeechStarted(4.25, 4.125),
        do.CutReply(4.5, 1, 1, opened=False, started=False, reason="retracted"),
        do.EmitSpeechEnded(4.75, 4.625, 0.5),
        committed(5.125, 2, "alpha one", 0.5, replaces=True),
        do.StartReply(5.125, 2, 2),
    ]


# A voice that goes on without words -----------------------------------------------------------------------------------
def noisy(*events: tuple[float, Input]) -> Scene:
    """A voice from 1 that does not end, with words at 2.5."""
    scene = Scene().at(1.125, VoiceStarted(1.0)).at(2.5, FinalWords("when do you open", 1))
    for at, event in events:
        scene.at(at, event)
    return scene


ASKED = [do.EmitSpeechStarted(1.125, 1.0), do.AskForWords(6.0)]


def test_words_in_endless_noise_are_answered() -> None:
    """When the STT finds no more words in a voice that goes on, the voice ends where they were, and is answered."""
    scene = noisy().at(6.25, FinalWords("", 2))
    assert scene.events() == [
        *ASKED,
        do.EmitSpeechEnded(6.25, 2.5, 1.5),
        committed(6.25, 1, "when do you open", 3.75),
        do.StartReply(6.25, 1, 1),
    ]
    assert scene.at(20.0, VoiceEnded(19.5)).until(30.0).events()[:1] == [
        do.CutReply(21.25, 1, 1, opened=False, started=False, reason="failed")
    ]


def test_repeated_interim_words_are_no_news() -> None:
    """Interim words that only repeat do not keep a noise alive, nor does their own final result."""
    scene = Scene().at(1.125, VoiceStarted(1.0))
    for step in range(15):
        scene.at(2.5 + step / 4, InterimWords("when do you open", 1))
    scene.at(6.25, FinalWords("When do you open?", 1))
    assert scene.events() == [
        *ASKED,
        do.EmitSpeechEnded(6.25, 2.5, 1.5),
        committed(6.25, 1, "When do you open?", 3.75),
        do.StartReply(6.25, 1, 1),
    ]


def test_continuing_caller_is_not_answered() -> None:
    """The agent does not answer while the caller speaks on and the STT is slow: when asked, the STT has more words."""
    scene = noisy((9.5, FinalWords("and are you open on", 2))).until(16.0)
    scene.at(17.0, FinalWords("sundays", 3)).at(17.25, VoiceEnded(16.75)).until(18.0)
    assert scene.events() == [
        *ASKED,
        do.AskForWords(16.5),  # twice as long after the first time
        do.EmitSpeechEnded(17.25, 16.75, 15.75),
        committed(17.25, 1, "when do you open and are you open on sundays", 0.5),
        do.StartReply(17.25, 1, 1),
    ]


def test_only_a_streaming_stt_is_asked() -> None:
    """An STT that gives words only after a voice is not asked for those of the next one, which it may still hear."""
    scene = Scene().voice(1.0, 2.0).at(2.375, VoiceStarted(2.25)).at(2.75, FinalWords("I would like", 1)).until(9.0)
    scene.at(9.125, VoiceEnded(9.0)).at(9.5, FinalWords("a table", 2)).until(9.5)
    assert [event for event in scene.events() if isinstance(event, do.AskForWords | do.CommitUser)] == [
        committed(9.5, 1, "I would like a table", 0.5)
    ]


def test_noise_before_the_answer_holds_it_back_briefly() -> None:
    """A noise that begins before the answer is heard holds it back until the STT says that it has no words."""
    scene = Scene().at(1.125, VoiceStarted(1.0)).at(1.5, InterimWords("hello", 1)).at(2.125, VoiceEnded(2.0))
    scene.at(2.25, FinalWords("hello", 1)).until(2.5)
    scene.at(2.75, VoiceStarted(2.625)).at(3.0, AudioArrived(1))
    scene.then()
    assert scene.at(6.5, FinalWords("", 2)).until(8.0).events() == [
        do.AskForWords(6.25),
        do.EmitSpeechEnded(6.5, 6.5, 3.875),
        do.OpenPlayout(7.0, 1),
    ]


# A goodbye that the caller talks over ---------------------------------------------------------------------------------
def interrupted_goodbye(words: str) -> Scene:
    """A goodbye, heard from 3, that the caller interrupts at 5.25 with words that are committed at 6.5."""
    scene = Scene().asks().at(2.625, Closing(1)).at(2.75, AudioArrived(1)).at(3.0, OnWire(1), Produced(1))
    scene.then()
    scene.voice(5.0, 6.0).at(6.25, FinalWords(words, 2)).until(6.5)
    return scene


@pytest.mark.parametrize("words", ["okay thanks bye", "Thank you, goodbye!", "tschüss", "好的，谢谢", "ขอบคุณครับ"])
def test_farewell_over_goodbye_ends_the_call(words: str) -> None:
    """A farewell over the goodbye is a turn without an answer, and what the goodbye waited for is done."""
    scene = interrupted_goodbye(words)
    assert scene.events()[3:] == [committed(6.5, 2, words, 0.5), do.ResumeGoodbye(6.5)]
    assert scene.machine.agent_state == "idle"
    assert scene.at(6.5, HangUp("agent_hung_up")).events() == [do.HangUpLeg(6.5, "agent_hung_up")]


@pytest.mark.parametrize("words", ["wait, one more thing", "okay, but when?", "no", "thanks, and the price"])
def test_other_words_over_goodbye_are_answered(words: str) -> None:
    """Any other words over the goodbye are answered, after the LLM was told that it did not end the call."""
    assert interrupted_goodbye(words).events()[3:] == [
        do.DropGoodbye(6.5),
        committed(6.5, 2, words, 0.5),
        do.StartReply(6.5, 2, 2),
    ]


def test_cough_over_goodbye_ends_the_call() -> None:
    """A cough that cuts the goodbye brings no words, so what the goodbye waited for is done."""
    assert interrupted_goodbye("").until(9.0).events()[3:] == [do.ResumeGoodbye(6.5)]


def test_text_after_cut_goodbye_drops_it() -> None:
    """A text of the application's over the goodbye goes on with the call."""
    scene = Scene().asks().at(2.625, Closing(1)).at(2.75, AudioArrived(1)).at(3.0, OnWire(1), Produced(1))
    scene.then()
    assert scene.at(4.0, Say("One moment.", interrupt=True)).events() == [
        do.CutReply(4.0, 1, 1, opened=True, started=True, reason="say"),
        do.DropGoodbye(4.0),
        do.StartReply(4.0, 2, 1, "One moment."),
    ]


@pytest.mark.parametrize("heard_late", [[], [InterimWords("a b", 1)]], ids=["before the voice ends", "after it, too"])
def test_interim_words_extend_the_final_wait(heard_late: list[Input]) -> None:
    """Interim words make the machine wait 1.75 s for slow final words instead of answering half a sentence."""
    scene = Scene().at(1.125, VoiceStarted(1.0)).at(1.5, InterimWords("a", 1)).at(2.125, VoiceEnded(2.0))
    scene.at(2.5, *heard_late).until(3.5)
    assert scene.events() == [do.EmitSpeechStarted(1.125, 1.0), do.EmitSpeechEnded(2.125, 2.0, 1.0)]
    assert scene.at(3.75, FinalWords("a b c", 1)).events() == [
        committed(3.75, 1, "a b c", 1.75),
        do.StartReply(3.75, 1, 1),
    ]


# The caller goes on before the agent is heard -------------------------------------------------------------------------
def test_words_after_commit_join_new_turn() -> None:
    """Words after the commit retract the unheard answer and join the question in a new turn."""
    scene = Scene().asks("I want")
    scene.then()
    scene.at(2.875, VoiceStarted(2.75)).at(3.0, AudioArrived(1)).at(3.25, InterimWords("a", 2))
    scene.at(3.625, VoiceEnded(3.5)).at(3.75, FinalWords("a pizza", 2)).until(4.0)
    assert scene.events() == [
        do.EmitSpeechStarted(2.875, 2.75),
        do.ReportAudio(3.0, 1, 1),
        do.CutReply(3.25, 1, 1, opened=False, started=False, reason="retracted"),
        do.EmitSpeechEnded(3.625, 3.5, 0.75),
        committed(4.0, 2, "I want a pizza", 0.5, replaces=True),
        do.StartReply(4.0, 2, 2),
    ]


@pytest.mark.parametrize(
    ("found", "opens"),
    [
        pytest.param([], 4.25, id="no words within the final wait"),
        pytest.param([(3.625, FinalWords("", 2))], 3.75, id="the stt found none"),
    ],
)
def test_a_cough_before_the_answer_only_delays_it(found: list[tuple[float, Input]], opens: float) -> None:
    """A voice before the answer keeps its playout queue closed until it is sure to have no words."""
    scene = Scene().asks()
    scene.then()
    scene.at(2.75, VoiceStarted(2.625)).at(2.875, AudioArrived(1)).at(3.5, VoiceEnded(3.25))
    for at, event in found:
        scene.at(at, event)
    assert scene.at(4.5, OnWire(1)).events() == [
        do.EmitSpeechStarted(2.75, 2.625),
        do.ReportAudio(2.875, 1, 1),
        do.EmitSpeechEnded(3.5, 3.25, 0.625),
        do.OpenPlayout(opens, 1),
        do.ReportAgentStarted(4.5, 1, 1),
    ]


def test_vanished_words_restart_the_answer() -> None:
    """Interim words that come to nothing retract the answer, which starts again in the same turn."""
    scene = Scene().asks()
    scene.then()
    scene.at(2.875, VoiceStarted(2.75)).at(3.0, InterimWords("uh", 2)).at(3.25, VoiceEnded(3.0)).at(
        3.375, FinalWords("", 2)
    )
    assert scene.until(9.0).events() == [
        do.EmitSpeechStarted(2.875, 2.75),
        do.CutReply(3.0, 1, 1, opened=False, started=False, reason="retracted"),
        do.EmitSpeechEnded(3.25, 3.0, 0.25),
        do.StartReply(3.5, 2, 1),
    ]


# Barge-in -------------------------------------------------------------------------------------------------------------
def test_voice_over_agent_cuts_after_250_ms() -> None:
    """A voice over the agent cuts the reply 250 ms after its onset."""
    scene = Scene().answered()
    scene.at(5.125, VoiceStarted(5.0)).at(6.125, VoiceEnded(6.0)).at(6.25, FinalWords("stop", 2)).until(6.5)
    assert scene.then() == [
        do.StateChanged(5.125, "speaking", "speaking"),
        do.EmitSpeechStarted(5.125, 5.0),
        do.StateChanged(5.25, "speaking", "idle"),
        do.CutReply(5.25, 1, 1, opened=True, started=True, reason="barge-in"),
        do.StateChanged(6.125, "listening", "idle"),
        do.EmitSpeechEnded(6.125, 6.0, 1.0),
        do.StateChanged(6.5, "listening", "thinking"),
        committed(6.5, 2, "stop", 0.5),
        do.StartReply(6.5, 2, 2),
    ]


def test_late_learned_onset_cuts_at_once() -> None:
    """An onset that the machine learns late cuts the reply at once."""
    scene = Scene().answered().at(5.5, VoiceStarted(5.0))
    assert scene.events() == [
        do.EmitSpeechStarted(5.5, 5.0),
        do.CutReply(5.5, 1, 1, opened=True, started=True, reason="barge-in"),
    ]


def test_a_short_sound_over_the_agent_changes_nothing() -> None:
    """A voice of 125 ms over the agent fires its edges, and the reply plays to its end."""
    scene = Scene().answered().at(5.0625, VoiceStarted(5.0)).at(5.1875, VoiceEnded(5.125)).at(8.0, Drained(1))
    assert scene.events() == [
        do.EmitSpeechStarted(5.0625, 5.0),
        do.EmitSpeechEnded(5.1875, 5.125, 0.125),
        do.FinishReply(8.0, 1, 1, started=True),
    ]


def test_long_cough_cuts_reply_and_nothing_more() -> None:
    """A long cough cuts the reply and starts no new turn."""
    scene = Scene(TurnPolicy(away=5.0)).answered().voice(5.0, 5.5).until(20.0)
    assert scene.then() == [
        do.StateChanged(5.125, "speaking", "speaking"),
        do.EmitSpeechStarted(5.125, 5.0),
        do.StateChanged(5.25, "speaking", "idle"),
        do.CutReply(5.25, 1, 1, opened=True, started=True, reason="barge-in"),
        do.StateChanged(5.625, "listening", "idle"),
        do.EmitSpeechEnded(5.625, 5.5, 0.5),
        do.StateChanged(11.5, "away", "idle"),
    ]


def test_playout_tail_can_be_interrupted() -> None:
    """The caller can interrupt the tail that the carrier still plays."""
    scene = Scene().answered().at(7.875, VoiceStarted(7.75)).until(8.0)
    assert scene.events()[1] == do.CutReply(8.0, 1, 1, opened=True, started=True, reason="barge-in")


def test_two_barge_ins_cut_two_replies() -> None:
    """Two barge-ins in a row cut two replies."""
    scene = Scene().answered().voice(4.0, 4.5).at(4.75, FinalWords("no", 2)).until(5.0)
    scene.at(5.25, AudioArrived(2)).at(5.5, OnWire(2)).at(6.125, VoiceStarted(6.0)).until(7.0)
    cuts = [(cut.at, cut.reply, cut.turn) for cut in scene.then() if isinstance(cut, do.CutReply)]
    assert cuts == [(4.25, 1, 1), (6.25, 2, 2)]


def test_min_words_ignores_voice_alone() -> None:
    """With min_words set, a voice without enough words does not cut the reply."""
    scene = Scene(TurnPolicy(min_words=2)).answered().at(5.125, VoiceStarted(5.0)).at(6.0, InterimWords("please", 2))
    assert scene.events() == [do.EmitSpeechStarted(5.125, 5.0)]
    cut = do.CutReply(6.5, 1, 1, opened=True, started=True, reason="barge-in")
    assert scene.at(6.5, InterimWords("please stop", 2)).events() == [cut]


def test_separate_remarks_do_not_add_up() -> None:
    """With min_words set, short remarks with a pause between them do not add up to a barge-in."""
    scene = Scene(TurnPolicy(min_words=2)).answered()
    scene.voice(3.5, 3.75).at(4.0, FinalWords("yes", 2)).voice(5.5, 5.75).at(6.0, FinalWords("right", 3)).at(
        8.0, Drained(1)
    )
    assert [
        action for action in scene.events() if not isinstance(action, do.EmitSpeechStarted | do.EmitSpeechEnded)
    ] == [
        do.FinishReply(8.0, 1, 1, started=True),
        committed(8.0, 2, "yes right", 2.25),
        do.StartReply(8.0, 2, 2),
    ]


@pytest.mark.parametrize("barge_in", [True, False])
def test_speech_under_uninterruptible_agent_waits(barge_in: bool) -> None:
    """Speech under an uninterruptible agent is answered when the agent has finished."""
    scene = Scene(POLICY if barge_in else TurnPolicy(overlap=math.inf))
    scene.at(1.0, Say("This call is recorded.", interruptible=not barge_in)).at(1.25, AudioArrived(1))
    scene.at(1.5, OnWire(1), Produced(1)).voice(2.0, 3.0).at(3.25, FinalWords("but why", 1))
    scene.then()
    assert scene.at(6.0, Drained(1)).events() == [
        do.FinishReply(6.0, 1, 0, started=True),
        committed(6.0, 1, "but why", 3.0),
        do.StartReply(6.0, 2, 1),
    ]


def test_words_in_a_gap_cut_the_reply() -> None:
    """Words of the caller in a gap of the reply cut it as a barge-in."""
    scene = Scene().asks().at(2.75, AudioArrived(1)).at(3.0, OnWire(1)).at(4.125, Drained(1))
    scene.then()
    scene.at(5.125, VoiceStarted(5.0)).at(5.5, InterimWords("forget it", 2))
    assert scene.events()[1:] == [do.CutReply(5.5, 1, 1, opened=True, started=True, reason="barge-in")]


# Saying ---------------------------------------------------------------------------------------------------------------
def test_say_texts_play_in_order_within_turn() -> None:
    """Texts for the agent to say play one after the other within the turn."""
    scene = Scene().answered().at(4.0, Say("first")).at(4.5, Say("second")).at(8.0, Drained(1))
    assert scene.events() == [do.FinishReply(8.0, 1, 1, started=True), do.StartReply(8.0, 2, 1, "first")]
    scene.at(8.25, AudioArrived(2)).at(8.5, OnWire(2), Produced(2)).at(9.0, Drained(2))
    assert scene.events() == [
        do.OpenPlayout(8.25, 2),
        do.ReportAgentStarted(8.5, 2, 1),
        do.FinishReply(9.0, 2, 1, started=True),
        do.StartReply(9.0, 3, 1, "second"),
    ]


def test_interrupting_say_cuts_current_reply() -> None:
    """A text with interrupt=True cuts the current reply."""
    scene = Scene().answered().at(4.0, Say("wait", interrupt=True))
    assert scene.events() == [
        do.CutReply(4.0, 1, 1, opened=True, started=True, reason="say"),
        do.StartReply(4.0, 2, 1, "wait"),
    ]


def test_barge_in_keeps_queued_say_texts() -> None:
    """A barge-in keeps the queued texts, which follow the next answer."""
    scene = Scene().answered().at(4.0, Say("later")).voice(5.0, 6.0).at(6.25, FinalWords("hm", 2)).until(6.5)
    assert [action.text for action in scene.then() if isinstance(action, do.StartReply)] == [None]
    assert scene.at(7.0, Produced(2)).events()[-1] == do.StartReply(7.0, 3, 2, "later")


def test_say_waits_in_queue_while_caller_speaks() -> None:
    """A text waits in the playout queue while the caller speaks."""
    scene = Scene().at(1.125, VoiceStarted(1.0)).at(1.25, Say("news")).at(1.5, AudioArrived(1))
    assert scene.events()[-1] == do.ReportAudio(1.5, 1, 0)
    assert scene.at(2.0, VoiceEnded(1.875)).events()[-1] == do.OpenPlayout(2.0, 1)


# Failures -------------------------------------------------------------------------------------------------------------
def test_failed_reply_is_apologised_for_once() -> None:
    """The agent apologises for a failed reply only once in a turn."""
    scene = Scene().asks()
    scene.then()
    assert scene.at(3.0, ReplyFailed(1, "model down")).then() == [
        do.CutReply(3.0, 1, 1, opened=False, started=False, reason="failed"),
        do.StartReply(3.0, 2, 1, apology=True),
    ]
    assert scene.at(4.0, ReplyFailed(2, "voice down")).then() == [
        do.StateChanged(4.0, "listening", "idle"),
        do.CutReply(4.0, 2, 1, opened=False, started=False, reason="failed"),
    ]


def test_a_reply_that_never_speaks_counts_as_failed() -> None:
    """A reply without audio for 15 s is cut as failed, and an apology starts."""
    scene = Scene().asks()
    scene.then()
    assert scene.until(17.5).events() == [
        do.CutReply(17.5, 1, 1, opened=False, started=False, reason="failed"),
        do.StartReply(17.5, 2, 1, apology=True),
    ]


def test_reply_timeout_counts_from_tool_deadline() -> None:
    """The timeout of a reply that waits for a tool counts from the end of the tool's time."""
    scene = Scene().asks().at(3.0, Busy(1, 43.0))
    scene.then()
    assert scene.until(57.75).events() == []
    assert scene.until(58.0).events()[0] == do.CutReply(58.0, 1, 1, opened=False, started=False, reason="failed")


def test_finished_tool_returns_its_unused_time() -> None:
    """The timeout of a reply counts from the earlier end of a tool that finishes sooner."""
    scene = Scene().asks().at(3.0, Busy(1, 43.0)).at(5.0, Busy(1, 5.0))
    scene.then()
    assert scene.until(20.0).events()[0] == do.CutReply(20.0, 1, 1, opened=False, started=False, reason="failed")


def test_gap_in_reply_lasts_for_its_tool() -> None:
    """A gap in a reply may last as long as its tool, and the reply's timeout counts from there."""
    scene = Scene().asks().at(2.875, AudioArrived(1)).at(3.0, OnWire(1), Busy(1, 34.0)).at(4.0, Drained(1))
    scene.then()
    assert scene.until(48.75).events() == []
    assert scene.until(49.0).events()[0] == do.CutReply(49.0, 1, 1, opened=True, started=True, reason="failed")


def test_agent_has_floor_from_commit_on() -> None:
    """The agent has the floor from the commit on, except while a voice of the caller may be words."""
    scene = Scene()
    assert not scene.machine.has_floor
    assert scene.asks().machine.has_floor
    assert not scene.at(2.75, VoiceStarted(2.625)).machine.has_floor
    assert not scene.at(3.125, VoiceEnded(3.0)).machine.has_floor
    assert scene.until(9.0).machine.has_floor


def test_inputs_of_cut_reply_cause_no_action() -> None:
    """Inputs of a reply that has been cut, or has never existed, cause no action."""
    scene = Scene().answered().at(4.0, Say("x", interrupt=True))
    scene.then()
    dead: list[Input] = [
        TokenArrived(1), AudioArrived(1), OnWire(1), Produced(1), Drained(1), ReplyFailed(1, "e"), AudioArrived(7),
        Busy(1, 90.0),
    ]  # fmt: skip
    assert scene.at(4.25, *dead).then() == []


# Turn detector --------------------------------------------------------------------------------------------------------
def test_a_sure_detector_shortens_the_wait() -> None:
    """A verdict of 0.9 commits the turn 125 ms after the voice."""
    scene = Scene(detector=True).at(1.125, VoiceStarted(1.0)).at(1.5, FinalWords("a", 1)).at(2.0625, VoiceEnded(2.0))
    assert scene.events()[-1] == do.AskDetector(2.0625, 1)
    assert scene.at(2.09375, Verdict(1, 0.9)).until(3.0).events() == [
        do.CommitUser(2.125, 1, "a", "semantic_turn_detector", 0.125),
        do.StartReply(2.125, 1, 1),
    ]


def test_an_unfinished_utterance_is_held_open() -> None:
    """A verdict of 0.1 holds the utterance open for 2 s, in the caller's state thinking."""
    scene = Scene(detector=True).at(1.125, VoiceStarted(1.0)).at(1.5, FinalWords("a", 1)).at(2.125, VoiceEnded(2.0))
    scene.then()
    assert scene.at(2.25, Verdict(1, 0.1)).until(9.0).then() == [
        do.StateChanged(2.5, "thinking", "idle"),
        do.StateChanged(4.0, "listening", "thinking"),
        committed(4.0, 1, "a", 2.0),
        do.StartReply(4.0, 1, 1),
    ]


def test_a_verdict_about_an_earlier_voice_does_nothing() -> None:
    """A verdict about an earlier voice does not shorten the wait after the later one."""
    scene = (
        Scene(detector=True).voice(1.0, 2.0).voice(2.25, 3.0).at(3.1875, FinalWords("a", 1), Verdict(1, 0.9)).until(9.0)
    )
    assert [action.at for action in scene.then() if isinstance(action, do.CommitUser)] == [3.5]


# The end --------------------------------------------------------------------------------------------------------------
FLUSHED = [do.FlushTranscripts(10.0), do.EndCall(10.75, "left")]


@pytest.mark.parametrize(
    ("scene", "ended"),
    [
        pytest.param(Scene(ready=False), None, id="initializing"),
        pytest.param(Scene(), None, id="idle"),
        pytest.param(Scene().at(9.5, VoiceStarted(9.5)), do.EmitSpeechEnded(10.0, 10.0, 0.5), id="the caller speaking"),
        pytest.param(
            Scene().at(9.0, FinalWords("hi", 1)).until(9.5),
            do.CutReply(10.0, 1, 1, False, False, "leg down"),
            id="thinking",
        ),
        pytest.param(
            Scene().at(9.0, Say("x")).at(9.25, AudioArrived(1)).at(9.5, OnWire(1)),
            do.CutReply(10.0, 1, 0, True, True, "leg down"),
            id="speaking",
        ),
    ],
)
def test_the_caller_hangs_up_in_each_state(scene: Scene, ended: do.Action | None) -> None:
    """A hang-up ends the voice or the reply, gives the STT 0.75 s for its last words and ends the call once."""
    scene.then()
    assert scene.at(10.0, LegDown("left")).until(20.0).events() == ([ended] if ended else []) + FLUSHED
    assert scene.machine.ended
    assert scene.at(21.0, Ready(), Say("x"), VoiceStarted(21.0), HangUp("x"), LegDown("x"), Flushed()).then() == []


def test_the_last_words_enter_the_history() -> None:
    """Words that arrive after the hang-up enter the history when the STT is through."""
    scene = (
        Scene()
        .voice(1.0, 2.0)
        .at(2.25, LegDown("left"))
        .at(2.5, FinalWords("good", 1))
        .at(2.625, InterimWords("bye", 2))
    )
    scene.then()
    assert scene.at(2.75, Flushed()).then() == [
        do.StateChanged(2.75, "listening", "thinking"),
        committed(2.75, 1, "good bye", 0.75),
        do.StateChanged(2.75, "listening", "idle"),
        do.EndCall(2.75, "left"),
    ]


@pytest.mark.parametrize("ready", [True, False])
def test_hanging_up_with_nothing_to_say_is_immediate(ready: bool) -> None:
    """A hang-up with nothing left to say goes to the leg at once."""
    scene = Scene(ready=ready).at(1.0, HangUp("done")).at(1.5, LegDown("stopped")).at(1.75, Flushed())
    assert scene.events() == [do.HangUpLeg(1.0, "done"), do.FlushTranscripts(1.5), do.EndCall(1.75, "done")]


def test_goodbye_plays_whole_over_caller_speech() -> None:
    """The goodbye plays to its end even when the caller speaks, and the call then ends."""
    scene = Scene().answered().at(4.0, HangUp("done"), Say("too late")).voice(5.0, 6.0)
    scene.at(6.25, FinalWords("wait", 2)).at(8.0, Drained(1)).until(20.0)
    assert scene.events() == [
        do.EmitSpeechStarted(5.125, 5.0),
        do.EmitSpeechEnded(6.125, 6.0, 1.0),
        do.FinishReply(8.0, 1, 1, started=True),
        do.HangUpLeg(8.0, "done"),
        do.FlushTranscripts(13.0),
        committed(13.75, 2, "wait", 7.75),
        do.EndCall(13.75, "done"),
    ]


def test_queued_say_texts_precede_hang_up() -> None:
    """Texts queued before a hang-up are said before the call ends."""
    scene = Scene().answered().at(4.0, Say("goodbye"), HangUp("done")).at(8.0, Drained(1))
    assert scene.events() == [do.FinishReply(8.0, 1, 1, started=True), do.StartReply(8.0, 2, 1, "goodbye")]
    scene.at(8.25, AudioArrived(2)).at(8.5, OnWire(2), Produced(2)).at(9.0, Drained(2))
    assert scene.events()[-2:] == [do.FinishReply(9.0, 2, 1, started=True), do.HangUpLeg(9.0, "done")]


def test_a_goodbye_that_takes_too_long_is_cut() -> None:
    """A goodbye that plays longer than 10 s after the hang-up is cut."""
    scene = Scene().asks().at(3.0, HangUp("done"))
    scene.then()
    scene.at(4.0, AudioArrived(1)).at(5.0, OnWire(1)).until(13.0)
    assert scene.events()[-2:] == [
        do.CutReply(13.0, 1, 1, opened=True, started=True, reason="goodbye"),
        do.HangUpLeg(13.0, "done"),
    ]


def test_a_goodbye_that_fails_is_not_apologised_for() -> None:
    """A goodbye that fails is cut without an apology, and the leg is hung up."""
    scene = Scene().asks().at(3.0, HangUp("done"))
    scene.then()
    assert scene.at(4.0, ReplyFailed(1, "e")).events() == [
        do.CutReply(4.0, 1, 1, opened=False, started=False, reason="failed"),
        do.HangUpLeg(4.0, "done"),
    ]


# Handing the call over ------------------------------------------------------------------------------------------------
def test_transfer_waits_for_current_playout() -> None:
    """A transfer begins when the current reply has been played."""
    scene = Scene().answered().at(4.0, Transfer()).voice(5.0, 6.0).at(6.25, FinalWords("wait", 2)).at(8.0, Drained(1))
    scene.at(8.125, TransferAccepted()).at(8.25, LegDown("stopped")).at(8.5, Flushed())
    assert scene.events()[2:] == [
        do.FinishReply(8.0, 1, 1, started=True),
        do.TransferLeg(8.0),
        do.FlushTranscripts(8.25),
        committed(8.5, 2, "wait", 2.5),
        do.EndCall(8.5, "transferred"),
    ]


def test_failed_transfer_says_text_and_continues() -> None:
    """A failed transfer says its text, and the call goes on."""
    scene = Scene().at(1.0, Transfer()).at(1.5, TransferFailed("Sorry."))
    assert scene.then() == [do.TransferLeg(1.0), do.StartReply(1.5, 1, 0, "Sorry.")]
    scene.at(2.0, AudioArrived(1)).at(2.25, OnWire(1), Produced(1)).at(3.0, Drained(1))
    assert scene.machine.deadline == math.inf
    scene.voice(4.0, 5.0).at(5.25, FinalWords("hello", 1)).until(5.5)
    assert scene.events()[-1] == do.StartReply(5.5, 2, 1)


def test_speech_during_failed_transfer_is_answered() -> None:
    """Speech during a transfer is answered when the transfer fails."""
    scene = Scene().at(1.0, Transfer()).voice(2.0, 3.0).at(3.25, FinalWords("still here", 1)).until(4.0)
    scene.then()
    assert scene.at(4.5, TransferFailed()).events() == [
        committed(4.5, 1, "still here", 1.5),
        do.StartReply(4.5, 1, 1),
    ]


def test_transfer_waits_until_call_is_ready() -> None:
    """A transfer waits until the call is ready to go on should it fail."""
    scene = Scene(ready=False).at(0.5, Transfer())
    assert scene.then() == []
    assert scene.at(1.0, Ready()).events() == [do.TransferLeg(1.0)]


@pytest.mark.parametrize("failed", [None, 9.0, 8.75])
def test_leaving_before_transfer_is_hang_up(failed: float | None) -> None:
    """The end of the leg before the transfer is carried out counts as a hang-up of the caller."""
    scene = Scene().answered().at(4.0, Transfer())
    if failed is None:
        scene.at(5.0, LegDown("left"))
    else:
        scene.at(8.0, Drained(1)).at(8.5, LegDown("left")).at(failed, TransferFailed("Sorry."))
    assert scene.until(20.0).events()[-1] == do.EndCall(5.75 if failed is None else 9.25, "left")


def test_hang_up_during_transfer_follows_failure() -> None:
    """A hang-up during a transfer takes effect if the transfer fails."""
    scene = Scene().answered().at(4.0, Transfer()).at(5.0, HangUp("completed")).at(8.0, Drained(1))
    scene.then()
    assert scene.at(9.0, TransferFailed("Sorry.")).events() == [do.HangUpLeg(9.0, "completed")]
    waiting = Scene().at(1.0, Transfer()).at(2.0, HangUp("completed"), TransferFailed())
    assert waiting.events() == [do.TransferLeg(1.0), do.HangUpLeg(2.0, "completed")]


def test_transferred_leg_without_end_is_abandoned() -> None:
    """A transferred leg that does not end is given up after a while, and the call ends as transferred."""
    scene = Scene().at(1.0, Transfer()).at(2.0, TransferAccepted(), TransferFailed("Sorry.")).until(20.0)
    assert scene.events() == [do.TransferLeg(1.0), do.FlushTranscripts(7.0), do.EndCall(7.75, "transferred")]


def test_hang_up_ends_the_hold() -> None:
    """A warm transfer takes its own time; a hang-up meanwhile acts at once, and a late failure changes nothing."""
    scene = Scene().at(1.0, Transfer(hold=90.0)).until(60.0)
    assert (scene.then(), scene.machine.deadline) == ([do.TransferLeg(1.0)], 91.0)
    scene.at(61.0, HangUp("completed")).at(61.0, TransferFailed("Sorry."), HangUp("silence"))
    assert scene.then() == [do.HangUpLeg(61.0, "completed")]
    scene.at(61.5, LegDown("stopped"), Flushed())
    assert scene.events() == [do.FlushTranscripts(61.5), do.EndCall(61.5, "completed")]


def test_warm_transfer_after_another_failed() -> None:
    """After a warm transfer that failed, a cold one has its deadline again."""
    scene = Scene().at(1.0, Transfer(hold=90.0)).at(60.0, TransferFailed())
    scene.then()
    assert scene.at(61.0, Transfer()).until(90.0).events()[:2] == [do.TransferLeg(61.0), do.FlushTranscripts(67.0)]


def test_joined_call_ends_its_conversation() -> None:
    """When the leg is joined with another one, the conversation ends as after a hang-up, and the leg is left alone."""
    scene = Scene().at(1.0, Transfer(hold=90.0)).voice(2.0, 3.0).at(3.25, FinalWords("hello?", 1)).until(4.0)
    scene.then()
    assert scene.at(5.0, Joined()).at(5.25, Flushed()).events() == [
        do.FlushTranscripts(5.0),
        committed(5.25, 1, "hello?", 2.25),
        do.EndCall(5.25, "transferred"),
    ]


def test_joined_call_cuts_its_reply() -> None:
    """A call that is joined while its agent speaks cuts the speech: the person has heard enough of the briefing."""
    scene = Scene().answered().at(4.0, Joined())
    assert scene.then()[-2:] == [
        do.CutReply(4.0, 1, 1, opened=True, started=True, reason="leg down"),
        do.FlushTranscripts(4.0),
    ]
    assert scene.at(4.125, Flushed()).events() == [do.EndCall(4.125, "transferred")]


@pytest.mark.parametrize(
    ("answer", "end"),
    [
        (TransferAccepted(), do.EndCall(1.75, "transferred")),
        (TransferFailed("Sorry."), do.EndCall(1.75, "stopped")),
        (None, do.EndCall(2.25, "transferred")),
    ],
)
def test_leg_may_end_before_transfer_answer(answer: Input | None, end: do.EndCall) -> None:
    """The stream may end before the carrier answers: a failure makes it a hang-up, otherwise a transfer."""
    scene = Scene().at(1.0, Transfer()).at(1.5, LegDown("stopped")).at(1.625, Flushed())
    assert scene.events() == [do.TransferLeg(1.0), do.FlushTranscripts(1.5)]
    if answer is not None:
        scene.at(1.75, answer)
    assert scene.until(20.0).events() == [end]


# Time -----------------------------------------------------------------------------------------------------------------
def test_input_at_deadline_is_handled_first() -> None:
    """An input stamped exactly at a deadline is handled before the deadline."""
    scene = Scene().voice(1.0, 2.0).at(2.25, FinalWords("a", 1)).at(2.5, VoiceStarted(2.5))
    assert not [action for action in scene.then() if isinstance(action, do.CommitUser)]


def test_lagging_loop_decides_at_deadline_time() -> None:
    """A lagging event loop decides with the deadline's own time."""
    scene = Scene().voice(1.0, 2.0).at(2.25, FinalWords("a", 1)).at(7.0, VoiceStarted(6.875))
    assert committed(2.5, 1, "a", 0.5) in scene.then()


def test_silent_caller_is_away_until_next_voice() -> None:
    """A caller who is silent for long counts as away until the next voice."""
    scene = Scene(TurnPolicy(away=10.0)).until(10.0)
    assert scene.then() == [do.StateChanged(10.0, "away", "idle")]
    assert scene.at(12.0, VoiceStarted(11.875)).then()[0] == do.StateChanged(12.0, "speaking", "idle")


def test_the_machine_shows_its_live_state() -> None:
    """The machine's repr shows turn, both states, reply, words, queue and next deadline."""
    scene = Scene().answered().at(3.5, Say("x")).at(4.0, InterimWords("hm", 2))
    assert repr(scene.machine) == (
        "<TurnMachine turn 1, caller pausing, agent speaking, reply 1 (audio, opened, started, produced), "
        "words 'hm', 1 queued>"
    )
    assert repr(Scene().asks().machine).endswith("agent thinking, reply 1 (nothing yet), next deadline 17.500>")
