"""Answers of ``on_message``: the application's function runs in a task of its own, and its pieces are spoken in time.

The tasks themselves are in ``user_code/pieces.py``.
"""

import logging
import math
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AbstractContextManager, asynccontextmanager, contextmanager, nullcontext
from functools import partial
from typing import Any, Final

import trio

from patter_trio.call.output.reply import AnswerPhase, AnswerSource, ProgressText, TakePiece
from patter_trio.conversation.marks import GOING_ON
from patter_trio.conversation.sentences import SentenceChunker
from patter_trio.conversation.text import is_sayable
from patter_trio.errors import ProviderTimeout
from patter_trio.net.tasks import run_beside
from patter_trio.providers.attempts import says_something
from patter_trio.scripts import gap_between
from patter_trio.user_code import invoke
from patter_trio.user_code.pieces import GeneratorTask, PieceTask
from patter_trio.user_code.signatures import name_of

# Judged: an application's own server may ask an LLM itself. docs/messages.md promises it.
ON_MESSAGE_TIMEOUT_S: Final = 30.0
"""Seconds that ``on_message`` has for its answer, or for each next piece of a streamed one."""
# Judged: tokens of a model that is relayed come faster than this, and a caller does not notice a fifth of a second.
PAUSE_S: Final = 0.2
"""Seconds without a piece after which text that ends a sentence is spoken, although the next sentence is not known."""
MAX_REMEMBERED_CHARACTERS: Final = 64
"""Characters of the answer so far that decide whether it ends a sentence: longer than any abbreviation."""

_log = logging.getLogger("patter_trio.call")


def from_function(function: Callable[..., Any], *arguments: object) -> AnswerSource:
    """Return the source that calls the application's ``on_message``: a function, a coroutine or an async generator."""

    async def answer(take: TakePiece[str]) -> None:
        result = invoke.call_sync(function, *arguments)
        # By what it returned, not by what it is: a plain function may return the generator of another one.
        if hasattr(result, "__aiter__"):
            generator = GeneratorTask(invoke.UserIterator(function, result), name_of(function))
            async with _beside(generator, partial(_answering, function)) as pieces:
                async for piece in pieces:
                    await take(piece if isinstance(piece, AnswerPhase) else _text(function, piece))
                # Said inside the block, whose end waits for the generator's clean-up: the last sentence need not.
                await take(AnswerPhase.OVER)
            return
        # From here on: a plain function has answered by now, and a coroutine has not begun.
        with _answering(function, trio.current_time()):
            text = await invoke.await_result(function, result)
        await take(_text(function, text))

    return answer


def paced(source: AnswerSource) -> AnswerSource:
    """Return the same source, run in a task of its own, so that the pauses between its pieces are noticed."""

    async def answer(take: TakePiece[str]) -> None:
        async with _beside(_SourceTask(source)) as pieces:
            async for piece in pieces:
                await take(piece)

    return answer


@contextmanager
def _answering(function: Callable[..., Any], asked_at: float) -> Iterator[None]:
    """Limit the time since the function was asked, and raise a timeout that names it."""
    try:
        with trio.fail_at(asked_at + ON_MESSAGE_TIMEOUT_S):
            yield
    except trio.TooSlowError as error:
        # Our own deadline: a timeout that the application raises comes as an ApplicationError.
        name = name_of(function)
        raise ProviderTimeout(f"{name} did not answer within {ON_MESSAGE_TIMEOUT_S:g} s") from error


def _text(function: Callable[..., Any], answer: object) -> str:
    if answer is None:
        return ""
    if isinstance(answer, str):
        if not is_sayable(answer):
            raise invoke.ApplicationError(f"{name_of(function)} must give text that can be encoded in UTF-8")
        return answer
    raise invoke.ApplicationError(f"{name_of(function)} must give text or None, not {type(answer).__name__}")


# A task of its own ----------------------------------------------------------------------------------------------------
class _SourceTask(PieceTask):
    """The task of a source that has its pieces taken."""

    def __init__(self, source: AnswerSource) -> None:
        super().__init__()
        self._source = source

    async def make(self) -> None:
        await self._source(self._take)

    async def _take(self, piece: Any) -> None:
        # The source goes no faster than the reply takes its pieces.
        await self.wanted.acquire()
        # Without waiting: the piece was asked for, so the place is free.
        self.send.send_nowait(piece)


Limit = Callable[[float], AbstractContextManager[None]]
"""Limits the wait for one piece, which began at an instant."""


@asynccontextmanager
async def _beside(task: PieceTask, limit: Limit = lambda _: nullcontext()) -> AsyncIterator[AsyncIterator[Any]]:
    """Run a task beside the block, and yield an iterator over its pieces.

    Among the pieces is ``AnswerPhase.PAUSED`` wherever none came for :data:`PAUSE_S` seconds.
    """
    # Cancelled when the block ends: the reply is over, and a generator has to leave what it holds open.
    async with run_beside(task.run):
        yield _Pieces(task, limit)


class _Pieces(AsyncIterator[Any]):
    """Iterator over the pieces of a source, and the pauses between them.

    It is a class, not a generator: it holds no scope open between two pieces.
    """

    def __init__(self, source: PieceTask, limit: Limit) -> None:
        self._source = source
        self._limit = limit
        self._asked_at: float | None = None
        """The instant at which the next piece was asked for; None if it was not."""
        self._paused_at = 0.0
        """The instant at which the pause before the next piece is reported; infinite once it was."""

    async def __anext__(self) -> Any:
        if self._asked_at is None:
            self._asked_at = trio.current_time()
            self._source.wanted.release()
            self._paused_at = self._asked_at + PAUSE_S
        else:
            # The pause before this piece was reported; from here on only the limit counts.
            self._paused_at = math.inf
        # The limit is outside, because its end is an error, and the end of the pause is not.
        with self._limit(self._asked_at), trio.move_on_at(self._paused_at):
            return await self._received()
        return AnswerPhase.PAUSED

    async def _received(self) -> Any:
        try:
            piece = await self._source.pieces.receive()
        except trio.EndOfChannel:
            # Raised outside of this clause: the end of the channel is not the failure's cause.
            failure = self._source.failure
        else:
            self._asked_at = None
            return piece
        if failure is not None:
            raise failure
        raise StopAsyncIteration


# Pieces of text -------------------------------------------------------------------------------------------------------
def spaced(source: AnswerSource, language: str) -> AnswerSource:
    """Return the same source with a space wherever one piece ends a sentence and the next begins without a space."""
    rules = SentenceChunker(language=language)

    async def answer(take: TakePiece[str]) -> None:
        said = last = ""  # the end of the text so far, and its last piece

        async def take_apart(piece: str | AnswerPhase | ProgressText) -> None:
            nonlocal said, last
            if not isinstance(piece, str) or not piece:
                await take(piece)
                return
            apart = _begins_sentence(last, piece) and rules.ends_sentence(said)
            # Nothing in scripts that put no space between sentences.
            gap = gap_between(said, piece) if apart else ""
            said, last = (said + piece)[-MAX_REMEMBERED_CHARACTERS:], piece
            await take(gap + piece)

        await source(take_apart)

    return answer


def _begins_sentence(before: str, piece: str) -> bool:
    """Return True if a piece does not go on with the word or the mark at the end of the piece before it.

    Tokens of a model may be relayed one by one: ``example``, ``.``, ``com``. A lone mark, and lower case between two
    pieces of one word each, belong to such a word. Tokens of different words come with their space.
    """
    if before[-1:].isspace() or piece[0].isspace() or piece[0] in GOING_ON or not says_something(before):
        return False
    return not piece[0].islower() or any(" " in text.strip() for text in (before, piece))
