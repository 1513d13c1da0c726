"""The rows of a call's events. Pure: what is written depends on the record, and on what is known of its call."""

import json
import math
from collections.abc import Iterable, Mapping
from datetime import datetime
from typing import Any, Final

import attrs

from patter_trio.abc import EventRecord
from patter_trio.call_log.words import searchable

MAX_DATA_CHARACTERS: Final = 262_144
"""Longest payload of an event as JSON. Of a longer one, such as a large result of a tool, only the size is kept."""
# Judged: a line of a list.
MAX_FIRST_WORDS: Final = 120
"""Characters of the caller's first utterance in a list of calls."""
# Judged: 50 hours of talk; the whole text stays in the transcript.
MAX_SEARCHED_UTTERANCES: Final = 20_000
"""Utterances of one call that are searchable."""

SECONDS_OF_A_DAY: Final = 86_400

BEGIN: Final = "call_started"
END: Final = "call_ended"
_MEASURED: Final = "metrics_collected"
_COST: Final = "cost_reported"


@attrs.frozen
class Known:
    """The writer's knowledge of a call whose events come: enough to make its rows anew in another database."""

    facts: Mapping[str, Any]
    """The row of the call as it is now."""
    params: str
    said: tuple[tuple[str, str], ...] = ()
    """Role and text of each utterance."""
    call: int | None = None
    """The number of the call in the database; None: it has no row there."""
    is_over: bool = False


def unix_of(time: str) -> float:
    """Return the Unix time, in seconds, of a record's time."""
    return datetime.fromisoformat(time).timestamp()


def begun(record: EventRecord) -> Known:
    """Return what is known of a call from its first event, which has the facts."""
    data = record["data"]
    facts = {
        "call_id": clean(record["call_id"]),
        "direction": clean(str(data.get("direction", "inbound"))),
        "caller": clean(str(data.get("caller", ""))),
        "callee": clean(str(data.get("callee", ""))),
        "provider": clean(str(data.get("telephony_provider", ""))),
        "started_at": (started_at := unix_of(record["time"])),
        "day": _day_of(started_at),
        "ended_at": None,
        "duration_s": 0.0,
        "turns": 0,
        "answer_p50_ms": None,
        "outcome": "",
        "cost_usd": None,
        "first_words": "",
        "recording": "",
    }
    return Known(facts, as_json(data.get("custom_params", {})))


def after(known: Known, record: EventRecord) -> Known:
    """Return what is known of a call after an event."""
    data = record["data"]
    match record["type"]:
        case "transcript_final":
            said = _said(known.said, str(data.get("role", "")), clean(str(data.get("text", ""))), data.get("revises"))
            facts = {**known.facts, **_so_far(known, record), "first_words": _first_words(said)}
            return attrs.evolve(known, said=said, facts=facts)
        case "metrics_collected":
            turn = data.get("turn") or {}
            cost = data.get("cost_so_far") or {}
            # Turn 0 is the greeting, which no number of turns counts (docs/glossary.md).
            turns = max(int(known.facts["turns"]), int(turn.get("turn_index", 0)))
            facts = {**known.facts, **_so_far(known, record), "turns": turns, "cost_usd": _finite(cost.get("total"))}
            return attrs.evolve(known, facts=facts)
        case "call_ended":
            return attrs.evolve(known, is_over=True, **_ended(known, record))
        case _:
            return known


def _so_far(known: Known, record: EventRecord) -> dict[str, Any]:
    # If the process is killed, this stays: a call of minutes did not take 0 s.
    return {"duration_s": max(known.facts["duration_s"], record["at_ms"] / 1000)}


def _ended(known: Known, record: EventRecord) -> dict[str, Any]:
    data = record["data"]
    metrics = data.get("metrics") or {}
    transcript = data.get("transcript") or []
    said = tuple((str(entry.get("role", "")), clean(str(entry.get("text", "")))) for entry in transcript) or known.said
    facts = {
        **known.facts,
        "ended_at": unix_of(record["time"]),
        "outcome": clean(str(data.get("outcome", ""))),
        "first_words": _first_words(said),
    }
    if metrics:
        facts["duration_s"] = _finite(metrics.get("duration_seconds")) or 0.0
        facts["cost_usd"] = _finite((metrics.get("cost") or {}).get("total"))
        facts["answer_p50_ms"] = _finite((metrics.get("latency_p50") or {}).get("total_ms"))
    return {"facts": facts, "said": said}


def details_at_end(record: EventRecord) -> dict[str, Any]:
    """Return the columns of a call's details that its end fills."""
    data = record["data"]
    return {
        "transcript": as_json(data.get("transcript") or []),
        "metrics": as_json(data["metrics"]) if data.get("metrics") else None,
        "tool_calls": as_json(data.get("tool_calls") or []),
        "error": clean(str(data.get("error", ""))),
    }


def event_row(call: int, record: EventRecord) -> dict[str, Any]:
    """Return the row of an event."""
    data = record["data"]
    # The details have it all, in columns of their own.
    if record["type"] == END:
        data = {key: data[key] for key in ("outcome", "error", "ended_at", "left_out") if key in data}
    written = as_json(data)
    if len(written) > MAX_DATA_CHARACTERS:
        written = as_json({"too_long": len(written)})
    return {
        "call": call,
        "seq": record["seq"],
        "type": clean(record["type"]),
        "at_ms": _finite(record["at_ms"]) or 0.0,
        "time": record["time"],
        "data": written,
    }


def turn_row(call: int, record: EventRecord) -> dict[str, Any] | None:
    """Return the row of a turn that was measured; None: the event is another one."""
    if record["type"] != _MEASURED or not (turn := record["data"].get("turn")):
        return None
    at = _finite(turn.get("timestamp")) or unix_of(record["time"])
    return {
        "call": call,
        "turn_idx": int(turn.get("turn_index", 0)),
        "at": at,
        "day": _day_of(at),
        "total_ms": _finite((turn.get("latency") or {}).get("total_ms")),
        "interrupted": int(bool(turn.get("interrupted"))),
        "failed": int(bool(turn.get("failed"))),
    }


def words_of(known: Known) -> str:
    """Return all words of a call as the full text search has them."""
    return " ".join(searchable(text) for _, text in known.said[:MAX_SEARCHED_UTTERANCES])


def reported_cost(record: EventRecord) -> float | None:
    """Return what the carrier charges, if this event says it, in US dollars."""
    return _finite(record["data"].get("cost_usd")) if record["type"] == _COST else None


def with_telephony(metrics: dict[str, Any], cost_usd: float) -> dict[str, Any]:
    """Return the metrics of a call with what the carrier charges in the place of its list price."""
    cost = dict(metrics.get("cost") or {})
    cost["total"] = (cost.get("total") or 0.0) - (cost.get("telephony") or 0.0) + cost_usd
    cost["telephony"] = cost_usd
    return {**metrics, "cost": cost}


def _said(said: tuple[tuple[str, str], ...], role: str, text: str, revises: object) -> tuple[tuple[str, str], ...]:
    if not revises:
        return (*said, (role, text))
    # In the place of the newest words of that side.
    for place in range(len(said) - 1, -1, -1):
        if said[place][0] == role:
            return (*said[:place], (role, text), *said[place + 1 :])
    return (*said, (role, text))


def _first_words(said: Iterable[tuple[str, str]]) -> str:
    text = next((text for role, text in said if role == "user" and text), "")
    return text if len(text) <= MAX_FIRST_WORDS else f"{text[: MAX_FIRST_WORDS - 1]}…"


def _day_of(unix: float) -> int:
    return math.floor(unix / SECONDS_OF_A_DAY)


def _finite(value: object) -> float | None:
    # JSON has no infinity, and a sum with one says nothing.
    return float(value) if isinstance(value, int | float) and math.isfinite(value) else None


def clean(text: str) -> str:
    """Return a text that each database takes: without NUL and lone surrogates."""
    return text.replace("\0", "\ufffd").encode("utf-8", "replace").decode()


def as_json(value: object) -> str:
    """Return a value as JSON in ASCII, which each database takes, whatever characters it has."""
    try:
        return _dumps(value)
    # A number that JSON does not have, such as infinity.
    except ValueError:
        return _dumps(_finite_only(value))


def _dumps(value: object) -> str:
    return json.dumps(value, separators=(",", ":"), default=repr, allow_nan=False)


def _finite_only(value: Any) -> Any:
    if isinstance(value, float) and not math.isfinite(value):
        return repr(value)
    if isinstance(value, Mapping):
        return {str(key): _finite_only(item) for key, item in value.items()}
    return [_finite_only(item) for item in value] if isinstance(value, list | tuple) else value


def from_json(text: str) -> Any:
    """Return the value of a column of JSON."""
    return json.loads(text)
