"""What history and callbacks say of a reply in scripts without spaces: its text as generated, as far as heard."""

from collections.abc import AsyncIterator
from typing import Any

import pytest

from patter_trio import tool
from patter_trio.pytest_plugin import CallSimulator
from patter_trio.testing import ScriptedLLM, ScriptedTTS, tool_call
from tests.kit.call import Backend, agent_of, transcripts_of

pytestmark = pytest.mark.all_carriers

ANSWERS = {
    "ja": "かしこまりました。少々お待ちください。本日は午前九時から午後五時まで営業しております。",
    "zh": "您好！请问需要什么服务？我们今天营业到六点。",
    "th": "สวัสดีค่ะ ยินดีให้บริการ วันนี้เราเปิดเก้าโมงเช้าถึงห้าโมงเย็นค่ะ",
    "ko": "안녕하세요. 무엇을 도와드릴까요? 오늘은 아홉 시에 엽니다.",
    "en": "Certainly. One moment, please. We are open from nine to five today.",
}
languages = pytest.mark.parametrize("language", ANSWERS)
both_backends = pytest.mark.both_backends


@both_backends
@languages
async def test_history_has_the_text_as_generated(
    call_simulator: CallSimulator, backend: Backend, language: str
) -> None:
    """Greeting and answer stand in the history as they were written: no space is added or lost."""
    answer = ANSWERS[language]
    agent = backend.agent_of(answer, first_message=answer, language=language)
    async with call_simulator(agent) as caller:
        await caller.heard(0)
        await caller.speaks("Hello", 0.5)
        await caller.heard(1)
    assert transcripts_of(caller, "assistant") == [answer, answer]


@languages
async def test_pieces_of_on_message_join_as_written(call_simulator: CallSimulator, language: str) -> None:
    """The pieces of ``on_message`` stand in the history as they were given, wherever they are cut."""
    answer = ANSWERS[language]

    async def on_message(event: dict[str, Any]) -> AsyncIterator[str]:
        for start in range(0, len(answer), 4):
            yield answer[start : start + 4]

    async with call_simulator(agent_of(llm=None, language=language), on_message=on_message) as caller:
        await caller.speaks("Hello", 0.5)
        await caller.heard(0)
    assert transcripts_of(caller, "assistant") == [answer]


@both_backends
@pytest.mark.parametrize("timings", [True, False])
@languages
async def test_cut_reply_counts_what_sounded(
    call_simulator: CallSimulator, backend: Backend, language: str, timings: bool
) -> None:
    """Of a reply that is cut, history and callbacks have the part that sounded, with and without word times."""
    answer = ANSWERS[language]
    each = 8.0 / len(answer)
    tts = ScriptedTTS(duration=8.0, per_character=each, timings=timings)
    async with call_simulator(backend.agent_of(llm=ScriptedLLM([answer]), tts=tts, language=language)) as caller:
        await caller.speaks("Hello", 0.5)
        await caller.at(6.0)
        await caller.speaks("Stop", 0.5)
        heard = await caller.heard(0)
    text = transcripts_of(caller, "assistant")[0]
    assert heard.interrupted
    assert answer.startswith(text)
    assert answer.startswith(heard.text)
    # Rounded down to a word of English or Korean, a character of the others with its signs; sentences share the sound.
    exact = len(answer) * heard.seconds / 8.0
    assert exact - (9 if language in ("en", "ko") else 4) <= len(text) <= exact + 3
    assert not timings or text == heard.text
    assert caller.payloads("interruption")[0]["text"] == text


@both_backends
async def test_progress_joins_answer_without_spaces(call_simulator: CallSimulator, backend: Backend) -> None:
    """The texts before, during and after a tool stand in the history without spaces in Japanese."""

    @tool
    async def hours() -> AsyncIterator[dict[str, str]]:
        """Look the opening hours up."""
        yield {"progress": "少々お待ちください。"}
        yield {"result": "nine"}

    llm = ScriptedLLM([["承知しました。", tool_call("hours")], "九時からです。どうぞ。"])
    async with call_simulator(backend.agent_of(llm=llm, tools=[hours], language="ja")) as caller:
        await caller.speaks("Hello", 0.5)
        await caller.heard(0)
    assert transcripts_of(caller, "assistant") == ["承知しました。少々お待ちください。九時からです。どうぞ。"]


@pytest.mark.parametrize(
    ("language", "text"),
    [
        ("th", " ".join(["สวัสดีค่ะ ยินดีต้อนรับ วันนี้ร้านเปิดตั้งแต่เก้าโมงเช้าถึงหกโมงเย็น"] * 12)),
        ("th", "วันนี้ร้านเปิดตั้งแต่เก้าโมงเช้าถึงหกโมงเย็น" * 12),
        ("ja", "本日は午前九時から午後五時まで営業しており、" * 12),
        ("en", " ".join(["sure, i can help with that. what day works for you?"] * 8)),
    ],
)
async def test_text_cut_anywhere_is_joined_again(call_simulator: CallSimulator, language: str, text: str) -> None:
    """A text without sentence ends, cut at clauses or in the middle of a run, stands in the history as generated."""
    tts = ScriptedTTS(per_character=0.02)
    async with call_simulator(agent_of(text, tts=tts, language=language)) as caller:
        await caller.speaks("Hello", 0.5)
        await caller.heard(0)
    assert transcripts_of(caller, "assistant") == [text]
