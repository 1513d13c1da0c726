"""The caller's keypad: when the keys that a caller presses are complete, and become a message."""

from typing import Any, Final

import attrs

from patter_trio.conversation.policy import TurnPolicy
from patter_trio.errors import ConfigurationError
from patter_trio.providers.other_names import other_names

KEYS: Final = frozenset("0123456789*#ABCD")
_DEFAULTS: Final = TurnPolicy()
# Judged: longer than any number that a person types; a larger limit is a mistake.
MAX_KEYS: Final = 64
# Judged: a caller who has stopped typing waits for longer at most once.
MAX_PAUSE_S: Final = 60.0


def _checked_terminator(_: object, __: object, given: Any) -> None:
    if given != "" and given not in [*KEYS]:
        raise ConfigurationError(f"terminator must be a key (0-9, *, #, A-D), or empty for none, got {given!r}")


def _checked_count(_: object, __: object, given: Any) -> None:
    if isinstance(given, bool) or not isinstance(given, int) or not 1 <= given <= MAX_KEYS:
        raise ConfigurationError(f"max_digits must be 1 to {MAX_KEYS}, got {given!r}")


def _checked_pause(_: object, __: object, given: Any) -> None:
    if isinstance(given, bool) or not isinstance(given, int | float) or not 0 < given <= MAX_PAUSE_S:
        raise ConfigurationError(f"pause must be more than 0 and at most {MAX_PAUSE_S:g} seconds, got {given!r}")


def _checked_flag(_: object, __: object, given: Any) -> None:
    # Without this, None would be a keypad that interrupts nothing.
    if not isinstance(given, bool):
        raise ConfigurationError(f"interrupts must be True or False, got {given!r}")


@other_names()
@attrs.frozen(kw_only=True)
class Keypad:
    """A keypad: it puts the keys that a caller presses together to a message, such as ``"1234"``.

    Args:
        terminator: the key that completes the keys before it, and is not part of the message; alone, it is the message.
            Empty: none does.
        max_digits: the number of keys that are complete at once; 1: each key is a message.
        pause: seconds after the last key, after which the keys are complete.
        interrupts: a key over the agent's speech cuts it, as the caller's voice does; False: the agent finishes first.

    Raises:
        ConfigurationError: an option has a wrong type or value.
    """

    terminator: str = attrs.field(default=_DEFAULTS.key_terminator, validator=_checked_terminator)
    max_digits: int = attrs.field(default=_DEFAULTS.max_keys, validator=_checked_count)
    pause: float = attrs.field(default=_DEFAULTS.key_pause, validator=_checked_pause)
    interrupts: bool = attrs.field(default=True, validator=_checked_flag)
