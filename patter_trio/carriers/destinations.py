"""Where a call may be handed over to: the form of a destination, and which ones a program allows."""

import re
from typing import Any, Final

from patter_trio.errors import ConfigurationError

_NUMBER: Final = re.compile(r"\+[1-9][0-9]{6,14}")
"""E.164, section 6.2.1: at most 15 digits, the country code first. Fewer than seven reach nobody."""
_SIP: Final = re.compile(r"sip:[^\s@<>\"\\]+@[^\s@<>\"\\]+")
_LONGEST: Final = 255
"""Characters of a SIP address that Twilio takes: twilio.com/docs/voice/twiml/sip."""


def is_number(to: str) -> bool:
    """Say whether that is a telephone number in E.164, such as ``+15550100003``."""
    return _NUMBER.fullmatch(to) is not None


def checked_destination(to: Any) -> str:
    """Return where a call can be handed over to.

    Raises:
        ConfigurationError: (a ``ValueError``) it is neither a number in E.164 nor a SIP address.
    """
    if isinstance(to, str) and (is_number(to) or _is_sip(to)):
        return to
    raise ConfigurationError(
        f"a call is transferred to a number in E.164 (+15550100003: no spaces, no dashes) or to a SIP address "
        f"(sip:name@example.com), not to {to!r}"
    )


def _is_sip(to: str) -> bool:
    return len(to) <= _LONGEST and to.isascii() and to.isprintable() and _SIP.fullmatch(to) is not None
