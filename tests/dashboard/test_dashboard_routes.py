"""The dashboard over a served port: who gets the pages, and what they find behind them."""

import json
import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Any

import httpx
import pytest
import trio

from patter_trio import Patter
from patter_trio.dashboard.recent_calls import MAX_ENDED_CALLS
from patter_trio.dashboard.routes import STATIC
from patter_trio.net.websocket import connect
from patter_trio.server.access import SESSION_COOKIE
from tests.kit.call import agent_of
from tests.server.test_windows import origin_of

TOKEN = "correct-horse-battery"
PAGE = {"accept": "text/html"}
PATHS = ("/dashboard/", "/dashboard/calls.js", "/dashboard/facts.json", "/pages/picture.js", "/api/calls", "/api/stats")
SCRIPTS = sorted(file.name for file in STATIC.glob("*.js"))


@asynccontextmanager
async def served(phone: Patter | None = None, **options: Any) -> AsyncIterator[httpx.AsyncClient]:
    """Serve a phone with a dashboard on loopback; yield a client without cookies."""
    async with trio.open_nursery() as nursery:
        with trio.fail_after(20):  # a stuck server fails the test
            serve = partial((phone or Patter()).serve, agent_of(), port=0, **({"dashboard": True} | options))
            host, port = await nursery.start(serve)
            async with httpx.AsyncClient(base_url=f"http://{host}:{port}", trust_env=False) as client:
                yield client
        nursery.cancel_scope.cancel()


async def test_pages_come_with_their_policy() -> None:
    """The page and each of its files come with the policy; without the slash the page is found as well."""
    async with served() as client:
        for path in PATHS:
            assert (await client.get(path)).status_code == 200
        for name in ("", "dashboard.css", *SCRIPTS):
            answer = await client.get(f"/dashboard/{name}")
            assert (answer.status_code, name) == (200, name)
            assert answer.headers["content-security-policy"].startswith("default-src 'self'")
        moved = await client.get("/dashboard")
        assert (moved.status_code, moved.headers["location"]) == (307, "dashboard/")


async def test_memory_keeps_calls_without_a_log() -> None:
    """Without a call log the page learns that the last 200 calls are kept, and the list of calls is empty."""
    async with served() as client:
        assert (await client.get("/dashboard/facts.json")).json() == {"kept": "memory", "max_calls": MAX_ENDED_CALLS}
        found = await client.post("/api/calls/search", json={"text": "hello"}, headers=origin_of(client))
        assert found.json() == {"calls": [], "next": ""}
        for path in ("/api/calls/CA1", "/api/calls/CA1/timeline", "/api/calls/CA1/timeline.svg"):
            assert (await client.get(path)).status_code == 404
        assert (await client.get("/api/calls?limit=0")).status_code == 400


async def test_log_lines_are_for_those_who_may_look() -> None:
    """The lines of the log about a call are found below it, and strangers get none."""
    async with served() as client:
        logging.getLogger("patter_trio.call").warning("call CA1: transfer failed")
        [line] = (await client.get("/api/calls/CA1/log")).json()["lines"]
        assert line["text"] == "call CA1: transfer failed"
        assert (await client.get("/api/calls/CA2/log")).json() == {"lines": []}
        assert (await client.get("/api/calls/CA1/log", headers={"host": "evil.test"})).status_code == 403


async def test_call_log_keeps_calls(tmp_path: Path) -> None:
    """With a call log the page learns that it keeps the calls, and the list is the log's."""
    async with served(Patter(persist=tmp_path / "calls.db")) as client:
        assert (await client.get("/dashboard/facts.json")).json() == {"kept": "log", "max_calls": None}
        assert (await client.get("/api/calls")).json() == {"calls": [], "next": ""}


@pytest.mark.parametrize("has_log", [False, True])
async def test_served_call_is_kept_until_deleted(tmp_path: Path, has_log: bool) -> None:
    """A call over the served port is live, then over, for the pages; deleted, its lines and picture are gone, too."""
    over = trio.Event()
    phone = Patter(persist=tmp_path / "calls.db") if has_log else Patter()
    async with served(phone, browser_phone=True, on_call_end=lambda _: over.set()) as client:
        origin = str(client.base_url).rstrip("/")
        ticket = (await client.post("/phone/calls", headers={"origin": origin})).json()
        path = f"/ws/browser/stream/{ticket['call_id']}"
        stream = await trio.open_tcp_stream(str(client.base_url.host), client.base_url.port or 80)
        socket = await connect(stream, origin.replace("http", "ws") + path, {"Origin": origin})
        await socket.send(json.dumps({"event": "start", **ticket}))
        await socket.send(json.dumps({"event": "stop"}))
        await over.wait()
        # The log's thread writes the end behind the callback.
        while not (await client.get("/api/calls?outcome=caller_hung_up")).json()["calls"]:  # noqa: ASYNC110 (same)
            await trio.sleep(0.02)
        [call] = (await client.get("/api/calls")).json()["calls"]
        assert (call["call_id"], call["outcome"]) == (ticket["call_id"], "caller_hung_up")
        timeline = (await client.get(f"/api/calls/{call['call_id']}/timeline")).json()
        assert (timeline["over"], timeline["outcome"]) == (True, "caller_hung_up")
        assert (await client.get(f"/api/calls/{call['call_id']}/timeline.svg")).text.startswith("<svg")
        logging.getLogger("patter_trio.call").warning("call %s: a callback failed", call["call_id"])
        assert (await client.get(f"/api/calls/{call['call_id']}/log")).json()["lines"]
        assert (await client.get(f"/phone/timelines/{call['call_id']}")).status_code == 200
        assert (await client.delete(f"/api/calls/{call['call_id']}", headers=origin_of(client))).status_code == 204
        assert (await client.get(f"/api/calls/{call['call_id']}/log")).json() == {"lines": []}
        assert (await client.get(f"/phone/timelines/{call['call_id']}")).status_code == 404
        await trio.aclose_forcefully(stream)


@pytest.mark.parametrize(
    "headers", [{"host": "evil.test"}, {"x-forwarded-for": "127.0.0.1"}, {"host": "evil.test", **PAGE}]
)
async def test_strangers_get_no_page(headers: dict[str, str]) -> None:
    """Without a token, a request under another name or through a proxy gets no page, no file and no call."""
    async with served() as client:
        for path in PATHS:
            assert (await client.get(path, headers=headers)).status_code == 403


async def test_wrong_tokens_open_nothing() -> None:
    """With a token, a browser is sent to the login; a script without the token or with a wrong one is refused."""
    async with served(dashboard_token=TOKEN) as client:
        sent = await client.get("/dashboard/", headers=PAGE)
        assert (sent.status_code, sent.headers["location"]) == (303, "../dashboard/login?next=%2Fdashboard%2F")
        for headers in ({}, {"authorization": "Bearer wrong-horse-battery"}, {"cookie": f"{SESSION_COOKIE}=9.9"}):
            for path in PATHS:
                # 429 after a few wrong tokens.
                assert (await client.get(path, headers=headers)).status_code in (401, 429)


async def test_login_opens_the_pages() -> None:
    """A login with the token leads back to the dashboard, whose files and calls the cookie opens."""
    async with served(dashboard_token=TOKEN) as client:
        wrong = await client.post("/dashboard/login", data={"token": "wrong-horse-battery"})
        assert wrong.status_code == 403
        right = await client.post("/dashboard/login", data={"token": TOKEN, "next": "/dashboard/"})
        assert (right.status_code, right.headers["location"]) == (303, "../dashboard/")
        for path in PATHS:
            assert (await client.get(path)).status_code == 200


async def test_deletion_is_for_own_pages() -> None:
    """A deletion without the page's own Origin is refused; with it, an unknown call is 404."""
    async with served() as client:
        for headers in ({}, {"origin": "http://evil.test"}):
            assert (await client.delete("/api/calls/CA1", headers=headers)).status_code == 403
        own = {"origin": str(client.base_url).rstrip("/")}
        assert (await client.delete("/api/calls/CA1", headers=own)).status_code == 404


async def test_without_dashboard_there_is_no_page() -> None:
    """A server without dashboard=True has no page, and the browser phone alone shows no list of calls."""
    async with served(dashboard=False, browser_phone=True) as client:
        for path in ("/dashboard/", "/dashboard/facts.json", "/api/calls"):
            assert (await client.get(path)).status_code == 404


@pytest.mark.parametrize("name", SCRIPTS)
def test_page_uses_no_absolute_paths(name: str) -> None:
    """Each script asks for paths that are relative to the page, so that the page works behind a prefix."""
    text = STATIC.joinpath(name).read_text(encoding="utf-8")
    text = text.replace('event.key !== "/"', "")
    assert not [line for line in text.splitlines() if '"/' in line or "'/" in line or "`/" in line]
