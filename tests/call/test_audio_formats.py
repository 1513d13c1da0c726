"""Whole calls with providers of every sampling rate and encoding: the same instants, the same words as at 8 kHz."""

from collections.abc import AsyncIterable, AsyncIterator, Callable
from contextlib import asynccontextmanager
from itertools import pairwise
from typing import Any

import attrs
import numpy as np
import pytest
import trio
from trio.testing import MockClock

from patter_trio import Agent, Fallback, PipelineHooks, Tool
from patter_trio.abc import (
    Engine,
    EngineSession,
    EngineSetup,
    SpeechChunk,
    SpeechToText,
    SpeechToTextSession,
    TextToSpeech,
    TextToSpeechSession,
    Transcript,
)
from patter_trio.audio.formats import FRAME_S, PCM16_8K, RATE_HZ, RATES_HZ, AudioFormat, Encoding
from patter_trio.audio.g711 import SILENCE_BYTE
from patter_trio.call.input.transcription import TranscriptionStage
from patter_trio.pytest_plugin import CallSimulator
from patter_trio.testing import ScriptedEngine, ScriptedLLM, ScriptedSTT, ScriptedTTS, ScriptedVAD, tool_call
from patter_trio.testing.scripted_providers import audible_text
from patter_trio.testing.scripted_providers.audible_text import Kind
from patter_trio.testing.scripted_providers.band_limited import sounds_in
from patter_trio.testing.simulation.caller import SimulatedCaller
from tests.kit.call import agent_of, transcripts_of
from tests.kit.depth import chosen, few

pytestmark = pytest.mark.all_carriers

FORMATS = [AudioFormat(encoding, rate) for encoding in Encoding for rate in RATES_HZ]
WIDE = AudioFormat(Encoding.PCM16, 24_000)
STUDIO = AudioFormat(Encoding.PCM16, 16_000)
TYPICAL = [STUDIO, AudioFormat(Encoding.PCM16, 22_050), WIDE, AudioFormat(Encoding.MULAW, 48_000)]
CHOSEN = chosen(FORMATS, TYPICAL)
"""Every format; by default those that vendors use most, and the one that is furthest from the telephone's."""
HOURS = "We are open from nine to five. On Sundays we are closed all day."
FIRST, SECOND = "We are open from nine to five.", "On Sundays we are closed all day."


async def asks(caller: SimulatedCaller, text: str = "What are your hours?") -> None:
    await caller.at(0.5)
    await caller.speaks(text, seconds=1.5)


def words_until(seconds: float) -> str:
    """Return the words of :data:`HOURS` that are over after ``seconds`` of the reply, spoken without a pause."""
    over, begun = list[str](), 0.0
    for sentence in (FIRST, SECOND):
        frames = audible_text.frames_of(len(sentence) * 0.06)
        over += [word for word, _, end in audible_text.word_times(sentence, frames) if begun + end <= seconds + 1e-6]
        begun += frames * FRAME_S
    return " ".join(over)


# Hearing --------------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("accepts", CHOSEN, ids=str)
async def test_an_stt_hears_at_any_rate(call_simulator: CallSimulator, accepts: AudioFormat) -> None:
    """An STT of any format hears the caller's words, and the eos comes at the same instant as at 8 kHz."""
    async with call_simulator(agent_of("Yes.", stt=ScriptedSTT(accepts=accepts))) as caller:
        await asks(caller)
        await caller.hears()
    assert transcripts_of(caller, "user") == ["What are your hours?"]
    assert caller.times("user_speech_eos") == [pytest.approx(2.5)]


@pytest.mark.parametrize("accepts", CHOSEN, ids=str)
async def test_the_last_word_is_there_at_the_flush(call_simulator: CallSimulator, accepts: AudioFormat) -> None:
    """The last word before a hang-up reaches an STT of any format, because the resampler is flushed first."""
    async with call_simulator(agent_of("Yes.", stt=ScriptedSTT(accepts=accepts, final_delay=0.1))) as caller:
        await caller.at(0.5)
        await caller.speaks("One two three four", seconds=1.0)
        await caller.waits(0.02)  # the last frame is on its way
        await caller.hangs_up()
    assert transcripts_of(caller, "user") == ["One two three four"]


@attrs.define
class Listener(SpeechToText):
    """STT that records the audio, and the times of the flushes."""

    accepts: AudioFormat
    heard: list[bytes | str] = attrs.field(factory=list)
    provider = "listener"

    @asynccontextmanager
    async def open(self, *, language: str) -> AsyncIterator[SpeechToTextSession]:
        yield _Listening(self)


class _Listening(SpeechToTextSession):
    def __init__(self, listener: Listener) -> None:
        self._heard = listener.heard

    async def send(self, audio: bytes) -> None:
        await trio.lowlevel.checkpoint()
        self._heard.append(audio)

    async def flush(self) -> None:
        await trio.lowlevel.checkpoint()
        self._heard.append("flush")

    async def transcripts(self) -> AsyncIterator[Transcript]:  # type: ignore[override]
        await trio.sleep_forever()
        yield Transcript("", final=True)


@pytest.mark.parametrize("accepts", CHOSEN, ids=str)
async def test_all_audio_is_sent_before_the_flush(autojump_clock: MockClock, accepts: AudioFormat) -> None:
    """The STT gets every sample of 0.74 s before each of two flushes, and no empty piece of audio."""
    listener, stage = Listener(accepts), TranscriptionStage(lambda _: None)
    stage._unsettled = True
    async with trio.open_nursery() as nursery:
        nursery.start_soon(stage.run, listener, "en")
        for _ in range(2):
            for _ in range(37):
                stage.put(bytes([SILENCE_BYTE]) * 160)
                await trio.sleep(0.02)
            stage.flush()
            await trio.sleep(0.1)
        nursery.cancel_scope.cancel()
    places = [place for place, item in enumerate(listener.heard) if item == "flush"]
    stretches = [listener.heard[: places[0]], listener.heard[places[0] + 1 : places[1]]]
    assert all(item for stretch in stretches for item in stretch)
    lengths = [accepts.samples(b"".join(item for item in s if isinstance(item, bytes))) for s in stretches]
    assert lengths == [37 * accepts.rate // 50] * 2
    assert places[1] == len(listener.heard) - 1


# Speaking -------------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("emits", CHOSEN, ids=str)
async def test_a_tts_speaks_at_any_rate(call_simulator: CallSimulator, emits: AudioFormat) -> None:
    """The caller hears the audio of a TTS of any format to the last sample and without a gap."""
    async with call_simulator(agent_of(HOURS, tts=ScriptedTTS(emits=emits))) as caller:
        await asks(caller)
        heard = await caller.hears()
    frames = sum(audible_text.frames_of(len(sentence) * 0.06) for sentence in (FIRST, SECOND))
    assert (heard.text, heard.interrupted) == (HOURS, False)
    assert heard.seconds == pytest.approx(frames * FRAME_S, abs=1e-3)
    assert sum(len(arrival.audio) for arrival in caller.carrier.arrivals) == frames * 160
    assert caller.payloads("agent_speech_ended")[0]["speech_duration_ms"] == pytest.approx(frames * 20, abs=20)


@pytest.mark.parametrize(
    ("emits", "over_at"),
    chosen([*((made, 4.6) for made in FORMATS), (WIDE, 3.87), (WIDE, 5.3)], [(made, 4.6) for made in TYPICAL]),
    ids=str,
)
async def test_a_barge_in_cuts_at_the_same_word(
    call_simulator: CallSimulator, emits: AudioFormat, over_at: float
) -> None:
    """A barge-in cuts 250 ms after the onset in any format, and the heard text is right to 20 ms of audio."""
    async with call_simulator(agent_of(HOURS, "Fine.", tts=ScriptedTTS(emits=emits))) as caller:
        await asks(caller)
        await caller.at(over_at)
        await caller.speaks("Stop", seconds=0.6)
        cut = await caller.heard(0)
        assert (await caller.heard(1)).text == "Fine."
    ended, started = caller.times("agent_speech_ended")[0], caller.times("agent_speech_started")[0]
    assert ended == pytest.approx(over_at + 0.25, abs=0.02)
    assert cut.ended == pytest.approx(ended, abs=0.02)
    spoken = ended - started
    assert caller.dialogue[1][1] in {words_until(spoken - 0.02), words_until(spoken), words_until(spoken + 0.02)}
    assert cut.interrupted


@pytest.mark.parametrize("emits", [WIDE, AudioFormat(Encoding.MULAW, 48_000)], ids=str)
async def test_marks_stand_where_sentences_end(call_simulator: CallSimulator, emits: AudioFormat) -> None:
    """A mark stands at the end of the first sentence, to the sample, whatever the format of the TTS."""

    async def stretches(tts: ScriptedTTS) -> list[int]:
        """The samples between two marks."""
        async with call_simulator(agent_of(HOURS, tts=tts)) as caller:
            await asks(caller)
            await caller.hears()
        ends, at = [0], 0
        for arrival in caller.carrier.arrivals:
            at += len(arrival.audio)
            ends += [at] if arrival.mark else []
        return [after - before for before, after in pairwise(ends)]

    border = audible_text.frames_of(len(FIRST) * 0.06) * 160
    for tts in (ScriptedTTS(), ScriptedTTS(emits=emits)):
        made = np.cumsum(await stretches(tts))
        assert border in made


@attrs.frozen
class ToneThenSilence(TextToSpeech):
    """A tone for the first reply, digital silence for every later one."""

    emits: AudioFormat
    replies: list[int] = attrs.field(factory=list)
    provider = "tone"

    @asynccontextmanager
    async def open(self, *, language: str) -> AsyncIterator[TextToSpeechSession]:
        yield _Tone(self)


class _Tone(TextToSpeechSession):
    def __init__(self, provider: ToneThenSilence) -> None:
        self._provider = provider

    @asynccontextmanager
    async def speak(self, sentences: AsyncIterable[str]) -> AsyncIterator[AsyncIterator[SpeechChunk]]:
        async def chunks() -> AsyncIterator[SpeechChunk]:
            async for sentence in sentences:
                self._provider.replies.append(1)
                times = np.arange(self._provider.emits.rate) / self._provider.emits.rate
                loud = 9000 if len(self._provider.replies) == 1 else 0
                second = (loud * np.sin(2 * np.pi * 440 * times)).astype("<i2").tobytes()
                for number in range(5):
                    yield SpeechChunk(second, sentence if not number else "")

        yield chunks()


@pytest.mark.parametrize("rate", chosen(RATES_HZ, [22_050, 24_000]))
async def test_cut_reply_leaves_no_audio_in_next(call_simulator: CallSimulator, rate: int) -> None:
    """A reply of digital silence that follows a cut reply is digital silence from its first sample on."""
    tts = ToneThenSilence(AudioFormat(Encoding.PCM16, rate))
    async with call_simulator(agent_of("One.", "Two.", tts=tts)) as caller:
        await asks(caller)
        await caller.at(4.0)
        await caller.coughs(0.6)
        await caller.speaks("Go on", seconds=0.5)
        await caller.at(9.0)
    cleared = next(place for place, arrival in enumerate(caller.carrier.arrivals) if arrival.clears)
    before, after = caller.carrier.arrivals[:cleared], caller.carrier.arrivals[cleared:]
    assert len(set(b"".join(arrival.audio for arrival in before))) > 10
    assert set(b"".join(arrival.audio for arrival in after)) == {SILENCE_BYTE}


# A pause in a reply ---------------------------------------------------------------------------------------------------
def readable(caller: SimulatedCaller) -> list[tuple[float, int]]:
    """When each frame of the agent's voice ended at the caller's ear, and which part of the reply it is of."""
    return [
        (round(stretch.at + sound.end / RATE_HZ, 3), sound.part)
        for stretch in caller.carrier.played()
        for sound in sounds_in(stretch.audio)
        if sound.kind is not Kind.SOUND
    ]


@pytest.mark.parametrize("emits", CHOSEN, ids=str)
async def test_word_before_pause_is_played_completely(call_simulator: CallSimulator, emits: AudioFormat) -> None:
    """The caller hears the first sentence to its end while the application needs 5 s for the second one."""

    async def answer(event: dict[str, Any]) -> AsyncIterator[str]:
        yield "One moment please. Here"
        await trio.sleep(5)
        yield " it is."

    agent = agent_of(llm=None, tts=ScriptedTTS(emits=emits))
    async with call_simulator(agent, on_message=answer) as caller:
        await asks(caller)
        heard = await caller.hears()
    assert heard.text == "One moment please. Here it is."
    parts = readable(caller)
    assert max(after - before for (before, _), (after, _) in pairwise(parts)) > 2
    for part, text in ((1, "One moment please."), (2, "Here it is.")):
        ends = [at for at, mine in parts if mine == part]
        frames = audible_text.frames_of(len(text) * 0.06)
        assert len(ends) == frames
        assert ends[-1] - ends[0] == pytest.approx((frames - 1) * FRAME_S, abs=1e-3)


# Engines --------------------------------------------------------------------------------------------------------------
def engine_agent(
    *replies: Any, accepts: AudioFormat, emits: AudioFormat, **options: Any
) -> tuple[Agent, ScriptedEngine]:
    engine = ScriptedEngine(llm=ScriptedLLM(replies), tts=ScriptedTTS(emits=emits), accepts=accepts)
    return agent_of(llm=None, stt=None, tts=None, engine=engine, **options), engine


@pytest.mark.parametrize("emits", CHOSEN, ids=str)
async def test_an_engine_hears_and_speaks_at_any_rate(call_simulator: CallSimulator, emits: AudioFormat) -> None:
    """An engine hears at 16 kHz, speaks in any format and learns to 20 ms how much of a cut reply was heard."""
    agent, engine = engine_agent(HOURS, "Fine.", accepts=STUDIO, emits=emits)
    async with call_simulator(agent) as caller:
        await asks(caller)
        await caller.at(4.6)
        await caller.speaks("Stop", seconds=0.6)
        assert (await caller.heard(1)).text == "Fine."
    assert transcripts_of(caller, "user") == ["What are your hours?", "Stop"]
    ended, started = caller.times("agent_speech_ended")[0], caller.times("agent_speech_started")[0]
    assert ended == pytest.approx(4.85, abs=0.02)
    assert engine.heard == [pytest.approx(ended - started, abs=0.02)]


@pytest.mark.parametrize("accepts", CHOSEN, ids=str)
async def test_resampled_tail_reaches_engine_before_commit(call_simulator: CallSimulator, accepts: AudioFormat) -> None:
    """The last word before a hang-up reaches an engine of any format, because the resampler is flushed first."""
    agent, _ = engine_agent("Yes.", accepts=accepts, emits=WIDE)
    async with call_simulator(agent) as caller:
        await caller.at(0.5)
        await caller.speaks("One two three four", seconds=1.0)
        await caller.waits(0.02)  # the last frame is on its way
        await caller.hangs_up()
    assert transcripts_of(caller, "user") == ["One two three four"]


@attrs.frozen
class NotingEngine(Engine):
    """Notes how many seconds it has heard at each commit and each discard."""

    inner: ScriptedEngine
    heard: list[tuple[str, float, float]] = attrs.field(factory=list)
    provider: str = "noting"
    model: str = "noting"

    @property
    def accepts(self) -> AudioFormat:  # type: ignore[override]
        return self.inner.accepts

    @asynccontextmanager
    async def open(self, setup: EngineSetup) -> AsyncIterator[EngineSession]:
        async with self.inner.open(setup) as session:
            hear, commit, discard, seconds = session.send, session.commit, session.discard, [0.0]

            def hears(audio: bytes) -> None:
                assert audio
                seconds[0] += self.accepts.seconds(audio)
                hear(audio)

            def noting(name: str, decide: Callable[[], Any]) -> Callable[[], Any]:
                def decides() -> Any:
                    self.heard.append((name, trio.current_time(), seconds[0]))
                    return decide()

                return decides

            for name, method in (
                ("send", hears),
                ("commit", noting("commit", commit)),
                ("discard", noting("discard", discard)),
            ):
                setattr(session, name, method)
            yield session


@pytest.mark.parametrize("accepts", CHOSEN, ids=str)
async def test_an_engine_has_all_audio_before_a_decision(call_simulator: CallSimulator, accepts: AudioFormat) -> None:
    """An engine has heard all frames that have arrived when a discard or a commit reaches it."""
    engine = NotingEngine(ScriptedEngine(accepts=accepts, opening=0.3))
    quick = ScriptedVAD(end_delay=0.05)
    agent = agent_of(llm=None, stt=None, tts=None, engine=engine, first_message=HOURS, vad=quick, endpointing_ms=100)
    async with call_simulator(agent) as caller:
        await caller.at(1.0)
        await caller.coughs(0.1)
        await caller.heard(0)
        await caller.speaks("And now?", seconds=0.8)
        await caller.hears()
    assert [name for name, _, _ in engine.heard] == ["discard", "commit"]
    assert transcripts_of(caller, "user") == ["And now?"]
    for _, at, seconds in engine.heard:
        frames = seconds / FRAME_S
        assert frames == pytest.approx(round(frames), abs=1e-6)
        assert at - caller.carrier.media_start - seconds <= 0.04


async def test_engine_audio_completes_before_its_tool(call_simulator: CallSimulator) -> None:
    """The caller hears the engine's answer to its end while the tool that follows it takes 4 s."""

    async def prices(arguments: dict[str, Any]) -> str:
        await trio.sleep(4)
        return "90"

    tool = Tool(name="prices", description="Prices.", parameters={"type": "object"}, handler=prices)
    said: list[Any] = [["One moment please.", tool_call("prices")], "Ninety euros."]
    agent, _ = engine_agent(*said, accepts=STUDIO, emits=WIDE, tools=[tool])
    async with call_simulator(agent) as caller:
        await asks(caller)
        heard = await caller.hears()
    assert heard.text == "One moment please. Ninety euros."
    frames = audible_text.frames_of(len("One moment please.") * 0.06)
    ends = [at for at, _ in readable(caller)]
    assert ends[frames - 1] - ends[0] == pytest.approx((frames - 1) * FRAME_S, abs=1e-3)
    assert ends[frames] - ends[frames - 1] > 2


async def test_an_engine_of_another_rate_apologises(call_simulator: CallSimulator) -> None:
    """The caller hears the error message of a failed engine at 24 kHz to its last sample."""
    engine = ScriptedEngine(tts=ScriptedTTS(emits=WIDE), accepts=STUDIO, fail_at=3.0)
    agent = agent_of(llm=None, stt=None, tts=None, engine=engine, error_message="Sorry, good bye.")
    async with call_simulator(agent) as caller:
        await caller.carrier.over.wait()
    sounds = [sound for stretch in caller.carrier.played() for sound in sounds_in(stretch.audio)]
    assert "".join(sound.words for sound in sounds) == "Sorry, good bye."
    assert len(sounds) == audible_text.frames_of(len("Sorry, good bye.") * 0.06)


# Hooks ----------------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("made", few(CHOSEN, 2), ids=str)
async def test_hooks_always_see_8_khz(call_simulator: CallSimulator, made: AudioFormat) -> None:
    """before_stt and after_tts get 16-bit samples at 8 kHz, whatever the formats of STT and TTS."""
    before, after = list[bytes](), list[bytes]()

    def hears(pcm: bytes) -> bytes:
        before.append(pcm)
        return pcm

    def speaks(pcm: bytes) -> bytes:
        after.append(pcm)
        return pcm

    hooks = PipelineHooks(before_stt=hears, after_tts=speaks)
    agent = agent_of(HOURS, stt=ScriptedSTT(accepts=made), tts=ScriptedTTS(emits=made), hooks=hooks)
    async with call_simulator(agent) as caller:
        await asks(caller)
        heard = await caller.hears()
        seconds = caller.now
    assert (transcripts_of(caller, "user"), heard.text) == (["What are your hours?"], HOURS)
    assert sum(map(len, before)) / 2 / RATE_HZ == pytest.approx(seconds, abs=0.05)
    assert sum(map(len, after)) / 2 / RATE_HZ == pytest.approx(heard.seconds, abs=1e-3)


@pytest.mark.parametrize("made", [PCM16_8K, STUDIO, AudioFormat(Encoding.MULAW, 44_100)], ids=str)
async def test_audio_dropped_by_hook_is_silence_to_stt(call_simulator: CallSimulator, made: AudioFormat) -> None:
    """An STT of any format hears the words that follow audio which before_stt has dropped."""
    dropping = [True]
    hooks = PipelineHooks(before_stt=lambda pcm: None if dropping[0] else pcm)
    async with call_simulator(agent_of("Yes.", stt=ScriptedSTT(accepts=made), hooks=hooks)) as caller:
        await caller.at(0.5)
        await caller.speaks("Not this", seconds=0.6)
        await caller.at(3.0)
        dropping[0] = False
        await caller.speaks("But that", seconds=0.6)
        await caller.hears()
    assert transcripts_of(caller, "user") == ["But that"]


# One behind another ---------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("second", [WIDE, AudioFormat(Encoding.MULAW, 44_100)], ids=str)
async def test_providers_behind_each_other_may_differ(call_simulator: CallSimulator, second: AudioFormat) -> None:
    """A fallback converts for the provider in use when its providers have different formats."""
    agent = agent_of(
        HOURS,
        stt=Fallback(ScriptedSTT(accepts=STUDIO, fail_to_open=True), ScriptedSTT(accepts=second)),
        tts=Fallback(ScriptedTTS(fail_after=0.0), ScriptedTTS(emits=second)),
    )
    async with call_simulator(agent) as caller:
        await asks(caller)
        heard = await caller.hears()
    assert (transcripts_of(caller, "user"), heard.text) == (["What are your hours?"], HOURS)
    frames = sum(audible_text.frames_of(len(sentence) * 0.06) for sentence in (FIRST, SECOND))
    assert heard.seconds == pytest.approx(frames * FRAME_S, abs=1e-3)


async def test_the_telephones_format_is_passed_as_it_is(call_simulator: CallSimulator) -> None:
    """The TTS's mu-law bytes at 8 kHz reach the wire unchanged, even the code 0x7F that no encoder writes."""

    @attrs.frozen
    class Odd(TextToSpeech):
        provider = "odd"

        @asynccontextmanager
        async def open(self, *, language: str) -> AsyncIterator[TextToSpeechSession]:
            yield _Odd()

    class _Odd(TextToSpeechSession):
        @asynccontextmanager
        async def speak(self, sentences: AsyncIterable[str]) -> AsyncIterator[AsyncIterator[SpeechChunk]]:
            async def chunks() -> AsyncIterator[SpeechChunk]:
                async for sentence in sentences:
                    yield SpeechChunk(bytes([0x7F]) * 4000, sentence)

            yield chunks()

    async with call_simulator(agent_of("Yes.", tts=Odd())) as caller:
        await asks(caller)
        await caller.hears()
    assert set(b"".join(arrival.audio for arrival in caller.carrier.arrivals)) == {0x7F}
