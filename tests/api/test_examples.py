"""The examples run as they are: only credentials are given, and the addresses of sockets are replaced."""

import re
import sqlite3
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
import trio

from patter_trio.audio import g711
from patter_trio.audio.wav import read_wav
from patter_trio.testing import SimulatedTwilio, tool_call
from patter_trio.testing.servers.openai import ChatReply, serve_openai
from patter_trio.testing.servers.openai_realtime import FakeRealtime, RealtimeReply, serve_openai_realtime
from tests.kit.programs import Running, calling, environment, free_port, running

# What it reads or starts is measured by other tests.
pytestmark = pytest.mark.no_coverage

EXAMPLES = Path(__file__).parents[2] / "examples"
QUESTION = EXAMPLES / "audio" / "hours.wav"
VENDOR = FakeRealtime(
    replies=lambda asked: RealtimeReply(
        text="Hi there! What can I do for you?" if "Hi there" in asked.instructions else "We open at nine."
    ),
    hears="When do you open?",
)


@asynccontextmanager
async def example(name: str, folder: Path) -> AsyncIterator[tuple[Running, SimulatedTwilio]]:
    """Run an example, called by somebody, with OpenAI's Realtime API in a server of ours."""
    port = free_port()
    async with serve_openai_realtime(VENDOR) as vendor:
        program = (EXAMPLES / name).read_text(encoding="utf-8")
        assert "OpenAIRealtime()" in program
        assert "port=8000" in program
        program = program.replace("OpenAIRealtime()", f"OpenAIRealtime(base_url={vendor.url!r})")
        env = environment(
            TWILIO_ACCOUNT_SID="AC1",
            TWILIO_AUTH_TOKEN="hush",
            OPENAI_API_KEY="key",
            PHONE_NUMBER="+15550100002",
            WEBHOOK_URL=f"http://127.0.0.1:{port}",
        )
        async with running(folder, program.replace("port=8000", f"port={port}"), env, port) as process:
            async with calling(port) as call:
                yield process, call
            await trio.sleep(0.5)  # for the events about the call's end


def question() -> bytes:
    """What a person asks, as the line carries it."""
    return g711.encode(read_wav(QUESTION.read_bytes()))


async def test_every_speech_edge_of_a_call_is_printed(tmp_path: Path) -> None:
    """The turn-taking example prints one line for each of the seven speech edges of a question and its answer."""
    async with example("turn_taking.py", tmp_path) as (program, call):
        call.say(question())
        await program.prints("[done]")
    assert [re.sub(r"\d+", "N", line) for line in program.lines()] == [
        "[vad+] t=N state={'user': 'speaking', 'agent': 'idle'}",
        "[vad-] dur=Nms",
        "[eos ] trigger=vad_silence silence=Nms",
        "[ttft] Nms model=gpt-realtime-N.N provider=openai_realtime",
        "[tts ] turn=N provider=openai_realtime",
        "[wire] turn=N engine=openai_realtime",
        "[done] turn=N spoke Nms",
    ]


@pytest.mark.deep
async def test_realtime_example_answers_and_logs_transcript(tmp_path: Path) -> None:
    """The realtime example agent answers a recorded caller and writes the transcript down."""
    async with example("realtime_agent.py", tmp_path) as (program, call):
        await program.prints("[assistant]: Hi there!")
        call.say(question())
        await program.prints("[assistant]: We open at nine.")
    assert program.lines() == [
        f"[START] Call {call.call_sid} from +15550100001 (inbound)",
        "  [assistant]: Hi there! What can I do for you?",
        "  [user]: When do you open?",
        "  [assistant]: We open at nine.",
        f"[END] Call {call.call_sid}",
        "  Transcript (3 messages):",
        "    [assistant]: Hi there! What can I do for you?",
        "    [user]: When do you open?",
        "    [assistant]: We open at nine.",
    ]


async def test_restaurant_books_with_a_model_behind_a_url(tmp_path: Path) -> None:
    """The restaurant example asks the model of LLM_URL, which calls its tools: a booking is in the database."""
    arguments = {"day": "tomorrow", "hour": "20:00", "seats": 4}
    replies = [
        ChatReply(tool_calls=[tool_call("free_tables", **arguments)]),
        ChatReply("There is one. Your name?"),
        ChatReply(tool_calls=[tool_call("book", **arguments, name="Ann")]),
        ChatReply("Your code is 4711."),
        ChatReply(tool_calls=[tool_call("find_booking", code=4711)]),
        ChatReply("Ann, for four."),
        ChatReply("One moment.", tool_calls=[tool_call("transfer_call", destination="desk")]),
    ]
    lines = ["--say", "A table for four", "--say", "Ann", "--press", "4711", "--say", "A person, please"]
    async with serve_openai(replies) as server:
        done = await trio.run_process(
            [sys.executable, "-m", "patter_trio", "test", str(EXAMPLES / "restaurant.py"), *lines],
            env=environment(LLM_URL=server.base_url, DATABASE=str(tmp_path / "restaurant.db"), DESK="+15550100009"),
            capture_stdout=True,
            stderr=subprocess.STDOUT,
            check=False,
        )
    shown = done.stdout.decode()
    assert done.returncode == 0, shown
    for line in (
        "tool    free_tables -> 2 tables for 4 are free.",
        "tool    book -> Booked. The code is 4711.",
        "tool    find_booking -> Ann, 4 seats, tomorrow at 20:00.",
        "carrier would connect the caller with +15550100009",
        "call    transferred",
    ):
        assert line in shown
    with sqlite3.connect(tmp_path / "restaurant.db") as database:
        rows = database.execute("select code, seats, name, caller from bookings").fetchall()
    database.close()
    assert rows == [(4711, 4, "Ann", "+15550100001")]
