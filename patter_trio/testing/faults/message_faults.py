"""The faults of the carrier's messages, of the media in them, and of the marks."""

from typing import Final

from patter_trio.audio import g711
from patter_trio.testing.faults.fault import IGNORED, Fault
from patter_trio.testing.faults.injections import (
    SILENT_FRAME,
    Say,
    early_marks,
    every,
    gone,
    mark_name,
    messages,
    swapped,
    twice,
)
from patter_trio.testing.faults.words import Message, StreamWords


def _audio(mulaw: bytes, stream: str = "SID", track: str = "inbound") -> Say:
    return lambda words: words.audio(mulaw, stream=stream, track=track)


def _start(words: StreamWords) -> Message:
    return words.start


def _stop(words: StreamWords) -> Message:
    return words.stop


MESSAGE_FAULTS: Final = (
    # Messages
    Fault(
        "malformed JSON",
        "messages",
        "sends a message that is not JSON",
        messages("{"),
        "",
        0.0,
        IGNORED + "a message must be valid JSON",
        True,
    ),
    Fault(
        "wrong types",
        "messages",
        "sends numbers and lists in place of strings",
        messages(StreamWords.mistyped),
        "",
        0.0,
        IGNORED + "each field must be there and have its type",
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
        # Plivo's mark has another name, so that its codec gives up at another place.
        IGNORED + "(a message must be valid JSON|each field must be there and have its type)",
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
        messages(StreamWords.unknown, times=100),
        harmless=True,
    ),
    Fault(
        "another stream's messages",
        "messages",
        "sends media of another stream",
        # The loudest code, so that audio that got through would be taken for a voice; a second of it would interrupt.
        messages(_audio(b"\x00" * 160, stream="MZ9"), times=50),
        "",
        0.0,
        IGNORED + "the stream(Sid|_id|Id) must be that of the start message",
        True,
    ),
    Fault(
        "outbound track",
        "messages",
        "sends the agent's own audio back, marked as outbound",
        messages(_audio(b"\x00" * 160, track="outbound"), times=50),
        harmless=True,
    ),
    Fault(
        "second start",
        "messages",
        "sends a second start",
        messages(_start),
        "",
        0.0,
        IGNORED + "the start message must come once, got a second one",
        True,
    ),
    Fault(
        "no such digit",
        "messages",
        "reports a key that no telephone has",
        # "w" is a pause in the carriers' notation for dialling, and no key.
        messages(lambda words: words.key("w")),
        "",
        0.0,
        IGNORED + "a digit must be 0 to 9, A to D, star or hash",
        True,
    ),
    Fault("flood of digits", "messages", "reports 300 keys at once", messages(lambda words: words.key("5"), times=300)),
    Fault("stop", "messages", "ends the stream as documented", messages(_stop), "caller_hung_up", 1.0),
    Fault(
        "two stops",
        "messages",
        "ends the stream twice, and goes on sending",
        messages(_stop, _stop, _audio(SILENT_FRAME)),
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
        messages(_audio(b"")),
        "",
        0.0,
        IGNORED + "a payload must have audio, got an empty one",
        True,
    ),
    Fault(
        "payload not base64",
        "media",
        "sends media that cannot be decoded",
        messages(lambda words: {**words.audio(b""), "media": {"payload": "%%%%"}}),
        "",
        0.0,
        IGNORED + "each field must be there",
        True,
    ),
    Fault(
        "no more media",
        "media",
        "stops sending media, but keeps the connection alive",
        every(1, gone, "media"),
        deaf=True,
    ),
    Fault("media in crumbs", "media", "sends 200 messages of one sample", messages(_audio(b"\xff"), times=200)),
    # Ten times what the queue to the VAD holds.
    Fault("media in lumps", "media", "sends ten seconds of audio in one message", messages(_audio(g711.silence(10.0)))),
    Fault("flood of media", "media", "sends ten seconds of audio at once", messages(_audio(SILENT_FRAME), times=500)),
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
        messages(lambda words: words.mark("r9.999"), times=100),
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
