"""Twilio Media Streams: one bidirectional stream of JSON text messages.

Protocol: https://www.twilio.com/docs/voice/media-streams/websocket-messages

Quirks that shape this codec:

* ``media`` comes fifty times a second, more often than all other messages together. So decoding is typed and takes one
  pass: msgspec picks the class by ``event`` and decodes the payload's base64 at the same time. Fields that are not used
  are skipped, not checked: Twilio adds new ones without notice.
* An unknown event is valid and ignored. msgspec reports it like any other mistake, so only messages that failed to
  decode are inspected again to distinguish the two.
* Outgoing messages may have only the documented fields; Twilio warns about any other (31951).
"""

from typing import Final

import msgspec

from patter_trio.abc import MarkReached, StreamCodec, StreamEvent, StreamStarted, StreamStopped
from patter_trio.errors import WireError
from patter_trio.wire.stream_messages import (
    MediaBody,
    MessageDecoder,
    audio_of,
    digit_of,
    encode,
    not_started,
    started_twice,
)


class _Event(msgspec.Struct, frozen=True, tag_field="event", rename="camel"):
    """A message; the name of its class in lower case is its ``event``."""


class _Connected(_Event, frozen=True, tag="connected"):
    """The first message: the socket is open, the stream has not started."""


class _MediaFormat(msgspec.Struct, frozen=True, rename="camel"):
    encoding: str
    sample_rate: int
    channels: int


# The only format of Media Streams; checked all the same, because any other would be heard as noise.
_MULAW_8K: Final = _MediaFormat("audio/x-mulaw", 8000, 1)


class _StartBody(msgspec.Struct, frozen=True, rename="camel"):
    # ``stream_sid`` twice in one message: Twilio sends it inside and outside, and contradictions are refused below.
    stream_sid: str
    call_sid: str
    media_format: _MediaFormat = _MULAW_8K
    custom_parameters: dict[str, str] = {}


class _Start(_Event, frozen=True, tag="start", rename="camel"):
    stream_sid: str
    start: _StartBody


class _Media(_Event, frozen=True, tag="media", rename="camel"):
    stream_sid: str
    media: MediaBody


class _DigitBody(msgspec.Struct, frozen=True):
    digit: str


class _Digit(_Event, frozen=True, tag="dtmf", rename="camel"):
    stream_sid: str
    dtmf: _DigitBody


class _MarkBody(msgspec.Struct, frozen=True):
    name: str


class _Mark(_Event, frozen=True, tag="mark", rename="camel"):
    stream_sid: str
    mark: _MarkBody


class _Stop(_Event, frozen=True, tag="stop", rename="camel"):
    stream_sid: str


class _Outgoing(msgspec.Struct, frozen=True, rename="camel"):
    """An outgoing message; its fields are in the documented order."""

    # msgspec writes the fields in this order, those of the base class first.
    event: str
    stream_sid: str


class _OutgoingPayload(msgspec.Struct, frozen=True):
    payload: bytes


class _OutgoingMedia(_Outgoing, frozen=True, rename="camel"):
    media: _OutgoingPayload


class _OutgoingMark(_Outgoing, frozen=True, rename="camel"):
    mark: _MarkBody


# ``_Connected`` needs a class because it is valid: without one it would be decoded a second time as unknown.
_Incoming = _Connected | _Start | _Media | _Digit | _Mark | _Stop
_messages: Final = MessageDecoder(
    msgspec.json.Decoder(_Incoming).decode, frozenset({"connected", "start", "media", "dtmf", "mark", "stop"})
)


class TwilioCodec(StreamCodec):
    """The codec of one Twilio media stream."""

    def __init__(self) -> None:
        self._stream_sid = ""

    def __repr__(self) -> str:
        return f"<TwilioCodec {self._stream_sid or 'not started'}>"

    def receive(self, message: str | bytes) -> StreamEvent | None:
        """Return the event in a message of Twilio; None for a valid message without one.

        Raises:
            WireError: the protocol does not allow the message; the reason never quotes it.
        """
        decoded = _messages.read(message)
        if isinstance(decoded, _Connected) or decoded is None:
            return None
        if isinstance(decoded, _Start):
            return self._started(decoded)
        if not self._stream_sid:
            raise not_started()
        if decoded.stream_sid != self._stream_sid:
            raise WireError("the streamSid must be that of the start message")
        if isinstance(decoded, _Media):
            return audio_of(decoded.media)
        if isinstance(decoded, _Mark):
            return MarkReached(decoded.mark.name)
        if isinstance(decoded, _Digit):
            return digit_of(decoded.dtmf.digit)
        return StreamStopped()

    def _started(self, message: _Start) -> StreamStarted:
        if self._stream_sid:
            raise started_twice()
        start = message.start
        if not message.stream_sid or start.stream_sid != message.stream_sid:
            # Every outgoing message has it, and Twilio refuses one of another stream.
            raise WireError("the start message must have one streamSid, twice")
        if not start.call_sid:
            raise WireError("the start message must have a callSid")
        if start.media_format != _MULAW_8K:
            raise WireError("the media format must be mu-law, 8000 Hz, one channel")
        self._stream_sid = message.stream_sid
        return StreamStarted(start.call_sid, start.custom_parameters)

    def audio(self, mulaw: bytes) -> str:
        """Return the message that plays mu-law audio (8 kHz, no header, any length) after everything sent before it."""
        # Text, because Twilio takes no binary messages.
        return encode(_OutgoingMedia("media", self._stream_sid, _OutgoingPayload(mulaw))).decode()

    def mark(self, name: str) -> str:
        """Return the message that requests a :class:`~patter_trio.abc.MarkReached` of this name."""
        return encode(_OutgoingMark("mark", self._stream_sid, _MarkBody(name))).decode()

    def clear(self) -> str:
        """Return the message that empties Twilio's buffer; pending marks come back at once."""
        return encode(_Outgoing("clear", self._stream_sid)).decode()
