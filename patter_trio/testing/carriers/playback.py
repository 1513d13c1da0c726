"""The two directions of a simulated line, without clock or I/O: the caller's audio, and the audio played to the caller.

Times are seconds since the media began; audio is mu-law, 8000 samples a second.
"""

import math
from collections import deque
from collections.abc import Sequence
from typing import Final

import attrs

from patter_trio.audio.formats import RATE_HZ
from patter_trio.audio.g711 import SILENCE_BYTE

# Far more than the error of a sum of instants, far less than anything audible.
_TOLERANCE_SAMPLES: Final = 1e-3
"""Fraction of a sample by which times may be off because of floating-point arithmetic."""


@attrs.frozen
class Stretch:
    """Audio without a gap, starting at ``at``."""

    at: float
    audio: bytes

    @property
    def until(self) -> float:
        """The time of the end."""
        return self.at + len(self.audio) / RATE_HZ


class CallerAudio:
    """The caller's audio: scheduled utterances with silence between them, returned in frames."""

    def __init__(self) -> None:
        # In whole samples from here on: sums of fractions would drift from the audio.
        self._scheduled: deque[tuple[int, bytes]] = deque()
        self._end = 0
        self.said: bytearray = bytearray()
        """All audio that was returned, from the first sample on."""

    def say(self, audio: bytes, now: float) -> tuple[float, float]:
        """Schedule audio from ``now`` on, or after the current utterance; return its begin and end."""
        # Never before what was already taken: that frame is on its way. Rounded down, for
        # a caller who speaks within a sample.
        start = max(len(self.said), self._end, math.floor(now * RATE_HZ + _TOLERANCE_SAMPLES))
        self._scheduled.append((start, audio))
        self._end = start + len(audio)
        return start / RATE_HZ, self._end / RATE_HZ

    def take(self, count: int) -> bytes:
        """Return the next samples."""
        first = len(self.said)
        frame = bytearray([SILENCE_BYTE]) * count
        while self._scheduled and self._scheduled[0][0] < first + count:
            start, audio = self._scheduled.popleft()
            room = first + count - start
            frame[start - first : start - first + min(room, len(audio))] = audio[:room]
            if len(audio) > room:
                # The rest goes into the next frame; nothing scheduled later can begin before it.
                self._scheduled.appendleft((start + room, audio[room:]))
                break
        self.said += frame
        return bytes(frame)


class PhonePlayback:
    """The carrier's buffer towards the caller: it plays audio in order, from its arrival on, 8000 bytes a second.

    A mark is due when all audio that arrived before it has been played; with an empty buffer, at once. ``clear``
    empties the buffer, and makes every waiting mark due at once.
    """

    def __init__(self) -> None:
        self._stretches: list[tuple[int, bytes]] = []
        self._end = 0  # number of the sample at which the buffer runs empty
        self._marks: deque[tuple[int, str]] = deque()

    def media(self, audio: bytes, now: float) -> None:
        """Add audio that arrived."""
        # Rounded up: what arrives within a sample's time is played with the next one.
        start = max(self._end, math.ceil(now * RATE_HZ - _TOLERANCE_SAMPLES))
        self._stretches.append((start, audio))
        self._end = start + len(audio)

    def mark(self, name: str, now: float) -> None:
        """Add a mark that arrived."""
        # On an empty buffer it is due at the sample that is being played, so it is returned at once.
        self._marks.append((max(self._end, math.floor(now * RATE_HZ + _TOLERANCE_SAMPLES)), name))

    def is_playing(self, now: float) -> bool:
        """Return True if audio is in the buffer."""
        return self._end > now * RATE_HZ + _TOLERANCE_SAMPLES

    @property
    def next_mark(self) -> float:
        """The time at which the next mark is due; infinite if no mark waits."""
        return self._marks[0][0] / RATE_HZ if self._marks else math.inf

    def reached(self, now: float) -> list[str]:
        """Return, and remove, the marks that are due."""
        names = []
        # In the order of arrival: their times never decrease.
        while self._marks and self._marks[0][0] <= now * RATE_HZ + _TOLERANCE_SAMPLES:
            names.append(self._marks.popleft()[1])
        return names

    def clear(self, now: float) -> list[str]:
        """Stop the playback; return, and remove, the waiting marks."""
        names = [name for _, name in self._marks]
        self._marks.clear()
        end = math.floor(now * RATE_HZ + _TOLERANCE_SAMPLES)
        self._stretches = [(start, audio[: end - start]) for start, audio in self._stretches if start < end]
        # Not beyond now: the buffer is empty. Earlier, if it had run empty before.
        self._end = min(self._end, end)
        return names

    def played(self, now: float) -> list[Stretch]:
        """Return what the caller has heard up to ``now``, with adjacent audio joined."""
        end = math.floor(now * RATE_HZ + _TOLERANCE_SAMPLES)
        joined: list[tuple[int, list[bytes]]] = []
        reach = -1
        for start, audio in self._stretches:
            if start >= end:
                break
            # Audio that follows without a gap is one sound to the caller, however many messages it came in.
            if start != reach:
                joined.append((start, []))
            joined[-1][1].append(audio[: end - start])
            reach = start + len(audio)
        return [Stretch(start / RATE_HZ, b"".join(pieces)) for start, pieces in joined]


def whole(stretches: Sequence[Stretch], seconds: float) -> bytes:
    """Return the stretches as one piece of audio of ``seconds``, with silence in the gaps."""
    audio = bytearray([SILENCE_BYTE]) * round(seconds * RATE_HZ)
    for stretch in stretches:
        start = round(stretch.at * RATE_HZ)
        room = len(audio) - start
        audio[start : start + len(stretch.audio)] = stretch.audio[: max(0, room)]
    return bytes(audio)
