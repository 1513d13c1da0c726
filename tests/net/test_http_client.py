"""The shared HTTP client: warm, bounded in time and size, and without secrets in its errors and logs."""

import logging
import math
from collections.abc import Mapping
from typing import Any

import httpx
import pytest
import trio
import trio.testing

from patter_trio.errors import AuthenticationError, ProviderError, ProviderTimeout, RateLimitError
from patter_trio.net import http as shell
from patter_trio.net.http import Client, answered_here, origin_of, shared_client
from tests.kit.web import Request, fetch, serving


async def ask(client: Client, url: str, *, within: float = 5.0, largest: int = 100) -> bytes:
    return await fetch(client, "POST", url, content=b"{}", head_timeout=within, max_bytes=largest)


async def hello(request: Request) -> None:
    await request.answer(b"Hello.")


async def test_one_connection_serves_request_after_request(autojump_clock: trio.testing.MockClock) -> None:
    """Three requests, each 50 s after the one before, share one connection and ask for an uncompressed answer."""
    async with serving(hello) as web, shared_client() as client:
        for _ in range(3):
            assert await ask(client, web.url) == b"Hello."
            await trio.sleep(50)
    assert [request.connection for request in web.requests] == [1, 1, 1]
    assert web.requests[0].headers["accept-encoding"] == "identity"


async def test_requests_are_answered_within_the_process(autojump_clock: trio.testing.MockClock) -> None:
    """Requests below a registered address are answered by its function, refusals as by a server; others are not."""
    asked: list[tuple[str, str, bytes]] = []

    async def answer(
        method: str, url: str, headers: Mapping[str, str], body: bytes
    ) -> tuple[int, dict[str, str], bytes]:
        await trio.lowlevel.checkpoint()
        asked.append((method, url, body))
        assert headers["content-length"] == "2"
        return (401, {}, b"no") if url.endswith("refused") else (200, {}, b"Here.")

    async with serving(hello) as web, shared_client() as client:
        with answered_here("https://carrier.test/calls/v3:1/", answer):
            assert await ask(client, "https://carrier.test/calls/v3%3A1/x") == b"Here."
            with pytest.raises(AuthenticationError, match="answered 401"):
                await ask(client, "https://carrier.test/calls/v3:1/refused")
            assert await ask(client, web.url) == b"Hello."
    assert asked[0] == ("POST", "https://carrier.test/calls/v3%3A1/x", b"{}")
    assert len(asked) == 2


async def test_abandoned_answer_closes_its_connection_at_once(autojump_clock: trio.testing.MockClock) -> None:
    """Leaving or cancelling an answer closes its connection at once."""

    async def slowly(request: Request) -> None:
        await request.head()
        await request.chunk(b"One")
        await trio.sleep_forever()

    async with serving(slowly) as web, shared_client() as client:
        async with client.stream("GET", web.url + "/a", head_timeout=5, max_bytes=100) as answer:
            async for piece in answer.pieces():
                assert piece == b"One"
                break
        await trio.testing.wait_all_tasks_blocked()
        assert web.interrupted == ["/a"]
        with trio.move_on_after(2) as scope:
            await ask(client, web.url + "/b", within=60)
        assert scope.cancelled_caught
        await trio.testing.wait_all_tasks_blocked()
        assert web.interrupted == ["/a", "/b"]
        assert trio.current_time() == pytest.approx(2.0)


async def test_shared_client_closes_with_its_last_user(autojump_clock: trio.testing.MockClock) -> None:
    """All users share one HTTP client, and the last user closes it."""
    async with serving(hello) as web:
        async with shared_client() as one:
            async with shared_client() as other:
                await ask(other, web.url)
            await ask(one, web.url)
            assert web.left == []
        await trio.testing.wait_all_tasks_blocked()
        assert len(web.left) == 1
        async with shared_client() as later:
            await ask(later, web.url)
    assert [request.connection for request in web.requests] == [1, 1, 2]


@pytest.mark.parametrize(
    ("status", "error"),
    [(400, ProviderError), (401, AuthenticationError), (403, AuthenticationError), (429, RateLimitError),
     (500, ProviderError)],
)  # fmt: skip
async def test_http_status_raises_a_specific_error(
    autojump_clock: trio.testing.MockClock, status: int, error: type[ProviderError]
) -> None:
    """Each HTTP error status raises its specific ProviderError without the path, query or body."""

    async def refuse(request: Request) -> None:
        await request.answer(b"secret details", status)

    async with serving(refuse) as web, shared_client() as client:
        with pytest.raises(ProviderError) as raised:
            await ask(client, f"{web.url}/hush?key=hush")
    assert type(raised.value) is error
    assert str(raised.value) == f"{web.url} answered {status} Reason"


async def test_a_redirect_is_followed_nowhere(autojump_clock: trio.testing.MockClock) -> None:
    """A redirect raises ProviderError, and the client sends nothing to its target."""
    async with serving(hello) as elsewhere, shared_client() as client:

        async def away(request: Request) -> None:
            await request.answer(status=307, Location=elsewhere.url)

        async with serving(away) as web:
            with pytest.raises(ProviderError, match="answered 307: redirects are not followed"):
                await ask(client, web.url)
    assert elsewhere.requests == []


async def test_http_deadlines_cover_head_and_pieces(
    autojump_clock: trio.testing.MockClock,
) -> None:
    """The deadlines of the HTTP client limit the head and each piece of an answer."""

    async def stalls(request: Request) -> None:
        if request.target == "/head":
            await trio.sleep_forever()
        await request.head()
        while True:
            await trio.sleep(3.0)
            await request.chunk(b"x")

    async with serving(stalls) as web, shared_client() as client:
        with pytest.raises(ProviderTimeout, match="did not answer within 5 s"):
            await ask(client, web.url + "/head")
        assert trio.current_time() == pytest.approx(5.0)
        async with client.stream("GET", web.url, head_timeout=1.0, piece_timeout=2.0, max_bytes=9) as answer:
            with pytest.raises(ProviderTimeout, match="did not answer within 2 s"):
                await answer.read()
        assert trio.current_time() == pytest.approx(7.0)


@pytest.mark.parametrize("whole", [True, False])
async def test_oversized_answer_is_abandoned(autojump_clock: trio.testing.MockClock, whole: bool) -> None:
    """An answer over the size limit raises ProviderError, with or without a declared length."""

    async def floods(request: Request) -> None:
        if whole:
            await request.answer(b"x" * 101)
            return
        await request.head()
        while True:
            await request.chunk(b"x" * 10)

    async with serving(floods) as web, shared_client() as client:
        with pytest.raises(ProviderError, match="must have at most 100 bytes"):
            await ask(client, web.url)


async def test_a_compressed_answer_is_not_taken(autojump_clock: trio.testing.MockClock) -> None:
    """A compressed answer raises ProviderError, since a few kilobytes could become gigabytes."""

    async def compresses(request: Request) -> None:
        await request.answer(b"\x1f\x8b", Content_Encoding="gzip")

    async with serving(compresses) as web, shared_client() as client:
        with pytest.raises(ProviderError, match="must not compress its answer, got"):
            await ask(client, web.url)


async def breaks_in_the_middle(request: Request) -> None:
    await request.stream.send_all(b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nabc")
    await request.stream.aclose()


async def hangs_up(request: Request) -> None:
    await request.stream.aclose()


async def speaks_no_http(request: Request) -> None:
    await request.stream.send_all(b"220 mail.example.com ESMTP\r\n\r\n")


@pytest.mark.parametrize("server", [breaks_in_the_middle, hangs_up, speaks_no_http])
async def test_a_server_that_breaks_is_a_providers_failure(autojump_clock: trio.testing.MockClock, server: Any) -> None:
    """An answer that breaks off, is missing or is not HTTP raises ProviderError with the HTTP error as its cause."""
    async with serving(server) as web, shared_client() as client:
        with pytest.raises(ProviderError, match="broke: ") as raised:
            await ask(client, web.url)
    assert isinstance(raised.value.__cause__, httpx.HTTPError)


async def test_closed_port_raises_provider_error(autojump_clock: trio.testing.MockClock) -> None:
    """A closed port raises ProviderError."""
    async with serving(hello) as web:
        pass
    async with shared_client() as client:
        with pytest.raises(ProviderError, match="could not be reached"):
            await ask(client, web.url)


async def test_no_cookie_is_kept(autojump_clock: trio.testing.MockClock) -> None:
    """The client does not send a cookie that an earlier answer has set."""

    async def sets(request: Request) -> None:
        await request.answer(b"x", Set_Cookie="session=of-another-call; Path=/")

    async with serving(sets) as web, shared_client() as client:
        await ask(client, web.url)
        await ask(client, web.url)
    assert "cookie" not in web.requests[1].headers


async def test_log_hides_urls_of_our_client_only(
    autojump_clock: trio.testing.MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    """The log contains no URL of the shared client, and other users of httpx keep their log lines."""
    caplog.set_level(logging.INFO)
    async with serving(hello) as web, shared_client() as client:
        await ask(client, f"http://user:hush@{web.url.removeprefix('http://')}/hush?key=hush")
        assert "hush" not in caplog.text
        assert web.requests[0].headers["authorization"].startswith("Basic ")
        async with httpx.AsyncClient() as theirs:
            await theirs.get(web.url + "/theirs")
    assert "/theirs" in caplog.text


async def test_debug_log_hides_headers_of_our_client_only(
    autojump_clock: trio.testing.MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    """The log at the level of debug has no header of our answers, and other users of httpcore keep their lines."""
    caplog.set_level(logging.DEBUG)

    async def sets(request: Request) -> None:
        await request.answer(b"x", Set_Cookie="session=hush; Path=/")

    async with serving(sets) as web, shared_client() as client:
        await ask(client, web.url)
        await client.warm(web.url, head_timeout=1)
        assert "hush" not in caplog.text
        async with httpx.AsyncClient() as theirs:
            await theirs.get(web.url + "/theirs")
    assert "hush" in caplog.text


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("https://user:hush@Agent.example.com/hush?key=hush#hush", "https://agent.example.com"),
        ("ws://127.0.0.1:8000/x", "ws://127.0.0.1:8000"),
        ("http://[::1]:80/", "http://[::1]:80"),
    ],
)
def test_of_a_url_only_the_origin_is_shown(url: str, shown: str) -> None:
    """origin_of() returns scheme, host and port of a URL, without user, path, query and fragment."""
    assert origin_of(url) == shown


def test_tls_is_verified_and_its_context_made_once() -> None:
    """All connections share one TLS context, which verifies certificates and host names."""
    context = shell.tls_context()
    assert context is shell.tls_context()
    assert context.check_hostname
    assert math.isfinite(context.verify_mode)
    assert context.verify_mode.name == "CERT_REQUIRED"
