"""Admission: who hears busy, decided from given measurements and measured on clocks that the tests move."""

import logging
import math
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import attrs
import pytest
import trio
import trio.testing

from patter_trio import Patter
from patter_trio.abc import CallInfo
from patter_trio.server import calls as call_servers
from patter_trio.server.admission import (
    ALWAYS_ADMITTED_CALLS,
    MAX_IGNORED_MEASUREMENTS,
    MAX_WORK_SHARE,
    MEASUREMENT_INTERVAL_S,
    WINDOW_MEASUREMENTS,
    Admission,
    measure,
    work_seconds,
)
from patter_trio.server.connection import serve_connection
from patter_trio.server.options import Seams
from patter_trio.testing import CallRefused, SimulatedTwilio
from tests.kit.call import agent_of
from tests.kit.server import CARRIER

LIMIT = 0.1


def late(admission: Admission, lag: float, times: int = 1) -> float:
    """Take ``times`` measurements, each ``lag`` seconds late; return the instant of the last one."""
    now = 0.0
    for _ in range(times):
        now = admission.due + lag
        admission.late(now)
    return now


def asked(admission: Admission, now: float, live: int = 3, announced: int = 0) -> str:
    return admission.refusal(live=live, announced=announced, now=now)


def test_announced_calls_count_like_connected_ones() -> None:
    """Announced calls count towards max_calls as live calls do: one live and two announced reach a limit of 3."""
    admission = Admission(max_calls=3)
    assert asked(admission, 0.0, live=1, announced=1) == ""
    assert asked(admission, 0.0, live=1, announced=2) == "1 live and 2 announced calls reach the limit of 3"
    assert asked(admission, 0.0, live=3, announced=0)


def test_without_limits_everybody_is_welcome() -> None:
    """Without limits the admission measures nothing and admits a call beside 10,000 live ones."""
    admission = Admission()
    assert not admission.measures
    assert asked(admission, late(admission, 0.04, WINDOW_MEASUREMENTS), live=10_000, announced=10_000) == ""


def test_late_loop_refuses_calls_until_half_as_late() -> None:
    """A late event loop refuses calls until its lag is half the limit."""
    admission = Admission(max_lag=0.03)
    assert asked(admission, late(admission, 0.029, WINDOW_MEASUREMENTS)) == ""
    assert asked(admission, late(admission, 0.031, MAX_IGNORED_MEASUREMENTS)) == "", "so many may be late"
    assert asked(admission, late(admission, 0.031)) == "the event loop is 31 ms late"
    assert asked(admission, late(admission, 0.02, WINDOW_MEASUREMENTS)), (
        "less late than the limit, but not yet half as late"
    )
    assert asked(admission, late(admission, 0.014, WINDOW_MEASUREMENTS)) == ""
    assert asked(admission, late(admission, 0.02, WINDOW_MEASUREMENTS)) == "", (
        "and now the limit is the whole one again"
    )


def test_lag_older_than_two_seconds_is_ignored() -> None:
    """The admission ignores lag that is more than two seconds old."""
    admission = Admission(max_lag=LIMIT)
    assert asked(admission, late(admission, 3.0))
    assert asked(admission, late(admission, 0.0, WINDOW_MEASUREMENTS - 8)), "the last of it still counts"
    assert asked(admission, late(admission, 0.0, 4)) == ""


def test_stalled_loop_counts_every_missed_measurement() -> None:
    """A stalled event loop counts as late at every measurement that it missed."""
    admission = Admission(max_lag=LIMIT)
    now = late(admission, 0.5)
    assert admission.due == pytest.approx(12 * MEASUREMENT_INTERVAL_S)
    assert admission.lag == pytest.approx(0.3), "11 measurements, from 500 ms late to 0; the fifth worst counts"
    assert asked(admission, now) == "the event loop is 300 ms late"


def test_single_late_measurement_refuses_no_call() -> None:
    """One measurement that is 250 ms late refuses no call, although the limit is 100 ms."""
    admission = Admission(max_lag=LIMIT)
    late(admission, 0.0, WINDOW_MEASUREMENTS)
    assert asked(admission, late(admission, 0.25)) == ""


def test_unmeasured_lag_counts_too() -> None:
    """Lag since the last measurement counts although it has not been measured yet."""
    admission = Admission(max_lag=LIMIT)
    now = late(admission, 0.0, WINDOW_MEASUREMENTS)
    assert asked(admission, now + 1.0) == "the event loop is 750 ms late"


def test_clock_stopped_for_a_year_blocks_two_seconds() -> None:
    """A clock that was stopped for a year blocks new calls for at most two seconds."""
    admission = Admission(max_lag=LIMIT)
    now = late(admission, 365 * 86400.0)
    assert now < admission.due <= now + MEASUREMENT_INTERVAL_S + 1e-6
    assert asked(admission, now)
    assert asked(admission, late(admission, 0.0, WINDOW_MEASUREMENTS)) == ""


def test_first_calls_are_admitted_then_burst_waits() -> None:
    """The first calls are admitted on trust, and a larger burst is refused until the cost of a call is known."""
    admission = Admission(max_lag=LIMIT)
    assert asked(admission, 0.0, live=0, announced=ALWAYS_ADMITTED_CALLS - 1) == ""
    refusal = f"{ALWAYS_ADMITTED_CALLS} calls came at once, and the cost of a call is not measured yet"
    assert asked(admission, 0.0, live=0, announced=ALWAYS_ADMITTED_CALLS) == refusal
    for _ in range(WINDOW_MEASUREMENTS):
        admission.worked(0.2, live=ALWAYS_ADMITTED_CALLS)
    assert asked(admission, 0.0, live=ALWAYS_ADMITTED_CALLS, announced=5) == ""


def test_burst_is_judged_by_its_expected_cost() -> None:
    """The admission judges a burst by its expected cost and not by the lag before it."""
    admission = Admission(max_lag=LIMIT)
    for _ in range(2 * WINDOW_MEASUREMENTS):
        admission.worked(0.399, live=40)  # hardly 1 % of the time for each
    now = late(admission, 0.0, WINDOW_MEASUREMENTS)
    welcome = [announced for announced in range(100) if not asked(admission, now, live=40, announced=announced)]
    assert welcome == list(range(45)), f"with one more, at most 85 calls at {MAX_WORK_SHARE:.0%} of the time"
    assert asked(admission, now, live=40, announced=45) == (
        "86 calls would keep the event loop busy for 86% of the time"
    )


def test_call_cost_is_known_before_averages_settle() -> None:
    """The cost of a call is known before the averages have settled."""
    admission = Admission(max_lag=LIMIT)
    for live in range(30):
        admission.worked(live * 0.01, live)
    assert asked(admission, 0.0, live=30, announced=54) == ""
    assert asked(admission, 0.0, live=30, announced=55)


def test_burst_after_lull_uses_earlier_call_cost() -> None:
    """After a lull the admission judges a burst by the cost of the earlier calls."""
    admission = Admission(max_lag=LIMIT)
    for live in [40] * (2 * WINDOW_MEASUREMENTS) + [0] * (20 * WINDOW_MEASUREMENTS):
        admission.worked(live * 0.0099, live)
    assert repr(admission) == "<Admission 0 ms late, 0% busy>"
    assert asked(admission, 0.0, live=0, announced=84) == ""
    assert asked(admission, 0.0, live=0, announced=85) == (
        "86 calls would keep the event loop busy for 85% of the time"
    )


def test_the_picture_of_it() -> None:
    """The repr of Admission shows the lag, the load, and that it refuses calls."""
    admission = Admission(max_lag=LIMIT)
    asked(admission, late(admission, 0.5))
    assert repr(admission) == "<Admission 300 ms late, 0% busy, refusing>"


# The task that measures -----------------------------------------------------------------------------------------------
async def test_in_virtual_time_the_loop_is_never_late(autojump_clock: trio.testing.MockClock) -> None:
    """In virtual time, 60 s of measuring with 1000 live calls find neither lag nor load."""
    admission = Admission(max_lag=0.0, now=trio.current_time())
    with trio.move_on_after(60.0):
        await measure(admission, lambda: 1000)
    assert asked(admission, trio.current_time()) == ""
    assert repr(admission) == "<Admission 0 ms late, 0% busy>"


async def test_task_that_blocks_the_loop_makes_it_late(autojump_clock: trio.testing.MockClock) -> None:
    """A task that blocks the event loop causes the lag that is measured."""
    admission = Admission(max_lag=LIMIT, now=trio.current_time())
    async with trio.open_nursery() as nursery:
        nursery.start_soon(measure, admission, lambda: 3)
        for _ in range(10):
            await trio.sleep(0.1)
            autojump_clock.jump(0.4)
        assert admission.lag == pytest.approx(0.3, abs=0.01)
        assert asked(admission, trio.current_time())
        await trio.sleep(2.1)
        assert asked(admission, trio.current_time()) == ""
        nursery.cancel_scope.cancel()


async def test_work_share_of_the_loop_is_measured(autojump_clock: object) -> None:
    """The admission measures the share of time that the event loop works and refuses calls by it."""
    admission = Admission(max_lag=LIMIT, now=trio.current_time())
    with trio.move_on_after(30.0):
        await measure(admission, lambda: 50, work=lambda: trio.current_time() / 2)
    assert repr(admission) == "<Admission 0 ms late, 50% busy>"
    assert asked(admission, trio.current_time(), live=50, announced=34) == ""
    assert asked(admission, trio.current_time(), live=50, announced=35).startswith("86 calls would keep the event loop")


def test_work_seconds_follow_the_threads_cpu_time() -> None:
    """The function work_seconds follows the CPU time that the thread has used."""
    before, spent = work_seconds(), time.thread_time()
    while time.thread_time() < spent + 0.02:
        pass
    assert work_seconds() - before > 0.01  # the system's accounts may be a tick old


def test_work_seconds_fall_back_to_thread_clock(monkeypatch: pytest.MonkeyPatch) -> None:
    """The function work_seconds falls back to the thread's clock where the system gives no accounts."""

    def nothing(_: Path) -> bytes:
        raise FileNotFoundError

    monkeypatch.setattr(Path, "read_bytes", nothing)
    before = time.thread_time()
    assert before <= work_seconds() <= time.thread_time()


# In a server --------------------------------------------------------------------------------------------------------
@attrs.frozen
class Load:
    """A measuring task that reports the lag that the test sets, instead of the loop's."""

    found: list[Admission] = attrs.field(factory=list)

    async def measure(self, admission: Admission, live: Callable[[], int]) -> None:
        self.found.append(admission)
        admission.due = math.inf
        await trio.sleep_forever()

    def is_late(self, lag: float) -> None:
        self.found[0]._lags.extend([lag] * WINDOW_MEASUREMENTS)


async def call(connect: Any, number: int) -> SimulatedTwilio:
    return SimulatedTwilio(
        connect,
        "http://agent.test",
        account_sid=CARRIER.account_sid,
        auth_token=CARRIER.auth_token,
        call_sid=f"CA{number:032d}",
    )


async def test_late_loop_sends_busy_and_keeps_running_calls(
    autojump_clock: object, caplog: pytest.LogCaptureFixture
) -> None:
    """A late event loop makes new calls hear busy and leaves the running calls alone."""
    caplog.set_level(logging.WARNING, "patter_trio.server")
    load = Load()
    async with (
        call_servers.open_call_server(
            Patter()._serve_options(
                agent_of(first_message="Hello."), carrier=CARRIER, public_url="http://agent.test", max_lag=LIMIT
            ),
            Seams(epoch=0.0, measure_lag=load.measure),
        ) as call_server,
        trio.open_nursery() as nursery,
    ):

        async def connect() -> trio.abc.Stream:
            await trio.lowlevel.checkpoint()
            ours, theirs = trio.testing.memory_stream_pair()
            nursery.start_soon(serve_connection, call_server.context, theirs)
            return ours

        running = await call(connect, 1)
        await nursery.start(running.run)
        await trio.sleep(1.0)
        load.is_late(0.15)
        with pytest.raises(CallRefused) as refused:
            await (await call(connect, 2)).run()
        assert refused.value.outcome == "busy"
        assert [record.getMessage() for record in caplog.records] == [
            f"call CA{2:032d}: hears busy, from +1555***0001: the event loop is 150 ms late"
        ]
        await trio.sleep(2.0)
        assert running.ended is None
        load.is_late(0.01)
        welcome = await call(connect, 3)
        await nursery.start(welcome.run)
        running.hang_up()
        welcome.hang_up()


async def test_announced_calls_occupy_room_until_they_expire(autojump_clock: object) -> None:
    """Announced calls that never connect occupy room until they expire."""
    async with call_servers.open_call_server(
        Patter()._serve_options(
            agent_of(first_message="Hello."), carrier=CARRIER, public_url="http://agent.test", max_calls=2
        ),
        Seams(epoch=0.0),
    ) as call_server:
        for number in range(2):
            assert call_server.refusal(f"CA{9:032d}") == ""
            offer = CallInfo(f"CA{number:032d}", "+15550100001", "+15550100002", "inbound")
            announced = partial(call_server.context.pending.announce, offer)
            call_server.on_announced(announced(now=trio.current_time()))
        assert call_server.refusal(f"CA{9:032d}") == "0 live and 2 announced calls reach the limit of 2"
        await trio.sleep(60.1)
        assert call_server.refusal(f"CA{9:032d}") == "", "they never came, and are forgotten"
