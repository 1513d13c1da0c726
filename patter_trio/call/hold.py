"""A caller on hold, while a person is called and asked to take over."""

import logging
from typing import Final, Never

import trio

from patter_trio.abc import CallInfo
from patter_trio.agent.agent import Agent
from patter_trio.agent.warm_transfer import Briefing, WarmTransfer
from patter_trio.audio.formats import RATE_HZ
from patter_trio.call.bridge import Party, connect
from patter_trio.call.control import CallControl
from patter_trio.call.limits import Limits
from patter_trio.call.output.writer import CarrierWriter
from patter_trio.call.second_leg import PlaceSecondLeg, SecondLeg
from patter_trio.conversation.playback import NO_REPLY
from patter_trio.conversation.playout import PlayoutQueue
from patter_trio.errors import CallEnded, PatterError, TransferError
from patter_trio.phone_numbers import mask_number
from patter_trio.user_code import invoke

# Judged: a model that sums up the conversation needs some seconds.
BRIEFING_TIMEOUT_S: Final = 10.0
"""Seconds for the application's function that makes the briefing."""
_PIECE_SAMPLES: Final = RATE_HZ
"""Samples of hold sound that are queued at once: a second. Another waits behind it, so that it never runs out."""

_log = logging.getLogger("patter_trio.call")


class Hold:
    """The warm transfers of one call, one at a time.

    Args:
        info: the facts about the call.
        control: the control of the call, for the function that makes the briefing.
        party: the caller.
        writer: plays the hold sound.
        limits: the silence on hold is not counted.
        place: calls the person.
    """

    def __init__(
        self,
        info: CallInfo,
        control: CallControl,
        party: Party,
        writer: CarrierWriter,
        *,
        limits: Limits,
        place: PlaceSecondLeg,
    ) -> None:
        self._info = info
        self._control = control
        self._party = party
        self._writer = writer
        self._limits = limits
        self._place = place
        self._scope: trio.CancelScope | None = None

    def __repr__(self) -> str:
        return f"<Hold of {self._info.call_id}{', on hold' if self._scope is not None else ''}>"

    def end(self) -> None:
        """End a transfer that is under way, because the caller has left or the call is hung up."""
        if self._scope is not None:
            self._scope.cancel(reason="the caller is gone")

    async def connect(self, to: str, warm: WarmTransfer, agent: Agent) -> None:
        """Call a person, and connect the caller with the person if that one takes the call.

        Raises:
            TransferError: the person did not; the caller hears nothing, and waits.
            CallEnded: the caller has left, or the call is hung up.
        """
        leg = SecondLeg(self._info, to, warm)
        is_connected = False
        try:
            # Cancelled when the caller leaves: that ends the dial and the sound, and not this function, which still
            # lets the person go.
            with trio.CancelScope() as self._scope, self._limits.suspended():
                await self._ask(leg, agent)
            is_cancelled, self._scope = self._scope.cancel_called, None
            if is_cancelled:
                raise CallEnded(f"call {self._info.call_id} was over before anybody had taken it")
            # No await since the check, so that both are still there.
            is_connected = leg.is_accepted and leg.party is not None and connect(self._party, leg.party)
            if not is_connected:
                raise TransferError("hung_up" if leg.is_accepted else leg.reason, leg.detail)
        finally:
            # The call to a person who has declined ends by itself; everything else ends now.
            if not is_connected and (leg.is_accepted or not leg.decided.is_set()):
                leg.cancel("the caller is gone")

    async def _ask(self, leg: SecondLeg, agent: Agent) -> None:
        """Play the hold sound until the person has decided."""
        _log.info("call %s: on hold, calling %s", self._info.call_id, mask_number(leg.to))
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._play, leg.warm.sound)
            # Before the dial: nobody must wait on the telephone while a model writes.
            text = await self._text_of(leg.warm.briefing)
            self._place(leg, leg.agent(agent, text))
            # Without a deadline of ours: each step of the other call has one (server/second_legs.py).
            await leg.decided.wait()
            nursery.cancel_scope.cancel(reason="decided")

    async def _play(self, sound: bytes) -> Never:
        playout = PlayoutQueue(NO_REPLY)
        self._writer.open(playout)
        try:
            while True:
                for start in range(0, len(sound), _PIECE_SAMPLES):
                    playout.put(sound[start : start + _PIECE_SAMPLES])
                    await self._writer.wait_for_room(playout, _PIECE_SAMPLES)
        finally:
            # What is left of the sound must not be heard under the words that follow.
            self._writer.cut(trio.current_time())

    async def _text_of(self, briefing: Briefing) -> str:
        """Return the briefing; empty if the application's function fails."""
        if isinstance(briefing, str):
            return briefing
        text: object = ""
        try:
            with trio.fail_after(BRIEFING_TIMEOUT_S):
                text = await invoke.call(briefing, self._control)
        # The caller has waited long enough: the person is called without it.
        except (PatterError, trio.TooSlowError) as error:
            why = str(error) or f"it took longer than {BRIEFING_TIMEOUT_S:g} s"
            _log.warning("call %s: the person gets no briefing: %s", self._info.call_id, why, exc_info=error.__cause__)
        if not isinstance(text, str):
            _log.warning(
                "call %s: the person gets no briefing: briefing must return a text, got %s",
                self._info.call_id,
                type(text).__name__,
            )
            return ""
        return text
