"""What can happen in a call, as the turn machine is told of it.

Times are seconds on the call's clock. ``reply`` is the number that the machine gave a reply when it started it;
what comes from a reply that is over is ignored.
"""

import attrs

TRANSFERRED = "transferred"
"""What ends a call that the carrier has connected with somebody else."""


@attrs.frozen
class Ready:
    """The call is accepted and everything that it needs is open."""


@attrs.frozen
class VoiceStarted:
    """The caller's voice began at ``onset``; that is usually a little before it was noticed."""

    onset: float
    confidence: float | None = None


@attrs.frozen
class VoiceEnded:
    """The caller's voice ended at ``end``; that is usually a little before it was noticed."""

    end: float
    confidence: float | None = None


@attrs.frozen
class Interim:
    """Words that may still change; replaces the segment's last ones. ``finished``: see ``abc.Transcript``."""

    text: str
    segment: int = 0
    finished: bool | None = None


@attrs.frozen
class Final:
    """The words of a segment, for good; empty when the recogniser found none. ``finished``: see ``abc.Transcript``."""

    text: str
    segment: int = 0
    finished: bool | None = None


@attrs.frozen
class Verdict:
    """A turn detector's answer to :class:`~patter_trio.conversation.actions.AskDetector`: probability of a whole turn."""

    generation: int
    complete: float


@attrs.frozen
class TokenArrived:
    """The first text of a reply has been generated."""

    reply: int


@attrs.frozen
class AudioArrived:
    """The first audio of a reply has been synthesised and waits in its lane."""

    reply: int


@attrs.frozen
class OnWire:
    """Audio of a reply was handed to the carrier; all handed over so far will have been played at ``until``."""

    reply: int
    until: float


@attrs.frozen
class Busy:
    """What thinks a reply waits for something that may take until then, such as a tool."""

    reply: int
    until: float


@attrs.frozen
class Produced:
    """A reply has put its last audio into its lane (which may have been none at all)."""

    reply: int


@attrs.frozen
class Drained:
    """The carrier has played all of a reply that it was handed, and the lane is empty."""

    reply: int


@attrs.frozen
class ReplyFailed:
    """The mind or the voice failed within a reply."""

    reply: int
    error: str


@attrs.frozen
class Say:
    """The application wants a text spoken; ``interrupt`` cuts what is being said, else it queues behind it."""

    text: str
    interruptible: bool = True
    interrupt: bool = False


@attrs.frozen
class HangUp:
    """The agent's side ends the call, after what is being said has been played."""

    reason: str


@attrs.frozen
class Transfer:
    """The agent's side hands the call over to another number, after what is being said has been played."""

    reason: str = TRANSFERRED


@attrs.frozen
class TransferTaken:
    """The carrier hands the call over; its leg is about to end."""


@attrs.frozen
class TransferFailed:
    """The carrier did not hand the call over, so that it goes on; ``text`` is what the caller is told, if anything."""

    text: str = ""


@attrs.frozen
class LegDown:
    """The carrier's stream is gone; nobody hears anything any more."""

    reason: str


@attrs.frozen
class Flushed:
    """The recogniser has delivered all that it ever will."""


Input = (
    Ready
    | VoiceStarted
    | VoiceEnded
    | Interim
    | Final
    | Verdict
    | TokenArrived
    | AudioArrived
    | OnWire
    | Busy
    | Produced
    | Drained
    | ReplyFailed
    | Say
    | HangUp
    | Transfer
    | TransferTaken
    | TransferFailed
    | LegDown
    | Flushed
)
