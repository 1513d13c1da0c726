"""A complete call in one block: an agent's real server on memory streams, a carrier that calls it, and a caller.

This is the only place where the kit and the server under test meet.
"""

from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from types import MappingProxyType
from typing import Any, Final, Literal

import attrs
import trio
import trio.testing

from patter_trio.agent.agent import Agent
from patter_trio.call.recording import checked_folder
from patter_trio.errors import did_you_mean
from patter_trio.phone import Patter
from patter_trio.providers.misuse import for_block
from patter_trio.server.calls import CallServer, open_call_server
from patter_trio.server.connection import serve_connection
from patter_trio.server.options import Seams
from patter_trio.testing.carriers.protocol import CallRefused
from patter_trio.testing.carriers.rest import kept_from_carriers, serving_api
from patter_trio.testing.flat_nursery import open_flat_nursery
from patter_trio.testing.memory_stream import memory_stream_pair
from patter_trio.testing.scripted_providers.agents import PROVIDERS
from patter_trio.testing.simulation.caller import (
    NotAsExpected,
    SimulatedCaller,
    is_resampled_for,
    real_listeners,
)
from patter_trio.testing.simulation.carriers import (
    CallOptions,
    carrier_object,
    protocol_of,
    simulated_carrier,
)
from patter_trio.testing.simulation.foreign_work import foreign_work_awaited
from patter_trio.testing.simulation.invariants import MAX_END_S, CallRecord, violations
from patter_trio.testing.simulation.record import TOLERANCE_S, EventLog, State

# Theory of operation. Three nurseries, in the order in which they must end. The line holds the carrier. Inside
# it, the server and its connections run in a scope of their own. At the end of the block the caller hangs up,
# while everything still runs; the server gets time to finish what it may; then its remaining tasks are
# recorded and cancelled; and only then the line, because its tasks carry the hang-up to the server. What is
# judged is what the server has left by itself.

EPOCH_UNIX_S: Final = 1_700_000_000.0
"""Unix time at the clock's zero, so that the timestamps of every run are the same."""
# A name that no resolver knows: nothing in a simulated call may look it up.
PUBLIC_URL: Final = "http://agent.test"
DIRECTIONS: Final = ("inbound", "outbound")
OPTIONS: Final = ("phone", "carrier", "caller", "callee", "direction", "custom_params", "record_to", "recording")
CALLBACKS: Final = ("on_call_start", "on_call_end", "on_transcript", "on_message", "on_metrics", "on_dtmf")
PLACES_NO_CALLS: Final = (
    "no request leaves call_simulator, which has one call and no other phones: to place calls, use phone_network"
)
# Callbacks may take 2 s and 30 s after a call (docs/design.md). A server that needs longer hangs.
SERVER_TIMEOUT_S: Final = 60.0
"""Seconds for the server to end; longer than the server waits for any callback after a call."""

_calls: Final = trio.lowlevel.RunVar[int]("simulated calls")


class CallInvariantError(AssertionError):
    """A call violated an invariant; the message lists the violations and shows the call."""


@for_block("call_simulator(...) is a block: `async with call_simulator(agent) as caller`")
@asynccontextmanager
async def simulate_call(
    agent: Agent,
    phone: Patter | None = None,
    carrier: str | None = None,
    *,
    caller: str = "+15550100001",
    callee: str = "",
    direction: Literal["inbound", "outbound"] = "inbound",
    custom_params: Mapping[str, str] = MappingProxyType({}),
    record_to: str | Path | None = None,
    recording: bool = False,
    seams: Seams | None = None,
    **callbacks: Any,
) -> AsyncIterator[SimulatedCaller]:
    """Serve ``agent``, call it, and yield the caller; the end of the block hangs up and checks the call.

    Args:
        agent: the agent that answers.
        phone: the agent's phone, if its callbacks or the credentials of its carrier matter; by default a new one.
        carrier: the carrier whose protocol is spoken: "twilio", "telnyx" or "plivo"; by default the phone's, or Twilio.
        caller: the number that calls, E.164; empty for a caller who withholds it.
        callee: the number that is called, E.164; by default the phone's.
        direction: "inbound" for a call to the agent, "outbound" for one that the agent's account placed.
        custom_params: parameters of the call, as the query of the webhook's URL at the carrier gives them.
        record_to: as for ``Patter.serve``.
        recording: as for ``Patter.serve``; the carrier of the phone is asked.
        seams: parts of the server that a test of this package replaces, or looks through.
        callbacks: as for ``Patter.serve``.

    Raises:
        CallInvariantError: the call violated an invariant.
        CallRefused: the call was not set up.
        ForeignWorkError: a thread, or a peer outside of the test, took more than 2 s of real time.
        TypeError: a callback is unknown.
        ValueError: the carrier or the direction is unknown.
    """
    __tracebackhide__ = True  # pytest shows the place where the test failed, not the end of the call
    if not isinstance(agent, Agent):
        raise TypeError(f"agent must be an Agent, or the path of a program, got {agent!r}")
    check_callbacks("call_simulator", callbacks, OPTIONS)
    if direction not in DIRECTIONS:
        raise ValueError(f"direction must be one of {', '.join(DIRECTIONS)}, got {direction!r}")
    phone = phone or Patter()
    protocol = protocol_of(carrier, phone.carrier)
    simulation = _Simulation(
        agent,
        phone,
        protocol,
        CallOptions(
            caller=caller,
            callee=callee or phone.phone_number or "+15550100002",
            direction=direction,
            custom_params=custom_params,
        ),
        callbacks=callbacks,
        records={"record_to": checked_folder(record_to), "recording": recording},
        seams=seams or Seams(),
    )
    try:
        # Around the whole call: the server's tasks wait for threads and peers, and fail with it.
        with foreign_work_awaited():
            async with simulation.call() as simulated:
                yield simulated
    # The test's own assertion, or one of the caller: the picture of the call is what its reader needs next.
    except AssertionError as error:
        _show(error, simulation)
        raise
    # Only after a block that passed: a failed test has a reason of its own, and its call was cut short.
    simulation.check()


def check_callbacks(fixture: str, callbacks: Mapping[str, Any], options: Sequence[str]) -> None:
    """Check the names of the options that a fixture takes for callbacks.

    Raises:
        TypeError: one is not a callback; the message has all options, and the one that was probably meant.
    """
    # Before anything is opened: a misspelt callback would never be called, and the test would pass.
    unknown = sorted(set(callbacks) - set(CALLBACKS))
    if not unknown:
        return
    hint = did_you_mean(unknown[0], (*options, *CALLBACKS))
    if unknown[0] in PROVIDERS:
        hint = f"; give providers to the agent, or to scripted(agent, {unknown[0]}=...)"
    raise TypeError(
        f"{fixture} has no option {', '.join(unknown)}; options are {', '.join(options)}, and the callbacks "
        f"{', '.join(CALLBACKS)}{hint}"
    )


class _Simulation:
    """The parts of one simulated call."""

    def __init__(
        self,
        agent: Agent,
        phone: Patter,
        protocol: str,
        options: CallOptions,
        *,
        callbacks: dict[str, Any],
        records: dict[str, Any],
        seams: Seams,
    ) -> None:
        self._agent = agent
        self._records = records
        self._seams = seams
        self._phone = phone
        self._ends: list[dict[str, Any]] | None = None
        # Only if the test has none: its own must be the only one, as in an application.
        if callbacks.get("on_call_end") is None and getattr(phone, "on_call_end", None) is None:
            self._ends = []
            callbacks = {**callbacks, "on_call_end": self._ends.append}
        self._callbacks = callbacks
        self._carrier_object = carrier_object(protocol, phone.carrier)
        self.carrier = simulated_carrier(
            self._carrier_object,
            self._connect,
            PUBLIC_URL,
            # Different in each call of a run, the same in every run.
            digits=f"{_next_number():032d}",
            options=options,
            unix_time=_unix_time,
        )
        self.log = EventLog(self._now, self._state)
        self.caller = SimulatedCaller(
            self.carrier,
            self.log,
            self._state,
            band_limited=is_resampled_for(agent),
            real_listeners=real_listeners(agent),
        )
        self._call_server: CallServer | None = None
        self._connections: trio.Nursery | None = None
        self._left_after_end: list[str] = []
        self._left_for_good: list[str] = []

    def _now(self) -> float:
        now = self.carrier.now
        return 0.0 if now != now else now  # noqa: PLR0124 (NaN before the start of the media)

    def _state(self) -> State | None:
        # Looked up anew each time: the phone has it only between the start and the end of the call.
        call = next((call for call in self._phone.calls if call.call_id == self.carrier.call_id), None)
        if call is None:
            return None
        state = call.conversation_state
        return {"user": state["user"], "agent": state["agent"]}

    def _bus_tap(self, at: float, name: str, payload: dict[str, Any]) -> None:
        # The bus is the server's; a phone may serve several simulated calls at once.
        if payload["call_id"] == self.carrier.call_id:
            self.log.bus_tap(at, name, payload)

    async def _connect(self) -> trio.abc.Stream:
        """Open a connection to the server: a pair of memory streams; the server serves one end."""
        # Connecting is a checkpoint on a network, too.
        await trio.lowlevel.checkpoint()
        if self._call_server is None or self._connections is None:
            raise CallRefused("failed", "the server is not open")
        # Real bytes on both sides: head, handshake, frames. Without a kernel between them, nothing takes time.
        ours, theirs = memory_stream_pair()
        self._connections.start_soon(serve_connection, self._call_server.context, self.carrier.make_faulty(theirs))
        return ours

    @asynccontextmanager
    async def call(self) -> AsyncIterator[SimulatedCaller]:
        """Serve and call; after the block, hang up and record which tasks still run."""
        __tracebackhide__ = True
        # System tasks of pytest and of other calls run already.
        before = set(_system_tasks())
        # Around the server: it may end a call with its last breath.
        with (
            serving_api(self.carrier, self._carrier_object.api_url),
            kept_from_carriers(PLACES_NO_CALLS, self._carrier_object, self._phone.carrier),
        ):
            async with self._served() as caller:
                yield caller
        # After everything was cancelled and awaited: what runs now was left behind for good.
        self._left_for_good = [task.name for task in _system_tasks() if task not in before]

    @asynccontextmanager
    async def _served(self) -> AsyncIterator[SimulatedCaller]:
        __tracebackhide__ = True
        async with open_flat_nursery() as line:
            # Its deadline is set only when the block has ended; a test may take as long as it likes.
            with trio.CancelScope() as serving:
                async with (
                    open_call_server(
                        self._phone._serve_options(  # noqa: SLF001 (the kit serves in memory, as the package's own)
                            self._agent,
                            carrier=self._carrier_object,
                            public_url=PUBLIC_URL,
                            callbacks=self._callbacks,
                            **self._records,
                        ),
                        attrs.evolve(
                            self._seams,
                            epoch=EPOCH_UNIX_S,
                            tap=self.log.tap,
                            bus_tap=self._bus_tap,
                        ),
                    ) as self._call_server,
                    self._open_connections() as connections,
                ):
                    # The call starts before the block; leaving the block hangs up before the server ends.
                    await line.start(self.carrier.run)
                    yield self.caller
                    # Not in ``finally``: a block that failed is cancelled as a whole, and its call is not checked.
                    self.carrier.hang_up()
                    # In the line, which outlives the server's nurseries: the tasks in them are what it counts.
                    line.start_soon(self._watch, connections)
                    # The watch cancels the connections long before; this is for a server that does not even end then.
                    serving.deadline = trio.current_time() + SERVER_TIMEOUT_S
                    # The connections stay open for the last reports of the carrier, although none may be in use now.
                    await self.carrier.over.wait()
            # Only now may the line be cancelled: the carrier's tasks deliver the end of the call to the server.
            await self.carrier.over.wait()
            line.cancel_scope.cancel(reason="the simulated call is over")

    @asynccontextmanager
    async def _open_connections(self) -> AsyncIterator[trio.Nursery]:
        __tracebackhide__ = True
        try:
            async with open_flat_nursery() as self._connections:
                yield self._connections
        finally:
            # A carrier reports the end of a call also to a server that takes no more connections.
            self._connections = None

    async def _watch(self, connections: trio.Nursery) -> None:
        """Record the tasks that still run after they should have ended, and cancel them."""
        # The carrier's own tasks end first; they are not the server's.
        await self.carrier.over.wait()
        # Slightly later than the limit, so that a task which ends exactly at the limit counts as ended.
        await trio.sleep_until(self.carrier.media_start + self.carrier.end_known_at + MAX_END_S + TOLERANCE_S)
        self._left_after_end = [task.name for task in _tasks_in(connections)]
        connections.cancel_scope.cancel(reason="the simulated call is over")

    def check(self) -> None:
        """Raise if the call violated an invariant."""
        found = violations(
            CallRecord(
                events=self.log.events,
                arrivals=self.carrier.arrivals,
                faults=self.carrier.faults,
                # Infinity below zero for a call that never reached the server, which then need not know of it.
                seconds=max(0.0, self.carrier.end_known_at - self.carrier.reached_at),
                end_callbacks=None if self._ends is None else len(self._ends),
                left_after_end=self._left_after_end,
                bus=self.log.everything,
                left_for_good=self._left_for_good,
            )
        )
        if found:
            findings = "\n".join(f"  * {finding}" for finding in found)
            raise CallInvariantError(f"the call violated invariants:\n{findings}\n\n{self.caller.timeline()}")


def _show(error: AssertionError, simulation: _Simulation) -> None:
    """Add the picture of the call to a failed assertion that does not show it."""
    # The caller's own errors show it already, as it was at that moment: the events of the hang-up would be noise.
    if not isinstance(error, NotAsExpected):
        error.add_note(f"\nThe call:\n{simulation.caller.timeline()}")


def _unix_time() -> float:
    return EPOCH_UNIX_S + trio.current_time()


def _next_number() -> int:
    """Return the number of this call in this run: different for each call, the same in every run."""
    number = _calls.get(0) + 1
    _calls.set(number)
    return number


def _system_tasks() -> Iterator[trio.lowlevel.Task]:
    """Yield trio's system tasks, which belong to no nursery of the program; all other tasks end with their nursery."""
    root = trio.lowlevel.current_root_task()
    for nursery in root.child_nurseries if root is not None else ():
        yield from nursery.child_tasks


def _tasks_in(nursery: trio.Nursery) -> Iterator[trio.lowlevel.Task]:
    for task in nursery.child_tasks:
        yield task
        for inner in task.child_nurseries:
            yield from _tasks_in(inner)
