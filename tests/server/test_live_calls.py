"""The live calls of a phone as windows see and steer them, in whole simulated calls."""

import json
from datetime import datetime
from typing import Any

import attrs
import pytest
import trio

from patter_trio import CallEnded, ConfigurationError, Patter
from patter_trio.abc import EventRecord, LiveCalls
from patter_trio.pytest_plugin import CallSimulator
from patter_trio.server.access import Access
from patter_trio.server.live_api import live_routes
from patter_trio.server.live_calls import PhoneLiveCalls
from tests.kit.call import agent_of
from tests.kit.server import FakeCallServer, read_all


def live_calls(phone: Patter) -> LiveCalls:
    return PhoneLiveCalls(phone._live, phone._feed)


async def test_snapshot_shows_a_live_call(call_simulator: CallSimulator) -> None:
    """A live call is listed with its numbers, states, turns, cost and newest words, and is gone when it is over."""
    phone = Patter()
    live = live_calls(phone)
    assert live.calls() == ()
    async with call_simulator(agent_of("Yes."), phone) as caller:
        await caller.speaks("Hello?", seconds=1.0)
        await caller.hears()
        [call] = live.calls()
        assert call == live.call(call.call_id)
        assert (call.caller, call.callee, call.direction) == ("+15550100001", "+15550100002", "inbound")
        assert (call.turns, call.last_role, call.last_text) == (1, "assistant", "Yes.")
        assert (call.user_state, call.agent_state) == ("listening", "idle")
        assert call.duration_s == pytest.approx(caller.now, abs=0.1)
        assert call.cost_usd is not None
        assert call.to_dict()["call_id"] == call.call_id
        assert "+15550100001" not in repr(call)
    assert live.call(call.call_id) is None


async def test_stream_has_each_event_once(call_simulator: CallSimulator) -> None:
    """The stream of a call has its edges, turns, words and end, each once, in order and with ascending numbers."""
    phone = Patter()
    live = live_calls(phone)
    records: list[EventRecord] = []
    async with trio.open_nursery() as nursery:

        async def read(task_status: trio.TaskStatus[None]) -> None:
            async with live.subscribe() as stream:
                task_status.started()
                async for record in stream:
                    records.append(record)
                    if record["type"] == "call_ended":
                        return

        await nursery.start(read)
        async with call_simulator(agent_of("Yes."), phone) as caller:
            await caller.speaks("Hello?", seconds=1.0)
            await caller.hears()
    types = [record["type"] for record in records]
    for once in ("call_started", "user_speech_eos", "agent_speech_started", "sentence", "call_ended"):
        assert types.count(once) == 1
    assert types[0] == "call_started"
    assert types[-1] == "call_ended"
    assert types.index("user_speech_eos") < types.index("turn_started") < types.index("turn_ended")
    assert types.count("transcript_final") == 2
    assert not {"transcript", "metrics", "call_start", "call_end", "llm_chunk", "tts_chunk"} & set(types)
    assert [record["seq"] for record in records] == list(range(1, len(records) + 1))
    assert {record["call_id"] for record in records} == {records[0]["call_id"]}
    [eos] = [record for record in records if record["type"] == "user_speech_eos"]
    assert eos["at_ms"] == pytest.approx((eos["data"]["timestamp_ms"] / 1000 - unix(records[0])) * 1000, abs=60)
    ended = records[-1]["data"]
    assert ended["metrics"]["turns"][0]["user_text"] == "Hello?"


def unix(record: EventRecord) -> float:
    return datetime.fromisoformat(record["time"]).timestamp()


async def test_the_stream_of_one_call_ends(call_simulator: CallSimulator) -> None:
    """The stream of a live call ends behind call_ended; a call that is over has none."""
    phone = Patter()
    live = live_calls(phone)
    types: list[str] = []
    async with trio.open_nursery() as nursery:

        async def read(call_id: str, task_status: trio.TaskStatus[None]) -> None:
            async with live.subscribe(call_id, chunks=True) as stream:
                task_status.started()
                types.extend([record["type"] async for record in stream])

        async with call_simulator(agent_of("Yes."), phone) as caller:
            await caller.at(0.5)
            await caller.at(0.5)
            [call] = live.calls()
            await nursery.start(read, call.call_id)
            await caller.speaks("Hello?", seconds=1.0)
            await caller.hears()
    assert types[-1] == "call_ended"
    assert "llm_chunk" in types
    with pytest.raises(CallEnded, match="is not live"):
        async with live.subscribe(call.call_id):
            pass


async def test_calls_are_steered_by_id(call_simulator: CallSimulator) -> None:
    """say, send_text and hang_up reach the call with the id, and no other id."""
    phone = Patter()
    live = live_calls(phone)
    async with call_simulator(agent_of("You typed."), phone) as caller:
        await caller.at(0.5)
        [call] = live.calls()
        live.say(call.call_id, "A colleague listens.")
        assert (await caller.hears()).text == "A colleague listens."
        live.send_text(call.call_id, "Hello?")
        assert (await caller.hears()).text == "You typed."
        with pytest.raises(ConfigurationError, match="blank"):
            live.say(call.call_id, " ")
        with pytest.raises(ConfigurationError):
            await live.transfer(call.call_id, "nowhere")
        for steer in (live.hang_up, lambda id_: live.say(id_, "x"), lambda id_: live.send_text(id_, "x")):
            with pytest.raises(CallEnded, match="is not live"):
                steer("CA-other")
        live.hang_up(call.call_id)
        await trio.sleep(1)
    assert caller.outcome == "agent_hung_up"


async def asked(server: FakeCallServer, method: str, path: str, body: Any = None) -> tuple[int, Any]:
    """Send a request as a page of this machine does; return the status and the JSON of the answer."""
    data = b"" if body is None else json.dumps(body).encode()
    head = f"{method} {path} HTTP/1.1\r\nHost: localhost\r\nOrigin: http://localhost\r\n"
    head += f"Content-Type: application/json\r\nContent-Length: {len(data)}\r\n\r\n"
    async with trio.open_nursery() as nursery:
        stream = server.open(nursery)
        await stream.send_all(head.encode() + data)
        answer = await read_all(stream)
        await stream.aclose()
    return int(answer.split(b" ")[1]), json.loads(answer.partition(b"\r\n\r\n")[2])


async def test_calls_are_steered_over_http(call_simulator: CallSimulator) -> None:
    """The API lists a live call and carries orders to it; the call does what they say."""
    phone = Patter()
    server = FakeCallServer()
    routes = live_routes(live_calls(phone))
    server.context = attrs.evolve(server.context, access=Access(is_private=True), routes=routes)
    async with call_simulator(agent_of("You typed."), phone) as caller:
        await caller.at(0.5)
        status, listed = await asked(server, "GET", "/api/live")
        [call] = listed["calls"]
        assert (status, call["caller"], call["direction"]) == (200, "+15550100001", "inbound")
        path = f"/api/live/{call['call_id']}"
        assert await asked(server, "POST", f"{path}/say", {"text": "A colleague listens."}) == (
            202,
            {"call_id": call["call_id"]},
        )
        assert (await caller.hears()).text == "A colleague listens."
        assert (await asked(server, "POST", f"{path}/text", {"text": "Hello?"}))[0] == 202
        assert (await caller.hears()).text == "You typed."
        assert (await asked(server, "POST", f"{path}/transfer", {"to": "nowhere"}))[0] == 400
        assert (await asked(server, "POST", f"{path}/hang_up"))[0] == 202
        await trio.sleep(1)
        assert await asked(server, "GET", "/api/live") == (200, {"calls": []})
        assert (await asked(server, "POST", f"{path}/hang_up"))[0] == 404
    assert caller.outcome == "agent_hung_up"


async def test_a_transfer_is_ordered_over_http(call_simulator: CallSimulator) -> None:
    """A transfer over the API connects the caller; a second one while it is under way gets 409."""
    phone = Patter()
    server = FakeCallServer()
    routes = live_routes(live_calls(phone))
    server.context = attrs.evolve(server.context, access=Access(is_private=True), routes=routes)
    async with call_simulator(agent_of("One moment."), phone) as caller:
        await caller.speaks("A person, please.", seconds=1.0)
        await trio.sleep(0.8)
        [call] = (await asked(server, "GET", "/api/live"))[1]["calls"]
        path = f"/api/live/{call['call_id']}/transfer"
        assert (await asked(server, "POST", path, {"to": "+15550100003"}))[0] == 202
        assert (await asked(server, "POST", path, {"to": "+15550100004"}))[0] == 409
        await trio.sleep(5)
    assert caller.transferred_to == "+15550100003"
