"""ElevenLabs' multi-context WebSocket: one connection per call, one context per reply.

A task of the call owns the connection and is the only one that writes to it. A reply queues its text under the id of
its context, and never waits for the network. It follows that:

* Nothing can delay a barge-in: ending a reply is a plain function, which removes the unsent text and queues the
  context's ``close`` in its place. Audio that still comes for the context is dropped.
* If closing would not stop the vendor, because all text was flushed already, the connection is closed, and a new one
  opened while the caller talks. The same happens when :data:`MAX_LINGERING_CONTEXTS` closed contexts have not been
  reported as finished: the vendor allows five at once, and ends the connection at the sixth.
* A connection that ends between replies, as an idle one does, is reopened at once. If a connection ends before its
  reply has produced any audio, the reply starts again on the next connection, once.

A context exists at the vendor from its first text on, so a reply without text leaves none behind.
"""

import logging
import math
from collections import deque
from collections.abc import AsyncIterable, AsyncIterator, Mapping
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from functools import partial
from typing import Final

import trio

from patter_trio.abc import SpeechChunk, TextToSpeechSession, Usage, report_usage
from patter_trio.errors import AuthenticationError, ProviderError, ProviderTimeout, RateLimitError, WireError
from patter_trio.net.pulse import Pulse
from patter_trio.net.tasks import hand_over, run_beside
from patter_trio.net.websocket_client import ConnectionOver, WebSocketClient, open_websocket
from patter_trio.providers.attempts import says_something
from patter_trio.tts.elevenlabs._alignment import SpokenText
from patter_trio.wire import elevenlabs as wire

MAX_LINGERING_CONTEXTS: Final = 4
"""Most contexts at the vendor when the next one opens; it allows five, and keeping the connection alive may count as
one."""
# Judged: some seconds of speech ahead of the call, which takes it for playout at once.
MAX_WAITING_CHUNKS: Final = 64
"""Most chunks of a reply that wait to be taken; then the vendor has to wait."""
# Judged: a refusal arrives a round trip behind the end of the connection.
CLOSE_TIMEOUT_S: Final = 0.2
"""Seconds that the vendor's last messages may take, once nothing can be sent to it any more."""
# Judged: a vendor that closes at once would be called again and again for the whole call.
MIN_USEFUL_CONNECTION_S: Final = 5.0
"""Seconds within which a connection without any speech counts as refused: it is reopened only when needed."""

_log = logging.getLogger("patter_trio.tts")


class _Reply:
    """The state of one reply at the vendor."""

    def __init__(self, context: str) -> None:
        self.context = context
        self.text = SpokenText()
        self.sentences: list[str] = []
        """Sentences sent so far; emptied once any audio has come, because they are not sent again then."""
        self.characters = 0
        self.ended = False
        """True once all text was sent."""
        self.heard = False
        self.repeated = False
        self.failure: ProviderError | None = None
        self.put, self.taken = trio.open_memory_channel[wire.Audio](MAX_WAITING_CHUNKS)
        # Replaced at each wait; the first one only stands in until then.
        self.patience = trio.CancelScope()
        # Kept beside the scope, because a scope that is not entered yet takes its deadline from here.
        self.deadline = math.inf

    def __repr__(self) -> str:
        return f"<_Reply {self.context}, {self.characters} characters{' ended' if self.ended else ''}>"

    def wait_until(self, deadline: float) -> None:
        """Set the deadline of the next audio."""
        # Both: the wait in progress, and the next one.
        self.deadline = self.patience.deadline = deadline

    @property
    def unspoken(self) -> str:
        """Text that the vendor should have spoken and did not, as far as is known."""
        if self.heard:
            return self.text.missing()
        # Without a letter or digit there may be nothing to say.
        return " ".join(text for text in self.sentences if says_something(text))

    def finish(self, failure: ProviderError | None = None) -> None:
        """Tell the reader of the audio that no more comes."""
        self.failure = self.failure or failure
        self.put.close()


class _SocketConnection:
    """One connection: its queue of messages, and the contexts at its other end."""

    def __init__(self, settings: wire.Settings, keep_alive: float) -> None:
        self._settings = settings
        self._keep_alive = keep_alive
        self._outbox: deque[tuple[str, str]] = deque()  # context and message
        self._wake = Pulse()
        self.scope = trio.CancelScope()
        self.contexts: set[str] = set()
        """Contexts that were opened and not reported as finished."""
        self.closing: set[str] = set()
        """Contexts among them that were flushed or closed."""
        self.since = math.inf
        """Time at which the connection was opened."""
        self.useful = False
        """True once any speech came."""
        self.failure: ProviderError | None = None
        self.malformed = 0

    def __repr__(self) -> str:
        return f"<_SocketConnection with {len(self.contexts)} contexts, {len(self._outbox)} messages to send>"

    def _queue(self, context: str, message: str) -> None:
        self._outbox.append((context, message))
        self._wake.fire()

    def say(self, context: str, text: str) -> None:
        """Queue a text for a context, which is opened if it is new."""
        # A context costs the vendor one of its five places, so it is opened with the first text, not with the reply.
        if context not in self.contexts:
            self.contexts.add(context)
            self._queue(context, wire.begin(context, self._settings))
        self._queue(context, wire.say(context, text))

    def end(self, context: str) -> None:
        """Make the vendor speak the rest of a context and then close it."""
        # Nothing was said in it, so it does not exist.
        if context in self.contexts:
            self.closing.add(context)
            # Flush before close: a close alone would drop the text that the vendor still holds back.
            self._queue(context, wire.flush(context))
            self._queue(context, wire.close(context))

    def stop(self, context: str) -> bool:
        """Stop the speech of a context; return False if only the end of the connection can do that."""
        if context not in self.contexts:
            return True
        unsent = [message for owner, message in self._outbox if owner == context]
        # A new deque: the writer reads ``_outbox`` anew for each message.
        self._outbox = deque(item for item in self._outbox if item[0] != context)
        if wire.begin(context, self._settings) in unsent:  # the vendor does not know the context
            self.contexts.discard(context)
            return True
        # The vendor has all of the text and the request to speak it: a close would not stop it.
        if context in self.closing and wire.flush(context) not in unsent:
            return False
        self.closing.add(context)
        self._queue(context, wire.close(context))
        # At the limit the next context would be the sixth, at which the vendor ends the connection.
        return len(self.contexts) < MAX_LINGERING_CONTEXTS

    def retire(self) -> None:
        """Close the connection, because another one takes its place."""
        self.scope.cancel(reason="another connection takes its place")

    async def write(self, socket: WebSocketClient) -> None:
        """Send the queued messages, and keep-alive messages in between."""
        try:
            while True:
                while self._outbox:
                    # Taken out before the await: stop() must not find a message that is already on its way.
                    await socket.send(self._outbox.popleft()[1])
                # Only the wait is limited: a send has a deadline of its own.
                with trio.move_on_after(self._keep_alive) as idle:
                    await self._wake.wait()
                # A message may have been queued at the same instant.
                if idle.cancelled_caught and not self._outbox:
                    # Without an open context the empty id keeps the connection itself alive.
                    waiting = sorted(self.contexts - self.closing) or [""]
                    self._outbox.extend((context, wire.keep_alive(context)) for context in waiting)
        except ProviderError as error:
            if isinstance(error, ConnectionOver):  # let the reader find the vendor's reason, if it sent one
                await trio.sleep(CLOSE_TIMEOUT_S)
            # The first failure is the reason; the reader may have found the vendor's own words.
            self.failure = self.failure or _named(error)
            self.scope.cancel(reason="the connection is over")


class WebSocketSession(TextToSpeechSession):
    """The synthesis of one call.

    Args:
        url: of the WebSocket, with its query.
        headers: of its handshake.
        settings: the voice settings of each context.
        keep_alive: seconds without messages after which a keep-alive message is sent.
        timeout: seconds until audio must come.
    """

    def __init__(
        self, url: str, headers: Mapping[str, str], settings: wire.Settings, *, keep_alive: float, timeout: float
    ) -> None:
        self._url = url
        self._headers = headers
        self._settings = settings
        self._keep_alive = keep_alive
        self._timeout = timeout
        self._replies: dict[str, _Reply] = {}
        self._connection: _SocketConnection | None = None
        self._count = 0
        self._wanted = Pulse()
        # Set once the first connection is open or has failed: ``ready`` waits for either.
        self._tried = trio.Event()
        self._failure: ProviderError | None = None

    def __repr__(self) -> str:
        return f"<SocketSession of ElevenLabs, {self._connection!r}>"

    async def ready(self) -> None:
        """Wait for the first connection.

        Raises:
            ProviderError: the connection could not be opened.
        """
        await self._tried.wait()
        if self._failure is not None:
            raise self._failure

    def speak(self, sentences: AsyncIterable[str]) -> AbstractAsyncContextManager[AsyncIterator[SpeechChunk]]:
        """Open the speech of one reply; see :class:`~patter_trio.abc.TextToSpeechSession`."""
        return self._speak(sentences)

    # Replies ----------------------------------------------------------------------------------------------------------
    @asynccontextmanager
    async def _speak(self, sentences: AsyncIterable[str]) -> AsyncIterator[AsyncIterator[SpeechChunk]]:
        self._count += 1
        reply = _Reply(f"reply-{self._count}")
        try:
            # Beside the block: the LLM's sentences must reach the vendor while the call takes audio.
            async with run_beside(partial(self._feed, sentences, reply)):
                yield _Speech(reply, self._timeout)
        finally:
            # WARNING: no await here. It runs when a barge-in cancels the reply, and must be complete then.
            self._leave(reply)
            # Also of a reply that was cut: the vendor charges for the text that it got.
            if reply.characters:
                report_usage(Usage(stage="tts", characters=reply.characters))

    async def _feed(self, sentences: AsyncIterable[str], reply: _Reply) -> None:
        async for sentence in sentences:
            if text := " ".join(sentence.split()):
                self._say(reply, text)
        # From here on an end of the audio is an end, not a pause of the LLM.
        reply.ended = True
        if not reply.characters:
            reply.finish()
            return
        # All text was sent: from now on silence is the vendor's.
        reply.wait_until(trio.current_time() + self._timeout)
        if self._connection is None:
            return
        if reply.context in self._connection.contexts:
            self._connection.end(reply.context)
        else:  # the vendor has ended it by itself: nothing more will come
            self._replies.pop(reply.context, None)
            reply.finish()

    def _say(self, reply: _Reply, text: str) -> None:
        reply.text.add(text)
        reply.characters += len(text)
        # After the first audio a reply is never begun again, so its sentences need not be kept.
        if not reply.heard:
            reply.sentences.append(text)
        # From the first text on: how long the LLM takes is not the voice's fault.
        if reply.deadline == math.inf:
            reply.wait_until(trio.current_time() + self._timeout)
        if reply.failure is not None:
            return
        self._replies[reply.context] = reply
        if self._connection is not None:
            self._connection.say(reply.context, text)
        # Wakes the task below if the last connection was refused.
        self._wanted.fire()

    def _leave(self, reply: _Reply) -> None:
        """End a reply, whether it was spoken or not; no more of it is synthesised."""
        # Both ends: the connection's reader must not wait for a reply that nobody takes.
        reply.put.close()
        reply.taken.close()
        self._replies.pop(reply.context, None)
        connection = self._connection
        # WARNING: only if no other reply uses the connection: closing it would end that one, too.
        if connection is not None and not connection.stop(reply.context) and not self._replies:
            connection.retire()

    # The connection ---------------------------------------------------------------------------------------------------
    async def work(self) -> None:
        """Keep a connection open for as long as the call lasts; reopen it when it ends."""
        while True:
            connection = _SocketConnection(self._settings, self._keep_alive)
            try:
                async with open_websocket(self._url, headers=self._headers) as socket:
                    await self._hold(connection, socket)
            except ProviderError as error:
                connection.failure = connection.failure or _named(error)
            # Without a failure it was retired: the next one is opened at once.
            if connection.failure is not None and self._ended(connection, connection.failure):
                await self._wanted.wait()

    async def _hold(self, connection: _SocketConnection, socket: WebSocketClient) -> None:
        self._begin(connection)
        try:
            with connection.scope:
                # The writer beside the reader: whatever ends one ends the connection.
                async with run_beside(partial(connection.write, socket)):
                    try:
                        await self._read(connection, socket)
                    except ProviderError as error:  # caught here, so that it does not form a group with the writer's
                        connection.failure = connection.failure or _named(error)
        finally:
            # Before the next connection: replies queue nothing into one that is over.
            self._connection = None

    def _begin(self, connection: _SocketConnection) -> None:
        self._connection = connection
        self._tried.set()
        connection.since = trio.current_time()
        # Replies that waited for the connection, and replies whose connection ended before any audio came.
        # In their order, which is the order of speech.
        for reply in self._replies.values():
            for text in reply.sentences:
                connection.say(reply.context, text)
            if reply.ended:
                connection.end(reply.context)

    def _ended(self, connection: _SocketConnection, failure: ProviderError) -> bool:
        """Settle the replies of an ended connection; return True if a new one can wait until it is needed."""
        if not self._tried.is_set():
            self._failure = failure
            self._tried.set()
        for reply in tuple(self._replies.values()):
            # Only a connection that ended is a reason to begin again; a refusal would be repeated.
            if isinstance(failure, ConnectionOver) and not reply.heard and not reply.repeated:
                reply.repeated = True
            else:
                self._fail(reply, failure)
        if self._replies:
            # Replies wait: open at once.
            return False
        # An idle connection that the vendor ends is the normal case.
        _log.debug("ElevenLabs: the connection ended: %s", failure)
        # Refused at once, perhaps for good: the next attempt waits until something is to be said.
        return not (connection.useful or trio.current_time() - connection.since >= MIN_USEFUL_CONNECTION_S)

    def _fail(self, reply: _Reply, failure: ProviderError) -> None:
        self._replies.pop(reply.context, None)
        reply.finish(failure)

    async def _read(self, connection: _SocketConnection, socket: WebSocketClient) -> None:
        while True:
            message = await socket.receive()
            try:
                events = wire.receive(message)
            # Ignored: the audio of the other messages is worth more than the loss of one.
            except WireError as error:
                connection.malformed += 1
                if connection.malformed == 1:
                    # Only the first: a faulty vendor may send one with each chunk.
                    _log.warning("ElevenLabs: ignoring an invalid message: %s", error)
                continue
            for event in events:
                await self._take(connection, event)

    async def _take(self, connection: _SocketConnection, event: wire.Event) -> None:
        # None for a reply that was left: its audio is dropped, and takes no time.
        reply = self._replies.get(event.context)
        match event:
            case wire.Audio():
                connection.useful = True
                if reply is not None:
                    reply.heard = True
                    # WARNING: at the first audio: from here on a lost connection must not make the voice begin again.
                    reply.sentences.clear()
                    try:
                        # Waits if the reply is slow: the vendor then has to wait, too, and memory stays bounded.
                        await hand_over(reply.put, event)
                    except (trio.BrokenResourceError, trio.ClosedResourceError):  # the reply was left meanwhile
                        return
            case wire.Finished():
                connection.contexts.discard(event.context)
                connection.closing.discard(event.context)
                # A context that ends before its text does is opened again by the next text.
                if reply is not None and reply.ended:
                    del self._replies[event.context]
                    reply.finish()
            # The vendor closes an idle connection with a message; it is reopened like any other.
            case wire.Failed(fault=wire.Fault.IDLE):
                _log.debug("ElevenLabs: %s", event.message)
            case wire.Failed():
                failure = _error_of(event.fault, event.message)
                if event.context:
                    # The vendor has closed the context by itself.
                    connection.contexts.discard(event.context)
                else:
                    connection.failure = connection.failure or failure
                # Without a context the failure is the connection's and so that of all its replies.
                for failed in [reply] if event.context else list(self._replies.values()):
                    if failed is not None:
                        self._fail(failed, failure)


class _Speech(AsyncIterator[SpeechChunk]):
    """The audio of one reply; a plain iterator, so that it can be left at any point without clean-up."""

    def __init__(self, reply: _Reply, timeout: float) -> None:
        self._reply = reply
        self._timeout = timeout
        self._ready: deque[SpeechChunk] = deque()

    async def __anext__(self) -> SpeechChunk:
        reply = self._reply
        while not self._ready:
            try:
                made = await self._next()
            except trio.EndOfChannel:
                made = None
            if made is None:
                if reply.failure is not None:
                    raise reply.failure
                if missing := reply.unspoken:
                    raise ProviderError(f"ElevenLabs ended the speech without audio for {len(missing)} characters")
                rest = reply.text.rest()
                # Text without audio is reported only if any was heard; otherwise nothing was said.
                if not (rest and reply.heard):
                    raise StopAsyncIteration
                return SpeechChunk(b"", rest)
            # While text is still to come, lift the deadline until more of it does: the LLM may pause.
            reply.wait_until(trio.current_time() + self._timeout if reply.ended else math.inf)
            self._ready.extend(reply.text.chunks(made.audio, made.characters))
        return self._ready.popleft()

    async def _next(self) -> wire.Audio | None:
        """Return the next audio; None if the time is over and no audio is missing.

        Raises:
            ProviderTimeout: no audio came in time.
            trio.EndOfChannel: the audio is complete.
        """
        reply = self._reply
        # Without a wait first: a checkpoint for each chunk costs a turn of the event loop.
        try:
            return reply.taken.receive_nowait()
        except trio.WouldBlock:
            pass
        # The scope is stored, so that more text can move its deadline while this waits.
        with trio.CancelScope(deadline=reply.deadline) as reply.patience:
            return await reply.taken.receive()
        # The vendor may forget to report the end of a context: all words spoken is as good.
        if reply.ended and reply.heard and reply.text.complete:
            return None
        raise ProviderTimeout(f"ElevenLabs sent no audio within {self._timeout:g} s")


def _error_of(fault: wire.Fault, message: str) -> ProviderError:
    kinds: dict[wire.Fault, type[ProviderError]] = {
        wire.Fault.CREDENTIALS: AuthenticationError,
        wire.Fault.TOO_MUCH: RateLimitError,
    }
    return kinds.get(fault, ProviderError)(f"ElevenLabs: {message}")


def _named(error: ProviderError) -> ProviderError:
    """Return a connection's end as the error that the vendor's reason shows: a refused key, or a rate limit."""
    # The vendor closes so for a key and for a quota, and says in words which it is.
    if isinstance(error, ConnectionOver) and error.code == 1008:  # noqa: PLR2004 (policy violation, RFC 6455)
        fault = wire.fault_of(str(error))
        if fault in (wire.Fault.CREDENTIALS, wire.Fault.TOO_MUCH):
            named = _error_of(fault, str(error))
            named.__cause__ = error
            return named
    return error
