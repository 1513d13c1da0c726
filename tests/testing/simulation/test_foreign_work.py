"""The clock of a simulated call waits for threads and for peers outside of the test, for 2 s of real time at most."""

import functools
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractAsyncContextManager, contextmanager, suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import anyio.to_thread
import httpx
import pytest
import trio

from patter_trio import Patter, in_thread, tool
from patter_trio.pytest_plugin import CallSimulator
from patter_trio.testing import ScriptedLLM, ScriptedSTT, ScriptedTTS, ScriptedVAD, tool_call
from patter_trio.testing.simulation.foreign_work import ForeignWorkError

SHORT_S = 0.2
"""Seconds of real time that a thread or a server works: a clock that is not held would jump far within them."""


def agent_with(*tools: Any, llm: bool = True) -> Any:
    return Patter().agent(
        "x",
        vad=ScriptedVAD(),
        stt=ScriptedSTT(),
        tts=ScriptedTTS(),
        llm=ScriptedLLM([[tool_call("look_up")], "Found."] if tools else ["Yes."]) if llm else None,
        tools=list(tools),
    )


@contextmanager
def server_in_a_thread(seconds: float) -> Iterator[str]:
    """Serve HTTP from a thread of this process; each answer takes so long. Yield the address."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            stop.wait(seconds)
            self.send_response(200)
            self.send_header("Content-Length", "3")
            self.end_headers()
            # A client that was cancelled is gone.
            with suppress(OSError):
                self.wfile.write(b"Yes")

        def log_message(self, *_: Any) -> None: ...

    stop = threading.Event()
    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    try:
        yield f"127.0.0.1:{server.server_port}"
    finally:
        stop.set()
        server.shutdown()
        thread.join()
        server.server_close()


async def one_turn(call: AbstractAsyncContextManager[Any]) -> None:
    async with call as caller:
        await caller.speaks("Are you there?", seconds=1.0)
        await caller.hears()


def sleeps() -> str:
    time.sleep(SHORT_S)
    return "found"


WAYS: dict[str, Callable[[], Any]] = {
    "trio": lambda: trio.to_thread.run_sync(sleeps),
    "a limiter of its own": lambda: trio.to_thread.run_sync(sleeps, limiter=trio.CapacityLimiter(1)),
    "abandonable": lambda: trio.to_thread.run_sync(sleeps, abandon_on_cancel=True),
    "anyio": lambda: anyio.to_thread.run_sync(sleeps),
    "in_thread": in_thread(sleeps),
    "a partial": lambda: trio.to_thread.run_sync(functools.partial(sleeps)),
}


@pytest.mark.parametrize("way", WAYS)
async def test_thread_of_a_tool_takes_no_time(call_simulator: CallSimulator, way: str) -> None:
    """A tool whose thread works for 0.2 s of real time takes none of the call, however the thread was started."""

    @tool(timeout_s=5)
    async def look_up() -> Any:
        "Look it up."
        return await WAYS[way]()

    ends: list[dict[str, Any]] = []
    async with call_simulator(agent_with(look_up), on_call_end=ends.append) as caller:
        await caller.speaks("Where is it?", seconds=1.0)
        assert (await caller.hears()).text == "Found."
    [call] = ends[0]["tool_calls"]
    assert (call["result"], round(call["duration"], 6)) == ("found", 0.0)


async def test_thread_before_the_call_keeps_overrides(call_simulator: CallSimulator) -> None:
    """The overrides of an on_call_start that works in a thread are in time for the greeting."""

    async def on_call_start(event: dict[str, Any]) -> dict[str, Any]:
        await trio.to_thread.run_sync(sleeps)
        return {"first_message": "Hello again."}

    async with call_simulator(agent_with(), on_call_start=on_call_start) as caller:
        assert (await caller.hears()).text == "Hello again."


async def test_request_to_a_local_server_is_answered(call_simulator: CallSimulator) -> None:
    """An on_message that asks a server in a thread, by httpx and with its timeout of 5 s, gets the answer at once."""

    with server_in_a_thread(SHORT_S) as address:

        async def on_message(event: dict[str, Any]) -> str:
            async with httpx.AsyncClient(trust_env=False) as client:
                return (await client.get(f"http://{address}/")).text

        async with call_simulator(agent_with(llm=False), on_message=on_message) as caller:
            for _ in range(2):
                spoken = await caller.speaks("Are you there?", seconds=1.0)
                heard = await caller.hears()
                assert heard.text == "Yes"
                assert heard.started - spoken.ended < 1.0


async def test_peers_within_the_test_take_their_time(call_simulator: CallSimulator) -> None:
    """A connection between two tasks of the test does not hold the clock: what the server waits for is virtual."""

    async def answer(stream: trio.SocketStream) -> None:
        await stream.receive_some()
        await trio.sleep(3.0)
        await stream.send_all(b"Yes")

    async with trio.open_nursery() as nursery:
        [listener] = await nursery.start(functools.partial(trio.serve_tcp, answer, 0, host="127.0.0.1"))
        port = listener.socket.getsockname()[1]

        async def on_message(event: dict[str, Any]) -> str:
            async with await trio.open_tcp_stream("127.0.0.1", port) as stream:
                await stream.send_all(b"?")
                return bytes(await stream.receive_some()).decode()

        begun = time.monotonic()
        async with call_simulator(agent_with(llm=False), on_message=on_message) as caller:
            spoken = await caller.speaks("Are you there?", seconds=1.0)
            heard = await caller.hears()
        assert heard.text == "Yes"
        assert heard.started - spoken.ended == pytest.approx(3.5 + 0.2, abs=0.1)
        nursery.cancel_scope.cancel()
    assert time.monotonic() - begun < 60  # not held for the hour that it would be


async def test_abandoned_thread_does_not_hold_the_clock(call_simulator: CallSimulator) -> None:
    """A thread that nobody waits for any more holds nothing: the call goes on in virtual time."""
    ended = threading.Event()

    @tool
    async def look_up() -> str:
        "Look it up."
        with trio.move_on_after(0):
            await trio.to_thread.run_sync(ended.wait, abandon_on_cancel=True)
        return "nothing"

    try:
        async with call_simulator(agent_with(look_up)) as caller:
            await caller.speaks("Where is it?", seconds=1.0)
            assert (await caller.hears()).text == "Found."
            await caller.waits(30.0)
    finally:
        ended.set()


async def test_hanging_server_fails_with_task_and_address(call_simulator: CallSimulator) -> None:
    """A server that never answers fails the test after 2 s of real time; the message names the task and the address."""
    with server_in_a_thread(60.0) as address:

        async def on_message(event: dict[str, Any]) -> str:
            async with httpx.AsyncClient(trust_env=False) as client:
                return (await client.get(f"http://{address}/")).text

        with pytest.raises(ForeignWorkError, match=rf"the task .* waits for {address}\n") as caught:
            await one_turn(call_simulator(agent_with(llm=False), on_message=on_message))
    assert "The call:" in caught.value.__notes__[0]


async def test_endless_thread_fails_with_task_and_function(call_simulator: CallSimulator) -> None:
    """A thread that works for more than 2 s fails the test; the message names the task and the function."""
    ended = threading.Event()

    @tool
    async def look_up() -> str:
        "Look it up."
        await trio.to_thread.run_sync(ended.wait, abandon_on_cancel=True)
        return "nothing"

    with pytest.raises(ForeignWorkError, match=r"the task .* waits for Event\.wait in a thread\n"):
        await one_turn(call_simulator(agent_with(look_up)))
    ended.set()


async def test_bytes_show_that_work_goes_on(call_simulator: CallSimulator) -> None:
    """A peer that sends something every second may take longer than 2 s altogether."""
    with socket.create_server(("127.0.0.1", 0)) as server:

        def trickle() -> None:
            connection, _ = server.accept()
            with connection:
                for _ in range(3):
                    time.sleep(0.8)
                    connection.sendall(b".")

        thread = threading.Thread(target=trickle)
        thread.start()

        async def on_message(event: dict[str, Any]) -> str:
            async with await trio.open_tcp_stream(*server.getsockname()) as stream:
                return f"{len([piece async for piece in stream])} pieces."

        async with call_simulator(agent_with(llm=False), on_message=on_message) as caller:
            spoken = await caller.speaks("Are you there?", seconds=1.0)
            heard = await caller.hears()
        assert heard.text == "3 pieces."
        assert heard.started - spoken.ended < 1.0
        thread.join()
