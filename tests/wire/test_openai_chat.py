"""The codec of OpenAI's chat completions: the differences between servers, and malformed messages."""

import json
import re
from collections.abc import Sequence
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from patter_trio.abc import ToolCall, Usage
from patter_trio.errors import AuthenticationError, ProviderError, RateLimitError
from patter_trio.wire.openai_chat import (
    MAX_RETURNED_CHARACTERS,
    ChatDecoder,
    alternating,
    messages_out,
    reason_of_refusal,
    request,
)


def chunk(delta: object, finish: str | None = None, **more: Any) -> str:
    return json.dumps({"choices": [{"index": 0, "delta": delta, "finish_reason": finish}], **more})


def decoded(*data: str, names: Sequence[str] = ()) -> tuple[str, list[ToolCall]]:
    decoder = ChatDecoder(names)
    return "".join(decoder.take(piece) for piece in data), decoder.calls()


def calls_of(*deltas: dict[str, Any], names: Sequence[str] = ()) -> list[ToolCall]:
    return decoded(*[chunk({"tool_calls": [delta]}) for delta in deltas], "[DONE]", names=names)[1]


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


DAY, ITEM = '{"day": "Monday"}', '{"item": "soup"}'


@pytest.mark.parametrize(
    "numbering",
    [{"index": 0, "id": ""}, {"index": 0, "id": None}, {"index": 0}, {"id": ""}, {}],
    ids=["empty id", "null id", "no id", "no index", "neither"],
)
@pytest.mark.parametrize("names", [(), ("hours_of", "price_of")], ids=["unknown tools", "known tools"])
@pytest.mark.parametrize("second", ["price_of", "hours_of"])
def test_parallel_calls_without_ids_stay_apart(numbering: dict[str, Any], names: Sequence[str], second: str) -> None:
    """Calls that a server neither numbers nor names stay apart, whether they come whole or in pieces."""
    whole = [{**numbering, **function("hours_of", DAY)}, {**numbering, **function(second, ITEM)}]
    pieces = [
        {**numbering, **function("hours_of", DAY[:5])}, {**numbering, **function("", DAY[5:])},
        {**numbering, **function(second, ITEM[:5])}, {**numbering, **function("", ITEM[5:])},
    ]  # fmt: skip
    expected = [ToolCall("", "hours_of", DAY), ToolCall("", second, ITEM)]
    for deltas in (whole, pieces):
        assert calls_of(*deltas, names=names) == expected
        together = ChatDecoder(names)
        together.take(chunk({"tool_calls": deltas}, "tool_calls"))
        assert together.calls() == expected


@pytest.mark.parametrize("numbering", [{"index": 0, "id": "a"}, {"index": 0}, {}])
def test_a_repeated_name_begins_no_call(numbering: dict[str, Any]) -> None:
    """A server that repeats the name with each piece of the arguments, or behind them, makes one call."""
    deltas = [{**numbering, **function("f", piece)} for piece in ("", '{"x"', ": 1}", "", " ")]
    assert [(call.name, call.arguments) for call in calls_of(*deltas)] == [("f", '{"x": 1} ')]


@pytest.mark.parametrize("names", [(), ("get_weather", "get_news")])
@pytest.mark.parametrize(
    "pieces", [("get_", "weather"), ("g", "et", "_wea", "ther"), ("get_", "get_weather"), ("get_weather",) * 3]
)
def test_a_name_in_pieces_is_joined(pieces: Sequence[str], names: Sequence[str]) -> None:
    """A tool's name that comes in pieces, or grows, or comes again, is one name."""
    deltas = [{"index": 0, "id": "a", **function(pieces[0])}, *({"index": 0, **function(one)} for one in pieces[1:])]
    assert calls_of(*deltas, {"index": 0, **function("", "{}")}, names=names) == [ToolCall("a", "get_weather", "{}")]


def test_calls_without_arguments_stay_apart() -> None:
    """Two calls without arguments, ids and numbers are two calls if both are tools that exist."""
    assert [call.name for call in calls_of(function("hours"), function("menu"), names=["hours", "menu"])] == [
        "hours",
        "menu",
    ]


def test_a_legacy_function_call_is_a_call() -> None:
    """The form before tools, ``function_call``, is a call without an id."""
    deltas = [{"function_call": {"name": "f", "arguments": ""}}, {"function_call": {"arguments": '{"x": 1}'}}]
    chunks = [chunk(delta) for delta in deltas]
    assert decoded(*chunks, chunk({}, "function_call"))[1] == [ToolCall("", "f", '{"x": 1}')]


@pytest.mark.parametrize("first", [0, 1, 7])
def test_only_one_choice_is_spoken(first: int) -> None:
    """Of several choices, in whatever order they come, the decoder returns the text of the first alone."""

    def both(one: str, other: str) -> str:
        choices = [{"index": first, "delta": {"content": one}}, {"index": first + 1, "delta": {"content": other}}]
        return json.dumps({"choices": choices})

    def alone(index: int, text: str) -> str:
        return json.dumps({"choices": [{"index": index, "delta": {"content": text}, "finish_reason": "stop"}]})

    chunks = [both("We ", "I "), alone(first + 1, "am"), alone(first, "open.")]
    assert decoded(*chunks, "[DONE]")[0] == "We open."


@pytest.mark.parametrize("empty", ["", " ", "\n", "\t "])
def test_empty_events_say_nothing(empty: str) -> None:
    """Events with empty data between the chunks, and before and behind them, are ignored."""
    parts = [chunk({"content": "Hel"}), chunk({"content": "lo."}, "stop"), "[DONE]"]
    assert decoded(empty, parts[0], empty, parts[1], empty, parts[2]) == ("Hello.", [])


# What goes back to the model ------------------------------------------------------------------------------------------
SIGNED = {"extra_content": {"google": {"thought_signature": "c2lnbmVk"}}}


def round_of(call: ToolCall) -> list[dict[str, Any]]:
    """Return the messages of a call and its result, as the conversation keeps them."""
    shown = {"id": call.id, "name": call.name, "arguments": call.arguments, "extra": call.extra}
    asked = {
        "role": "assistant",
        "content": "",
        "tool_calls": [shown],
        "origin": call.origin,
        "extra": call.answer_extra,
    }
    return [asked, {"role": "tool", "tool_call_id": call.id, "name": call.name, "content": "9 to 5"}]


def called(*deltas: dict[str, Any], origin: str = "vendor/m") -> ToolCall:
    decoder = ChatDecoder(origin=origin)
    for delta in deltas:
        decoder.take(chunk(delta))
    decoder.take("[DONE]")
    [call] = decoder.calls()
    return call


CALL = {"tool_calls": [{"index": 0, "id": "call_9aXk2LmQ0pRs", **function("f", "{}"), **SIGNED}]}


@pytest.mark.parametrize(
    ("deltas", "kept"),
    [
        ([{"reasoning_content": "look "}, {"reasoning_content": "it up"}], {"reasoning_content": "look it up"}),
        ([{"reasoning": "Hm."}, {"reasoning": None}], {"reasoning": "Hm."}),
        ([{"reasoning_details": [{"text": "a"}]}, {"reasoning_details": [{"data": "b"}]}],
         {"reasoning_details": [{"text": "a"}, {"data": "b"}]}),
        ([{"thinking_blocks": [{"signature": "s"}]}], {"thinking_blocks": [{"signature": "s"}]}),
        ([SIGNED], SIGNED),
        ([{"annotations": [1], "audio": None, "reasoning_content": ""}], {}),
    ],
)  # fmt: skip
def test_reasoning_goes_back_to_its_model(deltas: list[dict[str, Any]], kept: dict[str, Any]) -> None:
    """Reasoning, and unknown keys of a call, go back to the model that wrote them, and to no other."""
    call = called(*deltas, CALL)
    [asked, result] = messages_out(round_of(call), "vendor/m")
    function = {"name": "f", "arguments": "{}"}
    mine = {"id": "call_9aXk2LmQ0pRs", "type": "function", "function": function, **SIGNED}
    assert asked == {"role": "assistant", "tool_calls": [mine], **kept}
    assert result == {"role": "tool", "tool_call_id": "call_9aXk2LmQ0pRs", "content": "9 to 5"}
    [asked, result] = messages_out(round_of(call), "vendor/other")
    [name] = [one["id"] for one in asked["tool_calls"]]
    assert asked == {"role": "assistant", "tool_calls": [{"id": name, "type": "function", "function": function}]}
    assert result["tool_call_id"] == name


def test_reasoning_without_end_is_not_returned() -> None:
    """Reasoning of more than 200,000 characters does not go back, and the call does."""
    call = called({"reasoning_content": "x" * (MAX_RETURNED_CHARACTERS + 1)}, {"reasoning": "short"}, CALL)
    assert call.answer_extra == {"reasoning": "short"}


@pytest.mark.parametrize(
    ("given", "origin", "is_kept"),
    [
        ("call_9aXk2LmQ0pRs", "vendor/m", True),
        ("call_9aXk2LmQ0pRs", "vendor/other", False),
        ("call_1", "vendor/m", False),  # made up by the call, because the vendor gave none
        ("aB3dE6gH9", "vendor/other", True),
        ("abc", "", False),
        ("é" * 9, "", False),
        ("half \ud83d", "", False),
    ],
)
def test_ids_have_the_strictest_form(given: str, origin: str, *, is_kept: bool) -> None:
    """A call's id goes out as its vendor gave it, or with nine letters and digits, and its result has the same."""
    call = ToolCall(given, "f", "{}", "vendor/m")
    [asked, result] = messages_out(round_of(call), origin)
    [name] = [one["id"] for one in asked["tool_calls"]]
    assert result["tool_call_id"] == name
    assert (name == given) is is_kept
    assert is_kept or re.fullmatch("[a-zA-Z0-9]{9}", name)
    assert messages_out(round_of(call), origin) == [asked, result]


@pytest.mark.parametrize("content", [None, "", "So."])
def test_content_beside_calls_is_never_null(content: str | None) -> None:
    """A message that only calls tools has no content, in our own form and in the vendor's."""
    native = {"id": "a", "type": "function", "function": {"name": "f", "arguments": "{}"}}
    for call in (native, {"id": "a", "name": "f", "arguments": "{}"}):
        [out] = messages_out([{"role": "assistant", "content": content, "tool_calls": [call]}])
        assert out.get("content", "absent") == (content or "absent")


@pytest.mark.parametrize(
    ("reports", "usage"),
    [
        ([(900, 42), (0, 0)], Usage(stage="llm", input_tokens=900, output_tokens=42)),
        ([(900, 0), (0, 42)], Usage(stage="llm", input_tokens=900, output_tokens=42)),
        ([(900, 1), (900, 2), (900, 42)], Usage(stage="llm", input_tokens=900, output_tokens=42)),
        ([(0, 0)], None),
    ],
)
def test_zeros_of_usage_replace_nothing(reports: list[tuple[int, int]], usage: Usage | None) -> None:
    """A report of zero tokens leaves the number that came before it."""
    decoder = ChatDecoder()
    for prompt, output in reports:
        decoder.take(json.dumps({"choices": [], "usage": {"prompt_tokens": prompt, "completion_tokens": output}}))
    assert decoder.usage == usage


def test_too_many_calls_at_once_are_a_failure() -> None:
    """More than 128 tool calls in one answer raise ProviderError."""
    with pytest.raises(ProviderError, match="more than 128 tools"):
        calls_of(*[{"index": number, "id": str(number), **function("f")} for number in range(129)])


@pytest.mark.parametrize(
    ("more", "usage"),
    [
        ({"usage": {"prompt_tokens": 10, "completion_tokens": 2}},
         Usage(stage="llm", input_tokens=10, output_tokens=2)),
        ({"x_groq": {"usage": {"prompt_tokens": 1}}}, Usage(stage="llm", input_tokens=1)),
        ({"usage": {"prompt_tokens": 10, "prompt_tokens_details": {"cached_tokens": 99}}},
         Usage(stage="llm", cache_read_tokens=10)),
        ({"usage": {"prompt_tokens": -1, "completion_tokens": "2", "prompt_tokens_details": None}}, None),
        ({"usage": {"prompt_tokens": 0, "completion_tokens": 0}}, None),
        ({"usage": {"prompt_tokens": 0, "completion_tokens": 42}}, Usage(stage="llm", output_tokens=42)),
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
    assert messages_out([message]) == [message]
    parts = {"role": "user", "content": [{"type": "text", "text": "Hello?"}]}
    assert messages_out([parts]) == [parts]


def test_unencodable_chat_message_raises_provider_error() -> None:
    """A message that JSON cannot encode raises ProviderError."""
    with pytest.raises(ProviderError, match="cannot be encoded as JSON"):
        request("m", [{"role": "user", "content": b"bytes"}])
    assert b"?" in request("m", [{"role": "user", "content": "half \ud83d"}])


SYSTEM = {"role": "system", "content": "Be brief."}
CALLS = [{"id": "a", "type": "function", "function": {"name": "f", "arguments": "{}"}}]


@pytest.mark.parametrize(
    ("messages", "expected"),
    [
        pytest.param(
            [SYSTEM, {"role": "assistant", "content": "Hello."}, {"role": "user", "content": "hi"}],
            [
                SYSTEM,
                {"role": "user", "content": "(begin)"},
                {"role": "assistant", "content": "Hello."},
                {"role": "user", "content": "hi"},
            ],
            id="a greeting",
        ),
        pytest.param(
            [SYSTEM, {"role": "user", "content": "hello"}, {"role": "user", "content": "are you there?"}],
            [SYSTEM, {"role": "user", "content": "hello\nare you there?"}],
            id="a reply without a word",
        ),
        pytest.param(
            [
                {"role": "user", "content": "hello"},
                {"role": "assistant", "content": "One moment."},
                {"role": "assistant", "content": "We open at nine."},
                {"role": "assistant", "tool_calls": CALLS},
                {"role": "tool", "tool_call_id": "a", "content": "x"},
                {"role": "assistant", "content": "Done."},
            ],
            [
                {"role": "user", "content": "hello"},
                {"role": "assistant", "content": "One moment.\nWe open at nine.", "tool_calls": CALLS},
                {"role": "tool", "tool_call_id": "a", "content": "x"},
                {"role": "assistant", "content": "Done."},
            ],
            id="texts in a row and a tool",
        ),
        pytest.param(
            [
                {"role": "developer", "content": "x"},
                SYSTEM,
                {"role": "user", "content": [{"type": "text", "text": "a"}]},
                {"role": "user", "content": "b"},
                {"role": "user", "name": "Ann", "content": "c"},
                {"role": "user", "content": "d"},
            ],
            [
                {"role": "developer", "content": "x"},
                SYSTEM,
                {"role": "user", "content": [{"type": "text", "text": "a"}]},
                {"role": "user", "name": "Ann", "content": "b\nc"},
                {"role": "user", "content": "d"},
            ],
            id="messages of the application's own",
        ),
        pytest.param([SYSTEM], [SYSTEM], id="no conversation"),
        pytest.param([], [], id="nothing"),
    ],
)
def test_roles_take_turns(messages: list[dict[str, Any]], expected: list[dict[str, Any]]) -> None:
    """Neighbours of one role become one message, and a conversation begins with the user."""
    before = json.dumps(messages)
    assert alternating(messages, "(begin)") == expected
    assert json.dumps(messages) == before


def test_conversation_may_begin_with_assistant() -> None:
    """Without an opening text, a greeting stays the first message."""
    greeting = {"role": "assistant", "content": "Hello."}
    assert alternating([SYSTEM, greeting]) == [SYSTEM, greeting]
