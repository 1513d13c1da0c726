"""The times at which a schedule is due: one, an interval, or those of a cron expression in a time zone."""

import math
from collections.abc import Callable
from datetime import UTC, datetime, timedelta, tzinfo
from typing import Any, Final, Protocol
from zoneinfo import ZoneInfo

import attrs
from cronsim import CronSim, CronSimError

from patter_trio.errors import ConfigurationError

# Judged: nobody counts further, and a run may have lasted for months.
MAX_COUNTED: Final = 1000
"""Most skipped runs of a cron schedule that are counted."""
_CRON_FIELDS: Final = 5


class Times(Protocol):
    """The times at which a schedule is due, in seconds on its clock."""

    def first(self, now: float) -> float:
        """Return the first time."""

    def after(self, due: float, now: float) -> tuple[float, int]:
        """Return the next time after ``now``, and the number of times between it and ``due``; infinity: no more."""


@attrs.frozen
class Once:
    """One time."""

    at: float

    def first(self, now: float) -> float:  # noqa: ARG002 (the time does not depend on it)
        """Return the time."""
        return self.at

    def after(self, due: float, now: float) -> tuple[float, int]:  # noqa: ARG002 (as for first)
        """Return that there is no more."""
        return math.inf, 0


@attrs.frozen
class Interval:
    """A time each ``seconds`` seconds, the first one after as many."""

    seconds: float

    def first(self, now: float) -> float:
        """Return the first time."""
        return now + self.seconds

    def after(self, due: float, now: float) -> tuple[float, int]:
        """Return the next time on the grid that the first one began, so that runs do not drift."""
        steps = math.floor(max(0.0, now - due) / self.seconds) + 1
        return due + steps * self.seconds, steps - 1


@attrs.frozen
class Cron:
    """The times of a cron expression in a time zone."""

    expression: str
    zone: tzinfo

    def first(self, now: float) -> float:
        """Return the first time after now; infinity if 50 years go by without one."""
        return self.after(now, now)[0]

    def after(self, due: float, now: float) -> tuple[float, int]:
        """Return the next time, and the number of those since ``due``, up to :data:`MAX_COUNTED`."""
        for skipped, at in enumerate(CronSim(self.expression, datetime.fromtimestamp(due, self.zone))):
            if at.timestamp() > now:
                return at.timestamp(), skipped
            if skipped == MAX_COUNTED:
                return self.after(now, now)[0], skipped
        return math.inf, 0


class SystemZone(tzinfo):
    """The time zone of the machine, with its rules of daylight saving, which a fixed offset does not have."""

    def __repr__(self) -> str:
        return "SystemZone()"

    def utcoffset(self, at: datetime | None) -> timedelta | None:
        """Return the offset from UTC at a local time."""
        return None if at is None else at.replace(tzinfo=None).astimezone().utcoffset()

    def dst(self, at: datetime | None) -> timedelta | None:  # noqa: ARG002 (the part of it is not known)
        """Return None: the system tells the whole offset alone."""
        return None

    def tzname(self, at: datetime | None) -> str | None:
        """Return the name of the zone at a local time."""
        return None if at is None else at.replace(tzinfo=None).astimezone().tzname()

    def fromutc(self, at: datetime) -> datetime:
        """Return a time in UTC as local time."""
        local = at.replace(tzinfo=UTC).astimezone()
        naive = local.replace(tzinfo=None)
        # An hour that the end of summer time repeats: the second one, if the first one has another offset.
        return naive.replace(tzinfo=self, fold=int(naive.astimezone().utcoffset() != local.utcoffset()))


def zone_of(timezone: Any) -> tzinfo:
    """Return the time zone that ``timezone=`` names; None: that of the machine.

    Raises:
        ConfigurationError: there is no such zone.
    """
    if timezone is None:
        return SystemZone()
    if isinstance(timezone, tzinfo):
        return timezone
    if isinstance(timezone, str):
        # ``KeyError`` also of ``ZoneInfoNotFoundError``; ``OSError``: "Europe" is a folder.
        try:
            return ZoneInfo(timezone)
        except (KeyError, ValueError, OSError):
            pass
    raise ConfigurationError(
        f'timezone must be a name such as "Europe/Paris", or a tzinfo, got {timezone!r}; where the system has no time '
        "zones, pip install tzdata"
    )


def moment_of(at: Any, zone: Callable[[], tzinfo]) -> float:
    """Return the Unix time, in seconds, of a datetime or an ISO 8601 text; without an offset, in ``zone``.

    Raises:
        ConfigurationError: ``at`` is neither.
    """
    moment = at
    if isinstance(at, str):
        try:
            moment = datetime.fromisoformat(at)
        except ValueError:
            moment = None
    if not isinstance(moment, datetime):
        raise ConfigurationError(f'at must be a datetime or an ISO 8601 text such as "2026-12-01T09:00", got {at!r}')
    return (moment if moment.tzinfo is not None else moment.replace(tzinfo=zone())).timestamp()


def interval_of(seconds: Any) -> Interval:
    """Return the times of an interval.

    Raises:
        ConfigurationError: ``seconds`` is not a number above 0.
    """
    # NaN fails the comparison; a bool is an int to Python, and a mistake here.
    if isinstance(seconds, bool) or not isinstance(seconds, int | float) or not 0 < seconds < math.inf:
        raise ConfigurationError(f"seconds must be a number above 0, got {seconds!r}")
    return Interval(float(seconds))


def cron_of(expression: Any, zone: tzinfo, now: float) -> Cron:
    """Return the times of a cron expression.

    Raises:
        ConfigurationError: it is not one of five fields, or it is never due.
    """
    # A sixth field would be seconds, in the first place, where other programs have minutes.
    if not isinstance(expression, str) or len(expression.split()) != _CRON_FIELDS:
        raise ConfigurationError(
            'expression must have five fields (minute, hour, day of month, month, day of week), such as "0 9 * * 1-5", '
            f"got {expression!r}"
        )
    times = Cron(expression, zone)
    try:
        first = times.first(now)
    # ``ValueError``: a number with more digits than Python reads.
    except (CronSimError, ValueError) as error:
        raise ConfigurationError(
            f'expression must be a cron expression such as "0 9 * * 1-5", got {expression!r}: {error}; a field is '
            f"*, a number, a name such as MON or JAN, a range in order (MON-FRI), a list (1,15) or a step (*/10)"
        ) from None
    if first == math.inf:
        raise ConfigurationError(f"expression must be due at some time, got {expression!r}, which never is")
    return times
