"""How fast the dashboard's pages are: ``python -m benchmarks.pages [--calls 100000] [--live 100] [--times 20]``.

A server with ``Patter(persist=FILE)`` and the dashboard runs in a process of its own. Its log is filled as that of
``benchmarks.call_log``, with calls of the last weeks. The live calls are made up: the server shows a state of each, and
their events come as those of real calls do, but no audio. The pages run in Debian's Chromium (headless), on the same
machine; what they show is timed in the browser, until the frame with it has been made.

The bounds, at the 95th percentile: first paint within 1 s, search within 200 ms, a call's page within 300 ms.
"""

import argparse
import random
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, redirect_stdout
from pathlib import Path
from types import SimpleNamespace
from typing import Final, cast

import trio

from benchmarks import call_log
from benchmarks.call_log import INTERVAL_S, TURNS, WRITTEN, fill, multiply, vocabulary
from benchmarks.servers.ours import CannedLLM, CannedSTT, CannedTTS
from patter_trio import Agent, Patter
from patter_trio.abc import CallInfo, EventRecord
from patter_trio.call.session import CallSession
from patter_trio.call_log.options import CallLog
from patter_trio.call_log.phone_log import PhoneLog
from patter_trio.vad.silero import SileroVAD

PAINT_BOUND_MS: Final = 1000.0
SEARCH_BOUND_MS: Final = 200.0
CALL_BOUND_MS: Final = 300.0
# Each by one question to the server; the first ones warm the server and the browser up.
WARMING: Final = 2
# The events of a call that would begin or end it: the made-up ones go on for ever.
EDGES: Final = frozenset({"call_started", "call_ended"})
MISSING: Final = (
    "Chromium is absent, so nothing was measured: {} not found (apt-get install -y chromium chromium-driver)"
)

NOTES: Final = """
window.noted = {};
const note = (name) => {
  if (name in noted) return;
  noted[name] = null;
  requestAnimationFrame(() => setTimeout(() => { noted[name] = performance.now(); }));
};
window.isListed = () => document.querySelector("table.calls a") !== null;
window.isCall = () => Boolean(
  document.querySelector(".transcript .said")?.textContent && document.querySelector("main canvas:not(.strip)"));
new MutationObserver(() => {
  if (isListed()) note("rows");
  if (isCall()) note("call");
}).observe(document, { childList: true, subtree: true });
window.until = (isTrue) => new Promise((resolve, reject) => {
  const late = setTimeout(() => reject(new Error(`${isTrue} is false after 60 s`)), 60_000);
  const seen = () => {
    if (!isTrue()) return;
    watch.disconnect();
    clearTimeout(late);
    requestAnimationFrame(() => setTimeout(() => resolve(performance.now())));
  };
  const watch = new MutationObserver(seen);
  watch.observe(document, { childList: true, subtree: true, characterData: true });
  seen();
});
"""
"""What each page runs before its own scripts: it notes when the page shows what, in ms of its clock."""
LOADED: Final = """
while (!noted[what]) await new Promise((resolve) => setTimeout(resolve, 20));
const [paint] = performance.getEntriesByName("first-contentful-paint");
const files = performance.getEntriesByType("resource").filter(({ transferSize }) => transferSize > 0);
return { shown: noted[what], paint: paint.startTime, files: files.length };
"""
SEARCHED: Final = """
const rows = () => [...document.querySelectorAll("table.calls a")].map((link) => link.hash).join();
const input = document.querySelector("[role=search] input");
const before = rows();
const began = performance.now();
input.value = text;
input.dispatchEvent(new InputEvent("input", { bubbles: true }));
const shown = await until(() => rows() !== before);
const answer = performance.getEntriesByType("resource").findLast(({ name }) => name.endsWith("/calls/search"));
return { shown: shown - began, answer: answer.duration };
"""
OPENED: Final = """
const links = [...document.querySelectorAll("table.calls a")];
const began = performance.now();
links[place % links.length].click();
const shown = await until(() => !isListed() && isCall());
history.back();
await until(isListed);
return shown - began;
"""


def percentile(values: Sequence[float], percent: int) -> float:
    """Return the smallest of the values that as many per cent of them do not exceed."""
    ordered = sorted(values)
    return ordered[max(0, -(-len(ordered) * percent // 100) - 1)]


def table(measured: Mapping[str, tuple[Sequence[float], float | None]]) -> str:
    """Return a table of the times in ms, by what was measured, each with its bound at p95 or None."""
    lines = ["| ms | samples | p50 | p95 | max | bound, p95 |", "|---|---:|---:|---:|---:|---|"]
    for name, (values, bound) in measured.items():
        p50, p95 = percentile(values, 50), percentile(values, 95)
        verdict = "" if bound is None else f"{bound:.0f}: {'holds' if p95 < bound else 'missed'}"
        lines.append(f"| {name} | {len(values)} | {p50:.0f} | {p95:.0f} | {max(values):.0f} | {verdict} |")
    return "\n".join(lines)


def hold(measured: Mapping[str, tuple[Sequence[float], float | None]]) -> bool:
    """Return True if all bounds hold."""
    return all(bound is None or percentile(values, 95) < bound for values, bound in measured.values())


def missing_programs() -> list[str]:
    """Return the programs that the benchmark needs and the machine lacks."""
    return [name for name in ("chromium", "chromedriver") if shutil.which(name) is None]


# The server -----------------------------------------------------------------------------------------------------------
def made_up_session(number: int, events: Sequence[EventRecord]) -> CallSession:
    """Return what the list of live calls reads of a session."""
    said = [event["data"] for event in events if event["type"] == "transcript_final"]
    info = CallInfo(
        call_id=f"CL{number:032x}",
        caller=f"+1555{number:07d}",
        callee="+15550100002",
        direction="inbound",
        provider="twilio",
        custom_params={},
    )
    began = time.monotonic() - number

    class Session(SimpleNamespace):
        @property
        def seconds(self) -> float:
            return time.monotonic() - began

    session = Session(
        info=info,
        conversation_state={"user": "listening", "agent": "speaking"},
        newest_entry={"role": "user", "text": said[number % len(said)]["text"]},
        started_at=time.time() - number,
        turn_idx=TURNS,
        cost_usd=0.016,
    )
    # Nobody calls it: only its facts are read.
    return cast(CallSession, session)


async def talk(phone: Patter, events: Sequence[EventRecord], call_id: str, ahead: float) -> None:
    """Let the events of a call happen again and again, each at its time; ``ahead`` is where in the call it begins."""
    feed = phone._feed  # noqa: SLF001 (of the package's own benchmark)
    length = (events[-1]["at_ms"] or 0) / 1000
    began, lap = trio.current_time() - ahead, 0
    while True:
        for event in events:
            at = began + lap * length + (event["at_ms"] or 0) / 1000
            if at < trio.current_time() - 1 or event["type"] in EDGES:
                continue
            await trio.sleep_until(at)
            if feed.is_open:
                data = {**event["data"], "call_id": call_id}
                seq = next(phone._recorder._numbers)  # noqa: SLF001 (the same)
                feed.take({**event, "call_id": call_id, "seq": seq, "data": data})
        lap += 1


async def serve(place: Path, live: int) -> None:
    """Serve the dashboard with made-up live calls; print its URL."""
    phone = Patter(persist=place)
    agent = Agent("Answer.", vad=SileroVAD(), stt=CannedSTT(), llm=CannedLLM(), tts=CannedTTS())
    source = random.Random(7)
    words = vocabulary(source)
    async with trio.open_nursery() as nursery:
        for number in range(live):
            events = list(call_log.call(number, source, words))
            session = made_up_session(number, events)
            phone._live[session.info.call_id] = session  # noqa: SLF001 (of the package's own benchmark)
            # Spread over the length of a call.
            nursery.start_soon(talk, phone, events, session.info.call_id, source.uniform(0, 60))
        _, port = await nursery.start(lambda **given: phone.serve(agent, 0, dashboard=True, **given))
        print(f"http://127.0.0.1:{port}/dashboard/", flush=True)


@contextmanager
def serving(place: Path, live: int) -> Iterator[str]:
    """Run the server in a process of its own; yield the dashboard's URL."""
    command = [sys.executable, "-m", "benchmarks.pages", "--serve", str(place), "--live", str(live)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout
            yield process.stdout.readline().strip()
        finally:
            process.kill()


# The browser ----------------------------------------------------------------------------------------------------------
def measure(url: str, calls: int, times: int) -> dict[str, tuple[Sequence[float], float | None]]:
    """Return the times of each page and step, with their bounds."""
    from tests.kit.chromium import chromium  # noqa: PLC0415 (needs pytest and selenium)

    source = random.Random(5)
    words = vocabulary(random.Random(13))
    with chromium() as page:
        page.driver.execute_cdp_cmd("Page.addScriptToEvaluateOnNewDocument", {"source": NOTES})

        def load(address: str, what: str) -> dict[str, float]:
            page.driver.get("about:blank")
            page.driver.get(url + address)
            found: dict[str, float] = page.run(f"const what = '{what}'; {LOADED}")
            return found

        def load_anew() -> dict[str, float]:
            page.driver.execute_cdp_cmd("Network.clearBrowserCache", {})
            return load("", "rows")

        def load_call() -> dict[str, float]:
            return load(f"#call/CA{source.randrange(calls):032x}", "call")

        fresh = [load_anew() for _ in range(times + WARMING)][WARMING:]
        again = [load("", "rows") for _ in range(times + WARMING)][WARMING:]
        # From the list, as people do.
        opened = [page.run(f"const place = {place}; {OPENED}") for place in range(times + WARMING)][WARMING:]
        # In turn: each finds other calls than the one before, which is how the page shows that it has the answer.
        texts = [
            text
            for place in range(times + WARMING)
            for text in ("the", words[40 + place], f"{source.randrange(10**5):05d}")
        ]
        found = [page.run(f"const text = '{text}'; {SEARCHED}") for text in texts][3 * WARMING :]
        one = [load_call() for _ in range(times + WARMING)][WARMING:]
    print(f"requests for the list: {fresh[-1]['files']} the first time, {again[-1]['files']} again", flush=True)
    return {
        "list, first visit: first paint": ([page["paint"] for page in fresh], PAINT_BOUND_MS),
        "list, first visit: rows are there": ([page["shown"] for page in fresh], None),
        "list, opened again: first paint": ([page["paint"] for page in again], PAINT_BOUND_MS),
        "list, opened again: rows are there": ([page["shown"] for page in again], None),
        "search: from the last key to the rows": ([one["shown"] for one in found], SEARCH_BOUND_MS),
        "search: the answer to the request alone": ([one["answer"] for one in found], SEARCH_BOUND_MS),
        "call, from the list: words and picture": (opened, CALL_BOUND_MS),
        "call, by its address: first paint": ([page["paint"] for page in one], None),
        "call, by its address: words and picture": ([page["shown"] for page in one], CALL_BOUND_MS),
    }


def fill_until_now(place: Path, calls: int) -> int:
    """Fill a new log with calls of which the last has just ended; return the number of those that are no copies."""
    source = random.Random(13)
    words = vocabulary(source)
    written = min(calls, WRITTEN)
    # Copies are whole days later; the last one ends today.
    days = -(-written * INTERVAL_S // 86_400)
    epoch = time.time() - (calls // written - 1) * days * 86_400 - (written + 1) * INTERVAL_S
    log = PhoneLog(CallLog(place))
    with redirect_stdout(sys.stderr):
        fill(log, written, source, words, epoch)
        multiply(log, written, calls // written)
    return written


def parse(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--calls", type=int, default=100_000, help="logged calls (default: %(default)s)")
    parser.add_argument("--live", type=int, default=100, help="live calls (default: %(default)s)")
    parser.add_argument("--times", type=int, default=20, help="samples of each kind (default: %(default)s)")
    parser.add_argument("--place", type=Path, help="a log that an earlier run has filled, or the place for a new one")
    parser.add_argument("--serve", type=Path, help=argparse.SUPPRESS)
    return parser.parse_args(arguments)


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure, and print a table; return 0 if all bounds hold."""
    options = parse(arguments)
    if options.serve:
        trio.run(serve, options.serve, options.live)
        return 0
    if missing := missing_programs():
        print(MISSING.format(" and ".join(missing)))
        return 2
    with tempfile.TemporaryDirectory() as folder:
        place = options.place or Path(folder) / "patter.db"
        written = min(options.calls, WRITTEN) if place.exists() else fill_until_now(place, options.calls)
        with serving(place, options.live) as url:
            measured = measure(url, written, options.times)
    print(table(measured))
    return 0 if hold(measured) else 1


if __name__ == "__main__":
    sys.exit(main())
