"""The metrics of a phone for machines, in the formats of Prometheus and OpenMetrics.

Each phone that is served has a registry of its own; nothing is global. A label never has a number or words of a caller,
and each has at most :data:`MAX_LABEL_VALUES` values, because a monitoring system keeps a series for each.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, Final

from prometheus_client import CollectorRegistry, Counter, Histogram
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.exposition import choose_encoder
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Route

from patter_trio.abc import CallInfo, EventRecord
from patter_trio.call.session import CallSession
from patter_trio.events.feed import EventFeed
from patter_trio.metrics.internal_events import (
    AgentReady,
    CallEvent,
    CallFailed,
    LlmFailed,
    ProviderFailed,
    ReplyStarted,
    TtsFailed,
)
from patter_trio.metrics.public_events import CallOver, TurnMeasured
from patter_trio.server.options import RunningServer

# Judged: more than a phone has providers, and few enough for any monitoring system.
MAX_LABEL_VALUES: Final = 50
"""Most values of one label; all further ones are ``other``."""
OTHER: Final = "other"
# Judged: around the targets of a conversation, 0.5 to 1 s, close together; a wait of 10 s is a failure anyhow.
LATENCY_BUCKETS_S: Final = (0.05, 0.1, 0.2, 0.3, 0.5, 0.75, 1.0, 1.5, 2.0, 3.0, 5.0, 10.0)
"""Upper bounds of the histogram of latencies, in seconds."""
# Judged: from a wrong number to a long conversation.
DURATION_BUCKETS_S: Final = (5.0, 15.0, 30.0, 60.0, 120.0, 300.0, 600.0, 1800.0, 3600.0)
"""Upper bounds of the histogram of durations, in seconds."""
_LATENCIES: Final = {
    "total_ms": "total",
    "endpoint_ms": "endpoint",
    "stt_ms": "stt",
    "llm_ttft_ms": "llm",
    "tts_ms": "tts",
    "bargein_ms": "bargein",
}
"""The latencies of a turn that are shown, by their names in its metrics (docs/metrics.md)."""
_COSTS: Final = ("stt", "tts", "llm", "telephony")


class BoundedLabel:
    """The values of one label, bounded in number."""

    def __init__(self, limit: int = MAX_LABEL_VALUES) -> None:
        self._limit = limit
        self._seen: set[str] = set()

    def of(self, value: str) -> str:
        """Return the value for a label; ``other`` if there are too many."""
        if value not in self._seen:
            if len(self._seen) >= self._limit:
                return OTHER
            self._seen.add(value)
        return value


class PhoneMetrics:
    """The metrics of a phone: a sink for the records of its calls, and observers of their failures.

    Args:
        live: the live calls by id.
        servers: the running servers.
        feed: the streams of windows.
    """

    def __init__(self, live: Mapping[str, CallSession], servers: Sequence[RunningServer], feed: EventFeed) -> None:
        self._live = live
        self._servers = servers
        self._feed = feed
        self.registry: CollectorRegistry = CollectorRegistry()
        self._calls = Counter(
            "patter_calls",
            "Calls that are over, also those that never connected.",
            ("direction", "outcome"),
            registry=self.registry,
        )
        self._durations = Histogram(
            "patter_call_duration_seconds",
            "Durations of connected calls.",
            buckets=DURATION_BUCKETS_S,
            registry=self.registry,
        )
        self._turns = Counter("patter_turns", "Measured turns.", ("result",), registry=self.registry)
        self._latencies = Histogram(
            "patter_turn_latency_seconds",
            "Latencies of turns; total is the caller's wait for an answer.",
            ("part",),
            buckets=LATENCY_BUCKETS_S,
            registry=self.registry,
        )
        self._errors = Counter(
            "patter_provider_errors",
            "Failures of providers by kind (stt, llm, tts, engine, carrier), and of calls as a whole (call).",
            ("kind", "provider", "error"),
            registry=self.registry,
        )
        self._costs = Counter("patter_cost_usd", "Costs of calls that are over.", ("part",), registry=self.registry)
        self._outcomes, self._providers, self._error_names = BoundedLabel(), BoundedLabel(), BoundedLabel()
        self._dropped_audio = 0
        """Frames that calls which are over have dropped."""
        self.registry.register(_Gauges(self))

    def __repr__(self) -> str:
        return f"<PhoneMetrics of {len(self._servers)} servers>"

    def wants(self, kind: type[Any]) -> bool:
        """Return True for the events that are counted."""
        return kind in (CallOver, TurnMeasured)

    def take(self, record: EventRecord) -> None:
        """Count a call that is over, or a turn."""
        data = record["data"]
        if record["type"] == "call_ended":
            self._call_over(record["call_id"], data)
        elif record["type"] == "metrics_collected":
            self._turn(data["turn"])

    def _call_over(self, call_id: str, data: Mapping[str, Any]) -> None:
        self._calls.labels(data["direction"], self._outcomes.of(data["outcome"])).inc()
        metrics = data["metrics"]
        if metrics is not None:
            self._durations.observe(metrics["duration_seconds"])
            for part in _COSTS:
                self._costs.labels(part).inc(max(0.0, metrics["cost"][part]))
        # Still listed: its end is reported before it leaves.
        if (session := self._live.get(call_id)) is not None:
            self._dropped_audio += session.dropped_frames

    def _turn(self, turn: Mapping[str, Any]) -> None:
        # Turn 0 is the greeting, which no number of turns counts (docs/glossary.md).
        if turn["turn_index"]:
            result = "failed" if turn["failed"] else "interrupted" if turn["interrupted"] else "completed"
            self._turns.labels(result).inc()
        for name, part in _LATENCIES.items():
            if (value := turn["latency"][name]) is not None:
                self._latencies.labels(part).observe(value / 1000)

    def observer_of(self, _: CallInfo) -> "FailureObserver":
        """Return the observer of a call's failures."""
        return FailureObserver(self)

    def failed(self, kind: str, provider: str, error: str) -> None:
        """Count a failure."""
        self._errors.labels(kind, self._providers.of(provider), self._error_names.of(error)).inc()

    def carrier_failed(self, carrier: str, error: str) -> None:
        """Count a request to a carrier that failed."""
        self.failed("carrier", carrier, error)

    def gauges(self) -> Iterator[Metric]:
        """Yield the values of this moment."""
        live = GaugeMetricFamily("patter_live_calls", "Connected calls.", labels=("direction",))
        for direction in ("inbound", "outbound"):
            live.add_metric([direction], sum(call.info.direction == direction for call in self._live.values()))
        yield live
        announced = sum(len(server.context.pending) for server in self._servers)
        yield GaugeMetricFamily("patter_announced_calls", "Accepted calls that are not connected yet.", announced)
        # All of none is true: a phone that is not served accepts no calls.
        yield GaugeMetricFamily(
            "patter_draining", "1 if no server accepts calls.", int(all(server.draining for server in self._servers))
        )
        lags = [lag for server in self._servers if (lag := server.lag) is not None]
        if lags:
            yield GaugeMetricFamily(
                "patter_loop_lag_seconds", "How late the event loop is, 90th percentile of 2 s.", max(lags)
            )
        streams = sum(server.context.streams.taken for server in self._servers)
        yield GaugeMetricFamily("patter_event_streams", "Open streams of events.", streams)
        # Live calls as well: what a call drops counts at once, and stays when it is over.
        audio = self._dropped_audio + sum(call.dropped_frames for call in self._live.values() if not call.outcome)
        dropped = CounterMetricFamily("patter_dropped", "Items dropped because a queue was full.", labels=("queue",))
        dropped.add_metric(["audio"], audio)
        dropped.add_metric(["windows"], self._feed.dropped)
        yield dropped


class _Gauges:
    """The collector of the values of a moment."""

    def __init__(self, metrics: PhoneMetrics) -> None:
        self._metrics = metrics

    def collect(self) -> Iterable[Metric]:
        return self._metrics.gauges()

    def describe(self) -> Iterable[Metric]:
        # Without it the registry would collect once, to find the names.
        return ()


class FailureObserver:
    """The observer that counts the failures of one call's providers."""

    def __init__(self, metrics: PhoneMetrics) -> None:
        self._metrics = metrics
        self._llm, self._tts, self._engine = "", "", ""

    def wants(self, kind: type[CallEvent]) -> bool:
        """Return True for failures, and for events that name providers."""
        return kind in (AgentReady, ReplyStarted, LlmFailed, TtsFailed, ProviderFailed, CallFailed)

    def on_event(self, event: CallEvent, at: float) -> None:
        """Take an event."""
        del at
        match event:
            case AgentReady():
                self._llm, self._tts = event.llm_provider, event.tts_provider
                self._engine = "" if event.provider_mode == "pipeline" else event.provider_mode
            # The one that answers, of several.
            case ReplyStarted() if event.llm_provider:
                self._llm = event.llm_provider
            # An engine is what answers, too.
            case LlmFailed() if self._engine:
                self._metrics.failed("engine", self._engine, event.error)
            case LlmFailed():
                self._metrics.failed("llm", self._llm, event.error)
            case TtsFailed():
                self._metrics.failed("tts", self._tts, event.error)
            case ProviderFailed():
                self._metrics.failed(event.kind, event.provider, event.error)
            case CallFailed():
                self._metrics.failed("call", "", event.error)


def metrics_routes(metrics: PhoneMetrics) -> Sequence[BaseRoute]:
    """Return the route of the metrics."""

    async def endpoint(request: Request) -> Response:
        encode, content_type = choose_encoder(request.headers.get("accept", ""))
        return Response(encode(metrics.registry), media_type=content_type)

    return [Route("/metrics", endpoint)]
