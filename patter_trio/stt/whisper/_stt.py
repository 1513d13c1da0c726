"""Whisper, embedded: recognition of English without an account.

The VAD gates the provider, which gets the audio between two edges of the caller's voice, and 0.3 s before. While the
voice lasts, it transcribes the growing utterance every half second for interim results; these are dropped first when no
thread is free. When the voice ends, it transcribes the whole utterance for the final result.

* Each utterance is a segment of its own. A voice without words yields a final result with an empty text, so that
  nothing waits for words that will not come.
* Each flush is answered by a final result: that of the open utterance, which goes on as a new segment, or an empty one
  if none is open.
* Edges count samples since the first one sent. A sender that leaves out audio must send silence in its place.
"""

from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path

import attrs
import trio

from patter_trio.abc import SpeechToText, SpeechToTextSession, Transcript, VoiceEdge
from patter_trio.audio.formats import MULAW_8K
from patter_trio.errors import ProviderError
from patter_trio.net.tasks import ResultStream, run_beside
from patter_trio.net.threads import available, run_in_thread
from patter_trio.providers.languages import is_english
from patter_trio.providers.other_names import other_names
from patter_trio.providers.validators import positive
from patter_trio.providers.weights import model_errors, require
from patter_trio.stt.whisper._model import PACKAGE, whisper_model
from patter_trio.stt.whisper._utterances import RecordedUtterance, UtteranceBuffer

# When it is full, ``send`` waits, and the call's own queue in front of it drops its oldest audio.
_MAX_WAITING_UTTERANCES = 16
"""Most utterances that wait for transcription: at half a second of voice each, half a minute of machine-gun speech."""
_MAX_WAITING_RESULTS = 64
"""Most results that wait to be read; beyond that, transcription pauses."""

Hear = Callable[[RecordedUtterance], str]


@other_names()
@attrs.frozen(kw_only=True)
class WhisperSTT(SpeechToText):
    """Whisper on this machine's CPU, gated by the VAD.

    Args:
        path: folder of another CTranslate2 conversion of Whisper with its ``tokenizer.json``; the default is tiny.en
            from the extra ``local``, which supports only English.
        interim_every: seconds of voice between two interim results; None: no interim results.
        compute_type: CTranslate2's; ``int8`` is the fastest on CPUs.

    Raises:
        MissingExtraError: the extra ``local`` is not installed.
        ConfigurationError: ``interim_every`` is not a number above 0.
    """

    path: Path | None = attrs.field(default=None, converter=attrs.converters.optional(Path))
    # Measured: 75 ms to 175 ms of a core for each, while that caller speaks. Half a second is soon enough for an
    # interruption.
    interim_every: float | None = attrs.field(default=0.5, validator=positive(none="no interim results"))
    compute_type: str = "int8"

    provider = "whisper"
    model = "tiny.en"
    accepts = MULAW_8K
    # Judged: on two cores, the utterances of four callers wait for each other (docs/local.md).
    final_timeout: float = attrs.field(default=10.0, init=False)

    def __attrs_post_init__(self) -> None:
        # Now, not in the first call: the error has the command that installs it.
        require("ctranslate2", "tokenizers", *([] if self.path else [PACKAGE]))

    def language_problem(self, language: str) -> str:
        """Return that the language is not English, which the default model alone supports."""
        # Another model's languages are known once it is loaded.
        if self.path is not None or is_english(language):
            return ""
        return (
            f"the language of this model must be English, got {language!r}; give another stt=, such as "
            "DeepgramSTT(), or WhisperSTT(path=...) of another model"
        )

    def open(self, *, language: str) -> AbstractAsyncContextManager[SpeechToTextSession]:
        """Open a session for one call; the first session of a process loads the model, in about half a second.

        Raises:
            ProviderError: the model cannot be loaded, or does not support the language.
        """
        return self._open(language)

    async def prewarm(self) -> None:
        """Load the model now, so that the first call does not wait for it.

        Raises:
            ConfigurationError: a file of the model is missing, or differs from the pinned version.
            ProviderError: the model cannot be loaded.
        """
        await whisper_model.in_thread(self.path, self.compute_type)

    @asynccontextmanager
    async def _open(self, language: str) -> AsyncIterator[SpeechToTextSession]:
        with model_errors("whisper"):
            model = await whisper_model.in_thread(self.path, self.compute_type)
        # Once per session: a language that the model does not know is an error of the opening.
        prompt = model.prompt(language)
        session = _WhisperSession(lambda utterance: model.words(utterance.samples, prompt), self.interim_every)
        async with run_beside(session.work):
            yield session


@attrs.frozen(eq=False)
class _Job:
    utterance: RecordedUtterance
    final: bool


class _WhisperSession(SpeechToTextSession):
    def __init__(self, hear: Hear, interim_every: float | None) -> None:
        self._hear = hear
        self._interim_every = interim_every
        self._next_interim = interim_every or 0.0
        self._buffer = UtteranceBuffer()
        self._interim = trio.CancelScope()
        self._jobs, self._waiting_jobs = trio.open_memory_channel[_Job](_MAX_WAITING_UTTERANCES)
        self._results, self._waiting_results = trio.open_memory_channel[Transcript](_MAX_WAITING_RESULTS)
        self._failure: ProviderError | None = None

    async def send(self, audio: bytes) -> None:
        self._check()
        # Only an utterance that has become too long comes back here.
        part = self._buffer.add(audio)
        if part is not None:
            await self._finish(part)
        # By the length of the utterance, not by a clock: audio that arrives late is not asked for twice.
        elif self._interim_every is not None and self._buffer.seconds >= self._next_interim:
            self._next_interim += self._interim_every
            self._ask_for_interim()

    async def voice(self, edge: VoiceEdge) -> None:
        if edge.speaking:
            self._buffer.begin(edge.offset)
        elif (utterance := self._buffer.end(edge.offset)) is not None:
            await self._finish(utterance)

    async def flush(self) -> None:
        await self._finish(self._buffer.split())

    def transcripts(self) -> AsyncIterator[Transcript]:
        return ResultStream(self._waiting_results, lambda: self._failure)

    async def work(self) -> None:
        """Transcribe one utterance after another, until cancelled or the model fails."""
        last = Transcript("", final=True)
        try:
            with self._results:
                async for job in self._waiting_jobs:
                    # One after another: two jobs of one call would only take a thread from another call.
                    text = await self._words(job)
                    result = None if text is None else Transcript(text, job.final, job.utterance.segment)
                    # Final results always go out, even when empty; an interim result only if it says something new.
                    if result and (job.final or (text and result != last)):
                        last = result
                        await self._results.send(result)
        except ProviderError as failure:
            # The failure comes first: closing the channel wakes the senders, which then raise it.
            self._failure = failure
            self._waiting_jobs.close()

    async def _words(self, job: _Job) -> str | None:
        """Return the words of an utterance; None if an interim result was abandoned for the final one."""
        if job.final:
            return await run_in_thread(self._hear, job.utterance)
        # The scope lets _finish abandon an interim result: the final one must not wait behind it.
        with trio.CancelScope() as self._interim:
            # The thread runs to its end all the same; only its result is dropped.
            return await run_in_thread(self._hear, job.utterance)
        return None

    def _ask_for_interim(self) -> None:
        """Transcribe the open utterance so far, unless this session is busy or no thread is free."""
        # Only if the worker waits: an interim result behind other work would be out of date.
        idle = self._jobs.statistics().tasks_waiting_receive > 0
        utterance = self._buffer.so_far()
        # Interim results are the first thing to go: a final result of any call is worth more.
        if idle and available() > 0 and utterance is not None:
            self._jobs.send_nowait(_Job(utterance, final=False))

    async def _finish(self, utterance: RecordedUtterance) -> None:
        # The interim result gives way before the final job waits for its place in the queue.
        self._next_interim = self._interim_every or 0.0
        self._interim.cancel(reason="the final result replaces it")
        try:
            await self._jobs.send(_Job(utterance, final=True))
        # The worker has failed and closed the channel.
        except trio.BrokenResourceError:
            self._check()

    def _check(self) -> None:
        if self._failure:
            raise self._failure
