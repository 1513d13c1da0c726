"""The login of windows: a page with one field, and a cookie for those who know the token."""

import base64
import hashlib
import html
from collections.abc import Sequence
from http import HTTPStatus
from typing import Final
from urllib.parse import parse_qs

import trio
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import HTMLResponse, RedirectResponse, Response
from starlette.routing import BaseRoute, Route

from patter_trio.server.access import SESSION_COOKIE, Access, is_right_token, session_in
from patter_trio.server.application import ATTEMPTS_KEY, LOGINS_KEY, headers_of
from patter_trio.server.attempts import LoginAttempts
from patter_trio.server.logins import SESSION_S, Logins
from patter_trio.server.origins import is_own_origin
from patter_trio.server.refusals import current_peer

# Judged: our own page sends two.
MAX_FIELDS: Final = 10
"""Most fields of the form of a login."""
_START: Final = "/dashboard/"
# In the page, because the files of windows are for those who have logged in. The colours are theirs (pages/base.css).
_STYLE: Final = """
:root { color-scheme: light dark; --paper: #fff; --panel: #f6f7f9; --line: #d5d9e0; --ink: #1b1f27; --quiet: #565d6b;
  --edge: #8a93a3; --focus: #1f5f96; --bad: #b3261e; --bad-paper: #fdeceb; }
@media (prefers-color-scheme: dark) { :root { --paper: #12151b; --panel: #1b2029; --line: #343b48; --ink: #e8ebf0;
  --quiet: #a7b0bf; --edge: #707a8a; --focus: #7dbbee; --bad: #ff9d94; --bad-paper: #3a1f1d; } }
* { box-sizing: border-box; }
body { margin: 0; min-height: 100vh; display: grid; place-items: center; padding: 1rem; background: var(--paper);
  color: var(--ink); font: 16px/1.5 system-ui, -apple-system, "Segoe UI", Roboto, "Noto Sans", Arial, sans-serif; }
main { width: 100%; max-width: 26rem; padding: 1.5rem; background: var(--panel); border: 1px solid var(--line);
  border-radius: 14px; }
h1 { margin: 0 0 .75rem; font-size: 1.25rem; }
form, label { display: grid; gap: .5rem; }
form { gap: 1rem; }
label { font-weight: 600; }
input, button { font: inherit; color: inherit; min-height: 2.75rem; padding: .5rem .75rem; border-radius: 10px;
  border: 1px solid var(--edge); background: var(--paper); width: 100%; }
button { cursor: pointer; font-weight: 600; }
:focus-visible { outline: 3px solid var(--focus); outline-offset: 2px; }
.hint { margin: .75rem 0 0; color: var(--quiet); font-size: .9rem; }
[role=alert] { margin: 0 0 1rem; padding: .5rem .75rem; border-left: 3px solid var(--bad);
  background: var(--bad-paper); }
"""
_PAGE: Final = f"""<!doctype html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1">
<title>Log in</title><link rel="icon" href="data:,"><style>{_STYLE.replace("{", "{{").replace("}", "}}")}</style></head>
<body><main><h1>Log in to see the calls</h1>{{complaint}}
<form method="post" action="login">
<input type="hidden" name="next" value="{{next}}">
<label>Token <input name="token" type="password" required autofocus autocomplete="current-password"></label>
<button>Log in</button>
</form>
<p class="hint">It is the <code>dashboard_token</code> with which the program serves this phone.</p>
</main></body></html>
"""
_WRONG: Final = "The token is wrong. Copy the whole of it, without spaces around it."
# The digest allows this style and no other (CSP 3, section 6.7.2.3).
_STYLE_DIGEST: Final = base64.b64encode(hashlib.sha256(_STYLE.encode()).digest()).decode()
_POLICY: Final = (
    f"default-src 'none'; style-src 'sha256-{_STYLE_DIGEST}'; img-src data:; "
    "form-action 'self'; frame-ancestors 'none'; base-uri 'none'"
)


def login_routes(access: Access) -> Sequence[BaseRoute]:
    """Return the routes of the login, which are open to everybody.

    Args:
        access: what the access rule uses.
    """

    async def page(request: Request) -> Response:
        return _page(request.query_params.get("next", _START))

    async def log_in(request: Request) -> Response:
        headers = headers_of(request.scope)
        # Another site must not log its visitor in, either; a client that is not a browser sends no Origin.
        if "origin" in headers and not is_own_origin([headers["origin"]], [headers.get("host", "")]):
            raise HTTPException(403, "a login must have an Origin that equals Host")
        attempts: LoginAttempts = request.scope[ATTEMPTS_KEY]
        body = await request.body()
        # Counted before it is compared. Without a delay nothing is awaited in between: right tokens never count.
        attempt = attempts.begin(current_peer.get(), trio.current_time())
        if attempt.is_late:
            await trio.sleep(attempt.delay_s)
        try:
            form = parse_qs(body.decode(errors="replace"), max_num_fields=MAX_FIELDS)
        # All that parsing raises here. It stays counted, because a stranger chooses the form.
        except ValueError:
            raise HTTPException(400, f"a login must have at most {MAX_FIELDS} fields") from None
        if not is_right_token(access, form.get("token", [""])[0]):
            if attempt.is_late:
                raise HTTPException(429, "too many wrong tokens", {"retry-after": "60"})
            return _page(form.get("next", [_START])[0], _WRONG, HTTPStatus.FORBIDDEN)
        attempt.was_right()
        logins: Logins = request.scope[LOGINS_KEY]
        response = RedirectResponse(_relative(form.get("next", [_START])[0]), 303)
        # The headers of a proxy decide about one flag alone: without it, a cookie of a page over TLS would also be sent
        # without TLS.
        is_secure = request.url.scheme == "https" or headers.get("x-forwarded-proto", "") == "https"
        response.set_cookie(
            SESSION_COOKIE,
            logins.begin(trio.current_time()),
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
        # In the server, too: a copy of the cookie must be worth nothing.
        logins: Logins = request.scope[LOGINS_KEY]
        logins.end(session_in(headers))
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
