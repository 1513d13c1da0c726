"""The page of promises names tests that there are, and is as its source says."""

import importlib.util
from pathlib import Path
from types import ModuleType

import pytest

MAKER = Path(__file__).parents[2] / "docs" / "make_promises.py"


@pytest.fixture(name="maker", scope="module")
def _maker() -> ModuleType:
    spec = importlib.util.spec_from_file_location("make_promises", MAKER)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_page_of_promises_is_up_to_date(maker: ModuleType) -> None:
    """The promises page is what its maker makes of docs/promises.toml and the tests."""
    assert maker.PAGE.read_text(encoding="utf-8") == maker.page()


def test_promise_without_test_is_refused(maker: ModuleType) -> None:
    """A promise whose test does not exist is refused."""
    with pytest.raises(SystemExit, match="test_that_is_not_there must be the name of exactly one test, got 0"):
        maker.proof("test_that_is_not_there")


def test_promises_page_marks_engine_proofs(maker: ModuleType) -> None:
    """The promises page says which promises are also proved with an engine."""
    both, pipeline, outside = (
        "test_turn_edges_have_exact_keys_and_times",
        "test_on_message_reply_names_function_in_llm_token",
        "test_percentiles_are_hyndman_and_fans_type_7",
    )
    assert [maker.with_engine([name]) for name in (both, pipeline, outside)] == ["yes", "pipeline", "any"]
    assert maker.with_engine([pipeline, both, outside]) == "yes"
    assert maker.with_engine([]) == ""
