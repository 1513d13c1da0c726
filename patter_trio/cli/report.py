"""What is left of a simulated call: its sound, its timeline, and its latencies."""

import json
import math
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from patter_trio.audio.wav import write_wav
from patter_trio.cli.caller import SimulatedCall
from patter_trio.cli.picture import call_picture
from patter_trio.event_types import PatterEventType
from patter_trio.testing.record import Event

COLUMNS: Final = {
    "endpoint": "last voice to end of utterance",
    "mind": "end of utterance to first words",
    "voice": "first words to first audio",
    "answer": "last voice to answer audible",
    "barge-in": "onset of voice to agent silent",
}
"""What is measured of a turn, in seconds, and what it means."""
_LEFT_OUT: Final = frozenset(
    {
        PatterEventType.TRANSCRIPT_FINAL,
        PatterEventType.CALL_STARTED,
        PatterEventType.CALL_ENDED,
        PatterEventType.METRICS_COLLECTED,
        PatterEventType.DTMF_RECEIVED,
        PatterEventType.LLM_CHUNK,
        PatterEventType.TTS_CHUNK,
    }
)
"""Events of the bus that a timeline has under their callback's name, or that would only flood it."""


def latencies(events: Sequence[Event]) -> list[dict[str, float]]:
    """Return the latencies of each turn, in seconds; what did not happen in a turn is absent."""
    turns: list[dict[str, float]] = []
    voice_end = onset = math.nan
    committed = spoken = math.nan
    for event in events:
        at, payload = event.at, event.payload
        match event.name:
            case "user_speech_started":
                onset = payload["audio_offset_ms"] / 1000
            case "user_speech_ended":
                voice_end = payload["audio_offset_ms"] / 1000
            case "user_speech_eos":
                committed = spoken = at
                turns.append({"endpoint": payload["trailing_silence_ms"] / 1000})
            case "llm_token" if turns:
                turns[-1]["mind"] = at - committed
                spoken = at
            case "audio_out" if turns and payload["turn_idx"]:
                turns[-1].setdefault("voice", at - spoken)
            case "agent_speech_started" if turns and payload["turn_idx"]:
                turns[-1].setdefault("answer", at - voice_end)
            case "agent_speech_ended" if turns and payload["interrupted"] and onset == onset:  # noqa: PLR0124
                turns[-1]["barge-in"] = at - onset
    return turns


def latency_table(turns: Iterable[Mapping[str, float]]) -> str:
    """Return a table: for each latency how often it was measured, and its percentiles in milliseconds."""
    measured = list(turns)
    lines = [f"{'latency, ms':<34}{'n':>5}{'p50':>8}{'p95':>8}{'max':>8}"]
    for key, meaning in COLUMNS.items():
        values = sorted(turn[key] * 1000 for turn in measured if key in turn)
        if values:
            p50, p95 = percentile(values, 0.5), percentile(values, 0.95)
            lines.append(f"{meaning:<34}{len(values):>5}{p50:>8.0f}{p95:>8.0f}{values[-1]:>8.0f}")
    return "\n".join(lines)


def percentile(ordered: Sequence[float], share: float) -> float:
    """Return a quantile of ordered values by linear interpolation (Hyndman and Fan's type 7)."""
    position = (len(ordered) - 1) * share
    below = math.floor(position)
    above = min(below + 1, len(ordered) - 1)
    return ordered[below] + (ordered[above] - ordered[below]) * (position - below)


def write_call(call: SimulatedCall, folder: Path) -> Path:
    """Write what is left of a call into ``calls/<call_id>``; return that folder.

    ``call.wav`` is its sound (stereo, caller left, agent right), ``call.svg`` its picture, ``timeline.json`` everything
    that happened, with times.

    Raises:
        OSError: they cannot be written.
    """
    place = folder / "calls" / call.call_id
    place.mkdir(parents=True, exist_ok=True)
    recording = call.carrier.recording()
    (place / "call.wav").write_bytes(write_wav(recording))
    caller = call.caller
    picture = call_picture(f"Call {call.call_id}", recording, call.log.events, caller.utterances)
    (place / "call.svg").write_text(picture, encoding="utf-8")
    told = {
        "call_id": call.call_id,
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
        "latencies_ms": [{k: round(v * 1000, 1) for k, v in turn.items()} for turn in latencies(call.log.events)],
        "events": [
            {"at": round(e.at, 3), "name": e.name, **_plain(e.payload)}
            for e in call.log.everything
            if e.name not in _LEFT_OUT
        ],
    }
    (place / "timeline.json").write_text(
        json.dumps(told, indent=1, ensure_ascii=False, default=repr) + "\n", encoding="utf-8"
    )
    return place


def _plain(payload: Mapping[str, Any]) -> dict[str, Any]:
    """Return what of a payload belongs into a timeline: the history would repeat itself in every event."""
    return {key: value for key, value in payload.items() if key not in ("history", "transcript", "call_id")}
