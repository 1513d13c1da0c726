"""Rules by which the seven speech edges change the public states and count turns, for the session and for adapters."""

from collections.abc import Mapping
from typing import Final, Literal

import attrs

from patter_trio.metrics.public_events import (
    AgentSpeechEnded,
    AgentSpeechStarted,
    AudioOut,
    LlmToken,
    SpeechEdge,
    UserSpeechEnded,
    UserSpeechStarted,
)

EDGES: Final = (
    "user_speech_started",
    "user_speech_ended",
    "user_speech_eos",
    "agent_speech_started",
    "agent_speech_ended",
    "llm_token",
    "audio_out",
)
"""The names of the seven edges."""
# They measure the first reaction; a second one in the turn, after a tool or a restart, would falsify latencies.
ONCE_A_TURN: Final = frozenset({"llm_token", "audio_out"})
"""Edges that are reported once in a turn. ``user_speech_eos`` arms them again."""
Side = Literal["user", "agent"]
# For adapters only: the pipeline's edges follow the states of the turn machine, which set_states() takes over.
STATES_AFTER: Final[Mapping[str, Mapping[Side, str]]] = {
    "user_speech_started": {"user": "speaking"},
    "user_speech_ended": {"user": "listening"},
    "user_speech_eos": {"user": "listening", "agent": "thinking"},
    "agent_speech_started": {"agent": "speaking"},
    "agent_speech_ended": {"agent": "idle"},
}
"""The public states that each edge leads to. A side that an edge leaves out keeps its state."""


class EdgeRules:
    """The public states of one conversation, its turn, and the first edges that were reported in the turn."""

    def __init__(self) -> None:
        self.user: str = "listening"
        self.agent: str = "initializing"
        self.turn_idx: int = 0
        self._reported: set[str] = set()

    def __repr__(self) -> str:
        return f"<EdgeRules turn {self.turn_idx}, user {self.user}, agent {self.agent}>"

    def was_counted(self, name: str) -> bool:
        """Return True if this first edge was reported in the current turn."""
        return name in self._reported

    def count(self, name: str) -> bool:
        """Count an edge. Return True if it is to be reported, False if it repeats a first edge of its turn."""
        if name in self._reported:
            return False
        if name == "user_speech_eos":
            self.turn_idx += 1
            # A new turn: llm_token and audio_out may be reported once more.
            self._reported.clear()
        elif name in ONCE_A_TURN:
            self._reported.add(name)
        return True

    def set_states(self, user: str, agent: str) -> None:
        """Set both public states."""
        self.user, self.agent = user, agent

    def move(self, name: str) -> None:
        """Set the public states to those that an edge leads to."""
        # llm_token and audio_out change no state.
        states = STATES_AFTER.get(name, {})
        self.user = states.get("user", self.user)
        self.agent = states.get("agent", self.agent)


def complete_edge(edge: SpeechEdge, timestamp_ms: int, turn_idx: int, audio_offset_ms: int | None) -> SpeechEdge:
    """Return an edge with the fields that an adapter left out: its time, its turn, and its offset in the audio."""
    match edge:
        # Never an adapter's to say: the pipeline may have counted on meanwhile.
        case LlmToken() | AudioOut() | AgentSpeechStarted() | AgentSpeechEnded():
            edge = attrs.evolve(edge, turn_idx=turn_idx)
        case UserSpeechStarted() | UserSpeechEnded() if edge.audio_offset_ms is None:
            edge = attrs.evolve(edge, audio_offset_ms=audio_offset_ms)
    return edge if edge.timestamp_ms is not None else attrs.evolve(edge, timestamp_ms=timestamp_ms)
