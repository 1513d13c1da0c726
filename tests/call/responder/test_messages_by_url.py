"""on_message as a URL, in whole calls: what its server sees, what it may answer, and all that it may do wrong."""

import hashlib
import hmac
import json
import logging
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Any

import pytest
import trio
import trio.testing

from patter_trio import Agent, ConfigurationError, Patter
from patter_trio.net.websocket import SocketClosed, Upgrade, WebSocket
from patter_trio.pytest_plugin import CallSimulator
from patter_trio.server.answerer import message_handler_of
from patter_trio.server.calls import open_call_server
from patter_trio.testing import ScriptedSTT, ScriptedTTS, ScriptedVAD, SimulatedCaller
from tests.kit.depth import few
from tests.kit.web import Request, Web, _websocket, serving

pytestmark = pytest.mark.all_carriers

SORRY = "Sorry, again please."
SECRET = "hush"


def agent_of(**options: Any) -> Agent:
    chosen: dict[str, Any] = {"vad": ScriptedVAD(), "stt": ScriptedSTT(), "tts": ScriptedTTS(), "error_message": SORRY}
    return Patter().agent("You are brief.", **chosen | options)


async def ask(caller: SimulatedCaller, text: str = "Are you open?") -> str:
    await caller.speaks(text, seconds=0.5)
    return (await caller.hears(within=100.0)).text


def warnings(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [record.message for record in caplog.records if record.levelno >= logging.WARNING]


# A webhook: what it sees ----------------------------------------------------------------------------------------------
async def test_message_event_is_posted_as_signed_json(
    call_simulator: CallSimulator, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The client posts the event as JSON and signs the body with its HMAC."""
    monkeypatch.setenv("PATTER_WEBHOOK_SECRET", SECRET)

    async def answer(request: Request) -> None:
        await request.answer(b"We are.")

    async with (
        serving(answer) as web,
        call_simulator(agent_of(first_message="Hello."), on_message=f"{web.url}/patter?v=1") as caller,
    ):
        await caller.hears()
        assert await ask(caller) == "We are."
        [token] = caller.payloads("llm_token")
        call_id = caller.carrier.call_id
    [request] = web.requests
    assert (request.method, request.target, request.headers["content-type"]) == (
        "POST",
        "/patter?v=1",
        "application/json",
    )
    assert request.headers["x-patter-signature"] == hmac.new(b"hush", request.body, hashlib.sha256).hexdigest()
    event = json.loads(request.body)
    assert [(entry.pop("timestamp") > 0, entry) for entry in event.pop("history")] == [
        (True, {"role": "assistant", "text": "Hello."})
    ]
    assert event == {
        "call_id": call_id,
        "caller": "+15550100001",
        "callee": "+15550100002",
        "text": "Are you open?",
    }
    assert (token["llm_provider"], token["model"]) == ("on_message", web.url)


async def test_signing_secret_argument_precedes_environment_variable(
    autojump_clock: trio.testing.MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The signing secret is empty by default, and the argument takes precedence over the environment variable."""
    assert message_handler_of("http://127.0.0.1/", "").secret == ""  # type: ignore[union-attr]
    monkeypatch.setenv("PATTER_WEBHOOK_SECRET", "of the environment")
    assert message_handler_of("http://127.0.0.1/", "").secret == "of the environment"  # type: ignore[union-attr]
    assert message_handler_of("http://127.0.0.1/", "given").secret == "given"  # type: ignore[union-attr]
    with pytest.raises(ConfigurationError, match="on_message_secret must be a string, got bytes"):
        message_handler_of("http://127.0.0.1/", b"given")  # type: ignore[arg-type]


async def test_an_unsigned_request_has_no_signature_header(call_simulator: CallSimulator) -> None:
    """A request has no signature header if no secret is set."""

    async def answer(request: Request) -> None:
        await request.answer(b"We are.")

    async with serving(answer) as web, call_simulator(agent_of(), on_message=web.url) as caller:
        await ask(caller)
    assert "x-patter-signature" not in web.requests[0].headers


async def test_words_of_every_script_arrive_as_they_are(call_simulator: CallSimulator) -> None:
    """Words of any script reach the server as UTF-8 and come back to the caller unchanged."""

    async def answer(request: Request) -> None:
        await request.answer(json.loads(request.body)["text"].encode())

    async with serving(answer) as web, call_simulator(agent_of(), on_message=web.url) as caller:
        assert await ask(caller, "Grüße 日本") == "Grüße 日本"
    assert "日本".encode() in web.requests[0].body


async def test_one_connection_serves_the_turns_of_a_call(call_simulator: CallSimulator) -> None:
    """Three turns of a call share one HTTP connection."""

    async def answer(request: Request) -> None:
        await request.answer(b"We are.")

    async with serving(answer) as web, call_simulator(agent_of(), on_message=web.url) as caller:
        for _ in range(3):
            await ask(caller)
    assert [request.connection for request in web.requests] == [1, 1, 1]


# A webhook: what it may answer ----------------------------------------------------------------------------------------
def answering(body: bytes, content_type: str = "application/json", status: int = 200) -> Any:
    async def answer(request: Request) -> None:
        await request.answer(body, status, content_type)

    return answer


@pytest.mark.parametrize(
    ("server", "said"),
    few(
        [
            (answering(b"We are.", "text/plain; charset=utf-8"), "We are."),
            (answering(b"We are.", ""), "We are."),
            (answering(b"We are.", "text/html; charset=utf-8"), "We are."),
            (answering(b"\n We are, at 7 < 8.", "text/html"), "We are, at 7 < 8."),
            (answering(b'{"text": "We are.", "more": 1}', "application/json; charset=utf-8"), "We are."),
            (answering(b'"We are."'), "We are."),
        ],
        2,
    ),
)
async def test_it_may_answer_with_plain_text_or_json(call_simulator: CallSimulator, server: Any, said: str) -> None:
    """The server may answer with plain text, with a JSON string or with a JSON object that has a text."""
    async with serving(server) as web, call_simulator(agent_of(), on_message=web.url) as caller:
        assert await ask(caller) == said


@pytest.mark.parametrize(
    "server",
    few(
        [
            answering(b"", "", 204),
            answering(b"", "text/plain"),
            answering(b"", "application/json"),
            answering(b'{"text": null}'),
            answering(b"null"),
            answering(b'{"text": ""}'),
        ],
        2,
    ),
)
async def test_no_content_response_leaves_agent_idle(call_simulator: CallSimulator, server: Any) -> None:
    """A response without content means silence, and the agent returns to idle."""
    async with serving(server) as web, call_simulator(agent_of(), on_message=web.url) as caller:
        await caller.speaks("Say nothing", seconds=0.5)
        await caller.waits(5.0)
        assert caller.state == {"user": "listening", "agent": "idle"}
        assert caller.times("agent_speech_started") == []
    assert len(web.requests) == 1


async def test_plain_text_is_spoken_as_it_comes(call_simulator: CallSimulator) -> None:
    """The agent speaks the first sentence of a plain-text answer 10 s before the second one arrives."""

    async def slowly(request: Request) -> None:
        await request.head()
        for piece in (b"One moment. Gr", b"\xc3", b"\xbc\xc3\x9fe. And"):  # in the middle of a character, too
            await request.chunk(piece)
        await trio.sleep(10.0)
        await request.chunk(b" here it is.")
        await request.chunk(b"")

    async with serving(slowly) as web, call_simulator(agent_of(), on_message=web.url) as caller:
        assert await ask(caller) == "One moment. Grüße. And here it is."
        assert caller.times("agent_speech_started")[0] == pytest.approx(1.2)
        assert len(caller.times("agent_speech_started")) == 1


# A webhook: what it may do wrong --------------------------------------------------------------------------------------
async def never(request: Request) -> None:
    await trio.sleep_forever()


async def stops_in_the_middle(request: Request) -> None:
    await request.head()
    await request.chunk(b"Well, ")
    await trio.sleep_forever()


async def breaks(request: Request) -> None:
    await request.stream.send_all(b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nabc")
    await request.stream.aclose()


async def redirects(request: Request) -> None:
    await request.answer(status=302, Location="http://elsewhere.example/")


WRONG: list[tuple[Any, str, float]] = [
    (answering(b"boom", status=500), "answered 500", 0),
    (answering(b"not you", status=401), "answered 401", 0),
    (answering(b"slower", status=429), "answered 429", 0),
    (redirects, "redirects are not followed", 0),
    (answering(b"<html>Login</html>", "text/html"), "answered with an HTML page: give application/json or text/", 0),
    (answering(b"\n <!doctype html>", "text/html; charset=utf-8"), "answered with an HTML page: give application/", 0),
    (answering(b"a,b", "text/csv"), "answered with text/csv: give application/json or text/plain", 0),
    (answering(b"{not json"), "answered with invalid UTF-8 or JSON", 0),
    (answering(b"\xff\xfe", "text/plain"), "answered with invalid UTF-8 or JSON", 0),
    (answering(b"\xff", "application/json"), "answered with invalid UTF-8 or JSON", 0),
    (answering(b"7"), 'must answer {"text": "..."}', 0),
    (answering(b'{"text": 7}'), 'must answer {"text": "..."}', 0),
    (answering(b'{"text": "Hello \\ud83d"}'), 'must answer {"text": "..."}', 0),
    (answering(b'{"reply": "We are."}'), 'must answer {"text": "..."}', 0),
    (answering(b" " * 65_537, "text/plain"), "must have at most 65536 bytes", 0),
    (breaks, "broke: ", 0),
    (never, "did not answer within 30 s", 30),
    (stops_in_the_middle, "did not answer within 30 s", 30),
]


@pytest.mark.parametrize(("server", "why", "after"), few(WRONG, 3), ids=[why for _, why, _ in WRONG])
async def test_webhook_failure_reports_one_failed_reply(
    call_simulator: CallSimulator, caplog: pytest.LogCaptureFixture, server: Any, why: str, after: float
) -> None:
    """Any webhook failure makes one failed reply with one log line, and the call goes on."""
    fine = answering(b"We are.", "text/plain")
    servers = [server, fine]

    async def answer(request: Request) -> None:
        await servers.pop(0)(request)

    async with serving(answer) as web, call_simulator(agent_of(), on_message=f"{web.url}/hush") as caller:
        assert await ask(caller) == SORRY
        assert caller.times("agent_speech_started")[0] == pytest.approx(1.0 + after + 0.2, abs=0.01)
        assert await ask(caller) == "We are."
    assert caller.outcome == "caller_hung_up"
    assert "error" not in caller.payloads("call_end")[0]
    [line] = warnings(caplog)
    assert why in line
    assert caller.carrier.call_id in line
    assert "hush" not in line


async def test_unreachable_url_is_a_failed_reply(
    call_simulator: CallSimulator, caplog: pytest.LogCaptureFixture
) -> None:
    """The agent apologises if nothing listens at the URL, and the log says that it could not be reached."""
    async with serving(never) as web:
        pass
    async with call_simulator(agent_of(), on_message=web.url) as caller:
        assert await ask(caller) == SORRY
    assert "could not be reached" in caplog.text


async def test_a_barge_in_ends_the_request_at_once(call_simulator: CallSimulator) -> None:
    """A barge-in closes the request 250 ms after the onset, and a hang-up closes it at once."""

    async def goes_on(request: Request) -> None:
        await request.head()
        for _ in range(1000):
            await request.chunk(b"A sentence that is quite long. ")
            await trio.sleep(1.0)

    async with serving(goes_on) as web, call_simulator(agent_of(), on_message=f"{web.url}/first") as caller:
        await caller.speaks("Tell me all", seconds=0.5)
        await caller.at(4.0)
        await caller.speaks("Stop", seconds=0.5, wait=False)
        await caller.at(4.24)
        assert web.interrupted == []
        await caller.at(4.26)
        assert web.interrupted == ["/first"]
        await caller.at(8.0)
        await caller.hangs_up()
        await caller.waits(0.01)
        assert web.interrupted == ["/first", "/first"]


async def test_speech_before_answer_cancels_request_and_asks_again(call_simulator: CallSimulator) -> None:
    """Speech before the answer cancels the request, and a new request carries both parts."""

    async def slow(request: Request) -> None:
        await trio.sleep(1.0)
        await request.answer(b"Certainly.")

    async with serving(slow) as web, call_simulator(agent_of(), on_message=web.url) as caller:
        await caller.speaks("A room", seconds=0.5)
        await caller.at(1.2)
        assert await ask(caller, "for two") == "Certainly."
    assert [json.loads(request.body)["text"] for request in web.requests] == ["A room", "A room for two"]
    assert len(web.interrupted) == 1


# A WebSocket ----------------------------------------------------------------------------------------------------------
Talk = Callable[[WebSocket, dict[str, Any]], Awaitable[None]]


@pytest.fixture
def upgrades() -> list[Upgrade]:
    return []


def talking(talk: Talk, asked: list[str], upgrades: list[Upgrade] | None = None) -> Any:
    """A server that answers message after message."""

    async def converse(socket: WebSocket, upgrade: Upgrade) -> None:
        if upgrades is not None:
            upgrades.append(upgrade)
        while True:
            event = json.loads(await socket.receive())
            asked.append(event["text"])
            await talk(socket, event)

    return converse


def piece(text: str, **more: Any) -> str:
    return json.dumps({"text": text, **more})


DONE = json.dumps({"done": True})


async def in_pieces(socket: WebSocket, event: dict[str, Any]) -> None:
    for text in ("You ", "said ", f"{event['text']}."):
        await socket.send(piece(text))
    await socket.send(DONE)


async def in_one(socket: WebSocket, event: dict[str, Any]) -> None:
    await socket.send(piece(f"You said {event['text']}.", done=True))


async def in_plain_text(socket: WebSocket, event: dict[str, Any]) -> None:
    for text in ("You said", f" {event['text']}", ".", '{"unknown": 1}'):
        await socket.send(text)
    await socket.send(DONE)


@pytest.mark.parametrize("talk", [in_pieces, in_one, in_plain_text])
async def test_one_websocket_per_call_carries_events_and_pieces(
    call_simulator: CallSimulator, upgrades: list[Upgrade], talk: Talk
) -> None:
    """One WebSocket connection per call carries the events out and the answer pieces in."""
    asked: list[str] = []
    async with serving(converse=talking(talk, asked, upgrades)) as web:
        async with call_simulator(agent_of(), on_message=f"{web.url}/chat") as caller:
            await caller.waits(0.01)
            assert web.connections == 1  # open before anything is said
            for text in ("one", "two"):
                assert await ask(caller, text) == f"You said {text}."
            assert caller.payloads("llm_token")[0]["model"] == web.url
        await trio.testing.wait_all_tasks_blocked()
        assert (web.connections, len(web.left)) == (1, 1)
    assert asked == ["one", "two"]
    assert upgrades[0].path == "/chat"
    assert upgrades[0].headers["X-Patter-Call-Id"] == caller.carrier.call_id
    assert "X-Patter-Signature" not in upgrades[0].headers


async def test_websocket_handshake_is_signed_with_call_id_hmac(
    call_simulator: CallSimulator, monkeypatch: pytest.MonkeyPatch, upgrades: list[Upgrade]
) -> None:
    """The client signs its WebSocket handshake with the HMAC of the call id."""
    monkeypatch.setenv("PATTER_WEBHOOK_SECRET", SECRET)
    async with (
        serving(converse=talking(in_one, [], upgrades)) as web,
        call_simulator(agent_of(), on_message=web.url) as caller,
    ):
        await ask(caller)
    expected = hmac.new(b"hush", caller.carrier.call_id.encode(), hashlib.sha256).hexdigest()
    assert upgrades[0].headers["X-Patter-Signature"] == expected


async def test_pieces_are_spoken_as_they_come(call_simulator: CallSimulator) -> None:
    """The agent speaks the first sentence that a WebSocket piece holds 10 s before the next piece arrives."""

    async def slowly(socket: WebSocket, event: dict[str, Any]) -> None:
        await socket.send(piece("One moment. And"))
        await trio.sleep(10.0)
        await socket.send(piece(" here it is.", done=True))

    async with (
        serving(converse=talking(slowly, [])) as web,
        call_simulator(agent_of(), on_message=web.url) as caller,
    ):
        assert await ask(caller) == "One moment. And here it is."
        assert caller.times("agent_speech_started")[0] == pytest.approx(1.2)


async def test_no_piece_is_silence(call_simulator: CallSimulator) -> None:
    """An answer without pieces means silence, and the agent returns to idle."""

    async def nothing(socket: WebSocket, event: dict[str, Any]) -> None:
        await socket.send(DONE)

    async with (
        serving(converse=talking(nothing, [])) as web,
        call_simulator(agent_of(), on_message=web.url) as caller,
    ):
        await caller.speaks("Say nothing", seconds=0.5)
        await caller.waits(5.0)
        assert caller.state == {"user": "listening", "agent": "idle"}
        assert caller.times("agent_speech_started") == []


async def test_server_closing_after_each_answer_gets_new_connection(
    call_simulator: CallSimulator,
) -> None:
    """A server may close the WebSocket (1000) after each answer, with an end marker or without.

    The next message uses a new connection.
    """

    async def once(socket: WebSocket, upgrade: Upgrade) -> None:
        event = json.loads(await socket.receive())
        await socket.send(piece(f"You said {event['text']}.", done=len(event["text"]) > 3))
        await socket.aclose(1000)

    async with serving(converse=once) as web, call_simulator(agent_of(), on_message=web.url) as caller:
        for text in ("one", "three", "two"):
            assert await ask(caller, text) == f"You said {text}."
        assert web.connections == 3


async def test_idle_connection_closing_during_request_is_retried(call_simulator: CallSimulator) -> None:
    """A message that crosses the server's close of an idle WebSocket is sent again on a new connection."""

    async def converse(socket: WebSocket, upgrade: Upgrade) -> None:
        await in_one(socket, json.loads(await socket.receive()))
        await socket.receive()
        await socket.aclose(1000)

    async with serving(converse=converse) as web, call_simulator(agent_of(), on_message=web.url) as caller:
        for text in ("one", "two"):
            assert await ask(caller, text) == f"You said {text}."
        assert web.connections == 2


async def sends_bytes(socket: WebSocket, event: dict[str, Any]) -> None:
    await socket.send(b"We are.")


async def sends_a_number(socket: WebSocket, event: dict[str, Any]) -> None:
    await socket.send(json.dumps({"text": 7}))


async def sends_half_a_character(socket: WebSocket, event: dict[str, Any]) -> None:
    await socket.send('{"text": "Hello \\ud83d"}')


async def floods(socket: WebSocket, event: dict[str, Any]) -> None:
    for _ in range(70):
        await socket.send(piece(" " * 1000))  # without a sentence, which would be heard first


async def crashes(socket: WebSocket, event: dict[str, Any]) -> None:
    await socket.aclose(1011, "internal error")
    raise SocketClosed(1011)


async def stops(socket: WebSocket, event: dict[str, Any]) -> None:
    await socket.send(piece("Well, "))
    await trio.sleep_forever()


@pytest.mark.parametrize(
    ("wrong", "why", "after"),
    few(
        [
            (sends_bytes, "sent a binary message", 0),
            (sends_a_number, 'must send {"text": "..."}', 0),
            (sends_half_a_character, 'must send {"text": "..."}', 0),
            (floods, "is longer than 65536 bytes", 0),
            (crashes, "ended: websocket closed (1011", 0),
            (stops, "did not answer within 30 s", 30),
        ],
        2,
    ),
)
async def test_websocket_error_fails_reply_and_reconnects(
    call_simulator: CallSimulator, caplog: pytest.LogCaptureFixture, wrong: Talk, why: str, after: float
) -> None:
    """A server error on the WebSocket makes a failed reply, and the next message uses a new connection."""
    talks, asked = [wrong, in_one], list[str]()

    async def talk(socket: WebSocket, event: dict[str, Any]) -> None:
        await talks.pop(0)(socket, event)

    async with (
        serving(converse=talking(talk, asked)) as web,
        call_simulator(agent_of(), on_message=f"{web.url}/hush") as caller,
    ):
        assert await ask(caller, "one") == SORRY
        assert caller.times("agent_speech_started")[-1] == pytest.approx(1.0 + after + 0.2, abs=0.01)
        assert await ask(caller, "two") == "You said two."
        assert web.connections == 2
    [line] = warnings(caplog)
    assert why in line
    assert "hush" not in line


async def test_late_server_is_reached_when_needed(
    call_simulator: CallSimulator, caplog: pytest.LogCaptureFixture
) -> None:
    """A server that starts during the call answers the next message."""
    async with serving(converse=talking(in_one, [])) as web:
        pass
    async with call_simulator(agent_of(), on_message=web.url) as caller:
        assert await ask(caller, "one") == SORRY
        assert ["could not be reached" in line for line in warnings(caplog)] == [True, True]
        port = int(web.url.rpartition(":")[2])
        async with trio.open_nursery() as nursery:
            late = Web(web.url)
            answering_late = partial(_websocket, late, talking(in_one, []))
            await nursery.start(partial(trio.serve_tcp, answering_late, port, host="127.0.0.1"))
            assert await ask(caller, "two") == "You said two."
            nursery.cancel_scope.cancel()


async def _sends_for_ever(socket: WebSocket) -> None:
    while True:
        await socket.send(piece("A sentence that is quite long. "))
        await trio.sleep(1.0)


async def test_barge_in_closes_connection_and_opens_next_early(
    call_simulator: CallSimulator,
) -> None:
    """A barge-in closes the connection at once, and the next one opens before a message needs it."""
    ended: list[tuple[float, int]] = []

    async def goes_on(socket: WebSocket, event: dict[str, Any]) -> None:
        if event["text"] == "Stop":
            await in_one(socket, event)
            return
        async with trio.open_nursery() as nursery:
            nursery.start_soon(_sends_for_ever, socket)
            try:
                await socket.receive()
            except SocketClosed as closed:
                ended.append((round(caller.now, 3), closed.code))
            nursery.cancel_scope.cancel()
        raise SocketClosed(1000)

    asked: list[str] = []
    async with (
        serving(converse=talking(goes_on, asked)) as web,
        call_simulator(agent_of(), on_message=web.url) as caller,
    ):
        await caller.speaks("Tell me all", seconds=0.5)
        await caller.at(4.0)
        await caller.speaks("Stop", seconds=0.5, wait=False)
        await caller.at(4.24)
        assert (web.connections, asked) == (1, ["Tell me all"])
        await caller.at(4.40)
        assert web.connections == 2  # and the server has not been asked yet
        assert asked == ["Tell me all"]
        assert (await caller.heard(1)).text == "You said Stop."
        assert ended == [(4.25, 1000)]


async def test_unrequested_pieces_do_not_enter_next_answer(call_simulator: CallSimulator) -> None:
    """Pieces that arrive without a request do not become part of the next answer."""

    async def chatters(socket: WebSocket, event: dict[str, Any]) -> None:
        await in_one(socket, event)
        await socket.send(piece("And another thing."))

    async with (
        serving(converse=talking(chatters, [])) as web,
        call_simulator(agent_of(), on_message=web.url) as caller,
    ):
        for text in ("one", "two"):
            assert await ask(caller, text) == f"You said {text}."


# What is said at serve ------------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("url", "message"),
    [
        ("", "got a text without a scheme"),
        ("agent.example.com/hook", "got a text without a scheme"),
        ("ftp://agent.example.com/hook", "got a URL that begins with ftp:"),
        ("https://", "must be a URL with a host"),
        ("https:///hook", "must be a URL with a host"),
        ("https://agent.example.com/a b", "without spaces"),
        ("https://agent.example.com/\n", "without spaces"),
        ("https://agent.example.com:port/", "must be a valid URL"),
        ("https://agent.example.com:99999/", "must be a valid URL"),
        ("https://[::1/", "must be a valid URL"),
        (
            "https://ex\u2024ample.com/hush",
            "must be a valid URL, got https://ex\u2024ample.com...: Invalid IDNA hostname",
        ),
        ("https://agent.example.com/#hook", "without a #fragment"),
        ("wss://user:hush@agent.example.com/", "cannot have a user name"),
        (7, "on_message must be a function, got int: 7"),
    ],
)
async def test_malformed_message_url_raises_at_serve(url: Any, message: str) -> None:
    """A malformed on_message URL raises ConfigurationError at serve."""
    with pytest.raises(ConfigurationError) as raised:
        await Patter().serve(agent_of(), port=0, on_message=url)
    assert message in str(raised.value)
    assert "hush" not in str(raised.value)


@pytest.mark.parametrize(
    ("url", "warned"),
    [
        ("http://agent.example.com/hush", True),
        ("ws://10.0.0.7/hush", True),
        ("https://agent.example.com/", False),
        ("wss://agent.example.com/", False),
        ("http://127.0.0.1:80/", False),
        ("ws://[::1]/", False),
        ("http://localhost/", False),
    ],
)
async def test_unencrypted_message_url_warns_at_serve(caplog: pytest.LogCaptureFixture, url: str, warned: bool) -> None:
    """An on_message URL without encryption causes a warning at serve."""
    async with open_call_server(
        Patter()._serve_options(agent_of(), public_url="http://agent.test", callbacks={"on_message": url})
    ):
        pass
    assert [("unencrypted" in line, "hush" in line) for line in warnings(caplog)] == [(True, False)] * warned


# Wherever it is -------------------------------------------------------------------------------------------------------
async def no_handshake(stream: trio.SocketStream) -> None:
    await stream.receive_some(65536)
    await trio.sleep_forever()


async def reads_nothing(stream: trio.SocketStream) -> None:
    await trio.sleep_forever()


async def half_a_head(stream: trio.SocketStream) -> None:
    await stream.receive_some(65536)
    await stream.send_all(b"HTTP/1.1 200 OK\r\nContent-")
    await trio.sleep_forever()


async def half_a_body(stream: trio.SocketStream) -> None:
    await stream.receive_some(65536)
    await stream.send_all(b"HTTP/1.1 200 OK\r\nContent-Length: 99\r\nContent-Type: text/plain\r\n\r\nOne moment. And")
    await trio.sleep_forever()


@pytest.mark.parametrize("scheme", ["http", "ws"])
@pytest.mark.parametrize("server", few([no_handshake, reads_nothing, half_a_head, half_a_body], 2))
@pytest.mark.parametrize("hang_up_at", few([0.0, 1.0, 1.5, 6.5], 1))
async def test_hang_up_at_any_message_stage_leaves_nothing(
    call_simulator: CallSimulator, scheme: str, server: Any, hang_up_at: float
) -> None:
    """A hang-up at any stage of a request to a stalled server ends the call within 1 s and leaves no task."""
    [listener] = await trio.open_tcp_listeners(0, host="127.0.0.1")
    async with trio.open_nursery() as nursery:
        nursery.start_soon(trio.serve_listeners, server, [listener])
        url = f"{scheme}://127.0.0.1:{listener.socket.getsockname()[1]}"
        ends: list[dict[str, Any]] = []
        async with call_simulator(agent_of(), on_message=url, on_call_end=ends.append) as caller:
            await caller.speaks("Are you open?", seconds=0.5, wait=False)
            await caller.at(hang_up_at)
            await caller.hangs_up()
            await caller.carrier.over.wait()
            assert caller.now - hang_up_at <= 1.0
            await caller.waits(1.0)
        assert [end["outcome"] for end in ends] == ["caller_hung_up"]
        nursery.cancel_scope.cancel()


@pytest.mark.parametrize("scheme", ["http", "ws"])
@pytest.mark.costly
async def test_unresponsive_server_delays_no_other_call_audio(call_simulator: CallSimulator, scheme: str) -> None:
    """A server that never answers does not delay the audio of another call."""

    async def other_call(url: str) -> list[Any]:
        greeting = "We open at nine and close at five, every day but Sunday."
        async with (
            call_simulator(agent_of(), on_message=url) as one,
            call_simulator(agent_of(first_message=greeting), on_message=lambda event: "Yes.") as other,
        ):
            await one.speaks("Are you open?", seconds=0.5, wait=False)
            await other.at(1.0)
            await other.speaks("Stop", seconds=0.5)
            await other.at(4.0)
            await other.hangs_up()
        return [(round(arrival.at, 9), len(arrival.audio), arrival.mark) for arrival in other.carrier.arrivals]

    [listener] = await trio.open_tcp_listeners(0, host="127.0.0.1")
    async with trio.open_nursery() as nursery:
        nursery.start_soon(trio.serve_listeners, no_handshake, [listener])
        silent = await other_call(f"{scheme}://127.0.0.1:{listener.socket.getsockname()[1]}")
        async with serving(answering(b"Yes.", "text/plain")) as web:
            assert silent == await other_call(web.url)
        nursery.cancel_scope.cancel()
