"""Telnyx Call Control: webhooks in JSON, signed with Ed25519, and answered by requests to the REST API.

* Webhooks: https://developers.telnyx.com/docs/voice/programmable-voice/receiving-webhooks
* Stream: https://developers.telnyx.com/docs/voice/programmable-voice/media-streaming
* Commands: https://developers.telnyx.com/api-reference/call-commands

The answer to a webhook says nothing to Telnyx: a call is answered, refused and ended by a command
(``carriers/telnyx_rest.py``). The end of a stream does not end its call, which stays up in silence: a call that has
lost its stream gets another one by a command. TeXML is another product of Telnyx.
"""

import logging
import os
from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Any, ClassVar

import attrs

from patter_trio.abc import (
    CallInfo,
    Carrier,
    CarrierReport,
    CarrierRequest,
    Dialled,
    DialRequest,
    MachineDetection,
    NumberSetup,
)
from patter_trio.abc._carrier import RING_TIMEOUT_S
from patter_trio.carriers.telnyx_reports import read_report
from patter_trio.carriers.telnyx_rest import (
    API_URL,
    TelnyxREST,
    answer_body,
    checked_api_url,
    command_id,
    reconnect_body,
    streaming_body,
)
from patter_trio.carriers.telnyx_signature import SIGNATURE_HEADER, WebhookKey
from patter_trio.errors import CallEnded, ConfigurationError, ProviderError
from patter_trio.phone_numbers import is_number
from patter_trio.providers.credentials import credential, previous_secret
from patter_trio.wire.telnyx import TOKEN_HEADER, TelnyxCodec, encode_state

_log = logging.getLogger("patter_trio.carriers")


def _api_key(given: str) -> str:
    return credential(given, owner="Telnyx", argument="api_key", variable="TELNYX_API_KEY")


def _public_key(given: str) -> str:
    return credential(given, owner="Telnyx", argument="public_key", variable="TELNYX_PUBLIC_KEY")


def _connection_id(given: str) -> str:
    # Not required: only calls that we place need it.
    return given or os.environ.get("TELNYX_CONNECTION_ID", "")


@attrs.frozen
class Telnyx(Carrier):
    """A Telnyx account; missing credentials are taken from the environment.

    Args:
        api_key: the key for requests; default: ``TELNYX_API_KEY``.
        public_key: the account's public key, which checks the signatures of webhooks; default: ``TELNYX_PUBLIC_KEY``.
        connection_id: the id of the Call Control application that places calls; default: ``TELNYX_CONNECTION_ID``.
            Without it, the account only takes calls.
        api_url: URL of the REST API, if it is not the usual one.
        previous_public_key: the public key before or after the present one, which checks webhooks as well while the
            account changes its key.

    Raises:
        ConfigurationError: ``api_key`` or ``public_key`` is neither given nor in the environment, or is not valid, or
            ``api_url`` or ``previous_public_key`` is not valid.
        MissingExtraError: the extra ``telnyx`` is not installed.
    """

    name: ClassVar[str] = "telnyx"
    protocol: ClassVar[str] = "telnyx"
    content_type: ClassVar[str] = "application/json"
    acts_on_request: ClassVar[bool] = True
    takes_back: ClassVar[bool] = True
    ends_with_stream: ClassVar[bool] = False
    machine_detection: ClassVar[MachineDetection] = "greeting_end"

    api_key: str = attrs.field(default="", repr=False, converter=_api_key)
    public_key: str = attrs.field(default="", converter=_public_key)
    connection_id: str = attrs.field(default="", converter=_connection_id)
    api_url: str = attrs.field(default=API_URL, converter=checked_api_url, kw_only=True)
    previous_public_key: str = attrs.field(default="", converter=previous_secret, kw_only=True)
    _keys: Sequence[WebhookKey] = attrs.field(init=False, repr=False, eq=False)

    # Once, when the carrier is made: a key that is not valid is then an error before the first call.
    @_keys.default
    def _read_keys(self) -> Sequence[WebhookKey]:
        given = {"public_key": self.public_key, "previous_public_key": self.previous_public_key}
        return [WebhookKey.read(text, argument) for argument, text in given.items() if text]

    # Webhooks ---------------------------------------------------------------------------------------------------------
    def is_signed(self, request: CarrierRequest) -> bool:
        """Return True if the request has Telnyx's signature header, right or wrong; an upgrade is never signed."""
        # Telnyx does not sign the upgrades of streams: what proves one is the one-time token.
        return request.kind != "stream" and SIGNATURE_HEADER in request.headers

    def is_authentic(self, request: CarrierRequest) -> bool:
        """Return True if Telnyx signed the request's body, within the 300 s before it was received, or after."""
        return any(key.signed(request.headers, request.body, request.received_at) for key in self._keys)

    def read(self, request: CarrierRequest) -> CarrierReport | None:
        """Return what an event reports; None for news that change nothing.

        Raises:
            WireError: the body is not an event of Telnyx, or an id is missing or has another form.
        """
        return read_report(request.body)

    def connect(self, url: str, parameters: Mapping[str, str]) -> str:  # noqa: ARG002 (of the interface)
        """Return an empty answer: :meth:`pick_up` answers the call."""
        return ""

    def reject(self) -> str:
        """Return an empty answer: :meth:`decline` refuses the call."""
        return ""

    async def pick_up(self, call: CallInfo, url: str, parameters: Mapping[str, str]) -> None:
        """Answer a caller, or take up a call that somebody has answered, and stream it to ``url``."""
        token = parameters.get("token", "")
        if call.direction == "inbound":
            await self._rest.command(call.call_id, "answer", answer_body(url, token))
        else:
            await self._rest.command(call.call_id, "streaming_start", streaming_body(url, token))

    async def reconnect(self, call: CallInfo, url: str, parameters: Mapping[str, str]) -> None:
        """Stream a call that has lost its stream to ``url``: a call may have one, so the old one is stopped first."""
        token = parameters.get("token", "")
        try:
            await self._rest.command(call.call_id, "streaming_stop", {})
        except CallEnded:
            raise
        except ProviderError as error:
            # Telnyx refuses to stop what it has given up itself.
            _log.debug("call %s: streaming_stop: %s", call.call_id, error)
        await self._rest.command(call.call_id, "streaming_start", reconnect_body(url, token))

    async def decline(self, call: CallInfo) -> None:
        """Let a caller hear busy; hang up on somebody who has answered a call of ours."""
        if call.direction == "inbound":
            body = {"cause": "USER_BUSY", "command_id": command_id("reject")}
            await self._rest.command(call.call_id, "reject", body)
        else:
            await self._rest.hang_up(call.call_id)

    # Live calls -------------------------------------------------------------------------------------------------------
    async def transfer(self, call: CallInfo, to: str, public_url: str = "") -> None:
        """Connect the caller of a live call to ``to``.

        The called party sees the caller's number, which Telnyx allows because of ``diversion``, the number that the
        call came to. For a call that we placed, it sees the number that we called from.
        """
        body: dict[str, Any] = {"to": to, "command_id": command_id("transfer", to)}
        if public_url:
            # In each webhook about the leg of the other party: whether it answers, and whose party it is.
            body |= {"timeout_secs": RING_TIMEOUT_S, "target_leg_client_state": encode_state(transfer=call.call_id)}
        # A caller without a number, such as a SIP address, cannot be shown: Telnyx then shows the number of ours.
        if is_number(call.caller):
            body["from"] = call.caller
            if call.direction == "inbound" and is_number(call.callee):
                body["diversion"] = call.callee
        await self._rest.command(call.call_id, "transfer", body)

    async def hang_up(self, call_id: str, request_id: str = "") -> None:  # noqa: ARG002 (of the interface)
        """End a call, also while it rings; one that is over already is a success."""
        await self._rest.hang_up(call_id)

    async def send_digits(self, call: CallInfo, digits: str) -> bool:
        """Send DTMF digits to the other side; ``w`` waits for half a second, ``W`` for a second."""
        # Without a command id: the same digits may be meant twice.
        await self._rest.command(call.call_id, "send_dtmf", {"digits": digits})
        return True

    async def start_recording(self, call: CallInfo, callback_url: str) -> str:  # noqa: ARG002 (see below)
        """Record both sides of a live call, in two channels of a WAV; return an empty string: Telnyx gives no id.

        Telnyx reports the recording to the webhook of the call, and to no other URL.
        """
        body = {
            "channels": "dual",
            "format": "wav",
            # The report does not name the call by its id.
            "client_state": encode_state(call=call.call_id),
            "command_id": command_id("record_start"),
        }
        await self._rest.command(call.call_id, "record_start", body)
        return ""

    # Calls that we place ----------------------------------------------------------------------------------------------
    async def dial(self, request: DialRequest) -> Dialled:
        """Place a call through the Call Control application."""
        if not self.connection_id:
            raise ConfigurationError(
                "Telnyx: connection_id= must be given, or the environment variable TELNYX_CONNECTION_ID set, to place "
                "calls: it is the id of the Call Control application"
            )
        return await self._rest.dial(request, self.connection_id)

    # Numbers ----------------------------------------------------------------------------------------------------------
    async def number_setup(self, number: str) -> NumberSetup:
        """Return where a number sends its calls: to the webhook of the Call Control application that it belongs to.

        Raises:
            ProvisionError: the account does not have the number.
        """
        return await self._rest.number_setup(number)

    async def point_number(self, number: str, voice_url: str, status_url: str) -> NumberSetup:  # noqa: ARG002 (see below)
        """Make the application that a number belongs to send its webhooks, all of them, to ``voice_url``.

        The other numbers of the application send their calls there, too.

        Raises:
            ProvisionError: the account does not have the number, or it belongs to no Call Control application, or
                Telnyx refuses.
        """
        return await self._rest.point_number(number, voice_url)

    # Media streams ----------------------------------------------------------------------------------------------------
    def new_codec(self, headers: Mapping[str, str] = MappingProxyType({})) -> TelnyxCodec:
        """Return a codec for one media stream; the token is in ``headers``, or in the stream's first messages."""
        return TelnyxCodec(headers.get(TOKEN_HEADER, ""))

    @property
    def _rest(self) -> TelnyxREST:
        return TelnyxREST(self.api_key, self.api_url)
