"""SQLite: one file, with a write-ahead log, and FTS5 for the full text search."""

import os
import sqlite3
from pathlib import Path
from typing import Any, Final

from sqlalchemy import URL, Connection, Engine, NullPool, Select, create_engine, event, literal_column, text

from patter_trio.call_log.schema import CALLS
from patter_trio.call_log.words import Phrase

# Judged: longer than a checkpoint of the write-ahead log, or than the deletion of a hundred calls.
LOCK_WAIT_S: Final = 5.0
"""Seconds to wait for another process that writes."""
# Judged: 2 MB, some ten milliseconds.
MERGED_PAGES_AT_ONCE: Final = 500
"""Pages of the index that are written in one transaction while it is merged."""
# Marks are parts of terms (words.py), and nothing is folded a second time.
_TOKENS: Final = "unicode61 remove_diacritics 0 categories 'L* N* M* Co'"
_ADD: Final = "INSERT INTO patter_search(rowid, text) VALUES (new.call, new.text);"
_REMOVE: Final = "INSERT INTO patter_search(patter_search, rowid, text) VALUES ('delete', old.call, old.text);"
_SEARCH: Final = (
    "CREATE VIRTUAL TABLE patter_search USING fts5("  # noqa: ISC004 (one statement)
    f'text, content="patter_words", content_rowid="call", tokenize="{_TOKENS}")',
    f"CREATE TRIGGER patter_words_added AFTER INSERT ON patter_words BEGIN {_ADD} END",
    f"CREATE TRIGGER patter_words_removed AFTER DELETE ON patter_words BEGIN {_REMOVE} END",
    f"CREATE TRIGGER patter_words_changed AFTER UPDATE ON patter_words BEGIN {_REMOVE} {_ADD} END",
)
"""The index, and triggers that keep it up to date."""


class SQLite:
    """The dialect of SQLite."""

    def __repr__(self) -> str:
        return "<SQLite>"

    def engine(self, url: URL, *, writes: bool) -> Engine:
        """Return an engine without a pool; the file and its folder are made for the owner alone."""
        path = Path(url.database or "")

        def connect() -> sqlite3.Connection:
            if writes:
                path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
                # Made here and not by SQLite: it holds what people said.
                os.close(os.open(path, os.O_RDWR | os.O_CREAT, 0o600))
            elif not path.is_file():
                raise sqlite3.OperationalError(f"the file {path} does not exist")
            # Opened in one thread and used in others, one at a time. Transactions are begun below.
            connection = sqlite3.connect(path, timeout=LOCK_WAIT_S, check_same_thread=False, isolation_level=None)
            try:
                _configure(connection, writes=writes)
            except BaseException:
                connection.close()
                raise
            return connection

        engine = create_engine(url, creator=connect, poolclass=NullPool)

        @event.listens_for(engine, "begin")
        def begin(connection: Connection) -> None:
            # Immediate, because a transaction that only reads at first cannot wait for another one that writes.
            connection.exec_driver_sql("BEGIN IMMEDIATE" if writes else "BEGIN")

        return engine

    def identity(self, url: URL) -> object:
        """Return device and inode of the file."""
        try:
            found = Path(url.database or "").stat()
        except OSError:
            return None
        return found.st_dev, found.st_ino

    def is_same(self, url: URL, opened: object) -> bool:
        """Return False if the file was moved away, deleted or replaced."""
        return self.identity(url) == opened

    def lock(self, connection: Connection) -> None:
        """Do nothing: the transaction has the lock."""

    def create_search(self, connection: Connection) -> None:
        """Make the index, and triggers that keep it up to date."""
        for statement in _SEARCH:
            connection.exec_driver_sql(statement)

    def index_words(self, connection: Connection, call: int, words: str) -> None:
        """Do nothing: the triggers have done it."""

    def erase(self, connection: Connection) -> bool:
        """Merge a part of the index; at its end, empty the write-ahead log and return False."""
        with connection.begin():
            before = connection.exec_driver_sql("SELECT total_changes()").scalar_one()
            # The index only marks terms as deleted; a merge into its oldest part drops them. All parts (below 0), some
            # pages at a time, so that calls are written in between. Its option secure-delete would need SQLite 3.42,
            # and make files that older versions cannot read.
            connection.exec_driver_sql(
                "INSERT INTO patter_search(patter_search, rank) VALUES ('merge', ?)", (-MERGED_PAGES_AT_ONCE,)
            )
            changes = connection.exec_driver_sql("SELECT total_changes()").scalar_one() - before
        # sqlite.org/fts5.html: of a merge that had nothing to do, the INSERT itself is the only change.
        if changes > 1:
            return True
        # The log keeps pages as they were until it is written again from its begin. Waits for readers, as others do.
        driver = connection.connection.driver_connection
        assert driver is not None  # noqa: S101 (for the type checker: the connection is open)
        driver.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
        return False

    def order(self, *, matching: bool) -> Any:
        """Return the number of a call: for words the one in the index, which SQLite then reads from its end."""
        return literal_column("patter_search.rowid") if matching else CALLS.c.id

    def matching(self, calls: Select[Any], phrases: list[Phrase]) -> Select[Any]:
        """Return a selection of the calls in whose words all phrases occur, read in the order of the index."""
        query = " AND ".join(f'"{" ".join(phrase.terms)}"{" *" if phrase.is_prefix else ""}' for phrase in phrases)
        # By the rowid of the index, so that a page of a frequent word reads only its own calls.
        found = text("patter_search MATCH :words AND patter_search.rowid = patter_calls.id").bindparams(words=query)
        return calls.select_from(CALLS).join(text("patter_search"), found)


def _configure(connection: sqlite3.Connection, *, writes: bool) -> None:
    connection.execute("PRAGMA foreign_keys = ON")
    if writes:
        # Readers and the writer do not wait for each other. A killed process loses no transaction; a machine without
        # power may lose the last ones.
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute("PRAGMA synchronous = NORMAL")
        # What is deleted is overwritten.
        connection.execute("PRAGMA secure_delete = ON")
