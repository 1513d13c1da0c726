"""A simulated voice that survives resampling, for providers at other rates than 8 kHz.

The voice of :mod:`patter_trio.testing.scripted_providers.audible_text` is exact to the bit, uses the band up to 4 kHz,
and is destroyed by any filter. This voice carries the same frames of 20 ms in pulses below 3 kHz, which pass the
resamplers of a call unchanged:

* A frame has 70 pulses of raised-cosine shape, 0.25 ms apart; none reaches into the next frame. At the centre of each
  pulse all others are zero, so its height can be read there: one of 16, a nibble.
* The first six pulses are a fixed pattern. The rest hold what a frame of the other voice holds: head, checksum, up to
  20 bytes of text.
"""

from collections.abc import Iterator
from functools import lru_cache
from math import gcd
from typing import Final

import numpy as np
import numpy.typing as npt

from patter_trio.audio import g711
from patter_trio.audio.formats import FRAME_SAMPLES, RATE_HZ, AudioFormat, Encoding
from patter_trio.audio.g711 import Samples
from patter_trio.testing.scripted_providers import audible_text
from patter_trio.testing.scripted_providers.audible_text import HEAD_BYTES, MAX_SILENCE_LEVEL, Decoder, Kind, Sound

Floats = npt.NDArray[np.float64]

_SPACING_SAMPLES: Final = 2
"""Samples (8 kHz) from pulse to pulse; with a roll-off of one half, the voice ends at 3 kHz."""
_MARGIN_SAMPLES: Final = 10
"""Samples before the centre of the first pulse and after that of the last: a pulse has faded to -50 dB there."""
# The instants, in 8 kHz samples, at which the heights are read.
_CENTRES: Final = np.arange(_MARGIN_SAMPLES, FRAME_SAMPLES - _MARGIN_SAMPLES, _SPACING_SAMPLES)
# Full heights and none, so unlike most data; a frame that only looks like it fails its checksum.
_PATTERN: Final = np.array([15, 0, 15, 15, 0, 0])
_LEVEL: Final = 14000
"""Height of the highest pulse: the sum of pulses stays below full scale, and the steps of mu-law stay at a quarter of
the distance between two heights.
"""
_STEP: Final = 2 * _LEVEL / 15
MAX_TEXT_BYTES: Final = (len(_CENTRES) - len(_PATTERN)) // 2 - HEAD_BYTES
"""Bytes of text that fit into a frame."""
_TAPS_EACH_SIDE: Final = 8
"""Samples on either side from which a value between two samples is interpolated."""


def encode(
    text: str,
    frames: int,
    *,
    rate: int = RATE_HZ,
    spoken: int | None = None,
    kind: Kind = Kind.SPEECH,
    utterance: int = 0,
    part: int = 0,
) -> Samples:
    """Return ``frames`` voiced frames that speak ``text``, as 16-bit samples.

    The arguments are those of :func:`patter_trio.testing.scripted_providers.audible_text.encode`.

    Raises:
        ValueError: the text does not fit into the frames.
    """
    carried = audible_text.carried_text(text, frames, spoken=spoken, capacity=MAX_TEXT_BYTES)
    rows = [
        _nibbles(audible_text.packed(kind, (utterance, part, index, frames), words))
        for index, words in enumerate(carried)
    ]
    # At the target rate from the start: the voice is not resampled by the test, only by the call under test.
    sound = (np.array(rows) * _STEP - _LEVEL) @ _pulses(rate)
    return np.rint(sound).astype(np.int16).reshape(-1)


def _nibbles(data: bytes) -> npt.NDArray[np.int64]:
    nibbles = np.zeros(len(_CENTRES), np.int64)
    nibbles[: len(_PATTERN)] = _PATTERN
    codes = np.frombuffer(data, np.uint8)
    nibbles[len(_PATTERN) : len(_PATTERN) + 2 * len(codes)] = np.stack([codes >> 4, codes & 0x0F], axis=1).reshape(-1)
    return nibbles


# A matrix of 70 rows for each rate; a run uses two or three rates.
@lru_cache
def _pulses(rate: int) -> Floats:
    """Return the pulses of a frame at a rate, one row for each."""
    times = np.arange(FRAME_SAMPLES * rate // RATE_HZ) * (RATE_HZ / rate)
    apart = (times[None, :] - _CENTRES[:, None]) / _SPACING_SAMPLES
    with np.errstate(divide="ignore", invalid="ignore"):
        pulses = np.sinc(apart) * np.cos(np.pi * apart / 2) / (1 - apart * apart)
    pulses[np.abs(np.abs(apart) - 1) < 1e-9] = 0.0  # noqa: PLR2004 (sinc is zero there and the limit finite)
    return np.where(np.abs(apart) * _SPACING_SAMPLES <= _MARGIN_SAMPLES, pulses, 0.0)


class BandLimitedDecoder:
    """A decoder that finds frames of this voice, and other sound, in 8 kHz samples of any chunking."""

    def __init__(self) -> None:
        self._held: Samples = np.zeros(0, np.int16)
        self.position: int = 0
        """Number of the sample up to which everything has been reported."""

    def feed(self, samples: Samples) -> list[Sound]:
        """Add audio; return the sounds that are complete with it, oldest first."""
        self._held = np.concatenate([self._held, samples])
        return list(self._take(final=False))

    def finish(self) -> list[Sound]:
        """Return the sounds in audio that is still held back because it could become a frame."""
        return list(self._take(final=True))

    def _take(self, *, final: bool) -> Iterator[Sound]:
        while len(self._held):
            start = self._frame_start()
            if start is None:  # the newest samples may hold the beginning of a pattern
                reach = _MARGIN_SAMPLES + _SPACING_SAMPLES * len(_PATTERN)
                yield from self._other(len(self._held) if final else max(0, len(self._held) - reach))
                return
            yield from self._other(start)
            if len(self._held) < FRAME_SAMPLES:
                if final:
                    yield from self._other(len(self._held))
                return
            read = audible_text.unpacked(self._data())
            if read is None:
                # A false start: go on at the next possible one. A whole frame further, the true one might be skipped.
                yield from self._other(_SPACING_SAMPLES)
                continue
            kind, (utterance, part, index, total), words = read
            end = self.position + FRAME_SAMPLES
            yield Sound(kind, self.position, end, utterance, part, index, total, words.decode())
            self._drop(FRAME_SAMPLES)

    def _frame_start(self) -> int | None:
        """Return the start of the first frame whose pattern is complete, or None."""
        ends = len(self._held) - _MARGIN_SAMPLES - _SPACING_SAMPLES * (len(_PATTERN) - 1)
        # Silence is most of a call, and is detected without looking for the pattern.
        if ends <= 0 or np.abs(self._held.astype(np.int32)).max() <= MAX_SILENCE_LEVEL:
            return None
        expected = _PATTERN * _STEP - _LEVEL
        fits = np.ones(ends, bool)
        for place, height in enumerate(expected):
            first = _MARGIN_SAMPLES + _SPACING_SAMPLES * place
            # Within half a step: nearer to this height than to the next, which is all that the data can rely on, too.
            fits &= np.abs(self._held[first : first + ends] - height) < _STEP / 2
        found = np.flatnonzero(fits)
        return int(found[0]) if len(found) else None

    def _data(self) -> bytes:
        heights = self._held[_CENTRES].astype(np.float64)
        # Clipped: sound that is not this voice has any height, and is refused by its checksum.
        nibbles = np.clip(np.rint((heights + _LEVEL) / _STEP), 0, 15).astype(np.uint8)[len(_PATTERN) :]
        return (nibbles[0::2] << 4 | nibbles[1::2]).tobytes()

    def _drop(self, count: int) -> None:
        self._held = self._held[count:]
        self.position += count

    def _other(self, count: int) -> Iterator[Sound]:
        """Report sound among the next ``count`` samples, from the first loud sample to the last."""
        # Wider before taking the magnitude: -32768 has no positive counterpart in 16 bits.
        loud = np.flatnonzero(np.abs(self._held[:count].astype(np.int32)) > MAX_SILENCE_LEVEL)
        if len(loud):
            yield Sound(Kind.SOUND, self.position + int(loud[0]), self.position + int(loud[-1]) + 1)
        self._drop(count)


class WordReader:
    """A reader of a simulated voice in audio of any format; it counts in samples at 8 kHz."""

    def __init__(self, accepts: AudioFormat) -> None:
        self._accepts = accepts
        # At 8 kHz nothing is resampled on the way, so the exact voice is spoken; any damage to it is a fault.
        self._exact = Decoder() if accepts.rate == RATE_HZ else None
        self._filtered = BandLimitedDecoder()
        self._sampler = _Sampler(accepts.rate)
        self._taken = 0

    @property
    def fed(self) -> int:
        """Number of samples fed so far."""
        return round(self._taken * RATE_HZ / self._accepts.rate)

    @property
    def position(self) -> int:
        """Number of the sample up to which everything has been reported."""
        return self._filtered.position if self._exact is None else self._exact.position

    def feed(self, audio: bytes) -> list[Sound]:
        """Add audio; return the sounds that are complete with it, oldest first."""
        self._taken += self._accepts.samples(audio)
        mulaw = self._accepts.encoding is Encoding.MULAW
        if self._exact is not None:
            # PCM at 8 kHz was made of mu-law by the call, and comes back to the same bytes.
            return self._exact.feed(audio if mulaw else g711.from_pcm(audio))
        samples = g711.decode(audio) if mulaw else np.frombuffer(audio, "<i2").astype(np.int16)
        return self._filtered.feed(self._sampler.take(samples))

    def finish(self) -> list[Sound]:
        """Return the sounds in audio that is still held back because it could become a frame."""
        # Settled first: the interpolation holds back samples that the decoder has to see
        # before it gives up on the rest.
        return self._exact.finish() if self._exact is not None else self.settle() + self._filtered.finish()

    def settle(self) -> list[Sound]:
        """Return the sounds that are complete if silence follows; interpolation needs the samples on both sides."""
        if self._exact is not None:
            return []
        return self._filtered.feed(self._sampler.take(np.zeros(0, np.int16), last=True))


class _Sampler:
    """A reader of audio with nothing above 3 kHz, at the instants of 8 kHz samples.

    It interpolates instead of resampling: the delay is a fraction of a millisecond, so that the instants of results
    stay exact.
    """

    def __init__(self, rate: int) -> None:
        common = gcd(rate, RATE_HZ)
        self._step, self._phases = rate // common, RATE_HZ // common
        # At a multiple of 8 kHz, every instant coincides with a sample.
        self._reach = _TAPS_EACH_SIDE if self._phases > 1 else 0
        offsets = np.arange(-self._reach, self._reach + 1)
        apart = offsets[None, :] - (np.arange(self._phases) / self._phases)[:, None]
        # A windowed sinc: 17 samples for each value are enough for the band of this voice.
        self._weights = np.sinc(apart) * np.cos(np.pi * apart / (2 * self._reach + 4)) ** 2
        self._offsets = offsets
        # As if silence came before: the first sample can be read at once.
        self._held = np.zeros(self._reach)
        self._next = 0

    def take(self, samples: Samples, *, last: bool = False) -> Samples:
        """Return the values that can be read with the next samples; with ``last``, all, as if silence followed."""
        self._held = np.concatenate([self._held, samples])
        known = np.concatenate([self._held, np.zeros(self._reach if last else 0)])
        # The last instant, in phases of a sample, that has all the samples it needs on both sides.
        whole = (len(known) - 2 * self._reach - 1) * self._phases + self._phases - 1
        numbers = np.arange(self._next, max(self._next, whole // self._step + 1))
        if not len(numbers):
            return np.zeros(0, np.int16)
        places, phases = np.divmod(numbers * self._step, self._phases)
        windows = known[(places + self._reach)[:, None] + self._offsets[None, :]]
        read = (windows * self._weights[phases]).sum(axis=1)
        # Count positions from the first sample that the next instant needs, so that the held audio stays short.
        needed = (int(numbers[-1]) + 1) * self._step // self._phases
        gone = min(needed, len(self._held)) // self._step * self._step
        self._held = self._held[gone:]
        self._next = int(numbers[-1]) + 1 - gone * self._phases // self._step
        # Interpolation may overshoot full scale by a little; without clipping, the sign would turn over.
        values: Samples = np.clip(np.rint(read), -32768, 32767).astype(np.int16)
        return values


def sounds_in(mulaw: bytes) -> list[Sound]:
    """Return the sounds in a complete recording, in either of the two voices."""
    exact = Decoder()
    sounds = exact.feed(mulaw) + exact.finish()
    # The usual case is decided by the exact voice alone: the other decoder is slow, and would find nothing.
    if all(sound.kind is not Kind.SOUND for sound in sounds):
        return sounds
    decoder, samples = BandLimitedDecoder(), g711.decode(mulaw)
    filtered = decoder.feed(samples) + decoder.finish()
    if all(sound.kind is Kind.SOUND for sound in filtered):
        return sounds
    frames = [sound for sound in sounds if sound.kind is not Kind.SOUND]
    # Frames of the exact voice are noise to the other decoder, and are not to be reported twice.
    others = [one for one in filtered if not any(one.start < frame.end and frame.start < one.end for frame in frames)]
    return sorted([*frames, *others], key=lambda sound: sound.start)
