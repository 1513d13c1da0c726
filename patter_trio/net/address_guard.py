"""Where requests to a URL that somebody else may have written can go: to the internet, and not into our own network.

A server of ours stands where others cannot go: beside databases and consoles that ask nobody for a password, and on
clouds beside 169.254.169.254, which gives credentials away to whoever asks. So a URL must not decide alone.

* **What is checked is what is connected to.** The name is looked up once, here, within the opening of the connection; each
  address that came is judged by ``net/addresses.py``, and the connection goes to one of them by its number. A check
  before the request would be followed by another lookup, which may give another answer (DNS rebinding).
* **One bad address spoils the name.** A name that has one inside and one outside is a trick more often than a mistake.
* **TLS knows the name.** The certificate has to be the name's, as if nobody had looked at the address.
* **Connections are not shared** between guards: each has a pool of its own, since a connection that is open is not
  checked again.
* **No proxies.** A proxy does the lookup itself, so that there is nothing to be checked here.

A host may be let through by name: all its addresses are then good.
"""

# ruff: noqa: PLC0415 (every phone has a guard, but only one that names hosts or sends requests needs httpx)

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Final

import attrs

from patter_trio.errors import ConfigurationError, ProviderError
from patter_trio.net.addresses import refusal

if TYPE_CHECKING:
    import httpx

OPTION: Final = "allow_private_hosts"


class AddressRefused(ProviderError):
    """A URL leads to where requests must not go; the message says where, and what would allow it."""


def host_of(url: "httpx.URL | str") -> str:
    """Return the host of a URL as connections know it: in ASCII and lower case, without the dot at its end."""
    import httpx

    return httpx.URL(url).raw_host.decode("ascii").lower().rstrip(".")


def hosts_of(given: object) -> frozenset[str]:
    """Return what ``allow_private_hosts=`` means: the names in it, as connections know them.

    Raises:
        ConfigurationError: it is no list of names, or one of them is a URL or has a port.
    """
    if isinstance(given, str | bytes) or not isinstance(given, Iterable):
        raise ConfigurationError(f'{OPTION} must be a list of names such as ["localhost"], not {given!r}')
    return frozenset(_host(name) for name in given)


def _host(name: object) -> str:
    import httpx

    if isinstance(name, str) and not any(character in "/@?#*%" or character.isspace() for character in name):
        try:
            url = httpx.URL(scheme="http", host=name.removeprefix("[").removesuffix("]"))
            if (host := host_of(url)) and url.port is None:
                return host
        except httpx.InvalidURL:
            pass
    raise ConfigurationError(f"{OPTION} must have names or addresses without scheme, port or *, not {name!r}")


@attrs.frozen
class Guard:
    """What requests may be sent to: addresses of the internet, and the hosts in ``allowed``, wherever they are."""

    allowed: frozenset[str] = attrs.field(default=frozenset(), converter=hosts_of)

    def check(self, url: str) -> None:
        """Look at a URL early, before anything is asked: at an address, or a name that means this machine.

        Raises:
            AddressRefused: nothing can be sent there; a name that has yet to be looked up is refused later.
        """
        host = host_of(url)
        if host == "localhost" or host.endswith(".localhost"):  # RFC 6761, section 6.3
            self.judge(host, ["127.0.0.1"])
        elif host.replace(".", "").isdigit() or ":" in host:
            self.judge(host, [host])

    def judge(self, host: str, addresses: Sequence[str]) -> None:
        """Make sure that a host may be connected to at all of its addresses.

        Raises:
            AddressRefused: it may not.
        """
        if host.lower().rstrip(".") in self.allowed:
            return
        for address in addresses:
            if why := refusal(address):
                has = "is" if address == host else f"has the address {address}, which is"
                raise AddressRefused(f'{host} {has} {why}; if it is meant, allow it: Patter({OPTION}=["{host}"])')
