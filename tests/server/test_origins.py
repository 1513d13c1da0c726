"""Whether a request comes from a page of this server, by its headers."""

import pytest

from patter_trio.server.origins import is_own_origin


@pytest.mark.parametrize(
    ("origin", "host"),
    [
        ("http://localhost:8000", "localhost:8000"),
        ("http://127.0.0.1:8000", "127.0.0.1:8000"),
        ("http://[::1]:8000", "[::1]:8000"),
        ("https://agent.example", "agent.example"),
        ("HTTP://LocalHost:8000", "localhost:8000"),
    ],
)
def test_own_page_is_known(origin: str, host: str) -> None:
    """An origin with the request's host and port is the server's own."""
    assert is_own_origin([origin], [host])


@pytest.mark.parametrize(
    ("origins", "hosts"),
    [
        ([], ["localhost:8000"]),
        (["http://localhost:8000"], []),
        (["null"], ["localhost:8000"]),
        (["null"], ["null"]),
        ([""], [""]),
        (["http://"], [""]),
        (["http://localhost:8001"], ["localhost:8000"]),
        (["http://localhost"], ["localhost:8000"]),
        (["http://127.0.0.1:8000"], ["localhost:8000"]),
        (["http://localhost:8000.evil.test"], ["localhost:8000"]),
        (["http://evil.test/localhost:8000"], ["localhost:8000"]),
        (["http://user@localhost:8000"], ["localhost:8000"]),
        (["file://localhost:8000"], ["localhost:8000"]),
        (["http://localhost:8000", "http://evil.test"], ["localhost:8000"]),
        (["http://localhost:8000, http://evil.test"], ["localhost:8000"]),
        (["http://evil.test"], ["localhost:8000", "evil.test"]),
    ],
)
def test_other_pages_are_strangers(origins: list[str], hosts: list[str]) -> None:
    """Another site, another port, a file, a sandboxed frame and doubled headers are not the server's own page."""
    assert not is_own_origin(origins, hosts)
