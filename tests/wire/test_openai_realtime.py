"""The codec of OpenAI's Realtime messages, by table and at random; the vendor's own types judge it in the oracle."""

import base64
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from patter_trio.abc import ToolDefinition, Usage
from patter_trio.errors import AuthenticationError, PatterError, ProviderError, RateLimitError, WireError
from patter_trio.wire import openai_realtime as wire
from patter_trio.wire.openai_realtime import Refused, ResponseEnded, Status
from patter_trio.wire.openai_realtime._reader import MAX_ARGUMENT_CHARACTERS, MAX_NAME_CHARACTERS, MAX_TEXT_CHARACTERS

SOUND = base64.b64encode(b"\xff\x7f\x00").decode()
OF = {"event_id": "e", "response_id": "r", "item_id": "i", "output_index": 0, "content_index": 0}
CALL = {
    "id": "i", "object": "realtime.item", "type": "function_call", "status": "completed", "call_id": "c",
    "name": "hours",
    "arguments": '{"day":"Monday"}',
}  # fmt: skip
MESSAGE = {"id": "i", "type": "message", "role": "assistant", "status": "completed", "content": []}
TOKENS = {
    "total_tokens": 253, "input_tokens": 132, "output_tokens": 121,
    "input_token_details": {
        "text_tokens": 119, "audio_tokens": 13, "image_tokens": 0, "cached_tokens": 70,
        "cached_tokens_details": {"text_tokens": 64, "audio_tokens": 6, "image_tokens": 0},
    },
    "output_token_details": {"text_tokens": 30, "audio_tokens": 91},
}  # fmt: skip
COST = Usage(
    stage="llm", input_tokens=55, cache_read_tokens=64, audio_input_tokens=7, audio_cache_read_tokens=6,
    output_tokens=30, audio_output_tokens=91,
)  # fmt: skip
NO_QUOTA = {"type": "insufficient_quota", "code": "insufficient_quota", "message": "No money."}


def response(status: str | None = "completed", **more: Any) -> dict[str, Any]:
    return {"type": "response.done", "response": {"id": "r", "object": "realtime.response", "status": status, **more}}


def failing(code: str | None, message: str = "", **more: Any) -> dict[str, Any]:
    error = {"type": "invalid_request_error", "code": code, "message": message, "param": None, "event_id": None, **more}
    return {"type": "error", "event_id": "e", "error": error}


def received(message: dict[str, Any]) -> wire.Event | None:
    return wire.receive(json.dumps(message))


# What comes -----------------------------------------------------------------------------------------------------------
HEARD = "conversation.item.input_audio_transcription"
TABLE: list[tuple[dict[str, Any], wire.Event | None]] = [
    ({"type": "session.created", "session": {"id": "s", "type": "realtime"}}, wire.SessionReady(updated=False)),
    ({"type": "session.updated", "session": {"type": "realtime"}}, wire.SessionReady(updated=True)),
    ({"type": "input_audio_buffer.speech_started", "audio_start_ms": 1250, "item_id": "i"},
     wire.SpeechStarted(1.25, "i")),
    ({"type": "input_audio_buffer.speech_stopped", "audio_end_ms": 0, "item_id": "i"}, wire.SpeechStopped(0.0, "i")),
    ({"type": "input_audio_buffer.committed", "item_id": "i", "previous_item_id": None}, wire.Committed("i")),
    ({"type": "input_audio_buffer.committed", "item_id": "i", "previous_item_id": "h"}, wire.Committed("i", "h")),
    ({"type": "input_audio_buffer.cleared"}, None),
    ({"type": f"{HEARD}.delta", "item_id": "i", "delta": " are"}, wire.InputTranscript("i", " are", final=False)),
    ({"type": f"{HEARD}.delta", "item_id": "i", "delta": None}, wire.InputTranscript("i", "", final=False)),
    ({"type": f"{HEARD}.completed", "item_id": "i", "transcript": "Hello?"},
     wire.InputTranscript("i", "Hello?", final=True)),
    (
        {"type": f"{HEARD}.completed", "item_id": "i", "transcript": "Hello?",
         "usage": {"type": "duration", "seconds": 2}},
        wire.InputTranscript("i", "Hello?", final=True, usage=Usage(stage="stt", seconds=2.0)),
    ),
    (
        {"type": f"{HEARD}.completed", "item_id": "i", "transcript": "", "usage": {"type": "tokens", "input_tokens": 22,
         "output_tokens": 4, "total_tokens": 26, "input_token_details": {"text_tokens": 2, "audio_tokens": 20}}},
        wire.InputTranscript(
            "i", "", final=True, usage=Usage(stage="stt", input_tokens=2, audio_input_tokens=20, output_tokens=4)
        ),
    ),
    (
        {"type": f"{HEARD}.failed", "item_id": "i",
         "error": {"type": "transcription_error", "code": "audio_unintelligible"}},
        wire.TranscriptFailed("i", Refused("audio_unintelligible", "transcription_error")),
    ),
    ({"type": "response.created", "response": {"id": "r", "metadata": None}}, wire.ResponseStarted("r")),
    (
        {"type": "response.created", "response": {"id": "r", "metadata": {"request": "q", "a": "b"}}},
        wire.ResponseStarted("r", "q", {"request": "q", "a": "b"}),
    ),
    ({"type": "response.output_audio.delta", **OF, "delta": SOUND}, wire.AudioDelta("r", "i", b"\xff\x7f\x00")),
    ({"type": "response.output_audio.done", **OF}, wire.AudioDone("r", "i")),
    ({"type": "response.output_audio_transcript.delta", **OF, "delta": "We"}, wire.TextDelta("r", "i", "We")),
    ({"type": "response.output_audio_transcript.done", **OF, "transcript": "We"}, None),
    ({"type": "response.output_text.delta", **OF, "delta": "We"}, wire.TextDelta("r", "i", "We", spoken=False)),
    ({"type": "response.output_item.done", **OF, "item": MESSAGE}, wire.ItemDone("r", "i", completed=True)),
    (
        {"type": "response.output_item.done", **OF, "item": {**MESSAGE, "status": "incomplete"}},
        wire.ItemDone("r", "i", completed=False),
    ),
    ({"type": "response.output_item.done", **OF, "item": CALL},
     wire.FunctionCall("r", "i", "c", "hours", '{"day":"Monday"}')),
    ({"type": "response.output_item.done", **OF, "item": {**CALL, "status": "incomplete"}}, None),
    ({"type": "response.output_item.done", **OF, "item": {"type": "mcp_call", "name": "x", "arguments": {}}}, None),
    ({"type": "response.function_call_arguments.done", **OF, "call_id": "c", "name": "hours", "arguments": "{"}, None),
    (response(usage=TOKENS, metadata={"request": "q"}), ResponseEnded("r", Status.COMPLETED, "", "q", COST)),
    (response(None), ResponseEnded("r", Status.COMPLETED)),
    (
        response("cancelled", status_details={"type": "cancelled", "reason": "turn_detected"}),
        ResponseEnded("r", Status.CANCELLED, "turn_detected"),
    ),
    (
        response("incomplete", status_details={"type": "incomplete", "reason": "max_output_tokens"}),
        ResponseEnded("r", Status.INCOMPLETE, "max_output_tokens"),
    ),
    (
        response("failed", status_details={"type": "failed", "error": NO_QUOTA}),
        ResponseEnded(
            "r", Status.FAILED, "insufficient_quota",
            refusal=Refused("insufficient_quota", "insufficient_quota", "No money.")
        ),
    ),
    (response("exploded"), ResponseEnded("r", Status.FAILED)),
    ({"type": "conversation.item.truncated", "item_id": "i", "content_index": 0, "audio_end_ms": 1500},
     wire.Truncated("i", 1.5)),
    (
        failing("response_cancel_not_active", "Cancellation failed: no active response found", event_id="x", param="p"),
        Refused("response_cancel_not_active", "invalid_request_error",
         "Cancellation failed: no active response found", "p", "x"),
    ),
    ({"type": "rate_limits.updated", "rate_limits": "whatever"}, None),
    ({"type": "something.new", "response": 7}, None),
]  # fmt: skip


@pytest.mark.parametrize(("message", "event"), TABLE)
def test_realtime_message_is_read_as_text_and_bytes(message: dict[str, Any], event: wire.Event | None) -> None:
    """The codec reads a message both as text and as bytes."""
    assert received(message) == event
    assert wire.receive(json.dumps({**message, "news": [1]}).encode()) == event


USAGES: list[tuple[Any, Usage | None]] = [
    (None, None),
    ([], None),
    ({}, Usage(stage="llm")),
    ({"input_tokens": 5, "output_tokens": 2}, Usage(stage="llm", input_tokens=5, output_tokens=2)),
    (  # cached tokens without details: first the text
        {"input_tokens": 10, "input_token_details": {"text_tokens": 4, "audio_tokens": 6, "cached_tokens": 7}},
        Usage(stage="llm", cache_read_tokens=4, audio_input_tokens=3, audio_cache_read_tokens=3),
    ),
    (  # more cached than there is
        {"input_tokens": 4, "input_token_details": {"audio_tokens": 1, "cached_tokens": 99}},
        Usage(stage="llm", cache_read_tokens=3, audio_cache_read_tokens=1),
    ),
    (  # details only
        {"input_token_details": {"text_tokens": 3}, "output_token_details": {"audio_tokens": 8}},
        Usage(stage="llm", input_tokens=3, audio_output_tokens=8),
    ),
    ({"input_tokens": -5, "output_tokens": True, "input_token_details": 3}, Usage(stage="llm")),
]


@pytest.mark.parametrize(("given", "usage"), USAGES)
def test_partial_usage_counts_each_token_once(given: Any, usage: Usage | None) -> None:
    """The codec counts each token once, whichever usage details the response contains."""
    ended = received(response(usage=given))
    assert isinstance(ended, ResponseEnded)
    assert ended.usage == usage


@given(st.tuples(*[st.integers(0, 1000)] * 6))
def test_full_usage_loses_and_doubles_no_token(counts: tuple[int, ...]) -> None:
    """For any full usage details, the codec loses no token and counts none twice."""
    text, audio, text_cached, audio_cached, text_out, audio_out = counts
    text_cached, audio_cached = min(text_cached, text), min(audio_cached, audio)
    given = {
        "input_tokens": text + audio,
        "output_tokens": text_out + audio_out,
        "input_token_details": {
            "text_tokens": text,
            "audio_tokens": audio,
            "cached_tokens": text_cached + audio_cached,
            "cached_tokens_details": {"text_tokens": text_cached, "audio_tokens": audio_cached},
        },
        "output_token_details": {"text_tokens": text_out, "audio_tokens": audio_out},
    }
    ended = received(response(usage=given))
    assert isinstance(ended, ResponseEnded)
    assert ended.usage == Usage(
        stage="llm",
        input_tokens=text - text_cached,
        cache_read_tokens=text_cached,
        audio_input_tokens=audio - audio_cached,
        audio_cache_read_tokens=audio_cached,
        output_tokens=text_out,
        audio_output_tokens=audio_out,
    )


BROKEN: list[str | bytes] = [
    "", "null", "[]", "7", "{", "{}", '{"type":7}', b"\xff\xfe", '{"type":"error"}', '{"type":"error","error":"no"}',
    "[" * 100_000, '{"type":"error","error":' + "[" * 100_000,
    *(json.dumps(message) for message in (
        {"type": "session.created", "session": 7},
        {"type": "input_audio_buffer.speech_started", "audio_start_ms": -1, "item_id": "i"},
        {"type": "input_audio_buffer.speech_started", "audio_start_ms": 1e300, "item_id": "i"},
        {"type": "input_audio_buffer.speech_stopped", "audio_end_ms": "1", "item_id": "i"},
        {"type": "input_audio_buffer.committed"},
        {"type": "input_audio_buffer.committed", "item_id": "i" * (MAX_NAME_CHARACTERS + 1)},
        {"type": "response.created", "response": {"id": "r", "metadata": {"request": 7}}},
        {"type": "response.created", "response": {"id": "r", "metadata": {str(n): "" for n in range(17)}}},
        {"type": "response.output_audio.delta", **OF, "delta": "not base64"},
        {"type": "response.output_audio.delta", **OF, "delta": "é"},
        {"type": "response.output_audio.delta", **OF},
        {"type": "response.output_text.delta", "delta": "x"},
        {"type": "response.output_item.done", **OF, "item": {**CALL, "name": None}},
        {"type": "response.output_item.done", **OF, "item": {**CALL, "arguments": {}}},
        {"type": "response.output_item.done", **OF, "item": {**CALL, "arguments": "x" * (MAX_ARGUMENT_CHARACTERS + 1)}},
        {"type": "response.done"},
    )),
]  # fmt: skip


@pytest.mark.parametrize("message", BROKEN, ids=lambda message: str(message[:60]))
def test_realtime_protocol_violation_raises_wire_error(message: str | bytes) -> None:
    """A message that violates the Realtime protocol raises WireError."""
    with pytest.raises(WireError):
        wire.receive(message)


def test_texts_are_cut_at_their_bounds() -> None:
    """The codec cuts a text of more than 20,000 characters to 20,000."""
    long = "x" * (MAX_TEXT_CHARACTERS + 1)
    for message in (
        {"type": f"{HEARD}.delta", "item_id": "i", "delta": long},
        {"type": f"{HEARD}.completed", "item_id": "i", "transcript": long},
        {"type": "response.output_text.delta", **OF, "delta": long},
        {"type": "response.output_audio_transcript.delta", **OF, "delta": long},
    ):
        event = received(message)
        assert isinstance(event, wire.InputTranscript | wire.TextDelta)
        assert len(event.text) == MAX_TEXT_CHARACTERS


# Refusals -------------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("code", "kind", "fatal", "raised"),
    [
        ("invalid_api_key", "invalid_request_error", True, AuthenticationError),
        (None, "authentication_error", True, AuthenticationError),
        ("insufficient_quota", "insufficient_quota", True, RateLimitError),
        ("rate_limit_exceeded", "tokens", True, RateLimitError),
        ("session_expired", "invalid_request_error", True, ProviderError),
        (None, "server_error", True, ProviderError),
        ("model_not_found", "invalid_request_error", True, ProviderError),
        ("response_cancel_not_active", "invalid_request_error", False, ProviderError),
        ("conversation_already_has_active_response", "invalid_request_error", False, ProviderError),
        ("input_audio_buffer_commit_empty", "invalid_request_error", False, ProviderError),
        ("something_new", "invalid_request_error", False, ProviderError),
        (None, None, False, ProviderError),
    ],
)
def test_realtime_refusals_have_fatality_and_error_type(
    code: str | None, kind: str | None, fatal: bool, raised: type[ProviderError]
) -> None:
    """Each refusal has the right fatal flag and raises the matching ProviderError."""
    refused = received(failing(code, "So it is.", type=kind))
    assert isinstance(refused, Refused)
    assert refused.fatal is fatal
    assert type(refused.error()) is raised
    assert "So it is." in str(refused.error())


@pytest.mark.parametrize(
    ("message", "shown"),
    [
        ("Incorrect API key provided: sk-proj-a1*****9z. You can find it",
         "Incorrect API key provided: … You can find it"),
        ("Bad ephemeral key ek_68a1b2c3d4", "Bad ephemeral key …"),
        ("Bearer abcdef123 is no good", "… is no good"),
        ("Invalid value: 'my pin is 4711'. Use 'a' or 'b'.", "Invalid value: …. Use … or …."),
        ("The model's text 'it's the caller's own' was refused", "The model's text … was refused"),
        ('Invalid JSON "I live in', "Invalid JSON …"),
        ("Do `not\nsay` this", "Do … this"),
        ("x" * 1000, "x" * 300),
        ("No 'text' of " + "'" + "secret " * 5000, "No … of …"),
    ],
)  # fmt: skip
def test_a_refusal_quotes_neither_key_nor_words(message: str, shown: str) -> None:
    """The message of a refusal shows no key and no quoted text, and has at most 300 characters."""
    refused = received(failing("x", message))
    assert isinstance(refused, Refused)
    assert refused.message == shown


@pytest.mark.parametrize("message", BROKEN)
def test_errors_of_the_wire_quote_nothing(message: str | bytes) -> None:
    """A WireError quotes nothing of its message and has no cause."""
    text = message if isinstance(message, str) else ""
    secret = text.replace("not base64", "my pin is 4711").replace('"no"', '"my pin is 4711"')
    with pytest.raises(WireError) as raised:
        wire.receive(secret)
    assert "4711" not in str(raised.value)
    assert raised.value.__cause__ is None


def test_event_reprs_show_no_words() -> None:
    """The repr of an event shows neither words nor arguments of a tool call."""
    for message, event in TABLE:
        if isinstance(event, wire.InputTranscript | wire.TextDelta | wire.AudioDelta | wire.FunctionCall):
            assert "Hello" not in repr(received(message))
            assert "Monday" not in repr(received(message))


# By chance ------------------------------------------------------------------------------------------------------------
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=5,
)


@st.composite
def damaged(draw: st.DrawFn) -> str | bytes:
    """Draw a message of the table with some values replaced, at any depth, or with its text cut."""
    message = json.loads(json.dumps(draw(st.sampled_from([message for message, _ in TABLE]))))
    for _ in range(draw(st.integers(0, 3))):
        place = message
        while inner := [value for value in place.values() if isinstance(value, dict)]:
            if draw(st.booleans()):
                break
            place = draw(st.sampled_from(inner))
        if place:
            place[draw(st.sampled_from(sorted(place)) | st.text(max_size=5))] = draw(JSON)
    text = json.dumps(message)
    if draw(st.booleans()):
        text = text[: draw(st.integers(0, len(text)))]
    return text if draw(st.booleans()) else text.encode()


@given(damaged() | st.text() | st.binary())
def test_any_realtime_message_is_read_ignored_or_refused(message: str | bytes) -> None:
    """The codec reads any message, ignores it, or raises WireError."""
    try:
        event = wire.receive(message)
    except WireError:
        return
    if isinstance(event, ResponseEnded) and event.usage is not None:
        assert min(event.usage.input_tokens, event.usage.audio_input_tokens, event.usage.cache_read_tokens) >= 0
    assert event is None or repr(event)


# What is sent ---------------------------------------------------------------------------------------------------------
HOURS = ToolDefinition("hours", "When we are open.", {"type": "object", "properties": {"day": {"type": "string"}}})
THEIR_HOURS = {
    "type": "function", "name": "hours", "description": "When we are open.",
    "parameters": {"type": "object", "properties": {"day": {"type": "string"}}},
}  # fmt: skip
MULAW = {"type": "audio/pcmu"}


def test_session_update_contains_every_setting() -> None:
    """A session update contains every setting of the session."""
    message = wire.session_update(
        instructions="Be brief.",
        voice="marin",
        turn_detection=wire.ServerVAD(threshold=0.6, prefix_padding=0.25, silence=0.4, interrupt_response=False),
        transcription="gpt-live-transcribe",
        language="pt-BR",
        tools=[HOURS],
        noise_reduction="near_field",
        max_output_tokens=500,
        parallel_tool_calls=False,
        speed=1.1,
        reasoning="low",
        event_id="set up",
    )
    assert json.loads(message) == {
        "type": "session.update",
        "event_id": "set up",
        "session": {
            "type": "realtime",
            "output_modalities": ["audio"],
            "instructions": "Be brief.",
            "audio": {
                "input": {
                    "format": MULAW,
                    "turn_detection": {
                        "type": "server_vad",
                        "threshold": 0.6,
                        "prefix_padding_ms": 250,
                        "silence_duration_ms": 400,
                        "create_response": True,
                        "interrupt_response": False,
                    },
                    "noise_reduction": {"type": "near_field"},
                    "transcription": {"model": "gpt-live-transcribe", "language": "pt"},
                },
                "output": {"format": MULAW, "voice": "marin", "speed": 1.1},
            },
            "tools": [THEIR_HOURS],
            "tool_choice": "auto",
            "max_output_tokens": 500,
            "parallel_tool_calls": False,
            "reasoning": {"effort": "low"},
        },
    }


def test_session_update_disables_unwanted_defaults() -> None:
    """A session update explicitly disables each OpenAI default that the session does not want."""
    session = json.loads(wire.session_update(instructions="", voice="cedar", turn_detection=None))["session"]
    nobody = {"format": MULAW, "turn_detection": None, "noise_reduction": None, "transcription": None}
    assert session["audio"] == {"input": nobody, "output": {"format": MULAW, "voice": "cedar"}}
    assert (session["tools"], session["max_output_tokens"]) == ([], "inf")
    assert not {"parallel_tool_calls", "reasoning"} & set(session)


def test_semantic_turn_detection_is_sent_on_request() -> None:
    """A session update requests semantic turn detection if the session asks for it."""
    message = wire.session_update(
        instructions="", voice="v", turn_detection=wire.SemanticVAD(eagerness="high", create_response=False)
    )
    assert json.loads(message)["session"]["audio"]["input"]["turn_detection"] == {
        "type": "semantic_vad",
        "eagerness": "high",
        "create_response": False,
        "interrupt_response": True,
    }


@pytest.mark.parametrize(
    ("message", "sent"),
    [
        (wire.append(b"\xff\x7f\x00"), {"type": "input_audio_buffer.append", "audio": SOUND}),
        (wire.commit(), {"type": "input_audio_buffer.commit"}),
        (wire.clear("e"), {"type": "input_audio_buffer.clear", "event_id": "e"}),
        (wire.create_response(), {"type": "response.create"}),
        (
            wire.create_response("q", instructions="Greet.", tools=False, context=False),
            {
                "type": "response.create",
                "event_id": "q",
                "response": {
                    "metadata": {"request": "q"}, "instructions": "Greet.", "tool_choice": "none", "input": [],
                },
            },
        ),
        (wire.create_response("q", event_id="e")[-18:], None),
        (wire.cancel(), {"type": "response.cancel"}),
        (wire.cancel("r", event_id="e"), {"type": "response.cancel", "response_id": "r", "event_id": "e"}),
        (
            wire.truncate("i", 1500),
            {"type": "conversation.item.truncate", "item_id": "i", "content_index": 0, "audio_end_ms": 1500},
        ),
        (
            wire.truncate("i", -1),
            {"type": "conversation.item.truncate", "item_id": "i", "content_index": 0, "audio_end_ms": 0},
        ),
        (
            wire.add_message("user", "Hello?", item_id="i", previous_item_id="root", event_id="e"),
            {
                "type": "conversation.item.create",
                "event_id": "e",
                "previous_item_id": "root",
                "item": {
                    "id": "i", "type": "message", "role": "user", "content": [{"type": "input_text", "text": "Hello?"}],
                },
            },
        ),
        (
            wire.add_function_call("c", "hours", "{}"),
            {
                "type": "conversation.item.create",
                "item": {"type": "function_call", "call_id": "c", "name": "hours", "arguments": "{}"},
            },
        ),
        (
            wire.add_function_output("c", "9 to 5"),
            {
                "type": "conversation.item.create",
                "item": {"type": "function_call_output", "call_id": "c", "output": "9 to 5"},
            },
        ),
        (wire.delete_item("i"), {"type": "conversation.item.delete", "item_id": "i"}),
    ],
)  # fmt: skip
def test_realtime_commands_match_vendor_format(message: str, sent: dict[str, Any] | None) -> None:
    """The codec writes each command in the format that OpenAI expects."""
    if sent is None:
        assert message.endswith('"event_id": "e"}')
    else:
        assert json.loads(message) == sent


@pytest.mark.parametrize(
    ("role", "kind"), [("system", "input_text"), ("user", "input_text"), ("assistant", "output_text")]
)
def test_message_content_type_follows_its_role(role: Any, kind: str) -> None:
    """The content type of a message follows from its role."""
    assert json.loads(wire.add_message(role, "x"))["item"]["content"] == [{"type": kind, "text": "x"}]


def test_lone_surrogate_and_quote_are_encoded_safely() -> None:
    """The codec encodes a lone surrogate and a quote as valid JSON."""
    assert json.loads(wire.add_message("user", 'half \ud83d "'))["item"]["content"][0]["text"] == 'half ? "'


@pytest.mark.parametrize("parameters", [{"x": b"bytes"}, {"x": float("nan")}])
def test_unencodable_realtime_tool_raises_provider_error(parameters: dict[str, Any]) -> None:
    """A tool that JSON cannot encode raises ProviderError."""
    with pytest.raises(ProviderError, match=r"session\.update cannot be encoded as JSON") as raised:
        wire.session_update(
            instructions="", voice="ash", turn_detection=None, tools=[ToolDefinition("x", "", parameters)]
        )
    assert isinstance(raised.value, PatterError)


@given(st.binary(max_size=2000))
def test_sound_comes_back_as_it_was(sound: bytes) -> None:
    """Audio that the codec encodes for sending decodes to the same bytes when it is received."""
    audio = json.loads(wire.append(sound))["audio"]
    event = received({"type": "response.output_audio.delta", **OF, "delta": audio})
    assert event == wire.AudioDelta("r", "i", sound)


def test_the_address_names_the_model() -> None:
    """The URL of the socket contains the escaped name of the model."""
    assert wire.socket_url("wss://api.openai.com/v1/", "a b&c") == "wss://api.openai.com/v1/realtime?model=a+b%26c"
