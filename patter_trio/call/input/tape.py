"""The audio of a call that another STT session would need, with the edges of the voice and the requests in it."""

from collections import deque
from typing import Final

import attrs

from patter_trio.abc import VoiceEdge
from patter_trio.audio.formats import RATE_HZ

# Judged: longer than nearly every sentence, and as long as an outage may last. More audio would take an STT longer to
# catch up.
MAX_KEPT_S: Final = 10.0
"""Most seconds of audio that are kept."""


class FinalWordsRequest:
    """A request for the final words of all audio before it."""


@attrs.frozen
class Taped:
    """A piece of the tape; ``begin`` and ``end`` are its samples at 8 kHz, since the first of the call."""

    begin: int
    end: int
    item: bytes | VoiceEdge | FinalWordsRequest


class Tape:
    """The last audio of a call, whose words are not final yet.

    Pieces are numbered from 0, over the whole call.
    """

    def __init__(self) -> None:
        self._pieces: deque[Taped] = deque()
        self._end = 0
        self.first: int = 0
        """The number of the oldest piece that is kept."""
        self.speaking: bool = False
        """True if the caller's voice is on where the tape begins."""

    def __repr__(self) -> str:
        return f"<Tape from piece {self.first} on, {(self._end - self.begin) / RATE_HZ:.2f} s>"

    @property
    def begin(self) -> int:
        """The first sample that is kept."""
        return self._pieces[0].begin if self._pieces else self._end

    def add(self, item: bytes | VoiceEdge | FinalWordsRequest, samples: int = 0) -> None:
        """Add a piece at the end; of audio, ``samples`` is its length."""
        self._pieces.append(Taped(self._end, self._end + samples, item))
        self._end += samples
        # The newest audio is worth more: without a bound an STT that hangs would collect the whole call.
        while self._end - self._pieces[0].begin > MAX_KEPT_S * RATE_HZ:
            self._drop()

    def get(self, number: int) -> Taped | None:
        """Return a piece; None behind the end."""
        place = number - self.first
        return self._pieces[place] if place < len(self._pieces) else None

    def forget(self, until: int, number: int) -> None:
        """Drop the pieces that end at a sample or before it, up to the one with a number, which stays."""
        while self.first < number and self._pieces[0].end <= until:
            self._drop()

    def _drop(self) -> None:
        gone = self._pieces.popleft()
        self.first += 1
        if isinstance(gone.item, VoiceEdge):
            self.speaking = gone.item.speaking
