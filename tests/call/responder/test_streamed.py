"""Generators as on_message: what they may hold open around a ``yield``, and when the caller hears their pieces."""

import logging
from collections.abc import AsyncIterator, Callable
from functools import partial
from typing import Any

import httpx
import pytest
import trio
import trio_websocket
from hypothesis import given
from hypothesis import strategies as st
from trio.testing import MockClock, memory_stream_pair

from patter_trio.call.responder.streamed import from_function, spaced
from patter_trio.conversation.sentences import SentenceChunker
from patter_trio.pytest_plugin import CallSimulator
from patter_trio.testing import ScriptedTTS
from patter_trio.testing.simulation.caller import SimulatedCaller
from patter_trio.user_code.context import current_call
from tests.kit.call import SORRY, agent_of, transcripts_of
from tests.kit.depth import few

pytestmark = [pytest.mark.pipeline("on_message answers in place of an LLM"), pytest.mark.all_carriers]

OnMessage = Callable[[dict[str, Any]], AsyncIterator[str]]
PIECES = ("We open at seven. ", "Every day but Monday.")
WHOLE = "We open at seven. Every day but Monday."
FIRST_AUDIO = 0.2  # of the scripted voice, behind the text


async def asks(call_simulator: CallSimulator, on_message: Any, until: float = 20.0, **options: Any) -> SimulatedCaller:
    """A call in which the caller asks from 1.0 to 1.5 s, so that on_message is called at 2.0 s."""
    async with call_simulator(agent_of(llm=None, **options), on_message=on_message) as caller:
        await caller.at(1.0)
        await caller.speaks("When do you open?", seconds=0.5)
        await caller.at(until)
    return caller


def texts(caller: SimulatedCaller) -> list[str]:
    return [heard.text for heard in caller.utterances]


# What may be open around a yield --------------------------------------------------------------------------------------
async def in_a_deadline(event: dict[str, Any]) -> AsyncIterator[str]:
    with trio.move_on_after(5):
        for piece in PIECES:
            yield piece
            await trio.sleep(0.2)


async def in_two_deadlines(event: dict[str, Any]) -> AsyncIterator[str]:
    with trio.fail_after(5), trio.move_on_after(4):
        yield PIECES[0]
    with trio.fail_after(5):
        yield PIECES[1]


async def in_a_nursery(event: dict[str, Any]) -> AsyncIterator[str]:
    send, receive = trio.open_memory_channel[str](0)

    async def produce() -> None:
        async with send:
            for piece in PIECES:
                await trio.sleep(0.3)
                await send.send(piece)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(produce)
        async for piece in receive:
            yield piece


async def left_in_a_nursery(event: dict[str, Any]) -> AsyncIterator[str]:
    async with trio.open_nursery() as nursery:
        nursery.start_soon(trio.sleep_forever)
        for piece in PIECES:
            yield piece
        nursery.cancel_scope.cancel()


async def by_httpx(event: dict[str, Any]) -> AsyncIterator[str]:
    async def body() -> AsyncIterator[bytes]:
        for piece in PIECES:
            await trio.sleep(0.3)
            yield piece.encode()

    transport = httpx.MockTransport(lambda request: httpx.Response(200, content=body()))
    async with httpx.AsyncClient(transport=transport) as client, client.stream("POST", "http://brain/") as answer:
        async for piece in answer.aiter_text():
            yield piece


async def by_trio_websocket(event: dict[str, Any]) -> AsyncIterator[str]:
    here, there = memory_stream_pair()
    async with trio.open_nursery() as nursery:

        async def brain() -> None:
            request = await trio_websocket.wrap_server_stream(nursery, there)
            socket = await request.accept()
            await socket.get_message()
            for piece in (*PIECES, "[DONE]"):
                await socket.send_message(piece)

        nursery.start_soon(brain)
        async with await trio_websocket.wrap_client_stream(nursery, here, "brain", "/") as socket:
            await socket.send_message(event["text"])
            while (piece := await socket.get_message()) != "[DONE]":
                yield piece
        nursery.cancel_scope.cancel()


def by_a_channel(event: dict[str, Any]) -> AsyncIterator[str]:
    send, receive = trio.open_memory_channel[str](2)
    with send:
        for piece in PIECES:
            send.send_nowait(piece)
    return receive


SHAPES = [
    in_a_deadline,
    in_two_deadlines,
    in_a_nursery,
    left_in_a_nursery,
    by_httpx,
    by_trio_websocket,
    by_a_channel,
]


@pytest.mark.parametrize("on_message", few(SHAPES, 3))
async def test_generator_may_hold_anything_open(
    call_simulator: CallSimulator, caplog: pytest.LogCaptureFixture, on_message: Any
) -> None:
    """A generator may yield within a scope, a nursery, an httpx response or a WebSocket, and all of it is heard."""
    caller = await asks(call_simulator, on_message)
    assert texts(caller) == transcripts_of(caller, "assistant") == [WHOLE]
    assert caller.outcome == "caller_hung_up"
    assert not caplog.records


@pytest.mark.parametrize("on_message", few(SHAPES, 3))
async def test_barge_in_unwinds_what_generator_holds(
    call_simulator: CallSimulator, caplog: pytest.LogCaptureFixture, on_message: Any
) -> None:
    """After a barge-in the generator leaves what it holds open, and the call answers the next question."""
    agent = agent_of(llm=None, tts=ScriptedTTS(duration=8.0))
    async with call_simulator(agent, on_message=on_message) as caller:
        await caller.at(1.0)
        await caller.speaks("When do you open?", seconds=0.5)
        await caller.at(3.5)
        await caller.speaks("Stop", seconds=0.5)
        assert (await caller.heard(0)).interrupted
        assert (await caller.heard(1)).text == WHOLE
    assert caller.outcome == "caller_hung_up"
    assert not caplog.records


async def test_cut_at_yield_ends_tasks_of_generator(call_simulator: CallSimulator) -> None:
    """A barge-in while the generator waits at its ``yield`` cancels the tasks in its nursery, then its own block."""
    ended: list[str] = []

    async def child() -> None:
        try:
            await trio.sleep_forever()
        finally:
            ended.append("child")

    async def on_message(event: dict[str, Any]) -> AsyncIterator[str]:
        try:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(child)
                for number in range(1000):
                    yield f"Here is the sentence of number {number}. "
        finally:
            ended.append("generator")

    agent = agent_of(llm=None, tts=ScriptedTTS(first_audio=0.5, speed=1.0))
    async with call_simulator(agent, on_message=on_message) as caller:
        await caller.speaks("Hello", seconds=0.5)
        await caller.at(4.0)
        assert ended == []
        await caller.speaks("Stop", seconds=0.5)
        await caller.heard(0)
        assert ended == ["child", "generator"]


async def pieces_of(on_message: OnMessage, every: float) -> list[tuple[float, str]]:
    """The pieces of a generator, each taken for some seconds, with the instants at which they came."""
    got: list[tuple[float, str]] = []

    async def take(piece: Any) -> None:
        if isinstance(piece, str):
            got.append((trio.current_time(), piece))
            await trio.sleep(every)

    await from_function(on_message, {})(take)
    return got


async def test_own_deadline_passes_at_the_yield(autojump_clock: MockClock) -> None:
    """A deadline of the generator's that passes while it waits at its ``yield`` ends its block, and it goes on."""

    async def on_message(event: dict[str, Any]) -> AsyncIterator[str]:
        with trio.move_on_after(3.0) as scope:
            for number in range(1000):
                yield f"{number}."
        assert scope.cancelled_caught
        yield f"At {trio.current_time():g} s."

    assert await pieces_of(on_message, 2.0) == [(0.0, "0."), (2.0, "1."), (4.0, "At 3 s.")]


async def test_deadline_around_deadline_ends_both_blocks(autojump_clock: MockClock) -> None:
    """Of two deadlines around a ``yield``, the outer one may pass first; what follows its block is still given."""

    async def on_message(event: dict[str, Any]) -> AsyncIterator[str]:
        with trio.move_on_after(1.0):
            try:
                with trio.move_on_after(5.0):
                    yield "One."
            finally:
                with trio.CancelScope(shield=True):
                    await trio.sleep(0.5)
        yield f"At {trio.current_time():g} s."

    assert await pieces_of(on_message, 2.0) == [(0.0, "One."), (2.0, "At 1.5 s.")]


async def test_generator_does_not_run_ahead(autojump_clock: MockClock) -> None:
    """Code behind a ``yield`` runs only when the reply wants the next piece."""
    steps: list[float] = []

    async def on_message(event: dict[str, Any]) -> AsyncIterator[str]:
        for number in range(3):
            steps.append(trio.current_time())
            yield f"{number}."

    assert len(await pieces_of(on_message, 2.0)) == 3
    assert steps == [0.0, 2.0, 4.0]


async def test_failing_task_of_generator_fails_the_reply(
    call_simulator: CallSimulator, caplog: pytest.LogCaptureFixture
) -> None:
    """A task in the generator's nursery that fails while the generator waits at its ``yield`` fails the reply alone."""

    async def on_message(event: dict[str, Any]) -> AsyncIterator[str]:
        async def fail() -> None:
            raise ValueError("the database is gone")

        async with trio.open_nursery() as nursery:
            nursery.start_soon(fail)
            yield "I "
            await trio.sleep_forever()

    caller = await asks(call_simulator, on_message)
    assert texts(caller) == [SORRY]
    assert caller.outcome == "caller_hung_up"
    [record] = caplog.records
    assert "a reply failed: " in record.message
    assert record.exc_info is not None


async def test_context_of_the_call_holds_in_generator(call_simulator: CallSimulator) -> None:
    """The generator's log lines and context variables are those of its call, in each of its steps."""
    seen: list[str] = []

    async def on_message(event: dict[str, Any]) -> AsyncIterator[str]:
        for piece in PIECES:
            seen.append(current_call.get())
            yield piece

    caller = await asks(call_simulator, on_message)
    assert seen == [caller.carrier.call_id] * 2


# The first sentence ---------------------------------------------------------------------------------------------------
def pausing(*pieces: str, pause: float = 3.0) -> OnMessage:
    """An on_message that works for some seconds between its pieces."""

    async def on_message(event: dict[str, Any]) -> AsyncIterator[str]:
        for number, piece in enumerate(pieces):
            if number:
                await trio.sleep(pause)
            yield piece

    return on_message


LATER = "You have two appointments."


@pytest.mark.parametrize(
    ("first", "spoken"),
    few(
        [
            ("One moment, please.", "One moment, please."),
            ("One moment, please. ", "One moment, please."),
            ("One moment, please.\n", "One moment, please."),
            ("One moment, please.\n\n", "One moment, please."),
            ("One moment, please\n", "One moment, please"),
            ("One moment, please\n\n", "One moment, please"),
            ("one moment!", "one moment!"),
            ("Let me see…", "Let me see…"),
            ('She said "Yes."', 'She said "Yes."'),
            ("Einen Moment bitte?", "Einen Moment bitte?"),
            ("少々お待ちください。", "少々お待ちください。"),
            ("कृपया रुकिए।", "कृपया रुकिए।"),
            ("انتظر لحظة؟", "انتظر لحظة؟"),
        ],
        3,
    ),
)
async def test_first_sentence_does_not_wait_for_work(call_simulator: CallSimulator, first: str, spoken: str) -> None:
    """What ends a sentence is heard 0.2 s after it was given, while the generator works for 3 s, and is not glued."""
    caller = await asks(call_simulator, pausing(first, LATER), tts=ScriptedTTS(timings=False))
    assert caller.times("agent_speech_started") == [pytest.approx(2.0 + 0.2 + FIRST_AUDIO)]
    [heard] = caller.utterances
    assert heard.text == f"{spoken} {LATER}"
    assert heard.ended > 2.0 + 3.0 + FIRST_AUDIO


async def test_several_sentences_do_not_wait_for_work(call_simulator: CallSimulator) -> None:
    """Of two sentences in one piece, the second one also does not wait for the next piece."""
    caller = await asks(call_simulator, pausing("Let me see. One moment, please.", LATER, pause=9.0))
    first = (len("Let me see.") + len("One moment, please.")) * 0.06
    assert texts(caller) == [f"Let me see. One moment, please. {LATER}"]
    # The second sentence is spoken right behind the first one: then comes the gap.
    gap = [at for at, name, payload in caller.events if name == "agent_speech_started"]
    assert gap == [pytest.approx(2.0 + FIRST_AUDIO)]
    assert caller.utterances[0].seconds > 9.0 > first


@pytest.mark.parametrize(
    ("first", "rest", "whole"),
    few(
        [
            ("It costs 3.", "50 euros.", "It costs 3.50 euros."),
            ("Ask for Dr.", " Miller.", "Ask for Dr. Miller."),
            ("It is in room no.", " 5.", "It is in room no. 5."),
            ("J.", " Miller is here.", "J. Miller is here."),
        ],
        2,
    ),
)
async def test_pause_within_sentence_is_no_end(
    call_simulator: CallSimulator, first: str, rest: str, whole: str
) -> None:
    """A pause behind an abbreviation or a number does not end the sentence, however long it is."""
    caller = await asks(call_simulator, pausing(first, rest))
    assert texts(caller) == [whole]
    assert caller.times("agent_speech_started") == [pytest.approx(2.0 + 3.0 + FIRST_AUDIO)]


# Pieces are never glued -----------------------------------------------------------------------------------------------
def at_once(*pieces: str) -> OnMessage:
    return pausing(*pieces, pause=0.0)


@pytest.mark.parametrize(
    ("pieces", "whole"),
    few(
        [
            (("One moment, please.", "You have two."), "One moment, please. You have two."),
            (("one moment, please.", "you have two."), "one moment, please. you have two."),
            (("Yes.", "No.", "Perhaps!"), "Yes. No. Perhaps!"),
            (('He said "Yes."', '"No." said she.'), 'He said "Yes." "No." said she.'),
            (("Is it?", "12 of them."), "Is it? 12 of them."),
            (("One moment.\n", "You have two."), "One moment. You have two."),
        ],
        2,
    ),
)
async def test_pieces_that_are_sentences_stay_apart(
    call_simulator: CallSimulator, pieces: tuple[str, ...], whole: str
) -> None:
    """Between a piece that ends a sentence and one that begins without a space comes a space."""
    caller = await asks(call_simulator, at_once(*pieces))
    assert texts(caller) == [whole]
    assert "".join(payload["text"] for payload in caller.payloads("llm_chunk")).split() == whole.split()


TOKENS = [
    "It costs 3.50 euros, e.g. at example.com or at 10 a.m. in the U.S. today.",
    "Version 2.0.1 is out! Ask Dr. J. R. Miller, Ph.D., at www.example.org... or call no. 5.",
    "Es kostet 3.000,50 Euro, d.h. am 3. Mai z.B. um 17.30 Uhr.",
]


@pytest.mark.parametrize("text", TOKENS)
@given(data=st.data())
async def test_relayed_tokens_are_not_torn_apart(text: str, data: st.DataObject) -> None:
    """Tokens with their spaces, cut between any two marks or words, give the text unchanged."""
    words = [f" {word}" if number else word for number, word in enumerate(text.split(" "))]
    # As tokenisers do: a word with the space before it, in parts of letters or digits and of marks.
    parts = [part for word in words for part in _parts(word)]
    cuts = sorted(data.draw(st.sets(st.integers(1, len(parts) - 1))))
    tokens = ["".join(parts[a:b]) for a, b in zip([0, *cuts], [*cuts, len(parts)], strict=True)]
    kept = [token for token in tokens if " " not in token.strip()]  # a token has one word
    if kept != tokens:
        tokens = parts

    async def relay(event: dict[str, Any]) -> AsyncIterator[str]:
        for token in tokens:
            yield token

    got: list[str] = []

    async def take(piece: Any) -> None:
        if isinstance(piece, str):
            got.append(piece)

    await spaced(from_function(relay, {}), "de" if "Euro," in text else "en")(take)
    assert "".join(got) == text


def _parts(word: str) -> list[str]:
    parts: list[str] = []
    for character in word:
        alike = parts and (parts[-1].strip()[-1:].isalnum() or not parts[-1].strip()) == character.isalnum()
        if alike:
            parts[-1] += character
        else:
            parts.append(character)
    return parts


# Rules of a sentence's end --------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("text", "language", "ends"),
    [
        ("We are open.", "en", True),
        ("Really?!", "en", True),
        ("(We are open.)", "en", True),
        ("Line\n", "en", True),
        ("您好。", "zh", True),
        ("", "en", False),
        ("...", "en", False),
        ("We are", "en", False),
        ("We are open,", "en", False),
        ("At 7.", "en", False),
        ("Mr.", "en", False),
        ("Am 3.", "de", False),
        ("Herr Dr.", "de", False),
        ("At 10 a.m.", "en", True),
    ],
)
def test_end_of_sentence_is_known_without_more(text: str, language: str, ends: bool) -> None:
    """The chunker says whether a text ends a sentence; behind abbreviations and numbers it does not."""
    assert SentenceChunker(language=language).ends_sentence(text) is ends


def test_pause_releases_only_what_ends_a_sentence() -> None:
    """pause() releases a finished sentence, keeps an unfinished one, and is empty without text."""
    chunker = SentenceChunker()
    assert chunker.pause() == []
    assert chunker.push("We open. Every") == ["We open."]
    assert chunker.pause() == []
    assert chunker.push(" day.") == []
    assert chunker.pause() == ["Every day."]
    assert chunker.push("We open. No. Not") == ["We open."]
    assert chunker.pause() == ["No."]  # too short to be released alone, as long as text comes
    assert chunker.push(" now. ") == []
    assert chunker.pause() == ["Not now."]
    assert chunker.flush() == []


async def test_reply_by_url_is_heard_at_once_too(
    call_simulator: CallSimulator, caplog: pytest.LogCaptureFixture
) -> None:
    """A piece from a WebSocket that ends a sentence is heard while the server works."""
    caplog.set_level(logging.WARNING)

    async def brain(request: trio_websocket.WebSocketRequest) -> None:
        socket = await request.accept()
        await socket.get_message()
        await socket.send_message("One moment, please.")
        await trio.sleep(3.0)
        await socket.send_message('{"text": "You have two.", "done": true}')

    async with trio.open_nursery() as nursery:
        serve = partial(trio_websocket.serve_websocket, brain, "127.0.0.1", 0, ssl_context=None)
        server = await nursery.start(serve)
        caller = await asks(call_simulator, f"ws://127.0.0.1:{server.port}/")
        nursery.cancel_scope.cancel()
    assert texts(caller) == ["One moment, please. You have two."]
    assert caller.times("agent_speech_started")[0] < 2.0 + 1.0
