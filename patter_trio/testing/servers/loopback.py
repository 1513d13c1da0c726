"""Helpers that the fake vendors share: a port on loopback, and the requests that arrive there."""

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Final

import h11
import trio

# More than any head that the package sends; a test that sends more gets the beginning.
READ_BYTES: Final = 65536
"""Bytes that are read at once, and the maximum size of a request's head."""


@asynccontextmanager
async def on_loopback(handle: Callable[[trio.abc.Stream], Awaitable[object]]) -> AsyncIterator[int]:
    """Serve on a free port while the block runs, and yield the port; the end of the block breaks all connections."""
    # By address: "localhost" may stand for two addresses, and a name is looked up in a thread, which
    # would hold a mock clock. The kernel passes data on over loopback before the send returns, so a clock
    # that jumps finds it waiting and stays.
    [listener] = await trio.open_tcp_listeners(0, host="127.0.0.1")
    async with trio.open_nursery() as nursery:
        nursery.start_soon(trio.serve_listeners, handle, [listener])
        try:
            yield listener.socket.getsockname()[1]
        finally:
            # Also when the block fails: its error must not wait for connections that clients keep open.
            nursery.cancel_scope.cancel(reason="the server closes")


async def read_head(stream: trio.abc.Stream) -> bytes:
    """Return the data up to the end of a request's head and what came with it; empty if the client leaves first."""
    head = b""
    # A head may come in any number of segments; what follows it in the last one belongs to the caller.
    while b"\r\n\r\n" not in head and len(head) < READ_BYTES:
        data = await stream.receive_some(READ_BYTES)
        if not data:
            return b""
        head += data
    return head


async def read_request(http: h11.Connection, stream: trio.abc.Stream) -> tuple[h11.Request, bytes] | None:
    """Return the next request and its body, or None if the client sends no more."""
    head: h11.Request | None = None
    body = bytearray()
    while True:
        event = http.next_event()
        if event is h11.NEED_DATA:
            http.receive_data(bytes(await stream.receive_some(READ_BYTES)))
        elif isinstance(event, h11.Request):
            head = event
        elif isinstance(event, h11.Data):
            body += event.data
        elif isinstance(event, h11.EndOfMessage) and head is not None:
            return head, bytes(body)
        # The client closed, or sent bytes that h11 is not to read yet: in either case no request follows.
        else:
            return None
