"""The faults of a carrier's answers to requests over REST, as data in each carrier's words.

They are for whole calls in which a request is made: a transfer, digits, a recording, a hang-up::

    REQUEST_FAULTS["server error"].injection(caller.carrier)
    await phone.calls[0].transfer("+15550100003")
"""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, Final

import attrs
import trio

from patter_trio.errors import (
    AuthenticationError,
    CallEnded,
    PatterError,
    ProviderError,
    ProviderTimeout,
    RateLimitError,
)
from patter_trio.testing.carriers.line import SimulatedCarrier
from patter_trio.testing.carriers.protocol import RESTAnswer, RESTRequest

_API_ID: Final = "00000000-0000-4000-8000-000000000000"
# Below any status of HTTP.
_NEVER: Final = RESTAnswer(0)
_RESET: Final = RESTAnswer(1)


def _refusals(status: int, twilio: int, telnyx: str, text: str, **headers: str) -> Mapping[str, RESTAnswer]:
    """Return a refusal in the words of each carrier: Twilio and Telnyx have codes for it, Plivo the status alone."""
    bodies: Mapping[str, Mapping[str, Any]] = {
        "twilio": {"code": twilio, "message": text, "status": status},
        "telnyx": {"errors": [{"code": telnyx, "title": text, "detail": text}]},
        "plivo": {"api_id": _API_ID, "error": text},
    }
    return MappingProxyType({name: RESTAnswer(status, body, headers) for name, body in bodies.items()})


def _alike(answer: RESTAnswer) -> Mapping[str, RESTAnswer]:
    """Return an answer that does not come from the carrier itself, and so is the same for each."""
    return MappingProxyType(dict.fromkeys(("twilio", "telnyx", "plivo"), answer))


@attrs.frozen
class RequestFault:
    """A way in which a carrier, or what stands before it, fails to do what a request asks."""

    name: str
    peer: str
    """A description of what the other side does, for the table."""
    answers: Mapping[str, RESTAnswer] = attrs.field(repr=False)
    error: type[PatterError] = ProviderError
    """What the request raises."""

    # By default all of them: no test makes a million.
    def injection(self, carrier: SimulatedCarrier, times: int = 1_000_000) -> None:
        """Answer the next ``times`` requests about the call so; the carrier carries out those behind them."""
        answer = self.answers[carrier.protocol.name]
        left = times

        async def answered(_: RESTRequest) -> RESTAnswer | None:
            nonlocal left
            left -= 1
            if left < 0:
                return None
            if answer is _NEVER:
                await trio.sleep_forever()
            if answer is _RESET:
                raise ConnectionResetError("connection reset by peer")
            return answer

        carrier.requests.answer_by(answered)


REQUEST_FAULTS: Final = {
    fault.name: fault
    for fault in (
        RequestFault("bad request", "refuses the request (400)", _refusals(400, 21200, "10015", "Invalid parameter")),
        RequestFault(
            "credentials",
            "refuses the credentials (401)",
            _refusals(401, 20003, "10009", "Authenticate"),
            AuthenticationError,
        ),
        RequestFault(
            "forbidden",
            "refuses the number (403)",
            _refusals(403, 21215, "10010", "Not permitted"),
            AuthenticationError,
        ),
        # A carrier that does not know the call: for the call that is what a hang-up is.
        RequestFault(
            "call is over",
            "says that the call is over",
            {
                "twilio": RESTAnswer(400, {"code": 21220, "message": "Call is not in-progress", "status": 400}),
                "telnyx": RESTAnswer(422, {"errors": [{"code": "90018", "title": "Call has already ended"}]}),
                "plivo": RESTAnswer(404, {"api_id": _API_ID, "error": "call not found"}),
            },
            CallEnded,
        ),
        RequestFault(
            "too many requests",
            "asks to come back in 3 s (429)",
            _refusals(429, 20429, "10011", "Too many requests", **{"Retry-After": "3"}),
            RateLimitError,
        ),
        RequestFault("server error", "fails (500)", _refusals(500, 20500, "10016", "Internal error")),
        RequestFault("overloaded", "is overloaded (503)", _alike(RESTAnswer(503, b"<html>busy</html>"))),
        RequestFault("no answer", "takes the request and never answers", _alike(_NEVER), ProviderTimeout),
        RequestFault("reset", "takes the request and resets the connection", _alike(_RESET), ProviderTimeout),
        RequestFault(
            "a page", "answers with a page of a proxy (502)", _alike(RESTAnswer(502, b"<html>Bad Gateway</html>"))
        ),
    )
}
"""The faults, by their names."""
