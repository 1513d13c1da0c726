"""The provider that is set up where there is none: what the standard variables say, holds."""

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
def test_the_service_is_named_by_the_argument_then_by_the_environment(
    monkeypatch: pytest.MonkeyPatch, given: str, variable: str, value: str, named: str
) -> None:
    if variable:
        monkeypatch.setenv(variable, value)
    assert provider._new_provider(given).resource.attributes["service.name"] == named


def events_kept() -> int:
    span = provider._new_provider("").get_tracer("app").start_span("call")
    for _ in range(1000):
        span.add_event("edge")
    return len(getattr(span, "events", ()))


def test_a_call_of_more_than_a_hundred_turns_keeps_all_its_events_unless_the_environment_limits_them(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    assert events_kept() == 1000
    monkeypatch.setenv("OTEL_SPAN_EVENT_COUNT_LIMIT", "10")
    assert events_kept() == 10


def test_the_sampler_and_the_switch_of_the_standard_variables_hold(monkeypatch: pytest.MonkeyPatch) -> None:
    def records() -> bool:
        return provider._new_provider("").get_tracer("app").start_span("call").is_recording()

    assert records()
    with monkeypatch.context() as sampled:
        sampled.setenv("OTEL_TRACES_SAMPLER", "always_off")
        assert not records()
    monkeypatch.setenv("OTEL_SDK_DISABLED", "true")
    assert not records()


def test_the_exporters_are_those_that_the_standard_variable_names(monkeypatch: pytest.MonkeyPatch) -> None:
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


def test_a_mistake_in_the_arguments_is_an_error_even_with_the_flag_off(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("PATTER_OTEL_ENABLED", raising=False)
    with pytest.raises(ConfigurationError, match="endpoint must be a URL such as http://localhost:4318"):
        init_tracing(endpoint="localhost:4318")
    with pytest.raises(ConfigurationError, match="endpoint= or exporter=, got both"):
        init_tracing(endpoint="http://localhost:4318", exporter=ConsoleSpanExporter())


def test_an_application_s_provider_stays_what_it_is_and_its_own_to_shut_down(
    traced: Trace, caplog: pytest.LogCaptureFixture
) -> None:
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


def test_spans_go_where_they_go_at_present_and_nowhere_after_the_end() -> None:
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
    outlet, stuck = provider._Outlet(), Stuck()
    outlet.open([stuck])
    assert not outlet.close(0.0)
    stuck.released.set()
