"""Command ``patter-trio doctor``: what stands between a program and its first call, each with what to do about it."""

import argparse
import json
import os
import sys
import textwrap
from contextlib import AsyncExitStack, nullcontext
from typing import TYPE_CHECKING, Any, Final

import attrs
import trio

from patter_trio.cli.checks import (
    Account,
    Level,
    Report,
    SelfCall,
    check_call,
    check_clock,
    check_dialling,
    check_extras,
    check_providers,
    check_reachable,
    check_url,
    self_call,
)
from patter_trio.cli.command_line import Once, add_common
from patter_trio.cli.terminal import console_for, printable_lines
from patter_trio.errors import ConfigurationError, PatterError
from patter_trio.program import Program, load_program
from patter_trio.server.calls import open_call_server
from patter_trio.server.context import checked_public_url
from patter_trio.server.listeners import listening_address, open_listeners, serve_listeners
from patter_trio.testing.carriers.rest import serving_api

if TYPE_CHECKING:
    from rich.console import Console

EXIT_STATUS: Final = {"ok": 0, "warning": 1, "problem": 2}
"""Exit status by the worst finding."""
_LEVEL_STYLES: Final = {"ok": "green", "warning": "yellow", "problem": "bold red"}
_INDENT: Final = " " * 22
# Where no port could be opened; ``webhook_url`` is then all that is known.
_NO_ADDRESS: Final = ("127.0.0.1", 0)
# Judged: as wide as a terminal of 100 columns.
_WIDTH: Final = 100


def add_parser(commands: Any) -> None:
    """Add the command to a parser's commands."""
    parser: argparse.ArgumentParser = commands.add_parser(
        "doctor",
        help="find out why no call comes",
        description="Check all that stands between FILE and its first call: credentials, number, clock, models, port, "
        "public URL, proxy. It serves FILE on its port and calls it through the public URL as the carrier would, "
        "signed with FILE's credentials, hears the greeting and hangs up; so the agent's providers are used once, and "
        "of FILE's callbacks only on_message. It changes nothing at the carrier. Exit status: 0 all is well, 1 "
        "warnings, 2 problems.",
    )
    parser.add_argument(
        "--host", action=Once, default="127.0.0.1", help="address that FILE is served on (default: %(default)s)"
    )
    parser.add_argument(
        "--port", action=Once, type=int, default=8000, help="port to which the proxy leads (default: %(default)s)"
    )
    parser.add_argument(
        "--url", action=Once, default="", help="public URL of the server (default: the webhook_url of `phone`)"
    )
    parser.add_argument("--json", action="store_true", help="print the findings as one JSON object")
    add_common(parser, "warning")
    parser.set_defaults(command=run)


def run(options: argparse.Namespace) -> int:
    """Run the command; return 0, 1 or 2 by the worst finding."""
    findings = _Findings(as_json=options.json, console=console_for(sys.stdout))
    trio.run(_examine, options, findings.add, restrict_keyboard_interrupt_to_checkpoints=True)
    return findings.end()


@attrs.frozen
class _Finding:
    check: str
    level: Level
    text: str
    advice: str


@attrs.define
class _Findings:
    """The findings so far; as text, each is printed at once."""

    as_json: bool
    console: "Console | None" = None
    """The terminal; None: plain lines."""
    found: list[_Finding] = attrs.field(factory=list)

    def add(self, check: str, level: Level, text: str, advice: str = "") -> None:
        """Take a finding; see :class:`~patter_trio.cli.checks.Report`."""
        # In one line, whatever line breaks an error's text has.
        self.found.append(_Finding(check, level, " ".join(text.split()), advice))
        if self.as_json:
            return
        # At once: the next check may take a minute.
        self._print(_shown(f"{level:<9}{check:<13}", self.found[-1].text), _LEVEL_STYLES[level])
        if advice:
            self._print(_shown(f"{_INDENT}-> ", advice), "")

    def _print(self, text: str, style: str) -> None:
        # A carrier's or a provider's answer may be in it.
        text = printable_lines(text)
        if self.console is None:
            print(text, flush=True)
        else:
            self.console.print(text, style=style, soft_wrap=True)

    def end(self) -> int:
        """Print the end of the report, and return the exit status."""
        levels = [finding.level for finding in self.found]
        status = max(EXIT_STATUS[level] for level in levels)
        if self.as_json:
            print(json.dumps({"status": status, "findings": [attrs.asdict(finding) for finding in self.found]}))
        else:
            print(
                f"\n{levels.count('ok')} ok, warnings: {levels.count('warning')}, problems: {levels.count('problem')}."
            )
        return status


def _shown(head: str, text: str) -> str:
    # URLs stay whole.
    return textwrap.fill(
        text, _WIDTH, initial_indent=head, subsequent_indent=_INDENT, break_long_words=False, break_on_hyphens=False
    )


async def _examine(options: argparse.Namespace, report: Report) -> None:
    """Run the checks in the order in which one depends on another."""
    try:
        program = load_program(options.file)
    except ConfigurationError as error:
        report("program", "problem", str(error))
        return
    report("program", "ok", f"{program.path} has a phone and an agent")
    if options.url:
        program.phone._reached_at(options.url)  # noqa: SLF001 (the launcher is the package's own)
    check_extras(os.environ, report)
    ready = await check_providers(program, report)
    carrier = program.phone.carrier
    if carrier is None:
        report("carrier", "warning", "none is set: only the simulator can call", "Patter(carrier=Twilio(), ...)")
        return
    account = Account(carrier, program.phone.phone_number)
    await account.check(report)
    check_dialling(carrier, report)
    await check_clock(carrier, report)
    try:
        listeners = await open_listeners(options.host, options.port)
    except ConfigurationError as error:
        report("port", "problem", str(error))
        _examine_address(program, account, _NO_ADDRESS, report)
        return
    address = listening_address(listeners)
    report("port", "ok", f"{address[1]} on {address[0]} is free")
    async with AsyncExitStack() as opened:
        for listener in listeners:
            opened.push_async_callback(listener.aclose)
        await _examine_server(program, account, listeners, report, providers_are_ready=ready)


async def _examine_server(
    program: Program,
    account: Account,
    listeners: list[trio.SocketListener],
    report: Report,
    *,
    providers_are_ready: bool,
) -> None:
    """Serve the program, and try it through its public URL."""
    phone, address = program.phone, listening_address(listeners)
    try:
        async with phone._reachable(phone.tunnel, address):  # noqa: SLF001 (the launcher is the package's own)
            public_url = _examine_address(program, account, address, report)
            if not public_url:
                return
            call = self_call(phone, account.carrier, public_url)
            options = phone._serve_options(  # noqa: SLF001 (same)
                program.agent,
                carrier=call.carrier if call else account.carrier,
                public_url=public_url,
                # Only the callback without which the agent has no answers: the others are about people who call.
                callbacks={name: program.callbacks[name] for name in ("on_message",) if name in program.callbacks},
            )
            # Around the server: what it asks of the carrier about this call is answered here.
            with serving_api(call.line, call.carrier.api_url) if call else nullcontext():
                async with open_call_server(options) as call_server, trio.open_nursery() as serving:
                    await serving.start(serve_listeners, call_server.context, listeners)
                    if await check_reachable(public_url, address[1], report):
                        await _try_call(program, call, public_url, report, providers_are_ready=providers_are_ready)
                    serving.cancel_scope.cancel(reason="the checks are over")
    # A tunnel that is not there, or fails.
    except PatterError as error:
        report("tunnel", "problem", str(error))


async def _try_call(
    program: Program, call: SelfCall | None, public_url: str, report: Report, *, providers_are_ready: bool
) -> None:
    if call is None:
        text = f"{type(program.phone.carrier).__name__} cannot be played here"
        report("call", "warning", text, "call the number, to try webhook, signature and stream")
    elif not providers_are_ready:
        report("call", "warning", "not tried: the agent's providers are not ready")
    else:
        await check_call(program, call, public_url, report)


def _examine_address(program: Program, account: Account, address: tuple[str, int], report: Report) -> str:
    """Check the public URL and the number's webhook against it; return the URL, or "" without one."""
    phone = program.phone
    try:
        public_url = checked_public_url(phone.public_url(address))
    except ConfigurationError as error:
        report("webhook_url", "problem", str(error))
        return ""
    check_url(phone, public_url, report)
    account.check_number(phone, public_url, program.path, report)
    # The address that is left otherwise is this machine's own: reaching it would say nothing.
    return public_url if phone.webhook_url or phone.tunnel else ""
