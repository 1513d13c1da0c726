"""Loads the user's program, and says in one line what is wrong with it."""

import importlib
import importlib.util
import linecache
import os
import sys
import traceback
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType
from typing import Any, Final, Never

import attrs
from dotenv import load_dotenv

from patter_trio.agent import Agent
from patter_trio.client import Patter
from patter_trio.errors import ConfigurationError, PatterError
from patter_trio.events import EDGES

SERVED: Final = ("on_call_start", "on_call_end", "on_transcript", "on_message", "on_dtmf")
"""Functions of a program that are handed to ``serve``; the speech edges' are set on its phone."""
_LOOPS: Final = (("trio", "run"), ("asyncio", "run"), ("anyio", "run"))


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
    """A user's program without ``phone`` and ``agent``: its ``async def main()`` is run."""

    path: Path
    main: Callable[[], Awaitable[Any]]


class StartsALoop(BaseException):
    """The program starts an event loop while it is imported; no Exception, so that the program cannot catch it."""


def load(path: Path) -> Program | Script:
    """Import a user's program.

    Raises:
        ConfigurationError: it cannot be run; the message says where and why.
    """
    if not path.is_file():
        raise ConfigurationError(f"there is no file {path}")
    load_dotenv(path.parent / ".env")
    module = _imported(path)
    phone, agent = getattr(module, "phone", None), getattr(module, "agent", None)
    if isinstance(phone, Patter) and isinstance(agent, Agent):
        return _program(path, module, phone, agent)
    main = getattr(module, "main", None)
    if callable(main) and phone is None and agent is None:
        return Script(path, main)
    raise ConfigurationError(
        f"{path} needs `phone = Patter(...)` and `agent = phone.agent(...)` at its top level, or an `async def main()`"
    )


def _program(path: Path, module: ModuleType, phone: Patter, agent: Agent) -> Program:
    functions = {name: value for name, value in vars(module).items() if name.startswith("on_") and callable(value)}
    known = {*SERVED, *(f"on_{edge}" for edge in EDGES)}
    unknown = sorted(set(functions) - known)
    if unknown:
        raise ConfigurationError(f"{path}: {unknown[0]} is no callback; there are {', '.join(sorted(known))}")
    for name in functions.keys() - set(SERVED):
        setattr(phone, name, functions[name])
    callers = tuple(path.parent / caller for caller in getattr(module, "callers", ()))
    return Program(path, phone, agent, {name: functions[name] for name in functions.keys() & set(SERVED)}, callers)


def _imported(path: Path) -> ModuleType:
    name = path.stem
    spec = importlib.util.spec_from_file_location(name, path)
    if spec is None or spec.loader is None:
        raise ConfigurationError(f"{path} is not a Python program: its name has to end in .py")
    module = importlib.util.module_from_spec(spec)
    sys.path.insert(0, os.fspath(path.parent.resolve()))
    sys.modules[name] = module
    try:
        with _no_loops():
            spec.loader.exec_module(module)
    except StartsALoop as error:
        raise ConfigurationError(
            f"{_place(path, error)}: the program starts a loop while it is imported; "
            "put that behind `if __name__ == '__main__':`"
        ) from error
    except SyntaxError as error:
        raise ConfigurationError(f"{error.filename or path}, line {error.lineno}: {error.msg}") from error
    except PatterError as error:
        raise ConfigurationError(f"{_place(path, error)}: {error}") from error
    except SystemExit as error:
        raise ConfigurationError(f"{_place(path, error)}: the program exits while it is imported") from error
    except Exception as error:
        raise ConfigurationError(f"{_place(path, error)}: {type(error).__name__}: {error}") from error
    return module


@contextmanager
def _no_loops() -> Iterator[None]:
    """While a program is imported, starting a loop is a mistake: it would never return to us."""

    def refuse(*_: Any, **__: Any) -> Never:
        raise StartsALoop

    modules = [(importlib.import_module(module), name) for module, name in _LOOPS]
    originals = [getattr(module, name) for module, name in modules]
    for module, name in modules:
        setattr(module, name, refuse)
    try:
        yield
    finally:
        for (module, name), original in zip(modules, originals, strict=True):
            setattr(module, name, original)


def _place(path: Path, error: BaseException) -> str:
    """Return where in the user's own files an error came from."""
    linecache.checkcache()
    frames = [f for f in traceback.extract_tb(error.__traceback__) if Path(f.filename).parent == path.parent.resolve()]
    frames += [f for f in traceback.extract_tb(error.__traceback__) if Path(f.filename) == path]
    return f"{path}, line {frames[-1].lineno}" if frames else os.fspath(path)
