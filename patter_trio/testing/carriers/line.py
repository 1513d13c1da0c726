"""A simulated line: it calls the server with real bytes over any stream, and plays to the caller what it receives.

On memory streams and a mock clock a call takes no real time and every instant is exact; on sockets and the real clock
the call runs in real time. This module knows nothing of the server but its address, and nothing of the carrier but its
:class:`~patter_trio.testing.carriers.protocol.CarrierProtocol`.

Call time is seconds since the media began: the caller's sample 0 was spoken at 0, and frame k, which holds [k * 0.02,
(k + 1) * 0.02), is sent when it is complete, at (k + 1) * 0.02.
"""

import math
from typing import Final, Literal

import trio

from patter_trio.audio import dtmf, g711
from patter_trio.audio.formats import FRAME_S, FRAME_SAMPLES, RATE_HZ
from patter_trio.audio.g711 import Samples
from patter_trio.errors import CallEnded, WireError
from patter_trio.net.pulse import Pulse
from patter_trio.net.websocket import SocketClosed, WebSocket, connect
from patter_trio.testing.carriers.faulty_stream import FaultyStream
from patter_trio.testing.carriers.network import Alter, Network
from patter_trio.testing.carriers.observed import Arrival, ProtocolFault
from patter_trio.testing.carriers.playback import CallerAudio, PhonePlayback, Stretch, whole
from patter_trio.testing.carriers.protocol import (
    WEBHOOK_TIMEOUT_S,
    BadMessage,
    CallRefused,
    CarrierProtocol,
    Clear,
    Mark,
    Play,
    StreamOrder,
    Tones,
    Webhook,
    WebhookAnswer,
)
from patter_trio.testing.carriers.reports import CallReports
from patter_trio.testing.carriers.requests import CallRequests
from patter_trio.testing.carriers.webhook_post import Connect, asked
from patter_trio.testing.flat_nursery import open_flat_nursery

# Theory of operation. The network (``network.py``) carries messages in tasks of its own. Everything else is a plain
# function that takes effect at once: what the caller does, what the server's messages do to the carrier's buffer, and
# what marks that causes. So no await lies between a message and its effect, and the order at equal instants is that of
# the wire.
#
# The carrier knows of no reply and of no turn. Whether what the caller heard is right is judged afterwards, from
# ``arrivals``, ``playback`` and the words in the sound.

# The bound that the server has to keep, too: a second after the hang-up, nothing of the call is left.
CLOSE_TIMEOUT_S: Final = 1.0
"""Seconds that the last messages may take after the end of the call."""

Ended = Literal["caller_hung_up", "agent_hung_up", "transferred", "dropped"]


class SimulatedCarrier:
    """One call through a simulated carrier.

    Args:
        connect: opens a connection to the agent's server.
        public_url: the address under which the carrier knows the server, without a path.
        protocol: the carrier's webhooks and messages, for this call.
        up_delay: seconds that the network takes towards the server.
        down_delay: seconds that the network takes from the server.
        echo_marks: if False, marks never come back.
    """

    def __init__(
        self,
        connect: Connect,
        public_url: str,
        protocol: CarrierProtocol,
        *,
        up_delay: float = 0.0,
        down_delay: float = 0.0,
        echo_marks: bool = True,
    ) -> None:
        self._connect = connect
        self.public_url: str = public_url.rstrip("/")
        self.protocol = protocol
        self.call_id: str = protocol.call_id
        """The carrier's id of the call."""
        self.returns: bool = True
        """False: the call ends with its media stream; see :meth:`stay_away`."""
        self.return_delay: float = 0.0
        """Seconds from the loss of a media stream until the carrier asks how the call continues."""
        self.streams: int = 0
        """Number of the media streams of this call so far."""
        self.up_delay: float = up_delay
        self.down_delay: float = down_delay
        self.echo_marks: bool = echo_marks
        self._network = Network(lambda: self.up_delay, lambda: self.down_delay)
        self.transferred_to: str = ""
        """The number or SIP address to which the caller was transferred; empty without a transfer."""
        self.transfer_delay: float = 0.1
        """Seconds until the carrier carries out a transfer."""
        self.transfer_answer: float = 0.0
        """Seconds from then until the carrier confirms the transfer."""
        self.transfer_error: Exception | None = None
        """The error that the carrier raises instead of transferring the call."""
        self.tones: str = ""
        """The DTMF digits that the agent's server has had sent to the caller."""
        self.faulty_stream: FaultyStream | None = None
        """The server's end of the media connection, for faults below the messages; None on real sockets."""
        self._marks_are_early = self._media_is_connected = self._stream_is_closed = self._end_is_unsaid = False
        # The pulse fires when the time of the next mark may have changed.
        self._scope, self._news = trio.CancelScope(), Pulse()
        self._reports = CallReports(self.post, self._fault)
        self.caller_audio: CallerAudio = CallerAudio()
        self.playback: PhonePlayback = PhonePlayback()
        self.requests: CallRequests = CallRequests()
        """The requests about this call over REST."""
        self.arrivals: list[Arrival] = []
        """All audio, marks and clears that came from the agent's server, in order."""
        self.faults: list[ProtocolFault] = []
        self.media_start: float = math.nan
        """The instant, on trio's clock, that is 0 in call time."""
        self.ended: Ended | None = None
        self.ended_at: float = math.inf
        """Call time of the end; infinite before."""
        self.reached_at: float = math.inf
        """Call time at which the server received the stream's start; infinite if it never did."""
        self.end_known_at: float = math.inf
        """Call time from which the server could know of the end; later than the end if the network is slow."""
        self.close_code: int | None = None
        """The code with which the agent's server closed the media socket."""
        self.over: trio.Event = trio.Event()
        """An event that is set when the socket is closed and no task of this call runs here any more."""

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.call_id} {self.ended or 'up'}>"

    @property
    def stream_id(self) -> str:
        """The carrier's id of the present media stream."""
        return self.protocol.stream_id

    @property
    def now(self) -> float:
        """The current call time."""
        return trio.current_time() - self.media_start

    # Actions of the caller: plain functions that take effect at once. -------------------------------------------------
    def say(self, audio: bytes) -> tuple[float, float]:
        """Schedule mu-law audio of the caller, after the current utterance; return its begin and end in call time."""
        return self.caller_audio.say(audio, self.now)

    def press(self, digit: str) -> None:
        """Press a key."""
        self._queue(self.protocol.key(digit))
        report = self.protocol.key_report(digit)
        if report is not None:
            self._reports.queue(report)

    def send(self, message: str) -> None:
        """Send any message to the agent's server, with the network's delay."""
        self._queue(message)

    def report(self, webhook: Webhook) -> None:
        """Send a webhook that asks nothing, behind those that wait."""
        self._reports.queue(webhook)

    def hang_up(self) -> None:
        """End the call as the caller; do nothing if it is over."""
        if self.ended is None:
            self._leave("caller_hung_up")

    def sound(self, digits: str) -> None:
        """Let the caller hear DTMF digits, as the agent's server requested."""
        self.tones += digits
        # Keys alone: pauses within digits are the server's own, which sends what is between them.
        tones = b"".join(dtmf.tone(key) + g711.silence(dtmf.GAP_S) for key in digits if key in dtmf.FREQUENCIES_HZ)
        if tones:
            self.playback.media(tones, self.now)

    def agent_hangs_up(self) -> None:
        """End the call, as the agent's server requested.

        Raises:
            CallEnded: the call is over.
        """
        self._must_be_up()
        self._leave("agent_hung_up")

    def _leave(self, how: Ended) -> None:
        """End the stream as the carrier does when the call leaves it."""
        self._end(how)
        if self._stream_is_closed:
            # No stream is there to say so: a report has to. What the server itself has ended, it knows.
            self._end_is_unsaid = how == "caller_hung_up"
            self._scope.cancel()
            return
        stop = self.protocol.stopped()
        # Behind whatever the network still carries, and the end of the connection behind that.
        if stop is not None:
            self._queue(stop)
        self._queue(None)

    async def transfer(self, to: str) -> None:
        """Transfer the caller, as the agent's server requested; this ends the stream.

        Raises:
            CallEnded: the call is over.
        """
        # The caller may hang up while the request is on its way, hence the check after it.
        await trio.sleep(self.transfer_delay)
        if self.transfer_error is not None:
            raise self.transfer_error
        self._must_be_up()
        self.transferred_to = to
        self._leave("transferred")
        # After the stream's end: the carrier's report may come when the call is over for the server.
        await trio.sleep(self.transfer_answer)

    def _must_be_up(self) -> None:
        if self.ended is not None:
            raise CallEnded(f"call {self.call_id} is over: {self.ended}")

    def drop(self) -> None:
        """Cut the connection without a close, as a broken network does."""
        if self.ended is None:
            self._end("dropped")
            # Without a stop, and without what the network still carried.
            self._scope.cancel()

    def lose_stream(self) -> None:
        """Break the media connection without a close, as a proxy that restarts does; the telephone call stays up.

        Do nothing between the loss of a stream and the next one: no stream is there to lose.
        """
        # Without the second condition the carrier's wait for the next stream would be what is cancelled.
        if self.ended is None and not self._stream_is_closed:
            self._lose()
            # Without what the network still carried, in either direction.
            self._scope.cancel()

    def stay_away(self) -> None:
        """End the call with its media stream from now on, whatever its carrier would do."""
        self.returns = False

    def _lose(self) -> None:
        """Stop playing, and carry no messages: the stream is over, and the call is not."""
        self._stream_is_closed = True
        self.playback.clear(self.now)

    def stall(self, seconds: float, *, sending: bool = True, receiving: bool = True) -> None:
        """Make the network carry nothing for ``seconds``; messages sent meanwhile arrive afterwards, all at once."""
        self._network.stall(seconds, sending=sending, receiving=receiving)

    def alter_messages(self, alter: Alter) -> None:
        """Pass every message to the server through a function from now on."""
        self._network.alter_messages(alter)

    def return_marks_early(self) -> None:
        """Return marks from now on when they arrive instead of when they were played; no carrier should do that."""
        self._marks_are_early = True

    def make_faulty(self, stream: trio.abc.HalfCloseableStream) -> FaultyStream:
        """Wrap the server's end of a connection, for faults below the messages.

        The media connection comes after that of the webhook: ``faulty_stream`` is the last one wrapped until then.
        """
        faulty = FaultyStream(stream)
        if not self._media_is_connected:
            self.faulty_stream = faulty
        return faulty

    # Observations -----------------------------------------------------------------------------------------------------
    def played(self) -> list[Stretch]:
        """Return what the caller has heard so far."""
        return self.playback.played(min(self.now, self.ended_at))

    def recording(self) -> tuple[Samples, Samples]:
        """Return the call so far as 16-bit samples at 8 kHz, equally long: the caller's side and the agent's."""
        length = len(self.caller_audio.said)
        return g711.decode(self.caller_audio.said), g711.decode(whole(self.played(), length / RATE_HZ))

    # The call ---------------------------------------------------------------------------------------------------------
    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Place the call and run it to its end; report started when the media begins.

        Raises:
            CallRefused: the server did not accept the call, or answered in a way that the carrier does not understand.
        """
        try:
            order: StreamOrder | None = await self.announce()
            while order is not None:
                await self._stream(order, task_status)
                order = await self._again()
            # When the last message was sent, or asked for: from here on the server can know.
            self.end_known_at = min(self.end_known_at, self.now)
            self.protocol.note_length(self.ended_at)
            is_silent = self.ended == "dropped" or not self.returns or self._end_is_unsaid
            reports = self.protocol.lost_reports() if is_silent else ()
            for report in (*reports, *self.protocol.ended_reports(str(self.ended))):
                await self._reports.send(report)
        finally:
            # Also when the call was refused: a test that waits for the end must not wait for ever.
            self.over.set()

    async def _stream(self, order: StreamOrder, task_status: trio.TaskStatus[None]) -> None:
        """Open a media stream, and carry it to its end."""
        connection = await self._connect()
        self._media_is_connected = True
        try:
            socket = await self._open(connection, order)
            # Returns when the scope is cancelled: by either side, or by a broken line.
            await self._carry(socket, order, task_status)
            if self.ended is not None:
                # Measured before the close, which waits for the peer.
                self.end_known_at = self.now
            # A broken network carries no close frame either.
            if self.ended not in (None, "dropped"):
                await socket.aclose()
        finally:
            # Forced: a peer that does not read must not hold up the end.
            await trio.aclose_forcefully(connection)

    async def _again(self) -> StreamOrder | None:
        """Return where the call continues after its stream is over; None: it is over, too."""
        if self.ended is not None:
            return None
        # The next webhook has a connection of its own, which is not the media's.
        media, self._media_is_connected = self.faulty_stream, False
        # Cancelled by what ends the call meanwhile.
        with trio.CancelScope() as self._scope:
            await trio.sleep(self.return_delay)
            try:
                order = await self.protocol.ask_again(self)
            except CallRefused:  # nobody is there any more, who could say how it goes on
                order = None
            if self.ended is None and order is not None:
                return order
        # No other stream follows: what was read and written is of the last one, and not of this webhook or later ones.
        self.faulty_stream, self._media_is_connected = media, True
        if self.ended is None:
            if not self.protocol.closing_ends_call:
                self._fault("the media stream was closed, and nobody ended the call")
            self._end("agent_hung_up")
        return None

    async def announce(self) -> StreamOrder:
        """Announce the call, and return what the agent's server wants for it, as :meth:`run` does first."""
        return await self.protocol.ask(self)

    async def post(self, webhook: Webhook) -> WebhookAnswer:
        """Send a webhook to the agent's server; see :func:`~patter_trio.testing.carriers.webhook_post.asked`."""
        return await asked(self._connect, webhook)

    async def _open(self, connection: trio.abc.Stream, order: StreamOrder) -> WebSocket:
        try:
            with trio.fail_after(WEBHOOK_TIMEOUT_S):
                return await connect(connection, order.url, dict(self.protocol.upgrade_headers(order)))
        # 31920 is Twilio's code for a handshake that was not answered with 101.
        except (WireError, SocketClosed, trio.TooSlowError) as error:
            raise CallRefused("failed", f"31920: the media socket was refused: {error}") from error

    async def _carry(self, socket: WebSocket, order: StreamOrder, task_status: trio.TaskStatus[None]) -> None:
        # An empty message makes the writer send the answers to pings, in their place among the others.
        socket.share_sending(lambda: self._queue(""))
        self.streams += 1
        self._network.open_stream()
        self._stream_is_closed = False
        # Before the first message: call time is that of the caller, whose audio begins with the first stream.
        if self.streams == 1:
            self.media_start = trio.current_time()
        else:
            # What was said meanwhile went nowhere.
            self.caller_audio.take(max(0, round(self.now * RATE_HZ) - len(self.caller_audio.said)))
        start = trio.current_time()
        for message in self.protocol.opening(order):
            self._queue(message)
        with trio.CancelScope() as self._scope:
            async with open_flat_nursery() as nursery:
                # The end goes through the queue, so that it comes after all that was sent before.
                nursery.start_soon(self._network.send_all, socket, self._sent, self._scope.cancel)
                nursery.start_soon(self._network.receive_all, socket, self._take, self._note_code)
                nursery.start_soon(self._speak, start)
                nursery.start_soon(self._echo)
                nursery.start_soon(self._reports.run, self.protocol)
                # Inside the nursery: the starter's task may act as soon as the tasks exist, at call time 0.
                if self.streams == 1:
                    task_status.started()

    def _sent(self, count: int) -> None:
        if count == self.protocol.opening_messages:
            self.reached_at = min(self.reached_at, self.now)

    def _note_code(self, code: int) -> None:
        self.close_code = code

    def _take(self, message: str | bytes | None) -> None:
        """Handle a message of the server, or None when it has closed the socket."""
        now = self.now
        # The buffer was emptied with the call: what still comes is not heard.
        if self.ended is not None or self._stream_is_closed:
            # Nothing can be delivered any more, and the request that ended the call is answered.
            if message is None and not self.protocol.closing_ends_call:
                self._scope.cancel()
            return
        if message is None:
            self._closed()
            return
        # Marks that are due now come before what this message causes: at equal instants,
        # a mark was played before a clear.
        self._return_marks(self.playback.reached(now))
        try:
            decoded = self.protocol.read(message)
        except BadMessage as error:
            # Recorded and ignored, as Twilio does with a warning. The check after the call fails the test.
            self._fault(str(error))
            return
        match decoded:
            case Play(audio):
                self.arrivals.append(Arrival(now, audio=audio))
                self.playback.media(audio, now)
            case Mark(name):
                self.arrivals.append(Arrival(now, mark=name))
                if self._marks_are_early:
                    self._return_marks([name])
                elif self.protocol.empty_marks_return or self.playback.is_playing(now):
                    self.playback.mark(name, now)
            case Clear():
                self.arrivals.append(Arrival(now))
                self._clear(now)
            case Tones(digits):
                self.sound(digits)
        # A mark on an empty buffer is due at once.
        self._return_marks(self.playback.reached(now))
        self._news.fire()

    def _closed(self) -> None:
        """Note that the media stream is over, and that the carrier did not end it."""
        if not self.returns:
            self._end("agent_hung_up")
        else:
            self._lose()
        self._scope.cancel()

    def _clear(self, now: float) -> None:
        waiting = self.playback.clear(now)
        # That they were not played, the server has to know.
        if self.protocol.cleared_marks_return:
            self._return_marks(waiting)
        confirmation = self.protocol.cleared()
        if confirmation is not None:
            self._queue(confirmation)

    async def _speak(self, start: float) -> None:
        """Send the caller's audio, frame by frame, over the stream that began at ``start``."""
        frame = 0
        while True:
            frame += 1
            # From the start, not from the last frame: 20 ms more each time would add up their rounding.
            await trio.sleep_until(start + frame * FRAME_S)
            if self.ended is not None:
                return
            self._queue(self.protocol.media(frame, self.caller_audio.take(FRAME_SAMPLES)))

    async def _echo(self) -> None:
        """Return each mark when it was played."""
        while True:
            # No await since the marks were looked at: the pulse cannot be missed.
            with trio.CancelScope(deadline=self.media_start + self.playback.next_mark):
                await self._news.wait()
            self._return_marks(self.playback.reached(self.now))

    def _return_marks(self, names: list[str]) -> None:
        if self.echo_marks and self.ended is None:
            for name in names:
                self._queue(self.protocol.played(name))

    def _queue(self, message: str | None) -> None:
        """Hand a message to the network; "" sends what the socket itself has pending, None ends the connection."""
        # The agent's server takes nothing any more.
        if self._stream_is_closed:
            return
        try:
            self._network.queue(message)
        # More than two minutes of audio wait: the server has stopped reading.
        except trio.WouldBlock:
            self._fault("the server does not read; its messages are lost")
            self.drop()

    def _fault(self, detail: str) -> None:
        self.faults.append(ProtocolFault(self.now, detail))

    def _end(self, how: Ended) -> None:
        self.ended = how
        self.ended_at = self.now
        # The writer still has to deliver the last messages; if the server does not take
        # them, the call ends all the same.
        self._scope.deadline = trio.current_time() + CLOSE_TIMEOUT_S
        # The caller is gone, or hears somebody else: nothing more is played. Before its media, a call has no time yet.
        if not math.isnan(self.ended_at):
            self.playback.clear(self.ended_at)
