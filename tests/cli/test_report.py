"""What the reader sees of simulated calls: the live view, the progress of many, latencies and the verdict on them."""

import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import trio
from trio.testing import MockClock

from patter_trio.cli.busy import LoadMonitor, verdict
from patter_trio.cli.live import Live, Progress
from patter_trio.cli.report import latencies, latency_table
from patter_trio.metrics.results import LatencyBreakdown, TurnMetrics
from patter_trio.testing.simulation.record import Event

# Live -----------------------------------------------------------------------------------------------------------------
TURN = TurnMetrics(turn_index=1, user_text="", agent_text="")
LIVE: list[tuple[float, str, dict[str, Any], str]] = [
    (
        0.0,
        "call_start",
        {"caller": "+15550100001", "callee": "+15550100002"},
        "   0.00  call    from +1555***0001 to +1555***0002",
    ),
    (0.2, "agent_speech_started", {"turn_idx": 0}, "   0.20  agent   speaking ..."),
    (1.5, "agent_speech_ended", {"interrupted": False, "speech_duration_ms": 1300}, ""),
    (1.5, "transcript", {"role": "assistant", "text": "Hello."}, "   1.50  agent   “Hello.”"),
    (2.0, "user_speech_started", {}, "   2.00  caller  speaking ..."),
    (2.5, "transcript_partial", {"text": "What"}, "   2.50  caller  ~ What"),
    (3.6, "user_speech_ended", {"audio_offset_ms": 3100}, "   3.60  caller  silent since 3.10"),
    (3.7, "user_speech_eos", {"trailing_silence_ms": 600}, "   3.70  caller  has finished (0.60 s of silence)"),
    (3.7, "transcript", {"role": "user", "text": "What now?"}, "   3.70  caller  “What now?”"),
    (3.8, "llm_token", {"llm_provider": "on_message", "model": "desk"}, "   3.80  agent   first token by desk"),
    (3.8, "llm_token", {"llm_provider": "scripted", "model": ""}, "   3.80  agent   first token by scripted"),
    (3.9, "audio_out", {"tts_provider": "piper"}, "   3.90  agent   first audio by piper"),
    (4.0, "agent_speech_started", {"turn_idx": 1}, "   4.00  agent   speaking ... (0.90 s after the caller)"),
    (
        6.0,
        "agent_speech_ended",
        {"interrupted": True, "speech_duration_ms": 2000},
        "   6.00  agent   INTERRUPTED after 2.00 s",
    ),
    (6.0, "transcript", {"role": "assistant", "text": "We open"}, "   6.00  agent   “We open -”"),
    (
        0.0,
        "call_start",
        {"caller": "", "callee": "+15550100002"},
        "   0.00  call    from a withheld number to +1555***0002",
    ),
    (
        6.1,
        "tool_call_started",
        {"name": "book", "arguments": {"day": "Monday", "note": "a\n" + "b " * 40}},
        "   6.10  agent   calls book(day='Monday', note='a\\nb b b b b b b b b b b b b b b b b ...)",
    ),
    (
        6.2,
        "tool_call_completed",
        {"name": "book", "duration": 0.1, "result": "done\nat nine"},
        "   6.20  agent   book took 0.10 s: done at nine",
    ),
    (
        6.3,
        "tool_call_completed",
        {"name": "book", "duration": 10, "result": "", "error": "timed out"},
        "   6.30  agent   book took 10.00 s: FAILED: timed out",
    ),
    (6.4, "metrics", {"turn": replace(TURN, failed=True)}, "   6.40  agent   REPLY FAILED"),
    (6.5, "metrics", {"turn": TURN}, ""),
    (7.0, "dtmf", {"digit": "5"}, "   7.00  caller  pressed 5"),
    (
        7.9,
        "agent_speech_started",
        {"turn_idx": 2, "tts_provider": "piper"},
        "   7.90  agent   speaking ... (0.90 s after the caller)",
    ),
    (8.0, "call_end", {"outcome": "caller_hung_up"}, "   8.00  call    caller hung up"),
    (8.0, "call_end", {"outcome": "failed", "error": "no voice"}, "   8.00  call    failed: no voice"),
]


def test_single_call_report_has_timed_lines(capsys: pytest.CaptureFixture[str]) -> None:
    """The report of a single call has one line with its time for each event."""
    view = Live()
    for at, name, payload, line in LIVE:
        view.event(at, name, payload)
        assert capsys.readouterr().out == (line + "\n" if line else "")
    view.caller(9.0, "bye.wav")
    view.ended("CA1", "")
    view.ended("CA1", "no words")
    assert capsys.readouterr().out.splitlines() == [
        "   9.00  caller  > bye.wav",
        "Call CA1: ended as expected",
        "Call CA1: FAILED: no words",
    ]


def act(view: Progress) -> None:
    view.event(0.0, "call_start", {})
    view.event(0.0, "call_start", {})
    view.event(0.1, "agent_speech_started", {})
    view.caller(0.2, "hours.wav")
    view.ended("CA1", "")
    view.ended("CA2", "no words")


def test_progress_counts_calls_and_names_failures(capsys: pytest.CaptureFixture[str]) -> None:
    """The progress of many calls counts them and names each failure at once."""
    act(Progress(2))
    out, err = capsys.readouterr()
    assert out == ""
    assert err.splitlines() == [
        "1 of 2 calls over, 1 live, 0 failed",
        "Call CA2: FAILED: no words",
        "2 of 2 calls over, 0 live, 1 failed",
    ]


# Latencies ------------------------------------------------------------------------------------------------------------
def test_latencies_of_each_turn_are_its_metrics() -> None:
    """The latencies in the report are those of each turn's metrics, in seconds, without the greeting's."""

    def over(at: float, index: int, **latencies_ms: float) -> Event:
        turn = TurnMetrics(turn_index=index, user_text="", agent_text="", latency=LatencyBreakdown(**latencies_ms))
        return Event(at, "metrics", {"turn": turn})

    answered = {"endpoint_ms": 600.0, "llm_ttft_ms": 300.0, "tts_ms": 100.0, "total_ms": 1100.0, "bargein_ms": 250.0}
    events = [
        over(2.2, 0, tts_ms=200.0, bargein_ms=300.0),  # the greeting: no turn's
        Event(3.5, "user_speech_ended", {"audio_offset_ms": 3000}),
        over(6.15, 1, **answered, stt_ms=40.0, llm_total_ms=500.0),
        over(7.1, 2, endpoint_ms=600.0),
    ]
    first, second = latencies(events)
    assert first == pytest.approx({"endpoint": 0.6, "llm": 0.3, "tts": 0.1, "answer": 1.1, "barge-in": 0.25})
    assert second == {"endpoint": 0.6}


def test_latency_table_lists_measured_latencies() -> None:
    """The latency table has a line for each latency that was measured."""
    turns = [{"endpoint": 0.5, "answer": 1.0}, {"endpoint": 0.7}, {}]
    assert latency_table(turns).splitlines() == [
        "latency, ms                           n     p50     p95     max",
        "last voice to end of utterance        2     600     690     700",
        "last voice to answer audible          1    1000    1000    1000",
    ]


# Was it too busy? -----------------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("lag", "share", "crowding", "trusted"),
    [
        (0.049, 0.84, 0.19, True),
        (0.05, 0.1, 0.1, False),
        (0.01, 0.85, 0.1, False),
        (0.01, 0.1, 0.2, False),
    ],
)
def test_overload_makes_latencies_untrusted(lag: float, share: float, crowding: float, trusted: bool) -> None:
    """The report does not trust latencies when the event loop lags or the cores are too busy."""
    assert (verdict(lag, share, crowding) == "") is trusted


def test_verdict_names_the_causes_of_overload() -> None:
    """The verdict says how late the event loop was, how busy the cores were and how long the program waited."""
    assert verdict(0.12, 0.9, 1.5) == (
        "This machine was busy, so these latencies are too long: on an idle one the agent answers faster "
        "(event loop late by 120 ms at p99, 90% of the cores used by this program, which waited 1.50 s for a core for "
        "each second on one)."
    )


async def test_blocked_event_loop_is_noticed(mock_clock: MockClock) -> None:
    """The load monitor notices an event loop that is held up."""
    busy = LoadMonitor()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(busy.watch)
        for _ in range(3):
            await trio.testing.wait_all_tasks_blocked()
            mock_clock.jump(0.2)  # and only then the loop runs again
        await trio.testing.wait_all_tasks_blocked()
        nursery.cancel_scope.cancel()
    assert "event loop late by 150 ms at p99" in busy.verdict()


@pytest.mark.parametrize(("waited", "words"), [(900, "waited 0.80 s for a core for each second on one"), (200, "")])
async def test_cpu_wait_is_counted_per_second(
    waited: int, words: str, tmp_path: Path, autojump_clock: MockClock
) -> None:
    """The verdict counts the CPU wait of all threads since the watch began, those that have ended included."""

    def thread(number: int, schedule: str) -> None:
        (tmp_path / str(number)).mkdir(exist_ok=True)
        (tmp_path / str(number) / "schedstat").write_text(schedule)

    thread(1, "5000 100 7")
    (tmp_path / "2").mkdir()  # has just ended: nothing to read
    busy = LoadMonitor(tmp_path)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(busy.watch)
        await trio.sleep(0.06)
        thread(1, f"5500 {waited} 9")
        thread(3, "500 0 1")
        await trio.sleep(0.1)
        shutil.rmtree(tmp_path / "3")
        await trio.sleep(0.1)
        nursery.cancel_scope.cancel()
    assert words in busy.verdict()
    assert bool(busy.verdict()) == bool(words)
