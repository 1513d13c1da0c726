"""Whole calls whose caller is heard by a fake Deepgram server on loopback, in virtual time."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from typing import Any

import attrs
import pytest
import trio

from patter_trio import Agent, DeepgramSTT, Patter
from patter_trio.testing import ScriptedLLM, ScriptedTTS, ScriptedVAD
from patter_trio.testing.servers.deepgram import DeepgramServer, FakeDeepgram, serve_deepgram
from patter_trio.testing.simulation.caller import SimulatedCaller
from tests.kit.depth import few

Simulator = Callable[..., AbstractAsyncContextManager[SimulatedCaller]]
NOVA = "nova-3"
FLUX = "flux-general-en"
SORRY = "Sorry, I cannot hear you."


def agent_hearing_by(vendor: DeepgramServer, *, model: str = NOVA, vad_end: float = 0.3, **options: Any) -> Agent:
    stt = DeepgramSTT(api_key="key", base_url=vendor.url, model=model, **options)
    return Patter().agent(
        system_prompt="You are brief.",
        vad=ScriptedVAD(end_delay=vad_end),
        stt=stt,
        llm=ScriptedLLM(["One.", "Two.", "Three."]),
        tts=ScriptedTTS(),
        error_message=SORRY,
    )


def eos(caller: SimulatedCaller) -> list[tuple[float, str]]:
    """Return the instant and the trigger of each end of turn."""
    ends = zip(caller.times("user_speech_eos"), caller.payloads("user_speech_eos"), strict=True)
    return [(at, payload["trigger"]) for at, payload in ends]


@pytest.mark.parametrize("model", [NOVA, FLUX])
async def test_a_conversation_of_two_turns_over_one_connection(call_simulator: Simulator, model: str) -> None:
    """Both turns of a call use one Deepgram connection, which ends with CloseStream after the call."""
    async with serve_deepgram() as vendor:
        async with call_simulator(agent_hearing_by(vendor, model=model)) as caller:
            await caller.waits(1)
            await caller.speaks("hello there my friend")
            await caller.hears()
            await caller.speaks("and a second thing")
            await caller.hears()
        assert caller.dialogue == [
            ("user", "hello there my friend"),
            ("assistant", "One."),
            ("user", "and a second thing"),
            ("assistant", "Two."),
        ]
        [connection] = vendor.connections
        with trio.fail_after(1):
            await connection.ended.wait()
        assert connection.types()[-1] == "CloseStream"


async def test_nova_turn_ends_by_silence_with_finalize(call_simulator: Simulator) -> None:
    """With Nova, the VAD silence ends the turn, and the call asks for the final words with Finalize."""
    async with serve_deepgram(FakeDeepgram(final_delay=0.1)) as vendor:
        async with call_simulator(agent_hearing_by(vendor)) as caller:
            await caller.waits(1)
            said = await caller.speaks("hello there", 1.0)
            await caller.hears()
        [(at, trigger)] = eos(caller)
        assert trigger == "vad_silence"
        assert at == pytest.approx(said.ended + 0.5, abs=0.021)
        assert vendor.connections[0].types()[0] == "Finalize"


async def test_flux_ends_turn_before_silence_and_vad(
    call_simulator: Simulator,
) -> None:
    """Flux ends the turn before the usual silence is over and before the VAD does."""
    async with serve_deepgram(FakeDeepgram(end_of_turn=0.2)) as vendor:
        async with call_simulator(agent_hearing_by(vendor, model=FLUX, vad_end=0.4)) as caller:
            await caller.waits(1)
            said = await caller.speaks("hello there", 1.0)
            await caller.hears()
        [(at, trigger)] = eos(caller)
        assert trigger == "semantic_turn_detector"
        assert at == pytest.approx(said.ended + 0.2, abs=0.101)  # the pieces in which Flux is sent audio are of 80 ms
        assert caller.dialogue == [("user", "hello there"), ("assistant", "One.")]
        assert caller.times("user_speech_ended") == [at]


async def test_flux_waits_longer_than_usual_silence(call_simulator: Simulator) -> None:
    """Flux lets the caller pause for longer than the usual silence within one turn."""
    async with serve_deepgram(FakeDeepgram(end_of_turn=1.2)) as vendor:
        async with call_simulator(agent_hearing_by(vendor, model=FLUX)) as caller:
            await caller.waits(1)
            await caller.speaks("my number is", 0.8)
            await caller.waits(0.9)
            await caller.speaks("nine nine nine", 0.8)
            await caller.hears()
        assert caller.dialogue == [("user", "my number is nine nine nine"), ("assistant", "One.")]
        assert [trigger for _, trigger in eos(caller)] == ["semantic_turn_detector"]


async def test_eager_end_answers_after_silence_without_doubling(
    call_simulator: Simulator,
) -> None:
    """The agent answers an eager end of turn after the usual silence, and its words appear once."""
    async with serve_deepgram(FakeDeepgram(end_of_turn=1.5, eager_end_of_turn=0.2)) as vendor:
        agent = agent_hearing_by(vendor, model=FLUX, eager_eot_threshold=0.5)
        async with call_simulator(agent) as caller:
            await caller.waits(1)
            said = await caller.speaks("hello there", 1.0)
            await caller.hears()
            await caller.waits(3)
        [(at, trigger)] = eos(caller)
        assert trigger == "semantic_turn_detector"
        assert at == pytest.approx(said.ended + 0.5, abs=0.021)
        assert caller.dialogue == [("user", "hello there"), ("assistant", "One.")]


async def test_revoked_eager_end_keeps_one_turn(call_simulator: Simulator) -> None:
    """A turn continues as one turn when Flux takes back its eager end."""
    async with serve_deepgram(FakeDeepgram(end_of_turn=1.5, eager_end_of_turn=0.1)) as vendor:
        agent = agent_hearing_by(vendor, model=FLUX, eager_eot_threshold=0.5)
        async with call_simulator(agent) as caller:
            await caller.waits(1)
            await caller.speaks("my number is", 0.8)
            await caller.waits(0.3)
            await caller.speaks("nine nine nine", 0.8)
            await caller.hears()
            await caller.waits(3)
        assert caller.dialogue == [("user", "my number is nine nine nine"), ("assistant", "One.")]


@pytest.mark.parametrize("model", [NOVA, FLUX])
@pytest.mark.parametrize("lost_at", few([1.3, 1.7, 2.1, 2.3], 1))
async def test_deepgram_reconnect_mid_sentence_keeps_words_once(
    call_simulator: Simulator, model: str, lost_at: float
) -> None:
    """A connection loss in mid-sentence loses no word and doubles no word."""
    async with serve_deepgram(FakeDeepgram(lose_after=(lost_at,))) as vendor:
        async with call_simulator(agent_hearing_by(vendor, model=model)) as caller:
            await caller.waits(1)
            await caller.speaks("one two three four five six", 1.0)
            await caller.hears()
            await caller.speaks("and seven", 0.6)
            await caller.hears()
        assert [text for role, text in caller.dialogue if role == "user"] == [
            "one two three four five six",
            "and seven",
        ]
        assert len(vendor.connections) == 2


@pytest.mark.parametrize("model", few([NOVA, FLUX], 1))
@pytest.mark.costly
async def test_second_deepgram_loss_is_not_heard(call_simulator: Simulator, model: str) -> None:
    """The caller hears nothing of two connection losses within one sentence."""
    async with serve_deepgram(FakeDeepgram(lose_after=(1.5, 1.0))) as vendor:
        agent = agent_hearing_by(vendor, model=model)
        async with call_simulator(agent) as caller:
            await caller.waits(1)
            await caller.speaks("one two three four five six", 4.0)
            assert (await caller.hears()).text == "One."
        assert len(vendor.connections) == 3
        assert caller.dialogue == [("user", "one two three four five six"), ("assistant", "One.")]


@pytest.mark.parametrize("model", [NOVA, FLUX])
@pytest.mark.parametrize("seconds", few([0.3, 1.0, 8.0], 1))
async def test_caller_is_answered_after_deepgram_outage(
    call_simulator: Simulator, model: str, seconds: float, caplog: pytest.LogCaptureFixture
) -> None:
    """What the caller said in an outage of up to 8 s is answered when it is over, and logged in one warning."""
    async with serve_deepgram() as vendor, call_simulator(agent_hearing_by(vendor, model=model)) as caller:
        await caller.waits(1)
        script = vendor.script
        vendor.script = attrs.evolve(script, status=503)
        await vendor.connections[0].lose()
        began = trio.current_time()
        await caller.speaks("what are your opening hours", 1.5)
        await trio.sleep_until(began + seconds)
        vendor.script = script
        heard = await caller.hears()
        assert heard.text == "One."
        assert caller.dialogue == [("user", "what are your opening hours"), ("assistant", "One.")]
        assert heard.started <= max(began + seconds + 1.0, began + 1.5) + 2.0
        await caller.speaks("thank you", 0.8)
        assert (await caller.hears()).text == "Two."
    warnings = [record.getMessage() for record in caplog.records if record.levelname == "WARNING"]
    assert len(warnings) == 1
    assert "Deepgram is gone, trying again" in warnings[0]


@pytest.mark.parametrize("model", few([NOVA, FLUX], 1))
@pytest.mark.costly
async def test_mute_deepgram_is_replaced_in_a_call(call_simulator: Simulator, model: str) -> None:
    """A caller who repeats the question to a Deepgram that hangs gets the answer."""
    async with serve_deepgram(FakeDeepgram(mute_after=(0.5,))) as vendor:
        async with call_simulator(agent_hearing_by(vendor, model=model)) as caller:
            await caller.waits(1)
            for words in ("what are your opening hours", "hello are you there", "hello"):
                await caller.speaks(words, 1.2)
                await caller.waits(1.2)
            await caller.waits(4)
        assert len(vendor.connections) == 2
        said = " ".join(text for role, text in caller.dialogue if role == "user")
        assert said == "what are your opening hours hello are you there hello"
        assert caller.dialogue[-1][0] == "assistant"


@pytest.mark.parametrize("hangs", few([{"status": 503}, {"accepting": 60.0}, {"mute_after": (0.0,) * 50}], 1))
@pytest.mark.costly
async def test_deepgram_gone_for_good_plays_apology(call_simulator: Simulator, hangs: dict[str, Any]) -> None:
    """A Deepgram that refuses, hangs or stays mute for 10 s ends the call with an apology and its reason."""
    ends: list[dict[str, Any]] = []
    async with (
        serve_deepgram() as vendor,
        call_simulator(agent_hearing_by(vendor), on_call_end=ends.append) as caller,
    ):
        await caller.waits(1)
        vendor.script = attrs.evolve(vendor.script, **hangs)
        await vendor.connections[0].lose()
        lost = trio.current_time()
        await caller.speaks("what are your opening hours", 1.5)
        heard = await caller.hears()
        assert heard.text == SORRY
        assert 8.0 <= heard.started - lost <= 14.0
    assert ends[0]["outcome"] == "failed"
    assert ends[0]["error"].startswith("STT: Deepgram did not work for 10 s: ")
    assert "opening hours" not in ends[0]["error"]


async def test_refused_deepgram_key_plays_apology_without_leak(
    call_simulator: Simulator, caplog: pytest.LogCaptureFixture
) -> None:
    """The caller hears an apology when Deepgram refuses the API key, and no output shows the key."""
    ends: list[dict[str, Any]] = []
    async with serve_deepgram(FakeDeepgram(key="another")) as vendor:
        stt = DeepgramSTT(api_key="hush-hush", base_url=vendor.url)
        agent = attrs.evolve(agent_hearing_by(vendor), stt=stt)
        async with call_simulator(agent, on_call_end=ends.append) as caller:
            assert (await caller.hears()).text == SORRY
        assert vendor.refused == 1
    assert "401" in ends[0]["error"]
    assert "hush-hush" not in caplog.text + repr(stt) + repr(agent) + ends[0]["error"]


async def test_promoted_interim_words_appear_once(call_simulator: Simulator) -> None:
    """Interim words that end the turn appear once, although Nova sends them as final long after the turn."""
    script = FakeDeepgram(answers_finalize=False, settles_every=1.5, interim_every=0.1)
    async with serve_deepgram(script) as vendor:
        async with call_simulator(agent_hearing_by(vendor)) as caller:
            await caller.waits(1)
            await caller.speaks("one two three four five six", 2.4)
            await caller.hears()
            await caller.waits(4)
        assert caller.dialogue == [("user", "one two three four five six"), ("assistant", "One.")]


@pytest.mark.parametrize("model", [NOVA, FLUX])
async def test_hangup_mid_sentence_keeps_words_and_disconnects(call_simulator: Simulator, model: str) -> None:
    """A hang-up in mid-sentence keeps the words so far and closes the Deepgram connection at once."""
    async with serve_deepgram() as vendor:
        async with call_simulator(agent_hearing_by(vendor, model=model)) as caller:
            await caller.waits(1)
            await caller.speaks("one two three four five six", 1.0, wait=False)
            await caller.waits(0.9)
            await caller.hangs_up()
            await caller.waits(1)
        [(role, text)] = caller.dialogue
        assert role == "user"
        assert "one two three four five six".startswith(text)
        assert text.startswith("one two three four")
        [connection] = vendor.connections
        last = connection.said[-1]
        assert last[1] == {"type": "CloseStream"}
        assert connection.ended_at - last[0] <= 0.05


async def test_deepgram_barge_in_is_answered(call_simulator: Simulator) -> None:
    """The voice of the caller cuts the reply, and the agent answers the interrupting words."""
    async with serve_deepgram() as vendor:
        agent = attrs.evolve(agent_hearing_by(vendor), llm=ScriptedLLM(["A very long answer. " * 20, "Two."]))
        async with call_simulator(agent) as caller:
            await caller.waits(1)
            await caller.speaks("tell me", 0.6)
            await caller.waits(2)
            await caller.speaks("stop that now", 0.8)
            await caller.waits(3)
        assert [text for role, text in caller.dialogue if role == "user"] == ["tell me", "stop that now"]
        assert caller.dialogue[-1] == ("assistant", "Two.")


async def test_what_the_vendor_may_not_send_changes_nothing(call_simulator: Simulator) -> None:
    """Malformed messages from Deepgram do not change the transcript of the call."""
    garbage = ("", "null", "[]", "{", '{"type":"Results"}', '{"type":"New","start":{}}', b"\xff\x00", "[" * 5000)
    async with serve_deepgram(FakeDeepgram(garbage=garbage)) as vendor:
        async with call_simulator(agent_hearing_by(vendor)) as caller:
            await caller.waits(1)
            await caller.speaks("hello there")
            await caller.hears()
        assert caller.dialogue == [("user", "hello there"), ("assistant", "One.")]


async def test_deepgram_sending_only_garbage_is_abandoned(call_simulator: Simulator) -> None:
    """The call gives up an STT that sends only garbage."""
    async with serve_deepgram(FakeDeepgram(garbage=("nonsense",) * 100)) as vendor:
        async with call_simulator(agent_hearing_by(vendor)) as caller:
            assert (await caller.hears()).text == SORRY
        assert len(vendor.connections) == 1


async def test_deepgram_cost_matches_audio_sent(call_simulator: Simulator) -> None:
    """The STT cost of the call equals the price of the audio that Deepgram received."""
    ends: list[dict[str, Any]] = []
    async with serve_deepgram() as vendor:
        async with call_simulator(agent_hearing_by(vendor), on_call_end=ends.append) as caller:
            await caller.waits(1)
            await caller.speaks("hello there")
            await caller.hears()
        seconds = len(vendor.connections[0].audio) / 8000
    assert ends[0]["metrics"].cost.stt == pytest.approx(seconds / 60 * 0.0048, rel=1e-3)


async def test_flux_barge_in_without_vad_pause(
    call_simulator: Simulator,
) -> None:
    """Words after a pause of 0.5 s cut the reply, although the VAD (0.8 s) hears one voice and Flux ended the turn."""
    async with serve_deepgram(FakeDeepgram(end_of_turn=0.2)) as vendor:
        agent = agent_hearing_by(vendor, model=FLUX, vad_end=0.8)
        quick = attrs.evolve(
            agent, llm=ScriptedLLM(["A very long answer. " * 20, "Two."], first_token=0.01), tts=ScriptedTTS()
        )
        async with call_simulator(quick) as caller:
            await caller.waits(1)
            await caller.speaks("tell me", 0.6)
            await caller.waits(0.5)
            await caller.speaks("stop that now please", 1.2)
            await caller.waits(3)
        assert [text for role, text in caller.dialogue if role == "user"][-1].endswith("stop that now please")
        assert caller.dialogue[-1] == ("assistant", "Two.")
