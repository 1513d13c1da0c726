"""Twilio's two signatures of webhooks: with the account's Auth Token, and with a shared key.

* https://www.twilio.com/docs/usage/security#validating-requests
* HMAC over the URL and the sorted fields of the form: SHA-1 with the Auth Token, SHA-256 with a shared key.
* A request that a shared key signs says so in a header: ``key=webhooks_sharedkey_...,algorithm=HMAC_SHA256``. The
  header only names one of the keys that are configured. It is not signed, so it decides neither whether the Auth Token
  is enough nor which algorithm is.
"""

import base64
import hmac
from collections.abc import Iterator, Mapping, Sequence
from itertools import product
from typing import Final, Literal
from urllib.parse import urlsplit

from patter_trio.abc import Form
from patter_trio.errors import ConfigurationError

SIGNATURE_HEADER: Final = "x-twilio-signature"
SETTINGS_HEADER: Final = "x-twilio-webhooks-signature-settings"
"""Header of a request that a shared key signs: which key, and the algorithm."""
SHARED_KEY_ALGORITHM: Final = "HMAC_SHA256"
# The ports that a URL may leave out.
_STANDARD_PORT: Final = {"https": 443, "wss": 443, "http": 80, "ws": 80}
Digest = Literal["sha1", "sha256"]


def checked_shared_keys(given: Mapping[str, str] | None) -> Mapping[str, str]:
    """Return a copy of shared keys, each secret by the id of its key.

    Raises:
        ConfigurationError: they are not a mapping from ids to secrets, or one is empty, or an id could not be in the
            header. The message shows no secret.
    """
    if given is None:
        return {}
    if not isinstance(given, Mapping):
        raise ConfigurationError(f"Twilio: shared_keys must be a dict of ids and secrets, got {type(given).__name__}")
    for key_id, secret in given.items():
        if not isinstance(key_id, str) or not key_id or set(key_id) & set(",= ") or not key_id.isprintable():
            raise ConfigurationError(
                f"Twilio: an id in shared_keys must be text such as 'webhooks_sharedkey_...', got {key_id!r}"
            )
        # An empty secret is one that everybody knows.
        if not isinstance(secret, str) or not secret:
            raise ConfigurationError(f"Twilio: the secret of {key_id!r} in shared_keys must be text that is not empty")
    return dict(given)


def key_named(settings: str) -> str:
    """Return the id of the shared key that a settings header names; empty: it names none, or another algorithm."""
    found: dict[str, str] = {}
    for part in settings.split(","):
        name, _, value = part.partition("=")
        # Two values for one name have no meaning: whichever counted, the other side may have meant the other.
        if name.strip() in found:
            return ""
        found[name.strip()] = value.strip()
    # A shared key with SHA-1 is not offered, and one that is named all the same is not Twilio's doing.
    return found.get("key", "") if found.get("algorithm", "").upper() == SHARED_KEY_ALGORITHM else ""


def sign(secret: str, url: str, params: Form | bytes, digest: Digest) -> str:
    """Return the signature in base64: HMAC of the URL and all sorted fields.

    A body that is not a form has no fields.
    """
    text = url
    if not isinstance(params, bytes):
        # Twilio's rule: the names sorted, each with its values, each value once.
        text += "".join(name + value for name in sorted(params) for value in sorted(set(_values(params[name]))))
    return base64.b64encode(hmac.digest(secret.encode(), text.encode(), digest)).decode()


def signed(secrets: Sequence[str], url: str, params: Form | bytes, signature: str, digest: Digest) -> bool:
    """Return True if the signature is that of one of the secrets, in constant time.

    Twilio may have signed the URL with or without its port, without the user in front of the host, and a WebSocket's
    URL with a slash at its end, so all variants are tried.
    """
    # ``replace``: a header with odd characters must be a wrong signature, not an exception.
    given = signature.encode(errors="replace")
    # WARNING: all are compared, also after a match: the time must not tell which one it was.
    matches = [
        hmac.compare_digest(sign(secret, variant, params, digest).encode(), given)
        for secret in secrets
        for variant in _variants(url)
    ]
    return any(matches)


def _values(value: str | Sequence[str]) -> Sequence[str]:
    return (value,) if isinstance(value, str) else value or ("",)


def _variants(url: str) -> Iterator[str]:
    """Yield the forms in which Twilio may have written a URL when it signed it."""
    parts = urlsplit(url)
    standard = _STANDARD_PORT.get(parts.scheme)
    # Twilio's own library tries the URL as it is, without its port, whatever the port, and with the standard port
    # where the URL has no port (twilio.request_validator). It drops the user:
    # https://www.twilio.com/docs/usage/security.
    users = ("", parts.netloc.rpartition("@")[0] + "@") if "@" in parts.netloc else ("",)
    host = parts.netloc.rpartition("@")[2]
    hosts = [host]
    if parts.port is not None:
        hosts.append(host.removesuffix(f":{parts.port}"))
    elif standard is not None:
        hosts.append(f"{host}:{standard}")
    # Unchanged: splitting and joining would drop an empty query. Behind the scheme, which may contain a short host.
    paths = [url.partition("://")[2].removeprefix(parts.netloc)]
    # Only for WebSockets: Twilio is known to add a slash to their URLs when it signs.
    if parts.scheme in ("ws", "wss"):
        paths.append(paths[0] + "/")
    # A question mark with nothing behind it is lost on the way to the webhook, and was signed; or the other way round.
    elif "?" not in paths[0]:
        paths.append(paths[0] + "?")
    elif paths[0].endswith("?"):
        paths.append(paths[0][:-1])
    for user, host, path in product(users, hosts, paths):
        yield f"{parts.scheme}://{user}{host}{path}"
