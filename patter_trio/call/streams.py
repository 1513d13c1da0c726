"""The media streams of one call, one after another: a call whose stream is lost waits for the next one.

A proxy that restarts, or a network that loses its state, cuts the carrier's WebSocket and not the telephone call. So
the call is kept for :data:`RECONNECT_TIMEOUT_S`, in which the server has the carrier open another stream
(``server/lost_streams.py``). Everything but the stream goes on meanwhile: history, turns, STT, LLM and tools. The
caller is heard as silence of the same length, so that positions in the audio and the recording stay those of the call's
clock, and an STT that wants audio gets some. The reply that was being spoken is rewound (``conversation/playout.py``).
"""

import logging
from collections.abc import Callable
from typing import Final, Protocol

import trio

from patter_trio.audio import g711
from patter_trio.audio.formats import FRAME_S, FRAME_SAMPLES, RATE_HZ
from patter_trio.audio.media_clock import MAX_ARRIVAL_DELAY_S, MediaClock
from patter_trio.call.leg import CALLER_HUNG_UP, Leg, LegListener, LostStream, MediaLeg
from patter_trio.call.output.writer import CarrierWriter
from patter_trio.call.transfers import REACH_TIMEOUT_S
from patter_trio.conversation.inputs import TRANSFERRED_REASON

# Judged: after a longer silence a caller hangs up. Less than a reply has to begin (call/options.py).
RECONNECT_TIMEOUT_S: Final = 10.0
"""Seconds for which a call waits for another stream after it has lost one."""

# Far more than the error of a sum of instants, far less than anything audible.
_TOLERANCE_SAMPLES: Final = 1e-3

_log = logging.getLogger("patter_trio.call")


class StreamsListener(LegListener, Protocol):
    """Handler of what a call's streams receive. Every method returns at once."""

    def may_wait(self) -> bool:
        """Return True if the call is to go on over another stream: it is neither over nor about to end."""

    def on_gap(self, silence: bytes) -> None:
        """Handle silence in the place of audio that was lost."""

    async def connect_on_failure(self) -> bool:
        """Connect the caller with a person, over REST; return True if the carrier has done so."""

    def may_come_back(self) -> bool:
        """Return True if the stream may end although the call does not: its carrier transfers it."""

    def is_being_transferred(self) -> bool:
        """Return True until it is known whether the party of a transfer answers: its carrier decides, and no stream."""

    def fail(self, why: str, kind: str) -> None:
        """Record a failure; ``kind`` is its public name, without the details in ``why``."""


class CallStreams:
    """The media streams of one call.

    Args:
        stream: the first one, started.
        writer: sends to the present one.
        listener: handles what comes from them.
        media: the clock of the caller's audio.
        ask: has the carrier asked for another stream, because the call waits for one; returns at once.
    """

    def __init__(
        self,
        stream: MediaLeg,
        writer: CarrierWriter,
        listener: StreamsListener,
        media: MediaClock,
        ask: Callable[[], None],
    ) -> None:
        self._call_id = stream.info.call_id
        self._writer = writer
        self._listener = listener
        self._media = media
        self._ask = ask
        self._leg = Leg(stream, writer, self)
        self._is_over = False
        """True once the end of the streams was reported."""
        self._ended_lost = False
        """True if the call had no stream at that instant."""
        self._reported = ""
        """The outcome of the call that the carrier has reported; empty: it goes on there."""
        self._next: Leg | None = None
        self._is_transferred = False
        """True if the present wait is that of a transfer."""
        self._decided = trio.Event()
        """Set when the wait for a stream is over, with or without one."""
        self._connecting: trio.Event | None = None
        """Set when it is known whether the carrier connects the caller with a person; None: nobody has asked it."""
        self.waits_until: float | None = None
        """The instant until which the call waits for a stream; None while it has one."""

    def __repr__(self) -> str:
        return f"<CallStreams of {self._call_id}, {'lost' if self.waits_until is not None else repr(self._leg)}>"

    # What the present leg reports -------------------------------------------------------------------------------------
    def on_audio(self, audio: bytes) -> None:
        """Pass the caller's audio on."""
        self._listener.on_audio(audio)

    def on_digit(self, digit: str) -> None:
        """Pass a key on."""
        self._listener.on_digit(digit)

    def on_leg_down(self, reason: str) -> None:
        """Pass the end on; a call that is being transferred may come back."""
        if not self._reported and self._listener.may_come_back():
            self._leg.lose(LostStream("the carrier transfers the call", ""))
        else:
            self._end(reason)

    def _end(self, reason: str) -> None:
        # Now: behind an orderly end, the writer may find the socket closed, which does not count as a loss.
        if not self._is_over:
            self._ended_lost = self._leg.is_lost
        self._is_over = True
        self._listener.on_leg_down(reason)

    # The streams ------------------------------------------------------------------------------------------------------
    async def run(self) -> None:
        """Carry the streams until the call is over, and report the end unless it ends by itself."""
        while True:
            lost = await self._leg.run()
            at = trio.current_time()
            goes_on = self._may_wait()
            # A transfer is the carrier's business: it decides although the stream broke, and however that did.
            is_transferred = not lost.kind or self._listener.is_being_transferred()
            waits = goes_on and (lost.may_return or is_transferred)
            leg = await self._wait(lost, is_transferred=is_transferred) if waits else None
            if leg is None:
                break
            self._leg = leg
            self._writer.attach(leg.stream.socket, leg.stream.codec, trio.current_time())
            after = trio.current_time() - at
            _log.warning("call %s: goes on after %.1f s over another stream: %s", self._call_id, after, lost.why)
        if self._is_over:
            return
        # A transfer ends the stream, and does not make it fail. Nor does a call that is over at the carrier, whatever
        # its status is called there: with an orderly end of the stream it would be a hang-up as well.
        if not lost.kind or self._reported:
            self._end(CALLER_HUNG_UP)
            return
        # First: on_leg_down may end the call, and failures after its end are not recorded.
        self._listener.fail(lost.why, lost.kind)
        # Behind the wait, or at once if the peer broke the protocol: the request needs no stream. A call that was about
        # to end when it lost its stream ends.
        connected = goes_on and await self._connect_on_failure()
        self._end(TRANSFERRED_REASON if connected else "failed")

    def _may_wait(self) -> bool:
        return not self._reported and not self._is_over and self._listener.may_wait()

    async def _connect_on_failure(self) -> bool:
        # A stream that comes meanwhile stays: behind its end, the carrier would ask what follows, and hang up.
        self._connecting = trio.Event()
        try:
            return await self._listener.connect_on_failure()
        finally:
            self._connecting.set()

    async def _wait(self, lost: LostStream, *, is_transferred: bool) -> Leg | None:
        """Wait for another stream; None: none came, or the call is over."""
        self._decided, self._next = trio.Event(), None
        self._is_transferred = is_transferred
        wait = REACH_TIMEOUT_S + RECONNECT_TIMEOUT_S if is_transferred else RECONNECT_TIMEOUT_S
        self.waits_until = trio.current_time() + wait
        self._writer.lose_stream(trio.current_time())
        _log.info("call %s: %s; it waits for another stream", self._call_id, lost.why)
        # The turn machine need not know: a reply has longer to begin than the call waits for a stream. A call that is
        # being transferred comes back only if nobody answers, and the carrier says so.
        if not is_transferred:
            self._ask()
        try:
            async with trio.open_nursery() as nursery:
                # Beside the wait: to close a half-open socket takes its time, and the carrier may be faster.
                nursery.start_soon(self._leg.close)
                nursery.start_soon(self._fill)
                with trio.move_on_at(self.waits_until):
                    await self._decided.wait()
                nursery.cancel_scope.cancel(reason="the wait for a stream is over")
        finally:
            self.waits_until = None
        # Up to the instant at which the audio of the new stream begins.
        self._fill_now()
        return self._next

    async def _fill(self) -> None:
        """Let the caller be heard as silence, in frames as from a carrier."""
        while True:
            self._fill_now()
            await trio.sleep(FRAME_S)

    def _fill_now(self) -> None:
        """Pass on as much silence as the caller's audio is behind the clock."""
        if self._media.start is None:
            return
        behind = trio.current_time() - self._media.time_of(self._media.samples)
        # After a longer gap the clock starts anew with the next audio, as after any other (audio/media_clock.py).
        samples = FRAME_SAMPLES if behind > MAX_ARRIVAL_DELAY_S else int(behind * RATE_HZ + _TOLERANCE_SAMPLES)
        if samples > 0:
            self._listener.on_gap(bytes([g711.SILENCE_BYTE]) * samples)

    @property
    def is_transferred(self) -> bool:
        """True while the call is without a stream because it is being transferred, or was, and nobody answered."""
        return self.waits_until is not None and self._is_transferred

    @property
    def is_lost(self) -> bool:
        """True if the call has no stream, and goes on at the carrier as far as that has reported."""
        return not self._reported and (self._ended_lost if self._is_over else self._leg.is_lost)

    @property
    def reference(self) -> str:
        """Our reference of the present stream; while the call waits for one, of the lost one."""
        # Another stream may have come at this instant, and run() not yet have gone on with it.
        return (self._next or self._leg).stream.reference

    # What the server tells --------------------------------------------------------------------------------------------
    def lose(self, why: str) -> bool:
        """Count the stream as lost, because the carrier says so; return True if the call waits for another one."""
        if self.waits_until is not None:
            return True
        if not self._may_wait():
            return False
        self._leg.lose(LostStream(why, "StreamFailed"))
        return True

    async def attach(self, stream: MediaLeg) -> None:
        """Go on over another stream; return when it is over, or at once if none is waited for.

        A stream that comes while the carrier is asked to connect the caller with a person is kept for that time.
        """
        if self.waits_until is None or self._decided.is_set():
            if self._connecting is not None:
                await self._connecting.wait()
            return
        self._next = leg = Leg(stream, self._writer, self)
        self._decided.set()
        await leg.closed.wait()

    def give_up(self, outcome: str) -> None:
        """Wait for no other stream, because the call is over at the carrier, which reports this outcome."""
        self._reported = outcome
        self._decided.set()

    def transfer_failed(self) -> None:
        """End the wait of a call whose stream has ended because of a transfer that the carrier did not take."""
        if self.waits_until is not None and self._is_transferred:
            self._decided.set()

    def hung_up(self) -> None:
        """End the call without a stream, because the agent hangs up while none is there."""
        if self.waits_until is not None:
            self._end(CALLER_HUNG_UP)
            self._decided.set()

    async def close(self) -> None:
        """Close the present stream."""
        try:
            await self._leg.close()
        finally:
            # One that came at the instant at which the call ended.
            if self._next is not None and self._next is not self._leg:
                await self._next.close()
