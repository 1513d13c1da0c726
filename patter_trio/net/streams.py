"""Streams: the way to close one that is being set up, and the way to read one that is read all the time."""

import errno
import os
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from functools import partial
from ssl import SSLContext

import trio


@asynccontextmanager
async def closed_on_failure(stream: trio.abc.Stream) -> AsyncIterator[None]:
    """Close a stream by force if the block fails or is cancelled."""
    try:
        yield
    # Also for ``Cancelled``: a stream that nobody has seen must be closed here. By force: there is nobody to wait for.
    except BaseException:
        await trio.aclose_forcefully(stream)
        raise


async def start_tls(stream: trio.abc.Stream, context: SSLContext, host: str) -> trio.abc.Stream:
    """Return the TLS stream to ``host`` over a stream, after its handshake; a failed handshake closes the stream.

    Raises:
        BrokenResourceError: the handshake failed.
    """
    # ``https_compatible``: many servers close TCP without TLS's close_notify, and waiting for it would delay every end.
    encrypted = trio.SSLStream(stream, context, server_hostname=host, https_compatible=True)
    async with closed_on_failure(encrypted):
        await encrypted.do_handshake()
    return encrypted


def receiver_of(stream: trio.abc.ReceiveStream) -> Callable[[int], Awaitable[bytes | bytearray]]:
    """Return what :meth:`trio.abc.ReceiveStream.receive_some` does, for a reader that mostly waits for the peer."""
    # On Windows, os.read() takes no sockets.
    if isinstance(stream, trio.SocketStream) and sys.platform != "win32":
        return partial(_receive_when_ready, stream.socket)
    return stream.receive_some


# trio tries to read before it waits. For a call's reader, which is always faster than its carrier, that is a system
# call and an exception in vain, fifty times a second. Measured: 7.8 microseconds for a frame instead of 15.6
# (benchmarks/frame_path.py, "kernel and event loop").
async def _receive_when_ready(socket: trio.socket.SocketType, max_bytes: int) -> bytes:
    while True:
        try:
            if socket.fileno() < 0:
                raise trio.ClosedResourceError("the socket must be open to be read")
            # Every call waits, and so is a checkpoint. It raises ClosedResourceError if the socket is closed meanwhile.
            await trio.lowlevel.wait_readable(socket)
            return os.read(socket.fileno(), max_bytes)
        except BlockingIOError:
            # A wake-up without data, which a kernel may give.
            continue
        except OSError as error:
            # As trio's own streams translate them.
            if error.errno in (errno.EBADF, errno.ENOTSOCK):
                raise trio.ClosedResourceError("the socket was closed") from None
            raise trio.BrokenResourceError(f"the socket's connection broke: {error}") from error
