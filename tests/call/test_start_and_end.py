"""on_call_start, which may change the agent for its call, and on_call_end, which comes once, whatever ended it."""

import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import attrs
import pytest
import trio

from patter_trio import CallEnded, CallMetrics, Patter, PipelineHooks
from patter_trio.abc import StreamEvent, TextToSpeech, TextToSpeechSession
from patter_trio.net.websocket_client import CLOSE_TIMEOUT_S
from patter_trio.pytest_plugin import CallSimulator
from patter_trio.testing import ScriptedLLM, ScriptedSTT, ScriptedTTS
from patter_trio.testing.simulation.simulator import EPOCH_UNIX_S
from tests.kit.call import (
    SORRY,
    At,
    Backend,
    agent_of,
    break_down,
    give_up,
    hangs_up_in_time,
    sound_of_agent,
    transcripts_of,
)
from tests.kit.carriers import WrappedCodec, carrier_with_codec

pytestmark = [pytest.mark.both_backends, pytest.mark.all_carriers]


# on_call_start --------------------------------------------------------------------------------------------------------
async def test_on_call_start_reports_the_caller(call_simulator: CallSimulator, backend: Backend, carrier: str) -> None:
    """on_call_start gets the call's id, both numbers, direction, parameters and carrier, and nothing else."""
    starts: list[dict[str, Any]] = []
    async with call_simulator(backend.agent_of(), on_call_start=starts.append) as caller:
        await caller.waits(0.1)
    assert starts == [
        {
            "call_id": caller.carrier.call_id,
            "caller": "+15550100001",
            "callee": "+15550100002",
            "direction": "inbound",
            "custom_params": {},
            "telephony_provider": carrier,
        }
    ]


async def test_on_call_start_overrides_agent_for_one_call(call_simulator: CallSimulator, backend: Backend) -> None:
    """The return value of on_call_start changes the agent for its call alone."""
    llm, other = ScriptedLLM(["The desk."]), ScriptedLLM(["The spa."])
    agent = backend.agent_of(
        llm=llm, first_message="Hello.", system_prompt="Desk of {hotel}.", variables={"hotel": "Miller"}
    )
    overrides: list[Any] = [
        {
            "system_prompt": "Spa of {hotel}, in {language}.",
            "first_message": "Wellness at {hotel}!",
            "variables": {"hotel": "Moser"},
            "language": "de",
            **({"llm": other} if backend.is_pipeline else {}),  # an engine cannot be given another LLM
        },
        None,
    ]
    heard: list[list[str]] = []
    for _ in range(2):
        async with call_simulator(agent, on_call_start=lambda event: overrides.pop(0)) as caller:
            await caller.hears()
            await caller.speaks("Who is there?", seconds=0.8)
            await caller.hears()
        heard.append(transcripts_of(caller, "assistant"))
    answer = "The spa." if backend.is_pipeline else "The desk."
    assert heard == [["Wellness at Moser!", answer], ["Hello.", "The desk."]]
    assert (other if backend.is_pipeline else llm).requests[0][0] == {
        "role": "system",
        "content": "Spa of Moser, in {language}.",
    }
    assert llm.requests[-1][0] == {"role": "system", "content": "Desk of Miller."}


async def test_error_message_and_language_can_be_overridden(call_simulator: CallSimulator, backend: Backend) -> None:
    """An override can change the error message and the language of a call."""
    languages: list[str] = []

    class Noting(ScriptedTTS):
        def open(self, *, language: str) -> Any:
            languages.append(language)
            return super().open(language=language)

    async def on_call_start(event: dict[str, Any]) -> dict[str, Any]:
        await trio.sleep(1.0)
        return {"error_message": "Pardon.", "language": "pt-BR"}

    agent = backend.agent_of(llm=ScriptedLLM(["x"], fail_after=0), tts=Noting())
    async with call_simulator(agent, on_call_start=on_call_start) as caller:
        await caller.speaks("Hello", seconds=0.5)
        assert (await caller.hears()).text == "Pardon."
    assert languages == ["pt-BR"]


@pytest.mark.parametrize(
    ("answer", "warning"),
    [
        ({"vad": 1}, "on_call_start cannot override vad; it can: error_message, first_message, guardrails,"),
        ({1: 2, "turn_detector": 3}, "on_call_start cannot override 1, turn_detector; it can: "),
        ({"tts": 3}, "tts must be a TextToSpeech, got int: 3"),
        ({"first_message": 7}, "first_message must be a str, got int: 7"),
        ({"variables": ["x"]}, "variables must be a Mapping, got list"),
        ({"variables": {1: "x"}}, "variables must have strings as names, got 1"),
        ({"llm": None}, "exactly one of llm= (phone.agent's) and on_message= (serve's); this one has neither"),
        ("hello", "must return a dict of overrides or None, got str"),
    ],
)
async def test_invalid_override_warns_and_keeps_agent(
    call_simulator: CallSimulator, caplog: pytest.LogCaptureFixture, answer: Any, warning: str, backend: Backend
) -> None:
    """An invalid override causes a warning, and the agent stays unchanged."""
    agent = backend.agent_of(first_message="Hello.")
    async with call_simulator(agent, on_call_start=lambda event: answer) as caller:
        assert (await caller.hears()).text == "Hello."
        await caller.speaks("Hello", seconds=0.5)
        assert (await caller.hears()).text == "Yes."
    if backend.is_engine and "exactly one of llm=" in warning:
        assert caplog.records == []  # it has none anyway
        return
    [record] = caplog.records
    assert (record.levelno, record.name) == (logging.WARNING, "patter_trio.events")
    assert warning in record.message


async def test_invalid_override_leaves_other_overrides_valid(
    call_simulator: CallSimulator, caplog: pytest.LogCaptureFixture, backend: Backend
) -> None:
    """One invalid override does not invalidate the other overrides."""
    overrides = {"voise": "alloy", "first_message": "Hello Bob."}
    async with call_simulator(backend.agent_of(), on_call_start=lambda event: overrides) as caller:
        assert (await caller.hears()).text == "Hello Bob."
    assert "cannot override voise" in caplog.text


@pytest.mark.pipeline("on_message answers")
async def test_an_llm_cannot_be_set_beside_on_message(
    call_simulator: CallSimulator, caplog: pytest.LogCaptureFixture
) -> None:
    """An LLM from on_call_start beside on_message is ignored with a warning, and on_message answers."""
    async with call_simulator(
        agent_of(llm=None), on_message=lambda event: "Mine.", on_call_start=lambda event: {"llm": ScriptedLLM(["x"])}
    ) as caller:
        await caller.speaks("Hello", seconds=0.5)
        assert (await caller.hears()).text == "Mine."
    assert "this one has both" in caplog.text


async def test_raising_on_call_start_only_warns(
    call_simulator: CallSimulator, caplog: pytest.LogCaptureFixture, backend: Backend
) -> None:
    """An on_call_start that raises causes only a warning."""

    async def on_call_start(event: dict[str, Any]) -> None:
        raise LookupError("no such customer")

    async with call_simulator(backend.agent_of(first_message="Hello."), on_call_start=on_call_start) as caller:
        assert (await caller.hears()).text == "Hello."
    [record] = caplog.records
    assert "on_call_start raised LookupError: no such customer" in record.message
    assert (record.levelno, record.exc_info is not None) == (logging.WARNING, True)


async def test_on_call_start_times_out_after_two_seconds(
    call_simulator: CallSimulator, caplog: pytest.LogCaptureFixture, backend: Backend
) -> None:
    """The call goes on without an on_call_start that takes longer than two seconds."""
    cancelled: list[float] = []

    async def on_call_start(event: dict[str, Any]) -> dict[str, Any]:
        try:
            await trio.sleep(10)
        finally:
            cancelled.append(trio.current_time())
        return {"first_message": "Too late."}

    async with call_simulator(backend.agent_of(first_message="Hello."), on_call_start=on_call_start) as caller:
        await caller.waits(0.01)
        assert caller.state["agent"] == "initializing"
        greeting = await caller.hears()
        assert (greeting.text, greeting.started) == ("Hello.", pytest.approx(2.2))
        await caller.hangs_up()
        await caller.carrier.over.wait()
        ended = trio.current_time()
    assert cancelled == [ended]  # its call is over: nobody waits for it any more
    assert "on_call_start did not return within 2 s" in caplog.text


async def test_speech_before_agent_is_ready_is_kept(call_simulator: CallSimulator, backend: Backend) -> None:
    """The call keeps what the caller says before the agent is ready."""

    async def on_call_start(event: dict[str, Any]) -> None:
        await trio.sleep(1.9)

    async with call_simulator(backend.agent_of("Yes."), on_call_start=on_call_start) as caller:
        await caller.speaks("Are you there already?", seconds=1.5)
        reply = await caller.hears()
    assert caller.dialogue[0] == ("user", "Are you there already?")
    # Ready at 1.9, when the STT gets the waiting audio; final words 0.2 s later; LLM 0.4 s, TTS 0.2 s.
    assert reply.started == pytest.approx(2.7 if backend.is_pipeline else 2.6)  # the voice was over 0.5 s before 2.0


# on_call_end ----------------------------------------------------------------------------------------------------------
async def test_the_end_has_exactly_its_keys(call_simulator: CallSimulator, backend: Backend) -> None:
    """on_call_end gets exactly its keys, and its instants are Unix floats in seconds."""
    ends: list[dict[str, Any]] = []
    async with call_simulator(backend.agent_of("Yes."), on_call_end=ends.append) as caller:
        await caller.speaks("Hello", seconds=0.5)
        await caller.hears()
        await caller.at(5.0)
        started = caller.carrier.media_start
        assert caller.metrics is None
    stamps = [entry.pop("timestamp") for entry in ends[0]["transcript"]]
    assert isinstance(ends[0]["metrics"], CallMetrics)
    assert ends == [
        {
            "call_id": caller.carrier.call_id,
            "caller": "+15550100001",
            "callee": "+15550100002",
            "direction": "inbound",
            "ended_at": EPOCH_UNIX_S + started + 5.0,
            "transcript": [{"role": "user", "text": "Hello"}, {"role": "assistant", "text": "Yes."}],
            "metrics": caller.metrics,
            "tool_calls": [],
            "outcome": "caller_hung_up",
        }
    ]
    assert stamps == pytest.approx([EPOCH_UNIX_S + started + 1.0, EPOCH_UNIX_S + started + 1.84])


@pytest.mark.parametrize(
    ("hang_up_at", "state", "owed", "words"),
    [
        (0.01, ("listening", "initializing"), 0.0, []),
        (2.0, ("listening", "idle"), 0.0, []),
        (3.3, ("speaking", "idle"), 0.2, ["Hello"]),
        (3.6, ("speaking", "idle"), 0.1, ["Hello there"]),  # the voice is over; the detector does not know it yet
        (4.05, ("listening", "thinking"), 0.0, ["Hello there"]),
        (5.0, ("listening", "speaking"), 0.0, ["Hello there"]),
    ],
)
async def test_the_caller_may_hang_up_in_any_state(
    call_simulator: CallSimulator,
    *,
    hang_up_at: float,
    state: tuple[str, str],
    owed: float,
    words: list[str],
    backend: Backend,
) -> None:
    """A hang-up in any state ends the call at once, or as soon as the STT has delivered its last words."""

    async def on_call_start(event: dict[str, Any]) -> None:
        await trio.sleep(1.0)

    agent = backend.agent_of("A longer answer.", tts=ScriptedTTS(duration=4.0))
    async with call_simulator(agent, on_call_start=on_call_start) as caller:
        if hang_up_at > 2.0:
            await caller.at(3.0)
            await caller.speaks("Hello there", seconds=0.5, wait=False)
        await caller.at(hang_up_at)
        assert tuple(caller.state.values()) == state
        assert await hangs_up_in_time(caller) == pytest.approx(owed if backend.is_pipeline else 0.0, abs=0.001)
    assert caller.outcome == "caller_hung_up"
    assert [text for role, text in caller.dialogue if role == "user"] == words


@pytest.mark.pipeline("about the STT")
@pytest.mark.parametrize(
    "stt", [ScriptedSTT(silent=True), ScriptedSTT(hang_on_open=True), ScriptedSTT(final_delay=9.0)]
)
async def test_hanging_stt_final_delays_end_under_a_second(call_simulator: CallSimulator, stt: ScriptedSTT) -> None:
    """An STT that never delivers its final transcript delays the end of the call by less than a second."""
    async with call_simulator(agent_of(stt=stt)) as caller:
        await caller.speaks("Hello there", seconds=0.5)
        assert await hangs_up_in_time(caller) == pytest.approx(0.8, abs=0.01)


@attrs.frozen
class SlowToCloseTTS(TextToSpeech):
    """A TTS whose connection does not answer the close, as long as the WebSocket shell waits for it."""

    inner: TextToSpeech = attrs.field(factory=ScriptedTTS)
    provider: str = "scripted"
    model: str = "scripted"

    @asynccontextmanager
    async def open(self, *, language: str) -> AsyncIterator[TextToSpeechSession]:
        async with self.inner.open(language=language) as session:
            try:
                yield session
            finally:
                with trio.CancelScope(shield=True):
                    await trio.sleep(CLOSE_TIMEOUT_S)


@pytest.mark.pipeline("about the STT and after_transcribe")
@pytest.mark.one_carrier("it sends the stop of a stream, which Plivo does not have")
async def test_call_ends_within_second_though_all_hang(call_simulator: CallSimulator) -> None:
    """STT, hook, vendor and carrier that all take the longest they may delay the end by less than a second in all."""

    async def hang(words: str, context: object) -> None:
        await trio.sleep_forever()

    # Just in time, so that the hook is asked about the words.
    stt = ScriptedSTT(final_delay=0.799)
    agent = agent_of(stt=stt, tts=SlowToCloseTTS(), hooks=PipelineHooks(after_transcribe=hang))
    async with call_simulator(agent) as caller:
        await caller.speaks("Hello there", seconds=0.5)
        began, line = caller.now, caller.carrier
        # The stream's stop comes, and then the network carries nothing: our close frame has no answer.
        line.send(str(line.protocol.stopped()))
        await caller.waits(0.001)
        line.stall(5.0)
        while not caller.times("call_end"):
            await caller._log.news()
        took = caller.times("call_end")[0] - began
        line.hang_up()
    assert took == pytest.approx(0.99, abs=0.005)


async def test_hang_up_during_tts_open_ends_call(call_simulator: CallSimulator, backend: Backend) -> None:
    """A hang-up while the TTS opens ends the call in time."""
    async with call_simulator(backend.faulty_agent(At("tts.open"))) as caller:
        await caller.waits(1.0)
        assert caller.state["agent"] == "initializing"
        assert await hangs_up_in_time(caller) == pytest.approx(0.0)
    assert caller.outcome == "caller_hung_up"


async def test_tts_open_timeout_fails_call(call_simulator: CallSimulator, backend: Backend) -> None:
    """A TTS that does not open within ten seconds fails the call."""
    async with call_simulator(backend.faulty_agent(At("tts.open"))) as caller:
        await caller.carrier.over.wait()
        assert caller.carrier.ended_at == pytest.approx(10.0)
    [end] = caller.payloads("call_end")
    assert (end["outcome"], end["error"]) == ("failed", "backend: faulty was not ready within 10 s")


async def test_agent_hang_up_waits_for_playout(call_simulator: CallSimulator, backend: Backend) -> None:
    """The agent hangs up after its current speech has played."""
    phone = Patter()
    async with call_simulator(backend.agent_of(first_message="Goodbye, and thank you."), phone=phone) as caller:
        await caller.at(0.5)
        [call] = phone.calls
        call.hang_up()
        assert call.outcome == ""
        await caller.speaks("No, wait", seconds=1.0, wait=False)  # nothing interrupts a goodbye
        goodbye = await caller.hears()
        await caller.carrier.over.wait()
        await caller.waits(0.9)  # the words of the caller, for the transcript
        assert (goodbye.text, goodbye.interrupted) == ("Goodbye, and thank you.", False)
        assert caller.carrier.ended == "agent_hung_up"
        assert caller.carrier.ended_at == pytest.approx(goodbye.ended)
        for demand in (call.hang_up, lambda: call.say("More")):
            with pytest.raises(CallEnded, match=rf"call {call.call_id} is over \(agent_hung_up\)"):
                demand()
        assert phone.calls == ()
    assert caller.outcome == call.outcome == "agent_hung_up"


async def test_max_call_duration_ends_after_sentence(call_simulator: CallSimulator, backend: Backend) -> None:
    """A call that exceeds its maximum duration ends after the current sentence."""
    agent = backend.agent_of(first_message="A long greeting.", tts=ScriptedTTS(duration=5.0), max_call_duration=3.0)
    async with call_simulator(agent) as caller:
        await caller.carrier.over.wait()
    assert caller.outcome == "completed"
    assert caller.carrier.ended_at == pytest.approx(5.2)
    assert transcripts_of(caller, "assistant") == ["A long greeting."]


async def test_silence_from_both_sides_ends_the_call(call_simulator: CallSimulator, backend: Backend) -> None:
    """A silence_timeout of 3 s ends the call 3 s after the agent's last speech, with the outcome silence."""
    async with call_simulator(backend.agent_of("Yes.", silence_timeout=3.0)) as caller:
        await caller.at(2.0)
        await caller.speaks("Hello", seconds=0.5)
        await caller.hears()
        ended = caller.times("agent_speech_ended")[0]
        await caller.carrier.over.wait()
    assert caller.outcome == "silence"
    assert caller.carrier.ended_at == pytest.approx(ended + 3.0)


async def test_silence_timeout_pauses_during_speech_and_thinking(
    call_simulator: CallSimulator, backend: Backend
) -> None:
    """The silence timeout pauses while the caller or the agent speaks and while the agent thinks."""
    agent = backend.agent_of(
        llm=ScriptedLLM(["Word " * 10], first_token=5.0), tts=ScriptedTTS(duration=8.0), silence_timeout=2.0
    )
    async with call_simulator(agent) as caller:
        await caller.at(1.0)
        await caller.speaks("A long question " * 5, seconds=6.0)
        answer = await caller.hears()
        await caller.carrier.over.wait()
    assert not answer.interrupted
    assert answer.seconds == pytest.approx(8.0, abs=0.05)
    assert caller.outcome == "silence"
    assert caller.carrier.ended_at == pytest.approx(answer.ended + 2.0)


async def test_reset_with_report_is_a_hang_up(call_simulator: CallSimulator, backend: Backend) -> None:
    """A connection that breaks as the carrier reports the end of the call: the caller has hung up, within 0.9 s."""
    async with call_simulator(backend.agent_of(first_message="A greeting.")) as caller:
        await caller.at(1.0)
        caller.carrier.drop()
        await caller.waits(0.9)
        [end] = caller.payloads("call_end")
    assert end["outcome"] == "caller_hung_up"
    assert "error" not in end
    assert "A greeting.".startswith(end["transcript"][0]["text"])


class _Codec(WrappedCodec):
    """Has a bug, and a carrier that says what its protocol does not allow."""

    def receive(self, message: str | bytes) -> StreamEvent | None:
        if '"dtmf"' in str(message):
            if '"#"' in str(message):
                raise RuntimeError("a bug in the reader")
            return super().receive("{")
        return super().receive(message)


async def test_reader_bug_ends_its_call_and_is_named(
    call_simulator: CallSimulator, caplog: pytest.LogCaptureFixture, backend: Backend, carrier: str
) -> None:
    """A bug in the stream reader ends its call, and on_call_end names the bug."""
    phone = Patter(carrier=carrier_with_codec(carrier, _Codec))
    async with call_simulator(backend.agent_of(first_message="A greeting."), phone=phone) as caller:
        await caller.at(1.0)
        await caller.presses("#")
        await caller.carrier.over.wait()
        await caller.waits(0.01)
        [end] = caller.payloads("call_end")
    assert (end["outcome"], end["error"]) == ("failed", "RuntimeError: a bug in the reader")
    assert end["transcript"][0]["text"]
    assert "connection closed: internal error" not in caplog.text


async def test_repeated_protocol_errors_end_stream_after_warning(
    call_simulator: CallSimulator, caplog: pytest.LogCaptureFixture, backend: Backend, carrier: str
) -> None:
    """A stream that keeps violating its protocol causes one log line and then the end of the call."""
    phone = Patter(carrier=carrier_with_codec(carrier, _Codec))
    async with call_simulator(backend.agent_of("Yes."), phone=phone) as caller:
        await caller.presses("1" * 50)
        assert caplog.text.count("ignoring an invalid message from the carrier") == 1
        await caller.speaks("Hello", seconds=0.5)
        assert (await caller.hears()).text == "Yes."
        await caller.presses("1" * 49)
        assert caller.carrier.ended is None
        await caller.waits(0.2)
        await caller.presses("1")
        await caller.carrier.over.wait()
        await caller.waits(0.01)
        [end] = caller.payloads("call_end")
    assert end["outcome"] == "failed"
    assert end["error"] == "the carrier's stream sent 100 messages that its protocol does not allow"


async def test_transcript_after_bug_keeps_heard_text(call_simulator: CallSimulator, backend: Backend) -> None:
    """The transcript after a bug contains what the caller heard before the bug."""
    at = At("vad.feed", break_down)
    agent = backend.faulty_agent(at, first_message="A greeting that is longer.")
    async with call_simulator(agent) as caller:
        await caller.at(1.0)
        await caller.speaks("Hello", seconds=0.5)
        await caller.carrier.over.wait()
        await caller.waits(0.01)
        [end] = caller.payloads("call_end")
    [entry] = end["transcript"]
    assert entry["role"] == "assistant"
    assert "A greeting that is longer.".startswith(entry["text"])
    assert sound_of_agent(caller).startswith(entry["text"])
    assert sound_of_agent(caller).endswith(SORRY)


async def test_bug_apology_is_abandoned_if_tts_fails(
    call_simulator: CallSimulator, caplog: pytest.LogCaptureFixture, backend: Backend
) -> None:
    """The call abandons the apology after a bug if the TTS fails."""
    at = At("tts.open", give_up, nth=2)
    agent = backend.faulty_agent(at, vad=backend.faulty_agent(At("vad.feed", break_down)).vad)
    async with call_simulator(agent) as caller:
        await caller.speaks("Hello", seconds=0.5)
        await caller.carrier.over.wait()
        await caller.waits(0.01)
    assert "apology failed: given up" in caplog.text
    assert caller.outcome == "failed"


async def test_hang_up_during_apology_ends_it(call_simulator: CallSimulator, backend: Backend) -> None:
    """A hang-up of the caller during the apology ends the apology."""
    at = At("vad.feed", break_down)
    async with call_simulator(backend.faulty_agent(at)) as caller:
        await caller.speaks("Hello", seconds=0.5)
        await caller.waits(0.1)
        assert await hangs_up_in_time(caller) < 0.2
    assert caller.outcome == "failed"
