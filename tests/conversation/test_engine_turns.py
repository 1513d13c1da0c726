"""An engine that understands speech by itself: words never reach the machine, so that a voice alone is an utterance."""

from __future__ import annotations

import attrs
from test_turn_scenarios import LAG, POLICY, Scene

from patter_trio.conversation import actions as do
from patter_trio.conversation.inputs import (
    AudioArrived,
    Drained,
    Final,
    OnWire,
    Produced,
    Say,
    VoiceEnded,
    VoiceStarted,
)

VOICE = attrs.evolve(POLICY, words=False, stuck=60.0)
"""An engine that is told when a turn is over."""
ENDS = attrs.evolve(VOICE, endpoint=10.0, sure_by="vad_silence")
"""One that says so itself."""
OVER = Final("", finished=True)
"""It has said so."""


class Talk(Scene):
    """A machine that is told nothing but voices."""

    def asks(self, text: str = "", segment: int = 0) -> Talk:
        """A turn from 1 to 2, committed at 2.5."""
        assert not text
        assert not segment
        self.voice(1.0, 2.0).until(2.5)
        return self


def kinds(scene: Scene, *wanted: type[do.Action]) -> list[tuple[str, float]]:
    """Return what was wanted of some kinds, and when."""
    return [(type(act).__name__, act.at) for act in scene.then() if isinstance(act, wanted)]


# What is dropped, and what is not -------------------------------------------------------------------------------------
def test_what_was_said_before_the_agent_was_heard_is_no_remark_over_it() -> None:
    """The greeting comes within the silence that ends the caller's sentence: the sentence waits, and is answered."""
    scene = Talk(VOICE).at(1.0, Say("Good evening.")).voice(1.25, 2.25).at(2.5, AudioArrived(1)).at(2.625, OnWire(1, 4))
    assert not kinds(scene.until(3.5), do.DropUser, do.CommitUser)
    assert kinds(scene.at(3.75, Produced(1)).at(4.0, Drained(1)), do.DropUser, do.CommitUser) == [("CommitUser", 4.0)]


def test_a_cough_over_the_agent_does_not_take_along_what_waits_for_an_answer() -> None:
    scene = Talk(VOICE).at(1.0, Say("Good evening.")).voice(1.25, 2.25).until(3.0)
    scene.at(3.25, AudioArrived(1)).at(3.5, OnWire(1, 6.0)).voice(4.0, 4.0 + LAG / 2).until(5.0)
    assert not kinds(scene, do.DropUser, do.CommitUser)
    assert kinds(scene.at(5.5, Produced(1)).at(6.0, Drained(1)), do.DropUser, do.CommitUser) == [("CommitUser", 6.0)]


# A voice that goes on after the engine has ended the turn -------------------------------------------------------------
def test_a_voice_that_went_on_after_the_engine_ended_the_turn_is_an_utterance_of_its_own() -> None:
    """Nothing but its end tells of it: it joins the question, whose answer was not heard."""
    scene = Talk(ENDS).at(1.125, VoiceStarted(1.0)).at(2.0, OVER)
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
    scene = Talk(ENDS).at(1.125, VoiceStarted(1.0)).at(2.0, OVER).at(2.25, AudioArrived(1)).at(2.5, OnWire(1, 9.0))
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
    scene = Talk(ENDS).at(1.125, VoiceStarted(1.0)).at(2.0, OVER).at(2.0625, AudioArrived(1)).at(2.125, OnWire(1, 9.0))
    scene.then()
    scene.at(2.25, VoiceEnded(2.125)).at(2.5, OVER)
    assert kinds(scene, do.CutReply, do.DropUser, do.CommitUser) == [("DropUser", 2.5)]


def test_two_turns_within_one_voice_with_the_answer_heard_between_them() -> None:
    scene = Talk(ENDS).at(1.125, VoiceStarted(1.0)).at(2.0, OVER).at(2.25, AudioArrived(1)).at(2.5, OnWire(1, 9.0))
    scene.then()
    assert scene.at(4.0, OVER).events() == [
        do.UserSpeechStarted(4.0, 2.0),
        do.CutReply(4.0, 1, 1, opened=True, started=True, reason="barge-in"),
        do.UserSpeechEnded(4.0, 4.0, 2.0),
        do.CommitUser(4.0, 2, "", "vad_silence", 0.0),
        do.StartReply(4.0, 2, 2),
    ]
    assert not scene.at(4.25, VoiceEnded(3.75)).events()
