"""ElevenLabs' speech over a multi-context WebSocket, and the request for its HTTP stream.

Protocol: https://elevenlabs.io/docs/api-reference/text-to-speech/v-1-text-to-speech-voice-id-multi-stream-input

Quirks that shape this codec:

* What we send is in snake case, what comes is in camel case, and the reference has both for the same things: both
  spellings are taken.
* An empty text keeps a context alive here; on the vendor's other socket it would close the connection. No text of a
  reply may therefore be empty.
* Times of characters count from the beginning of their own chunk.
* A failure is a message (``message``, ``error``, ``code``), usually with the close of the connection behind it; a close
  alone has the same words as its reason.
"""

import base64
import binascii
from enum import Enum
from typing import Any, Final
from urllib.parse import quote, urlencode

import attrs
import msgspec

from patter_trio.errors import WireError

MULAW_FORMAT: Final = "ulaw_8000"
"""What the vendor calls mu-law at 8 kHz."""
MAX_TIMED_CHARACTERS: Final = 20_000
"""Characters of which one message may tell times; no voice says so many in the audio that fits into a message."""

_CREDENTIAL_WORDS: Final = ("api_key", "authenticat", "unauthorized", "authoriz", "permission", "forbidden")
_QUOTA_WORDS: Final = (
    "quota",
    "rate_limit",
    "rate limit",
    "too_many",
    "max_active",
    "simultaneous",
    "system_busy",
    "concurrent",
)
_IDLE_WORDS: Final = ("input_timeout", "inactivity", "no input")


class Fault(Enum):
    """What kind of failure the vendor reports."""

    CREDENTIALS = "credentials"
    TOO_MUCH = "too much"
    IDLE = "idle"
    """Nothing was sent for so long that the connection is closed; nothing is wrong."""
    OTHER = "other"


@attrs.frozen
class Character:
    """A character of the text and when it is said, in seconds since its chunk's beginning."""

    text: str
    start: float
    end: float


@attrs.frozen
class Audio:
    """Speech of a context; ``characters`` is None where their times are not told."""

    context: str
    audio: bytes = attrs.field(repr=False)
    characters: tuple[Character, ...] | None = None


@attrs.frozen
class Finished:
    """All of a context has come; it no longer exists."""

    context: str


@attrs.frozen
class Failed:
    """The vendor reports a failure; of one context, or, where that is empty, of the connection."""

    context: str
    fault: Fault
    message: str


Event = Audio | Finished | Failed


# What comes -----------------------------------------------------------------------------------------------------------
def receive(message: str | bytes) -> tuple[Event, ...]:
    """Return what a message means, in order; nothing for one that is of no interest.

    Raises:
        WireError: it is not what the protocol allows.
    """
    try:
        fields = msgspec.json.decode(message)
    except (msgspec.DecodeError, UnicodeError, RecursionError) as error:
        raise WireError(f"not JSON: {error}") from error
    if not isinstance(fields, dict):
        raise WireError("not a JSON object")
    context = _text(fields, "contextId", "context_id")
    events: list[Event] = []
    if (audio := fields.get("audio")) is not None:
        given = fields.get("alignment")
        events += [Audio(context, _decoded(audio), _characters(given))] if audio else []
    if fields.get("isFinal") is True or fields.get("is_final") is True:
        events.append(Finished(context))
    if not events and ("error" in fields or ("message" in fields and "code" in fields)):
        kind, said = _text(fields, "error"), _text(fields, "message")
        events.append(Failed(context, fault_of(f"{kind} {said}"), said or kind))
    return tuple(events)


def fault_of(said: str) -> Fault:
    """Return which kind of failure the vendor's words are about."""
    words = said.lower()
    for fault, signs in (
        (Fault.IDLE, _IDLE_WORDS),
        (Fault.TOO_MUCH, _QUOTA_WORDS),
        (Fault.CREDENTIALS, _CREDENTIAL_WORDS),
    ):
        if any(sign in words for sign in signs):
            return fault
    return Fault.OTHER


def _text(fields: dict[str, Any], *names: str) -> str:
    for name in names:
        if isinstance(value := fields.get(name), str):
            return value
    return ""


def _decoded(audio: object) -> bytes:
    if not isinstance(audio, str):
        raise WireError(f"audio must be text, not {type(audio).__name__}")
    try:
        return base64.b64decode(audio, validate=True)
    except (binascii.Error, ValueError) as error:
        raise WireError(f"audio is not base64: {error}") from error


def _characters(given: object) -> tuple[Character, ...] | None:
    """Return the times of characters; None where they make no sense, for audio without times is better than none."""
    if not isinstance(given, dict):
        return None
    texts, starts = given.get("chars"), given.get("charStartTimesMs", given.get("char_start_times_ms"))
    lengths = next(
        (given[name] for name in ("charDurationsMs", "charsDurationsMs", "char_durations_ms") if name in given), None
    )
    if not (isinstance(texts, list) and isinstance(starts, list) and isinstance(lengths, list)):
        return None
    if not len(texts) == len(starts) == len(lengths) <= MAX_TIMED_CHARACTERS:
        return None
    if not all(isinstance(text, str) for text in texts) or not all(_is_time(time) for time in (*starts, *lengths)):
        return None
    return tuple(
        Character(text, start / 1000, (start + length) / 1000)
        for text, start, length in zip(texts, starts, lengths, strict=True)
    )


def _is_time(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and 0 <= value <= 86_400_000  # noqa: PLR2004 (a day)


# What is sent ---------------------------------------------------------------------------------------------------------
Settings = dict[str, float | bool]
"""``stability``, ``similarity_boost``, ``style``, ``speed``, ``use_speaker_boost``: those that are not the voice's own."""


def begin(context: str, settings: Settings) -> str:
    """Open a context; it says nothing yet."""
    message: dict[str, Any] = {"text": " ", "context_id": context}
    if settings:
        message["voice_settings"] = settings
    return _json(message)


def say(context: str, text: str) -> str:
    """Have a text said, behind what the context says already; it must not be empty, nor nothing but white space."""
    return _json({"text": f"{_whole(text)} ", "context_id": context})


def flush(context: str) -> str:
    """Have all said that still waits for more text."""
    return _json({"context_id": context, "flush": True})


def close(context: str) -> str:
    """Close a context: no more is generated, but for what was flushed before."""
    return _json({"context_id": context, "close_context": True})


def keep_alive(context: str = "") -> str:
    """Say that somebody is still there: for a context that waits for text, or for the connection."""
    return _json({"text": "", "context_id": context} if context else {"text": ""})


def socket_target(
    voice: str, *, model: str, inactivity_timeout: int, language: str, normalization: str, logging: bool
) -> str:
    """Return path and query of the WebSocket."""
    query = {
        "model_id": model,
        "output_format": MULAW_FORMAT,
        # Whole sentences are sent: each is generated at once, and the vendor waits for nothing.
        "auto_mode": "true",
        "sync_alignment": "true",
        "inactivity_timeout": str(inactivity_timeout),
        "language_code": language,
        "apply_text_normalization": normalization,
        "enable_logging": "" if logging else "false",
    }
    return f"/v1/text-to-speech/{quote(voice, safe='')}/multi-stream-input?{_query(query)}"


def http_target(voice: str, *, logging: bool) -> str:
    """Return path and query of the HTTP stream."""
    query = {"output_format": MULAW_FORMAT, "enable_logging": "" if logging else "false"}
    return f"/v1/text-to-speech/{quote(voice, safe='')}/stream?{_query(query)}"


def http_body(text: str, before: str, settings: Settings, *, model: str, language: str, normalization: str) -> bytes:
    """Return the body that asks for the speech of ``text``; ``before`` is what was said just before it."""
    body: dict[str, Any] = {"text": _whole(text), "model_id": model}
    if settings:
        body["voice_settings"] = settings
    if language:
        body["language_code"] = language
    if before:
        body["previous_text"] = _whole(before)
    if normalization:
        body["apply_text_normalization"] = normalization
    return msgspec.json.encode(body)


def _whole(text: str) -> str:
    """Return a text without halves of characters, which cannot be written down."""
    return text.encode(errors="replace").decode()


def _query(fields: dict[str, str]) -> str:
    return urlencode({name: value for name, value in fields.items() if value})


def _json(message: dict[str, Any]) -> str:
    return msgspec.json.encode(message).decode()
