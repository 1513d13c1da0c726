"""URLs of the application: which ones are allowed, the body of a request, and its signature."""

import hmac
import ipaddress
import json
import os
from collections.abc import Mapping, Sequence
from typing import Any, Final
from urllib.parse import urlsplit

from patter_trio.errors import ConfigurationError
from patter_trio.logs import shown_url
from patter_trio.net.http import check_url, origin_of

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


def checked_url(url: str, what: str, kind: str, schemes: Sequence[str]) -> str:
    """Return the scheme of a URL after checking that requests can be sent to it.

    Args:
        url: the URL.
        what: name of the option that holds it.
        kind: description of valid values.
        schemes: schemes that the URL may have.

    Raises:
        ConfigurationError: the URL is not valid; the message gives the reason, and shows no more of the URL than its
            origin.
    """
    try:
        parts = urlsplit(url)
        # The port is read because urlsplit checks it only then.
        scheme, host, _ = parts.scheme.lower(), parts.hostname, parts.port
    except ValueError:
        # Raised for a port that is not a number, and for brackets that are not an address.
        # Without its text, which quotes what stands for the port: of a password that is not encoded, a part.
        raise ConfigurationError(f"{what} must be a valid URL, got {shown_url(url)}") from None
    if scheme not in schemes:
        shown = f"a URL that begins with {scheme}:" if scheme else "a text without a scheme"
        raise ConfigurationError(f"{what} must be {kind}, got {shown}")
    if not host or any(character.isspace() or not character.isprintable() for character in url):
        raise ConfigurationError(f"{what} must be a URL with a host and without spaces, got {origin_of(url)}...")
    # httpx is stricter than urlsplit, and would otherwise refuse the URL when the first caller waits for it.
    check_url(url)
    # A fragment is never sent: a URL that has one is probably not the one that was meant.
    if parts.fragment:
        raise ConfigurationError(f"{what} must be a URL without a #fragment, got {origin_of(url)}...#...")
    return scheme


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
