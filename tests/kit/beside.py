"""Servers beside a command that runs an event loop of its own: each in a thread, with a loop of its own."""

import threading
from collections.abc import Callable, Iterator
from contextlib import AbstractAsyncContextManager, contextmanager, suppress
from typing import TypeVar

import trio

T = TypeVar("T")


@contextmanager
def beside(open_server: Callable[[], AbstractAsyncContextManager[T]]) -> Iterator[T]:
    """Hold a server open in a thread while the block runs, and yield what it yields."""
    opened: list[tuple[T, trio.Event, trio.lowlevel.TrioToken]] = []
    failed: list[BaseException] = []
    ready = threading.Event()

    async def hold() -> None:
        over = trio.Event()
        async with open_server() as server:
            opened.append((server, over, trio.lowlevel.current_trio_token()))
            ready.set()
            await over.wait()

    def run() -> None:
        try:
            trio.run(hold)
        except BaseException as error:  # noqa: BLE001 (raised again in the thread of the test)
            failed.append(error)
        finally:
            ready.set()

    thread = threading.Thread(target=run)
    thread.start()
    # Real time: what the server needs to open its port.
    ready.wait(60)
    try:
        if opened:
            yield opened[0][0]
    finally:
        for _, over, token in opened:
            # The server may have failed meanwhile, which is raised below.
            with suppress(trio.RunFinishedError):
                token.run_sync_soon(over.set)
        thread.join(60)
    if failed:
        raise failed[0]
