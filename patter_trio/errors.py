"""Every error that the package raises on purpose, grouped by what the caller can do about it.

::

    PatterError
    ├── ConfigurationError (also ValueError)   change the program or its environment
    │   └── MissingExtraError                  run the command in the message
    ├── PatterConnectionError                  the network or a peer failed; trying again may help
    │   └── CallEnded                          the call is over; nothing more can be said in it
    ├── ProviderError                          a vendor or model failed; the call goes on as its policy says
    │   ├── AuthenticationError                the credentials are wrong
    │   ├── RateLimitError                     wait, or use another provider
    │   ├── ProvisionError                     set up the account or number at the carrier
    │   ├── ProviderTimeout                    the provider did not answer in time
    │   ├── TransferError                      nobody took the call; the caller is with the agent again
    │   └── AnswerCut                          the answer ended before it was complete
    ├── CallLogError                           the call log cannot be read or written; calls go on
    └── WireError                              a peer sent what its protocol does not allow
"""

import re
from collections.abc import Iterable, Iterator
from typing import Final, Literal

# Judged: two lines of a log.
MAX_REPORTED_CHARACTERS: Final = 300
"""Most characters of a peer's text about an error that are shown."""
# Judged: the pattern below looks back and ahead; an error of a megabyte must not hold up the event loop.
MAX_READ_CHARACTERS: Final = 2000
"""Most characters of a peer's text about an error that are examined."""
# Keys of OpenAI begin with "sk-" or "ek-", and those of Deepgram and Twilio are 32 to 64 hexadecimal digits. Vendors
# repeat a wrong key in their errors.
_KEY: Final = re.compile(r"\b(?:(?:[sS][kK]|[eE][kK]|[bB]earer)[-_ ][\w*.\-]{4,}|[0-9a-f]{32,})")


def leaves(error: BaseException) -> Iterator[BaseException]:
    """Yield the exceptions inside nested exception groups, in order; yield any other exception itself."""
    if isinstance(error, BaseExceptionGroup):
        for inner in error.exceptions:
            yield from leaves(inner)
    else:
        yield error


class PatterError(Exception):
    """Base class of every error of this package."""


class ConfigurationError(PatterError, ValueError):
    """A mistake in the program or its environment; the message says how to correct it."""


class MissingExtraError(ConfigurationError):
    """An optional dependency that is not installed; the message contains the command that installs it."""


class PatterConnectionError(PatterError):
    """A connection that could not be made, or that was lost."""


class CallEnded(PatterConnectionError):
    """An operation on a call that is already over."""


class ProviderError(PatterError):
    """A failure of a provider: STT, LLM, TTS, VAD, turn detector or engine."""


class AuthenticationError(ProviderError):
    """Credentials that the provider refused."""


class RateLimitError(ProviderError):
    """A request that the provider refused because there were too many.

    Attributes:
        retry_after: seconds that the provider asks to wait; None: it does not say.
    """

    def __init__(self, *args: object, retry_after: float | None = None) -> None:
        super().__init__(*args)
        self.retry_after: float | None = retry_after


class ProvisionError(ProviderError):
    """A number or account that is not set up as it must be; the message says what the carrier has."""


class ProviderTimeout(ProviderError):
    """A provider that did not answer before its deadline."""


TransferReason = Literal["declined", "undecided", "hung_up", "busy", "no_answer", "rejected", "failed"]
"""Why nobody took a call: the person declined it, pressed no key in time, or hung up; the line was busy; nobody
answered in time; the phone rejected the call; or the call to the person could not be made, or failed."""
_TRANSFER_REASONS: Final[dict[str, str]] = {
    "declined": "the person declined the call",
    "undecided": "the person did not decide in time",
    "hung_up": "the person hung up before a decision",
    "busy": "the line was busy",
    "no_answer": "nobody answered",
    "rejected": "the call was rejected",
    "failed": "the call to the person failed",
}


class TransferError(ProviderError):
    """A warm transfer after which the caller is with the agent again.

    Attributes:
        reason: why nobody took the call.
    """

    def __init__(self, reason: TransferReason, detail: str = "") -> None:
        super().__init__(f"{_TRANSFER_REASONS[reason]}{detail and f': {detail}'}")
        self.reason: TransferReason = reason


class AnswerCut(ProviderError):
    """An LLM's answer that the vendor ended early: it was too long, or a filter stopped it. Its sentences count."""


class CallLogError(PatterError):
    """A call log that cannot be read or written at the moment: its database is away, full, damaged or newer than we."""


class WireError(PatterError):
    """A message that the peer's protocol does not allow."""


def did_you_mean(name: str, known: Iterable[str], likeness: float = 0.6) -> str:
    """Return `` (did you mean X?)`` for a misspelt name, to be put behind an error's text; empty if no name is close.

    ``likeness`` is that of :func:`difflib.get_close_matches`, from 0 to 1.
    """
    import difflib  # noqa: PLC0415 (only for a mistake: the import costs more than what most programs do with it)

    close = difflib.get_close_matches(name, list(known), n=1, cutoff=likeness)
    return f" (did you mean {close[0]}?)" if close else ""


def full_name(provider: str, model: str) -> str:
    """Return the name that identifies a provider in a log: its own and its model's, once if they are the same."""
    # The same: a class of the application's own, which has no other name, or a script of the test kit.
    return provider if provider == model else f"{provider} {model}".strip()


def reported(text: str) -> str:
    """Return a peer's text about an error as our errors may quote it: one line, without keys, and not long.

    White space becomes single spaces, what is not printed an escape, and what looks like a key "…"; more than 300
    characters are cut off. The text may still quote words of the call.
    """
    # WARNING: the order matters. Shortened last, so that no half of a key is left at its end.
    line = " ".join(_KEY.sub("…", text[:MAX_READ_CHARACTERS]).split())[:MAX_REPORTED_CHARACTERS]
    if line.isprintable():
        return line
    escaped = (one if one.isprintable() else one.encode("unicode_escape").decode() for one in line)
    return "".join(escaped)[:MAX_REPORTED_CHARACTERS]
