"""The small parts between the tasks of a call: hand-overs that drop, deadlines for opening, and what is dropped."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import numpy as np
import pytest
import trio
import trio.testing

from patter_trio.abc import SpeechToTextSession, VoiceEdge
from patter_trio.audio import g711
from patter_trio.audio.media_clock import MediaClock
from patter_trio.call.input.audio_queue import DropOldestChannel
from patter_trio.call.input.transcription import MAX_UNSENT_FRAMES, TranscriptionStage
from patter_trio.call.input.voice_activity import MAX_RECENT_SAMPLES, MAX_WAITING_FRAMES, VoiceActivityStage
from patter_trio.call.opening import SESSION_OPEN_TIMEOUT_S, open_with_timeout
from patter_trio.errors import ProviderError, ProviderTimeout
from patter_trio.pytest_plugin import CallSimulator
from patter_trio.testing import ScriptedSTT, ScriptedVAD
from tests.kit.call import agent_of

pytestmark = pytest.mark.all_carriers

FRAME = b"\xff" * 160


async def test_a_full_feed_drops_the_oldest_and_counts() -> None:
    """A full queue drops and counts its oldest items, and a take that is cancelled leaves it usable."""
    feed: DropOldestChannel[int] = DropOldestChannel(3)
    for item in range(5):
        feed.put(item)
    assert (await feed.take(), feed.dropped) == ([2, 3, 4], 2)
    assert repr(feed) == "<DropOldestChannel 0/3, 2 dropped>"
    with trio.move_on_after(0) as waiting:
        await feed.take()
    assert waiting.cancelled_caught
    feed.put(7)
    assert await feed.take() == [7]


@asynccontextmanager
async def session(opening: float, using: float = 0.0, closing: float = 0.0) -> AsyncIterator[str]:
    await trio.sleep(opening)
    yield "ready"
    await trio.sleep(closing)


async def test_opening_has_a_deadline_and_use_has_none(autojump_clock: trio.testing.MockClock) -> None:
    """A session has 10 s to open; its use and its closing have no deadline."""
    async with open_with_timeout(session(SESSION_OPEN_TIMEOUT_S - 0.1, closing=50.0), "acme") as ready:
        await trio.sleep(100)
        assert ready == "ready"
    assert trio.current_time() == pytest.approx(SESSION_OPEN_TIMEOUT_S - 0.1 + 150)
    with pytest.raises(ProviderTimeout, match="acme was not ready within 10 s"):
        async with open_with_timeout(session(SESSION_OPEN_TIMEOUT_S + 0.1), "acme"):
            pytest.fail("it was not ready")


async def test_open_with_timeout_passes_other_errors_through(
    autojump_clock: trio.testing.MockClock,
) -> None:
    """The function open_with_timeout passes errors from opening and from use through unchanged."""
    with pytest.raises(ProviderError, match="no session"):
        async with open_with_timeout(ScriptedSTT(fail_to_open=True).open(language="en"), "acme"):
            pass
    with pytest.raises(KeyError):
        async with open_with_timeout(session(1.0), "acme"):
            raise KeyError("x")
    with trio.move_on_after(3.0) as outer:
        async with open_with_timeout(session(0.0), "acme"):
            await trio.sleep_forever()
    assert outer.cancelled_caught


class Slow(ScriptedVAD):
    """Takes no frame before ``until``."""

    until = 3.01

    @asynccontextmanager
    async def open(self) -> AsyncIterator[Any]:
        await trio.sleep(self.until)
        async with super().open() as inner:
            yield inner


async def test_lagging_vad_loses_oldest_audio_keeps_edges(
    autojump_clock: trio.testing.MockClock,
) -> None:
    """A VAD that is 3 s late gets the last second of audio, and its voice edge has the right instant."""
    posted: list[Any] = []
    passed: list[bytes | VoiceEdge] = []
    clock = MediaClock()
    listening = VoiceActivityStage(Slow(), clock, posted.append, passed.append, remember=True)
    loud = g711.encode((9000 * np.sin(np.arange(160) / 3)).astype(np.int16))
    async with trio.open_nursery() as nursery:
        assert len(listening.recent()) == 0
        nursery.start_soon(listening.run)
        for _ in range(150):
            await trio.sleep(0.02)
            listening.put(clock.samples, loud)
            clock.arrived(len(loud), trio.current_time())
        await trio.sleep(0.02)
        nursery.cancel_scope.cancel()
    assert listening.dropped == 150 - MAX_WAITING_FRAMES
    assert [event.onset for event in posted] == [pytest.approx(2.0, abs=0.001)]
    heard = b"".join(item for item in passed if isinstance(item, bytes))
    assert len(heard) == 3 * 8000
    assert len(listening.recent()) == 3 * 8000


async def test_only_the_last_eight_seconds_are_remembered(autojump_clock: trio.testing.MockClock) -> None:
    """The VAD's stage keeps exactly the last 8 s of a caller's 40 s of audio."""
    clock = MediaClock()
    listening = VoiceActivityStage(ScriptedVAD(), clock, lambda event: None, lambda item: None, remember=True)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(listening.run)
        for second in range(40):
            audio = g711.encode(np.full(8000, 40 * second, np.int16))
            listening.put(clock.samples, audio)
            clock.arrived(len(audio), trio.current_time())
            await trio.sleep(1.0)
        recent = listening.recent()
        assert sum(map(len, listening._recent)) <= 2 * MAX_RECENT_SAMPLES + 8000
        nursery.cancel_scope.cancel()
    assert len(recent) == MAX_RECENT_SAMPLES
    assert abs(int(recent[0]) - 40 * 32) < 40
    assert abs(int(recent[-1]) - 40 * 39) < 40


async def test_lagging_stt_receives_silence_for_dropped_audio(
    autojump_clock: trio.testing.MockClock,
) -> None:
    """An STT that lags behind receives silence in place of the dropped audio."""
    taken: list[bytes] = []

    class Session(SpeechToTextSession):
        async def send(self, audio: bytes) -> None:
            taken.append(audio)

        async def flush(self) -> None:
            await trio.lowlevel.checkpoint()

        async def transcripts(self) -> AsyncIterator[Any]:
            await trio.sleep_forever()
            yield

    class Late(ScriptedSTT):
        @asynccontextmanager
        async def open(self, *, language: str) -> AsyncIterator[Any]:
            await trio.sleep(8.0)
            yield Session()

    hearing = TranscriptionStage(lambda event: None)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(hearing.run, Late(), "en")
        for _ in range(350):
            hearing.put(FRAME)
            await trio.sleep(0.02)
        await trio.sleep(2.0)
        nursery.cancel_scope.cancel()
    assert hearing.dropped == 350 - MAX_UNSENT_FRAMES
    assert sum(map(len, taken)) == 350 * 160
    assert len(taken[0]) == 100 * 160


async def test_stt_session_ending_by_itself_keeps_call_up(
    call_simulator: CallSimulator,
) -> None:
    """The call stays up if the STT session ends by itself."""

    class Short(ScriptedSTT):
        @asynccontextmanager
        async def open(self, *, language: str) -> AsyncIterator[Any]:
            async with super().open(language=language) as inner:
                inner.transcripts = _nothing
                yield inner

    async with call_simulator(agent_of(stt=Short(), first_message="Hello.")) as caller:
        await caller.hears()
        await caller.speaks("Is anybody there?", seconds=1.0)
        await caller.waits(2.0)
        assert caller.outcome == ""


async def _nothing() -> AsyncIterator[Any]:
    return
    yield
