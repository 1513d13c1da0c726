"""A cancelled server ends its calls at once, and reports their end like any other."""

from collections.abc import Callable
from contextlib import AsyncExitStack
from typing import Any

import pytest
import trio
import trio.testing
from trio.testing import MockClock

from patter_trio import Patter, Twilio
from patter_trio.server.calls import CallServer, open_call_server
from patter_trio.server.connection import serve_connection
from patter_trio.testing import ScriptedLLM, ScriptedSTT, ScriptedTTS, ScriptedVAD
from patter_trio.testing.carriers.twilio import SimulatedTwilio
from tests.kit.call import Backend

pytestmark = pytest.mark.both_backends

SID, TOKEN, URL = "AC" + "1" * 32, "secret", "http://agent.test"


def connects(call_server: CallServer, nursery: trio.Nursery) -> Callable[[], Any]:
    async def connect() -> trio.abc.Stream:
        await trio.lowlevel.checkpoint()
        ours, theirs = trio.testing.memory_stream_pair()
        nursery.start_soon(serve_connection, call_server.context, theirs)
        return ours

    return connect


@pytest.mark.parametrize("at", [0.1, 1.0, 3.0], ids=["before the greeting", "in the greeting", "in silence"])
async def test_cancelled_server_hangs_up_with_full_call_end(
    at: float, autojump_clock: MockClock, backend: Backend
) -> None:
    """A cancelled server hangs up, and on_call_end receives the complete payload."""
    phone = Patter(carrier=Twilio(account_sid=SID, auth_token=TOKEN))
    agent = backend.agent(
        "x",
        first_message="Good morning to you.",
        vad=ScriptedVAD(),
        stt=ScriptedSTT(),
        llm=ScriptedLLM(["Yes."]),
        tts=ScriptedTTS(first_audio=0.2),
    )
    assert (agent.engine is not None) is backend.is_engine
    ends: list[dict[str, Any]] = []
    async with trio.open_nursery() as line, AsyncExitStack() as server:
        scope = server.enter_context(trio.CancelScope())
        call_server = await server.enter_async_context(
            open_call_server(phone._serve_options(agent, public_url=URL, callbacks={"on_call_end": ends.append}))
        )
        connections = await server.enter_async_context(trio.open_nursery())
        carrier = SimulatedTwilio(connects(call_server, connections), URL, account_sid=SID, auth_token=TOKEN)
        await line.start(carrier.run)
        await trio.sleep(at)
        scope.cancel()
        await trio.sleep_forever()
    assert carrier.ended == "agent_hung_up"
    assert carrier.ended_at == pytest.approx(at, abs=0.2)
    (end,) = ends
    assert end["outcome"] == "cancelled"
    assert (end["caller"], end["callee"], end["direction"]) == ("+15550100001", "+15550100002", "inbound")
    assert [entry["text"] for entry in end["transcript"]] == {
        0.1: [],
        1.0: ["Good morning"],
        3.0: ["Good morning to you."],
    }[at]
