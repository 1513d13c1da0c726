"""A catalogue of what can go wrong between carrier and server, and what a call does about each fault.

A fault strikes a simulated call at any moment; its ``injection`` is a plain function of the call's carrier::

    async with call_simulator(agent) as caller:
        await caller.at(2.0)
        FAULTS["connection reset"].injection(caller.carrier)

Every fault is injected in the words of the call's own carrier, whichever it is (``words.py``).

docs/robustness.md shows the catalogue as a table. The tests inject each fault in every phase of a call, beside a second
call that must not be affected.
"""

from typing import Final

from patter_trio.testing.faults.message_faults import MESSAGE_FAULTS
from patter_trio.testing.faults.stream_faults import STREAM_FAULTS
from patter_trio.testing.faults.webhook_faults import WEBHOOK_FAULTS

FAULTS: Final = {fault.name: fault for fault in (*STREAM_FAULTS, *MESSAGE_FAULTS, *WEBHOOK_FAULTS)}
"""The catalogue, by the names of the faults."""
