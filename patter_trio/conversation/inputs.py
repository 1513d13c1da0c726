"""Inputs: everything that can happen in a call, as the turn machine learns it.

Times are seconds on the call's clock. ``reply`` is the number that the machine gave a reply when it started it. The
machine ignores inputs of a reply that is over.
"""

import attrs

# A constant, because the machine decides by this reason: it alone may be taken back.
TRANSFERRED_REASON = "transferred"
"""The reason, and outcome, of a call that ended because the carrier connected it to another number."""


@attrs.frozen
class Ready:
    """The call is accepted, and every provider that it needs is open."""


@attrs.frozen
class VoiceStarted:
    """The caller's voice began at ``onset``, which is usually a little earlier than the VAD's decision."""

    onset: float
    # None: not every VAD has a probability.
    confidence: float | None = None


@attrs.frozen
class VoiceEnded:
    """The caller's voice ended at ``end``, which is usually a little earlier than the VAD's decision."""

    end: float
    confidence: float | None = None


@attrs.frozen
class InterimWords:
    """Words of a segment that may still change. They replace the segment's earlier ones.

    ``finished``: see ``abc.Transcript``.
    """

    text: str
    # Numbered, because several segments may be open at once: final words must replace their
    # own interim words, and no others.
    segment: int = 0
    finished: bool | None = None


@attrs.frozen
class FinalWords:
    """The final words of a segment; empty if the STT found none.

    ``finished``: see ``abc.Transcript``. ``quiet_since``: since when the VAD has heard no voice, although the silence
    is still too short to end one; None if it hears one, or does not say.
    """

    text: str
    segment: int = 0
    finished: bool | None = None
    quiet_since: float | None = None


@attrs.frozen
class KeyPressed:
    """The caller pressed a key: 0-9, ``*``, ``#`` or A-D."""

    digit: str


@attrs.frozen
class TextTyped:
    """A text of the caller's that was not spoken: it is final, and nothing follows it."""

    text: str


@attrs.frozen
class Verdict:
    """The turn detector's answer to :class:`~patter_trio.conversation.actions.AskDetector`.

    ``complete`` is the probability that the caller has finished the turn.
    """

    generation: int
    # The probability and not a decision: the threshold is a number of the policy, like all others.
    complete: float


@attrs.frozen
class TokenArrived:
    """The first text of a reply was generated."""

    # From here to ReplyFailed, the number of a reply and not the reply: a task may post for a reply that was cut
    # meanwhile, and the machine drops by this number what comes too late.
    reply: int


@attrs.frozen
class AudioArrived:
    """The first audio of a reply was synthesised. It is held back until the reply may be heard."""

    reply: int


@attrs.frozen
class OnWire:
    """Audio of a reply was sent to the carrier."""

    reply: int


@attrs.frozen
class Busy:
    """A reply is waiting for something that may take until ``until``, such as a tool."""

    reply: int
    until: float


@attrs.frozen
class Closing:
    """A reply has called a tool that runs once it was played, such as ``end_call``: it may be a goodbye."""

    reply: int


@attrs.frozen
class Produced:
    """A reply has produced its last audio. There may have been none at all."""

    reply: int


@attrs.frozen
class Drained:
    """The carrier has played everything that was sent of a reply, and no more audio of it is waiting."""

    reply: int


@attrs.frozen
class ReplyFailed:
    """The LLM, the application's callback or the TTS failed within a reply.

    ``heard_out``: the sentences before the failure are complete, and are to be heard to their end.
    """

    reply: int
    error: str
    heard_out: bool = False


@attrs.frozen
class Say:
    """The application wants a text spoken: with ``interrupt`` at once, otherwise after the present reply.

    ``digits``: the number of a request for DTMF digits, which are sent instead of a text; 0: a text is spoken.
    """

    text: str
    interruptible: bool = True
    interrupt: bool = False
    # A kind of Say, because digits take their turn among the texts: behind those that were asked for before.
    digits: int = 0
    notice: bool = False
    """True for the notice that the call is recorded."""


@attrs.frozen
class HangUp:
    """The agent's side ends the call as soon as the present reply has been played.

    ``patient``: a caller on hold is not hung up, unless nobody takes the call.
    """

    reason: str
    patient: bool = False


@attrs.frozen
class Transfer:
    """The agent's side transfers the call to another number as soon as the present reply has been played.

    ``hold``: the seconds for which the caller may be on hold, until a person has decided; 0: the carrier connects the
    caller at once.
    """

    reason: str = TRANSFERRED_REASON
    hold: float = 0.0


@attrs.frozen
class TransferAccepted:
    """The carrier accepted the transfer. Its leg is about to end."""


@attrs.frozen
class TransferFailed:
    """The carrier did not transfer the call, so the call goes on. The agent says ``text``, unless it is empty."""

    text: str = ""


@attrs.frozen
class Joined:
    """The leg is connected with that of another call: the conversation is over, and the leg goes on without it."""


@attrs.frozen
class LegDown:
    """The carrier's stream is gone. The caller hears nothing any more."""

    reason: str


@attrs.frozen
class Flushed:
    """The STT has delivered its last words."""


# Closed: the tables in turn_table.py have a rule for each, in every state, and a test walks through all of them.
Input = (
    Ready
    | VoiceStarted
    | VoiceEnded
    | InterimWords
    | FinalWords
    | KeyPressed
    | TextTyped
    | Verdict
    | TokenArrived
    | AudioArrived
    | OnWire
    | Busy
    | Closing
    | Produced
    | Drained
    | ReplyFailed
    | Say
    | HangUp
    | Transfer
    | TransferAccepted
    | TransferFailed
    | Joined
    | LegDown
    | Flushed
)
