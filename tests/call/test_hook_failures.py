"""Hooks that raise, give the wrong type, change what they get, are slow, block or never return: fail-open, one line."""

import logging
import time
from typing import Any, ClassVar

import attrs
import pytest
import trio

from patter_trio import PipelineHooks
from patter_trio.abc import CallInfo
from patter_trio.agent.guardrails import guardrail
from patter_trio.agent.hooks import TIERS
from patter_trio.audio.formats import MULAW_8K
from patter_trio.call.hooks import HookRunner
from patter_trio.pytest_plugin import CallSimulator
from patter_trio.testing import ScriptedLLM
from tests.kit.call import agent_of

pytestmark = [pytest.mark.pipeline("an engine has no hooks"), pytest.mark.all_carriers]

HOURS = "We open at nine. We close at five."
NAMES = [name for name in TIERS if name != "guardrails"]
PER_SENTENCE = ["after_llm.on_sentence", "text_transforms", "before_synthesize", "before_tts"]
OFTEN = [name for name in NAMES if TIERS[name].often]
TEXTS = ["after_stt", "after_transcribe", "after_llm.on_chunk", "after_llm.on_response", *PER_SENTENCE]


def options_of(name: str, hook: Any) -> dict[str, Any]:
    """The agent's options with ``hook`` as the one hook of that name."""
    if name == "text_transforms":
        return {"text_transforms": [hook]}
    if name.startswith("after_llm."):
        return {"hooks": PipelineHooks(after_llm={name.removeprefix("after_llm."): hook})}
    return {"hooks": PipelineHooks(**{name: hook})}


def warned(caplog: pytest.LogCaptureFixture) -> list[logging.LogRecord]:
    return [record for record in caplog.records if record.levelno >= logging.WARNING]


@attrs.frozen
class Talk:
    """One question and its answer: every event and message of audio with its instant, and every word."""

    what: list[Any]
    when: list[float]
    words: Any

    def first(self, name: str) -> float:
        return self.when[self.what.index(name)]

    def is_like(self, other: "Talk") -> bool:
        """Nothing differs, and nothing has moved by a microsecond."""
        assert self.words == other.words
        assert self.what == other.what
        return self.when == pytest.approx(other.when, abs=1e-6)


async def talk(call_simulator: CallSimulator, **options: Any) -> Talk:
    llm = ScriptedLLM([HOURS])
    async with call_simulator(agent_of(llm=llm, **options)) as caller:
        await caller.speaks("Your hours?", seconds=1.0)
        await caller.hears()
    # What Plivo reports behind the end of a call is not of the call.
    reported = [(at, name) for at, name, _ in caller.events if name != "cost_reported"]
    sent = [(a.at, (len(a.audio), a.mark)) for a in caller.carrier.arrivals]
    texts = [message["content"] for request in llm.requests for message in request]
    return Talk([what for _, what in reported + sent], [at for at, _ in reported + sent], (caller.dialogue, texts))


_undisturbed: dict[bool, Talk] = {}


async def undisturbed(call_simulator: CallSimulator, name: str) -> Talk:
    """The same call without the hook; with one that changes nothing where a hook holds the answer back by design."""
    held = name == "after_llm.on_response"
    if held not in _undisturbed:  # every call of the simulator is the same, so that one serves all tests
        options = options_of(name, lambda text: text) if held else {}
        _undisturbed[held] = await talk(call_simulator, **options)
    return _undisturbed[held]


def raises(*arguments: object) -> None:
    raise LookupError("no such customer")


async def raises_later(*arguments: object) -> None:
    await trio.lowlevel.checkpoint()
    raise LookupError("no such customer")


def changes(value: Any, *rest: object) -> Any:
    """Change what can be changed in place, and then fail."""
    if isinstance(value, list):
        value.clear()
    raise LookupError("no such customer")


@pytest.mark.parametrize(
    ("name", "hook"), [(name, hook) for name in NAMES for hook in (raises, raises_later)] + [("before_llm", changes)]
)
async def test_raising_hook_changes_nothing_and_is_reported(
    call_simulator: CallSimulator, caplog: pytest.LogCaptureFixture, name: str, hook: Any
) -> None:
    """A raising hook changes neither data nor timing, and the log reports it with the call and the hook name."""
    without = await undisturbed(call_simulator, name)
    assert (await talk(call_simulator, **options_of(name, hook))).is_like(without)
    records = warned(caplog)
    label = "text_transforms[0]" if name == "text_transforms" else name
    assert {record.name for record in records} == {"patter_trio.events"}
    line = f"hook {label}: {hook.__name__} raised LookupError: no such customer; the original passes"
    assert {record.message.partition(": ")[2] for record in records} == {line}
    assert all(record.message.startswith("call ") for record in records)
    assert all(record.exc_info is not None for record in records)
    assert len(records) == (2 if name in PER_SENTENCE else 1)  # two sentences; of what is asked often, the first only


@pytest.mark.parametrize("name", NAMES)
async def test_wrong_hook_type_is_treated_as_raising(
    call_simulator: CallSimulator, caplog: pytest.LogCaptureFixture, name: str
) -> None:
    """A hook that returns a wrong type has the same effect as a hook that raises."""

    def wrong(*arguments: object) -> Any:
        return 5

    without = await undisturbed(call_simulator, name)
    assert (await talk(call_simulator, **options_of(name, wrong))).is_like(without)
    records = warned(caplog)
    assert records
    assert all("wrong must give " in record.message for record in records)
    assert all(record.message.endswith(", not int; the original passes") for record in records)


@pytest.mark.parametrize(
    ("name", "answer", "message"),
    [
        ("before_stt", b"ab", "must give as much audio as it got ("),
        ("before_stt", b"abc", "must give 16-bit audio (bytes) or None, not bytes"),
        ("after_tts", b"abc", "must give 16-bit audio (bytes) or None, not bytes"),
        ("after_tts", "text", "must give 16-bit audio (bytes) or None, not str"),
        ("before_llm", [{"content": "no role"}], "must give a list of messages (dicts with a role) or None, not list"),
        ("before_llm", {"role": "user"}, "must give a list of messages (dicts with a role) or None, not dict"),
        ("after_llm.on_chunk", None, "must give text, not NoneType"),
        ("text_transforms", None, "must give text, not NoneType"),
        ("after_stt", b"words", "must give a Transcript, text or None, not bytes"),
        *[(name, "Half \ud83d.", "must give text that can be encoded in UTF-8, not str") for name in TEXTS],
    ],
)
async def test_unusable_hook_result_is_explained_in_warning(
    call_simulator: CallSimulator, caplog: pytest.LogCaptureFixture, name: str, answer: Any, message: str
) -> None:
    """A hook result that the call cannot use changes nothing, and a warning explains the problem."""

    def hook(value: Any) -> Any:
        return answer

    without = await undisturbed(call_simulator, name)
    assert (await talk(call_simulator, **options_of(name, hook))).is_like(without)
    assert message in warned(caplog)[0].message


class _Never:
    def __init__(self) -> None:
        self.asked = self.cancelled = 0

    async def __call__(self, value: Any) -> Any:
        self.asked += 1
        try:
            await trio.sleep_forever()
        except trio.Cancelled:
            self.cancelled += 1
            raise


@pytest.mark.parametrize("name", NAMES)
async def test_hook_timeout_cancels_hook_and_keeps_original(
    call_simulator: CallSimulator, caplog: pytest.LogCaptureFixture, name: str
) -> None:
    """The call cancels a hook that never returns at its deadline, and the original value passes."""
    hook = _Never()
    without = await undisturbed(call_simulator, name)
    late = await talk(call_simulator, **options_of(name, hook))
    assert late.words == without.words
    assert hook.asked == hook.cancelled
    for record in warned(caplog):
        assert f" did not return within {TIERS[name].deadline:g} s; the original passes" in record.message
    # Edges of the caller's voice come when they came; the reply is later by the hook's deadline.
    assert late.first("user_speech_started") == pytest.approx(without.first("user_speech_started"))
    assert late.first("agent_speech_started") - without.first("agent_speech_started") <= TIERS[name].deadline + 0.01
    if name in OFTEN:  # every 20 ms of a deadline would be for ever
        assert hook.asked == 1
        assert warned(caplog)[0].message.endswith("; the original passes, and it is disabled for this call")
        assert len(warned(caplog)) == 1


@pytest.mark.parametrize("name", NAMES)
async def test_slow_hook_warns_once_per_call(
    call_simulator: CallSimulator, caplog: pytest.LogCaptureFixture, name: str
) -> None:
    """A hook that exceeds its time budget causes one warning per call."""
    tier = TIERS[name]

    async def slow(value: Any) -> Any:
        await trio.sleep(tier.budget + 0.004)
        return value

    without = await undisturbed(call_simulator, name)
    assert (await talk(call_simulator, **options_of(name, slow))).words == without.words
    [record] = warned(caplog)
    assert f"slow took {(tier.budget + 0.004) * 1000:.0f} ms; its budget is {tier.budget * 1000:g} ms" in record.message


async def test_hanging_hook_delays_no_other_call(call_simulator: CallSimulator) -> None:
    """A hook that never returns in one call delays no other call."""

    async def hang_for_the_first(text: str, ctx: Any) -> str:
        if ctx.call_id.endswith("1"):
            await trio.sleep_forever()
        return text

    hooks = PipelineHooks(after_transcribe=hang_for_the_first, after_tts=hang_for_the_first)
    stuck, free = agent_of(HOURS, hooks=hooks), agent_of(HOURS)

    async def other(alone: bool) -> Any:
        async with call_simulator(free if alone else stuck) as first, call_simulator(free) as caller:
            await first.speaks("Your hours?", seconds=1.0, wait=False)
            await caller.speaks("Your hours?", seconds=1.0)
            await caller.hears()
            await first.heard(0)
        return [(name, round(at, 4)) for at, name, _ in caller.events if not name.startswith("call_end")], [
            (round(a.at, 4), len(a.audio), a.mark) for a in caller.carrier.arrivals
        ]

    assert await other(alone=False) == await other(alone=True)


async def test_blocking_sync_hook_is_reported_once() -> None:
    """A hook that blocks the event loop for 60 ms, or exceeds its budget of 1 ms, makes one log line.

    The test runs on the real clock.
    """

    class Call:
        info = CallInfo("CA1", "+1", "+2", "inbound")
        history: ClassVar[list[dict[str, Any]]] = []

    def blocks(pcm: bytes) -> bytes:
        time.sleep(0.06)
        return pcm

    def too_slow_for_a_chunk(chunk: str) -> str:
        time.sleep(0.002)
        return chunk

    records: list[logging.LogRecord] = []
    handler = logging.Handler()
    handler.emit = records.append  # type: ignore[method-assign]
    logger = logging.getLogger("patter_trio.events")
    logger.addHandler(handler)
    try:
        agent = agent_of(hooks=PipelineHooks(before_stt=blocks, after_llm={"on_chunk": too_slow_for_a_chunk}))
        hook_runner = HookRunner(agent, Call(), lambda *_: None)
        through = hook_runner.incoming(MULAW_8K)
        assert through is not None
        assert await through(b"\xff" * 160) == b"\xff" * 160
        reply = hook_runner.of_reply(MULAW_8K, lambda *_, **__: None, generated=True)
        assert [await reply.piece("a"), await reply.piece("b")] == ["a", "b"]
    finally:
        logger.removeHandler(handler)
    blocked, slow = [record.getMessage() for record in records]
    assert "blocks blocked every call for " in blocked
    assert "hook after_llm.on_chunk: " in slow
    assert slow.endswith(" ms; its budget is 1 ms")


async def test_cancelling_reply_cancels_pending_hook(
    call_simulator: CallSimulator, caplog: pytest.LogCaptureFixture
) -> None:
    """Cancelling a reply cancels the hook for which the reply waits."""
    hook = _Never()
    async with call_simulator(agent_of(HOURS, **options_of("before_llm", hook))) as caller:
        await caller.speaks("Your hours?", seconds=1.0)
        await caller.at(1.7)
        await caller.speaks("And prices?", seconds=0.5)
        await caller.hears()
    assert hook.asked == hook.cancelled == 2
    assert len(warned(caplog)) == 1  # the second one's deadline; the first had done nothing wrong
    assert caller.dialogue[0] == ("user", "Your hours? And prices?")


# Guardrails and transforms --------------------------------------------------------------------------------------------
async def reply_of(call_simulator: CallSimulator, reply: str, **options: Any) -> str:
    async with call_simulator(agent_of(reply, **options)) as caller:
        await caller.speaks("Well?", seconds=0.5)
        await caller.waits(12.0)
    return " ".join(text for role, text in caller.dialogue if role == "assistant")


LONG = "Initech is cheaper by far. Our own tables are better. Yes, buy from Initech instead."


async def test_blocked_sentence_is_replaced_once(call_simulator: CallSimulator) -> None:
    """A guardrail replaces a blocked sentence once, and the agent says the other sentences."""
    rail = guardrail("rivals", blocked_terms=["initech"], replacement="Let us talk about us.")
    assert await reply_of(call_simulator, LONG, guardrails=[rail]) == (
        "Let us talk about us. Our own tables are better."
    )


async def test_a_guardrail_sees_the_rewritten_sentence(call_simulator: CallSimulator) -> None:
    """A guardrail checks the sentence as hooks and text transforms have left it."""
    seen: list[str] = []
    rail = guardrail("rivals", check=lambda text: seen.append(text) or "Initech" in text, replacement="")
    hooks = PipelineHooks(after_llm={"on_sentence": lambda text: text.replace("Initech", "Globex")})
    upper = {"text_transforms": [lambda text: text.replace("Globex", "**Initech**")], "hooks": hooks}
    assert await reply_of(call_simulator, LONG, guardrails=[rail], hooks=hooks) == LONG.replace("Initech", "Globex")
    assert seen[0] == "Globex is cheaper by far."
    assert await reply_of(call_simulator, LONG, guardrails=[rail], **upper) == "Our own tables are better."
    assert "**Initech** is cheaper by far." in seen


async def test_guardrail_check_can_be_async_with_context(call_simulator: CallSimulator) -> None:
    """A guardrail check can be async and can receive the context."""

    async def check(text: str, ctx: Any) -> bool:
        await trio.sleep(0.05)
        return "tables" in text and ctx.history[-1]["role"] == "user"

    rail = guardrail("tables", check=check, replacement="No comment on these.")
    assert (await reply_of(call_simulator, LONG, guardrails=[rail])).split(". ")[1] == "No comment on these"


async def test_first_blocking_guardrail_wins_without_recheck(
    call_simulator: CallSimulator,
) -> None:
    """The first guardrail that blocks decides, and no guardrail checks its replacement."""
    asked: list[str] = []
    first = guardrail("one", ["Initech"], replacement="Initech is a name that I must not say.")
    second = guardrail("two", check=asked.append)  # type: ignore[arg-type]
    assert (await reply_of(call_simulator, LONG, guardrails=[first, second])).startswith(first.replacement)
    assert asked == ["Our own tables are better."]


async def test_a_check_that_raises_blocks(call_simulator: CallSimulator, caplog: pytest.LogCaptureFixture) -> None:
    """A guardrail check that raises blocks its sentence and logs one warning."""
    rail = guardrail("prices", check=lambda text: text["no such"], replacement="I cannot say.")
    assert await reply_of(call_simulator, LONG, guardrails=[rail]) == "I cannot say."
    records = warned(caplog)
    assert len(records) == 3
    assert all("hook guardrail 'prices': " in record.message for record in records)
    assert all(record.message.endswith("; blocked") for record in records)


async def test_a_check_that_never_returns_blocks(
    call_simulator: CallSimulator, caplog: pytest.LogCaptureFixture
) -> None:
    """A guardrail check that does not return within 3 s blocks its sentence."""
    rail = guardrail("prices", check=_Never(), replacement="I cannot say.")
    assert await reply_of(call_simulator, "It is five dollars.", guardrails=[rail]) == "I cannot say."
    assert warned(caplog)[0].message.endswith(" did not return within 3 s; blocked")


async def test_log_and_events_omit_blocked_text(
    call_simulator: CallSimulator, caplog: pytest.LogCaptureFixture
) -> None:
    """The log and the events do not repeat the blocked text."""
    caplog.set_level(logging.DEBUG)
    await reply_of(call_simulator, LONG, guardrails=[guardrail("rivals", ["initech"])])
    assert not [record for record in caplog.records if "Initech" in record.getMessage()]
    assert [record.getMessage().partition(": ")[2] for record in caplog.records if "rivals" in record.getMessage()] == [
        "guardrail 'rivals' blocked a sentence"
    ] * 2


async def test_text_transforms_apply_in_order_per_sentence(call_simulator: CallSimulator) -> None:
    """The text transforms apply in their order to each sentence."""
    transforms = [lambda text: text.replace("nine", "ten"), lambda text: text.replace("ten", "eleven"), str.upper]
    assert await reply_of(call_simulator, HOURS, text_transforms=transforms) == "WE OPEN AT ELEVEN. WE CLOSE AT FIVE."


async def test_empty_transform_drops_sentence_failing_is_skipped(
    call_simulator: CallSimulator,
) -> None:
    """A transform that returns nothing drops the sentence, and the call skips a transform that raises."""
    transforms = [lambda text: "" if "nine" in text else text, raises, str.upper]
    assert await reply_of(call_simulator, HOURS, text_transforms=transforms) == "WE CLOSE AT FIVE."


async def test_reply_transformed_to_blanks_says_nothing(call_simulator: CallSimulator) -> None:
    """The agent says nothing if the text transforms leave only blanks of a reply."""
    assert await reply_of(call_simulator, HOURS, text_transforms=[lambda text: "  "]) == ""
