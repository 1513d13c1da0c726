"""The check of URLs that are given as options."""

from collections.abc import Sequence
from urllib.parse import urlsplit

from patter_trio.errors import ConfigurationError
from patter_trio.logs import shown_url
from patter_trio.net.http import origin_of


def checked_url(url: object, what: str, kind: str, schemes: Sequence[str], *, is_base: bool = False) -> str:
    """Return the scheme of a URL after checking that requests can be sent to it.

    Args:
        url: the URL.
        what: name of the option that holds it.
        kind: description of valid values.
        schemes: schemes that the URL may have.
        is_base: paths are appended to the URL, which must not end in a query.

    Raises:
        ConfigurationError: the URL is not valid; the message gives the reason, and shows no more of the URL than its
            origin.
    """
    if not isinstance(url, str):
        raise ConfigurationError(f"{what} must be {kind}, got {type(url).__name__}")
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
    _check_by_httpx(url, what)
    if is_base and parts.query:
        raise ConfigurationError(f"{what} must be a URL without a ?query, got {origin_of(url)}...?...")
    # A fragment is never sent: a URL that has one is probably not the one that was meant.
    if parts.fragment:
        raise ConfigurationError(f"{what} must be a URL without a #fragment, got {origin_of(url)}...#...")
    return scheme


def _check_by_httpx(url: str, what: str) -> None:
    import httpx  # noqa: PLC0415 (importing it takes longer than all else here)

    # httpx's own parser, because it is the one that will read the URL: urllib's accepts URLs that httpx refuses.
    try:
        httpx.URL(url)
    # Translated where it enters, as all of httpx's errors.
    except httpx.InvalidURL as error:
        raise ConfigurationError(f"{what} must be a valid URL, got {origin_of(url)}...: {error}") from error
