"""Whole calls whose agent is OpenAI's Realtime API, which a server of ours plays on loopback; in virtual time."""

from __future__ import annotations

import logging
from typing import Any

import attrs
import pytest
import trio

from patter_trio import Patter, Tool, end_call
from patter_trio.abc import ToolCall
from patter_trio.testing import ScriptedTTS, ScriptedVAD
from patter_trio.testing.servers.openai_realtime import Asked, RealtimeReply, RealtimeServerConnection
from patter_trio.wire.openai_realtime import SemanticVAD, ServerVAD
from tests.kit.depth import few
from tests.kit.realtime import KEY, SORRY, Simulator, agent_of, items_of, serve, shown

BARGE_IN = 0.05
"""Seconds from the decision to cut a reply until the request reaches the vendor."""
YES = RealtimeReply(text="Yes.", seconds=0.6)
HOURS = RealtimeReply(text="From seven to ten, every day of the week.", seconds=4.0)
LONG = RealtimeReply(text="We open at seven. We close at ten. On Sundays we rest.", seconds=9.0)


def statuses(connection: RealtimeServerConnection) -> list[str]:
    return [event["response"]["status"] for _, event in connection.events("response.done")]


async def test_a_conversation_of_two_turns_over_one_connection(call_simulator: Simulator) -> None:
    """A call of two turns has both in its transcript and uses one connection."""
    async with serve(replies=[HOURS, YES]) as vendor:
        async with call_simulator(agent_of(vendor)) as caller:
            await caller.waits(1)
            await caller.speaks("What are your hours?", 1.0)
            await caller.hears()
            await caller.speaks("Thank you", 0.6)
            await caller.hears()
        assert caller.dialogue == [
            ("user", "What are your hours?"),
            ("assistant", "From seven to ten, every day of the week."),
            ("user", "Thank you"),
            ("assistant", "Yes."),
        ]
        assert len(vendor.connections) == 1
        assert caller.outcome == "caller_hung_up"


async def test_prompt_and_overrides_reach_the_vendor(
    call_simulator: Simulator,
) -> None:
    """The vendor gets the filled prompt and the overrides of on_call_start."""

    def start(event: dict[str, Any]) -> dict[str, Any]:
        return {
            "voice": "cedar",
            "system_prompt": "You are {name}.",
            "variables": {"name": "Ida"},
            "language": "sv-SE",
            "tools": [tool_of("weather", lambda arguments, context: "cold")],
        }

    async with serve(replies=[YES]) as vendor:
        async with call_simulator(agent_of(vendor), on_call_start=start) as caller:
            await caller.speaks("Hello", 0.6)
            await caller.hears()
        session = vendor.connections[0].session
        assert session["instructions"].startswith("This is a telephone call in Swedish (sv-SE).")
        assert session["instructions"].endswith("\n\nYou are Ida.")
        assert session["audio"]["output"]["voice"] == "cedar"
        assert session["audio"]["input"]["transcription"]["language"] == "sv"
        assert [tool["name"] for tool in session["tools"]] == ["weather"]


async def test_the_answer_begins_when_the_vendor_does(call_simulator: Simulator) -> None:
    """The request leaves 0.5 s after the voice, and the answer begins 0.4 s later, with the vendor's audio."""
    reply = attrs.evolve(YES, first_audio=0.4)
    async with serve(replies=[reply]) as vendor:
        async with call_simulator(agent_of(vendor, agent={"endpointing_ms": 500})) as caller:
            await caller.at(1.0)
            await caller.speaks("Is there a room?", 1.0)
            answer = await caller.hears()
        [asked] = vendor.connections[0].sent("response.create")
        assert asked[0] - caller.carrier.media_start == pytest.approx(2.5, abs=0.021)
        assert answer.started == pytest.approx(asked[0] - caller.carrier.media_start + 0.4, abs=0.025)


# Barge-in -------------------------------------------------------------------------------------------------------------
async def test_barge_in_truncates_completed_answer_to_heard(call_simulator: Simulator) -> None:
    """A barge-in on an answer that the vendor has completed truncates it at once to what the caller heard."""
    async with serve(replies=[LONG, YES]) as vendor:
        async with call_simulator(agent_of(vendor)) as caller:
            await caller.speaks("What are your hours?", 1.0)
            await caller.waits(3.0)
            await caller.speaks("And on Sundays?", 1.0)
            first = await caller.heard(0)
            second = await caller.heard(1)
        [connection] = vendor.connections
        assert first.interrupted
        assert second.text == "Yes."
        [(cut_at, cut)] = connection.sent("conversation.item.truncate")
        decided = caller.times("agent_speech_ended")[0]
        assert 0 <= cut_at - caller.carrier.media_start - decided <= BARGE_IN
        assert cut["audio_end_ms"] / 1000 == pytest.approx(first.ended - first.started, abs=0.04)
        order = [kind for kind in connection.types() if kind != "session.update"]
        assert order[:3] == ["input_audio_buffer.commit", "response.create", "conversation.item.truncate"]
        assert not connection.events("error")
        assert caller.dialogue[1][0] == "assistant"
        assert LONG.text.startswith(caller.dialogue[1][1])
        assert caller.dialogue[1][1] != LONG.text


async def test_barge_in_stops_vendor_in_mid_answer(call_simulator: Simulator) -> None:
    """A barge-in while the vendor is still producing the answer cancels and truncates it."""
    slow = attrs.evolve(LONG, speed=1.5)
    async with serve(replies=[slow, YES]) as vendor:
        async with call_simulator(agent_of(vendor)) as caller:
            await caller.speaks("What are your hours?", 1.0)
            await caller.waits(2.5)
            await caller.speaks("And on Sundays?", 1.0)
            first = await caller.heard(0)
            await caller.heard(1)
        [connection] = vendor.connections
        [(cancelled_at, _)] = connection.sent("response.cancel")
        [(cut_at, cut)] = connection.sent("conversation.item.truncate")
        decided = caller.carrier.media_start + caller.times("agent_speech_ended")[0]
        assert 0 <= cancelled_at - decided <= BARGE_IN
        assert cancelled_at <= cut_at <= decided + BARGE_IN
        assert connection.types().index("response.cancel") < connection.types().index("conversation.item.truncate")
        assert cut["audio_end_ms"] / 1000 == pytest.approx(first.ended - first.started, abs=0.04)
        assert statuses(connection) == ["cancelled", "completed"]
        assert not connection.events("error")


async def test_unheard_answer_leaves_vendor_conversation(call_simulator: Simulator) -> None:
    """An answer that the caller interrupts before its first sound leaves the vendor's conversation."""
    slow = attrs.evolve(LONG, first_audio=1.5)
    async with serve(replies=[slow, YES]) as vendor:
        async with call_simulator(agent_of(vendor)) as caller:
            await caller.speaks("What are your hours", 1.0)
            await caller.waits(1.2)
            await caller.speaks("on Sundays?", 1.0)
            await caller.hears()
        [connection] = vendor.connections
        assert statuses(connection) == ["cancelled", "completed"]
        assert [text for role, text in connection.texts() if role == "assistant"] == ["Yes."]
        assert caller.dialogue[-1] == ("assistant", "Yes.")


async def test_answer_cut_before_creation_is_cancelled(
    call_simulator: Simulator,
) -> None:
    """An answer that is cut before the vendor begins it is cancelled when it begins."""
    slow = attrs.evolve(LONG, created_delay=1.6)
    async with serve(replies=[slow, YES]) as vendor:
        async with call_simulator(agent_of(vendor)) as caller:
            await caller.speaks("What are your hours", 1.0)
            await caller.waits(1.2)
            await caller.speaks("on Sundays?", 1.0)
            answer = await caller.hears()
        assert answer.text == "Yes."
        assert statuses(vendor.connections[0]) == ["cancelled", "completed"]


async def test_next_answer_follows_the_cancelled_one(call_simulator: Simulator) -> None:
    """The next answer is requested only when the cancelled one is over."""
    async with serve(replies=[attrs.evolve(LONG, speed=1.2)] * 3 + [YES]) as vendor:
        async with call_simulator(agent_of(vendor)) as caller:
            await caller.speaks("What are your hours?", 1.0)
            for _ in range(3):
                await caller.waits(2.5)
                await caller.speaks("And on Sundays?", 1.0)
            await caller.heard(3)
        [connection] = vendor.connections
        assert statuses(connection) == ["cancelled", "cancelled", "cancelled", "completed"]
        assert not connection.events("error")


# What the caller says -------------------------------------------------------------------------------------------------
async def test_silence_is_skipped_and_voice_sent_once(call_simulator: Simulator) -> None:
    """Silence is never sent to the vendor, and each voice is sent once."""
    async with serve(replies=[YES]) as vendor:
        async with call_simulator(agent_of(vendor)) as caller:
            await caller.waits(5.0)
            await caller.speaks("Is there a room?", 1.0)
            await caller.hears()
            await caller.waits(5.0)
        [connection] = vendor.connections
        seconds = len(connection.audio) / 8000
        assert seconds == pytest.approx(0.3 + 1.0 + 0.5, abs=0.1)  # 0.3 before it, and the silence that ends the turn
        assert connection.appended[0][0] - caller.carrier.media_start >= 5.0


async def test_a_cough_is_forgotten(call_simulator: Simulator) -> None:
    """A cough over the agent clears the vendor's audio buffer and causes no second answer."""
    async with serve(replies=[HOURS]) as vendor:
        async with call_simulator(agent_of(vendor, agent={"vad": ScriptedVAD(end_delay=0.05)})) as caller:
            await caller.waits(1)
            await caller.speaks("What are your hours?", 1.0)
            await caller.waits(2.0)
            await caller.coughs(0.1)
            await caller.hears()
            await caller.waits(2.0)
        [connection] = vendor.connections
        assert "input_audio_buffer.clear" in connection.types()
        assert len(vendor.asked) == 1
        assert caller.dialogue == [("user", "What are your hours?"), ("assistant", HOURS.text)]


@pytest.mark.parametrize("delay", few([0.0, 2.0, 8.0], 1))
async def test_words_that_come_late_stand_before_the_answer(call_simulator: Simulator, delay: float) -> None:
    """The caller's words stand before the answer even if the vendor sends them 8 s late."""
    async with serve(replies=[YES], transcript_delay=delay) as vendor:
        async with call_simulator(agent_of(vendor)) as caller:
            await caller.speaks("Is there a room?", 1.0)
            await caller.hears()
            await caller.waits(9.0)
        assert caller.dialogue == [("user", "Is there a room?"), ("assistant", "Yes.")]


async def test_failed_transcription_delays_no_answer(call_simulator: Simulator) -> None:
    """A failed transcription keeps neither the answer nor the call waiting."""
    async with serve(replies=[YES], transcript_fails=True) as vendor:
        async with call_simulator(agent_of(vendor)) as caller:
            await caller.speaks("Is there a room?", 1.0)
            await caller.hears()
        assert caller.dialogue == [("assistant", "Yes.")]
        assert caller.outcome == "caller_hung_up"


@pytest.mark.parametrize(
    ("detection", "text", "trigger"),
    few(
        [
            ("server_vad", "Is there a room", "vad_silence"),
            ("semantic_vad", "Is there a room?", "semantic_turn_detector"),
            (None, "Is there a room?", "vad_silence"),
        ],
        2,
    ),
)
async def test_turn_end_trigger_is_reported_once(
    call_simulator: Simulator, detection: str | None, text: str, trigger: str
) -> None:
    """The event of a turn's end names its trigger, and the turn is answered once."""
    async with serve(replies=[YES]) as vendor:
        async with call_simulator(agent_of(vendor, turn_detection=detection)) as caller:
            await caller.at(1.0)
            await caller.speaks(text, 1.0)
            await caller.hears()
            await caller.waits(12.0)
        [eos] = caller.payloads("user_speech_eos")
        assert eos["trigger"] == trigger
        assert len(vendor.asked) == 1
        assert not vendor.asked[0].by_vad
        assert caller.dialogue == [("user", text), ("assistant", "Yes.")]
        end = {"server_vad": 0.5, "semantic_vad": 0.3, None: 0.5}[detection]
        assert caller.times("user_speech_eos")[0] == pytest.approx(2.0 + end, abs=0.1)


async def test_vendor_silence_setting_is_respected(call_simulator: Simulator) -> None:
    """The turn ends only after the silence that the vendor's VAD was given."""
    async with serve(replies=[YES]) as vendor:
        async with call_simulator(agent_of(vendor, turn_detection=ServerVAD(silence=3.0))) as caller:
            await caller.at(1.0)
            await caller.speaks("Is there", 1.0)
            await caller.waits(2.5)
            await caller.speaks("a room?", 1.0)
            await caller.hears()
        assert caller.times("user_speech_eos") == [pytest.approx(5.5 + 3.0, abs=0.1)]
        assert caller.dialogue == [("user", "Is there a room?"), ("assistant", "Yes.")]
        assert vendor.connections[0].sent("input_audio_buffer.commit") == []


@pytest.mark.parametrize(
    ("detection", "patience"),
    few(
        [
            ("server_vad", 2.0),
            (ServerVAD(silence=3.0), 4.5),
            ("semantic_vad", 6.0),
            (SemanticVAD(eagerness="low"), 10.0),
            (SemanticVAD(eagerness="high"), 4.0),
        ],
        1,
    ),
)
async def test_turn_ends_without_the_vendors_word(
    call_simulator: Simulator, detection: object, patience: float
) -> None:
    """A turn that the vendor does not end is ended by our own timeout."""
    async with serve(replies=[YES]) as vendor:
        async with call_simulator(agent_of(vendor, turn_detection=detection)) as caller:
            await caller.waits(1.0)
            vendor.connections[0].session["audio"]["input"]["turn_detection"] = None  # it looks for none any more
            await caller.speaks("Is there a room?", 1.0)
            answer = await caller.hears()
        assert answer.text == "Yes."
        assert caller.times("user_speech_eos")[0] == pytest.approx(2.0 + patience, abs=0.1)
        assert caller.dialogue == [("user", "Is there a room?"), ("assistant", "Yes.")]


# Texts that are not its own -------------------------------------------------------------------------------------------
async def test_the_first_message_is_said_word_for_word(call_simulator: Simulator) -> None:
    """The engine says the first message word for word, without a conversation."""

    def said(asked: Asked) -> RealtimeReply:
        return RealtimeReply(text=asked.instructions.rpartition("\n\n")[2])

    async with serve(replies=said) as vendor:
        async with call_simulator(agent_of(vendor, agent={"first_message": "Hotel Miller, good evening."})) as caller:
            first = await caller.hears()
        assert first.text == "Hotel Miller, good evening."
        assert vendor.asked[0].items == []
        assert caller.dialogue == [("assistant", "Hotel Miller, good evening.")]


async def test_fixed_texts_use_tts_and_reach_engine(call_simulator: Simulator) -> None:
    """A TTS beside the engine says the fixed texts, and the engine gets them in its conversation."""
    agent = {"first_message": "Hotel Miller.", "tts": ScriptedTTS()}
    async with serve(replies=[YES]) as vendor:
        async with call_simulator(agent_of(vendor, agent=agent)) as caller:
            first = await caller.hears()
            await caller.speaks("Is there a room?", 1.0)
            await caller.hears()
        assert first.text == "Hotel Miller."
        assert items_of(vendor.connections[0])[0]["content"] == [{"type": "output_text", "text": "Hotel Miller."}]
        assert [role for role, _ in caller.dialogue] == ["assistant", "user", "assistant"]


async def test_say_is_verbatim_and_without_conversation(
    call_simulator: Simulator,
) -> None:
    """The engine says the application's text word for word, without the conversation."""

    def call_a_taxi(arguments: dict[str, Any], context: Any) -> str:
        context.say("Your taxi is here.")
        return "called"

    def said(asked: Asked) -> RealtimeReply:
        if "word for word" in asked.instructions:
            return RealtimeReply(text=asked.instructions.rpartition("\n\n")[2])
        return calling("call_a_taxi") if asked.number == 1 else YES

    async with serve(replies=said) as vendor:
        async with call_simulator(agent_of(vendor, agent={"tools": [tool_of("call_a_taxi", call_a_taxi)]})) as caller:
            await caller.speaks("A taxi please", 1.0)
            texts = [(await caller.hears()).text, (await caller.hears()).text]
        assert sorted(texts) == ["Yes.", "Your taxi is here."]
        [asked] = [asked for asked in vendor.asked if "word for word" in asked.instructions]
        assert asked.items == []
        assert asked.instructions.endswith("only this:\n\nYour taxi is here.")


# Tools ----------------------------------------------------------------------------------------------------------------
def tool_of(name: str, handler: Any, **options: Any) -> Tool:
    return Tool(
        name=name, description="made up", parameters={"type": "object", "properties": {}}, handler=handler, **options
    )


def calling(*names: str, text: str = "") -> RealtimeReply:
    return RealtimeReply(text=text, tool_calls=[ToolCall(f"call_{n}", name, "{}") for n, name in enumerate(names)])


async def test_tool_results_precede_the_next_answer(call_simulator: Simulator) -> None:
    """All tool results reach the vendor before the next answer is requested."""

    async def weather(arguments: dict[str, Any], context: Any) -> str:
        await trio.sleep(0.4)
        return "2 degrees"

    async def time(arguments: dict[str, Any], context: Any) -> str:
        return "noon"

    tools = [tool_of("weather", weather), tool_of("time", time)]
    async with serve(replies=[calling("weather", "time"), YES]) as vendor:
        async with call_simulator(agent_of(vendor, agent={"tools": tools})) as caller:
            await caller.speaks("Is it cold at this hour?", 1.0)
            answer = await caller.hears()
        assert answer.text == "Yes."
        [connection] = vendor.connections
        given = {item["call_id"]: item["output"] for item in items_of(connection)}
        assert given == {"call_0": "2 degrees", "call_1": "noon"}
        assert connection.types()[-4:] == [
            "response.create", "conversation.item.create", "conversation.item.create", "response.create",
        ]  # fmt: skip
        between = connection.sent("response.create")[1][0] - connection.events("response.done")[0][0]
        assert between == pytest.approx(0.4, abs=0.03)
        assert not connection.events("error")


async def test_barge_in_prevents_tool_not_yet_started(
    call_simulator: Simulator,
) -> None:
    """A tool that has not started when the caller barges in is never run."""
    ran: list[str] = []

    def book(arguments: dict[str, Any], context: Any) -> str:
        ran.append("book")
        return "booked"

    wants = attrs.evolve(calling("book", text="One moment please, I will book that."), seconds=6.0, speed=1.2)
    async with serve(replies=[wants, YES]) as vendor:
        async with call_simulator(agent_of(vendor, agent={"tools": [tool_of("book", book)]})) as caller:
            await caller.speaks("Book a room", 1.0)
            await caller.waits(2.5)
            await caller.speaks("No, wait", 1.0)
            await caller.heard(1)
        [connection] = vendor.connections
        assert not ran
        assert statuses(connection) == ["cancelled", "completed"]
        assert [item["type"] for item in connection.items if item["type"] != "message"] == []
        assert not connection.events("error")


async def test_detached_tool_result_reaches_vendor_later(call_simulator: Simulator) -> None:
    """The result of a tool that outlives a barge-in reaches the vendor when the tool is done."""

    async def book(arguments: dict[str, Any], context: Any) -> str:
        await trio.sleep(6.0)
        return "room 7"

    wants = calling("book")
    async with serve(replies=[wants, YES, YES]) as vendor:
        async with call_simulator(agent_of(vendor, agent={"tools": [tool_of("book", book)]})) as caller:
            await caller.speaks("Book a room", 1.0)
            await caller.waits(2.0)
            await caller.speaks("And a taxi", 1.0)
            await caller.hears()
            await caller.waits(6.0)
            await caller.speaks("Is it done?", 1.0)
            await caller.hears()
        [connection] = vendor.connections
        outputs = [item for item in items_of(connection) if item["type"] == "function_call_output"]
        assert [item["call_id"] for item in outputs] == ["call_0"]
        assert "room 7" not in outputs[0]["output"]
        texts = [item["content"][0]["text"] for item in items_of(connection) if item.get("role") == "system"]
        assert texts == ["The tool book has finished meanwhile: room 7"]
        assert not connection.events("error")


async def test_tool_result_after_lost_connection_is_sent_once(call_simulator: Simulator) -> None:
    """A tool that runs while the connection is lost has its result sent once to the new connection."""

    async def book(arguments: dict[str, Any], context: Any) -> str:
        await trio.sleep(3.0)
        return "room 7"

    async with serve(replies=[calling("book"), YES]) as vendor:
        async with call_simulator(agent_of(vendor, agent={"tools": [tool_of("book", book)]})) as caller:
            await caller.speaks("Book a room", 1.0)
            await caller.waits(2.0)
            await vendor.connections[0].lose()
            assert (await caller.hears()).text == "Yes."
        [_, second] = vendor.connections
        assert [item["type"] for item in items_of(second) if item["type"] != "message"][:1] == ["function_call"]
        assert (
            len([item for item in items_of(second) if item["type"] == "function_call_output"]) == 1
        )  # of a call, the most
        assert items_of(second)[-1]["content"][0]["text"] == "The tool book has given: room 7"
        assert not second.events("error")


async def test_end_call_follows_the_spoken_goodbye(call_simulator: Simulator) -> None:
    """The end_call tool hangs up after the engine's goodbye has been played."""
    async with serve(replies=[calling("end_call", text="Goodbye."), YES]) as vendor:
        async with call_simulator(agent_of(vendor, agent={"tools": [end_call]})) as caller:
            await caller.speaks("That was all.", 1.0)
            goodbye = await caller.hears()
            await caller.waits(5.0)
        assert goodbye.text == "Goodbye."
        assert not goodbye.interrupted
        assert caller.outcome == "agent_hung_up"


# Failures -------------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    "bad",
    few(
        [
            attrs.evolve(YES, first_audio=60.0),
            RealtimeReply(text="", error=("server_error", "server_error", "Sorry.")),
            RealtimeReply(text="", status="incomplete", reason="content_filter"),
        ],
        1,
    ),
)
async def test_failed_answer_gets_apology_and_call_recovers(call_simulator: Simulator, bad: RealtimeReply) -> None:
    """The agent apologises for an answer that fails, or does not begin in two attempts; the next answer succeeds."""

    def reply(asked: Asked) -> RealtimeReply:
        if SORRY in asked.instructions:
            return RealtimeReply(text=SORRY)
        return bad if asked.number <= 2 else YES

    async with serve(replies=reply) as vendor:
        async with call_simulator(agent_of(vendor, first_audio=3.0)) as caller:
            await caller.speaks("Is there a room?", 1.0)
            assert (await caller.hears()).text == SORRY
            await caller.speaks("Once more", 0.6)
            assert (await caller.hears()).text == "Yes."
        assert caller.outcome == "caller_hung_up"


async def test_stalled_answer_is_abandoned(call_simulator: Simulator) -> None:
    """An answer that stalls in the middle is cancelled, and the agent apologises."""

    def reply(asked: Asked) -> RealtimeReply:
        return RealtimeReply(text=SORRY) if SORRY in asked.instructions else attrs.evolve(LONG, hang_after=5)

    async with serve(replies=reply) as vendor:
        async with call_simulator(agent_of(vendor, between=2.0)) as caller:
            await caller.speaks("What are your hours?", 1.0)
            await caller.hears()
            assert (await caller.hears()).text == SORRY
        assert statuses(vendor.connections[0])[0] == "cancelled"


# The connection -------------------------------------------------------------------------------------------------------
async def test_connection_lost_in_mid_voice_is_unnoticed(call_simulator: Simulator) -> None:
    """A connection lost while the caller speaks is replaced, and the whole question is answered."""
    async with serve(replies=lambda asked: RealtimeReply(text=f"{asked.heard} Yes."), lose_after=(1.0,)) as vendor:
        async with call_simulator(agent_of(vendor)) as caller:
            await caller.waits(1.0)
            await caller.speaks("Is there a room with a bath?", 2.0)
            answer = await caller.hears()
        assert answer.text == "Is there a room with a bath? Yes."
        assert len(vendor.connections) == 2
        assert caller.dialogue[0] == ("user", "Is there a room with a bath?")


async def test_reconnection_between_turns_restores_conversation(call_simulator: Simulator) -> None:
    """A connection lost between turns is replaced, and the new one gets the conversation."""
    async with serve(replies=[HOURS, YES]) as vendor:
        async with call_simulator(agent_of(vendor)) as caller:
            await caller.speaks("What are your hours?", 1.0)
            await caller.hears()
            await vendor.connections[0].lose()
            await caller.waits(1.0)
            await caller.speaks("Thank you", 0.6)
            assert (await caller.hears()).text == "Yes."
        texts = [(item["role"], item["content"][0]["text"]) for item in items_of(vendor.connections[1])]
        assert texts == [("user", "What are your hours?"), ("assistant", HOURS.text)]


async def test_connection_lost_before_answer_loses_nothing(call_simulator: Simulator) -> None:
    """A connection lost between an utterance and its answer loses neither of them."""
    slow = attrs.evolve(YES, first_audio=1.0)
    async with serve(replies=[slow], transcript_delay=0.5) as vendor:
        async with call_simulator(agent_of(vendor)) as caller:
            await caller.speaks("Is there a room?", 1.0)
            while not vendor.asked:
                await caller.waits(0.02)
            await vendor.connections[0].lose()
            assert (await caller.hears()).text == "Yes."
            await caller.waits(1.0)
        assert caller.dialogue == [("user", "Is there a room?"), ("assistant", "Yes.")]


async def test_connection_lost_in_mid_reply_gets_apology(call_simulator: Simulator) -> None:
    """The agent apologises when the connection is lost in mid reply, and the call goes on."""

    def reply(asked: Asked) -> RealtimeReply:
        if SORRY in asked.instructions:
            return RealtimeReply(text=SORRY)
        return attrs.evolve(LONG, lose_after=10) if asked.connection == 0 else YES

    async with serve(replies=reply) as vendor:
        async with call_simulator(agent_of(vendor)) as caller:
            await caller.speaks("What are your hours?", 1.0)
            await caller.hears()
            assert (await caller.hears()).text == SORRY
            await caller.speaks("Once more", 0.6)
            assert (await caller.hears()).text == "Yes."
        assert caller.outcome == "caller_hung_up"


async def test_a_connection_lost_twice_is_not_heard(call_simulator: Simulator) -> None:
    """The caller notices nothing of two connection losses within some seconds."""
    async with serve(replies=[YES]) as vendor:
        async with call_simulator(agent_of(vendor)) as caller:
            await caller.waits(1.0)
            await vendor.connections[0].lose()
            await caller.waits(5.0)
            await vendor.connections[1].lose()
            await caller.speaks("Is there a room?", 1.0)
            assert (await caller.hears()).text == "Yes."
        assert caller.outcome == "caller_hung_up"


@pytest.mark.parametrize("seconds", few([0.3, 1.0, 6.0], 1))
async def test_engine_answers_after_an_outage(
    call_simulator: Simulator, seconds: float, caplog: pytest.LogCaptureFixture
) -> None:
    """A question that was asked in an outage is answered when it is over, and the log has one warning."""
    async with serve(replies=lambda asked: RealtimeReply(text=f"{asked.heard} Yes.")) as vendor:
        async with call_simulator(agent_of(vendor)) as caller:
            await caller.waits(1.0)
            good, vendor.script = vendor.script, attrs.evolve(vendor.script, status=503)
            await vendor.connections[0].lose()
            began = trio.current_time()
            await caller.speaks("Is there a room?", 1.0)
            await trio.sleep_until(began + seconds)
            vendor.script = good
            assert (await caller.hears()).text == "Is there a room? Yes."
        assert caller.dialogue == [("user", "Is there a room?"), ("assistant", "Is there a room? Yes.")]
    warned = [record.name for record in caplog.records if record.levelname == "WARNING"]
    assert warned.count("patter_trio.engines") == 1


async def test_frozen_engine_is_replaced_before_the_answer(call_simulator: Simulator) -> None:
    """The caller of an engine that freezes is answered some 3 s later, without an apology."""
    async with serve(replies=[YES]) as vendor:
        async with call_simulator(agent_of(vendor)) as caller:
            await caller.waits(1.0)
            vendor.connections[0].frozen = True
            said = await caller.speaks("Is there a room?", 1.0)
            heard = await caller.hears()
            assert heard.text == "Yes."
            assert heard.started - said.ended <= 3.0 + 1.5
        assert caller.dialogue == [("user", "Is there a room?"), ("assistant", "Yes.")]


@pytest.mark.costly
async def test_engine_gone_for_good_fails_the_call(call_simulator: Simulator) -> None:
    """An engine that cannot be reached again for 10 s ends the call as failed, with the reason."""
    ends: list[Any] = []
    async with serve(replies=[YES]) as vendor:
        async with call_simulator(agent_of(vendor), on_call_end=ends.append) as caller:
            await caller.waits(1.0)
            vendor.script = attrs.evolve(vendor.script, status=503)
            await vendor.connections[0].lose()
            await caller.waits(9.0)
            assert not caller.outcome
            await caller.waits(15.0)
        assert caller.outcome == "failed"
    assert "OpenAI did not work for 10 s: " in ends[0]["error"]


async def test_a_session_that_expires_is_replaced_unheard(call_simulator: Simulator) -> None:
    """A session that expires is replaced, and the caller notices nothing."""
    async with serve(replies=[YES], expires_after=4.0) as vendor:
        async with call_simulator(agent_of(vendor)) as caller:
            await caller.waits(5.0)
            await caller.speaks("Is there a room?", 1.0)
            assert (await caller.hears()).text == "Yes."
        assert len(vendor.connections) == 2
        assert caller.outcome == "caller_hung_up"


async def test_a_long_call_renews_its_connection_between_turns(call_simulator: Simulator) -> None:
    """A call renews its connection between two turns, and the new one gets the conversation so far."""
    async with serve(replies=[HOURS, YES]) as vendor:
        async with call_simulator(agent_of(vendor, renew_after=5.0)) as caller:
            await caller.speaks("What are your hours?", 1.0)
            assert (await caller.hears()).text == HOURS.text
            assert len(vendor.connections) == 1
            await caller.waits(2.0)
            await caller.speaks("Thank you", 0.6)
            assert (await caller.hears()).text == "Yes."
        assert [connection.number for connection in vendor.connections] == [0, 1]
        texts = [(item["role"], item["content"][0]["text"]) for item in items_of(vendor.connections[1])]
        assert texts == [("user", "What are your hours?"), ("assistant", HOURS.text)]


@pytest.mark.parametrize(
    "script",
    few(
        [
            {"status": 401},
            {"status": 429},
            {"half_open": True},
            {"mute": True},
            {"opens_with": ("server_error", "server_error", "Sorry.")},
            {"garbage": ("}{",) * 120},
        ],
        2,
    ),
)
async def test_missing_session_fails_the_call(
    call_simulator: Simulator, caplog: pytest.LogCaptureFixture, script: dict[str, Any]
) -> None:
    """A call whose vendor gives no session fails, and the log does not show the key."""
    caplog.set_level(logging.DEBUG)
    async with serve(**script) as vendor:
        async with call_simulator(agent_of(vendor)) as caller:
            await caller.waits(30.0)
            assert caller.times("call_end")
        assert caller.outcome == "failed"
        assert KEY not in caplog.text


# The end --------------------------------------------------------------------------------------------------------------
async def test_hang_up_in_mid_voice_keeps_last_words(call_simulator: Simulator) -> None:
    """The last words of a caller who hangs up in mid voice enter the transcript."""
    async with serve(replies=[YES]) as vendor:
        async with call_simulator(agent_of(vendor)) as caller:
            await caller.waits(1.0)
            await caller.speaks("Never mind, I will", 1.0)
            await caller.waits(0.02)  # the frame with the last of it comes at its end
            hung_up = caller.now
            await caller.hangs_up()
            await caller.waits(2.0)
            assert caller.times("call_end")[0] - hung_up <= 1.0
        assert caller.dialogue == [("user", "Never mind, I will")]
        assert vendor.connections[0].ended_at - caller.carrier.media_start - hung_up <= 1.0


PRICES = {
    "openai_realtime": {
        "unit": "token",
        "models": {
            "gpt-realtime-2.1": {
                "input": 1,
                "output": 10,
                "cache_read": 100,
                "audio_input": 1000,
                "audio_output": 10000,
            },
            "gpt-x": {"audio_input": 1.0, "input": 1.0, "output": 10.0},
        },
    }
}
USED = {
    "input_tokens": 60, "output_tokens": 70, "total_tokens": 130,
    "input_token_details": {
        "text_tokens": 20, "audio_tokens": 40, "cached_tokens": 5,
        "cached_tokens_details": {"text_tokens": 5, "audio_tokens": 0},
    },
    "output_token_details": {"text_tokens": 10, "audio_tokens": 60},
}  # fmt: skip


async def test_each_kind_of_token_is_charged_once(call_simulator: Simulator) -> None:
    """The cost of a call counts each kind of token once, those from the cache at their own price."""
    async with serve(replies=[attrs.evolve(HOURS, usage=USED)]) as vendor:
        agent = agent_of(vendor, transcription="gpt-x")
        async with call_simulator(agent, phone=Patter(pricing=PRICES)) as caller:
            await caller.speaks("What are your hours?", 1.0)
            await caller.hears()
        assert caller.metrics is not None
        cost = caller.metrics.cost
        assert cost.llm * 1e6 == pytest.approx(15 * 1 + 10 * 10 + 5 * 100 + 40 * 1000 + 60 * 10000)
        assert cost.stt * 1e6 == pytest.approx(14 * 1 + 4 * 10)
        assert cost.tts == 0


async def test_two_calls_at_once_have_a_connection_each(call_simulator: Simulator) -> None:
    """Two concurrent calls have a connection each and get their own answers."""
    async with serve(replies=lambda asked: RealtimeReply(text=f"You said {asked.heard}")) as vendor:
        agent = agent_of(vendor)
        async with call_simulator(agent) as one, call_simulator(agent) as other:
            await one.speaks("Hello", 0.6, wait=False)
            await other.speaks("Goodbye", 0.6)
            assert ((await one.hears()).text, (await other.hears()).text) == ("You said Hello", "You said Goodbye")
        assert len(vendor.connections) == 2
        assert all("Authorization" not in shown(connection) for connection in vendor.connections)
