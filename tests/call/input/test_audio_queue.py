"""The hand-over between two tasks of a call."""

import pytest
import trio
import trio.testing
from trio.testing import MockClock

from patter_trio.call.input.audio_queue import DropOldestChannel


async def test_audio_queue_take_returns_items_in_order() -> None:
    """Taking from the audio queue returns all queued items at once and in order."""
    feed = DropOldestChannel[int](5)
    feed.put(1)
    feed.put(2, wake=False)
    assert await feed.take() == [1, 2]


async def test_when_full_the_oldest_goes_and_is_counted() -> None:
    """A queue of three that gets five items drops and counts the two oldest."""
    feed = DropOldestChannel[int](3)
    for number in range(5):
        feed.put(number)
    assert repr(feed) == "<DropOldestChannel 3/3, 2 dropped>"
    assert await feed.take() == [2, 3, 4]


async def test_waking_item_delivers_earlier_items_too(autojump_clock: MockClock) -> None:
    """An item that wakes the waiting reader delivers the items before it as well."""
    feed = DropOldestChannel[int](5)
    taken: list[tuple[float, list[int]]] = []

    async def take() -> None:
        for _ in range(2):
            items = await feed.take()
            taken.append((autojump_clock.current_time(), items))

    async with trio.open_nursery() as nursery:
        nursery.start_soon(take)
        for number, wake in enumerate((False, False, True, True)):
            await trio.sleep_until(number + 1)
            feed.put(number, wake=wake)
    assert taken == [(3.0, [0, 1, 2]), (4.0, [3])]


async def test_cancelled_receiver_takes_no_item(autojump_clock: MockClock) -> None:
    """A task that is cancelled while it waits takes no item: the next task gets the item that follows."""
    feed = DropOldestChannel[int](5)
    with trio.move_on_after(1):
        await feed.take()
    assert autojump_clock.current_time() == 1.0
    feed.put(1)
    assert await feed.take() == [1]


async def test_taking_from_nonempty_queue_is_a_checkpoint() -> None:
    """Taking from a queue that holds an item still executes a trio checkpoint."""
    feed = DropOldestChannel[int](5)
    feed.put(1)
    with trio.testing.assert_checkpoints():
        await feed.take()


async def test_a_second_taker_is_a_mistake() -> None:
    """A second task that takes from the queue while another one waits gets a BusyResourceError."""
    feed = DropOldestChannel[int](5)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(feed.take)
        await trio.testing.wait_all_tasks_blocked()
        with pytest.raises(trio.BusyResourceError):
            await feed.take()
        feed.put(1)


async def test_silent_items_stay_within_bound() -> None:
    """Items that do not wake the waiting task stay within the bound: the fourth one drops the oldest of three."""
    feed = DropOldestChannel[int](3)
    taken: list[int] = []

    async def take() -> None:
        taken.extend(await feed.take())

    async with trio.open_nursery() as nursery:
        nursery.start_soon(take)
        await trio.testing.wait_all_tasks_blocked()
        for number in range(4):
            feed.put(number, wake=False)
        assert (repr(feed), taken) == ("<DropOldestChannel 3/3, 1 dropped>", [])
        feed.put(4)
    assert (taken, feed.dropped) == ([2, 3, 4], 2)


async def test_a_woken_task_keeps_what_woke_it() -> None:
    """The item that wakes a task belongs to that task, which also gets an item that follows before it runs."""
    feed = DropOldestChannel[int](3)
    taken: list[int] = []

    async def take() -> None:
        taken.extend(await feed.take())

    async with trio.open_nursery() as nursery:
        nursery.start_soon(take)
        await trio.testing.wait_all_tasks_blocked()
        assert not feed.handing_over
        feed.put(0)
        assert feed.handing_over
        assert feed.take_nowait() == []
        feed.put(1)
    assert (taken, feed.handing_over) == ([0, 1], False)


async def test_a_cancelled_task_leaves_everything() -> None:
    """Items put before and after the cancellation of the waiting task stay in the queue, in order."""
    feed = DropOldestChannel[int](3)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(feed.take)
        await trio.testing.wait_all_tasks_blocked()
        feed.put(0, wake=False)
        nursery.cancel_scope.cancel()
        feed.put(1)
        feed.put(2)
    assert await feed.take() == [0, 1, 2]
    assert feed.dropped == 0
