"""The transcription stage: the caller's audio to words.

Two tasks share one STT session: one sends it the audio, the other posts its results to the inbox.
"""

from collections.abc import Awaitable, Callable
from typing import Final

import attrs
import trio

from patter_trio.abc import SpeechToText, SpeechToTextSession, Transcript, VoiceEdge
from patter_trio.audio import g711
from patter_trio.audio.convert import Quality, converter
from patter_trio.audio.formats import MULAW_8K, PCM16_8K, AudioFormat
from patter_trio.call.hooks import HookRunner
from patter_trio.call.input.audio_queue import DropOldestChannel
from patter_trio.call.opening import open_with_timeout
from patter_trio.conversation.inputs import FinalWords, Flushed, InterimWords

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
    """The STT of one call, with a queue before it."""

    def __init__(self, post: Callable[[InterimWords | FinalWords | Flushed], None]) -> None:
        self._post = post
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
        async with (
            # The session outside, the nursery inside: the sender has ended before the session is closed under it.
            open_with_timeout(stt.open(language=language), stt.provider) as session,
            trio.open_nursery() as nursery,
        ):
            accepts = session.accepts or stt.accepts
            hook_stream = None if hook_runner is None else hook_runner.incoming(accepts)
            # Sending has a task of its own: a slow STT that takes no audio must not hold up its results.
            nursery.start_soon(self._send, session, accepts, hook_stream)
            hooked = hook_runner is not None and bool(hook_runner.given("after_stt"))
            async for result in session.transcripts():
                transcript: Transcript | None = result
                if hook_runner is not None and hooked:
                    transcript = await hook_runner.result(result)
                # Dropped by after_stt, which only an interim result can be.
                if transcript is None:
                    continue
                if not transcript.final:
                    self._post(InterimWords(transcript.text, transcript.segment, transcript.finished))
                    continue
                # A final transcript in the middle of a voice ends a segment of it, but more words may come.
                self._unsettled, self._final_at = self._voice_on, self._put
                self._post(FinalWords(transcript.text, transcript.segment, transcript.finished))
                self._unanswered = max(0, self._unanswered - 1)
                if self._flushing and not self._unanswered:
                    self._post(Flushed())

    async def _send(
        self,
        session: SpeechToTextSession,
        accepts: AudioFormat,
        hook_stream: Callable[[bytes], Awaitable[bytes]] | None,
    ) -> None:
        outgoing = _Outgoing(session, accepts, hook_stream)
        sent = 0
        while True:
            for position, item in await self._feed.take():
                if position > sent:  # silence replaces dropped audio, so that the offsets of the edges stay right
                    await outgoing.silence(position - sent)
                    sent = position
                match item:
                    case bytes():
                        await outgoing.send(item)
                        sent += len(item)
                    case VoiceEdge():
                        await session.voice(item)
                    case Flush() as request:
                        await outgoing.push()  # first, because the last word may be in what the resampler holds back
                        # Only from here on: a final transcript that came while audio was still being sent answers
                        # nothing.
                        self._flushing = self._flushing or request.last
                        self._unanswered += 1
                        await session.flush()


class _Outgoing:
    """The way of the caller's audio into an STT session: through the hooks, then into the format that it accepts."""

    def __init__(
        self,
        session: SpeechToTextSession,
        accepts: AudioFormat,
        hook_stream: Callable[[bytes], Awaitable[bytes]] | None,
    ) -> None:
        self._session = session
        self._hook_stream = hook_stream
        # Hooks take and return 16-bit samples: encoding their result as mu-law again would only add noise.
        self._shown_as_pcm = hook_stream is not None and accepts != MULAW_8K
        self._converter = converter(PCM16_8K if self._shown_as_pcm else MULAW_8K, accepts, Quality.LOW_DELAY)

    async def send(self, mulaw: bytes) -> None:
        await self._give(mulaw if self._hook_stream is None else await self._hook_stream(mulaw))

    async def silence(self, samples: int) -> None:
        await self._give(bytes(2 * samples) if self._shown_as_pcm else bytes([g711.SILENCE_BYTE]) * samples)

    async def push(self) -> None:
        """Send the audio that the resampler holds back."""
        if self._converter is not None and (rest := self._converter.flush()):
            await self._session.send(rest)

    async def _give(self, audio: bytes) -> None:
        if self._converter is None:
            await self._session.send(audio)
        elif converted := self._converter.convert(audio):  # empty while the resampler holds back all of it
            await self._session.send(converted)
