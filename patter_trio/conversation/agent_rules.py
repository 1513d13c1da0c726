"""The rules for the agent's side of turn-taking.

The table ``AGENT`` in ``turn_table`` says when each of them applies.
"""

# ruff: noqa: ARG001 - every rule has the same signature, whether or not it looks at the input.

from patter_trio.conversation import actions
from patter_trio.conversation.inputs import (
    TRANSFERRED_REASON,
    AudioArrived,
    Busy,
    Closing,
    Drained,
    Flushed,
    HangUp,
    Joined,
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
)
from patter_trio.conversation.turn_moves import Conversation
from patter_trio.conversation.turn_state import AgentState, Timer


def accept(conversation: Conversation, event: Ready) -> None:
    """Begin the conversation."""
    conversation.agent = AgentState.IDLE
    if conversation.ending is not None:
        conversation.arm(Timer.GOODBYE, conversation.now + conversation.policy.goodbye)
    conversation.next_move()


def give_way(conversation: Conversation, event: None) -> None:
    """Retract the answer, because the caller went on before hearing it. In a gap of a reply: cut the reply."""
    if conversation.gives_way:
        conversation.yield_floor()


def count_words(conversation: Conversation, event: None) -> None:
    """Cut the reply if the caller has said enough words over it, where interruptions need words."""
    if conversation.can_cut and 0 < conversation.policy.min_words <= conversation.utterance.unjudged_words:
        conversation.yield_floor()


def barge_in(conversation: Conversation, event: None) -> None:
    """Cut the reply, because the caller has talked over it for long enough."""
    conversation.yield_floor()


def make_room(conversation: Conversation, event: None) -> None:
    """Cut the reply, because the caller types; not a text of the application's that nobody has heard."""
    if conversation.policy.keys_interrupt and conversation.can_cut and not conversation.has_unheard_say:
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
    # Once per turn, also when the answer is restarted after a failure, or after words that came to nothing. Tones are
    # no speech.
    if reply.turn != conversation.audio_turn and not reply.digits:
        conversation.audio_turn = reply.turn
        conversation.emit(actions.ReportAudio(conversation.now, reply.number, reply.turn))


def be_heard(conversation: Conversation, event: OnWire) -> None:
    """Let the agent speak, for the first time or after a gap."""
    reply = conversation.live
    # Audio that may not be heard yet cannot have been sent: an input out of order changes nothing.
    if not reply.opened:
        return
    conversation.disarm(Timer.REPLY)
    if reply.digits:
        # The agent does not speak. The playback ledger reports the end, as it does of speech.
        return
    conversation.agent = AgentState.SPEAKING
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
    elif conversation.live.digits:
        # be_heard() has ended the wait for its audio.
        conversation.wait_for_reply()


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
    """Queue the text; put it first if it is to interrupt, or if it is the notice that the call is recorded."""
    if event.interrupt or event.notice:
        conversation.queue.appendleft(event)
    else:
        conversation.queue.append(event)


def speak_next(conversation: Conversation, event: Say) -> None:
    """Speak the text after the present reply, or in place of it if it is to interrupt. Not while the call is ending."""
    if conversation.ending is not None:
        return
    # Whether the reply is interruptible is not asked: that is about the caller, and here the
    # application interrupts itself. But half of a number is worth nothing.
    if event.interrupt and conversation.live.digits:
        conversation.queue.appendleft(event)
    elif event.interrupt:
        conversation.cut("say")
        conversation.say(event)
    else:
        conversation.queue.append(event)


def hang_up(conversation: Conversation, event: HangUp) -> None:
    """Hang up at once."""
    conversation.close(event.reason)


def transfer(conversation: Conversation, event: Transfer) -> None:
    """Transfer the call at once."""
    conversation.hold = event.hold
    conversation.close(event.reason)


def await_ready(conversation: Conversation, event: Transfer) -> None:
    """Transfer the call once all providers are open, because only then can the agent go on if the transfer fails."""
    conversation.ending, conversation.hold = event.reason, event.hold


def leave(conversation: Conversation, event: HangUp | Transfer) -> None:
    """Hang up or transfer once the present reply and the queued texts have been spoken, within *goodbye*."""
    if conversation.ending is None:
        conversation.ending = event.reason
        conversation.hold = event.hold if isinstance(event, Transfer) else 0.0
        conversation.arm(Timer.GOODBYE, conversation.now + conversation.policy.goodbye)
    else:
        fall_back(conversation, event)


def fall_back(conversation: Conversation, event: HangUp | Transfer) -> None:
    """Remember to hang up if the transfer that is under way fails."""
    if conversation.ending == TRANSFERRED_REASON and conversation.pending_hang_up is None and isinstance(event, HangUp):
        # The first one counts, as for ending.
        conversation.pending_hang_up = event.reason


def end_hold(conversation: Conversation, event: HangUp) -> None:
    """Hang up a caller who is on hold, at once; else remember to hang up if the transfer that is under way fails."""
    if conversation.hold and conversation.ending == TRANSFERRED_REASON and not event.patient:
        conversation.close(event.reason)
    else:
        fall_back(conversation, event)


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


def join(conversation: Conversation, event: Joined) -> None:
    """Cut everything, because the party hears somebody else from now on, and wait for the STT's last words."""
    conversation.transfer_accepted = True
    conversation.leg_down(TRANSFERRED_REASON)


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
