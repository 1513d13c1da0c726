"""The text of one reply, from the pieces of its answer to the texts for the TTS. Pure, with time as an argument.

The pieces are filtered and cut into sentences (:mod:`patter_trio.conversation.sentences`); text that has waited too
long for the end of its sentence (:mod:`patter_trio.conversation.pacing`) is cut where that sounds best.
"""

from patter_trio.conversation.pacing import Cut, Pacing
from patter_trio.conversation.sentences import SentenceChunker
from patter_trio.conversation.text import TextFilter
from patter_trio.conversation.written import Gaps
from patter_trio.scripts import is_unspaced


def _goes_on(before: str, text: str) -> bool:
    """Return True if a piece of text goes on with the last word of the piece before it."""
    if not (before[-1:].isalnum() and text[:1].isalnum()):
        return False
    # Without spaces between words, it is unknown.
    return not (is_unspaced(before[-1]) or is_unspaced(text[0]))


class ReplyText:
    """The text of one reply that is on its way to the TTS.

    Args:
        language: the language, for splitting sentences.
        text_filter: filters the text before it is cut; None: it is spoken as it is.
    """

    def __init__(self, language: str, text_filter: TextFilter | None) -> None:
        self._chunker = SentenceChunker(language=language)
        self._filter = text_filter
        self._pacing = Pacing()
        self._gaps = Gaps()
        self._paused = False
        self._last = ""
        self._splits_words = False
        """True once a piece has gone on with the word of the piece before it."""

    def __repr__(self) -> str:
        return f"<ReplyText {self._pacing!r}>"

    def push(self, text: str, now: float) -> list[str]:
        """Take a piece of text; return the sentences that it completes or, if that takes too long, a part of one."""
        self._paused = False
        self._splits_words = self._splits_words or _goes_on(self._last, text)
        self._last = text or self._last
        return self._push(text if self._filter is None else self._filter.push(text), now) or self.late(now)

    def late(self, now: float) -> list[str]:
        """Return the part of the text that has waited too long for the end of its sentence."""
        cut = self._pacing.due(now)
        if cut is None:
            return []
        if not self._paused or self._splits_words:
            return self._released(self._chunker.release(within_clause=cut is Cut.WORD), now)
        # A source that reports its pauses mostly gives whole words. One that passes on a model's tokens does not, and
        # its pause may be a stall in the middle of a word.
        return self._released(self._chunker.pause(long=True), now) if cut is Cut.WORD else []

    def next_late(self, now: float) -> float:
        """Return the next instant at which :meth:`late` may return more than now; infinite if none is known."""
        return self._pacing.next_due(now)

    def pause(self, now: float) -> list[str]:
        """Return the sentences that end here, because nothing follows for a moment."""
        self._paused = True
        cut = self._push("" if self._filter is None else self._filter.pause(), now)
        return [*cut, *self._released(self._chunker.pause(), now)]

    def rest(self, now: float) -> list[str]:
        """Return all text that waits, because nothing follows that belongs to it."""
        cut = self._push("" if self._filter is None else self._filter.flush(), now)
        return [*cut, *self._released(self._chunker.flush(), now)]

    def begin_anew(self) -> None:
        """Begin text that does not go on with the text before it; that has been handed over."""
        self._gaps.restart()

    def gap_before(self, sentence: str) -> str | None:
        """Return what stood before a sentence in the text as it was generated; None if that is unknown."""
        return self._gaps.before(sentence)

    def _push(self, plain: str, now: float) -> list[str]:
        """Add text as it will be spoken; return the sentences that it completes."""
        self._gaps.add(plain)
        return self._released(self._chunker.push(plain), now)

    def _released(self, cut: list[str], now: float) -> list[str]:
        """Report to the pacing what the chunker gave out, and whether it still holds text."""
        for sentence in cut:
            self._pacing.released(sentence, now)
        if self._chunker.holds_text:
            self._pacing.waits(now)
        return cut
