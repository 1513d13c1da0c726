"""on_message, the application's own responder: in each of its forms, and with everything that it may do wrong."""

import asyncio
import logging
from collections.abc import AsyncIterator
from contextlib import closing
from typing import Any

import pytest
import trio

from patter_trio import Patter
from patter_trio.pytest_plugin import CallSimulator
from patter_trio.testing import ScriptedTTS
from patter_trio.user_code.context import current_call
from tests.kit.call import SORRY, agent_of, edges, hangs_up_in_time, transcripts_of
from tests.kit.depth import few

pytestmark = [pytest.mark.pipeline("on_message answers in place of an LLM"), pytest.mark.all_carriers]

NO_LLM = {"llm": None}


async def coroutine(event: dict[str, Any]) -> str:
    await trio.sleep(0.1)
    return f"You said {event['text']}."


def plain(event: dict[str, Any]) -> str:
    return f"You said {event['text']}."


async def generator(event: dict[str, Any]) -> AsyncIterator[str]:
    for word in ("You", " said", " ", f"{event['text']}."):
        await trio.sleep(0.01)
        yield word


class Hotel:
    async def __call__(self, event: dict[str, Any]) -> str:
        return plain(event)

    def __repr__(self) -> str:
        return "<Hotel Miller>"


@pytest.mark.parametrize(
    ("on_message", "model"),
    [(coroutine, "coroutine"), (plain, "plain"), (generator, "generator"), (Hotel(), "<Hotel Miller>")],
)
async def test_it_may_be_any_kind_of_function(call_simulator: CallSimulator, on_message: Any, model: str) -> None:
    """on_message may be a plain function, a coroutine function, an async generator or a callable object."""
    async with call_simulator(agent_of(**NO_LLM), on_message=on_message) as caller:
        await caller.speaks("hello", seconds=0.5)
        reply = await caller.hears()
        [token] = caller.payloads("llm_token")
    assert reply.text == "You said hello."
    assert (token["llm_provider"], token["model"], token["turn_idx"]) == ("on_message", model, 1)
    assert transcripts_of(caller, "assistant") == ["You said hello."]


async def test_on_message_receives_message_and_history(call_simulator: CallSimulator) -> None:
    """The on_message responder receives the message and the history before it."""
    events: list[dict[str, Any]] = []

    def on_message(event: dict[str, Any]) -> str:
        events.append(event)
        event["history"].append("spoiled")  # its own copy
        return f"Answer {len(events)}."

    async with call_simulator(agent_of(**NO_LLM, first_message="Hello."), on_message=on_message) as caller:
        await caller.hears()
        for question in ("One", "Two"):
            await caller.speaks(question, seconds=0.5)
            await caller.hears()
    assert [set(event) for event in events] == [{"call_id", "caller", "callee", "text", "history"}] * 2
    assert [(event["text"], event["caller"], event["callee"]) for event in events] == [
        ("One", "+15550100001", "+15550100002"),
        ("Two", "+15550100001", "+15550100002"),
    ]
    spoken = [[(entry["role"], entry["text"]) for entry in event["history"][:-1]] for event in events]
    assert spoken == [
        [("assistant", "Hello.")],
        [("assistant", "Hello."), ("user", "One"), ("assistant", "Answer 1.")],
    ]
    assert caller.dialogue[-1] == ("assistant", "Answer 2.")


@pytest.mark.parametrize("nothing", [None, "", "  "])
async def test_empty_reply_is_silence_and_returns_to_idle(call_simulator: CallSimulator, nothing: Any) -> None:
    """An empty reply of on_message means silence, and the agent returns to idle."""
    answers = [nothing, "Now I do."]
    async with call_simulator(agent_of(**NO_LLM), on_message=lambda event: answers.pop(0)) as caller:
        await caller.speaks("Say nothing", seconds=0.5)
        await caller.at(1.1)
        assert caller.state == {"user": "listening", "agent": "idle"}
        await caller.at(3.0)
        assert [name for _, name in edges(caller) if name.startswith(("agent", "audio"))] == []
        await caller.speaks("Say something", seconds=0.5)
        assert (await caller.hears()).text == "Now I do."
    assert transcripts_of(caller, "user") == ["Say nothing", "Say something"]


async def test_it_speaks_while_it_is_still_thinking(call_simulator: CallSimulator) -> None:
    """The agent speaks the first part of a generator's answer while the generator needs 20 s for the next one."""

    async def on_message(event: dict[str, Any]) -> AsyncIterator[str | None]:
        yield "One moment. "
        yield None
        await trio.sleep(20)
        yield "Here it is."

    async with call_simulator(agent_of(**NO_LLM), on_message=on_message) as caller:
        await caller.speaks("Hello", seconds=0.5)
        reply = await caller.hears()
        assert reply.text == "One moment. Here it is."
    assert transcripts_of(caller, "assistant") == ["One moment. Here it is."]
    assert len(caller.times("agent_speech_started")) == len(caller.times("llm_token")) == 1


async def fails(event: dict[str, Any]) -> str:
    raise ValueError("no such room")


async def fails_before_the_first(event: dict[str, Any]) -> AsyncIterator[str]:
    raise ValueError("no such room")
    yield ""


async def gives_a_number(event: dict[str, Any]) -> int:
    return 7


async def yields_a_number(event: dict[str, Any]) -> AsyncIterator[Any]:
    yield 7


def gives_half_a_character(event: dict[str, Any]) -> str:
    return "Hello \ud83d"  # what json.loads makes of a cut emoji


async def yields_half_a_character(event: dict[str, Any]) -> AsyncIterator[str]:
    yield "\udc00"


async def sleeps_by_asyncio(event: dict[str, Any]) -> str:
    await asyncio.sleep(1)
    return ""


async def starts_a_task(event: dict[str, Any]) -> str:
    coroutine = gives_a_number(event)
    with closing(coroutine):
        asyncio.create_task(coroutine)  # noqa: RUF006 (it is refused)
    return ""


async def says_event_loop(event: dict[str, Any]) -> str:
    raise RuntimeError("the event loop of our turbine is open")


async def returns_a_generator(event: dict[str, Any]) -> Any:
    return generator(event)


@pytest.mark.parametrize(
    ("on_message", "why"),
    few(
        [
            (fails, "fails raised ValueError: no such room"),
            (fails_before_the_first, "fails_before_the_first raised ValueError: no such room"),
            (gives_a_number, "gives_a_number must give text or None, not int"),
            (yields_a_number, "yields_a_number must give text or None, not int"),
            (gives_half_a_character, "gives_half_a_character must give text that can be encoded in UTF-8"),
            (yields_half_a_character, "yields_half_a_character must give text that can be encoded in UTF-8"),
            (
                sleeps_by_asyncio,
                (
                    "sleeps_by_asyncio raised RuntimeError: no running event loop; this runs on trio, not asyncio: use "
                    "trio.sleep"
                ),
            ),
            (starts_a_task, "starts_a_task raised RuntimeError: no running event loop; this runs on trio, not asyncio"),
            (says_event_loop, "says_event_loop raised RuntimeError: the event loop of our turbine is open\n"),
            (returns_a_generator, "returns_a_generator must give text or None, not async_generator"),
        ],
        3,
    ),
)
async def test_on_message_failure_apologises_once_and_continues(
    call_simulator: CallSimulator, caplog: pytest.LogCaptureFixture, on_message: Any, why: str
) -> None:
    """After an on_message failure the agent apologises once, and the call goes on."""
    async with call_simulator(agent_of(**NO_LLM), on_message=on_message) as caller:
        for turn in range(2):
            await caller.speaks("Hello", seconds=0.5)
            reply = await caller.hears()
            assert (reply.text, len(caller.times("agent_speech_started"))) == (SORRY, turn + 1)
        await caller.waits(2.0)
        assert caller.state == {"user": "listening", "agent": "idle"}
    assert caller.outcome == "caller_hung_up"
    assert "error" not in caller.payloads("call_end")[0]
    assert why in caplog.text
    assert {record.levelno for record in caplog.records} == {logging.WARNING}


async def test_failure_behind_sentence_lets_it_be_heard(call_simulator: CallSimulator) -> None:
    """A failure behind a finished sentence cuts nothing: the sentence is heard to its end, then the apology."""

    async def on_message(event: dict[str, Any]) -> AsyncIterator[str]:
        yield "Let me look that up for you. I "
        await trio.sleep(1.0)
        raise ValueError

    async with call_simulator(agent_of(**NO_LLM), on_message=on_message) as caller:
        await caller.speaks("Hello", seconds=0.5)
        first = await caller.heard(0)
        apology = await caller.heard(1)
    assert (first.text, first.interrupted) == ("Let me look that up for you.", False)
    assert first.ended > 2.0  # when it failed
    assert apology.text == SORRY
    assert transcripts_of(caller, "assistant") == [first.text, SORRY]
    assert [payload["turn_idx"] for payload in caller.payloads("agent_speech_started")] == [1, 1]


@pytest.mark.parametrize("pieces", [[], ["One moment. And "]])
@pytest.mark.costly
async def test_on_message_has_30_seconds_per_piece(
    call_simulator: CallSimulator, caplog: pytest.LogCaptureFixture, pieces: list[str]
) -> None:
    """The on_message responder has thirty seconds for its answer and for each next piece."""

    async def never_answers(event: dict[str, Any]) -> str:
        await trio.sleep_forever()
        return ""

    async def stops_in_the_middle(event: dict[str, Any]) -> AsyncIterator[str]:
        for piece in pieces:
            await trio.sleep(29.9)
            yield piece
        await trio.sleep_forever()

    on_message: Any = stops_in_the_middle if pieces else never_answers
    async with call_simulator(agent_of(**NO_LLM), on_message=on_message) as caller:
        await caller.speaks("Hello", seconds=0.5)
        if pieces:
            first = await caller.heard(0, within=100.0)
            assert (first.text, first.seconds, first.interrupted) == ("One moment.", pytest.approx(0.66), False)
        apology = await caller.heard(len(pieces))
    assert apology.text == SORRY
    eos = caller.times("user_speech_eos")[0]
    assert apology.started == pytest.approx(eos + 30.0 + 29.9 * len(pieces) + 0.2)
    assert f"{on_message.__qualname__} did not answer within 30 s" in caplog.text


async def test_its_own_timeout_is_its_own_failure(
    call_simulator: CallSimulator, caplog: pytest.LogCaptureFixture
) -> None:
    """A timeout inside on_message is a failure of on_message: the agent apologises, and the log names the error."""

    async def on_message(event: dict[str, Any]) -> str:
        with trio.fail_after(1):
            await trio.sleep_forever()
        return ""

    async with call_simulator(agent_of(**NO_LLM), on_message=on_message) as caller:
        await caller.speaks("Hello", seconds=0.5)
        assert (await caller.hears()).text == SORRY
    assert "raised TooSlowError" in caplog.text


async def test_barge_in_closes_generator_in_its_call(call_simulator: CallSimulator) -> None:
    """A barge-in closes the on_message generator in the context of its call."""
    phone, closed = Patter(), []

    async def on_message(event: dict[str, Any]) -> AsyncIterator[str]:
        try:
            yield "A first sentence that is quite long. And "
            await trio.sleep_forever()
        finally:
            closed.append((current_call.get(), phone.calls[0].call_id, trio.current_time() - began))

    began = trio.current_time()
    async with call_simulator(agent_of(**NO_LLM), phone=phone, on_message=on_message) as caller:
        await caller.speaks("Hello", seconds=0.5)
        await caller.at(2.0)
        await caller.speaks("Stop", seconds=0.5)
        assert (await caller.heard(0)).interrupted
        began_at = caller.carrier.media_start - began
        await caller.hangs_up()
    call_id = caller.carrier.call_id
    assert closed == [(call_id, call_id, pytest.approx(began_at + 2.25))]


async def test_generator_waiting_for_tts_is_closed_too(call_simulator: CallSimulator) -> None:
    """A hang-up closes a generator that is suspended at its ``yield`` because the TTS is slower."""
    closed: list[str] = []

    async def on_message(event: dict[str, Any]) -> AsyncIterator[str]:
        try:
            for number in range(1000):
                yield f"Here is the sentence of number {number}. "
        finally:
            closed.append("closed")

    agent = agent_of(**NO_LLM, tts=ScriptedTTS(first_audio=0.5, speed=1.0))
    async with call_simulator(agent, on_message=on_message) as caller:
        await caller.speaks("Hello", seconds=0.5)
        await caller.at(4.0)
        assert closed == []
        assert await hangs_up_in_time(caller) == 0.0
        assert closed == ["closed"]


async def raises_when_closed(event: dict[str, Any]) -> AsyncIterator[str]:
    try:
        for number in range(1000):
            yield f"Here is the sentence of number {number}. "
    finally:
        raise KeyError("no such cursor")


async def yields_a_number_and_raises_when_closed(event: dict[str, Any]) -> AsyncIterator[Any]:
    try:
        yield "A sentence that is heard. And "
        await trio.sleep(2.0)
        yield 7
    finally:
        raise KeyError("no such cursor")


async def goes_on_when_closed(event: dict[str, Any]) -> AsyncIterator[str]:
    for number in range(1000):
        try:
            yield f"Here is the sentence of number {number}. "
        except trio.Cancelled:
            continue
        except GeneratorExit:
            yield "And one more."


@pytest.mark.parametrize(
    "on_message", [raises_when_closed, yields_a_number_and_raises_when_closed, goes_on_when_closed]
)
async def test_generator_failing_while_closed_affects_nothing(
    call_simulator: CallSimulator, caplog: pytest.LogCaptureFixture, on_message: Any
) -> None:
    """A generator that fails while it is closed affects neither the call nor other calls."""
    agent = agent_of(**NO_LLM, tts=ScriptedTTS(first_audio=0.5, speed=1.0))
    async with call_simulator(agent, on_message=on_message) as caller:
        await caller.speaks("Hello", seconds=0.5)
        await caller.at(4.0)
        await caller.speaks("Stop", seconds=0.5)
        await caller.heard(0)
        await caller.waits(2.0)
        assert caller.outcome == ""
    assert caller.outcome == "caller_hung_up"
    assert "error" not in caller.payloads("call_end")[0]
    assert f"while closing: {on_message.__name__} raised " in caplog.text


async def test_an_iterator_that_cannot_be_closed_will_do(call_simulator: CallSimulator) -> None:
    """on_message may return an async iterator that has no ``aclose``."""

    class Words:
        def __init__(self, event: dict[str, Any]) -> None:
            self.words = ["Yes, ", "of ", "course."]

        def __aiter__(self) -> "Words":
            return self

        async def __anext__(self) -> str:
            if not self.words:
                raise StopAsyncIteration
            return self.words.pop(0)

    async with call_simulator(agent_of(**NO_LLM), on_message=Words) as caller:
        await caller.speaks("Hello", seconds=0.5)
        assert (await caller.hears()).text == "Yes, of course."
    assert caller.payloads("llm_token")[0]["model"] == "Words"


async def test_repeated_request_contains_both_utterance_parts(call_simulator: CallSimulator) -> None:
    """A repeated on_message request contains both parts of the caller's utterance."""
    asked: list[str] = []
    cancelled: list[str] = []

    async def on_message(event: dict[str, Any]) -> str:
        asked.append(event["text"])
        try:
            await trio.sleep(1.0)
        except trio.Cancelled:
            cancelled.append(event["text"])
            raise
        return "Certainly."

    async with call_simulator(agent_of(**NO_LLM), on_message=on_message) as caller:
        await caller.speaks("A room", seconds=0.5)
        await caller.at(1.2)
        await caller.speaks("for two", seconds=0.5)
        await caller.hears()
    assert asked == ["A room", "A room for two"]
    assert cancelled == ["A room"]
    assert caller.dialogue == [("user", "A room for two"), ("assistant", "Certainly.")]
