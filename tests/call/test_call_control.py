"""``on_message(event, call_control)``: who gets the control, and what it does to its call."""

import builtins
from collections.abc import AsyncIterator, Awaitable
from functools import partial
from typing import Any

import pytest
import trio

from patter_trio import CallControl, CallEnded, ConfigurationError, Patter
from patter_trio.pytest_plugin import CallSimulator
from patter_trio.testing import ScriptedTTS
from patter_trio.user_code.invoke import in_thread
from patter_trio.user_code.signatures import takes_call_control
from tests.kit.call import agent_of, edges, transcripts_of

pytestmark = [pytest.mark.pipeline("its agents are pipelines"), pytest.mark.all_carriers]

NO_LLM = {"llm": None}


# Who gets it ----------------------------------------------------------------------------------------------------------
def one(event: Any) -> str:
    return ""


def two(event: Any, call: Any) -> str:
    return f"{event['text']} in {call.call_id}"


def with_a_default(event: Any, history: Any = None) -> str:
    return ""


def named(event: Any, call_control: Any = None) -> str:
    return ""


def variadic(*arguments: Any) -> str:
    return ""


def keyword_only(event: Any, *, call: Any = None) -> str:
    return ""


class Hotel:
    def one(self, event: Any) -> str:
        return ""

    def two(self, event: Any, call: Any) -> str:
        return two(event, call)

    async def __call__(self, event: Any, call: Any) -> str:
        return two(event, call)


@pytest.mark.parametrize(
    ("function", "gets_it"),
    [
        (one, False),
        (two, True),
        (with_a_default, False),
        (named, True),
        (variadic, False),
        (keyword_only, False),
        (Hotel().one, False),
        (Hotel().two, True),
        (Hotel(), True),
        (Hotel, False),
        (partial(two, {"text": "x"}), False),
        (partial(two, call=None), False),
        (in_thread(two), True),
        (in_thread(one), False),
        (lambda event, call: "", True),
        (print, False),
        (builtins.dict, False),  # has no signature
    ],
)
def test_call_control_goes_to_required_second_argument(function: Any, gets_it: bool) -> None:
    """A function receives the call control only if it has a required second argument."""
    assert takes_call_control(function) is gets_it


async def coroutine(event: Any, call: CallControl) -> str:
    await trio.sleep(0.1)
    return two(event, call)


async def generator(event: Any, call: CallControl) -> AsyncIterator[str]:
    yield "hello in "
    yield call.call_id


def returns_an_awaitable(event: Any, call: CallControl) -> Awaitable[str]:
    return coroutine(event, call)


def returns_a_generator(event: Any, call: CallControl) -> AsyncIterator[str]:
    return generator(event, call)


@pytest.mark.parametrize(
    "on_message",
    [
        two,
        coroutine,
        generator,
        returns_an_awaitable,
        returns_a_generator,
        Hotel(),
        Hotel().two,
        in_thread(two),
    ],
)
async def test_every_form_may_take_it(call_simulator: CallSimulator, on_message: Any) -> None:
    """on_message may take the call control in every form: function, coroutine, generator, method, object or thread."""
    async with call_simulator(agent_of(**NO_LLM), on_message=on_message) as caller:
        await caller.speaks("hello", seconds=0.5)
        assert (await caller.hears()).text == f"hello in {caller.carrier.call_id}"


async def test_responder_signature_is_read_once_at_serve(call_simulator: CallSimulator) -> None:
    """The phone reads the signature of the responder once, when it starts to serve the agent."""
    looked: list[str] = []

    class Watched:
        @property
        def __signature__(self) -> Any:
            looked.append("signature")
            raise TypeError

        def __call__(self, event: Any) -> str:
            return "Yes."

    async with call_simulator(agent_of(**NO_LLM), on_message=Watched()) as caller:
        before = len(looked)
        for _ in range(2):
            await caller.speaks("hello", seconds=0.5)
            assert (await caller.hears()).text == "Yes."
        assert len(looked) == before


# What it has ----------------------------------------------------------------------------------------------------------
async def test_it_knows_its_call(call_simulator: CallSimulator, carrier: str) -> None:
    """The control gives the call's identity, state and history; data is kept, and other changes have no effect."""
    phone, seen = Patter(), list[dict[str, Any]]()

    def on_message(event: Any, call: CallControl) -> str:
        history = call.history
        seen.append(
            {
                "who": (call.call_id, call.caller, call.callee, call.direction, call.telephony_provider),
                "params": call.custom_params,
                "state": call.conversation_state,
                "ended": (call.ended, call.outcome),
                "history": [(entry["role"], entry["text"]) for entry in history],
                "same data": call.data is phone.calls[0].data,
                "same control": call is phone.calls[0],
            }
        )
        assert repr(call) == f"<CallControl {call.call_id}>"
        history.clear()
        call.custom_params["x"] = "y"
        call.data["asked"] = call.data.get("asked", 0) + 1
        return f"Answer {call.data['asked']}."

    async with call_simulator(agent_of(**NO_LLM), phone=phone, on_message=on_message) as caller:
        for text in ("One", "Two"):
            await caller.speaks(text, seconds=0.5)
            await caller.hears()
        assert phone.calls[0].data == {"asked": 2}
    assert seen[1] == {
        "who": (caller.carrier.call_id, "+15550100001", "+15550100002", "inbound", carrier),
        "params": {},
        "state": {"user": "listening", "agent": "thinking"},
        "ended": (False, ""),
        "history": [("user", "One"), ("assistant", "Answer 1."), ("user", "Two")],
        "same data": True,
        "same control": True,
    }


async def test_concurrent_calls_have_separate_control_and_data(call_simulator: CallSimulator) -> None:
    """Two concurrent calls each have their own call control and their own data."""

    def on_message(event: Any, call: CallControl) -> str:
        call.data.setdefault("said", []).append(event["text"])
        return f"{len(call.data['said'])} in {call.call_id}"

    phone = Patter()
    agent = agent_of(**NO_LLM)
    async with (
        call_simulator(agent, phone=phone, on_message=on_message) as one,
        call_simulator(agent, phone=phone, on_message=on_message) as other,
    ):
        await one.speaks("First", seconds=0.5, wait=False)
        await other.speaks("Second", seconds=0.5)
        for caller in (one, other):
            assert (await caller.heard(0)).text == f"1 in {caller.carrier.call_id}"
        assert {call.call_id: call.data for call in phone.calls} == {
            one.carrier.call_id: {"said": ["First"]},
            other.carrier.call_id: {"said": ["Second"]},
        }


# What it does ---------------------------------------------------------------------------------------------------------
async def test_hang_up_waits_for_accompanying_reply_playout(call_simulator: CallSimulator) -> None:
    """A hang-up waits until the reply that accompanies it has played."""

    async def on_message(event: Any, call: CallControl) -> str:
        call.hang_up()
        assert call.ended
        assert not call.outcome
        return "Goodbye, and thank you."

    async with call_simulator(agent_of(**NO_LLM), on_message=on_message) as caller:
        await caller.speaks("That was all", seconds=0.5)
        goodbye = await caller.hears()
        await caller.carrier.over.wait()
        assert caller.carrier.ended_at == pytest.approx(goodbye.ended)
    assert (goodbye.text, goodbye.interrupted) == ("Goodbye, and thank you.", False)
    assert caller.outcome == "agent_hung_up"
    assert transcripts_of(caller, "assistant") == ["Goodbye, and thank you."]


async def test_hanging_up_without_another_word(call_simulator: CallSimulator) -> None:
    """An on_message that hangs up and says nothing ends the call at the instant of the eos."""

    async def on_message(event: Any, call: CallControl) -> None:
        await call.hangup()  # getpatter's name and form

    async with call_simulator(agent_of(**NO_LLM), on_message=on_message) as caller:
        await caller.speaks("That was all", seconds=0.5)
        await caller.carrier.over.wait()
        assert caller.carrier.ended_at == pytest.approx(caller.times("user_speech_eos")[0])
    assert caller.outcome == "agent_hung_up"


async def test_say_in_on_message_follows_its_reply(call_simulator: CallSimulator) -> None:
    """A say in on_message follows the reply that on_message returns, within the same turn."""

    def on_message(event: Any, call: CallControl) -> str:
        call.say("And another thing.")
        return "Yes."

    async with call_simulator(agent_of(**NO_LLM), on_message=on_message) as caller:
        await caller.speaks("Hello", seconds=0.5)
        assert [(await caller.heard(number)).text for number in (0, 1)] == ["Yes.", "And another thing."]
    assert [payload["turn_idx"] for payload in caller.payloads("agent_speech_started")] == [1, 1]


async def test_interrupting_say_replaces_its_on_message(call_simulator: CallSimulator) -> None:
    """A say with interrupt=True cancels the on_message that made it, and the caller hears only the say."""
    cancelled: list[float] = []

    async def on_message(event: Any, call: CallControl) -> str:
        call.say("I cannot help you with that.", interrupt=True)
        try:
            await trio.sleep(10)
        finally:
            cancelled.append(trio.current_time())
        return "Never heard."

    async with call_simulator(agent_of(**NO_LLM), on_message=on_message) as caller:
        await caller.speaks("Hello", seconds=0.5)
        assert (await caller.hears()).text == "I cannot help you with that."
        await caller.waits(20.0)
        eos = caller.carrier.media_start + caller.times("user_speech_eos")[0]
    assert cancelled == [pytest.approx(eos)]
    assert transcripts_of(caller, "assistant") == ["I cannot help you with that."]


async def test_uninterruptible_say_plays_to_its_end(call_simulator: CallSimulator) -> None:
    """A say with interruptible=False plays its 4 s to the end although the caller speaks."""

    def on_message(event: Any, call: CallControl) -> None:
        if event["text"] == "Hello":
            call.say("This call is being recorded.", interruptible=False)

    agent = agent_of(**NO_LLM, tts=ScriptedTTS(duration=4.0))
    async with call_simulator(agent, on_message=on_message) as caller:
        await caller.speaks("Hello", seconds=0.5)
        await caller.at(2.5)
        await caller.speaks("Yes yes", seconds=1.0)
        notice = await caller.heard(0)
    assert (notice.interrupted, notice.seconds) == (False, pytest.approx(4.0, abs=0.05))


@pytest.mark.parametrize("text", [None, 5, ["Hello"], b"Hello"], ids=["none", "number", "list", "bytes"])
async def test_say_takes_only_a_string(text: Any, call_simulator: CallSimulator) -> None:
    """A say of anything but a string raises at once, and what the agent says next is heard: no silent turn."""
    phone = Patter()
    async with call_simulator(agent_of(first_message="Hello."), phone) as caller:
        await caller.hears()
        with pytest.raises(ConfigurationError, match="text must be a string, got"):
            phone.calls[0].say(text)
        phone.calls[0].say("Still here.")
        assert (await caller.hears()).text == "Still here."


async def test_after_the_call_it_says_so(call_simulator: CallSimulator) -> None:
    """After the call the control has outcome and history, and hang_up and say raise CallEnded."""
    kept: list[CallControl] = []

    def on_message(event: Any, call: CallControl) -> str:
        kept.append(call)
        return "Yes."

    async with call_simulator(agent_of(**NO_LLM), on_message=on_message) as caller:
        await caller.speaks("Hello", seconds=0.5)
        await caller.hears()
        assert not kept[0].ended
        await caller.hangs_up()
        await caller.waits(1.0)
    [call] = kept
    assert (call.ended, call.outcome) == (True, "caller_hung_up")
    assert [entry["text"] for entry in call.history] == ["Hello", "Yes."]
    for demand in (call.hang_up, lambda: call.say("More")):
        with pytest.raises(CallEnded, match=r"is over \(caller_hung_up\)"):
            demand()
    assert [name for _, name in edges(caller)][-1] == "call_end"


async def test_calls_of_the_phone_are_the_controls(call_simulator: CallSimulator) -> None:
    """``phone.calls`` holds the very object that ``on_call_start`` got before the call connected."""
    phone, started = Patter(), list[CallControl]()

    def on_call_start(event: Any, call: CallControl) -> None:
        assert (call.turn_idx, call.metrics, phone.calls) == (0, None, ())
        started.append(call)

    async with call_simulator(agent_of(), phone=phone, on_call_start=on_call_start) as caller:
        await caller.at(1.0)
        [call] = phone.calls
        assert call is started[0]
        await call.hangup()
        await caller.carrier.over.wait()
    assert caller.outcome == "agent_hung_up"


def test_a_control_shows_nothing_of_the_session() -> None:
    """A call control has exactly the public names that the application is promised."""
    assert {name for name in dir(CallControl) if not name.startswith("_")} == {
        *("call_id", "caller", "callee", "direction", "telephony_provider", "custom_params"),
        *("data", "history", "conversation_state", "turn_idx", "metrics", "silence", "outcome", "ended"),
        *("say", "hang_up", "hangup", "transfer", "send_dtmf", "send_text"),
    }


async def test_a_control_counts_turns_and_measures(call_simulator: CallSimulator) -> None:
    """``turn_idx`` and ``metrics`` follow the call and keep the final figures after it."""
    phone, ends = Patter(), list[dict[str, Any]]()
    async with call_simulator(agent_of("Yes."), phone=phone, on_call_end=ends.append) as caller:
        await caller.at(1.0)
        [call] = phone.calls
        assert call.metrics is not None
        assert (call.turn_idx, call.metrics.duration_seconds, call.metrics.turns) == (0, pytest.approx(1.0), ())
        for text in ("One", "Two"):
            await caller.speaks(text, seconds=0.5)
            await caller.hears()
        await caller.waits(1.0)
        assert (call.turn_idx, [turn.user_text for turn in call.metrics.turns]) == (2, ["One", "Two"])
    await trio.sleep(5.0)
    assert call.metrics == ends[0]["metrics"]
    assert call.metrics.duration_seconds < trio.current_time() - 4.0
