"""The begin of a call's recordings: with the call, or as soon as the caller has heard the notice about them."""

import logging
from collections.abc import Callable
from typing import Final

from patter_trio.agent.agent import Agent
from patter_trio.call.recording import CallRecording
from patter_trio.conversation import actions as do
from patter_trio.conversation import inputs

_log = logging.getLogger("patter_trio.call")


class Recorded:
    """The recorders of one call: a file of our own, the carrier, both or neither.

    Args:
        call_id: the id of the call.
        file: our own recording; None: the call has no file.
        at_carrier: asks the carrier to record, and returns at once; None: it does not record.
    """

    def __init__(
        self, call_id: str, file: CallRecording | None = None, at_carrier: Callable[[], None] | None = None
    ) -> None:
        self._call_id = call_id
        self.file: CallRecording | None = file
        self._at_carrier = at_carrier
        self._notice = 0
        """The number of the reply that is the notice; 0: it has not begun."""

    def __repr__(self) -> str:
        return f"<Recorded {self._call_id}: {self.file!r}{', at the carrier' if self._at_carrier else ''}>"

    def notice(self, agent: Agent) -> inputs.Say | None:
        """Return what the agent says first, if the call is recorded: the notice. Without one, the recordings begin."""
        if self.file is None and self._at_carrier is None:
            return None
        if notice := agent.spoken_notice:
            return inputs.Say(notice, interruptible=False, notice=True)
        if self.file is not None:
            self.file.begin()
        self._ask_carrier()
        return None

    def reply_begins(self, action: do.StartReply) -> None:
        """Follow the replies: the notice is one of them."""
        if action.notice:
            self._notice = action.reply

    def reply_is_over(self, reply: int, *, heard: bool) -> None:
        """Begin the recordings if the reply is the notice, and the caller has heard all of it."""
        if reply != self._notice:
            return
        if not heard:
            _log.warning("call %s: not recorded: the caller did not hear the whole recording_notice", self._call_id)
            return
        if self.file is not None:
            self.file.begin_now()
        self._ask_carrier()

    def end(self) -> None:
        """End our own recording, because the call is over."""
        if self.file is not None:
            self.file.end()

    def _ask_carrier(self) -> None:
        if self._at_carrier is not None:
            self._at_carrier()


NOT_RECORDED: Final = Recorded("")
"""For a call that nothing records."""
