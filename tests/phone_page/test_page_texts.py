"""Calls in text that a page holds, over a served port: the stream, the ticket, and what a page can do wrong."""

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial
from typing import Any

import attrs
import httpx
import trio

from patter_trio import Patter, PatterError
from patter_trio.abc import EventRecord
from patter_trio.phone_page.text_calls import MAX_TEXT_CALLS, TextCallsOfPages
from patter_trio.testing import ScriptedLLM
from tests.kit.call import agent_of


@attrs.define(eq=False)
class Desk:
    """A served agent, a browser, and the ends of its calls."""

    phone: Patter
    client: httpx.AsyncClient
    ends: list[dict[str, Any]] = attrs.field(factory=list)
    ended: trio.Event = attrs.field(factory=trio.Event)

    def on_call_end(self, event: dict[str, Any]) -> None:
        self.ends.append(event)
        self.ended.set()

    @property
    def own(self) -> dict[str, str]:
        return {"Origin": str(self.client.base_url).rstrip("/")}

    @asynccontextmanager
    async def chat(self) -> AsyncIterator["Chat"]:
        """Begin a call over a socket of its own; leaving the block closes the page."""
        url = self.client.base_url
        async with await trio.open_tcp_stream(url.host, url.port or 80) as stream:
            head = f"POST /phone/texts HTTP/1.1\r\nHost: {url.host}:{url.port}\r\nOrigin: {self.own['Origin']}\r\n"
            await stream.send_all(f"{head}Content-Length: 0\r\n\r\n".encode())
            yield Chat(self, stream)


@attrs.define(eq=False)
class Chat:
    """A page's side of a call."""

    desk: Desk
    stream: trio.SocketStream
    received: bytes = b""
    ticket: dict[str, str] = attrs.field(factory=dict)

    async def next(self) -> EventRecord:
        """Return the next event."""
        while True:
            lines = self.received.split(b"\n")
            for place, line in enumerate(lines[:-1]):
                if line.startswith(b"data: "):
                    self.received = b"\n".join(lines[place + 1 :])
                    record: EventRecord = json.loads(line.removeprefix(b"data: "))
                    return record
            data = await self.stream.receive_some()
            assert data, "the stream is over"
            self.received += data

    async def until(self, kind: str, **wanted: Any) -> dict[str, Any]:
        """Read events until one of a type with this data, and return its data."""
        while True:
            record = await self.next()
            if record["type"] == "ticket":
                self.ticket = record["data"]
            if record["type"] == kind and wanted.items() <= record["data"].items():
                return record["data"]

    async def send(self, **body: Any) -> httpx.Response:
        body.setdefault("ticket", self.ticket["ticket"])
        return await self.desk.client.post(f"/phone/texts/{self.ticket['call_id']}", headers=self.desk.own, json=body)


@asynccontextmanager
async def served(**options: Any) -> AsyncIterator[Desk]:
    phone = Patter()
    agent = agent_of(llm=ScriptedLLM(["We open at nine."] * 9), first_message="Hello.", **options)
    with trio.fail_after(20):  # a stuck stream fails the test
        async with trio.open_nursery() as nursery:
            client = httpx.AsyncClient(trust_env=False)
            desk = Desk(phone, client)
            options = {"handle_signals": False, "browser_phone": True, "on_call_end": desk.on_call_end}
            host, port = await nursery.start(partial(phone.serve, agent, 0, **options))
            client.base_url = httpx.URL(f"http://{host}:{port}")
            async with client:
                yield desk
            nursery.cancel_scope.cancel()


async def test_page_holds_a_call_in_text() -> None:
    """A page types, reads the answer, presses a key and hangs up; the picture has all of it, at growing instants."""
    async with served() as desk, desk.chat() as chat:
        await chat.until("agent_text", text="Hello.")
        assert (await chat.send(text="When <b>do</b> you open?")).status_code == 202
        await chat.until("transcript_final", role="user", text="When <b>do</b> you open?")
        await chat.until("agent_text", text="We open at nine.")
        assert (await chat.send(keys="5")).status_code == 202
        await chat.until("dtmf_received", digit="5")
        assert (await chat.send(hang_up=True)).status_code == 202
        await chat.until("call_ended", outcome="caller_hung_up")
        timeline = (await desk.client.get(f"/phone/timelines/{chat.ticket['call_id']}")).json()
    said = [(one["lane"], one["text"]) for one in timeline["words"]]
    assert said[:3] == [("agent", "Hello."), ("caller", "When <b>do</b> you open?"), ("agent", "We open at nine.")]
    assert [mark["kind"] for mark in timeline["marks"]] == ["key", "hang_up"]
    starts = [one["start_ms"] for one in timeline["words"]]
    assert starts == sorted(starts)
    assert timeline["duration_ms"] > 0
    assert timeline["over"] is True


async def test_closed_page_hangs_up() -> None:
    """A page that is closed in mid-call hangs up, and on_call_end comes."""
    async with served() as desk:
        async with desk.chat() as chat:
            await chat.until("agent_text")
            assert len(desk.phone.calls) == 1
        await desk.ended.wait()
        assert [end["outcome"] for end in desk.ends] == ["caller_hung_up"]
        assert (await chat.send(text="Hello?")).status_code == 404


async def test_polite_end_reaches_the_page() -> None:
    """When the agent hangs up, as before a reload, the page gets the end of the call, and its stream is over."""
    async with served() as desk, desk.chat() as chat:
        await chat.until("agent_text")
        for call in desk.phone.calls:
            call.hang_up()
        await chat.until("call_ended", outcome="agent_hung_up")
        await desk.ended.wait()
        while await chat.stream.receive_some():
            pass
        assert desk.phone.calls == ()


async def test_strangers_type_nothing() -> None:
    """Another site begins no call and types in none; a wrong, foreign or missing ticket reaches no call."""
    async with served() as desk, desk.chat() as first, desk.chat() as second:
        await first.until("agent_text")
        await second.until("agent_text")
        for headers in ({}, {"Origin": "http://evil.test"}, {"Origin": "null"}):
            assert (await desk.client.post("/phone/texts", headers=headers)).status_code == 403
            path = f"/phone/texts/{first.ticket['call_id']}"
            body = {"ticket": first.ticket["ticket"], "text": "mine"}
            assert (await desk.client.post(path, headers=headers, json=body)).status_code == 403
        for ticket in ("", "ü", second.ticket["ticket"], None):
            assert (await first.send(ticket=ticket, text="theirs")).status_code == 404
        assert [call.turn_idx for call in desk.phone.calls] == [0, 0]
        unknown = await desk.client.post("/phone/texts/text-1", headers=desk.own, json={"ticket": "", "text": "x"})
        assert unknown.status_code == 404


async def test_wrong_requests_get_words() -> None:
    """A malformed order gets status 400 with the reason, and the call goes on."""
    bodies = (b"", b"[]", b'"text"', b"{", b"[" * 5000, b"\xff")
    orders = ({"text": 1}, {"text": " "}, {"text": "x" * 10_001}, {"keys": "x"}, {"keys": ""}, {"hang_up": "no"}, {})
    async with served() as desk, desk.chat() as chat:
        await chat.until("agent_text")
        path = f"/phone/texts/{chat.ticket['call_id']}"
        answers = [await desk.client.post(path, headers=desk.own, content=body) for body in bodies]
        answers += [await chat.send(**order) for order in orders]
        assert [answer.status_code for answer in answers] == [400] * len(answers)
        assert all("must" in answer.text for answer in answers)
        # A lone surrogate is valid JSON, and no text.
        lone = b'{"ticket": "\\ud800", "text": "x"}'
        assert (await desk.client.post(path, headers=desk.own, content=lone)).status_code == 404
        assert (await chat.send(text="Still there?")).status_code == 202
        await chat.until("agent_text", text="We open at nine.")


async def test_call_places_others_by_the_carrier() -> None:
    """A call in text does not take the place of the server that places calls."""
    async with served() as desk, desk.chat() as chat:
        before = desk.phone._call_servers[-1]
        await chat.until("agent_text")
        assert len(desk.phone._call_servers) == 3
        assert desk.phone._call_servers[-1] is before


class _Refusing:
    """Calls of which none can begin."""

    async def __aenter__(self) -> Any:
        raise PatterError("the model has no key")

    async def __aexit__(self, *_: object) -> None:
        """Do nothing: no call was held."""


async def test_call_that_cannot_begin_says_why() -> None:
    """A page whose call cannot begin gets the reason as its only event."""
    texts = TextCallsOfPages(_Refusing)
    async with texts.held() as events:
        [record] = [record async for record in events]
    assert (record["type"], record["data"]) == ("refused", {"error": "the model has no key"})
    assert repr(texts) == f"<TextCallsOfPages 0 of {MAX_TEXT_CALLS}>"


async def test_calls_in_text_are_bounded() -> None:
    """Beyond the limit a page hears why, and a call that ends makes room."""
    texts = TextCallsOfPages(_Refusing)
    async with trio.open_nursery() as nursery:
        for _ in range(MAX_TEXT_CALLS):
            await nursery.start(_hold, texts)
        assert texts.refusal() == f"{MAX_TEXT_CALLS} calls in text go on"
        # A request that was let in when there was room, while others were let in.
        async with texts.held() as events:
            [record] = [record async for record in events]
        assert (record["type"], record["data"]) == ("refused", {"error": f"{MAX_TEXT_CALLS} calls in text go on"})
        nursery.cancel_scope.cancel()
    assert texts.refusal() == ""


async def _hold(texts: TextCallsOfPages, task_status: trio.TaskStatus[None]) -> None:
    async with texts.held():
        task_status.started()
        await trio.sleep_forever()
