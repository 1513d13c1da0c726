"""The queue between the calls and the log's thread, and the task that empties it.

A call puts an entry in and goes on; nothing here is awaited by a call. The task hands batches to a thread, one at a
time. While the database is away, the entries wait, the task tries again, and beyond the bound of the queue entries are
dropped and counted. There is one warning when that begins, and one line when it is over.
"""

import logging
from collections import deque
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from functools import partial
from itertools import islice
from typing import Any, Final, Protocol

import trio

from patter_trio.call_log.entries import LOSSY_TYPES, Entry, RecordingMade
from patter_trio.errors import CallLogError, ConfigurationError
from patter_trio.metrics.internal_events import LlmChunk
from patter_trio.net.threads import run_in_own_thread

# Judged: what a killed process loses is less than this and the time of one transaction; an utterance takes longer.
BATCH_WAIT_S: Final = 0.2
"""Seconds for which entries are collected before they are written."""
# Judged: some milliseconds of Python in the thread, which the event loop has to share the interpreter with.
MAX_BATCH_ENTRIES: Final = 200
"""Most entries of one transaction."""
# Judged: 100 calls make about 600 entries a second, each of some hundred bytes; a database that is away for a minute
# loses nothing.
MAX_WAITING_ENTRIES: Final = 50_000
"""Most entries that wait; further ones are dropped."""
# Judged: one for each call, so that 100 calls of a minute each make 50,000 in eight hours.
MAX_WAITING_WITH_RECORDINGS: Final = 100_000
"""Most entries that wait, files of recordings included: without its entry, a file is never deleted."""
MAX_WAITING_LOSSY: Final = 25_000
"""Number of waiting entries from which on the events that say least are dropped."""
RETRY_WAITS_S: Final = (0.5, 1.0, 2.0, 5.0)
"""Seconds before the next attempt while the database is away; the last one counts for all further attempts."""
OPEN_TIMEOUT_S: Final = 5.0
"""Seconds for opening the database before the server takes calls; then it is opened beside them."""
# Judged: a local database needs milliseconds; a server that is stopped does not wait long for one that is away.
CLOSE_TIMEOUT_S: Final = 1.0
"""Seconds for the entries that still wait when the server closes."""
SWEEP_INTERVAL_S: Final = 3600.0
"""Seconds between two deletions of calls that are too old."""
SECONDS_OF_A_DAY: Final = 86_400.0

_log = logging.getLogger("patter_trio.call_log")


class Store(Protocol):
    """The database as the writer uses it; its methods run in a thread, one at a time."""

    def open(self) -> None:
        """Open the database, and make or lead up its tables.

        Raises:
            CallLogError: it cannot be opened.
            ConfigurationError: it is of a newer version.
        """

    def write(self, entries: Sequence[Entry]) -> int:
        """Write entries, all or nothing; return how many the database refuses.

        Raises:
            CallLogError: it cannot be used.
            ConfigurationError: it is of a newer version.
        """

    def delete_before(self, unix: float) -> int:
        """Delete some of the calls that began before a time; return their number, 0 if none is left.

        Raises:
            CallLogError: it cannot be used.
        """

    def erase(self) -> bool:
        """Overwrite a part of what deleted calls have left; return True if there is more to do.

        Raises:
            CallLogError: it cannot be used.
        """

    def close(self) -> None:
        """Close the database.

        Raises:
            CallLogError: it could not be closed.
        """


class LogWriter:
    """The queue of one server, and the task that has it written.

    Args:
        store: the database.
        place: what log lines call it.
    """

    def __init__(self, store: Store, place: str) -> None:
        self._store = store
        self._place = place
        self._waiting: deque[Entry] = deque()
        self._wake = trio.Event()
        self._closing = trio.Event()
        # Cancelled servers still write how their calls ended; ``close`` sets the deadline, and comes in any case.
        self._scope = trio.CancelScope(shield=True)
        # Not shielded: what is too old is deleted by the next server, too.
        self._sweeping = trio.CancelScope()
        # One: a database that hangs keeps its thread, so that no others pile up behind it.
        self._thread = trio.CapacityLimiter(1)
        self._is_refused = False
        self._is_down = False
        self._dropped_now = 0
        """Entries dropped since the trouble began."""
        self.dropped: int = 0
        """Entries dropped in all."""

    def __repr__(self) -> str:
        return f"<LogWriter to {self._place}, {len(self._waiting)} waiting, {self.dropped} dropped>"

    def wants(self, kind: type[Any]) -> bool:
        """Return True if events of a class are kept: all but the pieces of the LLM's text, which transcripts have."""
        return kind is not LlmChunk

    def take(self, entry: Entry) -> None:
        """Take an entry; it neither waits nor raises."""
        if isinstance(entry, RecordingMade):
            limit = MAX_WAITING_WITH_RECORDINGS
        else:
            limit = MAX_WAITING_LOSSY if entry["type"] in LOSSY_TYPES else MAX_WAITING_ENTRIES
        if self._is_refused or len(self._waiting) >= limit:
            self._drop(1, "the database does not keep up")
            return
        self._waiting.append(entry)
        self._wake.set()

    def _drop(self, count: int, why: str) -> None:
        self.dropped += count
        if not self._dropped_now and not self._is_down and not self._is_refused:
            _log.warning("call log %s: entries are dropped: %s; calls go on", self._place, why)
        self._dropped_now += count

    async def begin(self) -> None:
        """Open the database before the first call.

        Raises:
            ConfigurationError: it is of a newer version.
        """
        with trio.move_on_after(OPEN_TIMEOUT_S) as scope:
            try:
                await run_in_own_thread(self._store.open, self._thread)
            except CallLogError as error:
                self._fail(error)
        if scope.cancelled_caught:
            self._fail(f"it was not opened within {OPEN_TIMEOUT_S:g} s")

    def _fail(self, why: object) -> None:
        # Once, until it is over: the next attempt is some seconds away.
        if not self._is_down:
            self._is_down = True
            _log.warning("call log %s: not written: %s; calls go on, and it is tried again", self._place, why)

    def close(self) -> None:
        """Write the rest, because all calls are over."""
        # From here on the shield is bounded.
        self._scope.deadline = self._sweeping.deadline = trio.current_time() + CLOSE_TIMEOUT_S
        self._closing.set()
        self._wake.set()

    async def run(self) -> None:
        """Write the entries, until closed and all are written."""
        with self._scope:
            while self._waiting or not self._closing.is_set():
                await self._wake.wait()
                with trio.move_on_after(BATCH_WAIT_S):
                    await self._closing.wait()
                await self._write_all()
                if not self._waiting and not self._closing.is_set():
                    self._wake = trio.Event()
            await self._in_thread(self._store.close)
        if self._waiting:
            _log.warning("call log %s: %d entries of the last calls are lost", self._place, len(self._waiting))

    async def _write_all(self) -> None:
        attempts = 0
        while self._waiting:
            batch = list(islice(self._waiting, MAX_BATCH_ENTRIES))
            refused = await self._in_thread(partial(self._store.write, batch), lost=len(batch))
            if refused is None:
                with trio.move_on_after(RETRY_WAITS_S[min(attempts, len(RETRY_WAITS_S) - 1)]):
                    # A server that closes tries at once, and then again until its deadline.
                    if self._closing.is_set():
                        await trio.sleep_forever()
                    await self._closing.wait()
                attempts += 1
                continue
            # Only now: until they are written they are not taken out. New ones came in behind them.
            for _ in batch:
                self._waiting.popleft()
            if refused:
                self._drop(refused, "the database refuses them")
            self._recover()

    def _recover(self) -> None:
        if self._is_down or (self._dropped_now and len(self._waiting) < MAX_WAITING_LOSSY):
            _log.warning("call log %s: written again; dropped entries: %d", self._place, self._dropped_now)
            self._is_down, self._dropped_now = False, 0

    async def _in_thread(self, work: Callable[[], int | None], lost: int = 0) -> int | None:
        """Return the result of work in the thread, ``lost`` after a failure for good; None: try again later."""
        try:
            return await run_in_own_thread(work, self._thread) or 0
        except CallLogError as error:
            self._fail(error)
            return None
        except ConfigurationError as error:
            # Never written, and not tried again.
            self._is_refused = True
            _log.error("call log %s: not written: %s; calls go on", self._place, error)
        except Exception:  # noqa: BLE001 (the task is the server's: a bug of the log must not end the calls)
            _log.exception("call log %s: a batch is lost", self._place)
        return lost

    async def sweep(
        self, keep_days: float, unix_time: Callable[[], float], delete_lost: Callable[[float], int] | None = None
    ) -> None:
        """Delete the calls that are older than ``keep_days``, now and each hour, until closed.

        ``delete_lost`` deletes some of the recordings from before a time that no call names, until it returns 0; it is
        called now, and not each hour.
        """
        # An earlier process may have been killed before it had erased what it deleted.
        is_unerased = True
        with self._sweeping:
            while not self._closing.is_set():
                before = unix_time() - keep_days * SECONDS_OF_A_DAY
                if deleted := await self._each_turn(partial(self._store.delete_before, before)):
                    _log.info("call log %s: deleted %d calls older than %g days", self._place, deleted, keep_days)
                if (
                    is_unerased
                    and delete_lost is not None
                    and (lost := await self._each_turn(partial(delete_lost, before)))
                ):
                    _log.info(
                        "call log %s: deleted %d recordings older than %g days that no call names",
                        self._place,
                        lost,
                        keep_days,
                    )
                if is_unerased or deleted:
                    await self._each_turn(self._store.erase)
                is_unerased = False
                with trio.move_on_after(SWEEP_INTERVAL_S):
                    await self._closing.wait()

    async def _each_turn(self, work: Callable[[], int]) -> int:
        """Run work in the thread until it returns 0, fails, or the writer closes; return the sum of what it returned.

        Between two turns, entries that wait are written: the thread serves in the order of asking.
        """
        total = 0
        while not self._closing.is_set() and (done := await self._in_thread(work)):
            total += done
        return total


@asynccontextmanager
async def open_writer(
    store: Store,
    place: str,
    *,
    keep_days: float | None = None,
    unix_time: Callable[[], float],
    delete_lost: Callable[[float], int] | None = None,
) -> AsyncIterator[LogWriter]:
    """Open a writer; on exit, what waits is written, within :data:`CLOSE_TIMEOUT_S`.

    Args:
        store: the database.
        place: what log lines call it.
        keep_days: days after which calls are deleted; None: they are kept.
        unix_time: returns the Unix time in seconds.
        delete_lost: deletes some recordings from before a time that no call names, in the thread, and returns their
            number; None if the log has no recordings.

    Raises:
        ConfigurationError: the log is of a newer version.
    """
    writer = LogWriter(store, place)
    await writer.begin()
    try:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(writer.run)
            if keep_days is not None:
                nursery.start_soon(writer.sweep, keep_days, unix_time, delete_lost)
            try:
                yield writer
            finally:
                writer.close()
    except BaseExceptionGroup as group:
        # Of the block alone: the tasks do not raise. It is the block's error that the caller knows.
        match group.exceptions:
            case [failure]:
                raise failure from failure.__cause__
            case _:
                raise
