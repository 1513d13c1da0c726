"""The way of the caller's audio through the voice detector: nothing is lost, and nobody is woken for nothing."""

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager

import attrs
import pytest
import trio
import trio.testing
from trio.testing import MockClock

from patter_trio.abc import VoiceActivity, VoiceActivitySession, VoiceEdge
from patter_trio.audio.g711 import SILENCE_BYTE, Samples
from patter_trio.audio.media_clock import MediaClock
from patter_trio.call.input.voice_activity import MAX_WAITING_FRAMES, VoiceActivityStage


@attrs.frozen
class Recording(VoiceActivity):
    """A detector that takes down when it was fed how much."""

    window: int
    fed: list[tuple[float, int]] = attrs.field(factory=list)

    @asynccontextmanager
    async def open(self) -> AsyncIterator[VoiceActivitySession]:
        yield _Session(self)


class _Session(VoiceActivitySession):
    def __init__(self, recording: Recording) -> None:
        self.window = recording.window
        self._fed = recording.fed

    async def feed(self, samples: Samples) -> Sequence[VoiceEdge]:
        self._fed.append((round(trio.current_time(), 3), len(samples)))
        return []


async def heard(vad: Recording, positions: Sequence[int]) -> bytes:
    """Put a frame at each position, 20 ms apart; return what the STT provider got."""
    passed: list[bytes] = []

    def to_transcription(item: bytes | VoiceEdge) -> None:
        assert isinstance(item, bytes)
        passed.append(item)

    listening = VoiceActivityStage(vad, MediaClock(), lambda _: None, to_transcription, remember=False)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(listening.run)
        await trio.testing.wait_all_tasks_blocked()
        for number, position in enumerate(positions):
            await trio.sleep_until(0.02 * (number + 1))
            listening.put(position, bytes([number]) * 160)
        await trio.testing.wait_all_tasks_blocked()
        nursery.cancel_scope.cancel()
    return b"".join(passed)


async def test_detector_without_window_receives_every_frame(autojump_clock: MockClock) -> None:
    """A VAD that accepts any length receives every frame."""
    vad = Recording(window=1)
    passed = await heard(vad, [0, 160, 320])
    assert vad.fed == [(0.02, 160), (0.04, 160), (0.06, 160)]
    assert passed == b"\0" * 160 + b"\1" * 160 + b"\2" * 160


async def test_detector_with_window_receives_whole_windows(autojump_clock: MockClock) -> None:
    """A VAD with a window receives audio when a window is complete."""
    vad = Recording(window=256)
    passed = await heard(vad, [160 * number for number in range(8)])
    # 256, 512, 768, 1024 and 1280 samples are there with frames 2, 4, 5, 7 and 8.
    assert vad.fed == [(0.04, 320), (0.08, 320), (0.1, 160), (0.14, 320), (0.16, 160)]
    assert passed == b"".join(bytes([number]) * 160 for number in range(8))


async def test_silence_stands_for_what_was_dropped(autojump_clock: MockClock) -> None:
    """Two lost frames become 40 ms of silence for the STT and for the VAD."""
    vad = Recording(window=256)
    passed = await heard(vad, [0, 160, 640])
    assert passed == b"\0" * 160 + b"\1" * 160 + bytes([SILENCE_BYTE]) * 320 + b"\2" * 160
    assert vad.fed == [(0.04, 320), (0.06, 480)]


async def test_slow_vad_loses_oldest_audio_and_no_time(autojump_clock: MockClock) -> None:
    """A slow VAD loses the oldest audio, and its time offsets stay correct."""
    del autojump_clock
    fed: list[int] = []
    listening = VoiceActivityStage(
        Recording(window=256), MediaClock(), lambda _: None, lambda item: fed.append(len(item)), remember=False
    )
    for number in range(MAX_WAITING_FRAMES + 7):
        listening.put(160 * number, b"\0" * 160)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(listening.run)
        await trio.testing.wait_all_tasks_blocked()
        nursery.cancel_scope.cancel()
    assert sum(fed) == pytest.approx(160 * (MAX_WAITING_FRAMES + 7))


async def test_audio_before_hang_up_passes_lagging_vad(
    autojump_clock: MockClock,
) -> None:
    """The audio before a hang-up passes on to its last frame even if the VAD has not processed it."""
    passed: list[bytes | VoiceEdge] = []
    listening = VoiceActivityStage(Recording(window=800), MediaClock(), lambda _: None, passed.append, remember=False)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(listening.run)
        await trio.testing.wait_all_tasks_blocked()
        listening.put(0, b"\1" * 160)
        listening.put(320, b"\2" * 160)  # one between them was lost
        listening.finish(lambda: passed.append(b""))
        nursery.cancel_scope.cancel()
    assert passed == [b"\1" * 160 + bytes([SILENCE_BYTE]) * 160 + b"\2" * 160, b""]


async def test_frame_in_vad_keeps_its_place(autojump_clock: MockClock) -> None:
    """Later audio does not overtake the frame that the VAD is processing."""

    class Slow(_Session):
        async def feed(self, samples: Samples) -> Sequence[VoiceEdge]:
            await trio.sleep(0.1)
            return await super().feed(samples)

    class SlowVAD(Recording):
        @asynccontextmanager
        async def open(self) -> AsyncIterator[VoiceActivitySession]:
            yield Slow(self)

    passed: list[bytes | VoiceEdge] = []
    listening = VoiceActivityStage(SlowVAD(window=160), MediaClock(), lambda _: None, passed.append, remember=False)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(listening.run)
        await trio.testing.wait_all_tasks_blocked()
        listening.put(0, b"\1" * 160)
        await trio.sleep(0.05)
        listening.put(160, b"\2" * 160)
        listening.finish(lambda: passed.append(b""))
        await trio.sleep(0.2)
        nursery.cancel_scope.cancel()
    assert passed == [b"\1" * 160, b"\2" * 160, b""]


async def test_frames_on_their_way_are_not_overtaken(autojump_clock: MockClock) -> None:
    """The end of the call follows the frames that have woken the VAD's task and are not processed yet."""
    passed: list[bytes | VoiceEdge] = []
    listening = VoiceActivityStage(Recording(window=160), MediaClock(), lambda _: None, passed.append, remember=False)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(listening.run)
        await trio.testing.wait_all_tasks_blocked()
        listening.put(0, b"\1" * 160)
        listening.put(160, b"\2" * 160)
        listening.finish(lambda: passed.append(b"end"))
        assert passed == []
        await trio.testing.wait_all_tasks_blocked()
        nursery.cancel_scope.cancel()
    assert passed == [b"\1" * 160 + b"\2" * 160, b"end"]
