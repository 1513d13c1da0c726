"""Events of OpenAI's Realtime protocol (GA), in our terms; a part of :mod:`patter_trio.wire.openai_realtime`."""

import re
from collections.abc import Mapping
from enum import StrEnum
from typing import Final

import attrs

from patter_trio.abc import Usage
from patter_trio.errors import MAX_READ_CHARACTERS, AuthenticationError, ProviderError, RateLimitError, reported


@attrs.frozen
class SessionReady:
    """The session exists (the first event), or has its new settings (``updated``)."""

    updated: bool


@attrs.frozen
class SpeechStarted:
    """The start of the caller's voice, by the vendor's VAD.

    ``audio_start`` counts seconds of all audio sent to the vendor, padding included.
    """

    audio_start: float
    item_id: str


@attrs.frozen
class SpeechStopped:
    """The end of the caller's voice, at ``audio_end`` seconds of all audio sent to the vendor."""

    audio_end: float
    item_id: str


@attrs.frozen
class Committed:
    """The caller's utterance has become an item of the conversation."""

    item_id: str
    previous_item_id: str = ""


@attrs.frozen
class InputTranscript:
    """The transcript of an item of the caller: its next piece, or (``final``) all of it.

    The final one has the usage of the transcription.
    """

    item_id: str
    text: str = attrs.field(repr=False)
    final: bool
    usage: Usage | None = None


@attrs.frozen
class TranscriptFailed:
    """An item of the caller that could not be transcribed; the model has heard it all the same."""

    item_id: str
    refusal: "Refused"


@attrs.frozen
class ResponseStarted:
    """The start of the response that ``request`` asked for.

    An empty ``request`` means that the vendor began it by itself.
    """

    response_id: str
    request: str = ""
    metadata: Mapping[str, str] = attrs.field(factory=dict, repr=False)


@attrs.frozen
class AudioDelta:
    """Speech of an item: mu-law at 8 kHz, of any length."""

    response_id: str
    item_id: str
    audio: bytes = attrs.field(repr=False)


@attrs.frozen
class TextDelta:
    """Words of an item as the model generates them.

    ``spoken`` words usually come ahead of their audio; others are text.
    """

    response_id: str
    item_id: str
    text: str = attrs.field(repr=False)
    spoken: bool = True


@attrs.frozen
class AudioDone:
    """The end of an item's speech."""

    response_id: str
    item_id: str


@attrs.frozen
class ItemDone:
    """The end of an item of the model, other than a tool call; ``completed`` unless it was cut off."""

    response_id: str
    item_id: str
    completed: bool


@attrs.frozen
class FunctionCall:
    """A tool that the model wants to call; ``arguments`` is the whole JSON text that the model wrote, not validated."""

    response_id: str
    item_id: str
    call_id: str
    name: str
    arguments: str = attrs.field(repr=False)


class Status(StrEnum):
    """Outcome of a response."""

    COMPLETED = "completed"
    CANCELLED = "cancelled"
    """Cancelled by us (``client_cancelled``) or because the caller spoke (``turn_detected``)."""
    INCOMPLETE = "incomplete"
    """At its maximum length (``max_output_tokens``), or withheld (``content_filter``)."""
    FAILED = "failed"


@attrs.frozen
class ResponseEnded:
    """The end of a response.

    ``reason`` is the vendor's word for the reason if the response is not complete. ``usage`` is None if the vendor did
    not report it.
    """

    response_id: str
    status: Status
    reason: str = ""
    request: str = ""
    usage: Usage | None = None
    refusal: "Refused | None" = None
    """The vendor's report of a failure."""


@attrs.frozen
class Truncated:
    """Confirmation that an item of speech was truncated to ``audio_end`` seconds."""

    item_id: str
    audio_end: float


_FAILURES: Final[Mapping[str, type[ProviderError]]] = {
    "invalid_api_key": AuthenticationError,
    "missing_api_key": AuthenticationError,
    "authentication_error": AuthenticationError,
    "permission_error": AuthenticationError,
    "permission_denied": AuthenticationError,
    "insufficient_permissions": AuthenticationError,
    "account_deactivated": AuthenticationError,
    "organization_deactivated": AuthenticationError,
    "insufficient_quota": RateLimitError,
    "billing_hard_limit_reached": RateLimitError,
    "billing_not_active": RateLimitError,
    "rate_limit_exceeded": RateLimitError,
    "rate_limit_error": RateLimitError,
    "session_expired": ProviderError,
    "session_not_found": ProviderError,
    "model_not_found": ProviderError,
    "server_error": ProviderError,
    "internal_error": ProviderError,
    "internal_server_error": ProviderError,
    "service_unavailable": ProviderError,
}
"""Errors, by ``code`` or ``type``, that end the session. All others are harmless."""

# Three kinds of quotation marks, also unclosed ones; an apostrophe within a word does not open a quotation.
_QUOTED: Final = re.compile(r"\"[^\"]*(?:\"|$)|(?<!\w)'(?:[^']|(?<=\w)'(?=\w))*(?:'(?!\w)|$)|`[^`]*(?:`|$)")


@attrs.frozen
class Refused:
    """An error that the vendor reports, about the message with this ``event_id`` if the vendor knows it.

    ``message`` is the vendor's text without quotations and without anything that looks like a key.
    """

    code: str
    type: str
    message: str = ""
    param: str = ""
    event_id: str = ""

    @property
    def fatal(self) -> bool:
        """True if the error ends the session; else the session is as it was before."""
        # ``code`` or ``type``: for some errors the vendor fills only one of them.
        return self.code in _FAILURES or self.type in _FAILURES

    def error(self) -> ProviderError:
        """Return the exception to raise for the error."""
        kind = next((_FAILURES[word] for word in (self.code, self.type) if word in _FAILURES), ProviderError)
        what = " ".join(part for part in (self.code or self.type, self.message) if part)
        return kind(f"OpenAI reports an error: {what or 'without a reason'}")


Event = (
    SessionReady
    | SpeechStarted
    | SpeechStopped
    | Committed
    | InputTranscript
    | TranscriptFailed
    | ResponseStarted
    | AudioDelta
    | TextDelta
    | AudioDone
    | ItemDone
    | FunctionCall
    | ResponseEnded
    | Truncated
    | Refused
)


def shown(said: str) -> str:
    """Return a vendor's text about an error, without quotations and without anything that looks like a key."""
    # WARNING: the order matters. Quotations go first: a key in a quotation goes with it.
    return reported(_QUOTED.sub("…", said[:MAX_READ_CHARACTERS]))
