"""Words of the caller that come late, and in any order, stand where they belong."""

from collections.abc import Iterator
from itertools import count
from typing import Any

import attrs
import pytest
import trio
from hypothesis import given
from hypothesis import strategies as st

from patter_trio.abc import EngineWords
from patter_trio.call.input.late_transcripts import MAX_LATE_UTTERANCES, TRANSCRIPT_WAIT_S, LateTranscripts
from patter_trio.conversation import actions as do
from patter_trio.conversation.history import History


class FakeReporter:
    """Reporter that keeps the names of the calls it gets, in order."""

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
def reporter() -> FakeReporter:
    return FakeReporter()


@pytest.fixture
def words(history: History, reporter: FakeReporter) -> LateTranscripts:
    numbers: Iterator[int] = count(1)
    return LateTranscripts(history, reporter, lambda: next(numbers), [].append)  # type: ignore[arg-type]


def over(at: float, *, replaces: bool = False) -> do.CommitUser:
    return do.CommitUser(at, 1, "", "vad_silence", 0.5, replaces)


@attrs.frozen
class Called:
    """A tool round that says its name."""

    name: str

    def messages(self) -> list[dict[str, Any]]:
        return [{"role": "tool", "content": self.name}]


def said(history: History) -> list[str]:
    return [entry["text"] for entry in history.whole()]


def contents_for_llm(history: History) -> list[str]:
    return [message["content"] for item in history.items() for message in item.messages()]


async def test_late_transcript_keeps_order_of_utterances(words: LateTranscripts, history: History) -> None:
    """The first of two utterances stands first in the history even if its transcript arrives last."""
    words.commit(over(1.0))
    words.commit(over(2.0))  # nothing of an answer was heard between them
    words.on_transcript(EngineWords(2, "second", final=True))
    words.on_transcript(EngineWords(1, "first", final=True))
    assert said(history) == ["first", "second"]


async def test_answer_precedes_last_words_before_hang_up(words: LateTranscripts, history: History) -> None:
    """An answer stands before the last words of a caller who hangs up."""
    async with trio.open_nursery() as talk:
        words.open(lambda _, part, *arguments: talk.start_soon(part, *arguments))
        words.commit(over(1.0))
        words.after_user_turn(lambda: history.add("assistant", "the answer", 1.0))
        words.flush(open_voice=True)
        words.on_transcript(EngineWords(1, "first", final=True))
        words.on_transcript(EngineWords(2, "bye", final=True))
        talk.cancel_scope.cancel()
    assert contents_for_llm(history) == ["first", "the answer", "bye"]


async def test_tool_result_follows_question_that_caused_it(words: LateTranscripts, history: History) -> None:
    """A tool result stands after the question that caused the tool call."""
    history.add_tool_round(Called("earlier"))
    words.commit(over(1.0))
    history.add_tool_round(Called("what it gave"))
    words.on_transcript(EngineWords(1, "the question", final=True))
    assert contents_for_llm(history) == ["earlier", "the question", "what it gave"]


async def test_missing_transcript_delays_only_one_answer(words: LateTranscripts, autojump_clock: Any) -> None:
    """A transcript that never arrives delays the entry of only one answer."""
    done: list[float] = []
    async with trio.open_nursery() as talk:
        words.open(lambda _, part, *arguments: talk.start_soon(part, *arguments))
        words.commit(over(0.0))
        words.after_user_turn(lambda: done.append(trio.current_time()))
        await trio.sleep(10.0)
        words.commit(over(10.0))
        words.on_transcript(EngineWords(2, "second", final=True))
        words.after_user_turn(lambda: done.append(trio.current_time()))
        talk.cancel_scope.cancel()
    assert done == [TRANSCRIPT_WAIT_S, 10.0]
    assert not words.pending_count


async def test_utterances_without_words_are_not_remembered_for_ever(words: LateTranscripts, history: History) -> None:
    """The call forgets the oldest of 500 utterances without words, and words for it come to nothing."""
    for number in range(500):
        words.commit(over(float(number)))
    assert len(words._turns) == MAX_LATE_UTTERANCES + 1
    words.on_transcript(EngineWords(500, "the last", final=True))
    words.on_transcript(EngineWords(1, "too old", final=True))
    assert said(history) == ["the last"]


def test_waiting_answer_is_reported_before_next_eos(words: LateTranscripts, reporter: FakeReporter) -> None:
    """An answer that waits for a transcript is reported before the eos of the next utterance."""
    words.commit(over(1.0))
    words.after_user_turn(lambda: reporter.names.append("the answer"))
    words.commit(over(2.0))
    assert reporter.names == ["eos", "the answer", "eos"]


@given(st.lists(st.sampled_from(["utterance", "tool", "answer"]), max_size=12), st.randoms(use_true_random=False))
def test_history_does_not_depend_on_arrival_order(happened: list[str], luck: Any) -> None:
    """The LLM reads utterances, tool rounds and answers in the order of the call, in whatever order words arrive."""
    punctual = [f"{what} {number}" for number, what in enumerate(happened)]

    async def call() -> None:
        history, numbers = History(), count(1)
        words = LateTranscripts(history, FakeReporter(), lambda: next(numbers), [].append)  # type: ignore[arg-type]
        late: list[EngineWords] = []
        for what, text in zip(happened, punctual, strict=True):
            if what == "utterance":
                words.commit(over(0.0))
                late.append(EngineWords(len(late) + 1, text, final=True))
            elif what == "tool":
                history.add_tool_round(Called(text))
            else:
                history.add("assistant", text, 0.0)
        luck.shuffle(late)
        for arrived in late:
            words.on_transcript(arrived)
        assert contents_for_llm(history) == punctual

    trio.run(call)
