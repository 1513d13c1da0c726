"""The tables of the call log, the same in each database.

``CALLS`` is narrow, because lists and filters read all of it; what only one call's page needs is in ``DETAILS``.
Times are Unix times in seconds, and JSON is text, so that both databases store the same values. The
names begin with ``patter_``, because the database may be an application's own.
"""

from typing import Final

from sqlalchemy import (
    BigInteger,
    Column,
    Double,
    ForeignKey,
    Index,
    Integer,
    MetaData,
    SmallInteger,
    Table,
    Text,
)

SCHEMA_VERSION: Final = 1
"""The version of these tables; ``migrations.py`` leads to it from each older one."""

METADATA: Final = MetaData()

# A number of 64 bits in both; SQLite counts up only an INTEGER.
_Id = BigInteger().with_variant(Integer, "sqlite")


def _call() -> Column[int]:
    return Column("call", _Id, ForeignKey("patter_calls.id", ondelete="CASCADE"), primary_key=True, autoincrement=False)


VERSIONS: Final = Table("patter_version", METADATA, Column("version", Integer, nullable=False))

CALLS: Final = Table(
    "patter_calls",
    METADATA,
    # Ascending in the order in which calls begin: lists and cursors go by it.
    Column("id", _Id, primary_key=True),
    Column("call_id", Text, nullable=False, unique=True),
    Column("direction", Text, nullable=False),
    Column("caller", Text, nullable=False, default=""),
    Column("callee", Text, nullable=False, default=""),
    Column("provider", Text, nullable=False, default=""),
    Column("started_at", Double, nullable=False),
    # Since 1970, in UTC: figures by day need no function that one of the databases lacks.
    Column("day", Integer, nullable=False),
    Column("ended_at", Double),
    Column("duration_s", Double, nullable=False, default=0.0),
    Column("turns", Integer, nullable=False, default=0),
    Column("answer_p50_ms", Double),
    Column("outcome", Text, nullable=False, default=""),
    Column("cost_usd", Double),
    Column("first_words", Text, nullable=False, default=""),
    Column("recording", Text, nullable=False, default=""),
    Index("patter_calls_started_at", "started_at"),
    # Ids of deleted calls do not come again: a cursor would show other calls.
    sqlite_autoincrement=True,
)

DETAILS: Final = Table(
    "patter_call_details",
    METADATA,
    _call(),
    Column("custom_params", Text, nullable=False, default="{}"),
    Column("transcript", Text),
    Column("metrics", Text),
    Column("tool_calls", Text),
    Column("error", Text, nullable=False, default=""),
)

EVENTS: Final = Table(
    "patter_events",
    METADATA,
    _call(),
    Column("seq", _Id, primary_key=True, autoincrement=False),
    Column("type", Text, nullable=False),
    Column("at_ms", Double, nullable=False),
    Column("time", Text, nullable=False),
    Column("data", Text, nullable=False),
    # The rows of one call lie together: its page reads them at once.
    sqlite_with_rowid=False,
)

TURNS: Final = Table(
    "patter_turns",
    METADATA,
    _call(),
    Column("turn_idx", Integer, primary_key=True, autoincrement=False),
    Column("at", Double, nullable=False),
    Column("day", Integer, nullable=False),
    Column("total_ms", Double),
    Column("interrupted", SmallInteger, nullable=False),
    Column("failed", SmallInteger, nullable=False),
    # All that the percentiles by day read, in the order in which they need it.
    Index("patter_turns_day", "interrupted", "day", "total_ms", "at"),
    sqlite_with_rowid=False,
)

WORDS: Final = Table("patter_words", METADATA, _call(), Column("text", Text, nullable=False))
"""All words of a call as the full text search has them (``words.py``)."""
