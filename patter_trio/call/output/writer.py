"""The writer: the only task that writes to the carrier's socket.

The playback ledger decides what to send and when; the writer sends it. Cutting a reply is a plain function, so that it
cannot be half done: it changes the ledger and wakes the writer, whose next message is ``clear``.
"""

import logging
import math
from collections.abc import Awaitable, Callable
from typing import Final

import trio

from patter_trio.abc import StreamCodec
from patter_trio.call.tapes import Tape
from patter_trio.conversation.inputs import Drained, OnWire
from patter_trio.conversation.playback import CLOCK_TOLERANCE_S, NO_REPLY, Clear, Close, Command, Mark, Media, Playback
from patter_trio.conversation.playout import HeardSpeech, PlayoutQueue
from patter_trio.errors import PatterConnectionError
from patter_trio.net.media_socket import MediaSocket
from patter_trio.net.pulse import Pulse
from patter_trio.user_code.context import current_call

# Judged: a network may pause for 3 s, which a call survives (docs/robustness.md); a carrier that does not read for
# longer plays nothing, and the caller hears silence.
STALL_TIMEOUT_S: Final = 5.0
"""Seconds for one message to be sent, after which a carrier that does not read counts as gone."""

_log = logging.getLogger("patter_trio.call")


class Stalled(PatterConnectionError):
    """The carrier stopped reading."""


class CarrierWriter:
    """Sends the open reply's audio in the carrier's protocol.

    Args:
        socket: the carrier's socket; no other task may send on it.
        codec: encodes messages in the carrier's protocol.
        post: posts inputs for the turn machine.
        on_sent: called with each piece of audio after it was sent.
        on_heard: called when a mark has shown that more of the open queue was heard.
        recording: takes what the caller hears; None: nothing does.
    """

    def __init__(
        self,
        socket: MediaSocket,
        codec: StreamCodec,
        post: Callable[[OnWire | Drained], None],
        on_sent: Callable[[Media], None],
        *,
        on_heard: Callable[[], None] = lambda: None,
        recording: Tape | None = None,
    ) -> None:
        self._socket = socket
        self._codec = codec
        self._post = post
        # Not a Pulse: it stays set until the writer has seen it, since wake() may come while the writer is sending.
        self._wake = trio.Event()
        self._progress = Pulse()
        self._stall = trio.CancelScope()
        """Ends :meth:`write` at its deadline, which is infinite while nothing is being sent."""
        # Reply, samples sent, and whether all were produced, when Drained was last posted.
        self._drained_posted: tuple[int, int, bool] | None = None
        self._playout: PlayoutQueue | None = None
        self.playback: Playback = Playback()
        self._on_sent = on_sent
        self._on_heard = on_heard
        self._recording = recording
        # The socket queues its own frames (pong, ping, close) and wakes the writer, which sends them.
        socket.share_sending(self.wake)

    def __repr__(self) -> str:
        return f"<CarrierWriter {self.playback!r}>"

    def wake(self) -> None:
        """Wake the writer, so that it reads the ledger again."""
        self._wake.set()

    def open(self, playout: PlayoutQueue) -> None:
        """Begin to send a playout queue's audio."""
        self._playout = playout
        self.playback.open(playout)
        if self._recording is not None:
            self._recording.opened()
        self.wake()

    def heard(self, now: float) -> HeardSpeech:
        """Return what the caller has heard of the open playout queue so far."""
        return self.playback.heard(now)

    def close(self) -> HeardSpeech:
        """Close the open playout queue after all of it was played; return what the caller heard."""
        self._playout = None
        return self.playback.close()

    def cut(self, now: float) -> HeardSpeech:
        """Cut the open playout queue; return what the caller heard."""
        self._record_cut(now)
        self._playout = None
        # The ledger first: wake() only makes the writer ask it again, and clear must be the answer.
        heard = self.playback.cut(now)
        self.wake()
        return heard

    def lose_stream(self, now: float) -> None:
        """Note that the stream is lost; :meth:`write` must not run until :meth:`attach`."""
        self._record_cut(now)
        self.playback.lose_stream(now)

    def _record_cut(self, now: float) -> None:
        """Take out of the recording what the caller will not hear of the open playout queue's sent audio."""
        # Before the ledger forgets what is in the carrier's buffer. Without an open queue the last reply, which the
        # recording still has, was heard to its end.
        if self._recording is not None and self._playout is not None:
            self._recording.cut(self.playback.played_of_queue(now))

    def attach(self, socket: MediaSocket, codec: StreamCodec, now: float) -> None:
        """Go on over another stream of the same call."""
        self._socket, self._codec = socket, codec
        socket.share_sending(self.wake)
        self.playback.begin_stream(now)

    def reached(self, name: str, now: float) -> None:
        """Handle a mark that the carrier returned."""
        round_trip = self.playback.reached(name, now)
        if round_trip is not None:  # from the cut on, the caller hears the agent for that long
            _log.debug("call %s: the carrier emptied its buffer in %.0f ms", current_call.get(), round_trip * 1000)
        if self._recording is not None:
            self._recording.marked(self.playback.round_trip)
        # Before Drained, which ends the reply: what was heard of it is reported within it.
        if self._playout is not None:
            self._on_heard()
        self._post_drained()
        self.wake()

    def alive(self, now: float) -> None:
        """Record that a message has come from the carrier."""
        if self.playback.alive(now):
            self.wake()

    def send_digits(self, digits: str) -> bool:
        """Send DTMF digits by a message of the stream; return False if the carrier's stream has none."""
        message = self._codec.digits(digits)
        if message is None:
            return False
        self.playback.command(message)
        self.wake()
        return True

    def relay(self, audio: bytes) -> None:
        """Pass on audio of another call; never waits, and drops the oldest if the carrier does not read."""
        self.playback.relay(audio)
        self.wake()

    def hang_up(self) -> None:
        """Make the writer close the stream after the current message."""
        self.playback.hang_up()
        self.wake()

    async def wait_for_room(self, playout: PlayoutQueue, samples: int) -> None:
        """Wait until fewer than ``samples`` wait in a playout queue; return at once for one that was cut."""
        # No await between the check and the wait, as Pulse requires.
        while playout.waiting >= samples and not playout.is_cut:
            await self._progress.wait()

    async def wait_until_dry(self, playout: PlayoutQueue, lead: float) -> None:
        """Wait until an open playout queue is empty, and the carrier has at most ``lead`` seconds of audio left."""
        while True:
            if playout is not self._playout or playout.waiting:
                await self._progress.wait()
                continue
            # Computed anew after each sleep: audio that was sent meanwhile has moved the end.
            left = self.playback.end - trio.current_time() - lead
            if left <= CLOCK_TOLERANCE_S:
                return
            await trio.sleep(left)

    def _post_drained(self) -> None:
        playout = self._playout
        if playout is None or not playout.sent_samples or not self.playback.drained:
            return
        # Once for each amount sent, because a playout queue may run empty, get more audio, and run empty again; and
        # once more at the end of a reply whose last audio was played before anybody knew that it was the last.
        state = (playout.reply, playout.sent_samples, playout.produced)
        if state != self._drained_posted:
            self._drained_posted = state
            self._post(Drained(playout.reply))

    async def write(self) -> None:
        """Send until the stream is closed.

        Raises:
            SocketClosed: the carrier is gone.
            Stalled: the carrier has not read for :data:`STALL_TIMEOUT_S` seconds.
        """
        is_closed = False
        while not is_closed:
            # One scope for all messages, whose deadline moves. Measured: 4 microseconds for each message, instead of 12
            # with a scope of its own.
            with trio.CancelScope() as self._stall:
                is_closed = await self._write()
            if self._stall.cancelled_caught:
                raise Stalled("the carrier stopped reading")

    async def _write(self) -> bool:
        """Send until the stream is closed; return False if only a new scope can go on."""
        # The scope is cancelled behind a complete send if its deadline passed because the loop had stood still.
        while not self._stall.cancel_called:
            # Asked anew after each await: a cut may have changed the ledger meanwhile, and clear comes first then.
            message = self.playback.next_message(trio.current_time())
            if isinstance(message, Close):
                await self._in_time(self._socket.say_close())
                return True
            if not isinstance(message, float):
                await self._send(message)
            elif self._socket.pending:
                # No audio is due: send the socket's own frames before sleeping.
                await self._in_time(self._socket.flush())
            else:
                self._post_drained()
                # The ledger says how long there is nothing to send; a cut, a mark or new audio ends the sleep.
                with trio.move_on_after(max(0.0, message)):
                    await self._wake.wait()
                if self._wake.is_set():
                    self._wake = trio.Event()
        return False

    async def _send(self, message: Media | Mark | Clear | Command) -> None:
        await self._in_time(self._socket.send(self._encoded(message)))
        self.playback.sent()
        # After the send: OnWire is the instant at which the audio has left, and room is made only by sent audio.
        if isinstance(message, Media):
            self._post(OnWire(message.reply))
            self._on_sent(message)
            # Audio of a reply that was cut while it was being sent is cleared before it is heard.
            current = NO_REPLY if self._playout is None else self._playout.reply
            if self._recording is not None and current == message.reply:
                self._recording.sent(message.audio)
            self._progress.fire()

    async def _in_time(self, sending: Awaitable[None]) -> None:
        """Await a send, for at most :data:`STALL_TIMEOUT_S` seconds; :meth:`write` ends if it takes longer."""
        # Cutting a send off leaves half a frame on the wire. The socket notes that, and never writes again.
        self._stall.deadline = trio.current_time() + STALL_TIMEOUT_S
        await sending
        # Not in a ``finally``: a send that fails ends the writer.
        self._stall.deadline = math.inf

    def _encoded(self, message: Media | Mark | Clear | Command) -> str:
        match message:
            case Media():
                return self._codec.audio(message.audio)
            case Mark():
                return self._codec.mark(message.name)
            case Clear():
                return self._codec.clear()
            case Command():
                return message.message
