"""Sentences from streamed text: what a TTS wants, as early as it can be known.

A sentence is known to be finished when the next non-space character behind its end has arrived. That is the only
look-ahead, so the sentences do not depend on how the text was cut into tokens. A sentence ends at

* a mark of ``SPACED_ENDS``, with closing quotes and brackets behind it, before white space; in scripts that put no
  space between sentences, before any letter;
* a mark of ``UNSPACED_ENDS``, from scripts that put no space between sentences, before anything;
* a line break, because lists and headings have no full stops.

It does not end there before a lower-case letter, unless the whole reply is written in lower case, nor if only marks or
the number of a list item precede. A full stop does not end it after a title or an initial, nor after an abbreviation
that stands before numbers if a digit follows. In doubt it does not end: two sentences in one cost a moment, but a
sentence that is cut in two sounds wrong.

Some texts have no ends: a model that repeats itself, or Thai. A sentence that is longer than
:data:`MAX_SENTENCE_WEIGHT` is cut at its last clause or word, and :meth:`SentenceChunker.release` cuts an unfinished
one because the caller has waited long enough.
"""

import re
from bisect import bisect_right
from collections.abc import Iterator
from typing import Final

from patter_trio.conversation.abbreviations import BEFORE_NAMES, BEFORE_NUMBERS, ENDINGS, ORDINALS, SAME_AS
from patter_trio.conversation.marks import (
    CLOSERS,
    DOTS,
    OPENERS,
    SENTENCE_ENDS,
    SPACED_CLAUSE_ENDS,
    UNSPACED_CLAUSE_ENDS,
    UNSPACED_ENDS,
)
from patter_trio.scripts import DENSE_CHARACTER_WEIGHT, is_unspaced, primary_language, weight, whole_units

# Judged: almost half a minute of speech. No sentence that is meant to be understood on a telephone is longer.
MAX_SENTENCE_WEIGHT: Final = 400
"""Letters of the longest sentence, in the time that letters take to speak: about 130 characters of Chinese."""
# Judged: a word or two alone would sound cut off.
MIN_RELEASED_WEIGHT: Final = 8
"""Fewest letters of a piece that is spoken although its sentence goes on."""
MAX_RUN_CHARACTERS: Final = 64
"""Marks, and closing quotes and brackets behind them, that are looked at together; more are no punctuation."""
MAX_LOOK_BACK: Final = 64
"""Characters before a mark that decide whether it ends a sentence: longer than any abbreviation."""
# Judged: the work on one slice takes less than a millisecond, and every character is copied a few times at most.
SLICE_CHARACTERS: Final = 256
"""Characters of a pushed text that are looked at together."""

_SPACES = re.compile(r"\s+")
_LETTER = re.compile(r"[^\W\d_]")
_LETTER_OR_DIGIT = re.compile(r"[^\W_]")
_CLAUSE = re.compile(
    f"[{re.escape(SPACED_CLAUSE_ENDS)}](?=\\s)|[{UNSPACED_CLAUSE_ENDS}]|[\u0e00-\u0eff\u1780-\u17ff](?= )"
)
"""The last character of a clause. In Thai, Lao and Khmer a space is one."""
_INITIALS = re.compile(r"(?!I$)[^\W\d_](\.[^\W\d_])*")
"""``J``, ``J.R.R``, ``U.S``; not the pronoun ``I``."""
_BEFORE_WORD = re.compile("(?s:.*)[\\s(\"'“‘’«¿¡\\[]")
"""A text up to its last word: white space, a bracket or a quote stands before that."""
_SMALL_NUMBER = re.compile(r"\d{1,2}")
_LIST_NUMBER = re.compile(r"\s*\d{1,3}\s*")


# Each token of each answer passes here, so the cost must not grow with the length of the answer, whatever is in it.
# What was released is forgotten; where the search has been is kept in _looked; a text is taken in slices, and each mark
# looks at a bounded number of characters around it.
class SentenceChunker:
    """Cuts streamed text into sentences.

    The first sentence of a reply is released as soon as it is finished, whatever its length, because the caller is
    waiting. A later one that is shorter than ``min_sentence_len`` characters joins the next. With
    ``aggressive_first_flush`` the first piece may also end at a comma, semicolon, colon or dash, from
    ``aggressive_first_min_len`` characters on. ``language`` (a BCP 47 tag) selects the abbreviations.

    A sentence of more than 400 letters (130 characters of Chinese or Japanese) is cut at its last clause or word. Runs
    of white space become one space. Apart from white space, the text is never changed.
    """

    def __init__(
        self,
        *,
        # Judged: a TTS gives each piece the melody of a whole sentence, which sounds chopped if the pieces are words.
        min_sentence_len: int = 20,
        aggressive_first_flush: bool = False,
        # Judged: half a line; a shorter first piece is over before the TTS has made the second.
        aggressive_first_min_len: int = 40,
        language: str = "en",
    ) -> None:
        tongue = primary_language(language)
        tongue = SAME_AS.get(tongue, tongue)
        self._before_names = frozenset(BEFORE_NAMES.get(tongue, "").split())
        self._before_numbers = frozenset(BEFORE_NUMBERS.get(tongue, "").split())
        self._endings = ENDINGS.get(tongue, ())
        self._ordinals = tongue in ORDINALS
        ends = SENTENCE_ENDS + (";" if tongue == "el" else "")  # as Greek writes a question mark
        self._end = re.compile(f"[{ends}]")
        # A line break, or a run of marks with what closes behind it.
        self._mark = re.compile(
            f"\n|(?P<ends>[{ends}]{{1,{MAX_RUN_CHARACTERS}}})[{re.escape(CLOSERS)}]{{0,{MAX_RUN_CHARACTERS}}}"
            f"|[{re.escape(SPACED_CLAUSE_ENDS)}{UNSPACED_CLAUSE_ENDS}][{re.escape(CLOSERS)}]{{0,{MAX_RUN_CHARACTERS}}}"
        )
        self._min = min_sentence_len
        self._first_min = aggressive_first_min_len if aggressive_first_flush else None
        self.reset()

    def reset(self) -> None:
        """Forget everything. The next text begins a new reply."""
        self._text = ""  # what was not released, with single spaces or line breaks, from its first letter or mark on
        self._begin = 0  # where the sentence that is being read begins; those before it were too short
        self._looked = 0  # no end before here
        self._first = True
        self._lower: bool | None = None  # True while every sentence has begun with a lower-case letter

    def push(self, text: str) -> list[str]:
        """Take a piece of text; return the sentences that it completes."""
        return [
            sentence
            for start in range(0, len(text), SLICE_CHARACTERS)
            for sentence in self._sentences(text[start : start + SLICE_CHARACTERS])
        ]

    def _sentences(self, text: str) -> Iterator[str]:
        self._append(text)
        while (found := self._next_end()) is not None:
            end, forced = found
            if self._first or forced or len(_one_line(self._text[:end])) >= self._min:
                yield self._released(end)
            else:
                self._begin = self._looked = end

    def _append(self, text: str) -> None:
        even = _SPACES.sub(lambda run: "\n" if "\n" in run[0] else " ", text)
        if even[:1].isspace() and self._text[-1:].isspace():
            # One run of white space, in two pieces of text.
            last = "\n" if "\n" in (even[0], self._text[-1]) else " "
            self._text, even = self._text[:-1], last + even[1:]
            # A line break that joins a space ends a sentence, and that place may have been looked at as a space.
            self._looked = min(self._looked, len(self._text))
        self._text = (self._text + even) if self._text else even.lstrip()

    def _released(self, end: int) -> str:
        sentence = _one_line(self._text[:end])
        self._text = self._text[end:].lstrip()
        self._begin = self._looked = 0
        self._first = False
        return sentence

    @property
    def holds_text(self) -> bool:
        """True while text waits for the end of its sentence."""
        return bool(self._text)

    def flush(self) -> list[str]:
        """Return what is left of the text, which is complete, and begin anew."""
        rest = _one_line(self._text)
        self.reset()
        return [rest] if rest else []

    def release(self, *, within_clause: bool) -> list[str]:
        """Return the waiting text up to its last clause, although its sentence goes on.

        Finished sentences that were too short to be released alone go first, by themselves.

        Args:
            within_clause: without a clause, up to the last word. The newest word is kept: it may go on.
        """
        if self._begin:
            return [self._released(self._begin)]
        # The word also behind a clause that is too short to be released, such as "Yes,".
        for end in (self._clause_end(0, len(self._text)), self._word_end() if within_clause else 0):
            if weight(self._text[:end]) >= MIN_RELEASED_WEIGHT:
                return [self._released(end)]
        return []

    def _next_end(self) -> tuple[int, bool] | None:
        """Return where the sentence ends, once the character that proves it has arrived.

        True if it is only too long.
        """
        limit = self._limit()
        while (mark := self._mark.search(self._text, self._looked)) is not None and mark.start() <= limit:
            end = mark.end()
            following = self._text[end : end + 2].lstrip()
            if not following:
                return None  # the run of marks, or the white space behind it, may go on
            if self._is_end(mark, following[0]):
                return (mark.start() if mark[0] == "\n" else end), False
            self._looked = end
        self._looked = min(len(self._text) if mark is None else mark.start(), limit)
        return (self._forced_end(limit), True) if limit < len(self._text) else None

    def _limit(self) -> int:
        """Return how much of the text may be one sentence."""
        text = self._text
        # Multiplied first: that is enough for most texts, and a token costs less.
        if len(text) * DENSE_CHARACTER_WEIGHT <= MAX_SENTENCE_WEIGHT:
            return len(text)
        if text.isascii():
            return min(len(text), MAX_SENTENCE_WEIGHT)
        if weight(text) <= MAX_SENTENCE_WEIGHT:
            return len(text)
        return bisect_right(range(len(text)), MAX_SENTENCE_WEIGHT, key=lambda stop: weight(text[:stop])) - 1

    def _forced_end(self, limit: int) -> int:
        """Return where a sentence that is too long is cut: at its last clause or, failing that, its last word."""
        text = self._text
        space = max(text.rfind(" ", 1, limit), text.rfind("\n", 1, limit))
        return self._clause_end(limit // 2, limit) or space + 1 or len(whole_units(text, limit)) or limit

    def _clause_end(self, start: int, stop: int) -> int:
        """Return the end of the last clause that ends within a part of the text, or 0."""
        # One character more, because a mark counts only before white space.
        ends = [match.end() for match in _CLAUSE.finditer(self._text, start, stop + 1)]
        return max((end for end in ends if end <= stop), default=0)

    def _word_end(self) -> int:
        """Return the end of the last word that is surely complete, and not within a number; or 0."""
        text, end = self._text, len(self._text)
        if not any(map(is_unspaced, text[-2:])):
            end = text.rfind(" ")
            while end > 0 and (text[end - 1 : end + 2 : 2].isdigit() or text[end - 1] in DOTS):
                end = text.rfind(" ", 0, end)
            return max(end, 0)
        # The newest character may get a vowel sign, and so may the one before it in two pieces.
        return len(whole_units(text, end - 2)) if end > 2 else 0  # noqa: PLR2004 (two characters of a syllable)

    def _is_end(self, mark: re.Match[str], following: str) -> bool:
        """Return True if the sentence ends at a mark, given the next non-space character."""
        text, ends, end = self._text, mark["ends"] or "", mark.end()
        line_break = mark[0] == "\n"
        if not ends and not line_break:
            return self._is_soft_end(mark[0][0], end)
        sentence = text[self._begin : mark.start()]
        # A full stop before a line break was judged as a full stop: "Dr." may stand at the end of a line.
        if line_break and sentence.endswith("."):
            return False
        spaced = line_break or text[end].isspace()
        if not spaced and not _is_unspaced_end(ends, sentence[-1:], following):
            return False
        if not _LETTER_OR_DIGIT.search(sentence) or _LIST_NUMBER.fullmatch(sentence):
            return False
        self._note_case(sentence)
        if not spaced or any(char in UNSPACED_ENDS for char in ends):  # what was quoted usually goes on without a space
            quoted = text[end - 1] in CLOSERS and not spaced
            return following not in CLOSERS and (not quoted or following in OPENERS)
        # Lower case goes on with the sentence, as in "e.g. this"; a closing guillemet still belongs to it.
        if following in "»›" or (following.islower() and not self._lower):
            return False
        return ends not in tuple(DOTS) or not self._is_abbreviation(sentence, following)

    def _note_case(self, sentence: str) -> None:
        if self._lower is not False:
            first = _LETTER.search(sentence)
            self._lower = first[0].islower() if first else self._lower

    def _is_soft_end(self, mark: str, end: int) -> bool:
        """Return True if the first piece of a reply may end at a clause."""
        if not self._first or self._first_min is None:
            return False
        apart = mark in UNSPACED_CLAUSE_ENDS or self._text[end].isspace()
        return apart and len(_one_line(self._text[:end])) >= self._first_min

    def _is_abbreviation(self, sentence: str, following: str) -> bool:
        """Return True if the full stop behind ``sentence`` belongs to its last word."""
        before, word = _last_word(sentence[-MAX_LOOK_BACK:])
        if self._ordinals and _SMALL_NUMBER.fullmatch(word):
            # "Nr. 3." counts things; it is not an ordinal, so the full stop may end the sentence.
            return not (before.endswith(".") and _last_word(before[:-1])[1].lower() in self._before_numbers)
        low = word.lower()
        # Also what may be an abbreviation at the end of a word: "Ing" of "Dipl.-Ing", "Dr" of "Prof.Dr".
        if not self._before_names.isdisjoint((low, low.rpartition("-")[2], low.rpartition(".")[2])):
            return True
        if low.endswith(self._endings) or (following.isdigit() and low in self._before_numbers):
            return True
        # In a reply in lower case, where the next letter tells nothing.
        if following.islower() and (low in self._before_numbers or "." in low or low == "etc"):
            return True
        # "a.m." has the shape of initials, but often ends a sentence.
        return word.isupper() and bool(_INITIALS.fullmatch(word)) and low not in {"a.m", "p.m"}

    # Text that pauses -------------------------------------------------------------------------------------------------
    def pause(self, *, long: bool = False) -> list[str]:
        """Return the sentences so far that are finished, however short, because no more text comes for a moment.

        Args:
            long: any text, unless it is only a word or two: after a long pause, the last word does not go on. Not
                behind an abbreviation or a number with its full stop, which belong to what follows, however late it
                comes.
        """
        goes_on = self._text.rstrip().endswith(tuple(DOTS))
        enough = long and not goes_on and weight(self._text) >= MIN_RELEASED_WEIGHT
        if enough or self.ends_sentence(self._text):
            return self.flush()
        # Sentences that were too short to be released alone stand before the one that goes on.
        return [self._released(self._begin)] if self._begin else []

    def ends_sentence(self, text: str) -> bool:
        """Return True if a text ends a sentence, whatever follows; not behind an abbreviation or a number."""
        line = text.rstrip()
        closed = line.rstrip(CLOSERS)
        words = closed
        while words and self._end.match(words[-1]):
            words = words[:-1]
        marks, words = closed[len(words) :], words[-MAX_LOOK_BACK:]
        if not _LETTER_OR_DIGIT.search(words):
            return False
        if not marks.startswith(tuple(DOTS)):
            return bool(marks) or "\n" in text[len(line) :]
        # A digit and a name may follow, and an abbreviation may stand before either.
        return not (words[-1].isdigit() or self._is_abbreviation(words, "1") or self._is_abbreviation(words, "A"))


def _is_unspaced_end(ends: str, before: str, following: str) -> bool:
    """Return True if marks without a space behind them end a sentence, because of their script or that around them."""
    if any(char in UNSPACED_ENDS for char in ends):
        return True
    if ends in tuple(DOTS):  # not "3.5", and not "example.com"
        return is_unspaced(following) and is_unspaced(before)
    if following in OPENERS:
        return is_unspaced(before)
    # Not "Yahoo!-" or "?x=1": only before a letter of a script without capitals, which stands in no name or address.
    return is_unspaced(following) or (following.isalpha() and following.lower() == following.upper())


def _last_word(text: str) -> tuple[str, str]:
    """Return the text before the last word, without white space behind, and the word without brackets and quotes."""
    before = _BEFORE_WORD.match(text)
    start = before.end() if before else 0
    return text[:start].rstrip(), text[start:]


def _one_line(text: str) -> str:
    return text.replace("\n", " ").strip()
