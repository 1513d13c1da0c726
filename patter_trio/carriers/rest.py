"""One request to a carrier's REST API: what all carriers share.

* Each request has its own connection. Requests are few, and on a stale kept connection it would be unknown whether a
  request was carried out: nothing may be requested twice, and no call dialled twice. For the same reason nothing here
  tries again.
* What was sent may have been carried out although no answer came. So a connection that broke after that, and an answer
  that cannot be read, raise what a late answer does: :class:`~patter_trio.errors.ProviderTimeout`.
"""

import base64
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from ipaddress import ip_address
from typing import Any, Final
from urllib.parse import urlencode, urlsplit

import attrs
import trio

from patter_trio.abc._webhooks import FORM_TYPE
from patter_trio.errors import CallEnded, ProviderError, ProviderTimeout, reported
from patter_trio.net.http import ConnectionBroke, Unreachable, is_answered_here, origin_of, shared_client
from patter_trio.net.run_local import run_local
from patter_trio.net.urls import checked_url

# Judged: below the 5 s that a transfer has (``call/transfers.py``), so that the error names the carrier and not the
# transfer.
REQUEST_TIMEOUT_S: Final = 4.0
"""Seconds until a carrier must have answered; usually it takes a third of a second."""
# Judged: an answer has about 2 kB.
MAX_ANSWER_BYTES: Final = 65536
_JSON_TYPE: Final = "application/json"

Fields = Mapping[str, str] | Sequence[tuple[str, str]]
"""Fields of a form, in the order in which they are sent; as pairs, a field may occur twice."""


_refusals: Final = trio.lowlevel.RunVar[list[str]]("patter_trio_carriers_refusals")


# For simulated calls: an account may have any address, such as that of a region or of a proxy.
@contextmanager
def kept_on_this_machine(advice: str) -> Iterator[None]:
    """Refuse this run's requests of all accounts to other machines while the block runs.

    Those that :func:`~patter_trio.net.http.answered_here` answers are carried out, and those to a loopback address, at
    which a stand-in may listen. A refusal raises :class:`~patter_trio.net.http.Unreachable`, with the advice of the
    oldest block.
    """
    refusals = run_local(_refusals, list)
    refusals.append(advice)
    try:
        yield
    finally:
        refusals.remove(advice)


def _is_on_this_machine(url: str) -> bool:
    host = urlsplit(url).hostname or ""
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost" or host.endswith(".localhost")


def checked_api_url(url: str, *, owner: str, usual: str) -> str:
    """Return the address of a carrier's REST API, or of a stand-in, without a trailing slash.

    Args:
        url: the address.
        owner: whose it is, for the message: ``Twilio``.
        usual: the carrier's own address, for the message.

    Raises:
        ConfigurationError: ``url`` is not such an address.
    """
    checked_url(url, f"{owner}'s api_url", f"a URL like {usual}", ("https", "http"), is_base=True)
    return url.rstrip("/")


def basic_authorization(user: str, password: str) -> str:
    """Return the value of the header ``Authorization`` for a user and a password (RFC 7617, in UTF-8)."""
    return f"Basic {base64.b64encode(f'{user}:{password}'.encode()).decode()}"


@attrs.frozen
class Refusal:
    """The reason that a carrier gives for a refusal, from its body.

    Attributes:
        code: the carrier's code; empty: it gives none.
        message: its explanation.
        call_is_over: True if it says that the call of the request is over, or does not exist.
    """

    code: str = ""
    message: str = ""
    call_is_over: bool = False

    def __str__(self) -> str:
        shown = reported(self.message)
        return f"{self.code}: {shown}" if self.code and shown else self.code or shown


ReadRefusal = Callable[[int, Mapping[str, Any]], Refusal]
"""Function that reads a refusal's status and JSON object, which is empty if the body is something else."""


@attrs.define
class _Explanation:
    """The refusal of one request, kept for the error that it becomes."""

    read: ReadRefusal
    refusal: Refusal = Refusal()

    def explain(self, status: int, body: bytes) -> str:
        # A proxy may answer with HTML: then the status is all there is.
        self.refusal = self.read(status, json_object(body) or {})
        return str(self.refusal)


@attrs.frozen
class CarrierREST:
    """The REST API of an account.

    All methods raise, besides what is named there:

    * :class:`~patter_trio.errors.AuthenticationError` if the carrier refuses the credentials,
    * :class:`~patter_trio.errors.RateLimitError` if it asks for fewer requests, with the seconds to wait if it says,
    * :class:`~patter_trio.errors.ProviderTimeout` if no answer came that can be read: it is unknown whether the request
      was carried out,
    * :class:`~patter_trio.errors.ProviderError` if the request failed in another way, and nothing was done.

    Args:
        base_url: the address in front of each path.
        authorization: the value of the header ``Authorization``.
        read_refusal: reads a refusal's status and JSON object.
    """

    base_url: str
    authorization: str = attrs.field(repr=False)
    read_refusal: ReadRefusal = attrs.field(repr=False)

    async def command(
        self, method: str, path: str, *, form: Fields = (), json: Mapping[str, Any] | None = None
    ) -> None:
        """Send a request about a call, whose success needs no answer but its status.

        Raises:
            CallEnded: the call is over, or the carrier does not know its id.
        """
        await self._send(method, path, form, json, of_call=True, whole=False)

    async def ask(
        self, method: str, path: str, *, form: Fields = (), json: Mapping[str, Any] | None = None, of_call: bool = False
    ) -> dict[str, Any]:
        """Send a request, and return the JSON object in its answer.

        Args:
            method: the HTTP method.
            path: the path behind ``base_url``, quoted, with its query.
            form: the body as a form.
            json: the body as JSON, instead of ``form``.
            of_call: True if the request is about an existing call.

        Raises:
            CallEnded: (with ``of_call``) the call is over, or the carrier does not know its id.
        """
        body = await self._send(method, path, form, json, of_call=of_call, whole=True)
        answer = json_object(body)
        if answer is None:
            said = f"{origin_of(self.base_url)} answered with what is not a JSON object"
            # A request that only reads has done nothing.
            raise ProviderError(said) if method == "GET" else _unknown(said)
        return answer

    async def _send(
        self, method: str, path: str, form: Fields, fields: Mapping[str, Any] | None, *, of_call: bool, whole: bool
    ) -> bytes:
        url = self.base_url + path
        refusals = run_local(_refusals, list)
        if refusals and not is_answered_here(url) and not _is_on_this_machine(url):
            # As long as on a network that refuses it.
            await trio.lowlevel.checkpoint()
            raise Unreachable(f"{origin_of(url)} is not reached: {refusals[0]}")
        headers = {"Authorization": self.authorization, "Accept": _JSON_TYPE, "Connection": "close"}
        content = b""
        if fields is not None:
            # ``allow_nan``: NaN is not JSON.
            content, headers["Content-Type"] = json.dumps(fields, allow_nan=False).encode(), _JSON_TYPE
        elif form:
            content, headers["Content-Type"] = urlencode(form).encode(), FORM_TYPE
        # Made anew for each request: it keeps what this answer says.
        explanation = _Explanation(self.read_refusal)
        try:
            async with (
                shared_client() as http,
                http.stream(
                    method,
                    url,
                    content=content,
                    headers=headers,
                    head_timeout=REQUEST_TIMEOUT_S,
                    piece_timeout=REQUEST_TIMEOUT_S,
                    max_bytes=MAX_ANSWER_BYTES,
                    explain=explanation.explain,
                ) as answer,
            ):
                return await answer.read() if whole else b""
        except ConnectionBroke as error:
            raise _unknown(str(error)) from error
        except ProviderError as error:
            # As an error of its own: to the call it is not a failure, but news.
            if of_call and explanation.refusal.call_is_over:
                raise CallEnded(f"the call is over: {error}") from error
            raise


def _unknown(why: str) -> ProviderTimeout:
    return ProviderTimeout(f"{why}; it is unknown whether the request was carried out")


def json_object(body: bytes) -> dict[str, Any] | None:
    """Return the JSON object that is a body; None if the body is something else."""
    try:
        found = json.loads(body)
    # RecursionError: Python's parser recurses, and a body may nest as deep as it likes.
    except (ValueError, RecursionError):
        return None
    return found if isinstance(found, dict) else None
