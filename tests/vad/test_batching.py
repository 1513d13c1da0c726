"""Windows of many calls in one inference: results, instants, and cancelled or failing sessions."""

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager

import numpy as np
import pytest
import trio
import trio.testing
from trio.testing import MockClock

from patter_trio.errors import ProviderError
from patter_trio.vad.batching import (
    BATCH_WAIT_S,
    MAX_BATCH_WINDOWS,
    MAX_UNBATCHED_SESSIONS,
    Batcher,
    Floats,
    batcher_of,
)


class Sums:
    """A model whose state is the sum of the windows so far; a NaN breaks it."""

    def __init__(self) -> None:
        self.batches: list[int] = []

    def infer(self, windows: Floats, states: Sequence[float]) -> tuple[Floats, list[float]]:
        self.batches.append(len(windows))
        if np.isnan(windows).any():
            raise ProviderError("not a number")
        sums = windows.sum(axis=1)
        return sums, [state + float(value) for state, value in zip(states, sums, strict=True)]


def window(value: float) -> Floats:
    return np.full(4, value / 4, np.float32)


@pytest.fixture
def model() -> Sums:
    return Sums()


@contextmanager
def batcher_with(sessions: int, model: Sums) -> Iterator[Batcher[float]]:
    batcher = Batcher[float](model)
    with ExitStack() as stack:
        for _ in range(sessions):
            stack.enter_context(batcher.session())
        yield batcher


@pytest.fixture
def batcher(model: Sums) -> Iterator[Batcher[float]]:
    with batcher_with(MAX_UNBATCHED_SESSIONS + 1, model) as batcher:
        yield batcher


async def test_few_sessions_are_inferred_at_once(model: Sums, autojump_clock: MockClock) -> None:
    """With 8 sessions or fewer, a window is inferred at once and alone."""
    with batcher_with(MAX_UNBATCHED_SESSIONS, model) as batcher:
        assert await batcher.infer(window(1), 5.0) == (1.0, 6.0)
    assert (autojump_clock.current_time(), model.batches) == (0.0, [1])


async def test_concurrent_windows_share_batch_with_own_results(
    model: Sums, batcher: Batcher[float], autojump_clock: MockClock
) -> None:
    """Windows within the batch wait form one batch, and each session gets its own result."""
    results: dict[int, tuple[float, float]] = {}
    instants: set[float] = set()

    async def voice(number: int) -> None:
        await trio.sleep(number * BATCH_WAIT_S / 10)
        results[number] = await batcher.infer(window(number), 100.0)
        instants.add(autojump_clock.current_time())

    async with trio.open_nursery() as nursery:
        for number in range(9):
            nursery.start_soon(voice, number)
    assert results == {number: (float(number), 100.0 + number) for number in range(9)}
    assert model.batches == [9]
    assert instants == {BATCH_WAIT_S}


async def test_a_later_window_begins_the_next_batch(
    model: Sums, batcher: Batcher[float], autojump_clock: MockClock
) -> None:
    """A window that comes after its batch has run waits 8 ms for a batch of its own."""
    for _ in range(3):
        await batcher.infer(window(1), 0.0)
    assert model.batches == [1, 1, 1]
    assert autojump_clock.current_time() == pytest.approx(3 * BATCH_WAIT_S)


async def test_a_full_batch_runs_at_once(model: Sums, batcher: Batcher[float], autojump_clock: MockClock) -> None:
    """A batch of 32 windows runs at once, and the three windows beyond it form the next batch."""
    async with trio.open_nursery() as nursery:
        for number in range(MAX_BATCH_WINDOWS + 3):
            nursery.start_soon(batcher.infer, window(number), 0.0)
        await trio.testing.wait_all_tasks_blocked()
        assert model.batches == [MAX_BATCH_WINDOWS]
        assert autojump_clock.current_time() == 0.0
    assert model.batches == [MAX_BATCH_WINDOWS, 3]


async def test_cancelled_batch_leader_leaves_results_for_others(
    model: Sums, batcher: Batcher[float], autojump_clock: MockClock
) -> None:
    """The other sessions get their results when the session that gathers the batch is cancelled."""
    results: list[tuple[float, float]] = []

    async def other() -> None:
        results.append(await batcher.infer(window(2), 0.0))

    async with trio.open_nursery() as nursery:
        gathering = await nursery.start(_cancellable, batcher)
        await trio.testing.wait_all_tasks_blocked()
        nursery.start_soon(other)
        await trio.testing.wait_all_tasks_blocked()
        gathering.cancel()
    assert results == [(2.0, 2.0)]
    assert model.batches == [2]
    assert autojump_clock.current_time() == 0.0


async def _cancellable(batcher: Batcher[float], task_status: trio.TaskStatus[trio.CancelScope]) -> None:
    with trio.CancelScope() as scope:
        task_status.started(scope)
        await batcher.infer(window(1), 0.0)


async def test_cancelled_session_does_not_delay_its_batch(
    model: Sums, batcher: Batcher[float], autojump_clock: MockClock
) -> None:
    """The cancellation of a session that waits does not delay its batch, which still contains its window."""
    async with trio.open_nursery() as nursery:
        nursery.start_soon(batcher.infer, window(1), 0.0)
        await trio.testing.wait_all_tasks_blocked()
        waiting = await nursery.start(_cancellable, batcher)
        await trio.testing.wait_all_tasks_blocked()
        waiting.cancel()
    assert model.batches == [2]
    assert autojump_clock.current_time() == BATCH_WAIT_S


async def test_failing_model_fails_whole_batch_then_recovers(
    model: Sums, batcher: Batcher[float], autojump_clock: MockClock
) -> None:
    """A model failure reaches every session of the batch, and the next batch works again."""
    failed: list[float] = []

    async def voice(value: float) -> None:
        with pytest.raises(ProviderError, match="not a number"):
            await batcher.infer(window(value), 0.0)
        failed.append(autojump_clock.current_time())

    async with trio.open_nursery() as nursery:
        for value in (1.0, float("nan"), 2.0):
            nursery.start_soon(voice, value)
    assert failed == [BATCH_WAIT_S] * 3
    assert await batcher.infer(window(3), 0.0) == (3.0, 3.0)


async def test_a_model_has_one_batcher_in_a_run(model: Sums) -> None:
    """A model has one batcher in a run, and another model has another one."""
    assert batcher_of(model) is batcher_of(model)
    assert batcher_of(model) is not batcher_of(Sums())
    assert repr(batcher_of(model)) == "<Batcher of 0 sessions, 0 windows waiting>"


async def test_bug_in_batch_leader_leaves_no_session_waiting(autojump_clock: MockClock) -> None:
    """A bug in the session that gathers the batch leaves no other session waiting."""

    class Buggy(Sums):
        def infer(self, windows: Floats, states: Sequence[float]) -> tuple[Floats, list[float]]:
            raise LookupError("a bug")

    batcher = Batcher[float](Buggy())
    batcher.sessions = MAX_UNBATCHED_SESSIONS + 1
    ends: list[type[Exception]] = []

    async def call() -> None:
        with pytest.raises((LookupError, ProviderError)) as raised:
            await batcher.infer(window(1.0), 0.0)
        ends.append(raised.type)

    with trio.fail_after(1.0):
        async with trio.open_nursery() as nursery:
            for _ in range(3):
                nursery.start_soon(call)
    assert sorted(end.__name__ for end in ends) == ["LookupError", "ProviderError", "ProviderError"]
