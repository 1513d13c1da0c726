"""Scripted providers: their words travel in the audio, and their timing is exact.

Each is a frozen provider like a real one, with a session for each call. They understand the voice of
:class:`~patter_trio.testing.simulation.caller.SimulatedCaller` (see :mod:`patter_trio.testing.scripted.audible_text`);
to them, other sound is voice without words. Times are seconds; on a :class:`trio.testing.MockClock` they are exact.
"""

import json
import math
from collections.abc import AsyncGenerator, AsyncIterable, AsyncIterator, Callable, Sequence
from contextlib import aclosing, asynccontextmanager
from itertools import pairwise
from typing import Any, Final

import attrs
import numpy as np
import trio

from patter_trio.abc import (
    LanguageModel,
    Message,
    SpeechChunk,
    SpeechToText,
    SpeechToTextSession,
    TextToSpeech,
    TextToSpeechSession,
    ToolCall,
    ToolDefinition,
    Transcript,
    Usage,
    VoiceActivity,
    VoiceActivitySession,
    VoiceEdge,
    Word,
    report_usage,
)
from patter_trio.audio import g711
from patter_trio.audio.formats import FRAME_S, MULAW_8K, RATE_HZ, AudioFormat, Encoding
from patter_trio.audio.g711 import Samples
from patter_trio.errors import ProviderError
from patter_trio.testing.flat_nursery import open_flat_nursery
from patter_trio.testing.scripted import audible_text, band_limited
from patter_trio.testing.scripted.audible_text import Kind, Sound
from patter_trio.testing.scripted.band_limited import WordReader
from patter_trio.testing.scripted.timed_results import TimedResults

# Theory of operation. Instants are computed from the audio, not taken when the code happens to run: a voice
# ended when its last sample arrived, and a result is due a fixed time after that. Results wait in a heap
# until their instant. So a loaded machine, or audio that comes in lumps, moves no result by a millisecond,
# and a test may assert the instant of each.

# A hang-up in mid-word leaves an utterance without its last frame. Five missing frames are more than jitter.
MAX_GAP_SAMPLES: Final = round(0.1 * RATE_HZ)
"""Samples without a frame of an utterance after which it counts as over, if its last frame never came."""
# Far more than a reply has. The reading task is then never held up, so the arrival of a sentence is the LLM's instant.
MAX_WAITING_SENTENCES: Final = 256
"""Sentences of one reply that may wait for synthesis; with more, the reader of the text waits."""


# Voice activity -------------------------------------------------------------------------------------------------------
@attrs.frozen
class ScriptedVAD(VoiceActivity):
    """A VAD that reports a voice ``start_delay`` after it really began and ``end_delay`` after it really ended.

    The edges carry the true offsets. Every sound is voice, also a cough; sound shorter than ``start_delay`` and silence
    shorter than ``end_delay`` make no edge. Audio comes in frames of 20 ms, so an edge is reported with the frame in
    which its delay is over. ``fail_at``: seconds of audio after which the model fails.
    """

    start_delay: float = 0.05
    end_delay: float = 0.5
    fail_at: float | None = None

    @asynccontextmanager
    async def open(self) -> AsyncIterator[VoiceActivitySession]:
        yield _VoiceSession(self)


class _VoiceSession(VoiceActivitySession):
    def __init__(self, script: ScriptedVAD) -> None:
        self._fail_at = math.inf if script.fail_at is None else script.fail_at * RATE_HZ
        self._start_delay = round(script.start_delay * RATE_HZ)
        # At least one sample: with zero, each pause between two samples would end the voice.
        self._end_delay = max(1, round(script.end_delay * RATE_HZ))
        self._fed = 0
        self._onset: int | None = None
        self._last = 0  # end of the newest sound
        self._reported = False  # True once the beginning of the current voice is reported

    async def feed(self, samples: Samples) -> Sequence[VoiceEdge]:
        edges: list[VoiceEdge] = []
        for start, end in _loud_runs(samples):
            self._sound(self._fed + start, self._fed + end, edges)
        self._fed += len(samples)
        if self._fed >= self._fail_at:
            raise ProviderError(f"ScriptedVAD fails after {self._fed / RATE_HZ:g} s, as scripted")
        self._silence(self._fed, edges)
        return edges

    def _sound(self, start: int, end: int, edges: list[VoiceEdge]) -> None:
        # The silence before this sound may have ended the voice before it, within the same piece of audio.
        self._silence(start, edges)
        if self._onset is None:
            self._onset = start
        self._last = end
        # From the onset, over short gaps: what counts is the time since the voice began, as a detector's delay does.
        if not self._reported and end - self._onset >= self._start_delay:
            self._reported = True
            edges.append(VoiceEdge(speaking=True, offset=self._onset, confidence=1.0))

    def _silence(self, until: int, edges: list[VoiceEdge]) -> None:
        if self._onset is None or until - self._last < self._end_delay:
            return
        if self._reported:
            edges.append(VoiceEdge(speaking=False, offset=self._last, confidence=1.0))
        self._onset, self._reported = None, False


def _loud_runs(samples: Samples) -> list[tuple[int, int]]:
    """Return the begin and the end of each run of samples that are not silent."""
    loud = np.concatenate(([False], np.abs(samples.astype(np.int32)) > audible_text.MAX_SILENCE_LEVEL, [False]))
    turns = np.flatnonzero(loud[1:] != loud[:-1])
    return list(zip(turns[0::2].tolist(), turns[1::2].tolist(), strict=True))


# Speech-to-text -------------------------------------------------------------------------------------------------------
@attrs.frozen
class ScriptedSTT(SpeechToText):
    """An STT provider that hears the words carried by the audio and yields them ``final_delay`` after the voice ended.

    Args:
        final_delay: seconds from the end of the voice (the arrival of its last sample) to the final words.
        interim_every: also yield the words so far, each time that this many seconds of an utterance have been heard.
        noise: the final words for a cough or another sound without words; None for no result.
        duplicates: number of times that each final is repeated, 50 ms apart.
        silent: never yield anything.
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
    fail_at: float | None = None
    fail_to_open: bool = False
    hang_on_open: bool = False
    accepts: AudioFormat = MULAW_8K
    provider: str = "scripted"
    model: str = "scripted"

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
        if not (self._script.silent and isinstance(result, Transcript)):
            self._due.put(at, result)


# LLM ------------------------------------------------------------------------------------------------------------------
Scripted = str | ToolCall | Sequence[str | ToolCall]
"""One reply: a text, a tool call, or several of these with the calls last."""
Replies = Sequence[Scripted] | Callable[[Sequence[Message]], Scripted]


def tool_call(name: str, /, **arguments: Any) -> ToolCall:
    """Return a tool call for a script."""
    return ToolCall("", name, json.dumps(arguments))


def _frozen(replies: Replies) -> Replies:
    return replies if callable(replies) else tuple(replies)


@attrs.frozen
class ScriptedLLM(LanguageModel):
    """An LLM that answers the n-th user message (or tool result) with the n-th reply, and further ones with the last.

    The place in the script is counted in the messages of the request. So one provider serves any number of calls at
    once, and a question that is asked again because the caller continued gets the same answer.

    Args:
        replies: the texts, or a function of the messages that returns the text (or raises ``ProviderError``). A tool
            call (:func:`tool_call`) may stand in place of a text, or a list of texts and calls.
        first_token: seconds from the request to the first token.
        duration: seconds from the first token to the end; the tokens (words) are spread evenly.
        fail_after: number of tokens after which the model fails; 0: instead of the first.
        hang_after: number of tokens after which nothing more comes; 0: nothing at all.
        usage: the usage that is reported at the end of each answer, also of an answer that was cut; None for no report.
    """

    replies: Replies = attrs.field(converter=_frozen)
    first_token: float = 0.1
    duration: float = 0.3
    fail_after: int | None = None
    hang_after: int | None = None
    usage: Usage | None = None
    provider: str = "scripted"
    model: str = "scripted"
    requests: list[list[dict[str, Any]]] = attrs.field(factory=list, init=False, eq=False, repr=False)
    """The messages of every request so far, of all calls, oldest first; copies."""
    offered: list[list[str]] = attrs.field(factory=list, init=False, eq=False, repr=False)
    """The names of the tools that were offered with each request."""

    @asynccontextmanager
    async def stream(
        self, messages: Sequence[Message], *, tools: Sequence[ToolDefinition] = ()
    ) -> AsyncIterator[AsyncIterator[str | ToolCall]]:
        # Copies: the conversation goes on, and the test asks what the model saw.
        self.requests.append([dict(message) for message in messages])
        self.offered.append([tool.name for tool in tools])
        try:
            # Closed in this task, at once: a generator left to the collector would end at any later time.
            async with aclosing(self._tokens(self._reply(messages), trio.current_time())) as tokens:
                yield tokens
        finally:
            # In ``finally``: a vendor bills an answer that was cut, too.
            if self.usage is not None:
                report_usage(self.usage)

    def _reply(self, messages: Sequence[Message]) -> Scripted:
        if callable(self.replies):
            return self.replies(messages)
        roles = [message["role"] for message in messages]
        # The results of tools that were called together count as one message.
        asked = sum(role == "user" or (role == "tool" and before != "tool") for before, role in pairwise(["", *roles]))
        return self.replies[min(max(0, asked - 1), len(self.replies) - 1)] if self.replies else ""

    async def _tokens(self, reply: Scripted, asked: float) -> AsyncGenerator[str | ToolCall, None]:
        parts = [reply] if isinstance(reply, str | ToolCall) else reply
        tokens = [token for part in parts for token in (tokens_of(part) if isinstance(part, str) else [part])]
        # From the request, not from now: opening the context may have taken time.
        # Instants, not pauses, so none adds up.
        first = asked + self.first_token
        gap = self.duration / max(1, len(tokens) - 1)
        for number, token in enumerate(tokens):
            await trio.sleep_until(first + number * gap)
            # After the wait: a model that fails after two tokens does so when the third would have come.
            await self._stop(number)
            yield token
        await trio.sleep_until(first + self.duration)
        await self._stop(len(tokens))

    async def _stop(self, number: int) -> None:
        if number == self.fail_after:
            raise ProviderError(f"ScriptedLLM fails after {number} tokens, as scripted")
        if number == self.hang_after:
            await trio.sleep_forever()


def tokens_of(text: str) -> list[str]:
    """Return the words of a text, each with the white space before it."""
    tokens = text.split(" ")
    return [token if number == 0 else f" {token}" for number, token in enumerate(tokens)] if text else []


# Text-to-speech -------------------------------------------------------------------------------------------------------
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
