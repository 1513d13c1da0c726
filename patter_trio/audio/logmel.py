"""Log-mel features in the form that the Whisper family of models expects (https://github.com/openai/whisper, audio.py).

16 kHz; 25 ms frames every 10 ms under a Hann window; power in 80 triangular bands spaced on Slaney's mel scale and
normalised by their width; log10, limited to 8 below the loudest value and scaled to about -1 to 1.
"""

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float32]

# The constants here and below are Whisper's own (audio.py): the models were trained with them.
RATE_HZ = 16000
HOP_SAMPLES = 160
"""Samples per frame of features."""
BANDS = 80

# 25 ms, as the models were trained.
_FFT_SAMPLES = 400
_DYNAMIC_RANGE_DECADES = 8.0
"""Orders of magnitude kept below the loudest value."""


def log_mel(samples: Floats) -> Floats:
    """Return the features of 16 kHz samples from -1 to 1: shape (80, len(samples) // 160).

    The input must have at least 201 samples.
    """
    # The reflected padding centres the first frame on the first sample, and needs one sample more than half a frame.
    padded = np.pad(samples, _FFT_SAMPLES // 2, mode="reflect")
    # A view, not a copy: each sample is in two or three frames.
    frames = np.lib.stride_tricks.sliding_window_view(padded, _FFT_SAMPLES)[::HOP_SAMPLES][
        : len(samples) // HOP_SAMPLES
    ]
    spectrum = np.fft.rfft(frames * _WINDOW, axis=1)
    power = np.square(spectrum.real) + np.square(spectrum.imag)
    # The floor keeps the logarithm of digital silence finite.
    levels = np.log10(np.maximum(_FILTERS @ power.T, 1e-10))
    return np.asarray((np.maximum(levels, levels.max() - _DYNAMIC_RANGE_DECADES) + 4.0) / 4.0, np.float32)


_MEL_OF_1_KHZ = 15.0
"""The mel of 1 kHz."""


def _hertz(mel: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """Return the frequencies of mels on Slaney's scale: linear up to 1 kHz, then 27 steps for each factor of 6.4."""
    return np.where(mel < _MEL_OF_1_KHZ, mel * 1000.0 / _MEL_OF_1_KHZ, 1000.0 * 6.4 ** ((mel - _MEL_OF_1_KHZ) / 27.0))


def _filters() -> Floats:
    top = _MEL_OF_1_KHZ + 27.0 * np.log(RATE_HZ / 2 / 1000.0) / np.log(6.4)
    corners = _hertz(np.linspace(0.0, top, BANDS + 2))
    bins = np.linspace(0.0, RATE_HZ / 2, _FFT_SAMPLES // 2 + 1)
    bands = [
        np.interp(bins, corners[band : band + 3], [0.0, 1.0, 0.0]) * 2.0 / (corners[band + 2] - corners[band])
        for band in range(BANDS)
    ]
    return np.stack(bands).astype(np.float32)


_FILTERS = _filters()
# A periodic window: one value less than a symmetric one.
_WINDOW = np.hanning(_FFT_SAMPLES + 1)[:-1].astype(np.float32)
