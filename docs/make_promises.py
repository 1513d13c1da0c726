"""Writes docs/promises.md from docs/promises.toml and the tests that it names: ``python docs/make_promises.py``."""

import ast
import tomllib
from functools import cache
from pathlib import Path

ROOT = Path(__file__).parents[1]
SOURCE = Path(__file__).with_name("promises.toml")
PAGE = Path(__file__).with_name("promises.md")

HEAD = """# Promises

What is promised of callbacks, events, hooks, metrics and tracing, one by one, with the tests that prove it in pipeline mode (a
recogniser, a mind and a voice). A promise without a test is not kept yet. Speech-to-speech engines are not there yet.

"""


@cache
def tests() -> dict[str, list[str]]:
    """Return the files that have a test of a name, by that name."""
    found: dict[str, list[str]] = {}
    for path in sorted((ROOT / "tests").rglob("test_*.py")):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and node.name.startswith("test_"):
                found.setdefault(node.name, []).append(path.relative_to(ROOT).as_posix())
    return found


def proof(name: str) -> str:
    """Return how the page names a test; ``name`` may say the folder that it is in: ``call/test_...``.

    Raises:
        SystemExit: there is not exactly one test of that name.
    """
    folder, _, test = name.rpartition("/")
    files = [file for file in tests().get(test, []) if file.startswith(f"tests/{folder}")]
    if len(files) != 1:
        raise SystemExit(f"{SOURCE.name}: {name} is the name of {len(files) or 'no'} tests")
    return f"[{test.removeprefix('test_').replace('_', ' ')}](../{files[0]})"


def page() -> str:
    """Return the page as promises and tests are now."""
    sections = tomllib.loads(SOURCE.read_text(encoding="utf-8"))["section"]
    rows = [promise for section in sections for promise in section["promises"]]
    kept = sum(len(promise) > 1 for promise in rows)
    parts = [f"{HEAD}Kept: {kept} of {len(rows)}.\n"]
    for section in sections:
        lines = [f"## {section['title']}", "", "| promise | kept | proved by |", "|---|---|---|"]
        for text, *names in section["promises"]:
            proofs = "<br>".join(proof(name) for name in names)
            lines.append(f"| {text} | {'yes' if names else 'not yet'} | {proofs} |")
        parts.append("\n".join(lines) + "\n")
    return "\n".join(parts)


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
