"""The nouns of the turn machine: the states of both sides, the deadlines, and the live reply."""

import math
from enum import StrEnum

import attrs


class CallerState(StrEnum):
    """What the caller is doing."""

    SILENT = "silent"
    SPEAKING = "speaking"
    PAUSING = "pausing"
    """The voice has ended; whether the utterance has ended is not decided yet."""
    HELD = "held"
    """A turn detector calls the utterance unfinished, so the machine waits for more."""
    AWAY = "away"


class AgentState(StrEnum):
    """What the agent's side is doing."""

    INITIALIZING = "initializing"
    IDLE = "idle"
    THINKING = "thinking"
    """A reply is live but none of its audio is at the carrier: not yet, or there is a gap."""
    SPEAKING = "speaking"
    CLOSING = "closing"
    """The agent's side hung up or transferred the call, and the carrier has not confirmed it."""
    FLUSHING = "flushing"
    """The caller is gone, and the STT may still deliver words."""
    ENDED = "ended"


class Timer(StrEnum):
    """The deadlines. When two are due at the same instant, the one listed first fires first."""

    ENDPOINT = "endpoint"
    FINAL = "final"
    HOLD = "hold"
    STUCK = "stuck"
    OVERLAP = "overlap"
    DRAIN = "drain"
    REPLY = "reply"
    GOODBYE = "goodbye"
    LEG = "leg"
    FLUSH = "flush"
    AWAY = "away"


PUBLIC_USER = {
    CallerState.SILENT: "listening",
    CallerState.SPEAKING: "speaking",
    CallerState.PAUSING: "listening",
    CallerState.HELD: "thinking",
    CallerState.AWAY: "away",
}
"""The public state of the caller (``conversation_state``) for each internal one."""
PUBLIC_AGENT = {
    AgentState.INITIALIZING: "initializing",
    AgentState.IDLE: "idle",
    AgentState.THINKING: "thinking",
    AgentState.SPEAKING: "speaking",
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
    """True if it answers the newest user entry; False if the application asked for it."""
    audio: bool = False
    opened: bool = False
    started: bool = False
    """True once the caller has heard some of it: agent_speech_started was told."""
    produced: bool = False
    busy: float = -math.inf
    """Until when it may be waiting for a tool."""

    def __str__(self) -> str:
        """Return its number and its flags."""
        marks = [name for name in ("audio", "opened", "started", "produced") if getattr(self, name)]
        return f"reply {self.number} ({', '.join(marks) or 'nothing yet'})"
