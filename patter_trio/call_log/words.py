"""The words of a call as the full text search has them: the same for each database. Pure.

A text becomes terms: without case, without accents, and without punctuation. Scripts that put no spaces between words
have one term for each character; a query of several such characters is a phrase. So a database only has to find terms
that are separated by spaces.
"""

import re
import unicodedata
from typing import Final

import attrs

from patter_trio.scripts import is_spoken, is_unspaced

# Judged: a query of more words finds nothing that 32 would not.
MAX_QUERY_TERMS: Final = 32
"""Number of words of a query that count."""
# PostgreSQL refuses longer words (2,046 bytes); nobody says one.
MAX_TERM_CHARACTERS: Final = 100
"""Longest term; the rest of a longer one is left out."""
_ASCII_WORDS: Final = re.compile(r"[a-z0-9]+")


@attrs.frozen
class Phrase:
    """Terms that a query wants one behind another; with ``is_prefix``, the last one may go on."""

    terms: tuple[str, ...]
    is_prefix: bool = False


def terms_of(text: str) -> list[str]:
    """Return the terms of a text, in its order."""
    return [term for run in _runs(text) for term in run]


def searchable(text: str) -> str:
    """Return the terms of a text, separated by spaces."""
    return " ".join(terms_of(text))


def phrases_of(query: str) -> list[Phrase]:
    """Return what must occur, all of it, in what a query looks for; the last word may be unfinished."""
    runs = _runs(query)[:MAX_QUERY_TERMS]
    # Somebody who types searches as he types; behind a space or a full stop, the last word is finished.
    is_typing = bool(query) and (is_spoken(query[-1]) or query[-1].isalnum())
    return [Phrase(tuple(run), is_prefix=is_typing and run is runs[-1]) for run in runs]


def _runs(text: str) -> list[list[str]]:
    """Return the terms, those of one word or of one stretch without spaces together."""
    folded = text.casefold()
    if folded.isascii():
        return [[word[:MAX_TERM_CHARACTERS]] for word in _ASCII_WORDS.findall(folded)]
    # NFKD splits accents from letters, and gives full width and compatibility forms their plain ones. Before the case,
    # too, which those forms hide (The Unicode Standard, D146).
    plain = unicodedata.normalize("NFKD", unicodedata.normalize("NFKD", text).casefold())
    runs: list[list[str]] = []
    word = ""
    unspaced = False
    for character in f"{plain} ":
        # Accents of alphabets are left out; the vowel signs of Thai and its like are letters (is_unspaced).
        if unicodedata.combining(character) and not is_unspaced(character):
            continue
        spoken = is_spoken(character)
        dense = spoken and is_unspaced(character)
        if word and (not spoken or dense):
            runs.append([word[:MAX_TERM_CHARACTERS]])
            word = ""
        if dense:
            if unspaced:
                runs[-1].append(character)
            else:
                runs.append([character])
        elif spoken:
            word += character
        unspaced = dense
    return runs
