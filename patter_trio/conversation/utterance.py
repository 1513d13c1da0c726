"""What the caller has said and nobody has answered yet: final words, and those that may still change."""

from collections.abc import Iterable

import attrs


@attrs.frozen
class Piece:
    """Words of one segment."""

    text: str
    segment: int


def joined(pieces: Iterable[Piece]) -> str:
    """Return the pieces as one text."""
    return " ".join(piece.text for piece in pieces if piece.text)


@attrs.define
class Utterance:
    """The words since the last commit. Interim ones are kept per segment, after the final ones."""

    finals: list[Piece] = attrs.field(factory=list)
    interims: dict[int, str] = attrs.field(factory=dict)
    weighs: bool = False
    """Among its voices is one that was no remark, so that it is never dropped."""
    _judged: int = 0

    def interim(self, text: str, segment: int) -> None:
        """Put words in the place of the segment's last ones; an empty text takes them back."""
        if text:
            self.interims[segment] = text
        else:
            self.interims.pop(segment, None)

    def final(self, text: str, segment: int) -> None:
        """Close a segment."""
        self.interims.pop(segment, None)
        if text:
            self.finals.append(Piece(text, segment))

    def voice(self, *, remark: bool) -> None:
        """Note a voice whose words are not known here; a ``remark`` was too short to interrupt the agent it was over."""
        self.weighs = self.weighs or not remark
        if not self:
            self.finals.append(Piece("", 0))

    @property
    def pieces(self) -> list[Piece]:
        """All words, in order."""
        return [*self.finals, *(Piece(text, segment) for segment, text in self.interims.items())]

    @property
    def fresh(self) -> int:
        """How many words there are that were not yet found too few to interrupt."""
        return self._count() - self._judged

    def judge(self) -> None:
        """Count from here on: short remarks a while apart do not add up to an interruption."""
        self._judged = self._count()

    def take(self) -> list[Piece]:
        """Return all words and begin anew."""
        pieces = self.pieces
        self.finals, self.interims, self.weighs, self._judged = [], {}, False, 0
        return pieces

    def __bool__(self) -> bool:
        """Whether there are words."""
        return bool(self.finals or self.interims)

    def _count(self) -> int:
        return sum(len(piece.text.split()) for piece in self.pieces)
