"""The browser phone's routes over a served port: who gets the page, tickets, recordings and words about the program."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import httpx
import trio

from patter_trio import Patter
from patter_trio.phone_page.page import PhonePage
from patter_trio.server.page_calls import MAX_PAGE_CALLS
from tests.kit.call import agent_of


@asynccontextmanager
async def served(page: PhonePage, **options: str) -> AsyncIterator[httpx.AsyncClient]:
    """Serve the page on loopback; yield a browser without cookies."""
    phone = Patter(**options)
    async with trio.open_nursery() as nursery:
        with trio.fail_after(20):  # a stuck server fails the test
            host, port = await nursery.start(_serve, phone, page)
            async with httpx.AsyncClient(base_url=f"http://{host}:{port}", trust_env=False) as client:
                yield client
        nursery.cancel_scope.cancel()


async def _serve(phone: Patter, page: PhonePage, task_status: trio.TaskStatus[tuple[str, int]]) -> None:
    agent = agent_of(first_message="Hello.")
    await phone.serve(agent, 0, handle_signals=False, browser_phone=page, task_status=task_status)


def own(client: httpx.AsyncClient) -> dict[str, str]:
    return {"Origin": str(client.base_url).rstrip("/")}


async def test_page_and_its_files_are_served() -> None:
    """The page comes with its policy, its scripts and the shared style; without the slash it is found as well."""
    async with served(PhonePage("desk.py", "+15550100002")) as client:
        page = await client.get("/phone/")
        assert page.status_code == 200
        assert page.headers["content-security-policy"].startswith("default-src 'self'")
        for path in ("/phone/phone.js", "/phone/worklet.js", "/pages/base.css", "/pages/vendor/htm-preact.js"):
            assert (await client.get(path)).status_code == 200
        moved = await client.get("/phone")
        assert (moved.status_code, moved.headers["location"]) == (307, "phone/")


async def test_program_is_described(tmp_path: Path) -> None:
    """The page learns file, number and recordings, and that the program is about to be loaded anew."""
    (tmp_path / "hours.wav").write_bytes(b"RIFF")
    page = PhonePage("desk.py", "+15550100002", [tmp_path / "hours.wav", tmp_path / "gone.wav"])
    async with served(page) as client:
        told = (await client.get("/phone/program.json")).json()
        assert (told["file"], told["number"], told["reloading"]) == ("desk.py", "+15550100002", False)
        assert [one["name"] for one in told["recordings"]] == ["hours", "gone"]
        found = await client.get(f"/phone/{told['recordings'][0]['url']}")
        assert (found.status_code, found.content, found.headers["content-type"]) == (200, b"RIFF", "audio/wav")
        missing = await client.get(f"/phone/{told['recordings'][1]['url']}")
        assert (missing.status_code, "No such file" in missing.text) == (404, True)
        assert (await client.get("/phone/recordings/2.wav")).status_code == 404
        page.announce_reload()
        assert (await client.get("/phone/program.json")).json() == {**told, "reloading": True}
        assert PhonePage("desk.py").to_dict()["boot"] != told["boot"]


async def test_tickets_are_for_own_pages() -> None:
    """A POST of the page itself gets a ticket that is not stored; one of another site, or without Origin, does not."""
    async with served(PhonePage()) as client:
        for headers in ({}, {"Origin": "http://evil.test"}, {"Origin": "null"}):
            assert (await client.post("/phone/calls", headers=headers)).status_code == 403
        assert (await client.get("/phone/calls")).status_code in (404, 405)
        given = await client.post("/phone/calls", headers=own(client))
        assert (given.status_code, given.headers["cache-control"]) == (200, "no-store")
        assert sorted(given.json()) == ["call_id", "ticket"]


async def test_rebound_name_gets_nothing() -> None:
    """A request under a name that somebody else has pointed at this machine gets neither page nor ticket."""
    async with served(PhonePage()) as client:
        evil = {"Host": "evil.test", "Origin": "http://evil.test"}
        assert (await client.get("/phone/", headers=evil)).status_code == 403
        assert (await client.post("/phone/calls", headers=evil)).status_code == 403
        assert (await client.get("/phone/", headers={"X-Forwarded-For": "1.2.3.4"})).status_code == 403


async def test_public_server_shows_no_page() -> None:
    """A server to which a public URL leads shows the page to nobody, and the answer says what to do."""
    async with served(PhonePage(), webhook_url="agent.example") as client:
        answer = await client.get("/phone/")
        assert (answer.status_code, "dashboard_token" in answer.text) == (403, True)


async def test_busy_line_says_why() -> None:
    """Beyond the limit the page hears busy, with the reason in words."""
    async with served(PhonePage()) as client:
        for _ in range(MAX_PAGE_CALLS):
            assert (await client.post("/phone/calls", headers=own(client))).status_code == 200
        busy = await client.post("/phone/calls", headers=own(client))
        assert (busy.status_code, list(busy.json())) == (503, ["error"])


async def test_server_without_page_has_none() -> None:
    """Without the option there are no page, no files and no tickets."""
    phone = Patter()
    async with trio.open_nursery() as nursery:
        host, port = await nursery.start(
            lambda task_status: phone.serve(agent_of(), 0, handle_signals=False, task_status=task_status)
        )
        async with httpx.AsyncClient(base_url=f"http://{host}:{port}", trust_env=False) as client:
            for path in ("/phone/", "/pages/base.css", "/phone/program.json"):
                assert (await client.get(path)).status_code == 404
        nursery.cancel_scope.cancel()


def test_page_uses_no_absolute_paths() -> None:
    """Each script asks for paths that are relative to the page, so that the page works behind a prefix."""
    static = Path(__file__).parents[2] / "patter_trio/phone_page/static"
    lines = [line for file in static.glob("*.js") for line in file.read_text(encoding="utf-8").splitlines()]
    assert not [line for line in lines if '"/' in line or "'/" in line or "`/" in line]
