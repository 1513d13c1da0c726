"""A simulated Plivo to which a program places calls.

Sources: plivo.com/docs/voice/api/calls, .../voice/concepts/machine-detection, .../voice/troubleshooting/hangup-causes.
"""

import re
import uuid
from collections.abc import Mapping, Sequence
from typing import Any, Final

from patter_trio.abc import AnsweredBy, DialRequest
from patter_trio.carriers.plivo import Plivo
from patter_trio.testing.carriers.dialled import Account, DialledCall, OfCall, Unreached, reference_in, whole_number
from patter_trio.testing.carriers.plivo import API_ID, PlivoProtocol, refusal
from patter_trio.testing.carriers.protocol import BadAnswer, CallFacts, RESTAnswer, RESTRequest, Webhook
from patter_trio.testing.carriers.rest import basic_authorization, read_json

_HANGUP: Final[Mapping[Unreached, tuple[str, str, str, str]]] = {
    # CallStatus, HangupCauseName, HangupCauseCode, HangupSource
    "busy": ("busy", "Busy Line", "3010", "Callee"),
    "no_answer": ("timeout", "No Answer", "3000", "Callee"),
    "failed": ("failed", "Unallocated Number", "2000", "Carrier"),
    "rejected": ("failed", "Rejected", "3020", "Callee"),
    "cancelled": ("cancel", "Cancelled", "1000", "API Request"),
}
_URLS: Final = ("answer", "ring", "hangup", "machine_detection")
_FIELDS: Final = frozenset(
    {
        *("from", "to", "ring_timeout", "time_limit", "machine_detection", "machine_detection_time"),
        *(f"{name}_{part}" for name in _URLS for part in ("url", "method")),
    }
)
_TEXTS: Final[Mapping[int, str]] = {
    401: "authentication failed",
    402: "insufficient account credit",
    404: "call not found",
    429: "too many requests",
}


class DialledPlivo(PlivoProtocol, DialledCall):
    """Plivo's side of one call that the program has placed.

    Args:
        request: the request that has placed it.
        call_uuid: the id of the call.
        auth_id: the account.
        auth_token: its secret.
    """

    def __init__(self, request: DialRequest, call_uuid: str, auth_id: str, auth_token: str) -> None:
        super().__init__(CallFacts(call_uuid, request.from_number, request.to, "outbound"), auth_id, auth_token)
        self._request = request
        self._request_id = str(uuid.uuid5(uuid.NAMESPACE_URL, f"{call_uuid}/request"))

    @property
    def request_id(self) -> str:
        """The id of the request, which ends the call while its own is not known."""
        return self._request_id

    def _answer_url(self, public_url: str) -> str:
        del public_url  # the request names it
        return self._request.voice_url

    def _webhook(self, url: str, **fields: str) -> Webhook:
        return super()._webhook(url, **{"RequestUUID": self._request_id, "ALegUUID": self.call_id, **fields})

    def ringing_reports(self) -> Sequence[Webhook]:
        """Return the report that the phone rings, the first one with the call's id."""
        return (self._webhook(self._request.status_url, Event="Ring", CallStatus="ringing"),)

    def unanswered_reports(self, why: Unreached) -> Sequence[Webhook]:
        """Return the report of the end of a call that was not answered."""
        return (self._hung_up(self._request.status_url, *_HANGUP[why]),)

    def found_reports(self, answered_by: AnsweredBy, *, greeting_ended: bool = False) -> Sequence[Webhook]:
        """Return the finding: Plivo reports machines alone, as soon as it hears one."""
        if not self._request.machine_detection or answered_by != "machine" or greeting_ended:
            return ()
        fields = {"Event": "MachineDetection", "Machine": "true", "IfMachine": "continue", "CallStatus": "in-progress"}
        return (self._webhook(self._request.amd_url, **fields),)


class PlivoAccount(Account):
    """Plivo's account for the calls of a program.

    Args:
        carrier: the carrier object of the program, whose credentials both sides use.
    """

    _carrier: Plivo

    def __init__(self, carrier: Plivo) -> None:
        super().__init__(carrier, basic_authorization(carrier.auth_id, carrier.auth_token))

    @property
    def api_path(self) -> str:
        """The path of the account."""
        return f"/v1/Account/{self._carrier.auth_id}/"

    def read(self, request: RESTRequest) -> DialRequest | OfCall | RESTAnswer:
        """Read a request: for a new call, about a call, or about the request that placed one."""
        if not self.is_authorized(request):
            return self.refusal(401)
        kind, _, rest = request.path.partition("/")
        if kind not in ("Call", "Request"):
            return self.refusal(404, "not found")
        if rest:
            call, _, path = rest.partition("/")
            return OfCall(call, path)
        try:
            return self._dialled(read_json(request.body) or {})
        except (BadAnswer, ValueError) as error:
            return self.refusal(400, str(error))

    def _dialled(self, fields: Mapping[str, Any]) -> DialRequest:
        missing = sorted({"from", "to", "answer_url"} - fields.keys())
        unknown = sorted(fields.keys() - _FIELDS)
        if missing or unknown:
            raise BadAnswer(f"parameters missing: {missing}, unknown: {unknown}")
        numbers = {name: str(fields[name]) for name in ("from", "to")}
        if not all(re.fullmatch("[0-9]{7,15}", number) for number in numbers.values()):
            raise BadAnswer(f"numbers must have digits alone, got {numbers}")
        return DialRequest(
            to=f"+{numbers['to']}",
            from_number=f"+{numbers['from']}",
            reference=reference_in(fields["answer_url"]),
            voice_url=fields["answer_url"],
            status_url=str(fields.get("hangup_url", "")),
            amd_url=str(fields.get("machine_detection_url", "")),
            machine_detection="answer" if fields.get("machine_detection") == "true" else "",
            # Plivo's own when it is left out.
            ring_timeout=whole_number(fields, "ring_timeout", 120),
            time_limit=whole_number(fields, "time_limit", 14400) if "time_limit" in fields else None,
        )

    def new_call(self, request: DialRequest, call_id: str) -> DialledCall:
        """Return Plivo's side of a call."""
        return DialledPlivo(request, call_id, self._carrier.auth_id, self._carrier.auth_token)

    def accepted(self, call: DialledCall) -> RESTAnswer:
        """Return the id of the request; that of the call comes when it rings."""
        return RESTAnswer(201, {"message": "call fired", "request_uuid": call.request_id, "api_id": API_ID})

    def refusal(self, status: int, text: str = "") -> RESTAnswer:
        """Return an error in Plivo's form."""
        return refusal(status, text or _TEXTS.get(status, "internal server error"))
