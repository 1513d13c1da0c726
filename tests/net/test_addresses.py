"""Public and non-public addresses: by the registries, in every spelling."""

from ipaddress import IPv4Address, IPv6Address, ip_address

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from patter_trio.net.addresses import refusal

INSIDE = {
    "0.0.0.0": "unspecified",
    "0.1.2.3": "unspecified",
    "10.0.0.0": "private",
    "10.255.255.255": "private",
    "100.64.0.1": "in a carrier's NAT",
    "100.127.255.255": "in a carrier's NAT",
    "127.0.0.1": "loopback",
    "127.255.255.254": "loopback",
    "169.254.169.254": "link-local",
    "172.16.0.1": "private",
    "172.31.255.255": "private",
    "192.0.0.8": "reserved",
    "192.0.2.1": "reserved",
    "192.88.99.1": "reserved",
    "192.168.1.1": "private",
    "198.18.0.1": "reserved",
    "198.19.255.255": "reserved",
    "198.51.100.7": "reserved",
    "203.0.113.7": "reserved",
    "224.0.0.1": "multicast",
    "239.255.255.255": "multicast",
    "240.0.0.1": "reserved",
    "255.255.255.255": "reserved",
    "::": "unspecified",
    "::1": "loopback",
    "::7f00:1": "reserved",  # what IPv4-compatible addresses were
    "fc00::1": "private",
    "fd00:ec2::254": "private",  # a cloud's metadata
    "fe80::1": "link-local",
    "fe80::1%eth0": "link-local",
    "fec0::1": "private",
    "ff02::1": "multicast",
    "100::1": "reserved",
    "2001::1": "reserved",
    "2001:0:4136:e378:8000:63bf:3fff:fdd2": "reserved",  # Teredo
    "2001:db8::1": "reserved",
    "3fff::1": "reserved",
    "4000::1": "reserved",
    "5f00::1": "reserved",
    "64:ff9b:1::1": "reserved",
    "::ffff:0:127.0.0.1": "reserved",
    "::ffff:127.0.0.1": "loopback, within IPv6",
    "::ffff:a9fe:a9fe": "link-local, within IPv6",
    "64:ff9b::10.0.0.1": "private, within IPv6",
    "64:ff9b::169.254.169.254": "link-local, within IPv6",
    "2002:7f00:1::": "loopback, within IPv6",
    "2002:a9fe:a9fe::1": "link-local, within IPv6",
    "2620:0:ccc:0:0:5efe:10.0.0.1": "private, within IPv6",
    "2620:0:ccc:0:200:5efe:127.0.0.1": "loopback, within IPv6",
}
OUTSIDE = (
    "1.1.1.1",
    "9.255.255.255",
    "11.0.0.0",
    "100.63.255.255",
    "100.128.0.0",
    "169.253.255.255",
    "172.15.255.255",
    "172.32.0.0",
    "192.167.255.255",
    "198.17.255.255",
    "223.255.255.255",
    "2606:4700::1111",
    "2001:4860:4860::8888",
    "2a00:1450::1",
    "::ffff:8.8.8.8",
    "64:ff9b::8.8.8.8",
    "2002:808:808::1",
)


@pytest.mark.parametrize(("address", "kind"), INSIDE.items())
def test_non_public_address_is_refused_with_its_kind(address: str, kind: str) -> None:
    """The check refuses a non-public address and names its kind."""
    assert refusal(address) == kind


@pytest.mark.parametrize("address", OUTSIDE)
def test_what_is_there_is_not(address: str) -> None:
    """The check passes each public address, also next to a reserved range or wrapped in IPv6."""
    assert refusal(address) == ""


@pytest.mark.parametrize(
    "text", ["", "localhost", "127.1", "0x7f000001", "2130706433", "1.1.1.1 ", "010.1.1.1", "[::1]"]
)
def test_malformed_address_is_refused(text: str) -> None:
    """The check refuses a text that is not a canonical IP address."""
    assert refusal(text) == "not an address"


@given(st.ip_addresses(v=4) | st.ip_addresses(v=6))
@example(ip_address("64:ff9b::1"))
@example(ip_address("3fff:fff::1"))
def test_check_is_at_least_as_strict_as_ipaddress(
    address: IPv4Address | IPv6Address,
) -> None:
    """The check refuses each address that the ipaddress module does not call global, except for wrapped public ones."""
    if not refusal(str(address)):
        wraps = address.version == 6 and (
            address.ipv4_mapped or address.sixtofour or str(address).startswith("64:ff9b:")
        )
        assert address.is_global or wraps
        assert not any((address.is_multicast, address.is_loopback, address.is_link_local, address.is_unspecified))


@given(st.ip_addresses(v=4), st.integers(0, 2**64 - 1), st.integers(0x2400, 0x2FFF))
def test_ipv6_wrapping_ipv4_is_judged_as_that_ipv4(inner: IPv4Address, rest: int, top: int) -> None:
    """Every IPv6 form that wraps an IPv4 address gets the verdict of that IPv4 address."""
    low, judged = int(inner), refusal(str(inner))
    forms = (
        0xFFFF << 32 | low,
        0x64FF9B << 96 | low,
        0x2002 << 112 | low << 80 | rest,
        top << 112 | 0x5EFE << 32 | low,
        top << 112 | 0x02005EFE << 32 | low,
    )
    kinds = {refusal(str(IPv6Address(form))) for form in forms if not (form >> 112 == 0x2002 and _wraps_again(form))}
    assert kinds == {f"{judged}, within IPv6" if judged else ""}


def _wraps_again(form: int) -> bool:
    return form >> 32 & 0xFFFFFFFF in (0x5EFE, 0x02005EFE)
