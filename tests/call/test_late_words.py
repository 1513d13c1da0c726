"""Words that come late, or that the STT corrects: who is told, what is answered, and what the history has."""

# ruff: noqa: RUF001 (other scripts have their own punctuation)

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any

import attrs
import pytest
import trio

from patter_trio import Agent, Patter, PatterEventType, PipelineHooks, end_call
from patter_trio.abc import SpeechToText, SpeechToTextSession, Transcript
from patter_trio.pytest_plugin import CallSimulator
from patter_trio.testing import ScriptedLLM, ScriptedSTT, ScriptedTTS, ScriptedVAD, tool_call
from patter_trio.testing.simulation.caller import SimulatedCaller
from tests.kit.call import Backend, agent_of, hangs_up_in_time, transcripts_of

pytestmark = [pytest.mark.both_backends, pytest.mark.all_carriers]


class _TimedSession(SpeechToTextSession):
    def __init__(self, results: Sequence[tuple[float, Transcript]]) -> None:
        self._results = results

    async def send(self, audio: bytes) -> None:
        await trio.lowlevel.checkpoint()

    async def flush(self) -> None:
        await trio.lowlevel.checkpoint()

    async def transcripts(self) -> AsyncIterator[Transcript]:
        began = trio.current_time()
        for at, result in self._results:
            await trio.sleep_until(began + at)
            yield result
        await trio.sleep_forever()


@attrs.frozen
class TimedSTT(SpeechToText):
    """An STT that gives certain results at certain times, whatever it hears."""

    results: Sequence[tuple[float, Transcript]]
    provider: str = "timed"

    @asynccontextmanager
    async def open(self, *, language: str) -> AsyncIterator[SpeechToTextSession]:
        yield _TimedSession(self.results)


def interim(at: float, text: str, segment: int = 1) -> tuple[float, Transcript]:
    return at, Transcript(text, final=False, segment=segment)


def final(at: float, text: str, segment: int = 1) -> tuple[float, Transcript]:
    return at, Transcript(text, final=True, segment=segment)


def eos(caller: SimulatedCaller) -> list[tuple[float, str | None]]:
    payloads = caller.payloads("user_speech_eos")
    return [
        (round(at, 2), payload.get("transcript_so_far"))
        for at, payload in zip(caller.times("user_speech_eos"), payloads, strict=True)
    ]


def user_entries(caller: SimulatedCaller) -> list[tuple[str, bool]]:
    """Return what on_transcript was told of the caller, and whether it took the place of what was told before."""
    return [
        (payload["text"], payload.get("revises", False))
        for payload in caller.payloads("transcript")
        if payload["role"] == "user"
    ]


# Late words -----------------------------------------------------------------------------------------------------------
@pytest.mark.pipeline("of the recogniser")
@pytest.mark.parametrize("answers", ["llm", "on_message"])
async def test_late_words_are_reported_and_answered_together(call_simulator: CallSimulator, answers: str) -> None:
    """Final words 0.1 s after the commit fire a second eos, revise on_transcript, and are answered with the first."""
    phone, published, asked = Patter(), [], []
    phone.events.on(PatterEventType.TRANSCRIPT_FINAL, lambda event: published.append(dict(event)))

    async def on_message(event: dict[str, Any]) -> str:
        asked.append((event["text"], [entry["text"] for entry in event["history"]]))
        return "Gladly."

    llm = ScriptedLLM(["Gladly."], first_token=0.0)
    agent = agent_of(
        vad=ScriptedVAD(end_delay=0.1),
        stt=ScriptedSTT(final_delay=0.6),
        llm=llm if answers == "llm" else None,
        tts=ScriptedTTS(first_audio=0.3),
    )
    options = {"on_message": on_message} if answers == "on_message" else {}
    async with call_simulator(agent, phone=phone, **options) as caller:
        await caller.speaks("I would like", seconds=0.8)
        await caller.waits(0.3)
        await caller.speaks("a table for two", seconds=0.8)
        await caller.hears()
        await caller.waits(1.0)
    whole = "I would like a table for two"
    assert eos(caller) == [(2.4, "I would like"), (2.5, whole)]
    assert user_entries(caller) == [("I would like", False), (whole, True)]
    assert [(event["text"], event.get("revises")) for event in published] == [
        ("I would like", None),
        (whole, True),
        ("Gladly.", None),
    ]
    if answers == "llm":
        asked = [(request[-1]["content"], [m["content"] for m in request[1:-1]]) for request in llm.requests]
    assert asked == [("I would like", []), (whole, [])]
    assert [payload["turn_idx"] for payload in caller.payloads("agent_speech_started")] == [2]
    assert caller.dialogue == [("user", whole), ("assistant", "Gladly.")]
    assert caller.metrics is not None
    assert [(t.turn_index, t.user_text, t.interrupted) for t in caller.metrics.turns] == [
        (1, "I would like", True),
        (2, whole, False),
    ]


async def test_extended_utterance_revises_its_transcript(call_simulator: CallSimulator, backend: Backend) -> None:
    """A second utterance before the answer is heard is reported with the first one, and marked as a revision."""
    agent = backend.agent_of("Gladly.", tts=ScriptedTTS(first_audio=0.6))
    async with call_simulator(agent) as caller:
        await caller.speaks("I need a table", seconds=0.8)
        await caller.waits(0.6)
        await caller.speaks("for four", seconds=0.6)
        await caller.hears()
        await caller.speaks("Thank you", seconds=0.6)
        await caller.hears()
    entries = user_entries(caller)
    assert entries[-2:] == [("I need a table for four", len(entries) == 3), ("Thank you", False)]
    assert entries[:-2] in ([], [("I need a table", False)])
    assert [text for role, text in caller.dialogue if role == "user"] == ["I need a table for four", "Thank you"]


@pytest.mark.pipeline("of the recogniser")
async def test_after_transcribe_revises_what_it_was_asked_about(call_simulator: CallSimulator) -> None:
    """The hook sees corrected words of a turn that was answered, and its result revises the entry."""
    stt = TimedSTT([interim(0.4, "my pin is elf on"), final(3.5, "My PIN is alpha one.")])
    hooks = PipelineHooks(after_transcribe=lambda text: text.replace("PIN", "***").replace("pin", "***"))
    async with call_simulator(agent_of("Noted.", stt=stt, hooks=hooks)) as caller:
        await caller.speaks("", seconds=0.8)
        await caller.waits(4.0)
    assert user_entries(caller) == [("my *** is elf on", False), ("My *** is alpha one.", True)]
    assert caller.dialogue == [("user", "My *** is alpha one."), ("assistant", "Noted.")]


@pytest.mark.pipeline("of the recogniser")
@pytest.mark.parametrize(
    ("words", "answers", "eos_count"),
    [
        ("I want to cancel.", 1, 1),
        ("I want to cancel, my order.", 2, 2),
        ("I want two candles", 2, 2),
    ],
)
async def test_corrected_words_reach_everyone(
    call_simulator: CallSimulator, words: str, answers: int, eos_count: int
) -> None:
    """A final result that differs from the committed interim is told, and answered anew if more than form differs."""
    stt = TimedSTT([interim(0.4, "i want to cancel"), final(3.0, words)])
    llm = ScriptedLLM(["I see."], first_token=1.0)
    async with call_simulator(agent_of(llm=llm, stt=stt)) as caller:
        await caller.speaks("", seconds=0.8)
        await caller.waits(6.0)
    assert user_entries(caller) == [("i want to cancel", False), (words, True)]
    assert len(eos(caller)) == eos_count
    assert [request[-1]["content"] for request in llm.requests] == ["i want to cancel", words][:answers]
    assert caller.dialogue == [("user", words), ("assistant", "I see.")]


# Scripts without spaces -----------------------------------------------------------------------------------------------
@pytest.mark.pipeline("of the recogniser")
@pytest.mark.parametrize(
    ("first", "second", "whole"),
    [
        ("もしもし", "聞こえますか", "もしもし聞こえますか"),
        ("请问", "几点开门？", "请问几点开门？"),
        ("ขอโทษครับ", "เปิดกี่โมง", "ขอโทษครับเปิดกี่โมง"),
        ("여보세요", "들리세요", "여보세요 들리세요"),
        ("Hello", "can you hear me", "Hello can you hear me"),
        ("我要", "iPhone", "我要 iPhone"),
    ],
)
async def test_finals_are_joined_as_their_script_is(
    call_simulator: CallSimulator, first: str, second: str, whole: str
) -> None:
    """Two final results of one utterance are joined with a space only where the script has spaces."""
    stt = TimedSTT([final(0.6, first, 1), final(1.2, second, 2)])
    async with call_simulator(agent_of(stt=stt)) as caller:
        await caller.speaks("", seconds=1.0)
        await caller.hears()
    assert eos(caller) == [(1.5, whole)]
    assert caller.dialogue[0] == ("user", whole)


@pytest.mark.pipeline("only its STT has interim words")
@pytest.mark.parametrize(
    ("words", "cuts"),
    [
        ("請等一下我想問別的事情", True),
        ("ちょっと待ってください", True),
        ("ขอโทษครับรอสักครู่", True),
        ("잠깐만 기다려 주세요", True),
        ("please wait a moment", True),
        ("嗯", False),
        ("はい", False),
        ("ครับ", False),
        ("네", False),
        ("right", False),
    ],
)
async def test_words_interrupt_in_every_script(call_simulator: CallSimulator, words: str, cuts: bool) -> None:
    """With barge_in_min_words=2, a sentence cuts the greeting in any script, and a remark of one word does not."""
    agent = agent_of(
        first_message="Good morning and welcome to our house.",
        barge_in_min_words=2,
        stt=ScriptedSTT(interim_every=0.3),
        tts=ScriptedTTS(duration=10.0),
    )
    async with call_simulator(agent) as caller:
        await caller.at(2.0)
        await caller.speaks(words, seconds=2.0)
        await caller.waits(0.5)
        cut = caller.payloads("interruption")
        assert [event["reason"] for event in cut] == (["barge-in"] if cuts else [])


# Words in noise -------------------------------------------------------------------------------------------------------
@pytest.mark.pipeline("an engine hears for itself")
@pytest.mark.parametrize("answers", ["llm", "on_message"])
@pytest.mark.parametrize("every", [None, 0.3])
async def test_words_are_answered_although_noise_goes_on(
    call_simulator: CallSimulator, every: float | None, answers: str
) -> None:
    """Words of a voice that goes on as noise for 18 s are answered within 6 s."""
    asked: list[float] = []

    def at_nine(messages: Any) -> str:
        asked.append(trio.current_time())
        return "At nine."

    llm = ScriptedLLM(at_nine) if answers == "llm" else None
    options = {"on_message": at_nine} if answers == "on_message" else {}
    async with call_simulator(agent_of(llm=llm, stt=ScriptedSTT(interim_every=every)), **options) as caller:
        began = trio.current_time() - caller.now
        await caller.speaks("what are your opening hours?", seconds=1.5)
        await caller.coughs(18.5, wait=False)
        await caller.at(8.0)
        assert [round(at - began, 1) for at in asked] == [pytest.approx(5.4, abs=0.6)]
        assert (await caller.heard(0)).text == "At nine."
    assert caller.payloads("user_speech_ended")[0]["speech_duration_ms"] <= 1800


@pytest.mark.pipeline("an engine hears for itself")
@pytest.mark.parametrize(
    "stt",
    [
        ScriptedSTT(),
        ScriptedSTT(final_delay=3.0),
        ScriptedSTT(final_delay=6.0),
        ScriptedSTT(final_delay=3.0, interim_every=0.3),
        ScriptedSTT(final_delay=1.0, interim_every=2.5),
    ],
    ids=repr,
)
async def test_continuing_caller_is_not_answered(call_simulator: CallSimulator, stt: ScriptedSTT) -> None:
    """The agent does not answer while the caller speaks for 16 s without a pause, however slow the STT is."""
    agent = agent_of("I see.", stt=stt)
    async with call_simulator(agent) as caller:
        await caller.speaks("I have a question about my order", seconds=1.5)
        await caller.speaks("that was to come on Monday but did not and now I would like to know", seconds=14.5)
        await caller.waits(8.0)
    assert min(caller.times("user_speech_eos")) >= 16.0
    words = " ".join(text for role, text in caller.dialogue if role == "user").split()
    assert " ".join(words).startswith("I have a question about my order that was to come on Monday")


# A goodbye that the caller talks over ---------------------------------------------------------------------------------
GOODBYE = "Have a very nice day and goodbye for now!"


def parting(llm: ScriptedLLM, **options: Any) -> Agent:
    return agent_of(llm=llm, tools=[end_call], tts=ScriptedTTS(duration=5.0), **options)


@pytest.mark.pipeline("an engine's words come too late to decide")
@pytest.mark.parametrize("words", ["okay thanks bye", "Vielen Dank, auf Wiederhören.", "はい、ありがとうございました"])
async def test_farewell_over_goodbye_ends_the_call(call_simulator: CallSimulator, words: str) -> None:
    """A farewell over the agent's goodbye ends the call, and the model is not asked again."""
    llm = ScriptedLLM([[GOODBYE, tool_call("end_call")]])
    async with call_simulator(parting(llm)) as caller:
        await caller.speaks("That is all.", seconds=1.0)
        await caller.waits(1.5)
        await caller.speaks(words, seconds=1.0)
        await caller.waits(5.0)
        assert caller.outcome == "agent_hung_up"
    assert len(llm.requests) == 1
    assert transcripts_of(caller, "user") == ["That is all.", words]
    assert [call["name"] for call in caller.payloads("call_end")[0]["tool_calls"]] == ["end_call"]


@pytest.mark.pipeline("an engine's words come too late to decide")
async def test_cough_over_goodbye_ends_the_call(call_simulator: CallSimulator) -> None:
    """A cough that cuts the goodbye does not leave the caller in a silent call."""
    llm = ScriptedLLM([[GOODBYE, tool_call("end_call")]])
    async with call_simulator(parting(llm)) as caller:
        await caller.speaks("That is all.", seconds=1.0)
        await caller.waits(1.5)
        await caller.coughs(0.6)
        await caller.waits(5.0)
        assert caller.outcome == "agent_hung_up"
    assert len(llm.requests) == 1


# A caller who hangs up ------------------------------------------------------------------------------------------------
async def test_hang_up_mid_sentence_is_a_turn(call_simulator: CallSimulator, backend: Backend) -> None:
    """A hang-up in mid-sentence ends the voice and the utterance, and on_transcript reports the words."""
    async with call_simulator(backend.agent_of()) as caller:
        await caller.speaks("Please cancel my order", seconds=1.6, wait=False)
        await caller.at(1.4)
        assert await hangs_up_in_time(caller) < 1.0
    names = [name for _, name, _ in caller.events]
    order = [
        name for name in names if name in ("user_speech_started", "user_speech_ended", "user_speech_eos", "transcript")
    ]
    assert order == ["user_speech_started", "user_speech_ended", "user_speech_eos", "transcript"]
    assert caller.payloads("user_speech_ended")[0]["speech_duration_ms"] == 1400
    [(text, revises)] = user_entries(caller)
    assert text.startswith("Please cancel")
    assert not revises
    assert caller.metrics is not None
    assert [(turn.turn_index, turn.interrupted) for turn in caller.metrics.turns] == [(1, True)]


async def test_hang_up_without_words_has_no_eos(call_simulator: CallSimulator, backend: Backend) -> None:
    """A hang-up without a word fires no eos."""
    async with call_simulator(backend.agent_of(first_message="Hello.")) as caller:
        await caller.hears()
        await hangs_up_in_time(caller)
    assert eos(caller) == []
