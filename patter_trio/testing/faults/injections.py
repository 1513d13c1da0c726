"""Building blocks for fault injection: hand-made frames and messages, and functions that alter messages in flight.

Each function returns (or is) a :data:`FaultInjection`: a plain function of a simulated carrier that takes effect at
once.
"""

import json
from collections.abc import Callable, Iterator, Sequence
from typing import Final

from patter_trio.audio import g711
from patter_trio.testing.carriers.faulty_stream import FaultyStream
from patter_trio.testing.carriers.line import SimulatedCarrier
from patter_trio.testing.carriers.network import Alter
from patter_trio.testing.faults.words import WORDS, Message, StreamWords, name_of, renamed

FaultInjection = Callable[[SimulatedCarrier], None]
Say = Callable[[StreamWords], Message]
"""Makes a message in a carrier's words."""

# Frames are made by hand, because the library that the server uses would refuse to make most of them.
# Faults in messages pass through ``SimulatedCarrier.alter_messages``, at the writer, so that sequence numbers
# and instants are those of a sound call.

TEXT_OPCODE: Final = 0x1
BINARY_OPCODE: Final = 0x2
CONTINUATION_OPCODE: Final = 0x0
CLOSE_OPCODE: Final = 0x8
PING_OPCODE: Final = 0x9
PONG_OPCODE: Final = 0xA
RESERVED_OPCODE: Final = 0x3
# RFC 6455 section 5.2: shorter lengths have to be written in their shorter form.
_MIN_64_BIT_LENGTH_BYTES: Final = 65536
_MIN_16_BIT_LENGTH_BYTES: Final = 126


# Frames ---------------------------------------------------------------------------------------------------------------
def frame(opcode: int, data: bytes = b"", *, final: bool = True, reserved: int = 0, masked: bool = True) -> bytes:
    """Return a WebSocket frame of a client, valid by RFC 6455 or not; the masking key is four zero bytes."""
    # The masking key of zeros leaves the data as it is: what a fault says is what is on the wire.
    first = bytes([final << 7 | reserved << 4 | opcode])
    mask = 0x80 if masked else 0
    if len(data) < _MIN_16_BIT_LENGTH_BYTES:
        size = bytes([mask | len(data)])
    elif len(data) < _MIN_64_BIT_LENGTH_BYTES:
        size = bytes([mask | 126]) + len(data).to_bytes(2)
    else:
        size = bytes([mask | 127]) + len(data).to_bytes(8)
    return first + size + (bytes(4) if masked else b"") + data


def faulty_stream_of(carrier: SimulatedCarrier) -> FaultyStream:
    """Return the media connection of a simulated call, for faults below the messages.

    Raises:
        ValueError: the carrier runs on real sockets, on which no fault can be injected.
    """
    # On real sockets, the kit has no stream of its own between the two sides.
    if carrier.faulty_stream is None:
        raise ValueError(
            "the carrier's connection must be a simulated one for faults below the messages; got real sockets"
        )
    return carrier.faulty_stream


def on_stream(injection: Callable[[FaultyStream], None]) -> FaultInjection:
    """Apply a fault to the media connection itself."""
    return lambda carrier: injection(faulty_stream_of(carrier))


def for_good(injection: FaultInjection) -> FaultInjection:
    """Let the call end with its stream: the carrier opens no other."""

    def injection_and_end(carrier: SimulatedCarrier) -> None:
        carrier.stay_away()
        injection(carrier)

    return injection_and_end


def raw_bytes(data: bytes) -> FaultInjection:
    """Make the server read these bytes next."""
    return lambda carrier: faulty_stream_of(carrier).inject(data)


def raw_bytes_and_end(data: bytes) -> FaultInjection:
    """Make the server read these bytes next, and then the end of the connection."""

    def injection(carrier: SimulatedCarrier) -> None:
        faulty_stream_of(carrier).inject(data)
        # After the bytes: the stream gives what was injected first.
        faulty_stream_of(carrier).end()

    return injection


def flood_unread(carrier: SimulatedCarrier) -> None:
    """Send a thousand pings at once, and stop reading."""
    # First: the answer to the first ping must find the peer deaf.
    faulty_stream_of(carrier).stop_reading()
    faulty_stream_of(carrier).inject(frame(PING_OPCODE, b"?" * 125) * 1000)


# Messages -------------------------------------------------------------------------------------------------------------
def words_of(carrier: SimulatedCarrier) -> StreamWords:
    """Return the words of a simulated carrier's stream."""
    return WORDS[carrier.protocol.name]


def messages(*sayings: Say | str, times: int = 1) -> FaultInjection:
    """Send these messages ``times`` times, in the carrier's words; a text is sent as it is."""

    def injection(carrier: SimulatedCarrier) -> None:
        words = words_of(carrier)
        texts = [saying if isinstance(saying, str) else json.dumps(saying(words)) for saying in sayings]
        for _ in range(times):
            for text in texts:
                # Through the network, with its delay, in order with the carrier's own messages.
                carrier.send(text.replace("SID", carrier.stream_id))

    return injection


def altering(make: Callable[[StreamWords], Alter]) -> FaultInjection:
    """Pass every message from now on through a function that is made anew for each call."""

    def injection(carrier: SimulatedCarrier) -> None:
        # Made anew, because the functions count and hold: two calls must not share them.
        carrier.alter_messages(make(words_of(carrier)))

    return injection


def every(count: int, alter: Alter, event: str = "") -> FaultInjection:
    """Alter each ``count``-th message, or each ``count``-th message of one event: ``media`` or ``mark``."""

    def make(words: StreamWords) -> Alter:
        seen = 0

        def altered(message: str) -> Sequence[str | bytes]:
            nonlocal seen
            # Only messages of the carrier pass here, which are JSON.
            if event and json.loads(message)["event"] != words.event(event):
                return (message,)
            seen += 1
            return alter(message) if seen % count == 0 else (message,)

        return altered

    return altering(make)


def swapped(event: str = "") -> FaultInjection:
    """Swap neighbouring messages, or those of one event; the ``stop`` of a stream is not held back."""

    def make(words: StreamWords) -> Alter:
        held: list[str] = []

        def altered(message: str) -> Sequence[str]:
            kind = json.loads(message)["event"]
            # A stop that was held back would never be followed by another message, and the call would not end.
            if kind == "stop" or (event and kind != words.event(event)):
                return (message,)
            if not held:
                held.append(message)
                return ()
            # The later one first.
            return (message, held.pop())

        return altered

    return altering(make)


def framed(cut: Callable[[bytes], Iterator[bytes]]) -> FaultInjection:
    """Send each message as hand-made frames."""

    def make(carrier: SimulatedCarrier) -> Alter:
        def altered(message: str) -> Sequence[str]:
            # Below the socket, which would frame the message itself; nothing remains for the writer to send.
            faulty_stream_of(carrier).inject(b"".join(cut(message.encode())))
            return ()

        return altered

    def injection(carrier: SimulatedCarrier) -> None:
        carrier.alter_messages(make(carrier))

    return injection


def in_three(message: bytes) -> Iterator[bytes]:
    """Yield a message as three fragments and an empty one, with a ping among them."""
    # Within the JSON and within a base64 group: no piece makes sense by itself.
    yield frame(TEXT_OPCODE, message[:7], final=False)
    yield frame(PING_OPCODE, b"between")
    yield frame(CONTINUATION_OPCODE, message[7:60], final=False)
    yield frame(CONTINUATION_OPCODE, final=False)
    yield frame(CONTINUATION_OPCODE, message[60:])


def mark_name(change: Callable[[str], str]) -> Alter:
    """Change the name of a mark."""

    def altered(message: str) -> Sequence[str]:
        played = json.loads(message)
        return (json.dumps(renamed(played, change(name_of(played)))),)

    return altered


def early_marks(carrier: SimulatedCarrier) -> None:
    """Report marks from now on when they arrive instead of when they are played."""
    carrier.return_marks_early()


def twice(message: str) -> Sequence[str]:
    """Duplicate a message."""
    return (message, message)


def gone(_: str) -> Sequence[str]:
    """Drop a message."""
    return ()


# Webhooks -------------------------------------------------------------------------------------------------------------
def news(what: str, *, times: int = 1, unknown_call: bool = False) -> FaultInjection:
    """Send news about the call, or about one that does not exist, by webhooks beside the stream.

    Args:
        what: one of :data:`~patter_trio.testing.carriers.news.NEWS`.
        times: how often.
        unknown_call: if True, the news are about a call that does not exist.
    """

    def injection(carrier: SimulatedCarrier) -> None:
        call_id = words_of(carrier).unknown_call if unknown_call else ""
        for _ in range(times):
            carrier.report(carrier.protocol.news(carrier.public_url, what, call_id))

    return injection


SILENT_FRAME: Final = g711.silence(0.02)
