"""Callbacks: in order, one at a time, bounded after the call, and never able to hurt it."""

import logging
import threading
from typing import Any

import pytest
import trio
import trio.testing

from patter_trio.events.callbacks import MAX_QUEUED_EDGES, MAX_QUEUED_EVENTS, CallbackQueue, open_callbacks
from patter_trio.events.payloads import ConversationStateSnapshot, seen_state
from patter_trio.user_code.invoke import in_thread

STATE = ConversationStateSnapshot(user="speaking", agent="idle")


async def never_returns(_: dict[str, Any]) -> None:
    await trio.sleep_forever()


async def call_with(callbacks: dict[str, Any], reported: list[tuple[str, dict[str, Any]]]) -> None:
    """Run a call that reports these events at once and ends; return when its observers have finished."""
    async with (
        trio.open_nursery() as nursery,
        open_callbacks(nursery, CallbackQueue("CA1", callbacks.get)) as callback_queue,
    ):
        for name, payload in reported:
            callback_queue.put(name, payload, STATE)
        await trio.sleep(1)
        callback_queue.end({"call_id": "CA1"}, STATE, cancelled=False)


async def test_callbacks_run_in_order_with_event_state(autojump_clock: trio.testing.MockClock) -> None:
    """Callbacks run in the order of their events, each with the conversation state of its event."""
    seen: list[Any] = []

    async def started(event: dict[str, Any]) -> None:
        await trio.sleep(0.3)
        seen.append(("started", event["n"], seen_state.get()))

    callbacks = {
        "on_user_speech_started": started,
        "on_transcript": lambda event: seen.append(("transcript", event["n"])),
        "on_call_end": lambda _: seen.append("end"),
    }
    await call_with(callbacks, [("user_speech_started", {"n": 1}), ("transcript", {"n": 2})])
    assert seen == [("started", 1, STATE), ("transcript", 2), "end"]


async def test_a_payload_is_the_callbacks_own(autojump_clock: trio.testing.MockClock) -> None:
    """A callback that changes its payload changes no history of the call."""
    history = [{"role": "user", "text": "hi"}]

    def spoil(event: dict[str, Any]) -> None:
        event["history"][0]["text"] = "spoiled"

    await call_with({"on_transcript": spoil}, [("transcript", {"history": history})])
    assert history == [{"role": "user", "text": "hi"}]


async def test_raising_callback_is_reported_and_next_one_runs(
    autojump_clock: trio.testing.MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    """A raising callback is logged as a warning with its error, and the next callback runs."""
    ended: list[Any] = []

    async def broken(_: dict[str, Any]) -> None:
        raise ValueError("no such customer")

    await call_with({"on_audio_out": broken, "on_call_end": ended.append}, [("audio_out", {})])
    assert ended == [{"call_id": "CA1"}]
    (record,) = [r for r in caplog.records if r.name == "patter_trio.events"]
    assert record.levelno == logging.WARNING
    assert "patter.event.tts_first_audio" in record.message
    assert "no such customer" in record.message
    assert record.exc_info is not None


async def test_edges_get_two_seconds_after_call_end(
    autojump_clock: trio.testing.MockClock,
) -> None:
    """Edge callbacks get two seconds after the call, and then on_call_end runs."""
    ended: list[float] = []
    callbacks = {
        "on_llm_token": never_returns,
        "on_call_end": lambda _: ended.append(trio.current_time()),
    }
    await call_with(callbacks, [("llm_token", {}), ("llm_token", {})])
    assert ended == [3.0]


async def test_a_slow_end_has_thirty_seconds(autojump_clock: trio.testing.MockClock) -> None:
    """An on_call_end that takes 25 s runs to its end."""
    through: list[float] = []

    async def slow(_: dict[str, Any]) -> None:
        await trio.sleep(25)
        through.append(trio.current_time())

    await call_with({"on_call_end": slow}, [])
    assert through == [26.0]


async def test_hanging_transcript_callback_still_allows_call_end(
    autojump_clock: trio.testing.MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    """An on_transcript that never returns is cancelled at its deadline, and on_call_end still runs."""
    ended: list[float] = []
    callbacks = {
        "on_transcript": never_returns,
        "on_call_end": lambda _: ended.append(trio.current_time()),
    }
    await call_with(callbacks, [("transcript", {})])
    assert ended == [1 + 2 + 15]
    assert "on_transcript was cancelled" in caplog.text


async def test_edge_overflow_drops_oldest_with_one_warning(
    autojump_clock: trio.testing.MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    """A full edge queue drops the oldest edges with one warning and keeps the transcript."""
    seen: list[Any] = []
    callbacks = {
        "on_llm_token": lambda event: seen.append(event["n"]),
        "on_transcript": lambda event: seen.append(event["text"]),
    }
    edges = [("llm_token", {"n": n}) for n in range(MAX_QUEUED_EDGES + 10)]
    await call_with(callbacks, [("transcript", {"text": "kept"}), *edges])
    assert seen == ["kept", *range(10, MAX_QUEUED_EDGES + 10)]
    assert caplog.text.count("speech edges are being dropped") == 1


@pytest.mark.costly
async def test_full_queue_still_delivers_on_call_end(autojump_clock: trio.testing.MockClock) -> None:
    """The queue delivers on_call_end even when it is full of other events."""
    ended: list[Any] = []
    callbacks = {"on_dtmf": never_returns, "on_call_end": ended.append}
    async with (
        trio.open_nursery() as nursery,
        open_callbacks(nursery, CallbackQueue("CA1", callbacks.get)) as callback_queue,
    ):
        callback_queue.put("dtmf", {"digit": "1"}, STATE)
        await trio.sleep(1)
        for _ in range(MAX_QUEUED_EVENTS + 10):
            callback_queue.put("dtmf", {"digit": "2"}, STATE)
        callback_queue.end({"call_id": "CA1"}, STATE, cancelled=False)
    assert callback_queue.lost == 10
    assert ended == [{"call_id": "CA1"}]


async def test_cancelled_server_gives_on_call_end_five_seconds(
    autojump_clock: trio.testing.MockClock,
) -> None:
    """A cancelled server still calls on_call_end and gives it five more seconds."""
    times: list[tuple[str, float]] = []

    async def slow(_: dict[str, Any]) -> None:
        times.append(("called", trio.current_time()))
        try:
            await trio.sleep_forever()
        finally:
            times.append(("cancelled", trio.current_time()))

    callbacks = {"on_call_end": slow}
    with trio.move_on_after(1):
        async with (
            trio.open_nursery() as nursery,
            open_callbacks(nursery, CallbackQueue("CA1", callbacks.get)) as callback_queue,
        ):
            try:
                await trio.sleep_forever()
            finally:
                callback_queue.end({}, STATE, cancelled=True)
    assert times == [("called", 1.0), ("cancelled", 8.0)]


async def test_events_without_callback_are_dropped(autojump_clock: trio.testing.MockClock) -> None:
    """Events without a callback are dropped at once and without an error."""
    await call_with({}, [("user_speech_started", {}), ("transcript", {})])
    assert trio.current_time() == 1.0


async def test_in_thread_runs_plain_function_off_main_thread(autojump_clock: trio.testing.MockClock) -> None:
    """The in_thread wrapper runs a plain callback function outside the main thread."""
    threads: list[bool] = []

    def slow(event: dict[str, Any]) -> None:
        threads.append(threading.current_thread() is threading.main_thread())
        assert event == {"call_id": "CA1"}

    await call_with({"on_call_end": in_thread(slow)}, [])
    assert threads == [False]
