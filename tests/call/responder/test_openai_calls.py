"""Whole calls with OpenAILLM, against a server that speaks the vendor's protocol over loopback."""

import json
import re
from collections.abc import Callable
from typing import Any

import pytest
import trio

from patter_trio import Fallback, OpenAILLM, end_call, tool
from patter_trio.net.http import shared_client
from patter_trio.pytest_plugin import CallSimulator
from patter_trio.testing import ScriptedTTS, tool_call
from patter_trio.testing.servers.openai import ChatReply, ChatRequest, OpenAIServer, serve_openai
from tests.kit.call import SORRY, agent_of, transcripts_of
from tests.kit.depth import few

pytestmark = pytest.mark.all_carriers


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
    *_, asked, result = server.chats[1].body["messages"]
    [call] = asked["tool_calls"]
    assert result == {"role": "tool", "tool_call_id": call["id"], "content": "9 to 5 on Monday"}


# Servers that speak oddly, or strictly --------------------------------------------------------------------------------
@tool
def hours(day: str = "") -> str:
    """When we are open."""
    return f"9 to 5 on {day}"


def streamed(*deltas: Any, reason: str = "stop") -> ChatReply:
    """Return an answer made of these deltas; a text stands for the data of an event."""
    datas = [one if isinstance(one, str) else json.dumps({"choices": [{"index": 0, "delta": one}]}) for one in deltas]
    end = json.dumps({"choices": [{"index": 0, "delta": {}, "finish_reason": reason}]})
    return ChatReply(raw="".join(f"data: {data}\n\n" for data in [*datas, end, "[DONE]"]).encode())


def calling(arguments: object, call_id: object = "call_9aXk2LmQ0pRs", **extra: Any) -> dict[str, Any]:
    function = {"name": "hours", "arguments": arguments}
    return {"tool_calls": [{"index": 0, "id": call_id, "type": "function", "function": function, **extra}]}


Check = Callable[[list[dict[str, Any]]], bool]


def strict(first: ChatReply, is_right: Check) -> Callable[[ChatRequest], ChatReply]:
    """A server that refuses each request whose messages are not right."""

    def reply(request: ChatRequest) -> ChatReply:
        messages = request.body["messages"]
        if not is_right(messages):
            return ChatReply(status=400, error="no")
        return ChatReply("We open at nine.") if messages[-1]["role"] == "tool" else first

    return reply


def beside_calls(is_right: Callable[[dict[str, Any]], bool]) -> Check:
    return lambda messages: all(is_right(message) for message in messages if message.get("tool_calls"))


SIGNED = {"extra_content": {"google": {"thought_signature": "c2lnbmVk"}}}
NINE = re.compile("[a-zA-Z0-9]{9}")


@pytest.mark.parametrize(
    ("first", "is_right"),
    few(
        [
            (streamed(calling("{}", **SIGNED)), beside_calls(lambda m: SIGNED.items() <= m["tool_calls"][0].items())),
            (
                streamed({"reasoning_content": "look "}, {"reasoning_content": "it up"}, calling("{}")),
                beside_calls(lambda m: m.get("reasoning_content") == "look it up"),
            ),
            (streamed(calling("{}")), lambda messages: all(m.get("content", "") is not None for m in messages)),
            (
                streamed(calling("{}")),
                lambda messages: not any(m.get("tool_calls") for m in messages) or "call_9aXk2LmQ0pRs" in str(messages),
            ),
            (streamed(calling("{}", "")), beside_calls(lambda m: bool(NINE.fullmatch(m["tool_calls"][0]["id"])))),
        ],
        2,
    ),
    ids=["signature", "reasoning", "no null", "own id", "nine letters"],
)
async def test_strict_server_answers_after_a_tool(
    call_simulator: CallSimulator, first: ChatReply, is_right: Check
) -> None:
    """A server that wants its own keys, or a strict form, back with a tool's result answers in both turns."""
    async with serve_openai(strict(first, is_right)) as server:
        async with call_simulator(agent_for(server, tools=[hours])) as caller:
            for turn in range(2):
                await caller.speaks("When are you open?", seconds=1.0)
                assert (await caller.heard(turn)).text == "We open at nine."
        assert len(server.chats) == 4


async def test_fallback_model_gets_no_foreign_keys(call_simulator: CallSimulator) -> None:
    """A model that takes over gets nine letters for an id, and neither the signature nor the reasoning of the first."""
    first = iter([streamed({"reasoning_content": "Hm."}, calling("{}", **SIGNED))])
    broken = ChatReply(status=500)

    def is_right(messages: list[dict[str, Any]]) -> bool:
        [asked] = [message for message in messages if message.get("tool_calls")]
        [call] = asked["tool_calls"]
        return (
            set(asked) == {"role", "tool_calls"}
            and set(call) == {"id", "type", "function"}
            and bool(NINE.fullmatch(call["id"]))
        )

    async with (
        serve_openai(lambda _: next(first, broken)) as one,
        serve_openai(strict(broken, is_right)) as other,
    ):
        llms = [OpenAILLM(model=name, base_url=server.base_url) for name, server in (("a", one), ("b", other))]
        async with call_simulator(agent_of(llm=Fallback(*llms), tools=[hours])) as caller:
            await caller.speaks("When are you open?", seconds=1.0)
            assert (await caller.heard(0)).text == "We open at nine."


@pytest.mark.parametrize("odd", few(["", " ", "null", "{}", "[]", '""', '"{}"', "\n"], 2))
async def test_end_call_takes_any_empty_arguments(call_simulator: CallSimulator, odd: str) -> None:
    """end_call without arguments ends the call, in whatever way the model writes nothing."""
    end = {"index": 0, "id": "a", "function": {"name": "end_call", "arguments": odd}}
    reply = streamed({"content": "Goodbye!"}, {"tool_calls": [end]})
    async with serve_openai([reply]) as server:
        async with call_simulator(agent_for(server, tools=[end_call])) as caller:
            await caller.speaks("Bye then.", seconds=1.0)
            assert (await caller.heard(0)).text == "Goodbye!"
            await caller.waits(3.0)
        assert caller.outcome == "agent_hung_up"
        assert len(server.chats) == 1


async def test_empty_events_do_not_cut_the_answer(call_simulator: CallSimulator) -> None:
    """Events with empty data within an answer are not heard."""
    reply = streamed("", {"content": "We open "}, "", " ", {"content": "at nine."}, "")
    async with serve_openai([reply]) as server, call_simulator(agent_for(server)) as caller:
        await caller.speaks("When are you open?", seconds=1.0)
        assert (await caller.heard(0)).text == "We open at nine."


@pytest.mark.parametrize("reports", [[(0, 42)], [(1000, 42), (0, 0)], [(1000, 0), (0, 42)]])
async def test_zeros_of_usage_are_not_free(call_simulator: CallSimulator, reports: list[tuple[int, int]]) -> None:
    """A side of the usage that a server reports as zero is estimated, or keeps the number that came before."""
    usages = [
        json.dumps({"choices": [], "usage": {"prompt_tokens": asked, "completion_tokens": said}})
        for asked, said in reports
    ]
    async with serve_openai([streamed({"content": "We open at nine."}, *usages)]) as server:
        agent = agent_for(server, system_prompt="x" * 4000)
        async with call_simulator(agent) as caller:
            await caller.speaks("When are you open?", seconds=1.0)
            await caller.heard(0)
    # 1,000 tokens of the prompt, by the report or by the estimate, and 42 of the answer.
    assert caller.metrics.cost.llm == pytest.approx((1000 * 0.15 + 42 * 0.60) / 1e6, rel=0.05)


@pytest.mark.parametrize(
    "reply",
    few(
        [
            ChatReply(status=401, error="no"),
            ChatReply(status=429, error="slow down"),
            ChatReply(status=500),
            ChatReply(raw=b"data: {nonsense\n\n"),
            ChatReply("One two", break_after=0),
        ],
        2,
    ),
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


@pytest.mark.parametrize(
    "reply",
    few(
        [
            ChatReply("One two", hang_after=1),  # its first chunk has no text
            ChatReply(""),
            ChatReply("\n\n"),
            ChatReply("..."),
            streamed({"reasoning_content": "The caller greets."}),
        ],
        2,
    ),
)
async def test_answer_of_nothing_is_asked_for_again(call_simulator: CallSimulator, reply: ChatReply) -> None:
    """A server that hangs, or answers without a word or only with reasoning, is asked once more."""
    script = iter([reply])
    async with (
        serve_openai(lambda _: next(script, ChatReply("Here I am."))) as server,
        call_simulator(agent_for(server)) as caller,
    ):
        await caller.speaks("Hello?", seconds=0.6)
        assert (await caller.heard(0)).text == "Here I am."
    assert [request.method for request in server.requests].count("POST") == 2


@pytest.mark.parametrize("reason", ["length", "content_filter"])
async def test_answer_ended_early_ends_at_sentence(
    call_simulator: CallSimulator, caplog: pytest.LogCaptureFixture, reason: str
) -> None:
    """Of an answer that was too long or filtered, whole sentences are spoken, without an apology, with a log line."""
    reply = ChatReply("We open at nine. We close at", finish_reason=reason)
    async with serve_openai([reply, ChatReply("Yes.")]) as server, call_simulator(agent_for(server)) as caller:
        await caller.speaks("When?", seconds=0.6)
        assert (await caller.heard(0)).text == "We open at nine."
        await caller.speaks("Sure?", seconds=0.6)
        assert (await caller.heard(1)).text == "Yes."
    [record] = [record for record in caplog.records if record.name == "patter_trio.call"]
    assert record.getMessage().endswith(f"cut off, and ends at a sentence: the vendor ended it early ({reason})")


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


def turn_taking(chat: ChatRequest) -> ChatReply:
    """Answer only a conversation in which user and assistant take turns, beginning with the user."""
    roles = [message["role"] for message in chat.body["messages"]]
    expected = ["system", *(["user", "assistant"] * len(roles))]
    if roles != expected[: len(roles)]:
        return ChatReply(
            status=400, body={"error": {"message": "Conversation roles must alternate user/assistant/..."}}
        )
    return ChatReply("We open at nine.", first_token=0.2)


async def test_greeting_suits_servers_that_want_turns(call_simulator: CallSimulator) -> None:
    """A server whose model wants user and assistant to take turns answers a call that began with a greeting."""
    async with serve_openai(turn_taking) as server:
        agent = agent_of(llm=OpenAILLM(model="mistral", base_url=server.base_url), first_message="Hello.")
        async with call_simulator(agent) as caller:
            await caller.heard(0)
            await caller.speaks("When do you open?", seconds=1.0)
            assert (await caller.heard(1)).text == "We open at nine."
    assert [message["content"] for message in server.chats[0].body["messages"][1:]] == [
        "(The call begins.)",
        "Hello.",
        "When do you open?",
    ]


async def test_unheard_reply_suits_servers_that_want_turns(call_simulator: CallSimulator) -> None:
    """A reply that is cut before its first word leaves two messages of the user, which are sent as one."""
    async with serve_openai(turn_taking) as server:
        agent = agent_of(
            llm=OpenAILLM(model="mistral", base_url=server.base_url), tts=ScriptedTTS(duration=6.0, timings=False)
        )
        async with call_simulator(agent) as caller:
            await caller.speaks("hello", seconds=0.6)
            while not caller.times("agent_speech_started"):
                await caller.waits(0.02)
            await caller.speaks("are you there?", seconds=1.0)
            await caller.waits(3.0)
            assert (await caller.heard(1)).text
    last = server.chats[-1].body["messages"]
    assert [message["role"] for message in last] in (["system", "user"], ["system", "user", "assistant", "user"])
    assert SORRY not in transcripts_of(caller, "assistant")
