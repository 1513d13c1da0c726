"""One call as OpenTelemetry spans: its events become span operations with the instants of the events.

::

    patter.call                     from the announcement to the end; the seven speech edges are its span events
    ├── patter.stt                  the caller's voice began - the STT's last word of the utterance (not with an engine)
    ├── patter.endpoint             last voice - the decision that the utterance is over
    ├── chat MODEL                  the LLM is asked - its last token (``on_message FUNCTION`` for an application's)
    ├── execute_tool NAME           a tool is called - it has answered
    ├── patter.tts                  first sentence - all of the reply is synthesised
    └── patter.bargein              voice over the agent - the agent is silent

A :class:`CallTrace` is an observer (``events/reporter.py``): it never waits, and isolates exceptions of the tracer.
Words of the call are never recorded: no attribute here, or in ``attributes.py``, is made from an event's text. An error
is recorded by its class, because a message may quote words of the call.

A span whose begin is recognised only at its end is made then, with instants of the past: a sound may be an utterance,
but that is known only when it has words. This module imports opentelemetry; only ``setup.py`` imports this module, and
only if tracing is enabled.
"""

import logging
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from itertools import chain
from typing import Any, Final

import attrs
from opentelemetry import context as contexts
from opentelemetry.trace import INVALID_SPAN, Span, SpanKind, Status, StatusCode, Tracer, set_span_in_context

from patter_trio.abc import CallInfo
from patter_trio.agent.agent import Agent
from patter_trio.audio.media_clock import MediaClock
from patter_trio.metrics.internal_events import (
    AgentReady,
    CallEvent,
    CallFailed,
    EventTable,
    HookCalled,
    LlmChunk,
    LlmFailed,
    LlmFinished,
    LlmStarted,
    ReplyEnded,
    ReplyStarted,
    SentenceStarted,
    ToolCallCompleted,
    ToolCallStarted,
    TtsFailed,
    TtsFinished,
    WordsFinal,
)
from patter_trio.metrics.public_events import (
    AgentSpeechEnded,
    AgentSpeechStarted,
    CallOver,
    InterimTranscript,
    TranscriptCommitted,
    TurnMeasured,
    UserSpeechEnded,
    UserSpeechEos,
    UserSpeechStarted,
)
from patter_trio.metrics.results import CallMetrics
from patter_trio.phone_numbers import mask_number
from patter_trio.tracing.attributes import (
    SLOW_EXPORT_REMEDY,
    SPAN_EVENTS,
    TURN,
    Scalar,
    SpanEvent,
    costs,
    hook_times,
    latencies,
    present,
)
from patter_trio.user_code import invoke

_CUT: Final = "patter.cut.reason"
_UNKNOWN_TOOL: Final = "unknown"
"""Name in spans of every tool that the agent does not have."""
# By class, like the rules, so that an event is looked up twice and compared with nothing.
_SPAN_EVENT_OF: Final[Mapping[type[Any], SpanEvent[Any]]] = {recorded.edge: recorded for recorded in SPAN_EVENTS}

_log = logging.getLogger("patter_trio.telemetry")


@attrs.define
class _Reply:
    """A reply under way, and its open spans."""

    started: ReplyStarted
    spans: dict[str, Span] = attrs.field(factory=dict)
    asked: float = 0.0
    answered: bool = False
    failed: bool = False


class CallTrace:
    """The spans of one call.

    Args:
        tracer: makes the spans.
        info: the facts of the call.
        agent: the served agent.
        media: the clock of the caller's audio, which has not started.
        at: the instant of the announcement on the call's clock, in seconds.
        epoch: Unix time of the clock's zero, in seconds.
    """

    def __init__(
        self, tracer: Tracer, info: CallInfo, agent: Agent, media: MediaClock, *, at: float, epoch: float
    ) -> None:
        self._tracer = tracer
        self._call_id: str = info.call_id
        self._parts: AgentReady | None = None
        """The call's providers. They may differ from those of ``agent``, because ``on_call_start`` can change them."""
        # An integer, as OpenTelemetry wants it; a float of nanoseconds since 1970 would also be exact to 0.3 us only.
        self._epoch = round(epoch * 1e9)
        self._span: Span = INVALID_SPAN
        # Until the span is made: a tracer that fails there leaves a trace that does nothing.
        self._over = True
        self._complained = False
        self._error = ""
        self._cost: Any = None
        self._turn = 0
        self._replies: dict[int, _Reply] = {}
        self._tools: dict[str, list[Span]] = {}
        """Open spans by tool call, oldest first: two calls of the same tool without ids end in order."""
        self._voice: float | None = None
        """The begin of the uncommitted utterance's voice."""
        self._worded = False
        """True if that voice has words. A voice without words counts as noise if the next one begins much later."""
        self._voice_over = 0.0
        # The turn machine's own number, so that both call the same sounds noise.
        self._words_wait = agent.policy(reply=0.0).final_wait
        """Seconds after a voice during which its words may still come."""
        self._words: float | None = None
        """The instant of the utterance's last final words."""
        self._over_agent = 0.0
        """The begin of the caller's newest voice."""
        self._agent_spoke = 0.0
        self._hooks: dict[str, list[float]] = {}
        """For each hook: the number of calls, and the sum and the longest of its times, in seconds."""
        self._interruption: tuple[float, AgentSpeechEnded] | None = None
        # A table, as in the meter.
        self._rules = self._table().rules
        self._media = media
        # Everything that calls the tracer stands in such a block: it is the application's, and may raise anything.
        with self._isolated():
            # An empty context: each call is a trace of its own, even if a span is current where calls are served.
            self._span = tracer.start_span(
                "patter.call",
                context=contexts.Context(),
                kind=SpanKind.SERVER,
                attributes={
                    "patter.call.id": self._call_id,
                    "patter.call.direction": info.direction,
                    "patter.call.caller": mask_number(info.caller),
                    "patter.call.callee": mask_number(info.callee),
                    "patter.telephony.provider": info.provider,
                },
                start_time=self._ns(at),
            )
            self._over = False

    def __repr__(self) -> str:
        return f"<CallTrace of {self._call_id}, {len(self._replies)} replies under way{', over' if self._over else ''}>"

    def attach(self) -> None:
        """Make the call's span current in this task and those that it starts, so that their spans are its children."""
        with self._isolated():
            # Never detached: the context ends with the task.
            contexts.attach(set_span_in_context(self._span))

    def _table(self) -> EventTable[None]:
        rules: EventTable[None] = EventTable()
        rules.on(AgentReady, self._agent_ready)
        rules.on(UserSpeechStarted, self._user_speech_started)
        rules.on(UserSpeechEnded, self._user_speech_ended)
        rules.on(UserSpeechEos, self._user_speech_eos)
        rules.on(TranscriptCommitted, self._transcript_committed)
        rules.on(InterimTranscript, self._interim_transcript)
        rules.on(WordsFinal, self._words_final)
        rules.on(AgentSpeechStarted, self._agent_speech_started)
        rules.on(AgentSpeechEnded, self._agent_speech_ended)
        rules.on(ReplyStarted, self._reply_started)
        rules.on(LlmStarted, self._llm_started)
        rules.on(LlmChunk, self._llm_chunk)
        rules.on(LlmFinished, self._llm_finished)
        rules.on(LlmFailed, self._llm_failed)
        rules.on(SentenceStarted, self._sentence_started)
        rules.on(TtsFinished, self._tts_finished)
        rules.on(TtsFailed, self._tts_failed)
        rules.on(ReplyEnded, self._reply_ended)
        rules.on(ToolCallStarted, self._tool_call_started)
        rules.on(ToolCallCompleted, self._tool_call_completed)
        rules.on(HookCalled, self._hook_called)
        rules.on(CallFailed, self._call_failed)
        rules.on(TurnMeasured, self._turn_measured)
        return rules

    def wants(self, kind: type[CallEvent]) -> bool:  # noqa: ARG002 (any event may become an attribute of a span)
        """Return True, because the trace uses every event."""
        return True

    def on_event(self, event: CallEvent, at: float) -> None:
        """Record an event: a speech edge becomes a span event, and other events begin or end spans."""
        if self._over:
            return
        if isinstance(event, CallOver):
            self._end_call(at, event.outcome, event.error, event.metrics)
            return
        recorded, rule = _SPAN_EVENT_OF.get(type(event)), self._rules.get(type(event))
        # Before the isolated block, which costs a context manager: most events are of neither kind.
        if recorded is None and rule is None:
            return
        with self._isolated():
            if recorded is not None:
                self._span.add_event(recorded.name, recorded.attributes(event), self._ns(at))
            if rule is not None:
                rule(event, at)

    def close(self, at: float, outcome: str, reason: str) -> None:
        """End the open spans of a call without a ``CallOver``: it never connected, or a bug prevented that event."""
        # Idempotent, because the server calls it for every call, also after CallOver.
        if not self._over:
            self._error = self._error or reason
            self._end_call(at, outcome)

    @contextmanager
    def _isolated(self) -> Iterator[None]:
        """Isolate the call from exceptions of the application's tracer, and log the first one."""
        try:
            with invoke.isolate("the tracer provider", SLOW_EXPORT_REMEDY, self._call_id):
                yield
        except invoke.ApplicationError as error:
            # Once per call: a tracer that fails at all usually fails with each span.
            if not self._complained:
                self._complained = True
                _log.warning("call %s: tracing is incomplete: %s", self._call_id, error, exc_info=error.__cause__)

    def _ns(self, at: float) -> int:
        return self._epoch + round(at * 1e9)

    def _start(
        self,
        name: str,
        at: float,
        attributes: Mapping[str, Scalar],
        kind: SpanKind = SpanKind.INTERNAL,
    ) -> Span:
        # The parent is given, not taken from the task: events come from many tasks, in
        # which other spans may be current.
        return self._tracer.start_span(
            name,
            context=set_span_in_context(self._span, contexts.Context()),
            kind=kind,
            attributes=attributes,
            start_time=self._ns(at),
        )

    def _past(self, name: str, began: float, ended: float, attributes: Mapping[str, Scalar]) -> None:
        """Make a span that has already ended."""
        # min(), because a begin is a position in the audio and may lie after an end that is an instant of the loop.
        self._start(name, min(began, ended), attributes).end(self._ns(ended))

    def _agent_ready(self, event: AgentReady, at: float) -> None:
        del at
        self._parts = event

    # The caller --------------------------------------------------------------------------------------------------
    def _user_speech_started(self, event: UserSpeechStarted, at: float) -> None:
        self._over_agent = began = self._in_audio(event, at)
        # Noise before an utterance must not make its span begin too early.
        if self._voice is None or (not self._worded and began > self._voice_over + self._words_wait):
            self._voice = began

    def _user_speech_ended(self, event: UserSpeechEnded, at: float) -> None:
        self._voice_over = self._in_audio(event, at)

    def _in_audio(self, event: UserSpeechStarted | UserSpeechEnded, at: float) -> float:
        """Return the instant of an edge in the caller's audio, which is earlier than its detection."""
        zero = self._media.start or 0.0
        return at if event.audio_offset_ms is None else zero + event.audio_offset_ms / 1000

    def _user_speech_eos(self, event: UserSpeechEos, at: float) -> None:
        self._turn += 1
        self._utterance(at)
        if event.trailing_silence_ms is not None:
            attributes = {**_SPAN_EVENT_OF[UserSpeechEos].attributes(event), TURN: self._turn}
            self._past("patter.endpoint", at - event.trailing_silence_ms / 1000, at, attributes)

    def _transcript_committed(self, event: TranscriptCommitted, at: float) -> None:
        if event.role == "user" and not event.revises:  # words said over speech that cannot be interrupted have no eos
            self._utterance(at)

    def _interim_transcript(self, event: InterimTranscript, at: float) -> None:
        del at
        self._worded = self._worded or bool(event.text.strip())

    def _words_final(self, event: WordsFinal, at: float) -> None:
        if event.text.strip():
            self._worded, self._words = True, at
            if self._voice is None:
                self._voice = at

    def _utterance(self, at: float) -> None:
        """Make the STT's span: until its final words, or, without them, until the utterance was committed."""
        began, self._voice, words, self._words = self._voice, None, self._words, None
        self._worded = False
        if began is None or self._parts is None or not self._parts.stt_provider:
            return  # a call with an engine has no STT
        attributes: dict[str, Scalar] = {
            "patter.stt.provider": self._parts.stt_provider,
            "patter.stt.model": self._parts.stt_model,
            TURN: self._turn,
        }
        self._past("patter.stt", began, at if words is None else words, attributes)

    def _agent_speech_started(self, event: AgentSpeechStarted, at: float) -> None:
        del event
        self._agent_spoke = at

    def _agent_speech_ended(self, event: AgentSpeechEnded, at: float) -> None:
        if event.interrupted:
            # Kept until ReplyEnded, which says whether it was the caller who interrupted.
            self._interruption = (at, event)

    # Replies ----------------------------------------------------------------------------------------------------------
    def _reply_started(self, event: ReplyStarted, at: float) -> None:
        del at
        self._replies.setdefault(event.reply, _Reply(event))

    def _llm_started(self, event: LlmStarted, at: float) -> None:
        reply = self._replies.get(event.reply)
        # One span at a time: after the tools, the LLM is asked again and gets another.
        if reply is None or "llm" in reply.spans or reply.started.source not in ("llm", "on_message"):
            return
        model = reply.started.model
        turn: dict[str, Scalar] = {TURN: event.turn_idx}
        if reply.started.source == "llm":
            attributes: dict[str, Scalar] = {
                "gen_ai.operation.name": "chat",
                "gen_ai.provider.name": reply.started.llm_provider,
                "gen_ai.request.model": model,
                "gen_ai.request.stream": True,
                "gen_ai.conversation.id": self._call_id,
            }
            # Name and attributes follow the GenAI conventions of OpenTelemetry (docs/tracing.md).
            span = self._start(f"chat {model}", at, {**attributes, **turn}, SpanKind.CLIENT)
        else:  # not a gen_ai span, because a function is not a model; the application may trace a model that it asks
            span = self._start(f"on_message {model}", at, {"code.function.name": model, **turn})
        reply.spans["llm"], reply.asked = span, at
        # This runs in the task that generates the answer: spans that it opens from here on are children of this one.
        contexts.attach(set_span_in_context(span))

    def _llm_chunk(self, event: LlmChunk, at: float) -> None:
        reply = self._replies.get(event.reply)
        if reply is None or reply.answered or not event.text:
            return
        reply.answered = True
        if reply.started.source == "llm" and "llm" in reply.spans:
            reply.spans["llm"].set_attribute("gen_ai.response.time_to_first_chunk", round(at - reply.asked, 6))

    def _llm_finished(self, event: LlmFinished, at: float) -> None:
        self._part_over("llm", event, at)

    def _llm_failed(self, event: LlmFailed, at: float) -> None:
        self._part_over("llm", event, at)

    def _sentence_started(self, event: SentenceStarted, at: float) -> None:
        reply = self._replies.get(event.reply)
        # From the first sentence: the others are synthesised within the same span.
        if reply is None or "tts" in reply.spans:
            return
        attributes: dict[str, Scalar] = {TURN: event.turn_idx}
        if self._parts is not None:
            attributes["patter.tts.provider"] = self._parts.tts_provider
            attributes["patter.tts.model"] = self._parts.tts_model
        reply.spans["tts"] = self._start("patter.tts", at, attributes)

    def _tts_finished(self, event: TtsFinished, at: float) -> None:
        self._part_over("tts", event, at)

    def _tts_failed(self, event: TtsFailed, at: float) -> None:
        self._part_over("tts", event, at)

    def _part_over(self, part: str, event: LlmFinished | LlmFailed | TtsFinished | TtsFailed, at: float) -> None:
        reply = self._replies.get(event.reply)
        if reply is not None:
            error = event.error if isinstance(event, LlmFailed | TtsFailed) else ""
            # For _end_reply(): a reply that failed without an exception has timed out.
            reply.failed = reply.failed or bool(error)
            self._end(reply.spans.pop(part, None), at, error=error)

    def _reply_ended(self, event: ReplyEnded, at: float) -> None:
        interruption, self._interruption = self._interruption, None
        reply = self._replies.pop(event.reply, None)
        if reply is not None:
            self._end_reply(reply, at, event.reason)
        if event.reason == "barge-in" and interruption is not None:
            ended, heard = interruption
            # A voice that began before the agent spoke interrupts from the agent's first sound on.
            began = max(self._over_agent, self._agent_spoke)
            attributes = present({TURN: heard.turn_idx, "patter.speech.duration_ms": heard.speech_duration_ms})
            self._past("patter.bargein", began, ended, attributes)

    def _end_reply(self, reply: _Reply, at: float, reason: str) -> None:
        # Failed without an exception: the reply timed out. The first of its parts that is still open is the cause.
        late = reason == "failed" and not reply.failed
        for part in ("llm", "tts"):
            span = reply.spans.pop(part, None)
            self._end(span, at, error="timeout" if late else "", cut=reason)
            late = late and span is None

    def _end(self, span: Span | None, at: float, *, error: str = "", cut: str = "") -> None:
        if span is None:
            return
        # The failure explains more than the cut that it caused.
        if error:
            span.set_attribute("error.type", error)
            span.set_status(Status(StatusCode.ERROR))
        elif cut:
            span.set_attribute(_CUT, cut)
        span.end(self._ns(at))

    # Tools ------------------------------------------------------------------------------------------------------------
    def _tool_call_started(self, event: ToolCallStarted, at: float) -> None:
        # A name that no tool has is text of the LLM's, and may be what the caller said.
        name = event.name if event.known else _UNKNOWN_TOOL
        attributes: dict[str, Scalar] = {
            "gen_ai.tool.name": name,
            "gen_ai.operation.name": "execute_tool",
            "gen_ai.tool.type": "function",
        }
        if event.known:
            attributes["gen_ai.tool.call.id"] = event.tool_call_id
        span = self._start(f"execute_tool {name}", at, attributes)
        self._tools.setdefault(_tool(event), []).append(span)

    def _tool_call_completed(self, event: ToolCallCompleted, at: float) -> None:
        spans = self._tools.get(_tool(event))
        if spans:
            self._end(spans.pop(0), at, error="tool_error" if event.error else "")

    def _hook_called(self, event: HookCalled, at: float) -> None:
        del at
        # Sums and not spans: a hook of the audio runs fifty times a second.
        times = self._hooks.setdefault(event.name, [0, 0.0, 0.0])
        times[:] = times[0] + 1, times[1] + event.seconds, max(times[2], event.seconds)

    # The end ----------------------------------------------------------------------------------------------------------
    def _call_failed(self, event: CallFailed, at: float) -> None:
        del at
        self._error = event.error

    def _turn_measured(self, event: TurnMeasured, at: float) -> None:
        del at
        self._cost = event.cost_so_far

    def _end_call(self, at: float, outcome: str, error: str = "", metrics: CallMetrics | None = None) -> None:
        """End every open span; a tracer that fails with one span still gets the others."""
        # First: the tracer may be slow, or call back, and nothing may be recorded after the end.
        self._over = True
        for reply in self._replies.values():
            with self._isolated():
                self._end_reply(reply, at, "call ended")
        for tool in chain.from_iterable(self._tools.values()):
            with self._isolated():
                self._end(tool, at, cut="call ended")
        span = self._span
        with self._isolated():
            span.set_attributes(
                {
                    "patter.call.outcome": outcome,
                    "patter.call.turns": self._turn,
                    **costs(getattr(metrics, "cost", self._cost)),
                    **latencies(metrics),
                    **hook_times(self._hooks),
                }
            )
            if error or outcome == "failed":
                # The class recorded by CallFailed; the text in the event may quote words of the call.
                span.set_attribute("error.type", self._error or outcome)
                span.set_status(Status(StatusCode.ERROR, outcome))
        with self._isolated():
            span.end(self._ns(at))


def _tool(event: ToolCallStarted | ToolCallCompleted) -> str:
    return event.tool_call_id or event.name
