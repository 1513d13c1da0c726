"""The seven speech edges for adapters, which fire an edge that the pipeline cannot know.

A :class:`SpeechEvents` works by itself: it keeps the states and the turn, and calls its callbacks. The one of a phone
is ``phone.speech_events``: an edge that is fired on it in a task of a call is reported in that call, in order, to the
phone's callbacks, and the pipeline does not report it a second time.
"""

import logging
import time
from collections.abc import Callable
from typing import Any, Final, Protocol, get_args

import trio

from patter_trio.conversation.actions import EouTrigger
from patter_trio.errors import ConfigurationError
from patter_trio.events.callback_registry import CallbackRegistry, SpeechCallbacks
from patter_trio.events.callbacks import span_event
from patter_trio.events.edges import EdgeRules, complete_edge
from patter_trio.events.payloads import ConversationStateSnapshot, seen_state
from patter_trio.events.rendering import given_fields
from patter_trio.metrics.public_events import (
    AgentSpeechEnded,
    AgentSpeechStarted,
    AudioOut,
    LlmToken,
    SpeechEdge,
    UserSpeechEnded,
    UserSpeechEos,
    UserSpeechStarted,
)
from patter_trio.user_code import invoke
from patter_trio.user_code.context import NO_CALL, current_call

# Read from the type, so that the list in a warning cannot be out of date.
TRIGGERS: Final[tuple[str, ...]] = get_args(EouTrigger)
"""The known causes of the end of an utterance."""

_log = logging.getLogger("patter_trio.events")


class FiringCall(Protocol):
    """A live call in which speech edges can be fired."""

    @property
    def conversation_state(self) -> ConversationStateSnapshot:
        """The public states at this moment."""

    @property
    def turn_idx(self) -> int:
        """The number of the caller's utterances that are over."""

    def emit_edge(self, edge: SpeechEdge) -> None:
        """Report a speech edge in its place among the call's events."""


class SpeechEvents(SpeechCallbacks):
    """A source of the seven speech edges that keeps the states and the turn by their rules.

    Each ``fire_*`` moves the states, calls the callback of that edge, if it is set, and returns when the callback has
    returned. Exceptions of a callback are logged. ``fire_llm_first_token`` and ``fire_audio_out`` do so once in a turn;
    ``fire_user_speech_eos`` begins the next turn. Arguments that are left out are absent from the payload, except for
    ``timestamp_ms`` (Unix time in milliseconds), which is now, and ``call_id``, which is that of the task's call, if
    any.
    """

    # With the base's, an unknown name is an error: a callback that is misspelt would never be called.
    __slots__ = ("_call_began_ms", "_epoch", "_rules")

    def __init__(self) -> None:
        super().__init__(CallbackRegistry())
        self._rules = EdgeRules()
        # None until the first edge: this object is made with the phone, outside of any trio run.
        self._epoch: float | None = None
        self._call_began_ms: int | None = None

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self._rules!r}>"

    @property
    def conversation_state(self) -> ConversationStateSnapshot:
        """``{"user": ..., "agent": ...}`` at this moment."""
        return ConversationStateSnapshot(user=self._rules.user, agent=self._rules.agent)

    @property
    def turn_idx(self) -> int:
        """The number of utterances that are over."""
        return self._rules.turn_idx

    def mark_call_started(self, ts_ms: int | None = None) -> None:
        """Set the agent idle, because the call is accepted; ``audio_offset_ms`` counts from ``ts_ms`` (Unix time)."""
        self._call_began_ms = self._now_ms() if ts_ms is None else ts_ms
        self._rules.set_states("listening", "idle")

    async def fire_user_speech_started(
        self,
        *,
        vad_confidence: float | None = None,
        audio_offset_ms: int | None = None,
        timestamp_ms: int | None = None,
        call_id: str | None = None,
    ) -> None:
        """Fire ``user_speech_started``: the caller's voice began."""
        edge = UserSpeechStarted(
            timestamp_ms=timestamp_ms, audio_offset_ms=audio_offset_ms, vad_confidence=vad_confidence
        )
        await self._fire(edge, call_id)

    async def fire_user_speech_ended(
        self,
        *,
        speech_duration_ms: int,
        vad_confidence: float | None = None,
        audio_offset_ms: int | None = None,
        timestamp_ms: int | None = None,
        call_id: str | None = None,
    ) -> None:
        """Fire ``user_speech_ended``: the caller's voice ended after ``speech_duration_ms``; the caller may go on."""
        edge = UserSpeechEnded(
            timestamp_ms=timestamp_ms,
            speech_duration_ms=speech_duration_ms,
            audio_offset_ms=audio_offset_ms,
            vad_confidence=vad_confidence,
        )
        await self._fire(edge, call_id)

    async def fire_user_speech_eos(
        self,
        *,
        trigger: EouTrigger | str,
        trailing_silence_ms: int | None = None,
        transcript_so_far: str | None = None,
        timestamp_ms: int | None = None,
        call_id: str | None = None,
    ) -> None:
        """Fire ``user_speech_eos``: the caller has finished, and a new turn begins.

        An unknown trigger is fired, too, with a warning.
        """
        # A warning only: an adapter may know causes that this package does not.
        if trigger not in TRIGGERS:
            _log.warning("%s: unknown trigger %r; known are %s", span_event(UserSpeechEos.name), trigger, TRIGGERS)
        edge = UserSpeechEos(
            timestamp_ms=timestamp_ms,
            trigger=trigger,
            trailing_silence_ms=trailing_silence_ms,
            transcript_so_far=transcript_so_far,
        )
        await self._fire(edge, call_id)

    async def fire_agent_speech_started(
        self,
        *,
        tts_provider: str | None = None,
        engine: str | None = None,
        timestamp_ms: int | None = None,
        call_id: str | None = None,
    ) -> None:
        """Fire ``agent_speech_started``: the first audio of the reply is on the wire."""
        edge = AgentSpeechStarted(timestamp_ms=timestamp_ms, tts_provider=tts_provider, engine=engine)
        await self._fire(edge, call_id)

    async def fire_agent_speech_ended(
        self,
        *,
        speech_duration_ms: int,
        interrupted: bool = False,
        timestamp_ms: int | None = None,
        call_id: str | None = None,
    ) -> None:
        """Fire ``agent_speech_ended``: the caller hears no more of the reply.

        ``speech_duration_ms`` of it was played.
        """
        edge = AgentSpeechEnded(
            timestamp_ms=timestamp_ms, speech_duration_ms=speech_duration_ms, interrupted=interrupted
        )
        await self._fire(edge, call_id)

    async def fire_llm_first_token(
        self, *, llm_provider: str, model: str, timestamp_ms: int | None = None, call_id: str | None = None
    ) -> None:
        """Fire ``llm_token``, once in a turn: the LLM has begun to answer."""
        await self._fire(LlmToken(timestamp_ms=timestamp_ms, llm_provider=llm_provider, model=model), call_id)

    async def fire_audio_out(
        self, *, tts_provider: str, timestamp_ms: int | None = None, call_id: str | None = None
    ) -> None:
        """Fire ``audio_out``, once in a turn: the first audio of the reply was synthesised."""
        await self._fire(AudioOut(timestamp_ms=timestamp_ms, tts_provider=tts_provider), call_id)

    async def _fire(self, edge: SpeechEdge, call_id: str | None) -> None:
        # First, because it refuses a task outside of trio before anything has changed.
        now = self._now_ms() if edge.timestamp_ms is None else edge.timestamp_ms
        # Counted before the states move: a repeated first edge must not move them, either.
        if not self._rules.count(edge.name):
            return
        self._rules.move(edge.name)
        # None without mark_call_started(): a number that counts from nothing would be worse than a missing key.
        offset = None if self._call_began_ms is None else now - self._call_began_ms
        call = call_id or current_call.get()
        payload: dict[str, Any] = {} if call == NO_CALL else {"call_id": call}
        payload |= given_fields(complete_edge(edge, now, self._rules.turn_idx, offset))
        callback = self._callbacks.find(f"on_{edge.name}")
        if callback is None:
            return
        try:
            await invoke.call(callback, payload)
        except invoke.ApplicationError as error:
            # Adapters fire from inside a pipeline: a callback that raises must not take the adapter's task with it.
            _log.warning("call %s: %s: %s", call, span_event(edge.name), error, exc_info=error.__cause__)

    def _now_ms(self) -> int:
        """Return the Unix time in milliseconds; intervals are those of trio's clock.

        Raises:
            ConfigurationError: the caller does not run in trio.
        """
        # Asked first, because trio.current_time() outside of a run raises an error that names neither cause nor remedy.
        if not trio.lowlevel.in_trio_run():
            raise ConfigurationError("patter_trio runs on trio, not asyncio: fire speech events within trio.run(...)")
        # The wall clock is read once: later, a step of it must not change the order of timestamps.
        if self._epoch is None:
            self._epoch = time.time() - trio.current_time()
        return round((self._epoch + trio.current_time()) * 1000)


class PhoneSpeechEvents(SpeechEvents):
    """The speech events of a phone. They share the phone's callbacks.

    An edge fired in a task of a live call, or for a live call by ``call_id=``, is reported in that call: in order with
    the pipeline's edges, and by the task that calls the call's callbacks, so that ``fire_*`` does not wait for them.
    Outside of any call, this is a :class:`SpeechEvents` like any other.

    Args:
        callbacks: the callbacks of the phone.
        find_call: returns the live call with an id, or None.
    """

    __slots__ = ("_find_call",)

    def __init__(self, callbacks: CallbackRegistry, find_call: Callable[[str], FiringCall | None]) -> None:
        super().__init__()
        self._callbacks = callbacks
        self._find_call = find_call

    @property
    def conversation_state(self) -> ConversationStateSnapshot:
        """The states of the task's call, or in a callback the states at its event.

        Outside of any call, those kept here.
        """
        # Within a callback, the state that belongs to its event: callbacks run later than the call, which has moved on.
        call, seen = self._find_call(current_call.get()), seen_state.get()
        if seen is not None:
            return ConversationStateSnapshot(user=seen["user"], agent=seen["agent"])
        return super().conversation_state if call is None else call.conversation_state

    @property
    def turn_idx(self) -> int:
        """The number of utterances that are over in the task's call; outside of any call, the number kept here."""
        call = self._find_call(current_call.get())
        return super().turn_idx if call is None else call.turn_idx

    async def _fire(self, edge: SpeechEdge, call_id: str | None) -> None:
        # The argument first: an adapter that serves several calls from one task has to name the call.
        known = call_id or current_call.get()
        if known == NO_CALL:
            await super()._fire(edge, call_id)
            return
        call = self._find_call(known)
        if call is not None:
            call.emit_edge(edge)
        elif call_id is not None:
            # Not logged for a task of a call that has just ended: its adapter may well fire once more.
            _log.warning("call %s: %s was fired, but the call is not live", call_id, span_event(edge.name))
        await trio.lowlevel.checkpoint()  # as async functions do, although the edge is only queued
