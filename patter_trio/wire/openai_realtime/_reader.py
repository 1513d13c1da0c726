"""Decoding of OpenAI's Realtime protocol (GA); a part of :mod:`patter_trio.wire.openai_realtime`."""

from collections.abc import Callable, Mapping
from typing import Any, Final, TypeVar

import msgspec

from patter_trio.abc import Usage
from patter_trio.errors import WireError
from patter_trio.wire.openai_realtime._events import (
    AudioDelta,
    AudioDone,
    Committed,
    Event,
    FunctionCall,
    InputTranscript,
    ItemDone,
    Refused,
    ResponseEnded,
    ResponseStarted,
    SessionReady,
    SpeechStarted,
    SpeechStopped,
    Status,
    TextDelta,
    TranscriptFailed,
    Truncated,
    shown,
)

REQUEST_KEY: Final = "request"
"""Key, in a response's metadata, of the request that asked for it."""
# Judged: half an hour of speech; an answer has a few hundred characters.
MAX_TEXT_CHARACTERS: Final = 20_000
"""Most characters of one transcript or piece of text; the rest is cut off."""
MAX_ARGUMENT_CHARACTERS: Final = 65_536
"""Most characters of a tool call's arguments: a model writes about 4 per token, and at most 4096 tokens."""
# Judged: the vendor's ids have about 30. The length of a metadata value is its own limit, 512.
MAX_NAME_CHARACTERS: Final = 512
"""Most characters of an id, a name or a code."""


def receive(message: str | bytes) -> Event | None:
    """Return the event in a message; None for a valid message without one.

    Raises:
        WireError: the protocol does not allow the message.
    """
    try:
        # Twice: first only the type. Most types are not for us, and the rest then decodes into its own shape.
        kind = _TYPE.decode(message).type
        reader = _READERS.get(kind)
        return None if reader is None else reader(message)
    except (msgspec.MsgspecError, UnicodeError, RecursionError) as error:
        # ``from None``: the message is speech or a transcript, and the cause would bring it into the log.
        raise WireError(f"the message must be one of OpenAI's protocol: {_harmless(error)}") from None


def _harmless(error: Exception) -> str:
    """Return what is wrong with a message, and where, without quoting it."""
    # msgspec's text about a wrong type has the place and the types, never the value.
    return str(error) if isinstance(error, msgspec.ValidationError) else type(error).__name__


class _Type(msgspec.Struct, frozen=True):
    type: str


class _Session(msgspec.Struct, frozen=True):
    pass  # any object: only that there is a session counts


class _SessionEvent(msgspec.Struct, frozen=True):
    session: _Session


class _SpeechStarted(msgspec.Struct, frozen=True):
    audio_start_ms: float
    item_id: str


class _SpeechStopped(msgspec.Struct, frozen=True):
    audio_end_ms: float
    item_id: str


class _Committed(msgspec.Struct, frozen=True):
    item_id: str
    previous_item_id: str | None = None


class _InputDelta(msgspec.Struct, frozen=True):
    item_id: str
    delta: str | None = None


class _InputCompleted(msgspec.Struct, frozen=True):
    item_id: str
    transcript: str
    # Any shape: it is only for the bill, and must not cost the transcript.
    usage: Any = None


class _Error(msgspec.Struct, frozen=True):
    code: str | None = None
    type: str | None = None
    message: str | None = None
    param: str | None = None
    event_id: str | None = None


class _InputFailed(msgspec.Struct, frozen=True):
    item_id: str
    error: _Error = _Error()


class _ErrorEvent(msgspec.Struct, frozen=True):
    error: _Error


class _StatusDetails(msgspec.Struct, frozen=True):
    reason: str | None = None
    error: _Error | None = None


class _Response(msgspec.Struct, frozen=True):
    id: str | None = None
    status: str | None = None
    status_details: _StatusDetails | None = None
    metadata: dict[str, str] | None = None
    usage: Any = None


class _ResponseEvent(msgspec.Struct, frozen=True):
    response: _Response


class _Delta(msgspec.Struct, frozen=True):
    response_id: str
    item_id: str
    delta: str


class _AudioDelta(msgspec.Struct, frozen=True):
    response_id: str
    item_id: str
    # Bytes: msgspec decodes the base64 in the same pass.
    delta: bytes
    """Base64, decoded strictly together with the rest of the message."""


class _Done(msgspec.Struct, frozen=True):
    response_id: str
    item_id: str


class _Item(msgspec.Struct, frozen=True):
    type: str
    id: str | None = None
    status: str | None = None
    call_id: str | None = None
    # Checked by hand below, and only for a tool call, so that other items may have anything here.
    name: Any = None
    arguments: Any = None


class _ItemEvent(msgspec.Struct, frozen=True):
    response_id: str
    item: _Item


class _Truncated(msgspec.Struct, frozen=True):
    item_id: str
    audio_end_ms: float


_TYPE: Final = msgspec.json.Decoder(_Type)
_Shape = TypeVar("_Shape", bound=msgspec.Struct)
_Reader = Callable[[str | bytes], Event | None]


def _reader(shape: type[_Shape], meaning: Callable[[_Shape], Event | None]) -> _Reader:
    # Made once, when the module is loaded: a decoder compiles its type.
    decoder = msgspec.json.Decoder(shape)
    return lambda message: meaning(decoder.decode(message))


def _failed_transcript(event: _InputFailed) -> TranscriptFailed:
    return TranscriptFailed(_name(event.item_id), _refused(event.error))


def _started(event: _ResponseEvent) -> ResponseStarted:
    metadata = _metadata(event.response)
    # The metadata ties the response to its request; the vendor's ids are not known in advance.
    return ResponseStarted(_name(event.response.id), metadata.get(REQUEST_KEY, ""), metadata)


def _ended(event: _ResponseEvent) -> ResponseEnded:
    response = event.response
    details = response.status_details or _StatusDetails()
    refusal = None if details.error is None else _refused(details.error)
    return ResponseEnded(
        _name(response.id),
        _status(response.status),
        # The reason, else the error's code: an application's log needs one word for why.
        _name(details.reason) or ("" if refusal is None else refusal.code or refusal.type),
        _metadata(response).get(REQUEST_KEY, ""),
        _usage(response.usage),
        refusal,
    )


def _item_done(event: _ItemEvent) -> ItemDone | FunctionCall | None:
    item = event.item
    # An absent status counts as completed: the event itself says that the item is done.
    response_id, item_id, completed = _name(event.response_id), _name(item.id), item.status in (None, "completed")
    if item.type == "message":
        return ItemDone(response_id, item_id, completed)
    # An incomplete call has its arguments cut off; to run it could book the wrong table.
    if item.type != "function_call" or not completed:
        return None
    # A complete call without these breaks the protocol; to ignore it would leave the model waiting for a result.
    if not isinstance(item.name, str) or not isinstance(item.arguments, str):
        raise WireError("a tool call must have a name and arguments")
    if len(item.arguments) > MAX_ARGUMENT_CHARACTERS:
        raise WireError(f"arguments must have at most {MAX_ARGUMENT_CHARACTERS} characters")
    return FunctionCall(response_id, item_id, _name(item.call_id), _name(item.name), item.arguments)


def _text_delta(event: _Delta, *, spoken: bool) -> TextDelta:
    # Cut, not refused: the rest of the words is worth having.
    return TextDelta(_name(event.response_id), _name(event.item_id), event.delta[:MAX_TEXT_CHARACTERS], spoken)


def _refused(error: _Error) -> Refused:
    message = shown(error.message or "")
    return Refused(_name(error.code), _name(error.type), message, _name(error.param), _name(error.event_id))


_READERS: Final[Mapping[str, _Reader]] = {
    "session.created": _reader(_SessionEvent, lambda _: SessionReady(updated=False)),
    "session.updated": _reader(_SessionEvent, lambda _: SessionReady(updated=True)),
    "input_audio_buffer.speech_started": _reader(
        _SpeechStarted, lambda e: SpeechStarted(_seconds(e.audio_start_ms), _name(e.item_id))
    ),
    "input_audio_buffer.speech_stopped": _reader(
        _SpeechStopped, lambda e: SpeechStopped(_seconds(e.audio_end_ms), _name(e.item_id))
    ),
    "input_audio_buffer.committed": _reader(
        _Committed, lambda e: Committed(_name(e.item_id), _name(e.previous_item_id))
    ),
    "conversation.item.input_audio_transcription.delta": _reader(
        _InputDelta, lambda e: InputTranscript(_name(e.item_id), (e.delta or "")[:MAX_TEXT_CHARACTERS], final=False)
    ),
    "conversation.item.input_audio_transcription.completed": _reader(
        _InputCompleted,
        lambda e: InputTranscript(
            _name(e.item_id), e.transcript[:MAX_TEXT_CHARACTERS], final=True, usage=_transcription(e.usage)
        ),
    ),
    "conversation.item.input_audio_transcription.failed": _reader(_InputFailed, _failed_transcript),
    "conversation.item.truncated": _reader(_Truncated, lambda e: Truncated(_name(e.item_id), _seconds(e.audio_end_ms))),
    "response.created": _reader(_ResponseEvent, _started),
    "response.done": _reader(_ResponseEvent, _ended),
    "response.output_item.done": _reader(_ItemEvent, _item_done),
    "response.output_audio.delta": _reader(
        _AudioDelta, lambda e: AudioDelta(_name(e.response_id), _name(e.item_id), e.delta)
    ),
    "response.output_audio.done": _reader(_Done, lambda e: AudioDone(_name(e.response_id), _name(e.item_id))),
    "response.output_audio_transcript.delta": _reader(_Delta, lambda e: _text_delta(e, spoken=True)),
    "response.output_text.delta": _reader(_Delta, lambda e: _text_delta(e, spoken=False)),
    "error": _reader(_ErrorEvent, lambda e: _refused(e.error)),
}
"""Readers by the type of their event; all other events are ignored."""


def _name(value: str | None) -> str:
    # Refused, not cut: a cut id would name another item.
    if value is not None and len(value) > MAX_NAME_CHARACTERS:
        raise WireError(f"a name must have at most {MAX_NAME_CHARACTERS} characters")
    return value or ""


def _seconds(milliseconds: float) -> float:
    # Also refuses NaN.
    if not 0 <= milliseconds < 1e9:  # noqa: PLR2004 (1e9 ms are eleven days)
        raise WireError("a time must be from 0 to 1e9 ms")
    return milliseconds / 1000


def _metadata(response: _Response) -> Mapping[str, str]:
    metadata = response.metadata or {}
    # The vendor allows sixteen entries, and we send one of them.
    if len(metadata) > 16:  # noqa: PLR2004 (the vendor's limit)
        raise WireError("metadata must have at most 16 entries")
    return {_name(key): _name(value) for key, value in metadata.items()}


def _status(reported: str | None) -> Status:
    if reported in (None, "in_progress"):  # the response is over, and no problem was reported
        return Status.COMPLETED
    # An unknown status is a failure: the safe reading, because the caller then hears something.
    return Status(reported) if reported in set(Status) else Status.FAILED


def _usage(reported: object) -> Usage | None:
    """Return the usage of a response. The vendor's totals include the details, and cached tokens are part of both."""
    if not isinstance(reported, Mapping):
        return None
    given, made = _mapping(reported, "input_token_details"), _mapping(reported, "output_token_details")
    cached = _mapping(given, "cached_tokens_details")
    audio_in, audio_out = _count(given, "audio_tokens"), _count(made, "audio_tokens")
    # The totals and the details need not agree; the larger one is the safe reading of a bill.
    text_in = max(
        _count(reported, "input_tokens") - audio_in, _count(given, "text_tokens") + _count(given, "image_tokens")
    )
    text_out = max(_count(reported, "output_tokens") - audio_out, _count(made, "text_tokens"))
    # Clamped: a negative count would lower the bill.
    audio_cached = min(_count(cached, "audio_tokens"), audio_in)
    text_cached = min(max(_count(given, "cached_tokens") - audio_cached, _count(cached, "text_tokens")), text_in)
    # Cached tokens that the details do not assign to text or audio: text took its share above, the rest is audio.
    unnamed = _count(given, "cached_tokens") - audio_cached - text_cached
    audio_cached += max(0, min(unnamed, audio_in - audio_cached))
    return Usage(
        stage="llm",
        input_tokens=text_in - text_cached,
        cache_read_tokens=text_cached,
        audio_input_tokens=audio_in - audio_cached,
        audio_cache_read_tokens=audio_cached,
        output_tokens=text_out,
        audio_output_tokens=audio_out,
    )


def _transcription(reported: object) -> Usage | None:
    """Return the usage of a transcription, which another model makes: by time, or by tokens."""
    if not isinstance(reported, Mapping):
        return None
    seconds = reported.get("seconds")
    # The bound also refuses infinity and NaN.
    if isinstance(seconds, int | float) and not isinstance(seconds, bool) and 0 <= seconds < 1e6:  # noqa: PLR2004 (eleven days)
        return Usage(stage="stt", seconds=float(seconds))
    audio = _count(_mapping(reported, "input_token_details"), "audio_tokens")
    text = max(0, _count(reported, "input_tokens") - audio)
    written = _count(reported, "output_tokens")
    return Usage(stage="stt", input_tokens=text, audio_input_tokens=audio, output_tokens=written)


def _mapping(fields: Mapping[str, Any], key: str) -> Mapping[str, Any]:
    value = fields.get(key)
    return value if isinstance(value, Mapping) else {}


def _count(fields: Mapping[str, Any], key: str) -> int:
    # ``True`` is an int, too; a count that is not valid counts as 0.
    value = fields.get(key)
    return value if isinstance(value, int) and not isinstance(value, bool) and value >= 0 else 0
