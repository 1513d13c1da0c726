"""Logs of calls for tests: records of events, and a store over each kind of database."""

from datetime import UTC, datetime
from typing import Any

import attrs

from patter_trio.abc import EventRecord
from patter_trio.call_log.database import Database
from patter_trio.call_log.options import CallLog
from patter_trio.call_log.redaction import Redaction
from patter_trio.call_log.store import LogStore

EPOCH = datetime(2026, 1, 31, 9, 30, tzinfo=UTC).timestamp()
CALLER, CALLEE = "+15550100001", "+15550100002"


def record(seq: int, call_id: str, kind: str, at: float = 0.0, **data: Any) -> EventRecord:
    """Return the record of an event, ``at`` seconds into the call."""
    time = datetime.fromtimestamp(EPOCH + at, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
    return EventRecord(
        seq=seq, call_id=call_id, type=kind, at_ms=at * 1000, time=time, data={"call_id": call_id, **data}
    )


@attrs.define
class Events:
    """The events of calls, numbered as a phone does."""

    seq: int = 0

    def event(self, call_id: str, kind: str, at: float = 0.0, **data: Any) -> EventRecord:
        self.seq += 1
        return record(self.seq, call_id, kind, at, **data)

    def started(self, call_id: str, at: float = 0.0, caller: str = CALLER, **data: Any) -> EventRecord:
        facts: dict[str, Any] = {"caller": caller, "callee": CALLEE, "direction": "inbound", "custom_params": {}}
        return self.event(call_id, "call_started", at, **{**facts, "telephony_provider": "twilio", **data})

    def said(self, call_id: str, text: str, role: str = "user", at: float = 1.0, **data: Any) -> EventRecord:
        return self.event(call_id, "transcript_final", at, role=role, text=text, **data)

    def measured(
        self, call_id: str, turn: int, total_ms: float | None, at: float = 2.0, cost: float = 0.0
    ) -> EventRecord:
        measured = {
            "turn_index": turn,
            "user_text": "",
            "agent_text": "",
            "timestamp": EPOCH + at,
            "latency": {"total_ms": total_ms},
            "interrupted": False,
            "failed": False,
        }
        return self.event(call_id, "metrics_collected", at, turn=measured, cost_so_far={"total": cost})

    def ended(self, call_id: str, at: float = 3.0, outcome: str = "caller_hung_up", **data: Any) -> EventRecord:
        facts: dict[str, Any] = {"transcript": [], "metrics": None, "tool_calls": [], "ended_at": EPOCH + at}
        facts |= {"caller": CALLER, "callee": CALLEE, "direction": "inbound"}
        return self.event(call_id, "call_ended", at, outcome=outcome, **{**facts, **data})


def metrics(
    seconds: float = 3.0, cost: float = 0.25, telephony: float = 0.05, p50: float | None = 600.0
) -> dict[str, Any]:
    """Return what of a call's metrics the log reads."""
    return {
        "duration_seconds": seconds,
        "cost": {"total": cost, "telephony": telephony},
        "latency_p50": {"total_ms": p50},
    }


@attrs.define
class OpenLog:
    """A log over one database, written and read in the test's own thread."""

    url: str
    redaction: Redaction = attrs.field(factory=Redaction)
    database: Database = attrs.field(init=False)
    store: LogStore = attrs.field(init=False)
    events: Events = attrs.field(factory=Events)

    def __attrs_post_init__(self) -> None:
        self.database = Database(CallLog(self.url).url())
        self.store = LogStore(self.database, self.redaction)
        self.store.open()
