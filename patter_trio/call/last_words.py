"""The apology of a call whose conversation has crashed."""

import logging
from typing import Final

import trio

from patter_trio.agent.agent import Agent
from patter_trio.call.backend import Backend
from patter_trio.call.output.reply import Reply
from patter_trio.call.output.writer import CarrierWriter
from patter_trio.call.transfers import TRANSFER_TIMEOUT_S, Transfers
from patter_trio.errors import ProviderError
from patter_trio.user_code.context import current_call

# Judged: a TTS that opens in a second or two, and the default error message, which takes about four. docs/design.md
# names it among the things that outlive the conversation.
APOLOGY_TIMEOUT_S: Final = 8.0
"""Seconds for the apology after the conversation crashed."""

_log = logging.getLogger("patter_trio.call")


async def apologise(
    backend: Backend,
    agent: Agent,
    writer: CarrierWriter,
    transfers: Transfers,
    *,
    caller_here: trio.CancelScope,
    heard: trio.CancelScope,
) -> bool:
    """Say the error message within :data:`APOLOGY_TIMEOUT_S` seconds, and connect the caller with ``on_failure``.

    Return True if the carrier has connected the caller. ``caller_here`` is cancelled when the caller leaves, and
    ``heard`` when the media stream is lost: without one nobody hears the message, and the request to connect the caller
    needs none.
    """
    reply = Reply(0, 0)
    heard.deadline = trio.current_time() + APOLOGY_TIMEOUT_S
    with caller_here:
        # A scope of its own: a message that takes too long must not cost the caller the person.
        with heard:
            try:
                await backend.apologise(agent, reply)
            except ProviderError as error:
                # The apology is a courtesy: if it fails, too, the error of the call is still the bug before it.
                _log.warning("call %s: apology failed: %s", current_call.get(), error)
            # Until all of it is sent, and then until it is played: closing the stream would cut it off.
            await writer.wait_for_room(reply.playout, 1)
            await trio.sleep_until(writer.playback.end)
        if destination := agent.failure_destination:
            caller_here.deadline = trio.current_time() + TRANSFER_TIMEOUT_S
            # Without the turn machine, which has crashed with the conversation.
            return await transfers.hand_over(destination)
    return False
