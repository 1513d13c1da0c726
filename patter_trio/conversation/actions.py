"""What the turn machine wants done. Each is carried out by one plain function, in order, before the next input.

``at`` is the instant of the decision on the call's clock: a deadline's own time, not when the loop got to it.
"""

from typing import Literal

import attrs

EouTrigger = Literal["vad_silence", "semantic_turn_detector", "manual_commit"]


@attrs.frozen
class UserSpeechStarted:
    """Tell observers that the caller's voice began."""

    at: float
    onset: float
    confidence: float | None = None


@attrs.frozen
class UserSpeechEnded:
    """Tell observers that the caller's voice ended, after ``seconds`` of it."""

    at: float
    end: float
    seconds: float
    confidence: float | None = None


@attrs.frozen
class StateChanged:
    """The public states are these from here on (contract section 3; always before the event that caused it is told)."""

    at: float
    user: str
    agent: str


@attrs.frozen
class CommitUser:
    """The utterance is over: tell eos, and enter ``text`` in the history.

    With ``replaces`` the text takes the place of the newest user entry, whose words it begins with: the caller went on
    before the agent was heard.
    """

    at: float
    turn: int
    text: str
    trigger: EouTrigger
    trailing_silence: float
    replaces: bool = False


@attrs.frozen
class DropUser:
    """What was said while the agent spoke was too short to interrupt it; only where utterances are made of voice."""

    at: float


@attrs.frozen
class AmendUser:
    """Words came late: ``text`` takes the place of the newest user entry. No event."""

    at: float
    text: str


@attrs.frozen
class AppendUser:
    """Words that no reply will answer (the call is ending) enter the history."""

    at: float
    text: str


@attrs.frozen
class StartReply:
    """Begin a reply in a scope of its own, with a closed lane.

    ``text`` None: the mind answers the history. Otherwise that text is spoken; ``apology`` marks the configured error
    message.
    """

    at: float
    reply: int
    turn: int
    text: str | None = None
    apology: bool = False


@attrs.frozen
class OpenLane:
    """From here on the reply's audio goes to the carrier."""

    at: float
    reply: int


@attrs.frozen
class TellToken:
    """Tell llm_token."""

    at: float
    reply: int
    turn: int


@attrs.frozen
class TellAudio:
    """Tell audio_out."""

    at: float
    reply: int
    turn: int


@attrs.frozen
class TellAgentStarted:
    """Tell agent_speech_started."""

    at: float
    reply: int
    turn: int


@attrs.frozen
class CutReply:
    """Cut the lane, clear the carrier (when ``opened``), freeze what was heard, cancel the scope: synchronously.

    When ``started``: tell agent_speech_ended with ``interrupted=True`` and enter what was heard in the history.
    """

    at: float
    reply: int
    turn: int
    opened: bool
    started: bool
    reason: str


@attrs.frozen
class FinishReply:
    """The reply is over of itself. When ``started``: tell agent_speech_ended and enter what was heard in the history."""

    at: float
    reply: int
    turn: int
    started: bool


@attrs.frozen
class AskDetector:
    """Ask the turn detector about the utterance so far; the answer carries ``generation``."""

    at: float
    generation: int


@attrs.frozen
class FlushRecognizer:
    """Ask the recogniser for its last words; answered by ``Flushed``."""

    at: float


@attrs.frozen
class HangUpLeg:
    """Have the carrier end the call; answered by ``LegDown``."""

    at: float
    reason: str


@attrs.frozen
class TransferLeg:
    """Have the carrier connect the caller with somebody else; answered by ``TransferTaken`` or ``TransferFailed``."""

    at: float


@attrs.frozen
class EndCall:
    """Nothing comes after this. ``reason`` is what ended the call first."""

    at: float
    reason: str


Action = (
    UserSpeechStarted
    | UserSpeechEnded
    | StateChanged
    | CommitUser
    | DropUser
    | AmendUser
    | AppendUser
    | StartReply
    | OpenLane
    | TellToken
    | TellAudio
    | TellAgentStarted
    | CutReply
    | FinishReply
    | AskDetector
    | FlushRecognizer
    | HangUpLeg
    | TransferLeg
    | EndCall
)
