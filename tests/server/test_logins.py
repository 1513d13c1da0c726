"""Logins of windows: when they and all that they have open end, and how guesses of the token are slowed down."""

from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from functools import partial
from typing import Any

import attrs
import httpx
import pytest
import trio
import trio.testing
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route
from starlette.types import Receive, Scope, Send

from patter_trio.events.feed import EventFeed
from patter_trio.events.records import EventRecorder
from patter_trio.server.access import SESSION_COOKIE, Access
from patter_trio.server.attempts import ATTEMPTS_S, DELAY_S, MAX_ATTEMPTS, MAX_PEERS, LoginAttempts
from patter_trio.server.event_streams import EventStreamResponse
from patter_trio.server.login import login_routes
from patter_trio.server.logins import SESSION_S, Logins
from tests.kit.server import FakeCallServer, read_all
from tests.server.test_windows import BEARER, TOKEN, origin_of, served

CLOCK = trio.testing.MockClock


async def log_in(client: httpx.AsyncClient) -> dict[str, str]:
    """Log in with a client of its own; return the cookie as a thief would copy it."""
    answer = await client.post("/dashboard/login", data={"token": TOKEN}, headers=origin_of(client))
    value = answer.cookies[SESSION_COOKIE]
    client.cookies.clear()
    return {"cookie": f"{SESSION_COOKIE}={value}"}


async def test_logout_ends_copies_of_the_cookie() -> None:
    """After a logout, a copy of its cookie opens nothing; another login goes on."""
    async with served(dashboard_token=TOKEN) as client:
        mine, other = await log_in(client), await log_in(client)
        assert mine != other
        assert (await client.get("/api/live", headers=mine)).status_code == 200
        left = await client.post("/dashboard/logout", headers=mine | origin_of(client))
        assert left.status_code == 303
        assert (await client.get("/api/live", headers=mine)).status_code == 401
        assert (await client.get("/api/live", headers=other)).status_code == 200


async def test_logout_of_other_sites_ends_nothing() -> None:
    """A page of another site cannot log its visitor out."""
    async with served(dashboard_token=TOKEN) as client:
        mine = await log_in(client)
        refused = await client.post("/dashboard/logout", headers=mine | {"origin": "https://evil.example"})
        assert refused.status_code == 403
        assert (await client.get("/api/live", headers=mine)).status_code == 200


async def test_logout_ends_streams_of_its_session() -> None:
    """A stream of events ends at the logout of its session; those of another login and of the token go on."""
    async with served(dashboard_token=TOKEN) as client:
        mine, other = await log_in(client), await log_in(client)
        over: list[str] = []

        async def follow(name: str, headers: dict[str, str], task_status: trio.TaskStatus[None]) -> None:
            async with client.stream("GET", "/api/live/events", headers=headers, timeout=None) as stream:
                pieces = stream.aiter_bytes()
                await anext(pieces)
                task_status.started()
                with pytest.raises(httpx.RemoteProtocolError):
                    await anext(pieces)
                over.append(name)
                logged_out.set()

        logged_out = trio.Event()
        async with trio.open_nursery() as nursery:
            for name, headers in (("other", other), ("token", BEARER), ("mine", mine)):
                await nursery.start(follow, name, headers)
            await client.post("/dashboard/logout", headers=mine | origin_of(client))
            await logged_out.wait()
            assert over == ["mine"]
            assert (await client.get("/api/live", headers=other)).status_code == 200
            nursery.cancel_scope.cancel()


class Guarded:
    """A server in virtual time with a token, a stream of events, an answer after an hour, and a body without end."""

    def __init__(self) -> None:
        feed = EventFeed(EventRecorder())

        async def events(_: Request) -> Response:
            return EventStreamResponse(partial(opened, feed))

        async def slow(_: Request) -> Response:
            await trio.sleep(3600)
            return Response("done")

        access = Access(token=TOKEN)
        self.server = FakeCallServer()
        routes = [Route("/api/events", events), Route("/api/slow", slow), Route("/api/endless", _Endless())]
        self.server.context = attrs.evolve(
            self.server.context, access=access, routes=routes, open_routes=login_routes(access)
        )
        self.logins: Logins = self.server.context.logins

    async def ask(self, nursery: trio.Nursery, path: str, session: str) -> trio.abc.Stream:
        stream = self.server.open(nursery)
        cookie = f"Cookie: {SESSION_COOKIE}={session}"
        await stream.send_all(f"GET {path} HTTP/1.1\r\nHost: localhost\r\n{cookie}\r\n\r\n".encode())
        return stream

    async def guess(self, token: str) -> tuple[int, float]:
        """Send a login; return the status of the answer, and the instant of its end."""
        async with trio.open_nursery() as nursery:
            stream, body = self.server.open(nursery), f"token={token}"
            head = f"POST /dashboard/login HTTP/1.1\r\nHost: localhost\r\nContent-Length: {len(body)}\r\n\r\n"
            await stream.send_all((head + body).encode())
            answer = await read_all(stream)
        return int(answer.split(b" ")[1]), trio.current_time()


def opened(feed: EventFeed) -> AbstractAsyncContextManager[Any]:
    @asynccontextmanager
    async def subscribed() -> AsyncIterator[Any]:
        with feed.subscribe("", size=4) as stream:
            yield stream

    return subscribed()


class _Endless:
    """An ASGI application whose answer never ends."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        del scope, receive
        await send({"type": "http.response.start", "status": 200, "headers": []})
        while True:
            await send({"type": "http.response.body", "body": b"x", "more_body": True})
            await trio.sleep(1)


@pytest.mark.parametrize("path", ["/api/events", "/api/endless"])
async def test_open_answers_end_when_sessions_expire(path: str, autojump_clock: CLOCK) -> None:
    """What was opened an hour before its session expires breaks off at that instant."""
    server = Guarded()
    session = server.logins.begin(0.0)
    await trio.sleep(SESSION_S - 3600)
    async with trio.open_nursery() as nursery:
        answer = await read_all(await server.ask(nursery, path, session))
    assert answer.startswith(b"HTTP/1.1 200 ")
    assert not answer.endswith(b"0\r\n\r\n")
    assert SESSION_S <= trio.current_time() < SESSION_S + 1


async def test_request_during_a_logout_gets_401(autojump_clock: CLOCK) -> None:
    """A request that has no answer yet when its session ends gets status 401."""
    server = Guarded()
    session = server.logins.begin(0.0)
    async with trio.open_nursery() as nursery:
        stream = await server.ask(nursery, "/api/slow", session)
        await trio.testing.wait_all_tasks_blocked()
        server.logins.end(session)
        answer = await read_all(stream)
    assert answer.startswith(b"HTTP/1.1 401 ")
    assert b"www-authenticate: bearer" in answer.lower()


async def test_sessions_are_bounded(autojump_clock: CLOCK) -> None:
    """A session lasts twelve hours; of too many the oldest ends, and expired ones take no place."""
    sessions = Logins(limit=2)
    first, second = sessions.begin(0.0), sessions.begin(1.0)
    assert sessions.live(first, SESSION_S - 1) is not None
    assert sessions.live(first, SESSION_S) is None
    assert sessions.live("", 0.0) is sessions.live("\ud800", 0.0) is None
    oldest = sessions.live(first, 1.0)
    assert oldest is not None
    with oldest.lasting() as scope:
        third = sessions.begin(2.0)
        await trio.sleep_forever()
    assert scope.cancelled_caught
    assert sessions.live(first, 2.0) is None
    assert sessions.live(third, 2.0) is not sessions.live(second, 2.0) is not None
    fourth = sessions.begin(SESSION_S + 1.5)
    assert sessions.live(third, SESSION_S + 1.5) is not None
    assert sessions.live(fourth, SESSION_S + 1.5) is not None
    assert repr(sessions) == "<Logins 2>"


async def test_parallel_guesses_all_count(autojump_clock: CLOCK) -> None:
    """Of twenty guesses at the same instant, five are compared at once, and each other one waits and gets 429."""
    server, answers = Guarded(), list[tuple[int, float]]()

    async def guess(token: str) -> None:
        answers.append(await server.guess(token))

    async with trio.open_nursery() as nursery:
        for _ in range(20):
            nursery.start_soon(guess, "guess-of-a-stranger")
    early = [status for status, at in answers if at < DELAY_S]
    late = [status for status, at in answers if at >= DELAY_S]
    assert (early, late) == ([403] * MAX_ATTEMPTS, [429] * 15)
    # Nobody is locked out: the right one waits like the others, and is taken.
    began = trio.current_time()
    status, at = await server.guess(TOKEN)
    assert (status, DELAY_S <= at - began < DELAY_S + 1) == (303, True)


async def test_right_tokens_at_once_wait_for_nothing() -> None:
    """A client that sends many requests with the right token at the same time waits for none."""
    async with served(dashboard_token=TOKEN) as client:
        statuses: list[int] = []

        async def ask() -> None:
            statuses.append((await client.get("/api/live", headers=BEARER)).status_code)

        async with trio.open_nursery() as nursery:
            for _ in range(2 * MAX_ATTEMPTS):
                nursery.start_soon(ask)
        assert statuses == [200] * 2 * MAX_ATTEMPTS
        wrong = {"authorization": "Bearer guess-of-a-stranger"}
        # None of them was counted, and the cookie's look-up does not count either.
        for _ in range(MAX_ATTEMPTS):
            assert (await client.get("/api/live", headers=wrong)).status_code == 401


def test_attempts_are_forgotten_and_bounded() -> None:
    """Wrong tokens count for a minute and by peer; the memory for peers is bounded, and the others count as one."""
    attempts = LoginAttempts()
    for _ in range(MAX_ATTEMPTS):
        assert attempts.begin("a", 0.0).delay_s == 0
    late = attempts.begin("a", ATTEMPTS_S - 1)
    assert (late.delay_s, late.is_late) == (DELAY_S, True)
    right = attempts.begin("b", 0.0)
    assert right.delay_s == 0
    right.was_right()
    assert repr(attempts) == "<LoginAttempts of 1 peers>"
    assert attempts.begin("a", ATTEMPTS_S).delay_s == 0
    # Taken back from its own minute alone.
    late.was_right()
    for _ in range(MAX_ATTEMPTS - 1):
        assert attempts.begin("a", ATTEMPTS_S).delay_s == 0
    assert attempts.begin("a", ATTEMPTS_S).delay_s == DELAY_S
    for number in range(MAX_PEERS * 2):
        attempts.begin(f"peer {number}", ATTEMPTS_S + 1)
    assert attempts.begin("somebody else", ATTEMPTS_S + 1).delay_s == DELAY_S
    assert attempts.begin("somebody else", 2 * ATTEMPTS_S + 1).delay_s == 0
