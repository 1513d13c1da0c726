"""The caller's voice on its way in, third stop: which words are in it?

Two tasks around one session of the recogniser: one hands it the audio, the other takes its results to the inbox.
"""

from collections.abc import Awaitable, Callable
from typing import Final

import trio

from patter_trio.abc import RecognitionSession, SpeechToText, Transcript, VoiceEdge
from patter_trio.audio import g711
from patter_trio.audio.formats import RATE, AudioFormat, Encoding
from patter_trio.call.hooks import Hooking
from patter_trio.call.input.audio_queue import Feed
from patter_trio.call.opening import opened
from patter_trio.conversation.inputs import Final as FinalWords
from patter_trio.conversation.inputs import Flushed, Interim
from patter_trio.errors import ConfigurationError

WAITING: Final = 250
"""5 s of 20 ms frames: enough for a session that takes its time to open while the caller already speaks."""


class Flush:
    """Asks the recogniser for its last words."""


class Hearing:
    """Recognition of one call."""

    def __init__(self, post: Callable[[Interim | FinalWords | Flushed], None]) -> None:
        self._post = post
        self._feed: Feed[tuple[int, bytes | VoiceEdge | Flush]] = Feed(WAITING)
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

    async def run(self, stt: SpeechToText, language: str, hooking: Hooking | None = None) -> None:
        """Recognise until cancelled.

        Raises:
            ProviderError: the recogniser cannot be had, or failed.
        """
        through_hooks = None if hooking is None else hooking.incoming(stt.accepts)
        async with opened(stt.open(language=language), stt.provider) as session, trio.open_nursery() as nursery:
            nursery.start_soon(self._send, session, stt.accepts, through_hooks)
            hooked = hooking is not None and bool(hooking.given("after_stt"))
            async for result in session.transcripts():
                transcript: Transcript | None = result
                if hooking is not None and hooked:
                    transcript = await hooking.result(result)
                if transcript is None:
                    continue
                if not transcript.final:
                    self._post(Interim(transcript.text, transcript.segment, transcript.finished))
                    continue
                self._unsettled = False
                self._post(FinalWords(transcript.text, transcript.segment, transcript.finished))
                if self._flushing:
                    self._post(Flushed())

    async def _send(
        self,
        session: RecognitionSession,
        accepts: AudioFormat,
        through_hooks: Callable[[bytes], Awaitable[bytes]] | None,
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
                        await session.send(encode(item) if through_hooks is None else await through_hooks(item))
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
