"""Is it a recogniser? ``check_stt`` puts one to the test."""

from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import asynccontextmanager
from functools import partial
from typing import Any, Final, TypeVar

import attrs
import trio

from patter_trio.abc import SpeechToText, SpeechToTextSession, Transcript, VoiceEdge
from patter_trio.audio import g711
from patter_trio.audio.convert import converted, rate_problem
from patter_trio.audio.formats import FRAME_SAMPLES, FRAME_SECONDS, MULAW_8K, AudioFormat
from patter_trio.conversation.text import is_sayable
from patter_trio.net.tasks import run_beside
from patter_trio.testing.conformance.bench import (
    STEP_TIMEOUT_S,
    Bench,
    Check,
    Credentials,
    demand,
    failure_of,
    finish_within,
    run_checks,
)
from patter_trio.testing.conformance.collected import Collected
from patter_trio.testing.conformance.common import COMMON
from patter_trio.testing.scripted import audible_text
from patter_trio.testing.servers.fake_vendor import ServeVendor

_QUIET_WAIT_S: Final = 0.5
"""Seconds that are waited for results that nobody asked for."""
_BACKLOG_S: Final = 30.0
"""Seconds of audio that come at once after a stall."""

B = TypeVar("B", bound=Bench)


@attrs.frozen
class Speech:
    """A voice: mu-law at 8 kHz, with the samples at which it begins and ends; the words, where they are known."""

    audio: bytes = attrs.field(repr=False)
    begin: int = 0
    end: int = -1
    """-1: with the audio."""
    words: str | None = None
    """What the final words have to be; None: any."""

    @property
    def edges(self) -> Iterator[VoiceEdge]:
        """The edges of the voice, as a detector without delay tells them."""
        yield VoiceEdge(speaking=True, offset=self.begin)
        yield VoiceEdge(speaking=False, offset=len(self.audio) if self.end < 0 else self.end)


def _simulated(text: str) -> Speech:
    return Speech(audible_text.encode(text, audible_text.frames_of(0.6), utterance=1))


SIMULATED: Final = (_simulated("One room, please"), _simulated("Two of them"))
"""In the voice of a simulated caller, which to any other recogniser is sound of the loudness of a voice."""


@attrs.define(eq=False)
class _Heard(Collected[Transcript]):
    """The results of a session."""

    def finals(self) -> list[Transcript]:
        return [result for result in self.items if result.final]

    async def another(self, finals: int, what: str) -> None:
        """Wait until there are more than so many finals."""
        demands = "the next final transcript answers a flush, empty or not"
        await self.until(lambda: len(self.finals()) > finals, f"the answer to {what}", demands)


def frames_of(speech: bytes, accepts: AudioFormat) -> list[bytes]:
    """Return mu-law speech in the format that is accepted, in pieces of 20 ms."""
    audio = converted(speech, MULAW_8K, accepts)
    size = round(FRAME_SECONDS * accepts.rate) * accepts.width  # whole samples at every rate
    return [audio[begin : begin + size] for begin in range(0, len(audio), size)]


@attrs.frozen
class SttBench(Bench):
    """Uses a recogniser."""

    speech: Sequence[Speech] = SIMULATED

    async def use(self, provider: SpeechToText, variant: int = 0) -> str:
        """Say something, have the last words come, and close."""
        async with self.session(provider) as (session, heard):
            await self.say(session, provider, self.speech[variant])
            await self.flush(session, heard)
            return " ".join(result.text for result in heard.finals() if result.text)

    @asynccontextmanager
    async def session(self, provider: SpeechToText) -> AsyncIterator[tuple[SpeechToTextSession, _Heard]]:
        """Open a session whose results are collected."""
        async with provider.open(language=self.language) as session:
            heard = _Heard("transcripts")
            async with run_beside(partial(heard.collect, session.transcripts())):
                yield session, heard

    async def say(
        self, session: SpeechToTextSession, provider: SpeechToText, speech: Speech, *, after: int = 0
    ) -> None:
        """Say something at the pace of speech, ``after`` so many samples of the session."""
        edges, sent = list(speech.edges), 0
        for frame in frames_of(speech.audio, provider.accepts):
            await session.send(frame)
            sent += FRAME_SAMPLES
            while edges and edges[0].offset <= sent:
                edge = edges.pop(0)
                await session.voice(attrs.evolve(edge, offset=edge.offset + after))
            await trio.sleep(FRAME_SECONDS)

    async def flush(self, session: SpeechToTextSession, heard: _Heard) -> None:
        """Have the last words come, and wait for what comes behind them."""
        finals = len(heard.finals())
        await session.flush()
        await heard.another(finals, "a flush")
        await trio.sleep(_QUIET_WAIT_S)
        heard.check_alive()

    @asynccontextmanager
    async def begun(self, provider: SpeechToText) -> AsyncIterator[None]:
        """Say something; the block is where nothing was flushed yet."""
        async with self.session(provider) as (session, _):
            await self.say(session, provider, self.speech[0])
            yield


async def _accepts_telephone_speech(bench: SttBench) -> None:
    accepts = bench.provider().accepts
    demand(
        not (problem := rate_problem(accepts)), f"it accepts audio {problem}", "the call converts to those rates alone"
    )


async def _gives_transcripts(bench: SttBench) -> None:
    provider = bench.provider()
    async with bench.session(provider) as (session, heard):
        await bench.say(session, provider, bench.speech[0])
        await bench.flush(session, heard)
    for result in heard.items:
        right = (
            isinstance(result, Transcript)
            and isinstance(result.text, str)
            and isinstance(result.final, bool)
            and isinstance(result.segment, int)
        )
        demand(
            right, f"it gave {result!r}"[:120], "results are abc.Transcript: a text, whether it is final, its segment"
        )
        demand(is_sayable(result.text), f"it gave {result.text!r}", "a text can be written down as UTF-8")
    words, wanted = " ".join(result.text for result in heard.finals() if result.text), bench.speech[0].words
    demand(words, "it gave no final words for speech", "speech has words")
    demand(wanted in (None, words), f"it heard {words!r}", f"what was said is {wanted!r}")


async def _closes_segments(bench: SttBench) -> None:
    provider, closed, newest = bench.provider(), set[int](), -1
    async with bench.session(provider) as (session, heard):
        await bench.say(session, provider, bench.speech[0])
        await bench.flush(session, heard)
        await bench.say(session, provider, bench.speech[1], after=len(bench.speech[0].audio))
        await bench.flush(session, heard)
    for result in heard.items:
        demand(
            result.segment not in closed,
            f"it gave {result.text!r} for segment {result.segment} after that segment's final",
            "the final result closes its segment",
        )
        demand(
            result.segment >= newest,
            f"it gave segment {result.segment} after {newest}",
            "segments are numbered in the order of the audio",
        )
        newest = result.segment
        if result.final:
            closed.add(result.segment)


async def _goes_on_after_a_flush(bench: SttBench) -> None:
    provider = bench.provider()
    async with bench.session(provider) as (session, heard):
        await bench.say(session, provider, bench.speech[0])
        await bench.flush(session, heard)
        before = len(heard.finals())
        await bench.say(session, provider, bench.speech[1], after=len(bench.speech[0].audio))
        await bench.flush(session, heard)
    words = [result.text for result in heard.finals()[before:] if result.text]
    demand(words, "it heard nothing after a flush", "a flush does not end the session")


async def _answers_a_flush_of_nothing(bench: SttBench) -> None:
    provider = bench.provider()
    async with bench.session(provider) as (session, heard):
        await bench.flush(session, heard)
        await session.send(converted(g711.silence(0.2), MULAW_8K, provider.accepts))
        await bench.flush(session, heard)
    words = [result.text for result in heard.items if result.text]
    demand(not words, f"it heard {words[:1]} in silence", "the final is empty where there are no words")


async def _takes_audio_of_any_size(bench: SttBench) -> None:
    provider = bench.provider()
    async with bench.session(provider) as (session, heard):
        with finish_within(
            STEP_TIMEOUT_S, f"sending {_BACKLOG_S:g} s of audio at once", "audio comes in pieces of any size"
        ):
            for samples in (b"", g711.silence(FRAME_SECONDS / FRAME_SAMPLES), g711.silence(_BACKLOG_S)):
                await session.send(converted(samples, MULAW_8K, provider.accepts))
        await bench.flush(session, heard)


async def _tells_what_it_cannot_speak(bench: SttBench) -> None:
    for language in ("", "日本語", "en-US-x-" + "a" * 2000, "xx\r\nX-Injected: 1"):
        odd = attrs.evolve(bench, language=language)

        async def opened(odd: SttBench = odd) -> None:
            async with odd.session(odd.provider()):
                pass

        await failure_of(opened, f"the language {language[:20]!r}")


CHECKS: Final = (
    *COMMON,
    Check("accepts telephone speech", _accepts_telephone_speech),
    Check("gives transcripts", _gives_transcripts),
    Check("closes segments", _closes_segments),
    Check("goes on after a flush", _goes_on_after_a_flush),
    Check("answers a flush of nothing", _answers_a_flush_of_nothing),
    Check("takes audio of any size", _takes_audio_of_any_size),
    Check("takes any language tag", _tells_what_it_cannot_speak),
)
STT_CHECKS: Final = tuple(check.name for check in CHECKS)
"""The names of the checks, in their order."""


async def check_stt(
    make: Callable[..., Any],
    *names: str,
    vendor: ServeVendor | None = None,
    credentials: Credentials | None = None,
    language: str = "en",
    speech: Sequence[Speech] = SIMULATED,
    points: int = 150,
    without: Sequence[str] = (),
) -> None:
    """Check that a recogniser is what :class:`patter_trio.abc.SpeechToText` demands.

    Args:
        make: makes the provider: without arguments, or given the address of the fake vendor.
        names: the checks to run, of :data:`STT_CHECKS`; none: all that can be run with what is given.
        vendor: starts a fake of its vendor, if it has one.
        credentials: if it has any.
        language: BCP 47 tag to open sessions with.
        speech: two different things to say that it can hear.
        points: most steps at which a use is cancelled, one after another; more are spread evenly.
        without: the names of checks to leave out.

    Raises:
        NotConforming: it is not; a line for each check that failed.
        ValueError: there is no check of that name, or what it needs was not given.
    """
    bench = SttBench(SpeechToText, make, vendor, credentials, language=language, points=points, speech=speech)
    await run_checks(bench, CHECKS, names, without)
