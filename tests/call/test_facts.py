"""The internal events of a call, which observers see beside its public ones: what its measuring is made of."""

from collections.abc import AsyncIterable, AsyncIterator
from contextlib import asynccontextmanager
from functools import partial
from typing import Any

import attrs
import pytest

from patter_trio.abc import SpeechChunk, TextToSpeech, TextToSpeechSession
from patter_trio.events.rendering import callback_payload
from patter_trio.metrics.internal_events import (
    AgentReady,
    CallFailed,
    LlmChunk,
    LlmFailed,
    LlmFinished,
    LlmStarted,
    ReplyEnded,
    ReplyHeard,
    ReplyStarted,
    SentenceStarted,
    SpeechHeard,
    TtsChunk,
    TtsFailed,
    TtsFinished,
    TtsFirstAudio,
    UtteranceOver,
    VoiceOnset,
    WordsFinal,
)
from patter_trio.metrics.public_events import (
    AgentSpeechStarted,
    AudioOut,
    PublicEvent,
    TurnMeasured,
    UserSpeechEos,
    UserSpeechStarted,
)
from patter_trio.testing import ScriptedLLM, ScriptedSTT, ScriptedTTS, ScriptedVAD
from tests.kit.call import Backend, Witness, reported_events

pytestmark = [pytest.mark.both_backends, pytest.mark.all_carriers]


def answering(backend: Backend, **options: Any) -> Any:
    chosen: dict[str, Any] = {
        "vad": ScriptedVAD(),
        "stt": ScriptedSTT(),
        "llm": ScriptedLLM(["We open at nine. We close at five."]),
        "tts": ScriptedTTS(duration=4.0),
    }
    return backend.agent("...", **chosen | options)


@attrs.frozen
class Curt(TextToSpeech):
    """Says nothing, and ends after the first sentence, each time."""

    provider: str = "curt"

    @asynccontextmanager
    async def open(self, *, language: str) -> AsyncIterator[TextToSpeechSession]:
        yield _Curt()


class _Curt(TextToSpeechSession):
    @asynccontextmanager
    async def speak(self, sentences: AsyncIterable[str]) -> AsyncIterator[AsyncIterator[SpeechChunk]]:
        yield self._chunks(sentences)

    async def _chunks(self, sentences: AsyncIterable[str]) -> AsyncIterator[SpeechChunk]:
        async for _ in sentences:
            break
        return
        yield


async def test_reply_events_cover_start_to_last_sound(call_simulator: Any, witness: Witness, backend: Backend) -> None:
    """The events of a reply cover the time from its start to its last sound."""
    async with call_simulator(answering(backend), seams=witness.seams) as caller:
        await caller.at(0.5)
        await caller.speaks("What are your hours?", seconds=1.5)
        await caller.heard(0)
    [started] = witness.of(ReplyStarted)
    kinds = witness.of_reply(started.reply)
    assert kinds[:3] == [ReplyStarted, LlmStarted, LlmChunk]
    assert [kind for kind in kinds[-4:] if kind is not SpeechHeard][-3:] == [TtsChunk, ReplyHeard, ReplyEnded]
    assert kinds.index(LlmFinished) < kinds.index(TtsFinished)
    assert "".join(chunk.text for chunk in witness.of(LlmChunk)) == "We open at nine. We close at five."
    sentences = ["We open at nine.", "We close at five."] if backend.is_pipeline else []  # an engine cuts none
    assert [sentence.text for sentence in witness.of(SentenceStarted)] == sentences
    assert len(b"".join(chunk.audio for chunk in witness.of(TtsChunk))) == 4.0 * 8000
    assert (started.turn_idx, started.source) == (1, "llm")
    assert witness.of(WordsFinal) == [WordsFinal("What are your hours?")]


async def test_cut_reply_event_states_end_reason(call_simulator: Any, witness: Witness, backend: Backend) -> None:
    """The end event of a cut reply states why the reply ended."""
    async with call_simulator(answering(backend), seams=witness.seams) as caller:
        await caller.at(0.5)
        await caller.speaks("What are your hours?", seconds=1.5)
        await caller.at(4.0)
        await caller.speaks("Stop!", seconds=0.5)
        await caller.heard(0)
    assert witness.of(ReplyEnded)[0].reason == "barge-in"


async def test_observers_see_public_events_in_order(call_simulator: Any, witness: Witness, backend: Backend) -> None:
    """Observers see the public events of a call in the order and with the payloads of the callbacks."""
    async with call_simulator(answering(backend), seams=witness.seams) as caller:
        await caller.at(0.5)
        await caller.speaks("What are your hours?", seconds=1.5)
        await caller.heard(0)
    reported = [(name, payload) for _, name, payload in reported_events(caller) if name != "call_start"]
    seen = [event for event in witness.seen if isinstance(event, PublicEvent)]
    assert [(event.name, callback_payload(event, caller.carrier.call_id)) for event in seen] == reported


async def test_ready_and_edge_events_precede_reply_events(
    call_simulator: Any, witness: Witness, backend: Backend
) -> None:
    """The events for the providers and for the edges of speech precede the events of the reply."""
    async with call_simulator(answering(backend), seams=witness.seams) as caller:
        await caller.at(0.5)
        await caller.speaks("What are your hours?", seconds=1.5)
        await caller.heard(0)
    kinds = [type(event) for event in witness.seen]
    part = "scripted" if backend.is_pipeline else ""
    assert witness.of(AgentReady) == [
        AgentReady(
            stt_provider=part,
            stt_model=part,
            tts_provider=part,
            tts_model=part,
            llm_provider="scripted",
            llm_model="scripted",
            provider_mode="pipeline" if backend.is_pipeline else "scripted",
            prompt_characters=3,
        )
    ]
    assert witness.of(VoiceOnset)[0].offset == pytest.approx(0.5)
    assert witness.of(UtteranceOver)[0].silence == pytest.approx(0.5)
    assert kinds.index(VoiceOnset) + 1 == kinds.index(UserSpeechStarted)
    assert kinds.index(UtteranceOver) + 1 == kinds.index(UserSpeechEos)
    assert kinds.index(TtsFirstAudio) < kinds.index(AudioOut) < kinds.index(AgentSpeechStarted)
    assert kinds.index(TurnMeasured) > kinds.index(ReplyEnded)  # a turn is reported behind the event that ended it


def failures(witness: Witness) -> list[tuple[type, str]]:
    failed = [event for event in witness.seen if isinstance(event, LlmFailed | TtsFailed | CallFailed)]
    return [(type(event), event.error) for event in failed]


async def asked(backend: Backend, call_simulator: Any, **options: Any) -> None:
    callbacks = {"on_message": options.pop("on_message")} if "on_message" in options else {}
    async with call_simulator(answering(backend, **options), **callbacks) as caller:
        await caller.speaks("What are your hours?", seconds=1.0)
        await caller.waits(8.0)


async def test_reply_event_names_llm_except_for_fixed_text(
    call_simulator: Any, witness: Witness, backend: Backend
) -> None:
    """A reply event names the answering LLM, and the event of a fixed text names none."""
    await asked(backend, partial(call_simulator, seams=witness.seams), first_message="Hello.")
    assert [(started.source, started.llm_provider, started.model) for started in witness.of(ReplyStarted)] == [
        ("text", "", ""),
        ("llm", "scripted", "scripted"),
    ]


@pytest.mark.parametrize("after", [0, 2])
async def test_llm_failure_event_names_error_class(
    call_simulator: Any, witness: Witness, backend: Backend, after: int
) -> None:
    """The event of an LLM failure names the class of the error."""
    await asked(
        backend,
        partial(call_simulator, seams=witness.seams),
        llm=ScriptedLLM(["We open at nine."], fail_after=after),
    )
    assert failures(witness) == [(LlmFailed, "ProviderError")]


@pytest.mark.pipeline("on_message answers")
async def test_application_error_event_names_its_own_class(
    call_simulator: Any, witness: Witness, backend: Backend
) -> None:
    """The event of an application failure names the class of the application's own exception."""

    def reception(event: dict[str, Any]) -> str:
        raise KeyError("hours")

    await asked(
        backend,
        partial(call_simulator, seams=witness.seams),
        llm=None,
        on_message=reception,
    )
    assert failures(witness) == [(LlmFailed, "KeyError")]


@pytest.mark.pipeline("about the TTS")
@pytest.mark.parametrize("duration", [0.3, 6.0])
async def test_tts_failure_event_is_independent_of_llm_progress(
    call_simulator: Any, witness: Witness, backend: Backend, duration: float
) -> None:
    """A failing TTS makes one failure event for the reply and one for the apology, early or late in the LLM's text."""
    llm = ScriptedLLM(["We open at nine. We close at five."], duration=duration)
    await asked(
        backend,
        partial(call_simulator, seams=witness.seams),
        llm=llm,
        tts=ScriptedTTS(fail_after=0),
    )
    assert failures(witness) == [(TtsFailed, "ProviderError")] * 2


@pytest.mark.pipeline("about the TTS")
async def test_tts_ending_early_is_reported_as_failure(call_simulator: Any, witness: Witness, backend: Backend) -> None:
    """The failure event names the TTS if the TTS ends before its text."""
    sentences = " ".join(f"This is sentence number {number} of many." for number in range(20))
    await asked(
        backend,
        partial(call_simulator, seams=witness.seams),
        llm=ScriptedLLM([sentences]),
        tts=Curt(),
    )
    assert failures(witness)[0] == (TtsFailed, "NothingCame")


@pytest.mark.pipeline("about the STT")
async def test_call_failure_event_names_first_error_class(
    call_simulator: Any, witness: Witness, backend: Backend
) -> None:
    """The failure event of a call names the class of the first error."""
    async with call_simulator(answering(backend, stt=ScriptedSTT(fail_at=0.5)), seams=witness.seams) as caller:
        await caller.speaks("What are your hours?", seconds=2.0)
        await caller.carrier.over.wait()
    assert [failure for failure in failures(witness) if failure[0] == CallFailed] == [(CallFailed, "ProviderError")]
