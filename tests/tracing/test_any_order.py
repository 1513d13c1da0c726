"""Whatever a call tells, in whatever order: every span that was begun is ended, within its call, and nothing is amiss."""

from typing import Any

import pytest
import trio
from hypothesis import given
from hypothesis import strategies as st
from opentelemetry.context import Context
from opentelemetry.sdk.trace import ReadableSpan, SpanProcessor, TracerProvider

from patter_trio.abc import CallInfo
from patter_trio.testing.simulation.simulator import EPOCH_UNIX_S
from patter_trio.tracing.call_trace import CallTrace
from tests.kit.call import PIPELINE
from tests.kit.tracing import speaking

pytestmark = pytest.mark.no_coverage

INFO = CallInfo("CA1", "", "", "inbound", provider="twilio")
REPLY = st.fixed_dictionaries({"reply": st.integers(1, 3), "turn_idx": st.integers(0, 3)})
WORDS = st.sampled_from(["", " ", "secret"])
ERROR = st.sampled_from(["ProviderError", "KeyError"])
NAME = st.sampled_from(["weather", "transfer"])


def told(base: st.SearchStrategy[dict[str, Any]], **more: st.SearchStrategy[Any]) -> st.SearchStrategy[dict[str, Any]]:
    return st.builds(lambda one, two: one | two, base, st.fixed_dictionaries(more))


NOTHING = st.just({})
FACTS: dict[str, st.SearchStrategy[dict[str, Any]]] = {
    "agent_ready": st.fixed_dictionaries({}, optional=dict.fromkeys(("stt_provider", "tts_model"), NAME)),
    "user_speech_started": st.fixed_dictionaries({}, optional={"audio_offset_ms": st.integers(0, 9000)}),
    "user_speech_ended": told(NOTHING, speech_duration_ms=st.integers(0, 9000)),
    "user_speech_eos": st.fixed_dictionaries(
        {"trigger": st.just("vad_silence"), "transcript_so_far": WORDS},
        optional={"trailing_silence_ms": st.integers(0, 9000)},
    ),
    "agent_speech_started": told(NOTHING, turn_idx=st.integers(0, 3)),
    "agent_speech_ended": told(NOTHING, turn_idx=st.integers(0, 3), interrupted=st.booleans()),
    "llm_token": told(NOTHING, turn_idx=st.integers(0, 3), llm_provider=st.just("p"), model=st.just("m")),
    "audio_out": told(NOTHING, turn_idx=st.integers(0, 3), tts_provider=st.just("p")),
    "transcript": told(NOTHING, role=st.sampled_from(["user", "assistant"]), text=WORDS),
    "transcript_partial": told(NOTHING, text=WORDS),
    "words_final": told(NOTHING, text=WORDS),
    "reply_started": told(REPLY, source=st.sampled_from(["llm", "on_message", "text", "error"])),
    "llm_started": REPLY,
    "llm_chunk": told(REPLY, text=WORDS),
    "llm_finished": REPLY,
    "llm_failed": told(REPLY, error=ERROR),
    "sentence": told(REPLY, text=WORDS),
    "tts_finished": REPLY,
    "tts_failed": told(REPLY, error=ERROR),
    "tts_chunk": told(REPLY, audio=st.just(b"")),
    "reply_ended": told(REPLY, reason=st.sampled_from(["played", "barge-in", "failed", "leg down"])),
    "tool_call_started": told(NOTHING, name=NAME),
    "tool_call_completed": told(NOTHING, name=NAME, result=WORDS),
    "hook": told(NOTHING, name=NAME, seconds=st.floats(0, 9)),
    "call_failed": told(NOTHING, error=ERROR),
    "metrics": told(NOTHING, cost_so_far=st.none()),
    "something_new": told(NOTHING, text=WORDS),
}
STORIES = st.lists(st.sampled_from(sorted(FACTS)).flatmap(lambda name: st.tuples(st.just(name), FACTS[name])))


class Ledger(SpanProcessor):
    """What was begun, and what was ended."""

    def __init__(self) -> None:
        self.begun: list[Any] = []
        self.ended: list[ReadableSpan] = []

    def on_start(self, span: Any, parent_context: Context | None = None) -> None:
        self.begun.append(span)

    def on_end(self, span: ReadableSpan) -> None:
        self.ended.append(span)


@given(STORIES)
def test_every_span_is_ended_within_its_call_and_no_word_is_in_it(story: list[tuple[str, dict[str, Any]]]) -> None:
    ledger = Ledger()
    provider = TracerProvider(shutdown_on_exit=False)
    provider.add_span_processor(ledger)

    async def tell() -> None:
        call = CallTrace(provider.get_tracer("patter_trio"), INFO, speaking(PIPELINE), at=0.0, epoch=EPOCH_UNIX_S)
        for at, (name, payload) in enumerate(story, start=10):
            call.on_event(name, float(at), payload)
        call.on_event("call_end", 1000.0, {"outcome": "completed", "metrics": None})
        assert not call._complained

    trio.run(tell)
    assert {span.context.span_id for span in ledger.begun} == {span.context.span_id for span in ledger.ended}
    [call] = [span for span in ledger.ended if span.parent is None]
    for span in ledger.ended:
        assert span.context.trace_id == call.context.trace_id
        assert call.start_time <= span.start_time <= span.end_time <= call.end_time
        assert "secret" not in span.to_json()


def test_the_names_of_all_facts_are_tried() -> None:
    heeded = {name.removeprefix("_on_") for name in dir(CallTrace) if name.startswith("_on_")}
    assert heeded <= set(FACTS)
