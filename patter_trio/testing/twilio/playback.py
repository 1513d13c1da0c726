"""The two directions of a simulated line, without clock or I/O: what the caller says, and what is played to the caller.

Times are seconds since the media began; audio is mu-law, 8000 samples a second.
"""

import math
from collections import deque
from collections.abc import Sequence
from typing import Final

import attrs

from patter_trio.audio.formats import RATE
from patter_trio.audio.g711 import SILENCE

_TOLERANCE_SAMPLES: Final = 1e-3
"""Part of a sample that times may be off by their arithmetic."""


@attrs.frozen
class Stretch:
    """Audio without a gap, from ``at`` on."""

    at: float
    audio: bytes

    @property
    def until(self) -> float:
        """When it ends."""
        return self.at + len(self.audio) / RATE


class CallerAudio:
    """What the caller says: audio that was scheduled, silence in between, handed out in frames."""

    def __init__(self) -> None:
        self._scheduled: deque[tuple[int, bytes]] = deque()
        self._end = 0
        self.said: bytearray = bytearray()
        """All that was handed out, from the first sample on."""

    def say(self, audio: bytes, now: float) -> tuple[float, float]:
        """Speak from ``now`` on, or after what is being said; return begin and end."""
        start = max(len(self.said), self._end, math.floor(now * RATE + _TOLERANCE_SAMPLES))
        self._scheduled.append((start, audio))
        self._end = start + len(audio)
        return start / RATE, self._end / RATE

    def take(self, count: int) -> bytes:
        """Return the next samples."""
        first = len(self.said)
        frame = bytearray([SILENCE]) * count
        while self._scheduled and self._scheduled[0][0] < first + count:
            start, audio = self._scheduled.popleft()
            room = first + count - start
            frame[start - first : start - first + min(room, len(audio))] = audio[:room]
            if len(audio) > room:
                self._scheduled.appendleft((start + room, audio[room:]))
                break
        self.said += frame
        return bytes(frame)


class PhonePlayback:
    """The carrier's buffer towards the caller: plays in order, from arrival on, one second per 8000 bytes.

    A mark is due when all that arrived before it has been played, so at once when the buffer is empty. ``clear`` empties
    the buffer, and every mark that waited is due at once.
    """

    def __init__(self) -> None:
        self._stretches: list[tuple[int, bytes]] = []
        self._end = 0  # number of the sample at which the buffer runs empty
        self._marks: deque[tuple[int, str]] = deque()

    def media(self, audio: bytes, now: float) -> None:
        """Take audio that arrived."""
        start = max(self._end, math.ceil(now * RATE - _TOLERANCE_SAMPLES))
        self._stretches.append((start, audio))
        self._end = start + len(audio)

    def mark(self, name: str, now: float) -> None:
        """Take a mark that arrived."""
        self._marks.append((max(self._end, math.floor(now * RATE + _TOLERANCE_SAMPLES)), name))

    @property
    def next_mark(self) -> float:
        """When the next mark is due; infinite without one."""
        return self._marks[0][0] / RATE if self._marks else math.inf

    def reached(self, now: float) -> list[str]:
        """Return, and forget, the marks that are due."""
        names = []
        while self._marks and self._marks[0][0] <= now * RATE + _TOLERANCE_SAMPLES:
            names.append(self._marks.popleft()[1])
        return names

    def clear(self, now: float) -> list[str]:
        """Stop what is being played; return, and forget, the marks that waited."""
        names = [name for _, name in self._marks]
        self._marks.clear()
        end = math.floor(now * RATE + _TOLERANCE_SAMPLES)
        self._stretches = [(start, audio[: end - start]) for start, audio in self._stretches if start < end]
        self._end = min(self._end, end)
        return names

    def played(self, now: float) -> list[Stretch]:
        """Return what the caller has heard up to ``now``, joined where there was no gap."""
        end = math.floor(now * RATE + _TOLERANCE_SAMPLES)
        joined: list[tuple[int, list[bytes]]] = []
        reach = -1
        for start, audio in self._stretches:
            if start >= end:
                break
            if start != reach:
                joined.append((start, []))
            joined[-1][1].append(audio[: end - start])
            reach = start + len(audio)
        return [Stretch(start / RATE, b"".join(pieces)) for start, pieces in joined]


def whole(stretches: Sequence[Stretch], seconds: float) -> bytes:
    """Return the stretches as one piece of audio of that length, with silence in the gaps."""
    audio = bytearray([SILENCE]) * round(seconds * RATE)
    for stretch in stretches:
        start = round(stretch.at * RATE)
        room = len(audio) - start
        audio[start : start + len(stretch.audio)] = stretch.audio[: max(0, room)]
    return bytes(audio)
