"""The development carrier: it calls programs that name no carrier, on their own machine."""

import secrets
from typing import ClassVar

import attrs

from patter_trio.abc import Carrier, Dialled, DialRequest
from patter_trio.carriers.twilio import Twilio
from patter_trio.errors import ConfigurationError
from patter_trio.phone_numbers import mask_number


@attrs.frozen
class LocalCarrier(Twilio):
    """Twilio's protocol with credentials made up for this process, so that only this process can sign a call."""

    name: ClassVar[str] = "local"

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
            f"to call {mask_number(request.to)}, the phone must have a carrier: give Patter(carrier=Twilio()); a test calls "
            f"simulated phones with the fixture phone_network"
        )

    # The base class's refusals, because this class inherits what Twilio does on request: this machine can call nobody.
    # The simulator can, and does not use these methods.
    transfer = Carrier.transfer
    hang_up = Carrier.hang_up
    start_recording = Carrier.start_recording
    cost = Carrier.cost
    number_setup = Carrier.number_setup
    point_number = Carrier.point_number
