"""The live calls of a phone, as windows see and steer them (``abc.LiveCalls``)."""

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager

from patter_trio.abc import AudioStream, EventStream, LiveCall
from patter_trio.call.control import CallControl
from patter_trio.call.session import CallSession
from patter_trio.errors import CallEnded, ConfigurationError
from patter_trio.events.feed import MAX_WAITING_RECORDS, EventFeed
from patter_trio.phone_numbers import shown_id
from patter_trio.server.live_audio import open_live_audio


class PhoneLiveCalls:
    """The live calls of a phone.

    Args:
        sessions: the live calls by id, oldest first; the phone's servers keep it up to date.
        feed: the records of their events.
    """

    def __init__(self, sessions: Mapping[str, CallSession], feed: EventFeed) -> None:
        self._sessions = sessions
        self._feed = feed

    def __repr__(self) -> str:
        return f"<PhoneLiveCalls {len(self._sessions)}>"

    def calls(self) -> tuple[LiveCall, ...]:
        """Return what is known about each live call, oldest first."""
        return tuple(_snapshot(call) for call in self._sessions.values())

    def call(self, call_id: str) -> LiveCall | None:
        """Return what is known about a live call; None: no call with that id is live."""
        session = self._sessions.get(call_id)
        return None if session is None else _snapshot(session)

    @asynccontextmanager
    async def subscribe(
        self, call_id: str = "", *, after: int | None = None, chunks: bool = False, size: int = MAX_WAITING_RECORDS
    ) -> AsyncIterator[EventStream]:
        """Open a stream of events, as ``abc.LiveCalls`` describes it."""
        # Not for the rest of a call that is over: its stream would never end.
        if call_id:
            self._control(call_id)
        with self._feed.subscribe(call_id, after=after, chunks=chunks, size=size) as stream:
            yield stream

    @asynccontextmanager
    async def listen(self, call_id: str) -> AsyncIterator[AudioStream]:
        """Open the audio of a live call, as ``abc.LiveCalls`` describes it."""
        session = self._session(call_id)
        with session.tapes.listening() as ear:
            # By the session and not by the id: the next call may have the same one.
            async with open_live_audio(ear, lambda: self._sessions.get(call_id) is not session) as audio:
                yield audio

    def say(self, call_id: str, text: str, *, interrupt: bool = False) -> None:
        """Make the agent say ``text``."""
        if not text.strip():
            raise ConfigurationError("text must not be blank")
        self._control(call_id).say(text, interrupt=interrupt)

    def hang_up(self, call_id: str) -> None:
        """End a call after the current speech."""
        self._control(call_id).hang_up()

    async def transfer(self, call_id: str, to: str) -> None:
        """Transfer the caller, after the current speech; return at once."""
        await self._control(call_id).transfer(to)

    def send_text(self, call_id: str, text: str) -> None:
        """Give the agent a text as a message of the caller's."""
        self._control(call_id).send_text(text)

    def _session(self, call_id: str) -> CallSession:
        session = self._sessions.get(call_id)
        if session is None:
            raise CallEnded(f"call {shown_id(call_id)} is not live")
        return session

    def _control(self, call_id: str) -> CallControl:
        return self._session(call_id).control


def _snapshot(session: CallSession) -> LiveCall:
    # Nothing that costs more with the length of the call: a page asks for a hundred calls at once.
    info, state, newest = session.info, session.conversation_state, session.newest_entry
    return LiveCall(
        call_id=info.call_id,
        caller=info.caller,
        callee=info.callee,
        direction=info.direction,
        provider=info.provider,
        started_at=round(session.started_at, 3),
        duration_s=round(session.seconds, 3),
        user_state=state["user"],
        agent_state=state["agent"],
        turns=session.turn_idx,
        cost_usd=session.cost_usd,
        last_text="" if newest is None else newest["text"],
        last_role="" if newest is None else newest["role"],
    )
