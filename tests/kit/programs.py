"""Programs in processes of their own, as users run them: on the real clock, with calls over real sockets."""

import os
import signal
import socket
import subprocess
import sys
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path

import attrs
import trio

from patter_trio.testing import SimulatedTwilio

# Real time, on a machine that others use: far more than a program needs to start, to talk and to end.
PROGRAM_TIMEOUT_S = 120.0


def free_port() -> int:
    with socket.socket() as found:
        # Another process could take the port before the program does; on a test machine, none does.
        found.bind(("127.0.0.1", 0))
        return int(found.getsockname()[1])


def environment(**variables: str) -> dict[str, str]:
    # The developer's own account must not be used, nor change what the program does.
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("TWILIO_", "PATTER_"))}
    return {**kept, "PYTHONUNBUFFERED": "1", **variables}


@attrs.define
class Running:
    """A program in a process of its own, and its output so far."""

    process: trio.Process
    printed: str = ""
    news: trio.Event = attrs.field(factory=trio.Event)

    async def read(self) -> None:
        assert self.process.stdout is not None
        async for piece in self.process.stdout:
            self.printed += piece.decode()
            # Set and replaced in one step: a task that waits sees every piece, and later ones wait for the next.
            self.news.set()
            self.news = trio.Event()

    async def prints(self, text: str) -> None:
        while text not in self.printed:
            await self.news.wait()

    def lines(self) -> list[str]:
        return self.printed.splitlines()


@asynccontextmanager
async def running(folder: Path, program: str, env: Mapping[str, str], port: int) -> AsyncIterator[Running]:
    """Run a program until its port is open; afterwards stop it by SIGTERM, and check that it ends well.

    It is served without a limit of lag: how late its loop is depends on what else the machine does, and a late one
    rightly refuses callers.
    """
    program, served = program.replace("PORT", str(port)), f"port={port}"
    assert program.count(served) == 1
    (folder / "program.py").write_text(program.replace(served, f"{served}, max_lag=None"))
    process = await trio.lowlevel.open_process(
        [sys.executable, "program.py"], cwd=folder, env=env, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    try:
        with trio.fail_after(PROGRAM_TIMEOUT_S):
            async with trio.open_nursery() as nursery:
                program_ = Running(process)
                nursery.start_soon(program_.read)
                await _listening(process, port)
                yield program_
                # After the block, and only if it passed: the program's orderly end is part of what is tested.
                process.send_signal(signal.SIGTERM)
                assert await process.wait() == 0
    finally:
        # Shielded, because a failed or cancelled test must not leave a process behind.
        # Not bounded: a killed process ends.
        with trio.CancelScope(shield=True):
            process.kill()
            await process.wait()
            for pipe in (process.stdout, process.stderr):
                if pipe is not None:
                    await pipe.aclose()


async def _listening(process: trio.Process, port: int) -> None:
    # Until the program has ended: it may have failed instead of opening its port.
    while process.poll() is None:
        try:
            stream = await trio.open_tcp_stream("127.0.0.1", port)
        except OSError:
            # The port is not open yet, and nothing announces that it is.
            await trio.sleep(0.05)
        else:
            await stream.aclose()
            return
    assert process.stderr is not None
    raise AssertionError((await process.stderr.receive_some()).decode())


@asynccontextmanager
async def calling(port: int) -> AsyncIterator[SimulatedTwilio]:
    async with trio.open_nursery() as nursery:
        call = SimulatedTwilio(
            partial(trio.open_tcp_stream, "127.0.0.1", port),
            f"http://127.0.0.1:{port}",
            account_sid="AC1",
            auth_token="hush",
        )
        await nursery.start(call.run)
        yield call
        call.hang_up()


def last_line(folder: Path, program: str, **variables: str) -> str:
    """Run a program that must fail, and return the last line of its output."""
    (folder / "program.py").write_text(program.replace("PORT", "0"))
    done = subprocess.run(
        [sys.executable, "program.py"],
        cwd=folder,
        env=environment(**variables),
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 1
    assert done.stdout == ""
    return done.stderr.splitlines()[-1]
