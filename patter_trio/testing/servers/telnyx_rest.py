"""A stand-in for Telnyx's REST API, on loopback.

::

    async with serve_telnyx_rest("KEY", calls=["v3:one"]) as server:
        carrier = Telnyx("KEY", public_key, "7267", api_url=server.api_url)

It keeps a state for each call, checks the key and each field of a command, ignores a command that has come before, and
refuses as the vendor does: with a code, a title and a detail in JSON. Written from
https://developers.telnyx.com/api-reference/call-commands.
"""

from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import asynccontextmanager
from typing import Any, Final, Literal
from urllib.parse import parse_qs, unquote, urlsplit

import attrs

from patter_trio.testing.servers.carrier_rest import CarrierRESTServer, RESTRequest

_COMMON: Final = frozenset({"client_state", "command_id"})
_STREAM: Final = frozenset(
    {"stream_url", "stream_track", "stream_codec", "stream_bidirectional_mode", "stream_bidirectional_codec"}
)
# Stricter than the vendor, which ignores a field that it does not know: ours would then be without effect.
FIELDS: Final[dict[str, frozenset[str]]] = {
    "answer": _COMMON | _STREAM | {"stream_auth_token", "send_silence_when_idle"},
    "reject": _COMMON | {"cause"},
    "hangup": _COMMON,
    "transfer": _COMMON | {"to", "from", "diversion"},
    "send_dtmf": _COMMON | {"digits"},
    "record_start": _COMMON | {"channels", "format"},
    "streaming_start": _COMMON | _STREAM | {"stream_auth_token", "custom_parameters"},
}
"""The fields of each command that the carrier uses."""
_REQUIRED: Final[dict[str, frozenset[str]]] = {
    "reject": frozenset({"cause"}),
    "transfer": frozenset({"to"}),
    "send_dtmf": frozenset({"digits"}),
    "record_start": frozenset({"channels", "format"}),
}
_DIAL_FIELDS: Final = _COMMON | {
    *("connection_id", "to", "from", "webhook_url", "webhook_url_method", "timeout_secs", "time_limit_secs"),
    *("answering_machine_detection", "send_silence_when_idle"),
}
_APPLICATION_FIELDS: Final = frozenset({"application_name", "webhook_event_url", "webhook_api_version"})

State = Literal["parked", "dialled", "answered", "ended"]


@attrs.define
class TelnyxCall:
    """A call as Telnyx has it: its state, its client state, and the commands that were carried out."""

    state: State = "parked"
    client_state: str = ""
    commands: list[tuple[str, dict[str, Any]]] = attrs.field(factory=list)
    seen: set[str] = attrs.field(factory=set)
    """Ids of its commands."""

    def find(self, action: str) -> dict[str, Any]:
        """Return the body of the newest command of that name."""
        return [body for name, body in self.commands if name == action][-1]


OnCommand = Callable[[str, str, dict[str, Any]], None]
"""Function that is called with a call's id, the name of a command and its body when the command is carried out;
``dial`` is one, too. It returns at once."""


class TelnyxRESTServer(CarrierRESTServer):
    """The server: ``calls`` by id, ``numbers`` with the id of their connection, ``applications`` by id.

    Args:
        api_key: the account's key.
        calls: ids of calls that wait to be answered.
        on_command: called for each command that is carried out.
    """

    def __init__(self, api_key: str, calls: Iterable[str] = (), on_command: OnCommand | None = None) -> None:
        super().__init__()
        self._authorization = f"Bearer {api_key}"
        self._on_command = on_command or (lambda _, __, ___: None)
        self.calls: dict[str, TelnyxCall] = {call_id: TelnyxCall() for call_id in calls}
        self.numbers: dict[str, str] = {}
        self.applications: dict[str, dict[str, Any]] = {}

    def answer(self, request: RESTRequest) -> tuple[int, Any]:
        """Carry out a request."""
        parts = urlsplit(request.target)
        if request.headers.get("authorization") != self._authorization:
            return refusal(401, "10009", "Authentication failed", "The required authentication headers were invalid.")
        path = [unquote(part) for part in parts.path.strip("/").split("/")]
        match request.method, path:
            case "POST", ["calls"]:
                return self._dial(request.fields)
            case "POST", ["calls", call_id, "actions", action] if action in FIELDS:
                return self._command(call_id, action, request.fields)
            case "GET", ["phone_numbers"]:
                return self._numbers(parse_qs(parts.query).get("filter[phone_number]", [""])[0])
            case "GET" | "PATCH", ["call_control_applications", found] if found in self.applications:
                return self._application(found, request.fields)
        return refusal(404, "10005", "Resource not found", "The requested resource or URL could not be found.")

    def _dial(self, fields: dict[str, Any]) -> tuple[int, Any]:
        wrong = fields.keys() - _DIAL_FIELDS or {"connection_id", "to", "from"} - fields.keys()
        if wrong:
            return _bad_fields(wrong)
        # Telnyx's ids begin with the version, and have a colon, which a URL has to escape.
        call_id = f"v3:dialled{len(self.calls)}"
        self.calls[call_id] = TelnyxCall("dialled", fields.get("client_state", ""), [("dial", fields)])
        self._on_command(call_id, "dial", fields)
        data = {"record_type": "call", "call_control_id": call_id, "call_leg_id": "l", "call_session_id": "s"}
        return 200, {"data": {**data, "is_alive": False}}

    def _command(self, call_id: str, action: str, fields: dict[str, Any]) -> tuple[int, Any]:
        call = self.calls.get(call_id)
        if call is None:
            return refusal(404, "90015", "Invalid Call Control ID", "The call_control_id provided was not valid.")
        wrong = fields.keys() - FIELDS[action] or _REQUIRED.get(action, frozenset()) - fields.keys()
        if wrong:
            return _bad_fields(wrong)
        if call.state == "ended":
            return refusal(422, "90018", "Call has already ended", "This call is no longer active.")
        # Only what says how to answer may come before the answer.
        if call.state == "parked" and action not in ("answer", "reject", "hangup"):
            return refusal(422, "90034", "Call not answered yet", "This call can't receive this command.")
        command_id = fields.get("command_id", "")
        # Carried out once: a command is repeated if its answer was lost.
        if command_id and command_id in call.seen:
            return 200, {"data": {"result": "ok"}}
        call.seen.add(command_id)
        call.commands.append((action, fields))
        call.client_state = fields.get("client_state", call.client_state)
        if action == "answer":
            call.state = "answered"
        elif action in ("reject", "hangup"):
            call.state = "ended"
        self._on_command(call_id, action, fields)
        return 200, {"data": {"result": "ok"}}

    def _numbers(self, part: str) -> tuple[int, Any]:
        found = [
            {"id": number[1:], "phone_number": number, "connection_id": connection, "connection_name": "main"}
            for number, connection in self.numbers.items()
            # As documented: a part of three digits is enough, and anything but digits finds nothing.
            if part.isdigit() and part in number
        ]
        return 200, {"data": found, "meta": {"total_results": len(found)}}

    def _application(self, found: str, fields: dict[str, Any]) -> tuple[int, Any]:
        application = self.applications[found]
        if fields:
            # Both must be there, and must not be empty.
            given = {name for name, value in fields.items() if value}
            wrong = fields.keys() - _APPLICATION_FIELDS or {"application_name", "webhook_event_url"} - given
            if wrong:
                return _bad_fields(wrong)
            application.update(fields)
        return 200, {"data": {"id": found, "record_type": "call_control_application", **application}}


@asynccontextmanager
async def serve_telnyx_rest(
    api_key: str, *, calls: Iterable[str] = (), on_command: OnCommand | None = None
) -> AsyncIterator[TelnyxRESTServer]:
    """Serve on a free port of loopback while the block runs.

    Args:
        api_key: the account's key.
        calls: ids of calls that wait to be answered.
        on_command: called for each command that is carried out.
    """
    async with TelnyxRESTServer(api_key, calls, on_command).on_loopback() as server:
        yield server


def refusal(status: int, code: str, title: str, detail: str) -> tuple[int, Any]:
    """Return a refusal as Telnyx gives it."""
    return status, {"errors": [{"code": code, "title": title, "detail": detail, "meta": {}}]}


def _bad_fields(names: Iterable[str]) -> tuple[int, Any]:
    return refusal(422, "10015", "Bad Request", f"These fields are unknown or missing: {', '.join(sorted(names))}.")
