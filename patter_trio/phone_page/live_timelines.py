"""The pictures of the calls that pages hold, folded event by event while they go on."""

from datetime import datetime
from typing import Any, Final

from patter_trio.abc import EventRecord
from patter_trio.metrics.internal_events import LlmChunk
from patter_trio.metrics.public_events import CallConnected
from patter_trio.timeline.fold import CallFacts, TimelineFold

PAGE_PROVIDERS: Final = frozenset({"browser", "text"})
"""The carriers of calls that a page may hold."""
# Judged: twice as many as pages can hold at once, so that a page still gets the end of its call.
MAX_CALLS: Final = 32
"""Calls that are kept; beyond, the oldest is forgotten."""


class LiveTimelines:
    """The timelines of the newest calls of pages: a ``RecordSink``."""

    def __init__(self) -> None:
        self._folds: dict[str, TimelineFold] = {}
        """By id, oldest first."""
        self._live: set[str] = set()
        self._silent: dict[str, datetime] = {}
        """By id: the begin of each call in text, which has no media from which call time would count."""

    def __repr__(self) -> str:
        return f"<LiveTimelines of {len(self._folds)}, {len(self._live)} live>"

    def wants(self, kind: type[Any]) -> bool:
        """Return True for events that a picture may show; while no page has a call, for the begin of one."""
        if not self._live:
            return kind is CallConnected
        # Sentences say the same as the pieces of the LLM's text, which come up to fifty times a second.
        return kind is not LlmChunk

    def take(self, record: EventRecord) -> None:
        """Add an event to the timeline of its call."""
        call_id = record["call_id"]
        if record["type"] == "call_started" and record["data"].get("telephony_provider") in PAGE_PROVIDERS:
            self._begin(record)
        fold = self._folds.get(call_id)
        if fold is None:
            return
        fold.add(self._timed(record))
        if record["type"] == "call_ended":
            self._live.discard(call_id)

    def _begin(self, record: EventRecord) -> None:
        call_id = record["call_id"]
        self._folds[call_id] = TimelineFold(CallFacts(call_id=call_id))
        self._live.add(call_id)
        if record["data"]["telephony_provider"] == "text":
            self._silent[call_id] = datetime.fromisoformat(record["time"])
        if len(self._folds) > MAX_CALLS:
            self.forget(next(iter(self._folds)))

    def forget(self, call_id: str) -> None:
        """Drop the timeline of a call, if it is kept; its later events begin no new one."""
        self._folds.pop(call_id, None)
        self._live.discard(call_id)
        self._silent.pop(call_id, None)

    def _timed(self, record: EventRecord) -> EventRecord:
        """Return the event of a call in text with the time since the call's begin."""
        began = self._silent.get(record["call_id"])
        if began is None:
            return record
        since = datetime.fromisoformat(record["time"]) - began
        return {**record, "at_ms": since.total_seconds() * 1000}

    def timeline(self, call_id: str) -> dict[str, Any] | None:
        """Return a call's timeline of the events so far, as JSON takes it; None: it is not kept."""
        fold = self._folds.get(call_id)
        return None if fold is None else fold.timeline().to_dict()
