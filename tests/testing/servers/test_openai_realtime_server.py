"""The fake of OpenAI's Realtime server: it keeps the vendor's rules at exact instants, over memory and over sockets."""

from __future__ import annotations

import json
import math
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, TypeVar

import pytest
import trio
from trio.testing import MockClock, memory_stream_pair

from patter_trio.abc import ToolCall
from patter_trio.errors import AuthenticationError, ProviderError, ProviderTimeout, RateLimitError, WireError
from patter_trio.net.websocket_client import ConnectionOver, WebSocketClient, open_websocket
from patter_trio.testing.scripted_providers import audible_text
from patter_trio.testing.servers.openai_realtime import (
    Asked,
    FakeRealtime,
    RealtimeReply,
    RealtimeServer,
    RealtimeServerConnection,
    serve_openai_realtime,
)
from patter_trio.wire import openai_realtime as wire

E = TypeVar("E")
SILENCE_BYTE = b"\xff" * 160
KEY = {"Authorization": "Bearer key"}
BRIEF = RealtimeReply(text="One two three.", seconds=1.0, first_audio=0.5, chunk=0.2, speed=10.0)


def voice(text: str, seconds: float, utterance: int = 1) -> bytes:
    return audible_text.encode(text, audible_text.frames_of(seconds), utterance=utterance)


class Client:
    """A client that records each event with its instant since the connection."""

    def __init__(self, socket: WebSocketClient) -> None:
        self.socket = socket
        self.began = trio.current_time()
        self.received: list[tuple[float, wire.Event]] = []

    def now(self) -> float:
        return round(trio.current_time() - self.began, 6)

    async def send(self, *messages: str) -> None:
        for message in messages:
            await self.socket.send(message)

    async def say(self, audio: bytes) -> None:
        """Send audio at the pace of a telephone."""
        for begin in range(0, len(audio), 160):
            await self.socket.send(wire.append(audio[begin : begin + 160]))
            await trio.sleep(0.02)

    async def until(self, kind: type[E]) -> E:
        """Read up to an event of this class; return it."""
        with trio.fail_after(100):
            while True:
                event = wire.receive(await self.socket.receive())
                if event is not None:
                    self.received.append((self.now(), event))
                if isinstance(event, kind):
                    return event

    async def setup(self, detection: wire.TurnDetection = None, transcription: str = "gpt-live-transcribe") -> None:
        await self.until(wire.SessionReady)
        await self.send(
            wire.session_update(
                instructions="Be brief.", voice="marin", turn_detection=detection, transcription=transcription
            )
        )
        assert (await self.until(wire.SessionReady)).updated

    def all(self, kind: type[E]) -> list[tuple[float, E]]:
        return [(at, event) for at, event in self.received if isinstance(event, kind)]


@asynccontextmanager
async def connected(script: FakeRealtime, **more: Any) -> AsyncIterator[tuple[Client, RealtimeServer]]:
    """Give a client and a server of its own, connected over memory."""
    server = RealtimeServer(script)
    async with trio.open_nursery() as nursery:

        async def open_stream(url: str) -> trio.abc.Stream:
            ours, theirs = memory_stream_pair()
            nursery.start_soon(server.serve, theirs)
            return ours

        more = {"headers": KEY, "open_stream": open_stream, **more}
        async with open_websocket(wire.socket_url(server.url, "m"), **more) as socket:
            yield Client(socket), server
        nursery.cancel_scope.cancel()


def last(server: RealtimeServer) -> RealtimeServerConnection:
    return server.connections[-1]


# Beginning ------------------------------------------------------------------------------------------------------------
async def test_realtime_server_greets_and_applies_session_updates(autojump_clock: MockClock) -> None:
    """The fake server sends the first message and applies every session update."""
    async with connected(FakeRealtime()) as (client, server):
        assert not (await client.until(wire.SessionReady)).updated
        await client.send(wire.session_update(instructions="Be brief.", voice="marin", turn_detection=None))
        assert (await client.until(wire.SessionReady)).updated
        change = {"type": "session.update", "session": {"type": "realtime", "instructions": "Be kind."}}
        await client.send(json.dumps(change))
        await client.until(wire.SessionReady)
        session = last(server).session
    assert session["audio"]["input"] == {
        "format": {"type": "audio/pcmu"}, "turn_detection": None, "noise_reduction": None, "transcription": None,
    }  # fmt: skip
    assert session["audio"]["output"] == {"format": {"type": "audio/pcmu"}, "voice": "marin", "speed": 1.0}
    assert session["instructions"] == "Be kind."
    assert last(server).types() == ["session.update", "session.update"]
    assert last(server).ended.is_set()
    assert last(server).code == 1000


@pytest.mark.parametrize(
    ("script", "headers", "error", "status"),
    [
        (FakeRealtime(), {"Authorization": "Bearer wrong"}, AuthenticationError, 401),
        (FakeRealtime(), {}, AuthenticationError, 401),
        (FakeRealtime(), {**KEY, "OpenAI-Beta": "realtime=v1"}, ProviderError, 400),
        (FakeRealtime(status=429), KEY, RateLimitError, 429),
        (FakeRealtime(status=503), KEY, ProviderError, 503),
    ],
)
async def test_whom_it_does_not_want_it_refuses(
    autojump_clock: MockClock, script: FakeRealtime, headers: dict[str, str], error: type[ProviderError], status: int
) -> None:
    """The fake server refuses a wrong key, a beta header and a scripted refusal with its own HTTP status."""
    with pytest.raises(ExceptionGroup) as raised:
        async with connected(script, headers=headers):
            pytest.fail("it was accepted")
    assert raised.group_contains(error, match=f"status {status}")


async def test_half_open_realtime_server_never_answers(autojump_clock: MockClock) -> None:
    """A half-open or mute fake server accepts the connection and never answers."""
    with pytest.raises(ExceptionGroup) as raised:
        async with connected(FakeRealtime(half_open=True)):
            pytest.fail("it was accepted")
    assert raised.group_contains(ProviderTimeout)
    async with connected(FakeRealtime(mute=True)) as (client, _):
        await client.send(wire.create_response())
        with trio.move_on_after(60) as waited:
            await client.until(wire.SessionReady)
        assert waited.cancelled_caught


async def test_error_instead_of_greeting_ends_connection(autojump_clock: MockClock) -> None:
    """The connection ends when the fake server sends an error in place of session.created."""
    script = FakeRealtime(opens_with=("insufficient_quota", "insufficient_quota", "No money."))
    async with connected(script) as (client, _):
        refused = await client.until(wire.Refused)
        assert refused.fatal
        with pytest.raises(ConnectionOver):
            await client.until(wire.SessionReady)


# Turns ----------------------------------------------------------------------------------------------------------------
async def test_committed_turn_transcript_arrives_after_reply(
    autojump_clock: MockClock,
) -> None:
    """The transcript of a committed turn arrives at its own time, later than the reply."""
    async with connected(FakeRealtime(replies=[BRIEF], transcript_delay=2.0)) as (client, server):
        await client.setup()
        await client.say(voice("What time is it?", 0.6) + SILENCE_BYTE * 10)
        await client.send(wire.commit(), wire.create_response("q1"))
        ended = await client.until(wire.ResponseEnded)
        transcripts = [await client.until(wire.InputTranscript) for _ in range(5)]
    [(_, committed)] = client.all(wire.Committed)
    assert {transcript.item_id for transcript in transcripts} == {committed.item_id}
    assert "".join(transcript.text for transcript in transcripts[:4]) == "What time is it?"
    assert (transcripts[4].text, transcripts[4].final) == ("What time is it?", True)
    assert transcripts[4].usage is not None
    assert (ended.status, ended.request) == (wire.Status.COMPLETED, "q1")
    # 0.8 s of audio; half a second of thought; a second of speech in a tenth of the time.
    assert [at for at, _ in client.all(wire.ResponseStarted)] == [0.8]
    assert [at for at, _ in client.all(wire.AudioDelta)] == [1.3, 1.32, 1.34, 1.36, 1.38]
    assert client.all(wire.ResponseEnded)[0][0] == 1.4
    assert [at for at, _ in client.all(wire.InputTranscript)] == [2.8] * 5
    assert b"".join(event.audio for _, event in client.all(wire.AudioDelta)) == audible_text.encode(
        "One two three.", 50, utterance=1, part=1
    )
    assert "".join(event.text for _, event in client.all(wire.TextDelta)) == "One two three."
    [asked] = server.asked
    assert (asked.heard, asked.by_vad, asked.instructions) == ("What time is it?", False, "Be brief.")
    assert last(server).texts() == [("user", "What time is it?"), ("assistant", "One two three.")]


async def test_words_come_ahead_of_the_sound_of_them(autojump_clock: MockClock) -> None:
    """The first event of a response is text, and the last one is audio."""
    async with connected(FakeRealtime(replies=[BRIEF])) as (client, _):
        await client.setup()
        await client.send(wire.create_response())
        await client.until(wire.ResponseEnded)
    shown = [
        type(event).__name__ for _, event in client.received if isinstance(event, wire.TextDelta | wire.AudioDelta)
    ]
    assert shown[0] == "TextDelta"
    assert shown[-1] == "AudioDelta"


async def test_server_vad_finds_turns_in_audio_time(autojump_clock: MockClock) -> None:
    """The server VAD finds turns by voice and silence in the time of the audio."""
    vad = wire.ServerVAD(prefix_padding=0.1, silence=0.4)
    async with connected(FakeRealtime(replies=[BRIEF])) as (client, server):
        await client.setup(vad)
        await client.say(SILENCE_BYTE * 50 + voice("Hello?", 0.5) + SILENCE_BYTE * 25)
        await client.until(wire.ResponseEnded)
    [(_, started)], [(_, stopped)] = client.all(wire.SpeechStarted), client.all(wire.SpeechStopped)
    assert started.audio_start == 0.9  # with the padding
    assert stopped.audio_end == 1.9  # with the silence
    # Reported with the first frame of voice, and with the last one of 0.4 s of silence.
    for kind, instant in (("started", 1.0), ("stopped", 1.88)):
        [(at, _)] = last(server).events(f"input_audio_buffer.speech_{kind}")
        assert at - client.began == pytest.approx(instant)
    [(_, committed)] = client.all(wire.Committed)
    assert started.item_id == stopped.item_id == committed.item_id
    assert client.all(wire.ResponseStarted)[0][1].request == ""
    assert server.asked[0].by_vad
    assert server.asked[0].heard == "Hello?"


@pytest.mark.parametrize(
    ("words", "eagerness", "patience"),
    [("Yes.", "auto", 0.3), ("Yes, and", "high", 2.0), ("Yes, and", "auto", 4.0), ("Yes, and", "low", 8.0)],
)
async def test_semantic_vad_ends_turn_by_sentence_or_patience(
    autojump_clock: MockClock, words: str, eagerness: Any, patience: float
) -> None:
    """The semantic VAD ends a turn with its sentence or when its patience runs out."""
    async with connected(FakeRealtime(semantic_silence=0.3)) as (client, _):
        await client.setup(wire.SemanticVAD(eagerness=eagerness))
        await client.say(voice(words, 0.5) + SILENCE_BYTE * 450)
        stopped = await client.until(wire.SpeechStopped)
    assert stopped.audio_end == pytest.approx(0.5 + patience)


async def test_realtime_server_answers_only_with_create_response(autojump_clock: MockClock) -> None:
    """The fake server answers a turn on its own only if the session enables create_response."""
    async with connected(FakeRealtime()) as (client, server):
        await client.setup(wire.ServerVAD(create_response=False))
        await client.say(voice("Hello?", 0.5) + SILENCE_BYTE * 50)
        assert (await client.until(wire.InputTranscript)).text == "Hello?"
        await trio.sleep(5)
    assert not server.asked


async def test_voice_interrupts_only_with_interrupt_response(autojump_clock: MockClock) -> None:
    """A voice interrupts the response only if the session enables interrupt_response."""
    slow = RealtimeReply(text="One two three four five six.", seconds=5.0, first_audio=0.1, speed=1.0)
    for interrupt, status in ((True, wire.Status.CANCELLED), (False, wire.Status.COMPLETED)):
        async with connected(FakeRealtime(replies=[slow])) as (client, server):
            await client.setup(wire.ServerVAD(silence=0.2, create_response=False, interrupt_response=interrupt))
            await client.send(wire.create_response())
            await trio.sleep(1.0)
            await client.say(voice("Stop.", 0.4))
            ended = await client.until(wire.ResponseEnded)
        assert ended.status is status
        if interrupt:
            assert ended.reason == "turn_detected"
            assert client.now() == 1.4
            [(at, _)] = last(server).events("response.done")
            assert at - client.began == 1.0
            assert client.all(wire.ItemDone)[0][1].completed is False


async def test_turn_during_response_gets_no_second_response(autojump_clock: MockClock) -> None:
    """The fake server refuses to answer a turn that ends while another response is active."""
    slow = RealtimeReply(text="One two three four five six.", seconds=5.0, speed=1.0)
    async with connected(FakeRealtime(replies=[slow])) as (client, _):
        await client.setup(wire.ServerVAD(silence=0.2, interrupt_response=False))
        await client.send(wire.create_response("q"))
        await client.say(voice("Hm.", 0.4) + SILENCE_BYTE * 20)
        refused = await client.until(wire.Refused)
    assert (refused.code, refused.event_id, refused.fatal) == ("conversation_already_has_active_response", "", False)


async def test_recorded_sound_and_faint_noise_are_distinguished(autojump_clock: MockClock) -> None:
    """The server VAD ignores faint noise and finds the loud sound after it, which has no words."""
    async with connected(FakeRealtime()) as (client, _):
        await client.setup(wire.ServerVAD(silence=0.2))
        await client.say(b"\x7e\xfe" * 8000 + b"\x10\x90" * 800 + SILENCE_BYTE * 30)
        started = await client.until(wire.SpeechStarted)
        final = await client.until(wire.InputTranscript)
    assert started.audio_start == 1.7
    assert (final.text, final.final) == ("", True)


async def test_short_commit_is_refused_and_clear_discards_audio(autojump_clock: MockClock) -> None:
    """The fake server refuses a commit of less than 100 ms, and clear discards the audio."""
    async with connected(FakeRealtime()) as (client, server):
        await client.setup()
        await client.send(wire.append(voice("x", 0.08)), wire.commit("c"))
        refused = await client.until(wire.Refused)
        assert (refused.code, refused.event_id, refused.fatal) == ("input_audio_buffer_commit_empty", "c", False)
        await client.send(wire.append(voice("secret", 0.5)), wire.clear(), wire.commit())
        assert (await client.until(wire.Refused)).code == "input_audio_buffer_commit_empty"
        await client.send(wire.append(voice("Hello?", 0.5, 2)), wire.commit())
        assert [await client.until(wire.InputTranscript) for _ in range(2)][1].text == "Hello?"
    assert len(last(server).audio) == 640 + 4000 + 4000
    assert [size for _, size in last(server).appended] == [640, 4000, 4000]


async def test_failed_transcription_is_reported(autojump_clock: MockClock) -> None:
    """A failed transcription is reported for its item and does not end the session."""
    async with connected(FakeRealtime(transcript_fails=True)) as (client, _):
        await client.setup()
        await client.send(wire.append(voice("Hello?", 0.5)), wire.commit())
        failed = await client.until(wire.TranscriptFailed)
    assert failed.item_id == client.all(wire.Committed)[0][1].item_id
    assert not failed.refusal.fatal


async def test_no_transcript_without_transcription_model(autojump_clock: MockClock) -> None:
    """The fake server sends no transcript if the session has no transcription model."""
    async with connected(FakeRealtime()) as (client, server):
        await client.setup(transcription="")
        await client.send(wire.append(voice("Hello?", 0.5)), wire.commit(), wire.create_response())
        await client.until(wire.ResponseEnded)
        await trio.sleep(5)
    assert server.asked[0].heard == "Hello?"
    assert not [event for _, event in last(server).emitted if "transcription" in event["type"]]


# Responses ------------------------------------------------------------------------------------------------------------
async def test_one_response_at_a_time(autojump_clock: MockClock) -> None:
    """The fake server refuses a second response while one is active, and accepts it afterwards."""
    async with connected(FakeRealtime(replies=[BRIEF])) as (client, _):
        await client.setup()
        await client.send(wire.create_response("a"), wire.create_response("b"))
        refused = await client.until(wire.Refused)
        assert (refused.code, refused.event_id) == ("conversation_already_has_active_response", "b")
        assert (await client.until(wire.ResponseEnded)).request == "a"
        await client.send(wire.create_response("c"))
        assert (await client.until(wire.ResponseEnded)).request == "c"


async def test_cancelled_response_stops_and_can_be_truncated(
    autojump_clock: MockClock,
) -> None:
    """A cancelled response stops at once, and the client can truncate its unheard part."""
    reply = RealtimeReply(text="One two three four.", seconds=2.0, first_audio=0.1, chunk=0.2, speed=2.0)
    async with connected(FakeRealtime(replies=[reply])) as (client, server):
        await client.setup()
        await client.send(wire.create_response("q"))
        await trio.sleep(0.45)
        started = await client.until(wire.ResponseStarted)
        audio = await client.until(wire.AudioDelta)
        # In one go: whatever was made of it is over before the next message is looked at.
        await client.send(
            wire.cancel(started.response_id), wire.truncate(audio.item_id, 350), wire.cancel(event_id="x")
        )
        ended = await client.until(wire.ResponseEnded)
        truncated = await client.until(wire.Truncated)
        refused = await client.until(wire.Refused)
        await trio.sleep(5)
    assert (ended.status, ended.reason, ended.request) == (wire.Status.CANCELLED, "client_cancelled", "q")
    assert (truncated.item_id, truncated.audio_end) == (audio.item_id, 0.35)
    assert (refused.code, refused.event_id, refused.fatal) == ("response_cancel_not_active", "x", False)
    # Of 0.2 s each, from 0.1 s on: at 0.1, 0.2, 0.3 and 0.4 s.
    assert len(client.all(wire.AudioDelta)) == 4
    assert last(server).texts() == [("assistant", "")]
    assert [event["type"] for _, event in last(server).emitted[-3:]] == [
        "rate_limits.updated", "conversation.item.truncated", "error",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("milliseconds", "code"), [(400, None), (401, "invalid_value"), (10_000, "invalid_value"), (0, None)]
)
async def test_truncate_beyond_sent_audio_is_refused(
    autojump_clock: MockClock, milliseconds: int, code: str | None
) -> None:
    """The fake server refuses to truncate an item beyond the audio that it sent."""
    reply = RealtimeReply(text="One two.", seconds=0.4, first_audio=0.0)
    async with connected(FakeRealtime(replies=[reply])) as (client, server):
        await client.setup()
        await client.send(wire.create_response())
        await client.until(wire.ResponseEnded)
        item_id = client.all(wire.AudioDelta)[0][1].item_id
        await client.send(wire.truncate(item_id, milliseconds), wire.truncate("nothing", 0))
        if code is None:
            assert (await client.until(wire.Truncated)).audio_end == milliseconds / 1000
        else:
            assert (await client.until(wire.Refused)).code == code
        assert (await client.until(wire.Refused)).code == "item_truncate_invalid_item_id"
    assert last(server).texts() == [("assistant", "" if code is None else "One two.")]


async def test_cancel_before_response_exists_is_refused(autojump_clock: MockClock) -> None:
    """The fake server refuses to cancel a response that it has not created yet."""
    reply = RealtimeReply(text="One.", created_delay=1.0, first_audio=0.0)
    async with connected(FakeRealtime(replies=[reply])) as (client, _):
        await client.setup()
        await client.send(wire.create_response("q"), wire.cancel())
        assert (await client.until(wire.Refused)).code == "response_cancel_not_active"
        await client.until(wire.ResponseStarted)
        assert client.now() == 1.0
        await client.send(wire.cancel())
        assert (await client.until(wire.ResponseEnded)).status is wire.Status.CANCELLED


async def test_realtime_tool_calls_arrive_once_and_whole(autojump_clock: MockClock) -> None:
    """Tool calls arrive once and complete, and the server accepts outputs only for known call ids."""
    calls = [ToolCall("c1", "hours", '{"day": "Monday"}'), ToolCall("c2", "end_call", "{}")]
    script = FakeRealtime(replies=[RealtimeReply(text="Let me see.", tool_calls=calls), BRIEF])
    async with connected(script) as (client, server):
        await client.setup()
        await client.send(wire.create_response())
        await client.until(wire.ResponseEnded)
        await client.send(wire.add_function_output("c9", "?"), wire.add_function_output("c1", "9 to 5"))
        assert (await client.until(wire.Refused)).code == "invalid_tool_call_id"
        await client.send(wire.create_response(tools=False))
        await client.until(wire.ResponseEnded)
    assert [(event.call_id, event.name, event.arguments) for _, event in client.all(wire.FunctionCall)] == [
        ("c1", "hours", '{"day": "Monday"}'),
        ("c2", "end_call", "{}"),
    ]
    kinds = [item["type"] for item in last(server).items]
    assert kinds == ["message", "function_call", "function_call", "function_call_output", "message"]
    assert [item["type"] for item in server.asked[1].items] == kinds[:4]


async def test_a_response_without_tools_calls_none(autojump_clock: MockClock) -> None:
    """A response that is requested without tools makes no tool call."""
    script = FakeRealtime(replies=[RealtimeReply(text="", tool_calls=[ToolCall("c", "hours", "{}")])])
    async with connected(script) as (client, _):
        await client.setup()
        await client.send(wire.create_response(tools=False))
        await client.until(wire.ResponseEnded)
    assert not client.all(wire.FunctionCall)


@pytest.mark.parametrize(
    ("reply", "status", "reason", "fatal"),
    [
        (RealtimeReply(error=("insufficient_quota", "insufficient_quota", "")), "failed", "insufficient_quota", True),
        (RealtimeReply(error=("odd", "invalid_request_error", "")), "failed", "odd", False),
        (RealtimeReply(status="incomplete", reason="max_output_tokens"), "incomplete", "max_output_tokens", None),
    ],
)
async def test_responses_that_do_not_end_well_say_why(
    autojump_clock: MockClock, reply: RealtimeReply, status: str, reason: str, fatal: bool | None
) -> None:
    """A failed or incomplete response ends with its status and reason, and its item is not completed."""
    async with connected(FakeRealtime(replies=[reply])) as (client, _):
        await client.setup()
        await client.send(wire.create_response())
        ended = await client.until(wire.ResponseEnded)
    assert (ended.status, ended.reason) == (status, reason)
    assert (ended.refusal.fatal if ended.refusal else None) is fatal
    assert [event.completed for _, event in client.all(wire.ItemDone)] == [False]


async def test_realtime_server_usage_counts_each_token_once(autojump_clock: MockClock) -> None:
    """The usage that the fake server reports counts each token once."""
    usage = {"input_tokens": 30, "output_tokens": 7, "input_token_details": {"text_tokens": 20, "audio_tokens": 10}}
    async with connected(FakeRealtime(replies=[RealtimeReply(usage=usage), RealtimeReply()])) as (client, server):
        await client.setup()
        await client.send(wire.create_response())
        billed = (await client.until(wire.ResponseEnded)).usage
        assert billed is not None
        assert (billed.input_tokens, billed.audio_input_tokens, billed.output_tokens) == (20, 10, 7)
        await client.send(wire.create_response())
        billed = (await client.until(wire.ResponseEnded)).usage
    assert billed is not None
    raw = last(server).events("response.done")[1][1]["response"]["usage"]
    text, audio = (
        billed.input_tokens + billed.cache_read_tokens,
        billed.audio_input_tokens + billed.audio_cache_read_tokens,
    )
    assert text + audio == raw["input_tokens"]
    assert billed.output_tokens + billed.audio_output_tokens == raw["output_tokens"]


async def test_realtime_replies_can_be_computed_from_input(autojump_clock: MockClock) -> None:
    """A function can compute the replies of the fake server from the transcript."""

    def reply(asked: Asked) -> RealtimeReply:
        return RealtimeReply(text=f"You said: {asked.heard}")

    async with connected(FakeRealtime(replies=reply)) as (client, server):
        await client.setup()
        await client.send(wire.add_message("user", "Hello?"), wire.create_response("q", instructions="Echo."))
        await client.until(wire.ResponseEnded)
        await client.send(wire.append(voice("What?", 0.4)), wire.commit(), wire.create_response())
        await client.until(wire.ResponseEnded)
    assert [text for role, text in last(server).texts() if role == "assistant"] == [
        "You said: Hello?",
        "You said: What?",
    ]
    assert (server.asked[0].request, server.asked[0].instructions) == ({"request": "q"}, "Echo.")


# The conversation -----------------------------------------------------------------------------------------------------
async def test_conversation_items_can_be_restored_in_any_order(autojump_clock: MockClock) -> None:
    """A client can restore the items of a conversation in any order."""
    async with connected(FakeRealtime()) as (client, server):
        await client.setup()
        await client.send(
            wire.add_message("assistant", "Yes?", item_id="b"),
            wire.add_message("user", "Hello?", item_id="a", previous_item_id="root"),
            wire.add_function_call("c", "hours", "{}", item_id="c", previous_item_id="b"),
            wire.add_function_output("c", "9 to 5", item_id="d"),
            wire.add_message("system", "Be brief.", previous_item_id="nowhere", event_id="x"),
            wire.add_message("user", "Twice.", item_id="a", event_id="y"),
            wire.delete_item("b"),
            wire.delete_item("b", event_id="z"),
        )
        refused = [await client.until(wire.Refused) for _ in range(3)]
    assert [one.event_id for one in refused] == ["x", "y", "z"]
    assert [item["id"] for item in last(server).items] == ["a", "c", "d"]
    assert not any(one.fatal for one in refused)


@pytest.mark.parametrize(
    ("message", "code", "param"),
    [
        ('{"type":"session.update","session":{"modalities":["audio"]}}', "missing_required_parameter", "session.type"),
        ('{"type":"session.update","session":{"type":"realtime","voice":"x"}}', "unknown_parameter", "session.voice"),
        ('{"type":"response.create","response":{"modalities":[]}}', "unknown_parameter", "response.modalities"),
        ('{"type":"response.crate"}', "invalid_value", "type"),
        ('{"type":"input_audio_buffer.append","audio":"*"}', "invalid_value", "audio"),
        ('{"type":"input_audio_buffer.append"}', "invalid_value", "audio"),
        ('{"type":"conversation.item.create"}', "missing_required_parameter", "item"),
        ('{"type":"conversation.item.create","item":{"type":"x"}}', "invalid_value", "item.type"),
        (
            '{"type":"conversation.item.create","item":{"type":"message","role":"assistant","content":[{"type":"text"}]}}',
            "invalid_value",
            "item.content[0].type",
        ),
        ("{", "invalid_json", ""),
        ("[]", "invalid_json", ""),
    ],
)
async def test_invalid_realtime_message_is_refused_harmlessly(
    autojump_clock: MockClock, message: str, code: str, param: str
) -> None:
    """The fake server refuses an invalid message, and the session goes on."""
    async with connected(FakeRealtime()) as (client, _):
        await client.setup()
        await client.send(message)
        refused = await client.until(wire.Refused)
        assert (refused.code, refused.param, refused.fatal) == (code, param, False)
        await client.send(wire.create_response("q"))
        assert (await client.until(wire.ResponseEnded)).request == "q"


async def test_the_voice_stays_once_it_was_heard(autojump_clock: MockClock) -> None:
    """The fake server refuses to change the voice after the first response."""
    async with connected(FakeRealtime()) as (client, server):
        await client.setup()
        await client.send(wire.create_response())
        await client.until(wire.ResponseEnded)
        await client.send(wire.session_update(instructions="", voice="cedar", turn_detection=None, event_id="e"))
        assert (await client.until(wire.Refused)).event_id == "e"
    assert last(server).session["audio"]["output"]["voice"] == "marin"


# What goes wrong ------------------------------------------------------------------------------------------------------
async def test_expired_session_gets_a_new_connection(autojump_clock: MockClock) -> None:
    """A session expires, and the next connection has a new session."""
    async with connected(FakeRealtime(expires_after=60.0)) as (client, server):
        await client.setup()
        refused = await client.until(wire.Refused)
        assert (client.now(), refused.code, refused.fatal) == (60.0, "session_expired", True)
        with pytest.raises(ConnectionOver) as over:
            await client.until(wire.Refused)
        assert over.value.code == 1001
    assert last(server).ended_at - client.began == pytest.approx(60.0)


async def test_connection_is_lost_where_scripted(autojump_clock: MockClock) -> None:
    """The fake server drops the connection at the point that the script names."""
    script = FakeRealtime(
        replies=[RealtimeReply(text="One two three.", seconds=1.0, lose_after=2)], lose_after=(math.inf,)
    )
    async with connected(script) as (client, server):
        await client.setup()
        await client.send(wire.create_response())
        with pytest.raises(ConnectionOver) as over:
            await client.until(wire.ResponseEnded)
        assert over.value.code == 1006
    assert len(client.all(wire.AudioDelta)) == 2
    assert last(server).code == 1006
    async with connected(FakeRealtime(lose_after=(0.5,))) as (client, server):
        await client.setup()
        with pytest.raises(ConnectionOver):
            await client.say(SILENCE_BYTE * 100)
    assert len(last(server).audio) == 4000


async def test_a_response_hangs_and_a_connection_freezes(autojump_clock: MockClock) -> None:
    """A response stops after two chunks, and a frozen connection ignores its cancellation, as scripted."""
    reply = RealtimeReply(text="One two three.", seconds=1.0, hang_after=2)
    async with connected(FakeRealtime(replies=[reply])) as (client, server):
        await client.setup()
        await client.send(wire.create_response())
        with trio.move_on_after(60) as waited:
            await client.until(wire.ResponseEnded)
        assert waited.cancelled_caught
        assert len(client.all(wire.AudioDelta)) == 2
        last(server).frozen = True
        await client.send(wire.cancel())
        with trio.move_on_after(60) as waited:
            await client.until(wire.ResponseEnded)
        assert waited.cancelled_caught


async def test_it_says_a_requested_text(autojump_clock: MockClock) -> None:
    """The fake server sends garbage, refusals, errors and a close code, as scripted."""
    script = FakeRealtime(garbage=("{", b"\x00"), refuses={"response.cancel": "server_error"})
    async with connected(script) as (client, server):
        await client.until(wire.SessionReady)
        for _ in range(2):
            with pytest.raises(WireError):
                await client.until(wire.SessionReady)
        await client.send(wire.cancel(event_id="x"))
        refused = await client.until(wire.Refused)
        assert (refused.fatal, refused.event_id) == (True, "x")
        last(server).error("rate_limit_exceeded", "tokens", "Slow down.")
        assert (await client.until(wire.Refused)).message == "Slow down."
        last(server).close(1013)
        with pytest.raises(ConnectionOver) as over:
            await client.until(wire.Refused)
        assert over.value.code == 1013


async def test_over_loopback_it_serves_several(autojump_clock: MockClock) -> None:
    """The fake server serves two clients at once over loopback, and its repr does not show the key."""
    async with serve_openai_realtime(FakeRealtime(replies=[BRIEF])) as server, trio.open_nursery() as nursery:

        async def converse(name: str) -> None:
            async with open_websocket(wire.socket_url(server.url, "m"), headers=KEY) as socket:
                client = Client(socket)
                await client.setup()
                await client.send(wire.create_response(name))
                assert (await client.until(wire.ResponseEnded)).request == name

        for name in ("a", "b"):
            nursery.start_soon(converse, name)
    assert len(server.connections) == 2
    assert all(connection.query["model"] == ["m"] for connection in server.connections)
    assert "key" not in repr(server.connections)
