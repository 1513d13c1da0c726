"""Listening to a live call: tickets for pages of ours, and the WebSocket on which they get its audio.

::

    POST /api/live/{call_id}/listen     a ticket: {"call_id", "ticket"}, valid once, for 60 s, for this call
    GET  /ws/listen/{call_id}           the WebSocket: its page sends {"ticket": "..."}, and gets binary messages

The first half of each binary message is what the caller said, the second what the caller heard of the agent: mu-law at
8 kHz, about 100 ms, half a second after it happened. The socket is closed with the call.

Only a page of this server may open the socket (``Origin`` equal to ``Host``), and only with a ticket, because browsers
let pages of other sites open WebSockets with the visitor's cookies.
"""

import json
import secrets
from collections.abc import Callable
from contextlib import nullcontext
from typing import Final
from urllib.parse import unquote

import attrs
import trio

from patter_trio.abc import AudioStream, LiveCalls
from patter_trio.errors import CallEnded, PatterError
from patter_trio.net.websocket import Allowance, SocketClosed, Upgrade, WebSocket
from patter_trio.server.logins import Login
from patter_trio.server.origins import is_own_origin
from patter_trio.server.stream_places import StreamPlaces

LISTEN_PREFIX: Final = "/ws/listen/"
"""The prefix of the sockets' paths."""
# Judged: our page opens its socket at once; a minute is room for a slow network.
TICKET_S: Final = 60.0
"""Seconds for which a ticket is valid."""
# Judged: as many as there are places for listeners; a further one takes the place of the oldest.
MAX_TICKETS: Final = 64
"""Most tickets at once."""
TICKET_BYTES: Final = 24
"""Bytes of randomness in a ticket, so that nobody guesses it."""
# Judged: our page sends the ticket at once.
TICKET_TIMEOUT_S: Final = 10.0
"""Seconds until the ticket must have come, and for the answer to the upgrade."""
# Judged: the ticket, and some pings of a browser or a proxy.
MAX_FRAMES_BEFORE_TICKET: Final = 4
"""Number of frames, pings included, within which the ticket must have come."""
MAX_BYTES_BEFORE_TICKET: Final = 1024
"""Bytes of frames within which the ticket must have come; it has about 50."""
# Judged: as for a carrier's socket; meanwhile 2 s of audio wait, and the rest is dropped.
SEND_TIMEOUT_S: Final = 5.0
"""Seconds for one message, after which a listener who does not read counts as gone."""
# RFC 6455, section 7.4.1, and 1013 of the IANA's registry of close codes.
_NORMAL, _GOING_AWAY, _POLICY, _TRY_LATER = 1000, 1001, 1008, 1013
_NO_TICKET: Final = "a listener must send its ticket first, which is valid once, for 60 s, for one call"


class ListeningRefused(PatterError):
    """The refusal of a listener; the peer has got its answer."""


@attrs.frozen
class _Ticket:
    call_id: str
    expires_at: float
    login: Login | None = attrs.field(default=None, repr=False)
    """The login of the page; None: it needed none, or its request had the token itself."""


class ListenTickets:
    """The tickets that were given and not used."""

    def __init__(self) -> None:
        self._tickets: dict[str, _Ticket] = {}

    def __repr__(self) -> str:
        return f"<ListenTickets {len(self._tickets)}>"

    def give(self, call_id: str, now: float, login: Login | None = None) -> str:
        """Return a new ticket for a call, which is good for the time of a login."""
        self._tickets = {key: ticket for key, ticket in self._tickets.items() if ticket.expires_at > now}
        while len(self._tickets) >= MAX_TICKETS:
            del self._tickets[next(iter(self._tickets))]
        key = secrets.token_urlsafe(TICKET_BYTES)
        self._tickets[key] = _Ticket(call_id, now + TICKET_S, login)
        return key

    def take(self, key: str, call_id: str, now: float) -> _Ticket | None:
        """Return the ticket with a key if it is valid for a call; it is used up in any case."""
        ticket = self._tickets.pop(key, None)
        return ticket if ticket is not None and ticket.call_id == call_id and ticket.expires_at > now else None


class Listening:
    """The listeners of a phone's calls: their tickets and their sockets.

    Args:
        live: the live calls.
    """

    def __init__(self, live: LiveCalls) -> None:
        self._live = live
        self._tickets = ListenTickets()

    def __repr__(self) -> str:
        return f"<Listening {self._tickets!r}>"

    def ticket(self, call_id: str, login: Login | None = None) -> str:
        """Return a ticket for a live call; what is heard with it ends with the login of the page.

        Raises:
            CallEnded: the call is not live.
        """
        if self._live.call(call_id) is None:
            raise CallEnded("no such call is live")
        return self._tickets.give(call_id, trio.current_time(), login)

    async def serve(self, upgrade: Upgrade, places: StreamPlaces, proven: Callable[[], None]) -> None:
        """Serve one socket until its call, its listener or the server ends.

        Args:
            upgrade: the request for the socket.
            places: the places for streams; a listener takes one.
            proven: called once the ticket is right.

        Raises:
            ListeningRefused: it may not listen; it has got the answer.
            SocketClosed: it has left before it listened.
            WireError: it sent too much before its ticket.
        """
        call_id = unquote(upgrade.path.partition("?")[0].removeprefix(LISTEN_PREFIX))
        socket: WebSocket | None = None
        login: Login | None = None
        is_proven = False
        # One deadline for both: a peer that does not read its answer sends no ticket either.
        with trio.move_on_after(TICKET_TIMEOUT_S):
            socket = await _opened(upgrade)
            login = await self._check_ticket(socket, call_id)
            is_proven = True
            proven()
        if socket is None:
            raise ListeningRefused("a listener must read the answer to its upgrade")
        # The deadline has passed, and the socket is closed: nothing of a call must be opened for it.
        if not is_proven:
            raise ListeningRefused(_NO_TICKET)
        code, reason = _POLICY, "the login is over"
        try:
            with nullcontext() if login is None else login.lasting():
                code, reason = await self._send_audio(socket, call_id, places)
        finally:
            await socket.aclose(code, reason)

    async def _check_ticket(self, socket: WebSocket, call_id: str) -> Login | None:
        """Return the login of the page with the ticket that comes."""
        found = None
        try:
            ticket = _ticket_in(await socket.receive())
            found = self._tickets.take(ticket, call_id, trio.current_time())
        finally:
            # Also of a listener that takes too long.
            if found is None:
                await socket.aclose(_POLICY, _NO_TICKET)
        if found is None:
            raise ListeningRefused(_NO_TICKET)
        socket.lift_allowance()
        return found.login

    async def _send_audio(self, socket: WebSocket, call_id: str, places: StreamPlaces) -> tuple[int, str]:
        """Send the audio; return the code and the reason for the end."""
        if why := places.refusal():
            return _TRY_LATER, why
        # No await between the refusal and this.
        with places.one():
            try:
                async with self._live.listen(call_id) as audio, trio.open_nursery() as nursery:
                    ends = _Ends(nursery.cancel_scope)
                    nursery.start_soon(ends.with_peer, socket)
                    nursery.start_soon(ends.with_server, places)
                    await ends.with_audio(socket, audio)
                    nursery.cancel_scope.cancel(reason="the audio is over")
            # It has ended since its ticket was given.
            except CallEnded:
                return _NORMAL, "the call is over"
        return ends.code, ends.reason


@attrs.define(eq=False)
class _Ends:
    """What ends a listener's socket: whatever comes first."""

    scope: trio.CancelScope
    code: int = _NORMAL
    reason: str = "the call is over"

    async def with_peer(self, socket: WebSocket) -> None:
        """End when the listener leaves, or sends anything more."""
        # Answers to pings wait for the next piece of audio: two tasks must not write at once.
        socket.share_sending(lambda: None)
        try:
            await socket.receive()
            self.code, self.reason = _POLICY, "a listener must send nothing but its ticket"
        except SocketClosed:
            self.reason = "the listener has left"
        self.scope.cancel(reason=self.reason)

    async def with_server(self, places: StreamPlaces) -> None:
        """End when the server drains."""
        await places.draining.wait()
        self.code, self.reason = _GOING_AWAY, "the server drains"
        self.scope.cancel(reason=self.reason)

    async def with_audio(self, socket: WebSocket, audio: AudioStream) -> None:
        """Send the audio to its end, or until the listener reads no more."""
        try:
            async for caller, agent in audio:
                with trio.fail_after(SEND_TIMEOUT_S):
                    await socket.send(caller + agent)
        except trio.TooSlowError:
            self.code, self.reason = _POLICY, f"a listener must read within {SEND_TIMEOUT_S:g} s"
        except SocketClosed:
            self.reason = "the listener has left"


async def _opened(upgrade: Upgrade) -> WebSocket:
    if not is_own_origin(upgrade.headers.get_all("Origin"), upgrade.headers.get_all("Host")):
        await upgrade.refuse(403, "Forbidden\n")
        raise ListeningRefused("a listener must be a page of this server (Origin equal to Host)")
    return await upgrade.accept(Allowance(MAX_FRAMES_BEFORE_TICKET, MAX_BYTES_BEFORE_TICKET))


def _ticket_in(message: str | bytes) -> str:
    """Return the ticket in a message; empty: it has none."""
    try:
        given = json.loads(message)
    # RecursionError: more brackets than Python's parser can follow.
    except (ValueError, RecursionError):
        return ""
    ticket = given.get("ticket") if isinstance(given, dict) else None
    return ticket if isinstance(ticket, str) else ""
