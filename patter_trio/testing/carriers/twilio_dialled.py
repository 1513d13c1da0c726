"""A simulated Twilio to which a program places calls.

Sources: twilio.com/docs/voice/api/call-resource, .../voice/answering-machine-detection.
"""

from collections.abc import Mapping, Sequence
from typing import Final
from urllib.parse import parse_qsl
from xml.etree import ElementTree as ET

from patter_trio.abc import AnsweredBy, DialRequest, MachineDetection
from patter_trio.carriers.twilio import Twilio
from patter_trio.errors import CallEnded
from patter_trio.testing.carriers import twilio_messages as messages
from patter_trio.testing.carriers.dialled import Account, DialledCall, OfCall, Unreached, reference_in, whole_number
from patter_trio.testing.carriers.protocol import BadAnswer, CallFacts, Line, RESTAnswer, RESTRequest, Webhook
from patter_trio.testing.carriers.rest import basic_authorization
from patter_trio.testing.carriers.twilio import TwilioProtocol

_STATUS: Final[Mapping[Unreached, str]] = {
    "busy": "busy",
    "no_answer": "no-answer",
    "failed": "failed",
    # Twilio has no word for a call that was declined.
    "rejected": "busy",
    "cancelled": "canceled",
}
_DETECTION: Final[Mapping[str, MachineDetection]] = {"": "", "Enable": "answer", "DetectMessageEnd": "greeting_end"}
_FIELDS: Final = frozenset(
    {
        *("To", "From", "Url", "StatusCallback", "StatusCallbackEvent", "Timeout", "TimeLimit"),
        *("MachineDetection", "AsyncAmd", "AsyncAmdStatusCallback"),
    }
)
# twilio.com/docs/api/errors
_CODES: Final[Mapping[int, int]] = {400: 21211, 401: 20003, 402: 20005, 403: 20403, 404: 20404, 422: 20422, 429: 20429}


class DialledTwilio(TwilioProtocol, DialledCall):
    """Twilio's side of one call that the program has placed.

    Args:
        request: the request that has placed it.
        call_sid: its id.
        account_sid: the account.
        signer: what signs the webhooks.
    """

    def __init__(self, request: DialRequest, call_sid: str, account_sid: str, signer: messages.Signer) -> None:
        super().__init__(CallFacts(call_sid, request.from_number, request.to, "outbound"), account_sid, signer)
        self._request = request

    def _announcement(self, public_url: str) -> Webhook:
        del public_url  # the request names the webhook
        return self._webhook(self._request.voice_url, self._form("in-progress"))

    def _status(self, status: str) -> Webhook:
        return self._webhook(self._request.status_url, self._form(status))

    def dialled_reports(self) -> Sequence[Webhook]:
        """Return the report that the call was initiated."""
        return (self._status("initiated"),)

    def ringing_reports(self) -> Sequence[Webhook]:
        """Return the report that the phone rings."""
        return (self._status("ringing"),)

    def opened_reports(self) -> Sequence[Webhook]:
        """Return the report that somebody has answered."""
        return (self._status("in-progress"),)

    def unanswered_reports(self, why: Unreached) -> Sequence[Webhook]:
        """Return the report of the end of a call that was not answered."""
        return (self._status(_STATUS[why]),)

    def ended_reports(self, how: str) -> Sequence[Webhook]:
        """Return the report of the call's end, and that of its recording."""
        return (self._status("completed"), *super().ended_reports(how))

    def found_reports(self, answered_by: AnsweredBy, *, greeting_ended: bool = False) -> Sequence[Webhook]:
        """Return the finding: about a machine once, at the end of the greeting if the program waits for that."""
        asked = self._request.machine_detection
        if not asked or (answered_by == "machine" and greeting_ended != (asked == "greeting_end")):
            return ()
        said: str = answered_by
        if answered_by == "machine":
            said = "machine_end_beep" if greeting_ended else "machine_start"
        form = {"CallSid": self.call_id, "AccountSid": self._account_sid, "AnsweredBy": said}
        return (self._webhook(self._request.amd_url, form),)

    async def obey(self, line: Line, request: RESTRequest) -> RESTAnswer:
        """End or transfer the call; or what an answered call can be asked for."""
        if (request.method, request.path) != ("POST", ".json"):
            return await super().obey(line, request)
        fields = dict(parse_qsl(request.body.decode()))
        try:
            if "Twiml" in fields:
                await line.transfer(_dialled_in(fields["Twiml"]))
            elif fields.get("Status") in ("completed", "canceled"):
                line.agent_hangs_up()
            else:
                return _refusal(400, 21218, f"Twiml, or Status completed or canceled, must be given, got {[*fields]}")
        except BadAnswer as error:
            return _refusal(400, 21218, str(error))
        except CallEnded:
            return _refusal(400, 21220, "Call is not in-progress. Cannot redirect.")
        return RESTAnswer(200, {"sid": self.call_id})


class TwilioAccount(Account):
    """Twilio's account for the calls of a program.

    Args:
        carrier: the carrier object of the program, whose credentials both sides use.
    """

    _carrier: Twilio

    def __init__(self, carrier: Twilio) -> None:
        super().__init__(carrier, basic_authorization(carrier.account_sid, carrier.auth_token))
        shared = next(iter(carrier.shared_keys.items()), None)
        self._signer = messages.Signer(carrier.auth_token, shared)

    @property
    def api_path(self) -> str:
        """The path of the account's calls."""
        return f"/2010-04-01/Accounts/{self._carrier.account_sid}/Calls"

    def read(self, request: RESTRequest) -> DialRequest | OfCall | RESTAnswer:
        """Read a form: of a new call, or about one."""
        if not self.is_authorized(request):
            return self.refusal(401, "Authenticate")
        if request.path != ".json":
            call, dot, rest = request.path.removeprefix("/").partition(".")
            call, slash, more = call.partition("/")
            return OfCall(call, f"{slash}{more}{dot}{rest}")
        pairs = parse_qsl(request.body.decode(), keep_blank_values=True)
        fields = dict(pairs)
        unknown = sorted(fields.keys() - _FIELDS)
        if request.method != "POST" or unknown:
            return self.refusal(400, f"unknown parameters: {', '.join(unknown)}")
        missing = [name for name in ("To", "From", "Url") if not fields.get(name)]
        if missing or fields.get("MachineDetection", "") not in _DETECTION:
            return self.refusal(400, f"{missing or 'MachineDetection'} is not valid")
        return DialRequest(
            to=fields["To"],
            from_number=fields["From"],
            reference=reference_in(fields["Url"]),
            voice_url=fields["Url"],
            status_url=fields.get("StatusCallback", ""),
            amd_url=fields.get("AsyncAmdStatusCallback", ""),
            machine_detection=_DETECTION[fields.get("MachineDetection", "")],
            # Twilio's own when it is left out.
            ring_timeout=whole_number(fields, "Timeout", 60),
            time_limit=whole_number(fields, "TimeLimit", 14400) if "TimeLimit" in fields else None,
        )

    def new_call(self, request: DialRequest, call_id: str) -> DialledCall:
        """Return Twilio's side of a call."""
        return DialledTwilio(request, call_id, self._carrier.account_sid, self._signer)

    def accepted(self, call: DialledCall) -> RESTAnswer:
        """Return the call, which is queued."""
        return RESTAnswer(201, {"sid": call.call_id, "status": "queued", "direction": "outbound-api"})

    def refusal(self, status: int, text: str = "") -> RESTAnswer:
        """Return an error with Twilio's code."""
        return _refusal(status, _CODES.get(status, 20500), text)


def _refusal(status: int, code: int, text: str) -> RESTAnswer:
    return RESTAnswer(status, {"code": code, "message": text, "status": status})


def _dialled_in(twiml: str) -> str:
    try:
        found = ET.fromstring(twiml.encode()).find("Dial")  # noqa: S314 (the server under test wrote it)
    except ET.ParseError as error:
        raise BadAnswer(f"12100: the TwiML must be XML ({error})") from error
    to = "" if found is None else "".join(found.itertext()).strip()
    if not to:
        raise BadAnswer(f"12200: the TwiML must have a <Dial> with a number, got {twiml!r}")
    return to
