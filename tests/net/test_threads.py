"""Threads: virtual time stands still for them, a cancelled call does not wait for them, and load can be seen."""

import math
import subprocess
import sys
import threading

import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from patter_trio.net.threads import available, run_in_thread, waiting


class Gate:
    """Called in a thread, it returns once the test has opened it."""

    def __init__(self) -> None:
        self.opened = threading.Event()

    def __call__(self) -> bool:
        return self.opened.wait(5)

    def open(self) -> None:
        self.opened.set()


@pytest.fixture
def gate() -> Gate:
    return Gate()


async def test_virtual_time_does_not_pass_while_a_thread_works(autojump_clock: MockClock, gate: Gate) -> None:
    started = threading.Event()

    def work() -> str:
        started.set()
        gate()
        return "done"

    def open_later() -> None:
        started.wait(5)
        gate.open()

    helper = threading.Thread(target=open_later)
    helper.start()
    with trio.fail_after(0.001):
        assert await run_in_thread(work) == "done"
    assert trio.current_time() == 0.0
    await trio.sleep(10)
    assert trio.current_time() == 10.0
    helper.join()


async def test_overlapping_threads_hold_the_clock_until_the_last_has_ended(autojump_clock: MockClock) -> None:
    async with trio.open_nursery() as nursery:
        for number in range(5):
            nursery.start_soon(run_in_thread, pow, number, 2)
            nursery.start_soon(trio.sleep, number)
        await wait_all_tasks_blocked()
        assert autojump_clock.autojump_threshold in {0.0, math.inf}
    assert trio.current_time() == 4.0
    assert autojump_clock.autojump_threshold == 0.0


async def test_cancellation_abandons_the_thread_at_once_and_lets_the_clock_go(
    autojump_clock: MockClock, gate: Gate
) -> None:
    async with trio.open_nursery() as nursery:
        nursery.start_soon(run_in_thread, gate)
        await wait_all_tasks_blocked()
        assert autojump_clock.autojump_threshold == math.inf
        nursery.cancel_scope.cancel(reason="caller left")
    assert autojump_clock.autojump_threshold == 0.0
    gate.open()


async def test_an_abandoned_thread_still_counts_as_load(gate: Gate) -> None:
    before = available()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(run_in_thread, gate)
        await wait_all_tasks_blocked()
        nursery.cancel_scope.cancel()
    assert available() == before - 1
    gate.open()


async def test_tasks_that_find_no_free_thread_are_counted_as_waiting(gate: Gate) -> None:
    threads = available()
    async with trio.open_nursery() as nursery:
        for _ in range(threads + 2):
            nursery.start_soon(run_in_thread, gate)
        await wait_all_tasks_blocked()
        assert (available(), waiting()) == (0, 2)
        gate.open()
    assert (available(), waiting()) == (threads, 0)


async def test_the_threads_own_error_is_raised_in_the_task() -> None:
    with pytest.raises(ZeroDivisionError):
        await run_in_thread(divmod, 1, 0)


async def test_every_run_of_trio_has_its_own_threads_to_count() -> None:
    def another_run() -> int:
        async def count() -> int:
            return available()

        return trio.run(count)

    assert await run_in_thread(another_run) == available()


def test_a_process_that_exits_lets_an_abandoned_thread_end() -> None:
    program = """
import atexit, threading, trio
from patter_trio.net.threads import run_in_thread
started, exiting = threading.Event(), threading.Event()
def work():
    started.set()
    exiting.wait(5)
    print("ended", flush=True)
async def main():
    async with trio.open_nursery() as nursery:
        nursery.start_soon(run_in_thread, work)
        await trio.to_thread.run_sync(started.wait)
        nursery.cancel_scope.cancel()
    atexit.register(exiting.set)  # handlers run last in, first out: before the one that waits
    print("left", flush=True)
trio.run(main)
"""
    ended = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)  # noqa: S603
    assert ended.stdout.split() == ["left", "ended"]
