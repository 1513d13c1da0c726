"""An application's own ASGI app beside a served phone, and the phone's app in another server."""

import asyncio
import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial
from typing import Any

import anyio
import attrs
import httpx
import pytest
import trio
import trio.testing
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, StreamingResponse
from starlette.routing import Mount, Route, WebSocketRoute
from starlette.websockets import WebSocket

from patter_trio import ConfigurationError, Patter
from patter_trio.errors import WireError
from patter_trio.net.websocket import SocketClosed, connect
from patter_trio.server.lifespan import STARTUP_TIMEOUT_S, run_lifespan
from patter_trio.server.served_elsewhere import NOT_ON_TRIO, NOT_SERVED, ServedElsewhere
from tests.kit.call import agent_of
from tests.kit.server import FakeCallServer, read_all

CLOCK = trio.testing.MockClock


async def shown(request: Request) -> JSONResponse:
    return JSONResponse({"path": request.url.path, "pool": getattr(request.state, "pool", None)})


async def failing(_: Request) -> PlainTextResponse:
    raise ZeroDivisionError("a bug of the application")


async def leaving(_: Request) -> PlainTextResponse:
    raise SystemExit(3)


async def echo(socket: WebSocket) -> None:
    await socket.accept()
    await socket.send_text(f"echo {await socket.receive_text()}")
    await socket.close()


class Own:
    """An application with a lifespan."""

    def __init__(self) -> None:
        self.steps: list[str] = []

        @asynccontextmanager
        async def lifespan(_: Starlette) -> AsyncIterator[dict[str, str]]:
            self.steps.append("started")
            yield {"pool": "open"}
            self.steps.append("ended")

        self.app = Starlette(
            routes=[
                Route("/", shown),
                Route("/api/orders", shown),
                Route("/fails", failing),
                Route("/leaves", leaving),
                WebSocketRoute("/echo", echo),
            ],
            lifespan=lifespan,
        )


@asynccontextmanager
async def served(app: Any, phone: Patter | None = None, **options: Any) -> AsyncIterator[tuple[httpx.AsyncClient, int]]:
    async with trio.open_nursery() as nursery:
        serve = partial((phone or Patter()).serve, agent_of("Yes."), port=0, app=app, max_lag=None, **options)
        host, port = await nursery.start(serve)
        async with httpx.AsyncClient(base_url=f"http://{host}:{port}") as client:
            yield client, port
        nursery.cancel_scope.cancel()


async def test_own_app_gets_the_other_paths() -> None:
    """The application's own app has its routes, with the state of its lifespan, beside those of the server."""
    own = Own()
    async with served(own.app) as (client, _):
        assert own.steps == ["started"]
        assert (await client.get("/")).json() == {"path": "/", "pool": "open"}
        assert (await client.get("/api/orders")).json()["path"] == "/api/orders"
        assert (await client.get("/nothing")).status_code == 404
        assert (await client.get("/health")).json() == {"status": "ok"}
        assert (await client.post("/webhooks/orders")).status_code == 404
        assert (await client.get("/ws/anything")).status_code == 404
    assert own.steps == ["started", "ended"]


async def test_windows_come_before_the_own_app() -> None:
    """With a dashboard, the paths of windows are the server's, and all others the application's."""
    async with served(Own().app, dashboard=True) as (client, _):
        assert (await client.get("/api/live")).json() == {"calls": []}
        assert (await client.get("/api/orders")).json()["path"] == "/api/orders"


async def test_bugs_end_their_own_request(caplog: pytest.LogCaptureFixture) -> None:
    """What the application raises, SystemExit included, ends its own request, is logged, and nothing else happens."""
    async with served(Own().app) as (client, _):
        assert (await client.get("/fails")).status_code == 500
        with pytest.raises(httpx.HTTPError):
            (await client.get("/leaves")).raise_for_status()
        assert (await client.get("/health")).status_code == 200
        assert (await client.get("/")).status_code == 200
    assert "ZeroDivisionError: a bug of the application" in caplog.text


async def test_asyncio_in_the_application_is_named(caplog: pytest.LogCaptureFixture) -> None:
    """Code for asyncio fails with a traceback that says what to use in its place."""

    async def asleep(_: Request) -> PlainTextResponse:
        await asyncio.sleep(0.1)
        return PlainTextResponse("awake")

    async with served(Starlette(routes=[Route("/asleep", asleep)])) as (client, _):
        assert (await client.get("/asleep")).status_code == 500
        assert (await client.get("/health")).status_code == 200
    assert "app= runs on trio: its code must use trio or anyio in place of asyncio" in caplog.text


async def test_own_sockets_outside_of_the_prefixes() -> None:
    """The application gets upgrades on its own paths; below /ws/ and /webhooks/ it gets none."""
    async with served(Own().app, dashboard=True) as (_, port):
        async with await trio.open_tcp_stream("127.0.0.1", port) as stream:
            socket = await connect(stream, f"ws://127.0.0.1:{port}/echo")
            await socket.send("hello")
            assert await socket.receive() == "echo hello"
            with pytest.raises(SocketClosed):
                await socket.receive()
        for path in ("/ws/echo", "/webhooks/echo", "/api/live"):
            async with await trio.open_tcp_stream("127.0.0.1", port) as stream:
                with pytest.raises(WireError):
                    await connect(stream, f"ws://127.0.0.1:{port}{path}")


async def with_own(app: Any, request: bytes) -> bytes:
    server = FakeCallServer()
    server.context = attrs.evolve(server.context, app=app)
    async with trio.open_nursery() as nursery:
        stream = server.open(nursery)
        await stream.send_all(request)
        return await read_all(stream)


async def test_own_answers_may_take_their_time(autojump_clock: CLOCK) -> None:
    """The application may think for longer than a webhook may, and stream for as long as its peer reads."""

    async def slow(request: Request) -> StreamingResponse:
        await request.body()
        await trio.sleep(60)

        async def pieces() -> AsyncIterator[bytes]:
            for number in range(3):
                await trio.sleep(30)
                yield b"piece %d\n" % number

        return StreamingResponse(pieces())

    app = Starlette(routes=[Route("/slow", slow, methods=["GET", "POST"])])
    answer = await with_own(app, b"GET /slow HTTP/1.1\r\nHost: a\r\n\r\n")
    assert answer.count(b"piece ") == 3
    assert trio.current_time() == 150.5  # the connection lingers
    answer = await with_own(app, b"POST /slow HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\n\r\nab")
    assert answer.count(b"piece ") == 3


async def test_requests_of_own_apps_must_come(autojump_clock: CLOCK) -> None:
    """A request for the application whose body does not arrive is over after 15 s."""

    async def read(request: Request) -> PlainTextResponse:
        return PlainTextResponse(str(len(await request.body())))

    app = Starlette(routes=[Route("/read", read, methods=["POST"])])
    assert await with_own(app, b"POST /read HTTP/1.1\r\nHost: a\r\nContent-Length: 9\r\n\r\nab") == b""
    assert trio.current_time() == 15


@pytest.mark.parametrize(
    "upgrade", [b"h2c", b"websocket, h2c", b"h2c\r\nUpgrade: websocket", b"websocket\nUpgrade: h2c"]
)
async def test_own_apps_get_no_other_upgrade(upgrade: bytes, autojump_clock: CLOCK) -> None:
    """Any upgrade but exactly to a WebSocket is dropped for the application, too."""
    head = b"GET / HTTP/1.1\r\nHost: a\r\nConnection: Upgrade, HTTP2-Settings\r\nHTTP2-Settings: AAMAAABkAAQAAP__\r\n"
    answer = await with_own(Own().app, head + b"Upgrade: " + upgrade + b"\r\n\r\n")
    assert answer.startswith(b"HTTP/1.1 200 ")


async def test_app_without_lifespan_is_served(autojump_clock: CLOCK) -> None:
    """An application that refuses a lifespan, or ignores it, is served without one."""

    async def refuses(scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] != "http":
            raise NotImplementedError

    async def ignores(scope: Any, receive: Any, send: Any) -> None:
        await anyio.lowlevel.checkpoint()

    for app in (refuses, ignores):
        async with run_lifespan(app) as state:
            assert state == {}


async def test_failed_start_of_an_app_is_reported(autojump_clock: CLOCK) -> None:
    """An application that fails to start, or hangs, ends serve with one line that says why."""

    @asynccontextmanager
    async def lifespan(_: Starlette) -> AsyncIterator[None]:
        raise LookupError("no database")
        yield

    with pytest.raises(ConfigurationError, match="app= has failed to start: LookupError: no database"):
        async with run_lifespan(Starlette(lifespan=lifespan)):
            raise AssertionError

    async def hangs(*_: object) -> None:
        await trio.sleep_forever()

    with pytest.raises(ConfigurationError, match="app= must start within 60 s"):
        async with run_lifespan(hangs):
            raise AssertionError
    assert trio.current_time() == STARTUP_TIMEOUT_S


async def test_end_of_an_app_is_bounded(autojump_clock: CLOCK, caplog: pytest.LogCaptureFixture) -> None:
    """An application that hangs at its end holds a server up for 5 s; one that fails there is logged."""

    @asynccontextmanager
    async def hangs(_: Starlette) -> AsyncIterator[None]:
        yield
        await trio.sleep_forever()

    async with run_lifespan(Starlette(lifespan=hangs)):
        pass
    assert trio.current_time() == 5

    @asynccontextmanager
    async def fails(_: Starlette) -> AsyncIterator[None]:
        yield
        raise LookupError("no database")

    async with run_lifespan(Starlette(lifespan=fails)):
        pass
    assert "LookupError: no database" in caplog.text


async def test_phone_in_another_server() -> None:
    """phone.asgi() answers webhooks and windows for another server while phone.serve runs; windows want the token."""
    phone, token = Patter(), "correct-horse-battery"
    outer = Starlette(routes=[Mount("/phone", phone.asgi()), Mount("/", phone.asgi())])
    async with httpx.AsyncClient(transport=httpx.ASGITransport(outer), base_url="http://localhost") as client:
        down = await client.get("/health")
        assert (down.status_code, down.text) == (503, f"{NOT_SERVED}\n")
        async with served(None, phone, dashboard=True):
            assert (await client.get("/health")).json() == {"status": "ok"}
            assert (await client.get("/phone/ready")).json() == {"status": "ready"}
            # It would answer this machine at its own port.
            assert (await client.get("/api/live")).status_code == 403
        async with served(None, phone, dashboard=True, dashboard_token=token):
            headers = {"authorization": f"Bearer {token}"}
            assert (await client.get("/api/live")).status_code == 401
            assert (await client.get("/api/live", headers=headers)).json() == {"calls": []}
        assert (await client.get("/health")).status_code == 503


async def test_phone_inside_its_own_app() -> None:
    """An app that has phone.asgi() in it and is given as app= is asked once, and not for ever."""
    phone = Patter()
    outer = Starlette(routes=[Mount("/", phone.asgi())])
    async with served(outer, phone) as (client, _):
        assert (await client.get("/nothing")).status_code == 404
        assert (await client.get("/health")).status_code == 200


def test_asyncio_servers_get_one_line(caplog: pytest.LogCaptureFixture) -> None:
    """A server on asyncio gets 503 and the line that says what is missing, and may start and stop."""
    caplog.set_level(logging.WARNING)
    app = ServedElsewhere([])
    sent: list[Any] = []

    async def receive() -> Any:
        return {}

    async def send(message: Any) -> None:
        sent.append(message)

    async def main() -> None:
        await app({"type": "lifespan"}, receive, send)
        await app({"type": "http", "path": "/health"}, receive, send)
        await app({"type": "websocket", "path": "/ws"}, receive, send)

    anyio.run(main, backend="asyncio")
    kinds = [message["type"] for message in sent]
    assert kinds[:2] == ["lifespan.startup.complete", "lifespan.shutdown.complete"]
    assert (sent[2]["status"], sent[3]["body"].decode()) == (503, f"{NOT_ON_TRIO}\n")
    assert sent[4]["type"] == "websocket.close"
    assert caplog.messages == [NOT_ON_TRIO]


async def test_fastapi_apps_are_served() -> None:
    """A FastAPI application with an async route answers beside the phone."""
    fastapi = pytest.importorskip("fastapi")
    app = fastapi.FastAPI()

    @app.get("/orders/{number}")
    async def order(number: int) -> dict[str, int]:
        return {"number": number}

    async with served(app) as (client, _):
        assert (await client.get("/orders/7")).json() == {"number": 7}
        assert (await client.get("/orders/x")).status_code == 422
        assert (await client.get("/openapi.json")).status_code == 200
