"""One answer of a Realtime model: taken piece by piece, and what the caller did not hear of it taken back."""

import math
from collections.abc import Callable
from typing import Final

import trio

from patter_trio.abc import EngineResponse, SpeechChunk, ToolCall, Usage, usage_sink
from patter_trio.audio.formats import RATE
from patter_trio.errors import ProviderError, ProviderTimeout
from patter_trio.wire import openai_realtime as wire

MAX_PLAYBACK_DELAY_S: Final = 1.0
"""Seconds after which an answer is begun to be heard, at most, once it comes."""
MAX_WAITING_PIECES: Final = 8192
"""Pieces of one answer that wait to be taken: several minutes of speech."""


class RealtimeResponse(EngineResponse):
    """An answer.

    Args:
        request: what it is asked for by.
        create: the message that asks for it.
        put: sends a message.
        patience: seconds until its first piece, and for each next one.
    """

    def __init__(self, request: str, create: str, put: Callable[[str], None], late_after: tuple[float, float]) -> None:
        self.request = request
        self.create = create
        self.response_id: str = ""
        """The vendor's name for it, once it has begun."""
        self.over: bool = False
        """The vendor makes no more of it."""
        self.unseen: set[str] = set()
        """Calls of tools that were taken back before anybody has seen them."""
        self.abandoned: bool = False
        """Nobody wants more of it."""
        self.text: str = ""
        """Its words, as far as they have come."""
        self.playing_until: float = -math.inf
        """Until when, on trio's clock, it may be heard: that it was heard to its end, nobody tells."""
        self._put = put
        self._first, self._between = late_after
        self._send, self._pieces = trio.open_memory_channel[str | SpeechChunk | ToolCall](MAX_WAITING_PIECES)
        self._failure: ProviderError | None = None
        self._begun = False
        self._items: dict[str, int] = {}
        """Samples that came of each item, in the order in which they began."""
        self._calls: dict[str, str] = {}
        """Items by the call of a tool that they are; of those that nobody has taken yet."""
        self._gone: set[str] = set()
        """Items that were taken back."""
        self._sink = usage_sink.get()

    def __repr__(self) -> str:
        state = "over" if self.over else "abandoned" if self.abandoned else "coming"
        return f"<RealtimeResponse {self.request}, {state}, {sum(self._items.values()) / RATE:.2f} s>"

    # Whoever takes it -------------------------------------------------------------------------------------------------
    async def __anext__(self) -> str | SpeechChunk | ToolCall:
        within = self._between if self._begun else self._first
        try:
            with trio.fail_after(within):
                piece = await self._pieces.receive()
        except trio.EndOfChannel:
            if self._failure is not None:
                raise self._failure from None
            raise StopAsyncIteration from None
        except trio.TooSlowError as error:
            raise ProviderTimeout(f"OpenAI's answer did not go on within {within:g} s") from error
        self._begun = True
        if isinstance(piece, ToolCall):
            self._calls.pop(piece.id, None)
        return piece

    def heard(self, seconds: float) -> None:
        """Take back what came of it and was not heard; what still comes of it is taken back as it comes."""
        self.abandon()
        self.playing_until = -math.inf
        left = max(0, math.floor(seconds * RATE))
        for item, samples in self._items.items():
            heard = min(left, samples)
            left -= heard
            if not heard:
                self._take_back(item)
            elif heard < samples or not self.over:
                self._put(wire.truncate(item, heard * 1000 // RATE))

    def abandon(self) -> None:
        """Have the vendor stop; a tool that it wanted called and nobody has seen is not wanted any more."""
        if self.abandoned:
            return
        self.abandoned = True
        if not self.over:
            self._put(wire.cancel(self.response_id))
        for item in self._calls.values():
            self._take_back(item)
        self.unseen.update(self._calls)
        self._calls.clear()

    def _take_back(self, item: str) -> None:
        if item not in self._gone:
            self._gone.add(item)
            self._put(wire.delete_item(item))

    # Whoever brings it ------------------------------------------------------------------------------------------------
    def again(self) -> bool:
        """Return whether it can be asked for once more: nothing of it has come, and it is wanted."""
        if self.abandoned or self._items or self._calls or self._begun:
            return False
        self.response_id = ""
        return True

    def take(self, event: wire.Event) -> None:
        """Take what the vendor tells of it."""
        match event:
            case wire.ResponseStarted():
                self.response_id = event.response_id
                if self.abandoned:  # what was asked before it had begun, did nothing
                    self._put(wire.cancel(self.response_id))
            case wire.AudioDelta():
                if self._wanted(event.item_id):
                    self._items[event.item_id] += len(event.audio)
                    self.playing_until = (
                        max(self.playing_until, trio.current_time() + MAX_PLAYBACK_DELAY_S) + len(event.audio) / RATE
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
        if not self.abandoned:
            self._items.setdefault(item, 0)
            return True
        if item not in self._items:
            self._take_back(item)
        return False

    def _bring(self, piece: str | SpeechChunk | ToolCall) -> None:
        try:
            self._send.send_nowait(piece)
        except trio.WouldBlock:
            self.abandon()
            self.fail(ProviderError(f"OpenAI's answer is longer than {MAX_WAITING_PIECES} pieces"))

    def _end(self, event: wire.ResponseEnded) -> None:
        if event.usage is not None:
            self.report(event.usage)
        if self.abandoned:
            pass  # nobody minds
        elif event.status is wire.Status.FAILED:
            self.fail(event.refusal.error() if event.refusal else ProviderError("OpenAI's answer failed"))
        elif event.status is wire.Status.CANCELLED:
            self.fail(ProviderError(f"OpenAI has stopped its answer: {event.reason}"))
        elif event.status is wire.Status.INCOMPLETE and not self._items and not self._calls:
            self.fail(ProviderError(f"OpenAI's answer is incomplete: {event.reason}"))
        self.finish()

    def report(self, usage: Usage) -> None:
        """Report what it costs, to whoever asked for it."""
        if self._sink is not None:
            self._sink(usage)

    def fail(self, error: ProviderError) -> None:
        """There will be no more of it."""
        self._failure = self._failure or error
        self.finish()

    def finish(self) -> None:
        """All has come."""
        self.over = True
        self._send.close()
