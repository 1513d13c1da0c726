"""Tunnels: programs that give a server on this machine a public URL, run beside it and stopped with it.

* cloudflared, quick tunnels: it logs a box with the URL, and "Registered tunnel connection" once the URL leads here.
  https://developers.cloudflare.com/cloudflare-one/connections/connect-networks/do-more-with-tunnels/trycloudflare/
* ngrok: it logs JSON, with ``msg`` "started tunnel" and ``url``. https://ngrok.com/docs/agent/cli/

A tunnel that runs elsewhere, with a hostname of its own, needs no program here: its hostname is enough.
"""

import json
import logging
import re
import shutil
import subprocess
from collections import deque
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from functools import partial
from typing import Any, Final

import attrs
import trio

from patter_trio.errors import ConfigurationError, PatterConnectionError, did_you_mean, reported
from patter_trio.net.tasks import open_side_tasks
from patter_trio.server.context import checked_public_url

# Judged: a tunnel takes 3 to 10 s, more over a slow line.
START_TIMEOUT_S: Final = 30.0
"""Seconds until a tunnel must have its URL, and lead here."""
# Judged: both programs end within a second. It adds to the end of a server.
STOP_TIMEOUT_S: Final = 3.0
"""Seconds between SIGTERM and SIGKILL."""
# Judged: the reason of a failure is in the last lines.
KEPT_LINES: Final = 5
"""Number of lines of a tunnel's output that an error quotes."""
# Judged: room for a line of JSON with a stack trace. A longer line does not have the URL.
MAX_LINE_BYTES: Final = 65536
EVERY_ADDRESS: Final = {"0.0.0.0": "127.0.0.1", "::": "::1"}  # noqa: S104 (compared with, not listened on)

_QUICK_URL: Final = re.compile(r"https://[a-z0-9-]+\.trycloudflare\.com\b")
_INSTALL: Final = (
    "a tunnel needs a program: install cloudflared (no account needed; "
    "https://developers.cloudflare.com/tunnel/downloads/) or ngrok (https://ngrok.com/download), so that it is on "
    "PATH; or give the address of a proxy or tunnel that runs already: webhook_url=, or --url"
)
_log = logging.getLogger("patter_trio.server")

Tunnel = str | bool | None
"""A tunnel that is asked for: ``"cloudflared"``, ``"ngrok"``, True for whichever is on PATH, the hostname or URL of a
tunnel that runs already, or None."""


@attrs.define
class _Cloudflared:
    """The reader of cloudflared's log."""

    url: str = ""

    def read(self, line: str) -> str:
        """Return the URL once it leads here."""
        # The service's own host is in other lines: api.trycloudflare.com.
        found = [url for url in _QUICK_URL.findall(line) if url != "https://api.trycloudflare.com"]
        if found:
            self.url = found[0]
        return self.url if "Registered tunnel connection" in line else ""


class _Ngrok:
    """The reader of ngrok's log."""

    def read(self, line: str) -> str:
        """Return the URL once it leads here."""
        try:
            entry = json.loads(line)
        # Before its log begins, and for some errors, ngrok prints text.
        except (ValueError, RecursionError):
            return ""
        if not isinstance(entry, dict) or entry.get("msg") != "started tunnel":
            return ""
        return str(entry.get("url", ""))


@attrs.frozen
class _Program:
    """A program that makes tunnels: its arguments for the URL of our server, and the reader of its log."""

    name: str
    arguments: Callable[[str], list[str]]
    reader: Callable[[], _Cloudflared | _Ngrok]


PROGRAMS: Final = {
    program.name: program
    for program in (
        _Program("cloudflared", lambda url: ["tunnel", "--no-autoupdate", "--url", url], _Cloudflared),
        _Program("ngrok", lambda url: ["http", url, "--log", "stdout", "--log-format", "json"], _Ngrok),
    )
}
"""The programs, in the order in which they are looked for: cloudflared's quick tunnels need no account."""


def checked_tunnel(tunnel: object) -> Tunnel:
    """Return what is given as a tunnel.

    Raises:
        ConfigurationError: it is not a tunnel.
    """
    if tunnel is None or isinstance(tunnel, bool):
        return tunnel
    if not isinstance(tunnel, str):
        raise ConfigurationError(
            f"tunnel must be 'cloudflared', 'ngrok', True for either, or a hostname, got {type(tunnel).__name__}"
        )
    if tunnel:
        static_url(tunnel)
    return tunnel


def check_installed(tunnel: Tunnel) -> None:
    """Check that a tunnel's program is there.

    Raises:
        ConfigurationError: it is not on PATH.
    """
    if tunnel and static_url(tunnel) is None:
        _found(tunnel)


def static_url(tunnel: Tunnel) -> str | None:
    """Return the URL of a tunnel that runs already; None for one that is to be started.

    Raises:
        ConfigurationError: the text names neither a program nor a host.
    """
    if not isinstance(tunnel, str) or tunnel in PROGRAMS:
        return None
    if "." not in tunnel and "://" not in tunnel:
        hint = did_you_mean(tunnel, PROGRAMS)
        raise ConfigurationError(f"tunnel must be {' or '.join(PROGRAMS)}, or a hostname, got {tunnel!r}{hint}")
    return checked_public_url(tunnel if "://" in tunnel else f"https://{tunnel}")


@asynccontextmanager
async def open_tunnel(
    tunnel: Tunnel, address: tuple[str, int], *, unless: trio.Event | None = None
) -> AsyncIterator[str]:
    """Open a tunnel to a server on this machine, and yield its public URL; the block's end stops it.

    Args:
        tunnel: see :data:`Tunnel`.
        address: host and port of the server.
        unless: an event after which a tunnel that is not open yet is not wanted any more; the server's own URL is
            yielded instead.

    Raises:
        ConfigurationError: no program for tunnels is on PATH.
        PatterConnectionError: the program ended, or had no URL in time. If it ends later, the block is cancelled, and
            this is raised: callers can no longer reach the server.
    """
    url = static_url(tunnel)
    if url is not None:
        yield url
        return
    program, path = _found(tunnel)
    host, port = address
    host = EVERY_ADDRESS.get(host, host)
    target = f"http://{f'[{host}]' if ':' in host else host}:{port}"
    run = _Run(program.name, program.reader())
    async with open_side_tasks() as nursery:
        with trio.move_on_after(START_TIMEOUT_S) as limit:
            if unless is not None:
                nursery.start_soon(_cancel_after, unless, limit)
            found: str = await nursery.start(run.run, [path, *program.arguments(target)])
        if limit.cancelled_caught and unless is not None and unless.is_set():
            yield target
            return
        if limit.cancelled_caught:
            raise PatterConnectionError(
                f"{program.name} must have a public URL within {START_TIMEOUT_S:g} s{run.last_words()}"
            )
        _log.info("%s: %s leads here", program.name, found)
        yield found


async def _cancel_after(event: trio.Event, scope: trio.CancelScope) -> None:
    await event.wait()
    # Without effect once the tunnel is open: the scope is left.
    scope.cancel(reason="the tunnel is not wanted any more")


def _found(tunnel: Tunnel) -> tuple[_Program, str]:
    """Return the program to run, and its path.

    Raises:
        ConfigurationError: it is not on PATH.
    """
    wanted = [PROGRAMS[tunnel]] if isinstance(tunnel, str) else list(PROGRAMS.values())
    for program in wanted:
        if path := shutil.which(program.name):
            return program, path
    missing = f"{wanted[0].name} is not" if len(wanted) == 1 else "neither cloudflared nor ngrok is"
    raise ConfigurationError(f"{missing} on PATH: {_INSTALL}")


@attrs.define
class _Run:
    """One run of a program: its output, read line by line."""

    name: str
    reader: _Cloudflared | _Ngrok
    lines: deque[str] = attrs.field(factory=lambda: deque(maxlen=KEPT_LINES))

    def last_words(self) -> str:
        """Return the end of the output, for an error."""
        # Keys that a program repeats are masked.
        return "".join(f"; {reported(line)}" for line in self.lines)

    async def run(self, command: list[str], *, task_status: trio.TaskStatus[str]) -> None:
        """Run the program until cancelled; report its URL as started."""
        async with open_side_tasks() as nursery:
            start: Any = partial(
                trio.run_process,
                command,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                check=False,
                # A session of its own: Ctrl-C at the terminal reaches this process alone, whose calls end over the
                # tunnel first.
                start_new_session=True,
                deliver_cancel=_stop,
            )
            try:
                process: trio.Process = await nursery.start(start)
            # A file on PATH that is not a program for this machine.
            except OSError as error:
                raise ConfigurationError(f"{self.name} cannot be started: {error.strerror}") from error
            assert process.stdout is not None  # noqa: S101 (a pipe was asked for)
            await self._read(process.stdout, task_status)
            status = await process.wait()
        raise PatterConnectionError(
            f"{self.name} has ended with status {status}: callers cannot reach this server{self.last_words()}"
        )

    async def _read(self, output: trio.abc.ReceiveStream, task_status: trio.TaskStatus[str]) -> None:
        """Read to the end of the output: a program whose output nobody reads stops when the pipe is full."""
        rest, told = b"", False
        async for data in output:
            *whole, rest = (rest + data).split(b"\n")
            # A line without end must not fill the memory.
            rest = rest[-MAX_LINE_BYTES:]
            for raw in whole:
                line = raw.decode(errors="replace").strip()
                if not line:
                    continue
                self.lines.append(line)
                _log.debug("%s: %s", self.name, reported(line))
                if not told and (url := self.reader.read(line)):
                    told = True
                    task_status.started(checked_public_url(url))
        if rest.strip():
            self.lines.append(rest.decode(errors="replace").strip())


async def _stop(process: trio.Process) -> None:
    """End a program that is no longer wanted; trio shields this, and waits for the process afterwards."""
    process.terminate()
    with trio.move_on_after(STOP_TIMEOUT_S):
        await process.wait()
        return
    process.kill()
