"""LLMs of an application's own, taken by their method ``stream``."""

import asyncio
import time
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager
from typing import Any

import attrs
import pytest
import trio

from patter_trio import ConfigurationError, Patter, tool
from patter_trio.abc import Message, ToolDefinition
from patter_trio.errors import ProviderError
from patter_trio.pytest_plugin import CallSimulator
from patter_trio.testing import ScriptedLLM, ScriptedSTT, ScriptedTTS, ScriptedVAD
from tests.kit.depth import few

PARTS = ("We open ", "at nine.")


class Generator:
    """As the README describes it: a generator of text."""

    provider, model = "mine", "mine-1"
    prewarmed = False

    async def stream(self, messages: Sequence[Message]) -> AsyncIterator[str]:
        for part in PARTS:
            yield part

    async def prewarm(self) -> None:
        self.prewarmed = True


class Scoped:
    """A generator with a scope and a nursery around its yield."""

    async def stream(self, messages: Sequence[Message]) -> AsyncIterator[str]:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(trio.sleep, 0.01)
            with trio.move_on_after(5):
                for part in PARTS:
                    await trio.sleep(0.01)
                    yield part


class Getpatters:
    """As getpatter documents it: dicts, with tools and further keywords."""

    async def stream(
        self, messages: list[dict[str, Any]], tools: list[dict[str, Any]] | None = None, *, call_id: str = ""
    ) -> AsyncIterator[dict[str, Any]]:
        for part in PARTS:
            yield {"type": "text", "content": part}
        yield {"type": "usage", "input_tokens": 3}
        yield {"type": "done"}


class Managed:
    """With the form of the package's own protocol, without being a subclass."""

    @asynccontextmanager
    async def stream(
        self, messages: Sequence[Message], *, tools: Sequence[ToolDefinition] = ()
    ) -> AsyncIterator[AsyncIterator[str]]:
        async def pieces() -> AsyncIterator[str]:
            for part in PARTS:
                yield part

        yield pieces()


class Returned:
    """A coroutine that returns an iterator."""

    async def stream(self, messages: Sequence[Message], **options: Any) -> Any:
        return Generator().stream(messages)


@attrs.define(slots=False)
class Asked:
    """A generator that keeps what it was asked."""

    asked: list[Any] = attrs.field(factory=list)

    async def stream(self, messages: list[Any], tools: list[Any] | None = None) -> AsyncIterator[dict[str, Any]]:
        self.asked.append((messages, tools))
        if len(self.asked) > 1:
            yield {"type": "text", "content": "At nine."}
            return
        yield {"type": "tool_call", "index": 0, "id": "c1", "name": "hours", "arguments": '{"day"'}
        yield {"type": "tool_call", "index": 0, "arguments": ': "Monday"}'}


def providers() -> dict[str, Any]:
    return {"vad": ScriptedVAD(), "stt": ScriptedSTT(), "tts": ScriptedTTS()}


@pytest.mark.parametrize("kind", [Generator, Scoped, Getpatters, Managed, Returned])
async def test_model_is_taken_by_its_methods(call_simulator: CallSimulator, kind: type) -> None:
    """An object with a stream method answers a call, whichever way it streams, without being a LanguageModel."""
    async with call_simulator(Patter().agent("x", llm=kind(), **providers())) as caller:
        await caller.speaks("When?", seconds=0.5)
        assert (await caller.hears()).text == "We open at nine."
    assert caller.dialogue[-1] == ("assistant", "We open at nine.")


async def test_getpatters_tool_calls_are_joined(call_simulator: CallSimulator) -> None:
    """Pieces of a tool call with one index make one call, and the model gets tools as a request has them."""
    called: list[str] = []

    @tool
    async def hours(day: str) -> str:
        """Say the hours of a day."""
        called.append(day)
        return "nine"

    model = Asked()
    async with call_simulator(Patter().agent("x", llm=model, tools=[hours], **providers())) as caller:
        await caller.speaks("When?", seconds=0.5)
        assert (await caller.hears()).text == "At nine."
    assert called == ["Monday"]
    assert model.asked[0][1][0]["function"]["name"] == "hours"
    assert [message["role"] for message in model.asked[1][0]][-2:] == ["assistant", "tool"]


async def test_barge_in_closes_the_models_generator(call_simulator: CallSimulator) -> None:
    """A barge-in ends the generator of a model at once: its finally runs within the call."""
    closed: list[float] = []

    class Endless:
        async def stream(self, messages: Sequence[Message]) -> AsyncIterator[str]:
            try:
                while True:
                    yield "and on and on. "
                    await trio.sleep(0.1)
            finally:
                closed.append(trio.current_time())

    async with call_simulator(Patter().agent("x", llm=Endless(), **providers())) as caller:
        await caller.speaks("Go.", seconds=0.5)
        await caller.at(4.0)
        await caller.speaks("Stop that now.", seconds=1.0)
        first = await caller.heard(0)
        assert first.interrupted
        assert closed[0] - caller.carrier.media_start == pytest.approx(caller.times("agent_speech_ended")[0])


async def test_prewarm_of_such_a_model_is_called() -> None:
    """A model's own prewarm is called; one without it needs none."""
    model = Generator()
    agent = Patter().agent("x", llm=model, **providers())
    assert agent.llm is not None
    await agent.llm.prewarm()
    assert model.prewarmed
    assert (agent.llm.provider, agent.llm.model) == ("mine", "mine-1")


class Wordless:
    async def stream(self) -> AsyncIterator[str]:
        yield ""


@pytest.mark.parametrize(
    ("llm", "said"),
    [
        (object(), "must be a LanguageModel, or have its method stream"),
        ("gpt-4o", "must be a LanguageModel, or have its method stream"),
        (Generator, "got the class Generator; make an object of it"),
        (Wordless(), "Wordless.stream must take the messages"),
    ],
)
def test_object_without_the_method_is_refused(llm: Any, said: str) -> None:
    """phone.agent() refuses an llm= without a fitting stream method, and says what is missing."""
    with pytest.raises(ConfigurationError, match=said):
        Patter().agent("x", llm=llm, **providers())


def test_tools_need_a_model_that_takes_them() -> None:
    """A model whose stream has no parameter tools= is refused beside tools=."""

    @tool
    async def hours(day: str) -> str:
        """Say the hours of a day."""
        return day

    with pytest.raises(ConfigurationError, match="must be a model that can call tools"):
        Patter().agent("x", llm=Generator(), tools=[hours], **providers())


def test_subclass_is_kept_as_it_is() -> None:
    """A LanguageModel is not adapted."""

    model = ScriptedLLM(["x"])
    assert Patter().agent("x", llm=model, **providers()).llm is model


async def test_cancelled_scope_of_a_model_is_its_own(call_simulator: CallSimulator) -> None:
    """A deadline of a model's own that passes at its yield ends that scope only, and the answer goes on behind it."""

    class Timed:
        async def stream(self, messages: Sequence[Message]) -> AsyncIterator[str]:
            with trio.move_on_after(0.05):
                yield "We open "
                await trio.sleep_forever()
            yield "at nine."

    async with call_simulator(Patter().agent("x", llm=Timed(), **providers())) as caller:
        await caller.speaks("When?", seconds=0.5)
        assert (await caller.hears()).text == "We open at nine."


async def test_blocking_model_is_reported(call_simulator: CallSimulator, caplog: pytest.LogCaptureFixture) -> None:
    """A step of a model that blocks the event loop is reported with its name, as a callback's is."""

    class Blocking:
        async def stream(self, messages: Sequence[Message]) -> AsyncIterator[str]:
            time.sleep(0.2)  # noqa: ASYNC251 (what the test is about)
            yield "Yes."

    async with call_simulator(Patter().agent("x", llm=Blocking(), **providers())) as caller:
        await caller.speaks("When?", seconds=0.5)
        assert (await caller.hears()).text == "Yes."
    assert "stream blocked every call" in caplog.text


class Odd:
    """Fails after two sentences begun, in one of several ways, with or without a pause."""

    def __init__(self, error: BaseException, pause: float) -> None:
        self.error, self.pause = error, pause

    async def stream(self, messages: Sequence[Message]) -> AsyncIterator[str]:
        yield "Hello there. "
        await trio.sleep(self.pause)
        yield "And"
        await trio.sleep(self.pause)
        raise self.error


@pytest.mark.parametrize("pause", few([0.0, 0.1, 1.0], 2))
@pytest.mark.parametrize(
    "error", few([KeyError("x"), ProviderError("gone"), asyncio.CancelledError(), GeneratorExit()], 2), ids=repr
)
async def test_failure_follows_the_pieces_before_it(
    call_simulator: CallSimulator, error: BaseException, pause: float
) -> None:
    """A model that fails behind a sentence is heard to the end of that sentence, then the error message; each time."""
    async with call_simulator(
        Patter().agent("x", llm=Odd(error, pause), error_message="Sorry.", **providers())
    ) as caller:
        await caller.speaks("When?", seconds=0.5)
        assert (await caller.hears()).text == "Hello there."
        assert (await caller.hears()).text == "Sorry."


async def test_system_exit_of_a_model_is_apologised_for(call_simulator: CallSimulator) -> None:
    """A model that raises SystemExit ends its call, after the error message."""
    async with call_simulator(
        Patter().agent("x", llm=Odd(SystemExit(1), 0.1), error_message="Sorry.", **providers())
    ) as caller:
        await caller.speaks("When?", seconds=0.5)
        await caller.carrier.over.wait()
        assert [heard.text for heard in caller.utterances] == ["Sorry."]
    assert caller.outcome == "failed"


class Plain:
    def stream(self, messages: Sequence[Message]) -> Iterator[str]:
        yield "x"


def test_plain_generator_is_refused() -> None:
    """A stream that is a plain generator is refused at phone.agent(), with what it must be."""
    with pytest.raises(ConfigurationError, match=r"Plain\.stream must be an `async def`, got a plain generator"):
        Patter().agent("x", llm=Plain(), **providers())


async def test_returned_text_is_named(call_simulator: CallSimulator, caplog: pytest.LogCaptureFixture) -> None:
    """A stream that returns a text instead of yielding it fails with a log line that says so."""

    class Returning:
        async def stream(self, messages: Sequence[Message]) -> str:
            return "hello"

    async with call_simulator(Patter().agent("x", llm=Returning(), error_message="Sorry.", **providers())) as caller:
        await caller.speaks("When?", seconds=0.5)
        assert (await caller.hears()).text == "Sorry."
    assert "stream() must yield the pieces of its answer, or return an async iterator, got str" in caplog.text
