"""URLs of the application: the body of a request, its signature, and whether it is readable on its way."""

import hmac
import ipaddress
import json
import os
from collections.abc import Mapping
from typing import Any, Final
from urllib.parse import urlsplit

from patter_trio.errors import ConfigurationError

SIGNATURE_HEADER: Final = "X-Patter-Signature"
SECRET_VARIABLE: Final = "PATTER_WEBHOOK_SECRET"  # noqa: S105 (the variable's name)
NO_CONTENT_STATUS: Final = 204
JSON_CONTENT_TYPE: Final = "application/json"


def secret_of(given: str) -> str:
    """Return the secret that signs requests: ``on_message_secret=``, else the environment's.

    If both are empty, requests are not signed.

    Raises:
        ConfigurationError: the secret is not a string.
    """
    if not isinstance(given, str):
        raise ConfigurationError(f"on_message_secret must be a string, got {type(given).__name__}")
    # Read when serving begins, not at import, so that a program may load its .env first.
    return given or os.environ.get(SECRET_VARIABLE, "")


def signed(secret: str, body: bytes) -> dict[str, str]:
    """Return the header that proves a request's origin, if there is a secret."""
    # Over the bytes that are sent: a server that parses and re-encodes the JSON would compute another signature.
    return {SIGNATURE_HEADER: hmac.digest(secret.encode(), body, "sha256").hex()} if secret else {}


def encoded(event: Mapping[str, Any]) -> bytes:
    """Return an event as the body of a request."""
    # "replace", because a lone surrogate in a caller's parameters must not make the request impossible.
    return json.dumps(event, ensure_ascii=False).encode("utf-8", "replace")


def is_exposed(url: str) -> bool:
    """Return True if the text of a conversation would travel unencrypted over a network."""
    parts = urlsplit(url)
    if parts.scheme.lower() in ("https", "wss"):
        return False
    host = parts.hostname or ""
    try:
        return not ipaddress.ip_address(host).is_loopback
    except ValueError:
        # Not an address but a name. Of all names, only localhost is known not to leave the machine.
        return host != "localhost"
