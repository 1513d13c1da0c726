"""``IVRActivity``: keys for other people's menus, menus that repeat themselves, and silence."""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
import trio

from patter_trio import CallControl, ConfigurationError, IVRActivity, Patter, press_keys
from patter_trio.integrations.ivr import LOOP_MESSAGE
from patter_trio.pytest_plugin import CallSimulator
from patter_trio.testing import ScriptedLLM, tool_call
from patter_trio.testing.simulation.caller import SimulatedCaller
from tests.kit.call import Backend
from tests.kit.tones import keys_in

pytestmark = pytest.mark.both_backends

MENU = "For sales press one, for support press two."


@asynccontextmanager
async def watched(
    call_simulator: CallSimulator, backend: Backend, *replies: Any, **options: Any
) -> AsyncIterator[SimulatedCaller]:
    """Call an agent that may press keys, and watch the call."""
    phone = Patter()
    agent = backend.agent_of(llm=ScriptedLLM([*replies]), tools=[press_keys])
    async with trio.open_nursery() as nursery, call_simulator(agent, phone, direction="outbound") as caller:
        await caller.waits(0.1)
        nursery.start_soon(IVRActivity(phone.calls[0], **options).run, phone.events)
        yield caller


async def test_model_presses_keys(call_simulator: CallSimulator, backend: Backend) -> None:
    """The tool sends the digits that the model chooses, and the other side hears their tones."""
    call = tool_call("press_keys", digits="2w4711#")
    async with watched(call_simulator, backend, call, "I want a room.", max_silence_duration=60.0) as caller:
        await caller.speaks(MENU, seconds=2.0)
        await caller.waits(6.0)
        heard = "".join(key for stretch in caller.carrier.played() for key, _, _ in keys_in(stretch.audio))
        assert heard == "24711#"
        # Nothing is said to the menu about the keys; the model is asked again when somebody speaks.
        assert not caller.utterances
        await caller.speaks("Sales, good morning.", seconds=1.0)
        assert (await caller.heard(0)).text == "I want a room."


async def test_wrong_keys_are_told_to_the_model(call_simulator: CallSimulator, backend: Backend) -> None:
    """Keys that no telephone has become the tool's result, and the model can try again."""
    llm = ScriptedLLM([tool_call("press_keys", digits="two"), "Sorry."])
    phone = Patter()
    async with call_simulator(backend.agent_of(llm=llm, tools=[press_keys]), phone) as caller:
        await caller.speaks(MENU, seconds=2.0)
        assert (await caller.heard(0)).text == "Sorry."
        assert not "".join(key for stretch in caller.carrier.played() for key, _, _ in keys_in(stretch.audio))


async def test_repeated_menu_is_reported_to_model(call_simulator: CallSimulator, backend: Backend) -> None:
    """A menu that is heard again is reported: the model answers it and the report as one message."""
    async with watched(call_simulator, backend, "One.", "Once more.", "Help.", max_silence_duration=60.0) as caller:
        await caller.speaks(MENU, seconds=2.0)
        await caller.heard(0)
        await caller.speaks(MENU, seconds=2.0)
        await caller.heard(1)
    assert [text for role, text in caller.dialogue if role == "user"] == [MENU, f"{MENU} {LOOP_MESSAGE}"]


async def test_repeated_menu_calls_back(call_simulator: CallSimulator, backend: Backend) -> None:
    """``on_loop_detected`` is called instead, each time, and may take the call."""
    seen: list[str] = []

    async def looped(call: CallControl) -> None:
        seen.append(call.call_id)

    options: dict[str, Any] = {"on_loop_detected": looped, "max_silence_duration": 60.0}
    async with watched(call_simulator, backend, "One.", "Two.", "Three.", **options) as caller:
        for number in range(3):
            await caller.speaks(MENU, seconds=2.0)
            await caller.heard(number)
    assert seen == [caller.carrier.call_id] * 2
    assert LOOP_MESSAGE not in str(caller.dialogue)


async def test_loops_can_be_left_alone(call_simulator: CallSimulator, backend: Backend) -> None:
    """With ``loop_detector=False`` a repeated menu is answered like anything else."""
    options: dict[str, Any] = {"loop_detector": False, "max_silence_duration": 60.0}
    async with watched(call_simulator, backend, "One.", "Two.", **options) as caller:
        for number in range(2):
            await caller.speaks(MENU, seconds=2.0)
            await caller.heard(number)
    assert [text for role, text in caller.dialogue if role == "user"] == [MENU, MENU]


async def test_silence_is_reported_each_time(call_simulator: CallSimulator, backend: Backend) -> None:
    """Silence of 4 s is reported at that instant, and once more after another 4 s."""
    seen: list[float] = []

    def silent() -> None:
        seen.append(trio.current_time())

    options: dict[str, Any] = {"on_silence": silent, "max_silence_duration": 4.0}
    async with watched(call_simulator, backend, "Yes.", **options) as caller:
        await caller.at(1.0)
        await caller.speaks("Hello?", seconds=0.5)
        heard = await caller.heard(0)
        await caller.at(heard.ended + 9.0)
        began = caller.carrier.media_start + heard.ended
        assert seen == [pytest.approx(began + 4.0, abs=0.05), pytest.approx(began + 8.0, abs=0.05)]


async def test_silence_is_a_message_to_model(call_simulator: CallSimulator, backend: Backend) -> None:
    """Without a callback the model gets a message about the silence, and answers it."""
    async with watched(call_simulator, backend, "Is anybody there?", max_silence_duration=3.0) as caller:
        assert (await caller.heard(0)).text == "Is anybody there?"
    assert caller.dialogue[0] == (
        "user",
        "[Nobody has spoken for 3 seconds. Press a key, say something, or wait.]",
    )


async def test_failing_report_is_logged(
    call_simulator: CallSimulator, backend: Backend, caplog: pytest.LogCaptureFixture
) -> None:
    """A callback that raises is logged, and the watch goes on."""
    seen: list[int] = []

    def silent() -> None:
        seen.append(1)
        raise RuntimeError("nobody")

    with caplog.at_level(logging.WARNING, "patter_trio.events"):
        options: dict[str, Any] = {"on_silence": silent, "max_silence_duration": 1.0}
        async with watched(call_simulator, backend, **options) as caller:
            await caller.at(2.5)
    assert len(seen) == 2
    assert "RuntimeError: nobody" in caplog.text


async def test_watch_ends_with_call(call_simulator: CallSimulator, backend: Backend) -> None:
    """The watch returns when the call is over, and at once if it was over before."""
    phone = Patter()
    async with call_simulator(backend.agent_of(), phone) as caller:
        await caller.waits(0.5)
        [call] = phone.calls
        await caller.hangs_up()
    with trio.fail_after(1.0):
        await IVRActivity(call).run(phone.events)


async def test_bus_of_another_phone_is_noticed(call_simulator: CallSimulator, backend: Backend) -> None:
    """A watch on the bus of another phone raises 2 s after it has noticed the end; it waited for ever."""
    phone = Patter()
    async with call_simulator(backend.agent_of(), phone) as caller:
        await caller.waits(0.5)
        activity = IVRActivity(phone.calls[0])
        async with trio.open_nursery() as nursery:
            nursery.start_soon(caller.hangs_up)
            with trio.fail_after(10.0), pytest.raises(ConfigurationError, match="the phone that has the call"):
                await activity.run(Patter().events)
        with pytest.raises(ConfigurationError, match=r"events must be the bus of the call's phone, phone\.events"):
            await activity.run(phone)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "options",
    [
        {"max_silence_duration": 0},
        {"max_silence_duration": "5"},
        {"on_silence": 3},
        {"on_loop_detected": "x"},
        {"on_loop_detected": lambda a, b, c: 1},
        {"on_silence": lambda *, level: level},
    ],
    ids=lambda given: next(iter(given)),
)
async def test_wrong_options_are_refused(call_simulator: CallSimulator, options: dict[str, Any]) -> None:
    """Options are checked when the activity is made; so is the call."""
    phone = Patter()
    async with call_simulator(Backend("pipeline").agent_of(), phone) as caller:
        await caller.waits(0.1)
        with pytest.raises(ConfigurationError, match=f"{next(iter(options))} must be"):
            IVRActivity(phone.calls[0], **options)
    with pytest.raises(ConfigurationError, match="call_control must be a CallControl"):
        IVRActivity("CA1")  # type: ignore[arg-type]
