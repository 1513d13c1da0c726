"""docs/metrics.md: its picture is what the meter measures, its examples print what they should."""

import re
import runpy
from pathlib import Path

import pytest

DOCS = Path(__file__).parents[2] / "docs"
SNIPPETS = re.findall(
    r"^```python\n(.*?)^```", (DOCS / "metrics.md").read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL
)


def printed(pytester: pytest.Pytester, mark: str) -> list[str]:
    (code,) = [snippet for snippet in SNIPPETS if mark in snippet]
    result = pytester.runpython(pytester.makepyfile(example=code))
    assert result.ret == 0, result.stderr.str()
    return result.stdout.lines


def test_metrics_picture_is_up_to_date() -> None:
    """The picture of a turn on the metrics page is up to date."""
    made = runpy.run_path(str(DOCS / "make_metrics.py"))["picture"]()
    assert (DOCS / "metrics.svg").read_text(encoding="utf-8") == made, "run python docs/make_metrics.py"


@pytest.mark.deep
def test_the_example_for_the_cost_of_a_call(pytester: pytest.Pytester) -> None:
    """The cost example prints $0.0158 after 20 s and $0.0287 after 70 s.

    A begun minute costs $0.0129; 27 and 31 characters are spoken at $0.05 per thousand.
    """
    assert printed(pytester, "LEDGER") == [
        "  20.0 s  $0.0158, telephony $0.0129",
        "  70.0 s  $0.0287, telephony $0.0258",
    ]


@pytest.mark.deep
def test_the_example_for_the_p95_of_a_day(pytester: pytest.Pytester) -> None:
    """The percentile example prints a p50 of 1.2 s and a p95 of 1.9 s for its 15 turns."""
    assert printed(pytester, "today: list") == ["p50 of 15 turns: 1200 ms", "p95 of 15 turns: 1900 ms"]
