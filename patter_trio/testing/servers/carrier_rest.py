"""The common part of the stand-ins for carriers' REST APIs: requests in, answers and faults out."""

import json
from abc import ABC, abstractmethod
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, Self

import attrs
import h11
import trio

from patter_trio.testing.servers.loopback import on_loopback, read_request


@attrs.define
class RESTRequest:
    """A received request; names of headers are in lower case."""

    method: str
    target: str
    headers: dict[str, str] = attrs.field(repr=False)
    body: bytes

    @property
    def fields(self) -> dict[str, Any]:
        """The JSON object in the body; empty without a body."""
        found = json.loads(self.body) if self.body else {}
        if not isinstance(found, dict):
            raise TypeError(f"a request must have an object for its body, got {found!r}")
        return found


@attrs.frozen
class RESTFault:
    """The answer to the next requests, instead of carrying them out.

    Args:
        status: HTTP status of the answer.
        said: the JSON in its body.
        headers: more headers of the answer.
        raw: a raw answer that is sent instead; if empty, the connection is ended.
        hang: do not answer at all.
        after: carry out the request first.
    """

    status: int = 500
    said: Any = None
    headers: tuple[tuple[str, str], ...] = ()
    raw: bytes | None = None
    hang: bool = False
    after: bool = False


class CarrierRESTServer(ABC):
    """A stand-in for a carrier's REST API: ``requests`` received, ``connections``, and the ``fault`` that it has."""

    def __init__(self) -> None:
        self.api_url: str = ""
        self.requests: list[RESTRequest] = []
        self.connections: int = 0
        self.fault: RESTFault | None = None

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.api_url}, {len(self.requests)} requests>"

    @asynccontextmanager
    async def on_loopback(self) -> AsyncIterator[Self]:
        """Serve on a free port of loopback while the block runs."""
        async with on_loopback(self.handle) as port:
            self.api_url = f"http://127.0.0.1:{port}"
            yield self

    @abstractmethod
    def answer(self, request: RESTRequest) -> tuple[int, Any]:
        """Carry out a request; return the status of the answer and the JSON in its body."""

    async def handle(self, stream: trio.abc.Stream) -> None:
        """Serve one connection to its end."""
        self.connections += 1
        async with stream:
            http = h11.Connection(h11.SERVER)
            try:
                while (got := await read_request(http, stream)) is not None:
                    head, body = got
                    headers = {name.decode("latin-1"): value.decode("latin-1") for name, value in head.headers}
                    request = RESTRequest(head.method.decode(), head.target.decode(), headers, body)
                    self.requests.append(request)
                    if not await self._answered(request, http, stream):
                        return
                    http.start_next_cycle()
            # The client has left, or does not speak HTTP.
            except (trio.BrokenResourceError, trio.ClosedResourceError, h11.ProtocolError):
                return

    async def _answered(self, request: RESTRequest, http: h11.Connection, stream: trio.abc.Stream) -> bool:
        """Answer a request; return True if the connection continues."""
        fault = self.fault
        status, said = 0, None
        more: tuple[tuple[str, str], ...] = ()
        if fault is None or fault.after:
            status, said = self.answer(request)
        if fault is not None:
            status, said, more = fault.status, fault.said, fault.headers
            if fault.hang:
                # Without a deadline: the client's own is what such a test is about.
                await stream.receive_some(1)
                return False
            if fault.raw is not None:
                await stream.send_all(fault.raw)
                return False
        content = json.dumps(said).encode()
        headers = [("Content-Type", "application/json"), ("Content-Length", str(len(content))), *more]
        head = h11.Response(status_code=status, headers=headers, reason=b"Reason")
        parts = [http.send(head), http.send(h11.Data(data=content)), http.send(h11.EndOfMessage())]
        await stream.send_all(b"".join(part for part in parts if part))
        # Both: it ends with a client that asks for that, or has not read its whole request.
        return http.our_state is h11.DONE and http.their_state is h11.DONE
