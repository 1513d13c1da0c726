"""The nouns of the turn machine: states of the two sides, its deadlines, and a reply in progress."""

import math
from enum import StrEnum

import attrs


class Caller(StrEnum):
    """What the caller is doing."""

    SILENT = "silent"
    SPEAKING = "speaking"
    PAUSING = "pausing"
    """The voice has ended; whether the utterance has, is not decided."""
    HELD = "held"
    """A turn detector calls the utterance unfinished, so that it is held open."""
    AWAY = "away"


class Agent(StrEnum):
    """What the agent's side is doing."""

    INITIALIZING = "initializing"
    IDLE = "idle"
    THINKING = "thinking"
    """A reply is live and nothing of it is at the carrier: not yet, or not for the moment (a gap)."""
    SPEAKING = "speaking"
    CLOSING = "closing"
    """We hung up and the carrier has not confirmed it."""
    FLUSHING = "flushing"
    """The caller is gone; the recogniser may still owe words."""
    ENDED = "ended"


class Timer(StrEnum):
    """The deadlines; of two that fall due at the same instant the earlier in this list goes first."""

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
    Caller.SILENT: "listening",
    Caller.SPEAKING: "speaking",
    Caller.PAUSING: "listening",
    Caller.HELD: "thinking",
    Caller.AWAY: "away",
}
PUBLIC_AGENT = {
    Agent.INITIALIZING: "initializing",
    Agent.IDLE: "idle",
    Agent.THINKING: "thinking",
    Agent.SPEAKING: "speaking",
    Agent.CLOSING: "idle",
    Agent.FLUSHING: "idle",
    Agent.ENDED: "idle",
}


@attrs.define
class Reply:
    """A reply that is neither finished nor cut."""

    number: int
    turn: int
    text: str | None
    apology: bool
    interruptible: bool
    answers: bool
    """It answers the newest user entry; False for what the application has said."""
    audio: bool = False
    opened: bool = False
    started: bool = False
    """It has been heard: agent_speech_started was told."""
    produced: bool = False
    busy: float = -math.inf
    """Until when it may be waiting for a tool."""

    def __str__(self) -> str:
        """Return the number and what is true of it."""
        marks = [name for name in ("audio", "opened", "started", "produced") if getattr(self, name)]
        return f"reply {self.number} ({', '.join(marks) or 'nothing yet'})"
