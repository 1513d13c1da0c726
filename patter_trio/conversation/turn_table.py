"""The rules of turn-taking, as two tables: the rule for each input or deadline in each state of caller and agent.

The tables are complete; ``ignored`` is the rule that does nothing. ``CALLER`` has the triggers that change the state of
the caller, and ``AGENT`` has all others. Its row ``WORDS`` is the agent's reaction to the caller's words. The machine
drops the inputs of finished replies before it looks here. After each rule, ``Conversation.derive`` applies the
consequences that depend on both states together.
"""

# ruff: noqa: ARG001 - every rule has the same signature, whether or not it looks at the input.

from collections.abc import Callable, Mapping
from enum import Enum
from typing import Any

from patter_trio.conversation import actions
from patter_trio.conversation.inputs import (
    TRANSFERRED_REASON,
    AudioArrived,
    Busy,
    Closing,
    Drained,
    FinalWords,
    Flushed,
    HangUp,
    InterimWords,
    LegDown,
    OnWire,
    Produced,
    Ready,
    ReplyFailed,
    Say,
    TokenArrived,
    Transfer,
    TransferAccepted,
    TransferFailed,
    Verdict,
    VoiceEnded,
    VoiceStarted,
)
from patter_trio.conversation.turn_moves import DECIDING_TIMERS, Conversation
from patter_trio.conversation.turn_state import AgentState, CallerState, Timer
from patter_trio.conversation.wording import same_words


class Noticed(Enum):
    """Triggers that the rules for one side raise for the other side."""

    WORDS = "words"


Trigger = type | Timer | Noticed
Rule = Callable[[Conversation, Any], None]


def ignored(conversation: Conversation, event: object) -> None:
    """Do nothing."""


# The caller -----------------------------------------------------------------------------------------------------------
def begin_voice(conversation: Conversation, event: VoiceStarted) -> None:
    """Let the caller speak, and discard any decision about the end of the utterance."""
    conversation.caller = CallerState.SPEAKING
    # Anybody may write a VAD: one whose offset is ahead of the audio must not date the voice later than now.
    conversation.onset = min(event.onset, conversation.now)
    conversation.unfinished = conversation.is_complete = conversation.ended_early = False
    # An engine ends its turns without words: with it, each voice may be ended early.
    conversation.voice_has_words = not conversation.policy.needs_words
    conversation.flow.has_final = conversation.flow.asked = False
    conversation.flow.times_asked = 0
    conversation.disarm(*DECIDING_TIMERS)
    conversation.arm(Timer.STUCK, conversation.now + conversation.max_wordless_voice)
    if conversation.has_question:
        conversation.wait_for_words()
    conversation.emit(actions.EmitSpeechStarted(conversation.now, conversation.onset, event.confidence))


def end_voice(conversation: Conversation, event: VoiceEnded) -> None:
    """Let the caller pause: wait for the endpoint and for final words, and ask the turn detector."""
    conversation.voice_over(event.end, event.confidence)


def forget_voice(conversation: Conversation, event: VoiceEnded) -> None:
    """Take the VAD's end of a voice whose turn the STT or engine has already ended.

    With an engine, there are no words to show that the voice went on after the end of the turn. If the VAD's end is
    later, the caller said more, and the engine has not noticed it.
    """
    went_on = (
        conversation.ended_early and not conversation.policy.needs_words and event.end > conversation.flow.early_end
    )
    conversation.ended_early = False
    if went_on:
        go_on(conversation, event.end)
        end_voice(conversation, event)


def go_on(conversation: Conversation, until: float) -> None:
    """Restart the voice that has lasted since its turn was ended early. Over the agent, it may interrupt."""
    # The speech after the end of the turn counts as a new voice.
    begin_voice(conversation, VoiceStarted(max(conversation.flow.early_end, conversation.end)))
    # By how long the voice has surely lasted: a VAD reports its end late, and that silence is not talk over the agent.
    if conversation.is_over_agent and until >= conversation.onset + conversation.policy.overlap:
        conversation.yield_floor()


def call_it_noise(conversation: Conversation, event: None) -> None:
    """Treat a long voice without words as noise or music: go on as if it had ended now."""
    # At now: nothing tells when a voice turned into noise, and an earlier end would commit at once.
    conversation.voice_over(conversation.now)


def ask_for_words(conversation: Conversation, event: None) -> None:
    """Ask the STT whether a voice still has words, because none came for a while: it may be noise by now."""
    conversation.flow.asked = True
    conversation.flow.times_asked += 1
    conversation.emit(actions.AskForWords(conversation.now))


def add_words(conversation: Conversation, event: InterimWords | FinalWords) -> None:
    """Record words of a caller who is still speaking; an STT that detects turns can end the voice with them.

    A turn ends the voice only if it has words of this voice. A turn that ends with earlier words was reported late, and
    the caller has gone on. If the STT was asked and has no more words, the rest of the voice is noise.
    """
    worded, before = conversation.voice_has_words, conversation.utterance.text
    if conversation.take(event):
        conversation.voice_has_words = True
        notice_words(conversation)
    conversation.flow.has_final = conversation.flow.has_final or isinstance(event, FinalWords)
    over = event.finished if isinstance(event, FinalWords) else None
    quiet_since = event.quiet_since if isinstance(event, FinalWords) else None
    if not same_words(before, conversation.utterance.text, conversation.policy.language):
        # New words show that the voice is not noise: both deadlines start again.
        conversation.flow.words_at, conversation.flow.asked = conversation.now, False
        conversation.arm(Timer.STUCK, conversation.now + conversation.policy.max_wordless_voice)
        conversation.wait_for_words()
    elif conversation.flow.asked and isinstance(event, FinalWords) and not over:
        conversation.end_noise()
        conversation.apply_verdict(event)
        conversation.try_commit()
        return
    if over and worded:
        # The VAD still hears this voice. Its end will be reported, and must not decide
        # about the same turn a second time.
        conversation.ended_early, conversation.flow.early_end = True, conversation.now
        conversation.voice_over(conversation.now if quiet_since is None else quiet_since)
        conversation.apply_verdict(event)
        conversation.try_commit()
    elif not over:  # the late end of an earlier turn says nothing about the present voice
        conversation.apply_verdict(event)


def join_words(conversation: Conversation, event: InterimWords | FinalWords) -> None:
    """Record words of the utterance whose end is being decided, and commit it if nothing else is missing."""
    if conversation.take(event):
        notice_words(conversation)
        conversation.time_words(reopened=False)
    if not conversation.utterance.interims and isinstance(event, FinalWords):
        # Each segment has its final words, so there is nothing to wait for.
        conversation.disarm(Timer.FINAL)
    conversation.apply_verdict(event)
    conversation.try_commit()


def reopen(conversation: Conversation, event: InterimWords | FinalWords) -> None:
    """Take words without a voice: late words join the question while its answer is unheard, others begin an utterance.

    After a turn that the STT ended, new words belong to a voice that had not ended, so the voice begins again.
    """
    if event.finished and not conversation.policy.needs_words:
        hear_turn(conversation, event)
        return
    # The final words of a segment that was committed with its interim words are not new.
    if conversation.ended_early and event.text.strip() and event.segment not in conversation.promoted:
        begin_voice(conversation, VoiceStarted(conversation.now))
        add_words(conversation, event)
        return
    if not conversation.take(event):
        return
    if isinstance(event, FinalWords) and conversation.has_unheard_answer and conversation.can_rejoin:
        # Late words are no interruption, so they join the question also where the caller cannot interrupt.
        conversation.yield_floor()
    else:
        notice_words(conversation)
    # Before apply_verdict(), which takes a verdict only about a caller who pauses.
    conversation.caller = CallerState.PAUSING
    if conversation.utterance.corrects:
        # Not new words, however late they are: the silence counts from the voice in which they were said.
        conversation.arm(Timer.ENDPOINT, conversation.end + conversation.policy.endpoint)
    else:
        conversation.time_words(reopened=True)
    conversation.apply_verdict(event)
    if event.finished:
        conversation.try_commit()


def hear_turn(conversation: Conversation, event: InterimWords | FinalWords) -> None:
    """Take a whole turn that an engine heard, in a voice that goes on or where the VAD found none."""
    lasting = conversation.ended_early
    if lasting:
        go_on(conversation, conversation.now)
    else:
        begin_voice(conversation, VoiceStarted(conversation.now))
    add_words(conversation, event)
    # add_words() has set it; without a voice in the VAD, no end of one will be reported.
    conversation.ended_early = lasting


def judge(conversation: Conversation, event: Verdict) -> None:
    """Wait for less silence if the turn detector is sure; if it is unsure, mark the utterance unfinished."""
    # An answer to an older question is about an utterance that has grown since.
    if event.generation != conversation.generation:
        return
    conversation.judge(finished=event.complete >= conversation.policy.complete_threshold)


def decide(conversation: Conversation, event: None) -> None:
    """Commit the utterance, if the rules for commits allow it now."""
    conversation.try_commit()


def stop_holding(conversation: Conversation, event: None) -> None:
    """Treat the utterance as finished, although the turn detector judged it unfinished."""
    # A detector may be wrong, and the caller must get an answer in the end.
    conversation.unfinished = False
    conversation.try_commit()


def go_away(conversation: Conversation, event: None) -> None:
    """Mark the caller as away, because neither side has spoken for ``policy.away``."""
    conversation.caller = CallerState.AWAY


def notice_words(conversation: Conversation) -> None:
    """Apply the agent's rule for the caller's words."""
    AGENT[Noticed.WORDS][conversation.agent](conversation, None)


# The agent ------------------------------------------------------------------------------------------------------------
def accept(conversation: Conversation, event: Ready) -> None:
    """Begin the conversation."""
    conversation.agent = AgentState.IDLE
    if conversation.ending is not None:
        conversation.arm(Timer.GOODBYE, conversation.now + conversation.policy.goodbye)
    conversation.next_move()


def give_way(conversation: Conversation, event: None) -> None:
    """Retract the answer, because the caller went on before hearing it. In a gap of a reply: cut the reply."""
    if (
        conversation.can_cut
        and not conversation.has_unheard_say
        # In a gap of a reply that was heard, barge_in_min_words protects it as if it were being spoken.
        and not (conversation.live.started and conversation.utterance.unjudged_words < conversation.policy.min_words)
    ):
        conversation.yield_floor()


def count_words(conversation: Conversation, event: None) -> None:
    """Cut the reply if the caller has said enough words over it, where interruptions need words."""
    if conversation.can_cut and 0 < conversation.policy.min_words <= conversation.utterance.unjudged_words:
        conversation.yield_floor()


def barge_in(conversation: Conversation, event: None) -> None:
    """Cut the reply, because the caller has talked over it for long enough."""
    conversation.yield_floor()


def note_token(conversation: Conversation, event: TokenArrived) -> None:
    """Report the turn's first generated text, unless its audio was reported before."""
    reply = conversation.live
    # Only an LLM's answer has tokens, and llm_token never comes after the turn's audio_out.
    if (
        reply.text is None
        and not reply.apology
        and reply.turn not in (conversation.token_turn, conversation.audio_turn)
    ):
        conversation.token_turn = reply.turn
        conversation.emit(actions.ReportToken(conversation.now, reply.number, reply.turn))


def note_audio(conversation: Conversation, event: AudioArrived) -> None:
    """Report the turn's first audio, which is sent as soon as the agent may speak."""
    reply = conversation.live
    if reply.audio:
        return
    reply.audio = True
    # The provider has delivered. derive() sets the deadline anew when the audio may go out.
    conversation.disarm(Timer.REPLY)
    # Once per turn, also when the answer is restarted after a failure, or after words that came to nothing.
    if reply.turn != conversation.audio_turn:
        conversation.audio_turn = reply.turn
        conversation.emit(actions.ReportAudio(conversation.now, reply.number, reply.turn))


def be_heard(conversation: Conversation, event: OnWire) -> None:
    """Let the agent speak, for the first time or after a gap."""
    reply = conversation.live
    # Audio that may not be heard yet cannot have been sent: an input out of order changes nothing.
    if not reply.opened:
        return
    conversation.agent = AgentState.SPEAKING
    conversation.disarm(Timer.REPLY)
    if not reply.started:
        reply.started = True
        conversation.emit(actions.ReportAgentStarted(conversation.now, reply.number, reply.turn))


def note_busy(conversation: Conversation, event: Busy) -> None:
    """Record until when the reply may wait for a tool; the deadline for its audio counts from that instant."""
    conversation.live.busy = event.until
    if Timer.REPLY in conversation.timers:
        conversation.wait_for_reply()


def note_closing(conversation: Conversation, event: Closing) -> None:
    """Record that a tool, such as ``end_call``, runs once the reply was played."""
    conversation.live.closes = True


def note_produced(conversation: Conversation, event: Produced) -> None:
    """Record that all audio of the reply was produced."""
    conversation.live.produced = True


def end_silent(conversation: Conversation, event: Produced) -> None:
    """Finish the reply, which is fully produced, if it has no audio; otherwise it ends when all of it was played."""
    reply = conversation.live
    reply.produced = True
    # Also after a gap: the last audio may have come with the end, and wait to be sent. The ledger reports the end.
    if not reply.audio:
        conversation.finish()


def end_unheard(conversation: Conversation, event: Drained) -> None:
    """Finish the reply, which has a gap or was not reported as heard, if all of it was produced and played."""
    if conversation.live.opened and conversation.live.produced:
        conversation.finish()


def drain(conversation: Conversation, event: Drained) -> None:
    """Finish the reply if all of it was produced and played; otherwise it has a gap."""
    # No deadline does this: only the playback ledger knows whether audio of the reply still waits to be sent.
    if conversation.live.produced:
        conversation.finish()
    else:
        conversation.agent = AgentState.THINKING
        # A gap: a tool runs, or the LLM is asked again. The deadline for the next audio starts anew.
        conversation.wait_for_reply()


def fail(conversation: Conversation, event: ReplyFailed | None) -> None:
    """Cut the reply and apologise, once per turn; first let its finished sentences be heard, if there are any."""
    reply = conversation.live
    if event is None or not event.heard_out or not reply.audio:
        conversation.fail()
        return
    # The ledger reports the end of what is heard, also after a gap, and the apology follows then.
    reply.produced = reply.failed = True


def speak(conversation: Conversation, event: Say) -> None:
    """Speak the text now."""
    conversation.say(event)


def enqueue(conversation: Conversation, event: Say) -> None:
    """Queue the text; put it first if it is to interrupt."""
    if event.interrupt:
        conversation.queue.appendleft(event)
    else:
        conversation.queue.append(event)


def speak_next(conversation: Conversation, event: Say) -> None:
    """Speak the text after the present reply, or in place of it if it is to interrupt. Not while the call is ending."""
    if conversation.ending is not None:
        return
    # Whether the reply is interruptible is not asked: that is about the caller, and here the
    # application interrupts itself.
    if event.interrupt:
        conversation.cut("say")
        conversation.say(event)
    else:
        conversation.queue.append(event)


def hang_up(conversation: Conversation, event: HangUp) -> None:
    """Hang up at once."""
    conversation.close(event.reason)


def transfer(conversation: Conversation, event: Transfer) -> None:
    """Transfer the call at once."""
    conversation.close(event.reason)


def await_ready(conversation: Conversation, event: Transfer) -> None:
    """Transfer the call once all providers are open, because only then can the agent go on if the transfer fails."""
    conversation.ending = event.reason


def leave(conversation: Conversation, event: HangUp | Transfer) -> None:
    """Hang up or transfer once the present reply and the queued texts have been spoken, within *goodbye*."""
    if conversation.ending is None:
        conversation.ending = event.reason
        conversation.arm(Timer.GOODBYE, conversation.now + conversation.policy.goodbye)
    else:
        fall_back(conversation, event)


def fall_back(conversation: Conversation, event: HangUp | Transfer) -> None:
    """Remember to hang up if the transfer that is under way fails."""
    if conversation.ending == TRANSFERRED_REASON and conversation.pending_hang_up is None and isinstance(event, HangUp):
        # The first one counts, as for ending.
        conversation.pending_hang_up = event.reason


def take_back(conversation: Conversation, event: TransferFailed) -> None:
    """Go on after a failed transfer and tell the caller; or hang up, if that was requested meanwhile."""
    if conversation.ending == TRANSFERRED_REASON and not conversation.transfer_accepted:
        conversation.take_back(event.text)


def blame_leg(conversation: Conversation, event: TransferFailed) -> None:
    """Record why the call ended, because the transfer failed and the caller is gone."""
    if conversation.ending == TRANSFERRED_REASON and not conversation.transfer_accepted:
        conversation.ending = conversation.pending_hang_up or conversation.leg_down_reason or conversation.ending
    if conversation.flushed:
        conversation.finish_call()


def await_end(conversation: Conversation, event: TransferAccepted) -> None:
    """Wait for the end of the leg: the carrier accepted the transfer, so the call does not come back."""
    if conversation.ending == TRANSFERRED_REASON:
        conversation.transfer_accepted = True
        # Anew: the time so far was for accepting the transfer, this one is for ending the leg.
        conversation.arm(Timer.LEG, conversation.now + conversation.policy.leg)


def confirm(conversation: Conversation, event: TransferAccepted) -> None:
    """Record that the leg went down because of the transfer."""
    conversation.transfer_accepted = True
    if conversation.flushed:
        conversation.finish_call()


def stop_goodbye(conversation: Conversation, event: None) -> None:
    """Cut a goodbye that takes too long, and hang up or transfer."""
    # The queued texts share the time of the goodbye, which is used up.
    conversation.queue.clear()
    conversation.cut("goodbye")
    conversation.next_move()


def flush(conversation: Conversation, event: LegDown) -> None:
    """Cut the present reply, because the caller is gone, and wait for the STT's last words."""
    conversation.leg_down(event.reason)


def give_up_leg(conversation: Conversation, event: None) -> None:
    """Go on without the carrier's confirmation that the leg has ended."""
    conversation.leg_down("")


def end(conversation: Conversation, event: None) -> None:
    """End the call. Words that were not answered enter the history."""
    conversation.finish_call()


def end_when_known(conversation: Conversation, event: Flushed) -> None:
    """End the call, unless it is still open whether the transfer was accepted."""
    conversation.flushed = True
    if conversation.ending != TRANSFERRED_REASON or conversation.transfer_accepted:
        conversation.finish_call()


# The tables -----------------------------------------------------------------------------------------------------------
_ = ignored


def _caller_row(silent: Rule, speaking: Rule, pausing: Rule, held: Rule, away: Rule) -> Mapping[CallerState, Rule]:
    return dict(zip(CallerState, (silent, speaking, pausing, held, away), strict=True))


def _agent_row(*rules: Rule) -> Mapping[AgentState, Rule]:
    return dict(zip(AgentState, rules, strict=True))


# fmt: off
CALLER: Mapping[Trigger, Mapping[CallerState, Rule]] = {
    #                             silent       speaking       pausing       held          away
    VoiceStarted:    _caller_row( begin_voice, _,             begin_voice,  begin_voice,  begin_voice),
    VoiceEnded:      _caller_row( forget_voice, end_voice,    forget_voice, forget_voice, forget_voice),
    InterimWords:         _caller_row( reopen,      add_words,     join_words,   join_words,   reopen),
    FinalWords:           _caller_row( reopen,      add_words,     join_words,   join_words,   reopen),
    Verdict:         _caller_row( _,           _,             judge,        _,            _),
    Timer.ENDPOINT:  _caller_row( _,           _,             decide,       decide,       _),
    Timer.FINAL:     _caller_row( _,           _,             decide,       decide,       _),
    Timer.HOLD:      _caller_row( _,           _,             _,            stop_holding, _),
    Timer.STUCK:     _caller_row( _,           call_it_noise, _,            _,            _),
    Timer.LULL:      _caller_row( _,           ask_for_words, _,            _,            _),
    Timer.AWAY:      _caller_row( go_away,     _,             _,            _,            _),
}

AGENT: Mapping[Trigger, Mapping[AgentState, Rule]] = {
    #                             initializing idle      thinking      speaking       closing      flushing  ended
    Ready:           _agent_row(  accept,      _,        _,            _,             _,           _,        _),
    Noticed.WORDS:   _agent_row(  _,           _,        give_way,     count_words,   _,           _,        _),
    TokenArrived:    _agent_row(  _,           _,        note_token,   note_token,    _,           _,        _),
    AudioArrived:    _agent_row(  _,           _,        note_audio,   _,             _,           _,        _),
    OnWire:          _agent_row(  _,           _,        be_heard,     _,             _,           _,        _),
    Busy:            _agent_row(  _,           _,        note_busy,    note_busy,     _,           _,        _),
    Closing:         _agent_row(  _,           _,        note_closing, note_closing,  _,           _,        _),
    Produced:        _agent_row(  _,           _,        end_silent,   note_produced, _,           _,        _),
    Drained:         _agent_row(  _,           _,        end_unheard,  drain,         _,           _,        _),
    ReplyFailed:     _agent_row(  _,           _,        fail,         fail,          _,           _,        _),
    Say:             _agent_row(  enqueue,     speak,    speak_next,   speak_next,    _,           _,        _),
    HangUp:          _agent_row(  hang_up,     hang_up,  leave,        leave,         fall_back,   _,        _),
    Transfer:        _agent_row(  await_ready, transfer, leave,        leave,         _,           _,        _),
    TransferFailed:  _agent_row(  _,           _,        _,            _,             take_back,   blame_leg, _),
    TransferAccepted:   _agent_row(  _,           _,        _,            _,             await_end,   confirm,  _),
    LegDown:         _agent_row(  flush,       flush,    flush,        flush,         flush,       _,        _),
    Flushed:         _agent_row(  _,           _,        _,            _,             _,  end_when_known,    _),
    Timer.OVERLAP:   _agent_row(  _,           _,        _,            barge_in,      _,           _,        _),
    Timer.REPLY:     _agent_row(  _,           _,        fail,         _,             _,           _,        _),
    Timer.GOODBYE:   _agent_row(  _,           _,        stop_goodbye, stop_goodbye,  _,           _,        _),
    Timer.LEG:       _agent_row(  _,           _,        _,            _,             give_up_leg, _,        _),
    Timer.FLUSH:     _agent_row(  _,           _,        _,            _,             _,           end,      _),
}
# fmt: on
