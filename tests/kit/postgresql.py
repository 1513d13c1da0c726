"""A PostgreSQL server for tests: Debian's, on loopback, in a folder of its own, one for each process of the tests."""

import os
import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.kit.programs import free_port

# Judged: a busy machine; it takes about 2 s otherwise.
START_TIMEOUT_S = 60
DEBIAN = Path("/usr/lib/postgresql")
ACCOUNT = "postgres"
"""The account that Debian's package makes; the server refuses to run as root."""


def programs() -> Path | None:
    """Return the folder with initdb and pg_ctl, of the newest version; None: there is none."""
    found = sorted(DEBIAN.glob("*/bin/initdb"), key=lambda path: int(path.parts[-3]))
    on_path = shutil.which("initdb")
    return found[-1].parent if found else (Path(on_path).resolve().parent if on_path else None)


def why_absent() -> str:
    """Return why no server can be started here; empty: one can."""
    if programs() is None:
        return "PostgreSQL is not installed (apt-get install postgresql)"
    if os.getuid() == 0 and shutil.which("psql") is None:
        return "PostgreSQL's client is not installed"
    return ""


@contextmanager
def running_server() -> Iterator[str]:
    """Start a server; yield the URL of its databases, to which a name is appended."""
    folder = programs()
    assert folder is not None
    account = {"user": ACCOUNT, "group": ACCOUNT} if os.getuid() == 0 else {}
    port = free_port()
    with tempfile.TemporaryDirectory(prefix="patter-pg-") as place:
        if account:
            shutil.chown(place, ACCOUNT, ACCOUNT)
        data = f"{place}/data"

        def run(*command: str) -> None:
            # The output goes into a file: the server, which inherits it, would keep a pipe open.
            with Path(place, "output").open("ab") as output:
                subprocess.run(  # noqa: S603 (Debian's programs, with arguments of ours)
                    [str(folder / command[0]), *command[1:]],
                    check=True,
                    stdout=output,
                    stderr=output,
                    timeout=START_TIMEOUT_S,
                    cwd=place,
                    **account,
                )

        run("initdb", "-D", data, "-U", "patter", "--auth=trust", "--encoding=UTF8", "--locale=C", "--no-sync")
        settings = f"-p {port} -c listen_addresses=127.0.0.1 -c unix_socket_directories={place} -c fsync=off"
        run("pg_ctl", "-D", data, "-w", "-o", settings, "-l", f"{place}/log", "start")
        try:
            yield f"postgresql://patter@127.0.0.1:{port}"
        finally:
            run("pg_ctl", "-D", data, "-w", "-m", "immediate", "stop")


def new_database(server: str) -> str:
    """Make a database; return its URL."""
    import psycopg  # noqa: PLC0415 (an extra: the tests without it are skipped)

    name = f"log_{os.getpid()}_{time.monotonic_ns()}"
    with psycopg.connect(f"{server}/postgres", autocommit=True) as connection:
        connection.execute(f"CREATE DATABASE {name}")
    return f"{server}/{name}"
