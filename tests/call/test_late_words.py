"""Words of the caller that come late, and in any order, stand where they belong."""

from collections.abc import Iterator
from itertools import count
from typing import Any

import pytest
import trio

from patter_trio.abc import EngineWords
from patter_trio.call.engine_words import LATEST, PATIENCE, LateWords
from patter_trio.conversation import actions as do
from patter_trio.conversation.history import History


class Told:
    """What is told, in its order."""

    def __init__(self) -> None:
        self.names: list[str] = []

    def unix(self, at: float) -> float:
        return at

    def __getattr__(self, name: str) -> Any:
        return lambda *_, **__: self.names.append(name)


@pytest.fixture
def history() -> History:
    return History()


@pytest.fixture
def told() -> Told:
    return Told()


@pytest.fixture
def words(history: History, told: Told) -> LateWords:
    numbers: Iterator[int] = count(1)
    return LateWords(history, told, lambda: next(numbers))  # type: ignore[arg-type]


def over(at: float, *, replaces: bool = False) -> do.CommitUser:
    return do.CommitUser(at, 1, "", "vad_silence", 0.5, replaces)


def said(history: History) -> list[str]:
    return [entry["text"] for entry in history.whole()]


async def test_of_two_utterances_the_first_stands_first_though_its_words_come_last(
    words: LateWords, history: History
) -> None:
    words.commit(over(1.0))
    words.commit(over(2.0))  # nothing of an answer was heard between them
    words.heard(EngineWords(2, "second", final=True))
    words.heard(EngineWords(1, "first", final=True))
    assert said(history) == ["first", "second"]


async def test_an_answer_stands_before_the_last_words_of_who_hangs_up(words: LateWords, history: History) -> None:
    async with trio.open_nursery() as talk:
        words.talk = talk
        words.commit(over(1.0))
        words.behind(lambda: history.put_aside("the answer"))
        words.flush(open_voice=True)
        words.heard(EngineWords(1, "first", final=True))
        words.heard(EngineWords(2, "bye", final=True))
        talk.cancel_scope.cancel()
    assert [entry["text"] if entry else aside for entry, aside in history.with_asides()] == [
        "first",
        "the answer",
        "bye",
    ]


async def test_what_a_tool_gave_stands_behind_the_question_that_it_was_called_for(
    words: LateWords, history: History
) -> None:
    history.put_aside("earlier")
    words.commit(over(1.0))
    history.put_aside("what it gave")
    words.heard(EngineWords(1, "the question", final=True))
    stands = [entry["text"] if entry else aside for entry, aside in history.with_asides()]
    assert stands == ["earlier", "the question", "what it gave"]


async def test_words_that_never_come_hold_up_one_answer_only(words: LateWords, autojump_clock: Any) -> None:
    done: list[float] = []
    async with trio.open_nursery() as talk:
        words.talk = talk
        words.commit(over(0.0))
        words.behind(lambda: done.append(trio.current_time()))
        await trio.sleep(10.0)
        words.commit(over(10.0))
        words.heard(EngineWords(2, "second", final=True))
        words.behind(lambda: done.append(trio.current_time()))
        talk.cancel_scope.cancel()
    assert done == [PATIENCE, 10.0]
    assert not words.owed


async def test_utterances_without_words_are_not_remembered_for_ever(words: LateWords, history: History) -> None:
    for number in range(500):
        words.commit(over(float(number)))
    assert len(words._utterances) == LATEST + 1
    words.heard(EngineWords(500, "the last", final=True))
    words.heard(EngineWords(1, "too old", final=True))
    assert said(history) == ["the last"]


def test_what_waited_for_words_is_told_before_the_next_utterance_is_over(words: LateWords, told: Told) -> None:
    words.commit(over(1.0))
    words.behind(lambda: told.names.append("the answer"))
    words.commit(over(2.0))
    assert told.names == ["eos", "the answer", "eos"]
