"""Resampling of whole buffers.

Streaming resamplers of this quality hold back 40 to 115 ms of audio; a whole utterance or sentence has no such delay.
"""

import numpy as np
import numpy.typing as npt

from patter_trio.audio.g711 import Samples


def to_floats(samples: Samples, rate: int, wanted: int) -> npt.NDArray[np.float32]:
    """Return 16-bit samples at another rate, as floats from -1 to 1."""
    # 32768, so that the smallest 16-bit sample is -1.
    heard = samples.astype(np.float32) / np.float32(32768)
    return heard if rate == wanted else _resampled(heard, rate, wanted)


def to_samples(heard: npt.NDArray[np.float32], rate: int, wanted: int) -> Samples:
    """Return floats from -1 to 1 at another rate, as 16-bit samples; louder values are clipped."""
    resampled = heard if rate == wanted else _resampled(heard, rate, wanted)
    # Rounded and clipped, as in ``convert.py``.
    return np.asarray(np.clip(np.rint(resampled * 32768), -32768, 32767), np.int16)


def _resampled(heard: npt.NDArray[np.float32], rate: int, wanted: int) -> npt.NDArray[np.float32]:
    import soxr  # noqa: PLC0415 (most providers use the telephone's rate and never need it)

    return np.asarray(soxr.resample(heard, rate, wanted), np.float32)
