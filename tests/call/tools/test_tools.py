"""Tools in whole calls: when they start, what becomes of them, and what the model and observers learn of it."""

import json
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import date
from enum import Enum
from functools import partial
from typing import Any

import pytest
import trio

from patter_trio import Agent, CallControl, Patter, PatterEventType, PipelineHooks, Tool, ToolContext, end_call, tool
from patter_trio.abc import Message, ToolCall, ToolDefinition
from patter_trio.events.kinds import PAYLOADS
from patter_trio.pytest_plugin import CallSimulator
from patter_trio.testing import ScriptedLLM, ScriptedTTS, tool_call
from patter_trio.testing.simulation.caller import SimulatedCaller
from tests.kit.call import Backend, agent_of, edges, transcripts_of

pytestmark = [pytest.mark.both_backends, pytest.mark.all_carriers]

CALL = tool_call("look_up", name="Miller")


def agent_with(backend: Backend, *tools: Any, replies: Any, **options: Any) -> tuple[Agent, ScriptedLLM]:
    llm = ScriptedLLM(replies)
    return backend.agent_of(llm=llm, tools=tools, **options), llm


def looking_up(seconds: float = 0.0, result: Any = "room 12", ended: list[str] | None = None, **options: Any) -> Tool:
    """A tool that takes so long, and notes how it ended."""

    @tool(**options)
    async def look_up(name: str) -> Any:
        """Look up a guest."""
        try:
            await trio.sleep(seconds)
        except trio.Cancelled:
            if ended is not None:
                ended.append("cancelled")
            raise
        if ended is not None:
            ended.append("finished")
        return result

    return look_up


async def asks(caller: SimulatedCaller, text: str = "Where is Miller?", at: float = 1.0) -> None:
    await caller.at(at)
    await caller.speaks(text, seconds=1.0)


def ids(backend: Backend, *numbers: int) -> list[str]:
    """The names of calls: an engine names its own, those of a model that gives none get one."""
    return [f"{'call' if backend.is_pipeline else 'scripted'}_{number}" for number in numbers]


def tool_events(caller: SimulatedCaller) -> list[tuple[float, str]]:
    return [(round(at, 3), name) for at, name, _ in caller.events if name.startswith("tool_call")]


# The loop -------------------------------------------------------------------------------------------------------------
async def test_the_model_speaks_calls_and_speaks_on(call_simulator: CallSimulator, backend: Backend) -> None:
    """The LLM speaks, calls a tool for 2 s and speaks on; requests, events and on_call_end have the same call."""
    agent, llm = agent_with(backend, looking_up(2.0), replies=[["Let me see.", CALL], "In room 12."])
    ends: list[dict[str, Any]] = []
    async with call_simulator(agent, on_call_end=ends.append) as caller:
        await asks(caller)
        heard = await caller.heard(0)
    assert heard.text == "Let me see. In room 12."
    [name] = ids(backend, 1)
    call = {"id": name, "name": "look_up", "arguments": '{"name": "Miller"}'}
    assert llm.requests[1][2:] == [
        {"role": "assistant", "content": "Let me see.", "tool_calls": [call]},
        {"role": "tool", "tool_call_id": name, "name": "look_up", "content": "room 12"},
    ]
    assert llm.offered == [["look_up"], ["look_up"]]
    arguments = {"name": "Miller"}
    [started] = caller.payloads("tool_call_started")
    [completed] = caller.payloads("tool_call_completed")
    about = {"call_id": started["call_id"], "name": "look_up", "tool_call_id": name, "arguments": arguments}
    assert {key: started[key] for key in about} == about
    assert {key: completed[key] for key in about} == about
    assert (completed["result"], completed["duration"]) == ("room 12", 2.0)
    assert completed["timestamp_ms"] - started["timestamp_ms"] == 2000
    assert ends[0]["tool_calls"] == [{"name": "look_up", "arguments": arguments, "result": "room 12", "duration": 2.0}]


async def test_speech_before_tool_plays_while_it_runs(call_simulator: CallSimulator, backend: Backend) -> None:
    """The caller hears what the agent says before a tool call while the tool runs."""
    agent, _ = agent_with(backend, looking_up(5.0), replies=[["Let me see.", CALL], "In room 12."])
    async with call_simulator(agent) as caller:
        await asks(caller)
        await caller.heard(0)
    [started], [ended] = caller.times("agent_speech_started"), caller.times("agent_speech_ended")
    [(begun, _), (done, _)] = tool_events(caller)
    assert abs(started - begun) < 0.5
    assert begun <= started or backend.is_engine  # which wants tools called behind the speech before them
    assert done == pytest.approx(begun + 5.0)
    assert ended > done
    names = [name for _, name in edges(caller) if name.startswith(("agent", "llm", "audio"))]
    assert names == ["llm_token", "audio_out", "agent_speech_started", "agent_speech_ended"]


@pytest.mark.pipeline("the model is a provider of its own")
async def test_model_without_the_parameter_fails_its_reply(
    call_simulator: CallSimulator, caplog: pytest.LogCaptureFixture
) -> None:
    """A model whose ``stream`` lacks ``tools`` and does not say so costs the reply, not the call.

    The log has the cure.
    """

    class Forgetful(ScriptedLLM):
        @asynccontextmanager
        async def stream(self, messages: Sequence[Message]) -> AsyncIterator[AsyncIterator[str | ToolCall]]:  # type: ignore[override]
            async with super().stream(messages) as items:
                yield items

    agent = agent_of(llm=Forgetful(["In room 12."]), tools=[looking_up()], error_message="Sorry.")
    async with call_simulator(agent) as caller:
        await asks(caller)
        assert (await caller.heard(0)).text == "Sorry."
    assert "Forgetful.stream must take tools=, or Forgetful.takes_tools be False" in caplog.text


async def test_next_request_has_earlier_tool_rounds(call_simulator: CallSimulator, backend: Backend) -> None:
    """The LLM's next request has the earlier tool round, and the history of the callbacks has only texts."""
    agent, llm = agent_with(backend, looking_up(), replies=[["Let me see.", CALL], "In room 12.", "Yes."])
    async with call_simulator(agent) as caller:
        await asks(caller)
        await caller.heard(0)
        await caller.speaks("Is that sure?", seconds=1.0)
        await caller.heard(1)
    assert [message["role"] for message in llm.requests[2]] == [
        "system",
        "user",
        "assistant",
        "tool",
        "assistant",
        "user",
    ]
    said = "Let me see. In room 12." if backend.is_pipeline else "In room 12."  # what it said before has its own place
    assert llm.requests[2][4] == {"role": "assistant", "content": said}
    assert [entry["role"] for entry in caller.history] == ["user", "assistant", "user", "assistant"]


async def test_parallel_tool_calls_run_concurrently(call_simulator: CallSimulator, backend: Backend) -> None:
    """Tools that one reply calls together run at the same time, and the LLM gets their results in order."""
    calls = [tool_call("look_up", name="Miller"), tool_call("look_up", name="Smith")]
    agent, llm = agent_with(backend, looking_up(2.0), replies=[calls, "Both are here."])
    async with call_simulator(agent) as caller:
        await asks(caller)
        assert (await caller.heard(0)).text == "Both are here."
    times = [at for at, _ in tool_events(caller)]
    assert times == [times[0], times[0], times[0] + 2.0, times[0] + 2.0]
    assert [message["tool_call_id"] for message in llm.requests[1] if message["role"] == "tool"] == ids(backend, 1, 2)


async def test_tool_loop_ends_after_ten_requests(call_simulator: CallSimulator, backend: Backend) -> None:
    """An LLM that keeps calling tools is asked ten times, the last time without tools."""
    agent, llm = agent_with(backend, looking_up(), replies=[CALL])
    async with call_simulator(agent) as caller:
        await asks(caller)
        await caller.at(20.0)
    assert len(llm.requests) == 10
    assert llm.offered == [["look_up"]] * 9 + [[]]
    assert len(caller.payloads("tool_call_completed")) == 9


async def test_tool_call_without_tools_is_ignored(call_simulator: CallSimulator, backend: Backend) -> None:
    """A tool call from an LLM without tools is ignored, and its text is still spoken."""
    agent, _ = agent_with(backend, replies=[["Let me see.", CALL]])
    async with call_simulator(agent) as caller:
        await asks(caller)
        assert (await caller.heard(0)).text == "Let me see."
    assert tool_events(caller) == []


# Failures -------------------------------------------------------------------------------------------------------------
def raising(name: str) -> str:
    raise LookupError(f"no {name} here")


RAISING = Tool(
    "look_up", "", {"type": "object", "properties": {"name": {"type": "string"}}, "required": ["name"]}, raising
)


@pytest.mark.parametrize(
    ("tools", "call", "said"),
    [
        ([RAISING], CALL, "there was an error in it"),
        ([looking_up(9.0, timeout_s=2.5)], CALL, "it did not answer within 2.5 s"),
        ([looking_up()], tool_call("book"), "there is no tool called book; there are: look_up"),
        ([looking_up()], tool_call("look_up"), "missing: name"),
        ([looking_up()], tool_call("look_up", nane="x"), "missing: name; unknown: nane"),
        ([looking_up()], tool_call("look_up", name=7), "name must be of type string"),
        ([looking_up(result={1, 2})], CALL, ""),  # not fit for JSON: shown as text
    ],
)
async def test_tool_failure_reaches_llm_and_call_continues(
    call_simulator: CallSimulator, tools: list[Tool], call: Any, said: str, backend: Backend
) -> None:
    """The LLM gets the reason of a tool's failure, and the call goes on."""
    agent, llm = agent_with(backend, *tools, replies=[call, "I see."])
    ends: list[dict[str, Any]] = []
    async with call_simulator(agent, on_call_end=ends.append) as caller:
        await asks(caller)
        assert (await caller.heard(0)).text == "I see."
    content = llm.requests[1][-1]["content"]
    assert content == (f"The tool failed: {said}" if said else '"{1, 2}"')
    [completed] = caller.payloads("tool_call_completed")
    error = "LookupError: no Miller here" if tools == [RAISING] else said  # the application's, and not for the LLM
    assert completed.get("error", "") == error
    shape: Any = PAYLOADS[PatterEventType.TOOL_CALL_COMPLETED]
    assert completed.keys() == shape.__required_keys__ | ({"error"} if said else set())
    assert ends[0]["tool_calls"][0].get("error", "") == error
    assert ends[0]["outcome"] == "caller_hung_up"


@pytest.mark.parametrize("text", ["{nonsense", "[1]", "7"])
async def test_invalid_arguments_are_reported_to_llm(
    call_simulator: CallSimulator, text: str, backend: Backend
) -> None:
    """The LLM learns that its tool arguments are not a JSON object, and the event has their raw text."""
    agent, llm = agent_with(backend, looking_up(), replies=[ToolCall("x", "look_up", text), "I see."])
    async with call_simulator(agent) as caller:
        await asks(caller)
        await caller.heard(0)
    assert "the arguments are not " in llm.requests[1][-1]["content"]
    assert caller.payloads("tool_call_completed")[0]["arguments"] == text


@pytest.mark.parametrize("depth", [65, 300, 900])
@pytest.mark.parametrize("whose", ["the model's", "the tool's"])
async def test_too_deep_nesting_fails_only_the_tool(
    call_simulator: CallSimulator, whose: str, depth: int, backend: Backend
) -> None:
    """Arguments or a result nested deeper than 64 levels fail the tool alone, and the call goes on."""
    nested = json.loads("[" * depth + "]" * depth)
    of_model, of_tool = (nested, []) if whose == "the model's" else ([], nested)
    phone, ends = Patter(), list[dict[str, Any]]()
    phone.events.on(PatterEventType.TOOL_CALL_COMPLETED, ends.append)
    schema = {"type": "object", "properties": {"names": {"type": "array"}}}
    agent, llm = agent_with(
        backend,
        Tool("look_up", "", schema, lambda names: of_tool),
        replies=[tool_call("look_up", names=of_model), "I see."],
    )
    async with call_simulator(agent, phone=phone, on_call_end=ends.append) as caller:
        await asks(caller)
        assert (await caller.heard(0)).text == "I see."
    said = "the arguments have" if of_model else "its result has"
    assert llm.requests[1][-1]["content"] == f"The tool failed: {said} more than 64 levels"
    assert ends[0]["error"] == ends[1]["tool_calls"][0]["error"] == f"{said} more than 64 levels"


class _Unreadable(dict[str, Any]):
    """A result whose database is gone."""

    def values(self) -> Any:
        raise LookupError("the connection is closed")


async def test_unreadable_result_fails_only_the_tool(call_simulator: CallSimulator, backend: Backend) -> None:
    """A result whose own code raises, when it is read, fails the tool alone, and the call goes on."""
    agent, llm = agent_with(backend, looking_up(result=_Unreadable(room=12)), replies=[CALL, "I see."])
    async with call_simulator(agent) as caller:
        await asks(caller)
        assert (await caller.heard(0)).text == "I see."
    assert llm.requests[1][-1]["content"] == "The tool failed: there was an error in it"


@pytest.mark.deep
async def test_a_tool_may_take_longer_than_a_model(call_simulator: CallSimulator, backend: Backend) -> None:
    """A tool with timeout_s=60 may take 40 s, longer than an LLM may."""
    agent, _ = agent_with(backend, looking_up(40.0, timeout_s=60.0), replies=[CALL, "In room 12."])
    async with call_simulator(agent) as caller:
        await asks(caller)
        assert (await caller.heard(0)).text == "In room 12."


# Forms of handlers ----------------------------------------------------------------------------------------------------
class Size(Enum):
    SMALL = "small"
    LARGE = "large"


@dataclass(frozen=True)
class Order:
    day: date
    size: Size = Size.SMALL

    def __post_init__(self) -> None:
        if self.day.year > 2030:
            raise LookupError(f"no calendar of {self.day.year}, ask admin@example.com")


async def test_handler_gets_types_and_observers_json(call_simulator: CallSimulator, backend: Backend) -> None:
    """A handler gets what its hints say, the LLM's null is its default, and events have what the LLM wrote."""
    got: list[Any] = []

    @tool
    async def look_up(order: Order, cakes: int, size: Size = Size.SMALL, tongue: str = "en") -> str:
        got.append((order, [1] * cakes, size, tongue))
        return "noted"

    written = {"order": {"day": "2030-01-31", "size": "large"}, "cakes": 2.0, "size": "large", "tongue": None}
    agent, llm = agent_with(backend, look_up, replies=[tool_call("look_up", **written), "It is noted."])
    ends: list[dict[str, Any]] = []
    async with call_simulator(agent, on_call_end=ends.append) as caller:
        await asks(caller)
        assert (await caller.heard(0)).text == "It is noted."
    assert got == [(Order(date(2030, 1, 31), Size.LARGE), [1, 1], Size.LARGE, "en")]
    assert llm.requests[1][-1]["content"] == "noted"
    [started] = caller.payloads("tool_call_started")
    assert json.loads(json.dumps(started["arguments"])) == written
    assert ends[0]["tool_calls"][0]["arguments"] == written


async def test_class_that_raises_fails_only_the_tool(
    call_simulator: CallSimulator, backend: Backend, caplog: pytest.LogCaptureFixture
) -> None:
    """What the constructor of an argument raises is logged; the LLM learns only that there was an error."""

    @tool
    async def look_up(order: Order) -> None: ...

    agent, llm = agent_with(backend, look_up, replies=[tool_call("look_up", order={"day": "2031-01-31"}), "I see."])
    async with call_simulator(agent) as caller:
        await asks(caller)
        assert (await caller.heard(0)).text == "I see."
    assert llm.requests[1][-1]["content"] == "The tool failed: there was an error in the arguments of look_up"
    assert "LookupError: no calendar of 2031" in caplog.text


async def test_tools_are_methods_of_an_object(call_simulator: CallSimulator, backend: Backend) -> None:
    """A method decorated with @tool runs on the object that the agent got it from."""

    class Hotel:
        def __init__(self, guests: dict[str, str]) -> None:
            self.guests = guests

        @tool
        async def look_up(self, name: str, call_context: CallControl) -> str:
            """Look up a guest."""
            return f"{self.guests[name]} for {call_context.direction}"

    hotel = Hotel({"Miller": "room 12"})
    agent, llm = agent_with(backend, hotel.look_up, replies=[CALL, "In room 12."])
    async with call_simulator(agent) as caller:
        await asks(caller)
        assert (await caller.heard(0)).text == "In room 12."
    assert llm.requests[1][-1]["content"] == "room 12 for inbound"


async def test_progress_is_spoken_while_the_tool_goes_on(call_simulator: CallSimulator, backend: Backend) -> None:
    """The agent speaks a tool's progress texts while the tool runs, and the LLM gets only the result."""

    @tool
    async def look_up(name: str) -> AsyncIterator[dict[str, Any]]:
        """Look up a guest."""
        yield {"progress": f"I am looking for {name}"}
        await trio.sleep(4.0)
        yield {"progress": "Nearly there"}
        await trio.sleep(4.0)
        yield {"result": {"room": 12}}

    agent, llm = agent_with(backend, look_up, replies=[["Let me see.", CALL], "In room 12."])
    async with call_simulator(agent) as caller:
        await asks(caller)
        heard = await caller.heard(0)
    assert heard.text == "Let me see. I am looking for Miller Nearly there In room 12."
    assert llm.requests[1][-1]["content"] == '{"room": 12}'
    assert "looking" not in "".join(payload["text"] for payload in caller.payloads("llm_chunk"))


async def test_handlers_get_what_their_form_asks_for(call_simulator: CallSimulator, backend: Backend) -> None:
    """A handler gets a dict of arguments, the dict and the call, or keywords and the call, as its form asks."""
    got: list[Any] = []
    schema = {"type": "object", "properties": {"name": {"type": "string"}}}

    async def of_context(arguments: dict[str, Any], call_context: ToolContext) -> None:
        # A type checker knows the type of each key.
        number: str = call_context["caller"]
        got.append((arguments, call_context.caller, number, call_context.get("no")))

    def of_keywords(name: str, call_context: Any) -> None:
        got.append((name, call_context.call_id))

    tools = [
        Tool("one", "", schema, got.append),
        Tool("two", "", schema, of_context),
        {"name": "three", "parameters": schema, "handler": of_keywords},
    ]
    calls = [tool_call(name, name="Miller") for name in ("one", "two", "three")]
    agent, _ = agent_with(backend, *tools, replies=[[call] for call in calls] + ["Done."])
    async with call_simulator(agent) as caller:
        await asks(caller)
        assert (await caller.heard(0)).text == "Done."
    arguments, [started] = {"name": "Miller"}, caller.payloads("call_started")
    number, call_id = started["caller"], started["call_id"]
    assert got == [arguments, (arguments, number, number, None), ("Miller", call_id)]


# Barge-in -------------------------------------------------------------------------------------------------------------
async def interrupted(call_simulator: CallSimulator, agent: Agent, until: float = 14.0) -> SimulatedCaller:
    """A call in which the caller talks over the agent while its tool runs."""
    async with call_simulator(agent) as caller:
        await asks(caller)
        await caller.at(4.0)
        await caller.speaks("No, Smith!", seconds=1.0)
        await caller.at(until)
    return caller


SPEECH = ScriptedTTS(duration=8.0)


@pytest.mark.parametrize(
    ("policy", "how", "shown"),
    [
        ("cancel", "cancelled", "The tool failed: it was cancelled: the caller interrupted"),
        ("detach", "finished", "It is still running. What it gives will be here when it is finished."),
        ("shield", "finished", "It is still running. What it gives will be here when it is finished."),
    ],
)
async def test_barge_in_follows_the_tool_policy(
    call_simulator: CallSimulator, policy: Any, how: str, shown: str, backend: Backend
) -> None:
    """A barge-in cancels a running tool or lets it finish, as its on_barge_in policy says."""
    ended: list[str] = []
    slow = looking_up(5.0, on_barge_in=policy, ended=ended)
    agent, llm = agent_with(
        backend, slow, replies=[["Let me see about that now.", CALL], "Smith is out.", "Yes."], tts=SPEECH
    )
    caller = await interrupted(call_simulator, agent)
    assert ended == [how]
    assert caller.payloads("interruption")[0]["reason"] == "barge-in"
    results = [message["content"] for message in llm.requests[1] if message["role"] == "tool"]
    assert results == [shown]
    [completed] = caller.payloads("tool_call_completed")
    cut = caller.times("interruption")[0]
    begun, over = (at for at, _ in tool_events(caller))
    assert over == pytest.approx(cut if policy == "cancel" else begun + 5.0, abs=0.001)
    assert completed["result"] == (None if policy == "cancel" else "room 12")


async def test_late_tool_result_is_in_next_request(call_simulator: CallSimulator, backend: Backend) -> None:
    """The result of a tool that finishes after a barge-in is in the LLM's next request."""
    agent, llm = agent_with(
        backend,
        looking_up(5.0),
        replies=[["Let me see about that now.", CALL], "Smith is out.", "In room 12."],
        tts=SPEECH,
    )
    async with call_simulator(agent) as caller:
        await asks(caller)
        await caller.at(4.0)
        await caller.speaks("No, Smith!", seconds=1.0)
        await caller.at(16.0)
        await caller.speaks("And Miller?", seconds=1.0)
        await caller.heard(2)
    if backend.is_pipeline:
        assert [m["content"] for m in llm.requests[2] if m["role"] == "tool"] == ["room 12"]
    else:  # it keeps its own conversation, in which the call has its answer already
        news = [m["content"] for m in llm.requests[2][1:] if m["role"] == "system"]
        assert news == ["The tool look_up has finished meanwhile: room 12"]


async def test_hang_up_grants_shielded_tools_five_seconds(call_simulator: CallSimulator, backend: Backend) -> None:
    """A hang-up cancels tools at once, and shielded tools may run five seconds longer."""
    ended: list[tuple[str, float]] = []

    def slow(name: str, seconds: float, **options: Any) -> Tool:
        async def handler() -> None:
            try:
                await trio.sleep(seconds)
            finally:
                ended.append((name, trio.current_time()))

        return tool(name=name, **options)(handler)

    calls = [tool_call(name) for name in ("detached", "shielded", "endless")]
    tools = [
        slow("detached", 60.0, timeout_s=90.0),
        slow("shielded", 6.0, on_barge_in="shield"),
        slow("endless", 60.0, timeout_s=90.0, on_barge_in="shield"),
    ]
    agent, _ = agent_with(backend, *tools, replies=[calls, "Done."])
    ends: list[dict[str, Any]] = []
    async with call_simulator(agent, on_call_end=ends.append) as caller:
        await asks(caller)
        await caller.at(5.0)
        await caller.hangs_up()
    begun = tool_events(caller)[0][0]
    over = caller.times("call_end")[0]
    zero = caller.carrier.media_start
    assert ended[0][0] == "detached"
    assert ended[1:] == [("shielded", pytest.approx(zero + begun + 6.0)), ("endless", pytest.approx(zero + over + 5.0))]
    assert {call["name"]: call["error"] for call in ends[0]["tool_calls"]} == {
        "detached": "it was cancelled: the call is over",
        "shielded": "the call was over before it was",
        "endless": "the call was over before it was",
    }
    assert len(caller.payloads("tool_call_started")) == len(caller.payloads("tool_call_completed")) == 3


# When a tool starts ---------------------------------------------------------------------------------------------------
async def test_resumed_question_starts_tool_only_once(call_simulator: CallSimulator, backend: Backend) -> None:
    """A question that the caller resumes before the answer starts its tool once, for the whole question."""
    agent, llm = agent_with(backend, looking_up(), replies=lambda m: "In room 12." if m[-1]["role"] == "tool" else CALL)
    async with call_simulator(agent) as caller:
        await caller.at(1.0)
        await caller.speaks("Where is", seconds=0.6)
        await caller.at(2.15)  # just after the endpoint, before the model has answered
        await caller.speaks("Miller?", seconds=1.0)
        await caller.heard(0)
    assert transcripts_of(caller, "user")[-1] == "Where is Miller?"
    assert len(llm.requests) == 3
    assert [name for _, name in tool_events(caller)] == ["tool_call_started", "tool_call_completed"]
    assert tool_events(caller)[0][0] > 3.15


@pytest.mark.pipeline("only an STT tells a cough from words")
async def test_a_cough_only_delays_a_tool(call_simulator: CallSimulator, backend: Backend) -> None:
    """A cough before the answer delays a tool call until the cough is over."""
    agent, _ = agent_with(backend, looking_up(), replies=[CALL, "In room 12."])
    async with call_simulator(agent) as caller:
        await asks(caller)
        await caller.at(2.52)
        await caller.coughs(0.3)
        assert (await caller.heard(0)).text == "In room 12."
    assert tool_events(caller)[0][0] > 2.8


# Ending the call ------------------------------------------------------------------------------------------------------
async def test_end_call_hangs_up_after_goodbye_playout(call_simulator: CallSimulator, backend: Backend) -> None:
    """The end_call tool hangs up once the goodbye has been played."""
    agent, _ = agent_with(backend, end_call, replies=[["Goodbye and have a nice day.", tool_call("end_call")]])
    async with call_simulator(agent) as caller:
        await asks(caller, "Bye then.")
        assert (await caller.heard(0)).text == "Goodbye and have a nice day."
        await caller.at(20.0)
    assert caller.outcome == "agent_hung_up"
    [ended], [over] = caller.times("agent_speech_ended"), caller.times("call_end")
    assert ended <= over < ended + 0.5
    assert [name for _, name in tool_events(caller)] == ["tool_call_started", "tool_call_completed"]
    assert tool_events(caller)[0][0] == pytest.approx(ended, abs=0.001)


@pytest.mark.parametrize("arguments", [{"reason": "The caller said goodbye."}, {"_": ""}, {"message": None}])
async def test_end_call_takes_invented_arguments(
    call_simulator: CallSimulator, backend: Backend, arguments: dict[str, Any]
) -> None:
    """Arguments that an LLM invents for end_call do not keep the call open: nothing is said after the goodbye."""
    agent, llm = agent_with(
        backend, end_call, replies=[["Goodbye!", tool_call("end_call", **arguments)], "Still here?"]
    )
    async with call_simulator(agent) as caller:
        await asks(caller, "Goodbye.")
        assert (await caller.heard(0)).text == "Goodbye!"
        await caller.carrier.over.wait()
    assert caller.outcome == "agent_hung_up"
    assert len(llm.requests) == 1


async def test_barge_in_on_goodbye_prevents_hang_up(call_simulator: CallSimulator, backend: Backend) -> None:
    """A caller who goes on over the goodbye keeps the call: end_call does not run, and the model learns of that."""
    replies = [["Goodbye and have a nice day.", tool_call("end_call")], "Of course."]
    agent, llm = agent_with(backend, end_call, replies=replies)
    async with call_simulator(agent) as caller:
        await asks(caller, "Bye then.")
        await caller.at(3.5)
        await caller.speaks("Wait, one more thing!", seconds=1.5)
        assert (await caller.heard(1)).text == "Of course."
        await caller.waits(5.0)
        assert caller.outcome is None or not caller.outcome
    assert tool_events(caller) == []
    [result] = [message["content"] for message in llm.requests[1] if message["role"] == "tool"]
    assert result.startswith("It was not done")
    if backend.is_pipeline:
        assert [message["role"] for message in llm.requests[1]] == [
            "system", "user", "assistant", "assistant", "tool", "user",
        ]  # fmt: skip


async def test_end_call_without_a_word_hangs_up(call_simulator: CallSimulator, backend: Backend) -> None:
    """An end_call without a goodbye ends the call as agent_hung_up."""
    agent, _ = agent_with(backend, end_call, replies=[tool_call("end_call")])
    async with call_simulator(agent) as caller:
        await asks(caller, "Bye then.")
        await caller.at(10.0)
    assert caller.outcome == "agent_hung_up"


async def test_resumed_question_prevents_hang_up(call_simulator: CallSimulator, backend: Backend) -> None:
    """Words that resume the question before end_call has run keep the call and get an answer."""
    llm = ScriptedLLM(lambda m: "Of course." if "Wait" in m[-1]["content"] else tool_call("end_call"), first_token=0.5)
    async with call_simulator(backend.agent_of(llm=llm, tools=[end_call])) as caller:
        await caller.speaks("Bye", seconds=0.5)
        await caller.at(1.1)
        await caller.speaks("Wait, one more thing", seconds=2.0)
        assert (await caller.heard(0)).text == "Of course."
        assert not caller.outcome
    assert transcripts_of(caller, "user")[-1] == "Bye Wait, one more thing"
    assert tool_events(caller) == []


async def test_end_call_waits_for_other_tools_reply(call_simulator: CallSimulator, backend: Backend) -> None:
    """An end_call beside another tool hangs up only after the reply to that tool has been played."""
    replies = [[CALL, tool_call("end_call")], "Room 12, goodbye."]
    agent, llm = agent_with(backend, looking_up(1.0), end_call, replies=replies)
    async with call_simulator(agent) as caller:
        await asks(caller)
        assert (await caller.heard(0)).text == "Room 12, goodbye."
        await caller.at(20.0)
    assert caller.outcome == "agent_hung_up"
    assert "as soon as what you say has been played" in llm.requests[1][-1]["content"]


# Where tools come from ------------------------------------------------------------------------------------------------
async def test_tools_can_be_given_for_one_call(call_simulator: CallSimulator, backend: Backend) -> None:
    """on_call_start can give tools to one call, and the LLM is offered them."""
    agent, llm = agent_with(backend, replies=[CALL, "In room 12."])
    async with call_simulator(agent, on_call_start=lambda event: {"tools": [looking_up()]}) as caller:
        await asks(caller)
        assert (await caller.heard(0)).text == "In room 12."
    assert llm.offered[0] == ["look_up"]


async def test_tools_that_nothing_would_call_are_warned_about(caplog: pytest.LogCaptureFixture) -> None:
    """serve() warns of an agent's tools if on_message answers in place of an LLM."""
    agent = agent_of(llm=None, tools=[end_call])
    async with trio.open_nursery() as nursery:
        await nursery.start(partial(Patter().serve, agent, port=0, on_message=lambda event: "Yes."))
        nursery.cancel_scope.cancel()
    assert "on_message= replaces it" in caplog.text


@pytest.mark.pipeline("hooks are beside a pipeline alone")
async def test_before_llm_sees_earlier_tool_results(call_simulator: CallSimulator, backend: Backend) -> None:
    """The before_llm hook sees earlier tool calls and results, and the LLM keeps its tools."""
    seen: list[list[str]] = []

    def before_llm(messages: list[dict[str, Any]]) -> None:
        seen.append([message["role"] for message in messages])

    hooks = PipelineHooks(before_llm=before_llm)
    agent, _ = agent_with(backend, looking_up(), replies=[CALL, "In room 12.", "Yes."], hooks=hooks)
    async with call_simulator(agent) as caller:
        await asks(caller)
        await caller.heard(0)
        await caller.speaks("Sure?", seconds=1.0)
        await caller.heard(1)
    assert seen == [["system", "user"], ["system", "user", "assistant", "tool", "assistant", "user"]]


async def test_two_calls_at_once_share_no_tool_call(call_simulator: CallSimulator, backend: Backend) -> None:
    """Two concurrent calls to one agent each have their own tool call and answer."""
    agent, llm = agent_with(backend, looking_up(), replies=[CALL, "In room 12."])
    async with call_simulator(agent, Patter()) as one, call_simulator(agent, Patter()) as other:
        for caller in (one, other):
            await caller.speaks("Where is Miller?", seconds=1.0, wait=False)
        for caller in (one, other):
            assert (await caller.heard(0)).text == "In room 12."
    assert len(llm.requests) == 4
    assert len(one.payloads("tool_call_started")) == len(other.payloads("tool_call_started")) == 1


@pytest.mark.parametrize("policy", ["detach", "cancel", "shield"])
async def test_tool_after_speech_runs_whatever_its_policy(
    call_simulator: CallSimulator, policy: Any, backend: Backend
) -> None:
    """A tool with after_speech runs to its end once its reply has been played, under each barge-in policy."""
    ended: list[str] = []
    look_up = looking_up(0.5, ended=ended, on_barge_in=policy, after_speech=True)
    agent, _ = agent_with(backend, look_up, replies=[["Goodbye.", CALL]])
    async with call_simulator(agent) as caller:
        await asks(caller)
        await caller.heard(0)
        await caller.at(8.0)
    assert ended == ["finished"]


@pytest.mark.pipeline("the model is a provider of its own")
async def test_slow_closing_delays_no_speech(call_simulator: CallSimulator) -> None:
    """An LLM whose answer takes 2 s to close delays no speech, and the call still closes the answer."""
    closed: list[float] = []

    class ClosesSlowly(ScriptedLLM):
        """A model with a server that has two seconds' worth to send after the text."""

        @asynccontextmanager
        async def stream(
            self, messages: Sequence[Message], *, tools: Sequence[ToolDefinition] = ()
        ) -> AsyncIterator[AsyncIterator[str | ToolCall]]:
            async with super().stream(messages, tools=tools) as items:
                yield items
            await trio.sleep(2.0)
            closed.append(2.0)

    async def speech(llm: ScriptedLLM) -> list[float]:
        async with call_simulator(agent_of(llm=llm, tools=[looking_up()])) as caller:
            await asks(caller)
            await caller.heard(0)
            await caller.at(10.0)
        return [round(at, 6) for at in caller.times("agent_speech_started")]

    assert await speech(ClosesSlowly(["In room 12"])) == await speech(ScriptedLLM(["In room 12"]))
    assert closed == [2.0]


@pytest.mark.parametrize("at", [round(2.6 + step * 0.2, 1) for step in range(15)])
@pytest.mark.pipeline("the model is a provider of its own")
async def test_cut_at_any_time_leaves_nothing_open(call_simulator: CallSimulator, at: float) -> None:
    """A barge-in at any time leaves no answer of the LLM open and no tool running."""
    opened: list[str] = []
    closed: list[str] = []
    started: list[str] = []
    ended: list[str] = []

    class Counts(ScriptedLLM):
        @asynccontextmanager
        async def stream(
            self, messages: Sequence[Message], *, tools: Sequence[ToolDefinition] = ()
        ) -> AsyncIterator[AsyncIterator[str | ToolCall]]:
            opened.append("answer")
            try:
                async with super().stream(messages, tools=tools) as items:
                    yield items
            finally:
                closed.append("answer")

    @tool(on_barge_in="cancel")
    async def look_up(name: str) -> Any:
        """Look up a guest."""
        started.append(name)
        try:
            yield {"progress": "Still looking for the guest."}
            await trio.sleep(1.0)
            yield {"result": "room 12"}
        finally:
            ended.append(name)

    llm = Counts([["Let me see.", CALL], "In room 12.", "All right."], first_token=0.5, duration=0.6)
    async with call_simulator(agent_of(llm=llm, tools=[look_up])) as caller:
        await asks(caller)
        await caller.at(at)
        await caller.speaks("No, wait, stop it.", seconds=1.0)
        await caller.at(12.0)
    assert opened == closed
    assert started == ended


async def test_script_counts_only_results_asked_about(call_simulator: CallSimulator, backend: Backend) -> None:
    """ScriptedLLM does not count the result of a tool whose reply was interrupted: its script's next line follows."""
    replies = [["Let me see.", CALL], "Sorry?", "It is room 12."]
    agent, _ = agent_with(backend, looking_up(3.0), replies=replies)
    async with call_simulator(agent) as caller:
        await asks(caller)
        await caller.at(3.0)
        await caller.speaks("No, Smith!", seconds=1.0)
        await caller.at(9.0)
        await caller.speaks("And now?", seconds=0.5)
        await caller.at(14.0)
    assert transcripts_of(caller, "assistant")[-2:] == ["Sorry?", "It is room 12."]


@pytest.mark.parametrize(
    "ids",
    [
        ("same", "same"),
        ("call_2", ""),
        ("", ""),
        ("", "call_1"),
        ("", "", "call_1", "call_2"),
        ("call_3", "", "call_3"),
    ],
)
async def test_calls_of_one_answer_have_different_ids(
    call_simulator: CallSimulator, backend: Backend, ids: tuple[str, ...]
) -> None:
    """Each call of an answer has an id of its own, whatever ids the model gave, and each result that of its call."""

    @tool
    async def add(number: int) -> str:
        """Add a number."""
        return f"added {number}"

    calls = [ToolCall(given, "add", f'{{"number": {number}}}') for number, given in enumerate(ids)]
    agent, llm = agent_with(backend, add, replies=[calls, "Done."])
    async with call_simulator(agent) as caller:
        await asks(caller, "Add them.")
        await caller.hears()
    results = {message["tool_call_id"]: message["content"] for message in llm.requests[1] if message["role"] == "tool"}
    assert sorted(results.values()) == [f"added {number}" for number in range(len(ids))]
    started = [payload["tool_call_id"] for payload in caller.payloads("tool_call_started")]
    assert len(set(started)) == len(ids)
