"""The scripted STT: it reads the words in the audio; its results come at known instants."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Final

import attrs
import trio

from patter_trio.abc import SpeechToText, SpeechToTextSession, Transcript
from patter_trio.abc._recognition import DEFAULT_FINAL_TIMEOUT_S
from patter_trio.audio.formats import MULAW_8K, RATE_HZ, AudioFormat
from patter_trio.errors import ProviderError
from patter_trio.testing.scripted_providers.audible_text import Kind, Sound
from patter_trio.testing.scripted_providers.band_limited import WordReader
from patter_trio.testing.scripted_providers.timed_results import TimedResults

# A hang-up in mid-word leaves an utterance without its last frame. Five missing frames are more than jitter.
MAX_GAP_SAMPLES: Final = round(0.1 * RATE_HZ)
"""Samples without a frame of an utterance after which it counts as over, if its last frame never came."""


@attrs.frozen
class ScriptedSTT(SpeechToText):
    """An STT provider that hears the words carried by the audio and yields them ``final_delay`` after the voice ended.

    Args:
        final_delay: seconds from the end of the voice (the arrival of its last sample) to the final words.
        interim_every: also yield the words so far, each time that this many seconds of an utterance have been heard.
        noise: the final words for a cough or another sound without words; None for no result.
        duplicates: number of times that each final is repeated, 50 ms apart.
        silent: never yield anything.
        silent_after: seconds of audio after which a session yields nothing more.
        gives_interims: declare that each voice brings results, so that the call replaces a session that gives none.
        fail_at: seconds of audio after which the session fails.
        fail_to_open: opening a session fails.
        hang_on_open: opening a session never ends.
        accepts: the format of the audio. At another rate than 8 kHz, the caller of ``call_simulator`` speaks the voice
            that survives resampling.
    """

    final_delay: float = 0.2
    interim_every: float | None = None
    noise: str | None = ""
    duplicates: int = 0
    silent: bool = False
    silent_after: float | None = None
    gives_interims: bool = False
    fail_at: float | None = None
    fail_to_open: bool = False
    hang_on_open: bool = False
    accepts: AudioFormat = MULAW_8K
    provider: str = "scripted"
    model: str = "scripted"

    @property
    def final_timeout(self) -> float:
        """Seconds in which a final transcript answers a flush."""
        return DEFAULT_FINAL_TIMEOUT_S + self.final_delay

    @asynccontextmanager
    async def open(self, *, language: str) -> AsyncIterator[SpeechToTextSession]:
        del language  # the words are in the audio
        if self.fail_to_open:
            raise ProviderError("ScriptedSTT opens no session, as scripted")
        if self.hang_on_open:
            await trio.sleep_forever()
        yield _RecognitionSession(self)


@attrs.define
class _Utterance:
    """The utterance that is being heard: frames of one utterance, or sound without words."""

    segment: int
    kind: Kind
    number: int
    end: int  # number of the sample after the last one
    heard: int = 0  # number of samples
    words: str = ""
    interims: int = 0


class _RecognitionSession(SpeechToTextSession):
    def __init__(self, script: ScriptedSTT) -> None:
        self._script = script
        self._reader = WordReader(script.accepts)
        self._now: _Utterance | None = None
        self._segments = 0
        self._due: TimedResults[Transcript] = TimedResults()

    async def send(self, audio: bytes) -> None:
        for sound in self._reader.feed(audio):
            self._hear(sound)
        # By audio, not by the clock: while the carrier is stalled, no silence is heard.
        if self._now is not None and self._reader.position - self._now.end >= MAX_GAP_SAMPLES:
            self._close(self._script.final_delay)
        if self._script.fail_at is not None and self._reader.fed >= self._script.fail_at * RATE_HZ:
            gone = f"ScriptedSTT has failed after {self._reader.fed / RATE_HZ:g} s, as scripted"
            # Both ways out: the task that sends and the one that reads results have to
            # learn of it, as with a lost connection.
            self._schedule(trio.current_time(), ProviderError(gone))
            raise ProviderError(gone)

    async def flush(self) -> None:
        # A real flush sends something, so it is a checkpoint; code that relies on none would break with a vendor.
        await trio.lowlevel.checkpoint()
        for sound in self._reader.finish():
            self._hear(sound)
        if self._now is not None:
            self._close(self._script.final_delay)
        # A final that is on its way answers the flush. Only without one there has to be another, empty, final.
        if not any(result.final for result in self._due.waiting()):
            self._segments += 1
            nothing = Transcript("", final=True, segment=self._segments)
            self._schedule(trio.current_time() + self._script.final_delay, nothing)

    def transcripts(self) -> AsyncIterator[Transcript]:
        return self._due

    def _hear(self, sound: Sound) -> None:
        now = self._now
        # Frames of another utterance: the last frame of the one before never came, because the caller was cut off.
        if now is not None and (now.kind, now.number) != (sound.kind, sound.utterance):
            self._close(self._script.final_delay)
            now = None
        if now is None:
            self._segments += 1
            now = self._now = _Utterance(self._segments, sound.kind, sound.utterance, sound.end)
        now.heard += sound.end - sound.start
        now.end = sound.end
        now.words += sound.words
        every = self._script.interim_every
        if every is not None and now.heard >= round((now.interims + 1) * every * RATE_HZ):
            now.interims += 1
            if now.words.strip():
                self._schedule(self._arrival(now.end), Transcript(now.words.strip(), final=False, segment=now.segment))
        # The frame says that it is the last: the voice ends here, to the sample, without waiting for silence.
        if sound.kind is not Kind.SOUND and sound.last:
            self._close(self._script.final_delay)

    def _close(self, delay: float) -> None:
        utterance, self._now = self._now, None
        if utterance is None:
            return
        text: str | None = utterance.words.strip()
        if utterance.kind in (Kind.COUGH, Kind.SOUND):
            text = self._script.noise
        if text is None:
            return
        final = Transcript(text, final=True, segment=utterance.segment)
        # The same segment each time: a call must not take a repeated final for new words.
        for number in range(1 + self._script.duplicates):
            self._schedule(self._arrival(utterance.end) + delay + 0.05 * number, final)

    def _arrival(self, sample: int) -> float:
        """Return the instant at which a sample arrived, or would have arrived had it not been part of a frame."""
        return trio.current_time() - (self._reader.fed - sample) / RATE_HZ

    def _schedule(self, at: float, result: Transcript | ProviderError) -> None:
        after = 0.0 if self._script.silent else self._script.silent_after
        silent = after is not None and self._reader.fed >= after * RATE_HZ
        if not (silent and isinstance(result, Transcript)):
            self._due.put(at, result)
