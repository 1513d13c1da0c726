"""PiperTTS: quick first words, one piece ahead, and speech that an STT understands."""

import re
from collections.abc import AsyncIterator
from difflib import SequenceMatcher
from pathlib import Path

import numpy as np
import pytest
import trio
from trio.testing import MockClock

from patter_trio.abc import SpeechChunk
from patter_trio.audio import g711
from patter_trio.errors import ProviderError
from patter_trio.stt.whisper._model import whisper_model
from patter_trio.tts.piper import PiperTTS, write_wav
from patter_trio.tts.piper.__main__ import main
from patter_trio.tts.piper._voice import _level, _trim, piper_voice
from tests.kit.depth import few


class Reply(AsyncIterator[str]):
    """The sentences of a reply; it counts those that were asked for, and may raise an error at its end."""

    def __init__(self, *texts: str, failure: Exception | None = None) -> None:
        self.texts, self.failure, self.asked = texts, failure, 0

    async def __anext__(self) -> str:
        self.asked += 1
        if self.asked > len(self.texts):
            raise self.failure or StopAsyncIteration
        return self.texts[self.asked - 1]


async def speak(*texts: str, tts: PiperTTS | None = None) -> list[SpeechChunk]:
    async with (tts or PiperTTS()).open(language="en-US") as session, session.speak(Reply(*texts)) as chunks:
        return [chunk async for chunk in chunks]


async def test_piper_splits_first_sentence_only_by_clause() -> None:
    """PiperTTS starts the first sentence with its first clause and keeps later sentences whole."""
    chunks = await speak(
        "We are open from noon, and the kitchen closes at ten.", "Would you like to book a table, or not?"
    )
    assert [chunk.text for chunk in chunks] == [
        "We are open from noon,",
        "and the kitchen closes at ten.",
        "Would you like to book a table, or not?",
    ]


async def test_speech_over_the_telephone_is_understood() -> None:
    """Whisper understands the voice over mu-law at 8 kHz.

    Both draw random numbers or round as the processor does: Whisper once understood "how many I help you".
    """
    chunks = await speak("Good evening, this is the harbor restaurant.", "How may I help you?")
    heard = g711.decode(b"".join(chunk.audio for chunk in chunks))
    model = whisper_model(None, "int8")
    understood = re.findall("[a-z]+", model.words(heard, model.prompt("en")).lower())
    said = ["good", "evening", "this", "is", "the", "harbor", "restaurant", "how", "may", "i", "help", "you"]
    blocks = SequenceMatcher(None, said, understood, autojunk=False).get_matching_blocks()
    assert sum(block.size for block in blocks) >= len(said) - 2, understood


async def test_speech_is_telephone_loud_and_never_clipped() -> None:
    """The level of the voice is 0.05 to 0.2 of full scale, and no sample exceeds 0.95.

    The voice draws random numbers: twelve syntheses had levels of 0.125 to 0.153.
    """
    for text in ("Yes.", "We are open every day from five to eleven."):
        [*chunks] = await speak(text)
        samples = g711.decode(b"".join(chunk.audio for chunk in chunks)).astype(float) / 32768
        voice = samples[np.abs(samples) > 0.02 * np.abs(samples).max()]
        assert 0.05 < np.sqrt(np.mean(voice**2)) < 0.2
        assert np.abs(samples).max() < 0.95


async def test_pause_separates_sentences_but_not_reply_edges() -> None:
    """A pause separates sentences, and no reply begins or ends with a pause."""
    first, second = await speak("Yes.", "It is.")
    quiet = [np.abs(g711.decode(chunk.audio[: 8 * 290])).max() < 100 for chunk in (first, second)]
    assert quiet == [False, True]


async def test_word_times_lie_within_the_voice() -> None:
    """The words of the second sentence begin after the pause of 0.3 s and end with its audio."""
    [first, second] = await speak("Yes.", "It is open today.")
    assert [word.text for word in second.words] == ["It", "is", "open", "today."]
    assert second.words[0].start == pytest.approx(0.3)
    assert second.words[-1].end == pytest.approx(len(second.audio) / 8000)
    assert first.words[0].start == 0.0


async def test_at_most_one_piece_is_made_ahead(autojump_clock: MockClock) -> None:
    """PiperTTS takes one sentence more than the caller of speak() has taken chunks."""
    reply = Reply(*["Yes."] * 5)
    async with PiperTTS().open(language="en") as session, session.speak(reply) as chunks:
        for taken in range(4):
            await trio.sleep(1)
            assert reply.asked == taken + 1
            await anext(chunks)


async def test_leaving_the_reply_stops_the_synthesis_at_once(autojump_clock: MockClock) -> None:
    """A cancelled reply ends at once, while its synthesis still runs."""
    async with PiperTTS().open(language="en") as session:
        with trio.move_on_after(0):
            async with session.speak(Reply("We are open every day from five to eleven.")) as chunks:
                await anext(chunks)
        assert trio.current_time() == 0.0


async def test_piper_passes_llm_failure_unwrapped() -> None:
    """An LLM failure during a reply leaves PiperTTS without a wrapper and loses no earlier chunk."""
    heard: list[SpeechChunk] = []
    failure = ProviderError("the LLM is gone")

    async def take() -> None:
        async with PiperTTS().open(language="en") as session, session.speak(Reply("Yes.", failure=failure)) as chunks:
            async for chunk in chunks:
                heard.append(chunk)  # noqa: PERF401 (the failure must not lose what has come)

    with pytest.raises(ProviderError, match="the LLM is gone"):
        await take()
    assert [chunk.text for chunk in heard] == ["Yes."]


async def test_unpronounceable_sentences_yield_no_audio() -> None:
    """Sentences without a pronounceable character yield no audio."""
    assert await speak("...", "", "  ", "\u2603", "()") == []


async def test_accents_numbers_and_long_pieces_are_spoken() -> None:
    """A text with an accent and a time of day becomes 0.8 to 3 s of speech."""
    [chunk] = await speak("Café at 3:30!")
    assert 0.8 < len(chunk.audio) / 8000 < 3


def test_soundless_piper_voice_yields_no_speech() -> None:
    """A voice without sound yields no speech."""
    assert len(_level(_trim(np.zeros(1000, np.float32), 22050))) == 0


async def test_a_slower_pace_takes_longer() -> None:
    """A length_scale of 1.5 makes the speech at least 1.2 times as long."""
    [usual], [slow] = (
        await speak("We are open today."),
        await speak("We are open today.", tts=PiperTTS(length_scale=1.5)),
    )
    assert len(slow.audio) > 1.2 * len(usual.audio)


@pytest.mark.parametrize("text", few(["hello " * 100, "9" * 60, "x" * 400, "a-" * 100, "We are open and " * 20], 1))
@pytest.mark.costly
async def test_no_inference_is_long(text: str) -> None:
    """Whatever the text, each chunk has at most 20 s of speech."""
    seconds: list[float] = []
    async with PiperTTS().open(language="en") as session, session.speak(Reply(text)) as chunks:
        async for chunk in chunks:
            seconds.append(len(chunk.audio) / 8000)
            if len(seconds) == 3:
                break
    assert len(seconds) > 1
    assert max(seconds) < 20


@pytest.mark.deep
async def test_long_number_is_one_word_in_several_chunks() -> None:
    """The text of a number of 40 digits comes with its first chunk, and its time with its last one."""
    chunks = await speak("9" * 40)
    assert [chunk.text for chunk in chunks] == ["9" * 40, *[""] * (len(chunks) - 1)]
    assert [word.text for chunk in chunks for word in chunk.words] == ["9" * 40]
    assert chunks[-1].words[0].end == pytest.approx(len(chunks[-1].audio) / 8000)


async def test_other_languages_are_refused() -> None:
    """A language other than English raises ProviderError."""
    with pytest.raises(ProviderError, match="must be English"):
        async with PiperTTS().open(language="de"):
            pass


@pytest.mark.parametrize("description", [None, "{}", "no json"])
async def test_unloadable_piper_voice_raises_provider_error(tmp_path: Path, description: str | None) -> None:
    """A voice that PiperTTS cannot load raises ProviderError."""
    voice = tmp_path / "voice.onnx"
    voice.write_bytes(b"no model")
    if description:
        (tmp_path / "voice.onnx.json").write_text(description)
    with pytest.raises(ProviderError, match="piper"):
        async with PiperTTS(path=voice).open(language="en"):
            pass


def test_options_that_make_no_sense_are_refused() -> None:
    """A length_scale of 0 raises ValueError."""
    with pytest.raises(ValueError, match="length_scale"):
        PiperTTS(length_scale=0)


def test_a_text_can_be_written_to_a_wav(tmp_path: Path) -> None:
    """write_wav() writes a text as a WAV file, and the voice is loaded once."""
    write_wav("Hello.", tmp_path / "hello.wav")
    assert (tmp_path / "hello.wav").read_bytes()[:4] == b"RIFF"
    assert piper_voice(None) is piper_voice(None)


@pytest.mark.parametrize(
    ("arguments", "status", "err"),
    [
        ([], 2, 'usage: python -m patter_trio.tts.piper "text" out.wav\n'),
        (["Hello.", "missing/out.wav"], 1, "piper: [Errno 2] No such file or directory: 'missing/out.wav'\n"),
    ],
)
def test_mistakes_of_the_command_are_one_line(
    arguments: list[str],
    status: int,
    err: str,
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A mistake in ``python -m patter_trio.tts.piper`` is one line with the exit status 1 or 2."""
    monkeypatch.chdir(tmp_path)
    assert main(arguments) == status
    assert capsys.readouterr().err == err


def test_command_writes_without_a_word(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    """``python -m patter_trio.tts.piper`` writes the recording and prints nothing."""
    assert main(["Hello.", str(tmp_path / "out.wav")]) == 0
    assert capsys.readouterr() == ("", "")
    assert (tmp_path / "out.wav").read_bytes()[:4] == b"RIFF"
