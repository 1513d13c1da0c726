"""The feed of a phone: streams of the records of everything that happens in its calls, for windows.

While nobody has subscribed, no record is made for it. A subscriber never holds up a call: its channel is bounded, and a
record that is not taken in time is dropped, oldest first, and counted.
"""

import math
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Final, Self

import trio

from patter_trio.abc import EventRecord
from patter_trio.errors import ConfigurationError
from patter_trio.events.kinds import PatterEventType
from patter_trio.events.records import EventRecorder
from patter_trio.metrics.internal_events import LlmChunk

# Judged: what a page misses while it is drawn, or while a network stalls.
MAX_WAITING_RECORDS: Final = 1024
"""Records that may wait for a subscriber by default: some seconds of a hundred calls."""
# Judged: a page that reconnects after a lost connection has missed a few seconds.
MAX_REMEMBERED_RECORDS: Final = 1024
"""The newest records that are kept for subscribers who resume."""
# Judged: a browser opens a lost stream again after some seconds.
REMEMBERED_S: Final = 30.0
"""Seconds for which records are made and kept after the last subscription has ended, so that it can be resumed."""


class FeedStream:
    """The records for one subscriber (``abc.EventStream``).

    Args:
        call_id: the call whose records are wanted; empty: those of all calls.
        chunks: True: with each ``llm_chunk``.
        size: number of records that may wait.
    """

    def __init__(self, call_id: str, *, chunks: bool, size: int) -> None:
        self.call_id = call_id
        self.chunks = chunks
        self._dropped = 0
        self._is_finished = False
        self._send, self._receive = trio.open_memory_channel[EventRecord](size)

    def __repr__(self) -> str:
        return f"<FeedStream of {self.call_id or 'all calls'}, {self._dropped} dropped>"

    @property
    def dropped(self) -> int:
        """The number of records dropped because they were not taken in time."""
        return self._dropped

    def wants(self, record: EventRecord) -> bool:
        """Return True if the subscriber gets a record."""
        # Costs and recordings come after the end of their call, while a slow reader still has records to take.
        return (
            not self._is_finished
            and (not self.call_id or self.call_id == record["call_id"])
            and (self.chunks or record["type"] != PatterEventType.LLM_CHUNK)
        )

    def put(self, record: EventRecord) -> int:
        """Queue a record that the subscriber wants; if the channel is full, drop the oldest.

        The stream of one call ends behind the record of the call's end.

        Returns:
            The number of dropped records.
        """
        dropped = 0
        try:
            self._send.send_nowait(record)
        except trio.WouldBlock:
            dropped = 1
            # No await before the second send, so the place that this makes is still free.
            self._receive.receive_nowait()
            self._send.send_nowait(record)
        self._dropped += dropped
        if self.call_id and record["type"] == PatterEventType.CALL_ENDED:
            self._is_finished = True
            self._send.close()
        return dropped

    def close(self) -> None:
        """Drop the records that still wait."""
        self._send.close()
        self._receive.close()

    def __aiter__(self) -> Self:
        """Return the stream itself."""
        return self

    async def __anext__(self) -> EventRecord:
        """Return the next record, as soon as there is one."""
        try:
            return await self._receive.receive()
        except trio.EndOfChannel:
            raise StopAsyncIteration from None


class EventFeed:
    """The streams of records of a phone's calls, on all its servers: a sink of the phone's recorder while it is needed.

    Args:
        recorder: makes the records.
    """

    def __init__(self, recorder: EventRecorder) -> None:
        self._recorder = recorder
        self._streams: list[FeedStream] = []
        self._recent: deque[EventRecord] = deque(maxlen=MAX_REMEMBERED_RECORDS)
        self._newest = 0
        """The number of the newest record."""
        self.dropped: int = 0
        """The number of records that subscribers have not taken in time."""
        self._leaves_at: float | None = None
        """The instant at which records cease to be needed, infinite while somebody has subscribed; None: they have."""

    def __repr__(self) -> str:
        return f"<EventFeed of {len(self._streams)} subscribers>"

    @property
    def is_open(self) -> bool:
        """True if records are made for the feed."""
        return self._leaves_at is not None

    @contextmanager
    def subscribe(
        self, call_id: str = "", *, after: int | None = None, chunks: bool = False, size: int = MAX_WAITING_RECORDS
    ) -> Iterator[FeedStream]:
        """Open a stream of records for the time of a block, as ``abc.LiveCalls.subscribe`` describes.

        Raises:
            ConfigurationError: ``size`` is not at least 1.
        """
        if not (isinstance(size, int) and size >= 1):
            raise ConfigurationError(f"size must be a whole number of at least 1, got {size!r}")
        self._leave_if_due()
        if self._leaves_at is None:
            # A gap of unknown length lies behind them.
            self._recent.clear()
            self._recorder.add(self)
        self._leaves_at = math.inf
        stream = FeedStream(call_id, chunks=chunks, size=size)
        for record in self._missed(after):
            if stream.wants(record):
                stream.put(record)
        # Behind the missed records, without an await in between: no record comes twice, or before an older one.
        self._streams.append(stream)
        try:
            yield stream
        finally:
            self._streams.remove(stream)
            stream.close()
            if not self._streams:
                # Not at once: a page that is loaded again would find a gap.
                self._leaves_at = trio.current_time() + REMEMBERED_S

    def wants(self, kind: type[Any]) -> bool:
        """Return True if a subscriber uses the events of a class."""
        return kind is not LlmChunk or any(stream.chunks for stream in self._streams)

    def take(self, record: EventRecord) -> None:
        """Hand a record to the subscribers; never waits."""
        self._leave_if_due()
        self._newest = record["seq"]
        self._recent.append(record)
        for stream in self._streams:
            if stream.wants(record):
                self.dropped += stream.put(record)

    def _missed(self, after: int | None) -> list[EventRecord]:
        """Return the remembered records behind a number."""
        if after is None:
            return []
        # A number that is still to come is from before a restart: its owner has seen none of ours.
        return [record for record in self._recent if after > self._newest or record["seq"] > after]

    def _leave_if_due(self) -> None:
        """Take no more records if nobody has resumed in time; asked when something happens, so that no task waits."""
        if self._leaves_at is not None and self._leaves_at <= trio.current_time():
            self._recorder.remove(self)
            self._leaves_at = None
