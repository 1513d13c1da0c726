"""A sampling profiler of processor time, which does not slow the process as a tracing profiler does.

A timer that runs only while the processor works for this process interrupts it; each time, the stack is recorded. Time
in C counts for the Python function that called it.
"""

import argparse
import json
import signal
import sys
from collections import Counter
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import Final

import trio

ROOT: Final = Path(__file__).parents[1]
# 1000 samples for a second of processor time: a share of 1 % in 15 s is 150 samples, exact to a tenth of itself.
SAMPLE_INTERVAL_S: Final = 0.001
"""Seconds of processor time between samples."""


def _name(frame: FrameType) -> str:
    """Return a function's name with its module's, as far as the file name shows it."""
    file = Path(frame.f_code.co_filename).with_suffix("")
    if file.is_relative_to(ROOT):
        parts = file.relative_to(ROOT).parts
    elif "site-packages" in file.parts:
        parts = file.parts[file.parts.index("site-packages") + 1 :]
    else:
        parts = file.parts[-1:]
    return f"{'.'.join(parts)}:{frame.f_code.co_qualname}"


@contextmanager
def sampled(path: Path | None) -> Iterator[None]:
    """Sample the block, and write the profile to ``path``; without a path, do nothing."""
    if path is None:
        yield
        return
    own: Counter[str] = Counter()
    inside: Counter[str] = Counter()
    # By code object: a name is made once, because making it costs more than the rest of a sample.
    names: dict[object, str] = {}

    def sample(_: int, frame: FrameType | None) -> None:
        first, seen = True, set()
        while frame is not None:
            name = names.get(frame.f_code) or names.setdefault(frame.f_code, _name(frame))
            if first:
                own[name] += 1
                first = False
            # Once in each sample, however often a recursive function is on the stack.
            if name not in seen:
                seen.add(name)
                inside[name] += 1
            frame = frame.f_back

    # ITIMER_PROF counts processor time of the whole process, so an idle server is not sampled.
    signal.signal(signal.SIGPROF, sample)
    # A normal exit, so that the profile is written.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit())
    signal.setitimer(signal.ITIMER_PROF, SAMPLE_INTERVAL_S, SAMPLE_INTERVAL_S)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)
        path.write_text(json.dumps({"interval": SAMPLE_INTERVAL_S, "own": own, "inside": inside}))


def run_server(serve: Callable[[bytes], Awaitable[None]]) -> None:
    """Run a server of the benchmark by its command line: the folder of the sounds, and the file for the profile."""
    parser = argparse.ArgumentParser()
    parser.add_argument("sounds", type=Path)
    parser.add_argument("--profile", type=Path)
    given = parser.parse_args()
    with sampled(given.profile):
        trio.run(serve, (given.sounds / "answer.ulaw").read_bytes())
