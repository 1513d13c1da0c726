"""An agent's on_failure: the caller reaches a person when the call cannot go on."""

import logging
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any

import attrs
import pytest
import trio

from patter_trio import Agent, ConfigurationError, end_call, transfer_call
from patter_trio.abc import LanguageModel, Message
from patter_trio.call.streams import RECONNECT_TIMEOUT_S
from patter_trio.errors import ProviderError
from patter_trio.pytest_plugin import CallSimulator
from patter_trio.testing import ScriptedLLM, ScriptedTTS
from patter_trio.testing.faults import FAULTS
from tests.kit.call import (
    SORRY,
    At,
    Backend,
    agent_of,
    break_down,
    faulty_agent,
    give_up,
    sound_of_agent,
    transcripts_of,
)

pytestmark = [pytest.mark.both_backends, pytest.mark.all_carriers]

DESK = "+15550100003"
PERSON = transfer_call({"desk": DESK})


@attrs.frozen
class FailingLLM(LanguageModel):
    """An LLM whose answers to the questions with these numbers, from 0, fail."""

    failing: tuple[int, ...]
    inner: ScriptedLLM = attrs.field(factory=lambda: ScriptedLLM([f"Answer {number}." for number in range(10)]))
    provider: str = "failing"
    model: str = "failing"

    @asynccontextmanager
    async def stream(self, messages: Sequence[Message]) -> AsyncIterator[AsyncIterator[str]]:
        # By the questions, not by the requests: a failed answer is asked for again.
        if sum(message["role"] == "user" for message in messages) - 1 in self.failing:
            await trio.lowlevel.checkpoint()
            raise ProviderError("the model is gone")
        async with self.inner.stream(messages) as answer:
            yield answer


@pytest.mark.pipeline
@pytest.mark.parametrize("act", [give_up, break_down], ids=["provider failure", "bug"])
@pytest.mark.parametrize("place", ["vad.feed", "stt.send", "stt.transcripts", "stt.next"])
async def test_lost_provider_connects_a_person(call_simulator: CallSimulator, place: str, act: Any) -> None:
    """A provider that is lost for good: the caller hears error_message to its end, and is then connected."""
    ends: list[dict[str, Any]] = []
    agent = faulty_agent(At(place, act), on_failure=PERSON)
    async with call_simulator(agent, on_call_end=ends.append) as caller:
        await caller.waits(0.5)
        if not caller.outcome:
            await caller.speaks("Hello?", seconds=0.5, wait=False)
        await caller.carrier.over.wait()
    assert (caller.transferred_to, caller.outcome) == (DESK, "transferred")
    assert [end["outcome"] for end in ends] == ["transferred"]
    assert ends[0]["error"]
    if place != "stt.transcripts":  # before the TTS is open nothing can be said
        assert sound_of_agent(caller).endswith(SORRY)


@pytest.mark.pipeline
async def test_tts_that_never_opens_connects_a_person(call_simulator: CallSimulator) -> None:
    """Without a TTS the caller is connected without words, and without waiting for what cannot open."""
    async with call_simulator(faulty_agent(At("tts.open", give_up), on_failure=PERSON)) as caller:
        await caller.carrier.over.wait()
        assert caller.now < 2.0
    assert (caller.transferred_to, caller.outcome) == (DESK, "transferred")


@pytest.mark.pipeline
@pytest.mark.parametrize("crashes", [False, True])
async def test_call_without_stream_connects_a_person(call_simulator: CallSimulator, *, crashes: bool) -> None:
    """A call without a stream connects its caller after 10 s, or at once if the conversation crashes meanwhile."""
    agent = faulty_agent(At("stt.next", break_down if crashes else trio.lowlevel.checkpoint), on_failure=PERSON)
    async with call_simulator(agent) as caller:
        caller.carrier.return_delay = 60.0
        await caller.at(1.0)
        await caller.speaks("Hello?", seconds=0.5)
        caller.carrier.lose_stream()
        await caller.carrier.over.wait()
        assert caller.now == pytest.approx(1.78 if crashes else 11.6)
    assert (caller.transferred_to, caller.outcome) == (DESK, "transferred")


@pytest.mark.pipeline
@pytest.mark.parametrize("act", [give_up, break_down], ids=["provider failure", "bug"])
@pytest.mark.parametrize("delay", [0.0, 2.0, 60.0])
async def test_stream_lost_in_apology_connects_a_person(call_simulator: CallSimulator, act: Any, delay: float) -> None:
    """A caller whose stream breaks within the apology is connected, once, with or without another stream."""
    ends: list[dict[str, Any]] = []
    agent = faulty_agent(At("stt.next", act), on_failure=PERSON)
    async with call_simulator(agent, on_call_end=ends.append) as caller:
        caller.carrier.return_delay = delay
        await caller.at(1.0)
        await caller.speaks("Hello?", seconds=0.5, wait=False)
        await caller.at(2.5)
        assert not caller.outcome
        caller.carrier.lose_stream()
        await caller.carrier.over.wait()
        assert caller.now < 2.5 + RECONNECT_TIMEOUT_S + 1.0
    assert (caller.transferred_to, caller.outcome) == (DESK, "transferred")
    assert [end["outcome"] for end in ends] == ["transferred"]


PROTOCOL_FAULTS = ("garbage", "invalid UTF-8", "oversized message", "closed by a lie")
"""Faults of a stream whose peer would do so again: it gets no other one."""


@pytest.mark.pipeline
@pytest.mark.parametrize("act", [give_up, break_down], ids=["provider failure", "bug"])
@pytest.mark.parametrize("fault", PROTOCOL_FAULTS)
async def test_protocol_fault_in_apology_connects_person(call_simulator: CallSimulator, fault: str, act: Any) -> None:
    """A stream that breaks the protocol within the apology: the caller is connected at once, which needs no stream."""
    ends: list[dict[str, Any]] = []
    agent = faulty_agent(At("stt.next", act), on_failure=PERSON)
    async with call_simulator(agent, on_call_end=ends.append) as caller:
        await caller.at(1.0)
        await caller.speaks("Hello?", seconds=0.5, wait=False)
        await caller.at(2.5)
        assert not caller.outcome
        FAULTS[fault].injection(caller.carrier)
        await caller.carrier.over.wait()
        assert caller.now < 2.5 + 1.0
    assert (caller.transferred_to, caller.outcome) == (DESK, "transferred")
    assert [end["outcome"] for end in ends] == ["transferred"]
    # The first failure is the reason of the call's end; without one, the stream is.
    assert ends[0]["error"]


@pytest.mark.pipeline
@pytest.mark.parametrize("fault", PROTOCOL_FAULTS)
async def test_protocol_fault_connects_a_person(call_simulator: CallSimulator, fault: str) -> None:
    """A stream that breaks the protocol in a sound conversation: the agent cannot go on, and a person takes over."""
    agent = agent_of("Yes.", first_message="Hello there.", on_failure=PERSON)
    async with call_simulator(agent) as caller:
        await caller.at(1.0)
        FAULTS[fault].injection(caller.carrier)
        await caller.carrier.over.wait()
        assert caller.now < 2.0
    assert (caller.transferred_to, caller.outcome) == (DESK, "transferred")


@pytest.mark.pipeline
@pytest.mark.parametrize("act", [give_up, break_down], ids=["provider failure", "bug"])
async def test_protocol_fault_in_apology_ends_the_call(call_simulator: CallSimulator, act: Any) -> None:
    """Without on_failure, the caller whose stream breaks the protocol within the apology is hung up, not left there."""
    async with call_simulator(faulty_agent(At("stt.next", act))) as caller:
        await caller.at(1.0)
        await caller.speaks("Hello?", seconds=0.5, wait=False)
        await caller.at(2.5)
        FAULTS["garbage"].injection(caller.carrier)
        await caller.carrier.over.wait()
        assert caller.now < 2.5 + 1.0
    assert (caller.transferred_to, caller.outcome, caller.carrier.ended) == ("", "failed", "agent_hung_up")


@pytest.mark.pipeline
async def test_apology_that_hangs_connects_a_person(call_simulator: CallSimulator) -> None:
    """A crashed call whose apology never comes connects the caller after the apology's time."""
    agent = faulty_agent(At("stt.next", break_down), tts=ScriptedTTS(hang_after=0.0), on_failure=PERSON)
    async with call_simulator(agent) as caller:
        await caller.at(1.0)
        await caller.speaks("Hello?", seconds=0.5, wait=False)
        await caller.carrier.over.wait()
    assert (caller.transferred_to, caller.outcome) == (DESK, "transferred")


@pytest.mark.pipeline
async def test_failed_transfer_ends_the_call(call_simulator: CallSimulator, caplog: pytest.LogCaptureFixture) -> None:
    """If the person cannot be connected either, the call ends as failed, and the apology is heard once."""
    ends: list[dict[str, Any]] = []
    agent = faulty_agent(At("stt.next", give_up), on_failure=PERSON)
    async with call_simulator(agent, on_call_end=ends.append) as caller:
        caller.carrier.transfer_error = ProviderError("no line")
        await caller.speaks("Hello?", seconds=0.5, wait=False)
        await caller.carrier.over.wait()
    assert [end["outcome"] for end in ends] == ["failed"]
    assert transcripts_of(caller, "assistant").count(SORRY) == 1
    assert caplog.text.count("transfer failed: no line") == 1


@pytest.mark.pipeline
async def test_without_on_failure_the_call_ends(call_simulator: CallSimulator) -> None:
    """Without on_failure the call ends with error_message, as failed."""
    async with call_simulator(faulty_agent(At("stt.next", give_up))) as caller:
        await caller.speaks("Hello?", seconds=0.5, wait=False)
        await caller.carrier.over.wait()
    assert (caller.transferred_to, caller.outcome) == ("", "failed")


async def test_two_failed_replies_connect_a_person(call_simulator: CallSimulator, backend: Backend) -> None:
    """After a second failed reply in a row the caller is connected, when its apology has been heard."""
    agent = backend.agent_of(llm=FailingLLM((0, 1)), on_failure=PERSON)
    async with call_simulator(agent) as caller:
        await caller.speaks("First?", seconds=0.5)
        assert (await caller.heard(0)).text == SORRY
        assert not caller.outcome
        await caller.speaks("Second?", seconds=0.5)
        last = await caller.heard(1)
        assert (last.text, last.interrupted) == (SORRY, False)
        await caller.carrier.over.wait()
    assert (caller.transferred_to, caller.outcome) == (DESK, "transferred")


async def test_answer_between_failures_starts_anew(call_simulator: CallSimulator, backend: Backend) -> None:
    """A reply that is heard between two failed ones starts the count anew: the call goes on."""
    agent = backend.agent_of(llm=FailingLLM((0, 2)), on_failure=PERSON)
    async with call_simulator(agent) as caller:
        for number, words in enumerate((SORRY, "Answer", SORRY)):
            await caller.speaks("Well?", seconds=0.5)
            assert (await caller.heard(number)).text.startswith(words)
        await caller.waits(3.0)
        assert not caller.outcome
    assert caller.transferred_to == ""


async def test_call_goes_on_after_failed_transfer(call_simulator: CallSimulator, backend: Backend) -> None:
    """If the transfer after two failed replies fails, the call goes on, and the next question is answered."""
    agent = backend.agent_of(llm=FailingLLM((0, 1)), on_failure=PERSON)
    async with call_simulator(agent) as caller:
        caller.carrier.transfer_error = ProviderError("no line")
        for number in range(2):
            await caller.speaks("Well?", seconds=0.5)
            assert (await caller.heard(number)).text == SORRY
        await caller.waits(3.0)
        await caller.speaks("Still there?", seconds=0.5)
        assert (await caller.heard(2)).text.startswith("Answer")


@pytest.mark.pipeline
async def test_failing_on_message_connects_a_person(call_simulator: CallSimulator) -> None:
    """on_message counts as an LLM does: after its second failure in a row the caller is connected."""

    def on_message(event: dict[str, Any]) -> str:
        raise KeyError("choices")

    async with call_simulator(agent_of(llm=None, on_failure=PERSON), on_message=on_message) as caller:
        for number in range(2):
            await caller.speaks("Well?", seconds=0.5)
            assert (await caller.heard(number)).text == SORRY
        await caller.carrier.over.wait()
    assert caller.outcome == "transferred"


async def test_system_exit_connects_a_person(call_simulator: CallSimulator, backend: Backend) -> None:
    """A callback that raises SystemExit ends its call: where the agent has on_failure, with a person."""

    def on_transcript(event: dict[str, Any]) -> None:
        raise SystemExit

    async with call_simulator(backend.agent_of(on_failure=PERSON), on_transcript=on_transcript) as caller:
        await caller.speaks("Hello?", seconds=0.5)
        with trio.fail_after(20):
            await caller.carrier.over.wait()
    assert (caller.transferred_to, caller.outcome) == (DESK, "transferred")


async def test_on_failure_can_be_set_for_one_call(
    call_simulator: CallSimulator, backend: Backend, caplog: pytest.LogCaptureFixture
) -> None:
    """on_call_start may name the person for its call; the log shows the number masked."""
    caplog.set_level(logging.INFO)
    agent = backend.agent_of(llm=FailingLLM((0, 1)))
    async with call_simulator(agent, on_call_start=lambda event: {"on_failure": PERSON}) as caller:
        for number in range(2):
            await caller.speaks("Well?", seconds=0.5)
            assert (await caller.heard(number)).text == SORRY
        await caller.carrier.over.wait()
    assert caller.transferred_to == DESK
    assert "handing the caller over to +1555***0003" in caplog.text


@pytest.mark.parametrize(
    "given",
    [
        DESK,
        end_call,
        transfer_call({"desk": DESK, "night": "+15550100004"}),
        transfer_call(prefixes=["+1555"]),
        transfer_call,
        True,
    ],
    ids=["number", "another tool", "two destinations", "prefixes alone", "factory", "flag"],
)
def test_on_failure_must_name_one_person(given: Any) -> None:
    """on_failure is transfer_call(...) with one destination; anything else is an error that says so."""
    with pytest.raises(ConfigurationError, match="on_failure must be transfer_call"):
        agent_of(on_failure=given)
    assert isinstance(agent_of(on_failure=PERSON), Agent)
