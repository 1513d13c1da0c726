"""What the caller hears of a reply when marks, the network or the event loop fail: all of it, and it is told so."""

from collections.abc import AsyncGenerator, AsyncIterable, AsyncIterator
from contextlib import AsyncExitStack, aclosing, asynccontextmanager

import attrs
import pytest
import trio
import trio.testing

from patter_trio import end_call
from patter_trio.abc import SpeechChunk, TextToSpeech, TextToSpeechSession
from patter_trio.pytest_plugin import CallSimulator
from patter_trio.testing import ScriptedLLM, ScriptedTTS, tool_call
from patter_trio.testing.faults import FAULTS
from patter_trio.testing.scripted_providers import audible_text
from patter_trio.testing.simulation.caller import SimulatedCaller
from tests.kit.call import Backend, agent_of, transcripts_of
from tests.kit.depth import few

pytestmark = [pytest.mark.both_backends, pytest.mark.all_carriers]

GREETING = (
    "Trattoria Miller, good evening. We are open from noon to eleven at night. We bake bread and rolls and cakes of "
    "our own every morning."
)
SECONDS = 7.74


def assert_heard_whole(caller: SimulatedCaller, seconds: float = SECONDS) -> None:
    """Check that the greeting was played to its end, and that history, callback and event say so."""
    (heard,) = caller.utterances
    assert (heard.text, heard.interrupted) == (GREETING, False)
    assert round(sum(len(stretch.audio) for stretch in caller.carrier.played()) / 8000, 3) == seconds
    (ended,) = caller.payloads("agent_speech_ended")
    assert (ended["interrupted"], ended["speech_duration_ms"]) == (False, seconds * 1000)
    assert transcripts_of(caller, "assistant") == [GREETING]
    assert caller.dialogue == [("assistant", GREETING)]


@pytest.mark.parametrize("at", [0.05, 2.0, 7.0])
@pytest.mark.parametrize("fault", ["marks never come", "marks of other names", "marks too early", "pause of 3 s"])
async def test_reply_goes_on_through_faults(
    call_simulator: CallSimulator, backend: Backend, fault: str, at: float
) -> None:
    """Without marks, or behind a network that stands still, the caller hears all of a reply."""
    agent = backend.agent_of(first_message=GREETING, tts=ScriptedTTS(duration=SECONDS))
    async with call_simulator(agent) as caller:
        await caller.at(at)
        FAULTS[fault].injection(caller.carrier)
        await caller.waits(15.0)
        assert_heard_whole(caller)


@pytest.mark.parametrize("seconds", [1.0, 3.0, 4.0, 10.0])
@pytest.mark.parametrize("ways", ["both ways", "to the caller", "from the caller"])
async def test_reply_goes_on_after_network_stall(
    call_simulator: CallSimulator, backend: Backend, seconds: float, ways: str
) -> None:
    """A network that stands still in the middle of a reply, however long and either way, costs no word of it."""
    agent = backend.agent_of(first_message=GREETING, tts=ScriptedTTS(duration=SECONDS))
    async with call_simulator(agent) as caller:
        await caller.at(2.0)
        caller.carrier.stall(seconds, sending=ways != "to the caller", receiving=ways != "from the caller")
        await caller.waits(25.0)
        assert_heard_whole(caller)


@pytest.mark.parametrize("seconds", few([8.0, 2.0], 1))
async def test_reply_goes_on_after_loop_standstill(
    call_simulator: CallSimulator, backend: Backend, seconds: float
) -> None:
    """An event loop that stands still in the middle of three replies at once costs no word of any of them."""
    clock = trio.lowlevel.current_clock()
    assert isinstance(clock, trio.testing.MockClock)
    async with AsyncExitStack() as stack:
        callers = [
            await stack.enter_async_context(
                call_simulator(backend.agent_of(first_message=GREETING, tts=ScriptedTTS(duration=SECONDS)))
            )
            for _ in range(3)
        ]
        await callers[-1].at(1.6)
        clock.jump(seconds)
        await callers[-1].waits(15.0)
        for caller in callers:
            assert_heard_whole(caller)


@pytest.mark.parametrize("fault", ["marks never come", "pause of 3 s"])
async def test_goodbye_is_heard_whole_before_hang_up(
    call_simulator: CallSimulator, backend: Backend, fault: str
) -> None:
    """A goodbye is heard to its last word before the call is hung up, although marks fail during it."""
    goodbye = "Goodbye, and thank you for your call."
    llm = ScriptedLLM([[goodbye, tool_call("end_call")]])
    async with call_simulator(backend.agent_of(llm=llm, tools=[end_call])) as caller:
        await caller.speaks("Bye", 0.5)
        await caller.at(1.6)
        FAULTS[fault].injection(caller.carrier)
        heard = await caller.heard(0)
        await caller.waits(2.0)
    assert (heard.text, heard.interrupted, caller.outcome) == (goodbye, False, "agent_hung_up")
    assert caller.dialogue == [("user", "Bye"), ("assistant", goodbye)]


async def test_answer_after_lost_marks_is_no_interruption(call_simulator: CallSimulator, backend: Backend) -> None:
    """Where marks never come, a caller who answers 0.6 s after the agent's last word has not interrupted it."""
    agent = backend.agent_of("Yes.", "No.", first_message="Good evening.")
    async with call_simulator(agent) as caller:
        caller.carrier.echo_marks = False
        await caller.at(5.0)
        await caller.speaks("Are you open", 0.5)
        answer = await caller.heard(1)
        await caller.at(answer.ended + 0.6)
        await caller.speaks("And tomorrow", 0.5)
        await caller.heard(2)
    assert [heard.interrupted for heard in caller.utterances] == [False, False, False]
    assert not caller.payloads("interruption")


async def test_last_audio_at_reply_end_is_heard(call_simulator: CallSimulator) -> None:
    """After a gap, audio that comes in the same instant as the end of the reply is heard, too."""
    async with call_simulator(agent_of("Let me see. We are open.", tts=_AllAtOnce(2.0))) as caller:
        await caller.speaks("Are you open", 0.5)
        await caller.waits(8.0)
    assert [heard.text for heard in caller.utterances] == ["Let me see. We are open."]
    assert transcripts_of(caller, "assistant") == ["Let me see. We are open."]


@attrs.frozen
class _AllAtOnce(TextToSpeech):
    """Speaks the first sentence at once, and the second ``pause`` seconds later, whole and without an await behind."""

    pause: float
    provider: str = "at once"

    @asynccontextmanager
    async def open(self, *, language: str) -> AsyncIterator[TextToSpeechSession]:
        yield _AtOnceSession(self.pause)


@attrs.frozen
class _AtOnceSession(TextToSpeechSession):
    pause: float

    @asynccontextmanager
    async def speak(self, sentences: AsyncIterable[str]) -> AsyncIterator[AsyncIterator[SpeechChunk]]:
        async with aclosing(self._chunks(sentences)) as chunks:
            yield chunks

    async def _chunks(self, sentences: AsyncIterable[str]) -> AsyncGenerator[SpeechChunk, None]:
        texts = [sentence async for sentence in sentences]
        for number, text in enumerate(texts):
            if number:
                await trio.sleep(self.pause)
            frames = audible_text.frames_of(len(text) * 0.06)
            yield SpeechChunk(audible_text.encode(text, frames, utterance=1, part=number), text)
