"""Admission: the decision to accept a call, by the number of calls, the lag of the event loop and its load.

Lag alone reports an overload too late: announced calls cause no load until they connect, so hundreds of them can be
announced before the loop lags for the first time. So we also measure the loop's load (the share of time for which it
works) and the number of calls that cause it. This gives the cost of a call, and from it the load that the loop will
have once all announced calls and the new one are connected. Lag covers what this estimate cannot foresee: a callback
that blocks, or other work on the machine.

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
"""Seconds of lag that refuse new calls. Callers hear no gaps at this lag, because audio is sent 400 ms ahead, but each
answer and each reaction to the caller's voice is delayed by it."""
# Judged: short against the 100 ms that matter, and a wake-up 20 times a second costs nothing measurable.
MEASUREMENT_INTERVAL_S: Final = 0.05
"""Seconds between two measurements."""
WINDOW_MEASUREMENTS: Final = 40
"""Number of measurements kept: 2 s. Older ones say nothing about the present calls."""
# Measured: a collection of the oldest generation stops a loop with 100 calls for about 70 ms, once in 20 s.
MAX_IGNORED_MEASUREMENTS: Final = WINDOW_MEASUREMENTS // 10
"""Number of the largest lags in the window that are ignored: a garbage collection is not an overload."""
# Measured: at 91 % of a core, with 80 calls, the 99th percentile of an answer was 60 ms above that of 20 calls, at 99 %
# it was 260 ms above (docs/benchmarks.md, "Overload"). The margin is for a machine whose processors are shared.
MAX_WORK_SHARE: Final = 0.85
"""Highest expected load, as a share of time; above it, waiting times grow without bound."""
NEWEST_WEIGHT: Final = MEASUREMENT_INTERVAL_S / 2.0
"""Weight of the newest measurement in the moving averages over 2 s."""
_THIS_THREAD: Final = Path("/proc/thread-self")
# Measured: 20 calls keep one core of the benchmark's machine busy for 34 % (docs/benchmarks.md).
ALWAYS_ADMITTED_CALLS: Final = 20
"""Number of calls accepted at any load: any machine can carry them, and they suffice to measure the cost of a call."""


class Admission:
    """The decision to accept or refuse a call, from the measurements passed in.

    Args:
        max_calls: maximum number of calls, announced ones included; None: no limit.
        max_lag: seconds of lag above which calls are refused; None: calls are refused neither for lag nor for load.
        now: the present instant, in seconds on the clock of all measurements.
    """

    def __init__(self, *, max_calls: int | None = None, max_lag: float | None = None, now: float = 0.0) -> None:
        self._max_calls = max_calls
        self._max_lag = max_lag
        self._lags: deque[float] = deque(maxlen=WINDOW_MEASUREMENTS)
        self._late = False
        self._work = 0.0
        self._worked_for = 0.0
        # None until it has been measured once; never 0 by assumption, because that would admit any burst.
        self._cost: float | None = None
        self.due: float = now + MEASUREMENT_INTERVAL_S
        """The instant at which the next measurement is due. The lag is how much later it is taken."""

    def __repr__(self) -> str:
        return f"<Admission {self.lag * 1000:.0f} ms late, {self._work:.0%} busy{', refusing' if self._late else ''}>"

    @property
    def measures(self) -> bool:
        """True if the decision depends on measurements."""
        return self._max_lag is not None

    @property
    def lag(self) -> float:
        """The lag in seconds that one in ten measurements of the last 2 s exceeded."""
        return (
            sorted(self._lags, reverse=True)[MAX_IGNORED_MEASUREMENTS]
            if len(self._lags) > MAX_IGNORED_MEASUREMENTS
            else 0.0
        )

    def late(self, now: float) -> None:
        """Record the present lag; do nothing before :attr:`due`.

        Each measurement that was missed meanwhile counts: a loop that was blocked for a second was late twenty times.
        """
        if now < self.due:
            return
        missed = math.floor((now - self.due) / MEASUREMENT_INTERVAL_S)
        # Those that would be pushed out of the window at once are not made: under a debugger a loop may stand for an
        # hour.
        for number in range(max(0, missed - WINDOW_MEASUREMENTS), missed + 1):
            self._lags.append(now - (self.due + number * MEASUREMENT_INTERVAL_S))
        # From the plan, not from now: the measurements stay on the grid, and the lag does not drift away.
        self.due += (missed + 1) * MEASUREMENT_INTERVAL_S

    def worked(self, share: float, live: int) -> None:
        """Record the loop's load since the last measurement, and the number of live calls.

        The cost of a call is kept after the last call has ended: it serves to judge a burst after a lull.
        """
        self._work += NEWEST_WEIGHT * (share - self._work)
        self._worked_for += NEWEST_WEIGHT * (live - self._worked_for)
        # Below one call the quotient is mostly the cost of the server itself.
        if self._worked_for >= 1:
            self._cost = self._work / self._worked_for

    def refusal(self, *, live: int, announced: int, now: float, connecting: int | None = None) -> str:
        """Return the reason to refuse one more call; empty: it is accepted.

        Args:
            live: number of connected calls.
            announced: number of accepted calls that are not connected yet.
            now: the present instant. If a measurement is overdue, because the loop lags, it is taken now.
            connecting: number of announced calls that will probably connect, which cause the load to come; None: all.
        """
        calls = live + announced
        if self._max_calls is not None and calls >= self._max_calls:
            return f"{live} live and {announced} announced calls reach the limit of {self._max_calls}"
        if self._max_lag is None:
            return ""
        # WARNING: first. A loop that has just stood still took no measurement meanwhile, and would look healthy.
        self.late(now)
        # Hysteresis: with one threshold the loop would admit and refuse in turns, each admitted call making it late
        # again.
        self._late = self.lag > (self._max_lag / 2 if self._late else self._max_lag)
        if self._late:
            return f"the event loop is {self.lag * 1000:.0f} ms late"
        # Callers who hang up while their call is announced must not use up the trust in the first ones.
        calls = live + (announced if connecting is None else connecting)
        if calls < ALWAYS_ADMITTED_CALLS:
            return ""
        # Refused rather than guessed: a burst at the very start is over before its cost can be measured.
        if self._cost is None:
            return f"{calls} calls came at once, and the cost of a call is not measured yet"
        # Every announced call will cost what a live one does, so it counts in full.
        expected = self._cost * (calls + 1)
        if expected > MAX_WORK_SHARE:
            return f"{calls + 1} calls would keep the event loop busy for {expected:.0%} of the time"
        return ""


def work_seconds() -> float:
    """Return the seconds for which this thread has worked so far; on Linux, including its waits for a processor.

    The waits count because a loop that gets half of a processor is overloaded at half of the work.
    """
    measured = on_core_and_waiting(_THIS_THREAD)
    # Other systems do not report the waits; the thread's own time is then the best there is.
    return time.thread_time() if measured is None else sum(measured) / 1e9


async def measure(admission: Admission, live: Callable[[], int], *, work: Callable[[], float] | None = None) -> Never:
    """Measure lag and load until cancelled.

    Args:
        admission: receives the measurements.
        live: returns the number of live calls.
        work: returns the seconds for which the loop has worked so far; None: :func:`work_seconds`, or always 0 on a
            virtual clock (:class:`trio.testing.MockClock`), where work takes no time.
    """
    if work is None:
        work = (lambda: 0.0) if hasattr(trio.lowlevel.current_clock(), "autojump_threshold") else work_seconds
    before, worked_before = trio.current_time(), work()
    while True:
        # Absolute, so that late measurements do not delay the following ones.
        await trio.sleep_until(admission.due)
        now, worked = trio.current_time(), work()
        admission.late(now)
        # Not on a clock that has not moved, which a virtual clock may do; and never more than all of the time.
        if now > before:
            admission.worked(min(1.0, (worked - worked_before) / (now - before)), live())
        before, worked_before = now, worked
