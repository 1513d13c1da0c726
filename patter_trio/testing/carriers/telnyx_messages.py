"""Telnyx's side of its webhooks, commands and media streams, written from Telnyx's public documentation alone.

This is a second, independent and stricter implementation of the protocol, so that it reveals misunderstandings in the
first. Sources: developers.telnyx.com, "Receiving Webhooks", "Call Commands" and "Media Streaming over WebSockets".
"""

import base64
from collections.abc import Mapping
from typing import Any, Final

import msgspec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from patter_trio.testing.carriers.protocol import BadAnswer, BadMessage, Clear, FromAgent, Mark, Play

# As documented for ``media``: 20 ms to 30 s of audio, here in bytes of mu-law.
MIN_AUDIO_BYTES: Final = 160
MAX_AUDIO_BYTES: Final = 240_000
# The options of ``answer`` and ``streaming_start`` that a stream of ours may have, and what they must be for an agent:
# with any other value the caller hears nothing, or the agent hears itself.
_WANTED: Final[Mapping[str, str]] = {
    "stream_track": "inbound_track",
    "stream_bidirectional_mode": "rtp",
}
_ANY_OF: Final[Mapping[str, tuple[Any, ...]]] = {
    "stream_codec": ("PCMU", "default"),
    "stream_bidirectional_codec": ("PCMU",),
    "stream_bidirectional_sampling_rate": (8000,),
    "stream_bidirectional_target_legs": ("self", "both"),
}
_FREE: Final = frozenset(
    {"stream_url", "stream_auth_token", "client_state", "command_id", "send_silence_when_idle", "custom_parameters"}
)
REJECT_CAUSES: Final[Mapping[str, str]] = {
    "USER_BUSY": "busy",
    "CALL_REJECTED": "rejected",
    "NOT_FOUND": "rejected",
    "TEMPORARILY_UNAVAILABLE": "rejected",
}
"""What the caller experiences, by the cause in a ``reject``."""


def sign(key: Ed25519PrivateKey, timestamp: int, body: bytes) -> dict[str, str]:
    """Return the headers of a webhook: an Ed25519 signature of the time, a bar and the body."""
    signature = key.sign(str(timestamp).encode() + b"|" + body)
    return {
        "telnyx-signature-ed25519": base64.b64encode(signature).decode(),
        "telnyx-timestamp": str(timestamp),
    }


def public_key_of(key: Ed25519PrivateKey) -> str:
    """Return the public key as Telnyx's portal shows it: 32 bytes in base64."""
    return base64.b64encode(key.public_key().public_bytes_raw()).decode()


def checked_stream_options(fields: Mapping[str, Any]) -> str:
    """Return the address for the media in the body of a command that starts a stream.

    Raises:
        BadAnswer: Telnyx, or an agent's caller, could do nothing with such a stream.
    """
    unknown = sorted(fields.keys() - _WANTED.keys() - _ANY_OF.keys() - _FREE)
    if unknown:
        raise BadAnswer(f"a command must have only documented fields, got {', '.join(unknown)}")
    for name, wanted in _WANTED.items():
        if fields.get(name) != wanted:
            raise BadAnswer(f"{name} must be {wanted!r} for an agent, got {fields.get(name)!r}")
    for name, allowed in _ANY_OF.items():
        if name in fields and fields[name] not in allowed:
            raise BadAnswer(f"{name} must be {allowed[0]!r} for an agent, got {fields[name]!r}")
    state = fields.get("client_state", "")
    try:
        base64.b64decode(state, validate=True)
    # TypeError for a number or a list; binascii.Error is a ValueError.
    except (TypeError, ValueError) as error:
        raise BadAnswer(f"client_state must be base64, got {state!r}") from error
    url = fields.get("stream_url")
    if not isinstance(url, str):
        raise BadAnswer(f"stream_url must be given, got {url!r}")
    return url


# Messages from the agent's server: strict, unlike the reader of the package. ------------------------------------------
class _In(msgspec.Struct, frozen=True, tag_field="event", forbid_unknown_fields=True, kw_only=True):
    # Not needed, and tolerated: Telnyx's own examples differ.
    stream_id: str = ""


class _Payload(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    payload: str


class _Name(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    name: str


class _Media(_In, frozen=True, tag="media"):
    media: _Payload


class _Mark(_In, frozen=True, tag="mark"):
    mark: _Name


class _Clear(_In, frozen=True, tag="clear"):
    pass


_decode = msgspec.json.Decoder(_Media | _Mark | _Clear).decode


def read_message(message: str | bytes, stream_id: str) -> FromAgent:
    """Return a decoded message of the agent's server.

    Raises:
        BadMessage: Telnyx would answer it with an error.
    """
    # 100003 and 100004 are Telnyx's codes for a malformed frame and for invalid media.
    if isinstance(message, bytes):
        raise BadMessage("100003: messages must be JSON in text frames, got a binary frame")
    try:
        decoded = _decode(message)
    except msgspec.DecodeError as error:
        raise BadMessage(f"100003: {error}: {message[:200]}") from error
    if decoded.stream_id not in ("", stream_id):
        raise BadMessage(f"100003: stream_id must be that of this stream, {stream_id!r}, got {decoded.stream_id!r}")
    if isinstance(decoded, _Mark):
        return Mark(decoded.mark.name)
    if isinstance(decoded, _Clear):
        return Clear()
    try:
        audio = base64.b64decode(decoded.media.payload, validate=True)
    except ValueError as error:
        raise BadMessage(f"100004: the payload must be base64 ({error})") from error
    if not MIN_AUDIO_BYTES <= len(audio) <= MAX_AUDIO_BYTES:
        raise BadMessage(f"100004: media must have 20 ms to 30 s of audio, got {len(audio) / 8:g} ms")
    return Play(audio)
