"""A law of pictures: whatever happens in a call, no text covers another, and none leaves the picture."""

from itertools import combinations

from hypothesis import given, settings
from hypothesis import strategies as st

from patter_trio.timeline.call_timeline import CallTimeline, Interruption, Mark, ToolCall, Turn, Words
from tests.timeline.drawings import drawn, texts_of

AT = st.floats(0, 70_000)
LASTS = st.floats(0, 30_000)
TEXT = st.text(max_size=60) | st.sampled_from(
    ["Hi.", "What time do you open?", "word " * 40, "你好" * 30, "x" * 80, "مرحبا بكم"]
)
LANE = st.sampled_from(["caller", "agent"])
WORDS = st.builds(
    lambda lane, at, lasts, text, unheard, cut: Words(lane, at, at + lasts, text, unheard, cut),
    *(LANE, AT, LASTS, TEXT, TEXT, st.booleans()),
)
KINDS = st.sampled_from(["key", "guardrail", "hook", "vetoed", "reply_failed", "machine", "hang_up", "failed"])
MARKS = st.builds(Mark, KINDS, AT, TEXT, LANE)
TOOLS = st.builds(
    lambda name, at, lasts, result, error: ToolCall(name, "c", at, lasts and at + lasts, {}, result, error),
    *(TEXT, AT, st.none() | LASTS, TEXT, TEXT),
)
TURNS = st.builds(
    lambda at, endpoint, llm: Turn(
        1, at, voice_end_ms=at, endpoint_ms=endpoint, llm_ms=llm, tts_ms=90.0, total_ms=endpoint + llm + 90
    ),
    *(AT, LASTS, LASTS),
)
CUTS = st.builds(Interruption, AT, TEXT, LASTS, st.sampled_from(["", "barge-in"]))


def many(of: st.SearchStrategy[object]) -> st.SearchStrategy[tuple[object, ...]]:
    return st.lists(of, max_size=6).map(tuple)


# The time of drawing is that of a busy machine.
@settings(deadline=None, max_examples=30)
@given(
    st.builds(
        CallTimeline,
        st.just("CA1"),
        words=many(WORDS).map(lambda words: tuple(sorted(words, key=lambda one: one.start_ms))),  # type: ignore[attr-defined]
        marks=many(MARKS),
        tools=many(TOOLS),
        turns=many(TURNS),
        interruptions=many(CUTS),
        duration_ms=st.sampled_from([100_000.0, 400_000.0, 2_000_000.0]),
    )
)
def test_no_text_covers_another_in_any_call(timeline: CallTimeline) -> None:
    """Of any words, marks, tools, waits and cuts, all texts are within the picture, and no two overlap."""
    found = texts_of(drawn(timeline))
    assert [one for one in found if one.left < 0 or one.right > 1160.01] == []
    for row in {one.row for one in found}:
        mine = [one for one in found if one.row == row]
        assert [(one.text, other.text) for one, other in combinations(mine, 2) if one.overlaps(other)] == []
