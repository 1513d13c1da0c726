"""Recordings as the telephone brings them: 8 kHz, through mu-law, with room before and after."""

import functools
import wave
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import soxr

from patter_trio.audio import g711
from patter_trio.audio.formats import RATE_HZ
from patter_trio.audio.g711 import Samples

FOLDERS = (Path(__file__).parents[1] / "audio", Path(__file__).parents[2] / "examples" / "audio")


@functools.cache
def telephone(name: str) -> Samples:
    path = next(folder / f"{name}.wav" for folder in FOLDERS if (folder / f"{name}.wav").exists())
    with wave.open(str(path)) as recording:
        samples = np.frombuffer(recording.readframes(recording.getnframes()), np.int16)
        heard = soxr.resample(samples, recording.getframerate(), RATE_HZ)
    # A second on both sides: the voice has to begin and to end within the recording.
    quiet = np.zeros(RATE_HZ, np.int16)
    # Through mu-law and back: what a VAD gets in a call is quantised.
    return np.concatenate([quiet, g711.decode(g711.encode(heard)), quiet])


@pytest.fixture
def recording() -> Callable[[str], Samples]:
    """The samples of a recording by its name, with one second of silence before and after it."""
    return telephone
