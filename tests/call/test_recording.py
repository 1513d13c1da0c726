"""Our own recordings: what the file holds beside what caller and agent really heard, and what a bad disk costs."""

from __future__ import annotations

import logging
import signal
import subprocess
import sys
import wave
from collections.abc import Iterable
from pathlib import Path
from typing import NoReturn

import numpy as np
import pytest

from patter_trio import CallControl, Patter
from patter_trio.audio.formats import RATE_HZ
from patter_trio.audio.g711 import Samples
from patter_trio.audio.stereo import Sides, Unheard
from patter_trio.call.recording import GrowingWav, file_name_of
from patter_trio.pytest_plugin import CallSimulator
from patter_trio.server.options import Seams
from patter_trio.testing import ScriptedLLM, ScriptedTTS
from patter_trio.testing.simulation.caller import SimulatedCaller
from tests.kit.call import Backend, agent_of

pytestmark = [pytest.mark.both_backends, pytest.mark.all_carriers]


def read(path: Path) -> tuple[Samples, Samples]:
    """Return both sides of a recording, by the standard library's reader."""
    with wave.open(str(path), "rb") as file:
        assert (file.getnchannels(), file.getsampwidth(), file.getframerate()) == (2, 2, RATE_HZ)
        frames = np.frombuffer(file.readframes(file.getnframes()), "<i2").reshape(-1, 2)
    return frames[:, 0], frames[:, 1]


def files_in(folder: Path) -> list[Path]:
    return list(folder.iterdir())


def the_file(folder: Path) -> Path:
    [path] = files_in(folder)
    return path


def assert_same(recorded: tuple[Samples, Samples], caller: SimulatedCaller, since: float = 0.0) -> None:
    """Check a recording that begins at a time of the call against what the carrier played and sent."""
    first = round(since * RATE_HZ)
    for ours, theirs in zip(recorded, caller.carrier.recording(), strict=True):
        length = min(len(ours), len(theirs) - first)
        assert length > 0
        np.testing.assert_array_equal(ours[:length], theirs[first : first + length])
        # What comes behind is silence.
        assert not ours[length:].any()
        assert not theirs[first + length :].any()


async def test_recording_is_what_was_heard(call_simulator: CallSimulator, backend: Backend, tmp_path: Path) -> None:
    """The left side is what the caller said, the right side what the caller heard, sample for sample."""
    agent = backend.agent_of("It is noon.", first_message="Hello, who is there?")
    async with call_simulator(agent, record_to=tmp_path / "calls") as caller:
        await caller.hears()
        await caller.speaks("What time is it?")
        await caller.hears()
    path = the_file(tmp_path / "calls")
    assert path.name == file_name_of(caller.carrier.call_id)
    assert_same(read(path), caller)
    assert read(path)[0].any()


class OwnBase(BaseException):
    """A BaseException of the application's own, which no border of providers takes."""


class CrashingLLM(ScriptedLLM):
    """A provider of the application's own that crashes its call at its first request."""

    def stream(self, *_: object, **__: object) -> NoReturn:
        raise OwnBase


async def test_crash_before_an_answer_keeps_the_recording(call_simulator: CallSimulator, tmp_path: Path) -> None:
    """A call that crashes while its answer is still being made keeps the greeting in the recording."""
    agent = agent_of(llm=CrashingLLM(["It is noon."]), first_message="Hello, who is there?")
    async with call_simulator(agent, record_to=tmp_path) as caller:
        await caller.hears()
        await caller.speaks("What time is it?")
        await caller.waits(5.0)
    assert caller.outcome == "failed"
    assert_same(read(the_file(tmp_path)), caller)
    assert read(the_file(tmp_path))[1].any()


async def test_barge_in_cuts_the_recording(call_simulator: CallSimulator, backend: Backend, tmp_path: Path) -> None:
    """What the caller did not hear of a reply that was cut is not in the recording."""
    agent = backend.agent_of("Go on.", first_message="This is a very long greeting.", tts=ScriptedTTS(duration=6.0))
    async with call_simulator(agent, record_to=str(tmp_path)) as caller:
        await caller.at(2.0)
        await caller.speaks("Stop please.")
        await caller.hears()
        await caller.at(12.0)
    assert caller.utterances[0].interrupted
    assert_same(read(the_file(tmp_path)), caller)


async def test_network_delay_shifts_no_side(call_simulator: CallSimulator, backend: Backend, tmp_path: Path) -> None:
    """With 80 ms of delay each way, marks show the round trip, and the agent stands where the caller heard it."""
    agent = backend.agent_of("It is noon.", first_message="Hello, who is there?", tts=ScriptedTTS(duration=2.0))
    async with call_simulator(agent, record_to=tmp_path) as caller:
        caller.carrier.up_delay = caller.carrier.down_delay = 0.08
        await caller.hears()
        await caller.speaks("What time is it?")
        await caller.hears()
        await caller.at(12.0)
    assert_same(read(the_file(tmp_path)), caller)


async def test_recording_begins_after_the_notice(
    call_simulator: CallSimulator, backend: Backend, tmp_path: Path
) -> None:
    """The notice comes before the first message, cannot be interrupted, and the recording begins when it was heard."""
    agent = backend.agent_of(
        "Yes.",
        recording_notice="This call is recorded.",
        first_message="Hello there.",
        tts=ScriptedTTS(duration=2.0),
    )
    async with call_simulator(agent, record_to=tmp_path) as caller:
        await caller.at(0.5)
        await caller.speaks("Hello? Hello?")
        await caller.heard(0)
        await caller.at(12.0)
    notice, *others = caller.utterances
    assert (notice.text, notice.interrupted) == ("This call is recorded.", False)
    assert others
    left, right = read(the_file(tmp_path))
    begun = notice.ended
    assert len(left) / RATE_HZ == pytest.approx(12.0 - begun, abs=0.1)
    assert_same((left, right), caller, begun)


@pytest.mark.parametrize("interrupt", [False, True])
async def test_notice_precedes_texts_of_call_start(
    call_simulator: CallSimulator, backend: Backend, tmp_path: Path, interrupt: bool
) -> None:
    """A text that on_call_start has the agent say comes after the notice, and before the first message."""
    agent = backend.agent_of(recording_notice="This call is recorded.", first_message="Hello there.")

    def greet(_: object, call_control: CallControl) -> None:
        call_control.say("Welcome back.", interrupt=interrupt)

    async with call_simulator(agent, record_to=tmp_path, on_call_start=greet) as caller:
        await caller.at(0.1)
        await caller.speaks("Hi!", seconds=0.3)
        await caller.at(12.0)
    said = [utterance.text for utterance in caller.utterances]
    assert said[:3] == ["This call is recorded.", "Welcome back.", "Hello there."]


async def test_notice_has_its_variables_filled_in(call_simulator: CallSimulator, tmp_path: Path) -> None:
    """The notice is spoken with the variables of the call, as the first message is."""
    agent = agent_of(
        recording_notice="{company} records this call.", first_message="Hello {name}.", variables={"company": "Acme"}
    )
    overrides = {"variables": {"company": "Miller", "name": "Ann"}}
    async with call_simulator(agent, record_to=tmp_path, on_call_start=lambda _: overrides) as caller:
        await caller.heard(1)
    assert [utterance.text for utterance in caller.utterances] == ["Miller records this call.", "Hello Ann."]


async def test_notice_that_nobody_heard_records_nothing(
    call_simulator: CallSimulator, backend: Backend, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """If the notice is cut, here by the application, the call is not recorded, and a warning says so."""
    phone = Patter()
    agent = backend.agent_of("Yes.", recording_notice="This call is recorded.", tts=ScriptedTTS(duration=2.0))
    with caplog.at_level(logging.WARNING, "patter_trio.call"):
        async with call_simulator(agent, phone, record_to=tmp_path) as caller:
            await caller.at(1.0)
            phone.calls[0].say("One moment.", interrupt=True)
            await caller.at(5.0)
    assert not files_in(tmp_path)
    assert [record.getMessage() for record in caplog.records] == [
        f"call {caller.carrier.call_id}: not recorded: the caller did not hear the whole recording_notice"
    ]


async def test_notice_is_silent_without_a_recording(call_simulator: CallSimulator, backend: Backend) -> None:
    """A call that nothing records has no notice."""
    agent = backend.agent_of(recording_notice="This call is recorded.", first_message="Hello.")
    async with call_simulator(agent) as caller:
        assert (await caller.hears()).text == "Hello."


class FullDisk(GrowingWav):
    """A file on a disk that becomes full at the fourth write."""

    writes = 0

    def write(self, parts: Iterable[Sides | Unheard]) -> None:
        self.writes += 1
        if self.writes > 3:
            raise OSError(28, "No space left on device")
        super().write(parts)


async def test_full_disk_costs_the_call_nothing(
    call_simulator: CallSimulator, backend: Backend, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """The call goes on untouched, one warning says why, one how much is missing, and what was written can be read."""
    agent = backend.agent_of("It is noon.", first_message="Hello, who is there?")
    with caplog.at_level(logging.WARNING, "patter_trio.call"):
        async with call_simulator(agent, record_to=tmp_path, seams=Seams(open_recording=FullDisk)) as caller:
            await caller.hears()
            await caller.speaks("What time is it?")
            assert (await caller.hears()).text == "It is noon."
            await caller.at(10.0)
    left, right = read(the_file(tmp_path))
    whole = caller.carrier.recording()
    assert 0 < len(left) < 10 * RATE_HZ
    np.testing.assert_array_equal(right, whole[1][: len(right)])
    ended, missing = [record.getMessage() for record in caplog.records]
    assert "recording ended" in ended
    assert "No space left on device" in ended
    assert "recording lacks the last" in missing


async def test_folder_that_vanished_costs_nothing(
    call_simulator: CallSimulator, backend: Backend, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """A file that cannot be made is a warning, and the caller is answered."""
    folder = tmp_path / "calls"
    with caplog.at_level(logging.WARNING, "patter_trio.call"):
        async with call_simulator(backend.agent_of(first_message="Hello."), record_to=folder) as caller:
            folder.rmdir()
            assert (await caller.hears()).text == "Hello."
            await caller.at(3.0)
    assert sum("recording ended" in record.getMessage() for record in caplog.records) == 1


KILLED = """
import os, signal, sys
import trio, trio.testing
from patter_trio.testing.simulation.simulator import simulate_call
from tests.kit.call import agent_of

async def main():
    async with simulate_call(agent_of(first_message="Hello, who is there?"), record_to=sys.argv[1]) as caller:
        await caller.at(1.5)
        await caller.speaks("What time is it?")
        await caller.at(10.0)
        os.kill(os.getpid(), signal.SIGKILL)

trio.run(main, clock=trio.testing.MockClock(autojump_threshold=0))
"""


@pytest.mark.skipif(sys.platform == "win32", reason="needs SIGKILL")
def test_killed_process_loses_at_most_a_second(tmp_path: Path) -> None:
    """A process that is killed 10 s into a call leaves a file that can be read, with at least 9 s of it."""
    done = subprocess.run(  # noqa: S603 (our own program)
        [sys.executable, "-c", KILLED, str(tmp_path)],
        cwd=Path(__file__).parents[2],
        check=False,
        capture_output=True,
        timeout=120,
    )
    assert done.returncode == -signal.SIGKILL, done.stderr.decode()
    left, right = read(the_file(tmp_path))
    assert 9.0 <= len(left) / RATE_HZ <= 10.0
    assert left.any()
    assert right.any()
    assert the_file(tmp_path).stat().st_size >= 44 + 4 * len(left)
