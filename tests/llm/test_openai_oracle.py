"""The vendor's own package as the judge of our requests, of our decoder and of our fake server."""

import json
import sys
from collections.abc import Mapping
from typing import Any

import pytest
import trio
import trio.testing

from patter_trio.abc import Message, ToolCall, ToolDefinition, Usage
from patter_trio.errors import ProviderError
from patter_trio.llm.openai import OpenAILLM
from patter_trio.testing.servers.openai import ChatReply, ChatRequest, serve_openai
from patter_trio.wire.openai_chat import ChatDecoder, request

pytest.importorskip("openai", reason="the vendor's package is an oracle: pip install patter-trio[oracles]")

from openai.types.chat import ChatCompletionChunk
from openai.types.chat.completion_create_params import CompletionCreateParamsStreaming
from pydantic import TypeAdapter, ValidationError

from tests.kit.oracle import complaints

pytestmark = pytest.mark.no_coverage

CALL = {"id": "a", "name": "hours", "arguments": '{"day": "Monday"}'}
MESSAGES: list[Message] = [
    {"role": "system", "content": "Be brief."},
    {"role": "user", "content": "When are you open?"},
    {"role": "assistant", "content": "Let me see.", "tool_calls": [CALL]},
    {"role": "tool", "tool_call_id": "a", "name": "hours", "content": "9 to 5"},
    {"role": "assistant", "content": "", "tool_calls": [{**CALL, "id": "b"}]},
    {"role": "tool", "tool_call_id": "b", "name": "hours", "content": "9 to 5"},
    {"role": "assistant", "content": "From nine to five."},
]
HOURS = ToolDefinition("hours", "When we are open.", {"type": "object", "properties": {"day": {"type": "string"}}})
LLM = OpenAILLM(
    model="gpt-4o-mini",
    api_key="k",
    temperature=0.5,
    top_p=0.9,
    max_tokens=100,
    reasoning_effort="low",
    parallel_tool_calls=False,
)


def whole(value: Any) -> Any:
    """Return a validated value with the iterables in it read, which validates them, too."""
    if isinstance(value, Mapping):
        return {key: whole(item) for key, item in value.items()}
    if isinstance(value, str | bytes | int | float | None):
        return value
    return [whole(item) for item in value]


def refused(body: dict[str, Any]) -> str:
    """Return why the vendor's types refuse a body; a key that they do not know gets lost on the way."""
    try:
        known = whole(TypeAdapter(CompletionCreateParamsStreaming).validate_python(body))
    except ValidationError as error:
        return str(error)
    return "" if known == body else "unknown keys"


def body_of(messages: list[Message] = MESSAGES) -> dict[str, Any]:
    body: dict[str, Any] = json.loads(request(LLM.model, messages, [HOURS], LLM._options([HOURS])))
    return body


def test_what_we_send_is_what_the_vendor_knows() -> None:
    """The vendor's types accept the request of OpenAILLM and know each of its keys."""
    assert not refused(body_of())


@pytest.mark.deep
@pytest.mark.parametrize(
    "spoilt",
    [
        {"temprature": 1},
        {"model": 3},
        {"stream": False},
        {"messages": [{"role": "user"}]},
        {"messages": [{"role": "tool", "content": "x"}]},
        {"messages": [{"role": "user", "content": "x", "nam": "y"}]},
        {"tools": [{"type": "function", "function": {"description": "no name"}}]},
    ],
)
def test_a_mistake_would_have_been_noticed(spoilt: dict[str, Any]) -> None:
    """The oracle refuses a request with a misspelt key, a wrong value or a missing field."""
    assert refused({**body_of(), **spoilt})


async def chunks_of(reply: ChatReply) -> list[dict[str, Any]]:
    """Return the chunks that our fake server sends."""
    ours, theirs = trio.testing.memory_stream_pair()
    async with serve_openai([reply]) as server, trio.open_nursery() as nursery:
        nursery.start_soon(server.handle, theirs)
        body = json.dumps(body_of()).encode()
        head = f"POST /v1/chat/completions HTTP/1.1\r\nHost: x\r\nContent-Length: {len(body)}\r\n\r\n"
        await ours.send_all(head.encode() + body)
        got = b""
        while b"[DONE]" not in got:
            got += await ours.receive_some(65536)
        nursery.cancel_scope.cancel()
    lines = [line for line in got.split(b"\r\n") if line.startswith(b"data: {")]
    return [json.loads(line.removeprefix(b"data: ")) for line in lines]


REPLY = ChatReply("Let me see.", tool_calls=[ToolCall("a", "hours", '{"day": "Monday"}')], usage=(90, 7, 64))


@pytest.mark.deep
async def test_fake_server_chunks_match_vendor_types() -> None:
    """The chunks of the fake server match the vendor's types, and a wrong chunk is reported."""
    chunks = await chunks_of(REPLY)
    assert [complaints(ChatCompletionChunk, chunk) for chunk in chunks] == [[]] * len(chunks)
    assert complaints(ChatCompletionChunk, {**chunks[0], "object": "chat.completion"})
    assert complaints(ChatCompletionChunk, {**chunks[0], "chioces": []}) == [".chioces: unknown"]


def full(**delta: Any) -> dict[str, Any]:
    choice = {"index": 0, "delta": delta, "finish_reason": None, "logprobs": {"content": [], "refusal": []}}
    return {"id": "x", "created": 1, "model": "m", "object": "chat.completion.chunk", "choices": [choice]}


USAGE = {
    "prompt_tokens": 9,
    "completion_tokens": 5,
    "total_tokens": 14,
    "prompt_tokens_details": {"cached_tokens": 4, "audio_tokens": 0},
    "completion_tokens_details": {
        "reasoning_tokens": 3, "audio_tokens": 0, "accepted_prediction_tokens": 0, "rejected_prediction_tokens": 0,
    },
}  # fmt: skip


@pytest.mark.deep
@pytest.mark.parametrize(
    ("chunk", "text"),
    [
        (full(role="assistant", content=""), ""),
        (full(content="Yes."), "Yes."),
        (full(refusal="No."), "No."),
        (full(function_call={"name": "f", "arguments": "{}"}), ""),
        (full(tool_calls=[{"index": 0, "id": "a", "type": "function", "function": {"name": "f", "arguments": ""}}]),
         ""),
        ({**full(), "choices": [], "usage": USAGE, "service_tier": "priority", "system_fingerprint": "f"}, ""),
        *(({**full(), "choices": [{"index": 0, "delta": {}, "finish_reason": reason}]}, "")
          for reason in ("stop", "length", "tool_calls", "content_filter", "function_call")),
    ],
)  # fmt: skip
def test_whatever_the_vendors_models_can_say_is_understood(chunk: dict[str, Any], text: str) -> None:
    """The decoder understands each kind of chunk as the vendor's models write it, with null for absent keys."""
    model = TypeAdapter(ChatCompletionChunk).validate_python(chunk)
    assert complaints(ChatCompletionChunk, chunk) == []
    decoder = ChatDecoder()
    assert decoder.take(model.model_dump_json()) == text
    if chunk.get("usage"):
        assert decoder.usage == Usage(stage="llm", input_tokens=5, cache_read_tokens=4, output_tokens=5)


@pytest.mark.deep
def test_every_reason_of_an_end_is_known() -> None:
    """The vendor knows exactly five finish reasons; a sixth shows that the protocol has changed."""
    reasons = TypeAdapter(ChatCompletionChunk).json_schema()["$defs"]["Choice"]["properties"]["finish_reason"]
    [values] = [kind["enum"] for kind in reasons["anyOf"] if "enum" in kind]
    assert sorted(values) == ["content_filter", "function_call", "length", "stop", "tool_calls"]


CLIENT = """
import json, sys
from openai import OpenAI
client = OpenAI(api_key="k", base_url=sys.argv[1], max_retries=0)
body = json.loads(sys.argv[2])
chunks = [chunk.model_dump() for chunk in client.chat.completions.create(**body)]
print(json.dumps(chunks))
"""


@pytest.mark.deep
async def test_vendor_client_matches_ours_on_the_fake_server() -> None:
    """The vendor's client sends the same request as ours and understands the fake server's answer."""
    body = body_of()
    async with serve_openai([REPLY]) as server:
        asked = await trio.run_process(
            [sys.executable, "-c", CLIENT, server.base_url, json.dumps(body)], capture_stdout=True
        )
        async with OpenAILLM(model="gpt-4o-mini", base_url=server.base_url, api_key="k").stream(MESSAGES) as items:
            ours = [item async for item in items]
    theirs: ChatRequest = server.chats[0]
    assert theirs.body == body
    assert theirs.headers["authorization"] == server.chats[1].headers["authorization"]
    assert (theirs.method, theirs.target) == (server.chats[1].method, server.chats[1].target)
    received = [chunk["choices"][0]["delta"] for chunk in json.loads(asked.stdout) if chunk["choices"]]
    assert "".join(delta["content"] or "" for delta in received) == "".join(i for i in ours if isinstance(i, str))
    arguments = [delta["tool_calls"][0]["function"]["arguments"] for delta in received if delta["tool_calls"]]
    assert "".join(arguments) == '{"day": "Monday"}'
    assert json.loads(asked.stdout)[-1]["usage"]["prompt_tokens_details"]["cached_tokens"] == 64


@pytest.mark.deep
async def test_the_vendors_client_fails_where_ours_does() -> None:
    """An error in the middle of an answer fails both the vendor's client and OpenAILLM, with the server's message."""
    async with serve_openai([ChatReply("One two", error="overloaded")]) as server:
        process = await trio.run_process(
            [sys.executable, "-c", CLIENT, server.base_url, json.dumps(body_of())], capture_stderr=True, check=False
        )
        with pytest.raises(ProviderError, match="overloaded"):
            async with OpenAILLM(model="m", base_url=server.base_url).stream(MESSAGES) as items:
                assert [item async for item in items]
    assert process.returncode == 1
    assert b"overloaded" in process.stderr
