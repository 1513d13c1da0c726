"""The entries of the writer's queue: records of events, and the files of recordings."""

from typing import Final

import attrs

from patter_trio.abc import EventRecord


@attrs.frozen
class RecordingMade:
    """A recording of our own has a file."""

    call_id: str
    path: str


Entry = EventRecord | RecordingMade
"""An entry of the queue."""
LOSSY_TYPES: Final = frozenset({"transcript_partial"})
"""Types of events that are the first to be dropped when the queue fills: final words take their place."""
