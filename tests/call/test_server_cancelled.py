"""A server that is cancelled ends its calls at once, and tells their ends as it tells any other."""

from typing import Any

import trio
import trio.testing

from patter_trio import Agent, Patter
from patter_trio.carriers.twilio import Twilio
from patter_trio.server.desk import open_desk
from patter_trio.server.door import serve_connection
from patter_trio.testing import ScriptedLLM, ScriptedSTT, ScriptedTTS, ScriptedVAD, SimulatedTwilio

CARRIER = Twilio(account_sid="AC1", auth_token="hush")
PUBLIC = "http://agent.test"


def greeting_agent() -> Agent:
    return Patter().agent(
        "x",
        vad=ScriptedVAD(),
        stt=ScriptedSTT(),
        llm=ScriptedLLM(["Yes."]),
        tts=ScriptedTTS(first_audio=0.2, duration=1.0),
        first_message="Good evening.",
    )


async def test_a_call_that_the_server_s_end_cuts_off_is_told_with_its_transcript(autojump_clock: object) -> None:
    ends: list[dict[str, Any]] = []
    with trio.move_on_after(3.0):
        async with (
            open_desk(
                Patter(),
                greeting_agent(),
                carrier=CARRIER,
                public_url=PUBLIC,
                callbacks={"on_call_end": ends.append},
                epoch=0.0,
            ) as desk,
            trio.open_nursery() as nursery,
        ):

            async def connect() -> trio.abc.Stream:
                await trio.lowlevel.checkpoint()
                ours, theirs = trio.testing.memory_stream_pair()
                nursery.start_soon(serve_connection, desk.site, theirs)
                return ours

            carrier = SimulatedTwilio(connect, PUBLIC, account_sid="AC1", auth_token="hush", call_sid="CA1")
            await carrier.run()

    assert len(ends) == 1
    (end,) = ends
    assert (end["call_id"], end["outcome"]) == ("CA1", "cancelled")
    assert [(entry["role"], entry["text"]) for entry in end["transcript"]] == [("assistant", "Good evening.")]
