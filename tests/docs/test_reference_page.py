"""docs/reference.md is what docs/make_reference.py makes of the code."""

import inspect
import subprocess
import sys
from pathlib import Path

import pytest

from patter_trio import Agent, Patter

DOCS = Path(__file__).parents[2] / "docs"
SCRIPT = "make_reference.py"


@pytest.fixture(scope="module")
def page() -> str:
    return (DOCS / "reference.md").read_text(encoding="utf-8")


def test_page_is_up_to_date(page: str) -> None:
    """The reference page is what its maker, in a process of its own, makes of the code."""
    program = (
        f"import sys; sys.path.insert(0, {str(DOCS)!r}); import make_reference; print(make_reference.page(), end='')"
    )
    made = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)  # noqa: S603 (ours)
    assert made.returncode == 0, made.stderr
    assert made.stdout == page, f"run python docs/{SCRIPT}"


def test_page_names_every_option(page: str) -> None:
    """The reference page has a row for each option of the phone, of agents and of serve()."""
    for made in (Patter, Agent, Patter.serve):
        for name in inspect.signature(made).parameters.keys() - {"self", "task_status"}:
            assert f"\n| `{name}` | " in page, name


def test_page_shows_unit_and_default(page: str) -> None:
    """The reference page shows type, unit and default of an option in ms, in s, of a text and of a required one."""
    assert "| `endpointing_ms` | `int` | ms | `500` | Milliseconds of silence" in page
    assert "| `max_lag` | `float \\| None` | s | `0.1` | Seconds of event loop lag" in page
    assert "| `language` | `str` |  | `'en'` | BCP 47 tag" in page
    assert "| `system_prompt` | `str` |  |  | The instructions for the LLM." in page


def test_page_documents_one_way_to_hang_up(page: str) -> None:
    """The reference page has ``hang_up()`` and leaves out getpatter's name ``hangup()``."""
    assert "`hang_up()`" in page
    assert "hangup" not in page
