"""Commands ``patter-trio number show`` and ``number point``: where a number sends its calls, and the change of it."""

import argparse
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlsplit

import trio

from patter_trio.abc import Carrier, NumberSetup
from patter_trio.cli.command_line import Once, add_common
from patter_trio.errors import AuthenticationError, ConfigurationError, ProvisionError
from patter_trio.phone import Patter
from patter_trio.phone_numbers import is_number
from patter_trio.program import load_program
from patter_trio.server.context import checked_public_url, doubt_about

DECLINED_EXIT_STATUS: Final = 1
"""Exit status of ``number point`` if the answer to its question is no."""
# The address is not asked for where ``webhook_url`` is set, which these commands require.
_NO_ADDRESS: Final = ("", 0)


def add_parser(commands: Any) -> None:
    """Add both commands to a parser's commands."""
    parser: argparse.ArgumentParser = commands.add_parser(
        "number",
        help="show or change where a number sends its calls",
        description="Ask the carrier where a number sends its calls, or make it send them to your server. "
        "Only `point` changes anything, and only after a yes.",
    )
    actions = parser.add_subparsers(title="commands", required=True, metavar="COMMAND")
    show: argparse.ArgumentParser = actions.add_parser(
        "show",
        help="show where a number sends its calls",
        description="Ask the carrier where a number sends its calls; this changes nothing.",
    )
    point: argparse.ArgumentParser = actions.add_parser(
        "point",
        help="make a number send its calls to your server",
        description="Show where a number sends its calls and where it would send them, ask, and then make the carrier "
        "do so. Exit status 1: the answer was no.",
    )
    point.add_argument(
        "--url",
        action=Once,
        default="",
        help="public URL of your server (default: the webhook_url of `phone`)",
    )
    point.add_argument("--yes", action="store_true", help="do not ask")
    for command, run in ((show, run_show), (point, run_point)):
        add_common(command, "warning")
        command.add_argument(
            "number",
            metavar="NUMBER",
            nargs="?",
            default="",
            help="the number, E.164; left out: the phone_number of `phone`",
        )
        command.set_defaults(command=run)


def run_show(options: argparse.Namespace) -> int:
    """Show where a number sends its calls; return 0."""
    phone, carrier, number = _asked_about(options.file, options.number)
    with credentials_explained(carrier):
        setup = trio.run(carrier.number_setup, number)
    _show(setup, carrier)
    if phone.webhook_url:
        here = voice_url(phone, carrier)
        if leads_to(setup, here):
            print(f"Its calls come here{' by this URL; see what is in parentheses' if setup.detail else ''}.")
        else:
            print(f"Its calls do not come here, to {here}. To change that: patter-trio number point {options.file}")
    return 0


def run_point(options: argparse.Namespace) -> int:
    """Make a number send its calls here; return 0, or 1 if the answer to the question is no."""
    phone, carrier, number = _asked_about(options.file, options.number)
    if options.url:
        phone._reached_at(options.url)  # noqa: SLF001 (the launcher is the package's own)
    if not phone.webhook_url:
        raise ConfigurationError("the public URL must be given: --url https://..., or Patter(webhook_url=...)")
    voice, status = voice_url(phone, carrier), status_url(phone, carrier)
    with credentials_explained(carrier):
        before = trio.run(carrier.number_setup, number)
    _show(before, carrier)
    # With a detail, something beside the URLs decides, which the carrier's ``point_number`` settles.
    if leads_to(before, voice) and reports_to(before, voice, status) and not before.detail:
        print("Its calls come here already: nothing to change.")
        return 0
    warn_of_url(voice)
    print(f"It would be changed to\n{_urls(voice, status)}")
    if not options.yes and not _agreed():
        print("Nothing was changed.")
        return DECLINED_EXIT_STATUS
    with credentials_explained(carrier):
        after = trio.run(partial(carrier.point_number, number, voice, status))
    # What the carrier has afterwards, not what it was asked for: else the next caller finds out.
    if not leads_to(after, voice) or not reports_to(after, voice, status):
        raise ProvisionError(
            f"{carrier.name} accepted the change and did not make it: {number} sends its calls to "
            f"{after.voice_url or 'nowhere'} and their status to {after.status_url or 'nowhere'}; look into its console"
        )
    print(f"Changed. {_title(after, carrier)} now sends\n{_urls(after.voice_url, after.status_url)}")
    return 0


def warn_of_url(url: str) -> None:
    """Print a warning if no carrier can use a URL."""
    doubt = doubt_about(url)
    if doubt:
        print(f"warning: {url} {doubt}", file=sys.stderr)


def credentials_advice(carrier: Carrier) -> str:
    """Return what to do about credentials that a carrier refuses."""
    return f"copy them again from {carrier.name}'s console, into the environment or .env"


@contextmanager
def credentials_explained(carrier: Carrier) -> Iterator[None]:
    """Add what to do to an error about credentials that the carrier refuses in the block."""
    try:
        yield
    except AuthenticationError as error:
        raise AuthenticationError(
            f"{carrier.name} refuses the credentials ({error}): {credentials_advice(carrier)}"
        ) from error


def leads_to(setup: NumberSetup, voice: str) -> bool:
    """Return True if a number sends its calls to ``voice``, whatever query the application has put behind it."""
    return _is_same(setup.voice_url, voice)


def reports_to(setup: NumberSetup, voice: str, status: str) -> bool:
    """Return True if a number reports the status of its calls to a webhook of this server."""
    # Either: some carriers have one URL for everything.
    return _is_same(setup.status_url, status) or _is_same(setup.status_url, voice)


def _is_same(url: str, other: str) -> bool:
    given, wanted = urlsplit(url), urlsplit(other)
    # Without the query, which is the application's; names of hosts have no case (RFC 3986, section 3.2.2).
    return (given.scheme, given.netloc.lower(), given.path.rstrip("/")) == (
        wanted.scheme,
        wanted.netloc.lower(),
        wanted.path.rstrip("/"),
    )


def voice_url(phone: Patter, carrier: Carrier) -> str:
    """Return the webhook for calls of a phone that has a ``webhook_url``."""
    return checked_public_url(phone.public_url(_NO_ADDRESS)) + carrier.voice_path


def status_url(phone: Patter, carrier: Carrier) -> str:
    """Return the webhook for the status of calls of a phone that has a ``webhook_url``."""
    return checked_public_url(phone.public_url(_NO_ADDRESS)) + carrier.status_path


def _asked_about(file: Path, given: str) -> tuple[Patter, Carrier, str]:
    """Return the phone of a program, its carrier, and the number that is meant.

    Raises:
        ConfigurationError: the program has no phone, the phone no carrier, or no number is given.
    """
    phone = load_program(file).phone
    if phone.carrier is None:
        raise ConfigurationError(f"{file}: the phone must have a carrier, such as Patter(carrier=Twilio(), ...)")
    number = given or phone.phone_number
    if not number:
        raise ConfigurationError(f"the number must be given: behind {file}, or as Patter(phone_number=...)")
    if not is_number(number):
        raise ConfigurationError(f"NUMBER must be a number in E.164 such as +15550100002, got {number!r}")
    return phone, phone.carrier, number


def _agreed() -> bool:
    try:
        answer = input("Change it? [y/N] ")
    # Nobody can answer: a script that has no terminal must say so itself.
    except EOFError:
        print()
        raise ConfigurationError("--yes must be given where nobody can answer") from None
    return answer.strip().lower() in ("y", "yes")


def _title(setup: NumberSetup, carrier: Carrier) -> str:
    return f"{setup.number} at {carrier.name}"


def _show(setup: NumberSetup, carrier: Carrier) -> None:
    detail = f" ({setup.detail})" if setup.detail else ""
    print(f"{_title(setup, carrier)}{detail} sends\n{_urls(setup.voice_url, setup.status_url)}")


def _urls(voice: str, status: str) -> str:
    nothing = "nowhere: no URL is set"
    return f"    its calls to    {voice or nothing}\n    their status to {status or nothing}"
