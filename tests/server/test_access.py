"""The rule of who may look at calls and steer them, as a table, and its use before the routes of windows."""

from collections.abc import Mapping

import attrs
import pytest
import trio
import trio.testing
from starlette.requests import Request
from starlette.responses import PlainTextResponse
from starlette.routing import Route

from patter_trio.errors import ConfigurationError
from patter_trio.server.access import (
    SESSION_COOKIE,
    Access,
    checked_token,
    is_private,
    refusal,
    session_in,
)
from tests.kit.server import FakeCallServer, read_all

TOKEN = "correct-horse-battery"
LIVE = "id-of-a-session"
PRIVATE = Access(is_private=True)
WITH_TOKEN = Access(token=TOKEN)
LOCAL = {"host": "localhost:8000"}
COOKIE = {"cookie": f"theme=dark; {SESSION_COOKIE}={LIVE}"}
BEARER = {"authorization": f"Bearer {TOKEN}"}
SAME = {"host": "agent.example", "origin": "https://agent.example"}
CROSS = {"sec-fetch-site": "cross-site"}
OTHER = {"host": "agent.example", "origin": "https://evil.example"}


@pytest.mark.parametrize("method", ["GET", "HEAD"])
@pytest.mark.parametrize(
    ("access", "headers", "status"),
    [
        (PRIVATE, LOCAL, 0),
        (PRIVATE, {"host": "127.0.0.1"}, 0),
        (PRIVATE, {"host": "127.9.9.9:80"}, 0),
        (PRIVATE, {"host": "[::1]:8000"}, 0),
        (PRIVATE, LOCAL | {"origin": "https://evil.example"}, 0),
        (PRIVATE, LOCAL | {"sec-fetch-site": "same-origin"}, 0),
        (PRIVATE, LOCAL | {"sec-fetch-site": "none"}, 0),
        # Another port of the same machine is the same site.
        (PRIVATE, LOCAL | {"sec-fetch-site": "same-site"}, 0),
        (PRIVATE, LOCAL | CROSS, 403),
        (PRIVATE, LOCAL | CROSS | {"sec-fetch-mode": "no-cors", "sec-fetch-dest": "image"}, 403),
        (PRIVATE, LOCAL | CROSS | {"sec-fetch-mode": "navigate", "sec-fetch-dest": "iframe"}, 403),
        (PRIVATE, LOCAL | CROSS | {"sec-fetch-mode": "navigate", "sec-fetch-dest": "document"}, 0),
        (WITH_TOKEN, COOKIE | CROSS, 403),
        (WITH_TOKEN, CROSS, 401),
        (WITH_TOKEN, BEARER | CROSS, 0),
        (PRIVATE, {}, 403),
        (PRIVATE, {"host": "evil.example"}, 403),
        (PRIVATE, {"host": "localhost.evil.example"}, 403),
        (PRIVATE, {"host": "localhost, evil.example"}, 403),
        (PRIVATE, {"host": "evil.example@localhost"}, 403),
        (PRIVATE, {"host": "[::1"}, 403),
        (PRIVATE, {"host": "localhost:"}, 403),
        (PRIVATE, {"host": "192.168.0.1"}, 403),
        (PRIVATE, LOCAL | {"x-forwarded-for": "127.0.0.1"}, 403),
        (PRIVATE, LOCAL | {"x-forwarded-proto": ""}, 403),
        (PRIVATE, LOCAL | {"forwarded": "for=127.0.0.1"}, 403),
        (PRIVATE, LOCAL | {"cf-connecting-ip": "127.0.0.1"}, 403),
        (PRIVATE, LOCAL | {"via": "1.1 proxy"}, 403),
        (PRIVATE, LOCAL | BEARER, 0),
        (Access(), LOCAL, 403),
        (Access(), LOCAL | BEARER | COOKIE, 403),
        (WITH_TOKEN, LOCAL, 401),
        (attrs.evolve(WITH_TOKEN, is_private=True), LOCAL, 401),
        (WITH_TOKEN, BEARER, 0),
        (WITH_TOKEN, {"authorization": f"bearer  {TOKEN} "}, 0),
        (WITH_TOKEN, BEARER | OTHER, 0),
        (WITH_TOKEN, {"authorization": f"Basic {TOKEN}"}, 401),
        (WITH_TOKEN, {"authorization": f"Bearer {TOKEN}x"}, 401),
        (WITH_TOKEN, {"authorization": "Bearer \xff"}, 401),
        # A wrong token is not saved by a right cookie: the client means to show it.
        (WITH_TOKEN, {"authorization": "Bearer wrong"} | COOKIE, 401),
        (WITH_TOKEN, COOKIE, 0),
        (WITH_TOKEN, COOKIE | {"x-forwarded-for": "203.0.113.9"}, 0),
        (WITH_TOKEN, {"cookie": f"{SESSION_COOKIE}={TOKEN}"}, 401),
        (WITH_TOKEN, {"cookie": f"{SESSION_COOKIE}=of-another-session"}, 401),
        # The first one counts, which browsers send for the closest path.
        (WITH_TOKEN, {"cookie": f"{SESSION_COOKIE}=; {SESSION_COOKIE}={LIVE}"}, 401),
        (WITH_TOKEN, {"cookie": SESSION_COOKIE}, 401),
    ],
)
def test_who_may_look(access: Access, headers: Mapping[str, str], status: int, method: str) -> None:
    """A read is allowed to this machine without a token, and otherwise to holders of the token or of a login."""
    refused = refusal(access, method, headers, has_session=session_in(headers) == LIVE)
    assert (0 if refused is None else refused.status) == status


@pytest.mark.parametrize("method", ["POST", "DELETE", "PUT", "OPTIONS"])
@pytest.mark.parametrize(
    ("access", "headers", "status"),
    [
        (PRIVATE, LOCAL, 403),
        (PRIVATE, LOCAL | {"origin": "http://localhost:8000"}, 0),
        (PRIVATE, LOCAL | {"origin": "http://localhost:9000"}, 403),
        (PRIVATE, LOCAL | {"origin": "https://evil.example"}, 403),
        (PRIVATE, LOCAL | {"origin": "null"}, 403),
        (PRIVATE, SAME, 403),
        (WITH_TOKEN, COOKIE, 403),
        (WITH_TOKEN, COOKIE | SAME, 0),
        (WITH_TOKEN, COOKIE | OTHER, 403),
        (WITH_TOKEN, SAME, 401),
        (WITH_TOKEN, BEARER, 0),
        (WITH_TOKEN, BEARER | SAME, 0),
        (WITH_TOKEN, BEARER | OTHER, 403),
    ],
)
def test_who_may_write(access: Access, headers: Mapping[str, str], status: int, method: str) -> None:
    """A write needs an Origin equal to Host; only with the token itself it may be left out."""
    refused = refusal(access, method, headers, has_session=session_in(headers) == LIVE)
    assert (0 if refused is None else refused.status) == status


@pytest.mark.parametrize(
    ("addresses", "public", "private"),
    [
        (["127.0.0.1"], False, True),
        (["127.0.0.1", "::1"], False, True),
        (["127.0.0.1"], True, False),
        (["0.0.0.0"], False, False),
        (["::"], False, False),
        (["127.0.0.1", "10.0.0.1"], False, False),
    ],
)
def test_which_servers_are_private(addresses: list[str], *, public: bool, private: bool) -> None:
    """A server is private if all its addresses are loopback, and nothing public leads to it."""
    assert is_private(addresses, is_public=public) is private


@pytest.mark.parametrize(
    "token", ["short", "with spaces in the token", "tokén-of-16-letters", 5, "line\nbreak-of-sixteen"]
)
def test_unfit_tokens_are_refused_unseen(token: object) -> None:
    """A token that is too short or cannot stand in a header is refused, and the message does not have it."""
    with pytest.raises(ConfigurationError, match="dashboard_token must") as caught:
        checked_token(token)
    assert str(token) not in str(caught.value) or token == 5
    assert checked_token("") == ""


async def hello(request: Request) -> PlainTextResponse:
    return PlainTextResponse(f"hello {(await request.body()).decode()}")


def windows(access: Access) -> FakeCallServer:
    server = FakeCallServer()
    server.context = attrs.evolve(
        server.context, access=access, routes=[Route("/api/hello", hello, methods=["GET", "POST"])]
    )
    return server


async def asked(server: FakeCallServer, request: str) -> bytes:
    async with trio.open_nursery() as nursery:
        stream = server.open(nursery)
        await stream.send_all(request.replace("\n", "\r\n").encode())
        return await read_all(stream)


@pytest.mark.parametrize(
    ("access", "head", "status"),
    [
        (PRIVATE, "GET /api/hello HTTP/1.1\nHost: localhost\n\n", 200),
        (PRIVATE, "HEAD /api/hello HTTP/1.1\nHost: localhost\n\n", 200),
        (PRIVATE, "GET /api/hello HTTP/1.1\nHost: evil.example\n\n", 403),
        (PRIVATE, "DELETE /api/hello HTTP/1.1\nHost: localhost\nOrigin: http://localhost\n\n", 405),
        (PRIVATE, "DELETE /api/hello HTTP/1.1\nHost: evil.example\n\n", 403),
        (PRIVATE, "GET /api/other HTTP/1.1\nHost: localhost\n\n", 404),
        (WITH_TOKEN, "GET /api/hello HTTP/1.1\nHost: localhost\n\n", 401),
        (WITH_TOKEN, f"GET /api/hello HTTP/1.1\nHost: a\nAuthorization: Bearer {TOKEN}\n\n", 200),
        (Access(), "GET /health HTTP/1.1\nHost: evil.example\n\n", 200),
    ],
)
async def test_routes_of_windows_are_guarded(
    access: Access, head: str, status: int, autojump_clock: trio.testing.MockClock
) -> None:
    """The rule is applied before each route of a window, whatever its method; health is open to everybody."""
    answer = await asked(windows(access), head)
    assert answer.startswith(b"HTTP/1.1 %d " % status)
    assert b"\r\ncache-control: no-store\r\n" in answer.lower()
    if status in (401, 403):
        assert b'{"error":"' in answer
        assert (b"www-authenticate: bearer" in answer.lower()) is (status == 401)


async def test_bodies_for_windows_are_bounded(autojump_clock: trio.testing.MockClock) -> None:
    """A body for a window has the bounds of a webhook's."""
    head = "POST /api/hello HTTP/1.1\nHost: localhost\nOrigin: http://localhost\nContent-Length: {}\n\n"
    assert (await asked(windows(PRIVATE), head.format(5) + "world")).endswith(b"hello world")
    assert b" 413 " in await asked(windows(PRIVATE), head.format(65_537) + "x" * 65_537)
