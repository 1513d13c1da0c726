"""The provider that init_tracing sets up: it obeys OpenTelemetry's standard variables."""

import threading

import pytest
from opentelemetry import trace
from opentelemetry.sdk.trace import SpanProcessor, TracerProvider
from opentelemetry.sdk.trace.export import ConsoleSpanExporter, SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from patter_trio import ConfigurationError, init_tracing, shutdown_tracing
from patter_trio.tracing import provider
from tests.kit.tracing import Trace


@pytest.fixture(autouse=True)
def _bare(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("OTEL_SERVICE_NAME", "OTEL_RESOURCE_ATTRIBUTES", "OTEL_SPAN_EVENT_COUNT_LIMIT", "OTEL_TRACES_SAMPLER"):
        monkeypatch.delenv(name, raising=False)


@pytest.mark.parametrize(
    ("given", "variable", "value", "named"),
    [
        ("", "", "", "patter_trio"),
        ("", "OTEL_SERVICE_NAME", "theirs", "theirs"),
        ("", "OTEL_RESOURCE_ATTRIBUTES", "service.name=theirs,deployment.environment=test", "theirs"),
        ("ours", "OTEL_SERVICE_NAME", "theirs", "ours"),
    ],
)
def test_service_name_argument_precedes_environment(
    monkeypatch: pytest.MonkeyPatch, given: str, variable: str, value: str, named: str
) -> None:
    """The argument names the service; without the argument the environment names it."""
    if variable:
        monkeypatch.setenv(variable, value)
    assert provider._new_provider(given).resource.attributes["service.name"] == named


def events_kept() -> int:
    span = provider._new_provider("").get_tracer("app").start_span("call")
    for _ in range(1000):
        span.add_event("edge")
    return len(getattr(span, "events", ()))


def test_call_span_keeps_over_hundred_turns_of_events(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The span of a long call keeps all its events unless the environment sets a limit."""
    assert events_kept() == 1000
    monkeypatch.setenv("OTEL_SPAN_EVENT_COUNT_LIMIT", "10")
    assert events_kept() == 10


def test_standard_sampler_and_disable_variables_apply(monkeypatch: pytest.MonkeyPatch) -> None:
    """Tracing obeys the standard variables for the sampler and for disabling the SDK."""

    def records() -> bool:
        return provider._new_provider("").get_tracer("app").start_span("call").is_recording()

    assert records()
    with monkeypatch.context() as sampled:
        sampled.setenv("OTEL_TRACES_SAMPLER", "always_off")
        assert not records()
    monkeypatch.setenv("OTEL_SDK_DISABLED", "true")
    assert not records()


def test_exporters_follow_the_standard_variable(monkeypatch: pytest.MonkeyPatch) -> None:
    """Tracing uses the exporters that OTEL_TRACES_EXPORTER names."""

    def kinds() -> list[str]:
        return [type(exporter).__name__ for exporter in provider._exporters("", None)]

    assert kinds() == ["OTLPSpanExporter"]
    monkeypatch.setenv("OTEL_TRACES_EXPORTER", "console, otlp")
    assert kinds() == ["ConsoleSpanExporter", "OTLPSpanExporter"]
    monkeypatch.setenv("OTEL_TRACES_EXPORTER", "none")
    assert kinds() == []
    own = ConsoleSpanExporter()
    assert list(provider._exporters("", own)) == [own]
    monkeypatch.setenv("OTEL_TRACES_EXPORTER", "otlp")
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_PROTOCOL", "grpc")
    with pytest.raises(ImportError, match="the exporter otlp_proto_grpc is not installed"):
        kinds()


def test_invalid_tracing_arguments_raise_without_flag(monkeypatch: pytest.MonkeyPatch) -> None:
    """Invalid arguments raise an error even when the tracing flag is off."""
    monkeypatch.delenv("PATTER_OTEL_ENABLED", raising=False)
    with pytest.raises(ConfigurationError, match="endpoint must be a URL such as http://localhost:4318"):
        init_tracing(endpoint="localhost:4318")
    with pytest.raises(ConfigurationError, match="endpoint= or exporter=, got both"):
        init_tracing(endpoint="http://localhost:4318", exporter=ConsoleSpanExporter())


def test_init_and_shutdown_leave_application_provider_alone(traced: Trace, caplog: pytest.LogCaptureFixture) -> None:
    """init_tracing and shutdown_tracing leave the tracer provider of the application unchanged."""
    own = trace.get_tracer_provider()
    assert init_tracing("other", exporter=ConsoleSpanExporter())
    assert trace.get_tracer_provider() is own
    assert shutdown_tracing()
    trace.get_tracer("app").start_span("still open").end()
    assert traced.one("still open")
    [warning] = caplog.records
    assert "the application has its own tracer provider" in warning.message


class Stuck(SpanProcessor):
    def __init__(self) -> None:
        self.released = threading.Event()

    def shutdown(self) -> None:
        self.released.wait()


def test_outlet_exports_spans_only_while_open() -> None:
    """The outlet sends spans to its current exporters and drops them before it opens and after it closes."""
    outlet, memory, other = provider._Outlet(), InMemorySpanExporter(), InMemorySpanExporter()
    own = TracerProvider(shutdown_on_exit=False)
    own.add_span_processor(outlet)
    tracer = own.get_tracer("app")
    tracer.start_span("too early").end()
    outlet.open([SimpleSpanProcessor(memory), SimpleSpanProcessor(other)])
    tracer.start_span("in time").end()
    assert own.force_flush()
    assert outlet.close(30.0)
    assert outlet.close(0.0)  # there is nothing left to wait for
    tracer.start_span("too late").end()
    for exporter in (memory, other):
        assert [span.name for span in exporter.get_finished_spans()] == ["in time"]


def test_what_does_not_end_is_not_waited_for() -> None:
    """Closing the outlet with a timeout of 0 s returns False while a processor is still shutting down."""
    outlet, stuck = provider._Outlet(), Stuck()
    outlet.open([stuck])
    assert not outlet.close(0.0)
    stuck.released.set()
