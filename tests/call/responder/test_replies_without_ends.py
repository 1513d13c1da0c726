"""Replies without sentence ends, in any script: heard 1 to 2 s after the first token, without gaps, word for word."""

# ruff: noqa: RUF001 - texts of other scripts are the point.

from collections.abc import AsyncGenerator, AsyncIterator, Callable, Sequence
from contextlib import aclosing, asynccontextmanager
from typing import Any

import attrs
import pytest
import trio

from patter_trio import tool
from patter_trio.abc import LanguageModel, Message
from patter_trio.pytest_plugin import CallSimulator
from patter_trio.testing import ScriptedLLM, ScriptedTTS, tool_call
from tests.kit.call import agent_of
from tests.kit.depth import few

pytestmark = [pytest.mark.pipeline("an engine speaks its own text"), pytest.mark.all_carriers]

TEXTS = {
    "en": "sure i can help with that we are open monday to friday from nine to five and on saturday until noon " * 6,
    "en-lower": "sure, i can help with that. what day works for you? we are open monday to friday. saturday is free. "
    * 6,
    "de": "klar das geht wir haben montag bis freitag von neun bis fünf offen und samstags bis zwölf uhr mittags " * 6,
    "th": "สวัสดีครับยินดีให้บริการครับร้านของเราเปิดตั้งแต่วันจันทร์ถึงวันศุกร์เวลาเก้าโมงเช้าถึงห้าโมงเย็น" * 3,
    "zh": "您好我是小美我们今天营业到六点请问您需要什么服务我可以帮您预订座位也可以告诉您今天的菜单" * 4,
    "ja": "いらっしゃいませ本日は午前九時から午後五時まで営業しておりますご予約も承っておりますのでお気軽にどうぞ" * 4,
    "ru": "да конечно мы открыты с понедельника по пятницу с девяти до пяти а в субботу до полудня приходите " * 6,
}
SIZES = {"th": 3, "zh": 2, "ja": 2}
"""Characters of a token; 10 tokens come in a second."""


@attrs.frozen
class SteadyLLM(LanguageModel):
    """A model that gives a piece every tenth of a second."""

    pieces: Sequence[str]
    provider: str = "steady"
    model: str = "steady"

    @asynccontextmanager
    async def stream(self, messages: Sequence[Message]) -> AsyncIterator[AsyncIterator[str]]:
        async with aclosing(steady(self.pieces)) as tokens:
            yield tokens


async def steady(pieces: Sequence[str]) -> AsyncGenerator[str, None]:
    for piece in pieces:
        await trio.sleep(0.1)
        yield piece


def pieces_of(language: str) -> list[str]:
    text, size = TEXTS[language], SIZES.get(language, 5)
    return [text[start : start + size] for start in range(0, len(text), size)]


@pytest.mark.parametrize("language", few(TEXTS, 3))
@pytest.mark.parametrize("by", ["llm", "on_message"])
async def test_reply_without_ends_is_heard_soon(call_simulator: CallSimulator, language: str, by: str) -> None:
    """The first sound comes 1 to 2 s after the first token, and every word is heard and remembered."""
    pieces = pieces_of(language)

    async def on_message(event: dict[str, Any]) -> AsyncIterator[str]:
        async for piece in steady(pieces):
            yield piece

    # As fast as people speak: 15 letters a second, 5 ideographs.
    tts = ScriptedTTS(per_character=0.2 if language in ("zh", "ja") else 0.066)
    options: dict[str, Any] = {} if by == "llm" else {"on_message": on_message}
    llm = SteadyLLM(pieces) if by == "llm" else None
    async with call_simulator(agent_of(llm=llm, tts=tts, language=language[:2]), **options) as caller:
        await caller.speaks("Your hours?", seconds=1.0)
        reply = await caller.hears(within=120.0)
    [first_token] = caller.times("llm_token")
    [sound] = caller.times("audio_out")
    assert sound - first_token <= 2.0
    words = "".join(TEXTS[language].split())
    assert "".join(reply.text.split()) == words
    assert "".join(caller.transcript[-1]["text"].split()) == words


@pytest.mark.parametrize("language", few(["en", "th", "ja"], 1))
@pytest.mark.costly
async def test_reply_without_ends_has_no_gaps(call_simulator: CallSimulator, language: str) -> None:
    """While the model keeps up with the voice, the caller hears no gap between the pieces."""
    tts = ScriptedTTS(per_character=0.2 if language == "ja" else 0.066, first_audio=0.3)
    async with call_simulator(agent_of(llm=SteadyLLM(pieces_of(language)), tts=tts, language=language)) as caller:
        await caller.speaks("Your hours?", seconds=1.0)
        reply = await caller.hears(within=120.0)
    spoken = len(TEXTS[language].strip()) * tts.per_character
    assert reply.seconds <= spoken * 1.03 + 0.1


async def test_sentences_of_a_slow_model_stay_whole(call_simulator: CallSimulator) -> None:
    """A sentence that comes in time is never cut, though the model gives only 50 characters a second."""
    text = "We are open from nine to five today. On Saturday we close at noon. On Sunday we are closed all day."
    given: list[str] = []

    def note(sentence: str) -> str:
        given.append(sentence)
        return sentence

    llm = SteadyLLM([text[start : start + 5] for start in range(0, len(text), 5)])
    async with call_simulator(agent_of(llm=llm, text_transforms=[note])) as caller:
        await caller.speaks("Your hours?", seconds=1.0)
        await caller.hears()
    assert given == [f"{sentence}." for sentence in text.removesuffix(".").split(". ")]


@pytest.mark.parametrize(
    "text", ["let me look that up for you", "少々お待ちください確認いたします", "один момент пожалуйста"]
)
async def test_piece_without_end_is_heard_in_pause(call_simulator: CallSimulator, text: str) -> None:
    """A piece of a generator that ends no sentence is heard whole within 2 s, though the next takes 6 s."""

    async def on_message(event: dict[str, Any]) -> AsyncIterator[str]:
        yield text
        await trio.sleep(6.0)
        yield " ok."

    async with call_simulator(agent_of(llm=None), on_message=on_message) as caller:
        await caller.speaks("Your hours?", seconds=1.0)
        heard = await caller.hears()
    [first_token] = caller.times("llm_token")
    assert heard.text == f"{text} ok."
    assert heard.started - first_token <= 2.0


def noting(given: list[str]) -> Callable[[str], str]:
    """Return a text transform that keeps each text that the TTS is given."""

    def note(sentence: str) -> str:
        given.append(sentence)
        return sentence

    return note


async def test_words_behind_a_sentence_are_spoken_in_time(call_simulator: CallSimulator) -> None:
    """Words that come with the end of a sentence are spoken in time, though nothing follows them for 8 s."""
    given: list[str] = []

    async def on_message(event: dict[str, Any]) -> AsyncIterator[str]:
        yield "I have found your appointment here. Now let me look up the doctor who"
        await trio.sleep(8.0)
        yield " sees you then."

    agent = agent_of(llm=None, tts=ScriptedTTS(per_character=0.066), text_transforms=[noting(given)])
    async with call_simulator(agent, on_message=on_message) as caller:
        await caller.speaks("When?", seconds=1.0)
        await caller.at(7.0)
        assert given == ["I have found your appointment here.", "Now let me look up the doctor who"]
        reply = await caller.hears()
    assert reply.text == "I have found your appointment here. Now let me look up the doctor who sees you then."


async def test_sentence_behind_a_tool_is_not_chopped(call_simulator: CallSimulator) -> None:
    """The first sentence of the answer that follows a tool's long work is spoken whole when its tokens come in time."""
    given: list[str] = []

    @tool
    async def look_up(day: str) -> str:
        """Look up a day."""
        await trio.sleep(5.0)
        return "nine"

    answer = "Your appointment is on Monday at nine sharp."
    llm = ScriptedLLM([["Let me check that for you.", tool_call("look_up", day="Monday")], answer], duration=0.6)
    agent = agent_of(llm=llm, tools=[look_up], text_transforms=[noting(given)])
    async with call_simulator(agent) as caller:
        await caller.speaks("When?", seconds=1.0)
        await caller.hears()
    assert given == ["Let me check that for you.", answer]
