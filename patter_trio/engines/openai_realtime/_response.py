"""One answer of a Realtime model: taken piece by piece, and deleted as far as the caller did not hear it."""

import math
from collections.abc import Callable
from contextvars import copy_context
from typing import Final

import trio

from patter_trio.abc import EngineResponse, SpeechChunk, ToolCall, Usage, report_usage
from patter_trio.audio.formats import RATE_HZ
from patter_trio.errors import ProviderError, ProviderTimeout
from patter_trio.wire import openai_realtime as wire

# Judged: time for the queue, the pacer and the hooks. It errs on the late side, so that a connection is not renewed
# under an answer that is still playing.
MAX_PLAYBACK_DELAY_S: Final = 1.0
"""Longest delay, in seconds, between the arrival of an answer and the beginning of its playout."""
# A piece has 100 ms to 200 ms of audio or a few words. When it is full, the answer fails: to wait would stop the reader
# of the whole call.
MAX_WAITING_PIECES: Final = 8192
"""Most pieces of one answer that wait to be taken: several minutes of speech."""


class RealtimeResponse(EngineResponse):
    """An answer.

    Args:
        request: the id of the request.
        create: the message that requests it.
        put: queues a message for the vendor.
        late_after: seconds until its first piece, and for each next one.
    """

    def __init__(self, request: str, create: str, put: Callable[[str], None], late_after: tuple[float, float]) -> None:
        self.request = request
        self.create = create
        self.response_id: str = ""
        """The vendor's id of the answer, once it has begun."""
        self.over: bool = False
        """True once the vendor generates no more of it."""
        self.unseen: set[str] = set()
        """Ids of tool calls that were deleted before anybody saw them."""
        self.abandoned: bool = False
        """True once no more of it is wanted."""
        self.text: str = ""
        """Words received so far."""
        self.playing_until: float = -math.inf
        """Until when, on trio's clock, the answer may be playing; the call never reports that it was heard to its
        end."""
        self._put = put
        self._first, self._between = late_after
        self._send, self._pieces = trio.open_memory_channel[str | SpeechChunk | ToolCall](MAX_WAITING_PIECES)
        self._failure: ProviderError | None = None
        self._begun = False
        self._items: dict[str, int] = {}
        """Samples received of each item, in the order in which the items began."""
        self._calls: dict[str, str] = {}
        """Items of tool calls that nobody has taken yet, by the call's id."""
        self._gone: set[str] = set()
        """Items that were deleted."""
        self._context = copy_context()  # of the reply, to which the usage belongs; the session's task reports it

    def __repr__(self) -> str:
        state = "over" if self.over else "abandoned" if self.abandoned else "coming"
        return f"<RealtimeResponse {self.request}, {state}, {sum(self._items.values()) / RATE_HZ:.2f} s>"

    # Called by the consumer -------------------------------------------------------------------------------------------
    async def __anext__(self) -> str | SpeechChunk | ToolCall:
        timeout = self._between if self._begun else self._first
        try:
            # ``fail_after`` around the wait alone: what the consumer does between two pieces takes no time of the
            # vendor's.
            with trio.fail_after(timeout):
                piece = await self._pieces.receive()
        # The channel is closed by ``finish``, after everything has been put in.
        except trio.EndOfChannel:
            if self._failure is not None:
                raise self._failure from None
            raise StopAsyncIteration from None
        # The vendor is silent: an apology is due, and perhaps a new connection.
        except trio.TooSlowError as error:
            raise ProviderTimeout(f"OpenAI's answer did not continue within {timeout:g} s") from error
        self._begun = True
        if isinstance(piece, ToolCall):
            # Taken: from now on the call will give it an output.
            self._calls.pop(piece.id, None)
        return piece

    def heard(self, seconds: float) -> None:
        """Delete what was received and not heard; pieces that still come are deleted as they arrive."""
        # First: from here on no audio is counted, so the sums below are final.
        self.abandon()
        self.playing_until = -math.inf
        # Rounded down: to claim one sample too much would be refused.
        left = max(0, math.floor(seconds * RATE_HZ))
        for item, samples in self._items.items():
            # Truncated also while it is still growing: the vendor would otherwise keep what comes after the cut.
            heard = min(left, samples)
            left -= heard
            if heard and heard == samples and self.over:
                continue
            # Less than a millisecond is nothing: truncated to 0 ms, the item would stay in the conversation, empty.
            if milliseconds := heard * 1000 // RATE_HZ:
                self._put(wire.truncate(item, milliseconds))
            else:
                self._take_back(item)

    def abandon(self) -> None:
        """Make the vendor stop, and delete the tool calls that nobody has seen."""
        # Once only: heard() and the end of the answer's context both come here.
        if self.abandoned:
            return
        self.abandoned = True
        if not self.over:
            # The id may be empty, if the answer has not begun: then it cancels the one in progress, or ``take`` does
            # later.
            self._put(wire.cancel(self.response_id))
        for item in self._calls.values():
            self._take_back(item)
        self.unseen.update(self._calls)
        self._calls.clear()

    def _take_back(self, item: str) -> None:
        if item not in self._gone:
            self._gone.add(item)
            self._put(wire.delete_item(item))

    # Called by the session --------------------------------------------------------------------------------------------
    def again(self) -> bool:
        """Return True if it can be requested once more: no part of it has come, and it is still wanted."""
        # Pieces that were taken have been heard, perhaps; a second answer would repeat them.
        if self.abandoned or self._items or self._calls or self._begun:
            return False
        self.response_id = ""
        return True

    def take(self, event: wire.Event) -> None:
        """Process an event about this answer."""
        match event:
            case wire.ResponseStarted():
                self.response_id = event.response_id
                if self.abandoned:  # a cancellation sent before the answer began had no effect
                    self._put(wire.cancel(self.response_id))
            case wire.AudioDelta():
                if self._wanted(event.item_id):
                    self._items[event.item_id] += len(event.audio)
                    self.playing_until = (
                        # Audio comes faster than real time, so each piece begins where the one before it ends.
                        max(self.playing_until, trio.current_time() + MAX_PLAYBACK_DELAY_S) + len(event.audio) / RATE_HZ
                    )
                    self._bring(SpeechChunk(event.audio))
            case wire.TextDelta():
                if self._wanted(event.item_id):
                    self.text += event.text
                    self._bring(event.text)
            case wire.FunctionCall():
                if self.abandoned:
                    self._take_back(event.item_id)
                else:
                    self._calls[event.call_id] = event.item_id
                    self._bring(ToolCall(event.call_id, event.name, event.arguments))
            case wire.ResponseEnded():
                self._end(event)

    def _wanted(self, item: str) -> bool:
        # In the order of their first piece, which is the order of speech; ``heard`` counts on it.
        if not self.abandoned:
            self._items.setdefault(item, 0)
            return True
        # An item that begins after the answer was given up must not stay in the vendor's memory.
        if item not in self._items:
            self._take_back(item)
        return False

    def _bring(self, piece: str | SpeechChunk | ToolCall) -> None:
        try:
            self._send.send_nowait(piece)
        except trio.WouldBlock:
            # Never wait: this runs in the task that reads the socket for the whole call.
            self.abandon()
            self.fail(ProviderError(f"OpenAI's answer must have at most {MAX_WAITING_PIECES} waiting pieces"))

    def _end(self, event: wire.ResponseEnded) -> None:
        if event.usage is not None:
            self.report(event.usage)
        if self.abandoned:
            pass  # its outcome does not matter any more
        elif event.status is wire.Status.FAILED:
            self.fail(event.refusal.error() if event.refusal else ProviderError("OpenAI's answer failed"))
        elif event.status is wire.Status.CANCELLED:
            self.fail(ProviderError(f"OpenAI stopped its answer: {event.reason}"))
        # Incomplete with some audio: cut off at its maximum length, which is better than an apology.
        elif event.status is wire.Status.INCOMPLETE and not self._items and not self._calls:
            self.fail(ProviderError(f"OpenAI's answer is incomplete: {event.reason}"))
        self.finish()

    def report(self, usage: Usage) -> None:
        """Report what the answer costs."""
        self._context.run(report_usage, usage)

    def fail(self, error: ProviderError) -> None:
        """End the answer with an error."""
        # The first error is the reason.
        self._failure = self._failure or error
        self.finish()

    def finish(self) -> None:
        """End the answer: everything has come."""
        self.over = True
        self._send.close()
