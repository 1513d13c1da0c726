"""What differs between the carriers of the call tests, so that the tests need not know it."""

from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from types import MappingProxyType
from typing import Any

import attrs
import trio
import trio.testing

from patter_trio import Patter
from patter_trio.abc import Carrier, StreamCodec, StreamEvent
from patter_trio.server.calls import open_call_server
from patter_trio.server.connection import serve_connection
from patter_trio.server.options import Seams
from patter_trio.testing.carriers.line import SimulatedCarrier
from patter_trio.testing.carriers.rest import serving_api
from patter_trio.testing.simulation.carriers import CallOptions, carrier_object, simulated_carrier
from patter_trio.testing.simulation.simulator import EPOCH_UNIX_S, PUBLIC_URL
from tests.kit.call import agent_of


class WrappedCodec(StreamCodec):
    """A codec that does what another one does; a test overrides what it is about."""

    def __init__(self, inner: StreamCodec) -> None:
        self.inner = inner

    def receive(self, message: str | bytes) -> StreamEvent | None:
        return self.inner.receive(message)

    def audio(self, mulaw: bytes) -> str:
        return self.inner.audio(mulaw)

    def mark(self, name: str) -> str:
        return self.inner.mark(name)

    def clear(self) -> str:
        return self.inner.clear()

    def digits(self, digits: str) -> str | None:
        return self.inner.digits(digits)


def carrier_with_codec(name: str | None, wrap: Callable[[StreamCodec], StreamCodec]) -> Carrier:
    """Return a carrier, Twilio by default, whose codecs are wrapped, and with invented credentials."""
    carrier = carrier_object(name or "twilio", None)
    kind: Any = type(carrier)

    class Wrapped(kind):  # type: ignore[misc]
        def new_codec(self, headers: Mapping[str, str] = MappingProxyType({})) -> StreamCodec:
            return wrap(kind.new_codec(self, headers))

    given = {field.name: getattr(carrier, field.name) for field in attrs.fields(kind) if field.init}
    wrapped: Carrier = Wrapped(**given)
    return wrapped


# Lines without a caller -----------------------------------------------------------------------------------------------
async def nowhere() -> trio.abc.Stream:
    raise AssertionError("nothing is connected here")


def _now() -> float:
    return EPOCH_UNIX_S + trio.current_time()


def line_of(name: str, connect: Any = nowhere, unix_time: Callable[[], float] = _now) -> SimulatedCarrier:
    return simulated_carrier(
        carrier_object(name, None),
        connect,
        PUBLIC_URL,
        digits=f"{1:032d}",
        options=CallOptions(),
        unix_time=unix_time,
    )


@asynccontextmanager
async def line_to_server(name: str, **options: Any) -> AsyncIterator[SimulatedCarrier]:
    """Serve, and yield a line that has not called yet."""
    carrier = carrier_object(name, None)
    serve = Patter()._serve_options(agent_of(), public_url=PUBLIC_URL, carrier=carrier, **{"callbacks": {}, **options})

    async def connect() -> trio.abc.Stream:
        ours, theirs = trio.testing.memory_stream_pair()
        nursery.start_soon(serve_connection, server.context, theirs)
        await trio.lowlevel.checkpoint()
        return ours

    line = line_of(name, connect)
    # Around the server: it hangs up with its last breath.
    with serving_api(line, carrier.api_url):
        async with open_call_server(serve, Seams(epoch=EPOCH_UNIX_S)) as server, trio.open_nursery() as nursery:
            yield line
            nursery.cancel_scope.cancel()
