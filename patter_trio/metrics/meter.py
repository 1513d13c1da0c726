"""The measuring of one call: from its events, each with its instant, the meter computes turns, latencies and costs.

The meter has no clock: it gets what a :class:`~patter_trio.events.reporter.CallObserver` gets. The rules for turns:

* A turn begins with ``user_speech_eos``; turn 0 begins with the agent's first speech before any of them.
* It ends when its answer ends: played, without audio, or cut. A text from ``say`` costs money and belongs to no turn.
* An answer that is cancelled before the caller hears it (``retracted``) does not end the turn. If a new
  ``user_speech_eos`` follows, because the caller continued the same message, the turn ends then, as interrupted, and
  the new turn is about the whole message.
* An answer that fails is followed by the apology, and the turn ends with that.
* In a pipeline, a turn without ``on_transcript`` (it was vetoed) does not count.
* A turn that is open at the end of the call ends then, as interrupted.
"""

# ruff: noqa: ARG002 - every rule has the same signature, also where it does not use every argument.

from typing import Final

import attrs

from patter_trio.audio.media_clock import MediaClock
from patter_trio.metrics.bill import Bill
from patter_trio.metrics.internal_events import (
    AgentReady,
    AnswerKind,
    CallEvent,
    CostKnown,
    EventTable,
    LateWords,
    LlmCalledTools,
    LlmChunk,
    LlmFinished,
    LlmStarted,
    ReplyEnded,
    ReplyHeard,
    ReplyStarted,
    SentenceStarted,
    TtsFinished,
    TtsFirstAudio,
    UsageReported,
    UtteranceOver,
    VoiceOnset,
    WordlessUtterance,
    WordsFinal,
)
from patter_trio.metrics.public_events import (
    AgentSpeechEnded,
    AgentSpeechStarted,
    TranscriptCommitted,
    UserSpeechEnded,
    UserSpeechEos,
    UserSpeechStarted,
)
from patter_trio.metrics.results import (
    CallMetrics,
    CostBreakdown,
    LatencyBreakdown,
    TurnMetrics,
    latency_average,
    latency_percentile,
)
from patter_trio.pricing import Pricing
from patter_trio.scripts import join

UNHEARD_REASON: Final = "retracted"
"""The reason for the cut of a reply after which its turn continues."""


@attrs.define
class _Reply:
    """The measurements of one reply."""

    number: int
    answer_source: AnswerKind
    first_token: float | None = None
    """When the first text or tool call came."""
    first_text: float | None = None
    last_text: float | None = None
    first_audio: float | None = None
    last_audio: float | None = None
    characters: int = 0
    """The characters sent to the TTS."""


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
    """The meter of one call.

    Args:
        call_id: the carrier's id of the call.
        media: the clock of the caller's audio; the meter only reads it.
        pricing: the result of :func:`~patter_trio.pricing.merge_pricing`; None for list prices.
        began: the instant at which the media stream was opened; the call counts from here if no frame ever comes.
        epoch: Unix time of the clock's zero, in seconds.
        carrier: the carrier's name.
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
        self._committed = 0  # the number of user_speech_eos so far
        # For the whole call, because usage and late transcripts may still name an old one; a small object each.
        self._replies: dict[int, _Reply] = {}
        self._live: _Reply | None = None
        self._mark = 0.0  # seconds of the caller's audio at the end of the last turn
        self._onset: float | None = None  # the begin of the current utterance
        self._last_onset: float | None = None  # the begin of the newest voice
        self._late = False  # True if the caller's next transcript belongs to a turn that is over
        self._heard_of: int | None = None  # the reply to which the agent's next transcript belongs
        self._speaking = False
        self._words: float | None = None
        # Exact values come in internal events just before the edges that round them; an adapter's edges come alone.
        self._exact_offset: float | None = None
        self._exact_silence: float | None = None
        self.turns: list[TurnMetrics] = []
        """The turns that are over, in order."""
        # A table and not a match statement: one look-up instead of twenty comparisons for
        # each of a hundred events a second.
        self._rules = self._table().rules

    def __repr__(self) -> str:
        return f"<Meter of {self._call_id}, {len(self.turns)} turns>"

    def _table(self) -> EventTable[TurnMetrics | None]:
        rules: EventTable[TurnMetrics | None] = EventTable()
        rules.on(AgentReady, self._ready)
        rules.on(VoiceOnset, self._offset)
        rules.on(UserSpeechStarted, self._voice_started)
        rules.on(UserSpeechEnded, self._voice_ended)
        rules.on(WordsFinal, self._words_came)
        rules.on(UtteranceOver, self._silence)
        rules.on(UserSpeechEos, self._commit)
        rules.on(WordlessUtterance, self._wordless)
        rules.on(TranscriptCommitted, self._transcript)
        rules.on(LateWords, self._late_words)
        rules.on(ReplyHeard, self._reply_heard)
        rules.on(ReplyStarted, self._reply_started)
        rules.on(LlmStarted, self._asked)
        rules.on(LlmChunk, self._text)
        rules.on(LlmCalledTools, self._called_tools)
        rules.on(LlmFinished, self._text_over)
        rules.on(SentenceStarted, self._sentence)
        rules.on(TtsFirstAudio, self._audio)
        rules.on(TtsFinished, self._audio_over)
        rules.on(AgentSpeechStarted, self._heard)
        rules.on(AgentSpeechEnded, self._silenced)
        rules.on(UsageReported, self._used)
        rules.on(ReplyEnded, self._reply_ended)
        rules.on(CostKnown, self._charged)
        return rules

    def wants(self, kind: type[CallEvent]) -> bool:
        """Return True if the meter uses events of this class."""
        return kind in self._rules

    def on_event(self, event: CallEvent, at: float) -> TurnMetrics | None:
        """Measure an event at its instant; return the turn that ends with it, if one does."""
        rule = self._rules.get(type(event))
        return None if rule is None else rule(event, at)

    def finish(self, at: float) -> TurnMetrics | None:
        """End the turn that is still open, because the call is over, and return it."""
        return self._close(at, interrupted=True)

    # The caller -------------------------------------------------------------------------------------------------------
    def _ready(self, event: AgentReady, at: float) -> None:
        self._bill.name_providers(event)
        self._mode = event.provider_mode
        self._prompt_characters = event.prompt_characters

    def _offset(self, event: VoiceOnset, at: float) -> None:
        self._exact_offset = event.offset

    def _voice_started(self, event: UserSpeechStarted, at: float) -> None:
        offset, self._exact_offset = self._exact_offset, None
        if offset is None and event.audio_offset_ms is not None:
            offset = event.audio_offset_ms / 1000
        self._last_onset = at if offset is None else self._start + offset
        self._speaking = True
        # The first voice of the utterance: pauses within it belong to the caller's speech.
        if self._onset is None:
            self._onset = self._last_onset

    def _voice_ended(self, event: UserSpeechEnded, at: float) -> None:
        self._speaking = False

    def _words_came(self, event: WordsFinal, at: float) -> None:
        if event.text and self._mode == "pipeline":  # an engine does not wait for its transcripts: they are no latency
            self._words = at

    def _silence(self, event: UtteranceOver, at: float) -> None:
        self._exact_silence = event.silence

    def _commit(self, event: UserSpeechEos, at: float) -> TurnMetrics | None:
        """Begin a new turn; one whose answer was retracted ends now, as interrupted."""
        self._committed += 1
        abandoned = self._turn if self._turn is not None and self._turn.retracted else None
        over = self._close(at, interrupted=abandoned is not None)
        turn = _Turn(self._committed, at, eos=at)
        # The message goes on, so it began with the abandoned turn.
        turn.onset = self._onset if abandoned is None or abandoned.onset is None else abandoned.onset
        silence, self._exact_silence = self._exact_silence, None
        if silence is None and event.trailing_silence_ms is not None:
            silence = event.trailing_silence_ms / 1000
        turn.speech_end = None if silence is None else at - silence
        turn.words = self._words
        self._onset = self._words = None
        self._turn = turn
        return over

    def _wordless(self, event: WordlessUtterance, at: float) -> None:
        if self._turn is not None:
            self._turn.user_text = ""

    def _late_words(self, event: LateWords, at: float) -> None:
        self._late = True

    def _reply_heard(self, event: ReplyHeard, at: float) -> None:
        self._heard_of = event.reply

    def _transcript(self, event: TranscriptCommitted, at: float) -> None:
        # Of the history that is shown, 200 entries: an estimate of what the next request to an LLM will contain.
        self._history_characters = sum(len(entry["text"]) for entry in event.history)
        # Both flags hold for this one event: LateWords and ReplyHeard come just before it.
        late, self._late = self._late, False
        heard = self._live if self._heard_of is None else self._replies.get(self._heard_of)
        self._heard_of = None
        if self._turn is None:
            return
        if event.role == "user":
            if not late:  # late words belong to a turn that has already been reported
                self._turn.user_text = event.text
        elif heard in self._turn.replies:
            # By the reply that was heard: a text from say() in between is heard, too, but is not a part of the answer.
            self._turn.heard.append(event.text)

    # The agent --------------------------------------------------------------------------------------------------------
    def _reply_started(self, event: ReplyStarted, at: float) -> None:
        reply = self._replies[event.reply] = self._live = _Reply(event.reply, event.source)
        # Once: a second text before the caller has spoken belongs to no turn.
        if not self._greeted and not self._committed:
            self._greeted = True
            self._turn = _Turn(0, at, user_text="")
        # A fixed text is an answer only in turn 0, where it is the greeting; later it comes from say().
        if self._turn is not None and (self._turn.index == 0 or reply.answer_source != "text"):
            self._turn.retracted = False
            self._turn.replies.append(reply)

    def _asked(self, event: LlmStarted, at: float) -> None:
        reply = self._replies.get(event.reply)
        # Only what an LLM is asked costs tokens; an on_message runs on the application's own account.
        if reply is not None and reply.answer_source == "llm":
            self._bill.count(reply.number, "asked", self._prompt_characters + self._history_characters)

    def _text(self, event: LlmChunk, at: float) -> None:
        reply = self._replies.get(event.reply)
        if reply is not None and event.text:
            if reply.answer_source == "llm":
                self._bill.count(reply.number, "said", len(event.text))
            # The first piece of all phases: what an LLM says before it calls tools is what the caller waits for.
            if reply.first_text is None:
                reply.first_text = at
            self._token(reply, at)

    def _called_tools(self, event: LlmCalledTools, at: float) -> None:
        reply = self._replies.get(event.reply)
        if reply is not None:
            self._token(reply, at)

    def _token(self, reply: _Reply, at: float) -> None:
        if reply.first_token is None:
            reply.first_token = at

    def _text_over(self, event: LlmFinished, at: float) -> None:
        reply = self._replies.get(event.reply)
        if reply is not None and reply.first_text is not None:
            # Overwritten by each phase: the last one counts.
            reply.last_text = at

    def _sentence(self, event: SentenceStarted, at: float) -> None:
        reply = self._replies.get(event.reply)
        if reply is not None:
            reply.characters += len(event.text)
            self._bill.count(reply.number, "spoken", len(event.text))

    def _audio(self, event: TtsFirstAudio, at: float) -> None:
        reply = self._replies.get(event.reply)
        if reply is not None:
            reply.first_audio = at

    def _audio_over(self, event: TtsFinished, at: float) -> None:
        reply = self._replies.get(event.reply)
        if reply is not None and reply.first_audio is not None:
            reply.last_audio = at

    def _heard(self, event: AgentSpeechStarted, at: float) -> None:
        turn = self._turn
        # The first that was heard, not the last: an answer that failed after its first
        # words is still what ended the wait.
        if turn is not None and self._live in turn.replies and turn.on_wire is None:
            turn.on_wire = at
            turn.answer = self._live

    def _silenced(self, event: AgentSpeechEnded, at: float) -> None:
        turn = self._turn
        if turn is None or self._live not in turn.replies or not event.interrupted or self._last_onset is None:
            return
        # A voice that began before the agent spoke and has ended did not interrupt. One over the agent may have ended
        # already, because the words that cut the reply can come after it.
        if self._speaking or self._last_onset >= (turn.on_wire or 0.0):
            turn.bargein = at - self._last_onset

    def _reply_ended(self, event: ReplyEnded, at: float) -> TurnMetrics | None:
        turn, reason = self._turn, event.reason
        if turn is None or not turn.replies or turn.replies[-1].number != event.reply:
            return None
        # Cut by something else, the silence after the voice says nothing about how fast the agent gives way.
        if reason != "barge-in":
            turn.bargein = None
        if reason == UNHEARD_REASON:
            turn.retracted = True
            return None
        if reason == "failed":
            turn.failed = True
            if turn.replies[-1].answer_source != "error":
                return None  # the apology follows
        # A failed answer was not interrupted: nobody cut it, and failed= says what happened.
        return self._close(at, interrupted=reason not in ("played", "failed"))

    def _close(self, at: float, *, interrupted: bool) -> TurnMetrics | None:
        turn, self._turn = self._turn, None
        if turn is None or (turn.user_text is None and self._mode == "pipeline"):
            return None  # vetoed; an engine's turns are never vetoed: if the text is missing, it is late
        measured = TurnMetrics(
            turn_index=turn.index,
            user_text=turn.user_text or "",
            agent_text=join(turn.heard),
            latency=_latency(turn),
            stt_audio_seconds=self._listened(at) - self._mark,
            tts_characters=sum(reply.characters for reply in turn.replies),
            timestamp=self._epoch + turn.began,
            interrupted=interrupted,
            failed=turn.failed,
        )
        # Here and not at the next turn's begin: the audio between two turns belongs to the one that follows.
        self._mark = self._listened(at)
        self.turns.append(measured)
        return measured

    # Costs ------------------------------------------------------------------------------------------------------------
    def _used(self, event: UsageReported, at: float) -> None:
        self._bill.used(event.reply, event.usage)

    def _charged(self, event: CostKnown, at: float) -> None:
        self._bill.charged(event.cost_usd)

    @property
    def _start(self) -> float:
        return self._began if self._media.start is None else self._media.start

    def _seconds(self, at: float) -> float:
        return max(0.0, at - self._start)

    def _listened(self, at: float) -> float:
        # By instants, not by samples: whether a frame that arrives at the same instant is already counted is chance.
        return 0.0 if self._media.start is None else max(0.0, at - self._media.start)

    def cost(self, at: float) -> CostBreakdown:
        """Return the costs of the call up to that instant."""
        return self._bill.total(self._seconds(at), self._listened(at))

    # The whole call ---------------------------------------------------------------------------------------------------
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
        first_token, last_token = _ms(turn.eos, reply.first_token), _ms(turn.eos, reply.last_text)
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
    """Return the milliseconds between two instants, 0 if the second came first; None if one of them is missing."""
    if since is None or until is None:
        return None
    # Not negative: final words, for example, may come before the voice has ended, and then nobody waited for them.
    return round(max(0.0, until - since) * 1000, 1)
