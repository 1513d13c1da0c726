"""The moves of the turn machine for what the caller types: keys, which are collected, and whole texts."""

from patter_trio.conversation import actions
from patter_trio.conversation.turn_moves import DECIDING_TIMERS, Conversation
from patter_trio.conversation.turn_state import CallerState, Timer


def collect(conversation: Conversation, key: str) -> bool:
    """Add a key to those that the caller has pressed. Return True if they are complete."""
    policy, utterance = conversation.policy, conversation.utterance
    terminates = key == policy.key_terminator
    # With nothing before it, the terminator is a key like any other.
    if not (terminates and utterance.keys):
        utterance.press(key)
    if conversation.caller in (CallerState.SILENT, CallerState.AWAY):
        conversation.caller = CallerState.PAUSING
    # Keys for a menu are no part of what is being said.
    if not policy.keys_choose:
        note_typing(conversation)
    return terminates or len(utterance.keys) >= policy.max_keys


def note_typing(conversation: Conversation) -> None:
    """Count the silence of a caller who types from now on, unless a voice has just ended."""
    speaks = conversation.caller is CallerState.SPEAKING
    near = conversation.by_voice and conversation.now - conversation.end <= conversation.policy.late_window
    if not speaks and not near:
        conversation.end, conversation.by_voice = conversation.now, False


def complete_keys(conversation: Conversation) -> None:
    """Take the keys as a message of the caller's, or as the choice of a menu."""
    keys = conversation.utterance.take_keys()
    conversation.disarm(Timer.KEYS)
    if not conversation.policy.keys_choose:
        take_typed(conversation, keys)
        return
    if conversation.ending is None:
        conversation.emit(actions.Choose(conversation.now, keys))
    if conversation.caller is CallerState.PAUSING:
        conversation.try_commit()


def take_typed(conversation: Conversation, text: str) -> None:
    """Take a text that was not spoken: it is final, and the utterance is over at once."""
    if conversation.caller is CallerState.SPEAKING:
        # eos never comes before the end of the voice. Words that still follow begin the voice again.
        conversation.ended_early, conversation.flow.early_end = True, conversation.now
        conversation.voice_over(conversation.now)
    # In the order in which they were typed.
    if not conversation.policy.keys_choose:
        conversation.keep_keys()
    conversation.utterance.type(text)
    conversation.caller = CallerState.PAUSING
    conversation.unfinished = False
    conversation.disarm(*DECIDING_TIMERS)
    conversation.try_commit()
