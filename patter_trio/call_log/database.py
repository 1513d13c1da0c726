"""A database of calls at one place: its engines, and the translation of what its driver raises."""

import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

from sqlalchemy import URL, Connection, Engine, make_url
from sqlalchemy.exc import ArgumentError, DataError, DBAPIError, IntegrityError, SQLAlchemyError, StatementError

from patter_trio.call_log.dialects import Dialect
from patter_trio.call_log.dialects.postgresql import PostgreSQL
from patter_trio.call_log.dialects.sqlite import SQLite
from patter_trio.call_log.migrations import found_version
from patter_trio.errors import CallLogError, ConfigurationError, reported
from patter_trio.logs import one_line, shown_url

_DIALECTS: Final[dict[str, type[Dialect]]] = {"sqlite": SQLite, "postgresql": PostgreSQL}


class Database:
    """The database of a call log; its methods run in threads.

    Args:
        url: the place, as SQLAlchemy takes it.

    Raises:
        ConfigurationError: it is not a URL of a database.
    """

    def __init__(self, url: str) -> None:
        try:
            self.url: URL = make_url(url)
        except (ArgumentError, ValueError):
            # Without the URL, which may have a password.
            raise ConfigurationError(f"the place of a call log must be a path or a URL, got {shown_url(url)}") from None
        self.dialect: Dialect = _DIALECTS[self.url.get_backend_name()]()
        self.place: str = self.url.database or "" if self.is_file else shown_url(url)
        """The place as logs and errors show it."""
        self._reading: Engine | None = None

    def __repr__(self) -> str:
        return f"<Database {self.place}>"

    @property
    def is_file(self) -> bool:
        """True if the database is a file."""
        return self.url.get_backend_name() == "sqlite"

    def writing_engine(self) -> Engine:
        """Return a new engine for the writer."""
        return self.dialect.engine(self.url, writes=True)

    @contextmanager
    def reading(self, *, writes: bool = False) -> Iterator[Connection]:
        """Open a connection for one transaction, after a look at the version of the tables.

        Raises:
            CallLogError: the database cannot be read, nothing was logged yet, or the log is of a newer version.
        """
        with translated(self.place):
            # A race of two threads makes two engines, which hold nothing.
            if self._reading is None:
                self._reading = self.dialect.engine(self.url, writes=False)
            engine = self.writing_engine() if writes else self._reading
            with engine.connect() as connection, connection.begin():
                try:
                    found = found_version(connection)
                except ConfigurationError as error:
                    raise CallLogError(f"call log {self.place}: {error}") from error
                if found == 0:
                    raise CallLogError(f"call log {self.place}: it has no calls yet")
                yield connection


@contextmanager
def translated(place: str) -> Iterator[None]:
    """Translate what the driver of a database raises.

    Raises:
        CallLogError: the database cannot be used.
    """
    try:
        yield
    except (SQLAlchemyError, sqlite3.Error, OSError) as error:
        raise CallLogError(f"call log {place}: {described(error)}") from error


def is_about_a_row(error: BaseException) -> bool:
    """Return True if the error is one of what was written, and not of the database."""
    # StatementError without an error of the driver: a value that cannot be bound.
    bare = isinstance(error, StatementError) and not isinstance(error, DBAPIError)
    return bare or isinstance(error, IntegrityError | DataError)


def described(error: BaseException) -> str:
    """Return an error of a database in one line, without the statement and its values."""
    original = error.orig if isinstance(error, DBAPIError) and error.orig is not None else error
    # Only the first line: what comes behind may quote values of the row.
    return one_line(reported(str(original).partition("\n")[0]) or type(original).__name__)
