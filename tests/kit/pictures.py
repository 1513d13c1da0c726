"""A page with a call's picture in Debian's Chromium, for tests that look at it."""

import functools
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import attrs

from patter_trio.timeline.call_timeline import CallTimeline
from tests.kit.chromium import driven_chromium

STATIC = Path(__file__).parents[2] / "patter_trio" / "pages" / "static"
PAGE = """<!doctype html><html lang="en"><title>Picture</title><link rel="icon" href="data:,">
<link rel="stylesheet" href="/base.css"><main id="main"></main><script type="module" src="/test.js"></script></html>"""
# The page of a test holds the picture where the test finds it, and keeps what it reports.
SCRIPT = """
import { Picture } from "/picture.js";
window.played = [];
window.sought = [];
window.errors = [];
addEventListener("error", (event) => window.errors.push(String(event.message)));
addEventListener("securitypolicyviolation", (event) => window.errors.push(event.violatedDirective));
window.picture = new Picture(document.getElementById("main"), {
  onPlay: (ms) => window.played.push(ms), onSeek: (ms) => window.sought.push(ms),
});
const frame = () => new Promise(requestAnimationFrame);
window.settled = () => frame().then(frame).then(() => window.errors);
"""
CONTENTS = {"/": (PAGE, "text/html"), "/test.js": (SCRIPT, "text/javascript")}


class _Handler(SimpleHTTPRequestHandler):
    def do_GET(self) -> None:
        if self.path not in CONTENTS:
            super().do_GET()
            return
        text, kind = CONTENTS[self.path]
        self.send_response(200)
        self.send_header("content-type", kind)
        self.end_headers()
        self.wfile.write(text.encode())

    def end_headers(self) -> None:
        # As the package's own pages: nothing inline, nothing from elsewhere.
        self.send_header("content-security-policy", "default-src 'self'; img-src 'self' data:")
        super().end_headers()

    def log_message(self, *_: object) -> None:
        """Say nothing: pytest would show it as the test's output."""


@contextmanager
def serving() -> Iterator[str]:
    """Serve the page and the package's static files on a free port of this machine; yield the URL."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(_Handler, directory=str(STATIC)))
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}/"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


@attrs.frozen
class Page:
    """A page with a picture."""

    driver: Any

    def run(self, script: str, *arguments: object) -> Any:
        """Run a script in the page, wait until it is drawn, and return what the script returns; no error is left."""
        found = self.driver.execute_script(script, *arguments)
        assert self.driver.execute_script("return window.settled()") == []
        return found

    def show(self, timeline: CallTimeline) -> None:
        self.run("picture.show(JSON.parse(arguments[0]))", json.dumps(timeline.to_dict()))

    def live(self, timeline: CallTimeline, now_ms: float) -> None:
        self.run("picture.live(JSON.parse(arguments[0]), arguments[1])", json.dumps(timeline.to_dict()), now_ms)

    @property
    def drawn(self) -> dict[str, Any]:
        """Return what is on the canvas."""
        return dict(self.run("return picture.drawn"))

    @property
    def details(self) -> str:
        return str(self.run("return picture.details.textContent"))

    def press(self, *keys: str) -> None:
        """Press keys on the focused canvas."""
        from selenium.webdriver.common.by import By  # noqa: PLC0415 (not installed everywhere)

        self.run("picture.canvas.focus()")
        for key in keys:
            self.driver.find_element(By.CSS_SELECTOR, "canvas").send_keys(key)
        self.run("")

    def media(self, **features: str) -> None:
        """Set what the user prefers, such as ``prefers-color-scheme``."""
        found = [{"name": name.replace("_", "-"), "value": value} for name, value in features.items()]
        self.driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": found})

    def size(self, width: int, height: int = 560) -> None:
        metrics = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": False}
        self.driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", metrics)
        self.run("")

    def screenshot(self, file: Path) -> None:
        file.parent.mkdir(parents=True, exist_ok=True)
        self.driver.save_screenshot(str(file))


@contextmanager
def chromium() -> Iterator[Any]:
    """Start Chromium as screenshots of pictures need it: without scroll bars, in English, one pixel for each of CSS."""
    with driven_chromium("--hide-scrollbars", "--force-device-scale-factor=1", "--lang=en") as driver:
        yield driver
