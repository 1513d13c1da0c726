"""One call's session with OpenAI's Realtime API: its connection, what is put into it in order, and what comes of it.

Everything that is to be sent goes into one queue, which a task empties; so nobody waits, and all stays in order. Without
turn detection of the vendor's only voices are sent, each with a little before it: silence would be heard, paid for, and
kept in mind. A connection that is lost is replaced; one that is about to be too old, too, once another is there and nothing
is under way. The conversation is told to the new one as text, and a voice that was being heard is sent again.
"""

import logging
import math
from collections import deque
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import Final

import attrs
import trio

from patter_trio.abc import (
    EngineEvent,
    EngineSession,
    EngineTurnOver,
    Message,
    VoiceEdge,
    usage_sink,
)
from patter_trio.audio.formats import RATE
from patter_trio.audio.g711 import silence
from patter_trio.engines.openai_realtime._connection import (
    ConnectionAttempt,
    ConnectionUse,
    Expired,
    RealtimeConnection,
)
from patter_trio.engines.openai_realtime._items import KnownItems, verbatim
from patter_trio.engines.openai_realtime._response import RealtimeResponse
from patter_trio.engines.openai_realtime._utterances import CommittedUtterances, last_of
from patter_trio.errors import AuthenticationError, ProviderError, ProviderTimeout
from patter_trio.net.pulse import Pulse
from patter_trio.net.tasks import ResultStream
from patter_trio.net.websocket_client import CONNECT_TIMEOUT_S, ConnectionOver, WebSocketClient
from patter_trio.wire import openai_realtime as wire

PREFIX_SAMPLES: Final = round(0.3 * RATE)
"""Samples before a voice that are heard with it: the vendor's own default."""
MAX_RECENT_SAMPLES: Final = RATE
"""Samples of the last audio that are kept: a voice is noticed a while after it began."""
CHUNK_SAMPLES: Final = round(0.06 * RATE)
"""Samples in a message."""
MIN_COMMIT_SAMPLES: Final = round(0.1 * RATE)
"""Samples without which the vendor takes no commit."""
MAX_REPEATED_SAMPLES: Final = 60 * RATE
"""Samples of a voice that are sent again to a new connection."""
MAX_OUTBOX_MESSAGES: Final = 2048
"""Messages that wait to be sent: two minutes of audio. With more than that the vendor has failed."""
REOPEN_TIMEOUT_S: Final = 3.0
"""Seconds within which a lost connection has to be replaced, in as many attempts as it takes."""
REOPEN_INTERVAL_S: Final = 0.5
"""Seconds from an attempt that failed to the next one."""
RENEW_RETRY_S: Final = 30.0
"""Seconds until it is tried again to renew a connection. The vendor's own end of it is usually several minutes away."""
MIN_TIME_BETWEEN_LOSSES_S: Final = 30.0
"""Seconds within which a second loss is a failure."""
CANCEL_TIMEOUT_S: Final = 1.0
"""Seconds that an answer which was cut may take to be over, before the next is asked for all the same."""
_MAX_WAITING_EVENTS: Final = 1024

_log = logging.getLogger("patter_trio.engines")


class RealtimeSession(EngineSession):
    """A session; ``work`` has to run beside its use.

    Args:
        url: of the WebSocket.
        headers: of its handshake.
        setup: what sets a connection up.
        conversation: returns what was said so far.
        detects_turns: whether the vendor looks for ends of turns, and so is sent silence, too.
        patience: seconds for the first piece of an answer, and for each next one.
        renew_after: seconds after which a connection is replaced in the next quiet moment.
        transcription: the model that writes down what the caller says, as its use is billed.
    """

    def __init__(
        self,
        url: str,
        headers: Mapping[str, str],
        setup: str,
        conversation: Callable[[], Sequence[Message]],
        *,
        detects_turns: bool,
        late_after: tuple[float, float],
        renew_after: float,
        transcription: str,
    ) -> None:
        self._opening = ConnectionAttempt(url, headers, setup)
        self._conversation = conversation
        self._detects_turns = detects_turns
        self._late_after = late_after
        self._renew_after = renew_after
        self._transcription = transcription
        self._outbox: deque[str] = deque()
        self._wake = Pulse()
        self._fed = 0
        self._recent = bytearray()
        """The last audio that is in no commit."""
        self._voice = bytearray()
        """What was sent since the last commit: of a voice, or the last of a silence; sent again to another connection."""
        self._unsent = bytearray()
        self._speaking = False
        self._onset = self._end = 0
        """Where, in samples, the last voice began, with a little before it, and where the last one that is over ended."""
        self._undecided = False
        """A voice was heard, and whether it was an utterance was not decided yet."""
        self._utterances = CommittedUtterances()
        self._committed = Pulse()
        self._responses = 0
        self._active: RealtimeResponse | None = None
        self._making: dict[str, RealtimeResponse] = {}
        """Answers that are not over: the active one, and those that were cut and take too long; they cost something, too."""
        self._last: RealtimeResponse | None = None
        self._idle = Pulse()
        self._stirred = Pulse()
        """Something is over, so that the session may be at rest."""
        self._tell, self._told = trio.open_memory_channel[EngineEvent](_MAX_WAITING_EVENTS)
        self._failure: ProviderError | None = None
        self._opened = trio.Event()
        self._used: ConnectionUse | None = None
        self._told_at = -math.inf
        """When anything came, last."""
        self._sink = usage_sink.get()
        self._known = KnownItems()
        """What this connection knows of the tools that were called."""
        self._kept: deque[Message] | None = None
        """What is to be remembered by the next connection, while there is none."""

    def __repr__(self) -> str:
        return f"<RealtimeSession {self._active!r}, {len(self._outbox)} messages waiting>"

    # The caller -------------------------------------------------------------------------------------------------------
    def send(self, audio: bytes) -> None:
        """Take the caller's next audio."""
        self._fed += len(audio)
        if self._undecided or self._detects_turns:
            self._unsent += audio
            if len(self._unsent) >= CHUNK_SAMPLES:
                self._append()
        if not self._detects_turns:
            self._recent += audio
            del self._recent[:-MAX_RECENT_SAMPLES]

    def voice(self, edge: VoiceEdge) -> None:
        """Let a voice be heard, with a little of what was before it."""
        self._speaking = edge.speaking
        self._stirred.fire()
        if edge.speaking:
            self._onset = max(edge.offset - PREFIX_SAMPLES, self._end)
            if not self._undecided:
                self._undecided = True
                if not self._detects_turns:
                    self._unsent += last_of(self._recent, self._fed - self._onset)
                self._append()
        else:
            self._end = edge.offset

    def _append(self) -> None:
        if self._unsent:
            self._put(wire.append(bytes(self._unsent)))
            self._voice += self._unsent
            del self._voice[: -MAX_REPEATED_SAMPLES if self._undecided else -MAX_RECENT_SAMPLES]
            self._unsent.clear()

    def commit(self) -> int:
        """The utterance is over."""
        if not self._detects_turns and len(self._voice) + len(self._unsent) < MIN_COMMIT_SAMPLES:
            self._unsent += silence(MIN_COMMIT_SAMPLES / RATE)
        self._append()
        number, by_us = self._utterances.commit(bytes(self._voice), trio.current_time(), by_vendor=self._detects_turns)
        self._committed.fire()
        if by_us:
            self._put(wire.commit(f"commit_{number}"))
        for words in self._utterances.late():
            self._bring(words)
        self._recent.clear()
        self._decide()
        return number

    def discard(self) -> None:
        """It was none; of a voice that has begun meanwhile nothing is lost."""
        for item in self._utterances.discard():
            self._put(wire.delete_item(item))
        begun = last_of(self._voice + self._unsent, self._fed - self._onset) if self._speaking else b""
        self._put(wire.clear())
        self._decide()
        self._unsent[:] = begun
        self._append()

    def _decide(self) -> None:
        self._voice.clear()
        self._undecided = self._speaking
        self._stirred.fire()

    def remember(self, message: Message) -> None:
        """Put a message into the conversation."""
        if self._kept is not None:
            self._kept.append(message)
            return
        for item in self._known.items(message):
            self._put(item)

    def events(self) -> AsyncIterator[EngineEvent]:
        """Iterate over words, and ends of turns."""
        return ResultStream(self._told, lambda: self._failure)

    # Answers ----------------------------------------------------------------------------------------------------------
    @asynccontextmanager
    async def respond(self, text: str = "", *, tools: bool = True) -> AsyncIterator[RealtimeResponse]:
        """Open an answer; the vendor makes one at a time, so that the last one has to be over."""
        with trio.move_on_after(CANCEL_TIMEOUT_S):
            while self._active is not None:
                await self._idle.wait()
        if self._failure is not None:
            raise self._failure
        self._responses += 1
        request, said = f"response_{self._responses}", verbatim(text) if text else ""
        create = wire.create_response(request, instructions=said, tools=tools and not text, context=not text)
        response = self._active = self._last = RealtimeResponse(request, create, self._put, self._late_after)
        self._making[request] = response
        self._put(create)
        asked = trio.current_time()
        try:
            yield response
        except ProviderTimeout as error:
            if self._used is not None and self._told_at < asked:  # not even that it was begun
                self._used.lose(error)
            raise
        finally:
            response.abandon()
            self._known.forget(response.unseen)

    def _over(self, response: RealtimeResponse) -> None:
        self._making.pop(response.request, None)
        if self._active is response:
            self._active = None
            self._idle.fire()
            self._stirred.fire()

    # What is sent, and what comes -------------------------------------------------------------------------------------
    def _put(self, message: str) -> None:
        if len(self._outbox) >= MAX_OUTBOX_MESSAGES:
            self._fail(ProviderError("OpenAI does not take what it is sent"))
            return
        self._outbox.append(message)
        self._wake.fire()

    def _bring(self, event: EngineEvent) -> None:
        self._stirred.fire()
        try:
            self._tell.send_nowait(event)
        except (trio.WouldBlock, trio.BrokenResourceError, trio.ClosedResourceError):
            _log.warning("what OpenAI tells of the caller is not taken")

    def _fail(self, error: ProviderError) -> None:
        """Nothing more is to be had."""
        if self._failure is None:
            self._failure = error
            self._outbox.clear()
            if self._active is not None:
                self._active.fail(error)
                self._over(self._active)
            self._tell.close()
            self._opened.set()
            self._wake.fire()

    async def ready(self) -> None:
        """Wait for the first connection.

        Raises:
            ProviderError: there is none.
        """
        await self._opened.wait()
        if self._failure is not None:
            raise self._failure

    async def work(self) -> None:
        """Hold connections, one after another, until cancelled or until the vendor has failed."""
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._give_words_up)
            try:
                await self._converse(nursery)
            except ProviderError as error:
                self._fail(error)
            nursery.cancel_scope.cancel(reason="the vendor has failed")

    async def _give_words_up(self) -> None:
        """Tell words as final that never become it."""
        while True:
            with trio.move_on_at(self._utterances.due):
                await self._committed.wait()
            for words in self._utterances.overdue(trio.current_time()):
                _log.info("OpenAI does not tell in time what the caller said")
                self._bring(words)

    async def _converse(self, nursery: trio.Nursery) -> None:
        replaced = -math.inf
        connection: RealtimeConnection = await nursery.start(self._opening.hold, CONNECT_TIMEOUT_S)
        self._opened.set()
        while True:
            use = await self._use(connection, nursery)
            connection.leave()
            if use.failure is not None:
                raise use.failure
            if use.lost is not None:
                if trio.current_time() - replaced < MIN_TIME_BETWEEN_LOSSES_S:
                    raise use.lost
                _log.warning("the connection to OpenAI was lost, and is replaced: %s", use.lost)
                replaced = trio.current_time()
                self._lose(use.lost)
            connection = use.spare if use.spare and use.spare.usable else await self._reopen(nursery)
            self._tell_so_far()

    async def _reopen(self, nursery: trio.Nursery) -> RealtimeConnection:
        """Replace a lost connection.

        Raises:
            ProviderError: it could not be replaced in time, or will not be.
        """
        deadline = trio.current_time() + REOPEN_TIMEOUT_S
        while True:
            try:
                opened: RealtimeConnection = await nursery.start(self._opening.hold, deadline - trio.current_time())
            except ProviderError as error:
                if isinstance(error, AuthenticationError) or trio.current_time() + REOPEN_INTERVAL_S >= deadline:
                    raise
                _log.info("the connection to OpenAI could not be replaced yet: %s", error)
                await trio.sleep(REOPEN_INTERVAL_S)
            else:
                return opened

    def _lose(self, lost: ProviderError) -> None:
        """What was under way goes on with the next connection, but for an answer of which something has come.

        What the caller said, and nobody knows the words of, is heard again; and answered, if it was not yet.
        """
        self._outbox.clear()
        self._kept = deque(maxlen=MAX_OUTBOX_MESSAGES)
        unknown, again = self._utterances.lost(trio.current_time())
        for words in unknown:
            self._bring(words)
        for number, audio in again:
            self._repeat(audio)
            self._put(wire.commit(f"commit_{number}"))
        self._repeat(bytes(self._voice))
        response, self._making = self._active, {}
        if response is None:
            return
        if response.again():
            self._making[response.request] = response
            self._put(response.create)
        else:
            response.fail(lost)
            self._over(response)

    def _repeat(self, audio: bytes) -> None:
        for start in range(0, len(audio), RATE):
            self._put(wire.append(audio[start : start + RATE]))

    async def _use(self, connection: RealtimeConnection, nursery: trio.Nursery) -> ConnectionUse:
        """Use a connection until its end; those that are to take its place are opened in ``nursery``."""
        use = self._used = ConnectionUse()
        with use.scope:
            async with trio.open_nursery() as tasks:
                tasks.start_soon(self._write, connection.socket, use)
                tasks.start_soon(self._read, connection.socket, use)
                tasks.start_soon(self._renew, connection, use, nursery)
        return use

    def _tell_so_far(self) -> None:
        """Tell a new connection the conversation, first of all, and what was to be remembered since the last one."""
        messages = list(self._conversation())
        if self._playing_until > trio.current_time() and self._last is not None:  # it is history when it was heard
            said: Message = {"role": "assistant", "content": self._last.text.strip()}
            if said not in messages[-2:]:
                messages.append(said)
        self._known = KnownItems()
        items = [item for message in messages for item in self._known.items(message)]
        told = {(message["role"], message.get("content")) for message in messages}
        kept, self._kept = self._kept or (), None
        for message in kept:
            if (message["role"], message.get("content")) not in told:
                items += self._known.items(message)
        self._outbox.extendleft(reversed(items))

    async def _write(self, socket: WebSocketClient, use: ConnectionUse) -> None:
        try:
            while True:
                while self._outbox:
                    await socket.send(self._outbox[0])  # it waits until it is sent: nothing else is at rest
                    if self._outbox:
                        self._outbox.popleft()
                self._stirred.fire()
                await self._wake.wait()
        except ProviderError as error:
            use.lose(error)

    async def _read(self, socket: WebSocketClient, use: ConnectionUse) -> None:
        try:
            while True:
                event = self._opening.understanding.of(await socket.receive())
                self._told_at = trio.current_time()
                if event is not None:
                    self._take(event)
        except (ConnectionOver, Expired) as over:
            use.lose(over)
        except ProviderError as failure:
            use.fail(failure)

    async def _renew(self, connection: RealtimeConnection, use: ConnectionUse, nursery: trio.Nursery) -> None:
        """Have a connection replaced that is old, when nothing is under way and another is there; it is good until then."""
        await trio.sleep_until(connection.since + self._renew_after)
        while True:
            await self._rest()
            if use.spare is not None and use.spare.usable:
                break
            try:
                use.keep(await nursery.start(self._opening.hold, CONNECT_TIMEOUT_S))
            except ProviderError as error:
                _log.warning("the connection to OpenAI could not be renewed, and is kept: %s", error)
                await trio.sleep(RENEW_RETRY_S)
        self._kept = deque(maxlen=MAX_OUTBOX_MESSAGES)
        use.scope.cancel(reason="the connection is renewed")

    async def _rest(self) -> None:
        """Wait until nothing is under way."""
        while True:
            busy = self._active or self._utterances.waits or self._known.waits or self._undecided or self._outbox
            deadline = math.inf if busy else self._playing_until
            if deadline <= trio.current_time():
                return
            with trio.move_on_at(deadline):
                await self._stirred.wait()

    @property
    def _playing_until(self) -> float:
        return -math.inf if self._last is None else self._last.playing_until

    def _take(self, event: wire.Event) -> None:
        match event:
            case wire.SpeechStopped():
                self._utterances.stopped(event.item_id)
            case wire.Committed():
                if self._utterances.committed(event.item_id):
                    self._bring(EngineTurnOver())
            case wire.InputTranscript():
                if event.usage is not None and self._sink is not None:
                    self._sink(attrs.evolve(event.usage, model=self._transcription))
                self._hear_words(event.item_id, event.text, final=event.final)
            case wire.TranscriptFailed():
                _log.info("OpenAI could not write down what the caller said: %s", event.refusal.code)
                self._hear_words(event.item_id, "", final=True)
            case wire.Refused():
                self._refused(event)
            case wire.ResponseStarted() | wire.ResponseEnded():
                self._of_response(event)
            case wire.AudioDelta() | wire.TextDelta() | wire.FunctionCall():
                for response in list(self._making.values()):
                    if event.response_id == response.response_id:
                        if isinstance(event, wire.FunctionCall) and not response.abandoned:
                            self._known.called(event.call_id)
                        response.take(event)
            case _:
                pass  # of no use here

    def _hear_words(self, item: str, text: str, *, final: bool) -> None:
        for words in self._utterances.heard(item, text, final=final):
            self._bring(words)

    def _of_response(self, event: wire.ResponseStarted | wire.ResponseEnded) -> None:
        response = self._making.get(event.request)
        if response is None:
            if isinstance(event, wire.ResponseStarted):  # one that is not wanted any more, or that nobody asked for
                self._put(wire.cancel(event.response_id))
            return
        response.take(event)
        if isinstance(event, wire.ResponseEnded):
            self._over(response)

    def _refused(self, refusal: wire.Refused) -> None:
        """Take an error: of an answer, of a commit, of the session, or of something that does not matter."""
        if response := self._making.get(refusal.event_id):
            response.fail(refusal.error())
            self._over(response)
        elif refusal.event_id.startswith("commit_"):
            for words in self._utterances.refused(int(refusal.event_id.removeprefix("commit_"))):
                self._bring(words)
        elif refusal.code == "session_expired":
            raise Expired(str(refusal.error()))
        elif refusal.fatal:
            raise refusal.error()
        else:
            _log.debug("OpenAI refuses: %s", refusal.code)
