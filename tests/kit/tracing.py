"""The tools of the tests of tracing: an agent of scripted providers, and spans in a form that is easy to compare."""

from typing import Any

import attrs
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from patter_trio import Agent
from patter_trio.testing import ScriptedTTS
from patter_trio.testing.simulation.caller import SimulatedCaller
from patter_trio.testing.simulation.simulator import EPOCH_UNIX_S
from tests.kit.call import Backend

REPLY = "We open at nine. We close at five."


def speaking(backend: Backend, *replies: str, **options: Any) -> Agent:
    """Make an agent whose replies take three seconds."""
    chosen: dict[str, Any] = {"tts": ScriptedTTS(duration=3.0), "error_message": "Sorry."}
    return backend.agent_of(*(replies or [REPLY]), **chosen | options)


def sent(caller: SimulatedCaller) -> list[Any]:
    """Return all that reached the carrier, with its instant."""
    return [(arrival.at, arrival.audio, arrival.mark) for arrival in caller.carrier.arrivals]


def seconds(stamp: int | None) -> float:
    """Return a span's stamp as seconds on the clock of the simulated call."""
    assert stamp is not None
    # Subtracted as integers: as floats, nanoseconds since 1970 are exact to a quarter of a microsecond only.
    return (stamp - round(EPOCH_UNIX_S * 1e9)) / 1e9


@attrs.frozen
class Trace:
    """The spans that have ended so far."""

    exporter: InMemorySpanExporter

    @property
    def spans(self) -> tuple[ReadableSpan, ...]:
        return self.exporter.get_finished_spans()

    def all(self, name: str) -> list[ReadableSpan]:
        return [span for span in self.spans if span.name == name]

    def one(self, name: str) -> ReadableSpan:
        [span] = self.all(name)
        return span

    def parent(self, span: ReadableSpan) -> str:
        """Return the name of a span's parent, empty without a parent."""
        if span.parent is None:
            return ""
        [name] = [other.name for other in self.spans if other.context.span_id == span.parent.span_id]
        return name

    def tree(self) -> list[tuple[str, str, float, float]]:
        """Return parent, name, begin and end in s of each span, in the order in which they begin."""
        # Rounded to microseconds, which is more than spans are compared by.
        rows = [
            (self.parent(span), span.name, round(seconds(span.start_time), 6), round(seconds(span.end_time), 6))
            for span in self.spans
        ]
        return sorted(rows, key=lambda row: row[2:])

    def events(self) -> list[tuple[float, str, dict[str, Any]]]:
        """Return the span events of the call: instant, name and attributes."""
        return [
            (round(seconds(event.timestamp), 6), event.name, dict(event.attributes or {}))
            for event in self.one("patter.call").events
        ]
