"""A call in text: lines in, events out."""

from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from secrets import token_hex
from typing import Any, Final, Protocol

import attrs
import trio

from patter_trio.abc import CallInfo, EventRecord
from patter_trio.agent.agent import Agent
from patter_trio.agent.menu import Menu
from patter_trio.errors import CallEnded, ConfigurationError
from patter_trio.events.payloads import ConversationStateSnapshot
from patter_trio.metrics.results import CallMetrics
from patter_trio.net.media_socket import MediaSocket
from patter_trio.net.tasks import open_side_tasks
from patter_trio.server.options import Seams
from patter_trio.text_chat._agent import in_text
from patter_trio.text_chat._commands import Command, HangUpNow, PressKeys, SayLine, command_of, keys_problem
from patter_trio.text_chat._events import TextEvents
from patter_trio.text_chat._leg import TextCarrier, TextCodec, TextSocket
from patter_trio.text_chat._providers import PROVIDER

# Judged: a callback that answers an event with say() has had its turn of the loop many times.
SETTLE_S: Final = 0.1
"""Seconds for which the agent must be idle until its answer counts as complete."""
# Judged: an agent that has not begun to answer after it is silent, such as an on_message that returned None.
NO_ANSWER_AFTER_S: Final = 1.0
"""The same where an answer is expected that has not begun."""
POLL_INTERVAL_S: Final = 0.02
"""Seconds between two looks at the state, which no event reports when the agent is ready."""
# Judged: the last words, the last callbacks of the conversation and a tool that must not be cut off (docs/design.md).
END_TIMEOUT_S: Final = 10.0
"""Seconds that a call has to end after its caller has hung up."""


class Controlled(Protocol):
    """The control of a call, as far as a text call uses it."""

    @property
    def conversation_state(self) -> ConversationStateSnapshot:
        """The public states."""

    @property
    def turn_idx(self) -> int:
        """The number of the caller's utterances that are over."""

    @property
    def metrics(self) -> CallMetrics | None:
        """The metrics measured so far."""

    @property
    def history(self) -> list[dict[str, Any]]:
        """The conversation so far."""

    @property
    def outcome(self) -> str:
        """The outcome of the call; empty while it lives."""

    def send_text(self, text: str) -> None:
        """Take a text as a message of the caller's."""


HoldCall = Callable[[CallInfo, MediaSocket, TextCodec], Awaitable[None]]
"""Announces a call and runs it over a socket of this process."""
FindControl = Callable[[str], Controlled | None]
"""Returns the control of a live call by its id."""


class TextCall:
    """A call that is held in text, as :meth:`Patter.text_call <patter_trio.Patter.text_call>` gives it.

    Iterating yields its events, each an :class:`~patter_trio.abc.EventRecord`, until the call is over; one task at a
    time may do so. ``text_chat/_events.py`` lists the types of the records that only calls in text have.
    """

    def __init__(self, info: CallInfo, agent: Agent, events: TextEvents, socket: TextSocket) -> None:
        self._info = info
        self._agent = agent
        self._events = events
        self._socket = socket
        self._control: Controlled | None = None
        self._expected_turn = 0
        self._keys_until = 0.0
        self._busy_until = 0.0

    def __repr__(self) -> str:
        return f"<TextCall {self.call_id}{f', {self.outcome}' if self.outcome else ''}>"

    @property
    def call_id(self) -> str:
        """The id of the call."""
        return self._info.call_id

    @property
    def outcome(self) -> str:
        """The outcome of the call; empty while it lives."""
        return "" if self._control is None else self._control.outcome

    @property
    def is_over(self) -> bool:
        """True once the call has ended."""
        return self._events.is_over

    @property
    def state(self) -> dict[str, str]:
        """``{"user": ..., "agent": ...}`` at this moment."""
        return {} if self._control is None else {**self._control.conversation_state}  # type: ignore[dict-item]

    @property
    def turn_idx(self) -> int:
        """The number of the caller's messages so far."""
        return 0 if self._control is None else self._control.turn_idx

    @property
    def history(self) -> list[dict[str, Any]]:
        """The conversation so far, the newest 200 entries."""
        return [] if self._control is None else self._control.history

    @property
    def metrics(self) -> CallMetrics | None:
        """The metrics measured so far."""
        return None if self._control is None else self._control.metrics

    @property
    def dropped(self) -> int:
        """The number of events that were dropped because nobody read them in time."""
        return self._events.dropped

    # Lines in ---------------------------------------------------------------------------------------------------------
    async def line(self, line: str) -> Command | None:
        """Take a line as it is typed, and return what it means: a text, or one of the commands, such as ``/press 1#``.

        A text is said, keys are pressed, ``/hang`` hangs up; what asks for an answer (``/state``, ``/help``), or is a
        mistake, is the caller's to show.

        Raises:
            CallEnded: the call is over.
        """
        command = command_of(line)
        match command:
            case SayLine():
                self.say(command.text)
            case PressKeys():
                await self.press(command.keys)
            case HangUpNow():
                self.hang_up()
            case _:
                pass
        return command

    def say(self, text: str) -> None:
        """Say a text as the caller; it interrupts the agent, as in :meth:`CallControl.send_text`.

        Raises:
            CallEnded: the call is over.
            ConfigurationError: (a ``ValueError``) the text is blank.
        """
        if self._control is None or self.is_over:
            raise CallEnded(f"call {self.call_id} is over ({self.outcome or 'it never began'})")
        self._control.send_text(text)
        self._expected_turn = max(self._expected_turn, self._control.turn_idx) + 1
        self._busy_until = trio.current_time() + NO_ANSWER_AFTER_S

    async def press(self, keys: str) -> None:
        """Press keys as the caller, one after another.

        Raises:
            CallEnded: the call is over.
            ConfigurationError: (a ``ValueError``) one of them is not a key of a telephone.
        """
        if problem := keys_problem(keys):
            raise ConfigurationError(problem)
        if self.is_over:
            raise CallEnded(f"call {self.call_id} is over ({self.outcome})")
        for key in keys.upper():
            await self._socket.press(key)
        keypad = self._agent.dtmf.keypad if isinstance(self._agent.dtmf, Menu) else self._agent.dtmf
        # Until then the agent may wait for another key.
        waits = keypad is not None and keys[-1] != keypad.terminator and len(keys) < keypad.max_digits
        pause = keypad.pause if keypad is not None and waits else 0.0
        self._keys_until = trio.current_time() + pause + SETTLE_S

    def hang_up(self) -> None:
        """Hang up as the caller; do nothing if the call is over."""
        self._socket.hang_up()

    # Events out -------------------------------------------------------------------------------------------------------
    def __aiter__(self) -> "TextCall":
        return self

    async def __anext__(self) -> EventRecord:
        event = await self._events.next()
        if event is None:
            raise StopAsyncIteration
        return event

    async def settled(self) -> None:
        """Wait until the agent has answered and waits for the caller, or the call is over."""
        idle_s, seen_at = 0.0, trio.current_time()
        while not self.is_over:
            now = trio.current_time()
            # Of a look that comes late no more than of another: on a busy machine the greeting comes late, too.
            idle_s = idle_s + min(now - seen_at, POLL_INTERVAL_S) if self._is_idle(now) else 0.0
            seen_at = now
            if idle_s >= SETTLE_S:
                return
            # Polled as well: the agent becomes ready without an event.
            with trio.move_on_after(POLL_INTERVAL_S):
                await self._events.news.wait()

    def _is_idle(self, now: float) -> bool:
        if self.state.get("agent") not in {"idle", "listening"} or now < self._keys_until:
            return False
        # A text may be joined to the one before it, or never be answered.
        return self.turn_idx >= self._expected_turn or now >= self._busy_until

    async def ended(self) -> str:
        """Wait for the end of the call, and return its outcome."""
        while not self.is_over:
            await self._events.news.wait()
        return self.outcome

    @asynccontextmanager
    async def held(self, hold: HoldCall, find: FindControl) -> AsyncIterator["TextCall"]:
        """Hold the call while the block runs; at its end the caller hangs up.

        Raises:
            PatterError: the server takes no more calls.
        """
        async with open_side_tasks() as nursery:
            nursery.start_soon(hold, self._info, self._socket, TextCodec())
            # The call is live after the first step of its task; one that is refused raises, which cancels this block.
            while self._control is None:
                await trio.lowlevel.checkpoint()
                self._control = find(self._info.call_id)
            yield self
            self.hang_up()
            with trio.move_on_after(END_TIMEOUT_S):
                await self.ended()


@attrs.frozen
class TextLine:
    """The line of one call in text: what a server needs to hold it, and the call itself.

    Attributes:
        call: the call.
        agent: the agent in text.
        carrier: the carrier of the server.
        seams: the seams of the server.
    """

    call: TextCall
    agent: Agent
    carrier: TextCarrier
    seams: Seams

    def held(self, hold: HoldCall, find: FindControl) -> AbstractAsyncContextManager[TextCall]:
        """Hold the call while a block runs; see :meth:`TextCall.held`."""
        return self.call.held(hold, find)


def text_line(
    agent: Agent, *, caller: str, callee: str, custom_params: Mapping[str, str], unix_time: Callable[[], float]
) -> TextLine:
    """Return the line of a new call in text. It must be made in the trio run that holds the call.

    Args:
        agent: the agent, as it serves calls by telephone.
        caller: the caller's number, E.164, or empty.
        callee: the number that is called.
        custom_params: the parameters of the call.
        unix_time: the machine's clock, in seconds.
    """
    now = trio.current_time()
    info = CallInfo(f"text-{token_hex(8)}", caller, callee, "inbound", dict(custom_params), PROVIDER)
    epoch = unix_time() - now
    events = TextEvents(info, now, epoch)

    def note(kind: str, data: Mapping[str, Any]) -> None:
        events.put(kind, data, trio.current_time())

    served = in_text(agent)
    seams = Seams(
        epoch=epoch,
        observers=(events,),
        adapted=in_text,
        tells_edges=False,
        take_over=lambda to, briefing: note("take_over", {"to": to, "briefing": briefing}),
    )
    socket = TextSocket()
    return TextLine(TextCall(info, served, events, socket), served, TextCarrier(note, socket.hang_up), seams)
