"""Serving calls on listening sockets, until drained by the application or by a stop signal."""

import logging
from collections.abc import Sized

import trio

from patter_trio.net.tasks import open_side_tasks
from patter_trio.server.calls import CallServer, open_call_server
from patter_trio.server.listeners import listening_address, serve_listeners
from patter_trio.server.options import ServeOptions
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
    # WARNING: the order matters. The innermost nursery ends connections and with them the calls; then the call
    # server waits for the last callbacks.
    async with (
        open_side_tasks() as beside,
        open_call_server(options) as call_server,
        trio.open_nursery() as nursery,
    ):
        await nursery.start(serve_listeners, call_server.context, listeners)
        if stop is not None:
            beside.start_soon(_stop_on, stop, call_server, options.live, drain_timeout)
        # After the listeners are served: a task that waits for this may connect at once.
        task_status.started(listening_address(listeners))
        await call_server.closed.wait()
        # The calls that are left after a drain's time are ended here.
        nursery.cancel_scope.cancel(reason="drained")


async def _stop_on(stop: StopRequest, call_server: CallServer, live: Sized, drain_timeout: float) -> None:
    """Drain a server at the first stop signal, and end its calls at the second one."""
    await stop.drain.wait()
    _log.info("%s: draining; live calls: %d, with %g s to end", stop.name, len(live), drain_timeout)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(call_server.drain, drain_timeout)
        await stop.now.wait()
        _log.info("%s, the second signal: ending; live calls: %d", stop.name, len(live))
        await call_server.end_now()
