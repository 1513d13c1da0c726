"""The conformance checks of engines; ``check_engine`` runs them."""

from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from functools import partial
from typing import Any, Final

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
    Message,
    SpeechChunk,
    ToolCall,
    ToolDefinition,
)
from patter_trio.audio import g711
from patter_trio.audio.convert import converted, rate_problem
from patter_trio.audio.formats import FRAME_S, FRAME_SAMPLES, MULAW_8K
from patter_trio.conversation.text import is_sayable
from patter_trio.errors import ProviderError
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
    short,
)
from patter_trio.testing.conformance.collected import Collected
from patter_trio.testing.conformance.common import COMMON, REPLIES, demand_stop
from patter_trio.testing.conformance.stt import SIMULATED, Speech, frames_of
from patter_trio.testing.conformance.tts import Spoken
from patter_trio.testing.servers.fake_vendor import Misbehaviour, ServeVendor

SETUP: Final = EngineSetup(instructions="You are the desk of a hotel.")
# Longer than the latencies of the package's own fakes: an event that was going to come has come.
_QUIET_WAIT_S: Final = 0.5
"""Seconds to wait for events that should not come."""
# Far more than the 5 s that a call keeps while an engine opens; a provider must not depend on the call's bounds.
_BACKLOG_S: Final = 30.0
"""Seconds of audio that arrive at once after a stall."""
_TEXT: Final = "Hotel Miller, good evening."
_ODD_TEXTS: Final = {
    "an empty text": "",
    "white space": " \n",
    "many scripts": "Grüße, 你好, שלום, नमस्ते, \U0001f469\u200d\U0001f4bb, e\u0301",
    "control characters": "a\x00b\x1bc\r\n\r\ndata: d\u2028e",
    # From ``json.loads`` of an emoji that was cut in two: it is a string, and cannot be encoded.
    "a lone surrogate": "so \ud83d",
    # A tool may return a whole page; the size is above the usual limits of messages and of buffers.
    "a megabyte": "word " * 200_000,
}
"""Texts that a caller, a program or a tool may pass."""
# With letters outside of ASCII in each place, because schemas and arguments are sent as JSON.
_TOOL: Final = ToolDefinition(
    "prices", "What a room costs: €.", {"type": "object", "properties": {"ñ": {"type": "string"}}}
)

Piece = str | SpeechChunk | ToolCall


@attrs.define(eq=False)
class _Events(Collected[EngineEvent]):
    """The events of a session: the caller's words, and the ends of turns."""

    def words(self) -> list[EngineWords]:
        return [event for event in self.items if isinstance(event, EngineWords)]

    def finals(self) -> dict[int, str]:
        """Return the final words of each commit; the first ones, if a commit has several."""
        # Reversed, because the last one wins in a dict: of several finals, the first is what a call would take.
        return {words.commit: words.text for words in reversed(self.words()) if words.final}

    async def closed(self, commit: int) -> str:
        """Wait for the final words of a commit and return them."""
        demands = "each commit is closed by final words, even if they are empty"
        await self.until(lambda: commit in self.finals(), f"the final words of commit {commit}", demands)
        return self.finals()[commit]


@attrs.frozen
class EngineBench(Bench):
    """A bench that has a conversation with an engine."""

    speech: Sequence[Speech] = SIMULATED
    setup: EngineSetup = SETUP

    async def use(self, provider: Engine, variant: int = 0) -> Spoken:
        """Say something, and read the answer to its end."""
        async with self.session(provider) as (session, events):
            # To the end of the audio and then the commit, in one order: that is all that
            # tells the engine where the utterance ends.
            await self.say(session, provider, self.speech[variant])
            commit = session.commit()
            pieces = await answer_of(session)
            return Spoken(f"{await events.closed(commit)}: {text_of(pieces)}", size_of(pieces))

    @asynccontextmanager
    async def session(self, provider: Engine) -> AsyncIterator[tuple[EngineSession, _Events]]:
        """Open a session and collect its events."""
        async with provider.open(attrs.evolve(self.setup, language=self.language)) as session:
            events = _Events("events")
            async with run_beside(partial(events.collect, session.events())):
                yield session, events

    async def say(self, session: EngineSession, provider: Engine, speech: Speech, *, after: int = 0) -> None:
        """Say something at the pace of speech, beginning ``after`` samples into the session."""
        edges, sent = list(speech.edges), 0
        for frame in frames_of(speech.audio, provider.accepts):
            session.send(frame)
            sent += FRAME_SAMPLES
            # After the frame that contains it, as a VAD without delay reports it. Offsets
            # count from the session's first sample.
            while edges and edges[0].offset <= sent:
                edge = edges.pop(0)
                session.voice(attrs.evolve(edge, offset=edge.offset + after))
            # In real time: an engine with its own turn detection may count the clock, and a buffer must not fill.
            await trio.sleep(FRAME_S)

    @asynccontextmanager
    async def begun(self, provider: Engine) -> AsyncIterator[None]:
        """Say something, and run the block once the first audio of the answer has come."""
        async with self.session(provider) as (session, _):
            await self.say(session, provider, self.speech[0])
            session.commit()
            async with self.answer_begun(session):
                yield

    @asynccontextmanager
    async def answer_begun(self, session: EngineSession) -> AsyncIterator[EngineResponse]:
        """Request an answer, and run the block once its first audio has come."""
        async with session.respond() as response:
            async for piece in response:
                # Audio, not words: a caller interrupts what can be heard.
                if isinstance(piece, SpeechChunk) and piece.audio:
                    break
            yield response


async def answer_of(session: EngineSession, text: str = "", *, tools: bool = True) -> list[Piece]:
    """Request an answer, and return all its pieces."""
    async with session.respond(text, tools=tools) as response:
        return [piece async for piece in response]


def text_of(pieces: Sequence[Piece]) -> str:
    """Return the words of an answer."""
    return " ".join("".join(piece for piece in pieces if isinstance(piece, str)).split())


def size_of(pieces: Sequence[Piece]) -> int:
    """Return the number of bytes of an answer's audio."""
    return sum(len(piece.audio) for piece in pieces if isinstance(piece, SpeechChunk))


async def _demand_well(session: EngineSession, what: str) -> None:
    """Demand that the session still answers.

    Raises:
        NotConforming: it does not.
    """
    # A session that was merely not broken is not enough: it has to work, within the deadline.
    with finish_within(STEP_TIMEOUT_S, f"an answer after {what}", "every await has a deadline"):
        pieces = await answer_of(session)
    demand(size_of(pieces), f"after {what} it gave no audio", "the session continues")


# Input ----------------------------------------------------------------------------------------------------------------
async def _has_telephone_speech(bench: EngineBench) -> None:
    provider = bench.provider()
    for name, audio in (("accepts", provider.accepts), ("emits", provider.emits)):
        problem = rate_problem(audio)
        demand(not problem, f"it {name} audio {problem}", "the call converts only those rates")
    async with bench.session(provider) as (session, _):
        pieces = await answer_of(session)
    for piece in pieces:
        if isinstance(piece, SpeechChunk):
            size = (piece.format or provider.emits).width
            # Cut short: a piece may hold seconds of audio.
            demand(isinstance(piece.audio, bytes), f"it gave {piece!r}"[:120], "audio is bytes")
            demand(len(piece.audio) % size == 0, f"a chunk has {len(piece.audio)} bytes", "a chunk holds whole samples")


async def _closes_each_commit_once(bench: EngineBench) -> None:
    provider, after = bench.provider(), 0
    async with bench.session(provider) as (session, events):
        commits = list[int]()
        for speech in bench.speech:
            await bench.say(session, provider, speech, after=after)
            after += len(speech.audio)
            commits.append(session.commit())
        for commit in commits:
            await events.closed(commit)
        # A second set of final words for a commit would come now.
        await trio.sleep(_QUIET_WAIT_S)
        events.check_alive()
    demand(commits == [1, 2], f"its commits are {commits}", "commits are numbered from 1")
    closed = set[int]()
    for event in events.items:
        right = isinstance(event, EngineWords | EngineTurnOver)
        demand(right, f"it yielded {event!r}"[:120], "events are abc.EngineWords and abc.EngineTurnOver")
        if isinstance(event, EngineWords):
            demand(is_sayable(event.text), f"it yielded {event.text!r}", "a text can be encoded as UTF-8")
            demand(
                event.commit in commits,
                f"it yielded words of commit {event.commit}",
                "words belong to a commit that was made",
            )
            demand(
                event.commit not in closed,
                f"it yielded {event.text!r} after the final words",
                "final words close the commit",
            )
            # After the demands on this event: it may close its commit, and the next one must not belong to it.
            closed |= {event.commit} if event.final else set()


async def _takes_an_empty_commit(bench: EngineBench) -> None:
    provider = bench.provider()
    async with bench.session(provider) as (session, events):
        session.discard()
        # Both before either is awaited: commits without audio between them are numbered and closed like any other.
        for commit in (session.commit(), session.commit()):
            await events.closed(commit)
        session.discard()
        session.discard()
        await bench.say(session, provider, bench.speech[0])
        await events.closed(session.commit())
        await _demand_well(session, "empty commits and discards")


async def _forgets_what_is_discarded(bench: EngineBench) -> None:
    provider = bench.provider()
    async with bench.session(provider) as (session, events):
        await bench.say(session, provider, bench.speech[1])
        # The same utterance without a discarded one before it is the measure: engines are not exact about words.
        alone = await events.closed(session.commit())
        await bench.say(session, provider, bench.speech[0], after=len(bench.speech[1].audio))
        session.discard()
        await bench.say(
            session, provider, bench.speech[1], after=len(bench.speech[0].audio) + len(bench.speech[1].audio)
        )
        words = await events.closed(session.commit())
    demand(words == alone, f"after a discard it heard {words!r}, not {alone!r}", "discarded audio leaves no words")


async def _takes_audio_of_any_size(bench: EngineBench) -> None:
    provider = bench.provider()
    async with bench.session(provider) as (session, events):
        # Nothing, one sample, and what a stalled call delivers at once.
        for seconds in (0.0, FRAME_S / FRAME_SAMPLES, _BACKLOG_S):
            session.send(converted(g711.silence(seconds), MULAW_8K, provider.accepts))
        await events.closed(session.commit())
        await _demand_well(session, "30 s of audio at once")


# Answers --------------------------------------------------------------------------------------------------------------
async def _answers_in_pieces(bench: EngineBench) -> None:
    provider = bench.provider()
    async with bench.session(provider) as (session, _):
        await bench.say(session, provider, bench.speech[0])
        session.commit()
        with finish_within(STEP_TIMEOUT_S, "an answer", "every await has a deadline"):
            pieces = await answer_of(session)
    for piece in pieces:
        right = isinstance(piece, str | SpeechChunk | ToolCall)
        demand(right, f"it gave {piece!r}"[:120], "an answer is texts, abc.SpeechChunk and abc.ToolCall")
        demand(not isinstance(piece, str) or is_sayable(piece), f"it gave {piece!r}", "texts are UTF-8")
    chunks = [piece for piece in pieces if isinstance(piece, SpeechChunk) and piece.audio]
    demand(chunks, "it gave no audio", "an answer has audio")
    demand(text_of(pieces), "it gave no text", "the words that are spoken are yielded too, for the history")
    demand(
        len(chunks) > 1,
        "it gave its audio in one chunk",
        "audio is yielded while it is generated, so that it can be played early",
    )


async def _ends_its_answer_once(bench: EngineBench) -> None:
    async with bench.session(bench.provider()) as (session, _), session.respond() as response:
        async for _piece in response:
            pass
        # A second iteration must end at once. A channel's receiver, or a generator, does
        # that by itself; other code may not.
        more = [piece async for piece in response]
    demand(not more, f"after its end it yielded {short(more[:1])}", "an iteration that has ended stays ended")


async def _says_a_given_text(bench: EngineBench) -> None:
    # With a tool at hand, which the engine could call instead.
    with_tools = attrs.evolve(bench, setup=attrs.evolve(bench.setup, tools=(_TOOL,)))
    async with with_tools.session(bench.provider()) as (session, _):
        pieces = await answer_of(session, _TEXT)
    demand(size_of(pieces), "it did not speak the given text", "respond(text) speaks the text")
    called = [piece for piece in pieces if isinstance(piece, ToolCall)]
    demand(not called, f"it called {short(called)} instead", "respond(text) only speaks")


async def _goes_on_after_a_barge_in(bench: EngineBench) -> None:
    provider = bench.provider()
    async with bench.session(provider) as (session, _):
        # Three in a row: one cut may leave a response under way that only the second or the third runs into.
        for _number in range(3):
            async with bench.answer_begun(session) as response:
                pass
            # After the context was left, as a call may do it: only then is it known how much was played.
            # 0.1 s: less than any answer lasts, so the engine has to cut its own record of what it said.
            response.heard(0.1)
        await _demand_well(session, "three barge-ins")


async def _takes_what_was_heard_at_any_time(bench: EngineBench) -> None:
    provider = bench.provider()
    async with bench.session(provider) as (session, _):
        async with session.respond() as unbegun:
            # An answer that is left before its first piece, as by a caller who goes on speaking.
            unbegun.heard(0.0)
        unbegun.heard(1.0)
        async with session.respond() as whole:
            async for _piece in whole:
                pass
        async with bench.answer_begun(session) as cut:
            # Less than nothing and more than the whole answer: estimates may be off, and must not raise.
            for seconds in (0.0, -1.0, 3600.0):
                whole.heard(seconds)
            cut.heard(0.05)
        for seconds in (0.05, 0.0, 3600.0):
            cut.heard(seconds)
        await _demand_well(session, "heard() at odd moments")
    cut.heard(0.05)  # after the session's end


async def _takes_any_message_to_remember(bench: EngineBench) -> None:
    for name, text in _ODD_TEXTS.items():
        # In each role, and as the result of a call that never was: no message may end a session.
        messages: list[Message] = [
            {"role": "assistant", "content": text},
            {"role": "user", "content": text},
            {"role": "system", "content": text},
            {"role": "tool", "tool_call_id": "unknown", "name": "prices", "content": text},
        ]

        # A default argument, because a closure would see the next round's list.
        async def remember(messages: list[Message] = messages) -> None:
            async with bench.session(bench.provider()) as (session, _):
                for message in messages:
                    session.remember(message)
                await answer_of(session)

        await failure_of(remember, f"remembering {name}")


async def _takes_any_setup(bench: EngineBench) -> None:
    said: list[Message] = [
        {"role": "user", "content": "Grüße \U0001f469"},
        {"role": "assistant", "content": "", "tool_calls": [{"id": "1", "name": "prices", "arguments": '{"ñ": "ü"}'}]},
        {"role": "tool", "tool_call_id": "1", "name": "prices", "content": "90 €"},
    ]
    setups = [EngineSetup(instructions=text, tools=(_TOOL,), conversation=lambda: said) for text in _ODD_TEXTS.values()]
    for odd in (
        *setups,
        # A tag may come from the application's data: too long for a header, or with a header of its own in it.
        EngineSetup(instructions="", language="en-US-x-" + "a" * 2000),
        EngineSetup(instructions="", language="xx\r\nX-Injected: 1"),
    ):
        other = attrs.evolve(bench, setup=odd, language=odd.language)

        async def opened(other: EngineBench = other) -> None:
            async with other.session(other.provider()) as (session, _):
                await answer_of(session, tools=False)

        await failure_of(opened, f"the instructions {odd.instructions[:20]!r} in {odd.language[:20]!r}")


async def _tells_the_vendor_to_stop(bench: EngineBench) -> None:
    async with bench.session(bench.provider()) as (session, _):
        await demand_stop(bench, _alone(bench, session))


@asynccontextmanager
async def _alone(bench: EngineBench, session: EngineSession) -> AsyncIterator[None]:
    async with bench.answer_begun(session):
        yield


async def _reports_a_lost_vendor(bench: EngineBench) -> None:
    provider = bench.provider()
    demands = "events() and respond() raise ProviderError once the vendor is lost"

    async def used() -> None:
        async with bench.session(provider) as (session, events):
            # Once the session is open: opening has worked, and reopening does not.
            bench.fake.misbehave(Misbehaviour.CLOSED)
            await bench.say(session, provider, bench.speech[0])
            session.commit()
            await answer_of(session)
            # The answer may have come before the loss. Then events() has to report it.
            await trio.sleep(_QUIET_WAIT_S)
            events.check_alive()

    error = await failure_of(used, "a vendor that does not come back")
    demand(isinstance(error, ProviderError), "a vendor that does not come back went unnoticed", demands)


CHECKS: Final = (
    *COMMON,
    *REPLIES,
    Check("tells the vendor to stop", _tells_the_vendor_to_stop, needs_vendor=True),
    Check("reports a lost vendor", _reports_a_lost_vendor, needs_vendor=True),
    Check("has telephone speech", _has_telephone_speech),
    Check("closes each commit once", _closes_each_commit_once),
    Check("takes an empty commit", _takes_an_empty_commit),
    Check("forgets what is discarded", _forgets_what_is_discarded),
    Check("takes audio of any size", _takes_audio_of_any_size),
    Check("answers in pieces", _answers_in_pieces),
    Check("ends its answer once", _ends_its_answer_once),
    Check("says a given text", _says_a_given_text),
    Check("goes on after a barge-in", _goes_on_after_a_barge_in),
    Check("takes what was heard at any time", _takes_what_was_heard_at_any_time),
    Check("takes any message to remember", _takes_any_message_to_remember),
    Check("takes any setup", _takes_any_setup),
)
ENGINE_CHECKS: Final = tuple(check.name for check in CHECKS)
"""The names of the checks, in their order."""


async def check_engine(
    make: Callable[..., Any],
    *names: str,
    vendor: ServeVendor | None = None,
    credentials: Credentials | None = None,
    language: str = "en",
    speech: Sequence[Speech] = SIMULATED,
    setup: EngineSetup = SETUP,
    points: int = 150,
    without: Sequence[str] = (),
) -> None:
    """Check that an engine does what :class:`patter_trio.abc.Engine` demands.

    Args:
        make: makes the provider: without arguments, or with the address of the fake vendor if there is one.
        names: the checks to run, from :data:`ENGINE_CHECKS`; without names, all checks that can run with the arguments
            given.
        vendor: starts a fake of the provider's vendor, if it has one.
        credentials: how to make the provider without credentials, if it needs any.
        language: BCP 47 tag to open sessions with.
        speech: two different utterances that the engine understands.
        setup: the setup to open sessions with, apart from the language.
        points: maximum number of steps at which a use is cancelled, one after another; of a longer use, evenly spread
            steps are taken.
        without: the names of checks to leave out.

    Raises:
        NotConforming: at least one check failed; the message has a line for each.
        ValueError: a name is unknown, or the vendor or the credentials that a named check needs were not given.
    """
    bench = EngineBench(Engine, make, vendor, credentials, language=language, points=points, speech=speech, setup=setup)
    await run_checks(bench, CHECKS, names, without)
