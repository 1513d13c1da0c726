"""The interfaces by which windows see calls: recorded events, the live calls, the archive of past calls.

A *window* is a part that shows calls or steers them: the HTTP API, the dashboard, the browser phone. Windows know calls
by these protocols alone. The phone gives them the objects behind.

A part that has pages gives Starlette routes: a plain function ``(live: LiveCalls, archive: CallArchive | None)`` that
returns a list of ``starlette.routing.BaseRoute``, with ``async def`` endpoints. The phone calls it and hands the routes
to the server, as ``ServeOptions.routes``. The access rule has been applied to each request before it reaches such a
route, writes (any method but GET and HEAD) included; a route does not check anything itself.
"""

from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from pathlib import Path
from typing import Any, Protocol, TypedDict

import attrs

from patter_trio.abc._call_info import Direction


class EventRecord(TypedDict):
    """An event of a call in the form in which it is stored and streamed: JSON, and the same everywhere.

    One event has one record. ``type`` is the name of its type on the event bus (``transcript_final``, ``call_started``,
    ``tool_call_completed`` ...); a speech edge, which is not on the bus, has its own name (``user_speech_eos`` ...),
    like the events of ``timeline/observed.py`` (``sentence``, ``guardrail`` ...).

    ``data`` is the payload as the event bus or the callback has it, with records such as ``TurnMetrics`` as dicts, and
    without ``history``, which is what the transcripts before it say. It may hold values of the application (arguments
    and results of tools); one that JSON has no form for is there as its ``repr``. Of each value, at most 5000 items
    and 262,144 characters are there; ``left_out`` then has, by key, how many ``items`` and ``characters`` are missing.
    All receivers share one record: do not change it.

    ``tts_chunk`` has no record: recordings and media streams carry audio.
    """

    seq: int
    """Ascending: within a call in the order of the events, and among all calls of a phone. It begins at 1."""
    call_id: str
    type: str
    at_ms: float
    """Milliseconds of call time: since the call's media began; 0 in a call without media."""
    time: str
    """When it happened: ISO 8601 in UTC with milliseconds, such as ``2026-01-31T09:30:00.250Z``."""
    data: dict[str, Any]


@attrs.frozen(kw_only=True)
class LiveCall:
    """A live call at one moment.

    Attributes:
        call_id: the carrier's id of the call.
        caller: the calling number, E.164.
        callee: the called number, E.164.
        direction: ``inbound`` or ``outbound``.
        provider: the carrier's name.
        started_at: Unix time, in seconds, at which the call's media stream began.
        duration_s: seconds since then.
        user_state: the caller's public state.
        agent_state: the agent's public state.
        turns: the number of the caller's utterances that are over; the greeting is not one.
        cost_usd: the cost so far, in US dollars; None: it was not measured.
        last_text: the newest words of the conversation; empty: nobody has said anything.
        last_role: who said them: ``user`` or ``assistant``; empty: nobody.
    """

    call_id: str
    caller: str = attrs.field(repr=False)
    callee: str = attrs.field(repr=False)
    direction: Direction
    provider: str = ""
    started_at: float
    duration_s: float
    user_state: str
    agent_state: str
    turns: int = 0
    cost_usd: float | None = None
    last_text: str = attrs.field(default="", repr=False)
    last_role: str = ""

    def to_dict(self) -> dict[str, Any]:
        """Return the fields by name: what ``json.dumps`` takes."""
        return attrs.asdict(self)


class EventStream(Protocol):
    """The records of events, oldest first, of all calls or of one.

    ``async for`` over the records of one call ends behind the call's last event; over those of all calls, it does not
    end by itself.
    """

    @property
    def dropped(self) -> int:
        """The number of records dropped because they were not taken in time."""

    def __aiter__(self) -> AsyncIterator[EventRecord]:
        """Return the stream itself."""

    async def __anext__(self) -> EventRecord:
        """Return the next record, as soon as there is one."""


class AudioStream(Protocol):
    """The audio of a live call while it goes on; ``async for`` ends with the call.

    A piece is a pair, equally long: what the caller said, and what the caller heard of the agent, mu-law at
    8 kHz. It has about 100 ms, and comes half a second after it happened: by then most cuts have happened.
    """

    @property
    def dropped(self) -> int:
        """The number of pieces dropped because they were not taken in time."""

    def __aiter__(self) -> AsyncIterator[tuple[bytes, bytes]]:
        """Return the stream itself."""

    async def __anext__(self) -> tuple[bytes, bytes]:
        """Return the next piece, as soon as there is one."""


class LiveCalls(Protocol):
    """The live calls of a phone, on all its servers. Without a subscription, the events of calls are not recorded."""

    def calls(self) -> Sequence[LiveCall]:
        """Return what is known about each live call, oldest first."""

    def call(self, call_id: str) -> LiveCall | None:
        """Return what is known about a live call; None: no call with that id is live."""

    def subscribe(
        self, call_id: str = "", *, after: int | None = None, chunks: bool = False, size: int = 1024
    ) -> AbstractAsyncContextManager[EventStream]:
        """Open a stream of events: ``async with live.subscribe() as stream: async for record in stream``.

        A call never waits for the stream: if more than ``size`` records wait, the oldest is dropped and counted.

        Args:
            call_id: the call whose events are wanted; empty: those of all calls.
            after: begin with the events behind this ``seq``, as far as they are remembered (the newest 1024, for 30 s
                after the last subscription has ended); None: with the next event.
            chunks: True: with each ``llm_chunk``, up to fifty a second in each call.
            size: number of records that may wait, at least 1.

        Raises:
            CallEnded: ``call_id`` is given and the call is not live.
        """

    def listen(self, call_id: str) -> AbstractAsyncContextManager[AudioStream]:
        """Open the audio of a live call: ``async with live.listen(call_id) as audio: async for caller, agent in ...``.

        A call never waits for a listener: of more than 2 s that wait, the oldest audio is dropped and counted.

        Raises:
            CallEnded: the call is not live.
        """

    def say(self, call_id: str, text: str, *, interrupt: bool = False) -> None:
        """Make the agent say ``text``: after the current reply, or instead of it with ``interrupt``.

        Raises:
            CallEnded: the call is not live.
            PatterError: the text is blank, or too many wait to be spoken.
        """

    def hang_up(self, call_id: str) -> None:
        """End a call after the current speech.

        Raises:
            CallEnded: the call is not live.
        """

    async def transfer(self, call_id: str, to: str) -> None:
        """Transfer the caller to a number or SIP address, after the current speech; return at once.

        Raises:
            CallEnded: the call is not live.
            PatterError: ``to`` is neither, or a transfer is already under way.
        """

    def send_text(self, call_id: str, text: str) -> None:
        """Give the agent a text as a message of the caller's.

        Raises:
            CallEnded: the call is not live.
            PatterError: the text is blank.
        """


@attrs.frozen(kw_only=True)
class CallQuery:
    """A selection of past calls; a field that is left out restricts nothing.

    Attributes:
        text: words that were said, in any order.
        number: a number, or a part of one, of either side.
        outcome: the outcome of the call.
        since: Unix time, in seconds, from which on a call must have begun.
        until: Unix time, in seconds, before which it must have begun.
        min_cost_usd: the lowest cost, in US dollars.
        min_duration_s: the shortest duration, in seconds.
        cursor: where the page begins: ``CallPage.next`` of the page before; empty: with the newest call.
        limit: number of calls on a page, from 1 to 500.
    """

    text: str = attrs.field(default="", repr=False)
    number: str = attrs.field(default="", repr=False)
    outcome: str = ""
    since: float | None = None
    until: float | None = None
    min_cost_usd: float | None = None
    min_duration_s: float | None = None
    cursor: str = ""
    limit: int = 50


@attrs.frozen(kw_only=True)
class CallSummary:
    """One line about a past call, or about a live one that is being logged.

    Attributes:
        call_id: the carrier's id of the call.
        caller: the calling number; empty if it is withheld or not kept.
        callee: the called number; empty if it is not kept.
        direction: ``inbound`` or ``outbound``.
        provider: the carrier's name.
        started_at: Unix time, in seconds, at which the call was announced.
        duration_s: seconds of media; 0 for a call that never connected.
        turns: the number of the caller's utterances that are over; the greeting is not one.
        answer_p50_ms: the median of the caller's waiting time for an answer, in milliseconds; None: no answer.
        outcome: the outcome; empty while the call is live.
        cost_usd: the cost, in US dollars; None: it was not measured.
        first_words: the beginning of the caller's first utterance; empty if nothing was said, or words are not kept.
        has_recording: True if there is a recording of our own.
    """

    call_id: str
    caller: str = attrs.field(default="", repr=False)
    callee: str = attrs.field(default="", repr=False)
    direction: Direction
    provider: str = ""
    started_at: float
    duration_s: float = 0.0
    turns: int = 0
    answer_p50_ms: float | None = None
    outcome: str = ""
    cost_usd: float | None = None
    first_words: str = attrs.field(default="", repr=False)
    has_recording: bool = False

    def to_dict(self) -> dict[str, Any]:
        """Return the fields by name: what ``json.dumps`` takes."""
        return attrs.asdict(self)


@attrs.frozen(kw_only=True)
class CallPage:
    """A page of calls, newest first; ``next`` is the cursor of the next page, empty on the last one."""

    calls: tuple[CallSummary, ...]
    next: str = ""


@attrs.frozen(kw_only=True)
class DayStats:
    """The calls of one day, in UTC.

    Attributes:
        day: the date, ISO 8601.
        calls: number of calls.
        outcomes: number of calls by outcome.
        duration_s: seconds of all calls together.
        cost_usd: what they have cost together, in US dollars.
        answer_p50_ms: the median of the callers' waiting time for an answer, in milliseconds; None: no answer.
        answer_p95_ms: its 95th percentile.
    """

    day: str
    calls: int
    outcomes: Mapping[str, int]
    duration_s: float
    cost_usd: float
    answer_p50_ms: float | None = None
    answer_p95_ms: float | None = None

    def to_dict(self) -> dict[str, Any]:
        """Return the fields by name: what ``json.dumps`` takes."""
        return attrs.asdict(self)


class CallArchive(Protocol):
    """The past calls of a phone. Every method may raise a PatterError: the archive cannot be read at the moment."""

    async def find(self, query: CallQuery) -> CallPage:
        """Return a page of the calls that a query names, newest first.

        Raises:
            ConfigurationError: the cursor or the limit is not valid.
        """

    async def get(self, call_id: str) -> dict[str, Any] | None:
        """Return all about a call but its events, as JSON takes it; None: it is unknown.

        The keys are those of :class:`CallSummary`, with ``transcript``, ``metrics`` and ``tool_calls`` of
        ``on_call_end`` and ``custom_params``.
        """

    async def events(self, call_id: str, *, after: int = 0) -> Sequence[EventRecord]:
        """Return the events of a call behind a ``seq``, oldest first; empty if it has no more, or is unknown."""

    async def timeline(self, call_id: str) -> dict[str, Any] | None:
        """Return the call's timeline as JSON takes it; None: the call is unknown."""

    async def timeline_svg(self, call_id: str) -> str | None:
        """Return the picture of the timeline as SVG; None: the call is unknown."""

    async def recording(self, call_id: str) -> Path | None:
        """Return the WAV file of the recording, the caller on the left; None: the call has no recording."""

    async def stats(self, *, since: float | None = None, until: float | None = None) -> Sequence[DayStats]:
        """Return the figures of each day that has calls, oldest first; the bounds are Unix times in seconds."""

    async def delete(self, call_id: str) -> bool:
        """Delete all about a call, its recording included; return False if it is unknown."""

    def export(self, query: CallQuery) -> AbstractAsyncContextManager[AsyncIterator[dict[str, Any]]]:
        """Open a stream of all calls that a query names, each as :meth:`get` returns it; the limit does not count."""
