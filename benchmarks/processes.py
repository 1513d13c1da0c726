"""The processes of the benchmarks: pinned to a core, started with a log, and what the machine did meanwhile."""

import json
import os
import subprocess
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, Final

ROOT: Final = Path(__file__).parents[1]


def pinned(core: int, nice: int) -> Callable[[], None] | None:
    """Return what a child process does first to run on one core (-1: any) with a niceness; None: nothing."""
    if core < 0 and not nice:
        return None

    def prepare() -> None:
        if core >= 0:
            os.sched_setaffinity(0, {core})
        if nice:
            # If the kernel groups tasks by session (autogroup), the niceness of a process counts only within its
            # session.
            os.setsid()
            os.setpriority(os.PRIO_PROCESS, 0, nice)
            with suppress(OSError):
                Path("/proc/self/autogroup").write_text(str(nice))

    return prepare


@contextmanager
def started(command: Sequence[str], log: Path, prepare: Callable[[], None] | None) -> Iterator[subprocess.Popen[bytes]]:
    """Run a server while the block runs; kill it at the end, because nothing that it could still do is measured."""
    # To a file: a pipe that nobody reads would stop a talkative server when it is full.
    with log.open("ab") as stderr:
        server = subprocess.Popen(
            command,
            stdout=subprocess.PIPE,
            stderr=stderr,
            cwd=ROOT,
            preexec_fn=prepare,  # noqa: PLW1509 (this process has no threads)
        )
    try:
        yield server
    finally:
        server.kill()
        server.wait()
        if server.stdout is not None:
            server.stdout.close()


def description_of(server: subprocess.Popen[bytes], name: str, log: Path) -> Any:
    """Return what a server prints as JSON once it accepts connections."""
    assert server.stdout is not None
    # A server that fails closes the pipe instead.
    line = server.stdout.readline()
    if not line.startswith(b"{"):
        raise RuntimeError(f"{name} did not start: {log.read_text(errors='replace')[-2000:]}")
    return json.loads(line)


def processors() -> tuple[int, int]:
    """Return the stolen ticks of all processors, and all of their ticks (proc(5), /proc/stat)."""
    try:
        # The first line sums all processors: user, nice, system, idle, iowait, irq, softirq, steal. Guest time, the
        # fields after them, is part of user and would count twice.
        ticks = [int(field) for field in Path("/proc/stat").read_text().partition("\n")[0].split()[1:9]]
    # Not Linux: nothing is known to be stolen.
    except (OSError, ValueError):
        return 0, 0
    return ticks[7], sum(ticks)
