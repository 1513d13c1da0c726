"""What is said and played in a warm transfer: the briefing, by whomever it is written, and the hold sound."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import trio

from patter_trio import Agent, CallControl, ConfigurationError, Menu, Patter, WarmTransfer, transfer_call
from patter_trio.audio import g711
from patter_trio.audio.formats import RATE_HZ
from patter_trio.audio.hold import MAX_HOLD_SOUND_S, NOTES_HZ, hold_tone
from patter_trio.audio.wav import write_wav
from patter_trio.testing import ScriptedLLM, tool_call
from patter_trio.testing.simulation.outbound import open_phone_network
from tests.kit.call import SORRY, Backend, agent_of
from tests.kit.warm import ANSWER_S, BRIEFING, DESK, PROMPT, WARM, declines, hold_sound, on_hold, says_nothing, takes_it

# The tool -------------------------------------------------------------------------------------------------------------
WITH_BRIEFING = tool_call("transfer_call", destination="desk", briefing="Ann Miller, about her bill.")


def agent_with_tool(*replies: Any, **options: Any) -> tuple[Agent, ScriptedLLM]:
    llm = ScriptedLLM(list(replies))
    warm = options.pop("warm", None) or WarmTransfer(prompt=PROMPT)
    tool = transfer_call({"desk": DESK}, warm=warm, **options)
    return agent_of(llm=llm, tools=[tool]), llm


async def test_model_writes_the_briefing(autojump_clock: object) -> None:
    """The tool asks the LLM for the briefing, which the person hears when the announcement was played."""
    agent, llm = agent_with_tool(["One moment.", WITH_BRIEFING])
    ends: list[dict[str, Any]] = []
    async with open_phone_network(agent, on_call_end=ends.append) as network:
        network.answers(DESK, takes_it)
        async with network.call_in() as caller:
            await caller.speaks("The desk, please.", seconds=1.0)
            announced = await caller.hears()
            await caller.carrier.over.wait()
        [line] = network.calls
    assert line.caller is not None
    assert line.caller.utterances[0].text == f"Ann Miller, about her bill. {PROMPT}"
    assert announced.text == "One moment."
    assert llm.offered == [["transfer_call"]]
    [call] = ends[1]["tool_calls"]
    assert call["result"] == "The caller is being connected."
    assert ends[1]["outcome"] == "transferred"


async def test_model_learns_why_nobody_came(autojump_clock: object) -> None:
    """If the person declines, the caller hears error_message, and the LLM gets the reason with the next question."""
    agent, llm = agent_with_tool(["One moment.", WITH_BRIEFING], "I can help.", error_message="They are busy.")
    async with open_phone_network(agent) as network:
        network.answers(DESK, declines)
        async with network.call_in() as caller:
            await caller.speaks("The desk, please.", seconds=1.0)
            assert [(await caller.hears()).text for _ in range(2)] == ["One moment.", "They are busy."]
            await caller.speaks("And now?", seconds=0.6)
            assert (await caller.hears()).text == "I can help."
    [result] = [message["content"] for message in llm.requests[-1] if message["role"] == "tool"]
    assert result == "the person declined the call. The caller is with you again."


def test_tool_asks_for_what_is_missing() -> None:
    """The schema has a briefing only if the options have none; the time limit covers ring and decision."""
    asking = transfer_call({"desk": DESK}, warm=WarmTransfer(ring_timeout=40, decision_timeout=30.0))
    assert asking.parameters["required"] == ["destination", "briefing"]
    assert asking.timeout_s == 20.0 + 30.0 + 40 + 30.0
    told = transfer_call({"desk": DESK}, prefixes=["+1555"], warm=WARM)
    assert "briefing" not in told.parameters["properties"]
    assert transfer_call({"desk": DESK}, warm=WarmTransfer(ring_timeout=600)).timeout_s == 600.0


async def test_menu_transfers_warmly(autojump_clock: object) -> None:
    """A choice of a menu may be a warm transfer; a key of a caller on hold does nothing."""
    menu = Menu({"1": transfer_call({"desk": DESK}, warm=WARM)}, prompt="Press 1 for the desk.")
    async with open_phone_network(agent_of(dtmf=menu)) as network:
        network.answers(DESK, takes_it)
        async with network.call_in() as caller:
            await caller.hears()
            await caller.presses("1")
            await caller.waits(1.0)
            await caller.presses("1")
            await caller.carrier.over.wait()
    assert caller.heard_words == "Press 1 for the desk.This is the desk."


# The briefing ---------------------------------------------------------------------------------------------------------
async def test_function_makes_the_briefing(autojump_clock: object) -> None:
    """A function gets the control of the call, and the phone is dialled when it has returned."""

    async def sums_up(call: CallControl) -> str:
        await trio.sleep(3.0)
        return f"{len(call.history)} words of {call.caller}."

    async with on_hold(agent_of(), takes_it, WarmTransfer(sums_up, prompt=PROMPT)) as (network, caller, _):
        await caller.at(ANSWER_S + 2.9)
        assert network.calls[0].caller is None
        await caller.carrier.over.wait()
        [line] = network.calls
    assert line.caller is not None
    assert line.caller.utterances[0].text == f"0 words of +15550100001. {PROMPT}"


async def slow(call: CallControl) -> str:
    """Never returns."""
    await trio.sleep_forever()
    return ""


def broken(call: CallControl) -> str:
    """Raises."""
    raise KeyError(call.call_id)


@pytest.mark.parametrize(
    ("function", "why"),
    [
        pytest.param(slow, "it took longer than 10 s", id="slow"),
        pytest.param(broken, "broken raised KeyError", id="broken"),
        pytest.param(lambda _: 7, "briefing must return a text, got int", id="wrong type"),
    ],
)
async def test_broken_briefing_leaves_the_question(
    function: Any, why: str, autojump_clock: object, caplog: pytest.LogCaptureFixture
) -> None:
    """If the function fails or takes too long, the log says so, and the person hears the question alone."""
    async with on_hold(agent_of(), takes_it, WarmTransfer(function, prompt=PROMPT)) as (network, caller, _):
        await caller.carrier.over.wait()
        [line] = network.calls
    assert line.caller is not None
    assert line.caller.utterances[0].text == PROMPT
    assert f"the person gets no briefing: {why}" in caplog.text


# The hold sound -------------------------------------------------------------------------------------------------------
async def test_caller_hears_the_named_file(autojump_clock: object, tmp_path: Path) -> None:
    """A WAV file is played from its begin, again and again, until the decision."""
    samples = np.arange(3000, dtype=np.int16) * 8
    (tmp_path / "hold.wav").write_bytes(write_wav([samples]))
    warm = WarmTransfer(BRIEFING, prompt=PROMPT, hold_sound=tmp_path / "hold.wav", decision_timeout=3.0)
    # Read when it was made, not when it is played.
    (tmp_path / "hold.wav").unlink()
    async with on_hold(agent_of(), says_nothing, warm) as (_, caller, outcome):
        await caller.hears()
    assert hold_sound(caller, g711.encode(samples)) == (pytest.approx(1.0), pytest.approx(ANSWER_S + 3.0))
    assert outcome.at == pytest.approx(ANSWER_S + 3.0)


async def test_written_briefing_reads_no_file(autojump_clock: object, tmp_path: Path) -> None:
    """The briefing that an LLM writes goes with the hold sound that was read when the tool was made."""
    samples = np.arange(3000, dtype=np.int16) * 8
    (tmp_path / "hold.wav").write_bytes(write_wav([samples]))
    agent, _ = agent_with_tool([WITH_BRIEFING], warm=WarmTransfer(prompt=PROMPT, hold_sound=tmp_path / "hold.wav"))
    (tmp_path / "hold.wav").unlink()
    async with open_phone_network(agent) as network:
        network.answers(DESK, takes_it)
        async with network.call_in() as caller:
            await caller.speaks("The desk, please.", seconds=1.0)
            await caller.carrier.over.wait()
        [line] = network.calls
    assert line.caller is not None
    assert line.caller.utterances[0].text == f"Ann Miller, about her bill. {PROMPT}"
    begin, end = hold_sound(caller, g711.encode(samples))
    # From the end of the caller's turn until the person's key.
    assert end - begin > ANSWER_S - 1.0


def test_tone_is_soft_and_even() -> None:
    """The tone is far softer than speech, has no click where it repeats, and the two notes alone."""
    tone = g711.decode(hold_tone())
    assert len(tone) == 4 * RATE_HZ
    assert np.abs(tone).max() <= 0.05 * 32768
    assert (abs(int(tone[0])), abs(int(tone[-1]))) == (0, 0)
    for number, frequency in enumerate(NOTES_HZ):
        note = tone[round(number * 0.6 * RATE_HZ) :][: round(0.6 * RATE_HZ)].astype(float)
        spectrum = np.abs(np.fft.rfft(note * np.hanning(len(note))))
        assert np.argmax(spectrum) * RATE_HZ / len(note) == pytest.approx(frequency, abs=2.0)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"briefing": 7}, "briefing must be a text, or a function"),
        ({"briefing": "  "}, "briefing must have words, or be empty for none"),
        ({"briefing": lambda call, event: "x"}, r"briefing must be callable with \(call_control\), got"),
        ({"briefing": lambda: "x"}, r"briefing must be callable with \(call_control\), got"),
        ({"prompt": " "}, "prompt must be a text that is not blank"),
        ({"ring_timeout": 0}, "ring_timeout must be a whole number of seconds from 1 to 600"),
        ({"decision_timeout": 0}, "decision_timeout must be more than 0"),
        ({"from_number": "5"}, "from_number must be E.164"),
        ({"hold_sound": "nowhere.wav"}, "hold_sound must be a WAV file that can be read"),
        ({"hold_sound": 7}, "hold_sound must be a WAV file, as a string or a Path"),
    ],
)
def test_wrong_options_are_refused(options: dict[str, Any], message: str) -> None:
    """A wrong option is an error where the transfer is configured, not in a call."""
    with pytest.raises(ConfigurationError, match=message):
        WarmTransfer(**options)


def test_hold_sound_has_a_length(tmp_path: Path) -> None:
    """A hold sound is neither empty nor longer than ten minutes."""
    for samples in (0, round(MAX_HOLD_SOUND_S * RATE_HZ) + 1):
        (tmp_path / "hold.wav").write_bytes(write_wav([np.zeros(samples, np.int16)]))
        with pytest.raises(ConfigurationError, match="a hold sound must last up to 600 s"):
            WarmTransfer(hold_sound=tmp_path / "hold.wav")


async def test_warm_needs_numbers_and_options(autojump_clock: object) -> None:
    """A warm transfer goes to a number that can be dialled; on_failure is a cold one."""
    with pytest.raises(ConfigurationError, match=r"destination desk of a warm transfer must be E\.164"):
        transfer_call({"desk": "sip:desk@example.com"}, warm=WARM)
    with pytest.raises(ConfigurationError, match=r"warm must be a WarmTransfer\(\.\.\.\), got True"):
        transfer_call({"desk": DESK}, warm=True)  # type: ignore[arg-type]
    with pytest.raises(ConfigurationError, match=r"on_failure must be a transfer_call.* without warm="):
        agent_of(on_failure=transfer_call({"desk": DESK}, warm=WARM))
    async with open_phone_network(agent_of()) as network, network.call_in() as caller:
        await caller.at(1.0)
        [call] = network.phone.calls
        for to, warm in (("sip:desk@example.com", WARM), (DESK, "Ann")):
            with pytest.raises(ConfigurationError):
                await call.transfer(to, warm=warm)  # type: ignore[arg-type]


@pytest.mark.both_backends
async def test_engine_briefs_and_takes_back(backend: Backend, autojump_clock: object) -> None:
    """An agent with an engine briefs the person with its own voice, and goes on with the caller."""
    async with on_hold(backend.agent_of(), declines) as (network, caller, outcome):
        assert (await caller.hears()).text == SORRY
        await caller.speaks("And now?", seconds=0.6)
        assert (await caller.hears()).text == "Yes."
    [line] = network.calls
    assert line.caller is not None
    assert line.caller.utterances[0].text == f"{BRIEFING} {PROMPT}"
    assert outcome.at > ANSWER_S


async def test_person_hears_the_recording_notice(autojump_clock: object, tmp_path: Path) -> None:
    """Where calls are recorded with a notice, the person hears it whole before the briefing."""

    async def listens(line: Any) -> None:
        await line.heard(1)

    agent = agent_of(recording_notice="This call is recorded.")
    async with open_phone_network(agent, Patter(phone_number="+15550100002"), record_to=tmp_path) as network:
        network.answers(DESK, listens)
        async with network.call_in() as caller:
            await caller.hears()
            await network.phone.calls[0].transfer(DESK, warm=WARM)
            assert (await caller.heard(1)).text == SORRY
        [line] = network.calls
    assert line.caller is not None
    assert [heard.text for heard in line.caller.utterances] == ["This call is recorded.", f"{BRIEFING} {PROMPT}"]
