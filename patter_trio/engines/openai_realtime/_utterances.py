"""A Realtime session's record of the caller: utterances by number, and their words."""

import math
from collections import deque
from typing import Final

import attrs

from patter_trio.abc import EngineWords
from patter_trio.audio.formats import RATE_HZ

# Judged. The audio is only for a lost connection: without it an utterance is not answered again.
MAX_KEPT_BYTES: Final = 60 * RATE_HZ
"""Most bytes of the caller's audio that are kept until its words are known."""
# Judged. The call waits only 2 s for them (``call/input/late_transcripts.py``); this is when the session forgets.
TRANSCRIPT_TIMEOUT_S: Final = 10.0
"""Seconds after a commit for which its words are awaited; usually they take about one."""


@attrs.define(eq=False)
class _Utterance:
    """One commit: the vendor's items in it, and the words of each item; None: not known yet."""

    number: int
    until: float = math.inf
    """Time at which its words are given up."""
    items: dict[str, str | None] = attrs.field(factory=dict)
    partial: dict[str, str] = attrs.field(factory=dict)
    audio: bytes = attrs.field(default=b"", repr=False)
    """Audio of the utterance, until its words are known."""

    @property
    def known(self) -> bool:
        # All of its items: the vendor may have divided an utterance into several.
        return bool(self.items) and all(text is not None for text in self.items.values())

    @property
    def text(self) -> str:
        # Partial words stand in for an item whose final ones have not come.
        return " ".join(text for item, words in self.items.items() if (text := words or self.partial.get(item, "")))


class CommittedUtterances:
    """The numbers of the caller's utterances, with the vendor's items and words for each."""

    def __init__(self) -> None:
        self._count = 0
        self._owed: deque[_Utterance] = deque()
        """Committed by us, and neither confirmed nor refused yet."""
        self._stopped = ""
        """The item last announced by the vendor, which it is about to commit by itself."""
        self._open = _Utterance(0)
        """Items that the vendor has committed, and we have not."""
        self._waiting: list[_Utterance] = []
        """Utterances some of whose words are not known."""

    def __repr__(self) -> str:
        return f"<Utterances {self._count}, {len(self._waiting)} without words>"

    @property
    def waits(self) -> bool:
        """True if words are still to come, or a commit of the vendor awaits a decision."""
        return bool(self._waiting or self._open.items)

    @property
    def due(self) -> float:
        """Time at which the next words are given up; infinite if no words are awaited."""
        return min((one.until for one in self._waiting), default=math.inf)

    def commit(self, audio: bytes, now: float, *, by_vendor: bool) -> tuple[int, bool]:
        """Number the utterance that is over; return its number, and True if the vendor needs a request to commit.

        With ``by_vendor`` the utterance consists of the items that the vendor has committed by itself since the last
        one; without such items, the vendor needs the request. The words are given up
        :data:`TRANSCRIPT_TIMEOUT_S` seconds after ``now``. ``audio`` is kept until the words are known; all kept audio
        has at most :data:`MAX_KEPT_BYTES` bytes.
        """
        self._count += 1
        utterance = _Utterance(self._count)
        by_itself = by_vendor and bool(self._open.items)
        if by_itself:
            utterance, self._open = self._open, _Utterance(0)
            utterance.number = self._count
        else:
            self._owed.append(utterance)
        utterance.audio, utterance.until = audio, now + TRANSCRIPT_TIMEOUT_S
        self._waiting.append(utterance)
        # The newest audio is kept first; older utterances lose theirs once the limit is reached.
        kept = 0
        for older in reversed(self._waiting):
            kept += len(older.audio)
            if kept > MAX_KEPT_BYTES:
                older.audio = b""
        return self._count, not by_itself

    def discard(self) -> list[str]:
        """Drop the vendor's own commits, which were not an utterance; return their items."""
        items, self._open = list(self._open.items), _Utterance(0)
        return items

    def committed(self, item: str) -> bool:
        """Record a committed item of the caller's audio; return True if it is a turn that the vendor found by itself.

        If a commit of ours is on its way, the two have crossed, and the vendor's turn is a part of our utterance. The
        vendor will confirm or refuse our commit as well.
        """
        if self._owed:
            self._owed[0].items[item] = None
            # An item that the vendor announced by itself crossed our commit, whose own item is still to come.
            if item != self._stopped:
                self._owed.popleft()
            return False
        self._open.items[item] = None
        return True

    def stopped(self, item: str) -> None:
        """Record that the vendor found the end of a voice, and will commit it as this item."""
        self._stopped = item

    def refused(self, number: int) -> list[EngineWords]:
        """Record that the vendor refused a commit.

        The commit has no words, unless the vendor committed the same audio by itself.
        """
        utterance = next((one for one in self._owed if one.number == number), None)
        if utterance is None:
            return []
        self._owed.remove(utterance)
        # A part without words: an utterance is known once each of its parts is.
        utterance.items[""] = ""
        return self._settled(utterance)

    def heard(self, item: str, text: str, *, final: bool) -> list[EngineWords]:
        """Record words of an item: its next piece, or all of them."""
        # Also the open one: the vendor may have transcribed before we committed.
        utterance = next((one for one in [*self._waiting, self._open] if item in one.items), None)
        if utterance is None:
            return []
        if final:
            utterance.items[item] = text.strip()
        else:
            utterance.partial[item] = utterance.partial.get(item, "") + text
        # Interim words are reported only of an utterance that has a number.
        if utterance.number and not final:
            return [EngineWords(utterance.number, utterance.text.strip(), final=False)]
        return self._settled(utterance)

    def late(self) -> list[EngineWords]:
        """Return the words of the newest commit if they were all known before it."""
        return self._settled(self._waiting[-1]) if self._waiting else []

    def overdue(self, now: float) -> list[EngineWords]:
        """Give up the overdue words; return what is known of them."""
        over = [one for one in self._waiting if one.until <= now]
        for one in over:
            self._waiting.remove(one)
            if one in self._owed:
                # Its confirmation is not awaited any more: the next one must not be taken for it.
                self._owed.remove(one)
        return [EngineWords(one.number, one.text.strip(), final=True) for one in over]

    def lost(self, now: float) -> tuple[list[EngineWords], list[tuple[int, bytes]]]:
        """Prepare for a new connection; return the utterances without further words, and those to commit again."""
        waiting = self._waiting
        # Without audio nothing can be sent again, so no words will come.
        self._waiting = [
            _Utterance(one.number, now + TRANSCRIPT_TIMEOUT_S, audio=one.audio) for one in waiting if one.audio
        ]
        # All of them are committed anew, in this order.
        self._owed = deque(self._waiting)
        self._open, self._stopped = _Utterance(0), ""
        unknown = [EngineWords(one.number, one.text.strip(), final=True) for one in waiting if not one.audio]
        return unknown, [(one.number, one.audio) for one in self._waiting]

    def _settled(self, utterance: _Utterance) -> list[EngineWords]:
        # An owed utterance may still get an item.
        if not utterance.number or not utterance.known or utterance not in self._waiting or utterance in self._owed:
            return []
        self._waiting.remove(utterance)
        return [EngineWords(utterance.number, utterance.text.strip(), final=True)]


def last_of(audio: bytes | bytearray, samples: int) -> bytes:
    """Return the end of some audio, at most ``samples`` samples."""
    return bytes(audio[-samples:]) if samples > 0 else b""
