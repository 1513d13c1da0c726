"""The results of a simulated call: its audio, its timeline, and its latencies."""

import json
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Final

import anyio

from patter_trio.audio.formats import RATE_HZ
from patter_trio.audio.wav import write_wav
from patter_trio.call.recording import path_name_of
from patter_trio.cli.caller import SimulatedCall
from patter_trio.cli.terminal import console_for
from patter_trio.metrics.results import TurnMetrics, percentile
from patter_trio.testing.simulation.record import Event
from patter_trio.timeline.fold import CallFacts, timeline_of
from patter_trio.timeline.svg import svg_of
from patter_trio.timeline.waveform import peaks_of

COLUMNS: Final = {
    "endpoint": "last voice to end of utterance",
    "llm": "end of utterance to first words",
    "tts": "first words to first audio",
    "answer": "last voice to answer audible",
    "barge-in": "onset of voice to agent silent",
}
"""Measured latencies of a turn, in seconds, with their meanings."""
# The columns' names are for people, the metrics' names are an interface.
_COLUMN_METRICS: Final = {
    "endpoint": "endpoint_ms",
    "llm": "llm_ttft_ms",
    "tts": "tts_ms",
    "answer": "total_ms",
    "barge-in": "bargein_ms",
}
"""Names of these latencies in a turn's metrics."""


def latencies(events: Sequence[Event]) -> list[dict[str, float]]:
    """Return the latencies of each turn after the greeting, in seconds, without those that were not measured."""
    turns: list[TurnMetrics] = [event.payload["turn"] for event in events if event.name == "metrics"]
    # Turn 0 is the greeting, which has no latency of an answer.
    found = (
        {key: getattr(turn.latency, name) for key, name in _COLUMN_METRICS.items()} for turn in turns if turn.turn_index
    )
    # In seconds here, in milliseconds in the table: tests compare seconds.
    return [{key: value / 1000 for key, value in turn.items() if value is not None} for turn in found]


def latency_table(turns: Iterable[Mapping[str, float]]) -> str:
    """Return a table of the latencies: how often each was measured, and its percentiles in milliseconds."""
    lines = [f"{'latency, ms':<34}{'n':>5}{'p50':>8}{'p95':>8}{'max':>8}"]
    lines += [
        f"{meaning:<34}{count:>5}{p50:>8.0f}{p95:>8.0f}{greatest:>8.0f}"
        for meaning, count, p50, p95, greatest in _latency_rows(turns)
    ]
    return "\n".join(lines)


def print_latencies(turns: Iterable[Mapping[str, float]]) -> None:
    """Print the latencies: on a terminal with a cursor as a table of rich, else as :func:`latency_table`."""
    console = console_for(sys.stdout)
    if console is None:
        print(latency_table(turns))
        return
    from rich.table import Table  # noqa: PLC0415 (only on a terminal: the import takes time)

    table = Table("latency, ms", box=None, pad_edge=False, header_style="bold")
    for name in ("n", "p50", "p95", "max"):
        table.add_column(name, justify="right")
    for meaning, *figures in _latency_rows(turns):
        table.add_row(meaning, *(f"{figure:.0f}" for figure in figures))
    console.print(table)


def _latency_rows(turns: Iterable[Mapping[str, float]]) -> Iterator[tuple[str, int, float, float, float]]:
    """Yield the meaning of each latency that was measured, how often it was, and its p50, p95 and maximum in ms."""
    measured = list(turns)
    for key, meaning in COLUMNS.items():
        # Only what was measured: a turn without a barge-in has no such latency.
        values = sorted(turn[key] * 1000 for turn in measured if key in turn)
        if values:
            yield meaning, len(values), percentile(values, 0.5), percentile(values, 0.95), values[-1]


async def write_call(call: SimulatedCall, folder: Path, program: str = "") -> Path:
    """Write the results of a call into ``calls/<call_id>``; return that folder.

    ``call.wav`` is its audio (stereo, caller left, agent right), ``call.svg`` its picture, and ``timeline.json`` has
    all its events with their times, and what the picture shows.

    Worker threads write the files, so that the event loop stays free.

    Raises:
        OSError: a file cannot be written.
    """
    # ``anyio``, whose files use worker threads: other calls may still be live.
    # A colon, which Telnyx's ids have, is refused in names of folders by some systems.
    place = anyio.Path(folder / "calls" / path_name_of(call.call_id))
    await place.mkdir(parents=True, exist_ok=True)
    recording = call.carrier.recording()
    await (place / "call.wav").write_bytes(write_wav(recording))
    caller = call.caller
    seconds = len(recording[0]) / RATE_HZ
    facts = CallFacts(
        call_id=call.call_id,
        title=program,
        began=call.began.isoformat(timespec="seconds"),
        duration_ms=round(seconds * 1000, 1),
        outcome=caller.outcome,
        error=call.failure,
    )
    picture = timeline_of(facts, call.records, peaks=peaks_of(*recording))
    await (place / "call.svg").write_text(svg_of(picture), encoding="utf-8")
    timeline = {
        "call_id": call.call_id,
        "program": program,
        "began": call.began.isoformat(timespec="seconds"),
        "outcome": caller.outcome,
        "failure": call.failure,
        "seconds": round(call.carrier.ended_at, 3),
        "transcript": caller.history,
        "caller": [{"line": s.text, "started": round(s.started, 3), "ended": round(s.ended, 3)} for s in caller.said],
        "agent": [
            {
                "text": heard.text,
                "started": round(heard.started, 3),
                "ended": round(heard.ended, 3),
                "interrupted": heard.interrupted,
            }
            for heard in caller.utterances
        ],
        "metrics": asdict(caller.metrics) if caller.metrics else None,
        "latencies_ms": [{k: round(v * 1000, 1) for k, v in turn.items()} for turn in latencies(call.log.events)],
        "events": call.records,
        "timeline": picture.to_dict(),
    }
    # ``repr``: a payload may have objects of the application.
    await (place / "timeline.json").write_text(
        json.dumps(timeline, indent=1, ensure_ascii=False, default=repr) + "\n", encoding="utf-8"
    )
    return Path(place)
