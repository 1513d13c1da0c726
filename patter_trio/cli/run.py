"""Command ``patter-trio run``: take calls until Ctrl-C or SIGTERM."""

import argparse
import gc
import math
import signal
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import ExitStack
from functools import partial
from typing import Any, Final

import trio

from patter_trio.cli import dev
from patter_trio.cli.command_line import TUNNEL_OPTION, Once
from patter_trio.cli.interrupts import is_interruptible
from patter_trio.cli.live_calls import show_calls
from patter_trio.cli.terminal import console_for
from patter_trio.errors import ConfigurationError
from patter_trio.phone import DRAIN_TIMEOUT_S
from patter_trio.program import Program, Script, load

SERVER_OPTIONS: Final = ("host", "port", "url", "tunnel", "max_calls", "drain")
"""The options of the server, which a program with a ``main`` of its own does not get."""


def add_parser(commands: Any) -> argparse.ArgumentParser:
    """Add the command to a parser's commands."""
    parser: argparse.ArgumentParser = commands.add_parser(
        "run",
        help="take calls",
        description="Serve the agent in FILE: carrier webhooks and media streams on one port, until Ctrl-C.",
    )
    parser.add_argument(
        "--host", action=Once, default="", help="address to listen on (default: $PATTER_BIND_HOST, else 127.0.0.1)"
    )
    parser.add_argument(
        "--port", action=Once, type=int, default=8000, help="port to listen on; 0: a free one (default: %(default)s)"
    )
    parser.add_argument(
        "--url",
        action=Once,
        default="",
        help="public URL at which the carrier reaches the server (default: the webhook_url of `phone`)",
    )
    parser.add_argument(
        TUNNEL_OPTION,
        action=Once,
        nargs="?",
        const=True,
        default=None,
        metavar="PROGRAM",
        help="make a public URL by cloudflared or ngrok, whichever is on PATH, and stop it with the server; or name "
        "one of the two, or the hostname of a tunnel that runs already",
    )
    parser.add_argument(
        "--max-calls",
        action=Once,
        type=int,
        metavar="N",
        help="most calls at once, further callers hear busy; 0: each does (default: no limit)",
    )
    parser.add_argument(
        "--drain",
        action=Once,
        type=float,
        default=DRAIN_TIMEOUT_S,
        metavar="S",
        help="seconds that live calls have to end after SIGTERM (default: %(default)g)",
    )
    parser.add_argument(
        "--dev", action="store_true", help="as `patter-trio dev`: talk to the agent in a browser, without a carrier"
    )
    dev.add_page_options(parser)
    parser.set_defaults(command=run)
    return parser


def run(options: argparse.Namespace) -> int:
    """Run the command; return 0 after Ctrl-C, and after SIGTERM once the last call is over."""
    if options.max_calls is not None and options.max_calls < 0:
        raise ConfigurationError(f"--max-calls must be at least 0, got {options.max_calls}")
    if not 0 <= options.drain < math.inf:
        raise ConfigurationError(f"--drain must be a number of seconds of at least 0, got {options.drain:g}")
    if options.dev:
        _check_goes_with_dev(options)
        return dev.run(options)
    if options.open or options.reload:
        raise ConfigurationError("--open and --reload belong to the browser phone: give --dev, or use patter-trio dev")
    program = load(options.file)
    if isinstance(program, Script):
        _check_means_something(options)
        program.run()
        return 0
    if options.url and options.tunnel:
        raise ConfigurationError("--url and --tunnel cannot be used together: each is the public address")
    if options.url:
        program.phone._reached_at(options.url)  # noqa: SLF001 (the launcher is the package's own)
    serve = partial(
        _serve,
        program,
        options.host,
        options.port,
        tunnel=options.tunnel,
        max_calls=options.max_calls,
        drain_timeout=options.drain,
    )
    # At checkpoints only: Ctrl-C must not land in the middle of a synchronous cut.
    trio.run(serve, restrict_keyboard_interrupt_to_checkpoints=True)
    return 0


def _check_goes_with_dev(options: argparse.Namespace) -> None:
    """Refuse the options of a server that others reach beside ``--dev``, which serves this machine alone.

    Raises:
        ConfigurationError: one of them was given.
    """
    ignored = sorted(set(getattr(options, "given", ())) & set(SERVER_OPTIONS) - {"port"})
    if ignored:
        names = ", ".join(f"--{name.replace('_', '-')}" for name in ignored)
        raise ConfigurationError(f"{names} cannot be used with --dev, which serves only the browser of this machine")


def _check_means_something(options: argparse.Namespace) -> None:
    """Refuse the options of a server for a program that serves calls itself: they would be ignored in silence.

    Raises:
        ConfigurationError: one of them was given.
    """
    ignored = sorted(set(getattr(options, "given", ())) & set(SERVER_OPTIONS))
    if ignored:
        names = ", ".join(f"--{name.replace('_', '-')}" for name in ignored)
        raise ConfigurationError(
            f"{names} cannot be used with {options.file}: its main() serves calls itself; pass them to serve() there"
        )


async def _serve(program: Program, host: str, port: int, **limits: Any) -> None:
    """Serve until Ctrl-C or SIGTERM; ``limits`` are options of ``phone.serve``."""
    # A partial, because ``start`` passes no keyword arguments.
    serve = partial(program.phone.serve, program.agent, port=port, host=host, **limits, **program.callbacks)

    with ExitStack() as stack:  # outside the nursery: a second Ctrl-C, while calls are ending, changes nothing
        async with trio.open_nursery() as nursery:
            if is_interruptible():
                # Before loading: Ctrl-C must work from the first line of output on.
                interrupts = stack.enter_context(trio.open_signal_receiver(signal.SIGINT))
                nursery.start_soon(_stopping, program, interrupts, nursery.cancel_scope)
            print("Loading ...", file=sys.stderr)
            # ``start``: the address is announced only once the port is open.
            address = await nursery.start(_serving, serve, nursery.cancel_scope)
            _spare_collections()
            _announce(program, address)
            if (console := console_for(sys.stderr)) is not None:
                # In the nursery's scope: it ends with the server.
                nursery.start_soon(show_calls, console, lambda: program.phone.calls)


def _spare_collections() -> None:
    """Keep the garbage collector from looking at what was loaded, which stays: it would stop all calls for that time.

    Only here, not in ``serve``: in a program that does other things, too, the collector is the program's business.
    """
    gc.collect()
    gc.freeze()


async def _stopping(program: Program, interrupts: AsyncIterator[int], scope: trio.CancelScope) -> None:
    """End everything at Ctrl-C, even while it is still loading."""
    # A loop: a second Ctrl-C is taken, and changes nothing.
    async for _ in interrupts:
        live = len(program.phone.calls)
        ended = f": {live} live call{'s are' if live > 1 else ' is'} being ended" if live else ""
        print(f"\nStopping{ended}.", file=sys.stderr, flush=True)
        # Cancelling is the whole end: ``serve`` hangs up and runs the last callbacks within its time.
        scope.cancel(reason="Ctrl-C")


async def _serving(
    serve: Callable[..., Awaitable[None]],
    scope: trio.CancelScope,
    *,
    task_status: trio.TaskStatus[tuple[str, int]],
) -> None:
    """Serve, and end the command when the phone has drained."""
    await serve(task_status=task_status)
    # The task that waits for Ctrl-C would otherwise keep the command alive.
    scope.cancel(reason="drained")


def _announce(program: Program, address: tuple[str, int]) -> None:
    phone = program.phone
    host, port = address
    local = f"http://{f'[{host}]' if ':' in host else host}:{port}"
    print(f"Listening on {local}")
    if phone.carrier is None:
        print("No carrier is set: only the simulator can call. For a real number: Patter(carrier=Twilio(), ...)")
        print(f"Try:  patter-trio simulate {program.path}, or talk to it: patter-trio dev {program.path}")
    else:
        print(
            f"Give {phone.carrier.name} this webhook for {phone.phone_number or 'your number'} (a call comes in, HTTP "
            "POST):"
        )
        print(f"    {phone.public_url(address)}{phone.carrier.voice_path}")
        # The most frequent reason why no call comes.
        if phone.public_url(address) == local:
            print(
                "The carrier cannot reach that address: set Patter(webhook_url=...) to the public one, or give "
                "--tunnel."
            )
    if is_interruptible():
        # Flushed: a script that waits for this line must not wait for a buffer.
        print("Ctrl-C stops.", flush=True)
    else:
        print("Ctrl-C is ignored, as for any process in the background; SIGTERM stops.", flush=True)
