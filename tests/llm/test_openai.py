"""OpenAILLM against a server that speaks the vendor's protocol over loopback."""

import re
from collections.abc import Sequence
from typing import Any

import pytest
import trio
import trio.testing

from patter_trio.abc import Message, ToolCall, ToolDefinition, Usage
from patter_trio.abc._usage import usage_sink
from patter_trio.errors import (
    AuthenticationError,
    ConfigurationError,
    PatterConnectionError,
    ProviderError,
    ProviderTimeout,
    RateLimitError,
)
from patter_trio.llm.openai import OpenAILLM
from patter_trio.net.http import shared_client
from patter_trio.testing.servers.openai import ChatReply, OpenAIServer, serve_openai

ASKED: list[Message] = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Hello?"}]
HOURS = ToolDefinition("hours", "When we are open.", {"type": "object", "properties": {"day": {"type": "string"}}})


def llm_of(server: OpenAIServer, **options: Any) -> OpenAILLM:
    return OpenAILLM(model="scripted", base_url=server.base_url, **options)


async def answer_of(
    llm: OpenAILLM, messages: Sequence[Message] = ASKED, tools: Sequence[ToolDefinition] = ()
) -> list[str | ToolCall]:
    async with llm.stream(messages, tools=tools) as items:
        return [item async for item in items]


# What is asked, and what comes back -----------------------------------------------------------------------------------
async def test_text_comes_as_it_is_generated(autojump_clock: trio.testing.MockClock) -> None:
    """The LLM yields each word at the instant at which the server sends it: 0.5, 0.75 and 1.0 s."""
    reply = ChatReply("One two three", first_token=0.5, duration=0.75)
    async with serve_openai([reply]) as server, shared_client(), llm_of(server).stream(ASKED) as items:
        got = [(item, trio.current_time()) async for item in items]
    assert got == [("One", 0.5), (" two", 0.75), (" three", 1.0)]


async def test_the_request_is_what_was_asked_for(autojump_clock: trio.testing.MockClock) -> None:
    """The request carries the key, the messages, the tools and every option of OpenAILLM."""
    async with serve_openai([ChatReply("Yes.")]) as server:
        llm = llm_of(server, api_key="k", temperature=0.5, top_p=1, max_tokens=90, extra={"keep_alive": "1h"})
        await answer_of(llm, tools=[HOURS])
    [request] = server.requests
    assert request.target == "/v1/chat/completions"
    assert request.headers["authorization"] == "Bearer k"
    assert request.body == {
        "model": "scripted",
        "messages": ASKED,
        "stream": True,
        "stream_options": {"include_usage": True},
        "temperature": 0.5,
        "top_p": 1,
        "max_tokens": 90,
        "keep_alive": "1h",
        "tools": [
            {
                "type": "function",
                "function": {
                    "name": "hours",
                    "description": "When we are open.",
                    "parameters": {"type": "object", "properties": {"day": {"type": "string"}}},
                },
            }
        ],
    }


async def test_openai_tool_calls_follow_the_text(autojump_clock: trio.testing.MockClock) -> None:
    """The LLM yields complete tool calls after the text of the answer."""
    calls = [ToolCall("a", "hours", '{"day": "Monday"}'), ToolCall("b", "hours", "{}")]
    async with serve_openai([ChatReply("Let me see.", tool_calls=calls)]) as server:
        assert await answer_of(llm_of(server), tools=[HOURS]) == ["Let", " me", " see.", *calls]


async def test_tool_results_use_the_openai_format(autojump_clock: trio.testing.MockClock) -> None:
    """The LLM sends tool calls and tool results in OpenAI's message format."""
    call = {"id": "a", "name": "hours", "arguments": "{}"}
    messages: list[Message] = [
        *ASKED,
        {"role": "assistant", "content": "", "tool_calls": [call]},
        {"role": "tool", "tool_call_id": "a", "name": "hours", "content": "9 to 5"},
    ]
    async with serve_openai([ChatReply("Yes.")]) as server:
        await answer_of(llm_of(server), messages)
    function = {"name": "hours", "arguments": "{}"}
    asked, result = server.requests[0].body["messages"][2:]
    name = result["tool_call_id"]
    assert asked == {"role": "assistant", "tool_calls": [{"id": name, "type": "function", "function": function}]}
    assert result == {"role": "tool", "tool_call_id": name, "content": "9 to 5"}
    assert re.fullmatch("[A-Za-z0-9]{9}", name)  # the strictest servers take no other form


async def test_usage_separates_cached_tokens(autojump_clock: trio.testing.MockClock) -> None:
    """The LLM reports billed tokens with the cached tokens apart, and nothing when usage is off."""
    used: list[Usage] = []
    usage_sink.set(used.append)
    async with serve_openai([ChatReply("Yes.", usage=(1000, 7, 800))]) as server:
        await answer_of(llm_of(server))
        await answer_of(llm_of(server, include_usage=False))
    assert used == [Usage(stage="llm", input_tokens=200, cache_read_tokens=800, output_tokens=7)]
    assert "stream_options" not in server.requests[1].body


async def test_thoughts_are_not_said_and_a_refusal_is(autojump_clock: trio.testing.MockClock) -> None:
    """The LLM skips the model's reasoning and yields the text of a refusal."""
    more = [{"reasoning_content": "Hmm."}, {"reasoning": "Hm."}, {"refusal": "I cannot do that."}]
    async with serve_openai([ChatReply(more=more)]) as server:
        assert await answer_of(llm_of(server)) == ["I cannot do that."]


# Connections ----------------------------------------------------------------------------------------------------------
async def test_answers_share_the_prewarmed_connection(autojump_clock: trio.testing.MockClock) -> None:
    """All answers use the connection that connect() has opened in advance without the key."""
    async with serve_openai([ChatReply("Yes.")]) as server, shared_client():
        llm = llm_of(server, api_key="secret")
        await llm.connect()
        for _ in range(3):
            await answer_of(llm)
            await trio.sleep(30)
    assert [request.connection for request in server.requests] == [1, 1, 1, 1]
    assert (server.requests[0].method, server.requests[0].target) == ("HEAD", "/v1/models")
    assert "authorization" not in server.requests[0].headers


async def test_cut_answer_ends_on_the_server_at_once(autojump_clock: trio.testing.MockClock) -> None:
    """A cancelled answer ends its request on the server at once, before or after its first word."""
    reply = ChatReply("One two three", first_token=0.5, duration=30.0)
    async with serve_openai([reply]) as server, shared_client():
        with trio.move_on_after(7.0):
            await answer_of(llm_of(server))
        await trio.testing.wait_all_tasks_blocked()
        with trio.move_on_after(0.25):  # before its first word
            await answer_of(llm_of(server))
        await trio.testing.wait_all_tasks_blocked()
    assert server.left == [7.0, 7.25]


async def test_closed_connection_is_replaced_on_request(
    autojump_clock: trio.testing.MockClock,
) -> None:
    """If the server closes the connection without an answer, the LLM asks once more; a second close is an error."""
    closed: list[int] = []

    async def rude(stream: trio.SocketStream) -> None:
        closed.append(1)
        if len(closed) in (1, 3, 4):
            await stream.receive_some(65536)
            await stream.aclose()
        else:
            await server.handle(stream)

    server = OpenAIServer([ChatReply("Yes.")])
    [listener] = await trio.open_tcp_listeners(0, host="127.0.0.1")
    async with trio.open_nursery() as nursery:
        nursery.start_soon(trio.serve_listeners, rude, [listener])
        llm = OpenAILLM(model="scripted", base_url=f"http://127.0.0.1:{listener.socket.getsockname()[1]}/v1")
        assert await answer_of(llm) == ["Yes."]
        with pytest.raises(PatterConnectionError, match="broke"):
            await answer_of(llm)
        nursery.cancel_scope.cancel()
    assert len(closed) == 4


async def test_unreachable_server_fails_only_the_answer(autojump_clock: trio.testing.MockClock) -> None:
    """With an unreachable server connect() succeeds, and the answer raises ProviderError."""
    async with serve_openai([ChatReply("Yes.")]) as server:
        pass
    await llm_of(server).connect()
    with pytest.raises(ProviderError, match="could not be reached"):
        await answer_of(llm_of(server))


async def test_fake_server_survives_a_client_that_stops_reading() -> None:
    """The fake OpenAI server survives a client that stops reading."""
    ours, theirs = trio.testing.memory_stream_pair()
    server = OpenAIServer([ChatReply("One two")])
    ours.receive_stream.close()
    await ours.send_all(b"POST /v1/chat/completions HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\n\r\n{}")
    await server.handle(theirs)
    assert len(server.left) == 1


# Failures -------------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("reply", "error", "message"),
    [
        (ChatReply(status=401, error="Bad key sk-hush"), AuthenticationError, "answered 401 Status$"),
        (ChatReply(status=403, error="No sk-hush"), AuthenticationError, "answered 403 Status$"),
        (ChatReply(status=429, error="Slow down."), RateLimitError, "answered 429 Status: Slow down."),
        (ChatReply(status=404, error="No such model."), ProviderError, "answered 404 Status: No such model."),
        (ChatReply(status=500, error=""), ProviderError, "answered 500 Status"),
        (ChatReply("One two", error="overloaded"), ProviderError, "the model failed: overloaded"),
        (ChatReply("One two", break_after=2), PatterConnectionError, "broke"),
        (ChatReply("One two", break_after=0), ProviderError, "broke"),
        (ChatReply("One two", hang_after=2), ProviderTimeout, "did not answer within 3 s"),
        (ChatReply("One two", first_token=9.0, status=500), ProviderTimeout, "did not answer within 2 s"),
        (ChatReply(finish_reason="content_filter"), ProviderError, "content filter"),
        (ChatReply(raw=b"data: {nonsense\n\n"), ProviderError, "must be JSON"),
        (ChatReply(raw=b"data: [1]\n\n"), ProviderError, "must be a JSON object"),
        (ChatReply(raw=b'data: {"choices": []}\n\n'), ProviderError, "before the answer was complete"),
        (ChatReply(raw=b"data: " + b"x" * (1 << 21)), ProviderError, "at most 1048576 bytes"),
    ],
)  # fmt: skip
async def test_openai_failure_raises_a_specific_error(
    autojump_clock: trio.testing.MockClock, reply: ChatReply, error: type[Exception], message: str
) -> None:
    """Each failure raises its specific ProviderError with a helpful message and without the key."""
    async with serve_openai([reply]) as server:
        with pytest.raises(error, match=message) as raised:
            await answer_of(llm_of(server, api_key="sk-hush", first_token=2.0, between=3.0))
    assert isinstance(raised.value, ProviderError)
    assert "hush" not in str(raised.value)


async def test_servers_that_leave_something_out_are_understood(autojump_clock: trio.testing.MockClock) -> None:
    """The LLM understands a stream without role, usage, [DONE] and final line break."""
    raw = b'data: {"choices": [{"delta": {"content": "Yes."}}]}\n\ndata: {"choices": [{"finish_reason": "stop"}]}'
    async with serve_openai([ChatReply(raw=raw)]) as server:
        assert await answer_of(llm_of(server)) == ["Yes."]


# The provider ---------------------------------------------------------------------------------------------------------
def test_missing_openai_key_error_names_its_sources(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without a key the ConfigurationError names the class, the argument and the environment variable."""
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    with pytest.raises(
        ConfigurationError, match="OpenAILLM: api_key= must be given, or the environment variable OPENAI_API_KEY set"
    ):
        OpenAILLM()
    monkeypatch.setenv("OPENAI_API_KEY", "sk-hush")
    assert OpenAILLM().api_key == "sk-hush"
    assert "hush" not in repr(OpenAILLM())


def test_other_servers_do_not_get_the_openai_key(monkeypatch: pytest.MonkeyPatch) -> None:
    """The LLM does not send the OpenAI key from the environment to another base_url."""
    monkeypatch.setenv("OPENAI_API_KEY", "sk-hush")
    ours = OpenAILLM(model="qwen", base_url="http://127.0.0.1:11434/v1/")
    assert (ours.api_key, ours.base_url, ours.provider) == ("", "http://127.0.0.1:11434/v1", "127.0.0.1")
    assert OpenAILLM(model="x", base_url="https://api.groq.com/openai/v1", api_key="k").provider == "groq"


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"temperature": 3}, "temperature= must be from 0 to 2, got 3"),
        ({"max_tokens": 0}, "max_tokens= must be from 1"),
        ({"base_url": "127.0.0.1:8000"}, "base_url= must be"),
        ({"base_url": "ws://127.0.0.1"}, "base_url= must be"),
        ({"model": None}, "model= must be a string that is not empty, got None"),
        ({"api_key": "a\nb"}, "api_key= must be printable ASCII without spaces"),
    ],
)
def test_invalid_openai_option_is_refused(options: dict[str, Any], message: str) -> None:
    """An invalid option of OpenAILLM raises ConfigurationError at construction."""
    with pytest.raises(ConfigurationError, match=message):
        OpenAILLM(**{"api_key": "k", **options})


def test_openai_gets_max_completion_tokens() -> None:
    """OpenAI itself receives max_tokens under the newer name max_completion_tokens."""
    assert OpenAILLM(api_key="k", max_tokens=5)._options([]) == {
        "max_completion_tokens": 5,
        "stream_options": {"include_usage": True},
    }
