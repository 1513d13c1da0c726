"""The rules of turn-taking, as two tables: the rule for each input or deadline in each state of caller and agent.

The tables are complete; ``ignored`` is the rule that does nothing. ``CALLER`` has the triggers that change the state of
the caller, and ``AGENT`` has all others. Its rows ``WORDS`` and ``TYPING`` are the agent's reaction to the caller's
words and keys. The machine drops the inputs of finished replies before it looks here. After each rule,
``Conversation.derive`` applies the consequences that depend on both states together.
"""

# ruff: noqa: ARG001 - every rule has the same signature, whether or not it looks at the input.

from collections.abc import Callable, Mapping
from enum import Enum
from typing import Any

from patter_trio.conversation import actions
from patter_trio.conversation.agent_rules import (
    accept,
    await_end,
    await_ready,
    barge_in,
    be_heard,
    blame_leg,
    confirm,
    count_words,
    drain,
    end,
    end_hold,
    end_silent,
    end_unheard,
    end_when_known,
    enqueue,
    fail,
    flush,
    give_up_leg,
    give_way,
    hang_up,
    join,
    leave,
    make_room,
    note_audio,
    note_busy,
    note_closing,
    note_produced,
    note_token,
    speak,
    speak_next,
    stop_goodbye,
    take_back,
    transfer,
)
from patter_trio.conversation.inputs import (
    AudioArrived,
    Busy,
    Closing,
    Drained,
    FinalWords,
    Flushed,
    HangUp,
    InterimWords,
    Joined,
    KeyPressed,
    LegDown,
    OnWire,
    Produced,
    Ready,
    ReplyFailed,
    Say,
    TextTyped,
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
from patter_trio.conversation.typing_moves import collect, complete_keys, note_typing, take_typed
from patter_trio.conversation.wording import same_words


class Noticed(Enum):
    """Triggers that the rules for one side raise for the other side."""

    WORDS = "words"
    TYPING = "typing"


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


def press_key(conversation: Conversation, event: KeyPressed) -> None:
    """Collect the caller's keys; they are complete at the terminator, at the last that may come, or after *keys*."""
    complete = collect(conversation, event.digit)
    notice_typing(conversation)
    if complete:
        complete_keys(conversation)
    else:
        conversation.arm(Timer.KEYS, conversation.now + conversation.policy.key_pause)


def take_keys(conversation: Conversation, event: None) -> None:
    """Take the keys so far as complete, because no other followed."""
    complete_keys(conversation)


def take_text(conversation: Conversation, event: TextTyped) -> None:
    """Commit a text that was not spoken at once, with whatever was said before it."""
    note_typing(conversation)
    notice_typing(conversation)
    take_typed(conversation, event.text)


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


def notice_typing(conversation: Conversation) -> None:
    """Apply the agent's rule for what the caller types."""
    AGENT[Noticed.TYPING][conversation.agent](conversation, None)


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
    KeyPressed:      _caller_row( press_key,   press_key,     press_key,    press_key,    press_key),
    TextTyped:       _caller_row( take_text,   take_text,     take_text,    take_text,    take_text),
    Verdict:         _caller_row( _,           _,             judge,        _,            _),
    Timer.ENDPOINT:  _caller_row( _,           _,             decide,       decide,       _),
    Timer.FINAL:     _caller_row( _,           _,             decide,       decide,       _),
    Timer.HOLD:      _caller_row( _,           _,             _,            stop_holding, _),
    Timer.KEYS:      _caller_row( take_keys,   take_keys,     take_keys,    take_keys,    take_keys),
    Timer.STUCK:     _caller_row( _,           call_it_noise, _,            _,            _),
    Timer.LULL:      _caller_row( _,           ask_for_words, _,            _,            _),
    Timer.AWAY:      _caller_row( go_away,     _,             _,            _,            _),
}

AGENT: Mapping[Trigger, Mapping[AgentState, Rule]] = {
    #                             initializing idle      thinking      speaking       closing      flushing  ended
    Ready:           _agent_row(  accept,      _,        _,            _,             _,           _,        _),
    Noticed.WORDS:   _agent_row(  _,           _,        give_way,     count_words,   _,           _,        _),
    Noticed.TYPING:  _agent_row(  _,           _,        make_room,    make_room,     _,           _,        _),
    TokenArrived:    _agent_row(  _,           _,        note_token,   note_token,    _,           _,        _),
    AudioArrived:    _agent_row(  _,           _,        note_audio,   _,             _,           _,        _),
    OnWire:          _agent_row(  _,           _,        be_heard,     _,             _,           _,        _),
    Busy:            _agent_row(  _,           _,        note_busy,    note_busy,     _,           _,        _),
    Closing:         _agent_row(  _,           _,        note_closing, note_closing,  _,           _,        _),
    Produced:        _agent_row(  _,           _,        end_silent,   note_produced, _,           _,        _),
    Drained:         _agent_row(  _,           _,        end_unheard,  drain,         _,           _,        _),
    ReplyFailed:     _agent_row(  _,           _,        fail,         fail,          _,           _,        _),
    Say:             _agent_row(  enqueue,     speak,    speak_next,   speak_next,    _,           _,        _),
    HangUp:          _agent_row(  hang_up,     hang_up,  leave,        leave,         end_hold,    _,        _),
    Transfer:        _agent_row(  await_ready, transfer, leave,        leave,         _,           _,        _),
    TransferFailed:  _agent_row(  _,           _,        _,            _,             take_back,   blame_leg, _),
    TransferAccepted:   _agent_row(  _,           _,        _,            _,             await_end,   confirm,  _),
    Joined:          _agent_row(  join,        join,     join,         join,          join,        _,        _),
    LegDown:         _agent_row(  flush,       flush,    flush,        flush,         flush,       _,        _),
    Flushed:         _agent_row(  _,           _,        _,            _,             _,  end_when_known,    _),
    Timer.OVERLAP:   _agent_row(  _,           _,        _,            barge_in,      _,           _,        _),
    Timer.REPLY:     _agent_row(  _,           _,        fail,         _,             _,           _,        _),
    Timer.GOODBYE:   _agent_row(  _,           _,        stop_goodbye, stop_goodbye,  _,           _,        _),
    Timer.LEG:       _agent_row(  _,           _,        _,            _,             give_up_leg, _,        _),
    Timer.FLUSH:     _agent_row(  _,           _,        _,            _,             _,           end,      _),
}
# fmt: on
