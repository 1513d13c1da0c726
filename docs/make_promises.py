"""Write docs/promises.md from docs/promises.toml and the tests that it names: ``python docs/make_promises.py``."""

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

What the package promises about callbacks, events, hooks, metrics and tracing, one by one, with the tests that prove it.
A promise without a test is not kept yet. Each is proved with a pipeline of STT, LLM and TTS. The column "engine" says
what is proved with a speech-to-speech engine instead:

* yes: the same test also runs with an engine, or a test of engines proves it;
* pipeline: the promise is about something that an engine does not have: hooks, `on_message`, words that the STT
  distinguishes from noise, separate prices of three providers;
* any: the proof does not need a call, or the backend makes no difference.

"""


class _Test(NamedTuple):
    """A test, and what it proves of engines: ``yes``, ``pipeline`` or ``any``."""

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
    """Return all tests, by name."""
    found: dict[str, list[_Test]] = {}
    for path in sorted((ROOT / "tests").rglob("test_*.py")):
        source = ast.parse(path.read_text(encoding="utf-8"))
        for node in ast.walk(source):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and node.name.startswith("test_"):
                test = _Test(path.relative_to(ROOT).as_posix(), _engine(_marks(source), node))
                found.setdefault(node.name, []).append(test)
    return found


def _the(name: str) -> _Test:
    """Return the test with a name, which may begin with its folder: ``call/test_...``.

    Raises:
        SystemExit: Not exactly one test has that name.
    """
    folder, _, test = name.rpartition("/")
    found = [one for one in tests().get(test, []) if one.file.startswith(f"tests/{folder}")]
    if len(found) != 1:
        raise SystemExit(f"{SOURCE.name}: {name} must be the name of exactly one test, got {len(found)}")
    return found[0]


def proof(name: str) -> str:
    """Return the link to a test, as the page shows it."""
    return f"[`{name.rpartition('/')[2]}`](../{_the(name).file})"


def with_engine(names: list[str]) -> str:
    """Return what the tests of a promise prove for engines; the strongest of them counts."""
    ways = {_the(name).engine for name in names}
    return next((way for way in ("yes", "pipeline", "any") if way in ways), "")


def page() -> str:
    """Return the page for the present promises and tests."""
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
