"""Webhooks of carriers: the request that a carrier signs, and the closed set of what it may report."""

import hashlib
from collections.abc import Mapping, Sequence
from functools import cached_property
from typing import Final, Literal
from urllib.parse import parse_qs, parse_qsl, urlsplit

import attrs

from patter_trio.abc._call_info import CallInfo
from patter_trio.errors import WireError

# As ``parse_qs`` returns it: a field may occur twice.
Form = Mapping[str, str | Sequence[str]]
"""Fields of a form. A field that occurs more than once has a sequence of values."""

WebhookKind = Literal["voice", "status", "recording", "amd", "transfer", "return", "stream"]
"""What a webhook is about, by its route: a call, its status, its recording, an answering machine, a document that tells
the carrier how a live call continues, a call whose stream is over and that asks how it continues, or the media stream
itself, whose upgrade some carriers sign."""

# Judged: Twilio sends about thirty. Parsing comes before the check of the signature, which covers the parsed fields.
MAX_FORM_FIELDS: Final = 500
"""Largest accepted number of fields in a form; it bounds the work of parsing an unsigned request."""
# Judged: a name in Chinese has ten; 64 KiB of nothing else would take 6 ms, in which all calls wait.
MAX_FORM_ESCAPES: Final = 4096
"""Largest accepted number of escapes in a form, counted by their percent signs; it bounds the same work."""
# Judged: 64 bits tell the streams of a call apart. The carrier signs the URL that has them, so nobody can choose one.
STREAM_REFERENCE_DIGITS: Final = 16
"""Length of a reference of a stream, in hexadecimal digits."""
FORM_TYPE: Final = "application/x-www-form-urlencoded"


@attrs.frozen
class CarrierRequest:
    """A request of a carrier, as it was received.

    Attributes:
        kind: which of our routes it came to.
        url: the public URL that the carrier called, with its query; never made from the ``Host`` header.
        headers: the headers; names in lower case. A header that occurs twice has its values joined with commas.
        body: the body, unparsed: some signatures cover its bytes.
        method: the HTTP method.
        received_at: Unix time in seconds, for signatures that are valid only for a while.
    """

    kind: WebhookKind
    url: str = attrs.field(repr=False)
    headers: Mapping[str, str] = attrs.field(factory=dict, repr=False)
    body: bytes = attrs.field(default=b"", repr=False)
    method: str = "POST"
    received_at: float = 0.0

    @property
    def content_type(self) -> str:
        """The type of the body, without parameters, in lower case; a form if the request does not say."""
        return self.headers.get("content-type", FORM_TYPE).partition(";")[0].strip().lower()

    @property
    def is_form(self) -> bool:
        """True if the body is a form."""
        return self.content_type == FORM_TYPE

    @cached_property
    def form(self) -> Form:
        """The fields of the form in the body; empty if the body is something else.

        Raises:
            WireError: the form is not valid UTF-8, or has too many fields or escapes.
        """
        if not self.is_form:
            return {}
        if self.body.count(b"%") > MAX_FORM_ESCAPES:
            raise WireError(f"the form must have at most {MAX_FORM_ESCAPES} escapes")
        try:
            # Strict: a replacement character would change the value, and with it what the signature covers.
            return parse_qs(self.body.decode(), keep_blank_values=True, errors="strict", max_num_fields=MAX_FORM_FIELDS)
        # ``ValueError`` is all that parsing raises: bad UTF-8, bad escapes, too many fields.
        except ValueError:
            raise WireError("the form must be valid") from None

    def field(self, name: str) -> str:
        """Return the first value of a field of the form, or an empty string: a second value is not the carrier's.

        Raises:
            WireError: the form is not valid.
        """
        value = self.form.get(name, "")
        return value if isinstance(value, str) else value[0] if value else ""

    @cached_property
    def query(self) -> Mapping[str, str]:
        """The parameters in the URL's query; of a repeated one, the last value."""
        return dict(parse_qsl(urlsplit(self.url).query, keep_blank_values=True))


# What a carrier reports. ---------------------------------------------------------------------------------------------
# ``dial`` is our own reference of a call that we placed (DialRequest.reference): a webhook may overtake the answer to
# the request that placed the call, and then the carrier's id is not known yet.


@attrs.frozen
class CallOffered:
    """A call that waits for our answer: a caller rings, or somebody has answered a call that we placed.

    Attributes:
        info: the facts about the call; ``custom_params`` holds what the carrier itself delivers with it.
        dial: our reference, if we placed the call; else empty.
    """

    info: CallInfo
    dial: str = ""


@attrs.frozen
class CallRinging:
    """A call that we placed rings at the other end."""

    call_id: str
    dial: str = ""


@attrs.frozen
class CallStatus:
    """The end of a call as the carrier reports it; it may come twice, and before other reports about the call.

    Attributes:
        call_id: the carrier's id of the call.
        outcome: our word for the carrier's status: ``caller_hung_up`` (it was completed), ``no_answer``, ``busy``,
            ``failed``, ``cancelled``, ``rejected``.
        dial: our reference, if we placed the call; else empty.
        cost_usd: what the carrier charges for the call, in US dollars; None: it does not say.
    """

    call_id: str
    outcome: str
    dial: str = ""
    cost_usd: float | None = None


AnsweredBy = Literal["human", "machine", "fax", "unknown", "screening"]


@attrs.frozen
class MachineDetected:
    """The carrier's finding about who has answered a call that we placed.

    Attributes:
        answered_by: who; ``screening`` is an assistant that asks who is calling.
        greeting_ended: True if a machine's greeting is over, so that a message can be left now.
    """

    call_id: str
    answered_by: AnsweredBy
    greeting_ended: bool = False
    dial: str = ""


@attrs.frozen
class RecordingSaved:
    """A recording that the carrier has made of a call.

    ``seconds`` is None if the carrier does not say how long it is.
    """

    call_id: str
    recording_id: str
    url: str
    seconds: float | None = None


@attrs.frozen
class StreamFailed:
    """The carrier could not open, or has lost, the media stream of a call."""

    call_id: str
    reason: str


@attrs.frozen
class CostReported:
    """The price of a call that is over, as the carrier charges it, in US dollars."""

    call_id: str
    cost_usd: float


@attrs.frozen
class DocumentWanted:
    """A request for the document to which a live call was redirected; see :meth:`~patter_trio.abc.Carrier.redirect`.

    Attributes:
        call_id: the carrier's id of the call that asks.
        reference: our reference of the document, unguessable; in the query of its URL as ``document``.
    """

    call_id: str
    reference: str = attrs.field(repr=False)


def stream_reference(token: str) -> str:
    """Return our reference of the stream that brings this token.

    A carrier that asks how a call continues puts it into the URL of the webhook ``return``, as ``stream``.
    """
    # A hash: the URL of a webhook is written into more logs than the document that has the token.
    return hashlib.sha256(token.encode(errors="replace")).hexdigest()[:STREAM_REFERENCE_DIGITS]


@attrs.frozen
class CallReturned:
    """A call that asks how it continues, because its media stream is over, or a transfer of it.

    Attributes:
        call_id: the carrier's id of the call.
        stream: the reference of the stream that is over, from the URL of the webhook (:func:`stream_reference`). A
            report about any other stream than the call's present one is repeated or late, and changes nothing.
        is_over: True if the caller has hung up, so that nobody hears what follows.
        is_unreached: True if the call was transferred, and the other party did not answer.
    """

    call_id: str
    stream: str = ""
    is_over: bool = False
    is_unreached: bool = False


@attrs.frozen
class PartyReached:
    """The party to which a call was transferred has answered; ``call_id`` is that of the call."""

    call_id: str


@attrs.frozen
class PartyUnreached:
    """The party to which a call was transferred did not answer, and the call goes on in silence."""

    call_id: str


# Closed: a carrier translates whatever it sends into these.
CarrierReport = (
    CallOffered
    | CallRinging
    | CallStatus
    | MachineDetected
    | RecordingSaved
    | StreamFailed
    | CostReported
    | DocumentWanted
    | CallReturned
    | PartyReached
    | PartyUnreached
)
