"""Phone numbers: their format, the destinations that a transfer accepts, and how logs show them.

A log shows enough of a number to recognise a call, and too little to dial it. It shows a call's id in full if the id is
well-formed.
"""

import re
from typing import Any, Final

from patter_trio.errors import ConfigurationError

_MIN_DIGITS: Final = 7
"""Fewest digits of a number with its country code: judged, fewer reach nobody."""
_MAX_DIGITS: Final = 15
"""Most digits of a number with its country code: E.164, section 6.2.1."""
_E164: Final = re.compile(rf"\+[1-9][0-9]{{{_MIN_DIGITS - 1},{_MAX_DIGITS - 1}}}")
_PLUS_AND_DIGITS: Final = re.compile(r"\+[1-9][0-9]*")
# In words: logs mask each number, an example too.
E164_FORM: Final = "a plus, the country code and digits without spaces, such as +1 and ten digits"
"""The form of E.164, as the messages of errors describe it."""
# No spaces, quotes or angle brackets: the address goes into TwiML and into headers.
_SIP: Final = re.compile(r"sip:[^\s@<>\"\\]+@[^\s@<>\"\\]+")
_MAX_SIP_CHARACTERS: Final = 255
"""Longest SIP address, in characters, that Twilio accepts: twilio.com/docs/voice/twiml/sip."""
# From seven digits on, as in E.164 above; shorter texts are extensions or short codes and are hidden whole.
_DIGITS: Final = re.compile(r"(\+?)(\d{7,})")
_NUMBER_IN_TEXT: Final = re.compile(
    r"""
    (?P<uuid> \b[0-9a-fA-F]{8}(?:-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}\b)  # no number: an id, of Plivo's calls for one
    | (?:[+\uff0b]|%2[Bb]) \(?\d+ (?:(?:[-\ ./()\xa0]|%20){1,2}\d{2,})*   # international, as it is or in a URL
    | (?<![\w.-]) \d{10,15}(?![\w]|\.\d)                            # national, or without its plus
    | (?<![\w.]) \(?0\d{0,5}\)? (?:[-\ /]\d{2,})+ (?!\w)            # national, with a zero and in groups
    | (?<![\w.-]) \(?[2-9]\d\d\)?[-\ .]{1,2}\d{3}[-\ .]\d{4} (?![\w-])  # North American
    """,
    re.VERBOSE,
)
"""What may be a phone number within a text. Shorter runs of digits than these are counts, and longer ones ids."""
_MIN_DIGITS_IN_TEXT: Final = {"+": 7, "\uff0b": 7, "%": 7}
"""Fewest digits of a number in a text, by its first character."""
_MIN_NATIONAL_DIGITS: Final = 9
"""The same for a number without a country code; a date has eight."""
_ENOUGH_DIGITS: Final = 10
"""Digits after which a number in groups ends: a group behind them is something else."""
# Judged: country code and area, as much as an operator needs to recognise a caller's number.
_FIRST_DIGITS_SHOWN: Final = 4
_LAST_DIGITS_SHOWN: Final = 4
_MIN_DIGITS_HIDDEN: Final = 3
"""Fewest digits to hide in a number whose first digits are shown."""
# phonenumbers.ValidationResult, by value, so that the package is imported only to place calls.
_IMPOSSIBLE: Final = {
    1: "there is no such country code",
    2: "it is too short",
    3: "it is too long",
    4: "it lacks its area code",
}
# What carriers use for ids; Twilio's have 34 letters and digits.
_ID: Final = re.compile(r"[\w.:-]{1,64}", re.ASCII)


def is_number(to: str) -> bool:
    """Return True if ``to`` is a phone number in E.164, such as ``+15550100003``."""
    return _E164.fullmatch(to) is not None


def checked_number(number: Any, name: str) -> str:
    """Return ``number`` if it can be dialled: E.164, of a country that exists, in the form that it has from abroad.

    It has as many digits as numbers have there, and no trunk prefix, such as the zero of ``020`` in Great Britain.
    Whether somebody has the number is not known.

    Args:
        number: the number.
        name: the argument, for the message.

    Raises:
        ConfigurationError: (a ``ValueError``) ``number`` cannot be dialled.
    """
    if not isinstance(number, str) or not is_number(number):
        raise ConfigurationError(f"{name} must be E.164, {_why_not_e164(number)}")
    why = _why_impossible(number)
    if why:
        raise ConfigurationError(f"{name} must be a number that can be dialled, got {number}: {why}")
    return number


def load_numbering_plans() -> None:
    """Load what :func:`checked_number` needs, so that a transfer does not hold up the audio of all calls for 50 ms."""
    import phonenumbers.phonemetadata  # noqa: F401, PLC0415 (only for servers: the import takes 50 ms)


def _why_not_e164(given: Any) -> str:
    digits = len(given) - 1 if isinstance(given, str) and _PLUS_AND_DIGITS.fullmatch(given) else 0
    if digits and not _MIN_DIGITS <= digits <= _MAX_DIGITS:
        # Advice about spaces would not help: the form is right.
        wrong = "short" if digits < _MIN_DIGITS else "long"
        return f"from {_MIN_DIGITS} to {_MAX_DIGITS} digits behind the plus, got {given!r}, which is too {wrong}"
    return f"{E164_FORM}, got {given!r}"


def _why_impossible(number: str) -> str:
    """Return why nobody can have a number in E.164; empty: somebody may have it."""
    import phonenumbers  # noqa: PLC0415 (only for servers: the import takes 50 ms)

    try:
        parsed = phonenumbers.parse(number)
    except phonenumbers.NumberParseException:
        # The library's words name neither the number nor its country.
        return f"no country has the code {number[1:4]}"
    reason = phonenumbers.is_possible_number_with_reason(parsed)
    if reason != phonenumbers.ValidationResult.IS_POSSIBLE:
        return _IMPOSSIBLE.get(reason, "no number of its country is like that")
    # The parser forgives a trunk prefix and drops it; a carrier dials it.
    from_abroad = phonenumbers.format_number(parsed, phonenumbers.PhoneNumberFormat.E164)
    if from_abroad != number:
        return f"it has a prefix that is dialled only within the country; from abroad it is {from_abroad}"
    # The numbering plan of North America, nanpa.com: NXX-NXX-XXXX, where N is 2 to 9. The exchange is not judged:
    # fictional numbers have one that begins with 0.
    if number[1] == "1" and number[2] in "01":
        return "no area code of North America begins with 0 or 1"
    return ""


def checked_destination(to: Any) -> str:
    """Return ``to`` if a call can be transferred there.

    Raises:
        ConfigurationError: (a ``ValueError``) ``to`` is neither an E.164 number that can be dialled nor a SIP address.
    """
    if not isinstance(to, str) or not (is_number(to) or _is_sip(to)):
        raise ConfigurationError(
            f"the destination of a transfer must be an E.164 number ({E164_FORM}) or a SIP address "
            f"(sip:name@example.com), got {to!r}"
        )
    return to if _is_sip(to) else checked_number(to, "the destination of a transfer")


def _is_sip(to: str) -> bool:
    # Printable ASCII: a line break would begin another header.
    return len(to) <= _MAX_SIP_CHARACTERS and to.isascii() and to.isprintable() and _SIP.fullmatch(to) is not None


def shown_id(call_id: str) -> str:
    """Return a call's id unchanged, so that ``grep`` finds it; quote and shorten an id that no carrier would send."""
    # Quoted, because an id from the network may hold line breaks or escape sequences of a terminal.
    return call_id if _ID.fullmatch(call_id) else repr(call_id[:64])


def mask_number(number: str) -> str:
    """Return a phone number with its middle hidden: ``+1555***4567``. Hide any other text completely."""
    match = _DIGITS.fullmatch(number)
    if match is None:
        # Whatever is not a number may be a name: nothing of it is shown.
        return "***" if number else ""
    plus, digits = match.groups()
    # Fewer first digits for a short number, so that three are always hidden.
    first = max(0, min(_FIRST_DIGITS_SHOWN, len(digits) - _LAST_DIGITS_SHOWN - _MIN_DIGITS_HIDDEN))
    return f"{plus}{digits[:first]}***{digits[-_LAST_DIGITS_SHOWN:]}"


def mask_numbers(text: str) -> str:
    """Return a text with the middle of each phone number hidden, in any of the forms in which people write them."""
    return _NUMBER_IN_TEXT.sub(_masked, text)


def _masked(match: re.Match[str]) -> str:
    text = match.group()
    if match["uuid"]:
        return text
    plus = text[:3] if text.startswith("%") else text[:1] if text[0] in "+\uff0b" else ""
    digits, end = "", 0
    for group in re.finditer(r"\d+", text[len(plus) :].replace("%20", "   ")):
        digits, end = digits + group.group(), len(plus) + group.end()
        if len(digits) >= _ENOUGH_DIGITS:
            break
    if len(digits) < _MIN_DIGITS_IN_TEXT.get(text[0], _MIN_NATIONAL_DIGITS):
        return text
    return plus + mask_number(digits) + text[end:]
