"""The login in a real browser: how it looks, what it says about a wrong token, and that a right one opens the list."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import pytest
import trio

from patter_trio import Patter
from tests.kit.call import agent_of
from tests.kit.chromium import Browser, chromium

pytestmark = [pytest.mark.deep, pytest.mark.no_coverage]
TOKEN = "correct-horse-battery"


@contextmanager
def served() -> Iterator[str]:
    """Serve a phone with a token in a thread of its own; yield the address of its dashboard."""
    began, found, ends = threading.Event(), list[tuple[str, int, trio.lowlevel.TrioToken]](), trio.Event()

    async def main() -> None:
        async with trio.open_nursery() as nursery:
            serve = partial(Patter().serve, agent_of(), port=0, dashboard=True, dashboard_token=TOKEN)
            host, port = await nursery.start(serve)
            found.append((host, port, trio.lowlevel.current_trio_token()))
            began.set()
            await ends.wait()
            nursery.cancel_scope.cancel()

    thread = threading.Thread(target=trio.run, args=(main,))
    thread.start()
    try:
        assert began.wait(60)
        [(host, port, token)] = found
        yield f"http://{host}:{port}/dashboard/"
    finally:
        trio.from_thread.run_sync(ends.set, trio_token=token)
        thread.join()


def _shows(page: Browser, text: str) -> bool:
    # By a script: an element that selenium has found may be gone with the page that is being left.
    return text in page.driver.execute_script("return document.body ? document.body.innerText : ''")


def test_login_opens_the_list(tmp_path: Path) -> None:
    """A browser is led to the login, learns there that a token is wrong, and gets the list for the right one."""
    with served() as url, chromium() as page:
        page.open(url)
        page.until_text("h1", "Log in to see the calls")
        page.inspect(tmp_path, "login")
        for token, told in (("wrong-horse-battery", "The token is wrong"), (TOKEN, "No call is live")):
            page.driver.find_element("css selector", "input[type=password]").send_keys(token)
            page.click("Log in")
            page.until(partial(_shows, page, told), told)
        page.inspect(tmp_path, "empty")
        # The refusal of the wrong token is the only complaint.
        assert all("403" in complaint for complaint in page.complaints())
