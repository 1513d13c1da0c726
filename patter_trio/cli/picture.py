"""A call as a picture: the words of caller and agent with their times, the pauses, and the interruptions.

The picture is SVG, so that every browser shows it and its words can be searched. Rows of :data:`ROW_S` seconds read
like lines of a text; in each row the caller's lane is above the agent's.
"""

import math
import textwrap
from collections.abc import Iterator, Sequence
from typing import Final, Literal
from xml.sax.saxutils import escape

import attrs
import numpy as np

from patter_trio.audio.formats import RATE_HZ
from patter_trio.audio.g711 import Samples
from patter_trio.testing.simulation.record import Event, Heard

# A row of 12 s is as wide as a screen: 1080 pixels.
ROW_S: Final = 12.0
"""Seconds per row."""
PIXELS_PER_S: Final = 90
"""Horizontal scale: pixels per second."""
# The sizes below were chosen by eye.
_LEFT_PX: Final = 64
_HEAD_PX: Final = 46
_LANE_PX: Final = 48
_TEXT_PX: Final = 44
_AXIS_PX: Final = 22
_ROW_PX: Final = 2 * (_LANE_PX + _TEXT_PX) + _AXIS_PX + 14
_LINE_PX: Final = 14
_MAX_LINES: Final = 3
# An average of the font's letters; a text that is a little too long does no harm.
_CHARACTER_PX: Final = 6.3
"""Width, in pixels, of an average character at the size of the text."""
_MIN_TEXT_PX: Final = 180
"""Space, in pixels, before a row's end below which a text that continues is written into the next row."""
_WIDTH_PX: Final = round(_LEFT_PX + ROW_S * PIXELS_PER_S + 16)

_STYLE: Final = """
text { font: 12px system-ui, sans-serif; fill: #1c2733 } .small { font-size: 11px; fill: #5b6875 }
.head { font-size: 15px; font-weight: 600 } .caller { fill: #2a78b8 } .agent { fill: #d9822b }
.lane { fill: #f3f5f7 } .grid { stroke: #dde3e8 } .pause { stroke: #5b6875 } .cut { stroke: #c62828; stroke-width: 2 }
.red { fill: #c62828; font-weight: 600 }
"""

Lane = Literal["caller", "agent"]


@attrs.frozen
class _Spoken:
    """Words, with the times at which their sound begins and ends."""

    text: str
    started: float
    ended: float


def call_picture(
    title: str,
    recording: tuple[Samples, Samples],
    events: Sequence[Event],
    heard: Sequence[Heard],
    *,
    subtitle: str = "",
) -> str:
    """Return a call as SVG: audio and words of both sides, waits, interruptions, tools, keys, failures and the end.

    Args:
        title: the picture's heading.
        recording: the audio of the caller and the audio that the caller heard, 8 kHz, of the same length.
        events: the call's events, those of the bus included, with times in seconds since the media began.
        heard: the agent's utterances.
        subtitle: a small line below the heading.
    """
    seconds = len(recording[0]) / RATE_HZ
    # At least one row: a call without audio still has a title.
    rows = range(max(1, math.ceil(seconds / ROW_S)))
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{_WIDTH_PX}" height="{_HEAD_PX + len(rows) * _ROW_PX}">',
        f"<style>{_STYLE}</style>",
        '<rect width="100%" height="100%" fill="#fff"/>',
        f'<text class="head" x="{_LEFT_PX}" y="22">{escape(title)}</text>',
        f'<text class="small" x="{_LEFT_PX}" y="38">{escape(subtitle)}</text>',
    ]
    said: dict[Lane, list[_Spoken]] = {
        # The caller's words are the STT provider's; the agent's are those that were heard.
        "caller": _caller_words(events),
        "agent": [_Spoken(one.text, one.started, one.ended) for one in heard],
    }
    for row in rows:
        parts += _frame(row, seconds)
        for lane, samples in zip(said, recording, strict=True):
            parts += _wave(lane, samples, row)
    for lane, spoken in said.items():
        # Words may be as long as the gap to the next ones.
        following = [*(words.started for words in spoken[1:]), math.inf]
        for words, until in zip(spoken, following, strict=False):
            parts += _words(lane, words, until)
    parts += _pauses(events)
    parts += _marks(events)
    for utterance in heard:
        if utterance.interrupted:
            parts += _cut(utterance.ended)
    return "\n".join([*parts, "</svg>", ""])


def _x(at: float) -> float:
    return round(_LEFT_PX + (at % ROW_S) * PIXELS_PER_S, 1)


def _top(row: int, lane: Lane) -> int:
    """Return the top of a lane: the caller's words are above it, the agent's below."""
    top = _HEAD_PX + row * _ROW_PX + _TEXT_PX
    return top if lane == "caller" else top + _LANE_PX + _AXIS_PX


def _frame(row: int, seconds: float) -> Iterator[str]:
    """Draw a row's lanes and its time axis, as far as the call goes."""
    length = min(ROW_S, seconds - row * ROW_S)
    lanes: tuple[Lane, ...] = ("caller", "agent")
    for lane in lanes:
        top = _top(row, lane)
        yield f'<rect class="lane" x="{_LEFT_PX}" y="{top}" width="{length * PIXELS_PER_S:.0f}" height="{_LANE_PX}"/>'
        yield f'<text x="{_LEFT_PX - 8}" y="{top + _LANE_PX / 2 + 4:.0f}" text-anchor="end">{lane}</text>'
    axis = _top(row, "caller") + _LANE_PX
    for second in range(math.ceil(length)):
        x = _LEFT_PX + second * PIXELS_PER_S
        yield f'<line class="grid" x1="{x}" x2="{x}" y1="{axis - _LANE_PX}" y2="{axis + _AXIS_PX + _LANE_PX}"/>'
        yield f'<text class="small" x="{x + 3}" y="{axis + 15}">{row * ROW_S + second:.0f} s</text>'


def _wave(lane: Lane, samples: Samples, row: int) -> Iterator[str]:
    """Draw the envelope of a lane's audio, one step per two pixels; silence is left blank."""
    # One step per two pixels, the width of a bar.
    step = 2 * RATE_HZ // PIXELS_PER_S
    # 32 bits: the absolute value of -32768 does not fit into 16.
    part = np.abs(samples[int(row * ROW_S * RATE_HZ) : int((row + 1) * ROW_S * RATE_HZ)].astype(np.int32))
    peaks = [int(part[start : start + step].max()) for start in range(0, len(part), step)]
    middle = _top(row, lane) + _LANE_PX // 2
    bars = []
    for number, peak in enumerate(peaks):
        # A root: quiet speech would otherwise be flat beside loud speech.
        half = round((peak / 32768) ** 0.5 * _LANE_PX / 2, 1)
        if half >= 1:
            bars.append(f"M{_LEFT_PX + number * step / RATE_HZ * PIXELS_PER_S:.1f} {middle - half:g}v{2 * half:g}")
    if bars:
        color = "#2a78b8" if lane == "caller" else "#d9822b"
        yield f'<path d="{"".join(bars)}" stroke="{color}" stroke-width="2"/>'


def _caller_words(events: Sequence[Event]) -> list[_Spoken]:
    """Return the recognised words of the caller, each utterance from its first voice to its last."""
    said: list[_Spoken] = []
    started = ended = None
    for event in events:
        match event.name:
            case "user_speech_started":
                started = event.payload["audio_offset_ms"] / 1000 if started is None else started
            case "user_speech_ended":
                ended = event.payload["audio_offset_ms"] / 1000
            case "transcript" if event.payload["role"] == "user":
                begun = event.at if started is None else started
                if event.payload.get("revises") and said:
                    begun = said.pop().started  # the same utterance, with more words or other ones
                # An end before the begin belongs to a voice before this one.
                said.append(_Spoken(event.payload["text"], begun, max(begun, ended or begun)))
                started = ended = None
    return said


def _words(lane: Lane, spoken: _Spoken, following: float) -> Iterator[str]:
    """Write words at their beginning, in as many lines as fit before the lane's next words."""
    row, x = int(spoken.started // ROW_S), _x(spoken.started)
    # A text that begins at a row's end and goes on has more room in the next row.
    if _WIDTH_PX - x < _MIN_TEXT_PX and spoken.ended // ROW_S > row:
        row, x = row + 1, float(_LEFT_PX)
    end = _LEFT_PX + ROW_S * PIXELS_PER_S if following >= (row + 1) * ROW_S else _x(following) - 8
    # At least 14 characters: a narrow gap would make a column of letters.
    lines = textwrap.wrap(spoken.text, max(14, int((end - x) / _CHARACTER_PX))) or ["..."]
    if len(lines) > _MAX_LINES:
        lines = [*lines[: _MAX_LINES - 1], lines[_MAX_LINES - 1] + " ..."]
    top = _top(row, lane)
    first = top - 5 - _LINE_PX * (len(lines) - 1) if lane == "caller" else top + _LANE_PX + _LINE_PX
    # The whole text as a tooltip, because the lines may be cut.
    yield f"<g><title>{escape(spoken.text)}</title>"
    for number, line in enumerate(lines):
        yield f'<text class="{lane}" x="{x:g}" y="{first + number * _LINE_PX}">{escape(line)}</text>'
    yield "</g>"


def _pauses(events: Sequence[Event]) -> Iterator[str]:
    """Draw the caller's wait for each answer, from the last voice to the first sound."""
    silent_since: float | None = None
    for event in events:
        if event.name == "user_speech_ended":
            silent_since = event.payload["audio_offset_ms"] / 1000
        elif event.name == "agent_speech_started" and silent_since is not None:
            waited = f"{event.at - silent_since:.2f} s"
            yield from _span(silent_since, event.at, waited, _LANE_PX // 2, "small")
            silent_since = None


def _span(start: float, end: float, label: str, below: int, kind: str) -> Iterator[str]:
    """Draw a line in the agent's lane, ``below`` pixels under its top, with a label over its longest part.

    A time that goes over the end of a row is a line in each row.
    """
    last = max(int(end // ROW_S), int(start // ROW_S))
    parts = [
        (row, max(start, row * ROW_S), min(max(end, start), (row + 1) * ROW_S))
        for row in range(int(start // ROW_S), last + 1)
    ]
    longest = max(parts, key=lambda part: part[2] - part[1])
    for row, begun, ended in parts:
        y = _top(row, "agent") + below
        # Within the row: the instant at its end is the next one's beginning.
        left, right = _LEFT_PX + (begun - row * ROW_S) * PIXELS_PER_S, _LEFT_PX + (ended - row * ROW_S) * PIXELS_PER_S
        yield f'<line class="pause" x1="{left:g}" x2="{right:g}" y1="{y}" y2="{y}"/>'
        if (row, begun, ended) == longest:
            yield (
                f'<text class="{kind}" x="{(left + right) / 2:g}" y="{y - 3}" '
                f'text-anchor="middle">{escape(label)}</text>'
            )


def _marks(events: Sequence[Event]) -> Iterator[str]:
    """Draw what has no sound: keys, tools, failed replies, and how the call ended."""
    for event in events:
        match event.name:
            case "dtmf":
                yield _label("caller", event.at, f"key {event.payload['digit']}", "small")
            case "tool_call_completed":
                name, took = str(event.payload["name"]), float(event.payload["duration"])
                failed = "error" in event.payload
                label = f"{name} {took:.2f} s{' failed' if failed else ''}"
                # Above the wait for the answer, which includes the tool's time.
                yield from _span(event.at - took, event.at, label, 12, "red" if failed else "small")
            case "metrics" if event.payload["turn"].failed:
                yield _label("agent", event.at, "reply failed", "red")
            case "call_end":
                end = str(event.payload["outcome"]).replace("_", " ")
                yield _label("caller", event.at, end, "red" if "error" in event.payload else "small")
            case _:
                pass


def _label(lane: Lane, at: float, text: str, kind: str) -> str:
    """Return a label within a lane, at an instant."""
    row, x = int(at // ROW_S), _x(at)
    # To the left of an instant that is late in its row: to the right the row ends.
    anchor = "end" if _WIDTH_PX - x < _MIN_TEXT_PX else "start"
    return f'<text class="{kind}" x="{x:g}" y="{_top(row, lane) + 12}" text-anchor="{anchor}">{escape(text)}</text>'


def _cut(at: float) -> Iterator[str]:
    """Mark the moment of an interruption."""
    row, x = int(at // ROW_S), _x(at)
    top = _top(row, "caller")
    yield f'<line class="cut" x1="{x}" x2="{x}" y1="{top}" y2="{top + 2 * _LANE_PX + _AXIS_PX}"/>'
    yield f'<text class="red" x="{x + 4:g}" y="{top + 2 * _LANE_PX + _AXIS_PX - 5}">interrupted</text>'
