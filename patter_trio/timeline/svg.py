"""A call's timeline as SVG: every browser shows it, and its words can be searched.

Rows read like the lines of a text. In each, from the top: the caller's words and sound, the time, the agent's sound and
words, the parts of the caller's wait, tools, and what has an instant alone.
"""

from collections.abc import Iterator
from datetime import datetime
from statistics import median
from typing import Final

from patter_trio.phone_numbers import mask_number
from patter_trio.timeline.call_timeline import CallTimeline
from patter_trio.timeline.svg_row import LEFT_PX, MS_PER_S, WIDTH_PX, Row, rows_of
from patter_trio.timeline.svg_text import clean, fitted, markup, width_px

CALLER_COLOR: Final = "#2b78b8"
AGENT_COLOR: Final = "#d9822b"
# Three lines of text, and the legend.
_HEAD_PX: Final = 92
_TITLE_PX: Final = 15
_SMALL_PX: Final = 11
_RIGHT_PX: Final = WIDTH_PX - 16
# The text's colours are darker than the lanes', so that they have the contrast of WCAG AA on white (4.5:1).
_STYLE: Final = f"""
text {{ font: 12px system-ui, "DejaVu Sans", Helvetica, Arial, sans-serif; fill: #1c2733; white-space: pre }}
.small {{ font-size: 11px; fill: #55626f }} .head {{ font-size: 15px; font-weight: 600 }}
.lane {{ fill: #f3f5f7 }} .grid {{ stroke: #dde3e8 }} .guide {{ stroke: #8a96a3; stroke-dasharray: 2 2 }}
.caller {{ fill: #1f6199 }} .agent {{ fill: #9a5411 }} .unheard {{ fill: #66727f; text-decoration: line-through }}
.callerSound {{ fill: {CALLER_COLOR} }} .agentSound {{ fill: {AGENT_COLOR} }} .tail {{ fill: #c9d0d7 }}
.endpoint {{ fill: #7d8a97 }} .llm {{ fill: #a6b1bb }} .tts {{ fill: #cfd6dd }} .tool {{ fill: #5d4a8a }}
.cut {{ stroke: #c62828; stroke-width: 2 }} .red {{ fill: #b32121 }} .open {{ font-style: italic }}
.over {{ stroke: #fff; stroke-width: 3px; paint-order: stroke }}
"""
_LEGEND: Final = (
    ("callerSound", "caller"),
    ("agentSound", "agent"),
    ("tail", "made, not heard"),
    ("endpoint", "wait: end of the utterance"),
    ("llm", "STT and LLM"),
    ("tts", "TTS to wire"),
    ("tool", "tools"),
)


def svg_of(timeline: CallTimeline) -> str:
    """Return the picture of a call as SVG; phone numbers are masked, all text is escaped."""
    top, parts = float(_HEAD_PX), []
    for row in rows_of(timeline):
        height, drawn = _row(row)
        parts.append(f'<g transform="translate(0 {top:g})">')
        parts += drawn
        parts.append("</g>")
        top += height
    size = f'width="{WIDTH_PX}" height="{top:g}"'
    head = [
        f'<svg xmlns="http://www.w3.org/2000/svg" {size} viewBox="0 0 {WIDTH_PX} {top:g}" role="img">',
        # For a screen reader, to which the rest is one image.
        f"<title>{markup(heading(timeline))}</title>",
        f"<style>{_STYLE}</style>",
        '<rect width="100%" height="100%" fill="#fff"/>',
        *_heading(timeline),
        *_legend(),
    ]
    return "\n".join([*head, *parts, "</svg>", ""])


def _row(row: Row | tuple[float, float]) -> tuple[float, list[str]]:
    """Return the height and the elements of a row, or of a line for a time in which nothing happens."""
    if isinstance(row, Row):
        return row.draw()
    since, until = row
    text = f"{since / MS_PER_S:g} to {until / MS_PER_S:g} s: nothing is heard"
    return 26.0, [f'<text class="small" x="{LEFT_PX}" y="14">{text}</text>']


def heading(timeline: CallTimeline) -> str:
    """Return a call in one line: file or masked numbers, date, duration, outcome."""
    parties = " to ".join(filter(None, (mask_number(timeline.caller), mask_number(timeline.callee))))
    outcome = timeline.outcome.replace("_", " ") or ("over" if timeline.over else "live")
    parts = (timeline.title or parties or "A call", _date(timeline.began), duration(timeline.duration_ms), outcome)
    return " · ".join(filter(None, map(clean, parts)))


def _date(began: str) -> str:
    try:
        return f"{datetime.fromisoformat(began):%Y-%m-%d %H:%M}"
    except ValueError:
        # Of another form, or empty.
        return began


def duration(milliseconds: float) -> str:
    """Return a duration as people say it: ``47.9 s``, ``1 min 12 s``, ``1 h 02 min``."""
    seconds = milliseconds / MS_PER_S
    if seconds < 59.95:  # noqa: PLR2004 (below, one decimal rounds to less than a minute)
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes_left = divmod(minutes, 60)
    return f"{hours} h {minutes_left:02d} min" if hours else f"{minutes} min {rest:02d} s"


def _heading(timeline: CallTimeline) -> Iterator[str]:
    room = _RIGHT_PX - LEFT_PX
    title = fitted(heading(timeline), room, _TITLE_PX)
    yield f'<text class="head" x="{LEFT_PX}" y="24">{markup(title)}</text>'
    parties = " to ".join(filter(None, (mask_number(timeline.caller), mask_number(timeline.callee))))
    facts = [f"Call {timeline.call_id}", parties if timeline.title else ""]
    waits = [turn.total_ms for turn in timeline.turns if turn.total_ms is not None]
    if waits:
        middle = f"{median(waits) / MS_PER_S:.2f} s"
        facts.append(
            f"{len(waits)} answers, half of them within {middle}" if waits[1:] else f"1 answer, after {middle}"
        )
    costs = [turn.cost_usd for turn in timeline.turns if turn.cost_usd]
    if costs:
        # The highest: each is what the call had cost until then.
        facts.append(f"{max(costs):.4f} USD")
    line = fitted(" · ".join(filter(None, map(clean, facts))), room, _SMALL_PX)
    yield f'<text class="small" x="{LEFT_PX}" y="42">{markup(line)}</text>'
    if timeline.error:
        yield f'<text class="red" x="{LEFT_PX}" y="60">{markup(fitted(clean(timeline.error), room))}</text>'


def _legend() -> Iterator[str]:
    x = float(LEFT_PX)
    for kind, name in _LEGEND:
        yield f'<rect class="{kind}" x="{x:g}" y="69" width="10" height="10"/>'
        yield f'<text class="small" x="{x + 14:g}" y="78">{name}</text>'
        x += 14 + width_px(name, _SMALL_PX) + 16
    yield f'<line class="cut" x1="{x:g}" x2="{x:g}" y1="68" y2="80"/>'
    yield f'<text class="small" x="{x + 6:g}" y="78">reply cut</text>'
