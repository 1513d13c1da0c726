"""The meter alone: instants and events go in, turns come out."""

from collections.abc import Sequence
from typing import Literal

import pytest

from patter_trio.abc import Usage
from patter_trio.audio.media_clock import MediaClock
from patter_trio.metrics.bill import Bill
from patter_trio.metrics.internal_events import (
    AgentReady,
    AnswerKind,
    CallEvent,
    LlmChunk,
    LlmFinished,
    ReplyEnded,
    ReplyStarted,
    SentenceStarted,
    TtsChunk,
    TtsFinished,
    TtsFirstAudio,
    UtteranceOver,
    VoiceOnset,
    WordsFinal,
)
from patter_trio.metrics.meter import Meter
from patter_trio.metrics.public_events import (
    AgentSpeechEnded,
    AgentSpeechStarted,
    DigitReceived,
    TranscriptCommitted,
    UserSpeechEnded,
    UserSpeechEos,
    UserSpeechStarted,
)
from patter_trio.metrics.results import CostBreakdown, LatencyBreakdown, TurnMetrics

TimedEvent = tuple[float, CallEvent]
PRICES = {
    "acme": {
        "unit": "token",
        "models": {
            "source": {"input": 1.0, "output": 1.0},
            "mouth": {"unit": "1k_chars", "price": 1.0},
            "ear": {"unit": "minute", "price": 60.0},
        },
    },
    "line": {"unit": "minute", "price": 60.0},
}
NAMES = {
    f"{stage}_{what}": name
    for stage, model in (("stt", "ear"), ("tts", "mouth"), ("llm", "source"))
    for what, name in (("provider", "acme"), ("model", model))
}


def meter_of() -> Meter:
    media = MediaClock()
    media.arrived(160, 10.02)  # the call began at 10.0
    return Meter("CA1", media, PRICES, epoch=1000.0, carrier="line")


def feed(meter: Meter, events: Sequence[TimedEvent]) -> list[TurnMetrics]:
    return [turn for at, event in events if (turn := meter.on_event(event, at)) is not None]


def spoken(onset: float, end: float, eos: float) -> list[TimedEvent]:
    return [
        (onset + 0.06, VoiceOnset(onset - 10.0)),
        (onset + 0.06, UserSpeechStarted(audio_offset_ms=1)),  # rounded; the internal event before it counts
        (end + 0.1, UserSpeechEnded(speech_duration_ms=1)),
        (end + 0.2, WordsFinal("Hello")),
        (end + 0.25, WordsFinal("")),  # the STT's answer to a flush: no words
        (eos, UtteranceOver(eos - end)),
        (eos, UserSpeechEos(trigger="vad_silence")),
    ]


def said(at: float, role: Literal["user", "assistant"], text: str) -> TimedEvent:
    return (at, TranscriptCommitted(role, text, [{"role": role, "text": text, "timestamp": at}]))


def answered(number: int, turn: int, at: float, source: AnswerKind = "llm") -> list[TimedEvent]:
    return [
        (at, ReplyStarted(number, turn, source)),
        (at + 0.1, LlmChunk(number, turn, "")),
        (at + 0.2, LlmChunk(number, turn, "Yes.")),
        (at + 0.3, LlmFinished(number, turn)),
        (at + 0.3, SentenceStarted(number, turn, "Yes.")),
        (at + 0.5, TtsFirstAudio(number, turn)),
        (at + 0.6, AgentSpeechStarted(turn_idx=turn)),
        (at + 0.7, TtsFinished(number, turn)),
        (at + 1.0, AgentSpeechEnded(turn_idx=turn, speech_duration_ms=400)),
        said(at + 1.0, "assistant", "Yes."),
        (at + 1.0, ReplyEnded(number, turn, "played")),
    ]


def test_a_turn_is_differences_of_instants() -> None:
    """A turn's latencies are differences of instants: 500 ms endpointing, 200 ms LLM and 300 ms TTS make 1000 ms."""
    meter = meter_of()
    (turn,) = feed(meter, [*spoken(11.0, 12.0, 12.5), said(12.5, "user", "Hello"), *answered(1, 1, 12.5)])
    assert turn == TurnMetrics(
        turn_index=1,
        user_text="Hello",
        agent_text="Yes.",
        latency=LatencyBreakdown(
            stt_ms=200.0,
            endpoint_ms=500.0,
            llm_ms=200.0,
            llm_ttft_ms=200.0,
            llm_total_ms=300.0,
            tts_ms=300.0,
            tts_total_ms=500.0,
            total_ms=1100.0,
            agent_response_ms=1000.0,
            user_speech_duration_ms=1000.0,
        ),
        stt_audio_seconds=3.5,  # since the call began
        tts_characters=4,
        timestamp=1012.5,
    )
    assert meter.turns == [turn]


def test_latencies_have_one_decimal_of_a_millisecond() -> None:
    """The meter rounds a latency of 512.215 ms to 512.2 ms."""
    meter = meter_of()
    (turn,) = feed(meter, [*spoken(11.0, 12.000125, 12.51234), said(12.6, "user", "Hello"), *answered(1, 1, 12.51234)])
    assert turn.latency.endpoint_ms == 512.2
    assert turn.latency.user_speech_duration_ms == 1000.1


def test_vetoed_turn_has_no_metrics() -> None:
    """An utterance without a transcript(user) event has no metrics, with or without a reply."""
    meter = meter_of()
    vetoed = spoken(11.0, 12.0, 12.5)
    silent = [*spoken(13.0, 14.0, 14.5), *answered(1, 2, 14.5)[:1], answered(1, 2, 14.5)[-1]]
    assert feed(meter, [*vetoed, *silent]) == []
    (turn,) = feed(meter, [*spoken(16.0, 17.0, 17.5), said(17.5, "user", "Hello"), *answered(2, 3, 17.5)])
    assert (turn.turn_index, turn.stt_audio_seconds, turn.latency.user_speech_duration_ms) == (3, 8.5, 1000.0)


def test_retracted_and_repeated_answer_is_one_turn() -> None:
    """A retracted answer and its repetition are one turn, timed to the second answer, with the characters of both."""
    meter = meter_of()
    retracted = [*answered(1, 1, 12.5)[:6], (13.2, ReplyEnded(1, 1, "retracted"))]
    (turn,) = feed(meter, [*spoken(11.0, 12.0, 12.5), said(12.5, "user", "Hello"), *retracted, *answered(2, 1, 14.0)])
    assert (turn.turn_index, turn.interrupted, turn.tts_characters) == (1, False, 8)
    assert (turn.latency.total_ms, turn.latency.llm_ttft_ms) == (2600.0, 1700.0)


def test_failed_turn_without_apology_ends_with_next() -> None:
    """A failed turn without an apology ends as failed when the next turn begins."""
    meter = meter_of()
    failed = [answered(1, 1, 12.5)[0], (13.0, ReplyEnded(1, 1, "failed"))]
    first = [*spoken(11.0, 12.0, 12.5), said(12.5, "user", "Hello"), *failed]
    assert feed(meter, first) == []
    (turn,) = feed(meter, spoken(14.0, 15.0, 15.5))
    assert (turn.turn_index, turn.failed, turn.interrupted) == (1, True, False)


def test_adapter_fired_events_are_measured_as_given() -> None:
    """The meter takes an adapter's edges as given, rounded to ms, and counts turns itself."""
    fired: list[TimedEvent] = [
        (11.0, UserSpeechStarted(audio_offset_ms=900)),
        (12.4, UserSpeechEnded(speech_duration_ms=1100)),
        (12.5, UserSpeechEos(trigger="vad_silence", trailing_silence_ms=500)),
    ]
    bare: list[TimedEvent] = [(14.0, UserSpeechStarted()), (15.5, UserSpeechEos(trigger="vad_silence"))]
    meter = meter_of()
    reported = [*fired, said(12.5, "user", "Hello"), *answered(1, 0, 12.5)]
    (first,) = feed(meter, reported)
    assert (first.turn_index, first.latency.user_speech_duration_ms, first.latency.total_ms) == (1, 1100.0, 1100.0)
    (second,) = feed(meter, [*bare, said(15.5, "user", "Hello"), *answered(2, 0, 15.5)])
    assert (second.turn_index, second.latency.llm_ttft_ms, second.latency.total_ms) == (2, 200.0, None)


def test_say_in_open_turn_is_not_its_answer() -> None:
    """A say() between a retracted answer and its successor neither answers the turn nor adds to its characters."""
    meter = meter_of()
    retracted = [answered(1, 1, 12.5)[0], (12.9, ReplyEnded(1, 1, "retracted"))]
    remark = answered(2, 1, 13.0, "text")
    (turn,) = feed(
        meter,
        [*spoken(11.0, 12.0, 12.5), said(12.5, "user", "Hello"), *retracted, *remark, *answered(3, 1, 15.0)],
    )
    assert (turn.agent_text, turn.tts_characters, turn.latency.total_ms) == ("Yes.", 4, 3600.0)


def test_open_turn_ends_with_call_as_interrupted() -> None:
    """A turn that is open at the end of the call is measured as interrupted at that moment."""
    meter = meter_of()
    feed(meter, [*spoken(11.0, 12.0, 12.5), said(12.5, "user", "Hello"), *answered(1, 1, 12.5)[:4]])
    turn = meter.finish(13.0)
    assert turn is not None
    assert (turn.interrupted, turn.latency.llm_total_ms, turn.latency.tts_ms) == (True, 300.0, None)
    assert meter.finish(13.0) is None
    assert meter.call(20.0).turns == (turn,)


def test_call_without_audio_lasts_from_stream_opening() -> None:
    """The duration of a call without audio counts from the opening of its stream."""
    metrics = Meter("CA1", MediaClock(), PRICES, began=14.0, carrier="line").call(20.0)
    assert (metrics.duration_seconds, metrics.cost.telephony, metrics.cost.stt, metrics.turns) == (6.0, 6.0, 0.0, ())


def test_meter_ignores_events_without_measurement() -> None:
    """The meter ignores DTMF digits, TTS chunks and LLM chunks of a reply that never began."""
    meter = meter_of()
    assert feed(meter, [(11.0, DigitReceived("1")), (11.0, TtsChunk(1, 1, b""))]) == []
    assert not meter.wants(TtsChunk)
    assert feed(meter, [(12.0, LlmChunk(9, 1, "of a reply that never began"))]) == []


# The bill -------------------------------------------------------------------------------------------------------------
def bill() -> Bill:
    made = Bill(PRICES, "line", "inbound")
    made.name_providers(AgentReady(**NAMES, provider_mode="pipeline", prompt_characters=0))
    return made


def test_estimates_use_seconds_characters_and_tokens() -> None:
    """The cost estimate counts STT by the second, TTS by the character and LLM by four characters a token."""
    made = bill()
    made.count(1, "asked", 4_000_003)
    made.count(1, "said", 8_000_000)
    made.count(1, "spoken", 500)
    assert made.total(60.0, 2.0) == CostBreakdown(stt=2.0, tts=0.5, llm=3.0, telephony=60.0, total=65.5)


def test_reply_usage_report_replaces_its_estimate() -> None:
    """A usage report for a reply replaces the estimate for that reply, even when it comes late."""
    made = bill()
    made.count(1, "said", 4_000_000)
    made.count(2, "said", 4_000_000)
    made.used(1, Usage(stage="llm", output_tokens=500_000))
    made.count(1, "said", 4_000_000)  # goes on talking
    made.used(1, Usage(stage="llm", output_tokens=500_000))  # and reports the rest
    assert made.total(0.0, 0.0).llm == pytest.approx(1.0 + 1.0)
    made.used(2, Usage(stage="llm", output_tokens=3_000_000))  # late, when its reply is long over
    assert made.total(0.0, 0.0).llm == pytest.approx(1.0 + 3.0)


@pytest.mark.parametrize(
    ("usage", "cost"),
    [
        (Usage(stage="llm", output_tokens=500_000), 1.0 + 0.5),  # the prompt is estimated
        (Usage(stage="llm", input_tokens=3_000_000), 3.0 + 2.0),  # the answer is
        (Usage(stage="llm", cache_read_tokens=1, audio_output_tokens=1), 0.0),
        (Usage(stage="llm"), 1.0 + 2.0),
        (Usage(stage="llm", cost=0.0), 0.0),
    ],
)
def test_zero_side_of_usage_is_estimated(usage: Usage, cost: float) -> None:
    """A report of no tokens for one side of an LLM leaves the estimate for that side."""
    made = bill()
    made.count(1, "asked", 4_000_000)
    made.used(1, usage)
    made.count(1, "said", 8_000_000)
    assert made.total(0.0, 0.0).llm == pytest.approx(cost, abs=0.001)


def test_usage_report_outside_replies_replaces_stage_estimates() -> None:
    """A usage report outside any reply replaces all estimates of its stage."""
    made = bill()
    made.count(1, "spoken", 1000)
    made.count(1, "said", 4_000_000)
    made.used(None, Usage(stage="tts", characters=200))
    made.used(None, Usage(stage="stt", seconds=0.5))
    assert made.total(0.0, 99.0) == CostBreakdown(stt=0.5, tts=0.2, llm=1.0, total=1.7)


def test_reported_cost_beats_tables_and_models_price_separately() -> None:
    """A reported cost overrides every price table, and usage of another model gets that model's price."""
    made = bill()
    made.used(1, Usage(stage="llm", output_tokens=9_000_000, cost=0.25))
    made.used(2, Usage(stage="llm", characters=2000, model="mouth"))
    assert made.total(0.0, 0.0).llm == pytest.approx(0.25 + 2.0)
