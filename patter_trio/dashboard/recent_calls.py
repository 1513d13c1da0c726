"""The calls of a phone without a call log: the live ones and the last that have ended, in memory.

A sink of the phone's records and, for windows, an archive. Nothing survives the end of the process. All is bounded: the
number of calls that are over, the events of each, and the events of all of them together.
"""

import itertools
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final, TypeVar

import trio

from patter_trio.abc import CallPage, CallQuery, DayStats, EventRecord
from patter_trio.dashboard.remembered import RememberedCall
from patter_trio.errors import ConfigurationError
from patter_trio.metrics.internal_events import LlmChunk
from patter_trio.metrics.results import percentile
from patter_trio.net.threads import run_in_own_thread
from patter_trio.timeline.call_timeline import CallTimeline
from patter_trio.timeline.fold import CallFacts, timeline_of
from patter_trio.timeline.svg import svg_of

T = TypeVar("T")

# Judged: what somebody looks for without a call log is among the newest.
MAX_ENDED_CALLS: Final = 200
"""Calls that are over and still kept; beyond, the oldest is forgotten."""
# Judged: about 40 MB.
MAX_EVENTS: Final = 60_000
"""Events of all calls that are over; beyond, the oldest call is forgotten."""
MAX_PAGE_CALLS: Final = 500
"""Most calls of a page."""
# Judged: a person who looks, and another one. They compute, so that more at once would take time from the calls.
MAX_DRAWN_AT_ONCE: Final = 2
"""Timelines that are made at once; further ones wait."""
# As for the call log, whose numbers have 64 bits.
_MAX_CURSOR_DIGITS: Final = 18


class RecentCalls:
    """The newest calls of a phone: a ``RecordSink`` that is a :class:`~patter_trio.abc.CallArchive`."""

    def __init__(self) -> None:
        self._calls: dict[str, RememberedCall] = {}
        """By id, in the order in which they began."""
        self._ended: dict[str, int] = {}
        """The number of events of each call that is over, in the order of their ends."""
        self._numbers = itertools.count(1)
        self._threads = trio.CapacityLimiter(MAX_DRAWN_AT_ONCE)

    def __repr__(self) -> str:
        return f"<RecentCalls {len(self._calls)}>"

    def wants(self, kind: type[Any]) -> bool:
        """Return True for all events but the pieces of the LLM's text (thousands in each call)."""
        return kind is not LlmChunk

    def take(self, record: EventRecord) -> None:
        """Keep an event."""
        call_id = record["call_id"]
        call = self._calls.get(call_id)
        if call is None:
            # What comes after the end of a call that is forgotten, such as a cost, makes no new one.
            if record["type"] in ("cost_reported", "recording_saved"):
                return
            call = self._calls[call_id] = RememberedCall.begun(next(self._numbers), record)
        call.take(record)
        if call.is_over:
            self._ended[call_id] = len(call.events)
            self._forget()

    def _forget(self) -> None:
        # The newest stays, however many events it has.
        while len(self._ended) > MAX_ENDED_CALLS or (len(self._ended) > 1 and sum(self._ended.values()) > MAX_EVENTS):
            oldest = next(iter(self._ended))
            del self._ended[oldest], self._calls[oldest]

    # But for timelines, none of these methods awaits anything: they have the form of those that ask a database.
    async def find(self, query: CallQuery) -> CallPage:
        """Return a page of the calls that a query names, newest first.

        Raises:
            ConfigurationError: the cursor or the limit is not valid.
        """
        if isinstance(query.limit, bool) or not isinstance(query.limit, int) or not 1 <= query.limit <= MAX_PAGE_CALLS:
            raise ConfigurationError(f"limit must be a whole number from 1 to {MAX_PAGE_CALLS}, got {query.limit!r}")
        found = self._found(query)
        page = list(itertools.islice(found, query.limit))
        more = next(found, None) is not None
        return CallPage(calls=tuple(call.summary for call in page), next=str(page[-1].number) if more else "")

    def _found(self, query: CallQuery) -> Iterator[RememberedCall]:
        before = _number_in(query.cursor)
        words = query.text.casefold().split()
        newest_first = sorted(self._calls.values(), key=lambda call: -call.number)
        return (call for call in newest_first if call.number < before and _is_wanted(call, query, words))

    async def get(self, call_id: str) -> dict[str, Any] | None:
        """Return all about a call but its events; None: it is unknown."""
        call = self._calls.get(call_id)
        return None if call is None else call.to_dict()

    async def events(self, call_id: str, *, after: int = 0) -> Sequence[EventRecord]:
        """Return the events of a call behind a ``seq``, oldest first; empty if it has no more, or is unknown."""
        call = self._calls.get(call_id)
        return () if call is None else [record for record in call.events if record["seq"] > after]

    async def _timeline(self, call_id: str, form: Callable[[CallTimeline], T]) -> T | None:
        call = self._calls.get(call_id)
        if call is None:
            return None
        # A copy, because further events come meanwhile.
        events = tuple(call.events)
        # In a thread: the picture of an hour takes 0.7 s (measured), in which no call would go on.
        return await run_in_own_thread(lambda: form(timeline_of(CallFacts(call_id=call_id), events)), self._threads)

    async def timeline(self, call_id: str) -> dict[str, Any] | None:
        """Return the call's timeline as JSON takes it; None: the call is unknown."""
        return await self._timeline(call_id, CallTimeline.to_dict)

    async def timeline_svg(self, call_id: str) -> str | None:
        """Return the picture of the timeline as SVG; None: the call is unknown."""
        return await self._timeline(call_id, svg_of)

    async def recording(self, call_id: str) -> Path | None:  # noqa: ARG002 (the protocol's)
        """Return None: the memory has no recordings."""
        return None

    async def stats(self, *, since: float | None = None, until: float | None = None) -> Sequence[DayStats]:
        """Return the figures of each day that has calls, oldest first; the bounds are Unix times in seconds."""
        days: dict[str, list[RememberedCall]] = {}
        for call in sorted(self._calls.values(), key=lambda call: call.summary.started_at):
            if _is_between(call, since, until):
                day = datetime.fromtimestamp(call.summary.started_at, UTC).date().isoformat()
                days.setdefault(day, []).append(call)
        return [_stats_of(day, calls) for day, calls in days.items()]

    async def delete(self, call_id: str) -> bool:
        """Forget a call that is over; return False if it is unknown or live."""
        if self._ended.pop(call_id, None) is None:
            return False
        del self._calls[call_id]
        return True

    @asynccontextmanager
    async def export(self, query: CallQuery) -> AsyncIterator[AsyncIterator[dict[str, Any]]]:
        """Open a stream of all calls that a query names, each as :meth:`get` returns it; the limit does not count."""
        # A list: a call may be forgotten while the stream is read.
        yield _Exported(list(self._found(query)))


class _Exported:
    """The calls of an export; an iterator and no generator, so that it may be left open."""

    def __init__(self, calls: Sequence[RememberedCall]) -> None:
        self._calls = iter(calls)

    def __aiter__(self) -> "_Exported":
        return self

    async def __anext__(self) -> dict[str, Any]:
        for call in self._calls:
            return call.to_dict()
        raise StopAsyncIteration


def _number_in(cursor: str) -> float:
    if not cursor:
        return float("inf")
    if not (cursor.isascii() and cursor.isdecimal() and len(cursor) <= _MAX_CURSOR_DIGITS):
        raise ConfigurationError(f"cursor must be that of the page before, got {cursor[:40]!r}")
    return int(cursor)


def _is_between(call: RememberedCall, since: float | None, until: float | None) -> bool:
    began = call.summary.started_at
    return (since is None or began >= since) and (until is None or began < until)


def _is_wanted(call: RememberedCall, query: CallQuery, words: Sequence[str]) -> bool:
    line = call.summary
    if query.number and query.number not in line.caller and query.number not in line.callee:
        return False
    if query.outcome and line.outcome != query.outcome:
        return False
    if query.min_duration_s is not None and line.duration_s < query.min_duration_s:
        return False
    if query.min_cost_usd is not None and (line.cost_usd is None or line.cost_usd < query.min_cost_usd):
        return False
    if not _is_between(call, query.since, query.until):
        return False
    # Last, because it looks at all that was said.
    said = call.words() if words else ""
    return all(word in said for word in words)


def _stats_of(day: str, calls: Sequence[RememberedCall]) -> DayStats:
    outcomes: dict[str, int] = {}
    for call in calls:
        if call.is_over:
            outcomes[call.summary.outcome] = outcomes.get(call.summary.outcome, 0) + 1
    waits = sorted(wait for call in calls for wait in call.answers_ms)
    return DayStats(
        day=day,
        calls=len(calls),
        outcomes=outcomes,
        duration_s=sum(call.summary.duration_s for call in calls),
        cost_usd=sum(call.summary.cost_usd or 0.0 for call in calls),
        answer_p50_ms=percentile(waits, 0.5) if waits else None,
        answer_p95_ms=percentile(waits, 0.95) if waits else None,
    )
