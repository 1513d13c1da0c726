"""The development carrier: it calls programs that name no carrier, on their own machine."""

import secrets
from typing import ClassVar

import attrs

from patter_trio.abc import CallInfo, Carrier, Dialled, DialRequest, NumberSetup
from patter_trio.carriers.twilio import Twilio
from patter_trio.errors import ConfigurationError
from patter_trio.phone_numbers import mask_number


@attrs.frozen
class LocalCarrier(Twilio):
    """Twilio's protocol with credentials made up for this process, so that only this process can sign a call."""

    name: ClassVar[str] = "local"
    takes_back: ClassVar[bool] = False

    # 32 hexadecimal digits behind "AC", as Twilio's own: programs may look at them.
    account_sid: str = attrs.field(factory=lambda: f"AC{secrets.token_hex(16)}")
    # From the system's source of randomness: another process on this machine must not be able to sign.
    auth_token: str = attrs.field(factory=lambda: secrets.token_hex(16), repr=False)

    async def dial(self, request: DialRequest) -> Dialled:
        """Refuse to place a call.

        Raises:
            ConfigurationError: always.
        """
        raise ConfigurationError(
            f"to call {mask_number(request.to)}, the phone must have a carrier: give Patter(carrier=Twilio()); a test "
            "calls simulated phones with the fixture phone_network"
        )

    # The base class's refusals, because this class inherits what Twilio does on request: this machine can call nobody.
    # The simulator can, and does not use these methods.
    async def transfer(self, call: CallInfo, to: str, public_url: str = "") -> None:  # noqa: ARG002 (of the base class)
        """Refuse to transfer: a ConfigurationError."""
        await Carrier.transfer(self, call, to)

    async def hang_up(self, call_id: str, request_id: str = "") -> None:
        """Refuse to hang up by request, which no call of this machine needs: a ConfigurationError."""
        await Carrier.hang_up(self, call_id, request_id)

    async def start_recording(self, call: CallInfo, callback_url: str) -> str:
        """Refuse to record at the carrier: a ConfigurationError."""
        return await Carrier.start_recording(self, call, callback_url)

    async def cost(self, call_id: str) -> float | None:
        """Return None: calls on this machine cost nothing."""
        return await Carrier.cost(self, call_id)

    async def number_setup(self, number: str) -> NumberSetup:
        """Refuse to look up a number: a ConfigurationError."""
        return await Carrier.number_setup(self, number)

    async def point_number(self, number: str, voice_url: str, status_url: str) -> NumberSetup:
        """Refuse to set up a number: a ConfigurationError."""
        return await Carrier.point_number(self, number, voice_url, status_url)
