"""The waveform of a recording, reduced to what a picture can show."""

from collections.abc import Iterable
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
    return peaks_of_pieces(max(len(caller), len(agent)), [(caller, agent)])


def peaks_of_pieces(samples: int, pieces: Iterable[tuple[Samples, Samples]]) -> Peaks:
    """Return the peaks of both sides of a recording at 8 kHz, which comes in pieces.

    Args:
        samples: the length of the whole recording; what the pieces lack of it is silence.
        pieces: the caller's and the agent's sound; each piece but the last one has whole steps (:func:`step_samples`).
    """
    step = step_samples(samples)
    steps = -(-samples // step)
    peaks = np.zeros((2, steps), np.int32)
    begin = 0
    for sides in pieces:
        end = min(steps, begin + -(-max(len(side) for side in sides) // step))
        for lane, side in zip(peaks, sides, strict=True):
            lane[begin:end] = _peaks(side, step, end - begin)
        begin = end
    caller, agent = (tuple(int(peak) for peak in lane) for lane in peaks)
    return Peaks(step * 1000 / RATE_HZ, caller, agent)


def step_samples(samples: int) -> int:
    """Return the length of a step, in samples, in the peaks of a recording of a length."""
    step_ms = STEP_MS
    while samples > MAX_STEPS * step_ms * RATE_HZ // 1000:
        step_ms *= 2
    return step_ms * RATE_HZ // 1000


def _peaks(samples: Samples, step: int, steps: int) -> np.ndarray[tuple[int], np.dtype[np.int32]]:
    padded = np.zeros(steps * step, np.int32)  # 32 bits: the absolute value of -32768 does not fit into 16
    padded[: len(samples)] = np.abs(samples.astype(np.int32))
    loudest = padded.reshape(steps, step).max(axis=1, initial=0)
    peaks: np.ndarray[tuple[int], np.dtype[np.int32]] = np.minimum(
        loudest * (_GREATEST_PEAK + 1) // _FULL_SCALE, _GREATEST_PEAK
    )
    return peaks
