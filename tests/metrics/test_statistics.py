"""The metric records, and the statistics over many turns."""

import dataclasses
import json
from dataclasses import fields
from typing import Any

import pytest

from patter_trio import CallMetrics, CostBreakdown, LatencyBreakdown, TurnMetrics
from patter_trio.metrics.results import LATENCIES, latency_average, latency_percentile, percentile


def turn(index: int, *, interrupted: bool = False, **latencies_ms: float) -> TurnMetrics:
    return TurnMetrics(
        turn_index=index,
        user_text="Hello",
        agent_text="Yes.",
        latency=LatencyBreakdown(**latencies_ms),
        interrupted=interrupted,
    )


@pytest.mark.parametrize(
    ("values", "share", "expected"),
    [([5.0], 0.95, 5.0), ([1.0, 2.0], 0.5, 1.5), ([1.0, 2.0, 3.0, 4.0], 0.95, 3.85), ([1.0, 2.0], 1.0, 2.0)],
)
def test_percentiles_are_hyndman_and_fans_type_7(values: list[float], share: float, expected: float) -> None:
    """percentile() interpolates linearly between the values, as type 7 of Hyndman and Fan does."""
    assert percentile(values, share) == pytest.approx(expected)


def test_percentile_of_empty_list_raises() -> None:
    """percentile() of an empty list raises ValueError."""
    with pytest.raises(ValueError, match="at least one value"):
        percentile([], 0.5)


def test_interrupted_turns_and_absent_values_are_left_out() -> None:
    """Averages and percentiles leave out interrupted turns, and turns that lack the value."""
    turns = [
        turn(0, tts_ms=300.0),
        turn(1, total_ms=1000.0, tts_ms=100.0),
        turn(2, total_ms=9000.0, tts_ms=900.0, interrupted=True),
        turn(3, total_ms=1400.0),
    ]
    assert latency_average(turns) == LatencyBreakdown(total_ms=1200.0, tts_ms=200.0)
    assert latency_percentile(turns, 0.5) == LatencyBreakdown(total_ms=1200.0, tts_ms=200.0)
    assert latency_percentile(turns, 0.95) == LatencyBreakdown(total_ms=1380.0, tts_ms=290.0)


def test_barge_in_average_uses_only_barge_in_turns() -> None:
    """The average barge-in latency covers only the turns that have one."""
    turns = [turn(1, bargein_ms=250.0, interrupted=True), turn(2, bargein_ms=270.0, interrupted=True), turn(3)]
    assert latency_average(turns) == LatencyBreakdown(bargein_ms=260.0)


def test_statistics_have_one_decimal_and_handle_no_turns() -> None:
    """The statistics have one decimal, and they are empty for an empty list of turns."""
    thirds = [turn(index, total_ms=value) for index, value in enumerate((0.1, 0.1, 0.2))]
    assert latency_average(thirds).total_ms == 0.1
    assert latency_percentile(thirds, 0.95).total_ms == 0.2
    assert latency_average([]) == latency_percentile([], 0.5) == LatencyBreakdown()


@pytest.mark.parametrize(
    "record",
    [
        LatencyBreakdown(),
        CostBreakdown(),
        turn(1),
        CallMetrics(call_id="CA1", duration_seconds=1.0, turns=(), cost=CostBreakdown()),
    ],
    ids=lambda record: type(record).__name__,
)
def test_metric_records_are_frozen_and_convert_to_dicts(record: Any) -> None:
    """The metric records are frozen dataclasses, and asdict returns all their fields."""
    names = [entry.name for entry in dataclasses.fields(record)]
    with pytest.raises(dataclasses.FrozenInstanceError):
        setattr(record, names[0], 1)
    assert list(dataclasses.asdict(record)) == names


def test_the_fields_are_those_that_programs_read() -> None:
    """The metric records have the field names that applications read."""
    assert set(LATENCIES) == {
        "stt_ms", "endpoint_ms", "llm_ms", "llm_ttft_ms", "llm_total_ms", "tts_ms", "tts_total_ms", "bargein_ms",
        "total_ms", "agent_response_ms", "user_speech_duration_ms",
    }  # fmt: skip
    assert {entry.name for entry in dataclasses.fields(CostBreakdown)} == {
        "stt", "tts", "llm", "telephony", "total", "llm_cached_savings",
    }  # fmt: skip
    assert {entry.name for entry in dataclasses.fields(TurnMetrics)} >= {
        "turn_index", "user_text", "agent_text", "latency", "stt_audio_seconds", "tts_characters", "timestamp",
    }  # fmt: skip
    assert {entry.name for entry in dataclasses.fields(CallMetrics)} == {
        "call_id", "duration_seconds", "turns", "cost",
        "latency_avg", "latency_p50", "latency_p90", "latency_p95", "latency_p99",
        "provider_mode", "stt_provider", "stt_model", "tts_provider", "tts_model", "llm_provider", "llm_model",
        "telephony_provider",
    }  # fmt: skip


def test_records_become_json() -> None:
    """to_dict() gives what json.dumps takes, nested records included, and loses no field."""
    turns = (turn(0, total_ms=812.5), turn(1, interrupted=True))
    metrics = CallMetrics(call_id="CA1", duration_seconds=2.0, turns=turns, cost=CostBreakdown(llm=0.5))
    found = json.loads(json.dumps(metrics.to_dict()))
    assert found == metrics.to_dict()
    assert set(found) == {entry.name for entry in fields(CallMetrics)}
    assert found["turns"][0]["latency"]["total_ms"] == 812.5
    assert found["turns"][1]["interrupted"] is True
    assert found["cost"]["llm"] == 0.5
