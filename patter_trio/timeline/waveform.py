"""The waveform of a recording, reduced to what a picture can show."""

from typing import Final

import numpy as np

from patter_trio.audio.formats import RATE_HZ
from patter_trio.audio.g711 import Samples
from patter_trio.timeline.call_timeline import Peaks

# A syllable lasts 100 ms or more, so that it has several steps.
STEP_MS: Final = 25
"""Length of a step, unless the call is long."""
# Ten minutes at 25 ms; a page of 1440 pixels shows an hour with fewer.
MAX_STEPS: Final = 24_000
"""Most steps of a lane; the steps of a longer call are twice as long, or four times, and so on."""
_FULL_SCALE: Final = 32768
_GREATEST_PEAK: Final = 255


def peaks_of(caller: Samples, agent: Samples) -> Peaks:
    """Return the peaks of both sides of a recording at 8 kHz; of two lengths, the greater one counts."""
    samples = max(len(caller), len(agent))
    step_ms = STEP_MS
    while samples > MAX_STEPS * step_ms * RATE_HZ // 1000:
        step_ms *= 2
    step = step_ms * RATE_HZ // 1000
    steps = -(-samples // step)
    return Peaks(float(step_ms), _peaks(caller, step, steps), _peaks(agent, step, steps))


def _peaks(samples: Samples, step: int, steps: int) -> tuple[int, ...]:
    padded = np.zeros(steps * step, np.int32)  # 32 bits: the absolute value of -32768 does not fit into 16
    padded[: len(samples)] = np.abs(samples.astype(np.int32))
    loudest = padded.reshape(steps, step).max(axis=1, initial=0)
    return tuple(int(peak) for peak in np.minimum(loudest * (_GREATEST_PEAK + 1) // _FULL_SCALE, _GREATEST_PEAK))
