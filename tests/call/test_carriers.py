"""Whole calls over each carrier: what a caller notices does not depend on who carries the call."""

from typing import Any

import pytest

from patter_trio import CallControl, Patter
from patter_trio.pytest_plugin import CallSimulator
from patter_trio.testing import Scenario, ScriptedTTS
from patter_trio.testing.simulation.carriers import CARRIERS, call_id_of
from tests.kit.call import agent_of, edges, sound_of_agent

pytestmark = pytest.mark.all_carriers(quick=True)

HELLO = "Hello there."


async def test_greeting_and_answer_have_their_instants(call_simulator: CallSimulator, carrier: str) -> None:
    """Greeting, question and answer happen at the same instants over each carrier, and the callbacks name it."""
    async with call_simulator(agent_of("It is noon.", first_message=HELLO), custom_params={"vip": "1"}) as caller:
        await caller.hears()
        await caller.speaks("What time is it", 1.0)
        await caller.hears()
    assert caller.dialogue == [("assistant", HELLO), ("user", "What time is it"), ("assistant", "It is noon.")]
    assert edges(caller) == [
        (0, "call_start"),
        (200, "audio_out"),
        (200, "agent_speech_started"),
        (920, "agent_speech_ended"),
        (920, "transcript"),
        (980, "user_speech_started"),
        (2420, "user_speech_ended"),
        (2420, "user_speech_eos"),
        (2420, "transcript"),
        (2520, "llm_token"),
        (3020, "audio_out"),
        (3020, "agent_speech_started"),
        (3680, "agent_speech_ended"),
        (3680, "transcript"),
        (3680, "call_end"),
    ]
    assert sound_of_agent(caller) == f"{HELLO}It is noon."
    (start,) = caller.payloads("call_start")
    assert (start["caller"], start["callee"]) == ("+15550100001", "+15550100002")
    assert start["custom_params"] == {"vip": "1"}
    assert start["telephony_provider"] == carrier
    assert start["call_id"] == caller.carrier.call_id == call_id_of(carrier, f"{1:032d}")


async def test_barge_in_silences_each_carrier(call_simulator: CallSimulator) -> None:
    """An interruption empties the carrier's buffer, the history has what was heard, and the next answer is complete."""
    agent = agent_of("One two three four.", "Five.", first_message=HELLO, tts=ScriptedTTS(duration=4.0))
    async with call_simulator(agent) as caller:
        await caller.at(2.0)
        await caller.speaks("Stop", 0.6)
        await caller.hears()
    first, answer = caller.utterances
    assert (first.interrupted, first.text) == (True, HELLO[: len(first.text)])
    assert first.ended == pytest.approx(2.25)
    assert not answer.interrupted
    # What was sent ahead was dropped: the caller heard each sound up to its end in the history, and no more.
    heard = [text for role, text in caller.dialogue if role == "assistant"]
    assert heard[-1] == answer.text


async def test_keys_are_reported_once(call_simulator: CallSimulator) -> None:
    """Each key is reported once, also by a carrier that reports it on the stream and by a webhook."""
    async with call_simulator(agent_of("x", first_message=HELLO)) as caller:
        await caller.hears()
        await caller.presses("1#A")
        await caller.waits(1.0)
    assert [payload["digit"] for payload in caller.payloads("dtmf")] == ["1", "#", "A"]


async def test_transfer_is_carried_out(call_simulator: CallSimulator) -> None:
    """A transfer is requested after the speech, carried out by the carrier, and ends the call for the agent."""

    async def on_dtmf(event: dict[str, Any], call: CallControl) -> None:
        call.say("One moment.")
        await call.transfer("+15550100003")

    async with call_simulator(agent_of("x", first_message=HELLO), on_dtmf=on_dtmf) as caller:
        await caller.hears()
        await caller.presses("0")
        await caller.waits(3.0)
        assert caller.transferred_to == "+15550100003"
        assert caller.outcome == "transferred"
    assert caller.dialogue == [("assistant", HELLO), ("assistant", "One moment.")]


async def test_agent_hangs_up_and_call_ends(call_simulator: CallSimulator) -> None:
    """A hang-up of the agent ends the call at the carrier, too, at the same instant."""

    def on_dtmf(event: dict[str, Any], call: CallControl) -> None:
        call.hang_up()

    async with call_simulator(agent_of("x", first_message=HELLO), on_dtmf=on_dtmf) as caller:
        await caller.hears()
        await caller.presses("0")
        await caller.waits(1.0)
        assert (caller.carrier.ended, caller.outcome) == ("agent_hung_up", "agent_hung_up")
        assert caller.carrier.ended_at == pytest.approx(0.92)


async def test_hang_up_does_not_wait_for_words(call_simulator: CallSimulator) -> None:
    """The line goes dead with the last word of the goodbye, although the STT still owes the caller's last words."""
    phone = Patter()
    async with call_simulator(agent_of(first_message="Goodbye, and thank you."), phone=phone) as caller:
        await caller.at(0.5)
        phone.calls[0].hang_up()
        await caller.speaks("No, wait", seconds=1.0, wait=False)
        goodbye = await caller.hears()
        await caller.carrier.over.wait()
        await caller.waits(0.9)
    assert not goodbye.interrupted
    assert caller.carrier.ended == "agent_hung_up"
    assert caller.carrier.ended_at == pytest.approx(goodbye.ended)
    assert caller.dialogue == [("assistant", "Goodbye, and thank you."), ("user", "No, wait")]


async def test_caller_hangs_up_by_scenario(call_simulator: CallSimulator) -> None:
    """A scenario from data plays over each carrier, and its hang-up is the caller's."""
    steps = [{"does": "hears"}, {"does": "presses", "digits": "1"}, {"does": "hangs_up"}]
    async with call_simulator(agent_of("x", first_message=HELLO)) as caller:
        await caller.plays(Scenario.from_dict({"steps": steps}))
        await caller.waits(1.0)
        assert (caller.carrier.ended, caller.outcome) == ("caller_hung_up", "caller_hung_up")


def test_each_carrier_is_in_the_table() -> None:
    """The carriers that calls run over are all that the package has."""
    assert CARRIERS == ("twilio", "telnyx", "plivo")
