"""A call's picture in a real browser: what is where, the keyboard, zoom, live calls, dark and narrow pages."""

import json
import os
from collections.abc import Iterator
from itertools import combinations
from pathlib import Path
from typing import Any

import attrs
import numpy as np
import pytest

from patter_trio.timeline.call_timeline import CallTimeline, Words
from patter_trio.timeline.fold import CallFacts, timeline_of
from patter_trio.timeline.waveform import peaks_of
from tests.kit.pictures import Page, chromium, serving
from tests.timeline.events import CALL, folded, stored, utterance
from tests.timeline.test_svg import HOSTILE, MARKS, TOOLS

pytestmark = [pytest.mark.deep, pytest.mark.no_coverage]
PICTURES = Path(os.environ.get("PATTER_TEST_PICTURES", "")) if "PATTER_TEST_PICTURES" in os.environ else None
"""Where the screenshots go, to be looked at; without it they go into the test's own folder."""
END = (20_000.0, "call_end", {"outcome": "caller_hung_up"})
QUIET = (5_700.0, "user_speech_ended", {"audio_offset_ms": 5_400})


def recorded() -> CallTimeline:
    """Return a call of 20 s with sound, tools and marks."""
    noise = np.random.default_rng(1)
    caller, agent = np.zeros((2, 20 * 8000), np.int16)
    for lane, start, end in ((caller, 2.0, 3.0), (caller, 5.0, 5.4), (agent, 0.2, 1.2), (agent, 3.72, 5.25)):
        part = lane[int(start * 8000) : int(end * 8000)]
        part[:] = noise.normal(0, 6000, len(part)) * (1 + np.sin(np.arange(len(part)) / 700))
    whole = timeline_of(CallFacts(call_id="CA1"), stored(*CALL, QUIET, END), peaks=peaks_of(caller, agent))
    return attrs.evolve(whole, tools=TOOLS, marks=MARKS)


def long_call(minutes: int) -> CallTimeline:
    """Return a call of many questions and answers."""
    one = attrs.evolve(folded(*CALL, QUIET, END), tools=TOOLS, marks=MARKS)
    copies = range(minutes * 3)

    def moved(items: Any, *names: str) -> tuple[Any, ...]:
        return tuple(
            attrs.evolve(item, **{name: getattr(item, name) + 20_000 * copy for name in names})
            for copy in copies
            for item in items
        )

    return attrs.evolve(
        one,
        words=moved(one.words, "start_ms", "end_ms"),
        voices=moved(one.voices, "start_ms", "end_ms"),
        tools=moved(one.tools, "start_ms", "end_ms"),
        marks=moved(one.marks, "at_ms"),
        duration_ms=len(copies) * 20_000.0,
    )


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with serving() as url, chromium() as driver:
        driver.get(url)
        yield driver


@pytest.fixture
def page(browser: Any) -> Page:
    """Return a page of 1440 pixels, light, with motion, with a new picture."""
    browser.refresh()
    page = Page(browser)
    page.media(prefers_color_scheme="light", prefers_reduced_motion="no-preference")
    page.size(1440)
    return page


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return PICTURES or tmp_path


def boxes(page: Page) -> list[dict[str, Any]]:
    """Return the boxes with a text that are in view."""
    drawn = page.drawn
    right = drawn["left"] + drawn["width"]
    return [box for box in drawn["boxes"] if box["text"] and box["right"] > drawn["left"] and box["left"] < right]


def no_overlaps(page: Page) -> bool:
    """Return True if no two texts in view cover one place."""
    found = boxes(page)
    return not [
        (a["text"], b["text"])
        for a, b in combinations(found, 2)
        if a["y"] == b["y"] and a["left"] < b["right"] - 0.5 and b["left"] < a["right"] - 0.5
    ]


def details(page: Page, start: str) -> str:
    """Return the details of the thing that is selected, which begin so."""
    assert page.details.startswith(start), page.details
    return page.details


# What is where --------------------------------------------------------------------------------------------------------
def test_words_stand_at_their_instants(page: Page) -> None:
    """The whole call fits into the width; each text begins where its sound does, and no two overlap."""
    page.show(recorded())
    drawn = page.drawn
    assert (drawn["start"], drawn["msPerPixel"] * drawn["width"]) == (0, pytest.approx(20_000))
    question = next(box for box in boxes(page) if box["text"].startswith("When do"))
    assert question["left"] == pytest.approx(drawn["left"] + 2_000 / drawn["msPerPixel"], abs=1)
    texts = " ".join(box["text"] for box in boxes(page))
    for wanted in ("We open at", "0.72 s", "find_slots", "key 1", "guardrail medical", "cut after 1.53 s (barge-in)"):
        assert wanted in texts
    assert no_overlaps(page)


@pytest.mark.parametrize("width", [360, 768, 1440])
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_every_width_and_scheme_is_legible(page: Page, folder: Path, width: int, scheme: str) -> None:
    """At each width, light and dark, no two texts overlap, and the page does not scroll sideways."""
    page.media(prefers_color_scheme=scheme)
    page.size(width)
    for name, timeline in (("minute", recorded()), ("hour", long_call(60))):
        page.show(timeline)
        page.screenshot(folder / f"picture-{name}-{width}-{scheme}.png")
        assert no_overlaps(page)
        for _ in range(8):
            page.press("+")
        page.screenshot(folder / f"picture-{name}-{width}-{scheme}-near.png")
        assert no_overlaps(page)
    assert page.run("return document.documentElement.scrollWidth <= innerWidth")


def test_an_hour_is_drawn_in_time(page: Page) -> None:
    """A call of an hour with 900 utterances is laid out and drawn in less than a tenth of a second on average."""
    page.show(long_call(60))
    took = page.run(
        """
        const began = performance.now();
        for (let turn = 0; turn < 5; turn += 1) { picture.show(JSON.parse(arguments[0])); }
        return (performance.now() - began) / 5;
    """,
        json.dumps(long_call(60).to_dict()),
    )
    assert took < 100


# Keyboard and pointer -------------------------------------------------------------------------------------------------
def test_arrows_step_by_turn_and_item(page: Page) -> None:
    """Left and right step by turn, up and down through everything, with the details below the picture."""
    page.show(recorded())
    page.press("\ue014")
    details(page, "agent, 0.20 s to 1.20 s: “Good evening!”")
    page.press("\ue014")
    details(page, "caller, 2.00 s to 3.00 s: “When do you open?”")
    assert page.run("return sought") == [200, 2000]
    page.press("\ue015")
    details(
        page,
        "turn 1, 3.00 s: the caller waited 720 ms (end of the utterance 500 ms, STT and LLM 20 ms, TTS to wire 200",
    )
    page.press("\ue015")
    assert "made, not heard: “nine. On Sunday we are closed.”" in details(
        page, "agent, 3.72 s to 5.25 s, cut: “We open at”"
    )
    page.press("\ue012")
    details(page, "caller, 2.00 s")
    page.press("\ue00c")
    details(page, "Point at anything")


def test_space_plays_from_the_selection(page: Page) -> None:
    """The space bar plays from the selected words, or from where the recording is."""
    page.show(recorded())
    page.press("\ue014", "\ue014", " ")
    page.run("picture.position(7000)")
    page.press(" ")
    assert page.run("return played") == [2000, 7000]


def test_click_on_a_word_plays_it(page: Page) -> None:
    """A click on written words means the instant of the word; a click on a lane means the place."""
    from selenium.webdriver.common.action_chains import ActionChains  # noqa: PLC0415 (not installed everywhere)

    page.show(recorded())
    drawn = page.drawn
    question = next(box for box in boxes(page) if box["text"].startswith("When do"))
    canvas = page.run("return picture.canvas")
    size = canvas.size
    for x, y in ((question["right"] - 4, question["y"] + 8), (drawn["left"] + 100, 80)):
        chain = ActionChains(page.driver)
        chain.move_to_element_with_offset(canvas, round(x - size["width"] / 2), round(y - size["height"] / 2)).click()
        chain.perform()
    on_word, on_lane = page.run("return sought")
    assert 2_900 < on_word <= 3_000
    assert on_lane == pytest.approx(100 * drawn["msPerPixel"], abs=drawn["msPerPixel"] * 2)


def test_hover_shows_the_details(page: Page) -> None:
    """Pointing at a tool shows its arguments and its result; leaving hides them."""
    from selenium.webdriver.common.action_chains import ActionChains  # noqa: PLC0415 (not installed everywhere)

    page.show(recorded())
    tool = next(box for box in boxes(page) if box["text"].startswith("find_slots"))
    canvas = page.run("return picture.canvas")
    at = (round(tool["left"] + 5 - canvas.size["width"] / 2), round(tool["y"] + 8 - canvas.size["height"] / 2))
    ActionChains(page.driver).move_to_element_with_offset(canvas, *at).perform()
    details(page, 'tool, 5.00 s: find_slots {"day":"Sat"} → three 412 ms')


def test_zoom_keeps_within_the_call(page: Page) -> None:
    """Zooming in shows less, stepping scrolls, and the whole call comes back by a key or a button."""
    page.show(long_call(10))
    whole = page.drawn["msPerPixel"]
    page.press(*"++++++")
    near = page.drawn
    assert near["msPerPixel"] == pytest.approx(whole / 1.6**6)
    page.press("\ue010")
    end = page.drawn
    assert end["start"] + end["width"] * end["msPerPixel"] == pytest.approx(600_000)
    page.press("0")
    assert (page.drawn["start"], page.drawn["msPerPixel"]) == (0, whole)
    page.run("document.querySelector('[aria-label=\"Zoom in\"]').click()")
    assert page.drawn["msPerPixel"] == pytest.approx(whole / 1.6)


# Live calls -----------------------------------------------------------------------------------------------------------
def live_at(now: float) -> CallTimeline:
    """Return the timeline of a call of which this is known."""
    return timeline_of(CallFacts(call_id="CA1"), [event for event in stored(*CALL) if event["at_ms"] <= now])


def test_newest_second_is_at_the_right_edge(page: Page, folder: Path) -> None:
    """A live call ends at the right edge, and moves on while nothing happens; words that come are open."""
    page.live(attrs.evolve(live_at(5_130), duration_ms=30_000.0), 30_000)
    first = page.drawn
    assert first["live"]
    assert first["start"] + first["width"] * first["msPerPixel"] >= 30_000
    page.driver.execute_async_script("setTimeout(arguments[0], 300)")
    assert page.drawn["start"] > first["start"]
    page.live(live_at(5_130), 5_200)
    page.screenshot(folder / "picture-live.png")
    assert no_overlaps(page)
    page.show(folded(*CALL, QUIET, END))
    assert not page.drawn["live"]


def test_reduced_motion_moves_with_news_alone(page: Page) -> None:
    """For those who want no motion, a live picture moves only when something has happened."""
    page.media(prefers_reduced_motion="reduce")
    page.live(attrs.evolve(live_at(5_130), duration_ms=30_000.0), 30_000)
    first = page.drawn["start"]
    page.driver.execute_async_script("setTimeout(arguments[0], 300)")
    assert page.drawn["start"] == first
    page.live(attrs.evolve(live_at(5_130), duration_ms=31_000.0), 31_000)
    assert page.drawn["start"] == first + 1_000


def test_end_of_a_live_call_shows_all(page: Page) -> None:
    """When a live call ends, the picture shows the whole call."""
    page.live(live_at(5_130), 5_200)
    page.live(folded(*CALL, QUIET, END), 20_000)
    drawn = page.drawn
    assert not drawn["live"]
    assert drawn["msPerPixel"] * drawn["width"] == pytest.approx(20_000)


# What others have written ---------------------------------------------------------------------------------------------
def test_text_of_others_becomes_no_element(page: Page) -> None:
    """Markup in any text of a call is drawn as it is, and makes no element of the page."""
    hostile = HOSTILE.replace("\ud800", "")
    words = (Words("caller", 0, 4_000, hostile), Words("agent", 1_000, 2_000, hostile, hostile, cut=True))
    tools = tuple(attrs.evolve(tool, name=hostile, arguments={hostile: hostile}, error=hostile) for tool in TOOLS)
    marks = tuple(attrs.evolve(mark, text=hostile) for mark in MARKS)
    page.show(CallTimeline("CA1", words=words, tools=tools, marks=marks, duration_ms=20_000))
    page.press("\ue015")
    assert "<script>" in page.details
    assert page.run("return document.querySelectorAll('main script, main img, main iframe').length") == 0
    assert page.run("return picture.details.children.length") == 0


def test_empty_call_has_lanes_and_a_name(page: Page) -> None:
    """A call without anything is drawn, and its canvas has a name for those who do not see it."""
    page.show(CallTimeline("CA1"))
    label = page.run("return picture.canvas.getAttribute('aria-label')")
    assert label.startswith("Picture of the call: 0.00 s, 0 utterances, 0 turns, 0 tool calls.")
    page.press("\ue014", "\ue015", " ", "+", "-")
    assert boxes(page) == []


def test_destroyed_picture_leaves_nothing(page: Page) -> None:
    """A picture that is let go removes its elements, and draws no more."""
    page.live(live_at(5_130), 5_200)
    page.run("picture.destroy()")
    assert page.run("return document.querySelector('main').children.length") == 0


def test_recording_past_the_edge_turns_the_page(page: Page) -> None:
    """Where the recording plays is always in view: past the edge the picture turns a page."""
    page.show(long_call(10))
    page.press(*"++++++")
    page.run("picture.position(300000)")
    drawn = page.drawn
    assert drawn["start"] < 300_000 < drawn["start"] + drawn["width"] * drawn["msPerPixel"]


def test_words_of_a_second_utterance_are_beside(page: Page) -> None:
    """Utterances a tenth of a second apart do not cover each other."""
    page.show(folded(*utterance(1, 1_000, 1_200, 1_250, "one two"), *utterance(2, 1_300, 1_500, 1_600, "three"), END))
    assert no_overlaps(page)
