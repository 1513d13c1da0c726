"""The dashboard's pages in a real browser: the list of calls, one call, the controls of a live one."""

import os
import time
import wave
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import trio

from patter_trio import Patter, tool
from patter_trio.abc import CallPage, CallQuery, CallSummary
from patter_trio.dashboard.recent_calls import RecentCalls
from patter_trio.pytest_plugin import CallSimulator
from patter_trio.testing import ScriptedLLM, tool_call
from tests.kit.call import PIPELINE
from tests.kit.call_logs import EPOCH, Events, metrics
from tests.kit.chromium import Browser
from tests.kit.dashboards import ServedDashboard, serving_dashboard
from tests.kit.pictures import chromium

pytestmark = [pytest.mark.deep, pytest.mark.no_coverage]
PICTURES = Path(os.environ["PATTER_TEST_PICTURES"]) if "PATTER_TEST_PICTURES" in os.environ else None
"""Where the screenshots go, to be looked at; without it they go into the test's own folder."""
HOSTILE = "<img src=x onerror=window.harmed=1> & <b>bold</b>"
WAIT_S = 40.0
SIZES = [(360, "light"), (360, "dark"), (1440, "light"), (1440, "dark")]


@tool
async def find_slots(day: str) -> str:
    """Find free slots."""
    await trio.sleep(0.4)
    return f"three on {day}"


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with chromium() as driver:
        yield driver


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return PICTURES or tmp_path


class Looked:
    """A browser at a dashboard."""

    def __init__(self, driver: Any, url: str) -> None:
        self.driver = driver
        self.url = url

    def open(self, address: str = "") -> None:
        # Another document first: an address that differs behind "#" alone loads nothing.
        self.driver.get("about:blank")
        self.driver.get(self.url + address)

    @property
    def text(self) -> str:
        return str(self.driver.execute_script("return document.body.innerText"))

    def until(self, *wanted: str) -> None:
        """Wait until the page shows texts."""
        from selenium.webdriver.support.ui import WebDriverWait  # noqa: PLC0415 (not installed everywhere)

        WebDriverWait(self.driver, WAIT_S, 0.05).until(
            lambda _: all(text in self.text for text in wanted), f"{wanted} must be shown, got {self.text}"
        )

    def until_true(self, script: str) -> None:
        """Wait until a script returns true."""
        from selenium.webdriver.support.ui import WebDriverWait  # noqa: PLC0415 (not installed everywhere)

        WebDriverWait(self.driver, WAIT_S, 0.05).until(lambda driver: driver.execute_script(script), script)

    def find(self, selector: str) -> Any:
        from selenium.webdriver.common.by import By  # noqa: PLC0415 (not installed everywhere)

        return self.driver.find_element(By.CSS_SELECTOR, selector)

    def press(self, text: str) -> None:
        """Press the button with a text."""
        script = (
            "[...document.querySelectorAll('button')].find((one) => one.textContent.trim() === arguments[0]).click()"
        )
        self.driver.execute_script(script, text)

    def photographs(self, folder: Path, name: str) -> None:
        """Take screenshots of the whole page in each size, none too wide and without a finding of axe-core."""
        folder.mkdir(parents=True, exist_ok=True)
        for width, scheme in SIZES:
            features = [{"name": "prefers-color-scheme", "value": scheme}]
            self.driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": features})
            self._size(width, 800)
            height, wide = self.driver.execute_script(
                "return [document.documentElement.scrollHeight, document.documentElement.scrollWidth]"
            )
            assert wide <= width
            self._size(width, height)
            self.driver.execute_async_script("requestAnimationFrame(() => requestAnimationFrame(arguments[0]))")
            self.driver.save_screenshot(str(folder / f"dashboard-{name}-{width}-{scheme}.png"))
            assert Browser(self.driver).findings() == [], f"{name} at {width} px, {scheme}"

    def _size(self, width: int, height: int) -> None:
        size = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": False}
        self.driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)


class RecordedCalls(RecentCalls):
    """Calls whose recording is one file."""

    def __init__(self, file: Path) -> None:
        super().__init__()
        self._file = file

    async def get(self, call_id: str) -> dict[str, Any] | None:
        found = await super().get(call_id)
        return None if found is None else {**found, "has_recording": True}

    async def recording(self, call_id: str) -> Path | None:
        del call_id
        return self._file


def silent_wav(file: Path) -> Path:
    """Write 12 s of silence in stereo."""
    with wave.open(str(file), "wb") as sound:
        sound.setnchannels(2)
        sound.setsampwidth(2)
        sound.setframerate(8000)
        sound.writeframes(bytes(12 * 8000 * 4))
    return file


async def kept_call(call_simulator: CallSimulator, memory: RecentCalls) -> RecentCalls:
    """Return a memory with one simulated call: a tool, an answer that is cut, and another answer."""
    phone = Patter()
    phone._recorder.add(memory)
    llm = ScriptedLLM(
        [
            tool_call("find_slots", day="Saturday"),
            "We have three slots on Saturday. Which one of them would you like?",
            "Ten o'clock it is. See you on Saturday.",
        ]
    )
    async with call_simulator(PIPELINE.agent_of(llm=llm, tools=[find_slots], first_message="Hello."), phone) as caller:
        await caller.at(1.5)
        await caller.speaks("Are you free at the weekend?", seconds=1.4)
        await caller.at(7.0)
        await caller.speaks("At ten, please.", seconds=0.8)
        await caller.at(12.0)
        await caller.hangs_up()
    return memory


def with_more(memory: RecentCalls) -> RecentCalls:
    events = Events(10_000)
    words = ["When do you open?", HOSTILE, "I would like to cancel my appointment.", "¿Hablan español?"]
    ends = ["caller_hung_up", "completed", "failed", "transferred"]
    # Today and the days before by the machine's clock, because the page shows the last 90 days of its own.
    began = time.time() - EPOCH - 2.4 * 86_400
    for index, (text, outcome) in enumerate(zip(words, ends, strict=True)):
        call_id, at = f"CB{index}", began + index * 69_000
        memory.take(events.started(call_id, at=at, caller=f"+1555010001{index}"))
        memory.take(events.said(call_id, text, at=at + 1))
        waits = [{"latency": {"total_ms": 500.0 + 200 * index + 300 * turn}} for turn in range(3)]
        figures = {"turns": waits} | metrics(seconds=40 + 61 * index, cost=0.021 * index, p50=600.0 + 340 * index)
        memory.take(events.ended(call_id, at=at + 60, outcome=outcome, metrics=figures))
    return memory


def live_call(call_id: str) -> dict[str, Any]:
    return {
        "call_id": call_id,
        "caller": "+15550100042",
        "callee": "+15550100002",
        "direction": "inbound",
        "provider": "twilio",
        "started_at": EPOCH,
        "duration_s": 8.2,
        "user_state": "listening",
        "agent_state": "speaking",
        "turns": 1,
        "cost_usd": 0.0123,
        "last_text": "We open at nine.",
        "last_role": "assistant",
    }


def begins(served: ServedDashboard, events: Events) -> None:
    """Let the live call begin, with a question and the beginning of the answer."""
    served.happens(
        events.started("CL1", caller="+15550100042"),
        events.event("CL1", "user_speech_started", at=1.0, audio_offset_ms=1000),
        events.event("CL1", "user_speech_ended", at=2.4, audio_offset_ms=2200),
        events.event("CL1", "user_speech_eos", at=2.7, trailing_silence_ms=500, transcript_so_far="When do you open?"),
        events.said("CL1", "When do you open?", at=2.7),
        events.event("CL1", "agent_speech_started", at=3.5, turn_idx=1),
        events.event("CL1", "agent_speech_ended", at=5.5, turn_idx=1, interrupted=False, speech_duration_ms=2000),
        events.said("CL1", "We open at nine.", role="assistant", at=5.5),
    )


SLOW_LOOKS = """
window.looks = { now: 0, most: 0, all: 0 };
const ask = window.fetch;
window.fetch = async (path, given) => {
  if (path !== "../api/live") return ask(path, given);
  looks.now += 1;
  looks.all += 1;
  looks.most = Math.max(looks.most, looks.now);
  await new Promise((resolve) => setTimeout(resolve, 700));
  looks.now -= 1;
  return ask(path, given);
};
"""


def test_slow_answers_do_not_queue_looks(browser: Any) -> None:
    """A page whose requests for the live calls are slower than the events has never more than one on the way."""
    events = Events(20_000)
    with serving_dashboard(RecentCalls(), live_call("CL1")) as served:
        script = browser.execute_cdp_cmd("Page.addScriptToEvaluateOnNewDocument", {"source": SLOW_LOOKS})
        page = Looked(browser, served.url)
        page.open()
        page.until("Live now: 1".upper())
        for number in range(12):
            served.happens(events.said("CL1", f"Word {number}.", at=number))
            # Longer than the page gathers events for one look.
            time.sleep(0.2)
        page.until_true("return looks.all >= 4")
        assert browser.execute_script("return looks.most") == 1
        browser.execute_cdp_cmd("Page.removeScriptToEvaluateOnNewDocument", script)


async def test_calls_are_listed_and_found(browser: Any, folder: Path, call_simulator: CallSimulator) -> None:
    """The list has live calls and those that are over, with masked numbers; typing filters it; words are no HTML."""
    memory = with_more(await kept_call(call_simulator, RecentCalls()))
    # In a thread: the driver blocks, and so does what hands events to the server's thread.
    await trio.to_thread.run_sync(_look_at_calls, memory, browser, folder)


def _look_at_calls(memory: RecentCalls, browser: Any, folder: Path) -> None:
    with serving_dashboard(memory, live_call("CL1")) as served:
        page = Looked(browser, served.url)
        page.open()
        page.until("Live now: 1".upper(), "Are you free at the weekend?", HOSTILE, "last 200 calls")
        begins(served, Events(20_000))
        assert "+15550100042" not in page.text
        assert "+1555•••0042" in page.text
        page.photographs(folder, "calls")
        page.press("Show numbers")
        page.until("+15550100042")
        page.press("Show numbers")
        browser.execute_script("document.dispatchEvent(new KeyboardEvent('keydown', {key: '/', bubbles: true}))")
        search = page.find("[role=search] input")
        assert browser.switch_to.active_element == search
        search.send_keys("cancel")
        page.until("cancel my appointment")
        _until_gone(page, "When do you open?")
        search.send_keys(" nothing of the kind")
        page.until("No call matches.")
        assert browser.execute_script("return window.harmed") is None


class ManyCalls(RecentCalls):
    """A thousand calls, found as a call log finds them."""

    async def find(self, query: CallQuery) -> CallPage:
        wanted = [call for call in range(1000, 0, -1) if not query.outcome or call % 2]
        first = wanted.index(int(query.cursor)) + 1 if query.cursor else 0
        page = wanted[first : first + query.limit]
        more = str(page[-1]) if page[-1] != wanted[-1] else ""
        return CallPage(calls=tuple(_summary(call) for call in page), next=more)


def _summary(call: int) -> CallSummary:
    words = f"Question {call}?"
    return CallSummary(call_id=f"CA{call}", direction="inbound", started_at=EPOCH + call, first_words=words)


async def test_only_rows_in_the_window_are_there(browser: Any) -> None:
    """Of a long list, some dozens of rows are in the page wherever it is scrolled; chips and keys work, too."""
    await trio.to_thread.run_sync(_look_at_long_list, browser)


def _look_at_long_list(browser: Any) -> None:
    from selenium.webdriver.common.keys import Keys  # noqa: PLC0415 (not installed everywhere)

    rows = "document.querySelectorAll('table.calls tr[aria-rowindex]').length"
    with serving_dashboard(ManyCalls()) as served:
        page = Looked(browser, served.url)
        page._size(1440, 800)
        page.open()
        page.until("Question 1000?")
        # Each step reads the next pages, until the oldest call is there.
        page.until_true(
            "scrollTo(0, document.body.scrollHeight); return document.body.innerText.includes('Question 1?')"
        )
        assert browser.execute_script(f"return {rows}") < 80
        assert "Question 1000?" not in page.text
        page.open("#outcome=failed")
        page.until("Outcome: failed", "Question 999?")
        assert "Question 1000?" not in page.text
        page.find("table.calls a").send_keys(Keys.ARROW_DOWN)
        page.until_true("return document.activeElement.closest('tr').innerText.includes('Question 997?')")
        page.find(".chip").click()
        page.until("Question 1000?")
        assert browser.execute_script("return location.hash") == ""


def _until_gone(page: Looked, text: str) -> None:
    from selenium.webdriver.support.ui import WebDriverWait  # noqa: PLC0415 (not installed everywhere)

    WebDriverWait(page.driver, WAIT_S, 0.05).until_not(lambda _: text in page.text)


async def test_call_is_shown_whole(browser: Any, folder: Path, tmp_path: Path, call_simulator: CallSimulator) -> None:
    """The page of a call has its facts, picture, words, turns, tool, events and recording, and can delete it."""
    memory = await kept_call(call_simulator, RecordedCalls(silent_wav(tmp_path / "call.wav")))
    await trio.to_thread.run_sync(_look_at_call, memory, browser, folder)


def _look_at_call(memory: RecentCalls, browser: Any, folder: Path) -> None:
    from selenium.webdriver.common.keys import Keys  # noqa: PLC0415 (not installed everywhere)

    [line] = [call.summary for call in memory._calls.values()]
    with serving_dashboard(memory) as served:
        page = Looked(browser, served.url)
        page.open()
        page.until("Are you free at the weekend?")
        page.find("table.calls a").click()
        page.until("caller hung up", "find_slots", "three on Saturday", "Ten o'clock it is.", "Delete …")
        assert line.caller not in page.text
        page.find("details.events:last-of-type summary").click()
        page.until("metrics_collected", "tool_call_completed")
        page.find("details.events:last-of-type summary").click()
        page.photographs(folder, "call")
        page.find("canvas").send_keys(Keys.ARROW_RIGHT)
        assert browser.execute_script("return document.querySelector('audio').paused")
        page.find("canvas").send_keys(" ")
        page.until_true(
            "const { paused, currentTime } = document.querySelector('audio'); return !paused && currentTime > 0"
        )
        page.find("canvas").send_keys(" ")
        page.until_true("return document.querySelector('audio').paused")
        # The last word of the first utterance is said behind its first one.
        browser.execute_script("document.querySelectorAll('.said.plays')[1].lastElementChild.click()")
        page.until_true("const sound = document.querySelector('audio'); return !sound.paused && sound.currentTime > 2")
        page.press("Delete …")
        page.until("Delete for ever")
        page.press("Delete for ever")
        page.until("No call has ended yet.")


def test_live_call_is_steered(browser: Any, folder: Path) -> None:
    """The page of a live call follows it, says, transfers and hangs up, and shows the end."""
    memory, events = RecentCalls(), Events()
    with serving_dashboard(memory, live_call("CL1")) as served:
        begins(served, events)
        page = Looked(browser, served.url)
        page.open("#call/CL1")
        page.until("THIS CALL IS LIVE", "We open at nine.")
        page.photographs(folder, "live")
        page.find(".controls input[type=text]").send_keys("One moment.")
        page.press("Say")
        page.until("The agent says it.")
        page.find(".controls input[inputmode=tel]").send_keys("+15550100003")
        page.press("Transfer")
        page.until("being transferred")
        page.press("Hang up …")
        page.until("Yes, hang up")
        page.press("Yes, hang up")
        page.until("ends after the current speech")
        assert served.live.orders == [
            ("say", "CL1", "One moment.", False),
            ("transfer", "CL1", "+15550100003"),
            ("hang_up", "CL1"),
        ]
        served.live.live.clear()
        served.happens(events.ended("CL1", at=9.0, outcome="agent_hung_up", metrics=metrics(seconds=9.0)))
        page.until("agent hung up", "Delete …")
        assert "THIS CALL IS LIVE" not in page.text
