"""The facts of a call that watchers see beside its events: what its measuring is made of."""

from collections.abc import AsyncIterable, AsyncIterator
from contextlib import asynccontextmanager
from functools import partial
from typing import Any

import attrs
import pytest

from patter_trio.abc import SpeechChunk, TextToSpeech, TextToSpeechSession
from patter_trio.testing import ScriptedLLM, ScriptedSTT, ScriptedTTS, ScriptedVAD
from tests.kit.call import Backend, Witness, told_events

pytestmark = pytest.mark.both_backends


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
    """Says nothing, and ends after the first sentence."""

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


async def test_a_reply_is_seen_from_its_start_to_its_last_sound(
    call_simulator: Any, witness: Witness, backend: Backend
) -> None:
    async with call_simulator(answering(backend), seams=witness.seams) as caller:
        await caller.at(0.5)
        await caller.speaks("What are your hours?", seconds=1.5)
        await caller.heard(0)
    (number,) = {payload["reply"] for name, payload in witness.seen if "reply" in payload}
    facts = witness.of_reply(number)
    assert facts[:3] == ["reply_started", "llm_started", "llm_chunk"]
    assert facts[-3:] == ["tts_chunk", "reply_heard", "reply_ended"]
    assert facts.index("llm_finished") < facts.index("tts_finished")
    said = [payload["text"] for name, payload in witness.seen if name == "llm_chunk"]
    assert "".join(said) == "We open at nine. We close at five."
    sentences = ["We open at nine.", "We close at five."] if backend.is_pipeline else []  # an engine cuts none
    assert [payload["text"] for name, payload in witness.seen if name == "sentence"] == sentences
    sent = b"".join(payload["audio"] for name, payload in witness.seen if name == "tts_chunk")
    assert len(sent) == 4.0 * 8000
    (started,) = [payload for name, payload in witness.seen if name == "reply_started"]
    assert (started["turn_idx"], started["source"]) == (1, "llm")
    assert [payload["text"] for name, payload in witness.seen if name == "words_final"] == ["What are your hours?"]


async def test_a_reply_that_was_cut_says_why_it_ended(call_simulator: Any, witness: Witness, backend: Backend) -> None:
    async with call_simulator(answering(backend), seams=witness.seams) as caller:
        await caller.at(0.5)
        await caller.speaks("What are your hours?", seconds=1.5)
        await caller.at(4.0)
        await caller.speaks("Stop!", seconds=0.5)
        await caller.heard(0)
    ended = [payload["reason"] for name, payload in witness.seen if name == "reply_ended"]
    assert ended[0] == "barge-in"


async def test_watchers_see_the_events_too_in_their_order(
    call_simulator: Any, witness: Witness, backend: Backend
) -> None:
    async with call_simulator(answering(backend), seams=witness.seams) as caller:
        await caller.at(0.5)
        await caller.speaks("What are your hours?", seconds=1.5)
        await caller.heard(0)
    told = [(name, payload) for _, name, payload in told_events(caller) if name != "call_start"]
    names = {name for name, _ in told}
    assert [(name, payload) for name, payload in witness.seen if name in names] == told


async def test_who_takes_part_and_what_edges_round_is_seen_before_it(
    call_simulator: Any, witness: Witness, backend: Backend
) -> None:
    async with call_simulator(answering(backend), seams=witness.seams) as caller:
        await caller.at(0.5)
        await caller.speaks("What are your hours?", seconds=1.5)
        await caller.heard(0)
    seen = [(name, {k: v for k, v in payload.items() if k != "call_id"}) for name, payload in witness.seen]
    names = [name for name, _ in seen]
    facts = dict(reversed(seen))  # the first of each
    part = "scripted" if backend.is_pipeline else ""
    assert facts["agent_ready"] == {
        "stt_provider": part,
        "stt_model": part,
        "tts_provider": part,
        "tts_model": part,
        "provider_mode": "pipeline" if backend.is_pipeline else "scripted",
        "llm_provider": "scripted",
        "llm_model": "scripted",
        "prompt_characters": 3,
    }
    assert facts["voice_started"]["offset"] == pytest.approx(0.5)
    assert facts["utterance_over"]["silence"] == pytest.approx(0.5)
    assert names.index("voice_started") + 1 == names.index("user_speech_started")
    assert names.index("utterance_over") + 1 == names.index("user_speech_eos")
    assert names.index("tts_first_audio") < names.index("audio_out") < names.index("agent_speech_started")
    assert names.index("metrics") > names.index("reply_ended")  # what it tells comes behind what it was told by


def failures(witness: Witness) -> list[tuple[str, str]]:
    return [(name, payload["error"]) for name, payload in witness.seen if name.endswith("_failed")]


async def asked(backend: Backend, call_simulator: Any, **options: Any) -> None:
    callbacks = {"on_message": options.pop("on_message")} if "on_message" in options else {}
    async with call_simulator(answering(backend, **options), **callbacks) as caller:
        await caller.speaks("What are your hours?", seconds=1.0)
        await caller.waits(8.0)


async def test_a_reply_says_which_mind_answers_and_fixed_words_have_none(
    call_simulator: Any, witness: Witness, backend: Backend
) -> None:
    await asked(backend, partial(call_simulator, seams=witness.seams), first_message="Hello.")
    started = [payload for name, payload in witness.seen if name == "reply_started"]
    assert [(one["source"], one.get("llm_provider"), one.get("model")) for one in started] == [
        ("text", None, None),
        ("llm", "scripted", "scripted"),
    ]


@pytest.mark.parametrize("after", [0, 2])
async def test_a_mind_that_fails_is_named_by_the_class_of_its_error(
    call_simulator: Any, witness: Witness, backend: Backend, after: int
) -> None:
    await asked(
        backend, partial(call_simulator, seams=witness.seams), llm=ScriptedLLM(["We open at nine."], fail_after=after)
    )
    assert failures(witness) == [("llm_failed", "ProviderError")]


@pytest.mark.pipeline("on_message answers")
async def test_an_application_that_raises_is_named_by_the_class_of_its_own_error(
    call_simulator: Any, witness: Witness, backend: Backend
) -> None:
    def reception(event: dict[str, Any]) -> str:
        raise KeyError("hours")

    await asked(backend, partial(call_simulator, seams=witness.seams), llm=None, on_message=reception)
    assert failures(witness) == [("llm_failed", "KeyError")]


@pytest.mark.pipeline("of the synthesiser")
@pytest.mark.parametrize("duration", [0.3, 6.0])
async def test_a_voice_that_fails_is_what_failed_whether_or_not_the_mind_still_thinks(
    call_simulator: Any, witness: Witness, backend: Backend, duration: float
) -> None:
    """The apology fails, too."""
    llm = ScriptedLLM(["We open at nine. We close at five."], duration=duration)
    await asked(backend, partial(call_simulator, seams=witness.seams), llm=llm, tts=ScriptedTTS(fail_after=0))
    assert failures(witness) == [("tts_failed", "ProviderError")] * 2


@pytest.mark.pipeline("of the synthesiser")
async def test_a_voice_that_ends_before_its_text_is_what_failed(
    call_simulator: Any, witness: Witness, backend: Backend
) -> None:
    sentences = " ".join(f"This is sentence number {number} of many." for number in range(20))
    await asked(backend, partial(call_simulator, seams=witness.seams), llm=ScriptedLLM([sentences]), tts=Curt())
    assert failures(witness)[0] == ("tts_failed", "ProviderError")


@pytest.mark.pipeline("of the recogniser")
async def test_a_call_says_by_its_class_what_went_wrong_first(
    call_simulator: Any, witness: Witness, backend: Backend
) -> None:
    async with call_simulator(answering(backend, stt=ScriptedSTT(fail_at=0.5)), seams=witness.seams) as caller:
        await caller.speaks("What are your hours?", seconds=2.0)
        await caller.carrier.over.wait()
    assert [failure for failure in failures(witness) if failure[0] == "call_failed"] == [
        ("call_failed", "ProviderError")
    ]
