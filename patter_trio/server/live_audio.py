"""The audio of a live call for those who listen to it: a task takes it out of the call's tape, and a channel holds it.

The channel is bounded, and a listener who does not keep up loses the oldest audio. The call waits for nobody.
"""

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Final, Self

import trio

from patter_trio.call.tapes import Ear

# Judged: short enough to follow a conversation, and ten messages a second for each listener.
PIECE_S: Final = 0.1
"""Seconds between two pieces."""
# Judged: 2 s, as a browser's network may stand still; older audio would only make the listener late.
MAX_WAITING_PIECES: Final = 20
"""Pieces that may wait for a listener; beyond, the oldest is dropped."""


class LiveAudio:
    """The audio of one call for one listener (``abc.AudioStream``)."""

    def __init__(self) -> None:
        self._dropped = 0
        self._send, self._receive = trio.open_memory_channel[tuple[bytes, bytes]](MAX_WAITING_PIECES)

    def __repr__(self) -> str:
        return f"<LiveAudio {self._dropped} dropped>"

    @property
    def dropped(self) -> int:
        """The number of pieces that were dropped because they were not taken in time."""
        return self._dropped

    def put(self, piece: tuple[bytes, bytes]) -> None:
        """Queue a piece; if the channel is full, drop the oldest."""
        try:
            self._send.send_nowait(piece)
        except trio.WouldBlock:
            self._dropped += 1
            # No await before the second send, so the place that this makes is still free.
            self._receive.receive_nowait()
            self._send.send_nowait(piece)

    def finish(self) -> None:
        """End the audio behind what waits, because the call is over."""
        self._send.close()

    def __aiter__(self) -> Self:
        """Return the audio itself."""
        return self

    async def __anext__(self) -> tuple[bytes, bytes]:
        """Return the next piece: the caller's side and the agent's, mu-law, equally long."""
        try:
            return await self._receive.receive()
        except trio.EndOfChannel:
            raise StopAsyncIteration from None


@asynccontextmanager
async def open_live_audio(ear: Ear, is_over: Callable[[], bool]) -> AsyncIterator[LiveAudio]:
    """Open the audio of a call for the time of a block.

    Args:
        ear: hears the call.
        is_over: returns True once the call is over.
    """
    audio = LiveAudio()

    async def pump() -> None:
        # Asked and not awaited: ten looks a second cost nothing, and the call need not know its listeners.
        while not is_over():
            await trio.sleep(PIECE_S)
            for sides in ear.take():
                audio.put((sides.caller, sides.agent))
        audio.finish()

    async with trio.open_nursery() as nursery:
        nursery.start_soon(pump)
        yield audio
        nursery.cancel_scope.cancel(reason="the listener has left")
