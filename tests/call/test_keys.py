"""Keys that the caller presses: when they are complete, and what becomes of them."""

from __future__ import annotations

from typing import Any

import pytest

from patter_trio import Agent, CallControl, ConfigurationError, Keypad, Patter, PipelineHooks
from patter_trio.pytest_plugin import CallSimulator
from patter_trio.testing import ScriptedEngine, ScriptedLLM, ScriptedSTT, ScriptedTTS
from patter_trio.testing.simulation.caller import SimulatedCaller
from tests.kit.call import Backend, agent_of, edges

pytestmark = [pytest.mark.both_backends, pytest.mark.all_carriers]


def turns(caller: SimulatedCaller) -> list[tuple[float, str, str]]:
    """Return the instant, trigger and words of each eos."""
    eos = zip(caller.times("user_speech_eos"), caller.payloads("user_speech_eos"), strict=True)
    return [(round(at, 3), payload["trigger"], payload.get("transcript_so_far", "")) for at, payload in eos]


# When they are complete -----------------------------------------------------------------------------------------------
async def test_terminator_completes_keys_at_once(call_simulator: CallSimulator, backend: Backend) -> None:
    """Keys before ``#`` are the caller's message at the instant of ``#``, and the agent answers it."""
    async with call_simulator(backend.agent_of("Thank you.")) as caller:
        await caller.at(1.0)
        await caller.presses("1234#")
        assert (await caller.heard(0)).text == "Thank you."
        await caller.waits(3.0)
    assert turns(caller) == [(1.8, "manual_commit", "1234")]
    assert caller.dialogue == [("user", "1234"), ("assistant", "Thank you.")]
    # Each key is told as before, and no voice is.
    assert [payload["digit"] for payload in caller.payloads("dtmf")] == [*"1234#"]
    assert "user_speech_started" not in [name for _, name in edges(caller)]


async def test_pause_completes_keys(call_simulator: CallSimulator, backend: Backend) -> None:
    """Without a terminator, keys are complete 2 s after the last one, and eos tells that silence."""
    async with call_simulator(backend.agent_of("Thank you.")) as caller:
        await caller.at(1.0)
        await caller.presses("12")
        await caller.at(3.0)
        await caller.presses("3")
        assert (await caller.heard(0)).text == "Thank you."
    assert turns(caller) == [(5.0, "manual_commit", "123")]
    assert caller.payloads("user_speech_eos")[0]["trailing_silence_ms"] == pytest.approx(2000.0)


async def test_length_completes_keys(call_simulator: CallSimulator, backend: Backend) -> None:
    """As many keys as ``max_digits`` are complete at once; the terminator alone is a message, too."""
    agent = backend.agent_of("One.", "Two.", "Three.", dtmf=Keypad(max_digits=2))
    async with call_simulator(agent) as caller:
        for at, keys in ((1.0, "12"), (4.0, "#"), (7.0, "34")):
            await caller.at(at)
            await caller.presses(keys)
        await caller.heard(2)
    assert turns(caller) == [(1.2, "manual_commit", "12"), (4.0, "manual_commit", "#"), (7.2, "manual_commit", "34")]


async def test_keypad_without_terminator_takes_every_key(call_simulator: CallSimulator, backend: Backend) -> None:
    """With an empty terminator, ``#`` is a key like the others, and the pause is as given."""
    agent = backend.agent_of("Yes.", dtmf=Keypad(terminator="", pause=0.5))
    async with call_simulator(agent) as caller:
        await caller.at(1.0)
        await caller.presses("1#2")
        await caller.heard(0)
    assert turns(caller) == [(1.9, "manual_commit", "1#2")]


async def test_keys_can_be_left_to_callback(call_simulator: CallSimulator, backend: Backend) -> None:
    """With ``dtmf=False`` keys are only told: they are no message and interrupt nothing."""
    agent = backend.agent_of(first_message="Good evening.", tts=ScriptedTTS(duration=3.0), dtmf=False)
    async with call_simulator(agent) as caller:
        await caller.at(1.0)
        await caller.presses("1#")
        heard = await caller.heard(0)
        await caller.waits(3.0)
        assert not heard.interrupted
    assert (turns(caller), len(caller.times("dtmf"))) == ([], 2)


# Over the agent, and beside a voice ----------------------------------------------------------------------------------
@pytest.mark.parametrize(("chosen", "messages"), [({}, []), ({"dtmf": True}, ["1"]), ({"dtmf": Keypad()}, ["1"])])
async def test_program_with_on_dtmf_answers_once(
    call_simulator: CallSimulator, backend: Backend, chosen: dict[str, Any], messages: list[str]
) -> None:
    """Keys that on_dtmf acts on are no message as well, so the caller is answered once; an agent may choose both."""

    def on_dtmf(event: dict[str, Any], call: CallControl) -> None:
        call.say("Opening hours: nine to five.")

    async with call_simulator(backend.agent_of("What do you mean?", **chosen), on_dtmf=on_dtmf) as caller:
        await caller.at(1.0)
        await caller.presses("1")
        await caller.waits(8.0)
        assert caller.utterances[0].text == "Opening hours: nine to five."
        assert len(caller.utterances) == 1 + len(messages)
    assert [text for role, text in caller.dialogue if role == "user"] == messages


async def test_key_silences_prompt(call_simulator: CallSimulator, backend: Backend) -> None:
    """A key over the agent's speech cuts it at that instant."""
    agent = backend.agent_of("Thank you.", first_message="Press one.", tts=ScriptedTTS(duration=5.0))
    async with call_simulator(agent) as caller:
        await caller.at(2.0)
        await caller.presses("1")
        heard = await caller.heard(0)
        assert (heard.interrupted, heard.ended) == (True, pytest.approx(2.0, abs=0.02))
        assert caller.times("agent_speech_ended")[0] == pytest.approx(2.0)
        assert (await caller.heard(1)).text == "Thank you."
    assert turns(caller) == [(4.0, "manual_commit", "1")]


@pytest.mark.parametrize(
    "options", [{"dtmf": Keypad(interrupts=False)}, {"barge_in_threshold_ms": 0}], ids=["keypad", "no-barge-in"]
)
async def test_key_waits_for_uninterruptible_agent(
    call_simulator: CallSimulator, backend: Backend, options: dict[str, Any]
) -> None:
    """Where keys do not interrupt, they are answered when the agent has finished."""
    agent = backend.agent_of("Thank you.", first_message="Press one.", tts=ScriptedTTS(duration=3.0), **options)
    async with call_simulator(agent) as caller:
        await caller.at(1.0)
        await caller.presses("1#")
        first = await caller.heard(0)
        assert not first.interrupted
        assert (await caller.heard(1)).text == "Thank you."
    [(at, trigger, text)] = turns(caller)
    assert (at, trigger, text) == (pytest.approx(first.ended, abs=0.01), "manual_commit", "1")


async def test_keys_join_unheard_answer(call_simulator: CallSimulator, backend: Backend) -> None:
    """Keys that come before the answer is heard belong to the same message, as words would."""
    llm = ScriptedLLM(["Both."], first_token=2.0)
    async with call_simulator(backend.agent_of(llm=llm)) as caller:
        await caller.at(1.0)
        await caller.speaks("My number is", seconds=1.0)
        await caller.at(3.5)
        await caller.presses("42#")
        assert (await caller.heard(0)).text == "Both."
    assert caller.dialogue == [("user", "My number is 42"), ("assistant", "Both.")]
    assert [trigger for _, trigger, _ in turns(caller)] == ["vad_silence", "manual_commit"]
    assert [payload.get("revises") for payload in caller.payloads("transcript") if payload["role"] == "user"][
        -1
    ] is True


async def test_keys_end_a_noisy_voice(call_simulator: CallSimulator, backend: Backend) -> None:
    """Keys are answered at once although the VAD hears a voice, whose end is told before eos."""
    async with call_simulator(backend.agent_of("Thank you.")) as caller:
        await caller.at(1.0)
        await caller.coughs(8.0, wait=False)
        await caller.at(3.0)
        await caller.presses("7#")
        await caller.heard(0)
        assert turns(caller)[0][:2] == (3.2, "manual_commit")
        assert caller.times("user_speech_ended")[0] == pytest.approx(3.2)


async def test_voice_between_keys_joins_them(call_simulator: CallSimulator, backend: Backend) -> None:
    """What is said while keys are collected is one message with them."""
    async with call_simulator(backend.agent_of("Thank you.", dtmf=Keypad(pause=4.0))) as caller:
        await caller.at(1.0)
        await caller.presses("1")
        await caller.speaks("one moment", seconds=0.8)
        await caller.at(4.0)
        await caller.presses("2#")
        await caller.heard(0)
    [(at, trigger, text)] = turns(caller)
    assert (at, trigger) == (4.2, "manual_commit")
    assert sorted(text.split()) == (["12", "moment", "one"] if backend.is_pipeline else ["12"])
    assert caller.dialogue[0] == ("user", "one moment 12")


async def test_keys_of_a_caller_who_leaves(call_simulator: CallSimulator, backend: Backend) -> None:
    """Keys that were not complete when the caller hung up are in the transcript."""
    async with call_simulator(backend.agent_of()) as caller:
        await caller.at(1.0)
        await caller.presses("12")
        await caller.hangs_up()
    assert caller.dialogue == [("user", "12")]


async def test_flood_of_keys_is_bounded(call_simulator: CallSimulator, backend: Backend) -> None:
    """Hundreds of keys at once become messages of 32 each, joined to one, and the call goes on."""
    async with call_simulator(backend.agent_of()) as caller:
        await caller.at(1.0)
        for _ in range(320):
            caller.carrier.press("1")
        assert (await caller.heard(0)).text == "Yes."
        await caller.speaks("Hello", seconds=0.5)
        assert (await caller.heard(1)).text == "Yes."
    assert caller.dialogue[0] == ("user", " ".join(["1" * 32] * 10))


async def test_key_ends_the_silence(call_simulator: CallSimulator, backend: Backend) -> None:
    """A caller who types is neither silent nor away."""
    agent = backend.agent_of(silence_timeout=3.0, user_away_timeout=2.5, dtmf=Keypad(pause=10.0))
    async with call_simulator(agent) as caller:
        for at in (2.0, 4.0, 6.0, 8.0):
            await caller.at(at)
            await caller.presses("1")
        assert caller.state["user"] == "listening"
        await caller.carrier.over.wait()
        assert caller.carrier.ended_at == pytest.approx(11.0, abs=0.1)


# Who gets them --------------------------------------------------------------------------------------------------------
async def test_on_message_gets_digits_as_text(call_simulator: CallSimulator) -> None:
    """on_message gets the digits as the message's text."""
    got: list[str] = []

    def answers(event: dict[str, Any]) -> str:
        got.append(event["text"])
        return "Thank you."

    async with call_simulator(agent_of(llm=None), on_message=answers) as caller:
        await caller.at(1.0)
        await caller.presses("0*9#")
        await caller.heard(0)
    assert got == ["0*9"]


async def test_engine_is_told_digits_it_cannot_hear(call_simulator: CallSimulator) -> None:
    """An engine gets the digits as a user message, and no commit for audio in which nobody spoke."""
    engine = ScriptedEngine(llm=ScriptedLLM(["One.", "Two."]), tts=ScriptedTTS())
    async with call_simulator(Patter().agent("You are brief.", engine=engine, vad=agent_of().vad)) as caller:
        await caller.at(1.0)
        await caller.presses("12#")
        await caller.heard(0)
        await caller.speaks("And now?", seconds=0.5)
        await caller.heard(1)
    assert engine.remembered == [{"role": "user", "content": "12"}]
    assert caller.dialogue == [("user", "12"), ("assistant", "One."), ("user", "And now?"), ("assistant", "Two.")]


async def test_hook_may_veto_keys(call_simulator: CallSimulator) -> None:
    """``after_transcribe`` sees the digits like words, and may veto them."""
    hooks = PipelineHooks(after_transcribe=lambda text, _: None if text == "0" else text)
    async with call_simulator(agent_of("Thank you.", hooks=hooks)) as caller:
        await caller.at(1.0)
        await caller.presses("0#")
        await caller.waits(3.0)
        await caller.presses("1#")
        await caller.heard(0)
    assert caller.dialogue == [("user", "1"), ("assistant", "Thank you.")]


async def test_keys_are_measured_as_turns(call_simulator: CallSimulator, backend: Backend) -> None:
    """A turn of keys is in the metrics, with the agent's answer and the wait for it."""
    async with call_simulator(backend.agent_of("Thank you.")) as caller:
        await caller.at(1.0)
        await caller.presses("12#")
        await caller.heard(0)
    assert caller.metrics is not None
    [turn] = caller.metrics.turns
    assert (turn.user_text, turn.agent_text) == ("12", "Thank you.")


# Texts ----------------------------------------------------------------------------------------------------------------
async def test_text_is_answered_at_once(call_simulator: CallSimulator, backend: Backend) -> None:
    """``send_text`` gives a text as the caller's: one turn, at once, and it cuts what the agent says."""
    phone = Patter()
    agent = backend.agent_of("Thank you.", first_message="Good evening.", tts=ScriptedTTS(duration=4.0))
    async with call_simulator(agent, phone) as caller:
        await caller.at(2.0)
        phone.calls[0].send_text("  I am\nhere ")
        assert (await caller.heard(1)).text == "Thank you."
        assert (await caller.heard(0)).interrupted
        with pytest.raises(ConfigurationError, match="text must be a string that is not blank"):
            phone.calls[0].send_text(" ")
    assert turns(caller) == [(2.0, "manual_commit", "I am here")]


async def test_text_before_the_call_waits(call_simulator: CallSimulator, backend: Backend) -> None:
    """A text that on_call_start gives is answered when the call has begun."""

    def begins(event: dict[str, Any], call: CallControl) -> None:
        call.send_text("Begin")

    async with call_simulator(backend.agent_of("Yes."), on_call_start=begins) as caller:
        assert (await caller.heard(0)).text == "Yes."
    assert caller.dialogue[0] == ("user", "Begin")


# Options --------------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    "options",
    [
        {"terminator": "x"},
        {"terminator": "##"},
        {"terminator": None},
        {"max_digits": 0},
        {"max_digits": 65},
        {"max_digits": 1.0},
        {"max_digits": True},
        {"pause": 0},
        {"pause": 61},
        {"pause": "2"},
        {"interrupts": None},
    ],
    ids=repr,
)
def test_invalid_keypad_is_refused(options: dict[str, Any]) -> None:
    """A keypad's options are checked when it is made."""
    with pytest.raises(ConfigurationError, match=f"{next(iter(options))} must be"):
        Keypad(**options)


@pytest.mark.parametrize(
    ("given", "used"), [(True, Keypad()), (False, None), (None, None), (Keypad(pause=1), Keypad(pause=1))]
)
def test_dtmf_of_an_agent(given: Any, used: Any) -> None:
    """``dtmf`` is a Keypad, or True for the default one, or False for none."""
    assert Agent("", stt=ScriptedSTT(), tts=ScriptedTTS(), dtmf=given).dtmf == used


def test_other_dtmf_is_refused() -> None:
    """Anything else for ``dtmf`` is a ConfigurationError."""
    with pytest.raises(ConfigurationError, match="dtmf must be a Keypad, a Menu, True or False"):
        Agent("", stt=ScriptedSTT(), tts=ScriptedTTS(), dtmf="#")  # type: ignore[arg-type]
