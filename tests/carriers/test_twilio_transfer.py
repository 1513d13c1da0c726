"""A transfer all the way: a call over Twilio's protocol, and its REST interface over loopback. It takes real time."""

from typing import Any

import pytest
import trio
import trio.testing

from patter_trio import Patter, PatterEventType, ProviderError, Twilio
from patter_trio.errors import AuthenticationError
from patter_trio.server.calls import open_call_server
from patter_trio.server.connection import serve_connection
from patter_trio.testing import ScriptedLLM, ScriptedSTT, ScriptedTTS, ScriptedVAD, SimulatedTwilio
from patter_trio.testing.servers.twilio_rest import TwilioRESTServer, serve_twilio_rest

SID, DESK = "CA" + "1" * 32, "+15550100003"
PUBLIC = "http://agent.test"


async def held(server: TwilioRESTServer, token: str) -> tuple[SimulatedTwilio, list[dict[str, Any]], Any]:
    """Hold a call that is transferred at once; return the line, the payload of its end, and the transfer's error."""
    ends: list[dict[str, Any]] = []
    phone = Patter(carrier=Twilio("AC1", token, api_url=server.api_url))
    agent = phone.agent(
        "x", vad=ScriptedVAD(), stt=ScriptedSTT(), llm=ScriptedLLM(["Yes."]), tts=ScriptedTTS(), error_message="Sorry."
    )
    raised: Any = None
    started = trio.Event()
    phone.events.on(PatterEventType.CALL_STARTED, lambda event: started.set())
    async with (
        open_call_server(
            phone._serve_options(agent, public_url=PUBLIC, callbacks={"on_call_end": ends.append})
        ) as call_server,
        trio.open_nursery() as nursery,
    ):

        async def connect() -> trio.abc.Stream:
            await trio.lowlevel.checkpoint()
            ours, theirs = trio.testing.memory_stream_pair()
            nursery.start_soon(serve_connection, call_server.context, theirs)
            return ours

        line = SimulatedTwilio(connect, PUBLIC, account_sid="AC1", auth_token=token, call_sid=SID)
        line.transfer_delay = 0.0

        async def obey() -> None:
            """Do to the line what the request to the REST interface asks."""
            await server.calls[SID].changed.wait()
            await line.transfer(DESK)

        with trio.fail_after(20):
            await nursery.start(line.run)
            await started.wait()
            nursery.start_soon(obey)
            try:
                await phone.calls[0].transfer(DESK, error_message="", wait=True)
            except ProviderError as error:
                raised = error
                line.hang_up()
            await line.over.wait()
        nursery.cancel_scope.cancel()
    return line, ends, raised


async def test_the_callers_line_is_connected_with_the_desk() -> None:
    """A transfer through the REST interface connects the caller with the desk, with one request."""
    async with serve_twilio_rest("AC1", "hush", calls=[SID]) as server:
        line, ends, raised = await held(server, "hush")
    assert raised is None
    assert (line.ended, line.transferred_to) == ("transferred", DESK)
    assert [end["outcome"] for end in ends] == ["transferred"]
    assert f">{DESK}</Number></Dial>" in server.calls[SID].twiml
    assert len(server.requests) == 1


async def test_refused_credentials_leave_the_call_up(caplog: pytest.LogCaptureFixture) -> None:
    """A transfer with refused credentials raises AuthenticationError, and the call goes on."""
    async with serve_twilio_rest("AC1", "another", calls=[SID]) as server:
        line, ends, raised = await held(server, "hush")
    assert isinstance(raised, AuthenticationError)
    assert (line.ended, line.transferred_to) == ("caller_hung_up", "")
    assert [end["outcome"] for end in ends] == ["caller_hung_up"]
    assert "transfer failed" in caplog.text
    assert "hush" not in caplog.text
