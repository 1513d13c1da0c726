"""Every number that decides about turns, in one place."""

import math

import attrs

from patter_trio.conversation.actions import EouTrigger


@attrs.frozen
class TurnPolicy:
    """Durations of the turn machine, in seconds. Each is the distance of a deadline; ``math.inf`` switches one off.

    The defaults were chosen by listening, and from what other frameworks use, unless a source is named.
    """

    endpoint: float = 0.5
    """Silence after the caller's voice that ends an utterance."""
    fast_endpoint: float = 0.2
    """Like ``endpoint``, when a turn detector or the STT is sure that the caller has finished."""
    complete_threshold: float = 0.5
    """Probability from which on a turn detector counts as sure."""
    final_wait: float = 1.0
    """Wait, from the end of the voice, for an STT that has no words yet. After it the voice counts as noise."""
    interim_wait: float = 2.0
    """Like ``final_wait``, for an STT that has interim words: half a sentence would get a wrong answer."""
    hold: float = 2.0
    """How long an utterance stays open that a turn detector calls unfinished."""
    late_window: float = 2.0
    """How long after a commit final words still belong to the committed utterance."""
    overlap: float = 0.25
    """Voice over the agent, from its onset, that interrupts; infinite: no barge-in. (``barge_in_threshold_ms``.)"""
    min_words: int = 0
    """Words that interrupt a reply; 0: voice alone does, after ``overlap``. (``barge_in_min_words``.)"""
    reply: float = 15.0
    """How long a committed reply may take to its first audio, be it a fixed text or an LLM's answer."""
    drain_grace: float = 1.5
    """How long after the computed end of playback the machine waits for the carrier's last mark."""
    goodbye: float = 10.0
    """How long a hang-up waits for the end of what is being said."""
    leg: float = 5.0
    """How long the carrier may take to end a leg after a hang-up."""
    transfer: float = 6.0
    """How long the carrier may take to accept or refuse a transfer. A little longer than its REST request may take."""
    flush: float = 0.8
    """How long, after the caller left, the machine waits for the STT's last words."""
    max_wordless_voice: float = 15.0
    """Voice without a single word after which it counts as noise or music."""
    needs_words: bool = True
    """What makes an utterance: recognised words, or (False) voice alone, for an engine."""
    early_trigger: EouTrigger = "semantic_turn_detector"
    """The ``trigger`` that eos reports when a detector or recogniser ends the turn early."""
    max_wordless_voice_before_answer: float = 15.0
    """Like ``max_wordless_voice``, for engines, while an answer waits for the caller's voice to end."""
    away: float = math.inf
    """Time without speech from either side after which the caller counts as away. (``user_away_timeout``.)"""
