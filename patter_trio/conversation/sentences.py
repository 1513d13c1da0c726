"""Sentences from streamed text: what a TTS wants, as early as it can be known.

A sentence is known to be finished when the next non-space character behind its end has arrived. That is the only
look-ahead, so the sentences do not depend on how the text was cut into tokens. A sentence ends at

* a mark of ``_SPACED_ENDS``, with closing quotes and brackets behind it, before white space;
* a mark of ``_UNSPACED_ENDS``, from scripts that put no space between sentences, before anything;
* a line break, because lists and headings have no full stops.

It does not end there before a lower-case letter, nor if only marks or the number of a list item precede. A full stop
does not end it after a title or an initial, nor after an abbreviation that stands before numbers if a digit follows. In
doubt it does not end: two sentences in one cost a moment, but a sentence that is cut in two sounds wrong.
"""

import re

_SPACED_ENDS = ".!?…।॥؟۔։።\u037e"
_UNSPACED_ENDS = "。！？｡။"
_SPACED_CLAUSE_ENDS = ",;:–—،؛"
_UNSPACED_CLAUSE_ENDS = "，、；：၊"
_OPENERS = "「『（【《“"
_CLOSERS = "\"'”’»›)]}」』）】》"

_BEFORE_NAMES = {
    "en": "mr mrs ms mx messrs dr prof rev hon gen sgt capt lt cmdr gov sen rep pres st mt vs cf viz e.g i.e",
    "de": "hr fr dr prof st z.b d.h u.a bzw ca vgl geb sog",
    "es": "sr sra srta dr dra ud uds prof dña av avda",
    "fr": "m mm mme mlle mgr dr prof st ste av",
    "hi": "डॉ श्री",
    "it": "sig sig.ra sigg dott dott.ssa dr prof",
    "nl": "dhr mevr mw dr drs ir prof bijv",
    "pl": "p dr prof ul al św np m.in",
    "pt": "sr sra srta dr dra prof profa av",
    "ru": "г ул пр д им проф т.е т.к",
    "sv": "hr fr dr prof t.ex bl.a",
    "tr": "dr prof sn",
}
"""Abbreviations, by language, that always belong to what follows them."""
_BEFORE_NUMBERS = {
    "en": "no nos vol p pp fig eq sec ch art ext tel apt approx jan feb mar apr jun jul aug sep sept oct nov dec "
    "mon tue tues wed thu thur thurs fri sat sun",
    "de": "nr bd s abb tel ca jan feb aug sept okt nov dez",
    "es": "núm n.º vol p pp tel aprox",
    "fr": "no n.º vol p pp tél env",
    "it": "n num vol p pp tel ca",
    "nl": "nr blz tel ca",
    "pl": "nr str tel ok",
    "pt": "n núm vol p pp tel aprox",
    "ru": "стр гл рис тел",
    "sv": "nr s tel ca",
}
"""Abbreviations, by language, that belong to a number behind them, but may otherwise end a sentence."""

_ORDINALS = frozenset(["cs", "da", "de", "et", "fi", "hr", "hu", "is", "lv", "nb", "nn", "no", "pl", "sk", "sl", "tr"])
"""Languages that write "the third" as ``3.``: a full stop after a small number does not end a sentence."""

_INITIALS = re.compile(r"(?!I$)[^\W\d_](\.[^\W\d_])*")
"""``J``, ``J.R.R``, ``U.S``; not the pronoun ``I``."""
_WORD = re.compile(r"[^\s(\"'“‘«¿¡\[]*$")
"""The last word, without brackets and quotes before it."""
_SMALL_NUMBER = re.compile(r"\d{1,2}")
_LIST_NUMBER = re.compile(r"\s*\d{1,3}\s*")


# Character by character and without a look back: each token of each answer passes here, so its cost must not grow with
# the length of the answer. What was released is forgotten; where the search has been is kept in _looked.
class SentenceChunker:
    """Cuts streamed text into sentences.

    The first sentence of a reply is released as soon as it is finished, whatever its length, because the caller is
    waiting. A later one that is shorter than ``min_sentence_len`` characters joins the next. With
    ``aggressive_first_flush`` the first piece may also end at a comma, semicolon, colon or dash, from
    ``aggressive_first_min_len`` characters on. ``language`` (a BCP 47 tag) selects the abbreviations.

    Runs of white space become one space. Apart from white space, the text is never changed.
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
        tongue = language.lower().split("-")[0]
        self._before_names = frozenset(_BEFORE_NAMES.get(tongue, "").split())
        self._before_numbers = frozenset(_BEFORE_NUMBERS.get(tongue, "").split())
        self._ordinals = tongue in _ORDINALS
        self._ends = _SPACED_ENDS + (";" if tongue == "el" else "")  # as Greek writes a question mark
        self._min = min_sentence_len
        self._first_min = aggressive_first_min_len if aggressive_first_flush else None
        self.reset()

    def reset(self) -> None:
        """Forget everything. The next text begins a new reply."""
        self._text = ""  # what was not released, from its first non-space character on
        self._begin = 0  # where the sentence that is being read begins; those before it were too short
        self._looked = 0  # no end before here
        self._first = True

    def push(self, text: str) -> list[str]:
        """Take a piece of text; return the sentences that it completes."""
        self._text = (self._text + text).lstrip()
        released: list[str] = []
        while (end := self._next_end()) is not None:
            sentence = _one_line(self._text[:end])
            if self._first or len(sentence) >= self._min:
                released.append(sentence)
                self._text = self._text[end:].lstrip()
                self._begin = self._looked = 0
                self._first = False
            else:
                self._begin = self._looked = end
        return released

    def flush(self) -> list[str]:
        """Return what is left of the text, which is complete, and begin anew."""
        rest = _one_line(self._text)
        self.reset()
        return [rest] if rest else []

    def _next_end(self) -> int | None:
        """Return where the sentence ends, once the character that proves it has arrived."""
        for position in range(self._looked, len(self._text)):
            end = self._end_at(position)
            if end is None:
                continue
            behind = self._text[end:].lstrip()
            if not behind:
                # The character that decides is still to come: look here again with more text.
                self._looked = position
                return None
            if self._is_end(position, end, behind[0]):
                return end
        self._looked = len(self._text)
        return None

    def _end_at(self, position: int) -> int | None:
        """Return where the sentence would end with the mark at ``position``; None if that is not a mark."""
        text, mark = self._text, self._text[position]
        if mark == "\n":
            return position
        unspaced = mark in _UNSPACED_ENDS or mark in _UNSPACED_CLAUSE_ENDS
        if not unspaced and mark not in self._ends and mark not in _SPACED_CLAUSE_ENDS:
            return None
        end = position + 1
        while end < len(text) and text[end] in self._ends + _UNSPACED_ENDS:
            end += 1
        while end < len(text) and text[end] in _CLOSERS:
            end += 1
        return end if unspaced or end == len(text) or text[end].isspace() else None

    def _is_end(self, position: int, end: int, following: str) -> bool:
        """Return True if the sentence ends there, given the next non-space character."""
        mark = self._text[position]
        sentence = self._text[self._begin : position]
        # A full stop before a line break is judged as a full stop: "Dr." may stand at the end of a line.
        if mark == "\n" and sentence.rstrip().endswith("."):
            mark, sentence = ".", sentence.rstrip()[:-1]
        if (mark in _SPACED_CLAUSE_ENDS and mark not in self._ends) or mark in _UNSPACED_CLAUSE_ENDS:
            soft = self._first and self._first_min is not None
            return soft and len(_one_line(self._text[:end])) >= (self._first_min or 0)
        if _LIST_NUMBER.fullmatch(sentence) or not any(char.isalnum() for char in sentence):
            return False
        if mark in _UNSPACED_ENDS:  # what was quoted usually goes on without a space
            quoted = self._text[end - 1] in _CLOSERS and not self._text[end].isspace()
            return following not in _CLOSERS and (not quoted or following in _OPENERS)
        # Lower case goes on with the sentence, as in "e.g. this"; a closing guillemet still belongs to it.
        if following.islower() or following in "»›":
            return False
        return mark != "." or not self._is_abbreviation(sentence, following)

    def _is_abbreviation(self, sentence: str, following: str) -> bool:
        """Return True if the full stop behind ``sentence`` belongs to its last word."""
        match = _WORD.search(sentence)
        word = match.group() if match else ""
        if self._ordinals and _SMALL_NUMBER.fullmatch(word):
            before = sentence[: -len(word)].rstrip()
            # "Nr. 3." counts things; it is not an ordinal, so the full stop may end the sentence.
            counted = before.endswith(".") and before.split()[-1][:-1].lower() in self._before_numbers
            return not counted
        if word.lower() in self._before_names or (following.isdigit() and word.lower() in self._before_numbers):
            return True
        # "a.m." has the shape of initials, but often ends a sentence.
        return bool(_INITIALS.fullmatch(word)) and word.lower() not in {"a.m", "p.m"} and word.isupper()


def _one_line(text: str) -> str:
    return " ".join(text.split())
