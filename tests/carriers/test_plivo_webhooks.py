"""Plivo's webhooks: signatures, the answers in XML, what each report means, credentials."""

import base64
import hmac
from collections.abc import Mapping
from typing import Any
from urllib.parse import urlencode
from xml.etree import ElementTree as ET

import pytest
from hypothesis import given
from hypothesis import strategies as st

from patter_trio import Plivo
from patter_trio.abc import (
    CallInfo,
    CallOffered,
    CallRinging,
    CallStatus,
    CarrierReport,
    CarrierRequest,
    DocumentWanted,
    MachineDetected,
    RecordingSaved,
    StreamFailed,
    WebhookKind,
    stream_reference,
)
from patter_trio.carriers.plivo import (
    MAIN_ACCOUNT_SIGNATURE_HEADER,
    MAX_EXTRA_HEADERS_BYTES,
    NONCE_HEADER,
    SIGNATURE_HEADER,
    party,
)
from patter_trio.errors import ConfigurationError, WireError
from patter_trio.server.pending import PendingCalls

PLIVO = Plivo("MA1", "hush")
UUID = "a7bd2e5c-6d1f-4d6e-9b0c-8f7a6b5c4d3e"
URL = "https://agent.example/webhooks/plivo/voice"
NONCE = "05429567804466091622"
CALL = {"CallUUID": UUID, "From": "15550100001", "To": "15550100002", "Direction": "inbound", "CallStatus": "ringing"}


def asked(
    form: Mapping[str, str] | None = None,
    kind: WebhookKind = "voice",
    url: str = URL,
    method: str = "POST",
    **headers: str,
) -> CarrierRequest:
    given = {name.replace("_", "-"): value for name, value in headers.items()}
    return CarrierRequest(kind, url, given, urlencode(form or {}).encode(), method=method)


def signed(
    form: Mapping[str, str] | None = None,
    kind: WebhookKind = "voice",
    url: str = URL,
    method: str = "POST",
    signed_url: str = "",
    carrier: Plivo = PLIVO,
) -> CarrierRequest:
    signature = carrier.sign(method, signed_url or url, form or {}, NONCE)
    return asked(form, kind, url, method, x_plivo_signature_v3=signature, x_plivo_signature_v3_nonce=NONCE)


# Signatures -----------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("method", "url", "params", "signature"),
    [
        ("POST", "https://a.example/answer", {"To": "2", "From": "1"}, "of '?' and fields"),
        ("POST", "https://a.example/answer?x=1", {"From": "1"}, "of query, '.' and fields"),
        ("POST", "https://a.example/answer?x=1", {}, "of the query alone"),
        ("GET", "https://a.example/answer?b=2&a=1", {}, "of the sorted query"),
    ],
)
def test_signature_covers_documented_text(method: str, url: str, params: dict[str, str], signature: str) -> None:
    """The signature is the HMAC of the text in Plivo's documentation, and of no other."""
    texts = {
        "of '?' and fields": "https://a.example/answer?From1To2",
        "of query, '.' and fields": "https://a.example/answer?x=1.From1",
        "of the query alone": "https://a.example/answer?x=1",
        "of the sorted query": "https://a.example/answer?a=1&b=2",
    }
    digest = hmac.digest(b"hush", f"{texts[signature]}.{NONCE}".encode(), "sha256")
    assert PLIVO.sign(method, url, params, NONCE) == base64.b64encode(digest).decode()


def test_authentic_webhook_needs_signature_and_nonce() -> None:
    """A webhook is authentic with the right signature, nonce, fields and URL, and not if any of them differs."""
    right = signed(CALL)
    assert PLIVO.is_signed(right)
    assert PLIVO.is_authentic(right)
    headers = dict(right.headers)
    signature = headers[SIGNATURE_HEADER]
    for changed in (
        CarrierRequest("voice", URL, headers, right.body + b"&Extra=1"),
        CarrierRequest("voice", f"{URL}?x=1", headers, right.body),
        CarrierRequest("voice", URL, headers, right.body, method="GET"),
        CarrierRequest("voice", URL, headers | {NONCE_HEADER: "2"}, right.body),
        CarrierRequest("voice", URL, headers | {NONCE_HEADER: ""}, right.body),
        CarrierRequest("voice", URL, {SIGNATURE_HEADER: signature}, right.body),
        CarrierRequest("voice", URL, headers | {SIGNATURE_HEADER: signature[:-1]}, right.body),
        CarrierRequest("voice", URL, headers | {SIGNATURE_HEADER: "\udc80é"}, right.body),
        CarrierRequest("voice", URL, headers | {SIGNATURE_HEADER: ""}, right.body),
    ):
        assert not PLIVO.is_authentic(changed)
    assert not PLIVO.is_authentic(signed(CALL, carrier=Plivo("MA1", "other")))


def test_one_right_signature_in_list_is_enough() -> None:
    """While an account changes its token Plivo sends a signature for each, and one that matches is enough."""
    signature = PLIVO.sign("POST", URL, CALL, NONCE)
    for several in (f"wrong,{signature}", f"{signature}, wrong", f"wrong , {signature} "):
        assert PLIVO.is_authentic(asked(CALL, x_plivo_signature_v3=several, x_plivo_signature_v3_nonce=NONCE))
    assert not PLIVO.is_authentic(asked(CALL, x_plivo_signature_v3="a,b", x_plivo_signature_v3_nonce=NONCE))


def test_main_account_signature_counts_for_subaccount_calls() -> None:
    """The main account's token authenticates calls of a subaccount by the header that is signed with it."""
    signature = PLIVO.sign("POST", URL, CALL, NONCE)
    headers = {MAIN_ACCOUNT_SIGNATURE_HEADER: signature, NONCE_HEADER: NONCE}
    for also in ({}, {SIGNATURE_HEADER: "of-the-subaccount"}):
        request = CarrierRequest("voice", URL, headers | also, urlencode(CALL).encode())
        assert PLIVO.is_signed(request)
        assert PLIVO.is_authentic(request)


def test_older_signature_is_refused() -> None:
    """A signature of version 2, which covers no field, authenticates nothing."""
    request = asked(CALL, x_plivo_signature_v2="x", x_plivo_signature_v2_nonce=NONCE)
    assert not PLIVO.is_signed(request)
    assert not PLIVO.is_authentic(request)


def test_bodies_that_no_signature_covers_are_refused() -> None:
    """A body that is not a form is not authentic, whatever the signature of its URL."""
    headers = dict(signed().headers) | {"content-type": "application/json"}
    assert PLIVO.is_authentic(CarrierRequest("status", URL, headers, b""))
    assert not PLIVO.is_authentic(CarrierRequest("status", URL, headers, b'{"CallUUID": "1"}'))
    assert PLIVO.is_authentic(
        CarrierRequest("status", URL, headers | {"content-type": "application/x-www-form-urlencoded"}, b"")
    )


STREAM = "wss://agent.example/ws/plivo/stream/" + UUID


@pytest.mark.parametrize("scheme", ["wss", "https", "ws", "http"])
def test_upgrade_signature_holds_for_each_scheme(scheme: str) -> None:
    """The right signature of a stream's upgrade counts, whichever scheme Plivo signed."""
    url = f"{scheme}://agent.example/ws/plivo/stream/{UUID}"
    request = signed(kind="stream", url=STREAM, method="GET", signed_url=url)
    assert PLIVO.is_signed(request)
    assert PLIVO.is_authentic(request)


def test_wrong_upgrade_signature_counts_as_none() -> None:
    """A stream's upgrade with a wrong signature is treated as an unsigned one, which the token authenticates."""
    odd = f"http://agent.example/ws/plivo/stream/{UUID}/websocket"
    for request in (
        signed(kind="stream", url=STREAM, method="GET", signed_url=odd),
        asked(kind="stream", url=STREAM, method="GET"),
    ):
        assert not PLIVO.is_signed(request)


FIELDS = st.dictionaries(st.text(min_size=1), st.text() | st.lists(st.text(), min_size=1))


@given(FIELDS, st.text(), st.text())
def test_plivo_signature_needs_its_own_token(params: dict[str, Any], one: str, other: str) -> None:
    """A signature is valid for its own request and invalid under another auth token."""
    mine, theirs = Plivo("MA1", one + "1"), Plivo("MA1", other + "2")
    signature = mine.sign("POST", URL, params, NONCE)
    assert mine.check("POST", URL, params, NONCE, signature)
    assert not theirs.check("POST", URL, params, NONCE, signature)


# Answers --------------------------------------------------------------------------------------------------------------
def parsed(xml: str) -> ET.Element:
    response = ET.fromstring(xml.encode())  # noqa: S314 (it is ours)
    assert response.tag == "Response"
    return response


def test_stream_xml_asks_for_what_agents_need() -> None:
    """The stream runs both ways, alone and in mu-law; its URL is the text, and the parameters are pairs."""
    xml = PLIVO.connect("wss://agent.example/base/ws/plivo/stream/x&y", {"token": "a1B2", "who": "me"})
    stream, redirect = parsed(xml)
    assert (stream.tag, stream.text) == ("Stream", "wss://agent.example/base/ws/plivo/stream/x&y")
    assert stream.attrib == {
        "bidirectional": "true",
        "keepCallAlive": "true",
        "contentType": "audio/x-mulaw;rate=8000",
        "statusCallbackUrl": "https://agent.example/base/webhooks/plivo/status",
        "extraHeaders": "token=a1B2,who=me",
    }
    assert (redirect.tag, redirect.attrib) == ("Redirect", {"method": "POST"})
    back = f"https://agent.example/base/webhooks/plivo/return?stream={stream_reference('a1B2')}"
    assert redirect.text == back


@pytest.mark.parametrize(
    "pair", [("token", "a-b"), ("to_ken", "a"), ("token", ""), ("", "a"), ("token", "ü"), ("t", "a\n")]
)
def test_parameters_have_only_letters_and_digits(pair: tuple[str, str]) -> None:
    """A parameter that Plivo would not bring back unchanged is refused, and its value is not quoted."""
    with pytest.raises(ConfigurationError, match="letters and digits"):
        PLIVO.connect(STREAM, dict([pair]))


def test_too_many_parameters_are_refused() -> None:
    """Parameters beyond Plivo's limit of 512 bytes are refused."""
    fitting = {"token": "a" * (MAX_EXTRA_HEADERS_BYTES - len("token="))}
    assert fitting["token"] in PLIVO.connect(STREAM, fitting)
    with pytest.raises(ConfigurationError, match="at most 512 bytes"):
        PLIVO.connect(STREAM, {"token": fitting["token"] + "a"})


def test_server_tokens_fit_plivos_alphabet() -> None:
    """The one-time token that the server makes for a call passes through Plivo's parameters."""
    call = PendingCalls().announce(CallInfo(UUID, "", "", "inbound"), 0.0)
    assert f"token={call.token}" in PLIVO.connect(STREAM, {"token": call.token})


def test_reject_xml_says_busy() -> None:
    """The XML that refuses a call is one Hangup with the reason busy."""
    assert [(child.tag, child.attrib) for child in parsed(PLIVO.reject())] == [("Hangup", {"reason": "busy"})]


@pytest.mark.parametrize(
    ("direction", "caller", "to", "shown", "target"),
    [
        ("inbound", "+15550100001", "+15550100003", {}, ("Number", "+15550100003")),
        ("outbound", "+15550100001", "+15550100003", {"callerId": "+15550100001"}, ("Number", "+15550100003")),
        ("outbound", "sip:us@example.com", "+15550100003", {}, ("Number", "+15550100003")),
        ("inbound", "", "sip:a&b@pbx.example.com", {}, ("User", "sip:a&b@pbx.example.com")),
    ],
)
def test_transfer_xml_dials_number_or_user(
    direction: Any, caller: str, to: str, shown: dict[str, str], target: tuple[str, str]
) -> None:
    """The document of a transfer dials the number or SIP address, and shows our number for a call that we placed."""
    [dial] = parsed(PLIVO.transfer_document(CallInfo(UUID, caller, "+15550100002", direction), to))
    assert (dial.tag, dial.attrib) == ("Dial", shown)
    assert [(child.tag, child.text) for child in dial] == [target]


# Reports --------------------------------------------------------------------------------------------------------------
def read(form: Mapping[str, str], kind: WebhookKind = "status", query: str = "") -> CarrierReport | None:
    return PLIVO.read(asked(form, kind, f"https://agent.example/webhooks/plivo/{kind}{query}"))


def test_offer_has_e164_numbers_and_headers() -> None:
    """A call offer has both numbers with their plus, its direction, and the custom SIP headers as parameters."""
    form = CALL | {"Event": "StartApp", "X-PH-CustomId": "42", "x-ph-Who": "me", "X-PH-": "none"}
    info = CallInfo(UUID, "+15550100001", "+15550100002", "inbound", {"CustomId": "42", "Who": "me"})
    assert read(form, "voice") == CallOffered(info)


def test_offer_of_dialled_call_has_its_reference() -> None:
    """The answer webhook of a call that we placed brings back our reference, whatever ids Plivo gave it."""
    form = CALL | {"Direction": "outbound", "CallStatus": "in-progress", "RequestUUID": UUID, "ALegRequestUUID": UUID}
    report = read(form, "voice", "?dial=r1")
    assert report == CallOffered(CallInfo(UUID, "+15550100001", "+15550100002", "outbound"), "r1")


@pytest.mark.parametrize(
    ("given", "shown"),
    [
        ("15550100001", "+15550100001"),
        ("+15550100001", "+15550100001"),
        (" 15550100001", "+15550100001"),  # a plus that was not escaped in the form
        ("sip:alice@phone.plivo.com", "sip:alice@phone.plivo.com"),
        ("alice", "alice"),
        ("911", "911"),
        ("05550100001", "05550100001"),
        ("anonymous", ""),
        ("Restricted", ""),
        ("UNAVAILABLE", ""),
        ("", ""),
    ],
)
def test_parties_are_written_in_e164(given: str, shown: str) -> None:
    """A number gets its plus, an address or short code stays, and a withheld number is empty."""
    assert party(given) == shown


@pytest.mark.parametrize("form", [{}, {"CallUUID": ""}, {"From": "15550100001", "To": "15550100002"}])
def test_plivo_offer_without_id_is_refused(form: dict[str, str]) -> None:
    """A call offer without CallUUID raises a WireError that names it."""
    with pytest.raises(WireError, match="must have CallUUID"):
        read(form, "voice")


@pytest.mark.parametrize(
    "call_id", ["1", UUID[:-1], f"{UUID}0", f"{UUID}CallStatusringing", UUID.replace("a", "g"), f"{UUID}\n", f" {UUID}"]
)
def test_plivo_ids_are_uuids(call_id: str) -> None:
    """An id of another form is refused in an offer, shown escaped, and ignored in every other report."""
    with pytest.raises(WireError, match="CallUUID must be a UUID") as raised:
        read(CALL | {"CallUUID": call_id}, "voice")
    assert "\n" not in str(raised.value)
    assert read({"CallUUID": call_id, "CallStatus": "completed"}) is None
    assert read({"CallUUID": call_id, "Event": "Ring"}) is None


@pytest.mark.parametrize(
    ("form", "outcome"),
    [
        ({"CallStatus": "completed"}, "caller_hung_up"),
        ({"CallStatus": "busy"}, "busy"),
        ({"CallStatus": "no-answer"}, "no_answer"),
        ({"CallStatus": "timeout"}, "no_answer"),
        ({"CallStatus": "cancel"}, "cancelled"),
        ({"CallStatus": "failed"}, "failed"),
        ({"CallStatus": "failed", "HangupCauseCode": "3020", "HangupCauseName": "Rejected"}, "rejected"),
        ({"CallStatus": "failed", "HangupCauseCode": "3010"}, "busy"),
        ({"CallStatus": "failed", "HangupCauseCode": "1000"}, "cancelled"),
        ({"CallStatus": "failed", "HangupCauseCode": "6010"}, "no_answer"),
        ({"CallStatus": "failed", "HangupCauseCode": "7011"}, "failed"),
        ({"CallStatus": "invented"}, "failed"),
        ({}, "failed"),
    ],
)
@pytest.mark.parametrize("kind", ["voice", "status"])
def test_hangups_end_a_call_by_outcome(form: dict[str, str], outcome: str, kind: Any) -> None:
    """Each status and cause of a hangup has an outcome of ours, on whichever route Plivo reports it."""
    told = {"CallUUID": UUID, "Event": "Hangup", "Duration": "12", "TotalCost": "0.00850"} | form
    assert read(told, kind, "?dial=r1") == CallStatus(UUID, outcome, "r1", 0.0085)


@pytest.mark.parametrize("cost", ["", "free", "-1", "nan", "1e9", "0.1.2", "1" * 20])
def test_costs_that_are_no_amounts_are_absent(cost: str) -> None:
    """A hangup whose TotalCost is not an amount reports no cost."""
    told = {"CallUUID": UUID, "Event": "Hangup", "CallStatus": "completed", "TotalCost": cost}
    assert read(told) == CallStatus(UUID, "caller_hung_up")


@pytest.mark.parametrize(
    ("kind", "form", "query", "report"),
    [
        ("status", {"CallUUID": UUID, "Event": "Ring", "CallStatus": "ringing"}, "?dial=r1", CallRinging(UUID, "r1")),
        (
            "amd",
            {"CallUUID": UUID, "Event": "MachineDetection", "Machine": "true", "CallStatus": "in-progress"},
            "?dial=r1",
            MachineDetected(UUID, "machine", dial="r1"),
        ),
        (
            "amd",
            {"CallUUID": UUID, "Event": "MachineDetection", "Machine": "false"},
            "",
            MachineDetected(UUID, "human"),
        ),
        (
            "recording",
            {"RecordUrl": "https://media.plivo.com/r.wav", "RecordingID": "r9", "RecordingDuration": "12"},
            f"?call={UUID}",
            RecordingSaved(UUID, "r9", "https://media.plivo.com/r.wav", 12.0),
        ),
        (
            "recording",
            {"CallUUID": UUID, "RecordUrl": "https://a/r.wav", "RecordingID": "r9", "RecordingDuration": "-1"},
            "",
            RecordingSaved(UUID, "r9", "https://a/r.wav"),
        ),
        ("recording", {"RecordUrl": "https://a/r.wav"}, "", None),
        (
            "status",
            {"CallUUID": UUID, "Event": "DroppedStream", "StreamID": "s", "StatusReason": "refused"},
            "",
            StreamFailed(UUID, "refused"),
        ),
        (
            "status",
            {"CallUUID": UUID, "Event": "failed", "StreamID": "s"},
            "",
            StreamFailed(UUID, "the carrier lost the media stream"),
        ),
        ("status", {"CallUUID": UUID, "Event": "StartStream", "StreamID": "s"}, "", None),
        ("status", {"CallUUID": UUID, "Event": "StopStream", "StreamID": "s"}, "", None),
        ("status", {"CallUUID": UUID, "Event": "DegradedStream", "StreamID": "s"}, "", None),
        ("status", {"CallUUID": UUID, "CallStatus": "in-progress"}, "", None),
        ("status", {}, "", None),
        ("transfer", {"CallUUID": UUID, "CallStatus": "in-progress"}, "?document=d1", DocumentWanted(UUID, "d1")),
        ("transfer", {}, "", DocumentWanted("", "")),
    ],
)
def test_reports_are_read_by_content(kind: Any, form: Any, query: str, report: CarrierReport | None) -> None:
    """Each webhook of Plivo is read as its report, or as none if it changes nothing."""
    assert read(form, kind, query) == report


@given(
    st.dictionaries(
        st.sampled_from(["CallUUID", "Event", "CallStatus", "From", "To", "TotalCost", "RecordUrl", "X-PH-a", "b"]),
        st.text(max_size=8) | st.sampled_from([UUID, "Hangup", "completed", "Ring", "MachineDetection"]),
    ),
    st.sampled_from(["voice", "status", "recording", "amd", "transfer"]),
)
def test_any_form_is_read_or_refused(form: dict[str, str], kind: Any) -> None:
    """Any form is read as a report, as none, or refused with a WireError that names CallUUID."""
    refused = ""
    try:
        read(form, kind)
    except WireError as error:
        refused = str(error)
    assert not refused or "CallUUID" in refused


# Credentials ----------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("environment", "said"),
    [
        ({}, "Plivo: auth_id= must be given, or the environment variable PLIVO_AUTH_ID set"),
        (
            {"PLIVO_AUTH_ID": "MA9"},
            "Plivo: auth_token= must be given, or the environment variable PLIVO_AUTH_TOKEN set",
        ),
    ],
)
def test_absent_plivo_credentials_are_named(
    environment: dict[str, str], said: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Plivo() without credentials raises a ConfigurationError that names the environment variable to set."""
    for name in ("PLIVO_AUTH_ID", "PLIVO_AUTH_TOKEN"):
        monkeypatch.delenv(name, raising=False)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(ConfigurationError) as absent:
        Plivo()
    assert str(absent.value) == said


def test_plivo_reads_environment_and_arguments_win(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Plivo() reads its credentials from the environment, prefers arguments and hides the token."""
    monkeypatch.setenv("PLIVO_AUTH_ID", "MA9")
    monkeypatch.setenv("PLIVO_AUTH_TOKEN", "secret")
    assert Plivo() == Plivo("MA9", "secret")
    assert Plivo(auth_id="SA1").auth_id == "SA1"
    assert "secret" not in repr(Plivo())
    assert (Plivo().name, Plivo().voice_path) == ("plivo", "/webhooks/plivo/voice")
    assert not caplog.records
    Plivo("AC1")
    assert "auth_id must begin with MA or SA" in caplog.text


@pytest.mark.parametrize("url", ["api.plivo.com", "https://api.plivo.com/?x", "ftp://a", "http://a b"])
def test_plivo_api_urls_are_checked(url: str) -> None:
    """An api_url that is not an HTTP address raises a ConfigurationError that names it."""
    with pytest.raises(ConfigurationError, match="Plivo's api_url must be"):
        Plivo("MA1", "hush", api_url=url)
