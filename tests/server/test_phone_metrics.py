"""The metrics of a phone for Prometheus: what they count, and that no label tells who called."""

import pytest
from prometheus_client.parser import text_string_to_metric_families

from patter_trio import Patter
from patter_trio.abc import CallInfo
from patter_trio.metrics.internal_events import AgentReady, CallFailed, LlmFailed, ReplyStarted, TtsFailed
from patter_trio.metrics.public_events import CallOver
from patter_trio.pytest_plugin import CallSimulator
from patter_trio.server.options import Seams
from patter_trio.server.phone_metrics import MAX_LABEL_VALUES, OTHER, BoundedLabel, PhoneMetrics
from tests.kit.call import agent_of
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


async def test_failures_are_counted_by_provider(call_simulator: CallSimulator) -> None:
    """The failures of a call's providers count under their kind, provider and the name of the error."""
    metrics = metrics_of(Patter())
    observer = metrics.observer_of(INFO)
    ready = AgentReady("deepgram", "nova", "elevenlabs", "flash", "openai", "gpt", "pipeline", 10)
    for event in (
        ready,
        LlmFailed(1, 1, "ProviderTimeout"),
        ReplyStarted(2, 1, "llm", "anthropic", "claude"),
        LlmFailed(2, 1, "RateLimitError"),
        TtsFailed(2, 1, "ProviderError"),
        CallFailed("ProviderError"),
    ):
        assert observer.wants(type(event))
        observer.on_event(event, 0.0)
    assert not observer.wants(CallOver)
    for kind, provider, error in (
        ("llm", "openai", "ProviderTimeout"),
        ("llm", "anthropic", "RateLimitError"),
        ("tts", "elevenlabs", "ProviderError"),
        ("call", "", "ProviderError"),
    ):
        assert value(metrics, "patter_provider_errors_total", kind=kind, provider=provider, error=error) == 1


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
