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
"""An engine that needs a commit when a turn is over."""
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
def test_speech_before_audible_greeting_is_answered() -> None:
    """Speech that ends as the greeting becomes audible waits for the greeting's end and is answered."""
    scene = Scene(VOICE).at(1.0, Say("Good evening.")).voice(1.25, 2.25).at(2.5, AudioArrived(1)).at(2.625, OnWire(1))
    assert not kinds(scene.until(3.5), do.DropUser, do.CommitUser)
    assert kinds(scene.at(3.75, Produced(1)).at(4.0, Drained(1)), do.DropUser, do.CommitUser) == [("CommitUser", 4.0)]


def test_cough_over_agent_keeps_waiting_utterance() -> None:
    """A cough over the agent does not drop the utterance that waits for an answer."""
    scene = Scene(VOICE).at(1.0, Say("Good evening.")).voice(1.25, 2.25).until(3.0)
    scene.at(3.25, AudioArrived(1)).at(3.5, OnWire(1)).voice(4.0, 4.0 + LAG / 2).until(5.0)
    assert not kinds(scene, do.DropUser, do.CommitUser)
    assert kinds(scene.at(5.5, Produced(1)).at(6.0, Drained(1)), do.DropUser, do.CommitUser) == [("CommitUser", 6.0)]


# A voice that goes on after the engine has ended the turn -------------------------------------------------------------
def test_continued_voice_becomes_its_own_utterance() -> None:
    """A voice that goes on after the engine's end of turn joins the question whose answer is unheard."""
    scene = Scene(ENDS).at(1.125, VoiceStarted(1.0)).at(2.0, OVER)
    scene.then()
    scene.at(3.125, VoiceEnded(3.0))
    assert scene.events() == [
        do.EmitSpeechStarted(3.125, 2.0),
        do.EmitSpeechEnded(3.125, 3.0, 1.0),
    ]
    assert scene.at(3.5, OVER).events() == [
        do.CutReply(3.5, 1, 1, opened=False, started=False, reason="retracted"),
        do.CommitUser(3.5, 2, "", "vad_silence", 0.5, replaces=True),
        do.StartReply(3.5, 2, 2),
    ]


def test_long_continued_voice_interrupts_the_answer() -> None:
    """A voice that continued long enough over the answer interrupts it as soon as its end is known."""
    scene = Scene(ENDS).at(1.125, VoiceStarted(1.0)).at(2.0, OVER).at(2.25, AudioArrived(1)).at(2.5, OnWire(1))
    scene.then()
    scene.at(3.125, VoiceEnded(3.0)).at(3.5, OVER)
    assert scene.events() == [
        do.EmitSpeechStarted(3.125, 2.0),
        do.CutReply(3.125, 1, 1, opened=True, started=True, reason="barge-in"),
        do.EmitSpeechEnded(3.125, 3.0, 1.0),
        do.CommitUser(3.5, 2, "", "vad_silence", 0.5),
        do.StartReply(3.5, 2, 2),
    ]


def test_brief_continued_voice_is_dropped() -> None:
    """A voice that continued over the answer only for a moment is dropped as a remark."""
    scene = Scene(ENDS).at(1.125, VoiceStarted(1.0)).at(2.0, OVER).at(2.0625, AudioArrived(1)).at(2.125, OnWire(1))
    scene.then()
    scene.at(2.25, VoiceEnded(2.125)).at(2.5, OVER)
    assert kinds(scene, do.CutReply, do.DropUser, do.CommitUser) == [("DropUser", 2.5)]


def test_second_end_of_turn_interrupts_heard_answer() -> None:
    """A second end of turn within one voice interrupts the answer that the caller already hears."""
    scene = Scene(ENDS).at(1.125, VoiceStarted(1.0)).at(2.0, OVER).at(2.25, AudioArrived(1)).at(2.5, OnWire(1))
    scene.then()
    assert scene.at(4.0, OVER).events() == [
        do.EmitSpeechStarted(4.0, 2.0),
        do.CutReply(4.0, 1, 1, opened=True, started=True, reason="barge-in"),
        do.EmitSpeechEnded(4.0, 4.0, 2.0),
        do.CommitUser(4.0, 2, "", "vad_silence", 0.0),
        do.StartReply(4.0, 2, 2),
    ]
    assert not scene.at(4.25, VoiceEnded(3.75)).events()


# The plain way --------------------------------------------------------------------------------------------------------
def test_wordless_turn_runs_from_voice_to_answer() -> None:
    """A voice without words is committed after 0.5 s of silence, with no wait for final words."""
    scene = Scene(VOICE).at(1.125, VoiceStarted(1.0, 0.9)).at(2.125, VoiceEnded(2.0)).until(2.5)
    assert scene.then() == [
        do.StateChanged(1.125, "speaking", "idle"),
        do.EmitSpeechStarted(1.125, 1.0, 0.9),
        do.StateChanged(2.125, "listening", "idle"),
        do.EmitSpeechEnded(2.125, 2.0, 1.0),
        do.StateChanged(2.5, "listening", "thinking"),
        do.CommitUser(2.5, 1, "", "vad_silence", 0.5),
        do.StartReply(2.5, 1, 1),
    ]


def test_voice_with_pause_is_one_utterance() -> None:
    """A voice with a short pause in it is one utterance."""
    scene = Scene(VOICE).voice(1.0, 2.0).voice(2.25, 3.0).until(4.0)
    assert commits(scene) == [do.CommitUser(3.5, 1, "", "vad_silence", 0.5)]


def test_addition_before_audible_answer_joins_question() -> None:
    """A voice before the answer is audible holds the answer back, and its end retracts the answer."""
    scene = asked().at(2.625, VoiceStarted(2.5625)).at(2.75, AudioArrived(1))
    scene.then()
    assert scene.at(3.625, VoiceEnded(3.5)).until(4.0).events() == [
        do.EmitSpeechEnded(3.625, 3.5, 0.9375),
        do.CutReply(4.0, 1, 1, opened=False, started=False, reason="retracted"),
        do.CommitUser(4.0, 2, "", "vad_silence", 0.5, replaces=True),
        do.StartReply(4.0, 2, 2),
    ]


def test_barge_in_does_not_replace_heard_answer() -> None:
    """An utterance that interrupts an audible answer starts a new turn and does not replace the old one."""
    scene = asked().at(2.75, AudioArrived(1)).at(3.0, OnWire(1))
    scene.then()
    scene.at(4.125, VoiceStarted(4.0)).until(4.5).at(5.125, VoiceEnded(5.0)).until(5.5)
    assert scene.events() == [
        do.EmitSpeechStarted(4.125, 4.0),
        do.CutReply(4.25, 1, 1, opened=True, started=True, reason="barge-in"),
        do.EmitSpeechEnded(5.125, 5.0, 1.0),
        do.CommitUser(5.5, 2, "", "vad_silence", 0.5),
        do.StartReply(5.5, 2, 2),
    ]


def test_a_turn_detector_is_heeded_beside_it() -> None:
    """A turn detector beside an engine commits a sure end after 0.19 s and holds an unsure one for 2 s."""
    scene = Scene(VOICE, detector=True).voice(1.0, 2.0).at(2.1875, Verdict(1, 0.9))
    assert commits(scene) == [do.CommitUser(2.1875, 1, "", "semantic_turn_detector", 0.1875)]
    held = Scene(VOICE, detector=True).voice(1.0, 2.0).at(2.1875, Verdict(1, 0.1)).until(9.0)
    assert commits(held) == [do.CommitUser(2.0 + POLICY.hold, 1, "", "vad_silence", POLICY.hold)]


# Over the agent -------------------------------------------------------------------------------------------------------
def test_cough_over_agent_is_dropped_after_endpoint() -> None:
    """A cough over the agent is dropped after the endpointing silence, and the reply finishes."""
    scene = asked().at(2.75, AudioArrived(1)).at(3.0, OnWire(1))
    scene.then()
    scene.at(4.125, VoiceStarted(4.0)).at(4.21875, VoiceEnded(4.125)).until(6.0)
    assert scene.events() == [
        do.EmitSpeechStarted(4.125, 4.0),
        do.EmitSpeechEnded(4.21875, 4.125, 0.125),
        do.DropUser(4.625),
    ]
    scene.at(7.0, Produced(1)).at(9.0, Drained(1))
    assert scene.events() == [do.FinishReply(9.0, 1, 1, started=True)]
    assert scene.machine.deadline == math.inf


def test_speech_over_uninterruptible_agent_is_answered_after() -> None:
    """Speech over an uninterruptible agent is answered after the agent has finished."""
    scene = Scene(VOICE).at(1.0, Say("This call is recorded.", interruptible=False)).at(1.25, AudioArrived(1))
    scene.at(1.5, OnWire(1)).then()
    scene.voice(2.0, 2.0 + LAG).until(5.0).at(5.5, Produced(1)).at(6.0, Drained(1))
    assert scene.events() == [
        do.EmitSpeechStarted(2.125, 2.0),
        do.EmitSpeechEnded(2.25, 2.125, 0.125),
        do.FinishReply(6.0, 1, 0, started=True),
        do.CommitUser(6.0, 1, "", "vad_silence", 3.875),
        do.StartReply(6.0, 2, 1),
    ]


def test_speech_with_barge_in_off_is_answered_after() -> None:
    """With barge-in off, speech over the agent is answered after the agent has finished."""
    scene = asked(attrs.evolve(VOICE, overlap=math.inf)).at(2.75, AudioArrived(1)).at(3.0, OnWire(1))
    scene.then()
    scene.voice(4.0, 6.0).at(8.0, Produced(1)).at(9.0, Drained(1))
    assert kinds(scene, do.CutReply, do.DropUser, do.CommitUser) == [("CommitUser", 9.0)]


def test_cough_at_reply_end_is_answered() -> None:
    """A cough during the reply whose endpoint comes after the reply's end is committed."""
    scene = asked().at(2.75, AudioArrived(1)).at(3.0, OnWire(1), Produced(1))
    scene.then()
    scene.at(4.125, VoiceStarted(4.0)).at(4.21875, VoiceEnded(4.125)).at(4.375, Drained(1)).until(6.0)
    assert commits(scene) == [do.CommitUser(4.625, 2, "", "vad_silence", 0.5)]


def test_queued_say_delays_the_callers_answer() -> None:
    """A say that begins before the caller's turn is played first, although the turn waits 13.25 s for its commit."""
    scene = Scene(ENDS).at(1.0, Say("Your taxi is here.")).voice(1.25, 2.25).at(2.75, OVER).until(14.0)
    assert scene.events() == [
        do.StartReply(1.0, 1, 0, "Your taxi is here."),
        do.EmitSpeechStarted(1.375, 1.25),
        do.EmitSpeechEnded(2.375, 2.25, 1.0),
    ]
    scene.at(14.25, AudioArrived(1)).at(14.5, OnWire(1), Produced(1)).at(15.5, Drained(1))
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
def test_engine_end_of_turn_commits_with_its_trigger(name: do.EouTrigger) -> None:
    """The engine's end of turn commits at once, with the trigger that the policy names."""
    scene = Scene(attrs.evolve(ENDS, early_trigger=name)).voice(1.0, 2.0).at(2.25, OVER)
    assert commits(scene) == [do.CommitUser(2.25, 1, "", name, 0.25)]


def test_engine_end_of_turn_ends_unfinished_voice() -> None:
    """The engine's end of turn ends a voice that the VAD still reports, and the VAD's later end adds nothing."""
    scene = Scene(ENDS).at(1.125, VoiceStarted(1.0)).at(2.25, OVER)
    assert scene.events() == [
        do.EmitSpeechStarted(1.125, 1.0),
        do.EmitSpeechEnded(2.25, 2.25, 1.25),
        do.CommitUser(2.25, 1, "", "vad_silence", 0.0),
        do.StartReply(2.25, 1, 1),
    ]
    assert not scene.at(2.5, VoiceEnded(2.0)).until(2.75).then()


def test_two_ends_of_turn_join_unheard_answer() -> None:
    """Two ends of turn within one voice form one question while the answer is unheard."""
    scene = Scene(ENDS).at(1.125, VoiceStarted(1.0)).at(2.0, OVER)
    scene.then()
    assert scene.at(3.0, OVER).events() == [
        do.EmitSpeechStarted(3.0, 2.0),
        do.EmitSpeechEnded(3.0, 3.0, 1.0),
        do.CutReply(3.0, 1, 1, opened=False, started=False, reason="retracted"),
        do.CommitUser(3.0, 2, "", "vad_silence", 0.0, replaces=True),
        do.StartReply(3.0, 2, 2),
    ]
    assert not scene.at(3.25, VoiceEnded(2.75)).until(3.5).then()


def test_end_of_turn_without_vad_is_answered() -> None:
    """A turn that the engine ends is answered even if the VAD noticed no voice."""
    scene = Scene(ENDS).at(1.0, OVER)
    assert scene.events() == [
        do.EmitSpeechStarted(1.0, 1.0),
        do.EmitSpeechEnded(1.0, 1.0, 0.0),
        do.CommitUser(1.0, 1, "", "vad_silence", 0.0),
        do.StartReply(1.0, 1, 1),
    ]


def test_turn_without_vad_over_agent_is_dropped() -> None:
    """An end of turn over the speaking agent without a voice of the VAD is dropped: it may be an echo."""
    scene = Scene(ENDS).at(1.0, OVER).at(1.25, AudioArrived(1)).at(1.5, OnWire(1)).at(2.0, OVER).at(4.0, OVER)
    assert kinds(scene, do.CutReply, do.DropUser) == [("DropUser", 2.0), ("DropUser", 4.0)]


def test_missing_end_of_turn_commits_after_long_silence() -> None:
    """An utterance without an end of turn from the engine is committed after the long silence."""
    scene = Scene(ENDS).voice(1.0, 2.0).until(30.0)
    assert commits(scene) == [do.CommitUser(12.0, 1, "", "vad_silence", 10.0)]
    semantic = Scene(attrs.evolve(ENDS, early_trigger="semantic_turn_detector")).voice(1.0, 2.0).until(30.0)
    assert commits(semantic) == [do.CommitUser(12.0, 1, "", "vad_silence", 10.0)]


# Voices without an end, calls without a caller ------------------------------------------------------------------------
def test_endless_voice_is_committed_after_a_minute() -> None:
    """A voice that does not end is committed as an utterance after a minute."""
    scene = Scene(VOICE).at(1.0, VoiceStarted(1.0)).until(70.0)
    assert scene.events() == [
        do.EmitSpeechStarted(1.0, 1.0),
        do.EmitSpeechEnded(61.0, 61.0, 60.0),
        do.CommitUser(61.5, 1, "", "vad_silence", 0.5),
        do.StartReply(61.5, 1, 1),
    ]


def test_hang_up_commits_the_voice() -> None:
    """A hang-up in mid voice ends an utterance, and the engine is asked for its words."""
    scene = Scene(VOICE).at(1.125, VoiceStarted(1.0)).at(2.0, LegDown("caller_hung_up"))
    assert scene.until(9.0).events() == [
        do.EmitSpeechStarted(1.125, 1.0),
        do.EmitSpeechEnded(2.0, 2.0, 1.0),
        do.CommitUser(2.0, 1, "", "vad_silence", 0.0),
        do.FlushTranscripts(2.0),
        do.EndCall(2.75, "caller_hung_up"),
    ]


def test_end_of_turn_after_hang_up_adds_nothing() -> None:
    """An end of turn that the engine reports after the hang-up belongs to the voice that the hang-up ended."""
    scene = Scene(ENDS).at(1.125, VoiceStarted(1.0)).at(2.0, LegDown("caller_hung_up"))
    scene.then()
    assert scene.at(2.25, OVER).at(2.5, Flushed()).events() == [
        do.EndCall(2.5, "caller_hung_up"),
    ]
