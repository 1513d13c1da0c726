"""A carrier of each kind as its wire: signed webhooks, the REST API's answers, and a stream, for a server in this run.

Everything is made from the carriers' pages, one message at a time, so that a test can repeat, delay or forge any of
them.
"""

import base64
import json
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import ExitStack, asynccontextmanager
from typing import Any
from urllib.parse import parse_qsl, urlencode, urlsplit
from xml.etree import ElementTree as ET

import attrs
import trio
import trio.testing

from patter_trio import Patter, Plivo, Telnyx, Twilio
from patter_trio.abc import Carrier, CarrierRequest, WebhookKind
from patter_trio.carriers.telnyx_signature import public_key_of, sign
from patter_trio.net.http import answered_here
from patter_trio.net.websocket import SocketClosed, WebSocket, connect
from patter_trio.server.calls import CallServer, open_call_server
from patter_trio.server.connection import serve_connection
from patter_trio.server.lost_streams import RETRY_WAIT_S
from patter_trio.server.options import Seams
from patter_trio.server.webhooks import WebhookResponse, carrier_webhook
from patter_trio.testing.carriers.news import PLIVO_NEWS, TELNYX_NEWS, TWILIO_NEWS
from patter_trio.testing.scripted_providers.audible_text import Decoder
from patter_trio.testing.simulation.carriers import call_id_of
from patter_trio.wire.telnyx import decode_state, encode_state
from tests.kit.call import agent_of

PUBLIC, EPOCH = "https://agent.test", 1_800_000_000
PRIVATE, NONCE = bytes(range(32)), "05429567804466091622"
CALLER, CALLEE = "+15550100001", "+15550100002"
SILENCE = base64.b64encode(b"\xff" * 160).decode()


def carrier_of(name: str) -> Carrier:
    match name:
        case "twilio":
            return Twilio("AC" + "1" * 32, "hush")
        case "telnyx":
            return Telnyx("KEY", public_key_of(PRIVATE), "7267")
        case _:
            return Plivo("MA1", "hush")


# What becomes of a transfer.
_TWILIO: Mapping[str, tuple[WebhookKind, dict[str, str]]] = {
    **TWILIO_NEWS,
    "unreached": ("return", {"CallStatus": "in-progress", "DialCallStatus": "no-answer"}),
    "reached": ("status", {"CallStatus": "in-progress", "ParentCallSid": "", "CallSid": "CA" + "9" * 32}),
    "talked": ("return", {"CallStatus": "in-progress", "DialCallStatus": "completed"}),
}
_PLIVO: Mapping[str, tuple[WebhookKind, dict[str, str]]] = {
    **PLIVO_NEWS,
    "unreached": ("return", {"CallStatus": "in-progress", "DialStatus": "no-answer"}),
    "reached": ("status", {"DialAction": "answer", "DialALegUUID": ""}),
    "talked": ("return", {"CallStatus": "in-progress", "DialStatus": "completed"}),
}
_TELNYX: Mapping[str, tuple[str, Mapping[str, Any]]] = {
    **TELNYX_NEWS,
    "unreached": ("call.hangup", {"hangup_cause": "timeout"}),
    "reached": ("call.answered", {}),
}


@attrs.frozen
class Order:
    """Where a stream is wanted, the token that it must bring, and its reference in the question what follows it."""

    url: str
    token: str
    reference: str = ""


@attrs.define(eq=False)
class Stream:
    """A media stream: what the caller hears, and how it ended."""

    wire: "Wire"
    socket: WebSocket
    call_id: str
    words: str = ""
    closed: tuple[int, str] | None = None
    over: trio.Event = attrs.field(factory=trio.Event)
    _ear: Decoder = attrs.field(factory=Decoder)

    async def run(self) -> None:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._speak)
            try:
                while True:
                    message = json.loads(await self.socket.receive())
                    if message["event"] in ("media", "playAudio"):
                        audio = base64.b64decode(message["media"]["payload"])
                        self.words += "".join(sound.words for sound in self._ear.feed(audio))
            except SocketClosed as closed:
                self.closed = (closed.code, closed.reason)
            nursery.cancel_scope.cancel()
        self.over.set()

    async def _speak(self) -> None:
        frame = 0
        while True:
            await trio.sleep(0.02)
            frame += 1
            body = {"track": "inbound", "chunk": str(frame), "timestamp": str(frame * 20), "payload": SILENCE}
            try:
                await self.socket.send(self.wire.message("media", media=body))
            except SocketClosed:
                return

    async def lose(self) -> None:
        """Break the connection without a close, as a proxy that restarts does."""
        await trio.aclose_forcefully(self.socket._stream)
        await self.over.wait()

    async def hang_up(self) -> None:
        """End the stream as the carrier does when the caller leaves."""
        # Plivo documents no such message.
        if self.wire.name != "plivo":
            key = "callSid" if self.wire.name == "twilio" else "call_control_id"
            await self.socket.send(self.wire.message("stop", stop={key: self.call_id}))
        await self.socket.aclose()
        await self.over.wait()


@attrs.define(eq=False)
class Wire:
    """One carrier, and the server that it calls."""

    name: str
    carrier: Carrier
    phone: Patter
    server: CallServer
    nursery: trio.Nursery
    starts: list[dict[str, Any]]
    ends: list[dict[str, Any]]
    commands: list[tuple[str, dict[str, Any]]] = attrs.field(factory=list)
    """The requests over REST: the last part of the path, and the fields."""
    opened: dict[str, Order] = attrs.field(factory=dict)
    """The order of the last stream that each call opened."""
    reference: str = ""
    """Our server's reference of the last call that it placed."""
    during_dial: Callable[[], None] = lambda: None
    """Called when a call was placed, before the answer."""
    rings: bool = True
    """False: no webhook says that a placed call rings."""

    dials: int = 0
    """The number of calls that the server has placed."""

    @property
    def placed_id(self) -> str:
        """The id of the last call that the server placed, or of the first one that it will."""
        return self.placed(max(self.dials, 1))

    def placed(self, number: int) -> str:
        """Return the id of a call that the server places; the first is 1."""
        return call_id_of(self.name, f"{6 + number:032d}")

    def call_id(self, number: int = 1) -> str:
        return call_id_of(self.name, f"{number:032d}")

    # Webhooks ---------------------------------------------------------------------------------------------------------
    def webhook(
        self, what: str, call_id: str, dial: str = "", headers: Mapping[str, str] | None = None, *, stream: str = ""
    ) -> CarrierRequest:
        """Return a signed webhook; ``headers`` are added to it, and the references to its URL."""
        if self.name == "telnyx":
            return self._telnyx(what, call_id, dial, headers or {})
        kind, fields = (_TWILIO if self.name == "twilio" else _PLIVO)[what]
        references = {name: value for name, value in (("dial", dial), ("stream", stream)) if value}
        url = f"{self.carrier.path_of(kind)}?{urlencode(references)}".rstrip("?")
        if self.name == "twilio":
            form = {"CallSid": call_id, "AccountSid": "AC" + "1" * 32, "From": CALLER, "To": CALLEE, **fields}
            if "ParentCallSid" in fields:
                form["ParentCallSid"] = call_id
        else:
            form = {"CallUUID": call_id, "From": CALLER[1:], "To": CALLEE[1:], **fields}
            if "DialALegUUID" in fields:
                form["DialALegUUID"] = call_id
        request = CarrierRequest(kind, PUBLIC + url, body=urlencode(form).encode())
        return attrs.evolve(request, headers={**self.signed_for(PUBLIC, request), **(headers or {})})

    def signed_for(self, public_url: str, request: CarrierRequest) -> dict[str, str]:
        """Return the headers that sign a form as if it were sent to another public URL; not for Telnyx."""
        url = public_url + request.url.removeprefix(PUBLIC)
        form = {name: str(values[0]) for name, values in request.form.items()}
        if isinstance(self.carrier, Twilio):
            return {"x-twilio-signature": self.carrier.sign(url, form)}
        assert isinstance(self.carrier, Plivo)
        signature = self.carrier.sign("POST", url, form, NONCE)
        return {"x-plivo-signature-v3": signature, "x-plivo-signature-v3-nonce": NONCE}

    def _telnyx(self, what: str, call_id: str, dial: str, headers: Mapping[str, str]) -> CarrierRequest:
        event, fields = _TELNYX["answered" if what == "voice" and dial else what]
        state = encode_state(dial=dial) if dial else None
        if what in ("unreached", "reached"):
            # Of the other party's leg, which has an id of its own.
            state, call_id = encode_state(transfer=call_id), "v3:other"
        payload = {"call_control_id": call_id, "from": CALLER, "to": CALLEE, "client_state": state, **fields}
        data = {"event_type": event, "id": "e1", "record_type": "event", "payload": payload}
        body, now = json.dumps({"data": data}).encode(), self.server.context.unix_time()
        signed = {"content-type": "application/json", **sign(PRIVATE, int(now), body), **headers}
        return CarrierRequest("voice", f"{PUBLIC}/webhooks/telnyx/voice", signed, body, received_at=now)

    def post(
        self, what: str, call_id: str, dial: str = "", headers: Mapping[str, str] | None = None, *, stream: str = ""
    ) -> WebhookResponse:
        """Send a webhook to the server's handler, and return the answer."""
        return carrier_webhook(self.server.context, self.webhook(what, call_id, dial, headers, stream=stream))

    async def announce(self, call_id: str, dial: str = "", headers: Mapping[str, str] | None = None) -> Order | None:
        """Announce a call, and return the stream that the server asks for; None: it asks for none."""
        before = len(self.commands)
        answer = self.post("voice", call_id, dial, headers)
        assert answer.status == 200
        if self.name == "telnyx":
            return await self._commanded(before)
        return self._order_in(answer)

    async def unreached(self, call_id: str) -> Order | None:
        """Tell that nobody answers a transfer; return the stream that the server asks for then."""
        before = len(self.commands)
        answer = self.post("unreached", call_id)
        return await self._commanded(before) if self.name == "telnyx" else self._order_in(answer)

    async def again(self, call_id: str, after: Order | None = None, what: str = "return") -> Order | None:
        """Ask how a call goes on whose stream is over; of Telnyx, wait for the next command.

        The stream is the last that the call opened, or that of the order ``after``.
        """
        if self.name != "telnyx":
            over = after or self.opened[call_id]
            answer = self.post(what, call_id, stream=over.reference)
            assert answer.status == 200
            return self._order_in(answer)
        before = len(self.commands)
        # The second request of a wait, or else the third, twice as long after it.
        for _ in range(2):
            await trio.sleep(RETRY_WAIT_S)
            if (order := await self._commanded(before)) is not None:
                return order
        return None

    async def _commanded(self, before: int) -> Order | None:
        await trio.testing.wait_all_tasks_blocked()
        asked = [body for _, body in self.commands[before:] if "stream_url" in body]
        return Order(asked[-1]["stream_url"], asked[-1]["stream_auth_token"]) if asked else None

    def _order_in(self, answer: WebhookResponse) -> Order | None:
        document = ET.fromstring(answer.body.encode())  # noqa: S314 (our own XML)
        stream = document.find(".//Stream")
        if stream is None:
            return None
        if self.name == "twilio":
            [connected] = document
            back = urlsplit(connected.attrib["action"])
            return Order(stream.attrib["url"], stream[0].attrib["value"], dict(parse_qsl(back.query))["stream"])
        back = urlsplit(str(document.findtext("Redirect")))
        token = stream.attrib["extraHeaders"].removeprefix("token=")
        return Order(str(stream.text), token, dict(parse_qsl(back.query))["stream"])

    # REST -------------------------------------------------------------------------------------------------------------
    async def answer(
        self, method: str, url: str, headers: Mapping[str, str], body: bytes
    ) -> tuple[int, Mapping[str, str], bytes]:
        """Answer a request of the server, as the carrier's REST API does."""
        await trio.lowlevel.checkpoint()
        text = body.decode()
        fields: dict[str, Any] = dict(parse_qsl(text)) if self.name == "twilio" else json.loads(text or "{}")
        path = urlsplit(url).path.rstrip("/")
        self.commands.append((path.rpartition("/")[2] if method != "DELETE" else "hangup", fields))
        if method != "POST" or not path.endswith(("/Calls.json", "/Call", "/v2/calls")):
            return (204, {}, b"") if method == "DELETE" else (200, {}, b'{"sid": "x", "data": {"result": "ok"}}')
        self.dials += 1
        if self.name == "telnyx":
            self.reference = decode_state(fields["client_state"])["dial"]
            answer: dict[str, Any] = {"data": {"call_control_id": self.placed_id}}
        else:
            asked = urlsplit(fields["Url" if self.name == "twilio" else "answer_url"])
            self.reference = dict(parse_qsl(asked.query))["dial"]
            answer = (
                {"sid": self.placed_id}
                if self.name == "twilio"
                else {"request_uuid": f"r{self.dials}", "message": "call fired"}
            )
        self.during_dial()
        if self.rings:
            self.nursery.start_soon(self._ring, self.placed_id, self.reference)
        return 201, {}, json.dumps(answer).encode()

    async def _ring(self, call_id: str, reference: str) -> None:
        await trio.sleep(0.1)
        assert self.post("ringing", call_id, reference).status == 204

    @property
    def hang_ups(self) -> int:
        """The number of requests that end a call."""
        return sum(
            name == "hangup" or fields.get("Status") in ("completed", "canceled") for name, fields in self.commands
        )

    # The stream -------------------------------------------------------------------------------------------------------
    def message(self, event: str, **fields: Any) -> str:
        key = {"twilio": "streamSid", "telnyx": "stream_id", "plivo": "streamId"}[self.name]
        return json.dumps({"event": event, key: "S1", **fields})

    def start_of(self, call_id: str, token: str) -> list[str]:
        """Return the messages that open a stream."""
        if self.name == "twilio":
            body: dict[str, Any] = {"streamSid": "S1", "callSid": call_id, "customParameters": {"token": token}}
            return [json.dumps({"event": "connected"}), self.message("start", start=body)]
        if self.name == "telnyx":
            media = {"encoding": "PCMU", "sample_rate": 8000, "channels": 1}
            body = {"call_control_id": call_id, "from": CALLER, "to": CALLEE, "media_format": media}
            return [json.dumps({"event": "connected"}), self.message("start", start=body)]
        media = {"encoding": "audio/x-mulaw", "sampleRate": 8000}
        body = {"callId": call_id, "streamId": "S1", "mediaFormat": media}
        return [json.dumps({"event": "start", "start": body, "extra_headers": f"token={token}"})]

    async def connect(self) -> trio.abc.Stream:
        await trio.lowlevel.checkpoint()
        ours, theirs = trio.testing.memory_stream_pair()
        self.nursery.start_soon(serve_connection, self.server.context, theirs)
        return ours

    async def open_stream(
        self, call_id: str, order: Order, token: str | None = None, headers: Mapping[str, str] | None = None
    ) -> Stream:
        """Open a stream for a call, with the order's token or another one; its sound is carried in the background."""
        self.opened[call_id] = order
        shown = order.token if token is None else token
        given = {"x-telnyx-streaming-auth-token": shown} if self.name == "telnyx" else {}
        if self.name == "twilio":
            assert isinstance(self.carrier, Twilio)
            given = {"X-Twilio-Signature": self.carrier.sign(order.url, {})}
        socket = await connect(await self.connect(), order.url, {**given, **(headers or {})})
        for message in self.start_of(call_id, shown):
            await socket.send(message)
        stream = Stream(self, socket, call_id)
        self.nursery.start_soon(stream.run)
        return stream


@asynccontextmanager
async def wire_to_server(
    name: str, *, carrier: Carrier | None = None, options: Mapping[str, Any] | None = None, **callbacks: Any
) -> AsyncIterator[Wire]:
    """Serve an agent that greets with "Hello." to a carrier, or to another one of the kind, and yield the carrier."""
    carrier = carrier_of(name) if carrier is None else carrier
    phone, starts, ends = Patter(carrier, CALLEE), [], []  # type: ignore[var-annotated]
    told = {"on_call_start": starts.append, "on_call_end": ends.append, **callbacks}
    agent = agent_of(first_message="Hello.")
    served = phone._serve_options(agent, public_url=PUBLIC, callbacks=told, **(options or {}))
    # Around the server: it hangs up with its last breath.
    with ExitStack() as interface:
        async with open_call_server(served, Seams(epoch=EPOCH)) as server, trio.open_nursery() as nursery:
            wire = Wire(name, carrier, phone, server, nursery, starts, ends)
            interface.enter_context(answered_here(carrier.api_url, wire.answer))
            yield wire
            # What is under way behind the last answer.
            await trio.sleep(1.0)
            nursery.cancel_scope.cancel()
