"""The records of events, in which windows and the call log see calls: ``abc/_windows.py`` says their form.

One recorder belongs to a phone and numbers the events of all its calls. A record is made once for all receivers, and
only if there is one that wants it.
"""

import itertools
import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import Any, Final, Protocol

from patter_trio.abc import EventRecord
from patter_trio.events.kinds import PUBLISHED, PublishedEvent
from patter_trio.events.plain import Room, plain, plain_calls
from patter_trio.events.rendering import bus_payload
from patter_trio.metrics.internal_events import CallEvent, TtsChunk
from patter_trio.metrics.public_events import SpeechEdge

_UNRECORDED: Final = frozenset({"history"})
"""Keys that are left out: the transcripts before say it, and again with each one it would be most of all records."""

_log = logging.getLogger("patter_trio.events")


class RecordSink(Protocol):
    """A receiver of records; it does not wait, and what it raises costs it the record."""

    def wants(self, kind: type[Any]) -> bool:
        """Return True if it uses the events of a class."""

    def take(self, record: EventRecord) -> None:
        """Take a record, which is shared with others."""


Describe = Callable[[CallEvent], tuple[str, dict[str, Any]] | None]
"""Returns type and data of the record of an internal event that is not on the bus; None: it has no record."""


class _Receiver:
    """A receiver whose failures harm neither the call nor the other receivers; the first one is logged."""

    def __init__(self, sink: RecordSink) -> None:
        self.sink = sink
        self._has_failed = False

    def wants(self, kind: type[Any], call_id: str = "") -> bool:
        try:
            return self.sink.wants(kind)
        except Exception as bug:  # noqa: BLE001 (a window must not harm a call)
            self._failed(bug, call_id)
            return False

    def take(self, record: EventRecord) -> None:
        try:
            self.sink.take(record)
        except Exception as bug:  # noqa: BLE001 (same)
            # Every Exception, which CONTRIBUTING.md allows here: some events come from tasks of the server, whose
            # failure would end all calls.
            self._failed(bug, record["call_id"])

    def _failed(self, bug: Exception, call_id: str) -> None:
        if self._has_failed:
            return
        # First, because logging may run handlers of the application.
        self._has_failed = True
        # Once: a bug that every event meets would fill the log.
        name = type(self.sink).__name__
        _log.error(
            "call %s: %s failed on an event; it is not reported again: %s", call_id or "-", name, bug, exc_info=bug
        )


class EventRecorder:
    """The recorder of a phone's events.

    Args:
        describe: describes internal events.
    """

    def __init__(self, describe: Describe = lambda _: None) -> None:
        self._describe = describe
        self._sinks: list[_Receiver] = []
        self._own: tuple[_Receiver, ...] = ()
        self._numbers = itertools.count(1)

    def __repr__(self) -> str:
        return f"<EventRecorder for {len(self._sinks) + len(self._own)}>"

    def also_for(self, sink: RecordSink) -> "EventRecorder":
        """Return a recorder of some of the phone's calls, which gives their events to one more receiver."""
        recorder = EventRecorder(self._describe)
        # Shared, so that those who come later get the events of these calls, too, and each number is used once.
        recorder._sinks, recorder._numbers = self._sinks, self._numbers
        recorder._own = (*self._own, _Receiver(sink))
        return recorder

    def add(self, sink: RecordSink) -> None:
        """Give the events from now on to a receiver, too."""
        self._sinks.append(_Receiver(sink))

    def remove(self, sink: RecordSink) -> None:
        """Give a receiver no more events."""
        # The last of those that are this very object: a receiver may compare as equal to another one.
        del self._sinks[max(place for place, entry in enumerate(self._sinks) if entry.sink is sink)]

    @contextmanager
    def taken_by(self, sinks: Sequence[RecordSink]) -> Iterator[None]:
        """Give the events to receivers for the time of a block."""
        for sink in sinks:
            self.add(sink)
        try:
            yield
        finally:
            for sink in sinks:
                self.remove(sink)

    def wants(self, kind: type[Any]) -> bool:
        """Return True if somebody uses the events of a class."""
        # Audio has no record: it would be most of all bytes.
        return kind is not TtsChunk and any(sink.wants(kind) for sink in (*self._sinks, *self._own))

    def record(
        self, event: CallEvent | PublishedEvent, call_id: str, *, at: float, call_time: float, unix: float
    ) -> None:
        """Record an event for those who want it.

        Args:
            event: the event.
            call_id: its call.
            at: its instant on the call's clock, in seconds.
            call_time: seconds since the call's media began; 0 without media.
            unix: the Unix time of zero on the call's clock, in seconds.
        """
        kind = type(event)
        sinks = [sink for sink in (*self._sinks, *self._own) if sink.wants(kind, call_id)]
        if not sinks or kind is TtsChunk:
            return
        described: tuple[str, Mapping[str, Any]] | None
        if isinstance(event, PublishedEvent | SpeechEdge):
            described = described_by_bus(event, call_id, unix + at)
        else:
            described = self._describe(event)
        if described is None:
            return
        record = record_of(*described, call_id, seq=next(self._numbers), call_time=call_time, unix=unix + at)
        for sink in sinks:
            sink.take(record)


def described_by_bus(event: PublishedEvent | SpeechEdge, call_id: str, unix: float) -> tuple[str, Mapping[str, Any]]:
    """Return the type and the payload of an event that has a callback or a name on the bus."""
    published = PUBLISHED.get(type(event))
    name = event.name if published is None else published.value  # type: ignore[union-attr]
    return name, bus_payload(event, call_id, round(unix * 1000))  # type: ignore[arg-type]


def record_of(
    kind: str, payload: Mapping[str, Any], call_id: str, *, seq: int, call_time: float, unix: float
) -> EventRecord:
    """Return the record of an event at a Unix time, in seconds."""
    return EventRecord(
        seq=seq,
        call_id=call_id,
        type=kind,
        at_ms=round(call_time * 1000, 1),
        time=datetime.fromtimestamp(unix, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z"),
        data=data_of(payload),
    )


def data_of(payload: Mapping[str, Any]) -> dict[str, Any]:
    """Return a payload as a record's data, each value with the same room; ``left_out`` says what did not fit."""
    data: dict[str, Any] = {}
    left_out: dict[str, dict[str, int]] = {}
    for key, value in payload.items():
        if key in _UNRECORDED:
            continue
        room = Room()
        data[key] = plain_calls(value, room) if key == "tool_calls" else plain(value, room)
        if room.left_out:
            left_out[key] = room.left_out
    return {**data, "left_out": left_out} if left_out else data
