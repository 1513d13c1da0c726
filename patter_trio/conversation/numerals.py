"""The ways in which a number can be written out in words, as a regular expression without spaces. Pure.

An STT writes "twenty five" in its interim words and "25" in the final ones. To find out that both are the same number,
the digits are written out in the ways in which people say them: as one number, digit by digit, or in pairs.
"""

import functools
from collections.abc import Callable
from itertools import pairwise
from typing import Final

import attrs

from patter_trio.scripts import primary_language

MAX_DIGITS: Final = 16
"""Digits of a number that is written out in any way but digit by digit; longer ones are never said as one number."""
# Judged: on the telephone, longer numbers are read out digit by digit or in groups.
_MAX_CARDINAL: Final = 999_999


@attrs.frozen
class _Language:
    """How a language says numbers below one hundred, and how it joins them to larger ones."""

    small: tuple[str, ...]
    """The words of 0 to 99."""
    hundred: Callable[[int, str], str]
    """Returns the words of 100 to 999 from the number of hundreds and the words of the rest, empty for none."""
    thousand: Callable[[str, str], str]
    """Returns the words of 1,000 and more, from those of the thousands ("" for one) and those of the rest."""
    point: str
    zero: str
    """Every way to say the digit 0, as a regular expression."""


def spelled(digits: str, language: str) -> str:
    """Return a regular expression for a run of digits, without spaces: the digits, or one of their spoken forms."""
    spoken = _LANGUAGES.get(primary_language(language))
    forms = [digits]
    if spoken is not None and digits.isascii():
        forms.append("".join(_digit(digit, spoken) for digit in digits))
        if len(digits) <= MAX_DIGITS:
            if not digits.startswith("0") and int(digits) <= _MAX_CARDINAL:
                forms.append(_cardinal(int(digits), spoken))
            forms += _in_groups(digits, spoken)
    # Each form once: in a short number, several ways are the same words.
    return f"(?:{'|'.join(dict.fromkeys(forms))})"


def point(language: str) -> str:
    """Return a regular expression for the word that separates the decimals of a number."""
    spoken = _LANGUAGES.get(primary_language(language))
    return spoken.point if spoken is not None else "point"


def ordinal(digits: str, end: str) -> str:
    """Return a regular expression for an English ordinal, such as 25th: the digits with their end, or the words."""
    number = int(digits[:MAX_DIGITS])
    if not 0 < number < len(_ENGLISH):
        return digits + end
    ten, one = divmod(number, 10)
    front, last = ("", number) if number < 20 or not one else (_ENGLISH[10 * ten], one)  # noqa: PLR2004 (the teens)
    word = _ENGLISH[last]
    spoken = _ORDINALS.get(word) or (f"{word[:-1]}ieth" if word.endswith("y") else f"{word}th")
    return f"(?:{digits}{end}|{front}{spoken})"


def _digit(digit: str, spoken: _Language) -> str:
    return spoken.zero if digit == "0" else spoken.small[int(digit)]


def _in_groups(digits: str, spoken: _Language) -> list[str]:
    """Return the forms of a number that is said in pairs (1984, 555 12 34), the odd digits first."""
    if len(digits) < 3:  # noqa: PLR2004 (two digits are one pair, which is a cardinal)
        return []
    odd = len(digits) % 2
    starts = [*range(odd, len(digits), 2), len(digits)]
    pairs = "".join(_pair(digits[start:end], spoken) for start, end in pairwise(starts))
    forms = [_digit(digits[0], spoken) + pairs if odd else pairs]
    if odd and len(digits) > 3:  # noqa: PLR2004 (a group of three in front, as in 555 12 34)
        triple = "".join(_digit(digit, spoken) for digit in digits[:3])
        forms.append(triple + "".join(_pair(digits[start : start + 2], spoken) for start in range(3, len(digits), 2)))
    return forms


def _pair(digits: str, spoken: _Language) -> str:
    if digits[0] == "0":
        return "".join(_digit(digit, spoken) for digit in digits)
    return f"(?:{spoken.small[int(digits)]}|{''.join(_digit(digit, spoken) for digit in digits)})"


# Judged: as many numbers as a few calls mention; each is looked for with every interim result.
@functools.lru_cache(maxsize=256)
def _cardinal(number: int, spoken: _Language) -> str:
    thousands, rest = divmod(number, 1000)
    below = _below_thousand(rest, spoken)
    if not thousands:
        return below
    front = "" if thousands == 1 else _below_thousand(thousands, spoken)
    return spoken.thousand(front, below if rest else "")


def _below_thousand(number: int, spoken: _Language) -> str:
    hundreds, rest = divmod(number, 100)
    return spoken.hundred(hundreds, spoken.small[rest] if rest else "") if hundreds else spoken.small[number]


# The languages --------------------------------------------------------------------------------------------------------
def _tens_first(teens: str, tens: str, between: str = "") -> tuple[str, ...]:
    """Return the words of 0 to 99 of a language that says the tens before the ones: twenty-five, treinta y cinco."""
    first, rest = teens.split(), tens.split()
    words = list(first)
    while len(words) < 100:  # noqa: PLR2004 (0 to 99)
        ten, one = divmod(len(words), 10)
        words.append(rest[ten - 2] + (between + first[one] if one else ""))
    return tuple(words)


def _ones_first(teens: str, tens: str, between: str) -> tuple[str, ...]:
    """Return the words of 0 to 99 of a language that says the ones before the tens: fünfundzwanzig."""
    first, rest = teens.split(), tens.split()
    words = list(first)
    while len(words) < 100:  # noqa: PLR2004 (0 to 99)
        ten, one = divmod(len(words), 10)
        # ``eins`` by itself, and ``ein`` in front of ``und``.
        front = {"eins": "ein"}.get(first[one], first[one])
        words.append((front + between if one else "") + rest[ten - 2])
    return tuple(words)


def _french() -> tuple[str, ...]:
    words = list(
        _tens_first(
            "zéro un deux trois quatre cinq six sept huit neuf dix onze douze treize quatorze quinze seize dixsept "
            "dixhuit "
            "dixneuf",
            "vingt trente quarante cinquante soixante soixante quatrevingts? quatrevingts?",
        )
    )
    for ten in (20, 30, 40, 50, 60):
        words[ten + 1] = f"{words[ten]}(?:et)?une?"
    for one in range(10):
        belgian = ("septante", "nonante")
        ones = "" if not one else f"(?:et)?{words[one]}"
        words[70 + one] = f"(?:soixante(?:et)?{words[10 + one]}|{belgian[0]}{ones})"
        words[90 + one] = f"(?:quatrevingts?{words[10 + one]}|{belgian[1]}{ones})"
    return tuple(words)


def _italian() -> tuple[str, ...]:
    words = list(
        _tens_first(
            "zero uno due tre quattro cinque sei sette otto nove dieci undici dodici tredici quattordici quindici "
            "sedici "
            "diciassette diciotto diciannove",
            "venti trenta quaranta cinquanta sessanta settanta ottanta novanta",
        )
    )
    for ten in range(20, 100, 10):
        for one in (1, 8):
            words[ten + one] = words[ten][:-1] + words[one]  # ventuno, ventotto
        words[ten + 3] = f"{words[ten]}tr[eé]"
    return tuple(words)


def _spanish() -> tuple[str, ...]:
    words = list(
        _tens_first(
            "cero un[oa]? dos tres cuatro cinco seis siete ocho nueve diez once doce trece catorce quince "
            "(?:dieciséis|dieciseis) diecisiete dieciocho diecinueve",
            "veinte treinta cuarenta cincuenta sesenta setenta ochenta noventa",
            "y",
        )
    )
    for one in range(1, 10):
        words[20 + one] = f"(?:veinti|veintey){words[one]}"
    words[22], words[23], words[26] = "veintid[oó]s", "veintitr[eé]s", "veintis[eé]is"
    return tuple(words)


_SPANISH_HUNDREDS: Final = (
    "", "ciento?", "doscient[oa]s", "trescient[oa]s", "cuatrocient[oa]s", "quinient[oa]s", "seiscient[oa]s",
    "setecient[oa]s", "ochocient[oa]s", "novecient[oa]s",
)  # fmt: skip
_PORTUGUESE_HUNDREDS: Final = (
    "", "(?:cem|cento)", "duzent[oa]s", "trezent[oa]s", "quatrocent[oa]s", "quinhent[oa]s", "seiscent[oa]s",
    "setecent[oa]s", "oitocent[oa]s", "novecent[oa]s",
)  # fmt: skip
_ENGLISH: Final = _tens_first(
    "zero one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen sixteen seventeen "
    "eighteen nineteen",
    "twenty thirty forty fifty sixty seventy eighty ninety",
)
_ORDINALS: Final = {
    "one": "first",
    "two": "second",
    "three": "third",
    "five": "fifth",
    "eight": "eighth",
    "nine": "ninth",
    "twelve": "twelfth",
}
_GERMAN: Final = _ones_first(
    "null eins zwei drei vier fünf sechs sieben acht neun zehn elf zwölf dreizehn vierzehn fünfzehn sechzehn siebzehn "
    "achtzehn neunzehn",
    "zwanzig dreißig vierzig fünfzig sechzig siebzig achtzig neunzig",
    "und",
)
_DUTCH: Final = _ones_first(
    "nul (?:een|één) twee drie vier vijf zes zeven acht negen tien elf twaalf dertien veertien vijftien zestien "
    "zeventien achttien negentien",
    "twintig dertig veertig vijftig zestig zeventig tachtig negentig",
    "[eë]n",
)
_PORTUGUESE: Final = _tens_first(
    "zero (?:um|uma) (?:dois|duas) três quatro cinco (?:seis|meia) sete oito nove dez onze doze treze "
    "(?:catorze|quatorze) quinze (?:dezesseis|dezasseis) (?:dezessete|dezassete) dezoito (?:dezenove|dezanove)",
    "vinte trinta quarenta cinquenta sessenta setenta oitenta noventa",
    "e",
)
_HAN_DIGITS: Final = "[〇零] [一壱] [二弐两兩] [三参] 四 五 六 七 八 九"
_HAN: Final = _tens_first(
    f"{_HAN_DIGITS} 一?十 " + " ".join(f"一?十{one}" for one in _HAN_DIGITS.split()[1:]),
    " ".join(f"{one}十" for one in _HAN_DIGITS.split()[2:]),
)
_HANGUL_DIGITS: Final = "[영공] 일 이 삼 사 오 [육륙] 칠 팔 구"
_HANGUL: Final = _tens_first(
    f"{_HANGUL_DIGITS} 십 " + " ".join(f"십{one}" for one in _HANGUL_DIGITS.split()[1:]),
    " ".join(f"{one}십" for one in _HANGUL_DIGITS.split()[2:]),
)
_CHINESE: Final = _Language(
    _HAN,
    lambda count, rest: f"{_HAN[count]}?百零?{rest}" if count == 1 else f"{_HAN[count]}百零?{rest}",
    lambda front, rest: f"{front or '一?'}千零?{rest}",
    "[点點]",
    "[〇零洞]",
)
_LANGUAGES: Final[dict[str, _Language]] = {
    "en": _Language(
        _ENGLISH,
        lambda count, rest: f"{'(?:one|a)' if count == 1 else _ENGLISH[count]}hundred(?:and)?{rest}",
        lambda front, rest: f"{front or '(?:one|a)'}thousand(?:and)?{rest}",
        "point",
        "(?:zero|oh?|nought|naught)",
    ),
    "de": _Language(
        _GERMAN,
        lambda count, rest: f"{'(?:ein)?' if count == 1 else _GERMAN[count]}hundert(?:und)?{rest}",
        lambda front, rest: f"{front or '(?:ein)?'}tausend(?:und)?{rest}",
        "(?:komma|punkt)",
        "null",
    ),
    "nl": _Language(
        _DUTCH,
        lambda count, rest: f"{'' if count == 1 else _DUTCH[count]}honderd(?:en)?{rest}",
        lambda front, rest: f"{front}duizend(?:en)?{rest}",
        "(?:komma|punt)",
        "nul",
    ),
    "fr": _Language(
        _french(),
        lambda count, rest: f"{'' if count == 1 else _LANGUAGES['fr'].small[count]}cents?{rest}",
        lambda front, rest: f"{front}mille{rest}",
        "(?:virgule|point)",
        "zéro",
    ),
    "it": _Language(
        _italian(),
        lambda count, rest: f"{'' if count == 1 else _LANGUAGES['it'].small[count]}cent[o]?{rest}",
        lambda front, rest: f"{front}mila{rest}" if front else f"mille{rest}",
        "(?:virgola|punto)",
        "zero",
    ),
    "es": _Language(
        _spanish(),
        lambda count, rest: f"{_SPANISH_HUNDREDS[count]}{rest}",
        lambda front, rest: f"{front}mil{rest}",
        "(?:coma|punto)",
        "cero",
    ),
    "pt": _Language(
        _PORTUGUESE,
        lambda count, rest: f"{_PORTUGUESE_HUNDREDS[count]}e?{rest}",
        lambda front, rest: f"{front}mile?{rest}",
        "(?:vírgula|ponto)",
        "zero",
    ),
    "zh": _CHINESE,
    "ja": _CHINESE,
    "ko": _Language(
        _HANGUL,
        lambda count, rest: f"{'일?' if count == 1 else _HANGUL[count]}백{rest}",
        lambda front, rest: f"{front}천{rest}",
        "점",
        "[영공]",
    ),
}
