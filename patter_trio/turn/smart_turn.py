"""Smart Turn, version 3.2: the probability that an utterance is finished, from its sound.

The model (BSD-2-Clause, Daily, https://github.com/pipecat-ai/smart-turn) comes with this package. Its input is the last
8 s at 16 kHz, padded with silence at the front, normalised to zero mean and unit variance, as log-mel features. Its
output is the probability that the speaker has finished.

It is a hint, never a decision: it takes about 50 ms, and it calls some finished sentences of read prose unfinished. It
is therefore always combined with a silence after which the turn ends anyway.
"""

from pathlib import Path

import attrs
import numpy as np

from patter_trio.abc import TurnDetector
from patter_trio.audio.formats import RATE_HZ
from patter_trio.audio.g711 import Samples
from patter_trio.audio.logmel import RATE_HZ as MODEL_RATE
from patter_trio.audio.logmel import log_mel
from patter_trio.audio.resample import to_floats
from patter_trio.net.threads import run_in_thread
from patter_trio.providers.other_names import other_names
from patter_trio.providers.weights import LoadOnce, OnnxModel, Weights, model_errors, onnx_model

# What the model was trained on; it takes exactly this length.
_WINDOW_S = 8
_EPSILON = 1e-7
"""Added to the variance, so that silence does not cause a division by zero."""
_WEIGHTS = Weights(
    "patter_trio.turn", "smart-turn-v3.2-cpu.onnx", "2bb026316b14a660486a75b1733cd3fbab8c2fd0314dc9af7be49f8cca967e4f"
)


@LoadOnce
def smart_turn_model(path: Path | None) -> OnnxModel:
    """Load the model, once per process.

    Raises:
        ConfigurationError: the file is missing, or differs from the pinned version.
        ProviderError: the model cannot be loaded.
    """
    return onnx_model(_WEIGHTS.find(path))


@other_names()
@attrs.frozen(kw_only=True)
class SmartTurn(TurnDetector):
    """Smart Turn on this machine's CPU.

    Args:
        path: another Smart Turn model of version 3.
    """

    path: Path | None = attrs.field(default=None, converter=attrs.converters.optional(Path))

    async def complete(self, samples: Samples) -> float:
        """Return the probability, 0 to 1, that these samples (8 kHz) are a complete turn; only the last 8 s count.

        The first use in a process loads the model.

        Raises:
            ProviderError: the model failed.
        """
        with model_errors("smart turn"):
            model = await smart_turn_model.in_thread(self.path)
        # The deadline is the call's (``call/input/voice_activity.py``): a late hint would shorten nothing.
        # In a thread: about 50 ms of inference would block the audio of every call.
        return await run_in_thread(_complete, model, samples)

    async def prewarm(self) -> None:
        """Load the model now.

        Raises:
            ConfigurationError: the file is missing, or differs from the pinned version.
            ProviderError: the model cannot be loaded.
        """
        await smart_turn_model.in_thread(self.path)


def _complete(model: OnnxModel, samples: Samples) -> float:
    heard = to_floats(samples[-_WINDOW_S * RATE_HZ :], RATE_HZ, MODEL_RATE)
    # Silence in front: the end of the utterance must be at the end of the window.
    window = np.pad(heard, (_WINDOW_S * MODEL_RATE - len(heard), 0))
    # As the authors' feature extractor does, over the padding as well.
    normal = (window - window.mean()) / np.sqrt(window.var() + np.float32(_EPSILON))
    (output,) = model.run(input_features=log_mel(normal)[np.newaxis])
    return float(output[0, 0])
