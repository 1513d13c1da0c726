"""The pictures of calls that pages hold: which calls are folded, and for how long they are kept."""

from typing import Any

from patter_trio.abc import EventRecord
from patter_trio.metrics.internal_events import LlmChunk, SentenceStarted
from patter_trio.metrics.public_events import CallConnected
from patter_trio.phone_page.live_timelines import MAX_CALLS, LiveTimelines


def record(kind: str, at: float, call_id: str = "BR1", **data: Any) -> EventRecord:
    """Return an event at an instant in ms; of its time only the seconds differ."""
    time = f"2026-01-31T09:30:{at / 1000:06.3f}Z"
    return EventRecord(seq=1, call_id=call_id, type=kind, at_ms=at, time=time, data=data)


def begun(call_id: str = "BR1", provider: str = "browser") -> EventRecord:
    return record("call_started", 0.0, call_id, telephony_provider=provider)


def test_call_of_a_page_is_folded() -> None:
    """A call of a page has its words as soon as their event has come, and its end."""
    timelines = LiveTimelines()
    for event in (
        begun(),
        record("agent_speech_started", 500.0, turn_idx=0),
        record("sentence", 510.0, turn_idx=0, reply=1, text="Hello."),
    ):
        timelines.take(event)
    live = timelines.timeline("BR1")
    assert live is not None
    [words] = live["words"]
    assert (words["text"], words["unheard"], words["open"], live["over"]) == ("", "Hello.", True, False)
    timelines.take(record("call_ended", 900.0, outcome="caller_hung_up"))
    over = timelines.timeline("BR1")
    assert over is not None
    assert (over["over"], over["outcome"], over["duration_ms"]) == (True, "caller_hung_up", 900.0)


def test_calls_of_carriers_are_not_kept() -> None:
    """A call that no page holds is neither folded nor wanted, and an unknown one has no picture."""
    timelines = LiveTimelines()
    timelines.take(begun("CA1", "twilio"))
    timelines.take(record("transcript_final", 10.0, "CA1", role="user", text="secret"))
    assert timelines.timeline("CA1") is None
    # Without a call of a page, records are made for nothing but the begin of one.
    assert [timelines.wants(kind) for kind in (CallConnected, SentenceStarted, LlmChunk)] == [True, False, False]
    timelines.take(begun())
    assert [timelines.wants(kind) for kind in (CallConnected, SentenceStarted, LlmChunk)] == [True, True, False]
    timelines.take(record("call_ended", 20.0))
    assert not timelines.wants(SentenceStarted)


def test_call_in_text_has_times() -> None:
    """A call in text, which has no media and so no call time, is drawn by the time since its begin."""
    timelines = LiveTimelines()
    timelines.take(begun("text-1", "text"))
    said = record("transcript_final", 1500.0, "text-1", role="user", text="When?")
    timelines.take({**said, "at_ms": 0.0})
    timelines.take({**record("call_ended", 4000.0, "text-1", outcome="completed"), "at_ms": 0.0})
    timeline = timelines.timeline("text-1")
    assert timeline is not None
    assert [(one["text"], one["start_ms"]) for one in timeline["words"]] == [("When?", 1500.0)]
    assert timeline["duration_ms"] == 4000.0


def test_oldest_call_is_forgotten() -> None:
    """Beyond the limit the oldest call goes, whether it is over or not, and its later events begin no new one."""
    timelines = LiveTimelines()
    for number in range(MAX_CALLS + 1):
        timelines.take(begun(f"BR{number}"))
    timelines.take(record("transcript_final", 10.0, "BR0", role="user", text="late"))
    assert timelines.timeline("BR0") is None
    assert timelines.timeline("BR1") is not None
    assert repr(timelines) == f"<LiveTimelines of {MAX_CALLS}, {MAX_CALLS} live>"
