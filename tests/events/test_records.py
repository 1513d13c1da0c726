"""Records of events: one for each event, in one numbering, as JSON, and none while nobody wants them."""

import enum
import gc
import json
import sys
from typing import Any

import attrs
import pytest
import trio
from hypothesis import given
from hypothesis import strategies as st

from patter_trio import Patter, tool
from patter_trio.abc import EventRecord
from patter_trio.events.payloads import EDGES
from patter_trio.events.plain import MAX_CHARACTERS, MAX_DEPTH, MAX_INT_BITS, MAX_ITEMS, plain
from patter_trio.events.records import EventRecorder, record_of
from patter_trio.metrics.internal_events import CostKnown, LlmChunk
from patter_trio.pytest_plugin import CallSimulator
from patter_trio.testing import ScriptedLLM, tool_call
from patter_trio.timeline.observed import OBSERVED
from tests.kit.call import agent_of


@attrs.define
class Kept:
    """A receiver that keeps what it gets."""

    chunks: bool = False
    records: list[EventRecord] = attrs.field(factory=list)

    def wants(self, kind: type[Any]) -> bool:
        return self.chunks or kind is not LlmChunk

    def take(self, record: EventRecord) -> None:
        self.records.append(record)

    def types(self) -> list[str]:
        return [record["type"] for record in self.records]


@attrs.frozen
class Odd:
    """A value of an application's that has no JSON."""

    name: str = "odd"


class Colour(enum.StrEnum):
    RED = "red"


class Broken:
    def __repr__(self) -> str:
        raise LookupError("broken")


@tool
async def look(where: str) -> dict[str, Any]:
    """Look something up."""
    return {"where": where, "found": Odd(), "colour": Colour.RED}


async def test_each_event_has_one_record(call_simulator: CallSimulator) -> None:
    """Records are numbered from 1, have the instants and payloads of the events, and are JSON; edges are among them."""
    phone, kept = Patter(), Kept()
    phone._recorder.add(kept)
    agent = agent_of(llm=ScriptedLLM([[tool_call("look", where="here")], "It is there."]), tools=[look])
    async with call_simulator(agent, phone=phone) as caller:
        await caller.speaks("Where is it?", seconds=1.0)
        await caller.hears()
    assert [record["seq"] for record in kept.records] == list(range(1, len(kept.records) + 1))
    assert {record["call_id"] for record in kept.records} == {caller.payloads("call_start")[0]["call_id"]}
    published = [
        name for _, name, _ in caller.events if name not in ("transcript", "metrics", "dtmf", "call_start", "call_end")
    ]
    on_bus = [kind for kind in kept.types() if kind not in OBSERVED]
    assert sorted(on_bus) == sorted(name for name in published if name not in ("tts_chunk", "llm_chunk"))
    assert set(EDGES) <= set(kept.types())
    assert kept.types()[0] == "call_started"
    assert kept.types()[-1] == "call_ended"
    assert json.loads(json.dumps(kept.records)) == kept.records
    done = next(record for record in kept.records if record["type"] == "tool_call_completed")
    assert done["data"]["result"] == {"where": "here", "found": repr(Odd()), "colour": "red"}


async def test_instants_are_call_time_and_utc(call_simulator: CallSimulator) -> None:
    """at_ms counts from the begin of the media; time is the wall clock's, in UTC."""
    phone, kept = Patter(), Kept()
    phone._recorder.add(kept)
    async with call_simulator(agent_of(first_message=""), phone=phone) as caller:
        await caller.waits(1.0)
        await caller.speaks("Hi", seconds=0.5)
        await caller.hears()
    started = next(record for record in kept.records if record["type"] == "user_speech_started")
    ended = next(record for record in kept.records if record["type"] == "user_speech_ended")
    assert ended["at_ms"] > started["at_ms"] >= 1000.0
    assert started["time"].startswith("2023-11-14T22:13:2")
    assert started["time"].endswith("Z")


async def test_transcripts_leave_the_history_out(call_simulator: CallSimulator) -> None:
    """A transcript's record has its own words, and not once more all words before."""
    phone, kept = Patter(), Kept()
    phone._recorder.add(kept)
    async with call_simulator(agent_of("Yes."), phone=phone) as caller:
        await caller.speaks("Hi", seconds=0.5)
        await caller.hears()
    said = [record["data"] for record in kept.records if record["type"] == "transcript_final"]
    assert [(data["role"], data["text"]) for data in said] == [("user", "Hi"), ("assistant", "Yes.")]
    assert all("history" not in data for data in said)
    measured = next(record["data"] for record in kept.records if record["type"] == "metrics_collected")
    assert measured["turn"]["agent_text"] == "Yes."


@attrs.define(eq=False)
class Failing:
    """A receiver with a bug, in one of its two methods."""

    method: str = "take"
    asked: int = 0

    def wants(self, kind: type[Any]) -> bool:
        if self.method == "wants":
            self.asked += 1
            raise LookupError("broken")
        return kind is not LlmChunk

    def take(self, record: EventRecord) -> None:
        self.asked += 1
        raise trio.ClosedResourceError


@pytest.mark.parametrize("method", ["take", "wants"])
async def test_failing_receivers_harm_no_call(
    call_simulator: CallSimulator, caplog: pytest.LogCaptureFixture, method: str
) -> None:
    """What a receiver raises is logged once; the call goes on, and the other receivers get each record."""
    phone, failing, kept = Patter(), Failing(method), Kept()
    phone._recorder.add(failing)
    phone._recorder.add(kept)
    async with call_simulator(agent_of("Yes."), phone=phone) as caller:
        await caller.speaks("Hi", seconds=0.5)
        await caller.hears()
    assert failing.asked > 1
    assert kept.types()[-1] == "call_ended"
    assert [record["seq"] for record in kept.records] == list(range(1, len(kept.records) + 1))
    errors = [entry.getMessage() for entry in caplog.records if entry.levelname == "ERROR"]
    assert len(errors) == 1
    assert errors[0].startswith("call ")
    assert f"Failing(method='{method}'" not in errors[0]
    caplog.clear()


async def test_a_receiver_of_some_calls_is_contained(caplog: pytest.LogCaptureFixture) -> None:
    """A receiver of some calls that fails costs neither itself the next record nor the phone's receivers theirs."""
    recorder, kept, failing = EventRecorder(), Kept(), Failing()
    some = recorder.also_for(failing)
    recorder.add(kept)
    for _ in range(3):
        some.record(CostKnown(0.01), "CA1", at=0.0, call_time=0.0, unix=0.0)
    assert len(kept.records) == 3
    assert failing.asked == 3
    assert [entry.levelname for entry in caplog.records] == ["ERROR"]
    caplog.clear()


async def test_chunks_are_recorded_for_those_who_want_them(call_simulator: CallSimulator) -> None:
    """Pieces of the LLM's text go to the receiver that wants them; audio has no record."""
    phone, few, many = Patter(), Kept(), Kept(chunks=True)
    phone._recorder.add(few)
    phone._recorder.add(many)
    async with call_simulator(agent_of("Yes, we do."), phone=phone) as caller:
        await caller.speaks("Hi", seconds=0.5)
        await caller.hears()
    assert "llm_chunk" in many.types()
    assert "tts_chunk" not in many.types()
    assert [record for record in many.records if record["type"] != "llm_chunk"] == few.records


async def test_receiver_that_is_removed_gets_no_more(call_simulator: CallSimulator) -> None:
    """Without a receiver, events are neither recorded nor counted."""
    phone, kept = Patter(), Kept()
    phone._recorder.add(kept)
    phone._recorder.remove(kept)
    async with call_simulator(agent_of(), phone=phone) as caller:
        await caller.waits(0.5)
    assert not kept.records
    assert repr(phone._recorder) == "<EventRecorder for 0>"


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5) | st.just(Odd()),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3) | st.integers(), inner, max_size=3),
    max_leaves=10,
)


@given(JSON)
def test_any_value_becomes_json(value: Any) -> None:
    """Whatever a tool returns has a record, and the record can be written as strict JSON."""

    async def check() -> None:
        # The application's repr() runs within a call.
        assert json.loads(json.dumps(plain(value), allow_nan=False)) == plain(value)

    trio.run(check)


def test_half_a_character_becomes_a_question_mark() -> None:
    """Texts and keys with a lone surrogate, which ``json.loads`` makes of a cut emoji, can be encoded in UTF-8."""
    assert plain({"caf\u00e9 \ud83d": ["\udc00", "\U0001f600"]}) == {"caf\u00e9 ?": ["?", "\U0001f600"]}
    # Bounded first: what does not fit is not looked at.
    assert plain("\u00e9" * MAX_CHARACTERS + "\ud83d") == "\u00e9" * MAX_CHARACTERS


async def test_failing_repr_is_contained() -> None:
    """A value whose repr() fails is recorded by its type."""
    assert plain({"value": Broken()}) == {"value": "<Broken>"}


async def test_value_that_contains_itself_ends() -> None:
    """A list within itself is recorded to a stated depth."""
    loop: list[Any] = []
    loop.append(loop)
    found, depth = plain(loop), 0
    while isinstance(found, list):
        found, depth = found[0], depth + 1
    assert depth == MAX_DEPTH


def data_of(**payload: Any) -> dict[str, Any]:
    """Return the data of a record."""
    return record_of("any", payload, "CA1", seq=1, call_time=0.0, unix=0.0)["data"]


def work_of(value: Any) -> int:
    """Count the calls of functions, Python's and C's, that the record of a value costs."""
    count = 0

    def counted(*_: object) -> None:
        nonlocal count
        count += 1

    # Once before, because the first call fills caches; and the collector may call functions of other libraries.
    data_of(result=value)
    gc.disable()
    sys.setprofile(counted)
    try:
        data_of(result=value)
    finally:
        sys.setprofile(None)
        gc.enable()
    return count


ROW = {"name": "Ann", "where": "here", "when": [1, 2]}


@pytest.mark.parametrize(
    "large",
    [
        lambda size: [ROW] * size,
        lambda size: {str(number): ROW for number in range(size)},
        lambda size: [[[ROW] * size] * size] * size,
        lambda size: ["word " * size] * size,
        lambda size: set(range(size)),
        bytes,
    ],
    ids=["rows", "keys", "nested", "texts", "set", "bytes"],
)
async def test_work_does_not_grow_with_the_value(large: Any) -> None:
    """A record of a value ten times as long costs no more steps, once the value has no room in it."""
    assert work_of(large(200_000)) <= work_of(large(20_000)) + 5
    assert len(json.dumps(data_of(result=large(20_000)))) < 2 * (MAX_CHARACTERS + 20 * MAX_ITEMS)


async def test_records_say_what_they_leave_out() -> None:
    """Of each value the begin is recorded, in whole rows, and the number of items and characters that are missing."""
    data = data_of(result=[ROW] * 100_000, text="a" * 1_000_000, arguments=ROW)
    kept = len(data["result"])
    # A row has three items, one of them with two more, and is one itself.
    assert kept == MAX_ITEMS // 6
    assert data["result"] == [ROW] * kept
    assert data["text"] == "a" * MAX_CHARACTERS
    assert data["arguments"] == ROW
    assert data["left_out"] == {
        "result": {"items": 100_000 - kept},
        "text": {"characters": 1_000_000 - MAX_CHARACTERS},
    }
    assert "left_out" not in data_of(result=[ROW])


async def test_long_results_leave_room_for_others() -> None:
    """In the end of a call, one long result of a tool costs neither its own keys nor the other tool calls."""
    short = {"name": "b", "arguments": {}, "result": ROW, "duration": 0.1}
    calls = [{"name": "a", "arguments": ROW, "result": [ROW] * 100_000, "duration": 2.0}, *[short] * 99]
    data = data_of(tool_calls=calls, custom_params={"k": "v" * 1_000_000}, transcript=[{"role": "user", "text": "Hi"}])
    assert data["tool_calls"][1:] == [short] * 99
    assert data["tool_calls"][0].keys() == calls[0].keys()
    assert 0 < len(data["tool_calls"][0]["result"]) < 100_000
    assert set(data["left_out"]) == {"tool_calls", "custom_params"}
    assert data["transcript"] == [{"role": "user", "text": "Hi"}]


class BrokenList(list[int]):
    def __iter__(self) -> Any:
        raise LookupError("broken")


async def test_containers_and_numbers_are_contained() -> None:
    """A list of the application's that raises is recorded by its type, an integer that json refuses by its size."""
    found = data_of(result=[BrokenList([1]), 1 << 20_000, (1 << MAX_INT_BITS) - 1])["result"]
    assert found == ["<BrokenList>", "<int of 20001 bits>", (1 << MAX_INT_BITS) - 1]
    assert json.loads(json.dumps(found)) == found
