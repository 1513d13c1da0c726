"""Rules that separate public IP addresses from all others, without I/O; used by ``net/address_guard.py``.

The IPv4 table lists what is not public, the IPv6 rule what is: an eighth of the IPv6 space is in use, and future
allocations are refused until this table has been reviewed. An address that only wraps an IPv4 address (mapped, NAT64,
6to4, ISATAP) is judged by the wrapped address, because its packets go there. The prefixes that a network may have
chosen for its own NAT64 (RFC 6052, section 2.2) cannot be distinguished from others.

Sources: IANA's registries of special-purpose addresses (https://www.iana.org/assignments/iana-ipv4-special-registry,
.../iana-ipv6-special-registry), RFC 6890 and 8190; 100.64.0.0/10: RFC 6598; ``64:ff9b::/96``: RFC 6052; 6to4: RFC 3056;
ISATAP: RFC 5214 section 6.1.
"""

from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address
from typing import Final

_V4: Final = tuple(
    (IPv4Network(network), kind)
    for network, kind in (
        ("0.0.0.0/8", "unspecified"),
        ("10.0.0.0/8", "private"),
        ("100.64.0.0/10", "in a carrier's NAT"),
        ("127.0.0.0/8", "loopback"),
        ("169.254.0.0/16", "link-local"),
        ("172.16.0.0/12", "private"),
        ("192.0.0.0/24", "reserved"),
        ("192.0.2.0/24", "reserved"),
        ("192.88.99.0/24", "reserved"),
        ("192.168.0.0/16", "private"),
        ("198.18.0.0/15", "reserved"),
        ("198.51.100.0/24", "reserved"),
        ("203.0.113.0/24", "reserved"),
        ("224.0.0.0/4", "multicast"),
        ("240.0.0.0/4", "reserved"),
    )
)
_V6: Final = tuple(
    (IPv6Network(network), kind)
    for network, kind in (
        ("::/128", "unspecified"),
        ("::1/128", "loopback"),
        ("fc00::/7", "private"),
        ("fe80::/10", "link-local"),
        ("fec0::/10", "private"),
        ("ff00::/8", "multicast"),
        ("2001::/23", "reserved"),  # includes Teredo, which wraps an IPv4 address behind a NAT
        ("2001:db8::/32", "reserved"),
        ("3fff::/20", "reserved"),
    )
)
# All global unicast addresses that IANA has assigned so far are in it.
_IN_USE: Final = IPv6Network("2000::/3")
_NAT64: Final = IPv6Network("64:ff9b::/96")
_6TO4: Final = IPv6Network("2002::/16")
# With and without the bit for "globally unique" (RFC 5214, section 6.1).
_ISATAP: Final = (0x0000_5EFE, 0x0200_5EFE)
"""Upper halves of interface identifiers whose lower half is an IPv4 address."""


def refusal(address: str) -> str:
    """Return why an address is not public, in a word or two; empty if it is public.

    Args:
        address: IPv4 or IPv6 as text, as a resolver returns it, with or without a zone.
    """
    try:
        found = ip_address(address)
    # A resolver returns only addresses; nothing else can be judged, so it is refused.
    except ValueError:
        return "not an address"
    return _refusal_v4(found) if isinstance(found, IPv4Address) else _refusal_v6(found)


def _refusal_v4(address: IPv4Address) -> str:
    return next((kind for network, kind in _V4 if address in network), "")


def _refusal_v6(address: IPv6Address) -> str:
    wrapped = _wrapped(address)
    # The wrapped address first: its packets leave the IPv6 network for it.
    if wrapped is not None and (kind := _refusal_v4(wrapped)):
        return f"{kind}, within IPv6"
    # Public, although ::ffff:0:0/96 and 64:ff9b::/96 are outside the space in use.
    if address.ipv4_mapped is not None or address in _NAT64:
        return ""
    return next((kind for network, kind in _V6 if address in network), "" if address in _IN_USE else "reserved")


def _wrapped(address: IPv6Address) -> IPv4Address | None:
    """Return the IPv4 address that packets to this address are for, if the address shows it."""
    bits = int(address)
    # NAT64 and mapped addresses have it in the last 32 bits, 6to4 behind its 16 bits of prefix.
    if address.ipv4_mapped is not None or address in _NAT64 or (bits >> 32) & 0xFFFF_FFFF in _ISATAP:
        return IPv4Address(bits & 0xFFFF_FFFF)
    return IPv4Address((bits >> 80) & 0xFFFF_FFFF) if address in _6TO4 else None
