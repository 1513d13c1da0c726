"""The state of the turn machine: the states of both sides, the deadlines, the live reply, and the conversation."""

import math
from collections import deque
from enum import StrEnum

import attrs

from patter_trio.conversation import actions
from patter_trio.conversation.inputs import Say
from patter_trio.conversation.policy import TurnPolicy
from patter_trio.conversation.utterance import Guess, Message, Utterance


# Two small machines instead of one: as one, the states below would be 35 pairs, and each rule would have to be written
# for all states of the other side.
class CallerState(StrEnum):
    """The state of the caller."""

    SILENT = "silent"
    SPEAKING = "speaking"
    PAUSING = "pausing"
    """The voice has ended; whether the utterance has ended is not decided yet."""
    HELD = "held"
    """A turn detector judges the utterance unfinished, so the machine waits for more."""
    AWAY = "away"


class AgentState(StrEnum):
    """The state of the agent's side."""

    INITIALIZING = "initializing"
    IDLE = "idle"
    THINKING = "thinking"
    """A reply is live and the carrier has no audio of it to play: the reply has not begun, or it has a gap."""
    SPEAKING = "speaking"
    CLOSING = "closing"
    """The agent's side hung up or transferred the call, and the carrier has not confirmed it yet."""
    FLUSHING = "flushing"
    """The caller is gone, and the STT may still deliver words."""
    ENDED = "ended"


# Fixed, so that the same call is decided in the same way each time. The caller's words come first, because a commit
# makes the deadlines of the reply that it replaces void.
class Timer(StrEnum):
    """The deadlines. When two are due at the same instant, the one listed first fires first."""

    ENDPOINT = "endpoint"
    FINAL = "final"
    HOLD = "hold"
    KEYS = "keys"
    STUCK = "stuck"
    LULL = "lull"
    OVERLAP = "overlap"
    REPLY = "reply"
    GOODBYE = "goodbye"
    LEG = "leg"
    FLUSH = "flush"
    AWAY = "away"


PUBLIC_USER = {
    CallerState.SILENT: "listening",
    CallerState.SPEAKING: "speaking",
    CallerState.PAUSING: "listening",
    # Said of the caller: an utterance that is not finished is a pause for thought.
    CallerState.HELD: "thinking",
    CallerState.AWAY: "away",
}
"""The public state of the caller (``conversation_state``) for each internal one."""
PUBLIC_AGENT = {
    AgentState.INITIALIZING: "initializing",
    AgentState.IDLE: "idle",
    AgentState.THINKING: "thinking",
    AgentState.SPEAKING: "speaking",
    # In these three the agent says nothing any more; what is still to be done then does not concern observers.
    AgentState.CLOSING: "idle",
    AgentState.FLUSHING: "idle",
    AgentState.ENDED: "idle",
}
"""The public state of the agent (``conversation_state``) for each internal one."""


@attrs.define
class ReplyState:
    """The live reply: one that is neither finished nor cut."""

    number: int
    turn: int
    text: str | None
    apology: bool
    interruptible: bool
    answers: bool
    """True if the reply answers the newest user entry; False if the application asked for it."""
    digits: int = 0
    """The number of the request for DTMF digits that the reply sends; 0: it speaks."""
    audio: bool = False
    opened: bool = False
    started: bool = False
    """True once the caller has begun to hear the reply, and ``agent_speech_started`` was reported."""
    produced: bool = False
    failed: bool = False
    """True if the reply broke off behind its last finished sentence: an apology follows when that was heard."""
    closes: bool = False
    """True if a tool, such as ``end_call``, runs once the reply was played."""
    # Not None: max() with the present needs no test.
    busy: float = -math.inf
    """The instant until which the reply may wait for a tool."""

    def __str__(self) -> str:
        """Return the reply's number and flags."""
        marks = [name for name in ("audio", "opened", "started", "produced") if getattr(self, name)]
        return f"reply {self.number} ({', '.join(marks) or 'nothing yet'})"


@attrs.define
class WordFlow:
    """The record of when and how the STT gives words while the caller speaks."""

    early_end: float = -math.inf
    """When the STT or engine last ended a turn, and with it a voice; the voice may have ended a little before."""
    words_at: float = -math.inf
    """When the caller's words last changed."""
    has_final: bool = False
    """True if final words came during the present voice."""
    owes_final: bool = False
    """True if the last voice has ended, and no final words have come since it began."""
    streams: bool = False
    """True once the STT has given words of a voice that went on. Others give none before the end of a voice."""
    asked: bool = False
    """True if the STT was asked for the words of the present voice, and has not answered."""
    times_asked: int = 0
    """How often the STT was asked for the words of the present voice."""


class ConversationState:
    """The state of one call's conversation: what both sides are doing, and what follows from it."""

    hold: float = 0.0
    """Seconds for which a transfer may keep the caller on hold; 0: none does."""

    def __init__(self, policy: TurnPolicy, *, detector: bool) -> None:
        self.policy = policy
        self.detector = detector
        self.now: float = -math.inf
        self.caller: CallerState = CallerState.SILENT
        self.agent: AgentState = AgentState.INITIALIZING
        self.timers: dict[Timer, float] = {}
        self.prompt: list[Timer] = []
        """Deadlines that were over when they were set. They are due within the same step."""
        self.out: list[actions.Action] = []

        self.turn: int = 0
        self.replies: int = 0
        self.reply: ReplyState | None = None
        self.queue: deque[Say] = deque()
        self.ending: str | None = None
        """The first reason to end the call, or None. Already set while the agent says goodbye."""
        self.pending_hang_up: str | None = None
        """A hang-up that was wanted during a transfer. It takes effect if the transfer fails."""
        self.transfer_accepted: bool = False
        """True once the carrier has accepted the transfer."""
        self.flushed: bool = False
        """True once the STT has delivered its last words, while the carrier's answer to a transfer is still missing."""
        self.leg_down_reason: str = ""
        """Why the leg went down."""

        # The caller's present or last voice, from its onset to its end. Silence counts from the end.
        self.onset: float = -math.inf
        self.end: float = -math.inf
        self.by_voice: bool = False
        """True if ``end`` is the end of a voice; False if it is when the last words came."""
        self.generation: int = 0
        self.unfinished: bool = False
        """True if the turn detector, or the STT, calls the utterance unfinished."""
        self.is_complete: bool = False
        """True if the turn detector, or the STT, is sure that the utterance is finished."""
        self.voice_has_words: bool = False
        """True if words were recognised during the present voice."""
        self.ended_early: bool = False
        """True if the STT provider ended the turn, and with it a voice whose end the VAD has not reported."""

        self.utterance: Utterance = Utterance()
        self.message: Message | None = None
        """The newest user message."""
        self.unanswered: bool = False
        """True if the newest message's answer was retracted. What the caller says next joins the message."""
        self.promoted: dict[int, Guess] = {}
        """Segments whose interim words were committed. Their final words must not be counted twice."""
        self.flow: WordFlow = WordFlow()
        self.goodbye_cut: bool = False
        """True if the caller cut a reply that was to end the call. The caller's words decide whether it still does."""
        # The last turns for which llm_token and audio_out were reported, and in which the agent apologised.
        self.token_turn: int = -1
        self.audio_turn: int = -1
        self.apology_turn: int = -1
        self._published = (self.user_state, self.agent_state)

    # What is true --------------------------------------------------------------------------------------------------
    @property
    def user_state(self) -> str:
        """The caller's public state."""
        return PUBLIC_USER[self.caller]

    @property
    def agent_state(self) -> str:
        """The agent's public state. A text that the application wants spoken shows only once it is heard."""
        waits = self.agent is AgentState.THINKING and self.reply is not None
        if waits and self.reply is not None and not self.reply.answers and not self.reply.started:
            return PUBLIC_AGENT[AgentState.IDLE]
        return PUBLIC_AGENT[self.agent]

    @property
    def live(self) -> ReplyState:
        """The live reply, for rules that apply only while there is one."""
        if self.reply is None:
            raise AssertionError(f"no reply while {self.agent}")
        return self.reply

    @property
    def can_cut(self) -> bool:
        """True if the caller may interrupt the live reply."""
        # A goodbye is played to its end (within policy.goodbye).
        barge_in = self.policy.overlap < math.inf and self.ending is None
        return barge_in and self.reply is not None and self.reply.interruptible

    @property
    def has_unheard_say(self) -> bool:
        """True if the live reply is a text that nobody has heard yet. Such a reply is never thrown away."""
        return self.reply is not None and self.reply.text is not None and not self.reply.started

    @property
    def has_unheard_answer(self) -> bool:
        """True if the live reply answers the newest message, and the caller has heard nothing of it."""
        return self.reply is not None and self.reply.answers and not self.reply.started

    @property
    def can_rejoin(self) -> bool:
        """True if more words still belong to the newest message, because the caller has heard nothing of its answer."""
        return (self.has_unheard_answer or self.unanswered) and self.ending is None

    @property
    def has_question(self) -> bool:
        """True if the caller has said something that waits for an answer."""
        return bool(self.utterance) or self.can_rejoin

    @property
    def max_wordless_voice(self) -> float:
        """Seconds after which a voice without words, or one that holds an answer back, counts as noise."""
        policy = self.policy
        # An engine takes a voice for an utterance, so noise that never ends would hold back the
        # answer until it counts as noise.
        answer_waits = self.has_unheard_answer
        return (
            policy.max_wordless_voice
            if policy.needs_words or not answer_waits
            else min(policy.max_wordless_voice, policy.max_wordless_voice_before_answer)
        )

    @property
    def agent_has_floor(self) -> bool:
        """True if an utterance that is over has to wait for the agent."""
        if self.agent is AgentState.THINKING:
            return not self.gives_way
        return self.agent is not AgentState.IDLE

    @property
    def gives_way(self) -> bool:
        """True if the reply, which is silent at the moment, is cut when the caller goes on."""
        if not self.can_cut or self.has_unheard_say:
            return False
        # In a gap of a reply that was heard, as few words as would not interrupt speech do not interrupt it either.
        return not self.live.started or self.utterance.unjudged_words >= self.policy.min_words

    @property
    def is_over_agent(self) -> bool:
        """True if a voice that ends now was too short to interrupt the agent; recognised words are always kept."""
        return not self.policy.needs_words and self.agent is AgentState.SPEAKING and self.can_cut

    # Events and timers ----------------------------------------------------------------------------------------------
    def emit(self, action: actions.Action) -> None:
        """Append an action, after a change of the public states that it belongs to."""
        # First, so that observers of the action's event read the states that belong to it.
        self.publish()
        self.out.append(action)

    def publish(self) -> None:
        """Append the public states if they have changed."""
        states = (self.user_state, self.agent_state)
        if states != self._published:
            self._published = states
            self.out.append(actions.StateChanged(self.now, *states))

    def arm(self, timer: Timer, at: float) -> None:
        """Set a deadline, or move it. A deadline that is over already fires within this step."""
        self.disarm(timer)
        if at < math.inf:
            # A deadline in the past would date the decision before its cause.
            self.timers[timer] = max(self.now, at)
        if at <= self.now:
            self.prompt.append(timer)

    def disarm(self, *timers: Timer) -> None:
        """Clear deadlines."""
        for timer in timers:
            self.timers.pop(timer, None)
            if timer in self.prompt:
                self.prompt.remove(timer)
