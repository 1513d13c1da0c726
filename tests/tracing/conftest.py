"""The tracer provider of an application, as the tests of tracing have it: one for the process, spans kept in memory."""

from collections.abc import Iterator
from functools import cache

import pytest
from opentelemetry import trace
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from tests.kit.tracing import Trace


@cache
def _exporter() -> InMemorySpanExporter:
    """A program can set its provider once only, so that all tests share it."""
    exporter = InMemorySpanExporter()
    provider = TracerProvider(shutdown_on_exit=False)
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    trace.set_tracer_provider(provider)
    return exporter


@pytest.fixture
def traced(monkeypatch: pytest.MonkeyPatch) -> Iterator[Trace]:
    """The spans of the test's calls, tracing being on."""
    monkeypatch.setenv("PATTER_OTEL_ENABLED", "1")
    exporter = _exporter()
    exporter.clear()
    yield Trace(exporter)
    exporter.clear()
