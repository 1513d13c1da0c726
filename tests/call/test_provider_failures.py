"""What fails before and after the first audio, and what the caller hears of it."""

from collections.abc import AsyncGenerator
from contextlib import aclosing, asynccontextmanager
from typing import Any

import pytest
import trio

from patter_trio import ConfigurationError, Patter
from patter_trio.abc import SpeechChunk
from patter_trio.audio.formats import AudioFormat, Encoding
from patter_trio.errors import ProviderError
from patter_trio.pytest_plugin import CallSimulator
from patter_trio.testing import ScriptedLLM, ScriptedSTT, ScriptedTTS, ScriptedVAD
from tests.kit.call import SORRY, At, Backend, FixedDetector, agent_of, edges, faulty_agent, give_up, transcripts_of

pytestmark = [pytest.mark.both_backends, pytest.mark.all_carriers]

PCM = AudioFormat(Encoding.PCM16, 8000)
ODD = AudioFormat(Encoding.PCM16, 11025)
RATES_HZ = "8000, 16000, 22050, 24000, 44100 or 48000 Hz"


# LLM or TTS: the reply fails, the call goes on -------------------------------------------------------------------
@pytest.mark.parametrize("place", ["llm.stream", "llm.first", "llm.next", "tts.speak", "tts.first"])
async def test_failure_before_first_audio_apologises_once(
    call_simulator: CallSimulator, place: str, backend: Backend
) -> None:
    """The agent apologises once for a failure before the first audio."""
    async with call_simulator(backend.faulty_agent(At(place, give_up, nth=1), error_message="Sorry.")) as caller:
        await caller.speaks("Hello", seconds=0.5)
        apology = await caller.hears()
        await caller.speaks("Again", seconds=0.5)
        answer = await caller.hears()
    assert (apology.text, answer.text) == ("Sorry.", "One two. Three four.")
    assert transcripts_of(caller, "assistant") == ["Sorry.", "One two. Three four."]
    assert caller.outcome == "caller_hung_up"
    assert "error" not in caller.payloads("call_end")[0]


async def test_lone_surrogate_fails_reply_and_not_call(
    call_simulator: CallSimulator, caplog: pytest.LogCaptureFixture, backend: Backend
) -> None:
    """A lone surrogate in a text fails the reply and not the call, for the LLM and for a say."""
    phone = Patter()
    async with call_simulator(backend.agent_of("Half \ud83d.", "Good."), phone=phone) as caller:
        await caller.speaks("Hello", seconds=0.5)
        assert (await caller.hears()).text == SORRY
        phone.calls[0].say("Half \ud83d.")
        await caller.waits(3.0)
        await caller.speaks("Again", seconds=0.5)
        await caller.hears()
    assert (caller.outcome, transcripts_of(caller, "assistant")[-1]) == ("caller_hung_up", "Good.")
    why = "The text contains a lone surrogate (invalid Unicode)."
    assert [record.message.partition(": ")[2] for record in caplog.records] == [f"a reply failed: {why}"] * 2


async def test_llm_failure_lets_finished_sentence_be_heard(call_simulator: CallSimulator, backend: Backend) -> None:
    """An LLM that fails in its second sentence cuts nothing: the first one is heard to its end, then the apology."""
    llm = ScriptedLLM(["One two three four. Five six seven eight."], duration=4.0, fail_after=7)
    async with call_simulator(backend.agent_of(llm=llm)) as caller:
        await caller.speaks("Count", seconds=0.5)
        first, apology = await caller.heard(0), await caller.heard(1)
    assert (first.text, first.interrupted) == ("One two three four.", False)
    # With the wait for the fourth word, behind which the sentence ends; an engine has what came before it failed.
    assert first.seconds > len("One two three four.") * 0.06 - 0.1
    assert (apology.text, apology.interrupted) == (SORRY, False)
    assert [entry for entry in caller.dialogue if entry[0] == "assistant"] == [
        ("assistant", "One two three four."),
        ("assistant", SORRY),
    ]


@pytest.mark.pipeline("an engine's text is not cut into sentences")
@pytest.mark.parametrize(
    ("fail_after", "heard"),
    [
        (22, "We are open from noon. We close at nine."),  # behind the last word, before its end is known
        (16, "We are open from noon."),
        (10, "We are open from noon."),
    ],
)
async def test_long_sentence_is_heard_after_llm_failure(
    call_simulator: CallSimulator, fail_after: int, heard: str
) -> None:
    """A sentence of 6 s is heard to its end although the LLM fails while it is spoken; an unfinished one is not."""
    text = "We are open from noon. We close at nine."
    words = [f" {word}" if number else word for number, word in enumerate(text.split())]
    tokens = [part for word in words for part in (word[:2], word[2:])]

    class Breaking(ScriptedLLM):
        async def _tokens(self, reply: Any, asked: float) -> Any:
            for number, token in enumerate(tokens):
                if number == fail_after:
                    raise ProviderError("the connection broke")
                await trio.sleep(0.05)
                yield token
            raise ProviderError("the connection broke")

    agent = agent_of(llm=Breaking([""]), tts=ScriptedTTS(per_character=0.25))
    async with call_simulator(agent) as caller:
        await caller.speaks("When?", seconds=0.5)
        first, apology = await caller.heard(0), await caller.heard(1)
    assert (first.text, first.interrupted, apology.text) == (heard, False, SORRY)
    assert first.seconds >= 5.0


@pytest.mark.pipeline("an engine's answer is over when it is closed")
async def test_failure_behind_whole_answer_is_logged(
    call_simulator: CallSimulator, caplog: pytest.LogCaptureFixture
) -> None:
    """An LLM that fails after its last word, when it is closed, has answered, and the agent does not apologise."""
    async with call_simulator(faulty_agent(At("llm.close", give_up, nth=1))) as caller:
        await caller.speaks("Hello", seconds=0.5)
        assert (await caller.hears()).text == "One two. Three four."
        await caller.waits(5.0)
    assert transcripts_of(caller, "assistant") == ["One two. Three four."]
    assert "given up" in caplog.text


@pytest.mark.pipeline("an engine has no more speech than what came before it failed")
async def test_barge_in_during_finished_sentence(call_simulator: CallSimulator) -> None:
    """If the caller interrupts the sentence behind which the LLM failed, the next answer comes without an apology."""
    llm = ScriptedLLM(["One two three four. Five six seven eight.", "Yes."], duration=0.5, fail_after=7)
    agent = agent_of(llm=llm, tts=ScriptedTTS(per_character=0.2))
    async with call_simulator(agent) as caller:
        await caller.at(1.0)
        await caller.speaks("Count", seconds=0.5)
        await caller.at(4.0)
        await caller.speaks("Stop", seconds=0.5)
        first, second = await caller.heard(0), await caller.heard(1)
    assert (first.interrupted, second.text) == (True, "Yes.")


@pytest.mark.pipeline("an engine's audio is not cut into sentences")
async def test_tts_failure_lets_finished_sentence_be_heard(call_simulator: CallSimulator) -> None:
    """A TTS that fails in its second sentence, ahead of the caller, lets the first one be heard and no more."""
    agent = agent_of("One two three four. Five six seven eight.", tts=ScriptedTTS(fail_after=1.8))
    async with call_simulator(agent) as caller:
        await caller.speaks("Count", seconds=0.5)
        first = await caller.heard(0)
        apology = await caller.heard(1)
    assert (first.text, first.interrupted) == ("One two three four.", False)
    assert first.seconds == pytest.approx(len("One two three four.") * 0.06, abs=0.02)
    assert SORRY.startswith(apology.text)


async def test_tts_failure_mid_reply_apologises_once(
    call_simulator: CallSimulator,
    backend: Backend,
) -> None:
    """A TTS failure in the middle of a reply causes one apology, and a failed apology causes no second one."""
    agent = backend.agent_of("One two three four five six.", tts=ScriptedTTS(fail_after=0.5))
    async with call_simulator(agent) as caller:
        await caller.speaks("Count", seconds=0.5)
        # Half a sentence of a TTS is cut; what an engine has said is heard.
        assert (await caller.heard(0)).interrupted is backend.is_pipeline
        assert (await caller.heard(1)).interrupted is backend.is_pipeline  # the same voice fails again
        await caller.waits(5.0)
        assert len(caller.times("agent_speech_started")) == 2
        assert caller.state == {"user": "listening", "agent": "idle"}


async def test_hanging_llm_is_asked_again_in_time(
    call_simulator: CallSimulator, caplog: pytest.LogCaptureFixture, backend: Backend
) -> None:
    """An LLM that hangs is asked once more after 8 s, with one line in the log."""
    async with call_simulator(backend.faulty_agent(At("llm.stream", nth=1))) as caller:
        await caller.speaks("Hello", seconds=0.5)
        answer = await caller.hears()
        assert (answer.text, answer.started) == ("One two. Three four.", pytest.approx(1.0 + 8.0 + 0.2))
    [record] = [record for record in caplog.records if record.name == "patter_trio.call"]
    assert record.message.endswith("gave no result within 8 s, and is tried once more")


async def test_hanging_llm_times_out_after_fifteen_seconds(
    call_simulator: CallSimulator, caplog: pytest.LogCaptureFixture, backend: Backend
) -> None:
    """The call gives up an LLM that hangs twice after fifteen seconds, and the log has a line about each time."""
    async with call_simulator(backend.faulty_agent(At("llm.stream"), error_message=SORRY)) as caller:
        await caller.speaks("Hello", seconds=0.5)
        if backend.is_pipeline:
            apology = await caller.hears()
            assert (apology.text, apology.started) == (SORRY, pytest.approx(1.0 + 15.0 + 0.2))
        await caller.at(25.0)
    first, second = [record.message for record in caplog.records][:2]
    assert first.endswith("gave no result within 8 s, and is tried once more")
    who = "the LLM or on_message" if backend.is_pipeline else "the engine"
    assert second.endswith(f"a reply failed: no audio came in time from {who}")


async def test_tts_hanging_mid_reply_times_out(
    call_simulator: CallSimulator, caplog: pytest.LogCaptureFixture, backend: Backend
) -> None:
    """The call also gives up a TTS that hangs in the middle of a reply."""
    agent = backend.agent_of("One two three four five six.", tts=ScriptedTTS(hang_after=0.5), error_message="Er")
    async with call_simulator(agent) as caller:
        await caller.speaks("Count", seconds=0.5)
        first = await caller.heard(0)
        apology = await caller.heard(1)
    assert (first.interrupted, apology.text) == (True, "Er")
    assert apology.started == pytest.approx(first.started + 0.5 + 15.0 + 0.2, abs=0.05)
    who = "the TTS" if backend.is_pipeline else "the engine"
    assert f"a reply failed: no audio came in time from {who}" in caplog.text


@pytest.mark.pipeline("about the TTS")
async def test_tts_ending_before_text_is_failure(
    call_simulator: CallSimulator, caplog: pytest.LogCaptureFixture
) -> None:
    """A TTS that ends behind its first sentence fails the reply: that sentence is heard, then the apology."""

    class Hasty(ScriptedTTS):
        def open(self, *, language: str) -> Any:
            return _hasty(super().open(language=language))

    agent = agent_of("One. Two. Three. " * 20, tts=Hasty())
    async with call_simulator(agent) as caller:
        await caller.speaks("Count", seconds=0.5)
        await caller.waits(5.0)
        assert caller.state["agent"] == "idle"
    assert transcripts_of(caller, "assistant") == ["One.", SORRY]
    [record] = [record for record in caplog.records if record.name == "patter_trio.call"]
    assert "a reply failed: the TTS " in record.message


def _hasty(opened: Any) -> Any:
    class Session:
        @asynccontextmanager
        async def speak(self, sentences: Any) -> Any:
            async def first() -> AsyncGenerator[Any, None]:
                yield SpeechChunk(bytes([0x20]) * 4000, await anext(aiter(sentences)))

            async with aclosing(first()) as chunks:
                yield chunks

    @asynccontextmanager
    async def session() -> Any:
        async with opened:
            yield Session()

    return session()


async def test_a_reply_without_sound_is_no_event(call_simulator: CallSimulator, backend: Backend) -> None:
    """A reply without sound fires no agent event, makes no transcript entry and returns the agent to idle."""
    async with call_simulator(backend.agent_of("Yes.", tts=ScriptedTTS(mute=True))) as caller:
        await caller.speaks("Hello", seconds=0.5)
        await caller.waits(3.0)
        assert caller.state == {"user": "listening", "agent": "idle"}
    assert not [name for _, name in edges(caller) if name.startswith(("agent", "audio"))]
    assert caller.dialogue == [("user", "Hello")]


# An STT or a detector: the caller cannot be understood any more -------------------------------------------------------
@pytest.mark.pipeline("about the STT")
@pytest.mark.parametrize(
    ("providers", "part"),
    [
        ({"stt": ScriptedSTT(fail_to_open=True)}, "STT: ScriptedSTT opens no session, as scripted"),
        ({"stt": ScriptedSTT(fail_at=1.0)}, "STT: ScriptedSTT has failed after 1 s, as scripted"),
        ({"vad": ScriptedVAD(fail_at=1.0)}, "VAD: ScriptedVAD fails after 1 s, as scripted"),
    ],
)
async def test_listening_failure_apologises_and_hangs_up(
    call_simulator: CallSimulator, providers: dict[str, Any], part: str
) -> None:
    """If the VAD or the STT fails, the agent apologises and hangs up, and on_call_end names the cause."""
    async with call_simulator(agent_of(**providers)) as caller:
        apology = await caller.hears()
        assert (apology.text, apology.interrupted) == (SORRY, False)
        await caller.carrier.over.wait()
        assert caller.carrier.ended_at == pytest.approx(apology.ended)
    [end] = caller.payloads("call_end")
    assert (end["outcome"], end["error"]) == ("failed", part)


@pytest.mark.pipeline("about the STT")
async def test_stt_failure_cuts_agent_speech_to_apologise(call_simulator: CallSimulator) -> None:
    """An STT failure during the agent's speech cuts the speech for the apology."""
    agent = agent_of(first_message="A greeting that is a good deal longer.", stt=ScriptedSTT(fail_at=1.0))
    async with call_simulator(agent) as caller:
        greeting, apology = await caller.heard(0), await caller.heard(1)
        assert (greeting.interrupted, greeting.ended) == (True, pytest.approx(1.0))
        assert apology.text == SORRY
        await caller.carrier.over.wait()
    assert caller.outcome == "failed"


@pytest.mark.pipeline("about the STT")
@pytest.mark.parametrize("place", ["stt.voice", "stt.next", "stt.transcripts"])
async def test_stt_failure_anywhere_ends_call_with_apology(call_simulator: CallSimulator, place: str) -> None:
    """The call ends with an apology wherever the STT fails."""
    async with call_simulator(faulty_agent(At(place, give_up), error_message=SORRY)) as caller:
        await caller.speaks("Hello", seconds=0.5, wait=False)
        assert (await caller.hears()).text == SORRY
        await caller.carrier.over.wait()
    assert caller.payloads("call_end")[0]["error"] == "STT: given up"


async def test_unavailable_tts_ends_call_in_silence(call_simulator: CallSimulator, backend: Backend) -> None:
    """A call whose TTS is unavailable ends in silence."""
    async with call_simulator(backend.agent_of(first_message="Hello.", tts=ScriptedTTS(fail_to_open=True))) as caller:
        await caller.carrier.over.wait()
    assert caller.payloads("call_end")[0]["outcome"] == "failed"
    assert caller.dialogue == []


@pytest.mark.pipeline("about the STT")
async def test_stt_failure_after_hang_up_keeps_outcome(call_simulator: CallSimulator) -> None:
    """An STT failure after the hang-up does not change the outcome of the call."""
    async with call_simulator(faulty_agent(At("stt.flush", give_up))) as caller:
        await caller.speaks("Hello", seconds=0.5)
        await caller.hangs_up()
        await caller.waits(0.95)
        assert caller.times("call_end")
    assert caller.outcome == "caller_hung_up"


# Formats --------------------------------------------------------------------------------------------------------------
async def test_stt_and_tts_with_16_bit_pcm_work(call_simulator: CallSimulator, backend: Backend) -> None:
    """A call works with an STT and a TTS that use 16-bit PCM samples."""
    agent = backend.agent_of("Yes, of course.", stt=ScriptedSTT(accepts=PCM), tts=ScriptedTTS(emits=PCM))
    async with call_simulator(agent) as caller:
        await caller.speaks("Is that so?", seconds=0.8)
        assert (await caller.hears()).text == "Yes, of course."
    assert transcripts_of(caller, "user") == ["Is that so?"]


@pytest.mark.pipeline("about the names of STT and TTS")
@pytest.mark.parametrize(
    ("providers", "error"),
    [
        ({"stt": ScriptedSTT(accepts=ODD)}, f"stt must accept audio at {RATES_HZ}, got 11025 Hz"),
        ({"tts": ScriptedTTS(emits=ODD)}, f"tts must emit audio at {RATES_HZ}, got 11025 Hz"),
    ],
)
def test_an_odd_rate_is_refused_with_a_name(providers: dict[str, Any], error: str) -> None:
    """An STT or TTS at 11,025 Hz raises an error that lists the rates, and makes a complaint as an override."""
    with pytest.raises(ConfigurationError) as refused:
        agent_of(**providers)
    assert str(refused.value) == error
    assert agent_of().overridden(providers) == (agent_of(), [error])


# Turn detectors -------------------------------------------------------------------------------------------------------
async def eos_of(backend: Backend, call_simulator: CallSimulator, detector: FixedDetector) -> tuple[float, str]:
    async with call_simulator(backend.agent_of(turn_detector=detector, vad=ScriptedVAD(end_delay=0.1))) as caller:
        await caller.at(1.0)
        await caller.speaks("Is a table free?", seconds=1.0)
        await caller.hears()
        [eos] = caller.payloads("user_speech_eos")
    return round(caller.times("user_speech_eos")[0] - 2.0, 3), eos["trigger"]


async def test_a_detector_that_is_sure_shortens_the_wait(call_simulator: CallSimulator, backend: Backend) -> None:
    """A turn detector that is sure of the end commits 0.2 s after the voice instead of 0.5 s."""
    detector = FixedDetector(0.9)
    assert await eos_of(backend, call_simulator, detector) == (0.2, "semantic_turn_detector")
    assert detector.asked == [round(2.1 * 8000)]  # all of the call so far, the last 8 s at most


async def test_unsure_turn_detector_holds_utterance_open(
    call_simulator: CallSimulator,
    backend: Backend,
) -> None:
    """An unsure turn detector holds the utterance open, and the caller's state is thinking."""
    agent = backend.agent_of(turn_detector=FixedDetector(0.1), vad=ScriptedVAD(end_delay=0.1))
    async with call_simulator(agent) as caller:
        await caller.speaks("I would like", seconds=1.0)
        await caller.at(1.6)
        assert caller.state == {"user": "thinking", "agent": "idle"}
        await caller.at(2.9)
        assert caller.times("user_speech_eos") == []
        await caller.hears()
        assert caller.times("user_speech_eos") == [pytest.approx(3.0)]
        assert caller.payloads("user_speech_eos")[0]["trigger"] == "vad_silence"


@pytest.mark.parametrize(
    "detector", [FixedDetector(0.1, delay=0.4), FixedDetector(0.1, at=At("detector", give_up))], ids=["late", "failing"]
)
async def test_late_or_failing_turn_detector_is_ignored(
    call_simulator: CallSimulator, detector: FixedDetector, caplog: pytest.LogCaptureFixture, backend: Backend
) -> None:
    """A turn detector that is late or fails does not influence endpointing."""
    assert await eos_of(backend, call_simulator, detector) == (0.5, "vad_silence")
    assert ("the turn detector failed: given up" in caplog.text) == (detector.at.place == "detector")


@pytest.mark.costly
async def test_turn_detector_receives_last_eight_seconds(call_simulator: CallSimulator, backend: Backend) -> None:
    """The turn detector receives the last eight seconds of audio and no more."""
    detector = FixedDetector(0.9)
    async with call_simulator(backend.agent_of(turn_detector=detector)) as caller:
        for second in (1.0, 25.0):
            await caller.at(second)
            await caller.speaks("Hello", seconds=0.5)
            await caller.hears()
    assert detector.asked == [16000, 64000]


async def test_hang_up_during_turn_detection_ends_normally(call_simulator: CallSimulator, backend: Backend) -> None:
    """A hang-up during turn detection ends the call with the outcome caller_hung_up."""
    phone = Patter()
    agent = backend.agent_of(turn_detector=FixedDetector(at=At("detector")), vad=ScriptedVAD(end_delay=0.1))
    async with call_simulator(agent, phone=phone) as caller:
        await caller.speaks("Hello", seconds=0.5)
        await caller.at(0.65)
        await caller.hangs_up()
    assert caller.outcome == "caller_hung_up"
