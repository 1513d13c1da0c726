"""The text between model and voice: filtered as a stream by default, reasoning and leaked tool calls never spoken."""

from collections.abc import AsyncIterator
from typing import Any

import pytest

from patter_trio import CallControl, filter_emoji, filter_for_tts
from patter_trio.pytest_plugin import CallSimulator
from patter_trio.testing import ScriptedLLM
from tests.kit.call import agent_of

pytestmark = [pytest.mark.pipeline("an engine speaks its own text"), pytest.mark.all_carriers]

WRITTEN = "**Opening hours**\n- Mon: 9-5\n- Tue: 9-5 😊\n\n| Day | Price |\n|---|---|\n| Sun | 5 |\n"
SAID = filter_for_tts(WRITTEN)


def plain(event: dict[str, Any]) -> str:
    return WRITTEN


async def streamed(event: dict[str, Any]) -> AsyncIterator[str]:
    for start in range(0, len(WRITTEN), 4):
        yield WRITTEN[start : start + 4]


async def answer(call_simulator: CallSimulator, written: str, **options: Any) -> tuple[str, str]:
    """Return what the caller hears of an answer, and what the history has of it."""
    async with call_simulator(agent_of(written, **options)) as caller:
        await caller.speaks("Your hours?", seconds=1.0)
        heard = (await caller.hears()).text
    return heard, caller.transcript[-1]["text"]


async def test_answers_are_filtered_by_default(call_simulator: CallSimulator) -> None:
    """An agent without text_transforms speaks and remembers an answer without Markdown and emoji."""
    assert await answer(call_simulator, WRITTEN) == (SAID, SAID)


@pytest.mark.parametrize("on_message", [plain, streamed])
async def test_messages_are_filtered_by_default(call_simulator: CallSimulator, on_message: Any) -> None:
    """The answer of on_message is filtered, whole or in pieces."""
    async with call_simulator(agent_of(llm=None), on_message=on_message) as caller:
        await caller.speaks("Your hours?", seconds=1.0)
        assert (await caller.hears()).text == SAID
    assert caller.transcript[-1]["text"] == SAID


async def test_texts_of_the_application_are_filtered(call_simulator: CallSimulator) -> None:
    """first_message and say() are filtered like answers."""

    async def press(event: dict[str, Any], control: CallControl) -> None:
        await control.say("See [our page](https://example.com).")

    async with call_simulator(agent_of(first_message="**Hello** 👋 <b>you</b>!"), on_dtmf=press) as caller:
        assert (await caller.hears()).text == "Hello you!"
        await caller.presses("1")
        assert (await caller.hears()).text == "See our page."


async def test_no_transforms_leave_the_text(call_simulator: CallSimulator) -> None:
    """With an empty list the text is spoken as it is, but for reasoning."""
    written = "**Hello** <think>Hm.</think>you!"
    assert await answer(call_simulator, written, text_transforms=[]) == ("**Hello** you!",) * 2


async def test_transforms_of_sentences_leave_markdown(call_simulator: CallSimulator) -> None:
    """A list without filter_for_tts does not filter the stream."""
    assert await answer(call_simulator, "**Hello** you! 😊", text_transforms=[filter_emoji]) == ("**Hello** you!",) * 2


@pytest.mark.parametrize("place", [0, 1])
async def test_filter_in_a_list_filters_the_stream(call_simulator: CallSimulator, place: int) -> None:
    """filter_for_tts in a list is applied to the stream, and again where a transform before it adds marks."""
    seen: list[str] = []

    def marks(sentence: str) -> str:
        seen.append(sentence)
        return f"**{sentence}**"

    transforms = [filter_for_tts, str.upper] if place == 0 else [marks, filter_for_tts]
    heard, _ = await answer(call_simulator, WRITTEN, text_transforms=transforms)
    assert heard == (SAID.upper() if place == 0 else SAID)
    assert " ".join(seen) in (SAID, "")


@pytest.mark.parametrize(
    ("written", "said"),
    [
        ("<think>\nThe caller wants hours.\n</think>\n\nWe open at nine.", "We open at nine."),
        ("We open at nine. <tool_call>{}</tool_call>", "We open at nine."),
        ('We open at nine. {"name": "end_call", "arguments": {}}', "We open at nine."),
        ("We open at nine. [TOOL_CALLS] []", "We open at nine."),
    ],
)
@pytest.mark.parametrize("transforms", [None, []])
async def test_text_for_programs_is_not_spoken(
    call_simulator: CallSimulator, written: str, said: str, transforms: Any
) -> None:
    """Reasoning and leaked tool calls are neither spoken nor remembered, with and without the filter."""
    assert await answer(call_simulator, written, text_transforms=transforms) == (said, said)


async def test_overrides_switch_the_filter_off(call_simulator: CallSimulator) -> None:
    """on_call_start may replace the text transforms, and None stands for the filter."""
    for transforms, said in (([], "**Hello** you!"), (None, "Hello you!")):

        def start(event: dict[str, Any], transforms: Any = transforms) -> dict[str, Any]:
            return {"text_transforms": transforms}

        async with call_simulator(agent_of("**Hello** you!", text_transforms=[]), on_call_start=start) as caller:
            await caller.speaks("Hello?", seconds=1.0)
            assert (await caller.hears()).text == said


async def test_long_answer_takes_many_steps(call_simulator: CallSimulator) -> None:
    """An answer of 20,000 characters at once is worked on in slices, between which other tasks run."""
    written = "word " * 4_000
    steps = 0

    def note(sentence: str) -> str:
        nonlocal steps
        steps += 1
        return sentence if steps == 1 else ""

    async with call_simulator(agent_of(llm=ScriptedLLM([written]), text_transforms=[filter_for_tts, note])) as caller:
        await caller.speaks("Hello?", seconds=1.0)
        await caller.hears()
    assert steps >= 50
