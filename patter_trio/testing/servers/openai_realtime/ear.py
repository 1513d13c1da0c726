"""The input of the fake Realtime server: the words in the audio, and turns by its energy, in the audio's own time."""

from collections.abc import Iterator, Mapping
from typing import Any, Final, Literal

import attrs
import numpy as np

from patter_trio.audio import g711
from patter_trio.audio.formats import FRAME_SAMPLES, RATE_HZ
from patter_trio.testing.scripted.audible_text import Decoder

LOUD_RMS: Final = 2000
"""Root mean square of 16-bit samples (-24 dBFS) that corresponds to a threshold of 1."""
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
        while len(self._rest) >= FRAME_SAMPLES:
            frame, self._rest = self._rest[:FRAME_SAMPLES], self._rest[FRAME_SAMPLES:]
            for sound in self._decoder.feed(frame):
                if sound.words:
                    joint = " " if self._words and sound.utterance != self._utterance else ""
                    self._words.append(joint + sound.words)
                    self._utterance = sound.utterance
            self.position += FRAME_SAMPLES
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
                yield Edge("started", max(self.floor, self.position - FRAME_SAMPLES - padding))
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
        self.floor = self.position + len(self._rest) if until is None else until
        self.speaking = False
        return words


def _loudness(frame: bytes) -> float:
    return float(np.sqrt(np.mean(np.square(g711.decode(frame).astype(np.float64)))))
