"""Tunnels beside a server: where the URL comes from, and that no process is left.

The programs are stand-ins on PATH.
"""

import logging
import re
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import trio
import trio.testing

from patter_trio import ConfigurationError, Patter, PatterConnectionError, Twilio
from patter_trio.net.websocket_client import open_direct_stream_to
from patter_trio.server.tunnel import open_tunnel
from patter_trio.testing import SimulatedTwilio
from tests.kit.call import agent_of
from tests.kit.tunnels import CLOUDFLARED, NGROK, URL, Tunnels

CARRIER = Twilio("AC" + "1" * 32, "hush")
ADDRESS = ("127.0.0.1", 8123)
INSTALL = "a tunnel needs a program: install cloudflared"


@pytest.fixture
def tunnels(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Tunnels:
    return Tunnels(tmp_path / "bin", monkeypatch)


async def test_call_comes_through_the_tunnel(tunnels: Tunnels) -> None:
    """With ``serve(tunnel="ngrok")`` a call over the public URL hears the greeting; the tunnel ends with the server."""
    tunnels.install("ngrok", NGROK)
    phone, ends = Patter(CARRIER), list[dict[str, Any]]()
    with trio.fail_after(60):
        async with trio.open_nursery() as nursery:
            # Without a limit of lag: this runs in real time, on a machine that may be busy.
            options: dict[str, Any] = {"on_call_end": ends.append, "tunnel": "ngrok", "max_lag": None}
            serve = partial(phone.serve, agent_of(first_message="Hello."), 0, **options)
            address = await nursery.start(serve)
            url = phone.public_url(address)
            assert tunnels.arguments("ngrok") == [
                *("http", f"http://127.0.0.1:{address[1]}", "--log", "stdout", "--log-format", "json")
            ]
            assert url != f"http://127.0.0.1:{address[1]}"
            call = SimulatedTwilio(
                partial(open_direct_stream_to, url),
                url,
                account_sid=CARRIER.account_sid,
                auth_token=CARRIER.auth_token,
            )
            async with trio.open_nursery() as line:
                await line.start(call.run)
                while not call.played():  # noqa: ASYNC110 (no event reports what is heard)
                    await trio.sleep(0.02)
                call.hang_up()
            assert tunnels.runs("ngrok")
            nursery.cancel_scope.cancel()
    assert [end["outcome"] for end in ends] == ["caller_hung_up"]
    assert not tunnels.runs("ngrok")
    assert phone.public_url(address) == f"http://127.0.0.1:{address[1]}"


@pytest.mark.parametrize("tunnel", ["cloudflared", True], ids=["named", "any"])
async def test_cloudflared_is_the_first_choice(tunnels: Tunnels, tunnel: str | bool) -> None:
    """The URL of cloudflared's quick tunnel is used, by its name or without one, although ngrok is there, too."""
    tunnels.install("cloudflared", CLOUDFLARED)
    tunnels.install("ngrok", NGROK)
    with trio.fail_after(60):
        async with open_tunnel(tunnel, ("::", 8123)) as url:
            assert url == URL
    assert tunnels.arguments("cloudflared") == ["tunnel", "--no-autoupdate", "--url", "http://[::1]:8123"]
    assert not tunnels.arguments("ngrok")
    assert not tunnels.runs("cloudflared")


async def test_a_static_hostname_starts_nothing(tunnels: Tunnels) -> None:
    """A hostname stands for a tunnel that runs already, and is reached by https."""
    async with open_tunnel("agent.example.com", ADDRESS) as url:
        assert url == "https://agent.example.com"
    async with open_tunnel("https://example.com/desk/", ADDRESS) as url:
        assert url == "https://example.com/desk"


@pytest.mark.parametrize(
    ("tunnel", "message"),
    [
        (True, f"neither cloudflared nor ngrok is on PATH: {INSTALL}"),
        ("ngrok", f"ngrok is not on PATH: {INSTALL}"),
        ("ngrock", "tunnel must be cloudflared or ngrok, or a hostname, got 'ngrock' (did you mean ngrok?)"),
        (8000, "tunnel must be 'cloudflared', 'ngrok', True for either, or a hostname, got int"),
        ("https://a b.example", "the public URL must be a URL with a host and without spaces"),
    ],
    ids=["neither", "named", "misspelt", "type", "bad-url"],
)
async def test_wrong_tunnels_are_refused_at_once(tunnels: Tunnels, tunnel: Any, message: str) -> None:
    """A tunnel that cannot be opened is refused before the port is open, with what to do instead."""
    with pytest.raises(ConfigurationError, match=re.escape(message)):
        await Patter(CARRIER).serve(agent_of(), 0, tunnel=tunnel)


def test_two_public_addresses_are_refused() -> None:
    """A phone has either a webhook_url or a tunnel."""
    with pytest.raises(ConfigurationError, match="either webhook_url= or tunnel=, not both"):
        Patter(CARRIER, webhook_url="agent.example.com", tunnel=True)


async def test_a_tunnel_that_fails_says_why(tunnels: Tunnels) -> None:
    """A program that ends without a URL is reported with its status and last lines, in which keys are masked."""
    tunnels.install("ngrok", "print('ERROR: authentication failed: ' + 'ab' * 20, end='')\nsys.exit(3)")
    with pytest.raises(PatterConnectionError) as caught, trio.fail_after(60):
        async with open_tunnel(True, ADDRESS):
            pass
    assert str(caught.value) == (
        "ngrok has ended with status 3: callers cannot reach this server; ERROR: authentication failed: …"
    )


async def test_a_file_that_cannot_run(tunnels: Tunnels, tmp_path: Path) -> None:
    """A file on PATH that is not a program of this machine is a mistake in its installation."""
    program = tmp_path / "bin" / "ngrok"
    program.write_bytes(b"\x7fELF")
    program.chmod(0o755)
    with pytest.raises(ConfigurationError, match="ngrok cannot be started: Exec format error"):
        async with open_tunnel(True, ADDRESS):
            pass


async def test_a_tunnel_without_url_is_stopped(tunnels: Tunnels, autojump_clock: trio.testing.MockClock) -> None:
    """A program that reports no URL within 30 s is stopped, and so is one that ignores SIGTERM."""
    tunnels.install("ngrok", "import signal\nsignal.signal(signal.SIGTERM, signal.SIG_IGN)\ntime.sleep(3600)")
    with pytest.raises(PatterConnectionError, match="ngrok must have a public URL within 30 s"):
        async with open_tunnel(True, ADDRESS):
            pass
    assert not tunnels.runs("ngrok")


async def test_a_lost_tunnel_ends_the_server(tunnels: Tunnels) -> None:
    """When the tunnel ends while a server runs, ``serve`` ends with an error instead of waiting for no calls."""
    tunnels.install("cloudflared", CLOUDFLARED.replace("3600", "0.1"))
    with pytest.raises(PatterConnectionError, match="cloudflared has ended with status 0: callers cannot reach"):
        with trio.fail_after(60):
            await Patter(CARRIER, tunnel=True).serve(agent_of(), 0)


@pytest.mark.deep
async def test_output_is_read_to_its_end(tunnels: Tunnels, caplog: pytest.LogCaptureFixture) -> None:
    """A program that prints without end is never stopped by a full pipe, nor is its output kept."""
    more = "sys.stderr.write('x' * 300000 + '\\n' + 'y\\n' * 100000)\nprint('done', flush=True)\ntime.sleep(3600)"
    tunnels.install("cloudflared", CLOUDFLARED.replace("time.sleep(3600)", more))
    with caplog.at_level(logging.DEBUG, "patter_trio.server"), trio.fail_after(60):
        async with open_tunnel(True, ADDRESS):
            while "cloudflared: done" not in caplog.text:  # noqa: ASYNC110 (no event reports it)
                await trio.sleep(0.05)
