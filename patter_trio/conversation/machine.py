"""The turn machine: who may speak, when an utterance is over, when a reply is cut. Pure; time is an argument.

``step(event, now)`` fires every deadline that was due before ``now``, each at its own time, then takes the input; an
input at the very instant of a deadline comes first. So decisions do not depend on when the machine is asked, and a busy
event loop changes nothing but how late they are carried out.

The rules stand in ``turntable.py``; here are their bodies. Some are worth a word:

* Voice alone cuts a reply that is heard, ``overlap`` after the voice's onset. It never takes back a reply that is not
  heard yet: a cough must not cost the caller the answer. Words do; until it is known whether there are any, the reply's
  audio waits in its closed lane.
* A reply that was taken back leaves its question open: the caller's next words join it, as one message (``replaces``).
* Words that come late, without new voice, belong to the utterance already committed (``AmendUser``).
* What the caller says while nothing may be cut is kept, and committed when the agent has finished.
* ``say`` is the application's own and is never taken back, only cut when it is heard.
"""

import math
from collections import deque

import attrs

from patter_trio.conversation import actions as do
from patter_trio.conversation import inputs
from patter_trio.conversation.policy import TurnPolicy
from patter_trio.conversation.turntable import (
    AGENT_RULES,
    CALLER_RULES,
    DEADLINES,
    DUE_RULES,
    IGNORED,
    PUBLIC_AGENT,
    PUBLIC_CALLER,
    Agent,
    Caller,
)

_ORDER = {name: index for index, name in enumerate(DEADLINES)}
_REPLY_INPUTS = (
    inputs.TokenArrived,
    inputs.AudioArrived,
    inputs.OnWire,
    inputs.Produced,
    inputs.Drained,
    inputs.ReplyFailed,
)


@attrs.define
class _Reply:
    """The reply that is under way."""

    number: int
    turn: int
    text: str | None
    """What a ``say`` or an apology says; None: the mind answers."""
    interruptible: bool = True
    apology: bool = False
    opened: bool = False
    started: bool = False
    sounding: bool = False
    """Its first audio is there."""
    produced: bool = False
    dry: bool = False
    """All that was handed to the carrier has been played, and more is to come."""
    token_told: bool = False

    @property
    def answers(self) -> bool:
        return self.text is None


class TurnMachine:
    """The rules of one call's turn-taking."""

    def __init__(self, policy: TurnPolicy, *, detector: bool = False) -> None:
        self._policy = policy
        self._detector = detector
        self._caller = Caller.SILENT
        self._agent = Agent.INITIALIZING
        self._timers: dict[str, float] = {}
        self._actions: list[do.Action] = []
        self._told = ("listening", "initializing")
        self._now = 0.0
        self.turn = 0
        """Committed utterances so far."""
        # The caller's side
        self._voice_open = False
        self._onset = 0.0
        self._voice_end = -math.inf
        self._fresh = False  # voice since the last commit
        self._words: list[str] = []  # final, not committed
        self._interim: tuple[int, str] | None = None
        self._promoted: dict[int, str] = {}  # segments whose interim was committed; their final is still to come
        self._generation = 0
        self._unfinished = False
        self._trigger: do.EouTrigger = "vad_silence"
        # The agent's side
        self._reply: _Reply | None = None
        self._replies = 0
        self._queue: deque[inputs.Say] = deque()
        self._question = ""  # the newest committed text
        self._taken_back = False  # its reply was retracted: the next commit replaces it
        self._apologised = False
        self._leaving = False
        self._reason = ""

    def __repr__(self) -> str:
        return (
            f"<TurnMachine turn {self.turn}, caller {self._caller}, agent {self._agent}, {self._reply or 'no reply'}>"
        )

    @property
    def deadline(self) -> float:
        """When :meth:`step` is next wanted without an input; infinite when only an input can change anything."""
        return min(self._timers.values(), default=math.inf)

    @property
    def ended(self) -> bool:
        """The call is over; no step does anything any more."""
        return self._agent is Agent.ENDED

    @property
    def user_state(self) -> str:
        """The caller's public state."""
        return PUBLIC_CALLER[self._caller]

    @property
    def agent_state(self) -> str:
        """The agent's public state."""
        reply = self._reply
        if self._agent is Agent.THINKING and reply is not None and reply.text is not None and not reply.started:
            return "thinking" if reply.apology else "idle"
        return PUBLIC_AGENT[self._agent]

    def step(self, event: inputs.Input | None, now: float) -> list[do.Action]:
        """Fire what is due, take an input (None: only time has passed), and return what is to be done, in order."""
        self._actions = []
        while self._timers:
            name = min(self._timers, key=lambda name: (self._timers[name], _ORDER[name]))
            due = self._timers[name]
            if due > now or (due == now and event is not None):
                break
            del self._timers[name]
            self._now = due
            getattr(self, "_" + DUE_RULES[name])()
        if event is not None:
            self._now = now
            self._take(event)
        self._sync()
        return self._actions

    def _take(self, event: inputs.Input) -> None:
        if isinstance(event, _REPLY_INPUTS) and (self._reply is None or self._reply.number != event.reply):
            return
        kind = type(event)
        for rule in (AGENT_RULES[kind][self._agent], CALLER_RULES[kind][self._caller]):
            if rule != IGNORED and not self.ended:
                getattr(self, "_" + rule)(event)

    def _do(self, action: do.Action) -> None:
        self._sync()
        self._actions.append(action)

    def _sync(self) -> None:
        """Tell the public states where they changed: always before the event that goes with them."""
        states = (self.user_state, self.agent_state)
        if states != self._told:
            self._told = states
            self._actions.append(do.StateChanged(self._now, *states))

    def _arm(self, name: str, when: float) -> None:
        if when < math.inf:
            self._timers[name] = max(when, self._now)
        else:
            self._timers.pop(name, None)

    def _disarm(self, *names: str) -> None:
        for name in names:
            self._timers.pop(name, None)

    # The caller's voice -----------------------------------------------------------------------------------------------
    def _begin_voice(self, event: inputs.VoiceStarted) -> None:
        if self._agent is Agent.FLUSHING:
            return
        self._caller = Caller.SPEAKING
        self._onset, self._fresh, self._unfinished = event.onset, True, False
        self._disarm("endpoint", "final", "hold", "away")
        self._arm("stuck", self._now + self._policy.stuck)
        if not self._voice_open:
            self._voice_open = True
            self._do(do.UserSpeechStarted(self._now, event.onset, event.confidence))

    def _end_voice(self, event: inputs.VoiceEnded) -> None:
        self._pause(event.end, event.confidence)
        if self._detector:
            self._generation += 1
            self._do(do.AskDetector(self._now, self._generation))

    def _end_voice_edge(self, event: inputs.VoiceEnded) -> None:
        self._tell_voice_end(event.end, event.confidence)

    def _pause(self, end: float, confidence: float | None = None) -> None:
        self._caller, self._voice_end, self._trigger = Caller.PAUSING, end, "vad_silence"
        self._disarm("stuck")
        self._arm("endpoint", end + self._policy.endpoint)
        if not (self._words and self._interim is None):
            self._arm("final", end + self._policy.final_wait)
        self._tell_voice_end(end, confidence)
        self._open_if_free()

    def _tell_voice_end(self, end: float, confidence: float | None) -> None:
        if self._voice_open:
            self._voice_open = False
            self._do(do.UserSpeechEnded(self._now, end, max(0.0, end - self._onset), confidence))

    def _due_stuck(self) -> None:
        """A voice without words for so long is music or noise: it counts as ended."""
        self._pause(self._now)

    # The caller's words -----------------------------------------------------------------------------------------------
    def _pending(self, event: inputs.Interim | inputs.Final) -> bool:
        """Say whether these words are news; the final of a segment whose interim was committed is not."""
        return bool(event.text.strip()) and event.segment not in self._promoted

    def _note_interim(self, event: inputs.Interim) -> None:
        if self._pending(event):
            self._interim = (event.segment, event.text.strip())
            self._arm("stuck", self._now + self._policy.stuck)

    def _await_final(self, event: inputs.Interim) -> None:
        if self._pending(event):
            self._interim = (event.segment, event.text.strip())
            self._arm("final", self._now + self._policy.final_wait)

    def _reopen(self, event: inputs.Interim) -> None:
        if self._pending(event):
            self._caller = Caller.PAUSING
            self._disarm("away")
            self._arm("endpoint", self._now)
            self._await_final(event)

    def _note(self, event: inputs.Final) -> None:
        if self._interim is not None and self._interim[0] == event.segment:
            self._interim = None
        text = event.text.strip()
        if event.segment in self._promoted:
            promoted = self._promoted.pop(event.segment)
            if text and text != promoted:
                self._correct(promoted, text)
        elif text:
            self._words.append(text)

    def _note_words(self, event: inputs.Final) -> None:
        self._note(event)
        if event.text.strip():
            self._arm("stuck", self._now + self._policy.stuck)

    def _settle_words(self, event: inputs.Final) -> None:
        self._note(event)
        if self._interim is None:
            self._disarm("final")
        if not self._words or "endpoint" not in self._timers:
            self._commit_if_ready()

    def _late_words(self, event: inputs.Final) -> None:
        self._note(event)
        if not self._words:
            return
        if self._amendable():
            self._amend(" ".join([self._question, *self._words]))
            self._words.clear()
            return
        self._caller = Caller.PAUSING
        self._disarm("away")
        self._commit_if_ready()

    def _amendable(self) -> bool:
        reply = self._reply
        return (
            self._agent is Agent.THINKING
            and reply is not None
            and reply.answers
            and not reply.opened
            and not self._fresh
            and self._now <= self._voice_end + self._policy.late_window
            and not self._leaving
        )

    def _correct(self, promoted: str, text: str) -> None:
        """The final words differ from the interim ones that were committed."""
        if self._amendable() and self._question.endswith(promoted):
            self._amend(self._question[: len(self._question) - len(promoted)] + text)

    def _amend(self, text: str) -> None:
        self._question = text
        self._cut("amended", then=Agent.THINKING)
        self._start(None, turn=self.turn, before=do.AmendUser(self._now, text))

    def _weigh_verdict(self, event: inputs.Verdict) -> None:
        if event.generation != self._generation:
            return
        self._unfinished = event.complete < self._policy.complete_threshold
        if not self._unfinished:
            fast = self._voice_end + self._policy.fast_endpoint
            if fast < self._timers.get("endpoint", -math.inf):
                self._trigger = "semantic_turn_detector"
                self._arm("endpoint", fast)

    def _due_endpoint(self) -> None:
        self._commit_if_ready()

    def _due_final(self) -> None:
        if "endpoint" not in self._timers:
            self._commit_if_ready()

    def _due_hold(self) -> None:
        self._unfinished = False
        self._commit_if_ready()

    # The commit -------------------------------------------------------------------------------------------------------
    def _commit_if_ready(self) -> None:
        """Decide about an utterance whose voice has ended: noise, wait, hold, or commit."""
        if self._caller not in (Caller.PAUSING, Caller.HELD):
            return
        if "final" in self._timers and (not self._words or self._interim is not None):
            return
        if not self._words and self._interim is None:
            self._caller, self._unfinished = Caller.SILENT, False
            self._disarm("endpoint", "hold")
            self._rest()
            return
        if self._unfinished:
            if self._caller is Caller.PAUSING:
                self._caller = Caller.HELD
                self._arm("hold", self._now + self._policy.hold)
            return
        if self._may_commit():
            self._commit()

    def _may_commit(self) -> bool:
        if self._leaving:
            return False
        if self._agent is Agent.THINKING and self._reply is not None:
            return self._reply.answers and self._can_cut()
        return self._agent is Agent.IDLE

    def _commit(self) -> None:
        if self._reply is not None and not self._reply.started:
            self._retract()
        elif self._reply is not None:
            self._cut("the caller went on")
        if self._interim is not None:
            segment, text = self._interim
            self._promoted[segment] = text
            self._words.append(text)
            self._interim = None
        replaces, self._taken_back = self._taken_back, False
        text = " ".join([self._question, *self._words] if replaces else self._words)
        silence = self._now - self._voice_end if self._voice_end > -math.inf else 0.0
        self.turn += 1
        self._question, self._apologised, self._fresh, self._unfinished = text, False, False, False
        self._words.clear()
        self._caller = Caller.SILENT
        self._disarm("endpoint", "final", "hold")
        commit = do.CommitUser(self._now, self.turn, text, self._trigger, max(0.0, silence), replaces)
        self._start(None, turn=self.turn, before=commit)

    # Replies ----------------------------------------------------------------------------------------------------------
    def _start(
        self,
        text: str | None,
        *,
        turn: int,
        interruptible: bool = True,
        apology: bool = False,
        before: do.Action | None = None,
    ) -> None:
        self._replies += 1
        self._reply = _Reply(self._replies, turn, text, interruptible, apology)
        self._agent = Agent.THINKING
        self._disarm("away")
        self._arm("reply", self._now + self._policy.reply)
        if before is not None:
            self._do(before)
        self._do(do.StartReply(self._now, self._replies, turn, text, apology))

    def _can_cut(self) -> bool:
        reply = self._reply
        return reply is not None and reply.interruptible and self._policy.overlap < math.inf and not self._leaving

    def _arm_overlap(self, event: inputs.VoiceStarted) -> None:
        reply = self._reply
        if reply is not None and reply.opened and self._can_cut() and not self._policy.min_words:
            self._arm("overlap", event.onset + self._policy.overlap)

    def _disarm_overlap(self, _: inputs.VoiceEnded) -> None:
        self._disarm("overlap")

    def _due_overlap(self) -> None:
        self._queue = deque(say for say in self._queue if not say.interruptible)
        self._cut("barge-in")
        self._rest()

    def _cut_for_words(self, event: inputs.Interim | inputs.Final) -> None:
        if self._policy.min_words and self._can_cut() and self._count(event) >= self._policy.min_words:
            self._due_overlap()

    def _count(self, event: inputs.Interim | inputs.Final) -> int:
        return len(" ".join([*self._words, event.text]).split()) if self._pending(event) else 0

    def _retract_for_words(self, event: inputs.Interim | inputs.Final) -> None:
        """The caller goes on before the agent was heard: the reply is not to the whole of the question."""
        reply = self._reply
        if reply is None or not self._pending(event) or not self._fresh or not self._can_cut():
            return
        if reply.started:
            self._cut_for_words(event)
        elif reply.answers:
            self._retract()

    def _retract(self) -> None:
        self._taken_back = True
        self._cut("the caller went on")

    def _cut(self, reason: str, *, then: Agent = Agent.IDLE) -> None:
        reply, self._reply = self._reply, None
        if reply is None:
            return
        self._agent = then
        self._disarm("overlap", "drain", "reply")
        self._do(do.CutReply(self._now, reply.number, reply.turn, reply.opened, reply.started, reason))

    def _tell_token(self, event: inputs.TokenArrived) -> None:
        reply = self._reply
        if reply is not None and reply.answers and not reply.token_told:
            reply.token_told = True
            self._do(do.TellToken(self._now, event.reply, reply.turn))

    def _note_audio(self, event: inputs.AudioArrived) -> None:
        reply = self._reply
        if reply is None or reply.sounding:
            return
        reply.sounding = True
        self._do(do.TellAudio(self._now, event.reply, reply.turn))
        self._open_if_free()

    def _open_if_free(self) -> None:
        """Let a reply be heard, unless the caller is speaking, or has spoken and may turn out to have said something."""
        reply = self._reply
        if reply is None or not reply.sounding or reply.opened:
            return
        listens = self._caller in (Caller.SILENT, Caller.AWAY)
        between = self._caller is not Caller.SPEAKING and not reply.answers
        if listens or between or not self._can_cut():
            reply.opened = True
            self._do(do.OpenLane(self._now, reply.number))

    def _start_speaking(self, event: inputs.OnWire) -> None:
        reply = self._reply
        if reply is None or not reply.opened:
            return
        self._agent, reply.dry = Agent.SPEAKING, False
        self._disarm("reply")
        self._arm("drain", event.until + self._policy.drain_grace)
        if not reply.started:
            reply.started = True
            self._do(do.TellAgentStarted(self._now, reply.number, reply.turn))

    def _move_drain(self, event: inputs.OnWire) -> None:
        self._arm("drain", event.until + self._policy.drain_grace)

    def _note_production(self, _: inputs.Produced) -> None:
        if self._reply is not None:
            self._reply.produced = True

    def _finish_production(self, event: inputs.Produced) -> None:
        self._note_production(event)
        if self._reply is not None and (self._reply.dry or not self._reply.sounding):
            self._finish()

    def _run_dry(self, _: inputs.Drained) -> None:
        self._due_drain()

    def _due_drain(self) -> None:
        reply = self._reply
        if reply is None:
            return
        self._disarm("drain", "overlap")
        if reply.produced:
            self._finish()
            return
        reply.dry = True
        self._agent = Agent.THINKING
        self._arm("reply", self._now + self._policy.reply)

    def _finish(self) -> None:
        reply, self._reply = self._reply, None
        if reply is None:
            return
        self._agent = Agent.IDLE
        self._disarm("overlap", "drain", "reply")
        self._do(do.FinishReply(self._now, reply.number, reply.turn, reply.started))
        self._rest()

    def _fail(self, _: inputs.ReplyFailed) -> None:
        self._due_reply()

    def _due_reply(self) -> None:
        reply = self._reply
        if reply is None:
            return
        self._cut("failed")
        if reply.apology or self._apologised:
            self._rest()
            return
        self._apologised = True
        self._start("", turn=reply.turn, apology=True)

    def _rest(self) -> None:
        """Neither side has the floor: do what was put off."""
        if self._agent is Agent.THINKING:
            self._open_if_free()
        if self._agent is not Agent.IDLE:
            return
        if self._queue:
            say = self._queue.popleft()
            self._start(say.text, turn=self.turn, interruptible=say.interruptible)
        elif self._leaving:
            self._shut()
        elif self._caller in (Caller.PAUSING, Caller.HELD):
            if "endpoint" not in self._timers:
                self._commit_if_ready()
        elif self._caller is Caller.SILENT:
            self._arm("away", self._now + self._policy.away)

    def _due_away(self) -> None:
        self._caller = Caller.AWAY

    # The application's wishes -----------------------------------------------------------------------------------------
    def _become_ready(self, _: inputs.Ready) -> None:
        self._agent = Agent.IDLE
        self._rest()

    def _queue_say(self, event: inputs.Say) -> None:
        if not self._leaving:
            self._queue.append(event)

    def _say(self, event: inputs.Say) -> None:
        self._queue_say(event)
        self._rest()

    def _queue_or_cut(self, event: inputs.Say) -> None:
        if event.interrupt and not self._leaving:
            self._queue.appendleft(event)
            self._cut("say")
            self._rest()
        else:
            self._queue_say(event)

    def _leave(self, event: inputs.HangUp) -> None:
        if not self._leaving:
            self._leaving, self._reason = True, self._reason or event.reason
            self._disarm("overlap")
            self._arm("goodbye", self._now + self._policy.goodbye)
            self._open_if_free()

    def _close(self, event: inputs.HangUp) -> None:
        self._reason = self._reason or event.reason
        self._shut()

    def _due_goodbye(self) -> None:
        self._queue.clear()
        self._cut("goodbye took too long")
        self._shut()

    def _shut(self) -> None:
        self._agent = Agent.CLOSING
        self._disarm("away", "goodbye")
        self._arm("leg", self._now + self._policy.leg)
        self._do(do.HangUpLeg(self._now, self._reason))

    # The end ----------------------------------------------------------------------------------------------------------
    def _lose_leg(self, event: inputs.LegDown) -> None:
        self._reason = self._reason or event.reason
        self._flush()

    def _due_leg(self) -> None:
        self._flush()

    def _flush(self) -> None:
        self._cut("leg down")
        self._queue.clear()
        self._timers.clear()
        self._agent = Agent.FLUSHING
        self._arm("flush", self._now + self._policy.flush)
        self._do(do.FlushRecognizer(self._now))

    def _end(self, _: inputs.Flushed) -> None:
        self._due_flush()

    def _due_flush(self) -> None:
        if self._interim is not None:
            self._words.append(self._interim[1])
        if self._words:
            self._do(do.AppendUser(self._now, " ".join(self._words)))
            self._words.clear()
        self._timers.clear()
        self._agent = Agent.ENDED
        self._do(do.EndCall(self._now, self._reason))
