"""The files of recordings: names from any id, folders, and what a file holds after each write."""

from __future__ import annotations

import io
import logging
import stat
import sys
import threading
import wave
from collections.abc import Iterable
from pathlib import Path, PurePosixPath, PureWindowsPath

import pytest
import trio
import trio.testing
from hypothesis import given
from hypothesis import strategies as st

from patter_trio import ConfigurationError, Patter
from patter_trio.audio.media_clock import MediaClock
from patter_trio.audio.stereo import Sides, Unheard
from patter_trio.audio.wav import read_wav
from patter_trio.call.recording import CLOSE_TIMEOUT_S, GrowingWav, Recordings, checked_folder, file_name_of
from tests.kit.call import agent_of


@given(st.text(max_size=300))
def test_name_is_safe_whatever_the_id(call_id: str) -> None:
    """The name of a file is one component of a path, of plain characters, on each system."""
    name = file_name_of(call_id)
    assert PurePosixPath(name).name == PureWindowsPath(name).name == name
    assert name.isascii()
    assert name.endswith(".wav")
    assert len(name) <= 104
    assert not name.startswith(".")


@given(st.lists(st.text("ab/.:_", max_size=6), unique=True, min_size=2, max_size=8))
def test_different_ids_have_different_names(ids: list[str]) -> None:
    """Two calls never share a name, although characters are replaced."""
    assert len({file_name_of(call_id) for call_id in ids}) == len(ids)


def test_name_of_a_plain_id_is_the_id() -> None:
    """The id of a carrier is found by its name."""
    assert file_name_of("CA" + "0" * 32) == f"CA{'0' * 32}.wav"


def test_file_is_valid_after_each_write(tmp_path: Path) -> None:
    """The head counts exactly what was written, from the first moment on."""
    file = GrowingWav(tmp_path / "a.wav")
    for count in (0, 1, 800, 801):
        if count:
            file.write([Sides(b"\x00" * count, b"\x80" * count)])
        with wave.open(io.BytesIO((tmp_path / "a.wav").read_bytes())) as reader:
            assert reader.getnframes() == {0: 0, 1: 1, 800: 801, 801: 1602}[count]
    file.close()
    assert len(read_wav((tmp_path / "a.wav").read_bytes())) == 1602


def test_unheard_audio_is_silenced_in_place(tmp_path: Path) -> None:
    """A correction silences the agent's side alone, between its positions."""
    file = GrowingWav(tmp_path / "a.wav")
    file.write([Sides(b"\x00" * 10, b"\x80" * 10)])
    file.write([Unheard(3, 6), Sides(b"\x00" * 2, b"\x80" * 2)])
    file.close()
    with wave.open(str(tmp_path / "a.wav")) as reader:
        samples = memoryview(reader.readframes(12)).cast("h").tolist()
    assert samples[0::2] == [-32124] * 12
    assert samples[1::2] == [32124] * 3 + [0] * 3 + [32124] * 6


def test_existing_file_is_never_overwritten(tmp_path: Path) -> None:
    """A name that is taken gets a number."""
    GrowingWav(tmp_path / "a.wav").close()
    second = GrowingWav(tmp_path / "a.wav")
    second.close()
    assert second.path == tmp_path / "a-2.wav"


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no such modes")
def test_recordings_are_for_the_owner_alone(tmp_path: Path) -> None:
    """Others on the machine can read neither the file nor the folder."""
    folder = checked_folder(tmp_path / "new" / "calls")
    assert folder is not None
    GrowingWav(folder / "a.wav").close()
    assert stat.S_IMODE((folder / "a.wav").stat().st_mode) == 0o600
    assert stat.S_IMODE(folder.stat().st_mode) & 0o077 == 0


@pytest.mark.parametrize("given", [7, True, b"calls", ""], ids=repr)
async def test_folder_must_be_a_path_or_string(given: object) -> None:
    """serve() refuses anything but a path before it opens a port."""
    with pytest.raises(ConfigurationError, match="record_to must be a folder"):
        await Patter().serve(agent_of(), 0, record_to=given)  # type: ignore[arg-type]


async def test_folder_that_is_a_file_is_refused(tmp_path: Path) -> None:
    """serve() refuses a file in the place of the folder."""
    (tmp_path / "calls").write_text("")
    with pytest.raises(ConfigurationError, match="record_to must be a folder that can be made"):
        await Patter().serve(agent_of(), 0, record_to=tmp_path / "calls")


async def test_recording_is_true_or_false() -> None:
    """A folder given as recording= is told where it belongs."""
    with pytest.raises(ConfigurationError, match="a folder is record_to="):
        await Patter().serve(agent_of(), 0, recording="calls")  # type: ignore[arg-type]


def lines(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [record.getMessage() for record in caplog.records if record.levelno >= logging.WARNING]


async def test_slow_disk_ends_the_recording_once(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, autojump_clock: trio.testing.MockClock
) -> None:
    """If nothing is written for 20 s, the recording ends with one warning, and keeps no more audio."""
    media, recordings = MediaClock(), Recordings(tmp_path)
    recording = recordings.open("CA1", media)
    recording.begin()
    for number in range(60):
        media.arrived(8000, number + 1.0)
        recording.said(b"\x00" * 8000)
    assert recording.failed
    assert "0.00 s waiting" in repr(recording)
    recording.end()
    recordings.close()
    await recordings.run()
    ended, missing = lines(caplog)
    assert ended.endswith("CA1.wav: the disk took nothing for 20 s")
    assert missing == "call CA1: recording lacks the last 39.0 s"


async def test_undecided_recording_keeps_little(tmp_path: Path, autojump_clock: trio.testing.MockClock) -> None:
    """While it is open whether a call is recorded, at most 20 s of it are kept, and nothing is written."""
    media, recordings = MediaClock(), Recordings(tmp_path)
    recording = recordings.open("CA1", media)
    for number in range(61):
        media.arrived(8000, number + 1.0)
        recording.said(b"\x00" * 8000)
        assert recording.take() == []
    assert not recording.failed


class HangingDisk(GrowingWav):
    """A disk that takes nothing until the test lets go of it."""

    reached = threading.Event()
    let_go = threading.Event()

    def write(self, parts: Iterable[Sides | Unheard]) -> None:
        del parts
        self.reached.set()
        self.let_go.wait(60)


def test_hanging_disk_does_not_hold_up_the_end(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """A server that closes waits 2 s for the disk, and then ends with a warning."""
    # Its hands are moved by the test alone: a clock that jumps is held while a thread works.
    clock = trio.testing.MockClock()
    media = MediaClock()

    async def main() -> None:
        recordings = Recordings(tmp_path, HangingDisk)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(recordings.run)
            recording = recordings.open("CA1", media)
            recording.begin()
            media.arrived(8000, 1.0)
            recording.said(b"\x00" * 8000)
            await trio.testing.wait_all_tasks_blocked()
            clock.jump(2.0)
            # Blocks on purpose: the thread of the disk is real.
            await trio.to_thread.run_sync(HangingDisk.reached.wait)
            recording.end()
            recordings.close()
            clock.jump(CLOSE_TIMEOUT_S)
        HangingDisk.let_go.set()

    trio.run(main, clock=clock)
    assert lines(caplog) == [
        f"call CA1: recording ended: {tmp_path / 'CA1.wav'}: the disk did not take the rest within 2 s"
    ]


class Buggy(GrowingWav):
    """A file with a bug."""

    def write(self, parts: Iterable[Sides | Unheard]) -> None:
        raise ZeroDivisionError("a bug")


async def test_bug_ends_one_recording_alone(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, autojump_clock: trio.testing.MockClock
) -> None:
    """A bug in writing one call is logged with its traceback; the other call is written."""
    recordings = Recordings(tmp_path, lambda path: (Buggy if path.stem == "CA1" else GrowingWav)(path))
    for call_id in ("CA1", "CA2"):
        media = MediaClock()
        recording = recordings.open(call_id, media)
        recording.begin()
        media.arrived(8000, 1.0)
        recording.said(b"\x00" * 8000)
        recording.end()
    recordings.close()
    await recordings.run()
    first, _ = lines(caplog)
    assert first.endswith("CA1.wav: a bug")
    assert any(record.exc_info for record in caplog.records)
    assert len(read_wav((tmp_path / "CA2.wav").read_bytes())) == 8000
