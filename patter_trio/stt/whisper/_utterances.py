"""The caller's audio in the form that Whisper needs: whole utterances, with a little before and after the voice.

Offsets are samples since the first one added, as in a voice detector. The audio stays mu-law: half a minute takes at
most 240 kB. Outside an utterance only the last second is kept, for the onset of the next.
"""

import attrs
import numpy as np

from patter_trio.audio import g711
from patter_trio.audio.formats import FRAME_SAMPLES, RATE_HZ
from patter_trio.audio.g711 import Samples

# Judged: 2 s below the model's 30 s, for the silence that it needs behind the voice.
MAX_UTTERANCE_S = 28.0
"""Seconds after which an utterance is cut; models of the Whisper family process 30 s at once, padding included."""

# Judged: few people speak for 3 s without a gap between two words.
_CUT_SEARCH_S = 3.0
"""Length, in seconds, of the end in which the quietest place is cut, so that the cut splits no word."""
# Judged: a detector is sure after some 0.1 s, and a consonant before the vowel lasts about as long.
_PRE_ROLL_S = 0.3
"""Seconds kept before the onset: detectors notice the voiced part of a word, and its first consonant lies before."""
# Judged: the last consonant falls below the detector's threshold.
_POST_ROLL_S = 0.2
_MAX_SILENCE_KEPT_S = 1.0
"""Seconds kept outside an utterance: the pre-roll, and the time until a detector is sure of an onset."""


@attrs.frozen(eq=False)
class RecordedUtterance:
    """A stretch of the caller's voice."""

    segment: int
    samples: Samples

    @property
    def seconds(self) -> float:
        """Duration in seconds."""
        return len(self.samples) / RATE_HZ


@attrs.define
class UtteranceBuffer:
    """Buffer that cuts a caller's audio into utterances at the edges of the voice."""

    _audio: bytearray = attrs.field(factory=bytearray, init=False)
    _base: int = attrs.field(default=0, init=False)
    """Offset of the first byte kept."""
    _start: int | None = attrs.field(default=None, init=False)
    """Offset of the beginning of the open utterance."""
    _ended: int = attrs.field(default=0, init=False)
    """Offset of the end of the previous utterance; no sample is transcribed twice."""
    segment: int = attrs.field(default=0, init=False)
    """Number of the open utterance, or of the next one."""

    @property
    def is_open(self) -> bool:
        """True while an utterance is open."""
        return self._start is not None

    @property
    def seconds(self) -> float:
        """Duration of the open utterance so far, in seconds; 0 without one."""
        return 0.0 if self._start is None else (self._received - self._start) / RATE_HZ

    @property
    def _received(self) -> int:
        return self._base + len(self._audio)

    def add(self, mulaw: bytes) -> RecordedUtterance | None:
        """Take the next audio; if an utterance has become too long, return its first part and keep the rest open."""
        self._audio += mulaw
        # Outside an utterance only what its beginning could need.
        if self._start is None:
            self._forget(self._received - round(_MAX_SILENCE_KEPT_S * RATE_HZ))
            return None
        if self.seconds < MAX_UTTERANCE_S:
            return None
        # Only in the last seconds: an earlier cut would make the first part needlessly short.
        cut = self._quietest(self._received - round(_CUT_SEARCH_S * RATE_HZ))
        part = self._close(cut)
        self._start = cut
        return part

    def begin(self, offset: int) -> None:
        """Open an utterance for a voice that began at ``offset``, unless one is open already."""
        if self._start is None:
            # Never before the end of the last utterance: no sample is transcribed twice.
            earliest = max(self._base, self._ended)
            self._start = min(max(earliest, offset - round(_PRE_ROLL_S * RATE_HZ)), self._received)

    def end(self, offset: int) -> RecordedUtterance | None:
        """Close the utterance of a voice that ended at ``offset`` and return it; None if none was open."""
        if self._start is None:
            return None
        # Clamped at both ends: an edge is reported late, and may lie before the beginning or beyond the audio.
        return self._close(max(self._start, min(self._received, offset + round(_POST_ROLL_S * RATE_HZ))))

    def split(self) -> RecordedUtterance:
        """Return all received audio of the open utterance, which goes on as the next one; empty if none is open."""
        goes_on, received = self.is_open, self._received
        part = self._close(received)
        if goes_on:
            self._start = received
        return part

    def so_far(self) -> RecordedUtterance | None:
        """Return the open utterance so far, without closing it."""
        return None if self._start is None else self._cut(self._start, self._received)

    def _close(self, end: int) -> RecordedUtterance:
        # Without an open utterance an empty one, with a segment of its own: each flush gets an answer.
        utterance = self._cut(end if self._start is None else self._start, end)
        self._start, self._ended = None, end
        self.segment += 1
        # Not all of it: what follows the end may be the onset of the next voice.
        self._forget(end)
        return utterance

    def _cut(self, start: int, end: int) -> RecordedUtterance:
        return RecordedUtterance(self.segment, g711.decode(bytes(self._audio[start - self._base : end - self._base])))

    def _forget(self, offset: int) -> None:
        """Drop the audio before an offset."""
        surplus = offset - self._base
        if surplus > 0:
            del self._audio[:surplus]
            self._base += surplus

    def _quietest(self, offset: int) -> int:
        """Return the middle of the quietest 100 ms after an offset."""
        # 100 ms: about a gap between two words.
        span = 5 * FRAME_SAMPLES
        # 64 bits: the square of a sample has 30, and the sum of three seconds 45.
        samples = g711.decode(bytes(self._audio[offset - self._base :])).astype(np.int64)
        energy = np.concatenate([[0], np.cumsum(samples * samples)])
        return offset + int(np.argmin(energy[span:] - energy[:-span])) + span // 2
