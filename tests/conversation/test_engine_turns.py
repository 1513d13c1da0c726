"""An engine that understands speech by itself: words never reach the machine, so that a voice alone is an utterance."""

from __future__ import annotations

import math

import attrs
import pytest

from patter_trio.conversation import actions as do
from patter_trio.conversation.inputs import (
    AudioArrived,
    Drained,
    FinalWords,
    Flushed,
    LegDown,
    OnWire,
    Produced,
    Say,
    Verdict,
    VoiceEnded,
    VoiceStarted,
)
from patter_trio.conversation.policy import TurnPolicy
from tests.conversation.test_turn_scenarios import LAG, POLICY, Scene

VOICE = attrs.evolve(POLICY, needs_words=False, max_wordless_voice=60.0)
"""An engine that is told when a turn is over."""
ENDS = attrs.evolve(VOICE, endpoint=10.0, early_trigger="vad_silence")
"""One that says so itself."""
OVER = FinalWords("", finished=True)
"""It has said so."""


def asked(policy: TurnPolicy = VOICE) -> Scene:
    """A turn from 1 to 2, committed at 2.5."""
    return Scene(policy).voice(1.0, 2.0).until(2.5)


def commits(scene: Scene) -> list[do.Action]:
    """Return which utterances were over since the last time."""
    return [act for act in scene.then() if isinstance(act, do.CommitUser)]


def kinds(scene: Scene, *wanted: type[do.Action]) -> list[tuple[str, float]]:
    """Return what was wanted of some kinds, and when."""
    return [(type(act).__name__, act.at) for act in scene.then() if isinstance(act, wanted)]


# What is dropped, and what is not -------------------------------------------------------------------------------------
def test_what_was_said_before_the_agent_was_heard_is_no_remark_over_it() -> None:
    """The greeting comes within the silence that ends the caller's sentence: the sentence waits, and is answered."""
    scene = (
        Scene(VOICE).at(1.0, Say("Good evening.")).voice(1.25, 2.25).at(2.5, AudioArrived(1)).at(2.625, OnWire(1, 4))
    )
    assert not kinds(scene.until(3.5), do.DropUser, do.CommitUser)
    assert kinds(scene.at(3.75, Produced(1)).at(4.0, Drained(1)), do.DropUser, do.CommitUser) == [("CommitUser", 4.0)]


def test_a_cough_over_the_agent_does_not_take_along_what_waits_for_an_answer() -> None:
    scene = Scene(VOICE).at(1.0, Say("Good evening.")).voice(1.25, 2.25).until(3.0)
    scene.at(3.25, AudioArrived(1)).at(3.5, OnWire(1, 6.0)).voice(4.0, 4.0 + LAG / 2).until(5.0)
    assert not kinds(scene, do.DropUser, do.CommitUser)
    assert kinds(scene.at(5.5, Produced(1)).at(6.0, Drained(1)), do.DropUser, do.CommitUser) == [("CommitUser", 6.0)]


# A voice that goes on after the engine has ended the turn -------------------------------------------------------------
def test_a_voice_that_went_on_after_the_engine_ended_the_turn_is_an_utterance_of_its_own() -> None:
    """Nothing but its end tells of it: it joins the question, whose answer was not heard."""
    scene = Scene(ENDS).at(1.125, VoiceStarted(1.0)).at(2.0, OVER)
    scene.then()
    scene.at(3.125, VoiceEnded(3.0))
    assert scene.events() == [
        do.UserSpeechStarted(3.125, 2.0),
        do.UserSpeechEnded(3.125, 3.0, 1.0),
    ]
    assert scene.at(3.5, OVER).events() == [
        do.CutReply(3.5, 1, 1, opened=False, started=False, reason="retracted"),
        do.CommitUser(3.5, 2, "", "vad_silence", 0.5, replaces=True),
        do.StartReply(3.5, 2, 2),
    ]


def test_a_voice_that_went_on_over_the_answer_for_long_enough_interrupts_it_as_soon_as_it_is_known() -> None:
    scene = Scene(ENDS).at(1.125, VoiceStarted(1.0)).at(2.0, OVER).at(2.25, AudioArrived(1)).at(2.5, OnWire(1, 9.0))
    scene.then()
    scene.at(3.125, VoiceEnded(3.0)).at(3.5, OVER)
    assert scene.events() == [
        do.UserSpeechStarted(3.125, 2.0),
        do.CutReply(3.125, 1, 1, opened=True, started=True, reason="barge-in"),
        do.UserSpeechEnded(3.125, 3.0, 1.0),
        do.CommitUser(3.5, 2, "", "vad_silence", 0.5),
        do.StartReply(3.5, 2, 2),
    ]


def test_a_voice_that_went_on_over_the_answer_for_a_moment_is_a_remark() -> None:
    scene = Scene(ENDS).at(1.125, VoiceStarted(1.0)).at(2.0, OVER).at(2.0625, AudioArrived(1)).at(2.125, OnWire(1, 9.0))
    scene.then()
    scene.at(2.25, VoiceEnded(2.125)).at(2.5, OVER)
    assert kinds(scene, do.CutReply, do.DropUser, do.CommitUser) == [("DropUser", 2.5)]


def test_two_turns_within_one_voice_with_the_answer_heard_between_them() -> None:
    scene = Scene(ENDS).at(1.125, VoiceStarted(1.0)).at(2.0, OVER).at(2.25, AudioArrived(1)).at(2.5, OnWire(1, 9.0))
    scene.then()
    assert scene.at(4.0, OVER).events() == [
        do.UserSpeechStarted(4.0, 2.0),
        do.CutReply(4.0, 1, 1, opened=True, started=True, reason="barge-in"),
        do.UserSpeechEnded(4.0, 4.0, 2.0),
        do.CommitUser(4.0, 2, "", "vad_silence", 0.0),
        do.StartReply(4.0, 2, 2),
    ]
    assert not scene.at(4.25, VoiceEnded(3.75)).events()


# The plain way --------------------------------------------------------------------------------------------------------
def test_a_turn_without_a_word_from_voice_to_answer() -> None:
    """It is over after the usual silence; nothing is waited for as for a recogniser's final words."""
    scene = Scene(VOICE).at(1.125, VoiceStarted(1.0, 0.9)).at(2.125, VoiceEnded(2.0)).until(2.5)
    assert scene.then() == [
        do.StateChanged(1.125, "speaking", "idle"),
        do.UserSpeechStarted(1.125, 1.0, 0.9),
        do.StateChanged(2.125, "listening", "idle"),
        do.UserSpeechEnded(2.125, 2.0, 1.0),
        do.StateChanged(2.5, "listening", "thinking"),
        do.CommitUser(2.5, 1, "", "vad_silence", 0.5),
        do.StartReply(2.5, 1, 1),
    ]


def test_a_voice_with_a_pause_in_it_is_one_utterance() -> None:
    scene = Scene(VOICE).voice(1.0, 2.0).voice(2.25, 3.0).until(4.0)
    assert commits(scene) == [do.CommitUser(3.5, 1, "", "vad_silence", 0.5)]


def test_what_the_caller_adds_before_the_answer_is_heard_joins_the_question() -> None:
    """That the voice begins only keeps the answer back; it is taken back when the addition is over."""
    scene = asked().at(2.625, VoiceStarted(2.5625)).at(2.75, AudioArrived(1))
    scene.then()
    assert scene.at(3.625, VoiceEnded(3.5)).until(4.0).events() == [
        do.UserSpeechEnded(3.625, 3.5, 0.9375),
        do.CutReply(4.0, 1, 1, opened=False, started=False, reason="retracted"),
        do.CommitUser(4.0, 2, "", "vad_silence", 0.5, replaces=True),
        do.StartReply(4.0, 2, 2),
    ]


def test_an_answer_that_was_heard_is_not_replaced_by_what_interrupts_it() -> None:
    scene = asked().at(2.75, AudioArrived(1)).at(3.0, OnWire(1, 9.0))
    scene.then()
    scene.at(4.125, VoiceStarted(4.0)).until(4.5).at(5.125, VoiceEnded(5.0)).until(5.5)
    assert scene.events() == [
        do.UserSpeechStarted(4.125, 4.0),
        do.CutReply(4.25, 1, 1, opened=True, started=True, reason="barge-in"),
        do.UserSpeechEnded(5.125, 5.0, 1.0),
        do.CommitUser(5.5, 2, "", "vad_silence", 0.5),
        do.StartReply(5.5, 2, 2),
    ]


def test_a_turn_detector_is_heeded_beside_it() -> None:
    scene = Scene(VOICE, detector=True).voice(1.0, 2.0).at(2.1875, Verdict(1, 0.9))
    assert commits(scene) == [do.CommitUser(2.1875, 1, "", "semantic_turn_detector", 0.1875)]
    held = Scene(VOICE, detector=True).voice(1.0, 2.0).at(2.1875, Verdict(1, 0.1)).until(9.0)
    assert commits(held) == [do.CommitUser(2.0 + POLICY.hold, 1, "", "vad_silence", POLICY.hold)]


# Over the agent -------------------------------------------------------------------------------------------------------
def test_a_cough_over_the_agent_is_dropped_after_the_silence_that_ends_an_utterance() -> None:
    scene = asked().at(2.75, AudioArrived(1)).at(3.0, OnWire(1, 9.0))
    scene.then()
    scene.at(4.125, VoiceStarted(4.0)).at(4.21875, VoiceEnded(4.125)).until(6.0)
    assert scene.events() == [
        do.UserSpeechStarted(4.125, 4.0),
        do.UserSpeechEnded(4.21875, 4.125, 0.125),
        do.DropUser(4.625),
    ]
    scene.at(7.0, Produced(1)).at(9.0, Drained(1))
    assert scene.events() == [do.FinishReply(9.0, 1, 1, started=True)]
    assert scene.machine.deadline == math.inf


def test_what_is_said_over_an_agent_who_may_not_be_interrupted_is_answered_after_it() -> None:
    scene = Scene(VOICE).at(1.0, Say("This call is recorded.", interruptible=False)).at(1.25, AudioArrived(1))
    scene.at(1.5, OnWire(1, 6.0)).then()
    scene.voice(2.0, 2.0 + LAG).until(5.0).at(5.5, Produced(1)).at(6.0, Drained(1))
    assert scene.events() == [
        do.UserSpeechStarted(2.125, 2.0),
        do.UserSpeechEnded(2.25, 2.125, 0.125),
        do.FinishReply(6.0, 1, 0, started=True),
        do.CommitUser(6.0, 1, "", "vad_silence", 3.875),
        do.StartReply(6.0, 2, 1),
    ]


def test_where_barge_in_is_off_a_voice_over_the_agent_is_answered_after_it() -> None:
    scene = asked(attrs.evolve(VOICE, overlap=math.inf)).at(2.75, AudioArrived(1)).at(3.0, OnWire(1, 9.0))
    scene.then()
    scene.voice(4.0, 6.0).at(8.0, Produced(1)).at(9.0, Drained(1))
    assert kinds(scene, do.CutReply, do.DropUser, do.CommitUser) == [("CommitUser", 9.0)]


def test_a_cough_at_the_end_of_what_the_agent_says_is_answered() -> None:
    """Nobody is interrupted any more when it is decided about."""
    scene = asked().at(2.75, AudioArrived(1)).at(3.0, OnWire(1, 4.375), Produced(1))
    scene.then()
    scene.at(4.125, VoiceStarted(4.0)).at(4.21875, VoiceEnded(4.125)).at(4.375, Drained(1)).until(6.0)
    assert commits(scene) == [do.CommitUser(4.625, 2, "", "vad_silence", 0.5)]


def test_while_what_the_application_wants_said_is_on_its_way_the_caller_waits_for_it() -> None:
    """The text is never thrown away unheard; not even for an utterance that the engine says is over."""
    scene = Scene(ENDS).at(1.0, Say("Your taxi is here.")).voice(1.25, 2.25).at(2.75, OVER).until(14.0)
    assert scene.events() == [
        do.StartReply(1.0, 1, 0, "Your taxi is here."),
        do.UserSpeechStarted(1.375, 1.25),
        do.UserSpeechEnded(2.375, 2.25, 1.0),
    ]
    scene.at(14.25, AudioArrived(1)).at(14.5, OnWire(1, 15.5), Produced(1)).at(15.5, Drained(1))
    assert scene.events() == [
        do.ReportAudio(14.25, 1, 0),
        do.OpenPlayout(14.25, 1),
        do.ReportAgentStarted(14.5, 1, 0),
        do.FinishReply(15.5, 1, 0, started=True),
        do.CommitUser(15.5, 1, "", "vad_silence", 13.25),
        do.StartReply(15.5, 2, 1),
    ]


# An engine that ends turns --------------------------------------------------------------------------------------------
@pytest.mark.parametrize("name", ["vad_silence", "semantic_turn_detector"])
def test_an_end_of_turn_by_the_engine_commits_at_once_and_by_its_name(name: do.EouTrigger) -> None:
    scene = Scene(attrs.evolve(ENDS, early_trigger=name)).voice(1.0, 2.0).at(2.25, OVER)
    assert commits(scene) == [do.CommitUser(2.25, 1, "", name, 0.25)]


def test_an_end_of_turn_before_the_voice_detector_knows_ends_the_voice_too() -> None:
    scene = Scene(ENDS).at(1.125, VoiceStarted(1.0)).at(2.25, OVER)
    assert scene.events() == [
        do.UserSpeechStarted(1.125, 1.0),
        do.UserSpeechEnded(2.25, 2.25, 1.25),
        do.CommitUser(2.25, 1, "", "vad_silence", 0.0),
        do.StartReply(2.25, 1, 1),
    ]
    assert not scene.at(2.5, VoiceEnded(2.0)).until(2.75).then()


def test_two_ends_of_turn_within_one_voice_are_one_question_while_no_answer_is_heard() -> None:
    scene = Scene(ENDS).at(1.125, VoiceStarted(1.0)).at(2.0, OVER)
    scene.then()
    assert scene.at(3.0, OVER).events() == [
        do.UserSpeechStarted(3.0, 2.0),
        do.UserSpeechEnded(3.0, 3.0, 1.0),
        do.CutReply(3.0, 1, 1, opened=False, started=False, reason="retracted"),
        do.CommitUser(3.0, 2, "", "vad_silence", 0.0, replaces=True),
        do.StartReply(3.0, 2, 2),
    ]
    assert not scene.at(3.25, VoiceEnded(2.75)).until(3.5).then()


def test_a_turn_in_which_the_voice_detector_noticed_no_voice_is_answered() -> None:
    scene = Scene(ENDS).at(1.0, OVER)
    assert scene.events() == [
        do.UserSpeechStarted(1.0, 1.0),
        do.UserSpeechEnded(1.0, 1.0, 0.0),
        do.CommitUser(1.0, 1, "", "vad_silence", 0.0),
        do.StartReply(1.0, 1, 1),
    ]


def test_such_a_turn_over_the_agent_is_dropped_however_long_the_last_one_is_past() -> None:
    """What the engine alone hears while the agent speaks may be the agent's own echo."""
    scene = Scene(ENDS).at(1.0, OVER).at(1.25, AudioArrived(1)).at(1.5, OnWire(1, 9.0)).at(2.0, OVER).at(4.0, OVER)
    assert kinds(scene, do.CutReply, do.DropUser) == [("DropUser", 2.0), ("DropUser", 4.0)]


def test_an_utterance_of_which_the_engine_never_says_that_it_is_over_is_over_after_the_long_silence() -> None:
    scene = Scene(ENDS).voice(1.0, 2.0).until(30.0)
    assert commits(scene) == [do.CommitUser(12.0, 1, "", "vad_silence", 10.0)]
    semantic = Scene(attrs.evolve(ENDS, early_trigger="semantic_turn_detector")).voice(1.0, 2.0).until(30.0)
    assert commits(semantic) == [do.CommitUser(12.0, 1, "", "vad_silence", 10.0)]


# Voices without an end, calls without a caller ------------------------------------------------------------------------
def test_a_voice_that_does_not_end_is_an_utterance_after_a_minute() -> None:
    scene = Scene(VOICE).at(1.0, VoiceStarted(1.0)).until(70.0)
    assert scene.events() == [
        do.UserSpeechStarted(1.0, 1.0),
        do.UserSpeechEnded(61.0, 61.0, 60.0),
        do.CommitUser(61.5, 1, "", "vad_silence", 0.5),
        do.StartReply(61.5, 1, 1),
    ]


def test_a_caller_who_leaves_in_mid_voice_leaves_no_utterance_behind() -> None:
    scene = Scene(VOICE).at(1.125, VoiceStarted(1.0)).at(2.0, LegDown("caller_hung_up"))
    assert scene.until(9.0).events() == [
        do.UserSpeechStarted(1.125, 1.0),
        do.FlushRecognizer(2.0),
        do.EndCall(2.75, "caller_hung_up"),
    ]


def test_a_voice_that_ends_when_the_caller_has_left_belongs_to_the_end_of_the_call() -> None:
    scene = Scene(ENDS).at(1.125, VoiceStarted(1.0)).at(2.0, LegDown("caller_hung_up"))
    scene.then()
    assert scene.at(2.25, OVER).at(2.5, Flushed()).events() == [
        do.UserSpeechEnded(2.25, 2.25, 1.25),
        do.AppendUser(2.5, ""),
        do.EndCall(2.5, "caller_hung_up"),
    ]
