"""Random conversations with a Realtime session whose connection breaks now and then: nothing that is said is lost."""

from __future__ import annotations

import random
from typing import Any

import attrs
import pytest
import trio
from trio.testing import MockClock

from patter_trio.abc import EngineResponse, EngineWords
from patter_trio.errors import ProviderError
from patter_trio.testing.servers.openai_realtime import Asked, RealtimeReply, RealtimeServer
from tests.kit.depth import few
from tests.kit.realtime import RealtimeCaller, answered, engine_of, line_of, serve, taken

pytestmark = pytest.mark.no_coverage

HARMLESS = {"response_cancel_not_active"}
"""Errors that a vendor may report if a request reached it too late."""
OF_ANOTHER = {"item_truncate_invalid_item_id", "item_delete_invalid_item_id"}
"""And what is of a connection that is gone."""


@attrs.define
class Talk:
    """One conversation."""

    dice: random.Random
    line: RealtimeCaller
    vendor: RealtimeServer
    said: dict[int, str] = attrs.field(factory=dict)
    answers: int = 0
    lost: int = 0

    async def say(self) -> None:
        text = self.dice.choice(["Hello", "Is there a room?", "And what does it cost", "Thank you", "No"])
        await self.line.says(text, 0.6 + self.dice.random(), pause=0.3 + self.dice.random())
        self.said[self.line.session.commit()] = text

    async def cough(self) -> None:
        await self.line.says("ahem", 0.4, pause=0.4)
        self.line.session.discard()

    async def wait(self) -> None:
        await self.line.waits(self.dice.random() * 2)

    async def listen(self) -> None:
        try:
            answer = await answered(self.line.session)
        except ProviderError:
            assert self.lost, "an answer failed, and nothing was lost"
            return
        assert answer.text.startswith("You said")
        self.answers += 1

    async def interrupt(self) -> None:
        kept: list[EngineResponse] = []
        try:
            with trio.move_on_after(self.dice.random() * 1.5):
                async with self.line.session.respond() as response:
                    kept.append(response)
                    await taken(response, until=self.dice.random() * 2)
        except ProviderError:
            assert self.lost, "an answer failed, and nothing was lost"
        for response in kept:
            response.heard(self.dice.random() * 3 - 0.2)

    async def lose(self) -> None:
        """Lose the connection a while from now, long after it was lost the last time."""
        await self.line.waits(31.0)
        connection = self.vendor.connections[-1]
        self.lost += 1

        async def later() -> None:
            await trio.sleep(self.dice.random() * 2)
            await connection.lose()

        async with trio.open_nursery() as nursery:
            nursery.start_soon(later)
            for step in self.dice.choices([self.say, self.wait, self.listen, self.interrupt], k=2):
                await step()
        await connection.ended.wait()


@pytest.mark.parametrize("detection", [None, "server_vad"])
@pytest.mark.parametrize("seed", few(range(8), 2))
async def test_each_utterance_has_its_words_once(autojump_clock: MockClock, seed: int, detection: str | None) -> None:
    """In a random conversation with lost connections each utterance gets its words exactly once."""
    dice = random.Random(seed)  # noqa: S311 (no secret)

    def reply(asked: Asked) -> RealtimeReply:
        # Speech of a length that has nothing to do with the words, as fast as it can be made or barely fast enough.
        return RealtimeReply(
            text=f"You said: {asked.heard or 'nothing'}", seconds=2 + dice.random() * 2, speed=dice.choice([1.2, 10.0]),
            created_delay=dice.choice([0.0, 0.3]),
        )  # fmt: skip

    script: dict[str, Any] = {"replies": reply, "transcript_delay": dice.choice([0.1, 1.5]), "accepting": 0.1}
    async with serve(**script) as vendor, line_of(engine_of(vendor, turn_detection=detection)) as line:
        talk = Talk(dice, line, vendor)
        steps = [talk.say, talk.say, talk.cough, talk.wait, talk.listen, talk.listen, talk.interrupt, talk.lose]
        for step in dice.choices(steps, k=14):
            await step()
        for number, text in talk.said.items():
            assert await line.words(number) == text, f"utterance {number}"
        assert (await answered(line.session)).text.startswith("You said")
        finals = [event.commit for _, event in line.received if isinstance(event, EngineWords) and event.final]
        assert sorted(finals) == list(range(1, len(talk.said) + 1))
        errors = [event["error"]["code"] for one in vendor.connections for _, event in one.events("error")]
        crossed = (
            {"input_audio_buffer_commit_empty"} if detection else set()
        )  # the vendor had committed the same by itself
        assert set(errors) <= HARMLESS | crossed | (OF_ANOTHER if talk.lost else set())
        assert len(vendor.connections) == talk.lost + 1
