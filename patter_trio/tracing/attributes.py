"""The values of a call that become attributes of its spans, with their names. Nothing else of an event is recorded.

Beside them: what the modules that trace have in common.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import fields
from typing import Any, Final, Generic, TypeVar

import attrs

from patter_trio.metrics import results
from patter_trio.metrics.public_events import (
    AgentSpeechEnded,
    AgentSpeechStarted,
    AudioOut,
    LlmToken,
    UserSpeechEnded,
    UserSpeechEos,
    UserSpeechStarted,
)

FLUSH_TIMEOUT_S: Final = 5.0
"""Seconds that the last spans have to leave."""
SLOW_EXPORT_REMEDY: Final = "let it export from a thread of its own (BatchSpanProcessor)"
"""What to do about a provider that holds up the loop."""

Scalar = str | bool | int | float
"""What an attribute can be."""

TURN: Final = "patter.turn.idx"

Edge = TypeVar("Edge")


@attrs.frozen
class SpanEvent(Generic[Edge]):
    """The record of a speech edge on the call's span."""

    edge: type[Edge]
    name: str
    values: Mapping[str, Callable[[Edge], Scalar | None]]
    """How to read each attribute from the edge; None: the attribute is absent."""

    def attributes(self, edge: Edge) -> dict[str, Scalar]:
        """Return the attributes of an edge."""
        return present({attribute: value(edge) for attribute, value in self.values.items()})


SPAN_EVENTS: Final = (
    SpanEvent(
        UserSpeechStarted,
        "patter.event.user_speech_started",
        {
            "patter.audio.offset_ms": lambda edge: edge.audio_offset_ms,
            "patter.vad.confidence": lambda edge: edge.vad_confidence,
        },
    ),
    SpanEvent(
        UserSpeechEnded,
        "patter.event.user_speech_ended",
        {"patter.speech.duration_ms": lambda edge: edge.speech_duration_ms},
    ),
    SpanEvent(
        UserSpeechEos,
        "patter.event.user_speech_eos",
        {
            "patter.eos.trigger": lambda edge: edge.trigger,
            "patter.eos.trailing_silence_ms": lambda edge: edge.trailing_silence_ms,
        },
    ),
    SpanEvent(
        AgentSpeechStarted,
        "patter.event.agent_speech_started",
        {
            TURN: lambda edge: edge.turn_idx,
            "patter.tts.provider": lambda edge: edge.tts_provider,
            "patter.engine": lambda edge: edge.engine,
        },
    ),
    SpanEvent(
        AgentSpeechEnded,
        "patter.event.agent_speech_ended",
        {
            TURN: lambda edge: edge.turn_idx,
            "patter.speech.duration_ms": lambda edge: edge.speech_duration_ms,
            "patter.turn.interrupted": lambda edge: edge.interrupted,
        },
    ),
    SpanEvent(
        LlmToken,
        "patter.event.llm_first_token",
        {
            "gen_ai.request.model": lambda edge: edge.model,
            "gen_ai.provider.name": lambda edge: edge.llm_provider,
            TURN: lambda edge: edge.turn_idx,
        },
    ),
    SpanEvent(
        AudioOut,
        "patter.event.tts_first_audio",
        {TURN: lambda edge: edge.turn_idx, "patter.tts.provider": lambda edge: edge.tts_provider},
    ),
)
"""What is recorded of each speech edge."""

COSTS: Final = tuple(entry.name for entry in fields(results.CostBreakdown))
STATISTICS: Final = ("avg", "p50", "p95")
LATENCIES: Final = tuple(name for name in results.LATENCIES if name != "llm_ms")  # llm_ttft_ms says the same


def present(values: Mapping[str, Any]) -> dict[str, Scalar]:
    """Return the attributes that have a value, as exporters take them: a number of numpy's as one of Python's."""
    return {
        name: value if isinstance(value, bool | int | float | str) else float(value)
        for name, value in values.items()
        if value is not None
    }


def costs(cost: Any) -> dict[str, Scalar]:
    """Return what a call has cost, in USD; nothing where there is no breakdown, or no such number in it."""
    return _numbers("patter.cost", cost, COSTS)


def latencies(measured: Any) -> dict[str, Scalar]:
    """Return the statistics of a call's latencies, in ms; nothing where there are none."""
    found: dict[str, Scalar] = {}
    for statistic in STATISTICS:
        breakdown = getattr(measured, f"latency_{statistic}", None)
        found |= _numbers(f"patter.latency.{statistic}", breakdown, LATENCIES)
    return found


def hook_times(hooks: Mapping[str, Sequence[float]]) -> dict[str, Scalar]:
    """Return how often each hook was asked, and the sum and the longest of its times (given in seconds), in ms."""
    told: dict[str, Scalar] = {}
    for name, (count, total, longest) in hooks.items():
        told[f"patter.hook.{name}.count"] = int(count)
        told[f"patter.hook.{name}.total_ms"] = round(total * 1000, 1)
        told[f"patter.hook.{name}.max_ms"] = round(longest * 1000, 1)
    return told


def _numbers(prefix: str, values: Any, names: tuple[str, ...]) -> dict[str, Scalar]:
    numbers = {name: getattr(values, name, None) for name in names}
    return {f"{prefix}.{name}": float(number) for name, number in numbers.items() if number is not None}
