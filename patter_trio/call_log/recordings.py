"""The recordings of logged calls: their waveforms."""

import logging
from pathlib import Path
from typing import Final

import numpy as np

from patter_trio.audio.wav import HEAD_BYTES
from patter_trio.timeline.call_timeline import Peaks
from patter_trio.timeline.waveform import peaks_of

# Judged: four hours, for which numpy needs a second; a longer call has no waveform in its picture.
MAX_READ_BYTES: Final = 4 * 3600 * 8000 * 4
"""Largest recording whose waveform is made."""
_CHANNELS: Final = 2

_log = logging.getLogger("patter_trio.call_log")


def peaks_in(path: str) -> Peaks | None:
    """Return the waveform of a recording of our own; None without one, or if it cannot be read."""
    if not path:
        return None
    try:
        file = Path(path)
        if file.stat().st_size > MAX_READ_BYTES:
            return None
        sound = file.read_bytes()[HEAD_BYTES:]
    except OSError as error:
        _log.info("call log: recording %s cannot be read: %s", path, error)
        return None
    # A file that is being written may end within a sample.
    samples = np.frombuffer(sound[: len(sound) - len(sound) % (2 * _CHANNELS)], "<i2").reshape(-1, _CHANNELS)
    return peaks_of(samples[:, 0], samples[:, 1])
