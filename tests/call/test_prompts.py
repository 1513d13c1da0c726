"""What the model gets as its instructions, and variables in prompt and greeting."""

import logging
from typing import Any

import pytest

from patter_trio.pytest_plugin import CallSimulator
from patter_trio.testing import ScriptedLLM
from tests.kit.call import Backend, agent_of

pytestmark = pytest.mark.all_carriers


@pytest.mark.pipeline("the scripted engine does not show its instructions")
async def test_preamble_stands_before_the_prompt(call_simulator: CallSimulator) -> None:
    """The one system message has the preamble and the prompt, also before before_llm.

    The agent's prompt is as given.
    """
    llm = ScriptedLLM(["Yes."])
    agent = agent_of(
        llm=llm, system_prompt="You are {name}.", variables={"name": "Ida"}, phone_preamble=True, language="de"
    )
    async with call_simulator(agent) as caller:
        await caller.speaks("Hello?", seconds=0.5)
        await caller.hears()
    system, user = llm.requests[0]
    assert system["content"].startswith("This is a telephone call in German (de).")
    assert system["content"].endswith("\n\nYou are Ida.")
    assert user["role"] == "user"
    assert agent.system_prompt == "You are {name}."


@pytest.mark.pipeline("the scripted engine does not show its instructions")
async def test_preamble_can_be_left_out(call_simulator: CallSimulator) -> None:
    """phone_preamble=False gives the model the prompt alone."""
    llm = ScriptedLLM(["Yes."])
    async with call_simulator(agent_of(llm=llm, phone_preamble=False)) as caller:
        await caller.speaks("Hello?", seconds=0.5)
        await caller.hears()
    assert llm.requests[0][0]["content"] == "You are brief."


async def test_unknown_names_in_templates_are_logged(
    call_simulator: CallSimulator, backend: Backend, caplog: pytest.LogCaptureFixture
) -> None:
    """A {name} without a variable is logged once per call, and left out of the greeting; on_call_start may give it."""

    def start(event: dict[str, Any]) -> dict[str, Any]:
        return {"variables": {"given": "Ann"}}

    agent = backend.agent_of("Yes.", first_message="Hello {given} {typo}!", system_prompt='Say {"a": 1} to {caller}.')
    async with call_simulator(agent, on_call_start=start) as caller:
        assert (await caller.hears()).text == "Hello Ann!"
    assert [record.message.partition(": ")[2] for record in caplog.records if record.levelno >= logging.WARNING] == [
        "system_prompt has {caller}, but variables= has no value for it",
        "first_message has {typo}, but variables= has no value for it",
    ]


async def test_unknown_names_are_logged_at_start(
    call_simulator: CallSimulator, backend: Backend, caplog: pytest.LogCaptureFixture
) -> None:
    """A {name} that no variable and no on_call_start gives is a warning when serving begins, with the name meant."""
    caplog.set_level(logging.INFO)
    agent = backend.agent_of("Yes.", first_message="Good day, {nmae}.", variables={"name": "Ann"})
    async with call_simulator(agent) as caller:
        assert caplog.messages[0] == (
            "first_message has {nmae} (did you mean name?), but variables= has no value for it, "
            "and there is no on_call_start= that could return it in variables"
        )
        assert (await caller.hears()).text == "Good day."


async def test_names_from_on_call_start_only_inform(
    call_simulator: CallSimulator, backend: Backend, caplog: pytest.LogCaptureFixture
) -> None:
    """A {name} that on_call_start may give causes a line at the level of info when serving begins, not a warning."""
    caplog.set_level(logging.INFO)
    agent = backend.agent_of("Yes.", first_message="Good day, {name}.")
    start = {"variables": {"name": "Ann"}}
    async with call_simulator(agent, on_call_start=lambda event: start) as caller:
        assert (await caller.hears()).text == "Good day, Ann."
    lines = [(record.levelno, record.getMessage()) for record in caplog.records if "{name}" in record.getMessage()]
    assert lines == [
        (
            logging.INFO,
            "first_message has {name}, but variables= has no value for it: on_call_start must return it in variables",
        )
    ]


async def test_greeting_without_value_is_silence(call_simulator: CallSimulator, backend: Backend) -> None:
    """A greeting that is only a {name} without a value is left out, and the call goes on."""
    async with call_simulator(backend.agent_of("Yes.", first_message="{typo}")) as caller:
        await caller.speaks("Hello?", seconds=0.5)
        assert (await caller.hears()).text == "Yes."


async def test_custom_params_are_cleaned(call_simulator: CallSimulator, backend: Backend) -> None:
    """Parameters of a call lose control characters and what is longer than 500 characters."""
    given = {"na\x00me": "Ann\r\nIgnore all\x1b " + "y" * 600}
    async with call_simulator(backend.agent_of("Yes."), custom_params=given) as caller:
        await caller.waits(0.5)
        [start] = caller.payloads("call_start")
    assert start["custom_params"] == {"name": ("Ann Ignore all " + "y" * 600)[:500]}
