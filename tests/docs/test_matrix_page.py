"""docs/providers/matrix.md has a cell for each test that there is, and none that is not passed."""

import importlib.util
from pathlib import Path
from types import ModuleType

import pytest

MAKER = Path(__file__).parents[2] / "docs" / "make_matrix.py"


@pytest.fixture(name="maker", scope="module")
def _maker() -> ModuleType:
    spec = importlib.util.spec_from_file_location("make_matrix", MAKER)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.deep
def test_matrix_page_matches_the_tests(maker: ModuleType) -> None:
    """The matrix page is what the present tests produce."""
    for oracle in maker.oracles({}):
        pytest.importorskip(oracle.module, reason="without the vendor's package its tests cannot be counted")
    made = maker.page(dict.fromkeys(maker.collected(maker.of_providers()), "passed"))
    assert maker.PAGE.read_text(encoding="utf-8") == made, "run python docs/make_matrix.py"


def test_failure_or_skip_shows_in_matrix(maker: ModuleType) -> None:
    """A failed or skipped test shows in its cell and in the sum."""
    tests = [f"tests/a.py::test_mine_conforms[{check}]" for check in maker.CHECKS["LLM"]]
    oracle = maker.oracles({})[0]
    [judged, *_] = oracle.tests
    cases = [f"{oracle.path.relative_to(maker.ROOT).as_posix()}::{judged}[{case}]" for case in "ab"]
    text = maker.page(
        dict.fromkeys(tests, "passed")
        | {tests[0]: "failed", tests[1]: "skipped", cases[0]: "passed", cases[1]: "failed"}
    )
    count = len(tests)
    assert f"| mine | LLM | {count - 2} of {count} |" in text
    assert f"| {maker.CHECKS['LLM'][0]} | **no** |" in text
    assert f"| {maker.CHECKS['LLM'][1]} | skipped |" in text
    assert f"| {judged.removeprefix('test_').replace('_', ' ')} | 2 | **no** |" in text


def test_provider_variants_have_own_columns(maker: ModuleType) -> None:
    """Each variant of a provider has its own column in the matrix."""
    tests = [f"tests/a.py::test_mine_conforms[{kind}-{check}]" for kind in "xy" for check in maker.CHECKS["TTS"]]
    mine = maker.providers(dict.fromkeys(tests, "passed"))
    assert [(one.name, one.kind, len(one.checks)) for one in mine] == [
        ("mine x", "TTS", len(tests) // 2),
        ("mine y", "TTS", len(tests) // 2),
    ]


@pytest.mark.deep
def test_carriers_table_matches_the_tests(maker: ModuleType) -> None:
    """The table of docs/carriers.md is what the present tests produce: each cell has a test, or says what is there."""
    results = dict.fromkeys(maker.collected(maker.of_carriers()), "passed")
    text = maker.CARRIERS_PAGE.read_text(encoding="utf-8")
    assert maker.carriers_page(text, results) == text, "run python docs/make_matrix.py carriers"
    assert [row.text for row in maker.features() if "" in [row.cell(name, results) for name in maker.CARRIERS]] == []


def test_carriers_table_shows_failures(maker: ModuleType) -> None:
    """A test that fails or is skipped over one carrier shows in the cell of that carrier alone."""
    row = maker.Feature("keys", ("a.py::test_b",), {"plivo": ("a.py::test_own",)}, {"telnyx": "by request"})
    results = {
        "tests/a.py::test_b[twilio-1]": "passed",
        "tests/a.py::test_b[twilio-2]": "failed",
        "tests/a.py::test_b[plivo]": "skipped",
    }
    assert [row.cell(name, results) for name in maker.CARRIERS] == ["**no**", "by request", "skipped"]
    assert row.cell("plivo", results | {"tests/a.py::test_own": "passed"}) == "yes"
    assert row.cell("plivo", {}) == ""
