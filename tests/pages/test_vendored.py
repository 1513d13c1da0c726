"""The browser libraries of others: whole, listed, with their licences."""

import hashlib
import tomllib
from pathlib import Path

import pytest

from patter_trio.pages.assets import STATIC

ROOT = Path(__file__).parents[2]
VENDOR, TESTS = STATIC / "vendor", ROOT / "tests/vendor"


def listed(file: Path) -> list[dict[str, str]]:
    entries: list[dict[str, str]] = tomllib.loads(file.read_text(encoding="utf-8"))["file"]
    return entries


LIST = listed(ROOT / "patter_trio/pages/vendored.toml")
OF_TESTS = listed(TESTS / "vendored.toml")


def test_list_names_each_file() -> None:
    """Each list has exactly the files that are there."""
    assert sorted(entry["name"] for entry in LIST) == sorted(file.name for file in VENDOR.iterdir())
    there = {file.name for file in TESTS.iterdir()} - {"vendored.toml"}
    assert {entry["name"] for entry in OF_TESTS} == there


@pytest.mark.parametrize("entry", OF_TESTS, ids=lambda entry: str(entry["name"]))
def test_vendored_file_of_tests_is_unchanged(entry: dict[str, str]) -> None:
    """A file that only tests use has the sum in its list."""
    assert hashlib.sha256((TESTS / entry["name"]).read_bytes()).hexdigest() == entry["sha256"]


@pytest.mark.parametrize("entry", LIST, ids=lambda entry: str(entry["name"]))
def test_vendored_file_is_unchanged(entry: dict[str, str]) -> None:
    """A file has the sum in the list, and NOTICE names it, or the library that its licence is for."""
    assert hashlib.sha256((VENDOR / entry["name"]).read_bytes()).hexdigest() == entry["sha256"]
    notice = (ROOT / "NOTICE").read_text(encoding="utf-8")
    assert entry["name"] in notice
    if not entry["name"].endswith(".txt"):
        assert entry["version"] in notice
