"""Telnyx's signature of webhooks: Ed25519 over the time and the body.

* https://developers.telnyx.com/docs/voice/programmable-voice/receiving-webhooks
* Only Telnyx has the private key; the portal shows the public one. So a simulated carrier needs a key pair of its own.
* The signature covers the body and the time, and not the URL. The time bounds how long a captured webhook can be used.

The algorithm is that of the package ``cryptography``, from the extra ``telnyx``: it is imported when the first carrier
of this kind is made.
"""

import base64
import binascii
import re
from collections.abc import Mapping
from typing import Any, Final

import attrs

from patter_trio.errors import ConfigurationError
from patter_trio.providers.weights import optional_module

SIGNATURE_HEADER: Final = "telnyx-signature-ed25519"
TIMESTAMP_HEADER: Final = "telnyx-timestamp"
# Telnyx's own package has the same (telnyx.resources.webhooks).
REPLAY_WINDOW_S: Final = 300
"""Seconds by which the time of a webhook may differ from ours, either way."""
KEY_BYTES: Final = 32
SIGNATURE_BYTES: Final = 64
# Digits only: Python would also read signs, spaces and underscores.
_UNIX_TIME: Final = re.compile(r"[0-9]{1,12}")


def _ed25519() -> Any:
    return optional_module("cryptography.hazmat.primitives.asymmetric.ed25519", extra="telnyx")


def _decoded(text: str, size: int) -> bytes | None:
    try:
        data = base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        return None
    return data if len(data) == size else None


@attrs.frozen(eq=False)
class WebhookKey:
    """The public key of an account."""

    _key: Any = attrs.field(repr=False)

    @classmethod
    def read(cls, text: str, argument: str = "public_key") -> "WebhookKey":
        """Return the key that the portal shows; ``argument`` is the name of the option in which it was given.

        Raises:
            ConfigurationError: ``text`` is not the base64 of 32 bytes.
            MissingExtraError: the package ``cryptography`` is not installed.
        """
        ed25519 = _ed25519()
        data = _decoded(text.strip(), KEY_BYTES)
        if data is None:
            raise ConfigurationError(
                f"Telnyx: {argument} must be the base64 of 32 bytes, as the portal shows it under Account, Keys & "
                "Credentials"
            )
        return cls(ed25519.Ed25519PublicKey.from_public_bytes(data))

    def signed(self, headers: Mapping[str, str], body: bytes, now: float) -> bool:
        """Return True if Telnyx signed the body, within :data:`REPLAY_WINDOW_S` seconds of ``now``.

        Args:
            headers: the headers of the webhook, names in lower case.
            body: the body as it came.
            now: Unix time in seconds.
        """
        timestamp = headers.get(TIMESTAMP_HEADER, "")
        signature = _decoded(headers.get(SIGNATURE_HEADER, ""), SIGNATURE_BYTES)
        if signature is None or not _UNIX_TIME.fullmatch(timestamp) or abs(now - int(timestamp)) > REPLAY_WINDOW_S:
            return False
        invalid = optional_module("cryptography.exceptions", extra="telnyx").InvalidSignature
        try:
            # Nothing here is secret, so the time that it takes tells nothing.
            self._key.verify(signature, _covered(timestamp, body))
        except invalid:
            return False
        return True


# Public, because a simulated carrier signs as Telnyx does: a test then runs the same check as a real call.
def sign(private_key: bytes, timestamp: int, body: bytes) -> dict[str, str]:
    """Return the headers with which the owner of a private key, 32 bytes, signs a webhook at a Unix time."""
    signature = _ed25519().Ed25519PrivateKey.from_private_bytes(private_key).sign(_covered(str(timestamp), body))
    return {SIGNATURE_HEADER: base64.b64encode(signature).decode(), TIMESTAMP_HEADER: str(timestamp)}


def public_key_of(private_key: bytes) -> str:
    """Return the public key to a private one, as the portal would show it."""
    return base64.b64encode(
        _ed25519().Ed25519PrivateKey.from_private_bytes(private_key).public_key().public_bytes_raw()
    ).decode()


def _covered(timestamp: str, body: bytes) -> bytes:
    return f"{timestamp}|".encode() + body
