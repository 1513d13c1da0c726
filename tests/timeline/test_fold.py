"""The timeline of a call: each event becomes what the picture shows, at its instant."""

import json
from typing import Any

import pytest

from patter_trio.errors import ConfigurationError
from patter_trio.metrics.results import CostBreakdown, LatencyBreakdown, TurnMetrics
from patter_trio.timeline.call_timeline import CallTimeline, Interruption, Span, ToolCall, Turn, Words
from patter_trio.timeline.fold import CallFacts, TimelineFold, timeline_of
from tests.timeline.events import CALL, FACTS, GREETING, answered, folded, said, stored, utterance


# Words ----------------------------------------------------------------------------------------------------------------
def test_words_of_both_sides_have_spans() -> None:
    """The caller's words lie where the voice was, the agent's where they were heard; a cut has its unheard rest."""
    assert folded(*CALL).words[:3] == (
        Words("agent", 200.0, 1200.0, "Good evening!", turn=0),
        Words("caller", 2000.0, 3000.0, "When do you open?", turn=1),
        Words("agent", 3720.0, 5250.0, "We open at", "nine. On Sunday we are closed.", cut=True, turn=1),
    )


def test_interruption_has_what_was_heard() -> None:
    """A cut by the caller has its instant, the words that were heard, how long they lasted, and the reason."""
    assert folded(*CALL).interruptions == (Interruption(5250.0, "We open at", 1530.0, "barge-in", 1),)


def test_interruption_without_its_own_event_is_known() -> None:
    """If only the speech edge says that a reply was cut, the words that were heard come from the transcript."""
    events = [event for event in CALL if event[1] != "interruption"]
    assert folded(*events).interruptions == (Interruption(5250.0, "We open at", 1530.0, "", 1),)


def test_open_utterances_last_until_now() -> None:
    """While both sides speak, the interim words and what was made of the reply last until now."""
    events = [
        *CALL[:-4],
        (5200.0, "transcript_partial", {"text": "Stop"}),
    ]
    fold = TimelineFold(FACTS)
    for event in stored(*events):
        fold.add(event)
    timeline = fold.timeline(now_ms=5300)
    assert timeline.words[-2:] == (
        Words("agent", 3720.0, 5300.0, "", "We open at nine. On Sunday we are closed.", open=True, turn=1),
        Words("caller", 5000.0, 5300.0, "Stop", open=True),
    )
    assert timeline.voices == (Span(2000.0, 3000.0), Span(5000.0, 5300.0))
    assert timeline.duration_ms == 5300
    assert not timeline.over


def test_revised_words_replace_the_earlier_ones() -> None:
    """An utterance that goes on keeps its beginning, and has its last words."""
    first = utterance(1, 1000, 2000, 2300, "The name")
    more = utterance(2, 2400, 3000, 3400, "")[:-1]
    timeline = folded(*first, *more, said(3400, "The name is Miller.", revises=True))
    assert timeline.words == (Words("caller", 1000.0, 3000.0, "The name is Miller.", turn=2),)


def test_a_cough_does_not_lengthen_later_words() -> None:
    """A voice without words, more than four seconds before an utterance, is a voice and not its beginning."""
    cough = utterance(1, 1000, 1200, 0, "")[:2]
    timeline = folded(*cough, *utterance(1, 8000, 9000, 9500, "Hello"))
    assert timeline.words == (Words("caller", 8000.0, 9000.0, "Hello", turn=1),)
    assert timeline.voices == (Span(1000.0, 1200.0), Span(8000.0, 9000.0))


def test_late_words_of_an_engine_go_back() -> None:
    """Words that come behind the next utterance belong to the first one without any."""
    first, second = utterance(1, 1000, 2000, 2500, "one"), utterance(2, 4000, 5000, 5500, "two")
    timeline = folded(*first[:-1], *second[:-1], said(5600, "one"), said(5700, "two"))
    assert [(one.text, one.start_ms, one.turn) for one in timeline.words] == [("one", 1000.0, 1), ("two", 4000.0, 2)]


def test_vetoed_words_leave_no_place_for_others() -> None:
    """Words that ``after_transcribe`` dropped are marked, and the next words get their own place."""
    first, second = utterance(1, 1000, 2000, 2500, ""), utterance(2, 4000, 5000, 5500, "two")
    timeline = folded(*first[:-1], (2510.0, "turn_vetoed", {"turn_idx": 1, "reply": 1}), *second)
    assert [(one.text, one.start_ms) for one in timeline.words] == [("two", 4000.0)]
    assert [(mark.kind, mark.at_ms) for mark in timeline.marks] == [("vetoed", 2510.0)]


def test_conversation_in_text_has_words_without_sound() -> None:
    """Without speech edges, words of both sides stand at the instant of their event."""
    assert folded(said(100, "Hi"), answered(200, "Hello")).words == (
        Words("caller", 100.0, 100.0, "Hi"),
        Words("agent", 200.0, 200.0, "Hello"),
    )


def test_changed_text_has_no_unheard_rest() -> None:
    """Where a hook has changed what was said, the rest of a cut reply is not guessed."""
    events = [*CALL[:-2], answered(5250, "Something else")]
    assert folded(*events).words[-2].unheard == ""


# Turns, tools, marks --------------------------------------------------------------------------------------------------
def test_turn_in_progress_has_latencies_of_edges() -> None:
    """Before its metrics, a turn has the parts of the wait as the edges show them."""
    assert folded(*CALL).turns[1] == Turn(
        1,
        3500.0,
        5250.0,
        "interrupted",
        voice_end_ms=3000.0,
        endpoint_ms=500.0,
        llm_ms=20.0,
        tts_ms=200.0,
        total_ms=720.0,
        interrupted=True,
    )


@pytest.mark.parametrize("stored_as", ["object", "json"])
def test_metrics_replace_the_latencies_of_edges(stored_as: str) -> None:
    """A turn's metrics count more than the edges, as an object of a live call or as JSON of a log."""
    turn = TurnMetrics(
        turn_index=1,
        user_text="",
        agent_text="",
        latency=LatencyBreakdown(
            endpoint_ms=500.4, llm_ttft_ms=12.0, total_ms=659.5, stt_ms=80, bargein_ms=250, tts_ms=130
        ),
    )
    cost = CostBreakdown(total=0.0125)
    data: dict[str, Any] = {"turn": turn, "cost_so_far": cost}
    if stored_as == "json":
        data = {"turn": turn.to_dict(), "cost_so_far": cost.to_dict()}
    found = folded(*CALL, (5300.0, "metrics", data)).turns[1]
    assert (found.endpoint_ms, found.llm_ms, found.tts_ms, found.total_ms) == (500.4, 12.0, 147.1, 659.5)
    assert (found.stt_ms, found.bargein_ms, found.cost_usd) == (80.0, 250.0, 0.0125)


def test_tool_has_arguments_result_and_span() -> None:
    """A tool is a span with its arguments and its result; a value that JSON cannot hold is its repr."""
    started = {"name": "find", "tool_call_id": "c1", "arguments": {"day": "Sat"}}
    done = {**started, "result": {"free": (1, 2), "who": b"x"}, "duration": 0.412}
    timeline = folded((1000.0, "tool_call_started", started), (1412.0, "tool_call_completed", done))
    result = {"free": [1, 2], "who": "b'x'"}
    assert timeline.tools == (ToolCall("find", "c1", 1000.0, 1412.0, {"day": "Sat"}, result),)


def test_tool_of_one_event_is_a_tool_too() -> None:
    """A tool that runs has no end; one whose beginning is missing begins where its duration says."""
    running = {"name": "a", "tool_call_id": "c1", "arguments": "{"}
    failed = {"name": "b", "tool_call_id": "c2", "arguments": {}, "result": None, "duration": 0.5, "error": "full"}
    timeline = folded((100.0, "tool_call_started", running), (2000.0, "tool_call_completed", failed))
    assert timeline.tools == (
        ToolCall("a", "c1", 100.0, arguments="{"),
        ToolCall("b", "c2", 1500.0, 2000.0, {}, None, "full"),
    )


def test_keys_guardrails_failures_and_end_are_marks() -> None:
    """What has an instant alone is a mark of its side."""
    timeline = folded(
        (100.0, "dtmf", {"digit": "#"}),
        (200.0, "guardrail", {"turn_idx": 1, "reply": 1, "name": "medical"}),
        (300.0, "reply_failed", {"turn_idx": 1, "reply": 1, "reason": "no LLM"}),
        (400.0, "hook", {"name": "before_llm", "duration": 0.25}),
        (500.0, "machine_detected", {"answered_by": "human"}),
        (600.0, "call_end", {"outcome": "transferred"}),
        (9000.0, "cost_reported", {"cost_usd": 0.01}),
    )
    assert [(mark.kind, mark.at_ms, mark.text, mark.lane) for mark in timeline.marks] == [
        ("key", 100.0, "#", "caller"),
        ("guardrail", 200.0, "medical", "agent"),
        ("reply_failed", 300.0, "no LLM", "agent"),
        ("hook", 400.0, "before_llm 250 ms", "agent"),
        ("machine", 500.0, "human", "caller"),
        ("transfer", 600.0, "transferred", "agent"),
    ]
    assert timeline.turns[0].failed
    assert (timeline.over, timeline.outcome, timeline.duration_ms) == (True, "transferred", 600.0)


@pytest.mark.parametrize(
    ("data", "kind", "lane"),
    [
        ({"outcome": "caller_hung_up"}, "hang_up", "caller"),
        ({"outcome": "agent_hung_up"}, "hang_up", "agent"),
        ({"outcome": "failed", "error": "no STT"}, "failed", "agent"),
        ({"outcome": "caller_hung_up", "error": "no STT"}, "failed", "caller"),
    ],
)
def test_end_is_marked_by_its_outcome(data: dict[str, Any], kind: str, lane: str) -> None:
    """The end of a call is a mark of the side that ended it, and a failure if there was an error."""
    timeline = folded((100.0, "call_end", data))
    assert [(mark.kind, mark.lane) for mark in timeline.marks] == [(kind, lane)]
    assert timeline.error == data.get("error", "")


def test_failed_reply_of_metrics_is_marked_once() -> None:
    """A failed reply has one mark, whether its reason, its metrics or both are stored."""
    metrics = (900.0, "metrics", {"turn": {"turn_index": 1, "failed": True}})
    reason = (800.0, "reply_failed", {"turn_idx": 1, "reply": 1, "reason": "down"})
    for events in ([metrics], [reason], [reason, metrics]):
        assert len(folded(*events).marks) == 1


def test_event_under_two_names_counts_once() -> None:
    """Some events come under the callback's and the bus's name; the timeline has them once."""
    twice = [
        (100.0, "dtmf", {"digit": "1"}),
        (100.0, "dtmf_received", {"digit": "1"}),
        said(200, "Hi"),
        (200.0, "transcript_final", {"role": "user", "text": "Hi"}),
    ]
    timeline = folded(*twice)
    assert (len(timeline.marks), len(timeline.words)) == (1, 1)


def test_facts_are_completed_by_events() -> None:
    """A call's beginning has its numbers and its time, unless the facts have them."""
    timeline = folded(*GREETING)
    assert (timeline.caller, timeline.callee, timeline.direction) == ("+15550100001", "+15550100002", "inbound")
    assert timeline.began == "2026-12-01T10:00:00+00:00"
    facts = CallFacts(call_id="CA1", title="desk.py", caller="x", began="then", outcome="unanswered", duration_ms=9000)
    known = timeline_of(facts, stored(*GREETING))
    assert (known.title, known.caller, known.began, known.outcome) == ("desk.py", "x", "then", "unanswered")
    assert (known.over, known.duration_ms) == (True, 9000)


# JSON -----------------------------------------------------------------------------------------------------------------
def test_timeline_is_json_both_ways() -> None:
    """A timeline is written as JSON, and read again as it was."""
    timeline = folded(*CALL, (6000.0, "tool_call_started", {"name": "a", "tool_call_id": "1", "arguments": {"x": [1]}}))
    assert CallTimeline.from_dict(json.loads(json.dumps(timeline.to_dict()))) == timeline


@pytest.mark.parametrize(
    "plain", [{}, {"call_id": 1}, {"call_id": "x", "version": 2}, {"call_id": "x", "words": [{"lane": "nobody"}]}]
)
def test_other_json_is_refused(plain: dict[str, Any]) -> None:
    """JSON that is not a timeline, or one of another version, is refused with what is wrong."""
    with pytest.raises(ConfigurationError, match="timeline"):
        CallTimeline.from_dict(plain)
