"""A trace of a call whose events come in any order: every span ends within its call."""

from typing import Any, get_args

import pytest
import trio
from hypothesis import given
from hypothesis import strategies as st
from opentelemetry.context import Context
from opentelemetry.sdk.trace import ReadableSpan, SpanProcessor, TracerProvider

from patter_trio.abc import CallInfo
from patter_trio.audio.media_clock import MediaClock
from patter_trio.metrics.internal_events import (
    AgentReady,
    AnswerKind,
    CallEvent,
    CallFailed,
    HookCalled,
    InternalEvent,
    LlmChunk,
    LlmFailed,
    LlmFinished,
    LlmStarted,
    ReplyEnded,
    ReplyStarted,
    SentenceStarted,
    ToolCallCompleted,
    ToolCallStarted,
    TtsChunk,
    TtsFailed,
    TtsFinished,
    WordsFinal,
)
from patter_trio.metrics.public_events import (
    AgentSpeechEnded,
    AgentSpeechStarted,
    AudioOut,
    CallOver,
    DigitReceived,
    InterimTranscript,
    LlmToken,
    MachineFound,
    PublicEvent,
    TranscriptCommitted,
    TurnMeasured,
    UserSpeechEnded,
    UserSpeechEos,
    UserSpeechStarted,
)
from patter_trio.testing.simulation.simulator import EPOCH_UNIX_S
from patter_trio.tracing.attributes import SPAN_EVENTS
from patter_trio.tracing.call_trace import CallTrace
from tests.kit.call import PIPELINE
from tests.kit.tracing import speaking

pytestmark = pytest.mark.no_coverage

INFO = CallInfo("CA1", "", "", "inbound", provider="twilio")
REPLY = {"reply": st.integers(1, 3), "turn_idx": st.integers(0, 3)}
WORDS = st.sampled_from(["", " ", "secret"])
ERROR = st.sampled_from(["ProviderError", "KeyError"])
NAME = st.sampled_from(["weather", "transfer"])
TURN = st.integers(0, 3)
MS = st.integers(0, 9000)
OPTIONAL_MS = st.none() | MS
NOTHING: st.SearchStrategy[Any] = st.none()

EVENTS: dict[type[CallEvent], st.SearchStrategy[CallEvent]] = {
    AgentReady: st.builds(AgentReady, NAME, NAME, NAME, NAME, NAME, NAME, NAME, MS),
    UserSpeechStarted: st.builds(UserSpeechStarted, audio_offset_ms=OPTIONAL_MS),
    UserSpeechEnded: st.builds(UserSpeechEnded, speech_duration_ms=MS, audio_offset_ms=OPTIONAL_MS),
    UserSpeechEos: st.builds(
        UserSpeechEos, trigger=st.just("vad_silence"), transcript_so_far=WORDS, trailing_silence_ms=OPTIONAL_MS
    ),
    AgentSpeechStarted: st.builds(AgentSpeechStarted, turn_idx=TURN),
    AgentSpeechEnded: st.builds(AgentSpeechEnded, turn_idx=TURN, speech_duration_ms=MS, interrupted=st.booleans()),
    LlmToken: st.builds(LlmToken, turn_idx=TURN, llm_provider=st.just("p"), model=st.just("m")),
    AudioOut: st.builds(AudioOut, turn_idx=TURN, tts_provider=st.just("p")),
    TranscriptCommitted: st.builds(TranscriptCommitted, st.sampled_from(["user", "assistant"]), WORDS, st.just([])),
    InterimTranscript: st.builds(InterimTranscript, MS, WORDS),
    WordsFinal: st.builds(WordsFinal, WORDS),
    ReplyStarted: st.builds(ReplyStarted, **REPLY, source=st.sampled_from(get_args(AnswerKind))),
    LlmStarted: st.builds(LlmStarted, **REPLY),
    LlmChunk: st.builds(LlmChunk, **REPLY, text=WORDS),
    LlmFinished: st.builds(LlmFinished, **REPLY),
    LlmFailed: st.builds(LlmFailed, **REPLY, error=ERROR),
    SentenceStarted: st.builds(SentenceStarted, **REPLY, text=WORDS),
    TtsFinished: st.builds(TtsFinished, **REPLY),
    TtsFailed: st.builds(TtsFailed, **REPLY, error=ERROR),
    TtsChunk: st.builds(TtsChunk, **REPLY, audio=st.just(b"")),
    ReplyEnded: st.builds(ReplyEnded, **REPLY, reason=st.sampled_from(["played", "barge-in", "failed", "leg down"])),
    ToolCallStarted: st.builds(ToolCallStarted, NAME, st.just(""), WORDS),
    ToolCallCompleted: st.builds(
        ToolCallCompleted,
        name=NAME,
        tool_call_id=st.just(""),
        arguments=WORDS,
        result=WORDS,
        duration=st.just(1.0),
        error=WORDS,
    ),
    HookCalled: st.builds(HookCalled, NAME, st.floats(0, 9)),
    CallFailed: st.builds(CallFailed, ERROR),
    TurnMeasured: st.builds(TurnMeasured, NOTHING, NOTHING),
    DigitReceived: st.builds(DigitReceived, st.just("1")),
    MachineFound: st.builds(MachineFound, st.sampled_from(["human", "machine"]), st.booleans()),
}
STORIES = st.lists(st.one_of(*EVENTS.values()))


class Ledger(SpanProcessor):
    """The spans that were begun, and those that were ended."""

    def __init__(self) -> None:
        self.begun: list[Any] = []
        self.ended: list[ReadableSpan] = []

    def on_start(self, span: Any, parent_context: Context | None = None) -> None:
        self.begun.append(span)

    def on_end(self, span: ReadableSpan) -> None:
        self.ended.append(span)


@given(STORIES)
def test_any_event_order_ends_spans_without_words(story: list[CallEvent]) -> None:
    """For any order of events, every span ends within its call and contains no spoken word."""
    ledger = Ledger()
    provider = TracerProvider(shutdown_on_exit=False)
    provider.add_span_processor(ledger)

    async def report() -> None:
        call = CallTrace(
            provider.get_tracer("patter_trio"), INFO, speaking(PIPELINE), MediaClock(), at=0.0, epoch=EPOCH_UNIX_S
        )
        for at, event in enumerate(story, start=10):
            call.on_event(event, float(at))
        call.on_event(CallOver(info=INFO, ended_at=0.0, outcome="completed"), 1000.0)
        assert not call._complained

    trio.run(report)
    assert {span.context.span_id for span in ledger.begun} == {span.context.span_id for span in ledger.ended}
    [call] = [span for span in ledger.ended if span.parent is None]
    for span in ledger.ended:
        assert span.context.trace_id == call.context.trace_id
        assert call.start_time <= span.start_time <= span.end_time <= call.end_time
        assert "secret" not in span.to_json()


async def test_every_event_that_a_trace_records_is_tried() -> None:
    """The random sequences contain each event whose class has a rule of the trace or a span event."""
    call = CallTrace(
        TracerProvider().get_tracer("patter_trio"), INFO, speaking(PIPELINE), MediaClock(), at=0.0, epoch=EPOCH_UNIX_S
    )
    kinds = {*get_args(InternalEvent), *get_args(PublicEvent)}
    assert {kind for kind in kinds if kind in call._rules} | {event.edge for event in SPAN_EVENTS} <= set(EVENTS)
