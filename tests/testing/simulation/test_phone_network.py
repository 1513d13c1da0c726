"""The fixture ``phone_network``: programs in files, what it records, and the digits that its phones hear."""

from pathlib import Path
from typing import Any

import pytest
import trio

from patter_trio import Patter, PatterEventType, ProviderError
from patter_trio.audio import dtmf, g711
from patter_trio.pytest_plugin import CallSimulator, PhoneNetworkFixture
from patter_trio.testing import BUSY, Person, ScriptedLLM, ScriptedTTS, Voicemail
from patter_trio.testing.carriers.heard_digits import digits_in
from tests.kit.call import agent_of

# Over Twilio in a quick run; a few tests over all.
pytestmark = pytest.mark.all_carriers
quick = pytest.mark.all_carriers(quick=True)
ANN = "+15550100003"
PROGRAM = """
from patter_trio import OpenAILLM, Patter

phone = Patter(phone_number="+15550100002")
agent = phone.agent("You remind patients.", llm=OpenAILLM(api_key="x"), first_message="Hello.")
ended = []


def on_call_end(event):
    ended.append(event["outcome"])
"""


async def test_a_program_in_a_file_calls(
    phone_network: PhoneNetworkFixture, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """phone_network("reminders.py") takes phone, agent and callbacks of the file; the test brings the LLM's words."""
    (tmp_path / "reminders.py").write_text(PROGRAM, encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    said: list[str] = []

    async def ann(line: Any) -> None:
        said.append((await line.hears()).text)
        await line.speaks("Who is it?", seconds=1.0)
        said.append((await line.hears()).text)

    async with phone_network("reminders.py", llm=ScriptedLLM(["The dentist."])) as network:
        network.answers(ANN, ann)
        assert (await network.phone.call(ANN, wait=True)).outcome == "caller_hung_up"
        assert network.phone.phone_number == "+15550100002"
    assert said == ["Hello.", "The dentist."]


async def test_calls_tell_what_was_asked_for(phone_network: PhoneNetworkFixture, carrier: str) -> None:
    """network.calls has each call with what the carrier was asked for, its id, its state and its end."""
    async with phone_network(agent_of()) as network:
        network.answers(ANN, BUSY)
        call = await network.phone.call(ANN, ring_timeout=20)
        await call.ended()
        [line] = network.calls
        await line.over.wait()
    assert (line.call_id, line.destination, line.status, line.caller) == (call.call_id, BUSY, "busy", None)
    assert (line.request.to, line.request.from_number, line.request.ring_timeout) == (ANN, "+15550100002", 20)
    assert network.phone.carrier is None, f"the network brings its own {carrier}"


@quick
async def test_carriers_record_placed_calls(phone_network: PhoneNetworkFixture) -> None:
    """With recording=True, the simulated carrier is asked to record, and its report is published."""
    saved: list[dict[str, Any]] = []

    async def ann(line: Any) -> None:
        await line.hears()

    async with phone_network(agent_of(first_message="Hello."), recording=True) as network:
        network.phone.events.on(PatterEventType.RECORDING_SAVED, saved.append)
        network.answers(ANN, ann)
        call = await network.phone.call(ANN, wait=True)
        await network.calls[0].over.wait()
    [event] = saved
    assert event["call_id"] == call.call_id
    assert event["recording_id"]
    assert event["url"].startswith("https://")


async def test_carriers_record_calls_that_come_in(call_simulator: CallSimulator) -> None:
    """A call that comes in is recorded in the same way."""
    saved: list[dict[str, Any]] = []
    phone = Patter()
    phone.events.on(PatterEventType.RECORDING_SAVED, saved.append)
    async with call_simulator(agent_of(first_message="Hello."), phone, recording=True) as caller:
        await caller.at(7.0)
    # As long as the call, whichever way the carrier reports it.
    assert [(event["call_id"], event["duration"]) for event in saved] == [(caller.carrier.call_id, pytest.approx(7.0))]


@quick
async def test_caller_tells_the_digits_it_heard(call_simulator: CallSimulator) -> None:
    """caller.digits has what send_dtmf sent, without pauses, whichever way the carrier sends it."""
    phone = Patter()
    async with call_simulator(agent_of(first_message="Hello.", tts=ScriptedTTS(duration=1.0)), phone) as caller:
        await caller.hears()
        assert caller.digits == ""
        await phone.calls[0].send_dtmf("1155w#*A", wait=True)
        # Seven tones of 100 ms, with pauses.
        await caller.waits(3.0)
        assert caller.digits == "1155#*A"


async def test_digits_to_press_are_a_string(call_simulator: CallSimulator) -> None:
    """Keys that are not a string are an error that says what to give."""
    async with call_simulator(agent_of()) as caller:
        with pytest.raises(TypeError, match='digits must be a string such as "1", got 1'):
            await caller.presses(1)  # type: ignore[arg-type]


async def test_wrong_destinations_are_refused(phone_network: PhoneNetworkFixture) -> None:
    """What cannot answer a phone is refused when the test says so, and not inside a call."""
    async with phone_network(agent_of()) as network:
        for wrong in (Voicemail, Person, "busy", None):
            with pytest.raises(TypeError, match=r"destination must be .* Person\(\.\.\.\), Voicemail\(\), BUSY"):
                network.answers(ANN, wrong)  # type: ignore[arg-type]
        with pytest.raises(TypeError, match="script must be an async function of the line"):
            network.answers(ANN, lambda line: None)  # type: ignore[arg-type,return-value]


def test_people_and_machines_check_their_options() -> None:
    """A person needs an async script; seconds are numbers from 0."""

    async def ann(line: Any) -> None:
        await line.hears()

    async def two(line: Any, other: Any) -> None:
        await line.hears(other)

    for script in (None, print, two, Person):
        with pytest.raises(TypeError, match="script must be an async function of the line"):
            Person(script)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="after must be seconds from 0, got -1"):
        Person(ann, after=-1)
    with pytest.raises(ValueError, match="seconds must be seconds from 0, got -1"):
        Voicemail(seconds=-1)
    with pytest.raises(TypeError, match="seconds must be a number of seconds, got '5'"):
        Voicemail(seconds="5")  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="greeting"):
        Voicemail(greeting=None)  # type: ignore[arg-type]


async def test_refusals_are_status_codes(phone_network: PhoneNetworkFixture) -> None:
    """network.refuses takes 0 and the statuses of HTTP's errors."""
    async with phone_network(agent_of()) as network:
        for wrong in ("429", True, 200, None, 600):
            with pytest.raises(ValueError, match="refuses must be 0 or a status code from 400 to 599"):
                network.refuses = wrong  # type: ignore[assignment]
        network.refuses = 503
        network.refuses = 0


@quick
async def test_call_is_over_before_its_script(phone_network: PhoneNetworkFixture) -> None:
    """A call that the program ends has its end at once, although the person's script goes on."""

    async def ann(line: Any) -> None:
        await line.waits(40.0)

    async with phone_network(agent_of()) as network:
        network.answers(ANN, ann)
        with trio.move_on_after(9.0):
            async with network.phone.dial(ANN) as call:
                await call.ended()
        await trio.sleep(1.0)
        [line] = network.calls
        assert (line.status, line.over.is_set()) == ("completed", True)
    assert call.outcome == "cancelled"


@quick
async def test_simulated_calls_place_no_others(call_simulator: CallSimulator) -> None:
    """phone.call beside call_simulator reaches no carrier: it raises an error that names phone_network."""
    phone = Patter(phone_number="+15550100002")
    async with call_simulator(agent_of(first_message="Hello."), phone) as caller:
        with pytest.raises(ProviderError, match="to place calls, use phone_network"):
            await phone.call(ANN)
        await caller.hears()
    assert caller.outcome == "caller_hung_up"


def test_every_key_is_heard() -> None:
    """Each key of the keypad is found in its tone, twice if it was pressed twice, and nothing in silence and noise."""
    keys = "0123456789*#ABCD"
    pause = g711.silence(0.06)
    assert digits_in(b"".join(dtmf.tone(key) + pause + dtmf.tone(key) + pause for key in keys)) == "".join(
        key * 2 for key in keys
    )
    assert digits_in(g711.silence(1.0)) == ""
    assert digits_in(bytes(number * 37 % 251 for number in range(8000))) == ""
