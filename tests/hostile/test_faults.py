"""Every fault of the catalogue, in the phases of a call and at the awaits of its stream, beside a healthy call.

Each carrier has the same faults in its own words. By default Twilio has all of them, and the others those of the marks
and the webhooks, which they have least in common; with ``--deep`` each has all.

By default each fault is tried in one phase, a different one for each, and with ``--deep`` in two phases and at two
awaits. ``PATTER_HOSTILE=full`` tries all phases and one await in twenty; ``PATTER_HOSTILE=every`` tries every await,
which takes hours.
"""

import functools
import logging
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

import pytest

from patter_trio.scripts import whole_units
from patter_trio.testing.faults import FAULTS, Fault, Hears
from patter_trio.testing.simulation.carriers import CARRIERS
from tests.kit.depth import chosen
from tests.kit.shared_server import (
    ENDING,
    GOODBYE,
    PHASES,
    SCRIPT,
    ServedCall,
    day,
    events_of,
    in_virtual_time,
    sweep,
)

pytestmark = pytest.mark.no_coverage

EVERY = os.environ.get("PATTER_HOSTILE") == "every"
FULL = EVERY or os.environ.get("PATTER_HOSTILE") == "full"
CASES = list(FAULTS.values())
GROUPS: dict[str, list[Fault]] = {fault.name if FULL else fault.kind: [] for fault in CASES}
for _fault in CASES:
    GROUPS[_fault.name if FULL else _fault.kind].append(_fault)
AWAITS = 250
"""Reads and writes that a call makes at least."""
STRIDE = 1 if EVERY else 20 if FULL else AWAITS // 2
PARTS = 8 if EVERY else 1
"""Tests that share the awaits of a fault."""


def phases_of(fault: Fault, *, deep: bool) -> list[str]:
    names = list(PHASES)
    first = CASES.index(fault)
    return names if FULL else [names[(first + step) % len(names)] for step in ((0, 6) if deep else (0,))]


BY_CARRIER = [(name, group) for name in CARRIERS for group in GROUPS]
each_fault_and_carrier = pytest.mark.parametrize(
    ("name", "group"),
    chosen(
        BY_CARRIER, [(name, group) for name, group in BY_CARRIER if name == "twilio" or group in ("marks", "webhooks")]
    ),
)


@functools.cache
def undisturbed(name: str = "twilio") -> tuple[list[Any], int]:
    """Return the events of an undisturbed call, and the number of reads and writes of its stream."""
    line, _ = in_virtual_time(partial(day, (), name))
    assert line.findings() == []
    assert line.caller.dialogue == [
        ("assistant", "Good evening."),
        ("user", "Your hours?"),
        ("assistant", "From"),
        ("user", "Stop."),
        ("assistant", "Yes."),
        ("assistant", "Bye."),
    ]
    assert line.carrier.faulty_stream is not None
    return events_of(line), line.carrier.faulty_stream.operations


def said_of(line: ServedCall, caplog: pytest.LogCaptureFixture, level: int) -> list[str]:
    """Return the log lines about a call at or above a level."""
    about = f"call {line.call_id}: "
    lines = [
        (record.levelno, record.getMessage()) for record in caplog.records if record.name.startswith("patter_trio")
    ]
    return [text.removeprefix(about) for severity, text in lines if severity >= level and text.startswith(about)]


NEVER_CONNECTED = (
    "its media stream never connected",
    "its media stream failed: the carrier could not open it",
    "its media stream failed: connection_failed",
)
"""The errors of calls that were announced and had no media."""


def assert_ended_well(line: ServedCall, outcome: str, caplog: pytest.LogCaptureFixture) -> None:
    assert line.findings() == []  # once, nothing left a second later, nothing that the carrier refuses, ...
    assert line.caller.outcome == outcome
    assert [end["outcome"] for end in line.ends] == [outcome]
    assert ("error" in line.ends[0]) <= (outcome == "failed" or bool(said_of(line, caplog, logging.WARNING)))
    # A call that never connected has a WARNING of its own instead.
    if line.ends[0].get("error") in NEVER_CONNECTED:
        return
    # The line goes on with length, turns and cost.
    ends = [text for text in said_of(line, caplog, logging.INFO) if text.startswith("ended, ")]
    assert [text.partition(";")[0] for text in ends] == [f"ended, {outcome}"]


def assert_nobody_else_noticed(healthy: ServedCall, caplog: pytest.LogCaptureFixture) -> None:
    assert events_of(healthy) == undisturbed(healthy.carrier.protocol.name)[0]
    assert healthy.findings() == []
    assert said_of(healthy, caplog, logging.WARNING) == []
    assert [record.getMessage() for record in caplog.records if record.levelno >= logging.ERROR] == []


@each_fault_and_carrier
def test_fault_affects_only_its_call_as_specified(
    name: str, group: str, caplog: pytest.LogCaptureFixture, deep: bool
) -> None:
    """Each fault in each phase has the specified effect on its call and none on another call."""
    undisturbed(name)
    caplog.clear()
    caplog.set_level(logging.INFO)
    # Over Twilio, every second fault of its kind in a quick run: a deep one has them all, each in two phases.
    faults = GROUPS[group][:: 1 if deep or FULL or name != "twilio" else 2]
    cases = [(fault, phase) for fault in faults for phase in phases_of(fault, deep=deep)]
    healthy, struck = in_virtual_time(partial(day, cases, name))
    assert_nobody_else_noticed(healthy, caplog)
    assert list(struck) == cases
    for (fault, phase), line in struck.items():
        with note(f"{fault.name}, while {phase}"):
            assert_as_specified(fault, line, caplog, at=PHASES[phase], ending=phase in ENDING)


def assert_as_specified(
    fault: Fault, line: ServedCall, caplog: pytest.LogCaptureFixture, *, at: float, ending: bool
) -> None:
    assert_ended_well(line, "agent_hung_up" if ending or not fault.outcome else fault.outcome, caplog)
    if fault.outcome:
        assert line.ended_at <= at + fault.within + 1e-6
    if fault.harmless:
        events, calm = events_of(line), undisturbed(line.carrier.protocol.name)[0]
        # Behind our close frame, any frame is the end: that of the fault may come before the next audio.
        closes_with_the_fault = at == PHASES["closing"] == line.ended_at and len(events) == len(calm)
        assert events[: -closes_with_the_fault or None] == calm[: -closes_with_the_fault or None]
    if not fault.outcome:
        assert_heard_as_reported(fault, line, ending=ending)
    lines = [text for text in said_of(line, caplog, logging.WARNING) if not ignored(text, fault)]
    if ending:
        # Elsewhere the call waits for what its carrier says; a goodbye that did not reach the caller is a warning.
        lines = [text for text in lines if fault.why or not LOST.match(text)]
    assert [text for text in lines if not fault.why or not re.search(fault.why, text)] == []
    assert len(lines) == bool(fault.why) or (ending and not lines)


LOST = re.compile("the carrier's stream was lost: |the carrier (sent nothing|stopped reading)")
"""Begin of the log line about a media stream that ended with nobody's will."""
UNREPORTED_MS = 70
"""Milliseconds of a cut reply that the caller hears and nobody reports: the clear's way, and the report's rounding."""
UNREPORTED_IN_THE_DARK_MS = 460
"""The same where the clear is held up, or a mark fails just before the cut: what the carrier may hold, and its way."""
UNPLAYED_MS = 40
"""Milliseconds of a goodbye still to be played when the carrier reports its end too early: the network's way."""
IN_THE_DARK = {"stalled reader", "pause of 0.3 s", "pause of 3 s", "reordered messages", "lost messages"} | {
    "marks never come",
    "marks of other names",
    "marks out of order",
}


def assert_heard_as_reported(fault: Fault, call: ServedCall, *, ending: bool) -> None:
    """Check each word and millisecond that the caller heard against the script, and against what was reported."""
    replies = call.replies()
    for reply in replies:
        script = next(text for text in SCRIPT if text.startswith(reply.text))
        if not reply.is_told:
            assert reply is replies[-1]
            assert fault.hears is Hears.NOTHING_MORE
        elif reply.interrupted:
            # Never more than was heard; and nearly as much.
            assert reply.text.startswith(reply.told_text)
            unreported = UNREPORTED_IN_THE_DARK_MS if fault.name in IN_THE_DARK else UNREPORTED_MS
            assert -1 <= reply.ms - reply.told_ms <= unreported
            assert reply.told_text == whole_units(script, int(reply.told_ms / 60 + 1e-6))
        elif fault.name == "marks too early" and reply is replies[-1] and reply.told_ms - reply.ms <= UNPLAYED_MS:
            # The request to hang up follows the mark; where the stream's end is the hang-up, the sound is played first.
            assert reply.told_text == SCRIPT[-1]
        else:
            assert (reply.text, reply.told_text) == (script, script)
            assert reply.ms == reply.told_ms == 60 * len(script)
        assert not reply.gaps or fault.hears is Hears.EVERY_WORD_LATER
    heard = [reply.told_text if fault.name == "marks too early" else reply.text for reply in replies]
    texts = [next(text for text in SCRIPT if text.startswith(words)) for words in heard if words]
    assert texts == sorted(texts, key=SCRIPT.index)
    if fault.hears is not Hears.NOTHING_MORE:
        assert texts[0] == SCRIPT[0]
        assert texts[-1] == SCRIPT[-1]
        assert fault.deaf or ending or texts == list(SCRIPT)


@contextmanager
def note(text: str) -> Iterator[None]:
    try:
        yield
    except AssertionError as error:
        error.add_note(text)
        raise


def ignored(text: str, fault: Fault) -> bool:
    """Return True for a line that is not the reason of a call's end.

    The one about the first invalid message comes before it. The one about a callback that blocked the loop is about the
    machine: it measures real time, and a collection of garbage may fall into it.
    """
    invalid = bool(fault.outcome) and text.startswith("ignoring an invalid message from the carrier")
    return invalid or "blocked every call for" in text


def awaits_of(fault: Fault, name: str) -> list[int]:
    """Return the numbers of the reads and writes at which a fault strikes."""
    return list(range(1 + CASES.index(fault) * 7 % STRIDE, undisturbed(name)[1] + 1, STRIDE))


@pytest.mark.deep
@pytest.mark.parametrize("part", range(PARTS))
@each_fault_and_carrier
def test_faults_at_every_read_and_write_are_contained(
    name: str, group: str, part: int, caplog: pytest.LogCaptureFixture
) -> None:
    """A fault at any read or write of the stream has its specified effect and disturbs no other call."""
    assert undisturbed(name)[1] > AWAITS
    for fault in GROUPS[group]:
        caplog.clear()
        caplog.set_level(logging.INFO)
        healthy, struck = in_virtual_time(partial(sweep, fault, awaits_of(fault, name)[part::PARTS], name))
        assert_nobody_else_noticed(healthy, caplog)
        for number, one in struck.items():
            with note(f"{fault.name}, at read or write {number}, {one.at:.3f} s into the call"):
                if one.at >= 0:
                    assert_as_specified(fault, one.line, caplog, at=one.at, ending=one.at >= GOODBYE)
                else:
                    assert_came_to_nothing_or_ended_well(one.line, caplog)


def assert_came_to_nothing_or_ended_well(line: ServedCall, caplog: pytest.LogCaptureFixture) -> None:
    """Assert that a fault before the media begins leaves no call, or a call that ends in order."""
    if line.seen():
        assert_ended_well(line, line.caller.outcome, caplog)
    else:
        assert line.ends == []
        assert line.left == []


def test_each_phase_and_each_fault_has_its_turn() -> None:
    """The default run tries every phase of a call with at least one fault."""
    tried = {phase for fault in CASES for phase in phases_of(fault, deep=False)}
    assert tried == set(PHASES)
