"""Actions: what the turn machine wants done.

The session carries out each action with one synchronous function, in order, before it looks at the next input.

``at`` is the instant of the decision on the call's clock. For a deadline that is the deadline itself, not the instant
at which the loop got round to it.
"""

import math
from typing import Literal

import attrs

EouTrigger = Literal["vad_silence", "semantic_turn_detector", "manual_commit"]


@attrs.frozen
class EmitSpeechStarted:
    """Report that the caller's voice began, at ``onset``."""

    at: float
    onset: float
    confidence: float | None = None


@attrs.frozen
class EmitSpeechEnded:
    """Report that the caller's voice ended, at ``end``, after ``seconds`` of voice."""

    at: float
    end: float
    seconds: float
    confidence: float | None = None


@attrs.frozen
class StateChanged:
    """Publish the public states. Always comes before the action whose event caused the change."""

    at: float
    user: str
    agent: str


@attrs.frozen
class CommitUser:
    """Commit the utterance: report eos, and enter ``text`` in the history.

    With ``replaces`` the text replaces the newest user entry: the caller went on before the agent was heard, or was
    misheard, so both utterances are one message. No reply follows if the caller is gone, or if :class:`ResumeGoodbye`
    does. ``typed`` is the part of this commit's text that was typed on a keypad or given as text, and ``spoken`` is
    False if that is all of it. ``began`` is the onset of its first voice, or the instant of the commit without one.
    """

    at: float
    turn: int
    text: str
    trigger: EouTrigger
    # Measured here: the session learns of the commit only when it carries it out, which may be later.
    trailing_silence: float
    replaces: bool = False
    # For engines, which cannot hear what was typed.
    typed: str = ""
    spoken: bool = True
    # For the order of the transcript. Not compared: it dates the words, and says nothing about what is decided.
    began: float = attrs.field(default=math.inf, eq=False)


@attrs.frozen
class DropUser:
    """Drop an utterance that was too short to interrupt the agent.

    Only happens where utterances are made of voice; words are never dropped.
    """

    at: float


@attrs.frozen
class ReviseUser:
    """Correct the user entry of a turn: its final words differ from the interim ones that were committed.

    on_transcript reports the words once more. Neither eos nor the answer is repeated.
    """

    at: float
    turn: int
    text: str


@attrs.frozen
class ResumeGoodbye:
    """Run the tools that waited for the end of the reply that was cut: the caller only said goodbye over it."""

    at: float


@attrs.frozen
class DropGoodbye:
    """Drop the tools that waited for the end of the reply that was cut, and let the LLM know."""

    at: float


@attrs.frozen
class Choose:
    """Have the menu act on the keys that the caller has pressed."""

    at: float
    keys: str


@attrs.frozen
class AskForWords:
    """Ask the STT for the words of a voice that goes on without words. It answers with ``FinalWords``."""

    at: float


@attrs.frozen
class StartReply:
    """Begin a reply in a cancel scope of its own. Its audio is held back until :class:`OpenPlayout`.

    Without ``text`` the LLM (or ``on_message``) answers the history; otherwise that text is spoken. ``apology`` marks
    the configured error message. ``digits`` is the number of a request for DTMF digits, which are sent instead; else 0.
    ``notice`` marks the notice that the call is recorded.
    """

    at: float
    reply: int
    turn: int
    text: str | None = None
    apology: bool = False
    digits: int = 0
    notice: bool = False


@attrs.frozen
class OpenPlayout:
    """Let the reply's audio go to the carrier from here on."""

    at: float
    reply: int


@attrs.frozen
class ReportToken:
    """Report llm_token."""

    at: float
    reply: int
    turn: int


@attrs.frozen
class ReportAudio:
    """Report audio_out."""

    at: float
    reply: int
    turn: int


@attrs.frozen
class ReportAgentStarted:
    """Report agent_speech_started."""

    at: float
    reply: int
    turn: int


@attrs.frozen
class CutReply:
    """Cut the reply, synchronously.

    That is: drop its audio, clear the carrier's buffer (when ``opened``), freeze what was heard, cancel its scope. When
    ``started``: also report agent_speech_ended with ``interrupted=True``, and enter what was heard in the history.
    """

    at: float
    reply: int
    turn: int
    # As they were before the cut: the machine has forgotten the reply by the time the session carries this out.
    opened: bool
    started: bool
    reason: str


@attrs.frozen
class FinishReply:
    """End a reply that was played to its end.

    When ``started``: also report agent_speech_ended, and enter what was heard in the history.
    """

    at: float
    reply: int
    turn: int
    started: bool


@attrs.frozen
class AskDetector:
    """Ask the turn detector about the utterance so far. The answer (``Verdict``) carries ``generation``."""

    at: float
    # The caller may have spoken on before the detector answers; the number tells which utterance it was asked about.
    generation: int


@attrs.frozen
class FlushTranscripts:
    """Ask the STT for its last words. It answers with ``Flushed``."""

    at: float


@attrs.frozen
class HangUpLeg:
    """Have the carrier end the call. It answers with ``LegDown``."""

    at: float
    reason: str


@attrs.frozen
class TransferLeg:
    """Have the carrier connect the caller to another number.

    It answers with ``TransferAccepted`` or ``TransferFailed``.
    """

    at: float


@attrs.frozen
class EndCall:
    """End the call; no action follows. ``reason`` is the first reason that the call had to end."""

    at: float
    # The first one, because later ones follow from it: a caller who hears goodbye also hangs up.
    reason: str


# Closed: ConversationRing._perform has a case for each of them.
Action = (
    EmitSpeechStarted
    | EmitSpeechEnded
    | StateChanged
    | CommitUser
    | DropUser
    | ReviseUser
    | ResumeGoodbye
    | DropGoodbye
    | Choose
    | AskForWords
    | StartReply
    | OpenPlayout
    | ReportToken
    | ReportAudio
    | ReportAgentStarted
    | CutReply
    | FinishReply
    | AskDetector
    | FlushTranscripts
    | HangUpLeg
    | TransferLeg
    | EndCall
)
