"""The hand-over between two tasks of a call."""

import pytest
import trio
import trio.testing
from trio.testing import MockClock

from patter_trio.call.input.audio_queue import DropOldestChannel


async def test_what_was_put_is_taken_at_once_and_in_order() -> None:
    feed = DropOldestChannel[int](5)
    feed.put(1)
    feed.put(2, wake=False)
    assert await feed.take() == [1, 2]


async def test_when_full_the_oldest_goes_and_is_counted() -> None:
    feed = DropOldestChannel[int](3)
    for number in range(5):
        feed.put(number)
    assert repr(feed) == "<Feed 3/3, 2 dropped>"
    assert await feed.take() == [2, 3, 4]


async def test_one_who_waits_is_woken_by_an_item_that_wakes_and_gets_those_before_it(autojump_clock: MockClock) -> None:
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


async def test_one_who_was_cancelled_while_waiting_took_nothing(autojump_clock: MockClock) -> None:
    feed = DropOldestChannel[int](5)
    with trio.move_on_after(1):
        await feed.take()
    assert autojump_clock.current_time() == 1.0
    feed.put(1)
    assert await feed.take() == [1]


async def test_taking_lets_others_run_even_when_there_is_something() -> None:
    feed = DropOldestChannel[int](5)
    feed.put(1)
    with trio.testing.assert_checkpoints():
        await feed.take()


async def test_a_second_taker_is_a_mistake() -> None:
    feed = DropOldestChannel[int](5)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(feed.take)
        await trio.testing.wait_all_tasks_blocked()
        with pytest.raises(trio.BusyResourceError):
            await feed.take()
        feed.put(1)
