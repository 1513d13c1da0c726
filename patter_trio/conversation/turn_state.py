"""The state of the turn machine: the states of both sides, the deadlines, and the live reply."""

import math
from enum import StrEnum

import attrs


# Two small machines instead of one: as one, the states below would be 35 pairs, and each rule would have to be written
# for all states of the other side.
class CallerState(StrEnum):
    """The state of the caller."""

    SILENT = "silent"
    SPEAKING = "speaking"
    PAUSING = "pausing"
    """The voice has ended; whether the utterance has ended is not decided yet."""
    HELD = "held"
    """A turn detector judges the utterance unfinished, so the machine waits for more."""
    AWAY = "away"


class AgentState(StrEnum):
    """The state of the agent's side."""

    INITIALIZING = "initializing"
    IDLE = "idle"
    THINKING = "thinking"
    """A reply is live and the carrier has no audio of it to play: the reply has not begun, or it has a gap."""
    SPEAKING = "speaking"
    CLOSING = "closing"
    """The agent's side hung up or transferred the call, and the carrier has not confirmed it yet."""
    FLUSHING = "flushing"
    """The caller is gone, and the STT may still deliver words."""
    ENDED = "ended"


# Fixed, so that the same call is decided in the same way each time. The caller's words come first, because a commit
# makes the deadlines of the reply that it replaces void.
class Timer(StrEnum):
    """The deadlines. When two are due at the same instant, the one listed first fires first."""

    ENDPOINT = "endpoint"
    FINAL = "final"
    HOLD = "hold"
    STUCK = "stuck"
    LULL = "lull"
    OVERLAP = "overlap"
    REPLY = "reply"
    GOODBYE = "goodbye"
    LEG = "leg"
    FLUSH = "flush"
    AWAY = "away"


PUBLIC_USER = {
    CallerState.SILENT: "listening",
    CallerState.SPEAKING: "speaking",
    CallerState.PAUSING: "listening",
    # Said of the caller: an utterance that is not finished is a pause for thought.
    CallerState.HELD: "thinking",
    CallerState.AWAY: "away",
}
"""The public state of the caller (``conversation_state``) for each internal one."""
PUBLIC_AGENT = {
    AgentState.INITIALIZING: "initializing",
    AgentState.IDLE: "idle",
    AgentState.THINKING: "thinking",
    AgentState.SPEAKING: "speaking",
    # In these three the agent says nothing any more; what is still to be done then does not concern observers.
    AgentState.CLOSING: "idle",
    AgentState.FLUSHING: "idle",
    AgentState.ENDED: "idle",
}
"""The public state of the agent (``conversation_state``) for each internal one."""


@attrs.define
class ReplyState:
    """The live reply: one that is neither finished nor cut."""

    number: int
    turn: int
    text: str | None
    apology: bool
    interruptible: bool
    answers: bool
    """True if the reply answers the newest user entry; False if the application asked for it."""
    audio: bool = False
    opened: bool = False
    started: bool = False
    """True once the caller has begun to hear the reply, and ``agent_speech_started`` was reported."""
    produced: bool = False
    failed: bool = False
    """True if the reply broke off behind its last finished sentence: an apology follows when that was heard."""
    closes: bool = False
    """True if a tool, such as ``end_call``, runs once the reply was played."""
    # Not None: max() with the present needs no test.
    busy: float = -math.inf
    """The instant until which the reply may wait for a tool."""

    def __str__(self) -> str:
        """Return the reply's number and flags."""
        marks = [name for name in ("audio", "opened", "started", "produced") if getattr(self, name)]
        return f"reply {self.number} ({', '.join(marks) or 'nothing yet'})"


@attrs.define
class WordFlow:
    """The record of when and how the STT gives words while the caller speaks."""

    early_end: float = -math.inf
    """When the STT or engine last ended a turn, and with it a voice; the voice may have ended a little before."""
    words_at: float = -math.inf
    """When the caller's words last changed."""
    has_final: bool = False
    """True if final words came during the present voice."""
    owes_final: bool = False
    """True if the last voice has ended, and no final words have come since it began."""
    streams: bool = False
    """True once the STT has given words of a voice that went on. Others give none before the end of a voice."""
    asked: bool = False
    """True if the STT was asked for the words of the present voice, and has not answered."""
    times_asked: int = 0
    """How often the STT was asked for the words of the present voice."""
