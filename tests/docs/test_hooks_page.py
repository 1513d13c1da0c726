"""docs/hooks.md says what the table of hooks says."""

import re
from pathlib import Path

from patter_trio.agent.hooks import TIERS

PAGE = (Path(__file__).parents[2] / "docs" / "hooks.md").read_text(encoding="utf-8")
NAMES = {"a text transform": ["text_transforms"], "a guardrail's check": ["guardrails"]}


def seconds(cell: str) -> float:
    number, unit = cell.split()
    return float(number) / (1000 if unit == "ms" else 1)


def test_hooks_page_matches_arguments_budgets_and_deadlines() -> None:
    """The hooks page has the arguments, budgets and deadlines of the code's table of hooks."""
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in PAGE.splitlines() if line.startswith("|")]
    table = [row for row in rows if len(row) == 6 and row[0] not in ("hook", "---")]
    documented = {}
    for name, given, _, _, budget, deadline in table:
        for hook in NAMES.get(name) or re.findall(r"`([^`]+)`", name):
            documented[hook] = (tuple(re.findall(r"`([^`]+)`", given)), seconds(budget), seconds(deadline))
    assert documented == {name: (tier.values, tier.budget, tier.deadline) for name, tier in TIERS.items()}


def test_hooks_page_names_hooks_skipped_after_miss() -> None:
    """The hooks page names the hooks that are skipped after a missed deadline."""
    often = re.search(r"every piece of audio or text \(([^)]+)\)", " ".join(PAGE.split()))
    assert often is not None
    named = [name.strip("` ") for name in often[1].split(",")]
    assert named == [name.removeprefix("after_llm.") for name, tier in TIERS.items() if tier.often]
