"""The turn machine's states, deadlines and rules as tables; ``machine.py`` has the rules' bodies.

A call's turn-taking is two machines that watch each other: what the caller is doing, and what the agent is doing. Each
input has a rule for every state of either; ``ignored`` is a rule, too. Nothing else decides.
"""

from collections.abc import Mapping
from enum import StrEnum
from typing import Final

from patter_trio.conversation import inputs


class Caller(StrEnum):
    """What the caller is doing."""

    SILENT = "silent"
    SPEAKING = "speaking"
    PAUSING = "pausing"
    """The voice ended; whether the utterance did is not decided."""
    HELD = "held"
    """A turn detector calls the utterance unfinished: it is held open."""
    AWAY = "away"


class Agent(StrEnum):
    """What the agent is doing."""

    INITIALIZING = "initializing"
    IDLE = "idle"
    THINKING = "thinking"
    """A reply is under way, and the caller hears nothing of it: not yet, or not at this moment (a gap)."""
    SPEAKING = "speaking"
    CLOSING = "closing"
    """We hung up; the carrier has not confirmed."""
    FLUSHING = "flushing"
    """The leg is down; the recogniser's last words are waited for."""
    ENDED = "ended"


PUBLIC_CALLER: Final[Mapping[Caller, str]] = {
    Caller.SILENT: "listening",
    Caller.SPEAKING: "speaking",
    Caller.PAUSING: "listening",
    Caller.HELD: "thinking",
    Caller.AWAY: "away",
}
PUBLIC_AGENT: Final[Mapping[Agent, str]] = {
    Agent.INITIALIZING: "initializing",
    Agent.IDLE: "idle",
    Agent.THINKING: "thinking",
    Agent.SPEAKING: "speaking",
    Agent.CLOSING: "idle",
    Agent.FLUSHING: "idle",
    Agent.ENDED: "idle",
}

DEADLINES: Final = (
    "overlap",
    "drain",
    "reply",
    "resume",
    "stuck",
    "hold",
    "final",
    "endpoint",
    "away",
    "goodbye",
    "leg",
    "flush",
)
"""Names of the deadlines; those that are due at the same instant fire in this order."""

IGNORED: Final = "ignored"


def _row(default: str = IGNORED, **rules: str) -> dict[str, str]:
    return {"default": default, **rules}


def _callers(row: dict[str, str]) -> dict[Caller, str]:
    return {state: row.get(state.value, row["default"]) for state in Caller}


def _agents(row: dict[str, str]) -> dict[Agent, str]:
    return {state: row.get(state.value, row["default"]) for state in Agent}


CALLER_RULES: Final[Mapping[type[inputs.Input], Mapping[Caller, str]]] = {
    kind: _callers(row)
    for kind, row in {
        inputs.Ready: _row(),
        inputs.VoiceStarted: _row("begin_voice", speaking=IGNORED),
        inputs.VoiceEnded: _row("end_voice_edge", speaking="end_voice"),
        inputs.Interim: _row("reopen", speaking="note_interim", pausing="await_final", held="await_final"),
        inputs.Final: _row("late_words", speaking="note_words", pausing="settle_words", held="settle_words"),
        inputs.Verdict: _row(pausing="weigh_verdict"),
        inputs.TokenArrived: _row(),
        inputs.AudioArrived: _row(),
        inputs.OnWire: _row(),
        inputs.Produced: _row(),
        inputs.Drained: _row(),
        inputs.ReplyFailed: _row(),
        inputs.Say: _row(),
        inputs.HangUp: _row(),
        inputs.LegDown: _row(),
        inputs.Flushed: _row(),
    }.items()
}
"""Rules by what the caller is doing; for words they come after the agent's (a retraction precedes the new commit)."""

AGENT_RULES: Final[Mapping[type[inputs.Input], Mapping[Agent, str]]] = {
    kind: _agents(row)
    for kind, row in {
        inputs.Ready: _row(initializing="become_ready"),
        inputs.VoiceStarted: _row(speaking="arm_overlap", thinking="arm_overlap"),
        inputs.VoiceEnded: _row(speaking="disarm_overlap", thinking="disarm_overlap"),
        inputs.Interim: _row(thinking="retract_for_words", speaking="cut_for_words"),
        inputs.Final: _row(thinking="retract_for_words", speaking="cut_for_words"),
        inputs.Verdict: _row(),
        inputs.TokenArrived: _row(thinking="tell_token", speaking="tell_token"),
        inputs.AudioArrived: _row(thinking="note_audio", speaking="note_audio"),
        inputs.OnWire: _row(thinking="start_speaking", speaking="move_drain"),
        inputs.Produced: _row(thinking="finish_production", speaking="note_production"),
        inputs.Drained: _row(speaking="run_dry"),
        inputs.ReplyFailed: _row(thinking="fail", speaking="fail"),
        inputs.Say: _row(initializing="queue_say", idle="say", thinking="queue_or_cut", speaking="queue_or_cut"),
        inputs.HangUp: _row(initializing="close", idle="close", thinking="leave", speaking="leave"),
        inputs.LegDown: _row("lose_leg", flushing=IGNORED, ended=IGNORED),
        inputs.Flushed: _row(flushing="end"),
    }.items()
}
"""Rules by what the agent is doing."""

DUE_RULES: Final[Mapping[str, str]] = {
    "overlap": "due_overlap",
    "drain": "due_drain",
    "reply": "due_reply",
    "stuck": "due_stuck",
    "hold": "due_hold",
    "final": "due_final",
    "endpoint": "due_endpoint",
    "away": "due_away",
    "goodbye": "due_goodbye",
    "leg": "due_leg",
    "flush": "due_flush",
}
"""Rules for deadlines; one that no longer applies was disarmed by what made it so."""
