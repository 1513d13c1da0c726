"""The faults of the webhooks that a carrier sends about a call beside its stream: repeated, early, late, and lost."""

from typing import Final

from patter_trio.testing.faults.fault import Fault
from patter_trio.testing.faults.injections import news

# The stream alone decides when a live call ends: a report may be early, and the caller still has words to say. So each
# of these is harmless, to the millisecond.
WEBHOOK_FAULTS: Final = (
    Fault(
        "announced again", "webhooks", "announces the call again, three times", news("voice", times=3), harmless=True
    ),
    Fault("late ringing", "webhooks", "reports that the call rings, after its answer", news("ringing"), harmless=True),
    Fault(
        "early end",
        "webhooks",
        "reports twice that the call is over, while it is not",
        news("completed", times=2),
        harmless=True,
    ),
    Fault("busy in the call", "webhooks", "reports that the line is busy", news("busy"), harmless=True),
    Fault(
        "end of an unknown call",
        "webhooks",
        "reports twice that a call is over which nobody has announced",
        news("completed", times=2, unknown_call=True),
        harmless=True,
    ),
    Fault(
        "recording of an unknown call",
        "webhooks",
        "reports twice the recording of a call that nobody has announced",
        news("recording", times=2, unknown_call=True),
        harmless=True,
    ),
    Fault(
        "machine in the call",
        "webhooks",
        "reports twice that a machine answered a call that came in",
        news("machine", times=2),
        harmless=True,
    ),
)
