"""Menus: what keys lead to, the prompt and its repetition, and choices that fail."""

from __future__ import annotations

import itertools
import logging
from pathlib import Path
from typing import Any

import pytest
import trio

from patter_trio import CallControl, ConfigurationError, Menu, Patter, Tool, end_call, transfer_call
from patter_trio.pytest_plugin import CallSimulator
from patter_trio.testing import ScriptedTTS
from patter_trio.testing.simulation.caller import SimulatedCaller
from tests.kit.call import SORRY, Backend, agent_of

pytestmark = [pytest.mark.both_backends, pytest.mark.all_carriers]

DESK = "+15550100003"
HOURS = {"1": "We open at nine."}


def said(caller: SimulatedCaller) -> list[str]:
    """Return what the caller heard the agent say."""
    return [heard.text for heard in caller.utterances]


async def test_keys_lead_to_texts(call_simulator: CallSimulator, backend: Backend) -> None:
    """The menu begins with its prompt, behind the greeting; a key is answered at once, without a turn."""
    agent = backend.agent_of(first_message="Hello.", dtmf=Menu(HOURS, prompt="Press one."))
    async with call_simulator(agent) as caller:
        first = await caller.heard(0)
        await caller.presses("1")
        assert (await caller.heard(1)).text == "We open at nine."
        assert caller.times("agent_speech_started")[1] < first.ended + 1.0
    assert said(caller) == ["Hello. Press one.", "We open at nine."]
    assert not caller.times("user_speech_eos")
    assert caller.dialogue == [("assistant", "Hello. Press one."), ("assistant", "We open at nine.")]


async def test_prompt_follows_the_recording_notice(
    call_simulator: CallSimulator, backend: Backend, tmp_path: Path
) -> None:
    """The notice that the call is recorded is heard whole before a menu's first prompt, and the call is recorded."""
    agent = backend.agent_of(recording_notice="This call is recorded.", dtmf=Menu(HOURS, prompt="Press one."))
    async with call_simulator(agent, record_to=tmp_path) as caller:
        await caller.heard(1)
    assert said(caller)[:2] == ["This call is recorded.", "Press one."]
    assert len(list(tmp_path.iterdir())) == 1  # noqa: ASYNC240 (of a test)


async def test_key_silences_the_prompt(call_simulator: CallSimulator, backend: Backend) -> None:
    """A key over greeting and prompt cuts both, and nothing of them follows the answer."""
    agent = backend.agent_of(
        first_message="Hello.", dtmf=Menu(HOURS, prompt="Press one.", repeats=0), tts=ScriptedTTS(duration=4.0)
    )
    async with call_simulator(agent) as caller:
        await caller.at(1.0)
        await caller.presses("1")
        assert (await caller.heard(0)).interrupted
        assert (await caller.heard(1)).text == "We open at nine."
        await caller.waits(10.0)
    assert len(caller.utterances) == 2


async def test_wrong_key_is_told(call_simulator: CallSimulator, backend: Backend) -> None:
    """Keys that lead nowhere are told, with the prompt once more."""
    menu = Menu(HOURS, prompt="Press one.", invalid="No.")
    async with call_simulator(backend.agent_of(dtmf=menu)) as caller:
        await caller.heard(0)
        await caller.presses("5")
        assert (await caller.heard(1)).text == "No. Press one."


async def test_prompt_is_repeated_after_silence(call_simulator: CallSimulator, backend: Backend) -> None:
    """The prompt is said again after each 3 s of silence, twice; then the menu waits."""
    menu = Menu(HOURS, prompt="Press one.", repeat_after=3.0, repeats=2)
    async with call_simulator(backend.agent_of(dtmf=menu)) as caller:
        heard = [await caller.heard(number) for number in range(3)]
        await caller.waits(20.0)
        assert said(caller) == ["Press one."] * 3
        for earlier, later in itertools.pairwise(heard):
            # And what the voice takes for its first sound.
            assert 3.0 <= later.started - earlier.ended < 3.5
        await caller.presses("1")
        assert (await caller.heard(3)).text == "We open at nine."


async def test_menus_lead_to_menus_and_back(call_simulator: CallSimulator, backend: Backend) -> None:
    """A key may lead to another menu, whose prompt is spoken; None leads back, in the first menu to itself."""
    below = Menu({"1": "Ten euros.", "*": None}, prompt="Prices.")
    menu = Menu({"1": below, "*": None}, prompt="Start.")
    phone = Patter()
    async with call_simulator(backend.agent_of(dtmf=menu), phone) as caller:
        heard = []
        for number, keys in enumerate(("", "1", "1", "*", "*")):
            await caller.presses(keys)
            heard.append((await caller.heard(number)).text)
            assert phone.calls[0].data["menu"] is (below if number in (1, 2) else menu)
    assert heard == ["Start.", "Prices.", "Ten euros.", "Start.", "Start."]


async def test_key_transfers_the_call(call_simulator: CallSimulator, backend: Backend) -> None:
    """A key may lead to a person."""
    menu = Menu({"0": transfer_call({"desk": DESK})}, prompt="Press zero.")
    async with call_simulator(backend.agent_of(dtmf=menu)) as caller:
        await caller.heard(0)
        await caller.presses("0")
        await caller.carrier.over.wait()
    assert (caller.transferred_to, caller.outcome) == (DESK, "transferred")


# Functions ------------------------------------------------------------------------------------------------------------
def plain() -> str:
    return "Booked."


async def asynchronous(call: CallControl) -> str:
    await trio.sleep(0.5)
    return f"Booked for {call.caller[-4:]}."


def speaks_itself(call: CallControl) -> None:
    call.say("Booked.")


def opens_a_menu(call: CallControl) -> Menu:
    return Menu(HOURS, prompt="Booked?")


@pytest.mark.parametrize(
    ("function", "text"),
    [(plain, "Booked."), (asynchronous, "Booked for 0001."), (speaks_itself, "Booked."), (opens_a_menu, "Booked?")],
    ids=lambda given: getattr(given, "__name__", ""),
)
async def test_key_calls_a_function(call_simulator: CallSimulator, backend: Backend, function: Any, text: str) -> None:
    """A key may lead to a function, sync or async, with or without the call; its text or menu is next."""
    async with call_simulator(backend.agent_of(dtmf=Menu({"2": function}, prompt="Press two."))) as caller:
        await caller.heard(0)
        await caller.presses("2")
        assert (await caller.heard(1)).text == text


async def test_key_ends_the_call(call_simulator: CallSimulator, backend: Backend) -> None:
    """A key may lead to end_call; the result of that tool, which is for a model, is not spoken."""
    async with call_simulator(backend.agent_of(dtmf=Menu({"9": end_call}, prompt="Press nine."))) as caller:
        await caller.heard(0)
        await caller.presses("9")
        await caller.carrier.over.wait()
    assert (said(caller), caller.outcome) == (["Press nine."], "agent_hung_up")


async def raises() -> str:
    raise RuntimeError("no room")


async def counts() -> int:
    return 5


async def hangs() -> str:
    await trio.sleep_forever()
    return ""


@pytest.mark.parametrize(
    ("function", "logged"),
    [
        (raises, "choice 2 (raises) failed: raises raised RuntimeError: no room"),
        (hangs, "took longer than 30 s"),
        (counts, "choice 2 (counts) failed: it must return a text, a Menu or None, got 5"),
    ],
    ids=["raises", "hangs", "returns"],
)
async def test_failed_choice_apologises(
    call_simulator: CallSimulator, backend: Backend, caplog: pytest.LogCaptureFixture, function: Any, logged: str
) -> None:
    """A function that raises, hangs or returns a number is logged, the caller hears sorry, and the menu goes on."""
    menu = Menu({**HOURS, "2": function}, prompt="Press two.", repeats=0)
    async with call_simulator(backend.agent_of(dtmf=menu)) as caller:
        await caller.heard(0)
        with caplog.at_level(logging.WARNING, "patter_trio.events"):
            await caller.presses("2")
            assert (await caller.heard(1)).text == SORRY
        assert logged in caplog.text
        await caller.presses("1")
        assert (await caller.heard(2)).text == "We open at nine."


async def test_failed_choice_has_its_own_default(call_simulator: CallSimulator, backend: Backend) -> None:
    """Without an error_message, an apology and the prompt are said: the caller has pressed a key, and said nothing."""
    menu = Menu({"2": raises}, prompt="Press two.", repeats=0)
    async with call_simulator(backend.agent_of(dtmf=menu, error_message=None)) as caller:
        await caller.heard(0)
        await caller.presses("2")
        assert (await caller.heard(1)).text == "I am sorry, something went wrong. Press two."


async def test_impatient_keys_are_bounded(
    call_simulator: CallSimulator, backend: Backend, caplog: pytest.LogCaptureFixture
) -> None:
    """Keys that come while a function works wait, 16 at most; further ones are dropped with a line in the log."""
    menu = Menu({**HOURS, "2": hangs}, prompt="Press two.", repeats=0)
    async with call_simulator(backend.agent_of(dtmf=menu)) as caller:
        await caller.heard(0)
        with caplog.at_level(logging.WARNING, "patter_trio.events"):
            await caller.presses("2" + "1" * 17)
            await caller.waits(0.1)
        assert "a choice was dropped" in caplog.text


# Beside an agent, and alone -------------------------------------------------------------------------------------------
async def test_caller_may_speak_to_the_model(call_simulator: CallSimulator, backend: Backend) -> None:
    """Beside a menu the model answers what the caller says, and the prompt is then not repeated."""
    menu = Menu(HOURS, prompt="Press one.", repeat_after=3.0)
    async with call_simulator(backend.agent_of("I am listening.", dtmf=menu)) as caller:
        await caller.heard(0)
        await caller.speaks("Hello", seconds=0.5)
        assert (await caller.heard(1)).text == "I am listening."
        await caller.waits(20.0)
        assert len(caller.utterances) == 2
        await caller.presses("1")
        assert (await caller.heard(2)).text == "We open at nine."


async def test_menu_as_on_message_is_whole_agent(call_simulator: CallSimulator) -> None:
    """``on_message=menu`` needs nothing else: words are answered by the prompt of the present menu."""
    menu = Menu({"1": Menu(HOURS, prompt="Press one again.")}, prompt="Press one.", repeats=0)
    async with call_simulator(agent_of(llm=None), on_message=menu) as caller:
        await caller.heard(0)
        await caller.presses("1")
        await caller.heard(1)
        await caller.speaks("What?", seconds=0.5)
        await caller.heard(2)
        await caller.presses("1")
        await caller.heard(3)
    assert said(caller) == ["Press one.", "Press one again.", "Press one again.", "We open at nine."]


async def test_longer_keys_wait_for_more(call_simulator: CallSimulator, backend: Backend) -> None:
    """In a menu with longer keys, a choice is complete with the longest, with ``#`` or after the pause."""
    menu = Menu({"1": "One.", "12": "Twelve."}, prompt="Press.", repeats=0)
    async with call_simulator(backend.agent_of(dtmf=menu)) as caller:
        await caller.heard(0)
        for number, (keys, text) in enumerate((("12", "Twelve."), ("1#", "One."), ("1", "One.")), start=1):
            await caller.presses(keys)
            assert (await caller.heard(number)).text == text


def test_hash_may_be_a_choice() -> None:
    """``#`` completes nothing in a menu where it is a choice."""
    assert Menu({"#": "x"}, prompt="x").keypad.terminator == ""
    assert Menu({"1": Menu({"12": "x"}, prompt="x")}, prompt="x").keypad.max_digits == 2


@pytest.mark.parametrize(
    ("choices", "options", "wrong"),
    [
        ({}, {}, "choices must be a dict"),
        (["1"], {}, "choices must be a dict"),
        ({1: "x"}, {}, "a choice must have keys"),
        ({"": "x"}, {}, "a choice must have keys"),
        ({"1a": "x"}, {}, "a choice must have keys"),
        ({"1": 5}, {}, "choice 1 must be a text"),
        ({"1": lambda call, more: "x"}, {}, r"choice 1 must be a function of \(\) or \(call_control\)"),
        ({"1": Tool("book", webhook_url="https://a.example")}, {}, "choice 1 must be a tool with a handler"),
        ({"1": " "}, {}, "choice 1 must have a text that is not blank"),
        ({"1": transfer_call({"a": DESK, "b": DESK})}, {}, "one destination"),
        (HOURS, {"prompt": " "}, "prompt must be a text"),
        (HOURS, {"invalid": ""}, "invalid must be a text"),
        (HOURS, {"repeat_after": 0}, "repeat_after must be a number"),
        (HOURS, {"repeats": -1}, "repeats must be a whole number"),
    ],
    ids=[
        "none",
        "list",
        "number",
        "empty",
        "letter",
        "value",
        "two-arguments",
        "url",
        "blank",
        "two",
        "prompt",
        "invalid",
        "after",
        "repeats",
    ],
)
def test_wrong_menu_is_refused(choices: Any, options: dict[str, Any], wrong: str) -> None:
    """A menu's options are checked when it is made."""
    with pytest.raises(ConfigurationError, match=wrong):
        Menu(choices, **{"prompt": "Press.", **options})
