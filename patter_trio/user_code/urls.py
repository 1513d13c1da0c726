"""What all that is sent to a URL of the application's has in common: which URLs there may be, the body and its signature."""

import hmac
import ipaddress
import json
import os
from collections.abc import Mapping, Sequence
from typing import Any, Final
from urllib.parse import urlsplit

from patter_trio.errors import ConfigurationError
from patter_trio.net.http import check_url, origin_of

SIGNATURE_HEADER: Final = "X-Patter-Signature"
SECRET_VARIABLE: Final = "PATTER_WEBHOOK_SECRET"  # noqa: S105 (the variable's name)
NO_CONTENT_STATUS: Final = 204
JSON_CONTENT_TYPE: Final = "application/json"


def secret_of(given: str) -> str:
    """Return what requests are signed with: ``on_message_secret=``, else what the environment has; empty: nothing.

    Raises:
        ConfigurationError: the secret is no text.
    """
    if not isinstance(given, str):
        raise ConfigurationError(f"on_message_secret must be text, not {type(given).__name__}")
    return given or os.environ.get(SECRET_VARIABLE, "")


def signed(secret: str, body: bytes) -> dict[str, str]:
    """Return the header that proves where a request comes from, where a secret was given."""
    return {SIGNATURE_HEADER: hmac.digest(secret.encode(), body, "sha256").hex()} if secret else {}


def encoded(event: Mapping[str, Any]) -> bytes:
    """Return an event as the body of a request."""
    return json.dumps(event, ensure_ascii=False).encode("utf-8", "replace")


def checked_url(url: str, what: str, kind: str, schemes: Sequence[str]) -> str:
    """Return the scheme of a URL.

    Args:
        url: it.
        what: the option that it was given for.
        kind: what that may be.
        schemes: that it may have.

    Raises:
        ConfigurationError: nothing can be sent there; the message says why, and names no more than the origin.
    """
    try:
        parts = urlsplit(url)
        scheme, host, _ = parts.scheme.lower(), parts.hostname, parts.port
    except ValueError as error:
        raise ConfigurationError(f"{what} is no URL: {error}") from error
    if scheme not in schemes:
        shown = f"one that begins with {scheme}:" if scheme else "a text that is none"
        raise ConfigurationError(f"{what} must be {kind}, not {shown}")
    if not host or any(character.isspace() or not character.isprintable() for character in url):
        raise ConfigurationError(f"{what} must be a URL with a host and without spaces, not {origin_of(url)}...")
    check_url(url)
    if parts.fragment:
        raise ConfigurationError(f"{what} must be a URL without a #fragment: {origin_of(url)}...#...")
    return scheme


def is_exposed(url: str) -> bool:
    """Say whether what people say would travel unencrypted over a network."""
    parts = urlsplit(url)
    if parts.scheme.lower() in ("https", "wss"):
        return False
    host = parts.hostname or ""
    try:
        return not ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host != "localhost"
