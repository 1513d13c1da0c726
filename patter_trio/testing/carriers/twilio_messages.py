"""Twilio's side of its webhooks and of the Media Streams protocol, written from Twilio's public documentation alone.

This is a second, independent and stricter implementation of the protocol, so that it reveals misunderstandings in the
first. Sources: twilio.com/docs/voice/media-streams/websocket-messages, .../voice/twiml/stream, .../usage/security.
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

from patter_trio.testing.carriers.protocol import BadAnswer, BadMessage

# As documented; the package's one-time token has to fit.
MAX_PARAMETER_CHARACTERS: Final = 500
"""Maximum length of a <Parameter>'s name and value together."""


@attrs.frozen
class Signer:
    """The secret that signs an account's requests: its Auth Token, or else a shared key, as an id and a secret."""

    auth_token: str = attrs.field(repr=False)
    shared_key: tuple[str, str] | None = attrs.field(default=None, repr=False)

    def headers(self, url: str, params: Mapping[str, str] | None = None) -> dict[str, str]:
        """Return the headers that sign a request: HMAC over the URL and the sorted form fields."""
        # Names without values between them, and nothing to separate: so it is documented, and
        # so must the server compute it.
        text = url + "".join(name + value for name, value in sorted((params or {}).items()))
        secret, algorithm, settings = self.auth_token, hashlib.sha1, {}
        if self.shared_key is not None:
            key_id, secret = self.shared_key
            algorithm = hashlib.sha256
            settings = {"X-Twilio-Webhooks-Signature-Settings": f"key={key_id},algorithm=HMAC_SHA256"}
        signature = base64.b64encode(hmac.new(secret.encode(), text.encode(), algorithm).digest()).decode()
        return {"X-Twilio-Signature": signature, **settings}


# The answer to the webhook --------------------------------------------------------------------------------------------
@attrs.frozen
class StreamTwiml:
    """A parsed ``<Connect><Stream>``: the address for the media, its parameters, and whom to ask when it is over."""

    url: str
    parameters: Mapping[str, str]
    action: str = ""


@attrs.frozen
class RejectTwiml:
    """A parsed ``<Reject>`` or ``<Hangup>``: the caller hears busy, or the call ends."""

    outcome: Literal["busy", "rejected", "completed"]


def read_twiml(body: bytes) -> StreamTwiml | RejectTwiml:
    """Return what an answer to the voice webhook asks for.

    Raises:
        BadAnswer: the answer is not TwiML, or this simulation (or Twilio) cannot follow it.
    """
    try:
        # With a real XML parser: what it refuses, Twilio refuses, too.
        response = ET.fromstring(body)  # noqa: S314 (the server under test wrote it)
    except ET.ParseError as error:
        raise BadAnswer(f"the webhook's answer must be XML, got {body[:200]!r} ({error})") from error
    if response.tag != "Response":
        raise BadAnswer(f"TwiML must begin with <Response>, got <{response.tag}>")
    # Only the first verb: <Connect> holds the call, and what follows runs when the stream has ended, unless an action
    # says how the call goes on.
    verb = response[0] if len(response) else None
    # An empty response is valid TwiML: the call ends.
    if verb is None or verb.tag == "Hangup":
        return RejectTwiml("completed")
    if verb.tag == "Reject":
        return RejectTwiml("busy" if verb.get("reason") == "busy" else "rejected")
    if verb.tag != "Connect":
        raise BadAnswer(f"the first verb must be <Connect>, <Reject> or <Hangup>, got <{verb.tag}>")
    stream = verb.find("Stream")
    if stream is None:
        raise BadAnswer("<Connect> must contain <Stream>")
    return _read_stream(stream, verb.get("action", ""))


def read_dial(twiml: str) -> str:
    """Return the number or SIP address to which TwiML connects the caller of a live call.

    Raises:
        BadAnswer: the text is not TwiML, or does something else.
    """
    try:
        response = ET.fromstring(twiml)  # noqa: S314 (the server under test wrote it)
    except ET.ParseError as error:
        raise BadAnswer(f"Twiml must be XML, got {twiml[:200]!r} ({error})") from error
    dial = response.find("Dial")
    to = "" if dial is None else "".join(dial.itertext()).strip()
    if dial is None or len(response) != 1 or not to or any(child.tag not in ("Number", "Sip") for child in dial):
        raise BadAnswer(f"the simulation can only follow one <Dial> of a number or <Sip>, got {twiml[:200]!r}")
    return to


def _read_stream(stream: ET.Element, action: str) -> StreamTwiml:
    try:
        url = urlsplit(stream.get("url", ""))
    # urlsplit raises for brackets that do not match; found by fuzzing.
    except ValueError as error:
        raise BadAnswer(f"31922: <Stream url> must be a URL, got {stream.get('url')!r}") from error
    if url.scheme not in ("wss", "ws") or not url.netloc:
        raise BadAnswer(f"31922: <Stream url> must be a wss:// address, got {stream.get('url')!r}")
    # Twilio takes no address with a query: data has to travel in <Parameter>.
    if url.query:
        raise BadAnswer(f"31920: <Stream url> must not have a query, got {stream.get('url')!r}")
    parameters: dict[str, str] = {}
    # Anything else in it is a mistake of the server under test.
    for child in stream:
        if child.tag != "Parameter":
            raise BadAnswer(f"<Stream> must contain only <Parameter> elements, got <{child.tag}>")
        name, value = child.get("name", ""), child.get("value", "")
        if not name or len(name) + len(value) > MAX_PARAMETER_CHARACTERS:
            raise BadAnswer(
                "<Parameter> must have a name, and name and value of "
                f"at most {MAX_PARAMETER_CHARACTERS} characters, got {name!r}"
            )
        parameters[name] = value
    return StreamTwiml(url.geturl(), parameters, action)


# Messages to the agent's server ---------------------------------------------------------------------------------------
# Camel case, and most numbers as strings, as on the wire.
class _Out(msgspec.Struct, frozen=True, rename="camel", tag_field="event", kw_only=True):
    pass


class Connected(_Out, frozen=True, tag="connected"):
    """The first message of a socket."""

    protocol: str = "Call"
    version: str = "1.0.0"


class MediaFormat(msgspec.Struct, frozen=True, rename="camel"):
    """The only format of Media Streams."""

    encoding: str = "audio/x-mulaw"
    sample_rate: int = 8000
    channels: int = 1


class StartBody(msgspec.Struct, frozen=True, rename="camel", kw_only=True):
    """The description of a stream in its start message."""

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
    """A frame of 20 ms of the caller's audio; the numbers are strings, as Twilio sends them."""

    track: str = "inbound"
    chunk: str
    timestamp: str
    payload: str


class Media(_Out, frozen=True, tag="media"):
    """A message with audio of the caller."""

    sequence_number: str
    stream_sid: str
    media: MediaBody


class Name(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The name of a mark."""

    name: str


class MarkPlayed(_Out, frozen=True, tag="mark"):
    """A message that all audio before the mark was played, or cleared."""

    sequence_number: str
    stream_sid: str
    mark: Name


class Digit(msgspec.Struct, frozen=True, rename="camel", kw_only=True):
    """The key in a DTMF message."""

    track: str = "inbound_track"
    digit: str


class Dtmf(_Out, frozen=True, tag="dtmf"):
    """A message that the caller pressed a key."""

    sequence_number: str
    stream_sid: str
    dtmf: Digit


class StopBody(msgspec.Struct, frozen=True, rename="camel"):
    """The ids of the call that is over."""

    account_sid: str
    call_sid: str


class Stop(_Out, frozen=True, tag="stop"):
    """A message that the stream is over."""

    sequence_number: str
    stream_sid: str
    stop: StopBody


ToAgent = Connected | Start | Media | MarkPlayed | Dtmf | Stop


# Messages from the agent's server -------------------------------------------------------------------------------------
# Strict, unlike the reader of the package: an unknown field is an error 31951 at Twilio, so it is one here.
class _In(msgspec.Struct, frozen=True, rename="camel", tag_field="event", forbid_unknown_fields=True, kw_only=True):
    stream_sid: str


class Payload(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Audio in base64 of mu-law bytes."""

    payload: str


class Play(_In, frozen=True, tag="media"):
    """A message with audio for the caller."""

    media: Payload


class Mark(_In, frozen=True, tag="mark"):
    """A message that asks for a report when the audio before it has been played."""

    mark: Name


class Clear(_In, frozen=True, tag="clear"):
    """A message that empties the buffer."""


FromAgent = Play | Mark | Clear

_decode = msgspec.json.Decoder(FromAgent).decode


def read_message(message: str | bytes, stream_sid: str) -> tuple[FromAgent, bytes]:
    """Return a decoded message of the agent's server, and the audio in it.

    Raises:
        BadMessage: Twilio would not accept the message.
    """
    # 31924 and 31951 are Twilio's codes for a broken protocol and for an invalid message.
    if isinstance(message, bytes):
        raise BadMessage("31924: messages must be JSON in text frames, got a binary frame")
    try:
        decoded = _decode(message)
    except msgspec.DecodeError as error:
        # The beginning of the message, because a test that fails shows nothing else of it.
        raise BadMessage(f"31951: {error}: {message[:200]}") from error
    if decoded.stream_sid != stream_sid:
        raise BadMessage(f"31951: streamSid must be that of this stream, {stream_sid!r}, got {decoded.stream_sid!r}")
    if not isinstance(decoded, Play):
        return decoded, b""
    try:
        audio = base64.b64decode(decoded.media.payload, validate=True)
    # binascii.Error is a ValueError; letters outside of ASCII raise the latter. Found by fuzzing.
    except ValueError as error:
        raise BadMessage(f"31951: the payload must be base64 ({error})") from error
    if not audio:
        raise BadMessage("31951: media must have audio, got an empty payload")
    return decoded, audio
