"""Text in a picture: cleaned, measured, wrapped and placed so that no two texts overlap. Pure."""

import re
from collections.abc import Sequence
from typing import Final
from xml.sax.saxutils import escape

import attrs

# XML 1.0, section 2.2: what a document cannot hold, not even escaped. Also the characters that turn the direction of
# text: a caller's words must not rearrange what stands beside them.
_REFUSED: Final = re.compile(
    "[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]|[\u200e\u200f\u202a-\u202e\u2066-\u2069]"
)
# Advances of DejaVu Sans in 1/100 em, which is wider than the fonts of other systems: an estimate that is too great
# leaves a gap, one that is too small lets texts overlap.
_NARROW_EM: Final = {**dict.fromkeys("ijl'|", 29), **dict.fromkeys(' .,:;!()[]{}/-ftrI"', 42)}
_WIDE_EM: Final = {**dict.fromkeys("mMW@%—…", 100), **dict.fromkeys("w→+=<>", 84)}
_UPPER_EM: Final = 76
_OTHER_EM: Final = 64
_FULL_WIDTH_EM: Final = 105
_FIRST_FULL_WIDTH: Final = "\u1100"
"""The first character of a script whose characters are as wide as they are high (Hangul)."""
TEXT_PX: Final = 12
"""Size of the text."""
# Each as wide as the narrowest column at most; four characters of Chinese are a word or two.
_PART_CHARACTERS: Final = 12
_FULL_WIDTH_PART_CHARACTERS: Final = 4
LINE_PX: Final = 15
"""Distance from one line of text to the next."""


@attrs.frozen
class Piece:
    """A word with the class of its style, or a part of one."""

    text: str
    style: str
    glued: bool = False
    """True if no space is before it."""


Line = tuple[Piece, ...]


def pieces_of(text: str, style: str) -> list[Piece]:
    """Return a cleaned text as words; one that is long, as a text in a script without spaces, in parts."""
    return [
        Piece(word[start : start + step], style, glued=start > 0)
        for word in clean(text).split()
        for step in [_FULL_WIDTH_PART_CHARACTERS if max(word) >= _FIRST_FULL_WIDTH else _PART_CHARACTERS]
        for start in range(0, len(word), step)
    ]


def clean(text: str) -> str:
    """Return a text in one line, without the characters that XML cannot hold or that turn the direction of text."""
    return " ".join(_REFUSED.sub("", text).split())


def markup(text: str) -> str:
    """Return a cleaned text as the content of an element."""
    return escape(clean(text))


def width_px(text: str, size: int = TEXT_PX) -> float:
    """Return the estimated width of a text."""
    return sum(map(_em, text)) * size / 100


def _em(character: str) -> int:
    if character in _NARROW_EM:
        return _NARROW_EM[character]
    if character in _WIDE_EM:
        return _WIDE_EM[character]
    if character >= _FIRST_FULL_WIDTH:
        return _FULL_WIDTH_EM
    return _UPPER_EM if character.isupper() else _OTHER_EM


def fitted(text: str, room_px: float, size: int = TEXT_PX) -> str:
    """Return a text, shortened with "…" if it is too wide."""
    if width_px(text, size) <= room_px:
        return text
    kept = text
    while kept and width_px(kept + "…", size) > room_px:
        # By a fifth while it is far too long: a text may have thousands of characters.
        kept = kept[: len(kept) * 4 // 5] if width_px(kept, size) > 2 * room_px else kept[:-1]
    return kept.rstrip() + "…"


def wrapped(pieces: Sequence[Piece], room_px: float, max_lines: int) -> list[Line]:
    """Return words in lines of a width; what does not fit into the lines is left out, with "…" at the end."""
    lines: list[list[Piece]] = [[]]
    used = 0.0
    for piece in pieces:
        wide, gap = width_px(piece.text), 0.0 if piece.glued else width_px(" ")
        if lines[-1] and used + gap + wide > room_px:
            if len(lines) == max_lines:
                return [*map(tuple, lines[:-1]), _shortened(lines[-1], room_px)]
            lines.append([])
            used = 0.0
        shown = piece if wide <= room_px else attrs.evolve(piece, text=fitted(piece.text, room_px))
        used += width_px(shown.text) + (gap if lines[-1] else 0.0)
        lines[-1].append(shown)
    return [tuple(line) for line in lines if line]


def _shortened(line: Sequence[Piece], room_px: float) -> Line:
    """Return a last line with "…" at its end."""
    kept = list(line)
    while len(kept) > 1 and width_of(kept) + width_px(" …") > room_px:
        kept.pop()
    return (*kept, Piece("…", kept[-1].style))


def width_of(line: Sequence[Piece]) -> float:
    """Return the width of a line of words."""
    return sum(width_px(piece.text) for piece in line) + width_px(" ") * sum(not piece.glued for piece in line[1:])


def spans(line: Line) -> str:
    """Return a line as the content of a text element, a span for each style."""
    runs: list[tuple[str, str]] = []
    for piece in line:
        style, text = runs[-1] if runs else ("", "")
        gap = " " if runs and not piece.glued else ""
        if style == piece.style:
            runs[-1] = (style, text + gap + piece.text)
            continue
        if gap:
            # Not within the second run: a line through its words must not go through the space before them.
            runs[-1] = (style, text + gap)
        runs.append((piece.style, piece.text))
    return "".join(f'<tspan class="{style}">{escape(text)}</tspan>' for style, text in runs)


class Tracks:
    """Places for boxes side by side: each goes into the first track in which it overlaps no other."""

    def __init__(self) -> None:
        self._boxes: list[list[tuple[float, float]]] = []

    def place(self, left: float, right: float) -> int:
        """Return the number of the track for a box, and occupy it."""
        for number, boxes in enumerate(self._boxes):
            if all(right <= begun or ended <= left for begun, ended in boxes):
                boxes.append((left, right))
                return number
        self._boxes.append([(left, right)])
        return len(self._boxes) - 1

    @property
    def count(self) -> int:
        """The number of tracks in use."""
        return len(self._boxes)
