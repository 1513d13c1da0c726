"""Announcements that are heard again, as of a menu that has not understood. Pure."""

from collections import deque
from difflib import SequenceMatcher
from typing import Final

from patter_trio.conversation.wording import count_words, same_words
from patter_trio.scripts import units

# Judged: an STT hears one announcement with a word or two of difference; two menus of the same company have more.
MIN_SIMILARITY: Final = 0.85
"""Share of common words from which on two texts count as the same announcement."""
# Judged: "Hello?" and "Please hold." are no menu.
MIN_WORDS: Final = 5
# Judged: a walk through a menu and back is shorter.
MAX_TEXTS: Final = 8
"""Texts that are remembered."""
MAX_COMPARED_WORDS: Final = 200
"""Words of a text that are compared: a minute of speech."""


class Repetitions:
    """The announcements that were heard last."""

    def __init__(self, language: str = "en") -> None:
        self._language = language
        self._texts: deque[str] = deque(maxlen=MAX_TEXTS)

    def __repr__(self) -> str:
        return f"<Repetitions, {len(self._texts)} texts>"

    def hear(self, text: str) -> bool:
        """Record a text. Return True if it was heard before."""
        if count_words(text) < MIN_WORDS:
            return False
        before = next((known for known in self._texts if self._is_same(known, text)), None)
        if before is None:
            self._texts.append(text)
        return before is not None

    def _is_same(self, one: str, other: str) -> bool:
        if same_words(one, other, self._language):
            return True
        ones, others = ([word.casefold() for word in units(text)[:MAX_COMPARED_WORDS]] for text in (one, other))
        # Not the junk heuristic, which leaves out frequent words: announcements consist of them.
        return SequenceMatcher(None, ones, others, autojunk=False).ratio() >= MIN_SIMILARITY
