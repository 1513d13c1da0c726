"""Schedules: when they run, in virtual time, and what ends them."""

import math
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta, timezone
from functools import partial
from typing import Any
from zoneinfo import ZoneInfo

import pytest
import trio
from hypothesis import given
from hypothesis import strategies as st

from patter_trio import ConfigurationError, Patter, schedule_cron, schedule_interval, schedule_once
from patter_trio.integrations.times import MAX_COUNTED, Cron, Interval, SystemZone, cron_of
from patter_trio.pytest_plugin import PhoneNetworkFixture
from patter_trio.server.schedule_host import host_schedules
from patter_trio.user_code.context import NO_CALL, current_call
from tests.kit.call import agent_of

PARIS = "Europe/Paris"


@asynccontextmanager
async def served_at(moment: str, zone: str = "UTC") -> AsyncIterator[None]:
    """A place for schedules whose clock shows ``moment`` in ``zone`` now."""
    epoch = datetime.fromisoformat(moment).replace(tzinfo=ZoneInfo(zone)).timestamp() - trio.current_time()
    async with host_schedules(lambda: epoch + trio.current_time()):
        yield


class Runs:
    """A callback that notes when it ran."""

    def __init__(self, lasts: float = 0.0) -> None:
        self.times: list[float] = []
        self.lasts = lasts

    async def __call__(self) -> None:
        self.times.append(trio.current_time())
        await trio.sleep(self.lasts)


@pytest.mark.parametrize(
    "at",
    [
        pytest.param("2026-12-01T09:00", id="text"),
        pytest.param("2026-12-01T08:00Z", id="text-utc"),
        pytest.param("2026-12-01T09:00+01:00", id="text-offset"),
        pytest.param(datetime(2026, 12, 1, 9), id="naive"),  # noqa: DTZ001 (the case)
        pytest.param(datetime(2026, 12, 1, 8, tzinfo=UTC), id="aware"),
    ],
)
async def test_a_time_is_met_in_its_zone(at: Any, autojump_clock: object) -> None:
    """A callback runs once at a time given in any form; one without an offset is in ``timezone``."""
    runs = Runs()
    async with served_at("2026-12-01T08:30", PARIS):
        handle = schedule_once(at, runs, timezone=PARIS)
        assert handle.pending
        await trio.sleep(7200)
        assert not handle.pending
    assert runs.times == pytest.approx([1800])


async def test_local_time_is_the_machines(monkeypatch: pytest.MonkeyPatch, autojump_clock: object) -> None:
    """Without ``timezone``, a time and a cron expression are in the machine's zone."""
    with monkeypatch.context() as patched:
        patched.setenv("TZ", "America/New_York")
        time.tzset()
        once, daily = Runs(), Runs()
        async with served_at("2026-07-01T12:00", "UTC"):
            schedule_once("2026-07-01T08:30", once)
            schedule_cron("45 8 * * *", daily)
            await trio.sleep(3600)
    time.tzset()
    assert once.times == pytest.approx([1800])
    assert daily.times == pytest.approx([2700])


async def test_time_just_passed_is_now(autojump_clock: object) -> None:
    """A time that passed less than a minute ago is met at once, an older one is refused."""
    runs = Runs()
    async with served_at("2026-12-01T09:00:30"):
        schedule_once("2026-12-01T09:00", runs, timezone="UTC")
        await trio.sleep(1)
        with pytest.raises(ConfigurationError, match="must not have passed more than 60 s ago"):
            schedule_once("2026-12-01T08:59", runs, timezone="UTC")
    assert runs.times == pytest.approx([0])


@pytest.mark.parametrize(
    ("make", "message"),
    [
        pytest.param(lambda f: schedule_once("soon", f), "ISO 8601", id="at"),
        pytest.param(lambda f: schedule_once(5, f), "ISO 8601", id="at-number"),
        pytest.param(lambda f: schedule_once("2030-01-01", f, timezone="Mars/Base"), "Europe/Paris", id="zone"),
        pytest.param(lambda f: schedule_once("2030-01-01", f, timezone="Europe"), "Europe/Paris", id="zone-folder"),
        pytest.param(lambda f: schedule_interval(0, f), "above 0", id="zero"),
        pytest.param(lambda f: schedule_interval(math.nan, f), "above 0", id="nan"),
        pytest.param(lambda f: schedule_interval(True, f), "above 0", id="bool"),
        pytest.param(lambda f: schedule_cron("@daily", f), "five fields", id="fields"),
        pytest.param(lambda f: schedule_cron("0 0 9 * * *", f), "five fields", id="seconds"),
        pytest.param(lambda f: schedule_cron("61 * * * *", f), "must be a cron expression .* Bad minute", id="minute"),
        pytest.param(lambda f: schedule_cron("0 0 30 2 *", f), "day-of-month", id="never"),
        pytest.param(lambda f: schedule_cron("0 9 * * FRI-MON", f), r"a range in order \(MON-FRI\)", id="backwards"),
        pytest.param(lambda _: schedule_interval(1, None), "without arguments", id="callback"),  # type: ignore[arg-type]
        pytest.param(
            lambda _: schedule_once("2030-01-01", Patter().call),
            r"such as lambda: phone.call\(number\), got Patter.call, which needs to",
            id="call-without-number",
        ),
        pytest.param(lambda f: schedule_interval(1, f, nursery=object()), r"trio\.Nursery", id="nursery"),  # type: ignore[arg-type]
    ],
)
async def test_mistakes_are_refused_at_once(make: Callable[[Any], object], message: str) -> None:
    """A mistake is an error of the call that makes the schedule, and says what must hold."""
    async with served_at("2026-12-01T09:00"):
        with pytest.raises(ConfigurationError, match=message):
            make(Runs())


async def test_misspelt_option_is_corrected() -> None:
    """A misspelt option is an error that names the one which was probably meant."""
    with pytest.raises(TypeError, match=r"takes 2 positional arguments but 3 .* by name: timezone=, nursery="):
        schedule_cron("0 9 * * *", Runs(), "UTC")  # type: ignore[misc]
    with pytest.raises(TypeError, match=r"schedule_cron\(\) got .*'timezon' \(did you mean timezone\?\)"):
        schedule_cron("0 9 * * *", Runs(), timezon="UTC")  # type: ignore[call-arg]


async def test_without_a_place_is_refused() -> None:
    """Without a served phone and without a nursery, the error says what to do."""
    with pytest.raises(ConfigurationError, match=r"nursery\.start\(phone\.serve, agent\)"):
        schedule_interval(1, Runs())


def test_outside_of_trio_is_refused() -> None:
    """Outside of a trio run, the error says what to do."""
    with pytest.raises(ConfigurationError, match="a program that runs on trio"):
        schedule_interval(1, Runs())


async def test_interval_begins_after_one_interval(autojump_clock: object) -> None:
    """An interval's first run comes after one interval, and the others on its grid."""
    runs = Runs(lasts=1.0)
    async with trio.open_nursery() as nursery:
        handle = schedule_interval(2.5, runs, nursery=nursery)
        await trio.sleep(8)
        handle.cancel()
    assert runs.times == pytest.approx([2.5, 5.0, 7.5])


async def test_long_runs_do_not_pile_up(autojump_clock: object, caplog: pytest.LogCaptureFixture) -> None:
    """Runs that are due while one is under way are skipped, and one log line has their number."""
    runs = Runs(lasts=7.0)
    async with trio.open_nursery() as nursery:
        handle = schedule_interval(2, runs, nursery=nursery)
        await trio.sleep(9.5)
        handle.cancel()
    assert runs.times == pytest.approx([2.0])
    async with served_at("2026-12-01T09:00"):
        hours = Runs(lasts=150.0)
        schedule_cron("* * * * *", hours)
        await trio.sleep(250)
    assert [round(at - hours.times[0]) for at in hours.times] == [0, 180]
    skipped = [record.message for record in caplog.records if "skipped" in record.message]
    assert [message.partition(": ")[2].partition(" while")[0] for message in skipped] == [
        "skipped 3 runs that were due",
        "skipped 2 runs that were due",
    ]


async def test_exceptions_end_only_their_run(autojump_clock: object, caplog: pytest.LogCaptureFixture) -> None:
    """What a callback raises, sync or async, SystemExit too, is logged once for each run, and the next run follows."""
    times: list[float] = []

    def fails() -> None:
        times.append(trio.current_time())
        raise SystemExit(2) if len(times) == 1 else ValueError("no")

    async def fails_later() -> None:
        await trio.sleep(0.5)
        raise ExceptionGroup("several", [KeyError("x")])

    async with trio.open_nursery() as nursery:
        handles = [schedule_interval(2, callback, nursery=nursery) for callback in (fails, fails_later)]
        await trio.sleep(5)
        for handle in handles:
            handle.cancel()
    assert times == pytest.approx([2.0, 4.0])
    logged = [record.message.partition(": ")[2] for record in caplog.records if record.name == "patter_trio.schedules"]
    assert len(logged) == 4
    assert logged[0].endswith("fails raised SystemExit: 2")
    assert logged[1].endswith("fails_later raised KeyError: 'x'")


async def test_cancel_lets_a_run_end(autojump_clock: object) -> None:
    """Cancelling begins no more runs; one under way, which may be the one that cancels, comes to its end."""
    ended: list[float] = []

    async def run() -> None:
        handle.cancel()
        assert not handle.pending
        await trio.sleep(3)
        ended.append(trio.current_time())

    async with trio.open_nursery() as nursery:
        handle = schedule_interval(1, run, nursery=nursery)
        assert repr(handle).endswith("pending>")
    assert ended == pytest.approx([4.0])
    assert trio.current_time() == pytest.approx(4.0)
    handle.cancel()


async def test_cancel_works_from_a_thread() -> None:
    """A schedule can be cancelled from a worker thread."""
    runs = Runs()
    async with trio.open_nursery() as nursery:
        handle = schedule_interval(3600, runs, nursery=nursery)
        await trio.to_thread.run_sync(handle.cancel)
    assert runs.times == []


async def test_end_of_a_server_ends_schedules(autojump_clock: object) -> None:
    """A schedule beside a server is cancelled with it, a run under way included; its handle is over."""
    runs = Runs(lasts=100.0)
    async with served_at("2026-12-01T09:00"):
        handle = schedule_interval(1, runs)
        await trio.sleep(5)
    assert runs.times == pytest.approx([1.0])
    assert not handle.pending
    assert trio.current_time() == pytest.approx(5.0)


@pytest.mark.parametrize(
    ("start", "expression", "expected"),
    [
        # 2026-03-29: 02:00 becomes 03:00. 2026-10-25: 03:00 becomes 02:00.
        pytest.param("2026-03-28T12:00", "30 2 * * *", ["03-29T03:00+02:00", "03-30T02:30+02:00"], id="skipped"),
        pytest.param("2026-10-24T12:00", "30 2 * * *", ["10-25T02:30+02:00", "10-26T02:30+01:00"], id="repeated"),
        pytest.param("2026-03-28T12:00", "0 9 * * *", ["03-29T09:00+02:00", "03-30T09:00+02:00"], id="nine"),
        pytest.param("2026-10-25T01:30", "0 * * * *", ["10-25T02:00+02:00", "10-25T02:00+01:00"], id="hourly"),
        pytest.param("2026-12-04T10:00", "0 9 * * MON-FRI", ["12-07T09:00+01:00", "12-08T09:00+01:00"], id="weekdays"),
    ],
)
@pytest.mark.deep
async def test_cron_follows_summer_time(
    start: str, expression: str, expected: list[str], autojump_clock: object
) -> None:
    """Cron runs come at their local times; one that the clock skips follows at once, one that it repeats comes once."""
    runs = Runs()
    async with served_at(start, PARIS):
        began = datetime.fromisoformat(start).replace(tzinfo=ZoneInfo(PARIS)).timestamp() - trio.current_time()
        handle = schedule_cron(expression, runs, timezone=PARIS)
        await trio.sleep(4 * 86400)
        handle.cancel()
    local = [datetime.fromtimestamp(round(began + at), ZoneInfo(PARIS)) for at in runs.times[:2]]
    assert [moment.isoformat(timespec="minutes") for moment in local] == [f"2026-{text}" for text in expected]


async def test_runs_missed_in_sleep_are_skipped(autojump_clock: object, caplog: pytest.LogCaptureFixture) -> None:
    """A run that is due while the machine sleeps is skipped with a log line, unless it is less than a minute late."""
    asleep = 0.0
    epoch = datetime(2026, 12, 1, 9, tzinfo=UTC).timestamp() - trio.current_time()
    once, hourly = Runs(), Runs()
    async with host_schedules(lambda: epoch + asleep + trio.current_time()):
        missed = schedule_once("2026-12-01T09:30", once, timezone="UTC")
        schedule_cron("0 * * * *", hourly, timezone="UTC")
        await trio.sleep(60)
        asleep = 3560.0  # it is 10:00:20, which the schedules see within 30 s
        await trio.sleep(60)
    assert once.times == []
    assert not missed.pending
    assert len(hourly.times) == 1
    assert "skipped a run that was due" in caplog.text


async def test_schedules_of_a_call_outlive_it(autojump_clock: object) -> None:
    """A schedule that a call's task makes does not run in that call's context."""
    seen: list[str] = []
    async with served_at("2026-12-01T09:00"):
        token = current_call.set("CA1")
        schedule_interval(1, lambda: seen.append(current_call.get()))
        current_call.reset(token)
        await trio.sleep(1.5)
    assert seen == [NO_CALL]


async def test_a_served_phone_hosts_schedules() -> None:
    """While ``phone.serve`` runs, schedules need no nursery; a drain ends them."""
    ran = trio.Event()
    async with trio.open_nursery() as nursery:
        phone = Patter()
        await nursery.start(partial(phone.serve, agent_of(), 0, handle_signals=False))
        handle = schedule_interval(0.01, ran.set)
        await ran.wait()
        await phone.drain()
    assert not handle.pending


@pytest.mark.all_carriers
async def test_a_call_at_a_time(phone_network: PhoneNetworkFixture) -> None:
    """A served phone calls at a time, by the clock of the network."""

    async def ann(line: Any) -> None:
        await line.hears()

    async with phone_network(agent_of(first_message="Hello Ann.")) as network:
        network.answers("+15550100003", ann)
        now = datetime.fromtimestamp(network.unix_time, UTC)
        schedule_once(now + timedelta(minutes=10), lambda: network.phone.call("+15550100003"))
        await trio.sleep(700)
        [line] = network.calls
        assert line.request.to == "+15550100003"


@given(st.floats(0.001, 1e6), st.floats(0, 1e9), st.floats(0, 1e6))
def test_interval_keeps_its_grid(seconds: float, due: float, late: float) -> None:
    """The next run is after now by one interval at most, and the skipped ones lie between."""
    at, skipped = Interval(seconds).after(due, due + late)
    assert due < at
    assert at == pytest.approx(due + (skipped + 1) * seconds)
    assert at - (due + late) <= seconds * (1 + 1e-6) + 1e-6


def test_count_of_skipped_runs_has_a_bound() -> None:
    """Counting the runs that were skipped for years ends at its bound, and the next run is right all the same."""
    times = cron_of("* * * * *", UTC, 0.0)
    assert isinstance(times, Cron)
    assert times.after(0.0, 600.0) == (660.0, 10)
    assert times.after(0.0, 1e9) == (1e9 - 1e9 % 60 + 60, MAX_COUNTED)


# Parts that an expression may have, and texts of the characters that they consist of.
FIELDS = st.sampled_from(["*", "0", "*/5", "1-5", "0,15", "L", "LW", "MON", "5L", "1#5", "31", "JAN-MAR", "L/2", "2,L"])
NOISE = st.text("0123456789*/,-#LWMONFRI", min_size=1, max_size=6) | st.just("9" * 5000)


@given(
    st.lists(FIELDS | NOISE, min_size=5, max_size=5),
    st.sampled_from([UTC, ZoneInfo(PARIS), ZoneInfo("Australia/Lord_Howe")]),
    st.integers(0, 2_000_000_000),
)
def test_any_expression_is_due_or_refused(fields: list[str], zone: Any, now: int) -> None:
    """Each expression is refused by our own error, or is due again and again, later each time."""
    try:
        times = cron_of(" ".join(fields), zone, float(now))
    except ConfigurationError:
        return
    first = times.first(now)
    assert first > now
    assert times.after(first, first)[0] > first


@given(st.integers(1_700_000_000, 1_900_000_000))
def test_system_zone_agrees_with_the_system(moment: int) -> None:
    """The machine's zone converts every moment back and forth."""
    local = datetime.fromtimestamp(moment, SystemZone())
    assert local.timestamp() == moment
    assert local.replace(tzinfo=timezone(local.utcoffset() or timedelta())).timestamp() == moment
