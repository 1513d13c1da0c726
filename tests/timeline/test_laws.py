"""Laws of timelines: whatever is stored, in any order and however incomplete, there is a timeline of it."""

import json
import random
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from patter_trio.testing.simulation.record import EVENT_NAMES
from patter_trio.timeline.call_timeline import CallTimeline
from patter_trio.timeline.fold import TimelineFold, timeline_of
from patter_trio.timeline.observed import OBSERVED
from tests.timeline.drawings import drawn
from tests.timeline.events import CALL, FACTS, stored, utterance

WHOLE = stored(
    *CALL,
    (6000.0, "tool_call_started", {"name": "a", "tool_call_id": "1", "arguments": {}}),
    (6100.0, "tool_call_completed", {"name": "a", "tool_call_id": "1", "arguments": {}, "result": 1, "duration": 0.1}),
    *utterance(2, 7000, 8000, 8500, "Thanks."),
    (9000.0, "dtmf", {"digit": "1"}),
    (9100.0, "reply_failed", {"turn_idx": 2, "reply": 3, "reason": "down"}),
    (9500.0, "call_end", {"outcome": "caller_hung_up"}),
)
KEYS = (
    *("turn_idx", "reply", "text", "role", "revises", "digit", "name", "tool_call_id", "arguments", "result"),
    *("duration", "error", "outcome", "reason", "audio_offset_ms", "speech_duration_ms", "trailing_silence_ms"),
    *("interrupted", "transcript_so_far", "turn", "cost_so_far", "answered_by", "caller", "turn_index", "latency"),
    *("failed", "total_ms", "endpoint_ms", "total"),
)
SCALARS = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(max_size=8)
    | st.sampled_from(["user", "assistant", "caller_hung_up", "failed", "1"])
    | st.integers(0, 4)
)
VALUES = st.recursive(
    SCALARS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(KEYS), inner, max_size=4),
    max_leaves=6,
)
EVENTS = st.fixed_dictionaries(
    {},
    optional={
        "seq": st.integers(0, 30) | SCALARS,
        "type": st.sampled_from(sorted(EVENT_NAMES)) | st.sampled_from(OBSERVED) | SCALARS,
        "at_ms": st.floats(0, 30_000) | SCALARS,
        "data": st.dictionaries(st.sampled_from(KEYS), VALUES, max_size=8) | SCALARS,
    },
)


@given(st.sets(st.sampled_from(range(len(WHOLE)))), st.randoms(use_true_random=False))
def test_any_subset_in_any_order_is_a_timeline(chosen: set[int], shuffle: random.Random) -> None:
    """Events that are missing or out of order make a timeline, the same for each order; it is JSON both ways."""
    kept = [WHOLE[number] for number in sorted(chosen)]
    mixed = kept[:]
    shuffle.shuffle(mixed)
    timeline = timeline_of(FACTS, mixed)
    assert timeline == timeline_of(FACTS, kept)
    check(timeline)


@given(st.lists(EVENTS, max_size=25))
def test_whatever_is_stored_makes_a_timeline(events: list[dict[str, Any]]) -> None:
    """Events with any keys, types and values make a timeline that is JSON both ways, and has a picture."""
    timeline = timeline_of(FACTS, events)
    check(timeline)
    drawn(timeline)


@given(st.lists(st.sampled_from(WHOLE), max_size=25))
def test_events_one_by_one_equal_all_at_once(events: list[dict[str, Any]]) -> None:
    """A fold that has been looked at after each event ends like one of all events."""
    fold = TimelineFold(FACTS)
    for event in events:
        fold.add(event)
        check(fold.timeline())
    unnumbered = [{key: value for key, value in event.items() if key != "seq"} for event in events]
    assert fold.timeline() == timeline_of(FACTS, unnumbered)


def check(timeline: CallTimeline) -> None:
    """Check that a timeline can be written and read, and that no time in it is impossible."""
    assert CallTimeline.from_dict(json.loads(json.dumps(timeline.to_dict(), allow_nan=False))) == timeline
    for span in (*timeline.words, *timeline.voices):
        assert 0 <= span.start_ms <= span.end_ms <= timeline.duration_ms
    assert list(timeline.words) == sorted(timeline.words, key=lambda words: (words.start_ms, words.lane))
    assert [turn.index for turn in timeline.turns] == sorted({turn.index for turn in timeline.turns})
