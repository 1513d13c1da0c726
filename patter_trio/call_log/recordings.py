"""The recordings of logged calls: their waveforms, made once for each state of a file, and lost files. In threads."""

import logging
import os
import re
import threading
from collections import OrderedDict
from collections.abc import Callable, Iterable, Iterator
from itertools import islice
from pathlib import Path
from typing import BinaryIO, Final

import numpy as np

from patter_trio.audio.g711 import Samples
from patter_trio.audio.wav import HEAD_BYTES, wav_head
from patter_trio.timeline.call_timeline import Peaks
from patter_trio.timeline.waveform import peaks_of_pieces, step_samples

# Judged: four hours, for which numpy needs a second; a longer call has no waveform in its picture.
MAX_READ_BYTES: Final = 4 * 3600 * 8000 * 4
"""Largest recording whose waveform is made."""
# Judged: 32 s of sound; numpy needs some megabytes for it.
PIECE_BYTES: Final = 1024 * 1024
"""Most bytes of a recording that are in memory at once."""
# A waveform has at most 48,000 numbers (``timeline/waveform.py``), of 8 bytes each: 12 MB in all.
MAX_WAVEFORMS: Final = 32
"""Waveforms that are remembered; beyond, the one that nobody has wanted for the longest time is forgotten."""
# Both sides, of 16 bits each.
_FRAME_BYTES: Final = 4

# Judged: one question to the database for each.
FILES_AT_ONCE: Final = 500
"""Files of a folder that are looked for in the database at once."""
# Our own are named by ids of calls (``call/recording.py``).
_NAME: Final = re.compile(r"[A-Za-z0-9_-]{1,110}\.wav")

_log = logging.getLogger("patter_trio.call_log")


def _opened(path: Path) -> BinaryIO:
    return path.open("rb")


class Waveforms:
    """The waveforms of recordings of our own. Its method is called in several threads at once.

    Args:
        open_file: opens a recording; it raises OSError.
    """

    def __init__(self, open_file: Callable[[Path], BinaryIO] = _opened) -> None:
        self._open_file = open_file
        self._lock = threading.Lock()
        # By path, size and time of the last change: a file that grows, or is replaced, is read again.
        self._made: OrderedDict[tuple[str, int, int], Peaks] = OrderedDict()

    def __repr__(self) -> str:
        return f"<Waveforms {len(self._made)}>"

    def of(self, path: str) -> Peaks | None:
        """Return the waveform of a recording; None without one, or if it is too long or cannot be read."""
        if not path:
            return None
        file = Path(path)
        try:
            found = file.stat()
            if found.st_size > MAX_READ_BYTES:
                return None
            key = (path, found.st_size, found.st_mtime_ns)
            if (known := self._remembered(key)) is not None:
                return known
            # Not under the lock: the pictures of other calls do not wait. The same one twice costs only time.
            peaks = self._read(file, found.st_size)
        except OSError as error:
            _log.info("call log: recording %s cannot be read: %s", path, error)
            return None
        with self._lock:
            self._made[key] = peaks
            while len(self._made) > MAX_WAVEFORMS:
                self._made.popitem(last=False)
        return peaks

    def _remembered(self, key: tuple[str, int, int]) -> Peaks | None:
        with self._lock:
            if key in self._made:
                self._made.move_to_end(key)
            return self._made.get(key)

    def _read(self, path: Path, size: int) -> Peaks:
        # A file that is being written may end within a sample.
        samples = max(0, size - HEAD_BYTES) // _FRAME_BYTES
        with self._open_file(path) as file:
            file.seek(HEAD_BYTES)
            return peaks_of_pieces(samples, _pieces(file, samples))


def _pieces(file: BinaryIO, samples: int) -> Iterator[tuple[Samples, Samples]]:
    """Yield both sides of a recording, in pieces of whole steps."""
    step = step_samples(samples)
    most = max(1, PIECE_BYTES // _FRAME_BYTES // step) * step
    while samples > 0:
        sound = file.read(min(most, samples) * _FRAME_BYTES)
        frames = np.frombuffer(sound[: len(sound) - len(sound) % _FRAME_BYTES], "<i2").reshape(-1, 2)
        yield frames[:, 0], frames[:, 1]
        # Less than asked for: the file was cut off meanwhile. The rest is silence.
        samples = samples - most if len(frames) == min(most, samples) else 0


def recordings_before(folder: Path, unix: float) -> Iterator[Path]:
    """Yield the files of a folder that have the name and the head of a recording of ours, last written before a time.

    Other files, such as recordings of another program in the same folder, are left alone.
    """
    # Behind the sizes, which differ, the head is the same in all.
    head = wav_head(2, 0)
    try:
        with os.scandir(folder.absolute()) as found:
            for entry in found:
                if _NAME.fullmatch(entry.name) and _is_recording(entry, head, unix):
                    yield Path(entry.path)
    except OSError as error:
        _log.info("call log: recordings in %s cannot be listed: %s", folder, error)


def _is_recording(entry: os.DirEntry[str], head: bytes, unix: float) -> bool:
    try:
        if not entry.is_file(follow_symlinks=False) or entry.stat(follow_symlinks=False).st_mtime >= unix:
            return False
        with Path(entry.path).open("rb") as file:
            begin = file.read(HEAD_BYTES)
    # Another process has deleted it meanwhile, or it is of another user. Those behind it are looked at all the same.
    except OSError as error:
        _log.info("call log: recording %s cannot be looked at: %s", entry.path, error)
        return False
    return begin[8:40] == head[8:40]


def batched_files(files: Iterable[Path]) -> Iterator[list[Path]]:
    """Yield files, some at a time."""
    rest = iter(files)
    while some := list(islice(rest, FILES_AT_ONCE)):
        yield some
