"""The reports in Twilio's webhooks: what each means for a call.

* Voice and status: https://www.twilio.com/docs/voice/twiml#request-parameters, .../voice/api/call-resource
* Answering machines: https://www.twilio.com/docs/voice/answering-machine-detection
* Recordings: https://www.twilio.com/docs/voice/api/recording#recordingstatuscallback
* Streams: https://www.twilio.com/docs/voice/twiml/stream#statuscallback
"""

import re
from typing import Final

from patter_trio.abc import (
    CallInfo,
    CallOffered,
    CallReturned,
    CallRinging,
    CallStatus,
    CarrierReport,
    CarrierRequest,
    MachineDetected,
    PartyReached,
    RecordingSaved,
    StreamFailed,
)
from patter_trio.abc._webhooks import AnsweredBy
from patter_trio.errors import WireError
from patter_trio.phone_numbers import shown_id

# Twilio's own form (https://www.twilio.com/docs/glossary/what-is-a-sid). Names and values are joined without a
# separator before they are signed: without a form, a signature would also cover an id that swallows the field behind
# it.
CALL_SID: Final = re.compile("CA[0-9a-fA-F]{32}")
RECORDING_SID: Final = re.compile("RE[0-9a-fA-F]{32}")
# https://www.twilio.com/docs/voice/api/call-resource#call-status-values; all others are not final. For us: "completed"
# of a call whose stream never came means that the other side hung up first.
_FINAL_STATUS: Final = {
    "completed": "caller_hung_up",
    "canceled": "cancelled",
    "no-answer": "no_answer",
    "busy": "busy",
    "failed": "failed",
}
# https://www.twilio.com/docs/voice/twiml/dial#dialcallstatus-values
_UNREACHED: Final = frozenset({"busy", "no-answer", "failed", "canceled"})
_ANSWERED_BY: Final[dict[str, tuple[AnsweredBy, bool]]] = {
    "human": ("human", False),
    "machine_start": ("machine", False),
    # With ``DetectMessageEnd`` there is one report about a machine, when its greeting has ended.
    "machine_end_beep": ("machine", True),
    "machine_end_silence": ("machine", True),
    "machine_end_other": ("machine", True),
    "fax": ("fax", False),
    "unknown": ("unknown", False),
}


def read_report(request: CarrierRequest, dial: str) -> CarrierReport | None:
    """Return what a webhook of Twilio reports; None for news that change nothing.

    Args:
        request: the webhook.
        dial: our reference of the call, from the URL of the webhook; empty: we did not place the call.

    Raises:
        WireError: the form is not valid, or lacks the id of its call, in Twilio's form.
    """
    match request.kind:
        case "voice":
            return CallOffered(_offer(request), dial)
        case "amd":
            return _machine(request, dial)
        case "recording":
            return _recording(request)
        case "return":
            # Also asked for when the caller hangs up: then with the final status, and the answer goes nowhere.
            dialled = request.field("DialCallStatus")
            unreached = dialled in _UNREACHED
            # Behind a conversation with the other party, the call is over as well.
            is_over = request.field("CallStatus") in _FINAL_STATUS or bool(dialled and not unreached)
            return CallReturned(_call_sid(request), request.query.get("stream", ""), is_over, unreached)
    # Both come to the URL for the status, for a stream has no other of ours.
    return _stream(request) if request.field("StreamEvent") else _status(request, dial)


def _call_sid(request: CarrierRequest) -> str:
    call_id = request.field("CallSid")
    if not call_id:
        raise WireError("the form must have CallSid")
    if not CALL_SID.fullmatch(call_id):
        raise WireError(f"CallSid must be CA and 32 hexadecimal digits, got {shown_id(call_id)}")
    return call_id


def _offer(request: CarrierRequest) -> CallInfo:
    # ``outbound-api`` and ``outbound-dial`` (https://www.twilio.com/docs/voice/twiml#request-parameters).
    outbound = request.field("Direction").startswith("outbound")
    # Only the id is indispensable. A caller may withhold the number, and then ``From`` is empty, or not there.
    return CallInfo(
        _call_sid(request), request.field("From"), request.field("To"), "outbound" if outbound else "inbound"
    )


def _status(request: CarrierRequest, dial: str) -> CallRinging | CallStatus | PartyReached | None:
    call_id, status = request.field("CallSid"), request.field("CallStatus")
    # The call that a transfer dials has an id of its own; the only event of it that we ask for is its answer.
    parent = request.field("ParentCallSid")
    if status == "in-progress" and CALL_SID.fullmatch(parent):
        return PartyReached(parent)
    # Without an error: the account may have other calls that report here, such as those that a transfer dials.
    if not CALL_SID.fullmatch(call_id):
        return None
    if status == "ringing":
        return CallRinging(call_id, dial)
    outcome = _FINAL_STATUS.get(status)
    return None if outcome is None else CallStatus(call_id, outcome, dial)


def _machine(request: CarrierRequest, dial: str) -> MachineDetected:
    # A word that Twilio adds one day says nothing to us: the call goes on as with a person.
    answered_by, ended = _ANSWERED_BY.get(request.field("AnsweredBy"), ("unknown", False))
    return MachineDetected(_call_sid(request), answered_by, ended, dial)


def _recording(request: CarrierRequest) -> RecordingSaved | None:
    # ``in-progress`` and ``absent`` have nothing to listen to.
    if request.field("RecordingStatus") != "completed":
        return None
    recording_id, duration = request.field("RecordingSid"), request.field("RecordingDuration")
    if not RECORDING_SID.fullmatch(recording_id):
        raise WireError(f"RecordingSid must be RE and 32 hexadecimal digits, got {shown_id(recording_id)}")
    seconds = float(duration) if duration.isascii() and duration.isdigit() else None
    return RecordingSaved(_call_sid(request), recording_id, request.field("RecordingUrl"), seconds)


def _stream(request: CarrierRequest) -> StreamFailed | None:
    # The other events are the stream's own messages, which have the last word.
    if request.field("StreamEvent") != "stream-error":
        return None
    return StreamFailed(_call_sid(request), request.field("StreamError") or "no reason given")
