"""``patter-trio doctor``: what it finds on loopback, behind a front with TLS that is right, or wrong in one way."""

import json
import re
import socket
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import Any

import attrs
import pytest

from patter_trio.cli import main
from patter_trio.cli.checks import check_extras
from patter_trio.net.http import tls_context
from patter_trio.testing.servers.twilio_rest import RESTFault, TwilioRESTServer, serve_twilio_rest
from tests.kit.beside import beside
from tests.kit.cli import write_agent
from tests.kit.front import OPENSSL, certificate_in, front
from tests.kit.programs import free_port
from tests.kit.tunnels import NGROK, Tunnels

pytestmark = pytest.mark.skipif(OPENSSL is None, reason="makes its certificate with openssl")
SID, TOKEN, NUMBER = "AC" + "1" * 32, "hush", "+15550100002"


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return certificate_in(tmp_path_factory.mktemp("tls"))


@attrs.define
class Setting:
    """Twilio's REST API, a front, and the program that doctor is asked about."""

    rest: TwilioRESTServer
    url: str
    port: int

    def program(self, *, token: str = TOKEN, number: str = NUMBER, url: str | None = None, **options: str) -> str:
        given = {"phone_number": number, "webhook_url": self.url if url is None else url}
        carrier = f"Twilio({SID!r}, {token!r}, api_url={self.rest.api_url!r})"
        return write_agent(Path(), phone=f"{carrier}, **{given!r}", **{"greeting": "Hello.", **options})  # type: ignore[arg-type]

    def point(self, url: str = "") -> None:
        """Let the number send its calls to the front, or elsewhere."""
        self.rest.numbers[NUMBER] = {
            "phone_number": NUMBER,
            "voice_url": f"{url or self.url}/webhooks/twilio/voice",
            "status_callback": f"{url or self.url}/webhooks/twilio/status",
        }

    def ask(self, file: str, *words: str) -> int:
        return main(["doctor", file, "--port", str(self.port), *words])


@pytest.fixture
def setting(certificate: Path, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest) -> Iterator[Setting]:
    """A setting in which all is well; as a parameter, a function that spoils what the front passes on."""
    monkeypatch.setenv("SSL_CERT_FILE", str(certificate))
    tls_context.cache_clear()
    port = free_port()
    alter: Callable[[bytes], bytes] = getattr(request, "param", bytes)
    with ExitStack() as stack:
        rest = stack.enter_context(beside(partial(serve_twilio_rest, SID, TOKEN)))
        url = stack.enter_context(beside(partial(front, certificate, port, alter)))
        found = Setting(rest, url, port)
        found.point()
        yield found
    tls_context.cache_clear()


def found(capsys: pytest.CaptureFixture[str]) -> dict[str, tuple[str, str, str]]:
    """Return level, text and advice of each finding, from JSON."""
    findings: list[dict[str, Any]] = json.loads(capsys.readouterr().out)["findings"]
    return {one["check"]: (one["level"], one["text"], one["advice"]) for one in findings}


def test_all_is_well_behind_a_proxy(setting: Setting, capsys: pytest.CaptureFixture[str]) -> None:
    """With everything right, each check is ok, the greeting was heard through TLS, and the exit status is 0."""
    assert setting.ask(setting.program(more="def on_call_end(event): raise SystemExit('called')")) == 0
    out = capsys.readouterr().out
    assert [line.split()[:2] for line in out.splitlines() if line.startswith("ok ")] == [
        *(["ok", "program"], ["ok", "extras"], ["ok", "providers"], ["ok", "credentials"], ["ok", "clock"]),
        *(["ok", "port"], ["ok", "webhook_url"], ["ok", "number"], ["ok", "public"], ["ok", "call"]),
    ]
    assert "signature accepted, upgrade passed, stream opened and the greeting was heard" in out
    assert out.endswith("\n10 ok, warnings: 0, problems: 0.\n")
    # Nothing was changed at the carrier.
    assert {request.method for request in setting.rest.requests} == {"GET"}


def test_findings_as_json_have_a_status(setting: Setting, capsys: pytest.CaptureFixture[str]) -> None:
    """--json prints one object: the status, which is the exit status, and the findings with their advice."""
    assert setting.ask(setting.program(number="", greeting=""), "--json") == 1
    printed = json.loads(capsys.readouterr().out)
    assert printed["status"] == 1
    [warning] = [one for one in printed["findings"] if one["level"] == "warning"]
    assert warning == {
        "check": "number",
        "level": "warning",
        "text": "phone_number is not set: its webhook cannot be checked",
        "advice": "Patter(phone_number=...)",
    }
    assert printed["findings"][-1]["text"].endswith("stream opened; the agent has no first_message to hear")


@pytest.mark.parametrize(
    ("carrier", "text"),
    [
        ("Plivo('MA' + '1' * 18, 'hush', api_url='http://127.0.0.1:1')", "signature accepted"),
        (
            "Telnyx('key', 'YJxQSYSoxKeqlBfXYTXWRtBGW8GbERmxBAoCTEV1wxE=', api_url='http://127.0.0.1:1')",
            "webhook accepted, with a signature made up here",
        ),
    ],
    ids=["plivo", "telnyx"],
)
def test_other_carriers_are_played_too(
    setting: Setting, carrier: str, text: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """A call by Plivo or Telnyx goes through the public URL, also while the carrier's own API cannot be reached."""
    more = f"from patter_trio import Plivo, Telnyx\nphone = Patter({carrier}, {NUMBER!r}, {setting.url!r})"
    assert setting.ask(setting.program(more=more), "--json") == 2
    findings = found(capsys)
    assert "could not be asked" in findings["credentials"][1]
    assert ("outbound" in findings) == carrier.startswith("Telnyx")
    assert findings["call"][:2] == ("ok", f"{text}, upgrade passed, stream opened and the greeting was heard")


def test_a_carrier_of_ones_own_is_not_played(setting: Setting, capsys: pytest.CaptureFixture[str]) -> None:
    """A carrier that the doctor cannot play is a warning, and the rest is checked."""
    more = (
        "from patter_trio.abc import Carrier\nclass Mine(Carrier):\n    name = protocol = 'mine'\n"
        "    is_signed = is_authentic = read = connect = reject = new_codec = None\n"
        f"phone = Patter(Mine(), {NUMBER!r}, {setting.url!r})"
    )
    assert setting.ask(setting.program(more=more), "--json") == 1
    findings = found(capsys)
    assert findings["credentials"][:2] == ("warning", f"they cannot be checked: Mine cannot look up numbers: {NUMBER}")
    assert findings["public URL"][0] == "ok"
    assert findings["call"][:2] == ("warning", "Mine cannot be played here")


# The account ----------------------------------------------------------------------------------------------------------
def test_wrong_credentials_are_a_problem(setting: Setting, capsys: pytest.CaptureFixture[str]) -> None:
    """Credentials that the carrier refuses are a problem, and the call to itself, signed with them, still goes well."""
    assert setting.ask(setting.program(token="wrong"), "--json") == 2
    findings = found(capsys)
    level, text, advice = findings["credentials"]
    assert (level, advice) == ("problem", "copy them again from twilio's console, into the environment or .env")
    assert "twilio refuses them" in text
    assert findings["call"][0] == "ok"


def test_a_number_of_another_account(setting: Setting, capsys: pytest.CaptureFixture[str]) -> None:
    """A number that the account does not have is a problem of the number, not of the credentials."""
    setting.rest.numbers.clear()
    assert setting.ask(setting.program(), "--json") == 2
    findings = found(capsys)
    assert findings["credentials"][0] == "ok"
    assert findings["number"] == (
        "problem",
        "the Twilio account must have the number +1555***0002; it does not",
        "check phone_number, and which account the number is in",
    )


def test_a_number_that_points_elsewhere(setting: Setting, capsys: pytest.CaptureFixture[str]) -> None:
    """A number that sends its calls elsewhere is a problem, with the command that changes it."""
    setting.point("https://old.example.com")
    assert setting.ask(setting.program(), "--json") == 2
    assert found(capsys)["number"] == (
        "problem",
        (
            f"{NUMBER} sends its calls to https://old.example.com/webhooks/twilio/voice, not to "
            f"{setting.url}/webhooks/twilio/voice"
        ),
        "patter-trio number point agent.py",
    )


def test_status_that_goes_elsewhere(setting: Setting, capsys: pytest.CaptureFixture[str]) -> None:
    """A number whose calls come here and whose status does not is a warning."""
    setting.rest.numbers[NUMBER]["status_callback"] = None
    assert setting.ask(setting.program(), "--json") == 1
    assert found(capsys)["number"][0] == "warning"


def test_a_carrier_that_fails_is_reported(setting: Setting, capsys: pytest.CaptureFixture[str]) -> None:
    """A carrier that answers with an error is a problem that says so, and the other checks go on."""
    setting.rest.fault = RESTFault(status=503, message="try later")
    assert setting.ask(setting.program(), "--json") == 2
    findings = found(capsys)
    assert "twilio could not be asked" in findings["credentials"][1]
    assert findings["call"][0] == "ok"


def test_unknown_account_is_named_in_advice(setting: Setting, capsys: pytest.CaptureFixture[str]) -> None:
    """A carrier that knows no such account answers 404: the advice is about the account, and not about the network."""
    setting.rest.fault = RESTFault(status=404, message="not found")
    assert setting.ask(setting.program(), "--json") == 2
    assert found(capsys)["credentials"][2].startswith("check the account's id (account_sid, auth_id), and api_url")


@pytest.mark.parametrize(("ahead", "text"), [(-600, "ahead of"), (600, "behind")], ids=["ahead", "behind"])
def test_a_wrong_clock_is_a_problem(
    setting: Setting, ahead: float, text: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """A clock that differs by more than a minute from the carrier's is a problem."""
    setting.rest.clock_ahead = ahead
    assert setting.ask(setting.program(), "--json") == 2
    level, said, advice = found(capsys)["clock"]
    assert (level, advice) == ("problem", "let the network set the clock: timedatectl set-ntp true")
    assert re.match(rf"(599|60\d) s {text} twilio's", said)


# This machine ---------------------------------------------------------------------------------------------------------
def test_a_program_that_does_not_load(setting: Setting, capsys: pytest.CaptureFixture[str]) -> None:
    """A missing credential is the only finding, since nothing can be checked without it."""
    Path("agent.py").write_text("from patter_trio import Patter, Twilio\nphone = Patter(Twilio())\n")
    assert setting.ask("agent.py", "--json") == 2
    [(check, (level, text, _))] = found(capsys).items()
    assert (check, level) == ("program", "problem")
    assert "TWILIO_ACCOUNT_SID" in text


def test_a_port_in_use_is_a_problem(setting: Setting, capsys: pytest.CaptureFixture[str]) -> None:
    """While another program has the port, the number is checked all the same, and no call is tried."""
    with socket.create_server(("127.0.0.1", setting.port)):
        assert setting.ask(setting.program(), "--json") == 2
    findings = found(capsys)
    assert findings["port"][0] == "problem"
    assert f"port {setting.port} on 127.0.0.1 is in use" in findings["port"][1]
    assert findings["number"][0] == "ok"
    assert "call" not in findings


def test_models_that_are_not_there(setting: Setting, capsys: pytest.CaptureFixture[str]) -> None:
    """Providers that cannot be made ready are a problem, and no call is tried with them."""
    more = (
        "from patter_trio import ConfigurationError\nclass Missing(ScriptedSTT):\n    async def prewarm(self):\n"
        "        raise ConfigurationError('the file of a model must exist')\n"
        "agent = phone.agent('x', stt=Missing(), llm=agent.llm, tts=agent.tts, vad=agent.vad)"
    )
    assert setting.ask(setting.program(more=more), "--json") == 2
    findings = found(capsys)
    assert findings["providers"] == ("problem", "the file of a model must exist", "")
    assert findings["call"] == ("warning", "not tried: the agent's providers are not ready", "")


def test_a_program_without_a_carrier(capsys: pytest.CaptureFixture[str]) -> None:
    """Without a carrier there is a warning, and nothing else to check."""
    assert main(["doctor", write_agent(Path()), "--json"]) == 1
    assert found(capsys)["carrier"] == (
        "warning",
        "none is set: only the simulator can call",
        "Patter(carrier=Twilio(), ...)",
    )


@pytest.mark.parametrize(
    ("environment", "texts"),
    [
        ({}, ["installed: none, and none is needed"]),
        ({"PATTER_OTEL_ENABLED": "1"}, ["PATTER_OTEL_ENABLED=1 asks for traces, and otel is not installed"]),
        ({"ALL_PROXY": "socks5://a.example"}, ["the environment names a SOCKS proxy, and socks is not installed"]),
    ],
    ids=["none-needed", "traces", "proxy"],
)
def test_extras_that_are_needed_are_missed(environment: dict[str, str], texts: list[str]) -> None:
    """An extra is missed where the environment asks for what it does, and only there."""
    seen: dict[str, str] = {}
    nowhere = {"local": "not_there", "otel": "not_there.sdk", "socks": "not_there"}
    check_extras(environment, lambda check, level, text, advice="": seen.update({text: advice}), nowhere)
    assert list(seen) == texts
    assert all(advice.startswith("pip install 'patter-trio[") for advice in seen.values() if environment)


# The way in -----------------------------------------------------------------------------------------------------------
def test_no_public_address_is_a_problem(setting: Setting, capsys: pytest.CaptureFixture[str]) -> None:
    """Without webhook_url and tunnel no carrier can call, and the call to itself is not tried."""
    assert setting.ask(setting.program(url=""), "--json") == 2
    findings = found(capsys)
    assert findings["webhook_url"][1] == "not set: no carrier can reach this server"
    assert "call" not in findings


def test_plain_http_is_a_problem(setting: Setting, capsys: pytest.CaptureFixture[str]) -> None:
    """A public URL without TLS is a problem, because carriers open media streams by wss alone."""
    assert setting.ask(setting.program(), "--json", "--url", f"http://127.0.0.1:{setting.port}") == 2
    findings = found(capsys)
    assert "is not https" in findings["webhook_url"][1]
    assert findings["call"][0] == "ok"


def test_a_front_that_leads_elsewhere(setting: Setting, capsys: pytest.CaptureFixture[str]) -> None:
    """A proxy that leads to another port is a problem that names the port to lead to."""
    file = setting.program()
    assert main(["doctor", file, "--port", "0", "--json"]) == 2
    level, text, advice = found(capsys)["public URL"]
    assert (level, text) == ("problem", "the proxy answers 502: it does not reach this server")
    assert re.match(r"let the proxy pass everything to http://127\.0\.0\.1:\d+; docs/deploy\.md", advice)


def test_unreachable_public_url_is_reported(setting: Setting, capsys: pytest.CaptureFixture[str]) -> None:
    """A public URL at which nothing listens is a problem of the public URL."""
    assert setting.ask(setting.program(), "--json", "--url", f"https://127.0.0.1:{free_port()}") == 2
    findings = found(capsys)
    assert "could not be reached" in findings["public URL"][1]
    assert "call" not in findings


def without_upgrade(head: bytes) -> bytes:
    """As a proxy that does not pass ``Upgrade`` on."""
    return re.sub(rb"(?im)^(upgrade|connection):[^\n]*\n", b"", head)


def with_another_path(head: bytes) -> bytes:
    """As a proxy that adds a query to what the carrier signed."""
    return re.sub(rb"^(POST [^ ]*)", rb"\1?from=proxy", head)


def only_health(head: bytes) -> bytes:
    """As a proxy that passes some paths on, and not the webhooks."""
    return re.sub(rb"^POST [^ ]*", b"POST /elsewhere", head)


@pytest.mark.parametrize(
    ("setting", "text", "advice"),
    [
        (without_upgrade, "the media socket was refused: .*426", "pass the headers Upgrade and Connection"),
        (with_another_path, "the voice webhook answered 403", "the signature covers the URL"),
        (only_health, "the voice webhook answered 404", "the proxy must pass /webhooks/ and /ws/"),
    ],
    indirect=["setting"],
    ids=["upgrade", "signature", "path"],
)
def test_a_front_that_spoils_the_call(
    setting: Setting, text: str, advice: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """A proxy that answers /health and spoils calls is found out by the call, with what to change in it."""
    assert setting.ask(setting.program(), "--json") == 2
    findings = found(capsys)
    assert findings["public URL"][0] == "ok"
    assert findings["call"][0] == "problem"
    assert re.search(text, findings["call"][1])
    assert advice in findings["call"][2]


def test_a_silent_agent_is_a_problem(setting: Setting, capsys: pytest.CaptureFixture[str]) -> None:
    """An agent whose greeting fails is found out, since the stream ends without audio."""
    more = (
        "class Broken(ScriptedTTS):\n    def open(self, **options): raise RuntimeError('no voice')\n"
        "agent = phone.agent('x', first_message='Hello.', stt=agent.stt, llm=agent.llm, tts=Broken(), vad=agent.vad)"
    )
    assert setting.ask(setting.program(more=more), "--json") == 2
    assert found(capsys)["call"][1] == "the stream opened, and ended before a greeting was heard"


def test_a_tunnel_is_opened_and_tried(
    setting: Setting, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A phone with a tunnel is called through it, and the tunnel is stopped afterwards."""
    tunnels = Tunnels(tmp_path / "bin", monkeypatch)
    tunnels.install("ngrok", NGROK)
    more = f"phone = Patter(Twilio({SID!r}, {TOKEN!r}, api_url={setting.rest.api_url!r}), {NUMBER!r}, tunnel='ngrok')"
    assert setting.ask(setting.program(more=more), "--json") == 2
    findings = found(capsys)
    # The number points to the front of another test; the stand-in has no TLS.
    assert (findings["number"][0], findings["webhook_url"][0]) == ("problem", "problem")
    assert findings["call"][0] == "ok"
    assert not tunnels.runs("ngrok")
