"""The waveforms of recordings: read in pieces, once for each state of a file."""

import os
import tracemalloc
from io import BytesIO
from pathlib import Path
from typing import BinaryIO

import numpy as np
import pytest
import trio

from patter_trio import CallLog
from patter_trio.audio.wav import read_wav, write_wav
from patter_trio.call_log.archive import LoggedCalls
from patter_trio.call_log.entries import RecordingMade
from patter_trio.call_log.phone_log import PhoneLog
from patter_trio.call_log.recordings import (
    FILES_AT_ONCE,
    MAX_READ_BYTES,
    MAX_WAVEFORMS,
    PIECE_BYTES,
    Waveforms,
    recordings_before,
)
from patter_trio.timeline import call_timeline, fold, svg
from patter_trio.timeline.waveform import peaks_of
from tests.kit.call_logs import EPOCH, OpenLog
from tests.kit.thread_files import files_run_here


class Opened:
    """Opens files, and counts how often."""

    def __init__(self) -> None:
        self.count: int = 0

    def __call__(self, path: Path) -> BinaryIO:
        self.count += 1
        return path.open("rb")


def test_pieces_give_the_peaks_of_the_whole(tmp_path: Path) -> None:
    """A recording of several pieces has the peaks that its whole sound has."""
    rng = np.random.default_rng(7)
    caller, agent = (rng.integers(-32768, 32767, 700_000, np.int16, endpoint=True) for _ in range(2))
    path = tmp_path / "CA1.wav"
    path.write_bytes(write_wav([caller, agent]))
    assert path.stat().st_size > 2 * PIECE_BYTES
    assert Waveforms().of(str(path)) == peaks_of(caller, agent)
    # A file that was cut off within a sample.
    path.write_bytes(path.read_bytes()[:-3])
    assert Waveforms().of(str(path)) == peaks_of(caller[:-1], agent[:-1])


def test_long_recording_needs_little_memory(tmp_path: Path) -> None:
    """The waveform of an hour, 115 MB, takes less than 12 MB of memory."""
    path = tmp_path / "long.wav"
    with path.open("wb") as file:
        file.truncate(3600 * 8000 * 4 + 44)
    tracemalloc.start()
    try:
        peaks = Waveforms().of(str(path))
        _, most = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peaks is not None
    assert (peaks.step_ms, len(peaks.caller)) == (200.0, 18_000)
    assert most < 12_000_000


def test_waveform_is_made_once(tmp_path: Path) -> None:
    """A second look reads nothing; a file that has changed is read again, and one that is gone has no waveform."""
    path, opened = tmp_path / "CA1.wav", Opened()
    path.write_bytes(write_wav([np.full(400, 9000, np.int16)] * 2))
    waveforms = Waveforms(opened)
    first = waveforms.of(str(path))
    assert first is not None
    assert waveforms.of(str(path)) is first
    assert opened.count == 1
    path.write_bytes(write_wav([np.full(800, 9000, np.int16)] * 2))
    changed = waveforms.of(str(path))
    assert changed is not None
    assert (len(changed.caller), opened.count) == (4, 2)
    path.unlink()
    assert waveforms.of(str(path)) is None
    assert waveforms.of("") is None


def test_remembered_waveforms_are_bounded(tmp_path: Path) -> None:
    """Beyond the bound, the waveform that nobody has wanted for the longest time is forgotten."""
    opened = Opened()
    waveforms = Waveforms(opened)
    paths = [tmp_path / f"CA{number}.wav" for number in range(MAX_WAVEFORMS + 1)]
    for path in paths:
        path.write_bytes(write_wav([np.full(400, 9000, np.int16)] * 2))
    for path in (*paths[:-1], paths[0], paths[-1]):
        waveforms.of(str(path))
    assert (opened.count, repr(waveforms)) == (MAX_WAVEFORMS + 1, f"<Waveforms {MAX_WAVEFORMS}>")
    waveforms.of(str(paths[0]))
    assert opened.count == MAX_WAVEFORMS + 1
    waveforms.of(str(paths[1]))
    assert opened.count == MAX_WAVEFORMS + 2


def test_unfit_recordings_have_no_waveform(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """A recording that is too long is not opened, and one that cannot be read is one line in the log."""
    caplog.set_level("INFO", "patter_trio")
    opened = Opened()
    with (tmp_path / "long.wav").open("wb") as file:
        file.truncate(MAX_READ_BYTES + 1)
    assert Waveforms(opened).of(str(tmp_path / "long.wav")) is None
    assert (opened.count, caplog.messages) == (0, [])

    def failing(path: Path) -> BinaryIO:
        raise PermissionError(f"no leave to read {path.name}")

    assert Waveforms(failing).of(str(tmp_path / "long.wav")) is None
    short = tmp_path / "CA1.wav"
    short.write_bytes(b"RIFF")
    empty = Waveforms().of(str(short))
    assert empty is not None
    assert empty.caller == ()
    assert Waveforms(failing).of(str(short)) is None
    [message] = caplog.messages
    assert "CA1.wav cannot be read: no leave to read CA1.wav" in message


def test_recording_cut_while_it_is_read(tmp_path: Path) -> None:
    """What is missing of a file that became shorter after its size was taken is silence."""
    path = tmp_path / "CA1.wav"
    sound = np.full(400, 9000, np.int16)
    path.write_bytes(write_wav([sound, sound]))
    shorter = path.read_bytes()[: 44 + 4 * 200]
    peaks = Waveforms(lambda _: BytesIO(shorter)).of(str(path))
    assert peaks is not None
    assert peaks.caller == (70, 0)
    assert len(read_wav(path.read_bytes())) == 400


async def test_pictures_of_logged_calls_are_drawn_in_threads(log_url: str) -> None:
    """The event loop neither folds the events of a logged call nor draws its picture."""
    log = OpenLog(log_url)
    e = log.events
    log.store.write([e.started("CA1"), e.said("CA1", "Do you open on Sunday?"), e.ended("CA1")])
    log.store.close()
    calls = LoggedCalls(log.database)
    with files_run_here() as files:
        assert "Sunday" in (await calls.timeline_svg("CA1") or "")
        assert (await calls.timeline("CA1") or {})["words"]
        assert await calls.timeline("CA2") is await calls.timeline_svg("CA2") is None
    assert not files & {fold.__file__, svg.__file__, call_timeline.__file__}


SOUND = write_wav([np.zeros(80, np.int16)] * 2)
DAY_S = 86_400.0


def recorded(folder: Path, name: str, age_days: float, content: bytes = SOUND) -> Path:
    """Make a recording that was last written some days before the epoch of logged calls."""
    path = folder / name
    path.write_bytes(content)
    os.utime(path, (EPOCH, EPOCH - age_days * DAY_S))
    return path


def test_lost_recordings_go_some_at_once(log_url: str, tmp_path: Path) -> None:
    """One turn of the log's thread deletes at most 500 lost recordings, because the events of calls wait for it."""
    for number in range(FILES_AT_ONCE + 1):
        recorded(tmp_path, f"CA{number}.wav", 40)
    store = OpenLog(log_url).store
    assert [store.delete_lost(tmp_path, EPOCH) for _ in range(3)] == [FILES_AT_ONCE, 1, 0]
    store.close()


def test_recording_that_vanishes_hides_no_others(tmp_path: Path) -> None:
    """If another process deletes a recording while a folder is listed, those behind it are still found."""
    for number in range(4):
        recorded(tmp_path, f"CA{number}.wav", 40)
    # ``scandir`` has the same order.
    first, *gone, last = os.listdir(tmp_path)  # noqa: PTH208 (the order of the folder)
    found = recordings_before(tmp_path, EPOCH)
    assert next(found).name == first
    for name in gone:
        (tmp_path / name).unlink()
    assert [path.name for path in found] == [last]


@pytest.mark.parametrize("keep_days", [30.0, None])
async def test_lost_recordings_are_deleted_with_age(
    log_url: str, tmp_path: Path, caplog: pytest.LogCaptureFixture, keep_days: float | None
) -> None:
    """With keep_days, old recordings that no call names go when a server starts, with one line; all else stays."""
    caplog.set_level("INFO", "patter_trio")
    folder = tmp_path / "recordings"
    folder.mkdir()
    named = recorded(folder, "CA1.wav", 40)
    log = OpenLog(log_url)
    log.store.write([log.events.started("CA1", -1.0), RecordingMade("CA1", str(named))])
    log.store.close()
    lost = [recorded(folder, "CA2.wav", 31), recorded(folder, "CA3-2.wav", 400)]
    kept = [
        named,
        recorded(folder, "CA4.wav", 29),
        recorded(folder, "notes.txt", 400),
        recorded(folder, "song of ours.wav", 400),
        # Of another program: mono, and no WAV at all.
        recorded(folder, "mono.wav", 400, write_wav([np.zeros(80, np.int16)])),
        recorded(folder, "text.wav", 400, b"text" * 20),
        recorded(folder, "empty.wav", 400, b""),
    ]
    (folder / "link.wav").symlink_to(lost[0])
    (folder / "folder.wav").mkdir()
    async with PhoneLog(CallLog(log_url, keep_days=keep_days)).writing(lambda: EPOCH, folder):
        with trio.fail_after(20):  # a stuck writer fails the test
            while keep_days and lost[1].exists():  # noqa: ASYNC110 (no event reports it)
                await trio.sleep(0.01)
    assert [path.exists() for path in lost] == [keep_days is None] * 2
    assert all(path.exists() for path in kept)
    lines = [line for line in caplog.messages if "that no call names" in line]
    assert len(lines) == (keep_days is not None)
    assert all("deleted 2 recordings older than 30 days" in line for line in lines)
