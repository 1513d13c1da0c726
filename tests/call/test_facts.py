"""The facts of a call that watchers see beside its events: what its measuring is made of."""

from collections.abc import Mapping
from typing import Any

import attrs
import pytest
from call_kit import told_events

from patter_trio import Patter
from patter_trio.call.telling import Teller
from patter_trio.testing import ScriptedLLM, ScriptedSTT, ScriptedTTS, ScriptedVAD


@attrs.frozen
class Witness:
    seen: list[tuple[str, dict[str, Any]]] = attrs.field(factory=list)

    def saw(self, name: str, at: float, payload: Mapping[str, Any]) -> None:
        assert at >= 0
        self.seen.append((name, dict(payload)))

    def of_reply(self, number: int) -> list[str]:
        names = [name for name, payload in self.seen if payload.get("reply") == number]
        return [name for place, name in enumerate(names) if names[:place][-1:] != [name]]


@pytest.fixture
def witness(monkeypatch: pytest.MonkeyPatch) -> Witness:
    witness = Witness()
    made = Teller.__init__

    def watched(self: Teller, *arguments: Any, **options: Any) -> None:
        made(self, *arguments, **{**options, "watchers": (*options.get("watchers", ()), witness)})

    monkeypatch.setattr(Teller, "__init__", watched)
    return witness


def agent() -> Any:
    return Patter().agent(
        "...",
        vad=ScriptedVAD(),
        stt=ScriptedSTT(),
        llm=ScriptedLLM(["We open at nine. We close at five."]),
        tts=ScriptedTTS(duration=4.0),
    )


async def test_a_reply_is_seen_from_its_start_to_its_last_sound(call_simulator: Any, witness: Witness) -> None:
    async with call_simulator(agent()) as caller:
        await caller.at(0.5)
        await caller.speaks("What are your hours?", seconds=1.5)
        await caller.heard(0)
    (number,) = {payload["reply"] for name, payload in witness.seen if "reply" in payload}
    facts = witness.of_reply(number)
    assert facts[:3] == ["reply_started", "llm_started", "llm_chunk"]
    assert facts[-2:] == ["tts_chunk", "reply_ended"]
    assert facts.index("llm_finished") < facts.index("tts_finished")
    said = [payload["text"] for name, payload in witness.seen if name == "llm_chunk"]
    assert "".join(said) == "We open at nine. We close at five."
    assert [payload["text"] for name, payload in witness.seen if name == "sentence"] == [
        "We open at nine.",
        "We close at five.",
    ]
    sent = b"".join(payload["audio"] for name, payload in witness.seen if name == "tts_chunk")
    assert len(sent) == 4.0 * 8000
    (started,) = [payload for name, payload in witness.seen if name == "reply_started"]
    assert (started["turn_idx"], started["mind"]) == (1, "llm")
    assert [payload["text"] for name, payload in witness.seen if name == "words_final"] == ["What are your hours?"]


async def test_a_reply_that_was_cut_says_why_it_ended(call_simulator: Any, witness: Witness) -> None:
    async with call_simulator(agent()) as caller:
        await caller.at(0.5)
        await caller.speaks("What are your hours?", seconds=1.5)
        await caller.at(4.0)
        await caller.speaks("Stop!", seconds=0.5)
        await caller.heard(0)
    ended = [payload["reason"] for name, payload in witness.seen if name == "reply_ended"]
    assert ended[0] == "barge-in"


async def test_watchers_see_the_events_too_in_their_order(call_simulator: Any, witness: Witness) -> None:
    async with call_simulator(agent()) as caller:
        await caller.at(0.5)
        await caller.speaks("What are your hours?", seconds=1.5)
        await caller.heard(0)
    told = [(name, payload) for _, name, payload in told_events(caller) if name != "call_start"]
    names = {name for name, _ in told}
    assert [(name, payload) for name, payload in witness.seen if name in names] == told


async def test_who_takes_part_and_what_edges_round_is_seen_before_it(call_simulator: Any, witness: Witness) -> None:
    async with call_simulator(agent()) as caller:
        await caller.at(0.5)
        await caller.speaks("What are your hours?", seconds=1.5)
        await caller.heard(0)
    seen = [(name, {k: v for k, v in payload.items() if k != "call_id"}) for name, payload in witness.seen]
    names = [name for name, _ in seen]
    facts = dict(reversed(seen))  # the first of each
    assert facts["agent_ready"] == {
        "stt_provider": "scripted",
        "stt_model": "scripted",
        "tts_provider": "scripted",
        "tts_model": "scripted",
        "llm_provider": "scripted",
        "llm_model": "scripted",
        "prompt_characters": 3,
    }
    assert facts["voice_started"]["offset"] == pytest.approx(0.5)
    assert facts["utterance_over"]["silence"] == pytest.approx(0.5)
    assert names.index("voice_started") + 1 == names.index("user_speech_started")
    assert names.index("utterance_over") + 1 == names.index("user_speech_eos")
    assert names.index("tts_first_audio") < names.index("audio_out") < names.index("agent_speech_started")
    assert names.index("metrics") > names.index("reply_ended")  # what it tells comes behind what it was told by
