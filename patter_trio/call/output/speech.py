"""The way from a TTS's or an engine's speech to a reply's playout queue: conversion, hooks, mu-law.

mu-law at 8 kHz passes unconverted. For any other format, each reply has its own converter. The resampler holds back
160 ms at most. That audio is pushed out when the reply ends, and also before the carrier runs out of audio: while a
tool runs, or the application writes its next sentence, the caller must not wait seconds for the end of a word.
"""

from collections.abc import Callable
from typing import Any, Final

import trio

from patter_trio.abc import SpeechChunk
from patter_trio.audio import g711
from patter_trio.audio.formats import MULAW_8K, RATE_HZ, AudioFormat
from patter_trio.call.hooks import ReplyHooks
from patter_trio.call.output.writer import CarrierWriter
from patter_trio.conversation.playout import PlayoutQueue
from patter_trio.conversation.speech import SpeechConverter

# Judged: shorter, and a late event loop would let the caller hear the gap; longer, and speech that comes in bursts
# would be pushed out in the middle more often, where the resampler's filter then starts anew.
DRY_LEAD_S: Final = 0.1
"""Seconds of audio that the carrier has left when held-back speech is pushed out: one media message of 100 ms."""


class SpeechFeed:
    """The way of one reply's speech into its playout queue.

    Args:
        playout: the reply's playout queue.
        emits: the format of chunks that do not name another one.
        writer: sends the audio, and says when there is room for more.
        bound: samples that may wait in the queue; a provider that is further ahead waits.
        hooks: the hooks for the audio.
        begun: called once, at the first audio that reaches the queue.
        start_soon: starts a task that pushes out held-back speech before the carrier runs dry; without it the reply
            itself has to :meth:`push` where it pauses.
    """

    def __init__(
        self,
        playout: PlayoutQueue,
        emits: AudioFormat,
        writer: CarrierWriter,
        bound: int,
        *,
        hooks: ReplyHooks | None = None,
        begun: Callable[[], None] | None = None,
        start_soon: Callable[..., Any] | None = None,
    ) -> None:
        self._playout = playout
        self._emits = emits
        self._writer = writer
        self._bound = bound
        self._hooks = hooks
        self._target = MULAW_8K if hooks is None else hooks.format
        self._begun = begun
        self._start_soon = start_soon
        self._converter: SpeechConverter | None = None
        # Held while converted chunks go through the hooks: two tasks do that, and their chunks must stay in order.
        self._turn = trio.Lock()
        self._held = trio.Event()
        self._pushing = trio.CancelScope()

    def __repr__(self) -> str:
        return f"<SpeechFeed {self._emits} into {self._playout!r}, {self._converter}>"

    async def put(self, chunk: SpeechChunk) -> None:
        """Convert the next chunk, and put it into the queue; wait first while the queue is full."""
        # Before the lock: a full queue must not keep held-back speech from being pushed out.
        await self._writer.wait_for_room(self._playout, self._bound)
        made = chunk.format or self._emits
        if made == self._target and self._converter is None:
            await self._hand_over(chunk)
            return
        async with self._turn:
            for part in self._converted(chunk, made):
                await self._hand_over(part)
        # Outside of the lock, and last: the task that this wakes must find the converter's state after this chunk.
        self._held.set()

    async def push(self) -> None:
        """Push out the speech that the converter holds back, because speech pauses here, or ends."""
        if self._converter is not None:
            async with self._turn:
                for part in self._converter.rest():
                    await self._hand_over(part)

    async def finish(self) -> None:
        """Push out the rest, because this was all of the reply."""
        if self._converter is None:
            return
        # Under the lock: cancelled while it holds the lock itself, the task would lose the chunk that it is passing on.
        async with self._turn:
            self._pushing.cancel(reason="all of the reply was spoken")
        await self.push()

    def _converted(self, chunk: SpeechChunk, made: AudioFormat) -> list[SpeechChunk]:
        before: list[SpeechChunk] = []
        if self._converter is None or self._converter.source != made:
            # A new format needs a new converter; what the old one holds back comes first.
            before = [] if self._converter is None else self._converter.rest()
            first, self._converter = self._converter is None, SpeechConverter(made, self._target)
            # Only for a resampler: a mere change of encoding holds nothing back.
            if first and self._start_soon is not None and made.rate != RATE_HZ:
                self._start_soon(self._keep_flowing)
        return before + self._converter.take(chunk)

    async def _hand_over(self, chunk: SpeechChunk) -> None:
        shown = chunk if self._hooks is None else await self._hooks.audio(chunk)
        if shown is None:
            return
        audio = shown.audio if self._target == MULAW_8K else g711.from_pcm(shown.audio)
        # No await from here to the end: what begun() reports and what the queue has agree.
        self._playout.put(audio, shown.text, shown.words)
        self._writer.wake()
        if audio and self._begun is not None:
            begun, self._begun = self._begun, None
            begun()

    async def _keep_flowing(self) -> None:
        with self._pushing:
            while True:
                await self._held.wait()
                if self._playout.put_samples:
                    await self._writer.wait_until_dry(self._playout, DRY_LEAD_S)
                else:  # all audio so far is held back, so the queue does not open; more usually follows soon
                    await trio.sleep(DRY_LEAD_S)
                    if self._playout.put_samples:
                        continue
                # Reset before the push: a chunk that comes during it is noticed.
                self._held = trio.Event()
                await self.push()
