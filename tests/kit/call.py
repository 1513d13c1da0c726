"""The tools of the tests of whole calls: agents of scripted providers, and providers that stall or break on request."""

from collections.abc import AsyncGenerator, AsyncIterable, AsyncIterator, Sequence
from contextlib import aclosing, asynccontextmanager
from typing import Any, Literal

import attrs
import trio

from patter_trio import Agent, Patter, PatterEventType
from patter_trio.abc import (
    LanguageModel,
    Message,
    SpeechChunk,
    SpeechToText,
    SpeechToTextSession,
    TextToSpeech,
    TextToSpeechSession,
    Transcript,
    TurnDetector,
    VoiceActivity,
    VoiceActivitySession,
    VoiceEdge,
)
from patter_trio.audio.g711 import Samples
from patter_trio.errors import ProviderError
from patter_trio.metrics.internal_events import CallEvent, Event
from patter_trio.server.options import Seams
from patter_trio.testing import ScriptedEngine, ScriptedLLM, ScriptedSTT, ScriptedTTS, ScriptedVAD
from patter_trio.testing.scripted_providers.audible_text import Decoder
from patter_trio.testing.simulation.caller import SimulatedCaller

SORRY = "Sorry, again please."


def _options(replies: tuple[str, ...], options: dict[str, Any]) -> dict[str, Any]:
    return {
        # Everything scripted, and nothing random: each test replaces what it is about.
        "system_prompt": "You are brief.",
        "phone_preamble": False,
        "vad": ScriptedVAD(),
        "stt": ScriptedSTT(),
        "llm": ScriptedLLM(replies or ["Yes."]),
        "tts": ScriptedTTS(),
        "error_message": SORRY,
    } | options


@attrs.frozen
class Backend:
    """The backend of a test's agents: a pipeline of scripted providers, or one scripted engine.

    What the package promises of calls holds for both: a module marked ``both_backends`` runs each test that takes the
    fixture ``backend`` with both.
    """

    name: Literal["pipeline", "engine"]

    @property
    def is_pipeline(self) -> bool:
        return self.name == "pipeline"

    @property
    def is_engine(self) -> bool:
        return self.name == "engine"

    def agent(self, *arguments: Any, **options: Any) -> Agent:
        """Make an agent from a pipeline's options; an engine gets the LLM's replies and the TTS's audio."""
        if self.is_engine:
            # The engine takes the place of all three, with the answers and the speech that the test has chosen for
            # them.
            stt, llm, tts = (options.pop(part) for part in ("stt", "llm", "tts"))
            if llm is None:
                raise ValueError("on_message answers here: mark the test with pytest.mark.pipeline")
            # An engine gives interim words half-way to its final ones; without a delay there is no half-way.
            guesses = {"interim": True, "words_delay": 0.2} if getattr(stt, "interim_every", None) else {}
            # Under the model's name: metrics and prices are then the same with both backends.
            names = {"provider": llm.provider, "model": llm.model}
            options["engine"] = ScriptedEngine(llm=llm, tts=tts, **names, **guesses)
        return Patter().agent(*arguments, **options)

    def agent_of(self, *replies: str, **options: Any) -> Agent:
        """Make an agent of scripted providers; an option replaces a provider."""
        return self.agent(**_options(replies, options))

    def faulty_agent(self, at: "At", **options: Any) -> Agent:
        """Make an agent whose providers call ``at`` at each of their places."""
        chosen: dict[str, Any] = {
            "vad": FaultyVAD(at),
            "stt": FaultySTT(at),
            "llm": FaultyLLM(at),
            "tts": FaultyTTS(at),
        }
        return self.agent_of(**chosen | options)


PIPELINE = Backend("pipeline")
ENGINE = Backend("engine")
agent_of = PIPELINE.agent_of
faulty_agent = PIPELINE.faulty_agent


BUS_ONLY = {str(kind) for kind in PatterEventType} - {"transcript_partial"}
"""What only the event bus calls so."""


def reported_events(caller: SimulatedCaller) -> list[tuple[float, str, dict[str, Any]]]:
    """Return the events that callbacks receive, and the interim transcripts."""
    # The bus publishes more than callbacks get, and some of it at the same instants; most tests are about callbacks.
    return [event for event in caller.events if event[1] not in BUS_ONLY]


def edges(caller: SimulatedCaller) -> list[tuple[float, str]]:
    """Return the events that callbacks receive, except metrics, each with its instant in ms."""
    return [(round(at * 1000), name) for at, name, _ in reported_events(caller) if name != "metrics"]


def transcripts_of(caller: SimulatedCaller, role: str) -> list[str]:
    """Return the texts that on_transcript received of one side."""
    return [payload["text"] for payload in caller.payloads("transcript") if payload["role"] == role]


async def hangs_up_in_time(caller: SimulatedCaller) -> float:
    """Hang up, wait for the end of the call, and return how long it took."""
    began = caller.now
    await caller.hangs_up()
    # No await between the look and the wait, as Pulse requires.
    while not caller.times("call_end"):
        await caller._log.news()
    return caller.times("call_end")[0] - began


def sound_of_agent(caller: SimulatedCaller) -> str:
    """Return the words in all audio that the caller heard, with or without an event about it."""
    sounds = (sound for stretch in caller.carrier.played() for sound in Decoder().feed(stretch.audio))
    return "".join(sound.words for sound in sounds)


# Providers that stall or break at one place ---------------------------------------------------------------------------
async def stall() -> None:
    await trio.sleep_forever()


async def break_down() -> None:
    """Raise an error that a provider must never raise, as a bug does."""
    # Not a ProviderError: the call must end as after any bug, with an apology.
    raise RuntimeError("a bug of the provider")


async def give_up() -> None:
    await trio.lowlevel.checkpoint()
    raise ProviderError("given up")


@attrs.frozen
class At:
    """An action at one place, each time or only the ``nth`` time, which records the places that were reached."""

    place: str
    act: Any = stall
    nth: int = 0
    reached: list[str] = attrs.field(factory=list)

    async def __call__(self, place: str) -> None:
        if place == self.place:
            self.reached.append(place)
            # Counted at this place only: "the second token" is the second time that its place is reached.
            if self.nth in (0, len(self.reached)):
                await self.act()


@attrs.frozen
class FaultyVAD(VoiceActivity):
    at: At
    inner: VoiceActivity = attrs.field(factory=ScriptedVAD)

    @asynccontextmanager
    async def open(self) -> AsyncIterator[VoiceActivitySession]:
        await self.at("vad.open")
        async with self.inner.open() as session:
            yield _FaultyVoice(self.at, session)


class _FaultyVoice(VoiceActivitySession):
    def __init__(self, at: At, inner: VoiceActivitySession) -> None:
        self.at, self.inner = at, inner

    async def feed(self, samples: Samples) -> Sequence[VoiceEdge]:
        edges = await self.inner.feed(samples)
        # Only when something was found: each frame is fed, and a test names the edge, not the frame.
        if edges:
            await self.at("vad.feed")
        return edges


@attrs.frozen
class FaultySTT(SpeechToText):
    at: At
    inner: SpeechToText = attrs.field(factory=ScriptedSTT)
    provider: str = "faulty"
    model: str = "faulty"

    @asynccontextmanager
    async def open(self, *, language: str) -> AsyncIterator[SpeechToTextSession]:
        await self.at("stt.open")
        async with self.inner.open(language=language) as session:
            yield _FaultyRecognition(self.at, session)


class _FaultyRecognition(SpeechToTextSession):
    def __init__(self, at: At, inner: SpeechToTextSession) -> None:
        self.at, self.inner = at, inner

    async def send(self, audio: bytes) -> None:
        await self.at("stt.send")
        await self.inner.send(audio)

    async def voice(self, edge: VoiceEdge) -> None:
        await self.at("stt.voice")
        await self.inner.voice(edge)

    async def flush(self) -> None:
        await self.at("stt.flush")
        await self.inner.flush()

    async def transcripts(self) -> AsyncIterator[Transcript]:
        await self.at("stt.transcripts")
        # A generator, which the package closes when it stops listening; a place after each result shows that it does.
        async for transcript in self.inner.transcripts():
            yield transcript
            await self.at("stt.next")


@attrs.frozen
class FaultyLLM(LanguageModel):
    at: At
    text: str = "One two. Three four."
    provider: str = "faulty"
    model: str = "faulty"

    @asynccontextmanager
    async def stream(self, messages: Sequence[Message]) -> AsyncIterator[AsyncIterator[str]]:
        await self.at("llm.stream")
        # Closed before ``llm.close`` is reached: the place stands for the end of the request.
        async with aclosing(self._tokens()) as tokens:
            yield tokens
        # Not in ``finally``: a cancelled answer does not get there, and must not wait.
        await self.at("llm.close")

    async def _tokens(self) -> AsyncGenerator[str, None]:
        for number, word in enumerate(self.text.split()):
            await self.at("llm.first" if number == 0 else "llm.next")
            yield f" {word}" if number else word


@attrs.frozen
class FaultyTTS(TextToSpeech):
    at: At
    # Long enough for any test to do something while the agent speaks.
    inner: TextToSpeech = attrs.field(factory=lambda: ScriptedTTS(duration=5.0))
    provider: str = "faulty"
    model: str = "faulty"

    @asynccontextmanager
    async def open(self, *, language: str) -> AsyncIterator[TextToSpeechSession]:
        await self.at("tts.open")
        async with self.inner.open(language=language) as session:
            yield _FaultySynthesis(self.at, session)


class _FaultySynthesis(TextToSpeechSession):
    def __init__(self, at: At, inner: TextToSpeechSession) -> None:
        self.at, self.inner = at, inner

    @asynccontextmanager
    async def speak(self, sentences: AsyncIterable[str]) -> AsyncIterator[AsyncIterator[SpeechChunk]]:
        await self.at("tts.speak")
        async with self.inner.speak(sentences) as chunks, aclosing(self._chunks(chunks)) as reported:
            yield reported

    async def _chunks(self, chunks: AsyncIterator[SpeechChunk]) -> AsyncGenerator[SpeechChunk, None]:
        await self.at("tts.first")
        async for chunk in chunks:
            yield chunk
            await self.at("tts.next")


@attrs.frozen
class FixedDetector(TurnDetector):
    """A turn detector that returns ``verdict`` after ``delay`` seconds."""

    verdict: float = 0.9
    delay: float = 0.0
    # A place that no provider has: nothing happens.
    at: At = At("never")
    asked: list[int] = attrs.field(factory=list)

    async def complete(self, samples: Samples) -> float:
        self.asked.append(len(samples))
        await self.at("detector")
        await trio.sleep(self.delay)
        return self.verdict


# Callbacks that misbehave -------------------------------------------------------------------------------------------
async def raises(event: dict[str, Any]) -> None:
    raise ValueError("no such customer")


async def sleeps(event: dict[str, Any]) -> None:
    # Longer than a callback is waited for before the answer, shorter than after the call.
    await trio.sleep(10.0)


async def never_returns(event: dict[str, Any]) -> None:
    await trio.sleep_forever()


# What is seen of a call -----------------------------------------------------------------------------------------------
@attrs.frozen
class Witness:
    """An observer that records every event."""

    seen: list[CallEvent] = attrs.field(factory=list)

    @property
    def seams(self) -> Seams:
        """Have a call observed: ``call_simulator(agent, seams=witness.seams)``."""
        return Seams(observers=[self])

    def wants(self, kind: type[CallEvent]) -> bool:
        return True

    def on_event(self, event: CallEvent, at: float) -> None:
        assert at >= 0
        self.seen.append(event)

    def of(self, kind: type[Event]) -> list[Event]:
        """Return the events of one class."""
        return [event for event in self.seen if isinstance(event, kind)]

    def of_reply(self, number: int) -> list[type[CallEvent]]:
        """Return the classes of a reply's events, each run of the same class as one."""
        kinds = [type(event) for event in self.seen if getattr(event, "reply", None) == number]
        # Runs are shortened because the number of tokens and chunks is the script's business.
        return [kind for place, kind in enumerate(kinds) if kinds[:place][-1:] != [kind]]
