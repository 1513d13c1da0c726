"""A front with TLS before a server on loopback, as a proxy is in production; it can be set up wrongly."""

import shutil
import ssl
import subprocess
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from functools import partial
from pathlib import Path

import trio

from patter_trio.testing.servers.loopback import on_loopback, read_head

OPENSSL = shutil.which("openssl")
"""The program that makes certificates; None: it is not here."""
BAD_GATEWAY = b"HTTP/1.1 502 Bad Gateway\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"


def certificate_in(folder: Path) -> Path:
    """Make a certificate for 127.0.0.1 and localhost; return its file, beside which the key is."""
    subject = ["-subj", "/CN=test", "-addext", "subjectAltName=IP:127.0.0.1,DNS:localhost"]
    kind = ["-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "2"]
    files = ["-keyout", str(folder / "key.pem"), "-out", str(folder / "cert.pem")]
    subprocess.run(  # noqa: S603 (openssl, with fixed arguments)
        [str(OPENSSL), "req", *kind, *subject, *files], check=True, capture_output=True
    )
    return folder / "cert.pem"


@asynccontextmanager
async def front(certificate: Path, port: int, alter: Callable[[bytes], bytes] = bytes) -> AsyncIterator[str]:
    """Serve by TLS on a free port what a server on ``port`` answers; ``alter`` changes the head of each request."""
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(certificate, certificate.with_name("key.pem"))

    async def carry(plain: trio.abc.Stream) -> None:
        async with trio.SSLStream(plain, context, server_side=True, https_compatible=True) as client:
            try:
                head = await read_head(client)
                await _pass_on(client, alter(head), port)
            except (trio.BrokenResourceError, trio.ClosedResourceError):
                return  # one of the two has left

    async with on_loopback(carry) as own:
        yield f"https://127.0.0.1:{own}"


async def _pass_on(client: trio.abc.Stream, head: bytes, port: int) -> None:
    try:
        server = await trio.open_tcp_stream("127.0.0.1", port)
    except OSError:
        await client.send_all(BAD_GATEWAY)
        return
    async with server, trio.open_nursery() as nursery:
        await server.send_all(head)
        nursery.start_soon(partial(_copy, client, server))
        # The server closes when it has answered, and the client's side ends with that.
        await _copy(server, client)
        nursery.cancel_scope.cancel()


async def _copy(source: trio.abc.Stream, target: trio.abc.Stream) -> None:
    # Here, and not around the nursery, which would wrap it: one of the two has left.
    with suppress(trio.BrokenResourceError, trio.ClosedResourceError):
        async for data in source:
            await target.send_all(data)
