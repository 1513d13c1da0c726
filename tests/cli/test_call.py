"""``patter-trio call``: a number is called over real sockets, by Twilio's REST API and its webhooks on loopback."""

import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import ExitStack, asynccontextmanager, suppress
from functools import partial
from pathlib import Path
from urllib.parse import parse_qs, urlencode, urlsplit

import attrs
import pytest
import trio

from patter_trio import Twilio
from patter_trio.cli import INTERRUPT_EXIT_STATUS, USAGE_EXIT_STATUS, main
from patter_trio.net.websocket_client import open_direct_stream_to
from patter_trio.testing import SimulatedTwilio
from patter_trio.testing.carriers.protocol import CallRefused, Webhook
from patter_trio.testing.carriers.webhook_post import asked
from patter_trio.testing.servers.twilio_rest import RESTFault, TwilioRESTServer, serve_twilio_rest
from tests.kit.beside import beside
from tests.kit.cli import write_agent
from tests.kit.programs import free_port

SID, TOKEN, DESK, ANN = "AC" + "1" * 32, "hush", "+15550100002", "+15550100003"
FORM = "application/x-www-form-urlencoded; charset=UTF-8"


@asynccontextmanager
async def network(status: str) -> AsyncIterator[TwilioRESTServer]:
    """Serve Twilio's REST API; a phone that is called is answered and hangs up after the greeting, or reports a status.

    With the status "never", it rings without end.
    """
    async with serve_twilio_rest(SID, TOKEN) as rest, trio.open_nursery() as nursery:
        if status != "never":
            nursery.start_soon(_ring, rest, status)
        yield rest
        nursery.cancel_scope.cancel()


async def _ring(rest: TwilioRESTServer, status: str) -> None:
    while not rest.calls:  # noqa: ASYNC110 (no event reports it)
        await trio.sleep(0.01)
    [sid], fields = rest.calls, rest.requests[-1].fields
    voice = urlsplit(fields["Url"])
    here = f"{voice.scheme}://{voice.netloc}"
    connect = partial(open_direct_stream_to, here)
    if not status:
        line = SimulatedTwilio(
            connect,
            here,
            account_sid=SID,
            auth_token=TOKEN,
            caller=fields["From"],
            callee=fields["To"],
            call_sid=sid,
            direction="outbound",
            custom_params={"dial": parse_qs(voice.query)["dial"][0]},
        )
        async with trio.open_nursery() as nursery:
            await nursery.start(line.run)
            while not line.played():  # noqa: ASYNC110 (same)
                await trio.sleep(0.01)
            # The greeting takes 0.3 s.
            await trio.sleep(0.5)
            line.hang_up()
    url, form = fields["StatusCallback"], {"CallSid": sid, "AccountSid": SID, "CallStatus": status or "completed"}
    headers = {"Content-Type": FORM, "X-Twilio-Signature": Twilio(SID, TOKEN).sign(url, form)}
    # A command that has ended hears nothing more: to it, the end of the stream was the end of the call.
    with suppress(CallRefused, OSError):
        await asked(connect, Webhook(url, urlencode(form).encode(), headers))


@attrs.define
class Setting:
    """Twilio, and a program that calls by it."""

    rest: TwilioRESTServer
    port: int

    def write(self, more: str = "") -> str:
        carrier = f"Twilio({SID!r}, {TOKEN!r}, api_url={self.rest.api_url!r})"
        url = f"http://127.0.0.1:{self.port}"
        return write_agent(Path(), phone=f"{carrier}, {DESK!r}, {url!r}", greeting="Hello.", more=more)

    def ask(self, *words: str, more: str = "") -> int:
        return main(["call", self.write(more), "--port", str(self.port), *words])


@pytest.fixture
def setting(request: pytest.FixtureRequest) -> Iterator[Setting]:
    with ExitStack() as stack:
        status: str = getattr(request, "param", "")
        yield Setting(stack.enter_context(beside(partial(network, status))), free_port())


def test_a_number_is_called_and_shown(setting: Setting, capsys: pytest.CaptureFixture[str]) -> None:
    """The call rings, is answered, is shown line by line, and ends with exit status 0; callbacks of FILE are called."""
    more = "ends = []\ndef on_call_end(event): print('END', event['direction'], event['outcome'])"
    assert setting.ask("--to", ANN, "--first-message", "Good day.", more=more) == 0
    [request] = [one for one in setting.rest.requests if one.target.endswith("/Calls.json")]
    assert (request.fields["To"], request.fields["From"]) == (ANN, DESK)
    out = capsys.readouterr().out
    assert "Calling +1555***0003 ...\n" in out
    assert "agent   “Good day" in out
    assert "END outbound caller_hung_up\n" in out
    assert out.endswith(": caller hung up\n")


@pytest.mark.parametrize("setting", ["busy", "no-answer"], indirect=True)
def test_nobody_answers_is_status_1(
    setting: Setting, capsys: pytest.CaptureFixture[str], request: pytest.FixtureRequest
) -> None:
    """A call that nobody answers ends with its outcome and exit status 1."""
    assert setting.ask("--to", ANN, "--from", "+15550100009") == 1
    [asked_for] = [one for one in setting.rest.requests if one.target.endswith("/Calls.json")]
    assert asked_for.fields["From"] == "+15550100009"
    outcome = request.node.callspec.params["setting"].replace("-", " ")
    assert capsys.readouterr().out.endswith(f": {outcome}\n")


@pytest.mark.parametrize(
    ("words", "asked_for"),
    [
        ([], None),
        (["--machine-detection"], {"Enable", "DetectMessageEnd"}),
        (["--voicemail-message", "Please call back."], {"DetectMessageEnd"}),
        (["--voicemail-message", "Please call back.", "--acoustic-detection"], None),
    ],
    ids=["not", "detected", "with-message", "acoustic"],
)
@pytest.mark.parametrize("setting", ["busy"], indirect=True)
def test_machines_are_detected_on_request(setting: Setting, words: list[str], asked_for: set[str] | None) -> None:
    """The carrier is asked about machines with --machine-detection, and about their greeting's end with a message.

    With --acoustic-detection it is asked about neither.
    """
    setting.ask("--to", ANN, *words)
    [request] = [one for one in setting.rest.requests if one.target.endswith("/Calls.json")]
    given = request.fields.get("MachineDetection")
    assert given is None if asked_for is None else given in asked_for


@pytest.mark.parametrize("setting", ["never"], indirect=True)
@pytest.mark.costly
def test_ctrl_c_hangs_up_the_phone(setting: Setting) -> None:
    """Ctrl-C while the phone rings hangs up at the carrier, and ends the command with exit status 130."""
    with subprocess.Popen(  # noqa: S603 (ourselves)
        [sys.executable, "-m", "patter_trio", "call", setting.write(), "--port", str(setting.port), "--to", ANN],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        # The suite may run in the background of a shell, which ignores SIGINT for what it starts.
        preexec_fn=partial(signal.signal, signal.SIGINT, signal.default_int_handler),  # noqa: PLW1509 (no threads here)
    ) as process:
        try:
            assert process.stdout is not None
            while not process.stdout.readline().startswith("Calling"):
                assert process.poll() is None
            process.send_signal(signal.SIGINT)
            rest, _ = process.communicate(timeout=60)
        finally:
            process.kill()
    assert process.returncode == INTERRUPT_EXIT_STATUS
    assert rest.endswith("patter-trio: stopped\n")
    assert [call.status for call in setting.rest.calls.values()] == ["completed"]


def test_a_refused_call_is_one_line(setting: Setting, capsys: pytest.CaptureFixture[str]) -> None:
    """A call that the carrier refuses is one line with its reason, and exit status 2."""
    setting.rest.fault = RESTFault(status=400, code=21215, message="Account not authorized to call this country")
    assert setting.ask("--to", ANN) == USAGE_EXIT_STATUS
    assert "21215: Account not authorized to call this country" in capsys.readouterr().err
    setting.rest.fault = RESTFault(status=401, message="Authenticate")
    assert setting.ask("--to", ANN) == USAGE_EXIT_STATUS
    assert "twilio refuses the credentials" in (said := capsys.readouterr().err)
    assert "copy them again from twilio's console, into the environment or .env" in said


@pytest.mark.parametrize(
    ("phone", "words", "message"),
    [
        ("", ["--to", ANN], "agent.py: the phone must have a carrier"),
        ("Twilio('AC1', 'x')", ["--to", ANN], "the carrier must reach this machine: give --url, --tunnel, or"),
        ("Twilio('AC1', 'x'), webhook_url='a.example'", ["--to", ANN], "from_number (or phone_number)"),
        ("Twilio('AC1', 'x')", ["--to", "0123"], "--to must be"),
        ("Twilio('AC1', 'x')", ["--to", ANN, "--from", "Ann"], "--from must be"),
        ("Twilio('AC1', 'x')", ["--to", ANN, "--url", "a.example", "--tunnel"], "--url and --tunnel cannot be used"),
    ],
    ids=["no-carrier", "no-address", "no-number", "bad-number", "bad-sender", "two-addresses"],
)
def test_mistakes_are_found_before_it_rings(
    phone: str, words: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """What cannot work is one line and exit status 2, before anything is sent to the carrier."""
    assert main(["call", write_agent(Path(), phone=phone), "--port", "0", *words]) == USAGE_EXIT_STATUS
    assert message in capsys.readouterr().err
