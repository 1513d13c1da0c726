"""The REST interface of a simulated carrier, as far as requests about a simulated call go."""

import base64
from collections.abc import Awaitable, Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from typing import Final, Never
from urllib.parse import unquote

import msgspec
import trio

from patter_trio.abc import Carrier
from patter_trio.carriers import plivo_rest, telnyx_rest, twilio_rest
from patter_trio.carriers.rest import kept_on_this_machine
from patter_trio.net.http import answered_here
from patter_trio.testing.carriers.line import SimulatedCarrier
from patter_trio.testing.carriers.protocol import RESTAnswer, RESTRequest

# Without a socket: in virtual time nothing may wait for the kernel, and no name of a carrier may be looked up.
_NOT_JSON: Final = b"null"
_REAL_URLS: Final = (twilio_rest.API_URL, telnyx_rest.API_URL, plivo_rest.API_URL)


@contextmanager
def serving_api(carrier: SimulatedCarrier, api_url: str) -> Iterator[None]:
    """Carry out this run's requests about one simulated call while the block runs.

    Args:
        carrier: the call.
        api_url: the address of the REST interface, as in the carrier object of the program under test.
    """
    path = carrier.protocol.api_path
    if not path:
        yield
        return
    prefix = api_url.rstrip("/") + path

    async def obey(request: RESTRequest) -> RESTAnswer:
        # A request is a checkpoint on a network, too.
        await trio.lowlevel.checkpoint()
        return await carrier.requests.obey(carrier.protocol, carrier, request)

    with answering(prefix, obey):
        yield


@contextmanager
def answering(prefix: str, obey: Callable[[RESTRequest], Awaitable[RESTAnswer]]) -> Iterator[None]:
    """Carry out this run's requests to URLs that begin with ``prefix`` by a function, while the block runs."""

    async def answer(
        method: str, url: str, headers: Mapping[str, str], body: bytes
    ) -> tuple[int, Mapping[str, str], bytes]:
        answered = await obey(RESTRequest(method, unquote(url).removeprefix(prefix), headers, body))
        content = answered.body if isinstance(answered.body, bytes) else msgspec.json.encode(answered.body)
        return answered.status, answered.headers, b"" if answered.body is None else content

    with answered_here(prefix, answer):
        yield


@contextmanager
def kept_from_carriers(advice: str, *carriers: Carrier | None) -> Iterator[None]:
    """Refuse this run's requests to real carriers while the block runs, except for what other blocks carry out.

    A simulated call must reach no account: its numbers may be somebody's, and real requests cost money. A refused
    request raises :class:`~patter_trio.net.http.Unreachable`, because nothing was sent. Of accounts that the block does
    not know, with whatever ``api_url``, the requests to other machines are refused.

    Args:
        advice: what a refusal says: who refuses, and what to do.
        carriers: carrier objects whose own addresses are refused, also on this machine; None, and one without an
            address, are passed over.
    """

    async def refuse(*_: object) -> Never:
        await trio.lowlevel.checkpoint()
        raise ConnectionRefusedError(advice)

    own = {carrier.api_url for carrier in carriers if carrier is not None and carrier.api_url}
    with kept_on_this_machine(advice), ExitStack() as refused:
        for url in sorted({*_REAL_URLS, *own}):
            refused.enter_context(answered_here(url, refuse))
        yield


def read_json(body: bytes) -> dict[str, object] | None:
    """Return the JSON object that is a request's body; None for anything else."""
    try:
        found = msgspec.json.decode(body or _NOT_JSON)
    except msgspec.DecodeError:
        return None
    return found if isinstance(found, dict) else None


def basic_authorization(user: str, password: str) -> str:
    """Return the header ``Authorization`` of a request with these credentials (RFC 7617)."""
    return f"Basic {base64.b64encode(f'{user}:{password}'.encode()).decode()}"
