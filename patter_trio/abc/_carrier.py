"""Carriers: how they announce a call, how the server answers, and what they do with it on request."""

from abc import ABC, abstractmethod
from collections.abc import Mapping
from types import MappingProxyType
from typing import ClassVar, Final, NoReturn

from patter_trio.abc._call_info import CallInfo
from patter_trio.abc._dialling import Dialled, DialRequest, MachineDetection, NumberSetup
from patter_trio.abc._streams import StreamCodec
from patter_trio.abc._webhooks import CarrierReport, CarrierRequest, WebhookKind, stream_reference
from patter_trio.errors import ConfigurationError

# Judged: six rings. Twilio's default is 30 s (twilio.com/docs/voice/twiml/dial), after which most mailboxes have
# answered.
RING_TIMEOUT_S: Final = 25
"""Seconds for which the party to which a call is transferred may ring, at a carrier that gives the call back then."""


class Carrier(ABC):
    """A telephone company whose webhooks announce calls and whose media streams carry them.

    Callbacks receive ``name`` as ``telephony_provider``. ``protocol`` is part of the routes. ``content_type`` is the
    type of the answers that ``connect`` and ``reject`` return.

    What a carrier does on request (``dial``, ``transfer`` ...) raises:

    * :class:`~patter_trio.errors.CallEnded` if the call is over,
    * :class:`~patter_trio.errors.AuthenticationError` or :class:`~patter_trio.errors.RateLimitError`,
    * :class:`~patter_trio.errors.ProviderTimeout` if it is unknown whether the carrier did it,
    * :class:`~patter_trio.errors.ProviderError` if the carrier did not do it,
    * :class:`~patter_trio.errors.ConfigurationError` if this carrier cannot do it.
    """

    # Class variables: they are facts about the protocol, not about an account.
    name: ClassVar[str]
    protocol: ClassVar[str]
    content_type: ClassVar[str]
    acts_on_request: ClassVar[bool] = False
    """True if the answer to a webhook says nothing to the carrier, which follows requests: :meth:`pick_up` and
    :meth:`decline`."""

    takes_back: ClassVar[bool] = False
    """True if the carrier gives a transferred call back whose party does not answer. Then :meth:`transfer` and
    :meth:`transfer_document` also get ``public_url``, the server's, for the webhooks that say what became of it."""

    ends_with_stream: ClassVar[bool] = True
    """True if the end of a call's stream ends the call; False: it goes on until :meth:`hang_up`."""

    streams_from_pages: ClassVar[bool] = False
    """True if pages of the server open the media streams: the upgrade must then come from such a page, and that of any
    other carrier from no page at all."""

    machine_detection: ClassVar[MachineDetection] = ""
    """What the carrier can find out about who answers a call that it places: nothing; who; or also when a machine's
    greeting has ended. What it cannot, we find out by the sound of the line."""

    def path_of(self, kind: WebhookKind) -> str:
        """Return the path of a webhook; of ``stream``, the prefix of the media streams' paths."""
        return self.media_prefix if kind == "stream" else f"/webhooks/{self.protocol}/{kind}"

    def return_path(self, parameters: Mapping[str, str]) -> str:
        """Return the path and query of the webhook ``return`` for the stream that brings back ``parameters``."""
        # The stream's, because the carrier may repeat the webhook when the call has another one.
        return f"{self.path_of('return')}?stream={stream_reference(parameters.get('token', ''))}"

    @property
    def api_url(self) -> str:
        """URL of the carrier's REST API; empty: it has none."""
        return ""

    @property
    def voice_path(self) -> str:
        """Path of the webhook that announces calls."""
        return self.path_of("voice")

    @property
    def status_path(self) -> str:
        """Path of the webhook that reports changes of a call's status."""
        return self.path_of("status")

    @property
    def media_prefix(self) -> str:
        """Prefix of the media streams' paths; the call's id follows it."""
        # The id is part of the path, so that a socket says which call it wants before anything is read.
        return f"/ws/{self.protocol}/stream/"

    # Webhooks ---------------------------------------------------------------------------------------------------------
    @abstractmethod
    def is_signed(self, request: CarrierRequest) -> bool:
        """Return True if the request claims to be the carrier's: it has a signature, right or wrong.

        Of the upgrade of a stream, whose token authenticates it in any case, a carrier whose way of signing is not
        known for certain counts a wrong signature as none: a request that is signed wrongly is refused.
        """

    @abstractmethod
    def is_authentic(self, request: CarrierRequest) -> bool:
        """Return True if the carrier signed this request; the comparison takes constant time.

        Raises:
            WireError: the body is not what the carrier sends.
        """

    @abstractmethod
    def read(self, request: CarrierRequest) -> CarrierReport | None:
        """Return what an authentic webhook reports; None for news that change nothing.

        Raises:
            WireError: a field is missing or has another form; the message names it.
        """

    @abstractmethod
    def connect(self, url: str, parameters: Mapping[str, str]) -> str:
        """Return the answer to :class:`~patter_trio.abc.CallOffered` that makes the carrier stream the call to ``url``.

        The stream's start brings back ``parameters``, among them the ``token``. Empty for a carrier that
        :meth:`pick_up` instructs.

        A carrier that can ask how a call continues when its stream is over asks :meth:`return_path` beside ``url``
        (:class:`~patter_trio.abc.CallReturned`). It gets the same answer, for another stream of the call, or
        :meth:`hang_up_document`.
        """

    @abstractmethod
    def reject(self) -> str:
        """Return the answer that tells the caller that the line is busy; empty: :meth:`decline` does so."""

    # Not abstract: most carriers do what the answer to their webhook says.
    async def pick_up(self, call: CallInfo, url: str, parameters: Mapping[str, str]) -> None:  # noqa: ARG002 (for carriers that can)
        """Answer a call whose webhook's answer could not, and stream it to ``url``; see :meth:`connect`."""
        return

    def hang_up_document(self) -> str:
        """Return the answer to :class:`~patter_trio.abc.CallReturned` that ends the call."""
        return ""

    async def reconnect(self, call: CallInfo, url: str, parameters: Mapping[str, str]) -> None:  # noqa: ARG002 (for carriers that can)
        """Stream a live call whose stream is lost to ``url``; see :meth:`connect`.

        For a carrier that does not ask how a call continues. Its :class:`~patter_trio.abc.StreamFailed` says that the
        stream could not be opened.
        """
        return

    async def decline(self, call: CallInfo) -> None:  # noqa: ARG002 (for carriers that can)
        """Let the caller hear busy, for a carrier to which :meth:`reject` says nothing."""
        return

    # Live calls -------------------------------------------------------------------------------------------------------
    async def transfer(self, call: CallInfo, to: str, public_url: str = "") -> None:  # noqa: ARG002 (for carriers that ask)
        """Connect the caller of a live call to ``to``, an E.164 number or a SIP address, which ends the call's stream.

        Return once the carrier has confirmed it. A carrier that fetches its instructions implements
        :meth:`transfer_document` and :meth:`redirect` in the place of this.
        """
        self._cannot(f"transfer calls: call {call.call_id} was not sent to {to}")

    def transfer_document(self, call: CallInfo, to: str, public_url: str = "") -> str:  # noqa: ARG002 (for carriers that fetch their instructions)
        """Return the document that makes the carrier connect a call to ``to``; empty: :meth:`transfer` says it all.

        The server publishes it for this call alone, for a minute, and gives its URL to :meth:`redirect`.
        """
        return ""

    async def redirect(self, call: CallInfo, url: str) -> None:  # noqa: ARG002 (for carriers that can)
        """Make a live call continue with the document at ``url``, which ends the call's stream.

        Return once the carrier has confirmed it; it may fetch the document only when the stream has ended. Its signed
        request to ``url`` is read as :class:`~patter_trio.abc.DocumentWanted`.
        """
        self._cannot(f"redirect calls: call {call.call_id} goes on")

    async def hang_up(self, call_id: str, request_id: str = "") -> None:
        """End a call, also while it rings.

        Args:
            call_id: the carrier's id of the call; empty: it is not known yet.
            request_id: see :class:`~patter_trio.abc.Dialled`.
        """
        self._cannot(f"hang up by request: call {call_id or request_id}")

    async def send_digits(self, call: CallInfo, digits: str) -> bool:  # noqa: ARG002 (for carriers that can)
        """Send DTMF digits to the other side; return False if this carrier does so only within the stream."""
        return False

    async def start_recording(self, call: CallInfo, callback_url: str) -> str:  # noqa: ARG002 (for carriers that can)
        """Record both sides of a live call, in two channels; return the recording's id, or an empty string.

        The carrier reports :class:`~patter_trio.abc.RecordingSaved` to ``callback_url``.
        """
        self._cannot(f"record calls: call {call.call_id}")

    async def cost(self, call_id: str) -> float | None:  # noqa: ARG002 (for carriers that tell on request)
        """Return what the carrier charges for a call that is over, in US dollars; None: it does not say, or not yet."""
        return None

    # Calls that we place ----------------------------------------------------------------------------------------------
    async def dial(self, request: DialRequest) -> Dialled:
        """Place a call; return as soon as the carrier has accepted the request.

        It is never repeated: a call may ring.
        """
        self._cannot(f"place calls: {request.to} was not called")

    # Numbers ----------------------------------------------------------------------------------------------------------
    async def number_setup(self, number: str) -> NumberSetup:
        """Return where a number of the account sends its calls.

        Raises:
            ProvisionError: the account does not have the number.
        """
        self._cannot(f"look up numbers: {number}")

    async def point_number(self, number: str, voice_url: str, status_url: str) -> NumberSetup:  # noqa: ARG002 (for carriers that can)
        """Make a number send its calls to these webhooks; return the new setup.

        Raises:
            ProvisionError: the account does not have the number, or the carrier refuses.
        """
        self._cannot(f"set up numbers: {number}")

    # Media streams ----------------------------------------------------------------------------------------------------
    # One codec per stream: it has the stream's id.
    @abstractmethod
    def new_codec(self, headers: Mapping[str, str] = MappingProxyType({})) -> StreamCodec:
        """Return a codec for one media stream.

        Args:
            headers: the headers of its upgrade, names in lower case; some carriers return the token in one.
        """

    def _cannot(self, what: str) -> NoReturn:
        raise ConfigurationError(f"{type(self).__name__} cannot {what}")
