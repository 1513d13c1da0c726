"""The options of one call."""

from collections.abc import Awaitable, Callable
from typing import Final

import attrs

from patter_trio.agent.agent import Agent
from patter_trio.call.output.digits import SendDigits
from patter_trio.call.recorded import NOT_RECORDED, Recorded
from patter_trio.call.responder.on_message import MessageHandler
from patter_trio.call.responder.streamed import ON_MESSAGE_TIMEOUT_S
from patter_trio.call.second_leg import PlaceSecondLeg
from patter_trio.call.tools.webhooks import ToolWebhooks
from patter_trio.call.transfers import TransferCall

# Judged: LLMs are known to need some seconds for a first token; a caller who hears nothing for longer gives up.
LLM_REPLY_TIMEOUT_S: Final = 15.0
"""Longest wait for the first audio of an LLM's reply."""
ON_MESSAGE_REPLY_TIMEOUT_S: Final = ON_MESSAGE_TIMEOUT_S + 10.0
"""Longest wait for the first audio of ``on_message``'s reply: its own deadline, and then 10 s for the TTS."""


@attrs.frozen
class CallOptions:
    """The options that the server gives to each call."""

    agent: Agent
    """The served agent: its VAD, turn detector and turn policy hold for the whole call."""
    settled: Callable[[], Awaitable[Agent]]
    """Waits for the answer of ``on_call_start``, and returns the agent for this call."""
    on_message: MessageHandler | None
    transfer_call: TransferCall
    place_second_leg: PlaceSecondLeg
    send_digits: SendDigits
    webhooks: ToolWebhooks
    on_open: Callable[[], None] = lambda: None
    """Called when both sides can talk."""
    on_hang_up: Callable[[], None] = lambda: None
    """Called at the instant at which the agent hangs up, which is before the call's last work is done."""
    takes_back: bool = False
    """True if the carrier gives a transferred call back whose party does not answer, and says if it does."""
    on_stream_lost: Callable[[], None] = lambda: None
    """Called when the call has lost its media stream and waits for another one: the carrier is to be asked for it."""
    on_audio: Callable[[bytes], None] | None = None
    """Called with the other side's audio, mu-law, as it arrives; empty: some was lost. None: nobody else listens."""
    is_deaf: bool = False
    """True if what the other side says is not for the agent: a person who is briefed presses keys."""
    recorded: Recorded = NOT_RECORDED
    """Says when the call's recordings begin."""

    @property
    def reply_timeout(self) -> float:
        """The longest wait for the first audio of a reply, in seconds."""
        return LLM_REPLY_TIMEOUT_S if self.on_message is None else ON_MESSAGE_REPLY_TIMEOUT_S
