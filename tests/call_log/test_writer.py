"""The queue and its task: calls never wait, a database may be away, and troubles are reported once."""

import logging
import time
from collections.abc import Callable, Sequence
from contextlib import AbstractAsyncContextManager, suppress

import attrs
import pytest
import trio
import trio.testing

from patter_trio.call_log.entries import Entry, RecordingMade
from patter_trio.call_log.writer import (
    BATCH_WAIT_S,
    CLOSE_TIMEOUT_S,
    MAX_BATCH_ENTRIES,
    MAX_WAITING_ENTRIES,
    MAX_WAITING_LOSSY,
    LogWriter,
    open_writer,
)
from patter_trio.errors import CallLogError, ConfigurationError
from tests.kit.call_logs import Events

DAY_S = 86_400.0


@attrs.define
class FakeStore:
    """A database that keeps what is written, and fails or blocks as it is told."""

    written: list[Entry] = attrs.field(factory=list)
    batches: list[int] = attrs.field(factory=list)
    deleted: list[float] = attrs.field(factory=list)
    steps: list[str] = attrs.field(factory=list)
    old: int = 0
    at_deletion: Callable[[], object] = lambda: None
    trouble: Callable[[], object] = lambda: None
    trouble_at_opening: Callable[[], object] = lambda: None
    refused: int = 0
    is_closed: bool = False

    def open(self) -> None:
        self.trouble_at_opening()

    def write(self, entries: Sequence[Entry]) -> int:
        self.trouble()
        self.written.extend(entries)
        self.steps.append("write")
        self.batches.append(len(entries))
        return self.refused

    def delete_before(self, unix: float) -> int:
        self.deleted.append(unix)
        self.steps.append("delete")
        self.at_deletion()
        self.old, count = max(0, self.old - 100), min(self.old, 100)
        return count

    def erase(self) -> bool:
        self.steps.append("erase")
        return False

    def close(self) -> None:
        self.is_closed = True


def away() -> None:
    raise CallLogError("call log a.db: the disk is full")


def lines(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [record.getMessage() for record in caplog.records if record.levelno >= logging.WARNING]


def writer_of(store: FakeStore, keep_days: float | None = None) -> AbstractAsyncContextManager[LogWriter]:
    return open_writer(store, "a.db", keep_days=keep_days, unix_time=lambda: 1000 * DAY_S + trio.current_time())


async def test_entries_are_written_in_batches_in_order(autojump_clock: trio.testing.MockClock) -> None:
    """What comes within a fifth of a second is one transaction, and nothing is written out of order."""
    store, e = FakeStore(), Events()
    given = [e.said("CA1", str(number)) for number in range(2 * MAX_BATCH_ENTRIES + 1)]
    async with writer_of(store) as writer:
        for entry in given:
            writer.take(entry)
        await trio.sleep(BATCH_WAIT_S + 0.01)
        assert store.written == given
        assert store.batches == [MAX_BATCH_ENTRIES, MAX_BATCH_ENTRIES, 1]
    assert store.is_closed


async def test_what_waits_at_the_end_is_written(autojump_clock: trio.testing.MockClock) -> None:
    """A server that closes, cancelled or not, writes how its calls ended."""
    store, e = FakeStore(), Events()
    with trio.CancelScope() as scope:
        async with writer_of(store) as writer:
            writer.take(e.ended("CA1"))
            scope.cancel()
    assert len(store.written) == 1


async def test_database_that_is_away_loses_nothing(
    caplog: pytest.LogCaptureFixture, autojump_clock: trio.testing.MockClock
) -> None:
    """After a minute without a database, everything is written, in order; one warning, and one line when it is over."""
    store, e = FakeStore(trouble=away), Events()
    given = [e.said("CA1", str(number)) for number in range(300)]
    async with writer_of(store) as writer:
        for entry in given:
            writer.take(entry)
            await trio.sleep(0.2)
        assert not store.written
        store.trouble = lambda: None
        await trio.sleep(5.01)
        assert store.written == given
    assert lines(caplog) == [
        "call log a.db: not written: call log a.db: the disk is full; calls go on, and it is tried again",
        "call log a.db: written again; dropped entries: 0",
    ]
    assert writer.dropped == 0


async def test_full_queue_drops_and_counts(
    caplog: pytest.LogCaptureFixture, autojump_clock: trio.testing.MockClock
) -> None:
    """Beyond its bound the queue drops what comes, interim words first; one warning, and the number at the end."""
    store, e = FakeStore(trouble=away), Events()
    async with writer_of(store) as writer:
        entry, interim = e.said("CA1", "word"), e.event("CA1", "transcript_partial", text="wo")
        for _ in range(MAX_WAITING_LOSSY):
            writer.take(entry)
        writer.take(interim)
        assert writer.dropped == 1
        for _ in range(MAX_WAITING_ENTRIES - MAX_WAITING_LOSSY):
            writer.take(entry)
        writer.take(entry)
        writer.take(RecordingMade("CA1", "a.wav"))
        assert writer.dropped == 2
        await trio.sleep(1)
        store.trouble = lambda: None
        await trio.sleep(5)
        # The file of a recording is not among the dropped: nothing else names it.
        assert len(store.written) == MAX_WAITING_ENTRIES + 1
        assert store.written[-1] == RecordingMade("CA1", "a.wav")
        writer.take(entry)
        await trio.sleep(1)
        assert len(store.written) == MAX_WAITING_ENTRIES + 2
    assert [line.partition(": ")[2] for line in lines(caplog)] == [
        "entries are dropped: the database does not keep up; calls go on",
        "not written: call log a.db: the disk is full; calls go on, and it is tried again",
        "written again; dropped entries: 2",
    ]


async def test_slow_disk_holds_nobody_up(autojump_clock: trio.testing.MockClock) -> None:
    """While a write blocks its thread, entries are taken without waiting."""
    store, e = FakeStore(trouble=lambda: time.sleep(0.05)), Events()  # blocks on purpose: the disk is what is slow
    async with writer_of(store) as writer:
        writer.take(e.said("CA1", "one"))
        await trio.sleep(BATCH_WAIT_S)
        began = trio.current_time()
        for _ in range(100):
            writer.take(e.said("CA1", "more"))
        assert trio.current_time() == began
    assert len(store.written) == 101


async def test_close_waits_a_second_for_the_database(
    caplog: pytest.LogCaptureFixture, autojump_clock: trio.testing.MockClock
) -> None:
    """A database that is away does not keep the server from closing; the log says what is lost."""
    store, e = FakeStore(trouble=away), Events()
    async with writer_of(store) as writer:
        writer.take(e.ended("CA1"))
        await trio.sleep(1)
        closing = trio.current_time()
    assert trio.current_time() == closing + CLOSE_TIMEOUT_S
    assert lines(caplog)[-1] == "call log a.db: 1 entries of the last calls are lost"


async def test_log_of_newer_version_stops_the_server(autojump_clock: trio.testing.MockClock) -> None:
    """A log that may not be written is a mistake of the program's, reported before it takes calls."""

    def newer() -> None:
        raise ConfigurationError("the call log has version 99")

    with pytest.raises(ConfigurationError, match="version 99"):
        async with writer_of(FakeStore(trouble_at_opening=newer)):
            raise AssertionError("the block must not run")


async def test_newer_version_found_later_is_never_written(
    caplog: pytest.LogCaptureFixture, autojump_clock: trio.testing.MockClock
) -> None:
    """If the database came back newer, one error says so, nothing is tried again, and calls go on."""
    store, e, attempts = FakeStore(trouble_at_opening=away), Events(), []

    def newer() -> None:
        attempts.append(1)
        raise ConfigurationError("the call log has version 99")

    store.trouble = newer
    async with writer_of(store) as writer:
        for _ in range(5):
            writer.take(e.said("CA1", "one"))
            await trio.sleep(10)
    assert len(attempts) == 1
    assert not store.written
    assert [line for line in lines(caplog) if "version 99" in line] == [
        "call log a.db: not written: the call log has version 99; calls go on"
    ]
    assert writer.dropped == 5


async def test_bug_in_the_log_ends_no_call(
    caplog: pytest.LogCaptureFixture, autojump_clock: trio.testing.MockClock
) -> None:
    """A bug costs its batch, has its traceback in the log, and the next batch is written."""
    store, e = FakeStore(trouble=lambda: {}["bug"]), Events()
    async with writer_of(store) as writer:
        writer.take(e.said("CA1", "one"))
        await trio.sleep(1)
        store.trouble = lambda: None
        writer.take(e.said("CA1", "two"))
        await trio.sleep(1)
    assert [entry["data"]["text"] for entry in store.written if not isinstance(entry, RecordingMade)] == ["two"]
    assert "KeyError" in caplog.text
    assert writer.dropped == 1


async def test_refused_entries_are_counted(
    caplog: pytest.LogCaptureFixture, autojump_clock: trio.testing.MockClock
) -> None:
    """Entries that the database refuses count as dropped, with a warning."""
    store, e = FakeStore(refused=1), Events()
    async with writer_of(store) as writer:
        writer.take(e.said("CA1", "one"))
        await trio.sleep(1)
    assert writer.dropped == 1
    assert "entries are dropped: the database refuses them" in lines(caplog)[0]


async def test_old_calls_are_deleted_each_hour(autojump_clock: trio.testing.MockClock) -> None:
    """keep_days= deletes at the begin and then each hour what is older."""
    store = FakeStore()
    async with writer_of(store, keep_days=2.5):
        await trio.sleep(2 * 3600 + 1)
    assert store.deleted == [997.5 * DAY_S, 997.5 * DAY_S + 3600, 997.5 * DAY_S + 7200]


async def test_deletion_of_many_calls_lets_entries_through(
    caplog: pytest.LogCaptureFixture, autojump_clock: trio.testing.MockClock
) -> None:
    """Between two turns of a deletion, what waits is written; the count is that of all turns."""
    # Each turn takes 10 ms.
    store = FakeStore(old=5000, at_deletion=lambda: trio.from_thread.run_sync(autojump_clock.jump, 0.01))
    with caplog.at_level(logging.INFO, "patter_trio.call_log"):
        async with writer_of(store, keep_days=1) as writer:
            writer.take(Events().said("CA1", "one"))
            await trio.sleep(10)
    assert "deleted 5000 calls older than 1 days" in caplog.text
    assert store.steps.index("write") < store.steps.index("erase")


async def test_closing_ends_a_deletion(autojump_clock: trio.testing.MockClock) -> None:
    """A server that closes does not wait for a deletion without an end, and writes how its calls ended."""
    store = FakeStore(old=10**12)
    async with writer_of(store, keep_days=1) as writer:
        writer.take(Events().ended("CA1"))
        await trio.testing.wait_all_tasks_blocked()
    assert len(store.written) == 1
    assert store.is_closed


async def test_error_of_the_block_comes_bare(autojump_clock: trio.testing.MockClock) -> None:
    """What the server raises is not hidden in a group by the log around it."""
    with suppress(LookupError):
        async with writer_of(FakeStore()):
            raise LookupError
