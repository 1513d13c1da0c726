"""Wherever a provider hangs when the caller hangs up: within a second all of it is gone, and the end is reported once.

The simulator itself checks both after every call; what is asserted here is that the place was reached, and the outcome.
"""

import pytest

from patter_trio.pytest_plugin import CallSimulator
from tests.kit.call import SORRY, At, break_down, faulty_agent, hangs_up_in_time, sound_of_agent
from tests.kit.depth import few

pytestmark = pytest.mark.all_carriers

PLACES = (
    "vad.open", "vad.feed",
    "stt.open", "stt.transcripts", "stt.send", "stt.voice", "stt.next", "stt.flush",
    "llm.stream", "llm.first", "llm.next", "llm.close",
    "tts.open", "tts.speak", "tts.first", "tts.next",
)  # fmt: skip


@pytest.mark.parametrize("place", PLACES)
async def test_hang_up_ends_call_despite_hanging_provider(call_simulator: CallSimulator, place: str) -> None:
    """A hang-up ends a call in time even if its provider hangs."""
    at = At(place)
    async with call_simulator(faulty_agent(at)) as caller:
        await caller.speaks("Hello there", seconds=1.0)
        await caller.at(2.5)
        if place == "stt.flush":  # asked for when words are owed at the end
            await caller.speaks("And then", seconds=0.5)
        assert await hangs_up_in_time(caller) < 1.0
    assert at.reached
    assert caller.outcome == "caller_hung_up"


IN_REPLIES = {place for place in PLACES if place.startswith(("llm.", "tts.")) and place != "tts.open"}
"""Places at which a provider works for one reply."""


@pytest.mark.parametrize("place", few(sorted(IN_REPLIES), 3))
async def test_provider_bug_in_reply_fails_that_reply(
    call_simulator: CallSimulator, place: str, caplog: pytest.LogCaptureFixture
) -> None:
    """An exception other than ProviderError fails its reply alone: the call goes on, and the log has the traceback."""
    at = At(place, break_down, nth=1)
    async with call_simulator(faulty_agent(at)) as caller:
        await caller.speaks("Hello there", seconds=1.0)
        await caller.hears()
        await caller.waits(6.0)
        await caller.speaks("Again", seconds=1.0)
        await caller.hears()
        assert sound_of_agent(caller).endswith("Three four.")
    assert caller.outcome == "caller_hung_up"
    assert "raised RuntimeError: a bug of the provider" in caplog.text
    assert "ended by a bug" not in caplog.text


@pytest.mark.parametrize("place", [place for place in PLACES if place not in IN_REPLIES])
async def test_provider_bug_apologises_and_ends_only_its_call(
    call_simulator: CallSimulator, place: str, caplog: pytest.LogCaptureFixture
) -> None:
    """Beside replies, an exception that is not a ProviderError fails the call, with an apology if the TTS works."""
    at = At(place, break_down)
    async with call_simulator(faulty_agent(at)) as caller:
        await caller.speaks("Hello there", seconds=1.0)
        if place == "stt.flush":
            await caller.at(2.5)
            await caller.speaks("And then", seconds=0.5)
            await caller.hangs_up()
        await caller.carrier.over.wait()
        await caller.waits(0.1)
    assert at.reached
    [end] = caller.payloads("call_end")
    assert (end["outcome"], end["error"]) == ("failed", "RuntimeError: a bug of the provider")
    assert "ended by a bug" in caplog.text
    assert "connection closed: internal error" not in caplog.text
    apologises = not place.startswith("tts") and place != "stt.flush"
    assert sound_of_agent(caller).endswith(SORRY) == apologises
