"""Keys on calls that a phone places: digits through the handle of ``phone.dial``, and a menu at the other end."""

from __future__ import annotations

from typing import Any

import pytest
import trio

from patter_trio import CallEnded
from patter_trio.testing.simulation.outbound import open_phone_network
from tests.kit.call import agent_of
from tests.kit.tones import keys_in

ANN = "+15550100003"


async def test_dialled_call_sends_digits(autojump_clock: object) -> None:
    """The control of a dialled call sends digits, which the other end hears; after the call it raises."""
    heard: list[str] = []

    async def menu(line: Any) -> None:
        await trio.sleep(3.0)
        heard.extend(key for stretch in line.carrier.played() for key, _, _ in keys_in(stretch.audio))

    async with open_phone_network(agent_of()) as network:
        network.answers(ANN, menu)
        async with network.phone.dial(ANN) as call:
            assert await call.answered()
            await trio.sleep(0.5)
            await call.control.send_dtmf("42#", wait=True)
            await call.ended()
        assert heard == ["4", "2", "#"]
        with pytest.raises(CallEnded):
            await call.control.send_dtmf("1")
