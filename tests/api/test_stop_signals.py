"""Stop signals: one for all phones of a process, a second one that means now, and an application that keeps its own."""

import logging
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from functools import partial
from typing import Any

import pytest
import trio
import trio.testing

from patter_trio import Patter
from patter_trio.server.signals import STOP_SIGNALS, stop_signals
from patter_trio.testing import CallRefused, SimulatedTwilio
from tests.api.test_phone import caller_of, phone_of
from tests.kit.call import agent_of

pytestmark = pytest.mark.skipif(not hasattr(signal, "SIGHUP"), reason="signals of POSIX")


@pytest.fixture(autouse=True)
def default_handlers() -> Iterator[None]:
    """The handlers of a fresh process: whatever runs the tests may ignore SIGHUP."""
    before = {number: signal.signal(number, signal.SIG_DFL) for number in STOP_SIGNALS}
    yield
    assert {signal.getsignal(number) for number in STOP_SIGNALS} == {signal.SIG_DFL}
    for number, handler in before.items():
        signal.signal(number, handler)


@pytest.fixture
async def bounded(caplog: pytest.LogCaptureFixture) -> AsyncIterator[None]:
    """What goes wrong on real sockets may wait for ever."""
    caplog.set_level(logging.INFO)
    with trio.fail_after(20):
        yield


def send(number: int = signal.SIGTERM) -> None:
    # To this thread, so that it has arrived when this returns: two of a kind on their way to a process become one.
    signal.raise_signal(number)


async def received(caplog: pytest.LogCaptureFixture, signals: int) -> None:
    """Wait until servers have received that many signals."""
    # By the log: with calls on real sockets there is no moment in which all tasks are blocked.
    while caplog.text.count("SIG") < signals:
        await trio.lowlevel.checkpoint()


async def call_to(nursery: trio.Nursery, phone: Patter, address: tuple[str, int]) -> SimulatedTwilio:
    """Place a call that is live when this returns."""
    caller = caller_of(address, len(phone.calls) + 1)
    await nursery.start(caller.run)
    while not phone.calls:
        await trio.lowlevel.checkpoint()
    return caller


async def test_one_signal_drains_every_phone(bounded: None, caplog: pytest.LogCaptureFixture) -> None:
    """One SIGTERM drains both phones of a process: both refuse new calls, and the live calls finish."""
    phones, ends = [phone_of(), phone_of()], []
    async with trio.open_nursery() as nursery:
        addresses = [
            await nursery.start(partial(phone.serve, agent_of(), port=0, max_lag=None, on_call_end=ends.append))
            for phone in phones
        ]
        callers = [await call_to(nursery, *there) for there in zip(phones, addresses, strict=True)]
        send()
        await received(caplog, 2)
        for address in addresses:
            with pytest.raises(CallRefused):
                await caller_of(address, 9).run()
        for caller in callers:
            caller.hang_up()
    assert [end["outcome"] for end in ends] == ["caller_hung_up"] * 2


@pytest.mark.parametrize("signals", [(signal.SIGTERM, signal.SIGTERM), (signal.SIGHUP, signal.SIGTERM)])
async def test_second_signal_ends_calls_at_once(
    bounded: None, caplog: pytest.LogCaptureFixture, signals: tuple[int, int]
) -> None:
    """A second stop signal ends the live calls of all phones at once, and the application hears of each end."""
    phones, ends = [phone_of(), phone_of()], []

    async def on_call_end(event: dict[str, Any]) -> None:
        await trio.sleep(0.05)
        ends.append(event["outcome"])

    async with trio.open_nursery() as nursery:
        for phone in phones:
            address = await nursery.start(
                partial(phone.serve, agent_of(), port=0, max_lag=None, on_call_end=on_call_end)
            )
            await call_to(nursery, phone, address)
        send(signals[0])
        await received(caplog, 2)
        assert [len(phone.calls) for phone in phones] == [1, 1]
        send(signals[1])
    assert ends == ["cancelled"] * 2


async def test_signal_during_last_callbacks_loses_none(bounded: None) -> None:
    """Signals that arrive while on_call_end runs do not end the process: the callback returns."""
    phone, ends, running = phone_of(), [], trio.Event()

    async def on_call_end(event: dict[str, Any]) -> None:
        running.set()
        await trio.sleep(0.1)
        ends.append(event["outcome"])

    async with trio.open_nursery() as nursery:
        address = await nursery.start(partial(phone.serve, agent_of(), port=0, max_lag=None, on_call_end=on_call_end))
        caller = await call_to(nursery, phone, address)
        send()
        caller.hang_up()
        await running.wait()
        send()
        send()
    assert ends == ["caller_hung_up"]


async def test_phone_served_while_stopping_drains_too(bounded: None, caplog: pytest.LogCaptureFixture) -> None:
    """A phone that is served between the signal and the end of the last call drains as the others do."""
    first, second = phone_of(), phone_of()
    async with trio.open_nursery() as nursery:
        address = await nursery.start(partial(first.serve, agent_of(), port=0, max_lag=None))
        caller = await call_to(nursery, first, address)
        send()
        await received(caplog, 1)
        await second.serve(agent_of(), 0)
        caller.hang_up()


async def test_drain_timeout_ends_the_drain(bounded: None) -> None:
    """drain_timeout= bounds the time of live calls after the signal."""
    phone, ends = phone_of(), []
    async with trio.open_nursery() as nursery:
        serve = partial(phone.serve, agent_of(), port=0, max_lag=None, on_call_end=ends.append, drain_timeout=0.05)
        await call_to(nursery, phone, await nursery.start(serve))
        send()
    assert [end["outcome"] for end in ends] == ["cancelled"]


async def test_application_may_keep_its_signals(bounded: None) -> None:
    """With handle_signals=False the application's own receiver gets the signal, and the phone serves on."""
    phone, got = phone_of(), []
    async with trio.open_nursery() as nursery:
        with trio.open_signal_receiver(signal.SIGTERM) as signals:
            address = await nursery.start(partial(phone.serve, agent_of(), port=0, max_lag=None, handle_signals=False))
            send()
            async for number in signals:
                got.append(number)
                break
            await call_to(nursery, phone, address)
            nursery.cancel_scope.cancel()
    assert got == [signal.SIGTERM]


async def test_later_handler_of_application_stays(bounded: None) -> None:
    """A handler that the application installs after serve gets the signals, and serve's end leaves it in place."""
    phone, got = phone_of(), []
    async with trio.open_nursery() as nursery:
        await nursery.start(partial(phone.serve, agent_of(), port=0, max_lag=None))
        signal.signal(signal.SIGTERM, lambda number, frame: got.append(number))
        send()
        await trio.testing.wait_all_tasks_blocked(0.01)
        nursery.cancel_scope.cancel()
    send()
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    assert got == [signal.SIGTERM] * 2


async def test_ignored_signals_stay_ignored() -> None:
    """A signal that the process ignores, as under nohup, is left alone."""
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    with stop_signals() as stop:
        send(signal.SIGHUP)
        await trio.testing.wait_all_tasks_blocked()
        assert not stop.drain.is_set()
    assert signal.signal(signal.SIGHUP, signal.SIG_DFL) is signal.SIG_IGN


PROGRAM = """
import logging, sys, trio
from functools import partial
from patter_trio import Patter
from tests.api.test_phone import caller_of, phone_of
from tests.kit.call import agent_of

logging.basicConfig(level=logging.INFO, stream=sys.stdout, format="%(message)s")

async def main():
    async def on_call_end(event):
        await trio.sleep(0.05)
        print("ended", event["outcome"], flush=True)
    phone = phone_of()
    async with trio.open_nursery() as line, trio.open_nursery() as nursery:
        address = await nursery.start(partial(phone.serve, agent_of(), port=0, max_lag=None, on_call_end=on_call_end))
        await line.start(caller_of(address).run)
        while not phone.calls:
            await trio.lowlevel.checkpoint()
        print("up", flush=True)
trio.run(main)
print("down")
"""


def test_two_signals_end_a_program_in_order() -> None:
    """A program with a live call ends with code 0 at the second SIGTERM, after on_call_end."""
    with subprocess.Popen([sys.executable, "-c", PROGRAM], stdout=subprocess.PIPE, text=True) as process:  # noqa: S603 (ours)
        assert process.stdout is not None
        lines = iter(process.stdout.readline, "")
        # Each after the one before has been received: two of a kind on their way to a process become one.
        for received in ("up", "SIGTERM: draining", "SIGTERM, the second signal"):
            assert any(line.startswith(received) for line in lines)
            process.terminate()
        assert [line for line in lines if line.startswith(("ended", "down"))] == ["ended cancelled\n", "down\n"]
        assert process.wait(20) == 0
