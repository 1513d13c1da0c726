"""The parts of Telnyx's REST API that we use.

* https://developers.telnyx.com/api-reference/call-commands
* JSON in and out, with the account's API key. A refusal has a body ``{"errors": [{"code", "title", "detail"}]}``.
* A command names its call in the path. Telnyx ignores a second command with the same ``command_id`` for the same call,
  so each of ours has one that is made of what it asks for: a command that is asked for twice is carried out once.
* ``client_state`` comes back in each later webhook of the call, until a command sets another.
"""

import uuid
from collections.abc import Mapping
from contextlib import suppress
from typing import Any, Final
from urllib.parse import quote, urlencode

import attrs

from patter_trio.abc import Dialled, DialRequest, MachineDetection, NumberSetup
from patter_trio.carriers import rest
from patter_trio.carriers.rest import CarrierREST, Refusal
from patter_trio.errors import CallEnded, ProviderError, ProvisionError
from patter_trio.wire.telnyx import encode_state, is_call_id

API_URL: Final = "https://api.telnyx.com/v2"
# 90018 is in Telnyx's answer to a command for a call that has ended; 90015 ("Invalid Call Control ID") and 90016 are of
# its list of Call Control errors.
CALL_OVER_CODES: Final = frozenset({"90015", "90016", "90018"})
"""Codes of "the call has already ended", and of an id that is not, or no longer, that of a call."""
NOT_FOUND_STATUS: Final = 404
# What a stream of ours is, for each command that starts one. The default mode is MP3, and the default codec that of the
# call; our mu-law would then be lost without an error.
STREAM: Final = {
    "stream_track": "inbound_track",
    "stream_codec": "PCMU",
    "stream_bidirectional_mode": "rtp",
    "stream_bidirectional_codec": "PCMU",
}
# https://developers.telnyx.com/api-reference/call-commands/dial: the first also tells an assistant that asks who is
# calling, and waits only a few seconds for a greeting to end; the second reports the beep, however long the greeting
# is.
_MACHINE_DETECTION: Final[Mapping[MachineDetection, str]] = {
    "answer": "premium_ios_call_screening_detection",
    "greeting_end": "premium",
}
# The same page: timeout_secs and time_limit_secs.
RING_SECONDS: Final = (5, 600)
"""The shortest and the longest time that Telnyx lets a phone ring, in seconds."""
CALL_SECONDS: Final = (30, 14400)
"""The shortest and the longest time limit of a call, in seconds."""
# Without it, nothing is sent to the caller's network while the agent is silent, and a network may take that for a dead
# call. Not an option of ``streaming_start``: for a call that we place it belongs to the dial.
_WHILE_SILENT: Final = {"send_silence_when_idle": True}
_COMMAND_IDS: Final = uuid.UUID("5d0a4c0e-6f5b-4a53-9b7c-2f1e8f0a7d11")


def checked_api_url(url: str) -> str:
    """Return the address of Telnyx's REST API, or of a stand-in, without a trailing slash.

    Raises:
        ConfigurationError: ``url`` is not such an address.
    """
    return rest.checked_api_url(url, owner="Telnyx", usual=API_URL)


def read_refusal(status: int, said: Mapping[str, Any]) -> Refusal:
    """Return the reason in the body of one of Telnyx's refusals: the first of its errors."""
    errors = said.get("errors")
    first = errors[0] if isinstance(errors, list) and errors and isinstance(errors[0], dict) else {}
    # Documented as text; read as a number, too.
    code = str(first["code"]) if isinstance(first.get("code"), str | int) else ""
    texts = [text for text in (first.get("title"), first.get("detail")) if isinstance(text, str) and text]
    # A 404 with errors is Telnyx's; one without is that of a wrong ``api_url``.
    over = code in CALL_OVER_CODES or (status == NOT_FOUND_STATUS and bool(first))
    return Refusal(code, ": ".join(dict.fromkeys(texts)), call_is_over=over)


def command_id(*asked: str) -> str:
    """Return the id of a command, which is the same for the same command."""
    return str(uuid.uuid5(_COMMAND_IDS, "\0".join(asked)))


def answer_body(url: str, token: str) -> dict[str, Any]:
    """Return the body of ``answer``, which streams the call to ``url``.

    ``stream_auth_token`` comes back in the upgrade of the stream. Telnyx documents it for the other commands that start
    a stream and not for this one, so the token also goes into the client state, which comes back in the stream's start.
    """
    return {
        "stream_url": url,
        **STREAM,
        **_WHILE_SILENT,
        "stream_auth_token": token,
        "client_state": encode_state(token=token),
        "command_id": command_id("answer", token),
    }


def streaming_body(url: str, token: str) -> dict[str, Any]:
    """Return the body of ``streaming_start``, which streams an answered call to ``url``; its client state stays."""
    return {
        "stream_url": url,
        **STREAM,
        "stream_auth_token": token,
        "command_id": command_id("streaming_start", token),
    }


def reconnect_body(url: str, token: str) -> dict[str, Any]:
    """Return the body of ``streaming_start`` for a call that has lost its stream.

    The token also goes into the parameters: the call's client state has that of the first stream. There is no
    ``command_id``: Telnyx would ignore the second request of a wait, which has the same token.
    """
    custom = [{"name": "token", "value": token}]
    return {"stream_url": url, **STREAM, "stream_auth_token": token, "custom_parameters": custom}


def dial_body(request: DialRequest, connection_id: str) -> dict[str, Any]:
    """Return the body of a request to place a call. It has no stream: that begins when somebody has answered."""
    body: dict[str, Any] = {
        "connection_id": connection_id,
        "to": request.to,
        "from": request.from_number,
        "webhook_url": request.voice_url,
        "webhook_url_method": "POST",
        "timeout_secs": min(max(request.ring_timeout, RING_SECONDS[0]), RING_SECONDS[1]),
        **_WHILE_SILENT,
        "client_state": encode_state(dial=request.reference),
        "command_id": command_id("dial", request.reference),
    }
    if request.time_limit is not None:
        body["time_limit_secs"] = min(max(request.time_limit, CALL_SECONDS[0]), CALL_SECONDS[1])
    if request.machine_detection:
        body["answering_machine_detection"] = _MACHINE_DETECTION[request.machine_detection]
    return body


@attrs.frozen
class TelnyxREST:
    """The REST API of an account; errors are those of :class:`~patter_trio.carriers.rest.CarrierREST`."""

    api_key: str = attrs.field(repr=False)
    api_url: str = API_URL

    @property
    def _account(self) -> CarrierREST:
        return CarrierREST(self.api_url, f"Bearer {self.api_key}", read_refusal)

    async def command(self, call_id: str, action: str, body: Mapping[str, Any]) -> None:
        """Send a command about a call, such as ``answer``.

        Raises:
            CallEnded: the call is over, or Telnyx does not know its id.
        """
        # Quoted: an id with a slash would name another resource. The characters of an id stay, as in Telnyx's own
        # package.
        await self._account.command("POST", f"/calls/{quote(call_id, safe=':=+')}/actions/{action}", json=body)

    async def hang_up(self, call_id: str) -> None:
        """End a call; one that is over already is a success."""
        # A call that is over is what was asked for.
        with suppress(CallEnded):
            await self.command(call_id, "hangup", {"command_id": command_id("hangup")})

    async def dial(self, request: DialRequest, connection_id: str) -> Dialled:
        """Place a call; return its id."""
        said = await self._account.ask("POST", "/calls", json=dial_body(request, connection_id))
        call_id = _data(said).get("call_control_id")
        # Without an id, too: the call may ring, and its webhooks bring our reference and the id.
        return Dialled(call_id if isinstance(call_id, str) and is_call_id(call_id) else "")

    async def number_setup(self, number: str) -> NumberSetup:
        """Return where a number sends its calls.

        Raises:
            ProvisionError: the account does not have the number.
        """
        connection_id, name = await self._connection_of(number)
        if not connection_id:
            return NumberSetup(number, "", detail="the number belongs to no Call Control application")
        try:
            application = await self._application(connection_id)
        except CallEnded:  # the word of ``rest`` for 404
            return NumberSetup(
                number, "", detail=f"the number belongs to {name}, which is not a Call Control application"
            )
        return _setup(number, application)

    async def point_number(self, number: str, voice_url: str) -> NumberSetup:
        """Make the application that a number belongs to send all its webhooks to ``voice_url``.

        Raises:
            ProvisionError: the account does not have the number, or it belongs to no Call Control application.
        """
        connection_id, name = await self._connection_of(number)
        if not connection_id:
            raise ProvisionError(
                f"{number} belongs to no Call Control application: assign it to one in the portal, under Numbers"
            )
        try:
            application = await self._application(connection_id)
        except CallEnded as error:
            raise ProvisionError(
                f"{number} belongs to {name}, which is not a Call Control application: assign it to one in the portal"
            ) from error
        # The name is required. The version, because webhooks of version 1 have another form and signature.
        body = {
            "application_name": str(application.get("application_name") or ""),
            "webhook_event_url": voice_url,
            "webhook_api_version": "2",
        }
        path = f"/call_control_applications/{quote(connection_id, safe='')}"
        try:
            said = await self._account.ask("PATCH", path, json=body)
        except ProviderError as error:
            if type(error) is not ProviderError:
                raise
            raise ProvisionError(f"{number} was not pointed: {error}") from error
        return _setup(number, _data(said) or {**application, **body})

    async def _connection_of(self, number: str) -> tuple[str, str]:
        """Return the id and the name of the connection that a number of the account belongs to; empty: it has none."""
        # Without the plus, and compared below: the filter finds nothing with other characters, and parts of numbers.
        query = urlencode({"filter[phone_number]": number.removeprefix("+")})
        said = await self._account.ask("GET", f"/phone_numbers?{query}")
        found = said.get("data")
        for one in found if isinstance(found, list) else []:
            if isinstance(one, dict) and one.get("phone_number") == number:
                name = one.get("connection_name") or "another connection"
                return str(one.get("connection_id") or ""), str(name)
        raise ProvisionError(f"the account does not have the number {number}")

    async def _application(self, connection_id: str) -> dict[str, Any]:
        said = await self._account.ask(
            "GET", f"/call_control_applications/{quote(connection_id, safe='')}", of_call=True
        )
        return _data(said)


def _data(said: Mapping[str, Any]) -> dict[str, Any]:
    data = said.get("data")
    return data if isinstance(data, dict) else {}


def _setup(number: str, application: Mapping[str, Any]) -> NumberSetup:
    url = str(application.get("webhook_event_url") or "")
    name, found = application.get("application_name", ""), application.get("id", "")
    detail = f"Call Control application {name!r} ({found}), whose webhook is that of all its numbers"
    if str(application.get("webhook_api_version") or "2") != "2":
        detail += "; its webhooks are of version 1, which we do not read: set version 2"
    # One URL for everything that Telnyx reports.
    return NumberSetup(number, url, url, detail)
