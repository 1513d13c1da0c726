"""Chromium with a fake microphone, driven over the network by selenium: for tests of pages as people see them."""

import os
import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from unittest import mock

import pytest

FLAGS = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--use-fake-ui-for-media-stream",
    "--use-fake-device-for-media-stream",
    "--autoplay-policy=no-user-gesture-required",
)
AXE = Path(__file__).parents[1] / "vendor/axe.min.js"
# The widest first: while the others are taken, what was said leaves the live picture.
WIDTHS = (1440, 768, 360)
DESKTOP = (1440, 900)
# On a busy machine a page of local models answers late; what does not come within this does not come.
WAIT_S = 60.0


def require_chromium() -> None:
    """Skip the test, with the reason, where Chromium, its driver or selenium is missing."""
    pytest.importorskip("selenium", reason="selenium is not installed: pip install -e '.[dev]'")
    if missing := [name for name in ("chromium", "chromedriver") if shutil.which(name) is None]:
        pytest.skip(f"{' and '.join(missing)} not found: apt-get install -y chromium chromium-driver")


@contextmanager
def driven_chromium(*flags: str) -> Iterator[Any]:
    """Start Chromium; yield selenium's driver of it."""
    require_chromium()
    from selenium import webdriver  # noqa: PLC0415 (an extra of the development environment)
    from selenium.webdriver.chrome.service import Service  # noqa: PLC0415 (the same)

    options = webdriver.ChromeOptions()
    options.binary_location = shutil.which("chromium") or ""
    for flag in (*FLAGS, *flags):
        options.add_argument(flag)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    # No proxy between the test and the driver on this machine; selenium reads it once. Left behind, it would keep the
    # tests of proxies from theirs.
    with mock.patch.dict(os.environ, {"NO_PROXY": "127.0.0.1,localhost"}):
        driver = webdriver.Chrome(options=options, service=Service(shutil.which("chromedriver")))
    driver.set_script_timeout(WAIT_S)
    try:
        yield driver
    finally:
        driver.quit()


@contextmanager
def chromium(microphone: Path | None = None, *flags: str) -> Iterator["Browser"]:
    """Start Chromium; ``microphone`` is a recording that its microphone plays once when a page opens it."""
    sound = () if microphone is None else (f"--use-file-for-fake-audio-capture={microphone}%noloop",)
    with driven_chromium(*sound, *flags) as driver:
        yield Browser(driver)


class Browser:
    """A page in Chromium."""

    def __init__(self, driver: Any) -> None:
        self.driver = driver

    def open(self, url: str) -> None:
        self.resize(*DESKTOP)
        self.driver.get(url)

    def text(self, selector: str) -> str:
        found = self.driver.find_elements("css selector", selector)
        return " ".join(str(one.text) for one in found)

    def click(self, name: str) -> None:
        """Click the button with this name."""
        self.until(lambda: self._button(name) is not None, f"a button {name}")
        button = self._button(name)
        assert button is not None
        button.click()

    def _button(self, name: str) -> Any:
        for button in self.driver.find_elements("css selector", "button"):
            if name in (button.text, button.get_attribute("aria-label")) and button.is_enabled():
                return button
        return None

    def until(self, true: Callable[[], bool], what: str) -> None:
        """Wait until a page shows something: no event of a browser reports that."""
        end = time.monotonic() + WAIT_S
        while not true():
            assert time.monotonic() < end, f"{what} did not come; the page shows: {self.text('body')}"
            time.sleep(0.1)

    def until_text(self, selector: str, text: str) -> None:
        self.until(lambda: text in self.text(selector), f"{text!r} in {selector}")

    def run(self, script: str, *arguments: Any) -> Any:
        """Run the body of an async function in the page; return what it returns."""
        wrapped = (
            "const done = arguments[arguments.length - 1]; const given = [...arguments].slice(0, -1);"
            f"(async (...given) => {{ {script} }})(...given)"
            ".then((value) => done({ value }), (error) => done({ error: String(error.stack || error) }));"
        )
        answer = self.driver.execute_async_script(wrapped, *arguments)
        assert "error" not in answer, answer["error"]
        return answer.get("value")

    def resize(self, width: int, height: int, *, dark: bool = False) -> None:
        size = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": False}
        self.driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
        scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        self.driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": [scheme]})

    def inspect(self, folder: Path, name: str) -> None:
        """Take pictures at each width, light and dark; expect no finding of axe-core and no sideways scrolling."""
        for width in WIDTHS:
            for dark in (False, True):
                self.resize(width, 900, dark=dark)
                height = self.driver.execute_script("return document.documentElement.scrollHeight")
                self.resize(width, max(900, height), dark=dark)
                # A frame, in which the canvas is drawn anew.
                self.run("await new Promise((resolve) => requestAnimationFrame(() => setTimeout(resolve, 50)));")
                self.driver.save_screenshot(str(folder / f"{name}-{width}{'-dark' if dark else ''}.png"))
                wide = self.driver.execute_script("return document.documentElement.scrollWidth")
                assert wide <= width, f"{name} at {width} px is {wide} px wide"
                assert self.findings() == [], f"{name} at {width} px"
        self.resize(*DESKTOP)

    def findings(self) -> list[Any]:
        """Return what axe-core finds in the page."""
        self.driver.execute_script(AXE.read_text(encoding="utf-8"))
        found: list[Any] = self.run(
            "const result = await axe.run(); return result.violations.map("
            "({ id, help, nodes }) => [id, help, ...nodes.map((node) => node.html.slice(0, 200))]);"
        )
        return found

    def complaints(self) -> list[str]:
        """Return the errors that the browser has logged."""
        return [entry["message"] for entry in self.driver.get_log("browser") if entry["level"] == "SEVERE"]
