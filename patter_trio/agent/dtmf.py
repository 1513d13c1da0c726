"""An agent's ``dtmf``: what becomes of the keys that callers press."""

from typing import Any, Final

from patter_trio.agent.keypad import Keypad
from patter_trio.agent.menu import Menu
from patter_trio.errors import ConfigurationError

DEFAULT_KEYPAD: Final = Keypad()
"""The keypad of an agent without one of its own; no other keypad is this object."""


def dtmf_of(given: Any) -> Keypad | Menu | None:
    """Return what becomes of keys; None if they are only reported.

    Raises:
        ConfigurationError: it is neither a :class:`Keypad` nor a :class:`Menu` nor True, False or None.
    """
    if given is None or given is False:
        return None
    if given is True:
        return Keypad()
    if not isinstance(given, Keypad | Menu):
        raise ConfigurationError(f"dtmf must be a Keypad, a Menu, True or False, got {given!r}")
    return given
