"""docs/tracing.md names what is recorded: no attribute less, no attribute more."""

import re
from pathlib import Path

from patter_trio.tracing import call_trace
from patter_trio.tracing.attributes import COSTS, SPAN_EVENTS, STATISTICS

PAGE = (Path(__file__).parents[2] / "docs" / "tracing.md").read_text(encoding="utf-8")
NAME = re.compile(r"\b(?:patter|gen_ai|error|code)\.[a-z_]+(?:\.[a-z_]+)*\b")


def test_the_page_has_the_table_of_span_events() -> None:
    """The tracing page has a row for each span event with its edge and its attributes."""
    rows = {
        f"| `on_{event.edge.name}` | `{event.name}` | {', '.join(f'`{name}`' for name in event.values)} |"
        for event in SPAN_EVENTS
    }
    assert rows <= set(PAGE.splitlines())


def test_tracing_page_names_all_recorded_attributes() -> None:
    """The tracing page names every span and attribute that a call records, and no other."""
    code = Path(call_trace.__file__).read_text(encoding="utf-8")
    recorded = set(NAME.findall(" ".join(re.findall(r'"[^"\n]*"', code))))
    recorded |= {name for event in SPAN_EVENTS for name in (event.name, *event.values)}
    prose = re.sub(r"^```python\n.*?^```", "", PAGE, flags=re.MULTILINE | re.DOTALL)
    named = set(NAME.findall(" ".join(re.findall(r"`[^`\n]*`", prose))))
    measured = {name for name in named if name.startswith(("patter.cost.", "patter.latency.", "patter.hook"))}
    assert named - measured == recorded
    assert measured == {"patter.cost.stt", "patter.latency.avg.total_ms", "patter.hook"}
    assert "| `patter.hook.NAME.count`, `.total_ms`, `.max_ms` |" in PAGE
    assert all(f"`.{name}`" in PAGE for name in COSTS if name != "stt")
    assert all(f"`{statistic}`" in PAGE for statistic in STATISTICS)
