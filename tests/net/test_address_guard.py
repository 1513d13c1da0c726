"""Guarded requests to others' URLs: they go to the address that the guard looked up and accepted, and nowhere else."""

import gc
from collections.abc import Callable
from functools import partial
from typing import Any

import attrs
import httpcore
import pytest
import trio
import trio.testing

from patter_trio import ConfigurationError, Patter
from patter_trio.errors import ProviderTimeout
from patter_trio.net.address_guard import AddressRefused, Guard, hosts_of
from patter_trio.net.guarded import ATTEMPT_INTERVAL_S, GuardedNetwork, Network
from patter_trio.net.http import Client, Unreachable, shared_client
from patter_trio.testing.conformance.bench import cancelled_at
from tests.kit import web as web_kit
from tests.kit.web import Request, serving

METADATA = "169.254.169.254"
PUBLIC, ANOTHER = "192.0.78.9", "2606:4700::1111"


async def hello(request: Request) -> None:
    await request.answer(b"Hello.")


def fetch(client: Client, url: str) -> Any:
    return web_kit.fetch(client, "GET", url, head_timeout=60.0, max_bytes=100)


@attrs.define
class Names(trio.abc.HostnameResolver):
    """A name service that gives one answer after another, repeats the last one, and records the questions."""

    answers: list[list[str]]
    asked: list[str] = attrs.field(factory=list)

    async def getaddrinfo(self, host: Any, port: Any, *_: Any, **__: Any) -> Any:
        await trio.lowlevel.checkpoint()
        self.asked.append(host.decode())
        addresses = self.answers[min(len(self.asked), len(self.answers)) - 1]
        if not addresses:
            raise OSError("name or service not known")
        return [
            (
                trio.socket.AF_INET6 if ":" in address else trio.socket.AF_INET,
                trio.socket.SOCK_STREAM,
                6,
                "",
                (address, port),
            )
            for address in addresses
        ]

    async def getnameinfo(self, *_: Any, **__: Any) -> Any:
        raise NotImplementedError


def names(*answers: list[str]) -> Names:
    service = Names(list(answers))
    trio.socket.set_custom_hostname_resolver(service)
    return service


# Real connections -----------------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("host", "addresses", "why"),
    [
        ("crm.test", ["127.0.0.1"], "crm.test has the address 127.0.0.1, which is loopback"),
        ("crm.test", ["10.1.2.3"], "crm.test has the address 10.1.2.3, which is private"),
        ("crm.test", ["::ffff:127.0.0.1"], "which is loopback, within IPv6"),
        ("crm.test", [PUBLIC, METADATA], f"crm.test has the address {METADATA}, which is link-local"),
        ("127.0.0.1", None, "127.0.0.1 is loopback"),
        ("2130706433", None, "2130706433 has the address 127.0.0.1, which is loopback"),
        ("0x7f.1", None, "has the address 127.0.0.1, which is loopback"),
        ("0177.1", None, "has the address 127.0.0.1, which is loopback"),
        ("0", None, "0 has the address 0.0.0.0, which is unspecified"),
        ("127。0。0。1", None, "127.0.0.1 is loopback"),
        ("[::ffff:7f00:1]", None, "is loopback, within IPv6"),
        ("[::]", None, "is unspecified"),
    ],
)
async def test_private_address_is_refused_before_connecting(
    autojump_clock: trio.testing.MockClock, host: str, addresses: list[str] | None, why: str
) -> None:
    """The guard refuses an address in a private network before connecting and names the option to allow it."""
    if addresses is not None:
        names(addresses)
    async with serving(hello) as web, shared_client(Guard()) as client:
        port = web.url.rpartition(":")[2]
        with pytest.raises(AddressRefused) as refused:
            await fetch(client, f"http://{host}:{port}/")
        assert why in str(refused.value)
        assert "to allow it, set Patter(allow_private_hosts=[" in str(refused.value)
        assert web.connections == 0


async def test_allowed_host_is_reachable_by_that_name_only(
    autojump_clock: trio.testing.MockClock,
) -> None:
    """The guard lets an allowed host through by exactly that name, and by no other name or address."""
    names(["127.0.0.1"])
    async with serving(hello) as web, shared_client(Guard(["crm.test"])) as client:
        port = web.url.rpartition(":")[2]
        for host in ("crm.test", "CRM.test", "crm.test."):
            assert await fetch(client, f"http://{host}:{port}/") == b"Hello."
        for host in ("127.0.0.1", "crm2.test", "x.crm.test", "test"):
            with pytest.raises(AddressRefused):
                await fetch(client, f"http://{host}:{port}/")
    assert {request.headers["host"].lower().rstrip(".") for request in web.requests} <= {
        f"crm.test:{port}",
        f"crm.test.:{port}",
    }


async def test_each_connection_looks_the_name_up_once(autojump_clock: trio.testing.MockClock) -> None:
    """Two requests share one connection and one lookup, so that DNS rebinding has no second lookup to forge."""
    service = names(["127.0.0.1"], [METADATA])
    async with serving(hello) as web, shared_client(Guard(["crm.test"])) as client:
        url = f"http://crm.test:{web.url.rpartition(':')[2]}/"
        assert [await fetch(client, url), await fetch(client, url)] == [b"Hello."] * 2
    assert (service.asked, web.connections) == (["crm.test"], 1)


async def test_guards_do_not_share_connections(autojump_clock: trio.testing.MockClock) -> None:
    """A connection that one guard allowed is not reused by a client with another guard."""
    async with serving(hello) as web, shared_client(Guard(["127.0.0.1"])) as open_one, shared_client(Guard()) as client:
        assert await fetch(open_one, web.url) == b"Hello."
        with pytest.raises(AddressRefused):
            await fetch(client, web.url)
        async with shared_client(Guard({"127.0.0.1"})) as same:
            assert await fetch(same, web.url) == b"Hello."
    assert web.connections == 1


async def test_a_proxy_of_the_environment_is_not_used(
    autojump_clock: trio.testing.MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A guarded request ignores the proxy of the environment, which would look the name up itself."""
    async with serving(hello) as proxy, serving(hello) as web:
        for variable in ("HTTP_PROXY", "http_proxy", "ALL_PROXY"):
            monkeypatch.setenv(variable, proxy.url)
        async with shared_client(Guard(["127.0.0.1"])) as client:
            await fetch(client, web.url)
    assert (proxy.connections, web.connections) == (0, 1)


async def test_unknown_name_and_closed_port_are_unreachable(
    autojump_clock: trio.testing.MockClock,
) -> None:
    """An unknown host name and a closed port both raise Unreachable."""
    names([])
    async with serving(hello) as web:
        closed = web.url
    async with shared_client(Guard(["127.0.0.1"])) as client:
        with pytest.raises(Unreachable, match=r"http://crm\.test could not be reached: name or service not known"):
            await fetch(client, "http://crm.test/secret")
        with pytest.raises(Unreachable, match="could not be reached"):
            await fetch(client, closed)


async def test_cancelled_guarded_request_leaves_nothing_behind(
    recwarn: pytest.WarningsRecorder, monkeypatch: pytest.MonkeyPatch, stride: int
) -> None:
    """A guarded request that is cancelled at any step leaves no error and no warning behind."""
    left: list[object] = []
    monkeypatch.setattr("sys.unraisablehook", left.append)
    names(["127.0.0.1"])
    async with serving(hello) as web:

        async def ask() -> bytes:
            async with shared_client(Guard(["crm.test"])) as client:
                return await fetch(client, f"http://crm.test:{web.url.rpartition(':')[2]}/")  # type: ignore[no-any-return]

        whole = await cancelled_at(ask, 0)
        assert whole.result == b"Hello."
        for step in range(1, whole.steps + 1, stride):
            end = await cancelled_at(ask, step)
            assert not end.errors
            gc.collect()
            assert not left, f"cancelled at step {step} of {whole.steps}"
    assert not [str(warning.message) for warning in recwarn.list]


# Which address is taken, on a network of the test's own ---------------------------------------------------------------
class RecordedConnection(httpcore.AsyncMockStream):
    """A connection that records its own closing."""

    def __init__(self, address: str) -> None:
        super().__init__([])
        self.address = address
        self.closed = False

    async def aclose(self) -> None:
        self.closed = True
        await trio.lowlevel.checkpoint()


@attrs.define(slots=False)
class Internet(Network):
    """Addresses, each with the seconds until it answers; at a negative number it refuses after as many seconds."""

    answers: dict[str, float]
    tried: list[tuple[float, str]] = attrs.field(factory=list)
    lines: list[RecordedConnection] = attrs.field(factory=list)

    async def connect_tcp(self, host: str, port: int, *_: Any, **__: Any) -> RecordedConnection:
        self.tried.append((trio.current_time(), host))
        seconds = self.answers[host]
        await trio.sleep(abs(seconds))
        if seconds < 0:
            raise httpcore.ConnectError(f"{host} refused")
        self.lines.append(RecordedConnection(host))
        return self.lines[-1]


async def connected(internet: Internet, *, timeout: float | None = 5.0, guard: Guard | None = None) -> Any:  # noqa: ASYNC109 (passed on)
    return await GuardedNetwork(guard or Guard(), internet).connect_tcp("crm.test", 443, timeout)


async def test_guard_connects_to_the_checked_address(
    autojump_clock: trio.testing.MockClock,
) -> None:
    """The guard connects to the address that it checked and looks the name up only once per connection."""
    service, internet = names([PUBLIC], [METADATA]), Internet({PUBLIC: 0.1})
    assert (await connected(internet)).address == PUBLIC
    assert (service.asked, internet.tried) == (["crm.test"], [(0.0, PUBLIC)])
    with pytest.raises(AddressRefused):
        await connected(internet)
    assert len(internet.tried) == 1


@pytest.mark.parametrize(
    ("answers", "taken", "at", "begun"),
    [
        ((0.1, 0.1), PUBLIC, 0.1, [0.0]),
        ((9.0, 0.1), ANOTHER, ATTEMPT_INTERVAL_S + 0.1, [0.0, ATTEMPT_INTERVAL_S]),
        ((-0.1, 0.1), ANOTHER, 0.2, [0.0, 0.1]),
        ((0.3, 9.0), PUBLIC, 0.3, [0.0, ATTEMPT_INTERVAL_S]),
    ],
)
async def test_first_answering_address_wins(
    autojump_clock: trio.testing.MockClock, answers: tuple[float, float], taken: str, at: float, begun: list[float]
) -> None:
    """The guard uses the first address that answers and closes the other connections."""
    names([PUBLIC, ANOTHER])
    internet = Internet(dict(zip([PUBLIC, ANOTHER], answers, strict=True)))
    line = await connected(internet)
    assert trio.current_time() == pytest.approx(at)
    assert [when for when, _ in internet.tried] == pytest.approx(begun)
    assert not line.closed
    assert all(other.closed for other in internet.lines if other is not line)
    assert line.address == taken


async def test_all_addresses_failing_raises_the_first_refusal(autojump_clock: trio.testing.MockClock) -> None:
    """When every address refuses, the guard raises the error of the first one."""
    names([PUBLIC, ANOTHER])
    with pytest.raises(httpcore.ConnectError, match=f"{PUBLIC} refused"):
        await connected(Internet({PUBLIC: -0.1, ANOTHER: -0.1}))
    assert trio.current_time() == pytest.approx(0.2)


async def test_lookup_and_connection_have_one_deadline_together(autojump_clock: trio.testing.MockClock) -> None:
    """The lookup and the connection together have one deadline: five seconds raise ConnectTimeout."""
    names([PUBLIC])
    with pytest.raises(httpcore.ConnectTimeout):
        await connected(Internet({PUBLIC: 60.0}), timeout=5.0)
    assert trio.current_time() == 5.0


async def test_silent_name_service_times_out_after_five_seconds(mock_clock: trio.testing.MockClock) -> None:
    """A name service that never answers raises ProviderTimeout after five seconds."""
    asked = trio.Event()

    class Silent(Names):
        async def getaddrinfo(self, *_: Any, **__: Any) -> Any:
            asked.set()
            await trio.sleep_forever()

    async def ask() -> None:
        async with shared_client(Guard()) as client:
            with pytest.raises(ProviderTimeout, match="could not be reached within 5 s"):
                await fetch(client, "http://crm.test/")
        ended.append(trio.current_time())

    ended: list[float] = []
    trio.socket.set_custom_hostname_resolver(Silent([]))
    async with trio.open_nursery() as nursery:
        nursery.start_soon(ask)
        await asked.wait()
        mock_clock.jump(4.9)
        await trio.testing.wait_all_tasks_blocked()
        assert ended == []
        mock_clock.jump(0.1)
    assert ended == [5.0]


async def test_virtual_clock_waits_for_name_lookup(autojump_clock: trio.testing.MockClock) -> None:
    """The system's name service works in a thread, and takes real time."""
    async with serving(hello) as web, shared_client(Guard(["localhost"])) as client, trio.open_nursery() as nursery:

        async def tick() -> None:
            for _ in range(1000):
                await trio.sleep(0.02)

        nursery.start_soon(tick)
        assert await fetch(client, web.url.replace("127.0.0.1", "localhost")) == b"Hello."
        assert trio.current_time() < ATTEMPT_INTERVAL_S
        nursery.cancel_scope.cancel()


@attrs.define(slots=False)
class Gate(Internet):
    """Addresses that answer when the gate opens; those in ``answers`` never do."""

    gate: trio.Event = attrs.field(factory=trio.Event)

    async def connect_tcp(self, host: str, port: int, *_: Any, **__: Any) -> RecordedConnection:
        self.tried.append((trio.current_time(), host))
        await self.gate.wait()
        if host in self.answers:
            await trio.sleep_forever()
        self.lines.append(RecordedConnection(host))
        return self.lines[-1]


@pytest.mark.parametrize(
    ("silent", "cancelled", "opened", "kept"), [([], False, 2, 1), ([ANOTHER], False, 1, 1), ([ANOTHER], True, 1, 0)]
)
async def test_what_is_opened_and_not_wanted_is_closed(
    autojump_clock: trio.testing.MockClock, silent: list[str], cancelled: bool, opened: int, kept: int
) -> None:
    """The guard closes each connection that it does not return: a simultaneous second one, or one at a cancellation."""
    names([PUBLIC, ANOTHER])
    internet, scope, got = Gate(dict.fromkeys(silent, 0.0)), trio.CancelScope(), list[Any]()

    async def connect() -> None:
        with scope:
            got.append(await connected(internet))

    async with trio.open_nursery() as nursery:
        nursery.start_soon(connect)
        await trio.sleep(1.0)
        internet.gate.set()
        if cancelled:
            scope.cancel()
    assert (len(internet.lines), len(got)) == (opened, kept)
    assert [line for line in internet.lines if not line.closed] == got


async def test_guarded_network_refuses_unix_sockets() -> None:
    """A guarded network refuses to connect to a Unix socket."""
    network = GuardedNetwork(Guard(), Internet({}))
    with pytest.raises(AddressRefused, match="/run/secret"):
        await network.connect_unix_socket("/run/secret")


# What is given --------------------------------------------------------------------------------------------------------
def test_allowed_hosts_are_normalised() -> None:
    """The allowed hosts are normalised to the form that connections use, including case, dots and IDNA."""
    given = ["LocalHost", "crm.internal.", "Grüße.de", "10.0.0.7", "::1", "[fd00::1]"]
    assert hosts_of(given) == {"localhost", "crm.internal", "xn--gre-6ka8l.de", "10.0.0.7", "::1", "fd00::1"}
    assert Patter(allow_private_hosts=given)._guard == Guard(reversed(given))


@pytest.mark.parametrize(
    "given", ["localhost", None, 7, [""], ["a b"], ["http://crm"], ["crm:80"], ["*.crm"], [b"crm"], ["a/b"]]
)
def test_invalid_allow_private_hosts_is_refused(given: Any) -> None:
    """An allow_private_hosts that is not a list of host names raises ConfigurationError."""
    with pytest.raises(ConfigurationError, match="allow_private_hosts must"):
        Patter(allow_private_hosts=given)


@pytest.mark.parametrize(
    ("url", "refused"),
    [
        ("http://localhost:8000/", True),
        ("http://LOCALHOST./", True),
        ("https://api.localhost/", True),
        ("http://127.0.0.1/", True),
        ("http://[::1]/", True),
        (f"http://{METADATA}/latest", True),
        ("https://8.8.8.8/", False),
        ("https://[2606:4700::1111]/", False),
        ("https://crm.internal/", False),  # it has yet to be looked up
    ],
)
def test_an_address_is_looked_at_early(url: str, refused: bool) -> None:
    """Guard.check() refuses a URL with a private address or localhost, and passes a name that needs a lookup."""
    check: Callable[[], None] = partial(Guard().check, url)
    if refused:
        with pytest.raises(AddressRefused, match="allow_private_hosts"):
            check()
    else:
        check()
