"""What the seven speech edges do to the public states and to the count of turns; one rule for all who tell them."""

from collections.abc import Mapping
from typing import Final, Literal

EDGES: Final = (
    "user_speech_started",
    "user_speech_ended",
    "user_speech_eos",
    "agent_speech_started",
    "agent_speech_ended",
    "llm_token",
    "audio_out",
)
"""The seven edges."""
FIRSTS: Final = frozenset({"llm_token", "audio_out"})
"""Edges that are told once in a turn, armed again by ``user_speech_eos``."""
OF_A_TURN: Final = frozenset({"agent_speech_started", "agent_speech_ended", *FIRSTS})
"""Edges that carry ``turn_idx``."""

Side = Literal["user", "agent"]
MOVES: Final[Mapping[str, Mapping[Side, str]]] = {
    "user_speech_started": {"user": "speaking"},
    "user_speech_ended": {"user": "listening"},
    "user_speech_eos": {"user": "listening", "agent": "thinking"},
    "agent_speech_started": {"agent": "speaking"},
    "agent_speech_ended": {"agent": "idle"},
}
"""Which public state each edge leaves."""


class EdgeRules:
    """The public states of one conversation, its turn, and which first signals of the turn were told."""

    def __init__(self) -> None:
        self.user: str = "listening"
        self.agent: str = "initializing"
        self.turn_idx: int = 0
        self._told: set[str] = set()

    def __repr__(self) -> str:
        return f"<EdgeRules turn {self.turn_idx}, user {self.user}, agent {self.agent}>"

    def told(self, name: str) -> bool:
        """Return whether a first signal of this turn was told."""
        return name in self._told

    def count(self, name: str) -> bool:
        """Take note of an edge; return whether it is to be told, or is the second of its kind in its turn."""
        if name in self._told:
            return False
        if name == "user_speech_eos":
            self.turn_idx += 1
            self._told.clear()
        elif name in FIRSTS:
            self._told.add(name)
        return True

    def move(self, name: str) -> None:
        """Bring the states to where an edge leaves them."""
        states = MOVES.get(name, {})
        self.user = states.get("user", self.user)
        self.agent = states.get("agent", self.agent)
