"""The tracer provider that is set up for an application that has none. Imports the SDK of opentelemetry.

A program can set its global provider once, so that ours stays, and what changes is where its spans go. They leave by
threads of the SDK's (``BatchSpanProcessor``), which share nothing with the event loop but a bounded queue, and are not
trio's: a clock that jumps does not see them.
"""

import atexit
import logging
import os
import threading
from collections.abc import Iterator, Sequence
from importlib.metadata import entry_points
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
"""Events that a span keeps, unless ``OTEL_SPAN_EVENT_COUNT_LIMIT`` says otherwise: seven a turn, for more than a thousand
turns. With the SDK's 128 a call would have lost its beginning after 18."""

_log = logging.getLogger("patter_trio.telemetry")


class _Outlet(SpanProcessor):
    """Where spans go at present: to some processors, or nowhere."""

    def __init__(self) -> None:
        self._processors: Sequence[SpanProcessor] = ()
        self._stop = threading.Event()
        self._closer: threading.Thread | None = None

    def open(self, processors: Sequence[SpanProcessor]) -> None:
        """Let the spans go there."""
        # The thread that will close them is started now: none can be when the interpreter exits.
        self._stop = threading.Event()
        self._closer = threading.Thread(target=_close, args=(self._stop, processors), name="patter-otel", daemon=True)
        self._closer.start()
        self._processors = processors

    def close(self, timeout: float) -> bool:
        """Let them go nowhere, and return whether those before have left within ``timeout`` seconds."""
        closer, self._closer, self._processors = self._closer, None, ()
        if closer is None:
            return True
        self._stop.set()
        closer.join(timeout)
        return not closer.is_alive()

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
    """The provider that we have set up; None before."""

    def __init__(self) -> None:
        self.provider: TracerProvider | None = None
        self.outlet = _Outlet()


_ours: Final = _Ours()


def set_up(service_name: str, endpoint: str, exporter: SpanExporter | None) -> bool:
    """Do what :func:`~patter_trio.tracing.setup.init_tracing` promises.

    Raises:
        ImportError: the exporter is not installed.
    """
    current = trace.get_tracer_provider()
    if not isinstance(current, trace.ProxyTracerProvider) and current is not _ours.provider:
        if endpoint or exporter is not None:
            _log.warning("the application has its own tracer provider: init_tracing's endpoint or exporter is not used")
        return True
    processors = [BatchSpanProcessor(chosen) for chosen in _exporters(endpoint, exporter)]
    shut_down(FLUSH_TIMEOUT_S)
    if _ours.provider is None:
        _ours.provider = _new_provider(service_name)
        _ours.provider.add_span_processor(_ours.outlet)
        trace.set_tracer_provider(_ours.provider)
        atexit.register(shut_down, FLUSH_TIMEOUT_S)
    _ours.outlet.open(processors)
    return True


def shut_down(timeout: float) -> bool:
    """Do what :func:`~patter_trio.tracing.setup.shutdown_tracing` promises."""
    left = _ours.outlet.close(timeout)
    if not left:
        _log.warning("spans may be lost: they were not taken within %g s", timeout)
    return left


def _new_provider(service_name: str) -> TracerProvider:
    resource = Resource.create({"service.name": service_name} if service_name else {})
    if str(resource.attributes.get("service.name", "")).startswith("unknown_service"):  # the SDK's own default
        resource = resource.merge(Resource({"service.name": DEFAULT_SERVICE_NAME}))
    events = None if os.environ.get("OTEL_SPAN_EVENT_COUNT_LIMIT") else MAX_SPAN_EVENTS
    return TracerProvider(resource=resource, span_limits=SpanLimits(max_events=events), shutdown_on_exit=False)


def _exporters(endpoint: str, exporter: SpanExporter | None) -> Iterator[SpanExporter]:
    if exporter is not None:
        yield exporter
        return
    if endpoint:
        path = "" if urlsplit(endpoint).path.strip("/") else "/v1/traces"
        yield _exporter_class("otlp")(endpoint=endpoint.rstrip("/") + path if path else endpoint)
        return
    for name in os.environ.get("OTEL_TRACES_EXPORTER", "otlp").split(","):
        if name.strip() not in ("", "none"):
            yield _exporter_class(name.strip())()


def _exporter_class(name: str) -> Any:
    """Return the class of the exporter that ``OTEL_TRACES_EXPORTER`` calls ``name``: the packages tell of their own.

    Raises:
        ImportError: it is not installed.
    """
    if name == "otlp":
        protocol = os.environ.get("OTEL_EXPORTER_OTLP_TRACES_PROTOCOL") or os.environ.get("OTEL_EXPORTER_OTLP_PROTOCOL")
        name = "otlp_proto_grpc" if protocol == "grpc" else "otlp_proto_http"
    for found in entry_points(group="opentelemetry_traces_exporter", name=name):
        return found.load()
    raise ImportError(f"the exporter {name} is not installed")
