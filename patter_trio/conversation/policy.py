"""Every number that decides about turns, in seconds, in one place."""

import math

import attrs

from patter_trio.conversation.actions import EouTrigger


@attrs.frozen
class TurnPolicy:
    """Durations of the turn machine, in seconds. Each is a deadline's distance; ``math.inf`` switches one off.

    They are guesses from listening and from the defaults of the field unless a source is named.
    """

    endpoint: float = 0.5
    """Silence after the last voice that ends an utterance."""
    fast_endpoint: float = 0.2
    """The same when a turn detector is sure that the caller has finished."""
    complete_threshold: float = 0.5
    """Probability from which a turn detector counts as sure."""
    final_wait: float = 1.0
    """How long after the last voice the recogniser is waited for when it has no words yet; then it was noise."""
    interim_wait: float = 2.0
    """The same when it has words that may still change: half a sentence would get a wrong answer."""
    hold: float = 2.0
    """How long an utterance that a turn detector calls unfinished is held open."""
    late_window: float = 2.0
    """How late after the commit final words still belong to the committed utterance."""
    overlap: float = 0.25
    """Voice over the agent, from its onset, that cuts the reply; infinite = barge-in is off. (``barge_in_threshold_ms``.)"""
    min_words: int = 0
    """Words that it takes to cut a reply; 0 = voice alone does, after ``overlap``."""
    reply: float = 15.0
    """How long a committed reply may take to its first audio (a fixed text, a model)."""
    drain_grace: float = 1.5
    """How long after the computed end of playback the carrier's last mark is waited for."""
    goodbye: float = 10.0
    """How long a hang-up waits for what is being said."""
    leg: float = 5.0
    """How long the carrier may take to end a leg that we hung up."""
    transfer: float = 6.0
    """How long the carrier may take to say whether it hands a leg over: a little longer than it is asked."""
    flush: float = 0.8
    """How long, after the caller left, the recogniser's last words are waited for."""
    stuck: float = 15.0
    """Voice without a single word after which it counts as noise or music."""
    words: bool = True
    """What an utterance is made of. False: voice alone is one, for an engine that does its own understanding."""
    sure_by: EouTrigger = "semantic_turn_detector"
    """What it is called that ends a turn when a detector or recogniser is sure."""
    keeps_back: float = 15.0
    """The same where utterances are made of voice, and an answer waits for the voice to end."""
    away: float = math.inf
    """Time without speech from either side after which the caller counts as away. (``user_away_timeout``.)"""
