"""Phone numbers: their form, which ones a call can be handed over to, and how they may stand in a log.

Of a phone number a log has enough to recognise a call, too little to ring anyone; of a call's id all, unless it is none.
"""

import re
from typing import Any, Final

from patter_trio.errors import ConfigurationError

_E164: Final = re.compile(r"\+[1-9][0-9]{6,14}")
"""E.164, section 6.2.1: at most 15 digits, the country code first. Fewer than seven reach nobody."""
_SIP: Final = re.compile(r"sip:[^\s@<>\"\\]+@[^\s@<>\"\\]+")
_MAX_SIP_CHARACTERS: Final = 255
"""Characters of a SIP address that Twilio takes: twilio.com/docs/voice/twiml/sip."""
_DIGITS: Final = re.compile(r"(\+?)(\d{7,})")
_NUMBER_IN_TEXT: Final = re.compile(r"(?<![\w+])\+\d{7,15}(?!\d)")
"""An E.164 number in a text: without the plus any number could be one."""
_FIRST_DIGITS_SHOWN: Final = 4
_LAST_DIGITS_SHOWN: Final = 4
_MIN_DIGITS_HIDDEN: Final = 3
"""Digits that are hidden of the shortest number that shows its beginning."""
_ID: Final = re.compile(r"[\w.:-]{1,64}", re.ASCII)


def is_number(to: str) -> bool:
    """Say whether that is a telephone number in E.164, such as ``+15550100003``."""
    return _E164.fullmatch(to) is not None


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
    return len(to) <= _MAX_SIP_CHARACTERS and to.isascii() and to.isprintable() and _SIP.fullmatch(to) is not None


def shown_id(call_id: str) -> str:
    """Return a call's id as it is, as ``grep`` will look for it; what no carrier would send, quoted and cut short."""
    return call_id if _ID.fullmatch(call_id) else repr(call_id[:64])


def mask_number(number: str) -> str:
    """Return a phone number with its middle hidden: ``+1555***4567``. Whatever is no number is hidden whole."""
    match = _DIGITS.fullmatch(number)
    if match is None:
        return "***" if number else ""
    plus, digits = match.groups()
    first = max(0, min(_FIRST_DIGITS_SHOWN, len(digits) - _LAST_DIGITS_SHOWN - _MIN_DIGITS_HIDDEN))
    return f"{plus}{digits[:first]}***{digits[-_LAST_DIGITS_SHOWN:]}"


def mask_numbers(text: str) -> str:
    """Return a text with the middle of every E.164 number in it hidden."""
    return _NUMBER_IN_TEXT.sub(lambda match: mask_number(match.group()), text)
