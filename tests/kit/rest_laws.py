"""What holds for a request to any carrier's REST API: refusals, answers that never come, and cancellation."""

from collections.abc import Awaitable, Callable

import pytest
import trio
import trio.testing

from patter_trio.errors import CallEnded, ProviderError, ProviderTimeout
from patter_trio.testing.conformance.bench import cancelled_at
from patter_trio.testing.servers.carrier_rest import CarrierRESTServer

Ask = Callable[[], Awaitable[object]]
"""Sends one request."""
MAX_ERROR_CHARACTERS = 500


async def raises_once(ask: Ask, server: CarrierRESTServer, error: type[Exception], said: str, secret: str) -> None:
    """Expect exactly this error, with ``said`` and without ``secret`` in a short text, after one request."""
    with pytest.raises(error) as raised:
        await ask()
    assert type(raised.value) is error or (error is ProviderError and not isinstance(raised.value, CallEnded))
    assert said in str(raised.value)
    assert secret not in str(raised.value)
    assert len(str(raised.value)) < MAX_ERROR_CHARACTERS
    assert len(server.requests) == 1


async def times_out(ask: Ask, server: CarrierRESTServer, clock: trio.testing.MockClock) -> str:
    """Expect that a request to a server which hangs fails after four seconds; return the error's text."""
    failures: list[tuple[float, str]] = []

    async def asks() -> None:
        try:
            await ask()
        except ProviderTimeout as error:
            failures.append((trio.current_time(), str(error)))

    async with trio.open_nursery() as nursery:
        nursery.start_soon(asks)
        while not server.requests:  # the request is real, the time is not
            await trio.lowlevel.checkpoint()
        clock.jump(3.99)
        await trio.testing.wait_all_tasks_blocked()
        assert not failures
        clock.jump(0.01)
    [(at, text)] = failures
    assert at == 4.0
    return text


async def cancels_at_every_step(ask: Callable[[], Awaitable[None]], stride: int) -> None:
    """Cancel a request at its steps; expect neither errors nor a delay."""
    whole = await cancelled_at(ask, 0)
    assert not whole.errors
    for step in range(1, whole.steps + 1, stride):
        end = await cancelled_at(ask, step)
        assert not end.errors, step
        assert end.took < 0.5, step
