"""run_beside(): a task that ends with its block and whose failures stay ungrouped. hand_over(): items between tasks."""

import pytest
import trio
from trio.testing import MockClock

from patter_trio.net.tasks import hand_over, run_beside


async def test_the_task_ends_with_the_block(autojump_clock: MockClock) -> None:
    """The task is cancelled at the instant at which its block ends."""
    ended: list[float] = []

    async def task() -> None:
        try:
            await trio.sleep_forever()
        finally:
            ended.append(trio.current_time())

    async with run_beside(task):
        await trio.sleep(1)
    assert ended == [1.0]


async def test_task_failure_cancels_block_and_propagates_bare(
    autojump_clock: MockClock,
) -> None:
    """A failing task cancels its block, and its error leaves ungrouped with its cause."""

    async def task() -> None:
        await trio.sleep(1)
        raise ValueError("task") from KeyError("cause")

    with pytest.raises(ValueError, match="task") as failure:
        async with run_beside(task):
            await trio.sleep_forever()
    assert trio.current_time() == 1.0
    assert isinstance(failure.value.__cause__, KeyError)


async def test_a_failure_of_the_block_leaves_bare(autojump_clock: MockClock) -> None:
    """An error of the block leaves run_beside() without an exception group."""
    with pytest.raises(ValueError, match="block"):
        async with run_beside(trio.sleep_forever):
            raise ValueError("block")


async def test_two_failures_are_both_reported() -> None:
    """If the block and the task both fail, an exception group contains both errors."""

    async def task() -> None:
        try:
            await trio.sleep_forever()
        finally:
            raise KeyError("task")

    with pytest.RaisesGroup(ValueError, KeyError):
        async with run_beside(task):
            await trio.lowlevel.checkpoint()
            raise ValueError("block")


async def test_a_cancellation_from_outside_passes(autojump_clock: MockClock) -> None:
    """A cancellation from outside ends the block and its task, and reaches its own scope."""
    with trio.move_on_after(1) as scope:
        async with run_beside(trio.sleep_forever):
            await trio.sleep_forever()
    assert scope.cancelled_caught


async def test_hand_over_waits_only_when_full(autojump_clock: MockClock) -> None:
    """The hand_over function returns at once when there is room and waits otherwise."""
    put, taken = trio.open_memory_channel[str](1)

    async def take() -> None:
        await trio.sleep(2)
        assert taken.receive_nowait() == "first"

    async with trio.open_nursery() as nursery:
        nursery.start_soon(take)
        with trio.testing.assert_no_checkpoints():
            await hand_over(put, "first")
        await hand_over(put, "second")
        assert trio.current_time() == 2.0
    assert taken.receive_nowait() == "second"


async def test_hand_over_raises_on_closed_channel() -> None:
    """hand_over() raises if the receiver or the sender of the channel is closed."""
    put, taken = trio.open_memory_channel[str](1)
    taken.close()
    with pytest.raises(trio.BrokenResourceError):
        await hand_over(put, "lost")
    put.close()
    with pytest.raises(trio.ClosedResourceError):
        await hand_over(put, "lost")
