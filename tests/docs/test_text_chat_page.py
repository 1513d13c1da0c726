"""The conversation in docs/text-chat.md is what the command shows."""

import runpy
from pathlib import Path

import pytest

PAGE = runpy.run_path(str(Path(__file__).parents[2] / "docs" / "make_text_chat.py"))


@pytest.mark.deep
def test_conversation_of_the_page_is_true() -> None:
    """The page shows the lines that the command shows, up to times and the id of the call."""
    timeless, shown = PAGE["timeless"], PAGE["block"](PAGE["output"]())
    # Not in order: the example runs in real time, and what a tool and the agent do meanwhile may change places.
    written, printed = (sorted(timeless(text).splitlines()) for text in (PAGE["current"](), shown))
    assert written == printed, "run python docs/make_text_chat.py"
