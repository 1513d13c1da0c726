"""The conformance checks of LLMs; ``check_llm`` runs them."""

import copy
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from functools import partial
from typing import Any, Final

import attrs

from patter_trio.abc import LanguageModel, Message, ToolDefinition
from patter_trio.conversation.text import is_sayable
from patter_trio.testing.conformance.bench import (
    STEP_TIMEOUT_S,
    Bench,
    Check,
    Credentials,
    demand,
    failure_of,
    findings,
    finish_within,
    run_checks,
    said,
)
from patter_trio.testing.conformance.common import COMMON, REPLIES, demand_stop
from patter_trio.testing.servers.fake_vendor import ServeVendor

QUESTIONS: Final[tuple[tuple[Message, ...], ...]] = (
    ({"role": "system", "content": "You are the desk of a hotel."}, {"role": "user", "content": "Is there a room?"}),
    (
        {"role": "system", "content": "You are the desk of a hotel."},
        {"role": "user", "content": "Is there a room?"},
        {"role": "assistant", "content": "There is."},
        {"role": "user", "content": "Does it have a bath?"},
    ),
)
"""Two conversations that lead to different answers."""
# Not one of them has to be answered; the vendor may refuse. But whatever is raised has to be a ProviderError.
_ODD_TEXTS: Final = {
    "no messages": "",
    "an empty message": "",
    "many scripts": "Grüße, 你好, שלום, नमस्ते, \U0001f469\u200d\U0001f4bb, e\u0301",
    "control characters": "a\x00b\x1bc\r\n\r\ndata: d\u2028e",
    # From ``json.loads`` of an emoji that was cut in two: it is a string, and cannot be encoded.
    "a lone surrogate": "so \ud83d",
    "a megabyte": "word " * 200_000,
}
"""Texts that a caller or a program may pass."""

_TOOL: Final = ToolDefinition("opening_hours", "Return the opening hours.", {"type": "object", "properties": {}})


@attrs.frozen
class LlmBench(Bench):
    """A bench that asks an LLM."""

    questions: Sequence[Sequence[Message]] = QUESTIONS

    async def use(self, provider: LanguageModel, variant: int = 0) -> str:
        """Ask, and read the answer to its end."""
        return "".join([item for item in await self.items(provider, variant) if isinstance(item, str)])

    async def items(self, provider: LanguageModel, variant: int = 0) -> list[Any]:
        """Ask, and return all items of the answer."""
        async with provider.stream(self.questions[variant]) as answer:
            return [item async for item in answer]

    @asynccontextmanager
    async def begun(self, provider: LanguageModel) -> AsyncIterator[None]:
        """Ask, and run the block once the first item of the answer has come."""
        async with provider.stream(self.questions[0]) as answer:
            async for _ in answer:
                yield
                # Left in the middle, with the rest of the answer untaken. An answer
                # without items runs the block all the same.
                return
            yield


async def _answers_in_pieces(bench: LlmBench) -> None:
    provider = bench.provider()
    with finish_within(STEP_TIMEOUT_S, "an answer", "every await has a deadline"):
        items = await bench.items(provider)
    for item in items:
        demand(
            # Tool calls and the like; a vendor's own type would tie the call to that vendor.
            isinstance(item, str) or type(item).__module__.startswith("patter_trio."),
            f"it gave {item!r}"[:120],
            "an answer consists of strings and types of patter_trio",
        )
        demand(not isinstance(item, str) or is_sayable(item), f"it gave {item!r}", "pieces are UTF-8")
    demand("".join(filter(lambda item: isinstance(item, str), items)).strip(), "it gave no text", "an answer has text")
    demand(
        len(items) > 1,
        "it gave its answer in one piece",
        "text is yielded while it is generated, so that it can be spoken early",
    )


async def _ends_its_answer_once(bench: LlmBench) -> None:
    async with bench.provider().stream(bench.questions[0]) as answer:
        # One iterator: ``async for`` over the answer twice might begin a second one, which is another question.
        iterator = aiter(answer)
        async for _ in iterator:
            pass
        more = [item async for item in iterator]
    demand(not more, f"after its end it yielded {more[:1]}", "an iteration that has ended stays ended")


async def _leaves_the_messages_alone(bench: LlmBench) -> None:
    given = copy.deepcopy([dict(message) for message in bench.questions[1]])
    # Deep, because a provider may change a message and leave the list as it is.
    kept = copy.deepcopy(given)
    async with bench.provider().stream(given) as answer:
        async for _ in answer:
            pass
    demand(given == kept, "it changed the messages", "the messages belong to the conversation")


async def _remembers_nothing(bench: LlmBench) -> None:
    provider = bench.provider()
    # The other question between two equal ones: a provider that keeps a conversation answers the third differently.
    first, _, again = await bench.use(provider), await bench.use(provider, 1), await bench.use(provider)
    demand(first == again, f"it answered {again[:40]!r} after {first[:40]!r}", "an answer depends only on the messages")


async def _takes_any_message(bench: LlmBench) -> None:
    provider = bench.provider()
    for name, text in _ODD_TEXTS.items():
        # No messages at all are no reason to crash, either.
        messages: list[Message] = [] if name == "no messages" else [{"role": "user", "content": text}]
        await failure_of(partial(attrs.evolve(bench, questions=[messages]).use, provider), name)


async def _says_whether_it_takes_tools(bench: LlmBench) -> None:
    provider = bench.provider()

    async def use() -> None:
        async with provider.stream(bench.questions[0], tools=[_TOOL]) as answer:
            async for _ in answer:
                pass

    errors = await findings(use) if provider.takes_tools else []
    demand(
        not errors,
        f"with tools it raised {said(errors[0]) if errors else ''}",
        "takes_tools is False for a model whose stream takes no tools",
    )


async def _tells_the_vendor_to_stop(bench: LlmBench) -> None:
    await demand_stop(bench, bench.begun(bench.provider()))


CHECKS: Final = (
    *COMMON,
    *REPLIES,
    Check("tells the vendor to stop", _tells_the_vendor_to_stop, needs_vendor=True),
    Check("answers in pieces", _answers_in_pieces),
    Check("ends its answer once", _ends_its_answer_once),
    Check("leaves the messages alone", _leaves_the_messages_alone),
    Check("remembers nothing", _remembers_nothing),
    Check("takes any message", _takes_any_message),
    Check("says whether it takes tools", _says_whether_it_takes_tools),
)
LLM_CHECKS: Final = tuple(check.name for check in CHECKS)
"""The names of the checks, in their order."""


async def check_llm(
    make: Callable[..., Any],
    *names: str,
    vendor: ServeVendor | None = None,
    credentials: Credentials | None = None,
    questions: Sequence[Sequence[Message]] = QUESTIONS,
    points: int = 150,
    without: Sequence[str] = (),
) -> None:
    """Check that an LLM does what :class:`patter_trio.abc.LanguageModel` demands.

    Args:
        make: makes the provider: without arguments, or with the address of the fake vendor if there is one.
        names: the checks to run, from :data:`LLM_CHECKS`; without names, all checks that can run with the arguments
            given.
        vendor: starts a fake of the provider's vendor, if it has one.
        credentials: how to make the provider without credentials, if it needs any.
        questions: two conversations; asked the same thing again, the LLM must answer the same.
        points: maximum number of steps at which a use is cancelled, one after another; of a longer use, evenly spread
            steps are taken.
        without: the names of checks to leave out.

    Raises:
        NotConforming: at least one check failed; the message has a line for each.
        ValueError: a name is unknown, or the vendor or the credentials that a named check needs were not given.
    """
    bench = LlmBench(LanguageModel, make, vendor, credentials, points=points, questions=questions)
    await run_checks(bench, CHECKS, names, without)
