"""Tools behind a URL: the tool call is POSTed, and the answer is the result. ``docs/tools.md`` describes the protocol.

Three ways in which such a server fails, and the remedy for each:

* **It fails now and then**: the request is repeated if the server could not be reached, broke off, or answered 429 or
  5xx. Each attempt is identical, byte for byte, with the same ``Idempotency-Key``, so that a server which did the work
  but could not answer does not do it twice. Any other status is a final answer.
* **It fails for good**: each server has a circuit breaker (``net/circuit.py``), so that a caller does not wait for a
  server that has just failed for others. The circuits belong to the run of trio, like the connections: a server that is
  down is down for all phones of the process, and the times are on trio's clock. Each origin has its own circuit,
  because servers on different ports are independent.
* **It is not the intended server**: connections go through ``net/guarded.py``.

The LLM gets the failure in words that a caller may hear; the log also has the origin. Neither has the rest of the URL.
The caller of :meth:`ToolWebhooks.call` owns the deadline (``call/tools/runner.py``); cancelling it ends the connection.
"""

import json
import logging
import math
import random
import uuid
from collections.abc import Callable, Iterable, Mapping
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
from patter_trio.net.retry_after import seconds_of
from patter_trio.net.run_local import run_local
from patter_trio.user_code.invoke import ApplicationError
from patter_trio.user_code.urls import JSON_CONTENT_TYPE, NO_CONTENT_STATUS, encoded, is_exposed, signed

MAX_ANSWER_BYTES: Final = 64 * 1024
"""Most bytes of an answer: the LLM gets 16 384 characters, and one takes four bytes at most."""
# Judged: with two retries, 1.2 s at most go by waiting (docs/tools.md), which a caller takes for thinking.
MAX_FIRST_BACKOFF_S: Final = 0.4
"""Longest wait before the first retry, doubled before each further one. It is short because a caller is waiting."""
# Judged; longer than any tool's time limit should be, so a server that asks for more is as good as gone for this call.
MAX_RETRY_AFTER_S: Final = 30.0
"""Longest ``Retry-After`` of a server that is respected; the request is not repeated after a longer one."""
# Judged: two lines of a terminal, enough to recognise the fault.
MAX_LOGGED_CHARACTERS: Final = 300
"""Characters of a failure in the log: libraries quote invalid input, and a server may send anything."""
IDEMPOTENCY_HEADER: Final = "Idempotency-Key"
SUCCESS_STATUSES: Final = range(200, 300)
SERVER_ERROR_STATUSES: Final = range(500, 600)

_log = logging.getLogger("patter_trio.call")
_circuits: Final = trio.lowlevel.RunVar[Circuits]("patter_trio_circuits")


class WebhookFailed(ApplicationError):
    """A tool's server gave no result: ``for_llm`` is the error for the LLM, the message is for the log."""

    def __init__(self, for_llm: str, logged: str = "", *, again: bool = False, after: float | None = None) -> None:
        super().__init__((logged or for_llm)[:MAX_LOGGED_CHARACTERS])
        self.for_llm: str = for_llm
        self.again: bool = again
        """True if a retry may succeed."""
        self.after: float | None = after
        """Seconds that the server asks to wait before a retry; None if it does not say."""


@attrs.frozen
class ToolWebhooks:
    """The client for tools behind a URL.

    Args:
        secret: signs the requests; they are not signed if it is empty.
        guard: decides which addresses are allowed.
        jitter: returns a number from 0 to 1, for the waits between retries.
        new_key: returns a new ``Idempotency-Key``, unique for each call of a tool.
    """

    secret: str = attrs.field(default="", repr=False)
    guard: Guard = attrs.field(factory=Guard)
    jitter: Callable[[], float] = attrs.field(default=random.random, repr=False)
    new_key: Callable[[], str] = attrs.field(default=lambda: str(uuid.uuid4()), repr=False)

    def check(self, tools: Iterable[Tool]) -> None:
        """Check the tools of an agent before it is served.

        Raises:
            ConfigurationError: a tool's URL has an address that is not allowed; the error names the option.
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
                _log.warning("tool %s: callers' words are sent to %s unencrypted; use https", tool.name, where)
            else:
                tls_context()  # loads the certificates now, not while a caller waits

    async def call(self, tool: Tool, event: Mapping[str, Any], *, deadline: float) -> Any:
        """POST ``event``, with retries, and return the result in the answer.

        Args:
            tool: the tool to call.
            event: the body of the request.
            deadline: the instant at which the caller cancels this call; a retry that would start later is not made.

        Raises:
            WebhookFailed: there was no answer, or an answer without a valid result.
        """
        # Once per call of the tool, before the attempts: a new key for a retry would make the server book twice.
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
                    # Decided by the failure itself: only it knows whether the server can have acted, and
                    # when it wants to be asked again.
                    wait = _backoff(asked, self.jitter()) if failed.after is None else failed.after
                    asked += 1
                    if not failed.again or asked > tool.webhook_retries or trio.current_time() + wait >= deadline:
                        raise
                    _log.info("call %s: tool %s: %s; again in %.2f s", event["call_id"], tool.name, failed, wait)
                # Outside of the handler: an exception of the next attempt must not have this one as its context.
                await trio.sleep(wait)


def _backoff(asked: int, jitter: float) -> float:
    """Return the seconds before the next request: half of the step, and a random part of the other half."""
    # Random, so that calls which failed together do not come back together.
    return float(MAX_FIRST_BACKOFF_S * 2**asked * (1 + jitter) / 2)


async def _once(http: Client, url: str, body: bytes, headers: Mapping[str, str], deadline: float) -> Any:
    """Make one request, and report its result to the circuit breaker."""
    who = origin_of(url)
    # For each attempt, not once for the call: other calls may have opened the circuit while this one waited.
    permit = run_local(_circuits, Circuits).admit(who, trio.current_time())
    if permit is None:
        for_llm = "its server has failed several times lately, and is not asked for now; try again later"
        raise WebhookFailed(for_llm, f"{who} has failed too often lately: no requests for up to {OPEN_CIRCUIT_S:g} s")
    try:
        return await _asked(http, url, body, headers, permit)
    finally:
        # A permit without a result here means cancellation: at the tool's deadline the server was too slow, which is
        # its failure; otherwise the answer is no longer wanted, which says nothing about the server.
        if trio.current_time() >= deadline:
            permit.failed(trio.current_time())
        permit.given_up()


async def _asked(http: Client, url: str, body: bytes, headers: Mapping[str, str], permit: Permit) -> Any:
    who = origin_of(url)
    try:
        # head_timeout is infinite, because the caller of call() owns the deadline for all attempts together.
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
        # "from None", here and below: a cause may quote the whole URL, and with it a secret.
        raise WebhookFailed("its server is at an address that is not allowed", str(error)) from None
    except (PatterConnectionError, ProviderTimeout) as error:
        # The order of the clauses counts: the errors of connections are ProviderErrors, too,
        # but say that the server is ill.
        permit.failed(trio.current_time())
        for_llm = "its server broke off" if isinstance(error, ConnectionBroke) else "its server could not be reached"
        raise WebhookFailed(for_llm, str(error), again=True) from None
    except ProviderError as error:  # too long, or compressed: the server works, but its answer cannot be used
        permit.succeeded()
        raise WebhookFailed("its server gave an answer that cannot be used", str(error)) from None
    except ValueError as error:
        # Raised by _result_of() about a body that is neither JSON nor text.
        permit.succeeded()
        raise WebhookFailed("its server gave an answer that cannot be used", f"{who} answered with {error}") from None
    if refused is None:
        permit.succeeded()
        return result
    if answer.status in SERVER_ERROR_STATUSES:
        permit.failed(trio.current_time())
    elif answer.status != HTTPStatus.TOO_MANY_REQUESTS:
        # A server that answers 429 is well, but must be left alone: that counts neither as a success nor as a failure.
        permit.succeeded()
    raise refused


def _refusal_of(answer: HttpAnswer, who: str) -> WebhookFailed | None:
    """Return the failure that an answer's status means; None for success."""
    status = answer.status
    if status in SUCCESS_STATUSES:
        return None
    try:
        said = f"answered {status} {HTTPStatus(status).phrase}"
    except ValueError:
        # A status that the library does not know, such as 599: the number alone has to do.
        said = f"answered {status}"
    if status in REDIRECT_STATUSES:
        said = "redirects to another address, which is not followed"
    logged = f"{who} {said}"
    if status not in SERVER_ERROR_STATUSES and status != HTTPStatus.TOO_MANY_REQUESTS:
        return WebhookFailed(f"its server {said}", logged)
    after = seconds_of(answer.headers.get("retry-after", ""), answer.headers.get("date", ""))
    # Not repeated sooner than the server asked: that would only prolong its trouble.
    if after is not None and after > MAX_RETRY_AFTER_S:
        return WebhookFailed(f"its server {said}, and is not to be asked again soon", logged)
    return WebhookFailed(f"its server {said}", logged, again=True, after=after)


async def _result_of(answer: HttpAnswer) -> Any:
    """Return the result in an answer: parsed JSON, or text; None if it is empty.

    Raises:
        ValueError: the body is neither; the message describes the body.
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
        raise ValueError("invalid UTF-8") from error
    if not text.strip():
        return None
    return _json(text) if is_json else text


def _json(text: str) -> Any:
    try:
        result = json.loads(text)
    except (ValueError, RecursionError) as error:
        # RecursionError: Python's parser recurses, and a hostile server may nest as deep as it likes.
        raise ValueError("invalid JSON") from error
    if is_deeper(result):
        raise ValueError(f"JSON of more than {MAX_NESTING_LEVELS} levels")
    # json.loads accepts escapes of half a character, which no later encoding to UTF-8 would survive.
    if not is_sayable(json.dumps(result, ensure_ascii=False)):
        raise ValueError("a lone surrogate (invalid Unicode)")
    return result
