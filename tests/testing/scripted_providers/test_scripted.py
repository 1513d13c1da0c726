"""The scripted providers: they keep their script to the instant, and fail as scripted."""

from collections.abc import AsyncIterator, Sequence
from functools import partial
from typing import Any

import numpy as np
import pytest
import trio
from trio.testing import MockClock

from patter_trio.abc import SpeechChunk, ToolCall, VoiceEdge
from patter_trio.audio import g711
from patter_trio.audio.formats import PCM16_8K
from patter_trio.errors import ProviderError
from patter_trio.testing import ScriptedLLM, ScriptedSTT, ScriptedTTS, ScriptedVAD, tool_call
from patter_trio.testing.scripted_providers.audible_text import Decoder, Kind, encode, frames_of, word_times

SILENCE_BYTE = bytes([0xFF])
Results = list[tuple[float, str, bool, int]]


def speech(text: str, seconds: float, number: int = 1, kind: Kind = Kind.SPEECH) -> bytes:
    return encode(text, round(seconds / 0.02), utterance=number, kind=kind)


def silence(seconds: float) -> bytes:
    return SILENCE_BYTE * round(seconds * 8000)


async def edges_of(vad: ScriptedVAD, audio: bytes, size: int = 160) -> list[tuple[float, VoiceEdge]]:
    reported = []
    async with vad.open() as session:
        for at in range(0, len(audio), size):
            samples = g711.decode(audio[at : at + size])
            reported += [((at + len(samples)) / 8000, edge) for edge in await session.feed(samples)]
    return reported


def flat(reported: list[tuple[float, VoiceEdge]]) -> list[tuple[float, bool, float]]:
    return [(at, edge.speaking, edge.offset / 8000) for at, edge in reported]


async def test_scripted_vad_delays_edges_with_true_offsets() -> None:
    """ScriptedVAD reports each edge after its delay, with the true offset."""
    audio = silence(0.5) + speech("Hello", 1.0) + silence(1.0)
    vad = ScriptedVAD(start_delay=0.06, end_delay=0.5)
    assert flat(await edges_of(vad, audio)) == [(0.56, True, 0.5), (2.0, False, 1.5)]


@pytest.mark.parametrize("size", [1, 7, 160, 333, 100_000])
async def test_vad_reports_the_same_edges_in_any_chunking(size: int) -> None:
    """ScriptedVAD reports the same three edges for every chunking of the audio."""
    audio = silence(0.3) + speech("a", 0.4) + silence(0.2) + speech("b", 0.4) + silence(0.6) + speech("c", 0.2)
    edges = [edge for _, edge in await edges_of(ScriptedVAD(), audio, size)]
    assert [(edge.speaking, edge.offset) for edge in edges] == [(True, 2400), (False, 10400), (True, 15200)]


async def test_scripted_vad_hears_coughs_but_not_clicks() -> None:
    """ScriptedVAD takes a cough for voice and ignores a click."""
    audio = silence(0.1) + g711.encode(np.full(40, 9000, np.int16)) + silence(0.7) + speech("", 0.2, kind=Kind.COUGH)
    assert [edge.offset for _, edge in await edges_of(ScriptedVAD(), audio)] == [800 + 40 + 5600]


async def test_vad_fails_as_scripted() -> None:
    """ScriptedVAD raises ProviderError after 1 s of audio, as scripted."""
    with pytest.raises(ProviderError, match="after 1 s, as scripted"):
        await edges_of(ScriptedVAD(fail_at=1.0), silence(2.0))


async def hear(
    stt: ScriptedSTT, audio: bytes, *, size: int = 160, seconds: float = 10.0, flush: float = 1e9
) -> tuple[Results, list[BaseException]]:
    """Feed audio in real time; return the transcripts with their instants, and the failures of both sides."""
    reported: Results = []
    failures: list[BaseException] = []
    start = trio.current_time()

    async def send() -> None:
        try:
            for at in range(0, len(audio), size):
                await trio.sleep_until(start + min(at + size, len(audio)) / 8000)
                piece = audio[at : at + size]
                await session.send(piece if stt.accepts.encoding == "mulaw" else g711.decode(piece).tobytes())
            await trio.sleep_until(start + flush)
            await session.flush()
        except ProviderError as error:
            failures.append(error)

    async def receive() -> None:
        try:
            async for transcript in session.transcripts():
                reported.append(
                    (round(trio.current_time() - start, 9), transcript.text, transcript.final, transcript.segment)
                )
        except ProviderError as error:
            failures.append(error)

    with trio.move_on_after(seconds):
        async with stt.open(language="en") as session, trio.open_nursery() as nursery:
            nursery.start_soon(send)
            nursery.start_soon(receive)
    return reported, failures


@pytest.mark.parametrize("size", [160, 800, 123])
async def test_scripted_stt_final_follows_end_in_any_chunking(autojump_clock: MockClock, size: int) -> None:
    """ScriptedSTT reports the final words after the true end of speech for every chunking."""
    audio = silence(0.51) + speech("What are your hours?", 2.0) + silence(1.0)
    assert (await hear(ScriptedSTT(final_delay=0.2), audio, size=size))[0] == [(2.71, "What are your hours?", True, 1)]


async def test_stt_reports_interims_while_the_voice_lasts(autojump_clock: MockClock) -> None:
    """ScriptedSTT reports the words so far every 0.5 s, and the final words 0.2 s after the voice."""
    reported, _ = await hear(ScriptedSTT(interim_every=0.5), speech("What are your hours?", 2.0))
    assert reported == [
        (0.5, "What", False, 1),
        (1.0, "What are", False, 1),
        (1.5, "What are your", False, 1),
        (2.0, "What are your hours?", False, 1),
        (2.2, "What are your hours?", True, 1),
    ]


async def test_stt_takes_pcm_where_it_announces_that(autojump_clock: MockClock) -> None:
    """ScriptedSTT that accepts PCM at 8 kHz reads the words from PCM."""
    reported, _ = await hear(ScriptedSTT(accepts=PCM16_8K), speech("Hello there", 1.0))
    assert reported == [(1.2, "Hello there", True, 1)]


async def test_scripted_stt_numbers_segments_and_skips_coughs(autojump_clock: MockClock) -> None:
    """ScriptedSTT numbers its segments, transcribes hums, and finds no words in coughs."""
    audio = speech("mhm", 0.4, 1, Kind.HUM) + silence(0.1) + speech("", 0.4, 2, Kind.COUGH) + silence(1)
    assert (await hear(ScriptedSTT(), audio))[0] == [(0.6, "mhm", True, 1), (1.1, "", True, 2)]
    assert (await hear(ScriptedSTT(noise=None), audio))[0][1:] == []
    assert (await hear(ScriptedSTT(noise="Thanks for watching!"), audio))[0][1][1] == "Thanks for watching!"


async def test_stt_shows_lost_frames(autojump_clock: MockClock) -> None:
    """ScriptedSTT reports a sentence without the word whose frames are lost."""
    audio = speech("one two three four", 0.8)
    lost = audio[:3200] + audio[4800:]
    assert [text for _, text, _, _ in (await hear(ScriptedSTT(), lost))[0]] == ["one two four"]


async def test_scripted_stt_closes_lost_and_flushed_utterances(autojump_clock: MockClock) -> None:
    """ScriptedSTT closes an utterance when its end is lost and when the session is flushed."""
    cut = speech("one two three four", 0.8)[:3200]
    assert (await hear(ScriptedSTT(), cut + silence(1.0)))[0] == [(0.6, "one two", True, 1)]
    reported, _ = await hear(ScriptedSTT(), cut, flush=0.4)
    assert reported == [(0.6, "one two", True, 1)]


async def test_stt_repeats_stays_silent_and_fails_as_scripted(autojump_clock: MockClock) -> None:
    """ScriptedSTT repeats its finals, stays silent, fails, refuses to open or hangs, as scripted."""
    audio = speech("yes", 0.4) + silence(1)
    assert (await hear(ScriptedSTT(duplicates=1), audio))[0] == [(0.6, "yes", True, 1), (0.65, "yes", True, 1)]
    assert (await hear(ScriptedSTT(silent=True), audio))[0] == []
    _, failures = await hear(ScriptedSTT(fail_at=0.5), audio)
    assert [str(failure) for failure in failures] == ["ScriptedSTT has failed after 0.5 s, as scripted"] * 2
    with pytest.raises(ProviderError, match="opens no session"):
        await hear(ScriptedSTT(fail_to_open=True), audio)
    start = trio.current_time()
    assert await hear(ScriptedSTT(hang_on_open=True), audio, seconds=3.0) == ([], [])
    assert trio.current_time() == start + 3.0


USER = {"role": "user", "content": "x"}


async def answer(llm: ScriptedLLM, messages: Sequence[dict[str, str]] = (USER,)) -> list[tuple[float, Any]]:
    start = trio.current_time()
    async with llm.stream(messages) as tokens:
        reported = [(round(trio.current_time() - start, 9), token) async for token in tokens]
    return [*reported, (round(trio.current_time() - start, 9), "END")]


async def test_llm_spreads_its_tokens_over_the_duration(autojump_clock: MockClock) -> None:
    """ScriptedLLM spreads four tokens evenly over 0.3 s after the first one at 0.1 s."""
    llm = ScriptedLLM(["a b c d", "one"], first_token=0.1, duration=0.3)
    assert await answer(llm) == [(0.1, "a"), (0.2, " b"), (0.3, " c"), (0.4, " d"), (0.4, "END")]
    assert await answer(llm, [USER, USER]) == [(0.1, "one"), (0.4, "END")]


async def test_scripted_llm_derives_place_from_messages(autojump_clock: MockClock) -> None:
    """ScriptedLLM finds its place from the messages, so concurrent calls do not mix."""
    llm = ScriptedLLM(["first", "second"])
    said: list[tuple[int, str]] = []

    async def ask(turns: int) -> None:
        said.append((turns, (await answer(llm, [{"role": "system", "content": ""}] + [USER] * turns))[0][1]))

    async with trio.open_nursery() as nursery:
        for turns in (1, 2, 1, 3):
            nursery.start_soon(partial(ask, turns))
    assert sorted(said) == [(1, "first"), (1, "first"), (2, "second"), (3, "second")]
    assert sorted(len(request) for request in llm.requests) == [2, 2, 3, 4]


async def test_llm_answers_by_a_function_and_records_copies(autojump_clock: MockClock) -> None:
    """ScriptedLLM answers by a function of the messages, and records a copy of each request."""
    llm = ScriptedLLM(lambda messages: f"you said {messages[-1]['content']}")
    message = {"role": "user", "content": "hi"}
    assert "".join(token for _, token in (await answer(llm, [message]))[:-1]) == "you said hi"
    message["content"] = "changed"
    assert llm.requests == [[{"role": "user", "content": "hi"}]]


async def test_scripted_llm_counts_parallel_tool_results_once(autojump_clock: MockClock) -> None:
    """ScriptedLLM calls tools and counts the results of parallel calls as one answer."""
    calls = [tool_call("f", x=1), tool_call("g")]
    llm = ScriptedLLM([["one two", *calls], tool_call("f"), "three"])
    calls = [ToolCall("", "f", '{"x": 1}'), ToolCall("", "g", "{}")]
    assert [token for _, token in await answer(llm)] == ["one", " two", *calls, "END"]
    given = {"role": "tool", "content": "x"}
    assert [token for _, token in await answer(llm, [USER, given, given])] == [ToolCall("", "f", "{}"), "END"]
    more = [USER, given, given, {"role": "assistant", "content": ""}, given]
    assert [token for _, token in await answer(llm, more)] == ["three", "END"]
    assert llm.offered == [[], [], []]


async def test_llm_fails_and_hangs_as_scripted(autojump_clock: MockClock) -> None:
    """ScriptedLLM raises ProviderError after two tokens, or never answers, as scripted."""
    with pytest.raises(ProviderError, match="after 2 tokens"):
        await answer(ScriptedLLM(["a b c"], fail_after=2))
    with trio.move_on_after(60) as scope:
        await answer(ScriptedLLM(["a b c"], hang_after=0))
    assert scope.cancelled_caught


async def say(
    tts: ScriptedTTS, sentences: Sequence[tuple[float, str]], end: float = 0.0
) -> list[tuple[float, SpeechChunk]]:
    """Speak sentences that arrive at the given seconds, and end after ``end``."""
    start = trio.current_time()

    async def source() -> AsyncIterator[str]:
        for at, sentence in sentences:
            await trio.sleep_until(start + at)
            yield sentence
        await trio.sleep_until(start + end)

    async with tts.open(language="en") as session, session.speak(source()) as chunks:
        return [(round(trio.current_time() - start, 9), chunk) async for chunk in chunks]


def seconds(made: Sequence[tuple[float, SpeechChunk]]) -> float:
    return sum(len(chunk.audio) for _, chunk in made) / 8000


def text(made: Sequence[tuple[float, SpeechChunk]]) -> str:
    decoder = Decoder()
    return "".join(sound.words for _, chunk in made for sound in decoder.feed(chunk.audio))


async def test_scripted_tts_outpaces_real_time_with_words(autojump_clock: MockClock) -> None:
    """ScriptedTTS yields chunks faster than real time, and the chunks carry the words."""
    made = await say(ScriptedTTS(first_audio=0.2, duration=1.0, speed=10), [(0.0, "Hello there.")])
    assert [at for at, _ in made] == pytest.approx([0.2 + 0.01 * i for i in range(10)])
    assert (seconds(made), text(made)) == (1.0, "Hello there.")
    assert [chunk.text for _, chunk in made] == ["Hello there."] + [""] * 9


async def test_scripted_tts_divides_duration_among_sentences(autojump_clock: MockClock) -> None:
    """ScriptedTTS divides its duration among the sentences when it knows the whole text in time."""
    made = await say(ScriptedTTS(duration=3.0), [(0.0, "Short one."), (0.1, "This one is longer.!")])
    starts = [i for i, (_, chunk) in enumerate(made) if chunk.text]
    assert (seconds(made), starts) == (3.0, [0, 10])


async def test_scripted_tts_pads_last_sentence_to_duration(autojump_clock: MockClock) -> None:
    """ScriptedTTS pads the last sentence to the duration when the text ends too late."""
    made = await say(ScriptedTTS(duration=5.0), [(0.0, "x" * 10), (1.0, "y" * 10)], end=1.5)
    assert seconds(made) == pytest.approx(5.0)
    assert [(at, chunk.text[:1]) for at, chunk in made if chunk.text] == [(0.2, "x"), (1.2, "y")]
    assert text(made) == "x" * 10 + "y" * 10


async def test_tts_takes_its_time_per_character(autojump_clock: MockClock) -> None:
    """ScriptedTTS speaks 50 characters in 3 s at 0.06 s for each character."""
    assert seconds(await say(ScriptedTTS(per_character=0.06), [(0.0, "x" * 50)])) == 3.0


async def test_scripted_tts_reports_word_times_on_request(autojump_clock: MockClock) -> None:
    """ScriptedTTS reports word times within the chunks on request."""
    made = await say(ScriptedTTS(duration=1.0, chunk=0.4, per_character=1.0), [(0.0, "one t")])
    words = [[(word.text, round(word.start, 6), round(word.end, 6)) for word in chunk.words] for _, chunk in made]
    assert words == [[("one", 0.0, 0.6)], [("t", 0.2, 0.6)], []]


async def test_tts_emits_pcm_where_it_announces_that(autojump_clock: MockClock) -> None:
    """ScriptedTTS that emits PCM at 8 kHz encodes its words in PCM."""
    [(_, chunk)] = await say(ScriptedTTS(duration=0.1, emits=PCM16_8K), [(0.0, "hi")])
    assert Decoder().feed(g711.encode(np.frombuffer(chunk.audio, np.int16)))[-1].words == "hi"


async def test_tts_fails_hangs_and_is_silent_as_scripted(autojump_clock: MockClock) -> None:
    """ScriptedTTS fails, hangs, stays mute or refuses to open, as scripted, and says nothing without text."""
    with pytest.raises(ProviderError, match=r"after 0\.5 s"):
        await say(ScriptedTTS(duration=1.0, fail_after=0.5), [(0.0, "hello")])
    with trio.move_on_after(60) as scope:
        await say(ScriptedTTS(duration=1.0, hang_after=0.0), [(0.0, "hello")])
    assert scope.cancelled_caught
    assert await say(ScriptedTTS(mute=True), [(0.0, "hello")]) == []
    assert await say(ScriptedTTS(duration=9.0), []) == []
    with pytest.raises(ProviderError, match="opens no session"):
        await say(ScriptedTTS(fail_to_open=True), [])


async def test_scripted_tts_passes_source_error_and_stops(autojump_clock: MockClock) -> None:
    """ScriptedTTS passes the error of a failing text source unchanged and stops when the caller leaves."""

    async def broken() -> AsyncIterator[str]:
        yield "One."
        await trio.sleep(0.05)
        raise ProviderError("the LLM failed")

    async with ScriptedTTS().open(language="en") as session:
        with pytest.raises(ProviderError, match="the LLM failed"):  # noqa: PT012 (it fails while iterating)
            async with session.speak(broken()) as chunks:
                async for _ in chunks:
                    pass
        async with session.speak(_for_ever()) as chunks:
            assert (await anext(chunks)).text == "again"


async def _for_ever() -> AsyncIterator[str]:
    while True:
        await trio.sleep(1)
        yield "again"


async def test_each_word_is_reported_with_its_times_once(autojump_clock: MockClock) -> None:
    """ScriptedTTS reports each word once, also if the word begins exactly where a chunk begins."""
    text = "We open at nine and close at five, every day but Sunday and Monday."
    words: list[tuple[str, float]] = []
    async with ScriptedTTS().open(language="en") as session, session.speak(_once(text)) as chunks:
        begun = 0.0
        async for chunk in chunks:
            words += [(word.text, round(begun + word.start, 6)) for word in chunk.words]
            begun += len(chunk.audio) / 8000
    assert " ".join(word for word, _ in words) == text
    assert words == [(word, round(start, 6)) for word, start, _ in word_times(text, frames_of(len(text) * 0.06))]


async def _once(text: str) -> AsyncIterator[str]:
    yield text
