"""Floods of requests without a valid signature: the carrier's own requests and calls go on beside them."""

import pytest
import trio
import trio.testing

from patter_trio.abc import CarrierRequest
from patter_trio.abc._webhooks import MAX_FORM_ESCAPES
from patter_trio.errors import WireError
from patter_trio.server.application import MAX_BODY_BYTES
from patter_trio.server.webhooks import carrier_webhook
from patter_trio.testing.simulation.carriers import CARRIERS
from tests.kit.wire import Wire, wire_to_server

CLOCK = trio.testing.MockClock
FORGED = {
    "x-twilio-signature": "AAAA",
    "x-plivo-signature-v3": ",".join(["AAAA"] * 100),
    "x-plivo-signature-v3-nonce": "1",
    "telnyx-signature-ed25519": "A" * 86 + "==",
    "telnyx-timestamp": "1800000000",
}


def flood(wire: Wire, count: int) -> set[int]:
    """Send requests of strangers, each as large as one may be; return the statuses of the answers."""
    path = wire.carrier.voice_path
    body = b"CallUUID=" + b"x" * (MAX_BODY_BYTES - 9)
    requests = [CarrierRequest("voice", f"https://agent.test{path}", headers, body) for headers in ({}, FORGED)]
    return {carrier_webhook(wire.server.context, request).status for request in requests * count}


@pytest.mark.parametrize("name", CARRIERS)
async def test_flood_refuses_no_caller(name: str, autojump_clock: CLOCK) -> None:
    """Before, between and after hundreds of forged requests callers are answered, and hear the greeting whole."""
    async with wire_to_server(name) as wire:
        streams = []
        for number in range(1, 4):
            assert flood(wire, 100) == {403}
            order = await wire.announce(wire.call_id(number))
            assert order is not None
            assert flood(wire, 100) == {403}
            streams.append(await wire.open_stream(wire.call_id(number), order))
        await trio.sleep(2.0)
        assert [stream.words for stream in streams] == ["Hello."] * 3
    assert len(wire.starts) == 3


@pytest.mark.parametrize("name", CARRIERS)
async def test_body_without_signature_is_not_parsed(name: str, autojump_clock: CLOCK) -> None:
    """An unsigned request whose body is neither a form nor JSON gets 403 for its missing signature, not 400."""
    async with wire_to_server(name) as wire:
        request = CarrierRequest("voice", f"https://agent.test{wire.carrier.voice_path}", {}, b"a=%ff")
        assert carrier_webhook(wire.server.context, request).status == 403


def test_escapes_of_a_form_are_bounded() -> None:
    """A form may have 4,096 escapes, and not one more."""
    most = CarrierRequest("voice", "https://agent.test", body=b"a=" + b"%41" * MAX_FORM_ESCAPES)
    assert most.field("a") == "A" * MAX_FORM_ESCAPES
    with pytest.raises(WireError, match="the form must have at most 4096 escapes"):
        _ = CarrierRequest("voice", "https://agent.test", body=most.body + b"%41").form
