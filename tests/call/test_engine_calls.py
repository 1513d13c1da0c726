"""Calls with an engine: the promises about engines alone, and what an engine receives."""

import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial
from typing import Any

import attrs
import pytest
import trio

from patter_trio import Agent, ConfigurationError, Patter, PipelineHooks, end_call, tool, transfer_call
from patter_trio.abc import EngineSession, EngineSetup
from patter_trio.audio.formats import AudioFormat, Encoding
from patter_trio.errors import ProviderError
from patter_trio.pytest_plugin import CallSimulator
from patter_trio.testing import ScriptedEngine, ScriptedLLM, ScriptedSTT, ScriptedTTS, ScriptedVAD, tool_call
from patter_trio.testing.simulation.caller import SimulatedCaller
from tests.kit.call import (
    SORRY,
    At,
    FaultyLLM,
    FaultyTTS,
    FaultyVAD,
    break_down,
    edges,
    hangs_up_in_time,
    sound_of_agent,
    transcripts_of,
)
from tests.kit.depth import few

pytestmark = [pytest.mark.engine, pytest.mark.all_carriers]

LONG = "Our opening hours are from nine to five, every day of the week."


def agent_with(engine: ScriptedEngine, **options: Any) -> Agent:
    chosen: dict[str, Any] = {"system_prompt": "You are brief.", "vad": ScriptedVAD(), "error_message": SORRY}
    return Patter().agent(**chosen | options, engine=engine)


def saying(*replies: Any, **options: Any) -> ScriptedEngine:
    return ScriptedEngine(llm=ScriptedLLM(replies or ["Yes."]), **options)


def order(caller: SimulatedCaller) -> list[tuple[float, str]]:
    """Return when each transcript and the metrics were reported."""
    return [
        (round(at, 3), payload["role"] if name == "transcript" else name)
        for at, name, payload in caller.events
        if name in ("transcript", "metrics")
    ]


async def asks(caller: SimulatedCaller, text: str = "Is a table free?", at: float = 1.0) -> None:
    """Ask, for a second: it is over 0.5 s later; the answer is heard 0.6 s after that."""
    await caller.at(at)
    await caller.speaks(text, seconds=1.0)


# The caller's words ---------------------------------------------------------------------------------------------------
async def test_late_transcript_is_reported_before_reply(call_simulator: CallSimulator) -> None:
    """A transcript that arrives after the whole reply is reported before that reply."""
    async with call_simulator(agent_with(saying("One moment please.", words_delay=3.0))) as caller:
        await asks(caller)
        await caller.at(8.0)
    assert caller.times("agent_speech_ended") == [pytest.approx(4.18)]
    assert order(caller) == [(5.5, "user"), (5.5, "assistant"), (5.5, "metrics")]
    assert caller.dialogue == [("user", "Is a table free?"), ("assistant", "One moment please.")]
    assert caller.metrics is not None
    assert [turn.user_text for turn in caller.metrics.turns] == ["Is a table free?"]


async def test_transcript_two_seconds_late_keeps_its_place(
    call_simulator: CallSimulator,
) -> None:
    """The call waits two seconds for a transcript, and a later one takes its proper place in the history."""
    async with call_simulator(agent_with(saying("One moment please.", words_delay=5.0))) as caller:
        await asks(caller)
        await caller.at(8.0)
        heard = caller.payloads("transcript")
    assert order(caller) == [(6.18, "assistant"), (6.18, "metrics"), (7.5, "user")]
    assert [entry["text"] for entry in heard[1]["history"]] == ["Is a table free?", "One moment please."]


async def test_missing_transcript_costs_two_seconds_without_entry(call_simulator: CallSimulator) -> None:
    """A transcript that never arrives delays the reports by two seconds and makes no entry."""
    async with call_simulator(agent_with(saying("One moment please.", silent=True))) as caller:
        await asks(caller)
        await caller.at(8.0)
        assert transcripts_of(caller, "assistant") == ["One moment please."]
        assert await hangs_up_in_time(caller) == pytest.approx(0.0, abs=0.01)  # they have been waited for
    assert order(caller) == [(6.18, "assistant"), (6.18, "metrics")]
    assert caller.dialogue == [("assistant", "One moment please.")]
    assert len(caller.times("user_speech_eos")) == 1


async def test_transcript_after_next_eos_stands_before_it(call_simulator: CallSimulator) -> None:
    """A transcript that arrives after the next eos stands before the utterance of that eos."""
    engine = saying("One.", "Two.", words_delay=6.0)
    async with call_simulator(agent_with(engine)) as caller:
        await asks(caller, "First")
        await asks(caller, "Second", at=3.6)
        await caller.at(16.0)
    assert [one for one in order(caller) if one[1] != "metrics"] == [
        (5.1, "assistant"),  # the next utterance is over
        (7.94, "assistant"),
        (8.5, "user"),
        (11.1, "user"),
    ]
    assert caller.dialogue == [("user", "First"), ("assistant", "One."), ("user", "Second"), ("assistant", "Two.")]


async def test_question_continued_before_answer_is_one_entry(call_simulator: CallSimulator) -> None:
    """A question that the caller continues before the answer is audible makes one history entry."""
    engine = ScriptedEngine(llm=ScriptedLLM(["Two rooms, certainly."], first_token=0.8), words_delay=0.1)
    async with call_simulator(agent_with(engine)) as caller:
        await caller.speaks("A room", seconds=0.5)
        await caller.at(1.2)
        await caller.speaks("or rather two", seconds=0.6)
        await caller.hears()
    assert [(round(at, 2), p["text"]) for at, name, p in caller.events if name == "transcript"][:2] == [
        (1.1, "A room"),
        (2.4, "A room or rather two"),
    ]
    assert caller.dialogue == [("user", "A room or rather two"), ("assistant", "Two rooms, certainly.")]
    assert engine.heard == [0.0]  # the answer to the first half


async def test_hang_up_mid_speech_yields_words_promptly(
    call_simulator: CallSimulator,
) -> None:
    """The words of a caller who hangs up while speaking are in the transcript within a second."""
    async with call_simulator(agent_with(saying(words_delay=0.3))) as caller:
        await caller.at(1.0)
        await caller.speaks("Hello there", seconds=1.0, wait=False)
        await caller.at(1.6)
        assert await hangs_up_in_time(caller) == pytest.approx(0.3, abs=0.001)
    assert caller.dialogue == [("user", "Hello")]


async def test_engine_interim_words_are_only_partials(call_simulator: CallSimulator) -> None:
    """The call reports the engine's interim words as partial transcripts and in no other way."""
    phone, said = Patter(), list[dict[str, Any]]()
    engine = saying("Yes.", interim=True, words_delay=0.4)
    async with call_simulator(agent_with(engine), phone=phone, on_transcript=said.append) as caller:
        await asks(caller)
        await caller.hears()
    assert caller.times("transcript_partial") == [pytest.approx(2.7)]
    assert [payload["text"] for payload in caller.payloads("transcript_partial")] == ["Is a table free?"]
    assert [event["text"] for event in said] == ["Is a table free?", "Yes."]
    assert [len(event["history"]) for event in said] == [1, 2]


# What it receives -----------------------------------------------------------------------------------------------------
async def test_engine_learns_how_much_was_heard(call_simulator: CallSimulator) -> None:
    """The engine learns how much of its reply the caller heard."""
    llm = ScriptedLLM([LONG, "All right."])
    engine = ScriptedEngine(llm=llm, tts=ScriptedTTS(duration=6.0))
    async with call_simulator(agent_with(engine)) as caller:
        await asks(caller)
        await caller.at(5.0)
        await caller.speaks("Stop it", seconds=1.0)
        await caller.heard(1)
        cut = caller.payloads("agent_speech_ended")[0]
    assert (cut["interrupted"], cut["speech_duration_ms"]) == (True, 2150)
    assert engine.heard == [pytest.approx(2.15)]
    assert llm.requests[1][2] == {"role": "assistant", "content": caller.history[1]["text"]}
    assert LONG.startswith(caller.history[1]["text"] + " ")


async def test_engine_voice_speaks_greeting_and_application_say(call_simulator: CallSimulator) -> None:
    """The engine's own voice speaks the greeting and the application's say."""
    phone, llm = Patter(), ScriptedLLM(["Yes."])
    engine = ScriptedEngine(llm=llm)
    async with call_simulator(agent_with(engine, first_message="Hello."), phone=phone) as caller:
        assert (await caller.hears()).text == "Hello."
        phone.calls[0].say("Welcome.")
        assert (await caller.hears()).text == "Welcome."
        await asks(caller, at=3.0)
        await caller.hears()
    assert engine.remembered == []  # it has said it
    assert [message["content"] for message in llm.requests[0][1:]] == ["Hello.", "Welcome.", "Is a table free?"]
    assert {payload["engine"] for payload in caller.payloads("agent_speech_started")} == {"scripted"}


async def test_separate_tts_speaks_and_engine_remembers(call_simulator: CallSimulator) -> None:
    """A separate TTS speaks the greeting and the application's say, and the engine remembers both texts."""
    phone, llm = Patter(), ScriptedLLM(["Yes."])
    engine = ScriptedEngine(llm=llm)
    agent = agent_with(engine, first_message="Hello.", tts=ScriptedTTS(provider="mouth"))
    async with call_simulator(agent, phone=phone) as caller:
        assert (await caller.hears()).text == "Hello."
        phone.calls[0].say("Welcome.")
        assert (await caller.hears()).text == "Welcome."
        await asks(caller, at=3.0)
        await caller.hears()
    assert engine.remembered == [{"role": "assistant", "content": text} for text in ("Hello.", "Welcome.")]
    assert [message["content"] for message in llm.requests[0][1:]] == ["Hello.", "Welcome.", "Is a table free?"]


async def test_short_cough_over_engine_is_discarded(call_simulator: CallSimulator) -> None:
    """The engine discards a cough over its speech that is shorter than the barge-in threshold."""
    engine = saying("Sure.")
    agent = agent_with(engine, first_message=LONG, vad=ScriptedVAD(end_delay=0.05), endpointing_ms=100)
    async with call_simulator(agent) as caller:
        await caller.at(1.0)
        await caller.coughs(0.1)
        greeting = await caller.heard(0)
        await caller.waits(2.0)
    assert (greeting.text, greeting.interrupted) == (LONG, False)
    assert len(engine.discarded) == 1
    assert caller.times("user_speech_eos") == []
    assert [name for _, name in edges(caller) if name.startswith("user")] == [
        "user_speech_started",
        "user_speech_ended",
    ]


# Tools ----------------------------------------------------------------------------------------------------------------
@tool
async def look_up(name: str) -> str:
    """Look up a guest."""
    return f"{name} is in room 12"


async def test_engine_receives_tool_results_before_next_request(call_simulator: CallSimulator) -> None:
    """The engine's conversation contains the tool results before its next request."""
    llm = ScriptedLLM([["Let me see.", tool_call("look_up", name="Miller")], "In room 12."])
    engine = ScriptedEngine(llm=llm)
    async with call_simulator(agent_with(engine, tools=[look_up])) as caller:
        await asks(caller)
        assert (await caller.heard(0)).text == "Let me see. In room 12."
    result = {"role": "tool", "tool_call_id": "scripted_1", "name": "look_up", "content": "Miller is in room 12"}
    assert engine.remembered == [result]
    assert llm.requests[1][-1] == result
    assert [definition.name for definition in engine.setups[0].tools] == ["look_up"]


async def test_cut_goodbye_cancels_hang_up_for_engine(call_simulator: CallSimulator) -> None:
    """A barge-in on the goodbye keeps the call, and the engine learns that end_call will not run."""
    replies = [
        [tool_call("look_up", name="Miller"), tool_call("end_call")],
        "He is in room 12, goodbye to you and thank you for your call.",
        "Of course.",
    ]
    llm = ScriptedLLM(replies)
    engine = ScriptedEngine(llm=llm)
    async with call_simulator(agent_with(engine, tools=[look_up, end_call])) as caller:
        await asks(caller)
        await caller.at(4.5)
        await caller.speaks("Wait, one more thing!", seconds=1.5)
        assert (await caller.heard(1)).text == "Of course."
        await caller.waits(3.0)
        assert not caller.outcome
    contents = [message["content"] for message in engine.remembered]
    assert contents[0] == "Miller is in room 12"
    assert "as soon as what you say has been played" in contents[1]
    assert contents[2:] == ["The tool end_call will not be called: It was not done: the caller went on before."]
    assert [name for _, name, _ in caller.events if name == "tool_call_started"] == ["tool_call_started"]


# Whose turn it is -----------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("kind", ["vad_silence", "semantic_turn_detector"])
async def test_its_own_detection_of_turns_ends_them(call_simulator: CallSimulator, kind: Any) -> None:
    """An engine that detects turns ends one 0.3 s after the voice, and the eos names its kind of trigger."""
    engine = saying("Yes.", turn_delay=0.3, ends_turns=kind)
    async with call_simulator(agent_with(engine, vad=ScriptedVAD(end_delay=0.1))) as caller:
        await asks(caller)
        await caller.hears()
    [eos] = caller.payloads("user_speech_eos")
    assert (eos["trigger"], eos["trailing_silence_ms"]) == (kind, 300)
    assert caller.times("user_speech_eos") == [pytest.approx(2.3)]


# Failures -------------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("tts", [None, ScriptedTTS()])
async def test_engine_open_failure_apologises_through_available_tts(call_simulator: CallSimulator, tts: Any) -> None:
    """A call fails if the engine cannot open, and the agent apologises if a voice is available."""
    async with call_simulator(agent_with(saying(fail_to_open=True), tts=tts)) as caller:
        await caller.carrier.over.wait()
        await caller.waits(0.5)
        [end] = caller.payloads("call_end")
    assert (end["outcome"], "opens no session" in end["error"]) == ("failed", True)
    assert [heard.text for heard in caller.utterances] == ([SORRY] if tts else [])


@pytest.mark.parametrize("tts", few([None, ScriptedTTS()], 1))
@pytest.mark.parametrize(("fail_at", "heard"), [(4.0, 1), (10.0, 1)])
async def test_lost_engine_fails_call_within_time_limit(
    call_simulator: CallSimulator, fail_at: float, heard: int, tts: Any
) -> None:
    """A call whose engine is lost, in mid-reply or in silence, ends as failed, and a separate TTS apologises."""
    engine = ScriptedEngine(llm=ScriptedLLM([LONG]), tts=ScriptedTTS(duration=5.0), fail_at=fail_at)
    async with call_simulator(agent_with(engine, tts=tts)) as caller:
        await asks(caller)
        await caller.carrier.over.wait()
        await caller.waits(0.9)
        [end] = caller.payloads("call_end")
    assert (end["outcome"], "has failed" in end["error"]) == ("failed", True)
    texts = [one.text for one in caller.utterances]
    assert (texts[0] == LONG) is (fail_at > 9.0)
    assert caller.utterances[0].ended == pytest.approx(min(fail_at, 8.1), abs=0.05)
    if tts is not None:
        assert texts[heard:] == [SORRY]


async def test_call_ends_within_second_despite_hanging_engine(call_simulator: CallSimulator) -> None:
    """A call ends within a second of the hang-up even if the engine hangs."""
    engine = ScriptedEngine(llm=ScriptedLLM([LONG], hang_after=2), silent=True)
    async with call_simulator(agent_with(engine)) as caller:
        await asks(caller)
        await caller.at(4.0)
        assert await hangs_up_in_time(caller) <= 1.0
    assert caller.outcome == "caller_hung_up"


async def test_an_engine_that_answers_nothing_is_apologised_for(call_simulator: CallSimulator) -> None:
    """The agent apologises for an engine that does not answer when asked twice, and the turn counts as failed."""
    engine = ScriptedEngine(llm=FaultyLLM(At("llm.first")))
    async with call_simulator(agent_with(engine)) as caller:
        await asks(caller)
        sorry = await caller.hears()
    assert sorry.text == SORRY
    assert caller.payloads("metrics")[0]["turn"].failed


PLACES = (
    "vad.open", "vad.feed",
    "llm.stream", "llm.first", "llm.next", "llm.close",
    "tts.open", "tts.speak", "tts.first", "tts.next",
)  # fmt: skip
"""Where a scripted engine hangs or breaks, as an LLM or as a TTS."""


def faulty_engine(at: At) -> Agent:
    return agent_with(ScriptedEngine(llm=FaultyLLM(at), tts=FaultyTTS(at)), vad=FaultyVAD(at))


@pytest.mark.parametrize("place", PLACES)
async def test_hang_up_ends_call_wherever_engine_hangs(call_simulator: CallSimulator, place: str) -> None:
    """A hang-up ends the call wherever the engine hangs."""
    at = At(place)
    async with call_simulator(faulty_engine(at)) as caller:
        await caller.speaks("Hello there", seconds=1.0)
        await caller.at(2.5)
        assert await hangs_up_in_time(caller) < 1.0
    assert at.reached
    assert caller.outcome == "caller_hung_up"


@pytest.mark.parametrize("place", ["vad.open", "vad.feed", "tts.open"])
async def test_engine_bug_apologises_and_ends_its_call(call_simulator: CallSimulator, place: str) -> None:
    """Beside replies, an exception that is not a ProviderError fails the call, with an apology if the voice works."""
    at = At(place, break_down)
    async with call_simulator(faulty_engine(at)) as caller:
        await caller.speaks("Hello there", seconds=1.0)
        await caller.carrier.over.wait()
        await caller.waits(0.1)
    assert at.reached
    [end] = caller.payloads("call_end")
    assert (end["outcome"], end["error"]) == ("failed", "RuntimeError: a bug of the provider")
    assert sound_of_agent(caller).endswith(SORRY) is not place.startswith("tts")


@pytest.mark.parametrize("place", few([place for place in PLACES if place[:3] != "vad" and place != "tts.open"], 2))
async def test_engine_bug_in_reply_fails_that_reply(
    call_simulator: CallSimulator, place: str, caplog: pytest.LogCaptureFixture
) -> None:
    """In a reply, an exception other than ProviderError fails that reply alone, and the call goes on."""
    at = At(place, break_down, nth=1)
    async with call_simulator(faulty_engine(at)) as caller:
        await caller.speaks("Hello there", seconds=1.0)
        await caller.waits(8.0)
        await caller.speaks("Again", seconds=1.0)
        await caller.waits(8.0)
        assert sound_of_agent(caller).endswith("Three four.")
    assert at.reached
    assert caller.outcome == "caller_hung_up"
    assert "raised RuntimeError: a bug of the provider" in caplog.text


# Options for a pipeline only ------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("stt", ScriptedSTT()),
        ("llm", ScriptedLLM(["x"])),
        ("hooks", PipelineHooks(before_llm=print)),
        ("text_transforms", [str.strip]),
        ("barge_in_min_words", 2),
    ],
)
def test_pipeline_only_option_with_engine_raises_error(name: str, value: Any) -> None:
    """An option that only a pipeline supports raises an error that names it."""
    with pytest.raises(ValueError, match=f"engine= cannot be combined with {name}="):
        agent_with(saying(), **{name: value})
    assert issubclass(ConfigurationError, ValueError)


async def test_on_message_with_engine_warns_once(
    call_simulator: CallSimulator, caplog: pytest.LogCaptureFixture
) -> None:
    """An on_message responder beside an engine is ignored with one warning."""
    asked: list[Any] = []
    async with call_simulator(agent_with(saying("Mine.")), on_message=asked.append) as caller:
        await asks(caller)
        assert (await caller.hears()).text == "Mine."
    assert asked == []
    [record] = [record for record in caplog.records if "on_message" in record.message]
    assert record.levelno == logging.WARNING
    assert "engine=" in record.message


async def test_on_call_start_changes_engine_setup(
    call_simulator: CallSimulator, caplog: pytest.LogCaptureFixture
) -> None:
    """The on_call_start callback can change the settings with which the call opens an engine."""
    engine = saying("Ja.")
    overrides = {
        "system_prompt": "Desk of {hotel}.",
        "variables": {"hotel": "Miller"},
        "language": "de",
        "tools": [look_up],
        "voice": "alloy",
        "stt": ScriptedSTT(),
        "llm": ScriptedLLM(["x"]),
        "hooks": PipelineHooks(before_llm=print),
    }
    async with call_simulator(agent_with(engine), on_call_start=lambda event: overrides) as caller:
        await asks(caller)
        assert (await caller.hears()).text == "Ja."
    [setup] = engine.setups
    assert setup.instructions.startswith("This is a telephone call in German (de).")
    assert setup.instructions.endswith("\n\nDesk of Miller.")
    assert setup.language == "de"
    assert [definition.name for definition in setup.tools] == ["look_up"]
    for complaint in (*(f"engine= cannot be combined with {name}=" for name in ("stt", "llm", "hooks")), "'alloy'"):
        assert complaint in caplog.text


# Metrics --------------------------------------------------------------------------------------------------------------
async def test_absent_stt_and_tts_cost_nothing_silently(
    call_simulator: CallSimulator, caplog: pytest.LogCaptureFixture
) -> None:
    """The metrics of an engine call have no STT or TTS, charge nothing for them and cause no warning."""
    prices = {"twilio": {"price": 0.0}, "ear": {"unit": "token", "input": 1.0, "output": 1.0}}
    phone = Patter(pricing=prices)
    engine = saying("Yes.", provider="ear", model="e1")
    async with call_simulator(agent_with(engine), phone=phone) as caller:
        await asks(caller)
        await caller.hears()
        await caller.at(30.0)
    metrics = caller.metrics
    assert metrics is not None
    assert (metrics.provider_mode, metrics.llm_provider, metrics.llm_model) == ("ear", "ear", "e1")
    assert (metrics.stt_provider, metrics.stt_model, metrics.tts_provider, metrics.tts_model) == ("", "", "", "")
    assert metrics.cost.stt == metrics.cost.tts == 0.0
    assert metrics.cost.llm > 0
    assert not [record for record in caplog.records if record.name == "patter_trio.telemetry"]


# What is late, slow or gone -------------------------------------------------------------------------------------------
async def test_unheard_answer_keeps_order_of_utterances(
    call_simulator: CallSimulator,
) -> None:
    """Two utterances keep their order in the transcript if the caller hears nothing of the answer between them."""
    engine = ScriptedEngine(
        llm=ScriptedLLM(["Antidisestablishmentarianism is it.", "Yes."]),
        tts=ScriptedTTS(duration=4.0),
        words_delay=(3.0, 0.1),
    )
    async with call_simulator(agent_with(engine, vad=ScriptedVAD(end_delay=0.3))) as caller:
        await asks(caller)
        await caller.at(3.15)
        await caller.speaks("Wait.", 0.4)
        await caller.waits(8.0)
    assert [text for role, text in caller.dialogue if role == "user"] == ["Is a table free?", "Wait."]


async def test_late_words_do_not_enter_next_turns_metrics(call_simulator: CallSimulator) -> None:
    """Words that arrive after the next eos do not become the user text of that eos's turn."""
    engine = ScriptedEngine(llm=ScriptedLLM(["One.", "Two."]), tts=ScriptedTTS(duration=0.5), words_delay=(5.0, 0.2))
    async with call_simulator(agent_with(engine)) as caller:
        await asks(caller)
        await caller.hears()
        await caller.speaks("And two?", 1.0)
        await caller.waits(6.0)
    assert [(turn.user_text, turn.agent_text) for turn in caller.metrics.turns] == [("", "One."), ("And two?", "Two.")]
    assert caller.dialogue == [
        ("user", "Is a table free?"),
        ("assistant", "One."),
        ("user", "And two?"),
        ("assistant", "Two."),
    ]


async def test_say_after_answer_keeps_answers_user_text(call_simulator: CallSimulator) -> None:
    """A say after an answer leaves the user text with the answer's turn."""
    phone = Patter()
    engine = ScriptedEngine(llm=ScriptedLLM(["One."]), tts=ScriptedTTS(duration=0.5), words_delay=1.5)
    agent = phone.agent("x", vad=ScriptedVAD(end_delay=0.3), engine=engine)
    async with call_simulator(agent, phone=phone) as caller:
        await asks(caller)
        await caller.waits(0.9)
        phone.calls[0].say("And by the way.")
        await caller.waits(6.0)
    [turn] = caller.metrics.turns
    assert (turn.user_text, turn.agent_text) == ("Is a table free?", "One.")


@pytest.mark.parametrize("opening", [2.0, 8.0])
async def test_speech_before_engine_opens_keeps_its_offset(call_simulator: CallSimulator, opening: float) -> None:
    """Speech 1.5 s before the engine opens reaches it; speech 7.5 s before is silence, and later offsets hold."""
    engine = saying("Yes.", opening=opening, turn_delay=0.4, ends_turns="vad_silence")
    async with call_simulator(agent_with(engine, vad=ScriptedVAD(end_delay=0.3))) as caller:
        await asks(caller, "Too early.", at=0.5)
        await asks(caller, at=10.0)
        await caller.hears()
        await caller.waits(1.0)
    assert caller.times("user_speech_eos")[-1] == pytest.approx(11.4)
    assert ("user", "Is a table free?") in caller.dialogue
    assert (("user", "Too early.") in caller.dialogue) == (opening < 5.0)


async def test_lost_engine_apology_uses_separate_session(call_simulator: CallSimulator) -> None:
    """A second engine session speaks the apology when the first session is gone."""
    engine = saying("Yes.", fail_at=2.0)
    async with call_simulator(agent_with(engine)) as caller:
        await caller.waits(6.0)
    assert sound_of_agent(caller) == SORRY
    assert caller.outcome == "failed"
    assert len(engine.setups) == 2


@attrs.frozen
class OnceEngine(ScriptedEngine):
    """An engine whose vendor opens one session, and no other."""

    @asynccontextmanager
    async def open(self, setup: EngineSetup) -> AsyncIterator[EngineSession]:
        if self.setups:
            raise ProviderError("the vendor is gone")
        async with ScriptedEngine.open(self, setup) as session:
            yield session


@pytest.mark.parametrize("transfers", [pytest.param(True, id="transfer"), pytest.param(False, id="no-transfer")])
@pytest.mark.parametrize("voice", [pytest.param(True, id="tts"), pytest.param(False, id="no-tts")])
async def test_engine_gone_for_good_in_call(call_simulator: CallSimulator, *, voice: bool, transfers: bool) -> None:
    """The caller of an engine that is gone hears the apology by the TTS, or nothing; a person is connected anyway."""
    engine = OnceEngine(llm=ScriptedLLM(["Yes."]), fail_at=2.0)
    options: dict[str, Any] = {"on_failure": transfer_call({"desk": "+15550100003"})} if transfers else {}
    if voice:
        options["tts"] = ScriptedTTS()
    async with call_simulator(agent_with(engine, **options)) as caller:
        await caller.waits(8.0)
    assert sound_of_agent(caller) == (SORRY if voice else "")
    assert caller.outcome == ("transferred" if transfers else "failed")


async def test_serve_warns_of_a_voiceless_apology(
    autojump_clock: trio.testing.MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    """serve() warns about an error_message of the application's that nobody speaks when the engine is gone."""
    agents = [agent_with(saying("Yes.")), agent_with(saying("Yes."), tts=ScriptedTTS())]
    agents.append(Patter().agent("x", engine=saying("Yes."), vad=ScriptedVAD()))
    warned = list[list[str]]()
    for agent in agents:
        caplog.clear()
        async with trio.open_nursery() as nursery:
            await nursery.start(partial(Patter().serve, agent, port=0, handle_signals=False))
            nursery.cancel_scope.cancel()
        warned.append([line for line in caplog.messages if line.startswith("error_message=")])
    assert warned == [
        ["error_message= has no voice of its own: an engine that is gone for good cannot speak it, so give tts="],
        [],
        [],
    ]


async def test_separate_tts_speech_is_reported_under_its_provider(call_simulator: CallSimulator) -> None:
    """The call reports the greeting of a separate TTS under that TTS and the answer under the engine."""
    other = ScriptedTTS(provider="other")
    agent = agent_with(saying("Yes."), tts=other, first_message="Good evening.")
    async with call_simulator(agent) as caller:
        await asks(caller, at=3.0)
        await caller.hears()
    assert [payload["tts_provider"] for payload in caller.payloads("audio_out")] == ["other", "scripted"]
    said_by = [
        (payload.get("tts_provider"), payload.get("engine")) for payload in caller.payloads("agent_speech_started")
    ]
    assert said_by == [("other", None), (None, "scripted")]


@pytest.mark.deep
async def test_long_noise_does_not_hold_back_engine_answer(call_simulator: CallSimulator) -> None:
    """Long noise does not hold back the answer of an engine for longer than that of a pipeline."""
    engine = ScriptedEngine(llm=ScriptedLLM(["Yes."]), tts=ScriptedTTS(duration=1.0))
    async with call_simulator(agent_with(engine, vad=ScriptedVAD(end_delay=0.3))) as caller:
        await asks(caller)
        await caller.at(2.55)
        await caller.coughs(70.0)
    assert caller.times("agent_speech_started")[0] < 20.0


@pytest.mark.deep
async def test_llm_latency_excludes_engine_playout_time(call_simulator: CallSimulator) -> None:
    """The total LLM latency of an engine turn excludes the playout time of its reply."""
    engine = ScriptedEngine(llm=ScriptedLLM(["Yes."]), tts=ScriptedTTS(duration=60.0))
    async with call_simulator(agent_with(engine)) as caller:
        await asks(caller)
        await caller.at(70.0)
    [turn] = caller.metrics.turns
    assert turn.latency.llm_total_ms is not None
    assert turn.latency.llm_total_ms < 5000


@pytest.mark.parametrize("format_of", ["accepts", "emits"])
def test_an_engine_of_an_odd_rate_is_refused(format_of: str) -> None:
    """An agent with an engine at 11,025 Hz raises a ConfigurationError that lists the possible rates."""
    odd = AudioFormat(Encoding.PCM16, 11_025)
    engine = ScriptedEngine(accepts=odd) if format_of == "accepts" else ScriptedEngine(tts=ScriptedTTS(emits=odd))
    with pytest.raises(ConfigurationError, match=f"engine must {format_of[:-1]} audio at 8000, .* 48000 Hz, got 11025"):
        Patter().agent("x", engine=engine)
