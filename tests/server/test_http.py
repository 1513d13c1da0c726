"""The HTTP routes, over loopback sockets with httpx as the client, and over memory streams."""

import hashlib
import inspect
import logging
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from functools import partial
from typing import Any
from urllib.parse import urlencode
from xml.etree import ElementTree as ET

import attrs
import httpx
import pytest
import trio
import trio.testing
from hypercorn.trio.tcp_server import TCPServer

from patter_trio.call.leg import MediaLeg
from patter_trio.errors import ConfigurationError
from patter_trio.net.websocket import SocketClosed, connect
from patter_trio.server.application import MAX_BODY_BYTES, Application
from patter_trio.server.listeners import listening_address, open_listeners, serve_listeners
from patter_trio.server.pending import PendingCall
from tests.kit.server import CALLEE, CALLER, CARRIER, MEDIA, STOP, FakeCallServer, closing, read_all, start

FIRST, SECOND, THIRD = (f"CA{number:032d}" for number in (1, 2, 3))
FORM = {"CallSid": FIRST, "AccountSid": "AC1", "From": CALLER, "To": CALLEE, "Direction": "inbound", "Empty": ""}
VOICE, STATUS = "/webhooks/twilio/voice", "/webhooks/twilio/status"


Dial = Callable[[], Awaitable[trio.SocketStream]]


@asynccontextmanager
async def serving(call_server: FakeCallServer) -> AsyncIterator[tuple[httpx.AsyncClient, Dial]]:
    """Serve a site on a loopback port; give a client for it, and a function that opens further connections."""
    listeners = await open_listeners("127.0.0.1", 0)
    host, port = listening_address(listeners)
    async with trio.open_nursery() as nursery, AsyncExitStack() as streams:
        await nursery.start(partial(serve_listeners, call_server.context, listeners))

        async def dial() -> trio.SocketStream:
            return await streams.enter_async_context(await trio.open_tcp_stream(host, port))

        async with httpx.AsyncClient(base_url=f"http://{host}:{port}") as client:
            yield client, dial
        nursery.cancel_scope.cancel()


async def post(client: httpx.AsyncClient, path: str, form: dict[str, Any], **headers: str) -> httpx.Response:
    """Post a form as Twilio does, signed for the public URL."""
    signed = {"X-Twilio-Signature": CARRIER.sign(f"https://agent.example{path}", form)}
    return await client.post(path, data=form, headers=signed | headers)


def stream_of(twiml: str) -> tuple[str, str]:
    """Return the URL and the token of the stream in an answer."""
    stream = ET.fromstring(twiml)[0][0]  # noqa: S314 (it is ours)
    return stream.attrib["url"], stream[0].attrib["value"]


def busy(response: httpx.Response) -> bool:
    return response.status_code == 200 and '<Reject reason="busy"/>' in response.text


async def test_health_is_open_to_everyone() -> None:
    """GET /health returns status 200 and JSON without a signature."""
    async with serving(FakeCallServer()) as (client, _):
        response = await client.get("/health")
    assert (response.status_code, response.json()) == (200, {"status": "ok"})
    assert response.headers["content-type"] == "application/json"


async def test_a_whole_call_from_webhook_to_stop() -> None:
    """A signed webhook announces the call, its stream runs it, and the leg has the numbers and query parameters."""
    call_server = FakeCallServer()
    async with serving(call_server) as (client, dial):
        answer = await post(client, VOICE + "?menu=lunch&empty=", FORM)
        assert (answer.status_code, answer.headers["content-type"]) == (200, "text/xml; charset=utf-8")
        url, token = stream_of(answer.text)
        assert url == f"wss://agent.example/ws/twilio/stream/{FIRST}"
        (announced,) = call_server.announced
        socket = await connect(await dial(), url)
        for message in (start(FIRST, token), MEDIA, STOP):
            await socket.send(message)
        assert await closing(socket) == (1000, "")
        assert (await post(client, STATUS, FORM | {"CallStatus": "completed"})).status_code == 204
    (leg,) = call_server.answered
    assert leg.info is announced.info
    assert (leg.info.caller, leg.info.callee, leg.info.direction) == (CALLER, CALLEE, "inbound")
    assert (leg.info.provider, leg.info.custom_params) == ("twilio", {"menu": "lunch", "empty": ""})


@pytest.mark.parametrize("path", [VOICE, STATUS])
async def test_unsigned_and_wrongly_signed_webhooks_are_403(path: str, caplog: pytest.LogCaptureFixture) -> None:
    """A webhook without a valid signature of its URL and form gets 403, announces no call and logs no number."""
    call_server = FakeCallServer()
    good = CARRIER.sign(f"https://agent.example{path}", FORM)
    async with serving(call_server) as (client, _):
        assert (await client.post(path, data=FORM)).status_code == 403
        for headers in ({"X-Twilio-Signature": "AAAA"}, {"X-Twilio-Signature": ""}):
            assert (await client.post(path, data=FORM, headers=headers)).status_code == 403
        changed = FORM | {"From": "+15550000000"}
        assert (await client.post(path, data=changed, headers={"X-Twilio-Signature": good})).status_code == 403
        assert (await client.post(path + "?x=1", data=FORM, headers={"X-Twilio-Signature": good})).status_code == 403
        for_host = CARRIER.sign(str(client.base_url.join(path)), FORM)
        assert (await client.post(path, data=FORM, headers={"X-Twilio-Signature": for_host})).status_code == 403
    assert call_server.announced == []
    assert CALLER not in caplog.text


async def test_a_call_without_its_id_is_400() -> None:
    """A voice webhook without CallSid gets status 400 and announces no call."""
    call_server = FakeCallServer()
    async with serving(call_server) as (client, _):
        form = {name: value for name, value in FORM.items() if name != "CallSid"}
        assert (await post(client, VOICE, form)).status_code == 400
    assert call_server.announced == []


@pytest.mark.parametrize(
    "form", [{**FORM, "From": ""}, {name: value for name, value in FORM.items() if name != "From"}]
)
async def test_caller_who_withholds_the_number_is_taken(form: dict[str, str]) -> None:
    """A call whose From is empty or absent is announced, with an empty caller."""
    call_server = FakeCallServer()
    async with serving(call_server) as (client, _):
        assert "<Stream" in (await post(client, VOICE, form)).text
    assert [call.info.caller for call in call_server.announced] == [""]


async def test_unreadable_signed_form_gets_400() -> None:
    """A form with invalid UTF-8, 1000 fields or 4097 escapes gets status 400 if it has a signature, right or wrong."""
    async with serving(FakeCallServer()) as (client, _):
        headers = {"content-type": "application/x-www-form-urlencoded"}
        for body in (b"CallSid=\xff", b"CallSid=%ff", b"a=1&" * 1000, b"a=" + b"%41" * 4097):
            # Without a signature the body is not looked at.
            assert (await client.post(VOICE, content=body, headers=headers)).status_code == 403
            forged = headers | {"X-Twilio-Signature": "AAAA"}
            assert (await client.post(VOICE, content=body, headers=forged)).status_code == 400


async def test_a_signed_body_of_another_kind_is_400() -> None:
    """A signed JSON body gets status 400, and one that differs from its bodySHA256 gets 403."""
    body = b'{"CallSid": "CA1"}'
    path = f"{VOICE}?bodySHA256={hashlib.sha256(body).hexdigest()}"
    headers = {
        "X-Twilio-Signature": CARRIER.sign(f"https://agent.example{path}", body),
        "content-type": "application/json",
    }
    async with serving(FakeCallServer()) as (client, _):
        assert (await client.post(path, content=body, headers=headers)).status_code == 400
        assert (await client.post(path, content=body + b" ", headers=headers)).status_code == 403


async def test_oversized_webhook_body_gets_a_413_answer() -> None:
    """The server answers 413 to an oversized body, and the client receives that answer."""
    call_server = FakeCallServer()
    async with serving(call_server) as (client, _):
        assert (await post(client, VOICE, FORM | {"X": "x" * MAX_BODY_BYTES})).status_code == 413
        assert (await post(client, VOICE, FORM | {"X": "x" * (MAX_BODY_BYTES - 1000)})).status_code == 200


async def test_unknown_paths_and_methods(caplog: pytest.LogCaptureFixture) -> None:
    """An unknown path gets 404, a GET of the voice webhook 405; the log says what to set at the carrier."""
    async with serving(FakeCallServer()) as (client, _):
        assert (await client.get("/")).status_code == 404
        assert caplog.messages == []
        assert (await client.post("/webhooks/telnyx/voice")).status_code == 404
        response = await client.get(VOICE)
        assert (response.status_code, response.headers["allow"]) == (405, "POST")
        assert (await client.post("/health")).headers["allow"] == "GET, HEAD"
    assert caplog.messages == [
        (
            "webhook refused with 404: no route '/webhooks/telnyx/voice' "
            "(the webhook of a number must be https://agent.example/webhooks/twilio/voice)"
        ),
        "webhook refused with 405: the method of '/webhooks/twilio/voice' at the carrier must be POST, got GET",
    ]


async def test_slash_behind_the_webhook_is_taken() -> None:
    """A signed webhook with a slash at its end, as typed into a console, announces the call."""
    call_server = FakeCallServer()
    async with serving(call_server) as (client, _):
        assert "<Stream" in (await post(client, VOICE + "/", FORM)).text
    assert len(call_server.announced) == 1


async def test_signed_empty_query_is_taken() -> None:
    """A webhook whose URL ends in a question mark passes, though the mark is lost on the way."""
    call_server = FakeCallServer()
    async with serving(call_server) as (client, _):
        signature = CARRIER.sign(f"https://agent.example{VOICE}?", FORM)
        answer = await client.post(VOICE + "?", data=FORM, headers={"X-Twilio-Signature": signature})
    assert (answer.status_code, len(call_server.announced)) == (200, 1)


async def test_stream_without_an_upgrade_is_explained(caplog: pytest.LogCaptureFixture) -> None:
    """A media stream that arrives as a plain GET gets 426, and the log says which headers the proxy must pass."""
    async with serving(FakeCallServer()) as (client, _):
        response = await client.get("/ws/twilio/stream/CA1")
        assert (response.status_code, response.headers["upgrade"]) == (426, "websocket")
    [line] = caplog.messages
    assert line == (
        "call CA1: media stream refused with 426: it must be a WebSocket upgrade, got a plain request "
        "(check that the proxy in front passes the headers Upgrade and Connection)"
    )


@pytest.mark.parametrize("path", ["/health", "/ready"])
async def test_head_is_the_head_of_get(path: str) -> None:
    """HEAD has the status and headers of GET, and no body."""
    async with serving(FakeCallServer()) as (client, _):
        got, head = await client.get(path), await client.head(path)
    assert (head.status_code, head.content, head.headers["content-length"]) == (200, b"", str(len(got.content)))
    assert head.headers["content-type"] == got.headers["content-type"] == "application/json"


async def test_ready_says_why_no_call_is_taken() -> None:
    """GET /ready is 200 while the server takes calls, else 503 with the reason; /health stays 200."""
    call_server = FakeCallServer()
    async with serving(call_server) as (client, _):
        assert (await client.get("/ready")).json() == {"status": "ready"}
        call_server.room = False
        full = await client.get("/ready")
        assert (full.status_code, full.headers["retry-after"]) == (503, "5")
        assert full.json()["status"] != "ready"
        assert (await client.head("/ready")).status_code == 503
        assert (await client.get("/health")).status_code == 200


async def test_full_server_answers_busy_to_new_calls_only() -> None:
    """A full server answers busy to new calls and still accepts a call that it has already announced."""
    call_server = FakeCallServer(limit=2)
    async with serving(call_server) as (client, _):
        assert not busy(await post(client, VOICE, FORM))
        call_server.room = False
        assert busy(await post(client, VOICE, FORM | {"CallSid": SECOND}))
        assert not busy(await post(client, VOICE, FORM))
        call_server.room = True
        assert not busy(await post(client, VOICE, FORM | {"CallSid": SECOND}))
        assert busy(await post(client, VOICE, FORM | {"CallSid": THIRD}))
    assert [call.info.call_id for call in call_server.announced] == [FIRST, SECOND]


async def test_retried_webhook_announces_once_with_newest_token() -> None:
    """A retried webhook announces its call once, and only the newest token is valid."""
    call_server = FakeCallServer()
    async with serving(call_server) as (client, dial):
        url, first = stream_of((await post(client, VOICE, FORM)).text)
        _, second = stream_of((await post(client, VOICE, FORM)).text)
        codes = []
        for token in (first, second, second):
            socket = await connect(await dial(), url)
            await socket.send(start(FIRST, token))
            if token == second and 1000 not in codes:
                await socket.send(STOP)
            codes.append((await closing(socket))[0])
    assert codes == [1008, 1000, 1008]
    assert len(call_server.announced) == len(call_server.answered) == 1


async def test_webhook_bug_answers_500_and_server_survives(caplog: pytest.LogCaptureFixture) -> None:
    """A bug in webhook handling produces a 500 answer, and the server keeps running."""
    call_server = FakeCallServer()
    broken = FakeCallServer()

    def incoming(_: PendingCall) -> None:
        raise ZeroDivisionError("a bug")

    call_server.context = attrs.evolve(broken.context, on_announced=incoming)
    async with serving(call_server) as (client, _):
        assert (await post(client, VOICE, FORM)).status_code == 500
        assert (await client.get("/health")).status_code == 200
    assert "ZeroDivisionError: a bug" in caplog.text


async def test_server_takes_one_request_per_connection() -> None:
    """The server answers one request per connection, so an upgrade cannot follow a webhook on it."""
    async with serving(FakeCallServer()) as (_, dial):
        stream = await dial()
        body = urlencode(FORM).encode()
        signature = CARRIER.sign(f"https://agent.example{VOICE}", FORM)
        request = (
            f"POST {VOICE} HTTP/1.1\r\nHost: a\r\nConnection: keep-alive\r\nX-Twilio-Signature: {signature}\r\n"
            f"Content-Type: application/x-www-form-urlencoded\r\nContent-Length: {len(body)}\r\n\r\n"
        ).encode()
        upgrade = b"GET /ws/twilio/stream/CA1 HTTP/1.1\r\nHost: a\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n"
        await stream.send_all(request + body + upgrade)
        answer = await read_all(stream)
    assert answer.startswith(b"HTTP/1.1 200 ")
    assert b"\r\nconnection: close\r\n" in answer.lower()
    assert answer.count(b"HTTP/1.1 ") == 1


async def test_tcp_reset_in_any_phase_ends_one_connection(caplog: pytest.LogCaptureFixture) -> None:
    """A TCP reset in any phase ends that connection and no other."""
    call_server = FakeCallServer()
    here, left = trio.Event(), trio.Event()

    async def talk(leg: MediaLeg) -> None:
        here.set()
        with pytest.raises(SocketClosed):
            await leg.socket.receive()
        left.set()

    call_server.talk = talk
    async with serving(call_server) as (client, dial):
        url, token = stream_of((await post(client, VOICE, FORM)).text)
        for sent in (
            b"",
            b"GET /hea",
            b"POST /webhooks/twilio/voice HTTP/1.1\r\nHost: a\r\nContent-Length: 9\r\n\r\nab",
        ):
            await reset(await dial(), sent)
        stream = await dial()
        await connect(stream, url)
        await reset(stream, b"\x81")
        stream = await dial()
        socket = await connect(stream, url)
        await socket.send(start(FIRST, token))
        await here.wait()
        await reset(stream, b"")
        await left.wait()
        assert (await client.get("/health")).status_code == 200
    assert [r for r in caplog.records if r.levelno >= logging.ERROR] == []


async def reset(stream: trio.SocketStream, sent: bytes) -> None:
    """Send data, and end the connection with a TCP reset."""
    await stream.send_all(sent)
    stream.setsockopt(trio.socket.SOL_SOCKET, trio.socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
    await trio.aclose_forcefully(stream)


async def test_port_in_use_is_reported() -> None:
    """The server reports a port that is already in use."""
    (listener,) = await open_listeners("127.0.0.1", 0)
    _, port = listening_address([listener])
    with pytest.raises(ConfigurationError, match=f"port {port} on 127.0.0.1 is in use"):
        await open_listeners("127.0.0.1", port)
    await listener.aclose()
    with pytest.raises(ConfigurationError, match="port must be a whole number from 0 to 65535, got 70000"):
        await open_listeners("127.0.0.1", 70_000)
    with pytest.raises(ConfigurationError, match=r"host must be an address of this machine, got 203\.0\.113\.1"):
        await open_listeners("203.0.113.1", 0)
    with pytest.raises(ConfigurationError, match="host must be an address or a known name, got "):
        await open_listeners("no such host.invalid", 0)


@pytest.mark.parametrize("host", ["::", "0::0"])
async def test_every_address_is_of_both_kinds(host: str) -> None:
    """A server on "::" answers at [::1] and at 127.0.0.1, on one port."""
    listeners = await open_listeners(host, 0)
    _, port = listening_address(listeners)
    assert {listener.socket.getsockname()[1] for listener in listeners} == {port}
    async with trio.open_nursery() as nursery:
        for listener in listeners:
            nursery.start_soon(_accept_one, listener)
        for address in ("::1", "127.0.0.1"):
            async with await trio.open_tcp_stream(address, port) as stream:
                assert await stream.receive_some() == b"here"
        nursery.cancel_scope.cancel()


async def _accept_one(listener: trio.SocketListener) -> None:
    async with listener, await listener.accept() as stream:
        await stream.send_all(b"here")


async def test_half_opened_address_leaves_no_socket() -> None:
    """If the port is free for IPv6 alone, opening "::" fails and closes what it opened."""
    (taken,) = await open_listeners("127.0.0.1", 0)
    _, port = listening_address([taken])
    with pytest.raises(ConfigurationError, match=f"port {port} on :: is in use"):
        await open_listeners("::", port)
    (free,) = await open_listeners("::1", port)
    await free.aclose()
    await taken.aclose()


def test_canary_of_hypercorns_connection_handler() -> None:
    """The undocumented constructor of Hypercorn's TCPServer has the parameters that the server relies on.

    A new version of Hypercorn that breaks this test requires a new look at its source.
    """
    parameters = list(inspect.signature(TCPServer.__init__).parameters)
    assert parameters == ["self", "app", "config", "context", "state", "stream"]
    assert inspect.iscoroutinefunction(TCPServer.run)


async def test_http_works_over_memory_streams(autojump_clock: trio.testing.MockClock) -> None:
    """The HTTP routes answer over memory streams in virtual time."""
    async with trio.open_nursery() as nursery:
        stream = FakeCallServer().open(nursery)
        await stream.send_all(b"GET /health HTTP/1.1\r\nHost: a\r\n\r\n")
        answer = await read_all(stream)
        await stream.aclose()
    assert answer.endswith(b'{"status": "ok"}')
    assert trio.current_time() == 0


async def test_lingering_http_client_is_closed_after_half_second(
    autojump_clock: trio.testing.MockClock,
) -> None:
    """The server closes a keep-alive client half a second after its answer."""
    async with trio.open_nursery() as nursery:
        stream = FakeCallServer().open(nursery)
        await stream.send_all(b"GET /health HTTP/1.1\r\nHost: a\r\nConnection: keep-alive\r\n\r\n")
        assert (await read_all(stream)).startswith(b"HTTP/1.1 200 ")
        assert trio.current_time() == 0
        await trio.sleep(0.25)
        await stream.send_all(b"nobody reads this")
    assert trio.current_time() == 0.5


async def test_the_application_serves_nothing_but_http(autojump_clock: trio.testing.MockClock) -> None:
    """The ASGI application ignores a lifespan scope."""

    async def unused(*_: object) -> Any:
        raise AssertionError

    await Application(FakeCallServer().context)(
        {"type": "lifespan", "asgi": {"version": "3.0"}, "state": {}}, unused, unused
    )
