"""The caller's words that have not been answered yet: final ones, and interim ones that may still change."""

from collections.abc import Iterable

import attrs


@attrs.frozen
class Piece:
    """Words of one STT segment."""

    text: str
    segment: int


def joined(pieces: Iterable[Piece]) -> str:
    """Return the pieces as one text."""
    return " ".join(piece.text for piece in pieces if piece.text)


@attrs.define
class Utterance:
    """The words since the last commit. Interim words are kept per segment, and stand after the final ones."""

    finals: list[Piece] = attrs.field(factory=list)
    interims: dict[int, str] = attrs.field(factory=dict)
    is_significant: bool = False
    """True if any of its voices was long enough to interrupt the agent. Such an utterance is never dropped."""
    _judged: int = 0
    """How many words were already found too few to interrupt the agent."""

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

    def voice(self, *, remark: bool) -> None:
        """Record a voice whose words are not known here.

        A ``remark`` is a voice over the agent that was too short to interrupt it.
        """
        # Never back to False: a long voice followed by a short one is still worth an answer.
        self.is_significant = self.is_significant or not remark
        if not self:
            # An empty piece makes the utterance true, so that it is committed although no words are known.
            self.finals.append(Piece("", 0))

    @property
    def pieces(self) -> list[Piece]:
        """All words, in order."""
        return [*self.finals, *(Piece(text, segment) for segment, text in self.interims.items())]

    @property
    def unjudged_words(self) -> int:
        """The number of words that have not been judged too few to interrupt the agent."""
        return self._count() - self._judged

    def mark_judged(self) -> None:
        """Exclude the present words from ``unjudged_words``: short remarks a while apart do not add up to an interruption."""
        self._judged = self._count()

    def take(self) -> list[Piece]:
        """Return all words, and begin a new utterance."""
        pieces = self.pieces
        self.finals, self.interims, self.is_significant, self._judged = [], {}, False, 0
        return pieces

    def __bool__(self) -> bool:
        """Return True if there are words."""
        # By the pieces, not by their text: an empty piece is the voice of a caller whose words an engine knows.
        return bool(self.finals or self.interims)

    def _count(self) -> int:
        return sum(len(piece.text.split()) for piece in self.pieces)
