"""A scripted engine: a scripted LLM and TTS behind the interface of an engine, with the same timing."""

from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import Any, Literal

import attrs
import trio

from patter_trio.abc import (
    Engine,
    EngineEvent,
    EngineResponse,
    EngineSession,
    EngineSetup,
    EngineTurnOver,
    EngineWords,
    LanguageModel,
    Message,
    SpeechChunk,
    TextToSpeech,
    ToolCall,
    ToolDefinition,
    VoiceEdge,
)
from patter_trio.audio.formats import MULAW_8K, RATE_HZ, AudioFormat
from patter_trio.conversation.playout import PlayoutQueue
from patter_trio.conversation.sentences import SentenceChunker
from patter_trio.errors import ProviderError
from patter_trio.testing.flat_nursery import open_flat_nursery
from patter_trio.testing.scripted_providers.audible_text import Kind, Sound
from patter_trio.testing.scripted_providers.band_limited import WordReader
from patter_trio.testing.scripted_providers.llm import ScriptedLLM
from patter_trio.testing.scripted_providers.timed_results import TimedResults
from patter_trio.testing.scripted_providers.tts import ScriptedTTS

# More than any response has, so that the script's instants do not depend on when the call takes the pieces.
MAX_WAITING_PIECES = 4096
"""Pieces of one response that may wait; a full channel makes the script wait."""


@attrs.frozen
class ScriptedEngine(Engine):
    """An engine that hears the words carried by the audio, answers like ``llm`` and speaks like ``tts``.

    Args:
        llm: the answers, and their timing.
        tts: the voice, and its timing.
        words_delay: seconds from the end of an utterance (``commit``) to its words. A tuple gives the delays of the
            first, second ... utterance; its last entry is that of all further ones.
        opening: seconds until a session is open.
        interim: also yield the words as an interim result, at half that time.
        silent: never yield what the caller said.
        turn_delay: seconds from the end of a voice until the engine itself reports the end of the turn; None for never.
        fail_at: seconds of audio after which the session fails.
        fail_to_open: opening a session fails.
        ends_turns: the ``trigger`` of turns that the engine ends, with ``turn_delay``.
        longest_silence: seconds of silence after which the engine promises to have ended the turn; 0 for no promise.
        accepts: the format of the caller's audio; the engine speaks in the format of ``tts``.
    """

    llm: LanguageModel = attrs.field(factory=lambda: ScriptedLLM(["Yes."]))
    tts: TextToSpeech = attrs.field(factory=ScriptedTTS)
    # With no delay by default, unlike a real engine: a test that is not about late words gets them in order.
    words_delay: float | tuple[float, ...] = 0.0
    opening: float = 0.0
    interim: bool = False
    silent: bool = False
    turn_delay: float | None = None
    fail_at: float | None = None
    fail_to_open: bool = False
    ends_turns: Literal["", "vad_silence", "semantic_turn_detector"] = ""
    longest_silence: float = 0.0
    provider: str = "scripted"
    model: str = "scripted"
    accepts: AudioFormat = MULAW_8K
    setups: list[EngineSetup] = attrs.field(factory=list, init=False, eq=False, repr=False)
    """The setup of each session, in the order of opening."""
    remembered: list[dict[str, Any]] = attrs.field(factory=list, init=False, eq=False, repr=False)
    """The messages that sessions were asked to remember, oldest first."""
    heard: list[float] = attrs.field(factory=list, init=False, eq=False, repr=False)
    """For each response that was cut, the seconds that the caller heard."""
    discarded: list[float] = attrs.field(factory=list, init=False, eq=False, repr=False)
    """The instants at which an utterance was discarded."""

    @property
    def emits(self) -> AudioFormat:  # type: ignore[override]
        """The format of the voice."""
        return self.tts.emits

    @asynccontextmanager
    async def open(self, setup: EngineSetup) -> AsyncIterator[EngineSession]:
        self.setups.append(setup)
        if self.fail_to_open:
            raise ProviderError("ScriptedEngine opens no session, as scripted")
        await trio.sleep(self.opening)
        # One TTS session for all responses, as in a call with a pipeline.
        async with self.tts.open(language=setup.language) as voice:
            yield _Session(self, setup, voice)


class _Session(EngineSession):
    def __init__(self, script: ScriptedEngine, setup: EngineSetup, voice: Any) -> None:
        self._script, self._setup, self._voice_of = script, setup, voice
        self._reader = WordReader(script.accepts)
        self._words = ""
        self._utterance = 0
        self._commits = 0
        self._gone = False
        self._due: TimedResults[EngineEvent] = TimedResults()
        self.conversation: list[dict[str, Any]] = []

    # The caller -------------------------------------------------------------------------------------------------------
    def send(self, audio: bytes) -> None:
        self._read(self._reader.feed(audio))
        if self._script.fail_at is not None and self._reader.fed >= self._script.fail_at * RATE_HZ:
            # Also for requests: an engine that has failed answers no more, whichever task asks first.
            self._gone = True
            self._due.put(trio.current_time(), ProviderError("ScriptedEngine has failed, as scripted"))

    def _read(self, sounds: Sequence[Sound]) -> None:
        for sound in sounds:
            # No words in it; whether it was an interruption is up to the call.
            if sound.kind in (Kind.COUGH, Kind.SOUND):
                continue
            if sound.utterance != self._utterance:
                self._utterance = sound.utterance
                self._words += " "
            self._words += sound.words

    def voice(self, edge: VoiceEdge) -> None:
        delay = self._script.turn_delay
        if delay is not None and not edge.speaking:
            # From the end of the voice in the audio: the VAD reports it late, and the engine does not wait for our VAD.
            ended = trio.current_time() - (self._reader.fed - edge.offset) / RATE_HZ
            # Not in the past: what the VAD reported late is due at once.
            self._due.put(max(trio.current_time(), ended + delay), EngineTurnOver())

    def commit(self) -> int:
        # The call has pushed out what its resampler held; what this reader holds for
        # interpolation belongs to the utterance, too.
        self._read(self._reader.settle())
        self._commits += 1
        # In one step with the commit: audio that comes later belongs to the next utterance.
        text, self._words = " ".join(self._words.split()), ""
        self._add("user", text)
        now, delays = trio.current_time(), self._script.words_delay
        delay = delays[min(self._commits, len(delays)) - 1] if isinstance(delays, tuple) else delays
        if not self._script.silent:
            if self._script.interim and text:
                self._due.put(now + delay / 2, EngineWords(self._commits, text, final=False))
            self._due.put(now + delay, EngineWords(self._commits, text, final=True))
        return self._commits

    def discard(self) -> None:
        self._read(self._reader.settle())
        self._words = ""
        self._script.discarded.append(trio.current_time())

    def remember(self, message: Message) -> None:
        self._script.remembered.append(dict(message))
        self.conversation.append(dict(message))

    def forget(self, entry: dict[str, Any]) -> None:
        """Remove an entry that the caller did not hear."""
        # By identity: two responses may have the same words.
        self.conversation = [one for one in self.conversation if one is not entry]

    def _add(self, role: str, text: str) -> None:
        last: Mapping[str, Any] = self.conversation[-1] if self.conversation else {}
        # Commits without an answer between them are one message, as in the history of a call.
        if last.get("role") == role == "user":
            self.conversation[-1] = {"role": role, "content": f"{last['content']} {text}".strip()}
        else:
            self.conversation.append({"role": role, "content": text})

    def events(self) -> AsyncIterator[EngineEvent]:
        return self._due

    # The engine -------------------------------------------------------------------------------------------------------
    @asynccontextmanager
    async def respond(self, text: str = "", *, tools: bool = True) -> AsyncIterator[EngineResponse]:
        if self._gone:
            raise ProviderError("ScriptedEngine has failed, as scripted")
        offered = self._setup.tools if tools else ()
        # The conversation at this instant, before the response's own entry.
        messages = [{"role": "system", "content": self._setup.instructions}, *self.conversation]
        response = _Response(self, messages, offered, text)
        async with open_flat_nursery() as nursery:
            # Before the yield: the answer is under way even if the call does not take a piece yet.
            response.begin(nursery)
            yield response
            # Leaving the response stops it: as the interface demands, at once.
            nursery.cancel_scope.cancel()

    @property
    def script(self) -> ScriptedEngine:
        return self._script

    @property
    def voice_of(self) -> Any:
        return self._voice_of


class _Response(EngineResponse):
    """A response: the text and the speech of the script, merged into one stream."""

    def __init__(
        self, session: _Session, messages: list[dict[str, Any]], tools: tuple[ToolDefinition, ...], text: str
    ) -> None:
        self._session, self._messages, self._tools, self._text = session, messages, tools, text
        self._put, self._pieces = trio.open_memory_channel[str | SpeechChunk | ToolCall](MAX_WAITING_PIECES)
        self._said = text
        self._spoken = PlayoutQueue(0)
        """The speech so far, to compute what the caller heard."""
        self._cut = False
        self._entry: dict[str, Any] = {"role": "assistant", "content": text}

    def begin(self, nursery: trio.Nursery) -> None:
        # From the beginning: a response that is cut keeps its place before the caller's next words.
        self._session.conversation.append(self._entry)
        sentences, to_voice = trio.open_memory_channel[str](MAX_WAITING_PIECES)
        # A clone for each task: the pieces end when both have closed theirs.
        nursery.start_soon(self._think, sentences, self._put.clone())
        nursery.start_soon(self._speak, to_voice, self._put)

    async def _think(
        self, sentences: trio.MemorySendChannel[str], put: trio.MemorySendChannel[str | SpeechChunk | ToolCall]
    ) -> None:
        # A plain ``with``: leaving ``async with`` is a checkpoint, where a cancellation could replace the failure.
        with sentences, put:
            if self._text:
                await put.send(self._text)
                await sentences.send(self._text)
                return
            chunker = SentenceChunker(language="en")
            offered = {"tools": self._tools} if self._tools else {}
            async with self._session.script.llm.stream(self._messages, **offered) as items:
                async for item in items:
                    if isinstance(item, ToolCall):
                        for sentence in chunker.flush():  # the text before a tool call is spoken while the tool runs
                            await sentences.send(sentence)
                        await self._call(item, put)
                        continue
                    self._said += item
                    # After a cut, the entry has the words that were heard, and late
                    # tokens must not bring back the rest.
                    if not self._cut:
                        self._entry["content"] = self._said
                    # The text before its speech, as from an engine: a call has the words when their audio comes.
                    await put.send(item)
                    for sentence in chunker.push(item):
                        await sentences.send(sentence)
            for sentence in chunker.flush():
                await sentences.send(sentence)

    async def _call(self, call: ToolCall, put: trio.MemorySendChannel[str | SpeechChunk | ToolCall]) -> None:
        # Unique in the conversation: a result names its call by it.
        number = sum(len(message.get("tool_calls", ())) for message in self._session.conversation) + 1
        named = attrs.evolve(call, id=call.id or f"scripted_{number}")
        wish = {"id": named.id, "name": named.name, "arguments": named.arguments}
        self._entry.setdefault("tool_calls", []).append(wish)
        await put.send(named)

    async def _speak(
        self,
        sentences: trio.MemoryReceiveChannel[str],
        put: trio.MemorySendChannel[str | SpeechChunk | ToolCall],
    ) -> None:
        emits = self._session.script.emits
        with put, sentences:
            async with self._session.voice_of.speak(sentences) as chunks:
                async for chunk in chunks:
                    # The ledger of a call, fed with silence of the same length: the
                    # script estimates heard words as a call does.
                    self._spoken.put(bytes(round(emits.seconds(chunk.audio) * RATE_HZ)), chunk.text, chunk.words)
                    # Without its text, which was sent as a piece of its own.
                    await put.send(attrs.evolve(chunk, text=""))
            self._spoken.end()

    async def __anext__(self) -> str | SpeechChunk | ToolCall:
        try:
            return await self._pieces.receive()
        # From None: the end of the channel is how an iteration ends here, not a failure to be shown.
        except trio.EndOfChannel:
            raise StopAsyncIteration from None

    def heard(self, seconds: float) -> None:
        self._session.script.heard.append(seconds)
        self._cut = True
        self._entry["content"] = self._spoken.heard(round(seconds * RATE_HZ)).text
        # The result of a tool needs its call in the conversation, even if nothing of the speech was heard.
        if not self._entry["content"] and "tool_calls" not in self._entry:
            self._session.forget(self._entry)
