"""The reading side: queries over the calls, each in one transaction. They run in threads."""

import json
import math
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, Final

from sqlalchemy import Connection, Row, Select, func, literal, or_, select

from patter_trio.abc import CallPage, CallQuery, CallSummary, DayStats, EventRecord
from patter_trio.call_log.database import Database
from patter_trio.call_log.rows import SECONDS_OF_A_DAY, clean
from patter_trio.call_log.schema import CALLS, DETAILS, EVENTS, TURNS
from patter_trio.call_log.words import phrases_of
from patter_trio.errors import ConfigurationError
from patter_trio.timeline.fold import CallFacts

MAX_PAGE_CALLS: Final = 500
"""Most calls of a page."""
_ESCAPE: Final = "\\"
_PERCENTILES: Final = {"answer_p50_ms": 50, "answer_p95_ms": 95}


def find(connection: Connection, database: Database, query: CallQuery) -> CallPage:
    """Return a page of calls, newest first.

    Raises:
        ConfigurationError: the cursor or the limit is not valid.
    """
    if isinstance(query.limit, bool) or not isinstance(query.limit, int) or not 1 <= query.limit <= MAX_PAGE_CALLS:
        raise ConfigurationError(f"limit must be a whole number from 1 to {MAX_PAGE_CALLS}, got {query.limit!r}")
    number = _order(database, query)
    wanted = _wanted(select(CALLS), database, query).order_by(number.desc())
    if query.cursor:
        wanted = wanted.where(number < _number_in(query.cursor))
    # One more, to know whether there is another page.
    found = connection.execute(wanted.limit(query.limit + 1)).all()
    page = found[: query.limit]
    return CallPage(
        calls=tuple(summary(row) for row in page), next=str(page[-1].id) if len(found) > query.limit else ""
    )


def _order(database: Database, query: CallQuery) -> Any:
    return database.dialect.order(matching=bool(phrases_of(query.text)))


def _number_in(cursor: str) -> int:
    # A number of 64 bits: SQLite refuses a larger one with an error of its own.
    if not (cursor.isascii() and cursor.isdecimal() and len(cursor) <= 18):  # noqa: PLR2004 (digits of 64 bits)
        raise ConfigurationError(f"cursor must be that of the page before, got {cursor[:40]!r}")
    return int(cursor)


def _wanted(calls: Select[Any], database: Database, query: CallQuery) -> Select[Any]:
    """Return a selection of the calls that a query names."""
    if query.text.strip():
        # A query of punctuation alone finds nothing, rather than all.
        phrases = phrases_of(query.text)
        calls = database.dialect.matching(calls, phrases) if phrases else calls.where(literal(False))
    if number := query.number.strip():
        like = f"%{_escaped(number)}%"
        calls = calls.where(or_(CALLS.c.caller.like(like, escape=_ESCAPE), CALLS.c.callee.like(like, escape=_ESCAPE)))
    if query.outcome:
        calls = calls.where(CALLS.c.outcome == clean(query.outcome))
    for column, least in ((CALLS.c.cost_usd, query.min_cost_usd), (CALLS.c.duration_s, query.min_duration_s)):
        if least is not None:
            calls = calls.where(column >= least)
    return _between(calls, CALLS.c.started_at, query.since, query.until)


def _between(calls: Select[Any], column: Any, since: float | None, until: float | None) -> Select[Any]:
    if since is not None:
        calls = calls.where(column >= since)
    return calls if until is None else calls.where(column < until)


def _escaped(text: str) -> str:
    # The escape sign first: those that the others get must not be escaped again.
    for sign in (_ESCAPE, "%", "_"):
        text = text.replace(sign, _ESCAPE + sign)
    return clean(text)


def summary(row: Row[Any]) -> CallSummary:
    """Return the line of a call."""
    return CallSummary(
        call_id=row.call_id,
        caller=row.caller,
        callee=row.callee,
        direction=row.direction,
        provider=row.provider,
        started_at=row.started_at,
        duration_s=row.duration_s,
        turns=row.turns,
        answer_p50_ms=row.answer_p50_ms,
        outcome=row.outcome,
        cost_usd=row.cost_usd,
        first_words=row.first_words,
        has_recording=bool(row.recording),
    )


def get(connection: Connection, call_id: str) -> dict[str, Any] | None:
    """Return all about a call but its events; None: it is unknown."""
    row = connection.execute(
        select(CALLS, *_detail_columns()).join(DETAILS, DETAILS.c.call == CALLS.c.id).where(_is(call_id))
    ).first()
    return None if row is None else _whole(connection, row)


def _detail_columns() -> tuple[Any, ...]:
    return tuple(column for column in DETAILS.c if column is not DETAILS.c.call)


def _is(call_id: str) -> Any:
    return CALLS.c.call_id == clean(call_id)


def _whole(connection: Connection, row: Row[Any]) -> dict[str, Any]:
    # Of a call that has not ended, or whose process was killed, the events say it.
    transcript = _transcript_so_far(connection, row.id) if row.transcript is None else json.loads(row.transcript)
    return {
        **summary(row).to_dict(),
        "ended_at": row.ended_at,
        "error": row.error,
        "custom_params": json.loads(row.custom_params),
        "transcript": transcript,
        "metrics": None if row.metrics is None else json.loads(row.metrics),
        "tool_calls": _tools_so_far(connection, row.id) if row.tool_calls is None else json.loads(row.tool_calls),
    }


def _payloads(connection: Connection, call: int, kind: str) -> Sequence[Row[Any, Any]]:
    wanted = select(EVENTS.c.time, EVENTS.c.data).where(EVENTS.c.call == call, EVENTS.c.type == kind)
    return connection.execute(wanted.order_by(EVENTS.c.seq)).all()


def _transcript_so_far(connection: Connection, call: int) -> list[dict[str, Any]]:
    entries: list[dict[str, Any]] = []
    for row in _payloads(connection, call, "transcript_final"):
        data = json.loads(row.data)
        if "text" not in data:
            continue
        entry = {
            "role": data.get("role", ""),
            "text": data["text"],
            "timestamp": datetime.fromisoformat(row.time).timestamp(),
        }
        if data.get("revises"):
            # Words that were misheard take the place of the newest ones: only those can still be revised.
            newest = next(
                (place for place in range(len(entries) - 1, -1, -1) if entries[place]["role"] == "user"), None
            )
            if newest is not None:
                entries[newest] = entry
                continue
        entries.append(entry)
    return entries


def _tools_so_far(connection: Connection, call: int) -> list[dict[str, Any]]:
    found = [json.loads(row.data) for row in _payloads(connection, call, "tool_call_completed")]
    return [{key: value for key, value in data.items() if key not in ("call_id", "timestamp_ms")} for data in found]


def events(connection: Connection, call_id: str, after: int = 0) -> list[EventRecord]:
    """Return the events of a call, oldest first."""
    wanted = select(EVENTS).join(CALLS, CALLS.c.id == EVENTS.c.call).where(_is(call_id), EVENTS.c.seq > after)
    return [
        EventRecord(
            seq=row.seq, call_id=call_id, type=row.type, at_ms=row.at_ms, time=row.time, data=json.loads(row.data)
        )
        for row in connection.execute(wanted.order_by(EVENTS.c.seq))
    ]


def facts(connection: Connection, call_id: str) -> CallFacts | None:
    """Return the facts of a call for its timeline; None: it is unknown."""
    row = connection.execute(
        select(CALLS, DETAILS.c.error).join(DETAILS, DETAILS.c.call == CALLS.c.id).where(_is(call_id))
    ).first()
    if row is None:
        return None
    return CallFacts(
        call_id=row.call_id,
        caller=row.caller,
        callee=row.callee,
        direction=row.direction,
        began=datetime.fromtimestamp(row.started_at, UTC).isoformat(timespec="milliseconds"),
        duration_ms=None if row.ended_at is None else row.duration_s * 1000,
        outcome=row.outcome,
        error=row.error,
    )


def recording(connection: Connection, call_id: str) -> str:
    """Return the path of a call's recording; empty without one."""
    return connection.execute(select(CALLS.c.recording).where(_is(call_id))).scalar() or ""


def whole_calls(
    connection: Connection, database: Database, query: CallQuery, before: int | None, count: int
) -> tuple[list[dict[str, Any]], int | None]:
    """Return the next ``count`` calls that a query names, and where to go on; None at the end."""
    wanted = _wanted(select(CALLS, *_detail_columns()), database, query)
    number = _order(database, query)
    wanted = wanted.join(DETAILS, DETAILS.c.call == CALLS.c.id).order_by(number.desc()).limit(count)
    if before is not None:
        wanted = wanted.where(number < before)
    found = connection.execute(wanted).all()
    return [_whole(connection, row) for row in found], (found[-1].id if len(found) == count else None)


# Figures --------------------------------------------------------------------------------------------------------------
def stats(connection: Connection, since: float | None, until: float | None) -> list[DayStats]:
    """Return the figures of each day, in UTC, oldest first."""
    day = CALLS.c.day
    counted = _between(
        select(
            day.label("day"),
            CALLS.c.outcome,
            func.count().label("calls"),
            func.sum(CALLS.c.duration_s).label("duration_s"),
            func.sum(CALLS.c.cost_usd).label("cost_usd"),
        ),
        CALLS.c.started_at,
        since,
        until,
    ).group_by(day, CALLS.c.outcome)
    by_day: dict[int, list[Row[Any]]] = {}
    for row in connection.execute(counted):
        by_day.setdefault(int(row.day), []).append(row)
    answers = _answers(connection, since, until)
    return [
        DayStats(
            day=datetime.fromtimestamp(number * SECONDS_OF_A_DAY, UTC).date().isoformat(),
            calls=sum(row.calls for row in found),
            outcomes={row.outcome: row.calls for row in found},
            duration_s=math.fsum(row.duration_s or 0.0 for row in found),
            cost_usd=math.fsum(row.cost_usd or 0.0 for row in found),
            **answers.get(number, {}),
        )
        for number, found in sorted(by_day.items())
    ]


def _answers(connection: Connection, since: float | None, until: float | None) -> dict[int, Mapping[str, float]]:
    """Return the percentiles of the answers' times by day, interpolated as in ``metrics/results.py``.

    The database finds them in its index, so that the interpreter, and with it the calls, are not held up by a million
    rows.
    """
    counted = _measured(select(TURNS.c.day, func.count().label("answers")), since, until).group_by(TURNS.c.day)
    return {
        row.day: {name: _percentile(connection, row, share, since, until) for name, share in _PERCENTILES.items()}
        for row in connection.execute(counted).all()
    }


def _measured(turns: Select[Any], since: float | None, until: float | None) -> Select[Any]:
    return _between(turns.where(TURNS.c.interrupted == 0, TURNS.c.total_ms.is_not(None)), TURNS.c.at, since, until)


def _percentile(connection: Connection, day: Row[Any], percent: int, since: float | None, until: float | None) -> float:
    below, rest = divmod((day.answers - 1) * percent, 100)
    ordered = _measured(select(TURNS.c.total_ms).where(TURNS.c.day == day.day), since, until).order_by(TURNS.c.total_ms)
    # The value below the percentile, and the one above it.
    values = [row.total_ms for row in connection.execute(ordered.offset(below).limit(2))]
    # At the last value there is only one, and ``rest`` is 0.
    return round(float(values[0] + (values[-1] - values[0]) * rest / 100), 1)
