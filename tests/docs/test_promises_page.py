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
    assert maker.PAGE.read_text(encoding="utf-8") == maker.page()


def test_a_promise_whose_test_is_gone_is_no_promise(maker: ModuleType) -> None:
    with pytest.raises(SystemExit, match="test_that_is_not_there must be the name of exactly one test, got 0"):
        maker.proof("test_that_is_not_there")


def test_the_page_says_which_promises_are_proved_with_an_engine_too(maker: ModuleType) -> None:
    both, pipeline, outside = (
        "test_each_edge_of_a_turn_has_exactly_its_keys_and_its_instant",
        "test_llm_token_of_an_on_message_reply_names_the_function",
        "test_percentiles_are_hyndman_and_fans_type_7",
    )
    assert [maker.with_engine([name]) for name in (both, pipeline, outside)] == ["yes", "pipeline", "any"]
    assert maker.with_engine([pipeline, both, outside]) == "yes"
    assert maker.with_engine([]) == ""
