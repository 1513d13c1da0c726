"""The scripted VAD: it finds voices in the audio, a fixed time after they begin and end."""

import math
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager

import attrs
import numpy as np

from patter_trio.abc import VoiceActivity, VoiceActivitySession, VoiceEdge
from patter_trio.audio.formats import RATE_HZ
from patter_trio.audio.g711 import Samples
from patter_trio.errors import ProviderError
from patter_trio.testing.scripted_providers import audible_text


@attrs.frozen
class ScriptedVAD(VoiceActivity):
    """A VAD that reports a voice ``start_delay`` after it really began and ``end_delay`` after it really ended.

    The edges carry the true offsets. Every sound is voice, also a cough; sound shorter than ``start_delay`` and silence
    shorter than ``end_delay`` make no edge. Audio comes in frames of 20 ms, so an edge is reported with the frame in
    which its delay is over. ``fail_at``: seconds of audio after which the model fails.
    """

    start_delay: float = 0.05
    end_delay: float = 0.5
    fail_at: float | None = None

    @asynccontextmanager
    async def open(self) -> AsyncIterator[VoiceActivitySession]:
        yield _VoiceSession(self)


class _VoiceSession(VoiceActivitySession):
    def __init__(self, script: ScriptedVAD) -> None:
        self._fail_at = math.inf if script.fail_at is None else script.fail_at * RATE_HZ
        self._start_delay = round(script.start_delay * RATE_HZ)
        # At least one sample: with zero, each pause between two samples would end the voice.
        self._end_delay = max(1, round(script.end_delay * RATE_HZ))
        self._fed = 0
        self._onset: int | None = None
        self._last = 0  # end of the newest sound
        self._reported = False  # True once the beginning of the current voice is reported

    @property
    def quiet_since(self) -> int | None:
        return self._last if self._reported and self._fed > self._last else None

    async def feed(self, samples: Samples) -> Sequence[VoiceEdge]:
        edges: list[VoiceEdge] = []
        for start, end in _loud_runs(samples):
            self._sound(self._fed + start, self._fed + end, edges)
        self._fed += len(samples)
        if self._fed >= self._fail_at:
            raise ProviderError(f"ScriptedVAD fails after {self._fed / RATE_HZ:g} s, as scripted")
        self._silence(self._fed, edges)
        return edges

    def _sound(self, start: int, end: int, edges: list[VoiceEdge]) -> None:
        # The silence before this sound may have ended the voice before it, within the same piece of audio.
        self._silence(start, edges)
        if self._onset is None:
            self._onset = start
        self._last = end
        # From the onset, over short gaps: what counts is the time since the voice began, as a detector's delay does.
        if not self._reported and end - self._onset >= self._start_delay:
            self._reported = True
            edges.append(VoiceEdge(speaking=True, offset=self._onset, confidence=1.0))

    def _silence(self, until: int, edges: list[VoiceEdge]) -> None:
        if self._onset is None or until - self._last < self._end_delay:
            return
        if self._reported:
            edges.append(VoiceEdge(speaking=False, offset=self._last, confidence=1.0))
        self._onset, self._reported = None, False


def _loud_runs(samples: Samples) -> list[tuple[int, int]]:
    """Return the begin and the end of each run of samples that are not silent."""
    level = audible_text.MAX_SILENCE_LEVEL
    # Compared on both sides: the magnitude of -32768 has no place in 16 bits.
    loud = (samples > level) | (samples < -level)
    # Nearly every frame is silent throughout, or loud throughout.
    if not loud.any():
        return []
    if loud.all():
        return [(0, len(loud))]
    loud = np.concatenate(([False], loud, [False]))
    turns = np.flatnonzero(loud[1:] != loud[:-1])
    return list(zip(turns[0::2].tolist(), turns[1::2].tolist(), strict=True))
