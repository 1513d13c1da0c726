"""The behaviour and the record of the fake Deepgram server; a part of :mod:`.deepgram`."""

import json
import math
from collections.abc import Mapping
from contextlib import suppress
from typing import Any, Final

import attrs
import trio

# Far more than the results of one call: a full channel means a writer that hangs, and the test shall fail at once.
MAX_WAITING_MESSAGES: Final = 4096
"""Maximum number of messages that wait to be sent; one more raises ``trio.WouldBlock`` in the test."""


@attrs.frozen(kw_only=True)
class FakeDeepgram:
    """The behaviour of the server.

    Args:
        key: the only key that is accepted.
        accepting: seconds until a handshake is answered.
        status: HTTP status with which handshakes are refused; 0 accepts them.
        reason: the text of a refusal, in the header ``dg-error``.
        interim_every: seconds of audio between two interim results; they come only if there are words.
        final_delay: seconds from a ``Finalize`` request to its answer.
        settles_every: seconds of audio after which Nova sends final words unasked: those that ended a second ago.
        answers_finalize: if False, ``Finalize`` requests are ignored.
        end_of_turn: Flux: seconds of silence after which a turn is over.
        eager_end_of_turn: Flux: seconds of silence after which a turn is probably over, if the client asked for that.
        hallucinates: a word that appears only in interim results, at their end.
        lose_after: seconds of audio after which the first, second ... connection is lost.
        mute_after: seconds of audio after which the first, second ... connection stays open and says nothing more, as
            one to a server that hangs.
        garbage: raw messages that are sent as soon as a connection is open.
    """

    key: str = "key"
    accepting: float = 0.0
    status: int = 0
    reason: str = "refused, as scripted"
    interim_every: float = 0.2
    final_delay: float = 0.1
    settles_every: float | None = None
    answers_finalize: bool = True
    # Before the 0.5 s of silence after which the agent's own endpointing would decide, so
    # that a test sees the vendor's.
    end_of_turn: float = 0.3
    eager_end_of_turn: float = 0.15
    hallucinates: str = ""
    lose_after: tuple[float, ...] = ()
    mute_after: tuple[float, ...] = ()
    garbage: tuple[str | bytes, ...] = ()


@attrs.define(eq=False)
class DeepgramServerConnection:
    """One connection, as the server saw it; times are those of trio's clock."""

    number: int
    path: str
    query: dict[str, list[str]]
    headers: Mapping[str, str] = attrs.field(repr=False)
    opened_at: float
    audio: bytearray = attrs.field(factory=bytearray, repr=False)
    sizes: list[int] = attrs.field(factory=list, repr=False)
    """The sizes of the audio messages."""
    said: list[tuple[float, dict[str, Any]]] = attrs.field(factory=list)
    """The text messages of the client, with their times."""
    ended_at: float = math.inf
    code: int = 0
    mute: bool = False
    """True while the server says nothing, whatever it hears."""
    ended: trio.Event = attrs.field(factory=trio.Event, repr=False)
    _say: trio.MemorySendChannel[tuple[float, str | bytes]] | None = attrs.field(default=None, repr=False)
    _stream: trio.abc.Stream | None = attrs.field(default=None, repr=False)
    # The instant of the newest message that waits: a later one with a shorter delay must not overtake it.
    _last: float = -math.inf

    def open(self, stream: trio.abc.Stream) -> trio.MemoryReceiveChannel[tuple[float, str | bytes]]:
        """Let messages be sent on ``stream``; return the channel of those that wait, with the instants to send them."""
        self._stream = stream
        self._say, waiting = trio.open_memory_channel[tuple[float, str | bytes]](MAX_WAITING_MESSAGES)
        return waiting

    def fall_silent(self) -> None:
        """Send nothing more, whatever the client says."""
        self.mute = True

    def record_code(self, code: int) -> None:
        """Record the code of the close frame that ended the connection."""
        self.code = code

    def end(self) -> None:
        """Record that the connection has ended, at this instant."""
        self.ended_at = trio.current_time()
        self.ended.set()

    def types(self) -> list[str]:
        """Return the types of the client's text messages."""
        return [str(message.get("type")) for _, message in self.said]

    def say(self, message: Mapping[str, Any] | str | bytes, delay: float = 0.0) -> None:
        """Send a message ``delay`` seconds from now, never before an earlier one."""
        if self._say is None:
            raise RuntimeError("the connection must be open to send on it")
        if self.mute:
            return
        self._last = max(self._last, trio.current_time() + delay)
        text = message if isinstance(message, str | bytes) else json.dumps(message)
        # The connection has ended meanwhile; the vendor's results would be lost on the wire just the same.
        with suppress(trio.BrokenResourceError, trio.ClosedResourceError):
            self._say.send_nowait((self._last, text))

    def close(self, code: int) -> None:
        """Close the connection with this close code, after earlier messages."""
        # Through the same channel, so that the close frame comes after the results that were due before it.
        self.say(b"close %d" % code)

    async def lose(self) -> None:
        """Break the connection, whatever it is doing."""
        if self._stream is not None:
            await trio.aclose_forcefully(self._stream)
