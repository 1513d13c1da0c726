"""The writing side of the database: a batch of records becomes one transaction. It runs in the writer's thread."""

import logging
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, Final

import attrs
from sqlalchemy import Connection, Engine, bindparam, delete, insert, select, update

from patter_trio.abc import EventRecord
from patter_trio.call_log import rows
from patter_trio.call_log.database import Database, described, is_about_a_row, translated
from patter_trio.call_log.entries import Entry, RecordingMade
from patter_trio.call_log.migrations import migrate
from patter_trio.call_log.recordings import batched_files, recordings_before
from patter_trio.call_log.redaction import Redaction
from patter_trio.call_log.rows import Known
from patter_trio.call_log.schema import CALLS, DETAILS, EVENTS, TURNS, WORDS
from patter_trio.errors import CallLogError

# Judged: recordings and costs of calls come within minutes after their ends.
MAX_REMEMBERED_CALLS: Final = 2000
"""Number of calls that are remembered after their end, beside those that live."""
DELETED_AT_ONCE: Final = 100
"""Calls deleted in one transaction: what waits to be written is written between two."""

_log = logging.getLogger("patter_trio.call_log")


@attrs.define
class _Batch:
    """What one transaction writes, collected, so that each table is written once."""

    known: dict[str, Known | None]
    """What is known after it of the calls that it is about; None: nothing is written of the call any more."""
    events: list[dict[str, Any]] = attrs.field(factory=list)
    turns: list[dict[str, Any]] = attrs.field(factory=list)
    changed: set[str] = attrs.field(factory=set)
    said: set[str] = attrs.field(factory=set)


class LogStore:
    """The writer's connection to the database, and what it knows of the calls whose events come.

    Args:
        database: the place.
        redaction: the rule for what is kept.
    """

    def __init__(self, database: Database, redaction: Redaction) -> None:
        self._database = database
        self._redaction = redaction
        self._engine: Engine | None = None
        self._connection: Connection | None = None
        self._identity: object = None
        self._known: dict[str, Known | None] = {}

    def __repr__(self) -> str:
        return f"<LogStore of {self._database!r}, {len(self._known)} calls known>"

    def open(self) -> None:
        """Open the database, and make or lead up its tables.

        Raises:
            CallLogError: it cannot be opened.
            ConfigurationError: it is of a newer version.
        """
        with translated(self._database.place):
            self._opened()

    def _opened(self) -> Connection:
        database = self._database
        if self._connection is not None and not database.dialect.is_same(database.url, self._identity):
            # Moved away while it was open: what is written from now on belongs into the file that is found there.
            self.close()
            self._known = {
                call_id: None if known is None else attrs.evolve(known, call=None)
                for call_id, known in self._known.items()
            }
        if self._connection is None:
            self._engine = database.writing_engine()
            connection = self._engine.connect()
            try:
                with connection.begin():
                    migrate(connection, database.dialect)
            except BaseException:
                connection.close()
                raise
            self._identity = database.dialect.identity(database.url)
            self._connection = connection
        return self._connection

    def close(self) -> None:
        """Close the connection; the next batch opens it again."""
        connection, self._connection = self._connection, None
        if connection is not None:
            with translated(self._database.place):
                connection.close()

    # Writing ----------------------------------------------------------------------------------------------------------
    def write(self, entries: Sequence[Entry]) -> int:
        """Write entries in one transaction; return how many were left out because the database refuses them.

        Raises:
            CallLogError: the database cannot be used; nothing was written.
            ConfigurationError: it is of a newer version.
        """
        kept: list[Entry] = [
            entry if isinstance(entry, RecordingMade) else self._redaction.record(entry) for entry in entries
        ]
        try:
            with translated(self._database.place):
                self._write_all(self._opened(), kept)
        except CallLogError as error:
            cause = error.__cause__ or error
            if not is_about_a_row(cause):
                # Whatever state the connection is in, the next batch has a new one.
                self._drop_connection()
                raise
            if len(kept) > 1:
                # One by one: only what is refused is left out.
                return sum(self.write([entry]) for entry in entries)
            if self._is_deleted(kept[0]):
                return 0
            _log.debug("call log %s refuses an entry: %s", self._database.place, described(cause))
            return 1
        return 0

    def _is_deleted(self, entry: Entry) -> bool:
        """Return True if the entry is about a call that was deleted; from then on, nothing is written of it."""
        call_id = entry.call_id if isinstance(entry, RecordingMade) else entry["call_id"]
        known = self._known.get(call_id)
        if known is None or known.call is None:
            return False
        with translated(self._database.place):
            connection = self._opened()
            with connection.begin():
                found = connection.execute(select(CALLS.c.id).where(CALLS.c.id == known.call)).first()
        if found is None:
            self._known[call_id] = None
        return found is None

    def _drop_connection(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.invalidate()
            connection.close()

    def _write_all(self, connection: Connection, entries: Iterable[Entry]) -> None:
        batch = _Batch({})
        with connection.begin():
            for entry in entries:
                if isinstance(entry, RecordingMade):
                    self._take_recording(connection, batch, entry)
                else:
                    self._take(connection, batch, entry)
            self._flush(connection, batch)
        # Behind the commit: a transaction that failed has taught nothing.
        self._known.update(batch.known)
        self._forget()

    def _known_in(self, batch: _Batch, call_id: str) -> Known | None:
        return batch.known[call_id] if call_id in batch.known else self._known.get(call_id)

    def _take(self, connection: Connection, batch: _Batch, record: EventRecord) -> None:
        call_id = record["call_id"]
        before = self._known_in(batch, call_id)
        if record["type"] == rows.BEGIN and (before is None or before.is_over):
            before = rows.begun(record)
        elif before is None:
            if call_id in batch.known or call_id in self._known:
                # Deleted while it went on.
                return
            if record["type"] != rows.END:
                # A call that an earlier process has written.
                self._take_afterwards(connection, record)
                return
            # A call that never connected has its end alone.
            before = rows.begun(record)
        late = before.is_over
        known = rows.after(before, record)
        if known.call is None:
            known = self._with_row(connection, known)
        call = known.call
        assert call is not None  # noqa: S101 (for the type checker: a row has been made)
        batch.known[call_id] = known
        batch.events.append(rows.event_row(call, record))
        if turn := rows.turn_row(call, record):
            batch.turns.append(turn)
        if record["type"] == rows.END:
            connection.execute(update(DETAILS).where(DETAILS.c.call == call).values(rows.details_at_end(record)))
        if record["type"] in ("transcript_final", rows.END):
            batch.said.add(call_id)
        if late and (cost := rows.reported_cost(record)) is not None:
            batch.known[call_id] = self._charge(connection, known, call, cost)
        if known.facts is not before.facts:
            batch.changed.add(call_id)

    def _with_row(self, connection: Connection, known: Known) -> Known:
        """Insert a call; an id that is taken already, by a call of another process, gets a number behind it."""
        facts = dict(known.facts)
        wanted, number = str(facts["call_id"]), 1
        taken = select(CALLS.c.id).where(CALLS.c.call_id == bindparam("wanted"))
        while connection.execute(taken, {"wanted": facts["call_id"]}).first() is not None:
            number += 1
            facts["call_id"] = f"{wanted}-{number}"
        call = connection.execute(insert(CALLS).values(facts).returning(CALLS.c.id)).scalar_one()
        connection.execute(insert(DETAILS).values(call=call, custom_params=known.params))
        connection.execute(insert(WORDS).values(call=call, text=rows.words_of(known)))
        return attrs.evolve(known, facts=facts, call=call)

    def _take_afterwards(self, connection: Connection, record: EventRecord) -> None:
        """Write an event about a call that is not remembered: a fact that the carrier reports late."""
        call = _newest(connection, record["call_id"])
        if call is None:
            return
        last = connection.execute(
            select(EVENTS.c.seq).where(EVENTS.c.call == call).order_by(EVENTS.c.seq.desc()).limit(1)
        ).scalar()
        row = rows.event_row(call, record)
        connection.execute(insert(EVENTS).values({**row, "seq": max(record["seq"], (last or 0) + 1)}))
        if (cost := rows.reported_cost(record)) is not None:
            self._charge(connection, None, call, cost)

    def _charge(self, connection: Connection, known: Known | None, call: int, cost: float) -> Known | None:
        """Write what the carrier charges for a call that is over."""
        found = connection.execute(select(DETAILS.c.metrics).where(DETAILS.c.call == call)).scalar()
        if found is None:
            return known
        metrics = rows.with_telephony(rows.from_json(found), cost)
        total = metrics["cost"]["total"]
        connection.execute(update(DETAILS).where(DETAILS.c.call == call).values(metrics=rows.as_json(metrics)))
        connection.execute(update(CALLS).where(CALLS.c.id == call).values(cost_usd=total))
        return None if known is None else attrs.evolve(known, facts={**known.facts, "cost_usd": total})

    def _take_recording(self, connection: Connection, batch: _Batch, entry: RecordingMade) -> None:
        known = self._known_in(batch, entry.call_id)
        if known is not None and known.call is not None and not _is_there(connection, known.call):
            # Deleted by another connection.
            known = batch.known[entry.call_id] = None
        if known is None:
            if entry.call_id in batch.known or entry.call_id in self._known:
                # Deleted while it went on, when it had no recording yet: nothing else would delete the file.
                _delete_file(Path(entry.path))
            elif (call := _newest(connection, entry.call_id)) is not None:
                connection.execute(update(CALLS).where(CALLS.c.id == call).values(recording=rows.clean(entry.path)))
            return
        batch.known[entry.call_id] = attrs.evolve(known, facts={**known.facts, "recording": rows.clean(entry.path)})
        batch.changed.add(entry.call_id)

    def _flush(self, connection: Connection, batch: _Batch) -> None:
        if batch.events:
            connection.execute(insert(EVENTS), batch.events)
        for turn in batch.turns:
            where = (TURNS.c.call == turn["call"]) & (TURNS.c.turn_idx == turn["turn_idx"])
            # Measured again, if the caller's words were corrected.
            if connection.execute(update(TURNS).where(where).values(turn)).rowcount == 0:
                connection.execute(insert(TURNS).values(turn))
        for call_id in batch.changed:
            if (known := batch.known[call_id]) is not None and known.call is not None:
                connection.execute(update(CALLS).where(CALLS.c.id == known.call).values(dict(known.facts)))
        for call_id in batch.said:
            if (known := batch.known[call_id]) is not None and known.call is not None:
                words = rows.words_of(known)
                connection.execute(update(WORDS).where(WORDS.c.call == known.call).values(text=words))
                self._database.dialect.index_words(connection, known.call, words)

    def _forget(self) -> None:
        """Forget the oldest calls that are over, beyond the bound."""
        over = [call_id for call_id, known in self._known.items() if known is None or known.is_over]
        for call_id in over[: max(0, len(over) - MAX_REMEMBERED_CALLS)]:
            del self._known[call_id]

    # Deleting ---------------------------------------------------------------------------------------------------------
    def delete_before(self, unix: float) -> int:
        """Delete up to :data:`DELETED_AT_ONCE` calls that began before a time, with their recordings.

        Return their number; at 0, none is left.

        Raises:
            CallLogError: the database cannot be used.
        """
        with translated(self._database.place):
            return delete_calls(self._opened(), CALLS.c.started_at < unix)

    def delete_lost(self, folder: Path, unix: float) -> int:
        """Delete some of the recordings in a folder from before a time that no call names.

        Return their number; at 0, none is left that can be deleted. A process that was killed, or a log that was lost,
        leaves them.

        Raises:
            CallLogError: the database cannot be used.
        """
        with translated(self._database.place):
            connection = self._opened()
            for some in batched_files(recordings_before(folder, unix)):
                with connection.begin():
                    found = select(CALLS.c.recording).where(
                        CALLS.c.recording.in_([rows.clean(str(one)) for one in some])
                    )
                    named = set(connection.execute(found).scalars())
                lost = [one for one in some if rows.clean(str(one)) not in named]
                # In turns: what waits to be written is written between two. Those that stay do not hide the others.
                if deleted := sum(_delete_file(one) for one in lost):
                    return deleted
        return 0

    def erase(self) -> bool:
        """Overwrite a part of what deleted calls have left in the database; return True if there is more to do.

        Raises:
            CallLogError: the database cannot be used.
        """
        with translated(self._database.place):
            return self._database.dialect.erase(self._opened())


def _newest(connection: Connection, call_id: str) -> int | None:
    found = select(CALLS.c.id).where(CALLS.c.call_id == rows.clean(call_id)).order_by(CALLS.c.id.desc()).limit(1)
    return connection.execute(found).scalar()


def _is_there(connection: Connection, call: int) -> bool:
    return connection.execute(select(CALLS.c.id).where(CALLS.c.id == call)).first() is not None


def delete_calls(connection: Connection, which: Any) -> int:
    """Delete up to :data:`DELETED_AT_ONCE` calls in one transaction, and their recordings; return their number.

    A recording that cannot be deleted is logged, and its call is deleted all the same.
    """
    # Locked, so that no other process gives a call a recording in between; SQLite has locked the whole file already.
    found = select(CALLS.c.id, CALLS.c.recording).where(which).order_by(CALLS.c.id).limit(DELETED_AT_ONCE)
    with connection.begin():
        gone = connection.execute(found.with_for_update()).all()
        # Before the rows, and before their commit: of a process that is killed in between, the next deletion finds the
        # rows again. Without its row, nothing would name a recording any more.
        for row in gone:
            if row.recording:
                _delete_file(Path(row.recording))
        # The other tables follow by their foreign keys.
        connection.execute(delete(CALLS).where(CALLS.c.id.in_([row.id for row in gone])))
    return len(gone)


def _delete_file(path: Path) -> bool:
    try:
        path.unlink(missing_ok=True)
    except OSError as error:
        _log.warning("call log: recording %s of a deleted call stays: %s", path, error)
        return False
    return True
