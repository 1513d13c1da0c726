"""Writes docs/promises.md from docs/promises.toml and the tests that it names: ``python docs/make_promises.py``."""

import ast
import re
import tomllib
from functools import cache
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).parents[1]
SOURCE = Path(__file__).with_name("promises.toml")
PAGE = Path(__file__).with_name("promises.md")
HEAD = """# Promises

What is promised of callbacks, events, hooks, metrics and tracing, one by one, with the tests that prove it. A promise without a
test is not kept yet. Each is proved with a pipeline: a recogniser, a mind and a voice. The column "engine" says what is proved
with a speech-to-speech engine in their place:

* yes: the same test is run with an engine, or a test of engines alone proves it;
* pipeline: it is about what an engine has not: hooks, `on_message`, words that a recogniser tells from noise, prices of three;
* any: it is proved outside of a call, or where it makes no difference who answers.

"""


class _Test(NamedTuple):
    """A test, and how it is run: ``yes``, ``pipeline`` or ``any``."""

    file: str
    engine: str


def _marks(source: ast.Module) -> set[str]:
    """Return the marks of a module's ``pytestmark``."""
    values = [
        node.value
        for node in source.body
        if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "pytestmark"
    ]
    return set(re.findall(r"pytest\.mark\.(\w+)", " ".join(map(ast.unparse, values))))


def _engine(marks: set[str], test: ast.FunctionDef | ast.AsyncFunctionDef) -> str:
    arguments = {argument.arg for argument in [*test.args.args, *test.args.kwonlyargs]}
    if "pipeline" in marks or any("mark.pipeline" in ast.unparse(decorator) for decorator in test.decorator_list):
        return "pipeline"
    return "yes" if "engine" in marks or ("both_backends" in marks and "backend" in arguments) else "any"


@cache
def tests() -> dict[str, list[_Test]]:
    """Return the tests of a name, by that name."""
    found: dict[str, list[_Test]] = {}
    for path in sorted((ROOT / "tests").rglob("test_*.py")):
        source = ast.parse(path.read_text(encoding="utf-8"))
        for node in ast.walk(source):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and node.name.startswith("test_"):
                test = _Test(path.relative_to(ROOT).as_posix(), _engine(_marks(source), node))
                found.setdefault(node.name, []).append(test)
    return found


def _the(name: str) -> _Test:
    """Return a test; ``name`` may say the folder that it is in: ``call/test_...``.

    Raises:
        SystemExit: there is not exactly one test of that name.
    """
    folder, _, test = name.rpartition("/")
    found = [one for one in tests().get(test, []) if one.file.startswith(f"tests/{folder}")]
    if len(found) != 1:
        raise SystemExit(f"{SOURCE.name}: {name} is the name of {len(found) or 'no'} tests")
    return found[0]


def proof(name: str) -> str:
    """Return how the page names a test, with a link to its file."""
    title = name.rpartition("/")[2].removeprefix("test_").replace("_", " ")
    return f"[{title}](../{_the(name).file})"


def with_engine(names: list[str]) -> str:
    """Return what the tests of a promise prove of engines: what one of them does is proved."""
    ways = {_the(name).engine for name in names}
    return next((way for way in ("yes", "pipeline", "any") if way in ways), "")


def page() -> str:
    """Return the page as promises and tests are now."""
    sections = tomllib.loads(SOURCE.read_text(encoding="utf-8"))["section"]
    rows = [promise for section in sections for promise in section["promises"]]
    kept = sum(len(promise) > 1 for promise in rows)
    parts = [f"{HEAD}Kept: {kept} of {len(rows)}.\n"]
    for section in sections:
        lines = [f"## {section['title']}", "", "| promise | kept | engine | proved by |", "|---|---|---|---|"]
        for text, *names in section["promises"]:
            proofs = "<br>".join(proof(name) for name in names)
            lines.append(f"| {text} | {'yes' if names else 'not yet'} | {with_engine(names)} | {proofs} |")
        parts.append("\n".join(lines) + "\n")
    return "\n".join(parts)


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
