"""How fast a log of many calls answers: ``python -m benchmarks.call_log [--calls 100000] [--place FOLDER | URL]``.

It fills a new log with made-up calls, each of eight turns with the events that a real one has: some thousands through
the writer's store, and copies of them on other days, which the database makes. Then it asks what windows ask, many
times, through the same ``CallArchive``, in the same threads. The bounds are those of the dashboard: a search within 200
ms, a call's page within 300 ms, both at the 95th percentile.
"""

import argparse
import math
import random
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

import trio
from sqlalchemy import inspect, text

from patter_trio.abc import CallQuery, EventRecord
from patter_trio.call_log.entries import Entry
from patter_trio.call_log.options import checked_log
from patter_trio.call_log.phone_log import PhoneLog
from patter_trio.call_log.redaction import Redaction
from patter_trio.call_log.store import LogStore

TURNS: Final = 8
WRITTEN: Final = 4000
"""Calls that are written by the log's own code; all others are copies of them."""
SEARCH_BOUND_MS: Final = 200.0
CALL_BOUND_MS: Final = 300.0
EPOCH: Final = datetime(2026, 1, 1, tzinfo=UTC).timestamp()
# One call each 26 s: 100,000 calls are a month.
INTERVAL_S: Final = 26.0
COMMON: Final = (
    *("the", "a", "to", "and", "you", "we", "at", "on", "is", "it", "for", "can", "do", "yes", "no"),
    *("please", "thank", "open", "close", "today"),
)
OUTCOMES: Final = ("caller_hung_up", "caller_hung_up", "caller_hung_up", "agent_hung_up", "transferred", "failed")


def vocabulary(source: random.Random) -> list[str]:
    """Return 5,000 words that can be spoken; the first are the most frequent."""
    letters = ("b", "d", "f", "g", "k", "l", "m", "n", "p", "r", "s", "t", "v"), ("a", "e", "i", "o", "u")
    lengths, made = (4, 6, 8), set[str]()
    while len(made) < 5000 - len(COMMON):
        made.add("".join(source.choice(letters[place % 2]) for place in range(source.choice(lengths))))
    return [*COMMON, *sorted(made)]


def sentence(source: random.Random, words: list[str]) -> str:
    """Return 6 to 14 words; frequent ones come often, as in any language (Zipf)."""
    count, last = source.randint(6, 14), len(words) - 1
    return " ".join(words[min(int(source.paretovariate(0.7)) - 1, last)] for _ in range(count))


def call(number: int, source: random.Random, words: list[str], epoch: float = EPOCH) -> Iterator[EventRecord]:
    """Yield the events of a call; the first call began at ``epoch``."""
    began, seq = epoch + number * INTERVAL_S, 0
    call_id = f"CA{number:032x}"
    transcript: list[dict[str, Any]] = []
    turns: list[dict[str, Any]] = []

    def event(kind: str, at: float, **data: Any) -> EventRecord:
        nonlocal seq
        seq += 1
        when = datetime.fromtimestamp(began + at, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
        return EventRecord(
            seq=seq, call_id=call_id, type=kind, at_ms=at * 1000, time=when, data={"call_id": call_id, **data}
        )

    caller = f"+1555{source.randrange(10**7):07d}"
    facts = {"caller": caller, "callee": "+15550100002", "direction": "inbound", "telephony_provider": "twilio"}
    yield event("call_started", 0.0, custom_params={}, **facts)
    at = 1.0
    for turn in range(1, TURNS + 1):
        yield event("user_speech_started", at, timestamp_ms=0, audio_offset_ms=round(at * 1000))
        text = sentence(source, words)
        yield event("transcript_partial", at + 1, text=text[: len(text) // 2])
        yield event("user_speech_ended", at + 3, speech_duration_ms=3000)
        yield event("user_speech_eos", at + 3.5, trigger="silence", transcript_so_far=text)
        yield event("turn_started", at + 3.5, turn_idx=turn)
        yield event("transcript_final", at + 3.5, role="user", text=text)
        yield event("llm_token", at + 3.9, turn_idx=turn, llm_provider="openai", model="gpt-4o-mini")
        yield event("audio_out", at + 4.1, turn_idx=turn, tts_provider="piper")
        yield event("agent_speech_started", at + 4.1, turn_idx=turn)
        answer = sentence(source, words)
        yield event("agent_speech_ended", at + 7, turn_idx=turn, speech_duration_ms=2900, interrupted=False)
        yield event("transcript_final", at + 7, role="assistant", text=answer)
        total = source.lognormvariate(6.6, 0.3)
        measured = {
            "turn_index": turn,
            "user_text": text,
            "agent_text": answer,
            "latency": {"total_ms": total},
            "timestamp": began + at,
            "interrupted": False,
            "failed": False,
        }
        turns.append(measured)
        yield event("metrics_collected", at + 7, turn=measured, cost_so_far={"total": 0.002 * turn})
        yield event("turn_ended", at + 7, turn_idx=turn, reason="completed")
        transcript += [
            {"role": "user", "text": text, "timestamp": began + at},
            {"role": "assistant", "text": answer, "timestamp": began + at + 4},
        ]
        at += 8
    metrics = {
        "duration_seconds": at,
        "turns": turns,
        "cost": {"total": 0.016, "telephony": 0.004},
        "latency_p50": {"total_ms": sorted(one["latency"]["total_ms"] for one in turns)[TURNS // 2]},
    }
    end = {"outcome": source.choice(OUTCOMES), "transcript": transcript, "metrics": metrics, "tool_calls": []}
    yield event("call_ended", at, ended_at=began + at, **facts, **end)


def fill(log: PhoneLog, calls: int, source: random.Random, words: list[str], epoch: float = EPOCH) -> None:
    """Write calls as the writer does, in larger batches."""
    store = LogStore(log._database, Redaction())  # noqa: SLF001 (of the package's own benchmark)
    store.open()
    began, batch = time.perf_counter(), list[Entry]()
    for number in range(calls):
        batch += call(number, source, words, epoch)
        if len(batch) > 5000:
            store.write(batch)
            batch = []
        if number and number % 10_000 == 0:
            print(f"  {number} calls, {time.perf_counter() - began:.0f} s", file=sys.stderr)
    store.write(batch)
    store.close()
    events = calls * (TURNS * 13 + 2)
    print(f"written: {calls} calls, {events / (time.perf_counter() - began):.0f} events a second", flush=True)


def multiply(log: PhoneLog, calls: int, copies: int) -> None:
    """Copy all calls in the database, each copy to other days and under other ids."""
    began = time.perf_counter()
    days = math.ceil(calls * INTERVAL_S / 86_400)
    tables = ("patter_calls", "patter_call_details", "patter_words", "patter_events", "patter_turns")
    with log._database.writing_engine().connect() as connection:  # noqa: SLF001 (of the package's own benchmark)
        columns = {table: [found["name"] for found in inspect(connection).get_columns(table)] for table in tables}
        connection.rollback()
        for copy in range(1, copies):
            shifts = {
                **dict.fromkeys(("id", "call"), f"+ {copy * calls}"),
                **dict.fromkeys(("started_at", "ended_at", "at"), f"+ {copy * days * 86_400}"),
                "day": f"+ {copy * days}",
                "call_id": f"|| '-{copy}'",
            }
            with connection.begin():
                for table, names in columns.items():
                    values = ", ".join(f'"{name}" {shifts.get(name, "")}' for name in names)
                    quoted = ", ".join(f'"{name}"' for name in names)
                    whose = "id" if table == tables[0] else "call"
                    connection.execute(
                        text(f"INSERT INTO {table} ({quoted}) SELECT {values} FROM {table} WHERE {whose} <= {calls}")
                    )
    print(f"copied: {copies - 1} times, {time.perf_counter() - began:.0f} s", flush=True)


async def measured(name: str, ask: Callable[[], Awaitable[Any]], times: int) -> float:
    """Ask a question many times; print its times and return the 95th percentile, in ms."""
    took = []
    for _ in range(times):
        began = time.perf_counter()
        await ask()
        took.append((time.perf_counter() - began) * 1000)
    took.sort()
    p50, p95 = took[len(took) // 2], took[min(len(took) - 1, int(len(took) * 0.95))]
    print(f"{name:<42}{p50:>9.1f}{p95:>9.1f}{took[-1]:>9.1f}")
    return p95


async def ask_all(log: PhoneLog, calls: int, source: random.Random, words: list[str], times: int) -> bool:
    """Ask all questions; return True if the bounds hold."""
    archive = log.archive

    def find(**query: Any) -> Callable[[], Awaitable[Any]]:
        return lambda: archive.find(CallQuery(**query))

    def some_call() -> str:
        return f"CA{source.randrange(calls):032x}"

    print(f"\n{'ms':<42}{'p50':>9}{'p95':>9}{'max':>9}")
    searches = [
        await measured("first page", find(), times),
        await measured("search: a frequent word", find(text="the"), times),
        await measured("search: a rare word", lambda: archive.find(CallQuery(text=source.choice(words[500:]))), times),
        await measured(
            "search: three words, the last unfinished",
            lambda: archive.find(CallQuery(text=f"open {source.choice(words[100:])} {source.choice(words)[:2]}")),
            times,
        ),
        await measured("search: words that nobody said", find(text="quetzalcoatl"), times),
        await measured(
            "search: a part of a number",
            lambda: archive.find(CallQuery(number=f"{source.randrange(10**5):05d}")),
            times,
        ),
        await measured("filter: outcome and cost", find(outcome="failed", min_cost_usd=0.01), times),
        await measured("filter: a cost that no call has", find(min_cost_usd=99.0), times),
    ]
    one = await measured("one call", lambda: archive.get(some_call()), times)
    events = await measured("the events of one call", lambda: archive.events(some_call()), times)
    timeline = await measured("the timeline of one call", lambda: archive.timeline(some_call()), times)
    await measured("figures by day, of all calls", archive.stats, max(3, times // 40))
    return max(searches) < SEARCH_BOUND_MS and max(one, events, timeline) < CALL_BOUND_MS


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--calls", type=int, default=100_000, help="logged calls (default: %(default)s)")
    parser.add_argument("--times", type=int, default=100, help="questions of each kind (default: %(default)s)")
    parser.add_argument("--place", default="", help="a folder, file or URL (default: a temporary folder)")
    options = parser.parse_args()
    source = random.Random(13)
    words = vocabulary(source)
    with tempfile.TemporaryDirectory() as folder:
        log = PhoneLog(checked_log(options.place or folder))  # type: ignore[arg-type]
        written = min(options.calls, WRITTEN)
        fill(log, written, source, words)
        multiply(log, written, options.calls // written)
        if not options.place:
            print(f"size: {(Path(folder) / 'patter.db').stat().st_size / 1e6:.0f} MB")
        kept = trio.run(ask_all, log, written, source, words, options.times)
    bounds = f"search {SEARCH_BOUND_MS:g} ms, one call {CALL_BOUND_MS:g} ms (p95)"
    print(f"\nbounds {'hold' if kept else 'do not hold'}: {bounds}")
    return 0 if kept else 1


if __name__ == "__main__":
    sys.exit(main())
