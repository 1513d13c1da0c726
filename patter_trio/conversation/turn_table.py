"""The rules of turn-taking, as two tables: what each input or deadline does in each state of caller and agent.

The tables are complete; ``ignored`` stands where nothing happens. ``CALLER`` has the triggers that change what the
caller does, ``AGENT`` has all others, where the row ``WORDS`` is how the caller's words concern the agent. Inputs of a
reply that is over never get here. ``Conversation.settle`` derives what follows from both states together.
"""

# ruff: noqa: ARG001 - every rule has the same signature, whether or not it looks at the input.

from collections.abc import Callable, Mapping
from enum import Enum
from typing import Any

from patter_trio.conversation import actions
from patter_trio.conversation.inputs import (
    TRANSFERRED,
    AudioArrived,
    Busy,
    Drained,
    Final,
    Flushed,
    HangUp,
    Interim,
    LegDown,
    OnWire,
    Produced,
    Ready,
    ReplyFailed,
    Say,
    TokenArrived,
    Transfer,
    TransferFailed,
    TransferTaken,
    Verdict,
    VoiceEnded,
    VoiceStarted,
)
from patter_trio.conversation.turn_moves import DECIDING, Conversation
from patter_trio.conversation.turn_state import Agent, Caller, Timer


class Noticed(Enum):
    """What one side notices of the other."""

    WORDS = "words"


Trigger = type | Timer | Noticed
Rule = Callable[[Conversation, Any], None]


def ignored(talk: Conversation, event: object) -> None:
    """Do nothing."""


# The caller -----------------------------------------------------------------------------------------------------------
def begin_voice(talk: Conversation, event: VoiceStarted) -> None:
    """Let the caller speak: what was being decided about the utterance is open again."""
    talk.caller = Caller.SPEAKING
    talk.onset = min(event.onset, talk.now)
    talk.unfinished = talk.eager = talk.ended_early = False
    # An engine ends its turns without words: with it, each voice may be ended early.
    talk.worded = not talk.policy.words
    talk.disarm(*DECIDING)
    talk.arm(Timer.STUCK, talk.now + talk.patience_with_voice)
    talk.emit(actions.UserSpeechStarted(talk.now, talk.onset, event.confidence))


def end_voice(talk: Conversation, event: VoiceEnded) -> None:
    """Let the caller pause: wait for the endpoint and for final words, and ask the turn detector."""
    talk.voice_over(event.end, event.confidence)


def forget_voice(talk: Conversation, event: VoiceEnded) -> None:
    """End, for the VAD too, the voice of a turn that the recogniser had ended.

    Where no words tell whether the voice went on after that end, the VAD's end does: if it is later, the caller said
    more, which the engine has not noticed.
    """
    went_on = talk.ended_early and not talk.policy.words and event.end > talk.end
    talk.ended_early = False
    if went_on:
        go_on(talk, event.end)
        end_voice(talk, event)


def go_on(talk: Conversation, until: float) -> None:
    """Restart the voice that has lasted since its turn was ended early. Over the agent, it may interrupt."""
    # What was said after the end of the turn is a voice of its own.
    begin_voice(talk, VoiceStarted(talk.end))
    if talk.is_over_agent and until >= talk.onset + talk.policy.overlap:
        talk.yield_floor()


def call_it_noise(talk: Conversation, event: None) -> None:
    """Treat a long voice without a word as noise or music: go on as if it had ended now."""
    talk.voice_over(talk.now)


def add_words(talk: Conversation, event: Interim | Final) -> None:
    """Record words of a caller who is still speaking; a recogniser that judges turns can end the voice with them.

    Only a turn with words of this very voice ends it. A turn that ends with earlier words was reported late, and the
    caller has gone on.
    """
    worded = talk.worded
    if talk.take(event):
        talk.worded = True
        # Words show that the voice is not noise: the deadline starts again.
        talk.arm(Timer.STUCK, talk.now + talk.policy.stuck)
        notice_words(talk)
    over = event.finished and isinstance(event, Final)
    if over and worded:
        talk.ended_early = True
        talk.voice_over(talk.now)
        talk.heed(event)
        talk.try_commit()
    elif not over:  # the late end of an earlier turn says nothing about the voice that goes on
        talk.heed(event)


def join_words(talk: Conversation, event: Interim | Final) -> None:
    """Record words of the utterance that is being decided about, and commit it if nothing else is missing."""
    if talk.take(event):
        notice_words(talk)
        talk.time_words(reopened=False)
    if not talk.utterance.interims and isinstance(event, Final):
        # Every segment has its final words, so there is nothing to wait for.
        talk.disarm(Timer.FINAL)
    talk.heed(event)
    talk.try_commit()


def reopen(talk: Conversation, event: Interim | Final) -> None:
    """Take words without a voice: late ones amend the unheard answer, others begin an utterance.

    After a turn that the recogniser ended, new words belong to a voice that was not over, so the voice begins again.
    """
    if event.finished and not talk.policy.words:
        hear_turn(talk, event)
        return
    # Final words of a segment that was committed with interim ones are not new.
    if talk.ended_early and event.text.strip() and event.segment not in talk.promoted:
        begin_voice(talk, VoiceStarted(talk.now))
        add_words(talk, event)
        return
    if not talk.take(event):
        return
    # Interim words do not amend: each change of them would restart the answer.
    if isinstance(event, Final) and talk.can_amend:
        talk.amend([*talk.committed, *talk.utterance.take()])
        return
    notice_words(talk)
    talk.caller = Caller.PAUSING
    talk.time_words(reopened=True)
    talk.heed(event)
    if event.finished:
        talk.try_commit()


def hear_turn(talk: Conversation, event: Interim | Final) -> None:
    """Take a whole turn that an engine heard: in a voice that went on, or where the VAD noticed none."""
    lasting = talk.ended_early
    if lasting:
        go_on(talk, talk.now)
    else:
        begin_voice(talk, VoiceStarted(talk.now))
    add_words(talk, event)
    talk.ended_early = lasting


def judge(talk: Conversation, event: Verdict) -> None:
    """Wait for less silence if the turn detector is sure; if it is unsure, mark the utterance unfinished."""
    # An answer to an older question is about an utterance that has grown since.
    if event.generation != talk.generation:
        return
    talk.judge(finished=event.complete >= talk.policy.complete_threshold)


def decide(talk: Conversation, event: None) -> None:
    """Commit the utterance, if nothing stands against it."""
    talk.try_commit()


def stop_holding(talk: Conversation, event: None) -> None:
    """Treat the utterance as finished after all."""
    talk.unfinished = False
    talk.try_commit()


def go_away(talk: Conversation, event: None) -> None:
    """Mark the caller as away: neither side has spoken for long."""
    talk.caller = Caller.AWAY


def notice_words(talk: Conversation) -> None:
    """Apply the agent's rule for the caller's words."""
    AGENT[Noticed.WORDS][talk.agent](talk, None)


# The agent ------------------------------------------------------------------------------------------------------------
def accept(talk: Conversation, event: Ready) -> None:
    """Begin the conversation."""
    talk.agent = Agent.IDLE
    if talk.ending is not None:
        talk.arm(Timer.GOODBYE, talk.now + talk.policy.goodbye)
    talk.rest()


def give_way(talk: Conversation, event: None) -> None:
    """Retract the answer, because the caller went on before hearing it. In a gap of a reply: cut the reply."""
    if (
        talk.can_cut
        and not talk.owes_a_say
        and not (talk.live.started and talk.utterance.fresh < talk.policy.min_words)
    ):
        talk.yield_floor()


def count_words(talk: Conversation, event: None) -> None:
    """Cut the reply if the caller has said enough words over it, where interruptions take words."""
    if talk.can_cut and 0 < talk.policy.min_words <= talk.utterance.fresh:
        talk.yield_floor()


def barge_in(talk: Conversation, event: None) -> None:
    """Cut the reply, because the caller has talked over it for long enough."""
    talk.yield_floor()


def note_token(talk: Conversation, event: TokenArrived) -> None:
    """Tell the turn's first generated text, unless its audio was told before."""
    reply = talk.live
    # Only an LLM's answer has tokens, and llm_token never comes after the turn's audio_out.
    if reply.text is None and not reply.apology and reply.turn not in (talk.token_turn, talk.audio_turn):
        talk.token_turn = reply.turn
        talk.emit(actions.TellToken(talk.now, reply.number, reply.turn))


def note_audio(talk: Conversation, event: AudioArrived) -> None:
    """Tell the turn's first audio. It goes out as soon as the caller lets it."""
    reply = talk.live
    if reply.audio:
        return
    reply.audio = True
    talk.disarm(Timer.REPLY)
    # Once per turn, also when the answer is restarted after an amendment or a failure.
    if reply.turn != talk.audio_turn:
        talk.audio_turn = reply.turn
        talk.emit(actions.TellAudio(talk.now, reply.number, reply.turn))


def be_heard(talk: Conversation, event: OnWire) -> None:
    """Let the agent speak, for the first time or after a gap."""
    reply = talk.live
    if not reply.opened:
        return
    talk.agent = Agent.SPEAKING
    talk.disarm(Timer.REPLY)
    extend(talk, event)
    if not reply.started:
        reply.started = True
        talk.emit(actions.TellAgentStarted(talk.now, reply.number, reply.turn))


def extend(talk: Conversation, event: OnWire) -> None:
    """Move the end of playback."""
    talk.arm(Timer.DRAIN, event.until + talk.policy.drain_grace)


def note_busy(talk: Conversation, event: Busy) -> None:
    """Record until when the reply may wait for a tool. The deadline for its audio counts from there."""
    talk.live.busy = event.until
    if Timer.REPLY in talk.timers:
        talk.wait_for_reply()


def note_produced(talk: Conversation, event: Produced) -> None:
    """Record that all audio of the reply was produced."""
    talk.live.produced = True


def end_silent(talk: Conversation, event: Produced) -> None:
    """Finish the reply, which is fully produced, if it has no audio or if all of it was played."""
    reply = talk.live
    reply.produced = True
    # A reply that was heard and is thinking again has a gap: all audio so far was played.
    if reply.started or not reply.audio:
        talk.finish()


def end_unheard(talk: Conversation, event: Drained) -> None:
    """Finish the reply if all of it was played, although no audio was reported as sent."""
    if talk.live.opened and talk.live.produced:
        talk.finish()


def drain(talk: Conversation, event: Drained | None) -> None:
    """Finish the reply, because all of it was played; if more is to come, it has a gap."""
    talk.disarm(Timer.DRAIN)
    if talk.live.produced:
        talk.finish()
    else:
        talk.agent = Agent.THINKING
        talk.wait_for_reply()


def fail(talk: Conversation, event: ReplyFailed | None) -> None:
    """Cut the reply and apologise, once per turn."""
    talk.fail()


def speak(talk: Conversation, event: Say) -> None:
    """Speak the text now."""
    talk.say(event)


def enqueue(talk: Conversation, event: Say) -> None:
    """Speak the text later; before all others if it is to interrupt."""
    if event.interrupt:
        talk.queue.appendleft(event)
    else:
        talk.queue.append(event)


def speak_next(talk: Conversation, event: Say) -> None:
    """Speak the text after the present reply, or in place of it if it is to interrupt. Not while the call is ending."""
    if talk.ending is not None:
        return
    if event.interrupt:
        talk.cut("say")
        talk.say(event)
    else:
        talk.queue.append(event)


def hang_up(talk: Conversation, event: HangUp) -> None:
    """Hang up at once."""
    talk.close(event.reason)


def hand_over(talk: Conversation, event: Transfer) -> None:
    """Transfer the call at once."""
    talk.close(event.reason)


def await_ready(talk: Conversation, event: Transfer) -> None:
    """Transfer the call once all providers are open, because only then can the agent go on if the transfer fails."""
    talk.ending = event.reason


def leave(talk: Conversation, event: HangUp | Transfer) -> None:
    """Hang up, or transfer, after what is being spoken and what waits to be spoken, within *goodbye*."""
    if talk.ending is None:
        talk.ending = event.reason
        talk.arm(Timer.GOODBYE, talk.now + talk.policy.goodbye)
    else:
        fall_back(talk, event)


def fall_back(talk: Conversation, event: HangUp | Transfer) -> None:
    """Remember to hang up if the transfer that is under way fails."""
    if talk.ending == TRANSFERRED and talk.instead is None and isinstance(event, HangUp):
        talk.instead = event.reason


def take_back(talk: Conversation, event: TransferFailed) -> None:
    """Go on after a failed transfer and tell the caller; or hang up, if that was wanted meanwhile."""
    if talk.ending == TRANSFERRED and not talk.taken:
        talk.take_back(event.text)


def blame_leg(talk: Conversation, event: TransferFailed) -> None:
    """Record what ended the call: the transfer failed, and the caller is gone."""
    if talk.ending == TRANSFERRED and not talk.taken:
        talk.ending = talk.instead or talk.left or talk.ending
    if talk.flushed:
        talk.finish_call()


def await_end(talk: Conversation, event: TransferTaken) -> None:
    """Wait for the end of the leg: the carrier accepted the transfer, so the call does not come back."""
    if talk.ending == TRANSFERRED:
        talk.taken = True
        talk.arm(Timer.LEG, talk.now + talk.policy.leg)


def confirm(talk: Conversation, event: TransferTaken) -> None:
    """Record that the leg went down because of the transfer."""
    talk.taken = True
    if talk.flushed:
        talk.finish_call()


def stop_goodbye(talk: Conversation, event: None) -> None:
    """Cut a goodbye that takes too long, and hang up."""
    # The texts that wait share the goodbye's time, and it is used up.
    talk.queue.clear()
    talk.cut("goodbye")
    talk.rest()


def flush(talk: Conversation, event: LegDown) -> None:
    """Cut what is being spoken, because the caller is gone, and wait for the STT's last words."""
    talk.leg_down(event.reason)


def give_up_leg(talk: Conversation, event: None) -> None:
    """Go on without the carrier's confirmation that the leg has ended."""
    talk.leg_down("")


def end(talk: Conversation, event: None) -> None:
    """End the call. Words that nobody will answer enter the history."""
    talk.finish_call()


def end_when_known(talk: Conversation, event: Flushed) -> None:
    """End the call as soon as it is known whether the transfer was accepted."""
    talk.flushed = True
    if talk.ending != TRANSFERRED or talk.taken:
        talk.finish_call()


# The tables -----------------------------------------------------------------------------------------------------------
_ = ignored


def _caller_row(silent: Rule, speaking: Rule, pausing: Rule, held: Rule, away: Rule) -> Mapping[Caller, Rule]:
    return dict(zip(Caller, (silent, speaking, pausing, held, away), strict=True))


def _agent_row(*rules: Rule) -> Mapping[Agent, Rule]:
    return dict(zip(Agent, rules, strict=True))


# fmt: off
CALLER: Mapping[Trigger, Mapping[Caller, Rule]] = {
    #                             silent       speaking       pausing       held          away
    VoiceStarted:    _caller_row( begin_voice, _,             begin_voice,  begin_voice,  begin_voice),
    VoiceEnded:      _caller_row( forget_voice, end_voice,    forget_voice, forget_voice, forget_voice),
    Interim:         _caller_row( reopen,      add_words,     join_words,   join_words,   reopen),
    Final:           _caller_row( reopen,      add_words,     join_words,   join_words,   reopen),
    Verdict:         _caller_row( _,           _,             judge,        _,            _),
    Timer.ENDPOINT:  _caller_row( _,           _,             decide,       decide,       _),
    Timer.FINAL:     _caller_row( _,           _,             decide,       decide,       _),
    Timer.HOLD:      _caller_row( _,           _,             _,            stop_holding, _),
    Timer.STUCK:     _caller_row( _,           call_it_noise, _,            _,            _),
    Timer.AWAY:      _caller_row( go_away,     _,             _,            _,            _),
}

AGENT: Mapping[Trigger, Mapping[Agent, Rule]] = {
    #                             initializing idle      thinking      speaking       closing      flushing  ended
    Ready:           _agent_row(  accept,      _,        _,            _,             _,           _,        _),
    Noticed.WORDS:   _agent_row(  _,           _,        give_way,     count_words,   _,           _,        _),
    TokenArrived:    _agent_row(  _,           _,        note_token,   note_token,    _,           _,        _),
    AudioArrived:    _agent_row(  _,           _,        note_audio,   _,             _,           _,        _),
    OnWire:          _agent_row(  _,           _,        be_heard,     extend,        _,           _,        _),
    Busy:            _agent_row(  _,           _,        note_busy,    note_busy,     _,           _,        _),
    Produced:        _agent_row(  _,           _,        end_silent,   note_produced, _,           _,        _),
    Drained:         _agent_row(  _,           _,        end_unheard,  drain,         _,           _,        _),
    ReplyFailed:     _agent_row(  _,           _,        fail,         fail,          _,           _,        _),
    Say:             _agent_row(  enqueue,     speak,    speak_next,   speak_next,    _,           _,        _),
    HangUp:          _agent_row(  hang_up,     hang_up,  leave,        leave,         fall_back,   _,        _),
    Transfer:        _agent_row(  await_ready, hand_over, leave,       leave,         _,           _,        _),
    TransferFailed:  _agent_row(  _,           _,        _,            _,             take_back,   blame_leg, _),
    TransferTaken:   _agent_row(  _,           _,        _,            _,             await_end,   confirm,  _),
    LegDown:         _agent_row(  flush,       flush,    flush,        flush,         flush,       _,        _),
    Flushed:         _agent_row(  _,           _,        _,            _,             _,  end_when_known,    _),
    Timer.OVERLAP:   _agent_row(  _,           _,        _,            barge_in,      _,           _,        _),
    Timer.DRAIN:     _agent_row(  _,           _,        _,            drain,         _,           _,        _),
    Timer.REPLY:     _agent_row(  _,           _,        fail,         _,             _,           _,        _),
    Timer.GOODBYE:   _agent_row(  _,           _,        stop_goodbye, stop_goodbye,  _,           _,        _),
    Timer.LEG:       _agent_row(  _,           _,        _,            _,             give_up_leg, _,        _),
    Timer.FLUSH:     _agent_row(  _,           _,        _,            _,             _,           end,      _),
}
# fmt: on
