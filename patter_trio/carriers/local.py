"""The development carrier: it calls programs that name no carrier, on their own machine."""

import secrets
from typing import ClassVar

import attrs

from patter_trio.abc import CallInfo, Carrier
from patter_trio.carriers.twilio import Twilio


@attrs.frozen
class LocalCarrier(Twilio):
    """Twilio's protocol with credentials made up for this process, so that only this process can sign a call."""

    name: ClassVar[str] = "local"

    # 32 hexadecimal digits behind "AC", as Twilio's own: programs may look at them.
    account_sid: str = attrs.field(factory=lambda: f"AC{secrets.token_hex(16)}")
    # From the system's source of randomness: another process on this machine must not be able to sign.
    auth_token: str = attrs.field(factory=lambda: secrets.token_hex(16), repr=False)

    async def transfer(self, call: CallInfo, to: str) -> None:
        """Refuse to transfer: this machine can call nobody else. The simulator can, and does not use this method.

        Raises:
            ConfigurationError: always.
        """
        # The base class's refusal, because this class inherits Twilio's transfer.
        await Carrier.transfer(self, call, to)
