"""The stream on which faults are injected, beyond what the catalogue of faults shows."""

import pytest
import trio
from trio.testing import MockClock, memory_stream_pair

from patter_trio.testing.carriers.faulty_stream import FaultyStream


async def test_closing_ends_a_send_that_waits(autojump_clock: MockClock) -> None:
    """Closing the stream ends a send that waits for a peer that does not read, as on a socket."""
    stream = FaultyStream(memory_stream_pair()[0])
    stream.stop_reading()

    async def send() -> None:
        with pytest.raises(trio.ClosedResourceError):
            await stream.send_all(b"audio")

    with trio.fail_after(1):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(send)
            await trio.testing.wait_all_tasks_blocked()
            await stream.aclose()
