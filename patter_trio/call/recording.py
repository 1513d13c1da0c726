"""Our own recordings: a stereo WAV for each call, written as the call goes.

The call only puts audio into its track (``audio/stereo.py``). One task of the server takes out what is settled, of all
calls together, and one thread writes it: a disk that is slow or full costs no call anything. The sizes in a file's head
are renewed with each piece that is written, so the file is valid at every moment, also if the process is killed.
"""

import hashlib
import logging
import os
import re
from collections.abc import Callable, Iterable
from functools import partial
from pathlib import Path
from typing import Final, Protocol

import trio

from patter_trio.audio import g711
from patter_trio.audio.formats import RATE_HZ
from patter_trio.audio.media_clock import MediaClock
from patter_trio.audio.stereo import Sides, StereoTrack, Unheard
from patter_trio.audio.wav import HEAD_BYTES, interleaved, wav_head
from patter_trio.errors import ConfigurationError
from patter_trio.net.threads import run_in_own_thread

# Judged: with the 0.4 s for which the track keeps audio back, a killed process loses 0.65 s and the time of one write.
WRITE_INTERVAL_S: Final = 0.25
"""Seconds between two writes."""
# Judged: a disk that is slower than that for so long does not recover; 160 kB for each side of a call.
MAX_WAITING_S: Final = 20.0
"""Seconds of audio that may wait to be written; then the recording ends."""
# Judged: far more than the disk needs for the last quarter of a second of all calls.
CLOSE_TIMEOUT_S: Final = 2.0
"""Seconds for the last write when the server closes."""
MAX_NAME_CHARACTERS: Final = 100
"""Longest name of a file, without its suffix; a carrier's id has 32 to 64 characters."""
# Judged: only an id that comes again needs a number, and no carrier uses one twice.
MAX_NAMESAKES: Final = 1000
"""Largest number that is appended to a name."""
# Both sides in one frame, of 16 bits each.
_FRAME_BYTES: Final = 4
# The sizes in the head have 32 bits (audio/wav.py).
MAX_SOUND_BYTES: Final = 0xFFFFFFFF - HEAD_BYTES
"""Largest size of the sound in a WAV, in bytes: 37 hours."""

_UNSAFE: Final = re.compile(r"[^A-Za-z0-9_-]")

_log = logging.getLogger("patter_trio.call")


class RecordingFile(Protocol):
    """A file of one recording, used in the writer's thread alone; each method raises OSError."""

    path: Path

    def write(self, parts: Iterable[Sides | Unheard]) -> None:
        """Write parts, and make the file valid again."""

    def close(self) -> None:
        """Close the file."""


class GrowingWav:
    """A stereo WAV of 16 bits at 8 kHz that is valid after each write.

    Args:
        path: the file to make; if there is one, a number is appended to the name.

    Raises:
        OSError: it cannot be made.
    """

    def __init__(self, path: Path) -> None:
        free, self._file = _created(path)
        self.path: Path = free
        self._bytes = 0
        os.write(self._file, wav_head(2, 0))

    def __repr__(self) -> str:
        return f"<GrowingWav {self.path.name}, {self._bytes // _FRAME_BYTES / RATE_HZ:.2f} s>"

    def write(self, parts: Iterable[Sides | Unheard]) -> None:
        """Write parts, and then the size of all."""
        for part in parts:
            if isinstance(part, Unheard):
                self._silence(part)
            else:
                sound = interleaved([g711.decode(part.caller), g711.decode(part.agent)])
                if self._bytes + len(sound) > MAX_SOUND_BYTES:
                    raise OSError("a WAV file cannot be larger than 4 GB")
                self._put(self._bytes, sound)
                self._bytes += len(sound)
        # Behind the sound: whatever is cut off in between, the head never promises more than there is.
        os.lseek(self._file, 0, os.SEEK_SET)
        os.write(self._file, wav_head(2, self._bytes))

    def _silence(self, part: Unheard) -> None:
        """Silence the agent's side between two positions, which the caller did not hear."""
        begin = part.begin * _FRAME_BYTES
        os.lseek(self._file, HEAD_BYTES + begin, os.SEEK_SET)
        sound = bytearray(os.read(self._file, (part.end - part.begin) * _FRAME_BYTES))
        for place in (2, 3):
            sound[place::_FRAME_BYTES] = bytes(len(sound) // _FRAME_BYTES)
        self._put(begin, bytes(sound))

    def _put(self, begin: int, sound: bytes) -> None:
        os.lseek(self._file, HEAD_BYTES + begin, os.SEEK_SET)
        # A disk that has become full takes a part.
        while sound:
            sound = sound[os.write(self._file, sound) :]

    def close(self) -> None:
        """Close the file."""
        os.close(self._file)


def _created(path: Path) -> tuple[Path, int]:
    """Make a new file, and return its path and descriptor."""
    for number in range(1, MAX_NAMESAKES + 1):
        found = path if number == 1 else path.with_name(f"{path.stem}-{number}{path.suffix}")
        try:
            # For the owner alone: it holds what people said.
            return found, os.open(found, os.O_RDWR | os.O_CREAT | os.O_EXCL | getattr(os, "O_BINARY", 0), 0o600)
        except FileExistsError:
            continue
    raise FileExistsError(f"{path} and {MAX_NAMESAKES - 1} numbered ones exist already")


def path_name_of(call_id: str) -> str:
    """Return a call's id, if it is safe in a path on every system, else a form of it that no other id has."""
    safe = _UNSAFE.sub("_", call_id)[:MAX_NAME_CHARACTERS]
    if safe == call_id and safe:
        return safe
    # ``surrogatepass``: an id from the network may hold any character.
    digest = hashlib.sha256(call_id.encode(errors="surrogatepass")).hexdigest()[:16]
    return f"{safe[: MAX_NAME_CHARACTERS - 17]}-{digest}"


def file_name_of(call_id: str) -> str:
    """Return the name of a call's file."""
    return f"{path_name_of(call_id)}.wav"


def checked_folder(folder: object) -> Path | None:
    """Return the folder for recordings, made if it is missing; None without one.

    Raises:
        ConfigurationError: ``folder`` is not a path, or cannot be used.
    """
    if folder is None:
        return None
    # An empty text is most often a variable that is not set: a call that must be recorded would not be.
    if not isinstance(folder, str | Path) or folder == "":
        raise ConfigurationError(f"record_to must be a folder, as a string or a Path, got {folder!r}")
    path = Path(folder)
    try:
        path.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError as error:
        raise ConfigurationError(f"record_to must be a folder that can be made, got {folder!r}: {error}") from error
    if not os.access(path, os.W_OK | os.X_OK):
        raise ConfigurationError(f"record_to must be a folder that can be written to, got {folder!r}")
    return path


class CallRecording:
    """The recording of one call. Its methods for the call neither wait nor raise.

    Args:
        call_id: the id of the call.
        path: the file to make.
        track: collects the audio.
    """

    def __init__(self, call_id: str, path: Path, track: StereoTrack) -> None:
        self.call_id: str = call_id
        self.path: Path = path
        self._track = track
        self._writing = False
        self._ended = False
        self._missing = 0
        """Samples that came after the recording had failed."""
        self.failed: bool = False
        self._file: RecordingFile | None = None

    def __repr__(self) -> str:
        return f"<CallRecording {self.path.name}, {self._track!r}>"

    @property
    def over(self) -> bool:
        """True if nothing more is to be written."""
        return self._ended

    @property
    def file(self) -> Path | None:
        """The file, whose name may have a number that the wanted one has not; None before there is one."""
        return None if self._file is None else self._file.path

    # What the call tells ----------------------------------------------------------------------------------------------
    def begin(self) -> None:
        """Write what was said and played from the begin of the call on."""
        self._writing = True

    def begin_now(self) -> None:
        """Write what is said and played from now on."""
        self._track.begin(trio.current_time())
        self._writing = True

    def said(self, audio: bytes) -> None:
        """Take the caller's newest audio, mu-law."""
        if self.failed:
            self._missing += len(audio)
            return
        self._track.said(audio)
        if self._track.waiting > MAX_WAITING_S * RATE_HZ:
            if self._writing:
                self.fail(f"the disk took nothing for {MAX_WAITING_S:g} s")
            else:
                # Nobody has decided about it for so long: it is not wanted.
                self._track.begin(trio.current_time())

    def opened(self) -> None:
        """Take the begin of a reply."""
        self._track.opened()

    def sent(self, audio: bytes) -> None:
        """Take audio of the open reply that was sent to the carrier, mu-law."""
        if not self.failed:
            self._track.sent(audio, trio.current_time())

    def marked(self, round_trip: float) -> None:
        """Take how long a message takes to the carrier and back, in seconds, by the marks so far."""
        self._track.marked(round_trip)

    def cut(self, heard: int) -> None:
        """Keep the first ``heard`` samples of the open reply, because the caller heard no more of it."""
        if not self.failed:
            self._track.cut(heard)

    def end(self) -> None:
        """End the recording, because the call is over."""
        self._ended = True

    def fail(self, why: object) -> None:
        """Give the recording up, once; anything but an OSError is a bug, and logged with its traceback."""
        if self.failed:
            return
        self.failed = True
        # For its memory.
        self._track.begin(trio.current_time())
        bug = why if isinstance(why, Exception) and not isinstance(why, OSError) else None
        _log.warning("call %s: recording ended: %s: %s", self.call_id, self.path, why, exc_info=bug)

    # What the writer asks ---------------------------------------------------------------------------------------------
    def take(self) -> list[Sides | Unheard]:
        """Return what is to be written now."""
        if self.failed or not self._writing:
            return []
        now = trio.current_time()
        try:
            return self._track.finish(now) if self._ended else self._track.take(now)
        except Exception as bug:  # noqa: BLE001 (the task is the server's: a bug ends one recording, not all calls)
            self.fail(bug)
            return []

    def write(self, parts: Iterable[Sides | Unheard], open_file: Callable[[Path], RecordingFile]) -> None:
        """Write parts into the file, in the writer's thread; the first makes it.

        Raises:
            OSError: the disk did not take them.
        """
        if self._file is None:
            self._file = open_file(self.path)
        self._file.write(parts)

    def close(self) -> None:
        """Close the file, in the writer's thread.

        Raises:
            OSError: the disk did not take what it had not written yet.
        """
        if self._file is not None:
            self._file.close()

    def report(self) -> None:
        """Log the end of the recording."""
        if self.failed:
            _log.warning("call %s: recording lacks the last %.1f s", self.call_id, self._missing / RATE_HZ)
        elif self._file is not None:
            _log.info("call %s: recorded in %s", self.call_id, self._file.path)


class Recordings:
    """The recordings of one server, and the task that has them written.

    Args:
        folder: the folder of the files.
        open_file: makes a file, in the writer's thread.
        on_file: called with a call's id and its file, once the file is made.
    """

    def __init__(
        self,
        folder: Path,
        open_file: Callable[[Path], RecordingFile] = GrowingWav,
        on_file: Callable[[str, Path], None] = lambda _, __: None,
    ) -> None:
        self._folder = folder
        self._open_file = open_file
        self._on_file = on_file
        self._live: list[CallRecording] = []
        self._wake = trio.Event()
        self._closing = trio.Event()
        self._scope = trio.CancelScope(shield=True)
        # One: the thread of a disk that hangs keeps its place, so that no others pile up behind it.
        self._thread = trio.CapacityLimiter(1)

    def __repr__(self) -> str:
        return f"<Recordings in {self._folder}, {len(self._live)} open>"

    def open(self, call_id: str, media: MediaClock) -> CallRecording:
        """Return the recording of a call whose media begins now."""
        path = self._folder / file_name_of(call_id)
        recording = CallRecording(call_id, path, StereoTrack(media, trio.current_time()))
        self._live.append(recording)
        self._wake.set()
        return recording

    def close(self) -> None:
        """Write the rest, because all calls are over."""
        # From here on the shield is bounded.
        self._scope.deadline = trio.current_time() + CLOSE_TIMEOUT_S
        self._closing.set()
        self._wake.set()

    async def run(self) -> None:
        """Write the recordings, each :data:`WRITE_INTERVAL_S`, until closed."""
        # A cancelled server still writes how its calls ended. ``close`` sets the deadline, and comes in any case.
        with self._scope:
            while self._live or not self._closing.is_set():
                await self._wake.wait()
                with trio.move_on_after(WRITE_INTERVAL_S):
                    await self._closing.wait()
                await self._write()
                if not self._live and not self._closing.is_set():
                    self._wake = trio.Event()
        if self._scope.cancelled_caught:
            for recording in self._live:
                recording.fail(f"the disk did not take the rest within {CLOSE_TIMEOUT_S:g} s")

    async def _write(self) -> None:
        # Before anything is taken out: a call that ends meanwhile is written once more.
        over = [recording for recording in self._live if recording.over]
        # What a failed one has open is closed with its end.
        work = [
            (recording, parts, recording in over)
            for recording in self._live
            if (parts := recording.take()) or recording in over
        ]
        if work:
            new = [recording for recording, _, __ in work if recording.file is None]
            failures = await run_in_own_thread(partial(self._write_all, work), self._thread)
            for recording, error in failures:
                recording.fail(error)
            for recording in new:
                if recording.file is not None:
                    self._on_file(recording.call_id, recording.file)
        for recording in over:
            self._live.remove(recording)
            recording.report()

    def _write_all(
        self, work: list[tuple[CallRecording, list[Sides | Unheard], bool]]
    ) -> list[tuple[CallRecording, Exception]]:
        """Write parts of recordings, in the thread, and close those that are over; return what failed."""
        failures: list[tuple[CallRecording, Exception]] = []
        for recording, parts, is_over in work:
            for step, wanted in (
                (partial(recording.write, parts, self._open_file), bool(parts)),
                (recording.close, is_over),
            ):
                try:
                    if wanted:
                        step()
                # A full disk, and a bug, too: the thread writes for all calls.
                except Exception as error:  # noqa: BLE001 (a bug ends one recording, not all calls)
                    failures.append((recording, error))
        return failures
