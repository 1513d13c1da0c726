"""The timeline of a whole simulated call: its events make the picture that the caller would draw."""

from typing import Any

import pytest
import trio

from patter_trio import Guardrail, tool
from patter_trio.metrics.internal_events import CallEvent
from patter_trio.pytest_plugin import CallSimulator
from patter_trio.server.options import Seams
from patter_trio.testing import ScriptedLLM, tool_call
from patter_trio.timeline.call_timeline import CallTimeline, Words
from patter_trio.timeline.fold import CallFacts, timeline_of
from patter_trio.timeline.observed import is_observed, observed
from tests.kit.call import PIPELINE


class Noted:
    """An observer that stores the internal events which a timeline shows."""

    def __init__(self) -> None:
        self.events: list[tuple[float, str, dict[str, Any]]] = []

    def wants(self, kind: type[CallEvent]) -> bool:
        return is_observed(kind)

    def on_event(self, event: CallEvent, at: float) -> None:
        if found := observed(event):
            self.events.append((at, *found))


@tool
async def find_slots(day: str) -> str:
    """Find free slots."""
    await trio.sleep(0.4)
    return f"three on {day}"


async def test_call_with_everything_is_shown(call_simulator: CallSimulator) -> None:
    """A tool, a blocked sentence, a barge-in and a key of a call are where they happened, with their words."""
    llm = ScriptedLLM(
        [
            tool_call("find_slots", day="Sat"),
            "We have three slots on Saturday. Which one of them would you like?",
            "Take these pills.",
        ]
    )
    guard = Guardrail("medical", check=lambda text: "pills" in text, replacement="Ask a doctor.")
    noted = Noted()
    agent = PIPELINE.agent_of(llm=llm, tools=[find_slots], guardrails=[guard])
    async with call_simulator(agent, seams=Seams(observers=(noted,))) as caller:
        began = trio.current_time() - caller.now
        await caller.at(0.5)
        await caller.speaks("Are you free?", seconds=1.0)
        await caller.at(5.0)
        await caller.speaks("Saturday", seconds=0.6)
        await caller.heard(0)
        await caller.hears()
        await caller.presses("1")
        await trio.sleep(1)
    events = [(at * 1000, name, payload) for at, name, payload in caller.events]
    events += [((at - began) * 1000, name, data) for at, name, data in noted.events]
    events.sort(key=lambda event: event[0])
    facts = CallFacts(call_id="CA1")
    timeline = timeline_of(facts, [{"type": name, "at_ms": at, "data": data} for at, name, data in events])
    assert CallTimeline.from_dict(timeline.to_dict()) == timeline
    question, answer, interruption, replaced, key = timeline.words
    assert question == Words("caller", 500.0, 1500.0, "Are you free?", turn=1)
    assert (answer.cut, answer.end_ms, answer.turn) == (True, 5250.0, 1)
    whole = "We have three slots on Saturday. Which one of them would you like?"
    assert f"{answer.text} {answer.unheard}" == whole
    assert (interruption.text, interruption.start_ms) == ("Saturday", 5000.0)
    assert (replaced.text, replaced.cut, replaced.unheard) == ("Ask a doctor.", False, "")
    assert (key.text, key.start_ms, key.end_ms) == ("1", 8480.0, 8480.0)  # as words, which the hang-up commits
    [slots] = timeline.tools
    assert (slots.arguments, slots.result) == ({"day": "Sat"}, "three on Sat")
    assert slots.end_ms == pytest.approx(slots.start_ms + 400, abs=1)
    [cut] = timeline.interruptions
    assert (cut.heard, cut.reason, cut.at_ms) == (answer.text, "barge-in", 5250.0)
    assert [(mark.kind, mark.text) for mark in timeline.marks] == [
        ("guardrail", "medical"),
        ("key", "1"),
        ("hang_up", "caller hung up"),
    ]
    first = timeline.turns[0]
    parts = (first.endpoint_ms or 0) + (first.llm_ms or 0) + (first.tts_ms or 0)
    assert first.total_ms == pytest.approx(parts, abs=0.2)
    assert answer.start_ms == pytest.approx((first.voice_end_ms or 0) + (first.total_ms or 0), abs=1)
