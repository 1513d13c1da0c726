"""The turns of the event loop that an answer takes: each costs milliseconds on a busy core."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
import trio

from patter_trio.providers.attempts import Begun, open_answer


class Turns(trio.abc.Instrument):
    """Counts the turns of the event loop."""

    def __init__(self) -> None:
        self.count = 0

    def before_io_wait(self, timeout: float) -> None:
        self.count += 1


async def rest(*items: str) -> AsyncIterator[str]:
    for item in items:
        yield item


@asynccontextmanager
async def answer() -> AsyncIterator[AsyncIterator[str]]:
    yield rest("Yes", ".")


async def test_the_first_word_takes_no_turn() -> None:
    """The first word of an answer passes at once: it was waited for when the answer was opened."""
    turns = Turns()
    trio.lowlevel.add_instrument(turns)
    async with open_answer(answer, "the LLM", 5.0) as items:
        assert [item async for item in items] == ["Yes", "."]
    assert turns.count == 0


async def test_empty_pieces_let_other_calls_run() -> None:
    """Of many pieces before the first word, each but the last lets other tasks run."""
    turns = Turns()
    trio.lowlevel.add_instrument(turns)
    assert [item async for item in Begun(["", "", "", "Yes"], rest("."))] == ["", "", "", "Yes", "."]
    assert turns.count == 3


async def test_a_cut_reply_leaves_the_first_word() -> None:
    """A reply that was cut gets Cancelled instead of the first word, which the iterator keeps."""
    begun = Begun(["Yes"], rest())
    with trio.CancelScope() as scope:
        scope.cancel()
        with pytest.raises(trio.Cancelled):
            await anext(begun)
    assert await anext(begun) == "Yes"
