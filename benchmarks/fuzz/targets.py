"""The fuzzed targets: each accepts bytes and raises if a property does not hold.

The targets need nothing but the package, so that the tests replay the corpus through them without the fuzzer.
"""

import base64
import json
import logging
import math
from collections.abc import Callable, Iterator
from contextlib import suppress
from functools import partial
from typing import Any, Final
from urllib.parse import parse_qs

import numpy as np
import trio
import trio.testing

from benchmarks.fuzz import vendors
from benchmarks.fuzz.telnyx import telnyx
from patter_trio import Patter
from patter_trio.abc import (
    AudioReceived,
    CallInfo,
    CarrierRequest,
    DigitPressed,
    MarkReached,
    StreamEvent,
    StreamStarted,
    StreamStopped,
)
from patter_trio.audio import g711
from patter_trio.audio.wav import RATES_HZ, WavError, read_wav, write_wav
from patter_trio.carriers.twilio import Twilio
from patter_trio.errors import WireError
from patter_trio.net.websocket import MAX_MESSAGE_BYTES, SocketClosed, receive_upgrade
from patter_trio.server.calls import open_call_server
from patter_trio.server.connection import serve_connection
from patter_trio.server.context import ServerContext
from patter_trio.server.options import Seams
from patter_trio.server.pending import PendingCalls
from patter_trio.server.webhooks import WEBHOOK_KINDS, carrier_webhook
from patter_trio.testing import ScriptedLLM, ScriptedSTT, ScriptedTTS, ScriptedVAD
from patter_trio.testing.carriers import twilio_messages as kit
from patter_trio.testing.carriers.faulty_stream import FaultyStream
from patter_trio.testing.carriers.protocol import BadAnswer, BadMessage
from patter_trio.testing.carriers.rest import RESTAnswer, RESTRequest, answering
from patter_trio.testing.faults.injections import TEXT_OPCODE, frame
from patter_trio.wire.stream_messages import DIGITS
from patter_trio.wire.twilio import TwilioCodec

# "It does not crash" would be too little to ask: a decoder that returns rubbish does not crash. So each target has a
# second opinion: the json module, the definition of G.711, the kit's own reading of the protocol, or the same input cut
# into other pieces. Targets that need time run in virtual time, on memory streams: an input is then the same every
# time, and a deadline of 20 s costs nothing.

CARRIER: Final = Twilio("AC1", "hush")
PUBLIC: Final = "https://agent.example"
HEAD: Final = (
    b"GET /ws/twilio/stream/CA1 HTTP/1.1\r\nHost: agent.example\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n"
)
START: Final = (
    '{"event":"start","streamSid":"MZ1","start":{"streamSid":"MZ1","callSid":"CA1","customParameters":{"token":"t"}}}'
)
# A closed list: a message that is quoted in a reason would end up in a log.
REASONS: Final = frozenset(
    {
        "a message must be text, got binary data",
        "the start message must come before other events",
        "the streamSid must be that of the start message",
        "a digit must be 0 to 9, A to D, star or hash",
        "the start message must come once, got a second one",
        "the start message must have one streamSid, twice",
        "the start message must have a callSid",
        "the media format must be mu-law, 8000 Hz, one channel",
        "each field must be there and have its type",
        "a message must be valid JSON",
        "a payload must have audio, got an empty one",
    }
)
"""All reasons with which the codec may refuse a message; none quotes the message."""


class _Errors(logging.Handler):
    """A handler that keeps what was logged as an error: each is a bug of ours."""

    def __init__(self) -> None:
        super().__init__(logging.ERROR)
        self.found: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.found.append(self.format(record))


# One handler for all inputs: the fuzzer runs millions in one process.
_errors: Final = _Errors()


def _run(function: Callable[[], Any]) -> Any:
    """Run in virtual time; an error in the log is a finding."""
    # On the root logger, each time: a test's own logging may have been set up meanwhile.
    if _errors not in logging.getLogger().handlers:
        logging.getLogger().addHandler(_errors)
    _errors.found.clear()
    result = trio.run(function, clock=trio.testing.MockClock(autojump_threshold=0))
    assert not _errors.found, _errors.found
    return result


# Codecs ---------------------------------------------------------------------------------------------------------------
def codec(data: bytes) -> None:
    """Check Twilio's messages, one a line: decoded as the json module decodes them, or refused with a known reason."""
    reading = TwilioCodec()
    for line in data.split(b"\n"):
        # Surrogates on request: the codec takes any string, also one that no UTF-8 decodes to.
        message = line.decode("utf-8", "surrogateescape" if line[:1] == b"!" else "replace")
        event, refused = _received(reading, message)
        # Before the rest: a refused message has no meaning to compare.
        assert not refused or refused in REASONS, refused
        if refused:
            continue
        whole = json.loads(message)
        match event:
            case AudioReceived():
                assert event.audio == base64.b64decode(whole["media"]["payload"])
            case MarkReached():
                assert event.name == whole["mark"]["name"]
            case DigitPressed():
                assert event.digit in DIGITS
            case StreamStarted():
                assert event.call_id == whole["start"]["callSid"]
            case StreamStopped():
                assert whole["event"] == "stop"
            case None:
                assert isinstance(whole["event"], str)
        _sent(reading, event)


def _received(reading: TwilioCodec, message: str) -> tuple[StreamEvent | None, str]:
    try:
        return reading.receive(message), ""
    except WireError as error:
        return None, str(error)


def _sent(reading: TwilioCodec, event: object) -> None:
    """Check that an independent implementation of the protocol accepts what we would send back."""
    if isinstance(event, AudioReceived):
        decoded, audio = (
            # Only if the stream has the name for which the kit is asked; the fuzzer may have made up another.
            kit.read_message(reading.audio(event.audio), "MZ1") if "MZ1 " in f"{reading!r} " else (None, b"")
        )
        assert decoded is None or audio == event.audio
    if isinstance(event, MarkReached):
        assert json.loads(reading.mark(event.name))["mark"]["name"] == event.name


def kit_codec(data: bytes) -> None:
    """Check the simulated carrier's decoding of a server's messages, and of its TwiML."""
    text = data.decode("utf-8", "replace")
    with suppress(BadMessage):
        kit.read_message(text, "MZ1")
    with suppress(BadAnswer):
        kit.read_twiml(data)


def wav(data: bytes) -> None:
    """Check that a WAV gives no more 16-bit samples than its bytes allow, or a WavError, and survives being written."""
    try:
        samples = read_wav(data)
    except WavError:
        return
    assert samples.dtype == np.int16
    assert samples.ndim == 1
    # A header may claim any size; no sample may come from nowhere. At the lowest rate,
    # resampling makes the most of a byte.
    assert len(samples) <= len(data) * 8000 / RATES_HZ[0] + 1
    assert np.array_equal(read_wav(write_wav([samples])), samples)


def _coded(sample: int) -> int:
    """Encode one sample by the definition of G.711: sign, segment, step."""
    # From G.711's own words, and slowly: 14 bits, a bias of 33, and the segment from the position of the highest bit.
    value = sample >> 2
    sign, value = (0x80, -value) if value < 0 else (0, value)
    value = min(value, 8158) + 33
    segment = value.bit_length() - 6
    return ~(sign | segment << 4 | value >> segment + 1 & 15) & 0xFF


def mulaw(data: bytes) -> None:
    """Check the tables against the definition, both ways."""
    decoded = g711.decode(data)
    again = g711.encode(decoded)
    # Decoding and encoding again changes nothing else.
    assert bytes(code if code != 0x7F else 0xFF for code in data) == again  # both zeros of mu-law are one sample
    samples = np.frombuffer(data[: len(data) // 2 * 2], "<i2")
    assert list(g711.encode(samples)) == [_coded(int(sample)) for sample in samples]


# WebSocket ------------------------------------------------------------------------------------------------------------
async def _messages(data: bytes, size: int, *, writer: bool) -> tuple[list[str | bytes], int]:
    """Return a WebSocket's messages from these bytes, in pieces of ``size``, and the code with which it ends."""
    ours, theirs = trio.testing.memory_stream_pair()
    await ours.send_all(HEAD)
    line = FaultyStream(theirs)
    socket = await (await receive_upgrade(line, bytes(await line.receive_some(65536)))).accept()
    if writer:
        # Pongs are then left to a writer that never comes: the other way through the same code.
        socket.share_sending(lambda: None)
    await ours.send_all(data)
    # Before the reading: all bytes are there, and only their division differs.
    await ours.send_eof()
    line.trickle(size)
    received: list[str | bytes] = []
    code = 0
    while not code:
        try:
            message = await socket.receive()
        except SocketClosed as closed:
            code = closed.code
        else:
            assert len(message) <= MAX_MESSAGE_BYTES
            received.append(message)
    before = trio.current_time()
    await socket.aclose()
    # The bound of ``WebSocket.aclose``.
    assert trio.current_time() - before <= 0.5
    return received, code


def websocket(data: bytes) -> None:
    """Check that frames mean the same in any segmentation, and that bad ones cause nothing but SocketClosed."""
    # The first byte chooses, so that the fuzzer can vary it: the size in six bits, the writer in the seventh.
    size = 1 + data[0] % 64 if data else 1
    writer = bool(data and data[0] & 64)
    whole = _run(partial(_messages, data[1:], 65536, writer=writer))
    torn = _run(partial(_messages, data[1:], size, writer=writer))
    assert whole[0] == torn[0], (whole, torn)
    # Frames are read a segment at a time, texts one by one: data after a bad text may be what ends the stream.
    assert whole[1] == torn[1] or 1007 in (whole[1], torn[1]), (whole, torn)


def upgrade(data: bytes) -> None:
    """Check that a WebSocket request is accepted, or refused with an HTTP answer, and never crashes the connection."""
    head = b"GET /ws/twilio/stream/" + data + b"\r\n\r\n"

    async def request() -> bytes:
        return await _served(head)

    answer = _run(request)
    assert not answer or answer.startswith(b"HTTP/1.1 "), answer


def connection(data: bytes) -> None:
    """Check that the first data of a connection is answered with HTTP or not at all, within 26 s."""
    answer = _run(partial(_served, data))
    assert not answer or answer.startswith(b"HTTP/1.1 "), answer


async def _served(data: bytes) -> bytes:
    """Return the answer to a connection that sends these bytes and then waits."""
    ours, theirs = trio.testing.memory_stream_pair()
    answer = bytearray()
    # Above the sum of a connection's limits (server/connection.py): 10 s for the head, 10 s for the start, the closing.
    with trio.fail_after(26):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(serve_connection, _server_context(), theirs)
            await ours.send_all(data)
            # Until the server closes: the client sends nothing more.
            while received := await ours.receive_some(65536):
                answer += received
    return bytes(answer)


def _server_context(pending: PendingCalls | None = None) -> ServerContext:
    # No call behind the connection: that is another target.
    async def answer(leg: Any) -> None:
        with suppress(SocketClosed, WireError):
            while not isinstance(leg.codec.receive(await leg.socket.receive()), StreamStopped):
                pass

    return ServerContext(
        carrier=CARRIER,
        public_url=PUBLIC,
        pending=PendingCalls() if pending is None else pending,
        refusal=lambda _: "",
        on_announced=lambda _: None,
        run_call=answer,
    )


def webhook(data: bytes) -> None:
    """Check that a form with Twilio's signature is answered with TwiML or refused, and any other refused."""
    # The first line is the query, so that one input varies both.
    query, _, body = data.partition(b"\n")
    target = "/webhooks/twilio/voice" + ("?" + query.decode("ascii", "ignore") if query else "")
    try:
        form: Any = parse_qs(body.decode(), keep_blank_values=True, errors="strict")
    except ValueError:
        form = {}
    context = _server_context()
    signature = CARRIER.sign(PUBLIC + target, form)
    # 400 even with the right signature: it may cover a form that names no call.
    for given, allowed in ((signature, {200, 204, 400}), ("wrong", {400, 403}), ("", {400, 403})):
        for kind in WEBHOOK_KINDS:
            headers = {"x-twilio-signature": given} if given else {}

            request = CarrierRequest(kind, PUBLIC + target, headers, body)

            async def ask(request: CarrierRequest = request) -> Any:
                return carrier_webhook(context, request)

            response = _run(ask)
            assert response.status in allowed, response
            if response.status == 200:
                kit.read_twiml(response.body.encode())


# Complete calls -------------------------------------------------------------------------------------------------------
PAUSE_OPCODE: Final = 0xF0
# An input of a thousand lines would be a thousand times the same code.
MAX_STEPS: Final = 64


def _steps(data: bytes) -> Iterator[bytes | float]:
    """Yield the actions of a peer after its start: messages, raw bytes and pauses.

    A line that begins with 0xF0 is a pause; its second byte gives the hundredths of a second. A line that begins with
    0xF1 is raw bytes. Any other line is a text message.
    """
    for line in data.split(b"\n")[:MAX_STEPS]:
        if line[:1] == bytes([PAUSE_OPCODE]):
            yield (line[1] if len(line) > 1 else 10) / 100
        elif line[:1] == bytes([PAUSE_OPCODE + 1]):
            yield line[1:]
        else:
            yield frame(TEXT_OPCODE, line)


async def _call(data: bytes) -> None:
    # A call that loses its stream is hung up by a request, which must not leave this process.
    with answering(CARRIER.api_url, _hung_up):
        await _served_call(data)


async def _hung_up(request: RESTRequest) -> RESTAnswer:
    assert request.method == "POST"
    return RESTAnswer(200, {"sid": "CA1"})


async def _served_call(data: bytes) -> None:
    phone = Patter()
    agent = phone.agent(
        "x",
        vad=ScriptedVAD(),
        stt=ScriptedSTT(final_delay=0.1),
        llm=ScriptedLLM(["Yes, of course."]),
        tts=ScriptedTTS(),
        first_message="Good evening.",
        # The peer may keep silent for ever: each input ends within seconds of virtual time.
        max_call_duration=5.0,
    )
    ends: list[Any] = []
    over = trio.Event()

    def ended(event: Any) -> None:
        ends.append(event)
        over.set()

    callbacks = {"on_call_end": ended, "on_dtmf": lambda _: None}
    ours, theirs = trio.testing.memory_stream_pair()
    async with open_call_server(
        phone._serve_options(agent, carrier=CARRIER, public_url=PUBLIC, callbacks=callbacks),  # noqa: SLF001 (as the test kit does)
        Seams(epoch=0.0),
    ) as call_server:
        info = CallInfo("CA1", "+15550100001", "+15550100002", "inbound", provider="twilio")
        # Announced by hand: only a media stream whose call was announced gets further than the handshake.
        call = call_server.context.pending.announce(info, trio.current_time())
        call_server.on_announced(call)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(serve_connection, call_server.context, theirs)
            await ours.send_all(HEAD + frame(TEXT_OPCODE, START.replace('"t"', f'"{call.token}"').encode()))
            # A peer that does not read is a fault of its own, in the catalogue of faults.
            nursery.start_soon(_drain, ours)
            for step in _steps(data):
                if isinstance(step, float):
                    await trio.sleep(step)
                else:
                    # The server may have closed, as it should after some inputs; the rest of the input has no receiver.
                    with suppress(trio.BrokenResourceError, trio.ClosedResourceError):
                        await ours.send_all(step)
            with trio.fail_after(60):
                await over.wait()
                # The second within which all of a call has to be gone.
                await trio.sleep(1.0)
            assert not call_server.context.pending
            nursery.cancel_scope.cancel()
    assert len(ends) == 1, ends
    assert math.isfinite(ends[0]["ended_at"])


async def _drain(stream: trio.abc.ReceiveStream) -> None:
    with suppress(trio.BrokenResourceError, trio.ClosedResourceError):
        while await stream.receive_some(65536):
            pass


def call(data: bytes) -> None:
    """Check that a call whose peer sends anything at any time ends exactly once, without an error in the log."""
    _run(partial(_call, data))


TARGETS: Final[dict[str, Callable[[bytes], None]]] = {
    target.__name__: target
    for target in (
        *(codec, kit_codec, wav, mulaw, websocket, upgrade, connection, webhook, call),
        telnyx,
        *(vendors.deepgram, vendors.elevenlabs, vendors.chat, vendors.realtime, vendors.plivo),
    )
}
"""The targets by name."""
