"""No request of a simulated call reaches a real carrier, whoever makes it and whatever it asks."""

from functools import partial

import pytest
import trio

from patter_trio import Patter, Plivo, ProviderError, Telnyx, Twilio
from patter_trio.abc import CallInfo, Carrier
from patter_trio.carriers.telnyx_signature import public_key_of
from patter_trio.net.http import Unreachable
from patter_trio.pytest_plugin import CallSimulator, PhoneNetworkFixture
from patter_trio.testing.carriers.rest import kept_from_carriers
from tests.kit.call import agent_of

ANN = "+15550100003"
REAL: dict[str, Carrier] = {
    "twilio": Twilio("AC" + "7" * 32, "hush"),
    "twilio in a region": Twilio("AC" + "7" * 32, "hush", api_url="https://api.dublin.ie1.twilio.com"),
    "telnyx": Telnyx("KEY7", public_key_of(bytes(range(32))), "7267"),
    "telnyx in a region": Telnyx("KEY7", public_key_of(bytes(range(32))), "7267", api_url="https://api.telnyx.eu/v2"),
    "plivo": Plivo("MA7", "hush"),
    "plivo in a region": Plivo("MA7", "hush", api_url="https://api.eu.plivo.com/v1"),
    "behind a proxy": Twilio("AC" + "7" * 32, "hush", api_url="https://proxy.example.com/twilio"),
    "by its address": Twilio("AC" + "7" * 32, "hush", api_url="https://[2606:4700::1]:8443"),
}
"""Accounts that no simulation plays."""
TWILIO = Twilio("AC" + "8" * 32, "hush")
"""The account that the network plays."""
others = pytest.mark.parametrize("other", REAL.values(), ids=REAL)


@others
@pytest.mark.parametrize("simulated", ["twilio", "telnyx", "plivo"])
async def test_call_reaches_no_other_account(call_simulator: CallSimulator, simulated: str, other: Carrier) -> None:
    """Beside a simulated call, a request to any carrier fails at once, and names the fixture for other phones."""
    phone = Patter(other, "+15550100002")
    async with call_simulator(agent_of(first_message="Hello."), phone, simulated) as caller:
        with pytest.raises(Unreachable, match="to place calls, use phone_network"):
            await other.number_setup("+15550100002")
        with pytest.raises(Unreachable, match="to place calls, use phone_network"):
            await other.hang_up("C1")
        await caller.hears()


@others
@pytest.mark.parametrize("simulated", ["twilio", "telnyx", "plivo"])
async def test_network_reaches_no_other_account(
    phone_network: PhoneNetworkFixture, simulated: str, other: Carrier
) -> None:
    """In a network of phones, a request that is not about its calls fails at once, and says what to do."""
    async with phone_network(agent_of(), Patter(other, "+15550100002"), simulated) as network:
        for carrier in (other, REAL["twilio"], REAL["telnyx"], REAL["plivo"]):
            # 404: the phone's own account has this interface no more than another one.
            with pytest.raises(ProviderError, match=r"place calls by network\.phone|answered 404"):
                await carrier.number_setup("+15550100002")
        assert network.calls == []


@others
async def test_second_account_reaches_nobody(phone_network: PhoneNetworkFixture, other: Carrier) -> None:
    """An account that the network has never seen is refused, wherever its requests go, and for every command."""
    async with phone_network(agent_of(), Patter(TWILIO, "+15550100002"), "twilio"):
        commands = (
            lambda: other.number_setup("+15550100002"),
            lambda: other.point_number("+15550100002", "https://agent.test/a", "https://agent.test/b"),
            lambda: other.hang_up("C1"),
            lambda: other.start_recording(
                CallInfo("C1", "+15550100001", "+15550100002", "inbound"), "https://a.test/r"
            ),
        )
        for command in commands:
            with pytest.raises(Unreachable, match=r"place calls by network\.phone"):
                await command()


@others
async def test_second_account_beside_call_reaches_nobody(call_simulator: CallSimulator, other: Carrier) -> None:
    """Beside a simulated call, too, an account that it has never seen reaches nobody."""
    async with call_simulator(agent_of(first_message="Hello.")) as caller:
        with pytest.raises(Unreachable, match="to place calls, use phone_network"):
            await other.hang_up("C1")
        await caller.hears()


async def test_stand_in_on_this_machine_is_reached(call_simulator: CallSimulator) -> None:
    """A second account whose REST API is a stand-in on this machine asks it."""
    async with (
        trio.open_nursery() as nursery,
        call_simulator(agent_of(first_message="Hello.")) as caller,
    ):
        asked = trio.Event()

        async def refuse(stream: trio.SocketStream) -> None:
            asked.set()
            await stream.aclose()

        [listener] = await nursery.start(partial(trio.serve_tcp, refuse, 0, host="127.0.0.1"))
        port = listener.socket.getsockname()[1]
        with pytest.raises(ProviderError):
            await Twilio("AC7", "hush", api_url=f"http://127.0.0.1:{port}").hang_up("C1")
        assert asked.is_set()
        await caller.hears()
        nursery.cancel_scope.cancel()


async def test_refusal_ends_with_its_block(call_simulator: CallSimulator) -> None:
    """Behind the block, requests go where they went before."""
    async with call_simulator(agent_of(first_message="Hello.")) as caller:
        await caller.hears()
    with kept_from_carriers("of the outer block"), pytest.raises(Unreachable, match="of the outer block"):
        await REAL["twilio"].hang_up("C1")
