"""A carrier whose commands about calls and numbers are requests to the REST API of one account."""

from abc import abstractmethod
from typing import Protocol

from patter_trio.abc import CallInfo, Carrier, Dialled, DialRequest, NumberSetup


class AccountREST(Protocol):
    """The requests that an account's REST API takes; errors are those of the carrier's own class."""

    async def dial(self, request: DialRequest, /) -> Dialled:
        """Place a call."""

    async def start_recording(self, call_id: str, callback_url: str, /) -> str:
        """Record both sides of a live call; return the recording's id."""

    async def cost(self, call_id: str, /) -> float | None:
        """Return what a call has cost, in US dollars; None: it is not known yet."""

    async def number_setup(self, number: str, /) -> NumberSetup:
        """Return where a number of the account sends its calls."""

    async def point_number(self, number: str, voice_url: str, status_url: str, /) -> NumberSetup:
        """Make a number send its calls to these webhooks; return the new setup."""


class AccountCarrier(Carrier):
    """A carrier that carries out its commands by :attr:`_rest`."""

    @property
    @abstractmethod
    def _rest(self) -> AccountREST: ...

    async def dial(self, request: DialRequest) -> Dialled:
        """Place a call; errors are those of the carrier's REST API."""
        return await self._rest.dial(request)

    async def start_recording(self, call: CallInfo, callback_url: str) -> str:
        """Record both sides of a live call, in two channels; return the recording's id, or an empty string."""
        return await self._rest.start_recording(call.call_id, callback_url)

    async def cost(self, call_id: str) -> float | None:
        """Return what the carrier charges for a call that is over, in US dollars; None: it does not know it yet."""
        return await self._rest.cost(call_id)

    async def number_setup(self, number: str) -> NumberSetup:
        """Return where a number of the account sends its calls.

        Raises:
            ProvisionError: the account does not have the number.
        """
        return await self._rest.number_setup(number)

    async def point_number(self, number: str, voice_url: str, status_url: str) -> NumberSetup:
        """Make a number send its calls to these webhooks; return the new setup.

        Raises:
            ProvisionError: the account does not have the number, or the carrier refuses, as Twilio does for a number of
                a SIP trunk.
        """
        return await self._rest.point_number(number, voice_url, status_url)
