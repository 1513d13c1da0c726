"""A call between its announcement and its first audio, while the application's ``on_call_start`` runs."""

import logging
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Final

import attrs
import trio

from patter_trio.agent.agent import Agent
from patter_trio.audio.media_clock import MediaClock
from patter_trio.call.announced import PendingControl
from patter_trio.errors import ConfigurationError
from patter_trio.events.call_events import CallEvents
from patter_trio.events.callback_registry import CallbackRegistry
from patter_trio.server.answerer import check_one_answers
from patter_trio.user_code import invoke
from patter_trio.user_code.signatures import name_of, takes_call_control

if TYPE_CHECKING:
    from patter_trio.tracing.call_trace import CallTrace

# Judged: an answer of a database or a CRM takes tenths of a second. The function runs from the webhook on, so the time
# that the carrier needs for its stream, a second or so, comes on top. The caller hears nothing before the end of it.
ON_CALL_START_TIMEOUT_S: Final = 2.0
"""Seconds after the start of the media stream within which ``on_call_start`` must return its overrides."""

_events = logging.getLogger("patter_trio.events")


@attrs.define
class StartingCall:
    """An announced call, and its ``on_call_start``, running or finished."""

    events: CallEvents
    scope: trio.CancelScope
    done: trio.Event
    media: MediaClock
    trace: "CallTrace | None"
    call: PendingControl
    overrides: Mapping[str, Any] | None = None

    async def ask(self, on_call_start: Any) -> None:
        """Call ``on_call_start``, and keep its overrides for :meth:`settled`."""
        info = self.call.info
        self.events.enter()
        if self.trace is not None:
            self.trace.attach()
        # A scope of its own: only this function is cancelled when the call ends, not the nursery that it runs in.
        with self.scope:
            try:
                more = (self.call.control,) if takes_call_control(on_call_start) else ()
                answer = await invoke.call(on_call_start, info.payload(), *more)
            # The application's failure costs the caller nothing: the call goes on with the agent as it is.
            except invoke.ApplicationError as error:
                _events.warning("call %s: call_start: %s", info.call_id, error, exc_info=error.__cause__)
            else:
                if answer is None:
                    pass
                elif isinstance(answer, Mapping):
                    # Copied now, because the application may reuse its dicts for the next call.
                    self.overrides = {
                        key: dict(value) if isinstance(value, Mapping) else value for key, value in answer.items()
                    }
                else:
                    _events.warning(
                        "call %s: %s must return a dict of overrides or None, got %s",
                        info.call_id,
                        name_of(on_call_start),
                        type(answer).__name__,
                    )
        # After the scope, so also if it was cancelled: the call waits for this event, not for a result.
        self.done.set()

    async def settled(self, served: Agent, callbacks: CallbackRegistry, *, may_change: bool = True) -> Agent:
        """Return the agent for this call: the served one, with the overrides of ``on_call_start`` if it may change."""
        if not may_change:
            return served
        call_id = self.call.info.call_id
        # From the start of the audio on; the function itself has run since the webhook.
        with trio.move_on_after(ON_CALL_START_TIMEOUT_S):
            await self.done.wait()
        if not self.done.is_set():
            _events.warning(
                "call %s: on_call_start did not return within %g s of the call's start; the call goes on without "
                "overrides",
                call_id,
                ON_CALL_START_TIMEOUT_S,
            )
            # The answer would come too late: the agent must not change in the middle of its first sentence. The
            # function itself runs on, because it may do more than return overrides.
            return served
        # Overrides that are not valid are complaints, not errors: the rest of them is still used.
        agent, complaints = served.overridden(self.overrides or {})
        try:
            # The callbacks were checked when the agent was served; inspecting them again would cost each call.
            check_one_answers(agent, callbacks.own)
        except ConfigurationError as error:
            complaints.append(str(error))
            # An override took away what answers; without this the caller would hear silence.
            agent = attrs.evolve(agent, llm=served.llm)
        for complaint in complaints:
            _events.warning("call %s: call_start: %s", call_id, complaint)
        return agent

    def give_up(self, reason: str, outcome: str) -> None:
        """Cancel ``on_call_start``; end the trace of a call whose end no event reports."""
        self.scope.cancel(reason=reason)
        if self.trace is not None:
            self.trace.close(trio.current_time(), outcome, reason)
