"""The proxies of docs/deploy.md: the real nginx and Caddy with the files of ``deploy/``, in front of a real server."""

import os
import shutil
import signal
import socket
import subprocess
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import attrs
import pytest
import trio

from patter_trio import Patter, Twilio
from patter_trio.net.http import shared_client, tls_context
from patter_trio.net.websocket_client import open_direct_stream_to
from patter_trio.testing import CallRefused, SimulatedTwilio
from patter_trio.testing.scripted_providers.audible_text import encode
from tests.kit.call import agent_of
from tests.kit.front import OPENSSL, certificate_in
from tests.kit.programs import free_port

DEPLOY = Path(__file__).parents[2] / "deploy"
# Requests find nobody at that port of this machine, and fail at once.
CARRIER = Twilio("AC" + "1" * 32, "hush", api_url="http://127.0.0.1:1")
# Debian has nginx where only root looks.
PATH = f"{os.environ.get('PATH', '')}:/usr/sbin:/usr/bin"
NGINX = """
daemon off;
worker_processes 1;
pid {folder}/nginx.pid;
error_log {folder}/error.log warn;
events {{ }}
http {{
    access_log off;
    client_body_temp_path {folder}/body;
    proxy_temp_path {folder}/proxy;
    fastcgi_temp_path {folder}/fastcgi;
    uwsgi_temp_path {folder}/uwsgi;
    scgi_temp_path {folder}/scgi;
    include {folder}/site.conf;
}}
"""
"""What is around the site's file in Debian's nginx.conf, in a folder of the test's."""
CADDY_OPTIONS = "{\n\tadmin off\n\tauto_https off\n}\n"
"""No names are requested, and no other Caddy on the machine is disturbed."""

pytestmark = pytest.mark.skipif(OPENSSL is None, reason="makes its certificate with openssl")


@attrs.frozen
class Ports:
    """The ports of the proxy, for TLS and without, and of the server behind it."""

    tls: int
    plain: int
    server: int

    @property
    def url(self) -> str:
        return f"https://127.0.0.1:{self.tls}"


def replaced(text: str, changes: Mapping[str, str]) -> str:
    """Replace each piece of a file of ``deploy/``, which must have it exactly once."""
    for old, new in changes.items():
        assert text.count(old) == 1, old
        text = text.replace(old, new)
    return text


def nginx(folder: Path, ports: Ports, certificate: Path) -> tuple[list[str], dict[str, str]]:
    site = replaced(
        (DEPLOY / "nginx.conf").read_text(),
        {
            "listen 80;": f"listen 127.0.0.1:{ports.plain};",
            "listen 443 ssl;": f"listen 127.0.0.1:{ports.tls} ssl;",
            "/etc/letsencrypt/live/agent.example.com/fullchain.pem": str(certificate),
            "/etc/letsencrypt/live/agent.example.com/privkey.pem": str(certificate.with_name("key.pem")),
            "http://127.0.0.1:8000": f"http://127.0.0.1:{ports.server}",
        },
    )
    (folder / "site.conf").write_text(site)
    (folder / "nginx.conf").write_text(NGINX.format(folder=folder))
    return ["-p", str(folder), "-c", str(folder / "nginx.conf"), "-e", str(folder / "error.log")], {}


def caddy(folder: Path, ports: Ports, certificate: Path) -> tuple[list[str], dict[str, str]]:
    site = replaced(
        (DEPLOY / "Caddyfile").read_text(),
        {
            ":agent.example.com} {\n": f":agent.example.com}} {{\n\ttls {certificate} "
            f"{certificate.with_name('key.pem')}\n"
        },
    )
    (folder / "Caddyfile").write_text(CADDY_OPTIONS + site)
    environment = {
        "PATTER_HOST": ports.url,
        "PATTER_UPSTREAM": f"127.0.0.1:{ports.server}",
        "HOME": str(folder),
        "XDG_DATA_HOME": str(folder),
        "XDG_CONFIG_HOME": str(folder),
    }
    return ["run", "--config", str(folder / "Caddyfile"), "--adapter", "caddyfile"], environment


PROXIES: dict[str, Callable[[Path, Ports, Path], tuple[list[str], dict[str, str]]]] = {"nginx": nginx, "caddy": caddy}


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return certificate_in(tmp_path_factory.mktemp("tls"))


@attrs.frozen
class Proxy:
    """A proxy that runs, and where."""

    ports: Ports
    process: subprocess.Popen[bytes]


def started(name: str, folder: Path, certificate: Path) -> Proxy:
    program = shutil.which(name, path=PATH)
    if program is None:
        pytest.skip(f"{name} is not on this machine (Debian: apt-get install {name})")
    ports = Ports(free_port(), free_port(), free_port())
    arguments, environment = PROXIES[name](folder, ports, certificate)
    with (folder / "output").open("wb") as output:
        process = subprocess.Popen(  # noqa: S603 (the machine's own nginx or Caddy)
            [program, *arguments], stdout=output, stderr=subprocess.STDOUT, env={"PATH": PATH, **environment}
        )
    return Proxy(ports, process)


@pytest.fixture(params=PROXIES)
def proxy(
    request: pytest.FixtureRequest, tmp_path: Path, certificate: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Proxy]:
    """A real proxy with its file of ``deploy/``; only names, ports and certificates are replaced."""
    monkeypatch.setenv("SSL_CERT_FILE", str(certificate))
    tls_context.cache_clear()
    running = started(request.param, tmp_path, certificate)
    try:
        while True:
            assert running.process.poll() is None, (tmp_path / "output").read_text()
            try:
                socket.create_connection(("127.0.0.1", running.ports.tls)).close()
            except ConnectionRefusedError:
                continue  # real time, until the program has opened its port
            break
        yield running
    finally:
        running.process.terminate()
        running.process.wait(30)
        tls_context.cache_clear()


@asynccontextmanager
async def serving(proxy: Proxy, **options: Any) -> AsyncIterator[Patter]:
    """Serve an agent behind the proxy while the block runs."""
    phone = Patter(CARRIER, webhook_url=proxy.ports.url)
    # Without a limit of lag: this runs in real time, on a machine that may be busy.
    serve = partial(phone.serve, agent_of(first_message="Hello."), proxy.ports.server, max_lag=None, **options)
    with trio.fail_after(60):
        async with trio.open_nursery() as nursery:
            await nursery.start(serve)
            yield phone
            nursery.cancel_scope.cancel()


def caller(url: str, number: int = 1) -> SimulatedTwilio:
    return SimulatedTwilio(
        partial(open_direct_stream_to, url),
        url,
        account_sid=CARRIER.account_sid,
        auth_token=CARRIER.auth_token,
        call_sid=f"CA{number:032d}",
    )


async def asked(
    url: str, method: str = "GET", body: bytes = b"", **headers: str
) -> tuple[int, bytes, Mapping[str, str]]:
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    async with (
        shared_client(direct=True) as http,
        http.stream(
            method,
            url,
            content=body,
            headers=named,
            head_timeout=20,
            piece_timeout=20,
            max_bytes=65536,
            any_status=True,
        ) as answer,
    ):
        return answer.status, await answer.read(), answer.headers


async def heard(call: SimulatedTwilio) -> None:
    while not call.played():  # noqa: ASYNC110 (no event reports what is heard)
        await trio.sleep(0.02)


async def test_a_whole_call_passes_the_proxy(proxy: Proxy) -> None:
    """Webhook, upgrade, audio both ways and the hang-up of a call pass the proxy, over TLS."""
    ends: list[dict[str, Any]] = []
    words: list[str] = []

    def on_transcript(event: dict[str, Any]) -> None:
        words.append(f"{event['role']}: {event['text']}")

    async def until(count: int) -> None:
        while len(words) < count:  # noqa: ASYNC110 (real time; the test's own deadline is around it)
            await trio.sleep(0.02)

    async with serving(proxy, on_call_end=ends.append, on_transcript=on_transcript):
        call = caller(proxy.ports.url)
        async with trio.open_nursery() as line:
            await line.start(call.run)
            await until(1)
            call.say(encode("Hello?", 30))
            await until(3)
            call.hang_up()
    assert words == ["assistant: Hello.", "user: Hello?", "assistant: Yes."]
    assert [end["outcome"] for end in ends] == ["caller_hung_up"]
    assert call.faults == []


async def test_health_passes_by_get_and_head(proxy: Proxy) -> None:
    """GET and HEAD of /health pass, and HEAD has no body."""
    async with serving(proxy):
        assert (await asked(f"{proxy.ports.url}/health"))[:2] == (200, b'{"status": "ok"}')
        assert (await asked(f"{proxy.ports.url}/ready"))[0] == 200
        status, body, headers = await asked(f"{proxy.ports.url}/health", "HEAD")
        assert (status, body, headers["content-length"]) == (200, b"", "16")


async def test_a_wrong_path_gets_the_servers_answer(proxy: Proxy) -> None:
    """A path that the server does not have, a wrong method and an unsigned webhook get its answers."""
    async with serving(proxy):
        assert (await asked(f"{proxy.ports.url}/nothing"))[0] == 404
        assert (await asked(f"{proxy.ports.url}/webhooks/twilio/voice"))[0] == 405
        assert (await asked(f"{proxy.ports.url}/webhooks/twilio/voice", "POST", b"a=b"))[0] == 403


async def test_a_stopped_server_is_502(proxy: Proxy) -> None:
    """While nothing listens behind the proxy, it answers 502."""
    assert (await asked(f"{proxy.ports.url}/health"))[0] == 502


async def test_forwarded_headers_sign_nothing(proxy: Proxy) -> None:
    """A webhook is checked against the configured URL, whatever Forwarded headers say about another."""
    form = {"CallSid": "CA" + "1" * 32, "From": "+15550100001", "To": "+15550100002", "Direction": "inbound"}
    forged = {
        "X_Forwarded_Host": "evil.example",
        "X_Forwarded_Proto": "http",
        "X_Forwarded_Port": "80",
        "Forwarded": "host=evil.example;proto=http",
        "Content_Type": "application/x-www-form-urlencoded",
    }
    path = "/webhooks/twilio/voice"

    async def posted(signed_url: str) -> int:
        signature = CARRIER.sign(signed_url + path, form)
        url = proxy.ports.url + path
        return (await asked(url, "POST", urlencode(form).encode(), X_Twilio_Signature=signature, **forged))[0]

    async with serving(proxy):
        assert await posted("http://evil.example") == 403
        assert await posted("https://evil.example") == 403
        assert await posted(proxy.ports.url) == 200


async def test_a_full_server_lets_callers_hear_busy(proxy: Proxy) -> None:
    """The refusal of a call passes the proxy as the carrier's own, and /ready is 503."""
    async with serving(proxy, max_calls=0):
        with pytest.raises(CallRefused) as refused:
            await caller(proxy.ports.url).run()
        assert refused.value.outcome == "busy"
        assert (await asked(f"{proxy.ports.url}/ready"))[0] == 503


@pytest.mark.parametrize("proxy", ["nginx"], indirect=True)
async def test_nginx_sends_plain_http_to_https(proxy: Proxy) -> None:
    """nginx answers plain HTTP with a redirect to the same path by https."""
    status, _, headers = await asked(f"http://127.0.0.1:{proxy.ports.plain}/health?a=b")
    assert (status, headers["location"]) == (301, "https://127.0.0.1/health?a=b")


@pytest.mark.parametrize("proxy", ["nginx"], indirect=True)
async def test_nginx_reloads_without_cutting_calls(proxy: Proxy) -> None:
    """A call goes on while nginx takes a new certificate by a reload, and new calls pass as well."""
    async with serving(proxy) as phone:
        call, later = caller(proxy.ports.url), caller(proxy.ports.url, 2)
        async with trio.open_nursery() as line:
            await line.start(call.run)
            await heard(call)
            proxy.process.send_signal(signal.SIGHUP)
            await line.start(later.run)
            await heard(later)
            assert len(phone.calls) == 2
            assert call.ended is None
            call.hang_up()
            later.hang_up()
    assert (call.ended, later.ended) == ("caller_hung_up", "caller_hung_up")
