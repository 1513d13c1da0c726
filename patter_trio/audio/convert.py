"""Streaming conversion between the telephone's audio and the formats of providers.

soxr does the resampling. It releases its output in blocks, so it holds back the newest part of what it took: with LQ
3 to 83 ms, with HQ up to 160 ms, by the rate (docs/design.md has the figures). Three rules follow:

* Into a recogniser or an engine a caller waits for every millisecond: quality LQ. Audio comes out of a synthesiser or an
  engine faster than it is played: quality HQ.
* Whoever needs all of it, such as the end of an utterance or of a reply, calls :meth:`Converter.flush`.
* A stream belongs to one session or one reply. A reply that was cut takes its stream, and what that held, with it.

Where both formats are the same, as with mu-law at 8 kHz, there is no converter at all.
"""

from collections.abc import Callable, Mapping
from enum import StrEnum
from typing import TYPE_CHECKING, Final

import numpy as np
import numpy.typing as npt

from patter_trio.audio import g711
from patter_trio.audio.formats import RATES, AudioFormat, Encoding
from patter_trio.audio.g711 import Samples

if TYPE_CHECKING:
    from soxr import ResampleStream

Floats = npt.NDArray[np.float32]


class Quality(StrEnum):
    """A quality of soxr's, by its own name."""

    LOW_DELAY = "LQ"
    """Level down by 0.3 dB at 3 kHz and by 8 dB at 3.4 kHz, images and aliases below -90 dB."""
    HIGH = "HQ"
    """Flat to 3.6 kHz, images and aliases below -100 dB."""


class Converter:
    """One stream of audio on its way from one format to another.

    After :meth:`flush` exactly as much time has come out as went in, to the nearest sample; the stream then goes on.
    """

    def __init__(self, source: AudioFormat, target: AudioFormat, quality: Quality) -> None:
        self.source = source
        self.target = target
        self._decode = _DECODERS[source.encoding]
        self._encode = _ENCODERS[target.encoding]
        self._stream: ResampleStream | None = None
        if source.rate != target.rate:
            import soxr  # noqa: PLC0415 (most providers take the telephone's rate and never need it)

            # Floats, because soxr adds dither to whole numbers: silence has to stay silence.
            self._stream = soxr.ResampleStream(source.rate, target.rate, 1, dtype="float32", quality=quality.value)
        self._taken = 0
        self.given: int = 0
        """Samples that have come out."""

    def __repr__(self) -> str:
        return f"<Converter {self.source} to {self.target}, {self.due - self.given} samples held back>"

    @property
    def due(self) -> int:
        """Number of samples that everything taken so far becomes."""
        return (self._taken * self.target.rate + self.source.rate // 2) // self.source.rate

    def convert(self, audio: bytes) -> bytes:
        """Take the next audio, and return what has come out of the stream with it."""
        samples = self._decode(audio)
        self._taken += len(samples)
        if self._stream is not None:
            samples = _rounded(self._stream.resample_chunk(samples.astype(np.float32)))
        self.given += len(samples)
        return self._encode(samples)

    def flush(self) -> bytes:
        """Return what is held back; what is taken next follows it without a gap."""
        wanted = self.due - self.given
        if self._stream is None or wanted <= 0:
            return b""
        rest = _rounded(self._stream.resample_chunk(np.zeros(0, np.float32), last=True))
        self._stream.clear()
        # soxr rounds the length of each stretch by itself; over many of them that would move all that follows.
        rest = np.pad(rest[:wanted], (0, max(0, wanted - len(rest))))
        self.given += wanted
        return self._encode(rest)


def converter(source: AudioFormat, target: AudioFormat, quality: Quality) -> Converter | None:
    """Return a new stream between two formats; None where they are the same, and audio passes as it is."""
    return None if source == target else Converter(source, target, quality)


def converted(audio: bytes, source: AudioFormat, target: AudioFormat) -> bytes:
    """Return a whole piece of audio in another format."""
    stream = converter(source, target, Quality.HIGH)
    return audio if stream is None else stream.convert(audio) + stream.flush()


def rate_problem(made: AudioFormat) -> str:
    """Return what is wrong with the sampling rate of a provider's format; empty if nothing is."""
    if made.rate in RATES:
        return ""
    return f"at {', '.join(map(str, RATES[:-1]))} or {RATES[-1]} Hz, got {made.rate} Hz"


def _rounded(samples: Floats) -> Samples:
    return np.clip(np.rint(samples), -32768, 32767).astype(np.int16)


def _samples_of_pcm(pcm: bytes) -> Samples:
    return np.frombuffer(pcm, "<i2").astype(np.int16, copy=False)


def _pcm_of_samples(samples: Samples) -> bytes:
    return samples.astype("<i2", copy=False).tobytes()


_DECODERS: Final[Mapping[Encoding, Callable[[bytes], Samples]]] = {
    Encoding.MULAW: g711.decode,
    Encoding.PCM16: _samples_of_pcm,
}
_ENCODERS: Final[Mapping[Encoding, Callable[[Samples], bytes]]] = {
    Encoding.MULAW: g711.encode,
    Encoding.PCM16: _pcm_of_samples,
}
