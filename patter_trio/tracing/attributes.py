"""The attributes of a call's spans, by name. Nothing else of an event is recorded.

The module also has the constants that the modules of ``tracing/`` share.
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

# Judged: a collector that has not answered by then is down, and a program should end on request.
FLUSH_TIMEOUT_S: Final = 5.0
"""Seconds for the export of the last spans."""
SLOW_EXPORT_REMEDY: Final = "let it export from a thread of its own (BatchSpanProcessor)"
"""The advice in the log if a tracer provider blocks the event loop."""

Scalar = str | bool | int | float
"""The type of an attribute's value."""

TURN: Final = "patter.turn.idx"

Edge = TypeVar("Edge")


@attrs.frozen
class SpanEvent(Generic[Edge]):
    """The record of a speech edge on the call's span."""

    edge: type[Edge]
    name: str
    values: Mapping[str, Callable[[Edge], Scalar | None]]
    """The function that reads each attribute from the edge; the attribute is absent if it returns None."""

    def attributes(self, edge: Edge) -> dict[str, Scalar]:
        """Return the attributes of an edge."""
        return present({attribute: value(edge) for attribute, value in self.values.items()})


# A closed list of what is read from each edge: transcript_so_far is an edge's field, too, and must never be recorded.
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
"""The record of each speech edge."""

COSTS: Final = tuple(entry.name for entry in fields(results.CostBreakdown))
# Not all five: each adds ten attributes to the span of every call.
STATISTICS: Final = ("avg", "p50", "p95")
LATENCIES: Final = tuple(name for name in results.LATENCIES if name != "llm_ms")  # llm_ttft_ms says the same


def present(values: Mapping[str, Any]) -> dict[str, Scalar]:
    """Return the attributes that have a value, in types that exporters accept: numpy's numbers become Python's."""
    return {
        # The SDK drops an attribute of another type with a warning.
        name: value if isinstance(value, bool | int | float | str) else float(value)
        for name, value in values.items()
        if value is not None
    }


# Any, because a call whose measuring failed has no figures.
def costs(cost: Any) -> dict[str, Scalar]:
    """Return the attributes for a call's costs, in USD; a cost that is missing in ``cost`` has no attribute."""
    return _numbers("patter.cost", cost, COSTS)


def latencies(measured: Any) -> dict[str, Scalar]:
    """Return the attributes for the statistics of a call's latencies, in ms; missing ones have no attribute."""
    found: dict[str, Scalar] = {}
    for statistic in STATISTICS:
        breakdown = getattr(measured, f"latency_{statistic}", None)
        found |= _numbers(f"patter.latency.{statistic}", breakdown, LATENCIES)
    return found


def hook_times(hooks: Mapping[str, Sequence[float]]) -> dict[str, Scalar]:
    """Return the attributes for each hook, in ms, from its number of calls, the sum and the longest of its seconds."""
    found: dict[str, Scalar] = {}
    for name, (count, total, longest) in hooks.items():
        found[f"patter.hook.{name}.count"] = int(count)
        found[f"patter.hook.{name}.total_ms"] = round(total * 1000, 1)
        found[f"patter.hook.{name}.max_ms"] = round(longest * 1000, 1)
    return found


def _numbers(prefix: str, values: Any, names: tuple[str, ...]) -> dict[str, Scalar]:
    numbers = {name: getattr(values, name, None) for name in names}
    return {f"{prefix}.{name}": float(number) for name, number in numbers.items() if number is not None}
