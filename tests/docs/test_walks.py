"""docs/design.md walks through the code: a call runs the functions that it lists, in that order."""

import re
import sys
from collections.abc import Iterator
from pathlib import Path
from types import FrameType

import pytest
import trio

import patter_trio
from patter_trio import Patter
from patter_trio.pytest_plugin import CallSimulator
from patter_trio.testing import ScriptedLLM, ScriptedSTT, ScriptedTTS, ScriptedVAD

PACKAGE = Path(patter_trio.__file__).parent
PREFIX = f"{PACKAGE}/"
PAGE = PACKAGE.parent / "docs" / "design.md"
STEP = re.compile(r"^\| `(?P<file>[\w/]+\.py)` \| `(?P<function>[\w.]+)` \|", re.MULTILINE)

WALKS = {
    "One 20 ms frame of the caller's voice": (0.6, 0.62),
    "One reply": (2.9, 4.0),
    "One barge-in": (5.0, 5.3),
}
"""Headings of the page, and from when to when in the simulated call it happens, in seconds."""

Step = tuple[str, str]


def steps_of(heading: str) -> list[Step]:
    """Return the files and functions in the table under a heading of the page."""
    section = PAGE.read_text(encoding="utf-8").split(f"### {heading}\n", 1)[1].split("\n#", 1)[0]
    return [(step["file"], step["function"]) for step in STEP.finditer(section)]


class Recorder:
    """Profiler that records which functions of the package ran, and when."""

    def __init__(self) -> None:
        self.ran: list[tuple[float, Step]] = []

    def __call__(self, frame: FrameType, event: str, argument: object) -> None:
        del argument
        code = frame.f_code
        if event == "call" and code.co_filename.startswith(PREFIX):
            self.ran.append((trio.current_time(), (code.co_filename.removeprefix(PREFIX), code.co_qualname)))

    def between(self, start: float, end: float) -> Iterator[Step]:
        """Yield the functions that ran from one instant of the call to another."""
        yield from (step for at, step in self.ran if start <= at <= end)


async def test_walks_are_in_order(call_simulator: CallSimulator) -> None:
    """A simulated call runs every function of a walk, each after the one above it."""
    recorder = Recorder()
    agent = Patter().agent(
        "...",
        vad=ScriptedVAD(start_delay=0.05, end_delay=0.5),
        stt=ScriptedSTT(final_delay=0.2),
        llm=ScriptedLLM(["Our opening hours are from nine to five, every day of the week."], duration=0.3),
        tts=ScriptedTTS(first_audio=0.2, duration=10.0),
    )
    sys.setprofile(recorder)
    try:
        async with call_simulator(agent) as caller:
            await caller.at(0.5)
            await caller.speaks("What are your hours?", seconds=2.0)
            await caller.at(5.0)
            await caller.speaks("Stop!", seconds=1.0)
            await caller.heard(0)
    finally:
        sys.setprofile(None)
    for heading, (start, end) in WALKS.items():
        ran = recorder.between(start, end)
        missing = next((step for step in steps_of(heading) if step not in ran), None)  # "in" consumes up to the step
        assert missing is None, f"{heading}: {missing} does not run there"


@pytest.mark.parametrize("heading", WALKS)
def test_each_walk_has_steps(heading: str) -> None:
    """Each walk on the page has more than eight steps and goes through at least four folders."""
    steps = steps_of(heading)
    assert len(steps) > 8
    assert len({file.split("/")[0] for file, _ in steps}) >= 4
