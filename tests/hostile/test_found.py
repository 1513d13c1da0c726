"""Faults that the catalogue, the fuzzer or a review has found, each with its regression test."""

import logging
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any

import pytest
import trio
import trio.lowlevel
import trio.testing

from patter_trio import Patter
from patter_trio.abc import VoiceActivity, VoiceActivitySession, VoiceEdge
from patter_trio.audio import g711
from patter_trio.audio.g711 import Samples
from patter_trio.audio.media_clock import MediaClock
from patter_trio.call.input.voice_activity import VoiceActivityStage
from patter_trio.call.leg import CLOSE_TIMEOUT_S
from patter_trio.carriers.twilio import Twilio
from patter_trio.conversation.playback import Media, Playback
from patter_trio.conversation.playout import PlayoutQueue
from patter_trio.events.callbacks import MAX_QUEUED_EDGES, MAX_QUEUED_EVENTS, CallbackQueue
from patter_trio.events.payloads import ConversationStateSnapshot
from patter_trio.net.websocket import SocketClosed, receive_upgrade
from patter_trio.pytest_plugin import CallSimulator
from patter_trio.server.calls import open_call_server
from patter_trio.server.connection import serve_connection
from patter_trio.testing import ScriptedLLM, ScriptedSTT, ScriptedTTS, ScriptedVAD
from patter_trio.testing.carriers.protocol import BadAnswer, BadMessage
from patter_trio.testing.carriers.twilio_messages import read_message, read_twiml
from patter_trio.testing.faults import FAULTS
from patter_trio.testing.faults.injections import TEXT_OPCODE, faulty_stream_of, frame
from tests.kit.shared_server import GOODBYE

# Requests find nobody at that port of this machine, and fail at once.
CARRIER = Twilio("AC1", "hush", api_url="http://127.0.0.1:1")
CLOCK = trio.testing.MockClock


def quiet_agent(**options: Any) -> Any:
    return Patter().agent(
        "x", vad=ScriptedVAD(), stt=ScriptedSTT(), llm=ScriptedLLM(["Yes."]), tts=ScriptedTTS(), **options
    )


def warnings(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [record.getMessage() for record in caplog.records if record.levelno >= logging.WARNING]


async def test_vanished_peer_is_noticed_in_silence(
    call_simulator: CallSimulator, caplog: pytest.LogCaptureFixture
) -> None:
    """The keep-alive ends the call of a vanished peer after 20 s, also while neither side speaks.

    Its carrier says that the caller is gone.
    """
    async with call_simulator(quiet_agent()) as caller:
        await caller.at(1.0)
        caller.carrier.stay_away()
        faulty_stream_of(caller.carrier).vanish()
        await caller.waits(25.0)
        # The last frame came at 0.98; and the close frame's answer is waited for.
        assert caller.times("call_end") == pytest.approx([0.98 + 20 + CLOSE_TIMEOUT_S])
        assert caller.outcome == "caller_hung_up"
    assert warnings(caplog) == []


async def test_peer_answering_pings_without_media_is_kept(call_simulator: CallSimulator) -> None:
    """The server keeps a call whose peer sends no media and still answers pings."""
    async with call_simulator(quiet_agent()) as caller:
        FAULTS["no more media"].injection(caller.carrier)
        await caller.waits(100.0)
        assert not caller.times("call_end")


async def test_orderly_close_seen_by_writer_is_a_hangup(
    call_simulator: CallSimulator, caplog: pytest.LogCaptureFixture
) -> None:
    """An orderly close that the writer sees first counts as a caller's hang-up without a warning."""
    async with call_simulator(quiet_agent(first_message="A long greeting that goes on and on.")) as caller:
        await caller.at(0.5)
        await caller.speaks("Let me interrupt", 1.0, wait=False)
        await caller.at(0.66)  # the caller's words are still to come: the call lives on while they do
        FAULTS["closed orderly"].injection(caller.carrier)
        await caller.waits(3.0)
        assert caller.outcome == "caller_hung_up"
        assert "error" not in caller.payloads("call_end")[0]
    assert warnings(caplog) == []


REQUEST = (
    "GET /ws/twilio/stream/{path} HTTP/1.1\r\nHost: a\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n{more}\r\n"
)


@asynccontextmanager
async def connected(stream: trio.abc.Stream) -> AsyncIterator[None]:
    async with (
        open_call_server(
            Patter()._serve_options(quiet_agent(), public_url="http://agent.test", carrier=CARRIER)
        ) as call_server,
        trio.open_nursery() as nursery,
    ):
        nursery.start_soon(serve_connection, call_server.context, stream)
        yield


@pytest.mark.parametrize("more", ["X-Twilio-Signature: wrong\r\n", "Sec-WebSocket-Version: 12\r\n", ""])
async def test_unread_upgrade_refusal_is_abandoned(autojump_clock: CLOCK, more: str) -> None:
    """The server abandons a client that does not read the refusal of its upgrade."""
    near, far = trio.testing.lockstep_stream_pair()
    phone = Patter()
    async with open_call_server(
        phone._serve_options(quiet_agent(), public_url="http://agent.test", carrier=CARRIER)
    ) as call_server:
        if not more:
            for _ in range(100):
                call_server.context.unauthenticated.acquire_nowait()
        with trio.fail_after(12):
            async with trio.open_nursery() as nursery:
                nursery.start_soon(serve_connection, call_server.context, far)
                await near.send_all(REQUEST.format(path="CA1", more=more).encode())


async def test_signed_upgrade_with_non_ascii_target_gets_400(
    autojump_clock: CLOCK, caplog: pytest.LogCaptureFixture
) -> None:
    """A signed upgrade with a non-ASCII target gets status 400 and one warning."""
    ours, theirs = trio.testing.memory_stream_pair()
    async with connected(theirs):
        await ours.send_all(REQUEST.format(path="\xff", more="X-Twilio-Signature: x\r\n").encode("latin-1"))
        assert bytes(await ours.receive_some(65536)).startswith(b"HTTP/1.1 400 ")
    (line,) = warnings(caplog)
    assert line.startswith("connection closed: the request must be a WebSocket handshake: ")


async def test_invalid_media_handshake_gets_400(autojump_clock: CLOCK) -> None:
    """A media socket request that is not a WebSocket handshake gets status 400."""
    ours, theirs = trio.testing.memory_stream_pair()
    async with connected(theirs):
        await ours.send_all(REQUEST.format(path="CA1", more="no header\r\n").encode())
        assert bytes(await ours.receive_some(65536)).startswith(b"HTTP/1.1 400 ")


def test_early_marks_wait_for_the_playout_clock() -> None:
    """Playback holds a mark that arrives too early until its audio can have been played."""
    playback, playout = Playback(), PlayoutQueue(1)
    playout.put(bytes(8000), "one second of words")
    playout.end()
    playback.open(playout)
    now, sent = 0.0, 0
    while sent < 8000:
        message = playback.next_message(now)
        if isinstance(message, Media):
            playback.sent()
            sent += len(message.audio)
        elif isinstance(message, float):
            now += message
        else:
            playback.reached(message.name, now)  # type: ignore[union-attr]
            assert playback.played(now) == pytest.approx(now * 8000, abs=1)
    message = playback.next_message(now)
    while not playback.drained:
        assert playback.played(now) == pytest.approx(now * 8000, abs=1)
        if isinstance(message, float):
            assert 0 < message < 1
            now += message
        else:
            playback.reached(message.name, now)  # type: ignore[union-attr]
        message = playback.next_message(now)
    assert now == pytest.approx(1.0)
    assert not playback.marks_lost


async def test_goodbye_is_heard_whole_despite_early_marks(call_simulator: CallSimulator) -> None:
    """The caller hears the whole goodbye before the hang-up, even when marks arrive too early."""
    phone = Patter()
    agent = phone.agent("x", vad=ScriptedVAD(), stt=ScriptedSTT(), llm=ScriptedLLM(["Yes."]), tts=ScriptedTTS())
    async with call_simulator(agent, phone) as caller:
        FAULTS["marks too early"].injection(caller.carrier)
        await caller.at(GOODBYE)
        (call,) = phone._live.values()
        call.say("Goodbye, and thank you.")
        call.hang_up()
        heard = await caller.heard()
        assert heard.text == "Goodbye, and thank you."


class _Counting(VoiceActivity, VoiceActivitySession):
    """A VAD that records how much audio each feed contains."""

    def __init__(self) -> None:
        self.sizes: list[int] = []

    @asynccontextmanager
    async def open(self) -> AsyncIterator[VoiceActivitySession]:
        yield self

    async def feed(self, samples: Samples) -> Sequence[VoiceEdge]:
        self.sizes.append(len(samples))
        return ()


async def test_lumped_audio_is_processed_in_small_pieces(
    autojump_clock: CLOCK,
) -> None:
    """The VAD stage processes lumps of audio in small pieces and lets other tasks run in between."""
    detector = _Counting()
    heard = bytearray()

    def to_transcription(item: bytes | VoiceEdge) -> None:
        assert isinstance(item, bytes)
        heard.extend(item)

    listening = VoiceActivityStage(detector, MediaClock(), lambda event: None, to_transcription, remember=False)
    lump = g711.silence(10.0)
    turns = 0
    async with trio.open_nursery() as nursery:
        nursery.start_soon(listening.run)
        listening.put(8000, lump)  # a second was lost before it
        while len(heard) < 88_000:
            turns += 1
            await trio.lowlevel.checkpoint()
        nursery.cancel_scope.cancel()
    assert max(detector.sizes) <= 800
    assert sum(detector.sizes) == 88_000
    assert turns >= 110


async def test_dtmf_flood_on_hanging_callback_warns_once(
    autojump_clock: CLOCK, caplog: pytest.LogCaptureFixture
) -> None:
    """A flood of DTMF digits on a hanging callback logs one warning."""

    async def never(event: object) -> None:
        await trio.sleep_forever()

    callback_queue = CallbackQueue("CA1", lambda name: never if name == "on_dtmf" else None)
    for _ in range(MAX_QUEUED_EVENTS + 500):
        callback_queue.put("dtmf", {"digit": "5"}, ConversationStateSnapshot(user="listening", agent="idle"))
    assert warnings(caplog) == ["call CA1: a callback does not return; the event dtmf is lost"]
    assert MAX_QUEUED_EDGES < MAX_QUEUED_EVENTS


def test_testing_kit_rejects_non_ascii_payload() -> None:
    """The testing kit rejects a non-ASCII media payload with its own BadMessage error."""
    with pytest.raises(BadMessage, match="must be base64"):
        read_message('{"event":"media","streamSid":"MZ1","media":{"payload":"AA\ufffdAA"}}', "MZ1")


def test_testing_kit_rejects_invalid_stream_url() -> None:
    """The testing kit rejects TwiML with an invalid stream URL by its own BadAnswer error."""
    with pytest.raises(BadAnswer, match="31922"):
        read_twiml(b'<Response><Connect><Stream url="wss://]/b"/></Connect></Response>')


async def test_nothing_after_invalid_utf8_is_delivered() -> None:
    """The WebSocket closes with 1007 on invalid UTF-8 and delivers no later message."""
    ours, theirs = trio.testing.memory_stream_pair()
    await ours.send_all(REQUEST.format(path="CA1", more="").encode())
    socket = await (await receive_upgrade(theirs, bytes(await theirs.receive_some(65536)))).accept()
    await ours.send_all(frame(TEXT_OPCODE, b"before") + frame(TEXT_OPCODE, b"\xff") + frame(TEXT_OPCODE, b"behind"))
    assert await socket.receive() == "before"
    with pytest.raises(SocketClosed) as closed:
        await socket.receive()
    assert closed.value.code == 1007
