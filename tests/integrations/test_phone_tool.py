"""The phone as a tool: its schemas, whom it calls, and what it returns."""

import json
from typing import Any

import pytest
import trio

from patter_trio import ConfigurationError, Patter, PatterTool, ProviderError
from patter_trio.pytest_plugin import PhoneNetworkFixture
from patter_trio.testing import ScriptedLLM, Voicemail, tool_call
from patter_trio.testing.simulation.destinations import BUSY
from patter_trio.testing.simulation.outbound import NUMBER
from tests.kit.call import agent_of

# Over Twilio in a quick run.
pytestmark = pytest.mark.all_carriers
ANN, BEN = "+15550100003", "+15550100004"


async def listens(line: Any) -> None:
    """Hears the greeting, agrees, hears the answer and hangs up."""
    await line.hears()
    await line.speaks("Yes please.", seconds=1.0)
    await line.hears()


async def stays(line: Any) -> None:
    """Stays on the line until the other side hangs up."""
    await line.hears()
    await line.carrier.over.wait()


def tool_of(**options: Any) -> PatterTool:
    agent = agent_of(system_prompt="You book tables.", llm=ScriptedLLM(["At eight."]), first_message="Hello?")
    return PatterTool(**{"phone": Patter(phone_number=NUMBER), "agent": agent} | options)


def test_schemas_have_their_vendors_shapes() -> None:
    """Each schema has the keys of its vendor and the same JSON Schema, whose names are getpatter's."""
    tool = tool_of(max_duration_sec=60)
    function = tool.openai_schema()["function"]
    assert tool.openai_schema()["type"] == "function"
    assert function["name"] == tool.anthropic_schema()["name"] == "make_phone_call"
    assert function["parameters"] == tool.anthropic_schema()["input_schema"] == tool.definition.parameters
    assert function["parameters"]["required"] == ["to"]
    assert set(function["parameters"]["properties"]) == {"to", "goal", "first_message", "max_duration_sec"}
    assert function["parameters"]["properties"]["max_duration_sec"]["maximum"] == 60
    assert json.loads(json.dumps(tool.openai_schema())) == tool.openai_schema()


@pytest.mark.parametrize(("detected", "status"), [(True, "voicemail"), (False, "completed")])
async def test_agent_talks_to_no_machine(phone_network: PhoneNetworkFixture, detected: bool, status: str) -> None:
    """A machine is hung up as soon as the carrier knows it, unless detection is off: then the agent talks its time."""
    async with phone_network(agent_of()) as network:
        network.answers(ANN, Voicemail(seconds=3.0))
        options = {} if detected else {"machine_detection": False}
        result = await tool_of(phone=network.phone, max_duration_sec=30, **options).execute(ANN)
    assert result["status"] == status
    assert (result["duration_seconds"] < 10) is detected


async def test_result_tells_the_whole_call(phone_network: PhoneNetworkFixture, carrier: str) -> None:
    """The result has outcome, duration, transcript and cost, and is JSON; the goal is added to the prompt."""
    llm = ScriptedLLM(["At eight."])
    async with phone_network(agent_of()) as network:
        network.answers(ANN, listens)
        tool = tool_of(phone=network.phone, agent=agent_of(system_prompt="Be polite.", llm=llm))
        result = await tool.execute(ANN, goal="Book a table.", first_message="Hello Ann.")
    assert json.loads(json.dumps(result)) == result
    assert result["call_id"] == network.calls[0].call_id
    assert result["status"] == "caller_hung_up"
    assert result["duration_seconds"] > 2
    assert [entry["text"] for entry in result["transcript"]] == ["Hello Ann.", "Yes please.", "At eight."]
    # There is no list price of Telnyx.
    assert result["cost_usd"] > 0 or carrier == "telnyx"
    [first] = [message for message in llm.requests[0] if message["role"] == "system"]
    assert first["content"] == "Be polite.\n\nThe goal of this call: Book a table."


async def test_unanswered_call_has_no_conversation(phone_network: PhoneNetworkFixture) -> None:
    """A call that nobody answers has its outcome, an empty transcript and no duration."""
    async with phone_network(agent_of()) as network:
        network.answers(ANN, BUSY)
        result = await tool_of(phone=network.phone).execute(ANN)
    assert (result["status"], result["duration_seconds"], result["transcript"]) == ("busy", 0.0, [])


@pytest.mark.parametrize(("asked", "ends_after"), [(None, 20), (10, 10), (1000, 20)], ids=["own", "less", "more"])
@pytest.mark.costly
async def test_duration_is_bounded(asked: int | None, ends_after: float, phone_network: PhoneNetworkFixture) -> None:
    """A call is ended after the tool's time, or after less if the model asks for it."""
    async with phone_network(agent_of()) as network:
        network.answers(ANN, stays)
        tool = tool_of(phone=network.phone, max_duration_sec=20)
        result = await tool.execute(ANN, max_duration_sec=asked)
    assert result["status"] == "completed"
    assert result["duration_seconds"] == pytest.approx(ends_after, abs=1.0)


async def test_cancelled_tool_hangs_up(phone_network: PhoneNetworkFixture) -> None:
    """If the wait for the result is cancelled, the call ends."""
    async with phone_network(agent_of()) as network:
        network.answers(ANN, stays)
        with trio.move_on_after(10):
            await tool_of(phone=network.phone).execute(ANN)
        [line] = network.calls
        with trio.fail_after(2):
            await line.over.wait()


@pytest.mark.parametrize("number", [BEN, "+15550100005", "+493012345678"], ids=["exact", "prefix", "country"])
async def test_only_allowed_numbers_are_called(number: str, phone_network: PhoneNetworkFixture) -> None:
    """With ``allowed``, other numbers are refused before anything is sent; the model gets the reason, not the list."""
    async with phone_network(agent_of()) as network:
        network.answers(ANN, listens)
        tool = tool_of(phone=network.phone, allowed=[ANN, "+4420*"])
        with pytest.raises(ConfigurationError, match="one of the numbers that make_phone_call may call"):
            await tool.execute(number)
        error = json.loads(await tool.answer({"to": number}))["error"]
        assert number in error
        assert ANN not in error
        assert network.calls == []


async def test_prefixes_allow_their_numbers(phone_network: PhoneNetworkFixture) -> None:
    """An entry that ends with an asterisk allows all numbers that begin like it."""
    async with phone_network(agent_of()) as network:
        network.answers(ANN, BUSY)
        tool = tool_of(phone=network.phone, allowed=["+4420*", "+1555*"])
        assert json.loads(await tool.answer(json.dumps({"to": ANN})))["status"] == "busy"


@pytest.mark.parametrize(
    "arguments",
    [
        pytest.param("{", id="not-json"),
        pytest.param("[]", id="list"),
        pytest.param("{}", id="without-to"),
        pytest.param({"to": ANN, "number": 1}, id="unknown"),
        pytest.param({"to": "Ann"}, id="name"),
        pytest.param({"to": 5}, id="number"),
        pytest.param({"to": ANN, "goal": 5}, id="goal"),
        pytest.param({"to": ANN, "goal": "x" * 2001}, id="long"),
        pytest.param({"to": ANN, "max_duration_sec": 1}, id="short"),
        pytest.param({"to": ANN, "max_duration_sec": "60"}, id="text"),
        pytest.param({"to": ANN}, id="not-served"),
    ],
)
async def test_model_mistakes_become_errors(arguments: Any) -> None:
    """Each mistake of the model, and a failure of the phone, comes back as JSON with the reason."""
    answer = json.loads(await tool_of().answer(arguments))
    assert list(answer) == ["error"]


async def test_carriers_refusal_raises(phone_network: PhoneNetworkFixture) -> None:
    """A call that the carrier refuses raises from ``execute``."""
    async with phone_network(agent_of()) as network:
        with pytest.raises(ProviderError, match=r"nothing answers \+15550100003"):
            await tool_of(phone=network.phone).execute(ANN)


@pytest.mark.parametrize(
    "options",
    [
        pytest.param({"phone": None}, id="phone"),
        pytest.param({"agent": None}, id="agent"),
        pytest.param({"max_duration_sec": 4}, id="short"),
        pytest.param({"max_duration_sec": 1801}, id="long"),
        pytest.param({"max_duration_sec": True}, id="bool"),
        pytest.param({"allowed": ANN}, id="text"),
        pytest.param({"allowed": []}, id="empty"),
        pytest.param({"allowed": ["555"]}, id="not-a-number"),
        pytest.param({"allowed": ["*"]}, id="everything"),
        pytest.param({"name": "call somebody"}, id="name"),
    ],
)
def test_wrong_options_are_refused(options: dict[str, Any]) -> None:
    """A wrong option is an error when the tool is made."""
    with pytest.raises(ConfigurationError):
        tool_of(**options)


def test_misspelt_option_is_corrected() -> None:
    """A misspelt option is an error that names the one which was probably meant."""
    with pytest.raises(TypeError, match=r"PatterTool\(\) got .*'allow' \(did you mean allowed\?\)"):
        tool_of(allow=[ANN])


async def test_agent_on_the_phone_calls_somebody(phone_network: PhoneNetworkFixture) -> None:
    """An agent has the tool among its own: during a call it calls somebody else, and says what came of it."""
    async with phone_network(agent_of()) as network:
        network.answers(ANN, listens)

        async def asks(line: Any) -> None:
            await line.hears()
            await line.speaks("Please ask Ann.", seconds=1.0)
            assert (await line.hears(within=60.0)).text == "Ann agrees."

        network.answers(BEN, asks)
        llm = ScriptedLLM([tool_call("make_phone_call", to=ANN, goal="Ask Ann."), "Ann agrees."])
        caller = agent_of(llm=llm, first_message="Hello Ben.", tools=[tool_of(phone=network.phone)])
        call = await network.phone.call(BEN, caller, wait=True)
    assert call.outcome == "caller_hung_up"
    result = json.loads(llm.requests[-1][-1]["content"])
    assert result["status"] == "caller_hung_up"
    assert [entry["text"] for entry in result["transcript"]] == ["Hello?", "Yes please.", "At eight."]
    assert [line.request.to for line in network.calls] == [BEN, ANN]
