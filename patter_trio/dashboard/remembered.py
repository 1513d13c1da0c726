"""A call as the memory keeps it: its events, and the line about it in a list of calls. Pure."""

import math
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any, Final

import attrs

from patter_trio.abc import CallSummary, EventRecord

# Judged: a call of an hour has fewer.
MAX_EVENTS_OF_A_CALL: Final = 4000
"""Events of one call that are kept; of those beyond, only the end is."""
# Judged: a line of a list.
MAX_FIRST_WORDS: Final = 120
"""Characters of the caller's first utterance in a list of calls."""


def _number(value: object) -> float | None:
    is_number = isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
    return float(value) if is_number else None  # type: ignore[arg-type]  # checked above


def _newest_of(said: Sequence[Mapping[str, Any]], role: object) -> int | None:
    """Return the place of the newest words of a side; None: it has said nothing."""
    return next((place for place in range(len(said) - 1, -1, -1) if said[place]["role"] == role), None)


def unix_of(record: EventRecord) -> float:
    """Return the Unix time of an event, in seconds."""
    return datetime.fromisoformat(record["time"]).timestamp()


@attrs.define(eq=False)
class RememberedCall:
    """One call: its line in the list, its events, and what its end has told. It takes one event after another.

    Args:
        number: ascending in the order in which calls began.
        summary: the line.
    """

    number: int
    summary: CallSummary
    events: list[EventRecord] = attrs.field(factory=list, repr=False)
    ended_at: float | None = None
    custom_params: Mapping[str, Any] = attrs.field(factory=dict, repr=False)
    _end: Mapping[str, Any] | None = attrs.field(default=None, init=False, repr=False)
    _words: str = attrs.field(default="", init=False, repr=False)

    @classmethod
    def begun(cls, number: int, record: EventRecord) -> "RememberedCall":
        """Return a call whose first event has come."""
        data = record["data"]
        summary = CallSummary(
            call_id=record["call_id"],
            caller=str(data.get("caller", "")),
            callee=str(data.get("callee", "")),
            direction="outbound" if data.get("direction") == "outbound" else "inbound",
            provider=str(data.get("telephony_provider", "")),
            started_at=unix_of(record),
        )
        params = data.get("custom_params")
        return cls(number, summary, custom_params=params if isinstance(params, Mapping) else {})

    @property
    def is_over(self) -> bool:
        """True once the call has ended."""
        return self.ended_at is not None

    def take(self, record: EventRecord) -> None:
        """Apply the next event."""
        if len(self.events) < MAX_EVENTS_OF_A_CALL or record["type"] == "call_ended":
            self.events.append(record)
        data = record["data"]
        match record["type"]:
            case "transcript_final" if data.get("role") == "user" and not self.summary.first_words:
                text = str(data.get("text", ""))
                first = text if len(text) <= MAX_FIRST_WORDS else f"{text[: MAX_FIRST_WORDS - 1]}…"
                self.summary = attrs.evolve(self.summary, first_words=first)
            case "metrics_collected":
                self._measured(data)
            case "cost_reported":
                self._charged(_number(data.get("cost_usd")))
            case "call_ended":
                self._ended(record)
            case _:
                pass

    def _measured(self, data: Mapping[str, Any]) -> None:
        turn, cost = data.get("turn") or {}, data.get("cost_so_far") or {}
        # Turn 0 is the greeting, which no number of turns counts (docs/glossary.md).
        turns = max(self.summary.turns, int(turn.get("turn_index", 0)))
        self.summary = attrs.evolve(self.summary, turns=turns, cost_usd=_number(cost.get("total")))

    def _charged(self, cost_usd: float | None) -> None:
        """Put what the carrier charges in the place of its list price."""
        cost = (self.metrics or {}).get("cost") or {}
        total, listed = _number(cost.get("total")), _number(cost.get("telephony"))
        if cost_usd is not None and total is not None:
            self.summary = attrs.evolve(self.summary, cost_usd=total - (listed or 0.0) + cost_usd)

    def _ended(self, record: EventRecord) -> None:
        data = record["data"]
        self._end, self.ended_at = data, unix_of(record)
        self._words = self._joined()
        metrics = data.get("metrics") or {}
        self.summary = attrs.evolve(
            self.summary,
            outcome=str(data.get("outcome", "")),
            duration_s=_number(metrics.get("duration_seconds")) or 0.0,
            cost_usd=_number((metrics.get("cost") or {}).get("total")),
            answer_p50_ms=_number((metrics.get("latency_p50") or {}).get("total_ms")),
        )

    @property
    def metrics(self) -> Mapping[str, Any] | None:
        """The metrics of the whole call; None: it is not over, or was not measured."""
        return None if self._end is None else self._end.get("metrics")

    @property
    def answers_ms(self) -> list[float]:
        """The caller's waiting times for answers, in milliseconds, in the order of the turns."""
        turns = (self.metrics or {}).get("turns") or ()
        waits = (_number((turn.get("latency") or {}).get("total_ms")) for turn in turns)
        return [wait for wait in waits if wait is not None]

    def said(self) -> Sequence[Mapping[str, Any]]:
        """Return what was said so far: dicts with ``role`` and ``text``."""
        if self._end is not None and self._end.get("transcript"):
            return list(self._end["transcript"])
        said: list[Mapping[str, Any]] = []
        for record in self.events:
            if record["type"] != "transcript_final":
                continue
            entry = {"role": record["data"].get("role", ""), "text": record["data"].get("text", "")}
            place = _newest_of(said, entry["role"]) if record["data"].get("revises") else None
            if place is None:
                said.append(entry)
            else:
                said[place] = entry
        return said

    def words(self) -> str:
        """Return all that was said so far, to be searched: without the difference of upper and lower case."""
        # Once for a call that is over: a query that finds nothing looks at all calls.
        return self._words if self.is_over else self._joined()

    def _joined(self) -> str:
        return " ".join(str(entry.get("text", "")) for entry in self.said()).casefold()

    def to_dict(self) -> dict[str, Any]:
        """Return all but the events, as ``CallArchive.get`` describes."""
        end = self._end or {}
        done = [record["data"] for record in self.events if record["type"] == "tool_call_completed"]
        return {
            **self.summary.to_dict(),
            "ended_at": self.ended_at,
            "error": str(end.get("error") or ""),
            "custom_params": dict(self.custom_params),
            "transcript": list(self.said()),
            "metrics": self.metrics,
            "tool_calls": list(end.get("tool_calls") or done),
        }
