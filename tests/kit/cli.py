"""The tools of the launcher's tests: programs in a folder, recordings, and a call in virtual time."""

import struct
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import attrs
import numpy as np
import trio
import trio.testing

from patter_trio import Agent, Patter, Twilio
from patter_trio.audio.g711 import Samples
from patter_trio.audio.wav import write_wav
from patter_trio.cli.caller import DEFAULT_NUMBER, CallRecords, Line, SimulatedCall
from patter_trio.server.calls import open_call_server
from patter_trio.server.connection import serve_connection
from patter_trio.server.options import Seams

AGENT = """
from patter_trio import Patter, Plivo, Twilio
from patter_trio.testing import ScriptedLLM, ScriptedSTT, ScriptedTTS, ScriptedVAD

phone = Patter({phone})
agent = phone.agent(
    "You are brief.",
    first_message={greeting!r},
    vad=ScriptedVAD({vad}),
    stt=ScriptedSTT({stt}),
    llm=ScriptedLLM(["Yes."], first_token=0.02, duration=0.02),
    tts=ScriptedTTS({tts}),
)
{more}
"""
"""A program whose STT recognises one word in every sound, and whose replies take half a second."""


def write_agent(
    folder: Path,
    *,
    phone: str = "",
    greeting: str = "",
    vad: str = "end_delay=0.1",
    # Short delays, because some of these programs run in real time.
    stt: str = "final_delay=0.02, noise='hours'",
    tts: str = "first_audio=0.02, duration=0.3",
    more: str = "",
) -> str:
    program = folder / "agent.py"
    program.write_text(AGENT.format(phone=phone, greeting=greeting, vad=vad, stt=stt, tts=tts, more=more))
    return str(program)


def sound(seconds: float = 0.2, rate: int = 8000) -> Samples:
    """Return a square wave: loud throughout."""
    wave = np.full(round(seconds * rate), 8000, np.int16)
    # Every other sample negative, so that the sound has no direct component.
    wave[::2] = -8000
    return wave


def write_sound(file: Path, seconds: float = 0.2, *, channels: int = 1, rate: int = 8000) -> str:
    file.write_bytes(write_wav([sound(seconds, rate)] * channels, rate))
    return str(file)


def write_format(file: Path, *, kind: int = 1, channels: int = 1, rate: int = 8000, bits: int = 16) -> str:
    """Write a WAV file of any format, with a short silence in it."""
    # Header and data agree in everything but what the test has changed: only that can be the reason of a refusal.
    width = bits // 8 * channels
    layout = struct.pack("<HHIIHH", kind, channels, rate, rate * width, width, bits)
    data = bytes(width * 800)
    body = b"WAVE" + struct.pack("<4sI", b"fmt ", 16) + layout + struct.pack("<4sI", b"data", len(data)) + data
    file.write_bytes(struct.pack("<4sI", b"RIFF", len(body)) + body)
    return str(file)


@attrs.define
class Seen:
    """A view that records what it shows."""

    # In the place of the terminal's view: what is shown is tested apart from how it looks.
    lines: list[tuple[float, str]] = attrs.field(factory=list)
    names: list[str] = attrs.field(factory=list)
    ends: list[tuple[str, str]] = attrs.field(factory=list)

    def event(self, at: float, name: str, payload: dict[str, Any]) -> None:
        self.names.append(name)

    def caller(self, at: float, line: str) -> None:
        self.lines.append((round(at, 3), line))

    def ended(self, call_id: str, failure: str) -> None:
        self.ends.append((call_id, failure))


@asynccontextmanager
async def ready_call(
    agent: Agent,
    *lines: Line,
    phone: Patter,
    interrupt_at: float | None = None,
    timeouts: dict[str, float] | None = None,
    number: str = DEFAULT_NUMBER,
    **callbacks: Any,
) -> AsyncIterator[tuple[SimulatedCall, Seen]]:
    """Serve ``agent`` on memory streams; give a call that is ready to run, and its view."""
    carrier, seen = Twilio(account_sid="AC" + "1" * 32, auth_token="secret"), Seen()

    calls: dict[str, SimulatedCall] = {}
    options = phone._serve_options(agent, carrier=carrier, public_url="http://agent.test", callbacks=callbacks)

    def tap(at: float, name: str, payload: dict[str, Any]) -> None:
        call.tap(at, name, payload)

    async with (
        open_call_server(
            attrs.evolve(options, recorder=options.recorder.also_for(CallRecords(calls))),
            Seams(tap=tap),
        ) as call_server,
        trio.open_nursery() as connections,
    ):

        async def connect() -> trio.abc.Stream:
            # Connecting is a checkpoint on a network, too.
            await trio.lowlevel.checkpoint()
            ours, theirs = trio.testing.memory_stream_pair()
            connections.start_soon(serve_connection, call_server.context, theirs)
            return ours

        call = SimulatedCall(
            connect=connect,
            public_url="http://agent.test",
            carrier=carrier,
            phone=phone,
            agent=agent,
            lines=lines,
            interrupt_at=interrupt_at,
            view=seen,
            number=number,
            **(timeouts or {}),
        )
        calls[call.call_id] = call
        yield call, seen
        # The call is over; connections that a test has left open must not hold up the server.
        connections.cancel_scope.cancel()
