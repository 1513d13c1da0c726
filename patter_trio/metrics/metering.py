"""The observer that connects the meter to its call, and reports each measured turn (``on_metrics``).

Measuring must never harm a call. A bug in it is logged once, with its traceback; from then on nothing is measured, and
``on_call_end`` has None instead of incomplete metrics.
"""

import logging
from collections.abc import Callable

from patter_trio.agent.agent import Agent
from patter_trio.metrics.internal_events import AgentReady, CallEvent
from patter_trio.metrics.meter import Meter
from patter_trio.metrics.public_events import TurnMeasured
from patter_trio.metrics.results import CallMetrics, CostBreakdown, TurnMetrics

EmitMeasured = Callable[[TurnMeasured, float], None]
"""Reports a measured turn, at an instant on the call's clock."""

_log = logging.getLogger("patter_trio.telemetry")


def parts_of(agent: Agent, llm_provider: str, llm_model: str) -> AgentReady:
    """Return the providers and models of a call with that agent."""
    stt, tts, engine = agent.stt, agent.tts, agent.engine
    return AgentReady(
        stt_provider="" if stt is None else stt.provider,
        stt_model="" if stt is None else stt.model,
        tts_provider="" if tts is None else tts.provider,
        tts_model="" if tts is None else tts.model,
        llm_provider=llm_provider,
        llm_model=llm_model,
        provider_mode="pipeline" if engine is None else engine.provider,
        prompt_characters=len(agent.system_prompt),
    )


class Metering:
    """The observer that passes the events of a call to its meter.

    It comes after all other observers: they get the last event of a turn before the measured turn.
    """

    def __init__(self, call_id: str, meter: Meter, emit: EmitMeasured) -> None:
        self._call_id = call_id
        # None after a bug: an incomplete meter would report wrong figures, which is worse than none.
        self._meter: Meter | None = meter
        self._emitted = emit
        self._final: CallMetrics | None = None

    def __repr__(self) -> str:
        return f"<Metering of {self._call_id}, {self._meter or 'broken'}>"

    def wants(self, kind: type[CallEvent]) -> bool:
        """Return True if the meter uses events of this class; others need not be made for it."""
        return self._meter is not None and self._meter.wants(kind)

    def on_event(self, event: CallEvent, at: float) -> None:
        """Measure an event at its instant, in seconds on the call's clock, and report the turn that ends with it."""
        if self._meter is None:
            return
        try:
            self._emit(self._meter.on_event(event, at), at)
        except Exception as bug:  # noqa: BLE001 (measuring must never harm a call)
            # Every Exception, which CONTRIBUTING.md allows here: the meter has no outside,
            # so all of them are bugs of ours.
            self._give_up(bug)

    def so_far(self, at: float) -> CallMetrics | None:
        """Return the metrics up to that instant, or the final ones once the call is over; None after a bug."""
        # The final figures are kept, because the call's control may be asked for them long after its end.
        if self._meter is None or self._final is not None:
            return self._final
        try:
            return self._meter.call(at)
        except Exception as bug:  # noqa: BLE001 (same)
            self._give_up(bug)
            return None

    def cost(self, at: float) -> CostBreakdown | None:
        """Return the cost up to that instant; None after a bug. The statistics of :meth:`so_far` take far longer."""
        if self._meter is None or self._final is not None:
            return None if self._final is None else self._final.cost
        try:
            return self._meter.cost(at)
        except Exception as bug:  # noqa: BLE001 (same)
            self._give_up(bug)
            return None

    def close(self, at: float) -> CallMetrics | None:
        """Report the turn that is still open, and return the final metrics."""
        if self._meter is not None:
            try:
                # Before so_far(), so that the last turn is in the totals.
                self._emit(self._meter.finish(at), at)
            except Exception as bug:  # noqa: BLE001 (same)
                self._give_up(bug)
        self._final = self.so_far(at)
        return self._final

    def _emit(self, turn: TurnMetrics | None, at: float) -> None:
        if turn is not None and self._meter is not None:
            self._emitted(TurnMeasured(turn, self._meter.cost(at)), at)

    def _give_up(self, bug: Exception) -> None:
        # First, because logging may run handlers of the application.
        self._meter = None
        _log.error("call %s: measuring stopped because of a bug: %s", self._call_id, bug, exc_info=bug)
