"""The fuzzed protocol of Telnyx's media streams: messages are decoded as the json module decodes them, or refused."""

import base64
import json
from typing import Final

from patter_trio.abc import AudioReceived, DigitPressed, MarkReached, StreamEvent, StreamStarted, StreamStopped
from patter_trio.audio import g711
from patter_trio.errors import WireError
from patter_trio.wire.stream_messages import DIGITS
from patter_trio.wire.telnyx import ALAW_ENCODINGS, MAX_HELD_FRAMES, MIN_AUDIO_BYTES, TelnyxCodec

# A closed list: a message that is quoted in a reason would end up in a log.
REASONS: Final = frozenset(
    {
        "a message must be text, got binary data",
        "the start message must come before other events",
        "the stream_id must be that of the start message",
        "a digit must be 0 to 9, A to D, star or hash",
        "the start message must come once, got a second one",
        "the start message must have a stream_id",
        "the start message must have a call_control_id",
        "the media format must be mu-law (PCMU) or A-law (PCMA), 8000 Hz, one channel",
        "each field must be there and have its type",
        "a message must be valid JSON",
        "a payload must have audio, got an empty one",
    }
)
"""All reasons with which the codec may refuse a message; none quotes the message."""


def _received(reading: TelnyxCodec, message: str) -> tuple[StreamEvent | None, str]:
    try:
        return reading.receive(message), ""
    except WireError as error:
        return None, str(error)


def telnyx(data: bytes) -> None:
    """Check Telnyx's messages, one a line; audio may be held back, but never for more than three frames."""
    reading, held, is_alaw = TelnyxCodec(), 0, False
    for line in data.split(b"\n"):
        # Surrogates on request: the codec takes any string, also one that no UTF-8 decodes to.
        message = line.decode("utf-8", "surrogateescape" if line[:1] == b"!" else "replace")
        event, refused = _received(reading, message)
        assert not refused or refused in REASONS, refused
        if refused:
            continue
        whole = json.loads(message)
        match event:
            case AudioReceived():
                # In any case the end of it, or what was held before it is.
                payload = base64.b64decode(whole["media"]["payload"])
                assert (g711.from_alaw(payload) if is_alaw else payload) in event.audio
                held = 0
                sent = base64.b64decode(json.loads(reading.audio(event.audio))["media"]["payload"])
                assert sent == event.audio.ljust(MIN_AUDIO_BYTES, bytes([g711.SILENCE_BYTE]))
            case MarkReached():
                assert event.name == whole["mark"]["name"]
                assert json.loads(reading.mark(event.name))["mark"]["name"] == event.name
            case DigitPressed():
                assert event.digit in DIGITS
            case StreamStarted():
                assert event.call_id == whole["start"]["call_control_id"]
                # Without a format, it is mu-law.
                format_ = whole["start"].get("media_format") or {}
                is_alaw = format_.get("encoding", "").upper() in ALAW_ENCODINGS
                assert all(isinstance(value, str) for value in event.parameters.values())
            case StreamStopped():
                assert whole["event"] == "stop"
            case None:
                assert isinstance(whole["event"], str)
                # Held or late; both are bounded, and a frame in order ends them.
                held += whole["event"] == "media" and whole["media"].get("track", "inbound") == "inbound"
                assert held <= 2 * MAX_HELD_FRAMES, "audio: held back for ever"
