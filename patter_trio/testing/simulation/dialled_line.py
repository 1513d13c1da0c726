"""One call that the program under test has placed into a simulated network, from the dial to its end."""

import math
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, Final, Literal

import numpy as np
import trio

from patter_trio.abc import DialRequest
from patter_trio.audio.formats import RATE_HZ
from patter_trio.audio.g711 import Samples
from patter_trio.errors import CallEnded
from patter_trio.testing.carriers.dialled import DialledCall, Unreached
from patter_trio.testing.carriers.line import SimulatedCarrier
from patter_trio.testing.carriers.protocol import CallRefused, Webhook, WebhookAnswer
from patter_trio.testing.flat_nursery import open_flat_nursery
from patter_trio.testing.simulation.caller import SimulatedCaller
from patter_trio.testing.simulation.destinations import NOBODY, Destination, Person, Unanswered, Voicemail
from patter_trio.testing.simulation.record import EventLog

# Judged: long enough for a test to see that a call is queued before it rings.
SETUP_S: Final = 1.0
"""Seconds until a dialled phone rings."""
# Twilio takes speech longer than this for a machine's: MachineDetectionSpeechThreshold.
DETECTION_S: Final = 2.4
"""Seconds after the answer until the carrier has its finding."""
# Both within what our own detection takes for a beep (conversation/answering.py).
BEEP_S: Final = 0.5
"""Seconds that the beep behind the greeting of an answering machine lasts."""
BEEP_HZ: Final = 1000.0
# The amplitude of its samples, of 32767: 15 dB below full scale, far above the noise of a line.
_BEEP_LEVEL: Final = 6000.0
_STATUS: Final = {
    "busy": "busy",
    "no_answer": "no-answer",
    "failed": "failed",
    "rejected": "rejected",
    "cancelled": "canceled",
}


class DialledLine:
    """One call that the program under test has placed, as the network sees it.

    Args:
        request: what the program asked for.
        protocol: the carrier's side of the call.
        destination: what answers.
        carrier: opens the simulated carrier of the call when somebody answers.
        caller: makes the person on the line.
        report: sends webhooks to the program.
    """

    def __init__(
        self,
        request: DialRequest,
        protocol: DialledCall,
        destination: Destination,
        *,
        carrier: SimulatedCarrier,
        caller: Callable[["DialledLine"], SimulatedCaller],
        report: Callable[[Sequence[Webhook]], Awaitable[None]],
    ) -> None:
        self.request = request
        """What the program asked the carrier for: ``to``, ``from_number``, ``ring_timeout``, ``machine_detection``
        ..."""
        self.call_id: str = protocol.call_id
        """The carrier's id of the call."""
        self.destination = destination
        """What answers."""
        self.status: str = "queued"
        """The state of the call, in Twilio's words: queued, ringing, in-progress, completed, canceled ..."""
        self.caller: SimulatedCaller | None = None
        """The person on the line, or the machine; None before the answer."""
        self.over: trio.Event = trio.Event()
        """Set when the call is over."""
        self.protocol = protocol
        self.carrier = carrier
        self.public_url: str = carrier.public_url
        """The address of the program's server."""
        self._new_caller = caller
        self._report = report
        self.rings: trio.CancelScope = trio.CancelScope()
        """The time until the answer; cancelled when the program hangs up before it."""
        self.acts: trio.CancelScope = trio.CancelScope()
        """The person's script; cancelled at the end of the network."""
        self.log: EventLog = EventLog(self._now, lambda: None)
        self.ends: int = 0
        """Number of the reports of the call's end to the program."""

    def __repr__(self) -> str:
        return f"<DialledLine {self.call_id} to {self.request.to}, {self.status}>"

    def tap(self, at: float, name: str, payload: dict[str, Any]) -> None:
        """Record an event of the call, as the program's callbacks get it."""
        self.log.tap(at, name, payload)
        self.ends += name == "call_end"

    def end(self) -> None:
        """End the call: a phone that rings stops, and a person hangs up."""
        self.rings.cancel(reason="the network is closed")
        self.acts.cancel(reason="the network is closed")
        if self.caller is not None:
            self.carrier.hang_up()

    def _now(self) -> float:
        now = math.nan if self.caller is None else self.carrier.now
        return 0.0 if math.isnan(now) else now

    # The line, as the carrier's protocol uses it ----------------------------------------------------------------------
    async def post(self, webhook: Webhook) -> WebhookAnswer:
        """Send a webhook, and return the answer."""
        return await self.carrier.post(webhook)

    async def transfer(self, to: str) -> None:
        """Transfer the call.

        Raises:
            CallEnded: nobody has answered, or the call is over.
        """
        if self.caller is None:
            raise CallEnded(f"call {self.call_id} is not in progress")
        await self.carrier.transfer(to)

    def sound(self, digits: str) -> None:
        """Let the other side hear DTMF digits."""
        self.carrier.sound(digits)

    def agent_hangs_up(self) -> None:
        """End the call in any state, as the program requested.

        Raises:
            CallEnded: it is over.
        """
        if self.over.is_set():
            raise CallEnded(f"call {self.call_id} is over: {self.status}")
        self.rings.cancel(reason="the program hung up")
        if self.caller is not None:
            self.carrier.agent_hangs_up()

    # The life of the call ---------------------------------------------------------------------------------------------
    async def run(self) -> None:
        """Let the phone ring, be answered or not, and the person talk, to the end of the call."""
        try:
            with self.rings:
                await self._ring()
            # Caught, and not only called: a hang-up behind the last ring meets a phone that is being answered.
            if self.rings.cancelled_caught:
                await self._unanswered("cancelled")
            elif isinstance(self.destination, Person | Voicemail):
                await self._answer(self.destination)
        finally:
            self.over.set()

    async def _ring(self) -> None:
        """Let the phone ring until it is answered; report the end of a call that is not."""
        destination, timeout = self.destination, self.request.ring_timeout
        await self._report(self.protocol.dialled_reports())
        await trio.sleep(SETUP_S)
        if isinstance(destination, Unanswered) and destination is not NOBODY:
            await self._unanswered(destination.value)
            return
        self.status = "ringing"
        await self._report(self.protocol.ringing_reports())
        after = destination.after if isinstance(destination, Person | Voicemail) else math.inf
        await trio.sleep(min(after, timeout))
        # Not at the same instant: an answer at the last moment is an answer.
        if after > timeout:
            self.destination = NOBODY
            await self._unanswered(NOBODY.value)

    async def _unanswered(self, why: Unreached) -> None:
        # Before the report: a test that waits for the program's callback finds the new status.
        self.status = _STATUS[why]
        await self._report(self.protocol.unanswered_reports(why))

    async def _answer(self, destination: Person | Voicemail) -> None:
        self.status = "in-progress"
        async with open_flat_nursery() as nursery:
            try:
                await nursery.start(self.carrier.run)
            except CallRefused:
                # The program has hung up while the phone was being answered.
                await self._report(self.protocol.ended_reports("agent_hung_up"))
                self.status = "completed"
                return
            self.caller = self._new_caller(self)
            nursery.start_soon(self._note_end)
            with self.acts:
                if isinstance(destination, Voicemail):
                    await self._record(self.caller, destination, nursery)
                else:
                    # Beside the script: the carrier listens while the person speaks.
                    nursery.start_soon(self._find_later, DETECTION_S, "human")
                    await destination.script(self.caller)
            self.carrier.hang_up()
            await self.carrier.over.wait()
            # Only when the stream has ended in order: one that is cancelled looks like one that was lost.
            nursery.cancel_scope.cancel(reason="the call is over")
        self.status = "completed"

    async def _note_end(self) -> None:
        """Note the end of the call when it comes: the person's script may go on long after the program has hung up."""
        await self.carrier.over.wait()
        self.status = "completed"
        self.over.set()

    async def _record(self, caller: SimulatedCaller, machine: Voicemail, nursery: trio.Nursery) -> None:
        """Play the greeting and the beep, and record; report what the carrier finds out meanwhile."""
        # A greeting that is shorter is judged at its end.
        nursery.start_soon(self._find_later, min(DETECTION_S, machine.seconds), "machine")
        await caller.speaks(machine.greeting, machine.seconds)
        await caller.plays(_beep(), name="beep")
        await self._find("machine", greeting_ended=True)
        # The machine hangs up on a program that does not.
        with trio.move_on_after(machine.records):
            await self.carrier.over.wait()

    async def _find_later(self, seconds: float, answered_by: Literal["human", "machine"]) -> None:
        await trio.sleep(seconds)
        await self._find(answered_by)

    async def _find(self, answered_by: Literal["human", "machine"], *, greeting_ended: bool = False) -> None:
        """Report who has answered, if the program asked for it and the call still lives."""
        if self.carrier.ended is None:
            await self._report(self.protocol.found_reports(answered_by, greeting_ended=greeting_ended))


def _beep() -> Samples:
    at = np.arange(round(BEEP_S * RATE_HZ)) / RATE_HZ
    return (_BEEP_LEVEL * np.sin(2 * np.pi * BEEP_HZ * at)).astype(np.int16)
