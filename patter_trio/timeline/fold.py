"""A call's timeline from its facts and events: all at once, or event by event while the call goes on. Pure."""

from collections.abc import Iterable, Mapping
from typing import Any, Final

import attrs

from patter_trio.timeline.agent_words import AgentWords
from patter_trio.timeline.call_timeline import CallTimeline, Lane, Mark, MarkKind, Peaks, ToolCall
from patter_trio.timeline.caller_words import CallerWords
from patter_trio.timeline.stored_events import (
    StoredEvent,
    at_of,
    data_of,
    in_order,
    json_value,
    kind_of,
    name_of,
    number_in,
    text_in,
)
from patter_trio.timeline.turns import TurnsOfCall

_END_MARKS: Final[Mapping[str, tuple[MarkKind, Lane]]] = {
    "caller_hung_up": ("hang_up", "caller"),
    "transferred": ("transfer", "agent"),
    "failed": ("failed", "agent"),
}
"""How the end of a call is marked, by its outcome; all others are hang-ups of the agent's side."""
_MS_PER_S: Final = 1000.0


@attrs.frozen(kw_only=True)
class CallFacts:
    """The facts of a call that are known without its events, which fill the empty ones."""

    call_id: str
    title: str = ""
    """The heading's first words, such as the program's file."""
    caller: str = ""
    callee: str = ""
    direction: str = ""
    began: str = ""
    """When the media began, ISO 8601 with its zone."""
    duration_ms: float | None = None
    outcome: str = ""
    error: str = ""


class TimelineFold:
    """The timeline of a call that goes on: takes one event after another, and shows what they make at any time."""

    def __init__(self, facts: CallFacts) -> None:
        self._facts = facts
        self._caller = CallerWords()
        self._agent = AgentWords()
        self._turns = TurnsOfCall()
        # In the order of their beginnings; two calls of one reply may have the same id in a broken LLM's answer.
        self._tools: list[ToolCall] = []
        self._marks: list[Mark] = []
        self._names: dict[str, str] = {}
        """By type: the name under which its first event was stored."""
        self._last_ms = 0.0
        self._end_ms: float | None = None

    def add(self, event: StoredEvent) -> None:
        """Apply the next event, by its number."""
        kind, at, data = kind_of(event), at_of(event), data_of(event)
        # A receiver of callbacks and of the bus gets some events twice, under two names: the first one's counts.
        if self._names.setdefault(kind, name_of(event)) != name_of(event):
            return
        # What comes later reports a cost or a recording: the picture ends with the call.
        if self._end_ms is not None:
            return
        self._last_ms = max(self._last_ms, at)
        self._caller.take(kind, at, data)
        self._agent.take(kind, at, data)
        self._turns.take(kind, at, data)
        self._take(kind, at, data, event)

    def _take(self, kind: str, at: float, data: Mapping[str, Any], event: StoredEvent) -> None:
        match kind:
            case "tool_call_started":
                self._tools.append(
                    ToolCall(
                        text_in(data, "name"),
                        text_in(data, "tool_call_id"),
                        at,
                        arguments=json_value(data.get("arguments")),
                    )
                )
            case "tool_call_completed":
                self._tool_completed(at, data)
            case "dtmf":
                self._mark("key", at, text_in(data, "digit"), "caller")
            case "guardrail":
                self._mark("guardrail", at, text_in(data, "name"), "agent")
            case "hook":
                seconds = number_in(data, "duration") or 0.0
                self._mark("hook", at, f"{text_in(data, 'name')} {seconds * _MS_PER_S:.0f} ms", "agent")
            case "turn_vetoed":
                self._mark("vetoed", at, "", "caller")
            case "reply_failed":
                self._mark("reply_failed", at, text_in(data, "reason"), "agent")
            case "metrics":
                self._failed_without_reason(at)
            case "machine_detection":
                self._mark("machine", at, text_in(data, "answered_by"), "caller")
            case "call_start":
                self._complete(data, began=text_in(event, "time"))
            case "call_end":
                self._end(at, data)
            case _:
                pass

    def _mark(self, kind: MarkKind, at: float, text: str, lane: Lane) -> None:
        self._marks.append(Mark(kind, at, text, lane))

    def _tool_completed(self, at: float, data: Mapping[str, Any]) -> None:
        name, call_id = text_in(data, "name"), text_in(data, "tool_call_id")
        took = (number_in(data, "duration") or 0.0) * _MS_PER_S
        done = ToolCall(
            name,
            call_id,
            # From the duration: the event of the beginning may be missing.
            round(max(0.0, at - took), 1),
            at,
            json_value(data.get("arguments")),
            json_value(data.get("result")),
            text_in(data, "error"),
        )
        for place, tool in enumerate(self._tools):
            if tool.end_ms is None and (tool.name, tool.call_id) == (name, call_id):
                # A tool never begins behind its end, whatever others have stored.
                self._tools[place] = attrs.evolve(done, start_ms=min(tool.start_ms, at))
                return
        self._tools.append(done)  # its beginning is missing from the events

    def _failed_without_reason(self, at: float) -> None:
        """Mark a reply whose failure only the metrics of its turn report."""
        failed = [turn for turn in self._turns.turns() if turn.failed]
        if len(failed) > sum(mark.kind == "reply_failed" for mark in self._marks):
            self._mark("reply_failed", at, "", "agent")

    def _complete(self, data: Mapping[str, Any], *, began: str = "") -> None:
        """Fill the facts that are not known."""
        facts = self._facts
        self._facts = attrs.evolve(
            facts,
            caller=facts.caller or text_in(data, "caller"),
            callee=facts.callee or text_in(data, "callee"),
            direction=facts.direction or text_in(data, "direction"),
            began=facts.began or began,
            outcome=facts.outcome or text_in(data, "outcome"),
            error=facts.error or text_in(data, "error"),
        )

    def _end(self, at: float, data: Mapping[str, Any]) -> None:
        self._complete(data)
        self._end_ms = at
        outcome = text_in(data, "outcome")
        kind, lane = _END_MARKS.get(outcome, ("hang_up", "agent"))
        self._mark("failed" if text_in(data, "error") else kind, at, outcome.replace("_", " "), lane)

    def timeline(self, *, now_ms: float | None = None, peaks: Peaks | None = None) -> CallTimeline:
        """Return the timeline of the events so far.

        Args:
            now_ms: call time now: what goes on lasts until then. None: until the last event.
            peaks: the loudness of both sides, if there is audio.
        """
        facts = self._facts
        audio_ms = 0.0 if peaks is None else peaks.step_ms * max(len(peaks.caller), len(peaks.agent))
        now = self._last_ms if now_ms is None or self._end_ms is not None else max(now_ms, self._last_ms)
        # By the lane, too: two that begin together have the same order each time.
        words = sorted((*self._caller.words(now), *self._agent.words(now)), key=lambda one: (one.start_ms, one.lane))
        tools = sorted(self._tools, key=lambda tool: tool.start_ms)
        ends = (now, facts.duration_ms or 0.0, audio_ms, *(one.end_ms for one in words))
        return CallTimeline(
            facts.call_id,
            facts.title,
            facts.caller,
            facts.callee,
            facts.direction,
            facts.began,
            max(ends),
            self._end_ms is not None or bool(facts.outcome),
            facts.outcome,
            facts.error,
            tuple(words),
            self._caller.voices(now),
            self._agent.interruptions(),
            self._turns.turns(),
            tuple(tools),
            tuple(self._marks),
            peaks,
        )


def timeline_of(facts: CallFacts, events: Iterable[StoredEvent], *, peaks: Peaks | None = None) -> CallTimeline:
    """Return a call's timeline from its facts and stored events, whatever their order and however many are missing."""
    fold = TimelineFold(facts)
    for event in in_order(events):
        fold.add(event)
    return fold.timeline(peaks=peaks)
