"""What of a call is kept: words, numbers, and what the application's function makes of texts."""

import json
import logging
from typing import Any

import pytest

from patter_trio.call_log.redaction import Redaction
from tests.kit.call_logs import CALLEE, CALLER, Events, record

TOOL: dict[str, Any] = {
    "name": "find",
    "arguments": {"name": "Ann Lee", "phone": "+15550100009", "ids": [15550100009, True, None]},
    "result": ["call +15550100009", {"note": "Ann"}],
    "duration": 0.5,
}


def kept(rule: Redaction, *records: Any) -> str:
    return json.dumps([rule.record(one) for one in records])


def everything() -> list[Any]:
    """Return one event of each kind that carries words or numbers."""
    events = Events()
    turn = {"turn_index": 1, "user_text": "Ann Lee", "agent_text": "Hello Ann", "latency": {"total_ms": 1.0}}
    return [
        events.started("CA1", custom_params={"who": "Ann +15550100009"}),
        events.said("CA1", "I am Ann Lee, +15550100009"),
        events.event("CA1", "transcript_partial", text="I am Ann"),
        events.event("CA1", "user_speech_eos", transcript_so_far="I am Ann", trigger="silence"),
        events.event("CA1", "dtmf_received", digit="7"),
        events.event("CA1", "sentence", text="Hello Ann", turn_idx=1),
        events.event("CA1", "reply_failed", reason="cannot say Ann", turn_idx=1),
        events.event("CA1", "interruption", text="Hello Ann", reason="barge-in"),
        events.event("CA1", "tool_call_completed", error="no Ann", **TOOL),
        events.event("CA1", "metrics_collected", turn=turn, cost_so_far={"total": 1.0}),
        events.ended(
            "CA1",
            transcript=[{"role": "user", "text": "Ann"}],
            metrics={"turns": [turn]},
            tool_calls=[TOOL],
            error="Ann was not found",
        ),
    ]


def test_everything_is_kept_by_default() -> None:
    """Without options, a record is stored as it is."""
    records = everything()
    assert all(Redaction().record(one) is one for one in records)


def test_without_words_nothing_said_is_kept() -> None:
    """words=False leaves out transcripts, keys, tools' values and errors, at any depth; times and facts stay."""
    written = kept(Redaction(words=False), *everything()[1:])
    assert "Ann" not in written
    assert '"digit"' not in written
    assert '"total_ms": 1.0' in written
    assert '"trigger": "silence"' in written
    assert '"name": "find"' in written


def test_without_numbers_none_is_kept() -> None:
    """numbers=False empties both numbers, and masks those in texts, also where a tool has one as an int."""
    written = kept(Redaction(numbers=False), *everything())
    for number in (CALLER, CALLEE, "+15550100009", "15550100009"):
        assert number not in written
    assert "Ann Lee" in written


def test_keys_of_tools_values_are_changed_too() -> None:
    """A tool that returns a table by names or numbers leaves none of them in its keys; equal keys are both kept."""
    table = {"Ann": 1, "+15550100009": {"Ann Lee": 2}, "+15560100009": 3}
    tool = {**TOOL, "arguments": table, "result": [table]}
    e = Events()
    records = [
        e.started("CA1", custom_params=table),
        e.event("CA1", "tool_call_completed", **tool),
        e.ended("CA1", tool_calls=[tool]),
    ]
    rule = Redaction(numbers=False, redact=lambda text: text.replace("Ann", "X"))
    written = kept(rule, *records)
    assert "Ann" not in written
    assert "5550100009" not in written
    assert len(rule.record(records[1])["data"]["arguments"]) == 3
    (entry,) = rule.record(records[2])["data"]["tool_calls"]
    assert set(entry) == set(tool)


def test_entries_keep_their_keys() -> None:
    """What changes each text changes no key of ours: transcripts and tools are read by them."""
    data = Redaction(redact=str.upper).record(everything()[-1])["data"]
    assert data["transcript"][0]["text"] == "ANN"
    assert data["tool_calls"][0]["arguments"]["NAME"] == "ANN LEE"


def test_custom_params_stay_without_words() -> None:
    """words=False keeps the application's facts, which redact changes."""
    assert "Ann" in kept(Redaction(words=False), everything()[0])
    assert "Ann" not in kept(Redaction(words=False, redact=lambda _: "X"), everything()[0])


def test_redact_changes_each_text_that_is_kept() -> None:
    """The function gets each text, at any depth."""
    written = kept(Redaction(redact=lambda text: text.replace("Ann", "X")), *everything())
    assert "Ann" not in written
    assert '"X Lee"' in written


@pytest.mark.parametrize("wrong", [lambda _: 1 / 0, lambda _: None], ids=["raises", "no text"])
def test_text_of_a_failed_redact_is_lost(wrong: Any, caplog: pytest.LogCaptureFixture) -> None:
    """A text is kept redacted or not at all; the log has one warning, without the text."""
    with caplog.at_level(logging.WARNING, "patter_trio.call_log"):
        written = kept(Redaction(redact=wrong), *everything())
    assert "Ann" not in written
    assert len(caplog.records) == 1
    assert "redact failed" in caplog.text


def test_given_record_is_not_changed() -> None:
    """All receivers of an event share its record."""
    given = record(1, "CA1", "tool_call_completed", **TOOL)
    before = json.dumps(given)
    Redaction(words=False, numbers=False, redact=str.upper).record(given)
    assert json.dumps(given) == before
