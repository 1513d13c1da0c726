"""Listening sockets, opened first so that a wrong address or a used port is reported at once, outside any nursery."""

import errno
import socket
from collections.abc import Sequence
from contextlib import AsyncExitStack
from functools import partial
from typing import Final, Never

import trio

from patter_trio.errors import ConfigurationError
from patter_trio.server.connection import http_application, serve_connection
from patter_trio.server.context import ServerContext
from patter_trio.server.http import load_hypercorn
from patter_trio.server.unproven import UnprovenConnections

# As trio's own: the descriptor of a connection that ends meanwhile is enough for the next one.
SHORTAGE_PAUSE_S: Final = 0.1
"""Seconds for which nothing is accepted after the system had no descriptor or memory for a connection."""
# What accept(2) returns for a lack of resources.
_SHORTAGES: Final = (errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.ENOBUFS)
# The largest number of 16 bits.
MAX_PORT: Final = 65535
_EVERY_IPV4_ADDRESS: Final = "0.0.0.0"  # noqa: S104 (only where the operator asked for every address)
# The ways to write the unspecified address of IPv6 that people use.
_EVERY_ADDRESS: Final = ("::", "0::0", "0:0:0:0:0:0:0:0")


def check_port(port: object) -> None:
    """Check a port before anything is opened.

    Raises:
        ConfigurationError: ``port`` is not a whole number from 0 to :data:`MAX_PORT`.
    """
    # A bool is an int to Python, and most often a misplaced argument. getaddrinfo would take the port modulo 65536.
    if isinstance(port, bool) or not isinstance(port, int) or not 0 <= port <= MAX_PORT:
        raise ConfigurationError(f"port must be a whole number from 0 to {MAX_PORT}, got {port!r}")


async def open_listeners(host: str, port: int) -> list[trio.SocketListener]:
    """Open listening sockets on every address of ``host``; for port 0 the system chooses a free port.

    ``::`` means every address of both kinds, IPv6 and IPv4, as on other servers.

    Raises:
        ConfigurationError: a socket cannot be opened; the message names host, port and reason.
    """
    check_port(port)
    try:
        # On every address of the name: "localhost" is two, and a carrier's tunnel may use either.
        async with AsyncExitStack() as opened:
            listeners = await trio.open_tcp_listeners(port, host=host)
            for listener in listeners:
                opened.push_async_callback(listener.aclose)
            if host in _EVERY_ADDRESS:
                # trio limits a socket of IPv6 to IPv6, so the other kind needs one of its own, on the same port.
                listeners += await trio.open_tcp_listeners(listening_address(listeners)[1], host=_EVERY_IPV4_ADDRESS)
            # All are open: the caller closes them from here on.
            opened.pop_all()
            return listeners
    # Before ``OSError``, its base class: a wrong name is a different mistake than a used port.
    except socket.gaierror as error:
        raise ConfigurationError(f"host must be an address or a known name, got {host!r}: {error.strerror}") from error
    # Translated, because it is most often a mistake of the operator, who gets one line instead of a traceback.
    except OSError as error:
        raise ConfigurationError(_explain(host, port, error)) from error


# Three common mistakes get a remedy, all others the system's own words.
def _explain(host: str, port: int, error: OSError) -> str:
    if error.errno == errno.EADDRINUSE:
        return f"port {port} on {host} is in use: stop the program that uses it, or choose another port"
    if error.errno == errno.EACCES:
        return f"port {port} on {host} is not permitted for this user: choose a port from 1024 up"
    if error.errno == errno.EADDRNOTAVAIL:
        return f"host must be an address of this machine, got {host}"
    return f"port {port} on {host} cannot be opened: {error.strerror}"


def listening_address(listeners: Sequence[trio.SocketListener]) -> tuple[str, int]:
    """Return host and port of the first listener."""
    host, port = listeners[0].socket.getsockname()[:2]
    return host, port


async def serve_listeners(
    context: ServerContext,
    listeners: list[trio.SocketListener],
    *,
    task_status: trio.TaskStatus[list[trio.SocketListener]] = trio.TASK_STATUS_IGNORED,
) -> Never:
    """Serve each connection in its own task, until cancelled; then close the listeners.

    If file descriptors or memory run out, the oldest connections that have not authenticated are closed, one every
    0.1 s, and the log has one line a minute about it.
    """
    # Now, while no call is live whose audio it could delay.
    load_hypercorn()
    application = http_application(context)
    patient = [PatientListener(listener, context.unproven) for listener in listeners]
    # Connections wait in the system's queue from the opening of the sockets on.
    task_status.started(listeners)
    # One for all connections: its routes are compiled once.
    await trio.serve_listeners(partial(serve_connection, context, application=application), patient)


class PatientListener(trio.abc.Listener[trio.SocketStream]):
    """A listener that waits while the process is out of file descriptors or memory.

    Args:
        listener: the listening socket.
        unproven: the connections that make room.
    """

    def __init__(self, listener: trio.abc.Listener[trio.SocketStream], unproven: UnprovenConnections) -> None:
        self._listener = listener
        self._unproven = unproven

    async def accept(self) -> trio.SocketStream:
        """Return the next connection."""
        while True:
            try:
                return await self._listener.accept()
            except OSError as error:
                if error.errno not in _SHORTAGES:
                    raise
                self._unproven.warn(f"no connection can be accepted ({error.strerror})")
                self._unproven.close_oldest()
            # Behind the ``except``: while it sleeps, the error and what it refers to are gone.
            await trio.sleep(SHORTAGE_PAUSE_S)

    async def aclose(self) -> None:
        """Close the listening socket."""
        await self._listener.aclose()
