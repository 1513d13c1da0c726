"""Words and gaps of texts, in scripts with and without spaces between words.

Chinese, Japanese, Thai, Lao, Khmer and Burmese write the words of a sentence without spaces. There, the smallest part
of a text that can be heard is a character together with the signs that belong to it, and two texts are joined without a
space. Korean and Vietnamese put spaces between words, like English.
"""

import re
import unicodedata
from collections.abc import Iterable
from typing import Final

_UNSPACED: Final = re.compile(
    "[\u0e00-\u0fff\u1000-\u109f\u1780-\u17ff\u1950-\u19ff\u1a20-\u1aaf\ua980-\ua9ff\uaa60-\uaadf"  # Thai to Khmer
    "\u2e80-\u2fff\u3001-\u312f\u31a0-\u9fff\uf900-\ufaff\ufe30-\ufe4f"  # kana, Han, and their punctuation
    "\uff01-\uff0f\uff1a-\uff20\uff3b-\uff40\uff5b-\uff9f\U00020000-\U0003ffff]"  # full and half width, rare Han
)
_DENSE: Final = re.compile("[\u3041-\u312f\u31a0-\u9fff\uac00-\ud7a3\uf900-\ufaff\uff66-\uff9f\U00020000-\U0003ffff]")
"""Kana, Han and Hangul: a character is a syllable or more."""
_VOWELS_BEFORE: Final = frozenset("เแโใไເແໂໃໄ")
"""Vowels of Thai and Lao that are written before the consonant to which they belong."""
_VOWELS_BEHIND: Final = frozenset("ะาำๅະາຳぁぃぅぇぉっゃゅょゎァィゥェォッャュョヮ")
"""Vowels and small kana that belong to the character before them, although Unicode does not call them marks."""
_JOINERS: Final = frozenset("\u200d\u1039\u17d2")
"""Signs that join the next character to the one before: the zero-width joiner, and those of Burmese and Khmer."""

DENSE_CHARACTER_WEIGHT: Final = 3
"""Time to speak a syllabic character, in letters: about 0.18 s, that is 330 characters per minute."""


def primary_language(tag: str) -> str:
    """Return the language of a BCP 47 tag or of a locale's name, in lower case: ``en`` of ``en-GB`` and ``EN_us``."""
    # A locale's name has an underscore in the place of the hyphen, and people write it just as often.
    return tag.replace("_", "-").partition("-")[0].lower()


def is_unspaced(character: str) -> bool:
    """Return True if the character belongs to a script that puts no space between words."""
    return _UNSPACED.match(character) is not None


def is_spoken(character: str) -> bool:
    """Return True for letters, digits and marks; in many scripts the marks are the vowels."""
    return character.isalnum() or unicodedata.category(character)[0] == "M"


def weight(text: str) -> int:
    """Return about how long it takes to speak a text, in letters of an alphabet."""
    return len(text) + (DENSE_CHARACTER_WEIGHT - 1) * len(_DENSE.findall(text))


def units(text: str) -> list[str]:
    """Return the smallest parts of a text that can be heard: words; in scripts without spaces, characters."""
    found: list[str] = []
    for word in text.split():
        if word.isascii():
            found.append(word)
            continue
        ends = [place for place in range(1, len(word)) if _parts(word[place - 1], word[place])]
        found += [word[start:end] for start, end in zip([0, *ends], [*ends, len(word)], strict=True)]
    return found


def whole_units(text: str, reached: int) -> str:
    """Return the units of a text with single spaces that end within its first ``reached`` characters."""
    end = min(reached, len(text))
    while 0 < end < len(text) and not _parts(text[end - 1], text[end]):
        end -= 1
    return text[:end].rstrip()


def _parts(before: str, behind: str) -> bool:
    """Return True if one unit ends and the next begins between two characters."""
    if behind == " " or before == " ":
        return True
    if not (is_unspaced(before) or is_unspaced(behind)):
        return False
    if before in _VOWELS_BEFORE or before in _JOINERS or behind in _VOWELS_BEHIND or behind in _JOINERS:
        return False
    if unicodedata.category(before) in ("Ps", "Pi"):
        return False
    kind = unicodedata.category(behind)
    # Marks, and letters that only lengthen or repeat, belong to the character before; so does punctuation.
    return not (kind[0] == "M" or kind == "Lm" or (kind[0] == "P" and kind not in ("Ps", "Pi")))


def gap_between(left: str, right: str) -> str:
    """Return what separates two texts that were written one by one: nothing in scripts without spaces, else a space."""
    before = next((character for character in reversed(left) if _tells_script(character)), "")
    behind = next((character for character in right if _tells_script(character)), "")
    if not before or not behind:
        return " " if left and right else ""
    unspaced = is_unspaced(before), is_unspaced(behind)
    # Digits follow the script around them.
    return "" if all(unspaced) or (any(unspaced) and (before.isdecimal() or behind.isdecimal())) else " "


def join(texts: Iterable[str]) -> str:
    """Return texts that were written one by one as one text; empty ones count for nothing."""
    parts: list[str] = []
    for text in texts:
        if text:
            # By the last part alone: the work does not grow with the length of the whole.
            parts += [gap_between(parts[-1], text), text] if parts else [text]
    return "".join(parts)


def _tells_script(character: str) -> bool:
    return character.isalnum() or is_unspaced(character)


# Texts that differ in white space -------------------------------------------------------------------------------------
def solid(text: str) -> str:
    """Return the text without white space."""
    return "".join(text.split())


def solid_prefix(text: str, count: int) -> int:
    """Return the length of the shortest prefix of ``text`` with ``count`` characters that are not white space."""
    left = count
    for place, character in enumerate(text):
        if left <= 0:
            return place
        left -= not character.isspace()
    return len(text)
