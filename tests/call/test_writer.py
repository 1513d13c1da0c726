"""The writer of the carrier's socket by itself, over a scripted socket."""

from collections.abc import Awaitable, Callable

import pytest
import trio
import trio.testing

from patter_trio.call.output.writer import STALL_TIMEOUT_S, CarrierWriter, Stalled
from patter_trio.wire.telnyx import TelnyxCodec

Send = Callable[[str], Awaitable[None]]


class ScriptedSocket:
    """Takes messages as a test says."""

    heard_at = 0.0
    pending = b""

    def __init__(self, send: Send) -> None:
        self._send = send
        self.is_closed = False

    def share_sending(self, wake: Callable[[], None]) -> None:
        pass

    async def send(self, message: str) -> None:
        await self._send(message)

    async def say_close(self) -> None:
        await trio.lowlevel.checkpoint()
        self.is_closed = True


class DigitsCodec(TelnyxCodec):
    """A codec that sends digits as they are, so that a test sees which message has left."""

    def digits(self, digits: str) -> str:
        return digits


def writer_to(send: Send) -> tuple[CarrierWriter, ScriptedSocket]:
    socket = ScriptedSocket(send)
    writer = CarrierWriter(socket, DigitsCodec(), lambda _: None, lambda _: None)  # type: ignore[arg-type]  # (scripted)
    return writer, socket


async def test_a_carrier_that_does_not_read_has_stalled(autojump_clock: trio.testing.MockClock) -> None:
    """A message that is not taken within 5 s ends the writer, although earlier ones were taken in time."""
    taken: list[str] = []

    async def send(message: str) -> None:
        # The first two are slow, and in time; together they take longer than one may.
        await trio.sleep(3 if len(taken) < 2 else 60)
        taken.append(message)

    writer, _ = writer_to(send)
    for digits in "123":
        writer.send_digits(digits)
    with pytest.raises(Stalled):
        await writer.write()
    assert (taken, trio.current_time()) == (["1", "2"], 6 + STALL_TIMEOUT_S)


async def test_a_writer_without_messages_never_stalls(autojump_clock: trio.testing.MockClock) -> None:
    """Between two messages any time may pass: the time of a message counts from its send."""
    taken: list[str] = []

    async def send(message: str) -> None:
        await trio.lowlevel.checkpoint()
        taken.append(message)

    writer, socket = writer_to(send)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(writer.write)
        for digits in "12":
            await trio.sleep(2 * STALL_TIMEOUT_S)
            writer.send_digits(digits)
        await trio.sleep(2 * STALL_TIMEOUT_S)
        writer.hang_up()
    assert (taken, socket.is_closed) == (["1", "2"], True)


async def test_a_loop_that_stood_still_cuts_no_send(mock_clock: trio.testing.MockClock) -> None:
    """A send that was complete, while the loop stood still for longer than it may take, does not end the writer."""
    taken: list[str] = []

    async def send(message: str) -> None:
        # As a socket whose bytes the kernel has taken: the checkpoint behind that cannot be cancelled.
        mock_clock.jump(2 * STALL_TIMEOUT_S)
        await trio.lowlevel.cancel_shielded_checkpoint()
        taken.append(message)

    writer, socket = writer_to(send)
    for digits in "12":
        writer.send_digits(digits)
    writer.hang_up()
    await writer.write()
    assert (taken, socket.is_closed) == (["1", "2"], True)
