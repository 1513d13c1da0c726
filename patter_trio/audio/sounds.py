"""The sound of a line in steps of 20 ms: its level, and whether it is one steady tone."""

from typing import Final

import attrs
import numpy as np

from patter_trio.audio.formats import FRAME_S, FRAME_SAMPLES, RATE_HZ
from patter_trio.audio.g711 import Samples

STEP_S: Final = FRAME_S
"""Seconds of audio in one step."""
# Two steps: 25 Hz for each bin of the spectrum, so that a dial tone of two frequencies is not one tone.
_WINDOW_SAMPLES: Final = 2 * FRAME_SAMPLES
_HZ_PER_BIN: Final = RATE_HZ / _WINDOW_SAMPLES
# A window of Hann spreads a sine over two bins on each side.
_PEAK_BINS: Final = 2
# Judged on the recordings of docs/outbound.md: a beep in noise of 6 dB below it has 0.8 of the energy in its peak;
# vowels, whose energy is in several harmonics, seldom have.
MIN_TONE_SHARE: Final = 0.8
"""Smallest share of a sound's energy that a single tone has."""
# The level of a digital silence is minus infinity; below this, mu-law has nothing but its own rounding.
SILENCE_DB: Final = -90.0
"""Lowest level, in dB below full scale."""
_FULL_SCALE: Final = 32768.0
_WINDOW: Final = np.hanning(_WINDOW_SAMPLES)


@attrs.frozen
class Sound:
    """The sound of one step: its level in dB relative to full scale, and the frequency of a single tone, or 0."""

    level_db: float
    tone_hz: float = 0.0


class SoundMeter:
    """Measures audio at 8 kHz, however it is cut into pieces."""

    def __init__(self) -> None:
        self._waiting = np.zeros(0, dtype=np.int16)
        self._before = np.zeros(FRAME_SAMPLES)

    def hear(self, samples: Samples) -> list[Sound]:
        """Return the sound of each step that is complete with these samples."""
        waiting = np.concatenate((self._waiting, samples))
        steps = len(waiting) // FRAME_SAMPLES
        self._waiting = waiting[steps * FRAME_SAMPLES :]
        return [self._measure(waiting[step * FRAME_SAMPLES : (step + 1) * FRAME_SAMPLES]) for step in range(steps)]

    def _measure(self, samples: Samples) -> Sound:
        step = samples / _FULL_SCALE
        power = float(np.mean(step * step))
        level = 10 * np.log10(power) if power > 0 else SILENCE_DB
        whole, self._before = np.concatenate((self._before, step)), step
        return Sound(max(SILENCE_DB, float(level)), _tone_of(whole))


def _tone_of(samples: np.ndarray[tuple[int], np.dtype[np.float64]]) -> float:
    """Return the frequency of the single tone that fills the window, in Hz; 0.0 for any other sound."""
    # Without its mean: a line's constant offset cannot be heard.
    spectrum = np.abs(np.fft.rfft((samples - samples.mean()) * _WINDOW)) ** 2
    energy = float(spectrum.sum())
    peak = int(spectrum.argmax())
    if energy <= 0:
        return 0.0
    around = spectrum[max(0, peak - _PEAK_BINS) : peak + _PEAK_BINS + 1]
    if around.sum() < MIN_TONE_SHARE * energy:
        return 0.0
    # The centre of the peak's energy lies between two bins, as the frequency does.
    centre = float((around * np.arange(len(around))).sum() / around.sum()) + max(0, peak - _PEAK_BINS)
    return centre * _HZ_PER_BIN
