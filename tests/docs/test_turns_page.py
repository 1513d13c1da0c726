"""docs/turns.md says what the tables say."""

import runpy
from pathlib import Path

DOCS = Path(__file__).parents[2] / "docs"


def test_turns_page_is_up_to_date() -> None:
    """The page of the turn tables is up to date."""
    made = runpy.run_path(str(DOCS / "make_turns.py"))["page"]()
    assert (DOCS / "turns.md").read_text(encoding="utf-8") == made, "run python docs/make_turns.py"
