"""Streaming conversion between the telephone's audio and the formats of providers.

soxr does the resampling. It releases its output in blocks and so holds back the newest part of its input: 3 to 83 ms
with LQ, up to 160 ms with HQ, depending on the rate (docs/providers.md has the figures). Three rules follow:

* Towards an STT provider or an engine, the caller waits for every millisecond: quality LQ. A TTS provider or an engine
  produces audio faster than it is played: quality HQ.
* Code that needs all of the audio, such as at the end of an utterance or of a reply, calls :meth:`Converter.flush`.
* A stream belongs to one session or one reply. When a reply is cut, its stream is dropped with everything it held back.

Equal formats, such as mu-law at 8 kHz on both sides, need no converter.
"""

from collections.abc import Callable, Mapping
from enum import StrEnum
from typing import TYPE_CHECKING, Final

import numpy as np
import numpy.typing as npt

from patter_trio.audio import g711
from patter_trio.audio.formats import RATES_HZ, AudioFormat, Encoding
from patter_trio.audio.g711 import Samples

if TYPE_CHECKING:
    from soxr import ResampleStream

Floats = npt.NDArray[np.float32]


class Quality(StrEnum):
    """A quality level of soxr, by soxr's own name."""

    LOW_DELAY = "LQ"
    """Attenuation of 0.3 dB at 3 kHz and 8 dB at 3.4 kHz; images and aliases below -90 dB."""
    HIGH = "HQ"
    """Flat to 3.6 kHz; images and aliases below -100 dB."""


class Converter:
    """A stream of audio that is converted from one format to another.

    After :meth:`flush`, the output has exactly the length of the input, to the nearest sample. The stream then goes on.
    """

    def __init__(self, source: AudioFormat, target: AudioFormat, quality: Quality) -> None:
        self.source = source
        self.target = target
        self._decode = _DECODERS[source.encoding]
        self._encode = _ENCODERS[target.encoding]
        self._stream: ResampleStream | None = None
        if source.rate != target.rate:
            import soxr  # noqa: PLC0415 (most providers take the telephone's rate and never need it)

            # Floats, because soxr adds dither to integers, and silence has to stay silence.
            self._stream = soxr.ResampleStream(source.rate, target.rate, 1, dtype="float32", quality=quality.value)
        self._taken = 0
        self.given: int = 0
        """Samples put out so far."""

    def __repr__(self) -> str:
        return f"<Converter {self.source} to {self.target}, {self.due - self.given} samples held back>"

    @property
    def due(self) -> int:
        """Number of output samples that correspond to all input so far."""
        # Rounded to the nearest sample, so that the length never drifts.
        return (self._taken * self.target.rate + self.source.rate // 2) // self.source.rate

    def convert(self, audio: bytes) -> bytes:
        """Take the next audio, and return the output that is available now."""
        samples = self._decode(audio)
        # Counted before the conversion: ``due`` is about what was given.
        self._taken += len(samples)
        if self._stream is not None:
            samples = _rounded(self._stream.resample_chunk(samples.astype(np.float32)))
        self.given += len(samples)
        return self._encode(samples)

    def flush(self) -> bytes:
        """Return the audio held back; the next audio follows it without a gap."""
        wanted = self.due - self.given
        # With equal rates nothing is held back: the converter only changes the encoding.
        if self._stream is None or wanted <= 0:
            return b""
        rest = _rounded(self._stream.resample_chunk(np.zeros(0, np.float32), last=True))
        # A stream of soxr is over after its last chunk; cleared, it begins anew.
        self._stream.clear()
        # soxr rounds the length of each stretch by itself. Over many stretches the errors would add up and shift all
        # that follows.
        rest = np.pad(rest[:wanted], (0, max(0, wanted - len(rest))))
        self.given += wanted
        return self._encode(rest)


def converter(source: AudioFormat, target: AudioFormat, quality: Quality) -> Converter | None:
    """Return a new converter between two formats; None if they are the same and audio passes unchanged."""
    return None if source == target else Converter(source, target, quality)


def converted(audio: bytes, source: AudioFormat, target: AudioFormat) -> bytes:
    """Return a whole piece of audio in another format."""
    stream = converter(source, target, Quality.HIGH)
    return audio if stream is None else stream.convert(audio) + stream.flush()


def rate_problem(made: AudioFormat) -> str:
    """Return the end of an error message about the sampling rate of a provider's format; empty if the rate is valid."""
    if made.rate in RATES_HZ:
        return ""
    return f"at {', '.join(map(str, RATES_HZ[:-1]))} or {RATES_HZ[-1]} Hz, got {made.rate} Hz"


def _rounded(samples: Floats) -> Samples:
    # Rounded and clipped: a cast alone would round towards zero, and wrap around at a peak.
    return np.clip(np.rint(samples), -32768, 32767).astype(np.int16)


def _samples_of_pcm(pcm: bytes) -> Samples:
    # Little-endian whatever the machine; a copy only where it is not.
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
