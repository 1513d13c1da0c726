"""SileroVAD on recorded speech over the telephone."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import trio
from trio.testing import MockClock

from patter_trio.abc import VoiceEdge
from patter_trio.audio.g711 import Samples
from patter_trio.errors import ProviderError
from patter_trio.vad.silero import SileroModel, SileroVAD, silero_model

Recording = Callable[[str], Samples]

WINDOW_S = 0.032
"""What the model looks at in one step."""


async def edges(samples: Samples, step: int = 160, vad: SileroVAD | None = None) -> list[VoiceEdge]:
    async with (vad or SileroVAD()).open() as session:
        return [edge for at in range(0, len(samples), step) for edge in await session.feed(samples[at : at + step])]


@pytest.mark.parametrize(
    ("name", "seconds"),
    [  # where the voice can be seen to begin and end in the waveform, the second of silence before it included
        ("cards_1", (1.23, 2.04)),
        ("cards_2", (1.29, 2.94)),
        ("cold_hearted", (1.27, 6.20)),
        ("dashwood_leisure", (1.32, 7.92)),
        ("ill_disposed", (1.29, 3.89)),
    ],
)
async def test_silero_finds_sentence_edges_in_recording(
    recording: Recording, name: str, seconds: tuple[float, float]
) -> None:
    """SileroVAD hears a recorded sentence as one voice with the right beginning and end."""
    began, ended = await edges(recording(name))
    assert (began.speaking, ended.speaking) == (True, False)
    assert began.offset / 8000 == pytest.approx(seconds[0], abs=0.1)
    assert ended.offset / 8000 == pytest.approx(seconds[1], abs=0.15)


async def test_voice_edges_are_noticed_soon(recording: Recording) -> None:
    """SileroVAD notices the begin of a voice after about 100 ms and its end after 268 ms.

    A probability close to a threshold may fall on its other side on another processor, which moves an edge by a window
    of 32 ms: one such window is allowed for.
    """
    samples = recording("ill_disposed")
    async with SileroVAD().open() as session:
        noticed = [
            (at + 160 - edge.offset) / 8000
            for at in range(0, len(samples), 160)
            for edge in await session.feed(samples[at : at + 160])
        ]
    assert noticed[0] <= 0.130 + WINDOW_S
    assert noticed[1] <= 0.280 + WINDOW_S


async def test_silero_edges_ignore_sample_chunking(recording: Recording) -> None:
    """The edges of SileroVAD do not depend on the chunking of the samples."""
    samples = recording("cards_1")
    whole = await edges(samples, step=len(samples))
    assert [await edges(samples, step) for step in (1000, 256, 160, 37)] == [whole] * 4


@pytest.mark.parametrize("level", [0, 30, 3000])
async def test_silence_and_noise_are_no_voice(level: int) -> None:
    """Five seconds of silence or noise have no voice edge."""
    noise = np.random.default_rng(1).normal(0, level, 5 * 8000).astype(np.int16)
    assert await edges(noise) == []


async def test_concurrent_silero_calls_match_single_calls(recording: Recording, autojump_clock: MockClock) -> None:
    """Many concurrent calls find the same edges as each call alone."""
    names = ("cards_1", "cards_2", "ill_disposed", "cold_hearted") * 3
    alone = {name: await edges(recording(name)) for name in set(names)}
    together: list[tuple[str, list[VoiceEdge]]] = []

    async def call(number: int, name: str) -> None:
        samples, found = recording(name), []
        async with SileroVAD().open() as session:
            for frame, at in enumerate(range(0, len(samples), 160)):
                await trio.sleep_until(frame * 0.02 + number * 0.0015)
                found += await session.feed(samples[at : at + 160])
        together.append((name, found))

    async with trio.open_nursery() as nursery:
        for number, name in enumerate(names):
            nursery.start_soon(call, number, name)
    assert len(together) == len(names)
    for name, found in together:
        assert [(edge.speaking, edge.offset) for edge in found] == [(e.speaking, e.offset) for e in alone[name]]
        confidences = [edge.confidence for edge in found]
        assert confidences == pytest.approx([edge.confidence for edge in alone[name]], abs=1e-3)


async def test_sessions_share_the_model_and_nothing_else(recording: Recording) -> None:
    """Two sessions share the model, and the edges of one do not depend on the other's audio."""
    samples = recording("cards_1")
    async with SileroVAD().open() as one, SileroVAD().open() as other:
        found = [edge for at in range(0, len(samples), 160) for edge in await one.feed(samples[at : at + 160])]
        assert await other.feed(np.zeros(8000, np.int16)) == []
    assert found == await edges(samples)
    assert silero_model(None) is silero_model(None)


def test_a_batch_gives_what_its_voices_give_alone(recording: Recording) -> None:
    """A batch of three windows has the same probabilities and states as each window alone, within 1e-4."""
    model = silero_model(None)
    voices = [
        recording(name)[12000:12256].astype(np.float32) / 32768 for name in ("cards_1", "cards_2", "ill_disposed")
    ]
    together, after = model.infer(np.stack(voices), [SileroModel.initial()] * 3)
    for index, voice in enumerate(voices):
        alone, [state] = model.infer(voice[np.newaxis], [SileroModel.initial()])
        assert np.allclose(alone[0], together[index], atol=1e-5)
        assert np.allclose(state.memory, after[index].memory, atol=1e-4)
        assert np.array_equal(state.context, after[index].context)


async def test_loading_takes_no_virtual_time(autojump_clock: MockClock) -> None:
    """Opening a session takes no virtual time, although it loads the model."""
    async with SileroVAD().open():
        assert autojump_clock.current_time() == 0.0


async def test_unloadable_silero_model_raises_provider_error(tmp_path: Path) -> None:
    """A Silero model that fails to load raises ProviderError."""
    broken = tmp_path / "broken.onnx"
    broken.write_bytes(b"no model")
    for path in (broken, tmp_path / "missing.onnx"):
        with pytest.raises(ProviderError, match=path.name):
            async with SileroVAD(path=path).open():
                pass


def test_options_that_make_no_sense_are_refused() -> None:
    """A threshold of 1.5 raises ValueError."""
    with pytest.raises(ValueError, match="threshold"):
        SileroVAD(threshold=1.5)
