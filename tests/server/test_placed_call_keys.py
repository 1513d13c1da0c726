"""Keys on calls that a phone places: digits through the handle of ``phone.dial``, and a menu at the other end."""

from __future__ import annotations

from typing import Any

import pytest
import trio

from patter_trio import CallEnded
from patter_trio.pytest_plugin import PhoneNetworkFixture
from tests.kit.call import agent_of

pytestmark = pytest.mark.all_carriers(quick=True)
ANN = "+15550100003"


async def test_dialled_call_sends_digits(phone_network: PhoneNetworkFixture) -> None:
    """The control of a dialled call sends digits, which the other end hears; after the call it raises."""
    heard: list[str] = []

    async def menu(line: Any) -> None:
        await trio.sleep(3.0)
        heard.append(line.digits)

    async with phone_network(agent_of()) as network:
        network.answers(ANN, menu)
        async with network.phone.dial(ANN) as call:
            assert await call.answered()
            await trio.sleep(0.5)
            await call.control.send_dtmf("42#", wait=True)
            await call.ended()
        assert heard == ["42#"]
        with pytest.raises(CallEnded):
            await call.control.send_dtmf("1")
