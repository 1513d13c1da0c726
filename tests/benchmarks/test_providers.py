"""The benchmark of providers, for a moment: both loops get what the vendor sends, the table is made.

No times are judged.
"""

from typing import Any

import pytest
import trio
from trio.testing import MockClock

from benchmarks.providers import PAIRS, compared, main, markdown, use
from benchmarks.servers.vendors import DIGITS, in_json_audio, in_speech, in_text, listen


@pytest.mark.parametrize(("pair", "loop"), [(name, loop) for name, pair in PAIRS.items() for loop in pair.loops])
async def test_every_loop_gets_what_its_vendor_sends(autojump_clock: MockClock, pair: str, loop: str) -> None:
    """Each loop receives at least all items that its vendor sends in 4 s to two sessions, and times them."""
    async with trio.open_nursery() as nursery:
        ports = await listen(nursery)
        result = await use(PAIRS[pair].loops[loop], ports[PAIRS[pair].port], 2, 4.0, warming=1.0)
        nursery.cancel_scope.cancel()
    rate = {"stt": 50, "llm": 45, "tts": 15, "tts-http": 15}[pair]
    assert result["items"] >= 2 * rate * 4
    assert len(result["late_us"]) >= {"stt": 2 * 4 * 4, "pace": 0}.get(
        loop if loop == "pace" else pair, result["items"]
    )
    assert all(0 <= late < 10e6 for late in result["late_us"])


@pytest.mark.deep
def test_loop_measurement_runs_in_separate_process(capsys: pytest.CaptureFixture[str]) -> None:
    """The benchmark measures a loop in a separate process and reports the result."""
    main(
        ["--providers", "llm", "--seconds", "0.3", "--warming", "0.2", "--rounds", "1", "--sessions", "2", "--unpinned"]
    )
    head, _, line = capsys.readouterr().out.strip().splitlines()
    assert head.count("|") == line.count("|") == 9
    assert line.startswith("| `OpenAILLM` | token | ")


def result(loop: str, number: int, cost: float, *late: int) -> dict[str, Any]:
    return {"pair": "stt", "loop": loop, "round": number, "cpu_us": cost, "late_us": list(late), "stolen": 0.0}


def test_ratios_are_per_round_and_exclude_pacing() -> None:
    """The benchmark computes ratios within each round and subtracts the cost of pacing."""
    [row] = compared(
        [
            result("pace", 0, 10), result("raw", 0, 20, 100), result("ours", 0, 30, 200),
            result("pace", 1, 20), result("raw", 1, 60, 100), result("ours", 1, 80, 300),
            result("pace", 2, 30), result("raw", 2, 50, 100), result("ours", 2, 130, 400),
        ]
    )  # fmt: skip
    assert (row["ratio"], row["ratios"]) == (2.0, [1.5, 5.0])
    assert (row["ours"]["cpu_us"], row["raw"]["cpu_us"]) == (60, 20)
    assert row["ours"]["late_us"][0] == 300
    assert "| 60 | 20 | 2.00 (1.50 to 5.00) |" in markdown([row])


def test_timestamp_fills_unread_bytes_and_preserves_length() -> None:
    """The benchmark writes its timestamp into bytes that no parser reads and keeps every message length."""
    at = b"0" * DIGITS
    assert in_text(b'{"content": " 999999999999"}', at) == b'{"content": " 000000000000"}'
    message = b'..{"audio": "' + b"A" * 32 + b'", "alignment": null}'
    stamped = in_json_audio(message, at)
    assert len(stamped) == len(message)
    assert b'"MDAwMDAwMDAwMDAwAAAA' in stamped
    assert in_speech(message, at) == stamped
    assert in_speech(b"14\r\n" + b"A" * 20 + b"\r\n", at) == b"14\r\n" + at + b"A" * 8 + b"\r\n"
    head = b"HTTP/1.1 200 Status\r\nContent-Type: audio/basic\r\n\r\n"
    assert in_speech(head, at) == head
