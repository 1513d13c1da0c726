"""Plivo's REST interface: what is sent, what its refusals mean, and that a request can be cancelled anywhere."""

from functools import partial
from typing import Any

import pytest
import trio
import trio.testing

from patter_trio import Plivo
from patter_trio.abc import CallInfo, Dialled, DialRequest, NumberSetup
from patter_trio.errors import (
    AuthenticationError,
    CallEnded,
    ConfigurationError,
    ProviderError,
    ProviderTimeout,
    ProvisionError,
    RateLimitError,
)
from patter_trio.testing.servers.plivo_rest import PlivoRESTFault, PlivoRESTServer, serve_plivo_rest
from tests.kit.rest_laws import cancels_at_every_step, raises_once, times_out

AUTH_ID, TOKEN = "MA1", "a:secret/ü"
CALL = "a7bd2e5c-6d1f-4d6e-9b0c-8f7a6b5c4d3e"
OURS, OTHER = "+15550100002", "+15550100001"
INBOUND = CallInfo(CALL, OTHER, OURS, "inbound")
VOICE, STATUS = "https://agent.example/webhooks/plivo/voice", "https://agent.example/webhooks/plivo/status"
REQUEST = DialRequest(
    to=OTHER,
    from_number=OURS,
    reference="r1",
    voice_url=f"{VOICE}?dial=r1",
    status_url=f"{STATUS}?dial=r1",
    amd_url="https://agent.example/webhooks/plivo/amd?dial=r1",
)


def account(server: PlivoRESTServer, token: str = TOKEN) -> Plivo:
    return Plivo(AUTH_ID, token, api_url=server.api_url)


def serving(**more: Any) -> Any:
    return serve_plivo_rest(AUTH_ID, TOKEN, **({"calls": [CALL], "numbers": {OURS[1:]: ""}} | more))


async def test_dial_asks_for_call_and_reports() -> None:
    """A dial is one POST with the numbers, the webhooks and the ring time, and returns the id of the request."""
    async with serving() as server:
        dialled = await account(server).dial(REQUEST)
    [request] = server.requests
    assert (request.method, request.target) == ("POST", f"/v1/Account/{AUTH_ID}/Call/")
    assert request.fields == {
        "from": "15550100002",
        "to": "15550100001",
        "answer_url": REQUEST.voice_url,
        "answer_method": "POST",
        "ring_url": REQUEST.status_url,
        "ring_method": "POST",
        "hangup_url": REQUEST.status_url,
        "hangup_method": "POST",
        "ring_timeout": 25,
    }
    assert dialled == Dialled("", next(iter(server.placed)))


@pytest.mark.parametrize("detection", ["answer", "greeting_end"])
async def test_dial_asks_for_limits_and_detection(detection: Any) -> None:
    """A time limit and the detection of machines are sent along; the detection does not hold up the call."""
    request = DialRequest(
        to=OTHER,
        from_number=OURS,
        reference="r1",
        voice_url=VOICE,
        status_url=STATUS,
        amd_url="https://agent.example/amd",
        machine_detection=detection,
        time_limit=600,
    )
    async with serving() as server:
        await account(server).dial(request)
    sent = server.requests[0].fields
    assert sent["time_limit"] == 600
    assert {name: value for name, value in sent.items() if name.startswith("machine")} == {
        "machine_detection": "true",
        "machine_detection_time": 5000,
        "machine_detection_url": "https://agent.example/amd",
        "machine_detection_method": "POST",
    }


async def test_refused_dial_explains_itself() -> None:
    """A dial that Plivo refuses raises ProviderError with Plivo's explanation, after one request."""
    async with serving(numbers={}) as server:
        with pytest.raises(ProviderError, match="not associated with your account"):
            await account(server).dial(REQUEST)
    assert len(server.requests) == 1


async def test_hang_up_ends_call_or_request() -> None:
    """A call ends by its id, or by its request's while it has none; what is over already raises CallEnded."""
    async with serving() as server:
        dialled = await account(server).dial(REQUEST)
        await account(server).hang_up("", dialled.request_id)
        await account(server).hang_up(CALL, dialled.request_id)
        assert (server.placed, server.calls[CALL].live) == ({}, False)
        for ids in ((CALL, ""), ("", dialled.request_id)):
            with pytest.raises(CallEnded, match="not found"):
                await account(server).hang_up(*ids)
    assert [(r.method, r.path) for r in server.requests[1:3]] == [
        ("DELETE", f"Request/{dialled.request_id}/"),
        ("DELETE", f"Call/{CALL}/"),
    ]


@pytest.mark.parametrize("call_id", ["../../x", "x/Record", "x?y", "x#z", ".", "..", "x" * 65, "ü", "%2e"])
async def test_odd_ids_reach_no_other_resource(call_id: str) -> None:
    """An id of another form counts as that of a call that is over: a request with it could end all calls."""
    async with serving() as server:
        for asks in (
            account(server).hang_up(call_id),
            account(server).hang_up("", call_id),
            account(server).redirect(CallInfo(call_id, "", "", "inbound"), VOICE),
            account(server).start_recording(CallInfo(call_id, "", "", "inbound"), VOICE),
        ):
            with pytest.raises(CallEnded, match="not the id of a call"):
                await asks
        with pytest.raises(CallEnded):
            await account(server).hang_up("", "")
        assert await account(server).cost(call_id) is None
    assert not server.requests


async def test_redirect_gives_call_another_url() -> None:
    """A live call is redirected by one POST that names the caller's leg and the URL of its new XML."""
    async with serving() as server:
        await account(server).redirect(INBOUND, "https://agent.example/webhooks/plivo/transfer?document=d1")
        assert server.calls[CALL].url == "https://agent.example/webhooks/plivo/transfer?document=d1"
        server.calls[CALL].live = False
        with pytest.raises(CallEnded):
            await account(server).redirect(INBOUND, VOICE)
    assert server.requests[0].fields == {
        "legs": "aleg",
        "aleg_url": "https://agent.example/webhooks/plivo/transfer?document=d1",
        "aleg_method": "POST",
    }


async def test_transfer_without_server_is_refused() -> None:
    """A transfer without the server that publishes its document raises ConfigurationError, and nothing is sent."""
    async with serving() as server:
        with pytest.raises(ConfigurationError, match="Plivo cannot transfer calls"):
            await account(server).transfer(INBOUND, OTHER)
    assert not server.requests


@pytest.mark.parametrize("url", [STATUS, f"{STATUS}?x=1"])
async def test_recording_is_whole_and_stereo(url: str) -> None:
    """A recording has both sides in two channels, does not end after a minute, and its report names the call."""
    async with serving() as server:
        recording = await account(server).start_recording(INBOUND, url)
    assert recording == f"recording-of-{CALL}"
    assert server.calls[CALL].recording == {
        "file_format": "wav",
        "record_channel_type": "stereo",
        "time_limit": 86400,
        "callback_url": f"{url}{'&' if '?' in url else '?'}call={CALL}",
        "callback_method": "POST",
    }


async def test_cost_is_known_after_the_call() -> None:
    """The cost of a call comes from its record, which exists when it is over; an odd amount counts as none."""
    async with serving() as server:
        assert await account(server).cost(CALL) is None
        server.calls[CALL].live = False
        assert await account(server).cost(CALL) == 0.0085
        server.calls[CALL].total_amount = "free"
        assert await account(server).cost(CALL) is None


async def test_number_gets_application_of_its_own() -> None:
    """A number is pointed at our webhooks by an application of its own, and its former one stays as it is."""
    async with serving() as server:
        server.applications["7"] = {"app_id": "7", "app_name": "old", "answer_url": "https://old.example"}
        server.numbers = {OURS[1:]: "7", f"{OURS[1:]}9": "7"}
        before = await account(server).number_setup(OURS)
        after = await account(server).point_number(OURS, VOICE, STATUS)
        assert before == NumberSetup(OURS, "https://old.example")
        name = f"patter-trio-{OURS[1:]}"
        [created] = [app for app in server.applications.values() if app["app_name"] == name]
        assert after == NumberSetup(OURS, VOICE, STATUS)
        assert server.numbers[OURS[1:]] == created["app_id"]
        assert (created["answer_method"], created["hangup_method"]) == ("POST", "POST")
        assert server.applications["7"]["answer_url"] == "https://old.example"
        assert server.numbers[f"{OURS[1:]}9"] == "7"
        # Once more: the same application, with other webhooks.
        again = await account(server).point_number(OURS, f"{VOICE}/2", STATUS)
        assert (again.voice_url, len(server.applications)) == (f"{VOICE}/2", 2)


async def test_number_without_application_has_no_webhook() -> None:
    """A number that belongs to no application has no webhook, and its setup says why."""
    async with serving() as server:
        assert await account(server).number_setup(OURS) == NumberSetup(
            OURS, "", detail="the number belongs to no application"
        )


async def test_foreign_numbers_are_not_set_up() -> None:
    """A number that the account does not have raises ProvisionError, and no application is made for it."""
    async with serving(numbers={f"{OURS[1:]}9": ""}) as server:
        for attempt in (account(server).number_setup(OURS), account(server).point_number(OURS, VOICE, STATUS)):
            with pytest.raises(ProvisionError, match=r"does not have the number \+1555\*\*\*0002"):
                await attempt
        assert not server.applications


async def test_refused_setup_is_provision_error() -> None:
    """A setup that Plivo refuses raises ProvisionError with its explanation; a missing answer stays what it is."""
    async with serving() as server:
        name = f"patter-trio-{OURS[1:]}"
        # The application went away meanwhile.
        server.applications["7"] = {"app_id": "8", "app_name": name}
        with pytest.raises(ProvisionError, match="could not be set up"):
            await account(server).point_number(OURS, VOICE, STATUS)
        server.fault = PlivoRESTFault(401, "authentication failed")
        with pytest.raises(AuthenticationError):
            await account(server).point_number(OURS, VOICE, STATUS)


@pytest.mark.parametrize(
    ("fault", "error", "said"),
    [
        (PlivoRESTFault(401, "authentication failed"), AuthenticationError, "401"),
        (PlivoRESTFault(403, "forbidden"), AuthenticationError, "403"),
        (PlivoRESTFault(429, "rate limit exceeded"), RateLimitError, "rate limit exceeded"),
        (PlivoRESTFault(500, "internal"), ProviderError, "internal"),
        (PlivoRESTFault(503, "x" * 9000), ProviderError, "503"),
        (PlivoRESTFault(404, "not found"), CallEnded, "not found"),
        (PlivoRESTFault(404, {"odd": 1}), CallEnded, "404"),
        (PlivoRESTFault(400, "aleg_url is invalid"), ProviderError, "aleg_url is invalid"),
        (PlivoRESTFault(raw=b""), ProviderTimeout, "unknown"),
        (PlivoRESTFault(raw=b"nonsense\r\n\r\n"), ProviderError, ""),
        (PlivoRESTFault(raw=b"HTTP/1.1 404 No\r\nContent-Length: 0\r\n\r\n"), ProviderError, "404"),
        (PlivoRESTFault(raw=b"HTTP/1.1 404 No\r\nContent-Length: 5\r\n\r\n[404]"), ProviderError, "404"),
    ],
)
async def test_what_an_answer_of_plivo_means(fault: PlivoRESTFault, error: type[Exception], said: str) -> None:
    """Each refusal, fault or broken answer of Plivo raises its error in under 500 characters, after one request."""
    async with serving() as server:
        server.fault = fault
        await raises_once(partial(account(server).redirect, INBOUND, VOICE), server, error, said, TOKEN)


async def test_rate_limit_says_how_long_to_wait() -> None:
    """A refusal with Retry-After raises RateLimitError with the seconds to wait."""
    async with serving() as server:
        server.fault = PlivoRESTFault(429, "rate limit exceeded", headers=(("Retry-After", "7"),))
        with pytest.raises(RateLimitError) as raised:
            await account(server).dial(REQUEST)
    assert raised.value.retry_after == 7


async def test_wrong_plivo_token_is_reported_and_hidden() -> None:
    """Wrong credentials raise AuthenticationError, whose text has neither the token nor the account."""
    async with serving() as server:
        with pytest.raises(AuthenticationError) as refused:
            await account(server, "wrong-token").hang_up(CALL)
    assert "wrong-token" not in str(refused.value)
    assert AUTH_ID not in str(refused.value)


@pytest.mark.parametrize("body", [b"[]", b"OK", b""])
async def test_unreadable_dial_answer_is_unknown(body: bytes) -> None:
    """A dial whose answer is not a JSON object may have been carried out, so it raises ProviderTimeout."""
    async with serving() as server:
        server.fault = PlivoRESTFault(raw=b"HTTP/1.1 201 Ok\r\nContent-Length: %d\r\n\r\n%s" % (len(body), body))
        with pytest.raises(ProviderTimeout, match="unknown whether"):
            await account(server).dial(REQUEST)
    assert len(server.requests) == 1


async def test_dial_without_request_id_counts() -> None:
    """A dial that Plivo accepted without an id is placed: its webhooks bring our reference."""
    async with serving() as server:
        server.fault = PlivoRESTFault(raw=b'HTTP/1.1 201 Ok\r\nContent-Length: 16\r\n\r\n{"message":"ok"}')
        assert await account(server).dial(REQUEST) == Dialled("", "")


async def test_missing_answer_of_plivo_times_out(mock_clock: trio.testing.MockClock) -> None:
    """A request without an answer raises ProviderTimeout after four seconds."""
    async with serving() as server:
        server.fault = PlivoRESTFault(hang=True)
        await times_out(partial(account(server).dial, REQUEST), server, mock_clock)


async def test_plivo_request_cancels_at_every_step(stride: int) -> None:
    """A request can be cancelled at each of its steps, without errors or delay."""
    async with serving() as server:
        await cancels_at_every_step(partial(account(server).redirect, INBOUND, VOICE), stride)
