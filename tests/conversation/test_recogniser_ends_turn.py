"""A recogniser that detects the end of a turn itself: what the machine makes of it, at which instant."""

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
    scene = Scene().voice(1.0, 2.0).at(2.25, FinalWords("hello", 1, finished=True))
    assert commits(scene) == [(2.25, "hello", "semantic_turn_detector")]


def test_its_end_of_turn_is_the_trigger_also_after_the_usual_silence() -> None:
    scene = Scene().voice(1.0, 2.0).at(1.5, InterimWords("hel", 1)).at(3.0, FinalWords("hello", 1, finished=True))
    assert commits(scene) == [(3.0, "hello", "semantic_turn_detector")]


def test_while_the_voice_is_not_known_to_be_over_its_end_of_turn_ends_the_voice_too() -> None:
    scene = (
        Scene()
        .at(1.125, VoiceStarted(1.0))
        .at(1.5, InterimWords("hel", 1))
        .at(2.25, FinalWords("hello", 1, finished=True))
    )
    told = [act for act in scene.events() if isinstance(act, do.UserSpeechEnded | do.CommitUser)]
    assert told == [
        do.UserSpeechEnded(2.25, 2.25, 1.25),
        do.CommitUser(2.25, 1, "hello", "semantic_turn_detector", 0.0),
    ]
    assert not commits(scene.at(2.5, VoiceEnded(2.0)).until(2.75))
    assert scene.machine.turn == 1


def test_an_end_of_turn_told_late_does_not_end_the_voice_that_has_begun_since() -> None:
    scene = Scene().voice(1.0, 2.0).at(1.5, InterimWords("hello", 1)).at(2.25, VoiceStarted(2.125))
    scene.at(2.375, FinalWords("hello", 1, finished=True)).at(2.75, InterimWords("and", 2)).until(3.0)
    assert not commits(scene)
    scene.at(3.125, VoiceEnded(3.0)).at(3.25, FinalWords("and more", 2, finished=True))
    assert commits(scene) == [(3.25, "hello and more", "semantic_turn_detector")]


def test_a_probable_end_needs_no_more_than_the_usual_silence_although_the_words_may_change() -> None:
    scene = Scene().voice(1.0, 2.0).at(2.25, InterimWords("hello", 1, finished=True)).until(4.0)
    assert commits(scene) == [(2.0 + POLICY.endpoint, "hello", "semantic_turn_detector")]
    assert not commits(scene.at(4.125, FinalWords("hello", 1, finished=True)).until(6.0))


def test_a_probable_end_told_while_the_voice_lasts_counts_from_its_end() -> None:
    scene = (
        Scene()
        .at(1.125, VoiceStarted(1.0))
        .at(2.0, InterimWords("hello", 1, finished=True))
        .at(2.25, VoiceEnded(2.125))
    )
    assert commits(scene.until(4.0)) == [(2.125 + POLICY.endpoint, "hello", "semantic_turn_detector")]


def test_a_probable_end_that_is_taken_back_holds_the_utterance_open() -> None:
    scene = Scene().voice(1.0, 2.0).at(2.25, InterimWords("my number", 1, finished=True))
    scene.at(2.375, FinalWords("my number", 1, finished=False)).at(2.5, InterimWords("is", 2))
    assert not commits(scene.until(3.75))
    assert commits(scene.at(3.875, FinalWords("is nine", 2, finished=True))) == [
        (3.875, "my number is nine", "semantic_turn_detector")
    ]


def test_an_utterance_of_which_it_never_says_that_it_is_over_is_held_for_as_long_as_by_a_turn_detector() -> None:
    scene = Scene().voice(1.0, 2.0).at(2.25, FinalWords("my number", 1, finished=False)).until(6.0)
    assert commits(scene) == [(2.0 + POLICY.hold, "my number", "vad_silence")]


def test_an_end_without_new_words_commits_those_that_there_are() -> None:
    scene = (
        Scene()
        .voice(1.0, 2.0)
        .at(2.25, FinalWords("hello", 1, finished=False))
        .at(2.5, FinalWords("", 2, finished=True))
    )
    assert commits(scene) == [(2.5, "hello", "semantic_turn_detector")]


def test_an_end_without_any_words_commits_nothing() -> None:
    scene = Scene().voice(1.0, 2.0).at(2.25, FinalWords("", 1, finished=True)).until(9.0)
    assert not commits(scene)
    assert scene.machine.user_state == "listening"


def test_words_without_a_voice_that_end_a_turn_are_answered_at_once() -> None:
    scene = Scene().at(1.0, FinalWords("hello", 1, finished=True))
    assert commits(scene) == [(1.0, "hello", "semantic_turn_detector")]


def test_when_it_goes_on_after_a_commit_nobody_has_heard_the_answer_is_retracted() -> None:
    scene = Scene().voice(1.0, 2.0).at(2.25, InterimWords("my number", 1, finished=True)).until(2.5)
    scene.at(2.625, FinalWords("my number", 1, finished=False), InterimWords("is", 2))
    cut = [act.reason for act in scene.out if isinstance(act, do.CutReply)]
    assert cut == ["retracted"]
    scene.at(3.0, FinalWords("is nine", 2, finished=True))
    assert [text for _, text, _ in commits(scene)] == ["my number", "my number is nine"]


@pytest.mark.parametrize("complete", [0.0, 1.0])
def test_it_has_the_last_word_over_a_turn_detector(complete: float) -> None:
    scene = (
        Scene(detector=True)
        .voice(1.0, 2.0)
        .at(2.125, Verdict(1, complete))
        .at(2.15625, FinalWords("hi", 1, finished=True))
    )
    assert commits(scene) == [(2.15625, "hi", "semantic_turn_detector")]


def test_its_end_of_turn_over_an_agent_that_may_not_be_interrupted_waits_for_the_agent() -> None:
    scene = Scene().asks().at(2.75, AudioArrived(1)).at(3.0, OnWire(1, 8.0))
    scene.then()
    scene.at(4.0, FinalWords("never mind", 2, finished=True))
    assert not commits(scene)


def test_a_voice_that_goes_on_after_its_end_of_turn_can_interrupt_the_answer() -> None:
    """The voice detector, which needs longer to be sure of silence, never saw the pause: the words tell of the voice."""
    scene = (
        Scene()
        .at(1.125, VoiceStarted(1.0))
        .at(1.5, InterimWords("hel", 1))
        .at(2.0, FinalWords("hello", 1, finished=True))
    )
    scene.at(2.125, AudioArrived(1)).at(2.25, OnWire(1, 8.0))
    scene.then()
    scene.at(2.5, InterimWords("wait", 2)).until(3.0)
    told = [act for act in scene.events() if isinstance(act, do.UserSpeechStarted | do.CutReply)]
    assert [type(act).__name__ for act in told] == ["UserSpeechStarted", "CutReply"]
    assert told[1].at == 2.5 + POLICY.overlap
    scene.at(3.25, VoiceEnded(3.125)).at(3.375, FinalWords("wait a moment", 2, finished=True))
    assert commits(scene) == [(3.375, "wait a moment", "semantic_turn_detector")]


def test_words_after_that_voice_is_over_for_the_detector_too_begin_none() -> None:
    scene = (
        Scene()
        .at(1.125, VoiceStarted(1.0))
        .at(1.5, InterimWords("hel", 1))
        .at(2.0, FinalWords("hello", 1, finished=True))
    )
    scene.at(2.25, VoiceEnded(1.875)).at(2.5, InterimWords("wait", 2))
    assert not [act for act in scene.events() if isinstance(act, do.UserSpeechStarted) and act.at > 2]
    assert scene.machine.user_state == "listening"
