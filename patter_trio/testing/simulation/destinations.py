"""Answers of the phones in a simulated network: a person, an answering machine, or nobody."""

from collections.abc import Awaitable, Callable
from enum import Enum
from typing import Final

import attrs

from patter_trio.testing.simulation.caller import SimulatedCaller

ANSWER_S: Final = 3.0
"""Seconds for which a phone rings before it is answered, unless a test says otherwise."""

Script = Callable[[SimulatedCaller], Awaitable[object]]
"""What a person does on the line, who hangs up when it returns."""


class Unanswered(Enum):
    """A phone that nobody answers; each member's value is the outcome of a call to it."""

    BUSY = "busy"
    NOBODY = "no_answer"
    FAILED = "failed"
    DECLINED = "rejected"


BUSY: Final = Unanswered.BUSY
"""A busy line."""
NOBODY: Final = Unanswered.NOBODY
"""A phone that rings until the ring timeout."""
FAILED: Final = Unanswered.FAILED
"""A number that cannot be reached."""
DECLINED: Final = Unanswered.DECLINED
"""A phone on which somebody declines the call; at Twilio, which has no word for that, the outcome is ``busy``."""


@attrs.frozen
class Person:
    """A person who answers.

    Args:
        script: what the person does; the end of it hangs up.
        after: seconds for which the phone rings before.
    """

    script: Script
    after: float = ANSWER_S


@attrs.frozen
class Voicemail:
    """An answering machine: it plays its greeting and a beep, and records until the other side hangs up.

    Args:
        greeting: what it says.
        seconds: how long the greeting lasts.
        after: seconds for which the phone rings before.
        records: seconds that it records at most.
    """

    greeting: str = "Nobody is at home. Please leave a message after the tone."
    seconds: float = 4.0
    after: float = ANSWER_S
    records: float = 60.0


Destination = Person | Voicemail | Unanswered
