"""The tools of the tests of warm transfers: people who are called, and a caller who is put on hold."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import trio

from patter_trio import Agent, CallEnded, TransferError, WarmTransfer
from patter_trio.audio.formats import RATE_HZ
from patter_trio.audio.hold import hold_tone
from patter_trio.testing.simulation.caller import SimulatedCaller
from patter_trio.testing.simulation.outbound import PhoneNetwork, open_phone_network

DESK = "+15550100003"
BRIEFING = "Ann has a question."
PROMPT = "Press 1 or 2."
WARM = WarmTransfer(BRIEFING, prompt=PROMPT)
# The transfer is asked for at 1.0; the carrier takes the call 0.2 s later, and the phone rings from 1 s after that.
RINGS_S, ANSWER_S = 2.2, 5.2
# The briefing is one text with the prompt. It takes 0.2 s to make, and 0.06 s for each character.
ASKED_S = ANSWER_S + 0.2 + 0.02 * round(3 * len(BRIEFING + PROMPT))


async def takes_it(line: Any) -> None:
    """Takes the call when the briefing was heard, and talks."""
    await line.hears()
    await line.presses("1")
    await line.waits(1.0)
    await line.speaks("This is the desk.", seconds=1.5)
    await line.waits(2.0)


async def declines(line: Any) -> None:
    """Declines the call when the briefing was heard."""
    await line.hears()
    await line.presses("2")
    await line.carrier.over.wait()


async def leaves(line: Any) -> None:
    """Hangs up in the middle of the briefing."""
    await line.at(1.0)


async def says_nothing(line: Any) -> None:
    """Listens, and presses no key."""
    await line.carrier.over.wait()


class Outcome:
    """What a transfer came to, and when."""

    def __init__(self) -> None:
        self.error: Exception | None = None
        self.at = -1.0

    async def of(self, network: PhoneNetwork, caller: SimulatedCaller, warm: WarmTransfer = WARM, **how: Any) -> None:
        """Transfer a call warmly, and keep what comes of it."""
        [call] = [call for call in network.phone.calls if call.call_id == caller.carrier.call_id]
        try:
            await call.transfer(DESK, warm=warm, wait=True, **how)
        except (TransferError, CallEnded) as error:
            self.error = error
        self.at = caller.now


@asynccontextmanager
async def on_hold(
    agent: Agent, destination: Any, warm: WarmTransfer = WARM, how: Any = None, **options: Any
) -> AsyncIterator[tuple[PhoneNetwork, SimulatedCaller, Outcome]]:
    """Run a call in which the caller is put on hold at 1.0."""
    async with open_phone_network(agent, **options) as network, trio.open_nursery() as nursery:
        network.answers(DESK, destination)
        async with network.call_in() as caller:
            await caller.at(1.0)
            outcome = Outcome()
            nursery.start_soon(lambda: outcome.of(network, caller, warm, **(how or {})))
            yield network, caller, outcome


def hold_sound(caller: SimulatedCaller, tone: bytes = b"") -> tuple[float, float]:
    """Return from when until when the caller has heard the tone, or another sound, and nothing else."""
    first = caller.carrier.played()[0]
    tone = tone or hold_tone()
    heard = next(
        n for n in range(len(first.audio) + 1) if n == len(first.audio) or first.audio[n] != tone[n % len(tone)]
    )
    return first.at, first.at + heard / RATE_HZ
