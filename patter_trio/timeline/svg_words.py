"""The words in a call's picture: each stands where it was said, in the row in which it was said. Pure."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Final
from xml.sax.saxutils import escape

import attrs

from patter_trio.timeline.call_timeline import CallTimeline, Lane, Words
from patter_trio.timeline.svg_text import LINE_PX, Line, Piece, Tracks, clean, pieces_of, spans, width_of, wrapped

# Judged by eye: longer texts push the lanes apart; the tooltip has the whole one.
_MAX_LINES: Final = 5
# Judged by eye: a narrower column is hard to read.
_MIN_COLUMN_PX: Final = 96.0
_COLUMN_PX: Final = 220.0
"""Width of a text that has no room beside the next one."""
_GAP_PX: Final = 10.0


@attrs.frozen
class Block:
    """The words of an utterance that were said in one row."""

    lane: Lane
    start_ms: float
    pieces: tuple[Piece, ...]
    whole: str
    """The whole utterance, for the tooltip."""


def blocks_of(timeline: CallTimeline, length_ms: float, count: int) -> Mapping[int, tuple[Block, ...]]:
    """Return the words of each row that has any."""
    found: dict[int, list[Block]] = {}
    for words in timeline.words:
        for row, block in _split(words, length_ms, count):
            found.setdefault(row, []).append(block)
    return {row: tuple(sorted(blocks, key=lambda block: block.start_ms)) for row, blocks in found.items()}


def _split(words: Words, length_ms: float, count: int) -> Iterator[tuple[int, Block]]:
    """Yield the parts of an utterance by rows: words are spread over its time by their length."""
    text, unheard = clean(words.text), clean(words.unheard)
    style = f"{words.lane} open" if words.open else words.lane
    # Nothing is known about when the unheard part would have been said: it stands behind the last word.
    pieces, tail = pieces_of(text, style), pieces_of(unheard, "unheard")
    if not pieces and not tail:
        pieces = [Piece("…", style)]
    # At least 1: an utterance may have no words yet.
    letters, said = max(1, len(text)), 0
    lasts = words.end_ms - words.start_ms
    rows: dict[int, list[Piece]] = {}
    starts: dict[int, float] = {}
    row = 0
    for piece in pieces:
        at = words.start_ms + lasts * said / letters
        row = min(int(at / length_ms), count - 1)
        rows.setdefault(row, []).append(piece)
        starts.setdefault(row, at)
        # With the space behind it, which takes its share of the time.
        said += len(piece.text) + (not piece.glued)
    if tail:
        row = row if pieces else min(int(words.start_ms / length_ms), count - 1)
        rows.setdefault(row, []).extend(tail)
        starts.setdefault(row, words.start_ms)
    whole = f"{text} [not heard: {unheard}]" if unheard else text
    first = min(rows)
    for number, part in rows.items():
        # A part that goes on begins with its row.
        start = words.start_ms if number == first else number * length_ms
        yield number, Block(words.lane, max(start, number * length_ms), tuple(part), whole)


@attrs.frozen
class _Placed:
    block: Block
    x: float
    lines: tuple[Line, ...]
    track: int


@attrs.frozen
class PlacedBlocks:
    """The words of one lane in one row, in lines and tracks."""

    blocks: tuple[_Placed, ...]
    heights: tuple[int, ...]
    """The lines of each track."""

    @property
    def height(self) -> float:
        """The height of all lines, at least of one."""
        return max(1, sum(self.heights)) * LINE_PX

    def draw(self, edge: float, *, upwards: bool) -> Iterator[str]:
        """Yield the text elements from the lane's edge: upwards for words above it."""
        for placed_one in self.blocks:
            before = sum(self.heights[: placed_one.track])
            lines = placed_one.lines
            first = before + len(lines) if upwards else before
            yield f"<g><title>{escape(placed_one.block.whole)}</title>"
            for number, line in enumerate(lines):
                y = edge - (first - number - 1) * LINE_PX - 3 if upwards else edge + (first + number) * LINE_PX + 12
                yield f'<text x="{placed_one.x:g}" y="{y:g}">{spans(line)}</text>'
            yield "</g>"


def placed(blocks: Sequence[Block], x_of: Callable[[float], float], right: float) -> PlacedBlocks:
    """Return words in columns that do not overlap: beside each other if there is room, else above each other."""
    tracks = Tracks()
    found: list[_Placed] = []
    heights: list[int] = []
    for number, block in enumerate(blocks):
        x = x_of(block.start_ms)
        following = x_of(blocks[number + 1].start_ms) - _GAP_PX if number + 1 < len(blocks) else right
        room = following - x
        if room < _MIN_COLUMN_PX:
            room = min(_COLUMN_PX, max(right - x, _MIN_COLUMN_PX))
        lines = wrapped(block.pieces, room, _MAX_LINES)
        wide = max(map(width_of, lines))
        # At a row's end a text begins further left: its words are still in the row in which they were said.
        x = min(x, right - wide)
        track = tracks.place(x, x + wide + _GAP_PX)
        if track == len(heights):
            heights.append(0)
        heights[track] = max(heights[track], len(lines))
        found.append(_Placed(block, round(x, 1), tuple(lines), track))
    return PlacedBlocks(tuple(found), tuple(heights))
