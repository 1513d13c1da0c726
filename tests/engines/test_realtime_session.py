"""A session with OpenAI's Realtime API alone: what goes over the wire, in which order, and what follows a break."""

from __future__ import annotations

import json
import logging
from collections.abc import Sequence
from functools import partial

import attrs
import pytest
import trio
from trio.testing import MockClock

from patter_trio import AuthenticationError, ConfigurationError, OpenAIRealtime, ProviderError, ProviderTimeout
from patter_trio.abc import (
    EngineSetup,
    EngineTurnOver,
    EngineWords,
    Message,
    ToolCall,
    ToolDefinition,
    Usage,
    VoiceEdge,
)
from patter_trio.abc._usage import usage_sink
from patter_trio.audio.g711 import silence
from patter_trio.engines.openai_realtime import _connection, _response, _session, _utterances
from patter_trio.engines.openai_realtime._utterances import CommittedUtterances
from patter_trio.errors import RateLimitError
from patter_trio.providers.outage import OUTAGE_TIMEOUT_S
from patter_trio.testing.scripted_providers import audible_text
from patter_trio.testing.servers.openai_realtime import RealtimeReply
from patter_trio.wire import openai_realtime as wire
from patter_trio.wire.openai_realtime import SemanticVAD, ServerVAD
from tests.kit.realtime import (
    FRAME,
    KEY,
    SILENCE_BYTE,
    answered,
    bare,
    engine_of,
    items_of,
    line_of,
    sent_after,
    serve,
    shown,
    taken,
)

TEN = RealtimeReply(text="One two three four five six seven eight nine ten.", seconds=10.0, first_audio=0.5, chunk=0.2)
BRIEF = RealtimeReply(text="Yes.", seconds=1.0, first_audio=0.2)
WEATHER = ToolDefinition("weather", "What the weather is like.", {"type": "object", "properties": {}})


# Setting up -----------------------------------------------------------------------------------------------------------
async def test_first_message_configures_the_whole_session(autojump_clock: MockClock) -> None:
    """The first message to the vendor holds the whole configuration of the session."""
    async with serve() as vendor:
        engine = engine_of(
            vendor, voice="cedar", transcription="gpt-x", noise_reduction="near_field", max_output_tokens=300,
            parallel_tool_calls=False, speed=1.2, reasoning_effort="low", turn_detection=ServerVAD(silence=0.7),
        )  # fmt: skip
        async with line_of(engine, instructions="Be kind.", tools=[WEATHER]):
            pass
        [connection] = vendor.connections
        [(_, update)] = connection.sent("session.update")
        assert update["session"] == {
            "type": "realtime",
            "output_modalities": ["audio"],
            "instructions": "Be kind.",
            "audio": {
                "input": {
                    "format": {"type": "audio/pcmu"},
                    "turn_detection": {
                        "type": "server_vad", "threshold": 0.5, "prefix_padding_ms": 300, "silence_duration_ms": 700,
                        "create_response": False, "interrupt_response": False,
                    },
                    "noise_reduction": {"type": "near_field"},
                    "transcription": {"model": "gpt-x", "language": "en"},
                },
                "output": {"format": {"type": "audio/pcmu"}, "voice": "cedar", "speed": 1.2},
            },
            "tools": [{
                "type": "function", "name": "weather", "description": "What the weather is like.",
                "parameters": {"type": "object", "properties": {}},
            }],
            "tool_choice": "auto",
            "max_output_tokens": 300,
            "parallel_tool_calls": False,
            "reasoning": {"effort": "low"},
        }  # fmt: skip
        assert connection.path == "/v1/realtime"
        assert connection.query == {"model": ["gpt-realtime-2.1"]}


@pytest.mark.parametrize("detection", ["server_vad", "semantic_vad", ServerVAD(), SemanticVAD(eagerness="high")])
async def test_the_vendor_never_answers_or_stops_by_itself(autojump_clock: MockClock, detection: object) -> None:
    """With any turn detection the session forbids the vendor to answer or to interrupt by itself."""
    async with serve() as vendor, line_of(engine_of(vendor, turn_detection=detection)):
        received = vendor.connections[0].session["audio"]["input"]["turn_detection"]
        assert (received["create_response"], received["interrupt_response"]) == (False, False)


@pytest.mark.parametrize(
    ("option", "value"),
    [
        ("turn_detection", "vad"), ("turn_detection", 0.5), ("noise_reduction", "wind"), ("max_output_tokens", 0),
        ("max_output_tokens", True), ("speed", 2), ("reasoning_effort", "some"), ("base_url", "https://x"),
        ("first_audio", 0), ("between", -1), ("renew_after", 7200), ("model", 3), ("voice", None),
         ("transcription", ""),
        ("transcription", None), ("language", 7),
    ],
)  # fmt: skip
def test_an_option_that_cannot_be_is_named(option: str, value: object) -> None:
    """An invalid option of OpenAIRealtime raises a ConfigurationError that names the option."""
    with pytest.raises(ConfigurationError, match=f"OpenAIRealtime: {option}"):
        OpenAIRealtime(api_key=KEY, **{option: value})  # type: ignore[arg-type]


# How connecting fails -------------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("script", "error", "seconds"),
    [
        ({"status": 401}, AuthenticationError, 0.0),
        ({"status": 429}, RateLimitError, 0.0),
        ({"status": 503}, ProviderError, 0.0),
        ({"half_open": True}, ProviderTimeout, 10.0),
        ({"mute": True}, ProviderTimeout, 5.0),
        ({"opens_with": ("insufficient_quota", "insufficient_quota", "No money.")}, RateLimitError, 0.0),
        ({"opens_with": ("invalid_api_key", "invalid_request_error", f"Not {KEY}")}, AuthenticationError, 0.0),
        ({"refuses": {"session.update": "invalid_value"}}, ProviderError, 0.0),
        ({"garbage": ("}{",) * 120}, ProviderError, 0.0),
    ],
)
async def test_unavailable_session_raises_named_error_in_time(
    autojump_clock: MockClock, script: dict[str, object], error: type[ProviderError], seconds: float
) -> None:
    """A session that cannot be opened fails in time with the fitting error."""
    async with serve(**script) as vendor:
        began = trio.current_time()
        with pytest.raises(error) as caught:
            async with line_of(engine_of(vendor)):
                pass
        assert type(caught.value) in (error, ProviderTimeout) or issubclass(type(caught.value), error)
        assert KEY not in str(caught.value)
        assert trio.current_time() - began <= seconds + 0.1


async def test_a_wrong_key_is_refused_and_shown_nowhere(
    autojump_clock: MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    """A wrong key raises AuthenticationError and appears in no repr, error or log line."""
    caplog.set_level(logging.DEBUG)
    async with serve() as vendor:
        engine = attrs.evolve(engine_of(vendor), api_key="sk-another-secret")
        with pytest.raises(AuthenticationError) as caught:
            async with line_of(engine):
                pass
        assert "another-secret" not in repr(engine) + str(engine) + str(caught.value) + caplog.text


async def test_the_key_is_in_no_repr(autojump_clock: MockClock) -> None:
    """The API key is in the repr of neither engine, session nor response."""
    async with serve() as vendor, line_of(engine_of(vendor)) as line, line.session.respond() as response:
        assert KEY not in repr(line.session) + repr(response) + repr(engine_of(vendor))


async def test_garbage_is_skipped_and_logged_once(autojump_clock: MockClock, caplog: pytest.LogCaptureFixture) -> None:
    """Garbage from the vendor is skipped and logged once."""
    async with serve(garbage=("}{", b"\x00", '{"type": 7}', '{"type": "news"}'), replies=[BRIEF]) as vendor:
        async with line_of(engine_of(vendor)) as line:
            assert (await answered(line.session)).text == "Yes."
        assert caplog.text.count("OpenAI: ignoring an invalid message") == 1


# What is heard --------------------------------------------------------------------------------------------------------
async def test_silence_is_withheld_and_voice_gets_preroll(autojump_clock: MockClock) -> None:
    """Silence is not sent, and a voice is sent with the 300 ms before it."""
    async with serve() as vendor, line_of(engine_of(vendor)) as line:
        [connection] = vendor.connections
        await line.waits(2.0)
        assert not connection.audio
        audio = await line.says("Hello", 1.0, pause=0.3)
        line.session.commit()
        await line.waits(2.0)
        assert bytes(connection.audio) == b"\xff" * 2400 + audio + b"\xff" * 2400


async def test_voice_at_start_is_sent_with_available_preroll(autojump_clock: MockClock) -> None:
    """A voice at the very beginning is sent with as much preceding audio as exists."""
    async with serve() as vendor, line_of(engine_of(vendor)) as line:
        audio = await line.says("Hello", 1.0, pause=0.3)
        line.session.commit()
        await line.waits(0.1)
        assert bytes(vendor.connections[0].audio) == audio + b"\xff" * 2400


async def test_voice_after_commit_is_sent_with_preroll(autojump_clock: MockClock) -> None:
    """Speech after a commit is sent whole, with the 100 ms since that commit, and nothing is sent twice."""
    async with serve() as vendor, line_of(engine_of(vendor)) as line:
        first = await line.says("Hello", 1.0)
        line.session.commit()
        await line.waits(0.1)
        second = await line.says("Once more", 1.0)
        line.session.commit()
        await line.waits(0.1)
        pause = b"\xff" * 2400
        assert bytes(vendor.connections[0].audio) == first + pause + b"\xff" * 800 + second + pause
        assert [await line.words(1), await line.words(2)] == ["Hello", "Once more"]


async def test_vendor_turn_detection_gets_all_audio(autojump_clock: MockClock) -> None:
    """All audio is sent when the vendor detects the turns."""
    async with serve() as vendor, line_of(engine_of(vendor, turn_detection="server_vad")) as line:
        await line.waits(1.2)
        assert bytes(vendor.connections[0].audio) == b"\xff" * 9600


async def test_a_cough_is_cleared_and_not_answered_later(autojump_clock: MockClock) -> None:
    """A discarded cough is cleared at the vendor, and the next commit has only its own words."""
    async with serve() as vendor, line_of(engine_of(vendor)) as line:
        await line.says("ahem", 0.4)
        line.session.discard()
        await line.says("Hello", 0.6)
        assert line.session.commit() == 1
        assert await line.words(1) == "Hello"
        assert vendor.connections[0].types()[1:] == ["input_audio_buffer.clear", "input_audio_buffer.commit"]


async def test_unnoticed_voice_survives_discard(autojump_clock: MockClock) -> None:
    """A voice that has begun and is not noticed yet when a cough is discarded is heard whole."""
    async with serve() as vendor, line_of(engine_of(vendor)) as line:
        await line.says("ahem", 0.4)
        audio = audible_text.encode("Hello there", audible_text.frames_of(0.6), utterance=9)
        offset = line.samples
        await line.hears(audio[: 5 * FRAME])
        line.session.discard()
        await line.hears(audio[5 * FRAME : 10 * FRAME])
        line.session.voice(VoiceEdge(speaking=True, offset=offset))
        await line.hears(audio[10 * FRAME :])
        line.session.voice(VoiceEdge(speaking=False, offset=line.samples))
        line.session.commit()
        assert await line.words(1) == "Hello there"
        [connection] = vendor.connections
        assert bytes(connection.audio).endswith(b"\xff" * 2400 + audio)


async def test_voice_after_discarded_cough_excludes_it(autojump_clock: MockClock) -> None:
    """A voice after a discarded cough is sent without any audio of the cough."""
    async with serve() as vendor, line_of(engine_of(vendor)) as line:
        await line.says("ahem", 0.4, pause=0.1)
        line.session.discard()
        audio = await line.says("Hello there", 0.6, pause=0.2)
        line.session.commit()
        assert await line.words(1) == "Hello there"
        assert bytes(vendor.connections[0].audio).endswith(b"\xff" * 800 + audio + b"\xff" * 1600)


@pytest.mark.parametrize("detection", [None, "semantic_vad"])
async def test_noticed_voice_survives_discard(autojump_clock: MockClock, detection: str | None) -> None:
    """A voice that was noticed before a cough is discarded is heard whole."""
    async with serve() as vendor, line_of(engine_of(vendor, turn_detection=detection)) as line:
        await line.says("ahem", 0.4)
        audio = await line.begins("Hello there", 0.6)
        line.session.discard()
        await line.waits(0.2)
        line.session.voice(VoiceEdge(speaking=False, offset=line.samples))
        line.session.commit()
        assert await line.words(1) == "Hello there"
        [connection] = vendor.connections
        assert bytes(connection.audio).endswith(b"\xff" * 2400 + audio + b"\xff" * 1600)


async def test_short_utterance_is_padded_with_silence(autojump_clock: MockClock) -> None:
    """An utterance that is too short for the vendor is padded with silence."""
    async with serve() as vendor, line_of(engine_of(vendor)) as line:
        line.session.commit()
        assert await line.words(1) == ""
        assert len(vendor.connections[0].audio) == 800
        assert not vendor.connections[0].events("error")


async def test_two_pending_utterances_keep_their_words(autojump_clock: MockClock) -> None:
    """Two utterances before an answer each keep their own words."""
    async with serve(transcript_delay=2.0) as vendor, line_of(engine_of(vendor)) as line:
        await line.says("Hello", 0.6)
        first = line.session.commit()
        await line.says("are you there?", 0.8)
        second = line.session.commit()
        assert (first, second) == (1, 2)
        assert (await line.words(1), await line.words(2)) == ("Hello", "are you there?")


async def test_words_come_in_pieces_before_they_are_final(autojump_clock: MockClock) -> None:
    """The words of an utterance come as growing interim texts and then as final ones."""
    async with serve() as vendor, line_of(engine_of(vendor)) as line:
        await line.says("Is there a room", 1.0)
        line.session.commit()
        await line.words(1)
        texts = [(event.text, event.final) for _, event in line.received if not isinstance(event, EngineTurnOver)]
        pieces = ["Is", "Is there", "Is there a", "Is there a room"]
        assert texts == [*((piece, False) for piece in pieces), ("Is there a room", True)]


async def test_words_that_cannot_be_written_down_are_empty(autojump_clock: MockClock) -> None:
    """An utterance whose transcription fails gets empty words."""
    async with serve(transcript_fails=True) as vendor, line_of(engine_of(vendor)) as line:
        await line.says("Hello", 0.6)
        line.session.commit()
        assert await line.words(1) == ""


async def test_refused_commit_is_wordless_and_next_succeeds(autojump_clock: MockClock) -> None:
    """A refused commit has no words, and the next commit has its own."""
    async with serve() as vendor, line_of(engine_of(vendor, turn_detection="server_vad")) as line:
        line.session.commit()  # there is nothing in the buffer
        assert await line.words(1) == ""
        await line.says("Hello", 0.6, pause=0.3)
        line.session.commit()
        assert await line.words(2) == "Hello"


# The vendor's turns ---------------------------------------------------------------------------------------------------
async def test_vendor_turn_end_is_committed_once(autojump_clock: MockClock) -> None:
    """The vendor reports the end of a turn, and the utterance is committed once."""
    async with serve() as vendor, line_of(engine_of(vendor, turn_detection="server_vad")) as line:
        await line.says("Hello", 0.6, pause=0.7)
        over = [at for at, event in line.received if isinstance(event, EngineTurnOver)]
        assert len(over) == 1
        assert line.session.commit() == 1
        assert await line.words(1) == "Hello"
        await trio.sleep(1.0)
        assert vendor.connections[0].types() == ["session.update"]
        assert not vendor.asked


async def test_crossing_commits_are_the_same_utterance(autojump_clock: MockClock) -> None:
    """A commit that crosses the vendor's own is the same utterance and takes no words from the next one."""
    async with serve(transcript_delay=1.0) as vendor, line_of(engine_of(vendor, turn_detection="server_vad")) as line:
        await line.says("Hello", 0.6, pause=0.48)
        for _ in range(2):
            line.session.send(b"\xff" * FRAME)
        assert line.session.commit() == 1  # it is on its way when the vendor finds the same
        await trio.sleep(0.01)
        line.samples += 2 * FRAME
        await line.says("Thank you", 0.6, pause=0.3)
        assert line.session.commit() == 2
        assert [await line.words(1), await line.words(2)] == ["Hello", "Thank you"]


async def test_crossing_commit_with_more_audio_is_one_turn(autojump_clock: MockClock) -> None:
    """A commit with more audio that crosses the vendor's own joins it in one turn."""
    async with serve(transcript_delay=1.0) as vendor, line_of(engine_of(vendor, turn_detection="server_vad")) as line:
        await line.says("Hello", 0.6, pause=0.48)
        for _ in range(8):
            line.session.send(SILENCE_BYTE)
        assert line.session.commit() == 1
        assert await line.words(1) == "Hello"
        [connection] = vendor.connections
        assert len(connection.events("input_audio_buffer.committed")) == 2
        assert not [event for _, event in line.received if isinstance(event, EngineTurnOver)]


async def test_discarded_vendor_turn_is_removed(autojump_clock: MockClock) -> None:
    """A turn that the vendor committed and the session discards is removed from the vendor's conversation."""
    async with serve() as vendor, line_of(engine_of(vendor, turn_detection="server_vad")) as line:
        await line.says("ahem", 0.4, pause=0.7)
        line.session.discard()
        await line.waits(0.1)
        assert vendor.connections[0].items == []


# Answers --------------------------------------------------------------------------------------------------------------
async def test_answer_is_received_whole_with_usage(autojump_clock: MockClock) -> None:
    """An answer is received whole, and its usage is reported."""
    used: list[Usage] = []
    usage_sink.set(used.append)
    async with serve(replies=[TEN]) as vendor, line_of(engine_of(vendor)) as line:
        answer = await answered(line.session)
        assert (answer.text, answer.seconds) == (TEN.text, 10.0)
        assert [(usage.stage, usage.audio_output_tokens) for usage in used] == [("llm", 200)]
        assert vendor.connections[0].types() == ["session.update", "response.create"]


async def test_transcription_usage_names_its_model(autojump_clock: MockClock) -> None:
    """The usage of a transcription is reported under the name of the transcribing model."""
    used: list[Usage] = []
    usage_sink.set(used.append)
    async with serve() as vendor, line_of(engine_of(vendor, transcription="gpt-x")) as line:
        await line.says("Hello there", 0.6)
        line.session.commit()
        await line.words(1)
        assert [(usage.stage, usage.model, usage.audio_input_tokens) for usage in used] == [("stt", "gpt-x", 12)]


async def test_fixed_text_is_verbatim_without_conversation(autojump_clock: MockClock) -> None:
    """A fixed text is said word for word, without the conversation and without tools."""
    async with serve(replies=[BRIEF]) as vendor, line_of(engine_of(vendor), tools=[WEATHER]) as line:
        line.session.remember({"role": "user", "content": "Sing!"})
        await answered(line.session, "Good morning.")
        [asked] = vendor.asked
        assert asked.items == []
        assert asked.instructions.endswith("only this:\n\nGood morning.")
        [(_, create)] = vendor.connections[0].sent("response.create")
        assert create["response"]["tool_choice"] == "none"


async def test_left_answer_is_cancelled_and_truncated(
    autojump_clock: MockClock,
) -> None:
    """An answer that is left is cancelled at once and truncated to what the caller heard."""
    async with serve(replies=[TEN]) as vendor, line_of(engine_of(vendor)) as line:
        async with line.session.respond() as response:
            await taken(response, until=2.0)
        left = trio.current_time()
        response.heard(1.2345)
        await trio.sleep(0.05)
        [connection] = vendor.connections
        assert sent_after(connection, left) == ["response.cancel", "conversation.item.truncate"]
        assert bare(connection.sent("conversation.item.truncate")) == [
            {"item_id": connection.items[0]["id"], "content_index": 0, "audio_end_ms": 1234}
        ]
        assert connection.events("conversation.item.truncated")
        assert not connection.events("error")


async def test_truncation_never_exceeds_received_audio(autojump_clock: MockClock) -> None:
    """The truncation point never exceeds the audio that was received."""
    async with serve(replies=[TEN]) as vendor, line_of(engine_of(vendor)) as line:
        async with line.session.respond() as response:
            answer = await taken(response, until=0.4)
        response.heard(60.0)
        await trio.sleep(0.05)
        [cut] = bare(vendor.connections[0].sent("conversation.item.truncate"))
        assert cut["audio_end_ms"] == answer.seconds * 1000
        assert not vendor.connections[0].events("error")


@pytest.mark.parametrize(
    ("seconds", "expected"),
    [
        (0.0005, ["delete first", "delete second"]),
        (0.000999, ["delete first", "delete second"]),
        (0.001, ["first to 1 ms", "delete second"]),
        (0.5, ["first to 500 ms", "delete second"]),
        (1.0, ["first to 1000 ms", "delete second"]),
        (1.000625, ["first to 1000 ms", "delete second"]),
        (1.002, ["first to 1000 ms", "second to 2 ms"]),
    ],
)
async def test_item_heard_under_1_ms_is_deleted(autojump_clock: MockClock, seconds: float, expected: list[str]) -> None:
    """An item that was heard for less than a millisecond is deleted, because truncating it would leave it empty."""
    sent: list[str] = []
    response = _response.RealtimeResponse("r", "{}", sent.append, (5.0, 5.0))
    for item in ("first", "second"):
        response.take(wire.AudioDelta("resp", item, bytes(8000)))
    response.heard(seconds)
    messages = [json.loads(message) for message in sent]
    assert messages[0]["type"] == "response.cancel"
    assert [
        f"delete {one['item_id']}"
        if one["type"] == "conversation.item.delete"
        else f"{one['item_id']} to {one['audio_end_ms']} ms"
        for one in messages[1:]
    ] == expected


@pytest.mark.parametrize("seconds", [0.0, 0.0005, -1.0])
async def test_unheard_answer_is_removed(autojump_clock: MockClock, seconds: float) -> None:
    """An answer that the caller did not hear at all is removed from the vendor's conversation."""
    async with serve(replies=[TEN]) as vendor, line_of(engine_of(vendor)) as line:
        async with line.session.respond() as response:
            await taken(response, until=0.4)
        response.heard(seconds)
        await trio.sleep(1.0)
        assert vendor.connections[0].items == []


async def test_complete_answer_is_truncated_not_cancelled(autojump_clock: MockClock) -> None:
    """An answer that the vendor has completed is truncated and not cancelled."""
    async with serve(replies=[TEN]) as vendor, line_of(engine_of(vendor)) as line:
        async with line.session.respond() as response:
            await taken(response)
        response.heard(3.0)
        await trio.sleep(0.05)
        assert vendor.connections[0].types()[2:] == ["conversation.item.truncate"]


async def test_answer_heard_whole_is_unchanged(autojump_clock: MockClock) -> None:
    """An answer that the caller heard whole is neither cancelled nor truncated."""
    async with serve(replies=[TEN]) as vendor, line_of(engine_of(vendor)) as line:
        async with line.session.respond() as response:
            await taken(response)
        response.heard(10.0)
        await trio.sleep(0.05)
        assert vendor.connections[0].types() == ["session.update", "response.create"]


async def test_answer_left_before_start_is_cancelled(autojump_clock: MockClock) -> None:
    """An answer that is left before it begins is cancelled when it begins."""
    slow = attrs.evolve(TEN, created_delay=0.4)
    async with serve(replies=[slow, BRIEF]) as vendor, line_of(engine_of(vendor)) as line:
        with trio.move_on_after(0.1):
            async with line.session.respond() as response:
                await taken(response)
        response.heard(0.0)
        answer = await answered(line.session)
        assert answer.text == "Yes."
        [connection] = vendor.connections
        ends = [event["response"]["status"] for _, event in connection.events("response.done")]
        assert ends == ["cancelled", "completed"]
        assert connection.texts() == [("assistant", "Yes.")]


async def test_answer_starting_much_too_late_is_cancelled(autojump_clock: MockClock) -> None:
    """An abandoned answer that begins 3 s late is cancelled. The next request waits 1 s for it and is refused."""
    slow = attrs.evolve(TEN, created_delay=3.0)
    async with serve(replies=[slow, BRIEF]) as vendor, line_of(engine_of(vendor)) as line:
        with trio.move_on_after(0.1):
            async with line.session.respond() as response:
                await taken(response)
        response.heard(0.0)
        began = trio.current_time()
        with pytest.raises(ProviderError, match="conversation_already_has_active_response"):
            await answered(line.session)
        assert trio.current_time() - began == pytest.approx(1.0, abs=0.01)
        await trio.sleep(3.0)
        assert (await answered(line.session)).text == "Yes."
        assert vendor.connections[0].texts() == [("assistant", "Yes.")]


async def test_answer_ending_much_too_late_reports_usage(
    autojump_clock: MockClock,
) -> None:
    """The usage of an abandoned answer that ends late is reported once, apart from the next answer's."""
    used: list[Usage] = []
    usage_sink.set(used.append)
    slow = attrs.evolve(TEN, created_delay=3.0, usage={"input_tokens": 7, "output_tokens": 3})
    async with serve(replies=[slow, BRIEF]) as vendor, line_of(engine_of(vendor)) as line:
        with trio.move_on_after(0.1):
            async with line.session.respond() as response:
                await taken(response)
        response.heard(0.0)
        with pytest.raises(ProviderError):
            await answered(line.session)
        await trio.sleep(3.0)
        assert [(usage.input_tokens, usage.output_tokens) for usage in used] == [(7, 3)]
        assert (await answered(line.session)).text == "Yes."
        assert len(used) == 2
        assert vendor.connections[0].texts() == [("assistant", "Yes.")]


async def test_audio_after_cancellation_is_dropped(autojump_clock: MockClock) -> None:
    """Audio that still arrives for a cancelled answer is dropped."""
    async with serve(replies=[TEN, BRIEF]) as vendor, line_of(engine_of(vendor)) as line:
        async with line.session.respond() as response:
            await taken(response, until=1.0)
            vendor.connections[0].emit(
                "response.output_audio.delta",
                response_id="resp_0_1", item_id="item_0_2", output_index=0, content_index=0, delta="////",
            )  # fmt: skip
        response.heard(0.5)
        answer = await answered(line.session)
        assert (answer.text, answer.seconds) == ("Yes.", 1.0)


@pytest.mark.deep
async def test_answer_exceeding_the_buffer_is_stopped(autojump_clock: MockClock) -> None:
    """An answer that exceeds the waiting buffer fails and is cancelled at the vendor."""
    endless = attrs.evolve(TEN, seconds=200.0, speed=1000.0, chunk=0.02)
    assert endless.seconds / endless.chunk > _response.MAX_WAITING_PIECES
    async with serve(replies=[endless, BRIEF]) as vendor, line_of(engine_of(vendor)) as line:
        async with line.session.respond() as response:
            await trio.sleep(2.0)
            with pytest.raises(ProviderError):
                await taken(response)
        [connection] = vendor.connections
        [(_, done)] = connection.events("response.done")
        assert done["response"]["status"] == "cancelled"
        assert (await answered(line.session)).text == "Yes."


@pytest.mark.parametrize(
    ("reply", "error"),
    [
        (RealtimeReply(text="", error=("server_error", "server_error", "Sorry.")), ProviderError),
        (RealtimeReply(text="", error=("rate_limit_exceeded", "tokens", "Slow down.")), RateLimitError),
        (RealtimeReply(text="", status="incomplete", reason="content_filter"), ProviderError),
        (RealtimeReply(text="", status="cancelled", reason="turn_detected"), ProviderError),
    ],
)
async def test_failed_answer_raises_and_next_succeeds(
    autojump_clock: MockClock, reply: RealtimeReply, error: type[ProviderError]
) -> None:
    """A failed answer raises the fitting error, and the next answer succeeds."""
    async with serve(replies=[reply, BRIEF]) as vendor, line_of(engine_of(vendor)) as line:
        with pytest.raises(error):
            await answered(line.session)
        assert (await answered(line.session)).text == "Yes."


async def test_answer_cut_by_token_limit_is_kept(autojump_clock: MockClock) -> None:
    """An answer that the vendor ends at its token limit keeps what was said."""
    cut = RealtimeReply(text="One two", status="incomplete", reason="max_output_tokens")
    async with serve(replies=[cut]) as vendor, line_of(engine_of(vendor)) as line:
        assert (await answered(line.session)).text == "One two"


async def test_a_refused_answer_fails_alone(autojump_clock: MockClock) -> None:
    """A refused answer raises ProviderError, and the session goes on."""
    async with serve(refuses={"response.create": "invalid_value"}) as vendor, line_of(engine_of(vendor)) as line:
        with pytest.raises(ProviderError, match="invalid_value"):
            await answered(line.session)
        await line.says("Hello", 0.6)
        line.session.commit()
        assert await line.words(1) == "Hello"


@pytest.mark.parametrize(
    ("reply", "seconds"), [(attrs.evolve(TEN, first_audio=60.0), 4.0), (attrs.evolve(TEN, hang_after=3), 3.0)]
)
async def test_stalled_answer_times_out(autojump_clock: MockClock, reply: RealtimeReply, seconds: float) -> None:
    """An answer that does not begin or go on in time raises ProviderTimeout, and the next one succeeds."""
    async with (
        serve(replies=[reply, BRIEF]) as vendor,
        line_of(engine_of(vendor, first_audio=4.0, between=3.0)) as line,
    ):
        last = trio.current_time()

        async def take() -> None:
            nonlocal last
            async with line.session.respond() as response:
                async for _ in response:
                    last = trio.current_time()

        with pytest.raises(ProviderTimeout, match=f"within {seconds:g} s"):
            await take()
        assert trio.current_time() - last == pytest.approx(seconds, abs=0.01)
        assert (await answered(line.session)).text == "Yes."


async def test_stall_in_mid_sentence_ends_after_4_s(autojump_clock: MockClock) -> None:
    """An answer that stalls in mid sentence raises ProviderTimeout after 4 s of silence by default."""
    async with serve(replies=[attrs.evolve(TEN, hang_after=3)]) as vendor, line_of(engine_of(vendor)) as line:
        began = trio.current_time()
        with pytest.raises(ProviderTimeout, match="within 4 s"):
            await answered(line.session)
        assert trio.current_time() - began < 5.0


# Tools ----------------------------------------------------------------------------------------------------------------
TWO = RealtimeReply(
    text="", tool_calls=[ToolCall("call_1", "weather", "{}"), ToolCall("call_2", "weather", '{"a": "é"}')]
)


async def test_tool_calls_arrive_whole_and_results_are_sent(autojump_clock: MockClock) -> None:
    """The session yields complete tool calls and sends each tool result to the vendor under its call id."""
    async with serve(replies=[TWO, BRIEF]) as vendor, line_of(engine_of(vendor), tools=[WEATHER]) as line:
        answer = await answered(line.session)
        assert [(call.id, call.name, call.arguments) for call in answer.calls] == [
            ("call_1", "weather", "{}"),
            ("call_2", "weather", '{"a": "é"}'),
        ]
        for number, call in enumerate(answer.calls):
            line.session.remember({"role": "tool", "tool_call_id": call.id, "content": f"result {number} ü"})
        assert (await answered(line.session)).text == "Yes."
        assert items_of(vendor.connections[0]) == [
            {"type": "function_call_output", "call_id": "call_1", "output": "result 0 ü"},
            {"type": "function_call_output", "call_id": "call_2", "output": "result 1 ü"},
        ]


async def test_unseen_tool_call_is_deleted_with_its_answer(autojump_clock: MockClock) -> None:
    """The session deletes an answer whose tool calls were never read, and the calls with it, without an error."""
    async with serve(replies=[TWO]) as vendor, line_of(engine_of(vendor), tools=[WEATHER]) as line:
        async with line.session.respond():
            await trio.sleep(1.0)
        await trio.sleep(0.1)
        assert vendor.connections[0].items == []
        assert not vendor.connections[0].events("error")


async def test_tool_call_after_abandoned_answer_is_deleted(autojump_clock: MockClock) -> None:
    """The session deletes a tool call that arrives after its answer was abandoned."""
    late = attrs.evolve(TWO, text="One moment.", seconds=1.0)
    async with serve(replies=[late, BRIEF]) as vendor, line_of(engine_of(vendor), tools=[WEATHER]) as line:
        async with line.session.respond() as response:
            await taken(response, until=0.2)
            vendor.connections[0].emit(
                "response.output_item.done",
                response_id="resp_0_1",
                output_index=1,
                item={
                    "id": "item_x", "object": "realtime.item", "type": "function_call", "status": "completed",
                    "call_id": "call_x", "name": "weather", "arguments": "{}",
                },
            )  # fmt: skip
        await trio.sleep(0.5)
        deleted = [message["item_id"] for message in bare(vendor.connections[0].sent("conversation.item.delete"))]
        assert deleted == ["item_x"]


ASKED: Message = {
    "role": "assistant",
    "content": "",
    "tool_calls": [{"id": "call_1", "name": "weather", "arguments": "{}"}],
}
RUNS: Message = {"role": "tool", "tool_call_id": "call_1", "name": "weather", "content": "It is still running."}
GAVE: Message = {"role": "tool", "tool_call_id": "call_1", "name": "weather", "content": "2 degrees"}
ONE = RealtimeReply(text="", tool_calls=[ToolCall("call_1", "weather", "{}")])


async def test_renewal_waits_for_a_running_tool(autojump_clock: MockClock) -> None:
    """The session does not renew its connection until the result of a running tool is in and answered."""
    async with (
        serve(replies=[ONE, BRIEF]) as vendor,
        line_of(engine_of(vendor, renew_after=5.0), tools=[WEATHER], conversation=lambda: [ASKED, GAVE]) as line,
    ):
        await answered(line.session)
        await line.waits(8.0)
        assert len(vendor.connections) == 1
        line.session.remember(GAVE)
        assert (await answered(line.session)).text == "Yes."
        await line.waits(3.0)
        [first, second] = vendor.connections
        assert [item["type"] for item in items_of(first)] == ["function_call_output"]
        assert [item["type"] for item in items_of(second)] == ["function_call", "function_call_output"]


async def test_unseen_tool_call_does_not_block_renewal(autojump_clock: MockClock) -> None:
    """A tool call that was never read does not keep the session from renewing its connection."""
    async with (
        serve(replies=[TWO]) as vendor,
        line_of(engine_of(vendor, renew_after=5.0), tools=[WEATHER]) as line,
    ):
        async with line.session.respond() as response:
            await trio.sleep(1.0)
            response.heard(0.0)
        await line.waits(5.0)
        assert len(vendor.connections) == 2


@pytest.mark.parametrize("received", [[ASKED, RUNS], []])
@pytest.mark.parametrize("accepting", [0.0, 1.0])
async def test_tool_result_after_connection_loss_becomes_a_message(
    autojump_clock: MockClock, received: list[Message], accepting: float
) -> None:
    """A tool's result reaches a new connection as a system message, not as an output of an unknown call."""
    async with (
        serve(replies=[ONE, BRIEF], accepting=accepting) as vendor,
        line_of(engine_of(vendor), tools=[WEATHER], conversation=lambda: received) as line,
    ):
        await answered(line.session)
        await vendor.connections[0].lose()
        await trio.sleep(0.5)
        line.session.remember(GAVE)
        assert (await answered(line.session)).text == "Yes."
        [_, second] = vendor.connections
        *before, last = items_of(second)
        assert [item["type"] for item in before] == [["function_call", "function_call_output"], []][not received]
        text = "The tool weather has given: 2 degrees"
        assert last == {"type": "message", "role": "system", "content": [{"type": "input_text", "text": text}]}
        assert not second.events("error")


# The connection is lost -----------------------------------------------------------------------------------------------
HISTORY: list[Message] = [
    {"role": "user", "content": "Is it cold in Malmö?"},
    {"role": "assistant", "content": "",
     "tool_calls": [{"id": "call_9", "name": "weather", "arguments": '{"at": "Malmö"}'}]},
    {"role": "tool", "tool_call_id": "call_9", "name": "weather", "content": "2 degrees"},
    {"role": "assistant", "content": "It is 2 degrees."},
]  # fmt: skip
HISTORY_ITEMS = [
    {"type": "message", "role": "user", "content": [{"type": "input_text", "text": "Is it cold in Malmö?"}]},
    {"type": "function_call", "call_id": "call_9", "name": "weather", "arguments": '{"at": "Malmö"}'},
    {"type": "function_call_output", "call_id": "call_9", "output": "2 degrees"},
    {"type": "message", "role": "assistant", "content": [{"type": "output_text", "text": "It is 2 degrees."}]},
]


def history() -> Sequence[Message]:
    return HISTORY


async def test_idle_connection_loss_reconnects_with_the_conversation(autojump_clock: MockClock) -> None:
    """The session replaces a connection lost in silence and sends the new one the instructions and conversation."""
    async with serve(replies=[BRIEF]) as vendor, line_of(engine_of(vendor), conversation=history) as line:
        await line.waits(1.0)
        await vendor.connections[0].lose()
        await line.waits(1.0)
        [first, second] = vendor.connections
        assert items_of(first) == []
        assert items_of(second) == HISTORY_ITEMS
        assert second.session["instructions"] == "Be brief."
        assert not second.events("error")
        assert not second.audio
        assert (await answered(line.session)).text == "Yes."


async def test_replayed_conversation_is_not_sent_twice(autojump_clock: MockClock) -> None:
    """The session does not resend an entry already replayed to the new connection, except when it is said again."""
    async with serve(accepting=0.5) as vendor, line_of(engine_of(vendor), conversation=history) as line:
        await vendor.connections[0].lose()
        await trio.sleep(0.1)
        line.session.remember(HISTORY[-1])  # while there is no connection
        await trio.sleep(2.0)
        line.session.remember(HISTORY[2])  # the connection has it already
        line.session.remember({"role": "assistant", "content": "And it rains."})
        line.session.remember(HISTORY[-1])  # it was said once more
        await trio.sleep(0.1)
        received = items_of(vendor.connections[1])
        assert received[:4] == HISTORY_ITEMS
        assert [item["content"][0]["text"] for item in received[4:]] == ["And it rains.", "It is 2 degrees."]


async def test_repeated_text_after_replay_is_sent_again(autojump_clock: MockClock) -> None:
    """A text that repeats one of the replayed conversation is sent again."""
    async with serve() as vendor, line_of(engine_of(vendor), conversation=history) as line:
        await vendor.connections[0].lose()
        await trio.sleep(1.0)
        line.session.remember({"role": "assistant", "content": "It is 2 degrees."})
        await trio.sleep(0.1)
        assert items_of(vendor.connections[1]) == [*HISTORY_ITEMS, HISTORY_ITEMS[-1]]


@pytest.mark.parametrize("detection", [None, "server_vad"])
@pytest.mark.parametrize("accepting", [0.0, 0.5])
async def test_interrupted_speech_is_replayed_once_after_reconnect(
    autojump_clock: MockClock, detection: str | None, accepting: float
) -> None:
    """The session sends speech cut by a connection loss to the next connection whole and exactly once."""
    async with (
        serve(accepting=accepting, replies=[BRIEF]) as vendor,
        line_of(engine_of(vendor, turn_detection=detection)) as line,
    ):
        await line.waits(2.0)
        vendor.connections[0].frozen = True  # what is still on its way there is heard by nobody

        async def lose() -> None:
            await trio.sleep(0.731)
            await vendor.connections[0].lose()

        async with trio.open_nursery() as nursery:
            nursery.start_soon(lose)
            audio = await line.says("Is there a room with a bath?", 2.0, pause=0.3)
        line.session.commit()
        assert await line.words(1) == "Is there a room with a bath?"
        heard = bytes(vendor.connections[1].audio)
        assert heard.count(audio) == 1
        before, _, after = heard.partition(audio)
        assert set(before + after) == {0xFF}
        assert len(after) == 2400
        assert (await answered(line.session)).text == "Yes."


async def test_unanswered_utterance_survives_reconnect(autojump_clock: MockClock) -> None:
    """A connection lost between commit and answer costs neither the caller's words nor the answer."""
    async with (
        serve(replies=lambda asked: RealtimeReply(text=f"{asked.heard} Yes.")) as vendor,
        line_of(engine_of(vendor), conversation=history) as line,
    ):
        audio = await line.says("Is there a room?", 1.0)
        line.session.commit()
        async with line.session.respond() as response:
            await trio.sleep(0.1)
            await vendor.connections[0].lose()
            answer = await taken(response)
        assert answer.text == "Is there a room? Yes."
        assert await line.words(1) == "Is there a room?"
        [_, second] = vendor.connections
        assert second.types()[-2:] == ["input_audio_buffer.commit", "response.create"]
        assert bytes(second.audio).count(audio) == 1
        assert items_of(second) == HISTORY_ITEMS


async def test_unanswered_utterances_keep_their_numbers(autojump_clock: MockClock) -> None:
    """Two utterances that are still without words at a connection loss keep their numbers on the next connection."""
    async with serve(transcript_delay=1.0) as vendor, line_of(engine_of(vendor)) as line:
        await line.says("Hello", 0.4, pause=0.2)
        line.session.commit()
        await line.says("is there a room?", 0.6, pause=0.2)
        line.session.commit()
        assert line.finals() == {}
        await vendor.connections[0].lose()
        assert [await line.words(1), await line.words(2)] == ["Hello", "is there a room?"]


async def test_answer_fails_when_its_connection_is_lost(autojump_clock: MockClock) -> None:
    """An answer in progress raises ProviderError when its connection is lost, and the next answer succeeds."""
    async with serve(replies=[attrs.evolve(TEN, lose_after=5), BRIEF]) as vendor, line_of(engine_of(vendor)) as line:
        began = trio.current_time()
        with pytest.raises(ProviderError):
            await answered(line.session)
        assert trio.current_time() - began < 1.0
        assert (await answered(line.session)).text == "Yes."


async def test_cut_answer_is_ignored_after_reconnect(autojump_clock: MockClock) -> None:
    """A report of what was heard of a cut answer leaves the next connection unharmed."""
    async with serve(replies=[TEN, BRIEF]) as vendor, line_of(engine_of(vendor)) as line:
        async with line.session.respond() as response:
            await taken(response, until=1.0)
        await vendor.connections[0].lose()
        await trio.sleep(0.5)
        response.heard(0.7)
        assert (await answered(line.session)).text == "Yes."
        assert line.failure is None


async def test_uncommitted_vendor_turn_is_replayed_after_reconnect(autojump_clock: MockClock) -> None:
    """The session replays a turn that the vendor committed and the application did not, and gets its words."""
    async with serve() as vendor, line_of(engine_of(vendor, turn_detection="server_vad")) as line:
        await line.says("Is there a room?", 1.0, pause=0.7)
        assert [type(event) for _, event in line.received] == [EngineTurnOver]
        await vendor.connections[0].lose()
        await trio.sleep(0.5)
        line.session.commit()
        assert await line.words(1) == "Is there a room?"


async def test_losses_in_quick_succession_are_repaired(autojump_clock: MockClock) -> None:
    """The session survives several losses within one outage, and answers as soon as a connection holds."""
    async with serve(replies=[BRIEF]) as vendor, line_of(engine_of(vendor)) as line:
        for number in range(4):
            await vendor.connections[number].lose()
            await trio.sleep(1.1)
        assert line.failure is None
        assert (await answered(line.session)).text == "Yes."


async def test_vendor_that_drops_every_answer_has_failed(autojump_clock: MockClock) -> None:
    """A vendor that accepts each connection and drops it when it is asked ends the session after 10 s."""
    async with serve(replies=[BRIEF], lose_after=(0.1,) * 50) as vendor, line_of(engine_of(vendor)) as line:
        began = trio.current_time()
        line.session.voice(VoiceEdge(speaking=True, offset=0))
        while line.failure is None and trio.current_time() - began < 30:
            line.session.send(silence(0.02))
            await trio.sleep(0.02)
        assert "did not work for 10 s" in str(line.failure)
        assert trio.current_time() - began <= OUTAGE_TIMEOUT_S + 1
        assert len(vendor.connections) < 16


async def test_occasional_connection_losses_are_each_repaired(autojump_clock: MockClock) -> None:
    """The session replaces its connection after each loss when the losses are more than 30 s apart."""
    async with serve(replies=[BRIEF]) as vendor, line_of(engine_of(vendor)) as line:
        for number in range(3):
            await vendor.connections[number].lose()
            await trio.sleep(31.0)
        assert line.failure is None
        assert (await answered(line.session)).text == "Yes."


@pytest.mark.parametrize("trouble", [{"status": 503}, {"half_open": True}, {"mute": True}])
async def test_outage_without_end_ends_the_session(autojump_clock: MockClock, trouble: dict[str, object]) -> None:
    """A connection that cannot be replaced ends the session after 10 s and the last attempt, with the reason."""
    async with serve() as vendor, line_of(engine_of(vendor)) as line:
        vendor.script = attrs.evolve(vendor.script, **trouble)
        await vendor.connections[0].lose()
        began = trio.current_time()
        await line.until(lambda: line.failure)
        assert 8.0 <= trio.current_time() - began <= OUTAGE_TIMEOUT_S + _connection.SESSION_SETUP_TIMEOUT_S
        assert "OpenAI did not work for 10 s: " in str(line.failure)
        with pytest.raises(ProviderError):
            async with line.session.respond():
                pass


@pytest.mark.parametrize("seconds", [0.3, 1.0, 8.0])
async def test_realtime_outage_keeps_the_conversation(autojump_clock: MockClock, seconds: float) -> None:
    """After an outage of up to 8 s the session continues with the whole conversation, at the next attempt."""
    async with serve(replies=[BRIEF]) as vendor, line_of(engine_of(vendor), conversation=history) as line:
        good, vendor.script = vendor.script, attrs.evolve(vendor.script, status=503)
        await vendor.connections[0].lose()
        await trio.sleep(seconds)
        vendor.script = good
        await trio.sleep(1.0)
        assert items_of(vendor.connections[1]) == HISTORY_ITEMS
        assert (await answered(line.session)).text == "Yes."


async def test_revoked_key_is_tried_once(autojump_clock: MockClock) -> None:
    """A key that the vendor no longer accepts ends the session with AuthenticationError after one attempt."""
    async with serve() as vendor, line_of(engine_of(vendor)) as line:
        vendor.script = attrs.evolve(vendor.script, status=401)
        await vendor.connections[0].lose()
        await line.until(lambda: line.failure)
        assert isinstance(line.failure, AuthenticationError)
        assert vendor.refused == 1


async def test_a_vendor_that_takes_nothing_has_failed(autojump_clock: MockClock) -> None:
    """A vendor that reads nothing fails the session when the outbox is full."""
    async with serve() as vendor, line_of(engine_of(vendor)) as line:
        for _ in range(_session.MAX_OUTBOX_MESSAGES + 4):
            line.session.remember({"role": "assistant", "content": "x"})
        await line.until(lambda: line.failure)
        assert "did not read" in str(line.failure)


async def test_fatal_error_ends_session_harmless_one_does_not(autojump_clock: MockClock) -> None:
    """A fatal vendor error ends the session, and a harmless one leaves it running."""
    async with serve(replies=[BRIEF]) as vendor, line_of(engine_of(vendor)) as line:
        vendor.connections[0].error("response_cancel_not_active")
        assert (await answered(line.session)).text == "Yes."
        vendor.connections[0].error("insufficient_quota")
        await line.until(lambda: line.failure)
        assert isinstance(line.failure, RateLimitError)


async def test_silent_vendor_is_replaced(autojump_clock: MockClock, caplog: pytest.LogCaptureFixture) -> None:
    """A vendor that confirms no request for an answer in 3 s is replaced, and the new connection gives the answer."""
    async with serve(replies=[BRIEF]) as vendor, line_of(engine_of(vendor), conversation=history) as line:
        vendor.connections[0].frozen = True
        began = trio.current_time()
        assert (await answered(line.session)).text == "Yes."
        assert trio.current_time() - began == pytest.approx(3.3, abs=0.05)
        assert items_of(vendor.connections[1]) == HISTORY_ITEMS
    [line_of_log] = [record.getMessage() for record in caplog.records if record.levelname == "WARNING"]
    assert line_of_log == "call -: OpenAI is gone, trying again: OpenAI confirmed nothing within 3 s"


async def test_frozen_vendor_gets_the_utterance_again(autojump_clock: MockClock) -> None:
    """An utterance that a frozen vendor did not confirm is sent to the next connection, and its words come."""
    async with serve() as vendor, line_of(engine_of(vendor)) as line:
        vendor.connections[0].frozen = True
        await line.says("Is there a room?", 1.0)
        number = line.session.commit()
        assert await line.words(number) == "Is there a room?"
        assert len(vendor.connections) == 2


async def test_slow_vendor_keeps_its_connection(autojump_clock: MockClock) -> None:
    """A late answer raises ProviderTimeout, and the session keeps its connection for the next answer."""
    async with (
        serve(replies=[attrs.evolve(TEN, first_audio=60.0), BRIEF]) as vendor,
        line_of(engine_of(vendor, first_audio=4.0)) as line,
    ):
        with pytest.raises(ProviderTimeout):
            await answered(line.session)
        assert (await answered(line.session)).text == "Yes."
        assert len(vendor.connections) == 1


async def test_an_expired_session_is_replaced(autojump_clock: MockClock) -> None:
    """A session that the vendor ends after 5 s is replaced, and the new one gets the conversation."""
    async with (
        serve(expires_after=5.0, replies=[BRIEF]) as vendor,
        line_of(engine_of(vendor), conversation=history) as line,
    ):
        await line.waits(5.5)
        assert items_of(vendor.connections[1]) == HISTORY_ITEMS
        assert (await answered(line.session)).text == "Yes."


# It is renewed --------------------------------------------------------------------------------------------------------
async def test_old_connection_is_renewed_when_idle(autojump_clock: MockClock) -> None:
    """The session renews an old connection only when no speech, no words and no answer are pending."""
    async with (
        serve(replies=[TEN, BRIEF], transcript_delay=1.0) as vendor,
        line_of(engine_of(vendor, renew_after=5.0), conversation=history) as line,
    ):
        await line.waits(4.5)
        await line.says("Is there a room?", 1.0)  # a voice, which is not decided about
        await line.waits(1.0)
        assert len(vendor.connections) == 1
        line.session.commit()
        await line.waits(0.9)
        assert len(vendor.connections) == 1  # its words are owed
        answer = await answered(line.session)
        assert answer.seconds == 10.0
        await line.waits(12.0)
        [first, second] = vendor.connections
        assert first.code in (1000, 1001)
        assert items_of(second) == HISTORY_ITEMS
        assert not second.audio
        assert line.finals() == {1: "Is there a room?"}


async def test_renewal_waits_for_the_answers_playout(autojump_clock: MockClock) -> None:
    """The session does not renew its connection while the caller still hears an answer."""
    async with serve(replies=[TEN]) as vendor, line_of(engine_of(vendor, renew_after=5.0)) as line:
        await line.waits(3.0)
        await answered(line.session)  # in a second, of ten
        await line.waits(8.0)
        assert len(vendor.connections) == 1
        await line.waits(4.0)
        assert len(vendor.connections) == 2


async def test_answer_survives_connection_loss_during_playout(
    autojump_clock: MockClock,
) -> None:
    """After a connection loss during playout, the next connection receives the whole answer as history."""
    async with serve(replies=[TEN]) as vendor, line_of(engine_of(vendor), conversation=history) as line:
        await answered(line.session)
        await vendor.connections[0].lose()
        await line.waits(1.0)
        received = items_of(vendor.connections[1])
        assert received[:-1] == HISTORY_ITEMS
        assert received[-1]["content"] == [{"type": "output_text", "text": TEN.text}]


async def test_renewal_replays_nothing_of_an_earlier_loss(autojump_clock: MockClock) -> None:
    """A renewal does not replay audio that an earlier reconnect has already replayed."""
    async with serve() as vendor, line_of(engine_of(vendor, renew_after=40.0)) as line:
        await line.begins("Is there a room", 1.0)
        await vendor.connections[0].lose()
        await line.waits(0.3)
        line.session.voice(VoiceEdge(speaking=False, offset=line.samples))
        line.session.commit()
        assert await line.words(1) == "Is there a room"
        await line.waits(45.0)
        [_, _, third] = vendor.connections
        assert not third.audio


async def test_speech_during_renewal_stays_on_old_connection(
    autojump_clock: MockClock,
) -> None:
    """The old connection receives the whole of speech that begins while the next connection opens."""
    async with serve(accepting=1.0) as vendor, line_of(engine_of(vendor, renew_after=5.0)) as line:
        await line.waits(5.2)
        audio = await line.says("Is there a room?", 1.5)
        line.session.commit()
        assert await line.words(1) == "Is there a room?"
        await line.waits(1.0)
        [first, second] = vendor.connections
        assert bytes(first.audio).count(audio) == 1
        assert bytes(second.audio) == b""
        assert first.code in (1000, 1001)


async def test_old_connection_serves_until_the_next_is_ready(autojump_clock: MockClock) -> None:
    """The old connection serves while the next one fails to open, and the session tries again every 30 s."""
    async with (
        serve(replies=[BRIEF]) as vendor,
        line_of(engine_of(vendor, renew_after=5.0), conversation=history) as line,
    ):
        [first] = vendor.connections
        good = vendor.script
        troubles = [{"status": 503}, {"status": 401}, {"opens_with": ("server_error", "server_error", "Sorry.")}]
        for number, trouble in enumerate(troubles):
            vendor.script = attrs.evolve(good, **trouble)
            await line.waits(5.0 + 30.0 * number + 1.0 - line.samples / 8000)
            assert (await answered(line.session)).text == "Yes."
        assert vendor.refused == 2
        vendor.script = good
        await line.waits(5.0 + 30.0 * 3 - 2.0 - line.samples / 8000)
        assert first.ended_at == float("inf")
        await line.waits(8.0)
        assert first.code in (1000, 1001)
        assert items_of(vendor.connections[-1]) == HISTORY_ITEMS
        assert (await answered(line.session)).text == "Yes."
        assert line.failure is None


@pytest.mark.parametrize("trouble", [{"half_open": True}, {"mute": True}])
async def test_silent_next_connection_is_abandoned(autojump_clock: MockClock, trouble: dict[str, object]) -> None:
    """The session abandons a next connection that never answers, keeps the old one, and renews later."""
    async with serve(replies=[BRIEF]) as vendor, line_of(engine_of(vendor, renew_after=5.0)) as line:
        good, vendor.script = vendor.script, attrs.evolve(vendor.script, **trouble)
        await line.waits(7.0)
        assert (await answered(line.session)).text == "Yes."
        await line.waits(5.0)
        vendor.script = good
        await line.waits(35.0)
        assert vendor.connections[0].code in (1000, 1001)
        assert (await answered(line.session)).text == "Yes."


async def test_lost_old_connection_switches_to_the_ready_one(autojump_clock: MockClock) -> None:
    """A lost old connection hands over at once to the next one, which gets the caller's speech."""
    async with (
        serve(accepting=1.0, replies=[BRIEF]) as vendor,
        line_of(engine_of(vendor, renew_after=5.0), conversation=history) as line,
    ):
        await line.waits(5.2)
        audio = await line.begins("Is there a room?", 1.5)
        await vendor.connections[0].lose()
        await line.waits(0.3)
        line.session.voice(VoiceEdge(speaking=False, offset=line.samples))
        line.session.commit()
        assert await line.words(1) == "Is there a room?"
        [_, second] = vendor.connections
        assert bytes(second.audio).count(audio) == 1
        assert items_of(second) == HISTORY_ITEMS


async def test_lost_next_connection_is_reopened(autojump_clock: MockClock) -> None:
    """The session reopens a next connection that is lost while it waits for the caller's speech to end."""
    async with serve(accepting=1.0, replies=[BRIEF]) as vendor, line_of(engine_of(vendor, renew_after=5.0)) as line:
        await line.waits(5.2)
        await line.begins("Is there a room?", 1.5)
        await vendor.connections[1].lose()
        await line.waits(0.3)
        line.session.voice(VoiceEdge(speaking=False, offset=line.samples))
        line.session.commit()
        assert await line.words(1) == "Is there a room?"
        await line.waits(2.0)
        assert vendor.connections[0].code in (1000, 1001)
        assert len(vendor.connections) == 3
        assert (await answered(line.session)).text == "Yes."


async def test_missing_words_time_out_and_allow_renewal(autojump_clock: MockClock) -> None:
    """An utterance without a transcript gets empty words at the timeout, and the connection is then renewed."""
    async with serve(transcript_delay=1e6) as vendor, line_of(engine_of(vendor, renew_after=5.0)) as line:
        await line.says("Is there a room?", 1.0)
        line.session.commit()
        committed = trio.current_time()
        assert await line.words(1) == ""
        assert trio.current_time() == pytest.approx(committed + _utterances.TRANSCRIPT_TIMEOUT_S)
        await line.waits(1.0)
        assert len(vendor.connections) == 2


# It is left -----------------------------------------------------------------------------------------------------------
async def test_leaving_ends_the_connection_at_once(autojump_clock: MockClock) -> None:
    """Leaving the session in mid-answer ends its connection within 1 s."""
    async with serve(replies=[TEN]) as vendor:
        async with line_of(engine_of(vendor)) as line, line.session.respond() as response:
            await taken(response, until=1.0)
            left = trio.current_time()
        assert trio.current_time() - left <= 1.0
        await vendor.connections[0].ended.wait()
        assert trio.current_time() - left <= 1.0


async def test_two_sessions_have_a_connection_each(autojump_clock: MockClock) -> None:
    """Two concurrent sessions have a connection each and get their own answers."""
    async with serve(replies=lambda asked: RealtimeReply(text=f"You said {asked.heard}")) as vendor:
        engine, texts = engine_of(vendor), dict[str, str]()

        async def one(said: str) -> None:
            async with line_of(engine) as line:
                await line.says(said, 0.6)
                line.session.commit()
                texts[said] = (await answered(line.session)).text

        async with trio.open_nursery() as nursery:
            nursery.start_soon(partial(one, "Hello"))
            nursery.start_soon(partial(one, "Goodbye"))
        assert texts == {"Hello": "You said Hello", "Goodbye": "You said Goodbye"}
        assert len(vendor.connections) == 2


async def test_log_hides_caller_words_and_key(autojump_clock: MockClock, caplog: pytest.LogCaptureFixture) -> None:
    """The debug log contains neither the caller's words nor the API key."""
    caplog.set_level(logging.DEBUG)
    async with serve(replies=[attrs.evolve(TEN, lose_after=5), BRIEF]) as vendor, line_of(engine_of(vendor)) as line:
        await line.says("my number is seven", 1.0)
        line.session.commit()
        await line.words(1)
        with pytest.raises(ProviderError):
            await answered(line.session)
        vendor.connections[0].error("invalid_value", message=f"no {KEY}")
        await answered(line.session)
        assert KEY not in caplog.text
        assert "seven" not in caplog.text
        assert KEY not in shown(vendor.connections[0])


# What seldom is -------------------------------------------------------------------------------------------------------
async def test_an_answer_fails_with_the_session(autojump_clock: MockClock) -> None:
    """An answer raises the session's error within 0.1 s of it."""
    async with serve(replies=[attrs.evolve(TEN, first_audio=5.0)]) as vendor, line_of(engine_of(vendor)) as line:
        began = trio.current_time()
        async with line.session.respond() as response:
            vendor.connections[0].error("insufficient_quota")
            with pytest.raises(RateLimitError):
                await taken(response)
        assert trio.current_time() - began < 0.1


async def test_speech_that_begins_behind_the_cut_is_removed(autojump_clock: MockClock) -> None:
    """Speech that the vendor begins after the answer was left is removed from its conversation."""
    async with serve(replies=[TEN]) as vendor, line_of(engine_of(vendor)) as line:
        async with line.session.respond() as response:
            await taken(response, until=1.0)
            for kind in ("response.output_audio.delta", "response.output_audio_transcript.delta"):
                vendor.connections[0].emit(
                    kind, response_id="resp_0_1", item_id="item_new", output_index=1, content_index=0, delta="////"
                )
        await trio.sleep(0.5)
        assert bare(vendor.connections[0].sent("conversation.item.delete")) == [{"item_id": "item_new"}]


async def test_a_response_that_nobody_asked_for_is_cancelled(autojump_clock: MockClock) -> None:
    """A response that the session did not request is cancelled, and the next answer succeeds."""
    async with serve(replies=[BRIEF]) as vendor, line_of(engine_of(vendor)) as line:
        response = {"id": "resp_x", "object": "realtime.response", "status": "in_progress", "output": []}
        vendor.connections[0].emit("response.created", response=response)
        await trio.sleep(0.1)
        assert bare(vendor.connections[0].sent("response.cancel")) == [{"response_id": "resp_x"}]
        assert (await answered(line.session)).text == "Yes."


async def test_unread_events_are_dropped_beyond_bound(
    autojump_clock: MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    """Events that nobody reads are dropped beyond the queue's bound, each with a log line."""
    async with serve(replies=[BRIEF]) as vendor, engine_of(vendor).open(EngineSetup(instructions="")) as session:
        for number in range(_session._MAX_WAITING_EVENTS + 2):
            session.commit()
            if number % 500 == 0:  # each commit is more than one message, and what waits to be sent has a bound, too
                await trio.sleep(0.1)
        await trio.sleep(1.0)
        assert caplog.text.count("dropping an event") == 2
        assert (await answered(session)).text == "Yes."


def test_replay_keeps_only_the_last_minute() -> None:
    """A loss replays at most one minute of committed audio and gives the oldest utterance its partial words."""
    utterances = CommittedUtterances()
    for number in range(1, 4):
        assert utterances.commit(bytes(30 * 8000), 0.0, by_vendor=False) == (number, True)
        utterances.committed(f"item_{number}")
    utterances.heard("item_1", "the beginning", final=False)
    unknown, again = utterances.lost(0.0)
    assert unknown == [EngineWords(1, "the beginning", final=True)]
    assert [number for number, _ in again] == [2, 3]
    assert repr(utterances) == "<Utterances 3, 2 without words>"


def test_refusal_applies_to_the_named_commit() -> None:
    """A refusal affects only the commit that it names and leaves the other utterances unchanged."""
    utterances = CommittedUtterances()
    utterances.commit(b"", 0.0, by_vendor=True)
    utterances.committed("the vendor's own")  # just before ours came, which is refused for it
    utterances.commit(b"", 0.0, by_vendor=True)
    assert utterances.refused(1) == []
    assert not utterances.committed("ours")
    assert utterances.heard("ours", "Thank you", final=True) == [EngineWords(2, "Thank you", final=True)]
    assert utterances.refused(7) == []
