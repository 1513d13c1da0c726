"""Spoken forms of written English: times, phone numbers, money, dates, percentages, units. Pure.

A voice model alone reads "3:30" or "555-1234" as a ratio or a sum. The rules are a table, applied from top to bottom:
the more specific forms come first, so that the rest is plain. No later rule touches the words that an earlier one
produced, because they contain no digits any more.
"""

import functools
import re
from collections.abc import Callable, Iterator
from typing import Literal

import attrs

from patter_trio.providers.weights import optional_module

MAX_BLOCK_CHARACTERS = 300
"""Characters to which the rules are applied at once: more than a sentence has."""
MAX_NUMBER_DIGITS = 15
"""Digits of the largest number that is read as one: 999 trillion. Longer ones are read digit by digit."""
# Judged: the numbers of many calls, in a few hundred kilobytes.
MAX_CACHED_NUMBERS = 4096
"""Number of numbers whose words are kept."""

Say = Callable[[re.Match[str]], str]


@attrs.frozen
class Rule:
    """A written form and the function that returns its spoken form."""

    written: re.Pattern[str]
    say: Say


def spoken(text: str) -> str:
    """Return an English text as it is spoken; text that matches no rule is unchanged.

    Raises:
        MissingExtraError: num2words, of the extra ``local``, is not installed.
    """
    return "".join(_said(block) for block in _blocks(text))


def _said(text: str) -> str:
    for rule in RULES:
        text = rule.written.sub(rule.say, text)
    return text


# In blocks, because some rules look far ahead from each place: their work grows with the square of what they are given.
def _blocks(text: str) -> Iterator[str]:
    start = 0
    while len(text) - start > MAX_BLOCK_CHARACTERS:
        # Between two words, since a rule reads no further; in a longer word, anywhere.
        space = text.rfind(" ", start + MAX_BLOCK_CHARACTERS // 2, start + MAX_BLOCK_CHARACTERS)
        end = space if space > 0 else start + MAX_BLOCK_CHARACTERS
        yield text[start:end] + ("" if space > 0 else " ")
        start = end
    yield text[start:]


# Numbers --------------------------------------------------------------------------------------------------------------
# Cached: the same digits are spoken again and again.
@functools.lru_cache(maxsize=MAX_CACHED_NUMBERS)
def _number(value: float, form: Literal["cardinal", "ordinal", "year"] = "cardinal") -> str:
    words: str = optional_module("num2words").num2words(value, lang="en", to=form)
    # Without hyphens and commas, which the voice would read as pauses.
    return words.replace(",", "").replace("-", " ")


def _cardinal(digits: str) -> str:
    """Return the words for "1,200" or "2.5"; each digit after the point is spoken, "3.50" as three point five zero."""
    whole, _, fraction = digits.replace(",", "").partition(".")
    said = _number(int(whole or "0")) if len(whole) <= MAX_NUMBER_DIGITS else _digits(whole)
    return f"{said} point {_digits(fraction)}" if fraction else said


def _ordinal(digits: str) -> str:
    if len(digits) <= MAX_NUMBER_DIGITS:
        return _number(int(digits), "ordinal")
    # Only the last digit is an ordinal: "... five six third".
    return f"{_digits(digits[:-1])} {_number(int(digits[-1]), 'ordinal')}"


def _year(digits: str) -> str:
    return _number(int(digits), "year")


def _decade(match: re.Match[str]) -> str:
    """Return the words for "1990s": nineteen nineties."""
    said = _year(match[1])
    # "nineties", not "ninetys".
    return f"{said.removesuffix('y')}ies" if said.endswith("y") else f"{said}s"


_FRACTIONS = {"1/2": "one half", "1/3": "one third", "2/3": "two thirds", "1/4": "one quarter", "3/4": "three quarters"}


def _digits(text: str) -> str:
    return " ".join(_number(int(digit)) for digit in text if digit.isdigit())


def _counted(digits: str, one: str, many: str) -> str:
    return f"{_cardinal(digits)} {one if digits == '1' else many}"


# Times ----------------------------------------------------------------------------------------------------------------
def _clock(hour: str, minute: str | None, half: str | None) -> str:
    """Return the words for a time of day; ``half`` is "a" or "p" if it was given."""
    minutes = int(minute or 0)
    said = [_cardinal(hour)]
    if minutes:
        # "3:05" is "three oh five".
        said.append(f"oh {_cardinal(minute or '')}" if minutes < _TWO_DIGITS else _cardinal(minute or ""))
    elif not half:
        # "15:00" is "fifteen hundred".
        said.append("o'clock" if int(hour) <= _NOON_HOUR else "hundred")
    if half:
        said.append(f"{half.upper()} M")
    return " ".join(said)


_TWO_DIGITS = 10
_NOON_HOUR = 12


def _half(text: str | None) -> str | None:
    return text[0].lower() if text else None


def _time(match: re.Match[str]) -> str:
    return _clock(match["hour"], match["minute"], _half(match["half"]))


def _time_span(match: re.Match[str]) -> str:
    first = _clock(match["hour"], match["minute"], _half(match["half"]) or _half(match["half2"]))
    if match["half2"] and not match["half"]:
        # Without "A M" or "P M", which follows only the second time.
        first = first.rpartition(" ")[0].rpartition(" ")[0]
    return f"{first} to {_clock(match['hour2'], match['minute2'], _half(match['half2']))}"


# Phone numbers, codes -------------------------------------------------------------------------------------------------
def _phone(match: re.Match[str]) -> str:
    """Return the digits of a number in its written groups; a single block is grouped as 3, 3 and 4."""
    groups = re.findall(r"\d+", match[0])
    if len(groups) == 1:
        groups = _digit_groups(groups[0])
    return ("plus " if match[0].startswith("+") else "") + ", ".join(_digits(group) for group in groups)


def _digit_groups(digits: str) -> list[str]:
    """Return the digits in groups of three, the last one of up to four: 5551234567 is 555 123 4567."""
    groups = []
    # From the left: the last group is the longest, as people say it.
    while len(digits) > 4:  # noqa: PLR2004 (digits of the last group)
        groups.append(digits[:3])
        digits = digits[3:]
    return [*groups, digits] if digits else groups


# Money ----------------------------------------------------------------------------------------------------------------
_MONEY = {
    "$": ("dollar", "dollars", "cent", "cents"),
    "€": ("euro", "euros", "cent", "cents"),
    "£": ("pound", "pounds", "penny", "pence"),
}


_SCALES = {"k": "thousand", "m": "million", "bn": "billion"}
# Prices with a third digit are rates, such as "$0.125 per unit".
_CENT_DIGITS = 2


def _money_span(match: re.Match[str]) -> str:
    return f"{_cardinal(match['amount'])} to {_counted(match['amount2'], *_MONEY[match['sign']][:2])}"


def _money(match: re.Match[str]) -> str:
    one, many, small, smalls = _MONEY[match["sign"]]
    whole, _, cents = match["amount"].replace(",", "").partition(".")
    if match["scale"]:
        scale = match["scale"].lower()
        # With a scale the point is spoken: "$1.5 million".
        return f"{_cardinal(match['amount'])} {_SCALES.get(scale, scale)} {many}"
    # More than cents: a rate, not an amount.
    if len(cents) > _CENT_DIGITS:
        return f"{_cardinal(match['amount'])} {many}"
    # "$0.50" is only cents.
    parts = [] if whole == "0" and int(cents or 0) else [_counted(whole, one, many)]
    if int(cents or 0):
        parts.append(_counted(str(int(cents.ljust(2, "0"))), small, smalls))
    return " and ".join(parts)


# Dates ----------------------------------------------------------------------------------------------------------------
_MONTHS = (
    "January",
    "February",
    "March",
    "April",
    "May",
    "June",
    "July",
    "August",
    "September",
    "October",
    "November",
    "December",
)
_MONTH = r"(?P<month>Jan|Feb|Mar|Apr|May|Jun|Jul|Aug|Sept?|Oct|Nov|Dec)(?:[a-z]+|\.)?"
_DAYS = {
    "Mon": "Monday",
    "Tue": "Tuesday",
    "Tues": "Tuesday",
    "Wed": "Wednesday",
    "Thu": "Thursday",
    "Thur": "Thursday",
    "Thurs": "Thursday",
    "Fri": "Friday",
    "Sat": "Saturday",
    "Sun": "Sunday",
}


def _date(match: re.Match[str]) -> str:
    """Return the words for "Nov 24, 2026", "2026-11-24", "24.11.2026" or "11/24/2026" (the American order).

    All of them are November twenty fourth, and the year.
    """
    named = match["month"]
    month = (
        # By three letters: "Sept" and "Sept." as well.
        int(named) if named.isdigit() else next(i for i, name in enumerate(_MONTHS, 1) if name.startswith(named[:3]))
    )
    day = int(match["day"])
    if month > len(_MONTHS) >= day:  # the day comes first: there is no 13th month
        month, day = day, month
    if not 1 <= month <= len(_MONTHS) or not 1 <= day <= 31:  # noqa: PLR2004 (days of a month)
        # Not a date: unchanged, so that a later rule may read it.
        return match[0]
    said = f"{_MONTHS[month - 1]} {_number(day, 'ordinal')}"
    return f"{said}, {_year(match['year'])}" if match["year"] else said


# Units ----------------------------------------------------------------------------------------------------------------
_UNITS = {
    "km": ("kilometer", "kilometers"), "m": ("meter", "meters"), "cm": ("centimeter", "centimeters"),
    "mm": ("millimeter", "millimeters"), "kg": ("kilogram", "kilograms"), "g": ("gram", "grams"),
    "mg": ("milligram", "milligrams"), "l": ("liter", "liters"), "ml": ("milliliter", "milliliters"),
    "mi": ("mile", "miles"), "mph": ("mile per hour", "miles per hour"), "ft": ("foot", "feet"),
    "lb": ("pound", "pounds"), "lbs": ("pound", "pounds"), "oz": ("ounce", "ounces"),
    "min": ("minute", "minutes"), "mins": ("minute", "minutes"), "h": ("hour", "hours"), "hr": ("hour", "hours"),
    "hrs": ("hour", "hours"),
    "sec": ("second", "seconds"), "°C": ("degree Celsius", "degrees Celsius"),
    "°F": ("degree Fahrenheit", "degrees Fahrenheit"),
    "°": ("degree", "degrees"), "GB": ("gigabyte", "gigabytes"), "MB": ("megabyte", "megabytes"),
    "%": ("percent", "percent"),
}  # fmt: skip
_SHORT = {
    "e.g.": "for example", "i.e.": "that is", "etc.": "et cetera", "approx.": "approximately", "vs.": "versus",
    "dept.": "department", "ext.": "extension", "ok": "okay", "&": "and",
}  # fmt: skip


def _unit(match: re.Match[str]) -> str:
    return _counted(match["amount"], *_UNITS[match["unit"]])


def _short(match: re.Match[str]) -> str:
    return _SHORT[match[0].lower()]


def _address(match: re.Match[str]) -> str:
    """Return a mail or web address with words in place of its dots and signs."""
    # Nobody says "https" on the telephone.
    bare = re.sub(r"^(https?://)?(www\.)?", "", match[0])
    for sign, word in ((".", "dot"), ("@", "at"), ("-", "dash"), ("_", "underscore"), ("/", "slash")):
        bare = bare.replace(sign, f" {word} ")
    return " ".join(bare.split())


def _choices(words: object) -> str:
    # The longest first, or "m" would match in "min".
    return "|".join(re.escape(word) for word in sorted(words, key=len, reverse=True))  # type: ignore[call-overload]


_DASH = r"[-\u2013\u2014]"
_AMOUNT = r"\d{1,3}(?:,\d{3})+(?:\.\d+)?|\d+(?:\.\d+)?"
_HALF = r"[ap]\.?\s?m\b(?:\.(?=\s*(?-i:[a-z0-9,;:?!])))?"
"""AM or PM. A point after it belongs to it unless it may end the sentence as well."""
_DAY = r"(?P<day>\d{1,2})(?:st|nd|rd|th)?"


def _rule(written: str, say: Say, flags: int = 0) -> Rule:
    return Rule(re.compile(written, flags), say)


RULES = (
    _rule(r"(?:https?://|www\.)[\w./-]*\w|\b[\w.-]+@[\w-]+(?:\.[\w-]+)+|\b[\w-]+(?:\.[\w-]+)*\.(?:com|org|net|io|"
          r"co)\b(?:/[\w/-]+)?", _address),
    # Dates: as numbers, then with the month's name before or after the day.
    _rule(r"\b(?P<year>\d{4})-(?P<month>\d{2})-(?P<day>\d{2})\b", _date),
    _rule(r"\b(?P<month>\d{1,2})/(?P<day>\d{1,2})/(?P<year>\d{4})\b", _date),
    _rule(r"\b(?P<day>\d{1,2})\.(?P<month>\d{1,2})\.(?P<year>\d{4})\b", _date),
    _rule(rf"\b{_MONTH}\s+{_DAY}\b(?!:)(?:,?\s+(?P<year>[12]\d{{3}})\b)?", _date),
    _rule(rf"\b{_DAY}\s+(?:of\s+)?{_MONTH}(?![a-z])(?:,?\s+(?P<year>[12]\d{{3}})\b)?", _date),
    _rule(rf"\b({_choices(_DAYS)})\.?\s?{_DASH}\s?({_choices(_DAYS)})\b\.?",
          lambda match: f"{_DAYS[match[1]]} to {_DAYS[match[2]]}"),
    _rule(rf"\b({_choices(_DAYS)})\.(?=\s|,)", lambda match: _DAYS[match[1]]),
    # Times of day; spans from one to another first.
    _rule(
        rf"\b(?P<hour>\d{{1,2}})(?::(?P<minute>[0-5]\d))?(?:\s?(?P<half>{_HALF}))?\s?{_DASH}\s?"
        rf"(?P<hour2>\d{{1,2}})(?::(?P<minute2>[0-5]\d))?\s?(?P<half2>{_HALF})",
        _time_span,
        re.IGNORECASE,
    ),
    _rule(
        rf"\b(?P<hour>\d{{1,2}}):(?P<minute>[0-5]\d)(?P<half>)\s?{_DASH}\s?"
        r"(?P<hour2>\d{1,2}):(?P<minute2>[0-5]\d)(?!\d)(?P<half2>)",
        _time_span,
    ),
    _rule(rf"\b(?P<hour>[01]?\d|2[0-3]):(?P<minute>[0-5]\d)(?!\d)(?:\s?(?P<half>{_HALF}))?", _time, re.IGNORECASE),
    _rule(rf"\b(?P<hour>[01]?\d|2[0-3])\.(?P<minute>[0-5]\d)\s?(?P<half>{_HALF})", _time, re.IGNORECASE),
    _rule(rf"\b(?P<hour>1[0-2]|0?[1-9])(?P<minute>)\s?(?P<half>{_HALF})", _time, re.IGNORECASE),
    # Money before plain numbers, phone numbers before ranges.
    _rule(rf"(?<!\w)[-\u2212](?=[{''.join(_MONEY)}]\s?\d)", lambda _: "minus "),
    _rule(rf"(?P<sign>[{''.join(_MONEY)}])\s?(?P<amount>{_AMOUNT})\s?{_DASH}\s?(?P<amount2>{_AMOUNT})", _money_span),
    _rule(rf"(?P<sign>[{''.join(_MONEY)}])\s?(?P<amount>{_AMOUNT})(?:\s?(?P<scale>thousand|million|billion|k|m|"
          r"bn)\b)?", _money, re.IGNORECASE),
    _rule(r"\+\d[\d\s().-]{6,}\d|\(\d{3}\)\s?\d{3}[-.\s]\d{4}\b|\b\d{3}[-.\s]\d{3}[-.\s]\d{4}\b|\b\d{3}[-.]\d{4}\b",
     _phone),
    _rule(r"(?<![\d.,])(?:0\d+|\d{5,})(?![\d,]*\.?\d)", _phone),
    # Amounts with a unit, ordinals, years, and the remaining numbers.
    _rule(rf"(?P<amount>{_AMOUNT})\s?(?P<unit>{_choices(_UNITS)})(?![\w°])", _unit),
    _rule(r"\b(\d+)(?:st|nd|rd|th)\b", lambda match: _ordinal(match[1])),
    _rule(r"\b(1[1-9]\d0|20\d0)s\b", _decade),
    _rule(rf"(?<![\d/.,])(?:{_choices(_FRACTIONS)})(?![\d/]|[.,]\d)", lambda match: _FRACTIONS[match[0]]),
    _rule(r"(?<![\d.,])911(?![\d]|[.,]\d)", lambda match: _digits(match[0])),
    _rule(r"(?<=[a-z]\s)\b(1[1-9]\d\d|20\d\d)\b(?!\s?[a-z]+s\b)", lambda match: _year(match[1])),
    _rule(rf"({_AMOUNT})\s?{_DASH}\s?({_AMOUNT})", lambda match: f"{_cardinal(match[1])} to {_cardinal(match[2])}"),
    _rule(r"#\s?(?=\d)", lambda _: "number "),
    _rule(rf"(?<!\w)[-\u2212](?=(?:{_AMOUNT}))", lambda _: "minus "),
    _rule(rf"(?<![A-Za-z\d])(?:{_AMOUNT})(?=(?P<letter>[A-Za-z])?)",
     lambda match: _cardinal(match[0]) + (" " if match["letter"] else "")),
    _rule(r"(?<=[A-Za-z])\d+", lambda match: f" {_digits(match[0])}"),
    _rule(rf"(?<!\w)(?:{_choices(_SHORT)})(?!\w)", _short, re.IGNORECASE),
)  # fmt: skip
"""The rules in order; the first one that matches a place applies."""
