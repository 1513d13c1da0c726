"""Twilio: webhooks answered in TwiML, signed with the account's Auth Token or a shared key.

* Webhook and answer: https://www.twilio.com/docs/voice/twiml
* Stream: https://www.twilio.com/docs/voice/twiml/stream
* Signature: ``carriers/twilio_signature.py``

A stream's URL must not have a query; values that must come back go into ``<Parameter>``. When either side has
closed the stream, Twilio asks the ``action`` of ``<Connect>`` how the call continues: a call that has lost its stream
gets another one, and a call that is over is hung up. So a hang-up of a connected call needs no request. A transfer
does: it gives the call other TwiML, which ends the stream (``carriers/twilio_rest.py``).
"""

import hashlib
import hmac
import logging
from collections.abc import Mapping
from types import MappingProxyType
from typing import ClassVar, Final, Literal
from urllib.parse import parse_qs, urlsplit
from xml.sax.saxutils import escape, quoteattr

import attrs

from patter_trio.abc import (
    CallInfo,
    CarrierReport,
    CarrierRequest,
    Form,
    MachineDetection,
)
from patter_trio.abc._carrier import RING_TIMEOUT_S
from patter_trio.carriers.account import AccountCarrier
from patter_trio.carriers.twilio_reports import read_report
from patter_trio.carriers.twilio_rest import API_URL, TwilioREST, checked_api_url
from patter_trio.carriers.twilio_signature import (
    SETTINGS_HEADER,
    SIGNATURE_HEADER,
    checked_shared_keys,
    key_named,
    sign,
    signed,
)
from patter_trio.phone_numbers import is_number
from patter_trio.providers.credentials import credential, previous_secret
from patter_trio.providers.other_names import other_names
from patter_trio.wire.twilio import TwilioCodec

_log = logging.getLogger("patter_trio.carriers")
_XML_DECLARATION: Final = '<?xml version="1.0" encoding="UTF-8"?>\n'


def _account_sid(given: str) -> str:
    # In a converter: a missing credential is an error when the carrier is made, not at the first call.
    sid = credential(given, owner="Twilio", argument="account_sid", variable="TWILIO_ACCOUNT_SID", in_header=False)
    # Most often an API key (SK...) or a call's id in its place; each request would fail, the first one in a call. A
    # warning, because what stands in for Twilio in a test may be less strict.
    if not sid.startswith("AC"):
        _log.warning("Twilio's account_sid must begin with AC, as the console shows it: requests to Twilio will fail")
    return sid


def _auth_token(given: str) -> str:
    return credential(given, owner="Twilio", argument="auth_token", variable="TWILIO_AUTH_TOKEN", in_header=False)


@other_names()
@attrs.frozen
class Twilio(AccountCarrier):
    """A Twilio account; missing credentials are taken from the environment.

    Args:
        account_sid: the account; default: ``TWILIO_ACCOUNT_SID``.
        auth_token: its secret; default: ``TWILIO_AUTH_TOKEN``.
        api_url: URL of the REST API, if it is not in the usual region.
        previous_auth_token: the Auth Token before or after the present one, which signs webhooks as well while the
            account changes its token. Requests to Twilio use ``auth_token``.
        shared_keys: secrets of the shared keys that sign the account's webhooks, each by its id
            (``webhooks_sharedkey_...``); two while a key is changed. With them, the Auth Token signs no webhook.
        accept_auth_token: True: with ``shared_keys``, the Auth Token signs webhooks as well, while an account changes
            to shared keys.

    Raises:
        ConfigurationError: a credential is neither given nor in the environment, or ``api_url`` or ``shared_keys`` is
            not valid.
    """

    name: ClassVar[str] = "twilio"
    protocol: ClassVar[str] = "twilio"
    content_type: ClassVar[str] = "text/xml; charset=utf-8"
    machine_detection: ClassVar[MachineDetection] = "greeting_end"
    takes_back: ClassVar[bool] = True

    account_sid: str = attrs.field(default="", converter=_account_sid)
    auth_token: str = attrs.field(default="", repr=False, converter=_auth_token)
    api_url: str = attrs.field(default=API_URL, converter=checked_api_url, kw_only=True)
    previous_auth_token: str = attrs.field(default="", repr=False, converter=previous_secret, kw_only=True)
    shared_keys: Mapping[str, str] = attrs.field(
        default=MappingProxyType({}), repr=False, hash=False, converter=checked_shared_keys, kw_only=True
    )
    accept_auth_token: bool = attrs.field(default=False, kw_only=True)

    def is_signed(self, request: CarrierRequest) -> bool:
        """Return True if the request has Twilio's signature header, right or wrong."""
        return SIGNATURE_HEADER in request.headers

    def is_authentic(self, request: CarrierRequest) -> bool:
        """Return True if Twilio signed this request; see :meth:`check`.

        Raises:
            WireError: the body is a form that is not valid.
        """
        # JSON is checked as it was sent. Twilio signs the hash of the body; a body that was parsed and written again
        # would have another.
        params: Form | bytes = request.form if request.is_form else request.body
        signature = request.headers.get(SIGNATURE_HEADER, "")
        settings = request.headers.get(SETTINGS_HEADER)
        if settings is None:
            # A forger leaves the header out: whether the Auth Token is enough is for the configuration to say.
            return (not self.shared_keys or self.accept_auth_token) and self.check(request.url, params, signature)
        secret = self.shared_keys.get(key_named(settings))
        return (
            secret is not None
            and self._covers_body(request.url, params)
            and signed((secret,), request.url, params, signature, "sha256")
        )

    def check(self, url: str, params: Form | bytes, signature: str) -> bool:
        """Return True if Twilio signed this request with the Auth Token; the comparison takes constant time.

        Twilio may have signed the URL with or without its port, without the user in front of the host, and a
        WebSocket's URL with a slash at its end, so all variants are tried. A body that is not a form is covered by its
        hash in the URL's query.
        """
        tokens = [token for token in (self.auth_token, self.previous_auth_token) if token]
        return self._covers_body(url, params) and signed(tokens, url, params, signature, "sha1")

    @staticmethod
    def _covers_body(url: str, params: Form | bytes) -> bool:
        # An empty body has no hash: such requests are signed like a form without fields.
        if not isinstance(params, bytes) or not params:
            return True
        given = parse_qs(urlsplit(url).query).get("bodySHA256", [""])[0]
        # The hash is in the signed URL, so it is genuine if the signature is.
        return hmac.compare_digest(hashlib.sha256(params).hexdigest().encode(), given.lower().encode())

    def sign(self, url: str, params: Form | bytes) -> str:
        """Return Twilio's signature: HMAC-SHA1 of the URL and all sorted fields, in base64.

        Its key is the Auth Token.
        """
        # SHA-1, because Twilio signs so. HMAC does not depend on what SHA-1 is weak at.
        return sign(self.auth_token, url, params, "sha1")

    def read(self, request: CarrierRequest) -> CarrierReport | None:
        """Return what a webhook of Twilio reports; None for news that change nothing.

        Raises:
            WireError: the form is not valid, or has no valid CallSid.
        """
        return read_report(request, request.query.get("dial", ""))

    def connect(self, url: str, parameters: Mapping[str, str]) -> str:
        """Return :meth:`twiml_stream`; Twilio reports a stream that fails to the webhook for the call's status."""
        # Derived: the stream's URL is that of the server, with our own path behind it.
        server, found, _ = url.partition(self.media_prefix)
        if not found:
            return self.twiml_stream(url, parameters)
        public_url = "http" + server.removeprefix("ws")
        status, action = public_url + self.status_path, public_url + self.return_path(parameters)
        return self.twiml_stream(url, parameters, status_callback=status, action=action)

    def reject(self) -> str:
        """Return :meth:`twiml_reject`."""
        return self.twiml_reject()

    def hang_up_document(self) -> str:
        """Return TwiML that ends the call."""
        return f"{_XML_DECLARATION}<Response><Hangup/></Response>"

    def twiml_stream(
        self, url: str, parameters: Mapping[str, str], *, status_callback: str = "", action: str = ""
    ) -> str:
        """Return TwiML that streams the call's audio both ways.

        The parameters come back at the stream's start. Twilio reports the stream's failure to ``status_callback``, and
        asks ``action`` how the call continues when the stream is over; without one, it hangs up.
        """
        # Quoted: a value with a quotation mark would end the attribute.
        inner = "".join(
            f"<Parameter name={quoteattr(name)} value={quoteattr(value)}/>" for name, value in parameters.items()
        )
        callback = f" statusCallback={quoteattr(status_callback)}" if status_callback else ""
        asked = f" action={quoteattr(action)}" if action else ""
        return (
            f"{_XML_DECLARATION}<Response><Connect{asked}><Stream url={quoteattr(url)}{callback}>{inner}</Stream>"
            f"</Connect></Response>"
        )

    def twiml_reject(self, reason: Literal["busy", "rejected"] = "busy") -> str:
        """Return TwiML that refuses the call; nobody is charged for it."""
        return f'{_XML_DECLARATION}<Response><Reject reason="{escape(reason)}"/></Response>'

    def twiml_dial(self, call: CallInfo, to: str, public_url: str = "") -> str:
        """Return TwiML that connects the caller to ``to``.

        The called party sees the caller's number: Twilio's default for an inbound call. For an outbound call it must be
        set, to the number that we called from. After the conversation, or if nobody answers, no verb follows, and the
        call ends; with ``public_url``, Twilio asks the server there how it continues, and reports an answer to it.
        """
        # A caller without a number, such as a SIP address, cannot be shown to others.
        outbound = call.direction == "outbound" and is_number(call.caller)
        shown = f" callerId={quoteattr(call.caller)}" if outbound else ""
        # SIP addresses have an element of their own.
        element = "Number" if is_number(to) else "Sip"
        told = ""
        if public_url:
            shown += f' timeout="{RING_TIMEOUT_S}" action={quoteattr(public_url + self.path_of("return"))}'
            told = f' statusCallbackEvent="answered" statusCallback={quoteattr(public_url + self.status_path)}'
        target = f"<{element}{told}>{escape(to)}</{element}>" if told or element == "Sip" else escape(to)
        return f"{_XML_DECLARATION}<Response><Dial{shown}>{target}</Dial></Response>"

    async def transfer(self, call: CallInfo, to: str, public_url: str = "") -> None:
        """Make the live call continue with :meth:`twiml_dial`; errors are those of :meth:`TwilioREST.update_call`."""
        await self._rest.update_call(call.call_id, {"Twiml": self.twiml_dial(call, to, public_url)})

    async def hang_up(self, call_id: str, request_id: str = "") -> None:  # noqa: ARG002 (all calls have ids)
        """End a call in any state; ``canceled``, Twilio's other word, ends one only before it is answered."""
        await self._rest.update_call(call_id, {"Status": "completed"})

    @property
    def _rest(self) -> TwilioREST:
        return TwilioREST(self.account_sid, self.auth_token, self.api_url)

    def new_codec(self, headers: Mapping[str, str] = MappingProxyType({})) -> TwilioCodec:  # noqa: ARG002 (for others)
        """Return a codec for one media stream; Twilio returns the token in the start message, not in ``headers``."""
        return TwilioCodec()
