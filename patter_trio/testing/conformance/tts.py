"""The conformance checks of TTS providers; ``check_tts`` runs them."""

from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from functools import partial
from typing import Any, Final

import attrs
import trio

from patter_trio.abc import SpeechChunk, TextToSpeech, TextToSpeechSession
from patter_trio.audio.convert import rate_problem
from patter_trio.audio.formats import AudioFormat
from patter_trio.conversation.text import is_sayable
from patter_trio.testing.conformance.bench import (
    STEP_TIMEOUT_S,
    Bench,
    Check,
    Credentials,
    demand,
    failure_of,
    finish_within,
    run_checks,
    short,
)
from patter_trio.testing.conformance.common import COMMON, REPLIES, demand_stop
from patter_trio.testing.servers.fake_vendor import ServeVendor

TEXTS: Final = (("Good morning.", "We are open from nine to five."), ("I am sorry.", "There is no room left."))
"""Two replies, as sentences."""
# Not one of them has to be spoken. But whatever is raised has to be a ProviderError, and nothing may hang.
_ODD_TEXTS: Final = {
    "only punctuation": ["...", "?!", "\u2014"],
    "white space": ["", " ", "\n"],
    "many scripts": ["Grüße, 你好, שלום, नमस्ते, \U0001f469\u200d\U0001f4bb, e\u0301."],
    # With what looks like markup to a vendor that takes SSML.
    "control characters": ["a\x00b\x1bc\r\n\r\nd\u2028e <break/> &amp; <speak>"],
    # From ``json.loads`` of an emoji that was cut in two: it is a string, and cannot be encoded.
    "a lone surrogate": ["so \ud83d"],
}
"""Texts that an LLM may generate."""
# Vendors give times in milliseconds.
_TIME_TOLERANCE_S: Final = 0.001
"""Seconds by which rounding may shift the time of a word."""
# 6,000 characters without a full stop, as an LLM may write them: more than many vendors take in one request.
_LONG_SENTENCE: Final = "This sentence goes on and on, " * 200 + "and then it ends."


def _words(text: str) -> str:
    return " ".join(text.split())


@attrs.frozen(eq=False)
class Spoken:
    """The text of a reply and the bytes of its audio.

    Lengths that differ by a quarter are equal, for TTS is not exact.
    """

    text: str
    size: int

    def __eq__(self, other: object) -> bool:
        # Neural voices differ from one time to the next; a quarter is more than that, and less than a sentence.
        return isinstance(other, Spoken) and self.text == other.text and abs(self.size - other.size) * 4 <= self.size

    def __hash__(self) -> int:
        # By the text alone: equal objects must have equal hashes, and sizes that count as equal may differ.
        return hash(self.text)


def spoken_by(chunks: Sequence[SpeechChunk]) -> Spoken:
    """Return the text and the size of the chunks."""
    return Spoken(_words(" ".join(chunk.text for chunk in chunks)), sum(len(chunk.audio) for chunk in chunks))


@attrs.frozen
class TtsBench(Bench):
    """A bench that has text spoken."""

    texts: Sequence[Sequence[str]] = TEXTS

    async def use(self, provider: TextToSpeech, variant: int = 0) -> Spoken:
        """Speak a reply to its end."""
        async with provider.open(language=self.language) as session:
            return spoken_by(await self.spoken(session, self.texts[variant]))

    async def spoken(self, session: TextToSpeechSession, sentences: Sequence[str]) -> list[SpeechChunk]:
        """Speak sentences that arrive through a channel, as in a call, and return the chunks."""
        async with self.speaking(session, sentences) as chunks:
            return [chunk async for chunk in chunks]

    @asynccontextmanager
    async def speaking(
        self, session: TextToSpeechSession, sentences: Sequence[str], *, goes_on: bool = False
    ) -> AsyncIterator[AsyncIterator[SpeechChunk]]:
        """Open the speech of sentences; with ``goes_on``, the text does not end while the block runs."""
        # Room for all, so that filling it needs no task: an LLM is faster than its TTS.
        send, receive = trio.open_memory_channel[str](max(1, len(sentences)))
        with send, receive:
            for sentence in sentences:
                send.send_nowait(sentence)
            # The sending end closes here, before the provider reads: it must take the rest, and end then.
            if not goes_on:
                send.close()
            async with session.speak(receive) as chunks:
                yield chunks

    @asynccontextmanager
    async def begun(self, provider: TextToSpeech) -> AsyncIterator[None]:
        """Speak a reply in a session of its own, and run the block once its first audio has come."""
        # Session and reply are left together, as when a caller hangs up.
        async with provider.open(language=self.language) as session, self.reply_begun(session):
            yield

    @asynccontextmanager
    async def reply_begun(self, session: TextToSpeechSession) -> AsyncIterator[None]:
        """Speak a reply, and run the block once its first audio has come."""
        async with self.speaking(session, self.texts[0]) as chunks:
            async for chunk in chunks:
                # A provider may announce a text before its audio; a reply has begun when there is something to hear.
                if chunk.audio:
                    break
            yield


def seconds_of(chunk: SpeechChunk, emits: AudioFormat) -> float:
    """Return the duration of a chunk in seconds."""
    return (chunk.format or emits).seconds(chunk.audio)


async def _emits_telephone_speech(bench: TtsBench) -> None:
    provider = bench.provider()
    problem = rate_problem(provider.emits)
    demand(not problem, f"it emits audio {problem}", "the call converts only those rates")
    async with provider.open(language=bench.language) as session:
        chunks = await bench.spoken(session, bench.texts[0])
    for chunk in chunks:
        right = isinstance(chunk, SpeechChunk) and isinstance(chunk.audio, bytes) and isinstance(chunk.text, str)
        demand(
            right, f"it gave {chunk!r}"[:120], "speech comes as abc.SpeechChunk: bytes, and the text that begins there"
        )
        size = (chunk.format or provider.emits).width
        demand(len(chunk.audio) % size == 0, f"a chunk has {len(chunk.audio)} bytes", "a chunk holds whole samples")
    demand(any(chunk.audio for chunk in chunks), "it gave no audio for a text", "a text is spoken")


async def _says_which_text_it_speaks(bench: TtsBench) -> None:
    provider = bench.provider()
    async with provider.open(language=bench.language) as session:
        chunks = await bench.spoken(session, bench.texts[0])
    reported, given = _words(" ".join(chunk.text for chunk in chunks)), _words(" ".join(bench.texts[0]))
    demand(
        reported == given,
        f"its chunks have the text {reported!r}, given {given!r}",
        "the chunks have the whole text, once, in order",
    )
    heard = [chunk for chunk in chunks if chunk.audio]
    # The text on the first audible chunk: a call counts a text as heard from where its chunk begins.
    demand(heard and heard[0].text, "its first audio has no text", "a text is on the chunk where its speech begins")
    demand(
        all(is_sayable(chunk.text) for chunk in chunks),
        "a chunk's text ends within a character",
        "a text can be encoded as UTF-8",
    )


async def _times_words_in_order(bench: TtsBench) -> None:
    provider = bench.provider()
    async with provider.open(language=bench.language) as session:
        chunks = await bench.spoken(session, bench.texts[0])
    begun, starts = 0.0, list[float]()
    given = _words(" ".join(bench.texts[0]))
    for chunk in chunks:
        lasts = seconds_of(chunk, provider.emits)
        for word in chunk.words:
            # The time of a word that began in an earlier chunk may be known only later; its start is then below 0.
            demand(
                begun + word.start >= -_TIME_TOLERANCE_S and word.start <= min(word.end, lasts) + _TIME_TOLERANCE_S,
                f"{word.text!r} is from {word.start:g} to {word.end:g} s in a chunk of {lasts:g} s",
                "times are seconds from the start of the chunk",
            )
            demand(word.text.strip() in given, f"it times {word.text!r}", "only words of the text have times")
            starts.append(begun + word.start)
        begun += lasts
    # Over chunks: times within each are relative, so its beginning is added.
    demand(starts == sorted(starts), f"words begin at {short(starts)}", "words come in their order")


async def _speaks_before_the_text_ends(bench: TtsBench) -> None:
    provider = bench.provider()
    async with (
        provider.open(language=bench.language) as session,
        bench.speaking(session, bench.texts[0], goes_on=True) as chunks,
    ):
        with finish_within(
            STEP_TIMEOUT_S,
            "the first audio of an unfinished text",
            "a sentence is spoken while the LLM generates the next",
        ):
            async for chunk in chunks:
                if chunk.audio:
                    break
            else:
                demand(False, "the iteration ended before its text", "it ends once the sentences have ended")


async def _is_silent_without_text(bench: TtsBench) -> None:
    provider = bench.provider()
    async with provider.open(language=bench.language) as session:
        with finish_within(STEP_TIMEOUT_S, "a reply without text", "the iteration ends once the sentences have ended"):
            chunks = await bench.spoken(session, [])
    demand(not any(chunk.audio for chunk in chunks), "it spoke without a text", "without text there is no audio")


async def _goes_on_after_a_barge_in(bench: TtsBench) -> None:
    provider = bench.provider()
    async with provider.open(language=bench.language) as session:
        alone = await bench.spoken(session, bench.texts[1])
        # Two: an abandoned reply may still be closing when the next begins, and that one is abandoned, too.
        for sentences in (bench.texts[0], bench.texts[0]):
            async with bench.speaking(session, sentences) as chunks:
                async for chunk in chunks:
                    if chunk.audio:
                        break
        after = await bench.spoken(session, bench.texts[1])
    demand(
        # The measure is the same text in the same session before any barge-in.
        spoken_by(after) == spoken_by(alone),
        f"after an abandoned reply it gave {spoken_by(after)} instead of {spoken_by(alone)}",
        "the next reply contains nothing of an abandoned one",
    )


async def _takes_any_text(bench: TtsBench) -> None:
    provider = bench.provider()
    for name, sentences in _ODD_TEXTS.items():
        await failure_of(partial(attrs.evolve(bench, texts=[sentences]).use, provider), name)


async def _takes_a_long_sentence(bench: TtsBench) -> None:
    long = attrs.evolve(bench, texts=[[_LONG_SENTENCE]])

    async def begin() -> None:
        # Only until the first audio: the whole sentence takes some six minutes to speak.
        async with long.begun(long.provider()):
            pass

    await failure_of(begin, "a sentence of a thousand words")


async def _tells_the_vendor_to_stop(bench: TtsBench) -> None:
    async with bench.provider().open(language=bench.language) as session:
        await demand_stop(bench, bench.reply_begun(session))


CHECKS: Final = (
    *COMMON,
    *REPLIES,
    Check("tells the vendor to stop", _tells_the_vendor_to_stop, needs_vendor=True),
    Check("emits telephone speech", _emits_telephone_speech),
    Check("says which text it speaks", _says_which_text_it_speaks),
    Check("times words in order", _times_words_in_order),
    Check("speaks before the text ends", _speaks_before_the_text_ends),
    Check("is silent without text", _is_silent_without_text),
    Check("goes on after a barge-in", _goes_on_after_a_barge_in),
    Check("takes any text", _takes_any_text),
    Check("takes a long sentence", _takes_a_long_sentence),
)
TTS_CHECKS: Final = tuple(check.name for check in CHECKS)
"""The names of the checks, in their order."""


async def check_tts(
    make: Callable[..., Any],
    *names: str,
    vendor: ServeVendor | None = None,
    credentials: Credentials | None = None,
    language: str = "en",
    texts: Sequence[Sequence[str]] = TEXTS,
    points: int = 150,
    without: Sequence[str] = (),
) -> None:
    """Check that a TTS provider does what :class:`patter_trio.abc.TextToSpeech` demands.

    Args:
        make: makes the provider: without arguments, or with the address of the fake vendor if there is one.
        names: the checks to run, from :data:`TTS_CHECKS`; without names, all checks that can run with the arguments
            given.
        vendor: starts a fake of the provider's vendor, if it has one.
        credentials: how to make the provider without credentials, if it needs any.
        language: BCP 47 tag to open sessions with.
        texts: two replies, as sentences.
        points: maximum number of steps at which a use is cancelled, one after another; of a longer use, evenly spread
            steps are taken.
        without: the names of checks to leave out.

    Raises:
        NotConforming: at least one check failed; the message has a line for each.
        ValueError: a name is unknown, or the vendor or the credentials that a named check needs were not given.
    """
    bench = TtsBench(TextToSpeech, make, vendor, credentials, language=language, points=points, texts=texts)
    await run_checks(bench, CHECKS, names, without)
