"""The picture of a call: everything is in it, where it belongs, and no text covers another."""

from itertools import combinations
from xml.etree.ElementTree import Element

import attrs
import numpy as np
import pytest

from patter_trio.timeline.call_timeline import CallTimeline, Mark, ToolCall, Words
from patter_trio.timeline.fold import CallFacts, timeline_of
from patter_trio.timeline.svg import duration, svg_of
from patter_trio.timeline.waveform import peaks_of
from tests.timeline.drawings import LEFT, SECOND, SVG, drawn, shapes, text, texts_of
from tests.timeline.events import CALL, folded, stored, utterance

END = (20_000.0, "call_end", {"outcome": "caller_hung_up"})
TOOLS = (
    ToolCall("find_slots", "a", 5_000, 5_412, {"day": "Sat"}, "three"),
    ToolCall("book", "b", 5_100, 7_000, {}, None, "the database is away"),
    ToolCall("transfer_call", "c", 11_000, 14_000, {"to": "kitchen"}, True),
)
MARKS = (
    Mark("key", 8_000, "1", "caller"),
    Mark("key", 8_150, "#", "caller"),
    Mark("guardrail", 8_200, "medical", "agent"),
    Mark("reply_failed", 11_900, "http://127.0.0.1 answered 500 Internal Server Error", "agent"),
    Mark("transfer", 19_900, "transferred", "agent"),
)


@pytest.fixture
def picture() -> Element:
    """Return the picture of a question and an answer that is cut, of 20 s: two rows."""
    return drawn(folded(*CALL, END))


# Where things are -----------------------------------------------------------------------------------------------------
def test_words_stand_where_their_sound_begins(picture: Element) -> None:
    """Each text is at the second at which its sound begins; what was not heard of a reply is struck."""
    assert text(picture, "When do you open?").left == LEFT + 2 * SECOND
    assert text(picture, "Good evening!").left == pytest.approx(LEFT + 0.2 * SECOND)
    answer = text(picture, "We open at nine.")
    assert answer.left == pytest.approx(LEFT + 3.72 * SECOND, abs=0.1)
    struck = [span.text for span in picture.iter(f"{SVG}tspan") if span.get("class") == "unheard"]
    assert " ".join(part or "" for part in struck) == "nine. On Sunday we are closed."
    heard = [span.text for span in picture.iter(f"{SVG}tspan") if span.get("class") == "agent"]
    assert heard == ["Good evening!", "We open at "]


def test_wait_is_a_bar_of_its_parts(picture: Element) -> None:
    """The wait goes from the last voice to the first sound, with a part each for endpoint, LLM and TTS."""
    assert shapes(picture, "endpoint") == [(3.0, 3.5)]
    assert shapes(picture, "llm") == [(3.5, 3.52)]
    assert shapes(picture, "tts") == [(3.52, 3.72)]
    label = text(picture, "0.72 s = 500 + 20 + 200 ms")
    assert label.left == pytest.approx(LEFT + 3.72 * SECOND + 5, abs=0.1)


def test_cut_is_drawn_where_the_agent_falls_silent(picture: Element) -> None:
    """A cut is a line through both lanes, with its cause; the tail shows how long the rest would have lasted."""
    [cut] = [line for line in picture.findall(f"{SVG}g")[0].iter(f"{SVG}line") if line.get("class") == "cut"]
    assert float(cut.get("x1") or 0) == pytest.approx(LEFT + 5.25 * SECOND, abs=0.1)
    assert text(picture, "cut after 1.53 s (barge-in)")
    [(begun, ended)] = shapes(picture, "tail")
    assert (begun, ended) == (5.25, pytest.approx(5.25 + 1.53 * 30 / 10, abs=0.01))


def test_sound_is_drawn_where_it_is_heard() -> None:
    """With audio, the lanes have a waveform, only where it is not silent; without, a bar for each voice."""
    silence = np.zeros(20 * 8000, np.int16)
    caller = silence.copy()
    caller[2 * 8000 : 3 * 8000] = 20000
    timeline = timeline_of(CallFacts(call_id="CA1"), stored(*CALL, END), peaks=peaks_of(caller, silence))
    [path] = drawn(timeline).iter(f"{SVG}path")
    places = [float(move.split()[0]) for move in (path.get("d") or "").removeprefix("M").split("M")]
    assert LEFT + 2 * SECOND - 2 <= min(places) < max(places) <= LEFT + 3 * SECOND
    assert path.get("class") == "callerSound"
    assert shapes(drawn(folded(*CALL, END)), "callerSound") == [(2.0, 3.0), (5.0, 12.0)]


def test_tools_keys_failures_and_end_are_drawn() -> None:
    """Each tool is a bar with its arguments, result and time; keys, guardrails, failures and the end are labels."""
    timeline = attrs.evolve(folded(*CALL, END), tools=TOOLS, marks=MARKS)
    picture = drawn(timeline)
    assert text(picture, 'find_slots {"day": "Sat"} → three 412 ms')
    assert text(picture, "book failed: the database is away 1900 ms").kind == "small red"
    assert shapes(picture, "tool") == [(5.0, 5.41), (5.1, 7.0), (11.0, 12.0)]
    assert shapes(picture, "tool", row=1) == [(0.0, 2.0)]
    assert text(picture, "transfer_call").row == 1  # where most of its time is
    assert text(picture, "key 1").left == pytest.approx(LEFT + 8 * SECOND + 7)
    assert text(picture, "guardrail medical").kind == text(picture, "reply failed: http").kind == "small red"
    assert text(picture, "transferred").row == 1


def test_words_over_a_rows_end_go_on() -> None:
    """Words that were said in the next row stand there, those before in theirs; a wait is a bar in both."""
    words = Words("caller", 11_000, 13_000, "one two three four five six")
    timeline = attrs.evolve(folded(END), words=(words,), marks=())
    rows = [(one.row, one.text) for one in texts_of(drawn(timeline)) if one.text.startswith(("one", "f", "s"))]
    assert rows == [(0, "one two three"), (1, "four five six")]
    late = drawn(
        folded(*utterance(1, 10_000, 11_500, 12_500, "Hi"), (14_000.0, "agent_speech_started", {"turn_idx": 1}))
    )
    assert (shapes(late, "endpoint"), shapes(late, "endpoint", row=1)) == ([(11.5, 12.0)], [(0.0, 0.5)])
    assert text(late, "2.50 s").row == 1


def test_label_of_full_row_covers_its_bar() -> None:
    """A tool that takes all of a row, or runs to its end, has its name in the picture all the same."""
    slow = ToolCall("find_slots", "a", 0, 30_000, {"day": "Sat"}, "three")
    picture = drawn(CallTimeline("CA1", tools=(slow, attrs.evolve(slow, end_ms=None)), duration_ms=30_000))
    labels = [one for one in texts_of(picture) if one.text.startswith("find_slots")]
    assert [(one.kind, one.left, one.row) for one in labels] == [("small over", LEFT + 6, 0)] * 2
    assert shapes(picture, "tool", row=1) == [(0.0, 12.0)] * 2


# What is legible ------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("copies", [1, 6, 30, 110])
def test_no_text_covers_another(copies: int) -> None:
    """However much happens at once, and however long the call, no two texts overlap, and none leaves the picture."""
    every = folded(*CALL, *utterance(2, 5_900, 6_000, 6_200, "A"), *utterance(3, 6_300, 6_350, 6_600, "B" * 50), END)
    many = attrs.evolve(
        every,
        tools=tuple(
            attrs.evolve(one, start_ms=one.start_ms + i * 31_000, end_ms=(one.end_ms or 0) + i * 31_000)
            for i in range(copies)
            for one in TOOLS
        ),
        marks=tuple(attrs.evolve(one, at_ms=one.at_ms + i * 31_000) for i in range(copies) for one in MARKS),
        words=tuple(
            attrs.evolve(one, start_ms=one.start_ms + i * 31_000, end_ms=one.end_ms + i * 31_000)
            for i in range(copies)
            for one in every.words
        ),
        duration_ms=copies * 31_000.0,
    )
    found = texts_of(drawn(many))
    assert all(one.left >= 0 and one.right <= 1160 for one in found)
    for row in {one.row for one in found}:
        mine = [one for one in found if one.row == row]
        assert not [(a.text, b.text) for a, b in combinations(mine, 2) if a.overlaps(b)]


def test_heading_has_file_date_duration_and_outcome() -> None:
    """The heading has the program's file, the date, the duration and the outcome; below are the masked numbers."""
    facts = CallFacts(call_id="CA1", title="desk.py", began="2026-12-01T12:03:00+01:00", error="no STT")
    picture = drawn(timeline_of(facts, stored(*CALL, END)))
    assert text(picture, "desk.py · 2026-12-01 12:03 · 20.0 s · caller hung up").kind == "head"
    assert text(picture, "Call CA1 · +1555***0001 to +1555***0002 · 1 answer, after 0.72 s")
    assert text(picture, "no STT").kind == "red"
    assert {"caller", "agent", "made, not heard", "reply cut", "tools"} <= {one.text for one in texts_of(picture)}


def test_heading_without_a_file_has_masked_numbers() -> None:
    """Without a program's file the heading has the numbers, masked; nowhere is one whole."""
    timeline = folded(*CALL)
    assert text(drawn(timeline), "+1555***0001 to +1555***0002 · 2026-12-01 10:00 · 5.2 s · live")
    assert "+15550100001" not in svg_of(timeline)


@pytest.mark.parametrize(
    ("milliseconds", "shown"),
    [(0, "0.0 s"), (59_940, "59.9 s"), (59_960, "1 min 00 s"), (72_200, "1 min 12 s"), (3_720_000, "1 h 02 min")],
)
def test_duration_has_units(milliseconds: float, shown: str) -> None:
    """A duration has its unit, and never sixty of the smaller one."""
    assert duration(milliseconds) == shown


def test_silence_of_rows_is_one_line() -> None:
    """A long time in which nothing happens is one line with its bounds."""
    silent = (5_700.0, "user_speech_ended", {"audio_offset_ms": 5_400})
    picture = drawn(
        folded(*CALL, silent, (100_000.0, "dtmf", {"digit": "1"}), (101_000.0, "call_end", {"outcome": "x"}))
    )
    assert text(picture, "12 to 96 s: nothing is heard").row == 1
    assert text(picture, "key 1").row == 2


def test_a_call_without_anything_is_a_picture_too() -> None:
    """A call without an event still has a heading and both lanes."""
    picture = drawn(CallTimeline("CA1"))
    assert {"caller", "agent"} <= {one.text for one in texts_of(picture)}
    assert text(picture, "A call · 0.0 s · live")


# What others have written ---------------------------------------------------------------------------------------------
HOSTILE = '<script>alert("x")</script>\x00\x1b[31m\u202e\ud800&amp;]]>'


def test_text_of_others_is_escaped_everywhere() -> None:
    """Markup, control characters and marks of direction in any text do not leave their element."""
    timeline = CallTimeline(
        HOSTILE,
        HOSTILE,
        HOSTILE,
        HOSTILE,
        HOSTILE,
        HOSTILE,
        5_000,
        outcome=HOSTILE,
        error=HOSTILE,
        words=(
            Words("caller", 0, 4_000, HOSTILE),
            Words("agent", 1_000, 2_000, HOSTILE, HOSTILE, cut=True),
        ),
        tools=(ToolCall(HOSTILE, HOSTILE, 0, 100, {HOSTILE: HOSTILE}, HOSTILE, HOSTILE),),
        marks=tuple(attrs.evolve(mark, text=HOSTILE, at_ms=100) for mark in MARKS),
    )
    source = svg_of(timeline)
    source.encode("utf-8")
    assert not set("\x00\x1b\u202e") & set(source)
    assert {element.tag.removeprefix(SVG) for element in drawn(timeline).iter()} == {
        *("svg", "title", "style", "rect", "text", "g", "line", "tspan", "circle")
    }


def test_text_without_spaces_is_wrapped() -> None:
    """Chinese, and a word of a hundred letters, go on in the next line instead of out of the picture."""
    words = (Words("caller", 1_000, 2_000, "你好" * 30), Words("caller", 3_000, 9_000, "x" * 100))
    found = texts_of(drawn(CallTimeline("CA1", words=words, duration_ms=10_000)))
    chinese = [one.text for one in found if "你" in one.text]
    assert len(chinese) > 1
    assert all(one.right <= 1160 for one in found)


def test_long_text_is_shortened_with_full_title() -> None:
    """A text that needs more than five lines ends with "…"; its tooltip has all of it."""
    words = Words("caller", 500, 1_000, "word " * 400)
    picture = drawn(CallTimeline("CA1", words=(words,), duration_ms=2_000))
    assert any(one.text.endswith(" …") for one in texts_of(picture))
    assert ("word " * 400).strip() in [title.text for title in picture.iter(f"{SVG}title")]
