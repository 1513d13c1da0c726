"""Telnyx's webhooks, translated into our reports.

https://developers.telnyx.com/docs/voice/programmable-voice/receiving-webhooks: JSON with an event's type and its
payload. All of an application's events come to one URL, at least once, in any order. Types and values that are not
known are news that change nothing: Telnyx adds new ones without notice.
"""

import json
import logging
from collections.abc import Mapping
from datetime import datetime
from typing import Any, Final

from patter_trio.abc import (
    AnsweredBy,
    CallInfo,
    CallOffered,
    CallRinging,
    CallStatus,
    CarrierReport,
    CostReported,
    Direction,
    MachineDetected,
    PartyReached,
    PartyUnreached,
    RecordingSaved,
    StreamFailed,
)
from patter_trio.errors import WireError
from patter_trio.phone_numbers import shown_id
from patter_trio.wire.telnyx import decode_state, is_call_id

# https://developers.telnyx.com/api-reference/callbacks/call-hangup. For us: a call that was completed although its
# stream never came has a caller who hung up first.
_OUTCOME: Final = {
    "normal_clearing": "caller_hung_up",
    "time_limit": "caller_hung_up",
    "originator_cancel": "cancelled",
    "call_rejected": "rejected",
    "timeout": "no_answer",
    "no_answer": "no_answer",
    "user_busy": "busy",
}
"""Our words for causes of a hang-up; any other is ``failed``."""
_ANSWERED_BY: Final[Mapping[str, AnsweredBy]] = {
    "human": "human",
    "human_residence": "human",
    "human_business": "human",
    "machine": "machine",
    "fax_detected": "fax",
    "screening": "screening",
}
"""Our words for who has answered; any other, such as ``silence`` and ``not_sure``, is ``unknown``."""
_DETECTED: Final = (
    "call.machine.detection.ended",
    "call.machine.premium.detection.ended",
    "call.machine.premium.call_screening.detected",
)
_GREETING_ENDED: Final = ("call.machine.greeting.ended", "call.machine.premium.greeting.ended")
# Judged: a day at the highest rate of any destination; more is not a price.
MAX_COST_USD: Final = 100_000.0
"""The highest price of a call that is believed, in US dollars."""

_log = logging.getLogger("patter_trio.carriers")


def read_report(body: bytes) -> CarrierReport | None:
    """Return what a webhook reports; None for news that change nothing.

    Raises:
        WireError: the body is not an event of Telnyx, or an id is missing or has another form.
    """
    event, payload = _event(body)
    state = decode_state(payload.get("client_state"))
    if transferred := state.get("transfer", ""):
        return _party(event, _checked_id(transferred))
    dial = state.get("dial", "")
    match event:
        case "call.initiated" if payload.get("direction") == "incoming":
            return CallOffered(_info(payload, "inbound"))
        # Telnyx raises it for each leg that somebody dials on the account; ours has our reference.
        case "call.initiated" if dial:
            return CallRinging(_call_id(payload), dial)
        # Of a call that we did not place, this is the answer to our own command.
        case "call.answered" if dial:
            return CallOffered(_info(payload, "outbound"), dial)
        case "call.hangup":
            return CallStatus(_call_id(payload), _OUTCOME.get(_text(payload, "hangup_cause"), "failed"), dial)
        case _ if event in _DETECTED:
            who = _ANSWERED_BY.get(_text(payload, "result"), "unknown")
            return MachineDetected(_call_id(payload), who, dial=dial)
        case _ if event in _GREETING_ENDED:
            # The prompt is that of an assistant that screens calls; whatever else ends, a message can be left now.
            greeter: AnsweredBy = "screening" if payload.get("result") == "prompt_ended" else "machine"
            return MachineDetected(_call_id(payload), greeter, greeting_ended=True, dial=dial)
        case "call.recording.saved":
            return _recording(payload)
        case "streaming.failed":
            reason = " ".join(_text(payload, "failure_reason").split()) or "Telnyx gives no reason"
            return StreamFailed(_call_id(payload), reason)
        case "call.cost":
            return _cost(payload)
    return None


def _party(event: str, call_id: str) -> PartyReached | PartyUnreached | None:
    """Return what an event says about the party to which a call was transferred."""
    match event:
        case "call.answered":
            return PartyReached(call_id)
        # Also the end of a conversation: whether there was one is known where the answer was reported.
        case "call.hangup":
            return PartyUnreached(call_id)
    return None


def _event(body: bytes) -> tuple[str, Mapping[str, Any]]:
    try:
        whole = json.loads(body)
    # RecursionError: Python's parser recurses, and a body may nest as deep as it likes.
    except (ValueError, RecursionError):
        raise WireError("the body must be JSON") from None
    data = whole.get("data") if isinstance(whole, dict) else None
    if not isinstance(data, dict) or not isinstance(data.get("event_type"), str):
        raise WireError("the body must have data with an event_type (the application's webhooks must be of version 2)")
    payload = data.get("payload")
    return data["event_type"], payload if isinstance(payload, dict) else {}


def _text(payload: Mapping[str, Any], name: str) -> str:
    value = payload.get(name)
    return value if isinstance(value, str) else ""


def _checked_id(call_id: str) -> str:
    if not call_id:
        raise WireError("the payload must have call_control_id")
    if not is_call_id(call_id):
        raise WireError(f"call_control_id must have letters, digits and .:=+-, got {shown_id(call_id)}")
    return call_id


def _call_id(payload: Mapping[str, Any]) -> str:
    return _checked_id(_text(payload, "call_control_id"))


def _info(payload: Mapping[str, Any], direction: Direction) -> CallInfo:
    headers = payload.get("custom_headers")
    given = {
        header["name"]: header["value"]
        for header in (headers if isinstance(headers, list) else [])
        if isinstance(header, dict) and isinstance(header.get("name"), str) and isinstance(header.get("value"), str)
    }
    return CallInfo(_call_id(payload), _text(payload, "from"), _text(payload, "to"), direction, given)


def _recording(payload: Mapping[str, Any]) -> RecordingSaved | None:
    # The call's own id is not among the documented fields: our command that started the recording put it into the
    # state.
    call_id = _text(payload, "call_control_id") or decode_state(payload.get("client_state")).get("call", "")
    urls = [payload.get(name) for name in ("recording_urls", "public_recording_urls")]
    found = [
        urls_of[kind] for urls_of in urls if isinstance(urls_of, dict) for kind in ("wav", "mp3") if urls_of.get(kind)
    ]
    url = next((url for url in found if isinstance(url, str)), "")
    if not call_id or not url:
        # Of a recording that the account's settings started. Refused, it would be sent again.
        _log.info("Telnyx has saved a recording that names no call or no address")
        return None
    recording_id = _text(payload, "recording_id") or _text(payload, "call_leg_id")
    return RecordingSaved(_checked_id(call_id), recording_id, url, _seconds(payload))


def _seconds(payload: Mapping[str, Any]) -> float | None:
    try:
        began, ended = (datetime.fromisoformat(_text(payload, f"recording_{name}_at")) for name in ("started", "ended"))
        return max(0.0, (ended - began).total_seconds())
    # ``TypeError``: one has a time zone, the other has none.
    except (ValueError, TypeError):
        return None


def _cost(payload: Mapping[str, Any]) -> CostReported | None:
    parts = payload.get("cost_parts")
    currencies = {part.get("currency") for part in (parts if isinstance(parts, list) else []) if isinstance(part, dict)}
    # Accounts may be billed in other currencies, and nothing here knows their rate.
    if payload.get("status") == "error" or currencies - {"USD", None}:
        return None
    try:
        cost = float(payload["total_cost"])
    except (KeyError, TypeError, ValueError):
        return None
    # NaN and infinity fail the comparison.
    return CostReported(_call_id(payload), cost) if 0 <= cost < MAX_COST_USD else None
