"""Tools behind a URL in whole calls: what their server sees, what model and application learn, and who ends it when."""

import hashlib
import hmac
import json
import logging
from typing import Any

import pytest
import trio

from patter_trio import Agent, ConfigurationError, Patter, Tool, tool
from patter_trio.agent.tools import tools_of
from patter_trio.pytest_plugin import CallSimulator
from patter_trio.server.calls import open_call_server
from patter_trio.testing import ScriptedLLM, ScriptedSTT, ScriptedTTS, ScriptedVAD, SimulatedCaller, tool_call
from tests.kit.web import Request, serving

pytestmark = pytest.mark.all_carriers

CALL = tool_call("look_up", name="Miller")
SCHEMA = {"type": "object", "properties": {"name": {"type": "string"}}, "required": ["name"]}


def phone() -> Patter:
    return Patter(allow_private_hosts=["127.0.0.1"])


def agent_with(url: str, replies: Any, tts: ScriptedTTS | None = None, **options: Any) -> tuple[Agent, ScriptedLLM]:
    llm = ScriptedLLM(replies)
    look_up = Tool("look_up", "Look up a guest.", SCHEMA, webhook_url=url, **options)
    agent = Patter().agent(
        "You are brief.", vad=ScriptedVAD(), stt=ScriptedSTT(), tts=tts or ScriptedTTS(), llm=llm, tools=[look_up]
    )
    return agent, llm


async def asks(caller: SimulatedCaller) -> None:
    await caller.at(1.0)
    await caller.speaks("Where is Miller?", seconds=1.0)


async def room(request: Request) -> None:
    await request.answer(b'{"room": 12}', content_type="application/json")


def after(seconds: float, left: list[float] | None = None) -> Any:
    """A server that answers after so long, and notes when its client left before."""

    async def answer(request: Request) -> None:
        try:
            await trio.sleep(seconds)
        except trio.Cancelled:
            if left is not None:
                left.append(trio.current_time())
            raise
        await room(request)

    return answer


# Requests and results -------------------------------------------------------------------------------------------------
async def test_webhook_tool_posts_request_and_reports_result(
    call_simulator: CallSimulator, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A webhook tool posts the signed call, and the LLM, the events and on_call_end get its answer."""
    monkeypatch.setenv("PATTER_WEBHOOK_SECRET", "hush")
    ends: list[dict[str, Any]] = []
    async with serving(room) as web:
        agent, llm = agent_with(f"{web.url}/guests?v=1", [["Let me see.", CALL], "In room 12."])
        async with call_simulator(agent, phone=phone(), on_call_end=ends.append) as caller:
            await asks(caller)
            assert (await caller.heard(0)).text == "Let me see. In room 12."
            call_id = caller.carrier.call_id
    [request] = web.requests
    body = json.loads(request.body)
    key = body.pop("idempotency_key")
    assert body == {
        "tool": "look_up",
        "arguments": {"name": "Miller"},
        "call_id": call_id,
        "tool_call_id": "call_1",
        "caller": "+15550100001",
        "callee": "+15550100002",
        "direction": "inbound",
        "custom_params": {},
    }
    assert (request.method, request.target, request.headers["idempotency-key"]) == ("POST", "/guests?v=1", key)
    assert request.headers["x-patter-signature"] == hmac.new(b"hush", request.body, hashlib.sha256).hexdigest()
    assert llm.requests[1][-1]["content"] == '{"room": 12}'
    assert llm.offered[0] == ["look_up"]
    [started], [completed] = caller.payloads("tool_call_started"), caller.payloads("tool_call_completed")
    about = {"call_id": call_id, "name": "look_up", "tool_call_id": "call_1", "arguments": {"name": "Miller"}}
    assert started == {**started, **about}
    assert completed == {**completed, **about, "result": {"room": 12}, "duration": 0.0}
    assert ends[0]["tool_calls"] == [
        {"name": "look_up", "arguments": {"name": "Miller"}, "result": {"room": 12}, "duration": 0.0}
    ]


async def test_webhook_failure_logs_only_the_origin(
    call_simulator: CallSimulator, caplog: pytest.LogCaptureFixture
) -> None:
    """The LLM and the events get the reason of a webhook failure, and the log shows only the URL's origin."""

    async def answer(request: Request) -> None:
        await request.answer(b"Traceback: /srv/secret.py", 404)

    ends: list[dict[str, Any]] = []
    async with serving(answer) as web:
        agent, llm = agent_with(f"{web.url}/secret?token=1", [CALL, "I could not."])
        async with call_simulator(agent, phone=phone(), on_call_end=ends.append) as caller:
            await asks(caller)
            assert (await caller.heard(0)).text == "I could not."
    said = "its server answered 404 Not Found"
    assert llm.requests[1][-1]["content"] == f"The tool failed: {said}"
    assert caller.payloads("tool_call_completed")[0]["error"] == ends[0]["tool_calls"][0]["error"] == said
    assert (ends[0]["tool_calls"][0]["result"], ends[0]["outcome"]) == (None, "caller_hung_up")
    [line] = [record.message for record in caplog.records if "tool look_up" in record.message]
    assert line.endswith(f"tool look_up: {web.url} answered 404 Not Found")
    assert "secret" not in caplog.text


async def test_the_deadline_is_the_tools_with_its_retries(call_simulator: CallSimulator) -> None:
    """A tool's timeout_s=2.5 ends its webhook request after 2.5 s, and the LLM learns the reason."""
    async with serving(after(60.0)) as web:
        agent, llm = agent_with(web.url, [CALL, "I could not."], timeout_s=2.5)
        async with call_simulator(agent, phone=phone()) as caller:
            await asks(caller)
            await caller.heard(0)
        assert web.interrupted == ["/"]
    assert llm.requests[1][-1]["content"] == "The tool failed: it did not answer within 2.5 s"
    assert caller.payloads("tool_call_completed")[0]["duration"] == 2.5


async def test_webhook_retry_never_outlasts_tool_deadline(call_simulator: CallSimulator) -> None:
    """A webhook tool fails without waiting for a retry that would come after the tool's deadline."""

    async def answer(request: Request) -> None:
        await request.answer(b"", 503, Retry_After="2")

    async with serving(answer) as web:
        agent, llm = agent_with(web.url, [CALL, "I could not."], timeout_s=3.0)
        async with call_simulator(agent, phone=phone()) as caller:
            await asks(caller)
            await caller.heard(0)
    assert len(web.requests) == 2
    assert llm.requests[1][-1]["content"] == "The tool failed: its server answered 503 Service Unavailable"
    assert caller.payloads("tool_call_completed")[0]["duration"] == 2.0


async def test_arguments_that_do_not_fit_are_posted_nowhere(call_simulator: CallSimulator) -> None:
    """Arguments that do not fit the schema are not posted, and the LLM learns which one is missing."""
    async with serving(room) as web:
        agent, llm = agent_with(web.url, [tool_call("look_up", room=12), "I could not."])
        async with call_simulator(agent, phone=phone()) as caller:
            await asks(caller)
            await caller.heard(0)
    assert web.requests == []
    assert llm.requests[1][-1]["content"] == "The tool failed: missing: name"


async def test_one_connection_serves_the_tools_of_a_server(call_simulator: CallSimulator) -> None:
    """Three calls of a webhook tool share one connection."""
    async with serving(room) as web:
        agent, _ = agent_with(web.url, [CALL, CALL, CALL, "Done."])
        async with call_simulator(agent, phone=phone()) as caller:
            await asks(caller)
            await caller.heard(0)
    assert [request.connection for request in web.requests] == [1, 1, 1]


# Whoever is not wanted any more ---------------------------------------------------------------------------------------
@pytest.mark.parametrize("policy", ["cancel", "detach", "shield"])
async def test_barge_in_closes_connection_by_tool_policy(call_simulator: CallSimulator, policy: Any) -> None:
    """A barge-in closes the webhook's connection at once under cancel and leaves it open otherwise."""
    left: list[float] = []
    async with serving(after(5.0, left)) as web:
        replies = [["Let me see about that now.", CALL], "Smith is out."]
        agent, _ = agent_with(web.url, replies, ScriptedTTS(duration=8.0), on_barge_in=policy)
        async with call_simulator(agent, phone=phone()) as caller:
            await asks(caller)
            await caller.at(4.0)
            await caller.speaks("No, Smith!", seconds=1.0)
            await caller.at(14.0)
            zero = caller.carrier.media_start
    [completed] = caller.payloads("tool_call_completed")
    if policy == "cancel":
        assert left == [pytest.approx(zero + caller.times("interruption")[0], abs=0.001)]
        assert completed["error"] == "it was cancelled: the caller interrupted"
    else:
        assert left == []
        assert completed["result"] == {"room": 12}
    assert len(web.requests) == 1


@pytest.mark.parametrize(("policy", "later"), [("detach", 0.0), ("shield", 5.0)])
async def test_hang_up_closes_webhook_connection(call_simulator: CallSimulator, policy: Any, later: float) -> None:
    """A hang-up closes the webhook's connection at once, or after five seconds if the tool is shielded."""
    left: list[float] = []
    async with serving(after(60.0, left)) as web:
        agent, _ = agent_with(web.url, [CALL, "Done."], on_barge_in=policy, timeout_s=90.0)
        async with call_simulator(agent, phone=phone()) as caller:
            await asks(caller)
            await caller.at(5.0)
            await caller.hangs_up()
    over = caller.carrier.media_start + caller.times("call_end")[0]
    assert left == [pytest.approx(over + later, abs=1.0 if not later else 0.001)]


# Where it may be ------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    "url", ["http://localhost:8080/x?token=1", "http://169.254.169.254/x?token=1", "http://[::1]/x?token=1"]
)
async def test_private_webhook_host_is_refused_with_hint(url: str) -> None:
    """Serving a tool on a private host raises an error that names the allow_private_hosts entry to set."""
    agent, _ = agent_with(url, ["Yes."])
    with pytest.raises(
        ConfigurationError, match=r'^tool look_up: .*to allow it, set Patter\(allow_private_hosts=\["'
    ) as refused:
        async with open_call_server(Patter()._serve_options(agent, public_url="http://agent.test")):
            pass
    assert "token" not in str(refused.value)
    host = str(refused.value).rpartition('["')[2].partition('"]')[0]
    async with open_call_server(
        Patter(allow_private_hosts=[host])._serve_options(agent, public_url="http://agent.test")
    ):
        pass


async def test_per_call_webhook_tool_is_guarded(
    call_simulator: CallSimulator, caplog: pytest.LogCaptureFixture
) -> None:
    """The address guard also refuses the private address of a webhook tool that on_call_start gives."""
    async with serving(room) as web:
        agent, _ = agent_with("https://tools.example/", ["Yes."])
        llm = ScriptedLLM([CALL, "I could not."])

        def settings(event: dict[str, Any]) -> dict[str, Any]:
            given = {"name": "look_up", "parameters": SCHEMA, "webhook_url": f"{web.url}/secret"}
            return {"tools": [given], "llm": llm}

        async with call_simulator(agent, on_call_start=settings) as caller:
            await asks(caller)
            assert (await caller.heard(0)).text == "I could not."
        assert web.connections == 0
    assert llm.requests[1][-1]["content"] == "The tool failed: its server is at an address that is not allowed"
    assert (
        'tool look_up: 127.0.0.1 is loopback; to allow it, set Patter(allow_private_hosts=["127.0.0.1"])' in caplog.text
    )
    assert "secret" not in caplog.text


@pytest.mark.parametrize(
    ("url", "warned"),
    [("http://tools.example/x", True), ("https://tools.example/x", False), ("http://127.0.0.1/x", False)],
)
async def test_plain_http_webhook_url_is_warned_about(caplog: pytest.LogCaptureFixture, url: str, warned: bool) -> None:
    """A public webhook_url without TLS is accepted with a warning."""
    agent, _ = agent_with(url, ["Yes."])
    with caplog.at_level(logging.WARNING):
        async with open_call_server(phone()._serve_options(agent, public_url="http://agent.test")):
            pass
    line = "tool look_up: callers' words are sent to http://tools.example unencrypted; use https"
    assert [record.message for record in caplog.records] == [line] * warned


async def test_the_secret_of_serve_counts_before_the_variable(monkeypatch: pytest.MonkeyPatch) -> None:
    """on_message_secret= signs tool webhooks before PATTER_WEBHOOK_SECRET, must be a string and is not in the repr."""
    monkeypatch.setenv("PATTER_WEBHOOK_SECRET", "of the environment")
    agent, _ = agent_with("https://tools.example/x", ["Yes."])
    for given in ("", "given"):
        async with open_call_server(
            Patter()._serve_options(agent, public_url="http://agent.test", on_message_secret=given)
        ) as call_server:
            assert call_server._webhooks.secret == (given or "of the environment")
            assert "environment" not in repr(call_server._webhooks)
    with pytest.raises(ConfigurationError, match="on_message_secret must be a string, got bytes"):
        async with open_call_server(
            Patter()._serve_options(agent, public_url="http://agent.test", on_message_secret=b"x")
        ):  # type: ignore[arg-type]
            pass


# What is given --------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({}, "look_up has neither"),
        (
            {"handler": print, "webhook_url": "https://tools.example"},
            "exactly one of handler= and webhook_url=; look_up has both",
        ),
        ({"webhook_url": b"https://tools.example"}, "webhook_url must be a URL .https or http., got bytes"),
        ({"webhook_url": "tools.example/x"}, "webhook_url must be a URL .https or http., got a text without a scheme"),
        ({"webhook_url": "ftp://tools.example"}, "got a URL that begins with ftp:"),
        ({"webhook_url": "file:///etc/passwd"}, "got a URL that begins with file:"),
        ({"webhook_url": "https:///x"}, "must be a URL with a host"),
        ({"webhook_url": "https://tools.example/a b"}, "without spaces"),
        ({"webhook_url": "https://tools.example/\r\nX: y"}, "without spaces"),
        ({"webhook_url": "https://tools.example/#x"}, "without a #fragment"),
        ({"webhook_url": "https://tools.example:99999/"}, "webhook_url must be a valid URL"),
        ({"webhook_url": "https://tools.example", "webhook_retries": -1}, "webhook_retries must be from 0 to 10"),
        ({"webhook_url": "https://tools.example", "webhook_retries": True}, "webhook_retries must be from 0 to 10"),
    ],
)
def test_invalid_handler_or_webhook_url_is_refused(options: dict[str, Any], message: str) -> None:
    """A tool needs exactly one of handler and a valid webhook_url; anything else raises an error."""
    with pytest.raises(ConfigurationError, match=message):
        Tool("look_up", **options)
    with pytest.raises(ValueError, match=message):
        tools_of([{"name": "look_up", **options}])


def test_webhook_tool_forms_are_equivalent() -> None:
    """Tool(), tool() and a dict build the same webhook tool, whose repr does not show the URL."""
    url = "https://user:password@tools.example/x?token=1"
    made = Tool("look_up", "Look up a guest.", SCHEMA, None, url)
    assert made == tool(name="look_up", description="Look up a guest.", parameters=SCHEMA, webhook_url=url)
    assert [made] == list(
        tools_of([{"name": "look_up", "description": "Look up a guest.", "parameters": SCHEMA, "webhook_url": url}])
    )
    assert "tools.example" not in repr(made)
