"""One call's session with OpenAI's Realtime API: its connection, its queue of messages, and the events that come back.

All outgoing messages go into one queue, which a task empties; so no caller of the session waits, and the order is kept.
Without the vendor's turn detection only voices are sent, each with a little audio before it: the vendor would process
silence, charge for it, and keep it in the context. A connection that is lost or too old is replaced (``_renewal.py``).
The new connection gets the conversation as text, and the audio of an unfinished voice again.
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
    report_usage,
)
from patter_trio.audio.formats import RATE_HZ
from patter_trio.audio.g711 import silence
from patter_trio.engines.openai_realtime._connection import ConnectionAttempt, ConnectionUse, Expired
from patter_trio.engines.openai_realtime._items import KnownItems, verbatim
from patter_trio.engines.openai_realtime._renewal import ConnectionSequence
from patter_trio.engines.openai_realtime._response import RealtimeResponse
from patter_trio.engines.openai_realtime._utterances import CommittedUtterances, last_of
from patter_trio.errors import ProviderError, ProviderTimeout
from patter_trio.net.pulse import Pulse
from patter_trio.net.tasks import ResultStream
from patter_trio.net.websocket_client import ConnectionOver, WebSocketClient
from patter_trio.wire import openai_realtime as wire

PREFIX_SAMPLES: Final = round(0.3 * RATE_HZ)
"""Samples before a voice that are sent with it: the vendor's own default."""
# Judged: the VAD reports a voice some tenths of a second late, and the prefix comes on top.
MAX_RECENT_SAMPLES: Final = RATE_HZ
"""Samples of the last audio that are kept: a voice is noticed some time after it began."""
# Judged: 60 ms delay the end of an utterance less than the vendor's own work does, and need a third of the messages.
CHUNK_SAMPLES: Final = round(0.06 * RATE_HZ)
"""Samples in a message."""
MIN_COMMIT_SAMPLES: Final = round(0.1 * RATE_HZ)
"""Fewest samples of a commit that the vendor accepts."""
# Judged: the vendor's price for a minute of audio is small, and a longer monologue has lost its thread anyway.
MAX_REPEATED_SAMPLES: Final = 60 * RATE_HZ
"""Most samples of a voice that are sent again to a new connection."""
# When it is full, the session fails: dropped audio would be an utterance with a hole, and the caller has waited too
# long in any case.
MAX_OUTBOX_MESSAGES: Final = 2048
"""Most messages that wait to be sent: two minutes of audio. With more than that the vendor has failed."""
# Judged: usually it takes a round trip. The next answer is what the caller waits for.
CANCEL_TIMEOUT_S: Final = 1.0
"""Seconds that a cancelled answer may take to end before the next one is requested anyway."""
# Judged: a turn has about ten events. When it is full, the call has stopped reading: the newest are dropped, with a
# warning, because this runs in the task that reads the socket.
_MAX_WAITING_EVENTS: Final = 1024

_log = logging.getLogger("patter_trio.engines")


class RealtimeSession(EngineSession):
    """A session; ``work`` has to run beside its use.

    Args:
        url: of the WebSocket.
        headers: of its handshake.
        setup: the message that configures a connection.
        conversation: returns the messages so far.
        detects_turns: whether the vendor detects the ends of turns, and so has to get silence, too.
        late_after: seconds for the first piece of an answer, and for each next one.
        renew_after: seconds after which a connection is replaced in the next quiet moment.
        transcription: the transcription model, as its use is billed.
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
        attempt = ConnectionAttempt(url, headers, setup)
        self._reader = attempt.understanding
        self._connections = ConnectionSequence(attempt, self, renew_after)
        self._conversation = conversation
        self._detects_turns = detects_turns
        self._late_after = late_after
        self._transcription = transcription
        self._outbox: deque[str] = deque()
        self._wake = Pulse()
        self._fed = 0
        self._recent = bytearray()
        """The last audio that is not part of a commit."""
        self._voice = bytearray()
        """Audio sent since the last commit, of a voice or of the end of a silence; a new connection gets it again."""
        self._unsent = bytearray()
        self._speaking = False
        self._onset = self._end = 0
        """Offsets in samples: where the last voice began, with its prefix, and where the last finished one ended."""
        self._undecided = False
        """True from the start of a voice until the call commits or discards it."""
        self._utterances = CommittedUtterances()
        self._committed = Pulse()
        self._responses = 0
        self._active: RealtimeResponse | None = None
        self._making: dict[str, RealtimeResponse] = {}
        """Unfinished answers: the active one, and cancelled ones that end late, because they are billed, too."""
        self._last: RealtimeResponse | None = None
        self._idle = Pulse()
        self._stirred = Pulse()
        """Fired whenever something ends, so that the session may be idle."""
        self._event_sender, self._event_receiver = trio.open_memory_channel[EngineEvent](_MAX_WAITING_EVENTS)
        self._failure: ProviderError | None = None
        self._opened = trio.Event()
        self._received_at = -math.inf
        """Time of the last message received."""
        self._known = KnownItems()
        """The tool calls that this connection knows."""
        self._kept: deque[Message] | None = None
        """Messages for the next connection, until it is open."""

    def __repr__(self) -> str:
        return f"<RealtimeSession {self._active!r}, {len(self._outbox)} messages waiting>"

    # Calls of the session ---------------------------------------------------------------------------------------------
    def send(self, audio: bytes) -> None:
        """Send the caller's next audio, or keep it until a voice begins."""
        # Offsets count all audio of the call, sent or not: the VAD's edges use them.
        self._fed += len(audio)
        # An undecided utterance is sent to its end, the silence in it included: a pause within a sentence belongs to
        # it.
        if self._undecided or self._detects_turns:
            self._unsent += audio
            if len(self._unsent) >= CHUNK_SAMPLES:
                self._append()
        if not self._detects_turns:
            self._recent += audio
            del self._recent[:-MAX_RECENT_SAMPLES]

    def voice(self, edge: VoiceEdge) -> None:
        """Start or stop sending a voice, with a little of the audio before it."""
        self._speaking = edge.speaking
        self._stirred.fire()
        if edge.speaking:
            # Not before the end of the last voice: that audio has been sent, and would be heard twice.
            self._onset = max(edge.offset - PREFIX_SAMPLES, self._end)
            # A voice that goes on after a pause has been sent all along.
            if not self._undecided:
                self._undecided = True
                if not self._detects_turns:
                    self._unsent += last_of(self._recent, self._fed - self._onset)
                # At once, without waiting for a whole message: the beginning of a voice should not be late.
                self._append()
        else:
            self._end = edge.offset

    def _append(self) -> None:
        if self._unsent:
            self._put(wire.append(bytes(self._unsent)))
            self._voice += self._unsent
            # An utterance that has not begun keeps only what its voice might begin with.
            del self._voice[: -MAX_REPEATED_SAMPLES if self._undecided else -MAX_RECENT_SAMPLES]
            self._unsent.clear()

    def commit(self) -> int:
        """Close the utterance."""
        # The vendor refuses a shorter commit: pad it with silence.
        if not self._detects_turns and len(self._voice) + len(self._unsent) < MIN_COMMIT_SAMPLES:
            self._unsent += silence(MIN_COMMIT_SAMPLES / RATE_HZ)
        self._append()
        number, by_us = self._utterances.commit(bytes(self._voice), trio.current_time(), by_vendor=self._detects_turns)
        self._committed.fire()
        # Not if the vendor has committed this audio by itself: a second commit would be empty, and refused.
        if by_us:
            self._put(wire.commit(f"commit_{number}"))
        for words in self._utterances.late():
            self._bring(words)
        # What was before a commit is not a prefix of the next voice.
        self._recent.clear()
        self._decide()
        return number

    def discard(self) -> None:
        """Drop the utterance, but keep a voice that has begun meanwhile."""
        for item in self._utterances.discard():
            # Only with the vendor's detection: items that it committed by itself and that were not an utterance.
            self._put(wire.delete_item(item))
        # Computed before the buffer is cleared: the new voice's audio is part of it, and is sent again afterwards.
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
        """Add a message to the conversation."""
        # Between two connections: the next one gets it together with the conversation, in order.
        if self._kept is not None:
            self._kept.append(message)
            return
        for item in self._known.items(message):
            self._put(item)

    def events(self) -> AsyncIterator[EngineEvent]:
        """Iterate over words and ends of turns."""
        return ResultStream(self._event_receiver, lambda: self._failure)

    # Answers ----------------------------------------------------------------------------------------------------------
    @asynccontextmanager
    async def respond(self, text: str = "", *, tools: bool = True) -> AsyncIterator[RealtimeResponse]:
        """Open an answer. The vendor generates one at a time, so the previous one has to end first."""
        # Bounded: a cancellation that the vendor never confirms must not hold up the next answer.
        with trio.move_on_after(CANCEL_TIMEOUT_S):
            while self._active is not None:
                await self._idle.wait()
        if self._failure is not None:
            raise self._failure
        self._responses += 1
        # The number is ours and unique in the session, so a late event of an older answer cannot be mistaken for this
        # one.
        request, said = f"response_{self._responses}", verbatim(text) if text else ""
        # Without context and tools for a fixed text: the model could answer it instead of saying it.
        create = wire.create_response(request, instructions=said, tools=tools and not text, context=not text)
        response = self._active = self._last = RealtimeResponse(request, create, self._put, self._late_after)
        self._making[request] = response
        self._put(create)
        asked = trio.current_time()
        try:
            yield response
        except ProviderTimeout as error:
            # Silence since the request: the connection is dead and has to be replaced. An answer that only stopped
            # keeps it.
            if self._received_at < asked:  # not even its beginning was reported
                self._connections.give_up(error)
            raise
        finally:
            # Also after a cancellation, and without an await: a barge-in ends here, and nothing may hold it up.
            response.abandon()
            self._known.forget(response.unseen)

    def _over(self, response: RealtimeResponse) -> None:
        self._making.pop(response.request, None)
        if self._active is response:
            self._active = None
            self._idle.fire()
            self._stirred.fire()

    # Messages out, events in ------------------------------------------------------------------------------------------
    def _put(self, message: str) -> None:
        if len(self._outbox) >= MAX_OUTBOX_MESSAGES:
            self._fail(ProviderError(f"OpenAI did not read: {MAX_OUTBOX_MESSAGES} messages are waiting"))
            return
        self._outbox.append(message)
        self._wake.fire()

    def _bring(self, event: EngineEvent) -> None:
        self._stirred.fire()
        try:
            self._event_sender.send_nowait(event)
        # ``WouldBlock``: the call does not read. The others: the session is over.
        except (trio.WouldBlock, trio.BrokenResourceError, trio.ClosedResourceError):
            _log.warning("OpenAI: dropping an event about the caller: the call does not take events")

    def _fail(self, error: ProviderError) -> None:
        """End the session with an error."""
        # Only the first error: those after it are consequences.
        if self._failure is None:
            self._failure = error
            self._outbox.clear()
            if self._active is not None:
                self._active.fail(error)
                self._over(self._active)
            self._event_sender.close()
            # Tasks that wait for the opening learn of the failure.
            self._opened.set()
            self._wake.fire()

    async def ready(self) -> None:
        """Wait for the first connection.

        Raises:
            ProviderError: the connection could not be opened.
        """
        await self._opened.wait()
        if self._failure is not None:
            raise self._failure

    async def work(self) -> None:
        """Hold connections, one after another, until cancelled or until the vendor has failed."""
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._give_words_up)
            try:
                await self._connections.run(nursery, self._opened.set)
            except ProviderError as error:
                self._fail(error)
            # The task beside would wait for words for ever.
            nursery.cancel_scope.cancel(reason="the vendor has failed")

    async def _give_words_up(self) -> None:
        """Report overdue words as final."""
        while True:
            with trio.move_on_at(self._utterances.due):
                await self._committed.wait()
            for words in self._utterances.overdue(trio.current_time()):
                _log.info("OpenAI: no transcript came in time")
                self._bring(words)

    # Called by the connections ----------------------------------------------------------------------------------------
    async def write(self, socket: WebSocketClient, use: ConnectionUse) -> None:
        """Send the queued messages, until cancelled or until the connection is lost."""
        try:
            while True:
                while self._outbox:
                    message = self._outbox[0]  # queued until sent: the session is not idle before
                    # Before the send: the answer may come before this task runs again.
                    if wire.is_confirmed(message):
                        use.expect()
                    await socket.send(message)
                    # The session may have failed during the send, and cleared the queue.
                    if self._outbox:
                        self._outbox.popleft()
                self._stirred.fire()
                await self._wake.wait()
        # Lost, not failed: the reader may know better, and another connection is tried.
        except ProviderError as error:
            use.lose(error)

    async def read(self, socket: WebSocketClient, use: ConnectionUse) -> None:
        """Take the vendor's events, until cancelled or until the connection is lost."""
        try:
            while True:
                event = self._reader.of(await socket.receive())
                self._received_at = trio.current_time()
                use.received()
                if event is not None:
                    self._take(event)
        # ``ConnectionOver`` is a ProviderError, too: the order of these clauses matters.
        except (ConnectionOver, Expired) as over:
            use.lose(over)
        # A report of the vendor's own, such as a refused key: another connection would get the same.
        except ProviderError as failure:
            use.fail(failure)

    async def rest(self) -> None:
        """Wait until nothing is in progress."""
        while True:
            # Each of these would be lost or doubled by a change of connections.
            busy = self._active or self._utterances.waits or self._known.waits or self._undecided or self._outbox
            # While an answer plays nothing fires at its end, so its end is a deadline.
            deadline = math.inf if busy else self._playing_until
            if deadline <= trio.current_time():
                return
            with trio.move_on_at(deadline):
                await self._stirred.wait()

    def keep_messages(self) -> None:
        """Keep messages for the next connection, from now on."""
        self._kept = deque(maxlen=MAX_OUTBOX_MESSAGES)

    def lose(self, lost: ProviderError) -> None:
        """Prepare the queue for the next connection.

        Utterances without words are sent again. An answer is requested again if no part of it has come, or else fails.
        """
        self._outbox.clear()
        self.keep_messages()
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
        # The same audio and the same request: the caller only notices that the answer is a little late.
        if response.again():
            self._making[response.request] = response
            self._put(response.create)
        else:
            response.fail(lost)
            self._over(response)

    def _repeat(self, audio: bytes) -> None:
        # In pieces of a second: a message of a minute would hold up everything behind it.
        for start in range(0, len(audio), RATE_HZ):
            self._put(wire.append(audio[start : start + RATE_HZ]))

    def tell_so_far(self) -> None:
        """Queue the conversation, and messages since the last connection, ahead of everything else."""
        messages = list(self._conversation())
        # An answer enters the history only once it was heard.
        if self._playing_until > trio.current_time() and self._last is not None:
            said: Message = {"role": "assistant", "content": self._last.text.strip()}
            if said not in messages[-2:]:
                messages.append(said)
        self._known = KnownItems()
        items = [item for message in messages for item in self._known.items(message)]
        # A message may be in both: remembered by us, and in the history meanwhile.
        sent = {(message["role"], message.get("content")) for message in messages}
        kept, self._kept = self._kept or (), None
        for message in kept:
            if (message["role"], message.get("content")) not in sent:
                items += self._known.items(message)
        # ``extendleft`` reverses, so reversed twice: the conversation in order, in front of the audio.
        self._outbox.extendleft(reversed(items))

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
                if event.usage is not None:
                    report_usage(attrs.evolve(event.usage, model=self._transcription))
                # Not interim words: a connection that is lost before the final ones has not done its work.
                if event.final:
                    self._connections.worked()
                self._hear_words(event.item_id, event.text, final=event.final)
            case wire.TranscriptFailed():
                _log.info("OpenAI: the caller could not be transcribed: %s", event.refusal.code)
                self._hear_words(event.item_id, "", final=True)
            case wire.Refused():
                self._refused(event)
            case wire.ResponseStarted() | wire.ResponseEnded():
                self._of_response(event)
            case wire.AudioDelta() | wire.TextDelta() | wire.FunctionCall():
                # All of them, not only the active one: cancelled answers end late, and are billed.
                for response in list(self._making.values()):
                    if event.response_id == response.response_id:
                        # The vendor waits for an output of each call that it has made, until the call is deleted.
                        if isinstance(event, wire.FunctionCall) and not response.abandoned:
                            self._known.called(event.call_id)
                        response.take(event)
            case _:
                pass  # not used here

    def _hear_words(self, item: str, text: str, *, final: bool) -> None:
        for words in self._utterances.heard(item, text, final=final):
            self._bring(words)

    def _of_response(self, event: wire.ResponseStarted | wire.ResponseEnded) -> None:
        response = self._making.get(event.request)
        if response is None:
            if isinstance(event, wire.ResponseStarted):  # not wanted any more, or never requested
                self._put(wire.cancel(event.response_id))
            return
        response.take(event)
        if isinstance(event, wire.ResponseEnded):
            self._connections.worked()
            self._over(response)

    def _refused(self, refusal: wire.Refused) -> None:
        """Process an error: of an answer, of a commit, of the session, or a harmless one."""
        if response := self._making.get(refusal.event_id):
            response.fail(refusal.error())
            self._over(response)
        # The number in the id tells which commit: the vendor may refuse an older one.
        elif refusal.event_id.startswith("commit_"):
            for words in self._utterances.refused(int(refusal.event_id.removeprefix("commit_"))):
                self._bring(words)
        elif refusal.code == "session_expired":
            raise Expired(str(refusal.error()))
        elif refusal.fatal:
            raise refusal.error()
        else:
            # Most are harmless, such as a cancellation that came too late.
            _log.debug("OpenAI: a message was refused: %s", refusal.code)
