"""The rule by which sessions reopen a lost connection."""

import logging

import pytest
import trio
from hypothesis import given
from hypothesis import strategies as st
from trio.testing import MockClock

from patter_trio.errors import ProviderError
from patter_trio.providers.outage import ATTEMPT_TIMEOUT_S, OUTAGE_TIMEOUT_S, RETRY_PAUSES_S, Outage

GONE = ProviderError("it closed the connection")


def outage() -> Outage:
    return Outage("Acme", "CA1", logging.getLogger("patter_trio.stt"))


async def test_outage_pauses_grow_to_one_second(autojump_clock: MockClock) -> None:
    """The first attempt comes at once, the pauses grow to 1 s, and the attempts end within 10 s."""
    acme, began, pauses = outage(), trio.current_time(), list[float]()

    async def attempts() -> None:
        while True:
            pauses.append(acme.lost(GONE))
            await trio.sleep(pauses[-1])

    with pytest.raises(ProviderError, match="Acme did not work for 10 s: it closed the connection"):
        await attempts()
    assert pauses == [*RETRY_PAUSES_S, *[RETRY_PAUSES_S[-1]] * 8]
    assert trio.current_time() < began + OUTAGE_TIMEOUT_S <= trio.current_time() + RETRY_PAUSES_S[-1]


async def test_outage_end_restarts_the_rule(autojump_clock: MockClock) -> None:
    """After the end of an outage the next loss begins another one, with all its time."""
    acme = outage()
    acme.lost(GONE)
    await trio.sleep(9.0)
    acme.worked()
    assert acme.lost(GONE) == 0.0
    await trio.sleep(9.0)
    assert acme.lost(GONE) == RETRY_PAUSES_S[1]


async def test_outage_is_warned_about_once(autojump_clock: MockClock, caplog: pytest.LogCaptureFixture) -> None:
    """The log has one warning for an outage, a line for each further attempt, and one for its end.

    A vendor that works has none.
    """
    acme = outage()
    with caplog.at_level(logging.INFO, "patter_trio.stt"):
        acme.worked()
        acme.lost(GONE)
        await trio.sleep(1.5)
        acme.lost(GONE)
        acme.worked()
    line = "call CA1: Acme is gone, trying again: it closed the connection"
    assert [(record.levelname, record.getMessage()) for record in caplog.records] == [
        ("WARNING", line),
        ("INFO", line),
        ("INFO", "call CA1: Acme works again after 1.5 s"),
    ]


@given(st.lists(st.floats(0, 5), max_size=30))
def test_attempts_end_within_the_outage(durations: list[float]) -> None:
    """No attempt may last longer than the outage, whatever the attempts before it took."""

    async def attempts() -> None:
        acme, began = outage(), trio.current_time()
        for duration in durations:
            try:
                pause = acme.lost(GONE)
            except ProviderError:
                return
            await trio.sleep(pause)
            timeout = acme.attempt_timeout()
            assert 0 < timeout <= ATTEMPT_TIMEOUT_S
            assert trio.current_time() + timeout <= began + OUTAGE_TIMEOUT_S + 1e-9
            await trio.sleep(min(duration, timeout))

    trio.run(attempts, clock=MockClock(autojump_threshold=0))
