"""The streams on which simulated calls run."""

import pytest
import trio
import trio.testing

from patter_trio.testing.memory_stream import MemoryStream, memory_stream_pair


async def test_pair_is_a_pair_of_streams() -> None:
    """The pair does what trio demands of any stream that can be half closed, conflicts and closing included."""

    async def make() -> tuple[MemoryStream, MemoryStream]:
        return memory_stream_pair()

    await trio.testing.check_half_closeable_stream(make, None)


@pytest.mark.parametrize("receives", [False, True])
async def test_cancelled_operation_moves_no_data(*, receives: bool) -> None:
    """A send or a receive that is cancelled leaves the data where it was."""
    ours, theirs = memory_stream_pair()
    await theirs.send_all(b"early")
    with trio.CancelScope() as scope:
        scope.cancel()
        await (ours.receive_some() if receives else theirs.send_all(b"lost"))
    assert scope.cancelled_caught
    await theirs.send_all(b" late")
    assert await ours.receive_some() == b"early late"
