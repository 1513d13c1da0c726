"""docs/migrating-from-getpatter.md says what is there, and nothing else."""

import re
import runpy
from pathlib import Path

import patter_trio

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "migrating-from-getpatter.md").read_text(encoding="utf-8")
MADE = runpy.run_path(str(ROOT / "docs" / "make_migrating.py"))


def test_its_tables_are_what_the_package_has() -> None:
    """The tables of the migrating page are what its maker makes of the package."""
    assert MADE["page"](PAGE) == PAGE, "run python docs/make_migrating.py"


def test_it_has_each_of_the_eighteen_differences() -> None:
    """The migrating page numbers its differences from 1 to 18."""
    assert re.findall(r"^\| (\d+) \|", PAGE, re.MULTILINE) == [str(number) for number in range(1, 19)]


def test_migrating_page_names_match_the_package() -> None:
    """The package has each name that the migrating page lists as present and none that it lists as missing."""
    rows = MADE["names"]().splitlines()[2:]
    here = {name for row in rows for name in re.findall(r"`(\w+)`", row.split("|")[2])}
    missing = {name for row in rows for name in re.findall(r"`(\w+)`", row.split("|")[3])}
    assert {"Patter", "Twilio", "CallControl"} <= here
    assert all(hasattr(patter_trio, name) for name in here)
    assert not [name for name in missing if hasattr(patter_trio, name)]


def test_keywords_that_its_text_names_exist() -> None:
    """The package has the keywords that the page's text names."""
    for keyword in ("dashboard", "dashboard_token"):
        assert MADE["is_here"](f"serve.{keyword}")
