"""Every object of a call is complete when it is constructed: no other module assigns its attributes afterwards."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

import patter_trio

PACKAGE = Path(patter_trio.__file__).parent
FILES = sorted(file for part in ("call", "server", "events") for file in (PACKAGE / part).rglob("*.py"))
OF_TRIO = {"deadline", "shield"}
"""Attributes of a cancel scope, which trio means to be assigned."""


def assigned(tree: ast.AST) -> Iterator[ast.Attribute]:
    """Yield every attribute that a statement assigns, also within a tuple."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Store):
            yield node


def is_self(node: ast.expr) -> bool:
    return isinstance(node, ast.Name) and node.id in ("self", "cls")


def own_attributes(tree: ast.Module) -> set[str]:
    """Return the attributes that the module's classes declare, or assign to themselves."""
    declared = {
        statement.target.id
        for part in ast.walk(tree)
        if isinstance(part, ast.ClassDef)
        for statement in part.body
        if isinstance(statement, ast.AnnAssign) and isinstance(statement.target, ast.Name)
    }
    return declared | {node.attr for node in assigned(tree) if is_self(node.value)}


def of_libraries(tree: ast.Module) -> set[str]:
    """Return the local names that hold an object of another library, made here: ``config = Config()``."""
    foreign = {
        name.asname or name.name
        for node in ast.walk(tree)
        if isinstance(node, ast.ImportFrom) and not str(node.module).startswith("patter_trio")
        for name in node.names
    }
    return {
        target.id
        for node in ast.walk(tree)
        if isinstance(node, ast.Assign) and isinstance(node.value, ast.Call)
        if isinstance(node.value.func, ast.Name) and node.value.func.id in foreign
        for target in node.targets
        if isinstance(target, ast.Name)
    }


def late_assignments(source: str) -> list[str]:
    """Return the assignments to an attribute of another module's object, as source text."""
    tree = ast.parse(source)
    allowed, local = own_attributes(tree) | OF_TRIO, of_libraries(tree)
    return [
        ast.unparse(node)
        for node in assigned(tree)
        if not is_self(node.value)
        and node.attr not in allowed
        and not (isinstance(node.value, ast.Name) and node.value.id in local)
    ]


@pytest.mark.parametrize("file", FILES, ids=lambda file: str(file.relative_to(PACKAGE)))
def test_no_module_completes_a_foreign_object(file: Path) -> None:
    """No module of a call assigns an attribute of an object that another module defines."""
    late = late_assignments(file.read_text())
    assert not late


@pytest.mark.parametrize(
    ("source", "late"),
    [
        ("writer.sent = on_sent", ["writer.sent"]),
        ("class C:\n def f(self):\n  self.writer.sent = 1", ["self.writer.sent"]),
        ("edges.user, edges.agent = states", ["edges.user", "edges.agent"]),
        ("async def f():\n async with opened() as stage.voice:\n  pass", ["stage.voice"]),
        ("class C:\n def f(self):\n  self.x, self.y = 1, 2", []),
        ("class Record:\n  over: bool = False\ndef f(record):\n record.over = True", []),
        ("scope.deadline = 5.0", []),
        ("from hypercorn.config import Config\nconfig = Config()\nconfig.errorlog = None", []),
        ("from patter_trio.events import Queue\nqueue = Queue()\nqueue.control = None", ["queue.control"]),
    ],
)
def test_late_assignments_are_recognised(source: str, late: list[str]) -> None:
    """The check finds each form of assignment, and lets a module change what it made or declared itself."""
    assert late_assignments(source) == late
