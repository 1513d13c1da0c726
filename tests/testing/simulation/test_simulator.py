"""Whole calls against the real server: tests as users of the kit write them, and the errors that they see."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import trio

from patter_trio import Agent, ConfigurationError, Patter, PatterEventType
from patter_trio.audio.wav import write_wav
from patter_trio.pytest_plugin import CallSimulator
from patter_trio.testing import (
    NotAsExpected,
    Scenario,
    ScriptedLLM,
    ScriptedSTT,
    ScriptedTTS,
    ScriptedVAD,
)
from patter_trio.testing.carriers.observed import ProtocolFault
from patter_trio.testing.simulation.simulator import CallInvariantError, simulate_call
from tests.kit.call import agent_of

phone = Patter()


async def test_stop_means_stop(call_simulator):  # noqa: ANN001, ANN201 (as users write it)
    """The agent stops 250 ms after the caller's voice begins, and the caller hears the beginning of the reply only."""
    agent = phone.agent(
        system_prompt="...",
        vad=ScriptedVAD(start_delay=0.05, end_delay=0.5),  # s after the voice really starts / ends
        stt=ScriptedSTT(final_delay=0.2),  # s after the voice really ends
        llm=ScriptedLLM(["Our opening hours are ..."], first_token=0.1, duration=0.3),
        tts=ScriptedTTS(first_audio=0.2, duration=10.0),  # s of audio per reply
    )
    async with call_simulator(agent) as caller:
        await caller.at(0.5)  # call time, s since media start
        await caller.speaks("What are your hours?", seconds=2.0)
        await caller.at(5.0)
        await caller.speaks("Stop!", seconds=1.0)
        first = await caller.heard(0)  # the agent's utterance as the caller heard it
        assert first.interrupted and first.text.startswith("Our opening")  # noqa: PT018 (the page's program)
        assert caller.times("agent_speech_ended")[0] == pytest.approx(5.25, abs=0.02)  # onset + 250 ms


def make_agent(*replies: str, **options: Any) -> Agent:
    chosen: dict[str, Any] = {
        "system_prompt": "You are brief.",
        "vad": ScriptedVAD(),
        "stt": ScriptedSTT(),
        "llm": ScriptedLLM(replies or ["Yes."]),
        "tts": ScriptedTTS(),
    }
    return phone.agent(**chosen | options)


async def test_every_instant_of_a_turn_is_exact(call_simulator: CallSimulator) -> None:
    """A turn of one sentence has its 11 events at exact instants, and the caller hears the reply from 3.1 to 4.18 s."""
    async with call_simulator(make_agent("One moment please.")) as caller:
        await caller.at(1.0)
        await caller.speaks("Is a table free?", seconds=1.0)
        reply = await caller.hears()
        events = [(at, name) for at, name, _ in caller.events if name not in set(PatterEventType)]
        names = [name for _, name in events]
        assert [pytest.approx(at) for at, _ in events] == [
            0.0, 1.06, 2.5, 2.5, 2.5, 2.6, 3.1, 3.1, 4.18, 4.18, 4.18,
        ]  # fmt: skip
    assert names == [
        "call_start", "user_speech_started", "user_speech_ended", "user_speech_eos", "transcript",
        "llm_token", "audio_out", "agent_speech_started", "agent_speech_ended", "transcript", "metrics",
    ]  # fmt: skip
    assert (reply.text, reply.interrupted) == ("One moment please.", False)
    assert (reply.started, reply.ended, reply.seconds) == pytest.approx((3.1, 4.18, 1.08))
    assert caller.dialogue == [("user", "Is a table free?"), ("assistant", "One moment please.")]
    assert (caller.outcome, caller.state) == ("caller_hung_up", {"user": "listening", "agent": "idle"})
    assert caller.metrics is not None
    assert caller.metrics.turns[0].latency.total_ms == 1100.0


async def test_two_runs_of_a_call_are_identical(call_simulator: CallSimulator) -> None:
    """Two runs of a call with a barge-in have the same events at the same instants."""

    async def once() -> list[Any]:
        start = trio.current_time()
        async with call_simulator(make_agent("A long answer that is cut.", tts=ScriptedTTS(duration=6.0))) as caller:
            await caller.speaks("Tell me", seconds=1.0)
            await caller.at(4.0)
            await caller.speaks("Stop", seconds=0.6)
            await caller.hears()
        shift = round(start * 1000)
        return [
            (round(at, 6), name, payload.get("timestamp_ms", shift) - shift, payload.get("text"))
            for at, name, payload in caller.events
        ]

    assert await once() == await once()


async def test_simulator_uses_given_callbacks_and_phone(call_simulator: CallSimulator) -> None:
    """The simulator uses the callbacks and the phone that the test passes."""
    own, reported = Patter(phone_number="+15550100009"), []
    own.on_agent_speech_ended = lambda event: reported.append(event["interrupted"])

    async def on_message(event: dict[str, Any]) -> str:
        return f"You said {event['text']}"

    async def on_dtmf(event: dict[str, Any]) -> None:
        reported.append(event["digit"])

    ends: list[dict[str, Any]] = []
    agent = make_agent(llm=None)
    async with call_simulator(agent, phone=own, on_message=on_message, on_dtmf=on_dtmf, on_call_end=ends.append) as c:
        await c.speaks("hello", seconds=0.5)
        assert (await c.hears()).text == "You said hello"
        await c.presses("1#")
        await c.waits(0.1)
        assert c.times("dtmf")[1] - c.times("dtmf")[0] == pytest.approx(0.2)
    assert reported == [False, "1", "#"]
    assert [(end["callee"], end["outcome"]) for end in ends] == [("+15550100009", "caller_hung_up")]


async def test_coughs_and_hums_are_voice_but_no_question(call_simulator: CallSimulator) -> None:
    """A cough starts a voice and ends no turn; a hum has words and is answered."""
    async with call_simulator(make_agent("Yes.")) as caller:
        await caller.coughs(0.4)
        await caller.waits(2.0)
        assert caller.times("user_speech_started") == [pytest.approx(0.06)]
        assert caller.times("user_speech_eos") == []
        await caller.hums("mhm", 0.4)
        await caller.hears()
    assert caller.dialogue[0] == ("user", "mhm")


async def test_a_recording_reaches_the_agent_as_sound(call_simulator: CallSimulator, tmp_path: Path) -> None:
    """A WAV recording reaches the agent as sound, and the simulator names it by its file."""
    tone = (9000 * np.sin(np.arange(16000) / 5 + 1)).astype(np.int16)
    wav = tmp_path / "tone.wav"
    wav.write_bytes(write_wav([tone], 16000))
    async with call_simulator(make_agent("Pardon?", stt=ScriptedSTT(noise="la la"))) as caller:
        said = await caller.plays(wav)
        assert said is not None
        assert (said.text, said.started, said.ended) == ("<tone.wav>", 0.0, 1.0)
        assert (await caller.hears()).text == "Pardon?"
        await caller.plays(tone[:800], wait=False)
        ours, theirs = caller.carrier.recording()
        assert len(ours) == len(theirs)


async def test_a_scenario_is_the_same_as_data(call_simulator: CallSimulator) -> None:
    """A scenario from data runs its steps, and a caller who has hung up can say nothing more."""
    data = {
        "steps": [
            {"does": "at", "seconds": 0.5},
            {"does": "speaks", "text": "What are your hours?", "seconds": 2.0},
            {"does": "hears", "within": 20},
            {"does": "coughs", "seconds": 0.2},
            {"does": "hangs_up"},
        ]
    }
    scenario = Scenario.from_dict(data)
    assert scenario.to_dict() == data
    async with call_simulator(make_agent("Nine to five.")) as caller:
        await caller.plays(scenario)
        with pytest.raises(NotAsExpected, match=r"cannot say 'more': the call ended at 4\.\d+"):
            await caller.speaks("more")
    assert caller.outcome == "caller_hung_up"


async def test_failed_assertion_shows_call_timeline(call_simulator: CallSimulator) -> None:
    """A failed assertion shows the timeline of the call."""
    with pytest.raises(AssertionError) as raised:  # noqa: PT012 (leaving the block raises)
        async with call_simulator(make_agent("Nine to five.", tts=ScriptedTTS(duration=5.0))) as caller:
            await caller.speaks("Your hours?", seconds=1.0)
            await caller.at(4.0)
            await caller.speaks("Stop it", seconds=1.0)
            raise AssertionError("wanted something else")
    [note] = raised.value.__notes__
    assert note.splitlines()[2:7] == [
        "s       0         1         2         3         4         5         6         7         8         9",
        "caller  [Your ho~]                              [Stop it=]",
        "agent                        [Nine to five.======X",
        "                                                 ^ interrupted",
        "",
    ]
    assert "   4.250  agent_speech_ended    turn_idx=1  interrupted=True  speech_duration_ms=2150" in note


async def test_vain_wait_reports_what_arrived_instead(call_simulator: CallSimulator) -> None:
    """A wait of the caller that fails reports what it waited for and what arrived."""
    async with call_simulator(make_agent("Yes.")) as caller:
        await caller.speaks("Hello", seconds=0.5)
        await caller.hears()
        with pytest.raises(NotAsExpected, match=r"utterance 1 .* was not heard .*; the caller heard 0: 'Yes\.'"):
            await caller.heard(1, within=5.0)
        with pytest.raises(NotAsExpected, match=r"at\(1\), but it is"):
            await caller.at(1.0)
        await caller.hangs_up()
        with pytest.raises(NotAsExpected, match="the call is over"):
            await caller.hears()


@pytest.mark.parametrize("seconds", [0.0, 0.3, 1.5, 3.05, 3.3, 4.0])
async def test_hanging_up_at_any_time_leaves_nothing_behind(call_simulator: CallSimulator, seconds: float) -> None:
    """A hang-up at six instants of a turn ends the call as caller_hung_up, without a violated invariant."""
    async with call_simulator(make_agent("A longer answer.", tts=ScriptedTTS(duration=5.0))) as caller:
        await caller.speaks("Are you there?", seconds=1.0, wait=False)
        await caller.at(seconds)
        await caller.hangs_up()
    assert caller.outcome == "caller_hung_up"


async def test_a_line_that_drops_ends_the_call_too(call_simulator: CallSimulator) -> None:
    """A dropped line ends the call, and the carrier says so: the caller has hung up."""
    async with call_simulator(make_agent("Yes.")) as caller:
        await caller.speaks("Hello", seconds=0.5)
        caller.carrier.drop()
        await caller.waits(3.0)
    assert caller.outcome == "caller_hung_up"


async def test_greeting_is_turn_0_and_allows_barge_in(call_simulator: CallSimulator) -> None:
    """The greeting is turn 0, and the caller can interrupt it."""
    agent = make_agent("Sure.", first_message="Good evening, this is the front desk, how may I help you?")
    async with call_simulator(agent) as caller:
        await caller.at(1.0)
        await caller.speaks("A room please", seconds=0.8)
        greeting = await caller.heard(0)
        answer = await caller.heard(1)
    assert (greeting.interrupted, greeting.ended) == (True, 1.25)
    assert greeting.text == caller.dialogue[0][1]
    assert "Good evening, this is the front desk".startswith(greeting.text)
    assert (answer.text, answer.interrupted) == ("Sure.", False)
    assert [payload["turn_idx"] for payload in caller.payloads("agent_speech_started")] == [0, 1]


async def test_simulator_errors_name_the_wrong_argument(call_simulator: CallSimulator) -> None:
    """The simulator raises an error that names the wrong argument."""
    with pytest.raises(TypeError, match=r"no option on_mesage; options are phone, .*callbacks on_call_start"):
        async with call_simulator(make_agent(), on_mesage=print):
            pass
    with pytest.raises(ValueError, match="carrier must be one of twilio, telnyx, plivo, got 'acme'"):
        async with call_simulator(make_agent(), carrier="acme"):
            pass
    with pytest.raises(ConfigurationError, match="exactly one of llm="):
        async with call_simulator(make_agent(llm=None)):
            pass
    with pytest.raises(ValueError, match="make it longer"):
        async with call_simulator(make_agent()) as caller:
            await caller.speaks("word " * 100, seconds=0.1)


async def test_violated_invariant_fails_with_rule_and_timeline(call_simulator: CallSimulator) -> None:
    """A violated invariant fails the test with the rule and the timeline of the call."""
    with pytest.raises(CallInvariantError) as raised:  # noqa: PT012 (leaving the block raises)
        async with call_simulator(make_agent("Yes.")) as caller:
            await caller.speaks("Hello", seconds=0.5)
            await caller.hears()
            caller.carrier.faults.append(ProtocolFault(caller.now, "31951: made up"))
    lines = str(raised.value).splitlines()
    assert lines[0] == "the call violated invariants:"
    assert lines[1].startswith("  * messages follow the protocol: at 1.")
    assert "caller  [He~]" in str(raised.value)


async def test_without_pytest_the_same_block_does(autojump_clock: trio.testing.MockClock) -> None:
    """simulate_call() holds a call without the pytest fixture."""
    async with simulate_call(make_agent("Yes.")) as caller:
        await caller.speaks("Hello", seconds=0.5)
        assert (await caller.hears()).text == "Yes."


async def test_the_tests_own_clock_is_kept(
    call_simulator: CallSimulator, autojump_clock: trio.testing.MockClock
) -> None:
    """The simulator runs on the clock of the test's own autojump_clock fixture."""
    assert trio.lowlevel.current_clock() is autojump_clock
    async with call_simulator(make_agent("Yes.")) as caller:
        await caller.waits(10.0)


async def test_calls_of_one_agent_do_not_mix(call_simulator: CallSimulator) -> None:
    """In five concurrent calls of one agent, each caller hears the agent's two answers in order."""
    agent = make_agent("First.", "Second.")
    heard: dict[int, list[str]] = {}

    async def call(number: int) -> None:
        async with call_simulator(agent, phone=Patter()) as caller:
            await caller.waits(0.1 * number)
            for question in ("One?", "Two?"):
                await caller.speaks(question, seconds=0.5)
                heard.setdefault(number, []).append((await caller.hears()).text)

    async with trio.open_nursery() as nursery:
        for number in range(5):
            nursery.start_soon(call, number)
    assert heard == {number: ["First.", "Second."] for number in range(5)}


async def test_the_agent_can_hang_up(call_simulator: CallSimulator) -> None:
    """The caller hears the whole goodbye of an agent that hangs up, and can press no key afterwards."""
    own = Patter()

    async def on_transcript(event: dict[str, Any]) -> None:
        if event["role"] == "user":
            own.calls[0].hang_up()

    async with call_simulator(make_agent("Goodbye then."), phone=own, on_transcript=on_transcript) as caller:
        await caller.speaks("Bye", seconds=0.5)
        assert (await caller.hears()).text == "Goodbye then."
        await caller.carrier.over.wait()
        with pytest.raises(NotAsExpected, match="cannot press 1: the call ended at"):
            await caller.presses("1")
    assert (caller.carrier.ended, caller.outcome) == ("agent_hung_up", "agent_hung_up")


async def test_delays_of_the_network_shift_what_is_heard(call_simulator: CallSimulator) -> None:
    """The network delays the caller by 100 ms and the agent by 200 ms, in events and heard sound."""
    async with call_simulator(make_agent("A long answer.", tts=ScriptedTTS(duration=5.0))) as caller:
        caller.carrier.up_delay, caller.carrier.down_delay = 0.1, 0.2
        await caller.at(1.0)
        await caller.speaks("Well?", seconds=1.0)
        await caller.at(5.0)
        await caller.speaks("Stop", seconds=1.0)
        cut = await caller.heard(0)
    assert caller.times("user_speech_started")[0] == pytest.approx(1.0 + 0.06 + 0.1)
    assert (cut.started, cut.interrupted) == (pytest.approx(caller.times("agent_speech_started")[0] + 0.2), True)
    assert cut.ended == pytest.approx(caller.times("agent_speech_ended")[0] + 0.2, abs=0.001)


async def test_a_key_that_no_telephone_has_is_refused(call_simulator: CallSimulator) -> None:
    """An invalid DTMF key raises ValueError before any digit is sent."""
    agent = phone.agent("...", vad=ScriptedVAD(), stt=ScriptedSTT(), llm=ScriptedLLM(["Yes?"]), tts=ScriptedTTS())
    async with call_simulator(agent) as caller:
        with pytest.raises(ValueError, match="got 'x'"):
            await caller.presses("1x")
        assert caller.times("dtmf") == []


@pytest.mark.parametrize("carrier", ["twilio", "telnyx", "plivo"])
async def test_last_reports_reach_the_server(call_simulator: CallSimulator, carrier: str) -> None:
    """What the carrier reports behind the end of a call reaches the server, whose last connection is closed then."""
    # The report races the end of the last connection, and trio runs the tasks of an instant in any order.
    for _ in range(6):
        async with call_simulator(agent_of(first_message="Hello."), carrier=carrier, recording=True) as caller:
            await caller.at(0.5)
        assert len(caller.times("recording_saved")) == 1
