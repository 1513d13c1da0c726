"""Databases for the tests of the call log: SQLite in a folder of the test, and PostgreSQL where it is installed."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.kit.call_logs import OpenLog
from tests.kit.postgresql import new_database, running_server, why_absent


@pytest.fixture(scope="session")
def postgresql_server() -> Iterator[str]:
    pytest.importorskip("psycopg")
    if why := why_absent():
        pytest.skip(why)
    with running_server() as url:
        yield url


@pytest.fixture(params=["sqlite", "postgresql"])
def log_url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """The place of a new log, in each kind of database."""
    if request.param == "sqlite":
        return str(tmp_path / "calls" / "patter.db")
    return new_database(request.getfixturevalue("postgresql_server"))


@pytest.fixture
def log(log_url: str) -> Iterator[OpenLog]:
    """A new log that is open for writing."""
    opened = OpenLog(log_url)
    yield opened
    opened.store.close()
