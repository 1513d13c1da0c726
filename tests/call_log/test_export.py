"""Logged calls as JSON and CSV: complete, and harmless in a spreadsheet."""

import csv
import io
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from patter_trio.call_log.export import COLUMNS, export_as, guarded
from tests.kit.call_logs import CALLEE, CALLER, EPOCH, metrics

CALL: dict[str, Any] = {
    "call_id": "CA1",
    "started_at": EPOCH,
    "ended_at": None,
    "caller": CALLER,
    "callee": CALLEE,
    "direction": "inbound",
    "outcome": "completed",
    "error": "",
    "metrics": metrics(),
    "transcript": [{"role": "user", "text": 'He said "hi",\nthen left', "timestamp": EPOCH}],
}


def text_of(kind: Any, calls: list[dict[str, Any]]) -> str:
    export = export_as(kind)
    return export.head + "".join(export.piece(call) for call in calls) + export.tail


@pytest.mark.parametrize("count", [0, 1, 3])
def test_json_is_one_array(count: int) -> None:
    """Any number of calls is valid JSON with all that a call has."""
    assert json.loads(text_of("json", [CALL] * count)) == [CALL] * count


def test_csv_has_a_row_for_each_call() -> None:
    """Each call is one row: times in ISO 8601, costs by stage, the transcript with its speakers."""
    head, row = csv.reader(io.StringIO(text_of("csv", [CALL]), newline=""))
    assert tuple(head) == COLUMNS
    cells = dict(zip(head, row, strict=True))
    assert cells["started_at"] == "2026-01-31T09:30:00.000Z"
    assert (cells["caller"], cells["ended_at"], cells["cost_telephony"]) == (CALLER, "", "0.05")
    assert cells["transcript"] == 'user: He said "hi",\nthen left'


@pytest.mark.parametrize("text", ["=1+1", "+1+1", "-1", "@SUM(A1)", "\t=1", "\r=1", "  =1", "\n=1", "\uff1d1"])
def test_formula_of_a_caller_is_text(text: str) -> None:
    """A cell that a spreadsheet would run is text; a phone number stays as it is."""
    assert guarded(text) == f"'{text}"
    assert guarded(CALLER) == CALLER


@given(st.text())
def test_no_cell_begins_a_formula(text: str) -> None:
    """Whatever is said, no cell begins with a sign of a formula, unless it is a phone number."""
    cell = guarded(text)
    assert cell in (text, f"'{text}")
    assert not cell.lstrip(" ").startswith(("=", "@", "-", "\t", "\r"))
