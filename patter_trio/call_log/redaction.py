"""The rule for what is kept of a call: words and numbers can be left out, and each text can be changed."""

import logging
from collections.abc import Callable, Mapping
from typing import Any, Final

from patter_trio.abc import EventRecord
from patter_trio.phone_numbers import mask_numbers

_log = logging.getLogger("patter_trio.call_log")

SPOKEN_KEYS: Final = frozenset(
    {
        *("text", "transcript_so_far", "transcript", "user_text", "agent_text", "digit"),
        *("arguments", "result", "error", "tool_calls"),
    }
)
"""Keys of payloads, at any depth, whose values say what was said, typed or looked up."""
SPOKEN_BY_TYPE: Final[Mapping[str, frozenset[str]]] = {"reply_failed": SPOKEN_KEYS | {"reason"}}
"""The same for a type of event whose ``reason`` is an error's text; other reasons are words of ours."""
ENTRIES_KEYS: Final = frozenset({"transcript", "tool_calls"})
"""The spoken keys that have lists of entries, in which the first keys are ours."""
NUMBER_KEYS: Final = frozenset({"caller", "callee"})
"""Keys whose values are phone numbers."""
OTHER_TEXT_KEYS: Final = frozenset({"custom_params"})
"""Keys of texts that the application has given."""


class Redaction:
    """The rule for what is kept.

    Args:
        words: False: what was said is left out.
        numbers: False: phone numbers are left out.
        redact: changes each text.
    """

    def __init__(self, *, words: bool = True, numbers: bool = True, redact: Callable[[str], str] | None = None) -> None:
        self._words = words
        self._numbers = numbers
        self._redact = redact
        self._has_failed = False

    def __repr__(self) -> str:
        return f"<Redaction words={self._words} numbers={self._numbers}{' redact' if self._redact else ''}>"

    def record(self, record: EventRecord) -> EventRecord:
        """Return what is kept of an event; the given record is not changed."""
        if self._words and self._numbers and self._redact is None:
            return record
        return EventRecord(
            seq=record["seq"],
            call_id=record["call_id"],
            type=record["type"],
            at_ms=record["at_ms"],
            time=record["time"],
            data=self._kept(record["data"], SPOKEN_BY_TYPE.get(record["type"], SPOKEN_KEYS)),
        )

    def _kept(self, data: Mapping[str, Any], spoken: frozenset[str] = SPOKEN_KEYS) -> dict[str, Any]:
        kept: dict[str, Any] = {}
        for key, value in data.items():
            if key in spoken:
                if self._words:
                    kept[key] = self._entries(value) if key in ENTRIES_KEYS else self._changed(value)
            elif key in NUMBER_KEYS:
                kept[key] = value if self._numbers else ""
            elif key in OTHER_TEXT_KEYS:
                kept[key] = self._changed(value)
            # Metrics hold turns, which hold words.
            elif isinstance(value, Mapping):
                kept[key] = self._kept(value)
            elif isinstance(value, list):
                kept[key] = [self._kept(item) if isinstance(item, Mapping) else item for item in value]
            else:
                kept[key] = value
        return kept

    def _entries(self, value: Any) -> Any:
        """Return a list of entries with each text in them changed; their own keys stay."""
        if not isinstance(value, list):
            return self._changed(value)
        return [
            {key: self._changed(item) for key, item in entry.items()}
            if isinstance(entry, Mapping)
            else self._changed(entry)
            for entry in value
        ]

    def _changed(self, value: Any) -> Any:
        """Return a value with each text in it changed, at any depth, keys included: a table by names, say."""
        if isinstance(value, str):
            return self._text(value)
        if isinstance(value, Mapping):
            return self._with_keys_changed(value)
        if isinstance(value, list):
            return [self._changed(item) for item in value]
        # A number may be a phone number, too: a tool's argument, say.
        if isinstance(value, int) and not isinstance(value, bool) and not self._numbers:
            masked = mask_numbers(str(value))
            return value if masked == str(value) else masked
        return value

    def _with_keys_changed(self, value: Mapping[Any, Any]) -> dict[Any, Any]:
        changed: dict[Any, Any] = {}
        for key, item in value.items():
            wanted = new = self._changed(key)
            number = 1
            # Two that became the same are both kept.
            while new in changed:
                number += 1
                new = f"{wanted} ({number})"
            changed[new] = self._changed(item)
        return changed

    def _text(self, text: str) -> str:
        if self._redact is not None:
            try:
                changed = self._redact(text)
            except Exception as error:  # noqa: BLE001 (the application's function; its text must not be kept instead)
                return self._failed(type(error).__name__)
            if not isinstance(changed, str):
                return self._failed(f"it must return a str, got {type(changed).__name__}")
            text = changed
        return text if self._numbers else mask_numbers(text)

    def _failed(self, why: str) -> str:
        # Once: a function that fails fails for each sentence. Without its message, which may quote the text.
        if not self._has_failed:
            self._has_failed = True
            _log.warning("call log: redact failed, and its texts are not kept: %s", why)
        return ""
