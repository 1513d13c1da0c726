"""The consequences of the carrier's finding that a machine has answered a call that we placed.

* A machine, with a voicemail message: the agent stops at once, waits for the end of the greeting, says the message,
  which nobody can interrupt, and hangs up; the outcome is ``voicemail``.
* A machine, or a fax, without a message: the agent hangs up, with the outcome ``voicemail``; unless the program has an
  ``on_machine_detection``, which then decides.
* A person, a screening assistant, or nobody knows: the call goes on. An assistant that asks who is calling wants an
  answer.

The seam for a detection of our own, where a carrier has none, is :func:`on_finding`: it takes any finding.
"""

from typing import Final

import trio

from patter_trio.abc import MachineDetected
from patter_trio.call.session import CallSession
from patter_trio.server.placed import PlacedCall

# Judged: greetings last 5 to 30 s; a message into a greeting is worth more than none.
GREETING_TIMEOUT_S: Final = 60.0
"""Seconds for a greeting whose end the carrier does not report; then the message is said all the same."""


def on_finding(call: CallSession, placed: PlacedCall, finding: MachineDetected, nursery: trio.Nursery) -> None:
    """Report a finding, and act on it."""
    call.machine_found(finding.answered_by, greeting_ended=finding.greeting_ended)
    request = placed.request
    # An earlier report has decided already.
    if finding.answered_by not in ("machine", "fax") or placed.left_message.is_set():
        return
    if finding.answered_by == "machine" and request.voicemail_message:
        if finding.greeting_ended:
            _leave(call, placed)
        elif not placed.greeting.is_set():
            placed.greeting.set()
            call.fall_silent()
            nursery.start_soon(_leave_at_last, call, placed)
    elif request.on_machine_detection is None:
        placed.left_message.set()
        call.leave_message("")


def _leave(call: CallSession, placed: PlacedCall) -> None:
    if not placed.left_message.is_set() and not placed.over.is_set():
        placed.left_message.set()
        call.leave_message(placed.request.voicemail_message)


async def _leave_at_last(call: CallSession, placed: PlacedCall) -> None:
    with trio.move_on_after(GREETING_TIMEOUT_S):
        await placed.over.wait()
    _leave(call, placed)
