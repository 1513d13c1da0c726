"""``await`` and ``async with`` in the wrong place work where they can; otherwise the error says what to write."""

from typing import Any

import pytest
import trio

from patter_trio import Patter
from patter_trio.pytest_plugin import CallSimulator, PhoneNetworkFixture
from tests.kit.call import agent_of

ANN = "+15550100003"


async def test_commands_of_a_call_may_be_awaited(call_simulator: CallSimulator) -> None:
    """``await`` before a command that needs none changes nothing: the agent says it, and hangs up."""

    async def on_dtmf(event: Any, call: Any) -> None:
        assert not await call.say("One moment.")
        assert await call.hang_up() is None

    async with call_simulator(agent_of(), on_dtmf=on_dtmf) as caller:
        await caller.presses("1")
        assert (await caller.hears()).text == "One moment."
    assert caller.outcome == "agent_hung_up"


async def test_callback_may_return_what_a_command_does(call_simulator: CallSimulator) -> None:
    """A callback that is a lambda around hang_up() ends the call, as one that returns None."""
    async with call_simulator(agent_of(first_message="Hello."), on_dtmf=lambda _, call: call.hang_up()) as caller:
        await caller.presses("1")
        await caller.waits(3.0)
    assert caller.outcome == "agent_hung_up"


async def test_placed_call_may_be_awaited(phone_network: PhoneNetworkFixture) -> None:
    """The handle of a placed call takes ``await`` before say() and hang_up(), also once more."""

    async def ann(line: Any) -> None:
        await line.hears()

    async with phone_network(agent_of()) as network:
        network.answers(ANN, ann)
        call: Any = await network.phone.call(ANN)
        await call.say("Hello, Ann.")
        assert await call.ended() == "caller_hung_up"
        ringing: Any = await network.phone.call(ANN)
        await ringing.hang_up()
        await ringing.hang_up()
        assert await ringing.ended() == "cancelled"
        assert network.calls[0].caller is not None
        assert network.calls[0].caller.heard_words == "Hello, Ann."


@pytest.mark.parametrize("is_served", [False, True])
async def test_dial_is_not_awaited(phone_network: PhoneNetworkFixture, *, is_served: bool) -> None:
    """``await phone.dial()`` names both ways to call, and places no call."""
    async with phone_network(agent_of()) as network:
        phone: Any = network.phone if is_served else Patter(phone_number="+15550100002")
        with pytest.raises(TypeError, match=r"takes `async with \.\.\. as call`; .* `await phone\.call"):
            await phone.dial(ANN)
        assert network.calls == []


async def test_call_is_not_a_block(phone_network: PhoneNetworkFixture) -> None:
    """``async with phone.call()`` names both ways to call, places no call, and leaves no coroutine behind."""
    async with phone_network(agent_of()) as network:
        phone: Any = network.phone
        with pytest.raises(TypeError, match=r"takes `await`; .* `async with phone\.dial"):
            async with phone.call(ANN):
                pass
        assert network.calls == []


async def test_call_may_be_started_in_a_nursery(phone_network: PhoneNetworkFixture) -> None:
    """The hint changes nothing for trio: the method may be a task of its own, and be cancelled."""

    async def ann(line: Any) -> None:
        await line.waits(30.0)

    async with phone_network(agent_of()) as network:
        network.answers(ANN, ann)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(lambda: network.phone.call(ANN, wait=True))
            await trio.sleep(5.0)
            nursery.cancel_scope.cancel()
        await trio.sleep(1.0)
        assert network.calls[0].over.is_set()


async def test_blocks_of_the_kit_are_not_awaited(
    call_simulator: CallSimulator, phone_network: PhoneNetworkFixture
) -> None:
    """``await`` before a fixture's block says how the block is written."""
    simulated: Any = call_simulator(agent_of())
    with pytest.raises(TypeError, match="async with call_simulator"):
        await simulated
    opened: Any = phone_network(agent_of())
    with pytest.raises(TypeError, match="async with phone_network"):
        await opened
