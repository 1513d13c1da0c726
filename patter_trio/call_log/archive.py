"""The past calls as windows, programs and the launcher see them: asynchronous, over queries in threads."""

from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Any, Final, TypeVar

import trio
from sqlalchemy import Connection

from patter_trio.abc import CallPage, CallQuery, DayStats, EventRecord
from patter_trio.call_log import reader
from patter_trio.call_log.database import Database, translated
from patter_trio.call_log.recordings import Waveforms
from patter_trio.call_log.schema import CALLS
from patter_trio.call_log.store import delete_calls
from patter_trio.errors import CallLogError
from patter_trio.net.threads import run_in_own_thread
from patter_trio.timeline.call_timeline import CallTimeline
from patter_trio.timeline.fold import timeline_of
from patter_trio.timeline.svg import svg_of

T = TypeVar("T")

# Judged: queries of a few windows at once; the others wait their turn.
MAX_QUERIES_AT_ONCE: Final = 4
"""Number of queries that run at once."""
READ_TIMEOUT_S: Final = 20.0
"""Seconds for a query; longer than a connection and a statement may take (``dialects/postgresql.py``)."""
EXPORTED_AT_ONCE: Final = 100
"""Calls of an export that are read at once."""


class LoggedCalls:
    """The calls in a database: the :class:`~patter_trio.abc.CallArchive` of a phone with ``persist=``.

    Args:
        database: the database.
    """

    def __init__(self, database: Database) -> None:
        self._database = database
        self._threads = trio.CapacityLimiter(MAX_QUERIES_AT_ONCE)
        self._waveforms = Waveforms()

    def __repr__(self) -> str:
        return f"<LoggedCalls in {self._database.place}>"

    async def _read(self, query: Callable[[Connection], T]) -> T:
        """Return the result of a query.

        Raises:
            CallLogError: the database cannot be read.
        """
        return await self._in_thread(partial(_in_transaction, self._database, query))

    async def _in_thread(self, work: Callable[[], T]) -> T:
        try:
            # A query whose thread hangs keeps its place, and the others go on beside it.
            with trio.fail_after(READ_TIMEOUT_S):
                return await run_in_own_thread(work, self._threads)
        except trio.TooSlowError as error:
            raise CallLogError(f"call log {self._database.place}: no answer within {READ_TIMEOUT_S:g} s") from error

    async def find(self, query: CallQuery) -> CallPage:
        """Return a page of the calls that a query names, newest first.

        Raises:
            CallLogError: the database cannot be read.
            ConfigurationError: the cursor or the limit is not valid.
        """
        return await self._read(partial(reader.find, database=self._database, query=query))

    async def get(self, call_id: str) -> dict[str, Any] | None:
        """Return all about a call but its events, as JSON takes it; None: it is unknown.

        Raises:
            CallLogError: the database cannot be read.
        """
        return await self._read(partial(reader.get, call_id=call_id))

    async def events(self, call_id: str, *, after: int = 0) -> Sequence[EventRecord]:
        """Return the events of a call behind a ``seq``, oldest first; empty if it has no more, or is unknown.

        Raises:
            CallLogError: the database cannot be read.
        """
        return await self._read(partial(reader.events, call_id=call_id, after=after))

    async def timeline(self, call_id: str) -> dict[str, Any] | None:
        """Return the call's timeline as JSON takes it; None: the call is unknown.

        Raises:
            CallLogError: the database cannot be read.
        """
        return await self._timeline(call_id, CallTimeline.to_dict)

    async def timeline_svg(self, call_id: str) -> str | None:
        """Return the picture of the timeline as SVG; None: the call is unknown.

        Raises:
            CallLogError: the database cannot be read.
        """
        return await self._timeline(call_id, svg_of)

    async def _timeline(self, call_id: str, form: Callable[[CallTimeline], T]) -> T | None:
        # The form in the thread, too: the picture of an hour takes 0.7 s (measured), in which no call would go on.
        return await self._in_thread(partial(_timeline_in, self._database, self._waveforms, call_id, form))

    async def recording(self, call_id: str) -> Path | None:
        """Return the WAV file of the recording, left the caller and right the agent; None without a recording.

        Raises:
            CallLogError: the database cannot be read.
        """
        path = await self._read(partial(reader.recording, call_id=call_id))
        return Path(path) if path else None

    async def stats(self, *, since: float | None = None, until: float | None = None) -> Sequence[DayStats]:
        """Return the figures of each day that has calls, oldest first; the bounds are Unix times in seconds.

        Raises:
            CallLogError: the database cannot be read.
        """
        return await self._read(partial(reader.stats, since=since, until=until))

    async def delete(self, call_id: str) -> bool:
        """Delete all about a call, its recording included; return False if it is unknown.

        Raises:
            CallLogError: the database cannot be changed.
        """
        return await self._delete(CALLS.c.call_id == call_id) > 0

    async def delete_number(self, number: str) -> int:
        """Delete all calls from and to a number; return how many.

        Raises:
            CallLogError: the database cannot be changed.
        """
        return await self._delete((CALLS.c.caller == number) | (CALLS.c.callee == number))

    async def delete_before(self, unix: float) -> int:
        """Delete all calls that began before a Unix time, in seconds; return how many.

        Raises:
            CallLogError: the database cannot be changed.
        """
        return await self._delete(CALLS.c.started_at < unix)

    async def _delete(self, which: Any) -> int:
        # Without a limit in all, because a large log takes minutes; each turn has those of its database for locks and
        # statements. Other deletions and queries come in between.
        deleted = 0
        while count := await run_in_own_thread(partial(_delete_in, self._database, which), self._threads):
            deleted += count
        while deleted and await run_in_own_thread(partial(_erase_in, self._database), self._threads):
            pass
        return deleted

    @asynccontextmanager
    async def export(self, query: CallQuery) -> AsyncIterator[AsyncIterator[dict[str, Any]]]:
        """Open a stream of all calls that a query names, each as :meth:`get` returns it; the limit does not count.

        Raises:
            CallLogError: the database cannot be read; also from the stream.
        """
        yield _Exported(self._next_of(query))

    def _next_of(self, query: CallQuery) -> Callable[[int | None], Any]:
        return lambda before: self._read(
            partial(reader.whole_calls, database=self._database, query=query, before=before, count=EXPORTED_AT_ONCE)
        )


class _Exported:
    """The calls of an export, read a hundred at a time; an iterator and no generator, so that it may be left open."""

    def __init__(self, read: Callable[[int | None], Any]) -> None:
        self._read = read
        self._calls: list[dict[str, Any]] = []
        self._before: int | None = None
        self._is_over = False

    def __aiter__(self) -> "_Exported":
        return self

    async def __anext__(self) -> dict[str, Any]:
        if not self._calls and not self._is_over:
            self._calls, self._before = await self._read(self._before)
            self._is_over = self._before is None
            self._calls.reverse()
        if not self._calls:
            raise StopAsyncIteration
        return self._calls.pop()


def _timeline_in(database: Database, waveforms: Waveforms, call_id: str, form: Callable[[CallTimeline], T]) -> T | None:
    with database.reading() as connection:
        facts = reader.facts(connection, call_id)
        if facts is None:
            return None
        events, recording = reader.events(connection, call_id), reader.recording(connection, call_id)
    # Behind the transaction, because a long recording takes a second. Not of a call that goes on: its windows ask each
    # second, and its recording grows to hundreds of megabytes.
    peaks = None if facts.duration_ms is None else waveforms.of(recording)
    return form(timeline_of(facts, events, peaks=peaks))


def _in_transaction(database: Database, query: Callable[[Connection], T]) -> T:
    with database.reading() as connection:
        return query(connection)


def _delete_in(database: Database, which: Any) -> int:
    # First a look at the version, which the writer's engine does not take.
    with database.reading():
        pass
    with translated(database.place), database.writing_engine().connect() as connection:
        return delete_calls(connection, which)


def _erase_in(database: Database) -> bool:
    with translated(database.place), database.writing_engine().connect() as connection:
        return database.dialect.erase(connection)
