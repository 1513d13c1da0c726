"""A guard around the suite: no test looks a name of the internet up, whoever asks and in whichever thread."""

import contextlib
import ipaddress
import socket
import sys
from collections.abc import Iterator

import pytest

# RFC 6761: no resolver knows them, so asking for one reaches nobody.
_UNKNOWN_TO_ALL = (".test", ".invalid", ".localhost")


class OutsideGuard:
    """Refuses to look names of the internet up, and keeps those that were asked for."""

    def __init__(self) -> None:
        self.asked: list[str] = []
        # An audit hook hears of every look-up of this process, below each library; it cannot be taken away.
        sys.addaudithook(self._hear)

    def _hear(self, event: str, arguments: tuple[object, ...]) -> None:
        if event == "socket.getaddrinfo" and is_outside(arguments[0]):
            self.asked.append(str(arguments[0]))
            # As a resolver without a network: to the code under test, the error is nothing new.
            raise socket.gaierror(socket.EAI_NONAME, "no test reaches the internet")


def is_outside(host: object) -> bool:
    """Return True if a name may lead out of this machine."""
    name = host.decode() if isinstance(host, bytes) else host
    if not isinstance(name, str) or f".{name}".lower().rstrip(".").endswith(_UNKNOWN_TO_ALL):
        return False
    with contextlib.suppress(ValueError):
        ipaddress.ip_address(name.partition("%")[0])
        return False
    # The old forms of an IPv4 address, too, such as 0x7f.1.
    with contextlib.suppress(OSError):
        socket.inet_aton(name)
        return False
    return bool(name)


@pytest.fixture(scope="session")
def outside() -> OutsideGuard:
    """The guard of this process."""
    return OutsideGuard()


@pytest.fixture(autouse=True)
def kept_inside(outside: OutsideGuard) -> Iterator[None]:
    """Fail a test that looks a name of the internet up, such as a carrier's."""
    outside.asked.clear()
    yield
    if outside.asked:
        pytest.fail(f"a test must reach nothing outside of this machine, got look-ups of {outside.asked}")
