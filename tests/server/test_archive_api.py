"""The HTTP API of logged calls, over loopback sockets: search, one call, its recording, figures, export, deletion."""

import csv
import io
import json
from collections.abc import AsyncIterator, Mapping
from contextlib import aclosing, asynccontextmanager
from pathlib import Path
from typing import Any, cast

import attrs
import pytest
import trio
import trio.testing

from patter_trio import Patter
from patter_trio.abc import CallArchive, CallQuery
from patter_trio.audio.wav import write_wav
from patter_trio.call_log.entries import RecordingMade
from patter_trio.server.access import Access
from patter_trio.server.archive_api import archive_routes
from patter_trio.server.openapi import archive_paths
from tests.kit.call_logs import EPOCH, OpenLog, metrics
from tests.kit.cli import sound
from tests.kit.server import FakeCallServer, read_all
from tests.server.test_windows import origin_of, served


@pytest.fixture
def phone(tmp_path: Path) -> Patter:
    """A phone whose log has three calls of three hours, the first with a recording."""
    log = OpenLog(str(tmp_path / "patter.db"))
    e = log.events
    for number, text in enumerate(("Do you open on Sunday?", "<script>alert(1)</script>", "=1+1"), 1):
        call_id, at = f"CA{number}", number * 3600.0
        log.store.write(
            [e.started(call_id, at), e.said(call_id, text, at=at), e.measured(call_id, 1, 100.0 * number, at)]
        )
        entry = {"role": "user", "text": text, "timestamp": EPOCH + at}
        log.store.write([e.ended(call_id, at + 9, transcript=[entry], metrics=metrics(9.0, cost=0.1 * number))])
    recording = tmp_path / "CA1.wav"
    recording.write_bytes(write_wav([sound(), sound()]))
    log.store.write([RecordingMade("CA1", str(recording))])
    log.store.close()
    return Patter(persist=tmp_path)


async def test_calls_are_listed_and_paged(phone: Patter) -> None:
    """Outcome, times, cost and duration restrict the list; a cursor leads to the next page."""
    async with served(phone) as client:
        for query, found in (
            ("", ["CA3", "CA2", "CA1"]),
            ("outcome=caller_hung_up", ["CA3", "CA2", "CA1"]),
            ("outcome=busy", []),
            ("since=2026-01-31T11:00:00Z&until=2026-01-31T12:00:00%2B00:00", ["CA2"]),
            ("since=2026-01-31T12:00:00+00:00", ["CA3"]),
            ("min_cost=0.15&min_duration=9", ["CA3", "CA2"]),
        ):
            answer = await client.get(f"/api/calls?{query}")
            assert [call["call_id"] for call in answer.json()["calls"]] == found, query
        page = (await client.get("/api/calls?limit=2")).json()
        assert [call["call_id"] for call in page["calls"]] == ["CA3", "CA2"]
        rest = (await client.get(f"/api/calls?limit=2&cursor={page['next']}")).json()
        assert ([call["call_id"] for call in rest["calls"]], rest["next"]) == (["CA1"], "")


async def test_calls_are_searched_by_a_body(phone: Patter) -> None:
    """A body has each filter of the list, and words and numbers; its cursor is a number of rows, without words."""
    async with served(phone) as client:
        for body, found in (
            ({}, ["CA3", "CA2", "CA1"]),
            ({"text": "sunday op"}, ["CA1"]),
            ({"number": "5550100001", "outcome": "caller_hung_up"}, ["CA3", "CA2", "CA1"]),
            ({"text": "", "number": None, "outcome": "busy"}, []),
            ({"since": "2026-01-31T11:00:00Z", "until": "2026-01-31T12:00:00+00:00"}, ["CA2"]),
            ({"min_cost": 0.15, "min_duration": 9}, ["CA3", "CA2"]),
        ):
            answer = await client.post("/api/calls/search", json=body, headers=origin_of(client))
            assert [call["call_id"] for call in answer.json()["calls"]] == found, body
        body = {"number": "5550100001", "limit": 2}
        page = (await client.post("/api/calls/search", json=body, headers=origin_of(client))).json()
        assert [call["call_id"] for call in page["calls"]] == ["CA3", "CA2"]
        assert page["next"].isdecimal()
        assert "555" not in page["next"]
        body = {**body, "cursor": page["next"]}
        rest = (await client.post("/api/calls/search", json=body, headers=origin_of(client))).json()
        assert ([call["call_id"] for call in rest["calls"]], rest["next"]) == (["CA1"], "")


@pytest.mark.parametrize("path", ["/api/calls", "/api/export.json", "/api/export.csv", "/api/stats"])
@pytest.mark.parametrize("name", ["q", "text", "number"])
async def test_words_and_numbers_in_urls_are_refused(phone: Patter, path: str, name: str) -> None:
    """Words or a number in a URL get 400 instead of all calls, and the answer names the body that takes them."""
    async with served(phone) as client:
        answer = await client.get(f"{path}?{name}=sunday")
        assert answer.status_code == 400
        assert "/api/calls/search" in answer.json()["error"]
        assert "sunday" not in answer.text


@pytest.mark.parametrize("path", ["/api/calls/search", "/api/export.json", "/api/export.csv"])
@pytest.mark.parametrize("query", ["text=sunday", "number=555", "outcome=failed"])
async def test_filters_behind_a_posted_url_are_refused(phone: Patter, path: str, query: str) -> None:
    """A search whose filters stand in its URL and not in its body gets 400: ignored, they would give all calls."""
    async with served(phone) as client:
        answer = await client.post(f"{path}?{query}", json={}, headers=origin_of(client))
        assert answer.status_code == 400
        assert "must stand in" in answer.json()["error"]
        assert query.partition("=")[2] not in answer.text


@pytest.mark.parametrize(
    "query",
    [
        *("limit=0", "limit=501", "limit=x", "cursor=x", "cursor=-1", "since=now"),
        *("min_cost=nan", "min_cost=1e30", "min_duration=-1", "outcome=nonsense"),
        # Ignored, they would give all calls.
        *("outcom=failed", "caller=Ann"),
    ],
)
async def test_wrong_question_is_answered_with_400(phone: Patter, query: str) -> None:
    """A parameter that is not valid is named in the answer."""
    async with served(phone) as client:
        answer = await client.get(f"/api/calls?{query}")
        assert answer.status_code == 400
        assert query.partition("=")[0] in answer.json()["error"]


@pytest.mark.parametrize(
    ("content", "status", "named"),
    [
        ('{"limit": 0}', 400, "limit"),
        ('{"limit": 2.5}', 400, "limit"),
        ('{"limit": true}', 400, "limit"),
        ('{"limit": "2"}', 400, "limit"),
        ('{"text": 5}', 400, "text"),
        ('{"text": ["sunday"]}', 400, "text"),
        (json.dumps({"text": "x" * 1001}), 400, "text"),
        ('{"number": 15550100001}', 400, "number"),
        ('{"cursor": "sunday"}', 400, "cursor"),
        ('{"since": "now"}', 400, "since"),
        ('{"min_cost": NaN}', 400, "min_cost"),
        ('{"min_duration": "9"}', 400, "min_duration"),
        ('{"min_duration": -0.5}', 400, "min_duration"),
        ('{"outcome": "nonsense"}', 400, "outcome"),
        ('{"q": "sunday"}', 400, "q"),
        ("[]", 400, "object"),
        ("{", 400, "JSON"),
    ],
)
async def test_unfit_search_is_answered_with_400(phone: Patter, content: str, status: int, named: str) -> None:
    """A field of a search that is unknown or has a wrong type or value is named in the answer."""
    async with served(phone) as client:
        headers = origin_of(client) | {"content-type": "application/json"}
        answer = await client.post("/api/calls/search", content=content, headers=headers)
        assert answer.status_code == status
        assert named in answer.json()["error"]


async def test_other_sites_search_nothing(phone: Patter) -> None:
    """A page of another site cannot search."""
    async with served(phone) as client:
        headers = {"origin": "https://evil.example"}
        assert (await client.post("/api/calls/search", json={}, headers=headers)).status_code == 403


async def test_one_call_is_read_whole(phone: Patter) -> None:
    """A call has its transcript, metrics, events and timeline; an unknown one is 404 everywhere."""
    async with served(phone) as client:
        call = (await client.get("/api/calls/CA1")).json()
        assert call["transcript"][0]["text"] == "Do you open on Sunday?"
        assert call["metrics"]["cost"]["total"] == 0.1
        events = (await client.get("/api/calls/CA1/events")).json()["events"]
        assert [event["type"] for event in events][::3] == ["call_started", "call_ended"]
        later = (await client.get(f"/api/calls/CA1/events?after={events[-2]['seq']}")).json()["events"]
        assert later == events[-1:]
        assert (await client.get(f"/api/calls/CA1/events?after={events[-1]['seq']}")).json() == {"events": []}
        assert (await client.get("/api/calls/CA1/timeline")).json()["call_id"] == "CA1"
        for path in ("", "/events", "/timeline", "/timeline.svg", "/peaks", "/recording.wav"):
            unknown = await client.get(f"/api/calls/CA9{path}")
            assert (unknown.status_code, unknown.json()["error"]) == (404, "no such call is in the log"), path
        assert "no recording" in (await client.get("/api/calls/CA2/recording.wav")).json()["error"]


async def test_half_a_character_hides_no_call(phone: Patter, tmp_path: Path) -> None:
    """A call in whose words, arguments or parameters an emoji was cut in two is listed, shown and exported."""
    half = "caf\u00e9 \ud83d"
    log = OpenLog(str(tmp_path / "patter.db"))
    e = log.events
    log.store.write(
        [
            e.started("CA9", 9.0, caller=half, custom_params={half: half}),
            e.said("CA9", half),
            e.event("CA9", "tool_call_started", name="find", arguments={half: half}),
        ]
    )
    log.store.close()
    one = "/api/calls/CA9"
    async with served(phone) as client:
        for path in ("/api/calls", one, f"{one}/events", f"{one}/timeline", f"{one}/timeline.svg", "/api/export.json"):
            answer = await client.get(path)
            assert answer.status_code == 200, path
            assert "caf\u00e9" in answer.text, path


async def test_picture_of_a_call_runs_no_script(phone: Patter) -> None:
    """A caller's markup is text in the SVG, which may run no scripts besides."""
    async with served(phone) as client:
        answer = await client.get("/api/calls/CA2/timeline.svg")
        assert answer.headers["content-type"].startswith("image/svg+xml")
        assert answer.headers["content-security-policy"] == "sandbox"
        assert "<script" not in answer.text


async def test_recording_is_sent_by_ranges(phone: Patter, tmp_path: Path) -> None:
    """A player gets the part of the WAV that it asks for, and the waveform as peaks."""
    whole = (tmp_path / "CA1.wav").read_bytes()
    async with served(phone) as client:
        assert (await client.get("/api/calls/CA1/recording.wav")).content == whole
        part = await client.get("/api/calls/CA1/recording.wav", headers={"range": "bytes=44-143"})
        assert (part.status_code, part.content) == (206, whole[44:144])
        assert part.headers["content-range"] == f"bytes 44-143/{len(whole)}"
        beyond = await client.get("/api/calls/CA1/recording.wav", headers={"range": "bytes=9999999-"})
        assert beyond.status_code == 416
        assert max((await client.get("/api/calls/CA1/peaks")).json()["caller"]) > 0
        (tmp_path / "CA1.wav").unlink()
        assert (await client.get("/api/calls/CA1/recording.wav")).status_code == 404


async def test_figures_and_exports(phone: Patter) -> None:
    """Figures by day have interpolated percentiles; exports have each call, guarded against formulas."""
    async with served(phone) as client:
        (day,) = (await client.get("/api/stats?by=day")).json()["days"]
        assert (day["day"], day["calls"], day["outcomes"]) == ("2026-01-31", 3, {"caller_hung_up": 3})
        assert (day["answer_p50_ms"], day["answer_p95_ms"]) == (200.0, 290.0)
        assert day["cost_usd"] == pytest.approx(0.6)
        assert (await client.get("/api/stats?by=week")).status_code == 400
        assert (await client.get("/api/stats?sinc=2026-01-31")).status_code == 400
        exported = await client.post("/api/export.json", json={"text": "sunday"}, headers=origin_of(client))
        assert [call["call_id"] for call in json.loads(exported.text)] == ["CA1"]
        refused = await client.post("/api/export.csv", json={"words": "sunday"}, headers=origin_of(client))
        assert refused.status_code == 400
        table = await client.get("/api/export.csv")
        rows = list(csv.DictReader(io.StringIO(table.text, newline="")))
        assert [row["call_id"] for row in rows] == ["CA3", "CA2", "CA1"]
        assert 'filename="calls.csv"' in table.headers["content-disposition"]
        assert json.loads((await client.get("/api/export.json?outcome=busy")).text) == []


class Exports:
    """A server whose exports have a call each second, for ever; ``open`` is how many are being read."""

    def __init__(self) -> None:
        self.open: int = 0
        self.server = FakeCallServer()
        # The routes of exports use nothing else of an archive.
        routes = archive_routes(cast("CallArchive", self))
        self.server.context = attrs.evolve(self.server.context, access=Access(is_private=True), routes=routes)

    @asynccontextmanager
    async def export(self, query: CallQuery) -> AsyncIterator[AsyncIterator[Mapping[str, Any]]]:
        async def calls() -> AsyncIterator[Mapping[str, Any]]:
            while True:
                yield {"call_id": "CA1"}
                await trio.sleep(1)

        self.open += 1
        try:
            async with aclosing(calls()) as found:
                yield found
        finally:
            self.open -= 1

    async def ask(self, nursery: trio.Nursery, method: str = "GET", head: str = "") -> trio.abc.Stream:
        stream = self.server.open(nursery)
        await stream.send_all(f"{method} /api/export.json HTTP/1.1\r\nHost: localhost\r\n{head}\r\n".encode())
        await trio.testing.wait_all_tasks_blocked()
        return stream


async def test_export_ends_with_its_client(autojump_clock: trio.testing.MockClock) -> None:
    """An export is no longer read once its client has left; two may go on, and a third gets 503 meanwhile."""
    exports = Exports()
    async with trio.open_nursery() as nursery:
        first, second = await exports.ask(nursery), await exports.ask(nursery)
        assert exports.open == 2
        refused = (await read_all(await exports.ask(nursery))).lower()
        assert refused.startswith(b"http/1.1 503 ")
        assert b"retry-after: 5" in refused
        assert b"2 exports are going on" in refused
        await first.aclose()
        await trio.testing.wait_all_tasks_blocked()
        assert exports.open == 1
        third = await exports.ask(nursery)
        assert exports.open == 2
        for stream in (second, third):
            await stream.aclose()
    assert exports.open == 0


async def test_head_of_an_export_reads_nothing(autojump_clock: trio.testing.MockClock) -> None:
    """HEAD has the type of an export, and ends without reading a call."""
    exports = Exports()
    async with trio.open_nursery() as nursery:
        answer = await read_all(await exports.ask(nursery, "HEAD"))
    assert answer.startswith(b"HTTP/1.1 200 ")
    assert b"application/json" in answer
    assert trio.current_time() <= 0.5


async def test_other_sites_start_no_export(autojump_clock: trio.testing.MockClock) -> None:
    """A page of another site that lets its visitor's browser ask for an export gets 403."""
    exports = Exports()
    async with trio.open_nursery() as nursery:
        answer = await read_all(await exports.ask(nursery, head="Sec-Fetch-Site: cross-site\r\n"))
    assert answer.startswith(b"HTTP/1.1 403 ")


async def test_call_is_deleted_by_its_own_page_alone(phone: Patter, tmp_path: Path) -> None:
    """A page of another site cannot delete; ours can, once, and the recording goes with the call."""
    async with served(phone) as client:
        assert (await client.delete("/api/calls/CA1", headers={"origin": "http://evil.example"})).status_code == 403
        assert (await client.delete("/api/calls/CA1")).status_code == 403
        assert (await client.delete("/api/calls/CA1", headers=origin_of(client))).status_code == 204
        assert (await client.delete("/api/calls/CA1", headers=origin_of(client))).status_code == 404
        assert not (tmp_path / "CA1.wav").exists()


async def test_log_that_cannot_be_read_is_503(phone: Patter, tmp_path: Path) -> None:
    """While the database is away, each route says so, and none fails in another way."""
    async with served(phone) as client:
        (tmp_path / "patter.db").unlink()
        for path in ("/api/calls", "/api/calls/CA1", "/api/stats", "/api/export.json", "/api/export.csv"):
            answer = await client.get(path)
            assert answer.status_code == 503, path
            assert "does not exist" in answer.json()["error"]


async def test_each_route_is_described(phone: Patter) -> None:
    """The description of the API names the routes that answer, and no others."""
    async with served(phone) as client:
        described = (await client.get("/api/openapi.json")).json()["paths"]
        assert set(archive_paths()) <= set(described)
        for path, methods in archive_paths().items():
            if "get" in methods:
                assert (await client.get(path.format(call_id="CA1"))).status_code == 200, path
            if "post" in methods:
                assert (await client.post(path, json={}, headers=origin_of(client))).status_code == 200, path


async def test_without_windows_no_route_is_there() -> None:
    """A server without dashboard= has none of these routes."""
    async with served(dashboard=False) as client:
        assert (await client.get("/api/calls")).status_code == 404
