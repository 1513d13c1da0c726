"""What is in a picture of a call, for tests: its texts with their places."""

from collections.abc import Iterator
from xml.etree.ElementTree import Element, fromstring

import attrs

from patter_trio.timeline.call_timeline import CallTimeline
from patter_trio.timeline.svg import svg_of
from patter_trio.timeline.svg_text import width_px

SVG = "{http://www.w3.org/2000/svg}"
LEFT, SECOND = 64, 90


def drawn(timeline: CallTimeline) -> Element:
    """Return the picture of a timeline as a tree: it is well-formed XML."""
    return fromstring(svg_of(timeline))  # noqa: S314 (our own)


@attrs.frozen
class Text:
    """A text of the picture, where it stands."""

    text: str
    kind: str
    left: float
    right: float
    baseline: float
    row: int

    def overlaps(self, other: "Text") -> bool:
        """Return True if both texts cover one place."""
        beside = self.right <= other.left or other.right <= self.left
        return self.row == other.row and not beside and abs(self.baseline - other.baseline) < 10


def texts_of(picture: Element) -> list[Text]:
    """Return all texts; those outside of rows have the row -1."""
    found = list(_texts(picture.findall(f"{SVG}text"), -1))
    for number, row in enumerate(picture.findall(f"{SVG}g")):
        found += _texts(row.iter(f"{SVG}text"), number)
    return found


def _texts(elements: Iterator[Element] | list[Element], row: int) -> Iterator[Text]:
    for element in elements:
        kind, text = element.get("class") or "", "".join(element.itertext())
        x, wide = float(element.get("x") or 0), width_px(text, 15 if kind == "head" else 11 if "small" in kind else 12)
        left = x - wide if element.get("text-anchor") == "end" else x
        yield Text(text, kind, left, left + wide, float(element.get("y") or 0), row)


def text(picture: Element, wanted: str) -> Text:
    """Return the text that begins with these words."""
    return next(one for one in texts_of(picture) if one.text.startswith(wanted))


def shapes(picture: Element, kind: str, row: int = 0) -> list[tuple[float, float]]:
    """Return the bars of a class in a row, from and to which second of it each goes."""
    rows = picture.findall(f"{SVG}g")
    found = (one for one in rows[row].iter(f"{SVG}rect") if one.get("class") == kind)
    return [_seconds(float(one.get("x") or 0), float(one.get("width") or 0)) for one in found]


def _seconds(x: float, width: float) -> tuple[float, float]:
    return round((x - LEFT) / SECOND, 2), round((x + width - LEFT) / SECOND, 2)
