"""Plivo's side of its webhooks and of audio streaming, written from Plivo's public documentation alone.

This is a second, independent and stricter implementation of the protocol, so that it reveals misunderstandings in the
first. Sources: plivo.com/docs, "XML: Stream", "Audio streaming reference" and "Signature validation" (version 3).
"""

import base64
import hashlib
import hmac
import re
from collections.abc import Mapping
from typing import Any, Final, Literal
from urllib.parse import parse_qsl, urlsplit
from xml.etree import ElementTree as ET

import attrs
import msgspec

from patter_trio.testing.carriers.protocol import BadAnswer, BadMessage, Clear, FromAgent, Mark, Play, Tones

CONTENT_TYPE: Final = "audio/x-mulaw"
# As documented for <Stream extraHeaders>.
MAX_EXTRA_HEADERS_BYTES: Final = 512
_EXTRA: Final = re.compile(r"[A-Za-z0-9]+=[A-Za-z0-9]+(,[A-Za-z0-9]+=[A-Za-z0-9]+)*")
_ATTRIBUTES: Final = frozenset(
    {
        "bidirectional",
        "keepCallAlive",
        "contentType",
        "extraHeaders",
        "statusCallbackUrl",
        "statusCallbackMethod",
        "streamTimeout",
        "audioTrack",
    }
)
_KEYS: Final = frozenset("0123456789*#ABCDwW")


def sign(auth_token: str, url: str, form: Mapping[str, str], nonce: str) -> str:
    """Return the ``X-Plivo-Signature-V3`` of a POST: HMAC-SHA256 over address, sorted query, fields and nonce."""
    parts = urlsplit(url)
    query = "&".join(f"{name}={value}" for name, value in sorted(parse_qsl(parts.query, keep_blank_values=True)))
    fields = "".join(name + value for name, value in sorted(form.items()))
    text = f"{parts.scheme}://{parts.netloc}{parts.path}"
    # The question mark stands also without a query; the dot only between the two.
    if query or fields:
        text += "?" + query + ("." if query and fields else "") + fields
    digest = hmac.new(auth_token.encode(), f"{text}.{nonce}".encode(), hashlib.sha256).digest()
    return base64.b64encode(digest).decode()


@attrs.frozen
class StreamXML:
    """A parsed ``<Stream>``: the address for the media, what comes back with it, and the XML that follows it."""

    url: str
    extra_headers: str
    redirect: str = ""


@attrs.frozen
class HangupXML:
    """A parsed ``<Hangup>``, or an answer without elements."""

    outcome: Literal["busy", "rejected", "completed"]


@attrs.frozen
class DialXML:
    """A parsed ``<Dial>``: whom the caller is connected to."""

    to: str


def read_xml(body: bytes) -> StreamXML | HangupXML | DialXML:
    """Return what an answer to a webhook asks for.

    Raises:
        BadAnswer: the answer is not Plivo's XML, or this simulation (or Plivo) cannot follow it.
    """
    try:
        response = ET.fromstring(body)  # noqa: S314 (the server under test wrote it)
    except ET.ParseError as error:
        # Cut short, for it may be a whole page of HTML.
        raise BadAnswer(f"the webhook's answer must be XML, got {body[:200]!r} ({error})") from error
    if response.tag != "Response":
        raise BadAnswer(f"Plivo's XML must begin with <Response>, got <{response.tag}>")
    # The stream holds the call, and the element behind it runs when it has ended.
    element = response[0] if len(response) else None
    if element is None:
        return HangupXML("completed")
    if element.tag == "Hangup":
        reason = element.get("reason", "")
        return HangupXML("busy" if reason == "busy" else "rejected" if reason == "rejected" else "completed")
    if element.tag == "Dial":
        to = "".join(element.itertext()).strip()
        if [child.tag for child in element] not in (["Number"], ["User"]) or not to:
            raise BadAnswer("<Dial> must have one <Number> or <User>")
        return DialXML(to)
    if element.tag != "Stream":
        raise BadAnswer(f"the first element must be <Stream>, <Dial> or <Hangup>, got <{element.tag}>")
    return _read_stream(element, _redirect(response[1] if len(response) > 1 else None))


def _redirect(element: ET.Element | None) -> str:
    if element is None:
        return ""
    if element.tag != "Redirect" or element.get("method", "POST") != "POST":
        raise BadAnswer(f"the simulation can only follow <Redirect> by POST behind <Stream>, got <{element.tag}>")
    return (element.text or "").strip()


def _read_stream(stream: ET.Element, redirect: str) -> StreamXML:
    unknown = sorted(stream.attrib.keys() - _ATTRIBUTES)
    if unknown or len(stream):
        raise BadAnswer(f"<Stream> must have only documented attributes, got {', '.join(unknown) or 'children'}")
    # The defaults are one-way audio in L16, and the end of the call at once.
    wanted = {"bidirectional": "true", "keepCallAlive": "true", "contentType": f"{CONTENT_TYPE};rate=8000"}
    for name, value in wanted.items():
        if stream.get(name) != value:
            raise BadAnswer(f"<Stream {name}> must be {value!r} for an agent, got {stream.get(name)!r}")
    if stream.get("audioTrack", "inbound") != "inbound":
        raise BadAnswer(f"<Stream audioTrack> must be 'inbound' if bidirectional, got {stream.get('audioTrack')!r}")
    extra = stream.get("extraHeaders", "")
    if extra and (len(extra) > MAX_EXTRA_HEADERS_BYTES or not _EXTRA.fullmatch(extra)):
        raise BadAnswer(
            f"<Stream extraHeaders> must be at most 512 bytes of k=v with letters and digits, got {extra!r}"
        )
    return StreamXML((stream.text or "").strip(), extra, redirect)


# Messages from the agent's server: strict, unlike the reader of the package. ------------------------------------------
class _In(msgspec.Struct, frozen=True, rename="camel", tag_field="event", forbid_unknown_fields=True, kw_only=True):
    pass


class _Audio(msgspec.Struct, frozen=True, rename="camel", forbid_unknown_fields=True):
    content_type: str
    sample_rate: int
    payload: str


class _PlayAudio(_In, frozen=True, tag="playAudio"):
    media: _Audio
    # Tolerated: Plivo's own package does not send it.
    stream_id: str = ""


class _Checkpoint(_In, frozen=True, tag="checkpoint"):
    stream_id: str
    name: str


class _ClearAudio(_In, frozen=True, tag="clearAudio"):
    stream_id: str


class _SendDTMF(_In, frozen=True, tag="sendDTMF"):
    dtmf: str


_decode = msgspec.json.Decoder(_PlayAudio | _Checkpoint | _ClearAudio | _SendDTMF).decode


def read_message(message: str | bytes, stream_id: str) -> FromAgent:
    """Return a decoded message of the agent's server.

    Raises:
        BadMessage: Plivo would not accept the message.
    """
    if isinstance(message, bytes):
        raise BadMessage("messages must be JSON in text frames, got a binary frame")
    try:
        decoded = _decode(message)
    except msgspec.DecodeError as error:
        raise BadMessage(f"{error}: {message[:200]}") from error
    if isinstance(decoded, _SendDTMF):
        if not decoded.dtmf or set(decoded.dtmf) - _KEYS:
            raise BadMessage(f"dtmf must be of 0-9, A-D, *, #, w and W, got {decoded.dtmf!r}")
        return Tones(decoded.dtmf)
    given = decoded.stream_id
    if given != stream_id and (given or not isinstance(decoded, _PlayAudio)):
        raise BadMessage(f"streamId must be that of this stream, {stream_id!r}, got {given!r}")
    if isinstance(decoded, _Checkpoint):
        return Mark(decoded.name)
    if isinstance(decoded, _ClearAudio):
        return Clear()
    return Play(_audio(decoded.media))


def _audio(media: _Audio) -> bytes:
    # As in the XML, and without the rate behind the type.
    if (media.content_type, media.sample_rate) != (CONTENT_TYPE, 8000):
        raise BadMessage(f"media must be {CONTENT_TYPE} at 8000 Hz, got {media.content_type!r} at {media.sample_rate}")
    try:
        audio = base64.b64decode(media.payload, validate=True)
    except ValueError as error:
        raise BadMessage(f"the payload must be base64 ({error})") from error
    if not audio:
        raise BadMessage("media must have audio, got an empty payload")
    return audio


def text(**fields: Any) -> str:
    """Return a message to the agent's server."""
    return msgspec.json.encode(fields).decode()
