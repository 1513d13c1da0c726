"""The checks of ``patter-trio doctor``: each reports findings, which say what is wrong and what to do about it."""

import importlib.util
import json
import secrets
import time
from collections.abc import Callable, Mapping
from email.utils import parsedate_to_datetime
from functools import partial
from http import HTTPStatus
from pathlib import Path
from types import MappingProxyType
from typing import Final, Literal, Protocol
from urllib.parse import urlsplit

import attrs
import trio

from patter_trio.abc import Carrier, NumberSetup
from patter_trio.carriers.telnyx import Telnyx
from patter_trio.cli.number import credentials_advice, leads_to, reports_to
from patter_trio.errors import (
    AuthenticationError,
    ConfigurationError,
    PatterError,
    ProviderError,
    ProvisionError,
)
from patter_trio.net.http import origin_of, reason_of, shared_client
from patter_trio.net.proxies import environment_proxy
from patter_trio.net.tasks import open_side_tasks
from patter_trio.net.websocket_client import open_stream_to
from patter_trio.phone import Patter
from patter_trio.program import Program
from patter_trio.server.context import doubt_about
from patter_trio.testing.carriers.line import SimulatedCarrier
from patter_trio.testing.simulation.carriers import CallOptions, carrier_object, protocol_of, simulated_carrier
from patter_trio.tracing.setup import ENABLED_VARIABLE

Level = Literal["ok", "warning", "problem"]

# Judged: Twilio and Plivo do not sign the time, Telnyx's signatures are valid for 5 minutes. A minute says that the
# clock is not set by the network.
MAX_CLOCK_DIFFERENCE_S: Final = 60.0
"""Largest difference, in seconds, between our clock and the carrier's that is accepted."""
# Judged: as the caller of ``simulate`` waits for a greeting.
AUDIO_TIMEOUT_S: Final = 20.0
"""Seconds until the greeting of the call to itself must be heard."""
# Judged: a proxy that answers takes milliseconds; a tunnel's name may be known some seconds after its start.
REQUEST_TIMEOUT_S: Final = 10.0
"""Seconds for one request through the public URL."""
MAX_ANSWER_BYTES: Final = 65536
POLL_INTERVAL_S: Final = 0.05
"""Seconds between looks at what the call to itself has heard, which no event reports."""
# From the range for fiction: no account has it. A carrier that refuses it has accepted the credentials.
NOBODYS_NUMBER: Final = "+15550100099"
EXTRAS: Final[Mapping[str, str]] = MappingProxyType(
    {"local": "ctranslate2", "otel": "opentelemetry.sdk", "socks": "socksio", "telnyx": "cryptography"}
)
"""A module of each extra that changes what a program can do."""
_PROXY_ERRORS: Final = (HTTPStatus.BAD_GATEWAY, HTTPStatus.SERVICE_UNAVAILABLE, HTTPStatus.GATEWAY_TIMEOUT)


class Report(Protocol):
    """A function that takes one finding."""

    def __call__(self, check: str, level: Level, text: str, advice: str = "") -> None:
        """Take a finding: what was checked, how it is, in words, and what to do about it."""


# On this machine -----------------------------------------------------------------------------------------------------
def _is_installed(module: str) -> bool:
    try:
        return importlib.util.find_spec(module) is not None
    # For a module of a package that is not installed.
    except ModuleNotFoundError:
        return False


def check_extras(environment: Mapping[str, str], report: Report, modules: Mapping[str, str] = EXTRAS) -> None:
    """Report which extras are installed, and which are needed and missing; ``modules`` has a module of each."""
    installed = [extra for extra, module in modules.items() if _is_installed(module)]
    missing: list[tuple[str, str]] = []
    if environment.get(ENABLED_VARIABLE) == "1" and "otel" not in installed:
        missing.append(("otel", f"{ENABLED_VARIABLE}=1 asks for traces"))
    proxies = [name for name in environment if name.lower().endswith("_proxy")]
    if "socks" not in installed and any(environment[name].startswith("socks") for name in proxies):
        missing.append(("socks", "the environment names a SOCKS proxy"))
    for extra, why in missing:
        report("extras", "problem", f"{why}, and {extra} is not installed", _install(extra))
    if not missing:
        report("extras", "ok", f"installed: {', '.join(installed) or 'none, and none is needed'}")


def _install(extra: str) -> str:
    return f"pip install 'patter-trio[{extra}]'"


async def check_providers(program: Program, report: Report) -> bool:
    """Report whether the agent's providers are ready (packages, model files, keys); return True if they are."""
    try:
        await program.agent.prewarm()
    except PatterError as error:
        advice = "" if isinstance(error, ConfigurationError) else "check the provider's key and this machine's network"
        report("providers", "problem", str(error), advice)
        return False
    used = program.agent.resolved
    names = [type(part).__name__ for part in (used.engine, used.stt, used.llm, used.tts, used.vad) if part is not None]
    report("providers", "ok", f"ready: {', '.join(names)}")
    return True


# At the carrier -------------------------------------------------------------------------------------------------------
@attrs.define
class Account:
    """The account at the carrier: whether it takes the credentials, and how the number is set up."""

    carrier: Carrier
    number: str
    setup: NumberSetup | None = None

    async def check(self, report: Report) -> None:
        """Report whether the carrier accepts the credentials and has the number."""
        name = self.carrier.name
        try:
            # The cheapest request that every carrier has, and the one whose answer is needed later.
            self.setup = await self.carrier.number_setup(self.number or NOBODYS_NUMBER)
        except ProvisionError as error:
            report("credentials", "ok", f"{name} accepts them")
            if self.number:
                report("number", "problem", str(error), "check phone_number, and which account the number is in")
            return
        except AuthenticationError as error:
            report("credentials", "problem", f"{name} refuses them: {error}", credentials_advice(self.carrier))
            return
        except ConfigurationError as error:
            report("credentials", "warning", f"they cannot be checked: {error}")
            return
        except ProviderError as error:
            report("credentials", "problem", f"{name} could not be asked: {error}", _refusal_advice(str(error)))
            return
        report("credentials", "ok", f"{name} accepts them")

    def check_number(self, phone: Patter, public_url: str, file: Path, report: Report) -> None:
        """Report whether the number sends its calls to ``public_url``."""
        if not phone.phone_number:
            report(
                "number",
                "warning",
                "phone_number is not set: its webhook cannot be checked",
                "Patter(phone_number=...)",
            )
        if self.setup is None or not phone.phone_number:
            return
        set_here = f"patter-trio number point {file}"
        wanted = public_url + self.carrier.voice_path
        detail = f" ({self.setup.detail})" if self.setup.detail else ""
        if not leads_to(self.setup, wanted):
            found = self.setup.voice_url or "nowhere"
            report("number", "problem", f"{self.number}{detail} sends its calls to {found}, not to {wanted}", set_here)
        elif not reports_to(self.setup, wanted, public_url + self.carrier.status_path):
            text = f"{self.number}{detail} sends its calls here, but not their status"
            report("number", "warning", f"{text}: calls that never connect end late", set_here)
        else:
            report("number", "ok", f"{self.number}{detail} sends its calls here")


def _refusal_advice(text: str) -> str:
    # An answer came: the network is well, and what was asked for is not there.
    if "answered 404" in text:
        return "check the account's id (account_sid, auth_id), and api_url if it is set: nothing is at that address"
    return "check this machine's network, and try again"


def check_dialling(carrier: Carrier, report: Report) -> None:
    """Report that the carrier takes calls and cannot place any, if an option for that is missing."""
    # No warning: a program that only answers needs nothing more.
    if isinstance(carrier, Telnyx) and not carrier.connection_id:
        report(
            "outbound",
            "ok",
            "connection_id is not set: calls can come in, and none can be placed",
            "to call, Telnyx(connection_id=...) or TELNYX_CONNECTION_ID: the id of the Call Control application",
        )


async def check_clock(carrier: Carrier, report: Report, now: Callable[[], float] = time.time) -> None:
    """Report how far our clock is from the carrier's, by the ``Date`` of its answer."""
    if not carrier.api_url:
        return
    try:
        async with (
            shared_client() as http,
            http.stream(
                "GET",
                carrier.api_url,
                head_timeout=REQUEST_TIMEOUT_S,
                max_bytes=MAX_ANSWER_BYTES,
                any_status=True,
            ) as answer,
        ):
            difference = now() - parsedate_to_datetime(answer.headers.get("date", "")).timestamp()
    except ProviderError:
        # The check of the credentials reports that the carrier cannot be reached.
        return
    # What the parser raises for a header that is absent or not a date.
    except (ValueError, TypeError):
        report("clock", "warning", f"{carrier.name} does not say the time")
        return
    if abs(difference) <= MAX_CLOCK_DIFFERENCE_S:
        report("clock", "ok", f"within {MAX_CLOCK_DIFFERENCE_S:g} s of {carrier.name}'s")
    else:
        behind = "ahead of" if difference > 0 else "behind"
        text = f"{abs(difference):.0f} s {behind} {carrier.name}'s: signatures with a time will be refused"
        report("clock", "problem", text, "let the network set the clock: timedatectl set-ntp true")


# Through the public URL -----------------------------------------------------------------------------------------------
def check_url(phone: Patter, public_url: str, report: Report) -> None:
    """Report whether a carrier can use the public URL as it is written."""
    if not phone.webhook_url and not phone.tunnel:
        advice = "Patter(webhook_url=...), or Patter(tunnel=True) on a laptop"
        report("webhook_url", "problem", "not set: no carrier can reach this server", advice)
    elif doubt := doubt_about(public_url):
        advice = "put a proxy with a name in DNS and a certificate in front; docs/deploy.md"
        report("webhook_url", "problem", f"{origin_of(public_url)} {doubt}", advice)
    else:
        report("webhook_url", "ok", public_url)


async def check_reachable(public_url: str, port: int, report: Report) -> bool:
    """Report whether ``GET /health`` through the public URL is answered by this server; return True if it is."""
    where = f"{public_url}/health"
    upstream = f"let the proxy pass everything to http://127.0.0.1:{port}; docs/deploy.md"
    try:
        async with (
            shared_client() as http,
            http.stream(
                "GET",
                where,
                headers={"Connection": "close"},
                head_timeout=REQUEST_TIMEOUT_S,
                piece_timeout=REQUEST_TIMEOUT_S,
                max_bytes=MAX_ANSWER_BYTES,
                any_status=True,
            ) as answer,
        ):
            status, body = answer.status, await answer.read()
    except ProviderError as error:
        advice = "check the name in DNS, the firewall, and that the proxy or tunnel runs"
        report("public URL", "problem", str(error), advice)
        return False
    if status in _PROXY_ERRORS:
        report("public URL", "problem", f"the proxy answers {status}: it does not reach this server", upstream)
    elif status != HTTPStatus.OK or not _is_healthy(body):
        text = f"GET {where} is answered with {status} by something else than this server"
        report("public URL", "problem", text, upstream)
    else:
        via = "from this machine, through the environment's proxy" if environment_proxy(where) else "from this machine"
        report("public URL", "ok", f"GET {where} is answered by this server ({via})")
        return True
    return False


def _is_healthy(body: bytes) -> bool:
    try:
        found = json.loads(body)
    except ValueError:
        return False
    return isinstance(found, dict) and found.get("status") == "ok"


@attrs.frozen
class SelfCall:
    """A call by the carrier to the public URL.

    Attributes:
        carrier: the carrier object with which the server must be opened for it.
        line: the call.
        is_own_signature: True if it is signed with the account's own secret; False if only the carrier has that.
    """

    carrier: Carrier
    line: SimulatedCarrier
    is_own_signature: bool


def self_call(phone: Patter, carrier: Carrier, public_url: str) -> SelfCall | None:
    """Return a call to the public URL; None: the carrier cannot be played."""
    try:
        played = carrier_object(protocol_of(None, carrier), carrier)
    # A carrier of the application's own.
    except TypeError:
        return None
    line = simulated_carrier(
        played,
        partial(open_stream_to, public_url),
        public_url,
        digits=secrets.token_hex(16),
        options=CallOptions(callee=phone.phone_number or NOBODYS_NUMBER),
        unix_time=time.time,
    )
    return SelfCall(played, line, is_own_signature=played is carrier)


async def check_call(program: Program, call: SelfCall, public_url: str, report: Report) -> None:
    """Report how a signed call to the public URL goes: announced, connected, first audio heard."""
    greets, heard, line = bool(program.agent.first_message), True, call.line
    try:
        async with open_side_tasks() as nursery:
            await nursery.start(line.run)
            # Without a greeting, the agent waits for the caller to speak.
            if greets:
                heard = await _audio(line)
            line.hang_up()
            # Until both sides have closed: ``line.ended`` then says how the call ended.
            await line.over.wait()
    # ``OSError``: the name or the port of the public URL.
    except (OSError, PatterError) as error:
        said = reason_of(error)
        report("call", "problem", said, _advice(said, public_url))
        return
    if not heard:
        text = "the stream opened, and ended before a greeting was heard"
        if line.ended == "caller_hung_up":
            text = f"the stream opened, and no greeting was heard within {AUDIO_TIMEOUT_S:g} s"
        report("call", "problem", text, f"look at the log: patter-trio doctor {program.path} --log-level info")
        return
    signature = "signature accepted" if call.is_own_signature else "webhook accepted, with a signature made up here"
    seen = " and the greeting was heard" if greets else "; the agent has no first_message to hear"
    report("call", "ok", f"{signature}, upgrade passed, stream opened{seen}")


async def _audio(call: SimulatedCarrier) -> bool:
    """Return True as soon as the agent's audio has arrived; False if it does not come, or the call ends."""
    with trio.move_on_after(AUDIO_TIMEOUT_S):
        while call.ended is None:
            if any(arrival.audio for arrival in call.arrivals):
                return True
            await trio.sleep(POLL_INTERVAL_S)
    return False


def _advice(text: str, public_url: str) -> str:
    if "answered 403" in text:
        path = urlsplit(public_url).path
        kept = f"removes {path} and nothing else" if path else "leaves it as it is"
        return (
            f"the signature covers the URL: check that {public_url} is the carrier's address of this server, and "
            f"that the proxy {kept}"
        )
    if "31920" in text:
        return "let the proxy pass the headers Upgrade and Connection, over HTTP/1.1; docs/deploy.md"
    if "answered 404" in text:
        return "the proxy must pass /webhooks/ and /ws/ as well; docs/deploy.md"
    return "look at the log: --log-level info"
