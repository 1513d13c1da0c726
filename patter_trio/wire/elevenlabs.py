"""ElevenLabs' TTS over a multi-context WebSocket, and the requests of its HTTP stream.

Protocol: https://elevenlabs.io/docs/api-reference/text-to-speech/v-1-text-to-speech-voice-id-multi-stream-input

Quirks that shape this codec:

* Outgoing messages use snake case and incoming ones camel case, but the reference shows both for the same fields: the
  codec accepts both spellings.
* An empty text keeps a context alive here; on the vendor's other socket it would close the connection. The text of a
  reply must therefore not be empty.
* Times of characters count from the beginning of their own chunk.
* A failure is a message (``message``, ``error``, ``code``), usually followed by the close of the connection. If only
  the close comes, its reason has the same words.
"""

import base64
import binascii
from enum import Enum
from typing import Any, Final
from urllib.parse import quote, urlencode

import attrs
import msgspec

from patter_trio.errors import WireError, reported

MULAW_FORMAT: Final = "ulaw_8000"
"""The vendor's name for mu-law at 8 kHz."""
# Judged: a message has at most 256 kB, which is 24 s of speech.
MAX_TIMED_CHARACTERS: Final = 20_000
"""Most characters with times in one message; no voice says that many in the audio that fits into a message."""

# The specification, the examples and the servers disagree about the names.
_TEXTS: Final = ("chars", "characters")
_STARTS: Final = ("charStartTimesMs", "charsStartTimesMs", "char_start_times_ms", "chars_start_times_ms")
_LENGTHS: Final = ("charDurationsMs", "charsDurationsMs", "char_durations_ms", "chars_durations_ms")
# Matched as words: if only the close frame comes, its reason is free text, with the same words as the messages.
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
    """The kind of failure that the vendor reports."""

    CREDENTIALS = "credentials"
    TOO_MUCH = "too much"
    IDLE = "idle"
    """Closed after a long time without input; not an error."""
    OTHER = "other"


@attrs.frozen
class Character:
    """A character of the text and its times, in seconds since its chunk's beginning."""

    text: str
    start: float
    end: float


@attrs.frozen
class Audio:
    """Audio of a context; ``characters`` is None if the message has no times."""

    context: str
    audio: bytes = attrs.field(repr=False)
    characters: tuple[Character, ...] | None = None


@attrs.frozen
class Finished:
    """The end of a context: all its audio has come, and it no longer exists."""

    context: str


@attrs.frozen
class Failed:
    """A failure that the vendor reports, of one context, or of the connection if ``context`` is empty."""

    context: str
    fault: Fault
    message: str


Event = Audio | Finished | Failed


# Incoming messages ----------------------------------------------------------------------------------------------------
def receive(message: str | bytes) -> tuple[Event, ...]:
    """Return the events in a message, in order; an empty tuple if it has none.

    Raises:
        WireError: the protocol does not allow the message.
    """
    try:
        # Without types: the reference shows the same fields in two spellings, and several of them may be null.
        fields = msgspec.json.decode(message)
    # ``UnicodeError``: a binary message that is not text. ``RecursionError``: nesting without end.
    except (msgspec.DecodeError, UnicodeError, RecursionError) as error:
        raise WireError(f"the message must be JSON: {error}") from error
    if not isinstance(fields, dict):
        raise WireError(f"the message must be a JSON object, got {type(fields).__name__}")
    # Both spellings, here and below: the vendor's specification and its examples disagree.
    context = _text(fields, "contextId", "context_id")
    events: list[Event] = []
    # Both events may come in one message: the last audio and its end.
    if (audio := fields.get("audio")) is not None:
        # The times of the text as it was sent, or else as it is read out: with those, a number has more words.
        given = (fields.get(name) for name in ("alignment", "normalizedAlignment", "normalized_alignment"))
        characters = next((times for one in given if (times := _characters(one)) is not None), None)
        events += [Audio(context, _decoded(audio), characters)] if audio else []
    if fields.get("isFinal") is True or fields.get("is_final") is True:
        events.append(Finished(context))
    # Only without other events: a warning beside audio must not end the speech.
    if not events and _is_failure(fields):
        kind, said = _reason(fields)
        # The text first: it is what a person can act upon.
        events.append(Failed(context, fault_of(f"{kind} {said}"), said or kind or "an error without a reason"))
    return tuple(events)


def _is_failure(fields: dict[str, Any]) -> bool:
    # The reference has one form, the servers have several, those of the HTTP interface among them.
    return (
        bool(fields.get("error") or fields.get("detail"))
        or fields.get("type") == "error"
        or ("message" in fields and "code" in fields)
    )


def _reason(fields: dict[str, Any]) -> tuple[str, str]:
    """Return the kind of a failure and its text, wherever they are; either may be empty."""
    kind, said = "", ""
    for name in ("error", "detail"):
        inner = fields.get(name)
        if isinstance(inner, dict):
            kind = kind or _text(inner, "code", "status", "type", "error")
            said = said or _text(inner, "message", "detail")
        elif isinstance(inner, str):
            # Beside a message it is the kind, alone it may be either.
            kind = kind or inner
    said = said or _text(fields, "message")
    return reported(kind), reported(said)


def fault_of(said: str) -> Fault:
    """Return the kind of failure that the vendor's words describe."""
    # The first match counts: a message about a quota may name the key as well.
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
    # The empty context is the connection's.
    return ""


def _decoded(audio: object) -> bytes:
    if not isinstance(audio, str):
        raise WireError(f"audio must be a string, got {type(audio).__name__}")
    try:
        # ``validate``: without it Python skips characters that are not base64, and the caller hears noise.
        return base64.b64decode(audio, validate=True)
    # Both: Python raises either, depending on what is wrong.
    except (binascii.Error, ValueError) as error:
        raise WireError(f"audio must be base64: {error}") from error


def _characters(given: object) -> tuple[Character, ...] | None:
    """Return the times of characters; None if they are not valid.

    Audio without times is better than no audio.
    """
    if not isinstance(given, dict):
        return None
    texts, starts = _either(given, *_TEXTS), _either(given, *_STARTS)
    lengths = _either(given, *_LENGTHS)
    if not (isinstance(texts, list) and isinstance(starts, list) and isinstance(lengths, list)):
        return None
    # All of a length, or the times would belong to other characters.
    if not len(texts) == len(starts) == len(lengths) <= MAX_TIMED_CHARACTERS:
        return None
    if not all(isinstance(text, str) for text in texts) or not all(_is_time(time) for time in (*starts, *lengths)):
        return None
    return tuple(
        Character(text, start / 1000, (start + length) / 1000)
        for text, start, length in zip(texts, starts, lengths, strict=True)
    )


def _either(given: dict[str, Any], *names: str) -> object:
    return next((given[name] for name in names if name in given), None)


def _is_time(value: object) -> bool:
    # Also refuses NaN. A bool is an int for Python.
    return isinstance(value, int | float) and not isinstance(value, bool) and 0 <= value <= 86_400_000  # noqa: PLR2004 (a day in ms)


# Outgoing messages ----------------------------------------------------------------------------------------------------
Settings = dict[str, float | bool]
"""Options ``stability``, ``similarity_boost``, ``style``, ``speed`` and ``use_speaker_boost``, if they differ from the
voice's own."""


def begin(context: str, settings: Settings) -> str:
    """Return the message that opens a context; it speaks nothing yet."""
    # A single space opens the context without speech.
    message: dict[str, Any] = {"text": " ", "context_id": context}
    # Only for settings that differ: the voice's own apply otherwise, and the vendor may improve them.
    if settings:
        message["voice_settings"] = settings
    return _json(message)


def say(context: str, text: str) -> str:
    """Return the message that adds a text to a context's speech; it must not be empty or only white space."""
    # A space behind each text: the vendor joins what it gets, and two sentences would become one word.
    return _json({"text": f"{_whole(text)} ", "context_id": context})


def flush(context: str) -> str:
    """Return the message that makes the vendor speak all text it still holds back."""
    return _json({"context_id": context, "flush": True})


def close(context: str) -> str:
    """Return the message that closes a context: the vendor generates no more than what was flushed before."""
    return _json({"context_id": context, "close_context": True})


def keep_alive(context: str = "") -> str:
    """Return the message that keeps a context open while it waits for text, or keeps the connection open."""
    # On this socket an empty text keeps alive; see the top of the file.
    return _json({"text": "", "context_id": context} if context else {"text": ""})


def socket_target(
    voice: str, *, model: str, inactivity_timeout: int, language: str, normalization: str, logging: bool
) -> str:
    """Return path and query of the WebSocket."""
    query = {
        "model_id": model,
        "output_format": MULAW_FORMAT,
        # We send whole sentences: the vendor generates each at once, without waiting for more text.
        "auto_mode": "true",
        # Times of characters that fit the audio of the same message: the ledger needs them to know what was heard.
        "sync_alignment": "true",
        "inactivity_timeout": str(inactivity_timeout),
        "language_code": language,
        "apply_text_normalization": normalization,
        # Sent only to switch it off, which the vendor allows only to some accounts.
        "enable_logging": "" if logging else "false",
    }
    return f"/v1/text-to-speech/{quote(voice, safe='')}/multi-stream-input?{_query(query)}"


def http_target(voice: str, *, logging: bool) -> str:
    """Return path and query of the HTTP stream."""
    query = {"output_format": MULAW_FORMAT, "enable_logging": "" if logging else "false"}
    return f"/v1/text-to-speech/{quote(voice, safe='')}/stream?{_query(query)}"


def http_body(text: str, before: str, settings: Settings, *, model: str, language: str, normalization: str) -> bytes:
    """Return the body that requests the speech of ``text``; ``before`` is the text spoken just before it."""
    body: dict[str, Any] = {"text": _whole(text), "model_id": model}
    if settings:
        body["voice_settings"] = settings
    if language:
        body["language_code"] = language
    # Prosody: the vendor reads the new text as the continuation of this one.
    if before:
        body["previous_text"] = _whole(before)
    if normalization:
        body["apply_text_normalization"] = normalization
    return msgspec.json.encode(body)


def _whole(text: str) -> str:
    """Return a text without lone surrogates, which UTF-8 cannot encode."""
    return text.encode(errors="replace").decode()


def _query(fields: dict[str, str]) -> str:
    # Empty values are left out: the vendor would take them as values.
    return urlencode({name: value for name, value in fields.items() if value})


def _json(message: dict[str, Any]) -> str:
    return msgspec.json.encode(message).decode()
