"""The conversation in docs/text-chat.md is what the command shows."""

import runpy
from pathlib import Path

PAGE = runpy.run_path(str(Path(__file__).parents[2] / "docs" / "make_text_chat.py"))


def test_conversation_of_the_page_is_true() -> None:
    """The page shows what the command shows, up to times and the id of the call."""
    timeless, shown = PAGE["timeless"], PAGE["block"](PAGE["output"]())
    assert timeless(PAGE["current"]()) == timeless(shown), "run python docs/make_text_chat.py"
