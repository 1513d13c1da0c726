"""Logged calls as JSON and as CSV. Pure.

CSV is opened by spreadsheets, which run a cell that begins like a formula. So a text of others that begins so gets an
apostrophe in front, which spreadsheets take for "this is text" (owasp.org/www-community/attacks/CSV_Injection).
"""

import csv
import io
import json
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any, Final, Literal

from patter_trio.phone_numbers import is_number

ExportFormat = Literal["json", "csv"]
COLUMNS: Final = (
    *("call_id", "started_at", "ended_at", "direction", "caller", "callee", "provider", "outcome", "error"),
    *("duration_s", "turns", "answer_p50_ms"),
    *("cost_usd", "cost_stt", "cost_llm", "cost_tts", "cost_telephony", "has_recording", "transcript"),
)
"""The columns of a CSV; times are ISO 8601 in UTC, costs US dollars."""
CONTENT_TYPES: Final[Mapping[ExportFormat, str]] = {"json": "application/json", "csv": "text/csv; charset=utf-8"}
_FORMULA_SIGNS: Final = ("=", "+", "-", "@", "\t", "\r", "\n", "\uff1d", "\uff0b", "\uff0d", "\uff20")
"""How a formula may begin, full width included."""


class JSONExport:
    """Calls as one JSON array, each as ``GET /api/calls/{id}`` has it, one in a line."""

    head: str = "["
    tail: str = "\n]\n"

    def __init__(self) -> None:
        self._separator = "\n"

    def piece(self, call: Mapping[str, Any]) -> str:
        """Return the text of the next call."""
        separator, self._separator = self._separator, ",\n"
        return separator + json.dumps(call, ensure_ascii=False)


class CSVExport:
    """Calls as a table, one in a line, under :data:`COLUMNS`."""

    tail: str = ""

    def __init__(self) -> None:
        self.head: str = _line(COLUMNS)

    def piece(self, call: Mapping[str, Any]) -> str:
        """Return the text of the next call."""
        costs = (call.get("metrics") or {}).get("cost") or {}
        row = {
            **call,
            **{f"cost_{name}": costs.get(name) for name in ("stt", "llm", "tts", "telephony")},
            "started_at": _time(call.get("started_at")),
            "ended_at": _time(call.get("ended_at")),
            "transcript": "\n".join(f"{entry['role']}: {entry['text']}" for entry in call.get("transcript") or ()),
        }
        return _line([row.get(name) for name in COLUMNS])


def export_as(kind: ExportFormat) -> JSONExport | CSVExport:
    """Return what makes the texts of an export."""
    return JSONExport() if kind == "json" else CSVExport()


def _line(cells: Any) -> str:
    text = io.StringIO()
    # RFC 4180: lines end with CRLF, and quotes are doubled.
    csv.writer(text, lineterminator="\r\n").writerow([guarded(cell) for cell in cells])
    return text.getvalue()


def guarded(cell: Any) -> Any:
    """Return a cell that no spreadsheet takes for a formula; numbers, those of phones too, stay as they are."""
    if not isinstance(cell, str) or not cell.lstrip(" ").startswith(_FORMULA_SIGNS) or is_number(cell):
        return cell
    return f"'{cell}"


def _time(unix: Any) -> str | None:
    if unix is None:
        return None
    return datetime.fromtimestamp(unix, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
