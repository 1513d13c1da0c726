"""Every number that decides about turns, in one place."""

import math

import attrs

from patter_trio.conversation.actions import EouTrigger


@attrs.frozen
class TurnPolicy:
    """Durations of the turn machine, in seconds. Each is the distance of a deadline; ``math.inf`` switches one off.

    The defaults were chosen by listening, and from what other frameworks use, unless a source is named.
    """

    # The same as the default of OpenAI's server_vad (https://platform.openai.com/docs/guides/realtime-vad).
    endpoint: float = 0.5
    """Silence after the caller's voice that ends an utterance."""
    # Judged: a detector errs, and 0.2 s leave the caller a breath in which to go on.
    fast_endpoint: float = 0.2
    """Like ``endpoint``, when a turn detector or the STT is sure that the caller has finished."""
    # Measured with Smart Turn: whole utterances mostly score above 0.9, the same ones cut off in the middle below 0.4.
    complete_threshold: float = 0.5
    """Probability from which on a turn detector counts as sure."""
    # Judged: an STT whose words come later than that has made the caller wait for too long anyway.
    final_wait: float = 1.0
    """Wait, from the end of the voice, for an STT that has no words yet. After it the voice counts as noise."""
    interim_wait: float = 2.0
    """Like ``final_wait``, for an STT that has interim words: half a sentence would get a wrong answer."""
    # Judged: a pause for thought; a longer silence asks for an answer.
    hold: float = 2.0
    """How long an utterance stays open that a turn detector calls unfinished."""
    # As long as interim_wait: what may be committed without its final words may be corrected for as long.
    late_window: float = 2.0
    """How long after a voice words still belong to it."""
    # Judged: most coughs and clicks are shorter, and callers who are ignored for longer raise their voices.
    overlap: float = 0.25
    """Voice over the agent, from its onset, that interrupts; infinite: no barge-in. (``barge_in_threshold_ms``.)"""
    min_words: int = 0
    """Words that interrupt a reply; 0: voice alone does, after ``overlap``. (``barge_in_min_words``.)"""
    # Judged; call/options.py sets it by what answers.
    reply: float = 15.0
    """How long a committed reply may take to its first audio, be it a fixed text or an LLM's answer."""
    # Judged, and promised in docs/callbacks.md: three sentences; a model that says goodbye
    # with more must not keep the line.
    goodbye: float = 10.0
    """How long a hang-up waits for the end of what is being said."""
    # Judged: some round trips, with room for a carrier that is slow. After that the call
    # counts as over without its word.
    leg: float = 5.0
    """How long the carrier may take to end a leg after a hang-up."""
    transfer: float = 6.0
    """How long the carrier may take to accept or refuse a transfer. A little longer than its REST request may take."""
    # With the 30 s that a transfer may wait for an answer (call/transfers.py).
    answered_transfer: float = 36.0
    """The same where the carrier gives the call back if nobody answers."""
    # What is left of the second in which a call must be over (docs/design.md) once the close
    # of the stream has had its time.
    flush: float = 0.8
    """How long, after the caller left, the machine waits for the STT's last words."""
    lull: float = 3.5
    """Voice without new words, after the caller has said some, after which the STT is asked whether there are more."""
    # Judged: long enough for an STT that gives no interim words and a caller who tells a story without a pause.
    max_wordless_voice: float = 15.0
    """Voice without a single word after which it counts as noise or music."""
    needs_words: bool = True
    """What makes an utterance: recognised words, or (False) voice alone, for an engine."""
    early_trigger: EouTrigger = "semantic_turn_detector"
    """The ``trigger`` that eos reports when a detector or STT provider ends the turn early."""
    max_wordless_voice_before_answer: float = 15.0
    """Like ``max_wordless_voice``, for engines, while an answer waits for the caller's voice to end."""
    # Judged: a person finds the next key within a second, and wants an answer to a single one after two.
    key_pause: float = 2.0
    """Time after a key after which the keys so far are complete. (``Keypad.pause``.)"""
    # Judged: the longest account number has 34 characters (IBAN, ISO 13616), two of them letters of the country.
    max_keys: int = 32
    """Number of keys that are complete without a pause. (``Keypad.max_digits``.)"""
    key_terminator: str = "#"
    """Key that completes the keys before it; empty: none does. (``Keypad.terminator``.)"""
    keys_interrupt: bool = True
    """True if a key over the agent cuts the reply, as far as the caller may interrupt it. (``Keypad.interrupts``.)"""
    keys_choose: bool = False
    """True if complete keys are the choice of a menu, and not a message of the caller's."""
    language: str = "en"
    """BCP 47 tag of the language in which numbers are compared."""
    away: float = math.inf
    """Time without speech from either side after which the caller counts as away. (``user_away_timeout``.)"""
