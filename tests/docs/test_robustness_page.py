"""docs/robustness.md says what the catalogue of faults, the phases and the targets of the fuzzer say."""

import runpy
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT))

from benchmarks.fuzz.targets import TARGETS  # noqa: E402 (after the path is set)
from tests.kit.shared_server import PHASES  # noqa: E402 (after the path is set)

PAGE = (ROOT / "docs" / "robustness.md").read_text(encoding="utf-8")


def test_the_table_of_faults_is_the_catalogue() -> None:
    """The table of faults on the robustness page is what its maker makes of the catalogue."""
    assert runpy.run_path(str(ROOT / "docs" / "make_robustness.py"))["page"](PAGE) == PAGE, (
        "run python docs/make_robustness.py"
    )


def test_every_phase_is_named() -> None:
    """The robustness page lists the phases of a fault in their order."""
    assert f"phases: {', '.join(PHASES)}." in " ".join(PAGE.split())


def test_every_target_of_the_fuzzer_is_named() -> None:
    """The robustness page has a row for each target of the fuzzer, in order."""
    assert [line.split("`")[1] for line in PAGE.splitlines() if line.startswith("| `")] == list(TARGETS)
