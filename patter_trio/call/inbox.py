"""The inbox of one call: the inputs that wait for its session loop, each with its instant."""

from collections import Counter
from typing import Final

import trio

from patter_trio.conversation import inputs
from patter_trio.errors import PatterError
from patter_trio.events.reporter import Fired

# Judged: a busy call posts some twenty inputs a second (ten of them OnWire), so this is
# most of a minute without the loop.
MAX_INBOX_INPUTS: Final = 1024
"""Inputs that may wait. The loop handles one in microseconds, so a full inbox means that the loop is stuck."""
MAX_APPLICATION_INPUTS: Final = 512
"""Inputs of the application that may wait: half of the inbox, so that the call's own inputs always find room."""
MAX_WAITING_TEXTS: Final = 256
"""Texts of the application that may wait to be spoken: half of the inbox's share, so that a hang-up behind them
fits."""


class Inbox:
    """The inputs for a call's session loop, in the order of their instants. Putting one in never waits."""

    def __init__(self, call_id: str) -> None:
        self._call_id = call_id
        self._send, self._receive = trio.open_memory_channel[tuple[inputs.Input | Fired, float, bool]](MAX_INBOX_INPUTS)
        self._of_application = Counter[type]()

    def __repr__(self) -> str:
        return f"<Inbox of {self._call_id}, {self.waiting} inputs wait>"

    @property
    def waiting(self) -> int:
        """The number of inputs that wait."""
        return self._send.statistics().current_buffer_used

    def check_room_for_text(self, queued: int) -> None:
        """Check that another text may wait to be spoken, beside ``queued`` ones that have left the inbox.

        Raises:
            PatterError: :data:`MAX_WAITING_TEXTS` texts wait already.
        """
        if queued + self._of_application[inputs.Say] >= MAX_WAITING_TEXTS:
            raise PatterError(
                f"at most {MAX_WAITING_TEXTS} texts may wait to be spoken in a call; call {self._call_id} has as many"
            )

    def put(self, event: inputs.Input) -> None:
        """Put in an input of the call's own, at this instant."""
        # Without waiting: a full inbox raises WouldBlock here, which is a bug and ends the call.
        self._send.send_nowait((event, trio.current_time(), False))

    def put_for_application(self, event: inputs.Input | Fired) -> None:
        """Put in an input of the application's, at this instant.

        Raises:
            PatterError: too many wait already. The application gives them faster than the call can take them, in a loop
                without an await.
        """
        if self._of_application.total() >= MAX_APPLICATION_INPUTS:
            raise PatterError(
                f"at most {MAX_APPLICATION_INPUTS} commands may wait in a call; call {self._call_id} has as many, "
                "because the code that gives them never awaits anything"
            )
        self._of_application[type(event)] += 1
        self._send.send_nowait((event, trio.current_time(), True))

    async def next(self, deadline: float) -> tuple[inputs.Input | Fired | None, float]:
        """Return the next input and its instant, or None if the machine's deadline comes first."""
        try:
            # Even after the deadline: inputs carry their own instants, and those from before the deadline count first.
            return self._taken(self._receive.receive_nowait())
        except trio.WouldBlock:
            # A cancelled receive() takes nothing out of the channel, so an input that races with the deadline is not
            # lost.
            with trio.CancelScope(deadline=deadline):
                return self._taken(await self._receive.receive())
            return None, trio.current_time()

    def _taken(self, item: tuple[inputs.Input | Fired, float, bool]) -> tuple[inputs.Input | Fired, float]:
        """Return an input that was taken out, and its instant."""
        event, at, by_application = item
        self._of_application[type(event)] -= by_application
        return event, at
