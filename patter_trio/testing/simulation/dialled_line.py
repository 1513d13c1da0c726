"""One call that the program under test has placed into a simulated network."""

import math

import trio

from patter_trio.abc import DialRequest
from patter_trio.testing.simulation.caller import SimulatedCaller
from patter_trio.testing.simulation.destinations import Destination
from patter_trio.testing.simulation.record import EventLog


class DialledLine:
    """One call that the program under test has placed, as the network sees it.

    Args:
        request: what the program asked for.
        call_id: the call's id.
        destination: what answers.
    """

    def __init__(self, request: DialRequest, call_id: str, destination: Destination) -> None:
        self.request = request
        self.call_id = call_id
        self.destination = destination
        self.status: str = "queued"
        """Twilio's word for the state of the call."""
        self.caller: SimulatedCaller | None = None
        """The person on the line; None before the answer."""
        self.over: trio.Event = trio.Event()
        self.rings: trio.CancelScope = trio.CancelScope()
        """The time until the answer; cancelled when the program hangs up before it."""
        self.acts: trio.CancelScope = trio.CancelScope()
        """The person's script; cancelled at the end of the network."""
        self.log: EventLog = EventLog(self._now, lambda: None)
        self.ends: int = 0
        """Number of the reports of the call's end to the program."""

    def __repr__(self) -> str:
        return f"<DialledLine {self.call_id} to {self.request.to}, {self.status}>"

    def end(self) -> None:
        """End the call: a phone that rings stops, and a person hangs up."""
        self.rings.cancel(reason="the network is closed")
        self.acts.cancel(reason="the network is closed")
        if self.caller is not None:
            self.caller.carrier.hang_up()

    def _now(self) -> float:
        now = math.nan if self.caller is None else self.caller.carrier.now
        return 0.0 if math.isnan(now) else now
