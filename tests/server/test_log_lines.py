"""Every log line of a call carries the call's id and no whole phone number, for each kind of call."""

import logging
import re
from collections.abc import Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Any

import attrs
import pytest
import trio
import trio.testing

from patter_trio import Agent, Patter, ProviderError
from patter_trio.abc import Message, TurnDetector
from patter_trio.audio.g711 import Samples
from patter_trio.logs import LOGGERS
from patter_trio.pytest_plugin import run
from patter_trio.server.calls import CallServer, open_call_server
from patter_trio.server.connection import serve_connection
from patter_trio.server.context import ServerContext
from patter_trio.testing import CallRefused, ScriptedLLM, ScriptedSTT, ScriptedTTS, ScriptedVAD, SimulatedTwilio
from patter_trio.testing.carriers.protocol import StreamOrder
from patter_trio.testing.faults import FAULTS
from patter_trio.testing.simulation.simulator import simulate_call
from tests.kit.depth import chosen
from tests.kit.server import CARRIER

CALLER, CALLEE = "+15550100001", "+15550100002"
SID = f"CA{1:032d}"
PACKAGE = Path(__file__).parents[2] / "patter_trio"
PUBLIC = "http://agent.test"

Kind = Callable[[], Awaitable[Any]]


def agent_of(**options: Any) -> Agent:
    chosen: dict[str, Any] = {
        "vad": ScriptedVAD(),
        "stt": ScriptedSTT(),
        "llm": ScriptedLLM(["Yes. Of course."]),
        "tts": ScriptedTTS(duration=2.0),
    }
    return Patter().agent("x", **chosen | options)


async def a_call(then: Callable[..., None] | None = None, phone: Patter | None = None, **options: Any) -> None:
    """Hold a call with one question; a second later, ``then`` does something to the carrier."""
    callbacks = {name: options.pop(name) for name in list(options) if name.startswith("on_")}
    async with simulate_call(agent_of(**options), phone, **callbacks) as caller:
        await caller.speaks("Hello?", seconds=0.5)
        await caller.waits(1.0)
        if then is not None:
            then(caller.carrier)
        await caller.waits(25.0 if then is not None else 8.0)


# What can go wrong in the application, in ways that quote the caller's number -----------------------------------------
def crm(event: dict[str, Any]) -> Any:
    """Look a customer up by number, and fail with a KeyError that quotes the number."""
    return {}[event.get("caller", CALLER)]


async def slow_crm(event: dict[str, Any]) -> Any:
    await trio.sleep(0.01)
    return crm(event)


async def pieces(event: dict[str, Any]) -> Any:
    try:
        yield "One."
        yield "Two."
        await trio.sleep_forever()
    finally:
        crm(event)


async def never(event: dict[str, Any]) -> None:
    await trio.sleep_forever()


def phone_with(callback: Any) -> Patter:
    phone = Patter()
    phone.on_user_speech_eos = phone.on_agent_speech_started = callback
    return phone


def quoting(messages: Sequence[Message]) -> str:
    raise ProviderError(f"no customer has the number {CALLER}")


def bug(messages: Sequence[Message]) -> str:
    raise RuntimeError(f"no customer has the number {CALLER}")


class Undecided(TurnDetector):
    async def complete(self, samples: Samples) -> float:
        raise ProviderError(f"nothing is known of {CALLER}")


# What happens before and after a call ---------------------------------------------------------------------------------
@asynccontextmanager
async def call_server(**options: Any) -> Any:
    async with (
        open_call_server(Patter()._serve_options(agent_of(), public_url=PUBLIC, carrier=CARRIER, **options)) as opened,
        trio.open_nursery() as nursery,
    ):
        yield opened, nursery
        nursery.cancel_scope.cancel()


def caller_of(
    opened: CallServer,
    nursery: trio.Nursery,
    context: ServerContext | None = None,
    *,
    kind: type[SimulatedTwilio] = SimulatedTwilio,
) -> SimulatedTwilio:
    async def connect() -> trio.abc.Stream:
        ours, theirs = trio.testing.memory_stream_pair()
        nursery.start_soon(serve_connection, context or opened.context, theirs)
        await trio.lowlevel.checkpoint()
        return ours

    return kind(connect, PUBLIC, account_sid="AC1", auth_token="hush", call_sid=SID)


async def busy() -> None:
    async with call_server(max_calls=0) as (opened, nursery):
        with pytest.raises(CallRefused):
            await caller_of(opened, nursery).announce()


async def never_connected() -> None:
    async with call_server(callbacks={"on_call_start": never}) as (opened, nursery):
        await caller_of(opened, nursery).announce()
        await caller_of(opened, nursery).announce()
        await trio.sleep(100)


async def wrong_token() -> None:
    async with call_server() as (opened, nursery):
        await nursery.start(caller_of(opened, nursery, kind=Thief).run)
        await trio.sleep(1.0)


class Thief(SimulatedTwilio):
    """A caller whose media stream presents the token of another call."""

    async def announce(self) -> StreamOrder:
        order = await super().announce()
        return attrs.evolve(order, parameters={**order.parameters, "token": "stolen"})


async def cancelled() -> None:
    with trio.CancelScope() as serving:
        async with call_server(callbacks={"on_call_end": slow_crm}) as (opened, nursery):
            await nursery.start(caller_of(opened, nursery).run)
            await trio.sleep(1.0)
            serving.cancel()


async def broken_server() -> None:
    """Hold a call that ends with a bug outside of the call's own boundary."""
    async with call_server() as (opened, nursery):

        async def breaks(leg: Any) -> None:
            with trio.move_on_after(1.0):
                await opened.run_call(leg)
            raise RuntimeError(f"a bug, of {CALLER}")

        await nursery.start(caller_of(opened, nursery, attrs.evolve(opened.context, run_call=breaks)).run)
        await trio.sleep(3.0)


KINDS: dict[str, Kind] = {
    "well": partial(a_call),
    "hang-up": partial(a_call, lambda carrier: carrier.hang_up()),
    "llm fails": partial(a_call, llm=ScriptedLLM(quoting)),
    "llm has a bug": partial(a_call, llm=ScriptedLLM(bug)),
    "llm hangs": partial(a_call, llm=ScriptedLLM(["Yes."], hang_after=0)),
    "voice fails": partial(a_call, tts=ScriptedTTS(fail_after=0)),
    "no voice": partial(a_call, tts=ScriptedTTS(fail_to_open=True)),
    "stt fails": partial(a_call, stt=ScriptedSTT(fail_at=0.5)),
    "detector fails": partial(a_call, turn_detector=Undecided()),
    "on_message raises": partial(a_call, llm=None, on_message=crm),
    "on_message raises later": partial(a_call, llm=None, on_message=slow_crm),
    "on_message never answers": partial(a_call, llm=None, on_message=never),
    "on_message gives a number": partial(a_call, llm=None, on_message=lambda event: {"to": CALLER}),
    "on_message raises at its end": partial(a_call, lambda carrier: carrier.hang_up(), llm=None, on_message=pieces),
    "callback raises": partial(a_call, phone=phone_with(crm), on_transcript=slow_crm, on_call_end=crm),
    "callback never returns": partial(a_call, phone=phone_with(never), on_transcript=never, on_call_end=never),
    "on_call_start raises": partial(a_call, on_call_start=crm),
    "on_call_start is slow": partial(a_call, on_call_start=never),
    "on_call_start gives a number": partial(a_call, on_call_start=lambda event: event["caller"]),
    "on_call_start gives nonsense": partial(
        a_call, on_call_start=lambda event: {"llm": event["caller"], event["callee"]: 1, "language": 7}
    ),
    "busy": busy,
    "never connected": never_connected,
    "wrong token": wrong_token,
    "server cancelled": cancelled,
    "server broken": broken_server,
    **{
        f"wire: {why}": partial(a_call, injection)
        for why, injection in {f.why: f.injection for f in FAULTS.values() if f.why}.items()
    },
}


WIRE = [kind for kind in KINDS if kind.startswith("wire: ")]


@pytest.mark.parametrize("kind", chosen(KINDS, {*KINDS} - {*WIRE[1:]}))
def test_log_lines_carry_call_id_and_mask_numbers(kind: str, caplog: pytest.LogCaptureFixture) -> None:
    """Every log line of a call carries its call_id, and phone numbers are masked."""
    caplog.set_level(logging.DEBUG, "patter_trio")
    run(KINDS[kind])
    ours = [record for record in caplog.records if record.name.startswith("patter_trio")]
    lines = [logging.Formatter().format(record) for record in ours]
    assert lines
    assert [line for line in lines if not line.startswith(f"call {SID}: ")] == []
    assert [line for line in lines if CALLER in line or CALLEE in line] == []


def test_every_logger_of_the_package_masks_numbers() -> None:
    """Each logger that the package creates is in the list of loggers that mask numbers."""
    code = "".join(file.read_text(encoding="utf-8") for file in PACKAGE.rglob("*.py"))
    assert set(re.findall(r'getLogger\("(patter_trio.*?)"\)', code)) == set(LOGGERS)
