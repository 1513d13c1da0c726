"""The requests of an agent's server about one simulated call, and who answers them."""

from collections.abc import Awaitable, Callable

from patter_trio.testing.carriers.protocol import CarrierProtocol, Line, RESTAnswer, RESTRequest

AnswerRequest = Callable[[RESTRequest], Awaitable[RESTAnswer | None]]
"""Answers a request in place of the carrier; None: the carrier carries it out.

A ``ConnectionError`` stands for a connection that broke after the request was sent.
"""


class CallRequests:
    """The requests about one call over the carrier's REST interface."""

    def __init__(self) -> None:
        self.made: list[RESTRequest] = []
        """All requests so far, in order."""
        self._answer: AnswerRequest = _left_to_carrier

    def __repr__(self) -> str:
        return f"<CallRequests {[f'{one.method} {one.path}' for one in self.made]}>"

    def answer_by(self, answer: AnswerRequest) -> None:
        """Answer the requests from now on by a function."""
        self._answer = answer

    async def obey(self, protocol: CarrierProtocol, line: Line, request: RESTRequest) -> RESTAnswer:
        """Answer a request."""
        self.made.append(request)
        answer = await self._answer(request)
        return await protocol.obey(line, request) if answer is None else answer


async def _left_to_carrier(_: RESTRequest) -> None:
    """Answer nothing."""
