"""Talking over the agent: when it is cut, what then counts as heard, and what does not cut it."""

import logging
from typing import Any

import pytest
import trio

from patter_trio import CallEnded, Patter
from patter_trio.pytest_plugin import CallSimulator
from patter_trio.testing import ScriptedLLM, ScriptedSTT, ScriptedTTS
from patter_trio.testing.simulation.caller import SimulatedCaller
from tests.kit.call import Backend, agent_of, edges, hangs_up_in_time, transcripts_of

pytestmark = [pytest.mark.both_backends, pytest.mark.all_carriers]

LONG = "Our house was built in eighteen hundred and five by a miller."


async def greeted(caller: SimulatedCaller, over_at: float, text: str = "Stop") -> None:
    """Let the greeting begin (at 0.2), and talk over it."""
    await caller.at(over_at)
    await caller.speaks(text, seconds=0.6)


@pytest.mark.parametrize("threshold_ms", [100, 250, 400])
async def test_barge_in_cuts_at_threshold_and_word_end(
    call_simulator: CallSimulator, threshold_ms: int, backend: Backend
) -> None:
    """The agent's reply ends one barge-in threshold after the speech onset, and its heard text ends at a word."""
    llm = ScriptedLLM(["Yes."])
    agent = backend.agent_of(llm=llm, first_message=LONG, barge_in_threshold_ms=threshold_ms)
    async with call_simulator(agent) as caller:
        await greeted(caller, 1.5)
        cut = await caller.heard(0)
        await caller.hears()
    at = 1.5 + threshold_ms / 1000
    assert caller.times("agent_speech_ended")[0] == pytest.approx(at)
    assert (cut.interrupted, cut.ended) == (True, pytest.approx(at))
    clears = [arrival.at for arrival in caller.carrier.arrivals if arrival.clears]
    assert clears == [pytest.approx(at)]
    # The caller, on_transcript, the history and the LLM agree on it, and it is whole words.
    assert LONG.startswith(cut.text + " ")
    assert transcripts_of(caller, "assistant")[0] == cut.text == caller.dialogue[0][1]
    assert llm.requests[0][1] == {"role": "assistant", "content": cut.text}
    assert caller.payloads("agent_speech_ended")[0]["speech_duration_ms"] == round((at - 0.2) * 1000)
    assert (len(cut.text) + 1) * 0.06 <= at - 0.2 < (len(LONG[: LONG.index(" ", len(cut.text) + 1)]) + 1) * 0.06


async def test_no_audio_of_cut_reply_follows_clear(
    call_simulator: CallSimulator,
    backend: Backend,
) -> None:
    """No audio follows the clear, 250 ms after the onset, until the next reply begins, however fast the TTS is."""
    agent = backend.agent_of("Fine.", first_message=LONG * 5, tts=ScriptedTTS(speed=100_000.0))
    async with call_simulator(agent) as caller:
        await greeted(caller, 1.5)
        clear = next(arrival.at for arrival in caller.carrier.arrivals if arrival.clears)
        await caller.hears()
    assert clear == pytest.approx(1.75)
    between = [a for a in caller.carrier.arrivals if a.audio and clear <= a.at < caller.times("audio_out")[1]]
    assert between == []


async def test_log_has_round_trip_of_clear(
    call_simulator: CallSimulator, backend: Backend, caplog: pytest.LogCaptureFixture
) -> None:
    """At DEBUG, the log has the time from the cut to the carrier's report that its buffer is empty."""
    caplog.set_level(logging.DEBUG, "patter_trio.call")
    async with call_simulator(backend.agent_of("Fine.", first_message=LONG)) as caller:
        caller.carrier.up_delay, caller.carrier.down_delay = 0.1, 0.2
        await greeted(caller, 1.5)
        await caller.hears()
    assert "the carrier emptied its buffer in 300 ms" in caplog.text


async def test_barge_in_cuts_tail_still_in_playout(call_simulator: CallSimulator, backend: Backend) -> None:
    """A barge-in cuts the tail that the carrier still plays after the agent has sent everything."""
    async with call_simulator(backend.agent_of("Sure.", first_message="Good evening, what may I do?")) as caller:
        await caller.at(1.4)  # all of it was sent 0.4 s before its end at 1.88
        sent = max(arrival.at for arrival in caller.carrier.arrivals if arrival.audio)
        assert sent < 1.55
        await greeted(caller, 1.55)
        cut = await caller.heard(0)
        assert (cut.interrupted, cut.ended, cut.text) == (True, pytest.approx(1.8), "Good evening, what may I")
        await caller.hears()
    assert transcripts_of(caller, "assistant") == ["Good evening, what may I", "Sure."]


async def test_zero_threshold_disables_barge_in_and_keeps_speech(
    call_simulator: CallSimulator, backend: Backend
) -> None:
    """A barge-in threshold of 0 disables barge-in, and the agent answers the caller's speech afterwards."""
    async with call_simulator(backend.agent_of("Sure.", first_message=LONG, barge_in_threshold_ms=0)) as caller:
        await greeted(caller, 1.0, "A room please")
        greeting = await caller.heard(0)
        answer = await caller.heard(1)
    assert (greeting.text, greeting.interrupted) == (LONG, False)
    assert answer.text == "Sure."
    assert [name for _, name in edges(caller) if name == "agent_speech_ended"] == ["agent_speech_ended"] * 2
    assert caller.dialogue == [("assistant", LONG), ("user", "A room please"), ("assistant", "Sure.")]
    assert caller.times("user_speech_eos")[0] == pytest.approx(greeting.ended)


@pytest.mark.pipeline("the STT counts words")
async def test_with_min_words_it_takes_words(call_simulator: CallSimulator) -> None:
    """With barge_in_min_words=2 one word does not cut the agent's speech, and the second word does."""
    agent = agent_of("Sure.", first_message=LONG * 2, barge_in_min_words=2, stt=ScriptedSTT(interim_every=0.1))
    async with call_simulator(agent) as caller:
        await greeted(caller, 1.0, "Hm")
        await caller.at(3.0)
        assert caller.times("agent_speech_ended") == []
        await caller.speaks("Stop it now", seconds=0.6, wait=False)
        cut = await caller.heard(0)
        await caller.heard(1)
    assert cut.interrupted
    assert 3.25 < cut.ended < 3.6  # with the second word
    assert transcripts_of(caller, "user")[-1].endswith("Stop it now")


@pytest.mark.pipeline("only an STT tells a cough from words")
async def test_cough_before_first_audio_keeps_answer(call_simulator: CallSimulator) -> None:
    """A cough before the first audio of an answer delays the answer and does not cancel it."""
    llm = ScriptedLLM(["Nine to five."], first_token=0.5)
    async with call_simulator(agent_of(llm=llm)) as caller:
        await caller.speaks("Your hours?", seconds=1.0)
        await caller.at(1.9)
        await caller.coughs(0.4)
        reply = await caller.hears()
    assert (reply.text, reply.interrupted) == ("Nine to five.", False)
    assert reply.started >= 2.3  # not over the cough
    assert len(llm.requests) == 1
    assert len(caller.times("user_speech_eos")) == 1


@pytest.mark.pipeline("only an STT tells a cough from words")
async def test_cough_over_agent_cuts_without_a_turn(call_simulator: CallSimulator) -> None:
    """A cough over the agent cuts the reply and starts no turn."""
    async with call_simulator(agent_of("Sure.", first_message=LONG)) as caller:
        await caller.at(1.0)
        await caller.coughs(0.2)  # shorter than the threshold
        assert caller.times("agent_speech_ended") == []
        greeting = await caller.heard(0)
        await caller.waits(3.0)
    assert greeting.text == LONG or greeting.interrupted
    assert caller.times("user_speech_eos") == []
    assert [role for role, _ in caller.dialogue] == ["assistant"]


async def test_twice_in_a_row(call_simulator: CallSimulator, backend: Backend) -> None:
    """Two barge-ins in a row cut two replies, and the third reply plays to its end, each in its own turn."""
    async with call_simulator(backend.agent_of(LONG, LONG, "Fine.")) as caller:
        await caller.speaks("Tell me", seconds=0.5)
        for _ in range(2):
            await caller.waits(2.0)
            await caller.speaks("Stop", seconds=0.6)
        last = await caller.heard(2)
    assert [heard.interrupted for heard in caller.utterances] == [True, True, False]
    assert last.text == "Fine."
    assert [payload["turn_idx"] for payload in caller.payloads("agent_speech_ended")] == [1, 2, 3]
    assert [role for role, _ in caller.dialogue] == ["user", "assistant"] * 3


# What the application says --------------------------------------------------------------------------------------------
async def test_say_waits_for_current_speech_and_keeps_turn(call_simulator: CallSimulator, backend: Backend) -> None:
    """A say waits for the current speech and keeps the caller's turn."""
    phone = Patter()

    def on_transcript(event: dict[str, Any]) -> None:
        if event["role"] == "user":
            [call] = phone.calls
            call.say("First.")
            call.say("Second.")
            assert call.history == event["history"]

    async with call_simulator(backend.agent_of("Answer."), phone=phone, on_transcript=on_transcript) as caller:
        await caller.speaks("Hello", seconds=0.5)
        for text in ("Answer.", "First.", "Second."):
            assert (await caller.hears()).text == text
    assert [payload["turn_idx"] for payload in caller.payloads("agent_speech_started")] == [1, 1, 1]
    assert len(caller.times("llm_token")) == len(caller.times("audio_out")) == 1


async def test_say_with_interrupt_cuts_what_is_being_said(call_simulator: CallSimulator, backend: Backend) -> None:
    """A say with interrupt=True cuts the current speech at once and is heard 0.2 s later."""
    phone = Patter()
    async with call_simulator(backend.agent_of(first_message=LONG), phone=phone) as caller:
        await caller.at(1.0)
        phone.calls[0].say("Fire!", interrupt=True)
        cut, alarm = await caller.heard(0), await caller.heard(1)
    assert (cut.interrupted, cut.ended) == (True, pytest.approx(1.0))
    assert (alarm.text, alarm.interrupted, alarm.started) == ("Fire!", False, pytest.approx(1.2))


async def test_uninterruptible_speech_finishes_before_question_is_answered(
    call_simulator: CallSimulator,
    backend: Backend,
) -> None:
    """Uninterruptible speech plays to its end, and the agent answers the caller's question afterwards."""
    phone = Patter()
    async with call_simulator(backend.agent_of("Sure."), phone=phone) as caller:
        await caller.at(0.1)
        phone.calls[0].say("This call is recorded for training.", interruptible=False)
        await greeted(caller, 0.8, "A room please")
        notice, answer = await caller.heard(0), await caller.heard(1)
    assert (notice.text, notice.interrupted) == ("This call is recorded for training.", False)
    assert answer.text == "Sure."


async def test_say_from_every_callback_and_after_the_end(call_simulator: CallSimulator, backend: Backend) -> None:
    """A say from a speech callback follows the reply; after the call's end it raises CallEnded."""
    phone, late = Patter(), []

    async def on_call_end(event: dict[str, Any]) -> None:
        try:
            kept[0].say("Too late")
        except CallEnded as error:
            late.append(str(error))

    async def on_call_start(event: dict[str, Any]) -> None:
        assert phone.calls == ()  # announced, and not there yet

    phone.on_user_speech_eos = lambda event: phone.calls[0].say("Is that all?")
    async with call_simulator(
        backend.agent_of("Sure."), phone=phone, on_call_end=on_call_end, on_call_start=on_call_start
    ) as c:
        await c.waits(0.1)
        kept = phone.calls
        kept[0].data["customer"] = 7
        assert phone.calls[0].data == {"customer": 7}
        assert repr(kept[0]) == f"<CallControl {c.carrier.call_id}>"
        assert repr(phone._live[c.carrier.call_id]).startswith(
            f"<CallSession {c.carrier.call_id} inbound, <TurnMachine turn 0,"
        )
        await c.speaks("Hello", seconds=0.5)
        assert [(await c.hears()).text for _ in range(2)] == ["Sure.", "Is that all?"]
    assert late == [f"call {c.carrier.call_id} is over (caller_hung_up)"]


async def test_hang_up_from_a_callback_cuts_nothing(call_simulator: CallSimulator, backend: Backend) -> None:
    """A hang-up when the agent begins to speak ends the call after the whole reply."""
    phone = Patter()
    phone.on_agent_speech_started = lambda event: phone.calls[0].hang_up()
    async with call_simulator(backend.agent_of("That is all, goodbye."), phone=phone) as caller:
        await caller.speaks("Bye", seconds=0.5)
        reply = await caller.hears()
        await caller.carrier.over.wait()
    assert (reply.text, reply.interrupted, caller.outcome) == ("That is all, goodbye.", False, "agent_hung_up")


async def test_a_goodbye_has_ten_seconds(call_simulator: CallSimulator, backend: Backend) -> None:
    """A hang-up waits for the current speech for ten seconds at most and then cuts it."""
    phone = Patter()
    agent = backend.agent_of(first_message=LONG, tts=ScriptedTTS(duration=60.0))
    async with call_simulator(agent, phone=phone) as caller:
        await caller.at(1.0)
        phone.calls[0].hang_up()
        cut = await caller.hears()
        await caller.carrier.over.wait()
    assert (cut.interrupted, cut.ended) == (True, pytest.approx(11.0))
    assert caller.carrier.ended_at == pytest.approx(11.0)


# Many at once ---------------------------------------------------------------------------------------------------------
@pytest.mark.deep
async def test_twenty_concurrent_calls_share_no_words_or_state(
    call_simulator: CallSimulator, backend: Backend, deep: bool
) -> None:
    """Twenty concurrent calls, four by default, share no words, interruptions, history or state."""
    count = 20 if deep else 4
    phone, ends = Patter(), {}

    def reply(messages: Any) -> str:
        return f"You said {messages[-1]['content']}, to me."

    agent = backend.agent_of(llm=ScriptedLLM(reply), first_message="Line {line}.", variables={"line": "one"})
    said: dict[str, list[str]] = {}

    async def on_call_end(event: dict[str, Any]) -> None:
        ends[event["call_id"]] = event

    async def on_call_start(event: dict[str, Any]) -> dict[str, Any]:
        return {"variables": {"line": event["call_id"][-2:]}}

    async def call(number: int) -> None:
        await trio.sleep(0.05 * number)
        async with call_simulator(agent, phone=phone, on_call_end=on_call_end, on_call_start=on_call_start) as caller:
            name = caller.carrier.call_id
            assert (await caller.hears()).text == f"Line {name[-2:]}."
            for turn in range(2):
                await caller.speaks(f"number {name[-2:]} turn {turn}", seconds=1.2)
                await caller.waits(0.8 + 0.02 * number)
                if number % 2:
                    await caller.speaks(f"stop {name[-2:]}", seconds=0.7)
                assert caller.carrier.call_id in [live.call_id for live in phone.calls]
                await caller.hears()
            said[name] = [one.text for one in caller.said]
            assert phone.conversation_state == phone.calls[-1].conversation_state
            await hangs_up_in_time(caller)

    async with trio.open_nursery() as nursery:
        for number in range(count):
            nursery.start_soon(call, number)
    assert len(ends) == len(said) == count
    for name, event in ends.items():
        others = [other[-2:] for other in ends if other != name]
        texts = [entry["text"] for entry in event["transcript"]]
        assert texts[0] == f"Line {name[-2:]}."
        assert " ".join(said[name]) == " ".join(e["text"] for e in event["transcript"] if e["role"] == "user")
        assert not [text for text in texts for other in others if f" {other} " in f" {text} "]


async def test_phone_conversation_state_is_newest_calls_state(call_simulator: CallSimulator, backend: Backend) -> None:
    """The phone's conversation state is a copy of the state of the newest call."""
    phone = Patter()
    agent = backend.agent_of("Yes.", tts=ScriptedTTS(duration=3.0))
    async with call_simulator(agent, phone=phone) as older:
        await older.speaks("Hello", seconds=0.5)
        await older.at(2.5)
        assert phone.conversation_state["agent"] == "speaking"
        async with call_simulator(agent, phone=phone) as newer:
            await newer.waits(0.1)
            assert phone.conversation_state == {"user": "listening", "agent": "idle"}
            assert [call.conversation_state["agent"] for call in phone.calls] == ["speaking", "idle"]
            snapshot = phone.conversation_state
            snapshot["agent"] = "spoiled"
            phone.calls[0].conversation_state["agent"] = "spoiled"
            assert phone.conversation_state["agent"] == "idle"
            await hangs_up_in_time(newer)
            await newer.waits(0.01)
            assert phone.conversation_state["agent"] == "speaking"
