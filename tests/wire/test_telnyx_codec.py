"""Telnyx's media-stream messages, in and out."""

import base64
import contextlib
import json
import logging
from itertools import pairwise
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
from patter_trio.audio import g711
from patter_trio.errors import WireError
from patter_trio.wire.telnyx import (
    MAX_ERROR_CODES,
    MAX_HELD_FRAMES,
    MIN_AUDIO_BYTES,
    TOKEN_HEADER,
    TelnyxCodec,
    decode_state,
    encode_state,
)
from tests.kit.stream_messages import NOT_MESSAGES, refuses_unquoted, spoilt

CALL = "v3:MdI91X4lWFEs7IgbBEOT9M4AigoY08M0WWZFISt1Yw2axZ_IiE4pqg"
CONNECTED: dict[str, Any] = {"event": "connected", "version": "1.0.0"}
# The documented example of the start message, with our own ids.
START: dict[str, Any] = {
    "event": "start",
    "sequence_number": "1",
    "stream_id": "32DE0DEA",
    "start": {
        "user_id": "3E6F995F",
        "call_control_id": CALL,
        "call_session_id": "ff55a038",
        "from": "+15550100001",
        "to": "+15550100002",
        "tags": ["TAG1"],
        "client_state": "aGF2ZSBhIG5pY2UgZGF5ID1d",
        "custom_parameters": {"who": "Grüße"},
        "media_format": {"encoding": "PCMU", "sample_rate": 8000, "channels": 1},
    },
}
STOP = {
    "event": "stop",
    "sequence_number": "5",
    "stream_id": "32DE0DEA",
    "stop": {"user_id": "3E6F995F", "call_control_id": CALL},
}


def media(payload: str, track: str = "inbound", chunk: object = "2", stream: str = "32DE0DEA") -> dict[str, Any]:
    return {
        "event": "media",
        "sequence_number": "4",
        "media": {"track": track, "chunk": chunk, "timestamp": "5", "payload": payload},
        "stream_id": stream,
    }


def digit(pressed: object) -> dict[str, Any]:
    return {
        "event": "dtmf",
        "stream_id": "32DE0DEA",
        "occurred_at": "2026-11-30T18:00:00Z",
        "sequence_number": "5",
        "dtmf": {"digit": pressed},
    }


def mark(name: object) -> dict[str, Any]:
    return {"event": "mark", "sequence_number": "4", "stream_id": "32DE0DEA", "mark": {"name": name}}


def error(code: object = "100005") -> dict[str, Any]:
    told = {"code": code, "title": "rate_limit_reached", "detail": "too\nfast"}
    return {"event": "error", "stream_id": "32DE0DEA", "payload": told}


def start_with(**change: object) -> str:
    return json.dumps(START | {"start": START["start"] | change})


def started(token: str = "") -> TelnyxCodec:
    codec = TelnyxCodec(token)
    assert codec.receive(json.dumps(CONNECTED)) is None
    assert isinstance(codec.receive(json.dumps(START)), StreamStarted)
    return codec


@pytest.mark.parametrize(
    ("message", "event"),
    [
        (media(base64.b64encode(b"\xff\x7f" * 80).decode()), AudioReceived(b"\xff\x7f" * 80)),
        (mark("r1.2"), MarkReached("r1.2")),
        ({"event": "mark", "mark": {"name": "r1.2"}}, MarkReached("r1.2")),
        (STOP, StreamStopped()),
        *((digit(key), DigitPressed(key)) for key in "0123456789*#ABCD"),
        (media("AAAA", track="outbound"), None),
        ({"event": "somethingNew", "stream_id": "32DE0DEA", "somethingNew": {"x": 1}}, None),
        (CONNECTED, None),
        (error(), None),
    ],
)
def test_each_message_means_what_telnyx_documents(message: object, event: StreamEvent | None) -> None:
    """Each message of the table is read as its event, or ignored if its type is unknown."""
    assert started().receive(json.dumps(message)) == event


@pytest.mark.parametrize("encoding", ["PCMU", "audio/x-mulaw", "pcmu"])
@pytest.mark.parametrize("rate", [8000, "8000"])
@pytest.mark.parametrize("channels", [1, "1"])
def test_mulaw_is_known_by_all_names(encoding: str, rate: object, channels: object) -> None:
    """The codec accepts each name of mu-law, and its numbers as numbers or as text."""
    message = start_with(media_format={"encoding": encoding, "sample_rate": rate, "channels": channels})
    assert isinstance(TelnyxCodec().receive(message), StreamStarted)


@pytest.mark.parametrize("encoding", ["PCMA", "audio/x-alaw", "pcma"])
@pytest.mark.parametrize("chunks", [[1, 2], [2, 1], [None, None]], ids=["in order", "swapped", "uncounted"])
def test_alaw_streams_are_converted(encoding: str, chunks: list[int | None]) -> None:
    """The audio of a stream in A-law, which Telnyx may announce for calls from other networks, is read as mu-law."""
    codec = TelnyxCodec()
    format_ = {"encoding": encoding, "sample_rate": 8000, "channels": 1}
    assert isinstance(codec.receive(start_with(media_format=format_)), StreamStarted)
    codes = bytes(range(256))
    heard = b""
    for chunk in [0, *chunks]:
        part = b"\xd5" * 4 if chunk == 0 else codes[:128] if chunk in (1, None) and not heard[4:] else codes[128:]
        event = codec.receive(json.dumps(media(base64.b64encode(part).decode(), chunk=chunk)))
        heard += event.audio if isinstance(event, AudioReceived) else b""
    assert heard == g711.from_alaw(b"\xd5" * 4 + codes)


@pytest.mark.parametrize("chunk", [7, "7"])
def test_chunks_are_numbers_or_text(chunk: object) -> None:
    """A chunk's number is read from a number and from text: the frame behind it is in order."""
    codec = started()
    assert codec.receive(json.dumps(media("AAAA", chunk=chunk))) == AudioReceived(b"\0\0\0")
    assert codec.receive(json.dumps(media("//8=", chunk="8"))) == AudioReceived(b"\xff\xff")


# Where the token comes from -------------------------------------------------------------------------------------------
def test_token_comes_from_upgrade_or_stream() -> None:
    """The token is taken from the upgrade's header, from connected, from the parameters, or from our client state."""
    with_token = CONNECTED | {"connected": {TOKEN_HEADER.title(): "of connected", "more": 1}}
    parameters = {"token": "of parameters", "who": "Grüße"}
    state = encode_state(token="of state", dial="d")
    found = []
    for header, connected, start in (
        ("of header", with_token, start_with(custom_parameters=parameters, client_state=state)),
        ("", with_token, start_with(custom_parameters=parameters, client_state=state)),
        ("", CONNECTED, start_with(custom_parameters=parameters, client_state=state)),
        ("", CONNECTED, start_with(custom_parameters=None, client_state=state)),
        ("", CONNECTED, start_with()),
    ):
        codec = TelnyxCodec(header)
        codec.receive(json.dumps(connected))
        event = codec.receive(start)
        assert isinstance(event, StreamStarted)
        assert event.call_id == CALL
        found.append(event.parameters.get("token"))
    assert found == ["of header", "of connected", "of parameters", "of state", None]


@pytest.mark.parametrize("given", [None, [], "text", 7, {"token": 5, "who": "me"}, {"token": ""}])
def test_odd_parameters_are_left_out(given: object) -> None:
    """Parameters that are not texts are left out, and do not cost the call."""
    event = TelnyxCodec("t").receive(start_with(custom_parameters=given))
    assert isinstance(event, StreamStarted)
    assert event.parameters["token"] == "t"
    assert all(isinstance(value, str) for value in event.parameters.values())


@pytest.mark.parametrize("connected", [None, [], "token", {"token": "x"}, {TOKEN_HEADER: 5}])
def test_odd_contents_of_connected_are_ignored(connected: object) -> None:
    """A connected message without a token in the documented field gives none."""
    codec = TelnyxCodec()
    assert codec.receive(json.dumps(CONNECTED | {"connected": connected})) is None
    event = codec.receive(start_with())
    assert isinstance(event, StreamStarted)
    assert "token" not in event.parameters


@given(st.dictionaries(st.text(min_size=1, max_size=8).filter(str.isidentifier), st.text(max_size=20), max_size=4))
def test_client_state_survives_the_way_back(values: dict[str, str]) -> None:
    """Any values come back from the client state that has them."""
    state = encode_state(**values)
    assert decode_state(state) == values
    assert base64.b64decode(state, validate=True)


@given(st.none() | st.integers() | st.text() | st.binary().map(lambda data: base64.b64encode(data).decode()))
def test_foreign_client_states_have_no_values(state: object) -> None:
    """The client state of another program, or anything else, has no values for us."""
    assert decode_state(state) == {}


def test_spoilt_client_state_has_no_values() -> None:
    """A client state with our prefix, but bytes behind it that are no text, has no values."""
    assert decode_state(base64.b64encode(b"patter:a=\xff").decode()) == {}
    assert decode_state(base64.b64encode(b"patter:a=%ff").decode()) == {}


# The order of frames --------------------------------------------------------------------------------------------------
def heard(chunks: list[int]) -> list[bytes]:
    """Receive frames with these numbers; return the audio of each event, empty for none. A frame is its number."""
    codec, found = started(), []
    for chunk in chunks:
        event = codec.receive(json.dumps(media(base64.b64encode(b"%03d." % chunk).decode(), chunk=str(chunk))))
        assert event is None or isinstance(event, AudioReceived)
        found.append(b"" if event is None else event.audio)
    return found


def test_frames_that_overtook_others_wait() -> None:
    """A frame that overtook another waits for it, and both come in order."""
    assert heard([1, 3, 2, 4]) == [b"001.", b"", b"002.003.", b"004."]
    assert heard([1, 4, 3, 2, 5]) == [b"001.", b"", b"", b"002.003.004.", b"005."]


def test_missing_frame_holds_back_three_frames() -> None:
    """A missing frame holds back three frames at most; then the audio goes on without it."""
    assert heard([1, 3, 4, 5, 6, 7]) == [b"001.", b"", b"", b"", b"003.004.005.006.", b"007."]
    assert MAX_HELD_FRAMES == 3


def test_long_gap_holds_back_nothing() -> None:
    """If more frames are missing than could be overtaken, the audio goes on at once."""
    assert heard([1, 100, 101]) == [b"001.", b"100.", b"101."]
    assert heard([1, 3, 100, 101]) == [b"001.", b"", b"003.100.", b"101."]


def test_late_and_repeated_frames_are_dropped() -> None:
    """A frame whose place has been heard is dropped, whether it is late or comes twice."""
    assert heard([1, 2, 2, 3, 1, 4]) == [b"001.", b"002.", b"", b"003.", b"", b"004."]


def test_new_count_of_chunks_is_followed() -> None:
    """A stream that begins to count anew costs three frames, and is heard from then on."""
    assert heard([50, 51, 1, 2, 3, 4, 5]) == [b"050.", b"051.", b"", b"", b"", b"004.", b"005."]


def test_frames_without_chunk_are_not_ordered() -> None:
    """Frames without a number are taken as they come."""
    codec = started()
    for payload in ("AAAA", "//8="):
        message = media(payload)
        del message["media"]["chunk"]
        assert codec.receive(json.dumps(message)) == AudioReceived(base64.b64decode(payload))


@given(st.lists(st.integers(-5, 40), max_size=60))
def test_any_order_of_chunks_is_bounded(chunks: list[int]) -> None:
    """Whatever the order, no frame is heard twice in one run of numbers, and three frames at most are held back."""
    pieces = heard([chunk for chunk in chunks if chunk >= 0])
    given_out = 0
    for received, piece in enumerate(pieces, 1):
        given_out += len(piece) // 4
        assert given_out <= received
        numbers = [int(piece[start : start + 3]) for start in range(0, len(piece), 4)]
        assert len(numbers) <= MAX_HELD_FRAMES + 1
        # A new count may follow the last frames of the old one.
        assert sum(later <= earlier for earlier, later in pairwise(numbers)) <= 1


@given(st.permutations(range(4)), st.integers(0, 1000))
def test_each_order_of_four_frames_is_mended(order: list[int], first: int) -> None:
    """Four frames behind the first one come out in order, however they arrive."""
    chunks = [first, *(first + 1 + step for step in order)]
    assert b"".join(heard(chunks)) == b"".join(b"%03d." % (first + step) for step in range(5))


# Errors ---------------------------------------------------------------------------------------------------------------
def test_each_error_is_logged_once(caplog: pytest.LogCaptureFixture) -> None:
    """An error that Telnyx reports is logged with the call's id, once for each code, on one line."""
    codec = started()
    with caplog.at_level(logging.WARNING, logger="patter_trio.carriers"):
        for code in ("100005", "100005", 100003):
            assert codec.receive(json.dumps(error(code))) is None
    assert [record.getMessage() for record in caplog.records] == [
        f"call {CALL}: Telnyx reports error {code!r} on the media stream: 'rate_limit_reached: too fast'"
        for code in ("100005", "100003")
    ]


def test_errors_before_start_are_logged(caplog: pytest.LogCaptureFixture) -> None:
    """An error before the start message is logged, too."""
    with caplog.at_level(logging.WARNING, logger="patter_trio.carriers"):
        assert TelnyxCodec().receive(json.dumps({"event": "error"})) is None
    assert "not started" in caplog.text


def test_ever_new_error_codes_are_bounded(caplog: pytest.LogCaptureFixture) -> None:
    """A stream with ever new codes logs a bounded number of them."""
    codec = started()
    for code in range(100):
        codec.receive(json.dumps(error(str(code))))
    assert len(caplog.records) == MAX_ERROR_CODES


@pytest.mark.parametrize(
    ("message", "reason"),
    [
        *NOT_MESSAGES,
        ("[" * 100_000, "field"),
        (json.dumps(media("secret words")), "field"),
        (json.dumps(media("")), "an empty one"),
        (json.dumps(media("AAAA", stream="other")), "stream_id must be that of the start"),
        (json.dumps(media("AAAA", chunk="secret")), "field"),
        (json.dumps(mark(3)), "field"),
        (json.dumps(digit("w")), "digit"),
        (json.dumps(digit("12")), "digit"),
        (json.dumps(digit("")), "digit"),
        (json.dumps(digit(5)), "field"),
        (json.dumps(START), "second one"),
        (json.dumps(media("AAAA")).encode(), "binary"),
    ],
    ids=[f"case {number}" for number in range(20)],
)
def test_telnyx_protocol_violation_is_refused_without_quote(message: str | bytes, reason: str) -> None:
    """The codec refuses a message that violates the protocol, and the error does not quote it."""
    refuses_unquoted(started(), message, reason)


@pytest.mark.parametrize("message", [media("AAAA"), digit("1"), mark("m"), STOP], ids=["media", "dtmf", "mark", "stop"])
def test_nothing_comes_before_telnyx_start(message: object) -> None:
    """A media, dtmf, mark or stop message before the start message raises WireError."""
    with pytest.raises(WireError, match="must come before"):
        TelnyxCodec().receive(json.dumps(message))


@pytest.mark.parametrize(
    ("message", "reason"),
    [
        (json.dumps(START | {"stream_id": ""}), "a stream_id"),
        (start_with(call_control_id=""), "a call_control_id"),
        (start_with(call_control_id=None), "field"),
        (start_with(media_format={"encoding": "L16", "sample_rate": 8000, "channels": 1}), "media format"),
        (start_with(media_format={"encoding": "PCMU", "sample_rate": 16000, "channels": 1}), "media format"),
        (start_with(media_format={"encoding": "PCMU", "sample_rate": 8000, "channels": 2}), "media format"),
    ],
    ids=["no stream", "no call", "call of no type", "L16", "16 kHz", "stereo"],
)
def test_contradictory_telnyx_start_is_refused(message: str, reason: str) -> None:
    """The codec refuses a start message without an id, or with audio that is neither mu-law nor A-law at 8 kHz."""
    with pytest.raises(WireError, match=reason):
        TelnyxCodec().receive(message)


@pytest.mark.parametrize(
    ("sent", "documented"),
    [
        (lambda c: c.audio(bytes(162)), {"event": "media", "media": {"payload": "A" * 216}}),
        (lambda c: c.mark('a"b'), {"event": "mark", "mark": {"name": 'a"b'}}),
        (lambda c: c.clear(), {"event": "clear"}),
    ],
    ids=["media", "mark", "clear"],
)
def test_telnyx_messages_have_only_documented_fields(sent: Any, documented: object) -> None:
    """Each message that the codec sends has exactly the documented fields."""
    assert json.loads(sent(started())) == documented


def test_digits_have_no_message() -> None:
    """Telnyx sends DTMF by request, so its stream has no message for it."""
    assert started().digits("1") is None


@given(st.binary(min_size=1))
def test_audio_survives_the_way_to_telnyx(mulaw: bytes) -> None:
    """Any audio comes back unchanged from its media message, filled up with silence to the least of 20 ms."""
    codec = started()
    assert codec.receive(codec.audio(mulaw)) == AudioReceived(mulaw.ljust(MIN_AUDIO_BYTES, b"\xff"))


@given(st.text() | st.binary())
def test_any_telnyx_message_is_refused_or_ignored(message: str | bytes) -> None:
    """For any arbitrary message, the codec raises WireError or returns nothing."""
    for codec in (TelnyxCodec(), started()):
        with contextlib.suppress(WireError):
            assert codec.receive(message) is None


@given(spoilt([CONNECTED, START, STOP, media("AAAA"), digit("1"), mark("m"), error()]))
def test_spoilt_telnyx_messages_raise_only_wire_error(message: str) -> None:
    """A damaged message raises nothing but WireError, before and after the start."""
    for codec in (TelnyxCodec(), started()):
        with contextlib.suppress(WireError):
            codec.receive(message)


def test_repr_names_the_telnyx_stream() -> None:
    """The repr of the codec shows the id of its stream, or that it has not started, and no token."""
    assert repr(TelnyxCodec("secret")) == "<TelnyxCodec not started>"
    assert repr(started("secret")) == "<TelnyxCodec 32DE0DEA>"
