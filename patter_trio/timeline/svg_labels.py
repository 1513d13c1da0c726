"""The labels below the words in a call's picture: waits, tools, cuts and marks, without overlaps. Pure."""

import json
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, Final
from xml.sax.saxutils import escape

import attrs

from patter_trio.timeline.call_timeline import CallTimeline, Lane, Mark, ToolCall, Turn
from patter_trio.timeline.svg_text import Tracks, clean, fitted, width_px

_MS_PER_S: Final = 1000.0
_SMALL_PX: Final = 11
_GAP_PX: Final = 12.0
_MAX_TEXT_PX: Final = 420.0
# Judged by eye: less room shows a few letters of a tool's name.
_MIN_ROOM_PX: Final = 80.0
_BAR_PX: Final = 9
# Judged: a longer tooltip covers the picture.
_MAX_TITLE_CHARACTERS: Final = 2000
_MARK_WORDS: Final = {
    "key": "key {}",
    "guardrail": "guardrail {}",
    "hook": "hook {}",
    "vetoed": "words dropped",
    "reply_failed": "reply failed: {}",
    "machine": "answered by: {}",
    "transfer": "{}",
    "hang_up": "{}",
    "failed": "{}",
}
_RED_MARKS: Final = ("reply_failed", "failed", "guardrail")


@attrs.frozen
class Bar:
    """A part of a label's stretch of time."""

    start_ms: float
    end_ms: float
    kind: str


@attrs.frozen
class Label:
    """A text at an instant, with the stretch of time that it is about, if it has one."""

    at_ms: float
    """Where the text stands."""
    text: str
    style: str
    bars: tuple[Bar, ...] = ()
    guide: Lane | None = None
    """The lane to which a dashed line leads."""
    title: str = ""
    """More about it, for the tooltip."""


def labels_of(timeline: CallTimeline, length_ms: float, count: int) -> Mapping[int, tuple[Label, ...]]:
    """Return the labels of each row that has any; one whose time goes over a row's end has bars in each row."""
    found: dict[int, list[Label]] = {}
    labels = [
        *(label for turn in timeline.turns for label in _wait(turn)),
        *(_tool(tool, timeline.duration_ms) for tool in timeline.tools),
        *_cuts(timeline),
        *map(_mark, timeline.marks),
    ]
    for label in sorted(labels, key=lambda label: label.at_ms):
        for row, part in _split(label, length_ms, count):
            found.setdefault(row, []).append(part)
    return {row: tuple(parts) for row, parts in found.items()}


def _wait(turn: Turn) -> Iterator[Label]:
    """Yield the caller's wait for the answer of a turn, as a bar of its parts."""
    if turn.voice_end_ms is None or turn.total_ms is None:
        return
    at, bars, parts = turn.voice_end_ms, [], []
    for kind, lasts in (("endpoint", turn.endpoint_ms), ("llm", turn.llm_ms), ("tts", turn.tts_ms)):
        if lasts is not None:
            bars.append(Bar(at, at + lasts, kind))
            parts.append(f"{lasts:.0f}")
            at += lasts
    title = f"turn {turn.index}: waited {turn.total_ms:.0f} ms: endpoint, STT and LLM, TTS: {' + '.join(parts)} ms"
    yield Label(
        turn.voice_end_ms,
        f"{turn.total_ms / _MS_PER_S:.2f} s = {' + '.join(parts)} ms",
        "small",
        tuple(bars),
        title=title,
    )


def _tool(tool: ToolCall, duration_ms: float) -> Label:
    # Never before its beginning, whatever others have written into a timeline.
    end = max(tool.start_ms, duration_ms if tool.end_ms is None else tool.end_ms)
    took = "running" if tool.end_ms is None else f"{end - tool.start_ms:.0f} ms"
    result = f"failed: {tool.error}" if tool.error else "" if tool.end_ms is None else f"→ {_shown(tool.result)}"
    text = " ".join(filter(None, (tool.name, _shown(tool.arguments), result)))
    # The time first of what may be cut off: a text is shortened at its end.
    # 70 px: the room of the time, which stands behind it.
    shown = f"{fitted(clean(text), _MAX_TEXT_PX - 70, _SMALL_PX)} {took}"
    style = "small red" if tool.error else "small"
    return Label(tool.start_ms, shown, style, (Bar(tool.start_ms, end, "tool"),), title=f"{clean(text)} {took}")


def _shown(value: Any) -> str:
    if isinstance(value, str):
        return value
    return "" if value is None or value == {} else json.dumps(value, ensure_ascii=False)


def _cuts(timeline: CallTimeline) -> Iterator[Label]:
    for cut in timeline.interruptions:
        why = f" ({cut.reason})" if cut.reason else ""
        heard = f"heard: {cut.heard}" if cut.heard else "nothing was heard"
        yield Label(cut.at_ms, f"cut after {cut.heard_ms / _MS_PER_S:.2f} s{why}", "small red", title=heard)


def _mark(mark: Mark) -> Label:
    text = _MARK_WORDS[mark.kind].format(mark.text).removesuffix(": ")
    return Label(mark.at_ms, text, "small red" if mark.kind in _RED_MARKS else "small", guide=mark.lane, title=text)


def _split(label: Label, length_ms: float, count: int) -> Iterator[tuple[int, Label]]:
    """Yield the part of a label in each row; its text is in the row in which most of its time is."""
    last = count - 1
    if not label.bars:
        yield min(int(label.at_ms / length_ms), last), label
        return
    begun, ended = label.bars[0].start_ms, max(bar.end_ms for bar in label.bars)
    rows = range(min(int(begun / length_ms), last), min(int(ended / length_ms), last) + 1)
    shares = {row: min(ended, (row + 1) * length_ms) - max(begun, row * length_ms) for row in rows}
    longest = max(shares, key=lambda row: shares[row])
    for row in rows:
        bars = tuple(
            attrs.evolve(
                bar, start_ms=max(bar.start_ms, row * length_ms), end_ms=min(bar.end_ms, (row + 1) * length_ms)
            )
            for bar in label.bars
            # A stretch without length at the edge of a row would otherwise be in no row.
            if begun == ended or (bar.start_ms < (row + 1) * length_ms and bar.end_ms > row * length_ms)
        )
        if bars or row == longest:
            at = max(label.at_ms, row * length_ms)
            yield row, attrs.evolve(label, at_ms=at, bars=bars, text=label.text if row == longest else "")


def _place(label: Label, x: float, bar_end: float, left: float, right: float) -> tuple[str, str, float]:
    """Return a label's style, text and place: behind its bar, before it, or over a bar that fills the row."""
    text = fitted(clean(label.text), _MAX_TEXT_PX, _SMALL_PX)
    wide = width_px(text, _SMALL_PX)
    behind = bar_end + (5 if label.bars else 7)
    before, room = x - 7 - left, right - behind
    if wide <= room:
        return label.style, text, behind
    if wide <= before:
        return label.style, text, x - 7 - wide
    if max(before, room) < _MIN_ROOM_PX:
        return f"{label.style} over", fitted(text, bar_end - x - 12, _SMALL_PX), x + 6
    # The greater room, shortened.
    text = fitted(text, max(before, room), _SMALL_PX)
    return label.style, text, behind if room >= before else x - 7 - width_px(text, _SMALL_PX)


class Labels:
    """The labels of one row in tracks without overlaps.

    Args:
        labels: the labels, by their time.
        x_of: returns the place of an instant.
        right: the row's right edge.
    """

    def __init__(self, labels: Sequence[Label], x_of: Callable[[float], float], right: float) -> None:
        tracks = Tracks()
        self._placed: list[tuple[Label, float, float, int]] = []
        """Each label with the place of its instant, of its text, and its track."""
        for label in labels:
            x = x_of(label.at_ms)
            bar_end = max((x_of(bar.end_ms) for bar in label.bars), default=x)
            style, text, text_x = _place(label, x, bar_end, x_of(-math.inf), right)
            left, end = min(x, text_x), max(bar_end, text_x + width_px(text, _SMALL_PX))
            placed = attrs.evolve(label, style=style, text=text)
            self._placed.append((placed, x, text_x, tracks.place(left, end + _GAP_PX)))
        self.count: int = tracks.count
        """The number of tracks."""
        self._x_of = x_of

    def draw(self, top: float, height: float, caller_top: float, agent_top: float, lane_px: float) -> Iterator[str]:
        """Yield the elements of all labels, from ``top`` down."""
        for label, x, text_x, track in self._placed:
            y, text = top + track * height, label.text
            yield f"<g><title>{escape(clean(label.title or text)[:_MAX_TITLE_CHARACTERS])}</title>"
            for bar in label.bars:
                left, right = self._x_of(bar.start_ms), self._x_of(bar.end_ms)
                yield (
                    f'<rect class="{bar.kind}" x="{left:g}" y="{y + 3:g}" width="{max(1.0, right - left):.1f}" '
                    f'height="{_BAR_PX}"/>'
                )
            if label.guide is not None:
                lane = caller_top if label.guide == "caller" else agent_top
                yield f'<line class="guide" x1="{x:g}" x2="{x:g}" y1="{lane:g}" y2="{lane + lane_px:g}"/>'
                yield f'<circle class="{label.guide}Sound" cx="{x:g}" cy="{y + 8:g}" r="3"/>'
            if text:
                yield f'<text class="{label.style}" x="{text_x:.1f}" y="{y + 12:g}">{escape(text)}</text>'
            yield "</g>"
