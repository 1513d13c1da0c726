"""The rule that decides who may look at calls and steer them: a pure function of a request's head.

Without a token, only somebody at this machine may look, and only at a server that nobody else can reach. That takes
all of it: the server listens on loopback addresses alone, neither a tunnel nor a public URL leads to it, the request
names a loopback host (else any page could make the visitor's browser ask, under a name that it has pointed at
127.0.0.1), and no proxy has passed it on.

With a token, a request shows it as ``Authorization: Bearer`` or has the cookie of a login (``logins.py``).

A write needs an ``Origin`` that equals ``Host``, because browsers send cookies, and requests to loopback, for pages of
any other site. A request with the token itself may leave ``Origin`` out: no page of another site knows the token.

A read that a page of another site begins is refused, too (``Sec-Fetch-Site``, as W3C's Fetch Metadata Request Headers
define it): that page gets no answer, but it could keep the server busy. A link to a page of ours may be followed.
"""

import hmac
import ipaddress
import re
from collections.abc import Iterable, Mapping
from typing import Final

import attrs

from patter_trio.errors import ConfigurationError
from patter_trio.server.origins import is_own_origin

SESSION_COOKIE: Final = "patter_trio_session"
"""The name of the cookie of a login."""
# Judged: 96 bits if it is random, too much to be guessed. A word can be guessed.
MIN_TOKEN_CHARACTERS: Final = 16
"""Least length of ``dashboard_token``."""
READS: Final = ("GET", "HEAD")
"""The methods that change nothing."""
_HOST: Final = re.compile(r"([a-z0-9.\-]+|\[[0-9a-f:.]+\])(?::\d{1,5})?")
# What proxies and tunnels add: the standard's, the usual ones, and Cloudflare's.
_FORWARDED: Final = ("forwarded", "via", "x-real-ip")
_FORWARDED_PREFIXES: Final = ("x-forwarded-", "cf-")


@attrs.frozen
class Access:
    """The facts about a server that the rule uses; the defaults let nobody look.

    Attributes:
        token: the token; empty: none is set.
        is_private: True if the server listens on loopback alone, and neither a tunnel nor a public URL leads to it.
    """

    token: str = attrs.field(default="", repr=False)
    is_private: bool = False


NOBODY: Final = Access()
"""The access of a server for which nothing is known."""


@attrs.frozen
class AccessRefusal:
    """A refused request: the HTTP status, and what must hold."""

    status: int
    why: str


def checked_token(token: object) -> str:
    """Return ``dashboard_token``; empty: none.

    Raises:
        ConfigurationError: it is not a string, or too short, or cannot stand in a header.
    """
    # Never in the message: it would be logged.
    if not isinstance(token, str):
        raise ConfigurationError(f"dashboard_token must be a string, got {type(token).__name__}")
    if token and (len(token) < MIN_TOKEN_CHARACTERS or not token.isascii() or not token.isprintable() or " " in token):
        raise ConfigurationError(
            f"dashboard_token must have at least {MIN_TOKEN_CHARACTERS} printable ASCII characters without spaces, "
            f"got one with {len(token)} characters "
            "(make one with: python -c 'import secrets; print(secrets.token_urlsafe())')"
        )
    return token


def refusal(
    access: Access, method: str, headers: Mapping[str, str], *, has_session: bool = False
) -> AccessRefusal | None:
    """Return why a request to a window is refused; None: it is allowed.

    Args:
        access: the facts about the server.
        method: the method of the request, in upper case.
        headers: its headers; names in lower case, values of a repeated header joined with commas.
        has_session: True if the cookie is that of a login that goes on (:func:`session_in`).
    """
    writes = method not in READS
    if not access.token:
        if not (access.is_private and _is_direct(headers)):
            return AccessRefusal(
                403,
                "without dashboard_token= only this machine may look, at a server on loopback: give phone.serve one",
            )
    elif shown := bearer_of(headers):
        if not _equal(shown, access.token):
            return AccessRefusal(401, "the token must be that of dashboard_token=")
        # A program. A script of a page has an Origin, and is held to it although it knows the token.
        if "origin" not in headers:
            return None
    elif not has_session:
        return AccessRefusal(401, "a request must have the token, as Authorization: Bearer, or the cookie of a login")
    if writes and not is_own_origin([headers.get("origin", "")], [headers.get("host", "")]):
        return AccessRefusal(403, "a write must have an Origin that equals Host")
    if not writes and headers.get("sec-fetch-site", "") == "cross-site" and not _is_followed_link(headers):
        return AccessRefusal(403, "a page of another site may not read")
    return None


def is_right_token(access: Access, given: str) -> bool:
    """Return True if a token is set and equals the given one; the time that it takes does not depend on where not."""
    return bool(access.token) and _equal(given, access.token)


def is_loopback(host: str) -> bool:
    """Return True for ``localhost`` and for addresses of the loopback interface."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def is_private(addresses: Iterable[str], *, is_public: bool) -> bool:
    """Return True if nobody else can reach a server on these addresses; ``is_public``: a tunnel or URL leads to it."""
    return not is_public and all(is_loopback(address) for address in addresses)


def _equal(one: str, other: str) -> bool:
    # As bytes: ``compare_digest`` refuses strings beyond ASCII, and headers may have any.
    return hmac.compare_digest(one.encode(errors="replace"), other.encode(errors="replace"))


def _is_direct(headers: Mapping[str, str]) -> bool:
    """Return True if a request names a loopback host, and no proxy has passed it on."""
    # The client behind a proxy on this machine may be anywhere.
    if any(name in _FORWARDED or name.startswith(_FORWARDED_PREFIXES) for name in headers):
        return False
    host = _HOST.fullmatch(headers.get("host", ""))
    return host is not None and is_loopback(host[1].strip("[]"))


def _is_followed_link(headers: Mapping[str, str]) -> bool:
    """Return True if a browser opens a page of ours in a tab, which the site with the link cannot read."""
    return headers.get("sec-fetch-mode", "") == "navigate" and headers.get("sec-fetch-dest", "") == "document"


def bearer_of(headers: Mapping[str, str]) -> str:
    """Return the token that a request shows as ``Authorization: Bearer``; empty: none."""
    scheme, _, token = headers.get("authorization", "").partition(" ")
    return token.strip() if scheme.lower() == "bearer" else ""


def session_in(headers: Mapping[str, str]) -> str:
    """Return the value of the cookie of a login; the first one, which browsers send for the closest path."""
    # Repeated headers were joined with commas, which no value of ours has.
    for pair in headers.get("cookie", "").replace(",", ";").split(";"):
        given, _, value = pair.strip().partition("=")
        if given == SESSION_COOKIE:
            return value
    return ""
