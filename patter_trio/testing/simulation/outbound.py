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

The agent's server is real; a simulated carrier stands between it and the phones: Twilio, Telnyx or Plivo. It takes the
server's requests, lets the phones ring, and reports what becomes of the calls by signed webhooks.
"""

from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any, Final

import attrs
import trio
import trio.testing

from patter_trio.abc import DialRequest
from patter_trio.agent.agent import Agent
from patter_trio.call.recording import checked_folder
from patter_trio.errors import ProviderError
from patter_trio.phone import Patter
from patter_trio.phone_numbers import is_number
from patter_trio.providers.misuse import for_block
from patter_trio.server.calls import CallServer, open_call_server
from patter_trio.server.connection import serve_connection
from patter_trio.server.options import Seams
from patter_trio.testing.carriers.line import SimulatedCarrier
from patter_trio.testing.carriers.protocol import CallRefused, RESTAnswer, RESTRequest, Webhook
from patter_trio.testing.carriers.rest import answering, kept_from_carriers
from patter_trio.testing.carriers.webhook_post import asked
from patter_trio.testing.flat_nursery import open_flat_nursery
from patter_trio.testing.memory_stream import memory_stream_pair
from patter_trio.testing.simulation.caller import SimulatedCaller, is_resampled_for, real_listeners
from patter_trio.testing.simulation.carriers import (
    CallOptions,
    account_of,
    call_id_of,
    carrier_object,
    protocol_of,
    simulated_carrier,
)
from patter_trio.testing.simulation.destinations import Destination, Person, Script, Unanswered, Voicemail
from patter_trio.testing.simulation.dialled_line import DialledLine
from patter_trio.testing.simulation.foreign_work import foreign_work_awaited
from patter_trio.testing.simulation.incoming_line import IncomingLine
from patter_trio.testing.simulation.invariants import CallRecord, violations
from patter_trio.testing.simulation.record import State
from patter_trio.testing.simulation.simulator import EPOCH_UNIX_S, PUBLIC_URL, CallInvariantError, check_callbacks

OPTIONS: Final = ("phone", "carrier", "max_calls", "voicemail_message", "record_to", "recording")
NUMBER: Final = "+15550100002"
"""The number of the phone under test, unless it has its own."""
CALLER: Final = "+15550100001"
"""The number of somebody who calls it."""
# The sound of an utterance carries its number in 16 bits, and the agent's replies count from 1.
_FIRST_UTTERANCE: Final = 20_000
_MAX_UTTERANCES: Final = 100
# 20,000 + 450 x 100 is still below 65,536.
_MAX_PEOPLE: Final = 450
PLAYS_ONE_ACCOUNT: Final = (
    "no request leaves phone_network, which has one account and only its calls: place calls by network.phone, and give "
    "the phone under test as phone="
)


class PhoneNetwork:
    """The phones that the program under test can call, and its own server.

    Args:
        phone: the phone under test.
        agent: the agent that is served.
        carrier: the carrier whose protocol is spoken; None: the phone's, or Twilio.
        seams: parts of the server that a test of this package replaces.
        callbacks: as for ``Patter.serve``.
        served: other options of ``Patter.serve``.
    """

    def __init__(
        self,
        phone: Patter,
        agent: Agent,
        carrier: str | None,
        *,
        seams: Seams,
        callbacks: Mapping[str, Any],
        served: Mapping[str, Any],
    ) -> None:
        self.phone = phone
        """The phone under test: ``await network.phone.call(...)``."""
        self.calls: list[DialledLine] = []
        """The calls that the program has placed, oldest first."""
        self.incoming: list[IncomingLine] = []
        """The calls that have come in to the program, oldest first."""
        self.reports_lost: bool = False
        """True: from now on, no webhook about a call's status reaches the program."""
        # Judged: a request to a carrier takes about that long.
        self.dial_delay: float = 0.2
        """Seconds until the network answers the request that places a call."""
        self.answer_delay: float = 0.0
        """Seconds from placing a call until then; webhooks may come meanwhile."""
        self.hangs_up_at_end: bool = True
        """False: at the end of the block, phones go on ringing, and people stay on the line."""
        self._refuses = 0
        self.dial_error: Exception | None = None
        """The error of the next requests that place calls, instead of a call."""
        self.answer_is_lost: bool = False
        """True: requests that place calls do so, and raise ``dial_error`` all the same."""
        self._agent = agent
        self._seams = seams
        self._callbacks = callbacks
        self._served_with = served
        self._account = account_of(
            carrier_object(protocol_of(carrier, phone.carrier), phone.carrier), lambda: self.unix_time
        )
        self._destinations: dict[str, Destination] = {}
        self._server: CallServer | None = None
        self._connections: trio.Nursery | None = None
        self._lines: trio.Nursery | None = None
        self._people = 0
        """Number of people who have been on a line."""

    def __repr__(self) -> str:
        return f"<PhoneNetwork {len(self._destinations)} phones, {len(self.calls)} calls>"

    @property
    def refuses(self) -> int:
        """The HTTP status with which the carrier refuses the next requests that place calls; 0: it takes them.

        Such as 402, 403, 422, 429 (with ``Retry-After: 7``) or 503.

        Raises:
            ValueError: it is set to anything but 0 or a number from 400 to 599.
        """
        return self._refuses

    @refuses.setter
    def refuses(self, status: int) -> None:
        # Checked here: to the program under test, "429" would be an answer of the carrier that makes no sense.
        if isinstance(status, bool) or not isinstance(status, int) or not (status == 0 or 400 <= status < 600):  # noqa: PLR2004 (HTTP's errors)
            raise ValueError(f"refuses must be 0 or a status code from 400 to 599, got {status!r}")
        self._refuses = status

    @property
    def unix_time(self) -> float:
        """The time that the program under test reads, in seconds; schedules follow it."""
        return EPOCH_UNIX_S + trio.current_time()

    def answers(self, number: str, destination: Destination | Script) -> None:
        """Set what happens when a number is called.

        Args:
            number: the number, E.164.
            destination: an async function of the line, which is what a person does; Person, Voicemail, BUSY, NOBODY,
                DECLINED or FAILED.

        Raises:
            ValueError: ``number`` is not a number in E.164.
            TypeError: ``destination`` is something else.
        """
        if not is_number(number):
            raise ValueError(f"number must be a number in E.164 such as +15550100003, got {number!r}")
        if isinstance(destination, type) or not isinstance(destination, Person | Voicemail | Unanswered):
            # Person checks the rest. A class instead of an object is the likely slip, and callable, too.
            if isinstance(destination, type) or not callable(destination):
                raise TypeError(
                    "destination must be an async function of the line, Person(...), Voicemail(), BUSY, NOBODY, "
                    f"DECLINED or FAILED, got {destination!r}"
                )
            destination = Person(destination)
        self._destinations[number] = destination

    @for_block("network.call_in() is a block: `async with network.call_in() as caller`")
    @asynccontextmanager
    async def call_in(self, number: str = CALLER) -> AsyncIterator[SimulatedCaller]:
        """Call the program's number, and hang up with the end of the block.

        Args:
            number: the number of the phone that calls, E.164.
        """
        carrier = simulated_carrier(
            self._account.carrier,
            self._connect,
            PUBLIC_URL,
            # A letter at the end: no call that is placed gets such an id.
            digits=f"{len(self.incoming) + 1:031d}c",
            options=CallOptions(caller=number, callee=self.phone.phone_number or NUMBER),
            unix_time=lambda: self.unix_time,
        )
        line = IncomingLine(number, carrier)
        self.incoming.append(line)
        caller = self._caller_of(line)
        async with open_flat_nursery() as nursery:
            await nursery.start(line.run, caller)
            try:
                yield caller
            finally:
                carrier.hang_up()
                await carrier.over.wait()

    @property
    def _all_lines(self) -> tuple[DialledLine | IncomingLine, ...]:
        return (*self.calls, *self.incoming)

    # Requests of the program ------------------------------------------------------------------------------------------
    async def _obey(self, request: RESTRequest) -> RESTAnswer:
        """Carry out a request of the program, as the carrier's REST API does."""
        # A request is a checkpoint on a network, too.
        await trio.lowlevel.checkpoint()
        asked = self._account.read(request)
        if isinstance(asked, RESTAnswer):
            return asked
        if isinstance(asked, DialRequest):
            return await self._dial(asked)
        for line in self.calls:
            # Before its own id is known, that of its request names a call.
            if asked.call in (line.call_id, line.protocol.request_id or line.call_id):
                return await line.protocol.obey(line, attrs.evolve(request, path=asked.path))
        for incoming in self.incoming:
            if asked.call == incoming.call_id:
                return await incoming.carrier.protocol.obey(incoming.carrier, attrs.evolve(request, path=asked.path))
        return self._account.refusal(404)

    async def _dial(self, request: DialRequest) -> RESTAnswer:
        """Place a call."""
        # Before there is a call: a program that gives up meanwhile has placed none.
        await trio.sleep(self.dial_delay)
        if self.dial_error is not None and not self.answer_is_lost:
            raise self.dial_error
        if self.refuses:
            return self._account.refused(self.refuses)
        destination = self._destinations.get(request.to)
        if destination is None:
            why = f"nothing answers {request.to} in this test: give network.answers(number, ...)"
            return self._account.refusal(400, why)
        call_id = call_id_of(self._account.carrier.protocol, f"{len(self.calls) + 1:032d}")
        protocol = self._account.new_call(request, call_id)
        line = DialledLine(
            request,
            protocol,
            destination,
            carrier=SimulatedCarrier(self._connect, PUBLIC_URL, protocol),
            caller=self._caller_of,
            report=self._report,
        )
        # Listed before its first report: the program may ask about the call as soon as it hears of it.
        self.calls.append(line)
        self._running(self._lines).start_soon(line.run)
        # Behind the start: a carrier's webhooks may overtake its answer.
        await trio.sleep(self.answer_delay)
        if self.dial_error is not None:
            raise self.dial_error
        return self._account.accepted(protocol)

    def _caller_of(self, line: DialledLine | IncomingLine) -> SimulatedCaller:
        self._people += 1
        return SimulatedCaller(
            line.carrier,
            line.log,
            lambda: self._state(line.call_id),
            band_limited=is_resampled_for(self._agent),
            real_listeners=real_listeners(self._agent),
            # What one person says may be heard by another, and must not be taken for the agent's words.
            utterances=_FIRST_UTTERANCE + _MAX_UTTERANCES * (self._people % _MAX_PEOPLE),
        )

    def _state(self, call_id: str) -> State | None:
        for call in self.phone.calls:
            if call.call_id == call_id:
                state = call.conversation_state
                return {"user": state["user"], "agent": state["agent"]}
        return None

    async def _report(self, webhooks: Sequence[Webhook]) -> None:
        """Send webhooks that ask nothing."""
        for webhook in () if self.reports_lost else webhooks:
            # A server that is gone hears nothing, and the carrier writes that into its own log.
            with suppress(CallRefused):
                await asked(self._connect, webhook)

    async def _connect(self) -> trio.abc.Stream:
        await trio.lowlevel.checkpoint()
        ours, theirs = memory_stream_pair()
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
        for line in self._all_lines:
            if line.call_id == payload["call_id"]:
                line.tap(at, name, payload)

    @asynccontextmanager
    async def open(self) -> AsyncIterator["PhoneNetwork"]:
        """Serve the agent; at the end of the block, hang up all phones and close the server."""
        # Around the server: it hangs up the phones that ring with its last breath.
        with (
            answering(f"{self._account.carrier.api_url.rstrip('/')}{self._account.api_path}", self._obey),
            kept_from_carriers(PLAYS_ONE_ACCOUNT, self._account.carrier, self.phone.carrier),
        ):
            async with open_flat_nursery() as self._lines:
                async with self._served():
                    yield self
                for line in self.calls:
                    # The program has hung it up while its server closed.
                    if line.rings.cancel_called:
                        await line.over.wait()
                self._lines.cancel_scope.cancel(reason="the network is closed")

    @asynccontextmanager
    async def _served(self) -> AsyncIterator[None]:
        async with (
            open_call_server(
                self.phone._serve_options(  # noqa: SLF001 (the kit serves in memory, as the package's own)
                    self._agent,
                    carrier=self._account.carrier,
                    public_url=PUBLIC_URL,
                    callbacks=self._callbacks,
                    **self._served_with,
                ),
                attrs.evolve(self._seams, epoch=EPOCH_UNIX_S, tap=self._tap),
            ) as server,
            open_flat_nursery() as self._connections,
        ):
            self._server = server
            try:
                yield
                # While everything still runs: the server has to notice the ends by itself.
                if self.hangs_up_at_end:
                    for line in self.calls:
                        line.end()
                    for line in self.calls:
                        await line.over.wait()
            finally:
                # Nothing connects from here on; what the program asks of the network is still done.
                self._server = None
            self._connections.cancel_scope.cancel(reason="the network is closed")

    def check(self) -> None:
        """Raise if a call violated an invariant."""
        found = [
            f"  * {line!r}: {finding}"
            for line in self._all_lines
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


@for_block("phone_network(...) is a block: `async with phone_network(agent) as network`")
@asynccontextmanager
async def open_phone_network(
    agent: Agent,
    phone: Patter | None = None,
    carrier: str | None = None,
    *,
    max_calls: int | None = None,
    voicemail_message: str = "",
    record_to: str | Path | None = None,
    recording: bool = False,
    seams: Seams | None = None,
    **callbacks: Any,
) -> AsyncIterator[PhoneNetwork]:
    """Serve ``agent`` in a network of simulated phones, which it can call; check all calls at the end.

    Args:
        agent: the agent that is served; ``phone.call(agent=...)`` may bring others.
        phone: the phone under test, if its callbacks or its carrier's credentials matter; by default a new one.
        carrier: the carrier whose protocol is spoken: "twilio", "telnyx" or "plivo"; by default the phone's, or Twilio.
        max_calls: as for ``Patter.serve``.
        voicemail_message: as for ``Patter.serve``.
        record_to: as for ``Patter.serve``.
        recording: as for ``Patter.serve``; the simulated carrier records.
        seams: parts of the server that a test of this package replaces.
        callbacks: as for ``Patter.serve``.

    Raises:
        CallInvariantError: a call violated an invariant.
        TypeError: an option is unknown, or ``agent`` is not an agent.
        ValueError: the carrier is unknown.
    """
    __tracebackhide__ = True  # pytest shows the place where the test failed, not the end of the network
    if not isinstance(agent, Agent):
        raise TypeError(f"agent must be an Agent, or the path of a program, got {agent!r}")
    check_callbacks("phone_network", callbacks, OPTIONS)
    network = PhoneNetwork(
        phone or Patter(phone_number=NUMBER),
        agent,
        carrier,
        seams=seams or Seams(),
        callbacks=callbacks,
        served={
            "max_calls": max_calls,
            "voicemail_message": voicemail_message,
            "record_to": checked_folder(record_to),
            "recording": recording,
        },
    )
    with foreign_work_awaited():
        async with network.open():
            yield network
    network.check()
