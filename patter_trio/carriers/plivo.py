"""Plivo: webhooks answered in Plivo's XML, signed with the account's Auth Token.

* Webhook and answer: https://www.plivo.com/docs/voice/xml/overview
* Stream: https://www.plivo.com/docs/voice-agents/audio-streaming/xml/stream
* Signature: https://www.plivo.com/docs/voice/concepts/signature-validation

With ``keepCallAlive`` Plivo goes on with the element behind ``<Stream>`` when either side has closed the stream. That
is a ``<Redirect>``, which asks how the call continues: a call that has lost its stream gets another one, and a call
that is over is hung up. So a hang-up needs no request. A transfer does, and Plivo fetches the new XML from a URL: see
:meth:`Plivo.transfer_document`.

Plivo signs the upgrade of a stream, too, but its own pages and packages differ in what the signed URL is. So a right
signature counts, and a wrong one counts as none: refusing it could lock out all calls of an account whose upgrades are
signed in a way that we do not know. What authenticates a stream in any case is the one-time token of its call.
"""

import base64
import hmac
import logging
import re
from collections.abc import Iterator, Mapping, Sequence
from types import MappingProxyType
from typing import ClassVar, Final, Literal
from urllib.parse import parse_qs
from xml.sax.saxutils import escape, quoteattr

import attrs

from patter_trio.abc import (
    CallInfo,
    CallOffered,
    CallReturned,
    CallRinging,
    CallStatus,
    CarrierReport,
    CarrierRequest,
    DocumentWanted,
    Form,
    MachineDetected,
    MachineDetection,
    PartyReached,
    RecordingSaved,
    StreamFailed,
)
from patter_trio.abc._carrier import RING_TIMEOUT_S
from patter_trio.carriers.account import AccountCarrier
from patter_trio.carriers.plivo_rest import API_URL, PlivoREST, amount, checked_api_url
from patter_trio.errors import ConfigurationError, WireError
from patter_trio.phone_numbers import is_number, shown_id
from patter_trio.providers.credentials import credential, previous_secret
from patter_trio.providers.other_names import other_names
from patter_trio.wire.plivo import ENCODING, SAMPLE_RATE_HZ, PlivoCodec

SIGNATURE_HEADER: Final = "x-plivo-signature-v3"
MAIN_ACCOUNT_SIGNATURE_HEADER: Final = "x-plivo-signature-ma-v3"
"""Header of the signature with the main account's token, for calls of a subaccount."""
NONCE_HEADER: Final = "x-plivo-signature-v3-nonce"
# Plivo's own form: a UUID. Names and values are joined without a separator before they are signed: without a form, a
# signature would also cover an id that swallows the field behind it.
_CALL_UUID: Final = re.compile("[0-9a-fA-F]{8}(-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}")
# https://www.plivo.com/docs/voice/xml/overview; all other statuses are not final. For us: "completed" of a call whose
# stream never came means that its caller hung up first.
_FINAL_STATUS: Final = {
    "completed": "caller_hung_up",
    "busy": "busy",
    "failed": "failed",
    "timeout": "no_answer",
    "no-answer": "no_answer",
    "cancel": "cancelled",
}
# https://www.plivo.com/docs/voice/troubleshooting/hangup-causes; more exact than the status "failed".
_FINAL_CAUSE: Final = {
    "1000": "cancelled",
    "3000": "no_answer",
    "3010": "busy",
    "3020": "rejected",
    "6010": "no_answer",
}
# Two schemes of names are in Plivo's pages.
_LOST_STREAM: Final = frozenset({"DroppedStream", "failed"})
_UNREACHED: Final = frozenset({"busy", "failed", "timeout", "no-answer", "cancel"})
_HIDDEN_CALLERS: Final = frozenset({"anonymous", "private", "restricted", "unavailable", "unknown"})
"""Names that carriers write in the place of a number that the caller withholds."""
_CUSTOM_HEADER: Final = re.compile("x-ph-(.+)", re.IGNORECASE)
# https://www.plivo.com/docs/voice-agents/audio-streaming/xml/stream: letters and digits, and 512 bytes.
_EXTRA_HEADER: Final = re.compile("[A-Za-z0-9]+")
MAX_EXTRA_HEADERS_BYTES: Final = 512
"""Largest size of all parameters of a stream together, in bytes."""
# The schemes with which the upgrade of a stream may have been signed: Plivo's pages say wss, its Python package http.
_UPGRADE_SCHEMES: Final = ("wss", "https", "ws", "http")
_log = logging.getLogger("patter_trio.carriers")
_XML_DECLARATION: Final = '<?xml version="1.0" encoding="UTF-8"?>\n'


def _auth_id(given: str) -> str:
    # In a converter: a missing credential is an error when the carrier is made, not at the first call.
    auth_id = credential(given, owner="Plivo", argument="auth_id", variable="PLIVO_AUTH_ID", in_header=False)
    # A warning, because what stands in for Plivo in a test may be less strict.
    if not auth_id.startswith(("MA", "SA")):
        _log.warning("Plivo's auth_id must begin with MA or SA, as the console shows it: requests to Plivo will fail")
    return auth_id


def _auth_token(given: str) -> str:
    return credential(given, owner="Plivo", argument="auth_token", variable="PLIVO_AUTH_TOKEN", in_header=False)


@other_names()
@attrs.frozen
class Plivo(AccountCarrier):
    """A Plivo account; missing credentials are taken from the environment.

    Args:
        auth_id: the account; default: ``PLIVO_AUTH_ID``.
        auth_token: its secret; default: ``PLIVO_AUTH_TOKEN``.
        api_url: URL of the REST API, if a stand-in takes its place.
        previous_auth_token: the Auth Token before or after the present one, which signs webhooks as well while the
            account changes its token. Requests to Plivo use ``auth_token``.

    Raises:
        ConfigurationError: a credential is neither given nor in the environment, or ``api_url`` is not valid.
    """

    name: ClassVar[str] = "plivo"
    protocol: ClassVar[str] = "plivo"
    content_type: ClassVar[str] = "text/xml; charset=utf-8"
    # Only the machine: nothing says when its greeting has ended.
    machine_detection: ClassVar[MachineDetection] = "answer"
    takes_back: ClassVar[bool] = True

    auth_id: str = attrs.field(default="", converter=_auth_id)
    auth_token: str = attrs.field(default="", repr=False, converter=_auth_token)
    api_url: str = attrs.field(default=API_URL, converter=checked_api_url, kw_only=True)
    previous_auth_token: str = attrs.field(default="", repr=False, converter=previous_secret, kw_only=True)

    # Webhooks ---------------------------------------------------------------------------------------------------------
    def is_signed(self, request: CarrierRequest) -> bool:
        """Return True if the request has a V3 signature, right or wrong; of a stream's upgrade, only if it is right."""
        if request.kind == "stream":
            # See the top of the file: a wrong one counts as none.
            return self.is_authentic(request)
        return any(header in request.headers for header in (SIGNATURE_HEADER, MAIN_ACCOUNT_SIGNATURE_HEADER))

    def is_authentic(self, request: CarrierRequest) -> bool:
        """Return True if Plivo signed this request; see :meth:`check`.

        Raises:
            WireError: the body is a form that is not valid.
        """
        # The signature covers the fields of a form, and no other body.
        if request.body and not request.is_form:
            return False
        given = [request.headers.get(header, "") for header in (SIGNATURE_HEADER, MAIN_ACCOUNT_SIGNATURE_HEADER)]
        signatures, nonce = ",".join(given), request.headers.get(NONCE_HEADER, "")
        urls = [request.url]
        if request.kind == "stream":
            urls = [f"{scheme}://{request.url.partition('://')[2]}" for scheme in _UPGRADE_SCHEMES]
        return any(self.check(request.method, url, request.form, nonce, signatures) for url in urls)

    def check(self, method: str, url: str, params: Form, nonce: str, signatures: str) -> bool:
        """Return True if one of the signatures, which commas separate, is Plivo's; the comparison takes constant time.

        While an account changes its Auth Token, Plivo signs with both, the old one and the new one.
        """
        # Without a nonce nothing was signed by V3.
        if not nonce:
            return False
        # ``replace``: a header with odd characters must be a wrong signature, not an exception.
        given = [signature.strip().encode(errors="replace") for signature in signatures.split(",")]
        tokens = [token for token in (self.auth_token, self.previous_auth_token) if token]
        ours = [_sign(token, method, url, params, nonce).encode() for token in tokens]
        # WARNING: all are compared, also after a match: the time must not tell which one it was.
        matches = [hmac.compare_digest(mine, theirs) for mine in ours for theirs in given]
        return any(matches)

    def sign(self, method: str, url: str, params: Form, nonce: str) -> str:
        """Return Plivo's signature, version 3: HMAC-SHA256 of the URL, all sorted fields and the nonce, in base64.

        Its key is the Auth Token. A query is signed decoded and sorted; the fields of a GET belong to it.
        """
        return _sign(self.auth_token, method, url, params, nonce)

    def read(self, request: CarrierRequest) -> CarrierReport | None:
        """Return what a webhook of Plivo reports; None for a status that is not final.

        Raises:
            WireError: the form is not valid, or announces a call without a valid CallUUID.
        """
        event, dial = request.field("Event"), request.query.get("dial", "")
        if request.kind == "transfer":
            return DocumentWanted(request.field("CallUUID"), request.query.get("document", ""))
        if request.kind == "return":
            return self._returned(request)
        # Of the call that a transfer dials; the other actions (connected, hangup, digits) change nothing.
        if action := request.field("DialAction"):
            return self._dialled(request) if action == "answer" else None
        # By what it says, not by its route: without a hangup_url of its own, an application reports ends to its
        # answer_url.
        if event == "Hangup" or request.field("CallStatus") in _FINAL_STATUS:
            return self._ended(request, dial)
        if request.kind == "voice":
            return CallOffered(self.offer(request.form), dial)
        call_id = request.field("CallUUID") or request.query.get("call", "")
        # Everything else is about a call that we know; news of another one change nothing.
        return self._reported(request, event, call_id, dial) if _CALL_UUID.fullmatch(call_id) else None

    @staticmethod
    def _reported(request: CarrierRequest, event: str, call_id: str, dial: str) -> CarrierReport | None:
        if request.field("RecordUrl"):
            url, recording_id = request.field("RecordUrl"), request.field("RecordingID")
            # -1 while the length is not known.
            length = amount(request.field("RecordingDuration"))
            return RecordingSaved(call_id, recording_id, url, length)
        if event == "Ring":
            return CallRinging(call_id, dial)
        if event == "MachineDetection":
            # Plivo reports only machines, as soon as it hears one, and never the end of a greeting.
            is_machine = request.field("Machine").lower() != "false"
            return MachineDetected(call_id, "machine" if is_machine else "human", dial=dial)
        if event in _LOST_STREAM and request.field("StreamID"):
            reason = request.field("StatusReason") or request.field("Error") or "the carrier lost the media stream"
            return StreamFailed(call_id, reason)
        return None

    def offer(self, params: Form) -> CallInfo:
        """Return the facts about the call that Plivo announces; a number that the caller withholds is empty.

        SIP headers ``X-PH-Name`` become parameters ``Name``.

        Raises:
            WireError: CallUUID is missing, or is not an id of Plivo's form.
        """
        # The first value of a field: a second one is not Plivo's.
        fields = {name: _values(value)[0] for name, value in params.items()}
        call_id = fields.get("CallUUID", "")
        if not call_id:
            raise WireError("the form must have CallUUID")
        if not _CALL_UUID.fullmatch(call_id):
            raise WireError(f"CallUUID must be a UUID, got {shown_id(call_id)}")
        headers = {match[1]: fields[match[0]] for match in map(_CUSTOM_HEADER.fullmatch, fields) if match}
        outbound = fields.get("Direction", "") == "outbound"
        caller, callee = (party(fields.get(name, "")) for name in ("From", "To"))
        return CallInfo(call_id, caller, callee, "outbound" if outbound else "inbound", headers)

    @staticmethod
    def _ended(request: CarrierRequest, dial: str) -> CallStatus | None:
        call_id = request.field("CallUUID")
        if not _CALL_UUID.fullmatch(call_id):
            return None
        outcome = _FINAL_STATUS.get(request.field("CallStatus"), "failed")
        if outcome == "failed":
            outcome = _FINAL_CAUSE.get(request.field("HangupCauseCode"), outcome)
        return CallStatus(call_id, outcome, dial, amount(request.field("TotalCost")))

    @staticmethod
    def _returned(request: CarrierRequest) -> CallReturned:
        call_id = request.field("CallUUID")
        if not _CALL_UUID.fullmatch(call_id):
            raise WireError(f"CallUUID must be a UUID, got {shown_id(call_id)}")
        # https://www.plivo.com/docs/voice/xml/dial: "completed" after a conversation, which ends the call as well.
        dialled = request.field("DialStatus")
        unreached = dialled in _UNREACHED
        is_over = request.field("CallStatus") in _FINAL_STATUS or bool(dialled and not unreached)
        return CallReturned(call_id, request.query.get("stream", ""), is_over, unreached)

    @staticmethod
    def _dialled(request: CarrierRequest) -> PartyReached | None:
        call_id = request.field("DialALegUUID") or request.field("CallUUID")
        return PartyReached(call_id) if _CALL_UUID.fullmatch(call_id) else None

    # Answers ----------------------------------------------------------------------------------------------------------
    def connect(self, url: str, parameters: Mapping[str, str]) -> str:
        """Return :meth:`xml_stream`."""
        return self.xml_stream(url, parameters)

    def reject(self) -> str:
        """Return :meth:`xml_hangup` with the busy tone."""
        return self.xml_hangup("busy")

    def hang_up_document(self) -> str:
        """Return XML that ends the call."""
        return f"{_XML_DECLARATION}<Response><Hangup/></Response>"

    def xml_stream(self, url: str, parameters: Mapping[str, str]) -> str:
        """Return XML that streams the call's audio both ways; the parameters come back at the stream's start.

        Plivo reports a stream that it cannot open, or loses, to the status webhook beside ``url``, and asks the webhook
        ``return`` how the call continues when the stream is over.

        Raises:
            ConfigurationError: a parameter has other characters than A-Z, a-z and 0-9, or all of them are too long.
        """
        for pair in parameters.items():
            if not all(map(_EXTRA_HEADER.fullmatch, pair)):
                raise ConfigurationError(f"Plivo: a parameter must have only letters and digits, got {pair[0]!r}")
        extra = ",".join(f"{name}={value}" for name, value in parameters.items())
        if len(extra) > MAX_EXTRA_HEADERS_BYTES:
            raise ConfigurationError(f"Plivo: parameters must have at most {MAX_EXTRA_HEADERS_BYTES} bytes together")
        server, found, _ = url.partition(self.media_prefix)
        public_url = f"http{server.removeprefix('ws')}"
        # The answer of ``return`` is the document behind the stream; without one, Plivo would hang up.
        then = escape(public_url + self.return_path(parameters))
        behind = f'<Redirect method="POST">{then}</Redirect>' if found else ""
        attributes = {
            "bidirectional": "true",
            # The stream alone: without it, Plivo goes on behind it at once.
            "keepCallAlive": "true",
            # Plivo's pages disagree about the default.
            "contentType": f"{ENCODING};rate={SAMPLE_RATE_HZ}",
            "statusCallbackUrl": public_url + self.status_path,
            "extraHeaders": extra,
        }
        inner = "".join(f" {name}={quoteattr(value)}" for name, value in attributes.items() if value)
        return f"{_XML_DECLARATION}<Response><Stream{inner}>{escape(url)}</Stream>{behind}</Response>"

    def xml_hangup(self, reason: Literal["busy", "rejected"] = "busy") -> str:
        """Return XML that refuses the call; the caller hears the tone of ``reason``."""
        return f'{_XML_DECLARATION}<Response><Hangup reason="{escape(reason)}"/></Response>'

    def xml_dial(self, call: CallInfo, to: str, public_url: str = "") -> str:
        """Return XML that connects the caller to ``to``.

        The called party sees the caller's number: Plivo's default for an inbound call. For an outbound call it is set,
        to the number that we called from. After the conversation, or if nobody answers, no element follows, and the
        call ends; with ``public_url``, Plivo asks the server there how it continues, and reports an answer to it.
        """
        # A caller without a number, such as a SIP address, cannot be shown to others.
        outbound = call.direction == "outbound" and is_number(call.caller)
        shown = f" callerId={quoteattr(call.caller)}" if outbound else ""
        # SIP addresses have an element of their own.
        target = f"<Number>{escape(to)}</Number>" if is_number(to) else f"<User>{escape(to)}</User>"
        if public_url:
            shown += f' timeout="{RING_TIMEOUT_S}" action={quoteattr(public_url + self.path_of("return"))}'
            shown += f" callbackUrl={quoteattr(public_url + self.status_path)}"
        return f"{_XML_DECLARATION}<Response><Dial{shown}>{target}</Dial></Response>"

    # Requests ---------------------------------------------------------------------------------------------------------
    def transfer_document(self, call: CallInfo, to: str, public_url: str = "") -> str:
        """Return :meth:`xml_dial`: Plivo fetches the XML of a transfer instead of taking it."""
        return self.xml_dial(call, to, public_url)

    async def redirect(self, call: CallInfo, url: str) -> None:
        """Make a live call continue with the XML at ``url``; Plivo fetches it when the call's stream has ended."""
        await self._rest.redirect(call.call_id, url)

    async def hang_up(self, call_id: str, request_id: str = "") -> None:
        """End a call, also while it rings, or before Plivo has given it an id."""
        await self._rest.hang_up(call_id, request_id)

    @property
    def _rest(self) -> PlivoREST:
        return PlivoREST(self.auth_id, self.auth_token, self.api_url)

    # Media streams ----------------------------------------------------------------------------------------------------
    def new_codec(self, headers: Mapping[str, str] = MappingProxyType({})) -> PlivoCodec:  # noqa: ARG002 (of the interface)
        """Return a codec for one media stream; Plivo returns the token in the start message, not in ``headers``."""
        return PlivoCodec()


def party(text: str) -> str:
    """Return a party of a call as we write it: Plivo leaves out the plus of E.164, and names a withheld number.

    SIP addresses and names of endpoints stay as they are; a withheld number is empty.
    """
    bare = text.strip()
    number = f"+{bare.removeprefix('+')}"
    return number if is_number(number) else "" if bare.lower() in _HIDDEN_CALLERS else bare


def _sign(token: str, method: str, url: str, params: Form, nonce: str) -> str:
    text = f"{_signed_text(method, url, params)}.{nonce}"
    return base64.b64encode(hmac.digest(token.encode(), text.encode(errors="replace"), "sha256")).decode()


def _signed_text(method: str, url: str, params: Form) -> str:
    """Return the text whose signature with a nonce is Plivo's, version 3."""
    whole, _, query = url.partition("#")[0].partition("?")
    asked: Form = parse_qs(query, keep_blank_values=True)
    is_get = method.upper() == "GET"
    if is_get:
        asked = {**params, **asked}
    sorted_query = "&".join(f"{name}={value}" for name, value in _sorted(asked))
    fields = "" if is_get else "".join(name + value for name, value in _sorted(params))
    # The question mark stays in front of fields without a query, and a point divides the two.
    if fields:
        return f"{whole}?{sorted_query}{'.' if sorted_query else ''}{fields}"
    return f"{whole}?{sorted_query}" if sorted_query else whole


def _sorted(params: Form) -> Iterator[tuple[str, str]]:
    for name in sorted(params):
        for value in sorted(_values(params[name])):
            yield name, value


def _values(value: str | Sequence[str]) -> Sequence[str]:
    return (value,) if isinstance(value, str) else value or ("",)
