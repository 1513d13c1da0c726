"""Telnyx's webhooks: credentials, signatures, and what each event means."""

import base64
import json
import sys
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from patter_trio import Telnyx
from patter_trio.abc import (
    CallInfo,
    CallOffered,
    CallRinging,
    CallStatus,
    CarrierReport,
    CarrierRequest,
    CostReported,
    MachineDetected,
    RecordingSaved,
    StreamFailed,
)
from patter_trio.carriers.telnyx_signature import (
    REPLAY_WINDOW_S,
    SIGNATURE_HEADER,
    TIMESTAMP_HEADER,
    WebhookKey,
    public_key_of,
    sign,
)
from patter_trio.errors import ConfigurationError, MissingExtraError, WireError
from patter_trio.wire.telnyx import TOKEN_HEADER, encode_state

PRIVATE = bytes(range(32))
PUBLIC = public_key_of(PRIVATE)
NOW = 1_796_000_000
CALL = "v3:MdI91X4lWFEs7IgbBEOT9M4AigoY08M0WWZFISt1Yw2axZ_IiE4pqg"
TELNYX = Telnyx("KEY", PUBLIC, "7267")
OURS = encode_state(dial="our-reference")


def event(kind: str, **payload: Any) -> bytes:
    """Return a webhook's body, in the documented form."""
    whole = {
        "data": {
            "event_type": kind,
            "id": "0ccc7b54",
            "occurred_at": "2026-11-30T18:00:00.000000Z",
            "record_type": "event",
            "payload": {
                "call_control_id": CALL,
                "call_leg_id": "leg",
                "call_session_id": "session",
                "connection_id": "7267",
                "client_state": None,
                "from": "+15550100001",
                "to": "+15550100002",
            }
            | payload,
        },
        "meta": {"attempt": 1, "delivered_to": "https://agent.example/webhooks/telnyx/voice"},
    }
    return json.dumps(whole).encode()


def request(body: bytes, *, at: float = NOW, stamp: int = NOW, key: bytes = PRIVATE, **headers: str) -> CarrierRequest:
    return CarrierRequest(
        "voice",
        "https://agent.example/webhooks/telnyx/voice",
        {"content-type": "application/json", **sign(key, stamp, body), **headers},
        body,
        received_at=at,
    )


def report(kind: str, **payload: Any) -> CarrierReport | None:
    return TELNYX.read(request(event(kind, **payload)))


# Credentials ----------------------------------------------------------------------------------------------------------
def test_credentials_come_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """Credentials that are not given come from the environment, and keys stay out of the repr."""
    monkeypatch.setenv("TELNYX_API_KEY", "KEY-from-outside")
    monkeypatch.setenv("TELNYX_PUBLIC_KEY", PUBLIC)
    monkeypatch.setenv("TELNYX_CONNECTION_ID", "42")
    carrier = Telnyx()
    assert (carrier.api_key, carrier.public_key, carrier.connection_id) == ("KEY-from-outside", PUBLIC, "42")
    assert "KEY-from-outside" not in repr(carrier)
    assert carrier == Telnyx("KEY-from-outside", PUBLIC, "42")


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"public_key": PUBLIC}, "Telnyx: api_key= must be given, or the environment variable TELNYX_API_KEY set"),
        ({"api_key": "KEY"}, "Telnyx: public_key= must be given, or the environment variable TELNYX_PUBLIC_KEY set"),
        ({"api_key": "KEY", "public_key": "no-key"}, "Telnyx: public_key must be the base64 of 32 bytes"),
        ({"api_key": "KEY", "public_key": "AAAA"}, "Telnyx: public_key must be the base64 of 32 bytes"),
        ({"api_key": "KEY", "public_key": PUBLIC, "api_url": "api.telnyx.com"}, "Telnyx's api_url must be a URL like"),
    ],
    ids=["no key", "no public key", "other text", "short key", "no scheme"],
)
def test_missing_or_wrong_credential_is_named(
    given: dict[str, str], said: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A missing or wrong credential is an error when the carrier is made, and names argument and variable."""
    for variable in ("TELNYX_API_KEY", "TELNYX_PUBLIC_KEY", "TELNYX_CONNECTION_ID"):
        monkeypatch.delenv(variable, raising=False)
    with pytest.raises(ConfigurationError, match=said):
        Telnyx(**given)


def test_connection_is_not_needed_to_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without a connection id a carrier can be made."""
    monkeypatch.delenv("TELNYX_CONNECTION_ID", raising=False)
    assert Telnyx("KEY", PUBLIC).connection_id == ""


def test_missing_extra_names_its_command(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without cryptography, making the carrier raises an error with the command that installs it."""
    monkeypatch.setitem(sys.modules, "cryptography", None)
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(MissingExtraError, match=r"pip install 'patter-trio\[telnyx\]'"):
        Telnyx("KEY", PUBLIC)


# Signatures -----------------------------------------------------------------------------------------------------------
def test_signed_webhook_is_authentic() -> None:
    """A webhook that Telnyx has signed is authentic, and is read."""
    good = request(event("call.initiated", direction="incoming"))
    assert TELNYX.is_signed(good)
    assert TELNYX.is_authentic(good)


def test_unsigned_webhook_is_not_signed() -> None:
    """A webhook without the header claims nothing."""
    assert not TELNYX.is_signed(CarrierRequest("voice", "https://a", {}, b"{}"))


def test_upgrade_of_a_stream_is_never_signed() -> None:
    """Telnyx signs no upgrades, so a header on one proves nothing, right or wrong."""
    upgrade = CarrierRequest("stream", "wss://a", sign(PRIVATE, NOW, b""), b"", "GET", NOW)
    assert not TELNYX.is_signed(upgrade)


@pytest.mark.parametrize(
    "bad",
    [
        request(b"{}", key=bytes(32)),
        request(b"{}", **{SIGNATURE_HEADER: ""}),
        request(b"{}", **{SIGNATURE_HEADER: "AAAA"}),
        request(b"{}", **{SIGNATURE_HEADER: "not base64 \udc80"}),
        request(b"{}", **{SIGNATURE_HEADER: base64.b64encode(bytes(64)).decode()}),
        request(b"{}", **{TIMESTAMP_HEADER: ""}),
        request(b"{}", **{TIMESTAMP_HEADER: f"{NOW + 1}"}),
        request(b"{}", **{TIMESTAMP_HEADER: f" {NOW}"}),
        request(b"{}", **{TIMESTAMP_HEADER: f"{NOW}, {NOW}"}),
        request(b"{}", **{TIMESTAMP_HEADER: "1" * 5000}),
        request(b"{}", at=NOW + REPLAY_WINDOW_S + 1),
        request(b"{}", at=NOW - REPLAY_WINDOW_S - 1),
    ],
    ids=[
        *("another key", "empty", "short", "no base64", "zeros", "no time", "another time", "spaced time", "two times"),
        *("huge time", "too old", "too new"),
    ],
)
def test_wrong_late_or_odd_signature_is_refused(bad: CarrierRequest) -> None:
    """A signature of another key, of another time, out of the window or of another form is refused."""
    assert not TELNYX.is_authentic(bad)


def test_window_has_five_minutes_either_way() -> None:
    """A webhook is authentic up to 300 s after it was signed, and before."""
    assert REPLAY_WINDOW_S == 300
    for at in (NOW - 300, NOW, NOW + 300):
        assert TELNYX.is_authentic(request(b"{}", at=at))


@given(st.binary(min_size=1, max_size=200), st.data())
def test_any_change_of_a_body_is_noticed(body: bytes, data: st.DataObject) -> None:
    """A signature covers each byte of the body: with any byte changed, it is refused."""
    good = request(body)
    assert TELNYX.is_authentic(good)
    place = data.draw(st.integers(0, len(body) - 1))
    other = bytes([*body[:place], body[place] ^ data.draw(st.integers(1, 255)), *body[place + 1 :]])
    assert not TELNYX.is_authentic(CarrierRequest("voice", good.url, good.headers, other, received_at=good.received_at))


@given(st.text() | st.binary().map(lambda data: base64.b64encode(data).decode()))
def test_any_signature_header_is_taken(header: str) -> None:
    """Any text in the signature's header is refused, and raises nothing."""
    assert not WebhookKey.read(PUBLIC).signed({SIGNATURE_HEADER: header, TIMESTAMP_HEADER: str(NOW)}, b"{}", NOW)


# Events ---------------------------------------------------------------------------------------------------------------
def test_incoming_call_is_offered() -> None:
    """An incoming call is offered with its numbers, and the SIP headers that came with it."""
    headers = [{"name": "X-Order", "value": "17"}, {"name": "odd"}, "odd", {"name": 5, "value": "x"}]
    assert report("call.initiated", direction="incoming", state="parked", custom_headers=headers) == CallOffered(
        CallInfo(CALL, "+15550100001", "+15550100002", "inbound", {"X-Order": "17"})
    )


def test_outgoing_call_of_ours_rings() -> None:
    """A call that we placed rings when it is initiated; a leg that somebody else dials changes nothing."""
    assert report("call.initiated", direction="outgoing", client_state=OURS) == CallRinging(CALL, "our-reference")
    for state in (None, "", "aGF2ZSBhIG5pY2UgZGF5ID1d", "no base64", 7):
        assert report("call.initiated", direction="outgoing", client_state=state) is None


def test_answered_call_of_ours_is_offered() -> None:
    """A call that we placed is offered when somebody answers; the answer to our own command changes nothing."""
    assert report("call.answered", client_state=OURS) == CallOffered(
        CallInfo(CALL, "+15550100001", "+15550100002", "outbound"), "our-reference"
    )
    assert report("call.answered") is None
    assert report("call.answered", client_state=encode_state(token="t")) is None


@pytest.mark.parametrize(
    ("cause", "outcome"),
    [
        ("normal_clearing", "caller_hung_up"),
        ("originator_cancel", "cancelled"),
        ("call_rejected", "rejected"),
        ("timeout", "no_answer"),
        ("no_answer", "no_answer"),
        ("time_limit", "caller_hung_up"),
        ("user_busy", "busy"),
        ("not_found", "failed"),
        ("unspecified", "failed"),
        ("brand_new_cause", "failed"),
        (None, "failed"),
        (17, "failed"),
    ],
)
def test_cause_of_a_hangup_becomes_our_outcome(cause: Any, outcome: str) -> None:
    """Each cause of a hang-up has an outcome of ours; one that is not known is failed."""
    assert report("call.hangup", hangup_cause=cause, client_state=OURS) == CallStatus(CALL, outcome, "our-reference")
    assert report("call.hangup", hangup_cause=cause) == CallStatus(CALL, outcome)


@pytest.mark.parametrize(
    ("kind", "result", "who", "ended"),
    [
        ("call.machine.detection.ended", "human", "human", False),
        ("call.machine.detection.ended", "machine", "machine", False),
        ("call.machine.detection.ended", "not_sure", "unknown", False),
        ("call.machine.premium.detection.ended", "human_residence", "human", False),
        ("call.machine.premium.detection.ended", "human_business", "human", False),
        ("call.machine.premium.detection.ended", "machine", "machine", False),
        ("call.machine.premium.detection.ended", "silence", "unknown", False),
        ("call.machine.premium.detection.ended", "fax_detected", "fax", False),
        ("call.machine.premium.detection.ended", "something_new", "unknown", False),
        ("call.machine.premium.call_screening.detected", "screening", "screening", False),
        ("call.machine.greeting.ended", "beep_detected", "machine", True),
        ("call.machine.greeting.ended", "ended", "machine", True),
        ("call.machine.greeting.ended", "not_sure", "machine", True),
        ("call.machine.premium.greeting.ended", "beep_detected", "machine", True),
        ("call.machine.premium.greeting.ended", "no_beep_detected", "machine", True),
        ("call.machine.premium.greeting.ended", "prompt_ended", "screening", True),
    ],
)
def test_machine_detection_becomes_our_words(kind: str, result: str, who: Any, ended: bool) -> None:
    """Each result of both kinds of detection has a word of ours, and ends of greetings are told apart."""
    expected = MachineDetected(CALL, who, greeting_ended=ended, dial="our-reference")
    assert report(kind, result=result, client_state=OURS) == expected


def test_saved_recording_is_reported_with_its_length() -> None:
    """A recording is reported with its address and length; its call is named by the state that our command set."""
    saved = {
        "channels": "dual",
        "recording_urls": {"wav": "https://s3.example/r.wav"},
        "public_recording_urls": {},
        "recording_started_at": "2026-11-30T18:00:00.000000Z",
        "recording_ended_at": "2026-11-30T18:01:02.500000Z",
    }
    expected = RecordingSaved(CALL, "leg", "https://s3.example/r.wav", 62.5)
    assert report("call.recording.saved", **saved) == expected
    by_state = {"call_control_id": None, "client_state": encode_state(call=CALL)}
    assert report("call.recording.saved", **saved | by_state) == expected
    assert report("call.recording.saved", **saved | {"call_control_id": None}) is None
    assert report("call.recording.saved", **saved | {"recording_urls": None}) is None
    odd = report("call.recording.saved", **saved | {"recording_ended_at": "soon", "recording_id": "r1"})
    assert odd == RecordingSaved(CALL, "r1", "https://s3.example/r.wav")
    mp3 = report("call.recording.saved", **saved | {"recording_urls": {"mp3": "https://s3.example/r.mp3"}})
    assert isinstance(mp3, RecordingSaved)
    assert mp3.url == "https://s3.example/r.mp3"


def test_failed_stream_is_reported_with_its_reason() -> None:
    """A stream that Telnyx could not open is reported, with the reason on one line."""
    assert report("streaming.failed", failure_reason="connection\nfailed") == StreamFailed(CALL, "connection failed")
    assert report("streaming.failed") == StreamFailed(CALL, "Telnyx gives no reason")


@pytest.mark.parametrize(
    ("payload", "cost"),
    [
        ({"status": "success", "total_cost": "0.0123", "cost_parts": [{"currency": "USD"}]}, 0.0123),
        ({"total_cost": "0"}, 0.0),
        ({"total_cost": 0.5, "cost_parts": None}, 0.5),
        ({"status": "error", "total_cost": "0.1"}, None),
        ({"total_cost": "0.1", "cost_parts": [{"currency": "USD"}, {"currency": "EUR"}]}, None),
        ({"total_cost": "nan"}, None),
        ({"total_cost": "-1"}, None),
        ({"total_cost": "1e9"}, None),
        ({"total_cost": "free"}, None),
        ({"total_cost": None}, None),
        ({}, None),
    ],
    ids=["paid", "free", "number", "error", "euro", "nan", "negative", "huge", "text", "none", "absent"],
)
def test_cost_is_reported_in_dollars(payload: dict[str, Any], cost: float | None) -> None:
    """The cost of a call is reported if it is a sensible amount of US dollars, and else not at all."""
    assert report("call.cost", **payload) == (None if cost is None else CostReported(CALL, cost))


@pytest.mark.parametrize(
    "kind",
    [
        *("call.dtmf.received", "streaming.started", "streaming.stopped", "call.bridged", "call.speak.ended"),
        *("call.machine.premium.detection.started", "call.something.new", "message.received"),
    ],
)
def test_other_events_change_nothing(kind: str) -> None:
    """Events that we have no use for, and unknown ones, report nothing; keys come by the stream alone."""
    assert report(kind, digit="5") is None


@pytest.mark.parametrize(
    ("body", "said"),
    [
        (b"", "must be JSON"),
        (b"\xff", "must be JSON"),
        (b"[" * 100_000, "must be JSON"),
        (b"[]", "event_type"),
        (b"{}", "event_type"),
        (b'{"data": []}', "event_type"),
        (b'{"data": {"event_type": 5}}', "event_type"),
        # Webhooks of version 1 have no "data".
        (b'{"event_type": "call_initiated", "payload": {}}', "version 2"),
        (b'{"data": {"event_type": "call.hangup"}}', "must have call_control_id"),
        (event("call.hangup", call_control_id=None), "must have call_control_id"),
        (event("call.hangup", call_control_id="v3:a b\n"), "must have letters"),
        (event("call.hangup", call_control_id="v3:../x"), "must have letters"),
        (event("call.hangup", call_control_id="x" * 129), "must have letters"),
    ],
    ids=[f"case {number}" for number in range(13)],
)
def test_invalid_event_bodies_are_refused(body: bytes, said: str) -> None:
    """A body that is not an event of Telnyx, or whose id could break a log or a path, raises WireError."""
    with pytest.raises(WireError, match=said):
        TELNYX.read(request(body))


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=6,
)
KINDS = (
    *("call.initiated", "call.answered", "call.hangup", "call.machine.detection.ended", "call.recording.saved"),
    *("streaming.failed", "call.cost", "call.machine.premium.greeting.ended"),
)
FIELDS = (
    *("call_control_id", "client_state", "from", "to", "direction", "custom_headers", "hangup_cause", "result"),
    *("recording_urls", "public_recording_urls", "recording_started_at", "failure_reason", "cost_parts", "total_cost"),
)


@given(st.sampled_from(KINDS), st.dictionaries(st.sampled_from(FIELDS), JSON, max_size=5))
def test_any_payload_is_read_or_refused(kind: str, payload: dict[str, Any]) -> None:
    """An event with any values in its fields gives a report, or nothing, or WireError."""
    try:
        found = report(kind, **payload)
    except WireError:
        return
    assert found is None or found.call_id


def test_answers_say_nothing_to_telnyx() -> None:
    """The answers to webhooks are empty: Telnyx acts on requests."""
    assert TELNYX.acts_on_request
    assert not TELNYX.ends_with_stream
    assert TELNYX.connect("wss://a", {"token": "t"}) == TELNYX.reject() == ""
    assert TELNYX.content_type == "application/json"


def test_codec_has_the_token_of_the_upgrade() -> None:
    """The codec of a stream has the token in its upgrade's header."""
    assert TELNYX.new_codec({TOKEN_HEADER: "t"})._token == "t"
    assert TELNYX.new_codec()._token == ""
