"""The apology of a call whose conversation has crashed."""

import logging
from typing import Final

import trio

from patter_trio.agent.agent import Agent
from patter_trio.call.backend import Backend
from patter_trio.call.output.reply import Reply
from patter_trio.call.output.writer import CarrierWriter
from patter_trio.call.transfers import TRANSFER_TIMEOUT_S, Transfers
from patter_trio.errors import ProviderError
from patter_trio.user_code.context import current_call

# Judged: a TTS that opens in a second or two, and the default error message, which takes about four. docs/design.md
# names it among the things that outlive the conversation.
APOLOGY_TIMEOUT_S: Final = 8.0
"""Seconds for the apology after the conversation crashed."""

_log = logging.getLogger("patter_trio.call")


class LastWords:
    """The apology of one call, which is said at most once, and the connection to ``on_failure`` behind it.

    Args:
        backend: says the error message.
        writer: plays it.
        transfers: connect the caller.
    """

    def __init__(self, backend: Backend, writer: CarrierWriter, transfers: Transfers) -> None:
        self._backend = backend
        self._writer = writer
        self._transfers = transfers
        # Made here although only the apology enters them: a scope that is cancelled before it is entered ends its block
        # at once, so no apology is made for a caller who has left.
        self._caller_here = trio.CancelScope()
        self._heard = trio.CancelScope()
        """Cancelled when the media stream is lost: without one nobody hears the message."""
        self._over: trio.Event | None = None
        """Set when the apology is over; None before it begins."""

    def __repr__(self) -> str:
        said = "not said" if self._over is None else "said" if self._over.is_set() else "being said"
        return f"<LastWords, {said}>"

    @property
    def has_begun(self) -> bool:
        """True from the beginning of the apology on."""
        return self._over is not None

    @property
    def caller_has_left(self) -> bool:
        """True from :meth:`caller_left` on."""
        return self._caller_here.cancel_called

    def caller_left(self) -> None:
        """End the apology, or let none begin, because nobody is there to hear it."""
        self._caller_here.cancel(reason="caller left")

    def stream_is_lost(self) -> None:
        """End the message, if it is being said; the request to connect the caller needs no stream, and goes on."""
        if self._over is not None:
            self._heard.cancel(reason="the stream is lost")

    async def wait(self) -> None:
        """Wait until an apology that has begun is over."""
        if self._over is not None:
            await self._over.wait()

    async def say(self, agent: Agent, *, has_stream: bool) -> bool:
        """Say the error message within :data:`APOLOGY_TIMEOUT_S` seconds, and connect the caller with ``on_failure``.

        Return True if the carrier has connected the caller. Without a stream, nothing is said.
        """
        self._over = trio.Event()
        if not has_stream:
            self.stream_is_lost()
        try:
            return await self._apologise(agent)
        finally:
            self._over.set()

    async def _apologise(self, agent: Agent) -> bool:
        reply = Reply(0, 0)
        self._heard.deadline = trio.current_time() + APOLOGY_TIMEOUT_S
        with self._caller_here:
            # A scope of its own: a message that takes too long must not cost the caller the person.
            with self._heard:
                try:
                    await self._backend.apologise(agent, reply)
                except ProviderError as error:
                    # The apology is a courtesy: if it fails, too, the error of the call is still the bug before it.
                    _log.warning("call %s: apology failed: %s", current_call.get(), error)
                # Until all of it is sent, and then until it is played: closing the stream would cut it off.
                await self._writer.wait_for_room(reply.playout, 1)
                await trio.sleep_until(self._writer.playback.end)
            if destination := agent.failure_destination:
                self._caller_here.deadline = trio.current_time() + TRANSFER_TIMEOUT_S
                # Without the turn machine, which has crashed with the conversation.
                return await self._transfers.hand_over(destination)
        return False
