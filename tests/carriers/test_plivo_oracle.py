"""Our signatures, XML, requests and stream messages for Plivo, judged by Plivo's own packages."""

import json
from typing import Any
from urllib.parse import urlencode, urlsplit
from xml.etree import ElementTree as ET

import pytest
import trio
from hypothesis import given
from hypothesis import strategies as st

from patter_trio import Plivo
from patter_trio.abc import (
    AudioReceived,
    CallInfo,
    CarrierRequest,
    DialRequest,
    DigitPressed,
    MarkReached,
    StreamStarted,
    stream_reference,
)
from patter_trio.carriers.plivo_rest import API_URL
from patter_trio.testing.servers.plivo_rest import PlivoRESTFault, PlivoRESTRequest, PlivoRESTServer, serve_plivo_rest
from patter_trio.wire.plivo import PlivoCodec
from tests.kit.vendor_modules import REASON, vendor_module

pytest.importorskip("plivo", reason=REASON)
stream = vendor_module("plivo_stream.types")

import plivo  # noqa: E402 (behind the check that it is there)
import requests  # noqa: E402 (comes with it)
from plivo import plivoxml  # noqa: E402 (as above)
from plivo.exceptions import ResourceNotFoundError  # noqa: E402 (as above)
from plivo.utils import signature_v3 as v3  # noqa: E402 (as above)
from requests.adapters import HTTPAdapter  # noqa: E402 (as above)

AUTH_ID, TOKEN, NONCE = "MA" + "X" * 18, "hush", "05429567804466091622"
CALL = "a7bd2e5c-6d1f-4d6e-9b0c-8f7a6b5c4d3e"
CARRIER = Plivo(AUTH_ID, TOKEN)
OURS, OTHER = "+15550100002", "+15550100001"

# Signatures -----------------------------------------------------------------------------------------------------------
TEXT = st.text(st.characters(codec="utf-8", exclude_categories=["Cs"]), max_size=8)
FIELDS = st.dictionaries(TEXT.filter(bool), TEXT | st.lists(TEXT, min_size=1, max_size=3), max_size=4)
# ASCII: Plivo's package fails on any other query, and a query beyond it is the application's own choice.
ASCII = st.text(st.characters(codec="ascii"), max_size=8)
QUERIES = st.lists(st.tuples(ASCII.filter(bool), ASCII), max_size=4).map(urlencode)
PATHS = st.text("abcXYZ019-_/%.", max_size=12)


@given(PATHS, QUERIES, FIELDS, st.text("0123456789", min_size=1, max_size=20))
def test_plivos_package_accepts_our_post_signatures(path: str, query: str, params: dict[str, Any], nonce: str) -> None:
    """For any URL and fields, our signature of a POST is valid for Plivo's own package."""
    url = f"https://agent.example/{path}{'?' if query else ''}{query}"
    ours = CARRIER.sign("POST", url, params, nonce)
    assert v3.validate_v3_signature("POST", url, nonce, TOKEN, ours, dict(params))


@given(PATHS, QUERIES, FIELDS, st.text("0123456789", min_size=1, max_size=20))
def test_plivos_package_accepts_our_get_signatures(path: str, query: str, params: dict[str, Any], nonce: str) -> None:
    """For any URL and fields, our signature of a GET is valid for Plivo's own package."""
    url = f"https://agent.example/{path}{'?' if query else ''}{query}"
    ours = CARRIER.sign("GET", url, params, nonce)
    assert v3.validate_v3_signature("GET", url, nonce, TOKEN, ours, dict(params))


@given(PATHS, QUERIES, st.dictionaries(TEXT.filter(bool), TEXT, max_size=4), st.sampled_from(["GET", "POST"]))
def test_we_accept_what_plivos_package_signs(path: str, query: str, params: dict[str, str], method: Any) -> None:
    """We accept every signature that Plivo's package makes for a webhook, and none for another form."""
    url = f"https://agent.example/{path}{'?' if query else ''}{query}"
    form = params if method == "POST" else {}
    base = v3.construct_post_url(url, dict(form)) if form or method == "POST" else v3.construct_get_url(url, {})
    signature = v3.get_signature_v3(TOKEN.encode(), base.decode(), NONCE.encode()).decode()
    headers = {"x-plivo-signature-v3": f"other,{signature}", "x-plivo-signature-v3-nonce": NONCE}
    right = CarrierRequest("voice", url, headers, urlencode(form).encode(), method=method)
    assert CARRIER.is_authentic(right)
    changed = urlencode(form | {"Extra": "1"}).encode()
    assert not CARRIER.is_authentic(CarrierRequest("voice", url, headers, changed, method="POST"))


# XML ------------------------------------------------------------------------------------------------------------------
def same(ours: str, theirs: plivoxml.ResponseElement) -> bool:
    """Return True if two documents are the same but for white space around text."""
    trees = [ET.fromstring(text.encode()) for text in (ours, theirs.to_string())]  # noqa: S314 (our own XML, or the oracle's)
    first, second = (ET.canonicalize(ET.tostring(tree), strip_text=True) for tree in trees)
    return first == second


def test_stream_xml_equals_plivos_package() -> None:
    """The XML of a stream equals what Plivo's own package builds from the same options, and not from others."""
    url = f"wss://agent.example/ws/plivo/stream/{CALL}"
    ours = CARRIER.connect(url, {"token": "a1", "who": "me"})
    options = {
        "bidirectional": True,
        "keepCallAlive": True,
        "contentType": "audio/x-mulaw;rate=8000",
        "statusCallbackUrl": "https://agent.example/webhooks/plivo/status",
    }
    built = plivoxml.ResponseElement().add(plivoxml.StreamElement(url, extraHeaders="token=a1,who=me", **options))
    back = f"https://agent.example/webhooks/plivo/return?stream={stream_reference('a1')}"
    built.add_redirect(back, method="POST")
    assert same(ours, built)
    other = plivoxml.ResponseElement().add(plivoxml.StreamElement(url, extraHeaders="token=a2", **options))
    assert not same(ours, other)


def test_busy_xml_equals_plivos_package() -> None:
    """The XML that refuses a call, and the one that ends it, equal what Plivo's own package builds."""
    assert same(CARRIER.reject(), plivoxml.ResponseElement().add_hangup(reason="busy"))
    assert same(CARRIER.hang_up_document(), plivoxml.ResponseElement().add_hangup())


@pytest.mark.parametrize("to", ["+15550100003", "sip:a&b@pbx.example.com;transport=tls"])
def test_plivo_transfer_xml_equals_plivos_package(to: str) -> None:
    """The document of a transfer equals what Plivo's own package builds, for both directions."""
    for direction, options in (("inbound", {}), ("outbound", {"caller_id": OURS})):
        dial = plivoxml.DialElement(**options)
        element = plivoxml.UserElement(to) if to.startswith("sip:") else plivoxml.NumberElement(to)
        call = CallInfo(CALL, OURS, OTHER, direction)  # type: ignore[arg-type]
        assert same(CARRIER.transfer_document(call, to), plivoxml.ResponseElement().add(dial.add(element)))
        asking = plivoxml.DialElement(
            timeout=25,
            action="https://agent.example/webhooks/plivo/return",
            callback_url="https://agent.example/webhooks/plivo/status",
            **options,
        )
        ours = CARRIER.transfer_document(call, to, "https://agent.example")
        assert same(ours, plivoxml.ResponseElement().add(asking.add(element)))


# Requests -------------------------------------------------------------------------------------------------------------
class There(HTTPAdapter):
    """Sends what Plivo's package prepares to a server of ours, and keeps it."""

    def __init__(self, api_url: str) -> None:
        super().__init__()
        self.api_url = api_url
        self.prepared: list[requests.PreparedRequest] = []

    def send(self, request: requests.PreparedRequest, *args: Any, **options: Any) -> requests.Response:
        self.prepared.append(request)
        there = request.copy()
        there.url = str(request.url).replace(API_URL, self.api_url)
        return super().send(there, *args, **options)


async def theirs(server: PlivoRESTServer, ask: Any) -> tuple[PlivoRESTRequest, requests.PreparedRequest]:
    """Have Plivo's package ask for something; return what the server got, and what was prepared."""
    adapter = There(server.api_url)

    def run() -> None:
        with plivo.RestClient(AUTH_ID, TOKEN) as client:
            client.session.trust_env = False
            client.session.mount(API_URL, adapter)
            ask(client)

    with trio.fail_after(10):
        await trio.to_thread.run_sync(run)
    return server.requests[-1], adapter.prepared[-1]


def serving() -> Any:
    return serve_plivo_rest(AUTH_ID, TOKEN, calls=[CALL], numbers={OURS[1:]: ""})


VOICE, STATUS, AMD = (f"https://agent.example/webhooks/plivo/{kind}" for kind in ("voice", "status", "amd"))
DIAL = DialRequest(
    to=OTHER,
    from_number=OURS,
    reference="r1",
    voice_url=VOICE,
    status_url=STATUS,
    amd_url=AMD,
    machine_detection="answer",
    time_limit=600,
)
INBOUND = CallInfo(CALL, OTHER, OURS, "inbound")
ASKED = {
    "dial": (
        lambda carrier: carrier.dial(DIAL),
        lambda client: client.calls.create(
            from_=OURS[1:],
            to_=OTHER[1:],
            answer_url=VOICE,
            ring_url=STATUS,
            hangup_url=STATUS,
            ring_timeout=25,
            time_limit=600,
            machine_detection="true",
            machine_detection_url=AMD,
        ),
    ),
    "redirect": (
        lambda carrier: carrier.redirect(INBOUND, VOICE),
        lambda client: client.calls.update(CALL, legs="aleg", aleg_url=VOICE, aleg_method="POST"),
    ),
    "hang up": (lambda carrier: carrier.hang_up(CALL), lambda client: client.calls.delete(CALL)),
    "record": (
        lambda carrier: carrier.start_recording(INBOUND, STATUS),
        lambda client: client.calls.record(
            CALL,
            time_limit=86400,
            file_format="wav",
            callback_url=f"{STATUS}?call={CALL}",
            callback_method="POST",
            record_channel_type="stereo",
        ),
    ),
}
# Defaults that the package writes out, and that are the interface's own.
DEFAULTS = {"fallback_method": "POST"}


def meant(fields: dict[str, Any]) -> dict[str, Any]:
    """Return what a request's fields mean: without the package's defaults, and without the id in the path."""
    return {
        name: value
        for name, value in fields.items()
        if name != "call_uuid" and DEFAULTS.get(name) != value and value is not False
    }


@pytest.mark.parametrize("what", ASKED)
async def test_we_ask_what_plivos_package_asks(what: str) -> None:
    """Our request has the method, target and fields of the one that Plivo's own package sends."""
    ours, ask = ASKED[what]
    async with serving() as server:
        await ours(Plivo(AUTH_ID, TOKEN, api_url=server.api_url))
        sent = server.requests[-1]
        server.calls[CALL].live = True
        # Answered without a look at the fields: the package writes out defaults that ours leaves to Plivo.
        server.fault = PlivoRESTFault(202, None)
        received, prepared = await theirs(server, ask)
    assert prepared.url == API_URL + sent.target
    assert (sent.method, sent.target) == (received.method, received.target)
    assert meant(sent.fields) == meant(received.fields)
    assert sent.headers["authorization"] == received.headers["authorization"]


DIALS = [
    DialRequest(to=OTHER, from_number=OURS, reference="r", voice_url=VOICE, status_url=STATUS, amd_url=AMD, **options)
    for options in (
        {"ring_timeout": 1},
        {"ring_timeout": 600, "time_limit": 86400},
        {"machine_detection": "greeting_end", "time_limit": 1},
    )
]


@pytest.mark.parametrize("dial", DIALS, ids=["short ring", "long ring", "machines"])
async def test_any_dial_is_that_of_plivos_package(dial: DialRequest) -> None:
    """For the extremes of each option, a call is placed with the fields that Plivo's own package sends."""
    more: dict[str, Any] = {} if dial.time_limit is None else {"time_limit": dial.time_limit}
    if dial.machine_detection:
        more |= {
            "machine_detection": "true",
            "machine_detection_time": 5000,
            "machine_detection_url": dial.amd_url,
        }
    async with serving() as server:
        await Plivo(AUTH_ID, TOKEN, api_url=server.api_url).dial(dial)
        sent = server.requests[-1]
        # Answered without a look at the fields: the package writes out defaults that ours leaves to Plivo.
        server.fault = PlivoRESTFault(201, {"message": "call fired", "request_uuid": "r", "api_id": "a"})
        received, _ = await theirs(
            server,
            lambda client: client.calls.create(
                from_=dial.from_number[1:],
                to_=dial.to[1:],
                answer_url=dial.voice_url,
                ring_url=dial.status_url,
                hangup_url=dial.status_url,
                ring_timeout=dial.ring_timeout,
                **more,
            ),
        )
    assert (sent.method, sent.target) == (received.method, received.target)
    # The package writes out how machines would be detected, also where they are not.
    fields = {
        name: value for name, value in meant(received.fields).items() if name in sent.fields or dial.machine_detection
    }
    assert meant(sent.fields) == fields


NUMBER_REQUESTS = {
    "list": lambda client: client.numbers.list(number_startswith=OURS[1:]),
    "make": lambda client: client.applications.create(
        app_name=f"patter-trio-{OURS[1:]}", answer_url=VOICE, hangup_url=STATUS
    ),
    "point": lambda client: client.numbers.update(OURS[1:], app_id="1"),
}


@pytest.mark.parametrize("what", NUMBER_REQUESTS)
async def test_numbers_are_asked_for_as_plivos_package_does(what: str) -> None:
    """A number is looked up, gets an application and is pointed to it by the requests of Plivo's own package."""
    async with serving() as server:
        await Plivo(AUTH_ID, TOKEN, api_url=server.api_url).point_number(OURS, VOICE, STATUS)
        mine = list(server.requests)
        # Answered without a look at the fields: the package writes out defaults that ours leaves to Plivo.
        server.fault = PlivoRESTFault(200, {"objects": [], "meta": {}, "app_id": "1", "api_id": "1", "message": "x"})
        asked, _ = await theirs(server, NUMBER_REQUESTS[what])
    path, fields = urlsplit(asked.target).path, meant(asked.fields)
    alike = [one for one in mine if one.method == asked.method and urlsplit(one.target).path == path]
    assert alike
    # The package writes the number of the path into the body, too, and defaults about messages and pages.
    ours = meant(alike[0].fields)
    assert fields.keys() - ours.keys() <= {"number", "message_method", "log_incoming_messages", "limit", "offset"}
    # The id of the application is the server's.
    assert {name: fields[name] for name in ours if name != "app_id"} == {
        name: value for name, value in ours.items() if name != "app_id"
    }


async def test_fake_plivo_rest_satisfies_plivos_package() -> None:
    """Plivo's own package understands the answers and refusals of the scripted REST server."""
    async with serving() as server:
        await theirs(server, lambda client: client.calls.delete(CALL))
        assert not server.calls[CALL].live
        with pytest.raises(ResourceNotFoundError):
            await theirs(server, lambda client: client.calls.delete(CALL))
        got: list[Any] = []
        await theirs(server, lambda client: got.append(client.numbers.list(number_startswith=OURS[1:])))
        assert [number.number for number in got[0]] == [OURS[1:]]


# The stream -----------------------------------------------------------------------------------------------------------
def extras(model: Any) -> list[str]:
    """Return the fields that a model of pydantic did not know, at every depth."""
    found = [*(model.model_extra or {})]
    for value in model.__dict__.values():
        if hasattr(value, "model_extra"):
            found += extras(value)
    return found


def taken(kind: Any, message: str) -> None:
    """Check that Plivo's model of a message takes ours, with each of its fields and no other."""
    raw = json.loads(message)
    model = kind.model_validate(raw)
    assert not extras(model)
    assert json.loads(model.model_dump_json(by_alias=True)) == raw


def test_our_stream_messages_are_plivos() -> None:
    """Each message that the codec sends is Plivo's model of it, field for field; one with a misspelt field is not."""
    codec = PlivoCodec()
    codec.receive(started())
    taken(stream.PlayAudioEvent, codec.audio(b"\xff\x00"))
    taken(stream.CheckpointEvent, codec.mark("r1.1"))
    taken(stream.ClearAudioEvent, codec.clear())
    with pytest.raises(AssertionError):
        taken(stream.CheckpointEvent, codec.mark("r1.1")[:-1] + ',"nmae":"x"}')


def started() -> str:
    body = stream.StartData(
        callId=CALL,
        streamId="s1",
        accountId=AUTH_ID,
        tracks=["inbound"],
        mediaFormat=stream.MediaFormat(encoding="audio/x-mulaw", sampleRate=8000),
    )
    event = stream.StartEvent(sequenceNumber=1, event="start", start=body, extra_headers='{"token": "a1"}')
    return str(event.model_dump_json(by_alias=True))


def test_plivos_stream_messages_are_read() -> None:
    """Each message that Plivo's models write is read as its event."""
    codec = PlivoCodec()
    common = {"sequenceNumber": 2, "streamId": "s1"}
    media = stream.MediaData(track="inbound", timestamp="20", chunk=1, payload="/38=")
    dtmf = stream.DtmfData(track="inbound", digit="5", timestamp="20")
    assert codec.receive(started()) == StreamStarted(CALL, {"token": "a1"})
    codec.clear()
    codec.mark("c1")
    for event, meaning in (
        (stream.MediaEvent(event="media", media=media, **common), AudioReceived(b"\xff\x7f")),
        (stream.DtmfEvent(event="dtmf", dtmf=dtmf, **common), DigitPressed("5")),
        (stream.PlayedStreamEvent(event="playedStream", name="r1.1", **common), MarkReached("r1.1")),
        (stream.ClearedAudioEvent(event="clearedAudio", **common), MarkReached("c1")),
    ):
        assert codec.receive(event.model_dump_json(by_alias=True)) == meaning
