"""Whole calls over Plivo, with real sockets on loopback and a client that knows only Plivo's protocol."""

import base64
import json
import math
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager, suppress
from functools import partial
from typing import Any
from urllib.parse import urlencode, urlsplit
from xml.etree import ElementTree as ET

import attrs
import httpx
import pytest
import trio
import trio_websocket

from patter_trio import CallControl, OutboundCall, Patter, Plivo
from patter_trio.agent.agent import Agent
from patter_trio.testing import ScriptedTTS, ScriptedVAD
from patter_trio.testing.scripted_providers import audible_text
from patter_trio.testing.servers.plivo_rest import PlivoRESTServer, serve_plivo_rest
from tests.kit.call import agent_of

AUTH_ID, TOKEN, NONCE = "MA1", "hush", "05429567804466091622"
CALL = "a7bd2e5c-6d1f-4d6e-9b0c-8f7a6b5c4d3e"
ANNOUNCED = {
    "CallUUID": CALL,
    "From": "15550100001",
    "To": "15550100002",
    "Direction": "inbound",
    "CallStatus": "ringing",
    "Event": "StartApp",
    "X-PH-CustomId": "42",
}
DESK = "+15550100003"
SILENCE = b"\xff" * 160
LIMIT_S = 60.0
"""Seconds of real time for one test, which needs four at most: room for a loaded machine."""


@attrs.define(eq=False)
class Caller:
    """Plivo's side of one call: its requests, its socket, and the buffer from which it plays."""

    base: str
    carrier: Plivo
    http: httpx.AsyncClient
    said: list[bytes] = attrs.field(factory=list)
    """What the caller says next: frames of 20 ms."""
    received: list[dict[str, Any]] = attrs.field(factory=list)
    cleared: int = 0
    pending: dict[str, float] = attrs.field(factory=dict)
    """Checkpoints that were not played yet, each with the instant at which it will have been."""
    end: float = -math.inf
    over: trio.Event = attrs.field(factory=trio.Event)
    close_code: int | None = None
    news: trio.Event = attrs.field(factory=trio.Event)
    socket: Any = None
    answer_url: str = ""
    announced: Mapping[str, str] = attrs.field(factory=lambda: ANNOUNCED)

    async def post(self, url: str, form: Mapping[str, str], *, signed: bool = True) -> httpx.Response:
        """Send a webhook."""
        signature = self.carrier.sign("POST", url, form, NONCE)
        headers = {"X-Plivo-Signature-V3": signature if signed else "wrong", "X-Plivo-Signature-V3-Nonce": NONCE}
        return await self.http.post(url, data=dict(form), headers=headers)

    async def announce(self) -> ET.Element:
        """Announce the call, and return the one element of the answer."""
        answer = await self.post(self.answer_url or f"{self.base}/webhooks/plivo/voice", self.announced)
        assert (answer.status_code, answer.headers["content-type"]) == (200, "text/xml; charset=utf-8")
        return ET.fromstring(answer.content)[0]  # noqa: S314 (our own XML)

    @asynccontextmanager
    async def connected(self, parameters: str | None = None, headers: Any = ()) -> AsyncIterator[None]:
        """Open the stream that the answer asks for, and carry sound both ways until the block ends."""
        stream = await self.announce()
        extra = stream.attrib["extraHeaders"] if parameters is None else parameters
        body = {
            "callId": CALL,
            "streamId": "s1",
            "accountId": AUTH_ID,
            "tracks": ["inbound"],
            "mediaFormat": {"encoding": "audio/x-mulaw", "sampleRate": 8000},
        }
        start = {"event": "start", "sequenceNumber": 1, "start": body, "extra_headers": extra}
        url = urlsplit(str(stream.text))
        # Over a connection of our own, which the block closes whoever ends the stream.
        async with (
            await trio.open_tcp_stream(str(url.hostname), url.port or 80) as line,
            trio.open_nursery() as nursery,
        ):
            socket = await trio_websocket.wrap_client_stream(
                nursery, line, url.netloc, url.path, extra_headers=list(headers)
            )
            self.socket = socket
            await socket.send_message(json.dumps(start))
            nursery.start_soon(self._speak, socket)
            nursery.start_soon(self._hear, socket)
            yield
            # The closing handshake is how Plivo ends a stream.
            await socket.aclose()
            nursery.cancel_scope.cancel()

    async def _speak(self, socket: trio_websocket.WebSocketConnection) -> None:
        frame = 0
        with suppress(trio_websocket.ConnectionClosed):
            while True:
                frame += 1
                payload = base64.b64encode(self.said.pop(0) if self.said else SILENCE).decode()
                media = {"track": "inbound", "timestamp": str(frame * 20), "chunk": frame, "payload": payload}
                await self._send(socket, event="media", media=media)
                for name in [name for name, due in self.pending.items() if due <= trio.current_time()]:
                    del self.pending[name]
                    await self._send(socket, event="playedStream", name=name)
                await trio.sleep(0.02)

    async def _send(self, socket: trio_websocket.WebSocketConnection, **fields: Any) -> None:
        await socket.send_message(json.dumps({"sequenceNumber": 2, "streamId": "s1", **fields}))

    async def _hear(self, socket: trio_websocket.WebSocketConnection) -> None:
        try:
            while True:
                message = json.loads(await socket.get_message())
                self.received.append(message)
                match message["event"]:
                    case "playAudio":
                        assert message["media"].keys() == {"contentType", "sampleRate", "payload"}
                        seconds = len(base64.b64decode(message["media"]["payload"])) / 8000
                        self.end = max(self.end, trio.current_time()) + seconds
                    case "checkpoint":
                        # With nothing in the buffer Plivo promises no confirmation.
                        if self.end > trio.current_time():
                            self.pending[message["name"]] = self.end
                    case "clearAudio":
                        self.cleared += 1
                        self.pending.clear()
                        self.end = -math.inf
                        await self._send(socket, event="clearedAudio")
                self.news.set()
                self.news = trio.Event()
        except trio_websocket.ConnectionClosed as closed:
            self.close_code = closed.reason.code if closed.reason else None
            self.over.set()

    async def until(self, condition: Callable[[], bool]) -> None:
        """Wait for a message after which a condition holds."""
        while not condition():
            await self.news.wait()

    async def press(self, digit: str) -> None:
        """Press a key."""
        await self._send(self.socket, event="dtmf", dtmf={"track": "inbound", "digit": digit, "timestamp": "5"})

    def speak(self, text: str, seconds: float) -> None:
        """Say a text."""
        sound = audible_text.encode(text, audible_text.frames_of(seconds), utterance=1)
        self.said += [sound[start : start + 160] for start in range(0, len(sound), 160)]

    def heard(self) -> str:
        """Return the words in all sound that came."""
        decoder = audible_text.Decoder()
        sound = b"".join(base64.b64decode(m["media"]["payload"]) for m in self.received if m["event"] == "playAudio")
        return "".join(piece.words for piece in decoder.feed(sound + SILENCE))


@asynccontextmanager
async def plivo_call(agent: Agent, **options: Any) -> AsyncIterator[tuple[Caller, Patter, PlivoRESTServer]]:
    """Serve an agent on loopback, beside Plivo's REST interface, and yield a caller."""
    with trio.fail_after(LIMIT_S):
        async with (
            serve_plivo_rest(AUTH_ID, TOKEN, calls=[CALL], numbers={"15550100002": ""}) as rest,
            httpx.AsyncClient(trust_env=False) as http,
            trio.open_nursery() as nursery,
        ):
            carrier = Plivo(AUTH_ID, TOKEN, api_url=rest.api_url)
            phone = Patter(carrier=carrier)
            host, port = await nursery.start(partial(phone.serve, agent, port=0, max_lag=None, **options))
            yield Caller(f"http://{host}:{port}", carrier, http), phone, rest
            nursery.cancel_scope.cancel()


class Log:
    """The callbacks of a call, as they come."""

    def __init__(self) -> None:
        self.start: dict[str, Any] = {}
        self.digits: list[str] = []
        self.ends: list[dict[str, Any]] = []
        self.over = trio.Event()
        self.pressed = trio.Event()
        self.cut = trio.Event()
        self.quiet = trio.Event()

    @property
    def callbacks(self) -> dict[str, Any]:
        return {"on_call_start": self._started, "on_call_end": self._ended, "on_dtmf": self._pressed}

    def _started(self, event: dict[str, Any]) -> None:
        self.start = dict(event)

    def _pressed(self, event: dict[str, Any]) -> None:
        self.digits.append(event["digit"])
        self.pressed.set()

    def _ended(self, event: dict[str, Any]) -> None:
        self.ends.append(event)
        self.over.set()

    def watch(self, phone: Patter) -> None:
        """Watch the agent's speech."""

        def ended(event: dict[str, Any]) -> None:
            (self.cut if event["interrupted"] else self.quiet).set()

        phone.on_agent_speech_ended = ended


QUICK = {"vad": ScriptedVAD(start_delay=0.05, end_delay=0.1)}


async def test_whole_plivo_call_with_barge_in() -> None:
    """Webhook, stream, greeting by checkpoints, keys both ways, a cut reply and a hang-up work over Plivo."""
    log = Log()
    agent = agent_of(
        "A very long answer " + "about all of our opening hours " * 20,
        first_message="Good evening.",
        tts=ScriptedTTS(per_character=0.03),
        dtmf=False,
        **QUICK,
    )
    async with plivo_call(agent, **log.callbacks) as (caller, phone, _):
        log.watch(phone)
        async with caller.connected():
            await log.quiet.wait()
            assert caller.heard().strip() == "Good evening."
            await caller.press("5")
            await log.pressed.wait()
            await phone.calls[0].send_dtmf("12#", wait=True)
            caller.speak("When do you open?", 0.6)
            await caller.until(lambda: "long" in caller.heard())
            caller.speak("Stop!", 0.6)
            await log.cut.wait()
            await caller.until(lambda: bool(caller.cleared))
        await log.over.wait()
        hung_up = {"CallUUID": CALL, "Event": "Hangup", "CallStatus": "completed", "TotalCost": "0.00850"}
        for _ in range(2):  # Plivo repeats a webhook whose answer was lost
            assert (await caller.post(f"{caller.base}/webhooks/plivo/status", hung_up)).status_code == 204
    facts = ("call_id", "caller", "callee", "direction", "custom_params", "telephony_provider")
    assert tuple(log.start[fact] for fact in facts) == (
        CALL, "+15550100001", "+15550100002", "inbound", {"CustomId": "42"}, "plivo",
    )  # fmt: skip
    assert log.digits == ["5"]
    sent = [message for message in caller.received if message["event"] == "sendDTMF"]
    assert sent == [{"event": "sendDTMF", "dtmf": "12#"}]
    [end] = log.ends
    assert (end["outcome"], end.get("error")) == ("caller_hung_up", None)
    said = [entry["text"] for entry in end["transcript"] if entry["role"] == "user"]
    assert said[:1] == ["When do you open?"]
    # What was sent after the clear belongs to no reply that was cut.
    events = [message["event"] for message in caller.received]
    assert events[events.index("clearAudio") + 1] == "checkpoint"
    assert all(m.get("streamId") == "s1" for m in caller.received if m["event"] in ("checkpoint", "clearAudio"))


async def test_plivo_agent_hangs_up_by_closing_stream() -> None:
    """The agent's hang-up closes the stream after its last words, which ends a call with nothing behind its stream."""
    log = Log()

    async def on_message(event: dict[str, Any], call: CallControl) -> str:
        call.hang_up()
        return "Goodbye."

    agent = agent_of(llm=None, tts=ScriptedTTS(duration=0.3), **QUICK)
    async with plivo_call(agent, on_message=on_message, **log.callbacks) as (caller, _, rest):
        async with caller.connected():
            caller.speak("That is all.", 0.4)
            await caller.over.wait()
            assert caller.heard().strip() == "Goodbye."
        await log.over.wait()
        assert not rest.requests
    assert [end["outcome"] for end in log.ends] == ["agent_hung_up"]


async def test_plivo_transfer_fetches_published_document() -> None:
    """A transfer gives Plivo a URL, whose document only signed requests of that call get, also when repeated."""
    log = Log()

    async def on_message(event: dict[str, Any], call: CallControl) -> str:
        await call.transfer(DESK)
        return "One moment."

    agent = agent_of(llm=None, tts=ScriptedTTS(duration=0.3), **QUICK)
    async with plivo_call(agent, on_message=on_message, **log.callbacks) as (caller, _, rest):
        async with caller.connected():
            caller.speak("The desk, please.", 0.4)
            await rest.calls[CALL].changed.wait()
            url = rest.calls[CALL].url
            assert url.startswith(f"{caller.base}/webhooks/plivo/transfer?document=")
            assert DESK[1:] not in url
            form = ANNOUNCED | {"CallStatus": "in-progress", "Event": "Redirect"}
            for _ in range(2):
                answer = await caller.post(url, form)
                [dial] = ET.fromstring(answer.content)  # noqa: S314 (our own XML)
                assert (dial.tag, [(child.tag, child.text) for child in dial]) == ("Dial", [("Number", DESK)])
            other = form | {"CallUUID": CALL.replace("a", "b")}
            assert (await caller.post(url, form, signed=False)).status_code == 403
            assert (await caller.post(url, other)).status_code == 404
            assert (await caller.post(f"{url}0", form)).status_code == 404
            # The desk answers; without that, the call would wait for it.
            answered = {"DialAction": "answer", "DialALegUUID": CALL, "CallUUID": CALL}
            assert (await caller.post(dial.attrib["callbackUrl"], answered)).status_code < 300
            await caller.over.wait()
        await log.over.wait()
    assert [end["outcome"] for end in log.ends] == ["transferred"]
    assert [(request.method, request.path) for request in rest.requests] == [("POST", f"Call/{CALL}/")]


async def test_plivo_busy_line_and_wrong_signature() -> None:
    """A call beyond the limit hears busy, and a webhook with a wrong signature is refused."""
    async with plivo_call(agent_of(), max_calls=1) as (caller, _, __):
        answer = await caller.post(f"{caller.base}/webhooks/plivo/voice", ANNOUNCED, signed=False)
        assert answer.status_code == 403
        assert (await caller.announce()).tag == "Stream"
        other = ANNOUNCED | {"CallUUID": CALL.replace("a", "b")}
        answer = await caller.post(f"{caller.base}/webhooks/plivo/voice", other)
        [element] = ET.fromstring(answer.content)  # noqa: S314 (our own XML)
        assert (answer.status_code, element.tag, element.attrib) == (200, "Hangup", {"reason": "busy"})


async def test_call_placed_over_plivo_is_known_by_reference() -> None:
    """A call that we place rings, is answered and ends, although Plivo gives its id only with the first webhook."""
    log = Log()
    agent = agent_of(first_message="Hello.", tts=ScriptedTTS(duration=0.2), **QUICK)
    async with plivo_call(agent, **log.callbacks) as (caller, phone, rest):
        log.watch(phone)
        placed: list[OutboundCall] = []

        async def places() -> None:
            placed.append(await phone.call("+15550100001", from_number="+15550100002"))

        async with trio.open_nursery() as nursery:
            nursery.start_soon(places)
            await rest.dialled.wait()
            [(request_id, fields)] = rest.placed.items()
            ids = {"CallUUID": CALL, "RequestUUID": request_id, "From": "15550100002", "To": "15550100001"}
            ring = ids | {"Direction": "outbound", "CallStatus": "ringing", "Event": "Ring"}
            assert (await caller.post(fields["ring_url"], ring)).status_code == 204
        assert placed[0].call_id == CALL
        caller.answer_url = fields["answer_url"]
        caller.announced = ring | {"CallStatus": "in-progress", "Event": "StartApp"}
        async with caller.connected():
            await log.quiet.wait()
        assert await placed[0].ended() == "caller_hung_up"
        await log.over.wait()
        hung_up = ids | {"Direction": "outbound", "CallStatus": "completed", "Event": "Hangup", "TotalCost": "0.01"}
        assert (await caller.post(fields["hangup_url"], hung_up)).status_code == 204
    assert (log.start["call_id"], log.start["direction"], log.start["caller"]) == (CALL, "outbound", "+15550100002")
    assert len(log.ends) == 1


@pytest.mark.parametrize("parameters", ["token=0000", "", '{"token": "0000"}'])
async def test_plivo_streams_need_their_token(parameters: str) -> None:
    """A stream without the token of its call is closed with 1008 before the agent says a word."""
    async with plivo_call(agent_of(first_message="Hello.")) as (caller, _, __), caller.connected(parameters):
        await caller.over.wait()
    assert (caller.close_code, caller.received) == (1008, [])


@pytest.mark.parametrize("right", [True, False], ids=["right", "wrong"])
async def test_plivo_upgrade_signatures_never_lock_out(right: bool) -> None:
    """A stream with the token is answered whether the signature of its upgrade is one that we know or not."""
    log = Log()
    agent = agent_of(first_message="Hello.", tts=ScriptedTTS(duration=0.2), **QUICK)
    async with plivo_call(agent, **log.callbacks) as (caller, phone, _):
        log.watch(phone)
        url = f"ws{caller.base.removeprefix('http')}/ws/plivo/stream/{CALL}"
        signed = url if right else f"{url}/websocket"
        headers = [
            ("X-Plivo-Signature-V3", caller.carrier.sign("GET", signed, {}, NONCE)),
            ("X-Plivo-Signature-V3-Nonce", NONCE),
        ]
        async with caller.connected(headers=headers):
            await log.quiet.wait()
    assert caller.heard().strip() == "Hello."


def test_posted_forms_are_those_that_are_signed() -> None:
    """The client of these tests sends the form that it signs."""
    request = httpx.Request("POST", "http://a.example", data=ANNOUNCED)
    assert request.content.decode() == urlencode(ANNOUNCED)
