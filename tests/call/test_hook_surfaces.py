"""Each hook that rewrites text: in which places the text before it remains (the table of docs/hooks.md)."""

import json
import re
from collections import defaultdict
from collections.abc import Mapping
from typing import Any

import pytest

from patter_trio import Guardrail, Patter, PatterEventType, PipelineHooks
from patter_trio.pytest_plugin import CallSimulator
from patter_trio.testing import ScriptedLLM, ScriptedSTT
from tests.kit.call import agent_of

pytestmark = pytest.mark.all_carriers

CARD = "4111 1111 1111 1111"

TOLD = {"on_transcript", "on_call_end", "transcript_final", "metrics"}
"""The places that have the history's text."""
OF_CALLER = TOLD | {"eos", "transcript_partial", "LLM"}
OF_AGENT = TOLD | {"heard", "llm_chunk", "LLM"}


def hidden(text: str) -> str:
    """Return a text without its numbers; shorter runs too, for partial results have the beginning of one."""
    return re.sub(r"\d[\d ]{2,}\d", "[number]", text)


def _in_messages(messages: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [{**message, "content": hidden(message["content"])} for message in messages]


async def places(call_simulator: CallSimulator, options: Mapping[str, Any], *, says: str, answer: str) -> set[str]:
    """Return the places in which a call has the card's number."""
    phone, texts = Patter(), defaultdict[str, list[Any]](list)
    for kind in PatterEventType:
        phone.events.on(kind, texts[kind.value].append)
    llm = ScriptedLLM([answer, "Fine."])
    agent = agent_of(stt=ScriptedSTT(interim_every=0.5), llm=llm, **options)
    async with call_simulator(
        agent,
        phone=phone,
        on_transcript=texts["on_transcript"].append,
        on_call_end=texts["on_call_end"].append,
    ) as caller:
        await caller.speaks(says, seconds=3.0)
        texts["heard"].append((await caller.heard(0)).text)
        await caller.speaks("Thanks.", seconds=1.0)
        await caller.heard(1)
    texts["llm_chunk"] = ["".join(chunk["text"] for chunk in texts["llm_chunk"])]
    texts["LLM"] = llm.requests
    texts["eos"] = caller.payloads("user_speech_eos")
    texts["metrics"] = texts.pop("metrics_collected", [])
    found = {place for place, items in texts.items() if CARD[:9] in json.dumps(items, default=repr)}
    # The bus has the same payload as on_call_end.
    return found - {"call_ended"}


@pytest.mark.parametrize(
    ("options", "remains"),
    [
        ({}, OF_CALLER),
        ({"hooks": PipelineHooks(after_stt=lambda transcript: hidden(transcript.text))}, set()),
        ({"hooks": PipelineHooks(after_transcribe=hidden)}, {"eos", "transcript_partial"}),
        ({"hooks": PipelineHooks(before_llm=_in_messages)}, OF_CALLER - {"LLM"}),
    ],
)
async def test_the_callers_words_remain_before_a_hook(
    call_simulator: CallSimulator, options: dict[str, Any], remains: set[str]
) -> None:
    """after_stt cleans all places of the caller's words; later hooks leave those before them."""
    found = await places(call_simulator, options, says=f"My card is {CARD}.", answer="Thank you.")
    assert found == remains


@pytest.mark.parametrize(
    ("options", "remains"),
    [
        ({}, OF_AGENT),
        ({"hooks": PipelineHooks(after_llm={"on_response": hidden})}, {"llm_chunk"}),
        ({"hooks": PipelineHooks(after_llm={"on_sentence": hidden})}, {"llm_chunk"}),
        ({"text_transforms": [hidden]}, {"llm_chunk"}),
        ({"guardrails": [Guardrail("cards", check=lambda text: hidden(text) != text)]}, {"llm_chunk"}),
        ({"hooks": PipelineHooks(before_synthesize=hidden)}, {"llm_chunk"}),
        # A piece is a token: a number is in several.
        ({"hooks": PipelineHooks(after_llm={"on_chunk": lambda piece: piece.replace(CARD, "")})}, OF_AGENT),
        ({"hooks": PipelineHooks(after_llm={"on_chunk": lambda piece: re.sub(r"\d", "*", piece)})}, {"llm_chunk"}),
    ],
)
async def test_the_agents_words_remain_before_a_hook(
    call_simulator: CallSimulator, options: dict[str, Any], remains: set[str]
) -> None:
    """The caller, the history and the LLM get the text behind every rewrite; LLM_CHUNK has what the LLM wrote."""
    found = await places(call_simulator, options, says="My card, please.", answer=f"It is {CARD}. Is that right?")
    assert found == remains
