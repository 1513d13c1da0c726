"""One server with many calls at once: one that a fault strikes in each phase, and one that stays undisturbed."""

import itertools
import math
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence
from contextlib import ExitStack, asynccontextmanager
from dataclasses import replace
from functools import partial
from typing import Any, TypeVar

import attrs
import trio
import trio.testing

from patter_trio import Agent, CallMetrics, Patter
from patter_trio.server.calls import CallServer, open_call_server
from patter_trio.server.connection import serve_connection
from patter_trio.server.options import Seams
from patter_trio.testing import NotAsExpected, ScriptedLLM, ScriptedSTT, ScriptedTTS, ScriptedVAD
from patter_trio.testing.carriers.line import SimulatedCarrier
from patter_trio.testing.carriers.protocol import CallRefused
from patter_trio.testing.carriers.rest import serving_api
from patter_trio.testing.faults import Fault
from patter_trio.testing.faults.injections import FaultInjection
from patter_trio.testing.scripted_providers.audible_text import Kind
from patter_trio.testing.scripted_providers.band_limited import sounds_in
from patter_trio.testing.simulation.caller import SimulatedCaller
from patter_trio.testing.simulation.carriers import CallOptions, call_id_of, carrier_object, simulated_carrier
from patter_trio.testing.simulation.invariants import CallRecord, violations
from patter_trio.testing.simulation.record import EventLog, State
from patter_trio.testing.simulation.simulator import EPOCH_UNIX_S, PUBLIC_URL

T = TypeVar("T")

# All calls of a test share one server, and one of them is left alone: it must have the same events at the same instants
# as when it is the only call. So one run shows both what a fault does to its call and that it does nothing to others.
# Every call has the same script and begins at the same instant, so the phases coincide.

# Not zero: a fault can then strike while a message is on its way.
DELAY = 0.03
"""Seconds that the network takes in either direction."""
ALL_OVER = 60.0
"""Long after every script and every patience."""

PHASES: dict[str, float] = {
    # Read off the timeline of the undisturbed call: on_call_start takes until 0.33, the greeting sounds from 0.5
    # to 1.34, the question from 1.5 to 2.1 and is over at 2.43; the answer from 3.03 until it is cut at 3.68,
    # 0.01 s before "cut"; the next answer from 4.73 to 5.03; the goodbye from 5.23 to 5.53. "closing" is between
    # its end and the end of the call at 5.56.
    "opening": 0.1,
    "greeting": 0.7,
    "listening": 1.3,
    "caller speaks": 1.8,
    "caller pauses": 2.2,
    "thinking": 2.45,
    "answering": 3.1,
    "overlap": 3.5,
    "cut": 3.69,
    "thinking again": 4.3,
    "goodbye": 5.3,
    "closing": 5.545,
}
"""When in the script's call a fault strikes: one instant for each thing that a call can be waiting for."""
ENDING = ("goodbye", "closing")
"""Phases in which the agent has hung up already: that is why the call ends, whatever happens then."""
GOODBYE = 5.0


SCRIPT = ("Good evening.", "From seven to ten, every day of the week.", "Yes.", "Bye.")
"""The agent's replies; the caller interrupts the second."""


def agent(phone: Patter) -> Agent:
    return phone.agent(
        system_prompt="You are the desk of a hotel.",
        first_message=SCRIPT[0],
        # As long as the endpoint below: both decide at the same instant, which is the hardest case for their order.
        vad=ScriptedVAD(end_delay=0.3),
        stt=ScriptedSTT(),
        llm=ScriptedLLM(SCRIPT[1:3]),
        tts=ScriptedTTS(),
        endpointing_ms=300,
        # A key would rightly cut what the agent says; the faults are about what must change nothing.
        dtmf=False,
    )


@attrs.define
class HeardReply:
    """A reply as its sound reached the caller, and as history and ``agent_speech_ended`` tell it."""

    text: str = ""
    samples: int = 0
    until: float = 0.0
    gaps: int = 0
    is_told: bool = False
    told_text: str = ""
    told_ms: float = 0.0
    interrupted: bool = False

    @property
    def ms(self) -> float:
        return self.samples / 8


@attrs.define
class ServedCall:
    """One call: its carrier, its caller, and the record of its events."""

    carrier: SimulatedCarrier
    caller: SimulatedCaller
    log: EventLog
    connections: trio.Nursery
    ends: list[dict[str, Any]] = attrs.field(factory=list)
    left: list[str] = attrs.field(factory=list)
    refused: bool = False

    @property
    def call_id(self) -> str:
        return self.carrier.call_id

    @property
    def ended_at(self) -> float:
        """The call time of the end that the application heard of; infinite without an end."""
        return min(self.caller.times("call_end"), default=float("inf"))

    def replies(self) -> list["HeardReply"]:
        """Return the agent's replies as the caller heard them, in order, and what the application was told of each."""
        sounds = [
            (stretch.at * 8000 + sound.start, sound)
            for stretch in self.carrier.playback.played(self.carrier.ended_at)
            for sound in sounds_in(stretch.audio)
        ]
        heard, newest = dict[int, HeardReply](), 0
        for at, sound in sounds:
            # A frame that was cut short cannot be read; it belongs to the reply before it.
            newest = sound.utterance if sound.kind is not Kind.SOUND else newest
            reply = heard.setdefault(newest, HeardReply())
            reply.gaps += reply.samples > 0 and at > reply.until + 0.5
            reply.text += sound.words
            reply.samples += sound.end - sound.start
            reply.until = at + sound.end - sound.start
        replies = list(heard.values())
        events = [event for event in self.log.events if event.name in ("agent_speech_ended", "transcript")]
        ended = [number for number, event in enumerate(events) if event.name == "agent_speech_ended"]
        for reply, number in zip(replies, ended, strict=False):
            reply.is_told, told = True, events[number].payload
            reply.interrupted, reply.told_ms = told["interrupted"], told["speech_duration_ms"]
            behind = itertools.takewhile(lambda event: event.name == "transcript", events[number + 1 :])
            texts = [event.payload["text"] for event in behind if event.payload["role"] == "assistant"]
            reply.told_text = "".join(texts[:1])
        return replies

    def seen(self) -> list[tuple[float, str, dict[str, Any]]]:
        """Return every event with its instant and its payload."""
        return self.caller.events

    def findings(self) -> list[str]:
        """Return the violated invariants of the call."""
        record = CallRecord(
            events=self.log.events,
            arrivals=self.carrier.arrivals,
            faults=self.carrier.faults,
            end_callbacks=len(self.ends),
            left_after_end=self.left,
        )
        return violations(record)


class SharedServer:
    """A server of one phone, and the calls to it.

    Args:
        name: the carrier of all calls.
    """

    def __init__(self, name: str = "twilio") -> None:
        self.phone = Patter()
        self.carrier = carrier_object(name, None)
        self._interfaces = ExitStack()
        self.lines: dict[str, ServedCall] = {}
        self._call_server: CallServer | None = None

    @property
    def call_server(self) -> CallServer:
        assert self._call_server is not None
        return self._call_server

    @asynccontextmanager
    async def open(self) -> AsyncIterator[trio.Nursery]:
        """Serve; give the nursery in which the calls run."""

        async def on_call_start(event: dict[str, Any]) -> None:
            # Long enough for a fault to strike while the call waits for the callback.
            await trio.sleep(0.3)

        def on_call_end(event: dict[str, Any]) -> None:
            self.lines[event["call_id"]].ends.append(event)

        callbacks = {"on_call_start": on_call_start, "on_call_end": on_call_end, "on_dtmf": lambda event: None}
        options = self.phone._serve_options(
            agent(self.phone), carrier=self.carrier, public_url=PUBLIC_URL, callbacks=callbacks
        )
        # Around the server: it may end a call with its last breath.
        with self._interfaces:
            async with (
                open_call_server(options, Seams(epoch=EPOCH_UNIX_S, tap=self._tap)) as self._call_server,
                trio.open_nursery() as nursery,
            ):
                yield nursery
                # Connections that a fault has left hanging end here; the record of their tasks has been made.
                nursery.cancel_scope.cancel(reason="the server closes")

    def _tap(self, at: float, name: str, payload: dict[str, Any]) -> None:
        line = self.lines.get(payload["call_id"])
        if line is not None:
            line.log.tap(at, name, payload)

    def _state(self, call_id: str) -> State | None:
        call = self.phone._live.get(call_id)
        return dict(call.conversation_state) if call is not None else None  # type: ignore[arg-type]

    async def place(
        self, nursery: trio.Nursery, number: int, injection: FaultInjection | None = None, at: int = 0
    ) -> ServedCall:
        """Place the call with a number; return when its media begins.

        ``injection``, if given, strikes the media connection just before the server's read or write number ``at``.
        """
        # A nursery for each call: its tasks are counted after the end of that call, not of all.
        connections = await nursery.start(_nursery)

        async def connect() -> trio.abc.Stream:
            await trio.lowlevel.checkpoint()
            ours, theirs = trio.testing.memory_stream_pair()
            is_first = carrier.faulty_stream is None
            line_ = carrier.make_faulty(theirs)
            # Neither the connection of the first webhook nor those of the webhooks that follow.
            is_media = not is_first and carrier.faulty_stream is line_
            if is_media and injection is not None:
                line_.before = lambda number: injection(carrier) if number == at else None
            connections.start_soon(serve_connection, self.call_server.context, line_)
            return ours

        carrier = simulated_carrier(
            self.carrier,
            connect,
            PUBLIC_URL,
            digits=f"{number:032d}",
            options=CallOptions(up_delay=DELAY, down_delay=DELAY),
            unix_time=lambda: EPOCH_UNIX_S + trio.current_time(),
        )
        call_id = carrier.call_id
        self._interfaces.enter_context(serving_api(carrier, self.carrier.api_url))
        state = partial(self._state, call_id)
        log = EventLog(lambda: 0.0 if math.isnan(carrier.now) else carrier.now, state)
        line = self.lines[call_id] = ServedCall(carrier, SimulatedCaller(carrier, log, state), log, connections)
        try:
            await nursery.start(carrier.run)
        except CallRefused:
            line.refused = True
        else:
            nursery.start_soon(self._watch, line)
        return line

    async def _watch(self, line: ServedCall) -> None:
        """Record the tasks of a call that are left one second after its end."""
        while line.ended_at == float("inf"):
            await line.log.news()
        # The second that docs/design.md gives a call to end.
        await trio.sleep(1.0)
        line.left = [task.name for task in _tasks_in(line.connections)]

    async def act(self, line: ServedCall, *, says_goodbye: Callable[[], bool] = lambda: True) -> None:
        """Act as the caller of each call: hear a greeting, ask, cut the answer, and hear the agent's goodbye."""
        caller = line.caller
        try:
            await caller.at(1.5)
            await caller.speaks("Your hours?", 0.6)
            await caller.at(3.4)
            await caller.speaks("Stop.", 0.4)
        except NotAsExpected:
            # The fault may have ended the call while the caller was about to speak;
            # anything else is a mistake in the script.
            if line.carrier.ended is None:
                raise
        # Also in a call that was struck and goes on: it must still be able to say goodbye.
        await caller.at(GOODBYE)
        call = self.phone._live.get(line.call_id)
        if says_goodbye() and call is not None and not call.outcome:
            call.say(SCRIPT[3])
            call.hang_up()


async def _nursery(*, task_status: trio.TaskStatus[trio.Nursery]) -> None:
    async with trio.open_nursery() as nursery:
        task_status.started(nursery)
        await trio.sleep_forever()


def _tasks_in(nursery: trio.Nursery) -> Iterator[trio.lowlevel.Task]:
    for task in nursery.child_tasks:
        yield task
        for inner in task.child_nurseries:
            yield from _tasks_in(inner)


HEALTHY = 0
"""The number of the call that no fault strikes."""
HEALTHY_ID = call_id_of("twilio", f"{HEALTHY:032d}")
"""Its id over Twilio."""


def in_virtual_time(function: Callable[[], Awaitable[T]]) -> T:
    return trio.run(function, clock=trio.testing.MockClock(autojump_threshold=0))


async def day(
    cases: Sequence[tuple[Fault, str]] = (), name: str = "twilio"
) -> tuple[ServedCall, dict[tuple[Fault, str], ServedCall]]:
    """Hold one undisturbed call, and beside it one for each fault and phase, which the fault strikes in that phase."""
    server = SharedServer(name)
    struck: dict[tuple[Fault, str], ServedCall] = {}

    async def hit(line: ServedCall, fault: Fault, at: float) -> None:
        await trio.sleep_until(line.carrier.media_start + at)
        fault.injection(line.carrier)

    async with server.open() as nursery:
        healthy = await server.place(nursery, HEALTHY)
        nursery.start_soon(server.act, healthy)
        # Placed without waiting in between: virtual time stands still while they connect.
        for number, (fault, phase) in enumerate(cases, 1):
            line = struck[fault, phase] = await server.place(nursery, number)
            says_goodbye = not fault.outcome or phase in ENDING
            nursery.start_soon(partial(server.act, line, says_goodbye=lambda said=says_goodbye: said))
            nursery.start_soon(hit, line, fault, PHASES[phase])
        await trio.sleep_until(ALL_OVER)
    return healthy, struck


@attrs.define
class Struck:
    """A call, and its call time when the fault struck; NaN before its start, and if it never did."""

    line: ServedCall
    at: float = math.nan


async def sweep(fault: Fault, operations: Sequence[int], name: str = "twilio") -> tuple[ServedCall, dict[int, Struck]]:
    """Hold one undisturbed call, and one call for each read or write, which the fault strikes at that await."""
    server = SharedServer(name)
    struck: dict[int, Struck] = {}
    hits: dict[str, float] = {}

    def hit(carrier: SimulatedCarrier) -> None:
        # Once: the webhooks behind the end of a stream have connections of their own, whose awaits are counted, too.
        if carrier.call_id in hits:
            return
        # Before ``call_start`` there is no call that could be ended by the fault.
        started = bool(server.lines[carrier.call_id].seen())
        hits[carrier.call_id] = trio.current_time() - carrier.media_start if started else math.nan
        fault.injection(carrier)

    async with server.open() as nursery:
        healthy = await server.place(nursery, HEALTHY)
        nursery.start_soon(server.act, healthy)
        for number in operations:
            line = await server.place(nursery, number, hit, number)
            struck[number] = Struck(line)
            if not line.refused:

                def says_goodbye(call_id: str = line.call_id) -> bool:
                    # Only in a call that the fault has not struck, or that survives it:
                    # otherwise the fault must end it.
                    return not fault.outcome or call_id not in hits

                nursery.start_soon(partial(server.act, line, says_goodbye=says_goodbye))
        await trio.sleep_until(ALL_OVER)
    for one in struck.values():
        # The last await may not come: the order in which trio runs tasks makes one more or less.
        one.at = hits.get(one.line.call_id, math.nan)
    return healthy, struck


def events_of(line: ServedCall) -> list[tuple[float, str, dict[str, Any]]]:
    """Return a call's events without the keys that identify the call."""
    return [(at, name, _nameless(payload)) for at, name, payload in line.seen()]


def _nameless(payload: dict[str, Any]) -> dict[str, Any]:
    nameless = {key: value for key, value in payload.items() if key != "call_id"}
    if isinstance(nameless.get("metrics"), CallMetrics):
        nameless["metrics"] = replace(nameless["metrics"], call_id="")
    return nameless
