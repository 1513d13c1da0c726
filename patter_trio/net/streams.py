"""Streams that are being set up: if that fails, they are closed, because nobody else has them yet."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
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
