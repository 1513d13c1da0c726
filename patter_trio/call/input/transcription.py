"""The transcription stage: the caller's audio to words.

Two tasks share the call's STT (:mod:`patter_trio.call.input.recognition`): one sends it the audio, the other posts its
results to the inbox.
"""

from collections.abc import Callable
from functools import partial
from typing import Final

import attrs

from patter_trio.abc import SpeechToText, Transcript, VoiceEdge
from patter_trio.audio import g711
from patter_trio.audio.formats import MULAW_8K, PCM16_8K
from patter_trio.call.hooks import HookRunner
from patter_trio.call.input.audio_queue import DropOldestChannel
from patter_trio.call.input.recognition import Recognition
from patter_trio.call.input.tape import FinalWordsRequest
from patter_trio.conversation.inputs import FinalWords, Flushed, InterimWords
from patter_trio.net.tasks import run_beside

# Judged (docs/design.md, "Queues"). Beyond it silence takes the place of the oldest audio: an STT that is so far behind
# transcribes what nobody will answer any more.
MAX_UNSENT_FRAMES: Final = 250
"""5 s of 20 ms frames: enough for a session that takes its time to open while the caller already speaks."""


@attrs.frozen
class Flush:
    """A request, in the order of the audio, for the STT's words up to here."""

    last: bool
    """True if the caller is gone, so that these are the last words."""


class TranscriptionStage:
    """The STT of one call, with a queue before it.

    Args:
        post: takes its words.
        failed: called with a provider's name for each session of it that could not be opened, or was lost.
    """

    def __init__(
        self,
        post: Callable[[InterimWords | FinalWords | Flushed], None],
        failed: Callable[[str, BaseException], None] = lambda _, __: None,
    ) -> None:
        self._post = post
        self._failed = failed
        self._feed: DropOldestChannel[tuple[int, bytes | VoiceEdge | Flush]] = DropOldestChannel(MAX_UNSENT_FRAMES)
        self._put = 0  # samples put into the queue
        self._voice_on = False
        self._unsettled = False  # True from the start of a voice until the final transcript behind its end
        self._final_at = 0  # samples in the queue or behind it when the newest final transcript came
        self._unanswered = 0  # requests for words that no final transcript has answered
        self._flushing = False  # True once the session was asked for the last words

    @property
    def dropped(self) -> int:
        """The number of items that were dropped because the STT was too slow."""
        return self._feed.dropped

    def put(self, item: bytes | VoiceEdge) -> None:
        """Put audio, or an edge of the voice in it, into the queue; never waits."""
        if isinstance(item, VoiceEdge):
            self._voice_on = item.speaking
            # A VAD reports the end of a voice late. Final words that came in between usually cover all of it.
            self._unsettled = item.speaking or (self._unsettled and self._final_at < item.offset)
        self._feed.put((self._put, item))
        if isinstance(item, bytes):
            self._put += len(item)

    def flush(self, *, last: bool = True) -> None:
        """Ask for the words of the audio up to here.

        With ``last``, ``Flushed`` is posted when no more will come.
        """
        if last and not self._unsettled:
            # No voice since the last final transcript: nothing to wait for.
            self._post(Flushed())
            return
        self._feed.put((self._put, Flush(last)))

    async def run(self, stt: SpeechToText, language: str, hook_runner: HookRunner | None = None) -> None:
        """Transcribe until cancelled.

        Raises:
            ProviderError: the STT cannot be opened, or failed.
        """
        recognition = Recognition(stt, language, partial(self._heard, hook_runner), self._failed)
        # Sending has a task of its own: a slow STT that takes no audio must not hold up its results.
        async with run_beside(partial(self._send, recognition, hook_runner)):
            await recognition.run()

    async def _heard(self, hook_runner: HookRunner | None, result: Transcript) -> None:
        transcript: Transcript | None = result
        if hook_runner is not None and hook_runner.given("after_stt"):
            transcript = await hook_runner.result(result)
        # Dropped by after_stt, which only an interim result can be.
        if transcript is None:
            return
        if not transcript.final:
            self._post(InterimWords(transcript.text, transcript.segment, transcript.finished))
            return
        # A final transcript in the middle of a voice ends a segment of it, but more words may come.
        self._unsettled, self._final_at = self._voice_on, self._put
        self._post(FinalWords(transcript.text, transcript.segment, transcript.finished))
        self._unanswered = max(0, self._unanswered - 1)
        if self._flushing and not self._unanswered:
            self._post(Flushed())

    async def _send(self, recognition: Recognition, hook_runner: HookRunner | None) -> None:
        accepts = await recognition.accepts()
        hook_stream = None if hook_runner is None else hook_runner.incoming(accepts)
        # Hooks take and return 16-bit samples: encoding their result as mu-law again would only add noise.
        as_pcm = hook_stream is not None and accepts != MULAW_8K
        recognition.begin(PCM16_8K if as_pcm else MULAW_8K)
        sent = 0
        while True:
            for position, item in await self._feed.take():
                if position > sent:  # silence replaces dropped audio, so that the offsets of the edges stay right
                    missing = position - sent
                    recognition.put(bytes(2 * missing) if as_pcm else bytes([g711.SILENCE_BYTE]) * missing)
                    sent = position
                match item:
                    case bytes():
                        recognition.put(item if hook_stream is None else await hook_stream(item))
                        sent += len(item)
                    case VoiceEdge():
                        recognition.put(item)
                    case Flush() as request:
                        # With the audio before it: a final transcript that comes earlier answers nothing.
                        await recognition.push()
                        self._flushing = self._flushing or request.last
                        self._unanswered += 1
                        recognition.put(FinalWordsRequest())
                # One by one: the call's input would otherwise wait for the hooks of all that waits.
                await recognition.push()
