"""Filters that make written text fit to be spoken: without Markdown, without emoji. Pure functions.

The three filters take and return text; they are meant for ``phone.agent(text_transforms=[...])``. They never lose a
word. They drop markup, the addresses behind links, and emoji. They also drop marks that have lost their partner,
because text is filtered sentence by sentence, and bold type may span several sentences.
"""

import re
from typing import Final, Protocol

from patter_trio.conversation.hidden_text import HiddenTextFilter
from patter_trio.conversation.markdown import MarkdownFilter, filter_markdown
from patter_trio.conversation.marks import (
    CLOSERS_OF_LINES,
    GOING_ON,
    SENTENCE_ENDS,
    SPACED_CLAUSE_ENDS,
    UNSPACED_CLAUSE_ENDS,
)
from patter_trio.scripts import is_unspaced

__all__ = ["SpeechFilter", "TextFilter", "filter_emoji", "filter_for_tts", "filter_markdown", "is_sayable"]

_HALF_A_CHARACTER: Final = re.compile("[\ud800-\udfff]")
"""A lone surrogate."""


def is_sayable(text: str) -> bool:
    """Return True if the text has no lone surrogates, which no TTS and no history could encode.

    ``json.loads`` makes them of an emoji that was cut in two.
    """
    return text.isascii() or not _HALF_A_CHARACTER.search(text)


# Emoji ----------------------------------------------------------------------------------------------------------------
# Unicode's emoji (UTS #51) by block, without the letters, numbers and musical signs in these blocks: they are text.
_PICTURE: Final = (
    "[\U0001f000-\U0001f0ff\U0001f10d-\U0001f10f\U0001f12f\U0001f16c-\U0001f171\U0001f17e\U0001f17f\U0001f18e"
    "\U0001f191-\U0001f1e5\U0001f201-\U0001f64f\U0001f680-\U0001f6ff\U0001f700-\U0001f7ff\U0001f90c-\U0001faff"
    "\u2600-\u266c\u2670-\u2767\u2794-\u27bf\u231a\u231b\u2328\u23cf\u23e9-\u23f3\u23f8-\u23fa\u25fb-\u25fe"
    "\u2b05-\u2b07\u2b1b\u2b1c\u2b50\u2b55]"
)
_EMOJI: Final = (
    f"(?:[\U0001f1e6-\U0001f1ff]|{_PICTURE}|[^\\w\\s#*]\ufe0f)"  # a flag's letter, a picture, a sign shown as one
    "(?:[\ufe0e\ufe0f\u20e3\U0001f3fb-\U0001f3ff\U000e0020-\U000e007f]"  # how it is shown: colour of skin, of flag
    f"|\u200d(?:{_PICTURE}|[^\\w\\s]\ufe0f))*"  # joined to another one
)
_KEYCAP: Final = re.compile("([0-9#*])\ufe0f?\u20e3")
_EMOJIS: Final = re.compile(f"(?<![ \t])(?P<before>[ \t]*){_EMOJI}(?:[ \t]*{_EMOJI})*(?P<after>[ \t]*)")
_EMOJI_REMAINS: Final = re.compile("[\ufe0e\ufe0f\u20e3]")
_CLOSING_MARKS: Final = GOING_ON + "\"'"


def filter_emoji(text: str) -> str:
    """Return the text without emoji, and without the white space around them. A keycap keeps its key."""
    if text.isascii():  # most texts
        return text
    return _EMOJI_REMAINS.sub("", _EMOJIS.sub(_gap, _KEYCAP.sub(r"\1", text)))


def _gap(match: re.Match[str]) -> str:
    """Return what replaces a run of emoji: a space where two words would otherwise touch."""
    text = match.string
    before = text[match.start() - 1] if match.start() else "\n"
    after = text[match.end()] if match.end() < len(text) else "\n"
    if "\n" in (before, after) or after in _CLOSING_MARKS:
        return ""
    apart = match["before"] or match["after"] or (before.isalnum() and after.isalnum())
    return " " if apart else ""


# All of it ------------------------------------------------------------------------------------------------------------
_INVISIBLE: Final = re.compile("[\u0000-\u0008\u000b-\u001f\u007f\u00ad\u200b\u2060\ufeff]")
"""Control characters, soft hyphens, zero-width characters."""
MAX_EMOJI_CHARACTERS: Final = 64
"""Characters at the end of a text in which the end of an emoji is looked for."""
_ENDS: Final = frozenset(SENTENCE_ENDS + SPACED_CLAUSE_ENDS + UNSPACED_CLAUSE_ENDS)
_RUNS: Final = re.compile(r"\s+|\S+")
_EMOJI_PART: Final = re.compile(
    f"{_PICTURE}|[\ufe0e\ufe0f\u20e3\u200d\U0001f1e6-\U0001f1ff\U0001f3fb-\U0001f3ff\U000e0020-\U000e007f]"
)


class TextFilter(Protocol):
    """A filter of a streamed text."""

    def push(self, text: str) -> str:
        """Take a piece of text; return what can be spoken by now."""

    def pause(self) -> str:
        """Return what is held back only to see the next character, because none comes for a moment."""

    def flush(self) -> str:
        """Return the rest of the text, which is complete, and begin anew."""


class SpeechFilter:
    """:func:`filter_for_tts` for a streamed text: what it gives does not depend on how the text was cut into pieces."""

    def __init__(self) -> None:
        self._hidden = HiddenTextFilter()
        self._markdown = MarkdownFilter()
        self._emoji = _EmojiFilter()
        self._line = _OneLine()

    def __repr__(self) -> str:
        return f"<SpeechFilter, {self._hidden!r}, {self._markdown!r}>"

    def push(self, text: str) -> str:
        """Take a piece of text; return what can be spoken by now."""
        shown = self._hidden.push(_INVISIBLE.sub("", text.replace("\r", "\n")))
        return self._line.push(self._emoji.push(self._markdown.push(shown)))

    def pause(self) -> str:
        """Return marks at the end of the text so far, because no more text comes for a moment."""
        marks = self._emoji.push(self._markdown.pause()) + self._emoji.pause()
        return self._line.push(marks) + self._line.pause()

    def flush(self) -> str:
        """Return the rest of the text, which is complete, and begin anew."""
        rest = self._markdown.push(self._hidden.flush()) + self._markdown.flush()
        said = self._line.push(self._emoji.push(rest) + self._emoji.flush())
        self._line = _OneLine()
        return said


class _EmojiFilter:
    """:func:`filter_emoji` for a streamed text."""

    def __init__(self) -> None:
        self._text = ""
        self._letter = (
            ""  # the last character that was given, if it is a letter: the space around an emoji depends on it
        )

    def push(self, text: str) -> str:
        self._text += text
        return self._given(_last_boundary(self._text))

    def pause(self) -> str:
        return self._given(len(self._text))

    def flush(self) -> str:
        said = self._given(len(self._text))
        self._letter = ""
        return said

    def _given(self, end: int) -> str:
        if end == 0:
            return ""
        said = filter_emoji(self._letter + self._text[:end])[len(self._letter) :]
        last, self._text = self._text[end - 1], self._text[end:]
        self._letter = last if last.isalpha() else ""
        return said


def _last_boundary(text: str) -> int:
    """Return a late place that no emoji, nor the white space around one, reaches across; 0 if none is near the end."""
    for place in range(len(text), max(0, len(text) - MAX_EMOJI_CHARACTERS), -1):
        before = text[place - 1]
        # No emoji begins with a letter, and the filter remembers it.
        if before.isalpha() and not _EMOJI_PART.match(before):
            return place
        behind, after = text[place : place + 1], text[place + 1 : place + 2]
        # A sign may become an emoji by the character behind it, which must be known.
        plain = (
            behind.isalnum() or behind == "_" or (after and after not in "\ufe0e\ufe0f\u20e3" and behind.isprintable())
        )
        if not plain or behind.isspace() or _EMOJI_PART.match(behind):
            continue
        before = text[max(0, place - MAX_EMOJI_CHARACTERS) : place].rstrip(" \t\n")[-1:]
        if before and not _EMOJI_PART.match(before):
            return place
    return 0


class _OneLine:
    """Joins lines with full stops and runs of white space to single spaces; nothing is left at the ends."""

    def __init__(self) -> None:
        self._space = ""  # the white space since the last word
        self._begun = False
        self._ended = True  # the last word has a mark at its end
        self._last = ""

    def push(self, text: str) -> str:
        said: list[str] = []
        for run in _RUNS.findall(text):
            if run[0].isspace():
                self._space += "\n" if "\n" in run else " "
                continue
            if self._begun and self._space:
                if "\n" in self._space and not self._ended:
                    said.append("。" if is_unspaced(self._last) else ".")
                said.append(" ")
            said.append(run)
            self._begun, self._space = True, ""
            self._last = run[-1]
            word = run.rstrip(CLOSERS_OF_LINES)
            if word:
                self._ended = word[-1] in _ENDS
        return "".join(said)

    def pause(self) -> str:
        """Return a line break at the end of the text so far; the full stop for it would come with the next word."""
        if "\n" not in self._space or self._ended:
            return ""
        self._space, self._ended = "", True
        return "\n"


def filter_for_tts(text: str) -> str:
    """Return the text as one line to be spoken: no Markdown, no HTML, no emoji, no invisible characters.

    A line that ends without punctuation gets a full stop, because its end means a pause. Reasoning (``<think>``) and
    tool calls that a model has written into its text are removed.

    This filter is the default of ``phone.agent(text_transforms=None)``, where it is applied to the text as it is
    generated. In a list of ``text_transforms`` it does the same.
    """
    whole = SpeechFilter()
    return whole.push(text) + whole.flush()
