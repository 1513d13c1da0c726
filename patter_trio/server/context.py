"""The state that all connections of a server share: its carrier, its public URL and its handlers of calls."""

import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from functools import cached_property
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import quote, urlencode, urlsplit

import attrs
import trio

from patter_trio.abc import CallInfo, CallOffered, CallReturned, Carrier, CarrierReport, WebhookKind
from patter_trio.call.leg import MediaLeg
from patter_trio.net.urls import checked_url
from patter_trio.server.access import NOBODY, Access
from patter_trio.server.attempts import LoginAttempts
from patter_trio.server.documents import Documents
from patter_trio.server.listening import Listening
from patter_trio.server.logins import Logins
from patter_trio.server.pending import PendingCall, PendingCalls
from patter_trio.server.refusals import Refusals
from patter_trio.server.stream_places import StreamPlaces
from patter_trio.server.unproven import UnprovenConnections

if TYPE_CHECKING:
    from starlette.routing import BaseRoute
    from starlette.types import ASGIApp

DIAL_PARAMETER: Final = "dial"
"""The parameter in the query of our webhooks that holds the reference of a call that we placed."""
DOCUMENT_PARAMETER: Final = "document"
"""The parameter in the query of a published document's URL that holds its reference."""
# Judged. At the limit further sockets get 503. Signed ones are not counted, so a carrier that signs its upgrades cannot
# be locked out.
MAX_UNAUTHENTICATED_SOCKETS: Final = 100
"""Number of unsigned media sockets that may wait for their start message; they use at most 100 x 24 KiB of memory."""


def checked_public_url(url: str) -> str:
    """Return a public URL without slashes at its end.

    Raises:
        ConfigurationError: ``url`` is not an http or https URL, or it has a query or fragment.
    """
    # A base: with a query, no stream URL could be made from it, as Twilio refuses one (error 31920).
    checked_url(
        url, "the public URL", "an http or https URL such as https://agent.example.com", ("http", "https"), is_base=True
    )
    return url.rstrip("/")


def doubt_about(public_url: str) -> str:
    """Return why no carrier can use a public URL, as a clause behind the URL; empty: nothing speaks against it."""
    parts = urlsplit(public_url)
    if parts.scheme.lower() != "https":
        return "is not https: carriers open media streams by wss alone"
    host = parts.hostname or ""
    # A name of a local network, or a slip of the pen; an IPv6 address has colons.
    if "." not in host and ":" not in host:
        return f"leads to {host}, a name without a domain: no carrier finds it"
    return ""


@attrs.frozen
class ServerContext:
    """The state of one server that its connections use.

    The carrier reaches us at ``public_url`` (``https://host``). Signatures are checked against it, and stream URLs
    begin with it, never with the ``Host`` of a request, which a client can forge.

    * ``refusal(call_id)`` returns the reason to refuse a call, whose caller then hears busy; empty: it is accepted.
    * ``on_announced(call)`` is called once per announced call, before the webhook is answered; it must not raise.
    * ``run_call(leg)`` runs the whole call; the connection closes the stream afterwards.
    * ``on_report(report)`` is called for whatever else the carrier reports; it must not raise.
    * ``command(info, request)`` sends a request about a call to the carrier, in the background; it must not raise.
    * ``unix_time()`` returns the time in seconds, for signatures that are valid only for a while.
    * ``on_answered(offered)`` returns the facts about a call that we placed; None: it is not one of ours, or no more.
    * ``end_stray(call_id)`` hangs up such a call, unless it is a repetition about a call that goes on.
    * ``knows(call_id)`` returns True for a call that is live or over: a webhook that announces it is a repetition.
    * ``on_returned(report)`` returns the document with which a call continues whose stream is over; empty: it is over.
    * ``claim_lost(call_id, token)`` returns the facts about a live call that waits for another stream, once for a
      token.
    * ``is_lost(call_id)`` returns True for a live call that waits for another stream.
    * ``routes`` are those of windows; ``access`` is what the rule about them uses; ``open_routes`` are for everybody.
    * ``listening`` serves the sockets of those who listen to live calls; None without windows.
    * ``app`` is the application's own ASGI application; None: it has none. ``app_state`` is what its lifespan has set.
    * ``streams`` are the places for streams of events.
    * ``on_refused(info, why)`` is called for each call that hears busy; it must not raise.

    ``neighbours`` are the servers of other calls behind the same port, such as those of the browser phone. Each has its
    own prefix of media streams.
    """

    carrier: Carrier
    public_url: str = attrs.field(converter=checked_public_url)
    pending: PendingCalls
    refusal: Callable[[str], str]
    on_announced: Callable[[PendingCall], None]
    run_call: Callable[[MediaLeg], Awaitable[None]]
    on_report: Callable[[CarrierReport], None] = lambda _: None
    on_refused: Callable[[CallInfo, str], None] = lambda _, __: None
    on_answered: Callable[[CallOffered], CallInfo | None] = lambda _: None
    on_returned: Callable[[CallReturned], str] = lambda _: ""
    claim_lost: Callable[[str, str], CallInfo | None] = lambda _, __: None
    is_lost: Callable[[str], bool] = lambda _: False
    end_stray: Callable[[str], None] = lambda _: None
    command: Callable[[CallInfo, Callable[[], Awaitable[None]]], None] = lambda _, __: None
    knows: Callable[[str], bool] = lambda _: False
    unix_time: Callable[[], float] = time.time
    neighbours: tuple["ServerContext", ...] = ()
    routes: Sequence["BaseRoute"] = ()
    open_routes: Sequence["BaseRoute"] = ()
    listening: Listening | None = None
    access: Access = NOBODY
    app: "ASGIApp | None" = None
    app_state: Mapping[str, Any] = attrs.field(factory=dict, repr=False)
    streams: StreamPlaces = attrs.field(factory=StreamPlaces)
    unauthenticated: trio.Semaphore = attrs.field(
        factory=lambda: trio.Semaphore(MAX_UNAUTHENTICATED_SOCKETS), repr=False
    )
    unproven: UnprovenConnections = attrs.field(factory=UnprovenConnections, repr=False)
    documents: Documents = attrs.field(factory=Documents)
    attempts: LoginAttempts = attrs.field(factory=LoginAttempts, repr=False)
    logins: Logins = attrs.field(factory=Logins, repr=False)
    refusals: Refusals = attrs.field(factory=Refusals, repr=False)

    @cached_property
    def doors(self) -> Mapping[bytes, "ServerContext"]:
        """The prefixes of the paths of media streams, each with the server whose calls they carry."""
        return {server.carrier.media_prefix.encode(): server for server in (self, *self.neighbours)}

    @property
    def shown_public_url(self) -> str:
        """The public URL for logs: without the user and password that a carrier may send along."""
        scheme, _, rest = self.public_url.partition("://")
        return f"{scheme}://{rest.rpartition('@')[2]}"

    def webhook_url(self, kind: WebhookKind, dial: str = "") -> str:
        """Return the URL of one of our webhooks; with ``dial``, for the call that we placed with that reference."""
        query = f"?{urlencode({DIAL_PARAMETER: dial})}" if dial else ""
        return self.public_url + self.carrier.path_of(kind) + query

    async def transfer(self, call: CallInfo, to: str) -> None:
        """Connect the caller of a live call to ``to``.

        Errors are those of :meth:`~patter_trio.abc.Carrier.transfer`.
        """
        # Only for those that know it: other carriers take no URL.
        where = {"public_url": self.public_url} if self.carrier.takes_back else {}
        document = self.carrier.transfer_document(call, to, **where)
        if not document:
            await self.carrier.transfer(call, to, **where)
            return
        # Before the request: the carrier may fetch the document before it answers.
        reference = self.documents.publish(call.call_id, document, trio.current_time())
        url = f"{self.webhook_url('transfer')}?{urlencode({DOCUMENT_PARAMETER: reference})}"
        await self.carrier.redirect(call, url)

    def awaits_stream(self, call_id: str) -> bool:
        """Return True if a call waits for its first stream, or for another one; strangers do not know its id."""
        return call_id in self.pending or self.is_lost(call_id)

    def stream_url(self, call_id: str) -> str:
        """Return the URL at which the carrier must open the media stream of a call."""
        # ``safe=""``: a slash in a carrier's id would be a part of the path.
        return self.websocket_url(self.carrier.media_prefix + quote(call_id, safe=""))

    def websocket_url(self, target: str) -> str:
        """Return the public URL as ``ws`` or ``wss``, with the target of a request appended."""
        return "ws" + self.public_url.removeprefix("http") + target
