"""One call as OpenTelemetry spans: what happened, put into span operations with the instants at which it happened.

::

    patter.call                     from the announcement to the end; the seven speech edges are its span events
    ├── patter.stt                  the caller's voice began - the recogniser's last word of the utterance (no engine's)
    ├── patter.endpoint             last voice - the decision that the utterance is over
    ├── chat MODEL                  the model is asked - its last token (``on_message FUNCTION`` for an application's)
    ├── execute_tool NAME           a tool is called - it has answered
    ├── patter.tts                  first sentence - all of the reply is synthesised
    └── patter.bargein              voice over the agent - the agent is silent

A :class:`CallTrace` is a watcher (``events/reporter.py``): it waits for nothing, and nothing that a tracer raises leaves it.
What anyone said never gets in: of all payloads only what the tables here name is taken, and none of them names a text.
Errors are told by their class, because a message may quote what was said.

Spans whose beginning is known only when they are over (who knows that a sound is an utterance before it has words?) are
made then, with the instants of the past. This module imports opentelemetry: only ``tracing.py`` imports it, when it is on.
"""

import logging
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from itertools import chain
from typing import Any, Final

import attrs
from opentelemetry import context as contexts
from opentelemetry.trace import INVALID_SPAN, Span, SpanKind, Status, StatusCode, Tracer, set_span_in_context

from patter_trio.abc import CallInfo
from patter_trio.agent.agent import Agent
from patter_trio.audio.media_clock import MediaClock
from patter_trio.phone_numbers import mask_number
from patter_trio.tracing.attributes import EDGES, SLOW_EXPORT_REMEDY, TURN, Scalar, costs, hook_times, latencies, named
from patter_trio.user_code import invoke

_CUT: Final = "patter.cut.reason"
_STT: Final = {"stt_provider": "patter.stt.provider", "stt_model": "patter.stt.model"}
_TTS: Final = {"tts_provider": "patter.tts.provider", "tts_model": "patter.tts.model"}

_Heed = Callable[[float, Mapping[str, Any]], None]

_log = logging.getLogger("patter_trio.telemetry")


@attrs.define
class _Reply:
    """A reply under way: what was said about it when it began, and its open spans."""

    about: Mapping[str, Any]
    spans: dict[str, Span] = attrs.field(factory=dict)
    asked: float = 0.0
    answered: bool = False
    failed: bool = False


class CallTrace:
    """The spans of one call; ``media`` is to be set when its media stream is there."""

    def __init__(
        self, tracer: Tracer, info: CallInfo, agent: Agent, media: MediaClock, *, at: float, epoch: float
    ) -> None:
        self._tracer = tracer
        self._call_id: str = info.call_id
        self._parts: Mapping[str, Any] = {}
        """Who takes part in the call: not always those of ``agent``, for ``on_call_start`` may give it others."""
        self._epoch = round(epoch * 1e9)
        self._span: Span = INVALID_SPAN
        self._over = True
        self._complained = False
        self._error = ""
        self._cost: Any = None
        self._turn = 0
        self._replies: dict[int, _Reply] = {}
        self._tools: dict[str, list[Span]] = {}
        """Oldest first: those of a model that calls one twice at once, without saying which is which, end in order."""
        self._voice: float | None = None
        """When the voice of the utterance that is not committed yet began."""
        self._worded = False
        """Whether there are words of that voice; one without was a noise, if the next comes too long after it."""
        self._voice_over = 0.0
        self._patience = agent.policy(reply=0.0).final_wait
        self._words: float | None = None
        """When its last final words came."""
        self._over_agent = 0.0
        """When the caller's voice began for the last time."""
        self._agent_spoke = 0.0
        self._hooks: dict[str, list[float]] = {}
        """Of each hook: how often it was asked, and the sum and the longest of its times, in seconds."""
        self._interruption: tuple[float, Mapping[str, Any]] | None = None
        self._media = media
        with self._isolated():
            # A trace of its own for each call, whatever span is current where calls are served from.
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
        """Make the call's span current in this task and all that it starts, so that theirs are its children."""
        with self._isolated():
            contexts.attach(set_span_in_context(self._span))

    def wants(self, name: str) -> bool:  # noqa: ARG002 (any fact may become an attribute of a span)
        """Return True: the trace looks at every fact."""
        return True

    def on_event(self, name: str, at: float, payload: Mapping[str, Any]) -> None:
        """Take an event or a fact of the call; there is a method ``_on_...`` for each that means more than a span event."""
        if self._over:
            return
        if name == "call_end":
            self._end_call(at, payload)
            return
        heed: _Heed | None = getattr(self, f"_on_{name}", None)
        if heed is None and name not in EDGES:
            return
        with self._isolated():
            if name in EDGES:
                event, keys = EDGES[name]
                self._span.add_event(event, named(payload, keys), self._ns(at))
            if heed is not None:
                heed(at, payload)

    def close(self, at: float, outcome: str, reason: str) -> None:
        """End what is open, of a call whose end nobody told: it never connected, or a bug was in the way."""
        if not self._over:
            self._error = self._error or reason
            self._end_call(at, {"outcome": outcome})

    @contextmanager
    def _isolated(self) -> Iterator[None]:
        """Keep what the application's tracer does away from the call, and say so once."""
        try:
            with invoke.isolate("the tracer provider", SLOW_EXPORT_REMEDY, self._call_id):
                yield
        except invoke.ApplicationError as error:
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
        return self._tracer.start_span(
            name,
            context=set_span_in_context(self._span, contexts.Context()),
            kind=kind,
            attributes=attributes,
            start_time=self._ns(at),
        )

    def _past(self, name: str, began: float, ended: float, attributes: Mapping[str, Scalar]) -> None:
        """Make a span of what is over already."""
        self._start(name, min(began, ended), attributes).end(self._ns(ended))

    def _on_agent_ready(self, at: float, payload: Mapping[str, Any]) -> None:
        del at
        self._parts = payload

    # The caller --------------------------------------------------------------------------------------------------
    def _on_user_speech_started(self, at: float, payload: Mapping[str, Any]) -> None:
        self._over_agent = began = self._in_audio(at, payload)
        if self._voice is None or (not self._worded and began > self._voice_over + self._patience):
            self._voice = began

    def _on_user_speech_ended(self, at: float, payload: Mapping[str, Any]) -> None:
        self._voice_over = self._in_audio(at, payload)

    def _in_audio(self, at: float, payload: Mapping[str, Any]) -> float:
        """Return when an edge of the voice was, rather than when it was noticed."""
        zero = self._media.start or 0.0
        return zero + payload["audio_offset_ms"] / 1000 if "audio_offset_ms" in payload else at

    def _on_user_speech_eos(self, at: float, payload: Mapping[str, Any]) -> None:
        self._turn += 1
        self._utterance(at)
        if "trailing_silence_ms" in payload:
            attributes = {**named(payload, EDGES["user_speech_eos"][1]), "patter.turn.idx": self._turn}
            self._past("patter.endpoint", at - payload["trailing_silence_ms"] / 1000, at, attributes)

    def _on_transcript(self, at: float, payload: Mapping[str, Any]) -> None:
        if payload["role"] == "user":  # what was said under speech that may not be interrupted has no eos
            self._utterance(at)

    def _on_transcript_partial(self, at: float, payload: Mapping[str, Any]) -> None:
        del at
        self._worded = self._worded or bool(payload["text"].strip())

    def _on_words_final(self, at: float, payload: Mapping[str, Any]) -> None:
        if payload["text"].strip():
            self._worded, self._words = True, at
            if self._voice is None:
                self._voice = at

    def _utterance(self, at: float) -> None:
        """Make the recogniser's span: until its final words, or until its guess was good enough."""
        began, self._voice, words, self._words = self._voice, None, self._words, None
        self._worded = False
        if began is None or not self._parts.get("stt_provider"):
            return  # what an engine hears is its own affair
        attributes = {**named(self._parts, _STT), "patter.turn.idx": self._turn}
        self._past("patter.stt", began, at if words is None else words, attributes)

    def _on_agent_speech_started(self, at: float, payload: Mapping[str, Any]) -> None:
        del payload
        self._agent_spoke = at

    def _on_agent_speech_ended(self, at: float, payload: Mapping[str, Any]) -> None:
        if payload["interrupted"]:
            self._interruption = (at, payload)

    # Replies ----------------------------------------------------------------------------------------------------------
    def _on_reply_started(self, at: float, payload: Mapping[str, Any]) -> None:
        del at
        self._replies.setdefault(payload["reply"], _Reply(payload))

    def _on_llm_started(self, at: float, payload: Mapping[str, Any]) -> None:
        reply = self._replies.get(payload["reply"])
        if reply is None or "llm" in reply.spans or reply.about["source"] not in ("llm", "on_message"):
            return
        model, turn = reply.about.get("model", ""), named(payload, TURN)
        if reply.about["source"] == "llm":
            attributes: dict[str, Scalar] = {
                "gen_ai.operation.name": "chat",
                "gen_ai.provider.name": reply.about.get("llm_provider", ""),
                "gen_ai.request.model": model,
                "gen_ai.request.stream": True,
                "gen_ai.conversation.id": self._call_id,
            }
            span = self._start(f"chat {model}", at, {**attributes, **turn}, SpanKind.CLIENT)
        else:  # a function is no model; one that it asks has a span of its own, if the application wants one
            span = self._start(f"on_message {model}", at, {"code.function.name": model, **turn})
        reply.spans["llm"], reply.asked = span, at
        # We are called by the task that thinks: what it opens from here on belongs to this span, until it ends.
        contexts.attach(set_span_in_context(span))

    def _on_llm_chunk(self, at: float, payload: Mapping[str, Any]) -> None:
        reply = self._replies.get(payload["reply"])
        if reply is None or reply.answered or not payload["text"]:
            return
        reply.answered = True
        if reply.about["source"] == "llm" and "llm" in reply.spans:
            reply.spans["llm"].set_attribute("gen_ai.response.time_to_first_chunk", round(at - reply.asked, 6))

    def _on_llm_finished(self, at: float, payload: Mapping[str, Any]) -> None:
        self._part_over("llm", at, payload)

    def _on_llm_failed(self, at: float, payload: Mapping[str, Any]) -> None:
        self._part_over("llm", at, payload)

    def _on_sentence(self, at: float, payload: Mapping[str, Any]) -> None:
        reply = self._replies.get(payload["reply"])
        if reply is None or "tts" in reply.spans:
            return
        attributes = {**named(self._parts, _TTS), **named(payload, TURN)}
        reply.spans["tts"] = self._start("patter.tts", at, attributes)

    def _on_tts_finished(self, at: float, payload: Mapping[str, Any]) -> None:
        self._part_over("tts", at, payload)

    def _on_tts_failed(self, at: float, payload: Mapping[str, Any]) -> None:
        self._part_over("tts", at, payload)

    def _part_over(self, part: str, at: float, payload: Mapping[str, Any]) -> None:
        reply = self._replies.get(payload["reply"])
        if reply is not None:
            error = payload.get("error", "")
            reply.failed = reply.failed or bool(error)
            self._end(reply.spans.pop(part, None), at, error=error)

    def _on_reply_ended(self, at: float, payload: Mapping[str, Any]) -> None:
        interruption, self._interruption = self._interruption, None
        reply = self._replies.pop(payload["reply"], None)
        if reply is not None:
            self._end_reply(reply, at, payload["reason"])
        if payload["reason"] == "barge-in" and interruption is not None:
            ended, heard = interruption
            began = max(self._over_agent, self._agent_spoke)
            keys = {**TURN, "speech_duration_ms": "patter.speech.duration_ms"}
            self._past("patter.bargein", began, ended, named(heard, keys))

    def _end_reply(self, reply: _Reply, at: float, reason: str) -> None:
        late = reason == "failed" and not reply.failed  # nobody raised: the time of what should come first was over
        for part in ("llm", "tts"):
            span = reply.spans.pop(part, None)
            self._end(span, at, error="timeout" if late else "", cut=reason)
            late = late and span is None

    def _end(self, span: Span | None, at: float, *, error: str = "", cut: str = "") -> None:
        if span is None:
            return
        if error:
            span.set_attribute("error.type", error)
            span.set_status(Status(StatusCode.ERROR))
        elif cut:
            span.set_attribute(_CUT, cut)
        span.end(self._ns(at))

    # Tools ------------------------------------------------------------------------------------------------------------
    def _on_tool_call_started(self, at: float, payload: Mapping[str, Any]) -> None:
        attributes = named(payload, {"name": "gen_ai.tool.name", "tool_call_id": "gen_ai.tool.call.id"})
        attributes |= {"gen_ai.operation.name": "execute_tool", "gen_ai.tool.type": "function"}
        span = self._start(f"execute_tool {payload['name']}", at, attributes)
        self._tools.setdefault(_tool(payload), []).append(span)

    def _on_tool_call_completed(self, at: float, payload: Mapping[str, Any]) -> None:
        spans = self._tools.get(_tool(payload))
        if spans:
            self._end(spans.pop(0), at, error="tool_error" if payload.get("error") else "")

    def _on_hook(self, at: float, payload: Mapping[str, Any]) -> None:
        del at
        times = self._hooks.setdefault(payload["name"], [0, 0.0, 0.0])
        times[:] = times[0] + 1, times[1] + payload["seconds"], max(times[2], payload["seconds"])

    # The end ----------------------------------------------------------------------------------------------------------
    def _on_call_failed(self, at: float, payload: Mapping[str, Any]) -> None:
        del at
        self._error = payload["error"]

    def _on_metrics(self, at: float, payload: Mapping[str, Any]) -> None:
        del at
        self._cost = payload.get("cost_so_far")

    def _end_call(self, at: float, payload: Mapping[str, Any]) -> None:
        """End all that is open; a tracer that breaks over one span still gets the others."""
        self._over = True
        for reply in self._replies.values():
            with self._isolated():
                self._end_reply(reply, at, "call ended")
        for tool in chain.from_iterable(self._tools.values()):
            with self._isolated():
                self._end(tool, at, cut="call ended")
        span = self._span
        with self._isolated():
            metrics = payload.get("metrics")
            span.set_attributes(
                {
                    "patter.call.outcome": payload["outcome"],
                    "patter.call.turns": self._turn,
                    **costs(getattr(metrics, "cost", self._cost)),
                    **latencies(metrics),
                    **hook_times(self._hooks),
                }
            )
            if payload.get("error") or payload["outcome"] == "failed":
                span.set_attribute("error.type", self._error or payload["outcome"])
                span.set_status(Status(StatusCode.ERROR, payload["outcome"]))
        with self._isolated():
            span.end(self._ns(at))


def _tool(payload: Mapping[str, Any]) -> str:
    return str(payload.get("tool_call_id") or payload["name"])
