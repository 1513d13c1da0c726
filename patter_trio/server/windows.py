"""The windows of a server: their routes, the access to them, and the observers of calls."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import TYPE_CHECKING, Final
from urllib.parse import urlsplit

import attrs

from patter_trio.abc import CallArchive, CallInfo
from patter_trio.call.session import CallSession
from patter_trio.events.feed import EventFeed
from patter_trio.events.records import RecordSink
from patter_trio.events.reporter import CallObserver
from patter_trio.server.access import NOBODY, Access, is_loopback, is_private
from patter_trio.server.listening import Listening
from patter_trio.server.live_calls import PhoneLiveCalls
from patter_trio.server.options import RunningServer

if TYPE_CHECKING:
    from starlette.routing import BaseRoute


@attrs.frozen(kw_only=True)
class Windows:
    """The windows of a server, as ``ServeOptions`` takes them; by default it has no windows.

    ``served()`` is entered while the server runs.
    """

    routes: Sequence["BaseRoute"] = ()
    open_routes: Sequence["BaseRoute"] = ()
    access: Access = NOBODY
    call_observers: Sequence[Callable[[CallInfo], CallObserver]] = ()
    record_sinks: Sequence[RecordSink] = ()
    listening: Listening | None = None
    served: Callable[[], AbstractContextManager[None]] = nullcontext
    carrier_failed: Callable[[str, str], None] = lambda _, __: None


NO_WINDOWS: Final = Windows()
"""No windows."""


def access_of(addresses: Iterable[str], *, token: str, webhook_url: str, has_tunnel: bool) -> Access:
    """Return what the access rule uses.

    Args:
        addresses: those that the server listens on.
        token: ``dashboard_token``.
        webhook_url: the public URL that is set; empty: none.
        has_tunnel: True if a tunnel leads to the server.
    """
    url = webhook_url if "://" in webhook_url else f"//{webhook_url}"
    leads_here_alone = not webhook_url or is_loopback(urlsplit(url).hostname or "")
    return Access(token=token, is_private=is_private(addresses, is_public=has_tunnel or not leads_here_alone))


def open_windows(
    live: Mapping[str, CallSession],
    feed: EventFeed,
    servers: Sequence[RunningServer],
    access: Access,
    *,
    archive: CallArchive | None = None,
    deleted: Callable[[str], None] = lambda _: None,
) -> Windows:
    """Return the windows of a server with a dashboard.

    Args:
        live: the phone's live calls by id.
        feed: the records of their events.
        servers: the phone's running servers.
        access: what the access rule uses.
        archive: the past calls; None: they are not logged.
        deleted: called with the id of a call that a client has deleted.
    """
    # Starlette takes 0.1 s to import, and only servers need it.
    from patter_trio.server.archive_api import archive_routes  # noqa: PLC0415 (see above)
    from patter_trio.server.listen_api import listen_routes  # noqa: PLC0415 (see above)
    from patter_trio.server.live_api import live_routes  # noqa: PLC0415 (see above)
    from patter_trio.server.login import login_routes  # noqa: PLC0415 (see above)
    from patter_trio.server.phone_metrics import PhoneMetrics, metrics_routes  # noqa: PLC0415 (see above)

    metrics, calls = PhoneMetrics(live, servers, feed), PhoneLiveCalls(live, feed)
    listening = Listening(calls)
    return Windows(
        routes=[
            *live_routes(calls),
            *listen_routes(listening),
            *(() if archive is None else archive_routes(archive, deleted)),
            *metrics_routes(metrics),
        ],
        open_routes=login_routes(access),
        access=access,
        call_observers=[metrics.observer_of],
        record_sinks=[metrics],
        listening=listening,
        carrier_failed=metrics.carrier_failed,
    )
