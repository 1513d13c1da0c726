"""Piper, embedded: speech without an account.

A reply is synthesised piece by piece: its first clause alone, so that the caller hears something within about 0.1 s,
then whole sentences. The next piece is synthesised while the previous one is being taken, never more than one ahead.

``python -m patter_trio.tts.piper "text" out.wav`` writes a WAV of what a caller would hear, before the telephone's
coding.
"""

import wave
from collections.abc import AsyncIterable, AsyncIterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path

import attrs
import numpy as np
import trio

from patter_trio.abc import SpeechChunk, TextToSpeech, TextToSpeechSession
from patter_trio.audio import g711
from patter_trio.audio.formats import MULAW_8K, RATE_HZ
from patter_trio.errors import ProviderError
from patter_trio.net.threads import run_in_thread
from patter_trio.providers.languages import is_english
from patter_trio.providers.other_names import other_names
from patter_trio.providers.validators import positive
from patter_trio.providers.weights import model_errors, require
from patter_trio.tts.background_speech import BackgroundSpeech
from patter_trio.tts.piper._pieces import Part, ends_sentence, first_pieces, later_pieces, parts_of, word_times
from patter_trio.tts.piper._spoken_forms import spoken
from patter_trio.tts.piper._voice import PACKAGE, PiperVoice, piper_voice

_SENTENCE_PAUSE_S = 0.3
"""Seconds between two sentences, as an unhurried speaker pauses."""
# Judged by listening: the pause of a comma.
_CLAUSE_PAUSE_S = 0.08


@other_names()
@attrs.frozen(kw_only=True)
class PiperTTS(TextToSpeech):
    """Piper on this machine's CPU, with an American voice.

    Args:
        path: ``.onnx`` of another Piper voice for English with its ``.onnx.json`` beside it; the default is
            en_US-joe-medium from the extra ``local``.
        length_scale: duration relative to the voice's own pace; 1.2 takes a fifth longer.

    Raises:
        MissingExtraError: the extra ``local`` is not installed.
        ConfigurationError: ``length_scale`` is not a number above 0.
    """

    path: Path | None = attrs.field(default=None, converter=attrs.converters.optional(Path))
    length_scale: float = attrs.field(default=1.0, validator=positive())

    provider = "piper"
    model = "en_US-joe-medium"
    emits = MULAW_8K

    def __attrs_post_init__(self) -> None:
        # Now, not in the first call: the error has the command that installs it.
        require("gruut", "num2words", *([] if self.path else [PACKAGE]))

    def language_problem(self, language: str) -> str:
        """Return that the language is not English, the only one whose pronunciation is known here."""
        return (
            ""
            if is_english(language)
            else f"the language must be English, got {language!r}; give another tts=, such as ElevenLabsTTS()"
        )

    def open(self, *, language: str) -> AbstractAsyncContextManager[TextToSpeechSession]:
        """Open a session for one call; the first session of a process loads the voice, in about a second.

        Raises:
            ProviderError: the voice cannot be loaded, or the language is not English.
        """
        return self._open(language)

    async def prewarm(self) -> None:
        """Load the voice and its lexicon now, so that the first reply does not wait for them.

        Raises:
            ConfigurationError: a file of the voice is missing, or differs from the pinned version.
            ProviderError: the voice cannot be loaded.
        """
        voice = await piper_voice.in_thread(self.path)
        # With a number: gruut's and num2words' tables for the first number take 0.1 s.
        await run_in_thread(voice.say, spoken("Hello, it is 1 o'clock."), self.length_scale)

    @asynccontextmanager
    async def _open(self, language: str) -> AsyncIterator[TextToSpeechSession]:
        if problem := self.language_problem(language):
            raise ProviderError(f"piper: {problem}")
        with model_errors("piper"):
            voice = await piper_voice.in_thread(self.path)
        yield _PiperSession(voice, self.length_scale)


@attrs.frozen(eq=False)
class _PiperSession(BackgroundSpeech):
    _voice: PiperVoice
    _length_scale: float

    async def _make(self, sentences: AsyncIterable[str], made: trio.MemorySendChannel[SpeechChunk]) -> None:
        said: list[str] = []
        with made:  # closes without a checkpoint, which would let a cancellation replace the failure of a sentence
            async for sentence in sentences:
                # White space is evened out: a model may write line breaks.
                text = " ".join(sentence.split())
                for piece in later_pieces(text) if said else first_pieces(text):
                    # In front of a piece, not behind: nothing is known yet of what follows.
                    pause = (_SENTENCE_PAUSE_S if ends_sentence(said) else _CLAUSE_PAUSE_S) if said else 0.0
                    # In a thread: a sentence takes up to half a second.
                    chunk, rest = await run_in_thread(self._begun, piece, pause)
                    # A piece of marks alone has no audio, and must not count as said.
                    if chunk.audio:
                        said.append(piece)
                        # Waits until the piece before it was taken: never more than one is ahead.
                        await made.send(chunk)
                    for part in rest:
                        chunk = await run_in_thread(self._chunk, part, _CLAUSE_PAUSE_S)
                        if chunk.audio:
                            await made.send(chunk)

    def _begun(self, piece: str, pause: float) -> tuple[SpeechChunk, list[Part]]:
        """Return the speech of a piece after a pause, and its further parts if it is too long to be made at once."""
        # A foreign library reads the numbers. Its message may quote the text, which belongs in no log.
        try:
            first, *rest = parts_of(piece, spoken)
        except (ArithmeticError, LookupError, RuntimeError, TypeError, ValueError):
            raise ProviderError("piper: a number could not be put into words") from None
        return self._chunk(first, pause), rest

    def _chunk(self, part: Part, pause: float) -> SpeechChunk:
        """Return the speech of a part after a pause; without audio if there is nothing to pronounce."""
        samples = self._voice.say(part.said, self._length_scale)
        if not len(samples):
            return SpeechChunk(b"")
        audio = g711.silence(pause) + g711.encode(samples)
        words = tuple(word_times(part.words, pause, len(samples) / RATE_HZ))
        return SpeechChunk(audio, part.text, words)


# Twice the telephone's rate: the voice itself has 22 kHz.
def write_wav(text: str, path: Path, rate: int = 2 * RATE_HZ) -> None:
    """Write a text's speech to a mono 16-bit WAV, with a fifth of a second of silence around it.

    Raises:
        PatterError: the voice cannot be loaded.
        OSError: the file cannot be written.
    """
    voice = piper_voice(None)
    parts = [part for piece in later_pieces(" ".join(text.split())) for part in parts_of(piece, spoken)]
    samples = np.concatenate([voice.say(part.said, 1.0, rate) for part in parts])
    # Opened here: ``wave`` would leave an object without a file behind that complains when it is freed.
    with path.open("wb") as file, wave.open(file, "wb") as recording:
        recording.setnchannels(1)
        recording.setsampwidth(2)
        recording.setframerate(rate)
        recording.writeframes(np.pad(samples, rate // 5).tobytes())
