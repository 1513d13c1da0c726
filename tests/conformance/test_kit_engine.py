"""The conformance kit's checks of engines: each finds the one thing wrong with an engine that is right otherwise."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from functools import partial
from typing import Any

import attrs
import pytest
import trio
from trio.testing import MockClock

from patter_trio import OpenAIRealtime
from patter_trio.abc import (
    Engine,
    EngineEvent,
    EngineResponse,
    EngineSession,
    EngineSetup,
    EngineWords,
    Message,
    SpeechChunk,
    ToolCall,
    VoiceEdge,
)
from patter_trio.audio.formats import PCM16_8K, AudioFormat
from patter_trio.errors import ProviderError
from patter_trio.testing import ENGINE_CHECKS, NotConforming, ScriptedEngine, ScriptedLLM, check_engine, disturbed
from patter_trio.testing.conformance.common import COMMON, REPLIES
from patter_trio.testing.servers.openai_realtime import FakeRealtime, RealtimeReply, serve_openai_realtime

KEY = "made-up-key"
FLAWS = {
    "tells the vendor to stop": ("leaves answers open",),
    "reports a lost vendor": ("says nothing of failures",),
    "has telephone speech": ("wants a studio", "cuts samples"),
    "closes each commit once": ("numbers from 0", "says words twice", "has no words", "has its own types"),
    "takes an empty commit": ("commits speech alone",),
    "forgets what is discarded": ("forgets nothing",),
    "takes audio of any size": ("wants whole frames",),
    "answers in pieces": ("answers whole", "reports no text", "is silent"),
    "ends its answer once": ("says more",),
    "says a given text": ("calls a tool instead", "says nothing given"),
    "goes on after a barge-in": ("answers once",),
    "takes what was heard at any time": ("believes what is possible",),
    "takes any message to remember": ("knows its tools",),
    "takes any setup": ("knows languages",),
}
CASES = [(check, flaw) for check, flaws in FLAWS.items() for flaw in flaws]


@attrs.frozen
class Flawed(Engine):
    """An engine with one thing wrong."""

    inner: Engine
    flaw: str
    provider: str = "flawed"
    model: str = "flawed"

    @property
    def accepts(self) -> AudioFormat:  # type: ignore[override]
        given = self.inner.accepts
        return attrs.evolve(given, rate=32_000) if self.flaw == "wants a studio" else given

    @property
    def emits(self) -> AudioFormat:  # type: ignore[override]
        return PCM16_8K if self.flaw == "cuts samples" else self.inner.emits

    @asynccontextmanager
    async def open(self, setup: EngineSetup) -> AsyncIterator[EngineSession]:
        if self.flaw == "knows languages" and not setup.language.isalpha():
            raise KeyError(setup.language)
        async with AsyncExitStack() as stack, self.inner.open(setup) as session:
            yield FlawedSession(session, self.flaw, stack)


@attrs.define(eq=False)
class FlawedSession(EngineSession):
    inner: EngineSession
    flaw: str
    stack: AsyncExitStack
    heard: int = 0
    answers: int = 0
    closed: set[int] = attrs.field(factory=set)

    def send(self, audio: bytes) -> None:
        if self.flaw == "wants whole frames" and len(audio) != 160:
            raise ValueError(len(audio))
        self.heard += len(audio)
        self.inner.send(audio)

    def voice(self, edge: VoiceEdge) -> None:
        self.inner.voice(edge)

    def commit(self) -> int:
        if self.flaw == "commits speech alone" and not self.heard:
            return 1
        self.heard = 0
        return self.inner.commit() - (self.flaw == "numbers from 0")

    def discard(self) -> None:
        if self.flaw != "forgets nothing":
            self.inner.discard()

    def remember(self, message: Message) -> None:
        if self.flaw == "knows its tools" and message["role"] == "tool":
            raise KeyError(message["tool_call_id"])
        self.inner.remember(message)

    async def events(self) -> AsyncIterator[EngineEvent]:  # type: ignore[override]
        try:
            async for event in self.inner.events():
                if not isinstance(event, EngineWords):
                    yield event
                elif self.flaw == "has its own types":
                    yield event.text  # type: ignore[misc]
                    yield event
                elif self.flaw == "numbers from 0":
                    yield attrs.evolve(event, commit=event.commit - 1)
                elif self.flaw != "has no words":
                    yield event
                    if self.flaw == "says words twice":
                        yield event
        except ProviderError:
            if self.flaw != "says nothing of failures":
                raise
            await trio.sleep_forever()

    @asynccontextmanager
    async def respond(self, text: str = "", *, tools: bool = True) -> AsyncIterator[EngineResponse]:
        self.answers += 1
        context = self.inner.respond(text, tools=tools)
        if self.flaw == "leaves answers open":
            yield FlawedResponse(await self.stack.enter_async_context(context), self, text)
            return
        try:
            async with context as response:
                yield FlawedResponse(response, self, text)
        except ProviderError:
            if self.flaw != "says nothing of failures":
                raise
            yield FlawedResponse(None, self, text)


@attrs.define(eq=False)
class FlawedResponse(EngineResponse):
    inner: EngineResponse | None
    session: FlawedSession
    text: str
    waiting: list[Any] | None = None
    over: bool = False
    ends: int = 0

    async def __anext__(self) -> str | SpeechChunk | ToolCall:
        try:
            return await self._next(self.session.flaw)
        except ProviderError:
            if self.session.flaw != "says nothing of failures":
                raise
            raise StopAsyncIteration from None

    async def _next(self, flaw: str) -> Any:
        if self.inner is None or (flaw == "answers once" and self.session.answers > 1):
            raise StopAsyncIteration
        if self.text and flaw == "says nothing given":
            raise StopAsyncIteration
        if self.text and flaw == "calls a tool instead" and not self.over:
            self.over = True
            return ToolCall("1", "prices", "{}")
        if flaw == "answers whole":
            return await self._whole(self.inner)
        try:
            piece = await self.inner.__anext__()
        except StopAsyncIteration:
            self.ends += 1
            if flaw == "says more" and self.ends == 2:
                return "And another thing."
            raise
        if flaw == "reports no text" and isinstance(piece, str):
            return await self._next(flaw)
        if flaw == "is silent" and isinstance(piece, SpeechChunk):
            return await self._next(flaw)
        if flaw == "cuts samples" and isinstance(piece, SpeechChunk):
            return SpeechChunk(piece.audio[:-1] if len(piece.audio) % 2 == 0 else piece.audio)
        return piece

    async def _whole(self, inner: EngineResponse) -> Any:
        if self.waiting is None:
            pieces = [piece async for piece in inner]
            audio = b"".join(piece.audio for piece in pieces if isinstance(piece, SpeechChunk))
            self.waiting = ["".join(piece for piece in pieces if isinstance(piece, str)), SpeechChunk(audio)]
        if not self.waiting:
            raise StopAsyncIteration
        return self.waiting.pop(0)

    def heard(self, seconds: float) -> None:
        if self.session.flaw == "believes what is possible" and not 0 <= seconds <= 60:
            raise ValueError(seconds)
        if self.inner is not None:
            self.inner.heard(seconds)


def scripted() -> ScriptedEngine:
    return ScriptedEngine(llm=ScriptedLLM(["There is a lot to say to that."]))


def made_of(flaw: str) -> tuple[Callable[..., Engine], Any]:
    """An engine with a flaw, and its vendor, if the check needs one."""
    if flaw not in ("leaves answers open", "says nothing of failures"):
        return lambda: Flawed(scripted(), flaw), None
    replies = [RealtimeReply(text="To this there is a lot to say, and it takes a while.", first_audio=0.05)]
    vendor = partial(
        disturbed, partial(serve_openai_realtime, FakeRealtime(key=KEY, replies=replies)), lambda server: server.url
    )
    return lambda address: Flawed(OpenAIRealtime(api_key=KEY, base_url=address), flaw), vendor


@pytest.mark.parametrize(("check", "flaw"), CASES)
async def test_each_check_finds_what_is_wrong(autojump_clock: MockClock, check: str, flaw: str) -> None:
    """Each check for engines finds the flaw made for it and reports what happened and what must hold."""
    make, vendor = made_of(flaw)
    with pytest.raises(NotConforming) as caught:
        await check_engine(make, check, vendor=vendor)
    said = str(caught.value)
    assert said.startswith(f"{check}: ")
    assert "; " in said  # what it did, and what is demanded


@pytest.mark.parametrize("check", FLAWS)
async def test_the_same_engine_without_a_flaw_passes(autojump_clock: MockClock, check: str) -> None:
    """The engine of these tests passes each check when it has no flaw."""
    needs_vendor = check in ("tells the vendor to stop", "reports a lost vendor")
    make, vendor = made_of("leaves answers open" if needs_vendor else "")
    right = (lambda address: attrs.evolve(make(address), flaw="")) if vendor else make  # type: ignore[call-arg,arg-type]
    await check_engine(right, check, vendor=vendor)


def test_every_engine_check_has_a_failing_engine() -> None:
    """The suite has a faulty engine for each check that applies to engines alone."""
    shared = {check.name for check in (*COMMON, *REPLIES)}
    assert set(FLAWS) == set(ENGINE_CHECKS) - shared
