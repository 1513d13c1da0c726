"""docs/providers.md names every check of the kit, and no other."""

import re
from pathlib import Path

from patter_trio.testing import ENGINE_CHECKS, LLM_CHECKS, STT_CHECKS, TTS_CHECKS

PAGE = (Path(__file__).parents[2] / "docs" / "providers.md").read_text(encoding="utf-8")
KINDS = {"STT": STT_CHECKS, "LLM": LLM_CHECKS, "TTS": TTS_CHECKS, "engines": ENGINE_CHECKS}


def test_providers_page_lists_checks_with_kinds() -> None:
    """The providers page lists each check with the kinds of provider that it applies to."""
    rows = re.findall(r"^\| ([^|]+) \| ([^|]+) \|[^|]*\|$", PAGE.partition("## What is checked")[2], re.MULTILINE)
    documented = {name: of for name, of in rows if name != "check" and not name.startswith("-")}
    wanted = {
        name: "all" if len(kinds) == len(KINDS) else ", ".join(kinds)
        for name in dict.fromkeys(name for names in KINDS.values() for name in names)
        if (kinds := [kind for kind, names in KINDS.items() if name in names])
    }
    assert documented == wanted
