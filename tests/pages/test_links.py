"""The versions in the references between the files of pages, and what a browser may keep."""

import re
from pathlib import Path

import httpx
import pytest
from starlette.applications import Starlette

from patter_trio.dashboard.routes import DASHBOARD_PREFIX
from patter_trio.dashboard.routes import STATIC as DASHBOARD
from patter_trio.pages.assets import HEADERS, KEPT, asset_route, shared_routes
from patter_trio.pages.links import LinkedFiles, tag_of
from patter_trio.phone_page.routes import STATIC as PHONE

FILES = {
    "/x/index.html": b'<link rel="stylesheet" href="../pages/base.css">\n<script type="module" src="a.js"></script>\n',
    "/x/a.js": b'import { b } from "./b.js";\nimport {\n  c,\n} from "../pages/c.js";\nb("./b.js");\n',
    "/x/b.js": b'export { c as b } from "../pages/c.js";\n',
    "/pages/c.js": b"export const c = 1;\n",
    "/pages/base.css": b"body {}\n",
}


def client_of(folder: Path, prefix: str) -> httpx.AsyncClient:
    app = Starlette(routes=[*shared_routes(), asset_route(prefix, folder)])
    return httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://localhost")


def test_references_have_the_version_of_their_file() -> None:
    """Each import, style and script has the tag of what it leads to; text that looks like a path is left alone."""
    files = LinkedFiles(FILES)
    c, b = tag_of(FILES["/pages/c.js"]), tag_of(files.content("/x/b.js"))
    assert files.content("/x/b.js").decode() == f'export {{ c as b }} from "../pages/c.js?v={c}";\n'
    assert files.content("/x/a.js").decode() == (
        f'import {{ b }} from "./b.js?v={b}";\nimport {{\n  c,\n}} from "../pages/c.js?v={c}";\nb("./b.js");\n'
    )
    assert f"base.css?v={tag_of(FILES['/pages/base.css'])}" in files.content("/x/index.html").decode()


def test_version_changes_with_imported_modules() -> None:
    """Another content of a module changes the versions of all that import it, directly or not."""
    changed = LinkedFiles({**FILES, "/pages/c.js": b"export const c = 2;\n"})
    files = LinkedFiles(FILES)
    for path in ("/x/index.html", "/x/a.js", "/x/b.js"):
        assert changed.content(path) != files.content(path)


def test_page_preloads_all_its_modules() -> None:
    """A page names the modules that its script imports, each once, by the address that the importers have."""
    text = LinkedFiles(FILES).content("/x/index.html").decode()
    preloaded = re.findall(r'rel="modulepreload" href="([^"]+)"', text)
    assert [address.partition("?")[0] for address in preloaded] == ["b.js", "../pages/c.js"]
    assert f"../pages/c.js?v={tag_of(FILES['/pages/c.js'])}" in preloaded
    assert text.index("modulepreload") < text.index("<script")


def test_modules_in_a_circle_are_refused() -> None:
    """Modules that import each other have no version, because each would change that of the other."""
    files = LinkedFiles({"/x/a.js": b'import { b } from "./b.js";\n', "/x/b.js": b'import { a } from "./a.js";\n'})
    assert files.modules("/x/a.js") == ["/x/b.js"]
    with pytest.raises(ValueError, match="in a circle, got one with /x/a"):
        files.content("/x/a.js")


async def test_browsers_keep_files_with_their_version() -> None:
    """All files of a page have addresses with versions and may be kept; another version is asked for anew."""
    for folder, prefix in ((DASHBOARD, DASHBOARD_PREFIX), (PHONE, "/phone/")):
        async with client_of(folder, prefix) as client:
            page = await client.get(prefix)
            assert page.headers["cache-control"] == HEADERS["cache-control"]
            addresses = re.findall(r'(?:href|src)="([^"]+)"', page.text)
            assert len(addresses) > 10
            for address in addresses:
                answer = await client.get(prefix + address)
                assert (answer.status_code, answer.headers["cache-control"]) == (200, KEPT)
            old = await client.get(prefix + addresses[0].partition("?")[0] + "?v=old")
            assert (old.status_code, old.headers["cache-control"]) == (200, HEADERS["cache-control"])
