"""Makes the session of a call whose media stream has begun, from what the server and its announcement bring."""

from collections.abc import Awaitable, Callable
from functools import partial

import attrs
import trio

from patter_trio.abc import CallInfo, CarrierReport
from patter_trio.abc._usage import usage_sink
from patter_trio.agent.agent import Agent
from patter_trio.audio.media_clock import MediaClock
from patter_trio.call.leg import MediaLeg
from patter_trio.call.options import CallOptions
from patter_trio.call.recorded import Recorded
from patter_trio.call.session import CallSession
from patter_trio.call.tools.webhooks import ToolWebhooks
from patter_trio.events.callback_registry import Callback
from patter_trio.events.callbacks import CallbackQueue, FindCallback
from patter_trio.events.payloads import EDGES
from patter_trio.events.reporter import CallReporter
from patter_trio.metrics.internal_events import UsageReported
from patter_trio.metrics.meter import Meter
from patter_trio.server.answerer import Answering
from patter_trio.server.context import ServerContext
from patter_trio.server.lost_streams import LostStreams
from patter_trio.server.machines import ear_of
from patter_trio.server.options import Seams, ServeOptions
from patter_trio.server.placed import PlacedCall
from patter_trio.server.recorders import Recorders
from patter_trio.server.second_legs import SecondLegs, accept_at_once
from patter_trio.server.starting import StartingCall


@attrs.frozen(eq=False)
class ReadyCall:
    """A call that is ready to run."""

    session: CallSession
    callback_queue: CallbackQueue
    reporter: CallReporter
    recorded: Recorded


class Sessions:
    """Makes the sessions of one server's calls.

    Args:
        options: the carrier, the prices and the observers.
        seams: replacements for tests and simulated calls.
        nursery: the server's, which outlives the calls.
        context: asks the carrier for transfers.
        find: returns the application's callback of a name, or None.
        webhooks: calls the tools behind URLs.
        second_legs: place the calls of warm transfers.
        lost: has the carrier open another stream for a call that has lost its own.
        recorders: record the calls.
        on_report: takes a finding of our own about who has answered.
    """

    def __init__(
        self,
        options: ServeOptions,
        seams: Seams,
        nursery: trio.Nursery,
        context: ServerContext,
        find: FindCallback,
        *,
        webhooks: ToolWebhooks,
        second_legs: SecondLegs,
        lost: LostStreams,
        recorders: Recorders,
        on_report: Callable[[CarrierReport], None],
    ) -> None:
        self._options = options
        self._seams = seams
        self._nursery = nursery
        self._context = context
        self._find = find
        self._webhooks = webhooks
        self._lost = lost
        self._recorders = recorders
        self._on_report = on_report
        self._send_digits = seams.send_digits or options.carrier.send_digits
        self._place_second_leg = (
            second_legs.place if seams.take_over is None else partial(accept_at_once, seams.take_over)
        )

    def __repr__(self) -> str:
        return f"<Sessions at {self._options.carrier.name}>"

    def of_call(
        self,
        leg: MediaLeg,
        starting: StartingCall,
        answering: Answering,
        *,
        placed: PlacedCall | None,
        on_hang_up: Callable[[], None],
    ) -> ReadyCall:
        """Return the session of a call, ready to run in this task, with what reports and records it.

        Args:
            leg: the media stream, started.
            starting: the call until now; its control, clock, events and trace are carried over.
            answering: what talks in the call.
            placed: the call as we have placed it; None: it came in.
            on_hang_up: called at the instant at which the agent hangs up.
        """
        info, media = leg.info, starting.media
        if starting.trace is not None:
            # In the call's task: spans of the application's code become parts of the call's.
            starting.trace.attach()
        find = self._find_for(placed)
        callback_queue = CallbackQueue(info.call_id, find, starting.events.grace, starting.call.control)
        reporter = self._reporter(info, starting, callback_queue)
        # A context variable, because providers report usage without knowing a call; the tasks of the call inherit it.
        usage_sink.set(lambda usage: reporter.emit_fact(UsageReported(usage), trio.current_time()))
        recorded = self._recorders.of_call(info, media)
        options = CallOptions(
            agent=answering.agent,
            # What on_call_start returns is meant for callers, and not for a person who is briefed.
            settled=partial(
                self._settled,
                partial(starting.settled, answering.agent, answering.callbacks, may_change=not answering.is_briefing),
            ),
            on_message=answering.messages,
            transfer_call=partial(self._context.transfer, info),
            takes_back=self._options.carrier.takes_back,
            place_second_leg=self._place_second_leg,
            send_digits=partial(self._send_digits, info),
            webhooks=self._webhooks,
            on_open=(lambda: None) if placed is None else placed.talking.set,
            on_hang_up=on_hang_up,
            # Looked up when it is called: the stream that is lost then need not be the first one.
            on_stream_lost=lambda: self._lost.begin(info, session.streams.reference, session.streams.give_up),
            on_audio=None if placed is None else ear_of(placed, self._options.carrier, info.call_id, self._on_report),
            is_deaf=answering.is_briefing,
            recorded=recorded,
        )
        session = CallSession(leg, options, starting.call, reporter, media, server_nursery=self._nursery)
        return ReadyCall(session, callback_queue, reporter, recorded)

    def _reporter(self, info: CallInfo, starting: StartingCall, callback_queue: CallbackQueue) -> CallReporter:
        """Return what emits the events of a call, to its trace, its observers, its callbacks and its meter."""
        trace, events, media = starting.trace, starting.events, starting.media
        return CallReporter(
            callback_queue,
            info,
            media,
            epoch=events.epoch,
            tap=self._seams.tap,
            observers=(
                *(() if trace is None else (trace,)),
                *self._seams.observers,
                *(observer_of(info) for observer_of in self._options.call_observers),
            ),
            events=events,
            meter=self._meter(info, media, events.epoch),
        )

    def _meter(self, info: CallInfo, media: MediaClock, epoch: float) -> Meter:
        return self._seams.meter(
            info.call_id,
            media,
            self._options.pricing,
            began=trio.current_time(),
            epoch=epoch,
            carrier=info.provider,
            direction=info.direction,
        )

    def _find_for(self, placed: PlacedCall | None) -> FindCallback:
        find = self._find if placed is None else partial(placed.request.find, otherwise=self._find)
        return find if self._seams.tells_edges else partial(_find_without_edges, find)

    async def _settled(self, settled: Callable[[], Awaitable[Agent]]) -> Agent:
        return self._seams.adapted(await settled())


def _find_without_edges(find: FindCallback, name: str) -> Callback | None:
    return None if name.removeprefix("on_") in EDGES else find(name)
