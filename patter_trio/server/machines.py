"""Findings about who has answered a call that we placed, of the carrier or of our own, and their consequences.

* A machine, with a voicemail message: the agent stops at once, waits for the end of the greeting, says the message,
  which nobody can interrupt, and hangs up; the outcome is ``voicemail``.
* A machine, or a fax, without a message: the agent hangs up, with the outcome ``voicemail``; unless the program has an
  ``on_machine_detection``, which then decides.
* A person, a screening assistant, or nobody knows: the call goes on. An assistant that asks who is calling wants an
  answer.

A finding of our own (``conversation/answering.py``) is reported like one of the carrier's. An :class:`Ear` makes it
from the audio of the other side: if the program asks for it, or if the carrier cannot find out what the call asks for.
"""

from collections.abc import Callable
from typing import Final

import trio

from patter_trio.abc import Carrier, MachineDetected
from patter_trio.audio import g711
from patter_trio.audio.sounds import SoundMeter
from patter_trio.call.session import CallSession
from patter_trio.conversation.answering import AnswerDetector, GreetingDetector
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
            # First, as below: the next report must find that this one has been acted on.
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


class Ear:
    """Listens to the other side of a call that we placed.

    Args:
        placed: the call.
        call_id: its id.
        report: takes the findings.
        carrier_finds: True if the carrier finds the machine, and only the end of its greeting is listened for.
    """

    def __init__(
        self, placed: PlacedCall, call_id: str, report: Callable[[MachineDetected], None], *, carrier_finds: bool
    ) -> None:
        self._placed = placed
        self._call_id = call_id
        self._report = report
        self._meter = SoundMeter()
        self._detector = GreetingDetector() if carrier_finds else AnswerDetector()

    def hear(self, audio: bytes) -> None:
        """Take the newest audio of the other side, mu-law at 8 kHz, and report what it shows; empty: some was lost."""
        detector = self._detector
        # For the rest of the call: a person, or a machine that has its message, costs nothing more.
        if detector.is_done:
            return
        if not audio:
            detector.miss()
        for sound in self._meter.hear(g711.decode(audio)):
            if isinstance(detector, GreetingDetector):
                found = detector.hear(sound, is_machine=self._placed.greeting.is_set())
            else:
                found = detector.hear(sound)
            if found is not None:
                self._report(MachineDetected(self._call_id, found.answered_by, found.greeting_ended))


def ear_of(
    placed: PlacedCall, carrier: Carrier, call_id: str, report: Callable[[MachineDetected], None]
) -> Callable[[bytes], None] | None:
    """Return what listens to the other side of a call.

    None: nothing is asked for, or the carrier finds it out itself.
    """
    request = placed.request
    if request.is_acoustic or (request.machine_detection and not carrier.machine_detection):
        return Ear(placed, call_id, report, carrier_finds=False).hear
    if request.detection == "greeting_end" and carrier.machine_detection == "answer":
        return Ear(placed, call_id, report, carrier_finds=True).hear
    return None
