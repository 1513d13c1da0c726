"""A telephone network for tests: the phones that a program calls, in memory and in virtual time.

::

    async def test_reminder(phone_network):                    # fixture of the pytest plugin
        async def ann(line):                                   # how Ann answers; she hangs up when this returns
            await line.hears()
            await line.speaks("Tomorrow is fine.", seconds=2.0)
            await line.hears()

        async with phone_network(agent) as network:
            network.answers("+15550100003", ann)
            call = await network.phone.call("+15550100003")
            assert await call.ended() == "caller_hung_up"

The agent's server is real; a simulated Twilio stands between it and the phones. It rings, and reports what it does by
signed webhooks. Requests to its REST API are function calls here; their bytes are tested elsewhere.
"""

import math
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager, suppress
from typing import Any, Final
from urllib.parse import urlencode

import attrs
import trio
import trio.testing

from patter_trio.abc import CallInfo, Dialled, DialRequest
from patter_trio.agent.agent import Agent
from patter_trio.carriers.twilio import Twilio
from patter_trio.errors import CallEnded, ProviderError
from patter_trio.phone import Patter
from patter_trio.server.calls import CallServer, open_call_server
from patter_trio.server.connection import serve_connection
from patter_trio.server.options import Seams
from patter_trio.testing.carriers import twilio_messages as messages
from patter_trio.testing.carriers.protocol import CallRefused, Webhook
from patter_trio.testing.carriers.twilio import SimulatedTwilio
from patter_trio.testing.carriers.webhook_post import asked
from patter_trio.testing.flat_nursery import open_flat_nursery
from patter_trio.testing.simulation.caller import SimulatedCaller, is_resampled_for, real_listeners
from patter_trio.testing.simulation.destinations import (
    BUSY,
    FAILED,
    NOBODY,
    Destination,
    Person,
    Script,
    Unanswered,
    Voicemail,
)
from patter_trio.testing.simulation.dialled_line import DialledLine
from patter_trio.testing.simulation.foreign_work import foreign_work_awaited
from patter_trio.testing.simulation.invariants import CallRecord, violations
from patter_trio.testing.simulation.record import State
from patter_trio.testing.simulation.simulator import EPOCH_UNIX_S, PUBLIC_URL, CallInvariantError

SETUP_S: Final = 1.0
"""Seconds until a dialled phone rings."""
# Twilio takes speech longer than this for a machine's: MachineDetectionSpeechThreshold.
DETECTION_S: Final = 2.4
"""Seconds after the answer until the carrier has its finding."""
TONE_S: Final = 0.5
"""Seconds from the greeting of an answering machine to its recording."""
NUMBER: Final = "+15550100002"
"""The number of the phone under test, unless it has its own."""


@attrs.frozen(eq=False)
class _NetworkTwilio(Twilio):
    """Twilio, whose REST API is the network of a test."""

    network: "PhoneNetwork | None" = attrs.field(default=None, kw_only=True, repr=False)

    @property
    def _there(self) -> "PhoneNetwork":
        if self.network is None:
            raise ProviderError("the network is not open")
        return self.network

    async def dial(self, request: DialRequest) -> Dialled:
        """Place a call in the network."""
        return await self._there.dial(request)

    async def hang_up(self, call_id: str, request_id: str = "") -> None:
        """End a call of the network."""
        await self._there.hang_up(call_id, request_id)

    async def transfer(self, call: CallInfo, to: str) -> None:
        """Transfer a call of the network."""
        await self._there.transfer(call.call_id, to)


class PhoneNetwork:
    """The phones that the program under test can call, and its own server.

    Args:
        phone: the phone under test.
        agent: the agent that is served.
        seams: parts of the server that a test of this package replaces.
        callbacks: as for ``Patter.serve``.
        served: other options of ``Patter.serve``.
    """

    def __init__(
        self, phone: Patter, agent: Agent, seams: Seams, callbacks: Mapping[str, Any], served: Mapping[str, Any]
    ) -> None:
        self.phone = phone
        """The phone under test: ``await network.phone.call(...)``."""
        self.calls: list[DialledLine] = []
        """The calls that the program has placed, oldest first."""
        self.reports_lost: bool = False
        """True: from now on, no webhook about a call's status reaches the program."""
        self.dial_delay: float = 0.2
        """Seconds until the network answers the request that places a call."""
        self.answer_delay: float = 0.0
        """Seconds from placing a call until then; webhooks may come meanwhile."""
        self.ids_are_late: bool = False
        """True: a call's id comes only with the first report about it, as at Plivo."""
        self.hangs_up_at_end: bool = True
        """False: at the end of the block, phones go on ringing, and people stay on the line."""
        self.dial_error: Exception | None = None
        """The error of the next requests that place calls, instead of a call."""
        self.answer_is_lost: bool = False
        """True: requests that place calls do so, and raise ``dial_error`` all the same."""
        self._agent = agent
        self._seams = seams
        self._callbacks = callbacks
        self._served = served
        given = phone.carrier
        sid = given.account_sid if isinstance(given, Twilio) else "AC" + "5" * 32
        token = given.auth_token if isinstance(given, Twilio) else "simulated"
        self._carrier = _NetworkTwilio(sid, token, network=self)
        self._destinations: dict[str, Destination] = {}
        self._server: CallServer | None = None
        self._connections: trio.Nursery | None = None
        self._lines: trio.Nursery | None = None

    def __repr__(self) -> str:
        return f"<PhoneNetwork {len(self._destinations)} phones, {len(self.calls)} calls>"

    @property
    def unix_time(self) -> float:
        """The time that the program under test reads, in seconds; schedules follow it."""
        return EPOCH_UNIX_S + trio.current_time()

    def answers(self, number: str, destination: Destination | Script) -> None:
        """Set what happens when a number is called: a person's script, Person, Voicemail, BUSY, NOBODY or FAILED."""
        if isinstance(destination, Person | Voicemail | Unanswered):
            self._destinations[number] = destination
        else:
            self._destinations[number] = Person(destination)

    def line(self, call_id: str) -> DialledLine:
        """Return the call with an id.

        Raises:
            CallEnded: there is none, as Twilio says of calls that it does not know.
        """
        for line in self.calls:
            if line.call_id == call_id:
                return line
        raise CallEnded(f"20404: call {call_id} does not exist")

    # Requests of the program ------------------------------------------------------------------------------------------
    async def dial(self, request: DialRequest) -> Dialled:
        """Place a call, as Twilio's REST API does.

        Raises:
            ProviderError: the test has no phone with the number.
        """
        await trio.sleep(self.dial_delay)
        if self.dial_error is not None and not self.answer_is_lost:
            raise self.dial_error
        destination = self._destinations.get(request.to)
        if destination is None:
            raise ProviderError(f"21211: nothing answers {request.to} in this test: give network.answers(number, ...)")
        line = DialledLine(request, f"CA{len(self.calls) + 1:032d}", destination)
        self.calls.append(line)
        self._running(self._lines).start_soon(self._run, line)
        await trio.sleep(self.answer_delay)
        if self.dial_error is not None:
            raise self.dial_error
        return Dialled("", f"request of {line.call_id}") if self.ids_are_late else Dialled(line.call_id)

    async def hang_up(self, call_id: str, request_id: str = "") -> None:
        """End a call in any state.

        Raises:
            CallEnded: the call is over.
        """
        await trio.sleep(self.dial_delay)
        line = self.line(call_id or request_id.removeprefix("request of "))
        if line.over.is_set():
            raise CallEnded(f"21220: call {call_id} is over")
        line.rings.cancel(reason="the program hung up")
        if line.caller is not None:
            line.caller.carrier.hang_up()

    async def transfer(self, call_id: str, to: str) -> None:
        """Transfer a call.

        Raises:
            CallEnded: the call is over, or was never answered.
        """
        line = self.line(call_id)
        if line.caller is None:
            raise CallEnded(f"21220: call {call_id} is not in progress")
        await line.caller.carrier.transfer(to)

    # The life of a call -----------------------------------------------------------------------------------------------
    async def _run(self, line: DialledLine) -> None:
        try:
            with line.rings:
                await self._ring(line)
            if line.rings.cancelled_caught:
                await self._report(line, "canceled")
            elif isinstance(line.destination, Person | Voicemail):
                await self._answer(line, line.destination)
        finally:
            line.over.set()

    async def _ring(self, line: DialledLine) -> None:
        """Let a phone ring until it is answered; report the end of a call that is not."""
        destination, timeout = line.destination, line.request.ring_timeout
        await trio.sleep(SETUP_S)
        if destination is BUSY or destination is FAILED:
            await self._report(line, destination.value)
            return
        await self._report(line, "ringing")
        after = destination.after if isinstance(destination, Person | Voicemail) else math.inf
        await trio.sleep(min(after, timeout))
        if after > timeout:
            line.destination = NOBODY
            await self._report(line, NOBODY.value)

    async def _answer(self, line: DialledLine, destination: Person | Voicemail) -> None:
        line.status = "in-progress"
        carrier = SimulatedTwilio(
            self._connect,
            PUBLIC_URL,
            account_sid=self._carrier.account_sid,
            auth_token=self._carrier.auth_token,
            caller=line.request.from_number,
            callee=line.request.to,
            call_sid=line.call_id,
            direction="outbound",
            custom_params={"dial": line.request.reference},
        )
        async with open_flat_nursery() as nursery:
            try:
                await nursery.start(carrier.run)
            except CallRefused:
                # The program has hung up while the phone was being answered.
                await self._report(line, "completed")
                return
            line.caller = SimulatedCaller(
                carrier,
                line.log,
                lambda: self._state(line.call_id),
                band_limited=is_resampled_for(self._agent),
                real_listeners=real_listeners(self._agent),
            )
            with line.acts:
                if isinstance(destination, Voicemail):
                    await self._record(line, line.caller, destination)
                else:
                    nursery.start_soon(self._find, line, DETECTION_S, "human")
                    await destination.script(line.caller)
            carrier.hang_up()
            await carrier.over.wait()
            nursery.cancel_scope.cancel(reason="the call is over")
        await self._report(line, "completed")

    async def _record(self, line: DialledLine, caller: SimulatedCaller, machine: Voicemail) -> None:
        """Play the greeting and the tone, and record; report what Twilio would find out meanwhile."""
        if line.request.machine_detection == "answer":
            await caller.speaks(machine.greeting, machine.seconds, wait=False)
            await self._find(line, min(DETECTION_S, machine.seconds), "machine_start")
            await trio.sleep(max(0.0, machine.seconds - DETECTION_S))
        else:
            await caller.speaks(machine.greeting, machine.seconds)
        await trio.sleep(TONE_S)
        if line.request.machine_detection == "greeting_end":
            await self._find(line, 0.0, "machine_end_beep")
        with trio.move_on_after(machine.records):
            await caller.carrier.over.wait()

    async def _find(self, line: DialledLine, seconds: float, answered_by: str) -> None:
        """Report who has answered, if the program asked for it and the call still lives."""
        await trio.sleep(seconds)
        if line.request.machine_detection and line.caller is not None and line.caller.carrier.ended is None:
            await self.post(line, line.request.amd_url, {"AnsweredBy": answered_by})

    def _state(self, call_id: str) -> State | None:
        for call in self.phone.calls:
            if call.call_id == call_id:
                state = call.conversation_state
                return {"user": state["user"], "agent": state["agent"]}
        return None

    async def _report(self, line: DialledLine, status: str) -> None:
        """Send a webhook about a call's status, as Twilio was asked to."""
        line.status = status
        await self.post(line, line.request.status_url, {"CallStatus": status})

    async def post(self, line: DialledLine, url: str, fields: Mapping[str, str]) -> None:
        """Send a signed webhook about a call to one of the URLs that the program gave."""
        if self.reports_lost:
            return
        form = {"CallSid": line.call_id, "AccountSid": self._carrier.account_sid, "ApiVersion": "2010-04-01", **fields}
        headers = {
            "Content-Type": "application/x-www-form-urlencoded; charset=UTF-8",
            **messages.Signer(self._carrier.auth_token).headers(url, form),
        }
        # A server that is gone hears nothing, and Twilio writes that into its own log.
        with suppress(CallRefused):
            await asked(self._connect, Webhook(url, urlencode(form).encode(), headers))

    async def _connect(self) -> trio.abc.Stream:
        await trio.lowlevel.checkpoint()
        ours, theirs = trio.testing.memory_stream_pair()
        if self._server is None:
            raise CallRefused("failed", "the server is not open")
        self._running(self._connections).start_soon(serve_connection, self._server.context, theirs)
        return ours

    @staticmethod
    def _running(nursery: trio.Nursery | None) -> trio.Nursery:
        if nursery is None:
            raise ProviderError("the network is not open")
        return nursery

    def _tap(self, at: float, name: str, payload: dict[str, Any]) -> None:
        for line in self.calls:
            if line.call_id == payload["call_id"]:
                line.log.tap(at, name, payload)
                line.ends += name == "call_end"

    @asynccontextmanager
    async def open(self) -> AsyncIterator["PhoneNetwork"]:
        """Serve the agent; at the end of the block, hang up all phones and close the server."""
        async with open_flat_nursery() as self._lines:
            async with (
                open_call_server(
                    self.phone._serve_options(  # noqa: SLF001 (the kit serves in memory, as the package's own)
                        self._agent,
                        carrier=self._carrier,
                        public_url=PUBLIC_URL,
                        callbacks=self._callbacks,
                        **self._served,
                    ),
                    attrs.evolve(self._seams, epoch=EPOCH_UNIX_S, tap=self._tap),
                ) as server,
                open_flat_nursery() as self._connections,
            ):
                self._server = server
                yield self
                # While everything still runs: the server has to notice the ends by itself.
                if self.hangs_up_at_end:
                    for line in self.calls:
                        line.end()
                    for line in self.calls:
                        await line.over.wait()
                # Nothing connects from here on; what the program asks of the network is still done.
                self._server = None
                self._connections.cancel_scope.cancel(reason="the network is closed")
            for line in self.calls:
                # The program has hung it up while its server closed.
                if line.rings.cancel_called:
                    await line.over.wait()
            self._lines.cancel_scope.cancel(reason="the network is closed")

    def check(self) -> None:
        """Raise if a call violated an invariant."""
        found = [
            f"  * call to {line.request.to}: {finding}"
            for line in self.calls
            # Without an event, the program never took the call for one of its own.
            if line.log.events
            for finding in violations(
                CallRecord(
                    events=line.log.events,
                    arrivals=() if line.caller is None else line.caller.carrier.arrivals,
                    faults=() if line.caller is None else line.caller.carrier.faults,
                    end_callbacks=line.ends,
                    bus=line.log.everything,
                )
            )
        ]
        if found:
            raise CallInvariantError("calls violated invariants:\n" + "\n".join(found))


@asynccontextmanager
async def open_phone_network(
    agent: Agent,
    phone: Patter | None = None,
    *,
    max_calls: int | None = None,
    voicemail_message: str = "",
    seams: Seams | None = None,
    **callbacks: Any,
) -> AsyncIterator[PhoneNetwork]:
    """Serve ``agent`` in a network of simulated phones, which it can call; check all calls at the end.

    Args:
        agent: the agent that is served; ``phone.call(agent=...)`` may bring others.
        phone: the phone under test, if its callbacks or its carrier's credentials matter; by default a new one.
        max_calls: as for ``Patter.serve``.
        voicemail_message: as for ``Patter.serve``.
        seams: parts of the server that a test of this package replaces.
        callbacks: as for ``Patter.serve``.

    Raises:
        CallInvariantError: a call violated an invariant.
    """
    network = PhoneNetwork(
        phone or Patter(phone_number=NUMBER),
        agent,
        seams or Seams(),
        callbacks,
        {"max_calls": max_calls, "voicemail_message": voicemail_message},
    )
    with foreign_work_awaited():
        async with network.open():
            yield network
    network.check()
