"""A real server of calls on memory streams, and carriers that call it."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import attrs
import trio
import trio.testing

from patter_trio import Agent, Patter
from patter_trio.carriers.twilio import Twilio
from patter_trio.server.calls import CallServer, open_call_server
from patter_trio.server.connection import serve_connection
from patter_trio.testing import SimulatedTwilio
from patter_trio.testing.carriers.rest import RESTAnswer, RESTRequest, answering
from tests.kit.call import agent_of

# Requests find nobody at that port of this machine, and fail at once.
CARRIER = Twilio("AC1", "hush", api_url="http://127.0.0.1:1")
PUBLIC = "http://agent.test"


@attrs.define
class RunningServer:
    """A server of calls, and connections to it."""

    call_server: CallServer
    nursery: trio.Nursery

    def caller(self, number: int = 1) -> SimulatedTwilio:
        return SimulatedTwilio(self._connect, PUBLIC, account_sid="AC1", auth_token="hush", call_sid=f"CA{number:032d}")

    async def _connect(self) -> trio.abc.Stream:
        await trio.lowlevel.checkpoint()
        ours, theirs = trio.testing.memory_stream_pair()
        self.nursery.start_soon(serve_connection, self.call_server.context, theirs)
        return ours


@asynccontextmanager
async def running_server(
    phone: Patter | None = None,
    agent: Agent | None = None,
    max_calls: int | None = None,
    max_lag: float | None = None,
    **callbacks: Any,
) -> AsyncIterator[RunningServer]:
    # A call that never connects is hung up by a request, which must not leave this process.
    with answering(CARRIER.api_url, _hung_up):
        async with (
            open_call_server(
                (phone or Patter())._serve_options(
                    agent or agent_of(),
                    public_url=PUBLIC,
                    carrier=CARRIER,
                    callbacks=callbacks,
                    max_calls=max_calls,
                    max_lag=max_lag,
                )
            ) as call_server,
            trio.open_nursery() as nursery,
        ):
            yield RunningServer(call_server, nursery)


async def _hung_up(request: RESTRequest) -> RESTAnswer:
    await trio.lowlevel.checkpoint()
    return RESTAnswer(200, {"sid": "CA1"})
