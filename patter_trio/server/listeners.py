"""Listening sockets: opened before anything else, so that a mistake is known at once and bare."""

import errno
import socket
from collections.abc import Sequence
from functools import partial
from typing import Final, Never

import trio

from patter_trio.errors import ConfigurationError
from patter_trio.server.connection import serve_connection
from patter_trio.server.context import ServerContext
from patter_trio.server.http import load_hypercorn

LAST_PORT: Final = 65535


async def open_listeners(host: str, port: int) -> list[trio.SocketListener]:
    """Open listening sockets on every address of ``host``; port 0 is one that the system chooses.

    Raises:
        ConfigurationError: they cannot be had; the message says which and why.
    """
    if not 0 <= port <= LAST_PORT:  # getaddrinfo would take it modulo 65536
        raise ConfigurationError(f"port {port} is not between 0 and {LAST_PORT}")
    try:
        return await trio.open_tcp_listeners(port, host=host)
    except socket.gaierror as error:
        raise ConfigurationError(f"host {host!r} is unknown: {error.strerror}") from error
    except OSError as error:
        raise ConfigurationError(_explain(host, port, error)) from error


def _explain(host: str, port: int, error: OSError) -> str:
    if error.errno == errno.EADDRINUSE:
        return f"port {port} on {host} is in use: stop what uses it, or take another port"
    if error.errno == errno.EACCES:
        return f"port {port} on {host} is not permitted to this user: take one from 1024 up"
    if error.errno == errno.EADDRNOTAVAIL:
        return f"{host} is no address of this machine"
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
    """Serve every connection that comes, each in a task of its own, until cancelled; the listeners are closed then.

    When descriptors or memory run out, accepting pauses for 0.1 s at a time and goes on.
    """
    load_hypercorn()
    await trio.serve_listeners(partial(serve_connection, context), listeners, task_status=task_status)
