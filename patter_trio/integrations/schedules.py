"""Schedules: calls to the application's functions at a time, at an interval, or by a cron expression.

::

    async with trio.open_nursery() as nursery:
        await nursery.start(phone.serve, agent)
        schedule_once("2026-12-01T09:00", lambda: phone.call("+15550100003"), timezone="Europe/Paris")

trio has no loop into which a function could put tasks behind everybody's back: a schedule runs in a nursery. That is
the one given, or one beside the phone that is served.
"""

import logging
import math
import time
from collections.abc import Awaitable, Callable
from contextlib import suppress
from contextvars import Context
from datetime import datetime, tzinfo
from typing import Any, Final
from uuid import uuid4

import trio

from patter_trio.errors import ConfigurationError
from patter_trio.integrations.times import Once, Times, cron_of, interval_of, moment_of, zone_of
from patter_trio.providers.keyword_hints import with_hints
from patter_trio.server.schedule_host import ScheduleHost, schedule_host
from patter_trio.user_code import invoke
from patter_trio.user_code.signatures import name_of, parameters_of

ScheduledCallback = Callable[[], Awaitable[object] | object]
"""A function without arguments, sync or async."""

# Judged: a call that is late by more than that is one at an hour that nobody has chosen.
MAX_LATE_S: Final = 60.0
"""Seconds by which a run at a time of day may be late; a later one is skipped."""
# Judged: a clock that is set, or a machine that sleeps, delays a run by no more than that.
CLOCK_CHECK_S: Final = 30.0
"""Seconds after which a schedule that waits looks at the clock again."""

_log = logging.getLogger("patter_trio.schedules")


class ScheduleHandle:
    """A schedule that :func:`schedule_once`, :func:`schedule_interval` or :func:`schedule_cron` has made."""

    __slots__ = ("_callback", "_cancelled", "_clock", "_is_wall_clock", "_over", "_times", "_token", "job_id")

    def __init__(
        self, job_id: str, times: Times, callback: ScheduledCallback, clock: Callable[[], float], *, is_wall_clock: bool
    ) -> None:
        self.job_id: str = job_id
        """The id of the schedule, which is in the log: its kind and a random part."""
        self._times = times
        self._callback = callback
        self._clock = clock
        self._is_wall_clock = is_wall_clock
        self._cancelled = trio.Event()
        self._over = trio.Event()
        self._token = trio.lowlevel.current_trio_token()

    def __repr__(self) -> str:
        return f"<ScheduleHandle {self.job_id}, {'pending' if self.pending else 'over'}>"

    @property
    def pending(self) -> bool:
        """True if another run may begin."""
        return not (self._cancelled.is_set() or self._over.is_set())

    def cancel(self) -> None:
        """Begin no more runs; one under way goes on to its end. It can be called again, and from any thread."""
        # Not by cancelling a scope: a callback that cancels its own schedule has to come to its end.
        if trio.lowlevel.in_trio_run() and trio.lowlevel.current_trio_token() is self._token:
            self._cancelled.set()
            return
        with suppress(trio.RunFinishedError):
            self._token.run_sync_soon(self._cancelled.set)

    async def _run(self) -> None:
        """Run the callback whenever it is due, until there is no more or the schedule is cancelled."""
        due = self._times.first(self._clock())
        try:
            while await self._wait(due):
                late = self._clock() - due
                if self._is_wall_clock and late > MAX_LATE_S:
                    _log.warning("schedule %s: skipped a run that was due %.0f s ago", self.job_id, late)
                else:
                    # Before the last run, not behind it: ``pending`` asks whether another one begins.
                    if self._times.after(due, due)[0] == math.inf:
                        self._over.set()
                    await self._call()
                due, skipped = self._times.after(due, self._clock())
                if skipped:
                    _log.warning(
                        "schedule %s: skipped %d runs that were due while %s ran",
                        self.job_id,
                        skipped,
                        name_of(self._callback),
                    )
        finally:
            self._over.set()

    async def _wait(self, due: float) -> bool:
        """Wait until ``due``; return False if there will be no run."""
        if due == math.inf:
            return False
        while not self._cancelled.is_set() and (left := due - self._clock()) > 0:
            # In steps, because the wall clock may be set, and trio's clock stands while the machine sleeps.
            with trio.move_on_after(min(left, CLOCK_CHECK_S) if self._is_wall_clock else left):
                await self._cancelled.wait()
        return not self._cancelled.is_set()

    async def _call(self) -> None:
        try:
            await invoke.call(self._callback)
        except invoke.ApplicationError as error:
            _log.warning("schedule %s: %s", self.job_id, error, exc_info=error.__cause__)


@with_hints()
def schedule_once(
    at: datetime | str,
    callback: ScheduledCallback,
    *,
    timezone: str | tzinfo | None = None,
    nursery: trio.Nursery | None = None,
) -> ScheduleHandle:
    """Call a function once, at a time.

    A time that passed less than 60 s ago is now. A local time that the start of summer time skips is as much later as
    the clock was put forward; of one that its end repeats, it is the first.

    Args:
        at: a datetime, or an ISO 8601 text such as ``2026-12-01T09:00``.
        callback: a function without arguments, sync or async. What it raises is logged.
        timezone: the zone of a time without an offset, such as ``Europe/Paris``, or a tzinfo; None: the machine's.
        nursery: the nursery that runs the schedule; None: one beside the phone that is served, until it is closed.

    Raises:
        ConfigurationError: ``at`` is not a time, or passed more than 60 s ago; there is no such ``timezone``;
            ``callback`` is not a function without arguments; or there is no ``nursery``, and no phone is served.
    """
    _check(callback)
    place = _place(nursery)
    moment = moment_of(at, lambda: zone_of(timezone))
    late = place.unix_time() - moment
    # Raised, not called: a program that is wrong about the day or the zone would call people at night.
    if late > MAX_LATE_S:
        raise ConfigurationError(
            f"at must not have passed more than {MAX_LATE_S:g} s ago, got {at!r}, {late:.0f} s ago"
        )
    return _started("once", Once(moment), callback, place, place.unix_time, is_wall_clock=True)


@with_hints()
def schedule_interval(
    seconds: float, callback: ScheduledCallback, *, nursery: trio.Nursery | None = None
) -> ScheduleHandle:
    """Call a function each ``seconds`` seconds, the first time after as many.

    Runs do not overlap: those that are due while one is under way are skipped, and their number is logged.

    Args:
        seconds: seconds from the start of one run to the next, above 0.
        callback: a function without arguments, sync or async. What it raises is logged, and ends only that run.
        nursery: the nursery that runs the schedule; None: one beside the phone that is served, until it is closed.

    Raises:
        ConfigurationError: ``seconds`` is not a number above 0; ``callback`` is not a function without arguments;
            or there is no ``nursery``, and no phone is served.
    """
    _check(callback)
    times = interval_of(seconds)
    return _started("interval", times, callback, _place(nursery), trio.current_time, is_wall_clock=False)


@with_hints()
def schedule_cron(
    expression: str,
    callback: ScheduledCallback,
    *,
    timezone: str | tzinfo | None = None,
    nursery: trio.Nursery | None = None,
) -> ScheduleHandle:
    """Call a function by a cron expression, such as ``0 9 * * 1-5``: at nine, from Monday to Friday.

    Runs do not overlap, as for :func:`schedule_interval`. Summer time is as in Debian's cron: a run at a time of day
    that the clock skips follows at once, and one at a time that it repeats comes once.

    Args:
        expression: minute, hour, day of month, month, day of week, as in ``man 5 crontab``; names such as ``MON`` and
            ``JAN`` count, and ``L`` is a month's last day.
        callback: a function without arguments, sync or async. What it raises is logged, and ends only that run.
        timezone: the zone of the expression, such as ``Europe/Paris``, or a tzinfo; None: the machine's.
        nursery: the nursery that runs the schedule; None: one beside the phone that is served, until it is closed.

    Raises:
        ConfigurationError: ``expression`` is not one of five fields, or is never due; there is no such ``timezone``;
            ``callback`` is not a function without arguments; or there is no ``nursery``, and no phone is served.
    """
    _check(callback)
    place = _place(nursery)
    times = cron_of(expression, zone_of(timezone), place.unix_time())
    return _started("cron", times, callback, place, place.unix_time, is_wall_clock=True)


def _check(callback: Any) -> None:
    wanted = "callback must be a function without arguments, such as lambda: phone.call(number)"
    if not callable(callback):
        raise ConfigurationError(f"{wanted}, got {callback!r}")
    # Now, not when it is due: nobody looks at the log of a call that should be made tomorrow.
    needed = [
        parameter.name
        for parameter in parameters_of(callback) or ()
        if parameter.default is parameter.empty
        and parameter.kind not in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD)
    ]
    if needed:
        raise ConfigurationError(f"{wanted}, got {name_of(callback)}, which needs {', '.join(needed)}")


def _place(nursery: trio.Nursery | None) -> ScheduleHost:
    """Return where a schedule runs.

    Raises:
        ConfigurationError: nowhere.
    """
    if nursery is not None and not isinstance(nursery, trio.Nursery):
        raise ConfigurationError(f"nursery must be a trio.Nursery, got {nursery!r}")
    in_run = trio.lowlevel.in_trio_run()
    host = schedule_host() if in_run else None
    if nursery is not None and in_run:
        # By the server's clock, so that a test sets the time of all schedules in one place.
        return ScheduleHost(nursery, _own_unix_time() if host is None else host.unix_time)
    if host is None:
        raise ConfigurationError(
            "a schedule must be made while phone.serve runs, such as after `await nursery.start(phone.serve, agent)`, "
            "or be given nursery=; both need a program that runs on trio, such as by trio.run(main)"
        )
    return host


def _own_unix_time() -> Callable[[], float]:
    """Return the clock for schedules where no phone is served: on a virtual clock, time passes as on that clock."""
    # Only trio's mock clock has the attribute.
    if not hasattr(trio.lowlevel.current_clock(), "autojump_threshold"):
        # The function, not the time: the machine's clock may be set.
        return time.time
    epoch = time.time() - trio.current_time()
    return lambda: epoch + trio.current_time()


def _started(
    kind: str,
    times: Times,
    callback: ScheduledCallback,
    place: ScheduleHost,
    clock: Callable[[], float],
    *,
    is_wall_clock: bool,
) -> ScheduleHandle:
    handle = ScheduleHandle(f"{kind}-{uuid4().hex}", times, callback, clock, is_wall_clock=is_wall_clock)
    # In a context of its own: a schedule that is made in a call's callback outlives the call, and is not a part of it.
    Context().run(place.nursery.start_soon, handle._run)  # noqa: SLF001 (same module: applications must not run it)
    return handle
