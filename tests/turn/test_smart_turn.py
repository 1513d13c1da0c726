"""Smart Turn: finished sentences sound more finished than cut ones."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from trio.testing import MockClock

from patter_trio.audio.g711 import Samples
from patter_trio.errors import ProviderError
from patter_trio.turn.smart_turn import SmartTurn, smart_turn_model

Recording = Callable[[str], Samples]


@pytest.mark.parametrize("name", ["book", "dashwood_leisure"])
async def test_whole_sentence_sounds_more_finished(autojump_clock: MockClock, recording: Recording, name: str) -> None:
    """A whole sentence gets a far higher probability than its first half.

    The probabilities themselves depend on the processor: the model computes with 8-bit integers, whose instructions
    saturate on some processors and not on others.
    """
    samples = recording(name)
    end = int(np.flatnonzero(np.abs(samples.astype(int)) > 500)[-1]) + 1600
    whole, cut = await SmartTurn().complete(samples[:end]), await SmartTurn().complete(samples[: end // 2])
    assert whole > cut + 0.5


@pytest.mark.parametrize("seconds", [0, 0.02, 8, 20])
async def test_an_utterance_of_any_length_has_an_answer(seconds: float) -> None:
    """SmartTurn returns a probability from 0 to 1 for 0, 0.02, 8 and 20 s of silence."""
    assert 0.0 <= await SmartTurn().complete(np.zeros(round(seconds * 8000), np.int16)) <= 1.0


async def test_prewarming_loads_the_model_that_is_used() -> None:
    """After prewarm() the model is loaded, and each use gets the same one."""
    await SmartTurn().prewarm()
    assert smart_turn_model(None) is smart_turn_model(None)


async def test_only_the_last_eight_seconds_are_heard(recording: Recording) -> None:
    """The probability depends on the last 8 s of the audio only."""
    samples = np.concatenate([recording("dashwood_leisure"), recording("cold_hearted")])
    whole, last = await SmartTurn().complete(samples), await SmartTurn().complete(samples[-64000:])
    assert whole == pytest.approx(last, abs=1e-3)


async def test_unloadable_smart_turn_model_raises_provider_error(tmp_path: Path) -> None:
    """A turn model that fails to load raises ProviderError."""
    (tmp_path / "broken.onnx").write_bytes(b"no model")
    for path in (tmp_path / "broken.onnx", tmp_path / "missing.onnx"):
        with pytest.raises(ProviderError, match=path.name):
            await SmartTurn(path=path).complete(np.zeros(8000, np.int16))
