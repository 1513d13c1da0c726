"""Command ``patter-trio dev``: talk to the agent in a browser, without a carrier, an account or a key.

With ``--reload`` a change of the program's files ends the calls politely and starts the command anew, in the same
process number and on the same port: a fresh interpreter is the only sure way to import changed files.
"""

import argparse
import os
import secrets
import signal
import sys
import webbrowser
from collections.abc import AsyncIterator, Mapping
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from types import MappingProxyType
from typing import Any, Final, NoReturn

import attrs
import trio

from patter_trio.agent.agent import Agent
from patter_trio.cli.command_line import Once
from patter_trio.cli.interrupts import is_interruptible
from patter_trio.cli.stand_ins import carrier_credentials
from patter_trio.errors import ConfigurationError
from patter_trio.phone_page.page import PhonePage
from patter_trio.program import Program, load

DEFAULT_PORT: Final = 8000
HOST: Final = "127.0.0.1"
"""The address: nobody else may call, because the page asks for no password."""
LOOK_INTERVAL_S: Final = 0.5
"""Seconds between two looks at the files of the program. Judged: a programmer saves, and looks at the page."""
NOTICE_S: Final = 1.2
"""Seconds for which pages can read that the program is loaded anew; they ask each second."""
GOODBYE_S: Final = 12.0
"""Seconds for live calls to end before the program is loaded anew: 10 s for the current speech, and its callbacks."""
LOCAL_PROVIDERS: Final[Mapping[str, tuple[str, str]]] = {
    "stt": ("DEEPGRAM_API_KEY", "the local recogniser listens"),
    "tts": ("ELEVENLABS_API_KEY", "the local voice speaks"),
}
"""The fields of an agent for which the local stack stands in, each with its key, and what happens without the key."""


def stand_ins() -> dict[str, str]:
    """Return made-up credentials, with which a program loads that names a carrier or vendor without an account."""
    return {**carrier_credentials(), **{variable: secrets.token_hex(20) for variable, _ in LOCAL_PROVIDERS.values()}}


def add_parser(commands: Any) -> argparse.ArgumentParser:
    """Add the command to a parser's commands."""
    parser: argparse.ArgumentParser = commands.add_parser(
        "dev",
        help="talk to the agent in a browser",
        description="Serve the agent in FILE on this machine alone, with a page that calls it by microphone and "
        "speaker: no account, no key. Until Ctrl-C.",
    )
    parser.add_argument(
        "--port",
        action=Once,
        type=int,
        default=DEFAULT_PORT,
        help="port to listen on; 0: a free one (default: %(default)s)",
    )
    add_page_options(parser)
    parser.set_defaults(command=run)
    return parser


def add_page_options(parser: argparse.ArgumentParser) -> None:
    """Add the options of the browser phone, which ``run --dev`` takes as well."""
    parser.add_argument("--open", action="store_true", help="open the page in the default browser")
    parser.add_argument(
        "--reload",
        action="store_true",
        help="load FILE anew when it, or a file that it imports from its folder, changes",
    )


def run(options: argparse.Namespace) -> int:
    """Run the command; return 0 after Ctrl-C or SIGTERM."""
    made_up, before = stand_ins(), watched(options.file)
    try:
        program = _loaded(options.file, made_up)
    except ConfigurationError as error:
        if not options.reload:
            raise
        # The next version of the file may be right; its page waits meanwhile.
        print(
            f"patter-trio: {' '.join(str(error).split())}\nWaiting for a change of {options.file} ...", file=sys.stderr
        )
        # As they were before: a change that has come since counts.
        trio.run(changed, {**watched(options.file), **before})
        _start_anew(options, options.port)
    served = _Served(program, options, before)
    # At checkpoints only: Ctrl-C must not land in the middle of a synchronous cut.
    trio.run(served.run, restrict_keyboard_interrupt_to_checkpoints=True)
    if served.has_changed:
        _start_anew(options, served.port)
    return 0


def _loaded(file: Path, made_up: Mapping[str, str]) -> Program:
    program = load(file, made_up)
    if not isinstance(program, Program):
        raise ConfigurationError(f"{file} must have a `phone` and an `agent` at its top level to be called")
    program.phone._without_carrier()  # noqa: SLF001 (the launcher is the package's own)
    return attrs.evolve(program, agent=with_local_providers(program.agent, made_up))


def with_local_providers(agent: Agent, made_up: Mapping[str, str]) -> Agent:
    """Return an agent in which the local stack stands in for vendors whose keys were made up, and say so."""
    for field, (variable, what) in LOCAL_PROVIDERS.items():
        if getattr(getattr(agent, field), "api_key", None) == made_up[variable]:
            print(f"{variable} is not set: {what} instead.", file=sys.stderr)
            changes: dict[str, Any] = {field: None}
            agent = attrs.evolve(agent, **changes)
    return agent


def watched(file: Path) -> dict[Path, float]:
    """Return the files of a program, those that it has imported from its folder included, each with its last change."""
    folder = file.parent.resolve()
    names = {getattr(module, "__file__", None) for module in tuple(sys.modules.values())}
    imported = {Path(name).resolve() for name in names if name}
    own = {name for name in imported if name.is_relative_to(folder) and "site-packages" not in name.parts}
    return {name: _changed_at(name) for name in {file.resolve(), folder / ".env", *own}}


def _changed_at(file: Path) -> float:
    try:
        return file.stat().st_mtime
    # Not there, or not there for the moment in which an editor replaces it.
    except OSError:
        return 0.0


async def changed(files: Mapping[Path, float]) -> Path:
    """Wait until a file has changed; return its path."""
    while True:
        await trio.sleep(LOOK_INTERVAL_S)
        for file, before in files.items():
            now = _changed_at(file)
            # 0: it is being replaced, and is there at the next look.
            if now not in (before, 0.0):
                return file


def mistake_in(file: Path) -> str:
    """Return the syntax error of a Python file in one line; empty: none was found."""
    if file.suffix != ".py":
        return ""
    try:
        compile(file.read_bytes(), file.name, "exec", dont_inherit=True)
    except SyntaxError as error:
        return f"{file.name}, line {error.lineno}: {error.msg}"
    # A null byte, or brackets without end.
    except (ValueError, RecursionError) as error:
        return f"{file.name}: {error}"
    except OSError:
        # Not there for the moment in which an editor replaces it: the new program finds out.
        pass
    return ""


def _start_anew(options: argparse.Namespace, port: int) -> NoReturn:
    """Replace this process by a new one of the same command, on the same port."""
    again = [os.fspath(options.file), "--port", str(port), "--reload"]
    logs = ["--log-level", options.log_level, "--log-format", options.log_format]
    # What Python still holds would be lost: execv ends this program without an end of its own.
    sys.stdout.flush()
    sys.stderr.flush()
    # Python's files and sockets are closed in the new program, which inherits nothing but the terminal.
    os.execv(sys.executable, [sys.executable, "-m", "patter_trio", "dev", *again, *logs])  # noqa: S606 (our own command)


class _Served:
    """A program that is served to its page.

    Args:
        program: the program.
        options: those of the command.
        before: its files as they were before it was loaded.
    """

    def __init__(
        self, program: Program, options: argparse.Namespace, before: Mapping[Path, float] = MappingProxyType({})
    ) -> None:
        self._program = program
        self._options = options
        # As they were: a change while the program was imported, while the models are loaded, or just after the page is
        # announced, counts.
        self._files = {**watched(program.path), **before}
        self._page = PhonePage(program.path.name, program.phone.phone_number, program.callers)
        self.port: int = options.port
        """The port, once the server listens."""
        self.has_changed: bool = False
        """True if the program has ended because a file of it has changed."""

    async def run(self) -> None:
        """Serve until Ctrl-C, SIGTERM or a change."""
        program = self._program
        serve = partial(
            program.phone.serve,
            program.agent,
            port=self._options.port,
            host=HOST,
            browser_phone=self._page,
            **program.callbacks,
        )
        with ExitStack() as stack:  # outside the nursery: a second Ctrl-C, while calls are ending, changes nothing
            async with trio.open_nursery() as nursery:
                if is_interruptible():
                    interrupts = stack.enter_context(trio.open_signal_receiver(signal.SIGINT))
                    nursery.start_soon(self._stop_on, interrupts, nursery.cancel_scope)
                print("Loading ...", file=sys.stderr)
                # ``start``: the page is announced only once the port is open.
                _, self.port = await nursery.start(self._serving, serve, nursery.cancel_scope)
                url = f"http://{HOST}:{self.port}/phone/"
                self._announce(url)
                if self._options.reload:
                    nursery.start_soon(self._reload)
                if self._options.open:
                    # In a thread: some browsers let the caller wait until they have started.
                    await trio.to_thread.run_sync(webbrowser.open, url)

    @staticmethod
    async def _serving(serve: Any, scope: trio.CancelScope, *, task_status: trio.TaskStatus[tuple[str, int]]) -> None:
        await serve(task_status=task_status)
        # The tasks beside the server, too: there is nothing left to watch or to reload.
        scope.cancel(reason="drained")

    @staticmethod
    async def _stop_on(interrupts: AsyncIterator[int], scope: trio.CancelScope) -> None:
        async for _ in interrupts:
            print("\nStopping.", file=sys.stderr, flush=True)
            scope.cancel(reason="Ctrl-C")

    def _announce(self, url: str) -> None:
        print(f"The browser phone of {self._program.path.name}: {url}")
        if self._options.reload:
            print("It is loaded anew when the file changes.")
        print("Ctrl-C stops." if is_interruptible() else "SIGTERM stops.", flush=True)

    async def _reload(self) -> None:
        """End the calls and then the server when a file has changed."""
        files, unfit = self._files, set[Path]()
        while True:
            file = await changed(files)
            # Before it is read: a change behind it counts.
            changed_at = _changed_at(file)
            unfit.add(file)
            # Those from before, too: with one of them, the new program would not load, whatever else has changed.
            mistakes = {one: mistake for one in sorted(unfit) if (mistake := mistake_in(one))}
            unfit = set(mistakes)
            mistake = mistakes.get(file) or next(iter(mistakes.values()), "")
            self._page.report_mistake(mistake)
            if not mistake:
                break
            # No call ends for half a sentence that was saved: the program as it is goes on.
            print(f"{mistake}. The version before goes on.", file=sys.stderr, flush=True)
            files = {**files, file: changed_at}
        print(f"{file.name} has changed: hanging up and loading it anew.", file=sys.stderr, flush=True)
        self.has_changed = True
        self._page.announce_reload()
        phone = self._program.phone
        for call in phone.calls:
            # After the current speech: the caller hears a whole sentence.
            call.hang_up()
        await trio.sleep(NOTICE_S)
        await phone.drain(GOODBYE_S)
