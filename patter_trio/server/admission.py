"""Whether one more call is welcome: by their number, by how late the event loop is, and by what a call costs it.

Lateness tells of trouble that is there already, and it tells of it late: calls that were announced and are not yet
connected burden nobody, and hundreds of them can be announced before the loop is late for the first time. So the share
of time for which the loop works is measured, too, and how many calls it worked for; what it would be with all that were
announced, and one more, is known before they come. The lateness remains the judge of all that is not foreseen: a
callback that blocks, a machine that does something else.

The decision is pure: time is an argument. :func:`measure` is the task around it.
"""

import math
import time
from collections import deque
from collections.abc import Callable
from pathlib import Path
from typing import Final, Never

import trio

from patter_trio.net.cpu_time import on_core_and_waiting

MAX_LAG_S: Final = 0.1
"""Seconds. Audio is sent 400 ms ahead, so that no caller hears lateness as such; but each answer and each reaction to a
caller's voice is later by as much."""
MEASUREMENT_INTERVAL_S: Final = 0.05
"""Seconds between two measurements."""
WINDOW_MEASUREMENTS: Final = 40
"""Measurements that are remembered: 2 s. What was before says nothing of the calls that are here now."""
MAX_IGNORED_MEASUREMENTS: Final = WINDOW_MEASUREMENTS // 10
"""So many of them may be later than the lag that counts: a collection of garbage is no overload."""
MAX_WORK_SHARE: Final = 0.85
"""Share of time for which the loop may be expected to work; above it, waiting times grow without measure."""
NEWEST_WEIGHT: Final = MEASUREMENT_INTERVAL_S / 2.0
"""Of the newest measurement in the averages over the last 2 s."""
_THIS_THREAD: Final = Path("/proc/thread-self")
ALWAYS_ADMITTED_CALLS: Final = 20
"""Calls that are admitted whatever they may cost: as many as any machine can carry, and enough to measure it."""


class Admission:
    """Decides whether a new call is welcome, from measurements that it is given.

    Args:
        max_calls: most calls at once, announced ones included; None: no limit.
        max_lag: seconds by which the loop may be late; None: neither lag nor work is a reason.
        now: the present instant, in seconds on the clock that all measurements are taken by.
    """

    def __init__(self, *, max_calls: int | None = None, max_lag: float | None = None, now: float = 0.0) -> None:
        self._max_calls = max_calls
        self._max_lag = max_lag
        self._lags: deque[float] = deque(maxlen=WINDOW_MEASUREMENTS)
        self._late = False
        self._work = 0.0
        self._worked_for = 0.0
        self._cost: float | None = None
        self.due: float = now + MEASUREMENT_INTERVAL_S
        """When the next measurement should be taken; how much later it is, is the lag."""

    def __repr__(self) -> str:
        return (
            f"<Admission {self.lag * 1000:.0f} ms late, {self._work:.0%} at work{', refusing' if self._late else ''}>"
        )

    @property
    def measures(self) -> bool:
        """Whether measurements matter."""
        return self._max_lag is not None

    @property
    def lag(self) -> float:
        """Seconds by which the loop was late: what one in ten measurements of the last 2 s exceeded."""
        return (
            sorted(self._lags, reverse=True)[MAX_IGNORED_MEASUREMENTS]
            if len(self._lags) > MAX_IGNORED_MEASUREMENTS
            else 0.0
        )

    def late(self, now: float) -> None:
        """Take note of how late it is; does nothing before :attr:`due`.

        Every measurement that was missed meanwhile counts: a loop that stood still for a second was late twenty times.
        """
        if now < self.due:
            return
        missed = math.floor((now - self.due) / MEASUREMENT_INTERVAL_S)
        for number in range(max(0, missed - WINDOW_MEASUREMENTS), missed + 1):
            self._lags.append(now - (self.due + number * MEASUREMENT_INTERVAL_S))
        self.due += (missed + 1) * MEASUREMENT_INTERVAL_S

    def worked(self, share: float, live: int) -> None:
        """Take note of the share of time, since the last time, for which the loop worked, and for how many calls.

        What a call costs is remembered when none is up any more: a burst after a lull is judged by the calls before it.
        """
        self._work += NEWEST_WEIGHT * (share - self._work)
        self._worked_for += NEWEST_WEIGHT * (live - self._worked_for)
        if self._worked_for >= 1:
            self._cost = self._work / self._worked_for

    def refusal(self, *, live: int, announced: int, now: float) -> str:
        """Return why one more call is not welcome; empty: it is.

        Args:
            live: calls that are connected.
            announced: calls that were admitted and are not connected yet.
            now: the present instant; a measurement that is due and was not taken, because the loop is late, counts.
        """
        calls = live + announced
        if self._max_calls is not None and calls >= self._max_calls:
            return f"{live} calls and {announced} announced ones are all that may be"
        if self._max_lag is None:
            return ""
        self.late(now)
        self._late = self.lag > (self._max_lag / 2 if self._late else self._max_lag)
        if self._late:
            return f"the event loop is {self.lag * 1000:.0f} ms late"
        if calls < ALWAYS_ADMITTED_CALLS:
            return ""
        if self._cost is None:
            return f"{calls} calls came at once, and what they cost is not known yet"
        expected = self._cost * (calls + 1)
        if expected > MAX_WORK_SHARE:
            return f"{calls + 1} calls would keep the event loop at work for {expected:.0%} of the time"
        return ""


def work_seconds() -> float:
    """Return the seconds for which this thread has worked so far, or, where the system tells, wanted to.

    Linux tells how long a thread waited for a processor: a loop that gets half of one is at its end at half of the work.
    """
    told = on_core_and_waiting(_THIS_THREAD)
    return time.thread_time() if told is None else sum(told) / 1e9


async def measure(admission: Admission, live: Callable[[], int], *, work: Callable[[], float] | None = None) -> Never:
    """Measure until cancelled.

    Args:
        admission: what is told of it.
        live: says how many calls there are.
        work: says for how many seconds the loop has worked so far; default: :func:`work_seconds`, but nothing on a clock
            that jumps (:class:`trio.testing.MockClock`), where work takes no time.
    """
    if work is None:
        work = (lambda: 0.0) if hasattr(trio.lowlevel.current_clock(), "autojump_threshold") else work_seconds
    before, worked_before = trio.current_time(), work()
    while True:
        await trio.sleep_until(admission.due)
        now, worked = trio.current_time(), work()
        admission.late(now)
        if now > before:
            admission.worked(min(1.0, (worked - worked_before) / (now - before)), live())
        before, worked_before = now, worked
