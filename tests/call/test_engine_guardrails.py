"""Guardrails beside an engine: what the caller hears, what the engine remembers, and what the history has."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any

import attrs
import pytest
import trio

from patter_trio import Agent, Guardrail, Patter, end_call
from patter_trio.abc import EngineResponse, EngineSession, EngineSetup, SpeechChunk, ToolCall
from patter_trio.call.engine_guard import SpeechBlocked, SpeechGuard
from patter_trio.pytest_plugin import CallSimulator
from patter_trio.testing import ScriptedEngine, ScriptedLLM, ScriptedTTS, ScriptedVAD, tool_call
from patter_trio.testing.scripted_providers import audible_text
from patter_trio.testing.servers.openai_realtime import RealtimeReply
from patter_trio.testing.simulation.caller import SimulatedCaller
from tests.kit.call import SORRY, sound_of_agent
from tests.kit.depth import few
from tests.kit.realtime import engine_of, serve

pytestmark = [pytest.mark.engine, pytest.mark.all_carriers]

NO_RIVALS = Guardrail("rivals", ["Initech"], replacement="Let us talk about our tables.")
SILENT = Guardrail("silent", ["Initech"], replacement="")


def agent_with(engine: Any, *guardrails: Any, **options: Any) -> Agent:
    chosen: dict[str, Any] = {"system_prompt": "You are brief.", "vad": ScriptedVAD(), "error_message": SORRY}
    return Patter().agent(**chosen | options, engine=engine, guardrails=guardrails or [NO_RIVALS])


def saying(*replies: Any, **options: Any) -> ScriptedEngine:
    return ScriptedEngine(llm=ScriptedLLM(replies, **options))


async def asks(caller: SimulatedCaller, text: str = "Who is better?") -> None:
    await caller.speaks(text, seconds=1.0)


# What is heard --------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("answer", "heard"),
    few(
        [
            ("Initech is better.", "Let us talk about our tables."),
            # The whole text is there before any of its audio: what is not checked as a whole is not spoken.
            ("We are good. But Initech is better. Ask them.", "Let us talk about our tables."),
            ("We are good. We have tables.", "We are good. We have tables."),
            ("Ask Mr. Initech about it.", "Let us talk about our tables."),
            ("no end of a sentence, and initech in it", "Let us talk about our tables."),
        ],
        2,
    ),
)
@pytest.mark.parametrize("pace", [{}, {"duration": 1.5, "first_token": 0.2}])
async def test_engine_sentence_is_blocked_before_it_sounds(
    call_simulator: CallSimulator, answer: str, heard: str, pace: dict[str, float]
) -> None:
    """A blocked sentence of an engine is not heard, its replacement is, and the history has what was heard."""
    engine = saying(answer, "Bye.", **pace)
    async with call_simulator(agent_with(engine)) as caller:
        await asks(caller)
        assert (await caller.hears()).text == heard
        await asks(caller, "Thank you.")
        assert (await caller.hears()).text == "Bye."
    assert "Initech" not in sound_of_agent(caller)
    assert caller.dialogue[1] == ("assistant", heard)
    assert len(caller.times("agent_speech_started")) == 2


async def test_engine_forgets_what_was_blocked(call_simulator: CallSimulator) -> None:
    """The engine remembers the replacement, and nothing of the answer that was not spoken."""
    llm = ScriptedLLM(["We are good. But Initech is better.", "Bye."])
    async with call_simulator(agent_with(ScriptedEngine(llm=llm))) as caller:
        await asks(caller)
        await caller.hears()
        await asks(caller, "Thank you.")
        assert (await caller.hears()).text == "Bye."
    said = [message["content"] for message in llm.requests[-1] if message["role"] == "assistant"]
    assert said == ["Let us talk about our tables."]


async def test_blocked_engine_sentence_may_be_left_out(call_simulator: CallSimulator) -> None:
    """With an empty replacement nothing is spoken in place of the blocked sentence, and the call goes on."""
    answers = iter(["Initech is better.", "Bye."])
    engine = ScriptedEngine(llm=ScriptedLLM(lambda _: next(answers)))
    async with call_simulator(agent_with(engine, SILENT)) as caller:
        await asks(caller)
        await caller.waits(3.0)
        await asks(caller, "Hello?")
        assert (await caller.hears()).text == "Bye."
    assert sound_of_agent(caller) == "Bye."


@pytest.mark.parametrize("kind", ["raises", "hangs"])
async def test_failing_check_blocks_engine_speech(call_simulator: CallSimulator, kind: str) -> None:
    """A check that raises or hangs blocks the sentence of an engine."""

    async def check(text: str) -> bool:
        if kind == "raises":
            raise RuntimeError("no")
        await trio.sleep_forever()
        return False

    guard = Guardrail("check", check=check, replacement="Never mind.")
    async with call_simulator(agent_with(saying("We are good."), guard)) as caller:
        await asks(caller)
        assert (await caller.hears()).text == "Never mind."


async def test_fixed_texts_of_engine_calls_are_not_checked(call_simulator: CallSimulator) -> None:
    """The greeting is the application's own text, and is not checked."""
    async with call_simulator(agent_with(saying("x"), first_message="Not Initech.")) as caller:
        assert (await caller.hears()).text == "Not Initech."


async def test_engine_text_before_a_tool_is_checked(call_simulator: CallSimulator) -> None:
    """A blocked sentence before a tool call is replaced, and the tool is not called."""
    engine = saying(["Initech is better", tool_call("end_call")], "Bye.")
    async with call_simulator(agent_with(engine, tools=[end_call])) as caller:
        await asks(caller)
        assert (await caller.hears()).text == "Let us talk about our tables."
        await caller.waits(2.0)
        assert not caller.outcome
        await asks(caller, "Go on.")
        assert (await caller.hears()).text == "Bye."


async def test_realtime_answer_is_guarded(call_simulator: CallSimulator) -> None:
    """A blocked sentence of OpenAI's engine is not heard, and the vendor deletes it."""

    def reply(asked: Any) -> RealtimeReply:
        is_replacement = NO_RIVALS.replacement in asked.instructions
        return RealtimeReply(text=NO_RIVALS.replacement if is_replacement else "We are good. But Initech is better.")

    async with serve(replies=reply) as vendor:
        async with call_simulator(agent_with(engine_of(vendor))) as caller:
            await asks(caller)
            await caller.hears()
            await caller.waits(3.0)
        assert "Initech" not in sound_of_agent(caller)
        assert sound_of_agent(caller).endswith(NO_RIVALS.replacement)
        assert "Initech" not in str(caller.dialogue)


# An engine whose audio comes before its words -------------------------------------------------------------------------
class _AudioFirst(EngineResponse):
    def __init__(self, inner: EngineResponse) -> None:
        self._inner = inner
        self._texts: list[str] = []

    async def __anext__(self) -> str | SpeechChunk | ToolCall:
        while True:
            try:
                piece = await anext(self._inner)
            except StopAsyncIteration:
                if not self._texts:
                    raise
                return self._texts.pop(0)
            if not isinstance(piece, str):
                return piece
            self._texts.append(piece)

    def heard(self, seconds: float) -> None:
        self._inner.heard(seconds)


class _LateWords(EngineSession):
    """A session whose answers have their words behind their audio."""

    def __init__(self, session: EngineSession) -> None:
        self._session = session

    def __getattr__(self, name: str) -> Any:
        return getattr(self._session, name)

    send = property(lambda self: self._session.send)  # type: ignore[assignment]
    voice = property(lambda self: self._session.voice)  # type: ignore[assignment]
    commit = property(lambda self: self._session.commit)  # type: ignore[assignment]
    discard = property(lambda self: self._session.discard)  # type: ignore[assignment]
    remember = property(lambda self: self._session.remember)  # type: ignore[assignment]
    events = property(lambda self: self._session.events)  # type: ignore[assignment]

    @asynccontextmanager
    async def respond(self, text: str = "", *, tools: bool = True) -> AsyncIterator[EngineResponse]:
        async with self._session.respond(text, tools=tools) as response:
            yield response if text else _AudioFirst(response)


@attrs.frozen
class LateWordsEngine(ScriptedEngine):
    """An engine that delivers the words of an answer behind its audio."""

    @asynccontextmanager
    async def open(self, setup: EngineSetup) -> AsyncIterator[EngineSession]:
        async with ScriptedEngine.open(self, setup) as session:
            yield _LateWords(session)


@pytest.mark.parametrize(("guard", "after"), [(NO_RIVALS, NO_RIVALS.replacement), (SILENT, "")])
async def test_engine_reply_is_cut_if_words_come_late(
    call_simulator: CallSimulator, guard: Guardrail, after: str
) -> None:
    """If the audio came before its words, the reply is cut at them, and the replacement follows."""
    tts = ScriptedTTS(first_audio=0.1, speed=4.0)
    engine = LateWordsEngine(llm=ScriptedLLM(["Initech is so much better than we are, at everything."]), tts=tts)
    async with call_simulator(agent_with(engine, guard)) as caller:
        await asks(caller)
        await caller.waits(8.0)
    heard = sound_of_agent(caller)
    assert "everything" not in heard
    assert heard.endswith(after)
    assert "Initech" not in str(caller.dialogue)


# The guard alone ------------------------------------------------------------------------------------------------------
class _Terms:
    """Guardrails by terms alone; counts what was checked."""

    def __init__(self, *terms: str) -> None:
        self.guard = Guardrail("terms", terms)
        self.checked: list[str] = []

    async def blocking(self, text: str) -> Guardrail | None:
        self.checked.append(text)
        return self.guard if self.guard.names(text) else None


async def passed(pieces: Sequence[str | SpeechChunk], *terms: str, settle: bool = True) -> list[str]:
    """Return what passes of the pieces, with "~" for audio, and "!" at a block, "!!" if audio may have leaked."""
    out: list[str] = []

    async def then(piece: str | SpeechChunk) -> None:
        out.append(piece if isinstance(piece, str) else "~")

    guard = SpeechGuard(_Terms(*terms or ("bad",)), language="en")  # type: ignore[arg-type]
    try:
        for piece in pieces:
            await guard.take(piece, then)
        if settle:
            await guard.settle(then)
    except SpeechBlocked as blocked:
        out.append("!!" if blocked.leaked else "!")
    return out


A = SpeechChunk(audible_text.encode("x", 4))


@pytest.mark.parametrize(
    ("pieces", "out"),
    [
        (["Yes", A, " sir", A, ".", A], ["Yes", "~", " sir", "~", ".", "~"]),
        (["Yes.", A, " A bad", A, " idea.", A], ["Yes.", "~", "!!"]),
        (["Yes. A bad", A, " idea.", A], ["!"]),
        (["A bad", A, A, " idea."], ["!"]),
        ([A, "A bad idea."], ["~", "!!"]),
        ([A, "Fine.", "A bad idea."], ["~", "Fine.", "!"]),
        (["no end", A, " bad"], ["!"]),
        (["no end", A], ["no end", "~"]),
        (["Mr.", A, " Bad is here."], ["Mr.", "~", "!!"]),
        (["\u6211\u4eec\u5f88\u597d\u3002", A], ["\u6211\u4eec\u5f88\u597d\u3002", "~"]),
        ([" ", A], [" ", "~"]),
    ],
)
async def test_speech_passes_behind_its_words(pieces: list[str | SpeechChunk], out: list[str]) -> None:
    """Audio passes when the words before it have, and a blocked sentence ends what passes."""
    assert await passed(pieces) == out


async def test_speech_of_a_complete_sentence_is_not_held() -> None:
    """The audio of a sentence that is complete passes before the answer ends."""
    assert await passed(["We open at nine.", A], settle=False) == ["We open at nine.", "~"]


async def test_long_text_without_ends_is_not_held() -> None:
    """Text without sentence ends passes as far as it was cut and checked, before the answer ends."""
    pieces = [piece for _ in range(200) for piece in ("some more words and ", A)]
    out = await passed(pieces, settle=False)
    assert len(out) > 100
