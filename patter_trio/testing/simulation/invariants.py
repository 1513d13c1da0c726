"""The invariants of every call, checked after each simulated one.

Each check is a pure function of the record of a call; it yields one line for each violation.
"""

import math
from bisect import bisect_left
from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import accumulate
from typing import Any, Final

import attrs

from patter_trio.testing.carriers.observed import Arrival, ProtocolFault
from patter_trio.testing.scripted_providers.audible_text import Kind, Sound
from patter_trio.testing.scripted_providers.band_limited import sounds_in
from patter_trio.testing.simulation.record import TOLERANCE_S, Event

# What is true of every call, whatever its script, is checked for every call: a test about one thing thereby tests all
# others. A check reads only the record, and knows nothing of the code that made it. The promises are those of
# docs/design.md and docs/events.md; a new promise there needs a check here.

# Promised in docs/design.md: "it takes less than a second from hang-up to the end of the last task".
MAX_END_S: Final = 1.0
"""Seconds after the hang-up within which every task of the call must have ended."""


@attrs.frozen
class CallRecord:
    """The record of a finished call."""

    events: Sequence[Event]
    arrivals: Sequence[Arrival]
    """Everything that the carrier received from the agent's server, in order."""
    faults: Sequence[ProtocolFault] = ()
    seconds: float = math.inf
    """Seconds for which the agent's server could know of the call; with none, the server need not have reported it."""
    end_callbacks: int | None = None
    """Number of calls of ``on_call_end``; None if the kit's own callback was not used."""
    left_after_end: Sequence[str] = ()
    """Names of the call's tasks that still ran :data:`MAX_END_S` after the hang-up reached the server."""
    bus: Sequence[Event] = ()
    """Every event of the callbacks and of the bus, in order."""
    left_for_good: Sequence[str] = ()
    """Names of the tasks that still ran after the server had closed."""


Check = Callable[[CallRecord], Iterator[str]]


def violations(record: CallRecord) -> list[str]:
    """Return the violations of a call: the name of the invariant, and what happened instead."""
    return [f"{name}: {finding}" for name, check in CHECKS.items() for finding in check(record)]


# The end --------------------------------------------------------------------------------------------------------------
def _nothing_left(record: CallRecord) -> Iterator[str]:
    if record.left_after_end:
        yield f"{MAX_END_S:g} s after the hang-up these tasks still ran: {', '.join(record.left_after_end)}"
    if record.left_for_good:
        yield f"after the server's end these tasks still ran: {', '.join(record.left_for_good)}"


def _ended_once(record: CallRecord) -> Iterator[str]:
    # The server never knew of this call, or had no time to begin it: there is nothing to report.
    if not record.events and not record.end_callbacks and record.seconds <= TOLERANCE_S:
        return
    ends = [event.at for event in record.events if event.name == "call_end"]
    if len(ends) != 1:
        yield f"expected one call_end, got {len(ends)}{_at(ends)}"
    # An application closes its books with ``call_end``: what comes later would be lost.
    elif record.events[-1].name != "call_end":
        late = record.events[-1]
        yield f"call_end at {ends[0]:.3f} was not the last event; {late.name} came at {late.at:.3f}"
    if record.end_callbacks not in (None, 1):
        yield f"expected one call of on_call_end, got {record.end_callbacks}"
    # A call that was announced and never connected: its media did not start, and its end is all that is reported.
    if [event.name for event in record.events] == ["call_end"]:
        return
    starts = [event.at for event in record.events if event.name == "call_start"]
    if len(starts) != 1 or record.events[0].name != "call_start":
        yield f"expected one call_start before everything else, got {len(starts)}{_at(starts)}"


def _at(times: Sequence[float]) -> str:
    return f", at {', '.join(f'{at:.3f}' for at in times)}" if times else ""


# The wire -------------------------------------------------------------------------------------------------------------
def _protocol(record: CallRecord) -> Iterator[str]:
    for fault in record.faults:
        yield f"at {fault.at:.3f} the carrier received an invalid message: {fault.message}"


def _silent_after_clear(record: CallRecord) -> Iterator[str]:
    """Audio of a reply that was cleared does not come back; the audio carries the number of its reply."""
    # By the number in the sound. The server cannot be asked: the fault would be that it believes the audio is current.
    cleared = dict[int, float]()
    for cleared_at, sounds in _between_clears(record):
        for at, sound in sounds:
            if sound.utterance in cleared:
                words = f" ({sound.words.strip()!r})" if sound.words.strip() else ""
                yield (
                    f"at {at:.3f} the carrier received audio{words} of a reply that was cleared "
                    # Taken out, so that each reply is reported once and not for each of its frames.
                    f"at {cleared.pop(sound.utterance):.3f}"
                )
        # All replies before a clear are cleared, finished ones included: none of them may sound again.
        cleared |= dict.fromkeys((sound.utterance for _, sound in sounds), cleared_at)


def _between_clears(record: CallRecord) -> Iterator[tuple[float, list[tuple[float, Sound]]]]:
    """Yield the time of each ``clear``, and infinity at the end, with the readable sounds before it and their times."""
    stretch: list[Arrival] = []
    for arrival in record.arrivals:
        if arrival.clears:
            # Divided at clears, so that a frame that the clear cut through is not joined to what follows.
            yield arrival.at, _readable(stretch)
            stretch = []
        stretch.append(arrival)
    yield math.inf, _readable(stretch)


def _readable(arrivals: Sequence[Arrival]) -> list[tuple[float, Sound]]:
    ends = list(accumulate(len(arrival.audio) for arrival in arrivals))
    # Joined, because a frame of the voice may lie across two messages. Its time is that
    # of the message that completes it.
    sounds = sounds_in(b"".join(arrival.audio for arrival in arrivals))
    return [(arrivals[bisect_left(ends, one.end)].at, one) for one in sounds if one.kind is not Kind.SOUND]


# The events -----------------------------------------------------------------------------------------------------------
def _alternate(record: CallRecord, begins: str, ends: str) -> Iterator[str]:
    opened: Event | None = None
    for event in record.events:
        if event.name == begins:
            if opened is not None:
                yield f"{begins} at {event.at:.3f} follows {begins} at {opened.at:.3f} without {ends} between them"
            opened = event
        elif event.name == ends:
            if opened is None:
                yield f"{ends} at {event.at:.3f} without {begins} before it"
            # Both halves of a pair belong to the same turn, even if a new one has begun between them.
            elif opened.payload.get("turn_idx") != event.payload.get("turn_idx"):
                begun, ended = opened.payload.get("turn_idx"), event.payload.get("turn_idx")
                yield f"{begins} at {opened.at:.3f} has turn {begun}, but {ends} at {event.at:.3f} has turn {ended}"
            opened = None


def _user_edges(record: CallRecord) -> Iterator[str]:
    yield from _alternate(record, "user_speech_started", "user_speech_ended")


def _agent_edges(record: CallRecord) -> Iterator[str]:
    yield from _alternate(record, "agent_speech_started", "agent_speech_ended")


def _eos_after_speech(record: CallRecord) -> Iterator[str]:
    speaking: float | None = None
    for event in record.events:
        if event.name == "user_speech_started":
            speaking = event.at
        elif event.name == "user_speech_ended":
            speaking = None
        elif event.name == "user_speech_eos" and speaking is not None:
            yield f"user_speech_eos at {event.at:.3f} while the caller has been speaking since {speaking:.3f}"


def _turns_count(record: CallRecord) -> Iterator[str]:
    turn, of_reply = 0, None
    for event in record.events:
        # Counted here: ``turn_idx`` is compared with what the events themselves say, not with the server's counter.
        turn += event.name == "user_speech_eos"
        index = event.payload.get("turn_idx")
        # A reply keeps its turn although an adapter commits another one meanwhile.
        if index is not None and index not in (turn, of_reply):
            yield f"{event.name} at {event.at:.3f} has turn_idx {index}, after {turn} user_speech_eos"
        if event.name in ("llm_token", "audio_out", "agent_speech_started"):
            of_reply = index
        elif event.name == "agent_speech_ended":
            of_reply = None


def _turns_pair(record: CallRecord) -> Iterator[str]:
    """On the bus, turns start and end once each, one after another, with the number that ``user_speech_eos`` counts."""
    turn, started, ended = 0, -1, -1
    for event in record.bus:
        turn += event.name == "user_speech_eos"
        index: Any = event.payload.get("turn_idx")
        if event.name == "turn_started":
            # The turn that ``eos`` has counted; a new one; and not before the last one has ended.
            if index != turn or index <= started or ended < started:
                yield f"turn_started at {event.at:.3f} has turn {index}, in turn {turn}, after turn {started}"
            started = index
        elif event.name == "turn_ended":
            if index != started or ended == index:
                yield f"turn_ended at {event.at:.3f} has turn {index}, which is not the current one"
            ended = index
    if started != ended:
        yield f"turn {started} started and never ended"


_ORDER: Final = ("llm_token", "audio_out", "agent_speech_started", "agent_speech_ended")


def _order_in_turn(record: CallRecord) -> Iterator[str]:
    """After eos: llm_token, audio_out, agent_speech_started, agent_speech_ended; the first two at most once."""
    come: dict[str, float] = {}
    for event in record.events:
        # A new turn: everything may come again.
        if event.name == "user_speech_eos":
            come = {}
        if event.name not in _ORDER:
            continue
        place = _ORDER.index(event.name)
        # Only the first two come at most once; speech may begin again after a pause, such as for a tool.
        if event.name in come and place < _ORDER.index("agent_speech_started"):
            yield f"{event.name} at {event.at:.3f} came again in one turn, first at {come[event.name]:.3f}"
        for later in _ORDER[place + 1 :]:
            if later in come and event.name not in come and place < _ORDER.index("agent_speech_started"):
                yield f"{event.name} at {event.at:.3f} came after {later} at {come[later]:.3f} in one turn"
        if event.name == "agent_speech_started" and "audio_out" not in come:
            yield f"agent_speech_started at {event.at:.3f} without audio_out before it in its turn"
        come.setdefault(event.name, event.at)


def _metrics(record: CallRecord) -> Iterator[str]:
    """Each turn is measured once, after its end; the metrics of the call hold all measured turns."""
    measured = [event.payload["turn"] for event in record.events if event.name == "metrics"]
    indices = [turn.turn_index for turn in measured]
    # In order, and each at most once.
    if indices != sorted(set(indices)):
        yield f"the turns were measured in the order {indices}"
    for end in (event for event in record.events if event.name == "call_end"):
        metrics = end.payload.get("metrics")
        if metrics is not None and list(metrics.turns) != measured:
            held = [turn.turn_index for turn in metrics.turns]
            yield f"call_end has the metrics of turns {held}, but {indices} were reported"


# The states -----------------------------------------------------------------------------------------------------------
_STATES: Final[Mapping[str, frozenset[str]]] = {
    "user": frozenset({"listening", "speaking", "thinking", "away"}),
    "agent": frozenset({"initializing", "idle", "listening", "thinking", "speaking"}),
}
# Written out here, not imported: a mistake in the package's own table would not be found with that table.
_STATE_AT: Final[Mapping[str, tuple[str, frozenset[str]]]] = {
    "user_speech_started": ("user", frozenset({"speaking"})),
    "user_speech_ended": ("user", frozenset({"listening", "thinking"})),
    "user_speech_eos": ("agent", frozenset({"thinking"})),
    "agent_speech_started": ("agent", frozenset({"speaking"})),
    "agent_speech_ended": ("agent", frozenset({"idle", "thinking"})),
}
"""The states after each event when it is reported; an engine or a waiting utterance may have changed idle to thinking.
"""


def _states(record: CallRecord) -> Iterator[str]:
    for event in record.events:
        # Unknown before the call is registered and after it is over.
        if event.state is None:
            continue
        for who, allowed in _STATES.items():
            if event.state[who] not in allowed:
                yield f"at {event.at:.3f} the {who}'s state is {event.state[who]!r}, which is not a state"
        # An eos from an adapter leaves the agent as it is. Only the call's own one has to tell the silence before it.
        if event.name in _STATE_AT and not (
            event.name == "user_speech_eos" and "trailing_silence_ms" not in event.payload
        ):
            who, allowed = _STATE_AT[event.name]
            if event.state[who] not in allowed:
                wanted = " or ".join(sorted(allowed))
                yield f"at {event.name}, {event.at:.3f}, the {who}'s state is {event.state[who]!r} instead of {wanted}"
    # A state that exists once, at the beginning: an agent that falls back into it has lost its place.
    yield from _never_initializing_again(record)


def _never_initializing_again(record: CallRecord) -> Iterator[str]:
    left: Any = None
    for event in record.events:
        if event.state is None:
            continue
        if event.state["agent"] != "initializing":
            left = event
        elif left is not None:
            yield f"at {event.at:.3f} the agent's state is 'initializing' again, after {left.state['agent']!r}"


def _in_time(record: CallRecord) -> Iterator[str]:
    for before, after in zip(record.events, record.events[1:], strict=False):
        # On one clock, so only by rounding; anything more is an event that was reported too late.
        if after.at < before.at - TOLERANCE_S:
            yield f"{after.name} at {after.at:.3f} came after {before.name} at {before.at:.3f}"


CHECKS: Final[Mapping[str, Check]] = {
    "nothing is left running": _nothing_left,
    "call_end comes exactly once": _ended_once,
    "messages follow the protocol": _protocol,
    "no sound of a cancelled reply after its clear": _silent_after_clear,
    "events come in order of time": _in_time,
    "the caller's edges alternate": _user_edges,
    "the agent's edges alternate": _agent_edges,
    "no eos while the caller speaks": _eos_after_speech,
    "turn_idx counts the eos": _turns_count,
    "turns start and end in pairs": _turns_pair,
    "order within a turn": _order_in_turn,
    "each turn is measured once": _metrics,
    "states match the events": _states,
}
"""The invariants by name, in the order in which violations are listed."""
