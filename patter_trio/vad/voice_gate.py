"""From probabilities of speech to edges of the voice: hysteresis, minimum speech and hang-over, in audio time.

A detector's model gives, for each short window, the probability that it holds speech. Three rules turn them into edges:

* The voice begins at ``threshold``, and ends only below a lower one (hysteresis), so that one wavering value is not an
  edge.
* A beginning counts once it has lasted ``min_speech``: a click is not a voice.
* An end counts once it has lasted ``min_silence``: the pause before a plosive is not an end.

The gate counts samples and never looks at a clock: if windows come late or in batches, edges are *noticed* later, but
keep their positions.
"""

from typing import cast

import attrs

from patter_trio.abc import VoiceEdge
from patter_trio.audio.formats import RATE_HZ
from patter_trio.errors import ConfigurationError
from patter_trio.providers.validators import is_number_above_zero

# From the authors' ``get_speech_timestamps``.
HYSTERESIS_PROBABILITY = 0.15
"""Distance below ``threshold`` at which a voice ends; the value that the model's authors use."""
MIN_LEAVING_PROBABILITY = 0.01
"""Lowest probability below which a voice ends, as the model's authors have it; ``threshold`` itself, if that is
lower."""


def _probability(_: object, __: object, value: object) -> None:
    if not is_number_above_zero(value) or not cast(float, value) < 1.0:
        raise ConfigurationError(f"threshold must be a number above 0 and below 1, got {value!r}")


def _not_negative(_: object, attribute: "attrs.Attribute[float]", value: object) -> None:
    if value != 0 and not is_number_above_zero(value):
        raise ConfigurationError(f"{attribute.name} must be a number of seconds from 0 on, got {value!r}")


@attrs.frozen(kw_only=True)
class GateRules:
    """Rules for turning probabilities into edges; durations in seconds.

    The defaults suit turns on the telephone: a barge-in is noticed within 100 ms, pauses within a word (plosives, at
    most about 150 ms) are bridged, and an end is known well before the 0.5 s that end an utterance.

    Raises:
        ConfigurationError: a threshold outside 0 to 1, or a negative duration.
    """

    # 0.5 is the authors' default.
    threshold: float = attrs.field(default=0.5, validator=_probability)
    # Judged: three windows of 32 ms. A click has one or two.
    min_speech: float = attrs.field(default=0.09, validator=_not_negative)
    # Judged: well above the closure of a plosive, and half of the endpointing silence.
    min_silence: float = attrs.field(default=0.25, validator=_not_negative)


@attrs.define
class VoiceGate:
    """The edges of one voice; feed it every window's probability in order.

    Invariants: edges alternate, beginning with ``speaking=True``. Their offsets never decrease, are multiples of
    ``window`` and never lie beyond the audio fed.
    """

    window: int
    """Samples per probability."""
    rules: GateRules = attrs.field(factory=GateRules)
    speaking: bool = attrs.field(default=False, init=False)
    _position: int = attrs.field(default=0, init=False)
    _turning: int | None = attrs.field(default=None, init=False)
    """Position of the unconfirmed edge: the beginning of a voice, or of a silence."""
    _confidence: float = attrs.field(default=0.0, init=False)
    """Highest probability of the voice that is beginning, or lowest of the silence."""
    _leaving: float = attrs.field(init=False)
    """The probability below which a voice ends."""

    @_leaving.default
    def _leaving_of_rules(self) -> float:
        # Above 0: no probability is below it, so with a low threshold a voice would never end.
        threshold = self.rules.threshold
        return min(threshold, max(MIN_LEAVING_PROBABILITY, threshold - HYSTERESIS_PROBABILITY))

    @property
    def quiet_since(self) -> int | None:
        """The position of the end of the voice that is not confirmed yet; None if no silence has begun."""
        return self._turning if self.speaking else None

    def step(self, probability: float) -> VoiceEdge | None:
        """Take the next window's probability of speech; return the edge that it confirms, if any."""
        start = self._position
        self._position += self.window
        # Any window that agrees ends the attempt: a voice must last without a gap to count.
        if not self._contradicts(probability):
            self._turning = None
            return None
        if self._turning is None:
            self._turning, self._confidence = start, probability
        better = min if self.speaking else max
        self._confidence = better(self._confidence, probability)
        needed = self.rules.min_silence if self.speaking else self.rules.min_speech
        # Counted to the end of the window that has just come: that is how much has been heard.
        if self._position - self._turning < round(needed * RATE_HZ):
            return None
        self.speaking = not self.speaking
        # The position where the turn began, not where it was noticed.
        edge = VoiceEdge(self.speaking, self._turning, self._confidence if self.speaking else 1.0 - self._confidence)
        self._turning = None
        return edge

    def _contradicts(self, probability: float) -> bool:
        """Return True if a window contradicts the current state; a single one between the thresholds never does."""
        if self.speaking:
            return probability < self._leaving
        # Once it has begun, a voice needs only the lower threshold to be confirmed.
        return probability >= (self.rules.threshold if self._turning is None else self._leaving)
