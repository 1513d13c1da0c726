"""Providers for the vendor of ``line_vendor``: sound ones, and each with one flaw that a conformance check finds."""

import json
import os
from collections.abc import AsyncIterable, AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from functools import partial
from typing import Any

import attrs
import trio

from patter_trio.abc import (
    LanguageModel,
    Message,
    SpeechChunk,
    SpeechToText,
    SpeechToTextSession,
    TextToSpeech,
    TextToSpeechSession,
    Transcript,
    Word,
)
from patter_trio.audio.formats import AudioFormat, Encoding
from patter_trio.errors import ConfigurationError, PatterError, ProviderError, ProviderTimeout
from patter_trio.net.tasks import run_beside
from patter_trio.net.websocket_client import WebSocketClient, open_websocket
from tests.kit.line_vendor import KEY

# At least one flaw for each check of the kit; the sound provider is the one without any. All flaws are in one
# place each, named by what the provider does, so that a reader sees what a check finds. Without it the code is
# what the guide in docs/providers.md teaches.

# Short: the checks of stalled and half-open vendors wait for it.
ANSWER = 5.0
"""Seconds that the vendor has for each message of an answer that is due."""
VARIABLE = "LINE_API_KEY"

# Global, because a leak is what outlives the sessions that made it.
kept: list[object] = []
"""What flawed providers leave behind."""
live: dict[str, int] = {}
"""Sessions that flawed providers know of, by address."""


def _key(given: str) -> str:
    return given or os.environ.get(VARIABLE, "")


@attrs.frozen(kw_only=True)
class LineProvider:
    """The options, the connection and the flaws that the three providers share."""

    address: str = "wss://lines.example"
    api_key: str = attrs.field(default="", repr=False, converter=_key)
    flaw: str = ""
    unpicklable: Any = attrs.field(init=False, repr=False)

    provider = "line"
    model = "plain"

    @unpicklable.default
    def _unpicklable(self) -> Any:
        return (lambda: None) if self.flaw == "holds a function" else None

    def __attrs_post_init__(self) -> None:
        if not self.api_key and self.flaw != "needs no key":
            if self.flaw == "names no variable":
                raise ConfigurationError("no api_key")
            raise ConfigurationError(f"{type(self).__name__}: give api_key= or set the environment variable {VARIABLE}")
        if self.flaw == "has no name":
            # Past the freeze, as a class does that sets its own fields when it is made.
            object.__setattr__(self, "provider", "")

    @asynccontextmanager
    async def connected(self, path: str) -> AsyncIterator[WebSocketClient]:
        """Connect to the vendor, with the flaws of a connection."""
        headers = {"Authorization": f"Bearer {self.api_key}"}
        count = live[self.address] = live.get(self.address, 0) + 1
        try:
            # Longer than any limit of the kit.
            within = 1e6 if self.flaw == "waits for ever" else ANSWER
            async with open_websocket(f"{self.address}{path}", headers=headers, connect_timeout=within) as socket:
                if self.flaw == "leaves a task":
                    # A system task, because no other can outlive the session's nursery.
                    trio.lowlevel.spawn_system_task(trio.sleep, 30)
                if self.flaw == "keeps channels":
                    kept.append(trio.open_memory_channel[None](0))
                if self.flaw == "keeps sockets":
                    kept.append(trio.socket.socket())
                yield socket
                if self.flaw == "says goodbye at length":
                    await trio.sleep(3)
        except ProviderError as error:
            if self.flaw == "makes all errors one":
                raise PatterError("no") from error
            if self.flaw == "lets foreign errors out":
                raise RuntimeError("no") from error
            raise
        # What a provider must never do: each branch is a flaw. Without one, the cancellation goes on.
        except trio.Cancelled:
            if self.flaw == "closes slowly":
                with trio.CancelScope(shield=True):
                    await trio.sleep(3)
            if self.flaw == "calls it a timeout":
                raise ProviderTimeout("cancelled") from None
            raise
        finally:
            live[self.address] -= 1
            del count

    def text(self, text: str) -> str:
        """Return the text, with the flaws of a text."""
        if self.flaw == "counts":
            kept.append(None)
            return f"{text}{len(kept)}"
        if self.flaw == "mixes sessions" and live[self.address] > 1:
            return f"{text}?"
        return text


async def received(provider: LineProvider, socket: WebSocketClient, *, due: bool) -> tuple[str, str]:
    """Return the verb and the rest of the next message, with the flaws of receiving."""
    within = ANSWER if due else float("inf")
    # Less than the 0.2 s by which a slow vendor is late, and more than the pace of a sound one.
    if provider.flaw == "has no patience":
        within = 0.15
    if provider.flaw == "waits for ever":
        within = float("inf")
    try:
        with trio.fail_after(within):
            message = await socket.receive()
    except trio.TooSlowError as error:
        raise ProviderTimeout(f"line: nothing came for {within:g} s") from error
    except ProviderError:
        # The most likely mistake with sockets: a lost connection looks like the end of the answer.
        if provider.flaw == "takes the end for an end":
            return "over", ""
        raise
    if isinstance(message, bytes):
        # Latin-1 maps bytes to characters one to one, so that all messages are texts from here on.
        number, _, audio = message.partition(b":")
        return "audio", f"{number.decode()} {audio.decode('latin-1')}"
    verb, _, rest = message.partition(" ")
    known = verb in ("interim", "final", "token", "end", "begin", "done")
    if not known and provider.flaw == "knows all messages":
        raise ProviderError(f"line: what is {verb}?")
    return verb, rest


def parsed(provider: LineProvider, rest: str) -> Any:
    """Return the value of the vendor's JSON."""
    try:
        return json.loads(rest)
    except ValueError as error:
        if provider.flaw == "believes all it gets":
            raise
        raise ProviderError("line: malformed JSON") from error


# Recognition ----------------------------------------------------------------------------------------------------------
@attrs.frozen(kw_only=True)
class LineSTT(LineProvider, SpeechToText):
    """The STT provider of the line vendor."""

    def __attrs_post_init__(self) -> None:
        super().__attrs_post_init__()
        if self.flaw == "wants a studio":
            object.__setattr__(self, "accepts", AudioFormat(Encoding.MULAW, 11025))

    @asynccontextmanager
    async def open(self, *, language: str) -> AsyncIterator[SpeechToTextSession]:
        # An error of the provider's own code: the kit demands a ProviderError for any tag.
        if self.flaw == "knows languages":
            {"en": 1}[language]
        async with self.connected("/stt") as socket:
            yield _Recognition(self, socket)


class _Recognition(SpeechToTextSession):
    def __init__(self, provider: LineSTT, socket: WebSocketClient) -> None:
        self._provider, self._socket, self._flushed = provider, socket, False

    async def send(self, audio: bytes) -> None:
        if self._provider.flaw == "wants whole frames" and len(audio) != 160:
            raise ProviderError("line: a frame has 160 samples")
        if self._provider.flaw == "takes no more" and self._flushed:
            return
        with suppress(*self._errors()):
            # In pieces below the limit of a message, because a call may deliver 30 s at once.
            for at in range(0, len(audio), 8000):
                await self._socket.send(audio[at : at + 8000])

    async def flush(self) -> None:
        self._flushed = True
        with suppress(*self._errors()):
            await self._socket.send("flush")

    def _errors(self) -> tuple[type[Exception], ...]:
        return (ProviderError,) if self._provider.flaw == "takes the end for an end" else ()

    def transcripts(self) -> AsyncIterator[Transcript]:
        return self

    def __aiter__(self) -> AsyncIterator[Transcript]:
        return self

    async def __anext__(self) -> Transcript:
        flaw = self._provider.flaw
        while True:
            verb, rest = await received(self._provider, self._socket, due=False)
            if verb == "over" or (flaw == "ends with a final" and self._flushed):
                raise StopAsyncIteration
            if verb in ("interim", "final", "token"):
                segment, _, text = rest.partition(" ")
                words = parsed(self._provider, text)
                if verb == "final" and not words and flaw == "says no empty words":
                    continue
                number = 0 if flaw == "has one segment" else int(segment)
                final: Any = 1 if flaw == "has its own types" and verb == "final" else verb == "final"
                return Transcript(self._provider.text(words) if words else "", final, number)


# LLMs -----------------------------------------------------------------------------------------------------------------
@attrs.frozen(kw_only=True)
class LineLLM(LineProvider, LanguageModel):
    """The LLM of the line vendor."""

    @asynccontextmanager
    async def stream(self, messages: Sequence[Message], **options: Any) -> AsyncIterator[AsyncIterator[str]]:
        if self.flaw == "takes no tools" and options:
            raise TypeError("unexpected keyword argument 'tools'")
        if self.flaw == "takes notes":
            messages[0]["content"] += "!"  # type: ignore[index]
        # ASCII by default: a lone surrogate can then be sent like any other text.
        shown = json.dumps([dict(message) for message in messages], ensure_ascii=self.flaw != "writes raw")
        if self.flaw == "remembers":
            kept.append(None)
            shown = json.dumps([{"content": f"question {len(kept)}"}])
        async with self.connected("/llm") as socket:
            await socket.send(f"ask {shown}")
            answer = _Answer(self, socket)
            if self.flaw == "answers whole":
                yield _Once(["".join([piece async for piece in answer])])
                return
            yield answer
            if self.flaw == "listens to the end":
                # The flaw itself: a vendor that is heard to the end got no request to stop.
                with trio.CancelScope(shield=True):
                    _ = [piece async for piece in answer]


class _Once:
    def __init__(self, pieces: list[str]) -> None:
        self._pieces = pieces

    def __aiter__(self) -> AsyncIterator[str]:
        return self

    async def __anext__(self) -> str:
        if not self._pieces:
            raise StopAsyncIteration
        return self._pieces.pop()


class _Answer(AsyncIterator[str]):
    def __init__(self, provider: LineLLM, socket: WebSocketClient) -> None:
        self._provider, self._socket, self._ended = provider, socket, False

    async def __anext__(self) -> str:
        if self._ended:
            if self._provider.flaw == "says more":
                # Once: an iteration that never ended would be another flaw.
                self._provider = attrs.evolve(self._provider, flaw="")
                return "P.S."
            raise StopAsyncIteration
        while True:
            verb, rest = await received(self._provider, self._socket, due=True)
            if verb in ("end", "over"):
                self._ended = True
                raise StopAsyncIteration
            if verb == "token":
                return self._provider.text(parsed(self._provider, rest))


# Synthesis ------------------------------------------------------------------------------------------------------------
@attrs.frozen(kw_only=True)
class LineTTS(LineProvider, TextToSpeech):
    """The TTS provider of the line vendor: one connection for a call, with numbered replies."""

    def __attrs_post_init__(self) -> None:
        super().__attrs_post_init__()
        if self.flaw == "sings":
            object.__setattr__(self, "emits", AudioFormat(Encoding.PCM16))

    @asynccontextmanager
    async def open(self, *, language: str) -> AsyncIterator[TextToSpeechSession]:
        async with self.connected("/tts") as socket:
            yield _Synthesis(self, socket)


class _Synthesis(TextToSpeechSession):
    def __init__(self, provider: LineTTS, socket: WebSocketClient) -> None:
        self._provider, self._socket, self._replies = provider, socket, 0

    @asynccontextmanager
    async def speak(self, sentences: AsyncIterable[str]) -> AsyncIterator[AsyncIterator[SpeechChunk]]:
        self._replies += 1
        number = str(self._replies)
        speech = _Speech(self._provider, self._socket, number)
        try:
            async with run_beside(partial(self._hand_over, number, sentences)):
                yield speech
        finally:
            if not speech.ended and self._provider.flaw != "talks on":
                # Shielded, because leaving a reply is usually a cancellation, and bounded as a barge-in is.
                with trio.move_on_after(0.05, shield=True), suppress(ProviderError):
                    await self._socket.send(f"cancel {number}")

    async def _hand_over(self, number: str, sentences: AsyncIterable[str]) -> None:
        flaw = self._provider.flaw
        texts: list[str] = []
        async for text in sentences:
            texts.append(text)
            if flaw == "waits for the text":
                continue
            shown = text[:2000] if flaw == "cuts texts" else text
            if flaw == "refuses long texts" and len(text) > 1000:
                raise ValueError("too long")
            # A vendor has nothing to say for white space.
            if text.strip():
                await self._socket.send(f"say {number} {json.dumps(shown, ensure_ascii=flaw != 'writes raw')}")
        if flaw == "waits for the text":
            await self._socket.send(f"say {number} {json.dumps(' '.join(texts))}")
        if flaw == "hums" and not texts:
            await self._socket.send(f'say {number} "Hm."')
        await self._socket.send(f"end {number}")


class _Speech(AsyncIterator[SpeechChunk]):
    def __init__(self, provider: LineTTS, socket: WebSocketClient, number: str) -> None:
        self._provider, self._socket, self._number = provider, socket, number
        self._text = ""
        self.ended = False

    async def __anext__(self) -> SpeechChunk:
        flaw = self._provider.flaw
        while not self.ended:
            verb, rest = await received(self._provider, self._socket, due=True)
            number, _, rest = rest.partition(" ")
            if verb == "over":
                self.ended = True
            elif number != self._number and flaw != "takes all for its own":
                continue
            elif verb == "done":
                self.ended = True
            elif verb == "begin":
                self._text = self._provider.text(parsed(self._provider, rest))
            elif verb == "token":
                parsed(self._provider, rest)
            elif verb == "audio":
                text, self._text = self._text, ""
                # A time for the first word only: the kit asks that times be right, not that all words have one.
                first = [Word(text.split()[0], -1.0 if flaw == "times wrongly" else 0.0, 0.1)] if text.split() else []
                audio = rest.encode("latin-1")
                return SpeechChunk(
                    audio[:-1] if flaw == "sings" else audio,
                    "" if flaw == "reports no text" else text,
                    tuple(first),
                )
        raise StopAsyncIteration


# Those that are wrong as a class --------------------------------------------------------------------------------------
def wrong(kind: type, flaw: str) -> Any:
    """Return a function that makes a provider with this flaw; some flaws are in the class itself."""
    known: Mapping[str, dict[str, Any]] = {
        "is not frozen": {"__setattr__": object.__setattr__},
        "shows its key": {"__repr__": lambda provider: f"<{provider.api_key}>"},
    }
    base = type(kind.__name__, (kind,), known[flaw]) if flaw in known else kind

    def make(address: str = "ws://127.0.0.1:1", api_key: str = KEY) -> Any:
        return base(address=address, api_key=api_key, flaw=flaw)

    return make


__all__ = ["LineLLM", "LineSTT", "LineTTS", "wrong"]
