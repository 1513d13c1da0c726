"""The metrics of a call: frozen records, and the statistics over them.

Every latency is a difference of two instants on the call's clock, in milliseconds with one decimal. The instants:

::

    the caller speaks        S0 ────────── S1                      S0  the voice begins, S1 the last voice ends
    final words                                W                   the STT has them (often before S1, or after E)
    end of utterance                               E               the decision that the caller has finished
    the responder                                      T ──── L    first and last text of the reply
    the TTS                                               A ─────── Z   first and last audio of the reply, made
    on the wire                                            P       the first audio is sent to the carrier

A latency is None, never 0, if one of its instants does not exist.
"""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, fields
from typing import Any, Final


class _Record:
    """A record of measurements that can be written as JSON."""

    __slots__ = ()

    def to_dict(self) -> dict[str, Any]:
        """Return the fields by name, nested records as dicts: what ``json.dumps`` takes."""
        # ``fields``, because every record is a dataclass; the type checker sees only this base.
        return {entry.name: _plain(getattr(self, entry.name)) for entry in fields(self)}  # type: ignore[arg-type]


def _plain(value: object) -> object:
    if isinstance(value, tuple):
        return [_plain(item) for item in value]
    return value.to_dict() if isinstance(value, _Record) else value


@dataclass(frozen=True, slots=True, kw_only=True)
class LatencyBreakdown(_Record):
    """The latencies of a turn, in ms; None for a latency that does not occur in the turn."""

    stt_ms: float | None = None
    """S1 → W: from the end of the caller's speech to the STT's final words; 0 if they came before."""
    endpoint_ms: float | None = None
    """S1 → E: from the end of the caller's speech to the decision that the caller has finished
    (``user_speech_eos``)."""
    # Twice, because both names are promised (docs/metrics.md).
    llm_ms: float | None = None
    """The same as ``llm_ttft_ms``."""
    llm_ttft_ms: float | None = None
    """E → T: from the decision to the first token of ``llm`` or ``on_message``: a text or a tool call."""
    llm_total_ms: float | None = None
    """E → L: from the decision to the end of that text."""
    tts_ms: float | None = None
    """T → A: from the first text to the first audio made from it. A fixed text exists when the reply begins."""
    tts_total_ms: float | None = None
    """T → Z: from the first text to the last audio made from it."""
    bargein_ms: float | None = None
    """From the onset of the caller's voice over the agent to the end of the agent's speech, if the voice cut it."""
    total_ms: float | None = None
    """S1 → P: from the end of the caller's speech to the agent's first audio on the wire: the caller's waiting time."""
    agent_response_ms: float | None = None
    """S1 → A: from the end of the caller's speech to the first audio made: ``endpoint_ms + llm_ttft_ms + tts_ms``.

    Tools that run before the first text are a part of it, too.
    """
    user_speech_duration_ms: float | None = None
    """S0 → S1: the duration of the caller's speech, pauses included."""


LATENCIES: Final = tuple(entry.name for entry in fields(LatencyBreakdown))
"""The names of the latencies."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CostBreakdown(_Record):
    """The costs of a call, in USD."""

    stt: float = 0.0
    tts: float = 0.0
    llm: float = 0.0
    """The cost of the LLM or engine, with the savings by cached tokens subtracted."""
    telephony: float = 0.0
    """What the carrier charges, if it has said so before ``on_call_end``; else the price of the call's minutes."""
    total: float = 0.0
    """The sum of these four."""
    llm_cached_savings: float = 0.0
    """The amount by which ``llm`` would be higher without cached tokens."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TurnMetrics(_Record):
    """The metrics of one turn: the caller's words, and the agent's answer to them. The greeting is turn 0."""

    turn_index: int
    """``turn_idx`` of the events; each ``user_speech_eos`` has a turn of its own."""
    user_text: str
    """The caller's words; empty for a greeting."""
    agent_text: str
    """The words of the answer that the caller heard; empty if there was no audio."""
    latency: LatencyBreakdown = field(default_factory=LatencyBreakdown)
    stt_audio_seconds: float = 0.0
    """Seconds of audio sent to the STT, silence included, since the last turn was measured."""
    tts_characters: int = 0
    """Characters sent to the TTS for this turn, including those of retracted answers."""
    timestamp: float = 0.0
    """Unix time of ``user_speech_eos`` in seconds; for a greeting, of its begin."""
    interrupted: bool = False
    """True if the answer was cut: by the caller, by the application, or by the end of the call.

    Also True if the caller heard nothing of it, because the utterance went on in the next turn.
    """
    failed: bool = False
    """True if the answer failed; the caller heard the ``error_message``, or nothing."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CallMetrics(_Record):
    """The metrics of a whole call."""

    call_id: str
    duration_seconds: float
    """From the caller's first audio frame (without one, from the opening of the stream) to the end of the call."""
    turns: tuple[TurnMetrics, ...]
    """Every turn that ``on_metrics`` reported, in order."""
    cost: CostBreakdown
    latency_avg: LatencyBreakdown = field(default_factory=LatencyBreakdown)
    latency_p50: LatencyBreakdown = field(default_factory=LatencyBreakdown)
    latency_p90: LatencyBreakdown = field(default_factory=LatencyBreakdown)
    latency_p95: LatencyBreakdown = field(default_factory=LatencyBreakdown)
    latency_p99: LatencyBreakdown = field(default_factory=LatencyBreakdown)
    provider_mode: str = "pipeline"
    """``pipeline`` for STT, responder and TTS; otherwise the engine's provider."""
    stt_provider: str = ""
    stt_model: str = ""
    tts_provider: str = ""
    tts_model: str = ""
    llm_provider: str = ""
    """The LLM's provider; ``on_message`` if the application answers."""
    llm_model: str = ""
    """The LLM's model; the name of the application's function if that answers."""
    telephony_provider: str = ""


# Statistics -----------------------------------------------------------------------------------------------------------
def percentile(ordered: Sequence[float], share: float) -> float:
    """Return a quantile of ordered values by linear interpolation (Hyndman and Fan's type 7).

    Raises:
        ValueError: there are no values.
    """
    if not ordered:
        raise ValueError("percentile needs at least one value, got none")
    # Type 7 is what numpy and most spreadsheets compute, so the figures can be checked against them.
    position = (len(ordered) - 1) * share
    below = math.floor(position)
    above = min(below + 1, len(ordered) - 1)
    return ordered[below] + (ordered[above] - ordered[below]) * (position - below)


def latency_percentile(turns: Iterable[TurnMetrics], share: float) -> LatencyBreakdown:
    """Return the percentile of each latency over these turns, of one call or of many.

    Interrupted turns and absent values are left out, except for ``bargein_ms``, which only interrupted turns have.
    """
    values = _values(turns)
    return LatencyBreakdown(**{name: _ms(percentile(found, share)) for name, found in values.items() if found})


def latency_average(turns: Iterable[TurnMetrics]) -> LatencyBreakdown:
    """Return the mean of each latency, over the same turns as :func:`latency_percentile`."""
    values = _values(turns)
    # fsum, so that the mean does not depend on the order of the turns.
    return LatencyBreakdown(**{name: _ms(math.fsum(found) / len(found)) for name, found in values.items() if found})


def _values(turns: Iterable[TurnMetrics]) -> dict[str, list[float]]:
    measured = list(turns)
    values: dict[str, list[float]] = {}
    for name in LATENCIES:
        # An interrupted turn ends with the cut, which says nothing about its providers.
        counted = [turn for turn in measured if name == "bargein_ms" or not turn.interrupted]
        found = (getattr(turn.latency, name) for turn in counted)
        values[name] = sorted(value for value in found if value is not None)
    return values


def _ms(value: float) -> float:
    return round(value, 1)
