"""The leg of a call in text: a socket within this process, its codec, and a carrier that connects nobody."""

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any, ClassVar, Final

import attrs
import trio

from patter_trio.abc import (
    CallInfo,
    Carrier,
    CarrierReport,
    CarrierRequest,
    Dialled,
    DialRequest,
    DigitPressed,
    MarkReached,
    StreamCodec,
    StreamEvent,
    StreamStopped,
)
from patter_trio.errors import ConfigurationError, WireError
from patter_trio.net.websocket import SocketClosed
from patter_trio.phone_numbers import mask_number
from patter_trio.text_chat._providers import PROVIDER

Note = Callable[[str, Mapping[str, Any]], None]
"""Reports what a carrier would do: the type of the event, and its data."""

# The reader takes each message within a step of the loop; marks and keys come one at a time.
MAX_WAITING_MESSAGES: Final = 256
"""Messages to the call that may wait."""
NORMAL_CLOSE_CODE: Final = 1000
"""Close code of a stream that ended as intended (RFC 6455, section 7.4.1)."""
_MARK: Final = "mark:"
_KEY: Final = "key:"
_STOP: Final = "stop"


class TextCodec(StreamCodec):
    """The protocol of :class:`TextSocket`: a word and a value for each message."""

    def receive(self, message: str | bytes) -> StreamEvent | None:
        """Return the event that a message of the socket contains."""
        match message:
            case str() if message.startswith(_MARK):
                return MarkReached(message.removeprefix(_MARK))
            case str() if message.startswith(_KEY):
                return DigitPressed(message.removeprefix(_KEY))
            case str() if message == _STOP:
                return StreamStopped()
        raise WireError(f"a message of a text socket must be a mark, a key or its end, got {message!r}")

    def audio(self, mulaw: bytes) -> str:
        """Return a message that shows nothing: the text is known by other means."""
        return f"audio:{len(mulaw)}"

    def mark(self, name: str) -> str:
        """Return the message that the socket returns at once."""
        return _MARK + name

    def clear(self) -> str:
        """Return a message without effect: nothing waits to be played."""
        return "clear"


class TextSocket:
    """A socket whose other side is this process. Each mark returns at once: playback takes no time."""

    def __init__(self) -> None:
        self.heard_at: float = trio.current_time()
        self.pending: bytes = b""
        self._to_call, self._received = trio.open_memory_channel[str](MAX_WAITING_MESSAGES)
        self._over = trio.Event()
        self._stops = False

    def __repr__(self) -> str:
        return f"<TextSocket, {'over' if self._over.is_set() else 'open'}>"

    # The call's side --------------------------------------------------------------------------------------------------
    def share_sending(self, wake: Callable[[], None]) -> None:
        """Do nothing: the socket has no messages of its own."""

    async def receive(self) -> str:
        """Return the next mark, key, or the end.

        Raises:
            SocketClosed: the stream is over.
        """
        try:
            return await self._received.receive()
        except trio.EndOfChannel:
            if not self._stops:
                raise SocketClosed(NORMAL_CLOSE_CODE, "") from None
            self._stops = False
            # Once: the next read finds the stream closed.
            return _STOP

    async def send(self, message: str) -> None:
        """Return a mark; everything else needs no answer.

        Raises:
            SocketClosed: the stream is over.
        """
        if self._over.is_set():
            await trio.lowlevel.checkpoint()
            raise SocketClosed(NORMAL_CLOSE_CODE, "")
        if message.startswith(_MARK):
            # Waits while the call's reader is behind, as a network does.
            await self._to_call.send(message)
        else:
            await trio.lowlevel.checkpoint()

    async def flush(self) -> None:
        """Do nothing: nothing is pending."""
        await trio.lowlevel.checkpoint()

    def ping(self) -> None:
        """Answer at once: this process is there."""
        self.heard_at = trio.current_time()

    async def say_close(self) -> None:
        """End the stream, because the agent hangs up."""
        await trio.lowlevel.checkpoint()
        self._end()

    async def aclose(self, code: int = NORMAL_CLOSE_CODE, reason: str = "", *, close_timeout: float = 0.0) -> None:
        """Close."""
        del code, reason, close_timeout
        self._end()
        await trio.lowlevel.checkpoint()

    def _end(self) -> None:
        self._over.set()
        self._to_call.close()

    # The caller's side ------------------------------------------------------------------------------------------------
    async def press(self, key: str) -> None:
        """Press a key; do nothing if the stream is over."""
        if not self._over.is_set():
            await self._to_call.send(_KEY + key)

    def hang_up(self) -> None:
        """End the stream, because the caller hangs up."""
        if not self._over.is_set():
            self._stops = True
            self._end()


@attrs.frozen
class TextCarrier(Carrier):
    """A carrier that does nothing, and says what a real one would do.

    Args:
        note: takes what it says.
        end_stream: ends the stream, as a carrier does that connects the caller with somebody else.
    """

    name: ClassVar[str] = PROVIDER
    protocol: ClassVar[str] = PROVIDER
    content_type: ClassVar[str] = "text/plain"

    note: Note
    end_stream: Callable[[], None]

    async def transfer(self, call: CallInfo, to: str, public_url: str = "") -> None:
        """Report to whom the caller would be connected, and end the stream as after a transfer."""
        del call, public_url
        self.note("transfer", {"to": to})
        # Without an await behind it: the call must learn that it was transferred before the stream is over.
        self.end_stream()

    async def send_digits(self, call: CallInfo, digits: str) -> bool:
        """Report the keys that would be sent to the caller, and return True."""
        del call
        self.note("digits", {"digits": digits})
        return True

    async def dial(self, request: DialRequest) -> Dialled:
        """Refuse to place a call, and say to whom.

        Raises:
            ConfigurationError: always.
        """
        self.note("dial", {"to": request.to})
        raise ConfigurationError(f"a call in text cannot call others: {mask_number(request.to)} was not called")

    # There are no webhooks: the server would ask for these only if one came.
    def is_signed(self, request: CarrierRequest) -> bool:
        """Return False: nothing is signed."""
        del request
        return False

    def is_authentic(self, request: CarrierRequest) -> bool:
        """Return False: no request is this carrier's."""
        del request
        return False

    def read(self, request: CarrierRequest) -> CarrierReport | None:
        """Return None: nothing is reported."""
        del request
        return None

    def connect(self, url: str, parameters: Mapping[str, str]) -> str:
        """Return nothing: no webhook waits for an answer."""
        del url, parameters
        return ""

    def reject(self) -> str:
        """Return nothing, as :meth:`connect`."""
        return ""

    def new_codec(self, headers: Mapping[str, str] = MappingProxyType({})) -> StreamCodec:
        """Return the codec of a text socket."""
        del headers
        return TextCodec()
