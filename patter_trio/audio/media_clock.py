"""From positions in the caller's audio to times on the call's clock."""

from typing import Final

from patter_trio.audio.formats import RATE

MAX_ARRIVAL_DELAY_S: Final = 1.0
"""Seconds by which audio may arrive later than it should before it counts as interrupted rather than delayed."""


class MediaClock:
    """Learns from arrivals when the caller's sample 0 was spoken.

    Audio can arrive late, but never before it was spoken: the earliest arrival, seen from its position, is the nearest
    to the truth. When the carrier sent nothing for a while, positions stand still and times do not: the clock starts anew.
    """

    def __init__(self) -> None:
        self.start: float | None = None
        """When the first sample was spoken, by its own frame's arrival; the zero of call time."""
        self._zero = 0.0
        self.samples: int = 0
        """Samples that arrived so far."""

    def arrived(self, samples: int, now: float) -> None:
        """Take note of so many samples more, just arrived."""
        self.samples += samples
        zero = now - self.samples / RATE
        if self.start is None:
            self.start = self._zero = zero
        elif zero < self._zero or zero - self._zero > MAX_ARRIVAL_DELAY_S:
            self._zero = zero

    def time_of(self, position: int) -> float:
        """Return when the sample at ``position`` was spoken."""
        return self._zero + position / RATE
