"""The invariants of a call: each passes a sound record and finds the fault in a broken one."""

from collections.abc import Sequence
from typing import Any

import pytest

from patter_trio import CallMetrics, CostBreakdown, TurnMetrics
from patter_trio.testing.carriers.observed import Arrival, ProtocolFault
from patter_trio.testing.scripted_providers.audible_text import encode
from patter_trio.testing.simulation.invariants import CHECKS, CallRecord, violations
from patter_trio.testing.simulation.record import Event

IDLE = {"user": "listening", "agent": "idle"}
SPEAKING = {"user": "speaking", "agent": "idle"}
THINKING = {"user": "listening", "agent": "thinking"}
TALKING = {"user": "listening", "agent": "speaking"}
BOTH = {"user": "speaking", "agent": "speaking"}


def event(at: float, name: str, state: dict[str, str] | None = None, **payload: Any) -> Event:
    return Event(at, name, payload, state)


START = event(0.0, "call_start", {"user": "listening", "agent": "initializing"})
END = event(9.0, "call_end")
TURN = (
    event(1.0, "user_speech_started", SPEAKING),
    event(2.0, "user_speech_ended", IDLE),
    event(2.0, "user_speech_eos", THINKING),
    event(2.1, "llm_token", THINKING, turn_idx=1),
    event(2.2, "audio_out", THINKING, turn_idx=1),
    event(2.2, "agent_speech_started", TALKING, turn_idx=1),
    event(3.0, "user_speech_started", BOTH),
    event(3.2, "agent_speech_ended", SPEAKING, turn_idx=1, interrupted=True),
    event(3.5, "user_speech_ended", IDLE),
    event(4.0, "user_speech_eos", THINKING),
    event(4.1, "llm_token", THINKING, turn_idx=2),
    event(4.2, "audio_out", THINKING, turn_idx=2),
    event(4.2, "agent_speech_started", TALKING, turn_idx=2),
    event(5.2, "agent_speech_ended", IDLE, turn_idx=2, interrupted=False),
    event(6.0, "agent_speech_started", TALKING, turn_idx=2),  # say(): the same turn again
    event(7.0, "agent_speech_ended", IDLE, turn_idx=2, interrupted=False),
)
FIRST, SECOND = encode("cut off", 10, utterance=1), encode("whole", 10, utterance=2)
ARRIVALS = (Arrival(2.2, FIRST[:800]), Arrival(2.4, mark="a"), Arrival(3.2), Arrival(4.2, SECOND))


def record(
    events: Sequence[Event] = (START, *TURN, END), arrivals: Sequence[Arrival] = ARRIVALS, **other: Any
) -> CallRecord:
    return CallRecord(events=events, arrivals=arrivals, **other)


def without(*names: str) -> tuple[Event, ...]:
    """Return the record's events without the first event of each name."""
    left = [START, *TURN, END]
    for name in names:
        left.remove(next(one for one in left if one.name == name))
    return tuple(left)


def among(*more: Event) -> tuple[Event, ...]:
    return tuple(sorted((START, *TURN, END, *more), key=lambda one: one.at))


def turn_of(index: int) -> TurnMetrics:
    return TurnMetrics(turn_index=index, user_text="Hello", agent_text="Yes.")


def measured(at: float, index: int) -> Event:
    return event(at, "metrics", turn=turn_of(index), cost_so_far=CostBreakdown())


def metrics_of(*indices: int) -> CallMetrics:
    turns = tuple(turn_of(index) for index in indices)
    return CallMetrics(call_id="CA1", duration_seconds=9.0, turns=turns, cost=CostBreakdown())


def test_a_sound_call_has_no_finding() -> None:
    """The invariants find nothing in a sound call, with or without bus events and metrics."""
    assert violations(record()) == []
    assert violations(record(bus=turns(*PAIR_0, *PAIR_1))) == []
    end = event(9.0, "call_end", metrics=metrics_of(1, 2))
    assert violations(record((START, *TURN, measured(7.0, 1), measured(7.0, 2), end))) == []


def turns(*reported: tuple[str, int]) -> tuple[Event, ...]:
    """Return the events of a bus that reports these turns, each eos before its turn's start."""
    eos = event(1.0, "user_speech_eos")
    return tuple(
        one
        for name, turn in reported
        for one in ([eos] if name == "turn_started" and turn else []) + [event(1.0, name, turn_idx=turn)]
    )


PAIR_0, PAIR_1 = [[("turn_started", turn), ("turn_ended", turn)] for turn in (0, 1)]
BROKEN = [
    ("turns start and end in pairs", record(bus=turns(*PAIR_0, *PAIR_0)), "has turn 0, in turn 0, after turn 0"),
    ("turns start and end in pairs", record(bus=turns(("turn_started", 2))), "has turn 2, in turn 1, after turn -1"),
    ("turns start and end in pairs", record(bus=turns(*PAIR_0, ("turn_started", 1))), "turn 1 started and never ended"),
    (
        "turns start and end in pairs",
        record(bus=turns(("turn_ended", 0))),
        "turn_ended at 1.000 has turn 0, which is not",
    ),
    ("turns start and end in pairs", record(bus=turns(*PAIR_1, ("turn_ended", 1))), "has turn 1, which is not"),
    (
        "turns start and end in pairs",
        record(bus=turns(("turn_started", 0), *PAIR_1)),
        "turn_started at 1.000 has turn 1, in turn 1, after turn 0",
    ),
    (
        "nothing is left running",
        record(left_after_end=["call.read"]),
        "1 s after the hang-up these tasks still ran: call.read",
    ),
    ("nothing is left running", record(left_for_good=["x", "y"]), "after the server's end these tasks still ran: x, y"),
    ("call_end comes exactly once", record(without("call_end")), "expected one call_end, got 0"),
    ("call_end comes exactly once", record(among(event(9.5, "call_end"))), "got 2, at 9.000, 9.500"),
    ("call_end comes exactly once", record(among(event(9.5, "transcript"))), "not the last event; transcript came"),
    ("call_end comes exactly once", record(without("call_start")), "expected one call_start before everything else"),
    ("call_end comes exactly once", record(end_callbacks=2), "expected one call of on_call_end, got 2"),
    ("messages follow the protocol", record(faults=[ProtocolFault(1.0, "31951: no")]), "at 1.000 the carrier received"),
    (
        "no sound of a cancelled reply after its clear",
        record(arrivals=[*ARRIVALS, Arrival(5.0, FIRST[800:])]),
        "at 5.000 the carrier received audio of a reply that was cleared at 3.200",
    ),
    (
        "no sound of a cancelled reply after its clear",
        record(arrivals=[*ARRIVALS[:3], Arrival(3.3, FIRST[-160:])]),
        "audio ('off') of a reply",
    ),
    (
        "events come in order of time",
        record((START, *TURN[:2], TURN[0], END)),
        "user_speech_started at 1.000 came after user_speech_ended at 2.000",
    ),
    (
        "the caller's edges alternate",
        record(without("user_speech_ended")),
        "user_speech_started at 3.000 follows user_speech_started at 1.000",
    ),
    (
        "the caller's edges alternate",
        record(without("user_speech_started")),
        "user_speech_ended at 2.000 without user_speech_started",
    ),
    (
        "the agent's edges alternate",
        record(without("agent_speech_started")),
        "agent_speech_ended at 3.200 without agent_speech_started",
    ),
    (
        "the agent's edges alternate",
        record(without("agent_speech_ended")),
        "agent_speech_started at 4.200 follows agent_speech_started at 2.200",
    ),
    (
        "the agent's edges alternate",
        record((START, *TURN[:6], event(3.0, "agent_speech_ended", IDLE, turn_idx=2), END)),
        "has turn 1, but agent_speech_ended at 3.000 has turn 2",
    ),
    (
        "no eos while the caller speaks",
        record(among(event(1.5, "user_speech_eos", THINKING))),
        "user_speech_eos at 1.500 while the caller has been speaking since 1.000",
    ),
    (
        "turn_idx counts the eos",
        record(without("user_speech_eos")),
        "llm_token at 2.100 has turn_idx 1, after 0 user_speech_eos",
    ),
    (
        "order within a turn",
        record(among(event(2.15, "llm_token", turn_idx=1))),
        "llm_token at 2.150 came again in one turn",
    ),
    (
        "order within a turn",
        record((START, *TURN[:3], TURN[4], event(2.3, "llm_token", turn_idx=1), END)),
        "llm_token at 2.300 came after audio_out at 2.200",
    ),
    ("order within a turn", record(without("audio_out")), "agent_speech_started at 2.200 without audio_out"),
    (
        "each turn is measured once",
        record(among(measured(3.2, 1), measured(5.2, 1))),
        "the turns were measured in the order [1, 1]",
    ),
    (
        "each turn is measured once",
        record(among(measured(3.2, 2), measured(5.2, 1))),
        "the turns were measured in the order [2, 1]",
    ),
    (
        "each turn is measured once",
        record((START, *TURN, measured(5.2, 1), event(9.0, "call_end", metrics=metrics_of(1, 2)))),
        "call_end has the metrics of turns [1, 2], but [1] were reported",
    ),
    (
        "states match the events",
        record((START, event(1.0, "user_speech_started", IDLE), END)),
        "at user_speech_started, 1.000, the user's state is 'listening' instead of speaking",
    ),
    (
        "states match the events",
        record((START, event(1.0, "dtmf", {"user": "asleep", "agent": "idle"}), END)),
        "the user's state is 'asleep', which is not a state",
    ),
    (
        "states match the events",
        record((START, *TURN, event(8.0, "dtmf", {"user": "listening", "agent": "initializing"}), END)),
        "'initializing' again, after 'idle'",
    ),
]


@pytest.mark.parametrize(("rule", "broken", "finding"), BROKEN)
def test_a_broken_call_is_found_out(rule: str, broken: CallRecord, finding: str) -> None:
    """Each broken record violates its invariant, and the finding names the event and its instant."""
    found = [line for line in violations(broken) if line.startswith(rule + ": ")]
    assert any(finding in line for line in found), violations(broken)


def test_every_rule_has_a_broken_call() -> None:
    """The table of broken records covers each invariant."""
    assert {rule for rule, _, _ in BROKEN} == set(CHECKS)


def test_reply_cleared_in_gap_allows_next_reply() -> None:
    """The invariants accept that the next reply plays after a clear in a gap of the reply before it."""
    again = [Arrival(1.0, FIRST[:320]), Arrival(1.5), Arrival(1.6), Arrival(2.0, SECOND)]
    assert violations(record(arrivals=again)) == []


def test_call_ending_at_once_needs_no_events() -> None:
    """The invariants accept a call of zero seconds without any event."""
    assert violations(CallRecord(events=(), arrivals=(), seconds=0.0, end_callbacks=0)) == []
    assert violations(CallRecord(events=(), arrivals=(), seconds=0.1, end_callbacks=0)) != []
