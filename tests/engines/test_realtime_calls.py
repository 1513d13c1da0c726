"""Whole calls whose agent is OpenAI's Realtime API, which a server of ours plays on loopback; in virtual time."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from typing import Any

from patter_trio import Agent, OpenAIRealtime, Patter
from patter_trio.testing import ScriptedVAD
from patter_trio.testing.caller import SimulatedCaller
from patter_trio.testing.servers.openai_realtime import (
    FakeRealtime,
    RealtimeReply,
    RealtimeServer,
    serve_openai_realtime,
)

Simulator = Callable[..., AbstractAsyncContextManager[SimulatedCaller]]


def agent_of(vendor: RealtimeServer, *, agent: dict[str, Any] | None = None, **options: Any) -> Agent:
    engine = OpenAIRealtime(api_key="key", base_url=vendor.url, **options)
    return Patter().agent("You are brief.", vad=ScriptedVAD(end_delay=0.3), engine=engine, **agent or {})


ANSWERS = [RealtimeReply(text="From seven to ten, every day of the week."), RealtimeReply(text="Yes.")]


async def test_a_conversation_of_two_turns_over_one_connection(call_simulator: Simulator) -> None:
    async with serve_openai_realtime(FakeRealtime(replies=ANSWERS)) as vendor:
        async with call_simulator(agent_of(vendor)) as caller:
            await caller.waits(1)
            await caller.speaks("What are your hours?", 1.0)
            await caller.hears()
            await caller.speaks("Thank you", 0.6)
            await caller.hears()
        assert caller.transcript == [
            ("user", "What are your hours?"),
            ("assistant", "From seven to ten, every day of the week."),
            ("user", "Thank you"),
            ("assistant", "Yes."),
        ]
