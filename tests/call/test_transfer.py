"""Handing a call over: when it happens, how the call ends by it, and what becomes of a transfer that fails."""

import re
from functools import partial
from typing import Any

import pytest
import trio
import trio.testing

from patter_trio import CallControl, CallEnded, Patter, ProviderError, ProviderTimeout
from patter_trio.abc import CallInfo
from patter_trio.call.transfer_request import transfer_request
from patter_trio.call.transfers import Transfers
from patter_trio.carriers.local import LocalCarrier
from patter_trio.conversation.inputs import Transfer, TransferFailed
from patter_trio.errors import ConfigurationError
from patter_trio.pytest_plugin import CallSimulator
from patter_trio.testing import ScriptedTTS
from tests.kit.call import SORRY, agent_of, transcripts_of

pytestmark = pytest.mark.all_carriers

NO_LLM = {"llm": None}
DESK = "+15550100003"


async def connects(event: Any, call: CallControl) -> str | None:
    """Transfers a caller who asks for the desk, and answers others."""
    if "desk" not in event["text"]:
        return "Yes."
    await call.transfer(DESK)
    assert not call.ended
    return "I will put you through."


async def test_transfer_waits_for_accompanying_reply_playout(
    call_simulator: CallSimulator, caplog: pytest.LogCaptureFixture
) -> None:
    """A transfer starts when the reply that accompanies it has played."""
    caplog.set_level("INFO")
    ends: list[dict[str, Any]] = []
    async with call_simulator(agent_of(**NO_LLM), on_message=connects, on_call_end=ends.append) as caller:
        await caller.speaks("The desk please", seconds=1.0)
        last = await caller.hears()
        await caller.carrier.over.wait()
        assert caller.carrier.ended_at == pytest.approx(last.ended + caller.carrier.transfer_delay)
    assert (last.text, last.interrupted) == ("I will put you through.", False)
    assert (caller.transferred_to, caller.outcome) == (DESK, "transferred")
    assert [end["outcome"] for end in ends] == ["transferred"]
    assert "error" not in ends[0]
    assert f"call {caller.carrier.call_id}: transferred to +1555***0003" in caplog.text


async def test_nobody_interrupts_the_words_before_it(call_simulator: CallSimulator) -> None:
    """The caller cannot interrupt the words before a transfer, and what the caller says enters the transcript."""
    agent = agent_of(**NO_LLM, tts=ScriptedTTS(duration=4.0))
    async with call_simulator(agent, on_message=connects) as caller:
        await caller.speaks("The desk please", seconds=1.0)
        await caller.at(3.0)
        await caller.speaks("And quickly", seconds=1.0)
        assert not (await caller.heard(0)).interrupted
        await caller.carrier.over.wait()
    assert caller.outcome == "transferred"
    assert caller.dialogue[-1] == ("user", "And quickly")


async def test_idle_call_handle_transfers_at_once(
    call_simulator: CallSimulator,
) -> None:
    """A call handle of the phone transfers at once if the agent says nothing."""
    phone = Patter()
    async with call_simulator(agent_of(), phone=phone) as caller:
        await caller.at(1.0)
        await phone.calls[0].transfer("sip:desk@pbx.example.com;transport=tls", wait=True)
        assert caller.now == pytest.approx(1.1)
    assert (caller.transferred_to, caller.outcome) == ("sip:desk@pbx.example.com;transport=tls", "transferred")


@pytest.mark.parametrize("to", ["5550100003", "+1 555 0100003", "+0155501000", "+1", "", "sip:desk", "tel:+1555", None])
async def test_invalid_transfer_destination_changes_nothing(call_simulator: CallSimulator, to: Any) -> None:
    """An invalid transfer destination raises an error and changes nothing."""
    phone = Patter()
    async with call_simulator(agent_of(), phone=phone) as caller:
        await caller.at(1.0)
        with pytest.raises(ValueError, match=r"an E\.164 number .*, got "):
            await phone.calls[0].transfer(to)
        await caller.speaks("Hello", seconds=0.5)
        assert (await caller.hears()).text == "Yes."
    assert (caller.transferred_to, caller.outcome) == ("", "caller_hung_up")


# When it fails --------------------------------------------------------------------------------------------------------
async def test_failed_transfer_apologises_and_call_continues(
    call_simulator: CallSimulator, caplog: pytest.LogCaptureFixture
) -> None:
    """The agent reports a failed transfer to the caller, and the call goes on."""
    async with call_simulator(agent_of(**NO_LLM), on_message=connects) as caller:
        caller.carrier.transfer_error = ProviderError("https://api.twilio.com answered 500")
        await caller.speaks("The desk please", seconds=1.0)
        asked = (await caller.heard(0)).ended
        sorry = await caller.heard(1)
        assert (sorry.text, sorry.started) == (SORRY, pytest.approx(asked + 0.1 + 0.2))
        caller.carrier.transfer_error = None
        await caller.speaks("Hello", seconds=0.5)
        assert (await caller.heard(2)).text == "Yes."
        await caller.speaks("The desk again", seconds=0.8)
        await caller.carrier.over.wait()
    assert (caller.transferred_to, caller.outcome) == (DESK, "transferred")
    assert caplog.text.count("transfer failed: https://api.twilio.com answered 500") == 1


@pytest.mark.parametrize(("text", "heard"), [("Nobody is there.", ["Nobody is there."]), ("", [])])
async def test_transfer_error_message_can_be_customised(call_simulator: CallSimulator, text: str, heard: Any) -> None:
    """The application can set the text that the caller hears after a failed transfer."""
    phone = Patter()
    async with call_simulator(agent_of(), phone=phone) as caller:
        caller.carrier.transfer_error = ProviderError("no")
        await caller.at(1.0)
        await phone.calls[0].transfer(DESK, error_message=text)
        await caller.waits(5.0)
        assert transcripts_of(caller, "assistant") == heard
    assert caller.outcome == "caller_hung_up"


async def test_failed_transfer_has_its_own_default(call_simulator: CallSimulator) -> None:
    """Without an error_message, the caller hears that nobody is free: there is nothing to say again."""
    phone = Patter()
    async with call_simulator(agent_of(error_message=None), phone) as caller:
        await caller.waits(0.5)
        caller.carrier.transfer_error = ProviderError("refused")
        await phone.calls[0].transfer("+15550100003")
        assert (await caller.hears()).text == "I am sorry, nobody can take your call right now."
    assert caller.transferred_to == ""


async def test_awaited_transfer_raises_cause_without_apology(call_simulator: CallSimulator) -> None:
    """An awaited transfer raises the cause of its failure, and the application speaks next."""
    phone = Patter()
    async with call_simulator(agent_of(), phone=phone) as caller:
        caller.carrier.transfer_error = ProviderError("too many calls")
        await caller.at(1.0)
        with pytest.raises(ProviderError, match="too many calls"):
            await phone.calls[0].transfer(DESK, error_message="", wait=True)
        assert caller.now == pytest.approx(1.1)
        phone.calls[0].say("Please hold the line.")
        assert (await caller.hears()).text == "Please hold the line."


async def test_transfer_times_out_with_its_request(call_simulator: CallSimulator) -> None:
    """A transfer fails if the carrier does not answer its request within the four seconds that a request has."""
    phone = Patter()
    async with call_simulator(agent_of(), phone=phone) as caller:
        caller.carrier.transfer_delay = 60.0
        await caller.at(1.0)
        with pytest.raises(ProviderTimeout, match="did not answer within 4 s"):
            await phone.calls[0].transfer(DESK, error_message="", wait=True)
        assert caller.now == pytest.approx(5.0)
        await caller.speaks("Hello", seconds=0.5)
        assert (await caller.hears()).text == "Yes."
    assert (caller.transferred_to, caller.outcome) == ("", "caller_hung_up")


async def test_speech_while_transfer_fails_is_answered(call_simulator: CallSimulator) -> None:
    """The agent answers what the caller said during a transfer when the transfer fails."""
    phone = Patter()
    async with call_simulator(agent_of(), phone=phone) as caller:
        caller.carrier.transfer_delay, caller.carrier.transfer_error = 3.0, ProviderError("no")
        await caller.at(1.0)
        await phone.calls[0].transfer(DESK, error_message="")
        await caller.speaks("Still there?", seconds=1.0)
        assert (await caller.hears()).text == "Yes."
        assert caller.times("user_speech_eos") == [pytest.approx(4.0)]


async def test_a_transfer_under_way_is_not_ordered_twice(call_simulator: CallSimulator) -> None:
    """A second transfer while one is under way raises ProviderError, and the first one goes through."""
    phone = Patter()
    async with call_simulator(agent_of(), phone=phone) as caller:
        await caller.at(1.0)
        await phone.calls[0].transfer(DESK)
        with pytest.raises(ProviderError, match="is being transferred already"):
            await phone.calls[0].transfer("+15550100004")
        await caller.carrier.over.wait()
    assert caller.transferred_to == DESK


# Who ended the call ---------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("answer", [0.0, 0.3, 0.7, 3.0])
async def test_stream_end_before_carrier_answer_counts_as_transfer(
    call_simulator: CallSimulator, answer: float
) -> None:
    """A transfer succeeds if the stream ends before the carrier answers the request."""
    phone = Patter()
    async with call_simulator(agent_of(), phone=phone) as caller:
        caller.carrier.transfer_answer = answer
        await caller.at(1.0)
        await phone.calls[0].transfer(DESK, wait=True)
    assert (caller.transferred_to, caller.outcome) == (DESK, "transferred")
    assert caller.times("call_end")[0] <= 1.1 + 1.0


@pytest.mark.parametrize("answered", [0.1, 0.3])
async def test_hang_up_before_carrier_obeys_is_no_transfer(call_simulator: CallSimulator, answered: float) -> None:
    """A hang-up before the carrier executes the transfer does not count as a transfer."""
    ends: list[dict[str, Any]] = []
    phone = Patter()
    orders: list[str] = []

    async def transfers() -> None:
        try:
            await phone.calls[0].transfer(DESK, wait=True)
        except CallEnded as over:
            orders.append(str(over))

    async with (
        call_simulator(agent_of(), phone=phone, on_call_end=ends.append) as caller,
        trio.open_nursery() as nursery,
    ):
        caller.carrier.transfer_delay = 0.2 + answered
        await caller.at(1.0)
        nursery.start_soon(transfers)
        await caller.at(1.2)
        await caller.hangs_up()
    assert (caller.transferred_to, caller.outcome) == ("", "caller_hung_up")
    assert [end["outcome"] for end in ends] == ["caller_hung_up"]
    # Whoever knows first: the carrier that is asked, or the call whose stream ends.
    [said] = orders
    assert re.search("the call is over: |was over before it was transferred", said)


async def test_hang_up_during_last_words_is_no_transfer(call_simulator: CallSimulator) -> None:
    """A hang-up during the last words before the transfer does not count as a transfer."""
    agent = agent_of(**NO_LLM, tts=ScriptedTTS(duration=4.0))
    async with call_simulator(agent, on_message=connects) as caller:
        await caller.speaks("The desk please", seconds=1.0)
        await caller.at(3.0)
        await caller.hangs_up()
    assert (caller.transferred_to, caller.outcome) == ("", "caller_hung_up")


async def test_the_longest_call_ends_when_its_transfer_fails(call_simulator: CallSimulator) -> None:
    """A call that reaches max_call_duration during a transfer ends when the transfer fails."""
    phone = Patter()
    async with call_simulator(agent_of(max_call_duration=3.0), phone=phone) as caller:
        caller.carrier.transfer_delay, caller.carrier.transfer_error = 2.0, ProviderError("no")
        await caller.at(2.0)
        await phone.calls[0].transfer(DESK)
        await caller.carrier.over.wait()
        assert caller.carrier.ended_at == pytest.approx(4.0)
    assert caller.outcome == "completed"


async def test_a_cancelled_waiter_leaves_the_transfer_alone(call_simulator: CallSimulator) -> None:
    """A task that is cancelled while it awaits a transfer does not cancel the transfer."""
    phone = Patter()
    async with call_simulator(agent_of(), phone=phone) as caller:
        await caller.at(1.0)
        with trio.move_on_after(0.05) as impatient:
            await phone.calls[0].transfer(DESK, wait=True)
        assert impatient.cancelled_caught
        await caller.carrier.over.wait()
    assert (caller.transferred_to, caller.outcome) == (DESK, "transferred")


async def test_after_the_call_it_says_so(call_simulator: CallSimulator) -> None:
    """A transfer after the call's end raises CallEnded with the outcome."""
    phone, kept = Patter(), list[CallControl]()
    async with call_simulator(agent_of(), phone=phone) as caller:
        await caller.at(1.0)
        kept.append(phone.calls[0])
        await caller.hangs_up()
        await caller.waits(1.0)
    with pytest.raises(CallEnded, match=r"is over \(caller_hung_up\)"):
        await kept[0].transfer(DESK)


async def test_transfer_on_local_carrier_raises_error() -> None:
    """A transfer on the development carrier raises a ConfigurationError."""
    with pytest.raises(ConfigurationError, match="LocalCarrier cannot transfer calls"):
        await LocalCarrier().transfer(CallInfo("CA1", "+15550100001", "+15550100002", "inbound"), DESK)


async def asks_nobody(*_: Any) -> None:
    raise AssertionError("a cold transfer asks nobody")


# Its parts ------------------------------------------------------------------------------------------------------------
async def test_cancelled_call_raises_in_pending_transfer() -> None:
    """A cancelled call raises CallEnded in the task that waits for its transfer."""
    posted: list[Any] = []

    async def stalls(to: str) -> None:
        await trio.sleep_forever()

    transfers = Transfers("CA1", stalls, asks_nobody, posted.append, posted.append)
    order = transfer_request(DESK, None, None)
    transfers.place(order)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(transfers.run, agent_of())
        await trio.testing.wait_all_tasks_blocked()
        nursery.cancel_scope.cancel()
    assert not order.over.is_set()
    transfers.close("cancelled")
    with pytest.raises(CallEnded, match=r"was over before it was transferred \(cancelled\)"):
        await order.accepted()
    assert posted == [Transfer()]


async def test_unsupported_transfer_is_reported_to_caller() -> None:
    """A carrier without transfers fails the transfer, and the caller hears the error message."""
    posted: list[Any] = []
    offer = CallInfo("CA1", "+15550100001", "+15550100002", "inbound")
    transfers = Transfers("CA1", partial(LocalCarrier().transfer, offer), asks_nobody, posted.append, posted.append)
    order = transfer_request(DESK, None, None)
    transfers.place(order)
    await transfers.run(agent_of())
    with pytest.raises(ConfigurationError, match="LocalCarrier cannot transfer calls"):
        await order.accepted()
    assert posted == [Transfer(), TransferFailed(SORRY)]


async def test_transfer_of_ended_call_stays_silent() -> None:
    """If the carrier answers that the call is over, the failed transfer causes no message."""
    posted: list[Any] = []

    async def over(to: str) -> None:
        raise CallEnded("the call is over: 21220")

    transfers = Transfers("CA1", over, asks_nobody, posted.append, posted.append)
    transfers.place(transfer_request(DESK, None, "Sorry."))
    await transfers.run(agent_of())
    assert posted == [Transfer(), TransferFailed("")]


async def test_carrier_without_a_limit_has_five_seconds(autojump_clock: trio.testing.MockClock) -> None:
    """A carrier whose own request has no time limit has five seconds, and then the caller hears the error message."""
    posted: list[Any] = []

    async def never(to: str) -> None:
        await trio.sleep_forever()

    transfers = Transfers("CA1", never, asks_nobody, posted.append, posted.append)
    order = transfer_request(DESK, None, None)
    transfers.place(order)
    began = trio.current_time()
    await transfers.run(agent_of())
    assert trio.current_time() == pytest.approx(began + 5.0)
    with pytest.raises(ProviderTimeout, match="did not answer within 5 s"):
        await order.accepted()
    assert posted == [Transfer(), TransferFailed(SORRY)]
