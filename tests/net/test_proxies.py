"""Proxies of the environment: the same as those of httpx, for vendors alone, and with refusals that name the proxy."""

import os
import ssl
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial
from unittest import mock

import httpx
import pytest
import trio
import trio.testing
from hypothesis import given
from hypothesis import strategies as st

from patter_trio.call.responder.on_message_urls import SocketHandler
from patter_trio.errors import ProviderError, ProviderTimeout
from patter_trio.net.address_guard import Guard
from patter_trio.net.http import shared_client
from patter_trio.net.proxies import environment_proxy
from patter_trio.net.websocket import Upgrade, WebSocket
from patter_trio.net.websocket_client import WebSocketClient, open_direct_stream_to, open_websocket
from tests.kit.web import Request, fetch, proxying, serving, tunnel

NAMES = ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "NO_PROXY")
PROXIES = ("", "http://proxy.test:3128", "proxy.test:3129", "https://user:hush@proxy.test")
HOSTS = (
    *("api.test", "www.api.test", "notapi.test", "localhost", "127.0.0.1", "192.168.0.7", "[::1]"),
    *("API.test", "xn--bcher-kva.test", "b\N{LATIN SMALL LETTER U WITH DIAERESIS}cher.test"),
)
EXCEPTIONS = (
    *("", "*", "api.test", ".api.test", "*.api.test", "API.TEST", "LOCALHOST", "localhost", "127.0.0.1", "::1"),
    *(
        "192.168.0.7",
        "192.168.0.7/16",
        "api.test:443",
        "api.test:8080",
        "https://api.test",
        "http://api.test",
        "all://",
    ),
    *(
        "https://",
        "all://*",
        "https://api.test:443",
        "xn--bcher-kva.test",
        "wss://api.test",
        " api.test ",
        "api",
        "test",
    ),
)
VERIFY = ssl.create_default_context()


@pytest.fixture(autouse=True)
def no_proxies(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in NAMES:
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.lower(), raising=False)


def of_httpx(url: str) -> str | None:
    """Return the origin of the proxy that httpx itself would use."""
    client = httpx.AsyncClient(verify=VERIFY)
    transport = client._transport_for_url(httpx.URL(url))
    pool = transport._pool  # type: ignore[attr-defined]
    proxy = getattr(pool, "_proxy_url", None)
    return None if proxy is None else f"{proxy.scheme.decode()}://{proxy.host.decode()}:{proxy.port}"


@given(
    st.tuples(*[st.sampled_from(PROXIES)] * 3),
    st.lists(st.sampled_from(EXCEPTIONS), max_size=3),
    st.sampled_from(["ws", "wss"]),
    st.sampled_from(HOSTS),
    st.sampled_from(["", ":80", ":443", ":8080"]),
)
def test_same_proxy_as_httpx(
    proxies: tuple[str, str, str], exceptions: list[str], scheme: str, host: str, port: str
) -> None:
    """For any settings, a WebSocket takes the proxy that httpx takes for the same host."""
    with mock.patch.dict(os.environ, dict(zip(NAMES, (*proxies, ",".join(exceptions)), strict=True))):
        ours = environment_proxy(f"{scheme}://{host}{port}/chat")
        theirs = of_httpx(f"{scheme.replace('ws', 'http')}://{host}{port}/chat")
    if ours is not None:
        url = httpx.URL(ours)
        ours = f"{url.scheme}://{url.host}:{url.port}"
    assert ours == theirs


def test_unreadable_no_proxy_entry_is_quoted(monkeypatch: pytest.MonkeyPatch) -> None:
    """A NO_PROXY entry that httpx cannot read raises ProviderError, which quotes the entry."""
    monkeypatch.setenv("NO_PROXY", "a:b:c.test")
    with pytest.raises(ProviderError, match=r"NO_PROXY must be a list of hosts, got the entry 'a:b:c\.test'"):
        environment_proxy("wss://api.test")


# Over HTTP ------------------------------------------------------------------------------------------------------------
async def echoes(socket: WebSocket, upgrade: Upgrade) -> None:
    while True:
        await socket.send(await socket.receive())


async def says(client: WebSocketClient) -> str | bytes:
    await client.send("Hello")
    return await client.receive()


def port_of(url: str) -> int:
    return httpx.URL(url).port or 0


@pytest.mark.parametrize("name", ["HTTP_PROXY", "http_proxy", "ALL_PROXY"])
async def test_tunnel(autojump_clock: trio.testing.MockClock, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    """A WebSocket without TLS also asks for a tunnel, and the proxy's credentials go into the CONNECT header."""
    async with serving(converse=echoes) as web, proxying(to=port_of(web.url)) as proxy:
        monkeypatch.setenv(name, f"http://us%40er:pass@127.0.0.1:{proxy.port}")
        async with open_websocket(f"{web.url}/chat") as client:
            assert await says(client) == "Hello"
        lines = proxy.heads[0].split(b"\r\n")
        assert lines[0] == f"CONNECT 127.0.0.1:{port_of(web.url)} HTTP/1.1".encode()
        assert b"Proxy-Authorization: Basic dXNAZXI6cGFzcw==" in lines
        assert b"Authorization" not in proxy.tunnelled


async def test_no_proxy_connects_directly(
    autojump_clock: trio.testing.MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A host in NO_PROXY gets a direct connection, and the proxy receives no request."""
    async with serving(converse=echoes) as web, proxying() as proxy:
        monkeypatch.setenv("ALL_PROXY", f"http://127.0.0.1:{proxy.port}")
        monkeypatch.setenv("NO_PROXY", "127.0.0.1")
        async with open_websocket(web.url) as client:
            assert await says(client) == "Hello"
        assert not proxy.heads


@pytest.mark.parametrize(
    ("answer", "message"),
    [
        (
            b"HTTP/1.1 407 Proxy Authentication Required\r\nContent-Length: 9\r\n\r\n",
            "refused the tunnel to api.test:80: status 407",
        ),
        (b"SSH-2.0-OpenSSH_9.6\r\n\r\n", "the answer must be an HTTP/1.1 response"),
        (
            b"HTTP/1.1 200 OK\r\n\r\nand more",
            "must not send data before the client does, through the tunnel to api.test:80",
        ),
    ],
)
async def test_refusal_names_the_proxy(
    autojump_clock: trio.testing.MockClock, monkeypatch: pytest.MonkeyPatch, answer: bytes, message: str
) -> None:
    """A refused tunnel raises an ungrouped ProviderError that names the proxy without its password."""
    async with proxying(answer) as proxy:
        monkeypatch.setenv("ALL_PROXY", f"http://user:hush@127.0.0.1:{proxy.port}")
        with pytest.raises(ProviderError) as raised:
            async with open_websocket("ws://api.test/"):
                pass
        assert str(raised.value).replace(": the answer", " the answer") == (
            f"the proxy http://127.0.0.1:{proxy.port} {message}"
        )


async def test_proxy_that_does_not_answer(
    autojump_clock: trio.testing.MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The deadline of 5 s includes the proxy's answer, and an unreachable proxy is named in the error."""
    async with proxying(b"HTTP/1.1 200") as proxy:
        monkeypatch.setenv("ALL_PROXY", f"http://127.0.0.1:{proxy.port}")
        with pytest.raises(ProviderTimeout, match=r"ws://api\.test could not be reached within 5 s"):
            async with open_websocket("ws://api.test/"):
                pass
        assert trio.current_time() == pytest.approx(5.0)
    with pytest.raises(ProviderError, match=r"^the proxy http://127\.0\.0\.1:\d+ could not be reached: "):
        async with open_websocket("ws://api.test/"):
            pass


@pytest.mark.parametrize(
    ("proxy", "message"),
    [
        ("ftp://proxy.test", "the proxy ftp://proxy.test must have the scheme http, https, socks5 or socks5h"),
        ("http://a:b:c", "must have a valid URL"),
    ],
)
async def test_proxy_url_that_cannot_be_used(monkeypatch: pytest.MonkeyPatch, proxy: str, message: str) -> None:
    """A proxy URL with an unknown scheme or an invalid port raises ProviderError."""
    monkeypatch.setenv("ALL_PROXY", proxy)
    with pytest.raises(ProviderError, match=message):
        async with open_websocket("ws://api.test/"):
            pass


# URLs of the application ----------------------------------------------------------------------------------------------
async def test_urls_of_the_application_use_no_proxy(
    autojump_clock: trio.testing.MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Guarded URLs and on_message URLs go directly: a proxy would look up names where no guard sees it."""

    async def hello(request: Request) -> None:
        await request.answer(b"Hello.")

    async with proxying() as proxy, serving(hello) as web, serving(converse=echoes) as sockets:
        monkeypatch.setenv("ALL_PROXY", f"http://127.0.0.1:{proxy.port}")
        for client in (shared_client(Guard(["127.0.0.1"])), shared_client(direct=True)):
            async with client as http:
                assert await fetch(http, "GET", web.url, head_timeout=5, max_bytes=9) == b"Hello."
        socket = SocketHandler(sockets.url, "")
        assert socket.open_stream is open_direct_stream_to
        async with open_websocket(sockets.url, open_stream=socket.open_stream) as client:
            assert await says(client) == "Hello"
        assert not proxy.heads


# Over SOCKS -----------------------------------------------------------------------------------------------------------
@asynccontextmanager
async def socks(to: int, *, user: bytes = b"", reply: int = 0, address: bytes = b"\x01\0\0\0\0") -> AsyncIterator[int]:
    """Serve SOCKS5 and send every answer byte by byte; give the port."""

    async def say(stream: trio.SocketStream, data: bytes) -> None:
        for byte in data:
            await stream.send_all(bytes([byte]))
            await trio.sleep(0.01)

    async def receive(stream: trio.SocketStream, count: int) -> bytes:
        data = b""
        while len(data) < count:
            data += await stream.receive_some(count - len(data))
        return data

    async def serve(stream: trio.SocketStream) -> None:
        method = b"\x02" if user else b"\x00"
        _, count = await receive(stream, 2)
        if method not in await receive(stream, count):
            await say(stream, b"\x05\xff")
            return
        await say(stream, b"\x05" + method)
        if user:
            _, size = await receive(stream, 2)
            name = await receive(stream, size)
            [size] = await receive(stream, 1)
            password = await receive(stream, size)
            correct = (name, password) == (user, b"hush")
            await say(stream, b"\x01" + (b"\x00" if correct else b"\x01"))
            if not correct:
                return
        head = await receive(stream, 4)
        size = {1: 4, 3: 0, 4: 16}[head[3]] or (await receive(stream, 1))[0]
        await receive(stream, size + 2)
        await say(stream, b"\x05" + bytes([reply]) + b"\x00" + address + b"\x00\x50")
        if not reply:
            await tunnel(stream, await trio.open_tcp_stream("127.0.0.1", to), bytearray())

    [listener] = await trio.open_tcp_listeners(0, host="127.0.0.1")
    async with trio.open_nursery() as nursery:
        nursery.start_soon(partial(trio.serve_listeners, serve, [listener]))
        yield listener.socket.getsockname()[1]
        nursery.cancel_scope.cancel()


@pytest.mark.parametrize("address", [b"\x01\0\0\0\0", b"\x04" + b"\0" * 16, b"\x03\x04name", b"\x03\x00"])
@pytest.mark.parametrize("user", ["", "us%40er"])
async def test_socks(
    autojump_clock: trio.testing.MockClock, monkeypatch: pytest.MonkeyPatch, user: str, address: bytes
) -> None:
    """SOCKS5 works with and without a user name, for each type of address in the reply, and byte by byte."""
    pytest.importorskip("socksio")
    async with (
        serving(converse=echoes) as web,
        socks(port_of(web.url), user=b"us@er" if user else b"", address=address) as port,
    ):
        monkeypatch.setenv("ALL_PROXY", f"socks5://{f'{user}:hush@' if user else ''}127.0.0.1:{port}")
        async with open_websocket(f"ws://localhost:{port_of(web.url)}") as client:
            assert await says(client) == "Hello"


@pytest.mark.parametrize(
    ("credentials", "options", "message"),
    [
        ("", {"user": b"user"}, "does not accept clients without a user name"),
        ("user:wrong@", {"user": b"user"}, "refused the user name or password"),
        ("", {"reply": 5}, "refused the connection to api.test:80: connection refused"),
        ("", {"reply": 77}, "must speak SOCKS5: Malformed reply"),
        ("", {"address": b"\x02\0\0\0\0"}, ": the address type of SOCKS5 must be 1, 3 or 4, got 2"),
        (f"{'x' * 256}:hush@", {}, "must have a user name and password of 255 bytes at most"),
    ],
)
async def test_socks_refusals(
    autojump_clock: trio.testing.MockClock,
    monkeypatch: pytest.MonkeyPatch,
    credentials: str,
    options: dict[str, bytes],
    message: str,
) -> None:
    """Each SOCKS5 refusal raises an ungrouped ProviderError that names the proxy without its credentials."""
    pytest.importorskip("socksio")
    async with socks(0, **options) as port:  # type: ignore[arg-type]
        monkeypatch.setenv("ALL_PROXY", f"socks5h://{credentials}127.0.0.1:{port}")
        with pytest.raises(ProviderError) as raised:
            async with open_websocket("ws://api.test"):
                pass
    who, _, said = str(raised.value).partition(f":{port}")
    assert (who, said.strip(), raised.type) == ("the proxy socks5h://127.0.0.1", message, ProviderError)


async def test_socks_without_its_package(
    autojump_clock: trio.testing.MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without the package socksio, the error names the package and the command that installs it."""
    monkeypatch.setitem(sys.modules, "socksio", None)
    async with socks(0) as port:
        monkeypatch.setenv("ALL_PROXY", f"socks5://127.0.0.1:{port}")
        with pytest.raises(ProviderError, match=r"needs the package socksio: pip install 'patter-trio\[socks\]'"):
            async with open_websocket("ws://api.test"):
                pass
