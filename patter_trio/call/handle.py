"""What a handle of ``phone.calls`` has in common with the control that callbacks get, beside what a call is made of."""

from abc import ABC, abstractmethod

from patter_trio.call.control import CallControl
from patter_trio.call.transferring import Order, Transferring


class Handle(ABC):
    """A call that can be steered by whoever holds it."""

    control: CallControl
    """What callbacks, tools and ``on_message`` get as ``call_control``."""
    transferring: Transferring
    """Its transfers."""

    @abstractmethod
    def hang_up(self) -> None:
        """End the call after what is being said was played (10 s at most).

        Raises:
            CallEnded: the call is over.
        """

    async def hangup(self) -> None:
        """Do as :meth:`hang_up`, under the name and in the form that programs for ``getpatter`` use.

        Raises:
            CallEnded: the call is over.
        """
        self.hang_up()

    async def transfer(self, to: str, *, error_message: str | None = None, wait: bool = False) -> None:
        """Hand the call over after what is being said was played: :meth:`CallControl.transfer`, which says all."""
        await self.control.transfer(to, error_message=error_message, wait=wait)

    def order_transfer(self, to: str, error_message: str | None) -> Order:
        """Do as :meth:`Transferring.order`, which is behind :meth:`transfer`."""
        return self.transferring.order(to, error_message)
