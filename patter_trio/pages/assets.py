"""Static files of pages: read once, and sent with a policy that allows nothing from any other host.

The files are plain ES modules, style sheets and HTML, sent as they are. All are kept in memory (a few hundred
kilobytes), so a path in a request is a key of a table and never reaches the file system.
"""

from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Final

import attrs
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Route

from patter_trio.pages.links import LinkedFiles, tag_of

PAGES_PREFIX: Final = "/pages/"
"""Prefix of the paths of the files that all windows share."""
# ``'self'`` covers scripts, AudioWorklets, styles, fetches, event streams and WebSockets of the page's own host. No
# inline script or style and no ``eval``: a caller's words cannot become code even if a page wrote them as HTML.
SECURITY_POLICY: Final = (
    "default-src 'self'; base-uri 'none'; form-action 'self'; frame-ancestors 'none'; object-src 'none'"
)
"""The Content-Security-Policy of every page and file."""
HEADERS: Final[Mapping[str, str]] = {
    "content-security-policy": SECURITY_POLICY,
    "x-content-type-options": "nosniff",
    "referrer-policy": "no-referrer",
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
    # The microphone for the page itself, which frames of others cannot be (``frame-ancestors``).
    "permissions-policy": "microphone=(self), camera=(), geolocation=()",
    # A file may change with the next version of the package: browsers ask, and get 304 if it has not. They keep files
    # whose address has the version (KEPT).
    "cache-control": "no-cache",
}
"""The headers of every page and file."""
# ``private``: the pages are for people who have proved that they may see them. A year: the most that RFC 9111 mentions.
KEPT: Final = "private, max-age=31536000, immutable"
"""The ``Cache-Control`` of a file whose address has its version: another content has another address."""
MEDIA_TYPES: Final[Mapping[str, str]] = {
    ".html": "text/html; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".css": "text/css; charset=utf-8",
    ".svg": "image/svg+xml",
    ".txt": "text/plain; charset=utf-8",
}
"""The types of the files that are served, by suffix; others in a folder are not."""
INDEX: Final = "index.html"
"""The file that stands for its folder."""
STATIC: Final = Path(__file__).parent / "static"
"""The folder of the files that all windows share."""


@attrs.frozen
class Asset:
    """A static file: its content, its type, and a tag that changes with the content."""

    content: bytes = attrs.field(repr=False)
    media_type: str
    tag: str


@cache
def assets_in(folder: Path) -> Mapping[str, Asset]:
    """Return the files in a folder and below it by their relative paths; ``index.html`` also stands for the folder."""
    found: dict[str, Asset] = {}
    for file in sorted(folder.rglob("*")):
        media_type = MEDIA_TYPES.get(file.suffix)
        if media_type is None or not file.is_file():
            continue
        content = file.read_bytes()
        name = file.relative_to(folder).as_posix()
        found[name] = found[name.removesuffix(INDEX)] = Asset(content, media_type, tag_of(content))
    return found


@cache
def linked_assets(prefix: str, folder: Path) -> Mapping[str, Asset]:
    """Return the files in a folder that is served below a prefix, with versions in the references between files."""
    own, shared = assets_in(folder), assets_in(STATIC)
    files = LinkedFiles(
        {
            **{f"{PAGES_PREFIX}{name}": asset.content for name, asset in shared.items()},
            **{f"{prefix}{name}": asset.content for name, asset in own.items()},
        }
    )
    linked: dict[str, Asset] = {}
    for name, asset in own.items():
        # A name without INDEX is of the same file.
        path = f"{prefix}{name}{INDEX}" if name == "" or name.endswith("/") else f"{prefix}{name}"
        content = files.content(path)
        linked[name] = Asset(content, asset.media_type, tag_of(content))
    return linked


def asset_route(prefix: str, folder: Path) -> BaseRoute:
    """Return the route that serves the files of a folder below a prefix, which ends in a slash."""
    files = linked_assets(prefix, folder)

    async def endpoint(request: Request) -> Response:
        asset = files.get(request.path_params["name"])
        if asset is None:
            return Response("Not Found\n", 404, HEADERS, "text/plain")
        headers = {**HEADERS, "etag": f'"{asset.tag}"'}
        # An older version, which a page asks for that was opened before an update, is not kept under that address.
        if request.query_params.get("v") == asset.tag:
            headers["cache-control"] = KEPT
        if f'"{asset.tag}"' in request.headers.get("if-none-match", ""):
            return Response(status_code=304, headers=headers)
        return Response(asset.content, 200, headers, asset.media_type)

    return Route(f"{prefix}{{name:path}}", endpoint, methods=["GET"])


def shared_routes() -> list[BaseRoute]:
    """Return the routes of the files that all windows share."""
    return [asset_route(PAGES_PREFIX, STATIC)]
