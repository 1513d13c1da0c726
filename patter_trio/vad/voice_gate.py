"""From probabilities of speech to edges of the voice: hysteresis, minimum speech and hang-over, in audio time.

A detector's model says for each short window how likely it holds speech. Three rules make edges of that:

* The voice is there from ``threshold`` on, and gone only below a lower one (hysteresis), so that one wavering value is
  no edge.
* A beginning counts once it has lasted ``min_speech``: a click is no voice.
* An end counts once it has lasted ``min_silence``: the pause before a plosive is no end.

All of it is counted in samples, never on a clock: when the windows come late or in batches, edges are *noticed* later,
but they are where they were.
"""

import attrs

from patter_trio.abc import VoiceEdge
from patter_trio.audio.formats import RATE

HYSTERESIS = 0.15
"""How far below ``threshold`` the voice counts as gone; the value that the model's authors use."""


def _probability(_: object, __: object, value: float) -> None:
    if not 0.0 < value < 1.0:
        raise ValueError(f"threshold must lie between 0 and 1, not be {value}")


def _not_negative(_: object, attribute: "attrs.Attribute[float]", value: float) -> None:
    if not value >= 0.0:
        raise ValueError(f"{attribute.name} must be 0 s or more, not {value}")


@attrs.frozen(kw_only=True)
class GateRules:
    """When windows of speech make an edge of the voice; durations in seconds.

    The defaults are for turns on the telephone: a barge-in is noticed within 100 ms, a word's inner pauses (plosives,
    about 150 ms at most) are bridged, and the end is known well before the 0.5 s that end an utterance.

    Raises:
        ValueError: a threshold outside 0 to 1, or a negative duration.
    """

    threshold: float = attrs.field(default=0.5, validator=_probability)
    min_speech: float = attrs.field(default=0.09, validator=_not_negative)
    min_silence: float = attrs.field(default=0.25, validator=_not_negative)


@attrs.define
class VoiceGate:
    """The edges of one voice; feed it every window's probability in order.

    Invariants: edges alternate, beginning with ``speaking=True``; their offsets never decrease, are multiples of
    ``window`` and never lie ahead of what was fed.
    """

    window: int
    """Samples per probability."""
    rules: GateRules = attrs.field(factory=GateRules)
    speaking: bool = attrs.field(default=False, init=False)
    _position: int = attrs.field(default=0, init=False)
    _turning: int | None = attrs.field(default=None, init=False)
    """Where the unconfirmed edge is: the beginning of a voice, or of a silence."""
    _confidence: float = attrs.field(default=0.0, init=False)
    """The highest probability of the voice that is beginning, or the lowest of the silence."""

    def step(self, probability: float) -> VoiceEdge | None:
        """Take the next window's probability of speech; return the edge that it confirms, if it does."""
        start = self._position
        self._position += self.window
        if not self._contradicts(probability):
            self._turning = None
            return None
        if self._turning is None:
            self._turning, self._confidence = start, probability
        better = min if self.speaking else max
        self._confidence = better(self._confidence, probability)
        needed = self.rules.min_silence if self.speaking else self.rules.min_speech
        if self._position - self._turning < round(needed * RATE):
            return None
        self.speaking = not self.speaking
        edge = VoiceEdge(self.speaking, self._turning, self._confidence if self.speaking else 1.0 - self._confidence)
        self._turning = None
        return edge

    def _contradicts(self, probability: float) -> bool:
        """Whether a window speaks against the state that holds; one that lies between the thresholds never does alone."""
        leaving = max(0.0, self.rules.threshold - HYSTERESIS)
        if self.speaking:
            return probability < leaving
        return probability >= (self.rules.threshold if self._turning is None else leaving)
