"""A scripted server of Twilio's REST interface for live calls, on loopback.

::

    async with serve_twilio_rest("AC1", "secret", calls=["CA1"]) as server:
        carrier = Twilio("AC1", "secret", api_url=server.api_url)

It keeps a status for each call, checks credentials, parses the TwiML it gets, and refuses as the vendor does: with a
code, a message and a status in JSON. A call that is placed stays queued: nobody answers it. Numbers of the account are
in ``numbers``. Written from twilio.com/docs/voice/api/call-resource, .../voice/api/recording,
.../phone-numbers/api/incomingphonenumber-resource and .../docs/api/errors.
"""

import base64
import json
import re
from collections.abc import AsyncIterator, Iterable, Mapping
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from typing import Any, Final
from urllib.parse import parse_qs, unquote, urlsplit
from xml.etree import ElementTree as ET

import attrs
import h11
import trio

from patter_trio.testing.servers.loopback import on_loopback, read_request

_FORM: Final = "application/x-www-form-urlencoded"
# Stricter than the vendor, which ignores what it does not know: a misspelt field would change nothing.
_DIAL_FIELDS: Final = frozenset(
    {
        *("To", "From", "Url", "StatusCallback", "StatusCallbackEvent", "Timeout", "TimeLimit"),
        *("MachineDetection", "AsyncAmd", "AsyncAmdStatusCallback"),
    }
)
# In any other status the call is over, and an update is refused with 21220.
LIVE_STATUSES: Final = frozenset({"queued", "ringing", "in-progress"})


@attrs.define
class RESTRequest:
    """A received request; for a repeated field, ``fields`` has the last value."""

    method: str
    target: str
    headers: dict[str, str] = attrs.field(repr=False)
    body: str
    fields: dict[str, str]


@attrs.define
class RESTCall:
    """A call as Twilio has it; ``twiml`` is its new TwiML, ``changed`` is set when the call is changed.

    ``price`` is what Twilio charges, as it writes it: "-0.00850"; None: not settled yet.
    """

    status: str = "in-progress"
    twiml: str = ""
    price: str | None = None
    price_unit: str = "USD"
    recordings: list[str] = attrs.field(factory=list)
    changed: trio.Event = attrs.field(factory=trio.Event, repr=False)


@attrs.frozen
class RESTFault:
    """The answer to the next requests, instead of carrying them out.

    Args:
        status: HTTP status of the answer.
        code: Twilio's error code, in the body.
        message: the text beside the code.
        raw: a raw answer that is sent instead; if empty, the connection is ended.
        hang: do not answer at all.
        after: carry out the request first.
        retry_after: the header ``Retry-After`` of the answer; empty: none.
    """

    status: int = 500
    code: int = 20500
    message: str = "Internal Server Error"
    raw: bytes | None = None
    hang: bool = False
    after: bool = False
    retry_after: str = ""


class TwilioRESTServer:
    """The server: ``calls`` by SID, ``requests`` received, and ``left``, when clients left without an answer.

    ``numbers`` has each number of the account with its fields as Twilio names them in JSON. ``clock_ahead`` are the
    seconds by which the server's clock is ahead of this machine's.
    """

    def __init__(self, account_sid: str, auth_token: str, calls: Iterable[str]) -> None:
        self._account_sid = account_sid
        self._authorization = "Basic " + base64.b64encode(f"{account_sid}:{auth_token}".encode()).decode()
        self.api_url: str = ""
        self.calls: dict[str, RESTCall] = {sid: RESTCall() for sid in calls}
        self.numbers: dict[str, dict[str, str | None]] = {}
        self.requests: list[RESTRequest] = []
        self.left: list[float] = []
        self.connections: int = 0
        self.fault: RESTFault | None = None
        self.clock_ahead: float = 0.0

    def __repr__(self) -> str:
        return f"<TwilioRESTServer {self.api_url}, {len(self.requests)} requests>"

    async def handle(self, stream: trio.abc.Stream) -> None:
        """Serve one connection to its end."""
        self.connections += 1
        async with stream:
            try:
                http = h11.Connection(h11.SERVER)
                while (request := await _read(http, stream)) is not None:
                    self.requests.append(request)
                    if not await self._watched(request, http, stream):
                        return
                    http.start_next_cycle()
            # The client has left, or does not speak HTTP.
            except (trio.BrokenResourceError, trio.ClosedResourceError, h11.ProtocolError):
                return

    async def _watched(self, request: RESTRequest, http: h11.Connection, stream: trio.abc.Stream) -> bool:
        """Answer unless the client leaves first; return True if the connection continues."""
        # ``after`` obeys first: the request was carried out though its answer never came, and the client cannot know.
        if self.fault is not None and self.fault.hang:
            if self.fault.after:
                self._obey(request)
            # Without a deadline: the client's own is what such a test is about.
            await stream.receive_some(1)
            self.left.append(trio.current_time())
            return False
        if self.fault is not None and self.fault.raw is not None:
            if self.fault.after:
                self._obey(request)
            await stream.send_all(self.fault.raw)
            return False
        status, body = self._answer(request)
        content = json.dumps(body).encode()
        # As every server on the web: a client compares its clock with it.
        date = format_datetime(datetime.now(UTC) + timedelta(seconds=self.clock_ahead), usegmt=True)
        headers = [("Content-Type", "application/json"), ("Content-Length", str(len(content))), ("Date", date)]
        if self.fault is not None and self.fault.retry_after:
            headers.append(("Retry-After", self.fault.retry_after))
        # Through h11, unlike in the other fakes: it then knows when the next request may begin on the same connection.
        head = h11.Response(status_code=status, headers=headers, reason=b"Reason")
        parts = [http.send(head), http.send(h11.Data(data=content)), http.send(h11.EndOfMessage())]
        await stream.send_all(b"".join(part for part in parts if part))
        return http.our_state is h11.DONE and http.their_state is h11.DONE

    def _answer(self, request: RESTRequest) -> tuple[int, dict[str, Any]]:
        fault = self.fault
        if fault is not None:
            if fault.after:
                self._obey(request)
            return _refusal(fault.status, fault.code, fault.message)
        return self._obey(request)

    def _obey(self, request: RESTRequest) -> tuple[int, dict[str, Any]]:
        # Who asks, about which call, how, and only then what: the first thing that is wrong is the one reported.
        if request.headers.get("authorization") != self._authorization:
            return _refusal(401, 20003, "Authentication Error - invalid username")
        target = urlsplit(request.target)
        prefix, suffix = f"/2010-04-01/Accounts/{self._account_sid}/", ".json"
        path = target.path.removeprefix(prefix).removesuffix(suffix)
        if not target.path.startswith(prefix) or not target.path.endswith(suffix):
            return _missing(request)
        if request.body and request.headers.get("content-type", "").partition(";")[0] != _FORM:
            return _refusal(415, 20415, "Unsupported media type")
        match [request.method, *path.split("/")]:
            case ["POST", "Calls"]:
                return self._dial(request)
            case ["POST", "Calls", sid] if unquote(sid) in self.calls:
                return self._update(self.calls[unquote(sid)], unquote(sid), request.fields)
            case ["GET", "Calls", sid] if unquote(sid) in self.calls:
                return 200, self._call(unquote(sid))
            case ["POST", "Calls", sid, "Recordings"] if unquote(sid) in self.calls:
                return self._record(self.calls[unquote(sid)], unquote(sid), request.fields)
            case ["GET", "IncomingPhoneNumbers"]:
                wanted = parse_qs(target.query).get("PhoneNumber", [""])[0]
                # Twilio finds every number that contains the text.
                found = [fields for number, fields in self.numbers.items() if wanted in number]
                return 200, {"incoming_phone_numbers": found, "page": 0}
            case ["POST", "IncomingPhoneNumbers", sid]:
                return self._point(unquote(sid), request)
            case [_, "Calls", sid] if unquote(sid) in self.calls:
                return _refusal(405, 20004, "Method not allowed")
        return _missing(request)

    def _dial(self, request: RESTRequest) -> tuple[int, dict[str, Any]]:
        fields = request.fields
        unknown = sorted(fields.keys() - _DIAL_FIELDS)
        if unknown:
            return _refusal(400, 20001, f"Unknown parameters: {', '.join(unknown)}")
        # 21205, 21211 and 21212 are the vendor's codes for a URL and for numbers that are not valid.
        for name, code, prefix in (("To", 21211, "+"), ("From", 21212, "+"), ("Url", 21205, "http")):
            if not fields.get(name, "").startswith(prefix):
                return _refusal(400, code, f"{name} is not valid: {fields.get(name)}")
        # In the form of Twilio's SIDs, which clients check.
        sid = f"CA{len(self.calls) + 1:032x}"
        self.calls[sid] = RESTCall("queued")
        return 201, self._call(sid) | {"to": fields["To"], "from": fields["From"], "direction": "outbound-api"}

    def _call(self, sid: str) -> dict[str, Any]:
        call = self.calls[sid]
        return {
            "sid": sid,
            "account_sid": self._account_sid,
            "status": call.status,
            "direction": "inbound",
            "price": call.price,
            "price_unit": call.price_unit,
        }

    def _record(self, call: RESTCall, sid: str, fields: Mapping[str, str]) -> tuple[int, dict[str, Any]]:
        if call.status != "in-progress":
            return _refusal(400, 21220, "Requested resource is not eligible for recording")
        recording = f"RE{len(call.recordings) + 1:032x}"
        call.recordings.append(recording)
        return 201, {
            "sid": recording,
            "call_sid": sid,
            "account_sid": self._account_sid,
            "status": "in-progress",
            "channels": 2 if fields.get("RecordingChannels") == "dual" else 1,
        }

    def _point(self, sid: str, request: RESTRequest) -> tuple[int, dict[str, Any]]:
        for fields in self.numbers.values():
            if fields["sid"] == sid:
                # Twilio's fields in a form are those in JSON, in camel case; an empty value unsets one.
                names = {name: re.sub(r"(?<!^)(?=[A-Z])", "_", name).lower() for name in request.fields}
                fields.update({names[name]: value or None for name, value in request.fields.items()})
                return 200, dict(fields)
        return _missing(request)

    def _update(self, call: RESTCall, sid: str, fields: Mapping[str, str]) -> tuple[int, dict[str, Any]]:
        if call.status not in LIVE_STATUSES:
            return _refusal(400, 21220, "Call is not in-progress. Cannot redirect.")
        # Stricter than the vendor, which lets one update carry several fields: ours has
        # exactly one, so more is a mistake.
        unknown = sorted(fields.keys() - {"Twiml", "Status", "Url", "Method"})
        if unknown or len(fields) != 1:
            return _refusal(400, 20001, f"Give one of Twiml, Status and Url, not {', '.join(fields) or 'nothing'}")
        if "Twiml" in fields:
            try:
                root = ET.fromstring(fields["Twiml"].encode())  # noqa: S314 (the client under test wrote it)
            # 12100 is the vendor's code for XML that cannot be read, 12200 for XML that is not TwiML.
            except ET.ParseError as error:
                return _refusal(400, 12100, f"Document parse failure: {error}")
            if root.tag != "Response":
                return _refusal(400, 12200, "Schema validation warning")
            call.twiml = fields["Twiml"]
        elif fields.get("Status") in ("completed", "canceled"):
            # ``completed`` hangs up; ``canceled`` is for a call that is queued or ringing.
            call.status = fields["Status"]
        else:
            return _refusal(400, 21218, "Invalid status or URL")
        call.changed.set()
        return 200, self._call(sid)


@asynccontextmanager
async def serve_twilio_rest(
    account_sid: str, auth_token: str, *, calls: Iterable[str] = ()
) -> AsyncIterator[TwilioRESTServer]:
    """Serve on a free port of loopback while the block runs.

    Args:
        account_sid: the account.
        auth_token: the account's secret.
        calls: the SIDs of the account's live calls.
    """
    server = TwilioRESTServer(account_sid, auth_token, calls)
    async with on_loopback(server.handle) as port:
        server.api_url = f"http://127.0.0.1:{port}"
        yield server


def _missing(request: RESTRequest) -> tuple[int, dict[str, Any]]:
    return _refusal(404, 20404, f"The requested resource {request.target} was not found")


def _refusal(status: int, code: int, message: str) -> tuple[int, dict[str, Any]]:
    more = f"https://www.twilio.com/docs/errors/{code}"
    return status, {"code": code, "message": message, "more_info": more, "status": status}


async def _read(http: h11.Connection, stream: trio.abc.Stream) -> RESTRequest | None:
    """Return the next request, or None if the client sends no more."""
    request = await read_request(http, stream)
    if request is None:
        return None
    head, body = request
    headers = {name.decode("latin-1").lower(): value.decode("latin-1") for name, value in head.headers}
    # Strict, so that a malformed form fails the test instead of being an update of
    # nothing. Empty bodies are let through.
    form = parse_qs(body.decode(), keep_blank_values=True, strict_parsing=bool(body))
    fields = {name: values[-1] for name, values in form.items()}
    method, target = head.method.decode("latin-1"), head.target.decode("latin-1")
    return RESTRequest(method, target, headers, body.decode(), fields)
