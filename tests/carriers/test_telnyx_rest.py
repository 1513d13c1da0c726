"""Telnyx's REST API: what is sent for each command, what refusals mean, and that nothing is done twice."""

from collections.abc import Awaitable, Callable
from functools import partial
from typing import Any

import attrs
import pytest
from hypothesis import given
from hypothesis import strategies as st

from patter_trio import Telnyx
from patter_trio.abc import CallInfo, Dialled, DialRequest, NumberSetup
from patter_trio.carriers.telnyx_rest import command_id, dial_body, read_refusal
from patter_trio.carriers.telnyx_signature import public_key_of
from patter_trio.errors import (
    AuthenticationError,
    CallEnded,
    ConfigurationError,
    ProviderError,
    ProviderTimeout,
    ProvisionError,
    RateLimitError,
)
from patter_trio.testing.servers.carrier_rest import RESTFault
from patter_trio.testing.servers.telnyx_rest import TelnyxRESTServer, refusal, serve_telnyx_rest
from patter_trio.wire.telnyx import decode_state
from tests.kit.rest_laws import raises_once

KEY, CALL, DESK = "KEY:secret/ü".encode().hex(), "v3:one", "+15550100003"
PUBLIC = public_key_of(bytes(range(32)))
INBOUND = CallInfo(CALL, "+15550100001", "+15550100002", "inbound")
OUTBOUND = CallInfo(CALL, "+15550100002", "+15550100001", "outbound")
STREAM_URL = "wss://agent.example/ws/telnyx/stream/v3%3Aone"
DIAL = DialRequest(
    to="+15550100001",
    from_number="+15550100002",
    reference="our-reference",
    voice_url="https://agent.example/webhooks/telnyx/voice?dial=our-reference",
    status_url="https://agent.example/webhooks/telnyx/status?dial=our-reference",
    amd_url="https://agent.example/webhooks/telnyx/amd?dial=our-reference",
)


def carrier(server: TelnyxRESTServer, key: str = KEY) -> Telnyx:
    return Telnyx(key, PUBLIC, "7267", api_url=server.api_url)


def answered(server: TelnyxRESTServer) -> Telnyx:
    server.calls[CALL].state = "answered"
    return carrier(server)


async def test_caller_is_answered_with_a_stream() -> None:
    """A caller is answered with a stream in mu-law both ways, whose token comes back in two ways."""
    async with serve_telnyx_rest(KEY, calls=[CALL]) as server:
        await carrier(server).pick_up(INBOUND, STREAM_URL, {"token": "one-time"})
    body = server.calls[CALL].find("answer")
    assert decode_state(body.pop("client_state")) == {"token": "one-time"}
    assert body.pop("command_id") == command_id("answer", "one-time")
    assert body == {
        "stream_url": STREAM_URL,
        "stream_auth_token": "one-time",
        "stream_track": "inbound_track",
        "stream_codec": "PCMU",
        "stream_bidirectional_mode": "rtp",
        "stream_bidirectional_codec": "PCMU",
        "send_silence_when_idle": True,
    }
    [request] = server.requests
    assert (request.method, request.target) == ("POST", "/calls/v3:one/actions/answer")
    assert request.headers["connection"] == "close"


async def test_answered_call_gets_a_stream() -> None:
    """A call that we placed and somebody answered gets a stream, and keeps the state with our reference."""
    async with serve_telnyx_rest(KEY, calls=[CALL]) as server:
        await answered(server).pick_up(OUTBOUND, STREAM_URL, {"token": "one-time"})
    body = server.calls[CALL].find("streaming_start")
    assert body["stream_auth_token"] == "one-time"
    assert body["stream_bidirectional_mode"] == "rtp"
    assert "client_state" not in body


async def test_refused_caller_hears_busy() -> None:
    """Refusing a caller rejects the call as busy; refusing an answered call of ours hangs up."""
    async with serve_telnyx_rest(KEY, calls=[CALL]) as server:
        await carrier(server).decline(INBOUND)
        assert server.calls[CALL].find("reject")["cause"] == "USER_BUSY"
    async with serve_telnyx_rest(KEY, calls=[CALL]) as server:
        await answered(server).decline(OUTBOUND)
        assert [action for action, _ in server.calls[CALL].commands] == ["hangup"]


@pytest.mark.parametrize(
    ("call", "to", "shown"),
    [
        (INBOUND, DESK, {"from": "+15550100001", "diversion": "+15550100002"}),
        (OUTBOUND, DESK, {"from": "+15550100002"}),
        (CallInfo(CALL, "anonymous", "+15550100002", "inbound"), DESK, {}),
        (CallInfo(CALL, "+15550100001", "sip:us@example.com", "inbound"), DESK, {"from": "+15550100001"}),
        (INBOUND, "sip:desk@example.com", {"from": "+15550100001", "diversion": "+15550100002"}),
    ],
    ids=["inbound", "outbound", "no number", "sip number", "to sip"],
)
async def test_transfer_shows_the_callers_number(call: CallInfo, to: str, shown: dict[str, str]) -> None:
    """A transfer is one command, which shows the caller's number, or ours if we called."""
    async with serve_telnyx_rest(KEY, calls=[CALL]) as server:
        await answered(server).transfer(call, to)
    body = server.calls[CALL].find("transfer")
    assert body == {"to": to, "command_id": command_id("transfer", to), **shown}


async def test_keys_are_sent_each_time() -> None:
    """The same keys may be sent twice, because they may be meant twice."""
    async with serve_telnyx_rest(KEY, calls=[CALL]) as server:
        for _ in range(2):
            assert await answered(server).send_digits(INBOUND, "1w#")
    assert server.calls[CALL].commands == [("send_dtmf", {"digits": "1w#"})] * 2


async def test_recording_has_two_channels_and_names_its_call() -> None:
    """A recording is a WAV of two channels, and its state names the call, because its report may not."""
    async with serve_telnyx_rest(KEY, calls=[CALL]) as server:
        assert await answered(server).start_recording(INBOUND, "https://ignored.example") == ""
    body = server.calls[CALL].find("record_start")
    assert (body["channels"], body["format"]) == ("dual", "wav")
    assert decode_state(body["client_state"]) == {"call": CALL}


async def test_hang_up_of_an_ended_call_succeeds() -> None:
    """Ending a call that is over, or that Telnyx does not know, is a success; other commands raise CallEnded."""
    async with serve_telnyx_rest(KEY, calls=[CALL]) as server:
        ours = answered(server)
        await ours.hang_up(CALL)
        assert server.calls[CALL].state == "ended"
        await ours.hang_up(CALL)
        await ours.hang_up("v3:unknown")
        for command in (ours.transfer(INBOUND, DESK), ours.send_digits(INBOUND, "1")):
            with pytest.raises(CallEnded, match="90018: Call has already ended: This call is no longer active"):
                await command
        with pytest.raises(CallEnded, match="90015"):
            await ours.transfer(CallInfo("../../x", "", "", "inbound"), DESK)


async def test_repeated_command_is_carried_out_once() -> None:
    """Each command that is repeated has the same id, and is carried out once."""
    async with serve_telnyx_rest(KEY, calls=[CALL]) as server:
        for _ in range(2):
            await carrier(server).pick_up(INBOUND, STREAM_URL, {"token": "one-time"})
            await carrier(server).transfer(INBOUND, DESK)
            await carrier(server).start_recording(INBOUND, "")
        # To another number, it is another command.
        await carrier(server).transfer(INBOUND, "+15550100004")
    actions = [action for action, _ in server.calls[CALL].commands]
    assert actions == ["answer", "transfer", "record_start", "transfer"]


async def test_dialled_call_has_its_id_at_once() -> None:
    """A call that is placed has an id from Telnyx's answer, and our reference in its state."""
    async with serve_telnyx_rest(KEY) as server:
        dialled = await carrier(server).dial(DIAL)
    assert dialled == Dialled("v3:dialled0")
    body = server.calls["v3:dialled0"].find("dial")
    assert decode_state(body.pop("client_state")) == {"dial": "our-reference"}
    assert body == {
        "connection_id": "7267",
        "to": DIAL.to,
        "from": DIAL.from_number,
        "webhook_url": DIAL.voice_url,
        "webhook_url_method": "POST",
        "timeout_secs": 25,
        "send_silence_when_idle": True,
        "command_id": command_id("dial", "our-reference"),
    }


@pytest.mark.parametrize(
    ("change", "field", "value"),
    [
        ({"machine_detection": "answer"}, "answering_machine_detection", "premium_ios_call_screening_detection"),
        ({"machine_detection": "greeting_end"}, "answering_machine_detection", "premium"),
        ({"ring_timeout": 1}, "timeout_secs", 5),
        ({"ring_timeout": 9999}, "timeout_secs", 600),
        ({"time_limit": 600}, "time_limit_secs", 600),
        ({"time_limit": 99_999}, "time_limit_secs", 14_400),
    ],
    ids=["answer", "greeting", "short ring", "long ring", "limit", "long limit"],
)
def test_dial_options_have_their_fields(change: dict[str, Any], field: str, value: object) -> None:
    """Each option of a call that we place has its field, within Telnyx's limits."""
    assert dial_body(attrs.evolve(DIAL, **change), "7267")[field] == value


async def test_dialling_needs_a_connection(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without a connection id nothing is dialled, and the error names argument and variable."""
    monkeypatch.delenv("TELNYX_CONNECTION_ID", raising=False)
    async with serve_telnyx_rest(KEY) as server:
        with pytest.raises(ConfigurationError, match=r"connection_id= must be given, .* TELNYX_CONNECTION_ID"):
            await Telnyx(KEY, PUBLIC, api_url=server.api_url).dial(DIAL)
    assert server.requests == []


@pytest.mark.parametrize("answer", [{}, {"data": None}, {"data": {"call_control_id": "v3:a b\n"}}], ids=str)
async def test_dial_may_have_no_id_yet(answer: Any) -> None:
    """An accepted call whose id is missing, or would break a log, has none until its webhook comes."""
    async with serve_telnyx_rest(KEY) as server:
        server.fault = RESTFault(200, answer)
        assert await carrier(server).dial(DIAL) == Dialled("")


FAULTS: list[tuple[RESTFault, type[Exception], str]] = [
    (RESTFault(*refusal(401, "10009", "Authentication failed", KEY)), AuthenticationError, "401"),
    (RESTFault(*refusal(403, "10010", "Not authorized", KEY)), AuthenticationError, "403"),
    (RESTFault(*refusal(429, "10011", "Too many requests", "slow down")), RateLimitError, "10011: Too many requests"),
    (RESTFault(*refusal(500, "10007", "Unexpected error", "")), ProviderError, "10007: Unexpected error"),
    (RESTFault(*refusal(422, "10015", "Bad Request", "x" * 9000)), ProviderError, "10015: Bad Request: xxx"),
    (RESTFault(*refusal(422, "90018", "Call has already ended", "")), CallEnded, "90018"),
    (RESTFault(*refusal(404, "10005", "Resource not found", "")), CallEnded, "10005"),
    (RESTFault(404, {}), ProviderError, "404"),
    (RESTFault(404, None), ProviderError, "404"),
    (RESTFault(422, {"errors": []}), ProviderError, "422"),
    (RESTFault(422, {"errors": ["odd"]}), ProviderError, "422"),
    (RESTFault(422, {"errors": {"code": 5}}), ProviderError, "422"),
    (RESTFault(422, {"errors": [{"code": 90018, "title": 5, "detail": None}]}), CallEnded, "90018"),
    (RESTFault(301, {}), ProviderError, "redirects are not followed"),
    (RESTFault(raw=b"", after=True), ProviderTimeout, "it is unknown whether"),
    (RESTFault(raw=b"HTTP/1.1 502 Bad\r\nContent-Length: 6\r\n\r\n<html>"), ProviderError, "502"),
]


@pytest.mark.parametrize(("fault", "error", "said"), FAULTS, ids=[f"fault {number}" for number in range(len(FAULTS))])
async def test_refusal_raises_its_error_once(fault: RESTFault, error: type[Exception], said: str) -> None:
    """Each refusal, fault or broken answer raises its error, which is short and has no key, after one request."""
    async with serve_telnyx_rest(KEY, calls=[CALL]) as server:
        server.fault = fault
        await raises_once(partial(carrier(server).transfer, INBOUND, DESK), server, error, said, KEY)


async def test_lost_answer_to_a_dial_is_not_repeated() -> None:
    """A dial whose answer was lost is not tried again: it is unknown whether a phone rings."""
    async with serve_telnyx_rest(KEY) as server:
        server.fault = RESTFault(raw=b"", after=True)
        with pytest.raises(ProviderTimeout):
            await carrier(server).dial(DIAL)
    assert len(server.calls) == len(server.requests) == 1


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(["code", "title", "x"]), inner),
    max_leaves=6,
)


@given(st.integers(400, 599), JSON)
def test_any_refusal_is_read(status: int, errors: Any) -> None:
    """A refusal with anything for its errors is read as one."""
    str(read_refusal(status, {"errors": errors}))


# Numbers --------------------------------------------------------------------------------------------------------------
NUMBER, HOOK = "+15550100002", "https://agent.example/webhooks/telnyx/voice"


def owned(server: TelnyxRESTServer) -> Telnyx:
    """Give the account a number that belongs to an application."""
    server.numbers = {"+155501000029": "other", NUMBER: "7267"}
    server.applications["7267"] = {"application_name": "agents", "webhook_event_url": "https://old.example"}
    return carrier(server)


async def test_number_is_shown_with_its_application() -> None:
    """A number's webhook is that of its application, which the setup names."""
    async with serve_telnyx_rest(KEY) as server:
        setup = await owned(server).number_setup(NUMBER)
    assert (setup.number, setup.voice_url, setup.status_url) == (NUMBER, "https://old.example", "https://old.example")
    assert "'agents' (7267)" in setup.detail
    assert "all its numbers" in setup.detail


async def test_pointing_a_number_changes_its_application() -> None:
    """Pointing a number sets the webhook of its application, and keeps the application's name."""
    async with serve_telnyx_rest(KEY) as server:
        setup = await owned(server).point_number(NUMBER, HOOK, "https://agent.example/webhooks/telnyx/status")
        assert setup == await carrier(server).number_setup(NUMBER)
    assert setup.voice_url == setup.status_url == HOOK
    assert server.applications["7267"] == {
        "application_name": "agents",
        "webhook_event_url": HOOK,
        "webhook_api_version": "2",
    }


Use = Callable[[Telnyx], Awaitable[NumberSetup]]
POINT: Use = lambda ours: ours.point_number(NUMBER, HOOK, "")  # noqa: E731 (one line of a table)
SHOW: Use = lambda ours: ours.number_setup(NUMBER)  # noqa: E731 (one line of a table)


@pytest.mark.parametrize("use", [POINT, SHOW], ids=["point", "show"])
async def test_number_of_others_is_an_error(use: Use) -> None:
    """A number that the account does not have raises ProvisionError, even if it is a part of one that it has."""
    async with serve_telnyx_rest(KEY) as server:
        server.numbers = {f"{NUMBER}9": "7267"}
        with pytest.raises(ProvisionError, match="does not have the number"):
            await use(carrier(server))


@pytest.mark.parametrize(
    ("connection", "said"),
    [("", "no Call Control application"), ("sip", "main, which is not a Call Control application")],
    ids=["no connection", "sip connection"],
)
async def test_number_without_application_cannot_be_pointed(connection: str, said: str) -> None:
    """A number that belongs to no application is shown as such, and cannot be pointed."""
    async with serve_telnyx_rest(KEY) as server:
        server.numbers = {NUMBER: connection}
        setup = await SHOW(carrier(server))
        with pytest.raises(ProvisionError, match="assign it to one in the portal"):
            await POINT(carrier(server))
    assert (setup.voice_url, said in setup.detail) == ("", True)


async def test_application_with_old_webhooks_is_reported() -> None:
    """An application whose webhooks are of version 1 is told, because we do not read them."""
    async with serve_telnyx_rest(KEY) as server:
        ours = owned(server)
        server.applications["7267"]["webhook_api_version"] = "1"
        assert "set version 2" in (await SHOW(ours)).detail
        assert "set version 2" not in (await POINT(ours)).detail


async def test_refused_pointing_is_a_provision_error() -> None:
    """An application that Telnyx does not change raises ProvisionError with the reason.

    Wrong keys stay what they are.
    """
    async with serve_telnyx_rest(KEY) as server:
        ours = owned(server)
        # The name is required, and this application has none.
        server.applications["7267"]["application_name"] = None
        with pytest.raises(ProvisionError, match=r"was not pointed: .*10015: Bad Request"):
            await POINT(ours)
        with pytest.raises(AuthenticationError):
            await POINT(carrier(server, "wrong"))


@given(st.lists(st.text(max_size=5), max_size=4), st.lists(st.text(max_size=5), max_size=4))
def test_command_ids_differ_with_what_is_asked(one: list[str], other: list[str]) -> None:
    """The id of a command is the same for the same request, and another for another."""
    same = "\0".join(one) == "\0".join(other)
    assert (command_id(*one) == command_id(*other)) is same
