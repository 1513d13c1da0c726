"""One request to a carrier's REST API, by the parts that all carriers share: what is sent, and what an answer means."""

import json
from collections.abc import Callable, Mapping
from typing import Any
from urllib.parse import parse_qsl

import pytest
import trio
from hypothesis import given
from hypothesis import strategies as st

from patter_trio.carriers.rest import (
    CarrierREST,
    Refusal,
    basic_authorization,
    checked_api_url,
    json_object,
)
from patter_trio.errors import (
    MAX_REPORTED_CHARACTERS,
    AuthenticationError,
    CallEnded,
    ConfigurationError,
    PatterError,
    ProviderError,
    ProviderTimeout,
    RateLimitError,
)
from patter_trio.testing.servers.loopback import on_loopback

GONE = {"code": "90018", "message": "gone"}


def read(status: int, said: Mapping[str, Any]) -> Refusal:
    """Reads refusals as a carrier would that says by status or by code that a call is over."""
    return Refusal(said.get("code", ""), said.get("message", ""), status == 404 or said.get("code") == GONE["code"])


class Carrier:
    """Answers each request with the same bytes, and keeps what it received."""

    def __init__(self, answer: bytes) -> None:
        self.answer = answer
        self.received: list[tuple[str, dict[str, str], bytes]] = []

    async def handle(self, stream: trio.abc.Stream) -> None:
        """Serve one connection."""
        async with stream:
            data = b""
            while b"\r\n\r\n" not in data:
                data += await stream.receive_some(65536)
            head, _, body = data.partition(b"\r\n\r\n")
            first, *lines = head.decode("latin-1").split("\r\n")
            headers = {name.lower(): value for name, _, value in (line.partition(": ") for line in lines)}
            while len(body) < int(headers.get("content-length", "0")):
                body += await stream.receive_some(65536)
            self.received.append((first, headers, body))
            await stream.send_all(self.answer)


def answer_of(status: int, said: Any, headers: str = "") -> bytes:
    body = said if isinstance(said, bytes) else json.dumps(said).encode()
    return b"HTTP/1.1 %d Said\r\nContent-Length: %d\r\n%s\r\n" % (status, len(body), headers.encode()) + body


async def asked(answer: bytes, use: Callable[[CarrierREST], Any]) -> tuple[Any, Carrier]:
    """Return what a request to a carrier that gives this answer returns, and the carrier; raise what it raises."""
    carrier = Carrier(answer)
    failure: PatterError | None = None
    async with on_loopback(carrier.handle) as port:
        with trio.fail_after(10):
            try:
                said = await use(CarrierREST(f"http://127.0.0.1:{port}/v2", "Bearer KEY", read))
            except PatterError as error:
                failure = error
    # Outside: the server's nursery would wrap it in a group.
    if failure is not None:
        raise failure
    return said, carrier


async def test_json_is_sent_and_an_object_returned() -> None:
    """A request with JSON has credentials, its type and a connection of its own, and returns the answer's object."""
    said, carrier = await asked(
        answer_of(200, {"data": {"id": "x"}}), lambda rest: rest.ask("POST", "/calls", json={"to": "+1", "n": 2})
    )
    [(first, headers, body)] = carrier.received
    assert said == {"data": {"id": "x"}}
    assert (first, json.loads(body)) == ("POST /v2/calls HTTP/1.1", {"to": "+1", "n": 2})
    assert (headers["authorization"], headers["content-type"]) == ("Bearer KEY", "application/json")
    assert (headers["connection"], headers["accept"]) == ("close", "application/json")


async def test_repeated_form_fields_keep_their_order() -> None:
    """A form given as pairs is sent with each of its fields, in their order."""
    pairs = [("Event", "ringing"), ("To", "+1"), ("Event", "answered")]
    _, carrier = await asked(answer_of(201, {}), lambda rest: rest.ask("POST", "/calls", form=pairs))
    [(_, headers, body)] = carrier.received
    assert parse_qsl(body.decode()) == pairs
    assert headers["content-type"] == "application/x-www-form-urlencoded"


async def test_request_without_fields_has_no_type() -> None:
    """A request without a body announces no type of one, and an empty success is enough for a command."""
    _, carrier = await asked(b"HTTP/1.1 204 No Content\r\n\r\n", lambda rest: rest.command("DELETE", "/calls/1"))
    [(first, headers, body)] = carrier.received
    assert (first, body) == ("DELETE /v2/calls/1 HTTP/1.1", b"")
    assert "content-type" not in headers


@pytest.mark.parametrize(
    ("answer", "error"),
    [
        pytest.param(answer_of(404, {}), CallEnded, id="by-status"),
        pytest.param(answer_of(422, GONE), CallEnded, id="by-code"),
        pytest.param(answer_of(422, {"code": "1"}), ProviderError, id="other-code"),
        pytest.param(answer_of(500, b"<html>"), ProviderError, id="html"),
        pytest.param(answer_of(401, GONE), AuthenticationError, id="credentials"),
        pytest.param(b"", ProviderTimeout, id="cut"),
    ],
)
async def test_what_a_refused_command_raises(answer: bytes, error: type[Exception]) -> None:
    """A command raises CallEnded where the carrier says so, and the error of the status otherwise."""
    with pytest.raises(ProviderError if error is not CallEnded else CallEnded) as raised:
        await asked(answer, lambda rest: rest.command("POST", "/calls/1"))
    assert type(raised.value) is error


async def test_only_a_request_about_a_call_ends_it() -> None:
    """The same refusal raises ProviderError for a request that is not about an existing call."""
    with pytest.raises(ProviderError, match="90018: gone"):
        await asked(answer_of(422, GONE), lambda rest: rest.ask("POST", "/calls", json={}))
    with pytest.raises(CallEnded, match="90018: gone"):
        await asked(answer_of(422, GONE), lambda rest: rest.ask("POST", "/calls/1", json={}, of_call=True))


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        pytest.param("Retry-After: 7\r\n", 7.0, id="seconds"),
        pytest.param("", None, id="absent"),
        pytest.param("Retry-After: soon\r\n", None, id="unreadable"),
    ],
)
async def test_too_many_requests_say_when_again(headers: str, seconds: float | None) -> None:
    """RateLimitError has the seconds of Retry-After, or None."""
    with pytest.raises(RateLimitError) as raised:
        await asked(answer_of(429, {}, headers), lambda rest: rest.command("POST", "/calls/1"))
    assert raised.value.retry_after == seconds


@pytest.mark.parametrize(
    "body",
    [
        pytest.param(b"", id="empty"),
        pytest.param(b"OK", id="text"),
        pytest.param(b"[1]", id="array"),
        pytest.param(b"\xff", id="bytes"),
        pytest.param(b"[" * 9000, id="deep"),
        pytest.param(b'{"a":1}' * 2, id="two-objects"),
    ],
)
async def test_success_that_cannot_be_read_is_unknown(body: bytes) -> None:
    """A success without a readable object raises ProviderTimeout, for it is unknown what was done.

    ProviderError for a GET.
    """
    with pytest.raises(ProviderTimeout, match="unknown"):
        await asked(answer_of(201, body), lambda rest: rest.ask("POST", "/calls", json={}))
    with pytest.raises(ProviderError) as raised:
        await asked(answer_of(200, body), lambda rest: rest.ask("GET", "/numbers"))
    assert type(raised.value) is ProviderError


async def test_success_that_breaks_off_is_unknown() -> None:
    """A success whose body breaks off raises ProviderTimeout: it is unknown what was done."""
    with pytest.raises(ProviderTimeout, match="unknown"):
        await asked(answer_of(201, {"sid": "x"})[:-3], lambda rest: rest.ask("POST", "/calls", json={}))


def test_credentials_are_in_no_repr() -> None:
    """The repr of an account shows no credentials."""
    assert "KEY" not in repr(CarrierREST("https://x", "Bearer KEY", read))
    # RFC 7617, section 2.1: its own example.
    assert basic_authorization("test", "123£") == "Basic dGVzdDoxMjPCow=="


@given(code=st.text(max_size=8), message=st.text(max_size=2000))
def test_an_explanation_is_short(code: str, message: str) -> None:
    """What is quoted of a refusal is at most its code and 300 characters."""
    shown = str(Refusal(code, message))
    assert len(shown) <= len(code) + 2 + MAX_REPORTED_CHARACTERS
    assert shown.startswith(code)


@given(
    st.binary() | st.recursive(st.none() | st.text(), lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner))
)
def test_only_a_json_object_is_one(body: Any) -> None:
    """Any bytes are either a JSON object or None, and every object is read back."""
    if isinstance(body, bytes):
        assert json_object(body) is None or isinstance(json_object(body), dict)
    else:
        assert json_object(json.dumps(body).encode()) == (body if isinstance(body, dict) else None)


def test_wrong_address_error_names_carrier() -> None:
    """An address that is not an http URL raises an error that names the carrier and its usual address."""
    with pytest.raises(ConfigurationError, match=r"Telnyx's api_url must be a URL like https://api\.telnyx\.com, got"):
        checked_api_url("ftp://x", owner="Telnyx", usual="https://api.telnyx.com")
    assert checked_api_url("http://127.0.0.1:8/", owner="Telnyx", usual="x") == "http://127.0.0.1:8"
