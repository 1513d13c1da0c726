"""The conformance kit itself: a right provider passes, and each check finds the one thing wrong with another."""

from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from functools import partial
from typing import Any

import pytest
import trio
from trio.testing import MockClock

from patter_trio.abc import Message
from patter_trio.testing import (
    LLM_CHECKS,
    STT_CHECKS,
    TTS_CHECKS,
    Credentials,
    NotConforming,
    ScriptedLLM,
    ScriptedSTT,
    check_llm,
    check_stt,
    check_tts,
    disturbed,
)
from patter_trio.testing.faults.proxy import text_frame
from tests.kit.depth import chosen
from tests.kit.line_providers import VARIABLE, LineLLM, LineSTT, LineTTS, kept, live, wrong
from tests.kit.line_vendor import KEY, serve_lines

KINDS: dict[str, tuple[type, Callable[..., Any], tuple[str, ...]]] = {
    "stt": (LineSTT, check_stt, STT_CHECKS),
    "llm": (LineLLM, check_llm, LLM_CHECKS),
    "tts": (LineTTS, check_tts, TTS_CHECKS),
}
FLAWS = {
    "is of its kind and has a name": ("has no name",),
    "is frozen": ("is not frozen",),
    "can be copied and pickled": ("holds a function",),
    "names absent credentials": ("needs no key", "names no variable"),
    "keeps its secret": ("shows its key",),
    "works again": ("counts",),
    "keeps sessions apart": ("mixes sessions",),
    "can be cancelled anywhere": ("closes slowly", "calls it a timeout", "leaves a task"),
    "can be left in the middle": ("says goodbye at length", "leaves a task"),
    "leaves nothing behind": ("leaves a task", "keeps channels", "keeps sockets"),
    "401 is an AuthenticationError": ("makes all errors one", "lets foreign errors out"),
    "429 is a RateLimitError": ("makes all errors one", "lets foreign errors out"),
    "503 is a ProviderError": ("makes all errors one", "lets foreign errors out"),
    "gives up a half-open connection": ("waits for ever",),
    "reports a lost connection": ("takes the end for an end", "lets foreign errors out"),
    "survives garbage": ("believes all it gets",),
    "ignores the unknown": ("knows all messages",),
    "waits for a slow vendor": ("has no patience",),
}
REPLIES = {"gives up a stalled answer": ("waits for ever",)}
FLAWS_OF = {
    "stt": FLAWS
    | {
        "accepts telephone speech": ("wants a studio",),
        "gives transcripts": ("has its own types",),
        "closes segments": ("has one segment",),
        "goes on after a flush": ("takes no more", "ends with a final"),
        "answers an empty flush": ("says no empty words",),
        "takes audio of any size": ("wants whole frames",),
        "takes any language tag": ("knows languages",),
    },
    "llm": FLAWS
    | REPLIES
    | {
        "tells the vendor to stop": ("listens to the end",),
        "answers in pieces": ("answers whole",),
        "ends its answer once": ("says more",),
        "leaves the messages alone": ("takes notes",),
        "remembers nothing": ("remembers",),
        "takes any message": ("writes raw",),
        "says whether it takes tools": ("takes no tools",),
    },
    "tts": FLAWS
    | REPLIES
    | {
        "tells the vendor to stop": ("talks on",),
        "emits telephone speech": ("sings",),
        "says which text it speaks": ("reports no text",),
        "times words in order": ("times wrongly",),
        "speaks before the text ends": ("waits for the text",),
        "is silent without text": ("hums",),
        "goes on after a barge-in": ("takes all for its own",),
        "takes any text": ("writes raw",),
        "takes a long sentence": ("refuses long texts",),
    },
}
# Opens hundreds of sessions.
SLOW_CHECK = "leaves nothing behind"
CASES = [(kind, check, flaw) for kind, flaws in FLAWS_OF.items() for check, names in flaws.items() for flaw in names]
FIRST_CASES = [(kind, check, names[0]) for kind, flaws in FLAWS_OF.items() for check, names in flaws.items() if names]


RIGHT = [(kind, check) for kind, (*_, names) in KINDS.items() for check in names]


@pytest.fixture(autouse=True)
def _nothing_is_kept() -> None:
    kept.clear()
    live.clear()


def behind_a_proxy() -> Any:
    """The vendor, well itself, and a proxy that misbehaves in front of it."""
    return disturbed(serve_lines, lambda vendor: vendor.address, unknown=text_frame('news {"of": "today"}'))


def check_of(kind: str, flaw: str = "", serve: Callable[[], Any] = serve_lines) -> Callable[..., Any]:
    """The kit's check of a provider with a flaw."""
    made, check, _ = KINDS[kind]
    make = wrong(made, flaw)
    credentials = Credentials(partial(make, api_key=""), "api_key", VARIABLE, KEY)
    return partial(check, make, vendor=serve, credentials=credentials)


@pytest.mark.parametrize(
    ("kind", "check"), chosen(RIGHT, [(kind, check) for kind, check in RIGHT if kind == "llm" or check not in FLAWS])
)
async def test_a_right_provider_passes(autojump_clock: MockClock, kind: str, check: str) -> None:
    """A correct STT, LLM and TTS pass each check of their kind."""
    await check_of(kind)(check)


@pytest.mark.parametrize(
    ("kind", "check", "flaw"),
    chosen(CASES, [case for case in FIRST_CASES if case[1] != SLOW_CHECK or case[0] == "llm"]),
)
async def test_each_check_finds_what_is_wrong(autojump_clock: MockClock, kind: str, check: str, flaw: str) -> None:
    """Each check finds the flaw made for it and reports in one line what happened and what must hold."""
    with pytest.raises(NotConforming) as caught:
        await check_of(kind, flaw)(check)
    said = str(caught.value)
    assert said.startswith(f"{check}: ")
    assert "; " in said  # what it did, and what is demanded
    assert "\n" not in said
    for thing in kept:
        if hasattr(thing, "close"):
            thing.close()


@pytest.mark.deep
@pytest.mark.parametrize("kind", KINDS)
async def test_correct_provider_passes_behind_disturbing_proxy(autojump_clock: MockClock, kind: str) -> None:
    """A correct provider passes every check behind a proxy that disturbs the connection."""
    await check_of(kind, serve=behind_a_proxy)()


@pytest.mark.parametrize(
    ("check", "flaw"),
    [
        ("401 is an AuthenticationError", "makes all errors one"),
        ("429 is a RateLimitError", "makes all errors one"),
        ("503 is a ProviderError", "lets foreign errors out"),
        ("gives up a half-open connection", "waits for ever"),
        ("gives up a stalled answer", "waits for ever"),
        ("reports a lost connection", "takes the end for an end"),
        ("ignores the unknown", "knows all messages"),
        ("waits for a slow vendor", "has no patience"),
        ("tells the vendor to stop", "listens to the end"),
    ],
)
async def test_what_is_wrong_is_found_behind_a_proxy(autojump_clock: MockClock, check: str, flaw: str) -> None:
    """A check that needs a vendor also finds the flaw with a proxy in front of the vendor."""
    with pytest.raises(NotConforming, match=f"^{check}: "):
        await check_of("llm", flaw, behind_a_proxy)(check)


async def test_proxy_demands_its_unknown_message(autojump_clock: MockClock) -> None:
    """A proxy without an unknown= message says that it needs one."""
    async with disturbed(serve_lines, lambda vendor: vendor.address) as proxy:
        with pytest.raises(ValueError, match="needs unknown="):
            proxy.misbehave("unknown")


class Swallows(ScriptedLLM):
    """Takes its cancellation for the answer's end."""

    @asynccontextmanager
    async def stream(self, messages: Sequence[Message]) -> AsyncIterator[AsyncIterator[str]]:
        async def pieces() -> AsyncIterator[str]:
            for piece in ("One ", "two "):
                try:
                    await trio.sleep(0.1)
                except trio.Cancelled:
                    return
                yield piece

        yield pieces()


async def test_a_swallowed_cancellation_is_found(autojump_clock: MockClock) -> None:
    """The check of cancellation finds an LLM that ends its answer when it is cancelled."""
    with pytest.raises(NotConforming, match=r"ended as if it had finished, with '.*'; Cancelled is never swallowed"):
        await check_llm(lambda: Swallows([""]), "can be cancelled anywhere", points=1000)


@pytest.mark.parametrize("kind", KINDS)
def test_every_check_has_a_failing_provider(kind: str) -> None:
    """The suite has a faulty provider for each check of the kit."""
    assert set(FLAWS_OF[kind]) == set(KINDS[kind][2])


@pytest.mark.deep
async def test_default_runs_all_checks_and_lists_failures(autojump_clock: MockClock) -> None:
    """Without names all checks run, and the error has a line for each failure."""
    with pytest.raises(NotConforming) as caught:
        await check_of("llm", "answers whole")()
    lines = str(caught.value).splitlines()
    assert "answers in pieces" in {line.partition(":")[0] for line in lines}
    await check_of("llm", "answers whole")(without=[line.partition(":")[0] for line in lines])


async def test_check_that_cannot_run_raises(autojump_clock: MockClock) -> None:
    """A check that is unknown or lacks its vendor raises ValueError and does not count as passed."""
    with pytest.raises(ValueError, match=r"must be one of .*, got 'is nice'"):
        await check_stt(ScriptedSTT, "is nice")
    with pytest.raises(ValueError, match=r"needs vendor= or credentials="):
        await check_stt(ScriptedSTT, "survives garbage")
