"""A simulated Twilio: it calls the server with real bytes over any stream, and plays to the caller what it receives.

On memory streams and a mock clock a call takes no real time and every instant is exact; on sockets and the real clock
the call runs in real time. This module knows nothing of the server but its address and the account's credentials.

Call time is seconds since the media began: the caller's sample 0 was spoken at 0, and frame k, which holds [k * 0.02,
(k + 1) * 0.02), is sent when it is complete, at (k + 1) * 0.02.
"""

import base64
import math
from collections.abc import Awaitable, Callable, Mapping, Sequence
from types import MappingProxyType
from typing import Final, Literal
from urllib.parse import urlencode

import h11
import msgspec
import trio

from patter_trio.audio import g711
from patter_trio.audio.formats import FRAME_S, FRAME_SAMPLES, RATE_HZ
from patter_trio.audio.g711 import Samples
from patter_trio.errors import CallEnded, PatterConnectionError, WireError
from patter_trio.net.pulse import Pulse
from patter_trio.net.websocket import SocketClosed, WebSocket, connect
from patter_trio.testing.flat_nursery import open_flat_nursery
from patter_trio.testing.twilio import messages
from patter_trio.testing.twilio.faulty_stream import FaultyStream
from patter_trio.testing.twilio.observed import Arrival, ProtocolFault
from patter_trio.testing.twilio.playback import CallerAudio, PhonePlayback, Stretch, whole
from patter_trio.testing.twilio.webhook_post import post_form

Connect = Callable[[], Awaitable[trio.abc.Stream]]
Alter = Callable[[str], Sequence[str | bytes]]
"""A function that returns what is sent instead of a message: one message, several, or none."""

# Theory of operation. The network is two queues, each message with the instant at which it arrives: one task
# empties the way up, in order, and is the only one that writes to the socket; the reader takes what comes down.
# Everything else is a plain function that takes effect at once: what the caller does, what the server's messages do
# to the carrier's buffer, and what marks that causes. So no await lies between a message and its effect, and the
# order at equal instants is that of the wire.
#
# The carrier knows of no reply and of no turn. Whether what the caller heard is right is judged afterwards, from
# ``arrivals``, ``playback`` and the words in the sound.

# 50 frames a second: a server that lets more wait does not read at all, and the call is dropped with a fault.
MAX_MESSAGES_IN_FLIGHT: Final = 8192
"""Maximum number of messages in flight in each direction: more than two minutes of the caller's audio."""
# The bound that the server has to keep, too: a second after the hang-up, nothing of the call is left.
CLOSE_TIMEOUT_S: Final = 1.0
"""Seconds that the last messages may take after the end of the call."""
# From these on the server knows of the call, and has to report its end.
OPENING_MESSAGES: Final = 2
"""Messages that open a stream: connected, start."""

Ended = Literal["caller_hung_up", "agent_hung_up", "transferred", "dropped"]


class CallRefused(PatterConnectionError):
    """The call was not set up; ``outcome`` is what the caller experiences."""

    def __init__(self, outcome: str, message: str) -> None:
        super().__init__(message)
        self.outcome = outcome


class SimulatedTwilio:
    """One call through a simulated Twilio.

    Args:
        connect: opens a connection to the agent's server.
        public_url: the address under which the carrier knows the server, without a path.
        account_sid: the account, as in the carrier object of the program under test.
        auth_token: the account's secret, with which requests are signed.
        caller: the number of the caller.
        callee: the number that is called.
        call_sid: Twilio's id of the call.
        direction: "inbound" for a call to the agent's number, "outbound" for one that the agent's account placed.
        custom_params: parameters of the call, in the query of the webhook's URL, as an account configures it.
        up_delay: seconds that the network takes towards the server.
        down_delay: seconds that the network takes from the server.
        echo_marks: if False, marks never come back.
    """

    def __init__(
        self,
        connect: Connect,
        public_url: str,
        *,
        account_sid: str,
        auth_token: str,
        caller: str = "+15550100001",
        callee: str = "+15550100002",
        call_sid: str = "CA00000000000000000000000000000001",
        direction: Literal["inbound", "outbound"] = "inbound",
        custom_params: Mapping[str, str] = MappingProxyType({}),
        up_delay: float = 0.0,
        down_delay: float = 0.0,
        echo_marks: bool = True,
    ) -> None:
        self._connect = connect
        self._public_url = public_url.rstrip("/")
        self._query = f"?{urlencode(custom_params)}" if custom_params else ""
        self._account_sid = account_sid
        self._auth_token = auth_token
        self._form = {
            "CallSid": call_sid,
            "AccountSid": account_sid,
            "From": caller,
            "To": callee,
            "CallStatus": "ringing",
            # Twilio's name for a call that its REST API placed (twilio.com/docs/voice/twiml#request-parameters).
            "Direction": "outbound-api" if direction == "outbound" else direction,
            "ApiVersion": "2010-04-01",
        }
        self.call_sid = call_sid
        self.stream_sid: str = "MZ" + call_sid[2:]
        self.up_delay = up_delay
        self.down_delay = down_delay
        self.echo_marks = echo_marks
        self._marks_are_early = False
        self._alter: Alter = _unaltered
        self.transferred_to: str = ""
        """The number or SIP address to which the caller was transferred; empty without a transfer."""
        self.transfer_delay: float = 0.1
        """Seconds until the carrier carries out a transfer."""
        self.transfer_answer: float = 0.0
        """Seconds from then until the carrier confirms the transfer."""
        self.transfer_error: Exception | None = None
        """The error that the carrier raises instead of transferring the call."""
        self.faulty_stream: FaultyStream | None = None
        """The server's end of the media connection, for faults below the messages; None on real sockets."""
        # One sequence over all messages of a stream, as documented: a gap in it shows that one is missing.
        self._sequence = 0
        self._outbox, self._outgoing = trio.open_memory_channel[tuple[float, str | None]](MAX_MESSAGES_IN_FLIGHT)
        self._sends_again = self._reads_again = -math.inf
        self._scope = trio.CancelScope()
        self._news = Pulse()  # fires when the time of the next mark may have changed
        self.caller_audio: CallerAudio = CallerAudio()
        self.playback: PhonePlayback = PhonePlayback()
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
        return f"<SimulatedTwilio {self.call_sid} {self.ended or 'up'}>"

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
        self._post(messages.Dtmf(**self._ids(), dtmf=messages.Digit(digit=digit)))

    def send(self, message: str) -> None:
        """Send any message to the agent's server, with the network's delay."""
        self._queue(message)

    def hang_up(self) -> None:
        """End the call as the caller; do nothing if it is over."""
        if self.ended is None:
            self._leave("caller_hung_up")

    def _leave(self, how: Ended) -> None:
        """End the stream as Twilio does when the call leaves it."""
        self._end(how)
        # Behind whatever the network still carries, and the end of the connection behind that.
        self._post(messages.Stop(**self._ids(), stop=messages.StopBody(self._account_sid, self.call_sid)))
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
        if self.ended is not None:
            raise CallEnded(f"call {self.call_sid} is over: {self.ended}")
        self.transferred_to = to
        self._leave("transferred")
        # After the stream's end: the carrier's report may come when the call is over for the server.
        await trio.sleep(self.transfer_answer)

    def drop(self) -> None:
        """Cut the connection without a close, as a broken network does."""
        if self.ended is None:
            self._end("dropped")
            # Without a stop, and without what the network still carried.
            self._scope.cancel()

    def stall(self, seconds: float, *, sending: bool = True, receiving: bool = True) -> None:
        """Make the network carry nothing for ``seconds``; messages sent meanwhile arrive afterwards, all at once."""
        if sending:
            self._sends_again = trio.current_time() + seconds
        if receiving:
            self._reads_again = trio.current_time() + seconds

    def alter_messages(self, alter: Alter) -> None:
        """Pass every message to the server through a function from now on."""
        self._alter = alter

    def return_marks_early(self) -> None:
        """Return marks from now on when they arrive instead of when they were played; no carrier should do that."""
        self._marks_are_early = True

    def make_faulty(self, stream: trio.abc.HalfCloseableStream) -> FaultyStream:
        """Wrap the server's end of a connection, for faults below the messages.

        A call has two connections, and the media connection is the second: ``faulty_stream`` is the last one wrapped.
        """
        self.faulty_stream = FaultyStream(stream)
        return self.faulty_stream

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
            CallRefused: the server did not accept the call, or answered in a way that Twilio does not understand.
        """
        try:
            stream = await self._ask()
            connection = await self._connect()
            try:
                socket = await self._open(connection, stream)
                # Returns when the scope is cancelled: by either side, or by a broken line.
                await self._carry(socket, stream, task_status)
                # When the last message was sent: from here on the server can know. Measured
                # before the close, which waits for the peer.
                self.end_known_at = self.now
                # A broken network carries no close frame either.
                if self.ended != "dropped":
                    await socket.aclose()
            finally:
                # Forced: a peer that does not read must not hold up the end.
                await trio.aclose_forcefully(connection)
        finally:
            # Also when the call was refused: a test that waits for the end must not wait for ever.
            self.over.set()

    async def _ask(self) -> messages.StreamTwiml:
        """Ask the voice webhook how to handle the call."""
        url = f"{self._public_url}/webhooks/twilio/voice{self._query}"
        signature = messages.sign(self._auth_token, url, self._form)
        headers = {"X-Twilio-Signature": signature, "User-Agent": "TwilioProxy/1.1", "Accept": "*/*"}
        with trio.move_on_after(messages.WEBHOOK_TIMEOUT_S) as deadline:
            connection = await self._connect()
            try:
                answer = await post_form(connection, url, self._form, headers)
            # Whatever the reason, the caller hears Twilio's "application error".
            except (h11.RemoteProtocolError, trio.BrokenResourceError) as error:
                raise CallRefused("failed", f"the voice webhook did not answer: {error}") from error
            finally:
                await trio.aclose_forcefully(connection)
        if deadline.cancelled_caught:
            raise CallRefused("failed", f"the voice webhook did not answer within {messages.WEBHOOK_TIMEOUT_S:g} s")
        if answer.status != 200:  # noqa: PLR2004 (HTTP's OK)
            raise CallRefused("failed", f"the voice webhook answered {answer.status}: {_shown(answer.body)}")
        # With any other type, Twilio would play or read the body to the caller.
        if not answer.content_type.startswith(("text/xml", "application/xml")):
            raise CallRefused(
                "failed", f"the voice webhook must answer with TwiML (text/xml), got {answer.content_type!r}"
            )
        try:
            twiml = messages.read_twiml(answer.body)
        except messages.BadAnswer as error:
            raise CallRefused("failed", str(error)) from error
        if isinstance(twiml, messages.RejectTwiml):
            raise CallRefused(twiml.outcome, f"the server refused the call: {twiml.outcome}")
        # Plain ws only where the whole server is plain, as on loopback.
        if twiml.url.startswith("ws:") and self._public_url.startswith("https:"):
            raise CallRefused("failed", f"31922: <Stream url> must be a wss:// address, got {twiml.url!r}")
        return twiml

    async def _open(self, connection: trio.abc.Stream, stream: messages.StreamTwiml) -> WebSocket:
        signature = messages.sign(self._auth_token, stream.url)
        try:
            with trio.fail_after(messages.WEBHOOK_TIMEOUT_S):
                return await connect(connection, stream.url, {"X-Twilio-Signature": signature})
        # 31920 is Twilio's code for a handshake that was not answered with 101.
        except (WireError, SocketClosed, trio.TooSlowError) as error:
            raise CallRefused("failed", f"31920: the media socket was refused: {error}") from error

    async def _carry(self, socket: WebSocket, stream: messages.StreamTwiml, task_status: trio.TaskStatus[None]) -> None:
        # An empty message makes the writer send the answers to pings, in their place among the others.
        socket.share_sending(lambda: self._queue(""))
        # Before the first message: call time is that of the caller, whose audio begins with the stream.
        self.media_start = trio.current_time()
        self._post(messages.Connected())
        body = messages.StartBody(
            stream_sid=self.stream_sid,
            account_sid=self._account_sid,
            call_sid=self.call_sid,
            custom_parameters=dict(stream.parameters),
        )
        self._post(messages.Start(**self._ids(), start=body))
        with self._scope:
            async with open_flat_nursery() as nursery:
                nursery.start_soon(self._write, socket)
                nursery.start_soon(self._read, socket)
                nursery.start_soon(self._speak)
                nursery.start_soon(self._echo)
                # Inside the nursery: the starter's task may act as soon as the tasks exist, at call time 0.
                task_status.started()

    async def _write(self, socket: WebSocket) -> None:
        """Send the posted messages, each when the network has carried it; the only task that writes to the socket."""
        sent = 0
        try:
            async for due, message in self._outgoing:
                # Only if there is something to wait for: a checkpoint for each message would let
                # tasks at the same instant swap places.
                if max(due, self._sends_again) > trio.current_time():
                    await trio.sleep_until(max(due, self._sends_again))
                # Through the queue, so that the connection ends after all that was sent before.
                if message is None:
                    self._scope.cancel()
                elif message:
                    for one in self._alter(message):
                        await socket.send(one)
                    sent += 1
                    if sent == OPENING_MESSAGES:
                        self.reached_at = self.now
                else:
                    await socket.flush()
        except SocketClosed:
            pass  # the reader gets the same error, with the reason

    async def _read(self, socket: WebSocket) -> None:
        arriving, arrived = trio.open_memory_channel[tuple[float, str | bytes | None]](MAX_MESSAGES_IN_FLIGHT)
        # Leaving closes the channel: ``_arrive`` takes what is on its way and ends.
        async with open_flat_nursery() as nursery, arriving:
            nursery.start_soon(self._arrive, arrived)
            message: str | bytes | None = ""
            while message is not None:
                try:
                    message = await socket.receive()
                # The end of the connection travels like a message, and takes as long.
                except SocketClosed as error:
                    self.close_code = error.code
                    message = None
                # After the receive: a stall may have begun while this task was waiting for the message.
                if self._reads_again > trio.current_time():
                    await trio.sleep_until(self._reads_again)
                if self.down_delay == 0:
                    # Directly, not through the channel, so that events at equal instants keep their order.
                    self._take(message)
                else:
                    await arriving.send((trio.current_time() + self.down_delay, message))

    async def _arrive(self, arrived: trio.MemoryReceiveChannel[tuple[float, str | bytes | None]]) -> None:
        async for due, message in arrived:
            await trio.sleep_until(due)
            self._take(message)

    def _take(self, message: str | bytes | None) -> None:
        """Handle a message of the server, or None when it has closed the socket.

        That ends the call, because the TwiML has no verb after <Connect>.
        """
        now = self.now
        # The buffer was emptied with the call: what still comes is not heard.
        if self.ended is not None:
            return
        if message is None:
            self._end("agent_hung_up")
            self._scope.cancel()
            return
        # Marks that are due now come before what this message causes: at equal instants,
        # a mark was played before a clear.
        self._return_marks(self.playback.reached(now))
        try:
            decoded, audio = messages.read_message(message, self.stream_sid)
        except messages.BadMessage as error:
            # Recorded and ignored, as Twilio does with a warning. The check after the call fails the test.
            self.faults.append(ProtocolFault(now, str(error)))
            return
        match decoded:
            case messages.Play():
                self.arrivals.append(Arrival(now, audio=audio))
                self.playback.media(audio, now)
            case messages.Mark(mark=mark):
                self.arrivals.append(Arrival(now, mark=mark.name))
                if self._marks_are_early:
                    self._return_marks([mark.name])
                else:
                    self.playback.mark(mark.name, now)
            case messages.Clear():
                self.arrivals.append(Arrival(now))
                # All waiting marks come back after a clear, as documented. That they were
                # not played, the server has to know.
                self._return_marks(self.playback.clear(now))
        # A mark on an empty buffer is due at once.
        self._return_marks(self.playback.reached(now))
        self._news.fire()

    async def _speak(self) -> None:
        """Send the caller's audio, frame by frame."""
        frame = 0
        while True:
            frame += 1
            # From the start, not from the last frame: 20 ms more each time would add up their rounding.
            await trio.sleep_until(self.media_start + frame * FRAME_S)
            if self.ended is not None:
                return
            body = messages.MediaBody(
                chunk=str(frame),
                timestamp=str(round((frame - 1) * FRAME_S * 1000)),
                payload=base64.b64encode(self.caller_audio.take(FRAME_SAMPLES)).decode(),
            )
            self._post(messages.Media(**self._ids(), media=body))

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
                self._post(messages.MarkPlayed(**self._ids(), mark=messages.Name(name)))

    def _ids(self) -> dict[str, str]:
        self._sequence += 1
        return {"sequence_number": str(self._sequence), "stream_sid": self.stream_sid}

    def _post(self, message: messages.ToAgent) -> None:
        self._queue(msgspec.json.encode(message).decode())

    def _queue(self, message: str | None) -> None:
        """Hand a message to the network; "" sends what the socket itself has pending, None ends the connection."""
        try:
            self._outbox.send_nowait((trio.current_time() + self.up_delay, message))
        # More than two minutes of audio wait: the server has stopped reading.
        except trio.WouldBlock:
            self.faults.append(ProtocolFault(self.now, "the server does not read; its messages are lost"))
            self.drop()

    def _end(self, how: Ended) -> None:
        self.ended = how
        self.ended_at = self.now
        # The writer still has to deliver the last messages; if the server does not take
        # them, the call ends all the same.
        self._scope.deadline = trio.current_time() + CLOSE_TIMEOUT_S
        # The caller is gone, or hears somebody else: nothing more is played.
        self.playback.clear(self.ended_at)


def _unaltered(message: str) -> Sequence[str | bytes]:
    return (message,)


def _shown(body: bytes) -> str:
    return body[:200].decode(errors="replace")
