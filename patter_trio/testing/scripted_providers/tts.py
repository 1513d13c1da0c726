"""The scripted TTS: it speaks the voice that a simulated caller understands, at known instants."""

from collections.abc import AsyncGenerator, AsyncIterable, AsyncIterator
from contextlib import aclosing, asynccontextmanager
from typing import Final

import attrs
import trio

from patter_trio.abc import SpeechChunk, TextToSpeech, TextToSpeechSession, Word
from patter_trio.audio import g711
from patter_trio.audio.formats import FRAME_S, MULAW_8K, RATE_HZ, AudioFormat, Encoding
from patter_trio.errors import ProviderError
from patter_trio.testing.flat_nursery import open_flat_nursery
from patter_trio.testing.scripted_providers import audible_text, band_limited

# Far more than a reply has. The reading task is then never held up, so the arrival of a sentence is the LLM's instant.
MAX_WAITING_SENTENCES: Final = 256
"""Sentences of one reply that may wait for synthesis; with more, the reader of the text waits."""


@attrs.frozen
class ScriptedTTS(TextToSpeech):
    """A TTS provider that speaks the voice a simulated caller understands, with a length that is known beforehand.

    Args:
        first_audio: seconds from the arrival of a sentence to its first audio.
        duration: seconds of audio for each reply. If the end of the text is known before the first audio, the sentences
            share it in proportion to their length; otherwise each takes its ``per_character``. Words are never spoken
            slower than ``per_character``: the missing time is filled by a voice without words, so that a short text can
            make a long reply.
        per_character: seconds of audio for each character.
        chunk: seconds of audio in each chunk.
        speed: seconds of audio that are made in a second.
        timings: also give the times of words, so that the agent knows exactly what the caller heard; False: it must
            estimate.
        fail_after: seconds of a reply's audio after which the provider fails; 0: instead of the first.
        hang_after: seconds of a reply's audio after which nothing more comes; 0: nothing at all.
        mute: replies have no sound.
        fail_to_open: opening a session fails.
        emits: the format of the audio; at another rate than 8 kHz, the voice is the one that survives resampling.
    """

    first_audio: float = 0.2
    duration: float | None = None
    per_character: float = 0.06
    chunk: float = 0.1
    speed: float = 20.0
    timings: bool = True
    fail_after: float | None = None
    hang_after: float | None = None
    mute: bool = False
    fail_to_open: bool = False
    emits: AudioFormat = MULAW_8K
    provider: str = "scripted"
    model: str = "scripted"

    @asynccontextmanager
    async def open(self, *, language: str) -> AsyncIterator[TextToSpeechSession]:
        del language  # all languages sound the same
        if self.fail_to_open:
            raise ProviderError("ScriptedTTS opens no session, as scripted")
        yield _SynthesisSession(self)


# Of the run, not of the process: each test begins with 1, whichever ran before it.
_replies: Final = trio.lowlevel.RunVar[int]("replies of ScriptedTTS", 0)
"""The number of replies spoken in this run: a call may open several sessions, and each reply has its own number."""


class _SynthesisSession(TextToSpeechSession):
    def __init__(self, script: ScriptedTTS) -> None:
        self._script = script

    @asynccontextmanager
    async def speak(self, sentences: AsyncIterable[str]) -> AsyncIterator[AsyncIterator[SpeechChunk]]:
        _replies.set(_replies.get() + 1)
        reply = _SpokenReply(self._script, _replies.get())
        # A failure of the text or of the speech is raised as itself: a call catches ProviderError, not groups.
        async with open_flat_nursery() as nursery, aclosing(reply.chunks()) as chunks:
            nursery.start_soon(reply.read, sentences)
            yield chunks
            nursery.cancel_scope.cancel()


class _SpokenReply:
    """The synthesis of one reply: one task reads the text, the consumer of :meth:`chunks` makes the audio."""

    def __init__(self, script: ScriptedTTS, number: int) -> None:
        self._script = script
        self._number = number
        self._arrived, self._waiting = trio.open_memory_channel[tuple[float, str]](MAX_WAITING_SENTENCES)
        self._known: list[str] = []
        self._ended = False
        self._frames = 0  # number of frames made so far
        self._parts = 0
        self._time = 0.0  # instant at which the audio made so far was finished

    async def read(self, sentences: AsyncIterable[str]) -> None:
        # Also when the text fails or is cancelled: the consumer would wait for ever for the next sentence.
        async with self._arrived:
            async for sentence in sentences:
                self._known.append(sentence)
                # With its arrival, because the consumer may be speaking the sentence
                # before: its latency counts from here.
                await self._arrived.send((trio.current_time(), sentence))
        # Only now: a consumer that finds it set knows the whole text.
        self._ended = True

    async def chunks(self) -> AsyncGenerator[SpeechChunk, None]:
        shared: float | None = None  # seconds for each character, if the whole text is known before the first audio
        said = 0
        async for arrived, sentence in self._waiting:
            await trio.sleep_until(arrived + self._script.first_audio)
            # Once, before the first part: a length that was already used cannot be shared out anew.
            if not self._parts and self._ended and self._script.duration is not None:
                shared = self._script.duration / max(1, sum(map(len, self._known)))
            said += len(sentence)
            if shared is None:
                frames = audible_text.frames_of(len(sentence) * self._script.per_character)
            else:
                # From the total so far, not per sentence, so that rounding does not add up
                # and the reply has exactly its duration.
                frames = round(said * shared / FRAME_S) - self._frames
            # A barge-in closes this generator, which would leave the one inside to the collector.
            async with aclosing(self._part(sentence, frames)) as part:
                async for chunk in part:
                    yield chunk
        missing = round((self._script.duration or 0) / FRAME_S) - self._frames
        if missing > 0 and self._parts:
            async with aclosing(self._part("", missing)) as part:
                async for chunk in part:
                    yield chunk

    async def _part(self, text: str, frames: int) -> AsyncGenerator[SpeechChunk, None]:
        self._parts += 1
        try:
            frames = max(frames, self._fewest_frames(text))
        # What a vendor would refuse. Half a character is a fault of the LLM, not of the
        # script, so it is an error of a provider.
        except UnicodeEncodeError as error:
            raise ProviderError("ScriptedTTS: the text contains a lone surrogate (invalid Unicode)") from error
        natural = max(audible_text.frames_of(len(text) * self._script.per_character), self._fewest_frames(text))
        spoken = min(frames, natural)
        audio = self._voiced(text, frames, spoken)
        words = audible_text.word_times(text, spoken) if self._script.timings else []
        step = audible_text.frames_of(self._script.chunk)
        # Not back before now: audio that was not asked for was not made in advance.
        self._time = max(self._time, trio.current_time())
        for first in range(0, frames, step):
            # Before the chunk: a provider that fails after 0.3 s of audio has given exactly that.
            await self._stop()
            if self._script.mute:
                continue
            frame = len(audio) // frames
            piece = audio[first * frame : (first + step) * frame]
            begin, seconds = first * FRAME_S, self._script.emits.seconds(piece)
            # Compare frame numbers: in seconds, rounding could put a word at the border of two chunks into both.
            mine = [word for word in words if first <= round(word[1] / FRAME_S) < first + step]
            yield SpeechChunk(
                audio=piece,
                text="" if first else text,
                words=tuple(Word(w, s - begin, e - begin) for w, s, e in mine),
            )
            self._frames += len(piece) // frame
            self._time += seconds / self._script.speed
            # After the yield: the first chunk comes at once, the next when it would have been made.
            await trio.sleep_until(self._time)

    def _fewest_frames(self, text: str) -> int:
        exact = self._script.emits.rate == RATE_HZ
        return (
            audible_text.fewest_frames(text) if exact else audible_text.fewest_frames(text, band_limited.MAX_TEXT_BYTES)
        )

    def _voiced(self, text: str, frames: int, spoken: int) -> bytes:
        """Return the speech of a text in the format that is emitted."""
        emits, number, part = self._script.emits, self._number, self._parts
        if emits.rate == RATE_HZ:
            mulaw = audible_text.encode(text, frames, spoken=spoken, utterance=number, part=part)
            return mulaw if emits.encoding is Encoding.MULAW else g711.to_pcm(mulaw)
        samples = band_limited.encode(text, frames, rate=emits.rate, spoken=spoken, utterance=number, part=part)
        return g711.encode(samples) if emits.encoding is Encoding.MULAW else samples.astype("<i2").tobytes()

    async def _stop(self) -> None:
        made = self._frames * FRAME_S
        # Half a frame of tolerance: times are sums of frames of 0.02 s, which binary
        # fractions do not represent exactly.
        if self._script.fail_after is not None and made >= self._script.fail_after - FRAME_S / 2:
            raise ProviderError(f"ScriptedTTS fails after {made:g} s of audio, as scripted")
        if self._script.hang_after is not None and made >= self._script.hang_after - FRAME_S / 2:
            await trio.sleep_forever()
