"""One row of a call's picture: its sections from the caller's words down to the marks. Pure."""

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Final

import attrs

from patter_trio.timeline.call_timeline import CallTimeline, Lane, Peaks, Span, Words
from patter_trio.timeline.svg_labels import Label, Labels, labels_of
from patter_trio.timeline.svg_words import Block, blocks_of, placed

MS_PER_S: Final = 1000.0
LEFT_PX: Final = 64
"""Where a row's time begins."""
ROW_PX: Final = 1080
"""Width of a row: a screen's."""
WIDTH_PX: Final = LEFT_PX + ROW_PX + 16
# Judged by eye: an utterance of three seconds has room for its words in three lines.
_ROW_S_OF_CALLS: Final = ((180.0, 12.0), (900.0, 20.0), (math.inf, 30.0))
"""Seconds in a row, by the greatest duration of a call in seconds."""
LANE_PX: Final = 40
_AXIS_PX: Final = 20
_LABEL_PX: Final = 17
_GAP_PX: Final = 22
_WAIT_PX: Final = 8
# Half the height of the lowest bar: a flatter one would be a line, drawn for each pixel of silence.
_MIN_PEAK_PX: Final = 1.0
_BAR_PX: Final = 2
_FULL_PEAK: Final = 255
# A voice without audio is a bar.
_BAR_HEIGHT_PX: Final = 14
# Peaks below are noise of the line: 2 of 255 are -42 dB.
_QUIET_PEAK: Final = 2


@attrs.frozen
class Row:
    """A stretch of a call as wide as the picture."""

    timeline: CallTimeline
    start_ms: float
    length_ms: float
    """The time that a row shows."""
    words: tuple[Block, ...]
    labels: tuple[Label, ...]
    voices: tuple[Span, ...]
    """When the caller's voice is heard."""
    speech: tuple[Span, ...]
    """When the agent is heard."""
    tails: tuple[Span, ...]
    """When the rest of a cut reply would have been heard."""
    cuts: tuple[Span, ...]

    @property
    def end_ms(self) -> float:
        """The end of what is shown: the row's, or the call's."""
        return min(self.start_ms + self.length_ms, self.timeline.duration_ms)

    def x(self, at_ms: float) -> float:
        """Return the place of an instant; one outside the row is at its edge."""
        share = (at_ms - self.start_ms) / self.length_ms
        return round(LEFT_PX + min(max(share, 0.0), 1.0) * ROW_PX, 1)

    def is_empty(self) -> bool:
        """Return True if nothing is said, heard or marked in the row."""
        spoken = self.voices or self.speech or self.words
        return not (spoken or self.labels or self._is_loud(self.timeline.peaks))

    def _is_loud(self, peaks: Peaks | None) -> bool:
        return peaks is not None and any(
            peak > _QUIET_PEAK for lane in (peaks.caller, peaks.agent) for peak in self._steps(peaks, lane)
        )

    def _steps(self, peaks: Peaks, lane: Sequence[int]) -> Sequence[int]:
        return lane[int(self.start_ms / peaks.step_ms) : math.ceil(self.end_ms / peaks.step_ms)]

    def draw(self) -> tuple[float, list[str]]:
        """Return the row's height and its elements, from y = 0."""
        right = float(LEFT_PX + ROW_PX)
        above = placed([block for block in self.words if block.lane == "caller"], self.x, right)
        below = placed([block for block in self.words if block.lane == "agent"], self.x, right)
        caller_top = above.height + 6
        agent_top = caller_top + LANE_PX + _AXIS_PX
        words_top = agent_top + LANE_PX + 4
        marks_top = words_top + below.height + 6
        labels = Labels(self.labels, self.x, right)
        bottom = marks_top + labels.count * _LABEL_PX
        # What comes later lies over what came before: words and cuts over the sound.
        parts = [
            *self._frame(caller_top, agent_top),
            *self._sound("caller", caller_top),
            *self._sound("agent", agent_top),
            *(self._bar("tail", tail, agent_top, _WAIT_PX) for tail in self.tails),
            *above.draw(caller_top - 6, upwards=True),
            *below.draw(words_top, upwards=False),
            *self._cuts(caller_top, agent_top),
            *labels.draw(marks_top, _LABEL_PX, caller_top, agent_top, LANE_PX),
        ]
        return bottom + _GAP_PX, parts

    def _frame(self, caller_top: float, agent_top: float) -> Iterator[str]:
        """Draw the lanes and the time axis, as far as the call goes."""
        width = self.x(self.end_ms) - LEFT_PX
        for lane, top in (("caller", caller_top), ("agent", agent_top)):
            yield f'<rect class="lane" x="{LEFT_PX}" y="{top:g}" width="{width:g}" height="{LANE_PX}"/>'
            yield f'<text x="{LEFT_PX - 8}" y="{top + LANE_PX / 2 + 4:g}" text-anchor="end">{lane}</text>'
        axis = caller_top + LANE_PX
        # About twelve marks in a row, each at a whole second.
        step = max(1, round(self.length_ms / MS_PER_S / 12))
        first = self.start_ms / MS_PER_S
        for second in range(0, math.ceil((self.end_ms - self.start_ms) / MS_PER_S), step):
            x = self.x(self.start_ms + second * MS_PER_S)
            yield f'<line class="grid" x1="{x:g}" x2="{x:g}" y1="{caller_top:g}" y2="{agent_top + LANE_PX:g}"/>'
            yield f'<text class="small" x="{x + 3:g}" y="{axis + 14:g}">{clock(first + second)}</text>'

    def _sound(self, lane: Lane, top: float) -> Iterator[str]:
        """Draw the waveform of a lane, or, without audio, bars where it speaks."""
        peaks = self.timeline.peaks
        if peaks is not None and (loud := self._bars(peaks, peaks.caller if lane == "caller" else peaks.agent, top)):
            yield f'<path class="{lane}Sound" d="{loud}"/>'
        if peaks is not None:
            return
        for span in self.voices if lane == "caller" else self.speech:
            yield self._bar(f"{lane}Sound", span, top, _BAR_HEIGHT_PX)

    def _bars(self, peaks: Peaks, lane: Sequence[int], top: float) -> str:
        """Return the path of a waveform: a bar of two pixels each, the loudest of what it stands for."""
        bar_ms = self.length_ms / ROW_PX * _BAR_PX
        middle, bars = top + LANE_PX / 2, []
        for number in range(math.ceil((self.end_ms - self.start_ms) / bar_ms)):
            begun = self.start_ms + number * bar_ms
            # At least one step: a bar may be shorter than a step.
            first = int(begun / peaks.step_ms)
            found = lane[first : max(first + 1, math.ceil((begun + bar_ms) / peaks.step_ms))]
            # A root: quiet speech would otherwise be flat beside loud speech.
            half = round((max(found, default=0) / _FULL_PEAK) ** 0.5 * LANE_PX / 2, 1)
            if half > _MIN_PEAK_PX:
                x = LEFT_PX + number * _BAR_PX
                # 1.6 of 2 pixels: the gap between two bars makes them a waveform and not a surface.
                bars.append(f"M{x} {middle - half:g}h1.6v{2 * half:g}h-1.6z")
        return "".join(bars)

    def _bar(self, kind: str, span: Span, top: float, height: int) -> str:
        left, right = self.x(span.start_ms), self.x(span.end_ms)
        y = top + (LANE_PX - height) / 2
        return f'<rect class="{kind}" x="{left:g}" y="{y:g}" width="{right - left:.1f}" height="{height}" rx="3"/>'

    def _cuts(self, caller_top: float, agent_top: float) -> Iterator[str]:
        for cut in self.cuts:
            x = self.x(cut.start_ms)
            yield f'<line class="cut" x1="{x:g}" x2="{x:g}" y1="{caller_top:g}" y2="{agent_top + LANE_PX:g}"/>'


def clock(seconds: float) -> str:
    """Return an instant on the axis: seconds in the first minute, then minutes and seconds."""
    whole = round(seconds)
    if whole < 60:  # noqa: PLR2004 (a minute)
        return f"{whole} s"
    minutes, rest = divmod(whole, 60)
    hours, minutes_left = divmod(minutes, 60)
    return f"{hours}:{minutes_left:02d}:{rest:02d}" if hours else f"{minutes}:{rest:02d}"


def rows_of(timeline: CallTimeline) -> Iterator[Row | tuple[float, float]]:
    """Yield the rows of a call; a longer time in which nothing happens is its begin and its end, in ms."""
    seconds = timeline.duration_ms / MS_PER_S
    length = next(row_s for limit, row_s in _ROW_S_OF_CALLS if seconds <= limit) * MS_PER_S
    count = max(1, math.ceil(timeline.duration_ms / length))
    words, labels = blocks_of(timeline, length, count), labels_of(timeline, length, count)
    agent = [one for one in timeline.words if one.lane == "agent"]
    voices = _by_row(timeline.voices, length)
    speech = _by_row((Span(one.start_ms, one.end_ms) for one in agent), length)
    tails = _by_row(_tails(agent, timeline.duration_ms), length)
    cuts = _by_row((Span(one.end_ms, one.end_ms) for one in agent if one.cut), length)
    empty_since: float | None = None
    for number in range(count):
        row = Row(
            timeline,
            number * length,
            length,
            words.get(number, ()),
            labels.get(number, ()),
            *(tuple(spans.get(number, ())) for spans in (voices, speech, tails, cuts)),
        )
        # The first row is always drawn: it has the axis.
        if number and row.is_empty():
            empty_since = row.start_ms if empty_since is None else empty_since
            continue
        if empty_since is not None:
            yield empty_since, row.start_ms
            empty_since = None
        yield row
    if empty_since is not None:
        yield empty_since, timeline.duration_ms


def _by_row(spans: Iterable[Span], length: float) -> Mapping[int, list[Span]]:
    """Return the spans of each row that has any; one over a row's end is in both."""
    found: dict[int, list[Span]] = {}
    for span in spans:
        first = int(span.start_ms / length)
        # One that ends with its row is not in the next one.
        for row in range(first, max(first + 1, math.ceil(span.end_ms / length))):
            found.setdefault(row, []).append(span)
    return found


def _tails(agent: Sequence[Words], duration_ms: float) -> Iterator[Span]:
    """Yield what was made of each cut reply and not heard, as long as it would have taken."""
    # Not strict: without any reply, the second sequence has one item more.
    for one, following in zip(agent, (*agent[1:], None), strict=False):
        if one.cut and one.unheard and one.text:
            # By the share of its text: audio that was never sent has no length.
            lasts = (one.end_ms - one.start_ms) * len(one.unheard) / len(one.text)
            # At most to the next reply, whose own sound begins there.
            until = min(one.end_ms + lasts, duration_ms if following is None else following.start_ms)
            yield Span(one.end_ms, max(one.end_ms, until))
