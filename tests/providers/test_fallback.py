"""Fallback, in virtual time: which provider is asked at which instant, and what the caller hears."""

import logging
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any

import attrs
import pytest
import trio
from trio.testing import MockClock

from patter_trio import ConfigurationError, Fallback, Patter, ProviderError
from patter_trio.abc import LanguageModel, Message, SpeechToText, TextToSpeech
from patter_trio.audio.formats import AudioFormat, Encoding
from patter_trio.errors import ProviderTimeout
from patter_trio.pytest_plugin import CallSimulator
from patter_trio.testing import (
    ScriptedLLM,
    ScriptedSTT,
    ScriptedTTS,
    ScriptedVAD,
    check_llm,
    check_stt,
    check_tts,
    tool_call,
)
from patter_trio.testing.conformance.bench import findings
from patter_trio.testing.conformance.llm import QUESTIONS
from patter_trio.testing.conformance.stt import SttBench
from patter_trio.testing.conformance.tts import TtsBench

WELL = ScriptedLLM(["The second one answers."], model="second", first_token=0.1, duration=0.3)
FAILING = ScriptedLLM(["The first one answers."], model="first", fail_after=0)


async def answer(llm: LanguageModel) -> str:
    async with llm.stream(QUESTIONS[0]) as pieces:
        return "".join([piece async for piece in pieces])


async def speech(tts: TextToSpeech, *sentences: str) -> str:
    bench = TtsBench(TextToSpeech, lambda: tts, texts=[sentences])
    return (await bench.use(tts)).text


async def hearing(stt: SpeechToText) -> str:
    return await SttBench(SpeechToText, lambda: stt).use(stt)


# LLMs -----------------------------------------------------------------------------------------------------------------
async def test_second_llm_answers_when_the_first_fails(autojump_clock: MockClock) -> None:
    """The second LLM answers when the first one fails."""
    assert await answer(Fallback(FAILING, WELL)) == "The second one answers."
    assert trio.current_time() == pytest.approx(0.1 + 0.1 + 0.3)  # it fails with its first token


async def test_healthy_first_llm_is_the_only_one_asked(autojump_clock: MockClock) -> None:
    """The fallback asks only the first LLM while that one is healthy."""
    first = ScriptedLLM(["One."])
    second = ScriptedLLM(["Two."], model="second")
    assert await answer(Fallback(first, second)) == "One."
    assert (len(first.requests), len(second.requests)) == (1, 0)


async def test_silent_llm_is_given_up_after_patience(autojump_clock: MockClock) -> None:
    """The fallback gives up a silent LLM after the patience and asks the next one."""
    silent = ScriptedLLM(["One."], hang_after=0)
    assert await answer(Fallback(silent, WELL, patience=2.0)) == "The second one answers."
    assert trio.current_time() == pytest.approx(2.0 + 0.1 + 0.3)


async def test_failed_llm_is_skipped_until_recovery_time(autojump_clock: MockClock) -> None:
    """The fallback skips a failed LLM until its recovery time has passed."""
    llm = Fallback(FAILING, WELL, recover_after=30.0)
    asked = []
    for at in (0.0, 10.0, 30.0, 30.5, 61.0):
        await trio.sleep_until(at)
        before = len(FAILING.requests)
        await answer(llm)
        asked.append(len(FAILING.requests) - before)
    # It failed at 0.1 s, and again at 30.6 s.
    assert asked == [1, 0, 0, 1, 1]


async def test_provider_failure_is_known_to_other_calls(autojump_clock: MockClock) -> None:
    """A provider failure that one fallback has found spares another fallback the wait."""
    silent = ScriptedLLM(["One."], hang_after=0, model="silent")
    await answer(Fallback(silent, WELL))
    began = trio.current_time()
    await answer(Fallback(silent, ScriptedLLM(["Three."], first_token=0.1, duration=0.3)))
    assert trio.current_time() - began == pytest.approx(0.1 + 0.3)


async def test_a_mind_that_has_recovered_comes_first_again(autojump_clock: MockClock) -> None:
    """After the recovery time of 5 s the fallback asks the first LLM again."""
    ill = True

    def reply(_: Sequence[Message]) -> str:
        if ill:
            raise ProviderError("out of order")
        return "One."

    llm = Fallback(ScriptedLLM(reply), WELL, recover_after=5.0)
    assert await answer(llm) == "The second one answers."
    ill = False
    assert await answer(llm) == "The second one answers."
    await trio.sleep_until(5.0)
    assert await answer(llm) == "One."


async def test_never_after_the_first_token(autojump_clock: MockClock) -> None:
    """An LLM that fails after its second token fails the answer, and the second LLM takes the next answer."""
    breaks = ScriptedLLM(["One two three four."], fail_after=2)
    second = ScriptedLLM(["Other words."], model="second")
    heard: list[str] = []
    llm = Fallback(breaks, second)

    async def take() -> None:
        async with llm.stream(QUESTIONS[0]) as pieces:
            async for piece in pieces:
                heard.append(piece)  # noqa: PERF401 (what came before the failure counts)

    with pytest.raises(ProviderError, match="fails after 2 tokens"):
        await take()
    assert heard == ["One", " two"]
    assert not second.requests
    assert await answer(llm) == "Other words."  # but the next reply begins elsewhere


async def test_total_failure_reports_each_and_retries_all(
    autojump_clock: MockClock,
) -> None:
    """When all providers fail the error reports each failure, and the next request tries all of them again."""
    other = ScriptedLLM([""], fail_after=0, model="other")
    llm = Fallback(FAILING, other)
    for _ in range(2):
        before = len(FAILING.requests), len(other.requests)
        with pytest.raises(ProviderError, match=r"every provider failed: scripted first: .*; scripted other: "):
            await answer(llm)
        assert (len(FAILING.requests), len(other.requests)) == (before[0] + 1, before[1] + 1)


async def test_block_error_is_not_a_provider_failure(autojump_clock: MockClock) -> None:
    """An error raised inside the stream block does not count as a failure of the provider."""
    first = ScriptedLLM(["One."])
    llm = Fallback(first, WELL)
    with pytest.raises(ProviderError, match="the voice is gone"):
        async with llm.stream(QUESTIONS[0]):
            raise ProviderError("the voice is gone")
    assert await answer(llm) == "One."


async def test_a_barge_in_is_no_failure(autojump_clock: MockClock) -> None:
    """A cancelled answer does not count as a failure of its LLM."""
    llm = Fallback(ScriptedLLM(["One."], first_token=1.0), WELL)
    with trio.move_on_after(0.5):
        await answer(llm)
    assert trio.current_time() == 0.5
    assert await answer(llm) == "One."


async def test_options_are_passed_on(autojump_clock: MockClock) -> None:
    """The fallback passes the options of stream() on to its LLM."""

    @attrs.frozen
    class WithOptions(ScriptedLLM):
        given: list[Any] = attrs.field(factory=list, eq=False)

        @asynccontextmanager
        async def stream(self, messages: Sequence[Message], **options: Any) -> AsyncIterator[AsyncIterator[str]]:
            self.given.append(options)
            async with ScriptedLLM.stream(self, messages) as pieces:
                yield pieces

    first = WithOptions(["One."])
    async with Fallback(first).stream(QUESTIONS[0], tools=["a tool"]) as pieces:
        assert [piece async for piece in pieces] == ["One."]
    assert first.given == [{"tools": ["a tool"]}]


async def test_a_mind_that_cannot_be_hashed_will_do(autojump_clock: MockClock) -> None:
    """The fallback accepts an LLM that is not hashable."""

    @attrs.frozen
    class WithDict(ScriptedLLM):
        options: dict[str, str] = attrs.field(factory=dict)

    assert await answer(Fallback(WithDict(["One."], fail_after=0), WELL)) == "The second one answers."


@pytest.mark.parametrize("nothing", ["", "\n\n", "  ", "...", "😊"])
async def test_answer_of_nothing_is_a_failure(
    autojump_clock: MockClock, caplog: pytest.LogCaptureFixture, nothing: str
) -> None:
    """An LLM that answers without a word is asked once more, then the second one; one line in the log each time."""
    first = ScriptedLLM([nothing], model="first")
    assert await answer(Fallback(first, WELL)) == "The second one answers."
    assert len(first.requests) == 2
    why = "scripted first gave an answer without a word or a tool call"
    assert [record.getMessage() for record in caplog.records] == [
        f"{why}, and is tried once more",
        f"scripted first failed: {why}",
    ]


async def test_second_try_of_answer_may_succeed(autojump_clock: MockClock) -> None:
    """An LLM whose second answer has words counts as healthy, and the next one is not asked."""
    texts = ["", "Yes."]
    second = ScriptedLLM(["No."], model="second")
    assert await answer(Fallback(ScriptedLLM(lambda _: texts.pop(0), model="first"), second)) == "Yes."
    assert not second.requests


async def test_nothing_is_tried_once_more_in_all(autojump_clock: MockClock) -> None:
    """If no LLM of a fallback answers with a word, the first one is asked twice and the others once."""
    models = [ScriptedLLM([""], model=f"{number}") for number in range(3)]
    with pytest.raises(ProviderError, match="every provider failed"):
        await answer(Fallback(*models))
    assert [len(model.requests) for model in models] == [2, 1, 1]


async def test_tool_call_alone_is_an_answer(autojump_clock: MockClock) -> None:
    """An answer that only calls a tool is not an answer of nothing."""
    first, second = ScriptedLLM([tool_call("look_up")]), ScriptedLLM(["No."], model="second")
    async with Fallback(first, second).stream(QUESTIONS[0]) as pieces:
        assert [piece.name async for piece in pieces] == ["look_up"]
    assert len(first.requests) == 1


async def test_any_exception_of_a_provider_is_a_failure(
    autojump_clock: MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    """An LLM or TTS of the application's own that raises a KeyError is replaced by the next one."""

    def breaks(_: Sequence[Message]) -> str:
        raise KeyError("choices")

    assert await answer(Fallback(ScriptedLLM(breaks, model="first"), WELL)) == "The second one answers."
    assert "scripted first failed: scripted first raised KeyError: 'choices'" in caplog.text


# Recognition ----------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("first", "after"), [(ScriptedSTT(fail_to_open=True), 0.0), (ScriptedSTT(hang_on_open=True), 4.0)]
)
async def test_stt_session_opens_from_the_healthy_provider(
    autojump_clock: MockClock, first: SpeechToText, after: float
) -> None:
    """The fallback opens the STT session from the first provider that is healthy."""
    stt = Fallback(first, ScriptedSTT(model="second"))
    async with stt.open(language="en"):
        assert trio.current_time() == after
    assert await hearing(stt) == "One room, please"


async def test_lost_stt_is_replaced_only_for_next_call(
    autojump_clock: MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    """A lost STT is an error of its call, and only the next call uses the second STT."""
    lost, second = ScriptedSTT(fail_at=0.3, model="first"), ScriptedSTT(model="second")
    stt = Fallback(lost, second)
    [error, *_] = await findings(lambda: hearing(stt))
    assert isinstance(error, ProviderError)
    assert await hearing(stt) == "One room, please"
    assert [record.getMessage() for record in caplog.records if record.levelno >= logging.WARNING] == [
        "scripted first failed: ScriptedSTT has failed after 0.3 s, as scripted"
    ]


# Synthesis ------------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    "first",
    [ScriptedTTS(fail_after=0), ScriptedTTS(hang_after=0), ScriptedTTS(fail_to_open=True), ScriptedTTS(mute=True)],
)
async def test_the_second_voice_speaks_the_whole_text(autojump_clock: MockClock, first: TextToSpeech) -> None:
    """The second TTS speaks the whole text when the first one fails, hangs, is mute or does not open."""
    tts = Fallback(first, ScriptedTTS(model="second"))
    assert await speech(tts, "Good morning.", "It is late.") == "Good morning. It is late."


async def test_tts_patience_starts_with_the_text(autojump_clock: MockClock) -> None:
    """The patience with a TTS starts when its text arrives."""
    tts = Fallback(ScriptedTTS(first_audio=0.2), ScriptedTTS(model="second"), patience=1.0)
    send, receive = trio.open_memory_channel[str](1)

    async def think() -> None:
        async with send:
            await trio.sleep_until(7.0)
            await send.send("At last.")

    async with trio.open_nursery() as nursery, tts.open(language="en") as session, receive:
        nursery.start_soon(think)
        async with session.speak(receive) as chunks:
            first = await anext(aiter(chunks))
            assert trio.current_time() == pytest.approx(7.2)
            assert first.text == "At last."


async def test_never_after_the_first_sample(autojump_clock: MockClock) -> None:
    """A TTS that fails after 0.4 s of audio fails the reply, and the second TTS speaks the next one."""
    tts = Fallback(ScriptedTTS(fail_after=0.4), ScriptedTTS(model="second"))
    bench = TtsBench(TextToSpeech, lambda: tts)
    async with tts.open(language="en") as session:
        with pytest.raises(ProviderError, match=r"fails after 0\.4 s of audio"):
            await bench.spoken(session, ["Good morning.", "It is late."])
        chunks = await bench.spoken(session, ["Good morning."])  # by the other one, in a session for this reply
    assert [chunk.text for chunk in chunks if chunk.text] == ["Good morning."]


async def test_sentences_are_taken_from_the_mind_once(autojump_clock: MockClock) -> None:
    """The second TTS speaks the sentences that the first one had taken, and then those that follow."""
    tts = Fallback(ScriptedTTS(first_audio=1.0, fail_after=0), ScriptedTTS(model="second", duration=None))
    send, receive = trio.open_memory_channel[str](4)
    texts: list[str] = []

    async def think() -> None:
        async with send:
            for at, text in ((0.0, "One."), (0.5, "Two."), (3.0, "Three.")):
                await trio.sleep_until(at)
                await send.send(text)

    async with trio.open_nursery() as nursery, tts.open(language="en") as session, receive:
        nursery.start_soon(think)
        async with session.speak(receive) as chunks:
            texts = [chunk.text async for chunk in chunks if chunk.text]
    assert texts == ["One.", "Two.", "Three."]


# As providers ---------------------------------------------------------------------------------------------------------
async def test_prewarming_fails_only_if_none_can_be_loaded(autojump_clock: MockClock) -> None:
    """prewarm() marks an LLM that cannot load as failed, and raises only if every provider fails."""

    @attrs.frozen
    class Unloadable(ScriptedLLM):
        async def prewarm(self) -> None:
            raise ProviderError("no model")

    bad = Unloadable(["One."])
    llm = Fallback(bad, WELL)
    await llm.prewarm()
    assert await answer(llm) == "The second one answers."
    assert not bad.requests
    with pytest.raises(ProviderError, match="every provider failed: "):
        await Fallback(bad).prewarm()


def test_invalid_fallback_combination_is_refused() -> None:
    """Mixed kinds, unsupported audio formats and invalid numbers raise ConfigurationError."""
    for given in ((), (WELL, ScriptedTTS()), ("x",)):
        with pytest.raises(ConfigurationError, match="must be all STT, all LLM or all TTS"):
            Fallback(*given)
    odd = AudioFormat(Encoding.PCM16, 11_025)
    with pytest.raises(ConfigurationError, match=r"ScriptedTTS must emit audio at 8000, .* or 48000 Hz, got 11025 Hz"):
        Fallback(ScriptedTTS(), ScriptedTTS(emits=odd))
    with pytest.raises(ConfigurationError, match=r"ScriptedSTT must accept audio at 8000, .* or 48000 Hz, got 11025"):
        Fallback(ScriptedSTT(), ScriptedSTT(accepts=odd))
    for numbers in ({"patience": 0}, {"recover_after": -1}):
        with pytest.raises(ConfigurationError, match="above 0"):
            Fallback(WELL, **numbers)


async def test_a_failure_is_one_line_in_the_log(autojump_clock: MockClock, caplog: pytest.LogCaptureFixture) -> None:
    """The failure of the first provider logs one line, with its name and the error."""
    await answer(Fallback(FAILING, WELL))
    assert [record.getMessage() for record in caplog.records if record.levelno >= logging.WARNING] == [
        "scripted first failed: ScriptedLLM fails after 0 tokens, as scripted"
    ]


async def test_patience_is_a_timeout(autojump_clock: MockClock) -> None:
    """An LLM without a result within 4 s raises ProviderError with ProviderTimeout as its cause."""
    silent = ScriptedLLM(["One."], hang_after=0)
    with pytest.raises(ProviderError, match="gave no result within 4 s") as caught:
        await answer(Fallback(silent))
    assert isinstance(caught.value.__cause__, ProviderTimeout)


@pytest.mark.deep
async def test_a_fallback_conforms(autojump_clock: MockClock, deep: bool) -> None:
    """A fallback passes the conformance checks of its kind, with a failing and with a healthy first provider."""
    points = 150 if deep else 3
    await check_stt(lambda: Fallback(ScriptedSTT(), ScriptedSTT(model="second")), points=points)
    await check_stt(lambda: Fallback(ScriptedSTT(fail_to_open=True), ScriptedSTT()), points=points)
    for first in (ScriptedLLM(["One two."]), FAILING):
        await check_llm(lambda first=first: Fallback(first, ScriptedLLM(["One two."])), points=points)
    for voice in (ScriptedTTS(), ScriptedTTS(fail_after=0)):
        await check_tts(lambda voice=voice: Fallback(voice, ScriptedTTS(model="second")), points=points)


async def test_call_continues_with_second_stt_llm_tts(call_simulator: CallSimulator) -> None:
    """A call continues with the second STT, LLM and TTS when each first one fails."""
    agent = Patter().agent(
        "x",
        vad=ScriptedVAD(),
        stt=Fallback(ScriptedSTT(fail_to_open=True), ScriptedSTT()),
        llm=Fallback(FAILING, WELL),
        tts=Fallback(ScriptedTTS(fail_after=0), ScriptedTTS()),
    )
    async with call_simulator(agent) as caller:
        await caller.at(0.5)
        await caller.speaks("Is anybody there?", seconds=1.0)
        reply = await caller.hears()
        assert reply.text == "The second one answers."
    assert caller.dialogue == [("user", "Is anybody there?"), ("assistant", "The second one answers.")]
