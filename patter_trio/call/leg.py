"""The carrier's side of a call: its media stream, read, written and kept alive by a task each."""

import logging
from typing import Final, Protocol

import attrs
import trio

from patter_trio.abc import (
    AudioReceived,
    CallInfo,
    DigitPressed,
    MarkReached,
    StreamCodec,
    StreamStarted,
    StreamStopped,
    stream_reference,
)
from patter_trio.call.keepalive import PING_AFTER_S, wait_until_dead
from patter_trio.call.output.writer import CarrierWriter, Stalled
from patter_trio.errors import WireError
from patter_trio.net.media_socket import MediaSocket
from patter_trio.net.websocket import SocketClosed

# Judged: a carrier that answers the close frame does so within one round trip. What else the end of a call may wait for
# takes 0.89 s: the STT's last words 0.8 s, ``after_transcribe`` for them 0.04 s, and the close of vendors' sockets 0.05
# s.
CLOSE_TIMEOUT_S: Final = 0.1
"""Seconds to close the stream; the call then ends within one second, whatever it waits for."""
# Judged: two seconds of frames. Single ones are forgiven (docs/robustness.md); this many are another protocol.
MAX_BAD_MESSAGES: Final = 100
"""Messages against the carrier's protocol after which the call gives up its stream."""
CALLER_HUNG_UP: Final = "caller_hung_up"
"""The outcome of a call that its caller has ended."""
# 1005 stands for a close frame without a code (RFC 6455, section 7.1.5): its sender has closed in order.
ORDERLY_CLOSE_CODES: Final = (1000, 1005)
"""Close codes of a stream that ended as intended (RFC 6455, section 7.4.1)."""
# The same section, and the registry that it names. Others, such as 1002 and 1009, are those of a peer that broke the
# protocol: it would do so again. 1001 says that the peer goes away, which proxies such as cloudflared send when they
# restart; a carrier whose caller has hung up says so before, or reports it while the call waits.
LOST_CLOSE_CODES: Final = (1001, 1006, 1011, 1012, 1013, 1014)
"""Close codes of a stream that was lost: no close frame came, or a server or proxy in between failed or restarts."""

_log = logging.getLogger("patter_trio.call")


@attrs.frozen
class MediaLeg:
    """A media stream that belongs to an announced call: authenticated, started and not yet answered."""

    socket: MediaSocket
    codec: StreamCodec
    started: StreamStarted
    info: CallInfo

    @property
    def reference(self) -> str:
        """Our reference of the stream, which the carrier names when it asks how the call continues."""
        return stream_reference(self.started.parameters.get("token", ""))


@attrs.frozen
class LostStream:
    """Why a stream is over that nobody ended.

    Attributes:
        why: the reason, for the log.
        kind: the public name of the reason, without its details.
        may_return: True if the call may go on over another stream.
    """

    why: str
    kind: str
    may_return: bool = True


class LegListener(Protocol):
    """Handler of what a leg receives. Every method returns at once."""

    def on_audio(self, audio: bytes) -> None:
        """Handle the caller's next audio, mu-law at 8 kHz."""

    def on_digit(self, digit: str) -> None:
        """Handle a DTMF digit that the caller pressed."""

    def on_leg_down(self, reason: str) -> None:
        """Handle the end of the stream, as the carrier wanted it; both directions may report it."""


class Leg:
    """One running media stream of a call.

    Args:
        stream: the started stream.
        writer: sends to it.
        listener: handles what comes from it.
    """

    def __init__(self, stream: MediaLeg, writer: CarrierWriter, listener: LegListener) -> None:
        self.stream: MediaLeg = stream
        self._socket = stream.socket
        self._codec = stream.codec
        self._call_id = stream.info.call_id
        self._writer = writer
        self._listener = listener
        self._bad_messages = 0
        self._lost: LostStream | None = None
        self._carrying = trio.CancelScope()
        self.closed: trio.Event = trio.Event()
        """Set when the stream is closed."""

    def __repr__(self) -> str:
        return f"<Leg of {self._call_id}, {self._socket!r}, {self._bad_messages} bad messages>"

    async def run(self) -> LostStream:
        """Read, write and keep alive until the stream is lost; return why. After an orderly end: until cancelled."""
        # The three end together: a lost stream must not be written to when the next one has begun.
        with self._carrying:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self._read)
                nursery.start_soon(self._write)
                nursery.start_soon(self._keep_alive)
        if self._lost is None:  # the keep-alive ends only with the stream
            raise AssertionError(f"{self!r} has ended without a reason")
        return self._lost

    @property
    def is_lost(self) -> bool:
        """True if nobody ended the stream, and it is over."""
        return self._lost is not None

    def lose(self, lost: LostStream) -> None:
        """Count the stream as lost."""
        # The first reason: both directions notice it.
        if self._lost is None:
            self._lost = lost
            self._carrying.cancel(reason="the stream is lost")

    async def close(self) -> None:
        """Close the stream, within :data:`CLOSE_TIMEOUT_S` seconds."""
        try:
            # The deadline is the socket's own: a carrier that does not answer the close frame must not hold up the end.
            await self._socket.aclose(close_timeout=CLOSE_TIMEOUT_S)
        finally:
            self.closed.set()

    async def _read(self) -> None:
        # Awaits nothing but the socket, so that a slow stage never delays marks, digits and the end.
        try:
            while True:
                message = await self._socket.receive()
                self._writer.alive(trio.current_time())
                try:
                    event = self._codec.receive(message)
                except WireError as error:
                    # The message is skipped: one that is malformed says nothing about those behind it.
                    self._count_bad(error)
                    continue
                match event:
                    case AudioReceived():
                        self._listener.on_audio(event.audio)
                    case MarkReached():
                        # Directly to the writer, which keeps the ledger: the turn machine gets only what follows from
                        # it.
                        self._writer.reached(event.name, trio.current_time())
                    case DigitPressed():
                        self._listener.on_digit(event.digit)
                    case StreamStopped():
                        self._listener.on_leg_down(CALLER_HUNG_UP)
                        return
        except SocketClosed as closed:
            # Not re-raised: the end of the leg is an input of the conversation, which still has last words to collect.
            self._on_closed(closed)

    def _count_bad(self, error: WireError) -> None:
        self._bad_messages += 1
        if self._bad_messages == 1:
            # Only the first one is logged: a faulty carrier may send fifty a second.
            _log.warning("call %s: ignoring an invalid message from the carrier: %s", self._call_id, error)
        if self._bad_messages == MAX_BAD_MESSAGES:
            why = f"the carrier's stream sent {MAX_BAD_MESSAGES} messages that its protocol does not allow"
            self.lose(LostStream(why, "WireError", may_return=False))
            raise SocketClosed(1008, "protocol")  # 1008: policy violation (RFC 6455, section 7.4.1)

    async def _write(self) -> None:
        try:
            await self._writer.write()
        except SocketClosed as closed:  # the reader and the writer both report it; the listener counts the first
            self._on_closed(closed)
        except Stalled as error:
            self.lose(LostStream(str(error), "Stalled"))

    async def _keep_alive(self) -> None:
        await wait_until_dead(self._socket, self._writer.wake)
        self.lose(LostStream(f"the carrier sent nothing for {2 * PING_AFTER_S:g} s", "Silent"))

    def _on_closed(self, closed: SocketClosed) -> None:
        if closed.code in ORDERLY_CLOSE_CODES:
            self._listener.on_leg_down(CALLER_HUNG_UP)
        else:
            why = f"the carrier's stream was lost: {closed}"
            self.lose(LostStream(why, "SocketClosed", may_return=closed.code in LOST_CLOSE_CODES))
