"""What we ask of Twilio's REST interface, and the TwiML for it, judged by Twilio's own package."""

from collections.abc import Callable
from operator import itemgetter
from typing import Any
from urllib.parse import parse_qsl, urlparse
from xml.etree import ElementTree as ET

import pytest
import trio
from hypothesis import given, settings
from hypothesis import strategies as st

from patter_trio.abc import CallInfo, DialRequest
from patter_trio.carriers.twilio import Twilio
from patter_trio.carriers.twilio_rest import API_URL, TwilioREST
from patter_trio.carriers.twilio_signature import sign, signed
from patter_trio.testing.servers.twilio_rest import RESTFault, RESTRequest, TwilioRESTServer, serve_twilio_rest

pytest.importorskip("twilio", reason="the vendor's package is an oracle: pip install patter-trio[oracles]")

import requests
from twilio.base.exceptions import TwilioRestException
from twilio.http import HttpClient
from twilio.http.response import Response
from twilio.request_validator import RequestValidator, add_port, remove_port
from twilio.rest import Client
from twilio.twiml.voice_response import Dial, VoiceResponse

SID, TOKEN, CALL, DESK = "AC" + "1" * 32, "secret", "CA" + "2" * 32, "+15550100003"
INBOUND = CallInfo(CALL, "+15550100001", "+15550100002", "inbound")
OUTBOUND = CallInfo(CALL, "+15550100002", "+15550100001", "outbound")
SIP = "sip:a&b@pbx.example.com;transport=tls"


class Through(HttpClient):
    """Sends what Twilio's package prepares to a server of ours, and keeps it."""

    def __init__(self, api_url: str) -> None:
        self.api_url = api_url
        self.prepared: list[requests.PreparedRequest] = []

    def request(
        self, method: str, url: str, params: Any = None, data: Any = None, headers: Any = None, auth: Any = None,
        timeout: Any = None, allow_redirects: bool = False,
    ) -> Response:  # fmt: skip
        prepared = requests.Request(method, url, headers=headers, params=params, data=data, auth=auth).prepare()
        self.prepared.append(prepared)
        there = requests.Request(
            method, url.replace(API_URL, self.api_url), headers=headers, params=params, data=data, auth=auth
        ).prepare()
        with requests.Session() as session:
            session.trust_env = False
            answer = session.send(there, timeout=10)
        return Response(answer.status_code, answer.text)


async def asks(server: TwilioRESTServer, use: Callable[[Client], Any]) -> tuple[RESTRequest, requests.PreparedRequest]:
    """Have Twilio's package ask the server for something; return what the server got, and what was prepared."""
    through = Through(server.api_url)
    client = Client(SID, TOKEN, http_client=through)
    with trio.fail_after(10):
        await trio.to_thread.run_sync(use, client)
    return server.requests[-1], through.prepared[-1]


async def theirs(server: TwilioRESTServer, **fields: str) -> tuple[RESTRequest, requests.PreparedRequest]:
    """Have Twilio's package update the call; return what the server got, and what was prepared."""
    return await asks(server, lambda client: client.calls(CALL).update(**fields))


def is_the_same(ours: RESTRequest, theirs: RESTRequest) -> None:
    """Assert that two requests ask for the same: the order of fields is free, that of a repeated one is not."""
    assert (ours.method, ours.target) == (theirs.method, theirs.target)
    mine, other = parse_qsl(ours.body, keep_blank_values=True), parse_qsl(theirs.body, keep_blank_values=True)
    assert sorted(mine, key=itemgetter(0)) == sorted(other, key=itemgetter(0))
    assert ours.headers["authorization"] == theirs.headers["authorization"]
    if ours.body:
        assert ours.headers["content-type"] == theirs.headers["content-type"]


NUMBERS = st.from_regex(r"\+[1-9][0-9]{6,14}", fullmatch=True)
URLS = st.text(st.characters(codec="ascii", exclude_categories=("C", "Z")), min_size=1, max_size=40).map(
    lambda path: f"https://agent.example/{path}"
)
DIALS = st.builds(
    DialRequest,
    to=NUMBERS,
    from_number=NUMBERS,
    reference=st.just("ours"),
    voice_url=URLS,
    status_url=URLS,
    amd_url=URLS,
    machine_detection=st.sampled_from(["", "answer", "greeting_end"]),
    ring_timeout=st.integers(1, 600),
    time_limit=st.none() | st.integers(1, 86400),
)


# A real server and a thread for each example: fewer examples.
@settings(max_examples=25, deadline=None)
@given(request=DIALS)
async def test_dial_body_equals_twilios_package(request: DialRequest) -> None:
    """The request that places a call has the body that Twilio's own package sends for it, whatever is asked."""
    more: dict[str, Any] = {} if request.time_limit is None else {"time_limit": request.time_limit}
    if request.machine_detection:
        more |= {
            "machine_detection": {"answer": "Enable", "greeting_end": "DetectMessageEnd"}[request.machine_detection],
            "async_amd": "true",
            "async_amd_status_callback": request.amd_url,
        }
    async with serve_twilio_rest(SID, TOKEN) as server:
        asked, _ = await asks(
            server,
            lambda client: client.calls.create(
                to=request.to,
                from_=request.from_number,
                url=request.voice_url,
                status_callback=request.status_url,
                status_callback_event=["initiated", "ringing", "answered", "completed"],
                timeout=request.ring_timeout,
                **more,
            ),
        )
        dialled = await TwilioREST(SID, TOKEN, server.api_url).dial(request)
        is_the_same(server.requests[-1], asked)
    assert list(server.calls) == ["CA" + f"{1:032x}", dialled.call_id]


NUMBER = {"sid": "PN" + "3" * 32, "phone_number": DESK, "voice_url": "https://old.example", "status_callback": None}


@pytest.mark.parametrize(
    ("ours", "theirs"),
    [
        pytest.param(
            lambda rest: rest.start_recording(CALL, "https://agent.example/r?dial=x"),
            lambda client: client.calls(CALL).recordings.create(
                recording_status_callback="https://agent.example/r?dial=x", recording_channels="dual"
            ),
            id="recording",
        ),
        pytest.param(lambda rest: rest.cost(CALL), lambda client: client.calls(CALL).fetch(), id="price"),
        pytest.param(
            lambda rest: rest.number_setup(DESK),
            lambda client: client.request(
                "GET", f"{API_URL}/2010-04-01/Accounts/{SID}/IncomingPhoneNumbers.json", params={"PhoneNumber": DESK}
            ),
            id="number",
        ),
        pytest.param(
            lambda rest: rest.point_number(DESK, "https://agent.example/v", "https://agent.example/s"),
            lambda client: client.incoming_phone_numbers(NUMBER["sid"]).update(
                voice_url="https://agent.example/v",
                voice_method="POST",
                status_callback="https://agent.example/s",
                status_callback_method="POST",
            ),
            id="point",
        ),
    ],
)
async def test_other_requests_equal_twilios_package(
    ours: Callable[[TwilioREST], Any], theirs: Callable[[Client], Any]
) -> None:
    """Our requests for recordings, prices and numbers are those that Twilio's own package sends."""
    async with serve_twilio_rest(SID, TOKEN, calls=[CALL]) as server:
        server.numbers[DESK] = dict(NUMBER)
        asked, _ = await asks(server, theirs)
        await ours(TwilioREST(SID, TOKEN, server.api_url))
        is_the_same(server.requests[-1], asked)


@pytest.mark.parametrize(
    ("ours", "fields"),
    [
        ({"Status": "completed"}, {"status": "completed"}),
        (
            {"Twiml": Twilio(SID, TOKEN).twiml_dial(INBOUND, DESK)},
            {"twiml": Twilio(SID, TOKEN).twiml_dial(INBOUND, DESK)},
        ),
        (
            {"Twiml": Twilio(SID, TOKEN).twiml_dial(OUTBOUND, SIP)},
            {"twiml": Twilio(SID, TOKEN).twiml_dial(OUTBOUND, SIP)},
        ),
    ],
)
async def test_we_ask_what_twilios_package_asks(ours: dict[str, str], fields: dict[str, str]) -> None:
    """Our REST request has the method, target, body and headers of the one that Twilio's own package sends."""
    async with serve_twilio_rest(SID, TOKEN, calls=[CALL]) as server:
        asked, prepared = await theirs(server, **fields)
        server.calls[CALL].status = "in-progress"
        await TwilioREST(SID, TOKEN, server.api_url).update_call(CALL, ours)
        sent = server.requests[-1]
    assert prepared.url == API_URL + sent.target
    assert (sent.method, sent.target, sent.body) == (asked.method, asked.target, asked.body)
    for header in ("authorization", "content-type", "accept"):
        assert sent.headers[header] == asked.headers[header], header


async def test_fake_twilio_rest_satisfies_twilios_package() -> None:
    """Twilio's own package understands the answers and refusals of the simulated REST server."""
    async with serve_twilio_rest(SID, TOKEN, calls=[CALL]) as server:
        await theirs(server, status="completed")
        assert server.calls[CALL].status == "completed"
        for fault, code in ((None, 21220), (RESTFault(429, 20429, "Too Many Requests"), 20429)):
            server.fault = fault
            with pytest.raises(TwilioRestException) as refused:
                await theirs(server, status="completed")
            assert refused.value.code == code


def built(to: str, **attributes: str) -> ET.Element:
    dial = Dial(**attributes)
    if to.startswith("sip:"):
        dial.sip(to)
    response = VoiceResponse()
    response.append(dial if to.startswith("sip:") else Dial(to, **attributes))
    return ET.fromstring(str(response).encode())  # noqa: S314 (our own XML, or the oracle's)


@pytest.mark.parametrize("to", [DESK, SIP])
def test_transfer_twiml_equals_twilios_package(to: str) -> None:
    """The TwiML of a transfer equals what Twilio's own package builds."""
    carrier = Twilio(SID, TOKEN)
    for call, attributes in ((INBOUND, {}), (OUTBOUND, {"caller_id": "+15550100002"})):
        ours = ET.fromstring(carrier.twiml_dial(call, to).encode())  # noqa: S314 (our own XML, or the oracle's)
        assert ET.canonicalize(ET.tostring(ours)) == ET.canonicalize(ET.tostring(built(to, **attributes)))


@pytest.mark.parametrize("to", [DESK, SIP])
def test_asking_transfer_twiml_equals_twilios_package(to: str) -> None:
    """The TwiML of a transfer from which the call comes back equals what Twilio's own package builds."""
    dial = Dial(timeout=25, action="https://agent.test/webhooks/twilio/return")
    told = {
        "status_callback_event": "answered",
        "status_callback": "https://agent.test/webhooks/twilio/status",
    }
    (dial.sip if to.startswith("sip:") else dial.number)(to, **told)
    response = VoiceResponse()
    response.append(dial)
    ours = Twilio(SID, TOKEN).twiml_dial(INBOUND, to, "https://agent.test")
    trees = [ET.fromstring(text.encode()) for text in (ours, str(response))]  # noqa: S314 (our own XML, or the oracle's)
    first, second = (ET.canonicalize(ET.tostring(tree)) for tree in trees)
    assert first == second


def test_twilios_package_builds_another_thing_for_another_number() -> None:
    """The TwiML that Twilio's package builds for another number differs, so the comparison can fail."""
    ours = Twilio(SID, TOKEN).twiml_dial(INBOUND, DESK)
    assert ET.canonicalize(ours) != ET.canonicalize(ET.tostring(built("+15550100004")))


FIELDS = st.dictionaries(st.text(min_size=1), st.text())


ALGORITHMS: dict[Any, str] = {"sha1": "HMAC_SHA1", "sha256": "HMAC_SHA256"}
"""Ours and Twilio's names of what the Auth Token and a shared key sign by."""


@pytest.mark.parametrize("algorithm", ALGORITHMS)
@given(form=FIELDS, secret=st.text(min_size=1), changed=st.booleans())
def test_signatures_agree_with_twilios_package(
    form: dict[str, str], secret: str, changed: bool, algorithm: Any
) -> None:
    """Twilio's own package and this one sign alike by SHA-1 and by SHA-256, and judge a signature alike."""
    url, validator = "https://agent.example/webhooks/twilio/voice?tenant=7", RequestValidator(secret)
    theirs = validator.compute_signature(url, form, ALGORITHMS[algorithm])
    assert sign(secret, url, form, algorithm) == theirs
    asked = form | {"Extra": "1"} if changed else form
    judged = validator.validate(url, asked, theirs, ALGORITHMS[algorithm])
    assert signed((secret,), url, asked, theirs, algorithm) is judged


HOSTS = st.sampled_from(["agent.example", "AGENT.Example", "xn--bcher-kva.example", "s", "h", "ttp"])
PORTS = st.sampled_from(["", ":443", ":80", ":8443"])
PATHS = st.sampled_from(["", "/", "/s", "/a//b", "/a;b=c", "/a%20b", "/é", "/a:443/b", "/%F0%9F%98%80", "/@x"])
QUERIES = st.sampled_from(["", "?", "?a=1", "?a=&b", "?a=1&a=2", "?x=é", "?next=https://agent.example:443/"])
REPEATED = st.dictionaries(st.text(), st.text() | st.lists(st.text(), min_size=1, max_size=3), max_size=4)


class Fields(dict[str, Any]):
    """A form whose fields may be repeated, as Twilio's package reads those of web frameworks."""

    def getall(self, name: str) -> list[str]:
        value = self[name]
        return value if isinstance(value, list) else [value]


@given(scheme=st.sampled_from(["https", "http"]), host=HOSTS, port=PORTS, path=PATHS, query=QUERIES, form=REPEATED)
def test_odd_urls_are_judged_as_by_twilio(
    scheme: str, host: str, port: str, path: str, query: str, form: dict[str, Any]
) -> None:
    """What Twilio's package takes for an odd URL, with and without its port, we take: short hosts, empty fields."""
    url, validator = f"{scheme}://{host}{port}{path}{query}", RequestValidator(TOKEN)
    for written in (url, remove_port(urlparse(url)), add_port(urlparse(url))):
        theirs = validator.compute_signature(written, Fields(form))
        # The package loses an empty query of the URL.
        assert validator.validate(url, Fields(form), theirs) or query == "?"
        assert signed((TOKEN,), url, form, theirs, "sha1"), written
        assert not signed((TOKEN,), url, form | {"Extra": "1"}, theirs, "sha1")
