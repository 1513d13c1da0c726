"""The faults of the connection itself, and of the WebSocket frames on it."""

from typing import Final

from patter_trio.net.websocket import MAX_MESSAGE_BYTES
from patter_trio.testing.carriers.faulty_stream import FaultyStream
from patter_trio.testing.faults.fault import IGNORED, Fault, Hears
from patter_trio.testing.faults.injections import (
    BINARY_OPCODE,
    CLOSE_OPCODE,
    CONTINUATION_OPCODE,
    PING_OPCODE,
    PONG_OPCODE,
    RESERVED_OPCODE,
    TEXT_OPCODE,
    flood_unread,
    for_good,
    frame,
    framed,
    in_three,
    on_stream,
    raw_bytes,
    raw_bytes_and_end,
)

# Each fault names the outcome that was decided for it, not the one that was observed: the tests in tests/hostile hold
# the call to it. ``within`` counts from the injection: 1 s for an end that is noticed at once, and the sum of the
# deadlines that apply for one that is not. Where the stream alone would be lost, the call ends with it at the carrier,
# which reports that: what a call does whose carrier comes back, or says nothing, is in
# ``tests/server/test_lost_streams.py``. Positional arguments, because the table is read by columns.
STREAM_FAULTS: Final = (
    # The connection
    Fault(
        "connection reset",
        "connection",
        "resets the connection (RST)",
        for_good(on_stream(FaultyStream.reset)),
        "caller_hung_up",
        1.0,
    ),
    Fault(
        "connection ended",
        "connection",
        "ends the connection without a close frame (FIN)",
        for_good(on_stream(FaultyStream.end)),
        "caller_hung_up",
        1.0,
    ),
    Fault(
        "half-open peer",
        "connection",
        "has vanished without closing the connection; data sent to it is lost",
        for_good(on_stream(FaultyStream.vanish)),
        "caller_hung_up",
        # Pinged after 10 s without a frame, given up after 20 s (docs/design.md), and 1 s to end.
        21.0,
    ),
    Fault(
        "frozen peer",
        "connection",
        "neither sends nor reads; the connection stays open",
        for_good(on_stream(FaultyStream.freeze)),
        "caller_hung_up",
        # At most both limits, 20 s of silence and the writer's 5 s without progress, and 1 s to end.
        26.0,
    ),
    Fault(
        "stalled reader",
        "connection",
        "goes on sending, and reads nothing",
        for_good(on_stream(FaultyStream.stop_reading)),
        "",
        0.0,
        "the carrier stopped reading",
        hears=Hears.NOTHING_MORE,
    ),
    Fault(
        "slow trickle",
        "connection",
        "sends one byte every half second",
        # A frame of 20 ms would take minutes, so no whole frame arrives: bytes alone do not keep the call alive.
        for_good(on_stream(lambda line: line.trickle(1, 0.5))),
        "caller_hung_up",
        21.0,
    ),
    Fault(
        "torn segments",
        "connection",
        "sends in time, in segments of 40 bytes",
        # Less than a message: heads and bodies are torn at many places.
        on_stream(lambda line: line.trickle(40)),
        harmless=True,
    ),
    Fault(
        "pause of 0.3 s",
        "connection",
        "is delayed by the network for 0.3 s, both ways",
        lambda carrier: carrier.stall(0.3),
        hears=Hears.EVERY_WORD_LATER,
    ),
    Fault(
        "pause of 3 s",
        "connection",
        "is delayed by the network for 3 s, both ways",
        lambda carrier: carrier.stall(3.0),
        hears=Hears.EVERY_WORD_LATER,
        deaf=True,
    ),
    # Frames
    Fault(
        "garbage",
        "frames",
        "sends bytes that are not a frame",
        raw_bytes(b"\xff" * 64),
        "failed",
        1.0,
        r"was lost: websocket closed \(1002",
    ),
    Fault(
        "HTTP in the stream",
        "frames",
        "sends an HTTP request",
        raw_bytes(b"GET / HTTP/1.1\r\n\r\n"),
        "failed",
        1.0,
        r"was lost: websocket closed \(1002",
    ),
    Fault(
        "reserved opcode",
        "frames",
        "sends a frame of a kind that does not exist",
        raw_bytes(frame(RESERVED_OPCODE, b"x")),
        "failed",
        1.0,
        r"\(1002",
    ),
    Fault(
        "reserved bits",
        "frames",
        "sends a frame that claims to be compressed",
        # RSV1 marks a compressed message, which was not agreed upon.
        raw_bytes(frame(TEXT_OPCODE, b"{}", reserved=4)),
        "failed",
        1.0,
        r"\(1002",
    ),
    Fault(
        "unmasked frame",
        "frames",
        "sends an unmasked frame, as only servers may",
        raw_bytes(frame(TEXT_OPCODE, b"{}", masked=False)),
        "failed",
        1.0,
        r"\(1002",
    ),
    Fault(
        "long ping",
        "frames",
        "sends a ping of 126 bytes",
        # One byte more than a control frame may have.
        raw_bytes(frame(PING_OPCODE, b"?" * 126)),
        "failed",
        1.0,
        r"\(1002",
    ),
    Fault(
        "orphaned continuation",
        "frames",
        "sends a continuation frame without a message before it",
        raw_bytes(frame(CONTINUATION_OPCODE, b"{}")),
        "failed",
        1.0,
        r"\(1002",
    ),
    Fault(
        "interleaved messages",
        "frames",
        "begins a message within another",
        raw_bytes(frame(TEXT_OPCODE, b"{", final=False) + frame(TEXT_OPCODE, b"{}")),
        "failed",
        1.0,
        r"\(1002",
    ),
    Fault(
        "truncated frame",
        "frames",
        "ends the connection within a frame",
        # Any number of bytes short of the end.
        for_good(raw_bytes_and_end(frame(TEXT_OPCODE, b"{}" * 40)[:-7])),
        "caller_hung_up",
        1.0,
    ),
    Fault(
        "invalid UTF-8",
        "frames",
        "sends a text frame whose bytes are not UTF-8",
        raw_bytes(frame(TEXT_OPCODE, b"\xff\xfe")),
        "failed",
        1.0,
        r"\(1007",
    ),
    Fault(
        "oversized message",
        "frames",
        "sends a message of more than 256 KiB",
        raw_bytes(frame(TEXT_OPCODE, b"x" * (MAX_MESSAGE_BYTES + 1))),
        "failed",
        1.0,
        r"\(1009",
    ),
    Fault(
        "oversized in fragments",
        "frames",
        "sends a message of more than 256 KiB piece by piece",
        raw_bytes(
            frame(TEXT_OPCODE, b"x" * 1024, final=False) + frame(CONTINUATION_OPCODE, b"x" * 1024, final=False) * 256
        ),
        "failed",
        1.0,
        r"\(1009",
    ),
    Fault(
        "claimed size",
        "frames",
        "announces a frame of 2^62 bytes",
        # The head alone: the server must refuse before it waits for, or reserves, as much.
        raw_bytes(b"\x81\xff" + (2**62).to_bytes(8) + bytes(4)),
        "failed",
        1.0,
        r"\(1009",
    ),
    Fault(
        "empty fragments",
        "frames",
        "sends 2,000 empty pieces of a message",
        raw_bytes(
            frame(TEXT_OPCODE, final=False)
            # Each costs the server a frame, and none adds to the size that is limited.
            # The message is of an unknown event.
            + frame(CONTINUATION_OPCODE, final=False) * 2000
            + frame(CONTINUATION_OPCODE, b'{"event":"new"}')
        ),
        harmless=True,
    ),
    Fault(
        "fragmented frames",
        "frames",
        "sends each message in pieces, with a ping between them",
        framed(in_three),
        harmless=True,
    ),
    Fault(
        "binary frame",
        "frames",
        "sends a binary frame",
        raw_bytes(frame(BINARY_OPCODE, b"\x00\x01")),
        "",
        0.0,
        IGNORED + "a message must be text, got binary data",
        True,
    ),
    Fault(
        "flood of pings",
        "frames",
        "sends 2,000 pings of 125 bytes at once",
        # The answers add up to almost four times what may wait unsent; they leave as they come, because the peer reads.
        raw_bytes(frame(PING_OPCODE, b"?" * 125) * 2000),
        harmless=True,
    ),
    Fault(
        "flood of pings, unread",
        "frames",
        "sends 1,000 pings at once, and reads no answer",
        flood_unread,
        "failed",
        1.0,
        "1008, too many unanswered pings",
    ),
    Fault(
        "flood of pongs",
        "frames",
        "sends 2,000 pongs without a ping",
        raw_bytes(frame(PONG_OPCODE, b"!") * 2000),
        harmless=True,
    ),
    Fault(
        "closed orderly",
        "frames",
        "sends a close frame (1000) instead of a stop",
        # 1000: an orderly end, as if the caller had hung up.
        raw_bytes(frame(CLOSE_OPCODE, b"\x03\xe8")),
        "caller_hung_up",
        1.0,
    ),
    Fault(
        "closed without a code",
        "frames",
        "sends an empty close frame instead of a stop",
        raw_bytes(frame(CLOSE_OPCODE)),
        "caller_hung_up",
        1.0,
    ),
    Fault(
        "closed by going away",
        "frames",
        "sends a close frame (1001)",
        for_good(raw_bytes(frame(CLOSE_OPCODE, b"\x03\xe9"))),
        "caller_hung_up",
        1.0,
    ),
    Fault(
        "closed by an error",
        "frames",
        "sends a close frame (1011)",
        for_good(raw_bytes(frame(CLOSE_OPCODE, b"\x03\xf3oops"))),
        "caller_hung_up",
        1.0,
    ),
    Fault(
        "closed by a lie",
        "frames",
        "sends a close frame whose code may not be sent (1005)",
        # 1005 means "no code was sent", and is never on the wire itself.
        raw_bytes(frame(CLOSE_OPCODE, b"\x03\xed")),
        "failed",
        1.0,
        r"\(1002",
    ),
)
