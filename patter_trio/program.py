"""Loading of the user's program, and one-line reports of its errors."""

import importlib.util
import inspect
import logging
import os
import sys
import sysconfig
import threading
import traceback
from collections.abc import Awaitable, Callable, Collection, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from types import MappingProxyType, ModuleType
from typing import Any, Final

import anyio
import attrs
import trio
from dotenv import load_dotenv

from patter_trio.agent.agent import Agent
from patter_trio.agent.tools import Tool
from patter_trio.errors import ConfigurationError, PatterError, did_you_mean, leaves
from patter_trio.events.callback_registry import SERVE_CALLBACKS
from patter_trio.events.payloads import EDGES
from patter_trio.phone import Patter
from patter_trio.providers.credentials import MissingCredentialError
from patter_trio.server.answerer import check_answerer

_log: Final = logging.getLogger("patter_trio.cli")
_asyncio: Final = importlib.import_module("asyncio")  # imported only to refuse it: the package never runs asyncio
# Every way to start a loop that a program may use at its top level, by asyncio, anyio or trio.
_LOOP_STARTERS: Final[tuple[tuple[Any, str], ...]] = (
    (trio, "run"),
    (anyio, "run"),
    (_asyncio, "run"),
    (_asyncio.Runner, "run"),
    (_asyncio.BaseEventLoop, "run_until_complete"),
    (_asyncio.BaseEventLoop, "run_forever"),
)
# Judged: "on_mesage" and "on_call_started" are above it, "on_startup" and "on_order" below.
MIN_LIKENESS: Final = 0.8
"""Likeness, as difflib measures it, from which on a name counts as a misspelt callback."""
_PACKAGE: Final = Path(__file__).resolve().parent
_STDLIB: Final = Path(sysconfig.get_path("stdlib")).resolve()
# A mapping that nobody can change, because it is a default argument.
_NOTHING: Final[Mapping[str, str]] = MappingProxyType({})


@attrs.frozen
class Program:
    """A user's program: its phone, its agent, the functions named after callbacks, and its default callers."""

    path: Path
    phone: Patter
    agent: Agent
    callbacks: dict[str, Any]
    callers: tuple[Path, ...]


@attrs.frozen
class Script:
    """A user's program without ``phone`` and ``agent``; its ``async def main()`` is run."""

    path: Path
    main: Callable[[], Awaitable[Any]]

    def run(self) -> None:
        """Run the program on trio.

        Raises:
            ConfigurationError: the program raised; the message says where.
        """
        with _blaming(self.path):
            # At checkpoints only: Ctrl-C must not land in the middle of a synchronous cut.
            trio.run(self.main, restrict_keyboard_interrupt_to_checkpoints=True)


class StartsALoop(BaseException):
    """A program that starts an event loop while it is imported; not an Exception, so that it cannot catch this."""


def load(path: Path, defaults: Mapping[str, str] = _NOTHING) -> Program | Script:
    """Import a user's program.

    Args:
        path: its file; variables in a file ``.env`` beside it, and in one in the working directory, are set first,
            unless the environment has them.
        defaults: variables that are set if neither has them.

    Raises:
        ConfigurationError: the program cannot be run; the message says where and why.
    """
    if path.is_dir():
        raise ConfigurationError(f"FILE must be a program, got the directory {path}")
    if not path.is_file():
        near = (found.name for found in path.parent.glob("*.py")) if path.parent.is_dir() else ()
        raise ConfigurationError(f"FILE must exist, got {path}{did_you_mean(path.name, near)}")
    # Before the import: the program reads them while it is imported.
    _set_variables(path.parent, defaults)
    module = _imported(path)
    phone, agent = getattr(module, "phone", None), getattr(module, "agent", None)
    # Both first: a file with a phone and a ``main`` is a program for the launcher.
    if isinstance(phone, Patter) and isinstance(agent, Agent):
        return _program(path, module, phone, agent)
    main = getattr(module, "main", None)
    if inspect.iscoroutinefunction(main):
        return Script(path, main)
    missing = [] if isinstance(phone, Patter) else ["`phone = Patter(...)`"]
    missing += [] if isinstance(agent, Agent) else ["`agent = phone.agent(...)`"]
    instead = "`async def main()` (its main() is not async)" if callable(main) else "an `async def main()`"
    raise ConfigurationError(f"{path} must have {' and '.join(missing)} at its top level, or {instead}")


def load_program(path: Path) -> Program:
    """Import a user's program that has a phone and an agent; see :func:`load`.

    Raises:
        ConfigurationError: the program cannot be run, or has a ``main`` of its own instead.
    """
    program = load(path)
    if isinstance(program, Script):
        raise ConfigurationError(f"{path} must have a `phone` and an `agent` at its top level")
    return program


def _variable_files(folder: Path) -> list[Path]:
    """Return where variables are read from: beside the program first, then in the working directory."""
    files = [folder / ".env", Path(".env")]
    return files[:1] if folder.resolve() == Path.cwd().resolve() else files


def _set_variables(folder: Path, defaults: Mapping[str, str]) -> None:
    for file in _variable_files(folder):
        try:
            # It changes nothing that is set: the environment has the last word, and the first file the one before.
            load_dotenv(file)
        # The operator's file: named, with the system's reason.
        except (OSError, UnicodeDecodeError) as error:
            raise ConfigurationError(f"{file}: {error}") from error
    for variable, value in defaults.items():
        # An empty variable counts as not set, as for credentials.
        if not os.environ.get(variable):
            os.environ[variable] = value


def _program(path: Path, module: ModuleType, phone: Patter, agent: Agent) -> Program:
    known = {*SERVE_CALLBACKS, *(f"on_{edge}" for edge in EDGES)}
    functions = _callbacks_of(path, module, known)
    callbacks = {name: functions[name] for name in functions.keys() & set(SERVE_CALLBACKS)}
    try:
        check_answerer(agent, callbacks)
    except ConfigurationError as error:
        hint = "" if str(error).startswith("on_") else "; in a file, `async def on_message(event)` is the latter"
        raise ConfigurationError(f"{path}: {error}{hint}") from error
    for name in functions.keys() - set(SERVE_CALLBACKS):
        # Only one that the program has not set itself, as it may have wrapped its function for that.
        if getattr(phone, name) is None:
            _set_edge(path, phone, name, functions[name])
    if inspect.iscoroutinefunction(getattr(module, "main", None)):
        _log.warning("%s: main() is not run, because the launcher serves `phone` and `agent` itself", path)
    callers = getattr(module, "callers", ())
    if not isinstance(callers, (list, tuple)) or not all(isinstance(caller, (str, Path)) for caller in callers):
        raise ConfigurationError(f"{path}: `callers` must be a list of WAV files, got {callers!r}")
    # Relative to the file, not to where the command is run.
    return Program(path, phone, agent, callbacks, tuple(path.parent / caller for caller in callers))


def _set_edge(path: Path, phone: Patter, name: str, function: Any) -> None:
    """Set the callback of a speech edge, which belongs to the phone, not to one ``serve``."""
    try:
        setattr(phone, name, function)
    except ConfigurationError as error:
        raise ConfigurationError(f"{path}: {error}") from error


def _callbacks_of(path: Path, module: ModuleType, known: Collection[str]) -> dict[str, Any]:
    """Return the functions of a program that are named after callbacks.

    Raises:
        ConfigurationError: the name of a function looks like a misspelt callback's.
    """
    # Only names: a function that is imported into the file counts as well.
    functions = {
        name: value
        for name, value in vars(module).items()
        if name.startswith("on_") and callable(value) and not isinstance(value, Tool)
    }
    if isinstance(getattr(module, "on_message", None), str):  # the only callback that may be a URL
        functions["on_message"] = module.on_message
    for name in sorted(functions.keys() - known):
        # A misspelt callback would never be called, and nothing would say so.
        if hint := did_you_mean(name, sorted(known), MIN_LIKENESS):
            raise ConfigurationError(
                f"{path}: the name of a callback must be one of {', '.join(sorted(known))}, got {name}{hint}"
            )
        # Another name may be a function of the program's own.
        _log.warning("%s: %s is not called: the callbacks are %s", path, name, ", ".join(sorted(known)))
        del functions[name]
    return functions


def _imported(path: Path) -> ModuleType:
    # A program may be called json.py; other code that imports json must not get the program instead.
    name = path.stem if path.stem not in sys.modules else f"_program_{path.stem}"
    spec = importlib.util.spec_from_file_location(name, path)
    if spec is None or spec.loader is None:
        raise ConfigurationError(f"the name of a program must end in .py, got {path}")
    module = importlib.util.module_from_spec(spec)
    # As Python itself does for a script: the program may import its neighbours.
    sys.path.insert(0, os.fspath(path.parent.resolve()))
    # Before it is executed, as Python's own import does.
    sys.modules[name] = module
    try:
        with _blaming(path), _no_loops():
            spec.loader.exec_module(module)
    # SystemExit would end the launcher without a word.
    except SystemExit as error:
        why = f": {error.code}" if isinstance(error.code, str) else ""
        raise ConfigurationError(f"{_place(path, error)}: the program exits while it is imported{why}") from error
    return module


@contextmanager
def _blaming(path: Path) -> Iterator[None]:
    """Turn an error in a program into one line that names the place."""
    try:
        yield
    # Not an Exception, so that the program's own handlers cannot swallow it.
    except StartsALoop as error:
        raise ConfigurationError(
            f"{_place(path, error)}: the program must not start an event loop while it is imported; "
            "put the call behind `if __name__ == '__main__':`"
        ) from error
    # Everything: it is the application's code. Its mistake is one line, with its place.
    except Exception as error:
        # Of a group the first: one mistake at a time.
        cause = next(leaves(error))
        raise ConfigurationError(f"{_place(path, cause)}: {_said(cause)}{_where_to_set(path, cause)}") from error


def _said(error: BaseException) -> str:
    if isinstance(error, PatterError):
        return str(error)
    if _is_unset_variable(error):
        return f"the environment variable {error.args[0]} must be set"
    # Without the file's name, which ``_place`` has already.
    text = error.msg if isinstance(error, SyntaxError) else str(error)
    return f"{type(error).__name__}: {text}" if text else type(error).__name__


def _is_unset_variable(error: BaseException) -> bool:
    """Return True if ``os.environ[...]`` raised this."""
    if not isinstance(error, KeyError):
        return False
    frames = [frame for frame, _ in traceback.walk_tb(error.__traceback__)]
    return bool(frames) and frames[-1].f_globals.get("__name__") == "os"


def _where_to_set(path: Path, error: BaseException) -> str:
    """Return where a variable that is missing may be set; empty for any other error."""
    if not (isinstance(error, MissingCredentialError) or _is_unset_variable(error)):
        return ""
    looked = " or ".join(
        f"{file}{'' if file.is_file() else ' (no such file)'}" for file in _variable_files(path.parent)
    )
    return f", also in {looked}"


@contextmanager
def _no_loops() -> Iterator[None]:
    """Refuse to start an event loop while a program is imported: it would never return to the launcher."""
    importing = {threading.get_ident()}

    def refusing(run: Callable[..., Any]) -> Callable[..., Any]:
        def refuse(*arguments: Any, **options: Any) -> Any:
            # The program may run a loop in a thread of its own, or start one later.
            if threading.get_ident() not in importing:
                return run(*arguments, **options)
            for argument in filter(inspect.iscoroutine, arguments):
                argument.close()  # otherwise Python would warn that it was never awaited
            raise StartsALoop

        return refuse

    with ExitStack() as stack:
        for owner, name in _LOOP_STARTERS:
            original = getattr(owner, name)
            # Registered before it is replaced, so that it is restored whatever happens.
            stack.callback(setattr, owner, name, original)
            setattr(owner, name, refusing(original))
        # Last, and so first: from the end of the import on, loops may start, also by functions that were saved
        # meanwhile.
        stack.callback(importing.clear)
        yield


def _place(path: Path, error: BaseException) -> str:
    """Return the place in the user's own files where an error came from."""
    # The innermost place in the user's own files, because the error itself may come from a library.
    places = [(frame.filename, frame.lineno) for frame in traceback.extract_tb(error.__traceback__)]
    if isinstance(error, SyntaxError) and error.filename:
        places.append((error.filename, error.lineno))
    folder = path.parent.resolve()
    for name, line in reversed(places):
        file = Path(name).resolve()
        if file.is_file() and file.is_relative_to(folder) and not _is_installed(file):
            shown = path if file == path.resolve() else path.parent / file.relative_to(folder)
            return f"{shown}, line {line}" if line else os.fspath(shown)
    return os.fspath(path)


def _is_installed(file: Path) -> bool:
    """Return True if a file is not part of the user's program, even if it lies below its folder."""
    packages = {"site-packages", "dist-packages"} & set(file.parts)
    # Virtual environments often lie below the program's folder.
    return bool(packages) or file.is_relative_to(_PACKAGE) or file.is_relative_to(_STDLIB)
