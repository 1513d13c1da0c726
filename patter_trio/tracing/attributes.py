"""Which values of a call are told as attributes of its spans, and under which names. All that is not here is not told.

Beside them: what the modules that trace have in common.
"""

from collections.abc import Mapping, Sequence
from dataclasses import fields
from typing import Any, Final

from patter_trio.metrics import results

FLUSH_TIMEOUT_S: Final = 5.0
"""Seconds that the last spans have to leave."""
SLOW_EXPORT_REMEDY: Final = "let it export from a thread of its own (BatchSpanProcessor)"
"""What to do about a provider that holds up the loop."""

Scalar = str | bool | int | float
"""What an attribute can be."""

TURN: Final = {"turn_idx": "patter.turn.idx"}
_VOICE: Final = {**TURN, "tts_provider": "patter.tts.provider"}

EDGES: Final[Mapping[str, tuple[str, Mapping[str, str]]]] = {
    "user_speech_started": (
        "patter.event.user_speech_started",
        {"audio_offset_ms": "patter.audio.offset_ms", "vad_confidence": "patter.vad.confidence"},
    ),
    "user_speech_ended": ("patter.event.user_speech_ended", {"speech_duration_ms": "patter.speech.duration_ms"}),
    "user_speech_eos": (
        "patter.event.user_speech_eos",
        {"trigger": "patter.eos.trigger", "trailing_silence_ms": "patter.eos.trailing_silence_ms"},
    ),
    "agent_speech_started": ("patter.event.agent_speech_started", {**_VOICE, "engine": "patter.engine"}),
    "agent_speech_ended": (
        "patter.event.agent_speech_ended",
        {**TURN, "speech_duration_ms": "patter.speech.duration_ms", "interrupted": "patter.turn.interrupted"},
    ),
    "llm_token": (
        "patter.event.llm_first_token",
        {"model": "gen_ai.request.model", "llm_provider": "gen_ai.provider.name", **TURN},
    ),
    "audio_out": ("patter.event.tts_first_audio", _VOICE),
}
"""Edge -> name of the span event, and its attributes by the payload's keys."""

COSTS: Final = tuple(entry.name for entry in fields(results.CostBreakdown))
STATISTICS: Final = ("avg", "p50", "p95")
LATENCIES: Final = tuple(name for name in results.LATENCIES if name != "llm_ms")  # llm_ttft_ms says the same


def named(payload: Mapping[str, Any], keys: Mapping[str, str]) -> dict[str, Scalar]:
    """Return what a payload has of these keys, under the names of the attributes."""
    return {attribute: _value(payload[key]) for key, attribute in keys.items() if key in payload}


def _value(value: Any) -> Scalar:
    """Return a value as exporters take it: a number of numpy's as one of Python's."""
    return value if isinstance(value, bool | int | float | str) else float(value)


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
