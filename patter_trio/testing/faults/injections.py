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

FaultInjection = Callable[[SimulatedTwilio], None]
Alter = Callable[[str], Sequence[str | bytes]]
"""Returns what becomes of a message: others, several, none."""

TEXT_OPCODE: Final = 0x1
BINARY_OPCODE: Final = 0x2
CONTINUATION_OPCODE: Final = 0x0
CLOSE_OPCODE: Final = 0x8
PING_OPCODE: Final = 0x9
PONG_OPCODE: Final = 0xA
RESERVED_OPCODE: Final = 0x3
_MIN_64_BIT_LENGTH_BYTES: Final = 65536
_MIN_16_BIT_LENGTH_BYTES: Final = 126


# Frames ---------------------------------------------------------------------------------------------------------------
def frame(opcode: int, data: bytes = b"", *, final: bool = True, reserved: int = 0, masked: bool = True) -> bytes:
    """Return a WebSocket frame of a client, whatever RFC 6455 says of it; the masking key is four zero bytes."""
    first = bytes([final << 7 | reserved << 4 | opcode])
    mask = 0x80 if masked else 0
    if len(data) < _MIN_16_BIT_LENGTH_BYTES:
        size = bytes([mask | len(data)])
    elif len(data) < _MIN_64_BIT_LENGTH_BYTES:
        size = bytes([mask | 126]) + len(data).to_bytes(2)
    else:
        size = bytes([mask | 127]) + len(data).to_bytes(8)
    return first + size + (bytes(4) if masked else b"") + data


def faulty_stream_of(carrier: SimulatedTwilio) -> FaultyStream:
    """Return the media connection of a simulated call, for faults below the messages.

    Raises:
        ValueError: the carrier is connected by sockets, where nothing can be made to fail.
    """
    if carrier.faulty_stream is None:
        raise ValueError("this carrier's connection is not a simulated one")
    return carrier.faulty_stream


def on_stream(injection: Callable[[FaultyStream], None]) -> FaultInjection:
    """Strike the media connection itself."""
    return lambda carrier: injection(faulty_stream_of(carrier))


def raw_bytes(data: bytes) -> FaultInjection:
    """Have the server read these bytes next."""
    return lambda carrier: faulty_stream_of(carrier).inject(data)


def raw_bytes_and_end(data: bytes) -> FaultInjection:
    """Have the server read these bytes next, and then the connection's end."""

    def injection(carrier: SimulatedTwilio) -> None:
        faulty_stream_of(carrier).inject(data)
        faulty_stream_of(carrier).end()

    return injection


def flood_unread(carrier: SimulatedTwilio) -> None:
    """Send a thousand pings at once, and read nothing any more."""
    faulty_stream_of(carrier).stop_reading()
    faulty_stream_of(carrier).inject(frame(PING_OPCODE, b"?" * 125) * 1000)


# Messages -------------------------------------------------------------------------------------------------------------
def messages(*messages: dict[str, object] | str, times: int = 1) -> FaultInjection:
    """Send these messages once; ``SID`` stands for the stream's id."""

    def injection(carrier: SimulatedTwilio) -> None:
        for _ in range(times):
            for message in messages:
                text = message if isinstance(message, str) else json.dumps(message)
                carrier.send(text.replace("SID", carrier.stream_sid))

    return injection


def altering(make: Callable[[], Alter]) -> FaultInjection:
    """From now on, pass every message through a function of its own for this call."""

    def injection(carrier: SimulatedTwilio) -> None:
        carrier.alter = make()

    return injection


def every(count: int, alter: Alter, event: str = "") -> FaultInjection:
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


def swapped(event: str = "") -> FaultInjection:
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


def framed(cut: Callable[[bytes], Iterator[bytes]]) -> FaultInjection:
    """Send each message as frames of one's own making."""

    def make(carrier: SimulatedTwilio) -> Alter:
        def altered(message: str) -> Sequence[str]:
            faulty_stream_of(carrier).inject(b"".join(cut(message.encode())))
            return ()

        return altered

    def injection(carrier: SimulatedTwilio) -> None:
        carrier.alter = make(carrier)

    return injection


def in_three(message: bytes) -> Iterator[bytes]:
    """Yield a message as three fragments and an empty one, with a ping between them."""
    yield frame(TEXT_OPCODE, message[:7], final=False)
    yield frame(PING_OPCODE, b"between")
    yield frame(CONTINUATION_OPCODE, message[7:60], final=False)
    yield frame(CONTINUATION_OPCODE, final=False)
    yield frame(CONTINUATION_OPCODE, message[60:])


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


SILENT_FRAME: Final = g711.silence(0.02)
SECOND_START_MESSAGE: Final[dict[str, object]] = {
    "event": "start",
    "streamSid": "SID",
    "start": {"streamSid": "SID", "callSid": "CA1", "customParameters": {}},
}
STOP_MESSAGE: Final[dict[str, object]] = {"event": "stop", "streamSid": "SID", "stop": {}}
DIGIT_MESSAGE: Final[dict[str, object]] = {"event": "dtmf", "streamSid": "SID", "dtmf": {"digit": "5"}}
