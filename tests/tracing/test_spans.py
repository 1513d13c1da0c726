"""The spans of a call: which there are, their parents, and their exact begin and end."""

import json
import logging
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from functools import partial
from typing import Any

import attrs
import pytest
import trio
import trio.testing
from opentelemetry import trace
from opentelemetry.trace import SpanKind, StatusCode

from patter_trio import Patter, PipelineHooks, in_thread
from patter_trio.abc import LanguageModel, Message
from patter_trio.carriers.twilio import Twilio
from patter_trio.errors import ProviderError
from patter_trio.events.payloads import EDGES
from patter_trio.pytest_plugin import CallSimulator
from patter_trio.server.calls import open_call_server
from patter_trio.server.connection import serve_connection
from patter_trio.server.options import Seams
from patter_trio.testing import ScriptedLLM, ScriptedSTT, ScriptedTTS, SimulatedTwilio
from patter_trio.testing.simulation.caller import SimulatedCaller
from patter_trio.testing.simulation.simulator import EPOCH_UNIX_S
from tests.kit.call import PIPELINE, At, Backend, FaultyVAD, break_down
from tests.kit.tracing import REPLY, Trace, seconds, speaking

pytestmark = pytest.mark.both_backends

PUBLIC = "http://agent.test"
# Requests find nobody at that port of this machine, and fail at once.
CARRIER = Twilio("AC1", "hush", api_url="http://127.0.0.1:1")
VOICE = {"patter.tts.provider": "scripted"}


async def asks(caller: SimulatedCaller) -> None:
    """Ask one question, from second 1 to 2, and hear its answer."""
    await caller.at(1.0)
    await caller.speaks("What are your hours?", seconds=1.0)
    await caller.hears()


# What there is in every call ------------------------------------------------------------------------------------------
async def test_call_span_lasts_from_announcement_to_end(
    call_simulator: CallSimulator, traced: Trace, backend: Backend
) -> None:
    """Each call has one span, which lasts from its announcement to its end."""
    async with call_simulator(speaking(backend)) as caller:
        await asks(caller)
    call = traced.one("patter.call")
    assert (call.kind, call.parent, call.status.status_code) == (SpanKind.SERVER, None, StatusCode.UNSET)
    attributes = dict(call.attributes or {})
    measured = {name for name in attributes if name.startswith(("patter.cost.", "patter.latency."))}
    assert attributes["patter.cost.total"] == pytest.approx(caller.metrics.cost.total)
    assert attributes["patter.latency.avg.total_ms"] == caller.metrics.latency_avg.total_ms
    assert {name: value for name, value in attributes.items() if name not in measured} == {
        "patter.call.id": caller.carrier.call_id,
        "patter.call.direction": "inbound",
        "patter.call.caller": "+1555***0001",
        "patter.call.callee": "+1555***0002",
        "patter.telephony.provider": "twilio",
        "patter.call.outcome": "caller_hung_up",
        "patter.call.turns": 1,
    }
    assert seconds(call.start_time) == pytest.approx(caller.carrier.media_start, abs=1e-9)
    assert seconds(call.end_time) == pytest.approx(caller.times("call_end")[0], abs=1e-9)
    assert {span.context.trace_id for span in traced.spans} == {call.context.trace_id}


async def test_turn_edges_are_the_documented_span_events(
    call_simulator: CallSimulator, traced: Trace, backend: Backend
) -> None:
    """The seven edges of a normal turn appear as span events, as the documentation lists them."""
    async with call_simulator(speaking(backend)) as caller:
        await asks(caller)
    speaker = VOICE if backend.is_pipeline else {"patter.engine": "scripted"}
    assert traced.events() == [
        (1.06, "patter.event.user_speech_started", {"patter.audio.offset_ms": 1000, "patter.vad.confidence": 1.0}),
        (2.5, "patter.event.user_speech_ended", {"patter.speech.duration_ms": 1000}),
        (
            2.5,
            "patter.event.user_speech_eos",
            {"patter.eos.trigger": "vad_silence", "patter.eos.trailing_silence_ms": 500},
        ),
        (
            2.6,
            "patter.event.llm_first_token",
            {"gen_ai.request.model": "scripted", "gen_ai.provider.name": "scripted", "patter.turn.idx": 1},
        ),
        (2.971429, "patter.event.tts_first_audio", {"patter.turn.idx": 1, **VOICE}),
        (2.971429, "patter.event.agent_speech_started", {"patter.turn.idx": 1, **speaker}),
        (
            5.9715,
            "patter.event.agent_speech_ended",
            {"patter.turn.idx": 1, "patter.speech.duration_ms": 3000, "patter.turn.interrupted": False},
        ),
    ]
    reported = [at for at, name, _ in caller.events if name in EDGES]
    assert [at for at, _, _ in traced.events()] == pytest.approx(reported, abs=1e-6)


async def test_turn_part_spans_are_children_with_times(
    call_simulator: CallSimulator, traced: Trace, backend: Backend
) -> None:
    """The spans of the parts of a normal turn are children of the call span and have the right times."""
    async with call_simulator(speaking(backend, first_message="Hello.")) as caller:
        await caller.hears()
        await caller.at(4.0)
        await caller.speaks("What are your hours?", seconds=1.0)
        await caller.hears()
    if backend.is_engine:  # which hears, thinks and speaks in one
        assert traced.tree() == [
            ("", "patter.call", 0.0, 8.9715),
            ("patter.call", "patter.endpoint", 5.0, 5.5),
            ("patter.call", "chat scripted", 5.5, 6.177),
        ]
        return
    assert traced.tree() == [
        ("patter.call", "patter.tts", 0.0, 0.35),
        ("", "patter.call", 0.0, 8.9715),
        ("patter.call", "patter.stt", 4.0, 5.2),
        ("patter.call", "patter.endpoint", 5.0, 5.5),
        ("patter.call", "chat scripted", 5.5, 5.9),
        ("patter.call", "patter.tts", 5.771429, 6.177),
    ]


async def test_llm_span_follows_genai_conventions(
    call_simulator: CallSimulator, traced: Trace, backend: Backend
) -> None:
    """The span of the LLM has the attributes of the GenAI conventions."""
    async with call_simulator(speaking(backend)) as caller:
        await asks(caller)
    chat = traced.one("chat scripted")
    assert chat.kind == SpanKind.CLIENT
    assert dict(chat.attributes or {}) == {
        "gen_ai.operation.name": "chat",
        "gen_ai.provider.name": "scripted",
        "gen_ai.request.model": "scripted",
        "gen_ai.request.stream": True,
        "gen_ai.conversation.id": caller.carrier.call_id,
        "gen_ai.response.time_to_first_chunk": 0.1,
        "patter.turn.idx": 1,
    }
    assert dict(traced.one("patter.endpoint").attributes or {}) == {
        "patter.eos.trigger": "vad_silence",
        "patter.eos.trailing_silence_ms": 500,
        "patter.turn.idx": 1,
    }
    if backend.is_engine:
        assert not traced.all("patter.stt") + traced.all("patter.tts")
        return
    assert dict(traced.one("patter.stt").attributes or {}) == {
        "patter.stt.provider": "scripted",
        "patter.stt.model": "scripted",
        "patter.turn.idx": 1,
    }
    assert dict(traced.one("patter.tts").attributes or {}) == {
        "patter.tts.provider": "scripted",
        "patter.tts.model": "scripted",
        "patter.turn.idx": 1,
    }


@pytest.mark.pipeline("on_call_start gives other providers")
async def test_spans_name_providers_chosen_in_on_call_start(
    call_simulator: CallSimulator, traced: Trace, backend: Backend
) -> None:
    """The spans name the providers that on_call_start chose for the call."""
    own = {
        "stt": ScriptedSTT(provider="ear", model="e1"),
        "tts": ScriptedTTS(provider="mouth", model="m1"),
        "llm": ScriptedLLM(["Yes."], provider="vendor", model="w1"),
    }
    async with call_simulator(speaking(backend), on_call_start=lambda event: own) as caller:
        await asks(caller)
    for span, part, provider, model in (("patter.stt", "stt", "ear", "e1"), ("patter.tts", "tts", "mouth", "m1")):
        attributes = traced.one(span).attributes or {}
        assert (attributes[f"patter.{part}.provider"], attributes[f"patter.{part}.model"]) == (provider, model)
    assert (traced.one("chat w1").attributes or {})["gen_ai.provider.name"] == "vendor"


@pytest.mark.pipeline("hooks are beside a pipeline alone")
async def test_call_span_carries_hook_durations(call_simulator: CallSimulator, traced: Trace, backend: Backend) -> None:
    """The call span carries the count and the durations of each hook."""

    async def redact(sentence: str) -> str:
        await trio.sleep(0.2 if "nine" in sentence else 0.1)
        return sentence

    hooks = PipelineHooks(after_llm={"on_sentence": redact}, before_llm=lambda messages: None)
    async with call_simulator(speaking(backend, "We open at nine. We close at five.", hooks=hooks)) as caller:
        await asks(caller)
    hooked = {k: v for k, v in (traced.one("patter.call").attributes or {}).items() if k.startswith("patter.hook.")}
    assert hooked == {
        "patter.hook.before_llm.count": 1,
        "patter.hook.before_llm.total_ms": 0.0,
        "patter.hook.before_llm.max_ms": 0.0,
        "patter.hook.after_llm.on_sentence.count": 2,
        "patter.hook.after_llm.on_sentence.total_ms": 300.0,
        "patter.hook.after_llm.on_sentence.max_ms": 200.0,
    }


@pytest.mark.pipeline("on_message answers")
async def test_on_message_span_names_its_function(
    call_simulator: CallSimulator, traced: Trace, backend: Backend
) -> None:
    """The span of on_message names its function and lasts 0.25 s, and a span that the function opens is its child."""

    async def reception(event: dict[str, Any]) -> str:
        with trace.get_tracer("app").start_as_current_span("look up"):
            await trio.sleep(0.25)
        return "Certainly."

    async with call_simulator(speaking(backend, llm=None), on_message=reception) as caller:
        await asks(caller)
    [span] = [span for span in traced.spans if span.name.startswith("on_message ")]
    assert dict(span.attributes or {}) == {"code.function.name": "reception", "patter.turn.idx": 1}
    assert span.kind == SpanKind.INTERNAL
    assert seconds(span.end_time) - seconds(span.start_time) == pytest.approx(0.25)
    assert traced.parent(traced.one("look up")) == span.name
    [(_, _, token)] = [event for event in traced.events() if event[1] == "patter.event.llm_first_token"]
    assert token["gen_ai.provider.name"] == "on_message"
    assert token["gen_ai.request.model"] == "reception"


# Turns that go otherwise ----------------------------------------------------------------------------------------------
async def test_barge_in_span_runs_from_voice_to_silence(
    call_simulator: CallSimulator, traced: Trace, backend: Backend
) -> None:
    """The barge-in span lasts from the voice over the agent until the agent is silent."""
    llm = ScriptedLLM([REPLY, "Yes."], first_token=0.55, duration=3.2)
    async with call_simulator(speaking(backend, llm=llm)) as caller:
        await caller.at(1.0)
        await caller.speaks("What are your hours?", seconds=1.0)
        await caller.at(5.5)
        await caller.speaks("Stop!", seconds=0.5)
        await caller.hears()
    bargein = traced.one("patter.bargein")
    assert (seconds(bargein.start_time), seconds(bargein.end_time)) == (5.5, 5.75)
    ended = [event for event in caller.payloads("agent_speech_ended") if event["interrupted"]]
    assert dict(bargein.attributes or {}) == {
        "patter.turn.idx": 1,
        "patter.speech.duration_ms": ended[0]["speech_duration_ms"],
    }
    cut = traced.all("chat scripted")[0]
    assert seconds(cut.end_time) == 5.75
    assert (cut.attributes or {})["patter.cut.reason"] == "barge-in"
    assert cut.status.status_code == StatusCode.UNSET
    interrupted = [event for _, name, event in traced.events() if name == "patter.event.agent_speech_ended"]
    assert [event["patter.turn.interrupted"] for event in interrupted] == [True, False]


async def test_retracted_unheard_answer_makes_no_barge_in_span(
    call_simulator: CallSimulator, traced: Trace, backend: Backend
) -> None:
    """An answer that is retracted before the caller hears it produces no barge-in span."""
    llm = ScriptedLLM(["Two rooms, certainly."], first_token=0.8)
    async with call_simulator(speaking(backend, llm=llm)) as caller:
        await caller.speaks("A room", seconds=0.5)
        await caller.at(1.2)
        await caller.speaks("or rather two", seconds=0.6)
        await caller.hears()
    first, second = traced.all("chat scripted")
    assert (first.attributes or {})["patter.cut.reason"] == "retracted"
    assert "patter.cut.reason" not in (second.attributes or {})
    assert not traced.all("patter.bargein")
    heard = [1, 2] if backend.is_pipeline else []
    assert [(span.attributes or {})["patter.turn.idx"] for span in traced.all("patter.stt")] == heard


@pytest.mark.pipeline("only an STT tells a cough from words")
async def test_a_cough_leaves_its_edges_and_no_utterance(
    call_simulator: CallSimulator, traced: Trace, backend: Backend
) -> None:
    """A cough leaves two span events of its voice, and no span of an utterance."""
    async with call_simulator(speaking(backend)) as caller:
        await caller.at(1.0)
        await caller.coughs(0.2)
        await caller.at(3.0)
    assert [name for _, name, _ in traced.events()] == [
        "patter.event.user_speech_started",
        "patter.event.user_speech_ended",
    ]
    assert [span.name for span in traced.spans] == ["patter.call"]


@pytest.mark.pipeline("only an STT tells a cough from words")
async def test_early_cough_stays_outside_later_stt_span(
    call_simulator: CallSimulator, traced: Trace, backend: Backend
) -> None:
    """The STT span of an utterance excludes a cough long before it."""
    async with call_simulator(speaking(backend)) as caller:
        await caller.at(1.0)
        await caller.coughs(0.2)
        await caller.at(6.0)
        await caller.coughs(0.2)
        await caller.at(6.5)
        await caller.speaks("What are your hours?", seconds=1.0)
        await caller.hears()
    assert seconds(traced.one("patter.stt").start_time) == 6.0  # the second cough may have been its beginning


@pytest.mark.pipeline("about the STT")
async def test_late_words_belong_to_their_own_voice(
    call_simulator: CallSimulator, traced: Trace, backend: Backend
) -> None:
    """Late words belong to the STT span of the voice that said them."""
    async with call_simulator(speaking(backend, stt=ScriptedSTT(interim_every=0.2, final_delay=1.8))) as caller:
        await caller.at(1.0)
        await caller.speaks("What are your hours?", seconds=1.0)
        await caller.at(3.3)
        await caller.coughs(0.2)
        await caller.hears()
    assert seconds(traced.all("patter.stt")[0].start_time) == 1.0


# Failures -------------------------------------------------------------------------------------------------------------
async def test_llm_failure_marks_its_span_not_the_call(
    call_simulator: CallSimulator, traced: Trace, backend: Backend
) -> None:
    """An LLM failure marks the span of the LLM as an error and leaves the call span unmarked."""
    async with call_simulator(speaking(backend, llm=ScriptedLLM([REPLY], fail_after=6))) as caller:
        await asks(caller)
    chat = traced.one("chat scripted")
    assert chat.status.status_code == StatusCode.ERROR
    assert chat.status.description is None  # a message may quote what was said
    assert (chat.attributes or {})["error.type"] == "ProviderError"
    if backend.is_pipeline:
        voice = traced.all("patter.tts")[0]  # it has spoken the sentence that was finished
        assert voice.status.status_code == StatusCode.UNSET
        assert "patter.cut.reason" not in (voice.attributes or {})
    assert traced.one("patter.call").status.status_code == StatusCode.UNSET


@pytest.mark.pipeline("about the TTS")
async def test_tts_failure_marks_its_span_not_the_llm(
    call_simulator: CallSimulator, traced: Trace, backend: Backend
) -> None:
    """A TTS failure marks the span of the TTS as an error and leaves the LLM span unmarked."""
    agent = speaking(backend, llm=ScriptedLLM([REPLY], duration=4.0), tts=ScriptedTTS(fail_after=0))
    async with call_simulator(agent) as caller:
        await caller.at(1.0)
        await caller.speaks("What are your hours?", seconds=1.0)
        await caller.at(10.0)
    voice, apology = traced.all("patter.tts")
    assert (voice.attributes or {})["error.type"] == (apology.attributes or {})["error.type"] == "ProviderError"
    chat = traced.one("chat scripted")
    assert chat.status.status_code == StatusCode.UNSET
    assert (chat.attributes or {})["patter.cut.reason"] == "failed"


async def test_llm_timeout_is_recorded_as_timeout(
    call_simulator: CallSimulator, traced: Trace, backend: Backend
) -> None:
    """The span of an LLM that does not answer in time records a timeout."""
    async with call_simulator(speaking(backend, llm=ScriptedLLM([REPLY], hang_after=0))) as caller:
        await asks(caller)
    chat = traced.one("chat scripted")
    assert (chat.status.status_code, (chat.attributes or {})["error.type"]) == (StatusCode.ERROR, "timeout")
    assert seconds(chat.end_time) - seconds(chat.start_time) == pytest.approx(15.0)


@pytest.mark.pipeline("on_message answers")
async def test_callback_error_is_recorded_by_class(
    call_simulator: CallSimulator, traced: Trace, backend: Backend
) -> None:
    """A trace records a callback error by the class of the exception."""

    async def reception(event: dict[str, Any]) -> str:
        raise KeyError(event["text"])

    async with call_simulator(speaking(backend, llm=None), on_message=reception) as caller:
        await asks(caller)
    [span] = [span for span in traced.spans if span.name.startswith("on_message ")]
    assert (span.status.status_code, (span.attributes or {})["error.type"]) == (StatusCode.ERROR, "KeyError")


@attrs.frozen
class Buggy(LanguageModel):
    """An LLM with a bug: it raises a RuntimeError that quotes the caller."""

    provider: str = "buggy"
    model: str = "buggy"

    @asynccontextmanager
    async def stream(self, messages: Sequence[Message]) -> AsyncIterator[AsyncIterator[str]]:
        await trio.sleep(0.1)
        raise RuntimeError(messages[-1]["content"])
        yield  # type: ignore[unreachable]


async def test_bug_ends_all_spans_and_names_its_class(
    call_simulator: CallSimulator, traced: Trace, backend: Backend
) -> None:
    """A bug ends all spans, and the call span records the class of the exception."""
    vad = FaultyVAD(At("vad.feed", break_down, nth=3))
    async with call_simulator(speaking(backend, llm=ScriptedLLM([REPLY], hang_after=0), vad=vad)) as caller:
        await caller.speaks("What are your hours?", seconds=1.0)
        await caller.at(3.0)
        await caller.speaks("Hello?", seconds=0.5)
        await caller.carrier.over.wait()
    call = traced.one("patter.call")
    assert (call.attributes or {})["patter.call.outcome"] == "failed"
    assert (call.attributes or {})["error.type"] == "RuntimeError"
    assert (call.status.status_code, call.status.description) == (StatusCode.ERROR, "failed")
    assert (traced.one("chat scripted").attributes or {})["patter.cut.reason"] == "call ended"


async def test_bug_of_llm_marks_its_span_by_class(
    call_simulator: CallSimulator, traced: Trace, backend: Backend
) -> None:
    """What an LLM of the application's own raises marks the span of the LLM by its class, and not the call."""
    async with call_simulator(speaking(backend, llm=Buggy())) as caller:
        await asks(caller)
    assert (traced.one("chat buggy").attributes or {})["error.type"] == "RuntimeError"
    assert traced.one("patter.call").status.status_code == StatusCode.UNSET


@pytest.mark.pipeline("about the STT")
async def test_stt_failure_is_the_error_of_the_call(
    call_simulator: CallSimulator, traced: Trace, backend: Backend
) -> None:
    """An STT failure marks the call span as an error."""
    async with call_simulator(speaking(backend, stt=ScriptedSTT(fail_at=1.5))) as caller:
        await caller.speaks("What are your hours?", seconds=2.0)
        await caller.carrier.over.wait()
    call = traced.one("patter.call")
    assert (call.status.status_code, (call.attributes or {})["error.type"]) == (StatusCode.ERROR, "ProviderError")


async def test_hangup_mid_reply_ends_open_spans(call_simulator: CallSimulator, traced: Trace, backend: Backend) -> None:
    """A hang-up in the middle of a reply ends all open spans."""
    async with call_simulator(speaking(backend, llm=ScriptedLLM([REPLY], duration=4.0))) as caller:
        await caller.at(1.0)
        await caller.speaks("What are your hours?", seconds=1.0)
        await caller.at(5.5)
    call, chat = traced.one("patter.call"), traced.one("chat scripted")
    assert (call.attributes or {})["patter.call.outcome"] == "caller_hung_up"
    assert call.status.status_code == StatusCode.UNSET
    assert ((chat.attributes or {})["patter.cut.reason"], seconds(chat.end_time)) == ("leg down", 5.5)
    voices = [(span.attributes or {})["patter.cut.reason"] for span in traced.all("patter.tts")]
    assert voices == (["leg down"] if backend.is_pipeline else [])


# Calls beside each other, and other people's spans --------------------------------------------------------------------
async def test_concurrent_calls_have_separate_traces(
    call_simulator: CallSimulator, traced: Trace, backend: Backend
) -> None:
    """Concurrent calls have separate traces."""

    async def on_transcript(event: dict[str, Any]) -> None:
        with trace.get_tracer("app").start_as_current_span("note") as span:
            await trio.sleep(0.1)
            span.set_attribute("call", event["call_id"])

    async with (
        call_simulator(speaking(backend, first_message="Hello."), on_transcript=on_transcript) as one,
        call_simulator(speaking(backend), on_transcript=on_transcript) as two,
        trio.open_nursery() as nursery,
    ):
        nursery.start_soon(partial(one.speaks, "What are your hours?", seconds=1.0))
        nursery.start_soon(partial(two.speaks, "Anyone there?", seconds=1.1))
        nursery.start_soon(two.hears)
        await one.hears()
    calls = {span.context.trace_id: (span.attributes or {})["patter.call.id"] for span in traced.all("patter.call")}
    assert sorted(calls.values()) == sorted([one.carrier.call_id, two.carrier.call_id])
    for span in traced.all("note"):
        assert traced.parent(span) == "patter.call"
        assert calls[span.context.trace_id] == (span.attributes or {})["call"]
    for span in traced.all("chat scripted"):
        assert calls[span.context.trace_id] == (span.attributes or {})["gen_ai.conversation.id"]
    assert len(traced.all("note")) >= 3


@attrs.frozen
class Asking(LanguageModel):
    """An LLM that opens a span of its own, as an instrumented client does."""

    provider: str = "asking"
    model: str = "asking"

    @asynccontextmanager
    async def stream(self, messages: Sequence[Message]) -> AsyncIterator[AsyncIterator[str]]:
        with trace.get_tracer("client").start_as_current_span("POST"):
            yield self._answer()

    async def _answer(self) -> AsyncIterator[str]:
        await trio.sleep(0.1)
        yield "Yes."


async def test_callback_and_provider_spans_are_call_children(
    call_simulator: CallSimulator, traced: Trace, backend: Backend
) -> None:
    """The spans that callbacks and providers open are children of the call span."""

    def opening(name: str) -> Any:
        async def callback(event: dict[str, Any]) -> None:
            with trace.get_tracer("app").start_as_current_span(name):
                await trio.sleep(0.01)

        return callback

    phone = Patter()
    phone.on_user_speech_eos = opening("eos")
    phone.on_audio_out = in_thread(lambda event: trace.get_tracer("app").start_span("thread").end())
    async with call_simulator(
        speaking(backend, llm=Asking()),
        phone=phone,
        on_call_start=opening("start"),
        on_transcript=opening("transcript"),
        on_call_end=opening("end"),
    ) as caller:
        await asks(caller)
    theirs = [span for span in traced.spans if "." not in span.name and span.name != "chat asking"]
    assert {(span.name, traced.parent(span)) for span in theirs} == {
        ("start", "patter.call"),
        ("eos", "patter.call"),
        ("thread", "patter.call"),
        ("transcript", "patter.call"),
        ("end", "patter.call"),
        ("POST", "chat asking"),
    }


async def test_ambient_span_does_not_adopt_calls(
    call_simulator: CallSimulator, traced: Trace, backend: Backend
) -> None:
    """A span that is current around the server does not become the parent of its calls."""
    with trace.get_tracer("app").start_as_current_span("the whole day"):
        async with call_simulator(speaking(backend)) as caller:
            await asks(caller)
    day, call = traced.one("the whole day"), traced.one("patter.call")
    assert call.parent is None
    assert call.context.trace_id != day.context.trace_id


# What spans never contain ---------------------------------------------------------------------------------------------
async def test_spans_contain_no_speech_or_full_number(
    call_simulator: CallSimulator, traced: Trace, backend: Backend
) -> None:
    """The spans contain no word of either side, digit, variable, quoting error or whole phone number."""

    def answers(messages: Sequence[Message]) -> str:
        if "marzipan" in messages[-1]["content"]:
            raise ProviderError(f"cannot answer {messages[-1]['content']}")
        return "Lavender."

    agent = speaking(
        backend,
        llm=ScriptedLLM(answers),
        stt=ScriptedSTT(interim_every=0.2),
        system_prompt="Know of {secret}.",
        variables={"secret": "saffron"},
        first_message="Welcome to saffron.",
    )
    started: list[dict[str, Any]] = []
    async with call_simulator(agent, on_call_start=started.append) as caller:
        await caller.hears()
        await caller.speaks("Turmeric please", seconds=1.0)
        await caller.hears()
        await caller.presses("4711")
        await caller.speaks("And marzipan", seconds=1.0)
        await caller.hears()
    exported = "\n".join(span.to_json() for span in traced.spans).lower()
    assert len(traced.all("chat scripted")) == 2
    for said in ("turmeric", "marzipan", "lavender", "saffron", "welcome", "sorry", "brief", "4711"):
        assert said not in exported
    for number in (started[0]["caller"], started[0]["callee"]):
        assert len(number) > 10
        assert number.lstrip("+") not in exported


async def test_attributes_are_of_kinds_that_every_exporter_takes(
    call_simulator: CallSimulator, traced: Trace, caplog: pytest.LogCaptureFixture, backend: Backend
) -> None:
    """Each attribute is a string, a number or a boolean, and a traced call logs no warning."""
    async with call_simulator(speaking(backend)) as caller:
        await asks(caller)
    values = [value for span in traced.spans for value in (span.attributes or {}).values()]
    values += [value for _, _, attributes in traced.events() for value in attributes.values()]
    assert {type(value) for value in values} <= {str, int, float, bool}
    assert json.dumps(values)
    assert not [record for record in caplog.records if record.levelno >= logging.WARNING]


async def test_unconnected_call_has_one_span_when_reannounced(
    autojump_clock: trio.testing.MockClock, traced: Trace
) -> None:
    """A call that never connects has one span that says so, however often the webhook announces it."""
    async with (
        open_call_server(
            Patter()._serve_options(speaking(PIPELINE), public_url=PUBLIC, carrier=CARRIER), Seams(epoch=EPOCH_UNIX_S)
        ) as call_server,
        trio.open_nursery() as nursery,
    ):

        async def connect() -> trio.abc.Stream:
            ours, theirs = trio.testing.memory_stream_pair()
            nursery.start_soon(serve_connection, call_server.context, theirs)
            await trio.lowlevel.checkpoint()
            return ours

        first, second = (
            SimulatedTwilio(connect, PUBLIC, account_sid="AC1", auth_token="hush", call_sid=f"CA{number:032d}")
            for number in (1, 2)
        )
        await trio.sleep(1.0)
        await first.announce()
        await trio.sleep(1.0)
        await first.announce()
        await trio.sleep(90.0)
        await second.announce()
    late, closed = traced.all("patter.call")
    assert (seconds(late.start_time), seconds(late.end_time)) == (1.0, 62.0)
    assert (late.status.status_code, (late.attributes or {})["error.type"]) == (StatusCode.ERROR, "never connected")
    assert (closed.attributes or {})["patter.call.outcome"] == "cancelled"
    assert closed.status.status_code == StatusCode.UNSET
