"""PostgreSQL: a server, and an index of terms for the full text search."""

from typing import Any, Final

from sqlalchemy import URL, Connection, Engine, NullPool, Select, create_engine, text

from patter_trio.call_log.schema import CALLS
from patter_trio.call_log.words import Phrase

# Judged: a server nearby answers within milliseconds; one that does not is away.
CONNECT_TIMEOUT_S: Final = 5
"""Seconds for a connection."""
STATEMENT_TIMEOUT_S: Final = 15
"""Seconds for one statement."""
# postgresql.org/docs/15/textsearch-limitations.html: a position is at most 16,383, and a vector less than a megabyte.
MAX_POSITION: Final = 16_383
"""Largest position of a term; further terms are found, but not within phrases."""
MAX_VECTOR_CHARACTERS: Final = 250_000
"""Longest text of words that is searchable; the rest of a longer one is not."""
_LOCK: Final = 0x70617474
"""The number of the lock under which tables are changed: any, but the same in each process."""


class PostgreSQL:
    """The dialect of PostgreSQL."""

    def __repr__(self) -> str:
        return "<PostgreSQL>"

    def engine(self, url: URL, *, writes: bool) -> Engine:
        """Return an engine without a pool."""
        del writes
        options = f"-c statement_timeout={STATEMENT_TIMEOUT_S}s -c lock_timeout={CONNECT_TIMEOUT_S}s"
        return create_engine(
            url,
            poolclass=NullPool,
            connect_args={
                "connect_timeout": CONNECT_TIMEOUT_S,
                "options": options,
                # A server that is gone without a word is noticed within half a minute.
                "keepalives_idle": 10,
                "keepalives_interval": 5,
                "keepalives_count": 3,
                "application_name": "patter_trio",
            },
        )

    def identity(self, url: URL) -> object:
        """Return the URL: a server keeps its database."""
        return url

    def is_same(self, url: URL, opened: object) -> bool:
        """Return True: a server keeps its database."""
        del url, opened
        return True

    def lock(self, connection: Connection) -> None:
        """Wait for another process that changes the tables."""
        connection.execute(text("SELECT pg_advisory_xact_lock(:lock)").bindparams(lock=_LOCK))

    def create_search(self, connection: Connection) -> None:
        """Make the column of terms and its index."""
        connection.execute(text("ALTER TABLE patter_words ADD COLUMN terms tsvector"))
        connection.execute(text("CREATE INDEX patter_words_terms ON patter_words USING gin (terms)"))

    def index_words(self, connection: Connection, call: int, words: str) -> None:
        """Write the terms of a call, with their positions."""
        # Written by us and not by to_tsvector(): its parser has ideas of its own about what a word is.
        terms = words[:MAX_VECTOR_CHARACTERS].split()
        vector = " ".join(f"'{term}':{min(place, MAX_POSITION)}" for place, term in enumerate(terms, 1))
        connection.execute(
            text("UPDATE patter_words SET terms = CAST(:vector AS tsvector) WHERE call = :call").bindparams(
                vector=vector, call=call
            )
        )

    def erase(self, connection: Connection) -> bool:
        """Return False: the server overwrites deleted rows by VACUUM, which it runs by itself."""
        del connection
        return False

    def order(self, *, matching: bool) -> Any:
        """Return the number of a call."""
        del matching
        return CALLS.c.id

    def matching(self, calls: Select[Any], phrases: list[Phrase]) -> Select[Any]:
        """Return a selection of the calls in whose words all phrases occur."""
        query = " & ".join(f"({' <-> '.join(_lexemes(phrase))})" for phrase in phrases)
        found = text("patter_words.call = patter_calls.id AND patter_words.terms @@ CAST(:words AS tsquery)")
        return calls.select_from(CALLS).join(text("patter_words"), found.bindparams(words=query))


def _lexemes(phrase: Phrase) -> list[str]:
    *first, last = phrase.terms
    return [*(f"'{term}'" for term in first), f"'{last}'{':*' if phrase.is_prefix else ''}"]
