"""The machine's load while latencies are measured: high load makes them meaningless."""

import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import trio

from patter_trio.net.cpu_time import on_core_and_waiting

# Judged: as often as admission measures (``server/admission.py``).
SAMPLE_INTERVAL_S: Final = 0.05
# Judged: below it, the measured latencies are off by less than their own spread.
MAX_LOOP_LAG_S: Final = 0.05
"""Seconds by which the event loop may be late at the 99th percentile: callers hear a longer delay."""
# As for admission.
MAX_CPU_SHARE: Final = 0.85
"""Share of all cores above which models wait for each other."""
# Judged: a fifth of the work's time was spent waiting for others.
MAX_CROWDING_SHARE: Final = 0.2
"""Seconds of waiting for a core, per second on one, above which other programs distort the latencies."""

THREADS: Final = Path("/proc/self/task")
"""The system's directory with an entry for each thread of this process."""


class LoadMonitor:
    """Monitor of the event loop's lag, the process's share of the CPU, and its threads' waits for a core."""

    def __init__(self, threads: Path = THREADS) -> None:
        self._threads = threads
        # One value, so that a percentile exists before the first measurement.
        self._lags: list[float] = [0.0]
        self._began = trio.current_time()
        # The processor time of the whole process: models run in threads.
        self._cpu = time.process_time()
        self._scheduled: dict[str, tuple[int, int]] = {}
        self._before: dict[str, tuple[int, int]] = {}

    async def watch(self) -> None:
        """Measure until cancelled."""
        self._began, self._cpu = trio.current_time(), time.process_time()
        self._before = dict(_schedule(self._threads))
        while True:
            due = trio.current_time() + SAMPLE_INTERVAL_S
            # Absolute, so that a late measurement is late by exactly its lag.
            await trio.sleep_until(due)
            self._lags.append(trio.current_time() - due)
            # By thread: an ended thread leaves the folder, and its waits must count.
            self._scheduled.update(_schedule(self._threads))  # the last values of an ended thread remain

    def _crowding(self) -> float:
        """Return the seconds of waiting for a core per second on one."""
        ran = waited = 0
        for thread, (running, waiting) in self._scheduled.items():
            ran_before, waited_before = self._before.get(thread, (0, 0))
            ran += running - ran_before
            waited += waiting - waited_before
        return waited / ran if ran else 0.0

    def verdict(self) -> str:
        """Return a warning for the reader of the latencies; empty if they can be trusted."""
        # At the 99th percentile: a single collection of garbage is not a load.
        lag = sorted(self._lags)[int(len(self._lags) * 0.99) - 1]
        # Not 0, if the verdict comes at once.
        wall = max(SAMPLE_INTERVAL_S, trio.current_time() - self._began)
        return verdict(lag, (time.process_time() - self._cpu) / wall / (os.cpu_count() or 1), self._crowding())


def verdict(lag: float, share: float, crowding: float) -> str:
    """Return a warning about latencies measured under this load; empty if they can be trusted.

    Args:
        lag: seconds by which the event loop was late at the 99th percentile.
        share: share of the machine's cores that this process used.
        crowding: seconds that its threads waited for a core, per second that they were on one.
    """
    if lag < MAX_LOOP_LAG_S and share < MAX_CPU_SHARE and crowding < MAX_CROWDING_SHARE:
        return ""
    return (
        "This machine was busy, so these latencies are too long: on an idle one the agent answers faster "
        f"(event loop late by {lag * 1000:.0f} ms at p99, {share:.0%} of the cores used by this program, which waited "
        f"{crowding:.2f} s for a core for each second on one)."
    )


def _schedule(threads: Path) -> Iterator[tuple[str, tuple[int, int]]]:
    """Yield for each thread of this process how long it ran on a core and how long it waited for one, in ns.

    Yield nothing if the system has no such figures.
    """
    for thread in threads.iterdir() if threads.is_dir() else ():
        if (times := on_core_and_waiting(thread)) is not None:
            yield thread.name, times
