"""The pure layers know no clock, no socket and no task; nothing knows asyncio."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[2] / "patter_trio"
PURE = ("audio", "wire", "conversation")
IMPURE = {"trio", "anyio", "socket", "ssl", "time", "random", "secrets", "httpx", "trio_websocket", "threading", "os"}
PURE_FILES = [file for folder in PURE for file in sorted((PACKAGE / folder).rglob("*.py"))]
OURS_THAT_MAY_BE_USED = (
    "patter_trio.audio",
    "patter_trio.wire",
    "patter_trio.conversation",
    "patter_trio.abc",
    "patter_trio.errors",
)


def imports(file: Path) -> Iterator[str]:
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            yield node.module


@pytest.mark.parametrize("file", PURE_FILES, ids=lambda file: str(file.relative_to(PACKAGE)))
def test_pure_module_imports_nothing_impure(file: Path) -> None:
    found = {name for name in imports(file) if name.split(".")[0] in IMPURE}
    found |= {
        name for name in imports(file) if name.startswith("patter_trio") and not name.startswith(OURS_THAT_MAY_BE_USED)
    }
    assert not found


def test_extension_points_are_pure_too() -> None:
    assert not {name for name in imports(PACKAGE / "abc.py") if name.split(".")[0] in IMPURE}


@pytest.mark.parametrize("name", ["telemetry/metrics.py", "telemetry/meter.py", "telemetry/bill.py", "pricing.py"])
def test_what_measures_a_call_knows_no_clock(name: str) -> None:
    assert not {module for module in imports(PACKAGE / name) if module.split(".")[0] in IMPURE}


@pytest.mark.parametrize("name", ["net/addresses.py", "net/circuit.py", "call/tool_values.py"])
def test_rules_about_others_servers_know_no_clock_and_no_socket(name: str) -> None:
    assert not {module for module in imports(PACKAGE / name) if module.split(".")[0] in IMPURE}


def test_nothing_imports_asyncio() -> None:
    found = [str(file) for file in PACKAGE.rglob("*.py") if "asyncio" in {n.split(".")[0] for n in imports(file)}]
    assert not found


def test_broad_handlers_are_the_six_that_are_argued() -> None:
    """A call's boundary, a connection's, that to a call's measuring, the two borders to the application's own code, and
    the conformance kit, to which whatever a provider raises is a finding."""
    found = {
        f"{file.relative_to(PACKAGE)}"
        for file in PACKAGE.rglob("*.py")
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8")))
        if isinstance(node, ast.ExceptHandler) and (node.type is None or ast.unparse(node.type) == "Exception")
    }
    assert found == {
        "call/metering.py",
        "call/session.py",
        "call/usercode.py",
        "cli/program.py",
        "server/door.py",
        "testing/conformance/bench.py",
    }
