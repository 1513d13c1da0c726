"""Was the machine too busy for its latencies to mean anything?"""

import os
import time
from typing import Final

import trio

STEP: Final = 0.05
LATE: Final = 0.05
"""Seconds by which the event loop may be late at the 99th percentile: more is heard in the audio."""
FULL: Final = 0.85
"""Share of all cores from which models wait for each other."""


class Busy:
    """Watches the event loop's lag and the process's share of the machine."""

    def __init__(self) -> None:
        self._lags: list[float] = [0.0]
        self._began = trio.current_time()
        self._cpu = time.process_time()

    async def watch(self) -> None:
        """Measure until cancelled."""
        self._began, self._cpu = trio.current_time(), time.process_time()
        while True:
            due = trio.current_time() + STEP
            await trio.sleep_until(due)
            self._lags.append(trio.current_time() - due)

    def verdict(self) -> str:
        """Return a sentence for the reader of the latencies; empty when they can be trusted."""
        cores = os.cpu_count() or 1
        lag = sorted(self._lags)[int(len(self._lags) * 0.99) - 1]
        wall = max(STEP, trio.current_time() - self._began)
        return verdict(lag, (time.process_time() - self._cpu) / wall / cores, os.getloadavg()[0] / cores)


def verdict(lag: float, share: float, load: float) -> str:
    """Return what to think of latencies measured under these circumstances; empty when they can be trusted.

    Args:
        lag: seconds by which the event loop was late at the 99th percentile.
        share: of the machine's cores that this process used.
        load: the machine's mean load of the last minute, per core.
    """
    if lag < LATE and share < FULL and load < 1.0:
        return ""
    return (
        f"This machine was too busy to trust these latencies (event loop late by {lag * 1000:.0f} ms at p99, "
        f"{share:.0%} of its cores used by this program, load {load:.0%} of its cores): the agent is faster than that."
    )
