"""The words of a transcript: how many they are, and whether two transcripts have the same ones. Pure.

An STT writes the same utterance in different ways: interim words often lack capitals and punctuation, and spell numbers
out. Two texts have the same words if they differ in nothing else. Where more differs, a later text is divided into the
part that stands for the earlier one, and the words that are additional.
"""

import math
import re
import unicodedata
from collections.abc import Sequence
from typing import Final

from patter_trio.conversation.numerals import ordinal, point, spelled
from patter_trio.scripts import is_spoken, is_unspaced, units

MAX_COMPARED_WORDS: Final = 120
"""Words of a text that are compared one by one, which takes 5 ms at most; of longer texts, only the lengths count."""
HAN_PER_WORD: Final = 2
KANA_PER_WORD: Final = 3
LETTERS_PER_WORD: Final = 4
"""Letters of a word in Thai, Lao, Khmer and Burmese."""
_MAX_SPELLED_WORDS: Final = 8
"""Words of the longest number that is compared with its digits."""

_KANA: Final = re.compile("[\u3041-\u3096\u309d-\u30ff\uff66-\uff9f]")
_SOUTH_EAST_ASIAN: Final = re.compile("[\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff]")
_THAI_VOWELS: Final = frozenset("ะาำเแโใไๅະາຳເແໂໃໄ")
"""Vowels of Thai and Lao that Unicode calls letters."""
_SIGNS: Final = {
    "$": "(?:dollars?|bucks?)",
    "€": "euros?",
    "£": "pounds?",
    "¥": "yen",
    "%": "(?:percent|prozent|pourcents?|porciento|porcento|procent|percento)",
}
_NUMBER: Final = re.compile(r"(?P<money>[$€£¥]?)(?P<number>\d+(?:[.,:]\d+)*)(?P<sign>[$€£¥%]?)(?P<behind>[^\d]*)")
_IN_NUMBERS: Final = re.compile(r"(?<=\d)[.,:](?=\d)")
"""Signs that are a part of a number, and not punctuation."""
_ORDINAL_ENDS: Final = ("st", "nd", "rd", "th")
_GROUPED: Final = re.compile(r"\d{1,3}(?:[.,]\d{3})+")


# Counting -------------------------------------------------------------------------------------------------------------
def count_words(text: str) -> int:
    """Return the number of words in a text; in scripts without spaces, an estimate from the number of characters."""
    return sum(map(_count_in, text.split()))


def _count_in(word: str) -> int:
    """Return the number of words in a text without spaces; punctuation alone does not count."""
    if word.isascii():
        return int(any(map(str.isalnum, word)))
    spaced = han = kana = letters = 0
    within = False
    for character in word:
        unspaced = is_unspaced(character)
        if not unspaced:
            # Punctuation within a word does not end it, as in "don't".
            spaced += character.isalnum() and not within
            within = within or character.isalnum()
            continue
        within = False
        if _SOUTH_EAST_ASIAN.match(character):
            # Without the vowels and the tones, which belong to a letter.
            letters += unicodedata.category(character) == "Lo" and character not in _THAI_VOWELS
        elif _KANA.match(character):
            kana += 1
        else:
            han += character.isalnum()
    return (
        spaced + math.ceil(han / HAN_PER_WORD) + math.ceil(kana / KANA_PER_WORD) + math.ceil(letters / LETTERS_PER_WORD)
    )


# Comparing ------------------------------------------------------------------------------------------------------------
def same_words(one: str, other: str, language: str = "en") -> bool:
    """Return True if two texts differ in case, punctuation, white space or the format of numbers at most."""
    if one == other:
        return True
    ones, others = units(one), units(other)
    solid, solid_other = _solid(ones), _solid(others)
    if solid == solid_other:
        return True
    if max(len(ones), len(others)) > MAX_COMPARED_WORDS:
        return False
    return _spells(ones, solid_other, language) or _spells(others, solid, language)


def divided(earlier: str, later: str, language: str = "en") -> tuple[str, str]:
    """Divide a later text into what stands for the words of an earlier one, and the words behind them.

    Words that were misheard are replaced, so the first part has about as many words as ``earlier``. The second part is
    empty if there are no more.
    """
    before, after = units(earlier), units(later)
    if max(len(before), len(after)) > MAX_COMPARED_WORDS:
        end = min(len(before), len(after))
    else:
        end = _end_of_match([_bare(word) for word in before], after, language)
    # Behind white space only: the punctuation of a word stays with it.
    place = 0
    for word in after[:end]:
        place = later.index(word, place) + len(word)
    return later[:place].strip(), later[place:].strip()


def _end_of_match(before: Sequence[str], after: Sequence[str], language: str) -> int:
    """Return how many words of ``after`` stand for ``before``: those with the fewest differences, the most of them.

    That is the edit distance to each beginning of ``after``. A number in digits may stand for several words.
    """
    bare = [_bare(word) for word in after]
    # costs[i]: differences between the first i words of ``before`` and the words of ``after`` so far.
    costs: list[float] = [float(count) for count in range(len(before) + 1)]
    best, end = costs[-1], 0
    for number, word in enumerate(bare, start=1):
        row = [costs[0] + (1 if word else 0)]
        figure = _number(after[number - 1], language)
        for place, earlier in enumerate(before, start=1):
            cost = min(costs[place - 1] + (earlier != word), costs[place] + 1, row[place - 1] + 1)
            if figure is not None:
                for start in range(max(0, place - _MAX_SPELLED_WORDS), place):
                    if costs[start] < cost and figure.fullmatch("".join(before[start:place])):
                        cost = costs[start]
            row.append(cost)
        costs = row
        if costs[-1] <= best:
            best, end = costs[-1], number
    return end


def _bare(word: str) -> str:
    """Return a word without case and punctuation."""
    folded = unicodedata.normalize("NFKC", word).casefold()
    if folded.isalnum():
        return folded
    kept = {match.start() for match in _IN_NUMBERS.finditer(folded)}
    return "".join(character for place, character in enumerate(folded) if place in kept or is_spoken(character))


def _solid(words: Sequence[str]) -> str:
    return "".join(map(_bare, words))


def _spells(words: Sequence[str], solid: str, language: str) -> bool:
    """Return True if ``solid`` has the same words, with any number of ``words`` in figures or in words."""
    figures = [_number(word, language) for word in words]
    if not any(figures):
        return False
    parts = [
        re.escape(_bare(word)) if figure is None else figure.pattern
        for word, figure in zip(words, figures, strict=True)
    ]
    return re.fullmatch("".join(parts), solid) is not None


def _number(word: str, language: str) -> re.Pattern[str] | None:
    """Return the forms of a word that begins with a number in digits; None for any other word."""
    match = _NUMBER.fullmatch(unicodedata.normalize("NFKC", word))
    if match is None:
        return None
    number, sign, behind = match["number"], match["sign"] or match["money"], _bare(match["behind"])
    if number.isdigit() and behind in _ORDINAL_ENDS:
        return re.compile(ordinal(number, behind))
    if _GROUPED.fullmatch(number):
        parts = [spelled(re.sub(r"\D", "", number), language)]
    else:
        whole, *others = re.split("[.,:]", number)
        parts = [spelled(whole, language), *(_behind_sign(number, digits, others, language) for digits in others)]
    return re.compile("".join(parts) + (f"(?:{_SIGNS[sign]})?" if sign else "") + re.escape(behind))


def _behind_sign(number: str, digits: str, others: Sequence[str], language: str) -> str:
    """Return the forms of the digits behind a colon, full stop or comma within a number."""
    if ":" in number:
        # A full hour is said without its minutes.
        return "(?::?00|oclock)?" if digits == "00" else f":?{spelled(digits, language)}"
    # One sign separates decimals, and is said; several separate the parts of a phone number or a date.
    return f"(?:[.,]|{point(language)}){'?' if len(others) > 1 else ''}{spelled(digits, language)}"
