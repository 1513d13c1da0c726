"""Answers of the phones in a simulated network: a person, an answering machine, or nobody."""

import math
from collections.abc import Awaitable, Callable
from enum import Enum
from typing import Any, Final

import attrs

from patter_trio.testing.simulation.caller import SimulatedCaller
from patter_trio.user_code.signatures import is_plain, takes_at_most_one

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


# When the test is written wrong, and not when somebody calls: there the error would come from inside the network, and
# the program under test would get it as a failure of its carrier.
def _checked_script(_: object, __: object, given: Any) -> None:
    # A plain function would have done all that it does before the call has any sound.
    if isinstance(given, type) or not callable(given) or is_plain(given) or not takes_at_most_one(given):
        raise TypeError(f"script must be an async function of the line, async def ann(line), got {given!r}")


def _checked_seconds(_: object, attribute: "attrs.Attribute[Any]", given: Any) -> None:
    if isinstance(given, bool) or not isinstance(given, int | float):
        raise TypeError(f"{attribute.name} must be a number of seconds, got {given!r}")
    if not 0 <= given < math.inf:
        raise ValueError(f"{attribute.name} must be seconds from 0, got {given!r}")


@attrs.frozen
class Person:
    """A person who answers.

    Args:
        script: what the person does: an async function of the line. The end of it hangs up.
        after: seconds for which the phone rings before.

    Raises:
        TypeError: an option has a wrong type.
        ValueError: ``after`` is negative or not finite.
    """

    script: Script = attrs.field(validator=_checked_script)
    after: float = attrs.field(default=ANSWER_S, validator=_checked_seconds)


@attrs.frozen
class Voicemail:
    """An answering machine: it plays its greeting and a beep, and records until the other side hangs up.

    Args:
        greeting: what it says.
        seconds: how long the greeting lasts.
        after: seconds for which the phone rings before.
        records: seconds that it records at most.

    Raises:
        TypeError: an option has a wrong type.
        ValueError: a number of seconds is negative or not finite.
    """

    greeting: str = attrs.field(
        default="Nobody is at home. Please leave a message after the tone.", validator=attrs.validators.instance_of(str)
    )
    seconds: float = attrs.field(default=4.0, validator=_checked_seconds)
    after: float = attrs.field(default=ANSWER_S, validator=_checked_seconds)
    records: float = attrs.field(default=60.0, validator=_checked_seconds)


Destination = Person | Voicemail | Unanswered
