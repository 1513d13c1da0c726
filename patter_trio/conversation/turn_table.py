"""The rules of turn taking, as two tables: what each input or deadline does in each state of caller and of agent.

Every pair is there; ``ignored`` says that nothing happens. What the caller does is looked up in ``CALLER``, everything
else in ``AGENT``, where the row ``WORDS`` is the caller's words as they concern the agent. Inputs of a reply that is
over never get here. What follows from both states together is ``Conversation.settle``.
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
    """Nothing happens."""


# The caller -----------------------------------------------------------------------------------------------------------
def begin_voice(talk: Conversation, event: VoiceStarted) -> None:
    """The caller is speaking; what was being decided about the utterance is open again."""
    talk.caller = Caller.SPEAKING
    talk.onset = min(event.onset, talk.now)
    talk.unfinished = talk.eager = talk.ended_early = False
    talk.worded = not talk.policy.words
    talk.disarm(*DECIDING)
    talk.arm(Timer.STUCK, talk.now + talk.patience_with_voice)
    talk.emit(actions.UserSpeechStarted(talk.now, talk.onset, event.confidence))


def end_voice(talk: Conversation, event: VoiceEnded) -> None:
    """The caller is pausing: wait for the endpoint and for final words, and ask the turn detector."""
    talk.voice_over(event.end, event.confidence)


def forget_voice(talk: Conversation, event: VoiceEnded) -> None:
    """The voice of a turn that the recogniser had ended is over for the voice detector, too.

    Where no words tell whether it went on after that end, its own end does: then more was said, and nobody has noticed.
    """
    went_on = talk.ended_early and not talk.policy.words and event.end > talk.end
    talk.ended_early = False
    if went_on:
        go_on(talk, event.end)
        end_voice(talk, event)


def go_on(talk: Conversation, until: float) -> None:
    """Begin the voice again that has lasted since its turn was ended early; over the agent it may have interrupted."""
    begin_voice(talk, VoiceStarted(talk.end))
    if talk.is_over_agent and until >= talk.onset + talk.policy.overlap:
        talk.yield_floor()


def call_it_noise(talk: Conversation, event: None) -> None:
    """Voice without a word for so long is noise or music: go on as if it had ended now."""
    talk.voice_over(talk.now)


def add_words(talk: Conversation, event: Interim | Final) -> None:
    """Note the words of a caller who is still speaking; whose turn is over, to a recogniser that judges, speaks no more.

    That holds for a turn with words from this very voice. One that ends with earlier words was told late, and the caller
    has gone on.
    """
    worded = talk.worded
    if talk.take(event):
        talk.worded = True
        talk.arm(Timer.STUCK, talk.now + talk.policy.stuck)
        notice_words(talk)
    over = event.finished and isinstance(event, Final)
    if over and worded:
        talk.ended_early = True
        talk.voice_over(talk.now)
        talk.heed(event)
        talk.try_commit()
    elif not over:
        talk.heed(event)


def join_words(talk: Conversation, event: Interim | Final) -> None:
    """Note words of the utterance that is being decided about, and decide if they are all that was waited for."""
    if talk.take(event):
        notice_words(talk)
        talk.time_words(reopened=False)
    if not talk.utterance.interims and isinstance(event, Final):
        talk.disarm(Timer.FINAL)
    talk.heed(event)
    talk.try_commit()


def reopen(talk: Conversation, event: Interim | Final) -> None:
    """Words without a voice: late ones amend the unheard answer; others begin an utterance.

    After a turn that the recogniser has ended, new words are of a voice that was not over: it begins again.
    """
    if event.finished and not talk.policy.words:
        hear_turn(talk, event)
        return
    if talk.ended_early and event.text.strip() and event.segment not in talk.promoted:
        begin_voice(talk, VoiceStarted(talk.now))
        add_words(talk, event)
        return
    if not talk.take(event):
        return
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
    """An engine has heard a whole turn: in a voice that went on, or where the voice detector noticed none."""
    lasting = talk.ended_early
    if lasting:
        go_on(talk, talk.now)
    else:
        begin_voice(talk, VoiceStarted(talk.now))
    add_words(talk, event)
    talk.ended_early = lasting


def judge(talk: Conversation, event: Verdict) -> None:
    """A sure turn detector shortens the wait; an unsure one marks the utterance unfinished."""
    if event.generation != talk.generation:
        return
    talk.judge(finished=event.complete >= talk.policy.complete_threshold)


def decide(talk: Conversation, event: None) -> None:
    """Commit the utterance, if nothing speaks against it."""
    talk.try_commit()


def stop_holding(talk: Conversation, event: None) -> None:
    """The utterance counts as finished after all."""
    talk.unfinished = False
    talk.try_commit()


def go_away(talk: Conversation, event: None) -> None:
    """Nobody has spoken for long."""
    talk.caller = Caller.AWAY


def notice_words(talk: Conversation) -> None:
    """Apply the agent's rule for the caller's words."""
    AGENT[Noticed.WORDS][talk.agent](talk, None)


# The agent ------------------------------------------------------------------------------------------------------------
def accept(talk: Conversation, event: Ready) -> None:
    """The conversation begins."""
    talk.agent = Agent.IDLE
    if talk.ending is not None:
        talk.arm(Timer.GOODBYE, talk.now + talk.policy.goodbye)
    talk.rest()


def give_way(talk: Conversation, event: None) -> None:
    """The caller has gone on before the agent was heard: retract the answer. In a gap: cut the reply."""
    if (
        talk.can_cut
        and not talk.owes_a_say
        and not (talk.live.started and talk.utterance.fresh < talk.policy.min_words)
    ):
        talk.yield_floor()


def count_words(talk: Conversation, event: None) -> None:
    """Enough words over the agent cut the reply, where it takes words."""
    if talk.can_cut and 0 < talk.policy.min_words <= talk.utterance.fresh:
        talk.yield_floor()


def barge_in(talk: Conversation, event: None) -> None:
    """The caller has talked over the agent for long enough: cut the reply."""
    talk.yield_floor()


def note_token(talk: Conversation, event: TokenArrived) -> None:
    """Tell the turn's first generated text, unless its audio was told before."""
    reply = talk.live
    if reply.text is None and not reply.apology and reply.turn not in (talk.token_turn, talk.audio_turn):
        talk.token_turn = reply.turn
        talk.emit(actions.TellToken(talk.now, reply.number, reply.turn))


def note_audio(talk: Conversation, event: AudioArrived) -> None:
    """Tell the turn's first audio; the lane opens as soon as the caller lets it."""
    reply = talk.live
    if reply.audio:
        return
    reply.audio = True
    talk.disarm(Timer.REPLY)
    if reply.turn != talk.audio_turn:
        talk.audio_turn = reply.turn
        talk.emit(actions.TellAudio(talk.now, reply.number, reply.turn))


def be_heard(talk: Conversation, event: OnWire) -> None:
    """The agent is speaking, again or for the first time."""
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
    """Playback ends later."""
    talk.arm(Timer.DRAIN, event.until + talk.policy.drain_grace)


def note_busy(talk: Conversation, event: Busy) -> None:
    """The reply may wait for a tool until then; its own deadline counts from there."""
    talk.live.busy = event.until
    if Timer.REPLY in talk.timers:
        talk.wait_for_reply()


def note_produced(talk: Conversation, event: Produced) -> None:
    """Nothing more will come."""
    talk.live.produced = True


def end_silent(talk: Conversation, event: Produced) -> None:
    """Nothing more will come: the reply is over if it has no audio, or if all of it was played."""
    reply = talk.live
    reply.produced = True
    if reply.started or not reply.audio:
        talk.finish()


def end_unheard(talk: Conversation, event: Drained) -> None:
    """All was played and nothing more will come, although no audio was ever reported on the wire."""
    if talk.live.opened and talk.live.produced:
        talk.finish()


def drain(talk: Conversation, event: Drained | None) -> None:
    """All was played: the reply is over, or has a gap if more is to come."""
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
    """Say it now."""
    talk.say(event)


def enqueue(talk: Conversation, event: Say) -> None:
    """Say it later, before all others if it is to interrupt."""
    if event.interrupt:
        talk.queue.appendleft(event)
    else:
        talk.queue.append(event)


def speak_next(talk: Conversation, event: Say) -> None:
    """Say it after what is being said, or instead if it is to interrupt. Not when the call is ending."""
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
    """Hand the call over at once."""
    talk.close(event.reason)


def await_ready(talk: Conversation, event: Transfer) -> None:
    """Hand the call over as soon as it can be taken back: when everything that it needs is open."""
    talk.ending = event.reason


def leave(talk: Conversation, event: HangUp | Transfer) -> None:
    """Hang up, or hand over, after what is being said, and what waits to be said, within bounds."""
    if talk.ending is None:
        talk.ending = event.reason
        talk.arm(Timer.GOODBYE, talk.now + talk.policy.goodbye)
    else:
        fall_back(talk, event)


def fall_back(talk: Conversation, event: HangUp | Transfer) -> None:
    """Hang up if the call that is being handed over comes back."""
    if talk.ending == TRANSFERRED and talk.instead is None and isinstance(event, HangUp):
        talk.instead = event.reason


def take_back(talk: Conversation, event: TransferFailed) -> None:
    """The call was not handed over: tell the caller, and go on; or hang up, if that was wanted meanwhile."""
    if talk.ending == TRANSFERRED and not talk.taken:
        talk.take_back(event.text)


def blame_leg(talk: Conversation, event: TransferFailed) -> None:
    """The call was not handed over, and the caller is gone: that is what ended it."""
    if talk.ending == TRANSFERRED and not talk.taken:
        talk.ending = talk.instead or talk.left or talk.ending
    if talk.flushed:
        talk.finish_call()


def await_end(talk: Conversation, event: TransferTaken) -> None:
    """The carrier hands the call over: it does not come back, and its leg has a while to end."""
    if talk.ending == TRANSFERRED:
        talk.taken = True
        talk.arm(Timer.LEG, talk.now + talk.policy.leg)


def confirm(talk: Conversation, event: TransferTaken) -> None:
    """The leg went down because the call was handed over."""
    talk.taken = True
    if talk.flushed:
        talk.finish_call()


def stop_goodbye(talk: Conversation, event: None) -> None:
    """The goodbye has taken too long: cut it and hang up."""
    talk.queue.clear()
    talk.cut("goodbye")
    talk.rest()


def flush(talk: Conversation, event: LegDown) -> None:
    """The caller is gone: cut what is being said, and wait for the recogniser's last words."""
    talk.leg_down(event.reason)


def give_up_leg(talk: Conversation, event: None) -> None:
    """The carrier does not confirm the end: go on without."""
    talk.leg_down("")


def end(talk: Conversation, event: None) -> None:
    """The call is over; words that nobody will answer enter the history."""
    talk.finish_call()


def end_when_known(talk: Conversation, event: Flushed) -> None:
    """The call is over, as soon as it is known whether it was handed over."""
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
