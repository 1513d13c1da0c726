"""The hook that may rewrite or veto a turn, against everything that may happen while it decides."""

import logging
from typing import Any

import pytest
import trio

from patter_trio import HookContext, Patter, PipelineHooks
from patter_trio.pytest_plugin import CallSimulator
from patter_trio.testing import ScriptedLLM, ScriptedSTT
from patter_trio.testing.simulation.caller import SimulatedCaller
from tests.kit.call import agent_of, edges, hangs_up_in_time, transcripts_of

pytestmark = [pytest.mark.pipeline("hooks see the STT's words"), pytest.mark.all_carriers]


class Transcribed:
    """An ``after_transcribe`` that takes its time, and what it was asked."""

    def __init__(self, answer: Any = str.upper, delay: float = 0.5) -> None:
        self.asked: list[str] = []
        self.answered: list[str] = []
        self.histories: list[list[str]] = []
        self.answer, self.delay = answer, delay

    async def __call__(self, text: str, ctx: HookContext) -> Any:
        self.asked.append(text)
        self.histories.append([entry["text"] for entry in ctx.history])
        await trio.sleep(self.delay)
        self.answered.append(text)
        return self.answer(text)


def agent(hook: Any, llm: ScriptedLLM | None = None, **options: Any) -> Any:
    return agent_of(llm=llm or ScriptedLLM(["Yes."]), hooks=PipelineHooks(after_transcribe=hook), **options)


def warned(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [record.message.partition(": ")[2] for record in caplog.records if record.levelno >= logging.WARNING]


async def test_after_transcribe_rewrites_each_committed_turn_once(call_simulator: CallSimulator) -> None:
    """The eos has the caller's words at once; on_transcript, history and LLM get the hook's words 0.5 s later."""
    hook, llm, said = Transcribed(), ScriptedLLM(["One.", "Two."]), []
    async with call_simulator(agent(hook, llm), on_transcript=said.append) as caller:
        await caller.speaks("Is it open?", seconds=1.0)
        await caller.hears()
        await caller.speaks("Thank you", seconds=1.0)
        await caller.hears()
    assert hook.asked == ["Is it open?", "Thank you"]
    assert hook.histories == [[], ["IS IT OPEN?", "One."]]
    assert [payload["transcript_so_far"] for payload in caller.payloads("user_speech_eos")] == hook.asked
    assert [entry["text"] for entry in said] == ["IS IT OPEN?", "One.", "THANK YOU", "Two."]
    assert [entry["content"] for entry in llm.requests[1][1:]] == ["IS IT OPEN?", "One.", "THANK YOU"]
    at = {name: when for when, name in reversed(edges(caller))}
    assert at["user_speech_eos"] == 1500
    first = next(when for when, name in edges(caller) if name == "transcript")
    assert (first, caller.times("llm_token")[0]) == (2000, pytest.approx(2.1))  # 0.5 s in the hook, 0.1 s in the model


async def test_vetoed_turn_reports_only_eos(call_simulator: CallSimulator) -> None:
    """A turn that the after_transcribe hook vetoes reports its eos and nothing else."""
    hook, llm, said = Transcribed(lambda text: None if "robot" in text else text), ScriptedLLM(["Yes."]), []
    async with call_simulator(agent(hook, llm), on_transcript=said.append) as caller:
        await caller.speaks("Stupid robot", seconds=1.0)
        await caller.at(1.9)
        assert caller.state == {"user": "listening", "agent": "thinking"}
        await caller.at(2.1)
        assert caller.state == {"user": "listening", "agent": "idle"}
        assert (llm.requests, said, caller.history) == ([], [], [])
        await caller.speaks("Is it open?", seconds=1.0)
        await caller.hears()
    assert [name for _, name in edges(caller)][:5] == [
        "call_start", "user_speech_started", "user_speech_ended", "user_speech_eos", "user_speech_started",
    ]  # fmt: skip
    # The decision that the utterance was over was made, and counts: the next turn is number 2.
    assert [payload["turn_idx"] for payload in caller.payloads("agent_speech_started")] == [2]
    assert [entry["text"] for entry in said] == ["Is it open?", "Yes."]
    assert caller.payloads("call_end")[0]["transcript"] == [*caller.payloads("transcript")[1]["history"]]
    assert [message["content"] for message in llm.requests[0]] == ["You are brief.", "Is it open?"]


async def test_a_vetoed_turn_does_not_reach_on_message(call_simulator: CallSimulator) -> None:
    """A turn that the after_transcribe hook vetoes reaches neither on_message nor the transcript."""
    messages: list[Any] = []
    silent = agent_of(llm=None, hooks=PipelineHooks(after_transcribe=lambda text: None))
    async with call_simulator(silent, on_message=messages.append) as caller:
        await caller.speaks("Hello", seconds=0.5)
        await caller.waits(3.0)
    assert (messages, caller.dialogue) == ([], [])


async def test_no_words_left_are_a_veto(call_simulator: CallSimulator) -> None:
    """An after_transcribe hook that returns only blanks vetoes the turn: the LLM gets no request."""
    llm = ScriptedLLM(["Yes."])
    async with call_simulator(agent(lambda text: "  ", llm)) as caller:
        await caller.speaks("Hello", seconds=0.5)
        await caller.waits(3.0)
        assert caller.state["agent"] == "idle"
    assert (llm.requests, caller.dialogue) == ([], [])


async def test_speech_during_hook_extends_same_message(
    call_simulator: CallSimulator,
) -> None:
    """Speech during the after_transcribe hook joins the same message, and the hook receives the whole text."""
    hook, llm, said = Transcribed(delay=1.0), ScriptedLLM(["Certainly."]), []
    stt = ScriptedSTT(interim_every=0.3)
    async with call_simulator(agent(hook, llm, stt=stt), on_transcript=said.append) as caller:
        await caller.speaks("A room", seconds=0.5)
        await caller.at(1.2)  # eos was at 1.0
        await caller.speaks("or rather two", seconds=0.6)
        await caller.hears()
    assert hook.asked == ["A room", "A room or rather two"]
    assert hook.answered == ["A room or rather two"]
    assert [payload["transcript_so_far"] for payload in caller.payloads("user_speech_eos")] == hook.asked
    assert [entry["text"] for entry in said] == ["A ROOM OR RATHER TWO", "Certainly."]
    assert [message["content"] for message in llm.requests[-1][1:]] == ["A ROOM OR RATHER TWO"]
    assert len(llm.requests) == 1


async def test_speech_after_hook_and_before_reply_extends_message(
    call_simulator: CallSimulator,
) -> None:
    """Speech after the after_transcribe hook and before the reply joins the same message."""
    hook, llm = Transcribed(delay=0.1), ScriptedLLM(["Certainly."], first_token=1.0)
    async with call_simulator(agent(hook, llm)) as caller:
        await caller.speaks("A room", seconds=0.5)
        await caller.at(1.2)
        await caller.speaks("or rather two", seconds=0.6)
        await caller.hears()
    assert hook.answered == ["A room", "A room or rather two"]
    assert transcripts_of(caller, "user") == ["A ROOM", "A ROOM OR RATHER TWO"]
    assert caller.dialogue == [("user", "A ROOM OR RATHER TWO"), ("assistant", "Certainly.")]
    assert [message["content"] for message in llm.requests[-1][1:]] == ["A ROOM OR RATHER TWO"]


async def test_veto_of_extended_turn_removes_its_first_entry(
    call_simulator: CallSimulator,
) -> None:
    """A veto of an extended turn removes the history entry of the turn's beginning."""
    hook = Transcribed(lambda text: None if "never" in text else text, delay=0.1)
    phone = Patter()
    async with call_simulator(agent(hook, ScriptedLLM(["Certainly."], first_token=1.0)), phone=phone) as caller:
        await caller.speaks("A room", seconds=0.5)
        await caller.at(1.2)
        assert [entry["text"] for entry in phone.calls[0].history] == ["A room"]
        await caller.speaks("or never mind", seconds=0.6)
        await caller.waits(5.0)
        assert (phone.calls[0].history, caller.state["agent"]) == ([], "idle")
    assert hook.answered == ["A room", "A room or never mind"]
    assert caller.payloads("call_end")[0]["transcript"] == []


async def test_retracted_noise_transcript_does_not_rerun_hook(
    call_simulator: CallSimulator,
) -> None:
    """Words that the STT reports for a cough and takes back restart the reply without another run of the hook."""
    hook, llm = Transcribed(delay=0.1), ScriptedLLM(["Certainly."], first_token=2.0)
    stt = ScriptedSTT(noise="", interim_every=0.2)
    async with call_simulator(agent(hook, llm, stt=stt)) as caller:
        await caller.speaks("A room", seconds=0.5)
        await caller.at(1.5)
        await caller.coughs(0.4)
        await caller.hears()
    assert hook.answered == ["A room"]
    assert caller.dialogue == [("user", "A ROOM"), ("assistant", "Certainly.")]


async def test_late_transcript_reruns_hook_without_second_eos(
    call_simulator: CallSimulator,
) -> None:
    """A late transcript of the same utterance runs the hook again and reports no second eos."""
    hook, llm = Transcribed(delay=0.05), ScriptedLLM(["Good."], first_token=0.8)
    stt = ScriptedSTT(final_delay=0.4, interim_every=0.3)
    async with call_simulator(agent(hook, llm, stt=stt, endpointing_ms=0)) as caller:
        await caller.speaks("A room for two nights", seconds=1.0)
        await caller.hears()
    assert hook.answered[-1] == "A room for two nights"
    assert len(caller.times("user_speech_eos")) == 1
    assert len(transcripts_of(caller, "user")) == 1
    assert caller.dialogue[0] == ("user", "A ROOM FOR TWO NIGHTS")
    assert llm.requests[-1][-1]["content"] == "A ROOM FOR TWO NIGHTS"


async def test_hang_up_during_hook_keeps_original_transcript(
    call_simulator: CallSimulator, caplog: pytest.LogCaptureFixture
) -> None:
    """A hang-up during the hook ends the call in time, and the transcript keeps the original words."""
    hook, ends, said = Transcribed(delay=2.0), [], []
    async with call_simulator(agent(hook), on_call_end=ends.append, on_transcript=said.append) as caller:
        await caller.speaks("Is it open?", seconds=1.0)
        await caller.at(1.8)
        assert await hangs_up_in_time(caller) < 1.0
    assert (hook.asked, hook.answered) == (["Is it open?"], [])
    assert [entry["text"] for entry in said] == ["Is it open?"]
    assert [entry["text"] for entry in ends[0]["transcript"]] == ["Is it open?"]
    assert warned(caplog) == ["after_transcribe had not returned (leg down); the original passes"]


async def test_last_words_after_hang_up_pass_hook(call_simulator: CallSimulator) -> None:
    """The last words of a caller who hangs up pass the after_transcribe hook before they enter the transcript."""
    hook, ends = Transcribed(lambda text: text.replace("4711", "XXXX"), delay=0.0), []
    async with call_simulator(agent(hook), on_call_end=ends.append) as caller:
        await caller.speaks("My number is 4711", seconds=1.0, wait=False)
        await caller.at(1.1)
        assert await hangs_up_in_time(caller) < 1.0
    assert hook.asked == ["My number is 4711"]
    assert [entry["text"] for entry in ends[0]["transcript"]] == ["My number is XXXX"]
    assert transcripts_of(caller, "user") == ["My number is XXXX"]


async def test_last_words_do_not_wait_for_slow_hook(
    call_simulator: CallSimulator, caplog: pytest.LogCaptureFixture
) -> None:
    """The last words of a caller who hangs up do not wait for a slow hook."""
    hook, ends = Transcribed(delay=5.0), []
    async with call_simulator(agent(hook), on_call_end=ends.append) as caller:
        await caller.speaks("My number is 4711", seconds=1.0, wait=False)
        await caller.at(1.1)
        assert await hangs_up_in_time(caller) < 1.0
    assert [entry["text"] for entry in ends[0]["transcript"]] == ["My number is 4711"]
    assert warned(caplog) == ["after_transcribe had not returned (the call is over); the original passes"]


async def test_hook_timeout_still_answers_turn(call_simulator: CallSimulator, caplog: pytest.LogCaptureFixture) -> None:
    """The call gives up an after_transcribe hook that never returns, and the agent answers the turn."""
    async with call_simulator(agent(Transcribed(delay=1e9))) as caller:
        await caller.speaks("Is it open?", seconds=1.0)
        assert (await caller.hears()).text == "Yes."
    assert caller.dialogue == [("user", "Is it open?"), ("assistant", "Yes.")]
    assert caller.times("transcript")[0] == pytest.approx(1.5 + 3.0)
    [line] = warned(caplog)
    assert line.startswith("hook after_transcribe: ")
    assert line.endswith(" did not return within 3 s; the original passes")


async def test_interrupting_say_keeps_words_pending_in_hook(
    call_simulator: CallSimulator,
) -> None:
    """An interrupting say keeps the caller's words that the hook still holds."""
    phone, hook = Patter(), Transcribed(delay=1.0)
    async with call_simulator(agent(hook), phone=phone) as caller:
        await caller.speaks("Is it open?", seconds=1.0)
        await caller.at(1.8)
        phone.calls[0].say("We are closing.", interrupt=True)
        await caller.hears()
    assert caller.dialogue == [("user", "Is it open?"), ("assistant", "We are closing.")]


async def talk(caller: SimulatedCaller, rounds: int) -> None:
    for number in range(rounds):
        await caller.speaks(f"Question {number}", seconds=0.8)
        await caller.hears()


async def test_hook_delays_only_its_own_turns(call_simulator: CallSimulator) -> None:
    """A hook without delay changes no instant of a call; a hook of 0.2 s delays each first token by 0.2 s."""

    async def once(hook: Any) -> list[tuple[float, str]]:
        async with call_simulator(agent(hook, ScriptedLLM(["One.", "Two.", "Three."]))) as caller:
            await talk(caller, 3)
        return edges(caller)

    without = await once(None)
    assert await once(lambda text: text) == without
    assert await once(Transcribed(lambda text: text, delay=0.0)) == without
    slow = await once(Transcribed(lambda text: text, delay=0.2))
    first = {name: at for at, name in reversed(without)}
    assert {name: at - first[name] for at, name in reversed(slow) if name in ("user_speech_eos", "llm_token")} == {
        "user_speech_eos": 0,
        "llm_token": 200,
    }
