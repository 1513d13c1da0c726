"""Recognition of one call by Deepgram: its connection, its audio, and how it recovers from a lost connection.

The session reopens a lost connection, again and again for as long as an :class:`Outage` may last. It sends the audio
since the last final words again, because without it the current sentence would be lost. The words of this audio go into
the segment that is still open, so none is there twice. If no connection works in time, the session has failed.

A vendor that hangs keeps its connection open and says nothing. A :class:`SilenceWatch` notices that by the caller's
voice: a connection that brings no result in time, not even an empty one, counts as lost.
"""

import logging
import math
from collections.abc import AsyncIterator, Mapping
from contextlib import suppress
from typing import Final

import attrs
import trio

from patter_trio.abc import RecognitionProgress, SpeechToTextSession, Transcript, VoiceEdge
from patter_trio.audio.formats import RATE_HZ
from patter_trio.errors import (
    AuthenticationError,
    PatterConnectionError,
    ProviderError,
    ProviderTimeout,
    WireError,
)
from patter_trio.net.tasks import ResultStream, hand_over
from patter_trio.net.websocket_client import CONNECT_TIMEOUT_S, ConnectionOver, WebSocketClient, open_websocket
from patter_trio.providers.outage import STEADY_AFTER_S, Outage
from patter_trio.providers.silence import RESULT_TIMEOUT_S, SilenceWatch
from patter_trio.user_code.context import current_call
from patter_trio.wire.deepgram import ListenCodec, ReportedError

# Judged: a network that blinks is back by then. Until the call begins, another provider can still take it, and waits.
OPENING_RETRY_S: Final = 2.0
"""Seconds within which the first connection is tried again if the vendor cannot be reached."""
# Judged: longer than nearly every sentence, and as long as an outage may last. More audio would take the vendor longer
# to catch up.
MAX_REPEATED_S: Final = 10.0
"""Most seconds of audio that are sent again."""
# Judged: the last words of a caller who hangs up wait for it, and have 0.8 s in all (``TurnPolicy.flush``).
FLUSH_TIMEOUT_S: Final = 0.5
"""Seconds after which an unanswered flush has no more words: the vendor may have none to report."""
# Judged: it is one small message; a call must have ended within a second.
CLOSE_TIMEOUT_S: Final = 0.05
"""Seconds that the closing message may take."""
# Judged: a single faulty message must not end a call; a hundred are a vendor that speaks another protocol.
MAX_BAD_MESSAGES: Final = 100
"""Invalid messages after which the session counts as failed."""
REFUSAL_HEADER: Final = "dg-error"
"""Header of a refusal that has the reason."""
FATAL_CLOSE_CODES: Final = frozenset({1002, 1003, 1007, 1008, 1009})
"""Close codes (RFC 6455, section 7.4.1) that complain about our messages: the same messages would be sent again."""
# Judged. When it is full, the reader waits, and with it the vendor; no words are dropped.
_MAX_WAITING_RESULTS: Final = 64

_log = logging.getLogger("patter_trio.stt")


class _AudioTape:
    """The audio that may have to be sent again; positions count bytes since the session's first."""

    def __init__(self) -> None:
        self._audio = bytearray()
        self.start = 0

    @property
    def end(self) -> int:
        return self.start + len(self._audio)

    def add(self, audio: bytes) -> None:
        self._audio += audio
        # The newest audio is worth more: without a bound a connection that hangs would collect the whole call.
        self.forget(self.end - round(MAX_REPEATED_S * RATE_HZ))

    def forget(self, until: int) -> None:
        gone = min(until, self.end) - self.start
        if gone > 0:
            del self._audio[:gone]
            self.start += gone

    def piece(self, begin: int, size: int) -> bytes:
        at = begin - self.start
        return bytes(self._audio[at : at + size])


@attrs.frozen
class _Loss:
    """The end of a connection, or of an attempt to open one; ``curable`` is True if another one may work."""

    reason: ProviderError
    curable: bool = True


class _Connection:
    """One connection of a session, and the audio sent over it."""

    def __init__(self, socket: WebSocketClient, start: int) -> None:
        self.socket = socket
        self.scope = trio.CancelScope()
        self.loss: _Loss | None = None
        self.start = start
        self.sent = start
        # The opening counts as a message: the vendor's silence begins with it.
        self.opened_at = self.sent_at = trio.current_time()

    async def send(self, message: str | bytes) -> None:
        """Send a message. A failure ends the connection; the reading task then opens another one."""
        try:
            await self.socket.send(message)
        except ProviderError as error:
            self.give_up(error)
        # Also after a failure, so that the keep-alive task does not try again at once.
        self.sent_at = trio.current_time()

    def give_up(self, reason: ProviderError, *, curable: bool = True) -> None:
        # The first reason counts; cancelling ends the tasks that use the socket.
        self.loss = self.loss or _Loss(reason, curable)
        self.scope.cancel(reason="the connection is lost")


class ListenSession(SpeechToTextSession):
    """One session; ``work`` has to run beside its use."""

    recovers = True

    def __init__(self, url: str, headers: Mapping[str, str], codec: ListenCodec, chunk: int) -> None:
        self._url, self._headers, self._codec, self._chunk = url, headers, codec, chunk
        self._tape = _AudioTape()
        self._connection: _Connection | None = None
        self._opened = trio.Event()
        self._results, self._waiting_results = trio.open_memory_channel[Transcript](_MAX_WAITING_RESULTS)
        self._failure: ProviderError | None = None
        self._bad_messages = 0
        self._flush_due = math.inf
        self._flushing = trio.Event()  # kept, unlike a Pulse: a flush may be asked for while the last one is awaited
        self._outage = Outage("Deepgram", current_call.get(), _log)
        self._speaking = False
        self._watch = SilenceWatch(gives_interims=codec.gives_interims)
        self.seconds: float = 0.0
        """Seconds that will be billed, as the vendor reports them, or else as they were sent."""

    # Called by the task of the audio ----------------------------------------------------------------------------------
    async def send(self, audio: bytes) -> None:
        self._check()
        # Kept first: if this send breaks the connection, the next one gets the audio again.
        self._tape.add(audio)
        if self._speaking:
            self._watch.heard(len(audio) / RATE_HZ)
        connection = self._connection
        if connection is None:  # being reopened: the new connection gets the kept audio
            await trio.lowlevel.checkpoint()
            return
        await self._push(connection, self._chunk)
        if self._watch.is_silent:
            connection.give_up(_silence())

    async def voice(self, edge: VoiceEdge) -> None:
        self._speaking = edge.speaking
        if edge.speaking:
            self._watch.voice_began()
        # Nova would wait for more silence; the call's VAD knows the end of the voice sooner.
        if not edge.speaking and self._codec.finalizes_at_voice_end:
            await self._finalize()
            if self._connection is not None:
                self._watch.expect()

    async def flush(self) -> None:
        self._check()
        await self._finalize()
        # Set after the request is sent: how long that takes is not the vendor's delay.
        self._flush_due = trio.current_time() + FLUSH_TIMEOUT_S
        self._flushing.set()

    async def _finalize(self) -> None:
        # Set before the await: if the connection breaks here, the next one repeats the request.
        self._watch.request()
        if self._connection is not None:
            # All audio goes first: the vendor finalizes what it has received.
            await self._push(self._connection, 1)
            await self._connection.send(self._codec.finalize)

    async def _push(self, connection: _Connection, least: int) -> None:
        """Send the unsent audio in pieces of at least ``least`` bytes; an empty piece would end the stream."""
        # Audio that is no longer kept cannot be sent; the words in it are lost.
        connection.sent = max(connection.sent, self._tape.start)
        while connection.loss is None and self._tape.end - connection.sent >= least:
            # At most 100 ms in a message, so that a long backlog does not block what comes behind it.
            piece = self._tape.piece(connection.sent, max(least, RATE_HZ // 10))
            if not piece:
                return
            # Count the piece before the await: if the send is cut off, this connection is over anyway.
            connection.sent += len(piece)
            await connection.send(piece)

    # Called by the task of the transcripts ----------------------------------------------------------------------------
    def transcripts(self) -> AsyncIterator[Transcript]:
        return ResultStream(self._waiting_results, lambda: self._failure)

    @property
    def progress(self) -> RecognitionProgress:
        """The vendor's answers so far."""
        return RecognitionProgress(self._codec.results, self._codec.settled)

    async def ready(self) -> None:
        """Wait for the first connection.

        Raises:
            ProviderError: the connection could not be opened.
        """
        await self._opened.wait()
        self._check()

    def _check(self) -> None:
        if self._failure:
            raise self._failure

    # The connection's task --------------------------------------------------------------------------------------------
    async def work(self) -> None:
        """Keep a connection and read its results, until cancelled or until the vendor has failed."""
        began = trio.current_time()
        timeout = CONNECT_TIMEOUT_S
        try:
            with self._results:
                while True:
                    await self._pause(await self._connected(timeout), began)
                    timeout = self._outage.attempt_timeout()
        # Kept, not raised: the session's users find it at their next call.
        except ProviderError as failure:
            self._failure = failure
        finally:
            # In any case: ``ready`` must not wait for a connection that will not come.
            self._opened.set()

    async def _pause(self, loss: _Loss, began: float) -> None:
        """Wait before the next attempt.

        Raises:
            ProviderError: the vendor was gone for too long, or another connection would not cure it.
        """
        # Before the first connection little is lost yet, and another provider can take the call.
        if not self._opened.is_set() and not (
            isinstance(loss.reason, PatterConnectionError) and trio.current_time() < began + OPENING_RETRY_S
        ):
            raise loss.reason
        if not loss.curable:
            raise loss.reason
        pause = self._outage.lost(loss.reason)
        await trio.sleep(pause)

    async def _connected(self, connect_timeout: float) -> _Loss:
        """Open a connection, and read from it until it is lost."""
        try:
            async with open_websocket(
                self._url, headers=self._headers, connect_timeout=connect_timeout, why=REFUSAL_HEADER
            ) as socket:
                return await self._used(socket)
        except ProviderError as error:
            return _Loss(error, curable=not isinstance(error, AuthenticationError))

    async def _used(self, socket: WebSocketClient) -> _Loss:
        """Use an open connection until it is lost."""
        # From the last final words on, as far as the audio is still kept.
        start = max(self._tape.start, min(self._tape.end, round(self._codec.settled * RATE_HZ)))
        self._codec.connected(start / RATE_HZ)
        connection = _Connection(socket, start)
        try:
            # Around all of it, the resuming included: a connection may break while the old audio is sent.
            with connection.scope:
                # The old audio goes first: only after it may the audio's task send to this connection.
                await self._resume(connection)
                # They end together, by the scope: whichever finds the end cancels it.
                async with trio.open_nursery() as nursery:
                    nursery.start_soon(self._keep_alive, connection)
                    nursery.start_soon(self._give_up_when_silent, connection)
                    # Not between two connections: the words may still come.
                    nursery.start_soon(self._answer_flushes)
                    nursery.start_soon(self._listen, connection)
        finally:
            # Before the await below: the audio's task must not send to a connection that is closing.
            self._connection = None
            # In seconds of audio, because that is what the vendor bills; its own figure comes only at an orderly end.
            sent = (connection.sent - connection.start) / RATE_HZ
            self.seconds += sent if self._codec.billed is None else self._codec.billed
            await self._say_goodbye(socket)
        if trio.current_time() - connection.opened_at >= STEADY_AFTER_S:
            self._outage.worked()
        return connection.loss or _Loss(ProviderError("the connection to Deepgram ended"))

    async def _resume(self, connection: _Connection) -> None:
        """Send the audio that is not final yet, and what has come meanwhile; from then on the audio's task sends."""
        # Published only afterwards: two tasks that send the same audio would mix its order.
        await self._push(connection, self._chunk)
        self._connection = connection
        if not self._opened.is_set():
            self._outage.worked()  # what was refused before the call began does not count
            self._opened.set()
        # The lost connection took the request for the final words with it.
        # Sent in order behind the audio it is about.
        if self._watch.requested:
            await connection.send(self._codec.finalize)
        # It has the audio that the last one did not answer, and must answer it.
        self._watch.resumed(gives_interims=self._codec.gives_interims)

    async def _give_up_when_silent(self, connection: _Connection) -> None:
        await self._watch.overdue()
        connection.give_up(_silence())

    async def _keep_alive(self, connection: _Connection) -> None:
        # A protocol without such a message has infinity here, and the task ends.
        while self._codec.silence < math.inf:
            due = connection.sent_at + self._codec.silence
            # Each message resets the time, so it is looked at again after the sleep.
            if trio.current_time() < due:
                await trio.sleep_until(due)
            else:
                await connection.send(self._codec.keep_alive)

    async def _answer_flushes(self) -> None:
        """Answer a flush with an empty final result if the vendor does not."""
        while True:
            await self._flushing.wait()
            await trio.sleep_until(self._flush_due)
            if trio.current_time() < self._flush_due:  # flushed again meanwhile
                continue
            # A new event: the next flush may have been asked for already, and then sets this one.
            self._flushing = trio.Event()
            if self._watch.requested:
                self._watch.final_came()
                # A segment that never existed: the open segment's words may still change, but keeping them is better
                # than none.
                await self._results.send(Transcript("", final=True, segment=0))

    async def _listen(self, connection: _Connection) -> None:
        try:
            while True:
                await self._take(await connection.socket.receive())
        # The order of these clauses matters: all of them are ProviderErrors.
        except ReportedError as failure:
            connection.give_up(failure, curable=not failure.recurs)
        except ConnectionOver as over:
            # By the code: the messages that the vendor complains about would be sent again.
            connection.give_up(over, curable=over.code not in FATAL_CLOSE_CODES)
        # Too many invalid messages.
        except ProviderError as failure:
            connection.give_up(failure, curable=False)

    async def _take(self, message: str | bytes) -> None:
        known, settled = self._codec.results, self._codec.settled
        try:
            transcripts = self._codec.receive(message)
        # Counted over all connections of the session, so that reconnecting does not reset it.
        except WireError as error:
            self._bad_messages += 1
            if self._bad_messages == 1:
                _log.warning("Deepgram: ignoring an invalid message (request %s): %s", self._codec.request_id, error)
            if self._bad_messages == MAX_BAD_MESSAGES:
                raise ProviderError(f"Deepgram sent {MAX_BAD_MESSAGES} invalid messages") from error
            return
        if self._codec.results > known:
            self._watch.came()
        # Words that are final will not be sent again, so the call has gone on; interim ones are no such progress.
        if self._codec.settled > settled:
            self._outage.worked()
        for transcript in transcripts:
            # Before the await: _answer_flushes must not add an empty result behind the vendor's own.
            if transcript.final:
                self._watch.final_came()
            await hand_over(self._results, transcript)
        # After the words have been passed on: if that is cancelled, the audio can still be sent again.
        self._tape.forget(round(self._codec.settled * RATE_HZ))

    async def _say_goodbye(self, socket: WebSocketClient) -> None:
        if not socket.usable:
            return
        # Shielded, so that even a cancelled call announces the end of its audio; bounded by the timeout.
        with trio.move_on_after(CLOSE_TIMEOUT_S, shield=True):
            with suppress(ProviderError):  # the socket is closed next in any case
                await socket.send(self._codec.close)


def _silence() -> ProviderTimeout:
    return ProviderTimeout(f"Deepgram sent no result for {RESULT_TIMEOUT_S:g} s of voice")
