"""The order of a transcript: that in which the sound of its entries began."""

from typing import Any

import pytest

from patter_trio import PipelineHooks
from patter_trio.pytest_plugin import CallSimulator, PhoneNetworkFixture
from patter_trio.testing import ScriptedTTS, Voicemail
from tests.kit.call import Backend, agent_of

ANN = "+15550100003"
GREETING, MESSAGE = "Good evening, this is the dentist.", "Please call us back."


def lines(end: Any) -> list[tuple[str, str]]:
    """Return a transcript's entries; their timestamps never decrease."""
    stamps = [entry["timestamp"] for entry in end["transcript"]]
    assert stamps == sorted(stamps)
    return [(entry["role"], entry["text"]) for entry in end["transcript"]]


@pytest.mark.all_carriers(quick=True)
@pytest.mark.both_backends
async def test_hello_stands_before_the_greeting(phone_network: PhoneNetworkFixture, backend: Backend) -> None:
    """What a person who is called says before the greeting stands before it; the answer stays behind it."""
    ends: list[Any] = []

    async def person(line: Any) -> None:
        await line.speaks("Hello?", seconds=0.6)
        await line.hears()
        await line.hears()

    agent = backend.agent_of("Your appointment is tomorrow.", first_message=GREETING)
    async with phone_network(agent, on_call_end=ends.append) as network:
        network.answers(ANN, person)
        await network.phone.call(ANN, wait=True)
        heard = [utterance.text for utterance in network.calls[0].caller.utterances]
    assert heard == [GREETING, "Your appointment is tomorrow."]
    assert lines(ends[0]) == [("user", "Hello?"), *(("assistant", text) for text in heard)]


@pytest.mark.all_carriers(quick=True)
@pytest.mark.parametrize("detection", [True, "acoustic"])
async def test_machine_stands_before_its_message(phone_network: PhoneNetworkFixture, detection: Any) -> None:
    """The greeting of a machine stands before the message that is left behind it."""
    ends: list[Any] = []
    agent = agent_of(tts=ScriptedTTS(duration=2.0))
    async with phone_network(agent, on_call_end=ends.append) as network:
        network.answers(ANN, Voicemail(seconds=7.0))
        await network.phone.call(ANN, voicemail_message=MESSAGE, machine_detection=detection, wait=True)
    [(role, _), last] = lines(ends[0])
    assert (role, last) == ("user", ("assistant", MESSAGE))


async def test_model_reads_the_question_last(call_simulator: CallSimulator) -> None:
    """The model gets what was said before the greeting behind it, for that is what it answers."""
    seen: list[list[str]] = []

    async def before_llm(messages: Any) -> Any:
        seen.append([message["content"] for message in messages if message["role"] != "system"])
        return messages

    agent = agent_of("Yes.", first_message=GREETING, hooks=PipelineHooks(before_llm=before_llm))
    async with call_simulator(agent) as caller:
        await caller.speaks("Hello?", seconds=0.6)
        await caller.heard(1)
    assert seen == [[GREETING, "Hello?"]]
    assert caller.dialogue == [("user", "Hello?"), ("assistant", GREETING), ("assistant", "Yes.")]


async def test_on_message_gets_the_greeting(call_simulator: CallSimulator) -> None:
    """The history of on_message has what was heard before its answer, the question alone left out."""
    events: list[Any] = []

    async def on_message(event: Any) -> str:
        events.append(event)
        return "Yes."

    async with call_simulator(agent_of(llm=None, first_message=GREETING), on_message=on_message) as caller:
        await caller.speaks("Hello?", seconds=0.6)
        await caller.heard(1)
    assert [(event["text"], [entry["text"] for entry in event["history"]]) for event in events] == [
        ("Hello?", [GREETING])
    ]


async def test_words_over_the_agent_stand_behind(call_simulator: CallSimulator) -> None:
    """What is said over the agent's speech stands behind it, as does what is said after a cough before it."""
    async with call_simulator(agent_of("Yes.", first_message=GREETING, barge_in_threshold_ms=0)) as caller:
        await caller.coughs()
        await caller.at(3.0)
        await caller.speaks("Who is there?", seconds=0.6)
        await caller.waits(6.0)
    assert [entry for entry in caller.dialogue if entry[1] != "Yes."] == [
        ("assistant", GREETING),
        ("user", "Who is there?"),
    ]
