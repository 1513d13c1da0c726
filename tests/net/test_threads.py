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
    """A function for a thread that returns when the test opens it."""

    def __init__(self) -> None:
        self.opened = threading.Event()

    def __call__(self) -> bool:
        return self.opened.wait(5)

    def open(self) -> None:
        self.opened.set()


@pytest.fixture
def gate() -> Gate:
    return Gate()


async def test_virtual_time_stops_during_thread_work(autojump_clock: MockClock, gate: Gate) -> None:
    """Virtual time stands still while a thread works and goes on afterwards."""
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


async def test_clock_stops_until_last_overlapping_thread_ends(autojump_clock: MockClock) -> None:
    """Overlapping threads stop the virtual clock until the last one has ended."""
    async with trio.open_nursery() as nursery:
        for number in range(5):
            nursery.start_soon(run_in_thread, pow, number, 2)
            nursery.start_soon(trio.sleep, number)
        await wait_all_tasks_blocked()
        assert autojump_clock.autojump_threshold in {0.0, math.inf}
    assert trio.current_time() == 4.0
    assert autojump_clock.autojump_threshold == 0.0


async def test_cancellation_abandons_thread_and_releases_clock(autojump_clock: MockClock, gate: Gate) -> None:
    """Cancellation abandons the thread at once and releases the virtual clock."""
    async with trio.open_nursery() as nursery:
        nursery.start_soon(run_in_thread, gate)
        await wait_all_tasks_blocked()
        assert autojump_clock.autojump_threshold == math.inf
        nursery.cancel_scope.cancel(reason="caller left")
    assert autojump_clock.autojump_threshold == 0.0
    gate.open()


async def test_an_abandoned_thread_still_counts_as_load(gate: Gate) -> None:
    """A thread that a cancellation has abandoned still occupies one of the available threads."""
    before = available()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(run_in_thread, gate)
        await wait_all_tasks_blocked()
        nursery.cancel_scope.cancel()
    assert available() == before - 1
    gate.open()


async def test_tasks_without_free_thread_count_as_waiting(gate: Gate) -> None:
    """Tasks that find no free thread count as waiting until a thread is free."""
    threads = available()
    async with trio.open_nursery() as nursery:
        for _ in range(threads + 2):
            nursery.start_soon(run_in_thread, gate)
        await wait_all_tasks_blocked()
        assert (available(), waiting()) == (0, 2)
        gate.open()
    assert (available(), waiting()) == (threads, 0)


async def test_thread_error_is_raised_in_the_task() -> None:
    """An error in the thread is raised in the task that called it."""
    with pytest.raises(ZeroDivisionError):
        await run_in_thread(divmod, 1, 0)


async def test_each_trio_run_counts_its_own_threads() -> None:
    """Each run of Trio counts its own free threads."""

    def another_run() -> int:
        async def count() -> int:
            return available()

        return trio.run(count)

    assert await run_in_thread(another_run) == available()


def test_exiting_process_lets_abandoned_thread_end() -> None:
    """An exiting process waits until an abandoned thread has ended."""
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
    ended = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)  # noqa: S603 (ours)
    assert ended.stdout.split() == ["left", "ended"]
