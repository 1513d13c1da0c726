"""The isolation of a call from its tracer: with any tracer or none, the call is the same to the millisecond."""

import logging
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import cache
from typing import Any

import pytest
import trio
from opentelemetry import trace
from opentelemetry.context import Context
from opentelemetry.sdk.trace import ReadableSpan, SpanProcessor, TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SimpleSpanProcessor, SpanExporter, SpanExportResult
from opentelemetry.trace import StatusCode

from patter_trio import end_call
from patter_trio.abc import CallInfo
from patter_trio.audio.media_clock import MediaClock
from patter_trio.metrics.internal_events import ToolCallCompleted, ToolCallStarted
from patter_trio.metrics.public_events import AgentSpeechStarted, CallOver, LlmToken, TurnMeasured
from patter_trio.metrics.results import CostBreakdown
from patter_trio.pytest_plugin import run
from patter_trio.testing import ScriptedLLM, tool_call
from patter_trio.testing.simulation.simulator import EPOCH_UNIX_S, simulate_call
from patter_trio.tracing.call_trace import CallTrace
from patter_trio.tracing.setup import opened_tracing
from tests.kit.call import PIPELINE, Backend
from tests.kit.depth import few
from tests.kit.tracing import Trace, seconds, sent, speaking


class Raising(SpanProcessor):
    """A span processor of an application that raises at the beginning of spans, or at their end."""

    def __init__(self, name: str, at: str) -> None:
        self.name, self.at = name, at

    def on_start(self, span: Any, parent_context: Context | None = None) -> None:
        if self.at == "start" and span.name.startswith(self.name):
            raise RuntimeError("the tracer broke")

    def on_end(self, span: ReadableSpan) -> None:
        if self.at == "end" and span.name.startswith(self.name):
            raise RuntimeError("the tracer broke")


class BrokenExporter(SpanExporter):
    """An exporter that acts as scripted, counts the spans, and reports a failure."""

    def __init__(self, act: Callable[[], object]) -> None:
        self.act = act
        self.asked = 0

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        self.asked += len(spans)
        self.act()
        return SpanExportResult.FAILURE


def no_way() -> None:
    raise ConnectionError("no collector there")


@pytest.fixture
def provided(monkeypatch: pytest.MonkeyPatch) -> Callable[[SpanProcessor], None]:
    """Trace calls by a provider with the given processor."""

    def provide(processor: SpanProcessor) -> None:
        provider = TracerProvider(shutdown_on_exit=False)
        provider.add_span_processor(processor)
        monkeypatch.setenv("PATTER_OTEL_ENABLED", "1")
        monkeypatch.setattr(trace, "get_tracer_provider", lambda: provider)

    return provide


def a_call() -> tuple[list[Any], list[Any]]:
    """Hold a call in a run of its own; return what reached the carrier, and what the callbacks received."""
    return run(_greeted_asked_and_interrupted)


@cache
def untraced_call() -> tuple[list[Any], list[Any]]:
    """Return the same call without tracing; all its runs are alike."""
    with pytest.MonkeyPatch.context() as off:
        off.delenv("PATTER_OTEL_ENABLED", raising=False)
        return a_call()


async def _greeted_asked_and_interrupted() -> tuple[list[Any], list[Any]]:
    agent = speaking(PIPELINE, "We open at nine. We close at five.", "Good bye.", first_message="Hello.")
    async with simulate_call(agent) as caller:
        await caller.hears()
        await caller.at(4.0)
        await caller.speaks("What are your hours?", seconds=1.0)
        await caller.at(7.0)
        await caller.speaks("Thank you!", seconds=0.5)
        await caller.hears()
    return sent(caller), [(at, name, event) for at, name, event in caller.events]


@contextmanager
def quiet(caplog: pytest.LogCaptureFixture) -> Iterator[list[logging.LogRecord]]:
    """Collect the package's own log lines."""
    caplog.clear()
    ours: list[logging.LogRecord] = []
    yield ours
    ours += [record for record in caplog.records if record.name.startswith("patter_trio")]


@pytest.mark.parametrize("at", few(["start", "end"], 1))
@pytest.mark.parametrize("name", few(["patter.call", "patter.bargein", "patter.stt", "chat", "patter.tts", ""], 2))
def test_raising_tracer_warns_once_without_changing_call(
    provided: Callable[[SpanProcessor], None],
    caplog: pytest.LogCaptureFixture,
    name: str,
    at: str,
) -> None:
    """A tracer that raises causes one warning and does not change the call."""
    provided(Raising(name, at))
    with quiet(caplog) as ours:
        assert a_call() == untraced_call()
    [warning] = [record for record in ours if record.levelno >= logging.WARNING]
    assert warning.name == "patter_trio.telemetry"
    assert "tracing is incomplete: the tracer provider raised RuntimeError: the tracer broke" in warning.message
    assert warning.message.startswith("call CA")
    assert warning.exc_info is not None


class Nonsense(trace.TracerProvider):
    """A tracer provider whose tracer is not a tracer, or gives something else than spans, or raises."""

    def __init__(self, tracer: Callable[[], Any]) -> None:
        self._tracer = tracer

    def get_tracer(self, *_: Any, **__: Any) -> Any:
        return self._tracer()


class Lame:
    def __init__(self, span: Any) -> None:
        self._span = span

    def start_span(self, *_: Any, **__: Any) -> Any:
        return self._span


@pytest.mark.parametrize(
    "tracer",
    [no_way, lambda: None, lambda: 7, lambda: Lame(None), lambda: Lame("span")],
    ids=["raises", "no tracer", "a number", "no span", "a text"],
)
@pytest.mark.costly
def test_nonsense_tracer_warns_once_without_changing_call(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, tracer: Callable[[], Any]
) -> None:
    """A provider that returns nonsense causes one warning and does not change the call."""
    untraced_call()
    monkeypatch.setenv("PATTER_OTEL_ENABLED", "1")
    monkeypatch.setattr(trace, "get_tracer_provider", lambda: Nonsense(tracer))
    with quiet(caplog) as ours:
        assert a_call() == untraced_call()
    [warning] = [record for record in ours if record.levelno >= logging.WARNING]
    assert warning.name == "patter_trio.telemetry"


@pytest.mark.parametrize("kind", [SimpleSpanProcessor, BatchSpanProcessor])
def test_failing_exporter_leaves_call_unaffected(
    provided: Callable[[SpanProcessor], None],
    caplog: pytest.LogCaptureFixture,
    kind: type[Any],
) -> None:
    """A failing exporter does not affect the call and causes no warning of the package."""
    exporter = BrokenExporter(no_way)
    processor = kind(exporter)
    provided(processor)
    with quiet(caplog) as ours:
        assert a_call() == untraced_call()
    processor.shutdown()
    assert exporter.asked > 5
    assert not [record for record in ours if record.levelno >= logging.WARNING]


def test_an_exporter_that_never_returns_holds_up_nobody(provided: Callable[[SpanProcessor], None]) -> None:
    """An exporter that never returns, with more spans than its queue takes, does not change the call."""
    taken, released = threading.Event(), threading.Event()

    def waits() -> None:
        taken.set()
        released.wait()

    processor = BatchSpanProcessor(BrokenExporter(waits), max_export_batch_size=1, max_queue_size=4)
    provided(processor)
    assert (
        a_call() == untraced_call()
    )  # more spans than the queue takes; had one waited for its export, we were not here
    assert taken.wait(30)
    released.set()
    processor.shutdown()


def test_traced_call_equals_untraced_call(traced: Trace) -> None:
    """A traced call has the same course as an untraced call."""
    assert a_call() == untraced_call()
    assert traced.one("patter.bargein")


def test_threaded_exporter_does_not_advance_clock(provided: Callable[[SpanProcessor], None]) -> None:
    """An exporter thread that works for 50 ms does not make the virtual clock jump, so that the call is the same."""
    exporter = BrokenExporter(lambda: time.sleep(0.05))
    processor = BatchSpanProcessor(exporter, max_export_batch_size=1)
    provided(processor)
    assert a_call() == untraced_call()
    processor.shutdown()
    assert exporter.asked > 5


async def test_blocking_tracer_is_reported_with_remedy(
    provided: Callable[[SpanProcessor], None], caplog: pytest.LogCaptureFixture
) -> None:
    """A tracer that blocks the loop for 60 ms of real time causes one warning, which names BatchSpanProcessor."""
    provided(SimpleSpanProcessor(BrokenExporter(lambda: time.sleep(0.06))))
    call = a_trace()
    call.on_event(over("caller_hung_up"), trio.current_time())
    [warning] = [record for record in caplog.records if record.name.startswith("patter_trio")]
    assert warning.levelno == logging.WARNING
    assert warning.message.startswith("call CA1: the tracer provider blocked every call for ")
    assert "let it export from a thread of its own (BatchSpanProcessor)" in warning.message


async def test_without_the_flag_no_call_has_a_watcher(monkeypatch: pytest.MonkeyPatch, traced: Trace) -> None:
    """opened_tracing() returns a tracing with the flag, and None without it."""
    assert opened_tracing() is not None
    monkeypatch.delenv("PATTER_OTEL_ENABLED")
    assert opened_tracing() is None


@pytest.mark.parametrize(("value", "complains"), [("", False), ("0", False), ("true", True), ("2", True)])
def test_nothing_but_1_switches_tracing_on(
    monkeypatch: pytest.MonkeyPatch,
    traced: Trace,
    caplog: pytest.LogCaptureFixture,
    value: str,
    complains: bool,
) -> None:
    """Only PATTER_OTEL_ENABLED=1 switches tracing on; other values except 0 and an empty one log one line."""
    monkeypatch.setenv("PATTER_OTEL_ENABLED", value)
    a_call()
    assert not traced.spans
    assert [f"{record.name}: {record.message}" for record in caplog.records if record.levelno >= logging.WARNING] == (
        [f"patter_trio.telemetry: PATTER_OTEL_ENABLED={value}: only 1 switches tracing on"] if complains else []
    )


# The watcher by itself: what no call of today brings ------------------------------------------------------------------
def a_trace() -> CallTrace:
    info = CallInfo("CA1", "+15551234567", "+15557654321", "outbound", provider="twilio")
    return CallTrace(
        trace.get_tracer("patter_trio"), info, speaking(PIPELINE), MediaClock(), at=0.0, epoch=EPOCH_UNIX_S
    )


def over(outcome: str = "completed", metrics: Any = None) -> CallOver:
    return CallOver(info=CallInfo("CA1", "", "", "inbound"), ended_at=0.0, outcome=outcome, metrics=metrics)


def completed(started: ToolCallStarted, *, result: object = None, error: str = "") -> ToolCallCompleted:
    return ToolCallCompleted(
        name=started.name,
        tool_call_id=started.tool_call_id,
        arguments=started.arguments,
        result=result,
        duration=1.0,
        error=error,
    )


class Numbers:
    """An object with numbers as attributes."""

    def __init__(self, **numbers: Any) -> None:
        self.__dict__.update(numbers)


@pytest.mark.parametrize("name", few(["I said 15550100001", "weather\n", "x" * 500], 1))
async def test_a_made_up_tool_is_named_unknown(name: str, traced: Trace, backend: Backend) -> None:
    """A span of a tool that the agent does not have contains nothing of the name and id that the LLM wrote."""
    agent = speaking(backend, llm=ScriptedLLM([tool_call(name), "Well."]), tools=[end_call])
    async with simulate_call(agent) as caller:
        await caller.speaks("Hello?", seconds=0.5)
        await caller.waits(8.0)
    span = traced.one("execute_tool unknown")
    assert dict(span.attributes or {}) == {
        "gen_ai.operation.name": "execute_tool",
        "gen_ai.tool.name": "unknown",
        "gen_ai.tool.type": "function",
        "error.type": "tool_error",
    }


async def test_tool_spans_follow_genai_conventions_without_arguments(traced: Trace) -> None:
    """Tool spans follow the GenAI conventions and contain no arguments or results."""
    call = a_trace()
    bern, rome = ToolCallStarted("weather", "t1", {"city": "Bern"}), ToolCallStarted("weather", "t2", {"city": "Rome"})
    call.on_event(bern, 1.0)
    call.on_event(rome, 1.25)
    call.on_event(completed(rome, result="rain in Rome"), 1.5)
    call.on_event(completed(bern, error="no such Bern"), 2.0)
    call.on_event(ToolCallStarted("transfer", "", {}), 3.0)
    call.on_event(over("transferred"), 4.0)
    good, bad, cut = [span for span in traced.spans if span.name.startswith("execute_tool ")]
    assert dict(good.attributes or {}) == {
        "gen_ai.operation.name": "execute_tool",
        "gen_ai.tool.name": "weather",
        "gen_ai.tool.type": "function",
        "gen_ai.tool.call.id": "t2",
    }
    assert (seconds(good.start_time), seconds(good.end_time)) == (1.25, 1.5)
    assert (seconds(bad.start_time), seconds(bad.end_time)) == (1.0, 2.0)
    assert (bad.status.status_code, (bad.attributes or {})["error.type"]) == (StatusCode.ERROR, "tool_error")
    assert (cut.name, (cut.attributes or {})["patter.cut.reason"]) == ("execute_tool transfer", "call ended")
    assert "Bern" not in "".join(span.to_json() for span in traced.spans)


async def test_call_span_carries_cost_and_latency(traced: Trace) -> None:
    """The span of a measured call carries its cost and latency as attributes."""
    metrics = Numbers(
        cost=Numbers(stt=0.01, tts=0.02, llm=0.03, telephony=0.04, total=0.1, llm_cached_savings=0.0),
        latency_avg=Numbers(total_ms=812.5, bargein_ms=None),
        latency_p50=Numbers(total_ms=800.0),
        latency_p95=Numbers(total_ms=901.5, stt_ms=120),
    )
    a_trace().on_event(over(metrics=metrics), 9.0)
    measured = {
        name: value
        for name, value in (traced.one("patter.call").attributes or {}).items()
        if name.startswith(("patter.cost.", "patter.latency."))
    }
    assert measured == {
        "patter.cost.stt": 0.01,
        "patter.cost.tts": 0.02,
        "patter.cost.llm": 0.03,
        "patter.cost.telephony": 0.04,
        "patter.cost.total": 0.1,
        "patter.cost.llm_cached_savings": 0.0,
        "patter.latency.avg.total_ms": 812.5,
        "patter.latency.p50.total_ms": 800.0,
        "patter.latency.p95.total_ms": 901.5,
        "patter.latency.p95.stt_ms": 120.0,
    }


async def test_call_without_final_metrics_keeps_last_cost(traced: Trace) -> None:
    """The span of a call whose final metrics failed carries the cost reported last."""
    call = a_trace()
    turn: Any = None
    call.on_event(TurnMeasured(turn, CostBreakdown(total=0.1)), 3.0)
    call.on_event(TurnMeasured(turn, CostBreakdown(total=0.25)), 6.0)
    call.on_event(over(), 9.0)
    assert (traced.one("patter.call").attributes or {})["patter.cost.total"] == 0.25


async def test_events_after_call_end_change_no_span(traced: Trace) -> None:
    """Events after the end of the call change neither its span nor its span events."""
    call = a_trace()
    call.on_event(over(), 1.0)
    call.on_event(LlmToken(turn_idx=1, model="m", llm_provider="p"), 2.0)
    call.on_event(over("failed"), 3.0)
    call.close(4.0, "failed", "never connected")
    assert seconds(traced.one("patter.call").end_time) == 1.0
    assert not traced.events()


async def test_an_engine_is_named_where_there_is_one(traced: Trace) -> None:
    """The span event of an engine's speech has the attribute patter.engine."""
    call = a_trace()
    call.media = MediaClock()
    call.on_event(AgentSpeechStarted(turn_idx=1, engine="openai_realtime"), 1.0)
    call.on_event(over(), 2.0)
    assert traced.events() == [
        (1.0, "patter.event.agent_speech_started", {"patter.turn.idx": 1, "patter.engine": "openai_realtime"})
    ]
