"""A fault of the catalogue, and what the caller hears after it."""

from enum import StrEnum
from typing import Final

import attrs

from patter_trio.testing.faults.injections import FaultInjection

IGNORED: Final = "ignoring an invalid message from the carrier: "
"""The beginning of the log line about a message that the codec refuses."""


class Hears(StrEnum):
    """The part of the agent's replies that the caller hears after a fault."""

    EVERY_WORD = "every word"
    """Each reply to its end, without a gap, unless the caller interrupts it."""
    EVERY_WORD_LATER = "every word, after a gap"
    """Each reply to its end, unless the caller interrupts it; what the fault held up comes after it."""
    NOTHING_MORE = "nothing more"
    """Only what was sent before the fault."""


@attrs.frozen
class Fault:
    """A way in which a carrier, a network or an impostor misbehaves.

    ``outcome``: the outcome of the call that is under way; empty if the call continues. ``within``: seconds from the
    injection to the end of the call. ``why``: a regular expression for the one line at WARNING that the log has about
    the fault; empty if there is no such line, because nothing needs attention. ``harmless``: the conversation is the
    same as without the fault, to the letter and to the millisecond. ``hears``: what the caller hears from then on;
    after a fault that ends the call, nothing. ``deaf``: the fault keeps from the agent what the caller says, so that
    questions may stay unanswered.
    """

    name: str
    kind: str
    """The part that is affected: connection, frames, messages, media, marks or webhooks."""
    peer: str
    """A description of what the other side does, for the table."""
    injection: FaultInjection = attrs.field(repr=False)
    outcome: str = ""
    within: float = 0.0
    why: str = ""
    harmless: bool = False
    hears: Hears = Hears.EVERY_WORD
    deaf: bool = False
