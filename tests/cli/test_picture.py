"""The picture of a call: everything that was said, heard and waited for is in it, where it belongs."""

from dataclasses import replace
from xml.etree.ElementTree import Element, fromstring

import numpy as np
import pytest

from patter_trio.cli.picture import call_picture
from patter_trio.metrics.results import TurnMetrics
from patter_trio.testing.simulation.record import Event, Heard

SVG = "{http://www.w3.org/2000/svg}"
SECONDS = 20
LEFT, SECOND = 64, 90


def event(at: float, name: str, /, **payload: object) -> Event:
    return Event(at, name, payload)


EVENTS = [
    event(2.25, "user_speech_started", audio_offset_ms=2000),
    event(3.75, "user_speech_ended", audio_offset_ms=3500),
    event(4.0, "user_speech_eos"),
    event(4.0, "transcript", role="user", text="What are <your> hours?"),
    event(4.3, "agent_speech_started"),
    event(14.25, "user_speech_started", audio_offset_ms=14000),
    event(14.25, "agent_speech_ended", interrupted=True),
    event(15.5, "user_speech_ended", audio_offset_ms=15000),
    event(15.6, "transcript", role="user", text="Stop!"),
]
HEARD = [Heard("We open at nine & close at five.", 4.3, 14.25, interrupted=True)]


@pytest.fixture
def picture() -> Element:
    silence = np.zeros(SECONDS * 8000, np.int16)
    caller = silence.copy()
    caller[2 * 8000 : 3 * 8000] = 20000
    return fromstring(call_picture("Call CA1", (caller, silence), EVENTS, HEARD))  # noqa: S314 (our own)


def texts(picture: Element) -> dict[str, Element]:
    return {element.text or "": element for element in picture.iter(f"{SVG}text")}


def test_words_stand_where_their_sound_begins(picture: Element) -> None:
    """The picture places each text at the second at which its sound begins."""
    words = texts(picture)
    assert float(words["What are <your> hours?"].get("x")) == LEFT + 2 * SECOND
    assert float(words["Stop!"].get("x")) == LEFT + 2 * SECOND  # 14 s: two seconds into the second row
    assert float(words["We open at nine & close at five."].get("x")) == LEFT + 4.3 * SECOND


def test_answer_wait_is_drawn_and_labelled(picture: Element) -> None:
    """The picture shows the wait from the caller's last voice to the agent's first sound, with its seconds."""
    assert "0.80 s" in texts(picture)
    (pause,) = [line for line in picture.iter(f"{SVG}line") if line.get("class") == "pause"]
    assert (float(pause.get("x1")), float(pause.get("x2"))) == (LEFT + 3.5 * SECOND, LEFT + 4.3 * SECOND)


def test_interruption_is_drawn_at_agent_silence(picture: Element) -> None:
    """The picture marks an interruption where the agent fell silent."""
    (cut,) = [line for line in picture.iter(f"{SVG}line") if line.get("class") == "cut"]
    assert float(cut.get("x1")) == LEFT + 2.25 * SECOND
    assert "interrupted" in texts(picture)


def test_only_sound_is_drawn(picture: Element) -> None:
    """The picture draws a wave only from second 2 to second 3, where the caller speaks."""
    (path,) = picture.iter(f"{SVG}path")
    places = [float(move.split()[0]) for move in path.get("d").removeprefix("M").split("M")]
    assert LEFT + 2 * SECOND - 2 <= min(places) < max(places) <= LEFT + 3 * SECOND


def test_second_row_continues_the_time_axis(picture: Element) -> None:
    """The second row of the picture begins at the second where the first one ends."""
    labels = texts(picture)
    assert {"0 s", "11 s", "12 s", "19 s"} <= labels.keys()
    assert "20 s" not in labels
    assert float(labels["12 s"].get("x")) == float(labels["0 s"].get("x"))


def test_long_text_is_shortened_with_full_title() -> None:
    """The picture shortens a long text, and its title has the whole text."""
    silence = np.zeros(2 * 8000, np.int16)
    text = "word " * 200
    picture = fromstring(  # noqa: S314 (our own)
        call_picture("Call", (silence, silence), [event(0.5, "transcript", role="user", text=text)], [])
    )
    assert any(label.endswith(" ...") for label in texts(picture))
    assert [title.text for title in picture.iter(f"{SVG}title")] == [text]


def test_text_at_row_end_moves_to_next_row() -> None:
    """The picture shows a text that begins at the end of a row in the next row."""
    silence = np.zeros(30 * 8000, np.int16)
    heard = [Heard("Good evening, this is the desk.", 11.5, 14.0, interrupted=False)]
    picture = fromstring(call_picture("Call", (silence, silence), [], heard))  # noqa: S314 (our own)
    assert float(texts(picture)["Good evening, this is the desk."].get("x")) == LEFT


def test_a_call_without_sound_is_a_picture_too() -> None:
    """A call without any sound still gives a picture with its title and both parties."""
    nothing = np.zeros(0, np.int16)
    picture = fromstring(call_picture("Call", (nothing, nothing), [], []))  # noqa: S314 (our own)
    assert {"Call", "caller", "agent"} <= texts(picture).keys()


# What has no sound ----------------------------------------------------------------------------------------------------
def drawn(*events: Event, seconds: int = 30) -> Element:
    silence = np.zeros(seconds * 8000, np.int16)
    return fromstring(call_picture("Call", (silence, silence), events, []))  # noqa: S314 (our own)


def test_tools_keys_failures_and_end_are_drawn() -> None:
    """The picture has each tool with its time, each key, each failed reply, and how the call ended."""
    failed = TurnMetrics(turn_index=1, user_text="", agent_text="", failed=True)
    labels = texts(
        drawn(
            event(1.0, "dtmf", digit="#"),
            event(5.0, "tool_call_completed", name="find_slots", duration=2.0, result="none"),
            event(6.0, "tool_call_completed", name="book", duration=0.5, result="", error="full"),
            event(7.0, "metrics", turn=failed),
            event(8.0, "metrics", turn=replace(failed, failed=False)),
            event(9.0, "call_end", outcome="transferred"),
        )
    )
    assert float(labels["key #"].get("x")) == LEFT + SECOND
    assert float(labels["find_slots 2.00 s"].get("x")) == LEFT + 4 * SECOND  # in the middle of 3 to 5
    assert labels["book 0.50 s failed"].get("class") == labels["reply failed"].get("class") == "red"
    assert (labels["transferred"].get("class"), labels["transferred"].get("text-anchor")) == ("small", "start")


def test_failed_call_ends_in_red_within_its_row() -> None:
    """The end of a call with an error is red, and stands to the left of an instant late in its row."""
    label = texts(drawn(event(11.5, "call_end", outcome="failed", error="no STT")))["failed"]
    assert (label.get("class"), label.get("text-anchor")) == ("red", "end")


@pytest.mark.parametrize(
    ("start", "end", "parts", "label_row"),
    [
        (3.0, 5.0, [(3.0, 5.0)], 0),
        (11.0, 14.0, [(11.0, 12.0), (0.0, 2.0)], 1),
        (8.0, 13.0, [(8.0, 12.0), (0.0, 1.0)], 0),
        (11.0, 25.0, [(11.0, 12.0), (0.0, 12.0), (0.0, 1.0)], 1),
    ],
)
def test_waits_are_drawn_over_row_ends(
    start: float, end: float, parts: list[tuple[float, float]], label_row: int
) -> None:
    """A wait that goes over the end of a row is a line in each row, with its length over the longest one."""
    picture = drawn(
        event(start, "user_speech_ended", audio_offset_ms=round(start * 1000)), event(end, "agent_speech_started")
    )
    lines = [line for line in picture.iter(f"{SVG}line") if line.get("class") == "pause"]
    found = [((float(line.get("x1")) - LEFT) / SECOND, (float(line.get("x2")) - LEFT) / SECOND) for line in lines]
    assert found == parts
    label = texts(picture)[f"{end - start:.2f} s"]
    assert float(label.get("y")) == float(lines[label_row].get("y1")) - 3
