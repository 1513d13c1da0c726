"""What importing the package loads and changes: next to nothing, until a name is used or something is served."""

import ast
import subprocess
import sys
from collections.abc import Mapping
from importlib import import_module
from pathlib import Path
from types import ModuleType

import pytest

import patter_trio
from tests.kit.depth import few

PACKAGE = Path(patter_trio.__file__).parent
LAZY = ("patter_trio", "patter_trio.engines", "patter_trio.testing", "patter_trio.testing.conformance")
LIBRARIES = {
    *("anyio", "asyncio", "attr", "h11", "httpcore", "httpx", "hypercorn", "msgspec", "numpy", "onnxruntime"),
    *("opentelemetry", "rich", "soxr", "trio", "websockets"),
}
EXPENSIVE = {"anyio", "asyncio", "httpcore", "httpx", "hypercorn", "onnxruntime", "opentelemetry", "rich", "soxr"}
"""What a phone does not need before it serves."""

STATE = """
import atexit, logging, signal, sys, threading, warnings

def state():
    loggers = {name: logging.getLogger(name) for name in ("", *logging.root.manager.loggerDict)}
    return {
        "loggers": {
            name: (logger.level, logger.filters, logger.handlers, logger.propagate, logger.disabled)
            for name, logger in loggers.items()
            if logger.level or logger.filters or logger.handlers or not logger.propagate or logger.disabled
        },
        "at exit": atexit._ncallbacks(),
        "signals": {number: signal.getsignal(number) for number in signal.valid_signals()},
        "warnings": list(warnings.filters),
        "threads": threading.enumerate(),
    }
"""


def python(program: str) -> str:
    """Run a program in a process of its own and return what it printed; what it raises goes to pytest's capture."""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)  # noqa: S603 (ours)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def loaded_by(program: str) -> set[str]:
    """Return the names of the modules that a program has loaded at its end."""
    return set(python(f"import sys\n{program}\nprint(*sys.modules)").split())


def bodies(package: ModuleType) -> tuple[list[ast.stmt], list[ast.stmt], ast.Call]:
    """Return what a package imports at once, what only type checkers see, and its call of ``lazy_exports``."""
    assert package.__file__
    tree = ast.parse(Path(package.__file__).read_text(encoding="utf-8"))
    [branch] = [node for node in tree.body if isinstance(node, ast.If)]
    [assignment] = [node for node in branch.orelse if isinstance(node, ast.Assign)]
    assert isinstance(assignment.value, ast.Call)
    return tree.body, branch.body, assignment.value


def imported(body: list[ast.stmt]) -> dict[str, str]:
    """Return the module of each name that a body imports."""
    return {
        alias.asname or alias.name: node.module or ""
        for node in body
        if isinstance(node, ast.ImportFrom)
        for alias in node.names
    }


@pytest.mark.parametrize("name", LAZY)
def test_lazy_table_static_imports_and_all_agree(name: str) -> None:
    """The table of lazy exports, the imports for type checkers and ``__all__`` have the same names."""
    package = import_module(name)
    at_once, static, call = bodies(package)
    table: Mapping[str, tuple[str, ...]] = ast.literal_eval(call.args[1])
    lazy = {export: module for module, exports in table.items() for export in exports}
    assert lazy == imported(static)
    public = lazy.keys() | {
        export for export, module in imported(at_once).items() if module not in ("typing", "patter_trio._lazy")
    }
    assert len(package.__all__) == len(public)
    assert set(package.__all__) == public <= set(dir(package))
    assert all(getattr(package, export) is not None for export in package.__all__)


@pytest.mark.parametrize("name", LAZY)
def test_no_lazy_name_is_also_a_submodule(name: str) -> None:
    """No lazy export has the name of a submodule, because importing the submodule would hide the export."""
    package = import_module(name)
    _, static, _ = bodies(package)
    files = [entry for folder in package.__path__ for entry in Path(folder).iterdir()]
    submodules = {entry.stem for entry in files if entry.suffix == ".py" or (entry / "__init__.py").exists()}
    assert not {export for export, module in imported(static).items() if export in submodules and module != name}


def test_import_loads_no_library() -> None:
    """``import patter_trio`` loads itself and its helper, and none of the libraries that calls need."""
    loaded = loaded_by("import patter_trio")
    assert not LIBRARIES & loaded
    assert {module for module in loaded if module.startswith("patter_trio")} == {"patter_trio", "patter_trio._lazy"}


@pytest.mark.parametrize(
    "program",
    few(
        [
            "from patter_trio import Patter, Twilio\nPatter()",
            (
                "import patter_trio.stt.whisper, patter_trio.tts.piper, patter_trio.vad.silero, "
                "patter_trio.turn.smart_turn"
            ),
            "import patter_trio.stt.deepgram, patter_trio.tts.elevenlabs, patter_trio.llm.openai, patter_trio.engines",
            "import patter_trio.engines.openai_realtime",
            "import patter_trio.testing",
            "from patter_trio import *",
        ],
        2,
    ),
)
def test_names_load_no_expensive_library(program: str) -> None:
    """Importing public names loads no library for HTTP, inference, resampling or tracing."""
    assert not EXPENSIVE & loaded_by(program)


def test_launcher_loads_rich_only_on_a_terminal() -> None:
    """A command whose output is a pipe does not load the library for terminals."""
    program = "from patter_trio.cli import main\ntry:\n    main(['doctor', 'no.py'])\nexcept SystemExit:\n    pass"
    assert "rich" not in loaded_by(program)


@pytest.mark.parametrize("program", ["import patter_trio", "from patter_trio import *"])
def test_import_changes_nothing_in_the_process(program: str) -> None:
    """Importing leaves loggers, exit hooks, signal handlers, warnings filters and threads as they are."""
    libraries = "import attrs, msgspec, numpy, trio, websockets.client, websockets.server\n"
    python(f"{libraries}{STATE}\nbefore = state()\n{program}\nassert state() == before, (before, state())")


def test_opening_installs_filters_once() -> None:
    """Opening the shared HTTP client gives each logger one filter, and opening it again adds none."""
    python(
        STATE
        + """
import trio
from patter_trio.logs import LOGGERS
from patter_trio.net.http import shared_client

async def opened():
    async with shared_client() as client, shared_client():
        await client.warm("http://127.0.0.1:9", head_timeout=1.0)

httpx = logging.getLogger("httpx")
assert not httpx.filters
for _ in range(2):
    trio.run(opened)
    assert [len(httpx.filters)] + [len(logging.getLogger(name).filters) for name in LOGGERS] == [1] * (1 + len(LOGGERS))
"""
    )


@pytest.mark.parametrize(("chosen", "level"), [("NOTSET", "WARNING"), ("DEBUG", "DEBUG")])
def test_websockets_are_quiet_unless_asked(chosen: str, level: str) -> None:
    """The first handshake sets the WebSocket logger to WARNING unless the application has chosen a level."""
    python(
        f"""
import logging
import trio, trio.testing
from patter_trio.net.websocket import WireError, receive_upgrade

logger = logging.getLogger("patter_trio.websocket")
logger.setLevel({chosen!r})

async def handshake():
    ours, _ = trio.testing.memory_stream_pair()
    try:
        await receive_upgrade(ours, b"no request\\r\\n\\r\\n")
    except WireError:
        return

trio.run(handshake)
assert logging.getLevelName(logger.level) == {level!r}, logger
"""
    )


def test_threads_register_one_exit_hook() -> None:
    """The first function that runs in a thread registers one exit hook, and the next one adds none."""
    python(
        STATE
        + """
import trio
from patter_trio.net.threads import run_in_thread

counts = [atexit._ncallbacks()]
for _ in range(2):
    trio.run(run_in_thread, int)
    counts.append(atexit._ncallbacks())
assert counts == [counts[0], counts[0] + 1, counts[0] + 1], counts
"""
    )


def test_misspelt_name_raises_with_a_suggestion() -> None:
    """A misspelt name raises Python's own AttributeError with a suggestion, or Python's own ImportError."""
    done = subprocess.run(
        [sys.executable, "-c", "import patter_trio\npatter_trio.Pater"], capture_output=True, text=True, check=False
    )
    last = done.stderr.splitlines()[-1]
    assert last == "AttributeError: module 'patter_trio' has no attribute 'Pater'. Did you mean: 'Patter'?"
    with pytest.raises(ImportError, match="cannot import name 'Pater' from 'patter_trio'"):
        from patter_trio import Pater  # type: ignore[attr-defined]  # noqa: F401, PLC0415 (the import fails)


def test_name_is_resolved_once() -> None:
    """The first use of a lazy export binds its name on the package, so a later use is a plain attribute access."""
    python(
        """
import patter_trio
assert "CallEnded" not in vars(patter_trio) and "CallEnded" in dir(patter_trio)
first = patter_trio.CallEnded
assert vars(patter_trio)["CallEnded"] is first
"""
    )


def test_plugin_loads_nothing_of_the_simulator(pytester: pytest.Pytester) -> None:
    """The pytest plugin loads no simulator and no expensive library in a project that does not use it."""
    pytester.makepyfile(
        f"""
        import sys

        def test_of_another_project(request):
            assert request.config.pluginmanager.hasplugin("patter_trio")
            ours = {{name for name in sys.modules if name.startswith("patter_trio")}}
            assert ours == {{"patter_trio", "patter_trio._lazy", "patter_trio.pytest_plugin"}}
            assert not {EXPENSIVE - {"asyncio", "anyio"}!r} & sys.modules.keys()
        """
    )
    pytester.runpytest_subprocess().assert_outcomes(passed=1)
