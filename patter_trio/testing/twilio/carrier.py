"""A simulated Twilio: it calls the server with real bytes over any stream, and plays to the caller what it receives.

On memory streams and a mock clock a call takes no real time and every instant is exact; on sockets and the real clock
the call runs in real time. This module knows nothing of the server but its address and the account's credentials.

Call time is seconds since the media began: the caller's sample 0 was spoken at 0, and frame k, which holds [k * 0.02,
(k + 1) * 0.02), is sent when it is complete, at (k + 1) * 0.02.
"""

import base64
import math
from collections.abc import Awaitable, Callable, Sequence
from typing import Final, Literal

import attrs
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
from patter_trio.testing.twilio.playback import CallerAudio, PhonePlayback, Stretch, whole
from patter_trio.testing.twilio.webhook_post import post_form

Connect = Callable[[], Awaitable[trio.abc.Stream]]
Alter = Callable[[str], Sequence[str | bytes]]
"""A function that returns what is sent instead of a message: one message, several, or none."""

MAX_MESSAGES_IN_FLIGHT: Final = 8192
"""Maximum number of messages in flight in each direction: more than two minutes of the caller's audio."""
CLOSE_TIMEOUT_S: Final = 1.0
"""Seconds that the last messages may take after the end of the call."""
OPENING_MESSAGES: Final = 2
"""Messages that open a stream: connected, start."""

Ended = Literal["caller_hung_up", "agent_hung_up", "transferred", "dropped"]


class CallRefused(PatterConnectionError):
    """The call was not set up; ``outcome`` is what the caller experiences."""

    def __init__(self, outcome: str, message: str) -> None:
        super().__init__(message)
        self.outcome = outcome


@attrs.frozen
class Arrival:
    """A message that the carrier received from the agent's server: audio, the name of a mark, or (neither) a clear."""

    at: float
    audio: bytes = b""
    mark: str = ""

    @property
    def clears(self) -> bool:
        """True if the message empties the carrier's buffer."""
        return not self.audio and not self.mark


@attrs.frozen
class ProtocolFault:
    """A message of the agent's server that Twilio would not accept."""

    at: float
    message: str


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
        up_delay: float = 0.0,
        down_delay: float = 0.0,
        echo_marks: bool = True,
    ) -> None:
        self._connect = connect
        self._public_url = public_url.rstrip("/")
        self._account_sid = account_sid
        self._auth_token = auth_token
        self._form = {
            "CallSid": call_sid,
            "AccountSid": account_sid,
            "From": caller,
            "To": callee,
            "CallStatus": "ringing",
            "Direction": "inbound",
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
        self.told_at: float = math.inf
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
        self._post(messages.Stop(**self._ids(), stop=messages.StopBody(self._account_sid, self.call_sid)))
        self._queue(None)

    async def transfer(self, to: str) -> None:
        """Transfer the caller, as the agent's server requested; this ends the stream.

        Raises:
            CallEnded: the call is over.
        """
        await trio.sleep(self.transfer_delay)
        if self.transfer_error is not None:
            raise self.transfer_error
        if self.ended is not None:
            raise CallEnded(f"call {self.call_sid} is over: {self.ended}")
        self.transferred_to = to
        self._leave("transferred")
        await trio.sleep(self.transfer_answer)

    def drop(self) -> None:
        """Cut the connection without a close, as a broken network does."""
        if self.ended is None:
            self._end("dropped")
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
                await self._carry(socket, stream, task_status)
                self.told_at = self.now
                if self.ended != "dropped":
                    await socket.aclose()
            finally:
                # Forced: a peer that does not read must not hold up the end.
                await trio.aclose_forcefully(connection)
        finally:
            self.over.set()

    async def _ask(self) -> messages.StreamTwiml:
        """Ask the voice webhook how to handle the call."""
        url = self._public_url + "/webhooks/twilio/voice"
        signature = messages.sign(self._auth_token, url, self._form)
        headers = {"X-Twilio-Signature": signature, "User-Agent": "TwilioProxy/1.1", "Accept": "*/*"}
        with trio.move_on_after(messages.WEBHOOK_TIMEOUT_S) as deadline:
            connection = await self._connect()
            try:
                answer = await post_form(connection, url, self._form, headers)
            except (h11.RemoteProtocolError, trio.BrokenResourceError) as error:
                raise CallRefused("failed", f"the voice webhook did not answer: {error}") from error
            finally:
                await trio.aclose_forcefully(connection)
        if deadline.cancelled_caught:
            raise CallRefused("failed", f"the voice webhook did not answer within {messages.WEBHOOK_TIMEOUT_S:g} s")
        if answer.status != 200:  # noqa: PLR2004
            raise CallRefused("failed", f"the voice webhook answered {answer.status}: {_shown(answer.body)}")
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
        if twiml.url.startswith("ws:") and self._public_url.startswith("https:"):
            raise CallRefused("failed", f"31922: <Stream url> must be a wss:// address, got {twiml.url!r}")
        return twiml

    async def _open(self, connection: trio.abc.Stream, stream: messages.StreamTwiml) -> WebSocket:
        signature = messages.sign(self._auth_token, stream.url)
        try:
            with trio.fail_after(messages.WEBHOOK_TIMEOUT_S):
                return await connect(connection, stream.url, {"X-Twilio-Signature": signature})
        except (WireError, SocketClosed, trio.TooSlowError) as error:
            raise CallRefused("failed", f"31920: the media socket was refused: {error}") from error

    async def _carry(self, socket: WebSocket, stream: messages.StreamTwiml, task_status: trio.TaskStatus[None]) -> None:
        socket.share_sending(lambda: self._queue(""))
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
                task_status.started()

    async def _write(self, socket: WebSocket) -> None:
        """Send the posted messages, each when the network has carried it; the only task that writes to the socket."""
        sent = 0
        try:
            async for due, message in self._outgoing:
                if max(due, self._sends_again) > trio.current_time():
                    await trio.sleep_until(max(due, self._sends_again))
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
        async with open_flat_nursery() as nursery, arriving:
            nursery.start_soon(self._arrive, arrived)
            message: str | bytes | None = ""
            while message is not None:
                try:
                    message = await socket.receive()
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
        if self.ended is not None:
            return
        if message is None:
            self._end("agent_hung_up")
            self._scope.cancel()
            return
        self._return_marks(self.playback.reached(now))
        try:
            decoded, audio = messages.read_message(message, self.stream_sid)
        except messages.BadMessage as error:
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
                self._return_marks(self.playback.clear(now))
        self._return_marks(self.playback.reached(now))
        self._news.fire()

    async def _speak(self) -> None:
        """Send the caller's audio, frame by frame."""
        frame = 0
        while True:
            frame += 1
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
        except trio.WouldBlock:
            self.faults.append(ProtocolFault(self.now, "the server does not read; its messages are lost"))
            self.drop()

    def _end(self, how: Ended) -> None:
        self.ended = how
        self.ended_at = self.now
        self._scope.deadline = trio.current_time() + CLOSE_TIMEOUT_S
        self.playback.clear(self.ended_at)


def _unaltered(message: str) -> Sequence[str | bytes]:
    return (message,)


def _shown(body: bytes) -> str:
    return body[:200].decode(errors="replace")
