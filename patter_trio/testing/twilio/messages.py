"""Twilio's side of its webhooks and Media Streams protocol, written from its public pages and from nothing of ours.

Being a second, independent and stricter reading of the protocol, it notices what the first one misunderstood.
Sources: twilio.com/docs/voice/media-streams/websocket-messages, .../voice/twiml/stream, .../usage/security.
"""

import base64
import hashlib
import hmac
from collections.abc import Mapping
from typing import Final, Literal
from urllib.parse import urlsplit
from xml.etree import ElementTree as ET

import attrs
import msgspec

WEBHOOK_TIMEOUT_S: Final = 15.0
"""How long Twilio waits for the answer of a webhook."""
MAX_PARAMETER_CHARACTERS: Final = 500
"""Most characters of a <Parameter>'s name and value together."""


def sign(auth_token: str, url: str, params: Mapping[str, str] | None = None) -> str:
    """Return the ``X-Twilio-Signature`` of a request: HMAC-SHA1 over the URL and the sorted form fields."""
    text = url + "".join(name + value for name, value in sorted((params or {}).items()))
    return base64.b64encode(hmac.new(auth_token.encode(), text.encode(), hashlib.sha1).digest()).decode()


# The answer to the webhook --------------------------------------------------------------------------------------------
@attrs.frozen
class StreamTwiml:
    """``<Connect><StreamTwiml>``: where the media goes, and with which parameters."""

    url: str
    parameters: Mapping[str, str]


@attrs.frozen
class RejectTwiml:
    """``<Reject>`` or ``<Hangup>``: the caller hears busy, or the call just ends."""

    outcome: Literal["busy", "rejected", "completed"]


class BadAnswer(Exception):
    """Twilio would read an "application error" to the caller; the message says why."""


def read_twiml(body: bytes) -> StreamTwiml | RejectTwiml:
    """Return what an answer to the voice webhook asks for.

    Raises:
        BadAnswer: it is no TwiML, or not such as this simulation (or Twilio) can follow.
    """
    try:
        response = ET.fromstring(body)  # noqa: S314 (the server under test wrote it)
    except ET.ParseError as error:
        raise BadAnswer(f"the webhook's answer is no XML ({error}): {body[:200]!r}") from error
    if response.tag != "Response":
        raise BadAnswer(f"TwiML begins with <Response>, not <{response.tag}>")
    verb = response[0] if len(response) else None
    if verb is None or verb.tag == "Hangup":
        return RejectTwiml("completed")
    if verb.tag == "Reject":
        return RejectTwiml("busy" if verb.get("reason") == "busy" else "rejected")
    if verb.tag != "Connect":
        raise BadAnswer(f"the simulated carrier follows <Connect>, <Reject> and <Hangup>, not <{verb.tag}>")
    stream = verb.find("Stream")
    if stream is None:
        raise BadAnswer("<Connect> without <Stream>")
    return _read_stream(stream)


def _read_stream(stream: ET.Element) -> StreamTwiml:
    try:
        url = urlsplit(stream.get("url", ""))
    except ValueError as error:
        raise BadAnswer(f"31922: <Stream url> is no address: {stream.get('url')!r}") from error
    if url.scheme not in ("wss", "ws") or not url.netloc:
        raise BadAnswer(f"31922: <Stream url> has to be a wss:// address, not {stream.get('url')!r}")
    if url.query:
        raise BadAnswer(f"31920: <Stream url> may not have a query: {stream.get('url')!r}")
    parameters: dict[str, str] = {}
    for child in stream:
        if child.tag != "Parameter":
            raise BadAnswer(f"<Stream> holds <Parameter> elements, not <{child.tag}>")
        name, value = child.get("name", ""), child.get("value", "")
        if not name or len(name) + len(value) > MAX_PARAMETER_CHARACTERS:
            raise BadAnswer(f"<Parameter name={name!r}> is empty or longer than {MAX_PARAMETER_CHARACTERS} characters")
        parameters[name] = value
    return StreamTwiml(url.geturl(), parameters)


# Messages to the agent's server ---------------------------------------------------------------------------------------
class _Out(msgspec.Struct, frozen=True, rename="camel", tag_field="event", kw_only=True):
    pass


class Connected(_Out, frozen=True, tag="connected"):
    """The first message of a socket."""

    protocol: str = "Call"
    version: str = "1.0.0"


class MediaFormat(msgspec.Struct, frozen=True, rename="camel"):
    """The one format that there is."""

    encoding: str = "audio/x-mulaw"
    sample_rate: int = 8000
    channels: int = 1


class StartBody(msgspec.Struct, frozen=True, rename="camel", kw_only=True):
    """What the stream is."""

    stream_sid: str
    account_sid: str
    call_sid: str
    tracks: tuple[str, ...] = ("inbound",)
    custom_parameters: dict[str, str]
    media_format: MediaFormat = MediaFormat()


class Start(_Out, frozen=True, tag="start"):
    """The second message of a socket."""

    sequence_number: str
    stream_sid: str
    start: StartBody


class MediaBody(msgspec.Struct, frozen=True, rename="camel", kw_only=True):
    """20 ms of the caller; the numbers are strings."""

    track: str = "inbound"
    chunk: str
    timestamp: str
    payload: str


class Media(_Out, frozen=True, tag="media"):
    """Audio of the caller."""

    sequence_number: str
    stream_sid: str
    media: MediaBody


class Name(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The name of a mark."""

    name: str


class MarkPlayed(_Out, frozen=True, tag="mark"):
    """All before the mark was played, or cleared."""

    sequence_number: str
    stream_sid: str
    mark: Name


class Digit(msgspec.Struct, frozen=True, rename="camel", kw_only=True):
    """A key."""

    track: str = "inbound_track"
    digit: str


class Dtmf(_Out, frozen=True, tag="dtmf"):
    """The caller pressed a key."""

    sequence_number: str
    stream_sid: str
    dtmf: Digit


class StopBody(msgspec.Struct, frozen=True, rename="camel"):
    """Which call is over."""

    account_sid: str
    call_sid: str


class Stop(_Out, frozen=True, tag="stop"):
    """The stream is over."""

    sequence_number: str
    stream_sid: str
    stop: StopBody


ToAgent = Connected | Start | Media | MarkPlayed | Dtmf | Stop


# Messages from the agent's server -------------------------------------------------------------------------------------
class _In(msgspec.Struct, frozen=True, rename="camel", tag_field="event", forbid_unknown_fields=True, kw_only=True):
    stream_sid: str


class Payload(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Base64 of mu-law bytes."""

    payload: str


class Play(_In, frozen=True, tag="media"):
    """Audio for the caller."""

    media: Payload


class Mark(_In, frozen=True, tag="mark"):
    """Report when you have come here."""

    mark: Name


class Clear(_In, frozen=True, tag="clear"):
    """Empty the buffer."""


FromAgent = Play | Mark | Clear

_decode = msgspec.json.Decoder(FromAgent).decode


class BadMessage(Exception):
    """Twilio would warn about the message and ignore it; the text says why."""


def read_message(message: str | bytes, stream_sid: str) -> tuple[FromAgent, bytes]:
    """Return a message of the agent's server, and the audio in it.

    Raises:
        BadMessage: Twilio does not take it.
    """
    if isinstance(message, bytes):
        raise BadMessage("31924: a binary frame; the protocol is JSON in text frames")
    try:
        decoded = _decode(message)
    except msgspec.DecodeError as error:
        raise BadMessage(f"31951: {error}: {message[:200]}") from error
    if decoded.stream_sid != stream_sid:
        raise BadMessage(f"31951: streamSid is {decoded.stream_sid!r}, but this stream is {stream_sid!r}")
    if not isinstance(decoded, Play):
        return decoded, b""
    try:
        audio = base64.b64decode(decoded.media.payload, validate=True)
    except ValueError as error:
        raise BadMessage(f"31951: the payload is no base64 ({error})") from error
    if not audio:
        raise BadMessage("31951: media without audio")
    return decoded, audio
