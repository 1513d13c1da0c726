"""The guard of requests to URLs that others may have written: they reach the internet, but not our own network.

The server runs where outsiders cannot go: beside databases and consoles without passwords, and in clouds beside
169.254.169.254, which gives credentials to any client. So a URL alone must not decide where a request goes.

* **The checked address is the connected one.** The name is looked up once, here, while the connection is opened.
  ``net/addresses.py`` judges each address, and the connection goes to one of them by its number. A check before the
  request would be followed by another lookup, which may give another answer (DNS rebinding).
* **One bad address spoils the name.** A name with one address inside and one outside is more often a trick than a
  mistake.
* **TLS verifies the name.** The certificate has to be valid for the name, not for the address.
* **Connections are not shared** between guards: each has its own pool, because an open connection is not checked again.
* **No proxies.** A proxy does the lookup itself, so nothing could be checked here.

A host can be allowed by name; all its addresses are then accepted.
"""

# ruff: noqa: PLC0415 (every phone has a guard, but only one with hosts or requests needs httpx)

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Final

import attrs

from patter_trio.errors import ConfigurationError, ProviderError
from patter_trio.net.addresses import refusal

if TYPE_CHECKING:
    import httpx

PRIVATE_HOSTS_OPTION: Final = "allow_private_hosts"


class AddressRefused(ProviderError):
    """A URL whose address requests must not reach; the message names it, and the option that would allow it."""


def host_of(url: "httpx.URL | str") -> str:
    """Return the host of a URL in the form that connections use: ASCII, lower case, without a trailing dot."""
    import httpx

    return httpx.URL(url).raw_host.decode("ascii").lower().rstrip(".")


def hosts_of(given: object) -> frozenset[str]:
    """Return the names in ``allow_private_hosts=``, in the form that connections use.

    Raises:
        ConfigurationError: the value is not a list of names, or one of them is a URL or has a port.
    """
    # A text is iterable, too: "localhost" would become nine hosts of one letter.
    if isinstance(given, str | bytes) or not isinstance(given, Iterable):
        raise ConfigurationError(f'{PRIVATE_HOSTS_OPTION} must be a list of names such as ["localhost"], got {given!r}')
    return frozenset(_host(name) for name in given)


def _host(name: object) -> str:
    import httpx

    # Refused before httpx reads it: it would take a part of such a text for a port or a path, and the rest for the
    # host.
    if isinstance(name, str) and not any(character in "/@?#*%" or character.isspace() for character in name):
        try:
            url = httpx.URL(scheme="http", host=name.removeprefix("[").removesuffix("]"))
            if (host := host_of(url)) and url.port is None:
                return host
        # Falls through to the error below, which says more to the reader than httpx's.
        except httpx.InvalidURL:
            pass
    raise ConfigurationError(
        f"{PRIVATE_HOSTS_OPTION} must have names or addresses without scheme, port or *, got {name!r}"
    )


@attrs.frozen
class Guard:
    """The rule for requests: public addresses, and the hosts in ``allowed`` whatever their addresses."""

    allowed: frozenset[str] = attrs.field(default=frozenset(), converter=hosts_of)

    def check(self, url: str) -> None:
        """Check a URL before any lookup: its address, or a name that means this machine.

        Raises:
            AddressRefused: requests must not go there. A name that needs a lookup is refused later.
        """
        host = host_of(url)
        if host == "localhost" or host.endswith(".localhost"):  # RFC 6761, section 6.3
            self.judge(host, ["127.0.0.1"])
        # Only what must be a number is judged as one: an address with a letter in it, such as 0x7f.1, goes to the
        # resolver and is judged by what comes back.
        elif host.replace(".", "").isdigit() or ":" in host:
            self.judge(host, [host])

    def judge(self, host: str, addresses: Sequence[str]) -> None:
        """Check that a host may be connected to at all of its addresses.

        Raises:
            AddressRefused: one of them is refused.
        """
        # Before the addresses: the name was allowed on purpose, whatever it resolves to.
        if host.lower().rstrip(".") in self.allowed:
            return
        for address in addresses:
            if why := refusal(address):
                has = "is" if address == host else f"has the address {address}, which is"
                raise AddressRefused(f'{host} {has} {why}; to allow it, set Patter({PRIVATE_HOSTS_OPTION}=["{host}"])')
