"""Every object is complete when it is constructed: no other module assigns its attributes afterwards."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

import patter_trio

# What it reads or starts is measured by other tests.
pytestmark = pytest.mark.no_coverage

PACKAGE = Path(patter_trio.__file__).parent
FILES = sorted(PACKAGE.rglob("*.py"))
STATES = {"conversation": ("turn_moves.py", "turn_state.py")}
"""Parts that are functions over a state, with the modules that declare it: the rules of the turn machine."""
OF_PYTHON = {"excepthook"}
"""Attributes of Python's own modules that a program is to set."""
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
    """Return the attributes that the module's classes declare, or assign to themselves; a protocol is not a class."""
    declared = {
        statement.target.id
        for part in ast.walk(tree)
        if isinstance(part, ast.ClassDef) and not any(ast.unparse(base).startswith("Protocol") for base in part.bases)
        for statement in part.body
        if isinstance(statement, ast.AnnAssign) and isinstance(statement.target, ast.Name)
    }
    return declared | {node.attr for node in assigned(tree) if is_self(node.value)}


def root_of(node: ast.expr | None) -> str:
    """Return the name at which an expression begins: ``httpx`` for ``httpx.AsyncClient()``."""
    while isinstance(node, ast.Attribute | ast.Call):
        node = node.func if isinstance(node, ast.Call) else node.value
    return node.id if isinstance(node, ast.Name) else ""


def of_libraries(tree: ast.Module) -> set[str]:
    """Return the names that hold an object of another library: an argument of its type, or the result of its call."""
    foreign = {
        name.asname or name.name
        for node in ast.walk(tree)
        if isinstance(node, ast.Import)
        or (isinstance(node, ast.ImportFrom) and not str(node.module).startswith("patter_trio"))
        for name in node.names
    }
    local = {node.arg for node in ast.walk(tree) if isinstance(node, ast.arg) and root_of(node.annotation) in foreign}
    for node in ast.walk(tree):
        if isinstance(node, ast.Assign) and isinstance(node.value, ast.Call) and root_of(node.value) in foreign | local:
            local |= {target.id for target in node.targets if isinstance(target, ast.Name)}
    return local


def is_pythons(attribute: str) -> bool:
    """Return True for an attribute that Python defines, such as ``__doc__`` and ``__cause__``."""
    return attribute.startswith("__") and attribute.endswith("__")


def late_assignments(source: str, state: str = "") -> list[str]:
    """Return the assignments to an attribute of another module's object, as source text.

    ``state`` is the source of the modules whose objects this one may change.
    """
    tree = ast.parse(source)
    allowed, local = own_attributes(tree) | own_attributes(ast.parse(state)) | OF_TRIO | OF_PYTHON, of_libraries(tree)
    return [
        ast.unparse(node)
        for node in assigned(tree)
        if not is_self(node.value)
        and node.attr not in allowed
        and not is_pythons(node.attr)
        and not (isinstance(node.value, ast.Name) and node.value.id in local)
    ]


@pytest.mark.deep
def test_no_module_completes_a_foreign_object() -> None:
    """No module assigns an attribute of an object that another module defines."""
    found = {file: late_assignments(file.read_text(), state_of(file)) for file in FILES}
    assert {file: late for file, late in found.items() if late} == {}


def state_of(file: Path) -> str:
    return "\n".join((file.parent / name).read_text() for name in STATES.get(file.parent.name, ()))


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
        ("import onnx\noptions = onnx.Options()\noptions.threads = 1", []),
        ("import logging\ndef f(record: logging.LogRecord):\n record.args = None", []),
        ("import httpx\ndef f(client: httpx.Client):\n request = client.new()\n request.body = b''", []),
        ("method.__doc__ = 'text'", []),
        ("class Session(Protocol):\n  active: bool\ndef f(session):\n session.active = False", ["session.active"]),
        ("from patter_trio.events import Queue\nqueue = Queue()\nqueue.control = None", ["queue.control"]),
    ],
)
def test_late_assignments_are_recognised(source: str, late: list[str]) -> None:
    """The check finds each form of assignment, and lets a module change what it made or declared itself."""
    assert late_assignments(source) == late


def test_state_of_named_modules_may_be_changed() -> None:
    """Rules over a state may assign what the state's own module declares, and nothing else."""
    state = "class State:\n def __init__(self):\n  self.turn = 0"
    assert late_assignments("def rule(c):\n c.turn += 1\n c.other = 2", state) == ["c.other"]
