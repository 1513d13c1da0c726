"""The launcher: ``patter-trio run agent.py``, ``patter-trio simulate agent.py`` and other commands."""

import argparse
import logging
import sys
from collections.abc import Sequence
from importlib.metadata import version
from typing import Final

from patter_trio.cli.call import add_parser as add_call
from patter_trio.cli.calls import add_parser as add_calls
from patter_trio.cli.chat import add_parser as add_test
from patter_trio.cli.command_line import CommandParser, add_common
from patter_trio.cli.dev import add_parser as add_dev
from patter_trio.cli.doctor import add_parser as add_doctor
from patter_trio.cli.log_lines import configure
from patter_trio.cli.number import add_parser as add_number
from patter_trio.cli.run import add_parser as add_run
from patter_trio.cli.simulate import add_parser as add_simulate
from patter_trio.cli.terminal import console_for, print_traceback, printable
from patter_trio.errors import PatterError, leaves
from patter_trio.logs import mask_logs

# argparse uses the same status for mistakes in the command.
USAGE_EXIT_STATUS: Final = 2
"""Exit status for a mistake in the command, or in the program that it names."""
INTERRUPT_EXIT_STATUS: Final = 130
"""Exit status after Ctrl-C if it ends unfinished work: 128 and the signal's number, as in shells."""

_log = logging.getLogger("patter_trio.cli")

_EPILOG: Final = """
FILE is a Python program with `phone = Patter(...)` and `agent = phone.agent(...)`. Its functions that are named after
callbacks (on_call_start, on_message, on_transcript, on_call_end, on_dtmf, on_user_speech_started, ...) are registered.
Variables in a file `.env` beside it, and in one in the working directory, are read first.

  patter-trio dev examples/front_desk.py           talk to the agent in a browser: no account, no network
  patter-trio simulate examples/front_desk.py      hold a call with simulated callers: no account, no network
  patter-trio simulate bakery.py --say "When do you open?" --press 1# --from +15550100003
  patter-trio test bakery.py                       talk to the agent by keyboard: no carrier, no voice
  patter-trio run examples/front_desk.py           take real calls
  patter-trio run bakery.py --tunnel               the same from a laptop, by cloudflared or ngrok
  patter-trio call bakery.py --to +15550100003     call a number, and show the call line by line
  patter-trio doctor bakery.py                     find out why no call comes
  patter-trio number show bakery.py                where the carrier sends the number's calls
  patter-trio number point bakery.py               send them here, after a yes
  patter-trio calls list --text "open sunday"      search the call log of Patter(persist=True); see calls --help

Exit status: 0 success; 1 a simulated or typed call failed, nobody answered, no logged call was found, the answer was
no, or doctor has warnings; 2 a mistake in the command or in FILE, or doctor has problems; 130 stopped early by Ctrl-C.
`run` and `dev` end only with Ctrl-C or SIGTERM (which lets live calls finish), with status 0. If the shell ignores
SIGINT for a command, as for one in the background of a script, Ctrl-C does not stop it.
"""


def parser() -> argparse.ArgumentParser:
    """Return the parser of the whole command line."""
    main_parser = CommandParser(
        prog="patter-trio",
        description="Put an AI agent on a phone line.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    main_parser.add_argument("--version", action="version", version=f"patter-trio {version('patter-trio')}")
    commands = main_parser.add_subparsers(title="commands", required=True, metavar="COMMAND")
    # More for a service, whose log is read later; less for a simulation, whose output is its lines.
    for command, level in (
        (add_run(commands), "info"),
        (add_simulate(commands), "warning"),
        (add_dev(commands), "info"),
        (add_test(commands), "warning"),
    ):
        add_common(command, level)
    add_call(commands)
    add_number(commands)
    add_calls(commands)
    add_doctor(commands)
    return main_parser


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; return its exit status."""
    options = parser().parse_args(arguments)
    # Before the first line is logged.
    mask_logs()
    configure(options.log_level, options.log_format)
    if (console := console_for(sys.stderr)) is not None:
        # For bugs alone: what the package raises on purpose is printed in one line.
        sys.excepthook = lambda _kind, error, _trace: print_traceback(console, error)
    try:
        return int(options.command(options))
    # Groups, because a nursery wraps what its tasks raise.
    except (PatterError, KeyboardInterrupt, BaseExceptionGroup) as error:
        return _status(error)


def _status(error: BaseException) -> int:
    """Print the error in one line and return the exit status; a bug of the package keeps its traceback."""
    found = tuple(leaves(error))
    # First: Ctrl-C may come together with the errors of what it cut off.
    if any(isinstance(leaf, KeyboardInterrupt) for leaf in found):
        print("\npatter-trio: stopped", file=sys.stderr)
        return INTERRUPT_EXIT_STATUS
    # A bug: the traceback is what its finder needs.
    if not all(isinstance(leaf, PatterError) for leaf in found):
        raise error
    # Only at the level of debug: the line below names the mistake and its place.
    _log.debug("origin of the error:", exc_info=error)
    # In one line, whatever line breaks the message has.
    print(f"patter-trio: {printable(' '.join(str(found[0]).split()))}", file=sys.stderr)
    return USAGE_EXIT_STATUS
