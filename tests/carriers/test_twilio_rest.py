"""Twilio's REST interface: what is sent, what its refusals mean, and that a request can be cancelled anywhere."""

from functools import partial
from typing import Any
from xml.etree import ElementTree as ET

import pytest
import trio
import trio.testing
from hypothesis import given
from hypothesis import strategies as st

from patter_trio.abc import CallInfo, DialRequest, NumberSetup
from patter_trio.carriers.local import LocalCarrier
from patter_trio.carriers.twilio import Twilio
from patter_trio.carriers.twilio_rest import TwilioREST
from patter_trio.errors import (
    AuthenticationError,
    CallEnded,
    ConfigurationError,
    ProviderError,
    ProviderTimeout,
    ProvisionError,
    RateLimitError,
)
from patter_trio.phone_numbers import checked_destination, is_number
from patter_trio.testing.servers.twilio_rest import RESTFault, TwilioRESTServer, serve_twilio_rest
from tests.kit.rest_laws import cancels_at_every_step, raises_once, times_out

SID, TOKEN, CALL, DESK = "AC1", "a:secret/ü", "CA1", "+15550100003"
INBOUND = CallInfo(CALL, "+15550100001", "+15550100002", "inbound")


def account(server: TwilioRESTServer, token: str = TOKEN) -> TwilioREST:
    return TwilioREST(SID, token, server.api_url)


async def test_a_transfer_gives_the_call_other_twiml() -> None:
    """A transfer is one POST to the call's resource that has the TwiML as its only field."""
    async with serve_twilio_rest(SID, TOKEN, calls=[CALL]) as server:
        carrier = Twilio(SID, TOKEN, api_url=f"{server.api_url}/")
        await carrier.transfer(INBOUND, DESK)
    [request] = server.requests
    assert (request.method, request.target) == ("POST", f"/2010-04-01/Accounts/{SID}/Calls/{CALL}.json")
    assert list(request.fields) == ["Twiml"]
    assert server.calls[CALL].twiml == carrier.twiml_dial(INBOUND, DESK)
    assert server.calls[CALL].status == "in-progress"


async def test_a_call_is_ended_by_its_status() -> None:
    """The status completed ends a call, and setting it again raises CallEnded with Twilio's error 21220."""
    async with serve_twilio_rest(SID, TOKEN, calls=[CALL]) as server:
        await account(server).update_call(CALL, {"Status": "completed"})
        assert server.calls[CALL].status == "completed"
        with pytest.raises(CallEnded, match="21220: Call is not in-progress"):
            await account(server).update_call(CALL, {"Status": "completed"})


async def test_each_request_has_a_connection_of_its_own() -> None:
    """Two requests use two connections, because a kept one could have gone stale."""
    async with serve_twilio_rest(SID, TOKEN, calls=[CALL]) as server:
        for _ in range(2):
            await account(server).update_call(CALL, {"Twiml": "<Response/>"})
    assert server.connections == 2


@pytest.mark.parametrize("sid", ["CA2", "../../x", "CA1.json?Twiml=x#", "CA1/Recordings", ""])
async def test_unknown_call_sid_raises_call_ended(sid: str) -> None:
    """Updating a call that Twilio does not know raises CallEnded."""
    async with serve_twilio_rest(SID, TOKEN, calls=[CALL]) as server:
        with pytest.raises(CallEnded, match="20404"):
            await account(server).update_call(sid, {"Status": "completed"})
    assert server.calls[CALL].status == "in-progress"


async def test_wrong_credentials_are_reported_and_not_repeated() -> None:
    """Wrong credentials raise AuthenticationError, whose text has neither the token nor the account."""
    async with serve_twilio_rest(SID, TOKEN, calls=[CALL]) as server:
        with pytest.raises(AuthenticationError) as refused:
            await account(server, "wrong-token").update_call(CALL, {"Status": "completed"})
    assert "wrong-token" not in str(refused.value) + repr(account(server, "wrong-token"))
    assert SID not in str(refused.value)


@pytest.mark.parametrize(
    ("fault", "error", "said"),
    [
        (RESTFault(403, 20403, "Forbidden"), AuthenticationError, "403"),
        (RESTFault(429, 20429, "Too Many Requests"), RateLimitError, "20429: Too Many Requests"),
        (RESTFault(500, 20500, "Internal"), ProviderError, "20500: Internal"),
        (RESTFault(503, 20503, "x" * 9000), ProviderError, "503"),
        (RESTFault(400, 21220, "not in-progress"), CallEnded, "21220"),
        (RESTFault(404, 20404, "not found"), CallEnded, "20404"),
        (RESTFault(400, 12100, "Document parse failure"), ProviderError, "12100"),
        (RESTFault(301, 0, ""), ProviderError, "redirects are not followed"),
        (RESTFault(raw=b""), ProviderError, ""),
        (RESTFault(raw=b"", after=True), ProviderError, ""),
        (RESTFault(raw=b"HTTP/1.1 400 "), ProviderError, ""),
        (RESTFault(raw=b"nonsense\r\n\r\n"), ProviderError, ""),
        (RESTFault(raw=b"HTTP/1.1 404 No\r\nContent-Length: 0\r\n\r\n"), ProviderError, "404"),
        (RESTFault(raw=b"HTTP/1.1 404 No\r\nContent-Length: 5\r\n\r\n[404]"), ProviderError, "404"),
        (RESTFault(raw=b"HTTP/1.1 400 No\r\nContent-Length: 17\r\n\r\n" + b"[" * 17), ProviderError, "400"),
        (RESTFault(raw=b"HTTP/1.1 400 No\r\nContent-Length: 15\r\n\r\n" + b'{"code":"21220"'), ProviderError, "400"),
        (
            RESTFault(raw=b"HTTP/1.1 400 No\r\nContent-Length: 20\r\n\r\n" + b'{"message":["a",{}]}'),
            ProviderError,
            "400",
        ),
    ],
)
async def test_what_an_answer_means(fault: RESTFault, error: type[Exception], said: str) -> None:
    """Each refusal, fault or broken answer of Twilio raises its error in under 500 characters, after one request."""
    async with serve_twilio_rest(SID, TOKEN, calls=[CALL]) as server:
        server.fault = fault
        ask = partial(account(server).update_call, CALL, {"Twiml": "<Response/>"})
        await raises_once(ask, server, error, said, TOKEN)


async def test_too_many_requests_say_when_again() -> None:
    """A refusal for too many requests has the seconds that Twilio asks to wait."""
    async with serve_twilio_rest(SID, TOKEN, calls=[CALL]) as server:
        server.fault = RESTFault(429, 20429, "Too Many Requests", retry_after="3")
        with pytest.raises(RateLimitError) as raised:
            await account(server).update_call(CALL, {"Status": "completed"})
    assert raised.value.retry_after == 3.0


# Calls that we place ------------------------------------------------------------------------------------------------
DIAL = DialRequest(
    to=DESK, from_number="+15550100002", reference="ours", voice_url="https://a.example/v?dial=ours",
    status_url="https://a.example/s?dial=ours", amd_url="https://a.example/a?dial=ours",
)  # fmt: skip


async def test_a_dialled_call_rings_until_hung_up() -> None:
    """A dial returns the id that Twilio gives, and a hang-up ends the call before its answer; a second one raises."""
    async with serve_twilio_rest(SID, TOKEN) as server:
        carrier = Twilio(SID, TOKEN, api_url=server.api_url)
        dialled = await carrier.dial(DIAL)
        assert server.calls[dialled.call_id].status == "queued"
        assert dialled.request_id == ""
        await carrier.hang_up(dialled.call_id)
        assert server.calls[dialled.call_id].status == "completed"
        with pytest.raises(CallEnded):
            await carrier.hang_up(dialled.call_id)
    assert "MachineDetection" not in server.requests[0].fields


@pytest.mark.parametrize(
    ("fault", "error"),
    [
        pytest.param(RESTFault(400, 21211, "Invalid 'To'"), ProviderError, id="refused"),
        pytest.param(RESTFault(404, 20404, "no such account"), ProviderError, id="not-found"),
        pytest.param(RESTFault(raw=b""), ProviderTimeout, id="cut"),
        pytest.param(RESTFault(raw=b"", after=True), ProviderTimeout, id="cut-after"),
        pytest.param(RESTFault(201, 0, "no sid"), ProviderTimeout, id="without-id"),
        pytest.param(RESTFault(raw=b"HTTP/1.1 201 X\r\nContent-Length: 2\r\n\r\nOK"), ProviderTimeout, id="no-json"),
    ],
)
async def test_a_failed_dial_is_sent_once(fault: RESTFault, error: type[Exception]) -> None:
    """A dial that fails is sent once, and raises ProviderTimeout where the phone may ring all the same."""
    async with serve_twilio_rest(SID, TOKEN) as server:
        server.fault = fault
        with pytest.raises(ProviderError) as raised:
            await Twilio(SID, TOKEN, api_url=server.api_url).dial(DIAL)
    assert type(raised.value) is error
    assert len(server.requests) == 1


@pytest.mark.parametrize(
    ("price", "unit", "cost"),
    [
        ("-0.00850", "USD", 0.0085),
        ("0", "USD", 0.0),
        (None, "USD", None),
        ("-0.1", "EUR", None),
        ("free", "USD", None),
        ("nan", "USD", None),
    ],
)
async def test_cost_is_the_price_without_sign(price: str | None, unit: str, cost: float | None) -> None:
    """The cost of a call is Twilio's price without its sign, in US dollars; without a price it is None."""
    async with serve_twilio_rest(SID, TOKEN, calls=[CALL]) as server:
        server.calls[CALL].price, server.calls[CALL].price_unit = price, unit
        assert await Twilio(SID, TOKEN, api_url=server.api_url).cost(CALL) == cost


async def test_recording_needs_a_live_call() -> None:
    """A recording of a live call has an id and both sides; one of a call that is over raises CallEnded."""
    async with serve_twilio_rest(SID, TOKEN, calls=[CALL]) as server:
        carrier = Twilio(SID, TOKEN, api_url=server.api_url)
        assert await carrier.start_recording(INBOUND, "https://a.example/r") == server.calls[CALL].recordings[0]
        assert server.requests[0].fields["RecordingChannels"] == "dual"
        server.calls[CALL].status = "completed"
        with pytest.raises(CallEnded):
            await carrier.start_recording(INBOUND, "https://a.example/r")


NUMBER_SID = "PN" + "1" * 32


def number(**fields: str | None) -> dict[str, str | None]:
    return {"sid": NUMBER_SID, "phone_number": DESK, "voice_url": "https://old.example/v", **fields}


async def test_a_number_is_shown_and_pointed() -> None:
    """A number shows where its calls go; pointed here, they go to our webhooks, and no longer to an application."""
    async with serve_twilio_rest(SID, TOKEN) as server:
        carrier = Twilio(SID, TOKEN, api_url=server.api_url)
        # Twilio also finds the longer number, which contains the one in question.
        server.numbers[DESK + "9"] = number(sid="PN" + "2" * 32, phone_number=DESK + "9", voice_url="")
        server.numbers[DESK] = number(voice_application_sid="AP1")
        before = await carrier.number_setup(DESK)
        after = await carrier.point_number(DESK, "https://a.example/v", "https://a.example/s")
        assert await carrier.number_setup(DESK) == after
    assert before == NumberSetup(DESK, "https://old.example/v", "", "application AP1")
    assert after == NumberSetup(DESK, "https://a.example/v", "https://a.example/s")
    assert server.numbers[DESK]["voice_method"] == "POST"


async def test_a_number_elsewhere_is_left_alone() -> None:
    """A number of another account, or of a SIP trunk, raises ProvisionError and is not changed."""
    async with serve_twilio_rest(SID, TOKEN) as server:
        carrier = Twilio(SID, TOKEN, api_url=server.api_url)
        with pytest.raises(ProvisionError, match="it does not"):
            await carrier.number_setup(DESK)
        server.numbers[DESK] = number(trunk_sid="TK1")
        assert (await carrier.number_setup(DESK)).detail == "SIP trunk TK1"
        with pytest.raises(ProvisionError, match="belongs to the SIP trunk TK1"):
            await carrier.point_number(DESK, "https://a.example/v", "https://a.example/s")
    assert {request.method for request in server.requests} == {"GET"}


async def test_local_carrier_does_nothing_on_request() -> None:
    """The carrier of this machine refuses all that Twilio does on request, and sends nothing."""
    local = LocalCarrier()
    with pytest.raises(ConfigurationError, match="the phone must have a carrier"):
        await local.dial(DIAL)
    for refused in (
        local.hang_up(CALL),
        local.transfer(INBOUND, DESK),
        local.start_recording(INBOUND, ""),
        local.number_setup(DESK),
        local.point_number(DESK, "", ""),
    ):
        with pytest.raises(ConfigurationError, match="LocalCarrier cannot"):
            await refused
    assert await local.cost(CALL) is None


async def test_unreachable_rest_api_raises_provider_error() -> None:
    """A REST interface that cannot be reached raises ProviderError."""
    async with serve_twilio_rest(SID, TOKEN) as server:
        pass
    with pytest.raises(ProviderError, match="could not be reached"):
        await account(server).update_call(CALL, {"Status": "completed"})


async def test_missing_answer_times_out_after_4_s(mock_clock: trio.testing.MockClock) -> None:
    """A REST request without an answer raises ProviderTimeout after four seconds."""
    async with serve_twilio_rest(SID, TOKEN, calls=[CALL]) as server:
        server.fault = RESTFault(hang=True)
        ask = partial(account(server).update_call, CALL, {"Status": "completed"})
        assert await times_out(ask, server, mock_clock) == f"{server.api_url} did not answer within 4 s"
        while not server.left:
            await trio.lowlevel.checkpoint()


async def test_rest_request_cancels_at_every_step(stride: int) -> None:
    """A REST request can be cancelled at each of its steps, without errors or delay."""
    async with serve_twilio_rest(SID, TOKEN, calls=[CALL]) as server:
        await cancels_at_every_step(partial(account(server).update_call, CALL, {"Twiml": "<Response/>"}), stride)


# The TwiML ------------------------------------------------------------------------------------------------------------
def dial(call: CallInfo, to: str) -> ET.Element:
    response = ET.fromstring(Twilio(SID, TOKEN).twiml_dial(call, to).encode())  # noqa: S314 (it is ours)
    assert (response.tag, [child.tag for child in response]) == ("Response", ["Dial"])
    return response[0]


def test_inbound_transfer_sets_no_caller_id() -> None:
    """The TwiML of an inbound call's transfer sets no callerId, so that Twilio shows the caller's number."""
    element = dial(INBOUND, DESK)
    assert (element.text, element.attrib, len(element)) == (DESK, {}, 0)


def test_outbound_transfer_shows_our_number() -> None:
    """The transfer of an outbound call shows the number that placed it, unless that is a SIP address."""
    assert dial(CallInfo(CALL, "+15550100002", "+15550100001", "outbound"), DESK).attrib == {"callerId": "+15550100002"}
    assert dial(CallInfo(CALL, "sip:us@example.com", "+15550100001", "outbound"), DESK).attrib == {}


def test_a_sip_address_is_escaped() -> None:
    """The TwiML of a transfer to a SIP address holds the address intact, with its special characters."""
    to = "sip:a&b'c@pbx.example.com;transport=tls?X-Case=1&X-Name=2"
    element = dial(INBOUND, checked_destination(to))
    assert [(child.tag, child.text) for child in element] == [("Sip", to)]


@given(
    st.text(max_size=30) | st.from_regex(r"\+[0-9]{1,18}\n?", fullmatch=True) | st.from_regex(r"sip:.*", fullmatch=True)
)
def test_destination_is_in_twiml_unchanged(to: str) -> None:
    """Every valid transfer destination is in the TwiML unchanged."""
    try:
        checked_destination(to)
    except ConfigurationError:
        return
    element = dial(INBOUND, to)
    assert "".join(element.itertext()) == to
    assert is_number(to) == (len(element) == 0)
    assert to.isascii()
    assert to.strip() == to


@pytest.mark.parametrize("to", ["+15550100003", "+4930123456", "+390612345678", "sip:a@b", "sip:+1555@b.example:5061"])
def test_numbers_and_sip_addresses_are_destinations(to: str) -> None:
    """E.164 numbers and SIP addresses are accepted as destinations unchanged."""
    assert checked_destination(to) == to


@pytest.mark.parametrize(
    "to",
    [
        "15550100003", "+1555010000٣", "+15550100003\n", " +15550100003", "+1234567890123456", "+123456", "00441",
        "sip:a b@c", "sip:a@b\n", "sips:a@b", "SIP:", "sip:@b", "sip:a@" + "b" * 255, "sip:a@b<c", "sip:ü@b", 5, None,
        b"+1",
    ],
)  # fmt: skip
def test_invalid_destinations_are_refused(to: Any) -> None:
    """Anything but an E.164 number or a SIP address raises a ConfigurationError."""
    with pytest.raises(ConfigurationError, match=r"an E\.164 number"):
        checked_destination(to)


@pytest.mark.parametrize("url", ["", "api.twilio.com", "ftp://x", "https://", "http://x y"])
def test_invalid_api_url_is_refused(url: str) -> None:
    """An api_url that is not an http or https URL raises a ConfigurationError."""
    with pytest.raises(ConfigurationError):
        Twilio(SID, TOKEN, api_url=url)
