"""The login of windows: a page with one field, and a cookie for those who know the token."""

import html
import math
from collections.abc import Callable, Sequence
from http import HTTPStatus
from typing import Final
from urllib.parse import parse_qs

import attrs
import trio
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import HTMLResponse, RedirectResponse, Response
from starlette.routing import BaseRoute, Route

from patter_trio.server.access import SESSION_COOKIE, SESSION_S, Access, is_right_token, new_session
from patter_trio.server.application import headers_of
from patter_trio.server.origins import is_own_origin
from patter_trio.server.refusals import current_peer

# Judged: nobody mistypes a pasted token more often, and at this rate not even a million tokens are tried in a year.
MAX_ATTEMPTS: Final = 5
"""Wrong tokens of one peer within :data:`ATTEMPTS_S` from which on its logins are refused unseen."""
ATTEMPTS_S: Final = 60.0
"""Seconds for which wrong tokens count."""
# Judged, as for refusals: beyond it, all others count as one peer.
MAX_PEERS: Final = 256
"""Most peers whose wrong tokens are counted by themselves."""
# Judged: our own page sends two.
MAX_FIELDS: Final = 10
"""Most fields of the form of a login."""
_START: Final = "/dashboard/"
_PAGE: Final = """<!doctype html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width">
<title>Log in</title></head>
<body><main><h1>Log in</h1>{complaint}
<form method="post" action="login">
<input type="hidden" name="next" value="{next}">
<p><label>Token (<code>dashboard_token</code>): <input name="token" type="password" required autofocus
autocomplete="current-password"></label> <button>Log in</button></p>
</form></main></body></html>
"""
_POLICY: Final = "default-src 'none'; form-action 'self'; frame-ancestors 'none'; base-uri 'none'"


@attrs.define
class _Wrong:
    began: float = -math.inf
    number: int = 0


class LoginAttempts:
    """The wrong tokens of each peer. Time is an argument."""

    def __init__(self) -> None:
        self._wrong: dict[str, _Wrong] = {}

    def __repr__(self) -> str:
        return f"<LoginAttempts of {len(self._wrong)} peers>"

    def may_try(self, peer: str, now: float) -> bool:
        """Return True if a peer may try a token now."""
        wrong = self._wrong.get(self._key(peer, now))
        return wrong is None or wrong.number < MAX_ATTEMPTS or now - wrong.began >= ATTEMPTS_S

    def was_wrong(self, peer: str, now: float) -> None:
        """Count a wrong token."""
        wrong = self._wrong.setdefault(self._key(peer, now), _Wrong())
        if now - wrong.began >= ATTEMPTS_S:
            wrong.began, wrong.number = now, 0
        wrong.number += 1

    def _key(self, peer: str, now: float) -> str:
        if peer not in self._wrong and len(self._wrong) >= MAX_PEERS:
            for old in [key for key, wrong in self._wrong.items() if now - wrong.began >= ATTEMPTS_S]:
                del self._wrong[old]
        return peer if peer in self._wrong or len(self._wrong) < MAX_PEERS else ""


def login_routes(access: Access, unix_time: Callable[[], float]) -> Sequence[BaseRoute]:
    """Return the routes of the login, which are open to everybody.

    Args:
        access: what the access rule uses.
        unix_time: returns the time, in seconds, by which sessions end.
    """
    attempts = LoginAttempts()

    async def page(request: Request) -> Response:
        return _page(request.query_params.get("next", _START))

    async def log_in(request: Request) -> Response:
        headers, now = headers_of(request.scope), trio.current_time()
        # Another site must not log its visitor in, either; a client that is not a browser sends no Origin.
        if "origin" in headers and not is_own_origin([headers["origin"]], [headers.get("host", "")]):
            raise HTTPException(403, "a login must have an Origin that equals Host")
        peer = current_peer.get()
        if not attempts.may_try(peer, now):
            raise HTTPException(429, "too many wrong tokens: try again in a minute", {"retry-after": "60"})
        try:
            form = parse_qs((await request.body()).decode(errors="replace"), max_num_fields=MAX_FIELDS)
        # All that parsing raises here. Counted, because a stranger chooses the form.
        except ValueError:
            attempts.was_wrong(peer, now)
            raise HTTPException(400, f"a login must have at most {MAX_FIELDS} fields") from None
        if not is_right_token(access, form.get("token", [""])[0]):
            attempts.was_wrong(peer, now)
            return _page(form.get("next", [_START])[0], "The token is wrong.", HTTPStatus.FORBIDDEN)
        response = RedirectResponse(_relative(form.get("next", [_START])[0]), 303)
        # The headers of a proxy decide about one flag alone: without it, a cookie of a page over TLS would also be sent
        # without TLS.
        is_secure = request.url.scheme == "https" or headers.get("x-forwarded-proto", "") == "https"
        response.set_cookie(
            SESSION_COOKIE,
            new_session(access.token, unix_time()),
            max_age=SESSION_S,
            httponly=True,
            samesite="strict",
            secure=is_secure,
        )
        return response

    async def log_out(request: Request) -> Response:
        headers = headers_of(request.scope)
        if not is_own_origin([headers.get("origin", "")], [headers.get("host", "")]):
            raise HTTPException(403, "a write must have an Origin that equals Host")
        response = RedirectResponse("login", 303)
        response.delete_cookie(SESSION_COOKIE, httponly=True, samesite="strict")
        return response

    return [
        Route("/dashboard/login", page, methods=["GET"]),
        Route("/dashboard/login", log_in, methods=["POST"]),
        Route("/dashboard/logout", log_out, methods=["POST"]),
    ]


def _page(destination: str, complaint: str = "", status: int = HTTPStatus.OK) -> Response:
    shown = f'<p role="alert">{html.escape(complaint)}</p>' if complaint else ""
    page = _PAGE.format(complaint=shown, next=html.escape(destination))
    return HTMLResponse(page, status, {"content-security-policy": _POLICY})


def _relative(destination: str) -> str:
    """Return a path of this server, relative to the login; an address of another one becomes the dashboard."""
    # "//evil.example" and "/\\evil.example" are addresses of another server, to browsers.
    is_path = destination.startswith("/") and not destination.startswith(("//", "/\\"))
    safe = destination if is_path and destination.isprintable() else _START
    return f"..{safe}"
