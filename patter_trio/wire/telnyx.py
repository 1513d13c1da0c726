"""Telnyx media streaming: one bidirectional stream of JSON text messages.

Protocol: https://developers.telnyx.com/api-reference/websockets/stream-call-media-over-websocket

Quirks that shape this codec:

* ``media`` comes fifty times a second. As for Twilio (``wire/twilio.py``), decoding is typed and takes one pass, and
  only messages that failed to decode are inspected again, to tell an unknown event from a mistake.
* Numbers come as text or as numbers; the decoder is lax, so that both are read.
* Telnyx transcodes a stream to the codec that we ask for where it can, and otherwise sends that of the call: A-law
  where the call comes from a network outside of North America. The start message names it; what we send stays mu-law.
* The order of ``media`` is not guaranteed: :class:`_Order` restores it by ``chunk``, within :data:`MAX_HELD_FRAMES`.
* Upgrades are not signed. The one-time token comes back in a header of the upgrade, in ``connected``, or with the state
  that we gave to the command which started the stream.
* Telnyx reports our mistakes in ``error`` messages on the stream itself; they are logged, each code once.
* DTMF comes here and as a webhook; the carrier ignores the webhook.
"""

import base64
import binascii
import logging
import re
from collections.abc import Mapping
from typing import Any, Final
from urllib.parse import parse_qsl, urlencode

import msgspec

from patter_trio.abc import AudioReceived, MarkReached, StreamCodec, StreamEvent, StreamStarted, StreamStopped
from patter_trio.audio import g711
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

TOKEN_HEADER: Final = "x-telnyx-streaming-auth-token"  # noqa: S105 (the name of a header)
"""The header of the upgrade, and the field of ``connected``, with the ``stream_auth_token`` of the command."""
# Judged: frames of 20 ms that overtake each other do so by one or two. More would delay the caller's words each time
# that a frame is lost.
MAX_HELD_FRAMES: Final = 3
"""Frames that are held back, 60 ms, while one before them is missing; then it counts as lost."""
MULAW_ENCODINGS: Final = frozenset({"PCMU", "AUDIO/X-MULAW", "AUDIO/PCMU"})
"""Names of mu-law in the start message, in capitals; the second one is in older documentation."""
ALAW_ENCODINGS: Final = frozenset({"PCMA", "AUDIO/X-ALAW", "AUDIO/PCMA"})
"""The same for A-law."""
# https://developers.telnyx.com/docs/voice/programmable-voice/media-streaming: 20 ms to 30 s in each message.
MIN_AUDIO_BYTES: Final = 160
"""Least audio in a message to Telnyx."""
_SILENCE: Final = bytes([g711.SILENCE_BYTE])
# Judged: two lines of a log.
_MAX_DETAIL_CHARACTERS: Final = 200
# Four are documented: 100002 to 100005.
MAX_ERROR_CODES: Final = 16
"""Most codes of errors of one stream that are logged."""
_STATE_PREFIX: Final = "patter:"
"""Begins the client state of ours, so that the state of other programs on the account is not taken for it."""

# Telnyx calls the id opaque; its examples have a version, a colon and base64 for URLs, older ones base64. It goes into
# logs and paths, so nothing else is taken.
_CALL_ID: Final = re.compile(r"[\w.:=+-]{1,128}", re.ASCII)

_log = logging.getLogger("patter_trio.carriers")


def is_call_id(text: str) -> bool:
    """Return True if a text has the form of a ``call_control_id``."""
    return _CALL_ID.fullmatch(text) is not None


def encode_state(**values: str) -> str:
    """Return values as a ``client_state``, which Telnyx returns in the webhooks and the stream's start of a call."""
    return base64.b64encode(f"{_STATE_PREFIX}{urlencode(values)}".encode()).decode()


def decode_state(state: object) -> Mapping[str, str]:
    """Return the values of a ``client_state`` of ours; empty for anything else."""
    if not isinstance(state, str):
        return {}
    try:
        text = base64.b64decode(state, validate=True).decode()
    # Another program's state need not be base64, or text.
    except (binascii.Error, ValueError):
        return {}
    if not text.startswith(_STATE_PREFIX):
        return {}
    try:
        return dict(parse_qsl(text.removeprefix(_STATE_PREFIX), keep_blank_values=True, errors="strict"))
    except ValueError:
        return {}


class _Event(msgspec.Struct, frozen=True, tag_field="event"):
    """A message; the name of its class in lower case is its ``event``."""


class _Connected(_Event, frozen=True, tag="connected"):
    """The first message: the socket is open, the stream has not started."""

    # Its contents are not documented beyond the token, so anything is allowed.
    connected: Any = None


class _MediaFormat(msgspec.Struct, frozen=True):
    encoding: str
    sample_rate: int
    channels: int = 1


class _StartBody(msgspec.Struct, frozen=True):
    call_control_id: str
    media_format: _MediaFormat = _MediaFormat("PCMU", 8000)
    # Anything: only texts are used.
    custom_parameters: Any = None
    client_state: Any = None


class _Start(_Event, frozen=True, tag="start"):
    stream_id: str
    start: _StartBody


class _MediaBody(MediaBody, frozen=True):
    # Without one, a frame is taken as it comes.
    chunk: int | None = None


class _Media(_Event, frozen=True, tag="media"):
    media: _MediaBody
    stream_id: str = ""


class _DigitBody(msgspec.Struct, frozen=True):
    digit: str


class _Digit(_Event, frozen=True, tag="dtmf"):
    dtmf: _DigitBody
    stream_id: str = ""


class _MarkBody(msgspec.Struct, frozen=True):
    name: str


class _Mark(_Event, frozen=True, tag="mark"):
    mark: _MarkBody
    stream_id: str = ""


class _Stop(_Event, frozen=True, tag="stop"):
    stream_id: str = ""


class _ErrorBody(msgspec.Struct, frozen=True):
    code: int | str = ""
    title: str = ""
    detail: str = ""


class _Error(_Event, frozen=True, tag="error"):
    payload: _ErrorBody = _ErrorBody()
    stream_id: str = ""


class _Outgoing(msgspec.Struct, frozen=True):
    """An outgoing message: a socket has one stream, so no message names it."""

    event: str


class _OutgoingPayload(msgspec.Struct, frozen=True):
    payload: bytes


class _OutgoingMedia(_Outgoing, frozen=True):
    media: _OutgoingPayload


class _OutgoingMark(_Outgoing, frozen=True):
    mark: _MarkBody


_Incoming = _Connected | _Start | _Media | _Digit | _Mark | _Stop | _Error
# Lax, for numbers that come as text; nothing else that we read is changed by it.
_messages: Final = MessageDecoder(
    msgspec.json.Decoder(_Incoming, strict=False).decode,
    frozenset({"connected", "start", "media", "dtmf", "mark", "stop", "error"}),
)
_CLEAR: Final = encode(_Outgoing("clear")).decode()


class _Order:
    """The caller's frames in the order of their ``chunk``.

    A frame that overtook others is held until they have come, and is then returned with them. A missing frame counts as
    lost as soon as :data:`MAX_HELD_FRAMES` behind it are held and another one comes, or if more than that many are
    missing: nothing is ever held longer than that. A late frame is dropped, because its place has been heard. More late
    frames in a row than could overtake each other are a new count.
    """

    def __init__(self) -> None:
        self._next: int | None = None
        self._held: dict[int, bytes] = {}
        self._late = 0

    def put(self, chunk: int, payload: bytes) -> bytes:
        """Return the audio that follows what was returned before; empty while a frame is missing, or for a late one."""
        # The usual frame: nothing is held, and it is the next one.
        if chunk == self._next and not self._held:
            self._next, self._late = chunk + 1, 0
            return payload
        if self._next is None:
            self._next = chunk
        behind = self._next - chunk
        if behind > 0:
            self._late += 1
            if self._late <= MAX_HELD_FRAMES:
                return b""
            # A new count: what is held belongs to the old one, which is over.
            audio = self._released() + payload
            self._next, self._late = chunk + 1, 0
            return audio
        self._late = 0
        self._held[chunk] = payload
        if len(self._held) > MAX_HELD_FRAMES or -behind > MAX_HELD_FRAMES:
            return self._released()
        found = []
        while self._next in self._held:
            found.append(self._held.pop(self._next))
            self._next += 1
        return b"".join(found)

    def _released(self) -> bytes:
        """Return all held audio; the frames missing before and between it are lost."""
        chunks = sorted(self._held)
        audio = b"".join(self._held[chunk] for chunk in chunks)
        if chunks:
            self._next = chunks[-1] + 1
        self._held.clear()
        return audio


class TelnyxCodec(StreamCodec):
    """The codec of one Telnyx media stream.

    Args:
        token: the token in the header of the stream's upgrade; empty if it has none.
    """

    def __init__(self, token: str = "") -> None:
        self._token = token
        self._stream_id = ""
        self._call_id = ""
        self._order = _Order()
        self._is_alaw = False
        self._reported: set[str] = set()

    def __repr__(self) -> str:
        return f"<TelnyxCodec {self._stream_id or 'not started'}>"

    def receive(self, message: str | bytes) -> StreamEvent | None:
        """Return the event in a message of Telnyx; None for a valid message without one.

        Audio that was out of order comes together, in one event. The last :data:`MAX_HELD_FRAMES` frames of a stream
        are lost if one before them is.

        Raises:
            WireError: the protocol does not allow the message; the reason never quotes it.
        """
        decoded = _messages.read(message)
        if decoded is None:
            return None
        # First, because it is nearly every message.
        if isinstance(decoded, _Media):
            self._check(decoded.stream_id)
            return self._audio(decoded.media)
        if isinstance(decoded, _Connected):
            self._token = self._token or _token_in(decoded.connected)
            return None
        if isinstance(decoded, _Start):
            return self._started(decoded)
        if isinstance(decoded, _Error):
            # Also before the start: then it says why none will come.
            self._report(decoded.payload)
            return None
        self._check(decoded.stream_id)
        if isinstance(decoded, _Mark):
            return MarkReached(decoded.mark.name)
        if isinstance(decoded, _Digit):
            return digit_of(decoded.dtmf.digit)
        return StreamStopped()

    def _check(self, stream_id: str) -> None:
        if not self._stream_id:
            raise not_started()
        # Not every message is documented to have one.
        if stream_id and stream_id != self._stream_id:
            raise WireError("the stream_id must be that of the start message")

    def _started(self, message: _Start) -> StreamStarted:
        if self._stream_id:
            raise started_twice()
        start = message.start
        if not message.stream_id:
            raise WireError("the start message must have a stream_id")
        if not is_call_id(start.call_control_id):
            raise WireError("the start message must have a call_control_id")
        format_ = start.media_format
        encoding = format_.encoding.upper()
        if encoding not in MULAW_ENCODINGS | ALAW_ENCODINGS or (format_.sample_rate, format_.channels) != (8000, 1):
            raise WireError("the media format must be mu-law (PCMU) or A-law (PCMA), 8000 Hz, one channel")
        self._is_alaw = encoding in ALAW_ENCODINGS
        self._stream_id, self._call_id = message.stream_id, start.call_control_id
        given = start.custom_parameters if isinstance(start.custom_parameters, dict) else {}
        parameters = {name: value for name, value in given.items() if isinstance(value, str)}
        # The header first: nothing within the stream can replace what the upgrade has shown.
        token = self._token or parameters.get("token", "") or decode_state(start.client_state).get("token", "")
        if token:
            parameters["token"] = token
        return StreamStarted(start.call_control_id, parameters)

    def _audio(self, media: _MediaBody) -> AudioReceived | None:
        received = audio_of(media)
        if received is not None and self._is_alaw:
            received = AudioReceived(g711.from_alaw(received.audio))
        if received is None or media.chunk is None:
            return received
        audio = self._order.put(media.chunk, received.audio)
        # The usual frame comes back as it is: fifty times a second, nothing is made anew for it.
        if audio is received.audio:
            return received
        return AudioReceived(audio) if audio else None

    def _report(self, error: _ErrorBody) -> None:
        code = str(error.code)
        # Once for each code: a stream with a mistake in it has it fifty times a second. Few codes are documented, and
        # no more than that many are kept.
        if code in self._reported or len(self._reported) >= MAX_ERROR_CODES:
            return
        self._reported.add(code)
        said = " ".join(f"{error.title}: {error.detail}".split())[:_MAX_DETAIL_CHARACTERS]
        _log.warning(
            "call %s: Telnyx reports error %r on the media stream: %r", self._call_id or "not started", code[:20], said
        )

    def audio(self, mulaw: bytes) -> str:
        """Return the message that plays mu-law audio (8 kHz, no header, up to 30 s) after everything sent before it.

        Telnyx takes no less than :data:`MIN_AUDIO_BYTES`: shorter audio is filled up with silence.
        """
        audio = mulaw.ljust(MIN_AUDIO_BYTES, _SILENCE)
        return encode(_OutgoingMedia("media", _OutgoingPayload(audio))).decode()

    def mark(self, name: str) -> str:
        """Return the message that requests a :class:`~patter_trio.abc.MarkReached` of this name."""
        return encode(_OutgoingMark("mark", _MarkBody(name))).decode()

    def clear(self) -> str:
        """Return the message that empties Telnyx's buffer; pending marks come back at once."""
        return _CLEAR


def _token_in(connected: object) -> str:
    """Return the token in the contents of ``connected``, whose field is named like the header; or an empty string."""
    if not isinstance(connected, dict):
        return ""
    # A header's name may be in any case.
    return next(
        (value for name, value in connected.items() if name.lower() == TOKEN_HEADER and isinstance(value, str)), ""
    )
