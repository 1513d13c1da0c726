"""What OpenAI's Realtime protocol (GA) tells, in our terms; a part of :mod:`patter_trio.wire.openai_realtime`."""

import re
from collections.abc import Mapping
from enum import StrEnum
from typing import Final

import attrs

from patter_trio.abc import Usage
from patter_trio.errors import AuthenticationError, ProviderError, RateLimitError

MAX_REASON_CHARACTERS: Final = 300
"""Characters of a vendor's reason that are shown."""
MAX_READ_CHARACTERS: Final = 2000
"""Characters of it that are looked at."""


@attrs.frozen
class SessionReady:
    """The session exists (first of all), or is as it was asked to be (``updated``)."""

    updated: bool
    session_id: str = ""


@attrs.frozen
class SpeechStarted:
    """The vendor hears the caller speak, since ``audio_start`` seconds of all audio that it was sent, padding included."""

    audio_start: float
    item_id: str


@attrs.frozen
class SpeechStopped:
    """The caller has stopped, at ``audio_end`` seconds of all audio that the vendor was sent."""

    audio_end: float
    item_id: str


@attrs.frozen
class Committed:
    """What the caller said is an item of the conversation."""

    item_id: str
    previous_item_id: str = ""


@attrs.frozen
class InputTranscript:
    """What the caller said in an item: another piece of it, or (``final``) all of it, with what writing it down costs."""

    item_id: str
    text: str = attrs.field(repr=False)
    final: bool
    usage: Usage | None = None


@attrs.frozen
class TranscriptFailed:
    """What the caller said in an item could not be written down; the model has heard it all the same."""

    item_id: str
    refusal: "Refused"


@attrs.frozen
class ResponseStarted:
    """A response begins: the one that was asked for by ``request``; if that is empty, by the vendor itself."""

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
    """Words of an item, as they are written: of what is ``spoken``, usually ahead of its audio, or of a text."""

    response_id: str
    item_id: str
    text: str = attrs.field(repr=False)
    spoken: bool = True


@attrs.frozen
class AudioDone:
    """All speech of an item has come, or no more will."""

    response_id: str
    item_id: str


@attrs.frozen
class ItemDone:
    """An item that the model made is over, other than the call of a tool; ``completed`` unless it was broken off."""

    response_id: str
    item_id: str
    completed: bool


@attrs.frozen
class FunctionCall:
    """The model wants a tool called; ``arguments`` is the whole JSON text that it wrote, of which nothing is sure."""

    response_id: str
    item_id: str
    call_id: str
    name: str
    arguments: str = attrs.field(repr=False)


class Status(StrEnum):
    """How a response ended."""

    COMPLETED = "completed"
    CANCELLED = "cancelled"
    """By us (``client_cancelled``) or because the caller spoke (``turn_detected``)."""
    INCOMPLETE = "incomplete"
    """It reached its length (``max_output_tokens``), or was held back (``content_filter``)."""
    FAILED = "failed"


@attrs.frozen
class ResponseEnded:
    """A response is over; ``reason`` is the vendor's word for why, if it is not complete. ``usage`` is None if not told."""

    response_id: str
    status: Status
    reason: str = ""
    request: str = ""
    usage: Usage | None = None
    refusal: "Refused | None" = None
    """What the vendor says of a failure."""


@attrs.frozen
class Truncated:
    """An item of speech is as short as it was asked to be: ``audio_end`` seconds."""

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
"""After which, by their ``code`` or ``type``, nothing more is to be had of a session. All others are harmless."""

_SECRET: Final = re.compile(r"\b(?:sk|ek|Bearer)[-_ ][\w*.\-]{4,}", re.IGNORECASE)
_QUOTED: Final = re.compile(r"\"[^\"]*(?:\"|$)|(?<!\w)'(?:[^']|(?<=\w)'(?=\w))*(?:'(?!\w)|$)|`[^`]*(?:`|$)")


@attrs.frozen
class Refused:
    """The vendor reports an error: of what was sent with this ``event_id``, if it knows.

    ``message`` is what it says, without what it quotes and without what looks like a key.
    """

    code: str
    type: str
    message: str = ""
    param: str = ""
    event_id: str = ""

    @property
    def fatal(self) -> bool:
        """Whether nothing more is to be had of the session; else it is as it was before."""
        return self.code in _FAILURES or self.type in _FAILURES

    def error(self) -> ProviderError:
        """Return what to raise for it."""
        kind = next((_FAILURES[word] for word in (self.code, self.type) if word in _FAILURES), ProviderError)
        what = " ".join(part for part in (self.code or self.type, self.message) if part)
        return kind(f"OpenAI reports an error: {what or 'without a word why'}")


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


def shown(told: str) -> str:
    """Return what a vendor says of an error, without what it quotes and without what looks like a key."""
    return " ".join(_SECRET.sub("…", _QUOTED.sub("…", told[:MAX_READ_CHARACTERS])).split())[:MAX_REASON_CHARACTERS]
