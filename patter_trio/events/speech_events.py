"""The seven speech edges for adapters: whoever knows of one that the pipeline cannot know fires it here.

A :class:`SpeechEvents` of one's own is a small machine that needs nothing else: it keeps the states and the turn, and
calls its callbacks back. ``phone.speech_events`` is the one of a phone: what is fired on it in a task of a call is told
in that call, in its order and to the phone's callbacks, and the pipeline does not tell it a second time.
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

TRIGGERS: Final[tuple[str, ...]] = get_args(EouTrigger)
"""What may end an utterance."""

_log = logging.getLogger("patter_trio.events")


class FiringCall(Protocol):
    """A live call in which speech edges can be fired."""

    @property
    def conversation_state(self) -> ConversationStateSnapshot:
        """The public states at this moment."""

    @property
    def turn_idx(self) -> int:
        """How many utterances of the caller were over so far."""

    def emit_edge(self, edge: SpeechEdge) -> None:
        """Tell a speech edge in its place among the call's events."""


class SpeechEvents(SpeechCallbacks):
    """Fires the seven speech edges, and keeps the states and the turn by their rules.

    Each ``fire_*`` moves the state, calls the callback of that edge, if there is one, and returns when it has returned.
    What a callback raises is logged and goes no further. ``fire_llm_first_token`` and ``fire_audio_out`` do so once in
    a turn; ``fire_user_speech_eos`` begins the next one. Arguments that are left out are absent from the payload;
    ``timestamp_ms`` (epoch milliseconds) is now unless given, ``call_id`` that of the call whose task it is, if any.
    """

    __slots__ = ("_call_began_ms", "_epoch", "_rules")

    def __init__(self) -> None:
        super().__init__(CallbackRegistry())
        self._rules = EdgeRules()
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
        """How many utterances were over so far."""
        return self._rules.turn_idx

    def mark_call_started(self, ts_ms: int | None = None) -> None:
        """The call is accepted: the agent is idle, and ``audio_offset_ms`` counts from here (epoch milliseconds)."""
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
        """The caller's voice began."""
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
        """The caller's voice ended, after so many milliseconds; the caller may go on."""
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
        """The caller has finished: a new turn. A trigger other than the three is fired all the same, with a warning."""
        if trigger not in TRIGGERS:
            _log.warning("%s: unknown trigger %r; there are %s", span_event(UserSpeechEos.name), trigger, TRIGGERS)
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
        """The first audio of the reply is on the wire."""
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
        """The caller hears nothing more of the reply, so many milliseconds of which were played."""
        edge = AgentSpeechEnded(
            timestamp_ms=timestamp_ms, speech_duration_ms=speech_duration_ms, interrupted=interrupted
        )
        await self._fire(edge, call_id)

    async def fire_llm_first_token(
        self, *, llm_provider: str, model: str, timestamp_ms: int | None = None, call_id: str | None = None
    ) -> None:
        """The model has begun to answer: ``on_llm_token``, once in a turn."""
        await self._fire(LlmToken(timestamp_ms=timestamp_ms, llm_provider=llm_provider, model=model), call_id)

    async def fire_audio_out(
        self, *, tts_provider: str, timestamp_ms: int | None = None, call_id: str | None = None
    ) -> None:
        """The first audio of the reply was synthesised: ``on_audio_out``, once in a turn."""
        await self._fire(AudioOut(timestamp_ms=timestamp_ms, tts_provider=tts_provider), call_id)

    async def _fire(self, edge: SpeechEdge, call_id: str | None) -> None:
        now = self._now_ms() if edge.timestamp_ms is None else edge.timestamp_ms
        if not self._rules.count(edge.name):
            return
        self._rules.move(edge.name)
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
            _log.warning("call %s: %s: %s", call, span_event(edge.name), error, exc_info=error.__cause__)

    def _now_ms(self) -> int:
        """Return the Unix time in milliseconds; intervals are those of trio's clock.

        Raises:
            ConfigurationError: there is no trio here.
        """
        if not trio.lowlevel.in_trio_run():
            raise ConfigurationError("patter_trio runs on trio, not asyncio: fire speech events within trio.run(...)")
        if self._epoch is None:
            self._epoch = time.time() - trio.current_time()
        return round((self._epoch + trio.current_time()) * 1000)


class PhoneSpeechEvents(SpeechEvents):
    """A phone's speech events. Its callbacks are the phone's own.

    What is fired in a task of a live call, or for one by ``call_id=``, is told in that call: in order with what the
    pipeline tells, and by the task that tells the call's callbacks, so that ``fire_*`` does not wait for them. Outside
    of any call it is a :class:`SpeechEvents` like any other.

    Args:
        callbacks: the phone's.
        find_call: returns the live call of an id.
    """

    __slots__ = ("_find_call",)

    def __init__(self, callbacks: CallbackRegistry, find_call: Callable[[str], FiringCall | None]) -> None:
        super().__init__()
        self._callbacks = callbacks
        self._find_call = find_call

    @property
    def conversation_state(self) -> ConversationStateSnapshot:
        """The state of the call whose task this is, in a callback as it was when its event fired; outside of any, here."""
        call, seen = self._find_call(current_call.get()), seen_state.get()
        if seen is not None:
            return ConversationStateSnapshot(user=seen["user"], agent=seen["agent"])
        return super().conversation_state if call is None else call.conversation_state

    @property
    def turn_idx(self) -> int:
        """How many utterances were over so far in the call whose task this is; outside of any, here."""
        call = self._find_call(current_call.get())
        return super().turn_idx if call is None else call.turn_idx

    async def _fire(self, edge: SpeechEdge, call_id: str | None) -> None:
        known = call_id or current_call.get()
        if known == NO_CALL:
            await super()._fire(edge, call_id)
            return
        call = self._find_call(known)
        if call is not None:
            call.emit_edge(edge)
        elif call_id is not None:
            _log.warning("call %s: %s was fired, but the call is not live", call_id, span_event(edge.name))
        await trio.lowlevel.checkpoint()
