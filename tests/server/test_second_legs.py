"""The calls to people in warm transfers, as a server has them: many at once, cancelled at any instant, and recorded."""

import wave
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import trio

from patter_trio import CallEnded, Patter, TransferError, Twilio, WarmTransfer
from patter_trio.abc import Dialled, DialRequest
from patter_trio.audio.formats import RATE_HZ
from patter_trio.testing.simulation.outbound import PhoneNetwork, open_phone_network
from tests.kit.call import agent_of
from tests.kit.depth import few
from tests.kit.warm import ANSWER_S, ASKED_S, DESK, PROMPT, WARM, on_hold, says_nothing, takes_it


@pytest.mark.parametrize("callers", few([4, 100], 1))
@pytest.mark.costly
async def test_many_at_once_do_not_mix(callers: int, autojump_clock: object) -> None:
    """Each caller is connected with the person who has heard of that caller, and with nobody else."""

    def person(number: int) -> Any:
        async def takes(line: Any) -> None:
            await line.hears()
            await line.presses("1")
            await line.waits(0.5)
            await line.speaks(f"Desk {number}.", seconds=1.0)
            await line.waits(1.0)

        return takes

    async def calls(network: PhoneNetwork, number: int) -> None:
        desk = f"+155501{10000 + number}"
        network.answers(desk, person(number))
        async with network.call_in(f"+155502{10000 + number}") as caller:
            await caller.at(0.1 * (number % 7) + 0.1)
            [call] = [one for one in network.phone.calls if one.call_id == caller.carrier.call_id]
            await call.transfer(desk, warm=WarmTransfer(f"Caller {number}.", prompt=PROMPT), wait=True)
            await caller.speaks(f"Ann {number}.", seconds=1.0)
            await caller.carrier.over.wait()
        assert caller.heard_words == f"Desk {number}."
        [line] = [one for one in network.calls if one.request.to == desk]
        assert line.caller is not None
        assert line.caller.heard_words == f"Caller {number}.{PROMPT}Ann {number}."

    async with open_phone_network(agent_of()) as network, trio.open_nursery() as nursery:
        for number in range(callers):
            nursery.start_soon(calls, network, number)


@pytest.mark.parametrize(
    "at",
    [
        pytest.param(1.1, id="dialling"),
        pytest.param(1.5, id="before ringing"),
        pytest.param(4.0, id="ringing"),
        pytest.param(ANSWER_S + 0.1, id="answered"),
        pytest.param(ANSWER_S + 0.9, id="briefing"),
        pytest.param(ASKED_S + 0.001, id="decision"),
        pytest.param(ASKED_S + 0.03, id="bridging"),
        pytest.param(ASKED_S + 1.5, id="bridged"),
    ],
)
@pytest.mark.costly
async def test_cancelled_server_leaves_nobody(at: float, autojump_clock: object) -> None:
    """A server that is cancelled in any phase of a transfer ends and reports both calls, and no phone rings on."""
    ends: list[str] = []

    async def stays(line: Any) -> None:
        await line.at(ASKED_S - ANSWER_S)
        await line.presses("1")
        await line.carrier.over.wait()

    async def calls(network: PhoneNetwork) -> None:
        async with network.call_in() as caller:
            await caller.at(1.0)
            with pytest.raises(CallEnded) if at < ASKED_S else trio.CancelScope():
                await network.phone.calls[0].transfer(DESK, warm=WARM, wait=True)
            await caller.carrier.over.wait()

    async with trio.open_nursery() as nursery:
        async with open_phone_network(agent_of(), on_call_end=lambda event: ends.append(event["direction"])) as network:
            network.hangs_up_at_end = False
            network.answers(DESK, stays)
            nursery.start_soon(calls, network)
            await trio.sleep_until(at)
        # Requests to the carrier take 0.2 s each; the ends of calls are reported within their own limits.
        assert trio.current_time() < at + 2.0
    # A call that was never taken has not begun.
    assert sorted(ends) == (["inbound", "outbound"] if at > 1.2 else ["inbound"])
    assert all(line.over.is_set() for line in network.calls)


async def test_each_leg_is_a_call_of_its_own(autojump_clock: object) -> None:
    """Both calls are live and measured, each with the cost of its own leg for as long as it lasts."""
    ends: list[dict[str, Any]] = []
    async with open_phone_network(agent_of(), on_call_end=ends.append) as network:
        network.answers(DESK, takes_it)
        async with network.call_in() as caller:
            await caller.at(1.0)
            await network.phone.calls[0].transfer(DESK, warm=WARM, wait=True)
            assert [call.direction for call in network.phone.calls] == ["inbound", "outbound"]
            await caller.carrier.over.wait()
            seconds = caller.carrier.ended_at
    by_direction = {end["direction"]: end["metrics"] for end in ends}
    assert by_direction["inbound"].duration_seconds == pytest.approx(seconds, abs=0.1)
    assert by_direction["outbound"].duration_seconds == pytest.approx(seconds - ANSWER_S, abs=0.1)
    assert all(metrics.cost.telephony > 0 for metrics in by_direction.values())


async def test_recording_goes_on_while_both_talk(autojump_clock: object, tmp_path: Path) -> None:
    """Our recordings hold what each party said and heard to the end: the hold sound, and the other party."""
    async with open_phone_network(agent_of(), record_to=tmp_path) as network:
        network.answers(DESK, takes_it)
        async with network.call_in() as caller:
            await caller.at(1.0)
            await network.phone.calls[0].transfer(DESK, warm=WARM, wait=True)
            await caller.speaks("I am Ann.", seconds=1.0)
            await caller.carrier.over.wait()
        people = {caller.carrier.call_id: caller, network.calls[0].call_id: network.calls[0].caller}
    for call_id, person in people.items():
        assert person is not None
        for ours, theirs in zip(sides_in(tmp_path / f"{call_id}.wav"), person.carrier.recording(), strict=True):
            # The last frames may be on their way when the call ends.
            length = min(len(ours), len(theirs))
            assert length > len(theirs) - 0.1 * RATE_HZ
            np.testing.assert_array_equal(ours[:length], theirs[:length])


def sides_in(path: Path) -> tuple[Any, Any]:
    with wave.open(str(path), "rb") as file:
        sides = np.frombuffer(file.readframes(file.getnframes()), "<i2").reshape(-1, 2)
    return sides[:, 0], sides[:, 1]


@pytest.mark.parametrize("at", [pytest.param(3.0, id="on hold"), pytest.param(ASKED_S + 3.5, id="bridged")])
async def test_loss_keeps_what_was_relayed(at: float, autojump_clock: object, tmp_path: Path) -> None:
    """A stream that is lost takes nothing out of the caller's recording: neither hold sound nor the person's words."""
    async with on_hold(agent_of(), takes_it, record_to=tmp_path) as (_, caller, _):
        await caller.at(at)
        caller.carrier.lose_stream()
        await caller.at(ASKED_S + 5.0)
    assert caller.heard_words == "This is the desk."
    _, ours = sides_in(tmp_path / f"{caller.carrier.call_id}.wav")
    _, theirs = caller.carrier.recording()
    length = min(len(ours), len(theirs))
    np.testing.assert_array_equal(ours[:length], theirs[:length])
    assert not theirs[length:].any()


class CrashingDial(Twilio):
    """A carrier of the application's own that crashes when it is to place a call."""

    async def dial(self, request: DialRequest) -> Dialled:
        await trio.lowlevel.checkpoint()
        raise RuntimeError("own")


async def test_crash_of_dial_takes_the_caller_back(autojump_clock: object) -> None:
    """Whatever a carrier's code raises when it is to call the person, the caller is taken back, and hears the agent."""
    phone = Patter(CrashingDial("AC" + "1" * 32, "hush"), "+15550100001")
    async with open_phone_network(agent_of("It is noon."), phone) as network, network.call_in() as caller:
        await caller.at(1.0)
        with pytest.raises(TransferError, match="raised RuntimeError: own"):
            await network.phone.calls[0].transfer(DESK, warm=WARM, error_message="", wait=True)
        await caller.speaks("What time is it?", seconds=1.0)
        assert (await caller.hears()).text == "It is noon."


async def test_full_server_takes_no_second_leg(autojump_clock: object) -> None:
    """The call to the person counts for max_calls like any other; a full server takes the caller back."""
    async with open_phone_network(agent_of(), max_calls=2) as network:
        network.answers(DESK, says_nothing)
        async with network.call_in() as caller, network.call_in("+15550100009"):
            await caller.at(1.0)
            with pytest.raises(TransferError, match="limit of 2"):
                await network.phone.calls[0].transfer(DESK, warm=WARM, error_message="", wait=True)
        assert network.calls == []


@pytest.mark.parametrize("at", [pytest.param(3.0, id="on hold"), pytest.param(ASKED_S + 1.0, id="bridged")])
async def test_lost_stream_costs_nobody(at: float, autojump_clock: object) -> None:
    """A caller whose stream is lost on hold, or while both talk, is back on another one, and both talk on."""

    async def talks(line: Any) -> None:
        await line.hears()
        await line.presses("1")
        await line.waits(4.0)
        await line.speaks("Are you back?", seconds=1.0)
        await line.waits(2.0)

    async with on_hold(agent_of(), talks) as (network, caller, outcome):
        caller.carrier.return_delay = 1.0
        await caller.at(at)
        caller.carrier.lose_stream()
        await caller.at(ASKED_S + 5.5)
        await caller.speaks("Yes.", seconds=0.6)
        await caller.carrier.over.wait()
    assert outcome.error is None
    assert caller.carrier.streams == 2
    # The tone goes on where it broke off, and nothing else is heard but the person.
    assert caller.heard_words == "Are you back?"
    [line] = network.calls
    assert line.caller is not None
    assert line.caller.heard_words.endswith("Yes.")
    assert caller.outcome == "transferred"
    assert "error" not in caller.payloads("call_end")[0]
