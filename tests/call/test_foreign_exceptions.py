"""Exceptions outside of ``Exception`` and scopes left open: user code ends no more than its own call."""

import asyncio
import logging
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest
import trio
import trio.testing

from patter_trio import Patter, PatterEventType, PipelineHooks, guardrail, tool
from patter_trio.abc import ToolCall
from patter_trio.pytest_plugin import CallSimulator
from patter_trio.testing import ScriptedLLM
from tests.kit.call import SORRY, At, Backend, agent_of, faulty_agent, sound_of_agent, transcripts_of
from tests.kit.running_server import running_server

pytestmark = [pytest.mark.both_backends, pytest.mark.all_carriers]


class OwnBase(BaseException):
    """A BaseException of the application's own."""


class Unprintable(Exception):
    """An exception that cannot even be printed."""

    def __str__(self) -> str:
        raise OwnBase


def raises(error: BaseException) -> Callable[[], None]:
    def act() -> None:
        raise error

    return act


def leaks_scope() -> None:
    trio.CancelScope().__enter__()


def leaks_cancelled_scope() -> None:
    scope = trio.CancelScope().__enter__()
    scope.cancel()


async def stray_cancelled() -> BaseException:
    """Return a Cancelled whose scope is over."""
    with trio.CancelScope() as scope:
        scope.cancel()
        try:
            await trio.lowlevel.checkpoint()
        except trio.Cancelled as cancelled:
            return cancelled
    raise AssertionError


# What a function can do to the task that calls it; only SystemExit asks for an end.
DEEDS: dict[str, Callable[[], None]] = {
    "CancelledError": raises(asyncio.CancelledError()),
    "GeneratorExit": raises(GeneratorExit()),
    "own": raises(OwnBase("own")),
    "group": raises(BaseExceptionGroup("several", [ValueError("one"), OwnBase("two")])),
    "unprintable": raises(Unprintable()),
    "scope": leaks_scope,
    "cancelled scope": leaks_cancelled_scope,
}
SYNC_AND_ASYNC = pytest.mark.parametrize("sync", [True, False], ids=["sync", "async"])


def callback(deed: Callable[[], None], *, sync: bool) -> Callable[..., Any]:
    """Make a callback of any signature that does the deed."""

    async def asynchronous(*arguments: Any) -> None:
        await trio.lowlevel.checkpoint()
        deed()
        await trio.lowlevel.checkpoint()

    def synchronous(*arguments: Any) -> None:
        deed()

    # With one parameter each: a callback with ``*arguments`` gets the event alone.
    return synchronous if sync else asynchronous


@SYNC_AND_ASYNC
@pytest.mark.parametrize("deed", DEEDS)
async def test_callbacks_cannot_harm_their_call(
    call_simulator: CallSimulator, backend: Backend, deed: str, sync: bool, caplog: pytest.LogCaptureFixture
) -> None:
    """Whatever each callback does, each question is answered as ever, and the end of the call is reported."""
    bad, ends = callback(DEEDS[deed], sync=sync), []
    phone = Patter()
    phone.on_user_speech_started = phone.on_user_speech_eos = phone.on_agent_speech_started = bad
    phone.events.on(PatterEventType.TURN_STARTED, bad)

    def on_call_end(event: dict[str, Any]) -> None:
        ends.append(event["outcome"])
        DEEDS[deed]()

    async with call_simulator(
        backend.agent_of("Yes.", "No.", dtmf=False),
        phone=phone,
        on_call_start=bad,
        on_transcript=bad,
        on_metrics=bad,
        on_dtmf=bad,
        on_call_end=on_call_end,
    ) as caller:
        await caller.at(1.0)
        await caller.presses("1")
        await caller.speaks("First?", seconds=0.5)
        assert (await caller.heard(0)).text == "Yes."
        await caller.speaks("Second?", seconds=0.5)
        assert (await caller.heard(1)).text == "No."
        await caller.hangs_up()
    assert ends == ["caller_hung_up"]
    assert "ended by a bug" not in caplog.text


@SYNC_AND_ASYNC
@pytest.mark.parametrize("name", ["on_call_start", "on_transcript", "on_dtmf", "on_metrics", "edge", "bus", "hook"])
async def test_system_exit_ends_its_own_call(
    call_simulator: CallSimulator, backend: Backend, name: str, sync: bool
) -> None:
    """SystemExit ends the call for which it was raised: the caller hears why, and the application hears of the end."""
    ends: list[dict[str, Any]] = []
    phone = Patter()
    bad = callback(raises(SystemExit(3)), sync=sync)
    callbacks = {name: bad} if name in ("on_call_start", "on_transcript", "on_dtmf", "on_metrics") else {}
    options: dict[str, Any] = {}
    match name:
        case "edge":
            phone.on_user_speech_started = bad
        case "bus":
            phone.events.on(PatterEventType.TURN_STARTED, bad)
        case "hook":
            if backend.is_engine:
                pytest.skip("hooks are for a pipeline")

            def on_transcribed(text: str) -> str:
                raise SystemExit(3)

            options["hooks"] = PipelineHooks(after_transcribe=on_transcribed)
    async with call_simulator(
        backend.agent_of("Yes.", **options), phone=phone, on_call_end=ends.append, **callbacks
    ) as caller:
        await caller.waits(0.2)
        if name != "on_call_start":
            await caller.presses("1")
            await caller.waits(0.2)
            if name != "on_dtmf":
                await caller.speaks("First?", seconds=0.5)
            await caller.waits(6.0)
        assert caller.outcome == "failed"
    [end] = ends
    assert end["outcome"] == "failed"
    assert "SystemExit" in end["error"]
    # Before the agent is there nothing can speak; the call ends without words.
    assert sound_of_agent(caller).endswith("" if name == "on_call_start" else SORRY)


@pytest.mark.pipeline
@pytest.mark.parametrize("form", ["function", "coroutine", "generator"])
@pytest.mark.parametrize("deed", ["CancelledError", "GeneratorExit", "own", "group", "unprintable"])
async def test_on_message_costs_one_apology(call_simulator: CallSimulator, form: str, deed: str) -> None:
    """Whatever on_message raises, the caller hears the error message, and the next question is answered."""
    asked: list[str] = []

    def act(event: dict[str, Any]) -> None:
        asked.append(event["text"])
        if len(asked) == 1:
            DEEDS[deed]()

    def function(event: dict[str, Any]) -> str:
        act(event)
        return "Yes."

    async def coroutine(event: dict[str, Any]) -> str:
        await trio.lowlevel.checkpoint()
        return function(event)

    async def generator(event: dict[str, Any]) -> AsyncIterator[str]:
        act(event)
        yield "Yes."

    form_of = {"function": function, "coroutine": coroutine, "generator": generator}
    async with call_simulator(agent_of(llm=None), on_message=form_of[form]) as caller:
        await caller.speaks("First?", seconds=0.5)
        assert (await caller.heard(0)).text == SORRY
        await caller.speaks("Second?", seconds=0.5)
        assert (await caller.heard(1)).text == "Yes."


@pytest.mark.parametrize("deed", DEEDS)
@pytest.mark.parametrize("form", ["function", "generator"])
async def test_tools_cost_a_failed_result(
    call_simulator: CallSimulator, backend: Backend, deed: str, form: str
) -> None:
    """Whatever a tool does, the LLM gets a failed result, and the caller its words."""

    @tool
    async def look_up() -> str:
        """Look something up."""
        await trio.lowlevel.checkpoint()
        DEEDS[deed]()
        await trio.lowlevel.checkpoint()
        return "found"

    @tool(name="look_up")
    async def look_up_slowly() -> AsyncIterator[dict[str, str]]:
        """Look something up."""
        await trio.lowlevel.checkpoint()
        DEEDS[deed]()
        yield {"result": "found"}

    llm = ScriptedLLM([ToolCall("1", "look_up", "{}"), "I see."])
    used = look_up if form == "function" else look_up_slowly
    async with call_simulator(backend.agent_of(llm=llm, tools=[used])) as caller:
        await caller.speaks("Look!", seconds=0.5)
        assert (await caller.heard(0)).text == "I see."
        await caller.hangs_up()
    assert caller.outcome == "caller_hung_up"


@pytest.mark.pipeline
@pytest.mark.parametrize("deed", ["own", "scope", "cancelled scope"])
@pytest.mark.parametrize(
    "place", ["before_stt", "after_transcribe", "before_llm", "on_chunk", "after_tts", "guard", "text"]
)
async def test_hooks_let_the_original_pass(call_simulator: CallSimulator, deed: str, place: str) -> None:
    """Whatever a hook or a text transform does, the call goes on with the original; a guardrail blocks."""

    async def bad(value: Any) -> Any:
        await trio.lowlevel.checkpoint()
        DEEDS[deed]()
        await trio.lowlevel.checkpoint()
        return value

    options: dict[str, Any] = {}
    match place:
        case "guard":
            options["guardrails"] = [guardrail("guard", check=bad, replacement="Let us not.")]
        case "text":
            options["text_transforms"] = [bad]
        case "on_chunk":
            options["hooks"] = PipelineHooks(after_llm={"on_chunk": bad})
        case _:
            options["hooks"] = PipelineHooks(**{place: bad})
    async with call_simulator(agent_of("Yes.", **options)) as caller:
        await caller.speaks("First?", seconds=0.5)
        assert (await caller.heard(0)).text == ("Let us not." if place == "guard" else "Yes.")
    assert transcripts_of(caller, "user") == ["First?"]


@pytest.mark.pipeline
@pytest.mark.parametrize("error", [SystemExit, asyncio.CancelledError, GeneratorExit, OwnBase])
@pytest.mark.parametrize("place", ["vad.feed", "stt.send", "stt.next", "llm.next", "tts.first", "detector"])
async def test_provider_ends_no_more_than_its_call(
    call_simulator: CallSimulator, place: str, error: type[BaseException]
) -> None:
    """An application's provider that raises a BaseException ends at most its call, and the end is reported."""

    async def act() -> None:
        await trio.lowlevel.checkpoint()
        raise error

    ends: list[dict[str, Any]] = []
    async with call_simulator(faulty_agent(At(place, act)), on_call_end=ends.append) as caller:
        await caller.waits(0.5)
        if not caller.outcome:
            await caller.speaks("First?", seconds=0.5)
        await caller.waits(12.0)
    assert len(ends) == 1
    assert ends[0]["outcome"] in ("failed", "caller_hung_up")


async def test_stray_cancellation_is_a_failure(
    call_simulator: CallSimulator, backend: Backend, caplog: pytest.LogCaptureFixture
) -> None:
    """A Cancelled without a cancelled scope is an error like any other: no scope above would take it."""
    stray = await stray_cancelled()

    def on_transcript(event: dict[str, Any]) -> None:
        raise stray

    async with call_simulator(backend.agent_of("Yes."), on_transcript=on_transcript) as caller:
        await caller.speaks("First?", seconds=0.5)
        assert (await caller.heard(0)).text == "Yes."
    assert "raised Cancelled" in caplog.text


async def test_keyboard_interrupt_ends_the_program(autojump_clock: trio.testing.MockClock) -> None:
    """KeyboardInterrupt passes every border and ends the program."""

    def on_transcript(event: dict[str, Any]) -> None:
        raise KeyboardInterrupt

    async def serve() -> None:
        async with running_server(agent=agent_of(first_message="Hello."), on_transcript=on_transcript) as there:
            await there.nursery.start(there.caller().run)
            await trio.sleep(10.0)

    with pytest.raises(BaseExceptionGroup) as caught:
        await serve()
    assert caught.value.subgroup(KeyboardInterrupt) is not None


@pytest.mark.parametrize("error", [SystemExit, asyncio.CancelledError, GeneratorExit, OwnBase])
async def test_other_calls_notice_nothing(
    autojump_clock: trio.testing.MockClock, error: type[BaseException], caplog: pytest.LogCaptureFixture
) -> None:
    """A callback that raises for one call leaves the other call alone: it lives, and both ends are reported."""
    caplog.set_level(logging.INFO)
    ends: dict[str, str] = {}

    def on_transcript(event: dict[str, Any]) -> None:
        if event["call_id"].endswith("2"):
            raise error

    def on_call_end(event: dict[str, Any]) -> None:
        ends[event["call_id"][-1]] = event["outcome"]

    agent = agent_of(first_message="Hello.")
    async with running_server(agent=agent, on_transcript=on_transcript, on_call_end=on_call_end) as there:
        carriers = [there.caller(1), there.caller(2)]
        for carrier in carriers:
            await there.nursery.start(carrier.run)
        await trio.sleep(10.0)
        assert ends == ({"2": "failed"} if error is SystemExit else {})
        for carrier in carriers:
            carrier.hang_up()
        await trio.sleep(1.0)
        there.nursery.cancel_scope.cancel()
    assert ends == {"1": "caller_hung_up", "2": "failed" if error is SystemExit else "caller_hung_up"}
