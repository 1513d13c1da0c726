"""The soak's servers and phone lines: each line places one call after another and checks its invariants."""

import math
import socket
from collections import Counter
from collections.abc import Iterator
from typing import Any, Final

import attrs
import trio
import trio.testing

from benchmarks.soak_script import Application, Dice, act, phone_and_agent
from patter_trio.carriers.twilio import Twilio
from patter_trio.server.calls import CallServer, open_call_server
from patter_trio.server.connection import serve_connection
from patter_trio.server.options import Seams
from patter_trio.testing import CallRefused, SimulatedCaller, SimulatedTwilio
from patter_trio.testing.carriers.rest import serving_api
from patter_trio.testing.flat_nursery import open_flat_nursery
from patter_trio.testing.simulation.invariants import MAX_END_S, CallRecord, violations
from patter_trio.testing.simulation.record import TOLERANCE_S, EventLog, State

PUBLIC_URL: Final = "http://agent.test"
CARRIER: Final = Twilio(account_sid="AC" + "5" * 32, auth_token="simulated")
# Any constant: timestamps of a run shall not depend on when it ran.
EPOCH: Final = 1_700_000_000.0


@attrs.define
class Tally:
    """The results of all calls so far."""

    calls: int = 0
    seconds: float = 0.0
    outcomes: Counter[str] = attrs.field(factory=Counter)
    findings: list[str] = attrs.field(factory=list)
    """The violations of invariants."""


class Server:
    """A server that calls reach over memory streams or socket pairs; cancelling ``scope`` ends it."""

    def __init__(self, dice: Dice, *, model: bool) -> None:
        self.application = Application(dice)
        self.phone, self._agent = phone_and_agent(dice, self.application, model=model)
        self._callbacks = self.application.callbacks()
        if not model:
            self._callbacks["on_message"] = self.application.on_message
        self.scope = trio.CancelScope()
        self.call_server: CallServer | None = None
        self._connections: trio.Nursery | None = None
        self._logs: dict[str, EventLog] = {}

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Serve until ``scope`` is cancelled; may be called again after that."""
        # A new scope each time: a cancelled one would end the next server at once.
        with trio.CancelScope() as self.scope:
            async with (
                open_call_server(
                    self.phone._serve_options(  # noqa: SLF001 (as the test kit does)
                        self._agent, carrier=CARRIER, public_url=PUBLIC_URL, callbacks=self._callbacks
                    ),
                    Seams(epoch=EPOCH, tap=self._tap),
                ) as self.call_server,
                open_flat_nursery() as self._connections,
            ):
                task_status.started()
                # Until cancelled: everything happens in the nurseries above.
                await trio.sleep_forever()
        # A call that comes now is refused, as by a port that is closed.
        self.call_server = self._connections = None

    def _tap(self, at: float, name: str, payload: dict[str, Any]) -> None:
        # No log: the line has checked the call and forgotten it; late events are no longer compared.
        log = self._logs.get(payload["call_id"])
        if log is not None:
            log.tap(at, name, payload)

    def log(self, carrier: SimulatedTwilio) -> EventLog:
        """Return the log for the events of a call; it is kept until :meth:`forget`."""

        def now() -> float:
            return 0.0 if math.isnan(carrier.now) else carrier.now

        log = self._logs[carrier.call_sid] = EventLog(now, lambda: self.state(carrier.call_sid))
        return log

    def forget(self, call_id: str) -> None:
        self._logs.pop(call_id, None)

    def state(self, call_id: str) -> State | None:
        call = next((call for call in self.phone.calls if call.call_id == call_id), None)
        return None if call is None else {**call.conversation_state}

    async def connect(self, tasks: set[trio.lowlevel.Task], *, real: bool) -> trio.abc.Stream:
        """Open a connection; the task that serves it is in ``tasks`` while it runs."""
        await trio.lowlevel.checkpoint()
        # Also while it is ending: a real server has closed its port by then.
        if self.call_server is None or self._connections is None or self.scope.cancel_called:
            raise CallRefused("failed", "the server is closed")
        ours: trio.abc.Stream
        theirs: trio.abc.Stream
        if real:
            # Half of the calls use real sockets: a leak of descriptors would not show in memory streams.
            pair = socket.socketpair()
            ours, theirs = (trio.SocketStream(trio.socket.from_stdlib_socket(end)) for end in pair)
        else:
            ours, theirs = trio.testing.memory_stream_pair()
        self._connections.start_soon(self._serve, self.call_server, theirs, tasks)
        return ours

    @staticmethod
    async def _serve(call_server: CallServer, stream: trio.abc.Stream, tasks: set[trio.lowlevel.Task]) -> None:
        task = trio.lowlevel.current_task()
        tasks.add(task)
        try:
            await serve_connection(call_server.context, stream)
        finally:
            # A task that is still in the set a second after the call is one that the call has left running.
            tasks.discard(task)


class Line:
    """A phone line from which one call after another is placed."""

    def __init__(self, name: int, servers: tuple[Server, ...], dice: Dice, tally: Tally) -> None:
        self._name = name
        self._servers = servers
        self._dice = dice
        self._tally = tally
        self._calls = 0
        self.carrier: SimulatedTwilio | None = None
        """The current call, if there is one."""

    async def call_until(self, deadline: float) -> None:
        """Place calls until ``deadline``; the last one is finished."""
        while trio.current_time() < deadline:
            self._calls += 1
            # The same in every run: all of a call's draws are named by it.
            call_id = f"CA{self._name:08d}{self._calls:024d}"
            chance = self._dice.of(call_id, "line")
            await trio.sleep(chance.choice([0.1, 1.0, 3.0]))
            await _OneCall(chance.choice(self._servers), self._dice, call_id, self._tally).run(self)


class _OneCall:
    def __init__(self, server: Server, dice: Dice, call_id: str, tally: Tally) -> None:
        self._server = server
        self._chance = chance = dice.of(call_id, "call")
        self._tally = tally
        self._tasks: set[trio.lowlevel.Task] = set()
        self._real = chance.random() < 0.5
        # Half of the callers stay to the end of their script, a quarter leave within seconds, a quarter at once.
        self._life = chance.choice([math.inf, math.inf, chance.expovariate(1 / 4), chance.uniform(0, 0.1)])
        slow = chance.random() < 0.2
        self.carrier = SimulatedTwilio(
            self._connect,
            PUBLIC_URL,
            account_sid=CARRIER.account_sid,
            auth_token=CARRIER.auth_token,
            call_sid=call_id,
            up_delay=chance.choice([0.05, 0.2]) if slow else 0.0,
            down_delay=chance.choice([0.05, 0.2]) if slow else 0.0,
            echo_marks=chance.random() < 0.9,
        )
        self._log = server.log(self.carrier)

    async def _connect(self) -> trio.abc.Stream:
        if self._tasks and self._life < 0.01:  # the webhook was answered, and the media stream never comes
            raise CallRefused("failed", "the caller hung up while it was being announced")
        return await self._server.connect(self._tasks, real=self._real)

    async def run(self, line: Line) -> None:
        line.carrier = self.carrier
        outcome = "announced only"
        try:
            # Until the server is done with the call: it ends one whose stream was lost by request.
            with serving_api(self.carrier, CARRIER.api_url):
                async with open_flat_nursery() as nursery:
                    await nursery.start(self.carrier.run)
                    await self._talk()
                    # The carrier is done with both sides of the connection; the server may not be, which is checked
                    # next.
                    await self.carrier.over.wait()
                    nursery.cancel_scope.cancel()
                outcome = await self._check()
        except CallRefused as refused:
            outcome = f"refused: {refused.outcome}"
        # Also if the soak is cancelled: a log that is kept would be found as left behind.
        finally:
            line.carrier = None
            self._server.forget(self.carrier.call_sid)
        self._tally.calls += 1
        self._tally.outcomes[outcome] += 1

    async def _talk(self) -> None:
        carrier = self.carrier
        caller = SimulatedCaller(carrier, self._log, lambda: self._server.state(carrier.call_sid), strict=False)
        # The caller is interrupted wherever the script is, as by a hang-up in mid-word.
        with trio.move_on_after(self._life):
            await act(caller, self._chance)
        # Without a close frame, as when a network fails.
        if self._chance.random() < 0.15:
            carrier.drop()
        elif self._chance.random() < 0.1:
            with trio.move_on_after(60):  # the caller stays until the agent hangs up
                await carrier.over.wait()
        # Does nothing if the call is over.
        carrier.hang_up()

    async def _check(self) -> str:
        """Wait for as long as the call's tasks may take to end, and check that they have ended."""
        carrier = self.carrier
        await trio.sleep_until(carrier.media_start + carrier.end_known_at + MAX_END_S + TOLERANCE_S)
        record = CallRecord(
            events=self._log.events,
            arrivals=carrier.arrivals,
            faults=carrier.faults,
            seconds=max(0.0, carrier.end_known_at - carrier.reached_at),
            left_after_end=[inner.name for task in self._tasks for inner in _with_children(task)],
        )
        self._tally.findings += [f"{carrier.call_sid}: {finding}" for finding in violations(record)]
        self._tally.seconds += carrier.ended_at
        ends = [event.payload["outcome"] for event in self._log.events if event.name == "call_end"]
        return str(ends[0]) if ends else "not seen"


def _with_children(task: trio.lowlevel.Task) -> Iterator[trio.lowlevel.Task]:
    yield task
    for nursery in task.child_nurseries:
        for child in nursery.child_tasks:
            yield from _with_children(child)
