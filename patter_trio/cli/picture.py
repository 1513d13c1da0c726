"""The timeline and the picture of a simulated call, from the record of its events."""

from collections.abc import Sequence

from patter_trio.audio.g711 import Samples
from patter_trio.testing.simulation.record import Event
from patter_trio.timeline.call_timeline import CallTimeline
from patter_trio.timeline.fold import CallFacts, timeline_of
from patter_trio.timeline.stored_events import StoredEvent
from patter_trio.timeline.svg import svg_of
from patter_trio.timeline.waveform import peaks_of


def recorded_timeline(facts: CallFacts, recording: tuple[Samples, Samples], events: Sequence[Event]) -> CallTimeline:
    """Return the timeline of a recorded call.

    Args:
        facts: what is known without its events.
        recording: the audio of the caller and the audio that the caller heard, 8 kHz.
        events: the call's events, those of the bus included, with times in seconds since the media began.
    """
    return timeline_of(facts, [_stored(event) for event in events], peaks=peaks_of(*recording))


def call_picture(facts: CallFacts, recording: tuple[Samples, Samples], events: Sequence[Event]) -> str:
    """Return a recorded call as SVG; the arguments are those of :func:`recorded_timeline`."""
    return svg_of(recorded_timeline(facts, recording, events))


def _stored(event: Event) -> StoredEvent:
    # Without a number: they are in their order.
    return {"type": event.name, "at_ms": event.at * 1000, "data": event.payload}
