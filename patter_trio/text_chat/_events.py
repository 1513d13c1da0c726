"""The events of a call in text, as records: the form in which windows and machines read events of any call.

Beside the records of the event bus there are those of what a person at a keyboard wants to see, and of what a carrier
would have done:

=================  ============================  ==================================================================
``agent_text``     ``text``, reply, turn_idx     the next words of the answer, as the caller sees them
``reply_ended``    ``reason``, reply, turn_idx   an answer is over: ``played``, or why it was cut
``reply_failed``   ``reason``, reply, turn_idx   an answer failed
``guardrail``      ``name``, reply, turn_idx     a guardrail blocked a sentence
``turn_vetoed``    reply, turn_idx               ``after_transcribe`` dropped what the caller said
``transfer``       ``to``                        the caller would be connected with this number or address
``take_over``      ``to``, ``briefing``          this person would be called for a warm transfer; it counts as accepted
``digits``         ``digits``                    these keys would be sent
``dial``           ``to``                        this number would be called
=================  ============================  ==================================================================
"""

from collections import deque
from collections.abc import Mapping
from typing import Any, Final

from patter_trio.abc import CallInfo, EventRecord
from patter_trio.events.kinds import PublishedEvent
from patter_trio.events.records import described_by_bus, record_of
from patter_trio.events.turns import Turns
from patter_trio.metrics.internal_events import (
    CallEvent,
    LlmChunk,
    ReplyEnded,
    ReplyFailure,
    ReplyInterrupted,
    SentenceBlocked,
    SpeechHeard,
    ToolCallCompleted,
    ToolCallStarted,
    TtsChunk,
    TurnVetoed,
)
from patter_trio.metrics.public_events import (
    CallConnected,
    CallOver,
    DigitReceived,
    TranscriptCommitted,
    TurnMeasured,
)
from patter_trio.net.pulse import Pulse
from patter_trio.timeline.observed import observed

# Judged: an answer of a page has fifty; a reader that is further behind has gone.
MAX_WAITING_EVENTS: Final = 4096
"""Events that wait for the reader; beyond it the oldest is dropped and counted."""
_RECORDED: Final = (
    ReplyInterrupted,
    ToolCallStarted,
    ToolCallCompleted,
    DigitReceived,
    TranscriptCommitted,
    TurnMeasured,
    CallOver,
)
"""The events that have a record as everywhere else, when they come."""


class TextEvents:
    """The events of one call, from the call's observer to one reader.

    Args:
        info: the facts of the call.
        began: the begin of the call on the clock, in seconds; ``at_ms`` counts from there.
        epoch: Unix time of the clock's zero, in seconds.
    """

    def __init__(self, info: CallInfo, began: float, epoch: float) -> None:
        self._call_id = info.call_id
        self._began = began
        self._epoch = epoch
        self._turns = Turns()
        self._reply, self._shown = 0, ""
        self._count = 0
        self._waiting: deque[EventRecord] = deque()
        self.news: Pulse = Pulse()
        self.dropped: int = 0
        """The number of events that were dropped because the reader was too slow."""
        self.is_over: bool = False
        """True from the event ``call_ended`` on."""
        # First of all events: nothing of the call has happened yet.
        self._publish(CallConnected(info), began)

    def __repr__(self) -> str:
        return f"<TextEvents of {self._call_id}, {len(self._waiting)} waiting{', over' if self.is_over else ''}>"

    # The observer -----------------------------------------------------------------------------------------------------
    def wants(self, kind: type[CallEvent]) -> bool:
        """Return True for all events but the frequent ones."""
        return kind not in (LlmChunk, TtsChunk)

    def on_event(self, event: CallEvent, at: float) -> None:
        """Take an event of the call."""
        match event:
            case SpeechHeard():
                self._show(event.reply, event.turn_idx, event.text, at)
            case TranscriptCommitted(role="assistant"):
                # What no mark has shown, such as punctuation at the end.
                self._show(self._reply, self._turns.turn_idx, event.text, at)
            case ReplyEnded():
                data = {"reply": event.reply, "turn_idx": event.turn_idx, "reason": event.reason}
                self.put("reply_ended", data, at)
            case ReplyFailure() | SentenceBlocked() | TurnVetoed() if described := observed(event):
                self.put(*described, at)
            case _:
                pass
        if isinstance(event, _RECORDED):
            self._publish(event, at)
        for turn in self._turns.step(event):
            self._publish(turn, at)
        if isinstance(event, CallOver):
            self.is_over = True
            self.news.fire()

    def _publish(self, event: PublishedEvent, at: float) -> None:
        self.put(*described_by_bus(event, self._call_id, self._epoch + at), at)

    def _show(self, reply: int, turn_idx: int, text: str, at: float) -> None:
        if reply != self._reply:
            self._reply, self._shown = reply, ""
        # Words are rounded down, so what was shown is the begin of it.
        new = text.removeprefix(self._shown)
        if len(text) > len(self._shown):
            self.put("agent_text", {"text": new, "reply": reply, "turn_idx": turn_idx}, at)
            self._shown = text

    # The events -------------------------------------------------------------------------------------------------------
    def put(self, kind: str, data: Mapping[str, Any], at: float) -> None:
        """Add a record; never waits."""
        self._count += 1
        if len(self._waiting) >= MAX_WAITING_EVENTS:
            self._waiting.popleft()
            self.dropped += 1
        call_time, unix = at - self._began, self._epoch + at
        self._waiting.append(record_of(kind, data, self._call_id, seq=self._count, call_time=call_time, unix=unix))
        self.news.fire()

    async def next(self) -> EventRecord | None:
        """Return the next record; None after the last one."""
        while not self._waiting:
            if self.is_over:
                return None
            # No await between the check and this wait, as Pulse requires.
            await self.news.wait()
        return self._waiting.popleft()
