"""The interface between a simulated line and one carrier's protocol: how a call is announced, and its messages."""

import contextlib
import math
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from types import MappingProxyType
from typing import Any, ClassVar, Final, Literal, Protocol, TypedDict
from urllib.parse import urlsplit

import attrs

from patter_trio.errors import PatterConnectionError

Direction = Literal["inbound", "outbound"]
# Twilio's limit (twilio.com/docs/usage/webhooks/webhooks-connection-overrides); the other two try again much sooner.
WEBHOOK_TIMEOUT_S: Final = 15.0
"""Seconds that a carrier waits for the answer of a webhook, and for its media socket."""


class CallRefused(PatterConnectionError):
    """The call was not set up; ``outcome`` is what the caller experiences."""

    def __init__(self, outcome: str, message: str) -> None:
        super().__init__(message)
        self.outcome = outcome


class BadMessage(Exception):
    """A message of the agent's server that the carrier would not accept; the text gives the reason."""


class BadAnswer(Exception):
    """An answer to a webhook, or a request, that the carrier cannot follow; the message gives the reason."""


@attrs.frozen
class CallFacts:
    """The facts about one call; ``custom_params`` are in the query of the webhook's URL, which an account sets."""

    call_id: str
    caller: str = "+15550100001"
    callee: str = "+15550100002"
    direction: Direction = "inbound"
    custom_params: Mapping[str, str] = MappingProxyType({})


class NetworkOptions(TypedDict, total=False):
    """Delays and losses of a simulated network.

    Attributes:
        up_delay: seconds that the network takes towards the server.
        down_delay: seconds that the network takes from the server.
        echo_marks: if False, marks never come back.
    """

    up_delay: float
    down_delay: float
    echo_marks: bool


class LineOptions(NetworkOptions, total=False):
    """Options of a simulated call at any carrier; for facts that are left out, see :class:`CallFacts`.

    Attributes:
        caller: the number of the caller.
        callee: the number that is called.
        direction: "inbound" for a call to the agent's number, "outbound" for one that the agent's account placed.
        custom_params: parameters of the call, in the query of the webhook's URL, as an account configures it.
    """

    caller: str
    callee: str
    direction: Direction
    custom_params: Mapping[str, str]


def parted(call_id: str, options: LineOptions) -> tuple[CallFacts, dict[str, Any]]:
    """Return the facts of a call, and the options of its network."""
    given: dict[str, Any] = {**options}
    network = {key: given.pop(key) for key in NetworkOptions.__annotations__ if key in given}
    return CallFacts(call_id, **given), network


@attrs.frozen
class Webhook:
    """A request to the agent's server, which the carrier has signed."""

    url: str
    body: bytes
    headers: Mapping[str, str]


@attrs.frozen
class WebhookAnswer:
    """An HTTP response, read to its end."""

    status: int
    content_type: str
    body: bytes


@attrs.frozen
class StreamOrder:
    """The answer of the agent's server that takes the call: the media's address, and values that come back with it."""

    url: str
    parameters: Mapping[str, str] = MappingProxyType({})


@attrs.frozen
class RESTRequest:
    """A request of the agent's server to the carrier's REST interface, about one call."""

    method: str
    path: str
    """The path behind the one that names the call."""
    headers: Mapping[str, str] = attrs.field(repr=False)
    body: bytes


@attrs.frozen
class RESTAnswer:
    """The carrier's answer to a request; ``body`` is sent as JSON, bytes as they are, and nothing if it is None."""

    status: int
    body: Mapping[str, Any] | bytes | None = None
    headers: Mapping[str, str] = attrs.field(factory=dict)


# Commands of the agent's server, whatever the carrier calls them. ---------------------------------------------------
@attrs.frozen
class Play:
    """A message with mu-law audio for the caller."""

    audio: bytes


@attrs.frozen
class Mark:
    """A message that asks for a report when the audio before it has been played."""

    name: str


@attrs.frozen
class Clear:
    """A message that empties the buffer."""


@attrs.frozen
class Tones:
    """A message that sends DTMF digits to the caller."""

    digits: str


FromAgent = Play | Mark | Clear | Tones


class Line(Protocol):
    """The line of one call, as a protocol uses it; see :class:`~patter_trio.testing.carriers.line.SimulatedCarrier`."""

    public_url: str

    async def post(self, webhook: Webhook) -> WebhookAnswer:
        """Send a webhook, and return the answer.

        Raises:
            CallRefused: there was no answer.
        """

    async def transfer(self, to: str) -> None:
        """Transfer the caller."""

    def sound(self, digits: str) -> None:
        """Let the caller hear DTMF digits."""

    def agent_hangs_up(self) -> None:
        """End the call, as the agent's server requested."""


class CarrierProtocol(ABC):
    """One carrier's protocol for one call: it makes and reads messages, and has neither clock nor I/O.

    Args:
        facts: who calls whom.
        stream_id: the carrier's id of the media stream.
    """

    # Class variables: facts about a protocol (protocols.md of a carrier), not about a call.
    name: ClassVar[str]
    """The carrier's name, as callbacks get it."""
    opening_messages: ClassVar[int]
    """Number of messages that open a stream; from the last one on, the server knows of the call."""
    cleared_marks_return: ClassVar[bool] = True
    """True if the marks that wait when the buffer is emptied come back."""
    empty_marks_return: ClassVar[bool] = True
    """True if a mark that finds the buffer empty comes back."""
    closing_ends_call: ClassVar[bool] = True
    """True if the call ends when its media stream is over and no other follows; False: it stays up in silence."""

    def __init__(self, facts: CallFacts, stream_id: str) -> None:
        self.facts: CallFacts = facts
        self.call_id: str = facts.call_id
        self.stream_id: str = stream_id
        """The id of the present stream."""
        self._lasted = 0.0
        """Seconds from the begin of the call's media to its end, once it is known."""

    # The setup of a call ----------------------------------------------------------------------------------------------
    @abstractmethod
    async def ask(self, line: Line) -> StreamOrder:
        """Ask the agent's server how to handle the call.

        Raises:
            CallRefused: it refuses, or answers in a way that this carrier does not understand.
        """

    async def ask_again(self, line: Line) -> StreamOrder | None:  # noqa: ARG002 (for carriers that can)
        """Ask how the call continues, because its stream is over; None: it does not.

        Raises:
            CallRefused: there was no answer, or one that this carrier does not understand.
        """
        return None

    @abstractmethod
    def upgrade_headers(self, order: StreamOrder) -> Mapping[str, str]:
        """Return the headers of the media stream's upgrade."""

    # Messages to the agent's server -----------------------------------------------------------------------------------
    @abstractmethod
    def opening(self, order: StreamOrder) -> Sequence[str]:
        """Return the messages that open the stream."""

    @abstractmethod
    def media(self, frame: int, audio: bytes) -> str:
        """Return a message with 20 ms of the caller's audio; the first frame is 1."""

    @abstractmethod
    def key(self, digit: str) -> str:
        """Return the message that the caller pressed a key."""

    @abstractmethod
    def played(self, mark: str) -> str:
        """Return the message that a mark was reached."""

    def cleared(self) -> str | None:
        """Return the message that the buffer was emptied; None: this carrier has none."""
        return None

    @abstractmethod
    def stopped(self) -> str | None:
        """Return the message that the stream is over; None: this carrier only closes the socket."""

    # Messages from it -------------------------------------------------------------------------------------------------
    @abstractmethod
    def read(self, message: str | bytes) -> FromAgent:
        """Return a decoded message of the agent's server.

        Raises:
            BadMessage: this carrier would not accept the message.
        """

    @abstractmethod
    def news(self, public_url: str, what: str, call_id: str = "") -> Webhook:
        """Return a webhook with news about a call, whether they are true or not.

        Args:
            public_url: the server's address.
            what: one of :data:`~patter_trio.testing.carriers.news.NEWS`.
            call_id: the id of the call; by default, this one's.
        """

    # Beside the stream ------------------------------------------------------------------------------------------------
    @property
    def api_path(self) -> str:
        """The path behind the address of the REST interface that names this call.

        Empty: the interface is not simulated.
        """
        return ""

    async def obey(self, line: Line, request: RESTRequest) -> RESTAnswer:  # noqa: ARG002 (for carriers that are asked)
        """Carry out a request of the agent's server."""
        return RESTAnswer(404)

    def key_report(self, digit: str) -> Webhook | None:  # noqa: ARG002 (for carriers that report it)
        """Return the webhook that reports a key; None: only the stream does."""
        return None

    def opened_reports(self) -> Sequence[Webhook]:
        """Return the webhooks that follow the start of the stream."""
        return ()

    def note_length(self, seconds: float) -> None:
        """Take the length of the call, which is over; what it recorded is as long."""
        # NaN: the call was over before it had any media.
        self._lasted = seconds if math.isfinite(seconds) else 0.0

    def ended_reports(self, how: str) -> Sequence[Webhook]:  # noqa: ARG002 (for carriers that report it)
        """Return the webhooks that follow the end of the call."""
        return ()

    def lost_reports(self) -> Sequence[Webhook]:
        """Return the webhooks that come before those, if the call ended without a word on its stream."""
        return ()


@contextlib.contextmanager
def refusing() -> Iterator[None]:
    """Turn an answer that the carrier cannot follow into a call that fails."""
    try:
        yield
    except BadAnswer as error:
        raise CallRefused("failed", str(error)) from error


def checked_stream_url(given: str, *, prefix: str = "", public_url: str, may_have_query: bool = False) -> str:
    """Return the address for the media that an answer names.

    Args:
        given: the address.
        prefix: the carrier's code for a wrong address, before each message.
        public_url: the server's address; only a plain one may have a plain media stream.
        may_have_query: if False, a query is refused.

    Raises:
        BadAnswer: the address does not lead to a media stream.
    """
    try:
        url = urlsplit(given)
    # urlsplit raises for brackets that do not match; found by fuzzing.
    except ValueError as error:
        raise BadAnswer(f"{prefix}the stream's address must be a URL, got {given!r}") from error
    # Plain ws only where the whole server is plain, as on loopback.
    plain_is_wrong = url.scheme == "ws" and public_url.startswith("https:")
    if url.scheme not in ("wss", "ws") or not url.netloc or plain_is_wrong:
        raise BadAnswer(f"{prefix}the stream's address must be wss://, got {given!r}")
    if url.query and not may_have_query:
        raise BadAnswer(f"{prefix}the stream's address must not have a query, got {given!r}")
    return url.geturl()
