"""What the server has to know: whose calls it takes, where it is seen from outside, and who answers."""

from collections.abc import Awaitable, Callable
from typing import Final
from urllib.parse import quote, urlsplit

import attrs
import trio

from patter_trio.abc import CallInfo, Carrier
from patter_trio.call.leg import MediaLeg
from patter_trio.errors import ConfigurationError
from patter_trio.server.pending import PendingCall, PendingCalls

MAX_UNAUTHENTICATED_SOCKETS: Final = 100
"""Media sockets, not signed by the carrier, that may wait for their start: 100 x 256 kB is the most memory they take."""


def checked_public_url(url: str) -> str:
    """Return a public URL without the slash at its end.

    Raises:
        ConfigurationError: it is none to which paths can be added.
    """
    parts = urlsplit(url)
    if parts.scheme not in ("http", "https") or not parts.netloc or parts.query or parts.fragment:
        raise ConfigurationError(f"the public URL must be like https://agent.example.com, not {url!r}")
    return url.rstrip("/")


@attrs.frozen
class ServerContext:
    """One server, as its connections see it.

    ``public_url`` is where the carrier reaches us (``https://host``); signatures are checked against it and stream URLs
    begin with it, never with what a request claims in ``Host``.

    * ``refusal(call_id)`` says why another call is not welcome, which then hears busy; empty: it is.
    * ``on_announced(call)`` is called once per announced call, before the webhook is answered; it must not raise.
    * ``run_call(leg)`` runs the whole call; the stream is closed after it.
    * ``on_refused(info, why)`` is told of a call that hears busy; it must not raise.
    """

    carrier: Carrier
    public_url: str = attrs.field(converter=checked_public_url)
    pending: PendingCalls
    refusal: Callable[[str], str]
    on_announced: Callable[[PendingCall], None]
    run_call: Callable[[MediaLeg], Awaitable[None]]
    on_refused: Callable[[CallInfo, str], None] = lambda _, __: None
    unauthenticated: trio.Semaphore = attrs.field(
        factory=lambda: trio.Semaphore(MAX_UNAUTHENTICATED_SOCKETS), repr=False
    )

    def stream_url(self, call_id: str) -> str:
        """Return where the carrier is to open the media stream of a call."""
        return self.websocket_url(self.carrier.media_prefix + quote(call_id, safe=""))

    def websocket_url(self, target: str) -> str:
        """Return the ``ws``/``wss`` form of the public URL with a request's target."""
        return "ws" + self.public_url.removeprefix("http") + target
