"""What a Realtime session tells of the caller: utterances by their number, and what was said in them."""

from collections import deque

import attrs

from patter_trio.abc import EngineWords


@attrs.define(eq=False)
class _Utterance:
    """One commit: the vendor's items that it is made of, and the words of each; None: not known yet."""

    number: int
    items: dict[str, str | None] = attrs.field(factory=dict)
    partial: dict[str, str] = attrs.field(factory=dict)
    told: bool = False

    @property
    def known(self) -> bool:
        return bool(self.items) and all(text is not None for text in self.items.values())

    @property
    def text(self) -> str:
        return " ".join(text for item, words in self.items.items() if (text := words or self.partial.get(item, "")))


class Utterances:
    """Numbers the caller's utterances, and joins the vendor's items and their words to them."""

    def __init__(self) -> None:
        self._count = 0
        self._owed: deque[_Utterance] = deque()
        """Committed by us, and not confirmed yet."""
        self._open = _Utterance(0)
        """What the vendor has committed, and we have not."""
        self._waiting: list[_Utterance] = []
        """Those of which not all words are known."""

    def __repr__(self) -> str:
        return f"<Utterances {self._count}, {len(self._waiting)} without words>"

    @property
    def waits(self) -> bool:
        """Whether words are still to come."""
        return bool(self._waiting)

    def commit(self, *, by_vendor: bool) -> tuple[int, bool]:
        """Number the utterance that is over; return whether the vendor has to be told.

        With ``by_vendor`` it is made of what the vendor has committed by itself since the last; if that is nothing, it
        is told.
        """
        self._count += 1
        if by_vendor and self._open.items:
            utterance, self._open = self._open, _Utterance(0)
            utterance.number = self._count
            self._waiting.append(utterance)
            return self._count, False
        utterance = _Utterance(self._count)
        self._owed.append(utterance)
        self._waiting.append(utterance)
        return self._count, True

    def discard(self) -> None:
        """What the vendor has committed by itself was no utterance."""
        self._open = _Utterance(0)

    def committed(self, item: str) -> bool:
        """Take an item that holds what the caller said; return whether the vendor has made it by itself."""
        if self._owed:
            self._owed.popleft().items[item] = None
            return False
        self._open.items[item] = None
        return True

    def refused(self) -> list[EngineWords]:
        """The vendor does not take the oldest commit: there will be no words."""
        if not self._owed:
            return []
        self._owed[0].items[""] = ""
        return self._settled(self._owed.popleft())

    def heard(self, item: str, text: str, *, final: bool) -> list[EngineWords]:
        """Take words of an item: a piece more of them, or all."""
        utterance = next((one for one in [*self._waiting, self._open] if item in one.items), None)
        if utterance is None:
            return []
        if final:
            utterance.items[item] = text.strip()
        else:
            utterance.partial[item] = utterance.partial.get(item, "") + text
        if utterance.number and not final:
            return [EngineWords(utterance.number, utterance.text.strip(), final=False)]
        return self._settled(utterance)

    def late(self) -> list[EngineWords]:
        """Return the words of a commit all of which were known before."""
        return self._settled(self._waiting[-1]) if self._waiting else []

    def lost(self) -> list[EngineWords]:
        """The connection is over: there will be no more words than there are."""
        waiting, self._waiting = self._waiting, []
        self._owed.clear()
        self._open = _Utterance(0)
        return [EngineWords(one.number, one.text.strip(), final=True) for one in waiting]

    def _settled(self, utterance: _Utterance) -> list[EngineWords]:
        if not utterance.number or not utterance.known or utterance not in self._waiting:
            return []
        self._waiting.remove(utterance)
        return [EngineWords(utterance.number, utterance.text.strip(), final=True)]
