"""A scripted server of Plivo's REST interface, on loopback.

::

    async with serve_plivo_rest("MA1", "secret", calls=["a7bd..."]) as server:
        carrier = Plivo("MA1", "secret", api_url=server.api_url)

It checks credentials and fields, and refuses as the vendor does: with an error in JSON. Written from
plivo.com/docs/voice/api/calls and plivo.com/docs/numbers.
"""

import base64
import json
import re
import uuid
from collections.abc import AsyncIterator, Iterable, Mapping
from contextlib import asynccontextmanager
from typing import Any, Final
from urllib.parse import parse_qsl, unquote, urlsplit

import attrs
import h11
import trio

from patter_trio.testing.servers.loopback import on_loopback, read_request

API_ID: Final = "97ceeb52-58b6-11e1-86da-77300b68f8bb"
"""The id that each answer has; the vendor's differs from answer to answer."""
_URLS: Final = ("answer_url", "ring_url", "hangup_url", "aleg_url", "callback_url", "machine_detection_url")
_METHODS: Final = tuple(name.replace("_url", "_method") for name in _URLS)
# What the vendor documents for each request; ours sends nothing else, so more is a mistake.
_DIAL_FIELDS: Final = frozenset(
    (*_URLS, *_METHODS, "from", "to", "ring_timeout", "time_limit", "machine_detection", "machine_detection_time")
)
_RECORD_FIELDS: Final = frozenset(
    ("file_format", "time_limit", "callback_url", "callback_method", "record_channel_type")
)
_APPLICATION_FIELDS: Final = frozenset(("app_name", "answer_url", "answer_method", "hangup_url", "hangup_method"))

Answer = tuple[int, dict[str, Any] | None]


@attrs.frozen
class PlivoRESTRequest:
    """A received request: ``path`` is what follows the account, ``fields`` its JSON or its query."""

    method: str
    target: str
    path: str
    headers: dict[str, str] = attrs.field(repr=False)
    fields: dict[str, Any]


@attrs.define
class PlivoRESTCall:
    """A call as Plivo has it; ``url`` is where its new XML is, ``changed`` is set when the call is changed."""

    live: bool = True
    url: str = ""
    recording: dict[str, Any] | None = None
    total_amount: str = "0.00850"
    changed: trio.Event = attrs.field(factory=trio.Event, repr=False)


@attrs.frozen
class PlivoRESTFault:
    """The answer to the next requests, instead of carrying them out; ``raw`` is sent as it is, empty ends the line."""

    status: int = 500
    error: Any = "internal server error"
    raw: bytes | None = None
    hang: bool = False
    headers: tuple[tuple[str, str], ...] = ()


class PlivoRESTServer:
    """The server: ``calls`` by UUID, ``placed`` by request UUID, ``numbers`` with applications' ids, ``requests``.

    The first call that is placed sets ``dialled``.
    """

    def __init__(self, auth_id: str, auth_token: str, calls: Iterable[str], numbers: Mapping[str, str]) -> None:
        self._prefix = f"/v1/Account/{auth_id}/"
        self._authorization = "Basic " + base64.b64encode(f"{auth_id}:{auth_token}".encode()).decode()
        self.api_url: str = ""
        self.calls: dict[str, PlivoRESTCall] = {call: PlivoRESTCall() for call in calls}
        self.placed: dict[str, dict[str, Any]] = {}
        self.dialled: trio.Event = trio.Event()
        self.numbers: dict[str, str] = dict(numbers)
        self.applications: dict[str, dict[str, Any]] = {}
        self.requests: list[PlivoRESTRequest] = []
        self.fault: PlivoRESTFault | None = None

    def __repr__(self) -> str:
        return f"<PlivoRESTServer {self.api_url}, {len(self.requests)} requests>"

    async def handle(self, stream: trio.abc.Stream) -> None:
        """Serve one connection, which has one request."""
        async with stream:
            try:
                http = h11.Connection(h11.SERVER)
                received = await read_request(http, stream)
                if received is None:
                    return
                request = self._read(*received)
                self.requests.append(request)
                fault = self.fault
                if fault is not None and fault.hang:
                    # Without a deadline: the client's own is what such a test is about.
                    await stream.receive_some(1)
                    return
                if fault is not None and fault.raw is not None:
                    await stream.send_all(fault.raw)
                    return
                status, body = self._answer(request) if fault is None else _refusal(fault.status, fault.error)
                content = b"" if body is None else json.dumps(body).encode()
                headers = [("Content-Type", "application/json"), *(fault.headers if fault else ())]
                if body is not None:
                    headers.append(("Content-Length", str(len(content))))
                head = h11.Response(status_code=status, headers=headers, reason=b"Reason")
                parts = [http.send(head), http.send(h11.Data(data=content)), http.send(h11.EndOfMessage())]
                await stream.send_all(b"".join(part for part in parts if part))
            # The client has left, or does not speak HTTP.
            except (trio.BrokenResourceError, trio.ClosedResourceError, h11.ProtocolError):
                return

    def _read(self, head: h11.Request, body: bytes) -> PlivoRESTRequest:
        headers = {name.decode("latin-1").lower(): value.decode("latin-1") for name, value in head.headers}
        target = head.target.decode("latin-1")
        parts = urlsplit(target)
        # Strict: a body that is not a JSON object fails the test, instead of being an empty one.
        fields = json.loads(body) if body else dict(parse_qsl(parts.query, strict_parsing=bool(parts.query)))
        return PlivoRESTRequest(
            head.method.decode("latin-1"), target, parts.path.removeprefix(self._prefix), headers, dict(fields)
        )

    def _answer(self, request: PlivoRESTRequest) -> Answer:
        # Who asks, about what, and only then what: the first thing that is wrong is the one reported.
        if request.headers.get("authorization") != self._authorization:
            return _refusal(401, "authentication failed")
        if not request.target.startswith(self._prefix):
            return _refusal(404, "not found")
        if request.method == "POST" and request.headers.get("content-type") != "application/json":
            return _refusal(415, "content type must be application/json")
        match request.method, [unquote(part) for part in request.path.split("/")]:
            case "POST", ["Call", ""]:
                return self._dial(request.fields)
            case method, ["Call", call, ""]:
                return self._call(method, call, request.fields)
            case "POST", ["Call", call, "Record", ""]:
                return self._record(call, request.fields)
            case "DELETE", ["Request", placed, ""]:
                return (204, None) if self.placed.pop(placed, None) else _refusal(404, "not found")
            case method, ["Number", *rest]:
                return self._number(method, rest, request.fields)
            case method, ["Application", *rest]:
                return self._application(method, rest, request.fields)
        return _refusal(404, "not found")

    def _dial(self, fields: dict[str, Any]) -> Answer:
        missing = sorted({"from", "to", "answer_url"} - fields.keys())
        if missing:
            return _refusal(400, f"{missing[0]} parameter not present")
        if unknown := sorted(fields.keys() - _DIAL_FIELDS):
            return _refusal(400, f"{unknown[0]} is not a parameter")
        if fields["from"] not in self.numbers:
            return _refusal(400, "from parameter is invalid. The number is not associated with your account")
        if not re.fullmatch("[0-9]{7,15}", str(fields["to"])):
            return _refusal(400, "to parameter is invalid")
        # Not random, so that a test's requests are the same in each run.
        request_id = str(uuid.uuid5(uuid.NAMESPACE_URL, f"request {len(self.placed)}"))
        self.placed[request_id] = fields
        # Behind the entry: a test that waits for it looks into ``placed``.
        self.dialled.set()
        return 201, {"message": "call fired", "request_uuid": request_id, "api_id": API_ID}

    def _call(self, method: str, call_id: str, fields: dict[str, Any]) -> Answer:
        call = self.calls.get(call_id)
        # A live call has no record yet, and one that is over takes no commands.
        if call is None or call.live is (method == "GET"):
            return _refusal(404, "not found")
        if method == "GET":
            return 200, {"call_uuid": call_id, "total_amount": call.total_amount, "api_id": API_ID}
        if method == "DELETE":
            call.live = False
            call.changed.set()
            return 204, None
        if fields.keys() != {"legs", "aleg_url", "aleg_method"} or fields["legs"] != "aleg":
            return _refusal(400, "aleg_url must be given for the leg aleg")
        call.url = fields["aleg_url"]
        call.changed.set()
        return 202, {"message": "call transferred", "call_uuids": [call_id], "api_id": API_ID}

    def _record(self, call_id: str, fields: dict[str, Any]) -> Answer:
        call = self.calls.get(call_id)
        if call is None or not call.live:
            return _refusal(404, "not found")
        if unknown := sorted(fields.keys() - _RECORD_FIELDS):
            return _refusal(400, f"{unknown[0]} is not a parameter")
        call.recording = fields
        recording = f"recording-of-{call_id}"
        url = f"https://media.plivo.com/{recording}.{fields.get('file_format', 'mp3')}"
        return 202, {"message": "call recording started", "recording_id": recording, "url": url, "api_id": API_ID}

    def _number(self, method: str, rest: list[str], fields: dict[str, Any]) -> Answer:
        if method == "GET" and rest == [""]:
            begin = fields.get("number_startswith", "")
            found = [self._entry(number) for number in sorted(self.numbers) if number.startswith(begin)]
            # A page of the vendor's has at most 20.
            return 200, {"api_id": API_ID, "meta": {"total_count": len(found)}, "objects": found[:20]}
        if method == "POST" and len(rest) == 2 and rest[0] in self.numbers:  # noqa: PLR2004 (the number and the end)
            if fields.get("app_id") not in self.applications:
                return _refusal(400, "app_id is invalid")
            self.numbers[rest[0]] = fields["app_id"]
            return 202, {"message": "changed", "api_id": API_ID}
        return _refusal(404, "not found")

    def _entry(self, number: str) -> dict[str, Any]:
        app_id = self.numbers[number]
        return {"number": number, "application": f"{self._prefix}Application/{app_id}/" if app_id else None}

    def _application(self, method: str, rest: list[str], fields: dict[str, Any]) -> Answer:
        if method == "POST" and (unknown := sorted(fields.keys() - _APPLICATION_FIELDS)):
            return _refusal(400, f"{unknown[0]} is not a parameter")
        match method, rest:
            case "GET", [""]:
                named = [app for app in self.applications.values() if app["app_name"] == fields.get("app_name")]
                return 200, {"api_id": API_ID, "meta": {"total_count": len(named)}, "objects": named}
            case "POST", [""]:
                if any(app["app_name"] == fields.get("app_name") for app in self.applications.values()):
                    return _refusal(400, "app_name already exists")
                # Seventeen digits, like the vendor's, which a float does not hold exactly.
                app_id = str(20_000_000_000_000_000 + len(self.applications))
                self.applications[app_id] = {"app_id": app_id, **fields}
                return 201, {"message": "created", "app_id": app_id, "api_id": API_ID}
            case "GET", [app_id, ""] if app_id in self.applications:
                return 200, {**self.applications[app_id], "api_id": API_ID}
            case "POST", [app_id, ""] if app_id in self.applications:
                self.applications[app_id] |= fields
                return 202, {"message": "changed", "api_id": API_ID}
        return _refusal(404, "not found")


@asynccontextmanager
async def serve_plivo_rest(
    auth_id: str, auth_token: str, *, calls: Iterable[str] = (), numbers: Mapping[str, str] | None = None
) -> AsyncIterator[PlivoRESTServer]:
    """Serve on a free port of loopback while the block runs.

    Args:
        auth_id: the account.
        auth_token: the account's secret.
        calls: the UUIDs of the account's live calls.
        numbers: the account's numbers, without plus, each with the id of its application or an empty string.
    """
    server = PlivoRESTServer(auth_id, auth_token, calls, numbers or {})
    async with on_loopback(server.handle) as port:
        server.api_url = f"http://127.0.0.1:{port}"
        yield server


def _refusal(status: int, error: Any) -> Answer:
    return status, {"api_id": API_ID, "error": error}
