"""Measures one call: fed with its events, each with its instant, it adds up turns, latencies and costs.

It knows no clock: it sees what a :class:`~patter_trio.events.reporter.CallObserver` sees. When a turn is over:

* A turn begins with ``user_speech_eos``; turn 0 with the first thing that the agent says before any.
* It is over when its answer is: played, without sound, or cut. What ``say`` adds costs money and belongs to no turn.
* An answer that was taken back before anybody heard it (``retracted``, ``amended``) ends nothing: the turn goes on, and a
  new ``user_speech_eos`` joins it, since the caller went on with the same thought.
* An answer that failed is followed by the apology, and over when that is.
* A turn of a pipeline of which ``on_transcript`` was not told (it was vetoed) is none.
* What is open at the end of the call is over then, as cut.
"""

# ruff: noqa: ARG002 - every rule has the same signature, whether or not it looks at all of it.

from typing import Final

import attrs

from patter_trio.audio.media_clock import MediaClock
from patter_trio.metrics.bill import Bill
from patter_trio.metrics.internal_events import (
    AgentReady,
    AnswerKind,
    CallEvent,
    EventTable,
    LateWords,
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
    UserAmended,
    UtteranceOver,
    VoiceStarted,
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

UNHEARD_REASONS: Final = ("retracted", "amended")
"""Why a reply was cut whose turn goes on."""


@attrs.define
class _Reply:
    """What is known of one reply."""

    number: int
    answer_source: AnswerKind
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
        # Exact values come in internal events just before the edges that round them; an adapter's edges come alone.
        self._exact_offset: float | None = None
        self._exact_silence: float | None = None
        self.turns: list[TurnMetrics] = []
        """The turns that are over."""
        self._rules = self._table().rules

    def __repr__(self) -> str:
        return f"<Meter of {self._call_id}, {len(self.turns)} turns>"

    def _table(self) -> EventTable[TurnMetrics | None]:
        rules: EventTable[TurnMetrics | None] = EventTable()
        rules.on(AgentReady, self._ready)
        rules.on(VoiceStarted, self._offset)
        rules.on(UserSpeechStarted, self._voice_started)
        rules.on(UserSpeechEnded, self._voice_ended)
        rules.on(WordsFinal, self._words_came)
        rules.on(UtteranceOver, self._silence)
        rules.on(UserSpeechEos, self._commit)
        rules.on(UserAmended, self._amend)
        rules.on(TranscriptCommitted, self._transcript)
        rules.on(LateWords, self._late_words)
        rules.on(ReplyHeard, self._reply_heard)
        rules.on(ReplyStarted, self._reply_started)
        rules.on(LlmStarted, self._asked)
        rules.on(LlmChunk, self._text)
        rules.on(LlmFinished, self._text_over)
        rules.on(SentenceStarted, self._sentence)
        rules.on(TtsFirstAudio, self._audio)
        rules.on(TtsFinished, self._audio_over)
        rules.on(AgentSpeechStarted, self._heard)
        rules.on(AgentSpeechEnded, self._silenced)
        rules.on(UsageReported, self._used)
        rules.on(ReplyEnded, self._reply_ended)
        return rules

    def wants(self, kind: type[CallEvent]) -> bool:
        """Return True if events of this class are of use."""
        return kind in self._rules

    def on_event(self, event: CallEvent, at: float) -> TurnMetrics | None:
        """Take an event and its instant; return the turn that is over by it."""
        rule = self._rules.get(type(event))
        return None if rule is None else rule(event, at)

    def finish(self, at: float) -> TurnMetrics | None:
        """The call is over: return the turn that was still open."""
        return self._close(at, interrupted=True)

    # The caller -------------------------------------------------------------------------------------------------------
    def _ready(self, event: AgentReady, at: float) -> None:
        self._bill.names = {
            "stt_provider": event.stt_provider,
            "stt_model": event.stt_model,
            "tts_provider": event.tts_provider,
            "tts_model": event.tts_model,
            "llm_provider": event.llm_provider,
            "llm_model": event.llm_model,
        }
        self._mode = event.provider_mode
        self._prompt_characters = event.prompt_characters

    def _offset(self, event: VoiceStarted, at: float) -> None:
        self._exact_offset = event.offset

    def _voice_started(self, event: UserSpeechStarted, at: float) -> None:
        offset, self._exact_offset = self._exact_offset, None
        if offset is None and event.audio_offset_ms is not None:
            offset = event.audio_offset_ms / 1000
        self._last_onset = at if offset is None else self._start + offset
        self._speaking = True
        if self._onset is None:
            self._onset = self._last_onset

    def _voice_ended(self, event: UserSpeechEnded, at: float) -> None:
        self._speaking = False

    def _words_came(self, event: WordsFinal, at: float) -> None:
        if event.text and self._mode == "pipeline":  # an engine's come apart from its understanding
            self._words = at

    def _silence(self, event: UtteranceOver, at: float) -> None:
        self._exact_silence = event.silence

    def _commit(self, event: UserSpeechEos, at: float) -> TurnMetrics | None:
        """A new turn, or the open one again, if its answer was taken back."""
        self._committed += 1
        joined = self._turn if self._turn is not None and self._turn.retracted else None
        over = self._close(at, interrupted=False) if joined is None else None
        turn = joined or _Turn(self._committed, at)
        turn.index, turn.began, turn.eos, turn.retracted = self._committed, at, at, False
        turn.onset = self._onset if turn.onset is None else turn.onset
        silence, self._exact_silence = self._exact_silence, None
        if silence is None and event.trailing_silence_ms is not None:
            silence = event.trailing_silence_ms / 1000
        turn.speech_end = None if silence is None else at - silence
        turn.words = self._words
        turn.user_text = None
        self._onset = self._words = None
        self._turn = turn
        return over

    def _amend(self, event: UserAmended, at: float) -> None:
        if self._turn is not None:
            self._turn.user_text = event.text

    def _late_words(self, event: LateWords, at: float) -> None:
        self._late = True

    def _reply_heard(self, event: ReplyHeard, at: float) -> None:
        self._heard_of = event.reply

    def _transcript(self, event: TranscriptCommitted, at: float) -> None:
        self._history_characters = sum(len(entry["text"]) for entry in event.history)
        late, self._late = self._late, False
        heard = self._live if self._heard_of is None else self._replies.get(self._heard_of)
        self._heard_of = None
        if self._turn is None:
            return
        if event.role == "user":
            if not late:  # its turn has been told
                self._turn.user_text = event.text
        elif heard in self._turn.replies:
            self._turn.heard.append(event.text)

    # The agent --------------------------------------------------------------------------------------------------------
    def _reply_started(self, event: ReplyStarted, at: float) -> None:
        reply = self._replies[event.reply] = self._live = _Reply(event.reply, event.source)
        if not self._greeted and not self._committed:
            self._greeted = True
            self._turn = _Turn(0, at, user_text="")
        if self._turn is not None and (self._turn.index == 0 or reply.answer_source != "text"):
            self._turn.retracted = False
            self._turn.replies.append(reply)

    def _asked(self, event: LlmStarted, at: float) -> None:
        reply = self._replies.get(event.reply)
        if reply is not None and reply.answer_source == "llm":
            self._bill.count(reply.number, "asked", self._prompt_characters + self._history_characters)

    def _text(self, event: LlmChunk, at: float) -> None:
        reply = self._replies.get(event.reply)
        if reply is not None and event.text:
            if reply.answer_source == "llm":
                self._bill.count(reply.number, "said", len(event.text))
            if reply.first_text is None:
                reply.first_text = at

    def _text_over(self, event: LlmFinished, at: float) -> None:
        reply = self._replies.get(event.reply)
        if reply is not None and reply.first_text is not None:
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
        if turn is not None and self._live in turn.replies and turn.on_wire is None:
            turn.on_wire = at
            turn.answer = self._live

    def _silenced(self, event: AgentSpeechEnded, at: float) -> None:
        turn = self._turn
        if turn is None or self._live not in turn.replies or not event.interrupted or self._last_onset is None:
            return
        if self._speaking or self._last_onset >= (turn.on_wire or 0.0):  # words may come when the voice is over
            turn.bargein = at - self._last_onset

    def _reply_ended(self, event: ReplyEnded, at: float) -> TurnMetrics | None:
        turn, reason = self._turn, event.reason
        if turn is None or not turn.replies or turn.replies[-1].number != event.reply:
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
    def _used(self, event: UsageReported, at: float) -> None:
        self._bill.used(event.reply, event.usage)

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
