"""Stored events for the tests of timelines."""

from typing import Any

from patter_trio.timeline.call_timeline import CallTimeline
from patter_trio.timeline.fold import CallFacts, timeline_of

FACTS = CallFacts(call_id="CA1")


def stored(*events: tuple[float, str, dict[str, Any]]) -> list[dict[str, Any]]:
    """Return events, each given by its instant in ms, its type and its data, as they are stored."""
    return [
        {"seq": number, "call_id": "CA1", "type": name, "at_ms": at, "time": "2026-12-01T10:00:00+00:00", "data": data}
        for number, (at, name, data) in enumerate(events)
    ]


def folded(*events: tuple[float, str, dict[str, Any]]) -> CallTimeline:
    return timeline_of(FACTS, stored(*events))


def said(at: float, text: str, **more: Any) -> tuple[float, str, dict[str, Any]]:
    return at, "transcript", {"role": "user", "text": text, **more}


def answered(at: float, text: str) -> tuple[float, str, dict[str, Any]]:
    return at, "transcript", {"role": "assistant", "text": text}


def utterance(turn: int, onset: float, end: float, over: float, text: str) -> list[tuple[float, str, dict[str, Any]]]:
    """Return the events of an utterance of the caller with its words."""
    return [
        (onset + 130, "user_speech_started", {"audio_offset_ms": onset}),
        (end + 250, "user_speech_ended", {"audio_offset_ms": end, "speech_duration_ms": end - onset}),
        (over, "user_speech_eos", {"trigger": "vad_silence", "trailing_silence_ms": over - end}),
        (over, "turn_started", {"turn_idx": turn}),
        said(over, text),
    ]


GREETING = [
    (0.0, "call_start", {"caller": "+15550100001", "callee": "+15550100002", "direction": "inbound"}),
    (10.0, "turn_started", {"turn_idx": 0}),
    (10.0, "sentence", {"turn_idx": 0, "reply": 1, "text": "Good evening!"}),
    (200.0, "agent_speech_started", {"turn_idx": 0}),
    (1200.0, "agent_speech_ended", {"turn_idx": 0, "speech_duration_ms": 1000, "interrupted": False}),
    answered(1200.0, "Good evening!"),
    (1200.0, "turn_ended", {"turn_idx": 0, "reason": "completed"}),
]
CUT_REPLY = [
    (3520.0, "llm_token", {"turn_idx": 1, "llm_provider": "x", "model": "y"}),
    (3600.0, "sentence", {"turn_idx": 1, "reply": 2, "text": "We open at nine."}),
    (3700.0, "sentence", {"turn_idx": 1, "reply": 2, "text": "On Sunday we are closed."}),
    (3720.0, "agent_speech_started", {"turn_idx": 1}),
    (5120.0, "user_speech_started", {"audio_offset_ms": 5000}),
    (5250.0, "agent_speech_ended", {"turn_idx": 1, "speech_duration_ms": 1530, "interrupted": True}),
    (5250.0, "interruption", {"turn_idx": 1, "text": "We open at", "speech_duration_ms": 1530, "reason": "barge-in"}),
    answered(5250.0, "We open at"),
    (5250.0, "turn_ended", {"turn_idx": 1, "reason": "interrupted"}),
]
CALL = [*GREETING, *utterance(1, 2000, 3000, 3500, "When do you open?"), *CUT_REPLY]
"""A greeting, a question, and an answer that the caller interrupts."""
