"""What can come down the wire, or not come: a catalogue of faults, and what a call does about each.

A fault strikes a simulated call at any moment, by a plain function of its carrier::

    async with call_simulator(agent) as caller:
        await caller.at(2.0)
        FAULTS["connection reset"].strike(caller.carrier)

docs/robustness.md shows the catalogue as a table; the tests of this package strike with each fault in every phase of a
call, beside a second call that has to stay exact.
"""

import base64
import json
from collections.abc import Callable, Iterator, Sequence
from typing import Final

import attrs

from patter_trio.audio import g711
from patter_trio.net.websocket import MAX_MESSAGE
from patter_trio.testing.carrier import SimulatedTwilio
from patter_trio.testing.line import FaultyStream

Strike = Callable[[SimulatedTwilio], None]
Alter = Callable[[str], Sequence[str | bytes]]

TEXT: Final = 0x1
BINARY: Final = 0x2
CONTINUATION: Final = 0x0
CLOSE: Final = 0x8
PING: Final = 0x9
PONG: Final = 0xA
_RESERVED: Final = 0x3
_LONG: Final = 65536
_MEDIUM: Final = 126


@attrs.frozen
class Fault:
    """A way in which a carrier, a network or an impostor misbehaves.

    ``outcome`` is what becomes of a call that is under way; empty: it goes on. ``within``: seconds from the strike to the
    call's end. ``why``: a regular expression for the one line at WARNING that the log has of it; empty: there is none,
    for nobody has to do anything. ``harmless``: the conversation is the same as without the fault, to the letter and to
    the millisecond.
    """

    name: str
    kind: str
    """Of the connection, its frames, the messages in them, the media or the marks."""
    peer: str
    """What the other side does."""
    strike: Strike = attrs.field(repr=False)
    outcome: str = ""
    within: float = 0.0
    why: str = ""
    harmless: bool = False


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


def _on_line(strike: Callable[[FaultyStream], None]) -> Strike:
    return lambda carrier: strike(line_of(carrier))


def _bytes(data: bytes) -> Strike:
    return lambda carrier: line_of(carrier).inject(data)


def _bytes_and_end(data: bytes) -> Strike:
    def strike(carrier: SimulatedTwilio) -> None:
        line_of(carrier).inject(data)
        line_of(carrier).end()

    return strike


def _flood_unread(carrier: SimulatedTwilio) -> None:
    line_of(carrier).stop_reading()
    line_of(carrier).inject(frame(PING, b"?" * 125) * 1000)


# Messages -------------------------------------------------------------------------------------------------------------
def _messages(*messages: dict[str, object] | str, times: int = 1) -> Strike:
    """Send these messages once; ``SID`` stands for the stream's id."""

    def strike(carrier: SimulatedTwilio) -> None:
        for _ in range(times):
            for message in messages:
                text = message if isinstance(message, str) else json.dumps(message)
                carrier.send(text.replace("SID", carrier.stream_sid))

    return strike


def _altering(make: Callable[[], Alter]) -> Strike:
    """From now on, pass every message through a function of its own for this call."""

    def strike(carrier: SimulatedTwilio) -> None:
        carrier.alter = make()

    return strike


def _every(count: int, alter: Alter, event: str = "") -> Strike:
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

    return _altering(make)


def _swapped(event: str = "") -> Strike:
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

    return _altering(make)


def _framed(cut: Callable[[bytes], Iterator[bytes]]) -> Strike:
    """Send each message as frames of one's own making."""

    def make(carrier: SimulatedTwilio) -> Alter:
        def altered(message: str) -> Sequence[str]:
            line_of(carrier).inject(b"".join(cut(message.encode())))
            return ()

        return altered

    def strike(carrier: SimulatedTwilio) -> None:
        carrier.alter = make(carrier)

    return strike


def _in_three(message: bytes) -> Iterator[bytes]:
    yield frame(TEXT, message[:7], final=False)
    yield frame(PING, b"between")
    yield frame(CONTINUATION, message[7:60], final=False)
    yield frame(CONTINUATION)[:1].replace(b"\x80", b"\x00") + frame(CONTINUATION)[1:]
    yield frame(CONTINUATION, message[60:])


def _mark_name(change: Callable[[str], str]) -> Alter:
    def altered(message: str) -> Sequence[str]:
        decoded = json.loads(message)
        decoded["mark"]["name"] = change(decoded["mark"]["name"])
        return (json.dumps(decoded),)

    return altered


def _early_marks(carrier: SimulatedTwilio) -> None:
    carrier.early_marks = True


def _media(audio: bytes, sid: str = "SID", track: str = "inbound") -> dict[str, object]:
    return {
        "event": "media",
        "streamSid": sid,
        "media": {"track": track, "payload": base64.b64encode(audio).decode()},
    }


def _twice(message: str) -> Sequence[str]:
    return (message, message)


def _gone(_: str) -> Sequence[str]:
    return ()


_HUSH: Final = g711.silence(0.02)
_SECOND_START: Final[dict[str, object]] = {
    "event": "start",
    "streamSid": "SID",
    "start": {"streamSid": "SID", "callSid": "CA1", "customParameters": {}},
}
_STOP: Final[dict[str, object]] = {"event": "stop", "streamSid": "SID", "stop": {}}
_DIGIT: Final[dict[str, object]] = {"event": "dtmf", "streamSid": "SID", "dtmf": {"digit": "5"}}
_LOST: Final = r"the carrier's stream was lost: websocket closed \(1006, connection lost\)"
_IGNORED: Final = "ignoring what its stream may not send: "

_ALL: Final = (
    # The connection
    Fault(
        "connection reset",
        "connection",
        "resets the connection (RST)",
        _on_line(FaultyStream.reset),
        "failed",
        1.0,
        _LOST,
    ),
    Fault(
        "connection ended",
        "connection",
        "ends the connection without a close frame (FIN)",
        _on_line(FaultyStream.end),
        "failed",
        1.0,
        _LOST,
    ),
    Fault(
        "half-open peer",
        "connection",
        "is gone, and nobody says so; what is sent to it vanishes",
        _on_line(FaultyStream.vanish),
        "failed",
        21.0,
        "the carrier said nothing for 20 s",
    ),
    Fault(
        "frozen peer",
        "connection",
        "neither sends nor reads; the connection stands",
        _on_line(FaultyStream.freeze),
        "failed",
        26.0,
        "the carrier (stopped reading|said nothing for 20 s)",
    ),
    Fault(
        "stalled reader",
        "connection",
        "goes on sending, and reads nothing",
        _on_line(FaultyStream.stop_reading),
        "",
        0.0,
        "the carrier stopped reading",
    ),
    Fault(
        "slow trickle",
        "connection",
        "sends one byte every half second",
        _on_line(lambda line: line.trickle(1, 0.5)),
        "failed",
        21.0,
        "the carrier said nothing for 20 s",
    ),
    Fault(
        "torn segments",
        "connection",
        "sends in time, in segments of 40 bytes",
        _on_line(lambda line: line.trickle(40)),
        harmless=True,
    ),
    Fault(
        "pause of 0.3 s",
        "connection",
        "is held up by the network for 0.3 s, both ways",
        lambda carrier: carrier.stall(0.3),
    ),
    Fault(
        "pause of 3 s", "connection", "is held up by the network for 3 s, both ways", lambda carrier: carrier.stall(3.0)
    ),
    # Frames
    Fault(
        "garbage",
        "frames",
        "sends bytes that are no frame",
        _bytes(b"\xff" * 64),
        "failed",
        1.0,
        r"was lost: websocket closed \(1002",
    ),
    Fault(
        "HTTP in the stream",
        "frames",
        "sends an HTTP request",
        _bytes(b"GET / HTTP/1.1\r\n\r\n"),
        "failed",
        1.0,
        r"was lost: websocket closed \(1002",
    ),
    Fault(
        "reserved opcode",
        "frames",
        "sends a frame of a kind that does not exist",
        _bytes(frame(_RESERVED, b"x")),
        "failed",
        1.0,
        r"\(1002",
    ),
    Fault(
        "reserved bits",
        "frames",
        "sends a frame that claims to be compressed",
        _bytes(frame(TEXT, b"{}", reserved=4)),
        "failed",
        1.0,
        r"\(1002",
    ),
    Fault(
        "unmasked frame",
        "frames",
        "sends a frame as only servers may",
        _bytes(frame(TEXT, b"{}", masked=False)),
        "failed",
        1.0,
        r"\(1002",
    ),
    Fault(
        "long ping", "frames", "sends a ping of 126 bytes", _bytes(frame(PING, b"?" * 126)), "failed", 1.0, r"\(1002"
    ),
    Fault(
        "orphaned continuation",
        "frames",
        "continues a message that was not begun",
        _bytes(frame(CONTINUATION, b"{}")),
        "failed",
        1.0,
        r"\(1002",
    ),
    Fault(
        "interleaved messages",
        "frames",
        "begins a message within another",
        _bytes(frame(TEXT, b"{", final=False) + frame(TEXT, b"{}")),
        "failed",
        1.0,
        r"\(1002",
    ),
    Fault(
        "truncated frame",
        "frames",
        "ends the connection within a frame",
        _bytes_and_end(frame(TEXT, b"{}" * 40)[:-7]),
        "failed",
        1.0,
        _LOST,
    ),
    Fault(
        "text that is no UTF-8",
        "frames",
        "sends a text frame of bytes that are none",
        _bytes(frame(TEXT, b"\xff\xfe")),
        "failed",
        1.0,
        r"\(1007",
    ),
    Fault(
        "oversized message",
        "frames",
        "sends a message of more than 256 KiB",
        _bytes(frame(TEXT, b"x" * (MAX_MESSAGE + 1))),
        "failed",
        1.0,
        r"\(1009",
    ),
    Fault(
        "oversized in fragments",
        "frames",
        "sends a message of more than 256 KiB piece by piece",
        _bytes(frame(TEXT, b"x" * 1024, final=False) + frame(CONTINUATION, b"x" * 1024, final=False) * 256),
        "failed",
        1.0,
        r"\(1009",
    ),
    Fault(
        "claimed size",
        "frames",
        "announces a frame of 2^62 bytes",
        _bytes(b"\x81\xff" + (2**62).to_bytes(8) + bytes(4)),
        "failed",
        1.0,
        r"\(1009",
    ),
    Fault(
        "empty fragments",
        "frames",
        "sends 2,000 empty pieces of a message",
        _bytes(
            frame(TEXT, final=False) + frame(CONTINUATION, final=False) * 2000 + frame(CONTINUATION, b'{"event":"new"}')
        ),
        harmless=True,
    ),
    Fault(
        "fragmented frames",
        "frames",
        "sends each message in pieces, with a ping between them",
        _framed(_in_three),
        harmless=True,
    ),
    Fault(
        "binary frame",
        "frames",
        "sends a binary frame",
        _bytes(frame(BINARY, b"\x00\x01")),
        "",
        0.0,
        _IGNORED + "binary message",
        True,
    ),
    Fault(
        "flood of pings",
        "frames",
        "sends 2,000 pings of 125 bytes at once",
        _bytes(frame(PING, b"?" * 125) * 2000),
        harmless=True,
    ),
    Fault(
        "flood of pings, unread",
        "frames",
        "sends 1,000 pings at once, and reads no answer",
        _flood_unread,
        "failed",
        1.0,
        "1008, too many unanswered pings",
    ),
    Fault(
        "flood of pongs",
        "frames",
        "sends 2,000 answers to pings that nobody sent",
        _bytes(frame(PONG, b"!") * 2000),
        harmless=True,
    ),
    Fault(
        "closed orderly",
        "frames",
        "sends a close frame (1000) instead of a stop",
        _bytes(frame(CLOSE, b"\x03\xe8")),
        "caller_hung_up",
        1.0,
    ),
    Fault(
        "closed by an error",
        "frames",
        "sends a close frame (1011)",
        _bytes(frame(CLOSE, b"\x03\xf3oops")),
        "failed",
        1.0,
        r"\(1011, oops",
    ),
    Fault(
        "closed by a lie",
        "frames",
        "sends a close frame whose code may not be sent (1005)",
        _bytes(frame(CLOSE, b"\x03\xed")),
        "failed",
        1.0,
        r"\(1002",
    ),
    # Messages
    Fault(
        "malformed JSON",
        "messages",
        "sends a message that is no JSON",
        _messages("{"),
        "",
        0.0,
        _IGNORED + "malformed JSON",
        True,
    ),
    Fault(
        "wrong types",
        "messages",
        "sends numbers and lists where texts belong",
        _messages({"event": "media", "streamSid": 7, "media": []}),
        "",
        0.0,
        _IGNORED + "field missing or of a wrong type",
        True,
    ),
    Fault(
        "deep JSON",
        "messages",
        "sends 100,000 nested lists",
        _messages('{"event":"mark","x":' + "[" * 100_000),
        "",
        0.0,
        _IGNORED + "malformed JSON",
        True,
    ),
    Fault(
        "100 bad messages",
        "messages",
        "sends a hundred messages that its protocol does not allow",
        _messages("{", times=100),
        "failed",
        1.0,
        "100 messages that its protocol does not allow",
    ),
    Fault(
        "unknown events",
        "messages",
        "sends events and fields that are not in the documentation",
        _messages({"event": "new", "streamSid": "SID", "new": {}}, times=100),
        harmless=True,
    ),
    Fault(
        "another stream's messages",
        "messages",
        "sends media of another stream",
        _messages(_media(b"\x00" * 160, sid="MZ9"), times=50),
        "",
        0.0,
        _IGNORED + "streamSid of another stream",
        True,
    ),
    Fault(
        "outbound track",
        "messages",
        "sends the agent's own voice back, as such",
        _messages(_media(b"\x00" * 160, track="outbound"), times=50),
        harmless=True,
    ),
    Fault(
        "second start",
        "messages",
        "sends a second start",
        _messages(_SECOND_START),
        "",
        0.0,
        _IGNORED + "second start",
        True,
    ),
    Fault(
        "no such digit",
        "messages",
        "reports a key that no telephone has",
        _messages({**_DIGIT, "dtmf": {"digit": "w"}}),
        "",
        0.0,
        _IGNORED + "no such digit",
        True,
    ),
    Fault("flood of digits", "messages", "reports 300 keys at once", _messages(_DIGIT, times=300)),
    Fault("stop", "messages", "ends the stream as documented", _messages(_STOP), "caller_hung_up", 1.0),
    Fault(
        "two stops",
        "messages",
        "ends the stream twice, and goes on sending",
        _messages(_STOP, _STOP, _media(_HUSH)),
        "caller_hung_up",
        1.0,
    ),
    Fault("duplicated messages", "messages", "sends every message twice", _every(1, _twice)),
    Fault("reordered messages", "messages", "swaps neighbouring messages", _swapped()),
    Fault("lost messages", "messages", "leaves every third message out", _every(3, _gone)),
    # Media
    Fault(
        "empty payload",
        "media",
        "sends media without audio",
        _messages(_media(b"")),
        "",
        0.0,
        _IGNORED + "empty payload",
        True,
    ),
    Fault(
        "payload that is no base64",
        "media",
        "sends media that cannot be decoded",
        _messages({**_media(b""), "media": {"payload": "%%%%"}}),
        "",
        0.0,
        _IGNORED + "field missing",
        True,
    ),
    Fault("no more media", "media", "sends no media any more, but lives", _every(1, _gone, "media")),
    Fault("media in crumbs", "media", "sends 200 messages of one sample", _messages(_media(b"\xff"), times=200)),
    Fault(
        "media in lumps", "media", "sends ten seconds of audio in one message", _messages(_media(g711.silence(10.0)))
    ),
    Fault("flood of media", "media", "sends ten seconds of audio at once", _messages(_media(_HUSH), times=500)),
    Fault("fast clock", "media", "sends 2 % more audio than there is time for", _every(50, _twice, "media")),
    Fault("slow clock", "media", "sends 2 % less audio than there is time for", _every(50, _gone, "media")),
    # Marks
    Fault("marks never come", "marks", "reports no mark any more", _every(1, _gone, "mark")),
    Fault(
        "foreign marks",
        "marks",
        "reports marks that nobody asked for",
        _messages({"event": "mark", "streamSid": "SID", "mark": {"name": "r9.999"}}, times=100),
        harmless=True,
    ),
    Fault(
        "marks of other names",
        "marks",
        "reports marks by wrong names",
        _every(1, _mark_name(lambda name: name + "?"), "mark"),
    ),
    Fault("marks twice", "marks", "reports each mark twice", _every(1, _twice, "mark"), harmless=True),
    Fault("marks out of order", "marks", "swaps neighbouring marks", _swapped("mark")),
    Fault("marks too early", "marks", "reports each mark at once, not when it was played", _early_marks),
)
FAULTS: Final = {fault.name: fault for fault in _ALL}
"""The catalogue, by name."""
