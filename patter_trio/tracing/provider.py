"""The tracer provider for an application that has none. Imports the SDK of opentelemetry.

A program can set its global provider only once, so ours stays set, and only the destination of its spans changes.
Threads of the SDK (``BatchSpanProcessor``) export them; they share only a bounded queue with the event loop. They do
not belong to trio, so trio's virtual clock in tests does not see them.
"""

import atexit
import logging
import os
import threading
from collections.abc import Iterator, Mapping, Sequence
from importlib.metadata import entry_points
from types import MappingProxyType
from typing import Any, Final
from urllib.parse import urlsplit

from opentelemetry import trace
from opentelemetry.context import Context
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import ReadableSpan, Span, SpanLimits, SpanProcessor, TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExporter

from patter_trio.tracing.attributes import FLUSH_TIMEOUT_S

DEFAULT_SERVICE_NAME: Final = "patter_trio"
MAX_SPAN_EVENTS: Final = 8192
"""Events that a span keeps, unless ``OTEL_SPAN_EVENT_COUNT_LIMIT`` is set: seven a turn, for more than 1000 turns.

With the SDK's default of 128, the span of a call would lose its first events after 18 turns.
"""

_log = logging.getLogger("patter_trio.telemetry")


class _Outlet(SpanProcessor):
    """The current destination of spans: some processors, or none."""

    def __init__(self) -> None:
        self._processors: Sequence[SpanProcessor] = ()
        self._stop = threading.Event()
        # A thread of our own and not one of trio's: it has to work when no trio runs, and while the interpreter exits.
        self._closer: threading.Thread | None = None

    def open(self, processors: Sequence[SpanProcessor]) -> None:
        """Send spans to these processors."""
        # The thread that will close them is started now, because none can be started while the interpreter exits.
        self._stop = threading.Event()
        self._closer = threading.Thread(target=_close, args=(self._stop, processors), name="patter-otel", daemon=True)
        self._closer.start()
        # Last: from here on spans go there.
        self._processors = processors

    def close(self, timeout: float) -> bool:
        """Stop sending spans; return True if the earlier ones were exported within ``timeout`` seconds."""
        closer, self._closer, self._processors = self._closer, None, ()
        if closer is None:
            return True
        self._stop.set()
        # The thread is left behind when the time is over: an export cannot be interrupted,
        # and may ignore its own timeout.
        closer.join(timeout)
        return not closer.is_alive()

    # This and on_end run on the event loop. BatchSpanProcessor does nothing in one, and
    # appends to its queue in the other.
    def on_start(self, span: Span, parent_context: Context | None = None) -> None:
        for processor in self._processors:
            processor.on_start(span, parent_context)

    def on_end(self, span: ReadableSpan) -> None:
        for processor in self._processors:
            processor.on_end(span)

    def force_flush(self, timeout_millis: int = 30000) -> bool:
        flushed = [processor.force_flush(timeout_millis) for processor in self._processors]
        return all(flushed)


def _close(stop: threading.Event, processors: Sequence[SpanProcessor]) -> None:
    stop.wait()
    for processor in processors:
        processor.shutdown()


class _Ours:
    """Holder of the provider that :func:`set_up` has made; its provider is None before."""

    def __init__(self) -> None:
        self.provider: TracerProvider | None = None
        self.outlet = _Outlet()


_ours: Final = _Ours()


def set_up(
    service_name: str, endpoint: str, exporter: SpanExporter | None, resource_attributes: Mapping[str, str]
) -> bool:
    """Set up the export of spans, as :func:`~patter_trio.tracing.setup.init_tracing` describes.

    Raises:
        ImportError: the exporter is not installed.
    """
    current = trace.get_tracer_provider()
    # The proxy stands for "none yet": OpenTelemetry gives it out until a provider is set.
    if not isinstance(current, trace.ProxyTracerProvider) and current is not _ours.provider:
        if endpoint or exporter is not None:
            _log.warning("init_tracing: endpoint and exporter are unused, the application has its own tracer provider")
        return True
    # Before the old ones are shut down: if an exporter is missing, they stay in use.
    processors = [BatchSpanProcessor(chosen) for chosen in _exporters(endpoint, exporter)]
    shut_down(FLUSH_TIMEOUT_S)
    # Once per process: OpenTelemetry refuses a second global provider.
    if _ours.provider is None:
        _ours.provider = _new_provider(service_name, resource_attributes)
        _ours.provider.add_span_processor(_ours.outlet)
        trace.set_tracer_provider(_ours.provider)
        atexit.register(shut_down, FLUSH_TIMEOUT_S)
    _ours.outlet.open(processors)
    return True


def shut_down(timeout: float) -> bool:
    """Export the remaining spans, as :func:`~patter_trio.tracing.setup.shutdown_tracing` describes."""
    left = _ours.outlet.close(timeout)
    if not left:
        _log.warning("tracing: spans may be lost, the exporter did not take them within %g s", timeout)
    return left


def _new_provider(service_name: str, attributes: Mapping[str, str] = MappingProxyType({})) -> TracerProvider:
    # The name last: it has an argument of its own.
    resource = Resource.create({**attributes, **({"service.name": service_name} if service_name else {})})
    if str(resource.attributes.get("service.name", "")).startswith("unknown_service"):  # the SDK's own default
        resource = resource.merge(Resource({"service.name": DEFAULT_SERVICE_NAME}))
    events = None if os.environ.get("OTEL_SPAN_EVENT_COUNT_LIMIT") else MAX_SPAN_EVENTS
    # shutdown_on_exit=False: the SDK would wait for its exporters without our limit.
    return TracerProvider(resource=resource, span_limits=SpanLimits(max_events=events), shutdown_on_exit=False)


def _exporters(endpoint: str, exporter: SpanExporter | None) -> Iterator[SpanExporter]:
    if exporter is not None:
        yield exporter
        return
    if endpoint:
        path = "" if urlsplit(endpoint).path.strip("/") else "/v1/traces"
        yield _exporter_class("otlp")(endpoint=endpoint.rstrip("/") + path if path else endpoint)
        return
    # A list, as the OpenTelemetry specification has it; "none" among others adds nothing.
    for name in os.environ.get("OTEL_TRACES_EXPORTER", "otlp").split(","):
        if name.strip() not in ("", "none"):
            yield _exporter_class(name.strip())()


def _exporter_class(name: str) -> Any:
    """Return the class of the exporter with a name from ``OTEL_TRACES_EXPORTER``, from its package's entry point.

    Raises:
        ImportError: the exporter is not installed.
    """
    if name == "otlp":
        protocol = os.environ.get("OTEL_EXPORTER_OTLP_TRACES_PROTOCOL") or os.environ.get("OTEL_EXPORTER_OTLP_PROTOCOL")
        name = "otlp_proto_grpc" if protocol == "grpc" else "otlp_proto_http"
    # As the SDK finds them: exporters are packages of their own, which we neither import nor depend on by name.
    for found in entry_points(group="opentelemetry_traces_exporter", name=name):
        return found.load()
    raise ImportError(f"the exporter {name} is not installed")
