"""The agent's voice on its way out: the one task that writes to the carrier's socket.

What to send, and when, the playback ledger says; this is the task around it. Cutting a reply is a plain function, so
that nothing can be half done: it changes the ledger and wakes the writer, whose next message is ``clear``.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Final

import trio

from patter_trio.abc import StreamCodec
from patter_trio.conversation.inputs import Drained, OnWire
from patter_trio.conversation.playback import (
    CLOCK_TOLERANCE_S,
    Clear,
    Close,
    HeardSpeech,
    Mark,
    Media,
    Playback,
    PlayoutQueue,
)
from patter_trio.errors import PatterConnectionError
from patter_trio.net.pulse import Pulse
from patter_trio.net.websocket import WebSocket

STALL_TIMEOUT_S: Final = 5.0
"""Seconds without progress after which a carrier that does not read counts as gone."""


class Stalled(PatterConnectionError):
    """The carrier stopped reading."""


class CarrierWriter:
    """Sends the open reply's audio in the carrier's protocol.

    Args:
        socket: the carrier's; nothing else may send on it.
        codec: encodes messages for it.
        post: takes what the turn machine needs to know.
        on_sent: takes every piece of audio after it was sent.
    """

    def __init__(
        self,
        socket: WebSocket,
        codec: StreamCodec,
        post: Callable[[OnWire | Drained], None],
        on_sent: Callable[[Media], None],
    ) -> None:
        self._socket = socket
        self._codec = codec
        self._post = post
        self._wake = trio.Event()  # kept until the writer has seen it: it may be set between its look and its wait
        self._progress = Pulse()
        self._drained_posted: tuple[int, int] | None = None
        self._playout: PlayoutQueue | None = None
        self.playback: Playback = Playback()
        self._on_sent = on_sent
        socket.share_sending(self.wake)

    def __repr__(self) -> str:
        return f"<Egress {self.playback!r}>"

    def wake(self) -> None:
        """Have the writer look at the ledger again."""
        self._wake.set()

    def open(self, playout: PlayoutQueue) -> None:
        """Let a lane's audio go out."""
        self._playout = playout
        self.playback.open(playout)
        self.wake()

    def close(self) -> HeardSpeech:
        """End the open lane, all of which was played."""
        self._playout = None
        return self.playback.close()

    def cut(self, now: float) -> HeardSpeech:
        """Silence the open lane; return what was heard."""
        self._playout = None
        heard = self.playback.cut(now)
        self.wake()
        return heard

    def reached(self, name: str, now: float) -> None:
        """Take a mark that the carrier reports."""
        self.playback.reached(name, now)
        self._post_drained()
        self.wake()

    def hang_up(self) -> None:
        """Have the writer close the stream, behind what is being sent."""
        self.playback.hang_up()
        self.wake()

    async def wait_for_room(self, playout: PlayoutQueue, samples: int) -> None:
        """Wait until fewer than ``samples`` wait in the lane; a cut lane has room for ever."""
        while playout.waiting >= samples and not playout.is_cut:
            await self._progress.wait()

    async def wait_until_dry(self, playout: PlayoutQueue, lead: float) -> None:
        """Wait until nothing waits in an open lane, and the carrier has at most ``lead`` seconds of audio left to play."""
        while True:
            if playout is not self._playout or playout.waiting:
                await self._progress.wait()
                continue
            left = self.playback.end - trio.current_time() - lead
            if left <= CLOCK_TOLERANCE_S:
                return
            await trio.sleep(left)

    def _post_drained(self) -> None:
        playout = self._playout
        if playout is None or not playout.sent_samples or not self.playback.drained:
            return
        state = (playout.reply, playout.sent_samples)
        if state != self._drained_posted:
            self._drained_posted = state
            self._post(Drained(playout.reply))

    async def write(self) -> None:
        """Send until the stream is closed.

        Raises:
            SocketClosed: the carrier is gone.
            Stalled: the carrier has not read for :data:`STALL_TIMEOUT_S` seconds.
        """
        while True:
            message = self.playback.next_message(trio.current_time())
            if isinstance(message, Close):
                break
            if not isinstance(message, float):
                await self._send(message)
            elif self._socket.pending:
                with self._progressing():
                    await self._socket.flush()
            else:
                self._post_drained()
                with trio.move_on_after(max(0.0, message)):
                    await self._wake.wait()
                if self._wake.is_set():
                    self._wake = trio.Event()
        with self._progressing():
            await self._socket.say_close()

    async def _send(self, message: Media | Mark | Clear) -> None:
        with self._progressing():
            await self._socket.send(self._encoded(message))
        if isinstance(message, Media):
            self._post(OnWire(message.reply, self.playback.end))
            self._on_sent(message)
            self._progress.fire()

    @contextmanager
    def _progressing(self) -> Iterator[None]:
        try:
            with trio.fail_after(STALL_TIMEOUT_S):
                yield
        except trio.TooSlowError as error:
            raise Stalled("the carrier stopped reading") from error

    def _encoded(self, message: Media | Mark | Clear) -> str:
        match message:
            case Media():
                return self._codec.audio(message.audio)
            case Mark():
                return self._codec.mark(message.name)
            case Clear():
                return self._codec.clear()
