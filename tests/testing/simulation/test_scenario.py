"""A scenario is data: it converts to a dict and back, and its errors name the wrong step."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from patter_trio.testing import Scenario, ScenarioError, Step

seconds = st.floats(0, 100)
STEPS = st.one_of(
    st.builds(Step, st.sampled_from(["at", "waits"]), st.fixed_dictionaries({"seconds": seconds})),
    st.builds(
        Step,
        st.just("speaks"),
        st.fixed_dictionaries({"text": st.text()}, optional={"seconds": seconds, "wait": st.booleans()}),
    ),
    st.builds(Step, st.sampled_from(["coughs", "hums"]), st.fixed_dictionaries({}, optional={"seconds": seconds})),
    st.builds(Step, st.just("plays"), st.fixed_dictionaries({"recording": st.text()})),
    st.builds(Step, st.just("presses"), st.fixed_dictionaries({"digits": st.text("0123456789*#")})),
    st.builds(Step, st.just("hears"), st.fixed_dictionaries({}, optional={"within": seconds})),
    st.just(Step("hangs_up")),
)


@given(st.lists(STEPS))
def test_what_is_written_is_read_back_the_same(steps: list[Step]) -> None:
    """Any scenario comes back from its JSON form unchanged."""
    scenario = Scenario(steps)
    assert Scenario.from_dict(json.loads(json.dumps(scenario.to_dict()))) == scenario


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        ({}, r'a scenario must be an object \{"steps"'),
        ({"steps": "at"}, r'a scenario must be an object \{"steps"'),
        ({"steps": [5]}, "step 1 must be an object"),
        ({"steps": [{"at": 1}]}, r"step 1 must be an object such as \{.does.: .at., .seconds.: 0.5\}, got"),
        ({"steps": [{"does": "hears"}, {"does": "sings"}]}, "step 2: a step must be one of at, waits, .*, got 'sings'"),
        ({"steps": [{"does": "at"}]}, "step 1: at needs seconds"),
        ({"steps": [{"does": "at", "seconds": "soon"}]}, "step 1: at: seconds must be a float, got 'soon'"),
        ({"steps": [{"does": "at", "seconds": True}]}, "seconds must be a float, got True"),
        ({"steps": [{"does": "speaks", "text": "x", "loud": 1}]}, "no option 'loud'; its options: text, seconds, wait"),
        ({"steps": [{"does": "hangs_up", "now": True}]}, "hangs_up has no option 'now'; its options: none"),
    ],
)
def test_invalid_scenario_names_the_step(data: dict[str, Any], reason: str) -> None:
    """An invalid scenario raises ScenarioError that names the step and what the step must be."""
    with pytest.raises(ScenarioError, match=reason):
        Scenario.from_dict(data)


def test_a_step_says_what_a_caller_can_do() -> None:
    """An unknown step or a missing option raises ScenarioError that lists the possible steps."""
    with pytest.raises(ScenarioError, match=r"a step must be one of at, waits, speaks, .*, got 'sing'"):
        Step("sing")
    with pytest.raises(ScenarioError, match="speaks needs text"):
        Step("speaks", {"seconds": 1.0})
