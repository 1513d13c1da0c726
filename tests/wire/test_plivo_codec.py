"""Plivo's stream messages, in and out."""

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
from patter_trio.wire.plivo import PlivoCodec, read_extra_headers
from tests.kit.stream_messages import NOT_MESSAGES, refuses_unquoted, spoilt

START = {
    "event": "start",
    "sequenceNumber": 1,
    "start": {
        "callId": "a7bd2e5c-6d1f-4d6e-9b0c-8f7a6b5c4d3e",
        "streamId": "s1",
        "accountId": "MA1",
        "tracks": ["inbound"],
        "mediaFormat": {"encoding": "audio/x-mulaw", "sampleRate": 8000},
    },
    "extra_headers": "token=secret,who=me",
}
STARTED = StreamStarted("a7bd2e5c-6d1f-4d6e-9b0c-8f7a6b5c4d3e", {"token": "secret", "who": "me"})
STOP = {"event": "stop", "sequenceNumber": 9, "streamId": "s1"}
CLEARED = {"event": "clearedAudio", "sequenceNumber": 9, "streamId": "s1"}


def media(payload: str, track: str = "inbound", stream: str = "s1") -> dict[str, Any]:
    body = {"track": track, "chunk": 2, "timestamp": "1732600000", "payload": payload}
    return {"event": "media", "sequenceNumber": 4, "streamId": stream, "media": body, "extra_headers": "token=secret"}


def digit(pressed: object) -> dict[str, Any]:
    body = {"track": "inbound", "digit": pressed, "timestamp": "5"}
    return {"event": "dtmf", "streamId": "s1", "sequenceNumber": 5, "dtmf": body}


def played(name: object) -> dict[str, Any]:
    return {"event": "playedStream", "sequenceNumber": 4, "streamId": "s1", "name": name}


def started() -> PlivoCodec:
    codec = PlivoCodec()
    assert codec.receive(json.dumps(START)) == STARTED
    return codec


@pytest.mark.parametrize(
    ("message", "event"),
    [
        (media(base64.b64encode(b"\xff\x7f" * 80).decode()), AudioReceived(b"\xff\x7f" * 80)),
        (played("r1.2"), MarkReached("r1.2")),
        (STOP, StreamStopped()),
        ({"event": "stop"}, StreamStopped()),
        *((digit(key), DigitPressed(key)) for key in "0123456789*#ABCD"),
        (digit(7), DigitPressed("7")),
        (media("AAAA", track="outbound"), None),
        ({"event": "somethingNew", "streamId": "s1", "somethingNew": {"x": 1}}, None),
        ({"event": "connected"}, None),
        (CLEARED, None),
    ],
)
def test_each_message_means_what_plivo_documents(message: object, event: StreamEvent | None) -> None:
    """Each message of the table is read as its event, or ignored if its type is unknown."""
    assert started().receive(json.dumps(message)) == event


def test_unknown_plivo_fields_are_skipped() -> None:
    """The codec ignores unknown fields at every depth."""
    message = digit("1") | {"new": [1, {"a": None}]}
    message["dtmf"] = message["dtmf"] | {"also": "new"}
    assert started().receive(json.dumps(message)) == DigitPressed("1")


@pytest.mark.parametrize(
    ("message", "reason"),
    [
        *NOT_MESSAGES,
        ('{"event": 7}', "field"),
        (json.dumps(media("secret words")), "field"),
        (json.dumps(media("")), "an empty one"),
        (json.dumps(media("AAAA", stream="s2")), "streamId must be that of the start"),
        (json.dumps(media("AAAA") | {"streamId": None}), "field"),
        (json.dumps(media("AAAA", stream="")), "streamId must be that of the start"),
        (json.dumps(STOP | {"streamId": "s2"}), "streamId must be that of the start"),
        (json.dumps(played(3)), "field"),
        (json.dumps(digit("w")), "digit"),
        (json.dumps(digit(12)), "digit"),
        (json.dumps(digit(-1)), "digit"),
        (json.dumps(digit("")), "digit"),
        (json.dumps(START), "second one"),
    ],
)
def test_plivo_protocol_violation_is_refused_without_quote(message: str | bytes, reason: str) -> None:
    """The codec refuses a message that violates the protocol, and the error does not quote it."""
    refuses_unquoted(started(), message, reason)


@pytest.mark.parametrize("message", [media("AAAA"), digit("1"), played("m"), CLEARED, STOP, {"event": "stop"}])
def test_plivo_sends_nothing_before_start(message: object) -> None:
    """Any other message of a stream before the start message raises WireError."""
    with pytest.raises(WireError, match="must come before"):
        PlivoCodec().receive(json.dumps(message))


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"streamId": ""}, "streamId"),
        ({"streamId": None}, "field"),
        ({"callId": ""}, "callId"),
        ({"callId": 1}, "field"),
        ({"mediaFormat": {"encoding": "audio/x-l16", "sampleRate": 8000}}, "media format"),
        ({"mediaFormat": {"encoding": "audio/x-mulaw", "sampleRate": 16000}}, "media format"),
        ({"mediaFormat": {"encoding": "audio/x-mulaw", "sampleRate": "many"}}, "media format"),
        ({"mediaFormat": None}, "field"),
    ],
)
def test_contradictory_plivo_start_is_refused(change: dict[str, Any], reason: str) -> None:
    """The codec refuses a start message without its ids, or with a format that would be heard as noise."""
    body: dict[str, Any] = dict(START["start"])  # type: ignore[call-overload]
    with pytest.raises(WireError, match=reason):
        PlivoCodec().receive(json.dumps(START | {"start": body | change}))


@pytest.mark.parametrize(
    "told",
    [
        {"encoding": "audio/x-mulaw", "sampleRate": "8000"},
        {"encoding": "audio/x-mulaw;rate=8000", "sampleRate": 8000},
        {"encoding": "audio/x-mulaw", "sampleRate": 8000, "channels": 1},
    ],
)
def test_numbers_are_taken_as_strings_too(told: dict[str, Any]) -> None:
    """The media format may have its rate as a number or as text, and the rate behind the type."""
    body: dict[str, Any] = dict(START["start"])  # type: ignore[call-overload]
    message = START | {"sequenceNumber": "1", "start": body | {"mediaFormat": told}}
    assert PlivoCodec().receive(json.dumps(message)) == STARTED


@pytest.mark.parametrize(
    ("given", "parameters"),
    [
        ("token=a1,who=me", {"token": "a1", "who": "me"}),
        ("token=a1;who=me", {"token": "a1", "who": "me"}),
        (" token = a1 , who=me ,", {"token": "a1", "who": "me"}),
        ('{"token": "a1", "who": "me"}', {"token": "a1", "who": "me"}),
        ({"token": "a1", "n": 7, "x": None, "y": {}}, {"token": "a1", "n": "7"}),
        ('{"token": "a1", "list": []}', {"token": "a1"}),
        ("token=a=1", {"token": "a=1"}),
        ("{}", {}),
        ("", {}),
        (None, {}),
        ("token", {}),
        ("=a1", {}),
        ("[1]", {}),
        ("{" * 100_000, {}),
        ("[" * 100_000, {}),
    ],
)
def test_extra_headers_are_read_leniently(given: Any, parameters: dict[str, str]) -> None:
    """The parameters come back from each form in which Plivo's pages show them, and what cannot be read is left out."""
    assert read_extra_headers(given) == parameters
    message = START | {"extra_headers": given}
    assert PlivoCodec().receive(json.dumps(message)) == StreamStarted(STARTED.call_id, parameters)


def test_plivo_call_without_parameters_has_none() -> None:
    """A start message without extra_headers has empty parameters."""
    message = {name: value for name, value in START.items() if name != "extra_headers"}
    assert PlivoCodec().receive(json.dumps(message)) == StreamStarted(STARTED.call_id, {})


ALPHANUMERIC = st.text("abcXYZ0189", min_size=1, max_size=8)


@given(st.dictionaries(ALPHANUMERIC, ALPHANUMERIC), st.sampled_from([",", ";"]), st.booleans())
def test_any_parameters_survive_each_form(parameters: dict[str, str], separator: str, as_json: bool) -> None:
    """Names and values of letters and digits come back from pairs and from JSON alike."""
    pairs = separator.join(f"{name}={value}" for name, value in parameters.items())
    assert read_extra_headers(json.dumps(parameters) if as_json else pairs) == parameters


@pytest.mark.parametrize(
    ("sent", "documented"),
    [
        (
            lambda c: c.audio(b"\xff\xfe"),
            {
                "event": "playAudio",
                "media": {"contentType": "audio/x-mulaw", "sampleRate": 8000, "payload": "//4="},
            },
        ),
        (lambda c: c.mark('a"b'), {"event": "checkpoint", "streamId": "s1", "name": 'a"b'}),
        (lambda c: c.clear(), {"event": "clearAudio", "streamId": "s1"}),
        (lambda c: c.digits("12#"), {"event": "sendDTMF", "dtmf": "12#"}),
    ],
)
def test_plivo_messages_have_only_documented_fields(sent: Any, documented: object) -> None:
    """Each message that the codec sends has exactly the documented fields."""
    assert json.loads(sent(started())) == documented


def test_cleared_buffer_answers_for_mark_behind_it() -> None:
    """The mark requested behind a clear is reached when Plivo reports the clear, once, and no mark before it is."""
    codec = started()
    codec.audio(b"\xff")
    codec.mark("r1.1")
    codec.clear()
    codec.mark("c2")
    codec.audio(b"\xff")
    codec.mark("r2.3")
    assert codec.receive(json.dumps(CLEARED)) == MarkReached("c2")
    assert codec.receive(json.dumps(CLEARED)) is None
    # Should Plivo confirm the checkpoint as well, the ledger gets what it ignores.
    assert codec.receive(json.dumps(played("c2"))) == MarkReached("c2")
    assert codec.receive(json.dumps(played("r2.3"))) == MarkReached("r2.3")


def test_mark_behind_new_audio_waits_for_it() -> None:
    """A mark behind audio that follows a clear is not reached by the report of the clear."""
    codec = started()
    codec.clear()
    codec.audio(b"\xff")
    codec.mark("r2.1")
    assert codec.receive(json.dumps(CLEARED)) is None


def test_second_clear_takes_over_the_report() -> None:
    """Of two clears within a round trip, the first report answers for the newest one's mark."""
    codec = started()
    for probe in ("c1", "c2"):
        codec.clear()
        codec.mark(probe)
    assert codec.receive(json.dumps(CLEARED)) == MarkReached("c2")


@given(st.binary(min_size=1))
def test_plivo_audio_survives_out_and_in(mulaw: bytes) -> None:
    """Any audio comes back unchanged from its message."""
    codec = started()
    payload = json.loads(codec.audio(mulaw))["media"]["payload"]
    assert codec.receive(json.dumps(media(payload))) == AudioReceived(mulaw)


@given(st.text())
def test_checkpoint_names_survive_out_and_in(name: str) -> None:
    """Any mark name comes back unchanged from Plivo's report."""
    codec = started()
    assert codec.receive(json.dumps(played(json.loads(codec.mark(name))["name"]))) == MarkReached(name)


@given(st.text() | st.binary())
def test_any_plivo_message_is_refused_or_ignored(message: str | bytes) -> None:
    """For any arbitrary message, the codec raises WireError or returns nothing."""
    for codec in (PlivoCodec(), started()):
        with contextlib.suppress(WireError):
            assert codec.receive(message) is None


@given(spoilt([START, STOP, CLEARED, media("AAAA"), digit("1"), played("m")]))
def test_spoilt_plivo_messages_raise_only_wire_error(message: str) -> None:
    """A damaged message raises nothing but WireError, before and after the start."""
    for codec in (PlivoCodec(), started()):
        with contextlib.suppress(WireError):
            codec.receive(message)


def test_repr_names_the_plivo_stream() -> None:
    """The repr of the codec shows the id of its stream, or that it has not started."""
    assert (repr(PlivoCodec()), repr(started())) == ("<PlivoCodec not started>", "<PlivoCodec s1>")
