"""Plain functions as tools: they run in worker threads, and hold up nothing but themselves."""

import functools
import threading
import time
from contextlib import suppress
from contextvars import ContextVar
from typing import Any

import pytest
import trio
from trio.testing import MockClock

from patter_trio import CallControl, CallEnded, Tool, in_thread, tool
from patter_trio.agent.tools import end_call
from patter_trio.net.threads import run_in_own_thread
from patter_trio.pytest_plugin import CallSimulator
from patter_trio.testing import ScriptedLLM, tool_call
from patter_trio.testing.simulation.carriers import call_id_of
from patter_trio.user_code.context import MAX_THREADS, current_call, new_thread_limiter
from patter_trio.user_code.signatures import is_plain
from tests.kit.call import Backend, transcripts_of

pytestmark = [pytest.mark.both_backends, pytest.mark.all_carriers]

CALL = tool_call("look_up", name="Miller")


def llm_of(*rest: str, call: Any = CALL) -> ScriptedLLM:
    return ScriptedLLM([["Let me see.", call], *rest])


async def result_of(call_simulator: CallSimulator, backend: Backend, look_up: Any, *rest: str) -> Any:
    """Run a call in which the LLM calls a tool; return the tool's entry for on_call_end."""
    ends: list[dict[str, Any]] = []
    agent = backend.agent_of(llm=llm_of(*rest or ("Done.",)), tools=[look_up])
    async with call_simulator(agent, on_call_end=ends.append) as caller:
        await caller.at(1.0)
        await caller.speaks("Where is Miller?", seconds=0.5)
        await caller.hears()
        await caller.waits(2.0)
    [entry] = ends[0]["tool_calls"]
    return entry


# Where it runs --------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("inline", [False, True])
async def test_plain_tool_runs_in_a_thread(call_simulator: CallSimulator, backend: Backend, inline: bool) -> None:
    """A plain function runs in a worker thread, or with thread=False on the event loop."""

    @tool(thread=not inline)
    def look_up(name: str) -> str:
        """Look up a guest."""
        return threading.current_thread().name

    entry = await result_of(call_simulator, backend, look_up)
    assert (entry["result"] == threading.current_thread().name) is inline


async def test_event_loop_runs_while_plain_tool_blocks(
    call_simulator: CallSimulator, backend: Backend, caplog: pytest.LogCaptureFixture
) -> None:
    """While a plain tool blocks its thread, the event loop takes other steps, and nothing is reported as blocking."""
    steps: list[str] = []

    @tool
    def look_up(name: str) -> int:
        """Look up a guest."""
        for _ in range(50):
            trio.from_thread.run_sync(lambda: steps.append(threading.current_thread().name))
        time.sleep(0.1)  # longer than a step of the event loop may take without a warning
        return len(steps)

    entry = await result_of(call_simulator, backend, look_up)
    assert (entry["result"], set(steps)) == (50, {threading.current_thread().name})
    assert "blocked" not in caplog.text


async def plain_coroutine(name: str) -> str:
    return name


class AsyncCallable:
    async def __call__(self, name: str) -> str:
        return name


class PlainCallable:
    def __call__(self, name: str) -> str:
        return name


@pytest.mark.parametrize(
    ("function", "plain"),
    [
        (lambda name: name, True),
        (plain_coroutine, False),
        (functools.partial(plain_coroutine), False),
        (functools.partial(functools.partial(str.upper)), True),
        (AsyncCallable(), False),
        (PlainCallable(), True),
        (AsyncCallable().__call__, False),
        (PlainCallable().__call__, True),
        (PlainCallable, True),
        (print, True),
        (in_thread(print), False),
    ],
)
def test_plain_functions_are_recognised(function: Any, plain: bool) -> None:
    """A function is plain unless it is a coroutine or generator function, also in a partial or an object."""
    assert is_plain(function) is plain


async def test_plain_function_may_return_an_awaitable(call_simulator: CallSimulator, backend: Backend) -> None:
    """What a plain function returns is awaited on the event loop."""

    @tool
    def look_up(name: str) -> Any:
        """Look up a guest."""
        return plain_coroutine(name.upper())

    entry = await result_of(call_simulator, backend, look_up)
    assert entry["result"] == "MILLER"


async def test_in_thread_works_for_tools(call_simulator: CallSimulator, backend: Backend) -> None:
    """in_thread() passes on the keywords with which a tool is called."""

    def look_up(name: str, call_context: CallControl) -> str:
        """Look up a guest."""
        return f"{name} for {call_context.caller}"

    entry = await result_of(call_simulator, backend, tool(in_thread(look_up)))
    assert entry["result"].startswith("Miller for +1555")


VALUE: ContextVar[str] = ContextVar("value", default="nothing")


async def test_context_variables_are_copied(call_simulator: CallSimulator, backend: Backend, carrier: str) -> None:
    """A tool's thread has the context variables of its call; what it sets stays there."""

    @tool
    def look_up(name: str) -> str:
        """Look up a guest."""
        before = VALUE.get()
        VALUE.set("of the thread")
        return f"{current_call.get()} {before}"

    entry = await result_of(call_simulator, backend, look_up)
    call_id, before = entry["result"].split()
    assert call_id == call_id_of(carrier, f"{1:032d}")
    assert before == VALUE.get() == "nothing"


# The call's control ---------------------------------------------------------------------------------------------------
async def test_control_is_carried_to_the_loop(call_simulator: CallSimulator, backend: Backend) -> None:
    """In its thread a tool may read the call, say a text and hang up."""
    seen: list[Any] = []

    @tool
    def look_up(name: str, call_context: CallControl) -> str:
        """Look up a guest."""
        seen.extend((call_context.history[-1]["text"], call_context.turn_idx, call_context.conversation_state["agent"]))
        seen.append(call_context.metrics is not None)
        call_context.say("And one more thing.")
        call_context.data["asked"] = name
        call_context.hang_up()
        return "done"

    agent = backend.agent_of(llm=llm_of("Done."), tools=[look_up])
    async with call_simulator(agent) as caller:
        await caller.speaks("Where is Miller?", seconds=0.5)
        await caller.carrier.over.wait()
    assert seen[:2] == ["Where is Miller?", 1]
    assert seen[3]
    assert transcripts_of(caller, "assistant")[-1] == "And one more thing."
    assert caller.outcome == "agent_hung_up"


async def test_control_by_closure_is_carried_too(call_simulator: CallSimulator, backend: Backend) -> None:
    """A control that the application has kept works in a tool's thread, and so does a transfer that it returns."""
    kept: list[CallControl] = []

    @tool
    def look_up(name: str) -> Any:
        """Look up a guest."""
        return kept[0].transfer("+15550100003")

    agent = backend.agent_of(llm=llm_of("Done."), tools=[look_up])
    async with call_simulator(agent, on_call_start=lambda event, call_control: kept.append(call_control)) as caller:
        await caller.speaks("Where is Miller?", seconds=0.5)
        await caller.carrier.over.wait()
    assert (caller.outcome, caller.transferred_to) == ("transferred", "+15550100003")


async def hung_up_while_running(
    call_simulator: CallSimulator, backend: Backend, look_up: Any, started: trio.Event, **options: Any
) -> None:
    """A call whose caller hangs up while a tool runs."""
    agent = backend.agent_of(llm=llm_of("Done."), tools=[look_up])
    async with call_simulator(agent, **options) as caller:
        await caller.speaks("Where is Miller?", seconds=0.5)
        await started.wait()
        await caller.hangs_up()


async def test_control_in_thread_raises_after_end(call_simulator: CallSimulator, backend: Backend) -> None:
    """After the end of the call, a tool's thread that goes on gets CallEnded from its control."""
    started, over, raised = trio.Event(), threading.Event(), threading.Event()

    @tool
    def look_up(name: str, call_context: CallControl) -> None:
        """Look up a guest."""
        trio.from_thread.run_sync(started.set)
        over.wait(5.0)
        with suppress(CallEnded):
            call_context.say("Too late.")
            return
        raised.set()

    await hung_up_while_running(call_simulator, backend, look_up, started)
    over.set()
    assert await trio.to_thread.run_sync(raised.wait, 5.0)


async def test_thread_of_ended_call_is_abandoned(call_simulator: CallSimulator, backend: Backend) -> None:
    """The end of a call abandons its plain tool at once; the late result is dropped."""
    started, release = trio.Event(), threading.Event()

    @tool
    def look_up(name: str) -> str:
        """Look up a guest."""
        trio.from_thread.run_sync(started.set)
        release.wait(5.0)
        return "late"

    ends: list[dict[str, Any]] = []
    await hung_up_while_running(call_simulator, backend, look_up, started, on_call_end=ends.append)
    release.set()
    [entry] = ends[0]["tool_calls"]
    assert (entry["result"], entry["error"]) == (None, "it was cancelled: the call is over")


# Limits ---------------------------------------------------------------------------------------------------------------
async def test_hanging_threads_leave_trios_own_free(autojump_clock: MockClock) -> None:
    """Threads of user code that hang take no place of trio's own, in which names are looked up, nor of another call."""
    release = threading.Event()
    one, other = new_thread_limiter(), new_thread_limiter()
    async with trio.open_nursery() as nursery:
        for _ in range(100):
            nursery.start_soon(run_in_own_thread, lambda: release.wait(5.0), one)
        await trio.testing.wait_all_tasks_blocked()
        assert one.borrowed_tokens == MAX_THREADS
        assert trio.to_thread.current_default_thread_limiter().borrowed_tokens == 0
        assert await run_in_own_thread(lambda: "answered", other) == "answered"
        nursery.cancel_scope.cancel()
    assert one.borrowed_tokens == MAX_THREADS  # abandoned, they keep their places until they end
    release.set()
    while one.borrowed_tokens:
        await trio.to_thread.run_sync(time.sleep, 0.001)


async def test_each_call_has_threads_of_its_own(call_simulator: CallSimulator, backend: Backend) -> None:
    """Callbacks and tools of one call share its threads, and no other call's."""
    from patter_trio.user_code.context import threads_of_user_code  # noqa: PLC0415 (named by this test alone)

    seen: list[trio.CapacityLimiter] = []

    async def on_transcript(event: dict[str, Any]) -> None:
        seen.append(threads_of_user_code())

    @tool
    async def look_up(name: str) -> None:
        """Look up a guest."""
        seen.append(threads_of_user_code())

    for _ in range(2):
        agent = backend.agent_of(llm=llm_of("Done."), tools=[look_up])
        async with call_simulator(agent, on_transcript=on_transcript) as caller:
            await caller.speaks("Where is Miller?", seconds=0.5)
            await caller.hears()
    assert len(set(map(id, seen))) == 2
    assert threads_of_user_code() not in seen


# Errors ---------------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("thread", [True, False])
async def test_text_of_exception_stays_with_application(
    call_simulator: CallSimulator, backend: Backend, caplog: pytest.LogCaptureFixture, thread: bool
) -> None:
    """The LLM learns that a tool failed, not what it raised; on_call_end, the event and the log have the exception."""

    @tool(thread=thread)
    def look_up(name: str) -> str:
        """Look up a guest."""
        raise RuntimeError("secret internals")

    llm = llm_of("I see.")
    ends: list[dict[str, Any]] = []
    async with call_simulator(backend.agent_of(llm=llm, tools=[look_up]), on_call_end=ends.append) as caller:
        await caller.speaks("Where is Miller?", seconds=0.5)
        await caller.hears()
    assert llm.requests[1][-1]["content"] == "The tool failed: there was an error in it"
    assert "secret" not in str(llm.requests)
    assert ends[0]["tool_calls"][0]["error"] == "RuntimeError: secret internals"
    assert caller.payloads("tool_call_completed")[0]["error"] == "RuntimeError: secret internals"
    assert "secret internals" in caplog.text


async def test_text_of_check_and_piece_stays_too(call_simulator: CallSimulator, backend: Backend) -> None:
    """Neither the exception of a check nor a wrong piece of a generator reaches the LLM."""

    def check(arguments: Any) -> str:
        raise RuntimeError("secret internals")

    schema = {"type": "object", "properties": {"name": {"type": "string"}}}

    async def pieces(name: str) -> Any:
        yield "secret internals"

    for look_up in (Tool("look_up", "", schema, str, check=check), Tool("look_up", "", schema, pieces)):
        llm = llm_of("I see.")
        async with call_simulator(backend.agent_of(llm=llm, tools=[look_up])) as caller:
            await caller.speaks("Where is Miller?", seconds=0.5)
            await caller.hears()
        assert "secret" not in str(llm.requests)
        assert "The tool failed" in str(llm.requests)


def test_own_tools_run_inline() -> None:
    """end_call runs on the event loop: the instant of the hang-up depends on no thread."""
    assert not end_call.runs_in_thread
