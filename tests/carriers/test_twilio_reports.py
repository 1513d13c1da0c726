"""What Twilio's webhooks report, field by field."""

from collections.abc import Mapping
from typing import Any
from urllib.parse import urlencode

import pytest
from hypothesis import given
from hypothesis import strategies as st

from patter_trio.abc import (
    CallInfo,
    CallOffered,
    CallRinging,
    CallStatus,
    CarrierReport,
    CarrierRequest,
    MachineDetected,
    RecordingSaved,
    StreamFailed,
    WebhookKind,
)
from patter_trio.carriers.twilio import Twilio
from patter_trio.errors import WireError

TWILIO = Twilio("AC1", "12345")
SID = "CA0123456789abcdefABCDEF0123456789"
RECORDING = "RE" + "0" * 32
CALL = {"CallSid": SID, "From": "+14158675309", "To": "+18005551212"}
KINDS: tuple[WebhookKind, ...] = ("voice", "status", "recording", "amd")


def report(kind: WebhookKind, form: Mapping[str, Any], query: str = "") -> CarrierReport | None:
    """Return what a webhook of Twilio with this form reports."""
    body = urlencode(form, doseq=True).encode()
    return TWILIO.read(CarrierRequest(kind, f"https://agent.example{TWILIO.path_of(kind)}{query}", body=body))


def offer(form: Mapping[str, Any]) -> CallInfo:
    found = report("voice", form)
    assert isinstance(found, CallOffered)
    return found.info


@pytest.mark.parametrize(
    ("said", "direction"),
    [("inbound", "inbound"), ("outbound-api", "outbound"), ("outbound-dial", "outbound"), (None, "inbound")],
)
def test_offer_has_numbers_and_direction(said: str | None, direction: str) -> None:
    """A call offer has both numbers and the direction that Twilio reports."""
    form = CALL | ({"Direction": said} if said else {})
    assert offer(form) == CallInfo(SID, "+14158675309", "+18005551212", direction)  # type: ignore[arg-type]


def test_withheld_numbers_are_empty() -> None:
    """A call offer without From or To has empty numbers."""
    assert offer({"CallSid": SID, "From": ""}) == CallInfo(SID, "", "", "inbound")


def test_first_value_of_a_field_counts() -> None:
    """Of a field that occurs twice, the first value counts."""
    assert offer({"CallSid": [SID, "CA" + "9" * 32], "From": ["+14158675309", "+1"]}).caller == "+14158675309"


@pytest.mark.parametrize(
    "form",
    [
        pytest.param({}, id="empty"),
        pytest.param({"CallSid": ""}, id="without-value"),
        pytest.param({"From": "+15550100001", "To": "+15550100002"}, id="numbers-alone"),
    ],
)
def test_an_offer_without_its_id_is_refused(form: dict[str, str]) -> None:
    """A call offer without CallSid raises a WireError that names it."""
    with pytest.raises(WireError, match="must have CallSid"):
        offer(form)


@pytest.mark.parametrize(
    "call_id",
    [
        "CA1",
        SID[:-1],
        f"{SID}0",
        f"{SID}CallStatusringing",  # the signature of another call's webhook covers it
        SID.replace("CA", "AC"),
        SID.replace("CA", "ca"),
        SID.replace("0", "g"),
        SID.replace("0", "\N{FULLWIDTH DIGIT ZERO}"),
        f"{SID}\n",
        f" {SID}",
    ],
)
def test_ids_have_the_form_of_twilio(call_id: str) -> None:
    """An offer whose CallSid is not CA and 32 hexadecimal digits is refused; the error shows the id escaped."""
    with pytest.raises(WireError, match="CallSid must be CA and 32 hexadecimal digits") as raised:
        offer(CALL | {"CallSid": call_id})
    assert "\n" not in str(raised.value)
    assert report("status", {"CallSid": call_id, "CallStatus": "completed"}) is None
    with pytest.raises(WireError):
        report("amd", {"CallSid": call_id, "AnsweredBy": "human"})


@pytest.mark.parametrize(
    ("status", "outcome"),
    [
        ("completed", "caller_hung_up"),
        ("canceled", "cancelled"),
        ("no-answer", "no_answer"),
        ("busy", "busy"),
        ("failed", "failed"),
        ("queued", None),
        ("initiated", None),
        ("in-progress", None),
        ("", None),
        ("invented", None),
    ],
)
def test_final_statuses_end_a_call(status: str, outcome: str | None) -> None:
    """Each final status has an outcome of ours; any other status ends nothing."""
    ended = report("status", {"CallSid": SID, "CallStatus": status}, "?dial=ours")
    assert ended == (None if outcome is None else CallStatus(SID, outcome, "ours"))
    assert report("status", {"CallStatus": status}) is None


def test_reference_of_a_dial_comes_back() -> None:
    """The reference in a webhook's URL is that of the offer, the ringing and the finding; without one it is empty."""
    ringing = {"CallSid": SID, "CallStatus": "ringing"}
    offered = report("voice", CALL, "?dial=ours&x=1")
    assert isinstance(offered, CallOffered)
    assert offered.dial == "ours"
    assert report("status", ringing, "?dial=ours") == CallRinging(SID, "ours")
    assert report("status", ringing) == CallRinging(SID, "")
    assert report("amd", {"CallSid": SID, "AnsweredBy": "fax"}, "?dial=ours") == MachineDetected(
        SID, "fax", dial="ours"
    )


@pytest.mark.parametrize(
    ("said", "answered_by", "greeting_ended"),
    [
        ("human", "human", False),
        ("machine_start", "machine", False),
        ("machine_end_beep", "machine", True),
        ("machine_end_silence", "machine", True),
        ("machine_end_other", "machine", True),
        ("fax", "fax", False),
        ("unknown", "unknown", False),
        ("invented", "unknown", False),
        ("", "unknown", False),
    ],
)
def test_finding_about_who_answered(said: str, answered_by: Any, greeting_ended: bool) -> None:
    """Each of Twilio's words for who answered has one of ours; a word that is new is unknown."""
    assert report("amd", {"CallSid": SID, "AnsweredBy": said}) == MachineDetected(SID, answered_by, greeting_ended)


SAVED = {
    "CallSid": SID,
    "RecordingSid": RECORDING,
    "RecordingStatus": "completed",
    "RecordingUrl": "https://api.twilio.com/x",
    "RecordingDuration": "12",
}


def test_finished_recording_is_reported() -> None:
    """A finished recording has its id, address and length; a length that is not a number is None."""
    assert report("recording", SAVED) == RecordingSaved(SID, RECORDING, "https://api.twilio.com/x", 12.0)
    without = report("recording", SAVED | {"RecordingDuration": "-1"})
    assert isinstance(without, RecordingSaved)
    assert without.seconds is None


@pytest.mark.parametrize("status", ["in-progress", "absent", ""])
def test_unfinished_recording_is_not_reported(status: str) -> None:
    """A recording that has begun, or that has no audio, is not reported."""
    assert report("recording", SAVED | {"RecordingStatus": status}) is None


def test_recording_with_another_id_is_refused() -> None:
    """A recording whose id has not Twilio's form is refused."""
    with pytest.raises(WireError, match="RecordingSid must be RE and 32"):
        report("recording", SAVED | {"RecordingSid": "RE1\n"})


def test_only_an_error_of_a_stream_is_reported() -> None:
    """A stream's error is reported with its reason; that a stream began or ended is not."""
    failed = {"CallSid": SID, "StreamEvent": "stream-error", "StreamError": "31920"}
    assert report("status", failed) == StreamFailed(SID, "31920")
    assert report("status", failed | {"StreamError": ""}) == StreamFailed(SID, "no reason given")
    for event in ("stream-started", "stream-stopped"):
        assert report("status", failed | {"StreamEvent": event}) is None


FIELDS = st.dictionaries(
    st.sampled_from(
        [
            "CallSid", "CallStatus", "Direction", "From", "To", "AnsweredBy", "RecordingSid", "RecordingStatus",
            "RecordingDuration", "RecordingUrl", "StreamEvent", "StreamError",
        ]
    ),
    st.text() | st.sampled_from([SID, RECORDING, "completed", "ringing", "stream-error", "human", "9" * 400]),
)  # fmt: skip


@given(kind=st.sampled_from(KINDS), form=FIELDS)
def test_any_form_is_a_report_or_refused(kind: WebhookKind, form: dict[str, str]) -> None:
    """Any form is either a report about a call whose id has Twilio's form, or None, or a WireError."""
    try:
        found = report(kind, form)
    except WireError:
        return
    if found is not None:
        assert (found.info.call_id if isinstance(found, CallOffered) else found.call_id) == SID
