"""The caller's voice on its way in, third stop: which words are in it?

Two tasks around one session of the recogniser: one hands it the audio, the other takes its results to the inbox.
"""

from collections.abc import Awaitable, Callable
from typing import Final

import trio

from patter_trio.abc import SpeechToText, SpeechToTextSession, Transcript, VoiceEdge
from patter_trio.audio import g711
from patter_trio.audio.formats import RATE, AudioFormat, Encoding
from patter_trio.call.hooks import HookRunner
from patter_trio.call.input.audio_queue import DropOldestChannel
from patter_trio.call.opening import open_with_timeout
from patter_trio.conversation.inputs import FinalWords, Flushed, InterimWords
from patter_trio.errors import ConfigurationError

MAX_UNSENT_FRAMES: Final = 250
"""5 s of 20 ms frames: enough for a session that takes its time to open while the caller already speaks."""


class Flush:
    """Asks the recogniser for its last words."""


class TranscriptionStage:
    """Recognition of one call."""

    def __init__(self, post: Callable[[InterimWords | FinalWords | Flushed], None]) -> None:
        self._post = post
        self._feed: DropOldestChannel[tuple[int, bytes | VoiceEdge | Flush]] = DropOldestChannel(MAX_UNSENT_FRAMES)
        self._put = 0  # samples handed over
        self._unsettled = False
        self._flushing = False

    @property
    def dropped(self) -> int:
        """Pieces of audio that the recogniser was too slow to take."""
        return self._feed.dropped

    def put(self, item: bytes | VoiceEdge) -> None:
        """Hand over audio, or an edge of the voice in it."""
        if isinstance(item, VoiceEdge) and item.speaking:
            self._unsettled = True
        self._feed.put((self._put, item))
        if isinstance(item, bytes):
            self._put += len(item)

    def flush(self) -> None:
        """Have the last words come; the inbox is told ``Flushed`` when none will."""
        if not self._unsettled:
            self._post(Flushed())
            return
        self._flushing = True
        self._feed.put((self._put, Flush()))

    async def run(self, stt: SpeechToText, language: str, hook_runner: HookRunner | None = None) -> None:
        """Recognise until cancelled.

        Raises:
            ProviderError: the recogniser cannot be had, or failed.
        """
        hook_stream = None if hook_runner is None else hook_runner.incoming(stt.accepts)
        async with (
            open_with_timeout(stt.open(language=language), stt.provider) as session,
            trio.open_nursery() as nursery,
        ):
            nursery.start_soon(self._send, session, stt.accepts, hook_stream)
            hooked = hook_runner is not None and bool(hook_runner.given("after_stt"))
            async for result in session.transcripts():
                transcript: Transcript | None = result
                if hook_runner is not None and hooked:
                    transcript = await hook_runner.result(result)
                if transcript is None:
                    continue
                if not transcript.final:
                    self._post(InterimWords(transcript.text, transcript.segment, transcript.finished))
                    continue
                self._unsettled = False
                self._post(FinalWords(transcript.text, transcript.segment, transcript.finished))
                if self._flushing:
                    self._post(Flushed())

    async def _send(
        self,
        session: SpeechToTextSession,
        accepts: AudioFormat,
        hook_stream: Callable[[bytes], Awaitable[bytes]] | None,
    ) -> None:
        encode = encoder(accepts)
        sent = 0
        while True:
            for position, item in await self._feed.take():
                if position > sent:  # silence stands for what was dropped, so that the edges' offsets hold
                    await session.send(encode(g711.silence((position - sent) / RATE)))
                    sent = position
                match item:
                    case bytes():
                        await session.send(encode(item) if hook_stream is None else await hook_stream(item))
                        sent += len(item)
                    case VoiceEdge():
                        await session.voice(item)
                    case Flush():
                        await session.flush()


def encoder(accepts: AudioFormat, who: str = "a recogniser") -> Callable[[bytes], bytes]:
    """Return what makes of mu-law at 8 kHz what a recogniser or an engine accepts.

    Raises:
        ConfigurationError: it accepts another sampling rate.
    """
    if accepts.rate != RATE:
        raise ConfigurationError(f"{who} must accept audio at {RATE} Hz, not {accepts.rate}")
    if accepts.encoding is Encoding.MULAW:
        return bytes
    return g711.to_pcm
