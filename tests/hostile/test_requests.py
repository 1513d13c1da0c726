"""Requests of a call that a carrier refuses, loses or answers too late, and hang-ups that race them; each carrier.

Each test asserts what the caller heard: a failed request costs no word, and the call goes on unless it is over.
"""

import logging
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import Any

import pytest
import trio

from patter_trio import CallControl, CallEnded, Patter, ProviderTimeout
from patter_trio.pytest_plugin import CallSimulator
from patter_trio.testing import CallRefused
from patter_trio.testing.faults.request_faults import REQUEST_FAULTS
from patter_trio.testing.simulation.caller import SimulatedCaller
from tests.kit.call import SORRY, agent_of, sound_of_agent
from tests.kit.carriers import line_to_server
from tests.kit.depth import chosen

pytestmark = pytest.mark.all_carriers(quick=True)

DESK = "+15550100003"
# One of each kind by default: a refusal, one without JSON, an answer that never comes.
each_fault = pytest.mark.parametrize("fault", chosen(REQUEST_FAULTS, ["call is over", "a page", "no answer"]))
# The ends of the paths of each carrier's commands.
TRANSFERS = {"twilio": ".json", "telnyx": "transfer", "plivo": ""}


def transfers_asked(caller: SimulatedCaller) -> int:
    """Return the number of requests for a transfer."""
    wanted = ("POST", TRANSFERS[caller.carrier.protocol.name])
    return sum((request.method, request.path) == wanted for request in caller.carrier.requests.made)


def is_over(fault: str) -> bool:
    return REQUEST_FAULTS[fault].error is CallEnded


@each_fault
async def test_caller_hears_of_a_failed_transfer(call_simulator: CallSimulator, fault: str) -> None:
    """After a transfer that fails the caller hears the apology, once, and is answered; the next one goes through."""
    phone = Patter()
    async with call_simulator(agent_of("Yes.", first_message="Hello."), phone) as caller:
        await caller.hears()
        REQUEST_FAULTS[fault].injection(caller.carrier, times=1)
        with pytest.raises(REQUEST_FAULTS[fault].error):
            await phone.calls[0].transfer(DESK, wait=True)
        # A call that is over needs no apology, and its stream ends in a moment. This one's does not: nothing is lost.
        sorry = "" if is_over(fault) else SORRY
        if sorry:
            assert (await caller.hears()).text == SORRY
        assert transfers_asked(caller) == 1, "nothing is asked for twice"
        await caller.speaks("Hello", 0.5)
        assert (await caller.hears()).text == "Yes."
        assert sound_of_agent(caller) == f"Hello.{sorry}Yes."
        await phone.calls[0].transfer(DESK, wait=True)
    assert (caller.transferred_to, caller.outcome) == (DESK, "transferred")
    assert transfers_asked(caller) == 2


@each_fault
async def test_unsent_digits_cost_no_word(
    call_simulator: CallSimulator, caplog: pytest.LogCaptureFixture, fault: str
) -> None:
    """Digits that a request could not send are one warning; where no request is needed, the caller hears them."""
    caplog.set_level(logging.WARNING)
    phone = Patter()
    async with call_simulator(agent_of("Yes.", first_message="Hello."), phone) as caller:
        await caller.hears()
        REQUEST_FAULTS[fault].injection(caller.carrier, times=1)
        by_request = caller.carrier.protocol.name == "telnyx"
        with suppress(REQUEST_FAULTS[fault].error):
            await phone.calls[0].send_dtmf("12", wait=True)
            assert not by_request
        await caller.speaks("Hello", 0.5)
        assert (await caller.hears()).text == "Yes."
        assert sound_of_agent(caller) == "Hello.Yes."
    assert caller.outcome == "caller_hung_up"
    commands = [request.path for request in caller.carrier.requests.made]
    assert commands == (["answer", "send_dtmf", "hangup"] if by_request else [])
    assert caplog.text.count("sending digits failed") == by_request


@each_fault
async def test_failed_hang_up_is_tried_again(call_simulator: CallSimulator, fault: str) -> None:
    """A goodbye is heard whole, and the line then goes dead, although the first request to end the call fails."""
    phone = Patter()
    async with call_simulator(agent_of(first_message="Goodbye, and thank you."), phone) as caller:
        await caller.at(0.5)
        REQUEST_FAULTS[fault].injection(caller.carrier, times=1)
        phone.calls[0].hang_up()
        goodbye = await caller.hears()
        if is_over(fault):
            # The carrier believes that it is over: the server asks no more.
            await caller.waits(1.0)
            commands = [request.path for request in caller.carrier.requests.made]
            assert commands == (["answer", "hangup"] if caller.carrier.protocol.name == "telnyx" else [])
            caller.carrier.hang_up()
        await caller.carrier.over.wait()
    assert (goodbye.text, goodbye.interrupted) == ("Goodbye, and thank you.", False)
    assert caller.outcome == "agent_hung_up"


@each_fault
async def test_call_that_cannot_be_answered_ends(autojump_clock: object, carrier: str, fault: str) -> None:
    """A caller whose call cannot be answered by request is not left ringing; where none is needed, the agent greets."""
    ends: list[dict[str, Any]] = []
    async with line_to_server(carrier, callbacks={"on_call_end": ends.append}) as line, trio.open_nursery() as nursery:
        REQUEST_FAULTS[fault].injection(line, times=1)
        if carrier == "telnyx":
            with pytest.raises(CallRefused):
                await line.run()
            assert trio.current_time() <= 15.0
            outcome = "cancelled" if is_over(fault) else "failed"
        else:
            await nursery.start(line.run)
            await trio.sleep(1.0)
            line.hang_up()
            await line.over.wait()
            outcome = "caller_hung_up"
        await trio.sleep(1.0)
    assert [end["outcome"] for end in ends] == [outcome]


# Hang-ups that race commands ------------------------------------------------------------------------------------------
async def _says(call: CallControl) -> None:
    call.say("One more thing.")


async def _hangs_up(call: CallControl) -> None:
    call.hang_up()


async def _sends_text(call: CallControl) -> None:
    call.send_text("Hello")


COMMANDS: dict[str, Callable[[CallControl], Awaitable[object]]] = {
    "transfer": lambda call: call.transfer(DESK),
    "awaited transfer": lambda call: call.transfer(DESK, wait=True),
    "digits": lambda call: call.send_dtmf("12"),
    "hang_up": _hangs_up,
    "say": _says,
    "text": _sends_text,
}


@pytest.mark.parametrize("when", ["before", "at once", "meanwhile"])
@pytest.mark.parametrize("command", chosen(COMMANDS, ["awaited transfer", "digits", "hang_up"]))
async def test_hang_up_races_each_command(call_simulator: CallSimulator, command: str, when: str) -> None:
    """A hang-up just before, with or during any command ends the call once; nobody is called, and nothing is cut."""
    phone = Patter()
    async with call_simulator(agent_of("Yes.", first_message="Hello."), phone) as caller:
        await caller.hears()
        [call] = phone.calls
        # Longer than "meanwhile": the hang-up comes while the carrier works on it.
        caller.carrier.transfer_delay = 0.3
        if when == "before":
            await caller.hangs_up()
        async with trio.open_nursery() as nursery:

            async def act() -> None:
                with suppress(CallEnded):
                    await COMMANDS[command](call)

            nursery.start_soon(act)
            if when == "meanwhile":
                await caller.waits(0.1)
            await caller.hangs_up()
        await caller.carrier.over.wait()
        await caller.waits(1.0)
        assert caller.transferred_to == ""
    assert len(caller.payloads("call_end")) == 1
    # The agent may be the first to know: the caller's end is on its way.
    assert caller.outcome == ("agent_hung_up" if command == "hang_up" else "caller_hung_up")
    assert sound_of_agent(caller).startswith("Hello.")


async def test_answer_behind_the_deadline_changes_nothing(call_simulator: CallSimulator) -> None:
    """A carrier that transfers the caller after its time is up has the last word: the stream ends as transferred."""
    phone = Patter()
    async with call_simulator(agent_of(first_message="Hello."), phone) as caller:
        await caller.hears()
        caller.carrier.transfer_answer = 60.0
        with suppress(ProviderTimeout):
            await phone.calls[0].transfer(DESK, wait=True)
        await caller.carrier.over.wait()
    assert (caller.transferred_to, caller.outcome) == (DESK, "transferred")
