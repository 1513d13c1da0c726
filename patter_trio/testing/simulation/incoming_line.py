"""One call that comes in to the program under test from a simulated network."""

import math
from typing import Any

import trio

from patter_trio.testing.carriers.line import SimulatedCarrier
from patter_trio.testing.simulation.caller import SimulatedCaller
from patter_trio.testing.simulation.record import EventLog


class IncomingLine:
    """One call of somebody who calls the program under test.

    Args:
        number: the number of the phone that calls.
        carrier: the simulated carrier of the call.
    """

    def __init__(self, number: str, carrier: SimulatedCarrier) -> None:
        self.number = number
        self.carrier = carrier
        self.call_id: str = carrier.call_id
        """The carrier's id of the call."""
        self.caller: SimulatedCaller | None = None
        """The person who calls; None before the call is connected."""
        self.log: EventLog = EventLog(self._now, lambda: None)
        self.ends: int = 0
        """Number of the reports of the call's end to the program."""

    def __repr__(self) -> str:
        return f"<IncomingLine {self.call_id} from {self.number}>"

    def tap(self, at: float, name: str, payload: dict[str, Any]) -> None:
        """Record an event of the call, as the program's callbacks get it."""
        self.log.tap(at, name, payload)
        self.ends += name == "call_end"

    async def run(self, caller: SimulatedCaller, *, task_status: trio.TaskStatus[None]) -> None:
        """Carry the call to its end; report started when it is connected."""
        self.caller = caller
        await self.carrier.run(task_status=task_status)

    def _now(self) -> float:
        now = self.carrier.now
        return 0.0 if math.isnan(now) else now
