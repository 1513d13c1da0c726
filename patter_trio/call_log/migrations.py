"""The version of a log's tables: made new, led up from an older version, or refused."""

from collections.abc import Callable, Mapping
from typing import Final

from sqlalchemy import Connection, insert, inspect, select, update

from patter_trio.call_log.dialects import Dialect
from patter_trio.call_log.schema import METADATA, SCHEMA_VERSION, VERSIONS
from patter_trio.errors import ConfigurationError

Migration = Callable[[Connection, Dialect], None]
MIGRATIONS: Final[Mapping[int, Migration]] = {}
"""The step to each version from the one before it. A new database is made with the newest tables at once."""


def migrate(
    connection: Connection,
    dialect: Dialect,
    *,
    version: int = SCHEMA_VERSION,
    steps: Mapping[int, Migration] = MIGRATIONS,
) -> None:
    """Make the tables, or lead them up to ``version``, within the transaction of the connection.

    Raises:
        ConfigurationError: the log was written by a newer version of this package, or has lost its version.
    """
    dialect.lock(connection)
    found = found_version(connection, newest=version)
    if found == 0:
        METADATA.create_all(connection)
        dialect.create_search(connection)
        connection.execute(insert(VERSIONS).values(version=version))
        return
    for number in range(found + 1, version + 1):
        steps[number](connection, dialect)
        connection.execute(update(VERSIONS).values(version=number))


def found_version(connection: Connection, *, newest: int = SCHEMA_VERSION) -> int:
    """Return the version of the tables; 0: the database has no tables of ours.

    Raises:
        ConfigurationError: as for :func:`migrate`.
    """
    if not inspect(connection).has_table(VERSIONS.name):
        return 0
    found = connection.execute(select(VERSIONS.c.version)).scalar()
    if not isinstance(found, int):
        raise ConfigurationError("the call log has lost its version; give persist= another place")
    if found > newest:
        raise ConfigurationError(
            f"the call log has version {found}, and this version of patter_trio knows versions up to {newest}: update "
            f"patter_trio, or give persist= another place; nothing was changed"
        )
    return found
