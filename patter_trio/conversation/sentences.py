"""Streamed tokens in, whole sentences out: what a synthesiser wants, as early as it can be known.

A sentence is known to be finished when the next non-space character behind its end has been seen; that is all the
look-ahead there is, so that the sentences do not depend on how the tokens were cut. What an end is:

* ``.``, ``!``, ``?``, ``…`` and the full stops of other scripts, with the quotes and brackets that close behind them;
* for scripts that put no space between sentences (``。！？``) the next character may follow at once, else a space must;
* a full stop is none behind an abbreviation, a single initial, or a number that counts ("No. 5", "J. Smith", "p.m. on"),
  nor where the next character is a lower-case letter.

Line breaks end a sentence, too, where a list or a heading has no full stop. Runs of white space become one space.
"""

import re
from typing import Final

_SPACED: Final = ".!?…।؟۔"
_UNSPACED: Final = "。！？｡"
_CLOSERS: Final = "\"'”’»)]}」』）】"

_ABBREVIATIONS: Final = frozenset(
    [
        "mr",
        "mrs",
        "ms",
        "mx",
        "dr",
        "prof",
        "rev",
        "hon",
        "sr",
        "jr",
        "st",
        "gen",
        "col",
        "sgt",
        "capt",
        "lt",
        "cmdr",
        "gov",
        "sen",
        "rep",
        "pres",
        "no",
        "nos",
        "nr",
        "vol",
        "pp",
        "fig",
        "eq",
        "sec",
        "ch",
        "art",
        "par",
        "vs",
        "etc",
        "approx",
        "dept",
        "est",
        "ext",
        "inc",
        "ltd",
        "co",
        "corp",
        "bros",
        "tel",
        "apt",
        "ave",
        "blvd",
        "rd",
        "hwy",
        "jan",
        "feb",
        "mar",
        "apr",
        "jun",
        "jul",
        "aug",
        "sep",
        "sept",
        "oct",
        "nov",
        "dec",
        "mon",
        "tue",
        "tues",
        "wed",
        "thu",
        "thur",
        "thurs",
        "fri",
        "sat",
        "sun",
        "e.g",
        "i.e",
        "cf",
        "al",
        "ca",
        "c.f",
        "viz",
        "a.m",
        "p.m",
        "u.s",
        "u.k",
        "u.n",
        "e.u",
        "d.c",
        "ph.d",
        "m.d",
        "b.a",
        "m.a",
    ]
)
_BEFORE_NAME_OR_NUMBER: Final = _ABBREVIATIONS - frozenset(
    ["etc", "a.m", "p.m", "inc", "ltd", "corp", "u.s", "u.k", "ph.d"]
)
"""Abbreviations that never end a sentence: what follows belongs to them, capital letter or not."""
_WORD: Final = re.compile(r"[^\s(\"'“‘«\[]*$")
_SPACES: Final = re.compile(r"[^\S\n]+")


class SentenceChunker:
    """Cuts a streamed text into sentences.

    The first sentence of a reply is released as soon as it is known to be finished, whatever its length, because the
    caller is waiting; a later one shorter than ``min_sentence_len`` characters joins the next. With
    ``aggressive_first_flush`` the first piece may end at a comma, semicolon, colon or dash already, from
    ``aggressive_first_min_len`` characters on.
    """

    def __init__(
        self,
        *,
        min_sentence_len: int = 20,
        aggressive_first_flush: bool = False,
        aggressive_first_min_len: int = 40,
        language: str = "en",
    ) -> None:
        self._min = min_sentence_len
        self._aggressive = aggressive_first_flush
        self._first_min = aggressive_first_min_len
        self._abbreviations = _ABBREVIATIONS if language.lower().startswith("en") else frozenset[str]()
        self.reset()

    def reset(self) -> None:
        """Forget everything; the next text is a new reply's first."""
        self._text = ""  # not released, from its first non-space character on
        self._looked = 0  # no end before here
        self._held = ""  # a short sentence that waits for the next
        self._first = True

    def push(self, text: str) -> list[str]:
        """Take the next piece of text; return the sentences that it shows to be finished."""
        self._text = (self._text + text) if self._text else text.lstrip()
        released: list[str] = []
        while (end := self._next_end()) is not None:
            sentence, self._text = self._text[:end], self._text[end:].lstrip()
            self._looked = 0
            self._release(sentence, released)
        return released

    def flush(self) -> list[str]:
        """Return what is left: the text is complete."""
        rest = _joined(self._held, _one_line(self._text))
        self.reset()
        return [rest] if rest else []

    def _release(self, sentence: str, released: list[str]) -> None:
        sentence = _joined(self._held, _one_line(sentence))
        self._held = ""
        if not sentence:
            return
        if self._first or len(sentence) >= self._min:
            self._first = False
            released.append(sentence)
        else:
            self._held = sentence

    def _next_end(self) -> int | None:
        """Return the position behind the first sentence's end, once the character after it is there."""
        text = self._text
        for position in range(self._looked, len(text)):
            end = self._end_at(position)
            if end is None:
                continue
            if end < 0:  # it depends on what comes next
                self._looked = position
                return None
            return end
        self._looked = len(text)
        return None

    def _end_at(self, position: int) -> int | None:
        """Return where a sentence ends whose end begins at ``position``; None for no end, -1 for not yet known."""
        text, char = self._text, self._text[position]
        if char == "\n":
            return position if text[position:].strip() else -1
        soft = (
            self._aggressive and self._first and not self._held and char in ",;:–—" and position + 1 >= self._first_min
        )
        if char not in _SPACED and char not in _UNSPACED and not soft:
            return None
        behind = position + 1
        while behind < len(text) and (text[behind] in _SPACED or text[behind] in _UNSPACED):
            behind += 1
        while behind < len(text) and text[behind] in _CLOSERS:
            behind += 1
        if behind == len(text):
            return -1
        spaced = text[behind].isspace()
        if not spaced and char not in _UNSPACED:
            return None
        following = text[behind:].lstrip()
        if not following:
            return -1
        return behind if soft or self._ends(position, following[0]) else None

    def _ends(self, position: int, following: str) -> bool:
        """Say whether the mark at ``position`` ends a sentence, given the next non-space character."""
        if self._text[position] in _UNSPACED or self._text[position] in "!?؟।۔":
            return not following.islower()
        if following.islower():
            return False
        match = _WORD.search(self._text[:position])
        word = match.group() if match else ""
        if len(word) == 1 and word.isalpha() and word.isupper() and word != "I":
            return False
        return not (word.lower() in self._abbreviations and word.lower() in _BEFORE_NAME_OR_NUMBER)


def _one_line(text: str) -> str:
    return _SPACES.sub(" ", text.replace("\n", " ")).strip()


def _joined(first: str, second: str) -> str:
    return f"{first} {second}" if first and second else first or second
