"""Tracing in programs of their own: what they import, and what becomes of the spans without a part of OpenTelemetry."""

import pytest

from tests.kit.children import CALL, python

WITHOUT = """
import sys
from importlib.abc import MetaPathFinder

class Missing(MetaPathFinder):
    def find_spec(self, name, path=None, target=None):
        if name == MISSING or name.startswith(MISSING + "."):
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)

sys.meta_path.insert(0, Missing())
"""
MEMORY = """
from opentelemetry import trace
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

memory = InMemorySpanExporter()
"""


@pytest.mark.deep
def test_without_the_flag_nothing_of_opentelemetry_is_imported() -> None:
    """Without the flag a call imports no module of OpenTelemetry, and init_tracing() returns False."""
    done = python(
        CALL
        + """
from patter_trio import init_tracing, shutdown_tracing

assert init_tracing("x", endpoint="http://127.0.0.1:9") is False
run(one_call)
assert shutdown_tracing() is True
parts = ("call_trace", "provider")
mine = [f"patter_trio.tracing.{part}" for part in parts if f"patter_trio.tracing.{part}" in sys.modules]
print(mine + sorted(name for name in sys.modules if name.startswith("opentelemetry")))
"""
    )
    assert done.stdout.strip() == "[]"
    assert not done.stderr


def test_missing_opentelemetry_warns_once_and_calls_work() -> None:
    """Calls work with the flag on and OpenTelemetry missing, and one log line names the missing package."""
    done = python(
        "MISSING = 'opentelemetry'\n" + WITHOUT + CALL + "run(one_call)\nprint('done')", PATTER_OTEL_ENABLED="1"
    )
    assert done.stdout == "done\n"
    [line] = done.stderr.splitlines()
    assert line == (
        "WARNING:patter_trio.telemetry:PATTER_OTEL_ENABLED=1, but calls are not traced: "
        "No module named 'opentelemetry'; pip install 'patter-trio[otel]'"
    )


@pytest.mark.parametrize("missing", ["opentelemetry", "opentelemetry.sdk"])
def test_init_tracing_without_sdk_warns_and_returns_false(missing: str) -> None:
    """init_tracing logs what is missing without the SDK and returns False."""
    done = python(
        f"MISSING = {missing!r}\n"
        + WITHOUT
        + "from patter_trio import init_tracing, shutdown_tracing\nprint(init_tracing(), shutdown_tracing())",
        PATTER_OTEL_ENABLED="1",
    )
    assert done.stdout == "False True\n"
    [line] = done.stderr.splitlines()
    assert line.startswith("WARNING:patter_trio.telemetry:PATTER_OTEL_ENABLED=1, but calls are not traced: ")
    assert line.endswith("pip install 'patter-trio[otel]'")


@pytest.mark.deep
def test_api_without_sdk_warns_once_and_calls_work() -> None:
    """Calls work with the OpenTelemetry API alone, and one log line says that no SDK takes the spans."""
    done = python("MISSING = 'opentelemetry.sdk'\n" + WITHOUT + CALL + "run(one_call)", PATTER_OTEL_ENABLED="1")
    [line] = done.stderr.splitlines()
    assert line == (
        "WARNING:patter_trio.telemetry:PATTER_OTEL_ENABLED=1, but no tracer provider is set yet: "
        "call init_tracing(), or set your own"
    )


def test_an_exporter_that_is_not_installed_is_named() -> None:
    """An OTEL_TRACES_EXPORTER that is not installed is named in the log, and init_tracing() returns False."""
    done = python(
        "from patter_trio import init_tracing\nprint(init_tracing())",
        PATTER_OTEL_ENABLED="1",
        OTEL_TRACES_EXPORTER="pigeon",
    )
    assert done.stdout == "False\n"
    assert "the exporter pigeon is not installed" in done.stderr


def test_application_tracer_provider_is_used_never_replaced() -> None:
    """Tracing uses the tracer provider of the application as it is and never replaces it."""
    done = python(
        MEMORY
        + """
own = TracerProvider()
own.add_span_processor(SimpleSpanProcessor(memory))
trace.set_tracer_provider(own)
"""
        + CALL
        + """
from patter_trio import init_tracing, shutdown_tracing

assert init_tracing("other", endpoint="http://127.0.0.1:9") is True
assert trace.get_tracer_provider() is own
run(one_call)
assert shutdown_tracing() is True
with trace.get_tracer("app").start_as_current_span("still open"):
    pass
print([span.name for span in memory.get_finished_spans()])
""",
        PATTER_OTEL_ENABLED="1",
    )
    names = "['patter.stt', 'patter.endpoint', 'chat scripted', 'patter.tts', 'patter.call', 'still open']"
    assert done.stdout.strip() == names
    [line] = done.stderr.splitlines()
    assert line == (
        "WARNING:patter_trio.telemetry:init_tracing: endpoint and exporter are unused, "
        "the application has its own tracer provider"
    )


@pytest.mark.deep
def test_late_tracer_provider_traces_the_next_call() -> None:
    """A tracer provider that the application sets while serving receives the next call."""
    done = python(
        MEMORY
        + CALL
        + """
async def main():
    async with simulate_call(agent) as caller:
        await caller.speaks("Hello?", seconds=0.6)
        await caller.hears()
    own = TracerProvider()
    own.add_span_processor(SimpleSpanProcessor(memory))
    trace.set_tracer_provider(own)
    await one_call()

run(main)
print([span.name for span in memory.get_finished_spans()].count("patter.call"))
""",
        PATTER_OTEL_ENABLED="1",
    )
    assert done.stdout == "1\n"


@pytest.mark.costly
def test_init_tracing_sets_one_provider_and_redirects_spans() -> None:
    """init_tracing sets up one provider, and a second call redirects its spans to another exporter."""
    done = python(
        MEMORY
        + CALL
        + """
from patter_trio import init_tracing, shutdown_tracing

other = InMemorySpanExporter()
assert init_tracing("hotel desk", exporter=memory)
first = trace.get_tracer_provider()
run(one_call)
assert init_tracing(exporter=other)
assert trace.get_tracer_provider() is first
run(one_call)
assert shutdown_tracing()
run(one_call)  # goes nowhere
assert shutdown_tracing()
for exporter in (memory, other):
    [call] = [span for span in exporter.get_finished_spans() if span.name == "patter.call"]
    print(call.resource.attributes["service.name"], len(exporter.get_finished_spans()))
""",
        PATTER_OTEL_ENABLED="1",
    )
    assert done.stdout == "hotel desk 5\nhotel desk 5\n"
    assert not done.stderr
