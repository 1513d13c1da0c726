"""docs/events.md: its examples print the numbers that it speaks of, and its tables have what the code has."""

import re
from pathlib import Path

import pytest

from patter_trio import PatterEventType, SpeechEvents
from patter_trio.agent.agent import OVERRIDABLE
from patter_trio.events.callback_registry import SERVE_CALLBACKS
from patter_trio.events.edges import EDGES
from patter_trio.events.kinds import PAYLOADS

DOCS = Path(__file__).parents[2] / "docs"
PAGE = (DOCS / "events.md").read_text(encoding="utf-8")
CALLBACKS = (DOCS / "callbacks.md").read_text(encoding="utf-8")


def program_after(heading: str) -> str:
    """The first program under a heading."""
    under = PAGE.partition(f"{heading}\n")[2]
    code = re.search(r"^```python\n(.*?)^```", under, re.MULTILINE | re.DOTALL)
    assert code is not None
    return code[1]


def printed(pytester: pytest.Pytester, heading: str) -> list[str]:
    result = pytester.runpython(pytester.makepyfile(example=program_after(heading)))
    assert result.ret == 0, result.stderr.str()
    return result.stdout.str().splitlines()


@pytest.mark.deep
def test_barge_in_example_prints_the_latency(pytester: pytest.Pytester) -> None:
    """The page's barge-in example prints how long the agent went on speaking."""
    [line] = printed(pytester, "### Barge-in latency")
    latency = re.fullmatch(r"barge-in latency: (\d+)ms \(target: <250ms\)", line)
    assert latency is not None
    assert 180 <= int(latency[1]) <= 200  # 250 ms after the onset, of which the detector takes 50 and a frame at most


@pytest.mark.deep
def test_first_token_example_prints_turn_times(pytester: pytest.Pytester) -> None:
    """The page's first-token example prints the times of the first token and first sound of each turn."""
    lines = printed(pytester, "### Time to the first token, and to the first sound")
    assert [line for line in lines if "token" in line] == [
        f"turn {turn}: first token after 350ms by scripted" for turn in (1, 2)
    ]
    sounds = [int(re.findall(r"after (\d+)ms", line)[0]) for line in lines if "sound" in line]
    assert len(sounds) == 2
    assert all(550 <= sound <= 1000 for sound in sounds)  # the first sentence's text and the first audio come behind it


@pytest.mark.deep
def test_the_channel_program_prints_each_turn(pytester: pytest.Pytester) -> None:
    """The page's channel example prints one line for its turn."""
    under = PAGE.partition("A channel suits a loop")[2]
    code = re.search(r"^```python\n(.*?)^```", under, re.MULTILINE | re.DOTALL)
    assert code is not None
    result = pytester.runpython(pytester.makepyfile(channel=code[1]))
    assert result.stdout.str().splitlines() == [f"turn 1 of CA{1:032d}: completed"]


@pytest.mark.parametrize("page", [PAGE, CALLBACKS])
@pytest.mark.parametrize("name", SERVE_CALLBACKS)
def test_each_callback_of_serve_has_a_row(page: str, name: str) -> None:
    """The events page and the callbacks page each have one row for each callback of serve()."""
    assert len([line for line in page.splitlines() if line.startswith(f"| `{name}` |")]) == 1


def test_page_lists_on_call_start_overrides() -> None:
    """The callbacks page lists exactly the settings that on_call_start may override."""
    under = CALLBACKS.partition("nothing else of the agent changes.\n\n")[2].partition("\n\n")[0]
    assert set(re.findall(r"`(\w+)`", under)) == OVERRIDABLE


@pytest.mark.parametrize("kind", PatterEventType)
def test_each_types_row_names_its_payloads_keys(kind: PatterEventType) -> None:
    """The row of an event type names exactly the keys of its payload."""
    [row] = [line for line in PAGE.splitlines() if line.startswith(f"| `{kind.name}` |")]
    named = set(re.findall(r"`(\w+)`", row.rpartition(" | ")[2])) - {"on_transcript", "on_call_start", "on_call_end"}
    assert named == PAYLOADS[kind].__annotations__.keys() - {"call_id"}


@pytest.mark.parametrize("edge", EDGES)
def test_each_edge_has_a_row(edge: str) -> None:
    """The events page has a row for each speech edge."""
    assert [line for line in PAGE.splitlines() if line.startswith(f"| `on_{edge}` |")]


def test_each_fire_method_has_a_row() -> None:
    """The events page has a row for each fire method, and for no other."""
    methods = {name for name in dir(SpeechEvents) if name.startswith("fire_")}
    assert set(re.findall(r"^\| `(fire_\w+)` \|", PAGE, re.MULTILINE)) == methods
