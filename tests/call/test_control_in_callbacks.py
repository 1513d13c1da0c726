"""``(event, call_control)`` on callbacks: each that takes it gets it, and what is done with it is done to its call."""

from typing import Any

import pytest
import trio
import trio.testing

from patter_trio import CallControl, CallEnded, Patter, PatterError, ProviderError
from patter_trio.abc import CallInfo
from patter_trio.call.announced import MAX_DEFERRED_COMMANDS, PendingControl
from patter_trio.events.payloads import EDGES
from patter_trio.pytest_plugin import CallSimulator
from patter_trio.testing import ScriptedTTS
from tests.kit.call import agent_of, transcripts_of
from tests.kit.depth import few

pytestmark = pytest.mark.all_carriers

DESK = "+15550100003"
CALLBACKS = ("on_call_start", "on_transcript", "on_metrics", "on_dtmf", "on_call_end")


# Who gets it ----------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("asynchronous", [False, True])
async def test_every_callback_can_receive_call_control(call_simulator: CallSimulator, asynchronous: bool) -> None:
    """Every callback can receive the control of its call."""
    got: dict[str, set[str]] = {}

    def noting(name: str) -> Any:
        def plain(event: dict[str, Any], call: CallControl) -> None:
            got.setdefault(name, set()).add(call.call_id)
            assert event["call_id"] == call.call_id

        async def coroutine(event: dict[str, Any], call: CallControl) -> None:
            await trio.lowlevel.checkpoint()
            plain(event, call)

        return coroutine if asynchronous else plain

    phone = Patter()
    for edge in EDGES:
        setattr(phone, f"on_{edge}", noting(f"on_{edge}"))
    agent = agent_of("Yes, certainly.")
    async with call_simulator(agent, phone=phone, **{name: noting(name) for name in CALLBACKS}) as caller:
        await caller.presses("1")
        await caller.speaks("Hello", seconds=0.5)
        await caller.hears()
    assert got == {name: {caller.carrier.call_id} for name in (*CALLBACKS, *(f"on_{edge}" for edge in EDGES))}


async def test_callback_without_second_parameter_gets_only_event(call_simulator: CallSimulator) -> None:
    """A callback without a required second parameter receives only the event."""
    got: list[tuple[Any, ...]] = []

    def variadic(*arguments: Any) -> None:
        got.append(arguments)

    def with_a_default(event: Any, other: Any = "mine") -> None:
        got.append((event, other))

    async with call_simulator(agent_of(), on_transcript=variadic, on_dtmf=with_a_default) as caller:
        await caller.presses("1")
        await caller.speaks("Hello", seconds=0.5)
        await caller.hears()
    assert [len(arguments) for arguments in got] == [2, 1, 1]
    assert got[0][1] == "mine"


async def test_callback_replaced_mid_call_is_inspected_again(call_simulator: CallSimulator) -> None:
    """The call inspects the signature again when the application replaces a callback during the call."""
    phone, got = Patter(), list[Any]()

    def alone(event: Any) -> None:
        phone.on_user_speech_eos = together  # type: ignore[assignment]
        got.append("alone")

    def together(event: Any, call: CallControl) -> None:
        phone.on_user_speech_eos = alone
        got.append(call.caller)

    phone.on_user_speech_eos = alone
    async with call_simulator(agent_of(), phone=phone) as caller:
        for _ in range(3):
            await caller.speaks("Hello", seconds=0.5)
            await caller.hears()
    assert got == ["alone", "+15550100001", "alone"]


# What it does ---------------------------------------------------------------------------------------------------------
async def test_a_key_connects_the_caller_with_the_desk(call_simulator: CallSimulator) -> None:
    """An on_dtmf that says a text and transfers connects the caller as soon as the text has been played."""

    async def on_dtmf(event: dict[str, Any], call_control: CallControl) -> None:
        if event["digit"] == "0":
            call_control.say("The desk.")
            await call_control.transfer(DESK)

    agent = agent_of(tts=ScriptedTTS(first_audio=0.2, duration=1.0))
    async with call_simulator(agent, on_dtmf=on_dtmf) as caller:
        await caller.at(1.0)
        await caller.presses("0")
        assert (await caller.hears()).text == "The desk."
        await caller.carrier.over.wait()
        assert caller.carrier.ended_at == pytest.approx(1.0 + 0.2 + 1.0 + 0.1, abs=0.001)
    assert (caller.transferred_to, caller.outcome) == (DESK, "transferred")


async def test_on_call_end_control_is_read_only(call_simulator: CallSimulator) -> None:
    """The control in on_call_end exposes the outcome, data and history, and its transfer raises CallEnded."""
    seen: list[Any] = []

    async def on_call_end(event: dict[str, Any], call: CallControl) -> None:
        seen.append((call.ended, call.outcome, call.data, [entry["text"] for entry in call.history]))
        with pytest.raises(CallEnded):
            await call.transfer(DESK)

    async with call_simulator(agent_of(), on_call_end=on_call_end) as caller:
        await caller.speaks("Hello", seconds=0.5)
        await caller.hears()
    assert seen == [(True, "caller_hung_up", {}, ["Hello", "Yes."])]


# Before the call has begun --------------------------------------------------------------------------------------------
async def test_data_set_in_on_call_start_persists(call_simulator: CallSimulator) -> None:
    """Data that on_call_start stores in the control is available throughout the call."""
    phone, kept = Patter(), list[CallControl]()

    def on_call_start(event: dict[str, Any], call: CallControl) -> None:
        kept.append(call)
        call.data["customer"] = 7
        assert {key: getattr(call, key) for key in event} == event
        assert (call.history, call.ended, call.conversation_state["agent"]) == ([], False, "initializing")
        assert phone.calls == ()

    async with call_simulator(agent_of(), phone=phone, on_call_start=on_call_start) as caller:
        await caller.speaks("Hello", seconds=0.5)
        await caller.hears()
        assert phone.calls[0].data == {"customer": 7}
        assert phone.calls[0].data is kept[0].data
        assert [entry["text"] for entry in kept[0].history] == ["Hello", "Yes."]
        kept[0].say("And another thing.")
        assert (await caller.hears()).text == "And another thing."
    assert (kept[0].ended, kept[0].outcome) == (True, "caller_hung_up")


async def test_say_before_call_precedes_greeting(call_simulator: CallSimulator) -> None:
    """The caller hears what on_call_start says before the greeting."""

    def on_call_start(event: dict[str, Any], call: CallControl) -> None:
        call.say("This call is recorded.", interruptible=False)

    agent = agent_of(first_message="Hotel Miller.")
    async with call_simulator(agent, on_call_start=on_call_start) as caller:
        await caller.heard(1)
    assert transcripts_of(caller, "assistant") == ["This call is recorded.", "Hotel Miller."]


async def test_on_call_start_hang_up_ends_at_connection(call_simulator: CallSimulator) -> None:
    """A hang-up in on_call_start ends the call as soon as it connects."""
    async with call_simulator(agent_of(), on_call_start=lambda event, call: call.hang_up()) as caller:
        await caller.carrier.over.wait()
        assert caller.carrier.ended_at == pytest.approx(0.0)
    assert caller.outcome == "agent_hung_up"


async def test_transfer_before_answer_hands_call_over(call_simulator: CallSimulator) -> None:
    """The application can transfer a call before the agent answers it."""

    async def on_call_start(event: dict[str, Any], call: CallControl) -> None:
        await call.transfer(DESK)
        with pytest.raises(ProviderError, match="is being transferred already"):
            await call.transfer(DESK)

    async with call_simulator(agent_of(first_message="Never heard."), on_call_start=on_call_start) as caller:
        await caller.carrier.over.wait()
        assert caller.carrier.ended_at == pytest.approx(0.1)
    assert (caller.transferred_to, caller.outcome, caller.dialogue) == (DESK, "transferred", [])


async def test_failed_early_transfer_lets_agent_answer(call_simulator: CallSimulator) -> None:
    """A transfer ordered in on_call_start that fails lets the agent say so and answer the caller."""

    async def on_call_start(event: dict[str, Any], call: CallControl) -> None:
        await call.transfer(DESK, error_message="Nobody is at the desk.")

    async with call_simulator(agent_of(), on_call_start=on_call_start) as caller:
        caller.carrier.transfer_error = ProviderError("no")
        assert (await caller.hears()).text == "Nobody is at the desk."
        await caller.speaks("Hello", seconds=0.5)
        assert (await caller.hears()).text == "Yes."


async def test_late_on_call_start_controls_running_call(call_simulator: CallSimulator) -> None:
    """A slow on_call_start controls the call that has already begun."""

    async def on_call_start(event: dict[str, Any], call: CallControl) -> None:
        await trio.sleep(3.0)
        call.say("Here I am.")

    async with call_simulator(agent_of(), on_call_start=on_call_start) as caller:
        heard = await caller.hears()
    assert (heard.text, heard.started) == ("Here I am.", pytest.approx(3.2))


INFO = CallInfo("CA1", "+15550100001", "+15550100002", "inbound", {"x": "y"}, "twilio")


async def test_a_call_that_never_connects_is_over(autojump_clock: Any) -> None:
    """The control of a call that never connects raises CallEnded for its pending transfer and any later command."""
    announced = PendingControl(INFO)
    failures: list[str] = []

    async def transfers() -> None:
        try:
            await announced.control.transfer(DESK, wait=True)
        except CallEnded as over:
            failures.append(str(over))

    async with trio.open_nursery() as nursery:
        nursery.start_soon(transfers)
        await trio.testing.wait_all_tasks_blocked()
        announced.close("failed")
    assert failures == ["call CA1 is over (failed)"]
    assert announced.control.ended
    for wish in (announced.control.hang_up, lambda: announced.control.say("x")):
        with pytest.raises(CallEnded, match=r"call CA1 is over \(failed\)"):
            wish()


async def test_deferred_commands_are_limited_and_validated() -> None:
    """The control of a pending call keeps at most 64 commands and rejects an invalid transfer number."""
    announced = PendingControl(INFO)
    for _ in range(MAX_DEFERRED_COMMANDS):
        announced.control.say("x")
    with pytest.raises(PatterError, match="has not connected, and 64 commands already wait for it"):
        announced.control.say("x")
    with pytest.raises(ValueError, match=r"E\.164"):
        await announced.control.transfer("5")


@pytest.mark.parametrize("count", few([256, 1025], 0))
async def test_flood_of_texts_is_refused_not_fatal(call_simulator: CallSimulator, count: int) -> None:
    """say() raises a PatterError once 256 texts wait to be spoken; the call goes on, and those 256 are spoken."""
    refused: list[str] = []

    def on_transcript(event: dict[str, Any]) -> None:
        if event["text"] != "Hello":
            return
        (control,) = phone._live.values()
        for number in range(count):
            try:
                control.say(f"Text {number}.")
            except PatterError as error:
                refused.append(str(error))

    phone = Patter()
    agent = agent_of("Yes.", tts=ScriptedTTS(duration=0.1, per_character=0.01))
    async with call_simulator(agent, phone, on_transcript=on_transcript) as caller:
        await caller.speaks("Hello", 0.5)
        await caller.heard(256, within=200.0)
        await caller.speaks("Still there", 0.5)
        await caller.heard(257)
    assert [heard.text for heard in caller.utterances] == [
        "Yes.",
        *(f"Text {number}." for number in range(256)),
        "Yes.",
    ]
    assert len(refused) == count - 256
    full = f"at most 256 texts may wait to be spoken in a call; call {caller.carrier.call_id} has as many"
    assert set(refused) <= {full}


async def test_flood_of_commands_leaves_room_for_call(call_simulator: CallSimulator) -> None:
    """Commands given in a loop without an await raise a PatterError, and the call ends as it was asked to."""
    refused: list[str] = []

    def on_transcript(event: dict[str, Any]) -> None:
        if event["role"] != "user":
            return
        (control,) = phone._live.values()
        for _ in range(2000):
            try:
                control.hang_up()
            except PatterError as error:
                refused.append(str(error))

    phone = Patter()
    async with call_simulator(agent_of("Goodbye."), phone, on_transcript=on_transcript) as caller:
        await caller.speaks("Hello", 0.5)
        heard = await caller.heard(0)
        await caller.waits(1.0)
    assert (heard.text, caller.outcome) == ("Goodbye.", "agent_hung_up")
    assert "error" not in caller.payloads("call_end")[0]
    assert refused[0].startswith("at most 512 commands may wait in a call; ")
    assert len(refused) == 2000 - 512
