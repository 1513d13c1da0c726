"""Command ``patter-trio call``: call a number with the agent in a program, and show the call line by line."""

import argparse
import sys
from contextlib import AsyncExitStack
from typing import Any, Final

import trio

from patter_trio.abc import Carrier
from patter_trio.cli.command_line import TUNNEL_OPTION, Once, add_common
from patter_trio.cli.live import Live
from patter_trio.cli.number import credentials_explained, voice_url, warn_of_url
from patter_trio.cli.terminal import console_for
from patter_trio.errors import ConfigurationError
from patter_trio.phone_numbers import checked_number, mask_number
from patter_trio.program import Program, load_program
from patter_trio.server.calls import open_call_server
from patter_trio.server.listeners import listening_address, open_listeners, serve_listeners
from patter_trio.server.options import Seams
from patter_trio.server.tunnel import Tunnel, check_installed, checked_tunnel

UNANSWERED_EXIT_STATUS: Final = 1
"""Exit status if nobody has answered."""


def add_parser(commands: Any) -> None:
    """Add the command to a parser's commands."""
    parser: argparse.ArgumentParser = commands.add_parser(
        "call",
        help="call a number",
        description="Call a number with the agent in FILE, and show the call line by line until it is over. FILE is "
        "served meanwhile, because the carrier asks it what to do when somebody answers, and streams the call to it. "
        "Ctrl-C hangs up. Exit status 1: nobody has answered. The call costs what the carrier charges.",
    )
    parser.add_argument("--to", action=Once, required=True, metavar="NUMBER", help="the number to call, E.164")
    parser.add_argument(
        "--from",
        action=Once,
        dest="from_number",
        default="",
        metavar="NUMBER",
        help="the number that is shown, one of the account (default: the phone_number of `phone`)",
    )
    parser.add_argument(
        "--first-message",
        action=Once,
        default="",
        metavar="TEXT",
        help="what the agent says first (default: its first_message)",
    )
    detection = parser.add_mutually_exclusive_group()
    detection.add_argument(
        "--machine-detection",
        action="store_const",
        const=True,
        help="ask the carrier, which may charge for it, whether a machine has answered; if so, hang up",
    )
    # A flag instead of a value of the one above, for which argparse would take the FILE that follows.
    detection.add_argument(
        "--acoustic-detection",
        action="store_const",
        dest="machine_detection",
        const="acoustic",
        help="find out by the sound of the line, without the carrier, whether a machine has answered; if so, hang up",
    )
    parser.add_argument(
        "--voicemail-message",
        action=Once,
        default="",
        metavar="TEXT",
        help="what a machine hears after its greeting, before the agent hangs up; asks the carrier, too, unless "
        "--acoustic-detection is given",
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
    parser.add_argument(
        TUNNEL_OPTION,
        action=Once,
        nargs="?",
        const=True,
        default=None,
        metavar="PROGRAM",
        help="make a public URL by cloudflared or ngrok; as for `patter-trio run`",
    )
    add_common(parser, "warning")
    parser.set_defaults(command=run)


def run(options: argparse.Namespace) -> int:
    """Run the command; return 0 if somebody has answered, else 1."""
    if options.url and options.tunnel:
        raise ConfigurationError("--url and --tunnel cannot be used together: each is the public address")
    # Before anything is loaded.
    checked_number(options.to, "--to")
    if options.from_number:
        checked_number(options.from_number, "--from")
    program = load_program(options.file)
    phone = program.phone
    if options.url:
        phone._reached_at(options.url)  # noqa: SLF001 (the launcher is the package's own)
    if phone.carrier is None:
        raise ConfigurationError(
            f"{options.file}: the phone must have a carrier, such as Patter(carrier=Twilio(), ...)"
        )
    tunnel = checked_tunnel(options.tunnel) or phone.tunnel
    # Else the phone would ring, and the person who answers would hear nothing.
    if not phone.webhook_url and not tunnel:
        raise ConfigurationError(
            "the carrier must reach this machine: give --url, --tunnel, or Patter(webhook_url=...)"
        )
    check_installed(tunnel)
    if not tunnel:
        warn_of_url(voice_url(phone, phone.carrier))
    return trio.run(_call, program, phone.carrier, options, tunnel, restrict_keyboard_interrupt_to_checkpoints=True)


async def _call(program: Program, carrier: Carrier, options: argparse.Namespace, tunnel: Tunnel) -> int:
    phone, live = program.phone, Live(console_for(sys.stdout))
    print("Loading ...", file=sys.stderr)
    # Before the phone rings: the person who answers must not wait for it.
    await program.agent.prewarm()
    listeners = await open_listeners(options.host, options.port)
    async with AsyncExitStack() as opened:
        for listener in listeners:
            opened.push_async_callback(listener.aclose)
        public_url = await opened.enter_async_context(
            phone._reachable(tunnel, listening_address(listeners))  # noqa: SLF001 (the launcher is the package's own)
        )
        served = phone._serve_options(  # noqa: SLF001 (same)
            program.agent, public_url=public_url, callbacks=program.callbacks
        )
        async with open_call_server(served, Seams(tap=live.event)) as server, trio.open_nursery() as serving:
            await serving.start(serve_listeners, server.context, listeners)
            # A block, so that Ctrl-C hangs up.
            dialled = phone.dial(
                options.to,
                first_message=options.first_message,
                from_number=options.from_number,
                machine_detection=options.machine_detection,
                voicemail_message=options.voicemail_message,
            )
            with credentials_explained(carrier):
                async with dialled as call:
                    print(f"Calling {mask_number(options.to)} ...", flush=True)
                    answered = await call.answered()
                    outcome = await call.ended()
            serving.cancel_scope.cancel(reason="the call is over")
    print(f"Call {call.call_id}: {outcome.replace('_', ' ')}")
    return 0 if answered else UNANSWERED_EXIT_STATUS
