"""Stored events as the timeline reads them: any key may be missing, or be what another version has written.

An event is a mapping with ``type``, ``at_ms`` (call time) and ``data`` (the payload), and usually ``seq``, its number
within the call. ``type`` is a callback's name without ``on_``, a name of the event bus, or one of
``timeline/observed.py``.
"""

import math
from collections.abc import Iterable, Mapping
from typing import Any, Final

StoredEvent = Mapping[str, object]
"""An event as it is stored and streamed, such as ``abc.EventRecord``."""

_OTHER_NAMES: Final[Mapping[str, str]] = {
    "transcript_final": "transcript",
    "metrics_collected": "metrics",
    "dtmf_received": "dtmf",
    "call_started": "call_start",
    "call_ended": "call_end",
    "machine_detected": "machine_detection",
}
"""The names of events on the bus that a callback gets under another name."""
# Judged: no tool of a phone agent takes or gives more, and a repr shows the rest.
_MAX_DEPTH: Final = 12
"""Greatest depth of nested values that are kept as they are."""
MAX_MS: Final = 7 * 24 * 3600 * 1000.0
"""Greatest time of a call, in ms: a week. A greater one is a mistake of its writer."""


def kind_of(event: StoredEvent) -> str:
    """Return the type of an event by its callback's name, whichever of its names was stored; empty if it has none."""
    name = event.get("type")
    return _OTHER_NAMES.get(name, name) if isinstance(name, str) else ""


def name_of(event: StoredEvent) -> str:
    """Return the type of an event as it was stored."""
    name = event.get("type")
    return name if isinstance(name, str) else ""


def at_of(event: StoredEvent) -> float:
    """Return the instant of an event in call time, in ms; 0 if it has none."""
    return time_in(event, "at_ms") or 0.0


def data_of(event: StoredEvent) -> Mapping[str, Any]:
    """Return the payload of an event; empty if it has none."""
    return mapping(event.get("data"))


def in_order(events: Iterable[StoredEvent]) -> list[StoredEvent]:
    """Return events by their numbers; those without one follow, in the order in which they came."""
    # A stable sort, so that those without a number keep their order.
    return sorted(events, key=lambda event: number if (number := number_in(event, "seq")) is not None else math.inf)


def mapping(value: object) -> Mapping[str, Any]:
    """Return a value as a mapping: a record of metrics by its fields, anything else that is not one as empty."""
    if isinstance(value, Mapping):
        return value
    to_dict = getattr(value, "to_dict", None)
    plain = to_dict() if callable(to_dict) else None
    return plain if isinstance(plain, dict) else {}


def text_in(data: Mapping[str, object], key: str) -> str:
    """Return a text; empty if it is absent or of another type."""
    value = data.get(key)
    return value if isinstance(value, str) else ""


def number_in(data: Mapping[str, object], key: str) -> float | None:
    """Return a finite number; None if it is absent or of another type."""
    value = data.get(key)
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    # An int may have more digits than a float can hold.
    return float(value) if abs(value) < MAX_MS**2 else None


def time_in(data: Mapping[str, object], key: str) -> float | None:
    """Return a time in ms, not less than 0 and rounded to a tenth; None if it is absent or impossible."""
    value = number_in(data, key)
    return None if value is None or value > MAX_MS else round(max(0.0, value), 1)


def count_in(data: Mapping[str, Any], key: str) -> int | None:
    """Return a whole number of at least 0, such as the number of a turn; None if it is absent or of another type."""
    value = number_in(data, key)
    # The bound of times serves here as well: no call has as many turns as a week has milliseconds.
    return int(value) if value is not None and 0 <= value == int(value) <= MAX_MS else None


def json_value(value: object, depth: int = 0) -> Any:
    """Return a value of the application's as JSON can hold it; whatever JSON cannot hold becomes its repr."""
    match value:
        case None | bool() | str() | int():
            return value
        case float() if math.isfinite(value):
            return value
        case Mapping() if depth < _MAX_DEPTH:
            return {str(key): json_value(part, depth + 1) for key, part in value.items()}
        case list() | tuple() if depth < _MAX_DEPTH:
            return [json_value(part, depth + 1) for part in value]
        case _:
            return repr(value)


def voice_end_of(at: float, data: Mapping[str, Any], *, voiced: bool) -> float | None:
    """Return when the caller's voice ended before ``user_speech_eos``; None if that is not known.

    Args:
        at: the instant of the event.
        data: its payload.
        voiced: True if a voice was heard since the last one.
    """
    # Keys and typed words are committed at once: the silence before them is that after an earlier utterance.
    if not voiced and data.get("trigger") == "manual_commit":
        return at
    silence = time_in(data, "trailing_silence_ms")
    return None if silence is None else round(max(0.0, at - silence), 1)
