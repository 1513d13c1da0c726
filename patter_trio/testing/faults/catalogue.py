"""A catalogue of what can go wrong between carrier and server, and what a call does about each fault.

A fault strikes a simulated call at any moment; its ``injection`` is a plain function of the call's carrier::

    async with call_simulator(agent) as caller:
        await caller.at(2.0)
        FAULTS["connection reset"].injection(caller.carrier)

docs/robustness.md shows the catalogue as a table. The tests inject each fault in every phase of a call, beside a second
call that must not be affected.
"""

from enum import StrEnum
from typing import Final

import attrs

from patter_trio.audio import g711
from patter_trio.net.websocket import MAX_MESSAGE_BYTES
from patter_trio.testing.faults.injections import (
    BINARY_OPCODE,
    CLOSE_OPCODE,
    CONTINUATION_OPCODE,
    DIGIT_MESSAGE,
    PING_OPCODE,
    PONG_OPCODE,
    RESERVED_OPCODE,
    SECOND_START_MESSAGE,
    SILENT_FRAME,
    STOP_MESSAGE,
    TEXT_OPCODE,
    FaultInjection,
    early_marks,
    every,
    flood_unread,
    frame,
    framed,
    gone,
    in_three,
    mark_name,
    media,
    messages,
    on_stream,
    raw_bytes,
    raw_bytes_and_end,
    swapped,
    twice,
)
from patter_trio.testing.twilio.faulty_stream import FaultyStream


class Hears(StrEnum):
    """The part of the agent's replies that the caller hears after a fault."""

    EVERY_WORD = "every word"
    """Each reply to its end, without a gap, unless the caller interrupts it."""
    EVERY_WORD_LATER = "every word, after a gap"
    """Each reply to its end, unless the caller interrupts it; what the fault held up comes after it."""
    NOTHING_MORE = "nothing more"
    """Only what was sent before the fault."""


@attrs.frozen
class Fault:
    """A way in which a carrier, a network or an impostor misbehaves.

    ``outcome``: the outcome of the call that is under way; empty if the call continues. ``within``: seconds from the
    injection to the end of the call. ``why``: a regular expression for the one line at WARNING that the log has about
    the fault; empty if there is no such line, because nothing needs attention. ``harmless``: the conversation is the
    same as without the fault, to the letter and to the millisecond. ``hears``: what the caller hears from then on; after
    a fault that ends the call, nothing. ``deaf``: the fault keeps from the agent what the caller says, so that questions
    may stay unanswered.
    """

    name: str
    kind: str
    """The part that is affected: connection, frames, messages, media or marks."""
    peer: str
    """A description of what the other side does, for the table."""
    injection: FaultInjection = attrs.field(repr=False)
    outcome: str = ""
    within: float = 0.0
    why: str = ""
    harmless: bool = False
    hears: Hears = Hears.EVERY_WORD
    deaf: bool = False


# Each fault names the outcome that was decided for it, not the one that was observed: the tests in tests/hostile hold
# the call to it. ``within`` counts from the injection: 1 s for an end that is noticed at once, and the sum of the
# deadlines that apply for one that is not. Positional arguments, because the table is read by columns.

# Without a close frame, RFC 6455 has code 1006 for the end.
_LOST: Final = r"the carrier's stream was lost: websocket closed \(1006, connection lost\)"
_IGNORED: Final = "ignoring an invalid message from the carrier: "

_ALL: Final = (
    # The connection
    Fault(
        "connection reset",
        "connection",
        "resets the connection (RST)",
        on_stream(FaultyStream.reset),
        "failed",
        1.0,
        _LOST,
    ),
    Fault(
        "connection ended",
        "connection",
        "ends the connection without a close frame (FIN)",
        on_stream(FaultyStream.end),
        "failed",
        1.0,
        _LOST,
    ),
    Fault(
        "half-open peer",
        "connection",
        "has vanished without closing the connection; data sent to it is lost",
        on_stream(FaultyStream.vanish),
        "failed",
        # Pinged after 10 s without a frame, given up after 20 s (docs/design.md), and 1 s to end.
        21.0,
        "the carrier sent nothing for 20 s",
    ),
    Fault(
        "frozen peer",
        "connection",
        "neither sends nor reads; the connection stays open",
        on_stream(FaultyStream.freeze),
        "failed",
        # At most both limits, 20 s of silence and the writer's 5 s without progress, and 1 s to end.
        26.0,
        "the carrier (stopped reading|sent nothing for 20 s)",
    ),
    Fault(
        "stalled reader",
        "connection",
        "goes on sending, and reads nothing",
        on_stream(FaultyStream.stop_reading),
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
        on_stream(lambda line: line.trickle(1, 0.5)),
        "failed",
        21.0,
        "the carrier sent nothing for 20 s",
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
        raw_bytes_and_end(frame(TEXT_OPCODE, b"{}" * 40)[:-7]),
        "failed",
        1.0,
        _LOST,
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
        _IGNORED + "a message must be text, got binary data",
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
        "closed by an error",
        "frames",
        "sends a close frame (1011)",
        raw_bytes(frame(CLOSE_OPCODE, b"\x03\xf3oops")),
        "failed",
        1.0,
        r"\(1011, oops",
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
    # Messages
    Fault(
        "malformed JSON",
        "messages",
        "sends a message that is not JSON",
        messages("{"),
        "",
        0.0,
        _IGNORED + "a message must be valid JSON",
        True,
    ),
    Fault(
        "wrong types",
        "messages",
        "sends numbers and lists in place of strings",
        messages({"event": "media", "streamSid": 7, "media": []}),
        "",
        0.0,
        _IGNORED + "each field must be there and have its type",
        True,
    ),
    Fault(
        "deep JSON",
        "messages",
        "sends 100,000 nested lists",
        # Deeper than a recursive parser survives.
        messages('{"event":"mark","x":' + "[" * 100_000),
        "",
        0.0,
        _IGNORED + "a message must be valid JSON",
        True,
    ),
    Fault(
        "100 bad messages",
        "messages",
        "sends a hundred messages that violate its protocol",
        # The number after which the package gives a carrier up.
        messages("{", times=100),
        "failed",
        1.0,
        "100 messages that its protocol does not allow",
    ),
    Fault(
        "unknown events",
        "messages",
        "sends events and fields that are not in the documentation",
        messages({"event": "new", "streamSid": "SID", "new": {}}, times=100),
        harmless=True,
    ),
    Fault(
        "another stream's messages",
        "messages",
        "sends media of another stream",
        # The loudest code, so that audio that got through would be taken for a voice; a second of it would interrupt.
        messages(media(b"\x00" * 160, sid="MZ9"), times=50),
        "",
        0.0,
        _IGNORED + "the streamSid must be that of the start message",
        True,
    ),
    Fault(
        "outbound track",
        "messages",
        "sends the agent's own audio back, marked as outbound",
        messages(media(b"\x00" * 160, track="outbound"), times=50),
        harmless=True,
    ),
    Fault(
        "second start",
        "messages",
        "sends a second start",
        messages(SECOND_START_MESSAGE),
        "",
        0.0,
        _IGNORED + "the start message must come once, got a second one",
        True,
    ),
    Fault(
        "no such digit",
        "messages",
        "reports a key that no telephone has",
        # "w" is a pause in Twilio's notation for dialling, and no key.
        messages({**DIGIT_MESSAGE, "dtmf": {"digit": "w"}}),
        "",
        0.0,
        _IGNORED + "a digit must be 0 to 9, A to D, star or hash",
        True,
    ),
    Fault("flood of digits", "messages", "reports 300 keys at once", messages(DIGIT_MESSAGE, times=300)),
    Fault("stop", "messages", "ends the stream as documented", messages(STOP_MESSAGE), "caller_hung_up", 1.0),
    Fault(
        "two stops",
        "messages",
        "ends the stream twice, and goes on sending",
        messages(STOP_MESSAGE, STOP_MESSAGE, media(SILENT_FRAME)),
        "caller_hung_up",
        1.0,
    ),
    Fault("duplicated messages", "messages", "sends every message twice", every(1, twice)),
    Fault("reordered messages", "messages", "swaps neighbouring messages", swapped()),
    Fault("lost messages", "messages", "omits every third message", every(3, gone), deaf=True),
    # Media
    Fault(
        "empty payload",
        "media",
        "sends media without audio",
        messages(media(b"")),
        "",
        0.0,
        _IGNORED + "a payload must have audio, got an empty one",
        True,
    ),
    Fault(
        "payload not base64",
        "media",
        "sends media that cannot be decoded",
        messages({**media(b""), "media": {"payload": "%%%%"}}),
        "",
        0.0,
        _IGNORED + "each field must be there",
        True,
    ),
    Fault(
        "no more media",
        "media",
        "stops sending media, but keeps the connection alive",
        every(1, gone, "media"),
        deaf=True,
    ),
    Fault("media in crumbs", "media", "sends 200 messages of one sample", messages(media(b"\xff"), times=200)),
    # Ten times what the queue to the VAD holds.
    Fault("media in lumps", "media", "sends ten seconds of audio in one message", messages(media(g711.silence(10.0)))),
    Fault("flood of media", "media", "sends ten seconds of audio at once", messages(media(SILENT_FRAME), times=500)),
    # Once in 50 frames is 2 %: far more than the clocks of real equipment differ.
    Fault("fast clock", "media", "sends audio 2 % faster than real time", every(50, twice, "media")),
    Fault("slow clock", "media", "sends audio 2 % slower than real time", every(50, gone, "media")),
    # Marks
    Fault("marks never come", "marks", "stops reporting marks", every(1, gone, "mark")),
    Fault(
        "foreign marks",
        "marks",
        "reports marks that were never requested",
        # In the form of the package's own names, of a reply that does not exist.
        messages({"event": "mark", "streamSid": "SID", "mark": {"name": "r9.999"}}, times=100),
        harmless=True,
    ),
    Fault(
        "marks of other names",
        "marks",
        "reports marks under wrong names",
        every(1, mark_name(lambda name: name + "?"), "mark"),
    ),
    Fault("marks twice", "marks", "reports each mark twice", every(1, twice, "mark"), harmless=True),
    Fault("marks out of order", "marks", "swaps neighbouring marks", swapped("mark")),
    Fault("marks too early", "marks", "reports each mark when it arrives instead of when it is played", early_marks),
)
FAULTS: Final = {fault.name: fault for fault in _ALL}
"""The catalogue, by the names of the faults."""
