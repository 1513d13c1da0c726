"""The export to a real collector: OTLP over HTTP, through a socket, in real time."""

import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import attrs
import numpy as np
import pytest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.trace.v1.trace_pb2 import Span, Status
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SpanExportResult

from patter_trio.audio.wav import write_wav
from patter_trio.tracing import provider
from tests.kit.children import CALL, child, python

TRACED = (
    CALL
    + """
from patter_trio import init_tracing, shutdown_tracing
assert init_tracing("hotel desk"{arguments})
run(one_call)
{end}
"""
)


@attrs.define
class Collector:
    """A collector that stores each export, and leaves the exporter without an answer while it is silent."""

    server: ThreadingHTTPServer
    paths: list[str]
    requests: list[ExportTraceServiceRequest]
    silent: threading.Event

    @property
    def url(self) -> str:
        host, port = self.server.server_address[:2]
        return f"http://{host!s}:{port}"

    def spans(self) -> dict[str, Span]:
        return {
            span.name: span
            for request in self.requests
            for resource in request.resource_spans
            for scope in resource.scope_spans
            for span in scope.spans
        }


@pytest.fixture
def collector() -> Iterator[Collector]:
    paths: list[str] = []
    requests: list[ExportTraceServiceRequest] = []
    silent, over = threading.Event(), threading.Event()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            paths.append(self.path)
            body = self.rfile.read(int(self.headers["Content-Length"]))
            requests.append(ExportTraceServiceRequest.FromString(body))
            if silent.is_set():
                over.wait(120)  # longer than a program of these tests may take
            self.send_response(200)
            self.send_header("Content-Type", "application/x-protobuf")
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield Collector(server, paths, requests, silent)
    over.set()
    server.shutdown()
    thread.join()
    server.server_close()


def attributes(span: Any) -> dict[str, Any]:
    values = {}
    for attribute in span.attributes:
        kind = attribute.value.WhichOneof("value")
        values[attribute.key] = getattr(attribute.value, kind)
    return values


def test_a_collector_gets_the_whole_call(collector: Collector) -> None:
    """The collector gets the five spans of a call as one trace, with exact instants and without spoken words."""
    python(
        TRACED.format(arguments=f", endpoint={collector.url!r}", end="assert shutdown_tracing()"),
        PATTER_OTEL_ENABLED="1",
    )
    assert set(collector.paths) == {"/v1/traces"}
    spans = collector.spans()
    assert set(spans) == {"patter.call", "patter.stt", "patter.endpoint", "chat scripted", "patter.tts"}
    call = spans.pop("patter.call")
    assert (call.kind, call.parent_span_id, call.status.code) == (Span.SPAN_KIND_SERVER, b"", Status.STATUS_CODE_UNSET)
    assert {(span.trace_id, span.parent_span_id) for span in spans.values()} == {(call.trace_id, call.span_id)}
    assert attributes(call)["patter.call.outcome"] == "caller_hung_up"
    assert attributes(spans["chat scripted"])["gen_ai.operation.name"] == "chat"
    assert [event.name.removeprefix("patter.event.") for event in call.events] == [
        "user_speech_started",
        "user_speech_ended",
        "user_speech_eos",
        "llm_first_token",
        "tts_first_audio",
        "agent_speech_started",
        "agent_speech_ended",
    ]
    zero = 1_700_000_000 * 10**9
    assert call.events[2].time_unix_nano - zero == 1_100_000_000  # 0.6 s of speech, and half a second of silence
    assert spans["chat scripted"].start_time_unix_nano - zero == 1_100_000_000
    [resource] = {str(request.resource_spans[0].resource) for request in collector.requests}
    assert "hotel desk" in resource
    assert b"Hello" not in b"".join(request.SerializeToString() for request in collector.requests)
    assert b"Good morning" not in b"".join(request.SerializeToString() for request in collector.requests)


@pytest.mark.deep
def test_program_end_exports_remaining_spans(collector: Collector) -> None:
    """The end of the program exports the remaining spans to the endpoint of OTEL_EXPORTER_OTLP_ENDPOINT."""
    python(TRACED.format(arguments="", end=""), PATTER_OTEL_ENABLED="1", OTEL_EXPORTER_OTLP_ENDPOINT=collector.url)
    assert set(collector.paths) == {"/v1/traces"}
    assert "patter.call" in collector.spans()


@pytest.mark.parametrize(
    ("endpoint", "variable", "expected"),
    [
        ("", "/v1/traces", "/v1/traces"),
        ("/", "", "/v1/traces"),
        ("/my/traces", "", "/my/traces"),
        ("/mine", "/theirs", "/mine"),
        (None, "/theirs", "/theirs"),
    ],
)
def test_otlp_endpoint_argument_overrides_variable(
    collector: Collector, monkeypatch: pytest.MonkeyPatch, endpoint: str | None, variable: str, expected: str
) -> None:
    """The endpoint argument takes a collector or a whole URL and takes precedence over the variable."""
    if variable:
        monkeypatch.setenv("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", collector.url + variable)
    [exporter] = provider._exporters("" if endpoint is None else collector.url + endpoint, None)
    span = TracerProvider(shutdown_on_exit=False).get_tracer("app").start_span("call")
    span.end()
    assert isinstance(span, ReadableSpan)
    assert exporter.export([span]) is SpanExportResult.SUCCESS
    exporter.shutdown()
    assert collector.paths == [expected]


PROGRAM = """
from patter_trio import Patter, init_tracing
from patter_trio.testing import ScriptedLLM, ScriptedSTT, ScriptedTTS, ScriptedVAD

init_tracing("bakery")
phone = Patter()
agent = phone.agent(
    "You are brief.",
    vad=ScriptedVAD(end_delay=0.1),
    stt=ScriptedSTT(final_delay=0.02, noise="hours"),
    llm=ScriptedLLM(["Yes."], first_token=0.02, duration=0.02),
    tts=ScriptedTTS(first_audio=0.02, duration=0.3),
)
"""


@pytest.mark.costly
def test_otel_flag_opens_call_span(collector: Collector, tmp_path: Path) -> None:
    """The flag in the .env file that the launcher reads makes a simulated call export its spans, in real time."""
    (tmp_path / "agent.py").write_text(PROGRAM)
    (tmp_path / ".env").write_text("PATTER_OTEL_ENABLED=1\n")
    loud = np.full(4000, 8000, np.int16)
    loud[::2] = -8000
    (tmp_path / "hello.wav").write_bytes(write_wav([loud], 8000))
    began = time.time_ns()
    child(
        *("-m", "patter_trio", "simulate", str(tmp_path / "agent.py")),
        *("--caller", str(tmp_path / "hello.wav"), "--out", str(tmp_path)),
        OTEL_EXPORTER_OTLP_ENDPOINT=collector.url,
    )
    spans = collector.spans()
    call = spans["patter.call"]
    assert set(spans) == {"patter.call", "patter.stt", "patter.endpoint", "chat scripted", "patter.tts"}
    assert "patter.event.agent_speech_ended" in [event.name for event in call.events]
    assert attributes(call)["patter.call.turns"] == 1
    reported = sorted(event.time_unix_nano for event in call.events)
    stamps = [began, call.start_time_unix_nano, *reported, call.end_time_unix_nano, time.time_ns()]
    assert stamps == sorted(stamps)


@pytest.mark.deep
def test_silent_collector_delays_shutdown_at_most_timeout(collector: Collector) -> None:
    """A collector that does not answer delays the shutdown for at most the given timeout."""
    collector.silent.set()
    done = python(
        TRACED.format(
            arguments=f", endpoint={collector.url!r}",
            end="print(shutdown_tracing(timeout=0.5))",
        ),
        PATTER_OTEL_ENABLED="1",
    )
    assert done.stdout == "False\n"
    assert "tracing: spans may be lost, the exporter did not take them within 0.5 s" in done.stderr


@pytest.mark.deep
def test_missing_collector_leaves_call_unaffected() -> None:
    """A missing collector does not affect the call."""
    done = python(
        TRACED.format(arguments=", endpoint='http://127.0.0.1:9'", end="shutdown_tracing(timeout=2)\nprint('done')"),
        PATTER_OTEL_ENABLED="1",
    )
    assert done.stdout == "done\n"
