"""The caller's audio in the ``media`` messages of each carrier: its base64, and the track that it belongs to."""

import base64
import json
import re
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from patter_trio.abc import AudioReceived, StreamCodec
from patter_trio.errors import WireError
from patter_trio.wire.plivo import PlivoCodec
from patter_trio.wire.telnyx import TelnyxCodec
from patter_trio.wire.twilio import TwilioCodec

AUDIO = bytes(range(160))
BASE64 = re.compile("(?:[A-Za-z0-9+/]{4})*(?:[A-Za-z0-9+/]{2}==|[A-Za-z0-9+/]{3}=)?")
"""RFC 4648, section 4."""
PAYLOAD = base64.b64encode(AUDIO).decode()
NAMES = ("twilio", "telnyx", "plivo")
each_carrier = pytest.mark.parametrize("name", NAMES)


def started(name: str, tracks: object = "inbound") -> StreamCodec:
    """Return the codec of a carrier whose stream has begun."""
    body: dict[str, Any]
    if name == "twilio":
        codec: StreamCodec = TwilioCodec()
        body = {"streamSid": "S1", "start": {"streamSid": "S1", "callSid": "CA1", "tracks": tracks}}
    elif name == "telnyx":
        codec = TelnyxCodec()
        body = {"stream_id": "S1", "start": {"call_control_id": "v3:1", "tracks": tracks}}
    else:
        codec = PlivoCodec()
        media = {"encoding": "audio/x-mulaw", "sampleRate": 8000}
        body = {"start": {"streamId": "S1", "callId": "c1", "mediaFormat": media, "tracks": tracks}}
    codec.receive(json.dumps({"event": "start", **body}))
    return codec


def heard(name: str, codec: StreamCodec, **media: object) -> object:
    key = {"twilio": "streamSid", "telnyx": "stream_id", "plivo": "streamId"}[name]
    return codec.receive(json.dumps({"event": "media", key: "S1", "media": media}))


@each_carrier
@pytest.mark.parametrize(
    "payload",
    [
        pytest.param(PAYLOAD.rstrip("="), id="no padding"),
        pytest.param(PAYLOAD[:-1], id="half the padding"),
        pytest.param(f"{PAYLOAD}=", id="too much padding"),
        pytest.param("0000=", id="padding that nothing needs"),
        pytest.param(f"{PAYLOAD}\n", id="line feed at the end"),
        pytest.param("\r\n".join((PAYLOAD[:76], PAYLOAD[76:])), id="lines as in MIME"),
        pytest.param(f" {PAYLOAD}", id="space"),
        pytest.param("__79" * 40, id="alphabet of URLs"),
        pytest.param("==", id="padding alone"),
        pytest.param("\n", id="white space alone"),
        pytest.param("", id="nothing"),
    ],
)
def test_payload_must_be_base64(name: str, payload: str) -> None:
    """A payload that RFC 4648 does not allow is refused: section 3 has no line feeds, and the padding is part of it."""
    codec = started(name)
    with pytest.raises(WireError):
        heard(name, codec, track="inbound", payload=payload)
    # The next frame is heard.
    assert heard(name, codec, track="inbound", payload=PAYLOAD) == AudioReceived(AUDIO)


@each_carrier
@given(payload=st.text(alphabet="Az09+/= \n-_", min_size=1, max_size=12))
def test_payload_is_never_guessed(name: str, payload: str) -> None:
    """A payload gives exactly the bytes of its base64, or is refused."""
    # Not the standard library's own validation: before Python 3.13 it accepts "0000=".
    expected = base64.b64decode(payload) if BASE64.fullmatch(payload) else b""
    codec = started(name)
    if expected:
        assert heard(name, codec, track="inbound", payload=payload) == AudioReceived(expected)
    else:
        with pytest.raises(WireError):
            heard(name, codec, track="inbound", payload=payload)


@each_carrier
@pytest.mark.parametrize("tracks", ["both_tracks", "outbound_track", ["inbound", "outbound"], [], None])
def test_tracks_of_the_start_are_accepted(name: str, tracks: object) -> None:
    """A stream of both tracks begins, and gives the caller's audio alone: each frame says what it is."""
    codec = started(name, tracks)
    for track in ("outbound", "outbound_track"):
        assert heard(name, codec, track=track, payload=PAYLOAD) is None
    for track in ("inbound", "inbound_track"):
        assert heard(name, codec, track=track, payload=PAYLOAD) == AudioReceived(AUDIO)
    assert heard(name, codec, payload=PAYLOAD) == AudioReceived(AUDIO)


@each_carrier
@pytest.mark.parametrize("track", ["both_tracks", "both", "", "Inbound", "in"])
def test_unknown_track_is_refused(name: str, track: str) -> None:
    """Frames of a track that is neither the caller's nor ours are refused, for the log: it is unknown who speaks."""
    codec = started(name)
    with pytest.raises(WireError, match="a track must be inbound or outbound"):
        heard(name, codec, track=track, payload=PAYLOAD)
