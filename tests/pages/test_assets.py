"""The static files of pages: their headers, and paths that lead nowhere."""

import re
from pathlib import Path

import httpx
import pytest
from starlette.applications import Starlette

from patter_trio.dashboard.routes import STATIC as DASHBOARD
from patter_trio.pages.assets import HEADERS, MEDIA_TYPES, STATIC, asset_route, assets_in, shared_routes
from patter_trio.phone_page.routes import STATIC as PHONE

FOLDERS = (STATIC, PHONE, DASHBOARD)
OWN_FILES = [
    file for folder in FOLDERS for file in sorted(folder.rglob("*")) if file.is_file() and "vendor" not in file.parts
]


def client_of(*, folder: Path | None = None) -> httpx.AsyncClient:
    routes = shared_routes() if folder is None else [asset_route("/x/", folder)]
    return httpx.AsyncClient(transport=httpx.ASGITransport(Starlette(routes=routes)), base_url="http://localhost")


@pytest.mark.parametrize(
    ("name", "media_type"),
    [
        ("base.css", "text/css; charset=utf-8"),
        ("api.js", "text/javascript; charset=utf-8"),
        ("vendor/htm-preact.js", "text/javascript; charset=utf-8"),
        ("vendor/uplot.css", "text/css; charset=utf-8"),
    ],
)
async def test_shared_files_have_type_and_policy(name: str, media_type: str) -> None:
    """Each shared file comes with its type and a policy that allows nothing from other hosts; unchanged, as 304."""
    async with client_of() as client:
        answer = await client.get(f"/pages/{name}")
        assert (answer.status_code, answer.headers["content-type"]) == (200, media_type)
        assert answer.content == (STATIC / name).read_bytes()
        assert {header: answer.headers[header] for header in HEADERS} == HEADERS
        again = await client.get(f"/pages/{name}", headers={"If-None-Match": answer.headers["etag"]})
        assert (again.status_code, again.content) == (304, b"")


@pytest.mark.parametrize(
    "path",
    ["", "nothing.js", "../assets.py", "%2e%2e/assets.py", "vendor", "vendor/../../assets.py", "\x00", "/etc/passwd"],
)
async def test_other_paths_are_404(path: str) -> None:
    """A path that names no served file is 404, wherever it tries to lead."""
    async with client_of() as client:
        request = client.build_request("GET", "/pages/")
        request.url = request.url.copy_with(raw_path=f"/pages/{path}".replace("\x00", "%00").encode())
        assert (await client.send(request)).status_code == 404


async def test_index_stands_for_its_folder(tmp_path: Path) -> None:
    """A folder with a page is that page; a file of another type in it is not served."""
    (tmp_path / "index.html").write_text("<p>Hello</p>", encoding="utf-8")
    (tmp_path / "secret.env").write_text("KEY=1", encoding="utf-8")
    async with client_of(folder=tmp_path) as client:
        assert (await client.get("/x/")).text == "<p>Hello</p>"
        assert (await client.get("/x/index.html")).text == "<p>Hello</p>"
        assert (await client.get("/x/secret.env")).status_code == 404


def test_all_shipped_files_are_served() -> None:
    """Each file in the folders of pages has a type under which it is served."""
    for folder in FOLDERS:
        files = {file.relative_to(folder).as_posix() for file in folder.rglob("*") if file.is_file()}
        assert files <= set(assets_in(folder))
        assert {Path(name).suffix for name in files} <= set(MEDIA_TYPES)


@pytest.mark.parametrize("file", OWN_FILES, ids=lambda file: file.name)
def test_own_files_need_no_other_host(file: Path) -> None:
    """Our own pages name no other host, write no HTML from text, and have no inline script or style."""
    text = file.read_text(encoding="utf-8").replace("http://www.w3.org/2000/svg", "")
    assert not re.findall(r"https?://", text)
    assert not re.findall(r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|dangerouslySet|\beval\(", text)
    assert not re.findall(r"<script(?![^>]*\bsrc=)|<style|\sstyle=\"|\son\w+=\"", text)
