"""Imports point down: a part knows only the parts below it, the pure ones know no clock, no socket and no task."""

import ast
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

# What it reads or starts is measured by other tests.
pytestmark = pytest.mark.no_coverage

PACKAGE = Path(__file__).parents[2] / "patter_trio"
FILES = sorted(PACKAGE.rglob("*.py"))

# From the ground up. A part is a folder, or a module that lies beside the folders; parts of one floor do not know each
# other.
FLOORS = [
    {"_lazy", "audio", "errors"},
    {"abc", "pricing", "phone_numbers", "scripts"},
    {"conversation", "wire", "logs"},
    {"net"},
    {"user_code", "providers"},
    {"vad", "turn", "stt", "llm", "tts", "engines", "carriers"},
    {"defaults"},
    {"agent"},
    {"metrics"},
    {"events", "tracing"},
    {"timeline"},
    {"call_log"},
    {"call"},
    {"server"},
    {"pages"},
    {"dashboard", "phone_page", "text_chat"},
    {"phone"},
    {"integrations"},
    {"testing", "program", "__init__"},
    {"cli", "pytest_plugin"},
    {"__main__"},
]
FLOOR = {part: number for number, parts in enumerate(FLOORS) for part in parts}

PURE = ("audio", "wire", "conversation")
IMPURE = {"trio", "anyio", "socket", "ssl", "time", "random", "secrets", "httpx", "trio_websocket", "threading", "os"}
PURE_FILES = [file for folder in PURE for file in sorted((PACKAGE / folder).rglob("*.py"))]
OURS_THAT_MAY_BE_USED = (
    "patter_trio.audio",
    "patter_trio.wire",
    "patter_trio.conversation",
    "patter_trio.abc",
    "patter_trio.errors",
    "patter_trio.scripts",
)


def name_of(file: Path) -> str:
    """Return the dotted name of a file within the package: "call.session"; "" is the package itself."""
    return ".".join(file.relative_to(PACKAGE).with_suffix("").parts).removesuffix("__init__").removesuffix(".")


MODULES = {name_of(file): file for file in FILES}


@cache
def nodes(file: Path) -> list[ast.Import | ast.ImportFrom]:
    """Return the import statements of a file, wherever they are."""
    tree = ast.walk(ast.parse(file.read_text(encoding="utf-8")))
    return [node for node in tree if isinstance(node, ast.Import | ast.ImportFrom)]


def imports(file: Path) -> Iterator[str]:
    for node in nodes(file):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            yield node.module


@cache
def ours(module: str) -> set[str]:
    """Return the modules of the package that one imports, at its top, in a function or for the type checker alone."""
    found = set()
    for node in nodes(MODULES[module]):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        else:
            assert node.level == 0, f"{module}: imports are absolute"
            for alias in node.names:  # of a package's names, some are modules of it
                name = f"{node.module}.{alias.name}"
                found.add(name if name.removeprefix("patter_trio.") in MODULES else str(node.module))
    return {name.removeprefix("patter_trio").removeprefix(".") for name in found if name.split(".")[0] == "patter_trio"}


def part_of(module: str) -> str:
    return module.split(".", maxsplit=1)[0] or "__init__"


def reach(module: str) -> set[str]:
    """Return every module that is imported by a module, by those that it imports, and so on."""
    found: set[str] = set()
    todo = [module]
    while todo:
        new = ours(todo.pop()) - found
        found |= new
        todo.extend(new)
    return found


def test_every_part_has_a_floor() -> None:
    """The table of floors has exactly the parts of the package."""
    assert {part_of(module) for module in MODULES} == set(FLOOR)


def test_imports_point_down() -> None:
    """Each import of another part, type checkers' included, is of a part on a lower floor."""
    assert not [
        (module, name)
        for module in MODULES
        for name in sorted(ours(module))
        if (there := part_of(name)) != (here := part_of(module)) and FLOOR[there] >= FLOOR[here]
    ]


def test_no_imports_form_a_circle() -> None:
    """No module reaches itself by imports, those for type checkers included."""
    assert not [module for module in MODULES if module in reach(module)]


def test_pure_modules_import_nothing_impure() -> None:
    """A module of audio, wire or conversation imports no clock, socket, task or randomness, and only pure parts."""
    assert not [(file, name) for file in PURE_FILES for name in imports(file) if is_impure(name)]


def is_impure(name: str) -> bool:
    ours = name.startswith("patter_trio")
    return name.split(".", maxsplit=1)[0] in IMPURE or (ours and not name.startswith(OURS_THAT_MAY_BE_USED))


def test_extension_points_are_pure_too() -> None:
    """The modules of ``abc`` import no clock, socket, task or randomness."""
    assert not {
        name for file in (PACKAGE / "abc").glob("*.py") for name in imports(file) if name.split(".")[0] in IMPURE
    }


@pytest.mark.parametrize("name", ["metrics/results.py", "metrics/meter.py", "metrics/bill.py", "pricing/rates.py"])
def test_what_measures_a_call_knows_no_clock(name: str) -> None:
    """The modules that calculate metrics and prices import no clock, socket or task."""
    assert not {module for module in imports(PACKAGE / name) if module.split(".")[0] in IMPURE}


def test_timelines_are_pure() -> None:
    """The modules of ``timeline`` import no clock, socket, task or randomness."""
    assert not {
        name for file in (PACKAGE / "timeline").glob("*.py") for name in imports(file) if name.split(".")[0] in IMPURE
    }


@pytest.mark.parametrize("name", ["net/addresses.py", "net/circuit.py", "call/tools/values.py"])
def test_protocol_modules_import_no_clock_or_socket(name: str) -> None:
    """The modules with rules about other parties' servers import neither a clock nor a socket module."""
    assert not {module for module in imports(PACKAGE / name) if module.split(".")[0] in IMPURE}


def test_nothing_imports_asyncio() -> None:
    """No module of the package imports asyncio."""
    found = [str(file) for file in PACKAGE.rglob("*.py") if "asyncio" in {n.split(".")[0] for n in imports(file)}]
    assert not found


def test_broad_handlers_are_those_that_are_argued() -> None:
    """Exactly eleven modules handle every ``Exception`` or ``BaseException``, each at a border.

    The borders are a call, a connection, the measuring, the recording and the logging of a call, the receivers of its
    events, the application's code (``redact``, in the log's thread, included), providers of its own, the command line
    and the conformance kit.
    """
    found = {
        f"{file.relative_to(PACKAGE)}"
        for file in PACKAGE.rglob("*.py")
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8")))
        if isinstance(node, ast.ExceptHandler)
        and (node.type is None or ast.unparse(node.type) in ("Exception", "BaseException"))
        # A clean-up that raises the same exception on handles nothing.
        and ast.unparse(node.body[-1]) != "raise"
    }
    assert found == {
        "metrics/metering.py",
        "call/recording.py",
        "call/session.py",
        "events/records.py",
        "call_log/redaction.py",
        "call_log/writer.py",
        "user_code/invoke.py",
        "providers/attempts.py",
        "program.py",
        "server/connection.py",
        "testing/conformance/bench.py",
    }
