"""The input of the fake Realtime server: the words in the audio, and turns by its energy, in the audio's own time."""

from collections.abc import Iterator, Mapping
from typing import Any, Final, Literal

import attrs
import numpy as np

from patter_trio.audio import g711
from patter_trio.audio.formats import FRAME_SAMPLES, RATE_HZ
from patter_trio.testing.scripted_providers.audible_text import Decoder

# The simulated voice, made of the loudest codes of mu-law, is far above it, whatever the threshold.
LOUD_RMS: Final = 2000
"""Root mean square of 16-bit samples (-24 dBFS) that corresponds to a threshold of 1."""
# The vendor's maxima. Which words end a turn sooner is up to its model; here, the mark at a sentence's end does.
SEMANTIC_SILENCE_S: Final[Mapping[str, float]] = {"low": 8.0, "medium": 4.0, "auto": 4.0, "high": 2.0}
"""Seconds of silence after which a turn is over, whatever its words, by eagerness."""


@attrs.frozen
class Edge:
    """The beginning or end of the caller's speech, at ``position`` bytes of all audio."""

    kind: Literal["started", "stopped"]
    position: int


class Ear:
    """A listener to the audio of one connection; positions are bytes since the first one."""

    def __init__(self, semantic_silence: float) -> None:
        self.position: int = 0
        self.speaking: bool = False
        self.floor: int = 0
        """The beginning of the buffer: earlier audio has become an item, or was cleared."""
        self._semantic_silence = semantic_silence
        self._decoder = Decoder()
        self._words: list[str] = []
        self._utterance = -1
        self._rest = b""
        self._voice = 0

    def hear(self, audio: bytes, detection: Mapping[str, Any] | None) -> Iterator[Edge]:
        """Add audio; yield the edges in it, each before any later audio is heard."""
        self._rest += audio
        # In frames of 20 ms: one sample has no loudness, and edges are the same however the audio was divided.
        while len(self._rest) >= FRAME_SAMPLES:
            frame, self._rest = self._rest[:FRAME_SAMPLES], self._rest[FRAME_SAMPLES:]
            for sound in self._decoder.feed(frame):
                if sound.words:
                    # A word within an utterance brings its own space; the first of another utterance does not.
                    joint = " " if self._words and sound.utterance != self._utterance else ""
                    self._words.append(joint + sound.words)
                    self._utterance = sound.utterance
            self.position += FRAME_SAMPLES
            # Without detection the client decides; a voice that was under way when it was
            # switched off is no longer one.
            if detection is None:
                self.speaking = False
            else:
                yield from self._edges(frame, detection)

    def _edges(self, frame: bytes, detection: Mapping[str, Any]) -> Iterator[Edge]:
        if _loudness(frame) >= (detection.get("threshold") or 0.5) * LOUD_RMS:
            self._voice = self.position
            if not self.speaking:
                self.speaking = True
                padding = round((detection.get("prefix_padding_ms") or 0) / 1000 * RATE_HZ)
                # With the padding before the onset, but never before the buffer's beginning:
                # that audio belongs to an earlier item.
                yield Edge("started", max(self.floor, self.position - FRAME_SAMPLES - padding))
        # Counted in audio, not on the clock. The tolerance is for seconds that are not whole numbers of samples.
        elif self.speaking and self.position - self._voice >= self._silence(detection) * RATE_HZ - 1e-6:
            self.speaking = False
            yield Edge("stopped", self.position)

    def _silence(self, detection: Mapping[str, Any]) -> float:
        if detection["type"] == "server_vad":
            return float(detection.get("silence_duration_ms", 500)) / 1000
        if "".join(self._words).endswith((".", "?", "!")):
            return self._semantic_silence
        return SEMANTIC_SILENCE_S[detection.get("eagerness") or "auto"]

    @property
    def buffered(self) -> float:
        """Seconds of audio in the buffer."""
        return (self.position + len(self._rest) - self.floor) / RATE_HZ

    def take(self, until: int | None = None) -> str:
        """Empty the buffer up to a position, by default all of it; return the words that were in it."""
        words, self._words = "".join(self._words).strip(), []
        # A rest of less than a frame is committed with the others; its loudness is judged once the frame is complete.
        self.floor = self.position + len(self._rest) if until is None else until
        self.speaking = False
        return words


def _loudness(frame: bytes) -> float:
    return float(np.sqrt(np.mean(np.square(g711.decode(frame).astype(np.float64)))))
