"""Calls that a program places at a simulated carrier: the requests to its account, and what it reports about the calls.

A network of simulated phones (``testing/simulation/outbound.py``) decides what becomes of a call, and when; here is how
one carrier takes the request, and how it says so.
"""

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from typing import Final, Literal
from urllib.parse import parse_qs, urlsplit

import attrs

from patter_trio.abc import AnsweredBy, Carrier, DialRequest
from patter_trio.testing.carriers.protocol import CarrierProtocol, RESTAnswer, RESTRequest, Webhook

Unreached = Literal["busy", "no_answer", "failed", "rejected", "cancelled"]
"""Why nobody has answered."""
RETRY_AFTER_S: Final = 7
"""Seconds in the header ``Retry-After`` of a refusal with 429."""
TOO_MANY_REQUESTS: Final = 429


class DialledCall(CarrierProtocol):
    """A carrier's side of one call that the program has placed."""

    @property
    def request_id(self) -> str:
        """The id of the request that placed the call, where that is not the call's own; else empty."""
        return ""

    # Beside the stream ------------------------------------------------------------------------------------------------
    def dialled_reports(self) -> Sequence[Webhook]:
        """Return the webhooks that follow the request that places the call."""
        return ()

    def ringing_reports(self) -> Sequence[Webhook]:
        """Return the webhooks that report that the phone rings."""
        return ()

    @abstractmethod
    def unanswered_reports(self, why: Unreached) -> Sequence[Webhook]:
        """Return the webhooks that report that the call is over and was not answered."""

    @abstractmethod
    def found_reports(self, answered_by: AnsweredBy, *, greeting_ended: bool = False) -> Sequence[Webhook]:
        """Return the webhooks that report who has answered, as far as the carrier was asked and says so."""


@attrs.frozen
class OfCall:
    """A request about one call: the call's id, or that of the request that placed it, and the path behind it."""

    call: str
    path: str


class Account(ABC):
    """One carrier's account: it takes the requests of the program under test.

    Args:
        carrier: the carrier object with which the program must be served, whose credentials both sides use.
        authorization: the header that proves the credentials.
    """

    def __init__(self, carrier: Carrier, authorization: str) -> None:
        self._carrier: Carrier = carrier
        self._authorization = authorization

    @property
    def carrier(self) -> Carrier:
        """The carrier object with which the program must be served."""
        return self._carrier

    def is_authorized(self, request: RESTRequest) -> bool:
        """Return True if a request proves the account's credentials."""
        return request.headers.get("authorization") == self._authorization

    @property
    @abstractmethod
    def api_path(self) -> str:
        """The path behind the address of the REST interface that all requests about calls begin with."""

    @abstractmethod
    def read(self, request: RESTRequest) -> DialRequest | OfCall | RESTAnswer:
        """Return what a request asks for; a refusal if the carrier would not accept it."""

    @abstractmethod
    def new_call(self, request: DialRequest, call_id: str) -> DialledCall:
        """Return the carrier's side of a call that the account places."""

    @abstractmethod
    def accepted(self, call: DialledCall) -> RESTAnswer:
        """Return the answer to a request that places a call."""

    @abstractmethod
    def refusal(self, status: int, text: str = "") -> RESTAnswer:
        """Return a refusal in the carrier's form."""

    def refused(self, status: int) -> RESTAnswer:
        """Return the refusal of a request that would place a call: 402, 403, 422, 429, 500 or any other status."""
        answer = self.refusal(status, "the simulated account refuses the call")
        if status != TOO_MANY_REQUESTS:
            return answer
        return attrs.evolve(answer, headers={"Retry-After": str(RETRY_AFTER_S)})


def reference_in(url: str) -> str:
    """Return the program's own reference of a call, which it puts into the query of its URLs."""
    return parse_qs(urlsplit(url).query).get("dial", [""])[0]


def whole_number(fields: Mapping[str, object], name: str, otherwise: int) -> int:
    """Return the number in a field, as JSON or a form has it.

    Raises:
        ValueError: it is not a whole number.
    """
    return int(str(fields.get(name, otherwise)))
