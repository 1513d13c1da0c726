"""Twilio's media-stream messages, in and out."""

import base64
import contextlib
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from patter_trio.abc import (
    AudioReceived,
    DigitPressed,
    MarkReached,
    StreamEvent,
    StreamStarted,
    StreamStopped,
)
from patter_trio.errors import WireError
from patter_trio.wire.twilio import TwilioCodec
from tests.kit.stream_messages import NOT_MESSAGES, refuses_unquoted, spoilt

CONNECTED = {"event": "connected", "protocol": "Call", "version": "1.0.0"}
START = {
    "event": "start",
    "sequenceNumber": "1",
    "start": {
        "accountSid": "AC1",
        "streamSid": "MZ1",
        "callSid": "CA1",
        "tracks": ["inbound"],
        "mediaFormat": {"encoding": "audio/x-mulaw", "sampleRate": 8000, "channels": 1},
        "customParameters": {"token": "secret", "who": "Grüße"},
    },
    "streamSid": "MZ1",
}
STARTED = StreamStarted("CA1", {"token": "secret", "who": "Grüße"})
STOP = {"event": "stop", "sequenceNumber": "5", "stop": {"accountSid": "AC1", "callSid": "CA1"}, "streamSid": "MZ1"}


def media(payload: str, track: str = "inbound", stream: str = "MZ1") -> dict[str, Any]:
    return {
        "event": "media",
        "sequenceNumber": "4",
        "media": {"track": track, "chunk": "2", "timestamp": "5", "payload": payload},
        "streamSid": stream,
    }


def digit(pressed: object) -> dict[str, Any]:
    return {
        "event": "dtmf",
        "streamSid": "MZ1",
        "sequenceNumber": "5",
        "dtmf": {"track": "inbound_track", "digit": pressed},
    }


def mark(name: object) -> dict[str, Any]:
    return {"event": "mark", "sequenceNumber": "4", "streamSid": "MZ1", "mark": {"name": name}}


def started() -> TwilioCodec:
    codec = TwilioCodec()
    assert codec.receive(json.dumps(CONNECTED)) is None
    assert codec.receive(json.dumps(START)) == STARTED
    return codec


@pytest.mark.parametrize(
    ("message", "event"),
    [
        (media(base64.b64encode(b"\xff\x7f" * 80).decode()), AudioReceived(b"\xff\x7f" * 80)),
        (mark("r1.2"), MarkReached("r1.2")),
        (STOP, StreamStopped()),
        *((digit(key), DigitPressed(key)) for key in "0123456789*#ABCD"),
        (media("AAAA", track="outbound"), None),
        ({"event": "somethingNew", "streamSid": "MZ1", "somethingNew": {"x": 1}}, None),
        (CONNECTED, None),
    ],
)
def test_each_message_means_what_twilio_documents(message: object, event: StreamEvent | None) -> None:
    """Each message of the table is read as its event, or ignored if its type is unknown."""
    assert started().receive(json.dumps(message)) == event


def test_unknown_fields_are_skipped_wherever_they_are() -> None:
    """The codec ignores unknown fields at every depth."""
    message = mark("m") | {"new": [1, {"a": None}]}
    message["mark"] = message["mark"] | {"also": "new"}
    assert started().receive(json.dumps(message)) == MarkReached("m")


@pytest.mark.parametrize(
    ("message", "reason"),
    [
        *NOT_MESSAGES,
        ("[" * 100_000, "field"),
        ('{"event":"else","x":' + "[" * 100_000, "field"),
        ('{"event": 7}', "field"),
        (json.dumps(media("secret words")), "field"),
        (json.dumps(media("")), "an empty one"),
        (json.dumps(media("AAAA", stream="MZ2")), "streamSid must be that of the start"),
        (json.dumps(media("AAAA") | {"streamSid": None}), "field"),
        (json.dumps(mark(3)), "field"),
        (json.dumps(digit("w")), "digit"),
        (json.dumps(digit("12")), "digit"),
        (json.dumps(digit("")), "digit"),
        (json.dumps(digit(5)), "field"),
        (json.dumps(START), "second one"),
        (json.dumps(media("AAAA")).encode(), "binary"),
    ],
)
def test_twilio_protocol_violation_is_refused_without_quote(message: str | bytes, reason: str) -> None:
    """The codec refuses a message that violates the protocol, and the error does not quote it."""
    refuses_unquoted(started(), message, reason)


@pytest.mark.parametrize("message", [media("AAAA"), digit("1"), mark("m"), STOP])
def test_nothing_comes_before_start(message: object) -> None:
    """A media, dtmf, mark or stop message before the start message raises WireError."""
    with pytest.raises(WireError, match="must come before"):
        TwilioCodec().receive(json.dumps(message))


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"streamSid": "MZ2"}, "streamSid"),
        ({"streamSid": ""}, "streamSid"),
        ({"callSid": ""}, "callSid"),
        ({"callSid": None}, "field"),
        ({"customParameters": {"token": 1}}, "field"),
        ({"mediaFormat": {"encoding": "audio/x-l16", "sampleRate": 8000, "channels": 1}}, "media format"),
        ({"mediaFormat": {"encoding": "audio/x-mulaw", "sampleRate": 16000, "channels": 1}}, "media format"),
    ],
)
def test_contradictory_twilio_start_is_refused(change: dict[str, Any], reason: str) -> None:
    """The codec refuses a start message that contradicts itself or the documentation."""
    body: dict[str, Any] = dict(START["start"])  # type: ignore[call-overload]
    with pytest.raises(WireError, match=reason):
        TwilioCodec().receive(json.dumps(START | {"start": body | change}))


def test_a_call_without_parameters_has_none() -> None:
    """A start message without customParameters has empty parameters."""
    body: dict[str, Any] = dict(START["start"])  # type: ignore[call-overload]
    del body["customParameters"]
    assert TwilioCodec().receive(json.dumps(START | {"start": body})) == StreamStarted("CA1", {})


@pytest.mark.parametrize(
    ("sent", "documented"),
    [
        (lambda c: c.audio(b"\xff\xfe"), {"event": "media", "streamSid": "MZ1", "media": {"payload": "//4="}}),
        (lambda c: c.mark('a"b'), {"event": "mark", "streamSid": "MZ1", "mark": {"name": 'a"b'}}),
        (lambda c: c.clear(), {"event": "clear", "streamSid": "MZ1"}),
    ],
)
def test_twilio_messages_have_only_documented_fields(sent: Any, documented: object) -> None:
    """Each message that the codec sends has exactly the documented fields."""
    assert json.loads(sent(started())) == documented


@given(st.binary(min_size=1))
def test_audio_survives_the_way_out_and_in(mulaw: bytes) -> None:
    """Any audio comes back unchanged from its media message."""
    codec = started()
    message = json.loads(codec.audio(mulaw))
    assert codec.receive(json.dumps(message)) == AudioReceived(mulaw)


@given(st.text())
def test_mark_names_survive_the_way_out_and_in(name: str) -> None:
    """Any mark name comes back unchanged from its mark message."""
    codec = started()
    assert codec.receive(codec.mark(name)) == MarkReached(name)


@given(st.text() | st.binary())
def test_any_twilio_message_is_refused_or_ignored(message: str | bytes) -> None:
    """For any arbitrary message, the codec raises WireError or returns nothing."""
    for codec in (TwilioCodec(), started()):
        with contextlib.suppress(WireError):
            assert codec.receive(message) is None


@given(spoilt([CONNECTED, START, STOP, media("AAAA"), digit("1"), mark("m")]))
def test_spoilt_messages_never_raise_anything_but_wire_error(message: str) -> None:
    """A damaged message raises nothing but WireError, before and after the start."""
    for codec in (TwilioCodec(), started()):
        with contextlib.suppress(WireError):
            codec.receive(message)


def test_repr_names_the_stream() -> None:
    """The repr of the codec shows the id of its stream, or that it has not started."""
    assert (repr(TwilioCodec()), repr(started())) == ("<TwilioCodec not started>", "<TwilioCodec MZ1>")
