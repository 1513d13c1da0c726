"""The options of a warm transfer: a person is called, briefed and asked, while the caller is on hold."""

import copy
import inspect
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

import attrs

from patter_trio.audio.hold import hold_sound_of, hold_tone
from patter_trio.audio.wav import WavError
from patter_trio.errors import ConfigurationError
from patter_trio.phone_numbers import checked_number
from patter_trio.providers.other_names import other_names
from patter_trio.user_code.signatures import name_of, parameters_of

PROMPT: Final = "Press 1 to take the call, or 2 to decline."
# As of phone.call; the caller is on hold meanwhile.
RING_TIMEOUT_S: Final = 25
MAX_RING_TIMEOUT_S: Final = 600
# Judged: a briefing of three sentences, and the prompt twice.
DECISION_TIMEOUT_S: Final = 45.0
Briefing = str | Callable[..., Any]
"""What the person hears, or a function of the call's control that returns it."""


def _text_or_function(_: object, __: object, given: Any) -> None:
    if not isinstance(given, str) and not callable(given):
        raise ConfigurationError(f"briefing must be a text, or a function that returns one, got {given!r}")
    if isinstance(given, str) and given and not given.strip():
        raise ConfigurationError(f"briefing must have words, or be empty for none; got {given!r}")
    # A built-in without a signature: nobody can know.
    parameters = None if isinstance(given, str) else parameters_of(given)
    if parameters is not None:
        try:
            inspect.Signature(parameters).bind(None)
        except TypeError as error:
            raise ConfigurationError(
                f"briefing must be callable with (call_control), got {name_of(given)}: {error}"
            ) from None


def _text(_: object, attribute: "attrs.Attribute[Any]", given: Any) -> None:
    if not isinstance(given, str) or not given.strip():
        raise ConfigurationError(f"{attribute.name} must be a text that is not blank, got {given!r}")


def _ring_timeout(_: object, attribute: "attrs.Attribute[Any]", given: Any) -> None:
    if isinstance(given, bool) or not isinstance(given, int) or not 1 <= given <= MAX_RING_TIMEOUT_S:
        raise ConfigurationError(
            f"{attribute.name} must be a whole number of seconds from 1 to {MAX_RING_TIMEOUT_S}, got {given!r}"
        )


def _seconds(_: object, attribute: "attrs.Attribute[Any]", given: Any) -> None:
    if isinstance(given, bool) or not isinstance(given, int | float) or not 0 < given <= MAX_RING_TIMEOUT_S:
        raise ConfigurationError(
            f"{attribute.name} must be more than 0 and at most {MAX_RING_TIMEOUT_S} seconds, got {given!r}"
        )


def _number(_: object, attribute: "attrs.Attribute[Any]", given: Any) -> None:
    if given != "":
        checked_number(given, attribute.name)


def _sound_of(warm: "WarmTransfer") -> bytes:
    if warm.hold_sound is None:
        return hold_tone()
    if not isinstance(warm.hold_sound, str | Path) or warm.hold_sound == "":
        raise ConfigurationError(f"hold_sound must be a WAV file, as a string or a Path, got {warm.hold_sound!r}")
    try:
        return hold_sound_of(Path(warm.hold_sound).read_bytes())
    except (OSError, WavError) as error:
        raise ConfigurationError(
            f"hold_sound must be a WAV file that can be read, got {warm.hold_sound!r}: {error}"
        ) from error


@other_names()
@attrs.frozen
class WarmTransfer:
    """A warm transfer: a person is called, briefed and asked first, and the caller is on hold meanwhile.

    ::

        await call_control.transfer("+15550100003", warm=WarmTransfer("Ann Miller has a question about her bill."))

    If the person takes the call, both hear each other. If not, the caller is taken back. Make it once and use it for
    each call, because it reads ``hold_sound``.

    Args:
        briefing: what the person hears first: a text, or a function of ``(call_control)``, sync or async, that returns
            it and has 10 s, while the caller is on hold. Empty: nothing; in ``transfer_call``, what the LLM writes.
        prompt: what the person hears behind it, and again after 6 s of silence, until a decision: 1 takes the call, 2
            declines it.
        hold_sound: a WAV file that the caller hears, again and again, of at most 10 minutes; None: a soft tone.
        ring_timeout: seconds that the person's phone rings at most, from 1 to 600.
        decision_timeout: seconds after the answer within which the person must have pressed a key.
        from_number: the number that the person sees, one of the account at the carrier; empty: our number in the
            call that is transferred.

    Raises:
        ConfigurationError: an option has a wrong type or value, or the file cannot be read.
    """

    briefing: Briefing = attrs.field(default="", validator=_text_or_function, repr=False)
    prompt: str = attrs.field(default=PROMPT, kw_only=True, validator=_text)
    hold_sound: str | Path | None = attrs.field(default=None, kw_only=True)
    ring_timeout: int = attrs.field(default=RING_TIMEOUT_S, kw_only=True, validator=_ring_timeout)
    decision_timeout: float = attrs.field(default=DECISION_TIMEOUT_S, kw_only=True, validator=_seconds)
    from_number: str = attrs.field(default="", kw_only=True, validator=_number)
    # Read once: no call waits for a disk.
    sound: bytes = attrs.field(init=False, eq=False, repr=False, default=attrs.Factory(_sound_of, takes_self=True))
    """The hold sound, mu-law at 8 kHz."""

    def with_briefing(self, briefing: str) -> "WarmTransfer":
        """Return the same transfer with another briefing, and with the hold sound that was read."""
        # Not by ``attrs.evolve``, which would read the file again, in the event loop of all calls.
        other = copy.copy(self)
        # ``object.__setattr__``, because the class is frozen.
        object.__setattr__(other, "briefing", briefing)
        return other

    @property
    def longest(self) -> float:
        """The longest time, in seconds, that ring and decision take."""
        return self.ring_timeout + self.decision_timeout
