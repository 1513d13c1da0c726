"""Answers of ``on_message``: the application's function runs in a task of its own, and its pieces are spoken in time.

An async generator may hold anything open around its ``yield``: a cancel scope, a nursery, a connection. trio requires
that each of them is closed by the task that opened it, innermost first, so no scope of the reply may come in between.
Therefore the generator has a task of its own, and only its pieces leave it. To the generator, a ``yield`` is an await:
it lasts until the reply wants the next piece, and a cancellation of any scope around it is raised there.
"""

import logging
import math
from abc import ABC, abstractmethod
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import AbstractContextManager, aclosing, asynccontextmanager, contextmanager, nullcontext
from functools import partial
from typing import Any, Final, Protocol

import trio

from patter_trio.call.output.reply import AnswerPhase, AnswerSource, ProgressText, TakePiece
from patter_trio.conversation.sentences import SentenceChunker
from patter_trio.conversation.text import is_sayable
from patter_trio.errors import PatterError, ProviderTimeout
from patter_trio.net.tasks import run_beside
from patter_trio.scripts import gap_between
from patter_trio.user_code import invoke
from patter_trio.user_code.context import current_call
from patter_trio.user_code.signatures import name_of

# Judged: an application's own server may ask an LLM itself. docs/messages.md promises it.
ON_MESSAGE_TIMEOUT_S: Final = 30.0
"""Seconds that ``on_message`` has for its answer, or for each next piece of a streamed one."""
# Judged: tokens of a model that is relayed come faster than this, and a caller does not notice a fifth of a second.
PAUSE_S: Final = 0.2
"""Seconds without a piece after which text that ends a sentence is spoken, although the next sentence is not known."""
LONG_PAUSE_S: Final = 0.5
"""Seconds between two reports of the same pause: how exactly the wait of a text without an end is measured."""
MAX_REMEMBERED_CHARACTERS: Final = 64
"""Characters of the answer so far that decide whether it ends a sentence: longer than any abbreviation."""

_log = logging.getLogger("patter_trio.call")

_MARKS: Final = ".,;:!?…%)]}»”\N{RIGHT SINGLE QUOTATION MARK}"
"""Characters with which a piece goes on with the word before it."""


def from_function(function: Callable[..., Any], *arguments: object) -> AnswerSource:
    """Return the source that calls the application's ``on_message``: a function, a coroutine or an async generator."""

    async def answer(take: TakePiece[str]) -> None:
        result = invoke.call_sync(function, *arguments)
        # By what it returned, not by what it is: a plain function may return the generator of another one.
        if hasattr(result, "__aiter__"):
            generator = _GeneratorTask(invoke.UserIterator(function, result), name_of(function))
            async with _beside(generator, partial(_answering, function)) as pieces:
                async for piece in pieces:
                    await take(piece if isinstance(piece, AnswerPhase) else _text(function, piece))
                await take(AnswerPhase.OVER)
            return
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
class Steps(Protocol):
    """An async generator, as far as it is needed here."""

    async def __anext__(self) -> Any:
        """Return the next piece."""

    async def athrow(self, error: BaseException, /) -> Any:
        """Raise an error where the generator waits, and return its next piece."""

    async def aclose(self) -> None:
        """End the generator."""


class _PieceTask(ABC):
    """A task that makes the pieces of an answer, each only when the reply asks for it."""

    def __init__(self) -> None:
        self.wanted = trio.Semaphore(0)
        """The pieces that the reply has asked for."""
        # One place is enough: a piece is sent only after it was asked for, so that sending never waits.
        self.send, self.pieces = trio.open_memory_channel[Any](1)
        self.failure: PatterError | None = None
        """The error that ended the pieces. It is raised behind the last of them, which is spoken first."""

    async def run(self) -> None:
        """Send each piece that is asked for, until there are no more."""
        with self.send:
            try:
                await self.make()
            except PatterError as error:
                self.failure = error

    @abstractmethod
    async def make(self) -> None:
        """Make the pieces."""


class _SourceTask(_PieceTask):
    """The task of a source that has its pieces taken."""

    def __init__(self, source: AnswerSource) -> None:
        super().__init__()
        self._source = source

    async def make(self) -> None:
        await self._source(self._take)

    async def _take(self, piece: Any) -> None:
        await self.wanted.acquire()
        self.send.send_nowait(piece)


class _GeneratorTask(_PieceTask):
    """The task of a generator of the application's."""

    def __init__(self, given: Steps, name: str) -> None:
        super().__init__()
        self._given = given
        self._name = name

    async def make(self) -> None:
        try:
            # Closed in this task, because the generator may have opened scopes in it; and around all steps, since it
            # may hold a scope open from one step to the next.
            async with aclosing(self._given):
                with invoke.contained(self._name):
                    await self._pass_on()
        except invoke.ApplicationError as error:
            if trio.current_effective_deadline() != -math.inf:
                raise
            # The reply is over, so nothing waits for what the application raises on its way out.
            _log.warning("call %s: while closing: %s", current_call.get(), error, exc_info=error.__cause__)

    async def _pass_on(self) -> None:
        piece: list[Any] = []  # the next piece, if a cancelled scope of the generator's made it come before its time
        while True:
            try:
                await self.wanted.acquire()
            except trio.Cancelled as cancelled:
                if piece:
                    raise  # cancelled again before that piece was wanted: the generator is closed
                # Raised where the generator waits: the cancelled scope may be one of its own, and then it goes on.
                piece = await _step(self._given.athrow(cancelled))
                if not piece:
                    return
                continue
            piece = piece or await _step(anext(self._given))
            if not piece:
                return
            self.send.send_nowait(piece.pop())


async def _step(step: Awaitable[Any]) -> list[Any]:
    """Return the next piece of a generator; nothing at its end."""
    try:
        return [await step]
    except StopAsyncIteration:
        return []


Limit = Callable[[float], AbstractContextManager[None]]
"""Limits the wait for one piece, which began at an instant."""


@asynccontextmanager
async def _beside(task: _PieceTask, limit: Limit = lambda _: nullcontext()) -> AsyncIterator[AsyncIterator[Any]]:
    """Run a task beside the block, and yield an iterator over its pieces.

    Among the pieces is ``AnswerPhase.PAUSED`` wherever none came for :data:`PAUSE_S` seconds, and again after each further
    :data:`LONG_PAUSE_S` seconds.
    """
    # Cancelled when the block ends: the reply is over, and a generator has to leave what it holds open.
    async with run_beside(task.run):
        yield _Pieces(task, limit)


class _Pieces(AsyncIterator[Any]):
    """Iterator over the pieces of a source, and the pauses between them.

    It is a class, not a generator: it holds no scope open between two pieces.
    """

    def __init__(self, source: _PieceTask, limit: Limit) -> None:
        self._source = source
        self._limit = limit
        self._asked_at: float | None = None
        """The instant at which the next piece was asked for; None if it was not."""
        self._paused_at = 0.0
        """The instant at which the next pause is reported."""

    async def __anext__(self) -> Any:
        if self._asked_at is None:
            self._asked_at = self._paused_at = trio.current_time()
            self._source.wanted.release()
            self._paused_at += PAUSE_S
        else:
            self._paused_at += LONG_PAUSE_S
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
    if before[-1:].isspace() or piece[0].isspace() or piece[0] in _MARKS or not any(map(str.isalnum, before)):
        return False
    return not piece[0].islower() or any(" " in text.strip() for text in (before, piece))
