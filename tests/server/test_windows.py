"""The windows of a served phone, over loopback sockets: API, control, login, and who may look."""

import json
import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial
from typing import Any

import httpx
import pytest
import trio
import trio.testing

from patter_trio import ConfigurationError, Patter
from patter_trio.server.access import SESSION_COOKIE
from patter_trio.server.attempts import MAX_ATTEMPTS
from patter_trio.server.windows import access_of
from tests.kit.call import agent_of

TOKEN = "correct-horse-battery"
BEARER = {"authorization": f"Bearer {TOKEN}"}


@asynccontextmanager
async def served(phone: Patter | None = None, **options: Any) -> AsyncIterator[httpx.AsyncClient]:
    """Serve a phone on loopback; give a client for it."""
    async with trio.open_nursery() as nursery:
        serve = partial((phone or Patter()).serve, agent_of("Yes."), port=0, **({"dashboard": True} | options))
        host, port = await nursery.start(serve)
        async with httpx.AsyncClient(base_url=f"http://{host}:{port}") as client:
            yield client
        nursery.cancel_scope.cancel()


def origin_of(client: httpx.AsyncClient) -> dict[str, str]:
    return {"origin": str(client.base_url).rstrip("/")}


async def test_api_answers_this_machine() -> None:
    """Without a token, the live calls and the description of the API answer a client at this machine."""
    async with served() as client:
        live = await client.get("/api/live")
        assert (live.status_code, live.json()) == (200, {"calls": []})
        document = (await client.get("/api/openapi.json")).json()
        assert document["openapi"] == "3.1.0"
        assert "/api/live/{call_id}/transfer" in document["paths"]
        assert (await client.get("/api/nothing")).json() == {"error": "Not Found"}


async def test_without_a_dashboard_there_is_no_window() -> None:
    """A server without dashboard=True has none of the paths."""
    async with served(dashboard=False) as client:
        for path in ("/api/live", "/api/openapi.json", "/metrics", "/dashboard/login", "/dashboard/"):
            assert (await client.get(path)).status_code == 404


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({"host": "agent.example"}, 403),
        ({"x-forwarded-for": "127.0.0.1"}, 403),
        ({"cf-ray": "1"}, 403),
        ({}, 200),
    ],
)
async def test_strangers_are_refused(headers: dict[str, str], status: int) -> None:
    """A request that came through a proxy or names another host is refused, and told about dashboard_token."""
    async with served() as client:
        for path in ("/api/live", "/api/live/events", "/api/openapi.json"):
            if path != "/api/live/events" or status != 200:
                answer = await client.get(path, headers=headers)
                assert answer.status_code == status
                assert ("without dashboard_token=" in answer.text.lower()[:60]) is (status == 403)


@pytest.mark.parametrize("options", [{"host": "0.0.0.0"}, {}])
async def test_public_servers_show_nothing_without_a_token(
    options: dict[str, Any], caplog: pytest.LogCaptureFixture
) -> None:
    """A server on every address, or with a public URL, shows nothing without a token, and warns of it."""
    phone = Patter(webhook_url="" if options else "agent.example")
    async with served(phone, **options) as client:
        client.base_url = httpx.URL(str(client.base_url).replace("0.0.0.0", "127.0.0.1"))
        assert (await client.get("/api/live", headers={"host": "localhost"})).status_code == 403
    assert "give dashboard_token=" in caplog.text


async def test_the_token_opens_the_api() -> None:
    """With a token, the API answers those who have it, wherever they are, and nobody else."""
    async with served(dashboard_token=TOKEN) as client:
        assert (await client.get("/api/live")).status_code == 401
        assert (await client.get("/api/live", headers={"authorization": "Bearer wrong"})).status_code == 401
        assert (await client.get("/api/live", headers=BEARER | {"x-forwarded-for": "203.0.113.9"})).status_code == 200


@pytest.mark.parametrize("after", ["x", "-1", "1.5", "1" * 30])
async def test_unfit_stream_position_is_refused(after: str) -> None:
    """A position that cannot be the number of an event gets 400, instead of a stream of the wrong events."""
    async with served() as client:
        answer = await client.get(f"/api/live/events?after={after}")
        assert (answer.status_code, "after" in answer.json()["error"]) == (400, True)


@pytest.mark.parametrize(
    ("order", "body", "status"),
    [
        ("say", {"text": "hello"}, 404),
        ("say", {"text": " "}, 400),
        ("say", {"text": "x" * 5001}, 400),
        ("say", {}, 400),
        ("say", [], 400),
        ("say", {"text": 5}, 400),
        ("hang_up", {}, 404),
        ("transfer", {"to": "+15550100003"}, 404),
        ("transfer", {}, 400),
        ("text", {"text": "hello"}, 404),
    ],
)
async def test_orders_are_checked(order: str, body: Any, status: int) -> None:
    """An order with an unfit body gets 400, one for a call that is not live 404, both with the reason."""
    async with served() as client:
        answer = await client.post(f"/api/live/CA1/{order}", json=body, headers=origin_of(client))
        assert answer.status_code == status
        assert answer.json()["error"]
        if status == 404:
            assert answer.json() == {"error": "no such call is live"}


@pytest.mark.parametrize(
    ("content", "kind", "status"),
    [
        (b"{", "application/json", 400),
        (b"[" * 50_000, "application/json", 400),
        (b"\xff", "application/json", 400),
        (b'{"text": "x"}', "text/plain", 415),
        (b"text=x", "application/x-www-form-urlencoded", 415),
    ],
)
async def test_unfit_bodies_of_orders(content: bytes, kind: str, status: int) -> None:
    """A body that is not JSON is refused; a form, which a page of another site can send, is not read."""
    async with served() as client:
        headers = origin_of(client) | {"content-type": kind}
        assert (await client.post("/api/live/CA1/say", content=content, headers=headers)).status_code == status


@pytest.mark.parametrize("origin", [None, "https://evil.example", "null", "http://127.0.0.1:1"])
async def test_cross_site_orders_are_refused(origin: str | None) -> None:
    """An order without an Origin, or of a page of another site or port, is refused before anything is read."""
    async with served() as client:
        headers = {} if origin is None else {"origin": origin}
        answer = await client.post("/api/live/CA1/hang_up", headers=headers)
        assert answer.status_code == 403
        assert "Origin" in answer.json()["error"]


async def test_login_gives_a_cookie() -> None:
    """A login with the token gives a strict cookie that opens the API until the logout; it is not the token."""
    async with served(dashboard_token=TOKEN) as client:
        page = await client.get("/dashboard/login?next=/dashboard/%22%3E<script>")
        assert page.status_code == 200
        assert "<script>" not in page.text
        assert "default-src 'none'" in page.headers["content-security-policy"]
        form = {"token": TOKEN, "next": "/dashboard/calls"}
        answer = await client.post("/dashboard/login", data=form, headers=origin_of(client))
        assert (answer.status_code, answer.headers["location"]) == (303, "../dashboard/calls")
        cookie = answer.headers["set-cookie"]
        assert cookie.startswith(f"{SESSION_COOKIE}=")
        assert "HttpOnly" in cookie
        assert "SameSite=strict" in cookie
        assert "Secure" not in cookie
        assert TOKEN not in cookie
        assert (await client.get("/api/live")).status_code == 200
        assert (await client.post("/api/live/CA1/hang_up")).status_code == 403
        assert (await client.post("/api/live/CA1/hang_up", headers=origin_of(client))).status_code == 404
        assert (await client.post("/dashboard/logout")).status_code == 403
        assert (await client.post("/dashboard/logout", headers=origin_of(client))).status_code == 303
        assert (await client.get("/api/live")).status_code == 401
        tls = await client.post("/dashboard/login", data=form, headers={"x-forwarded-proto": "https"})
        assert "Secure" in tls.headers["set-cookie"]


@pytest.mark.parametrize(
    "destination",
    ["https://evil.example", "//evil.example", "/\\evil.example", "javascript:alert(1)", "", "/dash\nboard"],
)
async def test_login_leads_to_this_server_alone(destination: str) -> None:
    """A login that was made to lead to another site leads to the dashboard."""
    async with served(dashboard_token=TOKEN) as client:
        answer = await client.post("/dashboard/login", data={"token": TOKEN, "next": destination})
        assert answer.headers["location"] == "../dashboard/"


async def test_pages_lead_to_the_login() -> None:
    """A browser that asks for a page without a cookie is sent to the login; a script gets 401."""
    async with served(dashboard_token=TOKEN) as client:
        answer = await client.get("/api/live", headers={"accept": "text/html,*/*"})
        assert (answer.status_code, answer.headers["location"]) == (303, "../dashboard/login?next=%2Fapi%2Flive")
        assert (await client.get("/api/live", headers={"accept": "application/json"})).status_code == 401


async def test_wrong_tokens_are_limited(caplog: pytest.LogCaptureFixture) -> None:
    """After five wrong tokens within a minute, wrong ones get 429, and the right one is taken; no log has one."""
    caplog.set_level(logging.DEBUG, "patter_trio")
    async with served(dashboard_token=TOKEN) as client:
        for _ in range(MAX_ATTEMPTS):
            assert (await client.post("/dashboard/login", data={"token": "guess-of-a-stranger"})).status_code == 403
        limited = await client.post("/dashboard/login", data={"token": "guess-of-a-stranger"})
        assert (limited.status_code, limited.headers["retry-after"]) == (429, "60")
        right = {"token": TOKEN}
        assert (
            await client.post("/dashboard/login", data=right, headers={"origin": "https://evil.example"})
        ).status_code == 403
        # Behind a proxy, a stranger's wrong tokens come from the same address.
        assert (await client.post("/dashboard/login", data=right, headers=origin_of(client))).status_code == 303
    assert TOKEN not in caplog.text
    assert "guess-of-a-stranger" not in caplog.text


async def test_wrong_bearer_tokens_are_limited() -> None:
    """Wrong tokens as Authorization: Bearer count, too: after five of them 429, and the right one is taken."""
    async with served(dashboard_token=TOKEN) as client:
        wrong = {"authorization": "Bearer guess-of-a-stranger"}
        for _ in range(MAX_ATTEMPTS):
            assert (await client.get("/api/live", headers=wrong)).status_code == 401
        assert (await client.get("/api/live", headers=wrong)).status_code == 429
        assert (await client.get("/api/live", headers=BEARER)).status_code == 200


async def test_login_with_many_fields_is_refused(caplog: pytest.LogCaptureFixture) -> None:
    """A login with too many fields gets 400 without a traceback in the log, and counts as a wrong token."""
    async with served(dashboard_token=TOKEN) as client:
        for _ in range(MAX_ATTEMPTS):
            answer = await client.post("/dashboard/login", data={f"field{number}": "x" for number in range(11)})
            assert (answer.status_code, answer.text) == (400, "Bad Request: a login must have at most 10 fields\n")
        assert (await client.post("/dashboard/login", data={"token": "wrong"})).status_code == 429
    assert "Traceback" not in caplog.text


async def test_no_login_without_a_token() -> None:
    """Without dashboard_token, no token is right, the empty one included."""
    async with served() as client:
        assert (await client.post("/dashboard/login", data={"token": ""})).status_code == 403


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"dashboard": "yes"}, "dashboard must be True or False, got 'yes'"),
        ({"dashboard": True, "dashboard_token": "short"}, "dashboard_token must have at least 16"),
        ({"dashboard_token": TOKEN, "dashboard": False}, "dashboard_token= has no effect without dashboard=True"),
        ({"app": "app"}, "app must be an ASGI application"),
    ],
)
async def test_unfit_options_are_refused(options: dict[str, Any], message: str) -> None:
    """An unfit option is refused before the port opens, with one line that says what it must be."""
    with pytest.raises(ConfigurationError, match=message):
        await Patter().serve(agent_of("Yes."), port=0, **options)


@pytest.mark.parametrize(
    ("addresses", "webhook_url", "tunnel", "private"),
    [
        (["127.0.0.1"], "", False, True),
        (["127.0.0.1"], "http://localhost:8000", False, True),
        (["127.0.0.1"], "http://[::1]:8000", False, True),
        (["127.0.0.1"], "agent.example", False, False),
        (["127.0.0.1"], "https://agent.example", False, False),
        (["127.0.0.1"], "", True, False),
        (["0.0.0.0"], "", False, False),
    ],
)
def test_private_servers(addresses: list[str], webhook_url: str, *, tunnel: bool, private: bool) -> None:
    """A server is private on loopback, without a tunnel, and with a loopback webhook_url at most."""
    access = access_of(addresses, token="", webhook_url=webhook_url, has_tunnel=tunnel)
    assert access.is_private is private


async def test_stream_of_a_served_phone_ends_at_drain() -> None:
    """A stream of events over a real socket begins at once, and ends when the phone drains."""
    phone = Patter()
    async with served(phone) as client, client.stream("GET", "/api/live/events") as response:
        assert response.headers["content-type"].startswith("text/event-stream")
        lines = response.aiter_lines()
        assert await anext(lines) == "retry: 2000"
        await phone.drain(0)
        assert [line async for line in lines if line] == []


async def test_stream_of_an_unknown_call_is_404() -> None:
    """A stream of a call that is not live gets 404."""
    async with served() as client:
        answer = await client.get("/api/live/CA1/events")
        assert (answer.status_code, json.loads(answer.text)) == (404, {"error": "no such call is live"})
