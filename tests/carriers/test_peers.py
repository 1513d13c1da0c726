"""Peers on our server's line: pipecat's three serializers, and streamdouble, which calls agents as Twilio does.

pipecat's frames are written down (``pipecat_frames.json``), so that they are compared without the package as well.
"""

import asyncio
import base64
import json
import time
import warnings
from collections.abc import AsyncIterator
from contextlib import ExitStack, asynccontextmanager
from functools import partial
from typing import Any
from urllib.parse import urlencode, urlsplit

import httpx
import pytest
import trio
import trio.testing
import trio_websocket

from patter_trio import Patter, Plivo, Telnyx, Twilio
from patter_trio.abc import AudioReceived, DigitPressed, StreamCodec
from patter_trio.audio import g711
from patter_trio.testing import ScriptedTTS
from patter_trio.testing.carriers.line import SimulatedCarrier
from patter_trio.testing.carriers.protocol import Clear, Play, StreamOrder
from patter_trio.testing.carriers.rest import serving_api
from patter_trio.testing.carriers.twilio_messages import read_twiml
from patter_trio.testing.scripted_providers.audible_text import encode, frames_of
from patter_trio.testing.simulation.carriers import CARRIERS, CallOptions, carrier_object, simulated_carrier
from tests.kit import pipecat_frames
from tests.kit.call import agent_of
from tests.kit.pipecat_frames import CODES, KEYS, messages_of, protocol_at_rest

each_carrier = pytest.mark.parametrize("name", CARRIERS)
WRITTEN = pipecat_frames.written()
# Plivo takes it; its own package does not send it.
MORE = {"twilio": {}, "telnyx": {}, "plivo": {"streamId"}}
"""The fields of pipecat's audio that ours has not."""


def started_codec(name: str) -> StreamCodec:
    carrier = carrier_object(name, None)
    assert isinstance(carrier, (Twilio, Telnyx, Plivo))
    codec = carrier.new_codec()
    for message in protocol_at_rest(name).opening(StreamOrder("wss://agent.test/x")):
        codec.receive(message)
    return codec


def without_payload(message: dict[str, Any]) -> dict[str, Any]:
    return {**message, "media": {**message["media"], "payload": ""}}


@each_carrier
def test_our_messages_are_those_of_pipecat(name: str) -> None:
    """Audio and the clear of an interruption have the fields and the bytes that pipecat sends to the same carrier."""
    codec, theirs = started_codec(name), WRITTEN[name]
    ours = json.loads(codec.audio(CODES))
    assert {key: value for key, value in theirs["audio"].items() if key not in MORE[name]} == ours
    assert theirs["audio"].keys() - ours.keys() == set(MORE[name])
    assert json.loads(codec.clear()) == theirs["clear"]


@each_carrier
def test_our_carriers_take_what_pipecat_sends(name: str) -> None:
    """The simulated carriers, stricter than the real ones, take pipecat's audio and clear, and misspelt ones not."""
    protocol, theirs = protocol_at_rest(name), WRITTEN[name]
    assert protocol.read(json.dumps(theirs["audio"])) == Play(CODES)
    assert protocol.read(json.dumps(theirs["clear"])) == Clear()


@each_carrier
def test_pipecat_hears_what_we_hear(name: str) -> None:
    """In the messages of the simulated carriers pipecat reads the same samples and keys as our codec."""
    codec, theirs = started_codec(name), WRITTEN[name]
    [audio, *keys] = [codec.receive(message) for message in messages_of(protocol_at_rest(name))]
    assert isinstance(audio, AudioReceived)
    assert g711.to_pcm(audio.audio) == base64.b64decode(theirs["heard_pcm"])
    assert [key.digit for key in keys if isinstance(key, DigitPressed)] == theirs["keys"] == list(KEYS)


@pytest.mark.deep
def test_pipecats_frames_are_as_written() -> None:
    """What is written down of pipecat is what its package makes and reads."""
    pytest.importorskip("pipecat", reason="a peer that brings half a gigabyte: pip install patter-trio[peers]")
    with warnings.catch_warnings():
        # Its own, about the modules that it uses.
        warnings.simplefilter("ignore")
        assert pipecat_frames.all_frames() == WRITTEN, "run python -m tests.kit.pipecat_frames"


# Over sockets ---------------------------------------------------------------------------------------------------------
@asynccontextmanager
async def served(name: str) -> AsyncIterator[SimulatedCarrier]:
    """Serve an agent on a port of this machine, and yield a line to it that has not called yet."""
    carrier = carrier_object(name, None)
    agent = agent_of("At nine.", first_message="Hello there, how may I help?", tts=ScriptedTTS())
    # Around the server: it hangs up with its last breath.
    with ExitStack() as interface:
        async with trio.open_nursery() as nursery:
            host, port = await nursery.start(partial(Patter(carrier, "+15550100002").serve, agent, port=0))
            line = simulated_carrier(
                carrier,
                partial(trio.open_tcp_stream, host, port),
                f"http://{host}:{port}",
                digits=f"{1:032d}",
                options=CallOptions(),
                # The server's own clock: it is not a simulated one.
                unix_time=time.time,
            )
            interface.enter_context(serving_api(line, carrier.api_url))
            yield line
            nursery.cancel_scope.cancel()


async def talk(socket: Any, line: SimulatedCarrier, order: StreamOrder, received: list[dict[str, Any]]) -> None:
    """Open a carrier's stream, interrupt the greeting after 0.6 s, and listen for 4 s; keep what comes."""
    async with trio.open_nursery() as nursery:

        async def listens() -> None:
            while True:
                message = json.loads(await socket.get_message())
                received.append(message)
                # Each mark is played at once: this client has no loudspeaker.
                mark = message.get("name") or message.get("mark", {}).get("name")
                if mark and message["event"] in ("mark", "checkpoint"):
                    await socket.send_message(line.protocol.played(mark))
                if message["event"] == "clearAudio":
                    await socket.send_message(line.protocol.cleared())

        nursery.start_soon(listens)
        for message in line.protocol.opening(order):
            await socket.send_message(message)
        said = g711.silence(0.6) + encode("Are you open", frames_of(1.0)) + g711.silence(4.0)
        for frame in range(len(said) // 160):
            await trio.sleep(0.02)
            await socket.send_message(line.protocol.media(frame + 1, said[frame * 160 : frame * 160 + 160]))
        nursery.cancel_scope.cancel()


@each_carrier
async def test_frames_cross_our_server_over_sockets(name: str, autojump_clock: trio.testing.MockClock) -> None:
    """A client with the carrier's frames is greeted, interrupts and is answered, in pipecat's shapes."""
    received: list[dict[str, Any]] = []
    theirs = WRITTEN[name]
    async with served(name) as line:
        order = await line.announce()
        url = urlsplit(order.url)
        headers = [(key.encode(), value.encode()) for key, value in line.protocol.upgrade_headers(order).items()]
        # The stream by our own hands: trio-websocket leaves it open if it is cancelled.
        async with (
            await trio.open_tcp_stream(url.hostname or "", url.port or 80) as stream,
            trio.open_nursery() as nursery,
        ):
            socket = await trio_websocket.wrap_client_stream(
                nursery, stream, url.netloc, url.path, extra_headers=headers
            )
            await talk(socket, line, order, received)
            nursery.cancel_scope.cancel()
    audio = [message for message in received if message["event"] == theirs["audio"]["event"]]
    cut = [number for number, message in enumerate(received) if message == theirs["clear"]]
    shape = without_payload({key: value for key, value in theirs["audio"].items() if key not in MORE[name]})
    assert cut, "the caller interrupted"
    assert [message for message in audio if without_payload(message) != shape] == []
    assert received.index(audio[0]) < cut[0] < received.index(audio[-1])


async def test_streamdouble_calls_our_server() -> None:
    """streamdouble, a simulated Twilio of others, hears the greeting and finds no violation of the protocol."""
    reason = "a simulated Twilio of others is an oracle: pip install patter-trio[oracles]"
    session = pytest.importorskip("streamdouble.session", reason=reason)
    protocol = pytest.importorskip("streamdouble.protocol", reason=reason)
    carrier = Twilio("AC" + "1" * 32, "hush")
    identity = protocol.StreamIdentity()
    agent = agent_of("At nine.", first_message="Hello.")
    async with trio.open_nursery() as nursery:
        host, port = await nursery.start(partial(Patter(carrier, "+15550100002").serve, agent, port=0))
        url = f"http://{host}:{port}/webhooks/twilio/voice"
        form = {"CallSid": identity.call_sid, "AccountSid": carrier.account_sid, "From": "+15550100001"}
        form |= {"To": "+15550100002", "CallStatus": "ringing", "Direction": "inbound"}
        headers = {"X-Twilio-Signature": carrier.sign(url, form), "Content-Type": "application/x-www-form-urlencoded"}
        async with httpx.AsyncClient(trust_env=False) as http:
            answer = await http.post(url, content=urlencode(form), headers=headers)
        order: Any = read_twiml(answer.content)
        # Real time: 0.6 s of the caller's silence, and its own wait for the end of the greeting.
        config = session.SessionConfig(custom_parameters=dict(order.parameters), quiet_period_s=0.5)

        def call() -> Any:
            frames = [b"\xff" * 160] * 30
            return asyncio.run(session.Session(order.url, frames, config=config, identity=identity).run())

        result = await trio.to_thread.run_sync(call)
        nursery.cancel_scope.cancel()
    assert list(result.violations) == []
    assert not result.timed_out
    # The whole greeting: 6 letters at 60 ms each.
    assert len(result.audio_received) == round(6 * 0.06 * 8000)
