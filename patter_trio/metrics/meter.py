"""Measures one call: fed with its events and facts, each with its instant, it adds up turns, latencies and costs.

It knows no clock. What is fed is what a :class:`~patter_trio.events.reporter.Watcher` sees. When a turn is over:

* A turn begins with ``user_speech_eos``; turn 0 with the first thing that the agent says before any.
* It is over when its answer is: played, without sound, or cut. What ``say`` adds costs money and belongs to no turn.
* An answer that was taken back before anybody heard it (``retracted``, ``amended``) ends nothing: the turn goes on, and a
  new ``user_speech_eos`` joins it, since the caller went on with the same thought.
* An answer that failed is followed by the apology, and over when that is.
* A turn of a pipeline of which ``on_transcript`` was not told (it was vetoed) is none.
* What is open at the end of the call is over then, as cut.
"""

# ruff: noqa: ARG002 - every rule has the same signature, whether or not it looks at all of it.

from collections.abc import Callable, Mapping
from typing import Any, Final

import attrs

from patter_trio.audio.media_clock import MediaClock
from patter_trio.metrics.bill import Bill
from patter_trio.metrics.results import (
    CallMetrics,
    CostBreakdown,
    LatencyBreakdown,
    TurnMetrics,
    latency_average,
    latency_percentile,
)
from patter_trio.pricing import Pricing

UNHEARD_REASONS: Final = ("retracted", "amended")
"""Why a reply was cut whose turn goes on."""


@attrs.define
class _Reply:
    """What is known of one reply."""

    number: int
    answer_source: str
    first_text: float | None = None
    last_text: float | None = None
    first_audio: float | None = None
    last_audio: float | None = None
    characters: int = 0
    """Handed to the synthesiser."""


@attrs.define
class _Turn:
    """A turn that is not over."""

    index: int
    began: float
    onset: float | None = None
    speech_end: float | None = None
    words: float | None = None
    eos: float | None = None
    user_text: str | None = None
    heard: list[str] = attrs.field(factory=list)
    replies: list[_Reply] = attrs.field(factory=list)
    answer: _Reply | None = None
    """The reply that was heard first."""
    on_wire: float | None = None
    bargein: float | None = None
    retracted: bool = False
    failed: bool = False


class Meter:
    """The measuring of one call.

    Args:
        call_id: the call's.
        media: what knows when the caller's audio began; it is only read.
        pricing: as :func:`~patter_trio.pricing.merge_pricing` returns it.
        began: when the call's media stream was opened; what counts where no frame ever comes.
        epoch: Unix time of the clock's zero.
        carrier: whose call it is.
        direction: ``inbound`` or ``outbound``.
    """

    def __init__(
        self,
        call_id: str,
        media: MediaClock,
        pricing: Pricing | None = None,
        *,
        began: float = 0.0,
        epoch: float = 0.0,
        carrier: str = "local",
        direction: str = "inbound",
    ) -> None:
        self._call_id = call_id
        self._media = media
        self._began = began
        self._epoch = epoch
        self._carrier = carrier
        self._bill = Bill(pricing, carrier, direction)
        self._mode = "pipeline"
        self._prompt_characters = 0
        self._history_characters = 0
        self._turn: _Turn | None = None
        self._greeted = False
        self._committed = 0  # user_speech_eos so far
        self._replies: dict[int, _Reply] = {}
        self._live: _Reply | None = None
        self._mark = 0.0  # seconds that had been listened to when the last turn was measured
        self._onset: float | None = None  # of the utterance that is being said
        self._last_onset: float | None = None
        self._late = False  # the next words of the caller belong to a turn that is over
        self._heard_of: int | None = None  # the reply of which the next words of the agent are
        self._speaking = False
        self._words: float | None = None
        # Exact values come as facts just before the events that round them; who fires events alone has the rounded ones.
        self._exact_offset: float | None = None
        self._exact_silence: float | None = None
        self.turns: list[TurnMetrics] = []
        """The turns that are over."""
        self._rules: Mapping[str, Callable[[float, Mapping[str, Any]], TurnMetrics | None]] = {
            "agent_ready": self._ready,
            "voice_started": self._offset,
            "user_speech_started": self._voice_started,
            "user_speech_ended": self._voice_ended,
            "words_final": self._words_came,
            "utterance_over": self._silence,
            "user_speech_eos": self._commit,
            "user_amended": self._amend,
            "transcript": self._transcript,
            "late_words": self._late_words,
            "reply_heard": self._reply_heard,
            "reply_started": self._reply_started,
            "llm_started": self._asked,
            "llm_chunk": self._text,
            "llm_finished": self._text_over,
            "sentence": self._sentence,
            "tts_first_audio": self._audio,
            "tts_finished": self._audio_over,
            "agent_speech_started": self._heard,
            "agent_speech_ended": self._silenced,
            "usage": self._used,
            "reply_ended": self._reply_ended,
        }

    def __repr__(self) -> str:
        return f"<Meter of {self._call_id}, {len(self.turns)} turns>"

    def wants(self, name: str) -> bool:
        """Return whether that event or fact is of use."""
        return name in self._rules

    def on_event(self, name: str, at: float, payload: Mapping[str, Any]) -> TurnMetrics | None:
        """Take an event or a fact; return the turn that is over by it."""
        rule = self._rules.get(name)
        return None if rule is None else rule(at, payload)

    def finish(self, at: float) -> TurnMetrics | None:
        """The call is over: return the turn that was still open."""
        return self._close(at, interrupted=True)

    # The caller -------------------------------------------------------------------------------------------------------
    def _ready(self, at: float, payload: Mapping[str, Any]) -> None:
        self._bill.names = {key: payload[key] for key in payload if key.endswith(("_provider", "_model"))}
        self._mode = payload.get("provider_mode", self._mode)
        self._prompt_characters = payload["prompt_characters"]

    def _offset(self, at: float, payload: Mapping[str, Any]) -> None:
        self._exact_offset = payload["offset"]

    def _voice_started(self, at: float, payload: Mapping[str, Any]) -> None:
        offset, self._exact_offset = self._exact_offset, None
        if offset is None and "audio_offset_ms" in payload:
            offset = payload["audio_offset_ms"] / 1000
        self._last_onset = at if offset is None else self._start + offset
        self._speaking = True
        if self._onset is None:
            self._onset = self._last_onset

    def _voice_ended(self, at: float, payload: Mapping[str, Any]) -> None:
        self._speaking = False

    def _words_came(self, at: float, payload: Mapping[str, Any]) -> None:
        if payload["text"] and self._mode == "pipeline":  # an engine's come apart from its understanding
            self._words = at

    def _silence(self, at: float, payload: Mapping[str, Any]) -> None:
        self._exact_silence = payload["silence"]

    def _commit(self, at: float, payload: Mapping[str, Any]) -> TurnMetrics | None:
        """A new turn, or the open one again, if its answer was taken back."""
        self._committed += 1
        joined = self._turn if self._turn is not None and self._turn.retracted else None
        over = self._close(at, interrupted=False) if joined is None else None
        turn = joined or _Turn(self._committed, at)
        turn.index, turn.began, turn.eos, turn.retracted = self._committed, at, at, False
        turn.onset = self._onset if turn.onset is None else turn.onset
        silence, self._exact_silence = self._exact_silence, None
        if silence is None and "trailing_silence_ms" in payload:
            silence = payload["trailing_silence_ms"] / 1000
        turn.speech_end = None if silence is None else at - silence
        turn.words = self._words
        turn.user_text = None
        self._onset = self._words = None
        self._turn = turn
        return over

    def _amend(self, at: float, payload: Mapping[str, Any]) -> None:
        if self._turn is not None:
            self._turn.user_text = payload["text"]

    def _late_words(self, at: float, payload: Mapping[str, Any]) -> None:
        self._late = True

    def _reply_heard(self, at: float, payload: Mapping[str, Any]) -> None:
        self._heard_of = payload["reply"]

    def _transcript(self, at: float, payload: Mapping[str, Any]) -> None:
        self._history_characters = sum(len(entry["text"]) for entry in payload["history"])
        late, self._late = self._late, False
        heard = self._live if self._heard_of is None else self._replies.get(self._heard_of)
        self._heard_of = None
        if self._turn is None:
            return
        if payload["role"] == "user":
            if not late:  # its turn has been told
                self._turn.user_text = payload["text"]
        elif heard in self._turn.replies:
            self._turn.heard.append(payload["text"])

    # The agent --------------------------------------------------------------------------------------------------------
    def _reply_started(self, at: float, payload: Mapping[str, Any]) -> None:
        reply = self._replies[payload["reply"]] = self._live = _Reply(payload["reply"], payload["source"])
        if not self._greeted and not self._committed:
            self._greeted = True
            self._turn = _Turn(0, at, user_text="")
        if self._turn is not None and (self._turn.index == 0 or reply.answer_source != "text"):
            self._turn.retracted = False
            self._turn.replies.append(reply)

    def _asked(self, at: float, payload: Mapping[str, Any]) -> None:
        reply = self._replies.get(payload["reply"])
        if reply is not None and reply.answer_source == "llm":
            self._bill.count(reply.number, "asked", self._prompt_characters + self._history_characters)

    def _text(self, at: float, payload: Mapping[str, Any]) -> None:
        reply = self._replies.get(payload["reply"])
        if reply is not None and payload["text"]:
            if reply.answer_source == "llm":
                self._bill.count(reply.number, "said", len(payload["text"]))
            if reply.first_text is None:
                reply.first_text = at

    def _text_over(self, at: float, payload: Mapping[str, Any]) -> None:
        reply = self._replies.get(payload["reply"])
        if reply is not None and reply.first_text is not None:
            reply.last_text = at

    def _sentence(self, at: float, payload: Mapping[str, Any]) -> None:
        reply = self._replies.get(payload["reply"])
        if reply is not None:
            reply.characters += len(payload["text"])
            self._bill.count(reply.number, "spoken", len(payload["text"]))

    def _audio(self, at: float, payload: Mapping[str, Any]) -> None:
        reply = self._replies.get(payload["reply"])
        if reply is not None:
            reply.first_audio = at

    def _audio_over(self, at: float, payload: Mapping[str, Any]) -> None:
        reply = self._replies.get(payload["reply"])
        if reply is not None and reply.first_audio is not None:
            reply.last_audio = at

    def _heard(self, at: float, payload: Mapping[str, Any]) -> None:
        turn = self._turn
        if turn is not None and self._live in turn.replies and turn.on_wire is None:
            turn.on_wire = at
            turn.answer = self._live

    def _silenced(self, at: float, payload: Mapping[str, Any]) -> None:
        turn = self._turn
        if turn is None or self._live not in turn.replies or not payload["interrupted"] or self._last_onset is None:
            return
        if self._speaking or self._last_onset >= (turn.on_wire or 0.0):  # words may come when the voice is over
            turn.bargein = at - self._last_onset

    def _reply_ended(self, at: float, payload: Mapping[str, Any]) -> TurnMetrics | None:
        turn, reason = self._turn, payload["reason"]
        if turn is None or not turn.replies or turn.replies[-1].number != payload["reply"]:
            return None
        if reason != "barge-in":
            turn.bargein = None
        if reason in UNHEARD_REASONS:
            turn.retracted = reason == "retracted"
            return None
        if reason == "failed":
            turn.failed = True
            if turn.replies[-1].answer_source != "error":
                return None  # the apology follows
        return self._close(at, interrupted=reason not in ("played", "failed"))

    def _close(self, at: float, *, interrupted: bool) -> TurnMetrics | None:
        turn, self._turn = self._turn, None
        if turn is None or (turn.user_text is None and self._mode == "pipeline"):
            return None  # an engine's turns are never vetoed: of one without text the words are late
        told = TurnMetrics(
            turn_index=turn.index,
            user_text=turn.user_text or "",
            agent_text=" ".join(turn.heard),
            latency=_latency(turn),
            stt_audio_seconds=self._listened(at) - self._mark,
            tts_characters=sum(reply.characters for reply in turn.replies),
            timestamp=self._epoch + turn.began,
            interrupted=interrupted,
            failed=turn.failed,
        )
        self._mark = self._listened(at)
        self.turns.append(told)
        return told

    # Money ------------------------------------------------------------------------------------------------------------
    def _used(self, at: float, payload: Mapping[str, Any]) -> None:
        self._bill.used(payload.get("reply"), payload["usage"])

    @property
    def _start(self) -> float:
        return self._began if self._media.start is None else self._media.start

    def _seconds(self, at: float) -> float:
        return max(0.0, at - self._start)

    def _listened(self, at: float) -> float:
        # By instants, not by counting samples: whether a frame is counted that comes at the very same one, is chance.
        return 0.0 if self._media.start is None else max(0.0, at - self._media.start)

    def cost(self, at: float) -> CostBreakdown:
        """Return what the call has cost up to that instant."""
        return self._bill.total(self._seconds(at), self._listened(at))

    # All of it --------------------------------------------------------------------------------------------------------
    def call(self, at: float) -> CallMetrics:
        """Return the call's metrics, as of that instant."""
        return CallMetrics(
            call_id=self._call_id,
            duration_seconds=self._seconds(at),
            turns=tuple(self.turns),
            cost=self.cost(at),
            latency_avg=latency_average(self.turns),
            latency_p50=latency_percentile(self.turns, 0.50),
            latency_p90=latency_percentile(self.turns, 0.90),
            latency_p95=latency_percentile(self.turns, 0.95),
            latency_p99=latency_percentile(self.turns, 0.99),
            telephony_provider=self._carrier,
            provider_mode=self._mode,
            **self._bill.names,
        )


def _latency(turn: _Turn) -> LatencyBreakdown:
    reply = turn.answer or (turn.replies[-1] if turn.replies else None)
    end = turn.speech_end
    first_token = last_token = None
    if reply is not None and reply.answer_source in ("llm", "on_message"):
        first_token, last_token = _ms(turn.eos, reply.first_text), _ms(turn.eos, reply.last_text)
    return LatencyBreakdown(
        stt_ms=_ms(end, turn.words),
        endpoint_ms=_ms(end, turn.eos),
        llm_ms=first_token,
        llm_ttft_ms=first_token,
        llm_total_ms=last_token,
        tts_ms=_ms(reply.first_text, reply.first_audio) if reply else None,
        tts_total_ms=_ms(reply.first_text, reply.last_audio) if reply else None,
        bargein_ms=None if turn.bargein is None else round(turn.bargein * 1000, 1),
        total_ms=_ms(end, turn.on_wire),
        agent_response_ms=_ms(end, reply.first_audio) if reply else None,
        user_speech_duration_ms=_ms(turn.onset, end),
    )


def _ms(since: float | None, until: float | None) -> float | None:
    """Return the milliseconds between two instants, 0 where the second came first; None where one of them is missing."""
    if since is None or until is None:
        return None
    return round(max(0.0, until - since) * 1000, 1)
