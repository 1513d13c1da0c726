"""The calls that the memory keeps without a call log: what is known of each, what is found, and what is forgotten."""

import pytest

from patter_trio import Patter
from patter_trio.abc import CallArchive, CallQuery
from patter_trio.dashboard.recent_calls import MAX_ENDED_CALLS, RecentCalls
from patter_trio.dashboard.remembered import MAX_EVENTS_OF_A_CALL, MAX_FIRST_WORDS
from patter_trio.errors import ConfigurationError
from patter_trio.metrics.internal_events import LlmChunk
from patter_trio.pytest_plugin import CallSimulator
from patter_trio.timeline import fold, svg
from tests.kit.call import agent_of
from tests.kit.call_logs import CALLEE, CALLER, EPOCH, Events, metrics
from tests.kit.thread_files import files_run_here


def with_calls(number: int) -> RecentCalls:
    """Return a memory of calls that are over: CA1, CA2 ..."""
    calls, events = RecentCalls(), Events()
    for index in range(1, number + 1):
        calls.take(events.started(f"CA{index}", at=index * 60))
        calls.take(events.said(f"CA{index}", f"Question {index}?"))
        calls.take(events.ended(f"CA{index}", metrics=metrics()))
    return calls


async def ids(calls: CallArchive, **query: object) -> list[str]:
    return [call.call_id for call in (await calls.find(CallQuery(**query))).calls]


async def test_simulated_call_is_kept(call_simulator: CallSimulator) -> None:
    """A whole call is kept: live with what was said, then with its end, metrics, events and picture."""
    calls, phone = RecentCalls(), Patter()
    phone._recorder.add(calls)
    async with call_simulator(agent_of("Yes."), phone) as caller:
        await caller.speaks("Hello?", seconds=1.0)
        await caller.hears()
        [line] = (await calls.find(CallQuery())).calls
        assert (line.outcome, line.first_words, line.turns) == ("", "Hello?", 1)
        live = await calls.get(line.call_id)
        assert live is not None
        assert [entry["text"] for entry in live["transcript"]] == ["Hello?", "Yes."]
        await caller.hangs_up()
    [line] = (await calls.find(CallQuery())).calls
    assert (line.caller, line.callee, line.outcome, line.turns) == (CALLER, CALLEE, "caller_hung_up", 1)
    assert line.duration_s > 1
    assert line.answer_p50_ms is not None
    whole = await calls.get(line.call_id)
    assert whole is not None
    assert [entry["text"] for entry in whole["transcript"]] == ["Hello?", "Yes."]
    assert whole["metrics"]["turns"][0]["user_text"] == "Hello?"
    timeline = await calls.timeline(line.call_id)
    assert timeline is not None
    assert [words["text"] for words in timeline["words"]] == ["Hello?", "Yes."]
    assert "Yes." in (await calls.timeline_svg(line.call_id) or "")
    [day] = await calls.stats()
    assert (day.calls, day.outcomes, day.answer_p50_ms) == (1, {"caller_hung_up": 1}, line.answer_p50_ms)
    assert not calls.wants(LlmChunk)


async def test_pictures_are_drawn_in_threads() -> None:
    """The event loop neither folds the events of a call nor draws its picture, which takes 0.7 s for an hour."""
    calls = with_calls(1)
    with files_run_here() as files:
        assert "Question 1?" in (await calls.timeline_svg("CA1") or "")
        assert (await calls.timeline("CA1") or {})["words"]
        assert await calls.timeline("CA2") is await calls.timeline_svg("CA2") is None
    assert not files & {fold.__file__, svg.__file__}


async def test_query_selects_calls() -> None:
    """Words, a part of a number, the outcome, cost, duration and time each select; pages follow one another."""
    calls, events = with_calls(3), Events(100)
    calls.take(events.started("CB1", at=600, caller="+15550100009"))
    calls.take(events.ended("CB1", outcome="failed"))
    assert await ids(calls) == ["CB1", "CA3", "CA2", "CA1"]
    assert await ids(calls, text="QUESTION 2?") == ["CA2"]
    assert await ids(calls, text="question nothing") == []
    assert await ids(calls, number="0009") == ["CB1"]
    assert await ids(calls, outcome="failed") == ["CB1"]
    assert await ids(calls, min_cost_usd=0.25) == ["CA3", "CA2", "CA1"]
    assert await ids(calls, min_duration_s=3.5) == []
    assert await ids(calls, since=EPOCH + 120, until=EPOCH + 600) == ["CA3", "CA2"]
    first = await calls.find(CallQuery(limit=2))
    assert await ids(calls, limit=2, cursor=first.next) == ["CA2", "CA1"]
    async with calls.export(CallQuery(limit=1)) as found:
        assert [call["call_id"] async for call in found] == ["CB1", "CA3", "CA2", "CA1"]


@pytest.mark.parametrize("query", [{"cursor": "x"}, {"cursor": "-1"}, {"limit": 0}, {"limit": 501}, {"limit": True}])
async def test_wrong_queries_are_refused(query: dict[str, object]) -> None:
    """A cursor of another kind, or a limit that is out of bounds, is refused with what must hold."""
    with pytest.raises(ConfigurationError, match="must be"):
        await ids(with_calls(1), **query)


async def test_oldest_calls_are_forgotten() -> None:
    """Beyond 200 calls that are over, the oldest goes; what is reported of it afterwards makes no new call."""
    calls, events = with_calls(MAX_ENDED_CALLS + 1), Events(10_000)
    assert await calls.get("CA1") is None
    assert await calls.get("CA2") is not None
    calls.take(events.event("CA1", "cost_reported", cost_usd=1.0))
    assert await calls.get("CA1") is None


async def test_long_calls_keep_their_end() -> None:
    """Of a call with more events than are kept, the beginning and the end are kept."""
    calls, events = RecentCalls(), Events()
    calls.take(events.started("CA1"))
    for _ in range(MAX_EVENTS_OF_A_CALL + 10):
        calls.take(events.event("CA1", "transcript_partial", text="a"))
    calls.take(events.ended("CA1"))
    kept = await calls.events("CA1")
    assert (len(kept), kept[-1]["type"]) == (MAX_EVENTS_OF_A_CALL + 1, "call_ended")
    assert await calls.events("CA1", after=kept[-2]["seq"]) == [kept[-1]]


async def test_live_calls_are_not_deleted() -> None:
    """A call that is over can be forgotten once; a live one, or one that is unknown, cannot."""
    calls = with_calls(1)
    calls.take(Events(50).started("CA9"))
    assert [await calls.delete(call_id) for call_id in ("CA1", "CA1", "CA9", "CA0")] == [True, False, False, False]


async def test_facts_come_with_the_events() -> None:
    """Long first words are cut, revised ones replaced, and the carrier's cost takes the place of the list price."""
    calls, events = RecentCalls(), Events()
    calls.take(events.started("CA1", direction="outbound"))
    calls.take(events.said("CA1", "x" * 200))
    calls.take(events.said("CA1", "Short.", revises=True))
    calls.take(events.measured("CA1", 0, 600.0, cost=0.1))
    whole = await calls.get("CA1")
    assert whole is not None
    assert whole["transcript"] == [{"role": "user", "text": "Short."}]
    assert (whole["direction"], whole["turns"], whole["cost_usd"], whole["metrics"]) == ("outbound", 0, 0.1, None)
    assert len(whole["first_words"]) <= MAX_FIRST_WORDS
    calls.take(events.ended("CA1", metrics=metrics(cost=0.25, telephony=0.05)))
    calls.take(events.event("CA1", "cost_reported", cost_usd=0.08))
    [line] = (await calls.find(CallQuery())).calls
    assert line.cost_usd == pytest.approx(0.28)
