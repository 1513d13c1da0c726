"""Pulse: it wakes the tasks that wait for it and is not stored. RunVar: a value is made once in each run."""

import pytest
import trio
from trio.lowlevel import RunVar
from trio.testing import MockClock, wait_all_tasks_blocked

from patter_trio.net.pulse import Pulse
from patter_trio.net.run_local import run_local


async def test_pulse_wakes_all_waiters(autojump_clock: MockClock) -> None:
    """One pulse wakes both waiting tasks at its instant, and the repr counts the waiters."""
    pulse, woken = Pulse(), list[float]()

    async def waiter() -> None:
        await pulse.wait()
        woken.append(trio.current_time())

    async with trio.open_nursery() as nursery:
        nursery.start_soon(waiter)
        nursery.start_soon(waiter)
        await trio.sleep(1)
        assert repr(pulse) == "<Pulse, 2 waiting>"
        pulse.fire()
    assert woken == [1.0, 1.0]
    assert repr(pulse) == "<Pulse, 0 waiting>"


async def test_pulse_is_not_kept(autojump_clock: MockClock) -> None:
    """A pulse before the wait, and a pulse that woke another task, wake no later waiter."""
    pulse = Pulse()
    pulse.fire()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(pulse.wait)
        await wait_all_tasks_blocked()
        pulse.fire()
    with trio.move_on_after(1) as scope:
        await pulse.wait()
    assert scope.cancelled_caught


async def test_cancelled_waiter_takes_no_pulse(autojump_clock: MockClock) -> None:
    """If one of two waiters is cancelled, the pulse still wakes the other one."""
    pulse = Pulse()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(pulse.wait)
        with trio.move_on_after(1):
            await pulse.wait()
        pulse.fire()
    assert trio.current_time() == 1.0


def test_run_local_value_belongs_to_one_run() -> None:
    """run_local() makes the value once in each run of trio, and anew in the next run."""
    var, made = RunVar[list[int]]("test_run_local"), list[int]()

    def factory() -> list[int]:
        made.append(len(made))
        return list(made)

    async def twice() -> list[int]:
        assert run_local(var, factory) is run_local(var, factory)
        return run_local(var, factory)

    assert [trio.run(twice), trio.run(twice)] == [[0], [0, 1]]


def test_failed_factory_sets_nothing() -> None:
    """After a factory has failed, the next call of run_local() makes the value."""
    var = RunVar[int]("test_failed_factory")

    def fails() -> int:
        raise ValueError("no")

    async def main() -> int:
        with pytest.raises(ValueError, match="no"):
            run_local(var, fails)
        return run_local(var, lambda: 1)

    assert trio.run(main) == 1
