"""What comes from outside as it may stand in a log.

Of a phone number enough to recognise a call, too little to ring anyone; of a call's id all, unless it is none.
"""

import re
from typing import Final

_NUMBER: Final = re.compile(r"(\+?)(\d{7,})")
_WITHIN: Final = re.compile(r"(?<![\w+])\+\d{7,15}(?!\d)")
"""An E.164 number in a text: without the plus any number could be one."""
_SHOWN_FIRST: Final = 4
_SHOWN_LAST: Final = 4
_HIDDEN: Final = 3
"""Digits that are hidden of the shortest number that shows its beginning."""
_ID: Final = re.compile(r"[\w.:-]{1,64}", re.ASCII)


def shown_id(call_id: str) -> str:
    """Return a call's id as it is, as ``grep`` will look for it; what no carrier would send, quoted and cut short."""
    return call_id if _ID.fullmatch(call_id) else repr(call_id[:64])


def mask_number(number: str) -> str:
    """Return a phone number with its middle hidden: ``+1555***4567``. Whatever is no number is hidden whole."""
    match = _NUMBER.fullmatch(number)
    if match is None:
        return "***" if number else ""
    plus, digits = match.groups()
    first = max(0, min(_SHOWN_FIRST, len(digits) - _SHOWN_LAST - _HIDDEN))
    return f"{plus}{digits[:first]}***{digits[-_SHOWN_LAST:]}"


def mask_numbers(text: str) -> str:
    """Return a text with the middle of every E.164 number in it hidden."""
    return _WITHIN.sub(lambda match: mask_number(match.group()), text)
