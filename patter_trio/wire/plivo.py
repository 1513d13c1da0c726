"""Plivo Audio Streaming: one bidirectional stream of JSON text messages.

Protocol: https://www.plivo.com/docs/voice-agents/audio-streaming/concepts/audio-streaming-reference

Quirks that shape this codec:

* ``media`` comes fifty times a second, so decoding is typed and takes one pass, as in ``wire/twilio.py``: msgspec picks
  the class by ``event`` and decodes the base64. Fields that are not used are skipped, not checked: ``extra_headers``
  comes with each frame, and is read only in ``start``.
* The first message is ``start``. The stream's id is inside it, and at the top of every later message.
* Numbers are numbers in Plivo's own models and strings in its older examples: both are taken.
* Plivo confirms a checkpoint only if its audio was really played. After a clear it confirms none of those before, and
  it does not say what becomes of one in an empty buffer; what comes is ``clearedAudio``. So ``clearedAudio`` stands for
  the mark that was requested behind the clear. Nobody waits for the marks before it: the playback ledger forgets them
  when it cuts a reply.
* A ``stop`` is not in the protocol's reference: the stream ends with the socket. One that comes is the end all the
  same.
"""

import json
import re
from collections.abc import Mapping
from typing import Any, Final

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

ENCODING: Final = "audio/x-mulaw"
"""Type of the audio in both directions; in the answer to a webhook, the rate stands behind it."""
SAMPLE_RATE_HZ: Final = 8000


class _Event(msgspec.Struct, frozen=True, tag_field="event", rename="camel"):
    """A message; its tag is its ``event``."""


class _MediaFormat(msgspec.Struct, frozen=True, rename="camel"):
    encoding: str
    sample_rate: int | str


class _StartBody(msgspec.Struct, frozen=True, rename="camel"):
    call_id: str
    stream_id: str
    media_format: _MediaFormat


class _Start(_Event, frozen=True, tag="start"):
    start: _StartBody
    # In snake case, unlike all other fields.
    extra_headers: str | dict[str, Any] | None = msgspec.field(default=None, name="extra_headers")


class _Media(_Event, frozen=True, tag="media", rename="camel"):
    stream_id: str
    media: MediaBody


class _DigitBody(msgspec.Struct, frozen=True):
    digit: str | int


class _Digit(_Event, frozen=True, tag="dtmf", rename="camel"):
    stream_id: str
    dtmf: _DigitBody


class _Played(_Event, frozen=True, tag="playedStream", rename="camel"):
    stream_id: str
    name: str


class _Cleared(_Event, frozen=True, tag="clearedAudio", rename="camel"):
    stream_id: str


class _Stop(_Event, frozen=True, tag="stop", rename="camel"):
    # A stop is tolerated, not documented: so is one that does not name its stream.
    stream_id: str = ""


class _OutgoingAudio(msgspec.Struct, frozen=True, rename="camel"):
    content_type: str
    sample_rate: int
    payload: bytes


class _OutgoingMedia(msgspec.Struct, frozen=True):
    event: str
    media: _OutgoingAudio


class _Outgoing(msgspec.Struct, frozen=True, rename="camel"):
    event: str
    stream_id: str


class _OutgoingMark(_Outgoing, frozen=True):
    name: str


class _OutgoingDigits(msgspec.Struct, frozen=True):
    event: str
    dtmf: str


_Incoming = _Start | _Media | _Digit | _Played | _Cleared | _Stop
_messages: Final = MessageDecoder(
    msgspec.json.Decoder(_Incoming).decode,
    frozenset({"start", "media", "dtmf", "playedStream", "clearedAudio", "stop"}),
)


class PlivoCodec(StreamCodec):
    """The codec of one Plivo audio stream."""

    def __init__(self) -> None:
        self._stream_id = ""
        # Only of the newest clear: a second one within a round trip makes the first one's report worthless.
        self._is_cleared = False
        self._probe = ""

    def __repr__(self) -> str:
        return f"<PlivoCodec {self._stream_id or 'not started'}>"

    def receive(self, message: str | bytes) -> StreamEvent | None:
        """Return the event in a message of Plivo; None for a valid message without one.

        Raises:
            WireError: the protocol does not allow the message; the reason never quotes it.
        """
        decoded = _messages.read(message)
        if decoded is None:
            return None
        if isinstance(decoded, _Start):
            return self._started(decoded)
        if not self._stream_id:
            raise not_started()
        if decoded.stream_id != self._stream_id and (decoded.stream_id or not isinstance(decoded, _Stop)):
            raise WireError("the streamId must be that of the start message")
        if isinstance(decoded, _Media):
            return audio_of(decoded.media)
        if isinstance(decoded, _Played):
            return MarkReached(decoded.name)
        if isinstance(decoded, _Digit):
            return digit_of(str(decoded.dtmf.digit))
        if isinstance(decoded, _Cleared):
            return self._cleared()
        return StreamStopped()

    def _started(self, message: _Start) -> StreamStarted:
        if self._stream_id:
            raise started_twice()
        start = message.start
        if not start.stream_id:
            raise WireError("the start message must have a streamId")
        if not start.call_id:
            raise WireError("the start message must have a callId")
        sent = start.media_format
        # The rate is a field of its own; in the answer to the webhook it stands behind the type, and an echo of that
        # means the same.
        if sent.encoding.partition(";")[0].strip().lower() != ENCODING or str(sent.sample_rate) != str(SAMPLE_RATE_HZ):
            raise WireError("the media format must be mu-law, 8000 Hz")
        self._stream_id = start.stream_id
        return StreamStarted(start.call_id, read_extra_headers(message.extra_headers))

    def _cleared(self) -> MarkReached | None:
        # Once: a second report without a clear of ours says nothing.
        name, self._probe = self._probe, ""
        return MarkReached(name) if name else None

    def audio(self, mulaw: bytes) -> str:
        """Return the message that plays mu-law audio (8 kHz, no header, any length) after everything sent before it."""
        self._is_cleared = False
        return encode(_OutgoingMedia("playAudio", _OutgoingAudio(ENCODING, SAMPLE_RATE_HZ, mulaw))).decode()

    def mark(self, name: str) -> str:
        """Return the message that requests a :class:`~patter_trio.abc.MarkReached` of this name."""
        # Nothing is in the buffer between a clear and the mark behind it, so the report of the clear answers for both.
        # The message is sent all the same: should Plivo confirm it, the ledger ignores the second report.
        if self._is_cleared:
            self._is_cleared, self._probe = False, name
        return encode(_OutgoingMark("checkpoint", self._stream_id, name)).decode()

    def clear(self) -> str:
        """Return the message that empties Plivo's buffer; the mark requested next is reached when that was done."""
        self._is_cleared, self._probe = True, ""
        return encode(_Outgoing("clearAudio", self._stream_id)).decode()

    def digits(self, digits: str) -> str:
        """Return the message that makes Plivo send DTMF digits in the call."""
        return encode(_OutgoingDigits("sendDTMF", digits)).decode()


def read_extra_headers(given: str | Mapping[str, Any] | None) -> dict[str, str]:
    """Return the parameters in ``extra_headers``, whose form differs between Plivo's pages.

    Pairs ``k=v`` with commas or semicolons between them, a JSON object as text, or the object itself. What cannot be
    read is left out: the server misses its token then, and says so.
    """
    if isinstance(given, str):
        pairs = [pair.partition("=") for pair in re.split("[,;]", given)]
        found = _object(given)
        given = {name: value for name, is_pair, value in pairs if is_pair} if found is None else found
    texts = {name.strip(): str(value).strip() for name, value in (given or {}).items() if isinstance(value, str | int)}
    return {name: value for name, value in texts.items() if name}


def _object(text: str) -> dict[str, Any] | None:
    try:
        found = json.loads(text)
    # RecursionError: Python's parser recurses, and the text may nest as deep as it likes.
    except (ValueError, RecursionError):
        return None
    return found if isinstance(found, dict) else None
