"""An STT provider that detects the end of a turn itself: what the machine decides, at which instant."""

from __future__ import annotations

import pytest

from patter_trio.conversation import actions as do
from patter_trio.conversation.inputs import (
    AudioArrived,
    FinalWords,
    InterimWords,
    OnWire,
    Verdict,
    VoiceEnded,
    VoiceStarted,
)
from tests.conversation.test_turn_scenarios import POLICY, Scene


def commits(scene: Scene) -> list[tuple[float, str, str]]:
    """When what was committed, and why."""
    return [(act.at, act.text, act.trigger) for act in scene.events() if isinstance(act, do.CommitUser)]


def test_its_end_of_turn_commits_at_once() -> None:
    """Final words that end the turn are committed at once, without the endpointing silence."""
    scene = Scene().voice(1.0, 2.0).at(2.25, FinalWords("hello", 1, finished=True))
    assert commits(scene) == [(2.25, "hello", "semantic_turn_detector")]


def test_stt_end_of_turn_is_trigger_after_silence() -> None:
    """The STT's end of turn is the trigger even when it comes after the endpointing silence."""
    scene = Scene().voice(1.0, 2.0).at(1.5, InterimWords("hel", 1)).at(3.0, FinalWords("hello", 1, finished=True))
    assert commits(scene) == [(3.0, "hello", "semantic_turn_detector")]


def test_stt_end_of_turn_ends_unfinished_voice() -> None:
    """The STT's end of turn ends a voice that the VAD still reports, and the VAD's later end adds nothing."""
    scene = (
        Scene()
        .at(1.125, VoiceStarted(1.0))
        .at(1.5, InterimWords("hel", 1))
        .at(2.25, FinalWords("hello", 1, finished=True))
    )
    reported = [act for act in scene.events() if isinstance(act, do.EmitSpeechEnded | do.CommitUser)]
    assert reported == [
        do.EmitSpeechEnded(2.25, 2.25, 1.25),
        do.CommitUser(2.25, 1, "hello", "semantic_turn_detector", 0.0),
    ]
    assert not commits(scene.at(2.5, VoiceEnded(2.0)).until(2.75))
    assert scene.machine.turn == 1


def test_late_end_of_turn_spares_new_voice() -> None:
    """An end of turn that comes late does not end the voice that has begun since."""
    scene = Scene().voice(1.0, 2.0).at(1.5, InterimWords("hello", 1)).at(2.25, VoiceStarted(2.125))
    scene.at(2.375, FinalWords("hello", 1, finished=True)).at(2.75, InterimWords("and", 2)).until(3.0)
    assert not commits(scene)
    scene.at(3.125, VoiceEnded(3.0)).at(3.25, FinalWords("and more", 2, finished=True))
    assert commits(scene) == [(3.25, "hello and more", "semantic_turn_detector")]


def test_probable_end_commits_interim_after_endpoint() -> None:
    """A probable end of turn commits interim words after the endpointing silence, and the final adds nothing."""
    scene = Scene().voice(1.0, 2.0).at(2.25, InterimWords("hello", 1, finished=True)).until(4.0)
    assert commits(scene) == [(2.0 + POLICY.endpoint, "hello", "semantic_turn_detector")]
    assert not commits(scene.at(4.125, FinalWords("hello", 1, finished=True)).until(6.0))


def test_probable_end_counts_from_voice_end() -> None:
    """A probable end of turn that comes during the voice counts from the end of the voice."""
    scene = (
        Scene()
        .at(1.125, VoiceStarted(1.0))
        .at(2.0, InterimWords("hello", 1, finished=True))
        .at(2.25, VoiceEnded(2.125))
    )
    assert commits(scene.until(4.0)) == [(2.125 + POLICY.endpoint, "hello", "semantic_turn_detector")]


def test_withdrawn_probable_end_holds_utterance_open() -> None:
    """A probable end of turn that the STT withdraws holds the utterance open."""
    scene = Scene().voice(1.0, 2.0).at(2.25, InterimWords("my number", 1, finished=True))
    scene.at(2.375, FinalWords("my number", 1, finished=False)).at(2.5, InterimWords("is", 2))
    assert not commits(scene.until(3.75))
    assert commits(scene.at(3.875, FinalWords("is nine", 2, finished=True))) == [
        (3.875, "my number is nine", "semantic_turn_detector")
    ]


def test_missing_stt_end_of_turn_uses_hold() -> None:
    """An utterance that the STT never ends is held for as long as a turn detector would hold it."""
    scene = Scene().voice(1.0, 2.0).at(2.25, FinalWords("my number", 1, finished=False)).until(6.0)
    assert commits(scene) == [(2.0 + POLICY.hold, "my number", "vad_silence")]


def test_end_of_turn_without_words_commits_earlier_ones() -> None:
    """An end of turn without new words commits the words that came before it."""
    scene = (
        Scene()
        .voice(1.0, 2.0)
        .at(2.25, FinalWords("hello", 1, finished=False))
        .at(2.5, FinalWords("", 2, finished=True))
    )
    assert commits(scene) == [(2.5, "hello", "semantic_turn_detector")]


def test_an_end_without_any_words_commits_nothing() -> None:
    """An end of turn without any words commits nothing."""
    scene = Scene().voice(1.0, 2.0).at(2.25, FinalWords("", 1, finished=True)).until(9.0)
    assert not commits(scene)
    assert scene.machine.user_state == "listening"


def test_end_of_turn_without_voice_commits_at_once() -> None:
    """Words that end a turn are committed at once even if the VAD noticed no voice."""
    scene = Scene().at(1.0, FinalWords("hello", 1, finished=True))
    assert commits(scene) == [(1.0, "hello", "semantic_turn_detector")]


def test_resumed_words_retract_unheard_answer() -> None:
    """Words that continue after a commit retract the unheard answer and join its question."""
    scene = Scene().voice(1.0, 2.0).at(2.25, InterimWords("my number", 1, finished=True)).until(2.5)
    scene.at(2.625, FinalWords("my number", 1, finished=False), InterimWords("is", 2))
    cut = [act.reason for act in scene.out if isinstance(act, do.CutReply)]
    assert cut == ["retracted"]
    scene.at(3.0, FinalWords("is nine", 2, finished=True))
    assert [text for _, text, _ in commits(scene)] == ["my number", "my number is nine"]


@pytest.mark.parametrize("complete", [0.0, 1.0])
def test_stt_end_of_turn_overrules_turn_detector(complete: float) -> None:
    """The STT's end of turn decides over the verdict of a turn detector."""
    scene = (
        Scene(detector=True)
        .voice(1.0, 2.0)
        .at(2.125, Verdict(1, complete))
        .at(2.15625, FinalWords("hi", 1, finished=True))
    )
    assert commits(scene) == [(2.15625, "hi", "semantic_turn_detector")]


def test_end_of_turn_over_agent_waits_for_agent() -> None:
    """Words that end a turn over the agent without a detected voice are not committed while the agent speaks."""
    scene = Scene().asks().at(2.75, AudioArrived(1)).at(3.0, OnWire(1))
    scene.then()
    scene.at(4.0, FinalWords("never mind", 2, finished=True))
    assert not commits(scene)


def test_voice_after_end_of_turn_interrupts_answer() -> None:
    """Words after an end of turn in a voice that never paused interrupt the answer after 250 ms."""
    scene = (
        Scene()
        .at(1.125, VoiceStarted(1.0))
        .at(1.5, InterimWords("hel", 1))
        .at(2.0, FinalWords("hello", 1, finished=True))
    )
    scene.at(2.125, AudioArrived(1)).at(2.25, OnWire(1))
    scene.then()
    scene.at(2.5, InterimWords("wait", 2)).until(3.0)
    reported = [act for act in scene.events() if isinstance(act, do.EmitSpeechStarted | do.CutReply)]
    assert [type(act).__name__ for act in reported] == ["EmitSpeechStarted", "CutReply"]
    assert reported[1].at == 2.5 + POLICY.overlap
    scene.at(3.25, VoiceEnded(3.125)).at(3.375, FinalWords("wait a moment", 2, finished=True))
    assert commits(scene) == [(3.375, "wait a moment", "semantic_turn_detector")]


def test_words_after_voice_end_start_no_voice() -> None:
    """Words that come after the VAD has ended the voice begin no new voice."""
    scene = (
        Scene()
        .at(1.125, VoiceStarted(1.0))
        .at(1.5, InterimWords("hel", 1))
        .at(2.0, FinalWords("hello", 1, finished=True))
    )
    scene.at(2.25, VoiceEnded(1.875)).at(2.5, InterimWords("wait", 2))
    assert not [act for act in scene.events() if isinstance(act, do.EmitSpeechStarted) and act.at > 2]
    assert scene.machine.user_state == "listening"
