"""What is known of a call when it has been measured: frozen records, and the statistics over them.

Every latency is a difference of two instants on the call's clock, in milliseconds with one decimal. The instants:

::

    the caller speaks        S0 ────────── S1                      S0  the voice begins, S1 the last voice ends
    final words                                W                   the recogniser has them (often before S1, or after E)
    end of utterance                               E               it is decided that the caller has finished
    the mind                                           T ──── L    first and last text of the reply
    the synthesiser                                       A ─────── Z   first and last audio of the reply, made
    on the wire                                            P       the first audio is handed to the carrier

A latency whose instants there were not is None, never 0.
"""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, fields
from typing import Final


@dataclass(frozen=True, slots=True, kw_only=True)
class LatencyBreakdown:
    """Where the time of a turn went, in ms; None: there was no such thing in the turn."""

    stt_ms: float | None = None
    """S1 → W: from the end of the caller's speech to the recogniser's final words; 0 where they were there before."""
    endpoint_ms: float | None = None
    """S1 → E: from the end of the caller's speech to the decision that the caller has finished (``user_speech_eos``)."""
    llm_ms: float | None = None
    """The same as ``llm_ttft_ms``."""
    llm_ttft_ms: float | None = None
    """E → T: from the decision to the first text of ``llm`` or ``on_message``."""
    llm_total_ms: float | None = None
    """E → L: from the decision to the end of that text."""
    tts_ms: float | None = None
    """T → A: from the first text to the first audio that was made of it. A fixed text is there when the reply begins."""
    tts_total_ms: float | None = None
    """T → Z: from the first text to the last audio that was made of it."""
    bargein_ms: float | None = None
    """From the onset of the caller's voice over the agent to the end of the agent's speech, where that cut it."""
    total_ms: float | None = None
    """S1 → P: from the end of the caller's speech to the first audio of the agent on the wire: what the caller waited."""
    agent_response_ms: float | None = None
    """S1 → A: the same up to the first audio made, which is ``endpoint_ms + llm_ttft_ms + tts_ms``."""
    user_speech_duration_ms: float | None = None
    """S0 → S1: how long the caller spoke, pauses included."""


LATENCIES: Final = tuple(entry.name for entry in fields(LatencyBreakdown))
"""The names of the latencies."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CostBreakdown:
    """What was spent, in USD."""

    stt: float = 0.0
    tts: float = 0.0
    llm: float = 0.0
    """After what caching has saved."""
    telephony: float = 0.0
    total: float = 0.0
    """The sum of these four."""
    llm_cached_savings: float = 0.0
    """How much more ``llm`` would be without cached tokens."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TurnMetrics:
    """One turn: what the caller said, and the agent's answer to it. The greeting is turn 0."""

    turn_index: int
    """``turn_idx`` of the events; of an utterance that was joined by later words, that of the last ``user_speech_eos``."""
    user_text: str
    """What the caller said; empty for a greeting."""
    agent_text: str
    """What the caller heard of the answer; empty where there was no sound."""
    latency: LatencyBreakdown = field(default_factory=LatencyBreakdown)
    stt_audio_seconds: float = 0.0
    """Seconds that the recogniser listened, silence included, since the last turn was measured."""
    tts_characters: int = 0
    """Characters that were handed to the synthesiser for this turn, those of retracted answers included."""
    timestamp: float = 0.0
    """Unix time of ``user_speech_eos``; of a greeting, when it was begun."""
    interrupted: bool = False
    """The answer was cut: by the caller, by the application, or by the end of the call."""
    failed: bool = False
    """The answer failed; what was heard is the ``error_message``, or nothing."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CallMetrics:
    """A whole call."""

    call_id: str
    duration_seconds: float
    """From the first frame of the caller's audio (where none came: from its stream's opening) to the end of the call."""
    turns: tuple[TurnMetrics, ...]
    """Every turn that ``on_metrics`` was told of, in order."""
    cost: CostBreakdown
    latency_avg: LatencyBreakdown = field(default_factory=LatencyBreakdown)
    latency_p50: LatencyBreakdown = field(default_factory=LatencyBreakdown)
    latency_p90: LatencyBreakdown = field(default_factory=LatencyBreakdown)
    latency_p95: LatencyBreakdown = field(default_factory=LatencyBreakdown)
    latency_p99: LatencyBreakdown = field(default_factory=LatencyBreakdown)
    provider_mode: str = "pipeline"
    """How the agent is made: ``pipeline`` is recogniser, mind and synthesiser."""
    stt_provider: str = ""
    stt_model: str = ""
    tts_provider: str = ""
    tts_model: str = ""
    llm_provider: str = ""
    """``on_message`` where the application answers."""
    llm_model: str = ""
    """Where the application answers: the name of its function."""
    telephony_provider: str = ""


# Statistics -----------------------------------------------------------------------------------------------------------
def percentile(ordered: Sequence[float], share: float) -> float:
    """Return a quantile of ordered values by linear interpolation (Hyndman and Fan's type 7).

    Raises:
        ValueError: there are no values.
    """
    if not ordered:
        raise ValueError("no values have no percentiles")
    position = (len(ordered) - 1) * share
    below = math.floor(position)
    above = min(below + 1, len(ordered) - 1)
    return ordered[below] + (ordered[above] - ordered[below]) * (position - below)


def latency_percentile(turns: Iterable[TurnMetrics], share: float) -> LatencyBreakdown:
    """Return the percentile of each latency over these turns, of one call or of many.

    Turns that were interrupted and values that are absent are left out; ``bargein_ms``, which only interrupted turns
    have, is taken over those.
    """
    values = _values(turns)
    return LatencyBreakdown(**{name: _ms(percentile(found, share)) for name, found in values.items() if found})


def latency_average(turns: Iterable[TurnMetrics]) -> LatencyBreakdown:
    """Return the mean of each latency; what is left out is as for :func:`latency_percentile`."""
    values = _values(turns)
    return LatencyBreakdown(**{name: _ms(math.fsum(found) / len(found)) for name, found in values.items() if found})


def _values(turns: Iterable[TurnMetrics]) -> dict[str, list[float]]:
    measured = list(turns)
    values: dict[str, list[float]] = {}
    for name in LATENCIES:
        counted = [turn for turn in measured if name == "bargein_ms" or not turn.interrupted]
        found = (getattr(turn.latency, name) for turn in counted)
        values[name] = sorted(value for value in found if value is not None)
    return values


def _ms(value: float) -> float:
    return round(value, 1)
