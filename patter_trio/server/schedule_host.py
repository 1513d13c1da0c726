"""The place in which the application's schedules run: beside a server, until it is closed."""

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Final

import attrs
import trio
from trio.lowlevel import RunVar

from patter_trio.net.run_local import run_local
from patter_trio.net.tasks import open_side_tasks


@attrs.frozen(eq=False)
class ScheduleHost:
    """A nursery that lasts as long as a server, and the server's clock.

    Attributes:
        nursery: runs the schedules.
        unix_time: returns the Unix time in seconds.
    """

    nursery: trio.Nursery
    unix_time: Callable[[], float]


_hosts: Final[RunVar[list[ScheduleHost]]] = RunVar("patter_trio_schedule_hosts")


@asynccontextmanager
async def host_schedules(unix_time: Callable[[], float]) -> AsyncIterator[None]:
    """Let schedules run beside the ``async with`` block; its end cancels them."""
    hosts = run_local(_hosts, list)
    async with open_side_tasks() as nursery:
        host = ScheduleHost(nursery, unix_time)
        hosts.append(host)
        try:
            yield
        finally:
            # Before the nursery is cancelled: a schedule that is made now would be cancelled without a word.
            hosts.remove(host)


def schedule_host() -> ScheduleHost | None:
    """Return the host beside the newest server of this trio run; None without a server."""
    hosts = run_local(_hosts, list)
    return hosts[-1] if hosts else None
