"""Outgoing TLS: the client speaks only to the server that it means."""

import shutil
import ssl
import subprocess
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path

import pytest
import trio
import trio.testing

from patter_trio.errors import ProviderError
from patter_trio.net.address_guard import Guard
from patter_trio.net.http import Unreachable, shared_client, tls_context
from patter_trio.net.websocket import Upgrade, WebSocket, receive_upgrade
from patter_trio.net.websocket_client import open_websocket
from tests.kit.web import Request, Web, _http, _websocket, fetch, proxying

OPENSSL = shutil.which("openssl")
pytestmark = pytest.mark.skipif(OPENSSL is None, reason="makes its certificate with openssl")


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A certificate for 127.0.0.1 that is not trusted yet, with its key beside it."""
    return made(tmp_path_factory.mktemp("tls"), "IP:127.0.0.1")


def made(folder: Path, owner: str) -> Path:
    subject = ["-subj", "/CN=test", "-addext", f"subjectAltName={owner}"]
    kind = ["-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "2"]
    files = ["-keyout", str(folder / "key.pem"), "-out", str(folder / "cert.pem")]
    subprocess.run(  # noqa: S603 (openssl, with fixed arguments)
        [str(OPENSSL), "req", *kind, *subject, *files], check=True, capture_output=True
    )
    return folder / "cert.pem"


@asynccontextmanager
async def serving(certificate: Path, *, websocket: bool = False) -> AsyncIterator[int]:
    async def answer(request: Request) -> None:
        await request.answer(b"Hello.")

    async def echo(socket: WebSocket, upgrade: Upgrade) -> None:
        while True:
            await socket.send(await socket.receive())

    async def serve(stream: trio.SSLStream[trio.SocketStream]) -> None:
        try:
            await stream.do_handshake()
        except trio.BrokenResourceError:
            return  # the client does not trust us
        web = Web("")
        if websocket:
            await _websocket(web, echo, stream)  # type: ignore[arg-type]
        else:
            await _http(web, answer, stream)  # type: ignore[arg-type]

    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(certificate, certificate.with_name("key.pem"))
    context.set_alpn_protocols(["http/1.1"])
    listeners = await trio.open_ssl_over_tcp_listeners(0, context, host="127.0.0.1")
    async with trio.open_nursery() as nursery:
        nursery.start_soon(partial(trio.serve_listeners, serve, listeners))
        yield listeners[0].transport_listener.socket.getsockname()[1]
        nursery.cancel_scope.cancel()


@pytest.fixture
def trust(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[Path], None]]:
    """Trust a certificate by SSL_CERT_FILE; the cached TLS context is made anew before and after the test."""

    def trusted(certificate: Path) -> None:
        monkeypatch.setenv("SSL_CERT_FILE", str(certificate))
        tls_context.cache_clear()

    yield trusted
    tls_context.cache_clear()


async def test_trusted_certificate_is_accepted(
    autojump_clock: trio.testing.MockClock, trust: Callable[[Path], None], certificate: Path
) -> None:
    """The HTTP client and the WebSocket client exchange data with a server whose certificate is trusted."""
    trust(certificate)
    async with serving(certificate) as port, shared_client() as client:
        assert await fetch(client, "GET", f"https://127.0.0.1:{port}/", head_timeout=5, max_bytes=9) == b"Hello."
    async with serving(certificate, websocket=True) as port, open_websocket(f"wss://127.0.0.1:{port}/") as socket:
        await socket.send("Hello")
        assert await socket.receive() == "Hello"


async def test_untrusted_certificate_raises_provider_error(
    autojump_clock: trio.testing.MockClock, certificate: Path
) -> None:
    """An untrusted certificate raises ProviderError in the HTTP client and in the WebSocket client."""
    refused = r"(https|wss)://127\.0\.0\.1:\d+ could not be reached: .*certificate verify failed"
    async with serving(certificate) as port, shared_client() as client:
        with pytest.raises(ProviderError, match=refused):
            await fetch(client, "GET", f"https://127.0.0.1:{port}/", head_timeout=20, max_bytes=9)
        with pytest.raises(ProviderError, match=refused):
            async with open_websocket(f"wss://127.0.0.1:{port}/", connect_timeout=20):
                pass


async def test_tls_within_a_tunnel(
    autojump_clock: trio.testing.MockClock,
    monkeypatch: pytest.MonkeyPatch,
    trust: Callable[[Path], None],
    certificate: Path,
) -> None:
    """The proxy sees the server's name only: the key in the handshake's header passes through it encrypted."""
    trust(certificate)
    async with serving(certificate, websocket=True) as port, proxying(to=port) as proxy:
        monkeypatch.setenv("HTTPS_PROXY", f"http://127.0.0.1:{proxy.port}")
        async with open_websocket(f"wss://127.0.0.1:{port}/", headers={"Authorization": "secret"}) as socket:
            await socket.send("Hello")
            assert await socket.receive() == "Hello"
        assert proxy.tunnelled
        assert b"secret" not in proxy.heads[0] + proxy.tunnelled


async def test_certificate_is_judged_within_a_tunnel(
    autojump_clock: trio.testing.MockClock, monkeypatch: pytest.MonkeyPatch, certificate: Path
) -> None:
    """The client verifies the certificate behind a tunnel, so that a proxy cannot impersonate the server."""
    async with serving(certificate, websocket=True) as port, proxying(to=port) as proxy:
        monkeypatch.setenv("ALL_PROXY", f"http://127.0.0.1:{proxy.port}")
        with pytest.raises(
            ProviderError, match=r"wss://127\.0\.0\.1:\d+ could not be reached: .*certificate verify failed"
        ):
            async with open_websocket(f"wss://127.0.0.1:{port}/"):
                pass


async def test_cancelled_send_over_tls(
    autojump_clock: trio.testing.MockClock, trust: Callable[[Path], None], certificate: Path
) -> None:
    """A send that TLS holds back ends at the instant of its cancellation, and TCP closes at that instant."""
    trust(certificate)
    async with deaf(certificate) as port, open_websocket(f"wss://127.0.0.1:{port}/") as socket:
        began = trio.current_time()
        with trio.move_on_after(1) as scope:
            await socket.send(b"x" * 6_000_000)
        assert scope.cancelled_caught
        assert not socket.usable
        await socket.ended.wait()
        assert trio.current_time() == pytest.approx(began + 1)


@asynccontextmanager
async def deaf(certificate: Path) -> AsyncIterator[int]:
    """Accept WebSockets over TLS, and then read nothing."""

    async def serve(stream: trio.SSLStream[trio.SocketStream]) -> None:
        upgrade = await receive_upgrade(stream, bytes(await stream.receive_some(65536)))
        await upgrade.accept()
        await trio.sleep_forever()

    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(certificate, certificate.with_name("key.pem"))
    listeners = await trio.open_ssl_over_tcp_listeners(0, context, host="127.0.0.1")
    socket = listeners[0].transport_listener.socket
    socket.setsockopt(trio.socket.SOL_SOCKET, trio.socket.SO_RCVBUF, 4096)  # what is sent soon has nowhere to go
    async with trio.open_nursery() as nursery:
        nursery.start_soon(partial(trio.serve_listeners, serve, listeners))
        yield socket.getsockname()[1]
        nursery.cancel_scope.cancel()


class _Everywhere(trio.abc.HostnameResolver):
    """A name service for which every name is this machine's."""

    async def getaddrinfo(self, host: object, port: object, *_: object, **__: object) -> list[object]:  # type: ignore[override]
        await trio.lowlevel.checkpoint()
        return [(trio.socket.AF_INET, trio.socket.SOCK_STREAM, 6, "", ("127.0.0.1", port))]

    async def getnameinfo(self, sockaddr: object, flags: int) -> tuple[str, str]:  # type: ignore[override]
        raise NotImplementedError


@pytest.mark.parametrize(
    ("owner", "error"),
    [
        ("DNS:tools.test", ""),
        ("DNS:other.test", "Hostname mismatch, certificate is not valid for 'tools.test'"),
        ("IP:127.0.0.1", "Hostname mismatch, certificate is not valid for 'tools.test'"),
    ],
)
async def test_guarded_tls_checks_certificate_against_host_name(
    autojump_clock: trio.testing.MockClock, trust: Callable[[Path], None], tmp_path: Path, owner: str, error: str
) -> None:
    """A guarded connection requires a certificate for the host name and rejects one for the address."""
    certificate = made(tmp_path, owner)
    trust(certificate)
    trio.socket.set_custom_hostname_resolver(_Everywhere())
    async with serving(certificate) as port, shared_client(Guard(["tools.test"])) as client:
        fetched = partial(fetch, client, "GET", f"https://tools.test:{port}/", head_timeout=20, max_bytes=9)
        if not error:
            assert await fetched() == b"Hello."
            return
        with pytest.raises(Unreachable, match=error):
            await fetched()
