"""The development carrier: what a program that names none is called by, on its own machine."""

import secrets
from typing import ClassVar

import attrs

from patter_trio.abc import CallInfo, Carrier
from patter_trio.carriers.twilio import Twilio


@attrs.frozen
class LocalCarrier(Twilio):
    """Twilio's protocol under credentials made up for this process, so that nobody but it can sign a call."""

    name: ClassVar[str] = "local"

    account_sid: str = attrs.field(factory=lambda: f"AC{secrets.token_hex(16)}")
    auth_token: str = attrs.field(factory=lambda: secrets.token_hex(16), repr=False)

    async def transfer(self, call: CallInfo, to: str) -> None:
        """Refuse: nobody else can be called on this machine; the simulator, which can, does not ask here.

        Raises:
            ConfigurationError: always.
        """
        await Carrier.transfer(self, call, to)
