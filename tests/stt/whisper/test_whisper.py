"""Whisper on recorded people over the telephone, gated by the voice detector, in virtual time."""

import re
import threading
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import numpy as np
import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from patter_trio.abc import SpeechToTextSession, Transcript, VoiceEdge
from patter_trio.audio import g711
from patter_trio.audio.g711 import Samples
from patter_trio.errors import ProviderError
from patter_trio.net.tasks import run_beside
from patter_trio.net.threads import available, run_in_thread
from patter_trio.stt.whisper import WhisperSTT
from patter_trio.stt.whisper._model import WhisperModel
from patter_trio.stt.whisper._stt import _WhisperSession
from patter_trio.stt.whisper._utterances import RecordedUtterance
from patter_trio.vad.silero import SileroVAD
from tests.kit.depth import few

Recording = Callable[[str], Samples]

DIGITS = {
    word: str(digit)
    for digit, word in enumerate(
        ["zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten"]
    )
}


def words(text: str) -> list[str]:
    """Return the words in lower case and without punctuation, and numbers digit by digit."""
    found = re.findall(
        r"[a-z']+|[0-9]", " ".join(DIGITS.get(word, word) for word in re.findall(r"[a-z']+|[0-9]+", text.lower()))
    )
    return ["mister" if word == "mr" else word for word in found]


async def play(session: SpeechToTextSession, samples: Samples, vad: SileroVAD | None = None) -> None:
    """Send a call's audio at its own pace, with the edges of the voice."""
    async with (vad or SileroVAD()).open() as detector:
        for at in range(0, len(samples), 160):
            frame = samples[at : at + 160]
            await session.send(g711.encode(frame))
            for edge in await detector.feed(frame):
                await session.voice(edge)
            await trio.sleep(0.02)


async def hear(samples: Samples, stt: WhisperSTT | None = None) -> list[Transcript]:
    """Return all results for a call's audio, flushed at its end."""
    async with (stt or WhisperSTT()).open(language="en-US") as session:
        heard: list[Transcript] = []

        async def collect() -> None:
            async for transcript in session.transcripts():
                heard.append(transcript)  # noqa: PERF401 (cancellation must not lose what has come)

        async with trio.open_nursery() as nursery:
            nursery.start_soon(collect)
            await play(session, samples)
            await session.flush()
            await trio.sleep(1)
            nursery.cancel_scope.cancel()
    return heard


def wrong(said: list[str], heard: list[str]) -> int:
    """Return the number of words to change, add or leave out to make one text of the other."""
    row = list(range(len(heard) + 1))
    for count, word in enumerate(said, 1):
        before, row = row, [count]
        for index, other in enumerate(heard):
            row.append(min(before[index] + (word != other), before[index + 1] + 1, row[index] + 1))
    return row[-1]


@pytest.mark.parametrize(
    ("name", "said", "allowed"),
    few(
        [
            (
                "dashwood_leisure",
                (
                    "and mister john dashwood had then leisure to consider how much there might be prudently in his "
                    "power "
                    "to do for them"
                ),
                0,
            ),
            ("ill_disposed", "he was not an ill disposed young man", 0),
            ("cold_hearted", "unless to be rather cold hearted and rather selfish is to be ill disposed", 1),
            ("cards_1", "ten of clubs", 1),
            ("cards_2", "four queen of clubs", 1),
        ],
        1,
    ),
)
@pytest.mark.costly
async def test_people_are_heard_right_over_the_telephone(
    autojump_clock: MockClock, recording: Recording, name: str, said: str, allowed: int
) -> None:
    """Whisper transcribes five recorded sentences over mu-law at 8 kHz with at most one wrong word each."""
    first, answer_to_flush = [result for result in await hear(recording(name)) if result.final]
    assert wrong(words(said), words(first.text)) <= allowed
    assert answer_to_flush == Transcript("", final=True, segment=1)


@pytest.mark.parametrize(
    ("name", "said"),
    few(
        [
            ("hours", "hi what time do you open on saturday"),
            ("book", "i would like to book a table for four at 730 tomorrow"),
            ("name", "the name is henry miller"),
            ("phone", "my number is 555 123 4567"),
            ("interrupt", "sorry one more question"),
            ("bye", "that is all thank you goodbye"),
        ],
        2,
    ),
)
async def test_the_callers_of_the_example_are_heard_right(
    autojump_clock: MockClock, recording: Recording, name: str, said: str
) -> None:
    """Whisper transcribes each line of the example's caller without a wrong word."""
    results = await hear(recording(name), WhisperSTT(interim_every=None))
    assert words(" ".join(result.text for result in results)) == words(said)


@pytest.mark.deep
async def test_whisper_interims_grow_within_one_segment(autojump_clock: MockClock, recording: Recording) -> None:
    """Interim results grow with the utterance and carry the number of its segment."""
    results = await hear(recording("dashwood_leisure"))
    interim = results[:-2]
    assert len(interim) >= 8
    assert not any(result.final for result in interim)
    assert {result.segment for result in interim} == {0}
    assert len(words(interim[0].text)) < len(words(interim[-1].text)) <= len(words(results[-2].text))


async def test_two_utterances_are_two_segments(autojump_clock: MockClock, recording: Recording) -> None:
    """Two utterances become segments 0 and 1, and the flush closes segment 2 without words."""
    results = await hear(np.concatenate([recording("name"), recording("hours")]), WhisperSTT(interim_every=None))
    assert [(result.segment, words(result.text)) for result in results] == [
        (0, ["the", "name", "is", "henry", "miller"]),
        (1, ["hi", "what", "time", "do", "you", "open", "on", "saturday"]),
        (2, []),
    ]


@pytest.mark.parametrize("level", [0, 300])
async def test_wordless_voice_ends_with_empty_final(autojump_clock: MockClock, level: int) -> None:
    """A voice of silence or noise ends with an empty final transcript, without the words that Whisper makes up."""
    noise = np.random.default_rng(3).normal(0, level, 16000).astype(np.int16)
    async with WhisperSTT(interim_every=None).open(language="en") as session:
        await session.voice(VoiceEdge(speaking=True, offset=0))
        await session.send(g711.encode(noise))
        await session.voice(VoiceEdge(speaking=False, offset=14000))
        assert await anext(session.transcripts()) == Transcript("", final=True, segment=0)


async def test_a_flush_finishes_the_open_utterance(autojump_clock: MockClock, recording: Recording) -> None:
    """A flush in the middle of a voice returns the words so far as final."""
    async with WhisperSTT(interim_every=None).open(language="en") as session:
        await play(session, recording("ill_disposed")[: round(3.8 * 8000)])
        await session.flush()
        transcript = await anext(session.transcripts())
    assert transcript.final
    assert words(transcript.text)[:5] == ["he", "was", "not", "an", "ill"]


class Ear:
    """A stand-in for the model: it returns the seconds that it was given, after a delay in real time."""

    def __init__(self, *, failing: bool = False) -> None:
        self.failing, self.may_end, self.heard = failing, threading.Event(), []
        self.may_end.set()

    def __call__(self, utterance: RecordedUtterance) -> str:
        self.heard.append(utterance.seconds)
        self.may_end.wait(5)
        if self.failing:
            raise ProviderError("the model failed") from ZeroDivisionError()
        return f"{utterance.seconds:.2f} s"


@asynccontextmanager
async def listening(ear: Ear, interim_every: float | None = 0.5) -> AsyncIterator[_WhisperSession]:
    session = _WhisperSession(ear, interim_every)
    async with run_beside(session.work):
        yield session


async def send(session: SpeechToTextSession, seconds: float) -> None:
    for _ in range(round(seconds * 50)):
        await session.send(g711.silence(0.02))
        await trio.sleep(0.02)


async def test_whisper_transcribes_every_half_second_and_at_end(
    autojump_clock: MockClock,
) -> None:
    """Whisper transcribes the growing utterance every half second and once more at its end."""
    ear = Ear()
    async with listening(ear) as session:
        await session.voice(VoiceEdge(speaking=True, offset=0))
        await send(session, 1.8)
        await session.voice(VoiceEdge(speaking=False, offset=12800))
        results = session.transcripts()
        assert [await anext(results) for _ in range(4)] == [
            Transcript("0.50 s", final=False),
            Transcript("1.00 s", final=False),
            Transcript("1.50 s", final=False),
            Transcript("1.80 s", final=True),
        ]


async def test_whisper_drops_interims_without_free_thread(autojump_clock: MockClock) -> None:
    """Whisper drops interim results while no thread is free and still delivers the final one."""
    busy, ear = threading.Event(), Ear()
    async with trio.open_nursery() as nursery, listening(ear) as session:
        for _ in range(available()):
            nursery.start_soon(run_in_thread, busy.wait, 5)
        await wait_all_tasks_blocked()
        await session.voice(VoiceEdge(speaking=True, offset=0))
        for _ in range(100):
            await session.send(g711.silence(0.02))
            await trio.lowlevel.checkpoint()
        busy.set()
        await session.voice(VoiceEdge(speaking=False, offset=16000))
        assert (await anext(session.transcripts())).final
    assert ear.heard == [2.0]


async def test_voice_end_abandons_whisper_interim(autojump_clock: MockClock) -> None:
    """The end of the voice abandons an interim transcription that is still running."""
    ear = Ear()
    ear.may_end.clear()
    async with listening(ear) as session:
        await wait_all_tasks_blocked()
        await session.voice(VoiceEdge(speaking=True, offset=0))
        for _ in range(30):
            await session.send(g711.silence(0.02))
        while not ear.heard:
            await trio.lowlevel.checkpoint()
        await session.voice(VoiceEdge(speaking=False, offset=4800))
        await wait_all_tasks_blocked()
        ear.may_end.set()
        assert await anext(session.transcripts()) == Transcript("0.60 s", final=True)


async def test_a_voice_that_lasts_is_heard_in_parts(autojump_clock: MockClock) -> None:
    """Whisper gets a voice of 30 s in two segments, which contain all of it."""
    ear = Ear()
    async with listening(ear, interim_every=None) as session:
        await session.voice(VoiceEdge(speaking=True, offset=0))
        await send(session, 30)
        await session.voice(VoiceEdge(speaking=False, offset=240000))
        results = session.transcripts()
        assert [(await anext(results)).segment for _ in range(2)] == [0, 1]
    assert sum(ear.heard) == pytest.approx(30)


async def test_failing_whisper_model_ends_session_with_cause(autojump_clock: MockClock) -> None:
    """A failing model ends the results and the session with its original cause."""
    async with listening(Ear(failing=True)) as session:
        await session.flush()
        with pytest.raises(ProviderError, match="the model failed") as failure:
            await anext(session.transcripts())
        assert isinstance(failure.value.__cause__, ZeroDivisionError)
        for attempt in (session.flush(), session.send(b"")):
            with pytest.raises(ProviderError, match="the model failed"):
                await attempt


def test_multilingual_whisper_receives_the_language() -> None:
    """Whisper passes the language of the call to a multilingual model."""

    class Tokenizer:
        def token_to_id(self, token: str) -> int | None:
            return {"<|pt|>": 5}.get(token)

    model = WhisperModel(None, None, Tokenizer(), True)
    assert model.prompt("pt-BR") == ["<|startoftranscript|>", "<|pt|>", "<|transcribe|>", "<|notimestamps|>"]
    with pytest.raises(ProviderError, match="'tlh'"):
        model.prompt("tlh")


async def test_leaving_the_session_abandons_what_is_being_heard(
    autojump_clock: MockClock, recording: Recording
) -> None:
    """Leaving the session takes no virtual time while the model still works in its threads."""
    async with WhisperSTT().open(language="en") as session:
        await session.voice(VoiceEdge(speaking=True, offset=0))
        await session.send(g711.encode(recording("dashwood_leisure")))
        await session.flush()
        while available():
            await trio.lowlevel.checkpoint()
    assert trio.current_time() == 0.0


async def test_results_end_with_the_session(autojump_clock: MockClock) -> None:
    """The stream of transcripts ends when its session closes."""
    async with listening(Ear()) as session:
        await session.flush()
        await wait_all_tasks_blocked()
        results = session.transcripts()
        assert await anext(results) == Transcript("0.00 s", final=True)
    assert [result async for result in results] == []


async def test_unknown_whisper_language_error_names_remedy() -> None:
    """The error for a language that the model does not support names the remedy."""
    with pytest.raises(ProviderError, match=r"'pt-BR'; set path="):
        async with WhisperSTT().open(language="pt-BR"):
            pass


async def test_a_folder_that_holds_no_model_is_said(tmp_path: Path) -> None:
    """A folder without model.bin raises ProviderError that names the missing file."""
    with pytest.raises(ProviderError, match=r"but model\.bin is missing"):
        async with WhisperSTT(path=tmp_path).open(language="en"):
            pass


async def test_a_broken_model_is_the_providers_failure(tmp_path: Path) -> None:
    """A model file that cannot be loaded raises ProviderError."""
    for name in ("model.bin", "tokenizer.json"):
        (tmp_path / name).write_text("{}")
    with pytest.raises(ProviderError, match="whisper"):
        async with WhisperSTT(path=tmp_path).open(language="en"):
            pass


def test_options_that_make_no_sense_are_refused() -> None:
    """An interim_every of 0 raises ValueError."""
    with pytest.raises(ValueError, match="interim_every"):
        WhisperSTT(interim_every=0)
