"""The metrics of a call: every latency to a tenth of a millisecond, in virtual time; which turns count; on_metrics."""

import logging
import math
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import attrs
import pytest
import trio

from patter_trio import (
    CallMetrics,
    ConfigurationError,
    ConversationStateSnapshot,
    CostBreakdown,
    LatencyBreakdown,
    Patter,
    PipelineHooks,
    TurnMetrics,
    Twilio,
    tool,
)
from patter_trio.abc import SpeechToTextSession, TextToSpeechSession, Usage, report_usage
from patter_trio.carriers.local import LocalCarrier
from patter_trio.events.callbacks import CallbackQueue
from patter_trio.metrics.bill import Bill
from patter_trio.metrics.meter import Meter
from patter_trio.pytest_plugin import CallSimulator
from patter_trio.server.options import Seams
from patter_trio.testing import ScriptedLLM, ScriptedSTT, ScriptedTTS, ScriptedVAD, tool_call
from patter_trio.testing.simulation.caller import SimulatedCaller
from patter_trio.testing.simulation.simulator import EPOCH_UNIX_S
from tests.kit.call import SORRY, At, Backend, agent_of, break_down, edges, give_up
from tests.kit.depth import few

pytestmark = pytest.mark.both_backends


def turns(caller: SimulatedCaller) -> list[TurnMetrics]:
    return [payload["turn"] for payload in caller.payloads("metrics")]


def metrics_of(caller: SimulatedCaller) -> CallMetrics:
    assert caller.metrics is not None
    return caller.metrics


def order(caller: SimulatedCaller, since: float = 0.0) -> list[str]:
    """Return the names of the turns' events, of both sides, in the order of their delivery."""
    wanted = ("user_speech_eos", "transcript", "agent_speech_ended", "metrics")
    return [
        f"{name} {payload['role']}" if name == "transcript" else name
        for at, name, payload in caller.events
        if name in wanted and at >= since
    ]


# The latencies --------------------------------------------------------------------------------------------------------
async def test_every_latency_of_a_turn_is_exact(call_simulator: CallSimulator, backend: Backend) -> None:
    """A turn of one sentence has exact latencies: 500 ms endpointing, 100 ms LLM and 500 ms TTS make 1100 ms."""
    agent = backend.agent_of("One moment please.", tts=ScriptedTTS(speed=10.0))
    async with call_simulator(agent) as caller:
        await caller.at(1.0)
        await caller.speaks("Is a table free?", seconds=1.0)
        await caller.hears()
    (turn,) = turns(caller)
    assert turn == TurnMetrics(
        turn_index=1,
        user_text="Is a table free?",
        agent_text="One moment please.",
        latency=LatencyBreakdown(
            stt_ms=200.0 if backend.is_pipeline else None,  # when an engine understands it does not say
            endpoint_ms=500.0,
            llm_ms=100.0,
            llm_ttft_ms=100.0,
            llm_total_ms=400.0 if backend.is_pipeline else 708.0,  # it is through with its voice
            tts_ms=500.0,
            tts_total_ms=608.0,
            total_ms=1100.0,
            agent_response_ms=1100.0,
            user_speech_duration_ms=1000.0,
        ),
        stt_audio_seconds=pytest.approx(4.18),
        tts_characters=18 if backend.is_pipeline else 0,  # no text is handed over
        timestamp=pytest.approx(EPOCH_UNIX_S + caller.carrier.media_start + 2.5),
    )


async def test_the_stages_add_up_to_the_response(call_simulator: CallSimulator, backend: Backend) -> None:
    """The agent_response_ms of a turn is the sum of its endpointing (300 ms), LLM (250 ms) and TTS latencies."""
    llm = ScriptedLLM(["We open at nine. We close at five."], first_token=0.25, duration=0.7)
    agent = backend.agent_of(
        llm=llm, tts=ScriptedTTS(first_audio=0.15), vad=ScriptedVAD(end_delay=0.2), endpointing_ms=300
    )
    async with call_simulator(agent) as caller:
        await caller.speaks("Your hours?", seconds=0.8)
        await caller.hears()
    latency = turns(caller)[0].latency
    assert (latency.endpoint_ms, latency.llm_ttft_ms) == (300.0, 250.0)
    assert latency.agent_response_ms == pytest.approx(
        sum(value or 0 for value in (latency.endpoint_ms, latency.llm_ttft_ms, latency.tts_ms))
    )
    assert latency.total_ms is not None
    assert latency.agent_response_ms is not None
    assert latency.total_ms >= latency.agent_response_ms


async def test_the_latencies_are_those_of_the_edges(call_simulator: CallSimulator, backend: Backend) -> None:
    """The latencies of a turn equal the differences between the instants of the events that the call reports."""
    async with call_simulator(backend.agent_of("One moment please.")) as caller:
        await caller.at(1.0)
        await caller.speaks("Is a table free?", seconds=1.0)
        await caller.hears()
    at = {name: caller.times(name)[0] * 1000 for name in ("user_speech_eos", "llm_token", "audio_out")}
    latency = turns(caller)[0].latency
    assert latency.llm_ttft_ms == pytest.approx(at["llm_token"] - at["user_speech_eos"])
    assert latency.tts_ms == pytest.approx(at["audio_out"] - at["llm_token"])
    assert latency.total_ms == pytest.approx(caller.times("agent_speech_started")[0] * 1000 - 2000)


@pytest.mark.pipeline("about the STT")
async def test_words_before_end_of_voice_cost_no_latency(call_simulator: CallSimulator) -> None:
    """The STT latency is 0 ms if the final words come before the VAD notices the end of the voice."""
    agent = agent_of("Yes.", stt=ScriptedSTT(final_delay=0.0))
    async with call_simulator(agent) as caller:
        await caller.speaks("Hello there", seconds=1.0)
        await caller.hears()
    assert turns(caller)[0].latency.stt_ms == 0.0


async def test_greeting_is_turn_0_with_tts_latency_only(call_simulator: CallSimulator, backend: Backend) -> None:
    """The greeting is turn 0 and has TTS latencies only."""
    async with call_simulator(backend.agent_of("Yes.", first_message="Good evening.")) as caller:
        await caller.hears()
        await caller.speaks("Hello", seconds=0.5)
        await caller.hears()
    greeting, answer = turns(caller)
    assert (greeting.turn_index, greeting.user_text, greeting.agent_text) == (0, "", "Good evening.")
    assert greeting.latency == LatencyBreakdown(tts_ms=200.0, tts_total_ms=greeting.latency.tts_total_ms)
    assert greeting.timestamp == pytest.approx(EPOCH_UNIX_S + caller.carrier.media_start, abs=0.021)
    assert answer.turn_index == 1


async def test_barge_in_latency_counts_from_voice_onset(call_simulator: CallSimulator, backend: Backend) -> None:
    """The barge-in latency counts from the onset of the caller's voice."""
    agent = backend.agent_of("Our opening hours are long.", "All right.", tts=ScriptedTTS(duration=6.0))
    async with call_simulator(agent) as caller:
        await caller.speaks("Your hours?", seconds=1.0)
        await caller.at(4.0)
        await caller.speaks("Stop it", seconds=1.0)
        await caller.heard(1)
    cut, answered = turns(caller)
    assert (cut.interrupted, cut.latency.bargein_ms, cut.latency.total_ms) == (True, 250.0, 1100.0)
    assert (answered.interrupted, answered.latency.bargein_ms) == (False, None)
    metrics = metrics_of(caller)
    assert metrics.latency_avg.total_ms == answered.latency.total_ms  # the interrupted turn is left out
    assert metrics.latency_p95.bargein_ms == 250.0


@pytest.mark.pipeline("the STT counts words")
async def test_word_barge_in_latency_counts_from_voice_onset(call_simulator: CallSimulator) -> None:
    """Words that cut the reply 200 ms after a voice of 1 s give a barge-in latency of 1200 ms."""
    agent = agent_of("Our opening hours are long.", tts=ScriptedTTS(duration=8.0), barge_in_min_words=2)
    async with call_simulator(agent) as caller:
        await caller.speaks("Your hours?", seconds=1.0)
        await caller.at(4.0)
        await caller.speaks("Stop it", seconds=1.0)
        await caller.at(7.0)
    assert turns(caller)[0].latency.bargein_ms == 1200.0


async def test_hang_up_has_no_barge_in_latency(call_simulator: CallSimulator, backend: Backend) -> None:
    """A caller who hangs up 100 ms after the voice begins interrupts the turn without a barge-in latency."""
    async with call_simulator(backend.agent_of("Our opening hours are long.", tts=ScriptedTTS(duration=6.0))) as caller:
        await caller.speaks("Your hours?", seconds=1.0)
        await caller.at(4.0)
        await caller.speaks("Bye", seconds=0.4, wait=False)
        await caller.at(4.1)
        await caller.hangs_up()
    (turn,) = turns(caller)
    assert (turn.interrupted, turn.latency.bargein_ms) == (True, None)
    assert turn.agent_text


@pytest.mark.pipeline("on_message answers")
async def test_on_message_latency_is_measured_like_llm(call_simulator: CallSimulator) -> None:
    """An on_message reply has the latencies of an LLM reply and no LLM cost."""

    async def desk(event: dict[str, Any]) -> AsyncIterator[str]:
        await trio.sleep(0.3)
        yield "One moment"
        await trio.sleep(0.4)
        yield " please."

    async with call_simulator(agent_of(llm=None), on_message=desk) as caller:
        await caller.speaks("Is a table free?", seconds=1.0)
        await caller.hears()
    latency = turns(caller)[0].latency
    assert (latency.llm_ttft_ms, latency.llm_ms, latency.llm_total_ms) == (300.0, 300.0, 700.0)
    metrics = metrics_of(caller)
    assert metrics.llm_provider == "on_message"
    assert metrics.llm_model == "desk"
    assert metrics.cost.llm == 0


# Which turns there are ------------------------------------------------------------------------------------------------
async def test_on_metrics_comes_last_in_a_turn(call_simulator: CallSimulator, backend: Backend) -> None:
    """The callback on_metrics follows all other events of its turn and precedes on_call_end."""
    called: list[str] = []
    phone = Patter()
    phone.on_user_speech_eos = lambda event: called.append("eos")
    phone.on_agent_speech_ended = lambda event: called.append("agent_speech_ended")
    async with call_simulator(
        backend.agent_of("Yes."),
        phone=phone,
        on_transcript=lambda event: called.append(event["role"]),
        on_metrics=lambda event: called.append("metrics"),
        on_call_end=lambda event: called.append("end"),
    ) as caller:
        await caller.speaks("Hello", seconds=0.5)
        await caller.hears()
        await caller.waits(0.1)
    assert called == ["eos", "user", "agent_speech_ended", "assistant", "metrics", "end"]


async def test_on_metrics_has_exact_keys_and_counts_turns(call_simulator: CallSimulator, backend: Backend) -> None:
    """The on_metrics payload has exactly its keys and comes once per turn in turn order."""
    reported: list[Any] = []
    async with call_simulator(backend.agent_of("Yes.", first_message="Hello."), on_metrics=reported.append) as caller:
        await caller.hears()
        for _ in range(2):
            await caller.speaks("Go on", seconds=0.5)
            await caller.hears()
    assert [set(payload) for payload in reported] == [{"call_id", "turn", "cost_so_far"}] * 3
    assert [payload["turn"].turn_index for payload in reported] == [0, 1, 2]
    assert all(isinstance(payload["cost_so_far"], CostBreakdown) for payload in reported)
    assert metrics_of(caller).turns == tuple(payload["turn"] for payload in reported)


async def test_metrics_collected_equals_on_metrics(call_simulator: CallSimulator, backend: Backend) -> None:
    """The event metrics_collected has the same payloads and instants as on_metrics."""
    reported: list[Any] = []
    async with call_simulator(backend.agent_of("Yes.", first_message="Hello."), on_metrics=reported.append) as caller:
        await caller.hears()
        await caller.speaks("Go on", seconds=0.5)
        await caller.hears()
    assert caller.payloads("metrics_collected") == reported
    assert caller.times("metrics_collected") == caller.times("metrics")
    assert len(reported) == 2


async def test_words_after_commit_abandon_their_turn(call_simulator: CallSimulator, backend: Backend) -> None:
    """Words after the commit end its turn as interrupted, and the next turn measures the whole message."""
    llm = ScriptedLLM(["Two rooms, certainly."], first_token=0.8)
    async with call_simulator(backend.agent_of(llm=llm)) as caller:
        await caller.speaks("A room", seconds=0.5)
        await caller.at(1.2)
        await caller.speaks("or rather two", seconds=0.6)
        await caller.hears()
    abandoned, turn = turns(caller)
    assert (abandoned.turn_index, abandoned.user_text, abandoned.agent_text) == (1, "A room", "")
    assert abandoned.interrupted
    assert (turn.turn_index, turn.user_text, turn.interrupted) == (2, "A room or rather two", False)
    assert turn.agent_text == "Two rooms, certainly."
    assert turn.latency.user_speech_duration_ms == 1800.0  # from "A" to "two", pause included
    assert turn.latency.endpoint_ms == 500.0
    assert turn.latency.total_ms == pytest.approx(caller.times("agent_speech_started")[0] * 1000 - 1800)
    assert order(caller).count("metrics") == 2
    assert metrics_of(caller).latency_avg.total_ms == turn.latency.total_ms


@pytest.mark.pipeline("about the STT")
async def test_late_words_are_a_turn_of_their_own(call_simulator: CallSimulator) -> None:
    """Words that come 50 ms after the commit retract its answer, and the latency is that of the second answer."""
    llm = ScriptedLLM(["Good."], first_token=0.02, duration=0.0)
    agent = agent_of(llm=llm, stt=ScriptedSTT(duplicates=1), vad=ScriptedVAD(end_delay=0.1), endpointing_ms=0)
    async with call_simulator(agent) as caller:
        await caller.speaks("Really", seconds=0.6)
        await caller.hears()
    abandoned, turn = turns(caller)
    assert [request[-1]["content"] for request in llm.requests] == ["Really", "Really Really"]
    assert (abandoned.turn_index, abandoned.user_text, abandoned.interrupted) == (1, "Really", True)
    assert (turn.turn_index, turn.user_text) == (2, "Really Really")
    assert caller.times("llm_token") == [pytest.approx(0.82), pytest.approx(0.87)]
    assert turn.latency.endpoint_ms == 250.0
    assert turn.latency.llm_ttft_ms == 20.0
    assert [measured.tts_characters for measured in (abandoned, turn)] == [5, 5]


async def test_a_turn_without_sound_has_what_there_was(call_simulator: CallSimulator, backend: Backend) -> None:
    """A turn whose TTS yields no audio is failed, has an endpointing latency (500 ms), and no TTS latency."""
    async with call_simulator(backend.agent_of("Yes.", tts=ScriptedTTS(mute=True))) as caller:
        await caller.speaks("Hello", seconds=0.5)
        await caller.at(5.0)
    (turn,) = turns(caller)
    assert (turn.agent_text, turn.interrupted, turn.failed) == ("", False, True)
    latency = turn.latency
    assert (latency.endpoint_ms, latency.tts_ms, latency.total_ms) == (500.0, None, None)
    assert order(caller) == ["user_speech_eos", "transcript user", "metrics"]


@pytest.mark.pipeline("on_message answers")
async def test_a_turn_in_which_the_application_keeps_silent(call_simulator: CallSimulator) -> None:
    """A turn that on_message answers with None has no latencies of an answer."""
    async with call_simulator(agent_of(llm=None), on_message=lambda event: None) as caller:
        await caller.speaks("Hello", seconds=0.5)
        await caller.at(3.0)
    (turn,) = turns(caller)
    assert turn.latency == LatencyBreakdown(stt_ms=200.0, endpoint_ms=500.0, user_speech_duration_ms=500.0)


async def test_failed_turn_ends_after_its_apology(call_simulator: CallSimulator, backend: Backend) -> None:
    """A failed turn ends after its apology and is measured as failed."""
    agent = backend.faulty_agent(At("llm.first", give_up, nth=1), tts=ScriptedTTS())
    async with call_simulator(agent) as caller:
        await caller.speaks("Hello", seconds=0.5)
        await caller.hears()
    (turn,) = turns(caller)
    assert (turn.failed, turn.interrupted, turn.agent_text) == (True, False, SORRY)
    assert (turn.latency.llm_ttft_ms, turn.latency.endpoint_ms) == (None, 500.0)
    assert turn.latency.total_ms == pytest.approx(caller.times("agent_speech_started")[0] * 1000 - 500)


async def test_a_turn_whose_apology_fails_too_is_over(call_simulator: CallSimulator, backend: Backend) -> None:
    """A turn whose apology fails, too, ends as failed without text, and the next turn is turn 2."""
    async with call_simulator(backend.agent_of("Yes.", tts=ScriptedTTS(fail_after=0))) as caller:
        await caller.speaks("Hello", seconds=0.5)
        await caller.at(3.0)
        await caller.speaks("Hello?", seconds=0.5)
        await caller.at(6.0)
    assert [(turn.turn_index, turn.failed, turn.agent_text) for turn in turns(caller)] == [(1, True, ""), (2, True, "")]


@pytest.mark.pipeline("what three providers cost")
async def test_say_after_answer_is_billed_without_a_turn(call_simulator: CallSimulator) -> None:
    """A say() after the answer belongs to no turn, and its TTS cost counts."""
    phone = Patter(pricing={"scripted": {"unit": "1k_chars", "price": 1.0}})
    async with call_simulator(agent_of("Yes."), phone=phone) as caller:
        await caller.speaks("Hello", seconds=0.5)
        await caller.hears()
        phone.calls[0].say("By the way.")
        await caller.hears()
    assert [turn.agent_text for turn in turns(caller)] == ["Yes."]
    assert metrics_of(caller).cost.tts == pytest.approx((4 + 11) / 1000)


async def test_an_answer_that_say_cuts_is_interrupted(call_simulator: CallSimulator, backend: Backend) -> None:
    """A say() that cuts the answer marks the turn as interrupted, without a barge-in latency."""
    phone = Patter()
    async with call_simulator(backend.agent_of("A long answer.", tts=ScriptedTTS(duration=5.0)), phone=phone) as caller:
        await caller.speaks("Hello", seconds=0.5)
        await caller.at(3.0)
        phone.calls[0].say("Wait.", interrupt=True)
        await caller.heard(1)
    (turn,) = turns(caller)
    assert (turn.interrupted, turn.latency.bargein_ms) == (True, None)


@pytest.mark.pipeline("only an STT tells a cough from words")
async def test_wordless_call_has_no_turns_or_latencies(call_simulator: CallSimulator) -> None:
    """A call without words has a duration and neither turns nor latencies."""
    async with call_simulator(agent_of("Yes.")) as caller:
        await caller.coughs(0.3)
        await caller.at(3.0)
    metrics = metrics_of(caller)
    assert metrics.turns == ()
    assert metrics.latency_avg == metrics.latency_p99 == LatencyBreakdown()
    assert metrics.duration_seconds == pytest.approx(3.0)


async def test_open_turn_is_reported_before_failed_call_ends(call_simulator: CallSimulator, backend: Backend) -> None:
    """The open turn of a broken call reaches on_metrics before on_call_end."""
    called: list[Any] = []
    async with call_simulator(
        backend.faulty_agent(At("vad.feed", break_down, nth=3)),
        on_metrics=lambda event: called.append(event["turn"]),
        on_call_end=lambda event: called.append(event["metrics"]),
    ) as caller:
        await caller.speaks("Hello", seconds=0.5)
        await caller.at(2.0)
        await caller.speaks("Stop", seconds=0.5)  # the third edge
        await caller.at(5.0)
    turn, metrics = called
    assert (turn.turn_index, turn.interrupted) == (1, True)
    assert metrics.turns == (turn,)
    assert caller.outcome == "failed"


# Money ----------------------------------------------------------------------------------------------------------------
PRICES = {
    "twilio": {"price": 0.01, "streams": 0.002},
    "scripted": {
        "unit": "token",
        "models": {
            "ear": {"unit": "minute", "price": 0.6},
            "small-llm": {"unit": "token", "input": 100.0, "output": 1000.0, "cache_read": 10.0},
            "mouth": {"unit": "1k_chars", "price": 1.0},
        },
    },
}
PARTS: dict[str, Any] = {
    "stt": ScriptedSTT(model="ear"),
    "llm": ScriptedLLM(["Four words, sixteen."], model="small-llm"),  # 20 characters
    "tts": ScriptedTTS(model="mouth"),
    "system_prompt": "x" * 85,
}


def twilio_phone() -> Patter:
    return Patter(Twilio(account_sid="AC" + "5" * 32, auth_token="made up"), pricing=PRICES)


@pytest.mark.pipeline("what three providers cost")
async def test_costs_are_estimated_where_nobody_reports_them(call_simulator: CallSimulator) -> None:
    """Without usage reports, the cost is estimated from seconds, characters, tokens and begun minutes."""
    reported: list[Any] = []
    async with call_simulator(agent_of(**PARTS), phone=twilio_phone(), on_metrics=reported.append) as caller:
        await caller.speaks("What is it now?", seconds=1.0)  # 15 characters: 100 with the prompt, 25 tokens
        await caller.hears()
        await caller.at(60.5)
    cost = metrics_of(caller).cost
    assert cost.stt == pytest.approx(60.5 / 60 * 0.6)
    assert cost.tts == pytest.approx(20 / 1000)
    assert cost.llm == pytest.approx((25 * 100 + 5 * 1000) / 1_000_000)
    assert cost.telephony == pytest.approx(2 * 0.012)  # a begun minute counts whole
    assert cost.total == pytest.approx(cost.stt + cost.tts + cost.llm + cost.telephony)
    so_far = reported[0]["cost_so_far"]
    assert so_far.telephony == pytest.approx(0.012)
    assert so_far.llm == cost.llm
    assert so_far.stt < cost.stt


@pytest.mark.pipeline("what three providers cost")
async def test_llm_estimate_counts_the_whole_conversation(call_simulator: CallSimulator) -> None:
    """The LLM cost estimate counts the whole preceding conversation as input."""
    async with call_simulator(agent_of(**PARTS), phone=twilio_phone()) as caller:
        for _ in range(2):
            await caller.speaks("What is it now?", seconds=1.0)
            await caller.hears()
    asked = 100 + (100 + 20 + 15)
    assert metrics_of(caller).cost.llm == pytest.approx((asked // 4 * 100 + 10 * 1000) / 1_000_000)


@pytest.mark.pipeline("hooks are beside a pipeline alone")
async def test_vetoed_llm_request_costs_nothing(call_simulator: CallSimulator) -> None:
    """A turn whose LLM request a hook vetoes has no LLM cost."""
    prices = Patter(pricing={"scripted": {"unit": "token", "input": 1.0, "output": 1.0}})
    hooks = PipelineHooks(after_transcribe=lambda text: None if "robot" in text else text)
    async with call_simulator(agent_of("Yes.", hooks=hooks), phone=prices) as caller:
        await caller.speaks("Stupid robot", seconds=0.5)
        await caller.waits(2.0)
    assert metrics_of(caller).cost.llm == 0.0
    async with call_simulator(agent_of("Yes.", hooks=hooks), phone=prices) as caller:
        await caller.speaks("Is it open?", seconds=0.5)
        await caller.hears()
    asked = len("You are brief.") + len("Is it open?")
    assert metrics_of(caller).cost.llm == pytest.approx((asked // 4 + len("Yes.") // 4) * 1e-6)


async def test_a_providers_own_reported_usage_beats_the_estimate(
    call_simulator: CallSimulator, backend: Backend
) -> None:
    """The usage that an LLM reports replaces the estimate, and its cached tokens count as savings."""
    usage = Usage(stage="llm", input_tokens=10, output_tokens=3, cache_read_tokens=1000)
    llm = ScriptedLLM(["Four words, sixteen."], model="small-llm", usage=usage)
    async with call_simulator(backend.agent_of(**PARTS | {"llm": llm}), phone=twilio_phone()) as caller:
        for _ in range(2):
            await caller.speaks("What is it now?", seconds=1.0)
            await caller.hears()
    cost = metrics_of(caller).cost
    assert cost.llm == pytest.approx(2 * (10 * 100 + 3 * 1000 + 1000 * 10) / 1_000_000)
    assert cost.llm_cached_savings == pytest.approx(2 * 1000 * 90 / 1_000_000)
    assert cost.tts == (pytest.approx(40 / 1000) if backend.is_pipeline else 0.0)  # nothing was reported of it
    assert (cost.stt > 0) is backend.is_pipeline  # an engine has no STT


async def test_usage_of_cut_or_discarded_answer_counts(call_simulator: CallSimulator, backend: Backend) -> None:
    """The usage of an answer that the caller never hears counts: two requests at 0.5 cost 1.0."""
    usage = Usage(stage="llm", cost=0.5)
    llm = ScriptedLLM(["Two rooms, certainly."], first_token=0.8, usage=usage)
    async with call_simulator(backend.agent_of(llm=llm)) as caller:
        await caller.speaks("A room", seconds=0.5)
        await caller.at(1.2)
        await caller.speaks("or rather two", seconds=0.6)
        await caller.hears()
    assert len(llm.requests) == 2
    assert metrics_of(caller).cost.llm == 1.0


@attrs.frozen
class ReportingTTS(ScriptedTTS):
    """A TTS that reports the usage of each reply at its end."""

    @asynccontextmanager
    async def open(self, *, language: str) -> AsyncIterator[TextToSpeechSession]:
        async with ScriptedTTS.open(self, language=language) as session:
            yield _ReportingSynthesis(session)


class _ReportingSynthesis(TextToSpeechSession):
    def __init__(self, inner: TextToSpeechSession) -> None:
        self._inner = inner

    @asynccontextmanager
    async def speak(self, sentences: Any) -> AsyncIterator[Any]:
        async with self._inner.speak(sentences) as chunks:
            yield chunks
        report_usage(Usage(stage="tts", characters=1000, model="other"))


@attrs.frozen
class ReportingSTT(ScriptedSTT):
    """An STT that reports its usage once, when its session closes."""

    @asynccontextmanager
    async def open(self, *, language: str) -> AsyncIterator[SpeechToTextSession]:
        async with ScriptedSTT.open(self, language=language) as session:
            try:
                yield session
            finally:
                report_usage(Usage(stage="stt", seconds=30.0))


@pytest.mark.pipeline("what three providers cost")
async def test_stt_and_tts_report_their_usage_too(call_simulator: CallSimulator) -> None:
    """The usage that STT and TTS report replaces their estimates: 30 s cost 0.3, and 1000 characters cost 3.0."""
    parts = PARTS | {"stt": ReportingSTT(model="ear"), "tts": ReportingTTS(model="mouth")}
    phone = twilio_phone()
    phone.pricing["scripted"]["models"]["other"] = {"unit": "1k_chars", "price": 3.0}
    async with call_simulator(agent_of(**parts), phone=phone) as caller:
        await caller.speaks("What is it now?", seconds=1.0)
        await caller.hears()
    cost = metrics_of(caller).cost
    assert cost.stt == pytest.approx(0.3)
    assert cost.tts == pytest.approx(3.0)


async def test_outside_a_call_a_report_goes_nowhere(call_simulator: CallSimulator, backend: Backend) -> None:
    """A usage report from a task outside of a call adds nothing to the cost of any call."""
    report_usage(Usage(stage="llm", cost=1.0))
    async with call_simulator(backend.agent_of("Yes.")) as caller:
        report_usage(Usage(stage="llm", cost=1.0))
        await caller.speaks("Go on", seconds=0.5)
        await caller.hears()
    assert metrics_of(caller).cost.llm == 0.0


async def test_two_calls_at_once_have_their_own_metrics(call_simulator: CallSimulator, backend: Backend) -> None:
    """Two concurrent calls have separate metrics: one turn for 1.0, and three turns for 3.0."""
    usage = Usage(stage="llm", cost=1.0)
    agent = backend.agent_of(llm=ScriptedLLM(["Yes."], usage=usage))
    phone = Patter()
    found: list[CallMetrics] = []

    async def hold(count: int) -> None:
        async with call_simulator(agent, phone=phone) as caller:
            for _ in range(count):
                await caller.speaks("Go on", seconds=0.5)
                await caller.hears()
        found.append(metrics_of(caller))

    async with trio.open_nursery() as nursery:
        nursery.start_soon(hold, 1)
        nursery.start_soon(hold, 3)
    assert sorted((len(metrics.turns), metrics.cost.llm) for metrics in found) == [(1, 1.0), (3, 3.0)]
    assert len({metrics.call_id for metrics in found}) == 2


async def test_the_call_says_who_took_part_in_it(call_simulator: CallSimulator, backend: Backend) -> None:
    """The metrics of a call name its id, its carrier, its mode, its providers and their models."""
    async with call_simulator(backend.agent_of(**PARTS), phone=twilio_phone()) as caller:
        await caller.speaks("Hello", seconds=0.5)
        await caller.hears()
    metrics = metrics_of(caller)
    assert metrics.call_id == caller.carrier.call_id
    pipeline = backend.is_pipeline
    assert (metrics.stt_provider, metrics.stt_model) == (("scripted", "ear") if pipeline else ("", ""))
    assert (metrics.llm_provider, metrics.llm_model) == ("scripted", "small-llm")
    assert (metrics.tts_provider, metrics.tts_model) == (("scripted", "mouth") if pipeline else ("", ""))
    assert (metrics.telephony_provider, metrics.provider_mode) == ("twilio", "pipeline" if pipeline else "scripted")


async def test_scripted_local_call_is_free_without_warning(
    call_simulator: CallSimulator, caplog: pytest.LogCaptureFixture, backend: Backend
) -> None:
    """Scripted providers on the local carrier cost nothing and log no price warning."""
    phone = Patter(LocalCarrier())
    async with call_simulator(backend.agent_of("Yes."), phone=phone) as caller:
        await caller.speaks("Hello", seconds=0.5)
        await caller.hears()
    metrics = metrics_of(caller)
    assert metrics.telephony_provider == "local"
    assert metrics.cost == CostBreakdown()
    assert not [record for record in caplog.records if record.name == "patter_trio.telemetry"]


# What must not hurt ---------------------------------------------------------------------------------------------------
def heard_bytes(caller: SimulatedCaller) -> list[tuple[float, int, str, bool]]:
    return [(round(a.at, 6), len(a.audio), a.mark or "", a.clears) for a in caller.carrier.arrivals]


async def one_call(backend: Backend, call_simulator: CallSimulator, **callbacks: Any) -> SimulatedCaller:
    async with call_simulator(backend.agent_of("One.", "Two.", first_message="Hello."), **callbacks) as caller:
        await caller.hears()
        for _ in range(2):
            await caller.speaks("Go on", seconds=0.5)
            await caller.hears()
    return caller


async def raises(event: Any) -> None:
    raise KeyError("customer")


async def never_returns(event: Any) -> None:
    await trio.sleep_forever()


async def is_slow(event: Any) -> None:
    await trio.sleep(3)


def spoils(event: dict[str, Any]) -> str:
    event.clear()
    event["turn"] = "spoilt"
    return "nobody waits for this"


@pytest.mark.parametrize("on_metrics", few([raises, never_returns, is_slow, spoils], 2))
async def test_misbehaving_on_metrics_disturbs_nothing(
    on_metrics: Any, call_simulator: CallSimulator, caplog: pytest.LogCaptureFixture, backend: Backend
) -> None:
    """A misbehaving on_metrics changes neither the audio nor any other event."""
    ends: list[Any] = []
    calm = await one_call(backend, call_simulator)
    upset = await one_call(backend, call_simulator, on_metrics=on_metrics, on_call_end=ends.append)
    assert heard_bytes(upset) == heard_bytes(calm)
    assert edges(upset) == edges(calm)
    assert turns(upset)[-1].agent_text == "Two."
    assert [turn.turn_index for turn in ends[0]["metrics"].turns] == [0, 1, 2]
    lines = [record.message for record in caplog.records if record.name == "patter_trio.events"]
    expected = {
        raises: ["patter.event.metrics: raises raised KeyError: 'customer'"] * 3,
        never_returns: ["on_metrics was cancelled: its time limit was over"] * 3,  # once for each turn
        is_slow: [],
        spoils: [],
    }[on_metrics]
    assert [line.partition(": ")[2] for line in lines] == expected


async def test_on_metrics_is_never_dropped(call_simulator: CallSimulator, backend: Backend) -> None:
    """A slow on_metrics receives all three turns, the last ones after the call."""
    called: list[int] = []

    async def slow(event: dict[str, Any]) -> None:
        await trio.sleep(4)
        called.append(event["turn"].turn_index)

    await one_call(backend, call_simulator, on_metrics=slow)
    assert called == [0, 1, 2]


async def test_blocking_on_metrics_is_reported(caplog: pytest.LogCaptureFixture) -> None:
    """An on_metrics that blocks the event loop for 60 ms of real time is named in one log line."""
    turn = TurnMetrics(turn_index=1, user_text="Hello", agent_text="Yes.")

    def writes_to_a_slow_disk(event: dict[str, Any]) -> None:
        time.sleep(0.06)

    callback_queue = CallbackQueue("CA1", {"on_metrics": writes_to_a_slow_disk}.get)
    state = ConversationStateSnapshot(user="listening", agent="idle")
    callback_queue.put("metrics", {"call_id": "CA1", "turn": turn, "cost_so_far": CostBreakdown()}, state)
    callback_queue.end({}, state, cancelled=False)
    await callback_queue.deliver()
    (record,) = caplog.records
    assert "writes_to_a_slow_disk blocked every call for " in record.message


async def test_on_metrics_must_be_a_function(call_simulator: CallSimulator, backend: Backend) -> None:
    """An on_metrics that is not a function raises ConfigurationError with its type and value."""
    with pytest.raises(ConfigurationError, match="on_metrics must be a function, got int: 3"):
        async with call_simulator(backend.agent_of(), on_metrics=3):
            pass


@pytest.mark.parametrize("method", few(["on_event", "finish", "call", "cost"], 1))
async def test_meter_failure_is_logged_once_and_contained(
    method: str,
    call_simulator: CallSimulator,
    caplog: pytest.LogCaptureFixture,
    backend: Backend,
) -> None:
    """A failure in the meter is logged once, leaves the metrics empty and does not affect the call."""
    calm = await one_call(backend, call_simulator)

    def broken(self: Meter, *arguments: Any) -> Any:
        raise ZeroDivisionError("a bug of the meter")

    seams, ends = Seams(meter=type("BrokenMeter", (Meter,), {method: broken})), list[Any]()
    upset = await one_call(backend, call_simulator, seams=seams, on_call_end=ends.append)
    assert heard_bytes(upset) == heard_bytes(calm)
    assert edges(upset) == edges(calm)
    assert ends[0]["metrics"] is None
    assert (upset.metrics, upset.outcome) == (None, "caller_hung_up")
    (record,) = [record for record in caplog.records if record.name == "patter_trio.telemetry"]
    assert (record.levelno, record.exc_info is not None) == (logging.ERROR, True)
    assert record.message == f"call {upset.carrier.call_id}: measuring stopped because of a bug: a bug of the meter"


def test_metrics_of_long_call_take_bounded_time() -> None:
    """The bill of a call with 10,000 usage reports keeps one sum, so that its total takes constant time."""
    bill = Bill(None, "local", "inbound")
    for number in range(10_000):
        bill.count(number, "asked", 100)
        bill.used(number, Usage(stage="llm", input_tokens=1))
    assert len(bill._reported) == 1
    assert math.isclose(bill.total(0.0, 0.0).total, 0.0)


async def test_time_to_first_token_excludes_tools(call_simulator: CallSimulator, backend: Backend) -> None:
    """llm_ttft_ms ends with llm_token, also if the first token is a call of a tool that takes 2 s."""

    @tool
    async def hours() -> str:
        """Return the opening hours."""
        await trio.sleep(2.0)
        return "from nine"

    llm = ScriptedLLM([tool_call("hours"), "We open at nine."], first_token=0.4, duration=0.0)
    async with call_simulator(backend.agent_of(llm=llm, tools=[hours])) as caller:
        await caller.speaks("When do you open?", seconds=1.0)
        await caller.hears()
    (turn,) = turns(caller)
    [token], [eos] = caller.times("llm_token"), caller.times("user_speech_eos")
    assert turn.latency.llm_ttft_ms == pytest.approx(1000 * (token - eos), abs=1)
    assert turn.latency.llm_ttft_ms == pytest.approx(400, abs=50)
    assert turn.latency.tts_ms is not None
    assert turn.latency.tts_ms < 1000
