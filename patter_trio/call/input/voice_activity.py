"""The voice activity stage: finds where voices begin and end in the caller's audio.

The reader puts frames into a queue without waiting. Each frame passes the VAD and goes on to the STT or engine,
followed by the edges that it completes, so that a gated STT gets both in the order of the audio.
"""

import logging
from collections.abc import Callable
from typing import Final

import numpy as np
import trio

from patter_trio.abc import TurnDetector, VoiceActivity, VoiceActivitySession, VoiceEdge
from patter_trio.audio import g711
from patter_trio.audio.formats import RATE_HZ
from patter_trio.audio.media_clock import MediaClock
from patter_trio.call.input.audio_queue import DropOldestChannel
from patter_trio.conversation.inputs import Verdict, VoiceEnded, VoiceStarted
from patter_trio.errors import ProviderError
from patter_trio.user_code.context import current_call

# Judged (docs/design.md, "Queues"): a VAD that is a second late decides about turns that are over.
MAX_WAITING_FRAMES: Final = 50
"""1 s of 20 ms frames between reader and VAD; when the VAD is further behind, old speech is useless."""
# Judged: three windows of the VAD. That is about 0.6 ms of work (122 microseconds for 20 ms, docs/benchmarks.md), far
# less than the 20 ms between two frames of a call.
MAX_PIECE_SAMPLES: Final = RATE_HZ // 10
"""0.1 s of audio for the VAD at once; a longer piece would hold up the other calls."""
# Smart Turn looks at the last 8 s (turn/smart_turn.py); more would be copied for nothing.
MAX_RECENT_SAMPLES: Final = 8 * RATE_HZ
"""8 s of audio kept for a turn detector."""
# Judged: Smart Turn takes about 50 ms, more while other calls ask as well; with the fast endpoint at 0.2 s and the
# usual one at 0.5 s, a later verdict would shorten nothing.
VERDICT_TIMEOUT_S: Final = 0.3
"""Seconds that a turn detector has for its verdict; after that, silence decides."""

_log = logging.getLogger("patter_trio.call")


class VoiceActivityStage:
    """The VAD of one call, with a queue before it."""

    def __init__(
        self,
        vad: VoiceActivity,
        clock: MediaClock,
        post: Callable[[VoiceStarted | VoiceEnded | Verdict], None],
        to_transcription: Callable[[bytes | VoiceEdge], None],
        *,
        remember: bool,
    ) -> None:
        self._vad = vad
        self._clock = clock
        self._post = post
        self._to_transcription = to_transcription
        self._remember = remember
        self._recent: list[g711.Samples] = []
        self._fed = 0
        self._window = 1
        self._detecting = False
        self._quiet_since: int | None = None
        self._on_finished: Callable[[], None] | None = None
        self._frames: DropOldestChannel[tuple[int, bytes]] = DropOldestChannel(MAX_WAITING_FRAMES)

    def put(self, position: int, audio: bytes) -> None:
        """Put audio that begins ``position`` samples after the call's first one into the queue; never waits."""
        end = position + len(audio)
        # The task is woken only when a window of the VAD is full: a third fewer wake-ups, and no edge comes later.
        self._frames.put((position, audio), wake=end // self._window > self._fed // self._window)

    @property
    def dropped(self) -> int:
        """The number of frames that were dropped because the VAD was too slow."""
        return self._frames.dropped

    @property
    def quiet_since(self) -> float | None:
        """Since when there is silence in a voice whose end the VAD has not reported yet; None otherwise."""
        return None if self._quiet_since is None else self._clock.time_of(self._quiet_since)

    def recent(self) -> g711.Samples:
        """Return up to the last 8 s of the caller's audio, 8 kHz."""
        return np.concatenate(self._recent)[-MAX_RECENT_SAMPLES:] if self._recent else np.zeros(0, np.int16)

    async def ask_detector(self, detector: TurnDetector | None, generation: int) -> None:
        """Ask a turn detector about the utterance so far, and post its verdict if it comes in time."""
        if detector is None:
            return
        # Moves on without a verdict: the detector only shortens the wait, so a slow one
        # costs nothing but its advantage.
        with trio.move_on_after(VERDICT_TIMEOUT_S):
            # A task of its own for each question; the generation tells the turn machine whether it is still current.
            try:
                complete = await detector.complete(self.recent())
            except ProviderError as error:
                # A hint that is missing; the call goes on by silence alone.
                _log.warning("call %s: the turn detector failed: %s", current_call.get(), error)
                return
            self._post(Verdict(generation, complete))

    def finish(self, on_finished: Callable[[], None]) -> None:
        """Pass on the audio that still waits, without the VAD, and then call ``on_finished``: the caller is gone.

        This happens at once, or after the audio that the VAD is processing now.
        """
        self._on_finished = on_finished
        # Frames on their way to the detector's task would be overtaken by those behind them, so that task finishes.
        if not (self._detecting or self._frames.handing_over):
            self._finish()

    def _finish(self) -> None:
        then, self._on_finished = self._on_finished, None
        if then is not None:
            rest = self._joined(self._frames.take_nowait())
            # Usually nothing waits, and neither a hook nor an STT is to be called with no audio.
            if rest:
                self._to_transcription(rest)
            then()

    async def run(self) -> None:
        """Detect voice until cancelled.

        Raises:
            ProviderError: the VAD failed.
        """
        async with self._vad.open() as session:
            self._window = session.window
            while True:
                audio = await self._next()
                self._detecting = True
                for start in range(0, len(audio), MAX_PIECE_SAMPLES):
                    if start:
                        await trio.lowlevel.checkpoint()  # lets the other calls run between two pieces
                    await self._listen(session, audio[start : start + MAX_PIECE_SAMPLES])
                self._detecting = False
                self._finish()

    async def _listen(self, session: VoiceActivitySession, audio: bytes) -> None:
        samples = g711.decode(audio)
        edges = await session.feed(samples)
        self._quiet_since = session.quiet_since
        # The audio before its edges: an edge's offset lies within audio that was passed on.
        self._to_transcription(audio)
        if self._remember:
            self._keep(samples)
        for edge in edges:
            self._to_transcription(edge)
            at = self._clock.time_of(edge.offset)
            self._post(VoiceStarted(at, edge.confidence) if edge.speaking else VoiceEnded(at, edge.confidence))

    async def _next(self) -> bytes:
        """Wait for audio, and return all of it that waits."""
        return self._joined(await self._frames.take())

    def _joined(self, frames: list[tuple[int, bytes]]) -> bytes:
        """Return frames as one piece of audio; silence replaces dropped frames, so that positions stay right."""
        parts: list[bytes] = []
        for position, audio in frames:
            if position > self._fed:
                parts.append(g711.silence((position - self._fed) / RATE_HZ))
            parts.append(audio)
            self._fed = position + len(audio)
        return b"".join(parts)

    def _keep(self, samples: g711.Samples) -> None:
        self._recent.append(samples)
        # Joined at twice the length only, so that not every frame copies the whole 8 s.
        if sum(len(part) for part in self._recent) > 2 * MAX_RECENT_SAMPLES:
            self._recent = [self.recent()]
