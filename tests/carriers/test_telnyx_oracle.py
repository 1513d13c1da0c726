"""What we ask of Telnyx's REST API, and the signatures of its webhooks, judged by Telnyx's own package.

It checks signatures with PyNaCl, an implementation of Ed25519 that we do not use.
"""

import base64
import json
import time
from collections.abc import Callable
from typing import Any

import httpx
import pytest
import trio
from hypothesis import given
from hypothesis import strategies as st

from patter_trio import Telnyx
from patter_trio.abc import CarrierRequest, DialRequest
from patter_trio.carriers.telnyx_rest import STREAM, command_id
from patter_trio.carriers.telnyx_signature import SIGNATURE_HEADER, public_key_of, sign
from patter_trio.testing.servers.carrier_rest import RESTRequest
from patter_trio.testing.servers.telnyx_rest import TelnyxRESTServer, serve_telnyx_rest
from patter_trio.wire.telnyx import encode_state
from tests.carriers.test_telnyx_rest import CALL, DESK, DIAL, INBOUND, KEY, NUMBER, OUTBOUND, STREAM_URL, owned
from tests.kit.vendor_modules import vendor_module

# The import of the vendor's package takes seconds in each process.
pytestmark = pytest.mark.deep
telnyx, signing = vendor_module("telnyx"), vendor_module("nacl.signing")
PUBLIC = public_key_of(bytes(range(32)))
Theirs = Callable[[Any], object]
"""A call of a method of their client."""


async def asked(server: TelnyxRESTServer, ask: Theirs) -> RESTRequest:
    """Have Telnyx's package send a request to our server; return what the server got."""

    def send() -> None:
        with httpx.Client(trust_env=False) as http:
            ask(telnyx.Telnyx(api_key=KEY, base_url=server.api_url, http_client=http, max_retries=0))

    with trio.fail_after(10):
        await trio.to_thread.run_sync(send)
    return server.requests[-1]


def same(ours: RESTRequest, theirs: RESTRequest) -> bool:
    """Return True if two requests ask the same: method, target, key, type and JSON."""
    assert (ours.method, ours.target) == (theirs.method, theirs.target)
    assert ours.fields == theirs.fields
    for header in ("authorization", "content-type", "accept"):
        assert ours.headers.get(header) == theirs.headers.get(header), header
    return True


TOKEN = "one-time"
COMMANDS: dict[str, tuple[Callable[[Telnyx], Any], Theirs]] = {
    "answer": (
        lambda ours: ours.pick_up(INBOUND, STREAM_URL, {"token": TOKEN}),
        lambda theirs: theirs.calls.actions.answer(
            CALL,
            stream_url=STREAM_URL,
            **STREAM,  # type: ignore[arg-type]
            send_silence_when_idle=True,
            client_state=encode_state(token=TOKEN),
            command_id=command_id("answer", TOKEN),
            # The package has it for the other commands that start a stream.
            extra_body={"stream_auth_token": TOKEN},
        ),
    ),
    "streaming_start": (
        lambda ours: ours.pick_up(OUTBOUND, STREAM_URL, {"token": TOKEN}),
        lambda theirs: theirs.calls.actions.start_streaming(
            CALL,
            stream_url=STREAM_URL,
            **STREAM,  # type: ignore[arg-type]
            stream_auth_token=TOKEN,
            command_id=command_id("streaming_start", TOKEN),
        ),
    ),
    "reject": (
        lambda ours: ours.decline(INBOUND),
        lambda theirs: theirs.calls.actions.reject(CALL, cause="USER_BUSY", command_id=command_id("reject")),
    ),
    "hangup": (
        lambda ours: ours.hang_up(CALL),
        lambda theirs: theirs.calls.actions.hangup(CALL, command_id=command_id("hangup")),
    ),
    "transfer": (
        lambda ours: ours.transfer(INBOUND, DESK),
        lambda theirs: theirs.calls.actions.transfer(
            CALL, to=DESK, from_=INBOUND.caller, diversion=INBOUND.callee, command_id=command_id("transfer", DESK)
        ),
    ),
    "send_dtmf": (
        lambda ours: ours.send_digits(INBOUND, "12#w"),
        lambda theirs: theirs.calls.actions.send_dtmf(CALL, digits="12#w"),
    ),
    "record_start": (
        lambda ours: ours.start_recording(INBOUND, ""),
        lambda theirs: theirs.calls.actions.start_recording(
            CALL,
            channels="dual",
            format="wav",
            client_state=encode_state(call=CALL),
            command_id=command_id("record_start"),
        ),
    ),
}


@pytest.mark.parametrize("command", COMMANDS)
async def test_commands_are_those_of_telnyxs_package(command: str) -> None:
    """Each command of ours has the method, target, headers and JSON of the one that Telnyx's own package sends."""
    ours, theirs = COMMANDS[command]
    async with serve_telnyx_rest(KEY, calls=[CALL]) as server:
        if command not in ("answer", "reject", "hangup"):
            server.calls[CALL].state = "answered"
        await ours(Telnyx(KEY, PUBLIC, api_url=server.api_url))
        sent = server.requests[-1]
        server.calls[CALL].state = "answered" if command != "reject" else "parked"
        asked_for = await asked(server, theirs)
    assert same(sent, asked_for)


@given(
    st.builds(
        DialRequest,
        to=st.from_regex(r"\+[1-9][0-9]{7,14}", fullmatch=True),
        from_number=st.from_regex(r"\+[1-9][0-9]{7,14}", fullmatch=True),
        reference=st.text(min_size=1, max_size=20).filter(lambda text: text.isprintable()),
        voice_url=st.just(DIAL.voice_url),
        status_url=st.just(""),
        amd_url=st.just(""),
        machine_detection=st.sampled_from(["", "answer", "greeting_end"]),
        ring_timeout=st.integers(5, 600),
        time_limit=st.none() | st.integers(30, 14400),
    )
)
def test_any_dial_is_that_of_telnyxs_package(request: DialRequest) -> None:
    """For any options, a call is placed with the JSON that Telnyx's own package sends."""
    trio.run(_dialled_alike, request)


async def _dialled_alike(request: DialRequest) -> None:
    detection: Any = {"answer": "premium_ios_call_screening_detection", "greeting_end": "premium"}
    more: dict[str, Any] = {}
    if request.machine_detection:
        more["answering_machine_detection"] = detection[request.machine_detection]
    if request.time_limit is not None:
        more["time_limit_secs"] = request.time_limit
    async with serve_telnyx_rest(KEY) as server:
        await Telnyx(KEY, PUBLIC, "7267", api_url=server.api_url).dial(request)
        sent = server.requests[-1]
        asked_for = await asked(
            server,
            lambda theirs: theirs.calls.dial(
                connection_id="7267",
                to=request.to,
                from_=request.from_number,
                webhook_url=request.voice_url,
                webhook_url_method="POST",
                timeout_secs=request.ring_timeout,
                send_silence_when_idle=True,
                client_state=encode_state(dial=request.reference),
                command_id=command_id("dial", request.reference),
                **more,
            ),
        )
    assert same(sent, asked_for)


async def test_numbers_are_asked_for_as_telnyxs_package_does() -> None:
    """The requests about a number and its application are those of Telnyx's own package, which reads our answers."""
    async with serve_telnyx_rest(KEY) as server:
        await owned(server).point_number(NUMBER, "https://agent.example/x", "")
        listed, shown, changed = server.requests
        assert same(listed, await asked(server, lambda t: t.phone_numbers.list(filter={"phone_number": NUMBER[1:]})))
        assert same(shown, await asked(server, lambda t: t.call_control_applications.retrieve("7267")))
        update: Theirs = lambda t: t.call_control_applications.update(  # noqa: E731 (it has the type of a parameter)
            "7267",
            application_name="agents",
            webhook_event_url="https://agent.example/x",
            webhook_api_version="2",
        )
        assert same(changed, await asked(server, update))


async def test_fake_telnyx_rest_satisfies_telnyxs_package() -> None:
    """Telnyx's own package understands the answers and refusals of the simulated REST server."""
    async with serve_telnyx_rest(KEY, calls=[CALL]) as server:
        results: list[Any] = []
        await asked(server, lambda t: results.append(t.calls.actions.hangup(CALL)))
        assert results[0].data.result == "ok"
        with pytest.raises(telnyx.UnprocessableEntityError) as over:
            await asked(server, lambda t: t.calls.actions.hangup(CALL))
        assert "90018" in str(over.value)
        with pytest.raises(telnyx.NotFoundError):
            await asked(server, lambda t: t.calls.actions.hangup("v3:unknown"))
        await asked(server, lambda t: results.append(t.calls.dial(connection_id="7", to="+1", from_="+2")))
        assert results[1].data.call_control_id in server.calls


# Signatures -----------------------------------------------------------------------------------------------------------
PAYLOADS = st.dictionaries(st.text(max_size=8), st.text(max_size=20) | st.integers() | st.none(), max_size=4)


@given(st.binary(min_size=32, max_size=32), PAYLOADS)
def test_telnyxs_package_takes_what_we_sign(private: bytes, payload: dict[str, Any]) -> None:
    """Whatever we sign, with any key, Telnyx's own package verifies, and refuses when a byte is added."""
    body = json.dumps({"data": {"event_type": "call.hangup", "payload": payload}}, ensure_ascii=False)
    headers = sign(private, int(time.time()), body.encode(errors="surrogatepass"))
    webhooks = telnyx.Telnyx(api_key=KEY, public_key=public_key_of(private)).webhooks
    try:
        body.encode()
    except UnicodeEncodeError:
        return  # their interface takes text
    event = webhooks.unwrap(body, headers=headers)
    assert event is not None
    with pytest.raises(ValueError, match="does not match"):
        webhooks.unwrap(body + " ", headers=headers)


@given(st.binary(min_size=32, max_size=32), st.binary(max_size=200), st.integers(0, 2**34))
def test_we_take_what_another_library_signs(private: bytes, body: bytes, now: int) -> None:
    """What PyNaCl signs is authentic to us, and our own signature is the same, byte for byte."""
    key = signing.SigningKey(private)
    ours = sign(private, now, body)

    theirs = base64.b64encode(key.sign(f"{now}|".encode() + body).signature).decode()
    assert ours[SIGNATURE_HEADER] == theirs
    carrier = Telnyx(KEY, base64.b64encode(bytes(key.verify_key)).decode())
    assert carrier.is_authentic(CarrierRequest("voice", "https://a", ours, body, received_at=now))
    assert not carrier.is_authentic(CarrierRequest("voice", "https://a", ours, body + b" ", received_at=now))
