"""Whole calls over Telnyx: a raw client, real sockets on loopback, and the server as it is."""

import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial
from typing import Any

import pytest
import trio
import trio.testing

from patter_trio import CallControl, Patter
from patter_trio.carriers.telnyx_rest import command_id
from patter_trio.testing import ScriptedLLM, ScriptedTTS
from patter_trio.testing.servers.carrier_rest import RESTFault
from patter_trio.testing.servers.telnyx_rest import refusal
from patter_trio.wire.telnyx import encode_state
from tests.kit.call import agent_of
from tests.kit.telnyx_line import CALL, TelnyxLine, telnyx_line

LONG = "From seven to ten, every day of the week, and on Sundays from eight to eleven."


@asynccontextmanager
async def served(
    line_options: dict[str, Any] | None = None, agent: Any = None, **callbacks: Any
) -> AsyncIterator[tuple[TelnyxLine, list[dict[str, Any]]]]:
    """Serve an agent to a line of Telnyx; yield the line, and what on_call_end was called with."""
    ends: list[dict[str, Any]] = []
    async with telnyx_line(**(line_options or {})) as (line, carrier):
        agent = agent or agent_of(
            first_message="Hello.",
            llm=ScriptedLLM([LONG, "Goodbye."]),
            tts=ScriptedTTS(),
        )
        async with trio.open_nursery() as nursery:
            serve = partial(Patter(carrier).serve, agent, port=0, on_call_end=ends.append, **callbacks)
            host, port = await nursery.start(serve)
            line.public_url = f"http://{host}:{port}"
            yield line, ends
            nursery.cancel_scope.cancel()


async def until(condition: Any) -> None:
    """Wait until a condition holds, for 20 s at most."""
    with trio.fail_after(20):
        while not condition():  # noqa: ASYNC110 (in virtual time it costs nothing, and the conditions have no common event)
            await trio.sleep(0.02)


@pytest.mark.parametrize("token_in_header", [True, False], ids=["header", "state"])
async def test_caller_talks_interrupts_presses_and_hangs_up(
    token_in_header: bool, autojump_clock: trio.testing.MockClock
) -> None:
    """A whole call: answered by a command, heard both ways, cut by the caller, with keys, and ended by the caller."""
    keys: list[str] = []
    phone_events: dict[str, Any] = {"on_dtmf": lambda event: keys.append(event["digit"])}
    async with served({"token_in_header": token_in_header}, **phone_events) as (line, ends):
        answer = await line.ring()
        assert (answer.status_code, answer.text) == (200, "")
        await line.wait_for("Hello.")
        await line.says("When do you open?", 1.0)
        await line.wait_for("From seven")
        # Over the agent: the reply is cut, and the carrier's buffer is emptied.
        await line.says("Stop, thank you.", 1.0)
        await until(lambda: any(message["event"] == "clear" for message in line.received))
        await line.presses("5")
        await line.wait_for("Goodbye.")
        assert LONG not in line.words
        await line.hangs_up()
        await until(lambda: ends)
    [end] = ends
    assert (end["call_id"], end["outcome"]) == (CALL, "caller_hung_up")
    # One key, although Telnyx told it twice.
    assert keys == ["5"]
    spoken = [entry["text"] for entry in end["transcript"] if entry["role"] == "assistant"]
    # What was cleared came back as marks, and does not count as heard.
    assert line.cleared
    assert spoken[0] == "Hello."
    assert LONG.startswith(spoken[1])
    assert spoken[1] != LONG
    assert spoken[1] in line.words
    assert set(line.answers) <= {200, 204}


async def test_agent_hangs_up_by_request(autojump_clock: trio.testing.MockClock) -> None:
    """When the agent hangs up, its last words are played, the stream is closed, and a command ends the call."""

    def on_message(event: dict[str, Any], call: CallControl) -> str:
        call.hang_up()
        return "We are closed today."

    agent = agent_of(first_message="Hello.", llm=None)
    async with served(agent=agent, on_message=on_message) as (line, ends):
        await line.ring()
        await line.wait_for("Hello.")
        await line.says("When do you open?", 1.0)
        await until(lambda: ends)
        await until(lambda: "hangup" in line.actions)
        assert line.words.endswith("We are closed today.")
    assert line.actions == ["answer", "hangup"]
    assert ends[0]["outcome"] == "agent_hung_up"


async def test_call_of_ours_begins_when_answered(autojump_clock: trio.testing.MockClock) -> None:
    """A call that we place is streamed when somebody answers it, once, and not before; a strange one is hung up on."""
    ends: list[dict[str, Any]] = []
    async with telnyx_line(direction="outgoing") as (line, carrier), trio.open_nursery() as nursery:
        phone = Patter(carrier, "+15550100002")
        agent = agent_of(first_message="Hello.", llm=ScriptedLLM(["Goodbye."]))
        host, port = await nursery.start(partial(phone.serve, agent, port=0, on_call_end=ends.append))
        line.public_url = f"http://{host}:{port}"
        call = await phone.call("+15550100001")
        line.call_id = call.call_id
        line.rest.calls[call.call_id].state = "answered"
        await line.ring()
        assert line.actions == ["dial"]
        for _ in range(2):
            await line.post("call.answered")
        await line.wait_for("Hello.")
        await line.post("call.answered")
        assert line.actions == ["dial", "streaming_start"]
        await line.hangs_up()
        await until(lambda: ends)
        line.call_id = CALL
        line.rest.calls[CALL].state = "answered"
        await line.post("call.answered", client_state=encode_state(dial="somebody else's"))
        await until(lambda: line.actions == ["hangup"])
        nursery.cancel_scope.cancel()
    assert (ends[0]["direction"], ends[0]["outcome"]) == ("outbound", "caller_hung_up")


async def test_repeated_webhooks_change_nothing(autojump_clock: trio.testing.MockClock) -> None:
    """Webhooks that come twice, before the stream, during the call and after it, start, refuse and end nothing."""
    started: list[str] = []
    async with served(on_call_start=lambda event: started.append(event["call_id"])) as (line, ends):
        async with trio.open_nursery() as nursery:
            for _ in range(3):
                nursery.start_soon(line.ring)
        await line.wait_for("Hello.")
        await line.ring()
        await line.says("When do you open?", 1.0)
        await line.wait_for("From seven")
        await line.hangs_up()
        await until(lambda: ends)
        await line.ring()
        await line.post("call.hangup", hangup_cause="normal_clearing")
        await trio.sleep(1.0)
    assert started == [CALL]
    assert len(ends) == 1
    assert line.actions == ["answer"]
    assert set(line.answers) <= {200, 204}


async def test_frames_out_of_order_are_understood(autojump_clock: trio.testing.MockClock) -> None:
    """A caller whose frames come in pairs of the wrong order is understood word for word."""
    said: list[str] = []

    def on_transcript(event: dict[str, Any]) -> None:
        said.append(f"{event['role']}: {event['text']}")

    async with served({"swap_frames": True}, on_transcript=on_transcript) as (line, ends):
        await line.ring()
        await line.wait_for("Hello.")
        await line.says("When do you open on Sunday?", 1.0)
        await line.wait_for("From seven")
        await line.hangs_up()
        await until(lambda: ends)
    assert "user: When do you open on Sunday?" in said


async def test_full_server_lets_the_caller_hear_busy(autojump_clock: trio.testing.MockClock) -> None:
    """A full server rejects a further caller as busy, by a command, once."""
    async with served(max_calls=0) as (line, ends):
        for _ in range(2):
            assert (await line.ring()).status_code == 200
        await until(lambda: line.actions)
        await trio.sleep(1.0)
        assert line.rest.calls[CALL].commands == [
            ("reject", {"cause": "USER_BUSY", "command_id": command_id("reject")})
        ]
    assert ends == []


async def test_unsigned_or_foreign_webhook_is_refused(autojump_clock: trio.testing.MockClock) -> None:
    """A webhook with another key's signature is refused with 403, and nothing is answered."""
    async with served() as (line, _):
        assert (await line.post("call.initiated", direction="incoming", key=bytes(32))).status_code == 403
        assert line.actions == []


async def test_stream_that_cannot_open_ends_the_call(autojump_clock: trio.testing.MockClock) -> None:
    """A stream that Telnyx could not open ends the call at Telnyx at once, so that the caller hears no silence."""
    async with served({"reachable": False}) as (line, ends):
        await line.ring()
        await until(lambda: "answer" in line.actions)
        await line.post("streaming.failed", failure_reason="connection refused")
        await until(lambda: ends)
        await until(lambda: line.actions == ["answer", "hangup"])
    assert ends[0]["outcome"] == "failed"


async def test_answer_that_fails_ends_the_call(
    autojump_clock: trio.testing.MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    """If the command that answers fails, the call is given up and ended, because Telnyx may have answered."""
    async with served() as (line, ends):
        line.rest.fault = RESTFault(*refusal(500, "10007", "Unexpected error", ""))
        await line.ring()
        await until(lambda: ends)
        line.rest.fault = None
        await until(lambda: "hangup" in line.actions)
    assert ends[0]["outcome"] == "failed"
    assert "10007: Unexpected error" in caplog.text


async def test_caller_who_left_before_the_answer(autojump_clock: trio.testing.MockClock) -> None:
    """A caller who hangs up before the command arrives ends the call as cancelled, without further requests."""
    async with served() as (line, ends):
        line.rest.calls[CALL].state = "ended"
        await line.ring()
        await until(lambda: ends)
        await trio.sleep(1.0)
        assert len(line.rest.requests) == 1
    assert ends[0]["outcome"] == "cancelled"


async def test_cancelled_server_ends_its_calls(
    autojump_clock: trio.testing.MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    """A server that is cancelled ends its calls at Telnyx, although it is being cancelled."""
    caplog.set_level(logging.INFO, "patter_trio")
    async with served() as (line, ends):
        await line.ring()
        await line.wait_for("Hello.")
    assert line.actions == ["answer", "hangup"]
    assert ends[0]["outcome"] == "cancelled"


async def test_hang_up_is_tried_again(autojump_clock: trio.testing.MockClock, caplog: pytest.LogCaptureFixture) -> None:
    """A hang-up that Telnyx refuses is tried again for 5 s; then the log says that the call may go on."""
    agent = agent_of(first_message="Hello.", llm=ScriptedLLM(["Yes."]))
    async with served(agent=agent) as (line, ends):
        await line.ring()
        await line.wait_for("Hello.")
        line.rest.fault = RESTFault(*refusal(503, "10016", "Unavailable", ""))
        await line.hangs_up()
        await until(lambda: ends)
        await until(lambda: "the carrier did not take the hang-up" in caplog.text)
    assert len([request for request in line.rest.requests if "hangup" in request.target]) > 1
