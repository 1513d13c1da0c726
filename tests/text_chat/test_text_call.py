"""Calls in text: the call as it is, with lines in and events out, in virtual time."""

import json
from collections.abc import AsyncIterator
from typing import Any

import attrs
import pytest
import trio
from trio.testing import MockClock

from patter_trio import (
    Agent,
    CallControl,
    CallEnded,
    Guardrail,
    Keypad,
    Menu,
    Patter,
    PatterEventType,
    PipelineHooks,
    Tool,
    WarmTransfer,
    end_call,
    transfer_call,
)
from patter_trio.abc import CallInfo, EventRecord
from patter_trio.errors import ConfigurationError
from patter_trio.testing import ScriptedEngine, ScriptedLLM, ScriptedTTS, tool_call
from patter_trio.text_chat._events import MAX_WAITING_EVENTS, TextEvents

DESK = "+15550100003"


def agent_of(*replies: Any, phone: Patter | None = None, **options: Any) -> Agent:
    """Return an agent whose first token comes after 0.1 s, and whose last one 0.3 s later."""
    llm = ScriptedLLM(list(replies) or ["Yes."], first_token=0.1, duration=0.3)
    return (phone or Patter()).agent("You are brief.", llm=llm, **options)


async def conversation(agent: Agent, *lines: str, phone: Patter | None = None, **callbacks: Any) -> list[EventRecord]:
    """Say lines, each when the agent has answered the one before, and return all events of the call."""
    async with (phone or Patter()).text_call(agent, caller="+15550100001", **callbacks) as call:
        await call.settled()
        for line in lines:
            await call.line(line)
            await call.settled()
    return [event async for event in call]


def said(events: list[EventRecord]) -> list[tuple[str, str]]:
    """Return who said what, as the end of the call reports it."""
    return [(entry["role"], entry["text"]) for entry in events[-1]["data"]["transcript"]]


def shown(events: list[EventRecord]) -> list[str]:
    return [event["data"]["text"] for event in events if event["type"] == "agent_text"]


def of_type(events: list[EventRecord], *kinds: str) -> list[dict[str, Any]]:
    return [
        {key: value for key, value in event["data"].items() if key != "call_id"}
        for event in events
        if event["type"] in kinds
    ]


async def test_busy_machine_settles_no_call(autojump_clock: MockClock) -> None:
    """A look that comes late, because the event loop was held up, counts as one look and not as silence."""
    async with Patter().text_call(agent_of(), caller="+15550100001") as call, trio.open_nursery() as nursery:
        await call.settled()
        began = trio.current_time()

        async def hold_up() -> None:
            await trio.sleep(0.01)
            autojump_clock.jump(5.0)

        nursery.start_soon(hold_up)
        await call.settled()
        assert trio.current_time() - began == pytest.approx(5.01 + 0.08, abs=0.021)


# The conversation -----------------------------------------------------------------------------------------------------
async def test_playback_takes_no_time(autojump_clock: MockClock) -> None:
    """Each sentence is shown at the instant at which the LLM has completed it, and the reply ends with the last."""
    agent = agent_of("We open at nine. We close at ten.", first_message="Hello.")
    async with Patter().text_call(agent) as call:
        await call.settled()
        asked = trio.current_time()
        call.say("When do you open?")
        at: dict[str, float] = {}
        async for event in call:
            if event["type"] == "agent_text" and event["data"]["turn_idx"]:
                at[event["data"]["text"]] = trio.current_time() - asked
            if event["type"] == "reply_ended" and event["data"]["turn_idx"]:
                at["end"] = trio.current_time() - asked
                break
    # Eight words from 0.1 s on, the last at 0.4 s: a sentence is complete when the next one begins, or at the end.
    assert at == {
        "We open at nine.": pytest.approx(0.1 + 4 * 0.3 / 7),
        " We close at ten.": pytest.approx(0.4),
        "end": pytest.approx(0.4),
    }


async def test_transcript_is_whole_at_the_end(autojump_clock: MockClock) -> None:
    """The transcript of the call's end has the greeting, each line, and each answer in order."""
    events = await conversation(agent_of("Yes.", "No.", first_message="Hello."), "Open?", "Closed?")
    assert said(events) == [
        ("assistant", "Hello."),
        ("user", "Open?"),
        ("assistant", "Yes."),
        ("user", "Closed?"),
        ("assistant", "No."),
    ]
    assert events[-1]["data"]["outcome"] == "caller_hung_up"
    assert [event["seq"] for event in events] == list(range(1, len(events) + 1))
    assert [event["type"] for event in events][:2] == ["call_started", "turn_started"]


async def test_callbacks_run_and_edges_do_not(autojump_clock: MockClock) -> None:
    """Callbacks and the event bus get the call's events; the callbacks of speech edges are not called."""
    phone, seen = Patter(), list[str]()
    for edge in ("user_speech_started", "user_speech_eos", "agent_speech_started", "agent_speech_ended", "llm_token"):
        setattr(phone, f"on_{edge}", lambda event, edge=edge: seen.append(edge))
    phone.events.on(PatterEventType.TURN_STARTED, lambda event: seen.append(f"bus {event['turn_idx']}"))

    async def on_call_start(event: dict[str, Any], call_control: CallControl) -> dict[str, Any]:
        seen.append(f"start {event['caller']} {event['telephony_provider']}")
        call_control.data["n"] = 1
        return {"first_message": "Welcome back.", "voice": "anybody"}

    events = await conversation(
        agent_of(phone=phone),
        "Hi",
        phone=phone,
        on_call_start=on_call_start,
        on_transcript=lambda event: seen.append(event["text"]),
        on_metrics=lambda event: seen.append(f"turn {event['turn'].turn_index}"),
        on_call_end=lambda event: seen.append(event["outcome"]),
    )
    assert sorted(seen) == sorted(
        [
            "start +15550100001 text",
            *("bus 0", "Welcome back.", "turn 0"),
            *("bus 1", "Hi", "Yes.", "turn 1"),
            "caller_hung_up",
        ]
    )
    assert seen.index("Hi") < seen.index("Yes.") < seen.index("caller_hung_up") == len(seen) - 1
    assert said(events)[0] == ("assistant", "Welcome back.")


async def test_line_interrupts_answer(autojump_clock: MockClock) -> None:
    """A line while the agent speaks cuts the answer: the history has the sentences that were shown, and no more."""
    agent = agent_of("We open at nine. We close at ten. We rest on Sunday.", "Bye.")
    async with Patter().text_call(agent) as call:
        await call.settled()
        call.say("When?")
        async for event in call:
            if event["type"] == "agent_text":
                break
        call.say("Stop")
        await call.settled()
    rest = [event async for event in call]
    assert [entry["text"] for entry in rest[-1]["data"]["transcript"]] == ["When?", "We open at nine.", "Stop", "Bye."]
    assert [data["reason"] for data in of_type(rest, "reply_ended")] == ["barge-in", "played"]


async def test_silent_generator_settles(autojump_clock: MockClock) -> None:
    """A generator of on_message is shown sentence by sentence; one that yields nothing keeps nobody waiting."""

    async def on_message(event: dict[str, Any]) -> AsyncIterator[str]:
        if event["text"] != "Nothing":
            yield "One. "
            await trio.sleep(0.5)
            yield "Two."

    events = await conversation(Patter().agent("x"), "Nothing", "Count", on_message=on_message)
    assert said(events) == [("user", "Nothing"), ("user", "Count"), ("assistant", "One. Two.")]
    one, two = (event["at_ms"] for event in events if event["type"] == "agent_text")
    # Judged by the call: 0.2 s without another piece show that the sentence is complete.
    assert two - one == pytest.approx(300)


# Tools, hooks, guardrails ---------------------------------------------------------------------------------------------
async def test_tools_are_shown_with_results(autojump_clock: MockClock) -> None:
    """A tool call is an event with its arguments, and another with its result, or with its error."""

    async def find(arguments: dict[str, Any]) -> str:
        if arguments["day"] == "Sunday":
            raise ValueError("closed")
        return f"three on {arguments['day']}"

    tool = Tool(
        name="find",
        description="Find.",
        parameters={"type": "object", "properties": {"day": {"type": "string"}}},
        handler=find,
    )
    replies = [[tool_call("find", day="Saturday")], "Three.", [tool_call("find", day="Sunday")], "None."]
    events = await conversation(agent_of(*replies, tools=[tool]), "Saturday?", "Sunday?")
    calls = of_type(events, "tool_call_started", "tool_call_completed")
    assert [call["arguments"] for call in calls] == [{"day": "Saturday"}] * 2 + [{"day": "Sunday"}] * 2
    assert calls[1]["result"] == "three on Saturday"
    assert "closed" in calls[3]["error"]
    assert not of_type(events, "reply_failed")
    assert [text for role, text in said(events) if role == "assistant"] == ["Three.", "None."]


async def test_hooks_see_text_and_audio(autojump_clock: MockClock) -> None:
    """Each hook of a pipeline runs: on the words, the messages, the sentences, and the audio of one sample."""
    seen: list[str] = []

    def after_synthesize(pcm: bytes, text: str) -> bytes:
        seen.append(f"{len(pcm)} {text}")
        return pcm

    hooks = PipelineHooks(
        after_transcribe=lambda text: None if text == "drop" else text.upper(),
        before_llm=lambda messages: [*messages, {"role": "system", "content": "Be kind."}],
        before_synthesize=lambda text: text.replace("nine", "9"),
        after_synthesize=after_synthesize,
    )
    events = await conversation(agent_of("We open at nine.", hooks=hooks), "drop", "when?")
    assert said(events) == [("user", "WHEN?"), ("assistant", "We open at 9.")]
    assert seen == ["2 We open at 9."]
    assert len(of_type(events, "turn_vetoed")) == 1


async def test_guardrail_replaces_sentence(autojump_clock: MockClock) -> None:
    """A sentence that a guardrail blocks is not shown; its replacement is, and an event names the guardrail."""
    guardrail = Guardrail(name="no prices", blocked_terms=["dollars"], replacement="I cannot say.")
    events = await conversation(agent_of("Ten dollars.", guardrails=[guardrail]), "How much?")
    assert shown(events) == ["I cannot say."]
    assert of_type(events, "guardrail") == [{"turn_idx": 1, "reply": 1, "name": "no prices"}]


async def test_failed_reply_is_an_event(autojump_clock: MockClock) -> None:
    """A reply that fails is an event with the reason, and the agent says its error message."""
    agent = attrs.evolve(agent_of(error_message="Sorry."), llm=ScriptedLLM(["Yes."], fail_after=0))
    events = await conversation(agent, "Hi")
    (failed,) = of_type(events, "reply_failed")
    assert "ScriptedLLM fails" in failed["reason"]
    assert shown(events) == ["Sorry."]


async def test_agent_may_end_the_call(autojump_clock: MockClock) -> None:
    """The tool end_call ends the call after its goodbye; a line after that raises CallEnded."""
    agent = agent_of(["Goodbye!", tool_call("end_call")], tools=[end_call])
    async with Patter().text_call(agent) as call:
        await call.settled()
        call.say("Bye")
        assert await call.ended() == "agent_hung_up"
        with pytest.raises(CallEnded):
            call.say("Hello?")
        with pytest.raises(CallEnded):
            await call.press("1")
    assert [entry["text"] for entry in [event async for event in call][-1]["data"]["transcript"]] == ["Bye", "Goodbye!"]


# The carrier ----------------------------------------------------------------------------------------------------------
async def test_transfer_says_what_it_would_do(autojump_clock: MockClock) -> None:
    """A transfer connects nobody: an event says to whom, and the call ends as transferred."""
    agent = agent_of(["Gladly.", tool_call("transfer_call", destination="desk")], tools=[transfer_call({"desk": DESK})])
    events = await conversation(agent, "A person, please")
    assert of_type(events, "transfer") == [{"to": DESK}]
    assert events[-1]["data"]["outcome"] == "transferred"


async def test_warm_transfer_tells_the_briefing(autojump_clock: MockClock) -> None:
    """A warm transfer calls nobody: an event has number and briefing, the person accepts, the call is transferred."""

    async def on_message(event: dict[str, Any], call_control: CallControl) -> str:
        await call_control.transfer(DESK, warm=WarmTransfer("Ann has a question."))
        return "One moment."

    events = await conversation(Patter().agent("x"), "Ann here", on_message=on_message)
    assert of_type(events, "take_over") == [{"to": DESK, "briefing": "Ann has a question."}]
    assert events[-1]["data"]["outcome"] == "transferred"


async def test_digits_and_calls_are_events(autojump_clock: MockClock) -> None:
    """DTMF digits and calls to others are events, and nobody is called."""
    phone = Patter()

    async def on_message(event: dict[str, Any], call_control: CallControl) -> str:
        await call_control.send_dtmf("12#")
        with pytest.raises(ConfigurationError, match="a call in text cannot call others"):
            await phone.call(DESK, phone.agent("y", llm=ScriptedLLM(["Hi."])), from_number="+15550100002")
        return "Done."

    events = await conversation(phone.agent("x"), "Go", phone=phone, on_message=on_message)
    assert of_type(events, "digits", "dial") == [{"to": DESK}, {"digits": "12#"}]


async def test_keys_are_a_message(autojump_clock: MockClock) -> None:
    """Keys are pressed one after another, and become a message after the terminator, or after the keypad's pause."""
    agent = agent_of("One.", "Two.", dtmf=Keypad(pause=2.0))
    began = trio.current_time()
    events = await conversation(agent, "/press 12#")
    assert said(events) == [("user", "12"), ("assistant", "One.")]
    assert [data["digit"] for data in of_type(events, "dtmf_received")] == ["1", "2", "#"]
    assert trio.current_time() - began < 1.0
    events = await conversation(agent, "/press 1 2")
    assert said(events) == [("user", "12"), ("assistant", "One.")]


async def test_menu_takes_keys(autojump_clock: MockClock) -> None:
    """A menu's prompt is shown, and a key chooses."""
    agent = Patter().agent("x", llm=ScriptedLLM(["Yes."]), dtmf=Menu({"1": "We open at nine."}, prompt="Press 1."))
    events = await conversation(agent, "/press 1")
    assert shown(events)[:2] == ["Press 1.", "We open at nine."]


# Engines --------------------------------------------------------------------------------------------------------------
async def test_engine_takes_text(autojump_clock: MockClock) -> None:
    """An engine gets the lines as text and its tools' results; its words are shown as they come, its audio is not."""

    async def find(arguments: dict[str, Any]) -> str:
        return "three"

    tool = Tool(name="find", description="Find.", parameters={"type": "object", "properties": {}}, handler=find)
    engine = ScriptedEngine(
        llm=ScriptedLLM([[tool_call("find")], "There are three tables left today."], first_token=0.1, duration=0.3),
        tts=ScriptedTTS(first_audio=0.2, duration=30.0),
    )
    agent = Patter().agent("x", engine=engine, tools=[tool], first_message="Hello.")
    began = trio.current_time()
    events = await conversation(agent, "A table?")
    assert trio.current_time() - began < 5.0
    assert said(events) == [
        ("assistant", "Hello."),
        ("user", "A table?"),
        ("assistant", "There are three tables left today."),
    ]
    assert {"role": "user", "content": "A table?"} in engine.remembered
    assert of_type(events, "tool_call_completed")[0]["result"] == "three"
    assert "".join(shown(events)) == "Hello.There are three tables left today."


async def test_engine_learns_what_was_shown(autojump_clock: MockClock) -> None:
    """After an interruption, the engine learns how much of its audio goes with the words that were shown."""
    engine = ScriptedEngine(
        llm=ScriptedLLM(["One two three four five six.", "Bye."], first_token=0.1, duration=3.0),
        tts=ScriptedTTS(first_audio=0.05, per_character=0.06),
    )
    async with Patter().text_call(Patter().agent("x", engine=engine)) as call:
        await call.settled()
        call.say("Count")
        async for event in call:
            if event["type"] == "agent_text":
                break
        call.say("Stop")
        await call.settled()
    assert len(engine.heard) == 1
    assert 0.0 <= engine.heard[0] < 1.7


# Mistakes and limits --------------------------------------------------------------------------------------------------
async def test_mistakes_are_refused(autojump_clock: MockClock) -> None:
    """A caller that is not a number, blank texts, wrong keys and an agent without an answer are refused bare."""
    phone = Patter()
    with pytest.raises(ConfigurationError, match="caller must be"):
        async with phone.text_call(agent_of(), caller="Ann"):
            pass
    with pytest.raises(ConfigurationError, match="llm="):
        async with phone.text_call(phone.agent("x")):
            pass
    async with phone.text_call(agent_of()) as call:
        with pytest.raises(ConfigurationError, match="blank"):
            call.say(" ")
        with pytest.raises(ConfigurationError, match="got 'x'"):
            await call.press("x")


async def test_error_in_block_comes_bare(autojump_clock: MockClock) -> None:
    """An exception of the block ends the call and is raised as itself."""
    ends: list[str] = []
    with pytest.raises(LookupError):
        async with Patter().text_call(agent_of(), on_call_end=lambda event: ends.append(event["outcome"])):
            raise LookupError
    assert ends == ["cancelled"]


async def test_provider_that_cannot_open_fails_the_call(autojump_clock: MockClock) -> None:
    """An engine that cannot be opened ends the call as failed, with the error."""
    agent = Patter().agent("x", engine=ScriptedEngine(fail_to_open=True))
    async with Patter().text_call(agent) as call:
        assert await call.ended() == "failed"
    assert "opens no session" in [event async for event in call][-1]["data"]["error"]


async def test_limits_of_silence_do_not_count(autojump_clock: MockClock) -> None:
    """A person may think for an hour: neither silence nor absence ends a call in text."""
    agent = agent_of(silence_timeout=5.0, user_away_timeout=5.0, max_call_duration=None)
    async with Patter().text_call(agent) as call:
        await call.settled()
        await trio.sleep(3600)
        assert not call.is_over
        assert call.state == {"user": "listening", "agent": "idle"}


async def test_live_call_is_among_the_phones(autojump_clock: MockClock) -> None:
    """A call in text is one of phone.calls, whose control can speak and hang up in it."""
    phone = Patter()
    async with phone.text_call(agent_of(phone=phone)) as call:
        await call.settled()
        (control,) = phone.calls
        assert control.call_id == call.call_id
        control.say("A word from us.")
        await call.settled()
        control.hang_up()
        assert await call.ended() == "agent_hung_up"
    assert phone.calls == ()
    assert repr(call) == f"<TextCall {call.call_id}, agent_hung_up>"
    assert call.history[-1]["text"] == "A word from us."


def test_slow_reader_loses_the_oldest() -> None:
    """Events beyond the bound push out the oldest ones, which are counted."""
    events = TextEvents(CallInfo("text-1", "", "", "inbound"), 0.0, 0.0)
    for number in range(MAX_WAITING_EVENTS + 2):
        events.put("note", {"number": number}, 0.0)
    assert events.dropped == 3


async def test_events_are_json_whatever_they_hold(autojump_clock: MockClock) -> None:
    """Each record is JSON; a tool's result that JSON does not have is its repr."""

    async def find(arguments: dict[str, Any]) -> object:
        return {1: b"x"}

    tool = Tool(name="find", description="Find.", parameters={"type": "object", "properties": {}}, handler=find)
    events = await conversation(agent_of([tool_call("find")], "Yes.", tools=[tool]), "Find")
    assert of_type(events, "tool_call_completed")[0]["result"] == {"1": "b'x'"}
    assert json.loads(json.dumps(events)) == events
    assert {*map(frozenset, events)} == {frozenset({"seq", "call_id", "type", "at_ms", "time", "data"})}
