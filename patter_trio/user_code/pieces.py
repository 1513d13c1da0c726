"""Tasks that make the pieces of an answer one by one: an application's async generator has one of its own.

An async generator may hold anything open around its ``yield``: a cancel scope, a nursery, a connection. trio requires
that each of them is closed by the task that opened it, innermost first, so no scope of the reader may come in between.
Therefore the generator has a task of its own, and only its pieces leave it. To the generator, a ``yield`` is an await:
it lasts until the reader wants the next piece, and a cancellation of any scope around it is raised there.
"""

import logging
import math
from abc import ABC, abstractmethod
from collections.abc import Awaitable
from contextlib import aclosing
from typing import Any, Protocol

import trio

from patter_trio.errors import PatterError
from patter_trio.user_code import invoke
from patter_trio.user_code.context import current_call

_log = logging.getLogger("patter_trio.call")


class Steps(Protocol):
    """An async generator, as far as it is needed here."""

    async def __anext__(self) -> Any:
        """Return the next piece."""

    async def athrow(self, error: BaseException, /) -> Any:
        """Raise an error where the generator waits, and return its next piece."""

    async def aclose(self) -> None:
        """End the generator."""


class PieceTask(ABC):
    """A task that makes the pieces of an answer, each only when the reader asks for it."""

    def __init__(self) -> None:
        self.wanted: trio.Semaphore = trio.Semaphore(0)
        """The pieces that the reader has asked for."""
        # One place is enough: a piece is sent only after it was asked for, so that sending never waits.
        send, pieces = trio.open_memory_channel[Any](1)
        self.send: trio.MemorySendChannel[Any] = send
        self.pieces: trio.MemoryReceiveChannel[Any] = pieces
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


class GeneratorTask(PieceTask):
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
