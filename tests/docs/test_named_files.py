"""The pages name files, modules and floors that exist."""

import re
import runpy
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PAGES = [*sorted(ROOT.glob("*.md")), *sorted((ROOT / "docs").rglob("*.md"))]
BASES = (ROOT, ROOT / "patter_trio")
"""Pages name files from the root, and modules of the package from the package's folder."""


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(ROOT).as_posix())
def test_files_on_a_page_exist(page: Path) -> None:
    """Each `folder/file.py`, `folder/` and `patter_trio.module` on a page is in the repository."""
    text = page.read_text(encoding="utf-8")
    files = re.findall(r"`((?:[a-z_]+/)+(?:[a-z_0-9]+\.[a-z]+)?)`", text)
    modules = [name.replace(".", "/") for name in re.findall(r"`(patter_trio(?:\.[a-z_]+)+)`", text)]
    missing = [name for name in files if not any((base / name).exists() for base in BASES)]
    missing += [name for name in modules if not ((ROOT / name).is_dir() or (ROOT / f"{name}.py").is_file())]
    assert not missing


def test_index_names_each_page() -> None:
    """The index, docs/README.md, links to each page."""
    index = (ROOT / "docs" / "README.md").read_text(encoding="utf-8")
    pages = sorted(page.name for page in (ROOT / "docs").glob("*.md") if page.name != "README.md")
    assert not [page for page in pages if f"]({page}" not in index]


def test_glossary_is_in_order_and_its_modules_exist() -> None:
    """The glossary has each word once, in alphabetical order, and the modules of its last column exist."""
    page = (ROOT / "docs" / "glossary.md").read_text(encoding="utf-8")
    rows = [line.strip("| ").split(" | ") for line in page.splitlines() if line.startswith("| ")][1:]
    words = [row[0].lower() for row in rows]
    assert words == sorted(set(words))
    places = [place for row in rows for place in re.findall(r"`([^`]+)`", row[2])]
    assert not [place for place in places if not (ROOT / "patter_trio" / place).exists()]


def test_floors_in_contributing_are_those_tested() -> None:
    """CONTRIBUTING.md shows the floors that the layering test uses, from the top down."""
    floors = runpy.run_path(str(ROOT / "tests" / "api" / "test_layering.py"))["FLOORS"]
    page = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| (\d+) \| ([^|]+) \|", page, re.MULTILINE)
    shown = {int(number): set(re.findall(r"`(\w+)`", parts)) for number, parts in rows}
    assert shown == dict(enumerate(floors))
