"""Conversion of positions in the caller's audio to times on the call's clock."""

from typing import Final

from patter_trio.audio.formats import RATE_HZ

# Judged: a network is rarely late by more. Above it, positions would lag behind for the rest of the call.
MAX_ARRIVAL_DELAY_S: Final = 1.0
"""Longest delay, in seconds, of audio that counts as late. Audio that arrives later than that counts as interrupted."""


class MediaClock:
    """Estimate, from arrivals, of when the caller's sample 0 was spoken.

    Audio can arrive late, but never before it was spoken: the earliest arrival, relative to its position, is the
    closest to the truth. If the carrier sent nothing for a while, positions stand still while time goes on: the clock
    then starts anew.
    """

    def __init__(self) -> None:
        self.start: float | None = None
        """Time at which the first sample was spoken, by the arrival of its own frame; the zero of call time."""
        self._zero = 0.0
        self.samples: int = 0
        """Samples that have arrived so far."""

    def arrived(self, samples: int, now: float) -> None:
        """Record that ``samples`` more samples arrived at ``now``."""
        self.samples += samples
        # By the end of what has arrived: its first sample was spoken earlier by its length.
        zero = now - self.samples / RATE_HZ
        if self.start is None:
            self.start = self._zero = zero
        # Earlier than ever: nearer to the truth. Much later: the carrier left out audio, and positions have stood
        # still.
        elif zero < self._zero or zero - self._zero > MAX_ARRIVAL_DELAY_S:
            self._zero = zero

    def time_of(self, position: int) -> float:
        """Return when the sample at ``position`` was spoken."""
        return self._zero + position / RATE_HZ
