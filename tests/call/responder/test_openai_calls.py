"""Whole calls with OpenAILLM, against a server that speaks the vendor's protocol over loopback."""

from typing import Any

import pytest
import trio

from patter_trio import OpenAILLM, tool
from patter_trio.net.http import shared_client
from patter_trio.pytest_plugin import CallSimulator
from patter_trio.testing import ScriptedTTS, tool_call
from patter_trio.testing.servers.openai import ChatReply, OpenAIServer, serve_openai
from tests.kit.call import SORRY, agent_of, transcripts_of


def agent_for(server: OpenAIServer, **options: Any) -> Any:
    return agent_of(llm=OpenAILLM(model="gpt-4o-mini", base_url=server.base_url, provider="openai"), **options)


async def test_two_turns_share_one_llm_connection(call_simulator: CallSimulator) -> None:
    """Two turns share the LLM connection that the call opened."""
    replies = [ChatReply("Good morning.", first_token=0.2, usage=(1000, 10, 800)), ChatReply("We open at nine.")]
    async with serve_openai(replies) as server, call_simulator(agent_for(server)) as caller:
        await caller.speaks("Hello?", seconds=0.6)
        await caller.heard(0)
        await caller.speaks("When do you open?", seconds=1.0)
        await caller.heard(1)
    assert transcripts_of(caller, "assistant") == ["Good morning.", "We open at nine."]
    assert [request.method for request in server.requests] == ["HEAD", "POST", "POST"]
    assert {request.connection for request in server.requests} == {1}
    assert server.chats[1].body["messages"] == [
        {"role": "system", "content": "You are brief."},
        {"role": "user", "content": "Hello?"},
        {"role": "assistant", "content": "Good morning."},
        {"role": "user", "content": "When do you open?"},
    ]
    [token, _] = caller.payloads("llm_token")
    assert (token["llm_provider"], token["model"]) == ("openai", "gpt-4o-mini")
    # 200 new tokens, 800 cached ones and 10 of the answer; then 10 and 5: at the prices of gpt-4o-mini.
    expected = (200 * 0.15 + 800 * 0.075 + 10 * 0.60 + 10 * 0.15 + 5 * 0.60) / 1e6
    assert caller.metrics.cost.llm == pytest.approx(expected, abs=1e-6)


async def test_barge_in_stops_llm_generation_within_50_ms(call_simulator: CallSimulator) -> None:
    """A barge-in ends the generation at the LLM server within 50 ms."""
    endless = ChatReply("So this is the long story. " * 40, first_token=0.2, duration=60.0)
    agent_options = {"tts": ScriptedTTS(per_character=0.06)}
    async with serve_openai([endless, ChatReply("Yes?")]) as server:
        async with call_simulator(agent_for(server, **agent_options)) as caller:
            await caller.speaks("Tell me a story.", seconds=1.0)
            await caller.waits(4.0)
            await caller.speaks("Stop!", seconds=0.6)
            await caller.heard(1)
        zero = caller.carrier.media_start
    [cut] = caller.times("interruption")
    assert 0 <= server.left[0] - (zero + cut) <= 0.05
    # The connection went with the reply; another one was opened at once, and is the next answer's.
    assert [request.method for request in server.requests] == ["HEAD", "POST", "HEAD", "POST"]
    assert server.requests[2].at - (zero + cut) <= 0.05
    assert server.requests[3].connection == server.requests[2].connection


async def test_llm_tool_call_runs_and_returns_result(call_simulator: CallSimulator) -> None:
    """The call runs the tool that the LLM requests and sends the result back."""

    @tool
    async def hours(day: str) -> str:
        """When we are open."""
        await trio.sleep(1.0)
        return f"9 to 5 on {day}"

    replies = [
        ChatReply("One moment.", tool_calls=[tool_call("hours", day="Monday")]),
        ChatReply("From nine to five."),
    ]
    async with serve_openai(replies) as server, call_simulator(agent_for(server, tools=[hours])) as caller:
        await caller.speaks("When are you open on Monday?", seconds=1.5)
        heard = await caller.heard(0)
    assert heard.text == "One moment. From nine to five."
    assert server.chats[0].body["tools"][0]["function"]["parameters"]["required"] == ["day"]
    assert server.chats[1].body["messages"][-1] == {
        "role": "tool",
        "tool_call_id": "call_1",
        "content": "9 to 5 on Monday",
    }


@pytest.mark.parametrize(
    "reply",
    [
        ChatReply(status=401, error="no"),
        ChatReply(status=429, error="slow down"),
        ChatReply(status=500),
        ChatReply(raw=b"data: {nonsense\n\n"),
        ChatReply("One two", break_after=0),
        ChatReply("One two", hang_after=1),
    ],
)
async def test_llm_failure_apologises_and_call_continues(call_simulator: CallSimulator, reply: ChatReply) -> None:
    """After an LLM failure the agent apologises, and the call goes on."""
    script = iter([reply])
    async with (
        serve_openai(lambda _: next(script, ChatReply("Here I am."))) as server,
        call_simulator(agent_for(server)) as caller,
    ):
        await caller.speaks("Hello?", seconds=0.6)
        assert (await caller.heard(0)).text == SORRY
        await caller.speaks("Hello?", seconds=0.6)
        assert (await caller.heard(1)).text == "Here I am."
    assert caller.outcome == "caller_hung_up"


async def test_calls_at_once_get_their_own_answers(call_simulator: CallSimulator) -> None:
    """Two concurrent calls that share a connection pool each get the answer to their own question."""

    def echo(request: Any) -> ChatReply:
        return ChatReply(f"You said {request.body['messages'][-1]['content']}", first_token=0.3)

    async with serve_openai(echo) as server, shared_client():
        agent = agent_for(server)
        async with call_simulator(agent) as one, call_simulator(agent) as other:
            await one.speaks("apples.", seconds=0.6, wait=False)
            await other.speaks("pears.", seconds=0.6, wait=False)
            assert (await one.heard(0)).text == "You said apples."
            assert (await other.heard(0)).text == "You said pears."
