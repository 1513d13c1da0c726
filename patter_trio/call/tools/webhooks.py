"""Tools behind a URL: a model's wish is POSTed there, and the answer is its result. ``docs/tools.md`` has the protocol.

Three things that go wrong with others' servers, and what is done about each:

* **It fails now and then**: it is asked again, when it could not be reached, broke off, or answered with 429 or 5xx. The
  request is the same to the last byte, with the same ``Idempotency-Key``, so that a server that did what was asked and
  could not say so does not do it twice. Any other answer is an answer.
* **It fails for good**: each server has a circuit (``net/circuit.py``), so that callers do not wait for what others have
  just seen fail. It belongs to the run of trio, like the connections: that a server is down is true for all phones of the
  process, and its times are on trio's clock. It is the origin's, for servers on two ports have nothing to do with each other.
* **It is not the server that was meant**: connections go through ``net/guarded.py``.

The model is told what went wrong in words that a caller may hear; the log has the origin, and neither has the rest of the
URL. Whoever waits for the answer owns the deadline (``call/tools/runner.py``), and leaving ends the connection.
"""

import json
import logging
import math
import random
import uuid
from collections.abc import Callable, Iterable, Mapping
from email.utils import parsedate_to_datetime
from http import HTTPStatus
from typing import Any, Final

import attrs
import trio

from patter_trio.agent.tools import Tool
from patter_trio.call.tools.values import MAX_NESTING_LEVELS, is_deeper
from patter_trio.conversation.text import is_sayable
from patter_trio.errors import ConfigurationError, PatterConnectionError, ProviderError, ProviderTimeout
from patter_trio.net.address_guard import AddressRefused, Guard
from patter_trio.net.circuit import OPEN_CIRCUIT_S, Circuits, Permit
from patter_trio.net.http import (
    REDIRECT_STATUSES,
    Client,
    ConnectionBroke,
    HttpAnswer,
    origin_of,
    shared_client,
    tls_context,
)
from patter_trio.net.run_local import run_local
from patter_trio.user_code.invoke import ApplicationError
from patter_trio.user_code.urls import JSON_CONTENT_TYPE, NO_CONTENT_STATUS, encoded, is_exposed, signed

MAX_ANSWER_BYTES: Final = 64 * 1024
"""Most bytes of an answer: the model is shown 16 384 characters, and one takes four bytes at most."""
MAX_FIRST_BACKOFF_S: Final = 0.4
"""Seconds: the longest wait before the first retry; twice as long before each next one. A caller is waiting, too."""
MAX_RETRY_AFTER_S: Final = 30.0
"""Seconds that a server may ask for (``Retry-After``); with more, it is not asked again at all."""
MAX_LOGGED_CHARACTERS: Final = 300
"""Characters in the log: libraries quote what they cannot read, and a server may send anything."""
IDEMPOTENCY_HEADER: Final = "Idempotency-Key"
SUCCESS_STATUSES: Final = range(200, 300)
SERVER_ERROR_STATUSES: Final = range(500, 600)

_log = logging.getLogger("patter_trio.call")
_circuits: Final = trio.lowlevel.RunVar[Circuits]("patter_trio_circuits")


class WebhookFailed(ApplicationError):
    """A tool's server did not give a result: ``told`` is for the model, the message for the log."""

    def __init__(self, told: str, logged: str = "", *, again: bool = False, after: float | None = None) -> None:
        super().__init__((logged or told)[:MAX_LOGGED_CHARACTERS])
        self.told: str = told
        self.again: bool = again
        """Whether asking again may help."""
        self.after: float | None = after
        """Seconds that the server wants to be left alone for."""


@attrs.frozen
class ToolWebhooks:
    """How tools are called that are behind a URL.

    Args:
        secret: signs the requests; empty: they are not signed.
        guard: says where they can go.
        jitter: gives a number from 0 to 1, for the waits between retries.
        new_key: gives what tells one call of a tool from all others.
    """

    secret: str = attrs.field(default="", repr=False)
    guard: Guard = attrs.field(factory=Guard)
    jitter: Callable[[], float] = attrs.field(default=random.random, repr=False)
    new_key: Callable[[], str] = attrs.field(default=lambda: str(uuid.uuid4()), repr=False)

    def check(self, tools: Iterable[Tool]) -> None:
        """Look at the tools of an agent before it is served.

        Raises:
            ConfigurationError: one is at an address to which requests do not go; the message names the option.
        """
        for tool in tools:
            if not tool.webhook_url:
                continue
            try:
                self.guard.check(tool.webhook_url)
            except AddressRefused as error:
                raise ConfigurationError(f"tool {tool.name}: {error}") from error
            if is_exposed(tool.webhook_url):
                where = origin_of(tool.webhook_url)
                _log.warning("tool %s: what callers say goes to %s unencrypted; use https", tool.name, where)
            else:
                tls_context()  # made now, not while a caller waits

    async def call(self, tool: Tool, event: Mapping[str, Any], *, deadline: float) -> Any:
        """POST ``event``, as often as it takes, and return what the answer says.

        Args:
            tool: whose URL it is.
            event: what the tool is told.
            deadline: the instant at which the caller cancels this; no wait that ends later is begun.

        Raises:
            WebhookFailed: there was no answer, or none that is a result.
        """
        key = self.new_key()
        body = encoded({**event, "idempotency_key": key})
        headers = {
            "Content-Type": JSON_CONTENT_TYPE,
            "Accept": f"{JSON_CONTENT_TYPE}, text/plain",
            IDEMPOTENCY_HEADER: key,
            **signed(self.secret, body),
        }
        asked = 0
        async with shared_client(self.guard) as http:
            while True:
                try:
                    return await _once(http, tool.webhook_url, body, headers, deadline)
                except WebhookFailed as failed:
                    wait = _backoff(asked, self.jitter()) if failed.after is None else failed.after
                    asked += 1
                    if not failed.again or asked > tool.webhook_retries or trio.current_time() + wait >= deadline:
                        raise
                    _log.info("call %s: tool %s: %s; again in %.2f s", event["call_id"], tool.name, failed, wait)
                await trio.sleep(wait)


def _backoff(asked: int, jitter: float) -> float:
    """Return the seconds before the next request: half of the step for sure, the other half by chance."""
    return float(MAX_FIRST_BACKOFF_S * 2**asked * (1 + jitter) / 2)


async def _once(http: Client, url: str, body: bytes, headers: Mapping[str, str], deadline: float) -> Any:
    """Ask once, and let the circuit know how it went."""
    who = origin_of(url)
    permit = run_local(_circuits, Circuits).admit(who, trio.current_time())
    if permit is None:
        told = "its server has failed several times lately, and is not asked for now; try again later"
        raise WebhookFailed(told, f"{who} has failed too often lately: it is not asked for up to {OPEN_CIRCUIT_S:g} s")
    try:
        return await _asked(http, url, body, headers, permit)
    finally:
        # Cancelled, if nothing was told yet: by the tool's deadline, or because nobody wants the answer any more.
        if trio.current_time() >= deadline:
            permit.failed(trio.current_time())
        permit.given_up()


async def _asked(http: Client, url: str, body: bytes, headers: Mapping[str, str], permit: Permit) -> Any:
    who = origin_of(url)
    try:
        async with http.stream(
            "POST",
            url,
            content=body,
            headers=headers,
            head_timeout=math.inf,
            max_bytes=MAX_ANSWER_BYTES,
            any_status=True,
        ) as answer:
            refused = _refusal_of(answer, who)
            if refused is None:
                result = await _result_of(answer)
    except AddressRefused as error:
        raise WebhookFailed("its server is at an address that is not allowed", str(error)) from None
    except (PatterConnectionError, ProviderTimeout) as error:
        permit.failed(trio.current_time())
        told = "its server broke off" if isinstance(error, ConnectionBroke) else "its server could not be reached"
        raise WebhookFailed(told, str(error), again=True) from None
    except ProviderError as error:  # too long, or compressed
        permit.succeeded()
        raise WebhookFailed("its server gave an answer that cannot be used", str(error)) from None
    except ValueError as error:
        permit.succeeded()
        raise WebhookFailed("its server gave an answer that cannot be used", f"{who} answered with {error}") from None
    if refused is None:
        permit.succeeded()
        return result
    if answer.status in SERVER_ERROR_STATUSES:
        permit.failed(trio.current_time())
    elif answer.status != HTTPStatus.TOO_MANY_REQUESTS:
        permit.succeeded()
    raise refused


def _refusal_of(answer: HttpAnswer, who: str) -> WebhookFailed | None:
    """Return what an answer's status says is wrong."""
    status = answer.status
    if status in SUCCESS_STATUSES:
        return None
    try:
        said = f"answered {status} {HTTPStatus(status).phrase}"
    except ValueError:
        said = f"answered {status}"
    if status in REDIRECT_STATUSES:
        said = "redirects to another address, which is not followed"
    logged = f"{who} {said}"
    if status not in SERVER_ERROR_STATUSES and status != HTTPStatus.TOO_MANY_REQUESTS:
        return WebhookFailed(f"its server {said}", logged)
    after = seconds_of(answer.headers.get("retry-after", ""), answer.headers.get("date", ""))
    if after is not None and after > MAX_RETRY_AFTER_S:
        return WebhookFailed(f"its server {said}, and is not to be asked again soon", logged)
    return WebhookFailed(f"its server {said}", logged, again=True, after=after)


def seconds_of(retry_after: str, date: str) -> float | None:
    """Return the seconds for which a server wants to be left alone (RFC 9110, section 10.2.3); None: it does not say.

    A point in time counts from the answer's own ``Date``, so that no clock has to be right.
    """
    text = retry_after.strip()
    if text.isascii() and text.isdigit():
        return float(text[:9])
    try:
        return max(0.0, (parsedate_to_datetime(text) - parsedate_to_datetime(date)).total_seconds())
    except (TypeError, ValueError, OverflowError):
        return None


async def _result_of(answer: HttpAnswer) -> Any:
    """Return what an answer says: JSON as what it is, else text; None where it is empty.

    Raises:
        ValueError: it is neither; the message says what it is instead.
    """
    kind = answer.content_type
    if answer.status == NO_CONTENT_STATUS:
        return None
    is_json = kind == JSON_CONTENT_TYPE or kind.endswith("+json")
    if not (is_json or not kind or kind.startswith("text/")):
        raise ValueError(f"{kind}: give {JSON_CONTENT_TYPE} or text")
    body = await answer.read()
    try:
        text = body.decode()
    except UnicodeDecodeError as error:
        raise ValueError("what is no UTF-8") from error
    if not text.strip():
        return None
    return _json(text) if is_json else text


def _json(text: str) -> Any:
    try:
        result = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise ValueError("what is no JSON") from error
    if is_deeper(result):
        raise ValueError(f"JSON of more than {MAX_NESTING_LEVELS} levels")
    if not is_sayable(json.dumps(result, ensure_ascii=False)):
        raise ValueError("half a character")
    return result
