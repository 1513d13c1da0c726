"""Headers that a client or a proxy writes about itself: none of them is believed, over each carrier."""

import attrs
import pytest
import trio
import trio.testing

from patter_trio.server.webhooks import carrier_webhook
from patter_trio.testing.simulation.carriers import CARRIERS
from tests.kit.server import read_all
from tests.kit.wire import PUBLIC, Wire, wire_to_server

CLOCK = trio.testing.MockClock
each_carrier = pytest.mark.parametrize("name", CARRIERS)
FORGED = {
    "host": "evil.example",
    "x-forwarded-host": "evil.example",
    "x-forwarded-proto": "http",
    "x-forwarded-port": "8080",
    "x-forwarded-prefix": "/evil",
    "x-forwarded-for": "203.0.113.9",
    "x-original-url": "/evil",
    "x-rewrite-url": "/evil",
    "forwarded": "for=203.0.113.9;host=evil.example;proto=http",
}
each_header = pytest.mark.parametrize("forged", [*({key: value} for key, value in FORGED.items()), FORGED], ids=str)


async def sent(wire: Wire, forged: dict[str, str], path: str, signed: dict[str, str], body: bytes) -> bytes:
    """Send a request as bytes, with these headers in the place of the usual ones; return the answer."""
    headers = {"host": "agent.test", "content-type": "application/x-www-form-urlencoded", **signed, **forged}
    head = "".join(f"{key}: {value}\r\n" for key, value in headers.items())
    stream = await wire.connect()
    await stream.send_all(f"POST {path} HTTP/1.1\r\n{head}content-length: {len(body)}\r\n\r\n".encode() + body)
    return await read_all(stream)


@each_carrier
@each_header
async def test_forged_headers_change_no_answer(name: str, forged: dict[str, str], autojump_clock: CLOCK) -> None:
    """With any of these headers a signed webhook is taken, and the stream is wanted at the configured URL."""
    async with wire_to_server(name) as wire:
        request = wire.webhook("voice", wire.call_id())
        path = request.url.removeprefix(PUBLIC)
        answer = await sent(wire, forged, path, dict(request.headers), request.body)
        assert answer.startswith(b"HTTP/1.1 200 ")
        await trio.testing.wait_all_tasks_blocked()
        said = answer.decode() + str(wire.commands)
        assert f"wss://agent.test/ws/{name}/stream/" in said
        assert "evil" not in said
        assert "8080" not in said


@each_carrier
async def test_forged_headers_make_no_signature_right(name: str, autojump_clock: CLOCK) -> None:
    """A webhook that was signed for another address stays refused, whatever the headers say about the address."""
    async with wire_to_server(name) as wire:
        if name == "telnyx":
            # Its signature does not cover the address; another account's key takes the place.
            request = wire.webhook("voice", wire.call_id(), headers={"telnyx-timestamp": "1800000001"})
        else:
            genuine = wire.webhook("voice", wire.call_id())
            request = attrs.evolve(genuine, url=genuine.url.replace(PUBLIC, "http://evil.example"))
            assert not wire.carrier.is_authentic(request)
            # Signed for the address that the headers will claim.
            elsewhere = attrs.evolve(genuine, headers=wire.signed_for("http://evil.example", genuine))
            request = attrs.evolve(elsewhere, url=genuine.url)
        path = request.url.removeprefix(PUBLIC)
        assert (await sent(wire, FORGED, path, dict(request.headers), request.body)).startswith(b"HTTP/1.1 403 ")
        assert wire.starts == []


@each_carrier
async def test_forged_headers_open_no_stream(name: str, autojump_clock: CLOCK) -> None:
    """A stream with these headers is judged as without them: the right token opens it, and a wrong one does not."""
    async with wire_to_server(name) as wire:
        order = await wire.announce(wire.call_id())
        assert order is not None
        shown = {key: value for key, value in FORGED.items() if key != "host"}
        wrong = await wire.open_stream(wire.call_id(), order, "0" * 64, shown)
        await wrong.over.wait()
        assert wrong.closed is not None
        assert wrong.closed[0] == 1008
        stream = await wire.open_stream(wire.call_id(), order, headers=shown)
        await trio.sleep(2.0)
        assert stream.words == "Hello."


@each_carrier
async def test_placed_call_names_the_configured_url(name: str, autojump_clock: CLOCK) -> None:
    """The webhooks that a placed call asks for are at the configured URL, after any number of forged requests."""
    async with wire_to_server(name) as wire:
        for _ in range(3):
            assert (
                carrier_webhook(wire.server.context, wire.webhook("busy", wire.call_id(), headers=FORGED)).status == 204
            )
        await wire.phone.call("+15550100003")
        [(_, fields)] = wire.commands
        urls = [value for value in fields.values() if "://" in str(value)]
        assert all(url.startswith(PUBLIC) for url in urls)
        assert "evil" not in str(fields)
