"""The moves of the turn machine; the rules are made of them.

A conversation is two small machines, caller and agent. They share one live reply, the words that wait for an answer,
and the texts that wait to be spoken. Each move is synchronous and leaves the state consistent. The terms:

* **cut** ends the live reply at once. **Retracting** means to cut an answer that the caller has not heard: the question
  is unanswered again, and what the caller says next joins it in one message.
* **correct** takes final words that differ from the interim ones that were committed.
* **finish** ends a reply that has come to its own end.
* **next_move** starts what comes next when the agent is idle; **try_commit** commits the utterance if it is over.
* **derive** runs after every rule. It derives what follows from both states together: whether a reply may be heard,
  whether the caller is talking over the agent, whether both sides are silent.
"""

import math

from patter_trio.conversation import actions
from patter_trio.conversation.farewells import is_farewell
from patter_trio.conversation.inputs import TRANSFERRED_REASON, FinalWords, InterimWords, Say
from patter_trio.conversation.turn_state import (
    AgentState,
    CallerState,
    ConversationState,
    ReplyState,
    Timer,
)
from patter_trio.conversation.utterance import Guess, Message, joined
from patter_trio.conversation.wording import divided, same_words

DECIDING_TIMERS = (Timer.ENDPOINT, Timer.FINAL, Timer.HOLD)
"""While one of these deadlines runs, it is open whether the utterance is over."""
MAX_GUESSES = 32
"""Committed interim words whose final words are awaited; those of older segments count as new words."""


class Conversation(ConversationState):
    """A conversation's state, and the moves in it. The rules decide which move to make."""

    # Declared as in the base class: for a checker that infers what is assigned here, these would be new attributes.
    agent: AgentState
    apology_turn: int
    by_voice: bool
    caller: CallerState
    end: float
    generation: int
    goodbye_cut: bool
    hold: float
    is_complete: bool
    message: Message | None
    pending_hang_up: str | None
    replies: int
    turn: int
    unanswered: bool
    unfinished: bool

    # Replies -------------------------------------------------------------------------------------------------------
    def start(
        self,
        text: str | None = None,
        *,
        apology: bool = False,
        interruptible: bool = True,
        answers: bool = True,
        digits: int = 0,
        notice: bool = False,
    ) -> None:
        """Begin a reply."""
        self.replies += 1
        self.reply = ReplyState(self.replies, self.turn, text, apology, interruptible, answers, digits)
        self.agent = AgentState.THINKING
        # For every reply, so that no state waits without a deadline: a TTS may hang with a fixed text, too.
        self.arm(Timer.REPLY, self.now + self.policy.reply)
        self.emit(actions.StartReply(self.now, self.replies, self.turn, text, apology, digits, notice))

    def wait_for_reply(self) -> None:
        """Set the deadline for the live reply's next audio. A tool's time does not count."""
        self.arm(Timer.REPLY, max(self.now, self.live.busy) + self.policy.reply)

    def say(self, say: Say) -> None:
        """Begin a reply with a text of the application's."""
        if self.goodbye_cut:
            self.goodbye_cut = False
            self.emit(actions.DropGoodbye(self.now))
        self.start(say.text, interruptible=say.interruptible, answers=False, digits=say.digits, notice=say.notice)

    def cut(self, reason: str, then: AgentState = AgentState.IDLE) -> None:
        """End the live reply at once."""
        reply = self.drop_reply(then)
        self.emit(actions.CutReply(self.now, reply.number, reply.turn, reply.opened, reply.started, reason))
        # Where utterances have no words, nothing can show that the caller only said goodbye.
        if reply.closes and self.policy.needs_words:
            if reason == "barge-in":
                self.goodbye_cut = True
            elif reason in ("say", "failed"):
                self.emit(actions.DropGoodbye(self.now))

    def yield_floor(self) -> None:
        """Cut the reply because the caller goes on. An answer that was not heard is retracted."""
        # A text of the application's answers nothing, so nothing is unanswered when it is cut.
        if self.has_unheard_answer:
            self.unanswered = True
            self.cut("retracted")
        else:
            self.cut("barge-in")

    def finish(self) -> None:
        """End the live reply, which has come to its own end; apologise for one that broke off behind it."""
        reply = self.drop_reply(AgentState.IDLE)
        self.emit(actions.FinishReply(self.now, reply.number, reply.turn, reply.started))
        if reply.failed and self.may_apologise:
            self.apologise(reply)
        else:
            self.next_move()

    def fail(self) -> None:
        """Cut the live reply, which cannot go on, and apologise once per turn."""
        reply = self.live
        apologise = self.may_apologise
        unheard = self.has_unheard_answer
        # The apology follows at once, so observers do not see the agent idle in between.
        self.cut("failed", AgentState.THINKING if apologise and unheard else AgentState.IDLE)
        if apologise:
            self.apologise(reply)
        else:
            self.next_move()

    @property
    def may_apologise(self) -> bool:
        """True if the agent has not apologised in this turn, and the call is not ending."""
        # Once per turn: if the TTS is what fails, the apology fails, too, and would start the next one.
        return self.apology_turn != self.turn and self.ending is None

    def apologise(self, reply: ReplyState) -> None:
        """Begin the apology for a reply that failed."""
        self.apology_turn = self.turn
        self.start(apology=True, answers=reply.answers)

    def drop_reply(self, then: AgentState) -> ReplyState:
        """Forget the live reply, and return it."""
        reply, self.reply, self.agent = self.live, None, then
        # It watches the live reply; left armed, it would blame the next one.
        self.disarm(Timer.REPLY)
        return reply

    # The caller's words --------------------------------------------------------------------------------------------
    def take(self, event: InterimWords | FinalWords) -> bool:
        """Record words. Return True if there were new ones that the agent has to react to."""
        # Words are compared and joined below; STTs differ in the white space that they send.
        text = " ".join(event.text.split())
        speaking = self.caller is CallerState.SPEAKING
        if isinstance(event, InterimWords):
            self.flow.streams = self.flow.streams or speaking
            if event.segment in self.promoted:
                return False
            self.date_words(text)
            self.utterance.interim(text, event.segment)
            return bool(text)
        # Final words in a voice that follows another one are usually those of the one before.
        self.flow.streams = self.flow.streams or (speaking and not self.flow.owes_final)
        self.flow.owes_final = False
        guess = self.promoted.pop(event.segment, None)
        if guess is not None:
            text = self.correct(guess, event.segment, text)
        self.date_words(text)
        self.utterance.final(text, event.segment)
        return bool(text) or self.utterance.corrects

    def date_words(self, text: str) -> None:
        """Record the onset of the voice that these words belong to: without a voice nearby, they are as old as now."""
        if text:
            near = self.caller is CallerState.SPEAKING or (
                self.by_voice and self.now - self.end <= self.policy.late_window
            )
            self.utterance.date(self.onset if near else self.now)

    def correct(self, guess: Guess, segment: int, text: str) -> str:
        """Take the final words of a segment whose interim ones were committed. Return those that are new."""
        if not text or text == guess.text:
            return ""
        message = guess.message
        if not same_words(guess.text, text, self.policy.language):
            if message is self.message and self.can_rejoin:
                # The question was another one: it is asked again, with these words. The caller interrupts nothing, so
                # the answer is also retracted where barge-in is off.
                if self.has_unheard_answer:
                    self.yield_floor()
                message.correct(segment, text)
                self.utterance.join_correction()
                return ""
            # The caller has heard an answer. Only what is new gets one, or the caller would have said the rest twice.
            text, more = divided(guess.text, text, self.policy.language)
            self.revise(message, segment, text, guess.text)
            return more
        self.revise(message, segment, text, guess.text)
        return ""

    def revise(self, message: Message, segment: int, text: str, guess: str) -> None:
        """Correct the words of a segment in a message that is not answered again."""
        if text not in ("", guess):
            message.correct(segment, text)
            self.emit(actions.ReviseUser(self.now, message.turn, joined(message.pieces)))

    def time_words(self, *, reopened: bool) -> None:
        """Set the deadlines after words that came while the caller was not speaking."""
        # Without a voice nearby the words themselves are the only sign of when the caller spoke (a VAD can miss a quiet
        # voice).
        if not self.by_voice or self.now - self.end > self.policy.late_window:
            self.end, self.by_voice, reopened = self.now, False, True
        if reopened:
            self.arm(Timer.ENDPOINT, self.end + self.policy.endpoint)
        if reopened or self.utterance.interims:
            self.wait_for_final()

    def wait_for_words(self) -> None:
        """Set the deadline for more words of the present voice, if the STT gives words before a voice is over."""
        if self.flow.streams and self.policy.needs_words:
            # Twice as long each time: an STT without interim words is not asked every few seconds of a long speech.
            self.arm(Timer.LULL, self.now + self.policy.lull * 2**self.flow.times_asked)

    def end_noise(self) -> None:
        """End a voice in which the STT finds no more words, where its last words came."""
        self.voice_over(self.flow.words_at if self.flow.words_at > self.onset else self.now)
        # The STT has just answered: it owes nothing.
        self.disarm(Timer.FINAL)
        self.flow.owes_final = False

    def wait_for_final(self) -> None:
        """Set the deadline for the STT's final words."""
        # From the end of the voice, not from now: a VAD that reports the end late has
        # already used up a part of the wait.
        patience = self.policy.interim_wait if self.utterance.interims else self.policy.final_wait
        self.arm(Timer.FINAL, self.end + patience)

    def voice_over(self, end: float, confidence: float | None = None) -> None:
        """End the caller's voice, or stop counting it as one."""
        self.caller = CallerState.PAUSING
        # A VAD reports times in its own windows: keep the end between the onset and now.
        self.end, self.by_voice = min(max(end, self.onset), self.now), True
        self.disarm(Timer.STUCK, Timer.LULL)
        self.flow.asked = False
        self.flow.owes_final = self.flow.owes_final or not self.flow.has_final
        self.arm(Timer.ENDPOINT, self.end + self.policy.endpoint)
        if self.policy.needs_words:
            self.wait_for_final()
        else:
            self.utterance.date(self.onset)
            self.utterance.voice(remark=self.is_over_agent)
        if self.is_complete:  # the STT was sure before the VAD reported the end of the voice
            self.shorten(Timer.ENDPOINT, self.policy.fast_endpoint)
            self.shorten(Timer.FINAL, self.policy.endpoint)
        self.emit(actions.EmitSpeechEnded(self.now, self.end, self.end - self.onset, confidence))
        # While the call is ending nothing will be answered, so a model is not asked about it.
        if self.detector and self.ending is None:
            self.generation += 1
            self.emit(actions.AskDetector(self.now, self.generation))

    def judge(self, *, finished: bool) -> None:
        """Take a judgement of the utterance: a finished one waits for less silence, an unfinished one is held open."""
        self.is_complete, self.unfinished = finished, not finished
        if finished:
            self.shorten(Timer.ENDPOINT, self.policy.fast_endpoint)

    def apply_verdict(self, event: InterimWords | FinalWords) -> None:
        """Take the STT's judgement, if it gives one. A turn that it ended with final words waits for nothing more."""
        if event.finished is None:
            return
        self.judge(finished=event.finished)
        if event.finished and self.caller in (CallerState.PAUSING, CallerState.HELD):
            if isinstance(event, FinalWords):
                self.disarm(*DECIDING_TIMERS)
            else:
                self.shorten(Timer.FINAL, self.policy.endpoint)

    def shorten(self, timer: Timer, silence: float) -> None:
        """Move a running deadline forward to ``silence`` seconds after the voice, if that is sooner."""
        sooner = self.end + silence
        # -inf stands for a deadline that is not running: it is never moved.
        if sooner < self.timers.get(timer, -math.inf):
            self.arm(timer, sooner)

    def try_commit(self) -> None:
        """Commit the utterance if it is over, has words, and the agent can answer. The first obstacle wins."""
        words = self.utterance
        settled = (bool(words.finals) or words.corrects) and not words.interims
        # Silence comes first; final words that are all there need not be waited for.
        if Timer.ENDPOINT in self.timers or (Timer.FINAL in self.timers and not settled):
            return
        if Timer.KEYS in self.timers and not self.policy.keys_choose:
            return  # what was said belongs to what is being typed
        if not words:
            self.be_silent()
        elif self.unfinished:
            if self.caller is not CallerState.HELD:
                self.caller = CallerState.HELD
                self.arm(Timer.HOLD, self.end + self.policy.hold)
        elif self.is_over_agent and not words.is_significant:
            words.take()
            self.emit(actions.DropUser(self.now))
            self.be_silent()
        elif self.agent_has_floor:
            # Kept, not lost: next_move() tries again when the agent has finished.
            self.caller = CallerState.PAUSING
            words.mark_judged()
        else:
            self.commit()

    def be_silent(self) -> None:
        """Return to silence: the caller has said nothing that needs an answer."""
        self.caller = CallerState.SILENT
        self.unfinished = self.is_complete = False
        if self.goodbye_cut and self.reply is None:
            self.goodbye_cut = False
            self.emit(actions.ResumeGoodbye(self.now))
        self.next_move()

    def commit(self) -> None:
        """Commit the utterance, and start the answer."""
        if self.reply is not None:
            self.yield_floor()
        resumes = self.goodbye_cut and is_farewell(self.utterance.text)
        if self.goodbye_cut and not resumes:
            # Before the commit: the LLM reads of it before the words that were the reason.
            self.emit(actions.DropGoodbye(self.now))
        self.goodbye_cut = False
        # may_play() holds the answer back while one of them runs.
        self.disarm(*DECIDING_TIMERS)
        self.caller, self.agent = CallerState.SILENT, AgentState.THINKING
        self.emit(self.commit_words())
        if resumes:
            self.agent = AgentState.IDLE
            self.emit(actions.ResumeGoodbye(self.now))
        else:
            self.start()

    def commit_words(self) -> actions.CommitUser:
        """Make a message of the utterance, or add it to the one whose answer was retracted."""
        trigger: actions.EouTrigger = self.policy.early_trigger if self.is_complete else "vad_silence"
        self.unfinished = self.is_complete = False
        interims, began = dict(self.utterance.interims), min(self.utterance.began, self.now)
        pieces, replaces = self.utterance.take(), self.unanswered
        typed = joined(piece for piece in pieces if piece.is_typed)
        if typed:
            trigger = "manual_commit"
        spoken = not typed or any(not piece.is_typed for piece in pieces)
        self.unanswered = False
        self.turn += 1
        if self.message is not None and replaces:
            message = self.message
            message.extend(self.turn, pieces)
        else:
            message = self.message = Message(self.turn, pieces)
        # Interim words that are committed now may come again as final ones, after the commit.
        self.promoted.update({segment: Guess(text, message) for segment, text in interims.items()})
        while len(self.promoted) > MAX_GUESSES:
            del self.promoted[next(iter(self.promoted))]
        silence = max(0.0, self.now - self.end) if self.end > -math.inf else 0.0
        return actions.CommitUser(
            self.now, self.turn, joined(message.pieces), trigger, silence, replaces, typed, spoken, began
        )

    def commit_last(self) -> None:
        """Commit what the caller, who is gone, has said; no reply follows."""
        if not self.policy.needs_words and not self.utterance.is_significant:
            self.utterance.take()  # too short to interrupt the agent: it would not have been an utterance
        elif self.utterance:
            # At eos the agent is thinking, as after any other; what follows at once is the end of the call.
            after, self.agent = self.agent, AgentState.THINKING
            self.emit(self.commit_words())
            self.agent = after
            self.publish()

    def break_off_voice(self) -> None:
        """End the voice of a caller who is gone."""
        if self.caller is CallerState.SPEAKING:
            self.caller = CallerState.PAUSING
            self.end, self.by_voice = self.now, True
            self.disarm(Timer.STUCK, Timer.LULL)
            if not self.policy.needs_words:
                self.utterance.date(self.onset)
                self.utterance.voice(remark=self.is_over_agent)
            self.emit(actions.EmitSpeechEnded(self.now, self.end, self.end - self.onset))

    def keep_keys(self) -> None:
        """Add the keys so far to the utterance, because no more follow."""
        keys = self.utterance.take_keys()
        self.disarm(Timer.KEYS)
        if keys and not self.policy.keys_choose:
            self.utterance.type(keys)

    # What comes next -----------------------------------------------------------------------------------------------
    def next_move(self) -> None:
        """Start what comes next, if the agent is idle."""
        # The order: the caller's question first, then what the application has asked for; a call that is ending says
        # all of that before it ends, and answers nothing new.
        if self.agent is not AgentState.IDLE:
            return
        # The answer was retracted for a voice that came to nothing: the question still wants an answer.
        if self.ending is None and self.unanswered and self.caller in (CallerState.SILENT, CallerState.AWAY):
            self.unanswered = False
            self.start()
        elif self.queue:
            self.say(self.queue.popleft())
        elif self.ending is not None:
            self.close(self.ending)
        elif self.caller in (CallerState.PAUSING, CallerState.HELD):
            self.try_commit()

    def derive(self) -> None:
        """Do what follows from the states of both sides together."""
        reply = self.reply
        if reply is not None and reply.audio and not reply.opened and self.may_play():
            reply.opened = True
            # Now for the writer: if audio that may go out is never sent, the reply fails instead of waiting for ever.
            self.arm(Timer.REPLY, self.now + self.policy.reply)
            self.emit(actions.OpenPlayout(self.now, reply.number))
        over = self.caller is CallerState.SPEAKING and self.agent is AgentState.SPEAKING
        if over and self.can_cut and not self.policy.min_words:
            # From the onset, however late the VAD noticed it; and not while it runs, for the same reason as AWAY below.
            if Timer.OVERLAP not in self.timers:
                self.arm(Timer.OVERLAP, self.onset + self.policy.overlap)
        else:
            self.disarm(Timer.OVERLAP)
        if self.caller is CallerState.SILENT and self.agent is AgentState.IDLE:
            # Not while it runs: this is called after every rule, and each would put the deadline off.
            if Timer.AWAY not in self.timers:
                self.arm(Timer.AWAY, self.now + self.policy.away)
        else:
            self.disarm(Timer.AWAY)
        self.publish()

    def may_play(self) -> bool:
        """Return True if the reply's audio may go out: it must not talk over a caller who may interrupt it."""
        if not self.can_cut:
            return True
        # While it is open whether the caller has finished, an answer waits; a text of the application's does not.
        deciding = any(timer in self.timers for timer in (*DECIDING_TIMERS, Timer.KEYS)) and self.live.answers
        return self.caller is not CallerState.SPEAKING and not deciding

    def close(self, reason: str) -> None:
        """Hang up, or transfer the call."""
        self.ending = reason
        self.agent = AgentState.CLOSING
        self.queue.clear()
        self.disarm(Timer.GOODBYE)
        if reason == TRANSFERRED_REASON:
            self.arm(Timer.LEG, self.now + (self.hold or self.policy.transfer))
            self.emit(actions.TransferLeg(self.now))
        else:
            self.arm(Timer.LEG, self.now + self.policy.leg)
            self.emit(actions.HangUpLeg(self.now, reason))

    def take_back(self, text: str) -> None:
        """Go on after a transfer that failed, and tell the caller; or hang up, if that was wanted meanwhile."""
        instead, self.ending, self.pending_hang_up = self.pending_hang_up, None, None
        self.hold = 0.0
        self.agent = AgentState.IDLE
        self.disarm(Timer.LEG)
        if instead is not None:
            self.close(instead)
        elif text:
            self.say(Say(text))
        else:
            self.next_move()

    def leg_down(self, reason: str) -> None:
        """Cut everything, because the caller hears nothing any more, and wait for the STT's last words."""
        # First, while it is known whether the voice was over the agent.
        self.break_off_voice()
        self.keep_keys()
        if self.ending in (None, TRANSFERRED_REASON) and reason == TRANSFERRED_REASON:
            # The carrier has connected the caller, whatever was to come behind a transfer that fails.
            self.ending = reason
            self.transfer_accepted = True
        elif self.ending is None or (self.ending == TRANSFERRED_REASON and self.agent is not AgentState.CLOSING):
            self.ending = self.pending_hang_up or reason  # the carrier was not asked to transfer the call yet
        self.leg_down_reason = reason
        self.queue.clear()
        self.disarm(Timer.GOODBYE, Timer.LEG)
        # Cut even if it must not be interrupted: there is nobody to hear it.
        if self.reply is not None:
            # The caller's last words still belong to a question whose answer was not heard.
            self.unanswered = self.unanswered or self.has_unheard_answer
            self.cut("leg down", AgentState.FLUSHING)
        self.agent = AgentState.FLUSHING
        if not self.policy.needs_words:
            # Before the engine is asked for the words, which belong to this commit.
            self.commit_last()
        self.arm(Timer.FLUSH, self.now + self.policy.flush)
        self.emit(actions.FlushTranscripts(self.now))

    def finish_call(self) -> None:
        """End the call, and commit the words that nobody will answer."""
        self.agent = AgentState.ENDED
        self.break_off_voice()
        self.keep_keys()
        self.commit_last()
        # Nothing may fire after EndCall.
        self.timers.clear()
        self.prompt.clear()
        self.emit(actions.EndCall(self.now, self.ending or ""))
