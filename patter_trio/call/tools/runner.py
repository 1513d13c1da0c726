"""Runs the tools of one call: replies start them, the call's nursery runs them, the conversation keeps their results.

A reply only waits for the results of its tools, so a barge-in need not end them: each tool has a policy for that. The
LLM gets the results that exist by then, and later ones, with the next request. It never gets a tool call without a
result: for a tool that is still running, the result says so.

A tool starts only while the reply that calls it is alive and has the floor, and so not while the caller speaks, who may
be continuing the question. A reply that is retracted has therefore called no tool.
"""

import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import aclosing, contextmanager
from typing import Any, Final

import attrs
import trio

from patter_trio.abc import Message, ToolCall
from patter_trio.agent.tools import CONTEXT_PARAMETER, Tool
from patter_trio.call.control import ControlledCall
from patter_trio.call.output.reply import Reply
from patter_trio.call.tools.context import ToolContext
from patter_trio.call.tools.levels import is_too_deep
from patter_trio.call.tools.values import (
    MAX_NESTING_LEVELS,
    MAX_RESULT_CHARACTERS,
    arguments_of,
    prepared,
    shown,
)
from patter_trio.call.tools.webhooks import ToolWebhooks, WebhookFailed
from patter_trio.conversation.history import History
from patter_trio.conversation.inputs import Busy, Closing
from patter_trio.conversation.text import is_sayable
from patter_trio.logs import shown_value
from patter_trio.metrics.internal_events import EmitFact, ToolCallCompleted, ToolCallStarted
from patter_trio.net.pulse import Pulse
from patter_trio.user_code import invoke
from patter_trio.user_code.signatures import name_of

MAX_WAITING_PROGRESS_TEXTS: Final = 16  # judged: half a minute of speech
"""Progress texts that wait to be spoken; further ones are dropped, since they would be out of date when spoken."""
SHIELD_GRACE_S: Final = 5.0  # judged: a booking that was sent is answered by then (docs/design.md)
"""Seconds that a shielded tool has after the end of the call."""

RAISED_RESULT: Final = "there was an error in it"
RUNNING_RESULT: Final = "It is still running. What it gives will be here when it is finished."
NOT_DONE_RESULT: Final = (
    "It was not done: the caller went on before what you said had been played. Call it again if it is still wanted."
)
DEFERRED_RESULT: Final = "It will be done as soon as what you say has been played. Say no more than goodbye."

_log = logging.getLogger("patter_trio.call")
_events = logging.getLogger("patter_trio.events")


@attrs.define(eq=False)
class ToolInvocation:
    """One call of a tool, with its progress and its result."""

    tool: Tool | None
    call: ToolCall
    arguments: Any
    """The arguments as a dict; the LLM's text if it is not a JSON object."""
    given: Any
    """The arguments as the handler gets them."""
    wrong: str = ""
    """The reason why the tool cannot be called; empty if it can."""
    began: float = 0.0
    duration: float = 0.0
    over: bool = False
    result: Any = None
    text: str = RUNNING_RESULT
    """The result that the LLM gets."""
    error: str = ""
    for_llm: str = ""
    """The error as the LLM gets it, if that is not :attr:`error`."""
    scope: trio.CancelScope = attrs.field(factory=trio.CancelScope)

    @property
    def summary(self) -> dict[str, Any]:
        """The summary of the call of the tool for ``on_call_end``."""
        summary = {
            "name": self.call.name,
            "arguments": self.arguments,
            "result": self.result,
            "duration": self.duration,
        }
        return {**summary, "error": self.error} if self.error else summary


@attrs.define(eq=False)
class ToolRound:
    """The tool calls of one answer of the LLM."""

    invocations: list[ToolInvocation] = attrs.field(factory=list)

    def messages(self, said: str = "") -> list[Message]:
        """Return the tool calls and their results as messages; an empty list if none was started."""
        if not self.invocations:
            return []
        written = [invocation.call for invocation in self.invocations]
        calls = [
            {"id": call.id, "name": call.name, "arguments": call.arguments, **_given(extra=call.extra)}
            for call in written
        ]
        # Of the first: the calls of one answer share them.
        about = _given(origin=written[0].origin, extra=written[0].answer_extra)
        return [
            {"role": "assistant", "content": said, "tool_calls": calls, **about},
            *(
                {"role": "tool", "tool_call_id": r.call.id, "name": r.call.name, "content": r.text}
                for r in self.invocations
            ),
        ]


def _given(**keys: Any) -> dict[str, Any]:
    """Return the keys that have a value."""
    return {name: value for name, value in keys.items() if value}


class ToolRunner:
    """Runs the tools of one call.

    Args:
        call: the call; a handler that takes ``call_context`` reads and controls it.
        history: the conversation, in which each tool round has its position.
        emit_fact: emits an internal event, at this instant.
        post: tells the turn machine until when a reply may be busy, and that it may be a goodbye.
        webhooks: calls the tools whose handler is a URL.
        shield_nursery: the server's, which outlives the call; runs the tools that a barge-in must not cancel.
    """

    def __init__(
        self,
        call: ControlledCall,
        history: History,
        emit_fact: EmitFact,
        post: Callable[[Busy | Closing], None],
        webhooks: ToolWebhooks,
        *,
        shield_nursery: trio.Nursery,
    ) -> None:
        self._webhooks = webhooks
        self._info = call.info
        self._context = ToolContext(call)
        self._history = history
        self._emit_fact = emit_fact
        self._post = post
        self._invocations: list[ToolInvocation] = []
        self._count = 0
        self._deferred: dict[Reply, list[tuple[ToolInvocation, ToolRound]]] = {}
        self._suspended: list[tuple[ToolInvocation, ToolRound]] = []
        """Tools that waited until their reply was played, which was cut instead; the turn machine decides about
        them."""
        self._ids: set[str] = set()
        """The ids of all tool calls in the conversation."""
        self._floor_is_free = False
        self._floor_freed = Pulse()  # not an Event, because the floor is won and lost many times
        self._closed = False
        self._nursery: trio.Nursery | None = None
        self._shield_nursery = shield_nursery

    def __repr__(self) -> str:
        running = sum(not invocation.over for invocation in self._invocations)
        return f"<ToolRunner of {self._context.call_id}, {len(self._invocations)} calls, {running} running>"

    @contextmanager
    def open(self, nursery: trio.Nursery) -> Iterator[None]:
        """Run tools in ``nursery``, the conversation's, for as long as the block lasts."""
        self._nursery = nursery
        try:
            yield
        finally:
            self._nursery = None

    def set_floor(self, *, free: bool) -> None:
        """Record that the live reply has the floor (``free``), or does not, and wake tools that wait for it."""
        if free and not self._floor_is_free:  # only at the change: the session calls this after every input
            self._floor_freed.fire()
        self._floor_is_free = free

    # Starting ---------------------------------------------------------------------------------------------------------
    def new_invocations(self, tools: Sequence[Tool], calls: Sequence[ToolCall]) -> list[ToolInvocation]:
        """Return invocations for the tool calls of one answer; none has started."""
        # Ids pair calls with results in the messages, so a missing or repeated one is replaced, by one that no other
        # call of the answer has either: an LLM may make ids of this form itself.
        used, taken = set(self._ids), self._ids | {call.id for call in calls}
        invocations = []
        for call in calls:
            self._count += 1
            unique = call
            if not call.id or call.id in used:
                unique = attrs.evolve(call, id=self._free_id(taken))
            used.add(unique.id)
            taken.add(unique.id)
            invocations.append(self._new_invocation(tools, unique))
        return invocations

    def _free_id(self, taken: set[str]) -> str:
        while (made := f"call_{self._count}") in taken:
            self._count += 1
        return made

    def _new_invocation(self, tools: Sequence[Tool], call: ToolCall) -> ToolInvocation:
        found = next((tool for tool in tools if tool.name == call.name), None)
        arguments, wrong = arguments_of(call.arguments)
        if found is None:
            wrong = (
                f"there is no tool called {call.name}; there are: {', '.join(tool.name for tool in tools) or 'none'}"
            )
        given, misfit = (arguments, wrong) if wrong or found is None else prepared(found, arguments)
        return ToolInvocation(found, call, arguments, given, misfit)

    async def has_floor(self, reply: Reply) -> None:
        """Wait until a reply has the floor, or can have it; for ever if the reply is over."""
        while not self._floor_is_free or reply.scope.cancel_called:
            if reply.scope.cancel_called:
                await trio.sleep_forever()  # this task runs in the reply's scope, so the cancellation ends the wait
            # No await between the check and the wait, as Pulse requires.
            await self._floor_freed.wait()

    async def start(
        self, invocations: Sequence[ToolInvocation], round_: ToolRound, reply: Reply
    ) -> trio.MemoryReceiveChannel[str]:
        """Start tools as soon as their reply has the floor; return a channel with their progress texts."""
        # Before anything is started: a reply that is retracted meanwhile must not have called a tool.
        await self.has_floor(reply)
        send, progress = trio.open_memory_channel[str](MAX_WAITING_PROGRESS_TEXTS)
        busy = max(
            (invocation.tool.timeout_s for invocation in invocations if invocation.tool is not None), default=0.0
        )
        # The turn machine must not time the reply out while its tools run: the longest of their time limits counts.
        self._post(Busy(reply.number, trio.current_time() + busy))
        # Each tool gets a clone, so the channel ends when the last of them has finished.
        with send:
            for invocation in invocations:
                self._spawn(invocation, round_, send.clone(), reply)
        return progress

    def end_wait(self, reply: Reply) -> None:
        """Tell the turn machine that a reply has the results of its tools, and waits for the LLM again."""
        self._post(Busy(reply.number, trio.current_time()))

    def defer_until_played(self, invocation: ToolInvocation, round_: ToolRound, reply: Reply) -> None:
        """Defer the start of a tool until its reply has been played."""
        invocation.text = DEFERRED_RESULT
        self._post(Closing(reply.number))
        self._deferred.setdefault(reply, []).append((invocation, round_))

    def waiting(self) -> Iterator[ToolInvocation]:
        """Yield the invocations that wait until their reply has been played."""
        for later in self._deferred.values():
            yield from (invocation for invocation, _ in later)

    def played(self, reply: Reply) -> None:
        """Start the tools that waited until the reply was played, one after another while none fails."""
        self._in_turn(self._deferred.pop(reply, []))

    def _in_turn(self, later: "Sequence[tuple[ToolInvocation, ToolRound]]") -> None:
        if later:
            self._spawn(*later[0], None, None, later[1:])

    def cut(self, reply: Reply) -> None:
        """Suspend the tools that waited until the reply was played, because it was cut."""
        self._suspended = self._deferred.pop(reply, [])

    def resume(self) -> None:
        """Start the suspended tools: what the caller said over the reply was no reason not to."""
        later, self._suspended = self._suspended, []
        self._in_turn(later)

    def give_up(self) -> None:
        """Drop the suspended tools, and let the LLM know with its next request."""
        later, self._suspended = self._suspended, []
        for invocation, round_ in later:
            invocation.text = NOT_DONE_RESULT
            self._enter(invocation, round_)

    def _spawn(
        self,
        invocation: ToolInvocation,
        round_: ToolRound,
        progress: "trio.MemorySendChannel[str] | None",
        reply: Reply | None,
        later: Sequence[tuple[ToolInvocation, ToolRound]] = (),
    ) -> None:
        shielded = invocation.tool is not None and invocation.tool.on_barge_in == "shield"
        # The conversation's nursery is cancelled at the end of the call, and a shielded tool must not delay that end.
        nursery = self._shield_nursery if shielded else self._nursery
        if nursery is None or self._closed:
            if progress is not None:
                progress.close()
            return
        # The end of the call sets the deadline of this scope (SHIELD_GRACE_S), so the shield is bounded.
        invocation.scope.shield = shielded
        nursery.start_soon(self._run, invocation, round_, progress, reply, later, name=f"tool {invocation.call.name}")

    # Running ----------------------------------------------------------------------------------------------------------
    async def _run(
        self,
        invocation: ToolInvocation,
        round_: ToolRound,
        progress: "trio.MemorySendChannel[str] | None",
        reply: Reply | None,
        later: Sequence[tuple[ToolInvocation, ToolRound]],
    ) -> None:
        try:
            if self._closed or (reply is not None and reply.scope.cancel_called):
                return  # the call or the reply ended between the decision to start and this task's first step
            self._begin(invocation, round_)
            error = "it was cancelled: the call is over"
            try:
                with invocation.scope:
                    error = await self._answer(invocation, progress)
                if invocation.scope.cancelled_caught:
                    error = "it was cancelled: the caller interrupted"
            finally:
                # Also when the nursery is cancelled: each call of a tool that began has exactly one end.
                self._end(invocation, error)
            if not error:
                self._in_turn(later)
        finally:
            if progress is not None:
                progress.close()

    def _begin(self, invocation: ToolInvocation, round_: ToolRound) -> None:
        invocation.began, invocation.text = trio.current_time(), RUNNING_RESULT
        self._invocations.append(invocation)
        self._enter(invocation, round_)
        call = invocation.call
        self._emit_fact(ToolCallStarted(call.name, call.id, invocation.arguments, known=invocation.tool is not None))

    def _enter(self, invocation: ToolInvocation, round_: ToolRound) -> None:
        """Enter a call and its result in the history, for the LLM."""
        self._ids.add(invocation.call.id)
        if not round_.invocations:  # a round that was cut before its first tool leaves no trace
            self._history.add_tool_round(round_)
        round_.invocations.append(invocation)

    async def _answer(self, invocation: ToolInvocation, progress: "trio.MemorySendChannel[str] | None") -> str:
        """Call the handler, and store its result; return an error message, empty if it succeeded."""
        tool = invocation.tool
        if tool is None or invocation.wrong:
            return invocation.wrong
        try:
            # Ends an async handler, and the wait for a plain one in a thread. A plain one on the event loop blocks it,
            # and invoke reports that.
            with trio.fail_after(tool.timeout_s):
                invocation.result = await self._result(tool, invocation, progress)
                # Code of the application: a subclass of dict or list may raise.
                with invoke.contained(f"the result of {tool.name}"):
                    is_deep = await is_too_deep(invocation.result)
                if is_deep:
                    return f"its result has more than {MAX_NESTING_LEVELS} levels"
                with invoke.isolate(f"the result of {tool.name}", "give less"):
                    invocation.text = shown(invocation.result)
        except trio.TooSlowError:
            # Only our own deadline: a timeout within the handler comes as an ApplicationError, one
            # of a webhook as WebhookFailed.
            return f"it did not answer within {tool.timeout_s:g} s"
        except WebhookFailed as failed:  # before its base class: its words for the LLM name no server
            _events.warning("call %s: tool %s: %s", self._context.call_id, tool.name, failed)
            return failed.for_llm
        except invoke.ApplicationError as failed:
            name = self._context.call_id
            _events.warning("call %s: tool %s: %s", name, tool.name, failed, exc_info=failed.__cause__)
            # Not the exception's text: it may quote a password or another caller's data, and the LLM may say it.
            invocation.for_llm = RAISED_RESULT
            return failed.reason or str(failed)
        return ""

    async def _result(
        self, tool: Tool, invocation: ToolInvocation, progress: "trio.MemorySendChannel[str] | None"
    ) -> Any:
        if tool.handler is not None:
            return await self._called(tool, tool.handler, invocation.given, progress)
        facts = self._info.payload("call_id", "caller", "callee", "direction", "custom_params")
        event = {"tool": tool.name, "arguments": invocation.given, "tool_call_id": invocation.call.id, **facts}
        return await self._webhooks.call(tool, event, deadline=invocation.began + tool.timeout_s)

    async def _called(
        self,
        tool: Tool,
        handler: Callable[..., Any],
        arguments: dict[str, Any],
        progress: "trio.MemorySendChannel[str] | None",
    ) -> Any:
        if tool.form == "keywords":
            keywords = {**arguments, CONTEXT_PARAMETER: self._context} if tool.takes_context else arguments
            positional: tuple[object, ...] = ()
        else:
            keywords = {}
            positional = (dict(arguments), self._context)[: 1 + (tool.form == "arguments and context")]
        if tool.runs_in_thread:
            answer = await invoke.call_in_thread(handler, *positional, **keywords)
        else:
            answer = invoke.call_sync(handler, *positional, **keywords)
        if not hasattr(answer, "__aiter__"):
            return await invoke.await_result(handler, answer)
        result: Any = None
        # Closed here, also when the tool is cancelled; the garbage collector would run the
        # generator's clean-up after the call.
        async with aclosing(invoke.UserIterator(handler, answer)) as pieces:
            # Around all steps, since a generator may hold a scope open from one step to the next.
            with invoke.contained(name_of(handler)):
                async for piece in pieces:
                    if not isinstance(piece, Mapping) or not {"progress", "result"} & piece.keys():
                        raise invoke.ApplicationError(
                            f'{name_of(handler)} must give {{"progress": text}} or {{"result": ...}}, '
                            f"not {shown_value(piece)}"
                        )
                    if "progress" in piece:
                        _queue_progress(progress, str(piece["progress"]))
                    result = piece.get("result", result)
        return result

    def _end(self, invocation: ToolInvocation, error: str) -> None:
        """Record how an invocation ended, once."""
        if invocation.over:  # close() has already recorded a shielded tool that outlives the call
            return
        invocation.over, invocation.error = True, error
        invocation.duration = round(trio.current_time() - invocation.began, 3)
        if error:
            invocation.text = f"The tool failed: {invocation.for_llm or error}"[
                :MAX_RESULT_CHARACTERS
            ]  # its text may have any length
            invocation.result = None
        self._emit_fact(
            ToolCallCompleted(
                name=invocation.call.name,
                tool_call_id=invocation.call.id,
                arguments=invocation.arguments,
                result=invocation.result,
                duration=invocation.duration,
                error=error,
            )
        )

    def close(self) -> list[dict[str, Any]]:
        """Close, because the call is over, and return the summaries of all invocations.

        Shielded tools that still run have :data:`SHIELD_GRACE_S` seconds more; their results are not reported.
        """
        self._closed = True
        self._deferred.clear()
        self._suspended.clear()
        for invocation in self._invocations:
            if not invocation.over:  # only shielded ones; the conversation's nursery has ended all others
                invocation.scope.deadline = trio.current_time() + SHIELD_GRACE_S
                _log.info(
                    "call %s: tool %s continues after the end of the call", self._context.call_id, invocation.call.name
                )
                self._end(invocation, "the call was over before it was")
        return [invocation.summary for invocation in self._invocations]


def _queue_progress(progress: "trio.MemorySendChannel[str] | None", text: str) -> None:
    """Queue a progress text to be spoken, unless the reply is over or the queue is full."""
    if progress is None or not text.strip() or not is_sayable(text):
        return
    try:
        # Never waits: a tool must not be slower because the caller is still listening.
        progress.send_nowait(text)
    except (trio.WouldBlock, trio.BrokenResourceError):
        # Full, or the reply is over and has closed its end: neither is a fault of the tool.
        return
