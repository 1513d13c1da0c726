"""How faults are done: frames and messages of one's own making, and what alters those that are on their way.

Each function returns (or is) a strike: a plain function of a simulated carrier that takes effect at once.
"""

import base64
import json
from collections.abc import Callable, Iterator, Sequence
from typing import Final

from patter_trio.audio import g711
from patter_trio.testing.twilio.carrier import SimulatedTwilio
from patter_trio.testing.twilio.faulty_stream import FaultyStream

Strike = Callable[[SimulatedTwilio], None]
Alter = Callable[[str], Sequence[str | bytes]]
"""Returns what becomes of a message: others, several, none."""

TEXT: Final = 0x1
BINARY: Final = 0x2
CONTINUATION: Final = 0x0
CLOSE: Final = 0x8
PING: Final = 0x9
PONG: Final = 0xA
RESERVED: Final = 0x3
_LONG: Final = 65536
_MEDIUM: Final = 126


# Frames ---------------------------------------------------------------------------------------------------------------
def frame(opcode: int, data: bytes = b"", *, final: bool = True, reserved: int = 0, masked: bool = True) -> bytes:
    """Return a WebSocket frame of a client, whatever RFC 6455 says of it; the masking key is four zero bytes."""
    first = bytes([final << 7 | reserved << 4 | opcode])
    mask = 0x80 if masked else 0
    if len(data) < _MEDIUM:
        size = bytes([mask | len(data)])
    elif len(data) < _LONG:
        size = bytes([mask | 126]) + len(data).to_bytes(2)
    else:
        size = bytes([mask | 127]) + len(data).to_bytes(8)
    return first + size + (bytes(4) if masked else b"") + data


def line_of(carrier: SimulatedTwilio) -> FaultyStream:
    """Return the media connection of a simulated call, for faults below the messages.

    Raises:
        ValueError: the carrier is connected by sockets, where nothing can be made to fail.
    """
    if carrier.line is None:
        raise ValueError("this carrier's connection is not a simulated one")
    return carrier.line


def on_line(strike: Callable[[FaultyStream], None]) -> Strike:
    """Strike the media connection itself."""
    return lambda carrier: strike(line_of(carrier))


def raw_bytes(data: bytes) -> Strike:
    """Have the server read these bytes next."""
    return lambda carrier: line_of(carrier).inject(data)


def raw_bytes_and_end(data: bytes) -> Strike:
    """Have the server read these bytes next, and then the connection's end."""

    def strike(carrier: SimulatedTwilio) -> None:
        line_of(carrier).inject(data)
        line_of(carrier).end()

    return strike


def flood_unread(carrier: SimulatedTwilio) -> None:
    """Send a thousand pings at once, and read nothing any more."""
    line_of(carrier).stop_reading()
    line_of(carrier).inject(frame(PING, b"?" * 125) * 1000)


# Messages -------------------------------------------------------------------------------------------------------------
def messages(*messages: dict[str, object] | str, times: int = 1) -> Strike:
    """Send these messages once; ``SID`` stands for the stream's id."""

    def strike(carrier: SimulatedTwilio) -> None:
        for _ in range(times):
            for message in messages:
                text = message if isinstance(message, str) else json.dumps(message)
                carrier.send(text.replace("SID", carrier.stream_sid))

    return strike


def altering(make: Callable[[], Alter]) -> Strike:
    """From now on, pass every message through a function of its own for this call."""

    def strike(carrier: SimulatedTwilio) -> None:
        carrier.alter = make()

    return strike


def every(count: int, alter: Alter, event: str = "") -> Strike:
    """Alter each message of that number, or of that number among those of one event."""

    def make() -> Alter:
        seen = 0

        def altered(message: str) -> Sequence[str | bytes]:
            nonlocal seen
            if event and json.loads(message)["event"] != event:
                return (message,)
            seen += 1
            return alter(message) if seen % count == 0 else (message,)

        return altered

    return altering(make)


def swapped(event: str = "") -> Strike:
    """Swap neighbours: of all messages, or of those of one event. The end of a stream is not held back."""

    def make() -> Alter:
        held: list[str] = []

        def altered(message: str) -> Sequence[str]:
            kind = json.loads(message)["event"]
            if kind == "stop" or (event and kind != event):
                return (message,)
            if not held:
                held.append(message)
                return ()
            return (message, held.pop())

        return altered

    return altering(make)


def framed(cut: Callable[[bytes], Iterator[bytes]]) -> Strike:
    """Send each message as frames of one's own making."""

    def make(carrier: SimulatedTwilio) -> Alter:
        def altered(message: str) -> Sequence[str]:
            line_of(carrier).inject(b"".join(cut(message.encode())))
            return ()

        return altered

    def strike(carrier: SimulatedTwilio) -> None:
        carrier.alter = make(carrier)

    return strike


def in_three(message: bytes) -> Iterator[bytes]:
    """Yield a message as three fragments and an empty one, with a ping between them."""
    yield frame(TEXT, message[:7], final=False)
    yield frame(PING, b"between")
    yield frame(CONTINUATION, message[7:60], final=False)
    yield frame(CONTINUATION, final=False)
    yield frame(CONTINUATION, message[60:])


def mark_name(change: Callable[[str], str]) -> Alter:
    """Change the name of a mark."""

    def altered(message: str) -> Sequence[str]:
        decoded = json.loads(message)
        decoded["mark"]["name"] = change(decoded["mark"]["name"])
        return (json.dumps(decoded),)

    return altered


def early_marks(carrier: SimulatedTwilio) -> None:
    """From now on, report marks when they arrive."""
    carrier.early_marks = True


def media(audio: bytes, sid: str = "SID", track: str = "inbound") -> dict[str, object]:
    """Return a media message with this mu-law audio."""
    return {
        "event": "media",
        "streamSid": sid,
        "media": {"track": track, "payload": base64.b64encode(audio).decode()},
    }


def twice(message: str) -> Sequence[str]:
    """Make two of a message."""
    return (message, message)


def gone(_: str) -> Sequence[str]:
    """Make nothing of a message."""
    return ()


HUSH: Final = g711.silence(0.02)
SECOND_START: Final[dict[str, object]] = {
    "event": "start",
    "streamSid": "SID",
    "start": {"streamSid": "SID", "callSid": "CA1", "customParameters": {}},
}
STOP: Final[dict[str, object]] = {"event": "stop", "streamSid": "SID", "stop": {}}
DIGIT: Final[dict[str, object]] = {"event": "dtmf", "streamSid": "SID", "dtmf": {"digit": "5"}}
