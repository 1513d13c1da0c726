"""The carriers that can be simulated: of each, the server's carrier object and the simulated carrier that fits it."""

import hashlib
import uuid
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any, Final

import attrs

from patter_trio.abc import CallInfo, Carrier
from patter_trio.carriers.local import LocalCarrier
from patter_trio.carriers.plivo import Plivo
from patter_trio.carriers.telnyx import Telnyx
from patter_trio.carriers.twilio import Twilio
from patter_trio.testing.carriers.dialled import Account
from patter_trio.testing.carriers.line import SimulatedCarrier
from patter_trio.testing.carriers.plivo_dialled import PlivoAccount
from patter_trio.testing.carriers.protocol import Direction
from patter_trio.testing.carriers.twilio import SimulatedTwilio
from patter_trio.testing.carriers.twilio_dialled import TwilioAccount
from patter_trio.testing.carriers.webhook_post import Connect

CARRIERS: Final = ("twilio", "telnyx", "plivo")
_OF_PROTOCOL: Final[Mapping[str, type[Carrier]]] = MappingProxyType(
    {"twilio": Twilio, "telnyx": Telnyx, "plivo": Plivo}
)
# Not a secret: it signs for simulated calls alone, and the server of such a call is given its public key.
_SIGNING_KEY: Final = hashlib.sha256(b"the key of the simulated Telnyx").digest()
_TO_LETTERS: Final = str.maketrans("0123456789abcdef", "abcdef0123456789")


@attrs.frozen
class _PlayedLocal(LocalCarrier):
    """The development carrier as a simulation plays it, which transfers calls to numbers that it invents."""

    async def transfer(self, call: CallInfo, to: str, public_url: str = "") -> None:
        """Transfer the call, as Twilio does."""
        await Twilio.transfer(self, call, to, public_url)


@attrs.frozen(kw_only=True)
class CallOptions:
    """The facts about a simulated call, which are the same for each carrier; see ``SimulatedTwilio``."""

    caller: str = "+15550100001"
    callee: str = "+15550100002"
    direction: Direction = "inbound"
    custom_params: Mapping[str, str] = MappingProxyType({})
    up_delay: float = 0.0
    down_delay: float = 0.0


def protocol_of(asked: str | None, carrier: Carrier | None) -> str:
    """Return the name of the carrier that is simulated: the one that was asked for, or that of the phone, or Twilio.

    Raises:
        ValueError: no carrier of this name can be simulated.
        TypeError: none was asked for, and that of the phone cannot be simulated.
    """
    if asked is not None and asked not in CARRIERS:
        raise ValueError(f"carrier must be one of {', '.join(CARRIERS)}, got {asked!r}")
    if asked is not None or carrier is None:
        return asked or CARRIERS[0]
    for name, kind in _OF_PROTOCOL.items():
        if isinstance(carrier, kind):
            return name
    raise TypeError(f"the simulator can only play Twilio, Telnyx and Plivo, got {carrier!r}")


def carrier_object(protocol: str, carrier: Carrier | None) -> Carrier:
    """Return the carrier whose credentials both sides use: the phone's, or an invented one if that is another.

    Telnyx's gets the public key of the simulation, because nobody else has the private key of the account.
    """
    if not isinstance(carrier, _OF_PROTOCOL[protocol]):
        carrier = None
    if protocol == "telnyx":
        # Here, because the key needs the extra ``telnyx``.
        from patter_trio.testing.carriers.telnyx import public_key_of  # noqa: PLC0415 (only where it is asked for)

        public_key = public_key_of(_SIGNING_KEY)
        if isinstance(carrier, Telnyx):
            return attrs.evolve(carrier, public_key=public_key)
        return Telnyx(api_key="simulated", public_key=public_key, connection_id="1000000000000000001")
    if isinstance(carrier, LocalCarrier):
        return _PlayedLocal(carrier.account_sid, carrier.auth_token)
    if carrier is not None:
        return carrier
    if protocol == "plivo":
        return Plivo(auth_id="MA" + "5" * 18, auth_token="simulated")  # noqa: S106 (not a real credential)
    return Twilio(account_sid="AC" + "5" * 32, auth_token="simulated")  # noqa: S106 (not a real credential)


def call_id_of(protocol: str, digits: str) -> str:
    """Return the id of a call in the carrier's form, from 32 hexadecimal digits."""
    match protocol:
        case "telnyx":
            return f"v3:{digits}"
        case "plivo":
            # Other digits, so that few of them stand side by side: logs mask what may be a number.
            return str(uuid.UUID(digits.translate(_TO_LETTERS)))
        case _:
            return f"CA{digits}"


def simulated_carrier(
    carrier: Carrier,
    connect: Connect,
    public_url: str,
    *,
    digits: str,
    options: CallOptions,
    unix_time: Callable[[], float],
) -> SimulatedCarrier:
    """Return the simulated carrier of one call, with the credentials of the server's carrier object.

    Args:
        carrier: the server's, from :func:`carrier_object`.
        connect: opens a connection to the agent's server.
        public_url: the address under which the carrier knows the server, without a path.
        digits: 32 hexadecimal digits, from which the call's id is made.
        options: what the call is about.
        unix_time: returns the time of signatures, in seconds.
    """
    call_id = call_id_of(carrier.protocol, digits)
    facts: dict[str, Any] = {name: getattr(options, name) for name in attrs.fields_dict(CallOptions)}
    if isinstance(carrier, Telnyx):
        from patter_trio.testing.carriers.telnyx import SimulatedTelnyx  # noqa: PLC0415 (needs the extra ``telnyx``)

        return SimulatedTelnyx(
            connect,
            public_url,
            api_key=carrier.api_key,
            signing_key=_SIGNING_KEY,
            call_id=call_id,
            unix_time=unix_time,
            **facts,
        )
    if isinstance(carrier, Plivo):
        from patter_trio.testing.carriers.plivo import SimulatedPlivo  # noqa: PLC0415 (only where it is asked for)

        return SimulatedPlivo(
            connect, public_url, auth_id=carrier.auth_id, auth_token=carrier.auth_token, call_uuid=call_id, **facts
        )
    if not isinstance(carrier, Twilio):
        raise TypeError(f"carrier must be Twilio, Telnyx or Plivo, got {carrier!r}")
    return SimulatedTwilio(
        connect,
        public_url,
        account_sid=carrier.account_sid,
        auth_token=carrier.auth_token,
        shared_key=_shared_key_of(carrier),
        call_sid=call_id,
        **facts,
    )


def _shared_key_of(carrier: Twilio) -> tuple[str, str] | None:
    """Return the id and the secret of the shared key with which the account's requests are signed.

    None: it has none.
    """
    return next(iter(carrier.shared_keys.items()), None)


def account_of(carrier: Carrier, unix_time: Callable[[], float]) -> Account:
    """Return the account at the carrier of a server, for calls that its program places.

    Args:
        carrier: the server's, from :func:`carrier_object`.
        unix_time: returns the time of signatures, in seconds.
    """
    if isinstance(carrier, Telnyx):
        from patter_trio.testing.carriers.telnyx_dialled import TelnyxAccount  # noqa: PLC0415 (needs the extra ``telnyx``)

        return TelnyxAccount(carrier, _SIGNING_KEY, unix_time)
    if isinstance(carrier, Plivo):
        return PlivoAccount(carrier)
    if isinstance(carrier, Twilio):
        return TwilioAccount(carrier)
    raise TypeError(f"carrier must be Twilio, Telnyx or Plivo, got {carrier!r}")
