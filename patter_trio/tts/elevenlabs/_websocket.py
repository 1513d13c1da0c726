"""ElevenLabs' multi-context WebSocket: one connection per call, one context per reply.

A task of the call owns the connection and is the only one that writes to it; a reply puts its text under the id of its
context, and never waits for the network. What follows from that:

* A barge-in cannot be held up: ending a reply is a plain function, which takes back what was not yet sent and puts the
  context's ``close`` at its place. What still comes for the context is nobody's.
* Where closing would not stop the vendor, because all text was flushed already, the connection is closed, and a new one
  opened while the caller talks. So it is when :data:`MAX_LINGERING_CONTEXTS` contexts that were closed have not been reported as
  finished: the vendor allows five at once, and ends the connection at the sixth.
* A connection that ends between replies, as an idle one does, is opened again at once. A reply of which nothing was
  heard when its connection ended begins again on the next one, once.

A context exists at the vendor from its first text on, so that a reply without text leaves none behind.
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
from patter_trio.tts.elevenlabs._alignment import SpokenText
from patter_trio.wire import elevenlabs as wire

MAX_LINGERING_CONTEXTS: Final = 4
"""Contexts at the vendor before the next one; it allows five, and keeping the connection alive may count as one."""
MAX_WAITING_CHUNKS: Final = 64
"""Chunks of a reply that wait to be taken; then the vendor has to."""
CLOSE_TIMEOUT_S: Final = 0.2
"""Seconds that the vendor's last words may take, once nothing can be sent to it any more."""
MIN_USEFUL_CONNECTION_S: Final = 5.0
"""Seconds within which a connection that brought nothing counts as refused: it is opened again only when needed."""

_log = logging.getLogger("patter_trio.tts")


class _Reply:
    """What one reply is at the vendor."""

    def __init__(self, context: str) -> None:
        self.context = context
        self.text = SpokenText()
        self.sentences: list[str] = []
        """What was given; emptied once any of it was heard, for then it is not given again."""
        self.characters = 0
        self.ended = False
        """All text was given."""
        self.heard = False
        self.repeated = False
        self.failure: ProviderError | None = None
        self.put, self.taken = trio.open_memory_channel[wire.Audio](MAX_WAITING_CHUNKS)
        self.patience = trio.CancelScope()
        self.deadline = math.inf

    def __repr__(self) -> str:
        return f"<_Reply {self.context}, {self.characters} characters{' ended' if self.ended else ''}>"

    def wait_until(self, deadline: float) -> None:
        """Set when the audio that is waited for has to be there."""
        self.deadline = self.patience.deadline = deadline

    def finish(self, failure: ProviderError | None = None) -> None:
        """Let whoever takes the audio know that no more comes."""
        self.failure = self.failure or failure
        self.put.close()


class _SocketConnection:
    """One connection: what is to be sent, and which contexts exist at its other end."""

    def __init__(self, settings: wire.Settings, keep_alive: float) -> None:
        self._settings = settings
        self._keep_alive = keep_alive
        self._outbox: deque[tuple[str, str]] = deque()  # context and message
        self._wake = Pulse()
        self.scope = trio.CancelScope()
        self.contexts: set[str] = set()
        """Those that were opened and not reported as finished."""
        self.closing: set[str] = set()
        """Those of them whose text was flushed, or which were closed."""
        self.since = math.inf
        """When it was opened."""
        self.useful = False
        """Whether speech came."""
        self.failure: ProviderError | None = None
        self.malformed = 0

    def __repr__(self) -> str:
        return f"<_Line with {len(self.contexts)} contexts, {len(self._outbox)} messages to send>"

    def _queue(self, context: str, message: str) -> None:
        self._outbox.append((context, message))
        self._wake.fire()

    def say(self, context: str, text: str) -> None:
        """Have a text said in a context, which is opened if it is new."""
        if context not in self.contexts:
            self.contexts.add(context)
            self._queue(context, wire.begin(context, self._settings))
        self._queue(context, wire.say(context, text))

    def end(self, context: str) -> None:
        """Have the rest of a context said, and the context closed behind it."""
        if context in self.contexts:
            self.closing.add(context)
            self._queue(context, wire.flush(context))
            self._queue(context, wire.close(context))

    def stop(self, context: str) -> bool:
        """Have no more of a context made; False where only the connection's end can do that."""
        if context not in self.contexts:
            return True
        unsent = [message for owner, message in self._outbox if owner == context]
        self._outbox = deque(item for item in self._outbox if item[0] != context)
        if wire.begin(context, self._settings) in unsent:  # the vendor has never heard of it
            self.contexts.discard(context)
            return True
        if context in self.closing and wire.flush(context) not in unsent:
            return False
        self.closing.add(context)
        self._queue(context, wire.close(context))
        return len(self.contexts) < MAX_LINGERING_CONTEXTS

    def retire(self) -> None:
        """Close the connection."""
        self.scope.cancel(reason="another connection takes its place")

    async def write(self, socket: WebSocketClient) -> None:
        """Send what is queued, and say from time to time that somebody is there."""
        try:
            while True:
                while self._outbox:
                    await socket.send(self._outbox.popleft()[1])
                with trio.move_on_after(self._keep_alive) as idle:
                    await self._wake.wait()
                if idle.cancelled_caught and not self._outbox:
                    waiting = sorted(self.contexts - self.closing) or [""]
                    self._outbox.extend((context, wire.keep_alive(context)) for context in waiting)
        except ProviderError as error:
            if isinstance(error, ConnectionOver):  # the reader comes to the reason, if there is one
                await trio.sleep(CLOSE_TIMEOUT_S)
            self.failure = self.failure or _named(error)
            self.scope.cancel(reason="the connection is over")


class WebSocketSession(TextToSpeechSession):
    """The voice of one call.

    Args:
        url: of the WebSocket, with its query.
        headers: of its handshake.
        settings: what each context is told about the voice.
        keep_alive: seconds without anything to send after which the vendor is told that somebody is there.
        timeout: seconds for audio to come.
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
        self._line: _SocketConnection | None = None
        self._count = 0
        self._wanted = Pulse()
        self._tried = trio.Event()
        self._failure: ProviderError | None = None

    def __repr__(self) -> str:
        return f"<SocketSession of ElevenLabs, {self._line!r}>"

    async def ready(self) -> None:
        """Wait for the first connection.

        Raises:
            ProviderError: there is none.
        """
        await self._tried.wait()
        if self._failure is not None:
            raise self._failure

    def speak(self, sentences: AsyncIterable[str]) -> AbstractAsyncContextManager[AsyncIterator[SpeechChunk]]:
        """As :class:`~patter_trio.abc.TextToSpeechSession` has it."""
        return self._speak(sentences)

    # Replies ----------------------------------------------------------------------------------------------------------
    @asynccontextmanager
    async def _speak(self, sentences: AsyncIterable[str]) -> AsyncIterator[AsyncIterator[SpeechChunk]]:
        self._count += 1
        reply = _Reply(f"reply-{self._count}")
        try:
            async with run_beside(partial(self._feed, sentences, reply)):
                yield _Speech(reply, self._timeout)
        finally:
            self._leave(reply)
            if reply.characters:
                report_usage(Usage(stage="tts", characters=reply.characters))

    async def _feed(self, sentences: AsyncIterable[str], reply: _Reply) -> None:
        async for sentence in sentences:
            if text := " ".join(sentence.split()):
                self._say(reply, text)
        reply.ended = True
        if not reply.characters:
            reply.finish()
            return
        reply.wait_until(trio.current_time() + self._timeout)
        if self._line is not None:
            self._line.end(reply.context)

    def _say(self, reply: _Reply, text: str) -> None:
        reply.text.add(text)
        reply.characters += len(text)
        if not reply.heard:
            reply.sentences.append(text)
        if reply.deadline == math.inf:
            reply.wait_until(trio.current_time() + self._timeout)
        if reply.failure is not None:
            return
        self._replies[reply.context] = reply
        if self._line is not None:
            self._line.say(reply.context, text)
        self._wanted.fire()

    def _leave(self, reply: _Reply) -> None:
        """End a reply, said or not: nothing more is made of it."""
        reply.put.close()
        reply.taken.close()
        self._replies.pop(reply.context, None)
        line = self._line
        if line is not None and not line.stop(reply.context) and not self._replies:
            line.retire()

    # The connection ---------------------------------------------------------------------------------------------------
    async def work(self) -> None:
        """Hold a connection for as long as the call lasts; opened again when it ends."""
        while True:
            line = _SocketConnection(self._settings, self._keep_alive)
            try:
                async with open_websocket(self._url, headers=self._headers) as socket:
                    await self._hold(line, socket)
            except ProviderError as error:
                line.failure = line.failure or _named(error)
            if line.failure is not None and self._ended(line, line.failure):
                await self._wanted.wait()

    async def _hold(self, line: _SocketConnection, socket: WebSocketClient) -> None:
        self._begin(line)
        try:
            with line.scope:
                async with run_beside(partial(line.write, socket)):
                    try:
                        await self._read(line, socket)
                    except ProviderError as error:  # here, where it cannot meet the writer's
                        line.failure = line.failure or _named(error)
        finally:
            self._line = None

    def _begin(self, line: _SocketConnection) -> None:
        self._line = line
        self._tried.set()
        line.since = trio.current_time()
        for reply in self._replies.values():
            for text in reply.sentences:
                line.say(reply.context, text)
            if reply.ended:
                line.end(reply.context)

    def _ended(self, line: _SocketConnection, failure: ProviderError) -> bool:
        """Settle what becomes of the replies; say whether a new connection can wait until it is needed."""
        if not self._tried.is_set():
            self._failure = failure
            self._tried.set()
        for reply in tuple(self._replies.values()):
            if isinstance(failure, ConnectionOver) and not reply.heard and not reply.repeated:
                reply.repeated = True
            else:
                self._fail(reply, failure)
        if self._replies:
            return False
        _log.debug("ElevenLabs: the connection ended: %s", failure)
        return not (line.useful or trio.current_time() - line.since >= MIN_USEFUL_CONNECTION_S)

    def _fail(self, reply: _Reply, failure: ProviderError) -> None:
        self._replies.pop(reply.context, None)
        reply.finish(failure)

    async def _read(self, line: _SocketConnection, socket: WebSocketClient) -> None:
        while True:
            message = await socket.receive()
            try:
                events = wire.receive(message)
            except WireError as error:
                line.malformed += 1
                if line.malformed == 1:
                    _log.warning("ElevenLabs: ignoring a message that its protocol does not allow: %s", error)
                continue
            for event in events:
                await self._take(line, event)

    async def _take(self, line: _SocketConnection, event: wire.Event) -> None:
        reply = self._replies.get(event.context)
        match event:
            case wire.Audio():
                line.useful = True
                if reply is not None:
                    reply.heard = True
                    reply.sentences.clear()
                    try:
                        await hand_over(reply.put, event)
                    except (trio.BrokenResourceError, trio.ClosedResourceError):  # it was left meanwhile
                        return
            case wire.Finished():
                line.contexts.discard(event.context)
                line.closing.discard(event.context)
                if reply is not None:
                    del self._replies[event.context]
                    reply.finish()
            case wire.Failed(fault=wire.Fault.IDLE):
                _log.debug("ElevenLabs: %s", event.message)
            case wire.Failed():
                failure = _error_of(event.fault, event.message)
                if event.context:
                    line.contexts.discard(event.context)
                else:
                    line.failure = line.failure or failure
                for failed in [reply] if event.context else list(self._replies.values()):
                    if failed is not None:
                        self._fail(failed, failure)


class _Speech(AsyncIterator[SpeechChunk]):
    """The audio of one reply; a plain iterator, so that it can be left anywhere without clean-up."""

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
                rest = reply.text.rest()
                if not (rest and reply.heard):
                    raise StopAsyncIteration
                return SpeechChunk(b"", rest)
            reply.wait_until(trio.current_time() + self._timeout if reply.ended else math.inf)
            self._ready.extend(reply.text.chunks(made.audio, made.characters))
        return self._ready.popleft()

    async def _next(self) -> wire.Audio | None:
        """Return the next audio; None when none came in time, and none is missing.

        Raises:
            ProviderTimeout: none came in time.
            trio.EndOfChannel: there is no more.
        """
        reply = self._reply
        try:
            return reply.taken.receive_nowait()
        except trio.WouldBlock:
            pass
        with trio.CancelScope(deadline=reply.deadline) as reply.patience:
            return await reply.taken.receive()
        if reply.ended and reply.heard and reply.text.complete:
            return None
        raise ProviderTimeout(f"ElevenLabs made no audio within {self._timeout:g} s")


def _error_of(fault: wire.Fault, message: str) -> ProviderError:
    kinds = {wire.Fault.CREDENTIALS: AuthenticationError, wire.Fault.TOO_MUCH: RateLimitError}
    return kinds.get(fault, ProviderError)(f"ElevenLabs: {message}")


def _named(error: ProviderError) -> ProviderError:
    """Return a connection's end as what it was for, where the vendor's reason tells: a refused key, or too much."""
    if isinstance(error, ConnectionOver) and error.code == 1008:  # noqa: PLR2004 (policy violation, RFC 6455)
        fault = wire.fault_of(str(error))
        if fault in (wire.Fault.CREDENTIALS, wire.Fault.TOO_MUCH):
            named = _error_of(fault, str(error))
            named.__cause__ = error
            return named
    return error
