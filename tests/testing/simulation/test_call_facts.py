"""What a test may say of the call that it simulates, and an application's own agent in it."""

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from patter_trio import Agent, ConfigurationError, OpenAILLM, Patter, Twilio, tool
from patter_trio.abc import VoiceActivity, VoiceActivitySession, VoiceEdge
from patter_trio.audio.g711 import Samples
from patter_trio.pytest_plugin import CallSimulator
from patter_trio.testing import (
    NotAsExpected,
    ScriptedEngine,
    ScriptedLLM,
    ScriptedSTT,
    ScriptedTTS,
    ScriptedVAD,
    scripted,
    tool_call,
)
from patter_trio.testing.simulation.record import Said
from patter_trio.testing.simulation.timeline import timeline

FILE = '''
from patter_trio import OpenAILLM, Patter, tool

@tool
async def hours(day: str) -> str:
    """Say the hours of a day."""
    return "nine to five"

phone = Patter(phone_number="+15550107777")
agent = phone.agent("You are brief.", llm=OpenAILLM("sk-no-key"), tools=[hours], first_message="Miller.")
seen = []

async def on_call_start(event):
    seen.append((event["caller"], event["callee"], event["custom_params"]))
    if event["caller"] == "+15550109999":
        return {"first_message": "Welcome back."}

def on_user_speech_started(event):
    seen.append("started")
'''


class DeafVAD(VoiceActivity, VoiceActivitySession):
    """A real VAD may take the sound of speaks() for no voice; this one always does."""

    @asynccontextmanager
    async def open(self) -> AsyncIterator[VoiceActivitySession]:
        yield self

    async def feed(self, samples: Samples) -> Sequence[VoiceEdge]:
        return ()


def make_agent(**options: Any) -> Agent:
    chosen: dict[str, Any] = {"vad": ScriptedVAD(), "stt": ScriptedSTT(), "tts": ScriptedTTS()}
    return Patter().agent("x", **{"llm": ScriptedLLM(["Yes."]), **chosen, **options})


async def test_facts_reach_on_call_start(call_simulator: CallSimulator) -> None:
    """on_call_start gets the caller, callee, direction and parameters that the test gives."""
    started: list[dict[str, Any]] = []
    facts = {
        "caller": "+4930901820",
        "callee": "+15550107777",
        "custom_params": {"campaign": "spring & autumn", "empty": ""},
        "direction": "outbound",
    }
    async with call_simulator(make_agent(), on_call_start=started.append, **facts) as caller:
        await caller.waits(1.0)
    assert {name: started[0][name] for name in facts} == facts


async def test_signed_parameters_pass_a_real_account(call_simulator: CallSimulator) -> None:
    """A webhook with parameters in its query passes the signature check of the phone's own carrier."""
    phone = Patter(Twilio(account_sid="AC" + "1" * 32, auth_token="secret"), "+15550107777")
    started: list[dict[str, Any]] = []
    async with call_simulator(
        make_agent(), phone=phone, on_call_start=started.append, custom_params={"a": "1"}
    ) as caller:
        await caller.waits(0.5)
    assert (started[0]["callee"], started[0]["custom_params"]) == ("+15550107777", {"a": "1"})


async def test_unknown_direction_is_refused(call_simulator: CallSimulator) -> None:
    """A direction other than inbound and outbound is a ValueError before the call."""
    with pytest.raises(ValueError, match="direction must be one of inbound, outbound, got 'sideways'"):
        async with call_simulator(make_agent(), direction="sideways"):
            pass


@pytest.mark.parametrize(
    ("agent", "options", "said"),
    [
        (Patter(), {}, r"agent must be an Agent, or the path of a program, got <Patter"),
        (make_agent(), {"on_transkript": print}, r"no option on_transkript; options are phone, .*on_transcript"),
        (make_agent(), {"llm": None}, r"no option llm; .*or to scripted\(agent, llm=\.\.\.\)$"),
    ],
)
async def test_simulator_mistakes_name_valid_options(
    call_simulator: CallSimulator, agent: Any, options: dict[str, Any], said: str
) -> None:
    """A call simulated with something else than an agent, or with an unknown option, says what it takes."""
    with pytest.raises(TypeError, match=said):
        async with call_simulator(agent, **options):
            pass


async def test_program_is_called_by_its_file(call_simulator: CallSimulator, tmp_path: Path) -> None:
    """call_simulator("agent.py") takes phone, agent, tools and callbacks of the file.

    The test brings the LLM's words.
    """
    file = tmp_path / "clinic.py"
    file.write_text(FILE)
    llm = ScriptedLLM([[tool_call("hours", day="Monday")], "From nine to five."])
    async with call_simulator(file, llm=llm, caller="+15550109999", custom_params={"a": "1"}) as caller:
        assert (await caller.hears()).text == "Welcome back."
        await caller.speaks("When are you open?", seconds=1.5)
        assert (await caller.hears()).text == "From nine to five."
    assert caller.payloads("call_end")[0]["callee"] == "+15550107777"
    assert caller.payloads("call_end")[0]["tool_calls"][0]["result"] == "nine to five"


async def test_callback_of_the_test_replaces_the_files(call_simulator: CallSimulator, tmp_path: Path) -> None:
    """A callback that the test gives is called instead of the one of the file."""
    file = tmp_path / "clinic.py"
    file.write_text(FILE)
    async with call_simulator(
        str(file), llm=ScriptedLLM(["Yes."]), caller="+15550109999", on_call_start=lambda _: None
    ) as caller:
        assert (await caller.hears()).text == "Miller."


async def test_file_without_an_agent_is_refused(call_simulator: CallSimulator, tmp_path: Path) -> None:
    """A file that only has a main() is refused with what is missing."""
    file = tmp_path / "script.py"
    file.write_text("async def main():\n    pass\n")
    with pytest.raises(ConfigurationError, match="must have `phone` and `agent` at its top level"):
        async with call_simulator(file):
            pass


def test_scripted_agent_keeps_everything_else() -> None:
    """scripted() replaces VAD, STT, LLM and TTS, drops the turn detector, and keeps tools, texts and limits."""

    @tool
    async def look(day: str) -> str:
        """Look."""
        return day

    mine = Patter().agent("x {name}", llm=ScriptedLLM(["a"]), tools=[look], first_message="Hi", variables={"name": "n"})
    llm = ScriptedLLM(["Yes."])
    changed = scripted(mine, llm=llm)
    assert (type(changed.vad), type(changed.stt), type(changed.tts)) == (ScriptedVAD, ScriptedSTT, ScriptedTTS)
    assert (changed.llm, changed.turn_detector) == (llm, None)
    assert [changed.tools, changed.first_message, changed.variables] == [mine.tools, "Hi", {"name": "n"}]


def test_scripted_providers_of_the_agent_stay() -> None:
    """scripted() keeps the scripted providers that an agent has, with their timing."""
    mine = make_agent()
    changed = scripted(mine)
    assert (changed.vad, changed.stt, changed.llm, changed.tts) == (mine.vad, mine.stt, mine.llm, mine.tts)


def test_scripted_engine_takes_the_engines_place() -> None:
    """An agent with an engine needs a scripted engine, and gets no STT or TTS of its own."""
    engine = ScriptedEngine(["Yes."])
    changed = scripted(Patter().agent("x", engine=ScriptedEngine(["No."])), engine=engine)
    assert (changed.engine, changed.stt, changed.tts) == (engine, None, None)


def test_scripted_needs_the_words_of_the_answer() -> None:
    """scripted() of an agent with a real LLM names the argument that the test has to give."""
    with pytest.raises(TypeError, match=r"must have llm=: the agent answers with OpenAILLM.*ScriptedLLM"):
        scripted(Patter().agent("x", llm=OpenAILLM("sk-no-key")))


@pytest.mark.parametrize(
    ("name", "hint"),
    [("agent_speach_started", "agent_speech_started"), ("on_transcript", "transcript"), ("turn_end", "turn_ended")],
)
async def test_misspelt_event_names_raise(call_simulator: CallSimulator, name: str, hint: str) -> None:
    """An unknown event name raises with the list of names and the nearest one; it never is an empty list."""
    async with call_simulator(make_agent()) as caller:
        for ask in (caller.times, caller.payloads):
            with pytest.raises(ValueError, match=rf"name must be one of .*, got '{name}' \(did you mean {hint}\?\)"):
                ask(name)
        assert caller.times("dtmf") == []


async def test_dialogue_is_the_transcript_in_short(call_simulator: CallSimulator) -> None:
    """Transcript has the entries of on_call_end as dicts; dialogue has pairs of role and text."""
    ended: list[dict[str, Any]] = []
    async with call_simulator(make_agent(first_message="Hi."), on_call_end=ended.append) as caller:
        await caller.hears()
    assert caller.transcript == ended[0]["transcript"]
    assert set(caller.transcript[0]) == {"role", "text", "timestamp"}
    assert caller.dialogue == [("assistant", "Hi.")]


async def test_real_vad_is_named_in_the_failure(call_simulator: CallSimulator) -> None:
    """A caller whose scripted sound a real VAD does not take for voice fails with one line that says so."""

    async def fail() -> None:
        async with call_simulator(make_agent(vad=DeafVAD())) as caller:
            await caller.speaks("Hello", seconds=0.5)
            await caller.heard(3, within=5.0)

    with pytest.raises(NotAsExpected) as raised:
        await fail()
    lines = [line for line in str(raised.value).splitlines() if "DeafVAD" in line]
    assert len(lines) == 1
    assert lines[0].startswith("The agent listens with DeafVAD, to which the sound of speaks() may be no voice")


@pytest.mark.costly
async def test_picture_is_shown_once(call_simulator: CallSimulator) -> None:
    """A failed expectation shows the call once: in the error, not in a note as well."""
    with pytest.raises(NotAsExpected) as raised:
        async with call_simulator(make_agent()) as caller:
            await caller.heard(0)
    assert "caller" in str(raised.value)
    assert getattr(raised.value, "__notes__", []) == []


def test_silent_minutes_are_one_line() -> None:
    """Rows in which nobody speaks are folded into a line that says from when to when."""
    said = [Said("Hello", 1.0, 1.5), Said("Still there?", 125.0, 126.0)]
    picture = timeline(said, [], [], 190.0).splitlines()
    assert picture == [
        "s       0         1         2         3         4         5         6         7         8         9",
        "caller            [He~]",
        "agent",
        "",
        "        (10 to 120 s: nobody speaks)",
        "",
        "s       120       121       122       123       124       125       126       127       128       129",
        "caller                                                    [Still t~]",
        "agent",
        "",
        "        (130 to 190 s: nobody speaks)",
    ]
