"""A text picture of a call: the caller's row above the agent's, over a time axis, and the events below."""

from collections.abc import Sequence
from typing import Final

import attrs

from patter_trio.testing.scripted_providers.audible_text import Kind
from patter_trio.testing.simulation.record import Event, Heard, Said

# A row of ten seconds then has 100 columns, and a word is still visible.
COLUMN_S: Final = 0.1
"""Seconds in a column."""
ROW_S: Final = 10.0
"""Seconds in a row."""
_LABEL_CHARACTERS: Final = 8
_UNLISTED_EVENTS: Final = frozenset({"transcript_partial", "llm_chunk", "tts_chunk"})
"""Events that are too frequent for the list."""
_SHOWN_KEYS: Final = (
    "turn_idx",
    "interrupted",
    "speech_duration_ms",
    "role",
    "text",
    "transcript_so_far",
    "digit",
    "outcome",
)
"""The parts of a payload that the list shows; the others are the same in every line, or repeat the event's name."""
_ENDED: Final = "error"


@attrs.frozen
class _Bar:
    text: str
    started: float
    ended: float
    cut: bool = False


def timeline(said: Sequence[Said], heard: Sequence[Heard], events: Sequence[Event], until: float) -> str:
    """Return the picture of a call up to ``until``.

    Rows in which nobody speaks are folded into one line. A bar ``[words====]`` is as long as its sound; an ``X`` in
    place of the closing bracket marks an interruption. Text that does not fit into a bar is in the list of events.
    """
    caller = [_Bar(_label(one), one.started, min(one.ended, until)) for one in said if one.started < until]
    agent = [_Bar(one.text or "...", one.started, one.ended, one.interrupted) for one in heard]
    cuts = [bar.ended for bar in agent if bar.cut]
    rows: list[str] = []
    silent_from: float | None = None
    # One more than whole rows, for the rest; the check below leaves out an empty last one.
    for number in range(int(until / ROW_S) + 1):
        first = number * ROW_S
        if first >= until and number:
            break
        # Of minutes without a sound, one line says as much as a row each. The first row is always drawn: it has the
        # axis.
        if number and not any(bar.started < first + ROW_S and bar.ended > first for bar in (*caller, *agent)):
            silent_from = first if silent_from is None else silent_from
            continue
        if silent_from is not None:
            rows += [_silence(silent_from, first), ""]
            silent_from = None
        rows += [_axis(first), _lane("caller", caller, first), _lane("agent", agent, first)]
        marks = [(cut, "^ interrupted") for cut in cuts if first <= cut < first + ROW_S]
        if marks:
            rows.append(_marks(marks, first))
        rows.append("")
    if silent_from is not None:
        rows += [_silence(silent_from, until), ""]
    return "\n".join(rows + [_line(event) for event in events if event.name not in _UNLISTED_EVENTS])


def _silence(started: float, ended: float) -> str:
    return f"{'':<{_LABEL_CHARACTERS}}({started:g} to {ended:.4g} s: nobody speaks)"


def _label(said: Said) -> str:
    return {Kind.COUGH: "*cough*", Kind.HUM: f"({said.text})"}.get(said.kind, said.text)


def _column(at: float, first: float) -> int:
    return round((at - first) / COLUMN_S)


def _axis(first: float) -> str:
    width = round(1 / COLUMN_S)
    ticks = "".join(f"{first + second:<{width}g}" for second in range(round(ROW_S)))
    return f"{'s':<{_LABEL_CHARACTERS}}{ticks}".rstrip()


def _lane(name: str, bars: Sequence[_Bar], first: float) -> str:
    width = round(ROW_S / COLUMN_S)
    cells = [" "] * width
    for bar in bars:
        # At least two columns, for the brackets: a click must be visible, too.
        start, end = _column(bar.started, first), max(_column(bar.ended, first), _column(bar.started, first) + 2)
        room = end - start - 2
        # "~" for text that was cut off, if that much fits.
        inside = bar.text if len(bar.text) <= room else bar.text[: max(0, room - 1)] + "~" * (room > 0)
        drawn = "[" + inside.ljust(room, "=") + ("X" if bar.cut else "]")
        # Cut at the row's edges: a bar that crosses them is drawn in both rows, each with its part.
        for at, character in enumerate(drawn, start):
            if 0 <= at < width:
                cells[at] = character
    return f"{name:<{_LABEL_CHARACTERS}}{''.join(cells)}".rstrip()


def _marks(marks: Sequence[tuple[float, str]], first: float) -> str:
    line = " " * _LABEL_CHARACTERS
    for at, text in marks:
        line = line.ljust(_LABEL_CHARACTERS + max(0, _column(at, first) - 1)) + text
    return line


def _line(event: Event) -> str:
    fields = [f"{key}={event.payload[key]!r}" for key in (*_SHOWN_KEYS, _ENDED) if key in event.payload]
    # Its payload is an object of many numbers; the turn and its total are what a reader looks for.
    if event.name == "metrics":
        turn = event.payload["turn"]
        fields = [f"turn_idx={turn.turn_index}", f"total_ms={turn.latency.total_ms}"]
    return f"{event.at:8.3f}  {event.name:<21} {'  '.join(fields)}".rstrip()
