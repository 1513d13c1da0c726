"""Connections that prove nothing, in numbers: they leave room for the others, and the log has one line."""

import errno
import logging
import os

import attrs
import pytest
import trio
import trio.testing

from patter_trio.server.listeners import PatientListener
from patter_trio.server.unproven import LOG_INTERVAL_S, UnprovenConnections, max_unproven_connections
from tests.kit.server import CONNECTED, STOP, FakeCallServer, closing, dial, read_all, start

CLOCK = trio.testing.MockClock
HEALTH = b"GET /health HTTP/1.1\r\nHost: a\r\n\r\n"
HALF = b"POST /webhooks/twilio/voice HTTP/1.1\r\nHost: a\r\nContent-Length: 10\r\n\r\nabc"


def lines(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [record.getMessage() for record in caplog.records if record.levelno >= logging.WARNING]


def small_server(limit: int) -> FakeCallServer:
    call_server = FakeCallServer()
    call_server.context = attrs.evolve(call_server.context, unproven=UnprovenConnections(limit))
    return call_server


@pytest.mark.parametrize("sent", [b"", b"GET / HT", HALF], ids=["nothing", "part of a head", "part of a body"])
async def test_idle_connections_make_room_for_requests(
    sent: bytes, autojump_clock: CLOCK, caplog: pytest.LogCaptureFixture
) -> None:
    """However many connections stay idle, each request is answered at once; the log has one line."""
    call_server = small_server(4)
    async with trio.open_nursery() as nursery:
        for _ in range(10):
            for _ in range(10):
                await call_server.open(nursery).send_all(sent)
                await trio.testing.wait_all_tasks_blocked()
            request = call_server.open(nursery)
            await request.send_all(HEALTH)
            assert (await read_all(request)).startswith(b"HTTP/1.1 200 ")
            assert trio.current_time() == 0
        assert len(call_server.context.unproven) <= 4
        nursery.cancel_scope.cancel()
    (line,) = lines(caplog)
    assert line == (
        "server: 4 connections have not authenticated (half of the limit of open files): "
        "the oldest is closed for each new one"
    )


async def test_calls_are_no_unproven_connections(autojump_clock: CLOCK) -> None:
    """Calls are neither counted nor closed, and more of them begin, while idle connections come and go."""
    call_server = small_server(2)
    async with trio.open_nursery() as nursery:
        sockets = []
        for number in range(5):
            call = call_server.announce(f"CA{number}")
            sockets.append(
                await dial(
                    call_server.open(nursery), CONNECTED, start(f"CA{number}", call.token), call_id=f"CA{number}"
                )
            )
            await trio.testing.wait_all_tasks_blocked()
            for _ in range(5):
                call_server.open(nursery)
            await trio.testing.wait_all_tasks_blocked()
        assert len(call_server.answered) == 5
        for socket in sockets:
            await socket.send(STOP)
            assert (await closing(socket))[0] == 1000
        nursery.cancel_scope.cancel()


async def test_media_sockets_without_a_start_make_room(autojump_clock: CLOCK) -> None:
    """A media socket that waits for its start is closed when it is the oldest, without harm to anybody."""
    call_server = small_server(3)
    async with trio.open_nursery() as nursery:
        idle = [await dial(call_server.open(nursery), call_id=f"CA{number}") for number in range(6)]
        assert [(await closing(socket))[0] for socket in idle[:3]] == [1006] * 3
        assert trio.current_time() == 0
        nursery.cancel_scope.cancel()


async def test_a_shortage_is_logged_once_a_minute(autojump_clock: CLOCK, caplog: pytest.LogCaptureFixture) -> None:
    """A shortage that lasts is logged once a minute."""
    unproven = UnprovenConnections(1)
    for _ in range(100):
        unproven.warn("no room")
        await trio.sleep(LOG_INTERVAL_S / 40)
    assert lines(caplog) == ["server: no room: the oldest is closed for each new one"] * 3


class FullListener(trio.abc.Listener[trio.SocketStream]):
    """A listener whose system is out of descriptors until one is closed."""

    def __init__(self, error: int, failures: int) -> None:
        self.error, self.failures, self.closed = error, failures, False

    async def accept(self) -> trio.SocketStream:
        await trio.lowlevel.checkpoint()
        if self.failures:
            self.failures -= 1
            raise OSError(self.error, os.strerror(self.error))
        return trio.SocketStream(trio.socket.socket())

    async def aclose(self) -> None:
        await trio.lowlevel.checkpoint()
        self.closed = True


@pytest.mark.parametrize("error", [errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.ENOBUFS])
async def test_accepting_goes_on_when_descriptors_are_back(
    error: int, autojump_clock: CLOCK, caplog: pytest.LogCaptureFixture
) -> None:
    """A listener without descriptors closes an idle connection each 0.1 s, logs one line, and accepts again."""
    unproven = UnprovenConnections()
    left: list[float] = []

    async def idle() -> None:
        with unproven.one():
            await trio.sleep_forever()
        left.append(trio.current_time())

    async with trio.open_nursery() as nursery:
        for _ in range(3):
            nursery.start_soon(idle)
        await trio.testing.wait_all_tasks_blocked()
        full = FullListener(error, failures=5)
        listener = PatientListener(full, unproven)
        stream = await listener.accept()
        assert trio.current_time() == pytest.approx(0.5)
        assert left == pytest.approx([0, 0.1, 0.2])
        await stream.aclose()
        await listener.aclose()
        assert full.closed
    assert lines(caplog) == [
        f"server: no connection can be accepted ({os.strerror(error)}): the oldest is closed for each new one"
    ]


async def test_other_errors_of_accepting_are_raised() -> None:
    """An error that more descriptors would not mend is raised."""
    with pytest.raises(OSError, match="Bad file"):
        await PatientListener(FullListener(errno.EBADF, 1), UnprovenConnections()).accept()


def test_the_limit_is_half_of_the_descriptors() -> None:
    """The limit is half of the process's own limit of open files."""
    resource = pytest.importorskip("resource")
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (256, hard))
    try:
        assert max_unproven_connections() == 128
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
