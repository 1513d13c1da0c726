"""OpenAI's own package as the judge of our Realtime messages, of our codec, and of our fake server."""

from __future__ import annotations

import base64
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import trio
from hypothesis import given, settings
from hypothesis import strategies as st

from patter_trio.abc import ToolCall, ToolDefinition
from patter_trio.errors import WireError
from patter_trio.net.websocket_client import open_websocket
from patter_trio.testing.scripted_providers import audible_text
from patter_trio.testing.servers.openai_realtime import (
    FakeRealtime,
    RealtimeReply,
    RealtimeServerConnection,
    serve_openai_realtime,
)
from patter_trio.wire import openai_realtime as wire

pytest.importorskip("openai", reason="the vendor's package is an oracle: pip install patter-trio[oracles]")

from openai.types.realtime import RealtimeClientEvent, RealtimeServerEvent

from tests.kit.oracle import complaints, instances, members

pytestmark = pytest.mark.no_coverage

CLIENT = Path(__file__).parents[1] / "kit" / "vendor_clients" / "openai_realtime_client.py"
HOURS = ToolDefinition("hours", "When we are open.", {"type": "object", "properties": {"day": {"type": "string"}}})
FROM_US, FROM_THEM = members(RealtimeClientEvent), members(RealtimeServerEvent)
HEARD = "conversation.item.input_audio_transcription"
UNDERSTOOD: dict[str, tuple[type, ...]] = {
    "session.created": (wire.SessionReady,),
    "session.updated": (wire.SessionReady,),
    "input_audio_buffer.speech_started": (wire.SpeechStarted,),
    "input_audio_buffer.speech_stopped": (wire.SpeechStopped,),
    "input_audio_buffer.committed": (wire.Committed,),
    f"{HEARD}.delta": (wire.InputTranscript,),
    f"{HEARD}.completed": (wire.InputTranscript,),
    f"{HEARD}.failed": (wire.TranscriptFailed,),
    "conversation.item.truncated": (wire.Truncated,),
    "response.created": (wire.ResponseStarted,),
    "response.done": (wire.ResponseEnded,),
    "response.output_item.done": (wire.ItemDone, wire.FunctionCall, type(None)),
    "response.output_audio.delta": (wire.AudioDelta,),
    "response.output_audio.done": (wire.AudioDone,),
    "response.output_audio_transcript.delta": (wire.TextDelta,),
    "response.output_text.delta": (wire.TextDelta,),
    "error": (wire.Refused,),
}
OF_NO_INTEREST = {
    "conversation.created",  # never comes (any more)
    "conversation.item.created", "conversation.item.added", "conversation.item.done", "conversation.item.deleted",
    "conversation.item.retrieved",
    f"{HEARD}.segment",  # of who speaks
    "input_audio_buffer.cleared", "input_audio_buffer.timeout_triggered",
    "input_audio_buffer.dtmf_event_received",  # over SIP only
    "output_audio_buffer.started", "output_audio_buffer.stopped", "output_audio_buffer.cleared",  # WebRTC and SIP only
    "rate_limits.updated", "response.output_item.added", "response.content_part.added", "response.content_part.done",
    "response.output_audio_transcript.done", "response.output_text.done",  # all of them came in pieces
    "response.function_call_arguments.delta", "response.function_call_arguments.done",  # the item has them
    "mcp_list_tools.in_progress", "mcp_list_tools.completed", "mcp_list_tools.failed",
    "response.mcp_call_arguments.delta", "response.mcp_call_arguments.done", "response.mcp_call.in_progress",
    "response.mcp_call.completed", "response.mcp_call.failed",
}  # fmt: skip


# What we send ---------------------------------------------------------------------------------------------------------
SENT = {
    "set up": wire.session_update(instructions="Be brief.", voice="marin", turn_detection=None),
    "set up, all of it": wire.session_update(
        instructions="Be brief.",
        voice="cedar",
        turn_detection=wire.ServerVAD(threshold=0.6),
        transcription="gpt-live-transcribe",
        language="pt-BR",
        tools=[HOURS],
        noise_reduction="far_field",
        max_output_tokens=500,
        parallel_tool_calls=True,
        speed=1.1,
        reasoning="low",
        event_id="e",
    ),
    "judged by meaning": wire.session_update(
        instructions="", voice="ash", turn_detection=wire.SemanticVAD(eagerness="high")
    ),
    "append": wire.append(b"\xff\x7f"),
    "commit": wire.commit("e"),
    "clear": wire.clear("e"),
    "respond": wire.create_response(),
    "respond, all of it": wire.create_response("q", instructions="Greet.", tools=False, context=False, event_id="e"),
    "cancel": wire.cancel(event_id="e"),
    "cancel one": wire.cancel("r"),
    "truncate": wire.truncate("i", 1500, event_id="e"),
    "system": wire.add_message("system", "Be brief.", previous_item_id="root"),
    "user": wire.add_message("user", "Hello?", item_id="i", event_id="e"),
    "assistant": wire.add_message("assistant", "Yes?"),
    "call": wire.add_function_call("c", "hours", "{}", item_id="i", previous_item_id="h", event_id="e"),
    "output": wire.add_function_output("c", "9 to 5", item_id="i", previous_item_id="h", event_id="e"),
    "delete": wire.delete_item("i", event_id="e"),
}


def complaints_about(message: dict[str, Any], kinds: dict[str, Any]) -> list[str]:
    """Return the vendor's complaints about a message, by the model of the message's own type."""
    return complaints(kinds[message["type"]], message) if message["type"] in kinds else ["no such type"]


def spoilt(message: Any, place: tuple[str | int, ...] = ()) -> list[tuple[tuple[str | int, ...], Any]]:
    """Return copies of a message, each with an unknown key in one object other than schemas and metadata."""
    if isinstance(message, list):
        return [(where, [*message[:n], one, *message[n + 1 :]]) for n in range(len(message)) for where,
        one in spoilt(message[n], (*place, n))]  # fmt: skip
    if not isinstance(message, dict) or place[-1:] in (("parameters",), ("metadata",)):
        return []
    inner = [(where, {**message, key: one}) for key in message for where, one in spoilt(message[key], (*place, key))]
    return [(place, {**message, "typo": 1}), *inner]


@pytest.mark.parametrize("name", SENT)
def test_what_we_send_is_what_the_vendor_knows(name: str) -> None:
    """OpenAI's models accept each message that the codec sends and know all its keys."""
    message = json.loads(SENT[name])
    assert complaints_about(message, FROM_US) == []
    assert complaints(RealtimeClientEvent, message) == []


@pytest.mark.deep
@pytest.mark.parametrize("name", SENT)
def test_oracle_detects_typo_at_any_depth_sent(name: str) -> None:
    """The oracle detects a typo at any depth of a message that we send."""
    variants = spoilt(json.loads(SENT[name]))
    assert variants
    for place, message in variants:
        assert complaints_about(message, FROM_US), place


@pytest.mark.deep
@pytest.mark.parametrize("name", SENT)
def test_messages_without_required_key_are_refused(name: str) -> None:
    """OpenAI's models refuse each message of ours without one of its required keys."""
    message = json.loads(SENT[name])
    missing = [key for key, field in FROM_US[message["type"]].model_fields.items() if field.is_required()]
    for key in missing:
        assert complaints(RealtimeClientEvent, {name: value for name, value in message.items() if name != key})


@pytest.mark.deep
@pytest.mark.parametrize(
    "message",
    [
        {"type": "session.update", "session": {"modalities": ["audio", "text"], "input_audio_format": "g711_ulaw"}},
        {"type": "response.create", "response": {"modalities": ["audio"]}},
        {"type": "conversation.item.create",
         "item": {"type": "message", "role": "assistant", "content": [{"type": "text"}]}},
        {"type": "session.update",
         "session": {"type": "realtime", "audio": {"input": {"format": {"type": "g711_ulaw"}}}}},
        {"type": "session.update", "session": {"type": "realtime", "audio": {"output": {"voice": "nobody"}}}},
    ],
)  # fmt: skip
def test_the_betas_words_would_have_been_noticed(message: dict[str, Any]) -> None:
    """The oracle refuses messages with the names of the beta protocol, or with an unknown voice."""
    assert complaints_about(message, FROM_US)


@pytest.mark.deep
def test_client_event_types_are_sent_or_listed_unwanted() -> None:
    """OpenAI has two client event types that we do not send; another one shows that the protocol has changed."""
    ours = {json.loads(message)["type"] for message in SENT.values()}
    assert set(FROM_US) - ours == {"conversation.item.retrieve", "output_audio_buffer.clear"}


# What we understand ---------------------------------------------------------------------------------------------------
@pytest.mark.deep
def test_server_event_types_are_understood_or_ignored() -> None:
    """Each server event type is read or listed as ignored; a new one shows that the protocol has changed."""
    assert set(FROM_THEM) == UNDERSTOOD.keys() | OF_NO_INTEREST
    assert not UNDERSTOOD.keys() & OF_NO_INTEREST


@pytest.mark.deep
@given(st.data())
@pytest.mark.parametrize("kind", sorted(FROM_THEM))
def test_whatever_the_vendors_models_can_say_is_understood(kind: str, data: st.DataObject) -> None:
    """The codec reads any message of OpenAI's models as the event of its type, or ignores it if it is listed so."""
    message = data.draw(instances(FROM_THEM[kind]))
    if kind == "response.output_audio.delta":
        message["delta"] = base64.b64encode(message["delta"].encode()).decode()
    assert complaints_about(message, FROM_THEM) == []
    for text in (json.dumps(message), FROM_THEM[kind].model_validate(message).model_dump_json()):
        event = wire.receive(text)
        assert isinstance(event, UNDERSTOOD.get(kind, type(None)))
        if isinstance(event, wire.ResponseEnded):
            assert event.response_id == (message["response"].get("id") or "")
            received = message["response"].get("usage")
            assert (event.usage is None) is (received is None)
        if kind == "response.output_item.done" and message["item"]["type"] == "function_call":
            whole = message["item"].get("status") in (None, "completed")
            assert isinstance(event, wire.FunctionCall) is whole


REQUIRED = {
    "response.output_audio.delta": "delta",
    "response.output_text.delta": "delta",
    "input_audio_buffer.speech_started": "audio_start_ms",
    "conversation.item.truncated": "audio_end_ms",
    f"{HEARD}.completed": "transcript",
    "response.created": "response",
    "response.output_item.done": "item",
    "session.created": "session",
    "error": "error",
}


@pytest.mark.deep
@pytest.mark.parametrize("kind", REQUIRED)
@settings(max_examples=settings().max_examples // 8)  # each is tried for every kind and field
@given(st.data())
def test_incomplete_realtime_message_fails_both_checks(kind: str, data: st.DataObject) -> None:
    """The OpenAI models and the codec both refuse a message that lacks a required field."""
    message = data.draw(instances(FROM_THEM[kind]))
    del message[REQUIRED[kind]]
    assert complaints_about(message, FROM_THEM)
    with pytest.raises(WireError):
        wire.receive(json.dumps(message))


@pytest.mark.deep
def test_oracle_detects_typo_in_received_event() -> None:
    """The oracle detects a typo in an event that the server sends."""
    message = {"type": "input_audio_buffer.cleared", "event_id": "e"}
    assert complaints_about(message, FROM_THEM) == []
    assert complaints_about({**message, "typo": 1}, FROM_THEM)
    assert complaints_about({**message, "type": "response.audio.delta"}, FROM_THEM)


# The server that plays the vendor -------------------------------------------------------------------------------------
CALLS = [ToolCall("c", "hours", '{"day": "Monday"}')]
REPLIES = [
    RealtimeReply(text="Let me see.", seconds=0.4, first_audio=0.0, tool_calls=CALLS),
    RealtimeReply(text="One two three.", seconds=60.0, first_audio=0.0, speed=100.0),
    RealtimeReply(first_audio=0.0, error=("x", "server_error", "No.")),
    RealtimeReply(first_audio=0.0, status="incomplete", reason="max_output_tokens"),
]


async def events_of_a_session(script: FakeRealtime, rounds: int) -> RealtimeServerConnection:
    """Use all features in one session, and return the server's record of the connection."""
    async with serve_openai_realtime(script) as server:
        url, key = wire.socket_url(server.url, "gpt-realtime-2.1"), {"Authorization": "Bearer key"}
        async with open_websocket(url, headers=key) as socket:

            async def until(kind: type) -> Any:
                with trio.fail_after(600):
                    while not isinstance(event := wire.receive(await socket.receive()), kind):
                        pass
                    return event

            sound = audible_text.encode("Hello?", 20) + b"\xff" * 160 * 30
            await socket.send(SENT["set up, all of it"])
            await socket.send(wire.append(sound))
            await until(wire.InputTranscript if not script.transcript_fails else wire.TranscriptFailed)
            await until(wire.ResponseEnded)
            for message in (wire.add_function_output("c", "9 to 5"), SENT["user"], SENT["clear"]):
                await socket.send(message)
            for number in range(rounds):
                await socket.send(wire.create_response(f"q{number}"))
                if number == 0:
                    delta = await until(wire.AudioDelta)
                    await socket.send(wire.cancel())
                    await socket.send(wire.truncate(delta.item_id, 10))
                await until(wire.ResponseEnded)
            await socket.send(wire.delete_item("i"))
            await socket.send('{"type": "conversation.item.retrieve", "item_id": "nobody"}')
            await until(wire.Refused)
    return server.connections[0]


@pytest.mark.deep
@pytest.mark.parametrize("fails", [False, True])
async def test_realtime_server_sends_only_vendor_events(fails: bool, autojump_clock: object) -> None:
    """Every event that our fake server sends fits the OpenAI models."""
    script = FakeRealtime(replies=REPLIES, transcript_delay=0.0, transcript_fails=fails)
    connection = await events_of_a_session(script, 3)
    for _, event in connection.emitted:
        assert complaints_about(event, FROM_THEM) == [], event
    for _, message in connection.said:
        assert complaints_about(message, FROM_US) == [], message
    kinds = {event["type"] for _, event in connection.emitted}
    assert kinds - OF_NO_INTEREST >= UNDERSTOOD.keys() - {
        "response.output_text.delta", *((f"{HEARD}.delta", f"{HEARD}.completed") if fails else (f"{HEARD}.failed",)),
    }  # fmt: skip
    statuses = [event["response"]["status"] for _, event in connection.events("response.done")]
    assert statuses == ["completed", "cancelled", "failed", "incomplete"]


# The vendor's client --------------------------------------------------------------------------------------------------
async def run_client(url: str, key: str, session: dict[str, Any], audio: bytes) -> subprocess.CompletedProcess[bytes]:
    command = [sys.executable, "-W", "ignore", str(CLIENT), url, key, json.dumps(session)]
    with trio.fail_after(60):
        return await trio.run_process(command, stdin=audio, capture_stdout=True, capture_stderr=True, check=False)


@pytest.mark.deep
async def test_openai_client_matches_us_and_our_server() -> None:
    """The OpenAI client sends the same requests as we do and understands our fake server."""
    reply = RealtimeReply(text="Good morning.", seconds=0.6, first_audio=0.0, speed=100.0)
    session = json.loads(SENT["set up"])["session"]
    audio = audible_text.encode("What time is it?", 30)
    async with serve_openai_realtime(FakeRealtime(replies=[reply])) as server:
        done = await run_client(server.url, "key", session, audio)
        assert done.returncode == 0, done.stderr.decode()
        url = wire.socket_url(server.url, "gpt-realtime-2.1")
        async with open_websocket(url, headers={"Authorization": "Bearer key"}) as socket:
            item_id = ""
            ours = [
                SENT["set up"],
                *(wire.append(audio[n : n + 160]) for n in range(0, len(audio), 160)),
                wire.commit(),
            ]
            for message in [*ours, wire.create_response("q")]:
                await socket.send(message)
            while not isinstance(event := wire.receive(await socket.receive()), wire.ResponseEnded):
                item_id = event.item_id if isinstance(event, wire.AudioDelta) else item_id
            await socket.send(wire.truncate(item_id, 100))
            await socket.send(wire.cancel())
            while not isinstance(wire.receive(await socket.receive()), wire.Refused):
                pass
    theirs, mine = server.connections
    assert [message for _, message in theirs.said[:-2]] == [message for _, message in mine.said[:-2]]
    cuts = [{**connection.said[-2][1], "item_id": ""} for connection in server.connections]
    assert cuts[0] == cuts[1]
    assert theirs.said[-1][1] == mine.said[-1][1] == {"type": "response.cancel"}
    assert (theirs.path, theirs.query, theirs.audio) == (mine.path, mine.query, mine.audio)
    assert theirs.headers["authorization"] == mine.headers["authorization"]
    assert "openai-beta" not in {name.lower() for name in theirs.headers}
    received = json.loads(done.stdout)
    assert received == [event for _, event in theirs.emitted]  # with nothing lost, and nothing that it has no name for
    sound = b"".join(base64.b64decode(one["delta"]) for one in received if one["type"] == "response.output_audio.delta")
    assert sound == audible_text.encode("Good morning.", 30, utterance=1, part=1)
    again = [wire.receive(json.dumps(one)) for one in received]
    assert b"".join(event.audio for event in again if isinstance(event, wire.AudioDelta)) == sound
    assert server.asked[0].heard == "What time is it?"


@pytest.mark.deep
async def test_openai_client_with_wrong_key_is_refused() -> None:
    """Our fake server refuses the OpenAI client with status 401 when its key is wrong, and opens no session."""
    async with serve_openai_realtime() as server:
        done = await run_client(server.url, "wrong", {"type": "realtime"}, b"")
        assert (done.returncode, done.stdout) == (1, b"")
        assert b"401" in done.stderr
        assert (server.refused, server.connections) == (1, [])
