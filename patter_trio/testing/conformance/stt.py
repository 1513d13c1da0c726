"""The conformance checks of STT providers; ``check_stt`` runs them."""

from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import asynccontextmanager
from functools import partial
from typing import Any, Final, TypeVar

import attrs
import trio

from patter_trio.abc import SpeechToText, SpeechToTextSession, Transcript, VoiceEdge
from patter_trio.audio import g711
from patter_trio.audio.convert import converted, rate_problem
from patter_trio.audio.formats import FRAME_S, FRAME_SAMPLES, MULAW_8K, AudioFormat
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
from patter_trio.testing.scripted_providers import audible_text
from patter_trio.testing.servers.fake_vendor import ServeVendor

# Longer than the latencies of the package's own fakes: a result that was going to come has come.
_QUIET_WAIT_S: Final = 0.5
"""Seconds to wait for results that should not come."""
# Far more than the 5 s that a call keeps while a session opens; a provider must not depend on the call's bounds.
_BACKLOG_S: Final = 30.0
"""Seconds of audio that arrive at once after a stall."""

B = TypeVar("B", bound=Bench)


@attrs.frozen
class Speech:
    """A voice: mu-law at 8 kHz, the samples at which it begins and ends, and its words if they are known."""

    audio: bytes = attrs.field(repr=False)
    begin: int = 0
    end: int = -1
    """The sample at which the voice ends; -1 for the end of the audio."""
    words: str | None = None
    """The final words that the provider must return; None accepts any."""

    @property
    def edges(self) -> Iterator[VoiceEdge]:
        """The edges of the voice, as a VAD without delay reports them."""
        yield VoiceEdge(speaking=True, offset=self.begin)
        yield VoiceEdge(speaking=False, offset=len(self.audio) if self.end < 0 else self.end)


def _simulated(text: str) -> Speech:
    # 0.6 s: room for the words, which are written into the sound.
    return Speech(audible_text.encode(text, audible_text.frames_of(0.6), utterance=1))


# Voiced from the first sample to the last, so the edges are the ends of the audio.
SIMULATED: Final = (_simulated("One room, please"), _simulated("Two of them"))
"""Two utterances in the voice of a simulated caller; to any other STT provider they are sound as loud as a voice."""


@attrs.define(eq=False)
class _Heard(Collected[Transcript]):
    """The transcripts of a session."""

    def finals(self) -> list[Transcript]:
        return [result for result in self.items if result.final]

    async def another(self, finals: int, what: str) -> None:
        """Wait until there are more than ``finals`` final transcripts."""
        demands = "a flush is answered by the next final transcript, even if it is empty"
        # By number: a final may be empty, and may have the same words as the one before.
        await self.until(lambda: len(self.finals()) > finals, f"the answer to {what}", demands)


def frames_of(speech: bytes, accepts: AudioFormat) -> list[bytes]:
    """Return mu-law speech in the accepted format, in pieces of 20 ms."""
    audio = converted(speech, MULAW_8K, accepts)
    # From one conversion of the whole, because a resampler has to see the joints between the pieces.
    size = round(FRAME_S * accepts.rate) * accepts.width  # whole samples at every rate
    return [audio[begin : begin + size] for begin in range(0, len(audio), size)]


@attrs.frozen
class SttBench(Bench):
    """A bench that uses an STT provider."""

    speech: Sequence[Speech] = SIMULATED

    async def use(self, provider: SpeechToText, variant: int = 0) -> str:
        """Say something, flush, and return the final words."""
        async with self.session(provider) as (session, heard):
            await self.say(session, provider, self.speech[variant])
            await self.flush(session, heard)
            return " ".join(result.text for result in heard.finals() if result.text)

    @asynccontextmanager
    async def session(self, provider: SpeechToText) -> AsyncIterator[tuple[SpeechToTextSession, _Heard]]:
        """Open a session and collect its transcripts."""
        async with provider.open(language=self.language) as session:
            heard = _Heard("transcripts")
            async with run_beside(partial(heard.collect, session.transcripts())):
                yield session, heard

    async def say(
        self, session: SpeechToTextSession, provider: SpeechToText, speech: Speech, *, after: int = 0
    ) -> None:
        """Say something at the pace of speech, beginning ``after`` samples into the session."""
        edges, sent = list(speech.edges), 0
        for frame in frames_of(speech.audio, provider.accepts):
            await session.send(frame)
            sent += FRAME_SAMPLES
            # After the frame that contains it, as a VAD without delay reports it. Offsets
            # count from the session's first sample.
            while edges and edges[0].offset <= sent:
                edge = edges.pop(0)
                await session.voice(attrs.evolve(edge, offset=edge.offset + after))
            # In real time, as a carrier sends: a provider's own timeouts run meanwhile, and its buffers empty.
            await trio.sleep(FRAME_S)

    async def flush(self, session: SpeechToTextSession, heard: _Heard) -> None:
        """Flush the session, and wait for its answer and for anything after it."""
        finals = len(heard.finals())
        # The count before the flush: a final that comes during it is its answer.
        await session.flush()
        await heard.another(finals, "a flush")
        # Results that come after the answer are results of this check as well.
        await trio.sleep(_QUIET_WAIT_S)
        heard.check_alive()

    @asynccontextmanager
    async def begun(self, provider: SpeechToText) -> AsyncIterator[None]:
        """Say something, and run the block before anything is flushed."""
        async with self.session(provider) as (session, _):
            await self.say(session, provider, self.speech[0])
            yield


async def _accepts_telephone_speech(bench: SttBench) -> None:
    accepts = bench.provider().accepts
    demand(
        not (problem := rate_problem(accepts)), f"it accepts audio {problem}", "the call converts only to those rates"
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
        demand(is_sayable(result.text), f"it gave {result.text!r}", "a text can be encoded as UTF-8")
    words, wanted = " ".join(result.text for result in heard.finals() if result.text), bench.speech[0].words
    demand(words, "it gave no final words for speech", "speech is transcribed")
    # Words are compared only if the author has said which there are: a vendor's spelling is its own.
    demand(wanted in (None, words), f"it heard {words!r}", f"the caller said {wanted!r}")


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
            f"it gave {result.text!r} for segment {result.segment} after the final of that segment",
            "the final result closes its segment",
        )
        demand(
            # Equal is allowed: a segment has any number of interim results before its final one.
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
        # Only what comes after the first flush counts: the first utterance alone must not make the check pass.
        before = len(heard.finals())
        await bench.say(session, provider, bench.speech[1], after=len(bench.speech[0].audio))
        await bench.flush(session, heard)
    words = [result.text for result in heard.finals()[before:] if result.text]
    demand(words, "it transcribed nothing after a flush", "a flush does not end the session")


async def _answers_an_empty_flush(bench: SttBench) -> None:
    provider = bench.provider()
    async with bench.session(provider) as (session, heard):
        await bench.flush(session, heard)
        # Twice: without any audio, and with audio that has no words.
        await session.send(converted(g711.silence(0.2), MULAW_8K, provider.accepts))
        await bench.flush(session, heard)
    words = [result.text for result in heard.items if result.text]
    demand(not words, f"it transcribed silence as {words[:1]}", "the final transcript is empty if there are no words")


async def _takes_audio_of_any_size(bench: SttBench) -> None:
    provider = bench.provider()
    async with bench.session(provider) as (session, heard):
        with finish_within(
            STEP_TIMEOUT_S, f"sending {_BACKLOG_S:g} s of audio at once", "audio comes in pieces of any size"
        ):
            # Nothing, one sample, and what a stalled call delivers at once.
            for samples in (b"", g711.silence(FRAME_S / FRAME_SAMPLES), g711.silence(_BACKLOG_S)):
                await session.send(converted(samples, MULAW_8K, provider.accepts))
        await bench.flush(session, heard)


async def _takes_any_language_tag(bench: SttBench) -> None:
    # A tag may come from the application's data: none, not ASCII, too long for a URL, or
    # with a header of its own in it.
    for language in ("", "日本語", "en-US-x-" + "a" * 2000, "xx\r\nX-Injected: 1"):
        odd = attrs.evolve(bench, language=language)

        # A default argument, because a closure would see the next round's bench.
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
    Check("answers an empty flush", _answers_an_empty_flush),
    Check("takes audio of any size", _takes_audio_of_any_size),
    Check("takes any language tag", _takes_any_language_tag),
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
    """Check that an STT provider does what :class:`patter_trio.abc.SpeechToText` demands.

    Args:
        make: makes the provider: without arguments, or with the address of the fake vendor if there is one.
        names: the checks to run, from :data:`STT_CHECKS`; without names, all checks that can run with the arguments
            given.
        vendor: starts a fake of the provider's vendor, if it has one.
        credentials: how to make the provider without credentials, if it needs any.
        language: BCP 47 tag to open sessions with.
        speech: two different utterances that the provider can transcribe.
        points: maximum number of steps at which a use is cancelled, one after another; of a longer use, evenly spread
            steps are taken.
        without: the names of checks to leave out.

    Raises:
        NotConforming: at least one check failed; the message has a line for each.
        ValueError: a name is unknown, or the vendor or the credentials that a named check needs were not given.
    """
    bench = SttBench(SpeechToText, make, vendor, credentials, language=language, points=points, speech=speech)
    await run_checks(bench, CHECKS, names, without)
