"""The codec of OpenAI's chat completions: the differences between servers, and malformed messages."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from patter_trio.abc import ToolCall, Usage
from patter_trio.errors import AuthenticationError, ProviderError, RateLimitError
from patter_trio.wire.openai_chat import ChatDecoder, message_out, reason_of_refusal, request


def chunk(delta: object, finish: str | None = None, **more: Any) -> str:
    return json.dumps({"choices": [{"index": 0, "delta": delta, "finish_reason": finish}], **more})


def decoded(*data: str) -> tuple[str, list[ToolCall]]:
    decoder = ChatDecoder()
    return "".join(decoder.take(piece) for piece in data), decoder.calls()


def calls_of(*deltas: dict[str, Any]) -> list[ToolCall]:
    return decoded(*[chunk({"tool_calls": [delta]}) for delta in deltas], "[DONE]")[1]


def function(name: str = "", arguments: object = "") -> dict[str, Any]:
    return {"function": {"name": name, "arguments": arguments}}


@pytest.mark.parametrize(
    ("deltas", "calls"),
    [
        (  # as the vendor has it: id and name only in the first
            [{"index": 0, "id": "a", **function("f")}, {"index": 0, "function": {"arguments": '{"x"'}},
             {"index": 1, "id": "b", **function("g")}, {"index": 0, "function": {"arguments": ": 1}"}}],
            [ToolCall("a", "f", '{"x": 1}'), ToolCall("b", "g", "{}")],
        ),
        (  # whole calls, all of them with number 0
            [{"index": 0, "id": "a", **function("f", "{}")}, {"index": 0, "id": "b", **function("f", "[]")}],
            [ToolCall("a", "f", "{}"), ToolCall("b", "f", "[]")],
        ),
        (  # without numbers
            [{"id": "a", **function("f")}, function("", "{"), function("", "}"), {"id": "b", **function("g", "{}")}],
            [ToolCall("a", "f", "{}"), ToolCall("b", "g", "{}")],
        ),
        ([{"index": 0, **function("f", {"x": 1})}], [ToolCall("", "f", '{"x": 1}')]),  # without id, as an object
        ([{"index": 0, "id": "a", "function": None}], []),  # nothing is called
        ([{"index": "0", "id": 7, "function": {"name": 7, "arguments": 7}}], []),
    ],
)  # fmt: skip
def test_streamed_tool_calls_assemble_for_each_server(deltas: list[Any], calls: list[ToolCall]) -> None:
    """The codec assembles streamed tool calls from the chunks of each kind of server."""
    assert calls_of(*deltas) == calls


def test_too_many_calls_at_once_are_a_failure() -> None:
    """More than 128 tool calls in one answer raise ProviderError."""
    with pytest.raises(ProviderError, match="more than 128 tools"):
        calls_of(*[{"index": number, "id": str(number), **function("f")} for number in range(129)])


@pytest.mark.parametrize(
    ("more", "usage"),
    [
        ({"usage": {"prompt_tokens": 10, "completion_tokens": 2}}, Usage(stage="llm", input_tokens=10, output_tokens=2)),
        ({"x_groq": {"usage": {"prompt_tokens": 1}}}, Usage(stage="llm", input_tokens=1)),
        ({"usage": {"prompt_tokens": 10, "prompt_tokens_details": {"cached_tokens": 99}}}, Usage(stage="llm", cache_read_tokens=10)),
        ({"usage": {"prompt_tokens": -1, "completion_tokens": "2", "prompt_tokens_details": None}}, Usage(stage="llm")),
        ({"usage": None}, None),
        ({"usage": [1]}, None),
    ],
)  # fmt: skip
def test_usage_is_taken_from_wherever_it_is(more: dict[str, Any], usage: Usage | None) -> None:
    """The decoder reads the usage at each place where servers put it, and never counts below 0."""
    decoder = ChatDecoder()
    decoder.take(json.dumps({"choices": [], **more}))
    assert decoder.usage == usage


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        ({"message": "slow", "code": "rate_limit_exceeded"}, RateLimitError),
        ({"message": "key", "type": "authentication_error"}, AuthenticationError),
        ({"message": "busy", "type": "server_error"}, ProviderError),
        ("busy", ProviderError),
        ([1], ProviderError),
    ],
)
def test_an_error_within_the_stream_is_one(error: object, kind: type[ProviderError]) -> None:
    """An error within the stream raises the error class of its code or type."""
    with pytest.raises(ProviderError, match="the model failed") as raised:
        ChatDecoder().take(json.dumps({"error": error}))
    assert type(raised.value) is kind


def test_surrogate_pairs_join_and_lone_halves_are_replaced() -> None:
    """The codec joins a surrogate pair across chunks and replaces a lone half."""
    halves = ['{"choices": [{"delta": {"content": "a\\ud83d"}}]}', '{"choices": [{"delta": {"content": "\\ude00b"}}]}']
    assert decoded(*halves, "[DONE]")[0] == "a\U0001f600b"
    assert decoded(halves[1], "[DONE]")[0] == "\ufffdb"


def test_parts_of_content_are_text_where_they_are() -> None:
    """Of content in parts, the decoder returns the text of the text parts only."""
    parts = [{"type": "text", "text": "Yes"}, {"type": "image"}, {"type": "text", "text": 3}, "x"]
    assert decoded(chunk({"content": parts}), "[DONE]")[0] == "Yes"


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=8),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(
                [
                    "choices",
                    "delta",
                    "content",
                    "tool_calls",
                    "index",
                    "id",
                    "function",
                    "name",
                    "arguments",
                    "usage",
                    "prompt_tokens",
                    "finish_reason",
                    "refusal",
                    "x_groq",
                    "type",
                    "text",
                    "prompt_tokens_details",
                    "cached_tokens",
                ]
            ),
            inner,
            max_size=5,
        )
    ),
    max_leaves=25,
)


@given(chunks=st.lists(JSON.map(json.dumps) | st.text(max_size=20), max_size=4))
def test_whatever_comes_is_understood_or_a_providers_failure(chunks: list[str]) -> None:
    """For any chunks, the decoder returns encodable text and named calls, or raises ProviderError."""
    decoder = ChatDecoder()
    try:
        said = "".join(decoder.take(data) for data in chunks)
        calls = decoder.calls()
    except ProviderError:
        return
    assert said.encode() is not None
    assert all(call.name and isinstance(call.arguments, str) for call in calls)


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        (b'{"error": {"message": "No such model."}}', "No such model."),
        (b'[{"error": {"message": "In a list."}}]', "In a list."),
        (b'{"error": "As text."}', "As text."),
        (b'{"message": "Alone."}', "Alone."),
        (b'{"error": {"message": 3}}', ""),
        (b"<html>", ""),
        (b"\xff", ""),
        (b"", ""),
    ],
)
def test_the_reason_of_a_refusal_is_found(body: bytes, reason: str) -> None:
    """The reason of a refusal is found in each form of an error body, and is empty for other bodies."""
    assert reason_of_refusal(body) == reason


def test_native_chat_messages_pass_unchanged() -> None:
    """Messages in the OpenAI format pass through unchanged."""
    call = {"id": "a", "type": "function", "function": {"name": "f", "arguments": "{}"}}
    message = {"role": "assistant", "content": "So.", "tool_calls": [call]}
    assert message_out(message) == message
    parts = {"role": "user", "content": [{"type": "text", "text": "Hello?"}]}
    assert message_out(parts) == parts


def test_unencodable_chat_message_raises_provider_error() -> None:
    """A message that JSON cannot encode raises ProviderError."""
    with pytest.raises(ProviderError, match="cannot be encoded as JSON"):
        request("m", [{"role": "user", "content": b"bytes"}])
    assert b"?" in request("m", [{"role": "user", "content": "half \ud83d"}])
