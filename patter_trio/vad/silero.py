"""Silero's VAD model, version 6, at the telephone's 8 kHz.

The model (MIT, 2.3 MB, https://github.com/snakers4/silero-vad) comes with this package. Facts about it:

* At 8 kHz it takes windows of 256 samples (32 ms), each preceded by the last 32 samples before it, as floats from -1 to
  1.
* Its memory of a voice is a state of 2 x 128 floats, initially zeros.
* One inference takes about 0.1 ms on a server core, so it runs inline: a hop to a thread costs as much. In a batch,
  each window takes a third of that, so the windows of many calls share an inference (see ``batching.py``).
"""

from collections.abc import AsyncIterator, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path
from typing import Any, NamedTuple, Self

import attrs
import numpy as np
import numpy.typing as npt

from patter_trio.abc import VoiceActivity, VoiceActivitySession, VoiceEdge
from patter_trio.audio.formats import RATE_HZ
from patter_trio.audio.g711 import Samples
from patter_trio.providers.other_names import other_names
from patter_trio.providers.weights import LoadOnce, OnnxModel, Weights, model_errors, onnx_model
from patter_trio.vad.batching import Batcher, batcher_of
from patter_trio.vad.voice_gate import GateRules, VoiceGate

# The model accepts no other size at this rate (https://github.com/snakers4/silero-vad).
WINDOW_SAMPLES = 256
# A part of the model's input, as in the authors' code.
_CONTEXT_SAMPLES = 32
_WEIGHTS = Weights(
    "patter_trio.vad", "silero_vad.onnx", "1a153a22f4509e292a94e67d6f9b85e8deb25b4988682b7e174c65279d8788e3"
)

Floats = npt.NDArray[np.float32]


class SileroState(NamedTuple):
    """State of the model for one voice."""

    memory: Floats
    """Recurrent state, shape (2, 1, 128)."""
    context: Floats
    """Last samples of the previous window, shape (1, 32)."""


@attrs.frozen(eq=False)
class SileroModel:
    """The model: one per process, without state of any call; several threads may use it at once."""

    network: OnnxModel

    @staticmethod
    def initial() -> SileroState:
        """Return the state before the first window."""
        # Zeros, as in the authors' code.
        return SileroState(np.zeros((2, 1, 128), np.float32), np.zeros((1, _CONTEXT_SAMPLES), np.float32))

    def infer(self, windows: Floats, states: Sequence[SileroState]) -> tuple[Floats, list[SileroState]]:
        """Return the probability of speech in each window, and the states after them.

        Args:
            windows: one window of each of B voices, shape (B, 256), from -1 to 1.
            states: the states of these B voices.

        Returns:
            Probabilities, shape (B,), and B states.

        Raises:
            ProviderError: the model failed.
        """
        # The context first, then the window: one axis of samples.
        context = _joined([state.context for state in states], axis=0)
        memory = _joined([state.memory for state in states], axis=1)
        output, after = self.network.run(input=np.concatenate([context, windows], axis=1), state=memory, sr=_RATE)
        last = windows[:, -_CONTEXT_SAMPLES:]
        # A single voice needs no copies: its arrays are its own.
        if len(states) == 1:
            return output[:, 0], [SileroState(after, last)]
        # Copies: a view of one voice's state would keep the whole batch in memory.
        each = [slice(i, i + 1) for i in range(len(states))]
        return output[:, 0], [SileroState(after[:, i].copy(), last[i].copy()) for i in each]


def _joined(arrays: Sequence[Floats], axis: int) -> Floats:
    """Join arrays. A single one, which is the usual case, is returned as it is: 20 times cheaper."""
    return arrays[0] if len(arrays) == 1 else np.concatenate(arrays, axis=axis)


# As an array, once: ONNX takes inputs only as arrays.
_RATE = np.array(RATE_HZ, dtype=np.int64)
# 32768, so that the smallest 16-bit sample is -1.
_SCALE = np.float32(1 / 32768)


@LoadOnce
def silero_model(path: Path | None) -> SileroModel:
    """Load the model, once per process.

    Raises:
        ConfigurationError: the file is missing, or differs from the pinned version.
        ProviderError: the model cannot be loaded.
    """
    return SileroModel(onnx_model(_WEIGHTS.find(path)))


@other_names(
    means={
        "activation_threshold": "threshold",
        "min_speech_duration": "min_speech",
        "min_silence_duration": "min_silence",
        "onnx_file_path": "path",
    },
    no_effect={
        "sample_rate": "a telephone call has 8 kHz",
        "prefix_padding_duration": "the STT gets the whole call, with what comes before a voice",
        "deactivation_threshold": "it follows from threshold=",
        "force_cpu": "the model always runs on the CPU",
    },
)
@attrs.frozen(kw_only=True)
class SileroVAD(VoiceActivity):
    """Silero's voice activity detector.

    Args:
        threshold: probability from which a window counts as speech; raise it if background voices are mistaken for the
            caller.
        min_speech: seconds that a voice must last to count; 0: the first window of 32 ms counts.
        min_silence: seconds of silence that end a voice; keep it below the endpointing silence. 0: the first window
            of 32 ms without voice ends it.
        path: another Silero model of the same shape.

    Raises:
        ConfigurationError: a threshold outside 0 to 1, or a negative duration.
    """

    threshold: float = GateRules().threshold
    min_speech: float = GateRules().min_speech
    min_silence: float = GateRules().min_silence
    path: Path | None = attrs.field(default=None, converter=attrs.converters.optional(Path))

    def __attrs_post_init__(self) -> None:
        # Raises now, not when the first call is opened.
        self._rules()

    @classmethod
    def load(cls, **options: Any) -> Self:
        """Return a VAD from getpatter's options; the model itself is loaded when the agent is served, once per process.

        Args:
            options: ``activation_threshold``, ``min_speech_duration`` and ``min_silence_duration`` (seconds) and
                ``onnx_file_path``, or the names of this class. The others that getpatter has change nothing here.

        Raises:
            TypeError: an option is unknown.
            ConfigurationError: an option is out of range.
        """
        return cls(**options)

    @classmethod
    def for_phone_call(cls, **options: Any) -> Self:
        """Return a VAD for the telephone, which is the default here; the options are those of :meth:`load`."""
        return cls.load(**options)

    def open(self) -> AbstractAsyncContextManager[VoiceActivitySession]:
        """Open a session for one call; the first session of a process loads the model.

        Raises:
            ProviderError: the model cannot be used.
        """
        return self._open()

    async def prewarm(self) -> None:
        """Load the model now, so that the first call does not wait for it.

        Raises:
            ConfigurationError: the file is missing, or differs from the pinned version.
            ProviderError: the model cannot be loaded.
        """
        await silero_model.in_thread(self.path)

    def _rules(self) -> GateRules:
        return GateRules(threshold=self.threshold, min_speech=self.min_speech, min_silence=self.min_silence)

    @asynccontextmanager
    async def _open(self) -> AsyncIterator[VoiceActivitySession]:
        # In a thread: live calls would otherwise stand still while the file is read and checked.
        with model_errors("silero"):
            model = await silero_model.in_thread(self.path)
        batcher = batcher_of(model)
        # Counted while it is open: the number decides whether windows wait for each other.
        with batcher.session():
            yield _SileroSession(batcher, VoiceGate(WINDOW_SAMPLES, self._rules()))


class _SileroSession(VoiceActivitySession):
    window = WINDOW_SAMPLES

    def __init__(self, batcher: Batcher[SileroState], gate: VoiceGate) -> None:
        self._batcher = batcher
        self._gate = gate
        self._state = SileroModel.initial()
        # Parts of a window, joined once: a carrier's frame has 160 samples, a window 256.
        self._parts: list[Samples] = []
        self._missing = WINDOW_SAMPLES
        """Samples missing from the window that ``_parts`` begin."""

    @property
    def quiet_since(self) -> int | None:
        return self._gate.quiet_since

    async def feed(self, samples: Samples) -> Sequence[VoiceEdge]:
        edges: list[VoiceEdge] = []
        rest = samples
        # Several windows, if a frame completes more than one: each needs the state of the one before.
        while len(rest) >= self._missing:
            self._parts.append(rest[: self._missing])
            rest = rest[self._missing :]
            heard, self._parts, self._missing = np.concatenate(self._parts), [], WINDOW_SAMPLES
            # May wait up to 8 ms for other calls; the order within this call is kept because one task feeds it.
            probability, self._state = await self._batcher.infer(heard * _SCALE, self._state)
            if edge := self._gate.step(probability):
                edges.append(edge)
        self._parts.append(rest)
        self._missing -= len(rest)
        return edges
