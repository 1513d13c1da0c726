"""The metrics of a phone for Prometheus: what they count, and that no label tells who called."""

from typing import Any

import attrs
import pytest
import trio
import trio.testing
from prometheus_client.parser import text_string_to_metric_families

from patter_trio import Agent, CallEnded, ConfigurationError, Fallback, Patter
from patter_trio.abc import CallInfo, Dialled, DialRequest
from patter_trio.carriers.local import LocalCarrier
from patter_trio.errors import AuthenticationError, ProviderError
from patter_trio.metrics.internal_events import AgentReady, LlmFailed, ReplyStarted
from patter_trio.metrics.public_events import CallOver
from patter_trio.pytest_plugin import CallSimulator
from patter_trio.server.carrier_border import carrier_failures
from patter_trio.server.hang_ups import HANG_UP_TIMEOUT_S, RETRY_WAIT_S, HangUps
from patter_trio.server.options import Seams
from patter_trio.server.phone_metrics import MAX_LABEL_VALUES, OTHER, BoundedLabel, PhoneMetrics
from patter_trio.testing import ScriptedEngine, ScriptedSTT, ScriptedVAD
from tests.kit.call import At, FaultySTT, agent_of, faulty_agent, give_up
from tests.server.test_windows import BEARER, TOKEN, served

INFO = CallInfo("CA1", "+15550100001", "+15550100002", "inbound")


def metrics_of(phone: Patter) -> PhoneMetrics:
    return PhoneMetrics(phone._live, phone._call_servers, phone._feed)


def value(metrics: PhoneMetrics, name: str, **labels: str) -> float | None:
    return metrics.registry.get_sample_value(name, labels)


async def test_a_call_is_counted(call_simulator: CallSimulator) -> None:
    """A call counts while it is live, and by its outcome when it is over, with its turns, latencies and cost."""
    phone = Patter()
    metrics = metrics_of(phone)
    with phone._recorder.taken_by([metrics]):
        async with call_simulator(agent_of("Yes."), phone) as caller:
            await caller.speaks("Hello?", seconds=1.0)
            await caller.hears()
            assert value(metrics, "patter_live_calls", direction="inbound") == 1
            assert value(metrics, "patter_draining") == 0
            assert value(metrics, "patter_dropped_total", queue="audio") == 0
            await caller.hangs_up()
    assert value(metrics, "patter_live_calls", direction="inbound") == 0
    assert value(metrics, "patter_calls_total", direction="inbound", outcome="caller_hung_up") == 1
    assert value(metrics, "patter_turns_total", result="completed") == 1
    assert value(metrics, "patter_call_duration_seconds_count") == 1
    assert value(metrics, "patter_turn_latency_seconds_count", part="total") == 1
    assert value(metrics, "patter_turn_latency_seconds_sum", part="total") == pytest.approx(1.1)
    assert value(metrics, "patter_cost_usd_total", part="telephony") is not None


async def test_no_label_tells_who_called(call_simulator: CallSimulator) -> None:
    """Neither numbers, nor ids, nor words are in what a monitoring system reads."""
    phone = Patter()
    metrics = metrics_of(phone)
    with phone._recorder.taken_by([metrics]):
        async with call_simulator(agent_of("A secret answer."), phone) as caller:
            await caller.speaks("A secret question", seconds=1.0)
            await caller.hears()
    families = list(metrics.registry.collect())
    values = {label for family in families for sample in family.samples for label in sample.labels.values()}
    assert values <= {
        *("inbound", "outbound", "completed", "cancelled", "caller_hung_up", "audio", "windows", "+Inf"),
        *("total", "endpoint", "stt", "llm", "tts", "telephony"),
        *(str(bound) for bound in (0.05, 0.1, 0.2, 0.3, 0.5, 0.75, 1.0, 1.5, 2.0, 3.0, 5.0, 10.0)),
        *(str(bound) for bound in (15.0, 30.0, 60.0, 120.0, 300.0, 600.0, 1800.0, 3600.0)),
    }


def failures(metrics: PhoneMetrics) -> dict[tuple[str, str, str], float]:
    """Return the failures that were counted, by kind, provider and error."""
    [family] = [family for family in metrics.registry.collect() if family.name == "patter_provider_errors"]
    return {
        (sample.labels["kind"], sample.labels["provider"], sample.labels["error"]): sample.value
        for sample in family.samples
        if sample.name.endswith("_total")
    }


FALLBACK = Fallback(FaultySTT(At("stt.voice", give_up)), ScriptedSTT())


def with_engine(**options: Any) -> Agent:
    return Patter().agent("You are brief.", vad=ScriptedVAD(), engine=ScriptedEngine(**options))


@pytest.mark.parametrize(
    ("agent", "counted"),
    [
        (faulty_agent(At("stt.open", give_up)), {("stt", "faulty"): 1, ("call", ""): 1}),
        (faulty_agent(At("stt.transcripts", give_up)), {("stt", "faulty"): 1, ("call", ""): 1}),
        (faulty_agent(At("stt.voice", give_up)), {("stt", "faulty"): 1, ("call", ""): 1}),
        (faulty_agent(At("llm.first", give_up)), {("llm", "faulty"): 1}),
        (faulty_agent(At("tts.open", give_up)), {("tts", "faulty"): 1, ("call", ""): 1}),
        (faulty_agent(At("tts.first", give_up, nth=1)), {("tts", "faulty"): 1}),
        (faulty_agent(At("never"), stt=FALLBACK), {("stt", "faulty"): 1}),
        (with_engine(fail_to_open=True), {("engine", "scripted"): 1, ("call", ""): 1}),
        (with_engine(fail_at=0.5), {("engine", "scripted"): 1, ("call", ""): 1}),
    ],
    ids=["open", "results", "voice", "llm", "tts open", "tts", "fallback", "engine open", "engine"],
)
async def test_failures_of_providers_are_counted(
    call_simulator: CallSimulator, agent: Agent, counted: dict[tuple[str, str], int]
) -> None:
    """Each simulated failure counts once under its kind, provider and error, and as the call's if it ends the call."""
    metrics = metrics_of(phone := Patter())
    async with call_simulator(agent, phone, seams=Seams(observers=(metrics.observer_of(INFO),))) as caller:
        with trio.move_on_after(10.0):
            await caller.speaks("Hello?", seconds=1.0)
            await caller.carrier.over.wait()
    found = failures(metrics)
    assert {(kind, provider): number for (kind, provider, _), number in found.items()} == counted
    assert {error for _, __, error in found} == {"ProviderError"}


async def test_failures_within_engines_are_theirs() -> None:
    """A failed answer counts for the LLM that answered, or for the engine, if the call has one."""
    metrics = metrics_of(Patter())
    pipeline, engine = metrics.observer_of(INFO), metrics.observer_of(INFO)
    pipeline.on_event(AgentReady("deepgram", "nova", "elevenlabs", "flash", "openai", "gpt", "pipeline", 10), 0.0)
    engine.on_event(AgentReady("openai", "rt", "openai", "rt", "openai", "rt", "openai_realtime", 10), 0.0)
    for observer in (pipeline, engine):
        observer.on_event(LlmFailed(1, 1, "ProviderTimeout"), 0.0)
        observer.on_event(ReplyStarted(2, 1, "llm", "anthropic", "claude"), 0.0)
        observer.on_event(LlmFailed(2, 1, "RateLimitError"), 0.0)
        assert not observer.wants(CallOver)
    assert failures(metrics) == {
        ("llm", "openai", "ProviderTimeout"): 1,
        ("llm", "anthropic", "RateLimitError"): 1,
        ("engine", "openai_realtime", "ProviderTimeout"): 1,
        ("engine", "openai_realtime", "RateLimitError"): 1,
    }


@attrs.frozen
class RefusingCarrier(LocalCarrier):
    """A carrier whose requests raise."""

    error: Exception = attrs.field(factory=lambda: ProviderError("no"))

    async def hang_up(self, call_id: str, request_id: str = "") -> None:
        raise self.error

    async def dial(self, request: DialRequest) -> Dialled:
        raise self.error


@pytest.mark.parametrize(
    ("error", "counted"),
    [
        (AuthenticationError("no"), {"AuthenticationError": 1}),
        (ProviderError("no"), {"ProviderError": round(HANG_UP_TIMEOUT_S / RETRY_WAIT_S)}),
        (KeyError("a bug"), {"KeyError": round(HANG_UP_TIMEOUT_S / RETRY_WAIT_S)}),
        # Facts, and not failures: the call is over, or the carrier has no such request.
        (CallEnded("over"), {}),
        (ConfigurationError("no such request"), {}),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, Exception) else "",
)
async def test_failed_requests_to_carriers_are_counted(
    error: Exception, counted: dict[str, int], autojump_clock: trio.testing.MockClock
) -> None:
    """Each request to the carrier that fails counts under the carrier's name and the error."""
    metrics = metrics_of(Patter())
    carrier_failures.set(metrics.carrier_failed)
    carrier = RefusingCarrier(error=error)
    async with trio.open_nursery() as nursery:
        HangUps(carrier, nursery).end("CA1", is_lost=True)
    assert failures(metrics) == {("carrier", carrier.name, name): number for name, number in counted.items()}


async def test_served_phones_count_their_carriers() -> None:
    """What fails at the carrier of a server with a dashboard is in /metrics, whichever task asked for it."""
    phone = Patter(carrier=RefusingCarrier(), phone_number="+15550100002")
    async with served(phone, max_lag=None) as client:
        with pytest.raises(ProviderError):
            async with phone.dial("+15550100001"):
                pass
        text = (await client.get("/metrics")).text
    assert 'patter_provider_errors_total{error="ProviderError",kind="carrier",provider="local"} 1.0' in text


async def test_an_observer_changes_no_call(call_simulator: CallSimulator) -> None:
    """A call with the observer ends as any other."""
    metrics = metrics_of(phone := Patter())
    seams = Seams(observers=(metrics.observer_of(INFO),))
    async with call_simulator(agent_of("Yes."), phone, seams=seams) as caller:
        await caller.speaks("Hello?", seconds=1.0)
        assert (await caller.hears()).text == "Yes."


def test_values_of_labels_are_bounded() -> None:
    """A label has at most fifty values; further ones are "other", and the first ones stay themselves."""
    label = BoundedLabel()
    assert [label.of(str(number)) for number in range(MAX_LABEL_VALUES)] == [str(n) for n in range(MAX_LABEL_VALUES)]
    assert label.of("one more") == OTHER
    assert label.of("7") == "7"


def test_phones_share_no_registry() -> None:
    """The metrics of two phones are apart, and the library's global registry has none of them."""
    from prometheus_client import REGISTRY  # noqa: PLC0415 (only here)

    one, other = metrics_of(Patter()), metrics_of(Patter())
    one.failed("llm", "openai", "ProviderError")
    labels = {"kind": "llm", "provider": "openai", "error": "ProviderError"}
    assert value(one, "patter_provider_errors_total", **labels) == 1
    assert value(other, "patter_provider_errors_total", **labels) is None
    assert not [family for family in REGISTRY.collect() if family.name.startswith("patter")]


@pytest.mark.parametrize("accept", ["text/plain", "application/openmetrics-text; version=1.0.0", "*/*"])
async def test_metrics_are_served_behind_the_rule(accept: str) -> None:
    """/metrics has the format that is asked for, for those who may look, and refuses a stranger."""
    async with served() as client:
        answer = await client.get("/metrics", headers={"accept": accept})
        assert answer.status_code == 200
        assert answer.headers["content-type"].startswith(accept.partition(";")[0].replace("*/*", "text/plain"))
        assert "patter_live_calls" in answer.text
        assert "patter_loop_lag_seconds" in answer.text
        assert (await client.get("/metrics", headers={"host": "agent.example"})).status_code == 403
        if accept == "text/plain":
            names = {family.name for family in text_string_to_metric_families(answer.text)}
            assert {"patter_calls", "patter_announced_calls", "patter_dropped", "patter_event_streams"} <= names


async def test_metrics_take_the_token() -> None:
    """A scraper sends the token as Bearer."""
    async with served(dashboard_token=TOKEN) as client:
        assert (await client.get("/metrics")).status_code == 401
        assert (await client.get("/metrics", headers=BEARER)).status_code == 200


async def test_sinks_end_with_the_server() -> None:
    """A phone that is not served any more counts nothing."""
    phone = Patter()
    async with served(phone):
        assert phone._recorder.wants(CallOver)
    assert not phone._recorder.wants(CallOver)
