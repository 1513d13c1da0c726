"""How a tool's server is asked: how often, when, with what, and what is made of its answer."""

import gc
import gzip
import hashlib
import hmac
import json
import logging
from collections.abc import Awaitable, Callable
from contextlib import suppress
from functools import partial
from typing import Any

import pytest
import trio
import trio.testing

from patter_trio import Tool
from patter_trio.call.tools.webhooks import (
    MAX_ANSWER_BYTES,
    MAX_NESTING_LEVELS,
    ToolWebhooks,
    WebhookFailed,
)
from patter_trio.net.address_guard import Guard
from patter_trio.net.circuit import MAX_FAILURES, OPEN_CIRCUIT_S
from patter_trio.net.http import shared_client
from patter_trio.testing.conformance.bench import cancelled_at
from tests.kit.web import Request, serving

EVENT = {"tool": "look_up", "arguments": {"name": "Grüße 日本"}, "call_id": "CA1"}
HERE = Guard(["127.0.0.1"])


def webhooks(jitter: float = 1.0, **options: Any) -> ToolWebhooks:
    """Waits of 0.4 s, 0.8 s and so on, or what the jitter makes of them."""
    keys = iter(f"key {number}" for number in range(1, 100))
    return ToolWebhooks(**{"guard": HERE, "jitter": lambda: jitter, "new_key": lambda: next(keys), **options})


def tool_at(url: str, **options: Any) -> Tool:
    return Tool("look_up", webhook_url=url, **options)


async def call(url: str, hooks: ToolWebhooks | None = None, **options: Any) -> Any:
    """Call as ``call/tools/runner.py`` does."""
    tool = tool_at(url, **options)
    with trio.fail_after(tool.timeout_s):
        return await (hooks or webhooks()).call(tool, EVENT, deadline=trio.current_time() + tool.timeout_s)


async def reported(url: str, *arguments: Any, **options: Any) -> str:
    """Return the result that the LLM gets for a call that fails."""
    with pytest.raises(WebhookFailed) as failed:
        await call(url, *arguments, **options)
    return failed.value.for_llm


CallMessageHandler = Callable[[Request], Awaitable[None]]


def answers(
    *each: tuple[int, dict[str, str]] | int, body: bytes = b"room 12"
) -> tuple[CallMessageHandler, list[float]]:
    """A server that gives one status after another, the last one for ever, and when it was asked."""
    times: list[float] = []

    async def answer(request: Request) -> None:
        times.append(round(trio.current_time(), 3))
        status = each[min(len(times), len(each)) - 1]
        status, headers = status if isinstance(status, tuple) else (status, {})
        await request.answer(body, status, **headers)

    return answer, times


def raw(data: bytes) -> CallMessageHandler:
    """A server that sends these bytes whatever it is asked, and then ends the connection."""

    async def answer(request: Request) -> None:
        await request.stream.send_all(data)
        await request.stream.aclose()

    return answer


def with_body(body: bytes, kind: str = "application/json", **headers: str) -> CallMessageHandler:
    async def answer(request: Request) -> None:
        await request.answer(body, 200, kind, **headers)

    return answer


# What is sent ---------------------------------------------------------------------------------------------------------
async def test_tool_webhook_posts_signed_json_with_idempotency_key(
    autojump_clock: trio.testing.MockClock,
) -> None:
    """The tool webhook posts signed JSON with an idempotency key that the body contains, too."""
    answer, _ = answers(200)
    async with serving(answer) as web:
        assert await call(f"{web.url}/look/up?v=1", webhooks(secret="hush")) == "room 12"
    [request] = web.requests
    assert (request.method, request.target) == ("POST", "/look/up?v=1")
    assert json.loads(request.body) == {**EVENT, "idempotency_key": "key 1"}
    assert "日本".encode() in request.body
    assert request.headers["idempotency-key"] == "key 1"
    assert request.headers["content-type"] == "application/json"
    assert request.headers["accept-encoding"] == "identity"
    assert request.headers["x-patter-signature"] == hmac.new(b"hush", request.body, hashlib.sha256).hexdigest()


async def test_without_a_secret_nothing_is_signed(autojump_clock: trio.testing.MockClock) -> None:
    """The request of a tool webhook has no signature header if no secret is set."""
    answer, _ = answers(200)
    async with serving(answer) as web:
        await call(web.url)
    assert "x-patter-signature" not in web.requests[0].headers


async def test_call_key_is_unique_and_random_by_default(
    autojump_clock: trio.testing.MockClock,
) -> None:
    """Each tool call has its own idempotency key, which nobody can guess by default."""
    answer, _ = answers(200)
    async with serving(answer) as web:
        for _ in range(3):
            await call(web.url, ToolWebhooks(guard=HERE))
    keys = {request.headers["idempotency-key"] for request in web.requests}
    assert len(keys) == 3
    assert all(len(key) == 36 for key in keys)


# What it may answer ---------------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("server", "result"),
    [
        (with_body(b'{"room": 12}'), {"room": 12}),
        (with_body(b"[1, 2]", "application/json; charset=utf-8"), [1, 2]),
        (with_body(b'"room 12"'), "room 12"),
        (with_body(b"null"), None),
        (with_body(b'{"title": "x"}', "application/problem+json"), {"title": "x"}),
        (with_body(b"room 12", "text/plain; charset=utf-8"), "room 12"),
        (with_body(b"room 12", ""), "room 12"),
        (with_body("Grüße".encode(), "text/html"), "Grüße"),
        (with_body(b" \n"), None),
        (answers(204, body=b"")[0], None),
        (
            with_body(b"[" * MAX_NESTING_LEVELS + b"]" * MAX_NESTING_LEVELS),
            json.loads("[" * MAX_NESTING_LEVELS + "]" * MAX_NESTING_LEVELS),
        ),
        (with_body(b"x" * MAX_ANSWER_BYTES, "text/plain"), "x" * MAX_ANSWER_BYTES),
    ],
)
async def test_json_or_text_becomes_the_result(
    autojump_clock: trio.testing.MockClock, server: CallMessageHandler, result: Any
) -> None:
    """A JSON answer becomes the tool's result as a value, any other text as a string, an empty body as None."""
    async with serving(server) as web:
        assert await call(web.url) == result


UNUSABLE = "its server gave an answer that cannot be used"
OK = b"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\n"
BOMB = gzip.compress(b"0" * 10_000_000)


@pytest.mark.parametrize(
    ("server", "model", "log"),
    [
        (with_body(b"{nonsense"), UNUSABLE, "answered with invalid JSON"),
        (with_body(b'{"a": "\\ud83d"}'), UNUSABLE, "answered with a lone surrogate"),
        (with_body(b"[" * 100_000), UNUSABLE, "must have at most 65536 bytes"),
        (with_body(b"[" * 20_000), UNUSABLE, "answered with invalid JSON"),
        (with_body(b"[" * 65 + b"]" * 65), UNUSABLE, "answered with JSON of more than 64 levels"),
        (with_body(b"[" * 500 + b"]" * 500), UNUSABLE, "answered with JSON of more than 64 levels"),
        (with_body(b"1" * 10_000), UNUSABLE, "answered with invalid JSON"),  # more digits than Python reads
        (with_body(b"\xff\xfe", "text/plain"), UNUSABLE, "answered with invalid UTF-8"),
        (with_body(b"\x89PNG", "image/png"), UNUSABLE, "answered with image/png: give application/json or text"),
        (with_body(b"x" * (MAX_ANSWER_BYTES + 1), "text/plain"), UNUSABLE, "must have at most 65536 bytes"),
        (with_body(BOMB, content_encoding="gzip"), UNUSABLE, "must not compress its answer, got gzip"),
        (answers(404)[0], "its server answered 404 Not Found", "answered 404 Not Found"),
        (answers(401)[0], "its server answered 401 Unauthorized", "answered 401 Unauthorized"),
        (answers(599, 200)[0], "", ""),  # asked again
        (answers(699)[0], "its server answered 699", "answered 699"),
    ],
)
async def test_other_answer_fails_without_retry(
    autojump_clock: trio.testing.MockClock, server: CallMessageHandler, model: str, log: str
) -> None:
    """Any other answer becomes a failure that the LLM gets in words, and the server is not asked again."""
    async with serving(server) as web:
        if not model:
            assert await call(web.url) == "room 12"
            return
        with pytest.raises(WebhookFailed) as failed:
            await call(f"http://user:password@{web.url.removeprefix('http://')}/secret?token=1")
        assert failed.value.for_llm == model
        assert str(failed.value).startswith((web.url, f"the answer of {web.url}"))
        assert log in str(failed.value)
        assert "secret" not in str(failed.value)
        assert len(web.requests) == 1
    assert trio.current_time() == 0.0


async def test_a_redirect_leads_nowhere(autojump_clock: trio.testing.MockClock) -> None:
    """A redirect of any status fails the tool after one request, and the other server is never contacted."""
    async with serving(answers(200)[0]) as other:
        for status in (301, 302, 303, 307, 308):
            for there in ("http://169.254.169.254/latest/meta-data", other.url):
                answer, _ = answers((status, {"Location": there}))
                async with serving(answer) as web:
                    said = await reported(web.url)
                    assert said == "its server redirects to another address, which is not followed"
                    assert len(web.requests) == 1
        assert other.connections == 0


@pytest.mark.parametrize(
    ("server", "model"),
    [
        (raw(b"SSH-2.0-OpenSSH_9.9\r\n"), "its server broke off"),
        (raw(b"\x00\xff" * 5000), "its server broke off"),
        (raw(OK), "its server broke off"),
        (raw(OK + b"Content-Length: 7\r\n\r\nroom"), "its server broke off"),
        (raw(OK + b"Transfer-Encoding: chunked\r\n\r\n4\r\nroom\r\n"), "its server broke off"),
        (raw(OK + b"Transfer-Encoding: chunked\r\n\r\nzz\r\nroom"), "its server broke off"),
        (raw(OK + b"Content-Length: 1\r\nContent-Length: 2\r\n\r\nab"), "its server broke off"),
        (raw(OK + b"X: " + b"y" * 200_000), "its server broke off"),
        (raw(b""), "its server broke off"),
    ],
)
async def test_broken_http_answer_is_retried_to_limit(
    autojump_clock: trio.testing.MockClock, server: CallMessageHandler, model: str
) -> None:
    """A server that breaks off or does not speak HTTP is asked again up to the limit of retries."""
    async with serving(server) as web:
        with pytest.raises(WebhookFailed) as failed:
            await call(web.url)
        assert failed.value.for_llm == model
        assert len(str(failed.value)) <= 300
        assert len(web.requests) == 3
    assert trio.current_time() == pytest.approx(0.4 + 0.8)


async def test_endless_answer_stops_at_size_cap(
    autojump_clock: trio.testing.MockClock,
) -> None:
    """The client reads an endless answer only up to the size cap and then closes the connection."""
    sent = 0

    async def answer(request: Request) -> None:
        nonlocal sent
        await request.head()
        with suppress(trio.BrokenResourceError):
            while True:
                await request.chunk(b"x" * 4096)
                sent += 4096
        await trio.sleep_forever()  # the other task of this connection notes that the client has left

    async with serving(answer) as web:
        assert await reported(web.url) == UNUSABLE
        await trio.testing.wait_all_tasks_blocked(0.01)
        assert web.interrupted == ["/"]
    assert len(web.requests) == 1
    assert sent < 10_000_000  # what fits into the sockets' buffers, and no more


@pytest.mark.parametrize(
    ("begin", "piece"),
    [
        (OK + b"Transfer-Encoding: chunked\r\n\r\n", b"1\r\nx\r\n"),
        (b"", b"HTTP/1.1 100 Continue\r\n\r\n"),
        (b"HTTP/1.1 200 OK\r\nX: ", b"x"),
        (b"", b""),
    ],
)
async def test_trickling_answer_ends_at_tool_deadline(
    autojump_clock: trio.testing.MockClock, begin: bytes, piece: bytes
) -> None:
    """An answer that trickles in ends at the tool's deadline, and its connection is closed."""

    async def trickle(request: Request) -> None:
        await request.stream.send_all(begin)
        with suppress(trio.BrokenResourceError):
            for _ in range(1000):
                await request.stream.send_all(piece)
                await trio.sleep(0.3)
        await trio.sleep_forever()

    async with serving(trickle) as web:
        with pytest.raises(trio.TooSlowError):
            await call(web.url, timeout_s=2.5)
        assert trio.current_time() == 2.5
        await trio.testing.wait_all_tasks_blocked()
        assert web.interrupted == ["/"]


# Again ----------------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("each", "jitter", "times"),
    [
        ((503, 500, 200), 1.0, [0.0, 0.4, 1.2]),
        ((503, 500, 200), 0.0, [0.0, 0.2, 0.6]),
        ((429, 200), 0.5, [0.0, 0.3]),
        (((429, {"Retry_After": "3"}), 200), 1.0, [0.0, 3.0]),
        (((503, {"Retry_After": "0"}), 200), 1.0, [0.0, 0.0]),
        (((503, {"Retry_After": "soon"}), 200), 1.0, [0.0, 0.4]),
        (
            (
                (
                    503,
                    {"Retry_After": "Wed, 25 Nov 2026 10:00:05 GMT", "Date": "Wed, 25 Nov 2026 10:00:01 GMT"},
                ),
                200,
            ),
            1.0,
            [0.0, 4.0],
        ),
    ],
)
async def test_retries_follow_backoff_or_retry_after(
    autojump_clock: trio.testing.MockClock, each: Any, jitter: float, times: list[float]
) -> None:
    """Retries repeat the same request after growing waits, or after the wait that Retry-After names."""
    answer, asked = answers(*each)
    async with serving(answer) as web:
        assert await call(web.url, webhooks(jitter, secret="hush")) == "room 12"
    assert asked == times
    first, *others = web.requests
    for other in others:
        assert (other.body, other.headers) == (first.body, first.headers)


@pytest.mark.parametrize(
    ("each", "options", "times", "said"),
    [
        (503, {}, [0.0, 0.4, 1.2], "its server answered 503 Service Unavailable"),
        (503, {"webhook_retries": 0}, [0.0], "its server answered 503 Service Unavailable"),
        (503, {"webhook_retries": 3}, [0.0, 0.4, 1.2, 2.8], "its server answered 503 Service Unavailable"),
        (429, {"timeout_s": 1.0}, [0.0, 0.4], "its server answered 429 Too Many Requests"),
        ((429, {"Retry_After": "20"}), {}, [0.0], "its server answered 429 Too Many Requests"),
        (
            (429, {"Retry_After": "31"}),
            {"timeout_s": 600.0},
            [0.0],
            "its server answered 429 Too Many Requests, and is not to be asked again soon",
        ),
        (
            (503, {"Retry_After": "9" * 400}),
            {},
            [0.0],
            "its server answered 503 Service Unavailable, and is not to be asked again soon",
        ),
    ],
)
async def test_retries_stop_when_waiting_cannot_help(
    autojump_clock: trio.testing.MockClock, each: Any, options: dict[str, Any], times: list[float], said: str
) -> None:
    """The tool fails at once when no retry is left or the wait would pass the deadline or the 30 s limit."""
    answer, asked = answers(each)
    async with serving(answer) as web:
        assert await reported(web.url, **options) == said
        assert trio.current_time() == pytest.approx(times[-1])
    assert asked == times


async def test_unreachable_server_is_retried(
    autojump_clock: trio.testing.MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    """A server that cannot be reached is tried again twice, and the log names only its origin."""
    async with serving(answers(200)[0]) as web:
        gone = web.url
    with caplog.at_level(logging.INFO, "patter_trio.call"):
        assert await reported(f"{gone}/secret") == "its server could not be reached"
    assert trio.current_time() == pytest.approx(1.2)
    lines = [record.getMessage() for record in caplog.records]
    assert [line.rpartition("; ")[2] for line in lines] == ["again in 0.40 s", "again in 0.80 s"]
    assert all(line.startswith(f"call CA1: tool look_up: {gone} could not be reached") for line in lines)


async def test_closed_idle_connection_costs_one_retry(
    autojump_clock: trio.testing.MockClock,
) -> None:
    """A connection that the server closed while it was idle costs one retry on a new connection."""

    async def answer(request: Request) -> None:
        if request.connection == 1 and len(web.requests) > 1:
            await request.stream.aclose()
        else:
            await request.answer(b"room 12")

    hooks = webhooks()
    async with serving(answer) as web, shared_client(hooks.guard):
        assert [await call(web.url, hooks), await call(web.url, hooks)] == ["room 12", "room 12"]
    assert [request.connection for request in web.requests] == [1, 1, 2]


# The circuit ----------------------------------------------------------------------------------------------------------
AGAIN = "its server has failed several times lately, and is not asked for now; try again later"


async def test_circuit_opens_and_tries_once(
    autojump_clock: trio.testing.MockClock,
) -> None:
    """A server that keeps failing is left alone for a while and then gets a single trial request."""
    answer, asked = answers(*[503] * 6, 200)
    async with serving(answer) as web:
        assert "503" in await reported(web.url)
        assert await reported(web.url) == AGAIN  # the fifth failure was the last straw
        assert len(asked) == MAX_FAILURES
        opened = trio.current_time()
        assert await reported(web.url, webhooks()) == AGAIN
        assert trio.current_time() == opened
        await trio.sleep(OPEN_CIRCUIT_S)
        assert await reported(web.url) == AGAIN  # the trial failed
        assert len(asked) == MAX_FAILURES + 1
        await trio.sleep(OPEN_CIRCUIT_S)
        assert [await call(web.url) for _ in range(3)] == ["room 12"] * 3


@pytest.mark.parametrize(
    ("status", "body"), [(404, b""), (302, b""), (200, b"\xff"), (200, b"x" * (MAX_ANSWER_BYTES + 1))], ids=range(4)
)
async def test_whoever_answers_is_alive(autojump_clock: trio.testing.MockClock, status: int, body: bytes) -> None:
    """A server that answers 404, 302 or with an unusable body between its failures keeps its circuit closed."""
    answer, asked = answers(*[503, 503, 503, status] * 4, body=body)
    async with serving(answer) as web:
        said = [await reported(web.url) for _ in range(8)]
    assert len(asked) == 16
    assert AGAIN not in said


async def test_circuit_counts_timeouts_but_not_cancellations(
    autojump_clock: trio.testing.MockClock,
) -> None:
    """The circuit counts expired deadlines as failures and ignores cancelled calls."""

    async def silent(request: Request) -> None:
        await trio.sleep_forever()

    async with serving(silent) as web:
        for _ in range(2 * MAX_FAILURES):
            with trio.move_on_after(0.5):
                await call(web.url)
        for _ in range(MAX_FAILURES):
            with pytest.raises(trio.TooSlowError):
                await call(web.url, timeout_s=2.0)
        assert await reported(web.url) == AGAIN
        assert len(web.requests) == 3 * MAX_FAILURES


async def test_cancelled_trial_permits_the_next_trial(autojump_clock: trio.testing.MockClock) -> None:
    """A trial request that is cancelled leaves the circuit ready for the next trial."""

    async def answer(request: Request) -> None:
        if len(web.requests) == MAX_FAILURES + 1:
            await trio.sleep_forever()
        await request.answer(b"room 12", 503 if len(web.requests) <= MAX_FAILURES else 200)

    async with serving(answer) as web:
        for _ in range(2):
            await reported(web.url)
        await trio.sleep(OPEN_CIRCUIT_S)
        with trio.move_on_after(0.5):
            await call(web.url)
        assert await call(web.url) == "room 12"


async def test_servers_on_two_ports_are_two(autojump_clock: trio.testing.MockClock) -> None:
    """Two ports of one host have circuits of their own: a server that keeps failing does not stop the other one."""
    async with serving(answers(503)[0]) as ill, serving(answers(200)[0]) as well:
        for _ in range(2):
            await reported(ill.url)
        assert await reported(ill.url) == AGAIN
        assert await call(well.url) == "room 12"


async def test_refused_address_does_not_open_circuit(autojump_clock: trio.testing.MockClock) -> None:
    """An address that the guard refuses does not count as a failure of the server."""
    async with serving(answers(200)[0]) as web:
        for _ in range(2 * MAX_FAILURES):
            assert await reported(web.url, webhooks(guard=Guard())) == "its server is at an address that is not allowed"
        assert web.connections == 0
        assert await call(web.url) == "room 12"
    assert trio.current_time() == 0.0


# Cancelled ------------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("each", [(200,), (503, 200)])
@pytest.mark.deep
async def test_webhook_cancelled_anywhere_leaves_nothing_behind(
    each: tuple[int, ...],
    autojump_clock: trio.testing.MockClock,
    recwarn: pytest.WarningsRecorder,
    monkeypatch: pytest.MonkeyPatch,
    stride: int,
) -> None:
    """A webhook call can be cancelled at any step without errors, warnings or leftovers."""
    left: list[object] = []
    monkeypatch.setattr("sys.unraisablehook", left.append)

    async def answer(request: Request) -> None:
        await request.answer(b"room 12", each[min(len(web.requests) - begun, len(each)) - 1])

    async with serving(answer) as web:
        begun = 0
        whole = await cancelled_at(partial(call, web.url), 0)
        assert whole.result == "room 12"
        for step in range(1, whole.steps + 1, stride):
            begun = len(web.requests)
            end = await cancelled_at(partial(call, web.url), step)
            assert not end.errors
            gc.collect()
            assert not left, f"cancelled at step {step} of {whole.steps}"
            begun = len(web.requests)
            assert await call(web.url) == "room 12"
    assert not [str(warning.message) for warning in recwarn.list]
