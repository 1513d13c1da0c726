"""The caller's words that have not been answered yet: final ones, and interim ones that may still change."""

import math
from collections.abc import Iterable
from typing import Final

import attrs

from patter_trio.conversation.wording import count_words
from patter_trio.scripts import join

# No STT counts its segments from there.
TYPED_SEGMENT: Final = -1
"""The segment of all text that was typed and not spoken."""


@attrs.frozen
class Piece:
    """Words of one STT segment."""

    text: str
    segment: int

    @property
    def is_typed(self) -> bool:
        """True if the words were typed, and not spoken."""
        return self.segment == TYPED_SEGMENT


def joined(pieces: Iterable[Piece]) -> str:
    """Return the pieces as one text, with spaces between them where their script has spaces."""
    return join(piece.text for piece in pieces)


@attrs.define(eq=False)
class Message:
    """A committed message of the caller: the words of one or several utterances, with one entry in the history."""

    turn: int
    """The turn of its newest commit."""
    pieces: list[Piece]

    def extend(self, turn: int, pieces: Iterable[Piece]) -> None:
        """Add the words of a later turn."""
        self.turn = turn
        self.pieces = [*self.pieces, *pieces]

    def correct(self, segment: int, text: str) -> None:
        """Replace the words of a segment."""
        self.pieces = [Piece(text, segment) if piece.segment == segment else piece for piece in self.pieces]


@attrs.frozen
class Guess:
    """Interim words that were committed because their final words were late."""

    text: str
    message: Message


@attrs.define
class Utterance:
    """The words since the last commit. Interim words are kept per segment, and stand after the final ones."""

    finals: list[Piece] = attrs.field(factory=list)
    interims: dict[int, str] = attrs.field(factory=dict)
    corrects: bool = False
    """True if words of the message that it joins were corrected: that message is committed again."""
    is_significant: bool = False
    """True if any of its voices was long enough to interrupt the agent. Such an utterance is never dropped."""
    began: float = math.inf
    """The onset of its first voice; infinite if no voice was heard."""
    keys: str = ""
    """The keys that the caller has pressed, and that are not complete."""
    _judged: int = 0
    """How many words were already found too few to interrupt the agent."""

    def date(self, onset: float) -> None:
        """Record that the words that come next belong to a voice with this onset."""
        # Words that came to nothing do not date those of a later voice.
        self.began = min(onset, self.began) if self else onset

    def interim(self, text: str, segment: int) -> None:
        """Replace the segment's interim words; an empty text removes them."""
        if text:
            self.interims[segment] = text
        else:
            self.interims.pop(segment, None)

    def final(self, text: str, segment: int) -> None:
        """Replace the segment's interim words by its final ones."""
        # First: otherwise the same words would stand in the utterance twice, once as a guess.
        self.interims.pop(segment, None)
        if text:
            self.finals.append(Piece(text, segment))

    def join_correction(self) -> None:
        """Record that words of the message that the utterance joins were corrected."""
        self.corrects = True

    def voice(self, *, remark: bool) -> None:
        """Record a voice whose words are not known here.

        A ``remark`` is a voice over the agent that was too short to interrupt it.
        """
        # Never back to False: a long voice followed by a short one is still worth an answer.
        self.is_significant = self.is_significant or not remark
        if all(piece.is_typed for piece in self.finals):
            # An empty piece makes the utterance true, so that it is committed although no words are known.
            self.finals.append(Piece("", 0))

    def press(self, key: str) -> None:
        """Add a key to those that are not complete."""
        self.keys += key

    def take_keys(self) -> str:
        """Return the keys so far, and begin anew."""
        keys, self.keys = self.keys, ""
        return keys

    def type(self, text: str) -> None:
        """Add a text that was typed. It is never a remark that could be dropped."""
        self.is_significant = True
        self.finals.append(Piece(text, TYPED_SEGMENT))

    @property
    def pieces(self) -> list[Piece]:
        """All words, in order."""
        return [*self.finals, *(Piece(text, segment) for segment, text in self.interims.items())]

    @property
    def text(self) -> str:
        """All words as one text."""
        return joined(self.pieces)

    @property
    def unjudged_words(self) -> int:
        """The number of words that have not been judged too few to interrupt the agent."""
        return self._count() - self._judged

    def mark_judged(self) -> None:
        """Exclude the present words from ``unjudged_words``: remarks a while apart do not add up to an interruption."""
        self._judged = self._count()

    def take(self) -> list[Piece]:
        """Return all words, and begin a new utterance."""
        pieces = self.pieces
        # The keys stay: they become a message of their own, when they are complete.
        self.finals, self.interims, self.is_significant, self._judged = [], {}, False, 0
        self.corrects, self.began = False, math.inf
        return pieces

    def __bool__(self) -> bool:
        """Return True if there are words."""
        return bool(self.finals or self.interims or self.corrects)

    def _count(self) -> int:
        return sum(count_words(piece.text) for piece in self.pieces)
