"""Answers that stall in mid-sentence: the text that is due is spoken by time, not by the next token."""

from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from contextlib import aclosing, asynccontextmanager
from typing import Any

import attrs
import pytest
import trio

from patter_trio import Guardrail, tool
from patter_trio.abc import LanguageModel, Message, ToolDefinition
from patter_trio.pytest_plugin import CallSimulator
from patter_trio.testing import ScriptedTTS
from tests.kit.call import agent_of

pytestmark = [pytest.mark.pipeline("an engine speaks its own text"), pytest.mark.all_carriers]

BEGIN = "Yes, we have a table for two on Friday"
REST = " evening."
ANSWER = BEGIN + REST


@attrs.frozen
class StallingLLM(LanguageModel):
    """A model that gives each piece at its instant, in seconds since it was asked."""

    pieces: Sequence[tuple[float, str]]
    provider: str = "stalling"
    model: str = "stalling"

    @asynccontextmanager
    async def stream(
        self, messages: Sequence[Message], *, tools: Sequence[ToolDefinition] = ()
    ) -> AsyncIterator[AsyncIterator[str]]:
        async with aclosing(self._tokens(trio.current_time())) as tokens:
            yield tokens

    async def _tokens(self, asked: float) -> AsyncGenerator[str, None]:
        for at, piece in self.pieces:
            await trio.sleep_until(asked + at)
            yield piece


async def given_texts(call_simulator: CallSimulator, pieces: Sequence[tuple[float, str]], **options: Any) -> Any:
    """Return the texts that the TTS was given, with their seconds since the first token, and what the caller heard."""
    given: list[tuple[float, str]] = []

    def note(sentence: str) -> str:
        given.append((trio.current_time(), sentence))
        return sentence

    agent = agent_of(llm=StallingLLM(pieces), tts=ScriptedTTS(per_character=0.066), text_transforms=[note], **options)
    async with call_simulator(agent) as caller:
        await caller.at(0.5)
        began = trio.current_time() - 0.5
        await caller.speaks("A table?", seconds=1.0)
        heard = await caller.hears(within=60.0)
    [token] = caller.times("llm_token")
    return [(round(at - began - token, 6), text) for at, text in given], heard


@tool
async def look_up(day: str) -> str:
    """Look up a day."""
    return "free"


@pytest.mark.parametrize("tools", [pytest.param([], id="plain"), pytest.param([look_up], id="tools")])
async def test_stalled_sentence_is_spoken_in_time(call_simulator: CallSimulator, tools: list[Any]) -> None:
    """Words behind a clause that is too short are given to the TTS 1.5 s after the first token, as the caller hears."""
    given, heard = await given_texts(call_simulator, [(0.1, BEGIN), (6.1, REST)], tools=tools)
    assert given == [(1.5, "Yes, we have a table for two on"), (6.0, "Friday evening.")]
    assert (heard.text, heard.interrupted) == (ANSWER, False)


async def test_stalled_clause_is_spoken_first(call_simulator: CallSimulator) -> None:
    """A clause that is long enough is given to the TTS 1 s after the first token.

    The rest when that is nearly spoken.
    """
    text = "Let me see whether that is possible, because it is"
    given, heard = await given_texts(call_simulator, [(0.1, text), (9.1, " a feast day.")])
    assert given[0] == (1.0, "Let me see whether that is possible,")
    assert [words for _, words in given[1:]] == ["because it", "is a feast", "day."]
    assert heard.text == f"{text} a feast day."


async def test_finished_sentence_does_not_wait(call_simulator: CallSimulator) -> None:
    """A sentence whose end is known is given at once, before and behind a stall."""
    pieces = [(0.1, "We are open today. "), (0.2, "On"), (0.9, " Sunday we are closed."), (1.0, " Ask me more.")]
    given, heard = await given_texts(call_simulator, pieces)
    assert given == [(0.1, "We are open today."), (0.9, "On Sunday we are closed."), (0.9, "Ask me more.")]
    assert heard.text == "We are open today. On Sunday we are closed. Ask me more."


async def test_token_at_the_due_instant_is_kept(call_simulator: CallSimulator) -> None:
    """A token that comes at the very instant at which its text is due is neither lost nor spoken twice."""
    given, heard = await given_texts(call_simulator, [(0.1, BEGIN), (1.6, REST)])
    assert heard.text == ANSWER
    assert given[0][0] == 1.5
    assert " ".join(text for _, text in given) == ANSWER


async def test_failure_while_text_is_handed_over(call_simulator: CallSimulator) -> None:
    """Text that a slow guardrail still checks when the stream ends is heard."""

    async def slow(sentence: str) -> bool:
        await trio.sleep(1.0)
        return False

    _, heard = await given_texts(
        call_simulator, [(0.1, BEGIN), (2.0, REST)], guardrails=[Guardrail("slow", check=slow)]
    )
    assert heard.text == ANSWER
