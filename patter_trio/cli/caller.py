"""A simulated caller's behaviour: speak, wait for the answer, speak again; and the criteria of a failed call."""

import argparse
import math
import secrets
import time
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from typing import Any, Final, Protocol

import attrs
import trio

from patter_trio import defaults
from patter_trio.abc import Carrier, EventRecord
from patter_trio.agent.agent import Agent
from patter_trio.audio import g711
from patter_trio.audio.g711 import Samples
from patter_trio.cli.command_line import Once
from patter_trio.errors import PatterError
from patter_trio.events.kinds import PatterEventType
from patter_trio.metrics.internal_events import LlmChunk
from patter_trio.phone import Patter
from patter_trio.testing.carriers.line import SimulatedCarrier
from patter_trio.testing.carriers.protocol import CallRefused
from patter_trio.testing.carriers.webhook_post import Connect
from patter_trio.testing.simulation.caller import SimulatedCaller, is_resampled_for
from patter_trio.testing.simulation.carriers import CallOptions, simulated_carrier
from patter_trio.testing.simulation.record import EventLog, State

# Judged: a greeting by a remote voice needs a second, embedded models on a busy machine several.
GREETING_TIMEOUT_S: Final = 20.0
"""Seconds that a caller waits for the greeting to begin, and for an utterance to be recognised."""
# Judged: longer than any answer that a caller would listen to.
ANSWER_TIMEOUT_S: Final = 60.0
"""Seconds that a caller waits for an answer to end."""
# Judged: how long people wait before they take their turn.
PAUSE_BEFORE_SPEAKING_S: Final = 0.4
"""Seconds that a caller waits after the agent has finished."""
# Judged: longer than the gap between two sentences of one answer.
NO_ANSWER_AFTER_S: Final = 1.0
"""Seconds for which the agent must be idle before a caller concludes that no answer comes."""
POLL_INTERVAL_S: Final = 0.05
"""Seconds between checks whether an agent is ready, which no event reports."""

# For any agent: a greeting, a question, an end.
DEFAULT_LINES: Final = ("Hello, who am I speaking to?", "What can you do for me?", "Thank you very much. Goodbye.")
TOOL_EVENTS: Final = (PatterEventType.TOOL_CALL_STARTED, PatterEventType.TOOL_CALL_COMPLETED)
STOPPED: Final = "stopped by Ctrl-C"
"""The failure of a call that the user has stopped."""
DEFAULT_NUMBER: Final = "+15550100001"
"""The caller's number, from the range for fiction."""


def add_caller_number(parser: argparse.ArgumentParser) -> None:
    """Add the option for the number from which a made-up caller calls."""
    parser.add_argument(
        "--from",
        action=Once,
        dest="number",
        default=DEFAULT_NUMBER,
        metavar="NUMBER",
        help="the caller's number, E.164; '' for a caller who withholds it (default: %(default)s)",
    )


class SimulationFailed(PatterError):
    """A simulated call that did not go as it should."""


class View(Protocol):
    """A display of calls while they are held."""

    def event(self, at: float, name: str, payload: dict[str, Any]) -> None:
        """Show an event of a call."""

    def caller(self, at: float, line: str) -> None:
        """Show that a caller begins to speak a line."""

    def ended(self, call_id: str, failure: str) -> None:
        """Show that a call is over."""

    def close(self) -> None:
        """Show nothing more."""


@attrs.frozen
class Keys:
    """Keys that a caller presses, one after another."""

    digits: str


Line = tuple[str, Samples] | Keys
"""What a caller does in its turn: it plays audio that has a name, or presses keys."""


async def synthesised(texts: Sequence[str]) -> tuple[tuple[str, Samples], ...]:
    """Return texts as lines of a caller, in the local voice.

    Raises:
        MissingExtraError: the local voice is not installed.
    """
    voice = defaults.default_tts()
    lines: list[tuple[str, Samples]] = []
    # One session for all lines: opening it loads the voice.
    async with voice.open(language="en") as session:
        for text in texts:
            # A channel of one text: the voice takes its text from an iterator.
            send, receive = trio.open_memory_channel[str](1)
            send.send_nowait(text)
            send.close()
            async with session.speak(receive) as chunks:
                audio = [chunk.audio async for chunk in chunks]
            lines.append((f"“{text}” (synthesised)", g711.decode(b"".join(audio))))
    return tuple(lines)


class CallRecords:
    """A receiver of what the server reports about all simulated calls: gives each call its own.

    Records are for a call's timeline and its picture, the events of the taps for its caller and its view.
    """

    def __init__(self, calls: "Mapping[str, SimulatedCall]") -> None:
        self._calls = calls

    def wants(self, kind: type[Any]) -> bool:
        """Return True for all but the pieces of the LLM, which would only flood a timeline."""
        return kind is not LlmChunk

    def take(self, record: EventRecord) -> None:
        """Give a record to its call."""
        call = self._calls.get(record["call_id"])
        if call is not None:
            call.records.append(record)

    def tap(self, at: float, name: str, payload: dict[str, Any]) -> None:
        """Give an event to its call."""
        # The server may have other calls, of anybody who finds its port.
        if (call := self._calls.get(payload["call_id"])) is not None:
            call.tap(at, name, payload)

    def bus_tap(self, at: float, name: str, payload: dict[str, Any]) -> None:
        """Give an event of the event bus to its call."""
        if (call := self._calls.get(payload["call_id"])) is not None:
            call.bus_tap(at, name, payload)


class SimulatedCall:
    """One call: its carrier, its caller, and the record of its events."""

    def __init__(
        self,
        *,
        connect: Connect,
        public_url: str,
        carrier: Carrier,
        phone: Patter,
        agent: Agent,
        lines: Sequence[Line],
        interrupt_at: float | None,
        view: View,
        number: str = DEFAULT_NUMBER,
        greeting_timeout_s: float = GREETING_TIMEOUT_S,
        answer_timeout_s: float = ANSWER_TIMEOUT_S,
    ) -> None:
        self.carrier: SimulatedCarrier = simulated_carrier(
            carrier,
            connect,
            public_url,
            digits=secrets.token_hex(16),
            # From the range of numbers for fiction, if the phone has none.
            options=CallOptions(caller=number, callee=phone.phone_number or "+15550100002"),
            unix_time=time.time,
        )
        self.call_id: str = self.carrier.call_id
        self.log: EventLog = EventLog(self._now, self._state)
        # Not strict: a real agent may say anything, and the simulation only reports.
        self.caller: SimulatedCaller = SimulatedCaller(
            self.carrier, self.log, self._state, strict=False, band_limited=is_resampled_for(agent)
        )
        self.began: datetime = datetime.now().astimezone()
        """When the call began, for people: its own times are those of the media."""
        self.records: list[EventRecord] = []
        """The records of its events, in the order in which they came."""
        self.stopped: bool = False
        """True if the user has stopped the call before its end."""
        self.failure: str = ""
        """Reason of a failed call; empty if it went as it should."""
        self._phone = phone
        self._agent = agent
        self._lines = tuple(lines)
        self._interrupt_at = interrupt_at
        self._view = view
        self._greeting_timeout_s = greeting_timeout_s
        self._answer_timeout_s = answer_timeout_s

    def _has_begun(self) -> bool:
        return not math.isnan(self.carrier.now)

    def _now(self) -> float:
        # Before the media begins the carrier's clock has no zero.
        return self.carrier.now if self._has_begun() else 0.0

    def _state(self) -> State | None:
        # By id, because several calls are live.
        call = next((call for call in self._phone.calls if call.call_id == self.call_id), None)
        return {**call.conversation_state} if call is not None else None  # type: ignore[dict-item]

    def tap(self, at: float, name: str, payload: dict[str, Any]) -> None:
        """Record an event of this call."""
        self.log.tap(at, name, payload)
        self._view.event(self.log.events[-1].at, name, payload)

    def bus_tap(self, at: float, name: str, payload: dict[str, Any]) -> None:
        """Show an event of a tool, which no callback gets."""
        del at
        if name in TOOL_EVENTS:
            self._view.event(self._now(), name, payload)

    def stop(self) -> None:
        """Hang up now, if the call has begun: it ends normally, and the agent has not failed."""
        self.stopped = True
        # Before its stream starts, the carrier has nothing to hang up; the caller then finds no reason to speak.
        if self._has_begun():
            self.carrier.hang_up()

    async def run(self) -> None:
        """Hold the call; afterwards ``failure`` has the reason if it failed."""
        try:
            async with trio.open_nursery() as line:
                # ``start``: it returns once the call is connected, or raises ``CallRefused``.
                await line.start(self.carrier.run)
                complaint = await self._conversation()
                # Also after a failure: the agent's side has to end normally, so that its events are complete.
                self.carrier.hang_up()
                await self.carrier.over.wait()
                # Callbacks run behind the call: its last event is awaited, not assumed.
                await self._until_reported(
                    "call_end", 1, self._greeting_timeout_s, "the agent's side did not end the call"
                )
        # ``except*``, because the nursery wraps what its tasks raise.
        except* CallRefused as refused:
            self.failure = str(refused.exceptions[0])
        # The nursery's group has one failure: the others were cancelled by it.
        except* SimulationFailed as failed:
            self.failure = str(failed.exceptions[0])
        else:
            # The worst first: an error explains a complaint, and a complaint explains a silence.
            self.failure = self._error() or complaint or self._silence()
        if self.stopped:
            self.failure = STOPPED
        self._view.ended(self.call_id, self.failure)

    async def _conversation(self) -> str:
        """Speak all lines; return the failure instead of raising it, so that the call still ends normally."""
        try:
            await self._talk()
        # Returned as a complaint: an exception would cancel the carrier, and the call would end without its last
        # events.
        except SimulationFailed as failed:
            return str(failed)
        return ""

    def _error(self) -> str:
        """Return the error that the agent's side reported."""
        # There is exactly one, which ``run`` has awaited.
        (end, *_) = self.caller.payloads("call_end")
        return str(end["error"]) if "error" in end else "" if end["outcome"] != "failed" else "the call failed"

    def _silence(self) -> str:
        """Return the caller's complaint: apologies instead of answers, or no answer at all."""
        answers = [said["text"] for said in self.caller.payloads("transcript") if said["role"] == "assistant"]
        apology = self._agent.error_message
        if apology and any(apology in answer for answer in answers):
            failed = [record["data"]["reason"] for record in self.records if record["type"] == "reply_failed"]
            why = f" ({failed[0]})" if failed else ""
            return f"a reply failed{why}: the caller heard “{apology}”"
        # Turn 0 is the greeting, which answers nothing.
        answered = any(payload["turn_idx"] for payload in self.caller.payloads("agent_speech_started"))
        if self.caller.times("user_speech_eos") and not answered:
            return "the agent did not answer: the caller heard nothing after speaking"
        return ""

    def _over(self) -> bool:
        return self.stopped or self.carrier.ended is not None or bool(self.caller.times("call_end"))

    async def _talk(self) -> None:
        """Speak each line: after the answer to the previous one, or into it."""
        await self._greeted()
        for number, line in enumerate(self._lines):
            # The second recording interrupts: see ``--interrupt-at``.
            if number == 1 and self._interrupt_at is not None:
                await self._first_reply()
                await trio.sleep(self._interrupt_at)
            elif number:
                await trio.sleep(PAUSE_BEFORE_SPEAKING_S)
            if isinstance(line, Keys):
                await self._press(line.digits)
                continue
            name, samples = line
            # Before speaking: a caller does not talk to a dead line.
            if self._over():
                raise SimulationFailed(f"the call was over before the caller could say {name}")
            # Counted before speaking: the end of this utterance is the next one.
            understood = len(self.caller.times("user_speech_eos"))
            self._view.caller(self.carrier.now, name)
            await self.caller.plays(samples, name=name)
            await self._until_reported(
                "user_speech_eos", understood + 1, self._greeting_timeout_s, f"no words were recognised in {name}"
            )
            if not (number == 0 and self._interrupt_at is not None):
                await self._answered(f"its answer to {name}")

    async def _press(self, digits: str) -> None:
        """Press keys, and listen to what the agent says about them."""
        if self._over():
            raise SimulationFailed(f"the call was over before the caller could press {digits}")
        known, ended = len(self.caller.times("dtmf")), len(self.caller.times("agent_speech_ended"))
        await self.caller.presses(digits)
        await self._until_reported(
            "dtmf", known + len(digits), self._greeting_timeout_s, f"the agent did not receive the keys {digits}"
        )
        pause = 0.0 if self._agent.dtmf is None else self._agent.policy(reply=0.0).key_pause
        # By number, because what an agent says about a key belongs to no turn of the caller's.
        await self._answered(
            f"its answer to {digits}",
            lambda: len(self.caller.times("agent_speech_ended")) > ended,
            # The agent is idle until the keys are complete, without a terminator after the keypad's pause.
            silence=pause + NO_ANSWER_AFTER_S,
        )

    async def _greeted(self) -> None:
        """Listen to the greeting, if the agent speaks first."""
        with trio.move_on_after(self._greeting_timeout_s):
            while not self._over() and not self._is_ready():
                # Polled as well: readiness without a greeting is not an event.
                with trio.move_on_after(POLL_INTERVAL_S):
                    await self.log.news()
        await self._answered("its greeting")

    def _is_ready(self) -> bool:
        """Return True if the agent has begun its greeting, or can listen if it has none."""
        if self._agent.first_message:
            return bool(self.caller.times("agent_speech_started"))
        return (self._state() or {}).get("agent", "initializing") != "initializing"

    async def _first_reply(self) -> None:
        with trio.move_on_after(self._answer_timeout_s):
            while not self._over() and not any(
                payload["turn_idx"] for payload in self.caller.payloads("agent_speech_started")
            ):
                await self.log.news()
            return
        raise SimulationFailed("the agent did not answer the first recording")

    async def _answered(
        self, name: str, spoke: Callable[[], bool] | None = None, *, silence: float = NO_ANSWER_AFTER_S
    ) -> None:
        """Wait until the agent has finished: it then stays idle for a while.

        Args:
            name: what the agent answers, for the complaint.
            spoke: returns True once the agent has said something; by default, to the caller's last utterance.
            silence: seconds for which an agent that has said nothing must be idle.
        """
        with trio.move_on_after(self._answer_timeout_s):
            # Each event may end the silence, so the wait begins anew with each.
            while not self._over():
                has_spoken = (spoke or self._spoke_this_turn)()
                with trio.move_on_after(PAUSE_BEFORE_SPEAKING_S if has_spoken else silence) as quiet:
                    await self.log.news()
                idle = (self._state() or {}).get("agent") == "idle"
                # Both: a pause of the agent's tool is silence, but not idle.
                if quiet.cancelled_caught and idle:
                    return
            # Hung up by the agent: that is an end, too.
            return
        raise SimulationFailed(f"the agent did not finish {name} within {self._answer_timeout_s:g} s")

    def _spoke_this_turn(self) -> bool:
        turn = len(self.caller.times("user_speech_eos"))
        return any(payload["turn_idx"] == turn for payload in self.caller.payloads("agent_speech_ended"))

    async def _until_reported(self, name: str, times: int, patience: float, complaint: str) -> None:
        with trio.move_on_after(patience):
            while len(self.caller.times(name)) < times:
                # A call that is over brings nothing more, except its own end.
                if name != "call_end" and self._over():
                    return
                await self.log.news()
            return
        raise SimulationFailed(complaint)
