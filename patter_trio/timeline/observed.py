"""The stored events that have neither a callback nor a name on the event bus, made from a call's internal events.

A log, a live view and the simulator give them to the timeline beside the others. Their data:

* ``sentence``: ``turn_idx``, ``reply``, ``text``; a sentence was sent to the TTS, as the agent was about to say it
* ``guardrail``: ``turn_idx``, ``reply``, ``name``; a guardrail blocked a sentence
* ``turn_vetoed``: ``turn_idx``, ``reply``; ``after_transcribe`` dropped the caller's words
* ``reply_failed``: ``turn_idx``, ``reply``, ``reason``; a reply failed; the reason may quote what was said
* ``hook``: ``name``, ``duration`` in seconds; a hook took long
"""

from typing import Any, Final

from patter_trio.errors import reported
from patter_trio.metrics.internal_events import (
    CallEvent,
    HookCalled,
    ReplyFailure,
    SentenceBlocked,
    SentenceStarted,
    TurnVetoed,
)

OBSERVED: Final = ("sentence", "guardrail", "turn_vetoed", "reply_failed", "hook")
"""The types of these events."""
# Judged: hooks of audio run many times a second; one that takes as long as a frame of it lasts can be heard.
SLOW_HOOK_S: Final = 0.02
"""Seconds from which on a hook is worth an event."""
_CLASSES: Final = frozenset({HookCalled, ReplyFailure, SentenceBlocked, SentenceStarted, TurnVetoed})


def is_observed(kind: type[CallEvent]) -> bool:
    """Return True for a class of events that :func:`observed` may make an event of."""
    return kind in _CLASSES


def observed(event: CallEvent) -> tuple[str, dict[str, Any]] | None:
    """Return the type and the data of the stored event for an internal event; None for all others."""
    match event:
        case SentenceStarted():
            return "sentence", {"turn_idx": event.turn_idx, "reply": event.reply, "text": event.text}
        case SentenceBlocked():
            return "guardrail", {"turn_idx": event.turn_idx, "reply": event.reply, "name": event.name}
        case TurnVetoed():
            return "turn_vetoed", {"turn_idx": event.turn_idx, "reply": event.reply}
        case ReplyFailure():
            # In one line, and bounded: the error may be one of a library of the application.
            return "reply_failed", {"turn_idx": event.turn_idx, "reply": event.reply, "reason": reported(event.reason)}
        case HookCalled() if event.seconds >= SLOW_HOOK_S:
            return "hook", {"name": event.name, "duration": event.seconds}
        case _:
            return None
