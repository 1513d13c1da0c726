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
MAX_KEPT_SAMPLES: Final = int(MAX_KEPT_S * RATE_HZ)
"""The same in samples."""


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
        # Audio in one array and the rest by number: an object for each piece, kept for 10 s, would be looked at by each
        # full garbage collection, and would take the processor's cache from what is used now (7 % of a call's cost).
        self._audio = bytearray()
        self._width = 1  # bytes of a sample
        self._ends: deque[int] = deque()
        self._others: dict[int, VoiceEdge | FinalWordsRequest] = {}
        self._end = 0
        self.begin: int = 0
        """The first sample that is kept."""
        self.first: int = 0
        """The number of the oldest piece that is kept."""
        self.speaking: bool = False
        """True if the caller's voice is on where the tape begins."""

    def __repr__(self) -> str:
        return f"<Tape from piece {self.first} on, {(self._end - self.begin) / RATE_HZ:.2f} s>"

    def add(self, item: bytes | VoiceEdge | FinalWordsRequest, samples: int = 0) -> None:
        """Add a piece at the end; of audio, ``samples`` is its length."""
        if isinstance(item, bytes):
            self._audio += item
            # The same for all audio of a call; a piece without a sample does not show it.
            self._width = len(item) // samples if samples else self._width
        else:
            self._others[self.first + len(self._ends)] = item
        self._end += samples
        self._ends.append(self._end)
        # The newest audio is worth more: without a bound an STT that hangs would collect the whole call.
        while self._end - self.begin > MAX_KEPT_SAMPLES:
            self._drop()

    def get(self, number: int) -> Taped | None:
        """Return a piece; None behind the end."""
        place = number - self.first
        if place >= len(self._ends):
            return None
        begin, end = self._ends[place - 1] if place else self.begin, self._ends[place]
        if other := self._others.get(number):
            return Taped(begin, end, other)
        start, stop = ((sample - self.begin) * self._width for sample in (begin, end))
        return Taped(begin, end, bytes(self._audio[start:stop]))

    def forget(self, until: int, number: int) -> None:
        """Drop the pieces that end at a sample or before it, up to the one with a number, which stays."""
        while self.first < number and self._ends[0] <= until:
            self._drop()

    def _drop(self) -> None:
        end = self._ends.popleft()
        # From the front of an array, which moves nothing.
        del self._audio[: (end - self.begin) * self._width]
        self.begin = end
        gone = self._others.pop(self.first, None)
        self.first += 1
        if isinstance(gone, VoiceEdge):
            self.speaking = gone.speaking
