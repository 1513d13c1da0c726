"""Serving calls on listening sockets, until drained by the application or by a stop signal."""

import logging
from collections.abc import AsyncIterator, Sequence, Sized
from contextlib import asynccontextmanager

import attrs
import trio

from patter_trio.carriers.browser import BrowserPhone
from patter_trio.net.tasks import open_side_tasks
from patter_trio.server.calls import CallServer, open_call_server
from patter_trio.server.carrier_border import carrier_failures
from patter_trio.server.lifespan import run_lifespan
from patter_trio.server.listeners import listening_address, serve_listeners
from patter_trio.server.options import ServeOptions
from patter_trio.server.page_calls import MAX_PAGE_CALLS
from patter_trio.server.signals import StopRequest

_log = logging.getLogger("patter_trio.server")


async def serve_until_drained(
    options: ServeOptions,
    listeners: list[trio.SocketListener],
    stop: StopRequest | None,
    drain_timeout: float,
    task_status: trio.TaskStatus[tuple[str, int]],
) -> None:
    """Serve calls on listening sockets until drained; report the first one's address once they are served.

    Args:
        options: the options of the call server.
        listeners: the listening sockets.
        stop: the request that stop signals make; None: the application handles signals.
        drain_timeout: seconds for live calls after a stop signal.
        task_status: reports the address.
    """
    # Around the servers: the last records come while they close.
    with options.recorder.taken_by(options.record_sinks):
        await _serve_until_drained(options, listeners, stop, drain_timeout, task_status)


async def _serve_until_drained(
    options: ServeOptions,
    listeners: list[trio.SocketListener],
    stop: StopRequest | None,
    drain_timeout: float,
    task_status: trio.TaskStatus[tuple[str, int]],
) -> None:
    # For all tasks of the server, those of its calls included.
    carrier_failures.set(options.carrier_failed)
    # WARNING: the order matters. The innermost nursery ends connections and with them the calls; then the call
    # server waits for the last callbacks.
    async with (
        open_side_tasks() as beside,
        # Outside of the calls: what the application has opened serves its callbacks, too.
        run_lifespan(options.app) as app_state,
        _open_page_server(options) as page_servers,
        open_call_server(
            attrs.evolve(options, app_state=app_state), neighbours=tuple(server.context for server in page_servers)
        ) as call_server,
        trio.open_nursery() as nursery,
    ):
        call_servers = (call_server, *page_servers)
        await nursery.start(serve_listeners, call_server.context, listeners)
        if stop is not None:
            beside.start_soon(_stop_on, stop, call_servers, options.live, drain_timeout)
        # After the listeners are served: a task that waits for this may connect at once.
        task_status.started(listening_address(listeners))
        for server in call_servers:
            # One after another: each has to be closed, whichever is first.
            await server.closed.wait()
        # A drain has asked the streams of events to end; what is left of them is the end of each response.
        await call_server.context.streams.all_over()
        # The calls that are left after a drain's time are ended here.
        nursery.cancel_scope.cancel(reason="drained")


@asynccontextmanager
async def _open_page_server(options: ServeOptions) -> AsyncIterator[Sequence[CallServer]]:
    """Open the server of the calls that come from the browser phone; yield it, or nothing."""
    if options.page_calls is None:
        yield ()
        return
    pages = attrs.evolve(
        options,
        carrier=BrowserPhone(),
        max_calls=MAX_PAGE_CALLS,
        # A developer would rather hear the agent late than hear busy.
        max_lag=None,
        recording=False,
        page_calls=None,
        routes=(),
        open_routes=(),
        listening=None,
        app=None,
    )
    # Before the server of the carrier's calls: the newest one places calls.
    async with open_call_server(pages) as call_server:
        with options.page_calls.served_by(call_server.context):
            yield (call_server,)


async def _stop_on(stop: StopRequest, call_servers: Sequence[CallServer], live: Sized, drain_timeout: float) -> None:
    """Drain the servers at the first stop signal, and end their calls at the second one."""
    await stop.drain.wait()
    _log.info("%s: draining; live calls: %d, with %g s to end", stop.name, len(live), drain_timeout)
    async with trio.open_nursery() as nursery:
        for server in call_servers:
            nursery.start_soon(server.drain, drain_timeout)
        # Cancelled with the servers: behind a drain that succeeds, no second signal is waited for.
        await stop.now.wait()
        _log.info("%s, the second signal: ending; live calls: %d", stop.name, len(live))
        for server in call_servers:
            await server.end_now()
